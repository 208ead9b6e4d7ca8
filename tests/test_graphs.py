"""What graphs share: traced once, with values and gradients of its own in each."""

import numpy as np
import pytest
import tensorflow as tf

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


def test_many_shapes_give_no_warning(scaled, caplog):
    function, seen = scaled
    for rows in range(1, 9):
        graph = tf.function(lambda x: function(x, {"weight": x}, 1.0)["product"])
        graph.get_concrete_function(tf.ones([rows, 2]))  # a call would give a warning of its own
    assert len(seen) == 8
    assert "retracing" not in caplog.text
