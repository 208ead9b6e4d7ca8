"""A monotone map of each coordinate over bins, z = Q(F(x)), and back, by what was fitted."""

import dataclasses
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from nice_tf.bijectors.graphs import shared_by_graphs

Tensors = dict[str, tf.Tensor]


@dataclasses.dataclass(frozen=True)
class Family:
    """A distribution of scale 1, by numbers that are accurate at both ends.

    Attributes:
      quantile: Q by F and 1 - F.
      log_density: of z.
      probabilities: F and 1 - F of z.
      deviation: the standard deviation.
    """

    quantile: Callable[[tf.Tensor, tf.Tensor], tf.Tensor]
    log_density: Callable[[tf.Tensor], tf.Tensor]
    probabilities: Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]]
    deviation: float


@shared_by_graphs
def tables_of(fitted: Tensors, family: Family) -> Tensors:
    """What both directions read of the fitted arrays of n coordinates, of B bins each.

    Args:
      fitted: `edges`, F and 1 - F at them (`below` and `above`), `masses`, `slopes` and
        `tail_scales`, as `QuantileTransform` has them.
      family: that of z.

    Returns:
      `edges` and `knots`, those of z, `[n * (B + 1)]` for the search, and the lowest and the
      highest of each, `[n]`; `bins`, `[n * B, 7]`; `slope_outside`, dz/dx below and above the outer
      edges, and its logarithm, `[n, 2]`.
    """
    edges = tf.convert_to_tensor(fitted["edges"])
    below = tf.convert_to_tensor(fitted["below"])
    above = tf.convert_to_tensor(fitted["above"])
    knots = family.quantile(below, above)
    columns = [
        edges[:, :-1],
        edges[:, 1:],
        below[:, :-1],
        above[:, 1:],
        tf.convert_to_tensor(fitted["masses"]),
        fitted["slopes"][:, :, 0],
        fitted["slopes"][:, :, 1],
    ]
    tail_mass = below[:, :1]
    end = family.quantile(tail_mass, 1 - tail_mass)
    log_slope = (
        tf.math.log(tail_mass) - family.log_density(end) - tf.math.log(fitted["tail_scales"])
    )
    return {
        "edges": _for_search(edges),
        "lowest": edges[:, 0],
        "highest": edges[:, -1],
        "knots": _for_search(knots),
        "lowest_knot": knots[:, 0],
        "highest_knot": knots[:, -1],
        "bins": tf.reshape(tf.stack(columns, axis=-1), [-1, len(columns)]),
        "slope_outside": tf.exp(log_slope),
        "log_slope_outside": log_slope,
    }


@shared_by_graphs
def tables_at(coordinates: np.ndarray, fitted: Tensors, family: Family) -> Tensors:
    """As `tables_of`, of some coordinates, `[n]`, with their `means` and `deviations`."""
    found = {key: tf.gather(table, coordinates) for key, table in fitted.items()}
    tables = tables_of(found, family)
    return {**tables, "means": found["means"], "deviations": found["deviations"]}


def kept(tables: Tensors) -> Tensors:
    """Tables as variables that are not trained."""
    return {key: tf.Variable(table, trainable=False) for key, table in tables.items()}


@shared_by_graphs
def scores(x: tf.Tensor, tables: Tensors, family: Family) -> tuple[tf.Tensor, tf.Tensor]:
    """Z of x, and log dz/dx of each coordinate, all `[..., n]`."""
    within = tf.clip_by_value(x, tables["lowest"], tables["highest"])
    bin_ = _bin_at(_search(within, tables["edges"], tables), tables)
    t = (within - bin_["low"]) / (bin_["high"] - bin_["low"])
    rest = (bin_["high"] - within) / (bin_["high"] - bin_["low"])
    denominator = 1 + (bin_["first"] + bin_["last"] - 2) * t * rest
    share_below = t * (t + bin_["first"] * rest) / denominator
    share_above = rest * (rest + bin_["last"] * t) / denominator
    z = family.quantile(
        bin_["below"] + bin_["mass"] * share_below, bin_["above"] + bin_["mass"] * share_above
    )
    slope = bin_["last"] * t**2 + 2 * t * rest + bin_["first"] * rest**2
    log_density = (
        tf.math.log(bin_["mass"] / (bin_["high"] - bin_["low"]))
        + tf.math.log(slope)
        - 2 * tf.math.log(denominator)
    )
    outside = x - within
    is_below = outside < 0
    slope_outside = tables["slope_outside"]
    log_slope_outside = tables["log_slope_outside"]
    z += outside * tf.where(is_below, slope_outside[:, 0], slope_outside[:, 1])
    log_slope = tf.where(
        outside == 0,
        log_density - family.log_density(z),
        tf.where(is_below, log_slope_outside[:, 0], log_slope_outside[:, 1]),
    )
    return z, log_slope


@shared_by_graphs
def values(z: tf.Tensor, tables: Tensors, family: Family) -> tf.Tensor:
    """X of z, both `[..., n]`."""
    within = tf.clip_by_value(z, tables["lowest_knot"], tables["highest_knot"])
    bin_ = _bin_at(_search(within, tables["knots"], tables), tables)
    below, above = family.probabilities(within)
    # Of the two the smaller one has more digits.
    share = tf.where(
        below < above,
        (below - bin_["below"]) / bin_["mass"],
        1 - (above - bin_["above"]) / bin_["mass"],
    )
    share = tf.clip_by_value(share, 0, 1)
    bend = share * (bin_["first"] + bin_["last"] - 2)
    linear = bin_["first"] - bend
    square = 1 - bin_["first"] + bend
    root = tf.sqrt(tf.maximum(linear**2 + 4 * square * share, 0))
    t = 2 * share / tf.maximum(linear + root, np.finfo(z.dtype.as_numpy_dtype).tiny)
    x = bin_["low"] + tf.clip_by_value(t, 0, 1) * (bin_["high"] - bin_["low"])
    slope_outside = tables["slope_outside"]
    outside = z - within
    return x + outside / tf.where(outside < 0, slope_outside[:, 0], slope_outside[:, 1])


def _for_search(ascending):
    """Rows of ascending numbers, which may repeat their last, one after the other."""
    is_last = ascending >= ascending[:, -1:]
    infinity = tf.constant(np.inf, ascending.dtype)
    return tf.reshape(tf.where(is_last, infinity, ascending), [-1])


def _search(points, ascending, tables):
    """The number of the bin of each point, `[..., n]`, by halving; `ascending` is of
    `_for_search`.
    """
    num_coordinates = tables["lowest"].shape[0]
    size = ascending.shape[0] // num_coordinates
    first = tf.range(num_coordinates) * size
    found = tf.zeros(tf.shape(points), tf.int32)
    width = 1 << (size - 1).bit_length()
    while width > 1:
        width //= 2
        tried = tf.minimum(found + width, size - 1)
        is_above = points >= tf.gather(ascending, first + tried)
        found = tf.where(is_above, tried, found)
    return found


def _bin_at(place, tables):
    """What is known of the bins of these numbers, each `[..., n]`."""
    num_coordinates = tables["lowest"].shape[0]
    num_bins = tables["bins"].shape[0] // num_coordinates
    names = ["low", "high", "below", "above", "mass", "first", "last"]
    found = tf.gather(tables["bins"], tf.range(num_coordinates) * num_bins + place)
    parts = tf.unstack(found, num=len(names), axis=-1)
    return dict(zip(names, parts, strict=True))


def _logistic_quantile(below, above):
    return tf.math.log(below) - tf.math.log(above)


def _logistic_log_density(z):
    return -tf.math.softplus(z) - tf.math.softplus(-z)


def _logistic_probabilities(z):
    return tf.math.sigmoid(z), tf.math.sigmoid(-z)


def _normal_quantile(below, above):
    z = tf.math.ndtri(tf.minimum(below, above))
    return tf.where(below < above, z, -z)


def _normal_log_density(z):
    return -0.5 * z**2 - 0.5 * np.log(2 * np.pi)


def _normal_probabilities(z):
    scaled = z / np.sqrt(2)
    return 0.5 * tf.math.erfc(-scaled), 0.5 * tf.math.erfc(scaled)


# By the names of `choices.FAMILIES`.
FAMILIES = {
    "logistic": Family(
        _logistic_quantile, _logistic_log_density, _logistic_probabilities, np.pi / np.sqrt(3)
    ),
    "normal": Family(_normal_quantile, _normal_log_density, _normal_probabilities, 1.0),
}
