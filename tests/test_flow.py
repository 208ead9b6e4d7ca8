import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
from bijector_laws import check_laws, fresh, jacobian
from flows import random_flow, random_points, randomize

import nice_tf
from nice_tf.bijectors.coupling import (
    check_mixing,
    coupling_splits,
    num_cut_off,
    size_of_half,
)

tfb, tfd = tfp.bijectors, tfp.distributions


def num_parameters(module):
    return sum(int(np.prod(variable.shape)) for variable in module.trainable_variables)


@pytest.mark.parametrize("partition", ["interleaved", "halves"])
@pytest.mark.parametrize("mixing", ["swap", "shuffle", "reverse"])
@pytest.mark.parametrize("event_size", [2, 5, 6])
def test_encoder_laws(partition, mixing, event_size):
    flow = random_flow(
        [event_size], partition=partition, mixing=mixing, allow_incomplete_mixing=True
    )
    check_laws(nice_tf.encoder(flow), random_points(4, event_size), atol=1e-11)


@hypothesis.settings(max_examples=25, deadline=None)
@hypothesis.given(
    event_size=st.integers(2, 12),
    partition=st.sampled_from(["interleaved", "halves"]),
    mixing=st.sampled_from(["swap", "reverse", "shuffle"]),
    num_couplings=st.integers(1, 6),
    scaling=st.sampled_from(["layer", "prior", "none"]),
    seed=st.integers(0, 1000),
)
def test_log_prob_is_change_of_variables(
    event_size, partition, mixing, num_couplings, scaling, seed
):
    """log p(x) = log p_Z(z) + log |det dz/dx|, with the Jacobian from automatic differentiation."""
    flow = random_flow(
        [event_size],
        seed,
        partition=partition,
        mixing=mixing,
        num_couplings=num_couplings,
        scaling=scaling,
        allow_incomplete_mixing=True,
    )
    x = random_points(event_size, seed=seed)
    encoder = nice_tf.encoder(flow)
    expected = (
        flow.distribution.log_prob(encoder.forward(fresh(x)))
        + np.linalg.slogdet(jacobian(encoder.forward, x))[1]
    )
    np.testing.assert_allclose(flow.log_prob(fresh(x)), expected, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(
        flow.bijector.forward(fresh(encoder.forward(fresh(x)))), x, atol=1e-8
    )


def mask(splits):
    """Which z_i can depend on which x_j, `[D, D]`: followed pair by pair, coupling by coupling."""
    event_size = len(splits[0].order)
    reached = np.eye(event_size, dtype=bool)
    for split in splits:
        order = split.order
        size = size_of_half(event_size, split.passthrough)
        passed = order[:size] if split.passthrough == "first" else order[-size:]
        shifted = np.setdiff1d(order, passed)
        reached[shifted] |= reached[passed].any(axis=0)
    return reached


@hypothesis.settings(max_examples=200, deadline=None)
@hypothesis.given(
    event_size=st.integers(2, 9),
    partition=st.sampled_from(["interleaved", "halves"]),
    mixing=st.sampled_from(["swap", "reverse", "shuffle"]),
    num_couplings=st.integers(1, 5),
)
def test_refuses_exactly_the_flows_that_leave_pairs_cut_off(
    event_size, partition, mixing, num_couplings
):
    splits = coupling_splits([event_size], num_couplings, partition=partition, mixing=mixing)
    number = np.sum(~mask(splits))
    assert num_cut_off(splits) == number
    if number:
        with pytest.raises(nice_tf.UserError, match=f"leave {number} of {event_size**2} pairs"):
            check_mixing(splits, partition, mixing)
    else:
        check_mixing(splits, partition, mixing)


@pytest.mark.parametrize(
    ("event_size", "partition", "mixing", "num_couplings", "is_refused"),
    [
        (5, "interleaved", "reverse", 5, True),
        (6, "halves", "swap", 2, True),
        (9, "interleaved", "shuffle", 2, True),
        (7, "halves", "swap", 3, False),
        (8, "interleaved", "shuffle", 5, False),
    ],
)
def test_pairs_that_are_cut_off_are_the_zeros_of_the_jacobian(
    event_size, partition, mixing, num_couplings, is_refused
):
    """The mask against the Jacobian of a flow with dense random weights."""
    kwargs = {"partition": partition, "mixing": mixing, "num_couplings": num_couplings}
    flow = random_flow([event_size], hidden_units=(5,), allow_incomplete_mixing=True, **kwargs)
    # Exactly zero at every point only where no path leads; at two points to be sure that no
    # accident hides one.
    encoder = nice_tf.encoder(flow)
    reached = (
        sum(np.abs(jacobian(encoder.forward, random_points(event_size, seed=s))) for s in (1, 2))
        != 0
    )
    splits = coupling_splits([event_size], num_couplings, partition=partition, mixing=mixing)
    np.testing.assert_array_equal(reached, mask(splits))
    assert reached.all() != is_refused
    if is_refused:
        with pytest.raises(
            nice_tf.UserError, match=f"leave {np.sum(~reached)} of {event_size**2} pairs"
        ):
            nice_tf.build_flow([event_size], hidden_units=(5,), **kwargs)
    else:
        nice_tf.build_flow([event_size], hidden_units=(5,), **kwargs)


def test_mixing_of_very_many_coordinates_is_checked_in_little_memory():
    """A mask of all pairs would take 40 GB. Here the even half is never shifted and the odd half
    only by it.
    """
    assert 100_001 * 200_000 + 100_000 * 99_999 == 30_000_100_000
    splits = coupling_splits([200_001], 3, partition="interleaved", mixing="reverse")
    with pytest.raises(nice_tf.UserError, match="leave 30000100000 of 40000400001 pairs"):
        check_mixing(splits, "interleaved", "reverse")
    check_mixing(coupling_splits([200_001], 3, partition="halves", mixing="swap"), "halves", "swap")


def test_known_incomplete_mixings():
    with pytest.raises(
        nice_tf.UserError,
        match=r"mixing 'reverse', partition 'interleaved' and D = 5 leave .* pairs",
    ):
        nice_tf.build_flow([5], mixing="reverse", num_couplings=8)
    with pytest.raises(nice_tf.UserError, match="2 couplings with mixing 'swap'"):
        nice_tf.build_flow([6], num_couplings=2)
    nice_tf.build_flow([2], num_couplings=2)


@pytest.mark.parametrize("prior", ["logistic", "gaussian"])
def test_density_integrates_to_one(prior):
    flow = random_flow([2], num_couplings=3, prior=prior)
    # Twice as many points as needed: the sum over a grid of a smooth density converges very fast.
    axis = np.linspace(-60, 60, 1601)
    grid = np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1).reshape(-1, 2)
    log_prob = tf.function(flow.log_prob)
    total = sum(
        np.exp(log_prob(tf.constant(part)).numpy()).sum() for part in np.array_split(grid, 8)
    )
    np.testing.assert_allclose(total * (axis[1] - axis[0]) ** 2, 1.0, atol=1e-4)


def test_parameter_count_of_the_papers_mnist_model():
    flow = nice_tf.build_flow([28, 28, 1])
    assert num_parameters(flow) == 19_158_352
    assert len({id(variable) for variable in flow.trainable_variables}) == 4 * 2 * 6 + 1


@pytest.mark.parametrize("scaling", ["layer", "prior"])
def test_every_trainable_variable_gets_a_gradient(scaling):
    flow = random_flow([7], scaling=scaling)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(flow.log_prob(random_points(5, 7)))
    gradients = tape.gradient(loss, flow.trainable_variables)
    assert len(gradients) == 4 * 6 + 1
    for variable, gradient in zip(flow.trainable_variables, gradients, strict=True):
        assert gradient is not None and np.any(gradient != 0), variable.name


@pytest.mark.parametrize("prior", ["logistic", "gaussian"])
def test_scaling_layer_equals_trainable_scale_of_the_prior(prior):
    """The same density and the same gradients, 1 / s = scale (DESIGN: equivalence)."""
    layered = random_flow([5], scaling="layer", prior=prior)
    scaled = random_flow([5], scaling="prior", prior=prior)
    log_scale = nice_tf.layers(layered)[-1].trainable_variables[0]
    prior_log_scale = scaled.distribution.distribution.scale.pretransformed_input
    conditioners = [
        [v for v in flow.trainable_variables if "log_scale" not in v.name]
        for flow in (layered, scaled)
    ]
    for mine, theirs in zip(*conditioners, strict=True):
        theirs.assign(mine)
    nice_tf.layers(scaled)[1].loc.assign(nice_tf.layers(layered)[1].loc)
    prior_log_scale.assign(-log_scale)

    x = random_points(6, 5)
    results = []
    for flow, scale, kernels in (
        (layered, log_scale, conditioners[0]),
        (scaled, prior_log_scale, conditioners[1]),
    ):
        with tf.GradientTape() as tape:
            log_prob = flow.log_prob(fresh(x))
        results.append((log_prob, tape.gradient(log_prob, [scale, *kernels])))
    (log_prob, (gradient, *rest)), (other_log_prob, (other_gradient, *other_rest)) = results
    np.testing.assert_allclose(log_prob, other_log_prob, rtol=1e-12)
    np.testing.assert_allclose(gradient, -other_gradient, rtol=1e-9)
    for mine, theirs in zip(rest, other_rest, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("event_shape", [[6], [2, 3], [2, 2, 2], [1, 2, 1, 2]])
def test_event_shapes_of_any_rank(event_shape):
    flow = random_flow(event_shape)
    flat = random_flow([int(np.prod(event_shape))])
    x = random_points(3, 4, *event_shape)
    assert flow.event_shape == event_shape
    np.testing.assert_allclose(
        flow.log_prob(x), flat.log_prob(tf.reshape(x, [3, 4, -1])), rtol=1e-12
    )
    assert flow.sample([3, 2], seed=[0, 1]).shape == [3, 2, *event_shape]


def test_latents_keep_the_order_of_the_data():
    """With m = 0, z is (x - mean) * s coordinate by coordinate, however the halves are drawn and
    mixed.
    """
    for mixing in ("swap", "reverse", "shuffle"):
        flow = nice_tf.build_flow([6], mixing=mixing, hidden_units=(4,))
        *_, scaling = nice_tf.layers(flow)
        scaling.assign_log_scale(tf.math.log(tf.range(1.0, 7.0)))
        np.testing.assert_allclose(
            nice_tf.encoder(flow).forward(tf.ones(6)), np.arange(1, 7), rtol=1e-6
        )


@pytest.mark.parametrize("scaling", ["layer", "prior"])
@pytest.mark.parametrize("prior", ["logistic", "gaussian"])
def test_initialization_from_data(scaling, prior):
    flow = nice_tf.build_flow([3, 2], scaling=scaling, prior=prior, hidden_units=(4,))
    data = tf.constant(
        np.random.default_rng(0).normal(5.0, 3.0, [500, 3, 2]) * [[1, 10]], tf.float32
    )
    before = tf.reduce_mean(flow.log_prob(data))
    nice_tf.initialize_from_data(flow, data)
    z = nice_tf.encoder(flow).forward(fresh(data)) / flow.distribution.distribution.scale
    expected = np.pi / np.sqrt(3) if prior == "logistic" else 1.0
    np.testing.assert_allclose(tf.math.reduce_std(z, axis=0), np.full(6, expected), rtol=1e-4)
    np.testing.assert_allclose(tf.reduce_mean(z, axis=0), np.zeros(6), atol=1e-4)
    assert tf.reduce_mean(flow.log_prob(fresh(data))) > before + 10


def test_output_scales_are_the_deviations_of_what_is_shifted():
    """With a last bias of 1 and nothing else, each m shifts every coordinate by its output scale."""
    deviations = np.array([0.01, 3.0, 0.5, 20.0, 1.0])
    data = tf.constant(np.random.default_rng(0).normal(size=[500, 5]) * deviations + 7)
    deviation = data.numpy().std(axis=0)
    for output_scale, scales, expected in (
        ("deviation", True, deviation),
        ("deviation", False, np.ones(5)),
        ("one", True, np.ones(5)),
    ):
        flow = nice_tf.build_flow(
            [5],
            num_couplings=4,
            output_scale=output_scale,
            scaling="none",
            hidden_units=(4,),
            dtype=tf.float64,
        )
        nice_tf.initialize_from_data(flow, data, scales=scales)
        before = nice_tf.encoder(flow).forward(fresh(data))
        for variable in flow.trainable_variables:
            if "bias_1" in variable.name:
                variable.assign(tf.ones_like(variable))
        moved = nice_tf.encoder(flow).forward(fresh(data)) - before
        np.testing.assert_allclose(
            moved, np.tile(2 * expected, [500, 1]), rtol=1e-9
        )  # half of four couplings each


@pytest.mark.parametrize("scaling", ["layer", "prior"])
def test_initialization_with_a_constant_coordinate(scaling):
    data = tf.constant(np.random.default_rng(0).normal(size=[50, 4]) * [1, 0, 1, 1], tf.float32)
    flow = nice_tf.build_flow([4], scaling=scaling, hidden_units=(4,))
    with pytest.raises(
        nice_tf.UserError, match=r"1 of 4 coordinates have the same value .* counted from 0, is 1"
    ):
        nice_tf.initialize_from_data(flow, data)
    with pytest.raises(
        nice_tf.UserError, match=r"1 of 4 coordinates spread too far for float32 .* is 0"
    ):
        nice_tf.initialize_from_data(
            flow, (data + tf.random.stateless_normal([50, 4], [0, 1])) * [1e30, 1, 1, 1]
        )
    flow = nice_tf.build_flow([4], scaling=scaling, hidden_units=(4,), min_inverse_scale=1e-3)
    nice_tf.initialize_from_data(flow, data)
    assert np.all(np.isfinite([variable.numpy().sum() for variable in flow.variables]))
    output_scales = np.ravel(
        [variable for variable in flow.variables if "output_scale" in variable.name]
    )
    expected = np.where([False, True, False, False], 1, data.numpy().std(axis=0))
    np.testing.assert_allclose(np.sort(output_scales), np.sort(np.tile(expected, 2)), rtol=1e-5)
    # The bound holds: a constant coordinate gains log(1000) + log p_Z(0) nats and no more.
    assert np.all(np.isfinite(flow.log_prob(fresh(data))))
    np.testing.assert_allclose(
        nice_tf.layers(flow)[-1].log_scale[1]
        if scaling == "layer"
        else -np.log(flow.distribution.distribution.scale[1]),
        np.log(1000),
        rtol=1e-5,
    )


def test_sample_is_a_function_of_seed_and_temperature():
    flow = random_flow([4])
    seed = tf.constant([3, 4])
    first = nice_tf.sample(flow, 5, seed=seed)
    np.testing.assert_array_equal(first, nice_tf.sample(flow, 5, seed=seed))
    assert not np.allclose(first, nice_tf.sample(flow, 5, seed=tf.constant([3, 5])))
    encoder = nice_tf.encoder(flow)
    cooler = nice_tf.sample(flow, 5, seed=seed, temperature=0.5)
    np.testing.assert_allclose(
        encoder.forward(cooler), 0.5 * encoder.forward(fresh(first)), atol=1e-9
    )


def test_samples_follow_the_density():
    """E over samples of a bounded function, against the same integral over a grid."""
    flow = random_flow([2], num_couplings=3)
    x = nice_tf.sample(flow, 200_000, seed=tf.constant([0, 1])).numpy()
    axis = np.linspace(-60, 60, 1201)
    grid = np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1).reshape(-1, 2)
    density = np.exp(flow.log_prob(tf.constant(grid)).numpy()) * (axis[1] - axis[0]) ** 2
    for function in (
        lambda x: np.tanh(x[:, 0]),
        lambda x: np.tanh(x[:, 1]),
        lambda x: np.tanh(x[:, 0] * x[:, 1]),
    ):
        np.testing.assert_allclose(function(x).mean(), np.sum(density * function(grid)), atol=0.01)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"event_shape": [1]}, r"at least 2 coordinates .* \[1\] has 1"),
        ({"num_couplings": 0}, "num_couplings must be at least 1, got 0"),
        ({"hidden_units": (-1,)}, "at least 1 unit"),
        ({"hidden_units": (5, 5, (4, 4), 5)}, "integers, or sequences of them, not both"),
        ({"min_inverse_scale": -1.0}, "min_inverse_scale must be at least 0, got -1.0"),
        (
            {"whitening": "zca", "input_range": "symmetric", "whitening_epsilon": -1.0},
            "whitening_epsilon must be at least 0, got -1.0",
        ),
        (
            {"prior": "cauchy"},
            "prior must be one of logistic, gaussian, logistic_mixture, got 'cauchy'",
        ),
        (
            {"prior_clusters": 3},
            "prior_clusters is for prior logistic_mixture, got 3 with prior logistic: give "
            "prior_clusters 1",
        ),
        (
            {"prior_components": 4, "prior": "gaussian"},
            "prior_components is for prior logistic_mixture, got 4 with prior gaussian",
        ),
        ({"scaling": "full"}, "scaling must be one of layer, prior, none, got 'full'"),
        ({"output_scale": "two"}, "output_scale must be one of deviation, one, got 'two'"),
        ({"mixing": "none"}, "mixing must be one of swap, reverse, shuffle, got 'none'"),
        (
            {"partition": "thirds"},
            "partition must be one of interleaved, halves, checkerboard, checkerboard_channels, nested, got 'thirds'",
        ),
    ],
)
def test_bad_arguments(kwargs, message):
    with pytest.raises(nice_tf.UserError, match=message):
        nice_tf.build_flow(**{"event_shape": [4], **kwargs})


@pytest.mark.parametrize(
    "whitening", ["none", "standardize", "zca", "triangular", "standardize_triangular"]
)
def test_data_that_are_not_finite_are_refused_by_name(whitening):
    x = random_points(20, 4).numpy()
    x[[3, 7], [0, 2]] = np.nan, np.inf
    flow = nice_tf.build_flow([4], hidden_units=(4,), whitening=whitening, whitening_epsilon=1e-3)
    with pytest.raises(
        nice_tf.UserError,
        match=r"2 of 20 examples have values that are not finite, the first is 3 ",
    ):
        nice_tf.initialize_from_data(flow, x)


def test_bad_temperature():
    with pytest.raises(nice_tf.UserError, match="temperature must be above 0, got 0"):
        nice_tf.sample(
            randomize(nice_tf.build_flow([4], hidden_units=(4,))),
            1,
            seed=tf.constant([0, 0]),
            temperature=0,
        )


@pytest.mark.parametrize("scaling", ["layer", "prior"])
def test_frozen_flow_is_the_same_density(scaling):
    flow = random_flow([5], scaling=scaling, whitening="standardize")
    frozen = nice_tf.freeze(flow, num_branches=2)
    x = random_points(20, 5)
    before = flow.log_prob(x).numpy()
    np.testing.assert_allclose(frozen.log_prob(fresh(x)), before, rtol=1e-10)
    np.testing.assert_allclose(
        frozen.sample(4, seed=[1, 2]), flow.sample(4, seed=[1, 2]), rtol=1e-10
    )
    assert [type(layer) for layer in nice_tf.layers(frozen)] == [
        type(layer) for layer in nice_tf.layers(flow)
    ]
    (scale,) = frozen.trainable_variables  # shared; the networks are not trained
    assert any(scale is variable for variable in flow.trainable_variables)
    for layer in nice_tf.layers(flow):
        if isinstance(layer, nice_tf.AdditiveCoupling):
            randomize(layer.conditioner, seed=1)
    assert not np.allclose(flow.log_prob(fresh(x)), before)
    np.testing.assert_allclose(frozen.log_prob(fresh(x)), before, rtol=1e-10)


def test_frozen_flow_keeps_other_conditioners():
    residual = random_flow([6], hidden_units=(4, 4), residual=True)
    kept = zip(nice_tf.layers(nice_tf.freeze(residual)), nice_tf.layers(residual), strict=True)
    assert all(one is other for one, other in kept)

    class Doubled(nice_tf.MLP):
        def __call__(self, x, **kwargs):
            return 2 * super().__call__(x, **kwargs)

    flow = random_flow([4])
    for layer in nice_tf.layers(flow):
        if isinstance(layer, nice_tf.AdditiveCoupling):
            layer.conditioner.__class__ = Doubled
    x = random_points(9, 4)
    np.testing.assert_array_equal(nice_tf.freeze(flow).log_prob(x), flow.log_prob(fresh(x)))
    coupling = nice_tf.AdditiveCoupling(tf.sin, num_passthrough=1)
    flow = tfp.distributions.TransformedDistribution(
        nice_tf.logistic_prior(2), tfp.bijectors.Invert(tfp.bijectors.Chain([coupling]))
    )
    assert nice_tf.layers(nice_tf.freeze(flow))[0] is coupling
