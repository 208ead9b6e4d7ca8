import csv
import json
import os
import pathlib
import re
import shutil

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from bijector_laws import fresh
from flows import randomize
from matplotlib import image as plt_image

import nice_tf
from nice_tf.apps import terminal
from nice_tf.data import batches, dataset
from nice_tf.evaluation import likelihood as evaluation
from nice_tf.evaluation import metrics
from nice_tf.flows.marginals import data_mean
from nice_tf.runs import architecture, checkpoints, workdir
from nice_tf.runs import finished as finished_lib
from nice_tf.runs.workdir import Workdir
from nice_tf.scoring.model import Model
from nice_tf.serving import export, server
from nice_tf.training import callbacks, optimizers
from nice_tf.training import model as model_lib
from nice_tf.training import run as run_lib
from nice_tf.training.augmentation import mirror_images

# The search for denoised samples is a quarter of so small a run. The run of `finished` has it, as those of
# the commands, the report and the presets.
pytestmark = pytest.mark.usefixtures("without_denoising")

SMALL = {
    "dataset": "digits",
    "num_couplings": 3,
    "hidden_units": (16,),
    "epochs": 3,
    "batch_size": 100,
    "num_draws": 2,
    "epsilon": 1e-8,
    "precision": "float32",
}


def small(**settings):
    return nice_tf.Config(**{**SMALL, **settings})


def weights(flow):
    return np.concatenate([variable.numpy().ravel() for variable in flow.variables])


@pytest.fixture(scope="module")
def finished(tmp_path_factory, trained):
    """A finished small run: its config, workdir and result."""
    config, path = small(sample_every_epochs=2), tmp_path_factory.mktemp("run")
    return config, Workdir(path), trained(config, path)


def test_run_leaves_what_it_says(finished):
    config, run, result = finished
    assert result["split"] == "test" and result["num_examples"] == 300 and result["num_draws"] == 2
    expected = metrics.bits_per_dim(result["log_prob"], 64, 17)
    np.testing.assert_allclose(result["bits_per_dim"], expected, rtol=1e-12)
    with run.metrics.open() as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["1", "2", "3"] and rows[-1]["step"] == "36"
    best = max(rows, key=lambda row: float(row["val_log_prob"]))
    assert result["epoch"] == int(best["epoch"])
    assert float(rows[-1]["log_prob"]) > float(rows[0]["log_prob"]) + 0.5, "it learns"
    assert sorted(path.name for path in run.samples.iterdir()) == ["epoch-0002.png"]
    pictures = [(run.path / f"samples{kind}.png").read_bytes() for kind in ("", "_denoised")]
    assert all(picture.startswith(b"\x89PNG") for picture in pictures)
    assert pictures[0] != pictures[1]
    stored, described = run.read_config()
    assert stored == config and described["event_shape"] == [8, 8, 1] and described["levels"] == 17
    logs = [path.parent.name for path in run.tensorboard.glob("*/events*")]
    assert {"train", "validation", "samples"} <= set(logs)
    assert not list(run.path.rglob("*.tmp"))


def test_tensorboard_holds_scalars_and_pictures(finished):
    _, run, _ = finished
    found = {}
    for path in run.tensorboard.glob("*/events*"):
        for record in tf.data.TFRecordDataset(str(path)):
            for value in tf.compat.v1.Event.FromString(record.numpy()).summary.value:
                found.setdefault((path.parent.name, value.tag), []).append(value)
    assert (
        len(found["train", "epoch_log_prob"]) == 3
        and len(found["validation", "epoch_bits_per_dim"]) == 3
    )
    (picture,) = found["samples", "samples"]
    assert picture.tensor.string_val[2].startswith(b"\x89PNG")


def test_load_flow_gives_the_density_that_was_reported(finished):
    config, run, result = finished
    flow = nice_tf.load_flow(run.path)
    data = dataset.load(config)
    per_draw = evaluation.log_probs(flow, data.test, levels=17, config=config, split="test")
    assert per_draw.shape == (2, 300)
    np.testing.assert_allclose(per_draw.mean(), result["log_prob"], rtol=1e-6)
    np.testing.assert_allclose(
        metrics.standard_error(per_draw.mean(axis=0)), result["log_prob_std_error"], rtol=1e-4
    )
    on_bytes = result["log_prob"] - 64 * np.log(17)  # x of a volume 17^64 times as large
    np.testing.assert_allclose(result["log_prob_on_ranges"]["[0, 17]"], on_bytes, rtol=1e-9)
    np.testing.assert_allclose(
        result["log_prob_on_ranges"]["[-1, 1]"], result["log_prob"] - 64 * np.log(2), rtol=1e-9
    )
    bound = np.mean(np.log(np.mean(np.exp(per_draw), axis=0)))
    assert bound > per_draw.mean() + 0.01
    np.testing.assert_allclose(result["importance_weighted_log_prob"], bound, rtol=1e-6)
    np.testing.assert_allclose(
        result["importance_weighted_bits_per_dim"], metrics.bits_per_dim(bound, 64, 17), rtol=1e-6
    )
    # The same mean with noise that this test draws itself, to within six standard errors of the
    # noise.
    own = [
        flow.log_prob(nice_tf.dequantize(data.test, 17, tf.constant([9, i]))).numpy().mean()
        for i in range(20)
    ]
    spread = np.std(own, ddof=1)
    assert spread > 0
    np.testing.assert_allclose(np.mean(own), result["log_prob"], atol=6 * spread)


def test_finished_run_is_not_evaluated_again(finished, capsys):
    config, run, result = finished
    before = run.evaluation.stat().st_mtime_ns
    starts = []
    again = nice_tf.train_and_evaluate(config, run.path, on_start=starts.append)
    assert again.evaluation == result.evaluation
    assert again == json.loads(run.evaluation.read_text()) and {**again} == again.evaluation
    assert again.workdir == run.path and again.epoch == again["epoch"]
    assert [path.name for path in again.written] == [
        "config.json",
        "metrics.csv",
        "evaluation.json",
        "calibration.npy",
        "samples.png",
        "samples_denoised.png",
    ]
    assert all(path.exists() for path in again.written)
    assert run.evaluation.stat().st_mtime_ns == before
    (start,) = starts
    assert start.epochs_done == 3 and start.workdir == run.path and start.warnings == ()
    assert capsys.readouterr().out == "", "the library prints nothing"
    terminal.print_start(start)
    terminal.print_result(again)
    printed = capsys.readouterr().out
    assert f"workdir    {run.path}, continued after epoch 3\n" in printed
    assert "300 examples, 2 noise draws each" in printed and "  calibration.npy\n" in printed
    assert f"what to try next:\n  nice-tf report --workdir={run.path}\n" in printed


def test_evaluation_draws_are_independent_between_draws_and_examples(finished):
    config, run, _ = finished
    flow = nice_tf.load_flow(run.path)
    same = np.repeat(
        dataset.load(config).test[:1], 250, axis=0
    )  # one image 250 times, over three batches
    draws = evaluation.log_probs(flow, same, levels=17, config=config, split="test")
    assert len(np.unique(draws)) > 0.99 * draws.size, "float32 gives a tie by chance"
    other = evaluation.log_probs(flow, same, levels=17, config=config, split="validation")
    assert not np.any(draws == other)


def test_noise_differs_at_each_step_and_in_validation():
    model = model_lib.make_model(small(), dataset.load(small()))
    values = np.zeros([4, 8, 8, 1], np.uint8)
    draws = [model.density_units(values, "train_noise", step).numpy() for step in (0, 1)]
    draws.append(model.density_units(values, "validation_noise", 0, 0).numpy())
    draws.append(model.density_units(values, "validation_noise", 0, 1).numpy())
    draws.append(model.density_units(values, "validation_noise", 1, 0).numpy())
    for i, first in enumerate(draws):
        np.testing.assert_array_equal(len(np.unique(first.reshape(4, -1), axis=0)), 4)
        for second in draws[:i]:
            assert not np.any(first == second)


def test_each_step_and_each_validation_draws_its_own_noise():
    """The same batch again, with weights that hardly move: only the noise can change its
    likelihood.
    """
    config = small(learning_rate=1e-30)
    data = dataset.load(config)
    model = model_lib.make_model(config, data)
    values = tf.constant(data.train[:100])

    def of_step(step):
        model.reset_metrics()
        return float(step()["log_prob"])

    trained = [of_step(lambda: model.train_step(values)) for _ in range(3)]
    validated = [
        of_step(lambda n=n: model.test_step((tf.fill([100], n), values))) for n in range(3)
    ]
    model.train_step(values)
    validated += [
        of_step(lambda n=n: model.test_step((tf.fill([100], n), values))) for n in range(3)
    ]
    assert len(set(trained + validated)) == 9
    assert np.ptp(trained + validated) < 2


def test_first_step_is_adam_on_the_mean_negative_log_likelihood():
    config = small(data_init=False, zero_last_layer=False, learning_rate=0.01, epsilon=1e-4)
    data = dataset.load(config)
    model = model_lib.make_model(config, data)
    before = [variable.numpy() for variable in model.flow.trainable_variables]
    values = data.train[:100]
    with tf.GradientTape() as tape:
        log_prob = model.flow.log_prob(model.density_units(values, "train_noise", 0, 0))
        loss = -tf.reduce_mean(log_prob)
    gradients = tape.gradient(loss, model.flow.trainable_variables)
    results = model.train_step(tf.constant(values))
    np.testing.assert_allclose(results["log_prob"], -loss, rtol=1e-6)
    for variable, old, gradient in zip(
        model.flow.trainable_variables, before, gradients, strict=True
    ):
        # Adam's first step: both moments corrected for their start; tf_keras puts epsilon after the
        # root, uncorrected.
        uncorrected = 1e-4 / np.sqrt(1 - config.beta_2)
        expected = old - 0.01 * gradient / (np.abs(gradient) + uncorrected)
        np.testing.assert_allclose(variable, expected, rtol=1e-4, atol=1e-6)


def test_averaged_weights_are_what_is_validated_saved_and_evaluated(tmp_path):
    config = small(ema_decay=0.9, epochs=2)
    data = dataset.load(config)
    model = model_lib.make_model(config, data)
    averages = [variable.numpy() for variable in model.flow.trainable_variables]
    for _ in range(3):
        model.train_step(tf.constant(data.train[:100]))
        averages = [
            0.9 * average + 0.1 * variable.numpy()
            for average, variable in zip(averages, model.flow.trainable_variables, strict=True)
        ]
    for average, found in zip(averages, model.evaluation_flow.trainable_variables, strict=True):
        np.testing.assert_allclose(found, average, rtol=1e-5, atol=1e-7)
    assert not np.allclose(weights(model.evaluation_flow), weights(model.flow))
    averaged = weights(model.evaluation_flow)
    x = model.density_units(data.validation, "validation_noise", model.optimizer.iterations, 0, 0)
    expected = tf.reduce_mean(model.evaluation_flow.log_prob(x))
    found = model.evaluate(
        batches.evaluation_batches(data.validation, 250), verbose=0, return_dict=True
    )
    np.testing.assert_allclose(found["log_prob"], expected, rtol=1e-5)
    np.testing.assert_array_equal(weights(model.evaluation_flow), averaged)

    nice_tf.train_and_evaluate(config, tmp_path)
    state, trained = checkpoints.RunState(), model_lib.make_model(config, data)
    checkpoints.restore_last(Workdir(tmp_path), trained, state)
    assert int(state.best_epoch) == int(state.epoch) == 2
    np.testing.assert_array_equal(
        weights(nice_tf.load_flow(tmp_path)), weights(trained.evaluation_flow)
    )
    assert not np.allclose(weights(trained.flow), weights(trained.evaluation_flow))


@pytest.mark.parametrize(
    "setting", [{"residual": True}, {"partition": "checkerboard"}, {"mixing": "shuffle"}]
)
def test_settings_of_the_model_reach_the_flow(setting):
    def log_prob(config):
        flow = randomize(architecture.make_flow(config, [8, 8, 1]))
        return flow.log_prob(
            np.random.default_rng(0).random([5, 8, 8, 1]).astype(np.float32)
        ).numpy()

    base = {"num_couplings": 4, "hidden_units": (16, 16)}
    assert not np.allclose(log_prob(small(**base, **setting)), log_prob(small(**base)))


def test_shifts_are_for_pictures(tmp_path):
    np.save(tmp_path / "table.npy", np.random.default_rng(0).normal(size=[60, 3]))
    config = small(dataset=str(tmp_path / "table.npy"), batch_size=10, max_shift=1, shift_share=0.5)
    with pytest.raises(
        nice_tf.UserError, match=r"max_shift 1 is for pictures .* got examples of shape \[3\]"
    ):
        model_lib.make_model(config, dataset.load(config))


def test_pictures_are_mirrored_with_probability_a_half(tmp_path):
    """Symmetric statistics to start from, and about half of the pictures of a step."""
    values = tf.reshape(tf.range(400 * 6), [400, 2, 3, 1])
    found = mirror_images(values, tf.constant([0, 1]))
    is_mirrored = np.all(found == values[:, :, ::-1], axis=(1, 2, 3))
    is_as_it_was = np.all(found == values, axis=(1, 2, 3))
    assert np.all(is_mirrored | is_as_it_was) and 150 < np.sum(is_mirrored) < 250

    config = small(mirror=True, whitening="zca", whitening_epsilon=0.01, dequantization="none")
    data = dataset.load(config)
    model = model_lib.make_model(config, data)
    mean = data_mean(model.flow).numpy()
    np.testing.assert_allclose(mean, mean[:, ::-1], atol=1e-5)
    x = tf.cast(data.train[:50], tf.float32) / 16
    found = model.evaluation_flow.log_prob(x)
    np.testing.assert_allclose(model.evaluation_flow.log_prob(x[:, :, ::-1]), found, rtol=1e-3)

    parts = [data.train[:2], data.train[2:5]]
    both, classes, parts = model_lib._with_mirrored(data.train[:5], np.arange(5), parts)
    np.testing.assert_array_equal(both[5:], data.train[:5, :, ::-1])
    np.testing.assert_array_equal(classes, [*range(5), *range(5)])
    in_parts = np.concatenate(list(parts))
    np.testing.assert_array_equal(in_parts[2:4], data.train[:2, :, ::-1])
    np.testing.assert_array_equal(in_parts[4:7], data.train[2:5])

    still = {"learning_rate": 1e-30, "dequantization": "none", "zero_last_layer": False}
    for mirror, number in ((False, 1), (True, 3)):
        model = model_lib.make_model(small(mirror=mirror, **still), data)
        results = set()
        for _ in range(3):
            model.reset_metrics()
            results.add(float(model.train_step(tf.constant(data.train[:100]))["log_prob"]))
        assert len(results) == number, "others are mirrored in each step"

    np.save(tmp_path / "table.npy", np.random.default_rng(0).normal(size=[60, 3]))
    config = small(dataset=str(tmp_path / "table.npy"), batch_size=10, mirror=True)
    with pytest.raises(nice_tf.UserError, match=r"mirror is for pictures .* of shape \[3\]"):
        model_lib.make_model(config, dataset.load(config))


def test_dropout_is_for_training_steps_only():
    config = small(dropout=0.5, learning_rate=1e-30, zero_last_layer=False, dequantization="none")
    data = dataset.load(config)
    model = model_lib.make_model(config, data)
    values = tf.constant(data.train[:100])

    def trained():
        model.reset_metrics()
        return float(model.train_step(values)["log_prob"])

    whole = float(
        tf.reduce_mean(model.evaluation_flow.log_prob(model.density_units(values, "any")))
    )
    with_dropout = {trained() for _ in range(3)}
    assert len(with_dropout) == 3 and whole not in with_dropout, "other units at each step"
    model.reset_metrics()
    np.testing.assert_allclose(
        float(model.test_step((tf.fill([100], 0), values))["log_prob"]), whole, rtol=1e-5
    )


def test_pictures_are_shifted_in_the_first_epochs_only():
    config = small(
        max_shift=1, shift_share=0.5, learning_rate=1e-30, dequantization="none", batch_size=600
    )
    data = dataset.load(config)
    model = model_lib.make_model(config, data)  # 2 steps an epoch
    values = tf.constant(data.train[:600])
    results = []
    for _ in range(4):
        model.reset_metrics()
        results.append(float(model.train_step(values)["log_prob"]))
    whole = float(
        tf.reduce_mean(model.evaluation_flow.log_prob(model.density_units(values, "any")))
    )
    np.testing.assert_allclose(results[2:], [whole] * 2, rtol=1e-5)
    assert results[0] != results[1] and max(results[:2]) < whole - 10, (
        "shifted digits are unlikely digits"
    )


def test_without_averaging_validation_sees_the_newest_weights():
    data = dataset.load(small())
    model = model_lib.make_model(small(), data)
    model.train_step(tf.constant(data.train[:100]))
    assert not np.allclose(weights(model.evaluation_flow), weights(model.flow))
    model.evaluate(batches.evaluation_batches(data.validation, 250), verbose=0)
    np.testing.assert_array_equal(weights(model.evaluation_flow), weights(model.flow))


@pytest.mark.parametrize("precision", ["float64", "bfloat16"])
def test_precisions(trained, precision, tmp_path):
    config = small(precision=precision, epochs=1, zero_last_layer=False)
    data = dataset.load(config)
    model = model_lib.make_model(config, data)
    assert {v.dtype for v in model.flow.variables} == {
        tf.float64 if precision == "float64" else tf.float32
    }
    x = model.density_units(data.test[:9], "train_noise", 0)
    difference = np.max(np.abs(model.flow.log_prob(x) - model.evaluation_flow.log_prob(fresh(x))))
    assert difference == 0 if precision == "float64" else difference > 1e-3, (
        "reports come from a float32 conditioner"
    )
    reference = trained(small(epochs=1, zero_last_layer=False), tmp_path / "float32")
    result = nice_tf.train_and_evaluate(config, tmp_path / precision)
    np.testing.assert_allclose(result["log_prob"], reference["log_prob"], atol=0.5)


def test_schedules():
    warm = optimizers.make_schedule(small(learning_rate=0.1, warmup_steps=9), 100)
    np.testing.assert_allclose(
        [warm(step) for step in (0, 9, 50, 100)], [0.01, 0.1, 0.1, 0.1], rtol=1e-5
    )
    cosine = optimizers.make_schedule(
        small(learning_rate=0.1, warmup_steps=20, schedule="cosine"), 100
    )
    np.testing.assert_allclose(
        [cosine(step) for step in (20, 60, 100)], [0.1, 0.05, 0.0], atol=1e-6
    )
    plain = optimizers.make_schedule(small(learning_rate=0.1), 100)
    np.testing.assert_allclose([plain(step) for step in (0, 100)], [0.1, 0.1], rtol=1e-6)


def test_weight_decay_shrinks_kernels_only():
    config = small(weight_decay=10.0, learning_rate=0.01)
    model = model_lib.make_model(config, dataset.load(config))
    randomize(model.flow)
    before = [variable.numpy() for variable in model.flow.trainable_variables]
    variables = model.flow.trainable_variables
    model.optimizer.apply_gradients([(tf.zeros_like(variable), variable) for variable in variables])
    for variable, old in zip(variables, before, strict=True):
        np.testing.assert_allclose(
            variable, old * (0.9 if variable.shape.rank == 2 else 1.0), rtol=1e-5
        )


def test_gradient_clipping():
    """Adam's first step on a gradient of norm 200, cut to norm 1; epsilon makes the step depend on
    the size.
    """
    config = small(gradient_clip_norm=1.0, epsilon=1.0, learning_rate=0.1)
    flow = nice_tf.build_flow([4], hidden_units=(4,))
    optimizer = optimizers.make_optimizer(config, flow, 10)
    variables = flow.trainable_variables
    before = [variable.numpy() for variable in variables]
    size = sum(variable.shape.num_elements() for variable in variables)
    optimizer.apply_gradients(
        [(tf.fill(v.shape, np.float32(200 / np.sqrt(size))), v) for v in variables]
    )
    clipped = 1 / np.sqrt(size)
    expected = 0.1 * clipped / (clipped + 1.0 / np.sqrt(1 - config.beta_2))
    for variable, old in zip(variables, before, strict=True):
        np.testing.assert_allclose(old - variable, np.full(variable.shape, expected), rtol=1e-3)


def test_validation_is_on_validation_and_initialization_on_train(tmp_path):
    """With a data set whose splits could not differ more."""
    generator = np.random.default_rng(0)
    arrays = {
        name: generator.normal(loc, 1.0, [200, 3])
        for name, loc in (("train", 0), ("validation", 3), ("test", 9))
    }
    np.savez(tmp_path / "data.npz", **arrays)
    config = small(dataset=str(tmp_path / "data.npz"), batch_size=50, epochs=1, learning_rate=1e-9)
    center = nice_tf.layers(model_lib.make_model(config, dataset.load(config)).flow)[1]
    np.testing.assert_allclose(center.loc, arrays["train"].mean(axis=0), atol=1e-5)
    result = nice_tf.train_and_evaluate(config, tmp_path / "run")
    (row,) = Workdir(tmp_path / "run").read_metrics(up_to_epoch=9)
    flow = nice_tf.load_flow(tmp_path / "run")
    means = {
        name: flow.log_prob(tf.constant(values, tf.float32)).numpy().mean()
        for name, values in arrays.items()
    }
    np.testing.assert_allclose(float(row["val_log_prob"]), means["validation"], rtol=1e-5)
    np.testing.assert_allclose(float(row["log_prob"]), means["train"], rtol=1e-3)
    np.testing.assert_allclose(result["log_prob"], means["test"], rtol=1e-5)
    usual = np.load(Workdir(tmp_path / "run").calibration)
    np.testing.assert_allclose(
        usual, np.sort(flow.log_prob(tf.constant(arrays["validation"], tf.float32))), rtol=1e-5
    )


def test_sorted_data_are_initialized_from_all_of_it(tmp_path):
    values = np.random.default_rng(0).normal(size=[30_000, 2]).astype(np.float32)
    values[:15_000, 1] = 0
    np.savez(tmp_path / "data.npz", train=values, test=values[-100:], validation=values[-100:])
    config = small(dataset=str(tmp_path / "data.npz"))
    *_, scaling = nice_tf.layers(model_lib.make_model(config, dataset.load(config)).flow)
    np.testing.assert_allclose(
        scaling.log_scale[0] - scaling.log_scale[1], np.log(values.std(0)[1]), atol=0.05
    )


@pytest.mark.slow
def test_xla_gives_the_same_run(trained, tmp_path):
    config = small(jit_compile="true", epochs=1)
    model = model_lib.make_model(config, dataset.load(config))
    assert (
        model.jit_compile is True
        and not model_lib.make_model(small(), dataset.load(small())).jit_compile
    )
    result = nice_tf.train_and_evaluate(config, tmp_path / "xla")
    reference = trained(small(epochs=1), tmp_path / "plain")
    np.testing.assert_allclose(result["log_prob"], reference["log_prob"], atol=0.3)


@pytest.mark.parametrize("deterministic", [False, True])
def test_deterministic_operations_are_asked_for(tmp_path, monkeypatch, deterministic):
    asked = []
    monkeypatch.setattr(tf.config.experimental, "enable_op_determinism", lambda: asked.append(True))
    nice_tf.train_and_evaluate(small(epochs=1, deterministic=deterministic), tmp_path)
    assert bool(asked) == deterministic


def test_temperature_reaches_samples_and_pictures(tmp_path):
    pictures = {}
    for temperature in (1.0, 1e-6):
        run = Workdir(tmp_path / str(temperature))
        nice_tf.train_and_evaluate(
            small(epochs=1, sample_every_epochs=1, temperature=temperature), run.path
        )
        for path in (run.samples / "epoch-0001.png", run.path / "samples.png"):
            grid = plt_image.imread(path)[:, :, 0]
            cell = grid.shape[0] // 10
            first, second = grid[:cell, :cell], grid[:cell, cell : 2 * cell]
            pictures[temperature, path.name] = np.abs(first - second).mean()
    assert all(
        pictures[1e-6, name] < 0.05 < pictures[1.0, name]
        for name in ("epoch-0001.png", "samples.png")
    )


def test_spoilt_validation_saves_nothing(tmp_path, monkeypatch):
    """The last update of an epoch may spoil weights that only validation uses."""

    class Spoil(run_lib.SamplePictures):
        def on_test_begin(self, logs=None):
            self.model.evaluation_flow.trainable_variables[0].assign_add([np.inf] * 64)

    monkeypatch.setattr(run_lib, "SamplePictures", Spoil)
    with pytest.raises(
        nice_tf.UserError, match="the validation log-likelihood became nan at step 12"
    ):
        nice_tf.train_and_evaluate(small(), tmp_path)
    run = Workdir(tmp_path)
    assert (
        checkpoints.newest(run.last) is None
        and checkpoints.newest(run.best) is None
        and not run.metrics.exists()
    )


def test_early_stopping_counts_epochs_without_a_better_validation(tmp_path, capfd):
    config = small(epochs=50, early_stopping_epochs=2, learning_rate=0.5, gradient_clip_norm=1.0)
    result = nice_tf.train_and_evaluate(config, tmp_path, verbose=2)
    lines = [line for line in capfd.readouterr().out.splitlines() if "patience_left" in line]
    assert lines[-1].endswith("patience_left: 0") and lines[0].endswith("patience_left: 2")
    shown = [float(re.search(r" best: (\S+)", line)[1]) for line in lines]
    rows = Workdir(tmp_path).read_metrics(up_to_epoch=1000)
    values = [float(row["val_log_prob"]) for row in rows]
    assert (
        len(rows) < 50
        and len(rows) == result["epoch"] + 2
        and values[result["epoch"] - 1] == max(values)
    )
    np.testing.assert_allclose(shown, np.maximum.accumulate(values), rtol=1e-4)
    assert set(rows[0]) == {
        "epoch",
        "step",
        "log_prob",
        "bits_per_dim",
        "val_log_prob",
        "val_bits_per_dim",
        "learning_rate",
        "seconds",
    }
    again = nice_tf.train_and_evaluate(config, tmp_path)
    assert (
        again.evaluation == result.evaluation
        and Workdir(tmp_path).read_metrics(up_to_epoch=1000) == rows
    )


def test_another_config_on_a_workdir_is_refused_and_changes_nothing(finished):
    _, run, _ = finished
    before = run.config.read_bytes()
    with pytest.raises(
        nice_tf.UserError,
        match=r"other settings \(prior: 'gaussian', where the run has 'logistic'; seed: 3, where the run has 0\)",
    ):
        nice_tf.train_and_evaluate(small(seed=3, prior="gaussian"), run.path)
    assert run.config.read_bytes() == before
    config_with_other_reports = small(num_draws=3)
    assert nice_tf.train_and_evaluate(config_with_other_reports, run.path)["num_draws"] == 3


def test_a_workdir_without_a_checkpoint_can_be_used_again(tmp_path):
    with pytest.raises(
        nice_tf.UserError, match=r"step 2, .*no checkpoint yet, it is the first epoch"
    ):
        nice_tf.train_and_evaluate(
            small(learning_rate=1e30, data_init=False, zero_last_layer=False), tmp_path
        )
    assert nice_tf.train_and_evaluate(small(epochs=1), tmp_path)["epoch"] == 1


def test_damaged_config_is_named(trained, tmp_path):
    trained(small(epochs=1), tmp_path)
    (tmp_path / "config.json").write_text('{"config": ')
    with pytest.raises(nice_tf.UserError, match=r"config\.json is damaged"):
        nice_tf.train_and_evaluate(small(epochs=1), tmp_path)


def test_results_of_another_run_are_never_taken_for_this_one(trained, tmp_path):
    """Checkpoints removed by hand, then other settings: nothing of the first run may be reported."""
    for removed in ("checkpoints", "checkpoints/last"):
        path = tmp_path / removed.replace("/", "-")
        trained(small(epochs=3), path)
        shutil.rmtree(path / removed)
        result = nice_tf.train_and_evaluate(small(epochs=1, seed=1), path)
        expected = trained(small(epochs=1, seed=1), path / "fresh")
        assert (
            result.evaluation == expected.evaluation
            and len(Workdir(path).read_metrics(up_to_epoch=9)) == 1
        )


def test_evaluation_of_other_weights_or_damaged_is_made_again(trained, tmp_path):
    result = trained(small(epochs=1), tmp_path)
    run = Workdir(tmp_path)
    for content in (json.dumps({**result.evaluation, "epoch": 7, "log_prob": 0.0}), '{"epoch":'):
        run.evaluation.write_text(content)
        assert nice_tf.train_and_evaluate(small(epochs=1), tmp_path).evaluation == result.evaluation
        assert json.loads(run.evaluation.read_text()) == result.evaluation


def test_other_data_of_the_same_shape_are_refused(tmp_path):
    for scale in (1, 2):
        np.save(tmp_path / "data.npy", scale * np.random.default_rng(0).normal(size=[300, 4]))
        config = small(dataset=str(tmp_path / "data.npy"), batch_size=50, epochs=1)
        if scale == 1:
            nice_tf.train_and_evaluate(config, tmp_path / "run")
    with pytest.raises(nice_tf.UserError, match=r"other settings .*data sha256: "):
        nice_tf.train_and_evaluate(config, tmp_path / "run")


def test_a_config_of_another_version_names_the_setting(finished, tmp_path):
    content = json.loads(finished[1].config.read_text())
    content["config"]["colour"] = 1
    (tmp_path / "config.json").write_text(json.dumps(content))
    with pytest.raises(
        nice_tf.UserError, match=r"^unknown settings colour: written by another version"
    ):
        nice_tf.load_flow(tmp_path)


@pytest.mark.parametrize("content", [b'{"mine": 1}', b"\xff\xfe"])
def test_a_foreign_config_is_left_alone(tmp_path, content):
    (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(nice_tf.UserError, match=r"config\.json is damaged or not of nice_tf"):
        nice_tf.train_and_evaluate(small(epochs=1), tmp_path)
    assert (tmp_path / "config.json").read_bytes() == content


def truncate_shard(checkpoint):
    (shard,) = pathlib.Path(checkpoint).parent.glob(f"{checkpoint.rsplit('/')[-1]}.data-*")
    shard.write_bytes(shard.read_bytes()[:1000])


def test_a_damaged_checkpoint_is_passed_over_for_the_one_before(trained, tmp_path, caplog):
    result = trained(small(epochs=2), tmp_path)
    run = Workdir(tmp_path)
    rows = run.read_metrics()
    newest = checkpoints.newest(run.last)
    truncate_shard(newest)
    caplog.clear()
    assert nice_tf.train_and_evaluate(small(epochs=2), tmp_path).evaluation == result.evaluation
    said = caplog.text
    assert (
        f"checkpoint {newest} is damaged" in said
        and "going on from epoch 1, the one before" in said
    )
    for before, after in zip(rows, run.read_metrics(), strict=True):
        assert {**before, "seconds": ""} == {**after, "seconds": ""}
    assert checkpoints.newest(run.last) == newest, "written anew"


def test_damaged_checkpoints_are_named_where_there_is_no_other(trained, tmp_path):
    trained(small(epochs=2), tmp_path)
    run = Workdir(tmp_path)
    for path in checkpoints.complete(run.last):
        truncate_shard(path)
    newest = checkpoints.newest(run.last)
    with pytest.raises(
        nice_tf.UserError,
        match=rf"checkpoint {newest} is damaged .*delete this folder to start again",
    ):
        nice_tf.train_and_evaluate(small(epochs=2), tmp_path)
    shutil.rmtree(run.last)  # what the message says, helps
    nice_tf.train_and_evaluate(small(epochs=2), tmp_path)
    assert len(run.read_metrics(up_to_epoch=9)) == 2


def test_damaged_best_weights_are_named(trained, tmp_path):
    trained(small(epochs=2), tmp_path)
    newest = checkpoints.newest(Workdir(tmp_path).best)
    truncate_shard(newest)
    with pytest.raises(nice_tf.UserError, match=rf"checkpoint {newest} is damaged .*Train again"):
        nice_tf.train_and_evaluate(small(epochs=2), tmp_path)


def cut_index(folder, epoch, size):
    index = folder / f"epoch-{epoch}.index"
    index.write_bytes(index.read_bytes()[:size])


@pytest.mark.parametrize("size", [0, 100])
def test_a_part_of_an_index_is_no_checkpoint(trained, tmp_path, size, caplog):
    config = small(epochs=3)
    result = trained(config, tmp_path)
    run = Workdir(tmp_path)
    cut_index(run.last, 3, size)
    (run.last / "epoch-3-copy.index").write_bytes(b"")  # none of ours
    assert checkpoints.newest(run.last) == str(run.last / "epoch-2")
    assert nice_tf.train_and_evaluate(config, tmp_path).evaluation == result.evaluation
    said = caplog.text
    assert (
        f"checkpoint {run.last}/epoch-3 is cut off: going on from epoch 2, the one before" in said
    )
    for epoch in (2, 3):
        cut_index(run.last, epoch, size)
    evaluation = run.evaluation.read_bytes()
    for settings in (config, small(epochs=3, seed=1)):
        with pytest.raises(
            nice_tf.UserError,
            match=r"epoch-3 is cut off, and there is no other in .* that is whole",
        ):
            nice_tf.train_and_evaluate(settings, tmp_path)
    assert run.evaluation.read_bytes() == evaluation, "nothing is erased"


def test_what_earlier_versions_left_of_a_kill_in_the_first_epoch_is_no_run(
    trained, tmp_path, caplog
):
    expected = trained(small(epochs=1), tmp_path / "whole")
    run = Workdir(tmp_path / "run")
    for folder in (run.last, run.best):
        folder.mkdir(parents=True)
        (folder / "epoch-1.index").write_bytes(b"")
        (folder / "epoch-1_temp").mkdir()
    shutil.copy(tmp_path / "whole" / "config.json", run.config)
    with pytest.raises(nice_tf.UserError, match="belongs to a run with other settings"):
        nice_tf.train_and_evaluate(small(epochs=1, seed=1), run.path)
    again = nice_tf.train_and_evaluate(small(epochs=1), run.path)
    assert again.evaluation == expected.evaluation
    said = caplog.text
    assert f"checkpoint {run.last}/epoch-1 is cut off: starting from the beginning" in said
    assert not list(run.path.rglob("*_temp"))


@pytest.mark.parametrize("damage", ["cut", "missing"])
def test_an_older_epoch_is_never_taken_for_the_best(trained, tmp_path, damage):
    trained(small(epochs=3), tmp_path)
    run = Workdir(tmp_path)
    best = run.finished_evaluation()["epoch"]
    assert len(checkpoints.complete(run.best)) == 2, "there is another"
    if damage == "cut":
        cut_index(run.best, best, 100)
    else:
        (run.best / f"epoch-{best}.index").unlink()
    evaluation = run.evaluation.read_bytes()
    for read in (
        nice_tf.load_flow,
        server.load_server,
        finished_lib.load_finished_run,
        lambda workdir: nice_tf.train_and_evaluate(small(epochs=3), workdir),
    ):
        with pytest.raises(
            nice_tf.UserError, match=rf"epoch-{best} is damaged or missing\. Train again"
        ):
            read(tmp_path)
    assert run.evaluation.read_bytes() == evaluation


def test_both_checkpoints_find_the_best_weights_that_they_go_with(tmp_path):
    """Weights that are the best of a run which was cut off later must not be taken for those of the
    one before.
    """
    model = model_lib.make_model(small(), dataset.load(small()))
    run, state = Workdir(tmp_path), checkpoints.RunState()
    for epoch, is_better in ((1, True), (2, True), (3, False), (4, True)):
        state.epoch.assign(epoch)
        if is_better:
            state.best_epoch.assign(epoch)
            checkpoints.save_best(run, model, state)
        checkpoints.save_last(run, model, state, rows=[{"epoch": epoch}])
    assert [pathlib.Path(path).name for path in checkpoints.complete(run.last)] == [
        "epoch-4",
        "epoch-3",
    ]
    assert [pathlib.Path(path).name for path in checkpoints.complete(run.best)] == [
        "epoch-4",
        "epoch-2",
    ]
    (run.best / "unfinished").mkdir()  # as a kill leaves it
    checkpoints.tidy(run, 3)  # epoch 4 is found damaged
    assert sorted(path.name.split(".")[0] for path in run.best.glob("*.index")) == ["epoch-2"]
    assert not (run.best / "unfinished").exists()
    assert checkpoints.restore_last(run, model, state) == [{"epoch": 3}]
    assert int(state.best_epoch) == 2
    assert checkpoints.restore_best(run, model.evaluation_flow)[1] == 2


def cut(path):
    path.write_bytes(path.read_bytes()[:60])


@pytest.mark.parametrize("damage", [cut, lambda path: path.write_bytes(b""), pathlib.Path.unlink])
def test_metrics_are_written_anew_from_the_checkpoint(trained, tmp_path, caplog, damage):
    trained(small(epochs=2), tmp_path)
    run = Workdir(tmp_path)
    content = run.metrics.read_bytes()
    damage(run.metrics)
    nice_tf.train_and_evaluate(small(epochs=2), tmp_path)
    assert run.metrics.read_bytes() == content
    assert "metrics.csv was lost or changed: written anew from the checkpoint" in caplog.text


def test_a_run_of_an_earlier_version_continues(trained, tmp_path, monkeypatch, caplog):
    """Without checksums, and with checkpoints that know no history: what metrics.csv lacks is said."""

    def save_without_history(run, model, state, rows):
        checkpoints._save(
            tf.train.Checkpoint(**checkpoints._parts(model, state)), run.last, int(state.epoch)
        )

    expected = trained(small(epochs=3), tmp_path / "whole")
    with monkeypatch.context() as patch:
        patch.setattr(callbacks, "save_last", save_without_history)
        nice_tf.train_and_evaluate(small(epochs=3), tmp_path / "run")
    run = Workdir(tmp_path / "run")
    run.checksums.unlink()
    for path in run.last.glob("epoch-3.*"):
        path.unlink()
    content = run.metrics.read_text().splitlines(keepends=True)
    run.metrics.write_text("".join(content[:1] + content[2:]))
    caplog.clear()
    again = nice_tf.train_and_evaluate(small(epochs=3), tmp_path / "run")
    assert again.evaluation == expected.evaluation
    assert "metrics.csv lacks 1 of the 2 epochs so far" in caplog.text
    assert [row["epoch"] for row in run.read_metrics()] == ["2", "3"]


def test_a_lost_config_is_written_again_for_the_same_run_alone(trained, tmp_path):
    result = trained(small(epochs=1), tmp_path)
    run = Workdir(tmp_path)
    content = run.config.read_bytes()
    run.config.unlink()
    for read in (nice_tf.load_flow, server.load_server, Model.load):
        with pytest.raises(
            nice_tf.UserError, match=r"has lost its config\.json: restore it, or run the training"
        ):
            read(tmp_path)
    with pytest.raises(
        nice_tf.UserError, match=r"lost its config\.json, and belongs to a run with other settings"
    ):
        nice_tf.train_and_evaluate(small(epochs=1, seed=1), tmp_path)
    assert not run.config.exists()
    assert nice_tf.train_and_evaluate(small(epochs=1), tmp_path).evaluation == result.evaluation
    assert run.config.read_bytes() == content
    run.config.unlink()
    run.checksums.unlink()
    with pytest.raises(nice_tf.UserError, match=r"neither config\.json nor checksums\.json"):
        nice_tf.train_and_evaluate(small(epochs=1), tmp_path)


@pytest.mark.parametrize("name", ["calibration.npy", "evaluation.json"])
def test_changed_bytes_of_results_are_found(trained, tmp_path, name, caplog):
    result = trained(small(epochs=1), tmp_path)
    path = tmp_path / name
    content = path.read_bytes()
    place = len(content) - 3
    path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
    for read in (server.load_server, lambda workdir: finished_lib.load_finished_run(workdir)):
        with pytest.raises(
            nice_tf.UserError,
            match=rf"{name} was changed after it was written, its checksum differs",
        ):
            read(tmp_path)
    assert nice_tf.train_and_evaluate(small(epochs=1), tmp_path).evaluation == result.evaluation
    assert f"{name} was changed after it was written: it is computed anew" in caplog.text
    assert path.read_bytes() == content


def test_a_kill_does_not_make_changed_bytes_right(trained, tmp_path, monkeypatch):
    """Between the two writes of checksums.json, the old content counts as well; but not if it was
    changed before.
    """
    trained(small(epochs=1), tmp_path)
    run = Workdir(tmp_path)
    run.calibration.write_bytes(run.calibration.read_bytes()[:-1] + b"x")
    write = workdir.write_atomically

    def killed(path, content):
        if path == run.calibration:
            raise KeyboardInterrupt
        write(path, content)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(workdir, "write_atomically", killed)
        nice_tf.train_and_evaluate(small(epochs=1), tmp_path)
    assert run.changed(run.calibration) == [run.calibration]


@pytest.mark.parametrize("name", ["metrics.csv", "calibration.npy", "evaluation.json", "samples"])
def test_a_folder_for_a_file_and_a_file_for_a_folder_are_named(trained, tmp_path, name):
    trained(small(epochs=1), tmp_path)
    path = tmp_path / name
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    path.write_text("") if name == "samples" else path.mkdir()
    with pytest.raises(nice_tf.UserError, match=f"{name} cannot be "):
        nice_tf.train_and_evaluate(small(epochs=1), tmp_path)


def test_a_changed_config_is_found(trained, tmp_path):
    trained(small(epochs=1), tmp_path)
    path = tmp_path / "config.json"
    path.write_text(path.read_text().replace('"temperature": 1.0', '"temperature": 2.0'))
    for read in (nice_tf.load_flow, server.load_server):
        with pytest.raises(
            nice_tf.UserError, match=r"config\.json was changed after it was written"
        ):
            read(tmp_path)


@pytest.mark.parametrize("when", [0, 1])
def test_a_workdir_that_is_deleted_stops_the_run(tmp_path, monkeypatch, when):
    class Delete(run_lib.SamplePictures):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == when:
                shutil.rmtree(tmp_path / "run")

    monkeypatch.setattr(run_lib, "SamplePictures", Delete)
    with pytest.raises(
        nice_tf.UserError, match=r"run was deleted or moved while the run was going on"
    ):
        nice_tf.train_and_evaluate(small(), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_one_process_trains_and_none_exports_meanwhile(trained, tmp_path):
    config = small(epochs=1)
    trained(config, tmp_path / "run")
    message = rf"workdir {tmp_path}/run is in use by process {os.getpid()} on "
    by_readers = rf"workdir {tmp_path}/run is in use by a process that reads it"
    with Workdir(tmp_path / "run").writing():
        for start in (
            lambda: nice_tf.train_and_evaluate(config, tmp_path / "run"),
            lambda: run_lib.finish(config, dataset.load(config), Workdir(tmp_path / "run")),
            lambda: export.export_saved_model(tmp_path / "run", tmp_path / "export"),
        ):
            with pytest.raises(nice_tf.UserError, match=message):
                start()
    with Workdir(tmp_path / "run").reading():
        server.load_server(tmp_path / "run")  # any number may read
        with pytest.raises(nice_tf.UserError, match=by_readers):
            nice_tf.train_and_evaluate(config, tmp_path / "run")
    nice_tf.train_and_evaluate(config, tmp_path / "run")


def test_divergence_names_step_rate_and_checkpoint_and_keeps_it(tmp_path, monkeypatch):
    """Weights spoilt at the start of epoch 2 stop it at its first step; the checkpoint of epoch 1
    stays good.
    """

    class Spoil(run_lib.SamplePictures):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 1:
                self.model.flow.trainable_variables[0].assign_add([np.inf] * 64)

    with monkeypatch.context() as patch:
        patch.setattr(run_lib, "SamplePictures", Spoil)
        with pytest.raises(
            nice_tf.UserError,
            match=r"nan at step 13, learning rate 0\.001\. The last good .*epoch-1\.",
        ):
            nice_tf.train_and_evaluate(small(), tmp_path)
    assert np.all(np.isfinite(weights(nice_tf.load_flow(tmp_path))))
    nice_tf.train_and_evaluate(small(), tmp_path)
    assert len(Workdir(tmp_path).read_metrics(up_to_epoch=9)) == 3


@pytest.mark.parametrize(("epoch", "is_said"), [(0, True), (4, False)])
def test_divergence_speaks_of_the_first_epoch_only_in_it(tmp_path, epoch, is_said):
    """Another process than the chief may see no checkpoints later on, either."""
    guard = callbacks.NaNGuard(Workdir(tmp_path), is_kept=True)
    model = tf_keras.Sequential([tf_keras.layers.Dense(1)])
    model.compile(optimizer="adam")
    guard.set_model(model)
    guard.on_epoch_begin(epoch)
    with pytest.raises(nice_tf.UserError, match=r"in another workdir$") as refused:
        guard.on_train_batch_end(3, {"log_prob": np.nan})
    assert ("There is no checkpoint yet, it is the first epoch." in str(refused.value)) == is_said


def test_no_noise_is_warned_about_and_stays_finite(tmp_path, capsys, caplog):
    starts = []
    config = small(dequantization="none", epochs=2)
    result = nice_tf.train_and_evaluate(config, tmp_path, on_start=starts.append)
    assert "the likelihood is unbounded" in starts[0].warnings[0]
    terminal.print_start(starts[0])
    assert "\nwarning    dequantization=none: on integer data the lik" in capsys.readouterr().out
    assert (
        np.isfinite(result["log_prob"])
        and result["num_draws"] == 1
        and result["bits_per_dim"] is None
    )
    before = Workdir(tmp_path).evaluation.stat().st_mtime_ns
    again = nice_tf.train_and_evaluate(config, tmp_path)
    assert "dequantization=none: on integer data the likelihood is unbounded" in caplog.text
    assert Workdir(tmp_path).evaluation.stat().st_mtime_ns == before, "evaluated once"
    terminal.print_result(again)
    assert "300 examples, without noise" in capsys.readouterr().out


def test_continuous_table(tmp_path):
    table = np.random.default_rng(0).normal(3.0, 2.0, [300, 5]).astype(np.float32)
    np.save(tmp_path / "table.npy", table)
    config = small(dataset=str(tmp_path / "table.npy"), batch_size=50, epochs=5)
    result = nice_tf.train_and_evaluate(config, tmp_path / "run")
    assert result["bits_per_dim"] is None and result["num_draws"] == 1
    # Five independent normal coordinates: no density does better than minus their entropy, on
    # average.
    best = -5 * 0.5 * np.log(2 * np.pi * np.e * 4)
    assert best - 2 < result["log_prob"] < best + 3 * result["log_prob_std_error"]
    samples = np.load(tmp_path / "run" / "samples.npy")
    assert samples.shape == (100, 5)
    np.testing.assert_allclose(samples.mean(), 3.0, atol=0.5)


def test_full_disk(tmp_path, run_command):
    """A real one: a limit on what the process may write to a file, above the small files and below
    a checkpoint.
    """
    script = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "from nice_tf import Config, UserError, train_and_evaluate;"
        "config = Config(hidden_units=(300,), num_couplings=3, epochs=1, batch_size=100);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000));\n"
        "try: train_and_evaluate(config, sys.argv[1])\n"
        "except UserError as error: print('refused:', error)"
    )
    finished = run_command("-c", script, tmp_path)
    assert "refused: checkpoint" in finished.stdout and "cannot be written" in finished.stdout, (
        finished.stderr
    )
    assert not list((tmp_path / "checkpoints").rglob("*epoch*"))


def test_logs_that_cannot_be_written_are_named(tmp_path):
    (tmp_path / "tensorboard").write_text("no folder")
    with pytest.raises(
        nice_tf.UserError, match=r"/tensorboard cannot be written \(.* is not a directory\)$"
    ):
        nice_tf.train_and_evaluate(small(epochs=1), tmp_path)


def test_load_flow_of_nothing(tmp_path):
    with pytest.raises(nice_tf.UserError, match="holds no run"):
        nice_tf.load_flow(tmp_path / "nowhere")
