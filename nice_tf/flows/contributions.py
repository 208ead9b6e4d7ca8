"""What each value of an example costs it."""

import tensorflow as tf
import tensorflow_probability as tfp

tfd = tfp.distributions


def contributions(
    flow: tfd.TransformedDistribution, x: tf.Tensor, usual: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """What log p would gain if one value were the usual one of its coordinate.

    Args:
      flow: over examples of one axis.
      x: `[B, D]` in density units.
      usual: the value of each coordinate that others are compared with, `[D]`.

    Returns:
      (contribution, log_prob): nats, `[B, D]` and `[B]`. It takes D times the work of log_prob.
    """
    size = flow.event_shape.num_elements()
    is_replaced = tf.eye(size, dtype=tf.bool)
    replaced = tf.where(is_replaced, tf.cast(usual, x.dtype), x[:, tf.newaxis, :])
    log_prob = flow.log_prob(x)
    gained = tf.reshape(flow.log_prob(tf.reshape(replaced, [-1, size])), [-1, size])
    return gained - log_prob[:, tf.newaxis], log_prob
