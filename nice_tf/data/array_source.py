"""Data of NumPy files: one array to be split, or arrays of splits by their names, with labels."""

import os

from nice_tf.config import Config
from nice_tf.data.arrays import read_archive
from nice_tf.data.cache import read_npy
from nice_tf.data.found import Found, storage_of
from nice_tf.data.rows import Array
from nice_tf.errors import UserError


def read_npy_file(config: Config) -> Found:
    """The array of a `.npy` file.

    Raises:
      UserError: there is no such file, or it is none of numbers.
    """
    _check_is_file(config.dataset)
    return Found({"the array": read_npy(config.dataset, storage_of(config))})


def read_npz_file(config: Config) -> Found:
    """The arrays of a `.npz` file, and their labels if they are asked for.

    Raises:
      UserError: there is no such file, or it is none of numbers; or labels are asked for and not
        there, or there and not asked for.
    """
    _check_is_file(config.dataset)
    arrays: dict[str, Array] = dict(read_archive(config.dataset, f"dataset {config.dataset}"))
    warnings: tuple[str, ...] = ()
    if _is_named_as_keras_does(arrays):
        arrays, warnings = _named_our_way(arrays, config)
    if config.condition_on:
        return _with_labels(arrays, config)
    _check_are_examples(arrays, config)
    return Found(arrays, warnings=warnings)


def _check_is_file(path):
    if not os.path.isfile(path):
        raise UserError(f"dataset {path}: there is no such file")


def _is_named_as_keras_does(arrays):
    """Whether arrays are those of Keras' mnist.npz, x_train and x_test with labels y_train and
    y_test; x_validation may be there, too.
    """
    splits = _keras_splits(arrays)
    num_known = len(splits) + len(_keras_labels(arrays))
    return "train" in splits and "test" in splits and num_known == len(arrays)


def _keras_splits(arrays):
    splits = []
    for name in arrays:
        if name in ("x_train", "x_test", "x_validation"):
            splits.append(name.removeprefix("x_"))
    return splits


def _keras_labels(arrays):
    """Names of the labels, without those of a split that is not there."""
    labels = []
    for split in _keras_splits(arrays):
        if f"y_{split}" in arrays:
            labels.append(f"y_{split}")
    return labels


def _named_our_way(arrays, config):
    """Arrays that are named as Keras does under our names, and what the user should know of labels
    that are left out.
    """
    labels = _keras_labels(arrays)
    wanted = config.condition_on
    if wanted not in ("", "y", "label"):
        raise UserError(
            f"condition_on {wanted}: {config.dataset} holds the labels "
            f"{', '.join(labels) or '(none)'}, which condition_on=y takes"
        )
    renamed = {split: arrays[f"x_{split}"] for split in _keras_splits(arrays)}
    if wanted:
        for name in labels:
            split = name.removeprefix("y_")
            renamed[f"{split}_{wanted}"] = _as_a_row(arrays[name])
        return renamed, ()
    if not labels:
        return renamed, ()
    warning = f"{', '.join(labels)} hold labels and are left out: condition_on=y takes them"
    return renamed, (warning,)


def _as_a_row(values):
    """Labels `[N, 1]`, as Keras' CIFAR has them, as `[N]`."""
    if values.ndim == 2 and values.shape[1] == 1:
        return values[:, 0]
    return values


def _with_labels(arrays, config):
    """Labels of a single array are the array of that name; those of several have the name of theirs
    before it.
    """
    name = config.condition_on
    suffix = f"_{name}"
    values = {}
    for key, array in arrays.items():
        if key != name and not key.endswith(suffix):
            values[key] = array
    if len(values) == 1:
        wanted = dict.fromkeys(values, name)
    else:
        wanted = {key: f"{key}{suffix}" for key in values}
    missing = sorted(set(wanted.values()) - set(arrays))
    if not values:
        missing = [name]
    if missing:
        raise UserError(
            f"condition_on {name}: {config.dataset} holds the arrays {', '.join(sorted(arrays))}, "
            f"but none of labels {', '.join(missing)}"
        )
    return Found(values, labels={key: arrays[label] for key, label in wanted.items()})


def _check_are_examples(arrays, config):
    """Refuses labels that nobody asked for: they are no examples."""
    labels = _plainly_labels(arrays)
    if not labels:
        return
    flags = list(labels.values())
    holds = "holds"
    if len(labels) > 1:
        holds = "hold"
    raise UserError(
        f"dataset {config.dataset} holds the arrays {', '.join(sorted(arrays))}; "
        f"{' and '.join(labels)} {holds} labels, not examples: condition_on={flags[0]} uses them; "
        "or leave them out of the file"
    )


def _plainly_labels(arrays):
    """Arrays with one value for each example of another array, and the name that `condition_on` has
    for each.
    """
    lengths = {name: len(values) for name, values in arrays.items() if values.ndim > 1}
    found = {}
    for name, values in arrays.items():
        if values.ndim != 1 or values.dtype.kind not in "biuSU":
            continue
        owners = [owner for owner in lengths if name.startswith(f"{owner}_")]
        flag = name
        if len(lengths) == 1:
            owners = list(lengths)
        elif owners:
            flag = name.removeprefix(f"{owners[0]}_")
        if len(values) in [lengths[owner] for owner in owners]:
            found[name] = flag
    return found
