"""Flows behind fitted marginals: they start as independent histograms."""

import numpy as np
import pytest
import tensorflow as tf
from bijector_laws import fresh, jacobian
from marginal_data import (
    NUM_LEVELS,
    fitted_to,
    fitted_to_pictures,
    pictures,
)

import nice_tf
from nice_tf.flows.inpainting import inpaint
from nice_tf.flows.marginals import marginals_alone

pytestmark = pytest.mark.usefixtures("without_denoising")


def flow_of_pictures(**settings):
    settings = {
        "hidden_units": (9, 8),
        "activation": "tanh",
        "levels": NUM_LEVELS,
        "marginals": "quantile",
        **settings,
    }
    flow = nice_tf.build_flow([2, 2, 1], dtype=tf.float64, **settings)
    nice_tf.initialize_from_data(flow, tf.constant(pictures().reshape(-1, 2, 2, 1)))
    return flow


def histograms(train, x):
    """Independent histograms with the smoothing that leaves each example out, in plain numpy."""
    number, size = train.shape
    found = np.floor(train * NUM_LEVELS).astype(int)
    counts = [np.bincount(found[:, d], minlength=NUM_LEVELS) for d in range(size)]
    best = -np.inf
    for added in (0.01, 0.03, 0.1, 0.3, 1.0):
        score = 0.0
        for row in found:
            for d in range(size):
                others = counts[d][row[d]] - 1 + added
                score += np.log(others / (number - 1 + added * NUM_LEVELS))
        if score > best:
            best = score
            chosen = added
    result = np.zeros(len(x))
    for d in range(size):
        masses = (counts[d] + chosen) / (number + chosen * NUM_LEVELS)
        result += np.log(NUM_LEVELS * masses[np.floor(x[:, d] * NUM_LEVELS).astype(int)])
    return result


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"prior": "gaussian"},
        {"conditioner_input": "values", "partition": "nested", "num_couplings": 2},
        {"scaling": "prior", "output_scale": "one"},
        {"scaling": "none"},
        {"marginals": "trained"},
    ],
)
def test_before_training_a_flow_is_independent_histograms(settings):
    flow = flow_of_pictures(**settings)
    x = pictures(300, seed=5)
    expected = histograms(pictures(), x)
    found = flow.log_prob(x.reshape(-1, 2, 2, 1)).numpy()
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)
    assert np.ptp(expected) > 3


@pytest.mark.parametrize("prior", ["logistic", "gaussian"])
def test_samples_of_levels_lie_in_range(prior):
    settings = {"zero_last_layer": False, "init_range": 0.3, "conditioner_input": "values"}
    flow = flow_of_pictures(prior=prior, **settings)
    x = nice_tf.sample(flow, 20_000, seed=[0, 1]).numpy()
    assert x.min() >= 0 and x.max() <= 1
    untrained = flow_of_pictures(prior=prior)
    x = nice_tf.sample(untrained, 20_000, seed=[0, 1]).numpy().reshape(-1, 4)
    for d in range(4):
        counts = np.bincount(np.floor(x[:, d] * NUM_LEVELS).astype(int), minlength=NUM_LEVELS)
        expected = np.bincount(
            np.floor(pictures()[:, d] * NUM_LEVELS).astype(int), minlength=NUM_LEVELS
        )
        np.testing.assert_allclose(counts / 20_000, expected / 500, atol=0.02)


@pytest.mark.parametrize("marginals", ["quantile", "trained"])
@pytest.mark.parametrize("conditioner_input", ["mapped", "values"])
@pytest.mark.parametrize("prior", ["logistic", "gaussian"])
def test_change_of_variables_of_a_flow(prior, conditioner_input, marginals):
    """Log p is the prior's at z and the determinant of the Jacobian, with weights of size 1."""
    flow = flow_of_pictures(
        prior=prior,
        conditioner_input=conditioner_input,
        zero_last_layer=False,
        marginals=marginals,
    )
    generator = np.random.default_rng(0)
    for variable in flow.trainable_variables:
        variable.assign(generator.normal(0.0, 0.5, variable.shape))
    x = pictures(3, seed=8)
    encoder = nice_tf.encoder(flow)
    for point in x:
        found = jacobian(lambda h: encoder.forward(tf.reshape(h, [-1, 2, 2, 1])), point)
        z = encoder.forward(point.reshape(1, 2, 2, 1))
        expected = flow.distribution.log_prob(z)[0] + np.linalg.slogdet(found)[1]
        np.testing.assert_allclose(flow.log_prob(point.reshape(2, 2, 1)), expected, rtol=1e-8)
        np.testing.assert_allclose(tf.reshape(encoder.inverse(fresh(z)), [-1]), point, atol=1e-7)


def test_the_baseline_of_trained_marginals_is_the_fitted_ones():
    """What the couplings add is counted from histograms, whatever training made of the bins."""
    flow = flow_of_pictures(marginals="trained")
    x = pictures(50, seed=5)
    offsets = nice_tf.layers(flow)[1].trainable_variables[0]
    offsets.assign(np.random.default_rng(0).normal(size=offsets.shape))
    shaped = x.reshape(-1, 2, 2, 1)
    expected = histograms(pictures(), x)
    np.testing.assert_allclose(marginals_alone(flow).log_prob(shaped), expected, atol=1e-6)
    assert np.abs(np.mean(flow.log_prob(shaped) - expected)) > 0.1


def test_m_sees_values():
    """Those of the data, less their mean and in deviations: in pictures one for all."""
    x = pictures()
    layer = fitted_to_pictures()
    seen = layer.standardized_values(layer.forward(tf.constant(x)), np.arange(4))
    expected = (x - x.mean(axis=0)) / np.sqrt(np.mean(x.var(axis=0)))
    np.testing.assert_allclose(seen, expected, atol=1e-6)
    columns, x = fitted_to(["gamma", "normal", "cauchy"])
    z = columns.forward(tf.constant(x)).numpy()[:, [2, 0]]
    seen = columns.standardized_values(tf.constant(z), np.array([2, 0]))
    expected = ((x - x.mean(axis=0)) / x.std(axis=0))[:, [2, 0]]
    np.testing.assert_allclose(seen, expected, atol=1e-6)


@pytest.mark.parametrize("marginals", ["quantile", "trained"])
def test_a_frozen_flow_and_its_saved_model_are_the_flow(tmp_path, marginals):
    flow = flow_of_pictures(
        conditioner_input="values",
        partition="nested",
        num_couplings=2,
        zero_last_layer=False,
        marginals=marginals,
    )
    generator = np.random.default_rng(0)
    for variable in flow.trainable_variables:
        variable.assign_add(generator.normal(0.0, 0.3, variable.shape))
    x = pictures(20, seed=3).reshape(-1, 2, 2, 1)
    expected = flow.log_prob(x).numpy()
    frozen = nice_tf.freeze(flow)
    np.testing.assert_allclose(frozen.log_prob(x), expected, rtol=1e-9)
    module = tf.Module()
    module.flow = frozen
    module.log_prob = tf.function(
        frozen.log_prob, input_signature=[tf.TensorSpec([None, 2, 2, 1], tf.float64)]
    )
    tf.saved_model.save(module, str(tmp_path))
    loaded = tf.saved_model.load(str(tmp_path))
    np.testing.assert_allclose(loaded.log_prob(x), expected, rtol=1e-9)


def test_inpainting_keeps_what_is_known_and_stays_in_range():
    flow = flow_of_pictures(zero_last_layer=False, conditioner_input="values")
    x = pictures(6, seed=4).reshape(-1, 2, 2, 1)
    observed = np.ones_like(x, bool)
    observed[:, 1] = False
    seed = tf.zeros([6, 2], tf.int32)
    hidden = np.where(observed, x, 0.999)
    filled, log_prob = inpaint(
        flow, hidden, observed, seed=seed, num_steps=5, noise=1.0, bounds=(0.0, 1.0)
    )
    np.testing.assert_array_equal(filled.numpy()[observed], x[observed])
    assert np.all(filled >= 0) and np.all(filled <= 1)
    np.testing.assert_allclose(log_prob, flow.log_prob(fresh(filled)), rtol=1e-9)
