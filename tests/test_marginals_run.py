"""Runs with fitted marginals: training, continuing, exporting, filling, tables."""

import shutil

import numpy as np
import pytest
import tensorflow as tf
from marginal_data import TABLES, of_kind, tables
from table_files import write_csv

import nice_tf
from nice_tf.data import dataset
from nice_tf.runs import checkpoints
from nice_tf.runs.workdir import Workdir
from nice_tf.scoring.model import Model
from nice_tf.serving import export
from nice_tf.training import model as model_lib

pytestmark = pytest.mark.usefixtures("without_denoising")


def test_symmetric_range_with_marginals_is_refused_in_a_run(tmp_path):
    config = nice_tf.Config(marginals="quantile", input_range="symmetric", hidden_units=(8,))
    with pytest.raises(nice_tf.UserError, match="leave input_range at 'unit', got 'symmetric'"):
        nice_tf.train_and_evaluate(config, tmp_path / "run")


SMALL = {
    "num_couplings": 2,
    "partition": "nested",
    "marginals": "trained",
    "conditioner_input": "values",
    "hidden_units": (12,),
    "activation": "tanh",
    "epochs": 2,
    "num_draws": 2,
    "precision": "float32",
    "sample_every_epochs": 0,
}
DIGITS = nice_tf.Config(dataset="digits", batch_size=100, **SMALL)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run on the digits, which was stopped after its first epoch and continued."""
    path = tmp_path_factory.mktemp("marginals") / "run"
    write = Workdir.write_metrics

    def stop_after_one(self, rows):
        write(self, rows)
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("nice_tf.training.samples.denoise", lambda flow, x, context=None: x)
        with pytest.MonkeyPatch.context() as stopping:
            stopping.setattr(Workdir, "write_metrics", stop_after_one)
            with pytest.raises(KeyboardInterrupt):
                nice_tf.train_and_evaluate(DIGITS, path)
        nice_tf.train_and_evaluate(DIGITS, path)
    return Workdir(path)


def counts_of(values):
    flat = values.reshape(len(values), -1)
    return np.stack([np.bincount(flat[:, d], minlength=17) for d in range(64)])


def test_marginals_of_a_run_are_those_of_train(run):
    """Counted plainly; those of another split are others."""
    digits = dataset.load(DIGITS)
    layer = nice_tf.layers(nice_tf.load_flow(run.path))[1]
    masses = layer.parameters["masses"].numpy()
    number = len(digits.train)
    # How much is added to each count, by what is left to a level of a pixel that is always 0.
    added = masses[0, 5] * number / (1 - 17 * masses[0, 5])
    expected = (counts_of(digits.train) + added) / (number + 17 * added)
    np.testing.assert_allclose(masses, expected, rtol=1e-3)
    mean = (digits.train.reshape(number, 64).mean(axis=0) + 0.5) / 17
    np.testing.assert_allclose(layer.means, mean, atol=2e-3)
    for other in (digits.validation, digits.test):
        assert np.max(np.abs(masses - counts_of(other) / len(other))) > 0.02


def test_a_continued_run_learns_and_keeps_its_marginals(run, tmp_path):
    """It is better than the marginals alone, which are those that it began with."""
    digits = dataset.load(DIGITS)
    flow = nice_tf.load_flow(run.path)
    begun = model_lib.make_model(DIGITS, digits).flow
    first, last = (tables(nice_tf.layers(model)[1]) for model in (begun, flow))
    for key in TABLES:
        np.testing.assert_array_equal(first[key], last[key])
    assert nice_tf.layers(flow)[1].trainable_variables[0].numpy().std() > 1e-3
    x = ((digits.validation + 0.5) / 17).astype(np.float32)
    assert np.mean(flow.log_prob(x)) > np.mean(begun.log_prob(x)) + 0.5
    rows = run.read_metrics(up_to_epoch=9)
    assert [row["epoch"] for row in rows] == ["1", "2"]
    np.testing.assert_allclose(
        run.read_evaluation()["log_prob"],
        np.mean(flow.log_prob(((digits.test + 0.5) / 17).astype(np.float32))),
        atol=1.0,
    )


def test_export_scores_fills_and_samples(run, tmp_path):
    """As the flow does; what is known stays, what is filled and drawn lies in the range."""
    digits = dataset.load(DIGITS)
    export.export_saved_model(run.path, tmp_path / "export", inpaint_steps=1)
    model = Model.load(tmp_path / "export")
    x = digits.test[:9].astype(np.float32)
    expected = nice_tf.load_flow(run.path).log_prob((x + 0.5) / 17)
    np.testing.assert_allclose(model.score(x)["log_prob"], expected, rtol=1e-4)
    gaps = x.copy()
    gaps[:, 2:5] = np.nan
    mask = np.isfinite(gaps).astype(np.float32)
    seed = np.zeros([9, 2], np.int32)
    filled = model("inpaint", x=np.nan_to_num(gaps), mask=mask, seed=seed)["x"]
    np.testing.assert_array_equal(filled[mask == 1], x[mask == 1])
    assert filled.min() >= -0.5 and filled.max() <= 16.5
    assert np.ptp(filled[mask == 0]) > 1
    drawn = nice_tf.sample(nice_tf.load_flow(run.path), 2000, seed=[0, 1]).numpy()
    assert drawn.min() >= 0 and drawn.max() <= 1


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("edges", 7.0, "edges of the marginals must be sorted, got 7.0 before"),
        ("below", np.nan, "below of the marginals must be finite, got nan"),
        ("means", np.inf, "means of the marginals must be finite, got inf"),
    ],
)
def test_spoilt_tables_of_a_run_are_refused(run, tmp_path, key, value, message):
    """Where weights are read, and where training goes on."""
    shutil.copytree(run.path, tmp_path / "run")
    spoil(Workdir(tmp_path / "run"), key, value)
    with pytest.raises(nice_tf.UserError, match=message):
        nice_tf.load_flow(tmp_path / "run")
    with pytest.raises(nice_tf.UserError, match=message):
        export.export_saved_model(tmp_path / "run", tmp_path / "export")
    with pytest.raises(nice_tf.UserError, match=message):
        nice_tf.train_and_evaluate(DIGITS, tmp_path / "run")


def spoil(run, key, value):
    """Changes one number of each flow of every checkpoint, and saves it as the run does."""
    data = dataset.load(DIGITS)
    for folder in (run.last, run.best):
        for path in checkpoints.complete(folder):
            model = model_lib.make_model(DIGITS, data)
            state = checkpoints.RunState()
            saved = {"flow": model.evaluation_flow, "epoch": state.best_epoch}
            if folder == run.last:
                saved = checkpoints._parts(model, state)
                saved["history"] = checkpoints._History([])
            checkpoint = tf.train.Checkpoint(**saved)
            checkpoint.read(path).expect_partial()
            for flow in (model.flow, model.evaluation_flow):
                table = nice_tf.layers(flow)[1].parameters[key]
                spoilt = table.numpy()
                spoilt.flat[0] = value
                table.assign(spoilt)
            checkpoint.write(path)


def test_a_table_is_trained_filled_and_sampled(tmp_path):
    """Columns of all kinds: zeros where there are zeros, hardly a row out of range, missing values filled."""
    kinds = ("gamma", "zeros", "integers")
    number = 1200
    columns = {kind: of_kind(kind, number, seed) for seed, kind in enumerate(kinds)}
    columns["integers"] = np.rint(columns["integers"])
    columns["zeros"] = np.round(columns["zeros"], 2)
    write_csv(tmp_path / "rows.csv", **columns)
    config = nice_tf.Config(
        dataset=str(tmp_path / "rows.csv"),
        data_dir=str(tmp_path / "cache"),
        batch_size=200,
        **{**SMALL, "epochs": 1},
    )
    nice_tf.train_and_evaluate(config, tmp_path / "run")
    flow = nice_tf.load_flow(tmp_path / "run")
    drawn = nice_tf.sample(flow, 5000, seed=[0, 1]).numpy()
    for d, kind in enumerate(kinds):
        span = np.ptp(columns[kind])
        outside = (drawn[:, d] < columns[kind].min() - 0.5) | (
            drawn[:, d] > columns[kind].max() + max(0.5, 0.01 * span)
        )
        assert np.mean(outside) < 4 / number
    zeros = np.mean(np.abs(drawn[:, 1]) <= 0.005 + 1e-6)
    assert abs(zeros - np.mean(columns["zeros"] == 0)) < 0.03
    model = Model.load(tmp_path / "run")
    x = np.stack([columns[kind] for kind in kinds], axis=1)[:20]
    gaps = x.copy()
    gaps[::2, 1] = np.nan
    filled = model.fill(gaps)
    np.testing.assert_allclose(filled[np.isfinite(gaps)], x[np.isfinite(gaps)], rtol=1e-6)
    assert np.all(np.isfinite(filled))
    assert filled[:, 1].min() >= -0.005 and filled[:, 1].max() <= columns["zeros"].max() + 0.005


def test_zeros_are_as_frequent_in_samples_as_in_the_data(tmp_path):
    """By the marginals alone, before any step of training."""
    columns = {kind: of_kind(kind, 1200, 7) for kind in ("gamma", "zeros", "normal")}
    write_csv(tmp_path / "rows.csv", **columns)
    config = nice_tf.Config(dataset=str(tmp_path / "rows.csv"), batch_size=200, **SMALL)
    data = dataset.load(config)
    drawn = nice_tf.sample(model_lib.make_model(config, data).flow, 5000, seed=[0, 1]).numpy()
    assert np.mean(drawn[:, 1] == 0) < 0.01, "they lie beside it"
    zeros = data.schema.as_rows(drawn)[:, 1]
    assert abs(np.mean(zeros == 0) - np.mean(data.train[:, 1] == 0)) < 0.03
    assert abs(np.mean(zeros == 0) - np.mean(columns["zeros"] == 0)) < 0.03
    assert zeros.min() == 0 and np.mean((zeros > 0) & (zeros < 1e-3)) < 1e-3


def test_constant_columns_and_pictures_of_one_level(tmp_path):
    """A pixel that is always 0 has its level; a continuous coordinate that never varies is
    refused.
    """
    values = np.random.default_rng(0).normal(size=[60, 3]).astype(np.float32)
    values[:, 1] = 7
    np.save(tmp_path / "rows.npy", values)
    config = nice_tf.Config(dataset=str(tmp_path / "rows.npy"), batch_size=10, **SMALL)
    with pytest.raises(nice_tf.UserError, match="1 of 3 coordinates have the same value in all"):
        nice_tf.train_and_evaluate(config, tmp_path / "run")
