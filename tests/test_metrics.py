import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

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
