"""The estimators: scikit-learn's own checks, and the same answers as from files."""

import json
import os
import pickle
import tempfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import ROOT
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks
from test_layout import CONTRACT

import nice_tf
from nice_tf import estimators
from nice_tf.errors import UserError
from nice_tf.estimators import NiceDensity, NiceOutlierDetector
from nice_tf.estimators.frames import Kind
from nice_tf.estimators.outliers import below_which
from nice_tf.runs import finished
from nice_tf.training import run as training

TINY = {"num_couplings": 3, "hidden_units": (8,), "epochs": 2}
# What is traced fastest. In float64, because checks compare rows alone with rows in a batch to 1e-7.
PLAIN = {
    "num_couplings": 3,
    "hidden_units": (4,),
    "epochs": 1,
    "settings": {
        "precision": "float64",
        "marginals": "none",
        "whitening": "standardize",
        "prior": "logistic",
        "prior_components": 8,
        "prior_clusters": 1,
        "ema_decay": 0.0,
    },
}
ROWS = 90
# All of them take 100 s a class; without them the suite has those of the interface.
EXPECTED_TO_FAIL = {
    "check_sample_weight_equivalence_on_dense_data": "a row that is there twice gets noise and a place "
    "in validation of its own each time, one of weight 2 does not"
}
HAS_ALL_CHECKS = "NICE_TF_ALL_CHECKS" in os.environ


def frame(number=ROWS, seed=0):
    """Columns of several types: `k` is constant, every text of `t` another."""
    generator = np.random.default_rng(seed)
    a = generator.normal(3, 2, number)
    return pa.table(
        {
            "a": a,
            "b": pa.array(generator.integers(0, 9, number), pa.int32()),
            "c": pa.array(2 * a + generator.normal(size=number), pa.float32()),
            "f": pa.array(generator.uniform(size=number) < 0.3),
            "s": pa.array(np.where(a > 3, "large", "small")).dictionary_encode(),
            "d": pa.array(generator.integers(0, 30, number).astype("datetime64[D]")),
            "k": np.full(number, 7),
            "t": [f"row {k}" for k in range(number)],
        }
    )


def changed(name, values):
    table = frame()
    return table.set_column(table.column_names.index(name), name, pa.array(values))


@pytest.fixture(scope="module")
def fitted():
    with pytest.warns(UserWarning, match="column t has "):
        return NiceDensity(random_state=3, **TINY).fit(frame())


def values(number=ROWS, seed=0):
    generator = np.random.default_rng(seed)
    return generator.normal(size=[number, 2]) @ [[1.0, 0.5], [0.0, 1.0]]


def test_names_stay():
    assert estimators.__all__ == CONTRACT["estimators"]


@pytest.mark.filterwarnings("ignore")  # of scikit-learn's data, which repeat rows
@parametrize_with_checks(
    [NiceDensity(**PLAIN), NiceOutlierDetector(**PLAIN)],
    legacy=HAS_ALL_CHECKS,
    expected_failed_checks=lambda estimator: EXPECTED_TO_FAIL,
)
def test_checks_of_scikit_learn(estimator, check):
    check(estimator)


def test_numbers_are_those_of_train(fitted, run_here, tmp_path):
    pq.write_table(frame(), tmp_path / "table.parquet")
    arguments = [
        f"--flagfile={ROOT / 'configs' / 'table.flags'}",
        "--dataset=table.parquet",
        "--workdir=run",
        "--test_rows=validation",
        "--seed=3",
        "--split_seed=3",
        "--num_couplings=3",
        "--hidden_units=8",
        "--epochs=2",
    ]
    finished = run_here(ROOT / "train.py", *arguments, cwd=tmp_path)
    assert finished.returncode == 0, finished.stderr
    evaluation = json.loads((tmp_path / "run" / "evaluation.json").read_text())
    assert evaluation["split"] == "validation" and evaluation["num_examples"] == ROWS // 6
    assert evaluation["epoch"] == fitted.best_epoch_
    nice_tf.score_file(tmp_path / "run", tmp_path / "table.parquet", tmp_path / "scores.parquet")
    scores = pq.read_table(tmp_path / "scores.parquet")["log_prob"].to_numpy()
    np.testing.assert_array_equal(fitted.score_samples(frame()), scores)
    metrics = (tmp_path / "run" / "metrics.csv").read_text().splitlines()
    place = metrics[0].split(",").index("val_log_prob")
    assert [float(row.split(",")[place]) for row in metrics[1:]] == fitted.history_["val_log_prob"]


def test_all_rows_are_train_or_validation(fitted):
    description = fitted.run_.model.description
    assert description["num_train"] + description["num_validation"] == ROWS


def test_the_same_answers_from_a_folder_a_pickle_and_an_export(fitted, tmp_path):
    fitted.save(tmp_path / "saved")
    again = NiceDensity.load(tmp_path / "saved")
    assert again.get_params() == fitted.get_params()
    assert list(again.feature_names_in_) == list("abcfsdkt") and again.n_features_in_ == 8
    expected = fitted.score_samples(frame(seed=1))
    for other in (again, pickle.loads(pickle.dumps(fitted))):
        np.testing.assert_array_equal(other.score_samples(frame(seed=1)), expected)
        assert other.sample(5, random_state=0).equals(fitted.sample(5, random_state=0))
    version = fitted.export(tmp_path / "export")
    pq.write_table(frame(seed=1), tmp_path / "new.parquet")
    nice_tf.score_file(version, tmp_path / "new.parquet", tmp_path / "scores.parquet")
    scores = pq.read_table(tmp_path / "scores.parquet")["log_prob"].to_numpy()
    np.testing.assert_allclose(scores, expected, rtol=1e-5)
    with pytest.raises(UserError, match="is there already"):
        fitted.save(tmp_path / "saved")
    with pytest.raises(UserError, match="holds a NiceDensity, not a NiceOutlierDetector"):
        NiceOutlierDetector.load(tmp_path / "saved")
    (tmp_path / "saved" / "estimator.json").write_text('{"class": "NiceDensity"}')
    with pytest.raises(UserError, match="damaged"):
        NiceDensity.load(tmp_path / "saved")
    with pytest.raises(UserError, match="holds no estimator that was saved"):
        NiceDensity.load(tmp_path)


@pytest.mark.parametrize("ask", [finished.load_finished_run, training.finish_stopped])
def test_what_needs_the_data_says_that_a_saved_estimator_has_none(fitted, tmp_path, ask):
    fitted.save(tmp_path / "saved")
    with pytest.raises(UserError, match=r"saved was saved by an estimator: .* write the data to a"):
        ask(tmp_path / "saved")


@pytest.mark.slow
def test_files_tell_of_x_and_not_of_the_temporary_folder(fitted, tmp_path):
    fitted.save(tmp_path / "saved")
    fitted.export(tmp_path / "export")
    content = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert len(content) > 10
    for path, text in content.items():
        assert b"/nice_tf-" not in text and b"X.parquet" not in text, path
    (card,) = tmp_path.rglob("MODEL_CARD.md")
    assert "# Model card: NICE on X\n" in card.read_text()
    assert "| dataset | X |" in card.read_text() and "| data_dir |  |" in card.read_text()


def test_warnings_are_of_the_line_that_called():
    detector = NiceOutlierDetector(random_state=3, **PLAIN)
    for ask in (detector.fit, detector.fit_predict, NiceDensity(**PLAIN).fit_transform):
        with pytest.warns(UserWarning, match="column t has ") as said:
            ask(frame())
        assert {warning.filename for warning in said} == {__file__}


def test_samples_are_as_x_was(fitted):
    rows = fitted.sample(40, random_state=1)
    assert rows.schema.equals(frame().schema)
    assert rows["k"].to_pylist() == [7] * 40 and rows["t"].null_count == 40
    assert np.isin(rows["b"].to_numpy(), np.arange(9)).all()
    assert len(set(rows["f"].to_pylist())) == 2
    assert set(rows["s"].to_pylist()) == {"large", "small"}
    assert not rows.equals(fitted.sample(40, random_state=2))
    assert fitted.sample(3).equals(fitted.sample(3))  # of the estimator's own random_state
    assert np.isfinite(fitted.score_samples(rows)).all()


def test_codes_and_back(fitted):
    codes = fitted.transform(frame())
    assert codes.shape == (ROWS, 6) and codes.dtype == np.float64
    rows = fitted.inverse_transform(codes)
    for name in ("b", "f", "s", "d", "k"):
        assert rows[name].equals(frame()[name])
    np.testing.assert_allclose(rows["a"].to_numpy(), frame()["a"].to_numpy(), rtol=1e-3, atol=1e-3)
    assert list(fitted.get_feature_names_out()) == [f"nicedensity{k}" for k in range(6)]
    with pytest.raises(ValueError, match="X has 3 features, the latent codes have 6"):
        fitted.inverse_transform(codes[:, :3])


def test_rows_off_a_constant():
    table = changed("k", [8] + [7] * (ROWS - 1)).drop_columns(["t"])
    detector = NiceOutlierDetector(random_state=3, **PLAIN).fit(frame().drop_columns(["t"]))
    message = r"or other values where a column was constant: k \(8 in row 0\), rows counted from 0"
    with pytest.warns(UserWarning, match=message):
        assert detector.decision_function(table)[0] == -np.inf
        assert detector.predict(table)[0] == -1
        assert np.isfinite(detector.score_samples(table)[1:]).all()
    with pytest.warns(
        UserWarning, match="X differs from fit in columns that were constant there: k "
    ):
        log_probs = detector._scores(table).log_probs
        scores = NiceDensity.score_samples(detector, table)
    np.testing.assert_array_equal(scores, log_probs)


def test_thresholds():
    x = np.concatenate([values(200), [[30.0, -30.0]]])
    detector = NiceOutlierDetector(random_state=0, contamination=0.1, **PLAIN)
    found = detector.fit_predict(x)
    assert np.sum(found == -1) == 20 and found[-1] == -1
    assert np.array_equal(found == -1, detector.decision_function(x) < 0)
    detector.set_params(contamination="auto").fit(x[:200])
    usual = detector.run_.usual_log_probs()
    assert detector.offset_ == below_which(usual, 0.01) and detector.predict(x)[-1] == -1
    again = pickle.loads(pickle.dumps(detector))
    assert np.array_equal(again.predict(x), detector.predict(x))
    for wrong in (0, 0.6, "all", float("nan")):
        with pytest.raises(UserError, match="contamination must be"):
            detector.set_params(contamination=wrong).fit(x)


@pytest.mark.parametrize("number", [120, 278])
def test_a_hundredth_of_new_values_lies_below_the_threshold(number):
    """On average over samples of few values, where quantiles of NumPy's default have 1.4 to 1.8 %."""
    samples = np.random.default_rng(number).uniform(size=[4000, number])
    shares = [below_which(sample, 0.01) for sample in samples]
    assert abs(np.mean(shares) - 0.01) < 5e-4
    assert np.mean(np.quantile(samples, 0.01, axis=1)) > 0.0125
    assert below_which(samples[0, :30], 0.01) == np.min(samples[0, :30])


def test_pipelines_and_cross_validation():
    x = values()
    pipeline = make_pipeline(StandardScaler(), NiceDensity(random_state=0, **PLAIN))
    scores = cross_val_score(pipeline, x, cv=2)
    assert scores.shape == (2,) and np.isfinite(scores).all()
    density = clone(pipeline).fit(x[:45]).steps[-1][1]
    z = StandardScaler().fit(x[:45]).transform(x[45:])
    np.testing.assert_allclose(density.score(z), np.mean(density.score_samples(z)), rtol=1e-12)


def test_nothing_is_written_or_printed(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    settings = {**PLAIN["settings"], "in_memory_mb": 0}
    density = NiceDensity(random_state=0, **{**PLAIN, "settings": settings}).fit(values())
    density.score_samples(values())
    density.sample(2)
    with pytest.raises(ValueError):
        density.fit([["text", "more"]] * 9)
    names = [path.name for path in tmp_path.iterdir()]
    assert not [name for name in names if "autograph" not in name]  # TensorFlow's, until it ends
    assert capfd.readouterr() == ("", "")
    density.set_params(verbose=2).fit(values())
    assert "val_log_prob" in capfd.readouterr().out


def test_random_state_is_the_seed():
    x = values()
    scores = []
    for random_state in (0, 0, np.random.RandomState(0), 1):
        density = NiceDensity(random_state=random_state, **PLAIN).fit(x)
        scores.append(density.score(x))
    assert scores[0] == scores[1] and len(set(scores)) == 3


@pytest.mark.parametrize(
    ("X", "message"),
    [
        (frame().rename_columns(list("abcfsdkq")), "unseen at fit time:\n- q\n"),
        (frame().select(list("acbfsdkt")), "must be in the same order"),
        (changed("a", ["text"] * ROWS), "column a of X has 'text' in row 0"),
        (frame().slice(0, 0), "X has 0 rows"),
        (changed("a", [None] + [1.0] * (ROWS - 1)), "column a has a missing value in row 0"),
        (changed("a", [1.0, np.inf] + [1.0] * (ROWS - 2)), "column a of X has inf in row 1"),
        (
            pa.Table.from_arrays([pa.array([1.0]), pa.array([1.0])], names=["a", "a"]),
            "X has columns of one name: a is there more than once",
        ),
        (np.zeros([2, 5]), "X has 5 features, but NiceDensity is expecting 8"),
    ],
)
@pytest.mark.filterwarnings("ignore:X does not have valid feature names")
def test_bad_rows_to_score(fitted, X, message):
    with pytest.raises(ValueError, match=message):
        fitted.score_samples(X)


def test_further_columns_of_a_frame_are_ignored_with_a_word(fitted, tmp_path):
    """As commands do it with the same file; a saved estimator, too."""
    X = frame(8, seed=2)
    expected = fitted.score_samples(X)
    fitted.save(tmp_path / "saved")
    more = X.add_column(0, "new", pa.array(["x"] * 8)).append_column("other", pa.array([1.0] * 8))
    message = "X has columns that the model does not know, which are ignored: new, other"
    for density in (fitted, NiceDensity.load(tmp_path / "saved")):
        with pytest.warns(UserWarning, match=message):
            np.testing.assert_array_equal(density.score_samples(more), expected)
    pq.write_table(more, tmp_path / "more.parquet")
    said = nice_tf.score_file(
        tmp_path / "saved", tmp_path / "more.parquet", tmp_path / "s.parquet", top=0
    )
    assert "more.parquet has columns that the model does not know, which are ignored: new, " in said
    found = pq.read_table(tmp_path / "s.parquet")["log_prob"].to_numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_a_further_column_of_mixed_objects_is_ignored_too():
    """Arrow has no type for it: it is left out before the frame is made into a table."""
    pandas = pytest.importorskip("pandas")
    X = pandas.DataFrame(values()[:, :2], columns=["a", "b"])
    density = NiceDensity(random_state=0, **PLAIN).fit(X)
    more = X.assign(note=["x", 3] * (len(X) // 2))
    with pytest.warns(UserWarning, match="which are ignored: note"):
        found = density.score_samples(more)
    np.testing.assert_array_equal(found, density.score_samples(X))


def test_divergence_of_an_estimator_speaks_of_no_checkpoints():
    """None are kept, and there is no workdir to take another one of."""
    settings = {**PLAIN["settings"], "learning_rate": 1e30}
    density = NiceDensity(random_state=0, **{**PLAIN, "epochs": 3, "settings": settings})
    with pytest.raises(ValueError, match=r"log-likelihood became .* at step ") as refused:
        density.fit(values())
    message = str(refused.value)
    assert message.endswith("gradient_clip_norm")
    assert "checkpoint" not in message and "workdir" not in message


def test_what_is_said_is_of_x_and_of_parameters():
    """Not of commands, or of a test part that an estimator has not."""
    x = values()
    numbered = np.concatenate([x, np.arange(ROWS)[:, np.newaxis]], axis=1)
    numbered[3, 0] = np.nan
    table = pa.table(dict(zip("abc", numbered.T, strict=True)))
    with pytest.raises(ValueError, match="from 0: impute=True fills each with") as refused:
        NiceDensity(random_state=0, **PLAIN).fit(table)
    assert "--" not in str(refused.value)
    with pytest.warns(UserWarning) as caught:
        density = NiceDensity(random_state=0, impute=True, **PLAIN).fit(table)
    said = [str(warning.message) for warning in caught]
    (of_gaps,) = [line for line in said if "missing" in line]
    assert "of their column, validation included: a (1, the first in row 3)" in of_gaps
    (named,) = [line for line in said if "identifiers" in line]
    assert named.startswith("column c has") and named.endswith("leave it out of X")
    density.impute = False
    for ask in (density.score_samples, density.transform):
        with pytest.raises(ValueError, match=r"row 3 .*: impute=True fills missing values first"):
            ask(table)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"validation_fraction": 1.0}, "validation_fraction must be above 0 and below 1, got 1.0"),
        ({"epochs": 0}, "epochs must be at least 1, got 0"),
        ({"settings": {"seed": 1}}, "settings cannot have seed"),
        ({"settings": {"speed": 1}}, "settings has speed, which is no setting"),
        ({"random_state": "x"}, "cannot be used to seed"),
    ],
)
def test_bad_parameters(changes, message):
    with pytest.raises(ValueError, match=message):
        NiceDensity(**changes).fit(values())


@pytest.mark.parametrize(
    ("X", "message"),
    [
        (frame(5), "X has 5 rows .* at least 6"),
        (changed("a", [*range(ROWS - 1), None]), "X has missing values in a \\(1, the first in"),
        (changed("a", [np.inf] * ROWS), "column a has inf in row 0"),
        (frame().select(["a", "k"]), "NICE needs examples of at least 2 values"),
        (frame().select(["k", "t"]), "the columns k have the same value"),
        (frame().select(["t"]), "X has no column that can be taken: t has another text"),
        (np.full([20, 2], np.nan), "Input X contains NaN"),
    ],
)
def test_bad_rows_to_fit(X, message):
    with pytest.raises(ValueError, match=message):
        NiceDensity(**PLAIN).fit(X)


def test_before_fit_and_after_a_second_one():
    density = NiceDensity(random_state=0, **PLAIN)
    for ask in (density.score_samples, density.transform, density.score):
        with pytest.raises(NotFittedError):
            ask(values())
    for ask in (density.sample, lambda: density.save("no"), lambda: density.export("no")):
        with pytest.raises(NotFittedError):
            ask()
    first = density.fit(values()).score(values())
    density.fit(np.concatenate([values(), values(seed=1)], axis=1))
    assert density.n_features_in_ == 4
    assert density.fit(values()).score(values()) == first


def test_gaps_are_filled_where_asked():
    x = values()
    x[[3, 50], [0, 1]] = np.nan
    with pytest.warns(UserWarning, match="missing values were filled .* x0 .* x1"):
        density = NiceDensity(random_state=0, impute=True, **PLAIN).fit(x)
    assert np.isfinite(density.score_samples(x)).all()
    assert np.isfinite(density.transform(x)).all()
    assert np.isfinite(density.sample(5)).all()
    seen = ~np.isnan(x).any(axis=1)
    np.testing.assert_allclose(density.score_samples(x[seen]), density.score_samples(x)[seen])


def test_weights():
    """Of two lumps the first counts nine times as much."""
    generator = np.random.default_rng(0)
    x = np.concatenate([generator.normal(0, 1, [300, 2]), generator.normal(8, 1, [300, 2])])
    weights = np.repeat([0.9, 0.1], 300)
    settings = {"precision": "float64"}
    both = NiceDensity(random_state=0, epochs=20, hidden_units=(16,), settings=settings)
    rows = both.fit(x, sample_weight=weights).sample(400)
    assert np.mean(rows[:, 0] < 4) > 0.65  # half without weights


def test_equal_weights_are_none():
    x = values()
    density = NiceDensity(random_state=0, **PLAIN)
    scores = [density.fit(x, sample_weight=w).score(x) for w in (None, np.full(ROWS, 3))]
    assert scores[0] == scores[1]


def test_rows_of_weight_0_are_not_there():
    x = np.concatenate([values(), values() + 1000])
    weights = np.repeat([1, 0], ROWS)
    settings = {"num_couplings": 3, "hidden_units": (4,), "epochs": 1, "random_state": 0}
    density = NiceDensity(**settings).fit(x, sample_weight=weights)
    assert np.mean(density.score_samples(values())) > np.mean(density.score_samples(x[ROWS:])) + 10


@pytest.mark.parametrize(
    ("sample_weight", "message"),
    [
        (np.ones(3), r"sample_weight must be one for each of the 90 examples, got shape \[3\]"),
        (
            np.full(ROWS, -1.0),
            "sample_weight must be finite and at least 0, got -1.0 for example 0",
        ),
        (np.full(ROWS, np.nan), "sample_weight must be finite and at least 0, got nan"),
        (np.zeros(ROWS), "sample_weight must not all be zero"),
        (["a"] * ROWS, "sample_weight must be numbers"),
        ([1.0] + [0.0] * (ROWS - 1), "sample_weight are 0 for all .* examples"),
    ],
)
def test_bad_weights(sample_weight, message):
    with pytest.raises(UserError, match=message):
        NiceDensity(random_state=0, **PLAIN).fit(values(), sample_weight=sample_weight)


def test_frames_of_pandas(fitted):
    pandas = pytest.importorskip("pandas")
    data = frame().to_pandas().astype({"b": "Int64"})
    with pytest.warns(UserWarning, match="column t has "):
        density = NiceDensity(random_state=3, **TINY).fit(data)
    np.testing.assert_array_equal(density.score_samples(data), fitted.score_samples(frame()))
    rows = density.sample(4)
    assert isinstance(rows, pandas.DataFrame)
    assert rows.dtypes.astype(str).to_dict() == data.dtypes.astype(str).to_dict()
    assert density.inverse_transform(density.transform(data))["b"].equals(data["b"])
    with pytest.raises(UserError, match=r"column a of X has 'text' in row 1 .*, text, and"):
        density.score_samples(data.assign(a=[1, "text"] * (ROWS // 2)))
    with pytest.raises(UserError, match="a is there more than once"):
        density.fit(pandas.concat([data, data[["a"]]], axis=1))
    unnamed = NiceDensity(random_state=0, **PLAIN).fit(pandas.DataFrame(values()))
    assert not hasattr(unnamed, "feature_names_in_")
    assert unnamed.score_samples(values()).shape == (ROWS,)


def test_arrays_keep_their_type():
    x = np.stack([values()[:, 0], np.arange(ROWS) % 7], axis=-1).astype(np.float32)
    density = NiceDensity(random_state=0, **PLAIN).fit(x)
    rows = density.sample(6)
    assert rows.dtype == np.float32 and rows.shape == (6, 2)
    assert set(rows[:, 1]) <= set(range(7))
    whole = NiceDensity(random_state=0, **PLAIN).fit((1000 * x).astype(np.int16))
    assert whole.sample(6).dtype == np.int16


def test_a_draw_behind_the_last_value_of_a_type_does_not_wrap_round():
    kind = Kind("arrow", pa.schema([("n", pa.uint8())]))
    found = kind.restored({"n": np.array([-1, 256, 7])}, 3)
    assert found["n"].to_pylist() == [0, 255, 7] and found["n"].type == pa.uint8()


def test_new_categories_are_named_and_outliers(fitted):
    new = changed("s", ["huge"] + ["small"] * (ROWS - 1))
    with pytest.warns(UserWarning, match=r"that fit had not: s \('huge' in row 0\), rows "):
        assert np.isfinite(fitted.score_samples(new)).all()
