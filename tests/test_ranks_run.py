"""Scores by ranks of runs: their files, their exports, `nice-tf score` and the estimator."""

import json
import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest
from conftest import ROOT
from table_files import write_csv

import nice_tf
from nice_tf.data import dataset
from nice_tf.data.schema import Schema
from nice_tf.estimators import NiceOutlierDetector
from nice_tf.estimators.outliers import below_which
from nice_tf.runs.workdir import Workdir
from nice_tf.scoring.model import Model
from nice_tf.serving import warmup

COLUMNS = ("a", "b", "n")
TINY = {
    "hidden_units": (8,),
    "num_couplings": 3,
    "epochs": 2,
    "num_draws": 1,
    "precision": "float32",
    "prior_components": 2,
    "prior_clusters": 2,
    "zero_last_layer": False,
}


def table(number=400, seed=0):
    """A heavy tail, a column that is zero for half of the rows, an integer, and a class."""
    generator = np.random.default_rng(seed)
    a = generator.lognormal(0.0, 1.5, number)
    b = np.where(generator.uniform(size=number) < 0.5, 0.0, a * generator.exponential(size=number))
    kind = np.where(a + generator.normal(size=number) > 1, "large", "small")
    return {"a": a, "b": b, "n": generator.integers(0, 9, number), "kind": kind}


def settings(path, **changes):
    return nice_tf.read_flagfile(
        ROOT / "configs" / "table.flags",
        **{"dataset": str(path), "columns": ",".join(COLUMNS), **TINY, **changes},
    )


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    return settings(write_csv(tmp_path_factory.mktemp("data") / "table.csv", **table()))


@pytest.fixture(scope="module")
def run(config, tmp_path_factory):
    path = tmp_path_factory.mktemp("run")
    result = nice_tf.train_and_evaluate(config, path)
    assert Workdir(path).rank_calibration in result.written
    return path


@pytest.fixture
def copy(run, tmp_path):
    """A copy of the run that a test may change."""
    return Workdir(shutil.copytree(run, tmp_path / "run"))


@pytest.fixture(scope="module")
def model(run):
    return Model.load(run)


def as_of_an_earlier_version(run):
    """Takes away what earlier versions did not write."""
    run.rank_calibration.unlink()
    known = json.loads(run.checksums.read_text())
    del known["rank_calibration.npy"]
    run.checksums.write_text(json.dumps(known))


def test_a_run_keeps_the_scores_of_validation(config, run):
    flow = nice_tf.load_flow(run)
    schema = Schema.from_dict(Workdir(run).read_config()[1]["schema"])
    rows = dataset.load(config).of_run(schema).validation
    expected = np.sort(nice_tf.rank_log_prob(flow, rows))
    found = np.load(Workdir(run).rank_calibration)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
    assert np.abs(found - np.load(Workdir(run).calibration)).max() > 0.1


def test_score_has_them_behind_the_tail_probability(run, model, tmp_path):
    source = write_csv(tmp_path / "rows.csv", **table(60, seed=1))
    found = scored(run, source, tmp_path, top=1)
    names = ["row", "log_prob", "tail_probability", "rank_log_prob", "rank_tail_probability"]
    assert found.column_names == [*names, "typicality", "is_anomaly", "top_1", "top_1_nats"]
    columns = table(60, seed=1)
    x = np.stack([columns[name] for name in COLUMNS], axis=-1).astype(np.float32)
    ranks = nice_tf.rank_log_prob(nice_tf.load_flow(run), x)
    np.testing.assert_allclose(found["rank_log_prob"], ranks, rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(
        found["rank_tail_probability"], model.score(x)["rank_tail_probability"]
    )


def scored(model, source, folder, **options):
    output = folder / "scores.parquet"
    said = nice_tf.score_file(model, source, output, overwrite=True, **options)
    found = pq.read_table(output)
    return found.replace_schema_metadata({"said": said})


@pytest.mark.parametrize("by", ["density", "ranks"])
def test_the_chosen_score_flags_rows_and_names_columns(run, model, tmp_path, by):
    columns = table(80, seed=2)
    source = write_csv(tmp_path / "rows.csv", **columns)
    found = scored(run, source, tmp_path, by=by, threshold=0.2, top=1)
    tail = {"density": "tail_probability", "ranks": "rank_tail_probability"}
    flagged = found["is_anomaly"].to_numpy()
    np.testing.assert_array_equal(flagged, found[tail[by]].to_numpy() <= 0.2)
    other = {"density": "ranks", "ranks": "density"}[by]
    flagged_by_other = found[tail[other]].to_numpy() <= 0.2
    assert np.any(flagged != flagged_by_other)
    said = found.schema.metadata[b"said"].decode()
    assert f"{flagged.sum()} flagged" in said and f"{tail[by]} is at most 0.2" in said
    assert f"; {flagged_by_other.sum()} would be flagged by {other}\n" in said
    x = np.stack([columns[name] for name in COLUMNS], axis=-1).astype(np.float32)
    nats = model.contributions(x, by=by)
    np.testing.assert_array_equal(
        found["top_1"].to_numpy(), np.array(COLUMNS, object)[nats.argmax(axis=1)]
    )
    np.testing.assert_allclose(found["top_1_nats"], nats.max(axis=1), rtol=1e-4, atol=1e-4)
    assert np.abs(nats - model.contributions(x, by=other)).max() > 0.1


def test_the_command_takes_by(run, tmp_path, run_here):
    source = write_csv(tmp_path / "rows.csv", **table(30))
    arguments = [f"--model={run}", f"--input={source}", f"--output={tmp_path}/s.parquet"]
    finished = run_here("-m", "nice_tf.apps.score", *arguments, "--by=ranks", "--top=0")
    assert finished.returncode == 0, finished.stderr
    assert ": rank_tail_probability is at most 0.01" in finished.stdout
    refused = run_here("-m", "nice_tf.apps.score", *arguments, "--by=rank")
    assert refused.returncode == 1 and "density|ranks" in refused.stderr


def test_an_export_answers_as_its_run(run, model, tmp_path):
    version = nice_tf.export_saved_model(run, tmp_path / "export", inpaint_steps=1)
    exported = Model.load(version)
    columns = table(20, seed=3)
    x = np.stack([columns[name] for name in COLUMNS], axis=-1)
    assert exported.has_ranks
    for name, value in model.score(x).items():
        np.testing.assert_array_equal(exported.score(x)[name], value, err_msg=name)
    np.testing.assert_array_equal(
        exported.contributions(x, by="ranks"), model.contributions(x, by="ranks")
    )
    card = (version / "MODEL_CARD.md").read_text()
    assert "rank_tail_probability" in card and "rank_contribution" in card
    assert "rank_log_prob" in warmup.replay_warmup(version)["serving_default"]
    # As an export of an earlier version, which says nothing of ranks.
    path = version / "assets" / "data.json"
    description = json.loads(path.read_text())
    del description["has_ranks"]
    path.write_text(json.dumps(description))
    with pytest.raises(
        nice_tf.UserError, match="again, which adds what is missing, and export again"
    ):
        Model.load(version).contributions(x, by="ranks")
    path.write_text(json.dumps({**description, "has_ranks": "yes"}))
    with pytest.raises(nice_tf.UserError, match="has the has_ranks yes"):
        Model.load(version)


def test_a_run_of_an_earlier_version_has_none_until_it_is_trained_again(config, copy, tmp_path):
    before = copy.rank_calibration.read_bytes()
    evaluation = copy.evaluation.read_bytes()
    as_of_an_earlier_version(copy)
    source = write_csv(tmp_path / "rows.csv", **table(30))
    found = scored(copy.path, source, tmp_path, top=1)
    names = ["row", "log_prob", "tail_probability", "typicality", "is_anomaly"]
    assert found.column_names == [*names, "top_1", "top_1_nats"]
    with pytest.raises(nice_tf.UserError, match=r"has no rank_log_prob.*run the training command"):
        scored(copy.path, source, tmp_path, by="ranks")
    nice_tf.train_and_evaluate(config, copy.path)
    assert copy.rank_calibration.read_bytes() == before
    assert copy.evaluation.read_bytes() == evaluation, "test is not read again"


def test_damage_is_found_and_put_right(config, copy):
    whole = copy.rank_calibration.read_bytes()
    copy.rank_calibration.write_bytes(whole[:-1] + b"x")
    message = r"rank_calibration\.npy was changed after it was written"
    with pytest.raises(nice_tf.UserError, match=message):
        Model.load(copy.path)
    nice_tf.train_and_evaluate(config, copy.path)
    assert copy.rank_calibration.read_bytes() == whole
    copy.rank_calibration.write_bytes(whole[:50])
    copy.checksums.unlink()
    message = r"rank_calibration\.npy is damaged: delete it and run the training command again"
    with pytest.raises(nice_tf.UserError, match=message):
        Model.load(copy.path)
    copy.rank_calibration.unlink()
    nice_tf.train_and_evaluate(config, copy.path)
    assert copy.rank_calibration.read_bytes() == whole
    # A file that was written and is gone is none of an earlier version.
    copy.rank_calibration.unlink()
    with pytest.raises(nice_tf.UserError, match="has no evaluation that is whole"):
        Model.load(copy.path)
    nice_tf.train_and_evaluate(config, copy.path)
    assert copy.rank_calibration.read_bytes() == whole


def test_the_evaluation_is_written_last(copy, monkeypatch):
    """It says that the run is finished."""
    written = []
    monkeypatch.setattr(
        "nice_tf.runs.workdir.write_atomically", lambda path, content: written.append(path.name)
    )
    copy.write_evaluation({}, np.zeros(2), np.ones(2))
    names = [name for name in written if name != "checksums.json"]
    assert names == ["calibration.npy", "rank_calibration.npy", "evaluation.json"]
    copy.drop_evaluation()
    left = [copy.evaluation, copy.calibration, copy.rank_calibration]
    assert not any(path.exists() for path in left)


def test_a_table_without_marginals_has_none(config, tmp_path):
    plain = settings(
        config.dataset,
        marginals="none",
        prior="logistic",
        prior_components=8,
        prior_clusters=1,
        epochs=1,
    )
    nice_tf.train_and_evaluate(plain, tmp_path / "run")
    assert not Workdir(tmp_path / "run").rank_calibration.exists()
    model = Model.load(tmp_path / "run")
    assert "rank_log_prob" not in model.score(np.ones([2, 3]))
    with pytest.raises(nice_tf.UserError, match="Train with marginals quantile or trained"):
        model.contributions(np.ones([2, 3]), by="ranks")
    with pytest.raises(nice_tf.UserError, match="by must be one of density, ranks, got 'rank'"):
        model.contributions(np.ones([2, 3]), by="rank")


@pytest.mark.slow
def test_a_conditional_run(config, tmp_path):
    """Of each row given its class."""
    given = settings(config.dataset, condition_on="kind", epochs=1, ema_decay=0.0)
    nice_tf.train_and_evaluate(given, tmp_path / "run")
    columns = table(50, seed=4)
    found = scored(
        tmp_path / "run", write_csv(tmp_path / "rows.csv", **columns), tmp_path, by="ranks", top=1
    )
    flow = nice_tf.load_flow(tmp_path / "run")
    labels = Workdir(tmp_path / "run").read_config()[1]["labels"]["classes"]
    context = np.eye(2, dtype=np.float32)[[labels.index(kind) for kind in columns["kind"]]]
    x = np.stack([columns[name] for name in COLUMNS], axis=-1).astype(np.float32)
    expected = nice_tf.rank_log_prob(flow, x, context=context).numpy()
    np.testing.assert_allclose(found["rank_log_prob"], expected, rtol=1e-4, atol=1e-4)
    other = nice_tf.rank_log_prob(flow, x, context=context[:, ::-1]).numpy()
    assert np.abs(other - expected).max() > 1e-3
    np.testing.assert_array_equal(
        found["is_anomaly"].to_numpy(), found["rank_tail_probability"].to_numpy() <= 0.01
    )


@pytest.mark.filterwarnings("ignore:column x1 is 0")  # in half of the rows
def test_the_detector_by_ranks(tmp_path):
    columns = table(200)
    x = np.stack([columns[name] for name in COLUMNS], axis=-1)
    detector = NiceOutlierDetector(by="ranks", settings={**TINY, "epochs": 1}, random_state=0)
    detector.fit(x)
    kept = detector.run_
    assert detector.offset_ == below_which(kept.usual_log_probs("ranks"), 0.01)
    scores = detector.score_samples(x)
    np.testing.assert_array_equal(scores, np.float64(kept.model.score(x)["rank_log_prob"]))
    assert np.abs(scores - kept.model.score(x)["log_prob"]).max() > 0.1
    np.testing.assert_array_equal(detector.predict(x), np.where(scores >= detector.offset_, 1, -1))
    detector.save(tmp_path / "saved")
    loaded = NiceOutlierDetector.load(tmp_path / "saved")
    assert loaded.by == loaded.by_ == "ranks" and loaded.offset_ == detector.offset_
    np.testing.assert_array_equal(loaded.score_samples(x), scores)
    # The threshold is of ranks: what is set later is for the next fit.
    np.testing.assert_array_equal(loaded.set_params(by="density").score_samples(x), scores)
    # As an earlier version saved it.
    run = Workdir(tmp_path / "saved")
    as_of_an_earlier_version(run)
    values = json.loads(run.estimator.read_text())
    del values["params"]["by"]
    del values["by"]
    run.estimator.write_text(json.dumps(values))
    earlier = NiceOutlierDetector.load(run.path)
    np.testing.assert_array_equal(
        earlier.score_samples(x), np.float64(kept.model.score(x)["log_prob"])
    )
    assert earlier.by_ == "density"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"by": "rank"}, "by must be one of density, ranks, got 'rank'"),
        ({"by": "ranks", "settings": {"marginals": "none"}}, "needs marginals, but settings has"),
    ],
)
def test_what_the_detector_refuses(changes, message):
    with pytest.raises(nice_tf.UserError, match=message):
        NiceOutlierDetector(**changes).fit(np.random.default_rng(0).normal(size=[20, 2]))
