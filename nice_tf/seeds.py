"""Where each random number of a run comes from: stateless seeds, so that steps are replayed."""

import tensorflow as tf
import tensorflow_probability as tfp


def stateless_seed(seed: int, purpose: str, *counters: int | tf.Tensor) -> tf.Tensor:
    """The seed of one random draw.

    Args:
      seed: the run's seed, an integer.
      purpose: what the draw is for, e.g. `"train_noise"`; different purposes give independent
        draws.
      *counters: integers or integer tensors (a step, a batch number) that set this draw apart from
        its siblings.

    Returns:
      An int32 tensor of shape `[2]` for the `tf.random.stateless_*` functions.
    """
    result = tfp.random.sanitize_seed([0, seed], salt=f"nice_tf.{purpose}")
    for counter in counters:
        result = tf.random.experimental.stateless_fold_in(result, tf.cast(counter, tf.int32))
    return result
