"""A table of thirteen columns of all kinds, from file to file through every door, with the same answers."""

import itertools
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

import nice_tf
from nice_tf.data.schema import Schema
from nice_tf.estimators import NiceDensity
from nice_tf.reports import page
from nice_tf.runs import finished
from nice_tf.runs.workdir import Workdir
from nice_tf.scoring import output
from nice_tf.scoring.model import Model

NUMBER = 400
SETTINGS = {
    "num_couplings": 3,
    "hidden_units": (12,),
    "epochs": 2,
    "batch_size": 50,
    "num_draws": 1,
    "precision": "float32",
}


def rows(number=NUMBER, seed=0, *, has_gaps=True):
    """Text, dates, times, booleans, missing values and zeros."""
    generator = np.random.default_rng(seed)
    size = generator.gamma(2.0, 3.0, number)
    region = generator.choice(["West", "East", "South"], number, p=[0.5, 0.3, 0.2])
    gaps = generator.random(number) < 0.1
    if not has_gaps:
        gaps[:] = False
    days = generator.integers(17_000, 17_400, number)
    seconds = days * 86_400 + 60 * generator.integers(0, 1440, number)
    return pa.table(
        {
            "size": size,
            "weight": pa.array(np.round(2 * size + generator.normal(size=number), 1), mask=gaps),
            "rain": np.where(generator.random(number) < 0.4, 0.0, np.round(size, 2)),
            "count": generator.poisson(3, number),
            "region": pa.array(region),
            "product": pa.array(generator.choice([f"p{k}" for k in range(9)], number)),
            "grade": pa.array(generator.choice(list("ABC"), number), mask=gaps).dictionary_encode(),
            "is_paid": pa.array(generator.random(number) < 0.7),
            "is_new": pa.array(generator.random(number) < 0.2, mask=gaps),
            "day": pa.array(days.astype("datetime64[D]")),
            "at": pa.array(seconds.astype("datetime64[s]")),
            "score": generator.normal(size=number),
            "stars": pa.array(generator.integers(1, 6, number), pa.int8()),
        }
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The table as Parquet and CSV, and a finished run on the Parquet file."""
    path = tmp_path_factory.mktemp("mixed")
    pq.write_table(rows(), path / "rows.parquet")
    pa.csv.write_csv(rows(), path / "rows.csv")
    pq.write_table(rows(60, seed=1, has_gaps=False), path / "new.parquet")
    pa.csv.write_csv(rows(60, seed=1, has_gaps=False), path / "new.csv")
    pq.write_table(rows(60, seed=1), path / "gaps.parquet")
    nice_tf.train_and_evaluate(settings(path / "rows.parquet"), path / "run")
    return path


def settings(path, **changes):
    return nice_tf.read_flagfile(
        "configs/table.flags", dataset=str(path), impute=True, **{**SETTINGS, **changes}
    )


def test_all_columns_are_coordinates(folder):
    schema = Model.load(folder / "run").schema
    assert schema.names == rows().column_names and not schema.ignored
    kinds = [column.encoding.kind for column in schema.columns]
    assert kinds.count("number") == 6 and kinds.count("category") == 3
    assert kinds.count("boolean") == 2 and kinds.count("date") == 2


def test_csv_gives_the_same_columns(folder, tmp_path):
    """But for the types in which they come back."""
    found = nice_tf.data.dataset.load(settings(folder / "rows.csv"))
    of_parquet = Model.load(folder / "run").schema
    for column, other in zip(found.schema.columns, of_parquet.columns, strict=True):
        assert (column.name, column.step, column.low, column.high) == (
            other.name,
            other.step,
            other.low,
            other.high,
        )
        assert column.categories == other.categories
        assert column.encoding.kind == other.encoding.kind


def scores(model, source, output):
    nice_tf.score_file(model, source, output, top=0)
    return pq.read_table(output)["log_prob"].to_numpy()


def test_run_export_csv_and_parquet_score_alike(folder, tmp_path):
    version = nice_tf.export_saved_model(folder / "run", tmp_path / "export")
    expected = scores(folder / "run", folder / "new.parquet", tmp_path / "a.parquet")
    assert np.isfinite(expected).all() and expected.std() > 0.5
    from_csv = scores(folder / "run", folder / "new.csv", tmp_path / "b.parquet")
    np.testing.assert_allclose(from_csv, expected, rtol=1e-5, atol=1e-4)
    from_export = scores(version, folder / "new.parquet", tmp_path / "c.parquet")
    np.testing.assert_allclose(from_export, expected, rtol=1e-5, atol=1e-4)


@pytest.mark.filterwarnings("ignore::UserWarning")  # zeros, fine times, filled values
def test_an_estimator_scores_a_frame_as_the_run_on_its_file(folder, tmp_path):
    """Both with the split of the estimator: `--test_rows=validation`."""
    density = NiceDensity(
        random_state=0,
        impute=True,
        num_couplings=3,
        hidden_units=(12,),
        epochs=2,
        settings={"batch_size": 50, "num_draws": 1, "precision": "float32"},
    ).fit(rows())
    config = settings(folder / "rows.parquet", test_rows="validation", seed=0, split_seed=0)
    nice_tf.train_and_evaluate(config, tmp_path / "run")
    new = pq.read_table(folder / "new.parquet")
    found = scores(tmp_path / "run", folder / "new.parquet", tmp_path / "scores.parquet")
    np.testing.assert_array_equal(density.score_samples(new), found)
    drawn = density.sample(200, random_state=1)
    check_zeros(drawn["rain"].to_numpy(), np.mean(rows()["rain"].to_numpy() == 0), 0.15)
    drawn = density.sample(4000, random_state=2)
    for name in ("count", "stars"):
        seen = rows()[name].to_numpy()
        assert seen.min() <= pc.min(drawn[name]).as_py()
        assert seen.max() >= pc.max(drawn[name]).as_py()
    assert drawn.schema.equals(rows().schema)
    assert set(drawn["region"].to_pylist()) <= {"West", "East", "South"}


def test_samples_and_draws_have_the_types_of_the_file(folder, tmp_path):
    nice_tf.sample_file(folder / "run", tmp_path / "samples.parquet", num_samples=50)
    drawn = pq.read_table(tmp_path / "samples.parquet")
    schema = Model.load(folder / "run").schema
    assert isinstance(schema, Schema) and drawn.column_names == schema.names
    assert set(drawn["grade"].to_pylist()) <= set("ABC")
    assert drawn["day"].type == pa.date32()
    said = nice_tf.fill_file(
        folder / "run", folder / "gaps.parquet", tmp_path / "draws.parquet", num_draws=3
    )
    filled = pq.read_table(tmp_path / "draws.parquet")
    gaps = pq.read_table(folder / "gaps.parquet")
    assert gaps["grade"].null_count > 0 and "acceptance" in said
    assert len(filled) == 180
    for name in gaps.column_names:
        assert filled[name].null_count == 0 and filled[name].type == gaps[name].type
        is_seen = gaps[name].is_valid().to_numpy()
        before = gaps[name].to_pylist()
        after = filled[name].to_pylist()[::3]
        for seen, old, new in zip(is_seen, before, after, strict=True):
            assert not seen or old == new


def test_times_in_seconds_are_written_without_fractions(tmp_path):
    """Though Parquet, in which parts lie, has them in milliseconds."""
    table = pa.table(
        {
            "at": pa.array([0, 86_399], pa.timestamp("s")),
            "zoned": pa.array([0, 1], pa.timestamp("s", "UTC")),
            "time": pa.array([0, 61], pa.time32("s")),
            "fine": pa.array([0, 1_500], pa.timestamp("ms")),
        }
    )
    output.write(tmp_path / "a.csv", lambda first: [table], settings={})
    assert (tmp_path / "a.csv").read_text().splitlines()[2] == (
        "1970-01-01 23:59:59,1970-01-01 00:00:01Z,00:01:01,1970-01-01 00:00:01.500"
    )


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_spellings_of_true_and_false_are_named(folder, tmp_path, kind):
    new = pq.read_table(folder / "new.parquet")
    place = new.column_names.index("is_paid")
    words = pa.array(np.where(np.arange(len(new)) % 2, "yes", "no"))
    path = tmp_path / f"words.{kind}"
    if kind == "csv":
        pa.csv.write_csv(new.set_column(place, "is_paid", words), path)
    else:
        pq.write_table(new.set_column(place, "is_paid", words), path)
    message = r"is_paid .* has 'no' in row 0 .* true or false in any letters, or 1 or 0, are needed"
    with pytest.raises(nice_tf.UserError, match=message):
        nice_tf.score_file(folder / "run", path, tmp_path / "scores.csv")


def check_zeros(values, share, tolerance):
    """As many zeros as there should be, and no value that is nearly one."""
    assert abs(np.mean(values == 0) - share) <= tolerance
    assert not np.any((values < 0) | ((values > 0) & (values < 1e-3)))


def zeros_of_train(folder):
    data = nice_tf.data.dataset.load(settings(folder / "rows.parquet"))
    place = data.schema.names.index("rain")
    assert data.schema.columns[place].spikes == (0.0,)
    return np.mean(data.train[:, place] == 0)


def test_zeros_come_back_as_zeros(folder, tmp_path):
    """In samples, given rows, filled cells and draws."""
    share = zeros_of_train(folder)
    nice_tf.sample_file(folder / "run", tmp_path / "samples.parquet", num_samples=4000)
    check_zeros(pq.read_table(tmp_path / "samples.parquet")["rain"].to_numpy(), share, 0.07)
    left = pa.csv.read_csv(folder / "run" / "samples.csv")["rain"].to_numpy()
    check_zeros(left, share, 0.15)
    nice_tf.sample_file(
        folder / "run", tmp_path / "given.parquet", num_samples=200, given={"region": "West"}
    )
    check_zeros(pq.read_table(tmp_path / "given.parquet")["rain"].to_numpy(), share, 0.15)
    new = pq.read_table(folder / "new.parquet")
    gaps = new.set_column(2, "rain", pa.nulls(len(new), pa.float64()))
    pq.write_table(gaps, tmp_path / "gaps.parquet")
    nice_tf.fill_file(
        folder / "run", tmp_path / "gaps.parquet", tmp_path / "draws.parquet", num_draws=5
    )
    check_zeros(pq.read_table(tmp_path / "draws.parquet")["rain"].to_numpy(), share, 0.15)


def test_what_is_given_beside_a_spike_stays(folder, tmp_path):
    given = {"rain": "0.0005"}
    nice_tf.sample_file(folder / "run", tmp_path / "a.parquet", num_samples=4, given=given)
    drawn = pq.read_table(tmp_path / "a.parquet")["rain"].to_numpy()
    np.testing.assert_array_equal(drawn, np.float32([0.0005] * 4))


def test_a_run_of_an_earlier_version_has_no_spikes_and_goes_on(folder, tmp_path):
    shutil.copytree(folder / "run", tmp_path / "run")
    run = Workdir(tmp_path / "run")
    config, data = run.read_config()
    for column in data["schema"]["columns"]:
        column.pop("spikes", None)
        column.pop("spike_width", None)
    del data["schema"]["spread"]
    run._write_config(config, {}, data)
    assert Model.load(run.path).schema.columns[2].spikes == ()
    assert finished.load_finished_run(run.path).data.schema.columns[2].spikes == ()
    nice_tf.train_and_evaluate(config, run.path)
    assert Model.load(run.path).schema.columns[2].spikes == ()
    run.config.unlink()  # the checksum alone tells whose it is
    nice_tf.train_and_evaluate(config, run.path)
    assert Model.load(run.path).schema.columns[2].spikes == ()
    assert run.read_config()[1] == data


def brute_force(model, rows, places):
    """The highest log-likelihood over all values of some columns."""
    columns = [model.schema.columns[place] for place in places]
    ranges = [np.arange(column.low, column.high + 1) for column in columns]
    best = np.full(len(rows), -np.inf)
    for values in itertools.product(*ranges):
        changed = rows.copy()
        changed[:, places] = values
        best = np.maximum(best, model.score(changed)["log_prob"])
    return best


@pytest.mark.parametrize(
    ("tried", "others", "missed"),
    [
        (["product"], [], 0.0),
        (["product", "is_new", "grade"], [], 0.1),
        (["grade", "stars"], ["size", "score"], 0.1),
    ],
)
def test_a_missing_category_is_the_best_of_all(folder, tried, others, missed):
    """Given what the others were filled with. Ascent alone, between the numbers of categories,
    misses it in many rows.
    """
    model = Model.load(folder / "run")
    data = nice_tf.data.dataset.load(settings(folder / "rows.parquet"))
    names = data.schema.names
    places = [names.index(name) for name in tried]
    x = data.test[:60].astype(np.float32)
    gaps = x.copy()
    gaps[:, [names.index(name) for name in tried + others]] = np.nan
    observed = ~np.isnan(gaps)
    seeds = np.zeros([60, 2], np.int32)
    climbed = model._climbed(np.where(observed, x, 0), observed, seeds, {})
    shares = []
    for filled in (model.fill(gaps), climbed):
        np.testing.assert_array_equal(filled[observed], x[observed])
        best = brute_force(model, filled, places)
        shares.append(np.mean(model.score(filled)["log_prob"] < best - 0.01))
    assert shares[0] <= missed
    assert shares[1] > missed + 0.2
    np.testing.assert_allclose(model.fill(gaps[30:]), model.fill(gaps)[30:], atol=1e-3)


def test_the_report_names_every_column(folder, tmp_path):
    path = page.write_report(
        finished.load_finished_run(folder / "run"), folder / "run", tmp_path / "report.html"
    )
    text = path.read_text()
    for name in rows().column_names:
        assert f"<td>{name}</td>" in text
    assert "<td>category</td>" in text and "<td>date</td>" in text
