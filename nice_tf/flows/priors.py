"""Priors of the latent code z (Dinh et al. 2014, section 3.4)."""

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from nice_tf.bijectors.parameters import check_event_size
from nice_tf.choices import PRIORS
from nice_tf.errors import UserError, check_at_least, check_choice
from nice_tf.flows import mixtures

tfd = tfp.distributions

_LOGISTIC_DEVIATION = np.pi / np.sqrt(3)


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
    num_components: int = 8,
    num_clusters: int = 1,
    dtype: tf.DType = tf.float32,
    seed: int = 0,
) -> tfd.Distribution:
    """The prior of that name in `PRIORS`.

    Args:
      kind: the name.
      event_size: as for `logistic_prior`.
      trainable_scale: as for `logistic_prior`; not for `"logistic_mixture"`.
      min_scale: as for `logistic_prior`; without effect on `"logistic_mixture"`.
      num_components: as for `logistic_mixture_prior`; without effect on the others.
      num_clusters: likewise.
      dtype: of z.
      seed: as for `logistic_mixture_prior`.

    Returns:
      A distribution of event shape `[D]`.

    Raises:
      UserError: an unknown name, or a trainable scale of a mixture; and as the priors say.
    """
    check_choice("prior", kind, PRIORS)
    if kind == "logistic_mixture":
        if trainable_scale:
            raise UserError(
                "scaling must be layer or none with prior logistic_mixture, got prior: each "
                "component has a scale of its own"
            )
        return mixtures.logistic_mixture_prior(
            event_size,
            num_components=num_components,
            num_clusters=num_clusters,
            dtype=dtype,
            seed=seed,
        )
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


def unit_deviation(prior: tfd.Distribution) -> tf.Tensor:
    """The standard deviation of a coordinate of scale 1; of a mixture that of the unit logistic.

    Args:
      prior: of `make_prior`.
    """
    if mixtures.is_mixture(prior):
        return tf.constant(_LOGISTIC_DEVIATION, prior.dtype)
    one = tf.ones([], prior.dtype)
    family = type(prior.distribution)
    return family(loc=0 * one, scale=one).stddev()


def relative_deviation(prior: tfd.Distribution) -> tf.Tensor:
    """How many `unit_deviation`s each coordinate deviates, `[D]`: the scale, where it has one.

    Args:
      prior: of `make_prior`.
    """
    if mixtures.is_mixture(prior):
        return prior.stddev() / unit_deviation(prior)
    return tf.convert_to_tensor(prior.distribution.scale)


def trained_scale(prior: tfd.Distribution) -> tfp.util.DeferredTensor | None:
    """The one scale of each coordinate, where it is trained; a mixture has none.

    Args:
      prior: of `make_prior`.
    """
    if mixtures.is_mixture(prior):
        return None
    scale = prior.distribution.scale
    if not isinstance(scale, tfp.util.DeferredTensor):
        return None
    return scale


def num_uniforms(prior: tfd.Distribution) -> int:
    """How many uniform numbers `codes_from_uniforms` makes a code of: D, for a mixture more."""
    if mixtures.is_mixture(prior):
        return mixtures.num_uniforms(prior)
    return prior.event_shape[0]


def codes_from_uniforms(prior: tfd.Distribution, u: tf.Tensor) -> tf.Tensor:
    """Draws of the prior, each a function of its own uniform numbers alone.

    A coordinate is the quantile of one number; of a mixture as `mixtures.codes_from_uniforms` says.

    Args:
      prior: of `make_prior`.
      u: in (0, 1), `[N, num_uniforms(prior)]`, of the prior's dtype.

    Returns:
      z, `[N, D]`.
    """
    if mixtures.is_mixture(prior):
        return mixtures.codes_from_uniforms(prior, u)
    return prior.distribution.quantile(u)
