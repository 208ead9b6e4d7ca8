"""Fitted marginals: each coordinate's distribution function, then the quantile function of the
prior.
"""

import numpy as np
import pytest
import tensorflow as tf
from bijector_laws import check_laws, fresh
from marginal_data import (
    CONTINUOUS,
    FAMILIES,
    KINDS,
    NUM_LEVELS,
    QUANTILES,
    TABLES,
    fitted_to,
    fitted_to_pictures,
    of_kind,
    pictures,
    tables,
)
from scipy import special, stats

import nice_tf
from nice_tf.bijectors import bins

pytestmark = pytest.mark.usefixtures("without_denoising")


def any_layer(data, family, dtype=tf.float64):
    """A fitted layer and examples it was not fitted to, `[N, D]`."""
    if data == "pictures":
        return fitted_to_pictures(family=family, dtype=dtype), pictures(40, seed=9)
    layer, _ = fitted_to(KINDS, family=family, dtype=dtype)
    fresh_ones = [of_kind(kind, seed=seed)[100:140] for seed, kind in enumerate(KINDS)]
    return layer, np.stack(fresh_ones, axis=1) + 1e-6


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("data", ["pictures", "columns"])
def test_laws(data, family):
    layer, x = any_layer(data, family)
    check_laws(layer, tf.constant(x), atol=1e-8)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("kind", [*KINDS, "pictures"])
def test_rises_without_jumps(kind, family):
    """On a grid across all bins and both ends, and on both sides of each edge."""
    if kind == "pictures":
        layer = fitted_to_pictures(family=family)
    else:
        layer, _ = fitted_to([kind], family=family)
    edges = np.unique(layer.edges.numpy()[-1])
    span = edges[-1] - edges[0]
    inside = (edges[:-1, np.newaxis] + np.diff(edges)[:, np.newaxis] * [0.1, 0.5, 0.9]).ravel()
    outside = span * np.array([0.01, 1.0, 100.0])
    grid = np.sort(np.concatenate([edges, inside, edges[0] - outside, edges[-1] + outside]))
    columns = layer.edges.shape[0]
    z = layer.forward(np.repeat(grid[:, np.newaxis], columns, axis=1)).numpy()[:, -1]
    assert np.all(np.diff(z) > 0)
    # What z climbs on a step this small, by its slope there.
    step = 1e-12 * np.maximum(np.abs(edges), span)
    beside = [
        np.repeat(side[:, np.newaxis], columns, axis=1) for side in (edges - step, edges + step)
    ]
    before, after = (layer.forward(side).numpy()[:, -1] for side in beside)
    slopes = [np.exp(jacobian_diagonal(layer, side)[:, -1]) for side in beside]
    np.testing.assert_array_less(np.abs(after - before), 4 * step * np.max(slopes, axis=0) + 1e-9)


def jacobian_diagonal(layer, x):
    """Log dz/dx of each coordinate by automatic differentiation, `[N, D]`."""
    x = tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch(x)
        z = layer.forward(x)
    return np.log(tape.gradient(z, x).numpy())


@pytest.mark.parametrize("family", FAMILIES)
def test_float32_is_as_good_as_float64(family):
    """For z from -15 to 15 of a flow whose couplings went there: both of its ends, both ways."""
    exact, _ = fitted_to(["normal", "gamma", "cauchy", "integers"], family=family)
    coarse = exact.copy(
        dtype=tf.float32,
        **{key: tf.cast(value, tf.float32) for key, value in tables(exact).items()},
    )
    z = np.linspace(-15.0, 15.0, 121, dtype=np.float32)[:, np.newaxis] * np.ones(4, np.float32)
    x = exact.inverse(tf.cast(z, tf.float64))
    found = coarse.inverse(z)
    assert found.dtype == tf.float32
    scale = np.maximum(np.abs(x), exact.deviations)
    np.testing.assert_allclose(found / scale, x / scale, atol=2e-5)
    as_float32 = tf.cast(x, tf.float32)
    expected = exact.forward(tf.cast(as_float32, tf.float64))
    np.testing.assert_allclose(coarse.forward(as_float32), expected, rtol=2e-5, atol=2e-3)
    np.testing.assert_allclose(
        coarse.forward_log_det_jacobian(fresh(as_float32), 1),
        exact.forward_log_det_jacobian(tf.cast(as_float32, tf.float64), 1),
        atol=0.02,
    )


@pytest.mark.parametrize("family", FAMILIES)
def test_both_ends_are_accurate_in_float32(family):
    """Half of the pixels are white: beside the last edge 1 - F is small, and not what F lacks."""
    exact, coarse = (
        fitted_to_pictures(family=family, dtype=dtype) for dtype in (tf.float64, tf.float32)
    )
    beside = np.float32(2.0**-24) * np.arange(1, 40, dtype=np.float32)[:, np.newaxis]
    for x in (1 - beside, beside):
        x = x * np.ones(4, np.float32)
        expected = exact.forward(x.astype(np.float64)).numpy()
        assert np.max(np.abs(expected[:, 1])) > (4 if family == "normal" else 10)
        np.testing.assert_allclose(coarse.forward(x), expected, rtol=1e-5)
        np.testing.assert_allclose(
            coarse.forward_log_det_jacobian(x, 1),
            exact.forward_log_det_jacobian(x.astype(np.float64), 1),
            rtol=1e-4,
        )


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("kind", KINDS)
def test_each_bin_has_its_mass(kind, family):
    """By the trapezoidal rule inside each bin; what lies outside has `tail_mass` at each end."""
    layer, x = fitted_to([kind], family=family, tail_mass=1e-3)
    edges = np.unique(layer.edges.numpy()[0])
    t = np.linspace(1e-9, 1 - 1e-9, 401)
    points = edges[:-1, np.newaxis] + np.diff(edges)[:, np.newaxis] * t
    z = layer.forward(points.reshape(-1, 1))
    log_det = layer.forward_log_det_jacobian(points.reshape(-1, 1), 1)
    density = np.exp(QUANTILES[family].logpdf(z[:, 0]) + log_det).reshape(points.shape)
    masses = np.trapezoid(density, points, axis=1)
    np.testing.assert_allclose(masses, layer.parameters["masses"][0, : len(masses)], rtol=2e-3)
    np.testing.assert_allclose(masses.sum(), 1 - 2e-3, rtol=1e-4)
    counts, _ = np.histogram(x[:, 0], edges)
    np.testing.assert_allclose(masses, counts / len(x), atol=0.02)
    assert (
        stats.chisquare(
            masses * len(x), masses.sum() * len(x) * (counts + 0.5) / (len(x) + 0.5 * len(counts))
        ).pvalue
        > 1e-3
    )
    ends = QUANTILES[family].cdf(layer.forward(edges[[0, -1]][:, np.newaxis])[:, 0])
    np.testing.assert_allclose(ends, [1e-3, 1 - 1e-3], rtol=1e-9)


def test_a_comb_is_learned():
    """Twenty-four values on a grid of 30,000 steps: nearly all the mass is on them."""
    layer, x = fitted_to(["comb"])
    teeth = np.unique(np.rint(x / 1e-4)) * 1e-4
    assert len(teeth) == 24
    ends = np.stack([teeth - 0.5e-4, teeth + 0.5e-4], axis=1)
    below = special.expit(layer.forward(ends.reshape(-1, 1)).numpy()).reshape(-1, 2)
    shares = np.diff(below, axis=1)[:, 0]
    counts = np.unique(np.rint(x / 1e-4), return_counts=True)[1]
    np.testing.assert_allclose(shares, counts / len(x), atol=2e-3)
    assert shares.sum() > 0.995
    log_prob = log_density(layer, x)
    assert log_prob.mean() > np.sum(counts / len(x) * np.log(counts / len(x) / 1e-4)) - 0.02


def log_density(layer, x, family="logistic"):
    """Of each example by the marginals alone, `[N]`."""
    latent = QUANTILES[family].logpdf(layer.forward(fresh(tf.constant(x)))).sum(axis=-1)
    return latent + layer.forward_log_det_jacobian(tf.constant(x), 1).numpy()


@pytest.mark.parametrize("kind", CONTINUOUS[:2])
def test_continuous_densities_are_found(kind):
    """Within a few hundredths of a nat of the density that the values were drawn from."""
    layer, _ = fitted_to([kind])
    new = of_kind(kind, 4000, seed=77)
    true = {"normal": stats.norm(5.0, 2.0), "gamma": stats.gamma(0.7, scale=3.0)}[kind]
    gap = true.logpdf(new).mean() - log_density(layer, new[:, np.newaxis]).mean()
    assert -0.01 < gap < 0.05


def test_repeated_values_cannot_make_the_density_infinite():
    """Six in ten values are 0: their bin has the floor's width, and their share of the mass."""
    layer, x = fitted_to(["zeros"])
    highest = np.exp(log_density(layer, np.zeros([1, 1]))[0])
    quartiles = np.quantile(x, [0.25, 0.75])
    width = 1e-3 * min(x.std(), np.diff(quartiles)[0] / 1.349)
    np.testing.assert_allclose(highest, np.mean(x == 0) / width, rtol=0.02)
    samples = layer.inverse(special.logit(np.random.default_rng(0).random([5000, 1]))).numpy()
    assert abs(np.mean(np.abs(samples) <= width / 2 + 1e-12) - np.mean(x == 0)) < 0.03


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("dtype", [tf.float32, tf.float64])
def test_tails(family, dtype):
    """Positive, finite and ordered far outside, 1e6 deviations away, too."""
    layer, _ = fitted_to(KINDS, family=family, dtype=dtype)
    layer.check_fitted()
    edges = layer.edges.numpy()
    steps = np.logspace(-3, 6, 30)[:, np.newaxis] * layer.deviations.numpy()
    prior = nice_tf.gaussian_prior if family == "normal" else nice_tf.logistic_prior
    for x in (edges[:, 0] - steps, edges[:, -1] + steps):
        x = tf.constant(x.astype(dtype.as_numpy_dtype))
        z = layer.forward(x)
        assert np.all(np.isfinite(z)) and np.all(np.diff(np.abs(z), axis=0) > 0)
        log_prob = prior(6, dtype=dtype).log_prob(z) + layer.forward_log_det_jacobian(fresh(x), 1)
        assert np.all(np.isfinite(log_prob)) and np.all(np.diff(log_prob) < 0)
        back = layer.inverse(fresh(z))
        np.testing.assert_allclose(back, x, rtol=1e-4, atol=2e-4)


def test_fall_of_the_tails():
    """Outside, the density is that of the family at a z that is linear in x, with its slope."""
    layer, _ = fitted_to(["normal"], tail_mass=1e-3)
    edge = layer.edges.numpy()[0, -1]
    scale = layer.parameters["tail_scales"].numpy()[0, 1]
    z = layer.forward([[edge], [edge + scale]]).numpy()[:, 0]
    end = special.logit(1 - 1e-3)
    np.testing.assert_allclose(z[0], end, rtol=1e-9)
    slope = 1e-3 / stats.logistic.pdf(end)  # a density of tail_mass / scale at the edge
    np.testing.assert_allclose(z[1] - z[0], slope, rtol=1e-9)
    found = layer.forward_log_det_jacobian([[edge + 1e-6], [edge + scale]], 1)
    np.testing.assert_allclose(found, np.log(slope / scale) * np.ones(2), rtol=1e-9)
    outside = np.linspace(edge, edge + 40 * scale, 20_001)[1:]
    mass = np.trapezoid(np.exp(log_density(layer, outside[:, np.newaxis])), outside)
    np.testing.assert_allclose(mass, 1e-3, rtol=2e-3)


def in_parts(x, sizes=(1, 7, 300)):
    start = 0
    for size in (*sizes, len(x)):
        yield x[start : start + size]
        start += size


@pytest.mark.parametrize("levels", [NUM_LEVELS, 2000, 0])
def test_fit_in_parts_is_the_fit_in_memory(levels, monkeypatch):
    """Of levels with and without a bin each, and of a thinned sample of a column."""
    monkeypatch.setattr("nice_tf.bijectors.marginals._MAX_ROWS", 700)
    x = pictures(2000)[:, 1:] if levels else np.stack([of_kind("gamma"), of_kind("normal")], axis=1)
    layers = []
    for fit in ("fit", "fit_parts"):
        layer = nice_tf.QuantileTransform(x.shape[1], levels=levels, dtype=tf.float64)
        getattr(layer, fit)(x if fit == "fit" else in_parts(x))
        layers.append(layer)
    memory, parts = (tables(layer) for layer in layers)
    for key in TABLES:
        np.testing.assert_allclose(parts[key], memory[key], rtol=1e-9, err_msg=key)
    np.testing.assert_allclose(memory["means"], x.mean(axis=0), rtol=1e-9)
    np.testing.assert_allclose(memory["deviations"], x.std(axis=0), rtol=1e-9)


def test_rows_are_thinned_at_equal_distances():
    thinned = bins.ThinnedRows(10)
    for part in np.array_split(np.arange(95)[:, np.newaxis], 13):
        thinned.add(part)
    rows = thinned.rows[:, 0]
    assert 5 <= len(rows) <= 10 and set(np.diff(rows)) == {16} and rows[0] == 0


@pytest.mark.parametrize("dtype", [tf.float32, tf.float64])
def test_values_far_from_0_lose_no_mass(dtype):
    """Where bins are narrower than the distance of two numbers of the dtype."""
    generator = np.random.default_rng(0)
    x = np.stack([1e6 + generator.normal(size=3000), of_kind("normal", 3000)], axis=1)
    x = x.astype(np.float32)
    layer = nice_tf.QuantileTransform(2, dtype=dtype)
    layer.fit(x)
    edges = layer.edges.numpy()
    for d in range(2):
        size = len(np.unique(edges[d])) - 1
        masses = tables(layer)["masses"][d]
        np.testing.assert_allclose(masses[:size].sum(), 1 - 2 / 3002, rtol=1e-5)
        assert np.all(masses[size:] == 0) and np.all(masses[:size] > 0)
    if dtype == tf.float32:
        log_det = layer.forward_log_det_jacobian(x, 1).numpy()
        assert np.median(log_det) > -1
        z = layer.forward(x).numpy()
        assert abs(np.mean(z[:, 0])) < 0.5


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("data", ["pictures", "columns"])
def test_xla_and_gradients(data, family):
    """The same through XLA; first and second gradients are finite, and at edges, too."""
    layer, x = any_layer(data, family)
    edges = np.minimum(layer.edges.numpy().T[::9][:4], layer.edges.numpy()[:, -1])
    far = layer.edges.numpy()[:, -1] + 3 * layer.deviations.numpy()
    x = tf.constant(np.concatenate([x[:5], edges, [far]]))

    def both(x):
        return layer.forward(x), layer.forward_log_det_jacobian(x, 1), layer.inverse(tf.tanh(x))

    compiled = tf.function(both, jit_compile=True)
    for found, expected in zip(compiled(x), both(fresh(x)), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-7, atol=1e-8)
    for method in (layer.forward, layer.inverse, lambda x: layer.forward_log_det_jacobian(x, 1)):
        with tf.GradientTape() as outer:
            outer.watch(x)
            with tf.GradientTape() as tape:
                tape.watch(x)
                value = tf.reduce_sum(tf.sin(method(fresh(x))))
            gradient = tape.gradient(value, x)
        second = outer.gradient(gradient, x)
        assert np.all(np.isfinite(gradient)) and np.all(np.isfinite(second))
        assert np.any(gradient != 0)


def test_few_values_far_away_do_not_widen_all_bins():
    """A code for missing values, or a wrong row: the other values keep their density."""
    generator = np.random.default_rng(0)
    x = generator.normal(size=[5000, 1])
    fresh_ones = generator.normal(size=[2000, 1])
    scores = []
    for number_far in (0, 1, 50):
        spoilt = x.copy()
        spoilt[:number_far] = 1e6
        layer = nice_tf.QuantileTransform(1, dtype=tf.float64)
        layer.fit(spoilt)
        alone = nice_tf.logistic_prior(1, dtype=tf.float64).log_prob(layer.forward(fresh_ones))
        scores.append(np.mean(alone + layer.forward_log_det_jacobian(fresh_ones, 1)))
    np.testing.assert_allclose(scores, -0.5 * np.log(2 * np.pi * np.e), atol=0.15)


@pytest.mark.parametrize("noise", [0.0, 1.0])
@pytest.mark.parametrize("place", [4, 5])
def test_one_row_that_differs(place, noise):
    """Among those held out, every fifth, or among the others: then the rest is constant, except for
    the noise that spreads each value over its step.
    """
    x = noise * np.random.default_rng(0).random([100, 1])
    x[place] += 1
    layer = nice_tf.QuantileTransform(1, steps=[1.0])
    layer.fit(x)
    middle = np.array([[0.5], [1.5]], np.float32)
    log_det = layer.forward_log_det_jacobian(middle, event_ndims=1).numpy()
    log_prob = log_det + stats.logistic.logpdf(layer.forward(middle).numpy()[:, 0])
    assert log_prob[0] > np.log(0.9) and np.log(1e-4) < log_prob[1] < np.log(0.1)


def test_zeros_of_a_heavy_tail_do_not_take_small_values_with_them():
    generator = np.random.default_rng(0)
    x = np.exp(generator.normal(0, 3, 5000))
    x[generator.random(5000) < 0.8] = 0
    width = bins.width_of_spike(x)
    positive = x[x > 0]
    assert np.mean(positive < width / 2) < 0.04
    # Half of the zeros more or less decide whether the quartiles are zero; the width hardly.
    assert 1e-4 < width < 1e-2


def test_a_value_of_few_rows_is_not_impossible():
    """As in a column of zeros with a one in a thousand rows, of which the held-out rows have none:
    a normal distribution would give the one a mass that is 0 in float32.
    """
    x = np.zeros([3900, 1])
    x[[5, 1001, 2002, 3003], 0] = [1, 1, 2, 1]
    layer = nice_tf.QuantileTransform(1, steps=[1.0])
    layer.fit(x)
    middle = np.array([[0.5], [1.5], [2.5]], np.float32)
    log_det = layer.forward_log_det_jacobian(middle, event_ndims=1).numpy()
    log_prob = log_det + stats.logistic.logpdf(layer.forward(middle).numpy()[:, 0])
    assert np.all(log_prob > np.log(1e-6))
    # Not more than it has: three and one of 3,900.
    assert np.all(log_prob[1:] < np.log(1e-2))


def test_tails_of_few_rows_are_as_wide_as_their_ends():
    x = np.random.default_rng(0).normal(size=[150, 1])
    layer = nice_tf.QuantileTransform(1, dtype=tf.float64)
    layer.fit(x)
    z = layer.forward([[x.max() + 1.0], [x.max() + 2.0]]).numpy()
    assert np.all(np.diff(z[:, 0]) < 5), "a deviation outside is no astronomical distance"


@pytest.mark.parametrize("value", [-0.01, 1.5, 200.0])
def test_levels_outside_of_their_range_are_refused(value):
    x = np.random.default_rng(0).uniform(size=[20, 3])
    x[3, 1] = value
    layer = nice_tf.QuantileTransform(3, levels=10)
    with pytest.raises(
        nice_tf.UserError, match=rf"with levels 10 x must be dequantized on \[0, 1\], got {value}"
    ):
        layer.fit(x)


def test_a_bad_value_is_named_by_its_place_among_all():
    x = np.random.default_rng(0).uniform(size=[9000, 2])
    x[5000, 1] = np.nan
    layer = nice_tf.QuantileTransform(2)
    with pytest.raises(nice_tf.UserError, match=r"1 of 9000 examples .*, the first is 5000 "):
        layer.fit(x)
    with pytest.raises(nice_tf.UserError, match="the first is 5000 "):
        layer.fit_parts(np.split(x, 3))


def test_equal_examples_are_refused():
    layer = nice_tf.QuantileTransform(2, levels=4)
    with pytest.raises(nice_tf.UserError, match="need examples that differ, all 7 have the same"):
        layer.fit(np.full([7, 2], 0.3))


# What is refused


def changed(layer, key, place, value):
    """A copy with one number of one fitted array changed."""
    table = tables(layer)[key]
    table[place] = value
    return layer.copy(**{key: tf.constant(table)})


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: nice_tf.QuantileTransform(0), "event_size must be at least 1, got 0"),
        (
            lambda: nice_tf.QuantileTransform(2, family="cauchy"),
            "family must be one of logistic, normal, got 'cauchy'",
        ),
        (lambda: nice_tf.QuantileTransform(2, levels=-1), "levels must be at least 0, got -1"),
        (lambda: nice_tf.QuantileTransform(2, max_bins=1), "max_bins must be at least 2, got 1"),
        (
            lambda: nice_tf.QuantileTransform(2, offsets=tf.zeros([2, 256])),
            "offsets are for is_trained=True",
        ),
        (
            lambda: nice_tf.QuantileTransform(2, is_trained=True, offsets=tf.zeros([3, 256])),
            r"offsets must have shape \(2, 256\), got \(3, 256\)",
        ),
        (
            lambda: nice_tf.QuantileTransform(2, tail_mass=0.5),
            "tail_mass must be above 0 and below 0.5, got 0.5",
        ),
        (
            lambda: nice_tf.QuantileTransform(2, levels=17, steps=[0.0, 1.0]),
            "levels and steps do not go together",
        ),
        (
            lambda: nice_tf.QuantileTransform(2, steps=[0.0, -1.0]),
            "steps must be at least 0, got -1.0",
        ),
        (
            lambda: nice_tf.QuantileTransform(2, steps=[1.0, 1.0, 1.0]),
            r"steps must be a number or have shape \[2\], got \(3,\)",
        ),
        (
            lambda: nice_tf.QuantileTransform(2, origin=[0.0, np.nan]),
            "origin must be finite, got nan",
        ),
        (
            lambda: nice_tf.QuantileTransform(2, means=tf.zeros(2)),
            "must be given together, or none of them; without a value above, below",
        ),
        (lambda: nice_tf.QuantileTransform(2).forward([[0.5, 0.5]]), "fitted before use: call fit"),
        (lambda: nice_tf.QuantileTransform(2).inverse([[0.5, 0.5]]), "fitted before use: call fit"),
        (
            lambda: nice_tf.QuantileTransform(2).forward_log_det_jacobian([[0.5, 0.5]], 1),
            "fitted before use: call fit",
        ),
        (
            lambda: nice_tf.build_flow([3], marginals="quantile").log_prob([[0.5, 0.5, 0.5]]),
            "or nice_tf.initialize_from_data for a whole flow",
        ),
        (
            lambda: nice_tf.QuantileTransform(2).copy().forward([[0.5, 0.5]]),
            "fitted before use: call fit",
        ),
        (
            lambda: nice_tf.QuantileTransform(3).fit(np.ones([4, 5])),
            r"examples of shape \[N, 3\] are needed, got \[4, 5\]",
        ),
        (
            lambda: nice_tf.QuantileTransform(3).fit(np.float64(1)),
            r"examples of shape \[N, 3\] are needed, got \[\]",
        ),
        (
            lambda: nice_tf.QuantileTransform(2).fit([[0.0, 1.0], [np.nan, 2.0], [3.0, np.inf]]),
            "2 of 3 examples have values that are not finite, the first is 1",
        ),
        (
            lambda: nice_tf.QuantileTransform(2, levels=17).fit([[0.5, np.nan], [0.5, 0.5]]),
            "1 of 2 examples have values that are not finite, the first is 0",
        ),
        (
            lambda: nice_tf.QuantileTransform(2).fit([[0.0, 1.0]]),
            "marginals need at least 2 examples, got 1",
        ),
        (
            lambda: nice_tf.QuantileTransform(2, levels=17).fit([[0.0, 1.0]]),
            "marginals need at least 2 examples, got 1",
        ),
        (
            lambda: nice_tf.QuantileTransform(2).fit(np.zeros([0, 2])),
            "marginals need at least 2 examples, got 0",
        ),
        (
            lambda: nice_tf.QuantileTransform(3).fit([[0.0, 7.0, 1.0], [1.0, 7.0, 2.0]]),
            r"1 of 3 coordinates have the same value in all 2 examples looked at \(the first, "
            r"counted from 0, is 1\)",
        ),
        (
            lambda: fitted_to(["normal"])[0].forward([[0.5, 0.5]]),
            "the last axis must have 1 values, got shape",
        ),
        (
            lambda: fitted_to(["normal"])[0].copy(edges=tf.zeros([2, 257], tf.float64)),
            r"edges must have shape \(1, 257\), got \(2, 257\)",
        ),
        (
            lambda: fitted_to(["normal"])[0].copy(event_size=2),
            r"steps must be a number or have shape \[2\], got \(1,\)",
        ),
        (
            lambda: nice_tf.QuantileTransform(2, **tables(fitted_to(["normal"])[0])),
            r"edges must have shape \(2, 257\), got \(1, 257\)",
        ),
        (
            lambda: changed(fitted_to(["normal"])[0], "edges", (0, 1), 1e9),
            "edges of the marginals must be sorted, got 1000000000.0 before .* in coordinate 0",
        ),
        (
            lambda: changed(fitted_to(["normal"])[0], "below", (0, 1), 0.99),
            "below of the marginals must be sorted, got 0.99 before",
        ),
        (
            lambda: changed(fitted_to(["normal"])[0], "above", (0, 1), 1e-9),
            "above of the marginals must be sorted, got 1e-09 before",
        ),
        (
            lambda: changed(fitted_to(["normal"])[0], "masses", (0, 1), -0.5),
            "masses of the marginals must be at least 0, got -0.5",
        ),
        (
            lambda: changed(fitted_to(["normal"])[0], "tail_scales", (0, 1), 0.0),
            "tail_scales of the marginals must be above 0, got 0.0",
        ),
        *(
            (
                lambda key=key: changed(fitted_to(["normal"])[0], key, 0, np.inf),
                f"{key} of the marginals must be finite, got inf",
            )
            for key in TABLES
        ),
        (
            lambda: nice_tf.build_flow([4], marginals="spline"),
            "marginals must be one of none, quantile, trained, got 'spline'",
        ),
        (
            lambda: nice_tf.build_flow([4], conditioner_input="raw"),
            "conditioner_input must be one of mapped, values, got 'raw'",
        ),
        (
            lambda: nice_tf.build_flow([4], conditioner_input="values"),
            "conditioner_input 'values' is for marginals: without them m sees values anyway",
        ),
        (
            lambda: nice_tf.build_flow([4], marginals="quantile", input_range="symmetric"),
            "marginals 'quantile' take x on any range: leave input_range at 'unit', got 'symmetric'",
        ),
        (
            lambda: nice_tf.build_flow(
                [4], marginals="quantile", conditioner_input="values", whitening="zca"
            ),
            "whitening 'zca' mixes the coordinates",
        ),
        (
            lambda: nice_tf.Config(marginals="quantile", dequantization="none"),
            "marginals quantile need dequantization uniform, got none",
        ),
        (
            lambda: nice_tf.Config(conditioner_input="values"),
            "conditioner_input values is for marginals quantile",
        ),
        (
            lambda: nice_tf.Config(marginals="spline"),
            "marginals must be one of none, quantile, trained, got 'spline'",
        ),
    ],
)
def test_bad_input_is_refused_by_value_and_rule(call, message):
    with pytest.raises(nice_tf.UserError, match=message):
        call()


def trained(layer, seed=0):
    """The layer with trained masses, which training has moved."""
    shape = tables(layer)["masses"].shape
    offsets = tf.Variable(np.random.default_rng(seed).normal(size=shape))
    moved = layer.copy(is_trained=True, offsets=offsets)
    return moved


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("data", ["pictures", "columns"])
def test_laws_hold_for_trained_masses(data, family):
    layer, x = any_layer(data, family)
    moved = trained(layer)
    assert np.max(np.abs(moved.forward(x) - layer.forward(x))) > 0.1
    check_laws(moved, tf.constant(x), atol=1e-8)


def test_trained_masses_start_as_fitted_and_are_what_z_shows():
    """Their mass is the share of a bin in F, by the prior's own distribution function."""
    layer = fitted_to_pictures()
    edges = np.repeat(np.arange(NUM_LEVELS + 1)[:, np.newaxis] / NUM_LEVELS, 4, axis=1)
    start = layer.copy(is_trained=True)
    np.testing.assert_allclose(start.forward(edges), layer.forward(edges), rtol=1e-9)
    moved = trained(layer)
    share = np.diff(special.expit(moved.forward(edges).numpy()), axis=0).T
    weights = tables(layer)["masses"] * np.exp(moved.trainable_variables[0].numpy())
    np.testing.assert_allclose(
        share / share.sum(1, keepdims=True), weights / weights.sum(1, keepdims=True), atol=1e-7
    )


def test_trained_masses_have_gradients_and_are_forgotten_by_a_new_fit():
    moved = trained(fitted_to_pictures())
    x = tf.constant(pictures(40, seed=9))
    assert [variable.shape for variable in moved.trainable_variables] == [[4, NUM_LEVELS]]
    with tf.GradientTape() as tape:
        z = moved.forward(x)
        log_prob = tf.reduce_sum(-z - 2 * tf.nn.softplus(-z), axis=-1)
        log_prob = tf.reduce_sum(log_prob + moved.forward_log_det_jacobian(x, 1))
    (gradient,) = tape.gradient(log_prob, moved.trainable_variables)
    # Of the prior's own shape the likelihood is that of a histogram: counts less what masses expect.
    counts = np.stack(
        [
            np.bincount(column, minlength=NUM_LEVELS)
            for column in (x.numpy().T * NUM_LEVELS).astype(int)
        ]
    )
    weights = tables(moved)["masses"] * np.exp(moved.trainable_variables[0].numpy())
    expected = counts - len(x) * weights / weights.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(gradient, expected, atol=1e-6)
    moved.fit(pictures(seed=3))
    assert not moved.trainable_variables[0].numpy().any()


@pytest.mark.parametrize("data", ["pictures", "columns"])
def test_trained_masses_can_be_taken_back_or_fixed(data):
    layer, x = any_layer(data, "logistic")
    moved = trained(layer)
    np.testing.assert_allclose(moved.as_fitted().forward(x), layer.forward(x), rtol=1e-12)
    fixed = moved.frozen()
    assert not fixed.trainable_variables
    np.testing.assert_allclose(fixed.forward(x), moved.forward(x), rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(fixed.inverse(moved.forward(x)), x, rtol=1e-6)
    assert layer.as_fitted() is layer
