import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
from flows import random_flow, random_points

import nice_tf
from nice_tf.flows.analysis import linear_precision

tfb, tfd = tfp.bijectors, tfp.distributions


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


def test_effective_dimension_of_a_known_spectrum():
    sigma = np.array([1.0, 3.0, 0.0, 2.0])  # squares 9, 4, 1, 0 of 14
    shares = {9 / 14: 1, 9.01 / 14: 2, 13 / 14: 2, 13.1 / 14: 3, 1.0: 3}
    assert {share: nice_tf.effective_dimension(sigma, share) for share in shares} == shares
    assert nice_tf.effective_dimension(np.ones(100)) == 99
    with pytest.raises(nice_tf.UserError, match="share must be above 0 and at most 1, got 0"):
        nice_tf.effective_dimension(sigma, 0)


def test_reconstruction_keeps_the_largest_coordinates():
    flow = random_flow([2, 3])
    x = nice_tf.sample(flow, 5, seed=tf.constant([0, 1]))
    np.testing.assert_allclose(nice_tf.reconstruct(flow, x, 6), x, atol=1e-9)
    z = nice_tf.encoder(flow).forward(tf.identity(nice_tf.reconstruct(flow, x, 2))).numpy()
    largest = set(np.argsort(-nice_tf.inverse_scales(flow).numpy())[:2])
    assert {d for d in range(6) if np.abs(z[:, d]).max() > 1e-9} == largest
    with pytest.raises(nice_tf.UserError, match="num_coordinates must be from 0 to 6, got 7"):
        nice_tf.reconstruct(flow, x, 7)


@pytest.mark.parametrize("kind", ["linear", "spherical"])
def test_interpolation(kind):
    flow = random_flow([4])
    ends = nice_tf.sample(flow, 2, seed=tf.constant([0, 1]))
    path = nice_tf.interpolate(flow, ends[0], ends[1], 5, kind=kind)
    np.testing.assert_allclose(tf.gather(path, [0, 4]), ends, atol=1e-9)
    codes = nice_tf.encoder(flow).forward(tf.identity(path)).numpy()
    steps = np.diff(codes, axis=0)
    if kind == "linear":
        np.testing.assert_allclose(steps, np.tile(steps[:1], [4, 1]), atol=1e-9)
        return
    # On an arc between codes made equally long, all are as long, and as far apart.
    z = codes / np.linalg.norm(codes, axis=1, keepdims=True)
    equal = nice_tf.encoder(flow).inverse(tf.constant(z[[0, -1]]))
    arc = (
        nice_tf.encoder(flow)
        .forward(tf.identity(nice_tf.interpolate(flow, *equal, 5, kind="spherical")))
        .numpy()
    )
    np.testing.assert_allclose(np.linalg.norm(arc, axis=1), np.ones(5), rtol=1e-9)
    lengths = np.linalg.norm(np.diff(arc, axis=0), axis=1)
    np.testing.assert_allclose(lengths, np.full(4, lengths[0]), rtol=1e-9)
    same = nice_tf.interpolate(flow, ends[0], ends[0], 3, kind=kind)
    np.testing.assert_allclose(same, tf.stack([ends[0]] * 3), atol=1e-9)


@pytest.mark.parametrize("dimension", [2, 3])
def test_sphere(dimension):
    z = nice_tf.sphere_codes(50, radius=3.0, num_rows=4, num_columns=6, dimension=dimension, seed=1)
    assert z.shape == (4, 6, 50)
    np.testing.assert_allclose(np.linalg.norm(z, axis=-1), np.full([4, 6], 3.0), rtol=1e-5)
    assert np.linalg.matrix_rank(z.reshape(24, 50), tol=1e-4) == dimension + 1
    assert len(np.unique(z.reshape(24, 50).round(4), axis=0)) == 24
    closed = np.linalg.norm(
        np.roll(z, -1, axis=1) - z, axis=-1
    )  # once round: all steps of a row alike
    np.testing.assert_allclose(closed, np.tile(closed[:, :1], [1, 6]), rtol=1e-4)
    with pytest.raises(nice_tf.UserError, match="dimension must be 2 or 3 and below D = 2, got 2"):
        nice_tf.sphere_codes(2, radius=1.0, num_rows=2, num_columns=2, dimension=2, seed=0)


def test_bad_interpolations():
    flow, x = random_flow([4]), random_points(4)
    with pytest.raises(nice_tf.UserError, match="kind must be one of linear, spherical, got 'x'"):
        nice_tf.interpolate(flow, x, x, 5, kind="x")
    with pytest.raises(nice_tf.UserError, match="num_steps must be at least 2, got 1"):
        nice_tf.interpolate(flow, x, x, 1)


def test_a_layer_is_no_flow():
    for ask in (nice_tf.inverse_scales, nice_tf.encoder, nice_tf.conditional_scales):
        with pytest.raises(
            nice_tf.UserError, match="a flow as build_flow makes it is needed, got DiagonalScaling"
        ):
            ask(nice_tf.DiagonalScaling(2))


def of_matrices(*found, prior="gaussian"):
    """A flow of linear layers alone in float64."""
    if prior == "gaussian":
        prior = nice_tf.gaussian_prior(2, dtype=tf.float64)
    return nice_tf.flow_from_layers(found, prior, 2)


TRIANGLE = np.array([[1.0, 0.0], [2.0, 1.0]])


def test_a_scaling_counts_in_its_place_before_a_matrix():
    """P = W^T W of the whole matrix W of x -> z."""
    scaling = nice_tf.DiagonalScaling(2, log_scale=tf.constant([0.0, 3.0], tf.float64))
    triangle = tfb.ScaleMatvecTriL(TRIANGLE)
    for found in ([scaling, triangle], [triangle, scaling], [triangle, scaling, triangle]):
        flow = of_matrices(*found)
        matrix = np.asarray(nice_tf.encoder(flow).forward(np.eye(2))).T
        precision = matrix.T @ matrix
        np.testing.assert_allclose(linear_precision(flow), precision, rtol=1e-10)
        expected = 1 / np.sqrt(np.diag(precision))
        np.testing.assert_allclose(nice_tf.conditional_scales(flow), expected, rtol=1e-10)
