"""Odd settings, damaged files and odd requests by the thousand: each must be answered, or refused
in one line.

python tests/fuzz.py --number=1000 --seed=0
python tests/fuzz.py --kinds=readers --seed=0 --first=17 --number=1    # one case again

A case is a pure function of its kind, the seed and its number. `make fuzz` runs 1,000 of each kind;
exit status 1 says that one of them ended in a traceback, which is printed with what repeats it.
"""

import argparse
import csv
import dataclasses
import gzip
import io
import json
import os
import pathlib
import re
import shutil
import sys
import tempfile
import time
import traceback
import zipfile
import zlib
from collections.abc import Callable, Iterator

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import faulthandler

import numpy as np
import pyarrow as pa
import tensorflow as tf
from absl import flags
from PIL import Image
from pyarrow import parquet

import nice_tf
from nice_tf.cli.config_flags import define_flags, from_flags
from nice_tf.data import dataset
from nice_tf.data.schema import Column, Schema
from nice_tf.reports import page
from nice_tf.runs import architecture, finished
from nice_tf.scoring import inputs as inputs_lib
from nice_tf.scoring.model import Model
from nice_tf.serving import export
from nice_tf.training import optimizers
from nice_tf.training import run as run_lib

NUMBERS = (
    "0",
    "-0",
    "1",
    "-1",
    "2",
    "3",
    "7",
    "1.5",
    "-0.5",
    "0.5",
    "1e-60",
    "1e39",
    "-1e39",
    "1e400",
    "nan",
    "inf",
    "-inf",
    "255",
    "256",
    "1000",
    "65536",
    str(2**31 - 1),
    str(2**31),
    str(2**63),
    str(10**20),
    "-" + str(10**20),
    "0x" + "f" * 5000,
    "1" * 5000,
    "0.9999999999",
    "1_0",
    "²",
    "٣",
    "1e3",
    "0x10",
)
TEXTS = (
    "",
    " ",
    "/",
    "//",
    ",",
    ",,",
    "1/2",
    "1,2/3",
    "1,2/3,4/5",
    "3,,4",
    "28,28",
    "a",
    "a,b",
    '"',
    '"a',
    "\u20ac",
    "\0",
    "a\0b",
    "a\nb",
    "\ud800",
    "--",
    "true",
    "false",
    "None",
    "label",
    "digits",
    "../..",
    "%s",
    "{}",
    "[a-",
    "*",
)


@dataclasses.dataclass
class Result:
    """What came of the cases of a kind."""

    kind: str
    tried: int = 0
    refused: int = 0
    failures: list[str] = dataclasses.field(default_factory=list)

    def __str__(self):
        return f"{self.kind}: {self.tried} tried, {self.refused} refused, {len(self.failures)} tracebacks"


# Settings


def _odd_value(generator, field):
    choices = field.metadata["choices"]
    pools = [NUMBERS, TEXTS, choices or NUMBERS, (nice_tf.config.flag_text(field.default),)]
    return str(generator.choice(np.array(pools[generator.integers(len(pools))], object)))


def settings_case(
    generator: np.random.Generator, folder: pathlib.Path
) -> tuple[str, Callable[[], None]]:
    """Some flags with odd values, parsed as a command does, to settings, data, optimizer and flow."""
    fields = dataclasses.fields(nice_tf.Config)
    chosen = generator.choice(len(fields), generator.integers(1, 5), replace=False)
    arguments = [f"--{fields[k].name}={_odd_value(generator, fields[k])}" for k in chosen]

    def run():
        values = flags.FlagValues()
        define_flags(values)
        try:
            values(["fuzz", *arguments])
        except flags.Error as error:  # the commands print it
            raise nice_tf.UserError(str(error).splitlines()[0]) from error
        _use_settings(from_flags(values))

    return repr(arguments), run


def _use_settings(config):
    written = json.dumps(config.as_dict(), allow_nan=False)
    assert nice_tf.Config.from_dict(json.loads(written)) == config
    run_lib.default_workdir(config)
    if config.dataset == "digits":
        dataset.load(config)
    with tf.Graph().as_default():  # variables have their shapes there, and no values
        small = dataclasses.replace(config, num_couplings=min(config.num_couplings, 4))
        flow = architecture.make_flow(small, [4, 4, 1])
        optimizers.make_optimizer(config, flow, 10)


# Files


def _bits_flipped(generator, content):
    changed = bytearray(content)
    for place in generator.integers(0, len(changed), generator.integers(1, 9)):
        changed[place] ^= 1 << int(generator.integers(8))
    return bytes(changed)


def _cut(generator, content):
    return content[: generator.integers(len(content))]


def _inserted(generator, content):
    place, more = (
        generator.integers(len(content) + 1),
        generator.bytes(int(generator.integers(1, 40))),
    )
    return content[:place] + more + content[place:]


def _left_out(generator, content):
    first = int(generator.integers(len(content)))
    return content[:first] + content[first + int(generator.integers(1, 40)) :]


def _overwritten(generator, content):
    first, byte = (
        int(generator.integers(len(content))),
        generator.choice([b"\0", b"\xff", b"(", b"9"]),
    )
    number = min(int(generator.integers(1, 20)), len(content) - first)
    return content[:first] + bytes(byte) * number + content[first + number :]


def _other_number(generator, content):
    """A number that stands in the file as text is another one."""
    found = list(re.finditer(rb"-?\d+", content[:4000]))
    if not found:
        return _bits_flipped(generator, content)
    match = found[generator.integers(len(found))]
    return (
        content[: match.start()]
        + str(generator.choice(np.array(NUMBERS, object))).encode()
        + content[match.end() :]
    )


def _other_word(generator, content):
    """A word or bracket that stands in the file as text is another one."""
    found = list(re.finditer(rb"[A-Za-z_]{2,}|[][(){},:'\"|]", content[:4000]))
    if not found:
        return _bits_flipped(generator, content)
    match = found[generator.integers(len(found))]
    words = (
        b"",
        b"null",
        b"NaN",
        b"[]",
        b"{}",
        b"((((",
        b"'",
        b'"',
        b"True",
        b"O",
        b"<U0",
        b"x" * 300,
        b"-",
        b"shape",
    )
    return content[: match.start()] + words[generator.integers(len(words))] + content[match.end() :]


MUTATIONS = (_bits_flipped, _cut, _inserted, _left_out, _overwritten, _other_number, _other_word)


def _mutated(generator, content):
    for _ in range(generator.integers(1, 3)):
        if not content:
            break
        content = MUTATIONS[generator.integers(len(MUTATIONS))](generator, content)
    return content


def _changed_inside(generator, name, content):
    """What lies in a container is damaged, and the container around it whole: its checksums find
    nothing.
    """
    if name.endswith(".npz"):
        return _archive_with(generator, content)
    if name.endswith(".gz"):
        return gzip.compress(_mutated(generator, gzip.decompress(content)), mtime=0)
    if name.startswith("record"):
        return _odd_record(generator, content)
    if name.endswith(".png"):
        return _png_of_size(
            content, *generator.choice([0, 1, 5, 6, 100, 2**15, 2**20, 2**31 - 1, 2**31], 2)
        )
    if name.endswith(".tfrecord"):
        whole = [record.numpy() for record in _records_of(content)]
        whole[generator.integers(len(whole))] = _odd_record(generator, whole[0])
        return _records(whole)
    return _mutated(generator, content)


def _archive_with(generator, content):
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    name = list(members)[generator.integers(len(members))]
    members[name] = _mutated(generator, members[name])
    if generator.integers(4) == 0:
        members[str(generator.choice(["a", "b.npy", "../c.npy", "x/y.npy", ".npy"]))] = members.pop(
            name
        )
    changed = io.BytesIO()
    with zipfile.ZipFile(changed, "w", zipfile.ZIP_DEFLATED) as archive:
        for member, values in members.items():
            archive.writestr(member, values)
    return changed.getvalue()


def _odd_record(generator, content):
    example = tf.train.Example.FromString(content)
    features = example.features.feature
    shapes = (
        [],
        [-1],
        [0],
        [2**40, 2**40],
        [1] * 70,
        [-2, -2],
        [4],
        [6, 5, 3],
        [1, 90],
        [2**63 - 1],
        [4, 1, 1, 1, 1],
    )
    if generator.integers(2):
        features["shape"].int64_list.value[:] = shapes[generator.integers(len(shapes))]
    else:
        features.pop("shape", None)
    for feature in features.values():
        if feature.bytes_list.value and generator.integers(2):
            feature.bytes_list.value[0] = _mutated(generator, feature.bytes_list.value[0])
        if feature.float_list.value and generator.integers(2):
            feature.float_list.value[:] = [np.nan, np.inf, 1e38, -0.0][: generator.integers(5)]
    if generator.integers(4) == 0:
        features[str(generator.choice(["image", "label", ""]))].float_list.value[:] = [1.0, 2.0]
    return example.SerializeToString()


def _records_of(content):
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "a"
        path.write_bytes(content)
        return list(tf.data.TFRecordDataset(str(path)))


def _png_of_size(content, width, height):
    """A PNG picture whose header claims another size, with the checksum that belongs to it."""
    header = (
        b"IHDR" + int(width).to_bytes(4, "big") + int(height).to_bytes(4, "big") + content[24:29]
    )
    return content[:12] + header + zlib.crc32(header).to_bytes(4, "big") + content[33:]


def _changed_json(generator, content):
    """JSON of which one value, somewhere, is gone or another."""
    values = json.loads(content)
    places = list(_places(values))
    holder, key = places[generator.integers(len(places))]
    others = (
        None,
        -1,
        0,
        1,
        2**31,
        10**30,
        1e300,
        "",
        "a",
        [],
        {},
        [1],
        True,
        float("nan"),
        [[8]],
        {"a": 1},
    )
    if generator.integers(3) == 0:
        del holder[key]
    else:
        holder[key] = others[generator.integers(len(others))]
    return json.dumps(values).encode()


def _places(values) -> Iterator[tuple]:
    for key in list(values) if isinstance(values, dict) else range(len(values)):
        yield values, key
        if isinstance(values[key], dict | list):
            yield from _places(values[key])


def _record(**features):
    kinds = {
        bytes: lambda value: tf.train.Feature(bytes_list=tf.train.BytesList(value=[value])),
        list: lambda value: tf.train.Feature(int64_list=tf.train.Int64List(value=value)),
        np.ndarray: lambda value: tf.train.Feature(float_list=tf.train.FloatList(value=value)),
    }
    features = {name: kinds[type(value)](value) for name, value in features.items()}
    return tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString()


def _records(records):
    """A TFRecord file; its checksums are right, whatever is in the records."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "a")
        with tf.io.TFRecordWriter(path) as writer:
            for record in records:
                writer.write(record)
        return pathlib.Path(path).read_bytes()


def _saved(save, *arguments, **keywords):
    content = io.BytesIO()
    save(content, *arguments, **keywords)
    return content.getvalue()


def _table():
    generator = np.random.default_rng(0)
    names = np.array(["crow", "auk"])[generator.integers(0, 2, 40)]
    numbers = generator.normal(size=[40, 3]).round(3)
    return {
        "a": numbers[:, 0],
        "b": numbers[:, 1],
        "c": generator.integers(0, 9, 40),
        "bird": names,
    }


def _csv():
    columns = _table()
    text = io.StringIO(newline="")
    csv.writer(text).writerows([list(columns), *zip(*columns.values(), strict=True)])
    return text.getvalue().encode()


def _make_inputs() -> dict[str, bytes]:
    """Small files of every kind, whole; by the name of each."""
    generator = np.random.default_rng(0)
    floats = generator.normal(size=[40, 4]).astype(np.float32)
    pictures = generator.integers(0, 256, [40, 6, 5, 3], np.uint8)
    picture = Image.fromarray(pictures[0])
    labels = generator.integers(0, 2, 40)
    raw = [_record(x=row.tobytes(), shape=[6, 5, 3]) for row in pictures]
    pngs = [_record(image=tf.io.encode_png(values).numpy(), label=[1]) for values in pictures]
    return {
        "floats.npy": _saved(np.save, floats),
        "fortran.npy": _saved(np.save, np.asfortranarray(floats)),
        "pictures.npy": _saved(np.save, pictures),
        "one.npz": _saved(np.savez, floats),
        "splits.npz": _saved(
            np.savez_compressed, train=floats, test=floats[:9], train_y=labels, test_y=labels[:9]
        ),
        "keras.npz": _saved(
            np.savez_compressed, x_train=pictures, x_test=pictures, y_train=labels, y_test=labels
        ),
        "table.csv": _csv(),
        "table.csv.gz": gzip.compress(_csv(), mtime=0),
        "table.parquet": _saved(lambda file: parquet.write_table(pa.table(_table()), file)),
        "a.png": _saved(picture.save, "PNG"),
        "palette.png": _saved(picture.quantize(9).save, "PNG"),
        "a.jpg": _saved(picture.save, "JPEG"),
        "floats.tfrecord": _records([_record(x=row, shape=[2, 2]) for row in floats]),
        "raw.tfrecord": _records(raw),
        "pictures.tfrecord": _records(pngs),
        "record of floats": _record(x=floats[0], shape=[2, 2]),
        "record of integers": raw[0],
        "record of a picture": pngs[0],
    }


LABELS = {"splits.npz": "y", "keras.npz": "label", "table.csv": "bird", "table.parquet": "bird"}
# Of a model that takes the file: shape of an example, and levels.
SHAPES = {
    **{name: ([4], None) for name in ("floats.npy", "fortran.npy", "one.npz")},
    **{name: ([2, 2], None) for name in ("floats.tfrecord", "record of floats")},
    **{
        name: ([6, 5, 3], 256)
        for name in ("pictures.npy", "a.png", "palette.png", "a.jpg", "raw.tfrecord")
    },
    **{
        name: ([6, 5, 3], 256)
        for name in ("pictures.tfrecord", "record of integers", "record of a picture")
    },
}


class Files:
    """Whole files, a finished run and its export, all small, in a folder of their own."""

    def __init__(self, folder: pathlib.Path):
        self.folder = folder
        self.inputs = _make_inputs()
        table = folder / "table.csv"
        table.write_bytes(self.inputs["table.csv"])
        self.config = nice_tf.Config(
            dataset=str(table),
            columns="a,b,c",
            num_couplings=3,
            hidden_units=(4,),
            epochs=1,
            batch_size=10,
            num_draws=2,
            precision="float32",
            sample_every_epochs=0,
        )
        self.run = folder / "run"
        nice_tf.train_and_evaluate(self.config, self.run)
        self.export = export.export_saved_model(self.run, folder / "export", inpaint_steps=2)
        # As in a run of an earlier version: without checksums, which would find all damage before
        # anything is read.
        (self.run / "checksums.json").unlink()
        self.model = Model.load(self.export)
        self.parts = [
            *(
                self.run / name
                for name in ("config.json", "evaluation.json", "metrics.csv", "calibration.npy")
            ),
            self.export / "assets" / "data.json",
            self.export / "saved_model.pb",
            self.export / "variables" / "variables.index",
            next((self.export / "variables").glob("variables.data*")),
        ]
        self.whole = {path: path.read_bytes() for path in self.parts}


def reader_case(generator: np.random.Generator, files: Files) -> tuple[str, Callable[[], None]]:
    """A damaged file, read by all that reads such files."""
    names = [*files.inputs, *files.parts]
    chosen = names[generator.integers(len(names))]
    if isinstance(chosen, pathlib.Path):
        return _part_case(generator, files, chosen)
    content = files.inputs[chosen]
    is_inside = bool(generator.integers(2))
    content = (
        _changed_inside(generator, chosen, content) if is_inside else _mutated(generator, content)
    )
    label = LABELS.get(chosen, "") if generator.integers(2) or chosen == "splits.npz" else ""
    on_disk = bool(generator.integers(2))
    described = f"{chosen} label={label} on_disk={on_disk}"
    return described, lambda: read_input(files, chosen, content, label=label, on_disk=on_disk)


def read_input(files: Files, name: str, content: bytes, *, label: str, on_disk: bool) -> None:
    """Reads a file as data to train on and as input to score, where it can be both; one may take
    what one refuses.

    Args:
      files: the whole ones.
      name: of one of `files.inputs`, which is read with this content.
      content: of the file; of a record and a picture, that of one among others that are whole.
      label: what to condition on, if anything.
      on_disk: leave the values on disk.

    Raises:
      UserError: one of both refused it.
    """
    folder = pathlib.Path(tempfile.mkdtemp(dir=files.folder))
    try:
        path = str(_put(folder, name, content, files.inputs[name]))
        errors = []
        for read in (_read_dataset, _read_to_score):
            try:
                read(path, name, folder / "cache", label=label, on_disk=on_disk)
            except nice_tf.UserError as error:
                errors.append(error)
        if errors:
            raise errors[0]
    finally:
        shutil.rmtree(folder)


def _put(folder, name, content, whole):
    if name.startswith("record"):
        path = folder / "a.tfrecord"
        path.write_bytes(_records([whole] * 9 + [content] + [whole] * 9))
    elif name.endswith((".png", ".jpg")):
        path, suffix = folder / "pictures", name[-4:]
        path.mkdir()
        for number in range(20):
            (path / f"{number:02d}{suffix}").write_bytes(content if number == 13 else whole)
    else:
        path = folder / name
        path.write_bytes(content)
    return path


def _read_dataset(path, name, cache, *, label, on_disk):
    config = nice_tf.Config(
        dataset=path,
        condition_on=label,
        batch_size=2,
        data_dir=str(cache),
        skip_bad=on_disk,
        in_memory_mb=0 if on_disk else 512,
        columns="" if on_disk or "table" not in name else "a,b",
    )
    stdout, sys.stdout = sys.stdout, io.StringIO()
    try:
        found = dataset.load(config)
    finally:
        sys.stdout = stdout
    json.dumps(found.description())
    assert all(
        np.all(np.isfinite(np.asarray(values, np.float64))) for values in (found.train, found.test)
    )


def _read_to_score(path, name, cache, *, label, on_disk):
    if "table" in name:
        columns = tuple(Column(column, 0.0, -9.0, 9.0) for column in ("a", "b"))
        source = inputs_lib.TableInput(path, Schema(columns, {}, ()), ["c", "bird"])
    elif name in SHAPES:
        source = inputs_lib.ArrayInput(path, *SHAPES[name])
    else:
        return
    assert isinstance(source.num_rows, int | None)
    for block in source.blocks(7):
        assert not np.any(np.isinf(block.values))


def _part_case(generator, files, path):
    content = files.whole[path]
    is_json = path.suffix == ".json" and generator.integers(4)
    content = _changed_json(generator, content) if is_json else _mutated(generator, content)
    return str(path.relative_to(files.folder)), lambda: read_part(files, path, content)


def read_part(files: Files, path: pathlib.Path, content: bytes) -> None:
    """Reads the run, or its export, with this content in one of its files.

    Raises:
      UserError: it was refused.
    """
    path.write_bytes(content)
    try:
        if path.is_relative_to(files.export):
            loaded = Model.load(files.export)
            try:
                _answer(loaded, np.zeros([2, 3], np.float32))
            except tf.errors.OpError as error:  # a graph that was changed and can still be loaded
                raise nice_tf.UserError(str(error).splitlines()[0]) from error
        else:
            _read_run(files)
    finally:
        path.write_bytes(files.whole[path])


def _read_run(files):
    errors = []
    for read in (Model.load, nice_tf.load_flow, _write_report):
        try:
            read(files.run)
        except nice_tf.UserError as error:
            errors.append(error)
    if errors:
        raise errors[0]


def _write_report(run):
    page.write_report(finished.load_finished_run(run), run, run.parent / "report.html")


def _answer(model, x):
    for values in model.score(x).values():
        assert values.shape == (len(x),)


# Requests


def request_case(generator: np.random.Generator, files: Files) -> tuple[str, Callable[[], None]]:
    """Odd tensors to a signature of the export; what is answered must be finite."""
    signatures = files.model.signatures
    names = [name for name in sorted(signatures) if not name.startswith("__")]
    name = names[generator.integers(len(names))]
    _, specs = signatures[name].structured_input_signature
    inputs = {key: _odd_tensor(generator, spec) for key, spec in sorted(specs.items())}
    if generator.integers(20) == 0:
        inputs.pop(next(iter(inputs)))
    described = {key: f"{value.dtype.name}{value.shape}" for key, value in inputs.items()}

    def run():
        try:
            answers = signatures[name](**inputs)
        except (tf.errors.InvalidArgumentError, TypeError, ValueError) as error:
            raise nice_tf.UserError(str(error).splitlines()[0]) from error
        for key, value in answers.items():
            assert np.all(np.isfinite(value.numpy())), f"{key} is not finite"

    return f"{name} {described}", run


def _odd_tensor(generator, spec):
    dtype = (
        spec.dtype
        if generator.integers(10)
        else [tf.float64, tf.int64, tf.string, tf.bool][generator.integers(4)]
    )
    batch = int(generator.choice([0, 1, 2, 2, 2, 3]))
    shape = [batch if length is None else length for length in spec.shape]
    if generator.integers(6) == 0:
        shape = [int(length) for length in generator.integers(0, 4, generator.integers(0, 4))]
    if dtype == tf.string:
        return tf.fill(shape, "a")
    if dtype == tf.bool:
        return tf.fill(shape, True)
    if dtype.is_integer:
        pool = np.array([0, 1, 2, 7, -1, 2**31 - 1, -(2**31)])
    else:
        largest = float(dtype.max)
        pool = np.array(
            [0, 1, -1, 0.5, 2, 1e-30, 1e10, -1e20, largest, -largest, np.nan, np.inf, -np.inf]
        )
        pool = pool[: generator.choice([3, 5, 7, len(pool)])]
    values = generator.choice(pool, shape)
    if spec.name == "num_samples" and dtype == tf.int32:
        values = np.minimum(values, 10_001)
    return tf.cast(tf.constant(values), dtype)


# All of them

KINDS = {"flags": settings_case, "readers": reader_case, "signatures": request_case}


def run(
    kind: str, files: Files | None, *, number: int, seed: int, first: int = 0, verbose: bool = False
) -> Result:
    """Tries so many cases of a kind.

    Args:
      kind: of `KINDS`.
      files: made once; flags need none.
      number: how many cases.
      seed: of all cases.
      first: number of the first.
      verbose: print each case before it is tried, so that one which ends the process is known.

    Returns:
      The counts, with a text for each traceback.
    """
    result = Result(kind)
    for case in range(first, first + number):
        generator = np.random.default_rng([seed, sorted(KINDS).index(kind), case])
        again = f"python tests/fuzz.py --kinds={kind} --seed={seed} --first={case} --number=1"
        described, tried = KINDS[kind](generator, files)
        result.tried += 1
        if verbose:
            print(f"{kind} {case}: {described}", file=sys.stderr, flush=True)
        try:
            tried()
        except nice_tf.UserError as error:
            result.refused += 1
            if len(str(error).splitlines()) > 1:
                result.failures.append(f"{again}\n{described}\nnot in one line: {error}")
            if verbose:
                print(f"  refused: {error}", file=sys.stderr, flush=True)
        except Exception:
            result.failures.append(f"{again}\n{described}\n{traceback.format_exc()}")
    return result


def main() -> int:
    """Tries cases of each kind, prints the counts, and returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--number", type=int, default=1000, help="cases of each kind")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument("--kinds", default=",".join(KINDS), help="by commas")
    parser.add_argument("--verbose", action="store_true", help="print each case before it is tried")
    arguments = parser.parse_args()
    faulthandler.enable()
    kinds, failed = arguments.kinds.split(","), False
    with tempfile.TemporaryDirectory() as folder:
        files = Files(pathlib.Path(folder)) if set(kinds) - {"flags"} else None
        for kind in kinds:
            started = time.time()
            result = run(
                kind,
                files,
                number=arguments.number,
                seed=arguments.seed,
                first=arguments.first,
                verbose=arguments.verbose,
            )
            for failure in result.failures:
                print(failure, file=sys.stderr)
            print(f"{result} ({time.time() - started:.0f} s)", flush=True)
            failed = failed or bool(result.failures)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
