"""Values that a user gives of a row, as text, as the numbers of a schema."""

import math
from collections.abc import Mapping

import numpy as np
import pyarrow as pa

from nice_tf.data.schema import Column, Schema
from nice_tf.data.tables.cells import is_number
from nice_tf.data.tables.encodings import encoded, wanted
from nice_tf.errors import UserError

_BOOLEANS = {"true": 1.0, "false": 0.0}
_FEW = 8  # categories that a message names
_OFF_STEP = 1e-3  # of a step: more is no rounding


def known_values(schema: Schema, given: Mapping[str, str]) -> np.ndarray:
    """A row of which some values are known, `[D]` in float64 with NaN for the rest.

    Args:
      schema: of the table.
      given: values by the names of columns, as the table spells them.

    Raises:
      UserError: a column that the density does not have, a category that the table of the
        run does not have, a text that is no number or date.
    """
    row = np.full(len(schema.columns), np.nan)
    places = {column.name: place for place, column in enumerate(schema.columns)}
    for name, text in given.items():
        if name not in places:
            raise UserError(
                f"--given has no column {name} to give: the model is of the columns "
                f"{', '.join(schema.names)}"
            )
        place = places[name]
        row[place] = _number(schema.columns[place], text)
    if not np.isnan(row).any():
        raise UserError("--given names every column: there is nothing to draw")
    return row


def _number(column: Column, text: str) -> float:
    encoding = column.encoding
    if column.categories and text not in column.categories:
        few = ", ".join(column.categories[:_FEW])
        if len(column.categories) > _FEW:
            few += f" and {len(column.categories) - _FEW} more"
        raise UserError(f"--given {column.name}={text}: it must be one of {few}")
    if encoding.is_read_apart:
        try:
            value = float(encoded(pa.array([text]), encoding)[0])
        except pa.ArrowException as error:
            raise UserError(
                f"--given {column.name}={text}: it must be {wanted(encoding)} ({error})"
            ) from error
        if not column.low <= value <= column.high:
            raise UserError(f"--given {column.name}={text}: the table of the run has no such dates")
        return value
    if encoding.kind == "boolean":
        if text.lower() not in _BOOLEANS:
            raise UserError(f"--given {column.name}={text}: it must be true or false")
        return _BOOLEANS[text.lower()]
    if not is_number(text):
        raise UserError(f"--given {column.name}={text}: it must be a number")
    value = float(text)
    if not math.isfinite(value):
        raise UserError(f"--given {column.name}={text}: it must be finite")
    if not column.low <= value <= column.high:
        raise UserError(
            f"--given {column.name}={text}: it must be from {column.low:g} to {column.high:g}, the "
            "range of the table of the run"
        )
    _check_on_step(column, value, text)
    return value


def _check_on_step(column, value, text):
    if not column.step:
        return
    steps = (value - column.low) / column.step
    if abs(steps - round(steps)) > _OFF_STEP:
        raise UserError(
            f"--given {column.name}={text}: its values lie on steps of {column.step:g} from "
            f"{column.low:g}"
        )
