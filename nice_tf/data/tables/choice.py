"""Which columns of a table a density is of: those that are asked for, or all that it can take."""

import re
from collections.abc import Sequence

import pyarrow as pa

from nice_tf.data.tables import kinds as kinds_lib
from nice_tf.data.tables.columns import is_text, repeated
from nice_tf.data.tables.kinds import Kinds
from nice_tf.data.tables.table import Table
from nice_tf.errors import UserError

_ROW_NUMBER = re.compile(r"|__index_level_\d+__")
_SAID_OF_ROW_NUMBER = "is taken for row numbers by its name, and is left out"


def choose(
    table: Table, names: Sequence[str], *, label: str | None = None, kinds: Kinds
) -> tuple[list[str], dict[str, str]]:
    """The columns that are asked for, or all that hold numbers, categories, dates or times. The
    table then knows their types and encodings.

    Args:
      table: with the columns.
      names: of columns; none for all, except for row numbers: columns without a name, and the index
        that pandas writes.
      label: name of a column that is left to `labels`.
      kinds: what the user says of the kinds of columns.

    Returns:
      Their names, and by name the reasons why others are left out.

    Raises:
      UserError: one that the table lacks, that cannot be taken or that is named twice; fewer than
        one in all; or one has numbers in most of its rows and text in others.
    """
    _check_names(table, names, label)
    candidates = [name for name in names or table.names if name != label]
    kinds.check(candidates, table.what)
    asked_for = {*names, *kinds.categories, *kinds.numbers}
    others = []
    left_out = {}
    for name in candidates:
        if name in asked_for or not _ROW_NUMBER.fullmatch(name):
            others.append(name)
        else:
            left_out[name] = _SAID_OF_ROW_NUMBER
    _find_types(table, others, kinds)
    found = kinds_lib.find(table, others, kinds, is_wanted=bool(names))
    table.encodings = found.encodings
    left_out.update(found.left_out)
    chosen = []
    for name in others:
        if name in found.encodings or name in table.numeric:
            chosen.append(name)
        elif name not in left_out:
            what = f"is of type {table.types[name]}"
            if names:
                raise UserError(
                    f"column {name} of {table.what} {what}: numbers, text, dates or times are "
                    "needed"
                )
            left_out[name] = f"{what}, not of numbers, text, dates or times, and is left out"
    if not chosen:
        raise UserError(_said_of_none(table, left_out))
    return chosen, left_out


def _said_of_none(table, left_out):
    if left_out:
        each = [f"{name} {reason}" for name, reason in left_out.items()]
        return f"{table.what} has no column that can be taken: {'; '.join(each)}"
    hint = ""
    if table.is_csv and len(table.names) == 1:
        hint = "; CSV files separate their columns by commas, or as delimiter says"
    return f"{table.what} has no column of numbers among {', '.join(table.names)}{hint}"


def check_holds_numbers(table: Table, names: Sequence[str]) -> None:
    """Checks that columns hold numbers. The table then knows their types.

    Raises:
      UserError: one does not.
    """
    _find_types(table, names, Kinds(numbers=names))


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


def _find_types(table, names, kinds):
    """Finds the type of columns of text, and of those that are empty at the start of a file, by all
    their cells.
    """
    if table.is_csv:
        for name in kinds.categories:
            table.set_type(name, pa.string())
    texts = []
    for name in names:
        kind = table.types[name]
        if name not in kinds.categories and (is_text(kind) or _may_be_of_any(table, kind)):
            texts.append(name)
    for name, tally in table.tallies(texts).items():
        if tally.present:
            table.check_is_no_number(name, tally, is_wanted=name in kinds.numbers)
            _set_type(table, name, tally)
    for name in kinds.numbers:
        if name not in table.numeric:
            raise UserError(
                f"column {name} of {table.what} is of type {table.types[name]}: numbers are needed"
            )


def _may_be_of_any(table, kind):
    """Whether a column of CSV is empty at the start of its file."""
    return table.is_csv and pa.types.is_null(kind)


def _set_type(table, name, tally):
    if tally.num_wrong:
        table.set_type(name, pa.string())
    elif table.is_csv and tally.is_logical:
        table.set_type(name, pa.bool_())
    elif table.is_csv:
        table.set_type(name, pa.float64())
