import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
from flows import randomize

import nice_tf
from nice_tf.evaluation import ledger, likelihood
from nice_tf.evaluation.metrics import bits_per_dim, importance_weighted, on_range, standard_error

tfd = tfp.distributions


def test_bits_per_dim_of_densities_known_in_closed_form():
    # The uniform density on [0, 1]^D spends log2(levels) bits on each value.
    np.testing.assert_allclose(bits_per_dim(0.0, 784, 256), 8.0)
    # Data all in the lowest of 4 levels: density 4 there, 0 elsewhere; certain, so 0 bits.
    np.testing.assert_allclose(bits_per_dim(10 * np.log(4), 10, 4), 0.0, atol=1e-12)
    # Levels of probability 1/2, 1/4, 1/8, 1/8 as a histogram density: its entropy, 1.75 bits.
    probabilities = np.array([1 / 2, 1 / 4, 1 / 8, 1 / 8])
    log_density = np.log(probabilities * 4)
    np.testing.assert_allclose(bits_per_dim(np.sum(probabilities * log_density), 1, 4), 1.75)


def test_bits_per_dim_of_tensors():
    np.testing.assert_allclose(
        bits_per_dim(tf.constant([0.0, 10.0]), 5, 2), [1.0, 1 - 2 / np.log(2)], rtol=1e-6
    )


def test_standard_error():
    values = np.array([1.0, 2.0, 3.0, 4.0])
    np.testing.assert_allclose(standard_error(values), np.sqrt(5 / 3) / 2)


def test_on_range_is_the_density_of_the_stretched_variable():
    x = np.array([[0.2, 0.9, 0.4]])
    low, high = -1.0, 1.0
    unit = tfd.Independent(tfd.Normal([0.5, 0.1, 0.3], [0.2, 1.0, 3.0]), 1)
    stretched = tfd.Independent(
        tfd.Normal(
            low + (high - low) * np.array([0.5, 0.1, 0.3]), (high - low) * np.array([0.2, 1.0, 3.0])
        ),
        1,
    )
    expected = stretched.log_prob(low + (high - low) * x)
    np.testing.assert_allclose(
        on_range(unit.log_prob(x.astype(np.float32)), 3, low, high), expected, rtol=1e-5
    )
    # On 0..levels the density integrates over a bin to its probability: bits/dim are its negative
    # mean log2.
    nats = on_range(unit.log_prob(x.astype(np.float32)), 3, 0, 256)
    np.testing.assert_allclose(
        -nats / 3 / np.log(2), bits_per_dim(unit.log_prob(x.astype(np.float32)), 3, 256), rtol=1e-5
    )


def test_importance_weighted_bound_closes_in_on_the_probability_of_the_bin():
    """A density within a bin known in closed form: p(x) = 2 x on [0, 1], two levels, P(v = 1) =
    3/4.
    """
    generator = np.random.default_rng(0)
    exact = np.log(0.75) + np.log(2)  # in nats of x on [0, 1]: P / bin width
    bounds = []
    for draws in (1, 10, 1000):
        x = (1 + generator.random([draws, 4000])) / 2
        bounds.append(importance_weighted(np.log(2 * x)).mean())
    single = 2 * np.log(2) - 1  # the mean of log 2x over [1/2, 1]
    np.testing.assert_allclose(bounds[0], single, atol=0.01)
    assert bounds[0] < bounds[1] < bounds[2]
    np.testing.assert_allclose(bounds[2], exact, atol=1e-3)
    np.testing.assert_allclose(importance_weighted([[1.0, -2.0]]), [1.0, -2.0])


def test_an_evaluation_says_what_the_couplings_add():
    """Of integers without smoothing to speak of: histograms by hand, at the flow's own noise."""
    generator = np.random.default_rng(0)
    train = generator.integers(0, 4, [500, 6])
    train[:, 3] = (train[:, 0] + generator.integers(0, 2, 500)) % 4
    test = train[:200]
    flow = nice_tf.build_flow([6], hidden_units=(5,), marginals="quantile", levels=4, seed=3)
    nice_tf.initialize_from_data(flow, nice_tf.dequantize(train, 4, seed=[0, 1]))
    for layer in nice_tf.layers(flow):
        if isinstance(layer, nice_tf.AdditiveCoupling):
            randomize(layer.conditioner, deviation=0.4)
    config = nice_tf.Config(marginals="quantile", num_draws=3, batch_size=64)
    result = likelihood.evaluate(
        flow, test, levels=4, config=config, split="test", dataset="four", epoch=1
    )
    shares = np.stack([(train == level).mean(axis=0) for level in range(4)])
    by_hand = np.log(4 * np.take_along_axis(shares, test, axis=0)).sum(axis=1)
    found = result["marginals"]
    assert found["log_prob"] == pytest.approx(by_hand.mean(), abs=0.01)
    assert found["gain"] == pytest.approx(result["log_prob"] - found["log_prob"], abs=1e-4)
    assert abs(found["gain"]) > 0.05 and found["gain_std_error"] > 0
    rows = {row[0]: row for row in ledger.ledger(result)}
    assert rows["couplings add"][1] == found["gain"]
    assert ("independent coordinates are as good" in rows["couplings add"][3]) == (
        found["gain"] < 2 * found["gain_std_error"]
    )
    plain = nice_tf.build_flow([6], hidden_units=(5,))
    without = likelihood.evaluate(
        plain, test, levels=4, config=nice_tf.Config(), split="test", dataset="four", epoch=1
    )
    assert "marginals" not in without
