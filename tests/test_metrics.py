import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from nice_tf.metrics import bits_per_dim, standard_error

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
    np.testing.assert_allclose(bits_per_dim(tf.constant([0.0, 10.0]), 5, 2), [1.0, 1 - 2 / np.log(2)], rtol=1e-6)


def test_standard_error():
    values = np.array([1.0, 2.0, 3.0, 4.0])
    np.testing.assert_allclose(standard_error(values), np.sqrt(5 / 3) / 2)
