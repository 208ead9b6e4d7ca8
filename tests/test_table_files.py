"""Tables as others write them: suffixes, formats of CSV, types of Parquet, what is damaged."""

import contextlib
import csv
import decimal
import gzip
import io
import json
import random

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st
from table_files import write_csv, write_parquet

import nice_tf
from nice_tf.data import dataset, sources
from nice_tf.data.schema import Column, Schema, csv_bytes, same_number
from nice_tf.data.tables import csv_files
from nice_tf.data.tables.csv_delimiters import sniff_delimiter
from nice_tf.data.tables.csv_format import DELIMITERS, CsvFormat
from nice_tf.data.tables.kinds import Kinds
from nice_tf.data.tables.labels import read_labels
from nice_tf.data.tables.paths import left_out, table_files
from nice_tf.data.tables.survey_table import survey_table
from nice_tf.data.tables.table import Table
from nice_tf.errors import UserError
from nice_tf.scoring import files as batch
from nice_tf.scoring import imputation
from nice_tf.scoring import scorer as scorer_lib
from nice_tf.scoring.inputs import TableInput, open_input
from nice_tf.scoring.model import Model
from nice_tf.training.run import default_workdir

N = 60
_DRAWS = np.random.default_rng(0)
A, B, C = _DRAWS.normal(size=N), _DRAWS.normal(size=N), _DRAWS.integers(0, 9, N)


def write_text(path, lines, delimiter=";", mark=","):
    """Columns given by commas and dots, written with another delimiter and decimal mark."""
    return write_rows(
        path, [[cell.replace(".", mark) for cell in line.split(",")] for line in lines], delimiter
    )


def survey(path, columns=(), **options):
    files = path if isinstance(path, list) else [path]
    return survey_table(Table(files, **options), columns)


def values(path, names):
    return np.concatenate(list(Table([path]).blocks(names)))


@pytest.fixture
def load(tmp_path):
    def load(path, **changes):
        changes = {"batch_size": 4, "data_dir": str(tmp_path / "cache"), **changes}
        return dataset.load(nice_tf.Config(dataset=str(path), **changes))

    return load


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A small model of a and b, with a constant k, from Parquet in 32 bits."""
    folder, generator = tmp_path_factory.mktemp("table"), np.random.default_rng(0)
    a = generator.normal(size=200)
    columns = {"a": a, "b": a + generator.normal(size=200), "k": np.full(200, 0.1)}
    path = write_parquet(
        folder / "train.parquet", **{name: pa.array(x, pa.float32()) for name, x in columns.items()}
    )
    config = nice_tf.read_flagfile(
        ROOT / "configs" / "table.flags",
        dataset=str(path),
        hidden_units=(4,),
        num_couplings=2,
        epochs=1,
        num_draws=1,
        precision="float32",
    )
    nice_tf.train_and_evaluate(config, folder / "run")
    return str(folder / "run")


def rows(number=6, **others):
    generator = np.random.default_rng(1)
    return {
        "a": generator.normal(size=number),
        "b": generator.normal(size=number),
        "k": np.full(number, 0.1),
        **others,
    }


# Names of files


def test_suffixes_of_any_case_are_tables(load, tmp_path):
    folder = tmp_path / "set"
    names = ["0.csv", "1.CSV", "2.Csv.Gz", "3.csv.gz"]
    for number, name in enumerate(names):
        content = csv_bytes({"a": A + 10 * number, "b": B + number})
        folder.mkdir(exist_ok=True)
        (folder / name).write_bytes(
            gzip.compress(content) if name.lower().endswith(".gz") else content
        )
    assert table_files(str(folder)) == [str(folder / name) for name in names]
    found = load(folder)
    assert (
        sum(map(len, (found.train, found.validation, found.test))) == 4 * N and found.warnings == ()
    )
    for number, name in enumerate(names):
        np.testing.assert_array_equal(values(folder / name, ["a"])[:, 0], A + 10 * number)
        assert len(load(folder / name).train) == 42 and sources._is_table(str(folder / name))
        assert TableInput(str(folder / name), found.schema).num_rows == N
    path = write_parquet(tmp_path / "A.PARQUET", a=A, b=B)
    assert len(load(path).train) == 42 and TableInput(str(path), found.schema).num_rows == N


def test_files_that_are_left_out_are_said(load, run, tmp_path):
    folder = tmp_path / "set"
    write_csv(folder / "one.csv", a=A, b=B)
    (folder / "notes.txt").touch()
    (folder / ".hidden").touch()
    (folder / "deeper").mkdir()
    warning = "1 of 2 files are no tables and are left out: notes.txt"
    for name in (folder, folder / "*"):
        assert load(name).warnings == (warning,) and left_out(str(name)) == (warning,)
    for name in (folder / "one.csv", folder / "*.csv", tmp_path / "nowhere"):
        assert left_out(str(name)) == ()
    said = batch.score_file(run, str(folder), str(tmp_path / "s.csv"))
    assert said.startswith(f"warning: {warning}\n")
    assert batch.fill_file(run, str(folder), str(tmp_path / "f.csv")).startswith(
        f"warning: {warning}\n"
    )


@pytest.mark.parametrize(
    "name", ["data[1].csv", "what?.csv", "a:b.parquet", "50%.parquet", "file:x.csv", "x y#.csv"]
)
def test_a_path_that_exists_is_no_pattern(load, run, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    write = write_parquet if name.endswith("parquet") else write_csv
    write(tmp_path / name, a=A, b=B)
    write(tmp_path / "data1.csv", a=A, b=B, c=C)  # what a pattern would find
    assert load(name).schema.names == ["a", "b"] and default_workdir(
        nice_tf.Config(dataset=name)
    ) == (f"runs/{name.rsplit('.', 1)[0]}")
    assert table_files(name) == [name] and left_out(name) == ()
    source = open_input(name, Model.load(run))
    assert source.num_rows == N and sum(len(block.values) for block in source.blocks(7)) == N


def test_beam_finds_a_file_with_brackets(tmp_path):
    pipeline = pytest.importorskip("nice_tf.scoring.beam", exc_type=ImportError)
    path = str(write_csv(tmp_path / "data[1].csv", a=A))
    write_csv(tmp_path / "data1.csv", a=A)
    assert pipeline._files(path) == [path] and pipeline._files(f"{tmp_path}/data?.csv") == [
        f"{tmp_path}/data1.csv"
    ]


@pytest.mark.parametrize("name", ["a.csv.gz", "a.CSV.GZ", "a.csv"])
def test_beam_copies_a_file_as_it_is(tmp_path, monkeypatch, name):
    pipeline = pytest.importorskip("nice_tf.scoring.beam", exc_type=ImportError)
    content = csv_bytes({"a": A, "b": B})
    (tmp_path / name).write_bytes(
        gzip.compress(content) if name.lower().endswith("gz") else content
    )
    monkeypatch.setattr("os.path.exists", lambda path: False)
    with pipeline._local(str(tmp_path / name)) as copied:
        assert copied != str(tmp_path / name) and Table([copied]).num_rows == N


def test_a_folder_of_tables_is_not_walked(tmp_path, monkeypatch):
    write_csv(tmp_path / "below" / "deep" / "a.csv", a=A)
    monkeypatch.setattr("os.walk", None)
    assert (
        table_files(str(tmp_path)) == []
        and not sources._is_table(str(tmp_path))
        and not sources._is_table("/")
    )


# Constants, and what was stored in fewer digits

FLOATS = {"double": np.float64, "float": np.float32, "halffloat": np.float16}


@pytest.mark.parametrize("scored", FLOATS)
@pytest.mark.parametrize("trained", FLOATS)
@pytest.mark.parametrize("value", [0.1, 1 / 3, 7.0, -1234.5])
def test_a_constant_stored_in_another_precision_is_the_same(tmp_path, value, trained, scored):
    constant = pa.array(np.full(N, value).astype(FLOATS[trained]))
    schema, _ = survey(write_parquet(tmp_path / "train.parquet", a=A, b=B, k=constant))
    schema = Schema.from_dict(json.loads(json.dumps(schema.as_dict())))
    given = np.array([value, value * 1.01 + 0.1, np.nan]).astype(FLOATS[scored])
    path = write_parquet(tmp_path / "score.parquet", a=A[:3], b=B[:3], k=pa.array(given))
    assert off_constant(schema, path) == ["", "k", ""]
    if scored != "halffloat":  # as text, whose digits tell
        shortest = (
            [given.astype(str)] if value != 1 / 3 else []
        )  # of thirds, eight digits are another number
        for texts in (*shortest, given.astype(np.float64).astype(str)):
            path = write_csv(tmp_path / "score.csv", a=A[:3], b=B[:3], k=texts)
            assert off_constant(schema, path) == ["", "k", ""]


def off_constant(schema, path):
    (block,) = TableInput(str(path), schema).blocks(100)
    model = Model("", {"schema": schema.as_dict()}, signatures={})
    scorer = scorer_lib.Scorer(model, top=0)
    found = scorer.off_constant(block)
    named = np.full(len(next(iter(found.values()))), "", object)
    for name, differs in found.items():
        named[differs] = name
    return named.tolist()


def test_constants_differ_where_their_digits_do():
    assert same_number(0.1, float(np.float32(0.1))) and same_number(float(np.float32(0.1)), 0.1)
    assert not same_number(0.1, 0.10000001) and not same_number(2014.0, 2014.00005)
    assert not same_number(1.015625, 1.0157) and same_number(1.015625, 1.0157, np.float16)
    assert not same_number(
        float(np.float32(0.1)), float(np.nextafter(np.float32(0.1), np.float32(1)))
    )
    assert not same_number(1e300, 0.1) and not same_number(
        1e300, float(np.float32(0.1)), np.float32
    )


@pytest.mark.parametrize("value", [0.119, 0.175])  # to float64 these are off by a rounding
def test_a_constant_decimal_is_that_of_a_text(tmp_path, value):
    constant = pa.array([decimal.Decimal(str(value))] * N, pa.decimal128(20, 3))
    schema, _ = survey(write_parquet(tmp_path / "a.parquet", a=A, b=B, k=constant))
    assert (
        off_constant(schema, write_csv(tmp_path / "a.csv", a=A, b=B, k=np.full(N, value)))
        == [""] * N
    )


def test_a_schema_of_before_has_the_precision_in_its_value():
    """Earlier versions kept names, constants and what was left out."""
    old = {
        "columns": [{"name": "a", "step": 0.0, "low": 0.0, "high": 1.0}],
        "constants": {"k": 0.10000000149011612},
        "ignored": ["w"],
    }
    schema = Schema.from_dict(old)
    assert schema.as_dict() == old, "a run that is continued has the same description"
    assert schema.differs("k", np.array([0.1, 0.2, np.nan, 0.10000000149011612])).tolist() == [
        False,
        True,
        False,
        False,
    ]


def test_files_of_two_precisions_have_steps_and_constants_of_the_coarser(tmp_path):
    steps = C / 10 + 0.3
    single = {
        name: pa.array(x, pa.float32()) for name, x in {"s": steps, "k": np.full(N, 0.1)}.items()
    }
    files = [
        write_parquet(tmp_path / "1.parquet", **single, a=A),
        write_parquet(tmp_path / "2.parquet", s=steps, k=np.full(N, 0.1), a=A),
    ]
    for order in (files, files[::-1]):
        schema, _ = survey(order)
        assert list(schema.constants) == ["k"] and schema.columns[0] == Column("s", 0.1, 0.3, 1.1)


def test_the_same_table_in_other_types_is_scored_alike(run, tmp_path):
    columns = rows(40)
    columns["b"] = np.rint(columns["b"] * 3)
    expected = None
    for name, kinds in {
        "double": {},
        "single": {"a": pa.float32(), "k": pa.float32()},
        "integers": {"b": pa.int16()},
        "csv": None,
    }.items():
        if kinds is None:
            path = write_csv(tmp_path / "rows.csv", **columns)
        else:
            arrays = {
                key: pa.array(x).cast(kinds.get(key, pa.float64())) for key, x in columns.items()
            }
            path = write_parquet(tmp_path / f"{name}.parquet", **arrays)
        batch.score_file(run, str(path), str(tmp_path / f"{name}_scores.parquet"))
        found = pq.read_table(tmp_path / f"{name}_scores.parquet")
        assert set(found["off_constant"].to_pylist()) == {""}
        expected = expected or found
        np.testing.assert_allclose(
            found["log_prob"].to_numpy(), expected["log_prob"].to_numpy(), rtol=1e-6
        )


def test_labels_are_the_same_in_any_integer_type(load, tmp_path):
    folder = tmp_path / "set"
    write_parquet(folder / "train.parquet", a=A, b=B, y=pa.array(C % 2, pa.int8()))
    write_parquet(folder / "test.parquet", a=A, b=B, y=pa.array(C % 2, pa.uint32()))
    assert load(folder, condition_on="y").labels.classes == ("0", "1")
    word = pa.array(np.where(C % 2, "x", "y").tolist(), pa.string_view())
    assert load(
        write_parquet(tmp_path / "v.parquet", a=A, b=B, y=word), condition_on="y"
    ).labels.classes == ("x", "y")


# CSV: line breaks, texts, numbers


def many_notes(number):
    """Megabytes of cells with line breaks, in which no row looks like the next."""
    return {
        "id": np.arange(number),
        "note": [f"first line {k}\nsecond, line {k % 7}\n" * (k % 3) for k in range(number)],
        "a": np.arange(number) / 7,
    }


def test_line_breaks_in_quoted_cells_are_read_beyond_a_block(tmp_path):
    columns = many_notes(90_000)
    path = write_csv(tmp_path / "notes.csv", **columns)
    assert path.stat().st_size > 2 * 2**21
    schema, found = survey(path)
    assert found.num_rows == Table([path]).num_rows == 90_000 and schema.ignored == ("note",)
    np.testing.assert_array_equal(
        values(path, ["id", "a"]), np.stack([columns["id"], columns["a"]], axis=-1)
    )
    columns["a"] = columns["a"].astype(object)
    columns["a"][80_000] = "oops"
    with pytest.raises(
        UserError, match=r"column a of .* has 'oops' in row 80000 \(counted from 0\)"
    ):
        survey(write_csv(tmp_path / "notes.csv", **columns))


CELLS = st.text(st.sampled_from('ab1 ,;"\n\r.'), max_size=12)
TEXTS = st.lists(
    st.tuples(CELLS, st.floats(allow_nan=False, allow_infinity=False)), min_size=1, max_size=20
)


@settings(derandomize=True, max_examples=120, deadline=None)
@given(TEXTS, st.sampled_from(DELIMITERS), st.integers(5, 200))
def test_rows_are_those_of_pythons_csv_whatever_the_block(
    tmp_path_factory, table, delimiter, block
):
    path = tmp_path_factory.getbasetemp() / "block.csv"
    write_rows(path, [["text", "number"], *table], delimiter)
    expected = read_rows(path, delimiter)[1:]
    before = csv_files._BLOCK_BYTES
    try:
        csv_files._BLOCK_BYTES = block
        types = {"number": pa.float64(), "text": pa.string()}
        batches = csv_files.batches(
            str(path), CsvFormat(delimiter), types, strings_can_be_null=False
        )
        found = [row for batch in batches for row in batch.to_pylist()]
        assert csv_files.first_types(str(path), CsvFormat(delimiter))["number"] in (
            pa.float64(),
            pa.int64(),
        )
    finally:
        csv_files._BLOCK_BYTES = before
    assert [(row["text"], row["number"]) for row in found] == [
        (text, float(number)) for text, number in expected
    ]


def test_a_row_longer_than_a_block_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(csv_files, "_BLOCK_BYTES", 64)
    path = write_csv(tmp_path / "a.csv", a=A, w=["x\n" * (10 * k) for k in range(N)], b=B)
    assert survey(path)[0].names == ["a", "b"]
    np.testing.assert_array_equal(values(path, ["a", "b"]), np.stack([A, B], axis=-1))


def sparse(share, text="C85", number=N):
    return np.where(np.arange(number) % round(1 / share) == 1, text, "")


@pytest.mark.parametrize("write", [write_csv, write_parquet])
def test_text_that_is_mostly_empty_is_a_category_with_gaps(load, tmp_path, write):
    cabin = np.where(np.arange(N) % 10 == 1, "B5", sparse(0.2))
    cabin = cabin if write is write_csv else np.where(cabin == "", None, cabin)
    path = write(tmp_path / f"a.{write.__name__[6:]}", a=A, cabin=cabin, b=B)
    with pytest.raises(UserError, match=r"missing values in cabin \(48, the first in row 0\)"):
        load(path)
    found = load(path, impute=True)
    assert found.schema.columns[1].categories == ("B5", "C85")
    assert set(found.train[:, 1]) == {0, 1}
    with pytest.raises(UserError, match=r"column cabin of .* has 'B5' in row 1 \(counted from 0\)"):
        load(path, numbers="cabin")
    typo = np.where(np.arange(N) == 31, "oops", sparse(0.2, "4.5"))
    typo = typo if write is write_csv else np.where(typo == "", None, typo)
    with pytest.raises(
        UserError, match=r"column price of .* has 'oops' in row 31 \(counted from 0\)"
    ):
        load(write(tmp_path / f"b.{write.__name__[6:]}", a=A, price=typo, b=B))


def test_columns_that_start_empty_are_what_their_cells_are(tmp_path, monkeypatch):
    monkeypatch.setattr(csv_files, "_BLOCK_BYTES", 256)
    late = lambda cells: ["" if k < 30 else str(cells[k]) for k in range(N)]  # noqa: E731
    path = write_csv(
        tmp_path / "a.csv",
        a=A,
        note=late(["refund"] * N),
        count=late(C),
        flag=late(["true", "false"] * N),
        b=B,
    )
    assert csv_files.first_types(str(path), CsvFormat())["note"] == pa.null()
    schema, found = survey(path)
    assert schema.names == ["a", "count", "flag", "b"] and schema.constants == {"note": 0}
    assert found.missing(schema) == {"count": (30, 0), "flag": (30, 0)}
    with pytest.raises(UserError, match=r"column a of .* has 'oops' in row 45"):
        survey(
            write_csv(tmp_path / "a.csv", a=late(["5"] * 45 + ["oops"] * 15)[:55] + ["5"] * 5, b=B)
        )
    mixed = write_csv(tmp_path / "a.csv", a=late(["true"] * (N - 1) + ["7.5"]), b=B, c=C)
    with pytest.raises(UserError, match=r"a of .* has '7\.5' in row 59 .*true or false in most"):
        survey(mixed)
    mixed = write_csv(tmp_path / "a.csv", a=late(["true"] * (N - 1) + ["yes"]), b=B, c=C)
    with pytest.raises(UserError, match=r"has 'yes' in row 59 .* true or false in any letters, or"):
        survey(mixed)
    labelled = write_csv(tmp_path / "a.csv", a=A, b=B, y=late(["x"] * N))
    assert set(read_labels(Table([labelled]), "y")) == {"", "x"}


def test_columns_that_start_with_numbers_and_are_text_are_categories(tmp_path, monkeypatch):
    monkeypatch.setattr(csv_files, "_BLOCK_BYTES", 256)
    path = write_csv(tmp_path / "a.csv", a=A, code=["1"] * 20 + ["x1"] * 40, b=B)
    assert csv_files.first_types(str(path), CsvFormat())["code"] == pa.int64()
    assert survey(path)[0].columns[1].categories == ("x1", "1")
    assert survey(path, ["a", "code"])[0].columns[1].categories == ("x1", "1")
    few = write_csv(tmp_path / "b.csv", a=A, code=["1"] * 40 + ["x1"] * 20, b=B)
    for columns in ([], ["a", "code"]):
        with pytest.raises(UserError, match=r"column code of .* has 'x1' in row 40 .*categories"):
            survey(few, columns)
    with pytest.raises(UserError, match=r"column code of .* has 'x1' in row 20 "):
        survey_table(Table([path]), kinds=Kinds(numbers=["code"]))
    kept = survey_table(Table([few]), kinds=Kinds(categories=["code"]))[0]
    assert kept.columns[1].categories == ("1", "x1")
    flags = write_csv(tmp_path / "c.csv", a=A, flag=["true"] * 50 + ["perhaps"] * 10, b=B)
    with pytest.raises(UserError, match=r"column flag of .* has 'perhaps' in row 50"):
        survey(flags)


def test_text_of_other_bytes_is_left_out(tmp_path):
    path = write_csv(tmp_path / "a.csv", a=np.tile(A, 9), w=["text"] * 9 * N, b=np.tile(B, 9))
    path.write_bytes(
        path.read_bytes() + b"0.5,\xff\xfe,0.5\n"
    )  # beyond what is decoded with the names
    schema, found = survey(path)
    assert schema.ignored == ("w",)
    assert "column w has text that is not in UTF-8 and is left out" in found.warnings(schema)


@pytest.mark.parametrize(
    "kind", [None, pa.null(), pa.float64(), pa.int64(), pa.decimal128(9, 2), pa.bool_()], ids=str
)
def test_columns_without_any_value_are_left_out_and_said(load, tmp_path, kind):
    write, none = (write_parquet, pa.nulls(N, kind)) if kind else (write_csv, [""] * N)
    path = write(tmp_path / f"a.{write.__name__[6:]}", a=A, gone=none, b=B)
    for impute in (False, True):
        found = load(path, impute=impute)
        assert found.schema.names == ["a", "b"] and found.schema.ignored == ("gone",)
        assert found.warnings == ("column gone has no value at all and is left out",)
    with pytest.raises(
        UserError, match="column gone has no value at all: leave it out with columns"
    ):
        load(path, columns="a,b,gone", impute=True)
    only = write(tmp_path / f"b.{write.__name__[6:]}", gone=none)
    with pytest.raises(
        UserError, match="no column of numbers is left: column gone has no value at all"
    ):
        load(only)


@pytest.mark.parametrize("name", ["Unnamed: 0", "Unnamed: 0.1", "Unnamed: 0_level_0", "...1"])
def test_an_index_of_pandas_is_left_out_and_said(load, tmp_path, name):
    for index in (
        np.arange(N),
        np.arange(N) + 1,
        np.random.default_rng(0).permutation(N),
        np.arange(N) % 45,
    ):
        found = load(write_csv(tmp_path / "a.csv", **{name: index, "a": A, "b": B}))
        assert found.schema.names == ["a", "b"] and found.schema.ignored == (name,)
        assert found.warnings == (
            f"column {name} counts the rows, as pandas writes them, and is left out; columns keeps "
            "it",
        )
        assert load(tmp_path / "a.csv", columns=f"{name},a,b").schema.names == [name, "a", "b"]
    for values in (A, C, -np.arange(N), np.arange(N) / 2):  # what does not count rows is a column
        assert (
            name
            in load(write_csv(tmp_path / "a.csv", **{name: values, "a": A, "b": B})).schema.names
        )
    assert load(write_csv(tmp_path / "a.csv", count=np.arange(N), a=A)).schema.names == [
        "count",
        "a",
    ]


HUGE = {
    "2^63": [str(2**63 + k) for k in range(N)],
    "2^53": [
        str(2**53 - N + 2 + k) for k in range(N)
    ],  # the last is 2^53 + 1, the one before it in float64
    "10^20": [str(10**20 + 7 * k) for k in range(N)],
    "decimals": [f"{10**18 + k}.5" for k in range(N)],
}


@pytest.mark.parametrize("precision", ["float32", "float64"])
@pytest.mark.parametrize("texts", HUGE.values(), ids=HUGE)
def test_integers_that_become_one_are_refused(load, tmp_path, texts, precision):
    message = (
        r"column id of .* has integers of size .*, beyond 2\^53, which .* leave the column out"
    )
    with pytest.raises(UserError, match=message):
        load(write_csv(tmp_path / "a.csv", id=texts, a=A, b=B), precision=precision)
    numbers = pa.array([decimal.Decimal(text) for text in texts], pa.decimal128(38, 1))
    with pytest.raises(UserError, match=message):
        load(write_parquet(tmp_path / "a.parquet", id=numbers, a=A, b=B), precision=precision)
    assert load(tmp_path / "a.csv", columns="a,b").schema.names == ["a", "b"]


def test_large_floats_are_no_integers(tmp_path):
    for texts in ((1e17 * A).astype(str), [f"{1e30 * x:.1f}" for x in A]):
        assert survey(write_csv(tmp_path / "a.csv", a=texts, b=B))[0].names == ["a", "b"]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("factor", "precision", "message"),
    [
        (
            1e39,
            "float32",
            r"values up to .*e\+39: float32 takes them up to 3\.4e\+37\. Divide them, or give precision f",
        ),
        (
            1e300,
            "float32",
            r"values up to .*: float32 takes them up to 3\.4e\+37\. Divide them, or leave the column out",
        ),
        (
            1e300,
            "float64",
            r"values up to .*: float64 takes them up to 1\.3e\+151\. Divide them, or leave the column",
        ),
    ],
)
def test_values_beyond_a_type_are_named(load, tmp_path, factor, precision, message):
    path = write_csv(tmp_path / "a.csv", a=factor * A, b=B)
    with pytest.raises(UserError, match=f"column a has {message}"):
        load(path, precision=precision)


@pytest.mark.filterwarnings("error")
def test_large_values_that_a_type_holds_are_taken(load, tmp_path):
    for factor, precision in ((1e36, "float32"), (1e150, "float64")):
        found = load(write_csv(tmp_path / "a.csv", a=factor * A, b=B), precision=precision)
        assert np.all(np.isfinite(found.train))


def test_float64_is_advised_where_it_helps(load, tmp_path):
    two = 1e17 + 16.0 * (C % 2)
    with pytest.raises(
        UserError,
        match=r"cannot tell them apart\. Take an offset off them, or leave the column out",
    ):
        load(write_parquet(tmp_path / "a.parquet", a=two, b=B), precision="float64")
    path = write_csv(tmp_path / "a.csv", a=8 * 10**15 + C, b=B)
    with pytest.raises(
        UserError,
        match=r"in steps of 1: float32 cannot tell them apart\. .*, or give precision float64",
    ):
        load(path)
    assert load(path, precision="float64").schema.steps.tolist() == [1.0, 0.0]


def test_a_value_beyond_the_models_type_is_named_at_scoring(run, tmp_path):
    columns = rows()
    columns["b"] = [*columns["b"][:4], 1e39, 0.0]
    with pytest.raises(
        UserError,
        match=r"column b of input .* has 1e\+39 in row 4 .*: the model is of float32, which",
    ):
        batch.score_file(
            run, str(write_csv(tmp_path / "rows.csv", **columns)), str(tmp_path / "s.csv")
        )
    assert [path.name for path in tmp_path.iterdir()] == ["rows.csv"]


# CSV of other formats

LINES = ["a,b,c"] + [
    f"{a!r},{b!r},{c}" for a, b, c in zip(A.tolist(), B.tolist(), C.tolist(), strict=True)
]
FORMATS = [(";", ","), (";", "."), ("\t", ","), ("\t", "."), ("|", "."), ("|", ",")]


@pytest.mark.parametrize(("delimiter", "mark"), FORMATS)
def test_other_delimiters_and_marks_are_read(load, tmp_path, delimiter, mark):
    expected = load(write_csv(tmp_path / "plain.csv", a=A, b=B, c=C))
    found = load(write_text(tmp_path / "other.csv", LINES, delimiter, mark))
    np.testing.assert_array_equal(found.train, expected.train)
    assert (found.schema.delimiter, found.schema.decimal) == (delimiter, mark)
    assert (
        f"read as CSV with {delimiter!r} between columns and {mark!r} before decimals"
        in found.schema.describe()
    )
    assert (
        "read as" not in expected.schema.describe() and "delimiter" not in expected.schema.as_dict()
    )
    assert Schema.from_dict(json.loads(json.dumps(found.schema.as_dict()))) == found.schema
    compressed = tmp_path / "other.csv.gz"
    compressed.write_bytes(gzip.compress(b"\xef\xbb\xbf" + (tmp_path / "other.csv").read_bytes()))
    np.testing.assert_array_equal(load(compressed).train, expected.train)


def test_settings_say_what_a_file_does_not(load, tmp_path):
    path = write_text(tmp_path / "a.csv", LINES, ":", ",")
    assert load(path, delimiter=":", decimal=",").schema.names == ["a", "b", "c"]
    quoted = write_text(tmp_path / "quoted.csv", LINES, ",", ",")
    assert load(quoted, decimal=",").schema.names == ["a", "b", "c"]
    tabs = write_text(tmp_path / "tabs.csv", LINES, "\t", ".")
    assert nice_tf.Config(delimiter="\\t").delimiter == "\t"
    assert load(tabs, delimiter="\\t").schema.names == ["a", "b", "c"]
    with pytest.raises(UserError, match="a;b;c has another text in most of its rows"):
        survey(write_text(tmp_path / "b.csv", LINES, ";", "."), delimiter=",")


@pytest.mark.parametrize("value", [";;", "a", "1", '"', ".", "-", "\n", "é"])
def test_bad_delimiters_are_refused(value):
    with pytest.raises(UserError, match="delimiter must be one character of ASCII"):
        nice_tf.Config(delimiter=value)
    with pytest.raises(UserError, match=r"decimal must be one of , \., ,, got ';'"):
        nice_tf.Config(decimal=";")


def read_rows(path, delimiter):
    with open(path, newline="") as file:
        return list(csv.reader(file, delimiter=delimiter))


def write_rows(path, table, delimiter):
    with open(path, "w", newline="") as file:
        csv.writer(file, delimiter=delimiter).writerows(table)
    return path


def semicolons(*rows):
    return "\n".join(["n;a;b", *(f"{k};{row}" for k, row in enumerate(rows))]) + "\n"


UNCLEAR = {
    "thousands and decimals": (
        semicolons(*["1.234,56;0,5"] * 9),
        r"column a .* has '1.234,56' in row 0 .* no marks",
    ),
    "some thousands": (
        semicolons(*["34,56;0,5"] * 8, "1.234,56;0,5"),
        r"has '1.234,56' in row 8 .* a decimal comma",
    ),
    "whole thousands": (
        semicolons(*["1.234;0,5"] * 9),
        r"column a of .* has '1.234' in row 0 .*, and a decimal comma",
    ),
    "spaces": (
        semicolons(*["12 345,6;0,5"] * 9),
        r"has '12 345,6' in row 0 .* must have no marks between thousands",
    ),
    "thousands of dots": (
        semicolons(*["1,234.5;0.5"] * 9),
        r"has '1,234.5' in row 0 .*, and a decimal dot",
    ),
    "commas or thousands": (
        semicolons(*["1,234;12,500"] * 9),
        r"has '1,234' in column a: whether .* it as decimal",
    ),
    "dots or thousands": (
        semicolons(*["1.234;12.500"] * 9),
        r"has '1.234' in column a: whether .* it as decimal",
    ),
    "both marks": (
        semicolons(*["1,5;2.5"] * 9),
        r"has '1,5' in column a and '2.5' in column b: whether a comma or",
    ),
    "both delimiters": (
        "a,x;b\n" + "1,5;2\n" * 9,
        r"may have a comma or a semicolon between its columns",
    ),
}


@pytest.mark.parametrize(("content", "message"), UNCLEAR.values(), ids=UNCLEAR)
def test_what_could_be_read_in_two_ways_is_refused(tmp_path, content, message):
    path = tmp_path / "a.csv"
    path.write_text(content)
    with pytest.raises(UserError, match=message):
        survey(path)


def test_a_setting_makes_it_clear(tmp_path):
    (tmp_path / "a.csv").write_text(semicolons(*[f"1,{k}34;12,5{k}0" for k in range(1, 9)]))
    with pytest.raises(UserError, match="Give it as decimal"):
        survey(tmp_path / "a.csv")
    (_, a, b) = survey(tmp_path / "a.csv", decimal=",")[0].columns
    assert (a.low, a.high, b.low) == (1.134, 1.834, 12.51)
    with pytest.raises(
        UserError, match=r"has '1,134' in row 0 .* no marks between thousands, and a decimal dot"
    ):
        survey(tmp_path / "a.csv", decimal=".")


PLAIN = {
    "a text with semicolons": "text\n" + "\n".join(f"word;{k}" for k in range(9)),
    "beside numbers": "id,note\n" + "\n".join(f"{k},a;b;c" for k in range(9)),
    "in its name, too": "id,note;remark\n" + "\n".join(f"{k},a;b" for k in range(9)),
    "quoted": 'id,"note;x"\n' + "\n".join(f'{k},"1;5"' for k in range(9)),
    "pipes": "id,a|b,n\n" + "\n".join(f"{k},x|y,3" for k in range(9)),
    "one column": "n\n" + "\n".join(map(str, range(9))),
    "damaged": "a,b\n1,2\n3\n",
    "only names": "a,b;c\n",
}


@pytest.mark.parametrize("content", PLAIN.values(), ids=PLAIN)
def test_plain_csv_is_not_torn_apart(tmp_path, content):
    (tmp_path / "a.csv").write_text(content)
    assert sniff_delimiter(str(tmp_path / "a.csv")) == ","
    if "3\n" not in content:  # else the damage is named
        assert Table([tmp_path / "a.csv"]).format == CsvFormat()


def test_thousands_in_plain_csv_are_text_as_before(tmp_path):
    path = write_csv(tmp_path / "a.csv", a=A, price=["1,234.50"] * N, b=B)
    assert survey(path)[0].encodings["price"].categories == ("1,234.50",)


def test_files_of_two_formats_are_one_table(load, tmp_path):
    expected = load(
        write_csv(tmp_path / "plain.csv", a=np.tile(A, 2), b=np.tile(B, 2), c=np.tile(C, 2))
    )
    (tmp_path / "set").mkdir()
    write_text(tmp_path / "set" / "1.csv", LINES, ";", ",")
    write_text(tmp_path / "set" / "2.csv", LINES, ",", ".")
    np.testing.assert_array_equal(load(tmp_path / "set").train, expected.train)


def test_input_is_read_in_its_own_format(run, tmp_path):
    columns = rows(30, word=["x;y", "1,5"] * 15, other=np.arange(30) / 8)
    plain = write_csv(tmp_path / "plain.csv", **columns)
    lines = read_rows(plain, ",")
    # The cell 1,5 is a text; in a column that is none it would be a number.
    european = [
        [cell if cell == "1,5" else cell.replace(".", ",") for cell in line] for line in lines
    ]
    for name, delimiter, table in (("plain.csv", ",", lines), ("other.csv", ";", european)):
        path = write_rows(tmp_path / name, table, delimiter)
        batch.score_file(run, str(path), f"{path}.scores.csv", keep=["a", "word", "other"])
        table[3][0] = ""
        write_rows(path, table, delimiter)
        batch.fill_file(run, str(path), f"{path}.filled.csv")
    for kind in ("scores", "filled"):
        found = [(tmp_path / f"{name}.csv.{kind}.csv").read_text() for name in ("plain", "other")]
        assert found[0] == found[1], "plain CSV, with commas and dots"


def test_input_that_does_not_tell_is_read_as_training_was(tmp_path):
    columns = (Column("a", 0.0, 0.0, 9.0), Column("b", 0.0, 0.0, 9.0))
    (tmp_path / "a.csv").write_text("a;b\n1,234;5,678\n")
    (block,) = TableInput(
        str(tmp_path / "a.csv"), Schema(columns, delimiter=";", decimal=",")
    ).blocks(9)
    assert block.values.tolist() == [[1.234, 5.678]]
    with pytest.raises(UserError, match="has '1,234' in column a: whether a comma or a dot"):
        TableInput(str(tmp_path / "a.csv"), Schema(columns))
    with pytest.raises(UserError, match=r"column a of .* has '1,234' in row 0"):
        list(TableInput(str(tmp_path / "a.csv"), Schema(columns, delimiter=";")).blocks(9))
    (tmp_path / "a.csv").write_text("a;b\n0,5;1.234\n")
    for keep in ((), ["a", "b"]):
        with pytest.raises(UserError, match=r"column b of .* has '1.234' in row 0"):
            list(TableInput(str(tmp_path / "a.csv"), Schema(columns), keep).blocks(9))


# Columns to keep, of any type

TEXT_TYPES = [
    pa.date32(),
    pa.timestamp("us"),
    pa.timestamp("ns", "UTC"),
    pa.time32("ms"),
    pa.time64("us"),
    pa.duration("us"),
    pa.decimal128(20, 2),
    pa.dictionary(pa.int32(), pa.string()),
    pa.dictionary(pa.int32(), pa.int64()),
    pa.large_string(),
    pa.string_view(),
    pa.null(),
    pa.bool_(),
    pa.float16(),
    pa.uint64(),
]
OTHER_TYPES = [
    pa.list_(pa.float64()),
    pa.large_list(pa.int8()),
    pa.list_(pa.int8(), 2),
    pa.struct({"x": pa.int8()}),
    pa.map_(pa.string(), pa.int8()),
    pa.binary(),
    pa.binary(2),
    pa.large_binary(),
    pa.binary_view(),
    pa.dictionary(pa.int32(), pa.binary()),
]


def two_of(kind):
    """A column of six rows, of which one is missing."""
    if pa.types.is_dictionary(kind):
        return two_of(kind.value_type).dictionary_encode()
    if pa.types.is_null(kind):
        return pa.nulls(6)
    value = next(
        value
        for is_kind, value in (
            (pa.types.is_map, [("k", 1)]),
            (pa.types.is_struct, {"x": 1}),
            (pa.types.is_nested, [1, 2]),
            (pa.types.is_boolean, True),
            (pa.types.is_floating, np.float16(0.5)),
            (lambda kind: "binary" in str(kind), b"\xff\x01"),
            (lambda kind: "string" in str(kind), "é, \n"),
            (pa.types.is_decimal, decimal.Decimal("1.25")),
            (lambda kind: True, None),
        )
        if is_kind(kind)
    )
    if value is None:
        wide = pa.int32() if kind in (pa.date32(), pa.time32("ms")) else pa.int64()
        return pa.array([1, 2, None, 3, 4, 5], wide).cast(kind)
    last = (
        value if "fixed_size_list" in str(kind) else None
    )  # a missing one of these pyarrow writes, but cannot read
    return pa.array([value, value, value, value, value, last], kind)


@pytest.mark.parametrize("kind", TEXT_TYPES + OTHER_TYPES, ids=str)
def test_columns_of_any_type_are_kept_or_refused_first(run, tmp_path, kind):
    source = str(write_parquet(tmp_path / "rows.parquet", **rows(), v=two_of(kind)))
    before = pq.read_table(source)["v"]
    output = tmp_path / "s.csv"
    if kind in OTHER_TYPES:
        with pytest.raises(
            UserError,
            match=r"keep: column v of input .* is of type .*, which .*s\.csv cannot hold: .*\.p",
        ):
            batch.score_file(run, source, str(output), keep=["v"], top=0)
        assert [path.name for path in tmp_path.iterdir()] == ["rows.parquet"]
    else:
        batch.score_file(run, source, str(output), keep=["v"], top=0)
        kept = [row["v"] for row in csv.DictReader(io.StringIO(output.read_text()))]
        assert [text == "" for text in kept] == before.is_null().to_pylist()
    batch.score_file(run, source, str(tmp_path / "s.parquet"), keep=["v"], top=0)
    batch.fill_file(run, source, str(tmp_path / "f.parquet"))
    for name in ("s.parquet", "f.parquet"):
        assert pq.read_table(tmp_path / name)["v"].equals(before)


def test_beam_refuses_what_records_cannot_hold(run, tmp_path):
    pipeline = pytest.importorskip("nice_tf.scoring.beam", exc_type=ImportError)
    source = str(write_parquet(tmp_path / "rows.parquet", **rows(), v=[[1, 2]] * 6))
    with pytest.raises(
        UserError,
        match=r"column v of input .* is of type list<.*>, which .*s\.tfrecord cannot hold",
    ):
        pipeline.score(run, source, str(tmp_path / "s.tfrecord"), keep=["v"])
    assert [path.name for path in tmp_path.iterdir()] == ["rows.parquet"]


@pytest.mark.parametrize(
    "kind", [pa.decimal128(20, 3), pa.uint8(), pa.float16(), pa.float32()], ids=str
)
def test_gaps_are_filled_in_the_type_of_their_column(run, tmp_path, kind):
    values = pa.array([1, 2, None, 1, 0, None], pa.int32()).cast(pa.float32()).cast(kind)
    source = str(write_parquet(tmp_path / "rows.parquet", **{**rows(), "a": values}))
    batch.fill_file(run, source, str(tmp_path / "f.parquet"))
    found = pq.read_table(tmp_path / "f.parquet")["a"]
    assert (
        found.type == kind
        and found.null_count == 0
        and [found[0].as_py(), found[4].as_py()] == [1, 0]
    )


def test_a_type_too_narrow_for_what_fills_a_gap_is_named():
    far = Schema((Column("a", 1.0, -9.0, 9.0),))
    with pytest.raises(
        UserError,
        match="column a is of type uint8, which cannot hold the values that its missing ones",
    ):
        imputation._with_gaps_filled(
            far.names[0],
            pa.array([1, None], pa.uint8()),
            np.array([False, True]),
            np.array([0, -5]),
        )


# Damaged files


def whole_files():
    content = csv_bytes({"a": A, "b": B, "c": C, "w": ["x", "y, z\n"] * (N // 2)})
    other = io.StringIO(newline="")
    csv.writer(other, delimiter=";").writerows(
        [cell.replace(".", ",") for cell in line.split(",")] for line in LINES
    )
    buffers = [io.BytesIO(), io.BytesIO()]
    pq.write_table(pa.table({"a": A, "b": B, "c": C, "w": ["x", "y"] * (N // 2)}), buffers[0])
    pq.write_table(
        pa.table({"a": A.astype(np.float32), "b": B, "c": C, "w": [[1, 2]] * N}),
        buffers[1],
        compression="zstd",
    )
    return {
        "a.csv": content,
        "b.csv": other.getvalue().encode(),
        "c.csv.gz": gzip.compress(content),
        "d.parquet": buffers[0].getvalue(),
        "e.parquet": buffers[1].getvalue(),
    }


def damaged(content, draw):
    result = bytearray(content)
    place = draw.randrange(len(result) - 8)
    how = draw.randrange(4)
    if how == 0:
        return bytes(result[:place])
    if how == 1:
        return bytes(result[:place] + result[place + draw.randrange(1, 20) :])
    for number in range(1 if how == 2 else 8):
        result[place + number] = draw.randrange(256)
    return bytes(result)


@pytest.mark.parametrize("name", whole_files())
def test_damaged_files_end_in_one_line(tmp_path, name):
    schema = Schema((Column("a", 0.0, -3.0, 3.0), Column("b", 0.0, -3.0, 3.0)), {"c": 1.0}, ("w",))
    content, draw, refused = whole_files()[name], random.Random(name), 0
    path = tmp_path / name
    for _ in range(80):
        path.write_bytes(damaged(content, draw))
        readings = (
            lambda: survey(path),
            lambda: Table([path]).num_rows,
            lambda: list(TableInput(str(path), schema, None).blocks(17)),
        )
        for read in readings:
            try:
                read()
            except UserError as error:
                refused += 1
                assert "\n" not in str(error) and str(error)
    assert refused > 20


def spelled(value, places, mark, grouped):
    text = f"{value:,.{places}f}" if grouped else f"{value:.{places}f}"
    swapped = {".": mark, ",": "." if mark == "," else ","}
    return "".join(swapped.get(character, character) for character in text)


NUMBERS = st.lists(st.integers(-(10**7), 10**7), min_size=6, max_size=6)
COLUMNS = st.lists(st.tuples(NUMBERS, st.integers(0, 4), st.booleans()), min_size=2, max_size=3)


@settings(derandomize=True, max_examples=150, deadline=None)
@given(COLUMNS, st.sampled_from(DELIMITERS[1:]), st.sampled_from(",."))
def test_numbers_are_read_right_or_not_at_all(tmp_path_factory, columns, delimiter, mark):
    """Of any number of decimals, with marks between thousands or without."""
    path = tmp_path_factory.getbasetemp() / "numbers.csv"
    truth, cells = {}, []
    for number, (integers, places, grouped) in enumerate(columns):
        truth[f"c{number}"] = [value / 10**places for value in integers]
        cells.append([spelled(value, places, mark, grouped) for value in truth[f"c{number}"]])
    write_rows(path, [list(truth), *zip(*cells, strict=True)], delimiter)
    try:
        table = Table([path])
    except UserError as error:
        assert "Give it as decimal" in str(error)
        return
    for name in table.numeric:
        with contextlib.suppress(UserError):
            np.testing.assert_array_equal(
                np.concatenate(list(table.blocks([name])))[:, 0], truth[name]
            )


# What a model remembers of its training files


@pytest.mark.parametrize("write", [write_csv, write_parquet])
def test_integers_that_float32_would_merge_stay_apart(tmp_path, write):
    ids = np.arange(1_700_000_128, 1_700_000_128 + N)
    found, _ = survey(
        write(tmp_path / f"a.{'csv' if write is write_csv else 'parquet'}", id=ids, b=B)
    )
    assert found.constants == {} and found.columns[0].high - found.columns[0].low == N - 1
    few = np.resize([100_000_008, 100_000_009, 100_000_010], N)
    found, _ = survey(
        write(tmp_path / f"b.{'csv' if write is write_csv else 'parquet'}", code=few, b=B)
    )
    assert found.constants == {} and found.names == ["code", "b"]


def test_an_integer_beside_a_large_constant_is_another(tmp_path):
    path = write_csv(tmp_path / "a.csv", code=np.full(N, 100_000_008), b=B)
    found, _ = survey(path)
    assert found.constants == {"code": 100_000_008.0}
    values = np.array([100_000_007.0, 100_000_008.0, 100_000_009.0])
    assert found.differs("code", values, np.float64).tolist() == [True, False, True]
    # Where a file stored it in 32 bits, these three are one number.
    path = write_parquet(tmp_path / "a.parquet", code=np.full(N, 100_000_008, np.float32), b=B)
    found, _ = survey(path)
    assert found.differs("code", values, np.float64).tolist() == [False, False, False]
    assert found.differs("code", np.array([100_000_100.0]), np.float64).tolist() == [True]
    again = type(found).from_dict(found.as_dict())
    assert again == found and again.differs("code", values, np.float64).tolist() == [
        False,
        False,
        False,
    ]


def scored(path, found):
    """All values of a file as a model of the schema reads it."""
    return np.concatenate([block.values for block in TableInput(str(path), found).blocks(100)])


def test_the_training_file_itself_can_be_scored_whatever_the_flags_said(load, tmp_path):
    """Score has no delimiter and no decimal: what training was told counts where a file does not
    tell.
    """
    path = tmp_path / "dates.csv"
    path.write_text(
        "d;v;w\n" + "".join(f"{k % 28 + 1:02d}.12;{k},5;{k % 7},25\n" for k in range(60))
    )
    found = load(path, decimal=",", columns="v,w")
    np.testing.assert_array_equal(scored(path, found.schema)[:, 0], np.arange(60) + 0.5)
    path = tmp_path / "both.csv"
    path.write_text("a;b,c\n" + "".join(f"{k};{k % 5},{k % 11}\n" for k in range(60)))
    with pytest.raises(nice_tf.UserError, match="may have"):
        load(path)
    found = load(path, delimiter=";", decimal=",")
    assert found.schema.names == ["a", "b,c"]
    np.testing.assert_allclose(scored(path, found.schema)[:3], [[0, 0.0], [1, 1.1], [2, 2.2]])
