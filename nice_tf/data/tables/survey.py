"""How the columns of a table are found out, and what would spoil their density."""

import dataclasses
from collections.abc import Collection, Sequence

import numpy as np

from nice_tf.bijectors.bins import width_of_spike
from nice_tf.data.schema import Column, Schema
from nice_tf.data.tables import degenerate
from nice_tf.data.tables.columns import said_of
from nice_tf.data.tables.grids import Grid
from nice_tf.errors import UserError

_ROWS_TO_COUNT = 100_000  # in which ties are looked for
_VALUES_TO_COUNT = 2**21  # and at most so many values
_EXACT_IN_SINGLE = 2**24  # from here on float32 has not all integers
# Types that have fewer digits than float64, by their precision.
_TYPES: dict[float, type[np.floating]] = {
    float(np.finfo(np.float16).eps): np.float16,
    float(np.finfo(np.float32).eps): np.float32,
}


class Survey:
    """Reads a table once, block by block, for its schema and for what would spoil a density.

    A column is discrete if all its values lie on a grid: integers, or decimals of at most four
    places that come back again and again, as rounded measurements do. Its step is the largest that
    fits all.

    Attributes:
      names: of the columns, without those that were left out.
      num_rows: rows so far.
      present: by name, the values of each column in the block that has most of them.
    """

    def __init__(self, names: Sequence[str], precisions: Sequence[float]):
        """Starts a survey.

        Args:
          names: of the columns of the blocks.
          precisions: relative distance of the numbers that each column was stored with, as of
            `np.finfo`'s `eps`.
        """
        self.names = list(names)
        self.num_rows = 0
        self.present = dict.fromkeys(names, np.empty(0))
        self._names = list(names)
        self._precisions = precisions
        self._grids = list(map(Grid, precisions))
        self._left_out: dict[str, list[str]] = {}  # names by reason
        self._num_missing = np.zeros(len(names), np.int64)
        self._first_missing = np.full(len(names), -1)
        self._low = np.full(len(names), np.inf)
        self._high = np.full(len(names), -np.inf)
        self._start: list[np.ndarray] = []

    def add(self, block: np.ndarray) -> None:
        """Looks at some rows, `[n, columns]` in float64, NaN where a value is missing.

        Raises:
          UserError: an infinite value.
        """
        self._check_finite(block)
        missing = np.isnan(block)
        self._count_missing(missing)
        low = np.min(block, axis=0, initial=np.inf, where=~missing)
        high = np.max(block, axis=0, initial=-np.inf, where=~missing)
        self._low = np.minimum(self._low, low)
        self._high = np.maximum(self._high, high)
        for column, name in enumerate(self._names):
            values = block[~missing[:, column], column]
            self._grids[column].add(values)
            if len(values) > len(self.present[name]):
                self.present[name] = values
        wanted = min(_ROWS_TO_COUNT, _VALUES_TO_COUNT // len(self._names)) - self.num_rows
        if wanted > 0:
            self._start.append(block[:wanted].copy())
        self.num_rows += len(block)

    def _check_finite(self, block):
        infinite = np.argwhere(np.isinf(block))
        if len(infinite):
            row, column = infinite[0]
            raise UserError(
                f"column {self._names[column]} has {block[row, column]} in row "
                f"{self.num_rows + row} (counted from 0): values must be finite"
            )

    def _count_missing(self, missing):
        self._num_missing += missing.sum(axis=0)
        is_new = missing.any(axis=0) & (self._first_missing < 0)
        rows = self.num_rows + missing.argmax(axis=0)
        self._first_missing = np.where(is_new, rows, self._first_missing)

    def missing(self, schema: Schema) -> dict[str, tuple[int, int]]:
        """For each column of the density with missing values: how many, and the first of their
        rows, counted from 0. What is missing of a constant column changes nothing.

        Args:
          schema: that was found.
        """
        found = {}
        for k, name in enumerate(self._names):
            if self._num_missing[k] and name in schema.names:
                found[name] = (int(self._num_missing[k]), int(self._first_missing[k]))
        return found

    @property
    def empty(self) -> list[str]:
        """Names of the columns without any value."""
        return [name for k, name in enumerate(self._names) if self._low[k] > self._high[k]]

    def check_has_values(self) -> None:
        """Refuses a column without any value.

        Raises:
          UserError: it is named.
        """
        if self.empty:
            raise UserError(
                f"column {self.empty[0]} has no value at all: leave it out with columns"
            )

    def identifiers(self, schema: Schema) -> list[str]:
        """Names of columns of plain numbers that look like identifiers, as far as the first rows
        tell.
        """
        numbers = {column.name for column in schema.of_kind("number")}
        found = []
        start = np.concatenate(self._start)
        for k, name in enumerate(self._names):
            values = start[:, k]
            values = values[~np.isnan(values)]
            if name not in numbers or not self._grids[k].is_of_integers:
                continue
            if degenerate.is_identifier(name, values):
                found.append(name)
        return found

    def counts_rows(self, name: str) -> bool:
        """Whether a column may number the rows: whole numbers from 0 on, none missing, in the first
        rows no two alike.

        Those of several tables in one start again: then most are one more than the one before.
        """
        k = self._names.index(name)
        if self._num_missing[k] or self._low[k] < 0 or not self._grids[k].is_of_integers:
            return False
        start = np.concatenate(self._start)[:, k]
        num_distinct = len(np.unique(start))
        num_next = int(np.sum(np.diff(start) == 1))
        return num_distinct == len(start) or num_next > 0.9 * len(start)

    def leave_out(self, names: Collection[str], reason: str) -> None:
        """Takes columns out of the schema, for a reason that `warnings` says, "counts the rows"."""
        if names:
            self._left_out.setdefault(reason, []).extend(names)
        self.names = [name for name in self.names if name not in names]

    def _notes(self):
        return [said_of(names, reason) for reason, names in self._left_out.items()]

    def largest(self) -> dict[str, float]:
        """By name, the largest absolute value of each column."""
        sizes = np.maximum(np.abs(self._low), np.abs(self._high))
        return dict(zip(self._names, sizes.tolist(), strict=True))

    def schema(
        self, ignored: Collection[str], *, delimiter: str = "", decimal: str = "."
    ) -> Schema:
        """What was found in the columns that were not left out.

        Args:
          ignored: names of the other columns of the file.
          delimiter: as of `Schema`.
          decimal: as of `Schema`.

        Raises:
          UserError: no column that varies.
        """
        start = np.concatenate(self._start)
        columns: list[Column] = []
        constants: dict[str, float] = {}
        halves: list[str] = []
        singles: list[str] = []
        for k, name in enumerate(self._names):
            if name not in self.names:
                continue
            low = float(self._low[k])
            high = float(self._high[k])
            kind = _TYPES.get(self._precisions[k], np.float64)
            if not _is_one_in(kind, low, high):
                columns.append(self._column(k, start[:, k], low, high))
                continue
            constants[name] = low
            if kind == np.float16:
                halves.append(name)
            elif kind == np.float32 and abs(low) >= _EXACT_IN_SINGLE:
                singles.append(name)
        self._check_varies(columns, constants)
        return Schema(
            columns=tuple(columns),
            constants=constants,
            ignored=tuple(ignored),
            halves=tuple(halves),
            singles=tuple(singles),
            delimiter=delimiter,
            decimal=decimal,
            spread=any(column.spikes for column in columns),
        )

    def _check_varies(self, columns, constants):
        if columns:
            return
        if not constants:
            raise UserError(f"no column of numbers is left: {'; '.join(self._notes())}")
        raise UserError(
            f"the columns {', '.join(constants)} have the same value in all of {self.num_rows} "
            "rows: there is no density of constants"
        )

    def _column(self, k, start, low, high):
        """With its step; on one, the ends lie on it whatever they were stored with."""
        name = self._names[k]
        places = self._grids[k].places
        start = start[~np.isnan(start)]
        if places is None or (places and len(np.unique(start)) > len(start) / 2):
            return _continuous(name, start, low, high, places)
        step = self._grids[k].step(places)
        return Column(name, step, round(low, places), round(high, places))

    def warnings(
        self, schema: Schema, *, has_marginals: bool = False, has_noise: bool = True
    ) -> list[str]:
        """What makes a density of these columns degenerate, one line each; looked for in the first
        rows.

        Args:
          schema: the columns.
          has_marginals: as for `degenerate.warnings`.
          has_noise: as there.
        """
        kept = [k for k, name in enumerate(self._names) if name in self.names]
        rows = np.concatenate(self._start)[:, kept]
        continuous = [column.name for column in schema.columns if not column.step]
        found = degenerate.warnings(
            rows, self.names, continuous, has_marginals=has_marginals, has_noise=has_noise
        )
        return self._notes() + found


def _continuous(name, values, low, high, decimals):
    """A column without steps, by its range, the values at the start, `[n]`, and how many decimals
    all have.
    """
    column = Column(name, 0.0, low, high, decimals=decimals)
    spikes = degenerate.spikes(values)
    if not spikes:
        return column
    return dataclasses.replace(column, spikes=spikes, spike_width=width_of_spike(values))


def _is_one_in(kind, low, high):
    """Whether two values are one in the type that a file stored them in; another file may have more
    digits.
    """
    with np.errstate(over="ignore"):
        return low == high or bool(kind(low) == kind(high))
