"""How the columns of a table are found out, and what would spoil their density."""

from collections.abc import Collection, Sequence

import numpy as np

from nice_tf.data.schema import MAX_PLACES, Column, Schema
from nice_tf.errors import UserError

_ROWS_TO_COUNT = 100_000  # in which ties are looked for
_VALUES_TO_COUNT = 2**21  # and at most so many values
_MAX_TIES = 0.01  # share of rows
_EXACT_IN_SINGLE = 2**24  # from here on float32 has not all integers
_MIN_REST = 1e-6  # of a column's deviation, once what other columns say is taken off

_TYPES: dict[
    float, type[np.floating]
] = {  # that have fewer digits than float64, by their precision
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

    def __init__(self, names: list[str], precisions: Sequence[float]):
        """Starts a survey.

        Args:
          names: of the columns of the blocks.
          precisions: relative distance of the numbers that each column was stored with, as of
            `np.finfo`'s `eps`.
        """
        self.names, self._names, self._precisions = list(names), names, precisions
        self._notes: list[str] = []
        self.num_rows = 0
        self.present = dict.fromkeys(names, np.empty(0))
        self._num_missing = np.zeros(len(names), np.int64)
        self._first_missing = np.full(len(names), -1)
        self._low, self._high = np.full(len(names), np.inf), np.full(len(names), -np.inf)
        # For each number of decimal places: the greatest common divisor of all differences, -1 once
        # one fits no grid.
        self._divisors = np.zeros([MAX_PLACES + 1, len(names)], np.int64)
        self._first = np.full(len(names), np.nan)
        self._start: list[np.ndarray] = []

    def add(self, block: np.ndarray) -> None:
        """Looks at some rows, `[n, columns]` in float64, NaN where a value is missing.

        Raises:
          UserError: an infinite value.
        """
        infinite = np.argwhere(np.isinf(block))
        if len(infinite):
            row, column = infinite[0]
            raise UserError(
                f"column {self._names[column]} has {block[row, column]} in row "
                f"{self.num_rows + row} (counted from 0): values must be finite"
            )
        missing = np.isnan(block)
        starts = np.where(
            missing.any(axis=0) & (self._first_missing < 0), missing.argmax(axis=0), -1
        )
        self._first_missing = np.where(starts >= 0, self.num_rows + starts, self._first_missing)
        self._num_missing += missing.sum(axis=0)
        self._low = np.minimum(self._low, np.min(block, axis=0, initial=np.inf, where=~missing))
        self._high = np.maximum(self._high, np.max(block, axis=0, initial=-np.inf, where=~missing))
        for column, name in enumerate(self._names):
            values = block[~missing[:, column], column]
            self._add_to_grid(column, values)
            if len(values) > len(self.present[name]):
                self.present[name] = values
        wanted = min(_ROWS_TO_COUNT, _VALUES_TO_COUNT // len(self._names)) - self.num_rows
        if wanted > 0:
            self._start.append(block[:wanted].copy())
        self.num_rows += len(block)

    def _add_to_grid(self, column, values):
        if not len(values):
            return
        if np.isnan(self._first[column]):
            self._first[column] = values[0]
        # Eight roundings of what is stored, and never so many that any value would fit.
        tolerance = 4 * self._precisions[column] * np.maximum(1, np.abs(values))
        for places in range(MAX_PLACES + 1):
            if self._divisors[places, column] < 0:
                continue
            with np.errstate(over="ignore", invalid="ignore"):  # what becomes infinite fits nowhere
                scaled = values * 10.0**places
                whole = np.rint(scaled)
                fits = np.abs(scaled - whole) <= np.minimum(tolerance * 10.0**places, 0.05)
            if np.max(np.abs(scaled)) < 2**53 and np.all(fits):
                differences = np.unique(whole - np.rint(self._first[column] * 10.0**places)).astype(
                    np.int64
                )
                self._divisors[places, column] = np.gcd(
                    self._divisors[places, column], np.gcd.reduce(differences)
                )
                return  # a grid of more places would be no coarser
            if places < MAX_PLACES:  # what fitted so far counts there
                self._divisors[places + 1, column] = np.gcd(
                    self._divisors[places + 1, column], 10 * self._divisors[places, column]
                )
            self._divisors[places, column] = -1

    def missing(self) -> dict[str, tuple[int, int]]:
        """For each column with missing values: how many, and the first of their rows, counted from
        0.
        """
        return {
            name: (int(self._num_missing[k]), int(self._first_missing[k]))
            for k, name in enumerate(self._names)
            if self._num_missing[k] and name in self.names
        }

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

    def counts_rows(self, name: str) -> bool:
        """Whether a column may number the rows: whole numbers from 0 on, none missing, in the first
        rows no two alike.

        Those of several tables in one start again: then most are one more than the one before.
        """
        k = self._names.index(name)
        if self._num_missing[k] or self._low[k] < 0 or self._divisors[0, k] < 1:
            return False
        start = np.concatenate(self._start)[:, k]
        num_distinct, num_next = len(np.unique(start)), int(np.sum(np.diff(start) == 1))
        return num_distinct == len(start) or num_next > 0.9 * len(start)

    def leave_out(self, names: Collection[str], reason: str) -> None:
        """Takes columns out of the schema, for a reason that `warnings` says, "counts the rows"."""
        if names:
            self._notes.append(f"column {', '.join(names)} {reason}")
        self.names = [name for name in self.names if name not in names]

    def largest(self) -> dict[str, float]:
        """By name, the largest absolute value of each column."""
        return dict(
            zip(
                self._names, np.maximum(np.abs(self._low), np.abs(self._high)).tolist(), strict=True
            )
        )

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
        start, columns, constants = np.concatenate(self._start), [], {}
        halves, singles = [], []
        for k, name in enumerate(self._names):
            if name not in self.names:
                continue
            low, high = float(self._low[k]), float(self._high[k])
            kind = _TYPES.get(self._precisions[k], np.float64)
            if not _is_one_in(kind, low, high):
                columns.append(self._column(k, start[:, k], low, high))
                continue
            constants[name] = low
            if kind == np.float16:
                halves.append(name)
            if kind == np.float32 and abs(low) >= _EXACT_IN_SINGLE:
                singles.append(name)
        if not columns and not constants:
            raise UserError(f"no column of numbers is left: {'; '.join(self._notes)}")
        if not columns:
            raise UserError(
                f"the columns {', '.join(constants)} have the same value in all of {self.num_rows} "
                "rows: there is no density of constants"
            )
        return Schema(
            tuple(columns),
            constants,
            tuple(ignored),
            tuple(halves),
            tuple(singles),
            delimiter,
            decimal,
        )

    def _column(self, k, start, low, high):
        """With its step; on one, the ends lie on it whatever they were stored with."""
        places = next(
            (places for places in range(MAX_PLACES + 1) if self._divisors[places, k] > 0), None
        )
        start = start[~np.isnan(start)]
        if places is None or (places and len(np.unique(start)) > len(start) / 2):
            return Column(self._names[k], 0.0, low, high)
        step = float(self._divisors[places, k]) / 10.0**places
        return Column(self._names[k], step, round(low, places), round(high, places))

    def warnings(self, schema: Schema) -> list[str]:
        """What makes a density of these columns degenerate, a line each; looked for in the first
        rows.
        """
        start, found = np.concatenate(self._start), list(self._notes)
        continuous = [column.name for column in schema.columns if not column.step]
        for name in continuous:
            column = start[:, self._names.index(name)]
            values, counts = np.unique(column[~np.isnan(column)], return_counts=True)
            share = int(np.max(counts, initial=0)) / len(start)
            if share > max(_MAX_TIES, 2 / len(start)):
                found.append(
                    f"column {name} is {values[counts.argmax()]:g} in {share:.1%} of rows and "
                    "continuous elsewhere: its density has no upper bound there"
                )
        if continuous:
            kept = start[:, [k for k, name in enumerate(self._names) if name in self.names]]
            share = 1 - len(np.unique(kept, axis=0)) / len(start)
            if share > _MAX_TIES:
                found.append(
                    f"{share:.1%} of the rows repeat others: where they lie the density has no "
                    "upper bound, and rows of train may come back in test"
                )
            places = [self._names.index(name) for name in continuous]
            dependent = [continuous[k] for k in _dependent(start[:, places])]
            if dependent:
                found.append(
                    f"column {', '.join(dependent)} follows from columns before it as a sum of "
                    "multiples: the density has no upper bound; leave it out with columns"
                )
        return found


def _is_one_in(kind, low, high):
    """Whether two values are one in the type that a file stored them in; another file may have more
    digits.
    """
    with np.errstate(over="ignore"):
        return low == high or bool(kind(low) == kind(high))


def _dependent(x):
    """Numbers of the columns of `[n, columns]` that are linear in those before them, to rounding,
    by the full rows.
    """
    x = x[~np.isnan(x).any(axis=1)]
    if len(x) <= x.shape[1] + 1:  # too few to tell
        return []
    centred = x - x.mean(axis=0)
    scaled = centred / np.maximum(np.sqrt(np.sum(centred**2, axis=0)), np.finfo(np.float64).tiny)
    return np.flatnonzero(np.abs(np.diagonal(np.linalg.qr(scaled, mode="r"))) < _MIN_REST).tolist()
