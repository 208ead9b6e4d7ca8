"""Draws of hidden values given the others, beside closed forms and beside plain rejection."""

import numpy as np
import pytest
import tensorflow as tf
from flows import random_points, randomize
from scipy import stats

import nice_tf
from nice_tf.flows.conditional import ConditionalSampler, draw_between


@pytest.fixture(scope="module")
def gaussian():
    """A flow that is a Gaussian of four coordinates, its mean and its covariance."""
    generator = np.random.default_rng(0)
    factor = generator.normal(size=[4, 4])
    mean = 3 * generator.normal(size=4)
    x = mean + generator.normal(size=[2000, 4]) @ factor.T
    flow = nice_tf.build_flow(
        [4], prior="gaussian", whitening="triangular", hidden_units=(5,), dtype=tf.float64
    )
    nice_tf.initialize_from_data(flow, tf.constant(x))
    # The density is an exact Gaussian whatever the fit was: those are its moments.
    precision = -_hessian(flow, x[0])
    covariance = np.linalg.inv(precision)
    mean = nice_tf.encoder(flow).inverse(tf.zeros([1, 4], tf.float64)).numpy()[0]
    return flow, mean, covariance


def _hessian(flow, point):
    x = tf.constant(point)
    with tf.GradientTape() as outer:
        outer.watch(x)
        with tf.GradientTape() as inner:
            inner.watch(x)
            log_prob = flow.log_prob(x)
        gradient = inner.gradient(log_prob, x)
    return outer.jacobian(gradient, x).numpy()


def test_draws_of_a_gaussian_have_its_conditional_moments(gaussian):
    """Within five Monte Carlo errors, for two patterns of missing values."""
    flow, mean, covariance = gaussian
    values = mean + np.array([[1.5, 0, -0.7, 0], [0, 0.4, 0, 0]])
    hidden = np.array([[False, True, False, True], [True, False, True, True]])
    found = draw_between(
        flow,
        np.where(hidden, -np.inf, values),
        np.where(hidden, np.inf, values),
        start=np.tile(mean, [2, 1]),
        num_draws=2000,
        num_chains=10,
        seed=[1, 2],
    )
    assert found.x.shape == (2000, 2, 4)
    assert np.all(found.effective_sample_size > 500) and np.all(found.acceptance > 0.6)
    for row, is_hidden in enumerate(hidden):
        x = found.x[:, row]
        np.testing.assert_array_equal(x[:, ~is_hidden], np.tile(values[row, ~is_hidden], [2000, 1]))
        known = covariance[np.ix_(~is_hidden, ~is_hidden)]
        across = covariance[np.ix_(is_hidden, ~is_hidden)]
        slope = np.linalg.solve(known, across.T).T
        expected_mean = mean[is_hidden] + slope @ (values[row] - mean)[~is_hidden]
        expected = covariance[np.ix_(is_hidden, is_hidden)] - slope @ across.T
        deviations = np.sqrt(np.diag(expected))
        error = 5 / np.sqrt(found.effective_sample_size[row])
        off = (x[:, is_hidden].mean(axis=0) - expected_mean) / deviations
        np.testing.assert_allclose(off, 0, atol=error)
        spread = np.cov(x[:, is_hidden].T) / np.outer(deviations, deviations)
        np.testing.assert_allclose(
            spread, expected / np.outer(deviations, deviations), atol=1.5 * error
        )


def bent_flow():
    """A flow of random weights behind marginals of an integer column, zeros, and a smooth one."""
    generator = np.random.default_rng(3)
    number = 3000
    counts = generator.poisson(2.0, number)
    zeros = np.where(generator.random(number) < 0.5, 0.0, generator.gamma(2.0, 1.0, number))
    x = np.stack(
        [counts + generator.random(number) - 0.5, zeros, generator.normal(size=number)], axis=1
    )
    flow = nice_tf.build_flow(
        [3],
        num_couplings=3,
        hidden_units=(6,),
        activation="tanh",
        zero_last_layer=False,
        marginals="quantile",
        steps=[1.0, 0.0, 0.0],
        origin=[-0.5, 0.0, 0.0],
        dtype=tf.float64,
    )
    nice_tf.initialize_from_data(flow, tf.constant(x))
    for k, variable in enumerate(flow.trainable_variables):
        variable.assign(0.6 * random_points(*variable.shape, seed=k))
    return flow


def test_chains_are_compiled_once_for_any_number_of_examples(gaussian):
    flow, mean, _ = gaussian
    sampler = ConditionalSampler(flow, num_warmup=20)
    settings = {"num_draws": 8, "seed": [3, 4]}
    for number in (1, 3):
        hidden = np.arange(4 * number).reshape([number, 4]) % 3 == 0
        start = np.tile(mean, [number, 1])
        low = np.where(hidden, -np.inf, start)
        high = np.where(hidden, np.inf, start)
        found = sampler(low, high, start=start, **settings)
        again = draw_between(flow, low, high, start=start, num_warmup=20, **settings)
        np.testing.assert_allclose(found.x, again.x, rtol=1e-6)
        assert found.x[:, hidden].std(axis=0).min() > 0
    assert sampler._run.experimental_get_tracing_count() == 1


def test_an_integer_is_known_up_to_its_bin():
    """As draws of the whole row of which those are kept whose first value is 2."""
    flow = bent_flow()
    rows = flow.sample(150_000, seed=[5, 6]).numpy()
    kept = rows[np.abs(rows[:, 0] - 2) < 0.5]
    assert len(kept) > 3000
    found = draw_between(
        flow,
        np.array([[1.5, -np.inf, -np.inf]]),
        np.array([[2.5, np.inf, np.inf]]),
        start=np.array([[2.0, 0.5, 0.0]]),
        num_draws=3000,
        num_chains=30,
        thinning=10,
        seed=[7, 8],
    )
    drawn = found.x[:, 0]
    assert np.all((drawn[:, 0] >= 1.5) & (drawn[:, 0] <= 2.5))
    size = found.effective_sample_size[0]
    assert size > 600
    for d in range(3):
        # The distance of two empirical distribution functions, at a level that one in ten
        # thousand passes by chance.
        distance = stats.ks_2samp(drawn[:, d], kept[:, d]).statistic
        assert distance < 2.2 * np.sqrt(1 / size + 1 / len(kept)), d


def test_context_reaches_the_couplings():
    flow = nice_tf.build_flow(
        [2], num_couplings=2, hidden_units=(4,), context_size=1, activation="tanh", dtype=tf.float64
    )
    for k, variable in enumerate(flow.trainable_variables):
        variable.assign(0.9 * random_points(*variable.shape, seed=k + 20))
    means = []
    for context in (-3.0, 3.0):
        found = draw_between(
            flow,
            np.array([[0.3, -np.inf]]),
            np.array([[0.3, np.inf]]),
            start=np.zeros([1, 2]),
            num_draws=200,
            num_chains=20,
            seed=[1, 1],
            context=np.array([context]),
        )
        means.append(found.x[:, 0, 1].mean())
    assert abs(means[1] - means[0]) > 0.5


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"low": [[0.0, -np.inf]], "high": [[0.0, 1.0]]}, "must both be infinite or both finite"),
        ({"low": [[2.0, 0.0]], "high": [[1.0, 0.0]]}, "low must be at most high, got 2.0 and 1.0"),
        ({"num_draws": 0}, "num_draws must be at least 1, got 0"),
        ({"thinning": 0}, "thinning must be at least 1, got 0"),
    ],
)
def test_bad_input_is_refused_by_value_and_rule(changes, message):
    flow = nice_tf.build_flow([2], num_couplings=2, hidden_units=(3,))
    arguments = {"low": [[0.0, 0.0]], "high": [[0.0, 0.0]], "num_draws": 2, **changes}
    low = np.array(arguments.pop("low"))
    high = np.array(arguments.pop("high"))
    with pytest.raises(nice_tf.UserError, match=message):
        draw_between(flow, low, high, start=np.zeros([1, 2]), seed=[0, 0], **arguments)


def test_matrices_are_made_where_coordinates_are_mixed_and_memory_is_looked_at(monkeypatch):
    """64 matrices of 400 x 400 in float64 are 82 MB each time; without them 40 MB are plenty."""
    monkeypatch.setattr("nice_tf.flows.conditional.available_memory", lambda: 40_000_000)
    arguments = {"start": np.zeros([64, 400]), "num_draws": 4, "num_warmup": 1, "seed": [0, 0]}
    low = np.zeros([64, 400])
    low[:, ::2] = -np.inf
    settings = {"num_couplings": 3, "hidden_units": (2,)}
    plain = nice_tf.build_flow([400], whitening="standardize", **settings)
    found = draw_between(plain, low, -low, thinning=4, **arguments)
    assert found.x.shape == (4, 64, 400) and np.all(found.x[..., 1::2] == 0)
    mixed = nice_tf.build_flow([400], whitening="triangular", **settings)
    with pytest.raises(nice_tf.UserError, match=r"4 draws of 64 examples .* need 0\.3 GB"):
        draw_between(mixed, low, -low, thinning=4, **arguments)
    with pytest.raises(nice_tf.UserError, match=r"4,000 draws .* 0\.0 GB are free: draw few"):
        draw_between(plain, low, -low, **{**arguments, "num_draws": 4000})


def test_draws_of_chains_that_never_move_are_worth_one():
    """Where the density cannot be computed no proposal is taken."""
    flow = nice_tf.build_flow([2], num_couplings=2, hidden_units=(3,), dtype=tf.float64)
    for layer in nice_tf.layers(flow):
        if isinstance(layer, nice_tf.AdditiveCoupling):
            randomize(layer, deviation=np.inf)
    found = draw_between(
        flow,
        np.array([[0.0, -np.inf]]),
        np.array([[0.0, np.inf]]),
        start=np.zeros([1, 2]),
        num_draws=8,
        num_chains=2,
        num_warmup=5,
        seed=[0, 0],
    )
    assert found.acceptance[0] == 0 and found.effective_sample_size[0] == 1


def test_columns_that_nearly_follow_from_others_can_be_drawn():
    generator = np.random.default_rng(0)
    a = generator.normal(size=500)
    x = np.stack([a, a + 1e-5 * generator.normal(size=500), generator.normal(size=500)], axis=1)
    flow = nice_tf.build_flow([3], whitening="triangular", hidden_units=(4,))
    nice_tf.initialize_from_data(flow, tf.constant(x, tf.float32))
    found = draw_between(
        flow,
        np.array([[-np.inf, -np.inf, 0.0]]),
        np.array([[np.inf, np.inf, 0.0]]),
        start=np.zeros([1, 3]),
        num_draws=8,
        num_warmup=50,
        seed=[0, 0],
    )
    assert np.isfinite(found.x).all() and found.acceptance[0] > 0
