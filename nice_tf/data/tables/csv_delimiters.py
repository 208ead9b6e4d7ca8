"""What stands between the columns of a CSV file, by its first rows."""

import csv
import io
import re
import zlib
from collections.abc import Collection

from nice_tf.data.tables.csv_files import open_text
from nice_tf.data.tables.csv_format import DELIMITERS, HINTS, Hints, delimiter_name
from nice_tf.errors import UserError

_SAMPLE_CHARACTERS = 2**18
_SAMPLE_ROWS = 200
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.IGNORECASE)


def sniff_delimiter(
    file: str, usual: str = "", needed: Collection[str] = (), hints: Hints = HINTS
) -> str:
    """What stands between the columns of a file.

    It is one that the first line has and that gives each of the first rows as many fields as the
    first line; a comma if none does. A text with semicolons in it does not make a column of a
    comma's file two: its first line has none.

    Args:
      file: path.
      usual: the delimiter to take where several fit, as the training file's; any character, or
        none.
      needed: names of columns that the first line must have; where no delimiter gives all of them,
        they do not count.
      hints: for the message.

    Raises:
      UserError: the file cannot be read; several delimiters fit, and `usual` is none of them.
    """
    rows = _rows_by_delimiter(file, usual)
    possible = _possible(rows, needed)
    fitting = [delimiter for delimiter in possible if _is_even(rows[delimiter])]
    if usual in fitting:
        return usual
    if len(fitting) > 1:
        telling = [delimiter for delimiter in fitting if _has_numbers(rows[delimiter], delimiter)]
        if len(telling) > 1:
            names = " or ".join(map(delimiter_name, telling))
            raise UserError(f"{file} may have {names} between its columns: {hints.delimiter}")
        fitting = telling or fitting
    if fitting:
        return fitting[0]
    # A damaged file is refused later, with the row: by commas if its first line has some.
    if possible:
        return possible[0]
    return ","


def _rows_by_delimiter(file, usual):
    """For each delimiter that may be meant, the rows that it gives."""
    text = _sample(file)
    candidates = list(DELIMITERS)
    if usual and usual not in candidates:
        candidates.append(usual)
    return {delimiter: _rows(text, delimiter) for delimiter in candidates}


def _possible(rows, needed):
    """The delimiters that the first line has; if some give all columns that are needed, these."""
    possible = [delimiter for delimiter, found in rows.items() if found and len(found[0]) > 1]
    with_all = [delimiter for delimiter in possible if set(needed) <= set(rows[delimiter][0])]
    return with_all or possible


def _is_even(rows):
    """Whether all rows have as many fields."""
    return len(set(map(len, rows))) == 1


def _sample(file):
    """The start of a file; all of it if it is short."""
    try:
        with open_text(file, "replace") as lines:  # a column of text may be of other bytes
            return lines.read(_SAMPLE_CHARACTERS)
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{file} cannot be read as CSV in UTF-8: {error}") from error


def _rows(text, delimiter):
    """The first rows, or none if they are no CSV of this delimiter."""
    lines = io.StringIO(text, newline="")
    try:
        rows = list(filter(None, csv.reader(lines, delimiter=delimiter)))
    except csv.Error:
        return []
    is_cut = len(text) == _SAMPLE_CHARACTERS
    if is_cut and len(rows) > 1:
        rows.pop()
    return rows[:_SAMPLE_ROWS]


def _has_numbers(rows, delimiter):
    """Whether some column has numbers alone, which may have a decimal comma where it does not end a
    column.
    """
    for column in zip(*rows[1:], strict=True):
        cells = list(filter(None, map(str.strip, column)))
        if delimiter != ",":
            cells = [cell.replace(",", ".", 1) for cell in cells]
        if cells and all(map(_NUMBER.fullmatch, cells)):
            return True
    return False
