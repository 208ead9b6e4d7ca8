"""Classes that a column of a table holds."""

import numpy as np
import pyarrow as pa

from nice_tf.data.tables.columns import is_text
from nice_tf.data.tables.table import NULLS, Table
from nice_tf.errors import UserError


def read_labels(table: Table, name: str) -> np.ndarray:
    """A column of classes, text or whole numbers, as text, `[N]`; an empty text where one is
    missing.

    Raises:
      UserError: a column of another type, a damaged file.
    """
    kind = table.types[name]
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if not _may_be_classes(kind):
        raise UserError(
            f"condition_on {name}: the column of {table.what} is of type {kind}, text or whole "
            "numbers are needed"
        )
    parts = [as_classes(batch[name]) for batch in table.batches([], [name])]
    together = pa.chunked_array(parts, pa.string()).combine_chunks()
    encoded = together.dictionary_encode()
    texts = encoded.dictionary.to_pylist()
    if pa.types.is_integer(kind):  # NA and the like are missing
        for place, text in enumerate(texts):
            if text in NULLS:
                texts[place] = ""
    return np.array(texts, np.str_)[encoded.indices.to_numpy()]


def as_classes(column: pa.Array) -> pa.Array:
    """A column as names of classes, empty where one is missing."""
    return column.cast(pa.string()).fill_null("")


def _may_be_classes(kind):
    return (
        pa.types.is_integer(kind)
        or pa.types.is_boolean(kind)
        or is_text(kind)
        # A column that is empty at the start of a CSV file may hold any text further on.
        or pa.types.is_null(kind)
    )
