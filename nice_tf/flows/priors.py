"""Priors of the latent code z (Dinh et al. 2014, section 3.4)."""

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from nice_tf.bijectors.parameters import check_event_size
from nice_tf.choices import PRIORS
from nice_tf.errors import UserError, check_at_least, check_choice
from nice_tf.flows import kinds, mixtures
from nice_tf.flows.logistic import Logistic

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
    return _independent(Logistic, event_size, trainable_scale, min_scale, dtype, "logistic_prior")


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


def own_or_named(prior: str | tfd.Distribution, event_size: int) -> tfd.Distribution:
    """A prior of the user's own, checked; or the one of this name, of unit scale in float32.

    Raises:
      UserError: an unknown name, what is no distribution, or one of another event shape, with a
        batch shape, or of a dtype that is not taken.
    """
    if isinstance(prior, str):
        return make_prior(prior, event_size)
    if not isinstance(prior, tfd.Distribution):
        raise UserError(
            f"prior must be one of {', '.join(PRIORS)}, or a tfd.Distribution, got {prior!r}"
        )
    event_shape = prior.event_shape
    if not isinstance(event_shape, tf.TensorShape) or event_shape != [event_size]:
        raise UserError(
            f"prior {prior.name} has event shape {event_shape}: [{event_size}] is needed, one "
            "value for each value of an example (tfd.Independent or tfd.Sample make it of a scalar "
            "one)"
        )
    if prior.batch_shape != []:
        raise UserError(
            f"prior {prior.name} has batch shape {prior.batch_shape}: one distribution is needed, "
            "of batch shape []"
        )
    check_dtype(f"dtype of prior {prior.name}", prior.dtype)
    return prior


def check_dtype(name: str, dtype: tf.DType) -> None:
    """Checks that a flow can be of a dtype: TFP draws no logistic numbers in bfloat16.

    Raises:
      UserError: it cannot.
    """
    if tf.as_dtype(dtype) not in (tf.float16, tf.float32, tf.float64):
        raise UserError(
            f"{name} must be float16, float32 or float64, got {tf.as_dtype(dtype).name}: "
            "compute_dtype makes the products of the networks alone in bfloat16"
        )


def make_prior(
    kind: str | tfd.Distribution,
    event_size: int,
    *,
    trainable_scale: bool = False,
    min_scale: float = 0.0,
    num_components: int = 8,
    num_clusters: int = 1,
    groups: np.ndarray | None = None,
    dtype: tf.DType = tf.float32,
    seed: int = 0,
) -> tfd.Distribution:
    """The prior of that name in `PRIORS`, `"normal"` standing for `"gaussian"`; or the user's own.

    Args:
      kind: the name; or a distribution, to which of the others only `event_size` and `dtype`
        matter.
      event_size: as for `logistic_prior`.
      trainable_scale: as for `logistic_prior`; not for `"logistic_mixture"`.
      min_scale: as for `logistic_prior`; without effect on `"logistic_mixture"`.
      num_components: as for `logistic_mixture_prior`; without effect on the others.
      num_clusters: likewise.
      groups: likewise.
      dtype: of z.
      seed: as for `logistic_mixture_prior`.

    Returns:
      A distribution of event shape `[D]`.

    Raises:
      UserError: an unknown name, a trainable scale of a mixture or of a prior of the user's own, or
        one of those that does not fit; and as the priors say.
    """
    if not isinstance(kind, str):
        prior = own_or_named(kind, event_size)
        if trainable_scale:
            raise UserError(
                f"scaling must be layer or none with prior {prior.name}, got prior: a distribution "
                "of your own has the scale that you gave it"
            )
        if prior.dtype != dtype:
            raise UserError(
                f"prior {prior.name} is of {prior.dtype.name}, the flow of "
                f"{tf.as_dtype(dtype).name}: both must be of one dtype"
            )
        return prior
    if kind == "normal":
        kind = "gaussian"
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
            groups=groups,
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


def is_location_scale(prior: tfd.Distribution, family: type[tfd.Distribution]) -> bool:
    """Whether the coordinates of a prior are independent and of this family, e.g. `tfd.Normal`."""
    if not isinstance(prior, kinds.Independent | kinds.Sample):
        return False
    return isinstance(prior.distribution, family)


def starts_at(prior: tfd.Distribution, family: str) -> bool:
    """Whether a prior is what marginals of this family make of the data, to start with.

    Args:
      prior: of a flow.
      family: of `QuantileTransform`.
    """
    if mixtures.is_mixture(prior):
        return family == "logistic" and mixtures.is_near_logistic(prior)
    if not is_location_scale(prior, {"logistic": tfd.Logistic, "normal": tfd.Normal}[family]):
        return False
    each = prior.distribution
    return bool(np.all(np.equal(each.loc, 0)) and np.all(np.equal(each.scale, 1)))


def deviation(prior: tfd.Distribution) -> tf.Tensor:
    """The standard deviation of each coordinate, `[D]`.

    Raises:
      UserError: it has none, or none that is finite (where its value is known before the run).
    """
    try:
        stddev = prior.stddev()
    except NotImplementedError:
        stddev = None
    is_known = stddev is not None and tf.executing_eagerly()
    if stddev is None or (is_known and not np.all((0 < stddev) & np.isfinite(stddev))):
        raise UserError(
            f"prior {prior.name} has no finite standard deviation, from which the scales are "
            "taken: a prior with a stddev() is needed"
        )
    return tf.broadcast_to(stddev, prior.event_shape)


def unit_deviation(prior: tfd.Distribution) -> tf.Tensor:
    """The standard deviation of a coordinate of scale 1; of a mixture that of the unit logistic, of
    what is no logistic 1.

    Args:
      prior: of a flow.
    """
    if mixtures.is_mixture(prior) or is_location_scale(prior, tfd.Logistic):
        return tf.constant(_LOGISTIC_DEVIATION, prior.dtype)
    return tf.ones([], prior.dtype)


def relative_deviation(prior: tfd.Distribution) -> tf.Tensor:
    """How many `unit_deviation`s each coordinate deviates, `[D]`: the scale of a logistic or a
    Gaussian.

    Args:
      prior: of a flow.

    Raises:
      UserError: as `deviation` says.
    """
    if is_location_scale(prior, tfd.Logistic) or is_location_scale(prior, tfd.Normal):
        return tf.broadcast_to(tf.convert_to_tensor(prior.distribution.scale), prior.event_shape)
    return deviation(prior) / unit_deviation(prior)


def covariance(prior: tfd.Distribution) -> tf.Tensor | None:
    """The covariance of a prior of the user's own, `[D, D]`; `None` where its coordinates are
    uncorrelated, or it tells none.

    Args:
      prior: of a flow.

    Raises:
      UserError: it is not positive definite (where its value is known before the run).
    """
    independent = kinds.Independent | kinds.Sample | tfd.MultivariateNormalDiag
    if mixtures.is_mixture(prior) or isinstance(prior, independent):
        return None
    try:
        found = prior.covariance()
    except NotImplementedError:
        return None
    if not tf.executing_eagerly():
        return found
    if np.allclose(found, np.diag(np.diag(found)), rtol=0, atol=0):
        return None
    if not np.all(np.linalg.eigvalsh(found) > 0):
        raise UserError(
            f"prior {prior.name} has a covariance that is not positive definite: one that is, is "
            "needed"
        )
    return found


def trained_scale(prior: tfd.Distribution) -> tfp.util.DeferredTensor | None:
    """The one scale of each coordinate, where it is trained; a mixture has none, and that of a
    prior of the user's own is left to the user.

    Args:
      prior: of a flow.
    """
    if prior.name not in ("logistic_prior", "gaussian_prior"):
        return None
    scale = prior.distribution.scale
    if not isinstance(scale, tfp.util.DeferredTensor):
        return None
    return scale


def num_uniforms(prior: tfd.Distribution) -> int:
    """How many uniform numbers `codes_from_uniforms` makes a code of: D, for a mixture more."""
    if mixtures.is_mixture(prior):
        return mixtures.num_uniforms(prior)
    if isinstance(prior, kinds.TransformedDistribution) and prior.distribution.event_shape.rank:
        return num_uniforms(prior.distribution)
    return prior.event_shape[0]


def check_quantile(prior: tfd.Distribution) -> None:
    """Checks that `codes_from_uniforms` can draw from a prior.

    Raises:
      UserError: it cannot.
    """
    u = tf.fill([1, num_uniforms(prior)], tf.constant(0.5, prior.dtype))
    try:
        codes_from_uniforms(prior, u)
    except NotImplementedError as error:
        raise UserError(
            f"prior {prior.name} has no quantile, of which samples are made: independent "
            "coordinates with a quantile are needed (tfd.Independent or tfd.Sample of them), or a "
            "bijector of such"
        ) from error


def codes_from_uniforms(prior: tfd.Distribution, u: tf.Tensor) -> tf.Tensor:
    """Draws of the prior, each a function of its own uniform numbers alone.

    A coordinate is the quantile of one number; of a mixture as `mixtures.codes_from_uniforms` says.

    Args:
      prior: of a flow; independent coordinates with a quantile, or a bijector of such, as a
        multivariate normal distribution is.
      u: in (0, 1), `[N, num_uniforms(prior)]`, of the prior's dtype.

    Returns:
      z, `[N, D]`.

    Raises:
      NotImplementedError: another prior.
    """
    if mixtures.is_mixture(prior):
        return mixtures.codes_from_uniforms(prior, u)
    if isinstance(prior, kinds.Independent | kinds.Sample):
        return prior.distribution.quantile(u)
    if isinstance(prior, kinds.TransformedDistribution):
        return prior.bijector.forward(codes_from_uniforms(prior.distribution, u))
    raise NotImplementedError(f"no quantile of {prior.name}")
