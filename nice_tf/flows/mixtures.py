"""The mixture prior: several logistics for each coordinate, perhaps in several clusters."""

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from nice_tf.bijectors.parameters import check_event_size
from nice_tf.errors import check_at_least
from nice_tf.flows import kinds
from nice_tf.seeds import stateless_seed

tfd = tfp.distributions

# Of a component: on a value that the data repeat its density would grow for ever.
MIN_COMPONENT_SCALE = 1e-3

# By how much the logits of their components start apart. Clusters that start equal stay equal.
_CLUSTER_DEVIATION = 0.5
_POINTS_IN_CELL = 1000


def logistic_mixture_prior(
    event_size: int,
    *,
    num_components: int = 8,
    num_clusters: int = 1,
    dtype: tf.DType = tf.float32,
    seed: int = 0,
) -> tfd.Distribution:
    """Coordinates of a density of K logistics each, all trained; dependent if there are J > 1
    clusters.

        p(z) = sum_j v_j prod_d sum_k w_jdk logistic((z_d - loc_jdk) / scale_jdk) / scale_jdk
        v = softmax(cluster_logits),   w_jd = softmax(logits_jd),   scale = 0.001 + exp(log_scale)

    With one cluster the coordinates are independent, as in Dinh et al. 2014, section 3.4. An
    additive coupling moves a value without changing its spread. Clusters can have spreads of their
    own, so that how far a value spreads depends on the others.

    It starts close to `logistic_prior`: with one cluster the Kullback-Leibler divergence between
    them is 0.0012 nats a coordinate with 8 components, and at most 0.006 with any number. Several
    clusters start with the same components, whose logits are moved by draws of deviation 0.5, so
    that only their weights differ. Samples carry no gradient to the variables.

    Args:
      event_size: D, at least 1.
      num_components: K, at least 2.
      num_clusters: J, at least 1.
      dtype: of z and of the variables `logits`, `loc` and `log_scale`, each `[D, K]`, or
        `[J, D, K]` with several clusters, and then `cluster_logits`, `[J]`.
      seed: of where the clusters start.

    Returns:
      A distribution of event shape `[D]`.

    Raises:
      UserError: `event_size` or `num_clusters` below 1, or `num_components` below 2.
    """
    check_event_size(event_size)
    check_at_least("num_components", num_components, 2)
    check_at_least("num_clusters", num_clusters, 1)
    name = "logistic_mixture_prior"
    weights, locations, scale = _near_logistic(num_components)
    shape = [event_size, num_components]
    start = np.broadcast_to(np.log(weights), shape)
    if num_clusters > 1:
        shape = [num_clusters, *shape]
        moves = tf.random.stateless_normal(
            shape, stateless_seed(seed, "clusters"), stddev=_CLUSTER_DEVIATION
        )
        start = np.log(weights) + tf.cast(moves, tf.float64)
    logits = _variable(start, dtype, "logits")
    loc = _variable(np.broadcast_to(locations, shape), dtype, "loc")
    log_scale = _variable(np.full(shape, np.log(scale - MIN_COMPONENT_SCALE)), dtype, "log_scale")
    # No maximum as floor: it would leave a component that once reached it without a gradient.
    scale = tfp.util.DeferredTensor(
        log_scale, lambda value: MIN_COMPONENT_SCALE + tf.exp(value), name="scale"
    )
    each = tfd.MixtureSameFamily(tfd.Categorical(logits=logits), tfd.Logistic(loc, scale))
    if num_clusters == 1:
        return tfd.Independent(each, reinterpreted_batch_ndims=1, name=name)
    cluster_logits = _variable(np.zeros(num_clusters), dtype, "cluster_logits")
    return tfd.MixtureSameFamily(
        tfd.Categorical(logits=cluster_logits),
        tfd.Independent(each, reinterpreted_batch_ndims=1),
        name=name,
    )


def _variable(start, dtype, name):
    return tf.Variable(tf.cast(start, dtype), name=name)


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


def is_mixture(prior: tfd.Distribution) -> bool:
    """Whether a prior is one of `logistic_mixture_prior`."""
    return has_clusters(prior) or _is_of_each(prior)


def has_clusters(prior: tfd.Distribution) -> bool:
    """Whether a prior is one of `logistic_mixture_prior` whose coordinates depend on each other by
    clusters.
    """
    return isinstance(prior, kinds.MixtureSameFamily) and _is_of_each(prior.components_distribution)


def _is_of_each(prior):
    """Whether each coordinate is a mixture of logistics; others are of a user's own."""
    if not isinstance(prior, kinds.Independent):
        return False
    each = prior.distribution
    if not isinstance(each, kinds.MixtureSameFamily):
        return False
    return isinstance(each.components_distribution, tfd.Logistic)


def num_uniforms(prior: tfd.Distribution) -> int:
    """How many uniform numbers `codes_from_uniforms` makes a code of: two for each coordinate, and
    one more where there are clusters.
    """
    return 2 * prior.event_shape[0] + int(has_clusters(prior))


def codes_from_uniforms(prior: tfd.Distribution, u: tf.Tensor) -> tf.Tensor:
    """Draws of a mixture, each a function of its own uniform numbers alone.

    Of a coordinate a first number chooses the component, and a second one the value in it. Where
    there are clusters, the first number of all chooses the cluster.

    Args:
      prior: of `logistic_mixture_prior`.
      u: in (0, 1), `[N, num_uniforms(prior)]`, of the prior's dtype.

    Returns:
      z, `[N, D]`.
    """
    if not has_clusters(prior):
        return _of_each_coordinate(prior, 0, u)
    edges = _edges(prior.mixture_distribution.logits)
    cluster = _place_among(edges, u[:, 0])
    return _of_each_coordinate(prior.components_distribution, cluster, u[:, 1:])


def _of_each_coordinate(independent, cluster, u):
    """Draws of the cluster of each row, `[N]`, or of the only one, 0."""
    of_component, within = tf.split(u, 2, axis=-1)
    mixture = independent.distribution
    edges = _edges(mixture.mixture_distribution.logits)
    size = edges.shape[-2]
    num_components = edges.shape[-1] + 1
    first = tf.range(size)
    if edges.shape.rank == 3:
        edges = tf.gather(edges, cluster)
        first += size * cluster[:, tf.newaxis]
    place = num_components * first + _place_among(edges, of_component)
    logistics = mixture.components_distribution
    loc = tf.gather(tf.reshape(logistics.loc, [-1]), place)
    scale = tf.gather(tf.reshape(logistics.scale, [-1]), place)
    return tfd.Logistic(loc, scale).quantile(within)


def _edges(logits):
    """Where the shares of (0, 1) of K choices meet, `[..., K - 1]`."""
    return tf.cumsum(tf.nn.softmax(logits), axis=-1)[..., :-1]


def _place_among(edges, u):
    """Which of K choices uniform numbers stand for: `[..., K - 1]` and `[...]` to integers."""
    is_above = u[..., tf.newaxis] >= edges
    return tf.reduce_sum(tf.cast(is_above, tf.int32), axis=-1)
