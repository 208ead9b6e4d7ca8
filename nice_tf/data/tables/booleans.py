"""How columns of CSV files spell true and false."""

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from nice_tf.data.tables.cells import trimmed
from nice_tf.data.tables.table import NULLS, Table


def words_of(table: Table, names: Sequence[str]) -> dict[str, tuple[str, str]]:
    """The words of each column for false and true: false, False, FALSE or 0.

    The first cell that is not missing tells. A file is read until all columns have one.

    Args:
      table: of CSV files.
      names: of the columns to look at.

    Returns:
      By name: false, then true; 0 and 1 where the first cell is neither word. A column without any
      value is not there.
    """
    found: dict[str, tuple[str, str]] = {}
    left = list(names)
    for file in table.files:
        if not left:
            break
        for batch in table.texts(file, left):
            for name in list(left):
                text = _first_present(batch[name])
                if text is None:
                    continue
                left.remove(name)
                found[name] = _in_letters_of(text)
            if not left:
                break
    return found


def _first_present(column):
    texts = trimmed(column)
    is_missing = pc.is_in(texts, value_set=pa.array(NULLS))
    place = pc.index(pc.or_(is_missing, pc.is_null(texts)), False).as_py()
    if place < 0:
        return None
    return texts[place].as_py()


def _in_letters_of(text):
    if text.lower() not in ("false", "true"):
        return "0", "1"
    change = str.lower
    if text.isupper():
        change = str.upper
    elif text.istitle():
        change = str.title
    return change("false"), change("true")
