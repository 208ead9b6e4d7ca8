"""Columns of pandas that can hold anything: values of several kinds are refused, or become text."""

import datetime
import decimal
from collections.abc import Collection
from typing import Any

import numpy as np
import pyarrow as pa

from nice_tf.data.tables.encodings import as_texts
from nice_tf.errors import UserError

_OTHER = "a value of another type"


def of_one_kind(x: Any, texts: Collection[str]) -> Any:
    """A data frame of pandas whose columns each hold values of one kind, as Arrow needs them.

    Args:
      x: the frame, in which a categorical of no such kind becomes one of texts.
      texts: names of columns that become text where they are of several kinds, or of one that
        tables do not have.

    Raises:
      UserError: another column of several kinds; the first value of a second one is named.
    """
    result = x.copy(deep=False)
    for name in x.columns:
        column = x[name]
        is_text = str(name) in texts
        if hasattr(column.dtype, "categories"):
            if _has_no_kind(list(map(_kind_of, column.cat.categories))):
                result[name] = column.map(_spelled, na_action="ignore")
        elif column.dtype == object or is_text:
            values = column.to_numpy(object, copy=True)
            rows = np.flatnonzero(column.notna())
            kinds = [_kind_of(values[row]) for row in rows]
            if is_text and _has_no_kind(kinds):
                values[rows] = list(map(_spelled, values[rows]))
                result[name] = values
            else:
                _check_is_one(name, values, rows, kinds)
    return result


def _has_no_kind(kinds):
    return len(set(kinds)) > 1 or _OTHER in kinds


def _check_is_one(name, values, rows, kinds):
    for row, kind in zip(rows, kinds, strict=True):
        if kind == kinds[0]:
            continue
        value = values[row]
        if isinstance(value, str):
            value = repr(value)
        raise UserError(
            f"column {name} of X has {value} in row {row} (counted from 0), {kind}, and {kinds[0]} "
            f"in row {rows[0]}: values of one kind are needed; or settings="
            f"{{'categories': {[str(name)]}}} takes all as text"
        )


def _kind_of(value):
    """What Arrow keeps apart; and times of other time zones, which it would mix."""
    if isinstance(value, str):
        return "text"
    if isinstance(value, (bool, np.bool_)):
        return "true or false"
    if isinstance(value, (datetime.timedelta, np.timedelta64)):
        return "a duration"
    if isinstance(value, (int, float, decimal.Decimal, np.integer, np.floating)):
        return "a number"
    if isinstance(value, np.datetime64):
        return "a time without time zone"
    if isinstance(value, datetime.datetime):
        if value.tzinfo is None:
            return "a time without time zone"
        return f"a time of time zone {value.tzinfo}"
    if isinstance(value, datetime.date):
        return "a date"
    if isinstance(value, datetime.time):
        return "a time of day"
    return _OTHER


def _spelled(value):
    """As a column of such values is spelled, so that a part of the rows gives the same texts."""
    try:
        return as_texts(pa.array([value]))[0].as_py()
    except pa.ArrowException:
        return str(value)
