"""What a run and its export keep of their data, looked at when it is read back."""

from collections.abc import Collection
from typing import Any

import numpy as np

from nice_tf.data.schema import MAX_PLACES, Schema

_MAX_SIZE = 2**31


def check_description(
    values: dict[str, Any], *, counts: Collection[str] = ("num_train", "num_validation", "num_test")
) -> None:
    """Looks at the description of data that `Data.description` gave, as far as a flow is built from
    it.

    Args:
      values: what was read from `config.json` or from the assets of an export.
      counts: the numbers of examples that it must have.

    Raises:
      KeyError: something is missing.
      TypeError: something is of another kind.
      ValueError: something has a value that it cannot have.
    """
    shape = values["event_shape"]
    levels = values["levels"]
    if not isinstance(shape, list) or not shape or not all(map(_is_count, shape)):
        raise ValueError(f"event_shape is {shape}")
    if levels is not None and (not _is_count(levels) or levels < 2):
        raise ValueError(f"levels is {levels}")
    for name in counts:
        if not _is_count(values[name]):
            raise ValueError(f"{name} is {values[name]}")
    if not isinstance(values["name"], str):
        raise ValueError(f"name is {values['name']}")
    if "labels" in values:
        _check_labels(values["labels"])
    if "schema" in values:
        _check_schema(values["schema"], shape)


def _check_encoding(column):
    """Looks at how the values of a column become numbers."""
    _check_type(column.encoding, column.name)
    number = len(column.categories)
    if number and (column.step, column.low, column.high) != (1, 0, number - 1):
        raise ValueError(f"schema has {number} categories of {column.name}, and {column}")


def _check_spikes(column):
    """Looks at the values that samples of a column are moved to, and at their decimals."""
    numbers = np.array([*column.spikes, column.spike_width], np.float64)
    if not np.all(np.isfinite(numbers)) or column.spike_width < 0:
        raise ValueError(f"schema has the spikes {column.spikes} of {column.name}")
    if list(column.spikes) != sorted(column.spikes):
        raise ValueError(f"schema has the spikes {column.spikes} of {column.name}")
    if column.decimals not in (None, *range(MAX_PLACES + 1)):
        raise ValueError(f"schema has the decimals {column.decimals} of {column.name}")


def _check_type(encoding, name):
    if encoding.kind == "number":
        return
    # pyarrow is imported for a table alone: the start of other runs need not wait for it.
    from nice_tf.data.tables.types import type_of

    type_of(encoding.type)
    categories = encoding.categories
    if not _are_texts(categories) or len(set(categories)) < len(categories):
        raise ValueError(f"schema has the categories {categories} of {name}")
    whole = (encoding.origin, encoding.ticks)
    if not all(isinstance(number, int) for number in whole) or encoding.ticks < 0:
        raise ValueError(f"schema has the dates {encoding} of {name}")


def _is_count(value):
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value < _MAX_SIZE


def _check_labels(values):
    classes = values["classes"]
    if not isinstance(classes, list) or not isinstance(values["name"], str):
        raise ValueError(f"labels are {values}")
    if not _are_texts(classes) or len(set(classes)) < max(2, len(classes)):
        raise ValueError(f"labels are {values}")
    counts = values["counts"]
    if len(counts) != len(classes) or not all(0 < count < _MAX_SIZE for count in counts):
        raise ValueError(f"labels have the counts {counts}")


def _are_texts(values):
    return all(isinstance(value, str) for value in values)


def _check_schema(values, shape):
    if not isinstance(values, dict):
        raise TypeError(f"schema is {values}")
    for column in values["columns"]:
        if not isinstance(column, dict):
            raise TypeError(f"schema is {values}")
    schema = Schema.from_dict(values)
    names = [*schema.names, *schema.constants, *schema.ignored]
    if [len(schema.columns)] != shape or not _are_texts(names):
        raise ValueError(f"schema has the columns {names}, event_shape is {shape}")
    low, high = schema.ends
    numbers = np.array([low, high, schema.steps], np.float64)
    if not np.all(np.isfinite(numbers)) or np.any(high < low) or np.any(schema.steps < 0):
        raise ValueError("schema has columns without finite bounds and steps")
    if not isinstance(schema.spread, bool):
        raise TypeError(f"schema has spread {schema.spread}")
    for column in schema.columns:
        _check_encoding(column)
        _check_spikes(column)
    for value in schema.constants.values():
        if not np.isfinite(float(value)):
            raise ValueError("schema has constants that are not finite")
    for name, encoding in schema.constant_encodings.items():
        _check_type(encoding, name)
        if encoding.categories and (len(encoding.categories), schema.constants[name]) != (1, 0):
            raise ValueError(f"schema has the categories {encoding.categories} of {name}")
