"""Flows of a user's own: priors, layers, the ways to nest them, and what the helpers make of them."""

import re

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
from bijector_laws import fresh
from flows import random_flow, random_points, randomize

import nice_tf
from nice_tf.flows.analysis import linear_precision, mixes_linearly

tfb, tfd = tfp.bijectors, tfp.distributions

SIZE = 4


def coupling(passthrough="first", **kwargs):
    mlp = nice_tf.MLP(2, 2, hidden_units=(6,), activation="tanh", dtype=tf.float64, **kwargs)
    return randomize(nice_tf.AdditiveCoupling(mlp, num_passthrough=2, passthrough=passthrough))


def own_layers():
    """In the paper's direction, with layers of TFP between those of this package."""
    triangle = tf.constant([[2.0, 0, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 3, 1]], tf.float64)
    return [
        coupling(),
        tfb.Shift(tf.constant([1.0, -2.0, 0.5, 3.0], tf.float64)),
        tfb.Permute([2, 0, 3, 1]),
        coupling("second"),
        tfb.ScaleMatvecTriL(triangle),
        randomize(nice_tf.DiagonalScaling(SIZE, dtype=tf.float64), seed=3),
    ]


def vector(value):
    return tf.fill([SIZE], tf.constant(value, tf.float64))


PRIORS = {
    "logistic": lambda: nice_tf.logistic_prior(SIZE, dtype=tf.float64),
    "student": lambda: tfd.Independent(tfd.StudentT(vector(5.0), vector(0.0), vector(1.0)), 1),
    "sample": lambda: tfd.Sample(tfd.Laplace(*tf.constant([0.0, 2.0], tf.float64)), SIZE),
    "correlated": lambda: tfd.MultivariateNormalTriL(
        vector(0.5), tf.eye(SIZE, dtype=tf.float64) + 0.3 * tf.linalg.diag(vector(1.0)[1:], k=-1)
    ),
    "own mixture": lambda: tfd.MixtureSameFamily(
        tfd.Categorical(probs=tf.constant([0.3, 0.7], tf.float64)),
        tfd.MultivariateNormalDiag(tf.stack([vector(-1.0), vector(1.0)])),
    ),
}
NESTED = {
    "Invert(Chain)": lambda found: tfb.Invert(tfb.Chain(found[::-1])),
    "Chain([Invert])": lambda found: tfb.Chain([tfb.Invert(layer) for layer in found]),
    "Chain of chains": lambda found: tfb.Chain(
        [tfb.Invert(tfb.Chain(found[:2][::-1])), tfb.Chain([tfb.Invert(one) for one in found[2:]])]
    ),
}


def expected_log_prob(found, prior, x):
    """Layer by layer, without any chain."""
    log_det = tf.zeros(len(x), tf.float64)
    for layer in found:
        log_det += layer.forward_log_det_jacobian(fresh(x), 1)
        x = layer.forward(fresh(x))
    return prior.log_prob(x) + log_det


@pytest.mark.parametrize("name", PRIORS)
def test_own_prior_and_own_layers(name):
    prior, found = PRIORS[name](), own_layers()
    flow = nice_tf.flow_from_layers(found, prior, [2, 2])
    x = random_points(5, SIZE)
    at = tf.reshape(x, [5, 2, 2])
    np.testing.assert_allclose(flow.log_prob(at), expected_log_prob(found, prior, x), rtol=1e-10)
    assert [id(layer) for layer in nice_tf.layers(flow)[1:]] == [id(layer) for layer in found]
    assert {id(v) for v in flow.trainable_variables} == {
        id(v) for thing in (*found, prior) for v in thing.trainable_variables
    }
    built = nice_tf.build_flow(SIZE, hidden_units=(5,), prior=prior, dtype=tf.float64)
    assert built.distribution is prior
    nice_tf.initialize_from_data(built, 3 + 2 * random_points(500, SIZE))
    np.testing.assert_allclose(
        np.std(nice_tf.encoder(built).forward(3 + 2 * random_points(500, SIZE)), axis=0),
        prior.stddev(),
        rtol=0.01,
    )


@pytest.mark.parametrize("name", PRIORS)
def test_helpers_take_any_prior_with_a_deviation(name):
    flow = nice_tf.flow_from_layers(own_layers(), PRIORS[name](), [SIZE])
    check_helpers(flow, random_points(3, SIZE))


@pytest.mark.slow
@pytest.mark.parametrize("nesting", NESTED)
def test_helpers_take_any_nesting(nesting):
    found, prior = own_layers(), PRIORS["logistic"]()
    flow = tfd.TransformedDistribution(prior, NESTED[nesting](found))
    assert [id(layer) for layer in nice_tf.layers(flow)] == [id(layer) for layer in found]
    x = random_points(3, SIZE)
    z = nice_tf.encoder(flow).forward(x)
    for layer in found:
        x = layer.forward(fresh(x))
    np.testing.assert_allclose(z, x, rtol=1e-10)
    check_helpers(flow, random_points(3, SIZE))


def test_helpers_take_a_single_layer_and_one_of_tfp():
    prior = PRIORS["logistic"]()
    single = tfd.TransformedDistribution(prior, tfb.Invert(coupling()))
    assert len(nice_tf.layers(single)) == 1
    check_helpers(single, random_points(3, SIZE))
    foreign = tfd.TransformedDistribution(prior, tfb.Shift(vector(1.0)))
    np.testing.assert_allclose(nice_tf.encoder(foreign).forward(vector(3.0)), vector(2.0))
    check_helpers(foreign, random_points(3, SIZE))


def check_helpers(flow, x):
    """Each helper gives something, and what can be told of it is so."""
    frozen = nice_tf.freeze(flow)
    np.testing.assert_allclose(frozen.log_prob(fresh(x)), flow.log_prob(x), rtol=1e-10)
    path = nice_tf.interpolate(flow, x[0], x[1], 3)
    np.testing.assert_allclose(path[0], x[0], atol=1e-8)
    np.testing.assert_allclose(path[-1], x[1], atol=1e-8)
    assert nice_tf.inverse_scales(flow).shape == [SIZE]
    scales = nice_tf.conditional_scales(flow)
    assert np.all(np.isfinite(scales)) and np.all(scales > 0)
    observed = tf.constant([[True, False, True, False]] * len(x))
    seed = tf.stack([tf.zeros(len(x), tf.int32), tf.range(len(x))], axis=1)
    filled, log_prob = nice_tf.inpaint(flow, x, observed, seed=seed, num_steps=20)
    np.testing.assert_array_equal(filled[:, ::2], x[:, ::2])
    np.testing.assert_allclose(log_prob, flow.log_prob(fresh(filled)), rtol=1e-8)
    better = flow.log_prob(fresh(nice_tf.denoise(flow, x, num_steps=5)))
    assert np.all(better >= flow.log_prob(fresh(x)) - 1e-9)
    assert nice_tf.reconstruct(flow, x, 2).shape == x.shape
    np.testing.assert_allclose(nice_tf.reconstruct(flow, x, SIZE), x, atol=1e-8)
    assert nice_tf.sample(flow, 2, seed=tf.constant([0, 1])).shape == [2, SIZE]
    nice_tf.initialize_from_data(flow, tf.constant(random_points(200, SIZE)))
    assert np.all(np.isfinite(flow.log_prob(fresh(x))))


def test_scales_of_own_linear_layers_are_those_of_their_matrix():
    """With linear layers alone: the deviations given all others, and the order through a
    permutation.
    """
    scaling = nice_tf.DiagonalScaling(SIZE, log_scale=tf.constant([0.0, 1.0, 2.0, 3.0], tf.float64))
    triangle = tf.constant([[2.0, 0, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 3, 1]], tf.float64)
    found = [tfb.ScaleMatvecTriL(triangle), scaling, tfb.Permute([3, 2, 1, 0])]
    prior = nice_tf.gaussian_prior(SIZE, dtype=tf.float64)
    flow = nice_tf.flow_from_layers(found, prior, SIZE)
    matrix = np.asarray(nice_tf.encoder(flow).forward(np.eye(SIZE))).T
    precision = matrix.T @ matrix
    np.testing.assert_allclose(
        nice_tf.conditional_scales(flow), 1 / np.sqrt(np.diag(precision)), rtol=1e-10
    )
    np.testing.assert_allclose(nice_tf.inverse_scales(flow), np.exp([-3.0, -2, -1, 0]), rtol=1e-10)
    # Where all but one are known, the mode is in one step the conditional mean.
    x = tf.constant([[0.0, 2.0, 1.0, -1.0]], tf.float64)
    observed = tf.constant([[False, True, True, True]])
    filled, _ = nice_tf.inpaint(flow, x, observed, seed=tf.constant([[0, 1]]), num_steps=1)
    mean = -precision[0, 1:] @ x[0, 1:].numpy() / precision[0, 0]
    assert abs(mean) > 0.1
    np.testing.assert_allclose(filled[0, 0], mean, rtol=1e-8)


def test_server_draws_from_own_priors_by_their_quantile():
    for name in ("student", "sample", "correlated"):
        prior = PRIORS[name]()
        flow = nice_tf.flow_from_layers([tfb.Shift(vector(1.0))], prior, SIZE)
        server = nice_tf.FlowServer(flow, levels=None, validation_log_probs=np.arange(-9.0, 0))
        seeds = np.stack([np.zeros(2000), np.arange(2000)], axis=1).astype(np.int32)
        x = server.sample(tf.constant(seeds), tf.ones([2000]))["x"].numpy() + 1
        np.testing.assert_allclose(x.mean(axis=0), prior.mean(), atol=0.25)
        np.testing.assert_allclose(x.std(axis=0), prior.stddev(), rtol=0.15)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: nice_tf.build_flow([2, 2], prior=nice_tf.logistic_prior(3)),
            r"prior logistic_prior has event shape \(3,\): \[4\] is needed",
        ),
        (
            lambda: nice_tf.build_flow(4, prior=tfd.Normal(tf.zeros(4), 1.0)),
            r"prior Normal has event shape \(\): \[4\] is needed.*tfd.Independent",
        ),
        (
            lambda: nice_tf.build_flow(4, prior=tfd.MultivariateNormalDiag(tf.zeros([3, 4]))),
            r"batch shape \(3,\): one distribution is needed",
        ),
        (
            lambda: nice_tf.build_flow(4, prior=PRIORS["logistic"]()),
            "prior logistic_prior is of float64, the flow of float32",
        ),
        (
            lambda: nice_tf.build_flow(4, prior=PRIORS["student"](), scaling="prior"),
            "scaling must be layer or none with prior IndependentStudentT",
        ),
        (lambda: nice_tf.build_flow(4, prior=3), "prior must be one of .* or a tfd.Distribution"),
        (lambda: nice_tf.build_flow([2.5]), r"event_shape must be whole numbers.*got \[2.5\]"),
        (lambda: nice_tf.build_flow([None, 2]), "event_shape must be whole numbers"),
        (lambda: nice_tf.build_flow([-2, -2]), "event_shape must be of sizes of at least 1"),
        (lambda: nice_tf.build_flow(4, hidden_units=5), "hidden_units must be whole .* got 5"),
        (lambda: nice_tf.build_flow(4, hidden_units=(5.5,)), "hidden_units must be whole"),
        (lambda: nice_tf.build_flow(4, hidden_units="55"), "hidden_units must be whole"),
        (lambda: nice_tf.build_flow(4, dtype=tf.bfloat16), "dtype must be .* got bfloat16"),
        (lambda: nice_tf.build_flow(4, dtype=tf.int32), "dtype must be .* got int32"),
        (
            lambda: nice_tf.flow_from_layers([], nice_tf.gaussian_prior(4, dtype=tf.bfloat16), 4),
            "dtype of prior gaussian_prior must be .* got bfloat16",
        ),
        (
            lambda: nice_tf.flow_from_layers([tf.identity], "logistic", 4),
            "layers must be bijectors, the one at place 0 is a function",
        ),
        (
            lambda: nice_tf.flow_from_layers([coupling()], "logistic", 4),
            "additive_coupling is of float64, the prior of float32",
        ),
        (
            lambda: nice_tf.flow_from_layers([tfb.Reshape([2, 2])], "logistic", 4),
            r"the layers make \(2, 2\) of a vector of 4 values",
        ),
        (
            lambda: nice_tf.flow_from_layers([tfb.Reshape([2, 3], [6])], "logistic", 4),
            "the layers do not take a vector of 4 values",
        ),
        (
            lambda: nice_tf.flow_from_layers([nice_tf.DiagonalScaling(5)], "logistic", 4),
            r"of 4 values: diagonal_scaling is of 5 values, got event shape \(4,\)",
        ),
        (
            lambda: nice_tf.num_parameters(3),
            "a distribution is needed, got int",
        ),
        (
            lambda: nice_tf.fit(3, np.zeros([9, 3])),
            "a distribution is needed, got int",
        ),
        (
            lambda: nice_tf.DiagonalScaling(np.zeros([5, 3])),
            r"event_size must be a whole number, got an array of shape \[5, 3\]",
        ),
        (
            lambda: nice_tf.AdditiveCoupling(nice_tf.MLP(1, 2), num_passthrough="1"),
            "num_passthrough must be a whole number, got '1'",
        ),
        (
            lambda: nice_tf.MLP(1, 2, hidden_units=20),
            r"hidden_units must be widths, as \(1000, 1000\), got 20",
        ),
        (
            lambda: nice_tf.MLP(4, 2, hidden_units=(8,))(tf.zeros([3, 2, 2])),
            r"a network of 4 inputs got values of shape \(3, 2, 2\)",
        ),
        (
            lambda: nice_tf.flow_from_layers(tfb.Shift(1.0), "logistic", 4),
            "layers must be a list of bijectors, got the one bijector shift",
        ),
        (lambda: nice_tf.freeze(tfb.Shift(1.0)), "a flow as build_flow makes it is needed"),
        (lambda: nice_tf.freeze(3), "a flow as build_flow makes it is needed"),
        (lambda: nice_tf.build_flow(True), "event_shape must be whole numbers"),
        (
            lambda: nice_tf.build_flow([4], context_size=2).log_prob([1.0] * 4, context="ab"),
            "the context must be numbers, got text",
        ),
        (lambda: nice_tf.layers(tfb.Shift(1.0)), "a flow as build_flow makes it is needed"),
        (lambda: nice_tf.summary(nice_tf.logistic_prior(4)), "a flow as build_flow makes it"),
        (
            lambda: nice_tf.layers(
                tfd.TransformedDistribution(
                    tfd.JointDistributionSequential([tfd.Normal(0.0, 1.0)] * 2),
                    tfb.JointMap([tfb.Exp(), tfb.Exp()]),
                )
            ),
            "over one tensor",
        ),
        *(
            (
                lambda helper=helper: helper(
                    nice_tf.flow_from_layers(
                        [nice_tf.DiagonalScaling(4)],
                        tfd.Independent(tfd.Cauchy(tf.zeros(4), 1.0), 1),
                        4,
                    ),
                    tf.random.stateless_normal([9, 4], [0, 1]),
                ),
                "prior IndependentCauchy has no finite standard deviation",
            )
            for helper in (
                nice_tf.initialize_from_data,
                lambda flow, x: nice_tf.inverse_scales(flow),
                lambda flow, x: nice_tf.denoise(flow, x),
                lambda flow, x: nice_tf.reconstruct(flow, x, 2),
            )
        ),
    ],
)
def test_what_does_not_fit_is_refused_by_name(call, message):
    with pytest.raises(nice_tf.UserError, match=message):
        call()


def test_numbers_of_any_type():
    plain = nice_tf.build_flow([6], hidden_units=(5, 4))
    for hidden_units in ((np.int64(5), np.int32(4)), np.array([5, 4]), np.array([[5, 4]] * 4)):
        flow = nice_tf.build_flow(np.int64(6), hidden_units=hidden_units)
        assert nice_tf.num_parameters(flow) == nice_tf.num_parameters(plain)
    assert nice_tf.build_flow(tf.TensorShape([2, 3]), hidden_units=(5,)).event_shape == [2, 3]
    normal = nice_tf.build_flow(6, hidden_units=(5,), prior="normal")
    assert normal.distribution.name == "gaussian_prior"
    marginals = nice_tf.build_flow(6, hidden_units=(5,), prior="normal", marginals="quantile")
    assert nice_tf.layers(marginals)[1].family == "normal"


def test_marginals_in_front_of_an_own_prior_start_at_its_deviation():
    prior = tfd.Independent(tfd.Normal(vector(0.0), vector(3.0)), 1)
    flow = nice_tf.build_flow(
        SIZE, hidden_units=(5,), prior=prior, marginals="quantile", dtype=tf.float64
    )
    x = tf.exp(random_points(2000, SIZE))
    nice_tf.initialize_from_data(flow, x)
    assert nice_tf.layers(flow)[1].family == "normal"
    np.testing.assert_allclose(np.std(nice_tf.encoder(flow).forward(x), axis=0), 3.0, rtol=0.02)


def test_number_of_parameters_and_summary():
    flow = nice_tf.build_flow(784)
    assert nice_tf.num_parameters(flow) == 19_158_352
    text = nice_tf.summary(flow)
    first, _, *rows = text.splitlines()
    assert "x [784] of float32" in first
    assert [row.split()[0] for row in rows[:3]] == ["reshape", "center", "permute"]
    assert "passes the first 392 and shifts the rest" in text
    assert re.search(r"\n  all +19,158,352 +2,352$", text)
    shared = nice_tf.build_flow(
        4, hidden_units=(5,), marginals="quantile", conditioner_input="values"
    )
    counts = re.findall(r" ([\d,]+)  +([\d,]+)(?:  |$)", nice_tf.summary(shared), re.MULTILINE)
    numbers = np.array([[int(n.replace(",", "")) for n in pair] for pair in counts])
    np.testing.assert_array_equal(numbers[:-1].sum(axis=0), numbers[-1])


def conditional():
    return random_flow([SIZE], num_couplings=3, context_size=2)


CONTEXT = np.array([0.5, -1.0])


def test_context_as_a_keyword():
    flow = conditional()
    x = random_points(3, SIZE)
    expected = flow.log_prob(x, **nice_tf.context_kwargs(CONTEXT))
    assert np.max(np.abs(flow.log_prob(x, context=-CONTEXT) - expected)) > 0.1
    np.testing.assert_array_equal(flow.log_prob(fresh(x), context=CONTEXT), expected)
    np.testing.assert_array_equal(nice_tf.freeze(flow).log_prob(x, context=CONTEXT), expected)
    drawn = flow.sample(3, seed=[0, 1], context=CONTEXT)
    np.testing.assert_array_equal(
        drawn, flow.sample(3, seed=[0, 1], **nice_tf.context_kwargs(CONTEXT))
    )
    np.testing.assert_array_equal(
        random_flow([SIZE]).log_prob(x, context=None), random_flow([SIZE]).log_prob(x)
    )
    with pytest.raises(nice_tf.UserError, match="takes no keyword contxt: context, dropout_seed"):
        flow.log_prob(x, contxt=CONTEXT)


def test_context_reaches_a_single_coupling_and_is_missed_by_another_name():
    mlp = randomize(nice_tf.MLP(2, 2, hidden_units=(6,), context_size=2, dtype=tf.float64))
    prior, x = PRIORS["logistic"](), random_points(3, SIZE)
    single = tfd.TransformedDistribution(
        prior, tfb.Invert(nice_tf.AdditiveCoupling(mlp, num_passthrough=2))
    )
    shifted = x[:, 2:] + mlp(x[:, :2], context=CONTEXT)
    expected = prior.log_prob(tf.concat([x[:, :2], shifted], axis=1))
    np.testing.assert_allclose(single.log_prob(x, **nice_tf.context_kwargs(CONTEXT)), expected)
    seed = tf.constant([0, 1])
    x_drawn = nice_tf.sample(single, 2, seed=seed, context=CONTEXT)
    assert not np.allclose(x_drawn, nice_tf.sample(single, 2, seed=seed, context=-CONTEXT))

    named = nice_tf.AdditiveCoupling(mlp, num_passthrough=2, name="mine")
    other = nice_tf.flow_from_layers([named], prior, SIZE)
    with pytest.raises(nice_tf.UserError, match=r"by the name of each bijector.*Chain"):
        other.log_prob(x, context=CONTEXT)
    found = other.log_prob(x, bijector_kwargs={"mine": {"context": CONTEXT}})
    np.testing.assert_allclose(found, expected)
    flow = conditional()
    outer = tfd.TransformedDistribution(flow.distribution, tfb.Chain([tfb.Exp(), flow.bijector]))
    inner = nice_tf.context_kwargs(CONTEXT)["bijector_kwargs"]
    with pytest.raises(nice_tf.UserError, match="got no context"):
        outer.log_prob(tf.exp(x), bijector_kwargs=inner)
    found = outer.log_prob(tf.exp(x), bijector_kwargs={flow.bijector.name: inner})
    expected = flow.log_prob(x, context=CONTEXT) - tf.reduce_sum(x, axis=1)
    np.testing.assert_allclose(found, expected, rtol=1e-8)


@pytest.mark.parametrize("sample_shape", [(), 5, [5, 2]])
@pytest.mark.parametrize("kind", ["Named", "NamedAutoBatched", "Coroutine", "Sequential"])
def test_a_context_that_is_drawn_itself(kind, sample_shape):
    flow = conditional()
    contexts = tfd.MultivariateNormalDiag(tf.zeros(2, tf.float64))

    def given(context):
        return nice_tf.condition(flow, context)

    def model():
        context = yield tfd.JointDistributionCoroutine.Root(contexts)
        yield given(context)

    if kind == "Coroutine":
        joint = tfd.JointDistributionCoroutine(model)
    elif kind == "Sequential":
        joint = tfd.JointDistributionSequential([contexts, given])
    else:
        make = getattr(tfd, f"JointDistribution{kind}")
        joint = make({"context": contexts, "x": given})
    tf.random.set_seed(0)  # TFP draws with a number as seed from the state of TensorFlow, too
    draw = joint.sample(sample_shape, seed=1)
    context, x = draw["context"] if isinstance(draw, dict) else draw[0], tf.nest.flatten(draw)[1]
    shape = tf.TensorShape(sample_shape if isinstance(sample_shape, tuple | list) else [5])
    assert context.shape == [*shape, 2] and x.shape == [*shape, SIZE]
    assert len(np.unique(tf.reshape(x, [-1]))) == shape.num_elements() * SIZE
    expected = contexts.log_prob(context) + flow.log_prob(x, context=context)
    log_prob = joint.log_prob(draw)
    assert log_prob.shape == shape
    np.testing.assert_allclose(log_prob, expected, rtol=1e-8)
    assert np.max(np.abs(flow.log_prob(x, context=-context) - expected)) > 0.1
    assert {id(v) for v in joint.trainable_variables} == {id(v) for v in flow.trainable_variables}


def test_what_would_lose_a_held_context_refuses_it():
    held = nice_tf.condition(conditional(), CONTEXT)
    with pytest.raises(nice_tf.UserError, match=r"holds a context .*: freeze the flow first"):
        nice_tf.freeze(held)
    with pytest.raises(nice_tf.UserError, match=r"holds a context .*: give the flow itself and"):
        nice_tf.sample(held, 3, seed=[0, 1])
    x = random_points(len(CONTEXT), SIZE)
    with pytest.raises(nice_tf.UserError, match=r"holds a context .*: take the encoder of the fl"):
        nice_tf.encoder(held)
    with pytest.raises(nice_tf.UserError, match=r"holds a context .*: give inpaint the flow itsel"):
        nice_tf.inpaint(held, x, tf.ones_like(x, tf.bool), seed=[[0, 1]] * len(CONTEXT))
    with pytest.raises(nice_tf.UserError, match=r"holds a context .*: give denoise the flow itsel"):
        nice_tf.denoise(held, x)
    with pytest.raises(nice_tf.UserError, match=r"holds a context .*: initialize the flow itself"):
        nice_tf.initialize_from_data(held, x)
    frozen = nice_tf.condition(nice_tf.freeze(conditional()), CONTEXT)
    np.testing.assert_allclose(frozen.log_prob(x), held.log_prob(x), rtol=1e-8)


def test_two_flows_in_a_sequence_have_names_of_their_own():
    flows = [nice_tf.build_flow(SIZE, hidden_units=(5,)) for _ in range(2)]
    joint = tfd.JointDistributionSequential([*flows, lambda b, a: tfd.Normal(a[..., 0], 1.0)])
    assert len(joint.sample(3, seed=[0, 1])) == 3
    assert [name for name, _ in joint.resolve_graph()[:2]] == ["a", "b"]
    assert nice_tf.build_flow(SIZE, hidden_units=(5,), name="mine").name == "mine"


def test_a_reshape_of_tfp_and_its_direction_are_taken():
    """Variances 1 / 4 of what Scale(2) makes of a Gaussian of deviation 1 are those of x."""
    prior = nice_tf.gaussian_prior(6, dtype=tf.float64)
    reshape = tfb.Reshape(event_shape_out=[2, 3], event_shape_in=[6])
    two = tf.constant(2.0, tf.float64)
    for chain in ([reshape, tfb.Scale(two)], [tfb.Scale(two), reshape]):
        flow = tfd.TransformedDistribution(prior, tfb.Chain(chain))
        np.testing.assert_allclose(nice_tf.conditional_scales(flow), np.full([2, 3], 2.0))
        np.testing.assert_allclose(linear_precision(flow), np.eye(6) / 4, atol=1e-12)
        x = tf.ones([1, 2, 3], tf.float64)
        observed = tf.constant([[[True, False, True], [True, True, True]]])
        filled, _ = nice_tf.inpaint(flow, x, observed, seed=tf.zeros([1, 2], tf.int32))
        np.testing.assert_allclose(filled, np.where(observed, 1.0, 0.0), atol=1e-3)
        np.testing.assert_allclose(nice_tf.denoise(flow, x), np.zeros([1, 2, 3]), atol=1e-4)


def test_a_matrix_of_tfp_on_part_of_an_event():
    """ScaleMatvecTriL on [2, 2] is block diagonal."""
    triangle = tf.constant([[2.0, 0.0], [1.0, 1.0]], tf.float64)
    reshape = tfb.Reshape(event_shape_out=[2, 2], event_shape_in=[4])
    prior = nice_tf.gaussian_prior(4, dtype=tf.float64)
    found = [tfb.Reshape([2, 2], [4]), tfb.ScaleMatvecTriL(triangle), tfb.Invert(reshape)]
    flow = nice_tf.flow_from_layers(found, prior, 4)
    block = np.kron(np.eye(2), triangle)
    np.testing.assert_allclose(linear_precision(flow), block.T @ block, rtol=1e-10)


def test_an_additive_coupling_of_tfp_is_no_matrix():
    def shift(x, size, **kwargs):
        return 3 * tf.sin(2 * x[..., :size]), None

    flow = nice_tf.flow_from_layers(
        [tfb.RealNVP(2, shift_and_log_scale_fn=shift, is_constant_jacobian=True)],
        nice_tf.gaussian_prior(SIZE, dtype=tf.float64),
        SIZE,
    )
    assert not mixes_linearly(flow)
    np.testing.assert_array_equal(nice_tf.conditional_scales(flow), np.ones(SIZE))


def test_a_layer_that_adds_a_value_is_refused():
    prior = nice_tf.gaussian_prior(3, dtype=tf.float64)
    flow = tfd.TransformedDistribution(prior, tfb.FillTriangular())
    with pytest.raises(nice_tf.UserError, match="that keep the number of values are needed"):
        nice_tf.conditional_scales(flow)
