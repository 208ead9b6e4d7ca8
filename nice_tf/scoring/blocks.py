"""Some rows that a model is asked about, and the checks that all of them pass."""

import dataclasses
from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from nice_tf.errors import UserError


@dataclasses.dataclass(frozen=True)
class Block:
    """Some rows.

    Attributes:
      first: number of the first, counted from 0.
      values: `[n, *event_shape]` in data units, NaN where one is missing; of a table the columns of
        the density.
      constants: of a table, those of the schema's constant columns that it has, by name, `[n]`
        each.
      kept: the columns of the file that were asked for, by name, `[n]` each, as they stand; of
        pictures, `file`, the path of each in the folder.
      unseen: of a table, where a column of categories has one that the table of the run does not,
        by name, `[n]` in bool each.
      stored_as: by name, the type of those constants that the file has in fewer digits than
        float64.
      words: of a table of CSV, how the columns of `kept` that may hold true and false spell them,
        by name: false, then true.
      labels: for a conditional model, the class of each row by name, `[n]`; else `None`.
      decimals: of a table of CSV, the least and the most decimals that the numbers of a column of
        `kept` are written with, by name; of those that are written with some.
    """

    first: int
    values: np.ndarray
    constants: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
    kept: dict[str, pa.Array] = dataclasses.field(default_factory=dict)
    stored_as: dict[str, str] = dataclasses.field(default_factory=dict)
    unseen: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
    words: dict[str, tuple[str, str]] = dataclasses.field(default_factory=dict)
    labels: np.ndarray | None = None
    decimals: dict[str, tuple[int, int]] = dataclasses.field(default_factory=dict)


def rows_at_once(event_size: int, work: int = 1) -> int:
    """How many rows of so many values are held at a time, fewer where each takes more work than to
    be scored.
    """
    return max(1, min(2**16, 2**22 // event_size) // work)


def check_finite(values: np.ndarray, names: Sequence[str] | None, what: str, first: int) -> None:
    """Refuses infinite values; NaN stands for a missing one.

    Args:
      values: `[n, columns]`.
      names: of the columns, if they have some.
      what: the input, for the message.
      first: number of the first row.

    Raises:
      UserError: the first such value is named by its row.
    """
    if values.dtype.kind != "f":
        return
    infinite = np.argwhere(np.isinf(values))
    if len(infinite):
        where = _where(names, what, infinite[0])
        value = values[tuple(infinite[0])]
        row = first + infinite[0][0]
        raise UserError(f"{where} has {value} in row {row} (counted from 0): values must be finite")


def check_holds(
    dtype: np.dtype, values: np.ndarray, names: Sequence[str] | None, what: str, first: int
) -> None:
    """Refuses finite values that are infinite in the type in which the model takes them; arguments
    and errors as of `check_finite`.
    """
    if values.dtype.kind != "f":  # integers of 64 bits are far below
        return
    largest = np.finfo(dtype).max
    beyond = np.argwhere(np.abs(values) > largest)
    if len(beyond):
        where = _where(names, what, beyond[0])
        value = values[tuple(beyond[0])]
        row = first + beyond[0][0]
        raise UserError(
            f"{where} has {value:g} in row {row} (counted from 0): the model is of {dtype}, which "
            f"ends at {largest:.2g}. Leave the row out or mend it"
        )


def _where(names, what, place):
    """What has a value, the column too where columns have names."""
    if names:
        return f"column {names[place[1]]} of {what}"
    return what
