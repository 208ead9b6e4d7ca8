"""Columns of text, dates and times: found, scored, filled, drawn, and back in their own types."""

import csv
import datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from table_files import write_csv, write_parquet

import nice_tf
from nice_tf import batch
from nice_tf.data import dataset
from nice_tf.data.descriptions import check_description
from nice_tf.data.schema import Column, Encoding, Schema
from nice_tf.data.tables import encodings
from nice_tf.data.tables.encodings import decoded
from nice_tf.data.tables.kinds import Kinds
from nice_tf.data.tables.survey_table import survey_table
from nice_tf.data.tables.table import Table
from nice_tf.data.tables.types import name_of, type_of
from nice_tf.errors import UserError
from nice_tf.scoring.model import Model
from nice_tf.scoring.table_input import TableInput
from nice_tf.scoring.trying import with_best_values
from nice_tf.serving.export import export_saved_model

N = 240
REGIONS = ["West", "East", "South, far", "North"]


def mixed(number=N):
    """A table of all kinds of columns, some of them dependent, as Arrow has them."""
    generator = np.random.default_rng(5)
    base = generator.normal(size=number)
    region = np.clip(np.rint(np.abs(base + generator.normal(size=number) / 3)), 0, 3).astype(int)
    days = generator.integers(0, 700, number)
    minutes = generator.integers(0, 60 * 24 * 30, number)
    size = generator.choice(["s", "m", "l"], number)
    times = pa.array(1_600_000_020_000_000 + 60_000_000 * minutes, pa.timestamp("us", "UTC"))
    counts = pa.array(generator.poisson(4, number), mask=np.arange(number) % 7 == 3)
    return pa.table(
        {
            "region": np.array(REGIONS)[region],
            "size": pa.array(size).dictionary_encode(),
            "paid": base + generator.normal(size=number) > 0,
            "count": counts,
            "day": pa.array(np.datetime64("2021-03-01") + days.astype("timedelta64[D]")),
            "when": times.cast(pa.timestamp("us", "Europe/Berlin")),
            "clock": pa.array(60_000 * (minutes % 1440), pa.int32()).cast(pa.time32("ms")),
            "price": np.round(base + 5, 1),
            "name": [f"customer {k}" for k in range(number)],
        }
    )


CATEGORICAL = ("region", "size")
KEPT = [name for name in mixed(2).column_names if name != "name"]


def as_texts(table):
    texts = {}
    for name in table.column_names:
        column = table[name].cast(pa.string()).to_pylist()
        texts[name] = ["" if text is None else text for text in column]
    texts["clock"] = [text.removesuffix(".000") for text in texts["clock"]]  # as pandas has it
    return texts


def as_csv(table, path):
    return write_csv(path, **as_texts(table))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A tiny model of the mixed table, from Parquet: its folder."""
    folder = tmp_path_factory.mktemp("mixed")
    path = folder / "mixed.parquet"
    pq.write_table(mixed(), path)
    config = nice_tf.read_flagfile(
        "configs/table.flags",
        dataset=str(path),
        impute=True,
        hidden_units=(8,),
        num_couplings=3,
        epochs=2,
        num_draws=1,
        precision="float32",
    )
    nice_tf.train_and_evaluate(config, folder / "run")
    return folder / "run"


def survey(path, columns=(), **kinds):
    return survey_table(Table([path]), columns, kinds=Kinds(**kinds))


# What is found


@pytest.mark.parametrize("suffix", ["parquet", "csv"])
def test_every_kind_comes_back_as_it_went_in(tmp_path, suffix):
    table = mixed()
    path = tmp_path / f"a.{suffix}"
    if suffix == "csv":
        as_csv(table, path)
    else:
        pq.write_table(table, path)
    opened = Table([path])
    schema, found = survey_table(opened)
    assert schema.names == KEPT and schema.ignored == ("name",)
    assert "column name has more than 100 different texts" in found.warnings(schema)[0]
    kinds = {column.name: column.encoding.kind for column in schema.columns}
    assert [kinds[name] for name in KEPT] == [
        *["category"] * 2,
        "boolean",
        "number",
        *["date"] * 3,
        "number",
    ]
    assert schema.steps[-2] == 60 and schema.steps[4] == 1 and set(schema.steps[:3]) == {1}
    x = np.concatenate(list(opened.blocks(schema.names)))
    missing = np.isnan(x)
    assert missing.sum() == table["count"].null_count and missing[:, 3].any()
    back = decoded(schema, np.where(missing, 0, x))
    for name in [*CATEGORICAL, "paid", "day", "when", "clock"]:
        expected = table[name].combine_chunks()
        if suffix == "parquet":
            assert back[name].type == expected.type
        assert back[name].cast(expected.type).to_pylist() == expected.to_pylist()


def test_the_schema_of_numbers_is_as_before(tmp_path):
    numbers = {"a": np.arange(60) % 7, "b": np.random.default_rng(0).normal(size=60)}
    schema = survey(write_csv(tmp_path / "a.csv", **numbers))[0]
    assert schema.as_dict()["columns"][0] == {"name": "a", "step": 1.0, "low": 0.0, "high": 6.0}
    earlier = {
        "columns": [{"name": "a", "step": 1.0, "low": 0.0, "high": 6.0}],
        "constants": {},
        "ignored": [],
    }
    assert Schema.from_dict(earlier).columns == (Column("a", 1.0, 0.0, 6.0),)


def test_categories_are_in_the_order_of_their_number(tmp_path):
    words = np.repeat(["b", "c", "a", "d"], [20, 15, 15, 10])
    (column,) = survey(write_csv(tmp_path / "a.csv", w=words))[0].columns
    assert column.categories == ("b", "a", "c", "d")
    assert (column.step, column.low, column.high) == (1.0, 0.0, 3.0)


def test_an_ordered_dictionary_keeps_its_order(tmp_path):
    kind = pa.dictionary(pa.int8(), pa.string(), ordered=True)
    sizes = pa.DictionaryArray.from_arrays(
        pa.array([2, 2, 2, 0, 1, 0] * 9, pa.int8()), ["small", "middle", "large"], ordered=True
    )
    schema = survey(write_parquet(tmp_path / "a.parquet", size=sizes))[0]
    assert schema.columns[0].categories == ("small", "middle", "large")
    assert type_of(schema.columns[0].encoding.type) == kind


@pytest.mark.parametrize("write", [write_csv, write_parquet])
def test_settings_say_what_is_a_category(tmp_path, write):
    codes = np.arange(60) % 4 * 10
    path = write(tmp_path / f"a.{write.__name__[6:]}", code=codes, b=np.arange(60) % 7)
    assert survey(path)[0].columns[0] == Column("code", 10.0, 0.0, 30.0)
    column = survey(path, categories=["code"])[0].columns[0]
    assert column.categories == ("0", "10", "20", "30") and column.encoding.type == "int64"
    with pytest.raises(UserError, match="categories has cod, which is not among the columns of"):
        survey(path, categories=["cod"])
    with pytest.raises(UserError, match="categories and numbers both have b: a column is of one"):
        survey(path, categories=["b"], numbers=["b"])
    found = dataset.load(
        nice_tf.Config(dataset=str(path), categories='"code", b', batch_size=4)
    ).schema
    assert [len(column.categories) for column in found.columns] == [4, 7]


def test_dates_of_csv_are_what_all_rows_are(tmp_path, monkeypatch):
    monkeypatch.setattr("nice_tf.data.tables.csv_files._BLOCK_BYTES", 256)
    days = [f"2020-01-{k % 20 + 1:02}" for k in range(60)]
    texts = {
        "days": days,
        "later": [*days[:50], *[f"{day} 12:30:00" for day in days[50:]]],
        "zones": [f"{day} 10:00:00+0{k % 2 + 1}:00" for k, day in enumerate(days)],
        "some_zones": [*days[:50], *[f"{day} 10:00:00+02:00" for day in days[50:]]],
        "noise": [*days[:50], *["unknown"] * 10],
        "gaps": [*days[:50], *["NaT", ""] * 5],
    }
    texts["gaps"] = [text.replace("NaT", "NaN") for text in texts["gaps"]]
    schema, found = survey(write_csv(tmp_path / "a.csv", **texts))
    types = {column.name: column.encoding.type for column in schema.columns}
    assert types == {
        "days": "date32[day]",
        "later": "timestamp[s]",
        "zones": "timestamp[s, tz=UTC]",
        "some_zones": "string",
        "noise": "string",
        "gaps": "date32[day]",
    }
    assert found.missing(schema) == {"gaps": (10, 50)}
    steps = dict(zip(schema.names, schema.steps, strict=True))
    assert steps["days"] == 1 and steps["later"] == 1800 and steps["zones"] == 3600


def test_times_finer_than_float32_are_continuous(tmp_path):
    seconds = np.random.default_rng(0).integers(0, 10**9, N)
    times = pa.array(seconds, pa.timestamp("s"))
    path = write_parquet(tmp_path / "a.parquet", t=times, b=np.arange(N) % 5)
    found = dataset.load(nice_tf.Config(dataset=str(path), batch_size=4, precision="float32"))
    assert found.schema.columns[0].step == 0
    assert "column t has times finer than float32 tells apart" in found.warnings[0]
    finer = dataset.load(nice_tf.Config(dataset=str(path), batch_size=4, precision="float64"))
    assert finer.schema.columns[0].step == 1 and not finer.warnings
    exact = decoded(finer.schema, finer.train)["t"].to_pylist()
    assert set(exact) <= set(times.to_pylist())


@pytest.mark.parametrize(
    "kind",
    [
        pa.string(),
        pa.large_string(),
        pa.int64(),
        pa.date32(),
        pa.date64(),
        pa.time32("s"),
        pa.time64("ns"),
        pa.timestamp("ms"),
        pa.timestamp("ns", "America/New_York"),
        pa.timestamp("us", "+02:00"),
        pa.dictionary(pa.int8(), pa.string(), ordered=True),
        pa.dictionary(pa.int32(), pa.int64()),
    ],
    ids=str,
)
def test_types_have_names(kind):
    assert type_of(name_of(kind)) == kind


# What is left out or refused


def test_what_is_left_out_is_said(tmp_path):
    none = pa.nulls(N, pa.string())
    path = write_parquet(
        tmp_path / "a.parquet",
        a=np.arange(N) % 9,
        many=[f"k{k % 101}" for k in range(N)],
        unlike=[f"k{k % 130}" if k < 50 else None for k in range(N)],
        slashed=[f"{1 + k % 28:02}/{2 + k // 28:02}/2024" for k in range(N)],
        single=pa.array(["x"] * N).dictionary_encode(),
        gone=none,
        never=none.cast(pa.timestamp("us")),
        once=pa.array([18000] * N, pa.int32()).cast(pa.date32()),
        lists=[[k] for k in range(N)],
    )
    schema, found = survey(path)
    assert schema.names == ["a"]
    assert schema.ignored == ("many", "unlike", "slashed", "gone", "never", "lists")
    assert schema.constants == {"single": 0, "once": 0}
    said = " / ".join(found.warnings(schema))
    assert "column many has more than 100 different texts (max_categories) and is left out" in said
    assert "column unlike has another text in most of its rows" in said
    assert "columns never, gone: each has no value at all and is left out" in said
    assert "column lists is of type list<element: int64>, not of numbers, text, dates or" in said
    assert "column slashed has dates such as 01/02/2024, which are read as dates only when" in said
    assert survey(path, max_categories=101)[0].names == ["a", "many"]
    with pytest.raises(
        UserError, match=r"many of .* has more than 100 different texts .*raise max"
    ):
        survey(path, ["a", "many"])
    assert survey(path, categories=["unlike"])[0].names == ["a", "unlike"]


@pytest.fixture(scope="module")
def of_one_value(tmp_path_factory):
    """A run on a table with constant columns of text, of dates and of booleans: its folder."""
    path = tmp_path_factory.mktemp("constants")
    write_parquet(path / "rows.parquet", **constants(N))
    config = nice_tf.Config(
        dataset=str(path / "rows.parquet"),
        whitening="standardize",
        hidden_units=(4,),
        batch_size=50,
        num_couplings=2,
        epochs=1,
        num_draws=1,
    )
    nice_tf.train_and_evaluate(config, path / "run")
    return path / "run"


def constants(number):
    generator = np.random.default_rng(0)
    gaps = np.arange(number) == 1
    return {
        "a": generator.normal(size=number),
        "b": generator.normal(size=number),
        "unit": pa.array(["kg"] * number, mask=gaps).dictionary_encode(),
        "day": pa.array([18_000] * number, pa.int32(), mask=gaps).cast(pa.date32()),
        "at": pa.array([18_000 * 86_400_000 + 61] * number, pa.timestamp("ms", "UTC"), mask=gaps),
        "is_on": pa.array([True] * number, mask=gaps),
    }


def write(table, path):
    if path.suffix == ".csv":
        pa.csv.write_csv(table, path)
    else:
        pq.write_table(table, path)


@pytest.mark.parametrize("suffix", ["parquet", "csv"])
def test_constants_of_any_kind_are_checked_and_come_back(of_one_value, tmp_path, suffix):
    columns = pa.table(constants(8))
    changed = {
        "unit": pa.array(["kg", "kg", "g", *["kg"] * 5]).dictionary_encode(),
        "day": pa.array([18_000, 18_000, 18_000, 17_999] + [18_000] * 4, pa.int32()),
        "at": pa.array([18_000 * 86_400_000 + 61] * 5 + [0, 18_000 * 86_400_000 + 61, 62]),
        "is_on": pa.array([True] * 6 + [False, True]),
    }
    changed["day"] = changed["day"].cast(pa.date32())
    changed["at"] = changed["at"].cast(pa.timestamp("ms", "UTC"))
    path = tmp_path / f"new.{suffix}"
    new = columns
    for name, values in changed.items():
        new = new.set_column(new.column_names.index(name), name, values)
    write(new, path)
    said = nice_tf.score_file(of_one_value, path, tmp_path / "scores.parquet")
    scores = pq.read_table(tmp_path / "scores.parquet")
    off = ["", "", "unit", "day", "", "at", "is_on", "at"]
    assert scores["off_constant"].to_pylist() == off
    assert np.isfinite(scores["log_prob"].to_numpy()).all()
    flagged = scores["is_anomaly"].to_pylist()
    assert all(flag for flag, names in zip(flagged, off, strict=True) if names)
    assert "5 rows off the values of training in columns that were constant" in said

    gaps = tmp_path / f"gaps.{suffix}"
    write(columns, gaps)
    output = tmp_path / f"filled.{suffix}"
    assert nice_tf.fill_file(of_one_value, gaps, output).endswith("missing values filled: 4")
    if suffix == "parquet":
        filled = pq.read_table(output)
        nice_tf.sample_file(of_one_value, tmp_path / "samples.parquet", num_samples=3)
        samples = pq.read_table(tmp_path / "samples.parquet")
        for name in changed:
            assert filled[name].null_count == 0 and filled[name].type == columns[name].type
            assert len(set(filled[name].to_pylist())) == 1
            assert samples[name].to_pylist() == filled[name].to_pylist()[:3]
    else:
        lines = output.read_text().splitlines()
        assert len({line.split(",", 2)[2] for line in lines[1:]}) == 1


def test_ten_thousand_categories(tmp_path):
    number = 30_000
    path = write_csv(
        tmp_path / "a.csv",
        a=np.arange(number) % 9,
        w=np.array([f"w{k % 10_000}" for k in range(number)]),
    )
    assert survey(path)[0].names == ["a"]
    with pytest.raises(UserError, match="more than 100 different texts"):
        survey(path, categories=["w"])
    assert len(survey(path, max_categories=10_000)[0].columns[1].categories) == 10_000


def test_files_of_two_zones_are_refused(tmp_path):
    for zone in ("UTC", "Europe/Berlin"):
        times = pa.array(np.arange(30), pa.timestamp("s", zone))
        write_parquet(tmp_path / "set" / f"{zone[:3]}.parquet", t=times)
    files = sorted((tmp_path / "set").glob("*"))
    with pytest.raises(UserError, match=r"cannot be read: .*Field t .*tz=Europe/Berlin\] vs .*UTC"):
        Table(files)


@pytest.mark.parametrize(
    "changes",
    [
        {"categories": ["a", "a", "b"]},
        {"categories": ["a", "b"]},
        {"categories": ["a", "b", 3]},
        {"type": "unheard"},
        {"kind": "date", "categories": [], "type": "date32[day]", "origin": "x", "ticks": 1},
    ],
)
def test_damaged_descriptions_are_refused(changes):
    column = Column("w", 1.0, 0.0, 2.0, Encoding("string", ("a", "b", "c")))
    description = {"name": "t", "event_shape": [1], "levels": None}
    description |= {"num_train": 9, "num_validation": 2, "num_test": 2}
    description["schema"] = Schema((column,)).as_dict()
    check_description(description)
    description["schema"]["columns"][0] |= changes
    with pytest.raises((ValueError, TypeError)):
        check_description(description)


# A model's answers


def test_scores_are_the_same_from_any_file_and_from_the_export(run, tmp_path):
    pq.write_table(mixed(), tmp_path / "a.parquet")
    as_csv(mixed(), tmp_path / "a.csv")
    version = export_saved_model(run, tmp_path / "export")
    expected = scores(run, tmp_path / "a.parquet")
    assert expected["unseen"].to_pylist() == [""] * N
    assert expected["num_imputed"].to_pylist() == mixed()["count"].is_null().to_numpy().tolist()
    for model, source in ((run, "a.csv"), (tmp_path / "export", "a.parquet")):
        found = scores(model, tmp_path / source)
        np.testing.assert_allclose(
            found["log_prob"].to_numpy(), expected["log_prob"].to_numpy(), rtol=1e-4, atol=1e-3
        )
        assert found["top_1"].equals(expected["top_1"])
    card = (version / "MODEL_CARD.md").read_text()
    region = Model.load(run).schema.columns[0].categories
    assert f"| region | category | 0: {region[0]}, 1: {region[1]}, 2: " in card
    assert "| day | date | 0: 2021-03-0" in card and ", 1 is a day; in steps of 1 |" in card
    assert "| paid | boolean | 0: false, 1: true |" in card
    assert "Missing values of the training rows were filled" in card and "`inpaint` fills" in card


def scores(model, source, **options):
    output = source.with_name("scores.parquet")
    batch.score_file(str(model), str(source), str(output), impute=True, overwrite=True, **options)
    return pq.read_table(output)


def test_new_categories_are_finite_flagged_and_named(run, tmp_path):
    table = mixed(6)
    regions = table["region"].to_pylist()
    table = table.set_column(0, "region", pa.array([*regions[:4], "Mars", None]))
    sizes = pa.array(["s", "huge", "m", "l", "huge", "s"]).dictionary_encode()
    table = table.set_column(1, "size", sizes)
    pq.write_table(table, tmp_path / "a.parquet")
    found = scores(run, tmp_path / "a.parquet", keep=["region"])
    assert found["unseen"].to_pylist() == ["", "size", "", "", "region, size", ""]
    assert np.isfinite(found["log_prob"].to_numpy()).all()
    flagged = found["is_anomaly"].to_pylist()
    assert flagged[1] and flagged[4]
    assert found["region"].to_pylist()[4:] == ["Mars", None]
    said = batch.score_file(
        str(run), str(tmp_path / "a.parquet"), str(tmp_path / "s.csv"), impute=True
    )
    assert "2 rows with categories that the table of the run does not have" in said


@pytest.mark.parametrize("suffix", ["parquet", "csv"])
def test_gaps_of_any_kind_are_filled_in_their_type(run, tmp_path, suffix):
    table = mixed(8)
    gaps = pa.array([False, True, False, True] * 2)
    for place, name in enumerate(table.column_names):
        kind = table.schema.field(name).type
        column = table[name].combine_chunks()
        if pa.types.is_dictionary(kind):
            column = column.cast(pa.string())
        column = pc.if_else(gaps, pa.scalar(None, column.type), column)
        if pa.types.is_dictionary(kind):
            column = column.dictionary_encode()
        table = table.set_column(place, name, column)
    source = tmp_path / f"a.{suffix}"
    if suffix == "csv":
        as_csv(table, source)
    else:
        pq.write_table(table, source)
    output = tmp_path / f"filled.{suffix}"
    batch.fill_file(str(run), str(source), str(output))
    schema = Model.load(run).schema
    if suffix == "csv":
        with output.open(newline="") as file:
            filled = list(csv.DictReader(file))
        with source.open(newline="") as file:
            given = list(csv.DictReader(file))
        for row, was in zip(filled, given, strict=True):
            assert row["region"] in REGIONS and row["paid"] in ("true", "false")
            assert datetime.date(2021, 3, 1) <= datetime.date.fromisoformat(row["day"])
            datetime.datetime.fromisoformat(row["when"][:19])
            assert {name: row[name] for name in row if was[name]} == {
                name: text for name, text in was.items() if text
            }
        return
    filled = pq.read_table(output)
    assert filled.schema.types == table.schema.types
    for name in KEPT:
        assert filled[name].null_count == 0
        for value, was in zip(filled[name].to_pylist(), table[name].to_pylist(), strict=True):
            assert was is None or value == was
    assert set(filled["size"].to_pylist()) <= set(schema.columns[1].categories)


def test_true_and_false_are_spelled_as_the_first_cell_of_their_column(run, tmp_path, monkeypatch):
    """In all blocks: the first has them in capitals, those behind it otherwise, or none at all."""
    monkeypatch.setattr("nice_tf.scoring.files.rows_at_once", lambda size, work: 40)
    columns = as_texts(mixed())
    words = np.where(np.arange(N) < 40, "TRUE", np.where(np.arange(N) < 80, "false", ""))
    words[[0, 70]] = ""
    columns["paid"] = words.tolist()
    write_csv(tmp_path / "a.csv", **columns)
    nice_tf.fill_file(run, tmp_path / "a.csv", tmp_path / "b.csv")
    with open(tmp_path / "b.csv", newline="") as file:
        filled = np.array([row["paid"] for row in csv.DictReader(file)])
    assert np.array_equal(filled[words != ""], words[words != ""])
    assert set(filled[words == ""]) == {"TRUE", "FALSE"}


def test_samples_are_rows_of_the_table(run, tmp_path):
    schema = mixed().schema
    for name in ("s.parquet", "s.csv"):
        batch.sample_file(str(run), str(tmp_path / name), num_samples=50, seed=3)
    drawn = pq.read_table(tmp_path / "s.parquet")
    assert drawn.column_names == KEPT
    for name in KEPT:
        if name not in ("count", "price"):
            assert drawn.schema.field(name).type == schema.field(name).type
    assert set(drawn["region"].to_pylist()) <= set(REGIONS)
    with (tmp_path / "s.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["day"] for row in rows] == list(map(str, drawn["day"].to_pylist()))
    with (run / "samples.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == KEPT and {row["paid"] for row in rows} == {"true", "false"}
    assert {row["region"] for row in rows} <= set(REGIONS)
    (again,) = TableInput(str(run / "samples.csv"), Model.load(run).schema).blocks(1000)
    assert np.isfinite(again.values).all() and not any(map(np.any, again.unseen.values()))


def test_what_is_no_date_is_named(run, tmp_path):
    columns = as_texts(mixed(6))
    columns["day"][4] = "31.12.2021"
    with pytest.raises(UserError, match=r"day of input .* has '31\.12\.2021' in row 4 .*date32"):
        scores(run, write_csv(tmp_path / "a.csv", **columns))
    zoned = as_texts(mixed(6))
    zoned["when"] = [text[:19] for text in zoned["when"]]
    with pytest.raises(UserError, match=r"when of input .* in row 0 .*tz=Europe/Berlin"):
        scores(run, write_csv(tmp_path / "b.csv", **zoned))


def test_integers_with_gaps_are_the_categories_that_pandas_makes_decimals(tmp_path):
    path = write_csv(tmp_path / "a.csv", code=np.arange(60) % 4, b=np.arange(60) % 7)
    schema = survey(path, categories=["code"])[0]
    scored = write_csv(tmp_path / "b.csv", code=["3.0", "", "7.0", "1"], b=[1, 2, 3, 4])
    (block,) = TableInput(str(scored), schema).blocks(9)
    np.testing.assert_array_equal(block.values[:, 0], [3, np.nan, 4, 1])
    assert block.unseen["code"].tolist() == [False, False, True, False]


def test_kinds_are_those_of_all_blocks(tmp_path, monkeypatch):
    monkeypatch.setattr("nice_tf.data.tables.table._BLOCK_ROWS", 7)
    words = np.array(["a"] * 30 + ["b"] * 20 + ["c"] * 10)
    days = pa.array(np.arange(60, 0, -1), pa.int32()).cast(pa.date32())
    path = write_parquet(tmp_path / "a.parquet", w=words, day=days)
    schema = survey(path)[0]
    assert schema.columns[0].categories == ("a", "b", "c")
    assert schema.columns[1].encoding == Encoding("date32[day]", (), 1, 1)


def test_entries_of_a_dictionary_keep_their_order():
    """Of an ordered one it is a meaning: low < mid < high."""
    kind = pa.dictionary(pa.int8(), pa.string(), ordered=True)
    entries = pa.array(["low", "mid", "high"])
    found = encodings.as_type(pa.array(["high", None, "low"]), kind, entries)
    assert found.type == kind
    assert found.dictionary.to_pylist() == ["low", "mid", "high"]
    assert found.to_pylist() == ["high", None, "low"]
    more = encodings.as_type(pa.array(["top", "mid"]), kind, entries)
    assert more.dictionary.to_pylist() == ["low", "mid", "high", "top"]


def test_a_closing_climb_that_ends_lower_is_not_taken():
    """The ascent starts anew, given the best categories: here it misses what it had found before."""
    schema = Schema((Column("kind", 1.0, 0.0, 2.0), Column("size", 0.0, -10.0, 10.0)))
    observed = np.zeros([2, 2], bool)
    start = np.array([[0.0, 3.0], [0.0, 9.0]])

    def log_prob(rows, numbers):
        return rows[:, 0] - np.abs(rows[:, 1] - 3.0)

    def climb(rows, known, numbers):
        assert known[:, 0].all() and not known[:, 1].any()
        return np.stack([rows[:, 0], np.full(len(rows), 5.0)], axis=1)

    found = with_best_values(start, observed, schema, log_prob=log_prob, climb=climb, nodes=dict)
    # The first row stays at the top, 3; the second goes from 9 to 5, which is nearer.
    np.testing.assert_array_equal(found, [[2.0, 3.0], [2.0, 5.0]])
