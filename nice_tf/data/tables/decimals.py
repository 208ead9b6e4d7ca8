"""How the numbers of CSV columns are written: with how many decimals."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from nice_tf.data.tables.cells import trimmed
from nice_tf.data.tables.table import NULLS, Table

_DECIMALS = r"^[+-]?[0-9]*\.(?P<decimals>[0-9]*)$"


def decimals_of(table: Table, names: Sequence[str]) -> dict[str, tuple[int, int]]:
    """The least and the most decimals of the numbers of columns, by name; of those whose numbers
    all have some.

    Args:
      table: of CSV.
      names: of columns of numbers.
    """
    found: dict[str, tuple[int, int]] = {}
    plain: set[str] = set()
    if not names:
        return found
    for batch in table.batches([], names, names):
        for name in names:
            texts = batch[name]
            if not pa.types.is_string(texts.type):
                plain.add(name)
                continue
            texts = pc.drop_null(trimmed(texts))
            texts = texts.filter(pc.invert(pc.is_in(texts, value_set=pa.array(NULLS))))
            matched = pc.extract_regex(texts, _DECIMALS)
            if matched.null_count:
                plain.add(name)
            if len(matched) == matched.null_count:
                continue
            numbers = pc.utf8_length(pc.drop_null(pc.struct_field(matched, "decimals")))
            ends = pc.min_max(numbers).as_py()
            least, most = found.get(name, (ends["min"], ends["max"]))
            found[name] = (min(least, ends["min"]), max(most, ends["max"]))
    return {name: ends for name, ends in found.items() if name not in plain and ends[0]}


def with_decimals(values: np.ndarray, least: int, most: int) -> list[str]:
    """Numbers as text: as short as tells them from others of their type, with at most so many
    decimals; with as many where all of a column have so many, else with one at least.

    Args:
      values: `[n]`.
      least: decimals of a number of the column.
      most: as `least`.
    """
    if least < most:
        least = 1
    texts = []
    for value in np.asarray(values):
        text = np.format_float_positional(value, precision=most, trim="k", min_digits=least)
        if float(text) == 0:  # of what was too small for these decimals
            text = f"{0:.{least}f}"
        texts.append(text)
    return texts
