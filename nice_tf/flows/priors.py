"""Factorised priors of the latent code z (Dinh et al. 2014, section 3.4)."""

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from nice_tf.bijectors.parameters import check_event_size
from nice_tf.choices import PRIORS
from nice_tf.errors import UserError, check_at_least, check_choice

tfd = tfp.distributions

# Of a component of a mixture: on a value that the data repeat its density would grow for ever.
MIN_COMPONENT_SCALE = 1e-3

_LOGISTIC_DEVIATION = np.pi / np.sqrt(3)
_POINTS_IN_CELL = 1000


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


def logistic_mixture_prior(
    event_size: int, *, num_components: int = 8, dtype: tf.DType = tf.float32
) -> tfd.Distribution:
    """Independent coordinates, each with a density of K logistics, all trained.

        p(z) = prod_d sum_k w_dk logistic((z_d - loc_dk) / scale_dk) / scale_dk
        w_d = softmax(logits_d),   scale = 0.001 + exp(log_scale)

    It starts close to `logistic_prior`: the Kullback-Leibler divergence between them is 0.0012 nats
    a coordinate with 8 components, and at most 0.006 with any number. Samples carry no gradient to
    the variables.

    Args:
      event_size: D, at least 1.
      num_components: K, at least 2.
      dtype: of z and of the variables `logits`, `loc` and `log_scale`, each `[D, K]`.

    Returns:
      A distribution of event shape `[D]`.

    Raises:
      UserError: `event_size` below 1, or `num_components` below 2.
    """
    check_event_size(event_size)
    check_at_least("num_components", num_components, 2)
    weights, locations, scale = _near_logistic(num_components)
    log_scales = np.full(num_components, np.log(scale - MIN_COMPONENT_SCALE))
    logits = _same_for_each(np.log(weights), event_size, dtype, "logits")
    loc = _same_for_each(locations, event_size, dtype, "loc")
    log_scale = _same_for_each(log_scales, event_size, dtype, "log_scale")
    # No maximum as floor: it would leave a component that once reached it without a gradient.
    scale = tfp.util.DeferredTensor(
        log_scale, lambda value: MIN_COMPONENT_SCALE + tf.exp(value), name="scale"
    )
    return tfd.Independent(
        tfd.MixtureSameFamily(tfd.Categorical(logits=logits), tfd.Logistic(loc, scale)),
        reinterpreted_batch_ndims=1,
        name="logistic_mixture_prior",
    )


def _same_for_each(values, event_size, dtype, name):
    return tf.Variable(tf.constant(np.tile(values, [event_size, 1]), dtype), name=name)


def _near_logistic(num_components):
    """Weights, `[K]`, locations, `[K]`, and the one scale of a mixture near the unit logistic.

    A unit logistic is that of a scale s < 1 plus an independent a of density

        g(a) = sin(pi s) / (2 pi s (cosh(a) + cos(pi s))),

    because the Fourier transform of g is that of the one, pi t / sinh(pi t), divided by that of the
    other, pi s t / sinh(pi s t). Here g is cut into K cells; each becomes a component, at the
    cell's mean and with its mass. The edges are quantiles of a wider density than g, so that the
    outer components carry little mass and cover the tails. With fewer components s is nearer to 1:
    they stand further apart and must overlap.
    """
    scale = 0.5 + 0.8 / num_components
    quarter = np.tan(np.pi * scale / 2)
    share = np.arange(1, num_components) / num_components
    edges = 2 * np.log(share / (1 - share))
    below = 0.5 + np.arctan(quarter * np.tanh(edges / 2)) / (np.pi * scale)
    below = np.concatenate([[0.0], below, [1.0]])
    weights = np.diff(below)
    inside = (np.arange(_POINTS_IN_CELL) + 0.5) / _POINTS_IN_CELL
    probabilities = below[:-1, np.newaxis] + weights[:, np.newaxis] * inside
    quantiles = 2 * np.arctanh(np.tan(np.pi * scale * (probabilities - 0.5)) / quarter)
    return weights, quantiles.mean(axis=1), scale


def make_prior(
    kind: str,
    event_size: int,
    *,
    trainable_scale: bool = False,
    min_scale: float = 0.0,
    num_components: int = 8,
    dtype: tf.DType = tf.float32,
) -> tfd.Distribution:
    """The prior of that name in `PRIORS`.

    Args:
      kind: the name.
      event_size: as for `logistic_prior`.
      trainable_scale: as for `logistic_prior`; not for `"logistic_mixture"`.
      min_scale: as for `logistic_prior`; without effect on `"logistic_mixture"`.
      num_components: as for `logistic_mixture_prior`; without effect on the others.
      dtype: of z.

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
        return logistic_mixture_prior(event_size, num_components=num_components, dtype=dtype)
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
    if _is_mixture(prior):
        return tf.constant(_LOGISTIC_DEVIATION, prior.dtype)
    one = tf.ones([], prior.dtype)
    family = type(prior.distribution)
    return family(loc=0 * one, scale=one).stddev()


def relative_deviation(prior: tfd.Distribution) -> tf.Tensor:
    """How many `unit_deviation`s each coordinate deviates, `[D]`: the scale, where it has one.

    Args:
      prior: of `make_prior`.
    """
    if _is_mixture(prior):
        return prior.stddev() / unit_deviation(prior)
    return tf.convert_to_tensor(prior.distribution.scale)


def num_uniforms(prior: tfd.Distribution) -> int:
    """How many uniform numbers `codes_from_uniforms` makes a code of: D, for a mixture 2 D."""
    size = prior.event_shape[0]
    if _is_mixture(prior):
        return 2 * size
    return size


def codes_from_uniforms(prior: tfd.Distribution, u: tf.Tensor) -> tf.Tensor:
    """Draws of the prior, each a function of its own uniform numbers alone.

    A coordinate is the quantile of one number; in a mixture a first one chooses the component.

    Args:
      prior: of `make_prior`.
      u: in (0, 1), `[N, num_uniforms(prior)]`, of the prior's dtype.

    Returns:
      z, `[N, D]`.
    """
    if not _is_mixture(prior):
        return prior.distribution.quantile(u)
    choice, within = tf.split(u, 2, axis=-1)
    weights = tf.nn.softmax(prior.distribution.mixture_distribution.logits)
    edges = tf.cumsum(weights, axis=-1)[:, :-1]
    is_above = choice[..., tf.newaxis] >= edges
    component = tf.reduce_sum(tf.cast(is_above, tf.int32), axis=-1)
    num_components = weights.shape[-1]
    place = component + num_components * tf.range(weights.shape[0])
    logistics = prior.distribution.components_distribution
    loc = tf.gather(tf.reshape(logistics.loc, [-1]), place)
    scale = tf.gather(tf.reshape(logistics.scale, [-1]), place)
    return tfd.Logistic(loc, scale).quantile(within)


def _is_mixture(prior):
    return isinstance(prior.distribution, tfd.MixtureSameFamily)
