"""What TensorFlow Probability asks of a bijector or distribution: every check of every constructor.

docs/tfp_contract.md is the list, with the checks that other files hold and the exceptions.
"""

import pathlib
import re

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
import tf_keras
from absl import flags
from bijector_laws import check_laws, fresh
from flows import random_flow, random_points, randomize
from pace import slow_except
from tensorflow_probability.python.internal import test_util

import nice_tf

tfb, tfd = tfp.bijectors, tfp.distributions

SIZE = 5


def coupling(dtype, passthrough="first", **kwargs):
    mlp = nice_tf.MLP(3, 2, hidden_units=(6, 6), activation="tanh", dtype=dtype, **kwargs)
    return nice_tf.AdditiveCoupling(randomize(mlp), num_passthrough=3, passthrough=passthrough)


def fitted(layer, seed=0):
    generator = np.random.default_rng(seed)
    layer.fit(generator.normal(size=[50, SIZE]) @ generator.normal(size=[SIZE, SIZE]) + 3.0)
    return layer


def chain_with_tfps_own(dtype):
    scaling, triangular = (
        nice_tf.DiagonalScaling(SIZE, dtype=dtype),
        nice_tf.TriangularWhitening(SIZE, dtype=dtype),
    )
    real_nvp = tfb.RealNVP(
        num_masked=2, shift_and_log_scale_fn=lambda h, units: (tf.sin(h[..., :1]), None)
    )
    return tfb.Chain(
        [
            tfb.SoftClip(tf.constant(-9, dtype), tf.constant(9, dtype)),
            coupling(dtype),
            tfb.Permute([4, 2, 0, 1, 3]),
            randomize(scaling),
            real_nvp,
            tfb.Shift(tf.range(SIZE, dtype=dtype)),
            randomize(triangular),
        ]
    )


def flow_with_marginals(dtype):
    flow = nice_tf.build_flow(
        [SIZE],
        num_couplings=2,
        hidden_units=(7, 6),
        activation="tanh",
        marginals="quantile",
        conditioner_input="values",
        partition="nested",
        dtype=dtype,
    )
    nice_tf.initialize_from_data(flow, 2 * random_points(500, SIZE))
    generator = np.random.default_rng(0)
    for variable in flow.trainable_variables:
        variable.assign(generator.normal(0.0, 0.5, variable.shape).astype(dtype.as_numpy_dtype))
    return flow


BIJECTORS = {
    "coupling": coupling,
    "coupling float16": lambda dtype: coupling(dtype, "second", compute_dtype=tf.float16),
    "coupling bfloat16": lambda dtype: coupling(dtype, compute_dtype=tf.bfloat16),
    "coupling with output scale": lambda dtype: coupling(dtype, has_output_scale=True),
    "scaling": lambda dtype: randomize(
        nice_tf.DiagonalScaling(SIZE, max_log_scale=0.1, dtype=dtype)
    ),
    "center": lambda dtype: randomize(nice_tf.Center(SIZE, dtype=dtype)),
    "standardize": lambda dtype: fitted(nice_tf.Standardize(SIZE, dtype=dtype)),
    "whitening": lambda dtype: fitted(nice_tf.Whitening(SIZE, dtype=dtype)),
    "triangular": lambda dtype: randomize(nice_tf.TriangularWhitening(SIZE, dtype=dtype)),
    "marginals": lambda dtype: fitted(
        nice_tf.QuantileTransform(
            SIZE, family="normal", steps=[0.0, 0.0, 0.0, 0.25, 0.25], max_bins=32, dtype=dtype
        )
    ),
    "chain with TFP's own": chain_with_tfps_own,
}
DISTRIBUTIONS = {
    "logistic prior": lambda dtype: randomize(
        nice_tf.logistic_prior(SIZE, trainable_scale=True, dtype=dtype)
    ),
    "gaussian prior": lambda dtype: randomize(
        nice_tf.gaussian_prior(SIZE, trainable_scale=True, dtype=dtype)
    ),
    "logistic mixture prior": lambda dtype: randomize(
        nice_tf.logistic_mixture_prior(SIZE, num_components=3, dtype=dtype)
    ),
    "flow with marginals": flow_with_marginals,
    "flow": lambda dtype: random_flow([SIZE], num_couplings=3, whitening="triangular", dtype=dtype),
    "conditional flow": lambda dtype: random_flow(
        [SIZE], num_couplings=3, context_size=2, dtype=dtype
    ),
}
CONSTRUCTORS = {**BIJECTORS, **DISTRIBUTIONS}
NUM_VARIABLES = {  # all, trained
    **dict.fromkeys(["coupling", "coupling float16", "coupling bfloat16"], (6, 6)),
    "coupling with output scale": (7, 6),
    "scaling": (1, 1),
    "center": (1, 0),
    "standardize": (2, 0),
    "whitening": (3, 0),
    "triangular": (2, 2),
    "marginals": (8, 0),
    "chain with TFP's own": (9, 9),
    "flow with marginals": (23, 13),
    "logistic prior": (1, 1),
    "gaussian prior": (1, 1),
    "logistic mixture prior": (3, 3),
    "flow": (25, 21),
    "conditional flow": (23, 19),
}


def keywords(name):
    return nice_tf.context_kwargs([0.5, -1.0]) if name == "conditional flow" else {}


def values(name, thing, x):
    """All that a thing of this constructor says of x, `[..., SIZE]`: tensors of the batch shape of
    x, or of x's.
    """
    if name in DISTRIBUTIONS:
        return {"log_prob": thing.log_prob(x, **keywords(name))}
    zeros = tf.zeros_like(x[..., 0])
    return {
        "forward": thing.forward(x),
        "inverse": thing.inverse(tf.tanh(x)),
        "forward log-det": thing.forward_log_det_jacobian(x, 1) + zeros,
        "inverse log-det": thing.inverse_log_det_jacobian(tf.tanh(x), 1) + zeros,
    }


def function_of(name, dtype=tf.float64):
    """`values` of x alone."""
    thing = CONSTRUCTORS[name](dtype)
    return lambda x: values(name, thing, x)


def rounding(name, usual):
    """Coarse products round otherwise in one graph than in another."""
    tolerance = {"coupling float16": 5e-3, "coupling bfloat16": 5e-2}.get(name, usual)
    return {"rtol": tolerance, "atol": tolerance}


def assert_close(found, expected, **tolerance):
    assert found.keys() == expected.keys()
    for key in found:
        np.testing.assert_allclose(found[key], expected[key], err_msg=key, **tolerance)


def for_each(constructors):
    return pytest.mark.parametrize("name", constructors)


@for_each(CONSTRUCTORS)
def test_parameters_and_copy(name):
    thing = CONSTRUCTORS[name](tf.float64)
    assert {"name", "validate_args"} <= thing.parameters.keys() and "self" not in thing.parameters
    copied = thing.copy(name="another")
    assert type(copied) is type(thing) and copied.name == "another" and thing.name != "another"
    assert [id(v) for v in copied.variables] == [id(v) for v in thing.variables]
    x = random_points(3, SIZE)
    assert_close(values(name, copied, fresh(x)), values(name, thing, x), rtol=0, atol=0)
    assert thing.copy(validate_args=True).validate_args and not thing.validate_args
    if isinstance(
        thing, tfb.Bijector
    ):  # by which TFP knows in `kl_divergence` and its cache that two are one
        assert thing == thing.copy() and hash(thing) == hash(thing.copy())


@pytest.mark.parametrize(
    ("layer", "changed", "expected"),
    [
        (nice_tf.DiagonalScaling(2), {"log_scale": tf.math.log([2.0, 4.0])}, [2, 4]),
        (nice_tf.Center(2), {"loc": tf.constant([2.0, 4.0])}, [-1, -3]),
        (nice_tf.Standardize(2), {"scale": tf.constant([2.0, 4.0])}, [0.5, 0.25]),
        (nice_tf.TriangularWhitening(2), {"shift": tf.constant([2.0, 4.0])}, [3, 5]),
        (
            nice_tf.AdditiveCoupling(tf.identity, num_passthrough=1),
            {"conditioner": lambda h: 3 * h},
            [1, 4],
        ),
        (
            nice_tf.AdditiveCoupling(tf.identity, num_passthrough=1),
            {"passthrough": "second"},
            [2, 1],
        ),
    ],
)
def test_copy_with_another_value(layer, changed, expected):
    before = layer.forward(tf.ones([1, 2]))
    np.testing.assert_allclose(
        layer.copy(**changed).forward(tf.ones([1, 2])), [expected], rtol=1e-6
    )
    np.testing.assert_array_equal(layer.forward(tf.ones([1, 2])), before)


def test_given_values_set_the_dtype():
    """As in TFP: a layer of float64 tensors takes float64, whatever the dtype of variables it did
    not need to make.
    """
    two = tf.constant([2.0, 2.0], tf.float64)
    matrix = tf.linalg.diag(two)
    for layer in (
        nice_tf.DiagonalScaling(2, log_scale=two),
        nice_tf.Center(2, loc=two),
        nice_tf.Standardize(2, loc=two, scale=two),
        nice_tf.Whitening(
            2,
            matrix=matrix,
            inverse_matrix=tf.linalg.inv(matrix),
            log_det=tf.math.log(matrix[0, 0]) * 2,
        ),
        nice_tf.TriangularWhitening(2, packed=tf.zeros(3, tf.float64), shift=two),
    ):
        assert layer.dtype == tf.float64 and layer.forward([[1.0, 2.0]]).dtype == tf.float64
        assert not layer.variables


@for_each(CONSTRUCTORS)
def test_name(name):
    thing = CONSTRUCTORS[name](tf.float64)
    with tf.name_scope("outer"):
        inside = CONSTRUCTORS[name](tf.float64)
    assert inside.name == thing.name and re.fullmatch(r"[A-Za-z0-9_]+", thing.name)
    assert thing.copy(name="mine").name == "mine"


@for_each(BIJECTORS)
def test_validate_args(name):
    """What is valid stays as it is, in graphs, too."""
    thing = BIJECTORS[name](tf.float64)
    validating = thing.copy(validate_args=True)
    x = random_points(3, SIZE)
    found = tf.function(lambda x: values(name, validating, x))(x)
    assert_close(found, values(name, thing, x), **rounding(name, 1e-10))


def test_validate_args_checks_values():
    negative = nice_tf.Standardize(2, scale=tf.Variable([1.0, 1.0]), validate_args=True)
    negative.forward(tf.ones([3, 2]))
    negative.scale.assign([1.0, -1.0])
    for call in (negative.forward, tf.function(negative.inverse)):
        with pytest.raises(tf.errors.InvalidArgumentError, match="scale must be above 0"):
            call(tf.zeros([3, 2]))
    wrong = nice_tf.AdditiveCoupling(lambda h: h[..., :1], num_passthrough=2, validate_args=True)
    call = tf.function(wrong.forward, input_signature=[tf.TensorSpec([None, None])])
    call(tf.ones([3, 3]))
    with pytest.raises(tf.errors.InvalidArgumentError, match="one value per shifted coordinate"):
        call(tf.ones([3, 4]))


@for_each(["scaling", "center", "standardize", "whitening", "triangular", "marginals"])
@pytest.mark.parametrize("shape", [[None, None], None])
def test_event_of_another_size_is_refused_in_the_run(name, shape):
    """Where the graph does not know the size: an axis of 1 would be broadcast in silence."""
    layer = BIJECTORS[name](tf.float64)
    for method in (layer.forward, layer.inverse):
        call = tf.function(method, input_signature=[tf.TensorSpec(shape, tf.float64)])
        assert call(random_points(3, SIZE)).shape == [3, SIZE]
        with pytest.raises(tf.errors.InvalidArgumentError):
            call(random_points(3, 1))


@for_each(CONSTRUCTORS)
def test_shapes_of_any_rank(name):
    function = function_of(name)
    x = random_points(2, 1, 3, SIZE)
    found = function(x)
    rows = function(tf.reshape(x, [6, SIZE]))
    for key, value in found.items():
        assert value.shape == ([2, 1, 3, SIZE] if key in ("forward", "inverse") else [2, 1, 3])
        np.testing.assert_allclose(
            tf.reshape(value, rows[key].shape), rows[key], **rounding(name, 1e-10), err_msg=key
        )
    alone = function(x[1, 0, 2])
    assert_close(alone, {key: value[5] for key, value in rows.items()}, **rounding(name, 1e-10))
    for batch_shape in ([0], [2, 0]):
        for value in function(tf.zeros([*batch_shape, SIZE], tf.float64)).values():
            assert value.shape[: len(batch_shape)] == batch_shape


@for_each(BIJECTORS)
def test_event_shapes(name):
    bijector = BIJECTORS[name](tf.float64)
    assert bijector.forward_min_event_ndims == bijector.inverse_min_event_ndims == 1
    assert bijector.forward_event_shape([SIZE]) == bijector.inverse_event_shape([SIZE]) == [SIZE]
    assert list(bijector.forward_event_shape_tensor([SIZE])) == [SIZE]
    # A matrix as the event: the log-dets of its rows add up.
    x = random_points(2, 3, SIZE)
    rows = bijector.forward_log_det_jacobian(x, 1) + tf.zeros([2, 3], tf.float64)
    np.testing.assert_allclose(
        bijector.forward_log_det_jacobian(fresh(x), 2) + tf.zeros(2, tf.float64),
        tf.reduce_sum(rows, 1),
        rtol=1e-12,
    )


@for_each(DISTRIBUTIONS)
def test_sample_shapes(name):
    distribution = DISTRIBUTIONS[name](tf.float64)
    assert distribution.event_shape == [SIZE] and distribution.batch_shape == []
    kwargs = keywords(name)
    for shape in ([], [3], [2, 1, 3]):
        x, log_prob = distribution.experimental_sample_and_log_prob(shape, seed=[0, 1], **kwargs)
        assert x.shape == [*shape, SIZE] and log_prob.shape == shape
        np.testing.assert_allclose(distribution.log_prob(fresh(x), **kwargs), log_prob, rtol=1e-9)


@for_each(CONSTRUCTORS)
def test_unknown_static_batch_shape(name):
    function = function_of(name)
    x = random_points(2, 3, SIZE)
    expected = function(x)
    call = tf.function(function, input_signature=[tf.TensorSpec(None, tf.float64)])
    assert_close(call(x), expected, **rounding(name, 1e-10))
    call = tf.function(function, input_signature=[tf.TensorSpec([None, SIZE], tf.float64)])
    assert_close(
        call(x[0]), {key: value[0] for key, value in expected.items()}, **rounding(name, 1e-10)
    )


@for_each(CONSTRUCTORS)
@pytest.mark.parametrize(
    ("dtype", "jit_compile"), [(tf.float32, False), (tf.float32, True), (tf.float64, True)]
)
def test_dtypes_in_graphs_with_and_without_xla(name, dtype, jit_compile):
    function = function_of(name, dtype)
    x = tf.cast(random_points(4, SIZE), dtype)
    expected = function(x)
    found = tf.function(function, jit_compile=jit_compile)(fresh(x))
    assert (
        {value.dtype for value in found.values()}
        == {value.dtype for value in expected.values()}
        == {dtype}
    )
    assert_close(found, expected, **rounding(name, 1e-3 if dtype == tf.float32 else 1e-9))


@for_each(DISTRIBUTIONS)
@pytest.mark.parametrize("jit_compile", [False, True])
def test_sampling_in_graphs_with_and_without_xla(name, jit_compile):
    distribution, kwargs = DISTRIBUTIONS[name](tf.float32), keywords(name)

    @tf.function(jit_compile=jit_compile)
    def draw():
        return distribution.experimental_sample_and_log_prob(4, seed=[1, 2], **kwargs)

    x, log_prob = draw()
    assert x.dtype == log_prob.dtype == tf.float32
    np.testing.assert_allclose(distribution.log_prob(x, **kwargs), log_prob, rtol=1e-3)
    if not jit_compile:  # XLA draws from another generator
        np.testing.assert_allclose(
            x, distribution.sample(4, seed=[1, 2], **kwargs), rtol=1e-3, atol=1e-4
        )


def test_conditioner_of_another_precision():
    """What m returns is cast: float16 inside a conditioner that is not ours."""
    layer = nice_tf.AdditiveCoupling(
        lambda h: tf.cast(h[..., :2], tf.float16) / 3, num_passthrough=3
    )
    x = random_points(4, SIZE)
    y = layer.forward(x)
    assert y.dtype == tf.float64
    np.testing.assert_allclose(y[:, 3:], x[:, 3:] + x[:, :2] / 3, atol=1e-3)
    np.testing.assert_allclose(layer.inverse(fresh(y)), x, rtol=1e-15, atol=1e-15)


@for_each(CONSTRUCTORS)
def test_vectorized_map(name):
    function = function_of(name)
    x = random_points(4, SIZE)
    found = tf.vectorized_map(function, x, fallback_to_while_loop=False)
    assert_close(found, function(x), **rounding(name, 1e-10))


# That of the flow with marginals is that of its layers, and takes long.
@for_each(
    slow_except(
        sorted(
            set(CONSTRUCTORS) - {"coupling float16", "coupling bfloat16", "flow with marginals"}
        ),
        "marginals",
        "conditional flow",
        "logistic mixture prior",
    )
)
def test_second_order_gradients(name):
    """TensorFlow's own comparison with differences, of a function that is itself a gradient; then
    in the variables.
    """
    thing = CONSTRUCTORS[name](tf.float64)

    def scalar(x):
        return tf.add_n([tf.reduce_sum(tf.sin(value)) for value in values(name, thing, x).values()])

    @tf.function(autograph=False)
    def gradient(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            value = scalar(x)
        return tape.gradient(value, x)

    x = random_points(1, SIZE)
    (analytic,), (numeric,) = tf.test.compute_gradient(gradient, [x], delta=1e-5)
    assert np.max(np.abs(analytic)) > 1e-3
    np.testing.assert_allclose(analytic, numeric, rtol=1e-5, atol=1e-5 * np.max(np.abs(analytic)))

    @tf.function(autograph=False)
    def penalty():
        with tf.GradientTape() as tape:
            norm = tf.reduce_sum(gradient(x) ** 2)
        return tape.gradient(norm, thing.trainable_variables)

    for variable, second in zip(thing.trainable_variables, penalty(), strict=True):
        assert second is not None and np.any(second != 0) and np.all(np.isfinite(second)), (
            variable.name
        )


@for_each(CONSTRUCTORS)
def test_checkpoint(name, tmp_path):
    saved, restored = (CONSTRUCTORS[name](tf.float64) for _ in range(2))
    for variable in restored.variables:
        variable.assign(variable + 1)
    path = tf.train.Checkpoint(thing=saved).save(str(tmp_path / "checkpoint"))
    tf.train.Checkpoint(thing=restored).restore(path).assert_consumed()
    x = random_points(3, SIZE)
    assert_close(values(name, restored, x), values(name, saved, fresh(x)), rtol=0, atol=0)
    assert all(
        np.array_equal(*pair) for pair in zip(restored.variables, saved.variables, strict=True)
    )


def transformed(bijector, dtype=tf.float64):
    return tfd.TransformedDistribution(
        nice_tf.gaussian_prior(SIZE, dtype=dtype), tfb.Invert(bijector)
    )


def coroutine(distribution):
    def model():
        yield tfd.JointDistributionCoroutine.Root(distribution)

    return tfd.JointDistributionCoroutine(model)


INSIDE = {
    "tf.Module": lambda thing: holding(tf.Module(), thing),
    "tf_keras.Model": lambda thing: holding(tf_keras.Model(), thing),
    "Independent, BatchBroadcast": lambda thing: tfd.Independent(
        tfd.BatchBroadcast(density(thing), [2]), 1
    ),
}
INSIDE_JOINT = {
    "Sequential": lambda thing: tfd.JointDistributionSequential(
        [density(thing), tfd.Normal(0.0, 1.0)]
    ),
    "Named": lambda thing: tfd.JointDistributionNamed({"x": density(thing)}),
    "NamedAutoBatched": lambda thing: tfd.JointDistributionNamedAutoBatched({"x": density(thing)}),
    "Named, behind a function": lambda thing: tfd.JointDistributionNamed(
        {"loc": tfd.Normal(0.0, 1.0), "x": lambda loc: density(thing)}
    ),
    "Coroutine": lambda thing: coroutine(density(thing)),
}
INSIDE_BIJECTORS = {
    "Chain": lambda bijector: tfb.Chain([tfb.Exp(), bijector]),
    "Chain by a call": lambda bijector: tfb.Exp()(bijector),
    "Invert": tfb.Invert,
    "JointMap": lambda bijector: tfb.JointMap({"a": bijector, "b": tfb.Exp()}),
    "JointMap in Chain in Invert": lambda bijector: tfb.Invert(
        tfb.Chain([tfb.JointMap([bijector, tfb.Exp()])])
    ),
    "TransformedDistribution": transformed,
}


def density(thing):
    return thing if isinstance(thing, tfd.Distribution) else transformed(thing)


def holding(module, thing):
    module.held = thing
    return module


@for_each(CONSTRUCTORS)
def test_variables_are_complete_inside_of_others(name):
    thing = CONSTRUCTORS[name](tf.float64)
    assert (len(thing.variables), len(thing.trainable_variables)) == NUM_VARIABLES[name]
    wanted = {id(v) for v in thing.variables}, {id(v) for v in thing.trainable_variables}
    joint = {} if name == "conditional flow" else INSIDE_JOINT
    for outer, wrap in {
        **INSIDE,
        **joint,
        **(INSIDE_BIJECTORS if name in BIJECTORS else {}),
    }.items():
        whole = wrap(thing)
        found = {id(v) for v in whole.variables}, {id(v) for v in whole.trainable_variables}
        assert found == wanted, outer


def test_a_conditional_flow_in_a_joint_distribution():
    """Which passes no keywords on: the flow refuses, until a copy holds its context."""
    flow = DISTRIBUTIONS["conditional flow"](tf.float32)
    with pytest.raises(nice_tf.UserError, match="got no context"):
        tfd.JointDistributionNamed({"x": flow}).sample(seed=[0, 1])

    def given(context):
        return nice_tf.condition(flow, context)

    tf.random.set_seed(0)  # TFP draws with a number as seed from TensorFlow's state, too
    classes = tfd.OneHotCategorical(probs=[0.3, 0.7], dtype=tf.float32)
    joint = tfd.JointDistributionNamedAutoBatched({"context": classes, "x": given})
    draw = joint.sample(20, seed=1)
    expected = classes.log_prob(draw["context"]) + flow.log_prob(
        draw["x"], **nice_tf.context_kwargs(draw["context"])
    )
    np.testing.assert_allclose(joint.log_prob(draw), expected, rtol=1e-4)
    assert draw["x"].shape == [20, SIZE] and 0 < np.sum(draw["context"][:, 0]) < 20
    assert {id(v) for v in joint.trainable_variables} == {id(v) for v in flow.trainable_variables}


@for_each([*BIJECTORS, "flow"])
def test_moments_are_right_or_refused(name):
    """TFP takes what it calls a constant Jacobian for an affine map, and gives mean and covariance
    accordingly.
    """
    linear = name in ("scaling", "center", "standardize", "whitening", "triangular")
    mean, deviation = random_points(SIZE), tf.exp(random_points(SIZE, seed=2))
    thing = CONSTRUCTORS[name](tf.float64)
    prior = tfd.MultivariateNormalDiag(mean, deviation)
    distribution = thing if name == "flow" else tfd.TransformedDistribution(prior, thing)
    if not linear:
        for moment in (distribution.mean, distribution.covariance):
            with pytest.raises(NotImplementedError, match="non-affine"):
                moment()
        return
    x = thing.forward(prior.sample(100_000, seed=[0, 1])).numpy()
    scale = x.std(axis=0)
    np.testing.assert_allclose(
        (distribution.mean() - x.mean(axis=0)) / scale, np.zeros(SIZE), atol=0.02
    )
    error = (distribution.covariance() - np.cov(x.T)) / np.outer(scale, scale)
    np.testing.assert_allclose(error, np.zeros([SIZE, SIZE]), atol=0.03)


def test_entropy_and_mode_that_tfp_does_not_give():
    flow = DISTRIBUTIONS["flow"](tf.float64)
    x = flow.sample(50_000, seed=[0, 1])
    log_prob = flow.log_prob(fresh(x)).numpy()
    entropy = flow.distribution.entropy() + flow.bijector.forward_log_det_jacobian(
        random_points(SIZE), 1
    )
    np.testing.assert_allclose(entropy, -log_prob.mean(), atol=5 * log_prob.std() / np.sqrt(50_000))
    mode = flow.bijector.forward(flow.distribution.mode())
    assert flow.log_prob(fresh(mode)) > log_prob.max()


def test_densities_add_up_in_tfp_models():
    prior, layer = nice_tf.gaussian_prior(SIZE, dtype=tf.float64), coupling(tf.float64)
    density = transformed(layer)
    x = density.sample(7, seed=[0, 1])
    np.testing.assert_allclose(
        density.log_prob(fresh(x)), prior.log_prob(layer.forward(fresh(x))), rtol=1e-10
    )
    joint = tfd.JointDistributionNamed({"loc": prior, "x": lambda loc: tfb.Shift(loc)(density)})
    draw = joint.sample(3, seed=[2, 3])
    assert draw["x"].shape == [3, SIZE]
    expected = density.log_prob(fresh(draw["x"] - draw["loc"])) + prior.log_prob(draw["loc"])
    np.testing.assert_allclose(joint.log_prob(draw), expected, rtol=1e-10)


def test_laws_beside_tfps_own():
    check_laws(chain_with_tfps_own(tf.float64), 0.3 * random_points(6, SIZE), atol=1e-9)


@pytest.fixture
def parsed_flags():
    """TFP's helpers read their seed from flags, which only a command parses."""
    was_parsed = flags.FLAGS.is_parsed()
    flags.FLAGS.mark_as_parsed()
    yield
    if not was_parsed:
        flags.FLAGS.unparse_flags()


@for_each(["logistic prior", "gaussian prior", "logistic mixture prior", "flow"])
def test_tfps_own_check_of_samples_and_density(name, parsed_flags):
    class Helpers(test_util.TestCase, test_util.VectorDistributionTestHelpers):
        pass

    distribution = DISTRIBUTIONS[name](tf.float64)
    center = np.asarray(distribution.sample(seed=[0, 1])) if name == "flow" else 0.0
    Helpers().run_test_sample_consistent_log_prob(
        lambda tensors: tf.nest.map_structure(lambda t: None if t is None else t.numpy(), tensors),
        distribution,
        num_samples=100_000,
        radius=2.0,
        center=center,
        seed=1,
        rtol=0.1,
    )


class OwnModule(tf.Module):
    def __init__(self):
        super().__init__()
        self.factor = tf.Variable(0.5)

    def __call__(self, h):
        return self.factor * h[..., :2]


class AroundKeras3(tf.Module):
    """The way to keep a layer of Keras 3: its tf.Variables are held beside it."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer
        self.held = tuple(variable.value for variable in layer.variables)

    def __call__(self, h):
        return self.layer(h)


def built(layer):
    layer.build([None, 3])
    return layer


@pytest.mark.parametrize(
    ("make", "num_variables"),
    [
        (lambda: built(tf_keras.layers.Dense(2)), 2),
        (lambda: built(tf_keras.layers.Dense(2, dtype="mixed_float16")), 2),
        (
            lambda: tf_keras.Sequential(
                [tf_keras.layers.InputLayer([3]), tf_keras.layers.Dense(2)]
            ),
            2,
        ),
        (OwnModule, 1),
        (lambda: AroundKeras3(built(keras.layers.Dense(2))), 2),
        (lambda: lambda h: tf.sin(h[..., :2]), 0),
    ],
)
def test_conditioners_that_work(make, num_variables):
    layer = nice_tf.AdditiveCoupling(make(), num_passthrough=3)
    flow = transformed(layer, tf.float32)
    assert len(flow.trainable_variables) == num_variables
    x = random_points(4, SIZE, dtype=np.float32)
    y = layer.forward(x)
    assert np.max(np.abs(y - x)) > 0.1
    np.testing.assert_allclose(layer.inverse(fresh(y)), x, atol=1e-5)
    with tf.GradientTape() as tape:
        loss = -tf.reduce_sum(flow.log_prob(fresh(x)))
    assert all(np.any(gradient != 0) for gradient in tape.gradient(loss, flow.trainable_variables))


@pytest.mark.parametrize(
    "make",
    [
        lambda: keras.layers.Dense(2),
        lambda: built(keras.layers.Dense(2)),
        lambda: keras.Sequential([keras.layers.Dense(2)]),
        lambda: keras.Model(inputs := keras.Input([3]), keras.layers.Dense(2)(inputs)),
    ],
)
def test_keras_3_is_refused(make):
    with pytest.raises(
        nice_tf.UserError, match=r"keras\..*is no tf\.Module.*Use a layer or model of tf_keras"
    ):
        nice_tf.AdditiveCoupling(make(), num_passthrough=3)


class Keras3Model(keras.Model):
    def __init__(self, flow):
        super().__init__()
        self.flow = flow
        self.scale = keras.layers.Dense(SIZE)

    def call(self, x):
        return self.flow.log_prob(self.scale(x))


def test_a_flow_inside_of_keras_3_is_warned_of():
    flow = random_flow([SIZE], dtype=tf.float32)
    x = random_points(20, SIZE, dtype=np.float32)
    fixed = Keras3Model(flow)
    fixed.trainable = False
    fixed(x)  # meant to stay as it is: no warning
    model = Keras3Model(flow)
    model.compile("sgd", loss=lambda _, log_prob: -keras.ops.mean(log_prob))
    with pytest.warns(UserWarning, match="Keras3Model .* does not see the variables of the flow"):
        model.fit(x, np.zeros(20), verbose=0)
    held = Keras3Model(flow)
    held.kept = AroundKeras3(built(keras.layers.Dense(2))).layer
    layer = nice_tf.AdditiveCoupling(AroundKeras3(held.kept), num_passthrough=3)
    held.flow = transformed(layer, tf.float32)
    held.compile("sgd", loss=lambda _, log_prob: -keras.ops.mean(log_prob))
    held.fit(x, np.zeros(20), verbose=0)  # whose layer it sees itself


def test_the_page_names_tests_that_are_there_and_its_example_runs():
    tests = pathlib.Path(__file__).parent
    text = (tests.parent / "docs" / "tfp_contract.md").read_text()
    named = re.findall(r"`(?:(test_\w+)\.py::)?(test_\w+)`", text)
    assert len(named) > 15
    for file, test in named:
        assert f"def {test}(" in (tests / f"{file or 'test_tfp_contract'}.py").read_text(), test
    (own,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    classes = (tests.parent / "docs" / "conditional.md").read_text()
    example = re.findall(r"```python\n(.*?)```", classes, re.DOTALL)[-1]
    found = {}
    exec(own, found)
    assert found["built"].distribution is found["own"].distribution
    exec(example, found)
    np.testing.assert_allclose(
        tf.gather(found["each"], [3, 1, 4], batch_dims=1), found["log_prob"], rtol=1e-4
    )
    assert np.all(np.ptp(found["each"], axis=1) > 1) and found["posterior"].shape == [3, 10]
