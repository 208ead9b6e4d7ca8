"""What users hold, arrays and data frames, as Arrow tables, and back."""

import base64
import dataclasses
import sys
import warnings
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.interchange

from nice_tf.errors import UserError
from nice_tf.estimators.objects import of_one_kind


def is_frame(x: Any) -> bool:
    """Whether this is a table with names: of pandas, Arrow, or with either of their protocols."""
    if len(getattr(x, "shape", ())) != 2:
        return False
    has_protocol = hasattr(x, "__arrow_c_stream__") or hasattr(x, "__dataframe__")
    return isinstance(x, pa.RecordBatch) or has_protocol


def as_table(x: Any, texts: Collection[str] = ()) -> pa.Table:
    """A data frame as an Arrow table; the index of pandas is no column.

    Args:
      x: the frame.
      texts: as of `of_one_kind`, of pandas.

    Raises:
      UserError: a column's name twice; columns that Arrow cannot hold, as such of mixed types.
    """
    try:
        if is_pandas(x):
            names_of(x)  # which refuses a name that is there twice
            return _table_of_pandas(of_one_kind(x, texts))
        if isinstance(x, pa.RecordBatch):
            table = pa.Table.from_batches([x])
        elif hasattr(x, "__arrow_c_stream__"):
            table = pa.table(x)
        else:
            table = pyarrow.interchange.from_dataframe(x)
    except (pa.ArrowException, OverflowError, TypeError) as error:
        cause = "; ".join(map(str, error.args))
        raise UserError(f"X cannot be read as a table: {cause}") from error
    _check_unique(table.column_names)
    return table


def _table_of_pandas(x):
    with warnings.catch_warnings():
        # Of pandas 3.1, for how Arrow reads times with a time zone.
        warnings.filterwarnings("ignore", "Series.values returning an ndarray that drops timezone")
        return pa.Table.from_pandas(x, preserve_index=False)


def names_of(x: Any) -> list[str]:
    """The names of a data frame's columns, whatever these hold.

    Raises:
      UserError: a name twice; of other frames than those of pandas, what `as_table` refuses.
    """
    if not is_pandas(x):
        return as_table(x).column_names
    names = [str(name) for name in x.columns]
    _check_unique(names)
    return names


def without_columns(x: Any, names: Sequence[str]) -> Any:
    """A data frame without some of its columns."""
    if not names:
        return x
    if is_pandas(x):
        return x.loc[:, [str(name) not in names for name in x.columns]]
    return as_table(x).drop_columns(list(names))


def table_of_array(values: np.ndarray) -> pa.Table:
    """An array `[N, D]` as a table of columns x0, x1 and so on."""
    names = [f"x{number}" for number in range(values.shape[1])]
    columns = [pa.array(np.ascontiguousarray(column)) for column in values.T]
    return pa.table(columns, names=names)


def is_pandas(x: Any) -> bool:
    """Whether this is a data frame of pandas, which is not imported for that."""
    pandas = sys.modules.get("pandas")
    return pandas is not None and isinstance(x, pandas.DataFrame)


def _check_unique(names: Sequence[str]) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UserError(f"X has columns of one name: {', '.join(twice)} is there more than once")


@dataclasses.dataclass(frozen=True)
class Kind:
    """What X was in `fit`, so that samples come back as it went in.

    Attributes:
      container: `"array"`, `"pandas"` or `"arrow"`.
      schema: names and types of the columns, with what pandas knows of them.
      dtype: of an array; of others `"float64"`.
    """

    container: str
    schema: pa.Schema
    dtype: str = "float64"

    @classmethod
    def of(cls, x: Any, table: pa.Table) -> "Kind":
        """That of what was made into a table."""
        if isinstance(x, np.ndarray):
            return cls("array", table.schema, x.dtype.str)
        if is_pandas(x):
            return cls("pandas", table.schema)
        return cls("arrow", table.schema)

    @property
    def names(self) -> list[str]:
        """Of all columns."""
        return self.schema.names

    def restored(self, columns: dict[str, Any], num_rows: int) -> Any:
        """Columns as what X was.

        Args:
          columns: values of the columns by name, `[num_rows]` each; a column that is not among them
            has none: it is NaN in an array and missing in a frame.
          num_rows: how many.

        Returns:
          `[num_rows, columns]`: an array, or a frame of pandas or Arrow.
        """
        arrays = []
        for field in self.schema:
            if field.name in columns:
                arrays.append(_cast(pa.array(columns[field.name]), field.type))
            else:
                arrays.append(pa.nulls(num_rows, field.type))
        table = pa.table(arrays, names=self.names)
        if self.container == "array":
            numbers = [column.to_numpy() for column in table.columns]
            return np.stack(numbers, axis=-1).astype(self.dtype)
        table = table.replace_schema_metadata(self.schema.metadata)
        if self.container == "pandas":
            return table.to_pandas()
        return table

    def as_dict(self) -> dict[str, str]:
        """All fields, ready for JSON."""
        return {
            "container": self.container,
            "schema": base64.b64encode(self.schema.serialize()).decode(),
            "dtype": self.dtype,
        }

    @classmethod
    def from_dict(cls, values: dict[str, str]) -> "Kind":
        """The inverse of `as_dict`."""
        schema = pa.ipc.read_schema(pa.py_buffer(base64.b64decode(values["schema"])))
        return cls(values["container"], schema, values["dtype"])


def _cast(column, kind):
    """A column in the type that it had in X, where its values fit."""
    is_number = pa.types.is_integer(column.type) or pa.types.is_floating(column.type)
    if pa.types.is_integer(kind) and is_number:
        # A draw can lie behind the last value that a narrow type holds, and would wrap round.
        limits = np.iinfo(str(kind))
        values = column.to_numpy(zero_copy_only=False)
        column = pa.array(np.clip(values, limits.min, limits.max))
    try:
        return column.cast(kind, safe=False)
    except pa.ArrowException:
        return column
