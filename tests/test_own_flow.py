"""`nice_tf.fit`: a flow of the user's own on arrays in memory."""

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

import nice_tf
from nice_tf.data import dataset
from nice_tf.errors import UserError
from nice_tf.runs.architecture import make_flow
from nice_tf.runs.workdir import Workdir

tfb = tfp.bijectors
tfd = tfp.distributions


def values(number=120, seed=0):
    generator = np.random.default_rng(seed)
    x = generator.normal(size=[number, 3]) @ generator.normal(size=[3, 3]) + 5
    return x.astype(np.float32)


def small_flow(**settings):
    return nice_tf.build_flow([3], num_couplings=3, hidden_units=(8,), **settings)


def variables_of(flow):
    return [variable.numpy() for variable in flow.variables]


@pytest.mark.usefixtures("without_denoising")
def test_numbers_are_those_of_a_run(tmp_path):
    config = nice_tf.Config(num_couplings=3, hidden_units=(8,), epochs=2, precision="float32")
    nice_tf.train_and_evaluate(config, tmp_path)
    data = dataset.load(config)
    flow = make_flow(config, data.event_shape, levels=data.levels)
    history = nice_tf.fit(flow, data.train, validation=data.validation, levels=17, epochs=2)
    rows = Workdir(tmp_path).read_metrics()
    assert set(history) == {"log_prob", "bits_per_dim", "val_log_prob", "val_bits_per_dim"}
    for name, figures in history.items():
        assert figures == [float(row[name]) for row in rows]


def test_weights_are_those_of_the_best_epoch():
    flow = small_flow()
    x = values(100)
    held_out = x[30:]
    # So few examples, and so fast, that later epochs are worse.
    settings = {"validation": held_out, "epochs": 12, "batch_size": 10, "learning_rate": 0.01}
    history = nice_tf.fit(flow, x[:30], **settings)
    best = int(np.argmax(history["val_log_prob"]))
    assert 0 < best < 11
    log_prob = np.mean(flow.log_prob(tf.identity(held_out)))
    np.testing.assert_allclose(log_prob, history["val_log_prob"][best], rtol=1e-5)
    patient = small_flow()
    stopped = nice_tf.fit(patient, x[:30], early_stopping_epochs=2, **settings)["val_log_prob"]
    assert len(stopped) == np.argmax(stopped) + 3
    assert stopped == history["val_log_prob"][: len(stopped)]


def test_any_distribution_with_variables():
    loc = tf.Variable(tf.zeros(2))
    flow = tfd.TransformedDistribution(
        tfd.Sample(tfd.Normal(0.0, 1.0), [2]), tfb.Shift(loc), name="shifted"
    )
    x = np.random.default_rng(0).normal([3.0, -2.0], 1.0, [300, 2]).astype(np.float32)
    history = nice_tf.fit(flow, x, epochs=60, batch_size=50, learning_rate=0.1, seed=1)
    assert history["val_log_prob"][-1] > history["val_log_prob"][0] + 3
    np.testing.assert_allclose(loc, [3.0, -2.0], atol=0.2)


def test_the_start_is_from_data_unless_the_flow_goes_on():
    flow = small_flow(marginals="quantile")
    start = nice_tf.fit(flow, values(), epochs=2)["val_log_prob"]
    before = variables_of(flow)
    fitted = [value for value in before if value.ndim == 2 and value.shape[1] > 100]
    assert fitted  # the tables of the marginals
    again = nice_tf.fit(flow, values() + 1, epochs=1, initialize=False, learning_rate=1e-9)
    for value, other in zip(before, variables_of(flow), strict=True):
        np.testing.assert_allclose(value, other, atol=1e-6)
    assert again["val_log_prob"][0] < start[-1]


def test_a_seed_gives_the_same_numbers():
    histories = [nice_tf.fit(small_flow(), values(), epochs=2, seed=seed) for seed in (4, 4, 5)]
    assert histories[0] == histories[1] != histories[2]


@pytest.mark.parametrize(
    ("data", "settings", "message"),
    [
        (values()[:, :2], {}, r"data has examples of shape \[2\], the flow is of shape \[3\]"),
        (values()[0], {}, r"data has shape \[3\]"),
        (values(3), {}, "at least 2 examples beside the 2 for validation"),
        (values(), {"validation": 0.0}, "validation must be examples, or a share"),
        (values(), {"validation": values()[:, :1]}, "values"),
        (values() * np.nan, {}, "not finite"),
        (values(), {"levels": 7}, "with levels 7 they must lie in 0..6"),
        (np.full([50, 3], 1), {}, "give the number of integer levels with levels"),
        (values(), {"batch_size": 0}, "batch_size must be at least 1, got 0"),
        (values(), {"batch_size": -1}, "batch_size must be at least 0, got -1"),
        (values(), {"batch_size": 2.5}, "batch_size must be a whole number, got 2.5"),
        (values(), {"batch_size": "all"}, "batch_size must be a whole number, got 'all'"),
        (values(), {"seed": -1}, "seed must be at least 0, got -1"),
        (values(), {"levels": 0}, "levels must be at least 2, got 0"),
        (values(), {"validation": values()[:1]}, "validation has 1 examples: at least 2"),
        (values(), {"epochs": 0}, "epochs must be at least 1, got 0"),
        (values(), {"schedule": "slow"}, "schedule must be one of"),
        (values(), {"learning_rate": 1e30}, "became .* in epoch 1: try a smaller learning_rate"),
    ],
)
def test_bad_input(data, settings, message):
    with pytest.raises(UserError, match=message):
        nice_tf.fit(small_flow(), data, **{"epochs": 2, **settings})


def test_a_flow_without_variables_is_refused():
    flow = tfd.TransformedDistribution(tfd.Sample(tfd.Normal(0.0, 1.0), [3]), tfb.Shift([1.0]))
    with pytest.raises(UserError, match="has no trainable variables"):
        nice_tf.fit(flow, values())
