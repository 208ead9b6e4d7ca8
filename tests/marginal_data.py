"""Values of many kinds, and marginals fitted to them."""

import numpy as np
import tensorflow as tf
from scipy import stats

import nice_tf

FAMILIES = ("logistic", "normal")
CONTINUOUS = ("normal", "gamma", "zeros", "cauchy")
STEPPED = {"comb": 1e-4, "integers": 1.0}
NUM_LEVELS = 17
QUANTILES = {"logistic": stats.logistic, "normal": stats.norm}

TABLES = (
    "edges",
    "below",
    "above",
    "masses",
    "slopes",
    "tail_scales",
    "means",
    "deviations",
)


def of_kind(kind, number=2000, seed=0):
    """Values of one coordinate, `[number]`."""
    generator = np.random.default_rng(seed)
    if kind == "normal":
        return generator.normal(5.0, 2.0, number)
    if kind == "gamma":
        return generator.gamma(0.7, 3.0, number)
    if kind == "zeros":
        return np.where(generator.random(number) < 0.6, 0.0, generator.gamma(2.0, 1.0, number))
    if kind == "cauchy":
        return np.clip(generator.standard_cauchy(number), -1e4, 1e4)
    if kind == "comb":
        teeth = np.sort(generator.choice(30_000, 24, replace=False)) * 1e-4
        values = teeth[(24 * generator.random(number) ** 2).astype(int)]
        return values + 1e-4 * (generator.random(number) - 0.5)
    assert kind == "integers"
    return generator.poisson(3.0, number) + generator.random(number) - 0.5


def pictures(number=500, seed=0):
    """Dequantized levels of four pixels: one always black, one of two levels, two of many."""
    generator = np.random.default_rng(seed)
    levels = np.stack(
        [
            np.zeros(number, int),
            16 * generator.integers(0, 2, number),
            generator.integers(0, NUM_LEVELS, number),
            np.minimum(generator.poisson(4, number), 16),
        ],
        axis=1,
    )
    return (levels + generator.random(levels.shape)) / NUM_LEVELS


def fitted_to(kinds, *, family="logistic", dtype=tf.float64, **kwargs):
    """A layer with a coordinate of each kind, and the values that it was fitted to."""
    x = np.stack([of_kind(kind, seed=seed) for seed, kind in enumerate(kinds)], axis=1)
    steps = [STEPPED.get(kind, 0.0) for kind in kinds]
    origin = [-0.5 * step for step in steps]
    layer = nice_tf.QuantileTransform(
        len(kinds), family=family, steps=steps, origin=origin, dtype=dtype, **kwargs
    )
    layer.fit(x)
    return layer, x


def fitted_to_pictures(*, family="logistic", dtype=tf.float64, **kwargs):
    layer = nice_tf.QuantileTransform(
        4, family=family, levels=NUM_LEVELS, dtype=dtype, **{"tail_mass": 1e-9, **kwargs}
    )
    layer.fit(pictures())
    return layer


KINDS = (*CONTINUOUS, *STEPPED)


def tables(layer):
    """The fitted arrays by the name of their argument."""
    found = {variable.name.split("/")[-1].split(":")[0]: variable for variable in layer.variables}
    return {key: found[key].numpy() for key in TABLES}
