"""The nested partition: each coupling shifts half of what none has shifted yet, given the rest."""

import numpy as np
import pytest
import tensorflow as tf
from bijector_laws import fresh, jacobian
from flows import random_flow, random_points, randomize

import nice_tf
from nice_tf.bijectors.coupling import coupling_splits
from nice_tf.runs.architecture import count_parameters, make_flow


def splits_of(event_shape, number):
    return coupling_splits(event_shape, number, partition="nested", mixing="swap")


def test_sizes_on_28x28():
    splits = splits_of([28, 28, 1], 10)
    assert [len(split.shifted) for split in splits] == [392, 196, 98, 49, 24, 9, 8, 4, 2, 1]
    with pytest.raises(nice_tf.UserError, match=r"at most 10 couplings, .* got num_couplings 11"):
        splits_of([28, 28, 1], 11)


def test_places_on_4x4():
    """Odd fields of the checkerboard, odd rows of the rest, then the same on every second row and
    column.
    """
    turn = np.zeros([4, 4], int)
    for k, split in enumerate(splits_of([4, 4], 4)):
        turn.ravel()[split.shifted] = k + 1
    np.testing.assert_array_equal(turn, [[0, 1, 3, 1], [1, 2, 1, 2], [3, 1, 4, 1], [1, 2, 1, 2]])


def test_places_of_vectors():
    shifted = [list(split.shifted) for split in splits_of([7], 3)]
    assert shifted == [[1, 3, 5], [2, 6], [4]]


def test_fields_of_pixels_are_shifted_channel_by_channel():
    """Until one pixel is left."""
    splits = splits_of([2, 2, 3], 8)
    assert [list(split.shifted) for split in splits] == [
        [5, 8],
        [4, 7],
        [3, 6],
        [11],
        [10],
        [9],
        [1],
        [2],
    ]


@pytest.mark.parametrize(
    "event_shape", [[2], [5], [13], [1, 9], [9, 1], [3, 5], [8, 8, 1], [6, 7, 3], [28, 28, 1]]
)
def test_each_coordinate_is_shifted_at_most_once_given_those_that_come_later(event_shape):
    size = int(np.prod(event_shape))
    number = 0
    while True:
        try:
            splits = splits_of(event_shape, number + 1)
        except nice_tf.UserError:
            break
        number += 1
    splits = splits_of(event_shape, number)
    shifted = np.concatenate([split.shifted for split in splits])
    assert len(shifted) == len(np.unique(shifted)) == size - 1  # all but the last one
    rest = set(range(size))
    for split in splits:
        rest -= set(split.shifted)
        assert set(split.seen) == rest and not set(split.seen) & set(split.shifted)
        assert sorted(split.order) == list(range(size))
        assert set(split.passed) == set(range(size)) - set(split.shifted)


FLOWS = {
    "vector": ([7], {"num_couplings": 3}),
    "vector, two couplings": ([7], {"num_couplings": 2}),
    "picture": ([3, 3, 1], {"num_couplings": 4}),
    "marginals, mapped": ([7], {"num_couplings": 3, "marginals": "quantile"}),
    "marginals, values": (
        [7],
        {"num_couplings": 3, "marginals": "quantile", "conditioner_input": "values"},
    ),
    "marginals, values, picture": (
        [3, 3, 1],
        {
            "num_couplings": 4,
            "marginals": "quantile",
            "conditioner_input": "values",
            "levels": 4,
        },
    ),
}


def flow_of(name):
    """A flow with weights of size about 1, and points of its density."""
    event_shape, settings = FLOWS[name]
    size = int(np.prod(event_shape))
    settings = {"partition": "nested", **settings}
    if "marginals" not in settings:
        return random_flow(event_shape, **settings), random_points(4, size).numpy()
    flow = nice_tf.build_flow(
        event_shape, hidden_units=(7, 6), activation="tanh", dtype=tf.float64, **settings
    )
    generator = np.random.default_rng(0)
    if settings.get("levels"):
        x = generator.random([300, size])
    else:
        x = generator.gamma(2.0, 1.0, [300, size])
    nice_tf.initialize_from_data(flow, tf.constant(x.reshape(-1, *event_shape)))
    for variable in flow.trainable_variables:
        variable.assign(generator.normal(0.0, 0.5, variable.shape))
    return flow, x[:4]


@pytest.mark.parametrize("name", FLOWS)
def test_jacobian_is_that_of_the_partition(name):
    """Each z depends on its own x and on what its coupling sees, and on nothing else."""
    event_shape, settings = FLOWS[name]
    flow, x = flow_of(name)
    size = x.shape[1]
    depends = np.eye(size, dtype=bool)
    for split in splits_of(event_shape, settings["num_couplings"]):
        depends[np.ix_(split.shifted, split.seen)] = True
    encoder = nice_tf.encoder(flow)
    for point in x[:2]:
        found = jacobian(lambda h: encoder.forward(tf.reshape(h, [-1, *event_shape])), point)
        assert np.all(np.isfinite(found))
        np.testing.assert_array_equal(found != 0, depends)
        expected = flow.distribution.log_prob(encoder.forward(point.reshape(1, *event_shape)))[0]
        expected += np.linalg.slogdet(found)[1]
        np.testing.assert_allclose(flow.log_prob(point.reshape(event_shape)), expected, rtol=1e-9)


@pytest.mark.parametrize("name", FLOWS)
def test_inverse_is_exact(name):
    flow, x = flow_of(name)
    event_shape = FLOWS[name][0]
    x = x.reshape(-1, *event_shape)
    encoder = nice_tf.encoder(flow)
    z = encoder.forward(fresh(x))
    assert np.max(np.abs(z - x.reshape(len(x), -1))) > 0.1
    np.testing.assert_allclose(encoder.inverse(fresh(z)), x, rtol=0, atol=1e-9)
    np.testing.assert_allclose(encoder.forward(fresh(encoder.inverse(fresh(z)))), z, atol=1e-8)


def test_values_that_m_sees_are_those_of_the_data():
    """No coupling has shifted them: m of the third coupling sees x, less its mean, in
    deviations.
    """
    event_shape, settings = FLOWS["marginals, values"]
    flow, x = flow_of("marginals, values")
    seen = []

    def record(h):
        seen.append(h.numpy())
        return tf.zeros([len(h), 1], h.dtype)

    couplings = [
        layer for layer in nice_tf.layers(flow) if isinstance(layer, nice_tf.AdditiveCoupling)
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(couplings[2].conditioner, "conditioner", record)
        nice_tf.encoder(flow).forward(tf.constant(x))
    split = splits_of(event_shape, settings["num_couplings"])[2]
    front = nice_tf.layers(flow)[1]
    expected = ((x - front.means) / front.deviations).numpy()[:, split.seen]
    np.testing.assert_allclose(seen[0], expected, atol=1e-9)


@pytest.mark.parametrize("conditioner_input", ["mapped", "values"])
@pytest.mark.parametrize("event_shape", [[28, 28, 1], [13]])
def test_parameters_are_as_many_as_counted(event_shape, conditioner_input):
    """Before the flow is made; far fewer than those of halves of the same widths."""
    settings = {"num_couplings": 3, "hidden_units": ((9, 8), (7,), (5,)), "precision": "float32"}
    config = nice_tf.Config(
        partition="nested",
        marginals="quantile",
        conditioner_input=conditioner_input,
        **settings,
    )
    flow = make_flow(config, event_shape, levels=17)
    number = sum(variable.shape.num_elements() for variable in flow.trainable_variables)
    assert number == count_parameters(config, event_shape)
    assert number < count_parameters(nice_tf.Config(**settings), event_shape)


def test_a_frozen_flow_sees_the_same():
    flow, x = flow_of("marginals, values")
    frozen = nice_tf.freeze(flow)
    assert not np.array_equal(flow.log_prob(x), np.zeros(4))
    np.testing.assert_allclose(frozen.log_prob(x), flow.log_prob(x), rtol=1e-10)


def test_conditional_and_dropout_reach_m():
    """The keywords of a coupling go through the view to its m."""
    flow = nice_tf.build_flow(
        [7],
        num_couplings=3,
        partition="nested",
        hidden_units=(6,),
        context_size=2,
        dropout=0.5,
        dtype=tf.float64,
        zero_last_layer=False,
    )
    randomize(flow)
    x = random_points(4, 7)
    one, other = (
        flow.log_prob(x, **nice_tf.context_kwargs(context)) for context in ([1.0, 0.0], [0.0, 1.0])
    )
    assert np.all(np.abs(one - other) > 1e-6)
    dropped = flow.log_prob(
        x, **nice_tf.context_kwargs([1.0, 0.0], dropout_seed=tf.constant([0, 1]))
    )
    assert np.all(np.abs(one - dropped) > 1e-6)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: nice_tf.build_flow([4], partition="nested", num_couplings=3),
            r"partition 'nested' of event shape \[4\] has at most 2 couplings, as each shifts half "
            "of the rest, got num_couplings 3",
        ),
        (
            lambda: nice_tf.build_flow([8], partition="nested", num_couplings=2, mixing="reverse"),
            "partition 'nested' has no mixing: leave it at 'swap', got 'reverse'",
        ),
        (
            lambda: nice_tf.build_flow([8], partition="nested", num_couplings=2, mixing="shuffle"),
            "partition 'nested' has no mixing: leave it at 'swap', got 'shuffle'",
        ),
    ],
)
def test_bad_input_is_refused_by_value_and_rule(call, message):
    with pytest.raises(nice_tf.UserError, match=message):
        call()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_couplings": 20}, r"event shape \[8, 8, 1\] has at most 6 couplings.* 20"),
        ({"mixing": "shuffle"}, "partition 'nested' has no mixing: .* got 'shuffle'"),
    ],
)
def test_bad_settings_of_a_run_are_refused(tmp_path, settings, message):
    config = nice_tf.Config(partition="nested", hidden_units=(4,), **settings)
    with pytest.raises(nice_tf.UserError, match=message):
        nice_tf.train_and_evaluate(config, tmp_path / "run")


def test_colour_is_shifted_channel_by_channel():
    """The last channel of the odd fields first, given all the rest; each coordinate once."""
    splits = splits_of([4, 4, 3], 9)
    shifted = [split.shifted for split in splits]
    assert [len(part) for part in shifted] == [8, 8, 8, 4, 4, 4, 2, 2, 2]
    rows, columns, channels = np.unravel_index(np.concatenate(shifted[:3]), [4, 4, 3])
    assert np.all((rows + columns) % 2 == 1)
    assert list(channels) == [2] * 8 + [1] * 8 + [0] * 8
    assert len(np.unique(np.concatenate(shifted))) == sum(len(part) for part in shifted)


def test_frozen_marginals_make_their_tables_once():
    """The same density and samples; what a call made of the arrays are variables of the frozen flow."""
    x = np.random.default_rng(0).integers(0, 17, [300, 4, 4, 1])
    flow = nice_tf.build_flow(
        [4, 4, 1],
        hidden_units=(8,),
        num_couplings=3,
        partition="nested",
        conditioner_input="values",
        marginals="quantile",
        levels=17,
        dtype=tf.float64,
        zero_last_layer=False,
    )
    noisy = nice_tf.dequantize(x, 17, seed=[0, 1], dtype=tf.float64)
    nice_tf.initialize_from_data(flow, noisy)
    frozen = nice_tf.freeze(flow)
    expected = flow.log_prob(noisy)
    np.testing.assert_allclose(frozen.log_prob(tf.identity(noisy)), expected, rtol=1e-12)
    drawn = flow.sample(5, seed=[0, 2])
    np.testing.assert_allclose(frozen.sample(5, seed=[0, 2]), drawn, rtol=1e-9)
    outside = noisy[:5] * 3 - 1
    np.testing.assert_allclose(frozen.log_prob(outside), flow.log_prob(outside), rtol=1e-12)
    assert np.std(expected) > 1
    # The knots of the inverse, `[16, 18]`, were logarithms in each call and each coupling.
    assert max(sizes_of_logarithms(flow, noisy[:2])) == 16 * 18
    assert max(sizes_of_logarithms(frozen, noisy[:2])) == 2 * 16


def sizes_of_logarithms(flow, x):
    """Numbers in each result of a logarithm, in the graph and in the graphs that it calls."""
    graph = tf.function(flow.log_prob).get_concrete_function(x).graph
    content = graph.as_graph_def(add_shapes=True)
    nodes = list(content.node)
    for called in content.library.function:
        nodes += called.node_def
    sizes = []
    for node in nodes:
        if node.op == "Log":
            shape = tf.TensorShape(node.attr["_output_shapes"].list.shape[0])
            sizes.append(shape.num_elements())
    return sizes
