"""The commands that take a trained model to a user's rows: score, impute, sample."""

import contextlib
import csv
import pathlib
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf
from conftest import ROOT
from processes import time_limit

import nice_tf
from nice_tf.data.tables.decimals import with_decimals
from nice_tf.errors import UserError
from nice_tf.scoring import files, imputation
from nice_tf.scoring import output as output_lib
from nice_tf.scoring.blocks import Block
from nice_tf.scoring.inputs import open_input
from nice_tf.scoring.model import Model
from nice_tf.serving import export as export_lib

ROWS = 600


def table(number=ROWS, seed=0):
    """`c` is twice `a` but for a little noise, `b` an integer in fives, `k` constant, `id` text."""
    generator = np.random.default_rng(seed)
    a, b = generator.normal(3.0, 2.0, number), generator.integers(0, 9, number) * 5 - 10
    c = 2 * a + generator.normal(0, 0.1, number)
    return {
        "a": a,
        "b": b,
        "k": np.full(number, 7),
        "c": c,
        "id": [f"row {k}" for k in range(number)],
    }


def write_csv(path, columns):
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))
    return str(path)


def read_csv(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("apps")
    config = nice_tf.read_flagfile(
        ROOT / "configs" / "table.flags",
        dataset=write_csv(folder / "train.csv", table()),
        hidden_units=(8,),
        epochs=3,
        num_draws=1,
        precision="float32",
    )
    nice_tf.train_and_evaluate(config, folder / "run")
    return str(folder / "run")


@pytest.fixture(scope="module")
def model(run):
    return Model.load(run)


def values(columns):
    return np.stack([columns[name] for name in "abc"], axis=-1).astype(np.float32)


def test_scores_of_a_table_are_the_models_in_order(run, model, tmp_path, run_command):
    columns = table(300, seed=1)
    columns["c"][17] += 40
    shuffled = {name: columns[name] for name in ("id", "c", "a", "k", "b")}
    source = write_csv(tmp_path / "rows.csv", shuffled)
    finished = run_command(
        "-m",
        "nice_tf.apps.score",
        f"--model={run}",
        f"--input={source}",
        f"--output={tmp_path}/s.csv",
        "--keep=id",
    )
    assert finished.returncode == 0, finished.stderr
    rows, expected = read_csv(tmp_path / "s.csv"), model.score(values(columns))
    assert [row["id"] for row in rows] == columns["id"]
    for name, numbers in expected.items():
        np.testing.assert_allclose(
            [float(row[name]) for row in rows], numbers, rtol=1e-5, err_msg=name
        )
    assert (
        rows[17]["is_anomaly"] == "true"
        and rows[17]["top_1"] == "c"
        and float(rows[17]["top_1_nats"]) > 5
    )
    assert "300 rows, mean log_prob" in finished.stdout


def test_an_export_scores_parquet_as_the_run_scores_csv(run, tmp_path):
    version = export_lib.export_saved_model(run, tmp_path / "export")
    columns = table(50, seed=2)
    pq.write_table(pa.table(columns), tmp_path / "rows.parquet")
    files.score_file(version.parent, tmp_path / "rows.parquet", tmp_path / "a.parquet", top=0)
    files.score_file(
        run, write_csv(tmp_path / "rows.csv", columns), str(tmp_path / "b.parquet"), top=0
    )
    assert pq.read_table(tmp_path / "a.parquet").equals(pq.read_table(tmp_path / "b.parquet"))


def without(name):
    return {key: column for key, column in table(5).items() if key != name}


def with_cell(name, value):
    columns = table(5)
    columns[name] = [*list(columns[name])[:3], value, list(columns[name])[4]]
    return columns


def test_columns_that_the_run_does_not_know_are_ignored_with_a_word(run, tmp_path):
    columns = {**table(5), "new": ["x"] * 5, "": np.arange(5)}
    source = write_csv(tmp_path / "a.csv", columns)
    said = files.score_file(run, source, tmp_path / "s.csv")
    assert (
        "a.csv has columns that the model does not know, which are ignored: new, (no name)" in said
    )
    plain = files.score_file(run, write_csv(tmp_path / "b.csv", table(5)), tmp_path / "t.csv")
    assert "ignored" not in plain
    assert read_csv(tmp_path / "s.csv") == read_csv(tmp_path / "t.csv")


@pytest.mark.parametrize(
    ("columns", "options", "message"),
    [
        (without("b"), {}, "lacks b: the model is of the columns a, b, c"),
        (with_cell("c", "many"), {}, "column c .*'many' in row 3"),
        (with_cell("c", "1_000"), {}, "column c .*'1_000' in row 3"),
        ({**table(5), "c": ["2026-11-25"] * 5}, {}, "column c .*'2026-11-25' in row 0"),
        ({**table(5), "c": ["12:30:00"] * 5}, {"keep": ["id"]}, "column c .*'12:30:00' in row 0"),
        (
            with_cell("c", ""),
            {},
            "column c has a missing value in row 3 .*: --impute fills missing",
        ),
        (with_cell("a", "inf"), {}, "inf in row 3"),
        (table(5), {"top": -1}, "top must be at least 0, got -1"),
        (table(5), {"threshold": 2.0}, "threshold must be from 0 to 1, got 2"),
        (table(5), {"keep": ["none"]}, "no column none to keep"),
    ],
)
def test_bad_input_is_named_and_leaves_nothing(run, tmp_path, columns, options, message):
    output = tmp_path / "s.csv"
    with pytest.raises(UserError, match=message):
        files.score_file(run, write_csv(tmp_path / "rows.csv", columns), str(output), **options)
    assert not output.exists() and [path.name for path in tmp_path.iterdir()] == ["rows.csv"]


def test_missing_cells_are_filled_first_where_asked_and_another_constant_is_said(run, tmp_path):
    columns = with_cell("c", "")
    columns["k"][1] = 8
    source = write_csv(tmp_path / "rows.csv", columns)
    said = files.score_file(run, source, str(tmp_path / "s.csv"), impute=True)
    rows = read_csv(tmp_path / "s.csv")
    assert [row["num_imputed"] for row in rows] == ["0", "0", "0", "1", "0"]
    assert [row["off_constant"] for row in rows] == ["", "k", "", "", ""] and rows[1][
        "is_anomaly"
    ] == "true"
    assert "1 row off the values of training in columns that were constant" in said


def test_a_threshold_finer_than_the_validation_rows_tell_is_said(run, model, tmp_path):
    step, source = (
        1 / len(np.load(f"{run}/calibration.npy")),
        write_csv(tmp_path / "rows.csv", table(200, seed=8)),
    )
    tails = model.score(values(table(200, seed=8)))["tail_probability"]
    assert len(set(tails)) > 20 and np.allclose(tails / step, np.rint(tails / step), atol=1e-3)
    for threshold, is_said in ((0.9 * step, True), (1.1 * step, False)):
        said = files.score_file(
            run, source, str(tmp_path / "s.csv"), threshold=threshold, top=0, overwrite=True
        )
        assert (
            f"{threshold:g}" in said
            and (f"(it moves in steps of {step:.2g}, so only 0 is)" in said) == is_said
        )


def test_an_output_is_not_overwritten_unasked(run, tmp_path):
    source, output = write_csv(tmp_path / "rows.csv", table(5)), tmp_path / "s.csv"
    output.write_text("mine")
    with pytest.raises(UserError, match="is there already"):
        files.score_file(run, source, str(output))
    assert output.read_text() == "mine"
    files.score_file(run, source, str(output), overwrite=True)
    assert len(read_csv(output)) == 5


@pytest.mark.slow
def test_a_killed_run_continues_to_the_same_bytes(run, tmp_path):
    source = write_csv(tmp_path / "rows.csv", table(150_000, seed=3))
    whole, cut = tmp_path / "whole.csv", tmp_path / "cut.csv"
    files.score_file(run, source, str(whole), top=1)
    command = [
        sys.executable,
        "-m",
        "nice_tf.apps.score",
        f"--model={run}",
        f"--input={source}",
        f"--output={cut}",
    ]
    process = subprocess.Popen(
        [*command, "--top=1"], cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    folder, deadline = tmp_path / ".cut.csv.parts", time.monotonic() + time_limit()
    while (
        not list(folder.glob("0*.parquet"))
        and process.poll() is None
        and time.monotonic() < deadline
    ):
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    made = len(list(folder.glob("0*.parquet")))
    assert made and not cut.exists()
    with pytest.raises(UserError, match="unfinished run of other top"):
        files.score_file(run, source, str(cut), top=2)
    files.score_file(run, source, str(cut), top=1)
    assert cut.read_bytes() == whole.read_bytes() and not folder.exists()


def test_two_processes_do_not_write_one_output(tmp_path):
    output = tmp_path / "s.csv"

    def tables(first):
        with pytest.raises(UserError, match="in use"):
            output_lib.write(output, lambda first: [], settings={})
        yield pa.table({"a": [1]})

    output_lib.write(output, tables, settings={})
    assert output.read_text() == "a\n1\n"


def test_an_input_that_was_corrected_needs_overwrite(tmp_path):
    output = tmp_path / "s.csv"

    def tables(first):
        yield pa.table({"a": [1]})
        raise UserError("text in row 1")

    def corrected(first):
        return [pa.table({"a": [number]}) for number in range(first, 3)]

    with pytest.raises(UserError, match="text in row 1"):
        output_lib.write(output, tables, settings={"input": "wrong"})
    with pytest.raises(
        UserError, match=r"run of other input: .* are as they were; else only overwrite helps"
    ):
        output_lib.write(output, corrected, settings={"input": "right"})
    output_lib.write(output, corrected, settings={"input": "right"}, overwrite=True)
    assert output.read_text() == "a\n0\n1\n2\n"


def test_gaps_are_filled_and_all_else_stays(run, tmp_path, run_here):
    columns = table(40, seed=4)
    truth = columns["c"].copy()
    columns["c"] = [value if k % 2 else "" for k, value in enumerate(truth)]
    source = write_csv(tmp_path / "rows.csv", columns)
    finished = run_here(
        "-m",
        "nice_tf.apps.impute",
        f"--model={run}",
        f"--input={source}",
        f"--output={tmp_path}/f.csv",
    )
    assert finished.returncode == 0 and "missing values filled: 20\n" in finished.stdout, (
        finished.stderr
    )
    before, after = read_csv(source), read_csv(tmp_path / "f.csv")
    filled = np.array([float(row["c"]) for row in after])
    for k, (old, new) in enumerate(zip(before, after, strict=True)):
        assert {**old, "c": ""} == {**new, "c": ""} and (k % 2 == 0 or old["c"] == new["c"])
    assert np.abs(filled - truth).mean() < 0.2 * np.abs(truth - truth.mean()).mean()


@pytest.mark.slow
def test_filled_numbers_are_written_as_those_of_their_column(run, tmp_path):
    """With the decimals that pandas gives integers beside missing values, and without."""
    columns = table(40, seed=4)
    b = columns["b"]
    spellings = {
        "pandas": [f"{value}.0" if k % 2 else "" for k, value in enumerate(b)],
        "plain": [f"{value}" if k % 2 else "" for k, value in enumerate(b)],
        "two": [f"{value}.00" if k % 2 else "NA" for k, value in enumerate(b)],
        "mixed": [f"{value}.{'0' * (k % 3)}" if k % 2 else "" for k, value in enumerate(b)],
    }
    expected = {"pandas": r"-?\d+\.0", "plain": r"-?\d+", "two": r"-?\d+\.00", "mixed": r"-?\d+"}
    for name, texts in spellings.items():
        source = write_csv(tmp_path / f"{name}.csv", {**columns, "b": texts})
        files.fill_file(run, source, tmp_path / f"{name}_filled.csv")
        filled = [row["b"] for row in read_csv(tmp_path / f"{name}_filled.csv")]
        assert filled[1::2] == texts[1::2]
        assert all(re.fullmatch(expected[name], text) for text in filled[::2]), filled
    decimals = [f"{value:.3f}" if k % 2 else "" for k, value in enumerate(columns["a"])]
    source = write_csv(tmp_path / "a.csv", {**columns, "a": decimals})
    files.fill_file(run, source, tmp_path / "a_filled.csv")
    filled = [row["a"] for row in read_csv(tmp_path / "a_filled.csv")]
    assert all(re.fullmatch(r"-?\d+\.\d{3}", text) for text in filled)


def test_decimals_are_those_of_the_column():
    values = np.float32([1.0, -0.25, 3.14159, 1e-7, 123456.0])
    found = with_decimals(values, 2, 2)
    assert found == ["1.00", "-0.25", "3.14", "0.00", "123456.00"]
    assert with_decimals(values, 1, 6) == ["1.0", "-0.25", "3.14159", "0.0", "123456.0"]
    assert with_decimals(np.array([4, 5]), 1, 1) == ["4.0", "5.0"]
    assert with_decimals(np.array([-1e-9]), 3, 3) == ["0.000"]


@pytest.mark.slow
def test_true_and_false_are_kept_and_filled_as_they_are_spelled(tmp_path):
    generator = np.random.default_rng(0)
    a = generator.normal(size=300)
    columns = {
        "a": a,
        "b": a + generator.normal(size=300),
        "flag": np.where(a > 0, "True", "False"),
    }
    config = nice_tf.read_flagfile(
        ROOT / "configs" / "table.flags",
        dataset=write_csv(tmp_path / "train.csv", columns),
        hidden_units=(4,),
        epochs=1,
        precision="float32",
    )
    nice_tf.train_and_evaluate(config, tmp_path / "run")
    rows = {
        "a": [-9.0, 0.5, 9.0, -0.5],
        "b": [-9.0, 1.0, 9.0, -1.0],
        "flag": ["", "True", "", "False"],
    }
    source = write_csv(tmp_path / "rows.csv", rows)
    files.fill_file(tmp_path / "run", pathlib.Path(source), tmp_path / "f.csv")
    assert [row["flag"] for row in read_csv(tmp_path / "f.csv")] == [
        "False",
        "True",
        "True",
        "False",
    ]
    files.score_file(
        str(tmp_path / "run"), str(tmp_path / "f.csv"), str(tmp_path / "s.csv"), keep=["flag"]
    )
    assert [row["flag"] for row in read_csv(tmp_path / "s.csv")] == [
        "False",
        "True",
        "True",
        "False",
    ]
    source = write_csv(tmp_path / "rows.csv", {**rows, "flag": ["True", "0", "perhaps", "1"]})
    with pytest.raises(UserError, match=r"column flag .* has 'perhaps' in row 2"):
        files.score_file(str(tmp_path / "run"), source, str(tmp_path / "t.csv"), keep=["flag"])


def test_samples_in_the_tables_units(run, model, tmp_path, run_here):
    finished = run_here(
        "-m",
        "nice_tf.apps.sample",
        f"--model={run}",
        f"--output={tmp_path}/s.csv",
        "--num_samples=50",
        "--seed=3",
    )
    assert finished.returncode == 0, finished.stderr
    rows = read_csv(tmp_path / "s.csv")
    assert (
        len(rows) == 50
        and {row["k"] for row in rows} == {"7"}
        and all(int(row["b"]) % 5 == 0 for row in rows)
    )
    np.testing.assert_allclose(
        [float(row["a"]) for row in rows], model.sample(50, seed=3)[:, 0], rtol=1e-5
    )
    files.sample_file(run, tmp_path / "s.npz", num_samples=10, seed=3)
    np.testing.assert_allclose(
        np.load(tmp_path / "s.npz")["x"][:, 0], model.sample(50, seed=3)[:10, 0], rtol=1e-5
    )
    for output, options, message in (
        ("s.png", {"num_samples": 5}, "is a picture"),
        ("t.csv", {"num_samples": 0}, "num_samples must be at least 1"),
        ("t.csv", {"num_samples": 5, "temperature": 0.0}, "temperature must be finite and above 0"),
    ):
        with pytest.raises(UserError, match=message):
            files.sample_file(run, str(tmp_path / output), **options)


@pytest.fixture(scope="module")
def array_run(tmp_path_factory):
    """A model of arrays of shape [8, 5], whose entries hang together."""
    folder = tmp_path_factory.mktemp("arrays")
    np.save(folder / "train.npy", examples(500))
    config = nice_tf.Config(
        dataset=str(folder / "train.npy"),
        num_couplings=3,
        hidden_units=(8,),
        epochs=2,
        batch_size=50,
        num_draws=1,
        precision="float32",
    )
    nice_tf.train_and_evaluate(config, folder / "run")
    return str(folder / "run")


def examples(number, seed=0):
    generator = np.random.default_rng(seed)
    return np.cumsum(generator.normal(size=[number, 8, 5]), axis=1).astype(np.float32)


def write_tfrecord(path, values):
    with tf.io.TFRecordWriter(str(path)) as writer:
        for value in values:
            features = {
                "x": tf.train.Feature(float_list=tf.train.FloatList(value=value.ravel())),
                "shape": tf.train.Feature(int64_list=tf.train.Int64List(value=value.shape)),
            }
            writer.write(
                tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString()
            )
    return str(path)


def test_arrays_of_any_file_get_the_same_scores(array_run, tmp_path):
    x = examples(70, seed=1)
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "fortran.npy", np.asfortranarray(x))
    np.savez(tmp_path / "x.npz", x)
    write_tfrecord(tmp_path / "x.tfrecord", x)
    model = Model.load(array_run)
    expected = model.score(x)
    for name in ("x.npy", "fortran.npy", "x.npz", "x.tfrecord"):
        files.score_file(array_run, str(tmp_path / name), str(tmp_path / f"{name}.parquet"))
        scores = pq.read_table(tmp_path / f"{name}.parquet")
        assert scores["row"].to_pylist() == list(range(70))
        np.testing.assert_allclose(
            scores["log_prob"].to_numpy(), expected["log_prob"], rtol=1e-6, err_msg=name
        )
    assert [open_input(str(tmp_path / name), model).num_rows for name in ("x.npy", "x.npz")] == [
        70,
        None,
    ]
    (tmp_path / "empty.npy").write_bytes(b"")
    assert open_input(str(tmp_path / "empty.npy"), model).num_rows is None
    np.savez(tmp_path / "two.npz", x, y=x)
    np.savez(tmp_path / "complex.npz", x.astype(np.complex64))
    np.save(tmp_path / "flat.npy", x.reshape(70, 40))
    np.save(tmp_path / "gap.npy", np.where(x == x[3, 2, 1], np.nan, x))
    for name, options, message in (
        ("two.npz", {}, "holds the arrays .*: one array is needed"),
        (
            "complex.npz",
            {},
            r"complex\.npz cannot be read as a NumPy file of numbers: it is of type complex64",
        ),
        ("flat.npy", {}, r"has examples of shape \[40\], the model is of shape \[8, 5\]"),
        ("gap.npy", {}, "there is a missing value .NaN. in row 3"),
        ("none.npy", {}, "there is no such file"),
        ("empty.npy", {}, r"empty\.npy cannot be read as a NumPy file of numbers"),
        ("x.npy", {"top": 1}, "top is for tables, got 1"),
        ("x.npy", {"keep": ["id"]}, "keep is for tables, got id"),
    ):
        with pytest.raises(UserError, match=message):
            files.score_file(array_run, str(tmp_path / name), str(tmp_path / "s.csv"), **options)
    gap = Block(0, np.full([1, 8, 5], np.nan, np.float32))
    with pytest.raises(
        UserError, match=r"of examples of shape \[8, 5\]: missing cells are of tables"
    ):
        imputation.filled_table(model, gap)


@pytest.mark.slow
def test_memory_does_not_grow_with_the_rows(array_run, tmp_path, run_command):
    """300,000 rows more are 48 MB in float32 and 96 in float64, of which nothing may stay."""
    script = """
import sys
from nice_tf.scoring.files import score_file
score_file(*sys.argv[1:])
with open("/proc/self/status") as file:
    print(next(line.split()[1] for line in file if line.startswith("VmHWM")))
"""
    peaks = []
    for number in (200_000, 500_000):
        x = np.lib.format.open_memmap(tmp_path / f"{number}.npy", "w+", np.float64, (number, 8, 5))
        for start in range(0, number, 100_000):
            x[start : start + 100_000] = examples(100_000, seed=start)
        finished = run_command(
            "-c", script, array_run, tmp_path / f"{number}.npy", tmp_path / f"{number}.parquet"
        )
        assert finished.returncode == 0, finished.stderr
        assert pq.read_metadata(tmp_path / f"{number}.parquet").num_rows == number
        peaks.append(int(finished.stdout) / 1000)
    assert peaks[1] - peaks[0] < 40, peaks


def beam_scores(pattern):
    """The rows of all files of a pipeline's output, in order."""
    tables = [pq.read_table(path) for path in sorted(pattern.parent.glob(pattern.name))]
    return pa.concat_tables(tables).sort_by("row")


@pytest.mark.slow
def test_beam_gives_the_scores_of_the_local_path(run, tmp_path, run_command, run_here):
    pytest.importorskip("apache_beam")
    columns = table(900, seed=5)
    columns["k"][3] = 8
    for number, part in enumerate((slice(0, 500), slice(500, 501), slice(501, 900))):
        cut = {name: column[part] for name, column in columns.items()}
        write_csv(tmp_path / f"{number}.csv", cut)
        pq.write_table(pa.table(cut), tmp_path / f"{number}.parquet", row_group_size=100)
    export = export_lib.export_saved_model(run, tmp_path / "export").parent
    for kind, model, start in (("csv", run, run_command), ("parquet", export, run_here)):
        source = f"{tmp_path}/[0-9].{kind}"
        options = ["--keep=id", "--top=2", "--by=ranks", f"--model={model}", f"--input={source}"]
        local, output = tmp_path / f"local_{kind}.csv", tmp_path / f"scores_{kind}.parquet"
        files.score_file(run, source, str(local), keep=["id"], top=2, by="ranks")
        finished = start(
            "-m", "nice_tf.apps.score_beam", *options, f"--output={output}", "--runner=DirectRunner"
        )
        assert finished.returncode == 0, finished.stderr
        scores, expected = beam_scores(output.with_stem(f"{output.stem}-*")), read_csv(local)
        assert scores.column_names == list(expected[0]) and len(scores) == 900
        flagged = [row["is_anomaly"] == "true" for row in expected]
        assert scores["is_anomaly"].to_pylist() == flagged
        for name in ("row", "id", "top_1", "off_constant"):
            assert list(map(str, scores[name].to_pylist())) == [row[name] for row in expected], name
        for name in ("log_prob", "rank_log_prob", "tail_probability", "typicality", "top_1_nats"):
            numbers = [float(row[name]) for row in expected]
            np.testing.assert_allclose(
                scores[name].to_numpy(), numbers, rtol=1e-4, atol=1e-4, err_msg=name
            )
        again = run_here("-m", "nice_tf.apps.score_beam", *options, f"--output={output}")
        assert (
            again.returncode == 1
            and "is there already" in again.stderr
            and again.stderr.count("\n") == 1
        )


def test_beam_reads_and_writes_tfrecord(array_run, tmp_path):
    pytest.importorskip("apache_beam")
    from nice_tf.scoring import beam

    x = examples(60, seed=6)
    for number, part in enumerate(np.split(x, [25, 26])):
        write_tfrecord(tmp_path / f"{number}.tfrecord", part)
    source, output = str(tmp_path / "?.tfrecord"), str(tmp_path / "scores.tfrecord")
    found = {}
    for path in beam.score(array_run, source, output):
        for record in tf.data.TFRecordDataset(path):
            features = tf.train.Example.FromString(record.numpy()).features.feature
            found[features["row"].int64_list.value[0]] = features["log_prob"].float_list.value[0]
    assert sorted(found) == list(range(60))
    expected = Model.load(array_run).score(x)["log_prob"]
    np.testing.assert_allclose([found[row] for row in range(60)], expected, rtol=1e-5)
    for arguments, message in (
        ((source, output), "is there already"),
        ((source, str(tmp_path / "s.csv")), r"output must end in .parquet or .tfrecord"),
        ((str(tmp_path / "none*"), str(tmp_path / "t.parquet")), "there is no such file"),
    ):
        with pytest.raises(UserError, match=message):
            beam.score(array_run, *arguments)
    with pytest.raises(UserError, match="there is no flag thresold, neither of ours nor of Beam's"):
        beam.score(array_run, source, str(tmp_path / "t.parquet"), beam_flags=["--thresold=1"])


def test_beam_replaces_scores_once_all_are_there(array_run, tmp_path):
    pytest.importorskip("apache_beam")
    from nice_tf.scoring import beam

    output, x = tmp_path / "scores.tfrecord", examples(20, seed=7)
    earlier = (
        tmp_path / "scores-00000-of-00001.tfrecord",
        tmp_path / "scores-00002-of-00009.tfrecord",
    )
    for path in earlier:
        path.write_bytes(b"earlier")
    write_tfrecord(tmp_path / "0.tfrecord", x)
    write_tfrecord(tmp_path / "1.tfrecord", x[:, :3])  # its shape is seen once the pipeline runs
    arguments = array_run, str(tmp_path / "[01].tfrecord"), str(output)
    with pytest.raises(Exception, match=r"examples of shape \[3, 5\]"):
        beam.score(*arguments, overwrite=True)
    assert sorted(tmp_path.glob("scores*")) == sorted(earlier) and {
        path.read_bytes() for path in earlier
    } == {b"earlier"}
    write_tfrecord(tmp_path / "1.tfrecord", x)
    found = beam.score(*arguments, overwrite=True)
    assert sorted(map(str, tmp_path.glob("scores*"))) == found and str(earlier[1]) not in found
    assert sum(1 for _ in tf.data.TFRecordDataset(found)) == 40


def counted(first, number=5, size=100):
    """Tables of `size` rows up to `number * size`, each row its number."""
    for start in range(first, number * size, size):
        yield pa.table({"row": list(range(start, start + size))})


class Killed(BaseException):
    pass


@pytest.mark.parametrize("is_deleted", [False, True])
def test_a_kill_while_parts_are_removed_loses_no_rows(tmp_path, monkeypatch, is_deleted):
    """The output is there, some of its parts are, too: the same command must not take these for
    all.
    """
    output = tmp_path / "s.csv"

    def killed(folder):
        (folder / "000000000.parquet").unlink()  # a folder is removed in any order
        raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(output_lib, "remove_at_once", killed)
        output_lib.write(output, counted, settings={"a": 1})
    assert [row["row"] for row in read_csv(output)] == [str(number) for number in range(500)]
    assert len(list(tmp_path.glob(".s.csv.parts/0*.parquet"))) == 4
    if is_deleted:
        output.unlink()
    output_lib.write(output, counted, settings={"a": 1}, overwrite=not is_deleted)
    assert [row["row"] for row in read_csv(output)] == [str(number) for number in range(500)]
    assert not (tmp_path / ".s.csv.parts").exists()


def damage_byte(part):
    content = bytearray(part.read_bytes())
    content[40] ^= 255
    part.write_bytes(content)


@pytest.mark.parametrize(
    "damage",
    [pathlib.Path.unlink, lambda part: part.write_bytes(part.read_bytes()[:99]), damage_byte],
)
@pytest.mark.parametrize("number", [0, 1, 2])
def test_rows_of_lost_or_damaged_parts_are_computed_again(tmp_path, damage, number):
    output = tmp_path / "s.csv"

    def cut_off(first):
        for table in counted(first):
            if table["row"][0].as_py() == 300:
                raise UserError("cut off")
            yield table

    with pytest.raises(UserError, match="cut off"):
        output_lib.write(output, cut_off, settings={})
    found = sorted(tmp_path.glob(".s.csv.parts/0*.parquet"))
    assert len(found) == 3
    damage(found[number])
    computed, _ = output_lib.write(output, counted, settings={})
    assert computed == 500 - 100 * number
    assert [row["row"] for row in read_csv(output)] == [str(number) for number in range(500)]


def test_an_output_that_is_a_link_is_written_through(tmp_path):
    (tmp_path / "far").mkdir()
    output = tmp_path / "s.csv"
    output.symlink_to(tmp_path / "far" / "target.csv")
    output_lib.write(output, counted, settings={})
    assert output.is_symlink() and len(read_csv(tmp_path / "far" / "target.csv")) == 500


def test_an_output_that_another_process_wrote_first_stays(tmp_path, monkeypatch):
    output = tmp_path / "s.csv"
    held = output_lib._held

    @contextlib.contextmanager
    def later(folder):
        with held(folder):
            output.write_text("theirs")
            yield

    monkeypatch.setattr(output_lib, "_held", later)
    with pytest.raises(UserError, match="is there already"):
        output_lib.write(output, counted, settings={})
    assert output.read_text() == "theirs"


def test_a_file_is_written_by_one_process_whatever_link_it_goes_by(tmp_path):
    (tmp_path / "far").mkdir()
    target, link = tmp_path / "far" / "target.csv", tmp_path / "s.csv"
    link.symlink_to(target)

    def tables(first):
        for output in (target, link):
            with pytest.raises(UserError, match="in use"):
                output_lib.write(output, counted, settings={}, overwrite=True)
        yield pa.table({"row": [1]})

    for output in (link, target):
        output_lib.write(output, tables, settings={}, overwrite=True)
        assert target.read_text() == "row\n1\n" and link.is_symlink()


def test_the_end_of_one_run_does_not_disturb_the_start_of_the_next(tmp_path, monkeypatch):
    """While the first removes its parts, the second begins in a folder of its own, and keeps it."""
    output = tmp_path / "s.csv"
    remove = output_lib.remove_at_once
    calls, computed = [], []

    def removed(folder):
        calls.append(folder)
        remove(folder)
        if len(calls) == 1:
            computed.append(output_lib.write(output, counted, settings={}, overwrite=True)[0])

    monkeypatch.setattr(output_lib, "remove_at_once", removed)
    output_lib.write(output, counted, settings={})
    assert computed == [500]
    assert len(read_csv(output)) == 500 and not list(tmp_path.glob(".s.csv.parts*"))
