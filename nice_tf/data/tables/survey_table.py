"""A table read once for its schema: which columns, on which steps, and what would spoil a
density.
"""

import dataclasses
import re
from collections.abc import Sequence

import pyarrow as pa

from nice_tf.data.schema import PLAIN as NUMBERS
from nice_tf.data.schema import Encoding, Schema
from nice_tf.data.tables import cells
from nice_tf.data.tables.choice import choose
from nice_tf.data.tables.csv_format import PLAIN
from nice_tf.data.tables.kinds import Kinds
from nice_tf.data.tables.survey import Survey
from nice_tf.data.tables.table import MostlyText, Table
from nice_tf.data.tables.types import name_of
from nice_tf.errors import UserError

# What pandas and R's readr make of a column without a name; so may be called what is no index.
_PERHAPS_ROW_NUMBER = re.compile(r"Unnamed: \d+(\.\d+)*(_level_\d+)?|\.\.\.\d+")

ALL_AS_THEY_ARE = Kinds()


def survey_table(
    table: Table,
    columns: Sequence[str] = (),
    *,
    label: str | None = None,
    kinds: Kinds = ALL_AS_THEY_ARE,
) -> tuple[Schema, Survey]:
    """Reads these columns, or all that `choose` takes but the label, for the table's schema.

    Raises:
      UserError: as `choose`, `Table.batches` and `Survey` say; fewer than two rows; integers that
        float64 cannot hold.
    """
    chosen, left_out = choose(table, columns, label=label, kinds=kinds)
    try:
        survey = _surveyed(table, chosen)
    except MostlyText as error:
        for name in error.names:
            if name in kinds.numbers:
                raise
            table.set_type(name, pa.string())
        return survey_table(table, columns, label=label, kinds=kinds)
    if survey.num_rows < 2:
        raise UserError(f"{table.what}: at least 2 rows are needed, got {survey.num_rows}")
    for name, largest in survey.largest().items():
        if name not in survey.empty:
            _check_is_exact(table, name, largest)
    for reason in dict.fromkeys(left_out.values()):
        survey.leave_out([name for name in left_out if left_out[name] == reason], reason)
    if columns:
        survey.check_has_values()
    else:
        _leave_out(survey, chosen)
    return _schema(table, survey, label), survey


def _surveyed(table, names):
    survey = Survey(names, list(map(table.precision, names)))
    for block in table.blocks(names):
        survey.add(block)
    return survey


def _leave_out(survey, names):
    """Takes columns out that were not asked for and tell nothing."""
    survey.leave_out(survey.empty, "has no value at all and is left out")
    row_numbers = []
    for name in names:
        if _PERHAPS_ROW_NUMBER.fullmatch(name) and survey.counts_rows(name):
            row_numbers.append(name)
    survey.leave_out(
        row_numbers, "counts the rows, as pandas writes them, and is left out; columns keeps it"
    )


def _schema(table, survey, label):
    known = {*survey.names, label}
    ignored = [name for name in table.names if name not in known]
    # Plain CSV that shows it is read the same again: only what was told is to be kept.
    form = {}
    if table.is_csv and (table.is_told or table.format != PLAIN):
        form = dataclasses.asdict(table.format)
    schema = survey.schema(ignored, **form)
    columns = []
    for column in schema.columns:
        columns.append(dataclasses.replace(column, encoding=_encoding(table, column.name)))
    of_constants = {}
    for name in schema.constants:
        if _encoding(table, name) != NUMBERS:
            of_constants[name] = _encoding(table, name)
    return dataclasses.replace(schema, columns=tuple(columns), constant_encodings=of_constants)


def _encoding(table, name):
    if pa.types.is_boolean(table.types[name]):
        return Encoding(type=name_of(pa.bool_()))
    return table.encodings.get(name, NUMBERS)


def _check_is_exact(table, name, largest):
    """Refuses integers and decimals that become the same number in float64."""
    if largest < cells.EXACT:
        return
    kind = table.types[name]
    where = ""
    if not pa.types.is_integer(kind) and not pa.types.is_decimal(kind):
        found = _first_inexact(table, name)
        if not found:
            return
        where = f", as {found[1]} in row {found[0]} (counted from 0)"
    raise UserError(
        f"column {name} of {table.what} has integers of size {largest:g}{where}, beyond 2^53, "
        "which cannot be told apart in any precision: leave the column out with columns"
    )


def _first_inexact(table, name):
    """Row and text of the first cell of CSV that is such an integer, which Arrow reads as a float;
    or none.
    """
    if not table.is_csv:
        return None
    row = 0
    for file in table.files:
        mark = table.format_of(file).decimal
        for batch in table.texts(file, [name]):
            for place, text in enumerate(cells.trimmed(batch[name]).to_pylist()):
                if text is not None and cells.is_inexact(text.replace(mark, ".")):
                    return row + place, text
            row += len(batch)
    return None
