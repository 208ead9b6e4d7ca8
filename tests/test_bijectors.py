import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
from bijector_laws import check_laws, fresh, jacobian
from flows import random_points, randomize

import nice_tf
from nice_tf.bijectors.coupling import coupling_splits, reorder

tfb, tfd = tfp.bijectors, tfp.distributions


def coupling(event_size, num_passthrough, passthrough="first", dtype=tf.float64, **kwargs):
    mlp = nice_tf.MLP(
        num_passthrough, event_size - num_passthrough, hidden_units=(8, 8), dtype=dtype, **kwargs
    )
    return nice_tf.AdditiveCoupling(
        randomize(mlp), num_passthrough=num_passthrough, passthrough=passthrough
    )


CONSTRUCTORS = {
    "coupling first": lambda dtype: coupling(5, 3, "first", dtype),
    "coupling second": lambda dtype: coupling(5, 2, "second", dtype),
    "coupling of one": lambda dtype: coupling(5, 1, "first", dtype),
    "coupling bfloat16": lambda dtype: coupling(5, 3, "first", dtype, compute_dtype=tf.bfloat16),
    "scaling": lambda dtype: randomize(nice_tf.DiagonalScaling(5, dtype=dtype)),
    "scaling bounded": lambda dtype: randomize(
        nice_tf.DiagonalScaling(5, max_log_scale=0.1, dtype=dtype)
    ),
    "center": lambda dtype: randomize(nice_tf.Center(5, dtype=dtype)),
    "chain with TFP's own": lambda dtype: tfb.Chain(
        [
            coupling(5, 3, "first", dtype),
            tfb.Permute([4, 2, 0, 1, 3]),
            tfb.Shift(tf.ones(5, dtype)),
            coupling(5, 3, "second", dtype),
        ]
    ),
}


@pytest.mark.parametrize("name", CONSTRUCTORS)
def test_laws(name):
    bijector = CONSTRUCTORS[name](tf.float64)
    if (
        "bfloat16" in name
    ):  # differences of a rounded m are no derivatives: only the round trip is a law here
        x = random_points(6, 5)
        np.testing.assert_allclose(bijector.inverse(fresh(bijector.forward(x))), x, atol=1e-12)
        return
    check_laws(bijector, random_points(6, 5), atol=1e-12)


def test_forward_is_the_papers_equation():
    layer = nice_tf.AdditiveCoupling(lambda h: 10 * h[..., :2], num_passthrough=3)
    x = tf.constant([[1.0, 2.0, 3.0, 4.0, 5.0]])
    np.testing.assert_array_equal(layer.forward(x), [[1, 2, 3, 4 + 10, 5 + 20]])
    np.testing.assert_array_equal(layer.inverse(fresh(x)), [[1, 2, 3, 4 - 10, 5 - 20]])
    second = nice_tf.AdditiveCoupling(
        lambda h: 10 * h[..., :2], num_passthrough=3, passthrough="second"
    )
    np.testing.assert_array_equal(
        second.forward(tf.constant([[1.0, 2, 3, 4, 5]])), [[1 + 30, 2 + 40, 3, 4, 5]]
    )


@pytest.mark.parametrize("passthrough", ["first", "second"])
def test_jacobian_blocks(passthrough):
    """Identity on both diagonal blocks, zero above, and full below: dy_shifted / dx_passed."""
    found = jacobian(coupling(7, 4, passthrough).forward, random_points(7))
    order = np.r_[0:4, 4:7] if passthrough == "first" else np.r_[3:7, 0:3]
    found = found[order][:, order]
    np.testing.assert_array_equal(found[:4, :4], np.eye(4))
    np.testing.assert_array_equal(found[4:, 4:], np.eye(3))
    np.testing.assert_array_equal(found[:4, 4:], 0)
    assert np.all(found[4:, :4] != 0)


def test_agrees_with_real_nvp_that_only_shifts():
    mlp = randomize(nice_tf.MLP(3, 4, hidden_units=(8,), dtype=tf.float64))
    ours = nice_tf.AdditiveCoupling(mlp, num_passthrough=3)
    theirs = tfb.RealNVP(
        num_masked=3, shift_and_log_scale_fn=lambda h, output_units: (mlp(h), None)
    )
    x = random_points(5, 7)
    np.testing.assert_allclose(ours.forward(x), theirs.forward(fresh(x)), rtol=0, atol=0)
    np.testing.assert_allclose(ours.inverse(fresh(x)), theirs.inverse(fresh(x)), rtol=0, atol=0)
    np.testing.assert_allclose(
        ours.forward_log_det_jacobian(x, 1) + tf.zeros(5, tf.float64),
        theirs.forward_log_det_jacobian(x, 1),
    )


def test_coarse_conditioner_is_inverted_to_float32_rounding():
    layer = coupling(64, 32, dtype=tf.float32, compute_dtype=tf.bfloat16)
    exact = nice_tf.AdditiveCoupling(
        randomize(nice_tf.MLP(32, 32, hidden_units=(8, 8))), num_passthrough=32
    )
    x = random_points(100, 64, dtype=np.float32)
    y = layer.forward(x)
    assert np.max(np.abs(y - exact.forward(fresh(x)))) > 1e-3, (
        "the conditioner did not run in bfloat16"
    )
    np.testing.assert_allclose(layer.inverse(fresh(y)), x, atol=2e-6)


def test_scaling_values():
    layer = nice_tf.DiagonalScaling(3, log_scale=tf.math.log([1.0, 2.0, 4.0]))
    np.testing.assert_allclose(layer.forward(tf.constant([1.0, 1.0, 1.0])), [1, 2, 4], rtol=1e-6)
    np.testing.assert_allclose(layer.forward_log_det_jacobian(tf.zeros(3), 1), np.log(8), rtol=1e-6)


def test_scaling_bound_and_copy():
    layer = nice_tf.DiagonalScaling(2, max_log_scale=1.0)
    layer.assign_log_scale(tf.constant([5.0, -5.0]))
    np.testing.assert_allclose(layer.log_scale, [1.0, -5.0])
    copy = layer.copy()
    layer.assign_log_scale(tf.constant([0.5, 0.25]))
    np.testing.assert_allclose(copy.log_scale, [0.5, 0.25])
    assert copy.trainable_variables[0] is layer.trainable_variables[0]
    layer.trainable_variables[0].assign([5.0, 0.25])  # as a step of training may
    np.testing.assert_allclose(layer.forward(tf.ones(2)), np.exp([1.0, 0.25]), rtol=1e-6)
    np.testing.assert_allclose(layer.forward_log_det_jacobian(tf.ones(2), 1), 1.25, rtol=1e-6)


def test_given_scale_and_mean_are_kept_by_reference():
    log_scale = tfp.util.TransformedVariable([0.1, 0.2], tfb.Exp())
    loc = tf.Variable([1.0, 2.0])
    scaling, center = nice_tf.DiagonalScaling(2, log_scale=log_scale), nice_tf.Center(2, loc=loc)
    assert len(scaling.trainable_variables) == 1 and center.variables == (loc,)
    log_scale.assign([1.0, 2.0])
    loc.assign([5.0, 6.0])
    np.testing.assert_allclose(scaling.forward(tf.ones(2)), np.exp([1.0, 2.0]), rtol=1e-6)
    np.testing.assert_allclose(center.forward(tf.zeros(2)), [-5.0, -6.0])


def test_keywords_reach_the_conditioner():
    """In a chain between TFP's own bijectors, both ways, as for every conditional bijector of TFP."""
    coupling = nice_tf.AdditiveCoupling(
        lambda h, context: h * context, num_passthrough=2, name="mine"
    )
    chain = tfb.Chain([tfb.Scale(2.0), coupling])
    x, context = tf.constant([[1.0, 2.0, 3.0, 4.0]]), tf.constant([[10.0]])
    y = chain.forward(x, mine={"context": context})
    np.testing.assert_allclose(y, [[2, 4, 26, 48]])
    np.testing.assert_allclose(chain.inverse(tf.identity(y), mine={"context": context}), x)
    np.testing.assert_allclose(
        chain.forward_log_det_jacobian(tf.identity(x), 1, mine={"context": context}),
        4 * np.log(2),
        rtol=1e-6,
    )
    flow = tfd.TransformedDistribution(tfd.Sample(tfd.Normal(0.0, 1.0), 4), tfb.Invert(chain))
    expected = tfd.Normal(0.0, 1.0).log_prob(y).numpy().sum() + 4 * np.log(2)
    np.testing.assert_allclose(
        flow.log_prob(x, bijector_kwargs={"mine": {"context": context}}), [expected], rtol=1e-6
    )


@pytest.mark.parametrize(
    ("partition", "mixing", "orders", "sides"),
    [
        ("interleaved", "swap", [[0, 2, 4, 1, 3]] * 3, ["first", "second", "first"]),
        ("halves", "swap", [[0, 1, 2, 3, 4]] * 3, ["first", "second", "first"]),
        (
            "interleaved",
            "reverse",
            [[0, 2, 4, 1, 3], [4, 2, 0, 3, 1], [0, 2, 4, 1, 3]],
            ["first"] * 3,
        ),
        ("halves", "reverse", [[0, 1, 2, 3, 4], [4, 3, 2, 1, 0], [0, 1, 2, 3, 4]], ["first"] * 3),
    ],
)
def test_splits(partition, mixing, orders, sides):
    splits = coupling_splits([5], 3, partition=partition, mixing=mixing)
    np.testing.assert_array_equal([split.order for split in splits], orders)
    assert [split.passthrough for split in splits] == sides


def test_checkerboard_parts_neighbours():
    split, *_ = coupling_splits([3, 4, 2], 3, partition="checkerboard", mixing="swap")
    order = split.order
    side = split.passthrough
    first = np.zeros(24, bool)
    first[order[:12]] = True
    board = first.reshape(3, 4, 2)
    assert side == "first" and np.array_equal(board[..., 0], board[..., 1]) and board[0, 0, 0]
    assert np.all(board[1:] != board[:-1]) and np.all(board[:, 1:] != board[:, :-1])
    assert sorted(order) == list(range(24))


def test_checkerboard_of_channels_parts_neighbours_and_channels():
    split, *_ = coupling_splits([4, 4, 3], 2, partition="checkerboard_channels", mixing="swap")
    first = np.zeros(48, bool)
    first[split.order[:24]] = True
    board = first.reshape(4, 4, 3)
    assert np.all(board[1:] != board[:-1]) and np.all(board[:, 1:] != board[:, :-1])
    assert np.all(board[..., 1:] != board[..., :-1]) and board[0, 0, 0]
    grey, *_ = coupling_splits([4, 4, 1], 2, partition="checkerboard_channels", mixing="swap")
    plain, *_ = coupling_splits([4, 4, 1], 2, partition="checkerboard", mixing="swap")
    np.testing.assert_array_equal(grey.order, plain.order)


def test_shuffle_is_a_fixed_permutation_of_its_seed():
    splits = coupling_splits([30], 5, partition="halves", mixing="shuffle", seed=1)
    assert all(sorted(order) == list(range(30)) for order in (split.order for split in splits))
    assert [split.passthrough for split in splits] == [
        "first",
        "second",
        "first",
        "second",
        "first",
    ]
    np.testing.assert_array_equal(splits[2].order, splits[3].order)
    assert not np.array_equal(splits[1].order, splits[2].order) and not np.array_equal(
        splits[3].order, splits[4].order
    )
    again = coupling_splits([30], 5, partition="halves", mixing="shuffle", seed=1)
    np.testing.assert_array_equal(
        [split.order for split in splits], [split.order for split in again]
    )
    other = coupling_splits([30], 5, partition="halves", mixing="shuffle", seed=2)
    assert not np.array_equal(splits[2].order, other[2].order)


def test_reorder():
    (permute,) = reorder([2, 0, 1], [1, 2, 0])
    data = np.array([10.0, 20.0, 30.0])
    np.testing.assert_array_equal(permute.forward(data[[2, 0, 1]]), data[[1, 2, 0]])
    assert reorder([2, 0, 1], [2, 0, 1]) == []


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: nice_tf.AdditiveCoupling(tf.identity, num_passthrough=0),
            "num_passthrough .* at least 1, got 0",
        ),
        (
            lambda: nice_tf.AdditiveCoupling(tf.identity, num_passthrough=2, passthrough="left"),
            "'first' or 'second', got 'left'",
        ),
        (
            lambda: nice_tf.AdditiveCoupling(tf.identity, num_passthrough=2).forward(
                tf.zeros([3, 2])
            ),
            r"passes 2 coordinates needs more than that many on the last axis, got shape \(3, 2\)",
        ),
        (
            lambda: nice_tf.AdditiveCoupling(tf.identity, num_passthrough=1).inverse(1.0),
            r"got shape \(\)",
        ),
        (
            lambda: nice_tf.AdditiveCoupling(lambda h: h[..., :1], num_passthrough=2).forward(
                tf.zeros([3, 4])
            ),
            r"must return 2 values .* got shape \(3, 1\)",
        ),
        (lambda: nice_tf.DiagonalScaling(0), "event_size must be at least 1, got 0"),
        (lambda: nice_tf.Center(-1), "event_size must be at least 1, got -1"),
        (lambda: nice_tf.Standardize(0), "event_size must be at least 1, got 0"),
        (lambda: nice_tf.Whitening(-1), "event_size must be at least 1, got -1"),
        (lambda: nice_tf.TriangularWhitening(0), "event_size must be at least 1, got 0"),
        (
            lambda: nice_tf.DiagonalScaling(5).forward(tf.ones([3, 1])),
            r"must have 5 values, got shape \(3, 1\)",
        ),
        (
            lambda: nice_tf.DiagonalScaling(5).inverse(tf.ones([3, 1])),
            r"must have 5 values, got shape \(3, 1\)",
        ),
        (
            lambda: nice_tf.Center(5).forward(tf.ones([3, 1])),
            r"must have 5 values, got shape \(3, 1\)",
        ),
        (
            lambda: nice_tf.Center(5).inverse(tf.ones([3, 1])),
            r"must have 5 values, got shape \(3, 1\)",
        ),
        (lambda: nice_tf.DiagonalScaling(3, log_scale=tf.zeros(2)), r"shape \(3,\), got \(2,\)"),
        (lambda: nice_tf.Center(3, loc=tf.zeros(2)), r"shape \(3,\), got \(2,\)"),
        (
            lambda: nice_tf.MLP(3, 2, hidden_units=(4, 0)),
            r"at least 1 unit, got sizes \(3, 4, 0, 2\)",
        ),
        (
            lambda: nice_tf.MLP(3, 2, activation="rely"),
            "activation must be one of relu, .* got 'rely'",
        ),
        (lambda: nice_tf.MLP(3, 2, dropout=1.0), "dropout must be at least 0 and below 1, got 1.0"),
        (lambda: nice_tf.logistic_prior(0), "at least 1, got 0"),
        (
            lambda: nice_tf.gaussian_prior(2, min_scale=-0.5),
            "min_scale must be at least 0, got -0.5",
        ),
        (
            lambda: coupling_splits([4], 3, partition="thirds", mixing="swap"),
            "halves, checkerboard, checkerboard_channels, nested, got 'thirds'",
        ),
        (
            lambda: coupling_splits([4], 3, partition="checkerboard", mixing="swap"),
            r"rows and columns, got .* \[4\]",
        ),
        (
            lambda: coupling_splits([4], 3, partition="halves", mixing="mix"),
            "swap, reverse, shuffle, got 'mix'",
        ),
    ],
)
def test_bad_arguments(make, message):
    with pytest.raises(nice_tf.UserError, match=message):
        make()
