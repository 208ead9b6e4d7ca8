"""Filling in flows of a user's own: correlated priors, bounded support, no number that is none."""

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

import nice_tf
from nice_tf.flows.analysis import linear_precision

tfb, tfd = tfp.bijectors, tfp.distributions

RHO = 0.99
COVARIANCE = np.array([[1.0, RHO], [RHO, 1.0]])
FACTOR = np.linalg.cholesky(COVARIANCE)
SEED = tf.zeros([1, 2], tf.int32)


def fill(flow, x, observed, **kwargs):
    x = tf.constant([x], tf.float64)
    return nice_tf.inpaint(flow, x, tf.constant([observed]), seed=SEED, **kwargs)


def correlated(loc=(0.0, 0.0)):
    return tfd.MultivariateNormalTriL(tf.constant(loc, tf.float64), FACTOR)


def test_scales_by_the_covariance_of_the_prior():
    """The deviation given the other is sqrt(1 - rho^2)."""
    flow = nice_tf.flow_from_layers([], correlated(), 2)
    expected = np.full(2, np.sqrt(1 - RHO**2))
    np.testing.assert_allclose(nice_tf.conditional_scales(flow), expected, rtol=1e-9)
    matrix = np.array([[1.0, 0.0], [2.0, 3.0]])
    flow = nice_tf.flow_from_layers([tfb.ScaleMatvecTriL(matrix)], correlated(), 2)
    precision = matrix.T @ np.linalg.inv(COVARIANCE) @ matrix
    np.testing.assert_allclose(linear_precision(flow), precision, rtol=1e-9)
    expected = 1 / np.sqrt(np.diag(precision))
    np.testing.assert_allclose(nice_tf.conditional_scales(flow), expected, rtol=1e-9)


@pytest.mark.parametrize("num_steps", [1, 100])
def test_a_correlated_prior_fills_the_conditional_mean(num_steps):
    flow = nice_tf.flow_from_layers([], correlated(), 2)
    filled, log_prob = fill(flow, [1.0, 7.0], [True, False], num_steps=num_steps)
    np.testing.assert_allclose(filled, [[1.0, RHO]], rtol=1e-9)
    np.testing.assert_allclose(log_prob, flow.log_prob(filled + 0.0))
    away = nice_tf.flow_from_layers([], correlated([3.0, -2.0]), 2)
    filled, _ = fill(away, [4.0, 7.0], [True, False], num_steps=num_steps)
    np.testing.assert_allclose(filled, [[4.0, -2.0 + RHO]], rtol=1e-9)


def test_one_mask_is_for_all_examples():
    flow = nice_tf.flow_from_layers([], correlated(), 2)
    x = tf.constant([[1.0, 7.0], [2.0, 7.0]], tf.float64)
    seed = tf.zeros([2, 2], tf.int32)
    filled, _ = nice_tf.inpaint(flow, x, [True, False], seed=seed, num_steps=1)
    np.testing.assert_allclose(filled, [[1.0, RHO], [2.0, 2 * RHO]], rtol=1e-9)


@pytest.mark.parametrize("is_one_mask", [True, False])
def test_many_values_start_at_their_conditional_mean(is_one_mask):
    """More than are solved at once for all examples, whether these hide the same or not."""
    size = 600
    place = np.arange(size)
    covariance = 0.9 ** np.abs(place[:, np.newaxis] - place)
    prior = tfd.MultivariateNormalTriL(tf.zeros(size, tf.float64), np.linalg.cholesky(covariance))
    flow = nice_tf.flow_from_layers([], prior, size)
    generator = np.random.default_rng(0)
    x = generator.normal(size=[2, size]) @ np.linalg.cholesky(covariance).T
    observed = np.tile(generator.random(size) < 0.5, [2, 1])
    if not is_one_mask:
        observed[1] = ~observed[0]
    expected = x.copy()
    for row, known in enumerate(observed):
        of_known = np.linalg.solve(covariance[known][:, known], x[row, known])
        expected[row, ~known] = covariance[~known][:, known] @ of_known
    filled, _ = nice_tf.inpaint(
        flow, tf.constant(x), observed, seed=tf.zeros([2, 2], tf.int32), num_steps=1
    )
    np.testing.assert_allclose(filled, expected, atol=1e-4)


def test_steps_that_overshoot_are_halved():
    """Two narrow ridges that cross: by their covariance together the steps would grow for ever."""
    mirrored = FACTOR * np.array([[1.0, 1.0], [-1.0, 1.0]])
    prior = tfd.MixtureSameFamily(
        tfd.Categorical(probs=tf.constant([0.6, 0.4], tf.float64)),
        tfd.MultivariateNormalTriL(np.zeros([2, 2]), np.stack([FACTOR, mirrored])),
    )
    flow = nice_tf.flow_from_layers([], prior, 2)
    filled, _ = fill(flow, [3.0, 0.0], [True, False], num_steps=300)
    np.testing.assert_allclose(filled, [[3.0, 3.0 * RHO]], rtol=1e-6)


def test_bounded_support_starts_inside():
    """Of exp(N(0, 1)) the mode is exp(-1)."""
    normal = tfd.Sample(tfd.Normal(tf.constant(0.0, tf.float64), 1.0), 3)
    flow = tfd.TransformedDistribution(normal, tfb.Exp())
    filled, log_prob = fill(flow, [2.0, 0.0, 3.0], [True, False, True])
    np.testing.assert_allclose(filled, [[2.0, np.exp(-1), 3.0]], rtol=1e-6)
    assert np.all(np.isfinite(log_prob))
    for noise in (1.0, 5.0):  # which throws some out of the support
        filled, log_prob = fill(flow, [2.0, 0.0, 3.0], [True, False, True], noise=noise)
        assert np.all(np.isfinite(filled)) and np.all(np.isfinite(log_prob))


def test_observed_values_out_of_the_support_are_refused():
    normal = tfd.Sample(tfd.Normal(tf.constant(0.0, tf.float64), 1.0), 3)
    flow = tfd.TransformedDistribution(normal, tfb.Exp())
    with pytest.raises(nice_tf.UserError, match="1 of 1 examples have no finite log-density"):
        fill(flow, [-2.0, 0.0, 3.0], [True, False, True])


def test_a_covariance_that_is_singular_is_refused():
    prior = tfd.MultivariateNormalTriL(
        tf.zeros(2, tf.float64), tf.constant([[1.0, 0.0], [1.0, 0.0]], tf.float64)
    )
    flow = nice_tf.flow_from_layers([], prior, 2)
    with pytest.raises(nice_tf.UserError, match="covariance that is not positive definite"):
        nice_tf.conditional_scales(flow)


@pytest.mark.parametrize("one_by_one", [False, True])
def test_in_a_graph_it_is_the_same(monkeypatch, one_by_one):
    if one_by_one:
        monkeypatch.setattr("nice_tf.flows.inpainting.MAX_SIZE_TO_SOLVE", 1)
    matrix = tfb.ScaleMatvecTriL(np.array([[1.0, 0.0], [2.0, 3.0]]))
    flow = nice_tf.flow_from_layers([matrix], correlated(), 2)
    x = tf.constant([[1.0, 7.0], [7.0, 2.0]], tf.float64)
    observed = tf.constant([[True, False], [False, True]])
    seed = tf.zeros([2, 2], tf.int32)

    def filled():
        return nice_tf.inpaint(flow, x, observed, seed=seed, num_steps=3)

    for found, of_eager in zip(tf.function(filled)(), filled(), strict=True):
        np.testing.assert_allclose(found, of_eager, rtol=1e-8)


@pytest.mark.slow
def test_an_export_fills_one_by_one(monkeypatch, tmp_path):
    monkeypatch.setattr("nice_tf.flows.inpainting.MAX_SIZE_TO_SOLVE", 1)
    generator = np.random.default_rng(0)
    x = (generator.normal(size=[200, 3]) @ np.triu(np.ones([3, 3]))).astype(np.float32)
    flow = nice_tf.build_flow([3], hidden_units=(8,), whitening="zca")
    nice_tf.initialize_from_data(flow, x)
    version = nice_tf.export_flow(
        flow, tmp_path / "export", validation=x, signature="inpaint", inpaint_steps=10
    )
    fill_here = tf.saved_model.load(str(version)).signatures["serving_default"]
    seed = tf.zeros([2, 2], tf.int32)
    for mask in ([[1, 0, 1], [1, 0, 1]], [[1, 0, 1], [0, 1, 0]]):
        observed = np.array(mask, bool)
        expected, _ = nice_tf.inpaint(flow, x[:2], observed, seed=seed, num_steps=10)
        answer = fill_here(x=x[:2], mask=np.float32(mask), seed=seed)
        np.testing.assert_allclose(answer["x"], expected, rtol=1e-4, atol=1e-5)
