"""The only readers of data: what `--dataset` names, to arrays or to rows of a file.

A new source is a function from settings to `Found`, and a line in `_read`. What is large it leaves
on disk as `rows.Rows`, by `cache.read_npy` or `cache.kept`. Checking, splitting and batching are
the same for all, in `dataset`.
"""

import math
import os

import numpy as np

from nice_tf.config import Config
from nice_tf.data import array_source, picture_source, pictures, tfrecord
from nice_tf.data.cache import cached, kept, read_npy
from nice_tf.data.found import Found, by_split, storage_of
from nice_tf.data.paths import few, is_pattern
from nice_tf.data.tables.paths import is_table, table_files
from nice_tf.errors import UserError


def find(config: Config) -> Found:
    """Reads what `config.dataset` names.

    Raises:
      UserError: no such data, or none that can be read, or no labels where `config.condition_on`
        asks for them; the message says which and what would help.
    """
    found = _read(config)
    if config.condition_on and found.labels is None:
        raise UserError(
            f"condition_on {config.condition_on}: {config.dataset} has no labels; digits, sets of "
            "TensorFlow Datasets, .npz files and tables may have some"
        )
    return found


def _read(config):
    """Asks the first source that takes a name like this."""
    name = config.dataset
    if name == "digits":
        return _from_digits(config)
    if os.path.isdir(name):
        return _from_folder(config)
    if name.lower().endswith(".npy"):
        return array_source.read_npy_file(config)
    if name.lower().endswith(".npz"):
        return array_source.read_npz_file(config)
    if _is_table(name):
        return _from_table(config)
    if _is_tfrecord(name):
        return _from_tfrecord(config)
    return _from_tfds(config)


def _from_folder(config):
    """What a folder holds, if that is of one kind."""
    folder = config.dataset
    tables = table_files(folder)
    records = tfrecord.tfrecord_files(folder)
    below = pictures.files_below(folder)
    images = list(filter(pictures.is_picture, below))
    _check_is_of_one_kind(folder, {"tables": tables, "TFRecord files": records, "pictures": images})
    if tables:
        return _from_table(config)
    if records:
        return _from_tfrecord(config)
    if images:
        return picture_source.read(config, below)
    return _from_tfds(config)


def _check_is_of_one_kind(folder, files_of):
    """Refuses a folder of more than one kind of files."""
    names = []
    for kind, files in files_of.items():
        if files:
            names.append(f"{kind} ({os.path.relpath(files[0], folder)})")
    if len(names) > 1:
        raise UserError(
            f"dataset {folder} holds {', '.join(names)}: give a folder of one kind, or a pattern "
            "such as FOLDER/*.csv"
        )


def _from_digits(config):
    # Imported where it is used: a second of start-up that the other data sets need not pay.
    from sklearn.datasets import load_digits

    if config.condition_on not in ("", "label"):
        raise UserError(f"condition_on {config.condition_on}: digits have label alone")
    digits = load_digits()
    images = digits.images.astype(np.uint8)[..., np.newaxis]
    labels = None
    if config.condition_on:
        labels = {"the images": digits.target}
    return Found({"the images": images}, levels=17, num_test=300, labels=labels)


def _is_table(name):
    return is_table(name) or bool(table_files(name))


def _from_table(config):
    # pyarrow is imported where a table is read: half a second of start-up that the other data sets
    # need not pay.
    from nice_tf.data.tables import source

    return source.read(config)


def _is_tfrecord(name):
    if tfrecord.is_tfrecord(name):
        return True
    return is_pattern(name) and bool(tfrecord.tfrecord_files(name))


def _from_tfrecord(config):
    """Splits are those in the files' names, `train-00.tfrecord`; all records together where none
    has one.
    """
    files = tfrecord.tfrecord_files(config.dataset)
    if not files:
        raise UserError(f"dataset {config.dataset}: there is no such TFRecord file")
    storage = storage_of(config)
    arrays = {}
    for split, names in by_split(files, "the records").items():
        path = cached("tfrecord", names, tfrecord.examples(names), storage.folder)
        arrays[split] = read_npy(path, storage)
    return Found(arrays, warnings=tfrecord.left_out(config.dataset))


def _from_tfds(config):
    # Imported where it is used, as the digits are.
    from nice_tf.data import tfds_images

    name = config.dataset
    label = config.condition_on
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
    _check_splits(name, builder.info.splits, splits)
    arrays = {}
    for split in splits:
        info = builder.info.splits[split]
        num_bytes = info.num_examples * math.prod(shape) * dtype.itemsize
        content = tfds_images.examples(builder, split)
        arrays[split] = kept(
            f"{builder.name}-{split}", info.filepaths, content, num_bytes, storage_of(config)
        )
    labels = None
    if label:
        labels = {split: tfds_images.labels(builder, split, label) for split in splits}
    return Found(arrays, labels=labels)


def _check_splits(name, found, needed):
    missing = set(needed) - set(found)
    if missing:
        raise UserError(
            f"dataset {name!r} has no split {', '.join(sorted(missing))}, only {list(found)}"
        )


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
