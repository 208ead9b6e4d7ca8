"""Whether a floating-point type tells the values of a table's columns apart."""

import dataclasses

import numpy as np

from nice_tf.data.schema import Column, Schema
from nice_tf.errors import UserError


def check_resolution(schema: Schema, dtype: np.dtype) -> None:
    """Checks that the values of each column stay finite and apart in a type.

    Raises:
      UserError: those of a column do not; the message says what would help.
    """
    for column in schema.columns:
        if not _is_told_apart(column, dtype):
            raise UserError(_what_is_wrong(column, dtype))


def with_dates_told_apart(schema: Schema, dtype: np.dtype) -> tuple[Schema, list[str]]:
    """A schema whose dates and times have no step where a type does not tell its values apart, as
    of seconds over years in float32: they are then continuous.

    Returns:
      The schema, and what the user should know, one line each.
    """
    columns = []
    changed = []
    for column in schema.columns:
        if column.encoding.kind == "date" and not _is_told_apart(column, dtype):
            column = dataclasses.replace(column, step=0.0)
            changed.append(column.name)
        columns.append(column)
    if not changed:
        return schema, []
    note = (
        f"column {', '.join(changed)} has times finer than {dtype} tells apart within its range, "
        "and is taken as continuous; precision float64 keeps their steps"
    )
    return dataclasses.replace(schema, columns=tuple(columns)), [note]


def _is_told_apart(column, dtype):
    """Whether values of a column stay finite and apart in a type."""
    size = _size(column)
    if size > _largest(dtype):
        return False
    if column.step and dtype == np.float64:
        return True  # its values are below 2^53
    finest = (column.high - column.low) / 10_000
    if column.step:
        finest = column.step / 16
    return np.spacing(dtype.type(size)) <= finest


def _what_is_wrong(column: Column, dtype: np.dtype) -> str:
    size = _size(column)
    if size > _largest(dtype):
        what = f"{dtype} takes them up to {_largest(dtype):.2g}"
        ways = ["Divide them"]
    else:
        what = f"{dtype} cannot tell them apart"
        ways = ["Take an offset off them"]
    if _is_told_apart(column, np.dtype(np.float64)):
        ways.append("give precision float64")
    ways.append("leave the column out with columns")
    return (
        f"column {column.name} has values up to {size:g}{_spread(column, dtype)}: {what}. "
        f"{', or '.join(ways)}"
    )


def _spread(column, dtype):
    """How near to each other values lie, where that is what is wrong."""
    if _size(column) > _largest(dtype):
        return ""
    if column.step:
        return f" in steps of {column.step:g}"
    return f" within {column.high - column.low:g}"


def _size(column):
    """The largest absolute value."""
    return max(abs(column.low), abs(column.high))


def _largest(dtype):
    """Largest value that is taken: with room in the type for sums, and in float64 for squares, as
    covariances have.
    """
    for_sums = float(np.finfo(dtype).max) / 10
    for_squares = float(np.sqrt(np.finfo(np.float64).max)) / 1000
    return min(for_sums, for_squares)
