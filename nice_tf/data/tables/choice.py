"""Which columns of a table a density is of: those that are asked for, or all that hold numbers."""

import re
from collections.abc import Sequence

import pyarrow as pa

from nice_tf.data.tables.columns import is_text, repeated
from nice_tf.data.tables.table import Table
from nice_tf.errors import UserError

_ROW_NUMBER = re.compile(r"|__index_level_\d+__")


def choose(table: Table, names: Sequence[str], *, label: str | None = None) -> list[str]:
    """The columns that are asked for, or all that hold numbers. The table then knows their types.

    Args:
      table: with the columns.
      names: of columns; none for all that hold numbers, except for row numbers: columns without a
        name, and the index that pandas writes.
      label: name of a column that is left to `labels`.

    Raises:
      UserError: one that the table lacks, that does not hold numbers or that is named twice; fewer
        than one in all; or none is asked for, and one has numbers in most of its rows and text in
        others.
    """
    _check_names(table, names, label)
    candidates = [name for name in names or table.names if name != label]
    _find_types(table, candidates, is_wanted=bool(names))
    if names:
        return list(names)
    chosen = [name for name in table.numeric if name != label and not _ROW_NUMBER.fullmatch(name)]
    if not chosen:
        hint = ""
        if table.is_csv and len(table.names) == 1:
            hint = "; CSV files separate their columns by commas, or as delimiter says"
        raise UserError(
            f"{table.what} has no column of numbers among {', '.join(table.names)}{hint}"
        )
    return chosen


def _check_names(table, names, label):
    twice = repeated(names)
    if twice:
        raise UserError(f"columns has {', '.join(twice)} more than once, got {', '.join(names)}")
    absent = [name for name in names if name not in table.names]
    if absent:
        raise UserError(
            f"{table.what} has no column {', '.join(absent)}, only {', '.join(table.names)}"
        )
    if label is not None and label not in table.names:
        raise UserError(
            f"condition_on {label}: {table.what} has no such column, only {', '.join(table.names)}"
        )
    if label in names:
        raise UserError(
            f"columns has {label}, which condition_on takes out of the density: give it once"
        )


def _find_types(table, names, *, is_wanted):
    """Finds the type of columns of text, and of those that are empty at the start of a file, by all
    their cells.
    """
    texts = [name for name in names if is_text(table.types[name])]
    if table.is_csv:
        texts += [name for name in names if pa.types.is_null(table.types[name])]
    for name, tally in table.tallies(texts).items():
        if tally.present:
            table.check_is_no_number(name, tally, is_wanted=is_wanted)
            _set_type(table, name, tally)
    if not is_wanted:
        return
    for name in names:
        if name not in table.numeric:
            raise UserError(
                f"column {name} of {table.what} is of type {table.types[name]}: numbers are needed"
            )


def _set_type(table, name, tally):
    if tally.num_wrong:
        table.set_type(name, pa.string())
    elif table.is_csv and tally.is_logical:
        table.set_type(name, pa.bool_())
    elif table.is_csv:
        table.set_type(name, pa.float64())
