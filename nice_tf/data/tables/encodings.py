"""What columns hold that is no number: categories, dates and times, to numbers and back."""

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from nice_tf.data.schema import Encoding, Schema
from nice_tf.data.tables.cells import is_number
from nice_tf.data.tables.columns import is_text
from nice_tf.data.tables.types import type_of

_MIDNIGHT = "1970-01-01 "


def numbers(
    batch: Mapping[str, pa.Array], names: Sequence[str], encodings: Mapping[str, Encoding]
) -> np.ndarray:
    """Columns as numbers.

    Args:
      batch: columns by name, `[n]` each.
      names: of those that are wanted.
      encodings: by name, of those that hold no numbers.

    Returns:
      `[n, columns]` in float64, NaN where a value is missing.

    Raises:
      pa.ArrowException: as `encoded`.
    """
    arrays = []
    for name in names:
        if name in encodings and encodings[name].is_read_apart:
            arrays.append(encoded(batch[name], encodings[name]))
            continue
        column = pc.cast(batch[name], pa.float64(), safe=False)
        arrays.append(column.to_numpy(zero_copy_only=False))
    return np.stack(arrays, axis=-1)


def encoded(column: pa.Array, encoding: Encoding) -> np.ndarray:
    """A column of categories, dates or times as numbers.

    Args:
      column: as a file has it, missing values as null.
      encoding: of categories, dates or times.

    Returns:
      `[n]` in float64: NaN where a value is missing, `len(categories)` where a category is new.

    Raises:
      pa.ArrowException: a value that cannot be of this kind.
    """
    if encoding.categories:
        return _codes(as_texts(column), encoding.categories)
    ticks = ticks_of(as_dates(column, type_of(encoding.type)))
    apart = pc.subtract(ticks, pa.scalar(encoding.origin, pa.int64()))
    numbers = apart.to_numpy(zero_copy_only=False).astype(np.float64)  # NaN where null
    return numbers / encoding.ticks


def as_texts(column: pa.Array) -> pa.Array:
    """A column as text; numbers as the shortest decimals."""
    if pa.types.is_string(column.type):
        return column
    return pc.cast(column, pa.string())


def as_dates(column: pa.Array, kind: pa.DataType) -> pa.Array:
    """A column of dates or times, or of texts that spell some, in a type.

    Raises:
      pa.ArrowException: a text that is none, or a column that cannot have this type.
    """
    if column.type == kind:
        return column
    if pa.types.is_null(column.type):
        return pa.nulls(len(column), kind)
    if is_text(column.type) and pa.types.is_time(kind):
        spelled = pc.binary_join_element_wise(_MIDNIGHT, pc.cast(column, pa.string()), "")
        column = pc.cast(spelled, pa.timestamp("ns"))
    has_zone = _zone(column.type) is not None
    if pa.types.is_timestamp(column.type) and has_zone != (_zone(kind) is not None):
        raise pa.ArrowInvalid(f"it is of type {column.type}, {kind} is needed")
    return pc.cast(column, kind)


def _zone(kind):
    if pa.types.is_timestamp(kind):
        return kind.tz
    return None


def ticks_of(column: pa.Array) -> pa.Array:
    """Dates or times as the integers that Arrow keeps of them, in 64 bits."""
    if column.type.bit_width == 32:
        return pc.cast(pc.cast(column, pa.int32()), pa.int64())
    return pc.cast(column, pa.int64())


def ticks_a_day(kind: pa.DataType) -> int:
    """How many of these integers make a day."""
    if pa.types.is_date32(kind):
        return 1
    if pa.types.is_date64(kind):
        return 86_400_000
    return 86_400 * {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}[kind.unit]


def _codes(texts, categories):
    places = pc.index_in(texts, value_set=pa.array(categories, pa.string()))
    codes = places.to_numpy(zero_copy_only=False).astype(np.float64)
    is_new = np.isnan(codes) & texts.is_valid().to_numpy(zero_copy_only=False)
    if is_new.any():
        codes[is_new] = _by_number(texts.filter(pa.array(is_new)).to_pylist(), categories)
    return codes


def _by_number(texts, categories):
    """Places of categories that are the same number in other words, 1.0 for 1: pandas writes
    integers so where some are missing.
    """
    places: dict[float, int] = {}
    for place, category in enumerate(categories):
        number = _number(category)
        if number is None:
            continue
        if number in places:  # 1 and 01 are apart: words count
            places = {}
            break
        places[number] = place
    return [places.get(_number(text), len(categories)) for text in texts]


def _number(text):
    if is_number(text):
        return float(text)
    return None


def decoded(schema: Schema, x: np.ndarray) -> dict[str, np.ndarray | pa.Array]:
    """Rows of the density as columns of the table, in the types that it had.

    Args:
      schema: of the table.
      x: `[N, D]`, in the units of the density. Categories and dates out of range become those at
        its ends.

    Returns:
      By name, `[N]` each, as `Schema.as_columns`; categories, booleans, dates and times as Arrow
      has them.
    """
    columns: dict[str, np.ndarray | pa.Array] = dict(schema.as_columns(x))
    for place, column in enumerate(schema.columns):
        if column.encoding.kind == "boolean":
            columns[column.name] = decoded_values(np.asarray(x)[:, place], column.encoding)
        elif column.encoding.is_read_apart:
            inside = np.clip(columns[column.name], column.low, column.high)
            columns[column.name] = decoded_values(inside, column.encoding)
    for name, encoding in schema.constant_encodings.items():
        columns[name] = decoded_values(schema.as_columns(x)[name], encoding)
    return columns


def decoded_values(values: np.ndarray, encoding: Encoding) -> pa.Array:
    """Numbers of a column of categories, dates, times or booleans as what they stand for.

    Args:
      values: `[n]`, within the range of the column.
      encoding: of the column.
    """
    if encoding.kind == "boolean":
        return pa.array(np.asarray(values) > 0.5)
    kind = type_of(encoding.type)
    if encoding.categories:
        places = pa.array(np.asarray(values).astype(np.int32))
        categories = pa.array(encoding.categories, pa.string())
        return as_type(categories.take(places), kind, categories)
    apart = np.rint(np.asarray(values, np.float64) * encoding.ticks).astype(np.int64)
    ticks = pa.array(encoding.origin + apart)
    if kind.bit_width == 32:
        ticks = ticks.cast(pa.int32())
    return ticks.cast(kind)


def wanted(encoding: Encoding) -> str:
    """What a cell of a column of dates, times or categories must be, for a message."""
    kind = type_of(encoding.type)
    if pa.types.is_date(kind):
        return "a date like 2026-01-31"
    if pa.types.is_time(kind):
        return "a time like 23:59:00"
    if pa.types.is_timestamp(kind):
        return "a date and time like 2026-01-31 23:59:00"
    if pa.types.is_duration(kind):
        return "a duration"
    return f"of type {encoding.type}"


def as_type(texts: pa.Array, kind: pa.DataType, categories: pa.Array | None = None) -> pa.Array:
    """Texts in the type of a column of categories; errors are those of pyarrow.

    Args:
      texts: the values.
      kind: the type; of a dictionary, the order of its entries is kept, which has a meaning where
        it is ordered.
      categories: the entries of a dictionary, others come behind them; in the order of `texts` when
        not given.
    """
    if not pa.types.is_dictionary(kind):
        return pc.cast(texts, kind)
    values = pc.cast(texts, kind.value_type)
    entries = pc.unique(values.drop_null())
    if categories is not None:
        known = pc.cast(categories, kind.value_type)
        new = entries.filter(pc.invert(pc.is_in(entries, value_set=known)))
        entries = pa.concat_arrays([known, new])
    codes = pc.cast(pc.index_in(values, value_set=entries), kind.index_type)
    return pa.DictionaryArray.from_arrays(codes, entries, ordered=kind.ordered)


def for_csv(schema: Schema, columns: Mapping[str, np.ndarray | pa.Array]) -> dict[str, pa.Array]:
    """What `decoded` gives as text for CSV: the numbers of a column have all as many decimals,
    except one that was seen or given with more.

    Args:
      schema: of the table.
      columns: by name.
    """
    texts = {name: texts_of(pa.array(values)) for name, values in columns.items()}
    for column in schema.columns:
        places = column.shown_decimals
        if places and not column.encoding.is_read_apart:
            values = np.asarray(columns[column.name])
            rounded = np.round(values, places) + 0.0  # never -0.00
            cells = [f"{number:.{places}f}" for number in rounded]
            plain = texts[column.name].to_pylist()
            texts[column.name] = pa.array(np.where(rounded == values, cells, plain))
    return texts


def texts_of(column: pa.Array) -> pa.Array:
    """A column of any type as text for CSV: numbers as short as they can be, times without a
    fraction of a second that is zero.
    """
    texts = pc.cast(column, pa.string())
    if pa.types.is_temporal(column.type):
        texts = pc.replace_substring_regex(texts, r"\.0+($|[Z+-])", r"\1")
    return texts
