"""The mixture prior: a density, its samples and gradients, and the flow, run and export around it."""

import dataclasses
import json

import numpy as np
import pytest
import scipy.stats
import tensorflow as tf
import tensorflow_probability as tfp
from bijector_laws import fresh
from cpp_loader import LoadedModel
from flows import random_flow, random_points, randomize

import nice_tf
from nice_tf.data import dataset
from nice_tf.flows import mixtures, priors
from nice_tf.flows.marginals import marginals_alone
from nice_tf.reports import figures
from nice_tf.runs import architecture
from nice_tf.runs import finished as finished_lib
from nice_tf.training import model as model_lib
from nice_tf.training import optimizers

tfb, tfd = tfp.bijectors, tfp.distributions

MIXTURE = {"prior": "logistic_mixture", "prior_components": 3}
CONFIG = nice_tf.Config(
    dataset="digits",
    num_couplings=3,
    hidden_units=(16,),
    learning_rate=0.01,
    epochs=3,
    batch_size=100,
    num_draws=2,
    epsilon=1e-8,
    precision="float32",
    weight_decay=0.1,
    ema_decay=0.9,
    prior_clusters=2,
    **MIXTURE,
)


def random_prior(size=4, num_components=5, dtype=tf.float64, deviation=1.0, seed=0):
    prior = nice_tf.logistic_mixture_prior(size, num_components=num_components, dtype=dtype)
    return randomize(prior, seed, deviation)


def weights_locations_scales(prior):
    """The formula of the docstring, read from the variables by name."""
    by_name = {variable.name: variable.numpy() for variable in prior.trainable_variables}
    assert {"loc:0", "log_scale:0", "logits:0"} <= set(by_name)
    weights = np.exp(by_name["logits:0"])
    weights /= weights.sum(axis=-1, keepdims=True)
    return weights, by_name["loc:0"], 0.001 + np.exp(by_name["log_scale:0"])


def distribution_function(prior, z):
    """P(Z_d <= z_d) by SciPy, `[N, D]`."""
    weights, loc, scale = weights_locations_scales(prior)
    if weights.ndim == 2:
        return np.sum(weights * scipy.stats.logistic.cdf(z[..., np.newaxis], loc, scale), axis=-1)
    of_clusters = np.exp(prior.cluster_logits)
    of_clusters /= of_clusters.sum()
    weights = np.tensordot(of_clusters, weights, axes=1)
    return np.sum(weights * scipy.stats.logistic.cdf(z[..., np.newaxis], loc, scale), axis=-1)


def at_the_logistic(flow):
    """Makes all components of the mixture of a flow the unit logistic."""
    by_name = {variable.name: variable for variable in flow.distribution.trainable_variables}
    by_name["loc:0"].assign(tf.zeros_like(by_name["loc:0"]))
    by_name["log_scale:0"].assign(
        tf.fill(by_name["loc:0"].shape, tf.cast(np.log(0.999), flow.dtype))
    )
    return flow


def test_log_prob_against_scipy():
    prior = random_prior()
    weights, loc, scale = weights_locations_scales(prior)
    z = 5 * random_points(7, 4).numpy()
    each = scipy.stats.logistic.pdf(z[..., np.newaxis], loc, scale)
    expected = np.log(np.sum(weights * each, axis=-1)).sum(axis=-1)
    np.testing.assert_allclose(prior.log_prob(z), expected, rtol=1e-10)


def test_each_coordinate_integrates_to_one():
    prior = random_prior()
    z = np.linspace(-150, 150, 60_001)
    density = np.exp(prior.distribution.log_prob(np.tile(z[:, np.newaxis], [1, 4])))
    np.testing.assert_allclose(density.sum(axis=0) * (z[1] - z[0]), np.ones(4), atol=1e-6)


def divergence_from_logistic(num_components):
    z = np.linspace(-60, 60, 12_001)[:, np.newaxis]
    logistic = scipy.stats.logistic.logpdf(z[:, 0])
    prior = nice_tf.logistic_mixture_prior(1, num_components=num_components, dtype=tf.float64)
    return np.sum(np.exp(logistic) * (logistic - prior.log_prob(z))) * (z[1, 0] - z[0, 0])


def test_it_starts_near_the_logistic_with_components_apart():
    for num_components, bound in ((2, 0.006), (3, 0.006), (4, 0.004), (8, 0.0012), (64, 1e-4)):
        assert 0 < divergence_from_logistic(num_components) < bound
        prior = nice_tf.logistic_mixture_prior(2, num_components=num_components)
        weights, loc, scale = weights_locations_scales(prior)
        assert np.all(np.diff(loc) > 0.1) and np.all(weights > 0) and np.all(scale < 0.91)
        np.testing.assert_allclose(prior.mean(), [0, 0], atol=1e-5)
        np.testing.assert_allclose(prior.stddev(), np.full(2, np.pi / np.sqrt(3)), rtol=0.08)


def test_samples_follow_the_distribution_function():
    """Of TensorFlow Probability, and of uniform numbers, as the export draws them."""
    prior = random_prior()
    number = 20_000
    uniforms = np.random.default_rng(0).random([number, priors.num_uniforms(prior)])
    for z in (prior.sample(number, seed=[1, 2]), priors.codes_from_uniforms(prior, uniforms)):
        z = z.numpy()
        assert z.shape == (number, 4)
        probability = distribution_function(prior, z)
        for column in probability.T:
            assert scipy.stats.kstest(column, "uniform").pvalue > 1e-4
        assert np.abs(np.corrcoef(probability, rowvar=False) - np.eye(4)).max() < 0.04
        np.testing.assert_allclose(z.mean(axis=0), prior.mean(), atol=0.15)
        np.testing.assert_allclose(z.std(axis=0), prior.stddev(), rtol=0.05)


def test_wrong_samples_would_be_found():
    prior = random_prior()
    z = random_prior(seed=1).sample(20_000, seed=[1, 2]).numpy()
    for column in distribution_function(prior, z).T:
        assert scipy.stats.kstest(column, "uniform").pvalue < 1e-4


def test_gradients_of_all_variables_and_of_z():
    prior = random_prior()
    z = 3 * random_points(6, 4)

    def loss(*_):
        return tf.reduce_sum(tf.sin(prior.log_prob(z)))

    with tf.GradientTape() as tape:
        value = loss()
    gradients = tape.gradient(value, prior.trainable_variables)
    for variable, gradient in zip(prior.trainable_variables, gradients, strict=True):
        assert variable.shape == [4, 5] and np.all(gradient != 0)
        start = variable.numpy()
        for place in ((0, 0), (3, 4), (2, 1)):
            ends = []
            for step in (1e-5, -1e-5):
                moved = start.copy()
                moved[place] += step
                variable.assign(moved)
                ends.append(float(loss()))
            variable.assign(start)
            difference = (ends[0] - ends[1]) / 2e-5
            np.testing.assert_allclose(gradient[place], difference, rtol=1e-5, atol=1e-8)
    (analytic,), (numeric,) = tf.test.compute_gradient(prior.log_prob, [z[:1]], delta=1e-5)
    np.testing.assert_allclose(analytic, numeric, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize("deviation", [0.3, 2.0])
def test_float32_far_out(jit_compile, deviation):
    """Values and gradients to |z| = 100, with components as narrow as 0.001, too."""
    z = np.concatenate([[-100.0, 100.0], np.linspace(-90, 90, 61), np.linspace(-3, 3, 60)])
    z = np.tile(z[:, np.newaxis].astype(np.float32), [1, 4])
    results = []
    for dtype in (tf.float64, tf.float32):
        prior = random_prior(dtype=dtype, deviation=deviation)
        by_name = {variable.name: variable for variable in prior.trainable_variables}
        by_name["log_scale:0"][1, 1].assign(-40.0)

        @tf.function(jit_compile=jit_compile)
        def value_and_gradients(z, prior=prior):
            with tf.GradientTape() as tape:
                tape.watch(z)
                log_prob = prior.distribution.log_prob(z)
                total = tf.reduce_sum(log_prob)
            return log_prob, tape.gradient(total, [z, *prior.trainable_variables])

        results.append(value_and_gradients(tf.constant(z, dtype)))
    (exact, exact_gradients), (rounded, rounded_gradients) = results
    assert rounded.dtype == tf.float32 and exact.dtype == tf.float64
    np.testing.assert_allclose(rounded, exact, rtol=2e-6, atol=2e-5)
    for gradient, exact_gradient in zip(rounded_gradients, exact_gradients, strict=True):
        assert np.all(np.isfinite(gradient))
        scale = np.abs(exact_gradient).max()
        np.testing.assert_allclose(gradient, exact_gradient, rtol=1e-3, atol=1e-5 * scale)


def test_scales_have_a_floor_that_keeps_its_gradient():
    prior = random_prior()
    by_name = {variable.name: variable for variable in prior.trainable_variables}
    log_scale = by_name["log_scale:0"]
    log_scale.assign(tf.fill(log_scale.shape, tf.constant(-12.0, tf.float64)))
    z = by_name["loc:0"][:, 0]
    with tf.GradientTape() as tape:
        log_prob = prior.log_prob(fresh(z))
    assert log_prob < 4 * -np.log(4 * 0.001)
    assert np.all(tape.gradient(log_prob, log_scale)[:, 0] < 0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"event_size": 0}, "event_size must be at least 1, got 0"),
        ({"num_components": 1}, "num_components must be at least 2, got 1"),
        ({"num_components": float("nan")}, "num_components must be a whole number, got nan"),
        ({"num_clusters": 0}, "num_clusters must be at least 1, got 0"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(nice_tf.UserError, match=message):
        nice_tf.logistic_mixture_prior(**{"event_size": 3, **arguments})


def test_bad_arguments_of_a_flow():
    with pytest.raises(nice_tf.UserError, match="num_components must be at least 2, got 1"):
        nice_tf.build_flow([4], prior="logistic_mixture", prior_components=1)
    message = "scaling must be layer or none with prior logistic_mixture, got prior: each component"
    with pytest.raises(nice_tf.UserError, match=message):
        nice_tf.build_flow([4], prior="logistic_mixture", scaling="prior")
    with pytest.raises(nice_tf.UserError, match=message):
        nice_tf.Config(prior="logistic_mixture", scaling="prior")


@pytest.mark.parametrize("dtype", [tf.float32, tf.float64])
def test_initialization_from_data(dtype):
    """Codes start with the deviation of the mixture, which is not quite that of the logistic."""
    flow = nice_tf.build_flow([3, 2], hidden_units=(4,), dtype=dtype, **MIXTURE)
    data = random_points(500, 3, 2) * [[0.01, 10.0]] + 5.0
    nice_tf.initialize_from_data(flow, tf.cast(data, dtype))
    z = nice_tf.encoder(flow).forward(tf.cast(data, dtype))
    assert z.dtype == dtype
    np.testing.assert_allclose(np.std(z, axis=0), flow.distribution.stddev(), rtol=1e-3)
    np.testing.assert_allclose(
        nice_tf.inverse_scales(flow) * (np.pi / np.sqrt(3)),
        np.std(tf.reshape(data, [-1, 6]), axis=0),
        rtol=1e-3,
    )


def test_behind_marginals_it_starts_as_near_to_them_as_to_the_logistic():
    """Their codes have the density of the logistic: what the mixture loses is the divergence."""
    flow = nice_tf.build_flow(
        [6],
        hidden_units=(4,),
        marginals="quantile",
        num_couplings=2,
        partition="nested",
        prior="logistic_mixture",
        dtype=tf.float64,
    )
    data = tf.exp(random_points(4000, 6))
    nice_tf.initialize_from_data(flow, data)
    np.testing.assert_array_equal(nice_tf.layers(flow)[-1].log_scale, np.zeros(6))
    gains = flow.log_prob(data) - marginals_alone(flow).log_prob(fresh(data))
    expected = -6 * divergence_from_logistic(8)
    # The codes are logistic as far as the fitted bins are the data's own distribution.
    np.testing.assert_allclose(np.mean(gains), expected, atol=0.01)
    assert np.abs(np.mean(gains)) < 0.03
    np.testing.assert_allclose(nice_tf.inverse_scales(flow), np.full(6, 0.98), atol=0.01)


def test_spectrum_of_a_mixture_that_is_the_logistic_is_that_of_the_logistic():
    plain = random_flow([5], prior="logistic")
    mixed = at_the_logistic(random_flow([5], **MIXTURE))
    for mine, theirs in zip(nice_tf.layers(mixed), nice_tf.layers(plain), strict=True):
        for variable, other in zip(mine.variables, theirs.variables, strict=True):
            variable.assign(other)
    x = random_points(6, 5)
    np.testing.assert_allclose(mixed.log_prob(x), plain.log_prob(fresh(x)), rtol=1e-10)
    for ask in (nice_tf.inverse_scales, nice_tf.conditional_scales):
        np.testing.assert_allclose(ask(mixed), ask(plain), rtol=1e-10)
    reconstructed = nice_tf.reconstruct(mixed, x, 2)
    np.testing.assert_allclose(reconstructed, nice_tf.reconstruct(plain, fresh(x), 2), rtol=1e-9)


def test_reconstruction_leaves_the_mean_of_the_mixture():
    flow = random_flow([2, 3], **MIXTURE)
    mean = flow.distribution.mean().numpy()
    assert np.all(np.abs(mean) > 0.01)
    x = nice_tf.sample(flow, 5, seed=tf.constant([0, 1]))
    z = nice_tf.encoder(flow).forward(fresh(nice_tf.reconstruct(flow, x, 2))).numpy()
    largest = np.argsort(-nice_tf.inverse_scales(flow).numpy())[:2]
    others = np.setdiff1d(np.arange(6), largest)
    np.testing.assert_allclose(z[:, others], np.tile(mean[others], [5, 1]), atol=1e-9)
    np.testing.assert_allclose(nice_tf.reconstruct(flow, fresh(x), 6), x, atol=1e-9)


def test_a_flow_integrates_to_one_and_is_frozen_and_denoised():
    flow = random_flow([2], num_couplings=3, **MIXTURE)
    axis = np.linspace(-60, 60, 1601)
    grid = np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1).reshape(-1, 2)
    log_prob = tf.function(flow.log_prob)
    total = sum(np.exp(log_prob(tf.constant(part))).sum() for part in np.array_split(grid, 8))
    np.testing.assert_allclose(total * (axis[1] - axis[0]) ** 2, 1.0, atol=1e-4)
    x = nice_tf.sample(flow, 20, seed=tf.constant([0, 1]))
    np.testing.assert_allclose(
        nice_tf.freeze(flow).log_prob(fresh(x)), flow.log_prob(fresh(x)), rtol=1e-10
    )
    better = nice_tf.denoise(flow, x)
    assert np.all(flow.log_prob(fresh(better)) > flow.log_prob(fresh(x)))


def test_inpainting_climbs():
    flow = random_flow([4], **MIXTURE)
    x = nice_tf.sample(flow, 30, seed=tf.constant([0, 1]))
    observed = tf.constant([[True, False, True, False]]) & tf.ones_like(x, tf.bool)
    seeds = tf.stack([tf.zeros(30, tf.int32), tf.range(30)], axis=1)
    search = tf.function(nice_tf.inpaint)
    _, start = search(flow, x, observed, seed=seeds, num_steps=0)
    filled, found = search(flow, x, observed, seed=seeds, num_steps=100)
    np.testing.assert_array_equal(filled[observed], x[observed])
    assert np.all(found > start)


@pytest.mark.parametrize(
    ("optimizer", "settings"),
    [
        ("adam", {}),
        ("rmsprop", {}),
        ("adam", {"marginals": "quantile", "conditioner_input": "values"}),
    ],
)
def test_only_kernels_of_m_decay(optimizer, settings):
    """The variables of the prior have rank 2, as kernels have."""
    config = nice_tf.Config(optimizer=optimizer, weight_decay=0.5, **MIXTURE)
    flow = nice_tf.build_flow([4], hidden_units=(7, 6), **MIXTURE, **settings)
    for variable in flow.trainable_variables:
        variable.assign(tf.random.stateless_normal(variable.shape, [0, 1]))
    made = optimizers.make_optimizer(config, flow, 10)
    before = [variable.numpy() for variable in flow.trainable_variables]
    gradients = [tf.zeros_like(variable) for variable in flow.trainable_variables]
    made.apply_gradients(zip(gradients, flow.trainable_variables, strict=True))
    kept = 1 - 0.5 * config.learning_rate
    for variable, old in zip(flow.trainable_variables, before, strict=True):
        if variable.name.startswith("kernel") or "/kernel" in variable.name:
            np.testing.assert_allclose(variable, kept * old, rtol=1e-6)
            assert not np.array_equal(variable, old)
        else:
            np.testing.assert_array_equal(variable, old, err_msg=variable.name)
    names = [variable.name for variable in flow.trainable_variables]
    assert sum("kernel" in name for name in names) == 4 * 3


def test_without_noise_the_density_stays_finite():
    """A constant coordinate: 1 / s is bounded, and so is the scale of a component."""
    flow = nice_tf.build_flow([3], hidden_units=(4,), min_inverse_scale=1e-6, **MIXTURE)
    data = random_points(50, 3, dtype=np.float32) * [1.0, 0.0, 1.0]
    nice_tf.initialize_from_data(flow, data)
    np.testing.assert_allclose(tf.exp(-nice_tf.layers(flow)[-1].log_scale)[1], 1e-3, rtol=1e-5)
    by_name = {variable.name: variable for variable in flow.distribution.trainable_variables}
    by_name["loc:0"].assign(tf.zeros([3, 3]))
    by_name["log_scale:0"].assign(tf.fill([3, 3], -50.0))
    log_prob = flow.log_prob(tf.reduce_mean(data, axis=0, keepdims=True))
    assert np.all(np.isfinite(log_prob))
    assert np.all(log_prob <= 3 * -np.log(4e-6) + 1e-3)


def test_number_of_parameters():
    flow = architecture.make_flow(CONFIG, [8, 8, 1])
    number = sum(int(np.prod(variable.shape)) for variable in flow.trainable_variables)
    assert architecture.count_parameters(CONFIG, [8, 8, 1]) == number


def test_clusters_that_need_too_much_memory_are_refused():
    config = dataclasses.replace(CONFIG, prior_clusters=1000, prior_components=1000)
    with pytest.raises(nice_tf.UserError, match=r"prior_clusters 1000 .* batch_size 100, need"):
        architecture.check_memory(config, [100, 100, 1], 0, copies=5)


@pytest.fixture(scope="module")
def workdir(tmp_path_factory, trained):
    path = tmp_path_factory.mktemp("mixture")
    trained(CONFIG, path)
    return path


@pytest.fixture(scope="module")
def model(workdir, tmp_path_factory):
    return LoadedModel(nice_tf.export_saved_model(workdir, tmp_path_factory.mktemp("export")))


def test_a_run_trains_the_prior_and_is_read_back(workdir):
    flow = nice_tf.load_flow(workdir)
    start = nice_tf.logistic_mixture_prior(64, num_components=3, num_clusters=2)
    for variable, initial in zip(
        flow.distribution.trainable_variables, start.trainable_variables, strict=True
    ):
        assert np.mean(variable.numpy() != initial) > 0.9, variable.name
    x = nice_tf.dequantize(dataset.load(CONFIG).test, 17, tf.constant([4, 2]))
    evaluation = json.loads((workdir / "evaluation.json").read_text())
    np.testing.assert_allclose(np.mean(flow.log_prob(x)), evaluation["log_prob"], atol=0.5)
    assert json.loads((workdir / "config.json").read_text())["config"]["prior_components"] == 3


def test_averages_of_the_prior_are_what_is_evaluated():
    data = dataset.load(CONFIG)
    made = model_lib.make_model(CONFIG, data)
    prior = made.flow.distribution.trainable_variables
    averages = [variable.numpy() for variable in prior]
    for _ in range(3):
        made.train_step(tf.constant(data.train[:100]))
        for k, variable in enumerate(prior):
            averages[k] = 0.9 * averages[k] + 0.1 * variable.numpy()
    evaluated = made.evaluation_flow.distribution.trainable_variables
    for average, found, variable in zip(averages, evaluated, prior, strict=True):
        np.testing.assert_allclose(found, average, rtol=1e-5, atol=1e-7)
        assert not np.allclose(found, variable)


def test_a_run_that_was_stopped_goes_on(workdir, tmp_path, monkeypatch):
    write = nice_tf.runs.workdir.Workdir.write_metrics

    def stop_after_the_first(self, rows):
        write(self, rows)
        if len(rows) == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("nice_tf.runs.workdir.Workdir.write_metrics", stop_after_the_first)
        with pytest.raises(KeyboardInterrupt):
            nice_tf.train_and_evaluate(CONFIG, tmp_path)
    found = nice_tf.train_and_evaluate(CONFIG, tmp_path)
    whole = json.loads((workdir / "evaluation.json").read_text())
    np.testing.assert_allclose(found["log_prob"], whole["log_prob"], atol=1e-3)


def test_export_is_the_flow(workdir, model):
    flow = nice_tf.load_flow(workdir)
    x = dataset.load(CONFIG).test[:20].astype(np.float32)
    at_centres = (x + 0.5) / 17
    np.testing.assert_allclose(
        model("log_prob", x=x)["log_prob"], flow.log_prob(at_centres), rtol=1e-5, atol=1e-3
    )
    encoded = model("encode", x=x)["z"]
    np.testing.assert_allclose(encoded, nice_tf.encoder(flow).forward(at_centres), atol=1e-3)
    np.testing.assert_allclose(model("decode", z=encoded)["x"], x, atol=1e-2)
    mask = np.ones_like(x)
    mask[:, :4] = 0
    seeds = np.stack([np.zeros(20), np.arange(20)], axis=1).astype(np.int32)
    filled = model("inpaint", x=x, mask=mask, seed=seeds)
    np.testing.assert_array_equal(filled["x"][mask == 1], x[mask == 1])
    assert np.all(np.isfinite(filled["log_prob"]))


def test_exported_samples_follow_their_own_seed_alone(workdir, model):
    number = 1000
    seeds = np.stack([np.zeros(number), np.arange(number)], axis=1).astype(np.int32)
    ones = np.ones(number, np.float32)
    drawn = model("sample", seed=seeds, temperature=ones)
    for rows in ([2], [4, 2], [2, 2, 0, 1]):
        part = model("sample", seed=seeds[rows], temperature=ones[: len(rows)])
        np.testing.assert_allclose(part["x"], drawn["x"][rows], rtol=1e-4, atol=1e-3)
        np.testing.assert_allclose(part["log_prob"], drawn["log_prob"][rows], rtol=1e-4, atol=1e-2)
    assert len(np.unique(drawn["x"].reshape(number, -1), axis=0)) == number
    z = model("encode", x=drawn["x"])["z"]
    prior = nice_tf.load_flow(workdir).distribution
    probability = distribution_function(prior, z.astype(np.float64))
    pvalues = [scipy.stats.kstest(column, "uniform").pvalue for column in probability.T]
    assert min(pvalues) > 1e-5
    # The two clusters tie the coordinates to each other.
    many = prior.sample(20_000, seed=[0, 1]).numpy().astype(np.float64)
    expected = np.corrcoef(distribution_function(prior, many), rowvar=False)
    assert np.abs(np.corrcoef(probability, rowvar=False) - expected).max() < 0.17
    cool = model("sample", seed=seeds[:9], temperature=np.full(9, 0.5, np.float32))["x"]
    np.testing.assert_allclose(model("encode", x=cool)["z"], 0.5 * z[:9], atol=5e-3)


def test_figures_and_texts(workdir):
    run = finished_lib.load_finished_run(workdir)
    assert run.config.prior_text == "prior of 3 logistics per coordinate in 2 clusters"
    codes = nice_tf.sphere_codes(
        64, radius=8.0, num_rows=10, num_columns=10, dimension=2, seed=run.config.seed
    )
    z = run.flow.distribution.mean() + run.flow.distribution.stddev() * codes.reshape(-1, 64)
    expected = run.grid(run.flow.bijector.forward(z)).astype(int)
    assert np.abs(figures.sphere(run).astype(int) - expected).max() <= 1
    for name in ("spectrum", "reconstruction", "interpolation"):
        figures.FIGURES[name][0](run)


def own_mixture(mixture, scale):
    """A user's own mixture of three logistics for each of 2 coordinates."""
    loc = tf.constant([[-4.0, 0.0, 4.0], [-1.0, 5.0, 9.0]], tf.float64)
    each = tfd.MixtureSameFamily(mixture, tfd.Logistic(loc, tf.constant(scale, tf.float64)))
    return tfd.Independent(each, 1)


def of_probs():
    return tfd.Categorical(probs=tf.fill([2, 3], tf.constant(1 / 3, tf.float64)))


def of_logits():
    return tfd.Categorical(logits=tf.zeros([2, 3], tf.float64))


@pytest.mark.parametrize(
    ("mixture", "scale"), [(of_probs, np.ones([2, 3])), (of_logits, 1.0), (of_logits, [[1.0]])]
)
def test_an_own_mixture_in_another_form_is_an_own_prior(mixture, scale):
    prior = own_mixture(mixture(), scale)
    assert not mixtures.is_mixture(prior)
    flow = nice_tf.flow_from_layers([], prior, 2)
    np.testing.assert_allclose(nice_tf.inverse_scales(flow), prior.stddev(), rtol=1e-10)
    with pytest.raises(nice_tf.UserError, match="has no quantile, of which samples are made"):
        priors.check_quantile(prior)


def test_draws_of_a_scaled_mixture():
    base = nice_tf.logistic_mixture_prior(4, dtype=tf.float64)
    scale = tf.constant([1.0, 2.0, 3.0, 4.0], tf.float64)
    scaled = tfd.TransformedDistribution(base, tfb.Scale(scale))
    priors.check_quantile(scaled)
    u = np.random.default_rng(0).random([5, priors.num_uniforms(scaled)])
    expected = priors.codes_from_uniforms(base, tf.constant(u)) * scale
    np.testing.assert_allclose(priors.codes_from_uniforms(scaled, tf.constant(u)), expected)


def test_scales_before_an_own_mixture_are_those_of_its_deviation():
    prior = own_mixture(of_logits(), np.ones([2, 3]))
    assert not priors.starts_at(prior, "logistic")
    for num_clusters in (1, 3):
        start = nice_tf.logistic_mixture_prior(2, num_clusters=num_clusters)
        assert priors.starts_at(start, "logistic") and not priors.starts_at(start, "normal")
    flow = nice_tf.build_flow(
        2, hidden_units=(5,), prior=prior, marginals="quantile", dtype=tf.float64
    )
    x = tf.exp(random_points(2000, 2))
    nice_tf.initialize_from_data(flow, x)
    z = nice_tf.encoder(flow).forward(x)
    np.testing.assert_allclose(np.std(z, axis=0), prior.stddev(), rtol=0.02)
