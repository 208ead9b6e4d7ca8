"""The marginals in front of a flow, and the flow cut behind them."""

import tensorflow as tf
import tensorflow_probability as tfp

from nice_tf.bijectors.diagonal import Center
from nice_tf.bijectors.marginals import QuantileTransform
from nice_tf.flows.density import as_density, layers
from nice_tf.flows.priors import make_prior

tfb = tfp.bijectors
tfd = tfp.distributions


def has_marginals(flow: tfd.TransformedDistribution) -> bool:
    """Whether the first layer, except for a reshaping, maps each coordinate to its quantiles."""
    up_to_marginals, _ = cut(flow)
    return bool(up_to_marginals)


def cut(
    flow: tfd.TransformedDistribution,
) -> tuple[tuple[tfb.Bijector, ...], tuple[tfb.Bijector, ...]]:
    """The layers in two parts, the first up to the marginals; it is empty where none stand in
    front. Behind another layer than a reshaping stand other values than those of the data.
    """
    found = layers(flow)
    for place, layer in enumerate(found):
        if isinstance(layer, QuantileTransform):
            return found[: place + 1], found[place + 1 :]
        if not isinstance(layer, tfb.Reshape):
            break
    return (), found


def marginals_alone(flow: tfd.TransformedDistribution) -> tfd.TransformedDistribution | None:
    """The density of independent coordinates that a flow's marginals describe as they were fitted,
    without couplings and scales; `None` where it has none.
    """
    up_to_marginals, _ = cut(flow)
    if not up_to_marginals:
        return None
    prior = {"logistic": "logistic", "normal": "gaussian"}[up_to_marginals[-1].family]
    latent = make_prior(prior, flow.event_shape.num_elements(), dtype=flow.dtype)
    fitted = [*up_to_marginals[:-1], up_to_marginals[-1].as_fitted()]
    return as_density(latent, fitted, f"{flow.name}_marginals")


def data_mean(flow: tfd.TransformedDistribution) -> tf.Tensor:
    """The mean that the first layer takes off, event shape: of the data once `initialize_from_data`
    set it, else 0. With marginals, which take off none, the middle of each coordinate: where z is
    0.
    """
    up_to_marginals, behind = cut(flow)
    if up_to_marginals:
        medians = up_to_marginals[-1].inverse(
            tf.zeros([flow.event_shape.num_elements()], flow.dtype)
        )
        return tf.reshape(medians, flow.event_shape)
    for layer in behind:
        if isinstance(layer, Center):
            return tf.reshape(layer.loc, flow.event_shape)
        if not isinstance(layer, tfb.Reshape):
            break
    return tf.zeros(flow.event_shape, flow.dtype)


def behind_marginals(
    flow: tfd.TransformedDistribution,
) -> tuple[tfb.Bijector, tfd.TransformedDistribution] | None:
    """A flow in two parts: the encoder x -> h up to its marginals, and the density of h `[..., D]`;
    `None` where it has none.

    The density of h is smooth, that of x has a step at every edge of a bin: whoever climbs climbs
    there.
    """
    up_to_marginals, behind = cut(flow)
    if not up_to_marginals:
        return None
    front = tfb.Chain(tuple(reversed(up_to_marginals)))
    return front, as_density(flow.distribution, behind, flow.name)


def marginal_of_h(flow: tfd.TransformedDistribution) -> tfd.Distribution:
    """What one coordinate of h of `behind_marginals` is distributed as in the examples that the
    marginals were fitted to.
    """
    up_to_marginals, _ = cut(flow)
    zero = tf.zeros([], flow.dtype)
    one = tf.ones([], flow.dtype)
    if up_to_marginals[-1].family == "logistic":
        return tfd.Logistic(zero, one)
    return tfd.Normal(zero, one)
