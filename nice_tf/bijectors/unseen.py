"""A warning where variables are put out of sight: inside of a model of Keras 3."""

import sys
import warnings
from collections.abc import Iterable

import tensorflow as tf


def warn_of_unseen(variables: Iterable[tf.Variable]) -> None:
    """Warns where a layer or model of Keras 3 that does not have these variables is called, unless
    its `training` or its `trainable` is False.

    Keras 3 sees its own kind of variables alone: `fit` would train the others never, and say
    nothing of it as long as there are some of its own. Nothing is imported: where Keras 3 is not
    there, or keeps its call elsewhere than in the versions that were tried (3.15), nothing is said.
    """
    state = sys.modules.get("keras.src.backend.common.global_state")
    if state is None:
        return
    call = state.get_global_attribute("current_call_ctx")
    outermost = getattr(call, "entry_layer", None)
    if outermost is None or not outermost.trainable or getattr(call, "training", None) is False:
        return
    # What TensorFlow calls a variable is the value of one of Keras 3.
    seen = {id(getattr(variable, "value", variable)) for variable in outermost.variables}
    if all(id(variable) in seen for variable in variables):
        return
    warnings.warn(
        f"{type(outermost).__name__} {outermost.name}, a layer of Keras 3, does not see the "
        "variables of the flow inside of it: fit neither trains nor saves them. Use "
        "tf_keras.Model, or a loop with tf.GradientTape over flow.trainable_variables; set "
        "trainable to False where the flow is to stay as it is",
        stacklevel=2,
    )
