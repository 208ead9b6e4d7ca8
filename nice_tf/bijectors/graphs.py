"""What is the same in many graphs, traced once."""

import functools
from collections.abc import Callable
from typing import Any

import tensorflow as tf


def shared_by_graphs(function: Callable[..., Any]) -> Callable[..., Any]:
    """The same function of nests of tensors and of Python objects; inside a graph it is one call.

    Couplings, directions and flows of equal shapes then call the same graph, instead of hundreds of
    operations of each one's own, which Python makes one by one. TensorFlow inlines the calls before
    it runs anything.
    """
    graphs = tf.function(function, autograph=False)

    @functools.wraps(function)
    def shared(*args: Any) -> Any:
        if tf.executing_eagerly():
            return function(*args)
        args = tf.nest.map_structure(_as_tensor, args)
        # Not `graphs(*args)`, which warns where many shapes come one after the other.
        graph = graphs.get_concrete_function(*args)
        return graph(*args)

    return shared


def _as_tensor(value):
    """A variable as what it holds now; by itself each would have a graph of its own."""
    if isinstance(value, tf.Variable):
        return tf.convert_to_tensor(value)
    return value
