"""What a table of numbers holds: the columns of its density by name, and those that were left out."""

import csv
import dataclasses
import io
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

from nice_tf.errors import UserError

_MAX_PLACES = 4  # of decimals that count as rounded
_ROWS_TO_COUNT, _VALUES_TO_COUNT = 100_000, 2**21  # in which ties are looked for
_MAX_TIES = 0.01  # share of rows
_EXACT = 2**53  # from here on float64 has not all integers
_EXACT_IN_SINGLE = 2**24  # nor has float32 from here on
_MIN_REST = 1e-6  # of a column's deviation, once what other columns say is taken off

_TYPES: dict[float, type[np.floating]] = {  # that have fewer digits than float64, by their precision
    float(np.finfo(np.float16).eps): np.float16,
    float(np.finfo(np.float32).eps): np.float32,
}


@dataclasses.dataclass(frozen=True)
class Column:
    """A column of the density.

    Attributes:
      name: in the file.
      step: distance of the values that it can take, 1 for most integers; 0 for continuous values.
      low: lowest value seen.
      high: highest value seen.
    """

    name: str
    step: float
    low: float
    high: float


@dataclasses.dataclass(frozen=True)
class Schema:
    """The columns of a table.

    Attributes:
      columns: those of the density, in the order of its coordinates.
      constants: columns of a single value, by name, kept out of the density.
      ignored: names of the others: text, dates, without any value, or not chosen.
      halves: names of the constants that were stored in 16 bits.
      singles: names of those that were stored in 32 bits and are so large that 32 bits do not hold every integer.
      delimiter: what stood between the columns, of CSV files; empty if that is not known: of Parquet files, and of
        plain CSV that shows by itself what it is.
      decimal: their decimal mark.
    """

    columns: tuple[Column, ...]
    constants: dict[str, float] = dataclasses.field(default_factory=dict)
    ignored: tuple[str, ...] = ()
    halves: tuple[str, ...] = ()
    singles: tuple[str, ...] = ()
    delimiter: str = ""
    decimal: str = "."

    @property
    def names(self) -> list[str]:
        """Names of the columns of the density."""
        return [column.name for column in self.columns]

    @property
    def steps(self) -> np.ndarray:
        """The step of each column of the density, `[D]` in float64."""
        return np.array([column.step for column in self.columns])

    @property
    def bins_per_unit(self) -> float | None:
        """Geometric mean of 1 / step over the columns, the `levels` of `metrics.bits_per_dim`; None if any has none."""
        steps = self.steps
        return float(np.exp(-np.mean(np.log(steps)))) if np.all(steps > 0) else None

    def as_dict(self) -> dict[str, Any]:
        """All fields, ready for JSON; later ones only where they say something, so that earlier runs stay the same."""
        values = {
            "columns": list(map(dataclasses.asdict, self.columns)),
            "constants": self.constants,
            "ignored": list(self.ignored),
        }
        if self.halves:
            values["halves"] = list(self.halves)
        if self.singles:
            values["singles"] = list(self.singles)
        if self.delimiter:
            values |= {"delimiter": self.delimiter, "decimal": self.decimal}
        return values

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Schema":
        """The inverse of `as_dict`."""
        others = {name: values[name] for name in ("delimiter", "decimal") if name in values}
        return cls(
            tuple(Column(**column) for column in values["columns"]),
            values["constants"],
            tuple(values["ignored"]),
            tuple(values.get("halves", ())),
            tuple(values.get("singles", ())),
            **others,
        )

    @property
    def ends(self) -> tuple[np.ndarray, np.ndarray]:
        """Lowest and highest value seen of each column, `[D]` in float64."""
        return np.array([column.low for column in self.columns]), np.array([column.high for column in self.columns])

    @property
    def bounds(self) -> tuple[np.ndarray, np.ndarray]:
        """Lowest and highest x of each column, `[D]`: the range seen, with the whole bins at its ends."""
        (low, high), half = self.ends, self.steps / 2
        return low - half, high + half

    def rounded(self, x: np.ndarray) -> np.ndarray:
        """Rows `[..., D]` with the values of discrete columns moved to the nearest that the column can take."""
        (low, _), steps = self.ends, self.steps
        whole = low + steps * np.rint((x - low) / np.where(steps > 0, steps, 1))
        return np.where(steps > 0, whole, x).astype(x.dtype)

    def as_columns(self, x: np.ndarray) -> dict[str, np.ndarray]:
        """Rows of the density as columns of the table: on their steps where they have some, integers as integers.

        Args:
          x: `[N, D]`, in the table's units.

        Returns:
          By name, `[N]` each: the columns of the density, then the constants.
        """
        result = {}
        x = np.asarray(x)
        on_steps = self.rounded(x.astype(np.float64))
        for k, column in enumerate(self.columns):
            result[column.name] = x[:, k]
            if column.step:
                is_whole = column.step.is_integer() and column.low.is_integer()
                values = on_steps[:, k]
                result[column.name] = values.astype(np.int64) if is_whole else np.round(values, _MAX_PLACES)
        return result | {name: np.full(len(x), value) for name, value in self.constants.items()}

    def describe(self) -> str:
        """One line on the columns, for the user."""
        discrete = [f"{column.name} (step {column.step:g})" for column in self.columns if column.step]
        parts = [f"{len(self.columns)}, {len(self.columns) - len(discrete)} continuous"]
        for what, names in (
            ("discrete", discrete),
            ("constant, left out", list(self.constants)),
            ("no numbers or not chosen, left out", list(self.ignored)),
        ):
            if names:
                more = f" and {len(names) - 8} more" if len(names) > 8 else ""
                parts.append(f"{what}: {', '.join(name or '(no name)' for name in names[:8])}{more}")
        if self.delimiter and (self.delimiter, self.decimal) != (",", "."):
            parts.append(f"read as CSV with {self.delimiter!r} between columns and {self.decimal!r} before decimals")
        return "; ".join(parts)

    def differs(self, name: str, values: np.ndarray, stored_as: type[np.floating] = np.float64) -> np.ndarray:
        """Where a constant column has another value than in training, up to the digits that either was stored with.

        Args:
          name: of a constant.
          values: `[n]` in float64; a missing one, NaN, is no other.
          stored_as: the type that they were stored in.

        Returns:
          `[n]` in bool.
        """
        usual = float(self.constants[name])
        of_training = self._stored_as(name)
        found, places = np.unique(values, return_inverse=True)
        is_other = [
            _is_apart(value, usual) and not same_number(value, usual, of_training, stored_as)
            for value in found.tolist()
        ]  # of NaN false
        return np.array(is_other, bool)[places]

    def _stored_as(self, name):
        """The type that a constant was stored in, as far as it is known."""
        if name in self.halves:
            return np.float16
        return np.float32 if name in self.singles else np.float64

    def check_names(self, names: Collection[str], what: str) -> None:
        """Looks whether a table has the columns of the density, and none that the density has never heard of.

        Args:
          names: of the table's columns, in any order.
          what: the table, for the message.

        Raises:
          UserError: some are missing, or there are others; all are named.
        """
        missing = [name for name in self.names if name not in names]
        known = {*self.names, *self.constants, *self.ignored}
        extra = [name for name in names if name not in known]
        if missing or extra:
            others = ", ".join(name or "(no name)" for name in extra)
            found = [f"lacks {', '.join(missing)}"] * bool(missing) + [f"also has {others}"] * bool(extra)
            raise UserError(f"{what} {' and '.join(found)}: the model is of the columns {', '.join(self.names)}")


def same_number(first: float, second: float, *stored_as: type[np.floating]) -> bool:
    """Whether two numbers are the same in the coarsest type that one was stored in.

    Text tells no type. But a fraction that was stored in 32 bits shows it: float32 holds it, and needs fewer digits to
    write it. A whole number shows nothing: 1700000128 may be a float32 as well as an integer beside 1700000129.

    Args:
      first: a number.
      second: another.
      stored_as: further types that one was stored in.
    """
    if first == second:
        return True
    kinds = {kind for kind in stored_as if kind != np.float64}
    if _is_single(first) or _is_single(second):
        kinds.add(np.float32)
    with np.errstate(over="ignore"):
        return any(kind(first) == kind(second) for kind in kinds)


def _is_apart(value, usual):
    """Whether two numbers differ by more than decimals are off once they are converted; integers are exact."""
    are_exact = value.is_integer() and usual.is_integer() and abs(usual) < _EXACT
    rounding = 0.0 if are_exact else 4 * np.finfo(np.float64).eps * abs(usual)
    return abs(value - usual) > rounding


def _is_single(value):
    """Whether a value shows that it was stored in 32 bits."""
    if float(value).is_integer():
        return False
    with np.errstate(over="ignore"):
        single = np.float32(value)
    return float(single) == value and float(str(single)) != value


def csv_bytes(columns: dict[str, np.ndarray]) -> bytes:
    """Columns of one length as the content of a CSV file, each number with the digits that tell it from others."""
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(columns)
    writer.writerows(zip(*(map(str, values) for values in columns.values()), strict=True))
    return text.getvalue().encode()


class Survey:
    """Reads a table once, block by block, for its schema and for what would spoil a density.

    A column is discrete if all its values lie on a grid: integers, or decimals of at most four places that come back
    again and again, as rounded measurements do. Its step is the largest that fits all.

    Attributes:
      names: of the columns, without those that were left out.
      num_rows: rows so far.
      present: by name, the values of each column in the block that has most of them.
    """

    def __init__(self, names: list[str], precisions: Sequence[float]):
        """Starts a survey.

        Args:
          names: of the columns of the blocks.
          precisions: relative distance of the numbers that each column was stored with, as of `np.finfo`'s `eps`.
        """
        self.names, self._names, self._precisions = list(names), names, precisions
        self._notes: list[str] = []
        self.num_rows = 0
        self.present = dict.fromkeys(names, np.empty(0))
        self._num_missing = np.zeros(len(names), np.int64)
        self._first_missing = np.full(len(names), -1)
        self._low, self._high = np.full(len(names), np.inf), np.full(len(names), -np.inf)
        # For each number of decimal places: the greatest common divisor of all differences, -1 once one fits no grid.
        self._divisors = np.zeros([_MAX_PLACES + 1, len(names)], np.int64)
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
                f"column {self._names[column]} has {block[row, column]} in row {self.num_rows + row} (counted from 0): "
                "values must be finite"
            )
        missing = np.isnan(block)
        starts = np.where(missing.any(axis=0) & (self._first_missing < 0), missing.argmax(axis=0), -1)
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
        for places in range(_MAX_PLACES + 1):
            if self._divisors[places, column] < 0:
                continue
            with np.errstate(over="ignore", invalid="ignore"):  # what becomes infinite fits nowhere
                scaled = values * 10.0**places
                whole = np.rint(scaled)
                fits = np.abs(scaled - whole) <= np.minimum(tolerance * 10.0**places, 0.05)
            if np.max(np.abs(scaled)) < 2**53 and np.all(fits):
                differences = np.unique(whole - np.rint(self._first[column] * 10.0**places)).astype(np.int64)
                self._divisors[places, column] = np.gcd(self._divisors[places, column], np.gcd.reduce(differences))
                return  # a grid of more places would be no coarser
            if places < _MAX_PLACES:  # what fitted so far counts there
                self._divisors[places + 1, column] = np.gcd(
                    self._divisors[places + 1, column], 10 * self._divisors[places, column]
                )
            self._divisors[places, column] = -1

    def missing(self) -> dict[str, tuple[int, int]]:
        """For each column with missing values: how many, and the first of their rows, counted from 0."""
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
            raise UserError(f"column {self.empty[0]} has no value at all: leave it out with columns")

    def counts_rows(self, name: str) -> bool:
        """Whether a column may number the rows: whole numbers from 0 on, none missing, in the first rows no two alike.

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
        return dict(zip(self._names, np.maximum(np.abs(self._low), np.abs(self._high)).tolist(), strict=True))

    def schema(self, ignored: Collection[str], *, delimiter: str = "", decimal: str = ".") -> Schema:
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
                f"the columns {', '.join(constants)} have the same value in all of {self.num_rows} rows: there is no "
                "density of constants"
            )
        return Schema(tuple(columns), constants, tuple(ignored), tuple(halves), tuple(singles), delimiter, decimal)

    def _column(self, k, start, low, high):
        """With its step; on one, the ends lie on it whatever they were stored with."""
        places = next((places for places in range(_MAX_PLACES + 1) if self._divisors[places, k] > 0), None)
        start = start[~np.isnan(start)]
        if places is None or (places and len(np.unique(start)) > len(start) / 2):
            return Column(self._names[k], 0.0, low, high)
        step = float(self._divisors[places, k]) / 10.0**places
        return Column(self._names[k], step, round(low, places), round(high, places))

    def warnings(self, schema: Schema) -> list[str]:
        """What makes a density of these columns degenerate, a line each; looked for in the first rows."""
        start, found = np.concatenate(self._start), list(self._notes)
        continuous = [column.name for column in schema.columns if not column.step]
        for name in continuous:
            column = start[:, self._names.index(name)]
            values, counts = np.unique(column[~np.isnan(column)], return_counts=True)
            share = int(np.max(counts, initial=0)) / len(start)
            if share > max(_MAX_TIES, 2 / len(start)):
                found.append(
                    f"column {name} is {values[counts.argmax()]:g} in {share:.1%} of rows and continuous elsewhere: "
                    "its density has no upper bound there"
                )
        if continuous:
            kept = start[:, [k for k, name in enumerate(self._names) if name in self.names]]
            share = 1 - len(np.unique(kept, axis=0)) / len(start)
            if share > _MAX_TIES:
                found.append(
                    f"{share:.1%} of the rows repeat others: where they lie the density has no upper bound, and "
                    "rows of train may come back in test"
                )
            places = [self._names.index(name) for name in continuous]
            dependent = [continuous[k] for k in _dependent(start[:, places])]
            if dependent:
                found.append(
                    f"column {', '.join(dependent)} follows from columns before it as a sum of multiples: the density "
                    "has no upper bound; leave it out with columns"
                )
        return found


def _is_one_in(kind, low, high):
    """Whether two values are one in the type that a file stored them in; another file may have more digits."""
    with np.errstate(over="ignore"):
        return low == high or bool(kind(low) == kind(high))


def _dependent(x):
    """Numbers of the columns of `[n, columns]` that are linear in those before them, to rounding, by the full rows."""
    x = x[~np.isnan(x).any(axis=1)]
    if len(x) <= x.shape[1] + 1:  # too few to tell
        return []
    centred = x - x.mean(axis=0)
    scaled = centred / np.maximum(np.sqrt(np.sum(centred**2, axis=0)), np.finfo(np.float64).tiny)
    return np.flatnonzero(np.abs(np.diagonal(np.linalg.qr(scaled, mode="r"))) < _MIN_REST).tolist()
