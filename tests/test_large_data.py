"""Data on disk give what the same data in memory give."""

import json
import os
import sys

import numpy as np
import pytest
import tensorflow as tf

import nice_tf
from nice_tf.data import batches as batches_lib
from nice_tf.data import dataset as dataset_lib
from nice_tf.data import rows
from nice_tf.scoring.inputs import ArrayInput
from nice_tf.training import model, run

INTEGERS = np.random.default_rng(0).integers(0, 256, [60, 4, 2, 1], np.uint8)
FLOATS = np.random.default_rng(0).normal(size=[60, 5]).astype(np.float32)


def example(**features):
    def feature(value):
        if isinstance(value, bytes):
            return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))
        if np.asarray(value).dtype.kind == "f":
            return tf.train.Feature(float_list=tf.train.FloatList(value=np.ravel(value)))
        return tf.train.Feature(int64_list=tf.train.Int64List(value=np.ravel(value)))

    features = {name: feature(value) for name, value in features.items()}
    return tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString()


def write_records(path, records):
    with tf.io.TFRecordWriter(str(path)) as writer:
        for record in records:
            writer.write(record)
    return str(path)


def as_records(values):
    shape = values.shape[1:]
    return [
        example(x=row.tobytes() if row.dtype == np.uint8 else row, shape=shape) for row in values
    ]


@pytest.fixture
def load(tmp_path):
    """Loads on disk or in memory; what is cached goes to a folder of the test."""

    def load(dataset, *, on_disk=False, **settings):
        settings = {"batch_size": 7, "data_dir": str(tmp_path / "cache"), **settings}
        return dataset_lib.load(
            nice_tf.Config(dataset=str(dataset), in_memory_mb=0 if on_disk else 512, **settings)
        )

    return load


def batches(found, seed=3):
    train = batches_lib.training_batches(found.train, 7, seed=seed, first_step=2, last_step=17)
    return [
        *train,
        *(part for pair in batches_lib.evaluation_batches(found.validation, 3) for part in pair),
    ]


def assert_same(found, expected):
    assert found.description() | {"name": ""} == expected.description() | {"name": ""}
    for split in ("train", "validation", "test"):
        on_disk, in_memory = getattr(found, split), getattr(expected, split)
        assert isinstance(on_disk, rows.Rows) and isinstance(in_memory, np.ndarray)
        np.testing.assert_array_equal(on_disk, in_memory, strict=True)
    for one, other in zip(batches(found), batches(expected), strict=True):
        np.testing.assert_array_equal(one, other, strict=True)


@pytest.mark.parametrize(
    ("values", "settings"),
    [
        (INTEGERS, {}),
        (FLOATS, {}),
        (FLOATS.astype(np.float64), {"split_seed": 5, "num_validation": 11}),
        (FLOATS.astype(">f4"), {}),
        (np.asfortranarray(FLOATS), {}),
        (np.floor(INTEGERS / 100).astype(np.float32), {"levels": 3}),
        (INTEGERS.astype(np.int64), {"levels": 300}),
    ],
)
def test_an_array_on_disk_is_the_array_in_memory(load, tmp_path, monkeypatch, values, settings):
    monkeypatch.setattr(rows, "_CHUNK_BYTES", 100)  # several chunks, the last one smaller
    np.save(tmp_path / "data.npy", values)
    expected = load(tmp_path / "data.npy", **settings)
    assert_same(load(tmp_path / "data.npy", on_disk=True, **settings), expected)
    assert not np.array_equal(batches(expected)[0], batches(expected, seed=4)[0])


@pytest.mark.parametrize("values", [INTEGERS, FLOATS])
def test_records_are_the_array(load, tmp_path, monkeypatch, values):
    np.save(tmp_path / "data.npy", values)
    expected = load(tmp_path / "data.npy")
    (tmp_path / "records").mkdir()
    for number, part in enumerate((values[:25], values[25:])):
        write_records(tmp_path / "records" / f"data.tfrecord-0000{number}", as_records(part))
    for name in (tmp_path / "records", tmp_path / "records" / "*.tfrecord*"):
        assert_same(load(name, on_disk=True), expected)
    in_memory = load(tmp_path / "records")
    assert isinstance(in_memory.train, np.ndarray) and in_memory.description() | {
        "name": expected.name
    } == (expected.description())
    monkeypatch.setattr("nice_tf.data.tfrecord._CHUNK_BYTES", 100)
    assert_same(
        load(tmp_path / "records", on_disk=True, data_dir=str(tmp_path / "other")), expected
    )


def test_pictures_and_splits_of_records(load, tmp_path):
    pictures = [tf.io.encode_png(picture).numpy() for picture in INTEGERS]
    for name, part in (("train-0", slice(30)), ("train-1", slice(30, 50)), ("test", slice(50, 60))):
        records = [example(image=picture, label=[1]) for picture in pictures[part]]
        if (
            name == "train-1"
        ):  # raw integers that start as a JPEG picture would, in files of their own, stay integers
            write_records(
                tmp_path / "raw.tfrecord",
                [example(x=b"\xff\xd8\xff" + picture[:9]) for picture in pictures],
            )
        write_records(tmp_path / f"{name}.tfrecord", [*records])
    with pytest.raises(
        nice_tf.UserError, match=r"record 0 of .*raw\.tfrecord .* no PNG or JPEG picture"
    ):
        load(tmp_path / "raw.tfrecord")
    (tmp_path / "raw.tfrecord").unlink()
    found = load(tmp_path / "t*.tfrecord", on_disk=True, num_validation=5)
    np.testing.assert_array_equal(found.train, INTEGERS[:45])
    np.testing.assert_array_equal(found.validation, INTEGERS[45:50])
    np.testing.assert_array_equal(found.test, INTEGERS[50:])
    raw = [example(x=b"\xff\xd8\xff" + picture[:9], shape=[12]) for picture in pictures]
    assert load(write_records(tmp_path / "raw.tfrecord", raw)).event_shape == [12]


def test_records_are_copied_once_until_they_change(load, tmp_path, caplog):
    caplog.set_level("INFO", logger="nice_tf")
    path = write_records(tmp_path / "a.tfrecord", as_records(FLOATS))
    first = load(path).description()
    assert "copying the data to" in caplog.text
    caplog.clear()
    assert load(path).description() == first and not caplog.text
    write_records(tmp_path / "a.tfrecord", as_records(2 * FLOATS))
    os.utime(path, ns=(0, 0))  # the clock of a file system may be coarse
    assert load(path).description() != first
    assert len(list((tmp_path / "cache").iterdir())) == 2


@pytest.mark.parametrize(
    ("records", "message"),
    [
        ([], r"a\.tfrecord: there are no records"),
        (
            [example(x=FLOATS[0]), example(x=FLOATS[0, :3])],
            r"record 1 of .*a\.tfrecord .*shape \[3\].* of shape \[5\]",
        ),
        (
            [example(x=FLOATS[0]), example(x=b"12345")],
            r"record 1 .* as bytes_list of 1: floats are needed",
        ),
        ([example(x=b"12345"), example(x=FLOATS[0])], r"record 1 .* as float_list of 5"),
        ([example(x=[1, 2])], r"record 0 .* as int64_list of 2"),
        (
            [example(x=FLOATS[0], y=FLOATS[0])],
            r"record 0 .* has the features x, y: its values must be 'image'",
        ),
        ([example()], r"record 0 .* has the features none"),
        (
            [example(x=FLOATS[0], shape=[2, 3])],
            r"record 0 .* has 5 values, which do not fill its shape \[2, 3\]",
        ),
        (
            [example(x=b"\x89PNG\r\n\x1a\n123")],
            r"record 0 .* no PNG or JPEG picture that can be decoded",
        ),
        ([example(x=FLOATS[0]), b"\xff\xff"], r"record 1 .* is no tf\.train\.Example"),
        (
            [example(x=with_nan) for with_nan in np.where(FLOATS > 2, np.nan, FLOATS)],
            "not finite, the first in",
        ),
    ],
)
def test_bad_records(load, tmp_path, records, message):
    path = write_records(tmp_path / "a.tfrecord", records)
    with pytest.raises(nice_tf.UserError, match=message):
        load(path)
    left = [path.name for path in tmp_path.glob("cache/*")]
    assert all(name.startswith("tfrecord-") for name in left) and bool(left) == (
        "finite" in message
    )


def test_bad_record_files(load, tmp_path):
    with pytest.raises(
        nice_tf.UserError, match=r"nowhere\.tfrecord: there is no such TFRecord file"
    ):
        load(tmp_path / "nowhere.tfrecord")
    path = write_records(tmp_path / "a.tfrecord", as_records(FLOATS))
    content = (tmp_path / "a.tfrecord").read_bytes()
    (tmp_path / "a.tfrecord").write_bytes(content[:-9])
    with pytest.raises(nice_tf.UserError, match=r"record 59 of .*a\.tfrecord .* is damaged"):
        load(path)
    assert not list(tmp_path.glob("cache/*"))


def test_a_full_disk_leaves_nothing(tmp_path, run_command):
    path = write_records(tmp_path / "a.tfrecord", as_records(FLOATS))
    script = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "from nice_tf import Config, UserError; from nice_tf.data import dataset;"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000));\n"
        "try: dataset.load(Config(dataset=sys.argv[1], data_dir=sys.argv[2], batch_size=7))\n"
        "except UserError as error: print('refused:', error)"
    )
    finished = run_command("-c", script, path, tmp_path / "cache")
    assert (
        "cannot be written (File too large): give a folder with more room as data_dir"
        in finished.stdout
    ), finished.stderr
    assert (tmp_path / "cache").is_dir() and not list((tmp_path / "cache").iterdir())


SMALL = {
    "num_couplings": 3,
    "hidden_units": (16,),
    "epochs": 2,
    "num_draws": 2,
    "epsilon": 1e-8,
    "precision": "float32",
}


def test_runs_are_equal_to_the_last_bit(tmp_path, run_command):
    values = np.random.default_rng(0).integers(0, 256, [300, 6], np.uint8)
    np.save(tmp_path / "data.npy", values)
    write_records(tmp_path / "data.tfrecord", as_records(values))
    script = f"""
import csv, json, sys, nice_tf
for number, (name, in_memory_mb) in enumerate([("npy", 512), ("npy", 0), ("tfrecord", 0)]):
    config = nice_tf.Config(dataset=f"{tmp_path}/data.{{name}}", data_dir="{tmp_path}", in_memory_mb=in_memory_mb,
                            batch_size=40, deterministic=True, **{SMALL})
    nice_tf.train_and_evaluate(config, f"{tmp_path}/{{number}}")
"""
    finished = run_command("-c", script)
    assert finished.returncode == 0, finished.stderr
    runs = []
    for number in range(3):
        evaluation = json.loads((tmp_path / str(number) / "evaluation.json").read_text())
        lines = (tmp_path / str(number) / "metrics.csv").read_text().splitlines()
        columns = [name for name in lines[0].split(",") if "log_prob" in name or "bits" in name]
        picked = [
            [line.split(",")[lines[0].split(",").index(name)] for name in columns] for line in lines
        ]
        assert len(picked) == 3 and len(columns) == 4
        runs.append(
            [
                evaluation | {"dataset": ""},
                picked,
                np.load(tmp_path / str(number) / "calibration.npy").tolist(),
            ]
        )
    assert runs[0] == runs[1] == runs[2]


def test_large_sets_start_from_every_nth_example(load, tmp_path, monkeypatch):
    np.save(
        tmp_path / "data.npy", np.random.default_rng(0).normal(size=[40_000, 2]).astype(np.float32)
    )
    found = [load(tmp_path / "data.npy", on_disk=on_disk) for on_disk in (False, True)]
    everything = [one.train[model._to_start_from(one.train, "none")] for one in found]
    np.testing.assert_array_equal(everything[1], everything[0], strict=True)
    assert len(everything[0]) == len(found[0].train)
    monkeypatch.setattr(model, "_VALUES_TO_START_FROM", 50_000)
    few = [one.train[model._to_start_from(one.train, "none")] for one in found]
    np.testing.assert_array_equal(few[1], few[0], strict=True)
    np.testing.assert_array_equal(few[0], found[0].train[::3], strict=True)


def test_a_file_that_is_written_to_stops_the_run(tmp_path, monkeypatch):
    np.save(
        tmp_path / "data.npy", np.random.default_rng(0).normal(size=[300, 4]).astype(np.float32)
    )

    class Meddle(run.SamplePictures):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 1:
                with (tmp_path / "data.npy").open("r+b") as file:
                    file.truncate(1000)

    monkeypatch.setattr(run, "SamplePictures", Meddle)
    settings = {**SMALL, "epochs": 50}
    config = nice_tf.Config(
        dataset=str(tmp_path / "data.npy"), in_memory_mb=0, batch_size=20, **settings
    )
    with pytest.raises(
        nice_tf.UserError,
        match=r"data\.npy was changed while it was read: write new data to another",
    ):
        nice_tf.train_and_evaluate(config, tmp_path / "run")


MEMORY_SCRIPT = """
import sys, nice_tf
from nice_tf.data import batches, dataset
from nice_tf.training.model import make_model

def peak():
    return next(int(line.split()[1]) / 1024 for line in open("/proc/self/status") if line.startswith("VmHWM"))

def use(path, in_memory_mb):
    config = nice_tf.Config(dataset=path, in_memory_mb=in_memory_mb, hidden_units=(8,), precision="float32")
    found = dataset.load(config)
    found.description()
    model = make_model(config, found)
    model.fit(batches.training_batches(found.train, 200, seed=0, first_step=0, last_step=20), verbose=0)
    model.evaluate(batches.evaluation_batches(found.validation, 200).take(20), verbose=0)

use(sys.argv[1], 512)
before = peak()
use(sys.argv[2], int(sys.argv[3]))
print(peak() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from /proc")
def test_memory_does_not_grow_with_the_file(tmp_path, run_command):
    """1 GB that takes no room on disk; what checks, fingerprint, start and training add is a small
    part of it.
    """
    for name, number in (("small", 2**12), ("large", 2**21)):
        with (tmp_path / f"{name}.npy").open("wb") as file:
            header = {"descr": "|u1", "fortran_order": False, "shape": (number, 512)}
            np.lib.format.write_array_header_1_0(file, header)
            file.truncate(file.tell() + number * 512)
    finished = run_command("-c", MEMORY_SCRIPT, tmp_path / "small.npy", tmp_path / "large.npy", 512)
    assert finished.returncode == 0, finished.stderr
    assert float(finished.stdout) < 350, "MB"


def test_record_files_of_any_case_and_what_is_left_out(load, tmp_path):
    """A file that is there is itself, whatever its name; only else is a name a pattern."""
    names = ("a.TFRECORD", "data[1].tfrecord", "data[1].TFRecord-00000-of-00001")
    for name in names:
        path = write_records(tmp_path / name, as_records(FLOATS))
        found = load(path)
        assert found.event_shape == [5] and found.warnings == ()
        (block,) = ArrayInput(path, [5], None).blocks(99)
        np.testing.assert_array_equal(block.values, FLOATS)
    folder = tmp_path / "set"
    for name, part in (("TRAIN-0.TFRecord", FLOATS[:40]), ("Test-0.tfrecord", FLOATS[40:])):
        write_records(tmp_path / name, as_records(part))
        folder.mkdir(exist_ok=True)
        (tmp_path / name).rename(folder / name)
    for name in ("README.md", "counts.json", ".hidden"):
        (folder / name).touch()
    found = load(folder)
    assert len(found.test) == 20 and found.warnings == (
        "2 of 4 files are no TFRecord files and are left out: README.md, counts.json",
    )
    assert ArrayInput(str(folder), [5], None).warnings == found.warnings
    assert len(load(folder / "T*.[tT]*").test) == 20
    with pytest.raises(
        nice_tf.UserError, match=r"nowhere\[1\]\.tfrecord: there is no such TFRecord file"
    ):
        load(tmp_path / "nowhere[1].tfrecord")


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        (
            [2**40, 2**40],
            r"has 5 values, which do not fill its shape \[1099511627776, 1099511627776\]",
        ),
        ([-1, -5], r"has 5 values, which do not fill its shape \[-1, -5\]"),
        ([5, *[1] * 70], "has a shape of 71 axes: at most 32 are read"),
    ],
)
def test_shapes_of_records_that_cannot_be(load, tmp_path, shape, message):
    for values in (FLOATS[0], b"12345"):
        path = write_records(tmp_path / "a.tfrecord", [example(x=values, shape=shape)])
        with pytest.raises(nice_tf.UserError, match=f"record 0 .*{message}"):
            load(path)


def test_other_pictures_among_those_of_records_are_refused(load, tmp_path):
    pngs = [example(image=tf.io.encode_png(picture).numpy()) for picture in INTEGERS]
    bmp = b"BM" + bytes(60)
    path = write_records(tmp_path / "a.tfrecord", [*pngs, example(image=bmp)])
    with pytest.raises(nice_tf.UserError, match=r"record 60 .* holds no PNG or JPEG picture"):
        load(path)
