"""What graphs share: traced once, with values and gradients of its own in each."""

import concurrent.futures
import threading

import numpy as np
import pytest
import tensorflow as tf

import nice_tf
from nice_tf.bijectors.graphs import shared_by_graphs


@pytest.fixture
def scaled():
    """`scaled(x, tables, factor)`, and the shapes of x that it was traced or run with."""
    seen = []

    @shared_by_graphs
    def scaled(x, tables, factor):
        seen.append(x.shape.as_list())
        return {"product": factor * x * tables["weight"]}

    return scaled, seen


def gradient_in_a_graph(function, weight, x):
    @tf.function
    def gradient(x):
        with tf.GradientTape() as tape:
            total = tf.reduce_sum(function(x, {"weight": weight}, 3.0)["product"])
        return total, tape.gradient(total, weight)

    return gradient(x)


def test_graphs_of_equal_shapes_trace_it_once(scaled):
    function, seen = scaled
    for size in (2, 5):  # other variables, and another graph each
        weight = tf.Variable([[2.0] * size])
        x = tf.ones([4, size])
        total, gradient = gradient_in_a_graph(function, weight, x)
        np.testing.assert_allclose(total, 3 * 2 * 4 * size)
        np.testing.assert_allclose(gradient, np.full([1, size], 3.0 * 4))
        weight.assign(weight + 1)
        again, _ = gradient_in_a_graph(function, weight, x)
        np.testing.assert_allclose(again, 3 * 3 * 4 * size, err_msg="what the variable holds now")
    assert seen == [[4, 2], [4, 5]]


def test_another_object_is_another_graph(scaled):
    function, seen = scaled
    x = tf.ones([1, 2])
    graph = tf.function(lambda x, factor: function(x, {"weight": x}, factor)["product"])
    np.testing.assert_allclose(graph(x, 3.0), [[3.0, 3.0]])
    np.testing.assert_allclose(graph(x, 4.0), [[4.0, 4.0]])
    assert len(seen) == 2


def test_without_a_graph_it_is_the_function_itself(scaled):
    function, seen = scaled
    for rows in range(1, 4):
        found = function(tf.ones([rows, 2]), {"weight": tf.Variable([1.0, 2.0])}, 3.0)["product"]
        np.testing.assert_allclose(found, [[3.0, 6.0]] * rows)
    assert seen == [[1, 2], [2, 2], [3, 2]]
    assert function.__name__ == "scaled"


def test_threads_do_not_share_graphs(scaled):
    """TensorFlow adds gradients to a graph without a lock."""
    function, seen = scaled
    together = threading.Barrier(4)

    def work(factor):
        together.wait()
        weight = tf.Variable([[float(factor)]])
        total, gradient = gradient_in_a_graph(function, weight, tf.ones([4, 1]))
        return total.numpy(), gradient.numpy()

    with concurrent.futures.ThreadPoolExecutor(4) as threads:
        found = list(threads.map(work, range(1, 5)))
    for factor, (total, gradient) in enumerate(found, start=1):
        np.testing.assert_allclose(total, 3 * 4 * factor)
        np.testing.assert_allclose(gradient, [[3.0 * 4]])
    assert seen == [[4, 1]] * 4


def test_forward_mode_derivatives_in_a_graph():
    x = np.random.default_rng(0).gamma(1.5, size=[300, 3])
    flow = nice_tf.build_flow(
        [3],
        hidden_units=(8,),
        zero_last_layer=False,
        marginals="trained",
        partition="nested",
        conditioner_input="values",
        num_couplings=2,
        dtype=tf.float64,
    )
    nice_tf.initialize_from_data(flow, x)

    def derivative(x):
        with tf.autodiff.ForwardAccumulator(x, tf.ones_like(x)) as forward:
            log_prob = flow.log_prob(x)
        return forward.jvp(log_prob)

    expected = derivative(tf.constant(x[:5]))
    assert np.std(expected) > 0.1
    np.testing.assert_allclose(tf.function(derivative)(tf.constant(x[:5])), expected, rtol=1e-8)
