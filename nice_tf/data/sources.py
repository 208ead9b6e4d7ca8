"""The only readers of data: what `--dataset` names, to arrays or to rows of a file.

A new source is a function from settings to `Found`, and a line in `_SOURCES`. What is large it
leaves on disk as `rows.Rows`, by `read_npy` or `cached`. Checking, splitting and batching are the
same for all, in `data`.
"""

import contextlib
import dataclasses
import hashlib
import json
import math
import os
import pathlib
import re

import numpy as np

from nice_tf.config import Config
from nice_tf.data import pictures, tfrecord
from nice_tf.data.arrays import read_archive
from nice_tf.data.cache import cached, cached_path, read_npy
from nice_tf.data.paths import few, is_pattern, left_out
from nice_tf.data.rows import Array, Rows
from nice_tf.data.schema import Schema
from nice_tf.errors import UserError
from nice_tf.files import write_atomically


@dataclasses.dataclass(frozen=True)
class Found:
    """What a source holds, not yet checked.

    Attributes:
      arrays: `train` and `test`, and perhaps `validation`; or one array of any name, that is yet to
        be split.
      levels: number of integer levels, if the source knows it.
      num_test: examples to split off for test; one sixth if not given.
      labels: the label of each example, `[N]`, under the names of `arrays`; if they were asked for.
      schema: of a table, its columns.
      warnings: what the user should know of the data, a line each.
    """

    arrays: dict[str, Array]
    levels: int | None = None
    num_test: int | None = None
    labels: dict[str, np.ndarray] | None = None
    schema: Schema | None = None
    warnings: tuple[str, ...] = ()


def find(config: Config) -> Found:
    """Reads what `config.dataset` names.

    Raises:
      UserError: no such data, or none that can be read, or no labels where `config.condition_on`
        asks for them; the message says which and what would help.
    """
    if os.path.isdir(config.dataset):
        _check_is_of_one_kind(config.dataset)
    read = next(read for is_meant, read in _SOURCES if is_meant(config.dataset))
    found = read(config)
    if config.condition_on and found.labels is None:
        raise UserError(
            f"condition_on {config.condition_on}: {config.dataset} has no labels; digits, sets of "
            "TensorFlow Datasets, .npz files and tables may have some"
        )
    return found


def _check_is_of_one_kind(folder):
    kinds = {
        "tables": _table_files,
        "TFRecord files": tfrecord.tfrecord_files,
        "pictures": pictures.picture_files,
    }
    found = {kind: files[0] for kind, files_of in kinds.items() if (files := files_of(folder))}
    if len(found) > 1:
        names = ", ".join(
            f"{kind} ({os.path.relpath(file, folder)})" for kind, file in found.items()
        )
        raise UserError(
            f"dataset {folder} holds {names}: give a folder of one kind, or a pattern such as "
            "FOLDER/*.csv"
        )


def _digits(config):
    # Imported where it is used: a second of start-up that the other data sets need not pay.
    from sklearn.datasets import load_digits

    if config.condition_on not in ("", "label"):
        raise UserError(f"condition_on {config.condition_on}: digits have label alone")
    digits = load_digits()
    images = digits.images.astype(np.uint8)[..., np.newaxis]
    labels = {"the images": digits.target} if config.condition_on else None
    return Found({"the images": images}, levels=17, num_test=300, labels=labels)


def _from_npy(config):
    _check_is_file(config.dataset)
    return Found({"the array": read_npy(config.dataset, **_where(config))})


def _from_npz(config):
    _check_is_file(config.dataset)
    arrays, warnings = _named_our_way(
        read_archive(config.dataset, f"dataset {config.dataset}"), config
    )
    if config.condition_on:
        return _with_labels(arrays, config)
    labels = _plainly_labels(arrays)
    if labels:
        flag = next(iter(labels.values()))
        raise UserError(
            f"dataset {config.dataset} holds the arrays {', '.join(sorted(arrays))}; "
            f"{' and '.join(labels)} {'hold' if len(labels) > 1 else 'holds'} labels, not "
            f"examples: condition_on={flag} uses them; or leave them out of the file"
        )
    return Found(arrays, warnings=warnings)


def _with_labels(arrays, config):
    """Labels of a single array are the array of that name; those of several have the name of theirs
    before it.
    """
    name = config.condition_on
    values = {
        key: array for key, array in arrays.items() if key != name and not key.endswith(f"_{name}")
    }
    wanted = {key: name if len(values) == 1 else f"{key}_{name}" for key in values}
    missing = sorted(set(wanted.values()) - set(arrays)) or ([name] if not values else [])
    if missing:
        raise UserError(
            f"condition_on {name}: {config.dataset} holds the arrays {', '.join(sorted(arrays))}, "
            f"but none of labels {', '.join(missing)}"
        )
    return Found(values, labels={key: arrays[label] for key, label in wanted.items()})


def _named_our_way(arrays, config):
    """Arrays as Keras' mnist.npz has them, x_train and x_test with labels y_train and y_test, under
    our names.

    Returns:
      The arrays, those of another file as they are; and what the user should know of labels that
      are left out.
    """
    splits = [
        name.removeprefix("x_") for name in arrays if name in ("x_train", "x_test", "x_validation")
    ]
    labels = [f"y_{split}" for split in splits if f"y_{split}" in arrays]
    if not {"train", "test"} <= set(splits) or len(splits) + len(labels) != len(arrays):
        return arrays, ()
    wanted = config.condition_on
    if wanted not in ("", "y", "label"):
        raise UserError(
            f"condition_on {wanted}: {config.dataset} holds the labels "
            f"{', '.join(labels) or '(none)'}, which condition_on=y takes"
        )
    renamed = {split: arrays[f"x_{split}"] for split in splits}
    if wanted:
        given = {name.removeprefix("y_"): arrays[name] for name in labels}
        return renamed | {
            f"{split}_{wanted}": _as_a_row(values) for split, values in given.items()
        }, ()
    left_out = f"{', '.join(labels)} hold labels and are left out: condition_on=y takes them"
    return renamed, (left_out,) if labels else ()


def _as_a_row(values):
    """Labels `[N, 1]`, as Keras' CIFAR has them, as `[N]`."""
    return values[:, 0] if values.ndim == 2 and values.shape[1] == 1 else values


def _plainly_labels(arrays):
    """Arrays with one value for each example of another array, and the name that `condition_on` has
    for each.
    """
    examples = {name: len(values) for name, values in arrays.items() if values.ndim > 1}
    found = {}
    for name, values in arrays.items():
        owners = (
            examples
            if len(examples) == 1
            else [owner for owner in examples if name.startswith(f"{owner}_")]
        )
        is_row = values.ndim == 1 and values.dtype.kind in "biuSU"
        if is_row and any(examples[owner] == len(values) for owner in owners):
            found[name] = (
                name if len(examples) == 1 else name.removeprefix(f"{next(iter(owners))}_")
            )
    return found


def _check_is_file(path):
    if not os.path.isfile(path):
        raise UserError(f"dataset {path}: there is no such file")


def _where(config):
    folder = config.data_dir or os.path.join(
        os.environ.get("XDG_CACHE_HOME") or "~/.cache", "nice_tf"
    )
    return {"in_memory_mb": config.in_memory_mb, "cache": pathlib.Path(folder).expanduser()}


def _is_tfrecord(name):
    if tfrecord.is_tfrecord(name) and not os.path.isdir(name):
        return True
    return (os.path.isdir(name) or is_pattern(name)) and bool(tfrecord.tfrecord_files(name))


def _from_tfrecord(config):
    """Splits are those in the files' names, `train-00.tfrecord`; all records together where none
    has one.
    """
    files = tfrecord.tfrecord_files(config.dataset)
    if not files:
        raise UserError(f"dataset {config.dataset}: there is no such TFRecord file")
    where = _where(config)
    arrays = {
        split: read_npy(
            cached("tfrecord", names, tfrecord.examples(names), where["cache"]), **where
        )
        for split, names in _by_split(files, "the records").items()
    }
    return Found(arrays, warnings=tfrecord.left_out(config.dataset))


def _by_split(files, rest):
    """Files by the split that their names tell; those that tell none by the name of the rest."""
    by_split = {}
    for file in files:
        split = re.search(
            r"(?<![a-z])(train|validation|test)(?![a-z])", os.path.basename(file).lower()
        )
        by_split.setdefault(split[1] if split else rest, []).append(file)
    return by_split


def _is_table(name):
    # pyarrow is imported where a table is read: half a second of start-up that the other data sets
    # need not pay.
    if name.lower().endswith((".csv", ".csv.gz", ".parquet")):
        return True
    return (os.path.isdir(name) or is_pattern(name)) and bool(_table_files(name))


def _table_files(name):
    from nice_tf.data.tables import table_files

    return table_files(name)


def _from_table(config):
    """Splits are those in the files' names, as of TFRecord files; the columns are those of all
    splits together.
    """
    from nice_tf.data.tables import Table, left_out

    files = _table_files(config.dataset)
    if not files:
        raise UserError(f"dataset {config.dataset}: there is no such table")
    label = config.condition_on or None
    table = Table(files, delimiter=config.delimiter, decimal=config.decimal)
    schema, survey = table.survey(config.column_names, label=label)
    dtype = np.dtype(np.float64 if config.precision == "float64" else np.float32)
    _check_resolution(schema, dtype)
    warnings = [*left_out(config.dataset), *survey.warnings(schema)]
    missing = survey.missing()
    if missing:
        each = ", ".join(
            f"{name} ({number}, the first in row {row})" for name, (number, row) in missing.items()
        )
        where = f"{each}, rows counted from 0"
        if not config.impute:
            raise UserError(
                f"dataset {config.dataset} has missing values in {where}: impute fills each with "
                "another of its column; or leave these rows or columns out"
            )
        warnings.append(
            f"missing values were filled with others of their column, test included: {where}"
        )
    present = [survey.present[name] for name in schema.names]
    where = _where(config)
    tables = {split: table.part(names) for split, names in _by_split(files, "the table").items()}
    labels = {split: table.labels(label) for split, table in tables.items()} if label else None
    arrays = {
        split: _table_rows(table, schema, dtype, present, seed=config.split_seed, **where)
        for split, table in tables.items()
    }
    return Found(arrays, schema=schema, labels=labels, warnings=tuple(warnings))


def _table_rows(table, schema, dtype, present, *, seed, in_memory_mb, cache):
    from nice_tf.data.tables import fill_from_column

    generator = np.random.default_rng(seed)
    content = (
        fill_from_column(block, generator, present).astype(dtype)
        for block in table.blocks(schema.names)
    )
    if table.num_rows * len(schema.columns) * dtype.itemsize <= in_memory_mb * 2**20:
        return np.concatenate(list(content))
    key = hashlib.sha256(repr((schema.names, dtype.str, seed)).encode()).hexdigest()[:8]
    return Rows(cached(f"table-{key}", table.files, content, cache))


def _check_resolution(schema, dtype):
    for column in schema.columns:
        if _is_told_apart(column, dtype):
            continue
        largest = max(abs(column.low), abs(column.high))
        if largest > _largest(dtype):
            what = f"has values up to {largest:g}: {dtype} takes them up to {_largest(dtype):.2g}"
            ways = ["Divide them"]
        else:
            spread = (
                f"in steps of {column.step:g}"
                if column.step
                else f"within {column.high - column.low:g}"
            )
            what = f"has values up to {largest:g} {spread}: {dtype} cannot tell them apart"
            ways = ["Take an offset off them"]
        if _is_told_apart(column, np.dtype(np.float64)):
            ways.append("give precision float64")
        ways.append("leave the column out with columns")
        raise UserError(f"column {column.name} {what}. {', or '.join(ways)}")


def _is_told_apart(column, dtype):
    """Whether values of a column stay finite and apart in a type."""
    largest = max(abs(column.low), abs(column.high))
    if largest > _largest(dtype):
        return False
    if column.step and dtype == np.float64:
        return True  # its values are below 2^53
    finest = column.step / 16 if column.step else (column.high - column.low) / 10_000
    return np.spacing(dtype.type(largest)) <= finest


def _largest(dtype):
    """Largest value that is taken: with room in the type for sums, and in float64 for squares, as
    covariances have.
    """
    return min(float(np.finfo(dtype).max) / 10, float(np.sqrt(np.finfo(np.float64).max)) / 1000)


def _is_pictures(name):
    return os.path.isdir(name) and bool(pictures.picture_files(name))


@contextlib.contextmanager
def _naming_settings():
    """Adds the setting that helps to what is said of a picture; commands that score have none of
    them.
    """
    try:
        yield
    except pictures.BadPicture as error:
        raise UserError(f"{error}: skip_bad leaves it out") from error
    except pictures.OtherSize as error:
        raise UserError(f"{error}; resize brings them to one") from error


@_naming_settings()
def _from_pictures(config):
    """Splits are the folders `train`, `test`, `validation` right below; all pictures together where
    there is none.
    """
    found = pictures.files_below(config.dataset)
    files = list(filter(pictures.is_picture, found))
    like = pictures.first(files, config.resize, skip_bad=config.skip_bad)
    by_split = {}
    for file in files:
        below = os.path.relpath(file, config.dataset).split(os.sep)[0]
        by_split.setdefault(
            below if below in ("train", "test", "validation") else "the pictures", []
        ).append(file)
    arrays, bad = {}, []
    for split, names in by_split.items():
        arrays[split], skipped = _picture_rows(names, like, config, **_where(config))
        bad += skipped
    warnings = left_out(config.dataset, files, found, "are no pictures")
    if bad:
        names = few(os.path.relpath(name, config.dataset) for name in bad)
        warnings = (
            f"{len(bad)} of {len(files)} pictures cannot be decoded and are left out: {names}",
            *warnings,
        )
    return Found(arrays, levels=256, warnings=warnings)


def _picture_rows(files, like, config, *, in_memory_mb, cache):
    """The pictures of one split, and the names of those that are left out."""
    bad = []
    content = pictures.examples(files, config.resize, like, bad if config.skip_bad else None)
    if len(files) * math.prod(like[1]) <= in_memory_mb * 2**20:
        return np.concatenate(list(content)), bad
    name = "-".join(["pictures", *map(str, config.resize), *["skipping"] * config.skip_bad])
    names = cached_path(name, files, cache).with_suffix(
        ".bad.json"
    )  # for a later run, which finds the pictures copied

    def content_and_names():
        yield from content
        write_atomically(
            names, json.dumps(bad).encode()
        )  # before the copy counts: a kill must not part them

    path = cached(name, files, content_and_names(), cache)
    return Rows(path), json.loads(names.read_text()) if names.exists() else bad


def _from_tfds(config):
    from nice_tf.data import tfds_images

    name, label = config.dataset, config.condition_on
    builder = tfds_images.find(name, data_dir=config.data_dir, manual_dir=config.manual_dir)
    if builder is None:
        raise _unknown(name)
    shape, dtype = tfds_images.shape_and_dtype(builder)
    known = tfds_images.class_labels(builder)
    if label and label not in known:
        raise UserError(
            f"condition_on {label}: {name} has the class labels {', '.join(known) or '(none)'}"
        )
    tfds_images.prepare(builder, config.manual_dir)
    splits = ("train", "test")
    missing = set(splits) - set(builder.info.splits)
    if missing:
        raise UserError(
            f"dataset {name!r} has no split {', '.join(sorted(missing))}, only "
            f"{list(builder.info.splits)}"
        )
    size = math.prod(shape) * dtype.itemsize
    return Found(
        {
            split: _tfds_rows(
                builder, split, tfds_images.examples(builder, split), size, **_where(config)
            )
            for split in splits
        },
        labels={split: tfds_images.labels(builder, split, label) for split in splits}
        if label
        else None,
    )


def _tfds_rows(builder, split, content, bytes_each, *, in_memory_mb, cache):
    info = builder.info.splits[split]
    if info.num_examples * bytes_each <= in_memory_mb * 2**20:
        return np.concatenate(list(content))
    return Rows(cached(f"{builder.name}-{split}", info.filepaths, content, cache))


def _unknown(name):
    if os.path.isdir(name):
        held = few(sorted(os.listdir(name)))
        return UserError(
            f"dataset {name}: the folder holds no table (.csv, .parquet), no .tfrecord file and no "
            f"PNG or JPEG picture, only {held or 'nothing at all'}"
        )
    return UserError(
        f"dataset {name!r} is not known: it must be 'digits', the path of a table (.csv, "
        ".parquet), of a folder of PNG or JPEG pictures, of a .npy or .npz file or of .tfrecord "
        "files, or an image set of TensorFlow Datasets such as mnist, fashion_mnist, cifar10, "
        "svhn_cropped"
    )


def _is_file_of(name, suffix):
    return name.lower().endswith(suffix) and not os.path.isdir(name)


# Which names a source takes, and the source; the first that takes a name reads it.
_SOURCES = (
    (lambda name: name == "digits", _digits),
    (lambda name: _is_file_of(name, ".npy"), _from_npy),
    (lambda name: _is_file_of(name, ".npz"), _from_npz),
    (_is_table, _from_table),
    (_is_tfrecord, _from_tfrecord),
    (_is_pictures, _from_pictures),
    (lambda name: True, _from_tfds),
)
