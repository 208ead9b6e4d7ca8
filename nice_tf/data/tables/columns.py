"""Columns of Arrow: of which types they are."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from nice_tf.data.schema import shown_name


def holds_numbers(kind: pa.DataType) -> bool:
    """Whether a type is one of numbers; true and false count as 1 and 0, a column without any value
    may be of numbers.
    """
    types = pa.types
    return (
        types.is_integer(kind)
        or types.is_floating(kind)
        or types.is_boolean(kind)
        or types.is_decimal(kind)
        or types.is_null(kind)
    )


def is_text(kind: pa.DataType) -> bool:
    """Whether a type is one of texts."""
    types = pa.types
    return types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind)


def is_text_like(kind: pa.DataType) -> bool:
    """Whether CSV can hold values of a type: not lists, fields or bytes."""
    types = pa.types
    if types.is_dictionary(kind):
        return is_text_like(kind.value_type)
    if types.is_interval(kind):
        return False
    return (
        types.is_primitive(kind) or types.is_decimal(kind) or types.is_null(kind) or is_text(kind)
    )


def precision(kind: pa.DataType) -> float:
    """Relative distance of neighbouring numbers of a type."""
    # Not by `to_pandas_dtype`, for which pyarrow before 26 asks for pandas.
    if kind == pa.float16():
        return float(np.finfo(np.float16).eps)
    if kind == pa.float32():
        return float(np.finfo(np.float32).eps)
    return float(np.finfo(np.float64).eps)


def said_of(names: Sequence[str], what: str) -> str:
    """What columns are or have, as "has no value at all", said of one or of each of several."""
    shown = list(map(shown_name, names))
    if len(names) == 1:
        return f"column {shown[0]} {what}"
    return f"columns {', '.join(shown)}: each {what}"


def repeated(names: Sequence[str]) -> list[str]:
    """The names that are there more than once, sorted."""
    return sorted({name for name in names if names.count(name) > 1})
