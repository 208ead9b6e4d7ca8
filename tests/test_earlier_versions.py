"""What an earlier version wrote is read, scored, served and continued: see
earlier_version/README.md.
"""

import csv
import dataclasses
import pathlib
import shutil
import tarfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import nice_tf
from nice_tf.data import dataset
from nice_tf.runs.finished import load_finished_run
from nice_tf.runs.workdir import Workdir
from nice_tf.scoring import files
from nice_tf.scoring.model import Model
from nice_tf.serving import export
from nice_tf.training import run as run_lib

ROOT = pathlib.Path(__file__).parents[1]
ARCHIVES = sorted((ROOT / "tests" / "earlier_version").glob("*.tar.xz"))


@pytest.fixture(params=ARCHIVES, ids=lambda path: path.name.split(".")[0])
def folder(request, tmp_path, monkeypatch):
    with tarfile.open(request.param) as archive:
        archive.extractall(tmp_path, filter="data")
    monkeypatch.chdir(tmp_path)  # the run's data set is a relative path
    return tmp_path


def columns(path):
    with open(path, newline="") as file:
        rows = list(csv.DictReader(file))
    return {name: [row[name] for row in rows] for name in rows[0]}


def settings():
    return nice_tf.read_flagfile(
        ROOT / "configs" / "table.flags",
        dataset="table.csv",
        epochs=3,
        hidden_units=(4,),
        num_couplings=3,
        batch_size=50,
        precision="float32",
        marginals="none",
        prior="logistic",
        prior_components=8,
        prior_clusters=1,
    )


@pytest.mark.parametrize("model", ["run", "export"])
def test_scores_stay(folder, model):
    files.score_file(model, "table.csv", "now.csv")
    before, now = columns("scores.csv"), columns("now.csv")
    assert list(before) == list(now)
    for name, values in before.items():
        if name.startswith("top_") and not name.endswith("_nats"):
            assert now[name] == values
        elif name == "is_anomaly":
            assert now[name] == values
        elif name == "off_constant":
            assert set(now[name]) == {""}
        else:
            tolerance = 1e-3
            if name == "tail_probability":
                # A row of validation is compared with itself, which rounding puts on either side.
                tolerance += 1 / len(np.load(Workdir("run").calibration))
            np.testing.assert_allclose(
                np.float64(now[name]), np.float64(values), atol=tolerance, err_msg=name
            )


def test_a_run_is_continued_to_the_same_result(folder):
    run = Workdir("run")
    before = run.finished_evaluation()
    again = nice_tf.train_and_evaluate(settings(), "run")
    assert again.evaluation == before, "finished: nothing is computed again"
    (run.last / "epoch-3.index").unlink()
    run.evaluation.unlink()
    rows = run.read_metrics()
    after = nice_tf.train_and_evaluate(settings(), "run")
    np.testing.assert_allclose(after["log_prob"], before["log_prob"], atol=1e-3)
    assert [row["epoch"] for row in run.read_metrics()] == ["1", "2", "3"]
    np.testing.assert_allclose(
        [float(row["val_log_prob"]) for row in run.read_metrics()],
        [float(row["val_log_prob"]) for row in rows],
        atol=1e-3,
    )


def test_a_run_is_exported_and_answers_as_its_old_export(folder):
    version = export.export_saved_model("run", "export")
    assert version.name == "2"
    x = np.array(
        [[float(cell) for cell in row] for row in zip(*columns("table.csv").values(), strict=True)]
    )
    old, new = (Model.load(folder / "export" / name).score(x)["log_prob"] for name in ("1", "2"))
    np.testing.assert_allclose(new, old, atol=1e-3)


def without_spikes(schema):
    """As it was in 0.1."""
    return schema.without_spikes()


def not_spread(schema):
    """As it was before their noise: only samples were moved to spikes."""
    return dataclasses.replace(schema, spread=False)


def table_with_zeros(folder):
    """A table, and settings to train on it."""
    generator = np.random.default_rng(0)
    wait = np.where(generator.random(300) < 0.4, 0.0, generator.gamma(4.0, 1.0, 300))
    rows = pa.table({"wait": wait, "mood": generator.normal(size=300)})
    pq.write_table(rows, folder / "rows.parquet")
    return nice_tf.Config(
        dataset=str(folder / "rows.parquet"),
        marginals="quantile",
        num_couplings=2,
        hidden_units=(4,),
        epochs=2,
        batch_size=50,
        num_draws=4,
        precision="float32",
    )


@pytest.fixture(scope="module", params=[without_spikes, not_spread])
def run_without_noise(request, tmp_path_factory):
    """Of a column with zeros that were not spread."""
    path = tmp_path_factory.mktemp("without_noise")
    config = table_with_zeros(path)

    def load(config):
        data = dataset.load(config)
        return dataclasses.replace(data, schema=request.param(data.schema))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run_lib, "dataset", type("Earlier", (), {"load": staticmethod(load)}))
        result = nice_tf.train_and_evaluate(config, path / "run")
    assert result["num_draws"] == 1
    assert "spread" not in Workdir(path / "run").read_config()[1]["schema"]
    return Workdir(path / "run"), config, result


def kept(run):
    return [path.read_bytes() for path in (run.config, run.evaluation, run.calibration)]


def test_spikes_of_a_run_that_did_not_spread_them_stay_so(run_without_noise):
    run, config, result = run_without_noise
    before = kept(run)
    assert dataset.load(config).spikes is not None
    starts = []
    again = nice_tf.train_and_evaluate(config, run.path, on_start=starts.append)
    assert again.evaluation == result.evaluation and kept(run) == before
    assert "which this run of an earlier version does not spread" in starts[0].warnings[0]
    assert starts[0].data.spikes is None
    for finish in (
        lambda: run_lib.finish_stopped(run.path),
        lambda: run_lib.finish(config, dataset.load(config), run),
    ):
        assert finish().evaluation == result.evaluation and kept(run) == before
    assert load_finished_run(run.path).data.spikes is None


def test_a_run_that_did_not_spread_spikes_is_continued_without_their_noise(
    run_without_noise, tmp_path
):
    begun, config, result = run_without_noise
    run = Workdir(shutil.copytree(begun.path, tmp_path / "run"))
    rows = run.read_metrics()
    for name in ("epoch-2.index", "epoch-2.data-00000-of-00001"):
        (run.last / name).unlink()
    run.evaluation.unlink()
    run.config.unlink()  # the checksum alone tells that it has no noise
    after = nice_tf.train_and_evaluate(config, run.path)
    assert after["num_draws"] == 1 and dataset.load(config).spikes is not None
    np.testing.assert_allclose(after["log_prob"], result["log_prob"], atol=1e-4)
    np.testing.assert_allclose(
        [float(row["val_log_prob"]) for row in run.read_metrics()],
        [float(row["val_log_prob"]) for row in rows],
        atol=1e-4,
    )


def test_a_new_run_says_that_spikes_are_spread(tmp_path):
    config = dataclasses.replace(table_with_zeros(tmp_path), epochs=1)
    assert nice_tf.train_and_evaluate(config, tmp_path / "new")["num_draws"] == 4
    run = Workdir(tmp_path / "new")
    assert run.read_config()[1]["schema"]["spread"] is True
    before = kept(run)
    run.config.unlink()
    nice_tf.train_and_evaluate(config, run.path)
    assert kept(run) == before
    assert load_finished_run(run.path).data.spikes is not None
