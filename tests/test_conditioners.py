import numpy as np
import pytest
import tensorflow as tf
from flows import random_points, randomize

import nice_tf


@pytest.mark.parametrize("hidden_units", [(), (4,), (5, 4)])
def test_against_numpy(hidden_units):
    mlp = randomize(nice_tf.MLP(3, 2, hidden_units=hidden_units, dtype=tf.float64))
    h = x = random_points(50, 3).numpy()
    kernels = sorted((v for v in mlp.variables if "kernel" in v.name), key=lambda v: v.name)
    biases = sorted((v for v in mlp.variables if "bias" in v.name), key=lambda v: v.name)
    for i, (kernel, bias) in enumerate(zip(kernels, biases, strict=True)):
        h = (np.maximum(h, 0) if i else h) @ kernel.numpy() + bias.numpy()
    assert (h < 0).any(), "a ReLU on the output would go unseen"
    np.testing.assert_allclose(mlp(tf.constant(x)), h, rtol=1e-12)
    np.testing.assert_allclose(mlp(tf.constant(x[:, np.newaxis])), h[:, np.newaxis], rtol=1e-12)
    np.testing.assert_allclose(mlp(tf.constant(x[0])), h[0], rtol=1e-12)


def test_initial_weights():
    mlp = nice_tf.MLP(200, 100, hidden_units=(300,), seed=3)
    first, last = (v for v in mlp.variables if "kernel" in v.name)
    np.testing.assert_allclose(np.std(first), np.sqrt(2 / 200), rtol=0.02)
    assert not np.any(last) and not np.any(mlp(tf.ones([1, 200])))
    again, other = (
        nice_tf.MLP(200, 100, hidden_units=(300,), seed=3),
        nice_tf.MLP(200, 100, hidden_units=(300,), seed=4),
    )
    np.testing.assert_array_equal(again.variables[2], mlp.variables[2])
    kernels = [next(v for v in m.variables if "kernel_0" in v.name) for m in (mlp, again, other)]
    np.testing.assert_array_equal(kernels[0], kernels[1])
    assert not np.any(kernels[0] == kernels[2])
    assert np.any(nice_tf.MLP(200, 100, hidden_units=(), zero_last_layer=False)(tf.ones([1, 200])))


def test_activation_by_name_and_by_function():
    by_name = randomize(nice_tf.MLP(3, 2, hidden_units=(4,), activation="softplus"))
    by_function = randomize(
        nice_tf.MLP(3, 2, hidden_units=(4,), activation=lambda h: tf.math.log(1 + tf.exp(h)))
    )
    x = random_points(6, 3, dtype=np.float32)
    np.testing.assert_allclose(by_name(x), by_function(x), rtol=1e-5)
    assert not np.allclose(by_name(x), randomize(nice_tf.MLP(3, 2, hidden_units=(4,)))(x))


def test_bfloat16_inside_only():
    mlp = randomize(nice_tf.MLP(3, 2, hidden_units=(4,), compute_dtype=tf.bfloat16))
    exact = randomize(nice_tf.MLP(3, 2, hidden_units=(4,)))
    x = random_points(6, 3, dtype=np.float32)
    assert mlp(x).dtype == tf.float32 and {v.dtype for v in mlp.variables} == {tf.float32}
    assert 1e-4 < np.max(np.abs(mlp(x) - exact(x))) < 0.1


def test_residual_layers_add_their_input():
    mlp = randomize(nice_tf.MLP(3, 2, hidden_units=(5, 5, 4), residual=True, dtype=tf.float64))
    kernels = [next(v for v in mlp.variables if f"kernel_{i}" in v.name).numpy() for i in range(4)]
    biases = [next(v for v in mlp.variables if f"bias_{i}" in v.name).numpy() for i in range(4)]
    x = random_points(50, 3)
    h = x.numpy() @ kernels[0] + biases[0]
    h = h + np.maximum(h, 0) @ kernels[1] + biases[1]  # 5 to 5; the layer of 5 to 4 cannot
    for kernel, bias in zip(kernels[2:], biases[2:], strict=True):
        h = np.maximum(h, 0) @ kernel + bias
    np.testing.assert_allclose(mlp(x), h, rtol=1e-12)


def test_output_scale():
    sizes = {"hidden_units": (5, 4), "zero_last_layer": False, "dtype": tf.float64}
    mlp, plain = nice_tf.MLP(3, 2, has_output_scale=True, **sizes), nice_tf.MLP(3, 2, **sizes)
    x = random_points(50, 3)
    np.testing.assert_array_equal(mlp(x), plain(x))  # 1 at first
    mlp.assign_output_scale([0.01, 3.0])
    np.testing.assert_allclose(mlp(x), plain(x) * [0.01, 3.0], rtol=1e-12)
    assert [v.shape for v in mlp.trainable_variables] == [
        v.shape for v in plain.trainable_variables
    ]


@pytest.mark.parametrize(
    ("has_output_scale", "value", "message"),
    [
        (False, [0.01, 3.0], "make it with has_output_scale=True"),
        (True, [0.01], r"must have shape \(2,\), got \(1,\)"),
        (True, [0.01, 0.0], "finite and above 0, got 0.0"),
        (True, [np.nan, 1.0], "finite and above 0, got nan"),
    ],
)
def test_bad_output_scales(has_output_scale, value, message):
    mlp = nice_tf.MLP(3, 2, hidden_units=(4,), has_output_scale=has_output_scale)
    with pytest.raises(nice_tf.UserError, match=message):
        mlp.assign_output_scale(value)


@pytest.mark.parametrize("rate", [0.002, 0.05, 0.3])
@pytest.mark.parametrize("compute_dtype", [tf.float32, tf.bfloat16])
def test_dropout_leaves_out_the_share_that_was_asked_for(compute_dtype, rate):
    """The last layer passes on each unit of a hidden layer of ones."""
    mlp = nice_tf.MLP(1, 500, hidden_units=(500,), dropout=rate, compute_dtype=compute_dtype)
    for variable, value in zip(
        sorted(mlp.variables, key=lambda variable: variable.name),
        (np.ones(500), np.zeros(500), np.zeros([1, 500]), np.eye(500)),  # biases, kernels
        strict=True,
    ):
        variable.assign(value)
    dropped = mlp(tf.zeros([400, 1]), dropout_seed=tf.constant([0, 1])).numpy()
    np.testing.assert_allclose(
        np.mean(dropped == 0), rate, atol=5 * np.sqrt(rate * (1 - rate) / dropped.size)
    )
    np.testing.assert_allclose(dropped[dropped != 0], 1 / (1 - rate), rtol=4e-3)


def test_dropout_leaves_units_out_by_seed_and_keeps_the_mean():
    """A network whose output is the sum of its only hidden layer, all ones before dropout."""
    mlp = nice_tf.MLP(2, 1, hidden_units=(1000,), dropout=0.2)
    for variable in mlp.variables:
        is_one = "kernel_1" in variable.name or "bias_0" in variable.name
        variable.assign(tf.fill(variable.shape, float(is_one)))
    x = tf.ones([300, 2])
    np.testing.assert_allclose(mlp(x), np.full([300, 1], 1000))
    dropped = mlp(x, dropout_seed=tf.constant([0, 1])).numpy()
    assert len(np.unique(dropped)) > 50, "each example loses units of its own"
    # Each unit is 0, or 1 / 0.8: mean 1, variance 0.25.
    np.testing.assert_allclose(dropped.mean(), 1000, atol=5 * np.sqrt(250 / 300))
    np.testing.assert_allclose(dropped.std(), np.sqrt(250), rtol=0.3)
    np.testing.assert_array_equal(dropped, mlp(x, dropout_seed=tf.constant([0, 1])))
    assert not np.array_equal(dropped, mlp(x, dropout_seed=tf.constant([0, 2])))
    others = nice_tf.MLP(2, 1, hidden_units=(1000,), dropout=0.2, seed=1)
    for variable, value in zip(others.variables, mlp.variables, strict=True):
        variable.assign(value)
    assert not np.array_equal(dropped, others(x, dropout_seed=tf.constant([0, 1])))
    plain = randomize(nice_tf.MLP(2, 1, hidden_units=(9,)))
    np.testing.assert_array_equal(plain(x), plain(x, dropout_seed=tf.constant([0, 1])))


@pytest.mark.parametrize("num_branches", [1, 2, 3])
@pytest.mark.parametrize("hidden_units", [(), (4,), (5, 4), (5, 4, 7)])
@pytest.mark.parametrize("has_output_scale", [False, True])
def test_frozen_is_the_same_function(hidden_units, num_branches, has_output_scale):
    mlp = randomize(
        nice_tf.MLP(
            3, 2, hidden_units=hidden_units, has_output_scale=has_output_scale, dtype=tf.float64
        )
    )
    frozen = nice_tf.FrozenMLP(mlp, num_branches=num_branches)
    x = random_points(50, 3)
    for batch in (x, x[:, tf.newaxis], x[0]):
        np.testing.assert_allclose(frozen(batch), mlp(batch), rtol=1e-12, atol=1e-14)
    before = mlp(x).numpy()
    randomize(mlp, seed=1)
    np.testing.assert_allclose(frozen(x), before, rtol=1e-12, atol=1e-14)
    assert not frozen.trainable_variables and {v.dtype for v in frozen.variables} == {tf.float64}


@pytest.mark.parametrize("has_output_scale", [False, True])
def test_frozen_holds_the_weights_once_in_the_dtype_of_the_products(has_output_scale):
    mlp = nice_tf.MLP(
        3, 2, hidden_units=(4,), compute_dtype=tf.bfloat16, has_output_scale=has_output_scale
    )
    randomize(mlp)
    x = random_points(6, 3, dtype=np.float32)
    whole = nice_tf.FrozenMLP(mlp)
    np.testing.assert_array_equal(whole(x), mlp(x))
    assert whole(x).dtype == tf.float32
    assert {v.dtype for v in whole.variables if "output_scale" not in v.name} == {tf.bfloat16}
    np.testing.assert_allclose(nice_tf.FrozenMLP(mlp, num_branches=2)(x), mlp(x), atol=0.05)


def test_large_layers_are_dealt_out_to_two_branches():
    def kernels(width):
        frozen = nice_tf.FrozenMLP(nice_tf.MLP(3, 2, hidden_units=(width, width, width)))
        return [v.shape.as_list() for v in frozen.variables if v.shape.rank == 2]

    assert sorted(kernels(100)) == [[3, 100], [100, 2], [100, 100], [100, 100]]
    assert sorted(kernels(600)) == sorted(2 * [[3, 300], [300, 600], [600, 300], [300, 2]])


def test_branches_do_not_wait_for_each_other():
    """No branch may be fused with the sum: its product would start when the other's is there."""
    frozen = nice_tf.FrozenMLP(randomize(nice_tf.MLP(3, 2, hidden_units=(4, 4, 4))), num_branches=2)
    graph = tf.function(frozen).get_concrete_function(tf.TensorSpec([None, 3])).graph
    kinds = [operation.type for operation in graph.get_operations()]
    assert kinds.count("AddN") == 2 and kinds.count("MatMul") == 8 and "AddV2" not in kinds
    products = {op: set() for op in graph.get_operations() if op.type == "MatMul"}
    for product in products:  # what each one waits for
        waiting = [product]
        while waiting:
            for tensor in waiting.pop().inputs:
                products[product].add(tensor.op)
                waiting.append(tensor.op)
    depth = sorted(sum(other in before for other in products) for before in products.values())
    assert depth == [0, 0, 1, 1, 4, 4, 5, 5]


def test_residual_networks_are_not_frozen():
    mlp = nice_tf.MLP(3, 2, hidden_units=(4, 4), residual=True)
    with pytest.raises(nice_tf.UserError, match="residual layers cannot be frozen"):
        nice_tf.FrozenMLP(mlp)


def test_at_least_one_branch():
    with pytest.raises(nice_tf.UserError, match="at least 1, got 0"):
        nice_tf.FrozenMLP(nice_tf.MLP(3, 2, hidden_units=(4, 6)), num_branches=0)
