"""How many of the validation examples have a lower score."""

import numpy as np
import tensorflow as tf

from nice_tf.serving.checks import sorted_log_probs
from nice_tf.serving.graph import in_blocks, num_below


class Tails(tf.Module):
    """Tail probabilities of a score: the share of validation examples of a lower one.

    A signature calls it, and a SavedModel keeps it.
    """

    def __init__(self, scores: np.ndarray | None, dtype: tf.DType, *, name: str):
        """Keeps the scores.

        Args:
          scores: of validation examples, `[N]`, in any order.
          dtype: in which they are compared.
          name: of the argument that they came by, for the message.

        Raises:
          UserError: none, another shape, or values that are not finite.
        """
        super().__init__(name=name)
        usual = sorted_log_probs(scores, name)
        self._number = len(usual)
        self._usual = tf.Variable(in_blocks(usual), trainable=False, dtype=dtype)

    def __call__(self, scores: tf.Tensor) -> tf.Tensor:
        """The share of validation examples of a lower score, float32 `[B]` to `[B]`."""
        lower = num_below(self._usual, tf.cast(scores, self._usual.dtype))
        return tf.cast(lower, tf.float32) / self._number
