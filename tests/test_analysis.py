import numpy as np
import pytest
import tensorflow as tf
from flows import random_flow, random_points

import nice_tf


@pytest.mark.parametrize("scaling", ["layer", "prior", "none"])
def test_inverse_scales_are_the_deviation_of_each_coordinate(scaling):
    flow = nice_tf.build_flow([4], scaling=scaling, prior="gaussian", hidden_units=(4,))
    if scaling == "none":
        np.testing.assert_array_equal(nice_tf.inverse_scales(flow), np.ones(4))
        return
    deviations = np.array([0.01, 1.0, 5.0, 300.0], np.float32)
    nice_tf.initialize_from_data(flow, random_points(500, 4, dtype=np.float32) * deviations)
    np.testing.assert_allclose(nice_tf.inverse_scales(flow), deviations, rtol=0.1)


def test_denoise_climbs_and_stops_at_the_mode():
    flow = random_flow([2, 3], prior="gaussian")
    x = nice_tf.sample(flow, 20, seed=tf.constant([0, 1]))
    np.testing.assert_array_equal(nice_tf.denoise(flow, x, num_steps=0), x)
    little, more = (nice_tf.denoise(flow, x, num_steps=steps) for steps in (5, 100))
    values = [flow.log_prob(tf.identity(points)).numpy() for points in (x, little, more)]
    assert np.all(values[1] > values[0]) and np.all(values[2] > values[1])


def test_denoise_never_lowers_the_density_however_long_the_step():
    flow = random_flow([6])
    x = random_points(20, 6)
    moved = nice_tf.denoise(flow, x, num_steps=10, step_size=1e6)
    assert np.all(flow.log_prob(tf.identity(moved)) >= flow.log_prob(tf.identity(x)))


def test_denoise_without_couplings_is_known_in_closed_form():
    """A Gaussian of deviation sigma: each step shrinks x - loc by the factor 1 - step_size."""
    flow = nice_tf.build_flow([3], prior="gaussian", hidden_units=(4,))
    data = random_points(50, 3, dtype=np.float32) * [0.1, 1.0, 10.0] + 2.0
    nice_tf.initialize_from_data(flow, data)
    loc = tf.reduce_mean(data, axis=0)
    moved = nice_tf.denoise(flow, data, num_steps=3, step_size=0.1)
    np.testing.assert_allclose(moved - loc, (data - loc) * 0.9**3, rtol=1e-3, atol=1e-3)
