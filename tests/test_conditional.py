import numpy as np
import pytest
import sklearn.datasets
import sklearn.neighbors
import tensorflow as tf
from bijector_laws import fresh
from flows import random_flow, random_points

import nice_tf

CONTEXT = np.array([0.5, -1.0, 2.0])


def conditional_flow(**kwargs):
    return random_flow([2, 3], context_size=3, num_couplings=3, **kwargs)


def at_context(flow, context, **kwargs):
    """The flow without a context that a conditional one is at this context: W x + (V c + b) in
    every first layer.
    """
    plain = random_flow([2, 3], num_couplings=3, **kwargs)
    for mine, theirs in zip(plain.variables, flow.variables, strict=True):
        if mine.shape == theirs.shape:
            mine.assign(theirs)
    for mine, theirs in zip(nice_tf.layers(plain), nice_tf.layers(flow), strict=True):
        if not isinstance(mine, nice_tf.AdditiveCoupling):
            continue
        (bias, other_bias), (kernel, other_kernel) = (
            [next(v for v in layer.variables if name in v.name) for layer in (mine, theirs)]
            for name in ("bias_0", "kernel_0")
        )
        kernel.assign(other_kernel[:3])
        bias.assign(other_bias + context @ other_kernel[3:].numpy())
    return plain


def server(flow):
    return nice_tf.FlowServer(flow, levels=None, validation_log_probs=np.zeros(3))


def test_context_is_that_of_every_coupling():
    flow = conditional_flow()
    plain, other = at_context(flow, CONTEXT), at_context(flow, 2 * CONTEXT)
    x = random_points(5, 2, 3)
    found = flow.log_prob(x, **nice_tf.context_kwargs(CONTEXT))
    np.testing.assert_allclose(found, plain.log_prob(fresh(x)), rtol=1e-10)
    # The same tensor with another context: TFP's cache must tell the two apart.
    found = flow.log_prob(x, **nice_tf.context_kwargs(2 * CONTEXT))
    np.testing.assert_allclose(found, other.log_prob(fresh(x)), rtol=1e-10)
    assert not np.allclose(found, plain.log_prob(fresh(x)))
    kwargs = nice_tf.context_kwargs(CONTEXT)["bijector_kwargs"]
    z = nice_tf.encoder(flow).forward(fresh(x), **kwargs)
    np.testing.assert_allclose(z, nice_tf.encoder(plain).forward(fresh(x)), rtol=1e-10)
    np.testing.assert_allclose(nice_tf.encoder(flow).inverse(fresh(z), **kwargs), x, atol=1e-10)


def test_one_context_an_example_or_fewer_that_are_broadcast():
    flow = conditional_flow()
    x, contexts = random_points(2, 3, 2, 3), random_points(2, 3, 3, seed=2)
    expected = [
        [flow.log_prob(x[i, j], **nice_tf.context_kwargs(contexts[i, j])) for j in range(3)]
        for i in range(2)
    ]
    np.testing.assert_allclose(
        flow.log_prob(x, **nice_tf.context_kwargs(contexts)), expected, rtol=1e-9
    )
    for given in (contexts[0], contexts[:, :1], contexts[0, 0]):
        each = nice_tf.context_kwargs(tf.broadcast_to(given, [2, 3, 3]))
        expected = flow.log_prob(fresh(x), **each)
        np.testing.assert_allclose(
            flow.log_prob(fresh(x), **nice_tf.context_kwargs(given)), expected, rtol=1e-12
        )
    whole = flow.log_prob(x, **nice_tf.context_kwargs([1, 0, 2]))
    np.testing.assert_array_equal(
        whole, flow.log_prob(x, **nice_tf.context_kwargs([1.0, 0.0, 2.0]))
    )


def test_samples_of_a_context():
    flow = conditional_flow()
    plain = at_context(flow, CONTEXT)
    kwargs = nice_tf.context_kwargs(CONTEXT)
    drawn = flow.sample([4, 2], seed=[1, 2], **kwargs)
    np.testing.assert_allclose(drawn, plain.sample([4, 2], seed=[1, 2]), rtol=1e-8)
    seed = tf.constant([1, 2])
    cool = nice_tf.sample(flow, 4, seed=seed, temperature=0.5, context=CONTEXT)
    np.testing.assert_allclose(
        cool, nice_tf.sample(plain, 4, seed=seed, temperature=0.5), rtol=1e-8
    )
    contexts = random_points(4, 3, seed=2)
    rows = nice_tf.sample(flow, 4, seed=seed, context=contexts)
    expected = nice_tf.sample(at_context(flow, contexts[2].numpy()), 4, seed=seed)[2]
    np.testing.assert_allclose(rows[2], expected, rtol=1e-8)


def test_dropout_in_the_same_call():
    flow = conditional_flow(dropout=0.3)
    plain = at_context(flow, CONTEXT, dropout=0.3)
    x, seed = random_points(5, 2, 3), tf.constant([3, 4])
    dropped = flow.log_prob(x, **nice_tf.context_kwargs(CONTEXT, dropout_seed=seed))
    np.testing.assert_allclose(
        dropped,
        plain.log_prob(fresh(x), **nice_tf.context_kwargs(None, dropout_seed=seed)),
        rtol=1e-10,
    )
    assert not np.allclose(dropped, plain.log_prob(fresh(x)))


@pytest.mark.parametrize("num_branches", [1, 2])
def test_frozen_flow_keeps_its_context(num_branches):
    flow = conditional_flow()
    x, contexts = random_points(5, 2, 3), random_points(5, 3, seed=2)
    frozen = nice_tf.freeze(flow, num_branches=num_branches)
    expected = flow.log_prob(x, **nice_tf.context_kwargs(contexts))
    np.testing.assert_allclose(
        frozen.log_prob(fresh(x), **nice_tf.context_kwargs(contexts)), expected, rtol=1e-10
    )
    with pytest.raises(nice_tf.UserError, match="context_size 3 and got no context"):
        frozen.log_prob(fresh(x))


def test_initialization_takes_the_contexts_of_the_data():
    """m is not 0: what reaches the scaling layer depends on the contexts."""
    flow = random_flow([4], context_size=3, prior="gaussian")
    x, contexts = random_points(20_011, 4), random_points(20_011, 3, seed=2)
    nice_tf.initialize_from_data(flow, x, context=contexts)
    kwargs = nice_tf.context_kwargs(contexts[::3])[
        "bijector_kwargs"
    ]  # the scales look at every third
    z = nice_tf.encoder(flow).forward(x[::3], **kwargs)
    np.testing.assert_allclose(tf.math.reduce_std(z, axis=0), np.ones(4), rtol=1e-9)
    nice_tf.initialize_from_data(flow, x, scales=False)  # mean and whitening come before every m


def test_filling_and_denoising_under_a_context():
    flow = conditional_flow()
    plain = at_context(flow, CONTEXT)
    x, observed, seed = (
        random_points(4, 2, 3),
        np.array([[True, False, True]] * 2),
        tf.zeros([4, 2], tf.int32),
    )
    filled, log_prob = nice_tf.inpaint(flow, x, observed, seed=seed, num_steps=2, context=CONTEXT)
    expected, expected_log_prob = nice_tf.inpaint(plain, x, observed, seed=seed, num_steps=2)
    np.testing.assert_allclose(filled, expected, rtol=1e-8)
    np.testing.assert_allclose(log_prob, expected_log_prob, rtol=1e-8)
    small = random_flow([2], context_size=3, num_couplings=2, hidden_units=())
    x, kwargs = random_points(4, 2), nice_tf.context_kwargs(CONTEXT)
    clearer = nice_tf.denoise(small, x, num_steps=2, context=CONTEXT)
    assert np.all(small.log_prob(clearer, **kwargs) > small.log_prob(fresh(x), **kwargs))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda flow, x: flow.log_prob(x), "context_size 3 and got no context"),
        (lambda flow, x: flow.sample(2, seed=[0, 1]), "context_size 3 and got no context"),
        (
            lambda flow, x: nice_tf.sample(flow, 2, seed=tf.constant([0, 1])),
            "context_size 3 and got no context",
        ),
        (
            lambda flow, x: nice_tf.initialize_from_data(flow, x),
            "context_size 3 and got no context",
        ),
        (
            lambda flow, x: nice_tf.interpolate(flow, x[0], x[1], 3),
            "context_size 3 and got no context",
        ),
        (lambda flow, x: nice_tf.reconstruct(flow, x, 2), "context_size 3 and got no context"),
        (lambda flow, x: nice_tf.denoise(flow, x), "context_size 3 and got no context"),
        (
            lambda flow, x: server(flow).log_prob(tf.cast(x, tf.float32)),
            "context_size 3 and got no context",
        ),
        (
            lambda flow, x: flow.log_prob(x, **nice_tf.context_kwargs(np.ones([5, 2]))),
            r"must have 3 values, .* got shape \(5, 2\)",
        ),
        (
            lambda flow, x: flow.log_prob(x, **nice_tf.context_kwargs(1.0)),
            r"must have 3 values, .* got shape \(\)",
        ),
        (
            lambda flow, x: flow.log_prob(x, **nice_tf.context_kwargs(np.ones([4, 3]))),
            r"shape \(4, 3\) cannot be broadcast to examples of batch shape \(5,\)",
        ),
        (
            lambda flow, x: flow.log_prob(x[:1], **nice_tf.context_kwargs(np.ones([4, 3]))),
            r"shape \(4, 3\) cannot be broadcast to examples of batch shape \(1,\)",
        ),
        (
            lambda flow, x: random_flow([2, 3]).log_prob(x, **nice_tf.context_kwargs(CONTEXT)),
            r"must have 0 values, .* got shape \(3,\)",
        ),
        (
            lambda flow, x: nice_tf.build_flow([4], context_size=-1),
            "context_size must be at least 0, got -1",
        ),
    ],
)
def test_bad_contexts(call, message):
    with pytest.raises(nice_tf.UserError, match=message):
        call(conditional_flow(), random_points(5, 2, 3))


def test_context_of_another_size_is_refused_in_the_run():
    """Where the graph does not know the size: an axis of 1 would be broadcast in silence."""
    flow = conditional_flow()

    @tf.function(input_signature=[tf.TensorSpec(None, tf.float64)])
    def log_prob(context):
        return flow.log_prob(random_points(5, 2, 3), **nice_tf.context_kwargs(context))

    expected = flow.log_prob(random_points(5, 2, 3), **nice_tf.context_kwargs(CONTEXT))
    np.testing.assert_allclose(log_prob(CONTEXT), expected, rtol=1e-10)
    for size in (1, 4):
        with pytest.raises(tf.errors.InvalidArgumentError):
            log_prob(np.ones([5, size]))


def test_digits_by_their_class():
    """A plain loop: samples are of their class by another model's eyes, and p(y | x) follows by
    Bayes.
    """
    digits = sklearn.datasets.load_digits()
    x, y = nice_tf.dequantize(digits.images, 17, seed=[0, 1]), digits.target
    train, test = slice(0, 1400), slice(1400, None)
    classes = tf.eye(10)
    flow = nice_tf.build_flow([8, 8], hidden_units=(100, 100), context_size=10)
    nice_tf.initialize_from_data(flow, x[train], context=classes.numpy()[y[train]])
    optimizer = tf.keras.optimizers.Adam(3e-3)
    variables = flow.trainable_variables

    @tf.function
    def step(rows):
        noisy = nice_tf.dequantize(tf.gather(digits.images, rows), 17, seed=tf.stack([1, rows[0]]))
        with tf.GradientTape() as tape:
            log_prob = flow.log_prob(
                noisy, **nice_tf.context_kwargs(tf.gather(classes, tf.gather(y, rows)))
            )
            loss = -tf.reduce_mean(log_prob)
        optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))
        return loss

    generator = np.random.default_rng(0)
    for _ in range(300):
        step(tf.constant(generator.choice(1400, 200, replace=False), tf.int32))

    def log_posterior(x):
        """log p(y | x) of ten equally likely classes, [N, 10]."""
        log_prob = flow.log_prob(
            tf.repeat(x[:, tf.newaxis], 10, axis=1), **nice_tf.context_kwargs(classes)
        )
        return tf.nn.log_softmax(log_prob)

    accuracy = np.mean(np.argmax(log_posterior(x[test]), axis=1) == y[test])
    judge = sklearn.neighbors.KNeighborsClassifier().fit(digits.data[:1400] / 17, y[train])
    wanted = np.repeat(np.arange(10), 30)
    drawn = nice_tf.sample(
        flow, 300, seed=tf.constant([2, 3]), temperature=0.7, context=classes.numpy()[wanted]
    )
    seen = np.mean(judge.predict(np.reshape(drawn, [300, 64])) == wanted)
    assert accuracy > 0.8 and seen > 0.8, "chance is 0.1"
