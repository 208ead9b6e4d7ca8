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
    by_function = randomize(nice_tf.MLP(3, 2, hidden_units=(4,), activation=lambda h: tf.math.log(1 + tf.exp(h))))
    x = random_points(6, 3, dtype=np.float32)
    np.testing.assert_allclose(by_name(x), by_function(x), rtol=1e-5)
    assert not np.allclose(by_name(x), randomize(nice_tf.MLP(3, 2, hidden_units=(4,)))(x))


def test_bfloat16_inside_only():
    mlp = randomize(nice_tf.MLP(3, 2, hidden_units=(4,), compute_dtype=tf.bfloat16))
    exact = randomize(nice_tf.MLP(3, 2, hidden_units=(4,)))
    x = random_points(6, 3, dtype=np.float32)
    assert mlp(x).dtype == tf.float32 and {v.dtype for v in mlp.variables} == {tf.float32}
    assert 1e-4 < np.max(np.abs(mlp(x) - exact(x))) < 0.1
