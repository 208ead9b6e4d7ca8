"""What the examples of a source must be, looked at before a run takes them."""

import math

import numpy as np

from nice_tf.config import Config
from nice_tf.data.rows import Array, chunks
from nice_tf.data.schema import Schema
from nice_tf.errors import UserError


def check_names(arrays: dict[str, Array], name: str) -> None:
    """Looks at the names of arrays. Before any values are looked at: what is no split need not keep
    the rules of examples.

    Raises:
      UserError: they are neither one array nor splits.
    """
    if len(arrays) == 1:
        return
    if not {"train", "test"} <= set(arrays) <= {"train", "validation", "test"}:
        raise UserError(
            f"dataset {name} holds the arrays {', '.join(sorted(arrays)) or '(none)'}; it must "
            "hold one array, or 'train' and 'test' and perhaps 'validation'"
        )


def check_values(values: Array, what: str) -> None:
    """Looks at type, shape and values of an array; `what` names it in messages.

    Raises:
      UserError: it holds no examples of numbers, too few, or values that are not finite.
    """
    if values.dtype.kind not in "uif" or values.dtype.itemsize > 8:
        raise UserError(
            f"{what} has type {values.dtype}: integers or floating-point numbers are needed"
        )
    if values.ndim < 2:
        raise UserError(f"{what} has shape {list(values.shape)}: [examples, values...] is needed")
    if len(values) < 2:
        raise UserError(f"{what} has {len(values)} examples: at least 2 are needed")
    size = math.prod(values.shape[1:])
    if size < 2:
        raise UserError(f"NICE needs examples of at least 2 values, those of {what} have {size}")
    if values.dtype.kind == "f":
        _check_finite(values, what)


def _check_finite(values, what):
    num_bad = 0
    num_seen = 0
    where = ""
    for rows in chunks(values):
        bad = np.argwhere(~np.isfinite(rows))
        if len(bad) and not num_bad:
            example = num_seen + bad[0][0]
            where = f"example {example} (counted from 0): {rows[tuple(bad[0])]}"
        num_bad += len(bad)
        num_seen += len(rows)
    if num_bad:
        raise UserError(f"{what} has {num_bad} values that are not finite, the first in {where}")


def check_shapes(arrays: dict[str, Array], name: str) -> None:
    """Checks that all splits have examples of one shape.

    Raises:
      UserError: one has others than train.
    """
    shape = arrays["train"].shape[1:]
    for split, values in arrays.items():
        if values.shape[1:] != shape:
            raise UserError(
                f"{split} of {name} has examples of shape {list(values.shape[1:])}, train of shape "
                f"{list(shape)}: they must agree"
            )


def check_columns_vary(train: Array, schema: Schema, config: Config) -> None:
    """A column of few values that are no constant may still be one in the training rows.

    Raises:
      UserError: it is one.
    """
    varies = (schema.steps > 0) & (config.dequantization == "uniform")  # by their noise
    first = train[:1]
    for rows in chunks(train):
        varies = varies | np.any(rows != first, axis=0)
        if varies.all():  # most tables say so at their start
            return
    constant = ", ".join(np.array(schema.names)[~varies])
    raise UserError(
        f"column {constant} of {config.dataset} has the same value in all {len(train)} training "
        "rows: leave it out with columns, or split otherwise (split_seed)"
    )


def find_levels(arrays: dict[str, Array], levels: int | None, name: str) -> int | None:
    """The number of levels of the values, or None for continuous data.

    Args:
      arrays: by name, checked by `check_values`.
      levels: number of levels, if it is known.
      name: of the data, for messages.

    Raises:
      UserError: integers of an unknown number of levels, or values that do not keep to it.
    """
    if not levels:
        dtypes = {values.dtype for values in arrays.values()}
        if all(dtype.kind == "f" for dtype in dtypes):
            return None
        if dtypes != {np.dtype(np.uint8)}:
            raise UserError(
                f"{name} has values of type {', '.join(sorted(map(str, dtypes)))}: give the number "
                "of integer levels with levels, or store continuous values as floating point"
            )
        levels = 256
    for split, values in arrays.items():
        _check_levels(values, levels, f"{split} of {name}")
    return levels


def _check_levels(values, levels, what):
    lowest, highest = _range(values)
    if lowest < 0 or highest > levels - 1:
        raise UserError(
            f"{what} has values from {lowest} to {highest}: with levels {levels} "
            f"they must lie in 0..{levels - 1}"
        )
    if values.dtype.kind != "f":
        return
    for rows in chunks(values):
        if np.any(rows != np.floor(rows)):
            raise UserError(f"{what} has values that are no integers, although levels is {levels}")


def _range(values):
    lows = []
    highs = []
    for rows in chunks(values):
        lows.append(rows.min())
        highs.append(rows.max())
    return min(lows), max(highs)


def as_integers(arrays: dict[str, Array], levels: int) -> dict[str, Array]:
    """Values of so many levels in the smallest type that holds them."""
    dtype: np.dtype = np.dtype(np.int32)
    if levels <= 256:
        dtype = np.dtype(np.uint8)
    return {split: values.astype(dtype) for split, values in arrays.items()}
