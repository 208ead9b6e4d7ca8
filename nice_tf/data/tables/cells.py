"""What the texts in the cells of a table are: numbers, true and false, or something else."""

import dataclasses
import re
from decimal import Decimal

import pyarrow as pa
import pyarrow.compute as pc

EXACT = 2**53  # from here on float64 has not all integers
# Texts without the white space around them. The engine is RE2.
GROUPED = r"^[+-]?\d{1,3}([., '\x{A0}\x{202F}\x{2019}]\d{3})+([.,]\d+)?$"
_NUMBER = r"^[+-]?(?i:(\d+\.?\d*|\.\d+)(e[+-]?\d+)?|inf|infinity|nan)$"
_LOGICAL = r"^(?i:true|false)$"


@dataclasses.dataclass
class Tally:
    """What the cells of a column of text spell, counted.

    Attributes:
      present: cells that are not missing.
      numbers: cells that are numbers.
      logical: cells that are true or false.
      grouped: cells that are numbers with marks between thousands.
      first_wrong: row, counted from 0, and text of the first that is neither a number nor true or
        false.
      first_number: the same of the first that is a number.
      first_logical: the same of the first that is true or false.
      first_grouped: the same of the first that has marks between thousands.
    """

    present: int = 0
    numbers: int = 0
    logical: int = 0
    grouped: int = 0
    first_wrong: tuple[int, str] | None = None
    first_number: tuple[int, str] | None = None
    first_logical: tuple[int, str] | None = None
    first_grouped: tuple[int, str] | None = None

    def add(self, column: pa.Array, row: int, decimal: str) -> None:
        """Counts some cells.

        Args:
          column: of text.
          row: number of the first.
          decimal: as in `CsvFormat`.
        """
        texts = trimmed(column)
        is_present = present(texts)
        is_number = both(is_present, pc.match_substring_regex(texts, _number_pattern(decimal)))
        is_logical = both(is_present, pc.match_substring_regex(texts, _LOGICAL))
        has_groups = both(is_present, pc.match_substring_regex(texts, GROUPED))
        is_grouped = pc.and_not(has_groups, is_number)
        is_wrong = pc.and_not(pc.and_not(is_present, is_number), is_logical)
        self.present += count(is_present)
        self.numbers += count(is_number)
        self.logical += count(is_logical)
        self.grouped += count(is_grouped)
        self.first_wrong = self.first_wrong or first(column, is_wrong, row)
        self.first_number = self.first_number or first(column, is_number, row)
        self.first_logical = self.first_logical or first(column, is_logical, row)
        self.first_grouped = self.first_grouped or first(column, is_grouped, row)

    @property
    def is_logical(self) -> bool:
        """Whether most cells that mean something are true or false."""
        return self.logical > self.numbers

    @property
    def num_wrong(self) -> int:
        """Cells that are not what most are: numbers, or true and false."""
        return self.present - max(self.numbers, self.logical)

    @property
    def wrong(self) -> tuple[int, str] | None:
        """Row and text of the first of these, one that is neither before others; none if there are
        none.
        """
        if self.first_wrong or not self.num_wrong:
            return self.first_wrong
        if self.is_logical:
            return self.first_number
        return self.first_logical


def shown(value: pa.Scalar) -> str:
    """A value of a table for a message: dates and times as ISO 8601, text in quotes."""
    if pa.types.is_temporal(value.type):
        return str(value.as_py())
    return repr(value.as_py())


def trimmed(column: pa.Array) -> pa.Array:
    """Texts without white space around them; also of bytes that are no UTF-8."""
    if not pa.types.is_string(column.type):
        column = column.cast(pa.string())
    return pc.ascii_trim_whitespace(column)


def present(texts: pa.Array) -> pa.Array:
    """Where trimmed texts are neither missing nor empty."""
    return both(pc.is_valid(texts), pc.not_equal(pc.binary_length(texts), 0))


def both(first: pa.Array, second: pa.Array) -> pa.Array:
    """Where both masks are true; what is missing of the second is false."""
    return pc.and_(first, pc.fill_null(second, False))


def count(mask: pa.Array) -> int:
    """How many values of a mask are true."""
    return pc.sum(mask).as_py() or 0


def first(column: pa.Array, mask: pa.Array, row: int) -> tuple[int, str] | None:
    """Row and text of the first cell where a mask is true, or none; `row` is that of the first cell
    of all.
    """
    place = pc.index(mask, True).as_py()
    if place < 0:
        return None
    content = column[place].cast(pa.binary()).as_py()
    return row + place, content.decode(errors="replace")


def with_dots(column: pa.Array) -> pa.Array:
    """Texts in which numbers with a decimal comma have a dot; all else stays."""
    is_number = pc.match_substring_regex(trimmed(column), _number_pattern(","))
    dotted = pc.replace_substring(column, ",", ".")
    return pc.if_else(pc.fill_null(is_number, False), dotted, column)


def first_with_dot(column: pa.Array, row: int) -> tuple[int, str] | None:
    """Row and text of the first number that has a dot, which a file of decimal commas does not; or
    none.

    Args:
      column: of text.
      row: number of the first cell.
    """
    texts = trimmed(column)
    is_number = pc.match_substring_regex(texts, _NUMBER)
    has_dot = pc.match_substring(texts, ".")
    return first(column, both(is_number, has_dot), row)


def _number_pattern(decimal):
    if decimal == ",":
        return _NUMBER.replace(r"\.", ",")
    return _NUMBER


def is_number(text: str) -> bool:
    """Whether a text spells a number; what Python alone takes for one, as 1_000, is none in a
    table.
    """
    try:
        float(text)
    except ValueError:
        return False
    return text.isascii() and "_" not in text


def is_inexact(text: str) -> bool:
    """Whether digits without an exponent spell a whole number, or another, that float64 cannot tell
    from its next.
    """
    if not re.fullmatch(r"[+-]?\d{16,}(\.\d*)?", text) or abs(float(text)) < EXACT:
        return False
    return "." not in text or Decimal(text) != Decimal(float(text))


def no_number(column: str, what: str, row: int, text: str, *, is_boolean: bool = False) -> str:
    """Says where a table has text instead of a number, or of true and false."""
    needed = "numbers are needed"
    if is_boolean:
        needed = "true or false in any letters, or 1 or 0, are needed"
    return (
        f"column {column} of {what} has {text!r} in row {row} (counted from 0): {needed}, a "
        "missing one is an empty cell"
    )
