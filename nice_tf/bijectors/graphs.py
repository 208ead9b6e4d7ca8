"""What is the same in many graphs, traced once."""

import functools
import threading
from collections.abc import Callable
from typing import Any

import tensorflow as tf
from tensorflow.python.eager import forwardprop_util


def shared_by_graphs(function: Callable[..., Any]) -> Callable[..., Any]:
    """The same function of nests of tensors and of Python objects; inside a graph it is one call.

    Couplings, directions and flows of equal shapes then call the same graph, instead of hundreds of
    operations of each one's own, which Python makes one by one. TensorFlow inlines the calls before
    it runs anything. The graphs of a thread are kept until it ends, one for each shape.
    """
    # Of each thread: TensorFlow adds the gradient to a graph without a lock.
    kept = threading.local()

    @functools.wraps(function)
    def shared(*args: Any) -> Any:
        if tf.executing_eagerly():
            return function(*args)
        args = tf.nest.map_structure(_as_tensor, args)
        if _is_differentiated_forward(args):
            return function(*args)
        if not hasattr(kept, "graphs"):
            kept.graphs = tf.function(function, autograph=False)
        return kept.graphs(*args)

    return shared


def _as_tensor(value):
    """A variable as what it holds now; by itself each would have a graph of its own."""
    if isinstance(value, tf.Variable):
        return tf.convert_to_tensor(value)
    return value


def _is_differentiated_forward(args):
    """Whether a `tf.autodiff.ForwardAccumulator` follows one of these tensors.

    TensorFlow 2.21 fails at its derivative through a call in a graph, and only functions of its own
    tell that there is one.
    """
    tensors = [value for value in tf.nest.flatten(args) if tf.is_tensor(value)]
    return bool(forwardprop_util.pack_tangents(tensors).tangents)
