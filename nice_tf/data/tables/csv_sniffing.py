"""How each of several CSV files is written, as far as it is not told."""

import dataclasses
from collections.abc import Sequence

from nice_tf.data.schema import Schema
from nice_tf.data.tables.csv_decimals import sniff_decimal
from nice_tf.data.tables.csv_delimiters import sniff_delimiter
from nice_tf.data.tables.csv_format import HINTS, CsvFormat, Hints, delimiter_name


@dataclasses.dataclass(frozen=True)
class _Expected:
    """What files are taken for that may be written in several ways.

    Attributes:
      delimiter: as of the training file; empty if that is not known.
      decimal: likewise.
      needed: names of columns that they must have.
      weighed: names of the columns whose cells decide; `None` for all.
      hints: for messages.
    """

    delimiter: str = ""
    decimal: str = ""
    needed: Sequence[str] = ()
    weighed: Sequence[str] | None = None
    hints: Hints = HINTS


def sniff_formats(
    files: Sequence[str], delimiter: str, decimal: str, schema: Schema | None
) -> dict[str, CsvFormat]:
    """How each CSV file is written.

    Args:
      files: paths.
      delimiter: of all; empty: what each shows.
      decimal: their mark; empty: what they show, a dot where commas stand between columns.
      schema: of the model that is to read them, if there is one yet.

    Raises:
      UserError: a file that cannot be read, or whose delimiter or decimal mark is unclear.
    """
    expected = _expected_by(schema)
    delimiters = {}
    for file in files:
        delimiters[file] = delimiter or sniff_delimiter(
            file, expected.delimiter, expected.needed, expected.hints
        )
    marks = {}
    for found in sorted(set(delimiters.values())):
        alike = [file for file in files if delimiters[file] == found]
        marks[found] = decimal or _mark_of(alike, found, expected)
    return {file: CsvFormat(found, marks[found]) for file, found in delimiters.items()}


def _mark_of(files, delimiter, expected):
    """The decimal mark of files with one delimiter."""
    known = ""
    if expected.delimiter == delimiter:
        known = expected.decimal
    if delimiter == ",":
        return known or "."  # plain CSV has dots
    return sniff_decimal(files, delimiter, known, expected.weighed, expected.hints)


def _expected_by(schema):
    if not schema:
        return _Expected()
    weighed = [*schema.names, *schema.constants]
    hints = _scoring_hints(schema)
    if not schema.delimiter:
        return _Expected(needed=schema.names, weighed=weighed, hints=hints)
    return _Expected(schema.delimiter, schema.decimal, schema.names, weighed, hints)


def _scoring_hints(schema):
    """What helps where there is no setting: a model reads files as its training file was."""
    hint = "write it as the training file was"
    if schema.delimiter:
        mark = "dot"
        if schema.decimal == ",":
            mark = "comma"
        hint += f", with {delimiter_name(schema.delimiter)} between columns and a decimal {mark}"
    return Hints(hint, hint[:1].upper() + hint[1:])
