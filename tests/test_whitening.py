import dataclasses

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
from bijector_laws import check_laws, fresh
from flows import random_points

import nice_tf
from nice_tf.bijectors.whitening import covariance
from nice_tf.runs import architecture

tfb, tfd = tfp.bijectors, tfp.distributions

LAYERS = {
    "zca": lambda size, **kwargs: nice_tf.Whitening(size, **kwargs),
    "pca": lambda size, **kwargs: nice_tf.Whitening(size, kind="pca", **kwargs),
    "triangular": lambda size, **kwargs: nice_tf.TriangularWhitening(size, **kwargs),
    "standardize": lambda size, **kwargs: nice_tf.Standardize(size, **kwargs),
}


def correlated(number=2000, size=5, seed=0):
    generator = np.random.default_rng(seed)
    return generator.normal(size=[number, size]) @ generator.normal(size=[size, size]) + 3.0


def fitted(name, **kwargs):
    layer = LAYERS[name](5, dtype=tf.float64, **kwargs)
    layer.fit(correlated())
    return layer


@pytest.mark.parametrize("name", LAYERS)
def test_laws(name):
    check_laws(fitted(name), random_points(6, 5), atol=1e-11)


@pytest.mark.parametrize("name", LAYERS)
def test_fit_whitens(name):
    layer, x = fitted(name), correlated()
    y = layer.forward(tf.constant(x)).numpy()
    if name == "standardize":
        np.testing.assert_allclose(y.mean(axis=0), np.zeros(5), atol=1e-10)
        np.testing.assert_allclose(y.std(axis=0), np.ones(5), rtol=1e-10)
        return
    np.testing.assert_allclose(np.cov(y.T, bias=True), np.eye(5), atol=1e-10)
    # The log-det of any whitening is that of the covariance, whose determinant it takes to 1.
    expected = -0.5 * np.linalg.slogdet(np.cov(x.T, bias=True))[1]
    np.testing.assert_allclose(
        layer.forward_log_det_jacobian(tf.constant(x[0]), 1), expected, rtol=1e-10
    )
    if name == "zca":
        np.testing.assert_allclose(layer.matrix, tf.transpose(layer.matrix), atol=1e-10)
    if name == "pca":  # rows are eigenvectors, each divided by its deviation
        variances = np.linalg.eigvalsh(np.cov(x.T, bias=True))
        np.testing.assert_allclose(
            layer.matrix @ tf.transpose(layer.matrix), np.diag(1 / variances), atol=1e-10
        )
    if name == "triangular":
        np.testing.assert_array_equal(layer.matrix, np.tril(layer.matrix))
        np.testing.assert_allclose(y.mean(axis=0), np.zeros(5), atol=1e-10)


@pytest.mark.parametrize("name", LAYERS)
def test_a_whitened_normal_is_the_density_of_the_data(name):
    """N(0, 1) behind the layer is the Gaussian with the data's moments: the log-det in the whole."""
    x = correlated()
    covariance_ = np.cov(x.T, bias=True)
    if name == "standardize":
        covariance_ = np.diag(np.diag(covariance_))
    mean = x.mean(axis=0)
    prior = tfd.Independent(tfd.Normal(tf.zeros(5, tf.float64), tf.ones(5, tf.float64)), 1)
    layers = [fitted(name)]
    if name in ("zca", "pca"):
        layers.append(
            nice_tf.Center(5, loc=tf.constant(mean))
        )  # tfb.Chain applies its last element first
    density = tfd.TransformedDistribution(prior, tfb.Invert(tfb.Chain(layers)))
    expected = tfd.MultivariateNormalTriL(mean, np.linalg.cholesky(covariance_))
    np.testing.assert_allclose(density.log_prob(x[:9]), expected.log_prob(x[:9]), rtol=1e-9)


@pytest.mark.parametrize("name", LAYERS)
def test_same_values_eagerly_in_graphs_in_tf_data_and_in_copies(name):
    layer = LAYERS[name](5)
    layer.fit(correlated())
    x = correlated(7).astype(np.float32)
    eager = layer.forward(tf.constant(x)).numpy()
    for jit_compile in (False, True):
        graph = tf.function(
            layer.forward, jit_compile=jit_compile, input_signature=[tf.TensorSpec([None, 5])]
        )
        np.testing.assert_allclose(graph(x), eager, atol=1e-5)
    streamed = tf.data.Dataset.from_tensor_slices(x).batch(3).map(layer.forward)
    np.testing.assert_allclose(np.concatenate(list(streamed.as_numpy_iterator())), eager, atol=1e-6)
    copied = layer.copy(name="copied")
    np.testing.assert_array_equal(copied.forward(tf.constant(x)), eager)
    assert {id(v) for v in copied.variables} == {id(v) for v in layer.variables}
    many = tf.constant(x)[tf.newaxis, :, tf.newaxis]
    np.testing.assert_allclose(layer.inverse(fresh(layer.forward(many))), many, atol=1e-4)


def test_only_the_triangle_is_trained():
    assert (
        not nice_tf.Whitening(4).trainable_variables
        and not nice_tf.Standardize(4).trainable_variables
    )
    assert (
        sum(v.shape.num_elements() for v in nice_tf.TriangularWhitening(4).trainable_variables)
        == 10 + 4
    )


def test_epsilon_is_a_floor_of_the_eigenvalues():
    x = np.array([[1.0, 0.0], [-1.0, 0.0], [1.0, 0.0], [-1.0, 0.0]])
    with pytest.raises(
        nice_tf.UserError, match="covariance of 4 examples has rank 1, below the 2 coordinates"
    ):
        nice_tf.Whitening(2, dtype=tf.float64).fit(x)
    layer = nice_tf.Whitening(2, epsilon=0.25, dtype=tf.float64)
    layer.fit(x)
    np.testing.assert_allclose(layer.matrix, np.diag([1.0, 2.0]), atol=1e-12)
    np.testing.assert_allclose(
        layer.forward_log_det_jacobian(tf.constant(x[0]), 1), np.log(2.0), rtol=1e-12
    )


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: nice_tf.Whitening(3, kind="x"), "kind must be one of zca, pca, got 'x'"),
        (lambda: nice_tf.Whitening(3, epsilon=-1.0), "epsilon must be at least 0, got -1.0"),
        (lambda: nice_tf.Whitening(3, matrix=tf.eye(3)), "must be given together"),
        (lambda: nice_tf.TriangularWhitening(3, shift=tf.ones(4)), "shift must have shape"),
        (
            lambda: nice_tf.Whitening(3).fit(np.ones([4, 5])),
            r"examples of shape \[N, 3\] are needed, got \[4, 5\]",
        ),
        (lambda: nice_tf.Whitening(3).fit(np.ones([1, 3])), "at least 2 examples, got 1"),
        (
            lambda: nice_tf.TriangularWhitening(3).fit(np.ones([9, 3])),
            "rank 0, below the 3 coordinates",
        ),
        (
            lambda: nice_tf.Standardize(3).fit(np.ones([9, 3])),
            "3 of 3 coordinates have the same value",
        ),
        (lambda: nice_tf.Whitening(3).forward(tf.ones([2, 1])), "the last axis must have 3 values"),
    ],
)
def test_bad_arguments(call, message):
    with pytest.raises(nice_tf.UserError, match=message):
        call()


@pytest.mark.parametrize("name", ["zca", "pca", "triangular"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_linear_dependence_is_refused_to_rounding(name, dtype):
    for seed in range(20):
        x = correlated(300, 3, seed).astype(dtype)
        with pytest.raises(nice_tf.UserError, match="has rank 3, below the 4 coordinates"):
            LAYERS[name](4).fit(np.concatenate([x, x[:, :1] + x[:, 1:2]], axis=1))


def test_whitening_epsilon_is_in_units_of_x_whatever_the_range():
    x = np.array([[1.0, 0.0], [-1.0, 0.0], [1.0, 0.0], [-1.0, 0.0]]) / 4
    config = nice_tf.Config(
        whitening="zca", whitening_epsilon=0.01, hidden_units=(4,), num_couplings=2
    )
    for input_range in ("unit", "symmetric"):
        flow = architecture.make_flow(dataclasses.replace(config, input_range=input_range), [2])
        nice_tf.initialize_from_data(flow, x, scales=False)
        whole = nice_tf.encoder(flow).forward(tf.constant([[1.0, 1.0], [0.0, 0.0]]))
        np.testing.assert_allclose(whole[0] - whole[1], [4.0, 10.0], rtol=1e-4)


def test_covariance_in_parts(monkeypatch):
    x = correlated(100).astype(np.float32)
    expected = np.cov(x.T.astype(np.float64), bias=True)
    np.testing.assert_allclose(covariance(x), expected, rtol=1e-9)
    monkeypatch.setattr("nice_tf.bijectors.whitening._ROWS_AT_ONCE", 7)
    np.testing.assert_allclose(covariance(x), expected, rtol=1e-9)


@pytest.mark.parametrize("whitening", ["standardize", "zca", "triangular"])
@pytest.mark.parametrize("input_range", ["unit", "symmetric"])
def test_flow_starts_white_and_counts_every_log_det(whitening, input_range):
    """With a Gaussian prior and m = 0 the initialised flow is the Gaussian of the data, in the
    data's own units.
    """
    x = correlated(4000).astype(np.float64) / 10
    flow = nice_tf.build_flow(
        [5],
        hidden_units=(4,),
        prior="gaussian",
        whitening=whitening,
        input_range=input_range,
        dtype=tf.float64,
    )
    nice_tf.initialize_from_data(flow, x)
    covariance_ = np.cov(x.T, bias=True)
    if whitening == "standardize":
        covariance_ = np.diag(np.diag(covariance_))
    expected = tfd.MultivariateNormalTriL(x.mean(axis=0), np.linalg.cholesky(covariance_))
    np.testing.assert_allclose(flow.log_prob(x[:9]), expected.log_prob(x[:9]), rtol=1e-6)
    # 1 / sqrt of the precision's diagonal: the deviation of each value given the others.
    deviation = 1 / np.sqrt(np.diag(np.linalg.inv(covariance_)))
    np.testing.assert_allclose(nice_tf.conditional_scales(flow), deviation, rtol=1e-6)


def test_symmetric_range_is_2x_minus_1_where_nothing_is_initialised():
    flow = nice_tf.build_flow([4], hidden_units=(4,), input_range="symmetric")
    x = random_points(3, 4, dtype=np.float32)
    np.testing.assert_allclose(nice_tf.encoder(flow).forward(x), 2 * x - 1, atol=1e-6)
    np.testing.assert_allclose(
        nice_tf.encoder(flow).forward_log_det_jacobian(fresh(x), 1),
        np.full(3, 4 * np.log(2)),
        rtol=1e-6,
    )


@pytest.mark.parametrize("whitening", ["standardize", "zca", "triangular"])
@pytest.mark.parametrize("input_range", ["unit", "symmetric"])
def test_whitening_is_fitted_where_the_scales_are_left(whitening, input_range):
    """As the paper's settings have it: images, whitened from the data, with scales that start at 1."""
    x = correlated(3000, 4).astype(np.float32).reshape(-1, 2, 2, 1) / 10
    flow = nice_tf.build_flow(
        [2, 2, 1], hidden_units=(4,), whitening=whitening, input_range=input_range
    )
    nice_tf.initialize_from_data(flow, x, scales=False)
    np.testing.assert_array_equal(nice_tf.inverse_scales(flow), np.ones(4))
    z = nice_tf.encoder(flow).forward(x).numpy()
    np.testing.assert_allclose(z.mean(axis=0), np.zeros(4), atol=1e-4)
    moments = np.cov(z.T, bias=True)
    np.testing.assert_allclose(
        np.diag(moments) if whitening == "standardize" else moments,
        np.ones(4) if whitening == "standardize" else np.eye(4),
        atol=1e-3,
    )


def test_cross_fitting_whitens_each_example_by_the_others():
    x = correlated(43)
    layer = nice_tf.TriangularWhitening(5, shrinkage=True, dtype=tf.float64)
    y = layer.cross_fitted(x)
    others = np.arange(43) % 10 != 7
    layer.fit(x[others])
    np.testing.assert_allclose(y[~others], layer.forward(x[~others]), rtol=1e-9)
    with pytest.raises(nice_tf.UserError, match="at least 3 examples, got 2"):
        layer.cross_fitted(x[:2])


@pytest.mark.parametrize("num_train", [40, 200])
def test_scales_of_few_examples_are_those_of_new_ones(num_train):
    """More coordinates than examples, or fewer: z of new examples has the prior's deviation, z of
    the old a smaller.
    """
    x = correlated(num_train + 2000, 80)
    flow = nice_tf.build_flow(
        [80], hidden_units=(4,), prior="gaussian", whitening="standardize_triangular"
    )
    nice_tf.initialize_from_data(flow, x[:num_train])
    old, new = np.split(
        np.asarray(nice_tf.encoder(flow).forward(tf.cast(x, tf.float32))), [num_train]
    )
    assert np.exp(np.mean(np.log(new.std(axis=0)))) == pytest.approx(1, rel=0.1)
    assert np.exp(np.mean(np.log(old.std(axis=0)))) < 0.9
