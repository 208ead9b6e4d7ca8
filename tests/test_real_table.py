"""A real table of thirteen columns, the way of its owner: file and frame, training, report, scores, draws,
samples and export, with the same answers from each.
"""

import csv
import gzip
import importlib.util
import pathlib

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

import nice_tf
from nice_tf.data import dataset
from nice_tf.estimators import NiceDensity
from nice_tf.reports import page
from nice_tf.runs import finished
from nice_tf.scoring.model import Model

pandas = pytest.importorskip("pandas", reason="the test takes a data frame: pip install pandas")
if importlib.util.find_spec("bokeh_sampledata") is None:
    pytest.skip("the table is in bokeh_sampledata: pip install it", allow_module_level=True)

NUMBER = 600
LEFT_OUT = "City"
CONSTANT = "Country"
SMALL = {"num_couplings": 3, "hidden_units": (8,), "epochs": 2}
# What is traced fastest; test_mixed_table.py has all that table.flags has.
SETTINGS = {
    "batch_size": 60,
    "num_draws": 1,
    "precision": "float32",
    "marginals": "none",
    "whitening": "standardize",
    "prior": "logistic",
    "prior_components": 8,
    "prior_clusters": 1,
    "ema_decay": 0.0,
}


def table():
    """Sales of a shop, 700 rows: text, a column of one value, a code, money, zeros."""
    package = importlib.util.find_spec("bokeh_sampledata").submodule_search_locations[0]
    with gzip.open(pathlib.Path(package) / "_data" / "SampleSuperstore.csv.gz") as file:
        return pa.csv.read_csv(file).slice(0, 700)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Rows of training and new ones, as CSV and Parquet, and a finished run on the CSV file."""
    path = tmp_path_factory.mktemp("superstore")
    for name, rows in (("rows", table().slice(0, NUMBER)), ("new", table().slice(NUMBER))):
        pa.csv.write_csv(rows, path / f"{name}.csv")
        pq.write_table(rows, path / f"{name}.parquet")
    config = settings(path / "rows.csv")
    nice_tf.train_and_evaluate(config, path / "run")
    return path


def settings(path):
    """Those of an estimator with `random_state=0`."""
    return nice_tf.read_flagfile(
        "configs/table.flags", dataset=str(path), test_rows="validation", **SMALL, **SETTINGS
    )


def spelled(value):
    """As Arrow writes it in CSV."""
    return pa.array([value]).cast(pa.string())[0].as_py()


def scores(model, source, output):
    nice_tf.score_file(model, source, output, top=0)
    return pq.read_table(output)


def test_every_column_has_its_kind_from_csv_and_parquet(folder):
    schema = Model.load(folder / "run").schema
    kinds = {column.name: column.encoding.kind for column in schema.columns}
    categories = ["Ship Mode", "Segment", "State", "Region", "Category", "Sub-Category"]
    assert [name for name in kinds if kinds[name] == "category"] == categories
    numbers = ["Postal Code", "Sales", "Quantity", "Discount", "Profit"]
    assert [name for name in kinds if kinds[name] == "number"] == numbers
    assert schema.ignored == (LEFT_OUT,) and list(schema.constants) == [CONSTANT]
    of_csv = dataset.load(settings(folder / "rows.csv"))
    of_parquet = dataset.load(settings(folder / "rows.parquet"))
    np.testing.assert_array_equal(of_parquet.train, of_csv.train)


def test_scores_are_the_same_from_every_door(folder, tmp_path, monkeypatch):
    density = NiceDensity(random_state=0, settings=SETTINGS, **SMALL)
    frame = pandas.read_csv(folder / "rows.csv")
    with pytest.warns(UserWarning, match="City"):
        density.fit(frame)
    expected = density.score_samples(pandas.read_csv(folder / "new.csv"))
    assert np.isfinite(expected).all() and expected.std() > 0.5
    for name in ("write_warmup", "replay_warmup"):  # seconds, for what a server does alone
        monkeypatch.setattr(f"nice_tf.serving.export.{name}", lambda *args, **kwargs: None)
    version = density.export(tmp_path / "export")
    for number, (model, source) in enumerate(
        (
            (folder / "run", "new.csv"),
            (version, "new.parquet"),
        )
    ):
        found = scores(model, folder / source, tmp_path / f"{number}.parquet")
        np.testing.assert_allclose(found["log_prob"], expected, rtol=1e-5, atol=1e-4)
        assert set(found["off_constant"].to_pylist()) == {""}
    drawn = density.sample(30, random_state=1)
    assert list(drawn.columns) == list(frame.columns) and drawn.dtypes.equals(frame.dtypes)
    assert set(drawn["Region"]) <= set(frame["Region"])
    assert set(drawn[CONSTANT]) == {"United States"}


def test_another_country_and_a_new_category_are_named(folder, tmp_path):
    rows = table().slice(NUMBER).to_pydict()
    rows[CONSTANT][3] = "Canada"
    rows["Category"][5] = "Toys"
    pa.csv.write_csv(pa.table(rows), tmp_path / "new.csv")
    found = scores(folder / "run", tmp_path / "new.csv", tmp_path / "scores.parquet")
    assert found["off_constant"].to_pylist() == ["", "", "", CONSTANT, *[""] * 96]
    unseen = found["unseen"].to_pylist()
    assert "Category" in unseen[5] and "Category" not in "".join(unseen[:5])
    assert found["is_anomaly"][3].as_py() and found["is_anomaly"][5].as_py()


def test_gaps_are_drawn_and_rows_are_sampled(folder, tmp_path):
    columns = table().slice(NUMBER, 20).to_pydict()
    seen = {name: list(values) for name, values in columns.items()}
    for name in ("Region", "Profit"):
        columns[name][::4] = [None] * 5
    pa.csv.write_csv(pa.table(columns), tmp_path / "gaps.csv")
    said = nice_tf.fill_file(
        folder / "run", tmp_path / "gaps.csv", tmp_path / "drawn.csv", num_draws=3
    )
    assert "acceptance" in said and "median over 5 rows" in said
    with open(tmp_path / "drawn.csv", newline="") as file:
        drawn = list(csv.DictReader(file))
    assert len(drawn) == 60
    for row in drawn:
        place = int(row["row"])
        for name, values in seen.items():
            if columns[name][place] is not None:
                assert row[name] == spelled(values[place])
        assert row["Region"] in {"South", "West", "Central", "East"} and float(row["Profit"])
    nice_tf.sample_file(folder / "run", tmp_path / "rows.csv", num_samples=20)
    with open(tmp_path / "rows.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert set(rows[0]) == {*columns} - {LEFT_OUT}
    assert {row[CONSTANT] for row in rows} == {"United States"}
    assert all(row["Quantity"].isdigit() for row in rows)


def test_the_report_shows_what_belongs_together(folder, tmp_path):
    """A state lies in one region, a sub-category in one category."""
    run = finished.load_finished_run(folder / "run")
    text = page.write_report(run, folder / "run", tmp_path / "report.html").read_text()
    for column in run.data.schema.columns:
        assert f"<td>{column.name}</td>" in text
    report = page.TableReport(run)
    pairs = [{pair.x.name, pair.y.name} for pair in report.pairs().pairs]
    assert {"Category", "Sub-Category"} in pairs
    assert any(pair < {"State", "Region", "Postal Code"} for pair in pairs)
