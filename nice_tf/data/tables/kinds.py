"""Which columns of a table are categories, dates or times, and how they become numbers.

All rows are looked at, as they are for steps and ranges.
"""

import collections
import dataclasses
import re
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from nice_tf.data.schema import Encoding
from nice_tf.data.tables import encodings
from nice_tf.data.tables.columns import is_text, is_text_like
from nice_tf.data.tables.table import Table
from nice_tf.data.tables.types import name_of, type_of
from nice_tf.errors import UserError

# What dates of CSV may be, the coarsest first: the start of a file may show less than the rest has.
_OF_TEXT = (
    pa.date32(),
    *(pa.timestamp(unit) for unit in ("s", "us", "ns")),
    *(pa.timestamp(unit, "UTC") for unit in ("s", "us", "ns")),
)
_LIKE_A_DATE = re.compile(
    r"(\d{1,2}([./-])\d{1,2}\2\d{4}|\d{1,2}/\d{1,2}/\d{2}|\d{4}[./]\d{1,2}[./]\d{1,2})([ T].*)?"
)
_TIMES_OF_TEXT = (pa.time32("s"), pa.time64("us"), pa.time64("ns"))


@dataclasses.dataclass(frozen=True)
class Kinds:
    """What the user says of the kinds of columns.

    Attributes:
      categories: names of columns that are categories whatever they hold.
      numbers: names of columns that are numbers.
      max_categories: of a column, at most.
    """

    categories: Sequence[str] = ()
    numbers: Sequence[str] = ()
    max_categories: int = 100

    def check(self, names: Sequence[str], what: str) -> None:
        """Checks that these columns are there, and each of one kind.

        Args:
          names: that may be given.
          what: has these names, for messages.

        Raises:
          UserError: a column that is not there, or is to be of both kinds.
        """
        for setting in ("categories", "numbers"):
            absent = [name for name in getattr(self, setting) if name not in names]
            if absent:
                raise UserError(
                    f"{setting} has {', '.join(absent)}, which is not among the columns of {what}: "
                    f"{', '.join(names)}"
                )
        both = sorted(set(self.categories) & set(self.numbers))
        if both:
            raise UserError(
                f"categories and numbers both have {', '.join(both)}: a column is of one kind"
            )


@dataclasses.dataclass
class Findings:
    """What was found out of columns that hold no numbers.

    Attributes:
      encodings: by name, of those that are kept.
      left_out: reasons by name, of the others: "has no value at all and is left out".
    """

    encodings: dict[str, Encoding] = dataclasses.field(default_factory=dict)
    left_out: dict[str, str] = dataclasses.field(default_factory=dict)


def find(table: Table, names: Sequence[str], kinds: Kinds, *, is_wanted: bool) -> Findings:
    """Finds out how the columns that hold no numbers become some.

    Args:
      table: with the columns; it learns which dates of CSV are text.
      names: of the columns that may be taken.
      kinds: what the user says of them.
      is_wanted: whether these columns were asked for, so that none may be left out.

    Raises:
      UserError: a column that was asked for and cannot be taken; a damaged file.
    """
    dates = []
    for name in names:
        if name not in kinds.categories and pa.types.is_temporal(table.types[name]):
            dates.append(name)
    found = Findings()
    for name, seen in _dates_in(table, dates).items():
        if seen.kind is None:
            table.set_type(name, pa.string())
        else:
            _take_dates(found, name, seen)
    texts = []
    for name in names:
        if table.is_csv and pa.types.is_binary(table.types[name]):
            table.set_type(name, pa.string())  # of other bytes than UTF-8, as counting tells
        if name in kinds.categories or _may_be_categories(table.types[name]):
            texts.append(name)
    texts = [name for name in texts if not pa.types.is_boolean(table.types[name])]
    for name, counts in _counts_of(table, texts, kinds.max_categories).items():
        is_asked_for = is_wanted or name in kinds.categories
        _take_categories(found, table, name, counts, kinds, is_asked_for=is_asked_for)
    return found


def _may_be_categories(kind):
    if pa.types.is_dictionary(kind):
        return is_text_like(kind.value_type)
    return is_text(kind)


def _stored(table: Table, names: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """Columns as the files have them, of CSV as text, whatever its bytes are."""
    if not table.is_csv:
        yield from table.batches([], names)
        return
    for file in table.files:
        yield from table.texts(file, names)


class _Dates:
    """The first and last of a column of dates or times, for each type that it may have."""

    def __init__(self, kinds):
        self._ends = dict.fromkeys(kinds, None)
        self._are_days = dict.fromkeys(kinds, True)

    def add(self, column):
        for kind in list(self._ends):
            try:
                ticks = encodings.ticks_of(encodings.as_dates(column, kind))
            except pa.ArrowException:
                del self._ends[kind]
                continue
            ends = pc.min_max(ticks)
            if not ends["min"].is_valid:
                continue
            low, high = self._ends[kind] or (ends["min"].as_py(), ends["max"].as_py())
            self._ends[kind] = (min(low, ends["min"].as_py()), max(high, ends["max"].as_py()))
            self._are_days[kind] = self._are_days[kind] and _are_days(ticks, kind)

    @property
    def kind(self):
        """The first type that holds all; none if none does."""
        return next(iter(self._ends), None)

    @property
    def ends(self):
        """First and last as integers; none without any value."""
        return self._ends[self.kind]

    @property
    def are_days(self):
        """Whether there is no time of day."""
        return self._are_days[self.kind]


def _are_days(ticks, kind):
    if pa.types.is_time(kind):
        return False
    a_day = encodings.ticks_a_day(kind)
    whole = pc.multiply(pc.divide(ticks, a_day), a_day)
    return pc.all(pc.equal(whole, ticks)).as_py() is not False


def _dates_in(table, names):
    found = {}
    for name in names:
        kinds: Sequence[pa.DataType] = (table.types[name],)
        if table.is_csv and pa.types.is_time(kinds[0]):
            kinds = _TIMES_OF_TEXT
        elif table.is_csv:
            kinds = _OF_TEXT
        found[name] = _Dates(kinds)
    if not names:
        return found
    for batch in _stored(table, names):
        for name, dates in found.items():
            dates.add(batch[name])
    return found


def _take_dates(found, name, seen):
    if seen.ends is None:
        found.left_out[name] = "has no value at all and is left out"
        return
    low, _ = seen.ends
    a_day = encodings.ticks_a_day(seen.kind)
    ticks = a_day // 86_400
    if seen.are_days:
        ticks = a_day
    origin = 0
    if not pa.types.is_time(seen.kind):
        origin = low // a_day * a_day
    found.encodings[name] = Encoding(type=name_of(seen.kind), origin=origin, ticks=ticks)


@dataclasses.dataclass
class _Counts:
    """How often each text of a column is there, as long as they are no more than so many."""

    most: int
    of_text: collections.Counter = dataclasses.field(default_factory=collections.Counter)
    first: dict[str, None] = dataclasses.field(default_factory=dict)  # in an order of their own
    are_too_many: bool = False
    are_damaged: bool = False

    def add(self, column):
        if self.are_too_many or self.are_damaged:
            return
        if pa.types.is_dictionary(column.type) and column.type.ordered:
            own = encodings.as_texts(column.dictionary)
            self.first |= dict.fromkeys(own.to_pylist())
        texts = encodings.as_texts(column).drop_null()
        try:
            texts.validate(full=True)
        except pa.ArrowInvalid:
            self.are_damaged = True
            return
        for pair in pc.value_counts(texts):
            self.of_text[pair["values"].as_py()] += pair["counts"].as_py()
        self.are_too_many = len(self.of_text) > self.most

    @property
    def present(self):
        """How many values there are."""
        return sum(self.of_text.values())

    @property
    def look_like_dates(self):
        """Whether all are spelled as dates of another kind than those that are read."""
        return all(map(_LIKE_A_DATE.fullmatch, self.of_text))

    def in_order(self):
        """The texts: in an order of their own, else the most frequent first."""
        own = {text: place for place, text in enumerate(self.first)}

        def rank(text):
            return own.get(text, len(own)), -self.of_text[text], text

        return tuple(sorted(self.of_text, key=rank))


def _counts_of(table, names, most):
    found: dict[str, Any] = {name: _Counts(most) for name in names}
    if not names:
        return found
    for batch in _stored(table, names):
        for name, counts in found.items():
            counts.add(batch[name])
    return found


def _take_categories(found, table, name, counts, kinds, *, is_asked_for):
    reason = _why_not(counts, kinds.max_categories, is_asked_for=is_asked_for)
    if reason and is_asked_for:
        raise UserError(
            f"column {name} of {table.what} {reason}: leave it out with columns, or raise "
            f"max_categories, {kinds.max_categories}"
        )
    if reason:
        found.left_out[name] = f"{reason} and is left out"
        return
    categories = counts.in_order()
    kind = _type_of_categories(table, name, categories)
    found.encodings[name] = Encoding(type=kind, categories=categories)


def _why_not(counts, most, *, is_asked_for):
    """Why a column is not one of categories; an empty text if it is."""
    if counts.are_damaged:
        return "has text that is not in UTF-8"
    is_of_names = not is_asked_for and 2 * len(counts.of_text) > counts.present > 0
    is_left_out = is_of_names or (counts.are_too_many and not is_asked_for)
    if is_left_out and counts.look_like_dates:
        return (
            f"has dates such as {next(iter(counts.of_text))}, which are read as dates only when "
            "they are written as 2024-07-31,"
        )
    if counts.are_too_many:
        return f"has more than {most} different texts (max_categories)"
    if not counts.of_text:
        return "has no value at all"
    if is_of_names:
        return "has another text in most of its rows, as names have (categories keeps it),"
    return ""


def _type_of_categories(table, name, categories):
    """The type in which they come back, by name."""
    kind = table.types[name]
    if table.is_csv and all(map(_is_integer, categories)):
        return name_of(pa.int64())
    try:
        type_of(name_of(kind))
    except ValueError:
        return name_of(pa.string())
    return name_of(kind)


def _is_integer(text):
    digits = text.removeprefix("-")
    return digits.isascii() and digits.isdigit() and str(int(text)) == text and len(text) < 19
