"""The mixture prior: several logistics for each coordinate, perhaps in several clusters."""

from collections.abc import Sequence

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from nice_tf.bijectors.parameters import check_event_size
from nice_tf.errors import UserError, check_count
from nice_tf.flows import kinds
from nice_tf.flows.logistic import Logistic
from nice_tf.seeds import stateless_seed

tfd = tfp.distributions
ParameterProperties = tfp.util.ParameterProperties

# Of a component: on a value that the data repeat its density would grow for ever.
MIN_COMPONENT_SCALE = 1e-3

# By how much the logits of the clusters start apart. Clusters that start equal stay equal.
_CLUSTER_DEVIATION = 0.5
# By how much the logit of the outermost logistic starts lower and higher in clusters of groups.
_SPREAD_OF_CLUSTERS = 3.0
_POINTS_IN_CELL = 1000


class ClusteredLogistics(tfd.Distribution):
    """Codes in J clusters; in each a coordinate is a mixture of the same K logistics, with weights
    of the cluster.

        p(z) = prod_b sum_j v_bj prod_(d in b) sum_k w_jdk logistic((z_d - loc_dk) / scale_dk)
                                                             / scale_dk
        v_b = softmax(cluster_logits_b),   w_jd = softmax(logits_jd)

    The groups b of coordinates are independent of each other; without `groups` all are in one. The
    logistics are evaluated once for all clusters, [D, K] of them per code, and mixed by a
    matrix product per coordinate. With logistics of their own for each cluster the same density
    takes ten to thirty times as long.
    """

    def __init__(
        self,
        cluster_logits: tf.Tensor,
        logits: tf.Tensor,
        loc: tf.Tensor,
        scale: tf.Tensor,
        *,
        groups: np.ndarray | None = None,
        name: str = "ClusteredLogistics",
    ):
        """Makes the distribution, of event shape `[D]`.

        Args:
          cluster_logits: `[J]`, or with B groups `[B, J]`.
          logits: `[J, D, K]`.
          loc: `[D, K]`.
          scale: above 0, `[D, K]`.
          groups: the group of each coordinate, from 0 to B - 1, `[D]`; `None` for one of all.
          name: of the distribution.
        """
        parameters = dict(locals())
        self._cluster_logits = cluster_logits
        self._groups = groups
        self._logits = logits
        self._logistics = Logistic(loc, scale)
        super().__init__(
            dtype=self._logistics.dtype,
            reparameterization_type=tfd.NOT_REPARAMETERIZED,
            validate_args=False,
            allow_nan_stats=True,
            parameters=parameters,
            name=name,
        )

    @classmethod
    def _parameter_properties(cls, dtype, num_classes=None):
        return {
            "cluster_logits": ParameterProperties(event_ndims=_ndims_of_shares),
            "logits": ParameterProperties(event_ndims=3),
            "loc": ParameterProperties(event_ndims=2),
            "scale": ParameterProperties(event_ndims=2),
        }

    @property
    def cluster_logits(self) -> tf.Tensor:
        """Of the clusters' shares, `[J]`, or with B groups `[B, J]`."""
        return self._cluster_logits

    @property
    def groups(self) -> np.ndarray | None:
        """The group of each coordinate, `[D]`; `None` where all are in one."""
        return self._groups

    @property
    def num_groups(self) -> int:
        """B, how many groups of coordinates have clusters for themselves."""
        if self._groups is None:
            return 1
        return int(np.max(self._groups)) + 1

    @property
    def logits(self) -> tf.Tensor:
        """Of the logistics' weights in each cluster, `[J, D, K]`."""
        return self._logits

    @property
    def logistics(self) -> tfd.Logistic:
        """The logistics of each coordinate, of batch shape `[D, K]`."""
        return self._logistics

    def _event_shape(self):
        return tf.TensorShape(self._logits.shape[1:2])

    def _event_shape_tensor(self):
        return tf.shape(self._logits)[1:2]

    def _default_event_space_bijector(self):
        return tfp.bijectors.Identity()

    def _log_prob(self, z):
        rows = tf.reshape(z, [-1, self.event_shape[0]])
        of_logistics = self._logistics.log_prob(rows[..., tf.newaxis])
        # Relative to the highest of a coordinate, so that the others may underflow.
        highest = tf.stop_gradient(tf.reduce_max(of_logistics, axis=-1))
        ratios = tf.exp(of_logistics - highest[..., tf.newaxis])
        # [D, N, K] times [D, K, J]: the density of each coordinate in each cluster.
        weights = tf.transpose(tf.nn.softmax(self._logits), [1, 2, 0])
        mixed = tf.matmul(tf.transpose(ratios, [1, 0, 2]), weights)
        # A weight may underflow in one cluster: without a floor its gradient would be no number.
        mixed = tf.maximum(mixed, np.finfo(self.dtype.as_numpy_dtype).tiny)
        shares = tf.nn.log_softmax(self._cluster_logits)
        if self._groups is None:
            of_clusters = tf.reduce_sum(tf.math.log(mixed), axis=0)
            log_prob = tf.reduce_logsumexp(shares + of_clusters, axis=-1)
        else:
            # [B, N, J]: in each group the sum over its coordinates.
            of_clusters = tf.math.unsorted_segment_sum(
                tf.math.log(mixed), self._groups, self.num_groups
            )
            of_groups = tf.reduce_logsumexp(shares[:, tf.newaxis] + of_clusters, axis=-1)
            log_prob = tf.reduce_sum(of_groups, axis=0)
        log_prob += tf.reduce_sum(highest, axis=-1)
        return tf.reshape(log_prob, tf.shape(z)[:-1])

    def _sample_n(self, n, seed=None):
        seed = tfp.random.sanitize_seed(seed, salt="ClusteredLogistics")
        u = tf.random.stateless_uniform([n, num_uniforms(self)], seed, dtype=self.dtype)
        return codes_from_uniforms(self, tf.maximum(u, np.finfo(self.dtype.as_numpy_dtype).tiny))

    def _mean(self):
        return self._moment(self._logistics.loc)

    def _variance(self):
        square = self._logistics.variance() + tf.square(self._logistics.loc)
        return self._moment(square) - tf.square(self._mean())

    def _moment(self, of_logistics):
        """A mean over clusters and logistics: `[D, K]` to `[D]`."""
        shares = tf.nn.softmax(self._cluster_logits)
        if self._groups is None:
            weights = tf.tensordot(shares, tf.nn.softmax(self._logits), axes=1)
        else:
            shares = tf.gather(shares, self._groups)
            weights = tf.einsum("dj,jdk->dk", shares, tf.nn.softmax(self._logits))
        return tf.reduce_sum(weights * of_logistics, axis=-1)


def _ndims_of_shares(prior):
    """How many axes the logits of the clusters' shares have."""
    if prior.groups is None:
        return 1
    return 2


def logistic_mixture_prior(
    event_size: int,
    *,
    num_components: int = 8,
    num_clusters: int = 1,
    groups: np.ndarray | None = None,
    dtype: tf.DType = tf.float32,
    seed: int = 0,
) -> tfd.Distribution:
    """Coordinates of a density of K logistics each, all trained; dependent if there are J > 1
    clusters.

        p(z) = sum_j v_j prod_d sum_k w_jdk logistic((z_d - loc_dk) / scale_dk) / scale_dk
        v = softmax(cluster_logits),   w_jd = softmax(logits_jd),   scale = 0.001 + exp(log_scale)

    With one cluster the coordinates are independent, as in Dinh et al. 2014, section 3.4. An
    additive coupling moves a value without changing its spread. Clusters weigh narrow and wide
    logistics differently, so that how far a value spreads depends on the others. With `groups` each
    group of coordinates has the sum over clusters for itself, and coordinates of the same place in
    their groups share logistics and weights: whitened pictures differ in contrast from patch to
    patch (Wainwright & Simoncelli 2000).

    It starts close to `logistic_prior`: with one cluster the Kullback-Leibler divergence between
    them is 0.0012 nats per coordinate with 8 components, and at most 0.006 with any number. In each
    of several clusters the logits are moved by draws of deviation 0.5. With groups, and 3 or more
    components, clusters also start from narrow to wide, a tenth wider than the logistic on average.
    Samples carry no gradient to the variables.

    Args:
      event_size: D, at least 1.
      num_components: K, at least 2.
      num_clusters: J, at least 1.
      groups: of several clusters, the group of each coordinate, from 0 to B - 1, `[D]`, all of one
        size; `None` for one of all. `build_flow` makes those of a picture of its `prior_patch`.
      dtype: of z and of the variables `logits`, `[D, K]`, or `[J, D, K]` with several clusters,
        `loc` and `log_scale`, each `[D, K]`, and with several clusters `cluster_logits`, `[J]`.
        With groups it is D / B instead of D, and `cluster_logits` is `[B, J]`.
      seed: of where the clusters start.

    Returns:
      A distribution of event shape `[D]`.

    Raises:
      UserError: `event_size` or `num_clusters` below 1, `num_components` below 2, or groups without
        clusters, of another length, with numbers that are left out, or of several sizes.
    """
    check_event_size(event_size)
    check_count("num_components", num_components, 2)
    check_count("num_clusters", num_clusters, 1)
    name = "logistic_mixture_prior"
    weights, locations, scale = _near_logistic(num_components)
    size_of_group = event_size
    if groups is not None:
        groups, places = _checked_groups(groups, event_size, num_clusters)
        size_of_group = int(np.max(places)) + 1
    shape = [size_of_group, num_components]
    loc = _variable(np.broadcast_to(locations, shape), dtype, "loc")
    log_scale = _variable(np.full(shape, np.log(scale - MIN_COMPONENT_SCALE)), dtype, "log_scale")
    # No maximum as floor: it would leave a component that once reached it without a gradient.
    scale = tfp.util.DeferredTensor(
        log_scale, lambda value: MIN_COMPONENT_SCALE + tf.exp(value), name="scale"
    )
    if num_clusters == 1:
        logits = _variable(np.broadcast_to(np.log(weights), shape), dtype, "logits")
        each = tfd.MixtureSameFamily(tfd.Categorical(logits=logits), Logistic(loc, scale))
        return tfd.Independent(each, reinterpreted_batch_ndims=1, name=name)
    moves = tf.random.stateless_normal(
        [num_clusters, *shape], stateless_seed(seed, "clusters"), stddev=_CLUSTER_DEVIATION
    )
    if groups is None:
        logits = _variable(np.log(weights) + tf.cast(moves, tf.float64), dtype, "logits")
        cluster_logits = _variable(np.zeros(num_clusters), dtype, "cluster_logits")
        return ClusteredLogistics(cluster_logits, logits, loc, scale, name=name)
    # From narrow to wide: by draws alone clusters of many coordinates hardly differ in spread.
    spreads = np.linspace(-_SPREAD_OF_CLUSTERS, _SPREAD_OF_CLUSTERS, num_clusters)
    distance = np.abs(locations) / np.max(np.abs(locations))
    moves = tf.cast(moves, tf.float64) + spreads[:, np.newaxis, np.newaxis] * distance
    logits = _variable(np.log(weights) + moves, dtype, "logits")
    num_groups = event_size // size_of_group
    cluster_logits = _variable(np.zeros([num_groups, num_clusters]), dtype, "cluster_logits")
    return ClusteredLogistics(
        cluster_logits,
        _at_places(logits, places, axis=1, name="logits"),
        _at_places(loc, places, axis=0, name="loc"),
        _at_places(scale, places, axis=0, name="scale"),
        groups=groups,
        name=name,
    )


def _at_places(value, places, *, axis, name):
    """What the coordinates of a like place in their groups share, for each coordinate."""
    shape = value.shape.as_list()
    shape[axis] = len(places)
    return tfp.util.DeferredTensor(
        value, lambda value: tf.gather(value, places, axis=axis), shape=shape, name=name
    )


def _checked_groups(groups, event_size, num_clusters):
    """The group of each coordinate and its place among those of its group, both `[D]`."""
    groups = np.asarray(groups)
    if num_clusters == 1:
        raise UserError("groups are for several clusters, got num_clusters 1")
    if groups.shape != (event_size,) or groups.dtype.kind not in "iu":
        raise UserError(
            f"groups must be integers of shape [{event_size}], one for each coordinate, got "
            f"{groups.dtype} of shape {list(groups.shape)}"
        )
    found, sizes = np.unique(groups, return_counts=True)
    if not np.array_equal(found, np.arange(len(found))):
        raise UserError(
            f"groups must be numbered from 0 on without a gap, got {found[0]} to {found[-1]}, "
            f"{len(found)} in all"
        )
    if np.ptp(sizes):
        raise UserError(
            f"groups must be of one size, got some of {np.min(sizes)} and of {np.max(sizes)}"
        )
    by_group = np.argsort(groups, kind="stable").reshape(len(found), -1)
    places = np.zeros(event_size, np.int32)
    places[by_group] = np.arange(by_group.shape[1])
    return groups.astype(np.int32), places


def picture_patches(event_shape: Sequence[int], side: int) -> np.ndarray:
    """The patch that each value of a picture lies in, as `groups` of `logistic_mixture_prior`.

    Args:
      event_shape: `[height, width, channels]`.
      side: of a square patch, in pixels.

    Returns:
      `[D]`, in the order of the flattened picture. All channels of a pixel are in one patch.

    Raises:
      UserError: data that are no pictures, or a side that does not divide height and width.
    """
    if len(event_shape) != 3:
        raise UserError(
            "prior_patch is for pictures [height, width, channels], the data have shape "
            f"{list(event_shape)}"
        )
    height, width, channels = event_shape
    if side < 1 or height % side or width % side:
        raise UserError(
            f"prior_patch must divide height and width, got {side} for {height} x {width}"
        )
    row = np.arange(height) // side
    column = np.arange(width) // side
    patch = (width // side) * row[:, np.newaxis] + column
    return np.repeat(patch.reshape(-1), channels)


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
    return isinstance(prior, ClusteredLogistics)


def _is_of_each(prior):
    """Whether each coordinate is a mixture of logistics by logits, all of one shape `[D, K]`;
    others are of a user's own.
    """
    if not isinstance(prior, kinds.Independent):
        return False
    each = prior.distribution
    if not isinstance(each, kinds.MixtureSameFamily):
        return False
    logistics = each.components_distribution
    logits = each.mixture_distribution.logits
    if not isinstance(logistics, tfd.Logistic) or logits is None or prior.event_shape.rank != 1:
        return False
    shapes = {tuple(value.shape) for value in (logits, logistics.loc, logistics.scale)}
    return len(shapes) == 1 and len(logits.shape) == 2


def is_near_logistic(prior: tfd.Distribution) -> bool:
    """Whether a prior is where `logistic_mixture_prior` starts: nearly the unit logistic.

    Args:
      prior: for which `is_mixture` holds.
    """
    if has_clusters(prior):
        logistics = prior.logistics
    else:
        logistics = prior.distribution.components_distribution
    weights, locations, scale = _near_logistic(logistics.batch_shape[-1])
    found = [(logistics.loc, locations), (logistics.scale, scale)]
    if not has_clusters(prior):  # those of clusters start at draws
        shares = tf.nn.softmax(prior.distribution.mixture_distribution.logits)
        found.append((shares, weights))
    return all(np.allclose(value, start, rtol=1e-2, atol=1e-2) for value, start in found)


def num_uniforms(prior: tfd.Distribution) -> int:
    """How many uniform numbers `codes_from_uniforms` makes a code of: two for each coordinate, and
    where there are clusters one more for each group of coordinates.
    """
    number = 2 * prior.event_shape[0]
    if has_clusters(prior):
        number += prior.num_groups
    return number


def codes_from_uniforms(prior: tfd.Distribution, u: tf.Tensor) -> tf.Tensor:
    """Draws of a mixture, each a function of its own uniform numbers alone.

    Of a coordinate a first number chooses the component, and a second one the value in it. Where
    there are clusters, the first numbers of all choose the cluster of each group.

    Args:
      prior: of `logistic_mixture_prior`.
      u: in (0, 1), `[N, num_uniforms(prior)]`, of the prior's dtype.

    Returns:
      z, `[N, D]`.
    """
    if not has_clusters(prior):
        mixture = prior.distribution
        edges = _edges(mixture.mixture_distribution.logits)
        return _of_each_coordinate(edges, mixture.components_distribution, u)
    of_cluster = u[:, : prior.num_groups]
    of_value = u[:, prior.num_groups :]
    if prior.groups is None:
        cluster = _place_among(_edges(prior.cluster_logits), of_cluster[:, 0])
        edges = tf.gather(_edges(prior.logits), cluster)
    else:
        cluster = _place_among(_edges(prior.cluster_logits), of_cluster)
        of_coordinate = tf.gather(cluster, prior.groups, axis=1)
        # [D, J, K - 1] by the cluster of each coordinate, [D, N], to [N, D, K - 1].
        by_coordinate = tf.transpose(_edges(prior.logits), [1, 0, 2])
        chosen = tf.gather(by_coordinate, tf.transpose(of_coordinate), axis=1, batch_dims=1)
        edges = tf.transpose(chosen, [1, 0, 2])
    return _of_each_coordinate(edges, prior.logistics, of_value)


def _of_each_coordinate(edges, logistics, u):
    """Draws of the logistics of each coordinate, by the edges of their shares."""
    of_component, within = tf.split(u, 2, axis=-1)
    size, num_components = logistics.batch_shape
    place = num_components * tf.range(size) + _place_among(edges, of_component)
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
