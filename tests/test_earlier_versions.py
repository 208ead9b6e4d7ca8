"""What an earlier version wrote is read, scored, served and continued: see
earlier_version/README.md.
"""

import csv
import pathlib
import tarfile

import numpy as np
import pytest

import nice_tf
from nice_tf.runs.workdir import Workdir
from nice_tf.scoring import files
from nice_tf.scoring.model import Model
from nice_tf.serving import export

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
            np.testing.assert_allclose(
                np.float64(now[name]), np.float64(values), atol=1e-3, err_msg=name
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
