"""The mixture prior in several clusters: coordinates that depend on each other."""

import numpy as np
import pytest
import scipy.stats
import tensorflow as tf
from bijector_laws import fresh
from flows import random_flow, random_points, randomize

import nice_tf
from nice_tf.flows import priors
from nice_tf.flows.mixtures import picture_patches
from nice_tf.runs import architecture


def random_prior(size=3, deviation=1.0):
    """Three clusters, of different weights."""
    prior = nice_tf.logistic_mixture_prior(size, num_components=2, num_clusters=3, dtype=tf.float64)
    return randomize(prior, 0, deviation)


def softmax(logits):
    weights = np.exp(logits)
    return weights / weights.sum(axis=-1, keepdims=True)


def parts(prior):
    """The numbers of the docstring's formula: v, w, loc and scale."""
    by_name = {variable.name: variable.numpy() for variable in prior.trainable_variables}
    assert sorted(by_name) == ["cluster_logits:0", "loc:0", "log_scale:0", "logits:0"]
    scale = 0.001 + np.exp(by_name["log_scale:0"])
    clusters = softmax(by_name["cluster_logits:0"])
    return clusters, softmax(by_name["logits:0"]), by_name["loc:0"], scale


def each_cluster(prior, z, function):
    """A function of a logistic, mixed in each cluster: `[N, J, D]`."""
    _, weights, loc, scale = parts(prior)
    values = function(z[..., np.newaxis], loc, scale)
    return np.sum(weights * values[:, np.newaxis], axis=-1)


def test_log_prob_against_scipy():
    prior = random_prior()
    z = 4 * random_points(9, 3).numpy()
    density = each_cluster(prior, z, scipy.stats.logistic.pdf).prod(axis=-1)
    expected = np.log(density @ parts(prior)[0])
    np.testing.assert_allclose(prior.log_prob(z), expected, rtol=1e-10)
    assert prior.event_shape == [3] and prior.batch_shape == []
    batches = prior.log_prob(z.reshape(3, 3, 3))
    np.testing.assert_allclose(batches, expected.reshape(3, 3), rtol=1e-10)
    np.testing.assert_allclose(prior.log_prob(z[0]), expected[0], rtol=1e-10)


def test_rows_far_outside_stay_finite_and_ordered():
    """In float32, where the densities of all logistics but one are 0 there."""
    prior = nice_tf.logistic_mixture_prior(2, num_components=4, num_clusters=3)
    by_name = {variable.name: variable for variable in prior.trainable_variables}
    by_name["log_scale:0"].assign(np.log([[1, 0.01, 0.001, 0.01]] * 2))
    by_name["logits:0"].assign(10 * np.random.default_rng(0).normal(size=[3, 2, 4]))
    z = np.array([[1, 1], [30, 1], [300, 1], [300, 300], [1e4, 1e4]], np.float32)
    log_prob = prior.log_prob(z).numpy()
    assert np.all(np.isfinite(log_prob)) and np.all(np.diff(log_prob) < 0)
    exact = np.log(
        each_cluster(prior, z[:1].astype(np.float64), scipy.stats.logistic.pdf).prod(axis=-1)
        @ parts(prior)[0]
    )
    np.testing.assert_allclose(log_prob[:1], exact, rtol=1e-5)


def test_it_integrates_to_one():
    prior = random_prior(size=2)
    axis = np.linspace(-80, 80, 2001)
    grid = np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1).reshape(-1, 2)
    log_prob = tf.function(prior.log_prob)
    total = sum(np.exp(log_prob(tf.constant(part))).sum() for part in np.array_split(grid, 16))
    np.testing.assert_allclose(total * (axis[1] - axis[0]) ** 2, 1.0, atol=1e-4)


def rosenblatt(prior, z):
    """P(Z_d <= z_d | z_1 .. z_(d-1)) of each coordinate: independent and uniform of true draws."""
    weights = np.broadcast_to(parts(prior)[0], [len(z), 3])
    below = each_cluster(prior, z, scipy.stats.logistic.cdf)
    density = each_cluster(prior, z, scipy.stats.logistic.pdf)
    probabilities = []
    for d in range(z.shape[1]):
        probabilities.append(np.sum(weights * below[..., d], axis=-1))
        weights = weights * density[..., d]
        weights = weights / weights.sum(axis=-1, keepdims=True)
    return np.stack(probabilities, axis=-1)


def smallest_pvalue(probabilities):
    return min(scipy.stats.kstest(column, "uniform").pvalue for column in probabilities.T)


def test_samples_follow_the_density():
    """Of TensorFlow Probability, and of uniform numbers, as the export draws them."""
    prior = random_prior(deviation=2.0)
    number = 20_000
    assert priors.num_uniforms(prior) == 7
    uniforms = np.random.default_rng(0).random([number, 7])
    for z in (prior.sample(number, seed=[1, 2]), priors.codes_from_uniforms(prior, uniforms)):
        z = z.numpy()
        probabilities = rosenblatt(prior, z)
        assert smallest_pvalue(probabilities) > 1e-4
        assert np.abs(np.corrcoef(probabilities, rowvar=False) - np.eye(3)).max() < 0.04
        # The same coordinates drawn without each other would be found.
        shuffled = np.stack([np.roll(column, k) for k, column in enumerate(z.T)], axis=-1)
        assert smallest_pvalue(rosenblatt(prior, shuffled)) < 1e-4


def test_a_weight_that_underflows_in_one_cluster():
    prior = nice_tf.logistic_mixture_prior(1, num_components=2, num_clusters=2)
    by_name = {variable.name: variable for variable in prior.trainable_variables}
    by_name["log_scale:0"].assign(np.log([[1e-3, 1.0]]))
    by_name["loc:0"].assign([[0.5, 0.0]])
    by_name["logits:0"].assign([[[0, -120]], [[-120, 0]]])
    with tf.GradientTape() as tape:
        log_prob = tf.reduce_sum(prior.log_prob([[0.5], [20.0]]))
    assert np.isfinite(log_prob)
    for gradient in tape.gradient(log_prob, prior.trainable_variables):
        assert np.all(np.isfinite(gradient))


def test_mean_and_deviation():
    prior = random_prior(deviation=2.0)
    clusters, weights, loc, scale = parts(prior)
    shares = np.sum(clusters[:, np.newaxis, np.newaxis] * weights, axis=0)
    mean = np.sum(shares * loc, axis=-1)
    square = np.sum(shares * (loc**2 + scale**2 * np.pi**2 / 3), axis=-1)
    np.testing.assert_allclose(prior.mean(), mean, rtol=1e-10)
    np.testing.assert_allclose(prior.stddev(), np.sqrt(square - mean**2), rtol=1e-10)


def test_gradients_of_all_variables():
    prior = random_prior()
    z = 3 * random_points(6, 3)
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(tf.sin(prior.log_prob(z)))
    for gradient in tape.gradient(total, prior.trainable_variables):
        assert np.all(gradient != 0)


def test_clusters_start_apart_near_the_logistic():
    prior = nice_tf.logistic_mixture_prior(2, num_clusters=16, dtype=tf.float64)
    assert np.unique(parts(prior)[1][:, 0, 0]).size == 16
    axis = np.linspace(-30, 30, 151)
    grid = np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1).reshape(-1, 2)
    logistic = scipy.stats.logistic.logpdf(grid).sum(axis=-1)
    ratio = logistic - prior.log_prob(grid).numpy()
    divergence = np.sum(np.exp(logistic) * ratio) * (axis[1] - axis[0]) ** 2
    assert 0 < divergence < 0.02
    np.testing.assert_allclose(prior.stddev(), np.full(2, np.pi / np.sqrt(3)), rtol=0.05)
    other = nice_tf.logistic_mixture_prior(2, num_clusters=16, dtype=tf.float64, seed=2)
    assert not np.allclose(prior.mean(), other.mean())


def test_the_spread_of_a_value_can_depend_on_the_others():
    """What no additive flow with independent codes has: the reason for the clusters."""
    prior = nice_tf.logistic_mixture_prior(2, num_components=2, num_clusters=2, dtype=tf.float64)
    by_name = {variable.name: variable for variable in prior.trainable_variables}
    by_name["loc:0"].assign(np.array([[-5, 5], [0, 0]], float))
    by_name["log_scale:0"].assign(np.log([[1, 1], [0.1, 3]]))
    by_name["logits:0"].assign(np.array([[[9, -9], [9, -9]], [[-9, 9], [-9, 9]]], float))
    z = prior.sample(20_000, seed=[0, 1]).numpy()
    narrow = z[z[:, 0] < -6, 1].std()
    wide = z[z[:, 0] > 6, 1].std()
    np.testing.assert_allclose([narrow, wide], [0.101 * 1.8138, 3.001 * 1.8138], rtol=0.05)


def test_a_flow_integrates_to_one_and_its_scales_are_those_of_all_clusters():
    flow = random_flow([2], prior="logistic_mixture", prior_components=2, prior_clusters=3)
    axis = np.linspace(-60, 60, 1201)
    grid = np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1).reshape(-1, 2)
    log_prob = tf.function(flow.log_prob)
    total = sum(np.exp(log_prob(tf.constant(part))).sum() for part in np.array_split(grid, 8))
    np.testing.assert_allclose(total * (axis[1] - axis[0]) ** 2, 1.0, atol=1e-3)
    x = nice_tf.sample(flow, 20, seed=tf.constant([0, 1]))
    frozen = nice_tf.freeze(flow)
    np.testing.assert_allclose(frozen.log_prob(fresh(x)), flow.log_prob(fresh(x)), rtol=1e-10)
    expected = flow.distribution.stddev() * np.sqrt(3) / np.pi
    for layer in nice_tf.layers(flow):
        if isinstance(layer, nice_tf.DiagonalScaling):
            expected *= tf.exp(-layer.log_scale)
    np.testing.assert_allclose(nice_tf.inverse_scales(flow), expected, rtol=1e-10)


GROUPS = [0, 1, 0, 1]


def grouped_prior():
    """Two groups of two coordinates, that lie between each other, and three clusters in each."""
    prior = nice_tf.logistic_mixture_prior(
        4, num_components=2, num_clusters=3, groups=GROUPS, dtype=tf.float64
    )
    return randomize(prior, 0, 2.0)


def parts_of_group(prior, group):
    """Shares, weights, locations and scales of a group, as of a prior of its coordinates alone."""
    clusters, weights, loc, scale = parts(prior)
    return clusters[group], weights, loc, scale


def in_clusters(numbers, z, function):
    """A function of a logistic, mixed in each cluster, of the coordinates of a group: `[N, J, 2]`."""
    _, weights, loc, scale = numbers
    values = function(z[..., np.newaxis], loc, scale)
    return np.sum(weights * values[:, np.newaxis], axis=-1)


def test_groups_have_clusters_of_their_own():
    prior = grouped_prior()
    z = 4 * random_points(9, 4).numpy()
    expected = np.zeros(9)
    for group in (0, 1):
        numbers = parts_of_group(prior, group)
        density = in_clusters(numbers, z[:, group::2], scipy.stats.logistic.pdf).prod(axis=-1)
        expected += np.log(density @ numbers[0])
    np.testing.assert_allclose(prior.log_prob(z), expected, rtol=1e-10)
    np.testing.assert_allclose(prior.log_prob(z[0]), expected[0], rtol=1e-10)
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(tf.sin(prior.log_prob(z)))
    for gradient in tape.gradient(total, prior.trainable_variables):
        assert np.all(gradient != 0)


def test_mean_and_deviation_of_groups():
    prior = grouped_prior()
    for group in (0, 1):
        clusters, weights, loc, scale = parts_of_group(prior, group)
        shares = np.sum(clusters[:, np.newaxis, np.newaxis] * weights, axis=0)
        mean = np.sum(shares * loc, axis=-1)
        square = np.sum(shares * (loc**2 + scale**2 * np.pi**2 / 3), axis=-1)
        np.testing.assert_allclose(prior.mean()[group::2], mean, rtol=1e-10)
        deviation = np.sqrt(square - mean**2)
        np.testing.assert_allclose(prior.stddev()[group::2], deviation, rtol=1e-10)


def test_samples_of_groups_follow_the_density():
    prior = grouped_prior()
    number = 20_000
    assert priors.num_uniforms(prior) == 10
    uniforms = np.random.default_rng(0).random([number, 10])
    for z in (prior.sample(number, seed=[1, 2]), priors.codes_from_uniforms(prior, uniforms)):
        probabilities = []
        for group in (0, 1):
            numbers = parts_of_group(prior, group)
            of_group = z.numpy()[:, group::2]
            below = in_clusters(numbers, of_group, scipy.stats.logistic.cdf)
            density = in_clusters(numbers, of_group, scipy.stats.logistic.pdf)
            weights = numbers[0] * density[..., 0]
            weights /= weights.sum(axis=-1, keepdims=True)
            probabilities.append(below[..., 0] @ numbers[0])
            probabilities.append(np.sum(weights * below[..., 1], axis=-1))
        probabilities = np.stack(probabilities, axis=-1)
        assert smallest_pvalue(probabilities) > 1e-4
        assert np.abs(np.corrcoef(probabilities, rowvar=False) - np.eye(4)).max() < 0.04


def test_clusters_of_groups_start_from_narrow_to_wide():
    prior = nice_tf.logistic_mixture_prior(4, num_clusters=3, groups=GROUPS, dtype=tf.float64)
    _, weights, loc, scale = parts(prior)
    variance = np.sum(weights * (loc**2 + scale**2 * np.pi**2 / 3), axis=-1)
    assert np.all(np.diff(variance, axis=0) > 0)
    np.testing.assert_allclose(prior.stddev(), np.full(4, np.pi / np.sqrt(3)), rtol=0.2)


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ([0, 1], r"groups must be integers of shape \[4\], .* got int64 of shape \[2\]"),
        ([0.0, 1.0, 0.0, 1.0], "got float64 of shape"),
        ([0, 2, 0, 2], "groups must be numbered from 0 on without a gap, got 0 to 2, 2 in all"),
        ([0, 1, 1, 1], "groups must be of one size, got some of 1 and of 3"),
    ],
)
def test_bad_groups(groups, message):
    with pytest.raises(nice_tf.UserError, match=message):
        nice_tf.logistic_mixture_prior(4, num_clusters=2, groups=groups)
    with pytest.raises(nice_tf.UserError, match="groups are for several clusters"):
        nice_tf.logistic_mixture_prior(4, groups=GROUPS)


def test_patches_of_pictures():
    expected = [[0, 0, 1, 1], [0, 0, 1, 1], [2, 2, 3, 3], [2, 2, 3, 3]]
    found = picture_patches([4, 4, 3], 2).reshape(4, 4, 3)
    for channel in range(3):
        np.testing.assert_array_equal(found[..., channel], expected)
    with pytest.raises(
        nice_tf.UserError, match="prior_patch must divide height and width, got 3 for 4 x 4"
    ):
        picture_patches([4, 4, 1], 3)
    with pytest.raises(nice_tf.UserError, match=r"prior_patch is for pictures .* \[16\]"):
        picture_patches([16], 2)
    with pytest.raises(nice_tf.UserError, match="prior_patch is for several prior_clusters, got 2"):
        nice_tf.build_flow([4, 4, 1], prior="logistic_mixture", prior_patch=2)


def test_a_flow_of_patches_is_counted_frozen_and_served():
    config = nice_tf.Config(
        num_couplings=3,
        hidden_units=(5,),
        prior="logistic_mixture",
        prior_components=3,
        prior_clusters=2,
        prior_patch=2,
    )
    flow = architecture.make_flow(config, [4, 4, 1])
    number = sum(int(np.prod(variable.shape)) for variable in flow.trainable_variables)
    assert architecture.count_parameters(config, [4, 4, 1]) == number
    randomize(flow)
    x = random_points(9, 4, 4, 1, dtype=np.float32)
    expected = flow.log_prob(x)
    np.testing.assert_allclose(nice_tf.freeze(flow).log_prob(x), expected, rtol=1e-4)
    server = nice_tf.FlowServer(flow, levels=None, validation_log_probs=expected)
    seeds = tf.constant([[0, 1], [2, 3]])
    drawn = server.sample(seed=seeds, temperature=tf.ones(2))
    np.testing.assert_allclose(drawn["log_prob"], flow.log_prob(drawn["x"]), rtol=1e-3)
    alone = server.sample(seed=seeds[1:], temperature=tf.ones(1))
    np.testing.assert_allclose(alone["x"][0], drawn["x"][1], rtol=1e-4, atol=1e-4)
