"""What a table holds: the columns of its density, and those that were left out."""

import csv
import dataclasses
import functools
import io
from collections.abc import Collection, Iterable, Mapping
from typing import Any

import numpy as np

from nice_tf.errors import UserError

MAX_PLACES = 4  # of decimals that count as rounded
# Keys of a column in a description that earlier versions did not write.
_SPIKES = "spikes"
_SPIKE_WIDTH = "spike_width"
_DECIMALS = "decimals"
FOUND_IN_VALUES = (_SPIKES, _SPIKE_WIDTH, _DECIMALS)
# Of a schema: whether spikes are spread. Runs that do not have it were trained without their noise.
SPREAD = "spread"
_EXACT = 2**53  # from here on float64 has not all integers
_FINEST_SPREAD = 64 * float(np.finfo(np.float32).eps)  # of a value's size


@dataclasses.dataclass(frozen=True)
class Encoding:
    """How what a table holds becomes the numbers of a column.

    Attributes:
      type: of Arrow, by name, in which values come back; empty for plain numbers.
      categories: of a column of categories, as text: the number of one is its place here. The most
        frequent come first, or those of an ordered dictionary of Arrow in its order. One that is
        not among them has the place behind the last.
      origin: of a column of dates or times, what is 0, as an integer of `type`.
      ticks: of a column of dates or times, how many integers of `type` are 1; 0 for others.
    """

    type: str = ""
    categories: tuple[str, ...] = ()
    origin: int = 0
    ticks: int = 0

    @property
    def kind(self) -> str:
        """`"category"`, `"date"` (times, too), `"boolean"` or `"number"`."""
        if self.categories:
            return "category"
        if self.ticks:
            return "date"
        if self.type:
            return "boolean"
        return "number"

    @property
    def is_ordered(self) -> bool:
        """Whether categories are in an order of their own, instead of the most frequent first."""
        return self.type.endswith("ordered=1>")

    @property
    def is_read_apart(self) -> bool:
        """Whether values are no numbers as the file has them."""
        return bool(self.categories or self.ticks)

    def as_dict(self) -> dict[str, Any]:
        """What says something, ready for JSON; nothing of plain numbers."""
        if self.categories:
            return {"kind": self.kind, "type": self.type, "categories": list(self.categories)}
        if self.ticks:
            dates = {"origin": self.origin, "ticks": self.ticks}
            return {"kind": self.kind, "type": self.type, **dates}
        if self.type:
            return {"kind": self.kind, "type": self.type}
        return {}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Encoding":
        """The inverse of `as_dict`; further keys are left alone."""
        return cls(
            type=values.get("type", ""),
            categories=tuple(values.get("categories", ())),
            origin=values.get("origin", 0),
            ticks=values.get("ticks", 0),
        )


PLAIN = Encoding()


@dataclasses.dataclass(frozen=True)
class Column:
    """A column of the density.

    Attributes:
      name: in the file.
      step: distance of the values that it can take, 1 for most integers; 0 for continuous values.
      low: lowest value seen.
      high: highest value seen.
      encoding: how the file's values become these.
      spikes: of a continuous column, ascending, the values that come again and again, as the zeros
        of one that is zero in many rows.
      spike_width: of the interval around a spike over which it is spread, as an integer is over
        its bin, unless `spike_widths` says more.
      decimals: of a continuous column, such as one of amounts of money, how many all its values
        have at most; `None` where they have more than `MAX_PLACES`, or the column has a step.
    """

    name: str
    step: float
    low: float
    high: float
    encoding: Encoding = PLAIN
    spikes: tuple[float, ...] = ()
    spike_width: float = 0.0
    decimals: int | None = None

    @property
    def categories(self) -> tuple[str, ...]:
        """Those of `encoding`; none of other columns."""
        return self.encoding.categories

    @property
    def shown_decimals(self) -> int | None:
        """How many decimals tell the column's values apart; `None` where they have any number."""
        if not self.step:
            return self.decimals
        for places in range(MAX_PLACES):
            ends = np.array([self.low, self.step]) * 10.0**places
            if np.allclose(ends, np.rint(ends), rtol=0, atol=1e-6):
                return places
        return MAX_PLACES

    def as_dict(self) -> dict[str, Any]:
        """All fields, ready for JSON, those of `encoding` among the others."""
        own = {"name": self.name, "step": self.step, "low": self.low, "high": self.high}
        if self.spikes:
            own |= {_SPIKES: list(self.spikes), _SPIKE_WIDTH: self.spike_width}
        if self.decimals is not None:
            own[_DECIMALS] = self.decimals
        return own | self.encoding.as_dict()

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Column":
        """The inverse of `as_dict`."""
        return cls(
            name=values["name"],
            step=values["step"],
            low=values["low"],
            high=values["high"],
            encoding=Encoding.from_dict(values),
            spikes=tuple(values.get(_SPIKES, ())),
            spike_width=values.get(_SPIKE_WIDTH, 0.0),
            decimals=values.get(_DECIMALS),
        )

    @property
    def spike_widths(self) -> np.ndarray:
        """Of the bin of each spike, `[S]` in float64: `spike_width`, or more where a spike is so
        far from 0 that float32 has few numbers in so narrow a bin.
        """
        return np.maximum(self.spike_width, _FINEST_SPREAD * np.abs(np.array(self.spikes)))

    def on_spikes(self, values: np.ndarray) -> np.ndarray:
        """Values with those within a width of a spike moved to it."""
        if not self.spikes:
            return values
        spikes = np.array(self.spikes)
        middles = (spikes[1:] + spikes[:-1]) / 2
        place = np.searchsorted(middles, values)
        nearest = spikes[place]
        return np.where(np.abs(values - nearest) <= self.spike_widths[place], nearest, values)


@dataclasses.dataclass(frozen=True)
class Spikes:
    """The values that come again and again in continuous columns.

    Attributes:
      values: `[D, S]` in float64, NaN where a column has fewer.
      widths: of the interval around each over which it is spread, as an integer is over its bin,
        `[D, S]`, 0 where a column has fewer.
    """

    values: np.ndarray
    widths: np.ndarray


@dataclasses.dataclass(frozen=True)
class Schema:
    """The columns of a table.

    Attributes:
      columns: those of the density, in the order of its coordinates.
      constants: columns of a single value, by name, kept out of the density.
      constant_encodings: how the values of those among them that hold no numbers became these.
      ignored: names of the others: identifiers, free text, without any value, or not chosen.
      halves: names of the constants that were stored in 16 bits.
      singles: names of those that were stored in 32 bits and are so large that 32 bits do not hold
        every integer.
      delimiter: what stood between the columns, of CSV files; empty if that is not known: of
        Parquet files, and of plain CSV that shows by itself what it is.
      decimal: their decimal mark.
      spread: whether the spikes of the columns are spread over their bins; those of runs of earlier
        versions are not.
    """

    columns: tuple[Column, ...]
    constants: dict[str, float] = dataclasses.field(default_factory=dict)
    ignored: tuple[str, ...] = ()
    halves: tuple[str, ...] = ()
    singles: tuple[str, ...] = ()
    delimiter: str = ""
    decimal: str = "."
    constant_encodings: dict[str, Encoding] = dataclasses.field(default_factory=dict)
    spread: bool = False

    @property
    def names(self) -> list[str]:
        """Names of the columns of the density."""
        return [column.name for column in self.columns]

    @property
    def steps(self) -> np.ndarray:
        """The step of each column of the density, `[D]` in float64."""
        return np.array([column.step for column in self.columns])

    @functools.cached_property
    def spikes(self) -> Spikes | None:
        """Those of all columns of the density; `None` where there are none, or none is spread."""
        most = max(len(column.spikes) for column in self.columns)
        if not most or not self.spread:
            return None
        values = np.full([len(self.columns), most], np.nan)
        widths = np.zeros([len(self.columns), most])
        for place, column in enumerate(self.columns):
            values[place, : len(column.spikes)] = column.spikes
            widths[place, : len(column.spikes)] = column.spike_widths
        return Spikes(values, widths)

    def without_spikes(self) -> "Schema":
        """The same columns as versions knew them that looked for no spikes."""
        columns = [
            dataclasses.replace(column, spikes=(), spike_width=0.0) for column in self.columns
        ]
        return dataclasses.replace(self, columns=tuple(columns), spread=False)

    @property
    def bins_per_unit(self) -> float | None:
        """Geometric mean of 1 / step over the columns, the `levels` of `metrics.bits_per_dim`; None
        if any has none.
        """
        steps = self.steps
        if np.all(steps > 0):
            return float(np.exp(-np.mean(np.log(steps))))
        return None

    def as_dict(self) -> dict[str, Any]:
        """All fields, ready for JSON; later ones only where they say something, so that earlier
        runs stay the same.
        """
        values: dict[str, Any] = {
            "columns": [column.as_dict() for column in self.columns],
            "constants": self.constants,
            "ignored": list(self.ignored),
        }
        if self.spread:
            values[SPREAD] = True
        if self.constant_encodings:
            found = {name: kind.as_dict() for name, kind in self.constant_encodings.items()}
            values["constant_encodings"] = found
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
        encodings = {}
        for name, encoding in values.get("constant_encodings", {}).items():
            encodings[name] = Encoding.from_dict(encoding)
        return cls(
            columns=tuple(map(Column.from_dict, values["columns"])),
            constants=values["constants"],
            ignored=tuple(values["ignored"]),
            halves=tuple(values.get("halves", ())),
            singles=tuple(values.get("singles", ())),
            delimiter=values.get("delimiter", cls.delimiter),
            decimal=values.get("decimal", cls.decimal),
            constant_encodings=encodings,
            spread=values.get(SPREAD, False),
        )

    @property
    def ends(self) -> tuple[np.ndarray, np.ndarray]:
        """Lowest and highest value seen of each column, `[D]` in float64."""
        low = np.array([column.low for column in self.columns])
        high = np.array([column.high for column in self.columns])
        return low, high

    @property
    def bounds(self) -> tuple[np.ndarray, np.ndarray]:
        """Lowest and highest x of each column, `[D]`: the range seen, with the whole bins at its
        ends.
        """
        low, high = self.ends
        half = self.steps / 2
        return low - half, high + half

    def rounded(self, x: np.ndarray) -> np.ndarray:
        """Rows `[..., D]` with the values of discrete columns moved to the nearest that the column
        can take. Those of continuous ones that lie near a spike are moved to it, and the others
        rounded to the decimals of their column.
        """
        found = self._on_steps(x)
        for place, column in enumerate(self.columns):
            values = column.on_spikes(found[..., place])
            if column.decimals is not None:
                values = np.round(values, column.decimals)
            found[..., place] = values
        return found

    def _on_steps(self, x):
        low, _ = self.ends
        steps = self.steps
        whole = low + steps * np.rint((x - low) / np.where(steps > 0, steps, 1))
        return np.where(steps > 0, whole, x).astype(x.dtype)

    def as_rows(self, x: np.ndarray) -> np.ndarray:
        """Samples `[..., D]` as rows that the table could have: rounded, and within the range seen
        where a column has steps. A continuous column keeps what lies beyond its range, unless its
        range ends in a spike, as that of a column that is never below its zeros.
        """
        low, high = self.ends
        lowest = np.full(len(low), -np.inf)
        highest = np.full(len(high), np.inf)
        for place, column in enumerate(self.columns):
            if column.step or column.low in column.spikes:
                lowest[place] = column.low
            if column.step or column.high in column.spikes:
                highest[place] = column.high
        return np.clip(self.rounded(x), lowest, highest).astype(x.dtype)

    def usual(self, middles: np.ndarray) -> np.ndarray:
        """The value of each column that others are compared with: the middle, on its step; of
        categories in no order the most frequent.

        Args:
          middles: of each column, `[D]`.

        Returns:
          `[D]`, in the type of `middles`.
        """
        found = self.rounded(middles)
        for place, column in enumerate(self.columns):
            if column.categories and not column.encoding.is_ordered:
                found[place] = 0
        return found

    def as_columns(self, x: np.ndarray) -> dict[str, np.ndarray]:
        """Rows of the density as columns of numbers: on their steps where they have some,
        integers as integers. `tables.encodings.decoded` makes them what the table holds. Samples
        go through `as_rows` before.

        Args:
          x: `[N, D]`, in the table's units.

        Returns:
          By name, `[N]` each: the columns of the density, then the constants.
        """
        result = {}
        x = np.asarray(x)
        on_steps = self._on_steps(x.astype(np.float64))
        for k, column in enumerate(self.columns):
            if column.decimals is not None:
                result[column.name] = _with_decimals(x[:, k], column.decimals)
            elif not column.step:
                result[column.name] = x[:, k]
            elif column.step.is_integer() and column.low.is_integer():
                result[column.name] = on_steps[:, k].astype(np.int64)
            else:
                result[column.name] = np.round(on_steps[:, k], MAX_PLACES)
        for name, value in self.constants.items():
            result[name] = np.full(len(x), value)
        return result

    @property
    def encodings(self) -> dict[str, Encoding]:
        """By name, those of all columns and constants that hold no plain numbers."""
        found = dict(self.constant_encodings)
        for column in self.columns:
            if column.encoding != PLAIN:
                found[column.name] = column.encoding
        return found

    def is_boolean(self, name: str) -> bool:
        """Whether a column, perhaps a constant one, holds true and false."""
        return self.encodings.get(name, PLAIN).kind == "boolean"

    def of_kind(self, kind: str) -> list[Column]:
        """The columns of an `Encoding.kind`."""
        return [column for column in self.columns if column.encoding.kind == kind]

    def describe(self) -> str:
        """One line on the columns, for the user."""
        discrete = []
        categories = []
        for column in self.columns:
            if column.categories:
                categories.append(f"{column.name} ({len(column.categories)})")
            elif column.step:
                discrete.append(f"{column.name} (step {column.step:g})")
        num_continuous = sum(not column.step for column in self.columns)
        parts = [f"{len(self.columns)}, {num_continuous} continuous"]
        if discrete:
            parts.append(f"discrete: {_few(discrete)}")
        if categories:
            parts.append(f"categories: {_few(categories)}")
        dates = [column.name for column in self.of_kind("date")]
        if dates:
            parts.append(f"dates or times: {_few(dates)}")
        if self.constants:
            parts.append(f"constant, left out: {_few(self.constants)}")
        if self.ignored:
            parts.append(f"not chosen or left out: {_few(self.ignored)}")
        if self.delimiter and (self.delimiter, self.decimal) != (",", "."):
            parts.append(
                f"read as CSV with {self.delimiter!r} between columns and {self.decimal!r} before "
                "decimals"
            )
        return "; ".join(parts)

    def differs(
        self, name: str, values: np.ndarray, stored_as: type[np.floating] = np.float64
    ) -> np.ndarray:
        """Where a constant column has another value than in training, up to the digits that either
        was stored with.

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
        is_other = np.zeros(len(found), bool)
        for place, value in enumerate(found.tolist()):  # NaN is not apart
            is_apart = _is_apart(value, usual)
            is_other[place] = is_apart and not same_number(value, usual, of_training, stored_as)
        return is_other[places]

    def _stored_as(self, name):
        """The type that a constant was stored in, as far as it is known."""
        if name in self.halves:
            return np.float16
        if name in self.singles:
            return np.float32
        return np.float64

    def check_names(self, names: Collection[str], what: str) -> list[str]:
        """Checks that a table has the columns of the density.

        Args:
          names: of the table's columns, in any order.
          what: the table, for the message.

        Returns:
          What the user should know of columns that the table of the run has not: a line, or none.

        Raises:
          UserError: some are missing; they are named, and those that are there instead.
        """
        missing = [name for name in self.names if name not in names]
        extra = extra_names(names, [*self.names, *self.constants, *self.ignored])
        if not missing:
            return said_of_extra(extra, what)
        also = ""
        if extra:
            also = f" and also has {', '.join(map(shown_name, extra))}"
        raise UserError(
            f"{what} lacks {', '.join(missing)}{also}: the model is of the columns "
            f"{', '.join(self.names)}"
        )


def extra_names(names: Iterable[str], known: Collection[str]) -> list[str]:
    """Names of columns that a model was not trained on, nor left out."""
    known = set(known)
    return [name for name in names if name not in known]


def said_of_extra(extra: Collection[str], what: str) -> list[str]:
    """What the user should know of such columns: a line, or none.

    Args:
      extra: their names.
      what: the table, for the message.
    """
    if not extra:
        return []
    return [f"{what} has columns that the model does not know, which are ignored: {_few(extra)}"]


def shown_name(name: str) -> str:
    """The name of a column as messages have it, which may be empty."""
    return name or "(no name)"


def _few(names):
    """The first eight of these names, and how many more there are."""
    text = ", ".join(list(map(shown_name, names))[:8])
    if len(names) > 8:
        text += f" and {len(names) - 8} more"
    return text


def same_number(first: float, second: float, *stored_as: type[np.floating]) -> bool:
    """Whether two numbers are the same in the coarsest type that one was stored in.

    Text tells no type. But a fraction that was stored in 32 bits shows it: float32 holds it, and
    needs fewer digits to write it. A whole number shows nothing: 1700000128 may be a float32 as
    well as an integer beside 1700000129.

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


def _with_decimals(values, decimals):
    """Values in float64, those that lie on so many decimals exactly there; a seen or given value
    may have more, and keeps them.
    """
    rounded = np.round(values.astype(np.float64), decimals)
    return np.where(rounded.astype(values.dtype) == values, rounded, values)


def _is_apart(value, usual):
    """Whether two numbers differ by more than decimals are off once they are converted; integers
    are exact.
    """
    if value.is_integer() and usual.is_integer() and abs(usual) < _EXACT:
        return value != usual
    rounding = 4 * np.finfo(np.float64).eps * abs(usual)
    return abs(value - usual) > rounding


def _is_single(value):
    """Whether a value shows that it was stored in 32 bits."""
    if float(value).is_integer():
        return False
    with np.errstate(over="ignore"):
        single = np.float32(value)
    return float(single) == value and float(str(single)) != value


def csv_bytes(columns: Mapping[str, Iterable[Any]]) -> bytes:
    """Columns of one length as the content of a CSV file, each number with the digits that tell it
    from others.
    """
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(columns)
    texts = [map(str, values) for values in columns.values()]
    writer.writerows(zip(*texts, strict=True))
    return text.getvalue().encode()
