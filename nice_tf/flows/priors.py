"""Factorised priors of the latent code z (Dinh et al. 2014, section 3.4)."""

import tensorflow as tf
import tensorflow_probability as tfp

from nice_tf.bijectors.parameters import check_event_size
from nice_tf.choices import PRIORS
from nice_tf.errors import check_at_least, check_choice

tfd = tfp.distributions


def logistic_prior(
    event_size: int,
    *,
    trainable_scale: bool = False,
    min_scale: float = 0.0,
    dtype: tf.DType = tf.float32,
) -> tfd.Distribution:
    """Independent logistic coordinates: log p(z) = sum_d -softplus(z_d) - softplus(-z_d).

    Args:
      event_size: D, at least 1.
      trainable_scale: give each coordinate a trainable scale, started at 1, instead of the fixed
        unit scale. Such a prior without a scaling layer is the same density as a unit prior after
        `DiagonalScaling`, scale_d = 1 / s_d.
      min_scale: lower bound of a trainable scale.
      dtype: of z.

    Returns:
      A distribution of event shape `[D]`.

    Raises:
      UserError: `event_size` below 1, or a negative `min_scale`.
    """
    return _independent(
        tfd.Logistic, event_size, trainable_scale, min_scale, dtype, "logistic_prior"
    )


def gaussian_prior(
    event_size: int,
    *,
    trainable_scale: bool = False,
    min_scale: float = 0.0,
    dtype: tf.DType = tf.float32,
) -> tfd.Distribution:
    """Independent standard normal coordinates; arguments, result and errors as for
    `logistic_prior`.
    """
    return _independent(tfd.Normal, event_size, trainable_scale, min_scale, dtype, "gaussian_prior")


def make_prior(
    kind: str,
    event_size: int,
    *,
    trainable_scale: bool = False,
    min_scale: float = 0.0,
    dtype: tf.DType = tf.float32,
) -> tfd.Distribution:
    """The prior of that name in `PRIORS`; the other arguments as for `logistic_prior`.

    Raises:
      UserError: an unknown name.
    """
    check_choice("prior", kind, PRIORS)
    prior = {"logistic": logistic_prior, "gaussian": gaussian_prior}[kind]
    return prior(event_size, trainable_scale=trainable_scale, min_scale=min_scale, dtype=dtype)


def _independent(family, event_size, trainable_scale, min_scale, dtype, name):
    check_event_size(event_size)
    check_at_least("min_scale", min_scale, 0)
    scale = tf.ones([event_size], dtype)
    if trainable_scale:
        log_scale = tf.Variable(tf.zeros([event_size], dtype), name="log_scale")
        lowest = tf.math.log(tf.constant(min_scale, dtype))
        scale = tfp.util.DeferredTensor(
            log_scale, lambda value: tf.exp(tf.maximum(value, lowest)), name="scale"
        )
    return tfd.Independent(
        family(loc=tf.zeros([event_size], dtype), scale=scale),
        reinterpreted_batch_ndims=1,
        name=name,
    )
