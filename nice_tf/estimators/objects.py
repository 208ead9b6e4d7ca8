"""Columns of pandas that can hold anything: values of several kinds are refused, or become text."""

import datetime
import decimal
from collections.abc import Collection
from typing import Any

import numpy as np
import pyarrow as pa

from nice_tf.data.tables.encodings import as_texts
from nice_tf.errors import UserError

_NUMBER = "a number"
_OTHER = "a value of another type"


def of_one_kind(x: Any, texts: Collection[str]) -> Any:
    """A data frame of pandas whose columns each hold values of one kind, as Arrow needs them.

    Args:
      x: the frame, in which a categorical of no such kind becomes one of texts, a sparse column a
        dense one, and decimals beside other numbers become floats.
      texts: names of columns that become text where they are of several kinds, or of one that
        tables do not have.

    Raises:
      UserError: another column of several kinds; the first value of a second one is named. Or an
        integer that its column cannot hold.
    """
    result = x.copy(deep=False)
    for name in x.columns:
        column = x[name]
        if hasattr(column, "sparse"):
            column = column.sparse.to_dense()
            result[name] = column
        if hasattr(column.dtype, "categories"):
            categories = column.cat.categories.to_numpy(object)
            places = range(len(categories))
            has_no_kind = _has_no_kind(list(map(_kind_of, categories)))
            if has_no_kind or _mixes_decimals(categories) or _too_large(categories, places):
                result[name] = column.map(_spelled, na_action="ignore")
        elif column.dtype == object or str(name) in texts:
            result[name] = _of_objects(name, column, is_text=str(name) in texts)
    return result


def _of_objects(name, column, *, is_text):
    values = column.to_numpy(object, copy=True)
    rows = np.flatnonzero(column.notna())
    kinds = [_kind_of(value) for value in values[rows]]
    too_large = _too_large(values, rows) if _NUMBER in kinds else []
    if is_text and (_has_no_kind(kinds) or too_large):
        values[rows] = list(map(_spelled, values[rows]))
        return values
    _check_is_one(name, values, rows, kinds)
    _check_is_held(name, values, too_large)
    if _NUMBER not in kinds or not _mixes_decimals(values[rows]):
        return column
    values[rows] = list(map(float, values[rows]))
    return values


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
            f"in row {rows[0]}: values of one kind are needed; or {_as_text(name)}"
        )


def _mixes_decimals(values):
    """Whether some are decimals and others numbers of another type: only floats hold all."""
    are_decimals = {isinstance(value, decimal.Decimal) for value in values}
    return len(are_decimals) == 2


def _too_large(values, rows):
    """The rows of integers that a column of such values cannot hold exactly."""
    found = values[rows]
    has_floats = any(isinstance(value, (float, np.floating)) for value in found)
    bits = 53 if has_floats or _mixes_decimals(found) else 63
    too_large = []
    for row, value in zip(rows, found, strict=True):
        if isinstance(value, (int, np.integer)) and abs(int(value)) >= 2**bits:
            too_large.append(row)
    return too_large


def _check_is_held(name, values, too_large):
    if too_large:
        row = too_large[0]
        raise UserError(
            f"column {name} of X has {values[row]} in row {row} (counted from 0): integers are "
            f"below 2**63 in size, and below 2**53 beside fractions; or {_as_text(name)}"
        )


def _as_text(name):
    return f"settings={{'categories': {[str(name)]}}} takes all as text"


def _kind_of(value):
    """What Arrow keeps apart; and times of other time zones, which it would mix."""
    if isinstance(value, str):
        return "text"
    if isinstance(value, (bool, np.bool_)):
        return "true or false"
    if isinstance(value, (datetime.timedelta, np.timedelta64)):
        return "a duration"
    if isinstance(value, (int, float, decimal.Decimal, np.integer, np.floating)):
        return _NUMBER
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
    except (pa.ArrowException, OverflowError):
        return str(value)
