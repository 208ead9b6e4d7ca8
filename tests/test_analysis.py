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


def test_denoise_climbs():
    flow = random_flow([2, 3], prior="gaussian")
    x = nice_tf.sample(flow, 20, seed=tf.constant([0, 1]))
    np.testing.assert_allclose(nice_tf.denoise(flow, x, num_steps=0), x, rtol=1e-12)
    little, more = (nice_tf.denoise(flow, x, num_steps=steps) for steps in (2, 20))
    values = [flow.log_prob(tf.identity(points)).numpy() for points in (x, little, more)]
    assert np.all(values[1] > values[0]) and np.all(values[2] > values[1])


def test_denoise_finds_a_mode_known_in_closed_form():
    """Without couplings a Gaussian whose mode is the mean, with scales that differ by 100."""
    flow = nice_tf.build_flow([3], prior="gaussian", hidden_units=(4,))
    data = random_points(50, 3, dtype=np.float32) * [0.1, 1.0, 10.0] + 2.0
    nice_tf.initialize_from_data(flow, data)
    mean = tf.reduce_mean(data, axis=0)
    np.testing.assert_allclose(nice_tf.denoise(flow, data), np.tile(mean, [50, 1]), atol=1e-2)
