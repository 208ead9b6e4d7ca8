"""The convolutional m: its grid, what it sees, how it moves with the picture, and runs with it."""

import numpy as np
import pytest
import tensorflow as tf
from bijector_laws import fresh, jacobian
from flows import random_points, randomize
from pace import slow_except

import nice_tf
from nice_tf.bijectors.convolutions import make_grid
from nice_tf.bijectors.coupling import coupling_splits
from nice_tf.runs.architecture import count_parameters, make_flow


def split_of(event_shape, k=0, partition="nested"):
    return coupling_splits(event_shape, max(k + 1, 3), partition=partition, mixing="swap")[k]


def net_of(event_shape, k=0, partition="nested", *, seed=0, **kwargs):
    """A ConvNet of a coupling with random weights, in float64 where it is not said otherwise."""
    kwargs = {"channels": 5, "activation": "tanh", "dtype": tf.float64, **kwargs}
    split = split_of(event_shape, k, partition)
    net = nice_tf.ConvNet(event_shape, split.seen, split.shifted, **kwargs)
    return randomize(net, seed), split


def flow_of(event_shape, **kwargs):
    kwargs = {
        "partition": "nested",
        "num_couplings": 4,
        "conditioner": "convolution",
        "channels": 5,
        "hidden_units": (7,),
        "activation": "tanh",
        "dtype": tf.float64,
        **kwargs,
    }
    return randomize(nice_tf.build_flow(event_shape, **kwargs))


@pytest.mark.parametrize(
    ("event_shape", "k", "size", "num_in", "num_out"),
    [
        ([8, 8, 1], 0, (4, 4), 2, 2),  # a checkerboard: two pixels of each block of four
        ([8, 8, 1], 1, (4, 4), 1, 1),  # rows of its even fields
        ([8, 8, 1], 2, (2, 2), 2, 2),  # the checkerboard on every second row and column
        ([7, 9, 3], 0, (4, 5), 10, 2),  # the last channel of one field, given two of it
        ([8, 8], 0, (4, 4), 2, 2),
    ],
)
def test_grid_holds_each_coordinate_once_at_its_place(event_shape, k, size, num_in, num_out):
    split = split_of(event_shape, k)
    grid = make_grid(event_shape, split.seen, split.shifted)
    assert grid.size == size and grid.num_in == num_in and grid.num_out == num_out
    held = grid.source[grid.source < grid.num_seen]
    assert sorted(held) == list(range(len(split.seen)))
    assert len(np.unique(grid.target)) == len(split.shifted)
    # Where a coordinate lies on the picture says its block.
    rows, columns, *_ = np.unravel_index(np.arange(np.prod(event_shape)), event_shape)
    every = 2 ** (k // 2)
    for place, coordinate in enumerate(split.seen):
        block = np.argwhere(grid.source == place)[0][:2]
        assert tuple(block) == (rows[coordinate] // every // 2, columns[coordinate] // every // 2)
    for target, coordinate in zip(grid.target, split.shifted, strict=True):
        block = np.unravel_index(target // num_out, size)
        assert tuple(block) == (rows[coordinate] // every // 2, columns[coordinate] // every // 2)


def test_m_sees_all_around_it_and_nothing_of_what_it_shifts():
    """By the Jacobian of a whole coupling: the identity where it passes on, the shifts' own ones,
    and the shift of a pixel within reach of the kernels, not beyond.
    """
    event_shape = [12, 12, 1]
    net, split = net_of(event_shape, num_blocks=1, has_places=False)
    layer = nice_tf.AdditiveCoupling(net, num_passthrough=len(split.seen))
    x = random_points(144)
    found = jacobian(layer.forward, x)
    num_seen = len(split.seen)
    np.testing.assert_array_equal(found[:num_seen], np.eye(144)[:num_seen])
    np.testing.assert_array_equal(found[num_seen:, num_seen:], np.eye(144 - num_seen))
    depends = found[num_seen:, :num_seen] != 0
    rows, columns = np.unravel_index(split.order, event_shape[:2])
    blocks = np.stack([rows // 2, columns // 2], axis=-1)
    distance = np.abs(blocks[num_seen:, np.newaxis] - blocks[:num_seen]).max(axis=-1)
    np.testing.assert_array_equal(depends, distance <= 4)  # four convolutions of 3 x 3


def test_shifts_move_with_the_picture_unless_places_have_values():
    event_shape = [24, 24, 1]
    generator = np.random.default_rng(0)
    picture = np.zeros([24, 24])
    picture[8:12, 8:12] = generator.normal(size=[4, 4])
    moved = np.roll(picture, (2, 2), axis=(0, 1))  # by a block

    def shifts(net, split, image):
        shift = np.zeros(24 * 24)
        shift[split.shifted] = net(tf.constant(image.ravel()[split.seen]))
        return shift.reshape(24, 24)

    net, split = net_of(event_shape, num_blocks=1, has_places=False)
    # Away from the border, which the zeros around the picture let m see.
    here = shifts(net, split, picture)[8:14, 8:14]
    np.testing.assert_allclose(shifts(net, split, moved)[10:16, 10:16], here, rtol=0, atol=1e-12)
    assert np.abs(here).max() > 0.1
    net, split = net_of(event_shape, num_blocks=1)
    difference = shifts(net, split, moved)[10:16, 10:16] - shifts(net, split, picture)[8:14, 8:14]
    assert np.abs(difference).max() > 0.1


FLOWS = {
    "nested": ([8, 8, 1], {}),
    "checkerboard": ([8, 8, 1], {"partition": "checkerboard"}),
    "odd, in colour": ([7, 9, 3], {"num_couplings": 3}),
    "interleaved": ([8, 8], {"partition": "interleaved"}),
    "context": ([8, 8, 1], {"context_size": 3}),
    "marginals": (
        [8, 8, 1],
        {"marginals": "quantile", "levels": 4, "conditioner_input": "values"},
    ),
}


@pytest.mark.parametrize("name", slow_except(FLOWS, "nested", "context", "marginals"))
def test_flow_is_exactly_inverse_and_its_log_det_is_that_of_autodiff(name):
    event_shape, kwargs = FLOWS[name]
    flow = nice_tf.build_flow(
        event_shape,
        **{
            "partition": "nested",
            "num_couplings": 4,
            "conditioner": "convolution",
            "channels": 4,
            "hidden_units": (6,),
            "activation": "tanh",
            "dtype": tf.float64,
            **kwargs,
        },
    )
    size = int(np.prod(event_shape))
    keywords = nice_tf.context_kwargs(None)
    if "levels" in kwargs:
        values = np.random.default_rng(0).integers(0, 4, [300, *event_shape])
        nice_tf.initialize_from_data(flow, (values + 0.5) / 4)
        x = tf.constant((values[:2] + 0.3) / 4)
    else:
        x = tf.reshape(random_points(2, size), [2, *event_shape])
    for k, variable in enumerate(flow.trainable_variables):
        variable.assign(0.3 * random_points(*variable.shape, seed=k))
    if "context_size" in kwargs:
        keywords = nice_tf.context_kwargs(random_points(2, 3))["bijector_kwargs"]
    encoder = nice_tf.encoder(flow)
    z = encoder.forward(fresh(x), **keywords)
    np.testing.assert_allclose(encoder.inverse(fresh(z), **keywords), x, rtol=0, atol=1e-10)

    def first(flat):
        whole = tf.concat([tf.reshape(flat, [1, *event_shape]), x[1:]], axis=0)
        return encoder.forward(whole, **keywords)[:1]

    matrix = jacobian(first, tf.reshape(x[0], [-1]))
    log_det = encoder.forward_log_det_jacobian(fresh(x), len(event_shape), **keywords)
    np.testing.assert_allclose(
        tf.broadcast_to(log_det, [2])[0], np.linalg.slogdet(matrix)[1], atol=1e-8
    )
    shifts = matrix - np.diag(np.diag(matrix))
    assert np.abs(shifts).max() > 0.01


def test_context_dropout_and_output_scale_are_those_of_every_network():
    net, split = net_of([8, 8, 1], context_size=2, dropout=0.5, has_output_scale=True)
    x = random_points(3, len(split.seen))
    context = random_points(3, 2, seed=5)
    m = net(x, context=context)
    assert np.abs(m - net(x, context=context + 1)).max() > 0.01
    seed = tf.constant([1, 2])
    assert np.abs(m - net(x, context=context, dropout_seed=seed)).max() > 0.01
    before = net._output_scale.numpy()
    net.assign_output_scale(tf.constant(2 * np.abs(before)))
    np.testing.assert_allclose(net(x, context=context), m * 2 * np.abs(before) / before, rtol=1e-10)
    with pytest.raises(nice_tf.UserError, match="got no context"):
        net(x)


def test_bfloat16_and_xla_compute_the_same_m():
    split = split_of([8, 8, 1])
    nets = []
    for compute_dtype in (tf.float32, tf.bfloat16):
        net = nice_tf.ConvNet(
            [8, 8, 1],
            split.seen,
            split.shifted,
            channels=6,
            zero_last_layer=False,
            compute_dtype=compute_dtype,
        )
        nets.append(net)
    x = random_points(4, 32, dtype=np.float32)
    exact = nets[0](x)
    assert np.abs(exact).max() > 0.5
    np.testing.assert_allclose(tf.function(nets[0], jit_compile=True)(x), exact, atol=1e-4)
    np.testing.assert_allclose(nets[1](x), exact, atol=0.2)
    assert np.abs(nets[1](x) - exact).max() > 0


def settings(**kwargs):
    values = {
        "dataset": "digits",
        "partition": "nested",
        "num_couplings": 5,
        "conditioner": "convolution",
        "channels": 8,
        "hidden_units": (16,),
        "marginals": "quantile",
        "conditioner_input": "values",
        "output_scale": "one",
        "epochs": 2,
        "batch_size": 100,
        "num_draws": 1,
        "sample_every_epochs": 0,
        "precision": "float32",
    }
    return nice_tf.Config(**{**values, **kwargs})


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"prior": "logistic_mixture", "residual_blocks": 1},
        {"partition": "checkerboard", "num_couplings": 4},
        {"kernel_size": 1},
    ],
)
def test_parameters_are_counted_before_the_flow_is_made(changes):
    config = settings(**changes)
    flow = make_flow(config, [8, 8, 1], num_classes=3, levels=17)
    number = sum(int(np.prod(variable.shape)) for variable in flow.trainable_variables)
    assert count_parameters(config, [8, 8, 1], num_classes=3) == number


def test_coarse_couplings_of_a_nested_partition_have_an_mlp():
    flow = make_flow(settings(), [8, 8, 1], levels=17)
    kinds = []
    for layer in nice_tf.layers(flow):
        if isinstance(layer, nice_tf.AdditiveCoupling):
            kinds.append(type(layer.conditioner.conditioner))
    assert kinds == [nice_tf.ConvNet] * 2 + [nice_tf.MLP] * 3


def test_a_run_learns_and_is_served(trained, tmp_path, without_denoising):
    config = settings(weight_decay=1.0, channels=4, num_couplings=3)
    trained(config, tmp_path / "run")
    rows = nice_tf.runs.workdir.Workdir(tmp_path / "run").read_metrics()
    found = [float(row["val_log_prob"]) for row in rows]
    assert found[-1] > found[0] + 0.2
    flow = nice_tf.load_flow(tmp_path / "run")
    x = tf.random.stateless_uniform([5, 8, 8, 1], [1, 2])
    expected = flow.log_prob(x)
    np.testing.assert_allclose(nice_tf.freeze(flow).log_prob(x), expected, rtol=1e-5)
    path = nice_tf.export_saved_model(tmp_path / "run", tmp_path / "export", inpaint_steps=1)
    served = tf.saved_model.load(str(path)).signatures["log_prob"]
    name = next(iter(served.structured_input_signature[1]))
    levels = tf.floor(x * 17)
    found = served(**{name: levels})["log_prob"]
    np.testing.assert_allclose(found, flow.log_prob((levels + 0.5) / 17), rtol=1e-4)
    assert np.std(found) > 0.1


def mistakes():
    seen = split_of([8, 8, 1]).seen
    shifted = split_of([8, 8, 1]).shifted

    def net(**kwargs):
        return lambda: nice_tf.ConvNet([8, 8, 1], seen, shifted, **kwargs)

    return [
        (net(kernel_size=2), r"kernel_size must be odd and at least 1, got 2"),
        (net(kernel_size=5), r"kernel_size 5 is larger than the picture, which has 4 x 4 blocks"),
        (net(channels=0), r"channels must be at least 1, got 0"),
        (net(num_blocks=0), r"num_blocks must be at least 1, got 0"),
        (
            lambda: flow_of([12], num_couplings=3),
            r"a convolution needs pictures of rows, columns .*, got event shape \[12\]",
        ),
        (lambda: flow_of([4, 4, 1]), r"kernel_size 3 is larger than the picture, .* 2 x 2 blocks"),
        (lambda: settings(kernel_size=4), r"kernel_size must be odd, got 4"),
        (
            lambda: settings(conditioner="mlp", channels=9),
            r"channels is for conditioner convolution, got 9 with conditioner mlp",
        ),
        (lambda: settings(conditioner="cnn"), r"conditioner must be one of mlp, convolution"),
    ]


@pytest.mark.parametrize(("call", "message"), mistakes())
def test_bad_input_is_refused_by_value_and_rule(call, message):
    with pytest.raises(nice_tf.UserError, match=message):
        call()
