"""Tables: what is found in CSV and Parquet files, what is refused, and the density of their
columns.
"""

import csv
import dataclasses
import gzip
import json
import pathlib
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from absl import flags
from pace import slow_except
from table_files import write_csv, write_parquet

import nice_tf
from nice_tf.cli.config_flags import define_flags, from_flags
from nice_tf.data import dataset
from nice_tf.data.rows import Rows, rebatched
from nice_tf.data.schema import Column, Schema, csv_bytes
from nice_tf.data.tables.encodings import decoded, for_csv, texts_of
from nice_tf.data.tables.source import fill_from_column
from nice_tf.data.tables.survey_table import survey_table
from nice_tf.data.tables.table import Table
from nice_tf.evaluation import likelihood, metrics
from nice_tf.runs.workdir import Workdir
from nice_tf.training import model as model_lib

ROOT = pathlib.Path(__file__).parents[1]
N = 60
_DRAWS = np.random.default_rng(0)
A, B, C = _DRAWS.normal(size=N), _DRAWS.normal(size=N), _DRAWS.integers(0, 9, N)


def changed(values, row, value):
    result = np.asarray(values).astype(object)
    result[row] = value
    return result


@pytest.fixture
def load(tmp_path):
    def load(path, **settings):
        settings = {"batch_size": 4, "data_dir": str(tmp_path / "cache"), **settings}
        return dataset.load(nice_tf.Config(dataset=str(path), **settings))

    return load


def all_of(found):
    return np.concatenate([found.train, found.validation, found.test])


def sorted_rows(values):
    return values[np.lexsort(np.transpose(values))]


def survey(path, columns=()):
    return survey_table(Table([path]), columns)


# What is found


@pytest.mark.parametrize("write", [write_csv, write_parquet])
def test_columns_of_numbers_are_taken_by_name(load, tmp_path, write):
    path = write(
        tmp_path / f"a.{write.__name__[6:]}", a=A, id=np.array(list(map(hex, range(N)))), c=C, b=B
    )
    found = load(path)
    assert found.schema == Schema(
        (
            Column("a", 0.0, A.min(), A.max()),
            Column("c", 1.0, 0.0, 8.0),
            Column("b", 0.0, B.min(), B.max()),
        ),
        ignored=("id",),
    )
    assert found.levels is None and found.train.dtype == np.float32
    assert found.warnings == (
        "column id has another text in most of its rows, as names have (categories keeps it), and "
        "is left out",
    )
    assert [len(part) for part in (found.train, found.validation, found.test)] == [42, 8, 10]
    expected = np.stack([A, C, B], axis=-1).astype(np.float32)
    np.testing.assert_array_equal(sorted_rows(all_of(found)), sorted_rows(expected))
    chosen = load(path, columns="b, a")
    assert chosen.schema.names == ["b", "a"] and chosen.schema.ignored == ("id", "c")
    np.testing.assert_array_equal(sorted_rows(all_of(chosen)), sorted_rows(expected[:, [2, 0]]))


def test_compressed_and_with_a_byte_order_mark(load, tmp_path):
    content = csv_bytes({"a": A, "b": B})
    expected = load(write_csv(tmp_path / "a.csv", a=A, b=B)).description()
    with gzip.open(tmp_path / "a.csv.gz", "wb") as file:
        file.write(content)
    (tmp_path / "mark.csv").write_bytes(b"\xef\xbb\xbf" + content)
    for name in ("a.csv.gz", "mark.csv"):
        assert load(tmp_path / name).description() | {"name": ""} == expected | {"name": ""}


def test_several_files_and_splits(load, tmp_path):
    write_csv(tmp_path / "set" / "train-1.csv", a=A[:20], b=B[:20], c=C[:20])
    write_csv(
        tmp_path / "set" / "train-2.csv", c=C[20:40], a=A[20:40], b=B[20:40]
    )  # in another order
    write_csv(tmp_path / "set" / "test.csv", a=A[40:], b=B[40:], c=C[40:] + 100)
    expected = np.stack([A, B, C], axis=-1).astype(np.float32)
    for name in (tmp_path / "set", tmp_path / "set" / "t*.csv"):
        found = load(name, num_validation=5)
        np.testing.assert_array_equal(found.train, expected[:35])
        np.testing.assert_array_equal(found.validation, expected[35:40])
        np.testing.assert_array_equal(found.test, expected[40:] + np.float32([0, 0, 100]))
        assert found.schema.columns[2].high == C[40:].max() + 100, "of all splits"


def test_parquet_files_of_several_types(load, tmp_path):
    write_parquet(
        tmp_path / "set" / "0.parquet", a=pa.array(C[:20], pa.int32()), b=pa.array([None] * 20)
    )
    write_parquet(tmp_path / "set" / "1.parquet", b=B[20:], a=A[20:])
    with pytest.raises(
        nice_tf.UserError,
        match=r"missing values in b \(20, the first in row 0\), rows counted from 0",
    ):
        load(tmp_path / "set")
    found = load(tmp_path / "set", impute=True)
    assert sorted(all_of(found)[:, 0]) == sorted(
        np.concatenate([C[:20], A[20:]]).astype(np.float32)
    )
    write_parquet(tmp_path / "set" / "1.parquet", b=B, a=np.array(["x"] * N))
    with pytest.raises(
        nice_tf.UserError, match=r"0\.parquet and 1 more cannot be read: .*int32 vs string"
    ):
        load(tmp_path / "set")


STEPS = {
    "integers": (C, 1.0),
    "multiples with offset": (5 * C + 3, 5.0),
    "large multiples": (10**9 * C + 7, 1e9),
    "integers as decimals": (C.astype(np.float64), 1.0),
    "decimals with ties": (C / 100, 0.01),
    "decimals on a wider grid": (0.25 + 0.05 * C, 0.05),
    "decimals that were computed": (0.1 * C + 0.2, 0.1),
    "decimals without ties": (np.round(1000 * A, 2), 0.0),
    "decimals of few places beside integers": (np.where(C > 4, C, C + 0.7), 0.1),
    "booleans": (C > 4, 1.0),
    "float32 decimals": ((C / 10).astype(np.float32), 0.1),
    "large float32 decimals": ((100 + C / 100).astype(np.float32), 0.01),
    "float16 decimals": ((C / 10).astype(np.float16), 0.1),
    "continuous": (A, 0.0),
    "continuous float32": ((100 * A).astype(np.float32), 0.0),
    "continuous, small": (1e-12 * A, 0.0),
    "continuous, with a large offset": (1e9 + A, 0.0),
    "continuous, large": (1e17 * A, 0.0),
    "thirds": (C / 3, 0.0),
}


@pytest.mark.parametrize(("values", "step"), STEPS.values(), ids=STEPS)
def test_steps(tmp_path, values, step):
    path = write_parquet(tmp_path / "a.parquet", a=values)
    (column,) = survey(path)[0].columns
    np.testing.assert_allclose(column.step, step, rtol=1e-15)
    np.testing.assert_allclose(
        [column.low, column.high], [np.min(values), np.max(values)], rtol=1e-3
    )
    if values.dtype not in (np.float16, np.float32):
        assert survey(
            write_csv(tmp_path / "a.csv", a=values.astype(str) if values.dtype == bool else values)
        )[0] == Schema((column,), spread=bool(column.spikes))


def test_steps_are_those_of_all_blocks(tmp_path, monkeypatch):
    monkeypatch.setattr("nice_tf.data.tables.table._BLOCK_ROWS", 7)
    values = np.concatenate([3.0 * np.tile([0, 1, 2], 20), 0.7 * np.tile([1, 2, 3], 20)])
    for part in (values, values[::-1]):
        assert survey(write_parquet(tmp_path / "a.parquet", a=part))[0].columns == (
            Column("a", 0.1, 0.0, 6.0),
        )
    once_higher = np.append(np.repeat(7, 50), 19)
    assert survey(write_parquet(tmp_path / "a.parquet", a=once_higher))[0].columns == (
        Column("a", 12.0, 7.0, 19.0),
    )


def test_float32_decimals_are_named_as_they_were_written(tmp_path):
    schema, _ = survey(write_parquet(tmp_path / "a.parquet", a=(C / 10 + 0.3).astype(np.float32)))
    assert schema.columns == (Column("a", 0.1, 0.3, 1.1),)
    written = schema.as_columns(np.float32([[0.31], [0.68], [-0.13]]))["a"]
    assert written.tolist() == [0.3, 0.7, -0.1], "no 0.30000001"


def test_row_numbers_are_left_out_unless_asked_for(load, tmp_path):
    path = write_parquet(tmp_path / "a.parquet", a=A, __index_level_0__=np.arange(N))
    assert survey(path)[0].names == ["a"] and survey(path)[0].ignored == ("__index_level_0__",)
    assert survey(path, ["__index_level_0__", "a"])[0].names == ["__index_level_0__", "a"]
    schema, _ = survey(write_csv(tmp_path / "a.csv", **{"": np.arange(N), "a": A}))
    assert schema.names == ["a"] and "left out: (no name)" in schema.describe()
    (said,) = load(write_csv(tmp_path / "b.csv", **{"": np.arange(N), "a": A, "b": B})).warnings
    assert said == "column (no name) is taken for row numbers by its name, and is left out"


def test_constants_are_left_out_and_named(load, tmp_path):
    found = load(write_csv(tmp_path / "a.csv", a=A, year=np.repeat(2014, N), b=B))
    assert found.event_shape == [2] and found.schema.constants == {"year": 2014.0}
    assert "constant, left out: year" in found.schema.describe()
    assert found.schema.as_columns(found.test)["year"].tolist() == [2014.0] * 10


def test_values_that_come_again_and_again_are_in_the_schema(tmp_path):
    """And what is drawn near them is moved to them, of discrete columns into their range."""
    values = np.concatenate([np.zeros(60), np.full(20, 6.25), np.linspace(1, 10, 120) ** 0.9])
    path = write_parquet(tmp_path / "a.parquet", a=values, b=np.arange(200) % 7)
    schema, _ = survey(path)
    spiky, plain = schema.columns
    assert spiky.spikes == (0.0, 6.25) and plain.spikes == ()
    assert 5e-4 < spiky.spike_width / np.std(values) < 2e-3
    assert Schema.from_dict(schema.as_dict()) == schema
    assert "spikes" not in plain.as_dict()
    near = 0.9 * spiky.spike_width
    x = [[near, 3.2], [-near, -1.0], [6.25 + near, 7.4], [6.25 - 3 * near, 2.0], [-1.0, 6.0]]
    drawn = schema.as_rows(np.float32(x))
    np.testing.assert_array_equal(drawn[:, 1], [3, 0, 6, 2, 6])
    np.testing.assert_array_equal(drawn[:3, 0], [0, 0, 6.25])
    assert drawn[3, 0] == np.float32(6.25 - 3 * near)
    assert drawn[4, 0] == 0, "nothing lies below the zeros"
    assert schema.as_rows(np.float32([[12.0, 0.0]]))[0, 0] == 12
    seen = np.float32([[near, 3.0]])
    np.testing.assert_array_equal(schema.as_columns(seen)["a"], seen[:, 0])


def test_columns_without_an_upper_bound_are_warned_of(load, tmp_path):
    tied = np.where(np.arange(N) % 5, A, 0.123456)
    path = write_csv(tmp_path / "a.csv", a=tied, b=B)
    (warning,) = load(path, dequantization="none").warnings
    assert warning.startswith(
        "column a is 0.123456 in 20.0% of rows and continuous elsewhere: its density has no upper"
    )
    with_gaps = np.where(np.arange(N) % 2, tied, np.nan)  # most of all values are missing
    assert (
        "column a is 0.123456"
        in load(write_parquet(tmp_path / "a.parquet", a=with_gaps, b=B), impute=True).warnings[0]
    )
    twice = write_csv(tmp_path / "b.csv", a=np.tile(A, 2), b=np.tile(B, 2))
    (warning,) = load(twice).warnings
    assert (
        warning.startswith("50.0% of the rows repeat others")
        and "rows of train may come back among those held out" in warning
    )
    assert (
        load(write_csv(tmp_path / "c.csv", a=np.tile(C, 2), b=np.tile(C % 2, 2))).warnings == ()
    ), "integers may repeat"


def test_spikes_and_rounding_are_a_line_each_and_marginals_bound_them(load, tmp_path):
    """Nothing is said of rounded numbers where marginals hold them."""
    columns = {
        "zeros": np.where(np.arange(N) % 3, A, 0.0),
        "twos": np.where(np.arange(N) % 4, B, 2.0),
        "rounded": np.where(np.arange(N) % 20, C + A, 1.23456),
    }
    path = write_csv(tmp_path / "a.csv", **columns)
    spikes, rounded = load(path, dequantization="none").warnings
    assert spikes.startswith("column zeros is 0 in 33.3%, twos is 2 in 25.0% of rows and ")
    spread, same = load(path).warnings
    assert spread.startswith("column zeros is 0 in 33.3%, twos is 2 in 25.0% of rows and ")
    assert "kept as a spike about a thousandth" in spread and same == rounded
    assert rounded.startswith("column rounded is 1.23456 in 5.0% of rows, as rounded numbers do")
    assert "marginals quantile bounds it" in spikes and "marginals quantile" in rounded
    (only,) = load(path, marginals="quantile").warnings
    assert only.startswith("column zeros is 0 in 33.3%, twos is 2 in 25.0% of rows")
    assert "no upper bound" not in only and "kept as a spike about" in only


def test_columns_that_follow_from_others_are_warned_of(load, tmp_path):
    columns = {"a": A, "b": 1e3 * B, "c": C, "d": 7 - 2 * A + B, "e": A + 1e-4 * B**2}
    for write in (write_csv, write_parquet):
        (warning,) = load(write(tmp_path / f"a.{write.__name__[6:]}", **columns)).warnings
        assert warning.startswith(
            "column d follows from columns before it as a sum of multiples: the density has no"
        )
    del columns["d"]
    assert load(write_csv(tmp_path / "b.csv", **columns)).warnings == ()


# What is refused

BAD = {
    "absent": ({"a": A, "b": B}, {"columns": "a,x,y"}, r"a\.csv has no column x, y, only a, b"),
    "asked twice": (
        {"a": A, "b": B},
        {"columns": "a,b,a"},
        "columns has a more than once, got a, b, a",
    ),
    "text": (
        {"a": changed(A, 3, "oops"), "b": B},
        {},
        r"column a of .* has 'oops' in row 3 \(counted from 0\): num",
    ),
    "text to all but Python": (
        {"a": changed(A, 3, "1_000"), "b": B},
        {},
        r"column a of .* has '1_000' in row 3 \(",
    ),
    "text asked for as numbers": (
        {"a": A, "b": np.array(["x"] * N)},
        {"numbers": "b"},
        r"column b of .* has 'x' in row 0 \(",
    ),
    "infinite": (
        {"a": changed(A, 7, "-inf"), "b": B},
        {},
        r"column a has -inf in row 7 \(counted from 0\): val",
    ),
    "missing": (
        {"a": changed(A, slice(4, 6), ""), "b": changed(B, 0, "NaN")},
        {},
        r"missing values in a \(2, the first in row 4\), b \(1, the first in row 0\), rows counted from 0: the same command with --impute fills each",
    ),
    "no value": (
        {"a": A, "b": np.array([""] * N)},
        {"columns": "a,b"},
        "column b has no value at all: leave it out",
    ),
    "one row": ({"a": A[:1], "b": B[:1]}, {}, "at least 2 rows are needed, got 1"),
    "no rows": ({"a": A[:0], "b": B[:0]}, {}, "at least 2 rows are needed, got 0"),
    "few rows": ({"a": A[:5], "b": B[:5]}, {}, "has 5 examples: at least 6 are needed to split"),
    "constants": (
        {"a": np.ones(N), "b": np.ones(N)},
        {},
        "columns a, b have the same value in all of 60 rows",
    ),
    "constant but for test": (
        {
            "a": changed(np.zeros(N), np.random.default_rng(0).permutation(N)[0], 0.123456),
            "b": B,
            "c": C,
        },
        {},
        r"column a of .* has the same value in all 42 training rows: leave it out with columns",
    ),
    "one column": ({"a": A, "b": np.ones(N)}, {}, "at least 2 values, those of .* have 1"),
    "no numbers": (
        {"a;b": np.array([""] * N)},
        {"delimiter": ","},
        "column a;b has no value at all",
    ),
    "no names": (
        {"5.1": A, "3.5": B, "word": C},
        {},
        r"starts with numbers, 5\.1, 3\.5, word: its first line must be",
    ),
    "integers for names": (
        {"5": A, "3": B},
        {},
        "starts with numbers, 5, 3: its first line must be the names",
    ),
    "levels": (
        {"a": C, "b": C},
        {"levels": 9},
        "levels is not for tables, got 9: each column of .* has steps",
    ),
    "offset": (
        {"a": 1e9 + A, "b": B},
        {},
        "column a has values up to 1e.09 within .*: float32 cannot tell them apart",
    ),
    "offset and steps": (
        {"a": 10**9 + C, "b": B},
        {},
        r"1e.09 in steps of 1: .* offset off them, or give precision",
    ),
    "large integers": (
        {"a": 2**60 + C, "b": B},
        {"precision": "float64"},
        r"size 1\.15292e\+18, beyond 2\^53",
    ),
}


@pytest.mark.parametrize(("columns", "settings", "message"), BAD.values(), ids=BAD)
def test_bad_columns(load, tmp_path, columns, settings, message):
    with pytest.raises(nice_tf.UserError, match=message):
        load(write_csv(tmp_path / "a.csv", **columns), **settings)


def test_numbers_are_names_where_pandas_counts(load, tmp_path):
    assert load(write_csv(tmp_path / "a.csv", **{"0": A, "1": B, "2": C})).schema.names == [
        "0",
        "1",
        "2",
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"a\.csv is empty: its first line must be the names of the columns"),
        (b"\n\n", r"a\.csv is empty"),
        (bytes(range(256)), r"a\.csv cannot be read as CSV in UTF-8"),
        ("Gr\xf6\xdfe,b\n1,2\n".encode("latin1"), r"a\.csv cannot be read as CSV in UTF-8"),
        (b"a,b,a\n1,2,3\n", r"a\.csv has more than one column a: names must differ"),
        (b"a,b\n1,2\n3\n", r"a\.csv cannot be read: .*Row #3: Expected 2 columns, got 1"),
    ],
)
def test_bad_csv(load, tmp_path, content, message):
    (tmp_path / "a.csv").write_bytes(content)
    with pytest.raises(nice_tf.UserError, match=message):
        load(tmp_path / "a.csv")


def test_what_is_wrong_far_below_is_named_too(load, tmp_path):
    """Beyond the first megabyte, by which the types of the columns are chosen."""
    a, b = np.arange(200_000) + 0.5, np.tile(C, 4000)[:200_000]
    with pytest.raises(
        nice_tf.UserError, match=r"column a of .* has 'oops' in row 150000 \(counted from 0\)"
    ):
        load(write_csv(tmp_path / "a.csv", a=changed(a, 150_000, "oops"), b=b))
    content = csv_bytes({"a": a, "b": b})
    (tmp_path / "a.csv").write_bytes(content + b"1\n")
    with pytest.raises(
        nice_tf.UserError, match=r"cannot be read: .*Row #200002: Expected 2 columns, got 1"
    ):
        load(tmp_path / "a.csv")
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(content)[:-100])
    with pytest.raises(nice_tf.UserError, match=r"a\.csv\.gz cannot be read"):
        load(tmp_path / "a.csv.gz")


def test_bad_parquet(load, tmp_path):
    path = write_parquet(tmp_path / "a.parquet", a=A, b=[[1]] * N, c=C)
    with pytest.raises(
        nice_tf.UserError, match=r"column b of .* is of type list<.*: numbers, text, dates"
    ):
        load(path, columns="a,b")
    assert load(path).schema.ignored == ("b",)
    content = path.read_bytes()
    for damaged in (
        b"",
        b"PAR1",
        content[:-20],
        content[:50] + bytes(len(content) - 800) + content[-750:],
    ):
        path.write_bytes(damaged)
        with pytest.raises(nice_tf.UserError, match=r"a\.parquet cannot be read: \S"):
            load(path)
    twice = pa.Table.from_arrays([pa.array(A), pa.array(B)], names=["a", "a"])
    pa.parquet.write_table(twice, path)
    with pytest.raises(nice_tf.UserError, match=r"a\.parquet has more than one column a"):
        load(path)
    with pytest.raises(
        nice_tf.UserError, match=r"column a of .* integers of size 9\.22337e\+18, beyond 2\^53"
    ):
        load(write_parquet(path, a=C.astype(np.uint64) + np.uint64(2**63), b=B))


@pytest.mark.parametrize("write", [write_csv, write_parquet])
def test_files_that_do_not_fit_together(load, tmp_path, write):
    suffix = write.__name__[6:]
    write(tmp_path / f"0.{suffix}", a=A, b=B)
    write(tmp_path / f"1.{suffix}", a=A, c=B)
    with pytest.raises(
        nice_tf.UserError,
        match=rf"1\.{suffix} has the columns a, c, .*0\.{suffix} has a, b: they must",
    ):
        load(tmp_path)
    write_parquet(tmp_path / "2.parquet", a=A, b=B)
    write_csv(tmp_path / "2.csv", a=A, b=B)
    with pytest.raises(
        nice_tf.UserError, match=r"are CSV and Parquet files: give files of one kind"
    ):
        load(tmp_path)
    with pytest.raises(nice_tf.UserError, match=r"nowhere.*\.csv: there is no such"):
        load(tmp_path / "nowhere*.csv")
    with pytest.raises(nice_tf.UserError, match=r"nowhere\.csv: there is no such file"):
        load(tmp_path / "nowhere.csv")


def test_columns_that_are_missing_are_refused_by_name_and_others_ignored_with_a_word():
    schema = Schema(
        (Column("a", 0.0, 0.0, 1.0), Column("b", 1.0, 0.0, 1.0)), {"year": 2014.0}, ("word",)
    )
    assert schema.check_names(["b", "a"], "x.csv") == []
    assert schema.check_names(["word", "b", "year", "a"], "x.csv") == []
    assert schema.check_names(["", "b", "a", "new"], "x.csv") == [
        "x.csv has columns that the model does not know, which are ignored: (no name), new"
    ]
    with pytest.raises(
        nice_tf.UserError,
        match=r"x\.csv lacks a and also has c, d: the model is of the columns a, b",
    ):
        schema.check_names(["c", "b", "d", "year"], "x.csv")


def test_numbers_that_differ_in_every_row_are_named_once(load, tmp_path):
    """Identifiers; not the numbers of every table of few rows, nor dates, nor what was asked for."""
    generator = np.random.default_rng(5)
    columns = {
        "order": 1000 + np.arange(N),
        "shuffled": generator.permutation(N),
        "customer_id": generator.permutation(10**6)[:N],
        "grams": generator.permutation(10**5)[:N],
        "count": generator.poisson(3.0, N),
        "size": generator.normal(size=N),
    }
    path = write_csv(tmp_path / "a.csv", **columns)
    found = load(path)
    assert found.schema.names == list(columns), "nothing is dropped"
    (warning,) = [line for line in found.warnings if "identifiers" in line]
    assert warning.startswith(
        "columns order, shuffled, customer_id: each has another whole number in every row"
    )
    assert "leave it out with --columns=NAME,..., the names of all others" in warning
    asked = load(path, columns="order,shuffled,customer_id,count")
    assert not any("identifiers" in line for line in asked.warnings)
    asked = load(path, numbers="order,shuffled,customer_id")
    assert not any("identifiers" in line for line in asked.warnings)
    days = pa.array(np.arange(N).astype("datetime64[D]"))
    few = write_parquet(tmp_path / "b.parquet", day=days, size=columns["size"])
    assert not any("identifiers" in line for line in load(few).warnings)


# Missing values, and rows on disk


def test_missing_values_are_drawn_from_their_column(load, tmp_path):
    a, b = changed(A, slice(0, N, 4), ""), changed(C, slice(1, 9), "")
    found = load(write_csv(tmp_path / "a.csv", a=a, b=b), impute=True)
    assert found.warnings[-1] == (
        "missing values were filled with others of their column, test included: a (15, the first "
        "in row 0), b (8, the first in row 1), rows counted from 0"
    )
    assert found.schema.columns[1].step == 1.0
    present = {np.float32(value) for value in a if value != ""}
    values = all_of(found)
    assert set(values[:, 0]) == present and len(values) == N
    assert set(values[:, 1]) <= set(range(9))
    other = all_of(load(tmp_path / "a.csv", impute=True, split_seed=1))
    assert not np.array_equal(sorted_rows(other), sorted_rows(values))


def test_a_block_without_any_value_draws_from_others(load, tmp_path, monkeypatch):
    monkeypatch.setattr("nice_tf.data.tables.table._BLOCK_ROWS", 7)
    a = np.where(np.arange(N) < 20, np.nan, A)
    values = all_of(load(write_parquet(tmp_path / "a.parquet", a=a, b=B), impute=True))
    assert set(values[:, 0]) == set(A[20:].astype(np.float32))
    block = np.array([[np.nan, 1.0], [np.nan, np.nan], [np.nan, 3.0]])
    filled = fill_from_column(block, np.random.default_rng(0), [np.array([7.0]), np.array([9.0])])
    assert (
        filled[:, 0].tolist() == [7.0] * 3 and filled[1, 1] in (1.0, 3.0) and np.isnan(block[0, 0])
    )


@pytest.mark.parametrize("settings", [{}, {"precision": "float64", "columns": "c,a"}])
@pytest.mark.parametrize("write", [write_csv, write_parquet])
def test_on_disk_as_in_memory(load, tmp_path, monkeypatch, caplog, write, settings):
    caplog.set_level("INFO", logger="nice_tf")
    monkeypatch.setattr(
        "nice_tf.data.tables.table._BLOCK_ROWS", 7
    )  # several blocks, the last one smaller
    a = (
        np.where(np.arange(N) % 7, A, np.nan)
        if write is write_parquet
        else changed(A, slice(0, N, 7), "")
    )
    path = write(tmp_path / f"a.{write.__name__[6:]}", a=a, b=B, c=C)
    expected, found = (
        load(path, impute=True, **settings),
        load(path, impute=True, in_memory_mb=0, **settings),
    )
    assert "copying the data to" in caplog.text
    caplog.clear()
    again = load(path, impute=True, in_memory_mb=0, **settings)
    assert not caplog.text
    for on_disk in (found, again):
        assert isinstance(on_disk.train, Rows) and isinstance(expected.train, np.ndarray)
        assert (
            on_disk.description() == expected.description()
            and on_disk.warnings == expected.warnings
        )
        np.testing.assert_array_equal(on_disk.train, expected.train, strict=True)
    load(path, impute=True, in_memory_mb=0, columns="b,c")
    assert "copying the data to" in caplog.text, "other columns, another copy"


def test_float64_keeps_what_float32_cannot(load, tmp_path):
    found = load(write_csv(tmp_path / "a.csv", a=10**9 + C, b=1e9 + A), precision="float64")
    assert found.train.dtype == np.float64 and found.schema.steps.tolist() == [1.0, 0.0]
    expected = np.stack([10**9 + C, 1e9 + A], axis=-1)
    np.testing.assert_array_equal(sorted_rows(all_of(found)), sorted_rows(expected))


def test_rebatched():
    parts = np.split(np.arange(23), [1, 3, 3, 15])
    for size in (1, 4, 10, 23, 50):
        found = list(rebatched(parts, size))
        np.testing.assert_array_equal(np.concatenate(found), np.arange(23))
        assert {len(part) for part in found[:-1]} <= {size} and len(found[-1]) <= size


MEMORY_SCRIPT = """
import sys, nice_tf
from nice_tf.data import dataset

def peak():
    return next(int(line.split()[1]) / 1024 for line in open("/proc/self/status") if line.startswith("VmHWM"))

for path in sys.argv[2:]:
    before = peak()
    found = dataset.load(nice_tf.Config(dataset=path, in_memory_mb=0, data_dir=sys.argv[1], batch_size=7))
    found.description()
print(peak() - before, len(found.train))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from /proc")
def test_memory_does_not_grow_with_the_table(tmp_path, run_command):
    """300,000 rows of 40 numbers, 96 MB in float64, beside a table of a quarter of them."""
    generator = np.random.default_rng(0)
    columns = {f"c{number}": generator.normal(size=300_000) for number in range(40)}
    small = write_parquet(
        tmp_path / "small.parquet", **{name: values[:75_000] for name, values in columns.items()}
    )
    large = tmp_path / "large.parquet"
    pa.parquet.write_table(pa.table(columns), large, row_group_size=50_000)
    finished = run_command("-c", MEMORY_SCRIPT, tmp_path / "cache", small, large)
    assert finished.returncode == 0, finished.stderr
    growth, number = finished.stdout.split()[-2:]
    assert number == "208333" and float(growth) < 60, "MB"


# The density

SMALL = {
    "num_couplings": 3,
    "hidden_units": (8,),
    "activation": "tanh",
    "whitening": "standardize_triangular",
    "epochs": 2,
    "batch_size": 50,
    "num_draws": 3,
    "precision": "float64",
    "epsilon": 1e-8,
}


def mixed_columns(number=400):
    generator = np.random.default_rng(3)
    base = generator.normal(size=number)
    return {
        "count": 5 * generator.poisson(np.exp(1 + base / 2)) + 2,
        "price": np.round(2 + base + generator.normal(size=number) / 2, 1),
        "weight": 1000 * (base + generator.normal(size=number)),
        "flag": np.where(generator.random(number) < 0.3, "true", "false"),
        "kind": np.array(["x", "y"] * (number // 2)),
        "year": np.repeat(2014, number),
    }


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A small run on a table of all kinds of columns: its config, folder, data and result."""
    folder = tmp_path_factory.mktemp("table")
    config = nice_tf.Config(
        dataset=str(write_csv(folder / "mixed.csv", **mixed_columns())), **SMALL
    )
    result = nice_tf.train_and_evaluate(config, folder / "run")
    return config, Workdir(folder / "run"), dataset.load(config), result


def test_the_schema_is_kept(finished):
    _, run, found, _ = finished
    described = run.read_config()[1]
    assert Schema.from_dict(described["schema"]) == found.schema
    assert found.schema.names == ["count", "price", "weight", "flag", "kind"]
    np.testing.assert_allclose(found.schema.steps, [5, 0.1, 0, 1, 1])
    assert found.schema.constants == {"year": 2014.0} and found.schema.ignored == ()
    assert Schema.from_dict(json.loads(json.dumps(found.schema.as_dict()))) == found.schema


def test_a_run_of_other_columns_is_refused(finished, tmp_path):
    config, run, _, _ = finished
    with pytest.raises(
        nice_tf.UserError,
        match=r"run with other settings \(columns: 'count,weight', where the run has ''",
    ):
        nice_tf.train_and_evaluate(dataclasses.replace(config, columns="count,weight"), run.path)
    columns = mixed_columns()
    columns["mass"] = columns.pop("weight")
    original = pathlib.Path(config.dataset).read_bytes()
    try:
        write_csv(pathlib.Path(config.dataset), **columns)
        with pytest.raises(
            nice_tf.UserError,
            match=r"other settings \(.*data schema: .*'mass'.*, where the run has .*'weight'",
        ):
            nice_tf.train_and_evaluate(config, run.path)
    finally:
        pathlib.Path(config.dataset).write_bytes(original)


def test_samples_are_rows_of_the_table(finished):
    _, run, _, _ = finished
    with (run.path / "samples.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 100 and list(rows[0]) == [
        "count",
        "price",
        "weight",
        "flag",
        "kind",
        "year",
    ]
    counts = {int(row["count"]) for row in rows}
    assert {count % 5 for count in counts} == {2} and len(counts) > 3
    assert {row["flag"] for row in rows} == {"true", "false"}
    assert {row["kind"] for row in rows} == {"x", "y"}
    prices = {row["price"] for row in rows}
    assert {len(price.split(".")[1]) for price in prices} == {1} and len(prices) > 10
    assert {row["year"] for row in rows} == {"2014"}
    weights = np.array([float(row["weight"]) for row in rows])
    assert 500 < weights.std() < 5000 and len(set(weights)) == 100, "in the table's own units"
    assert not (run.path / "samples.npy").exists()


@pytest.mark.parametrize(
    ("kind", "value", "text"),
    [
        (pa.timestamp("us"), 1_000_000, "1970-01-01 00:00:01"),
        (pa.timestamp("us"), 1_500_000, "1970-01-01 00:00:01.500000"),
        (pa.timestamp("ms", "+01:00"), 0, "1970-01-01 01:00:00+0100"),
        (pa.time64("us"), 60_000_000, "00:01:00"),
        (pa.date32(), 1, "1970-01-02"),
        (pa.float64(), 2.0, "2"),
    ],
)
def test_csv_has_no_fractions_that_are_zero(kind, value, text):
    assert texts_of(pa.array([value, None], kind)).to_pylist() == [text, None]


def test_amounts_of_money_come_back_with_their_decimals(tmp_path):
    """Nearly all differ, so they are continuous; their samples have no more decimals for that."""
    amounts = np.round(np.random.default_rng(0).lognormal(4, 1, 500), 2)
    path = write_csv(
        tmp_path / "a.csv", amount=amounts, weight=amounts**1.1, half=C.repeat(9)[:500] / 2
    )
    schema, _ = survey(path)
    assert [column.step for column in schema.columns] == [0, 0, 0.5]
    assert [column.decimals for column in schema.columns] == [2, None, None]
    assert Schema.from_dict(json.loads(json.dumps(schema.as_dict()))) == schema
    x = np.array([[12.3456, 12.3456, 1.2], [-0.001, 7.0, 3.0]], np.float32)
    columns = decoded(schema, schema.as_rows(x))
    assert columns["amount"].tolist() == [12.35, 0] and columns["weight"][0] == np.float32(12.3456)
    texts = {name: values.to_pylist() for name, values in for_csv(schema, columns).items()}
    assert texts == {
        "amount": ["12.35", "0.00"],
        "weight": ["12.3456", "7"],
        "half": ["1.0", "3.0"],
    }


def test_a_given_value_keeps_more_decimals_than_its_column():
    schema = Schema((Column("amount", 0.0, 0.0, 9.0, decimals=2),))
    columns = decoded(schema, np.array([[0.0005], [1.25]], np.float32))
    np.testing.assert_array_equal(columns["amount"], np.float32([0.0005, 1.25]))
    assert float(for_csv(schema, columns)["amount"][0].as_py()) == columns["amount"][0]


def test_noise_is_one_step_wide_and_new_at_each_visit(finished):
    config, _, found, _ = finished
    model = model_lib.make_model(config, found)
    values = np.tile(found.train[:1], [5000, 1])
    draws = [model.density_units(values, "train_noise", step).numpy() - values for step in range(2)]
    np.testing.assert_array_equal(draws[0][:, 2], 0.0)  # continuous
    for column in (0, 1, 3):
        step = found.steps[column]
        noise = draws[0][:, column] / step
        assert noise.min() >= -0.5 - 1e-9 and noise.max() <= 0.5 + 1e-9
        np.testing.assert_allclose(noise.mean(), 0, atol=5 * np.sqrt(1 / 12 / noise.size))
        np.testing.assert_allclose(noise.var(), 1 / 12, atol=5 * np.sqrt(1 / 180 / noise.size))
        assert not np.any(draws[0][:, column] == draws[1][:, column])
    without = model_lib.make_model(dataclasses.replace(config, dequantization="none"), found)
    np.testing.assert_array_equal(without.density_units(values, "train_noise", 0), values)


def test_the_result_is_in_the_columns_units(finished):
    _, run, found, result = finished
    flow = nice_tf.load_flow(run.path)
    assert (
        result["num_draws"] == 3 and result["levels"] is None and result["bits_per_dim"] is None
    ), "one is continuous"
    own = (
        np.random.default_rng(9).uniform(-0.5, 0.5, [40, *found.test.shape]) * found.steps
        + found.test
    )
    expected = np.array([flow.log_prob(x).numpy().mean() for x in own])
    np.testing.assert_allclose(result["log_prob"], expected.mean(), atol=4 * expected.std(ddof=1))
    assert expected.std() > 0


def test_other_units_change_the_density_by_their_factor(tmp_path):
    a, b = np.random.default_rng(0).normal(size=[2, 300])
    results = []
    for name, factor in (("a", 1), ("b", 1000)):
        path = write_csv(tmp_path / f"{name}.csv", a=factor * (a + b**2), b=b)
        config = nice_tf.Config(dataset=str(path), **SMALL)
        results.append(nice_tf.train_and_evaluate(config, tmp_path / name)["log_prob"])
    np.testing.assert_allclose(results[0] - results[1], np.log(1000), rtol=1e-6)


def test_a_known_density_is_found(tmp_path):
    """A Gaussian, whose own log-likelihood on the same test rows is known."""
    generator = np.random.default_rng(0)
    scales, root = np.array([1e-3, 50.0, 1e4]), generator.normal(size=[3, 3]) + 2 * np.eye(3)
    x = (generator.normal(size=[3000, 3]) @ root.T + 5) * scales
    path = write_csv(tmp_path / "a.csv", **dict(zip("abc", x.T, strict=True)))
    settings = {**SMALL, "prior": "gaussian", "batch_size": 100, "epochs": 3, "learning_rate": 1e-4}
    config = nice_tf.Config(dataset=str(path), **settings)
    result = nice_tf.train_and_evaluate(config, tmp_path / "run")
    test = dataset.load(config).test
    z = np.linalg.solve(root, (test / scales - 5).T)
    log_volume = np.linalg.slogdet(root)[1] + np.log(scales).sum()
    true = np.mean(-0.5 * np.sum(z**2, axis=0)) - 1.5 * np.log(2 * np.pi) - log_volume
    np.testing.assert_allclose(result["log_prob"], true, atol=0.03)


@pytest.fixture(scope="module")
def integers(tmp_path_factory):
    """A run on two columns on steps of 5 and 0.1: flow, config, data and result."""
    folder, generator = tmp_path_factory.mktemp("integers"), np.random.default_rng(1)
    base = generator.poisson(4, 600)
    columns = {"a": 5 * base + 2, "b": np.round(0.1 * (base + generator.poisson(2, 600)) - 0.3, 1)}
    config = nice_tf.Config(
        dataset=str(write_csv(folder / "a.csv", **columns)), **{**SMALL, "num_draws": 2}
    )
    result = nice_tf.train_and_evaluate(config, folder / "run")
    return nice_tf.load_flow(folder / "run"), config, dataset.load(config), result


def bins(found, per_bin):
    """Every bin of a wide range: values `[bins, 2]`, and points that fill each evenly, `[bins,
    per_bin^2, 2]`.
    """
    (a, b), steps = found.schema.columns, found.steps
    values = np.stack(
        np.meshgrid(
            np.arange(a.low - 60, a.high + 60, 5), b.low + 0.1 * np.arange(-12, 35), indexing="ij"
        ),
        axis=-1,
    ).reshape(-1, 1, 2)
    offsets = (np.arange(per_bin) + 0.5) / per_bin - 0.5
    noise = np.stack(np.meshgrid(offsets, offsets), axis=-1).reshape(1, -1, 2) * steps
    return values[:, 0], values + noise


def test_probabilities_of_integers_add_up_to_one(integers):
    flow, _, found, _ = integers
    assert found.steps.tolist() == [5.0, 0.1]
    _, points = bins(found, 4)
    densities = np.exp(flow.log_prob(points.reshape(-1, 2)).numpy()).reshape(points.shape[:2])
    np.testing.assert_allclose(np.sum(densities.mean(axis=1) * 5 * 0.1), 1.0, atol=0.01)


def test_bits_of_integers_bound_those_of_their_probabilities(integers):
    flow, config, found, result = integers
    by_hand = (-result["log_prob"] / 2 - np.log(5 * 0.1) / 2) / np.log(2)
    np.testing.assert_allclose(result["bits_per_dim"], by_hand, rtol=1e-9)
    values, points = bins(found, 16)
    keys = {tuple(key): number for number, key in enumerate(np.round(values, 3).tolist())}
    rows = [keys[tuple(row)] for row in np.round(found.test, 3).tolist()]
    density = np.exp(flow.log_prob(points[rows].reshape(-1, 2)).numpy()).reshape(len(rows), -1)
    exact = (
        np.mean(-np.log2(density.mean(axis=1) * 5 * 0.1)) / 2
    )  # of the probability of each test row
    many = dataclasses.replace(config, num_draws=200, batch_size=100)
    draws = likelihood.log_probs(
        flow, found.test, levels=None, config=many, split="test", steps=found.steps
    )
    bound = metrics.bits_per_dim(
        metrics.importance_weighted(draws).mean(), 2, found.schema.bins_per_unit
    )
    np.testing.assert_allclose(bound, exact, atol=0.01)
    assert exact < result["importance_weighted_bits_per_dim"] < result["bits_per_dim"] < exact + 0.3
    _, counts = np.unique(found.test, axis=0, return_counts=True)
    share = counts / counts.sum()
    assert exact > -np.sum(share * np.log2(share)) / 2, (
        "no model has fewer bits than the histogram of the rows itself"
    )


TABLES = {
    "200 x 2": lambda normal: normal(size=[200, 2]) @ [[1, 2], [0, 1]],
    "more columns than rows": lambda normal: (
        normal(size=[150, 10]) @ normal(size=[10, 300]) + normal(size=[150, 300])
    ),
    "collinear": lambda normal: normal(size=[200, 2]) @ [[1, 0, 2, 1000], [0, 1, -1, 1000]],
}


@pytest.mark.parametrize("name", slow_except(TABLES, "collinear"))
def test_the_settings_for_tables_take_any(tmp_path, name):
    values = TABLES[name](np.random.default_rng(0).normal)
    path = write_csv(
        tmp_path / "a.csv", **{f"c{number}": column for number, column in enumerate(values.T)}
    )
    flag_values = flags.FlagValues()
    define_flags(flag_values)
    flag_values(
        ["train.py", f"--flagfile={ROOT}/configs/table.flags", f"--dataset={path}", "--epochs=3"]
    )
    config = from_flags(flag_values)
    result = nice_tf.train_and_evaluate(config, tmp_path / "run")
    found = dataset.load(dataclasses.replace(config, batch_size=1))
    mean, deviation = (
        found.train.mean(axis=0, dtype=np.float64),
        found.train.std(axis=0, dtype=np.float64),
    )
    z = (found.test - mean) / deviation
    independent = -0.5 * np.sum(z**2 + np.log(2 * np.pi) + 2 * np.log(deviation), axis=-1)
    assert result["event_size"] == values.shape[1]
    assert independent.mean() + 0.3 < result["log_prob"] < np.inf, (
        "better than columns by themselves"
    )
