"""What a trained model is to answer for, block by block in order: the rows of a table, or the
examples of an array.
"""

import contextlib
import dataclasses
import functools
import os
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from nice_tf.data import arrays, pictures, tfrecord
from nice_tf.data.rows import Rows, chunks, rebatched
from nice_tf.data.schema import Schema
from nice_tf.data.tables import (
    Table,
    is_number,
    is_text_like,
    left_out,
    no_number,
    numbers,
    table_files,
)
from nice_tf.errors import UserError
from nice_tf.scoring.model import Model


@dataclasses.dataclass(frozen=True)
class Block:
    """Some rows.

    Attributes:
      first: number of the first, counted from 0.
      values: `[n, *event_shape]` in data units, NaN where one is missing; of a table the columns of
        the density.
      constants: of a table, those of the schema's constant columns that it has, by name, `[n]`
        each.
      kept: the columns of the file that were asked for, by name, `[n]` each, as they stand; of
        pictures, `file`, the path of each in the folder.
      stored_as: by name, the type of those constants that the file has in fewer digits than
        float64.
    """

    first: int
    values: np.ndarray
    constants: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
    kept: dict[str, pa.Array] = dataclasses.field(default_factory=dict)
    stored_as: dict[str, str] = dataclasses.field(default_factory=dict)


class TableInput:
    """The rows of CSV or Parquet files.

    Attributes:
      files: paths, in order.
      names: of all columns, in the order of the file.
      warnings: what the user should know of the files, a line each.
    """

    def __init__(
        self,
        name: str,
        schema: Schema,
        keep: Sequence[str] | None = (),
        dtype: npt.DTypeLike = np.float64,
    ):
        """Looks at the columns.

        Args:
          name: a file, a folder or a pattern.
          schema: the columns that are needed, in any order; CSV files that may be written in
            several ways are taken to be as those of training.
          keep: names of columns to pass on; `None` for all, of which then some may be unknown to
            the schema.
          dtype: the type in which the model takes values, which bounds them.

        Raises:
          UserError: as `Table` and `Schema.check_names` say; a column to keep that is not there.
        """
        self.files = table_files(name)
        if not self.files:
            raise UserError(
                f"input {name}: there is no such table (.csv, .parquet; a file, a folder or a "
                "pattern)"
            )
        self._name, self._schema, self._table = name, schema, Table(self.files, schema=schema)
        self._dtype = np.dtype(dtype)
        self.names = self._table.names
        self.warnings = left_out(name)
        self._keep = list(self.names if keep is None else keep)
        absent = [name for name in self._keep if name not in self.names]
        if absent:
            raise UserError(
                f"input {name} has no column {', '.join(absent)} to keep, only "
                f"{', '.join(self.names)}"
            )
        unknown = set(self._keep) - set(schema.names)
        schema.check_names([name for name in self.names if name not in unknown], f"input {name}")
        self._constants = [name for name in schema.constants if name in self.names]
        if not self._table.is_csv:
            self._table.choose([*schema.names, *self._constants])

    def check_output(self, output: str) -> None:
        """Checks that a file can hold the columns to keep.

        Raises:
          UserError: a column with lists, fields or bytes in it, which text cannot hold, named with
            its type.
        """
        if output.lower().endswith(".parquet"):
            return
        for name in self._keep:
            kind = self._table.types[name]
            if not self._table.is_csv and not is_text_like(kind):
                raise UserError(
                    f"keep: column {name} of input {self._name} is of type {kind}, which {output} "
                    "cannot hold: give an output that ends in .parquet, or do not keep the column"
                )

    @property
    def num_rows(self) -> int:
        """Number of rows; of CSV files it takes to read them."""
        return self._table.num_rows

    def blocks(self, size: int, first: int = 0) -> Iterator[Block]:
        """The rows from number `first` on, `size` at a time; the last block may have fewer.

        Raises:
          UserError: text where a number is needed, an infinite one, or one beyond the model's type,
            named by column and row.
        """
        columns = [
            name for name in (*self._schema.names, *self._constants) if name not in self._keep
        ]
        no_numbers = [
            name for name in columns if name not in self._table.numeric
        ]  # read as text, to name what it is
        columns = [name for name in columns if name in self._table.numeric]
        texts = [*self._keep, *no_numbers]
        spelled = [name for name in (*self._schema.names, *self._constants) if name in texts]
        batches = self._table.batches(columns, texts, spelled)
        for batch in _resized(batches, size, first):
            yield self._block(batch, first)
            first += len(batch)

    def _block(self, batch, first):
        wanted = [*self._schema.names, *self._constants]
        parsed = {name: self._as_numbers(batch[name], name, first) for name in wanted}
        values = numbers(parsed, wanted)
        what, num_columns = f"input {self._name}", len(self._schema.columns)
        _check_finite(values, wanted, what, first)
        _check_holds(self._dtype, values[:, :num_columns], wanted, what, first)
        constants = dict(zip(self._constants, values[:, num_columns:].T, strict=True))
        kept = {name: batch[name] for name in self._keep}
        return Block(first, values[:, :num_columns], constants, kept, self._stored_as)

    @functools.cached_property
    def _stored_as(self):
        """By name, the types of the constant columns that have fewer digits than float64."""
        low = {np.finfo(np.float16).eps: "float16", np.finfo(np.float32).eps: "float32"}
        found = {name: low.get(self._table.precision(name)) for name in self._constants}
        return {name: kind for name, kind in found.items() if kind}

    def _as_numbers(self, column, name, first):
        """A column that was read as text because it is to be kept as it stands; others are returned
        as they are.
        """
        if not pa.types.is_string(column.type):
            return column
        column = pc.utf8_trim_whitespace(column)
        nulls = pa.array(pa.csv.ConvertOptions().null_values)
        column = pc.if_else(pc.is_in(column, value_set=nulls), pa.scalar(None, pa.string()), column)
        for kind in (pa.float64(), pa.bool_()):  # true and false count as 1 and 0
            with contextlib.suppress(pa.ArrowInvalid):
                return pc.cast(column, kind)
        texts = column.to_pylist()
        wrong = [row for row, text in enumerate(texts) if text is not None and not is_number(text)]
        row = next((row for row in wrong if texts[row].lower() not in ("true", "false")), wrong[0])
        raise UserError(no_number(name, f"input {self._name}", first + row, texts[row]))


class ArrayInput:
    """The examples of an array in files.

    Attributes:
      files: paths, in order.
      warnings: what the user should know of the files, a line each.
    """

    warnings: Sequence[str] = ()

    def __init__(
        self,
        name: str,
        event_shape: Sequence[int],
        levels: int | None,
        resize: Sequence[int] = (),
        dtype: npt.DTypeLike = np.float64,
    ):
        """Looks for the files.

        Args:
          name: a `.npy` file; a `.npz` file with one array; TFRecord files, as file, folder or
            pattern; a folder of PNG or JPEG pictures of the model's size, or of any where those of
            training were resized.
          event_shape: shape of an example.
          levels: number of integer levels of the data; `None` for continuous data.
          resize: height and width that pictures are brought to, if any, as in training.
          dtype: the type in which the model takes values, which bounds them.

        Raises:
          UserError: no such file.
        """
        self.files = (
            [name]
            if os.path.isfile(name)
            else tfrecord.tfrecord_files(name) or pictures.picture_files(name)
        )
        if not self.files:
            raise UserError(
                f"input {name}: there is no such file, and no TFRecord file or picture of that "
                "folder or pattern"
            )
        self._name, self._event_shape, self._levels, self._resize = (
            name,
            list(event_shape),
            levels,
            resize,
        )
        self._dtype = np.dtype(dtype)
        self._are_pictures = all(map(pictures.is_picture, self.files))
        self.warnings = pictures.left_out(name) if self._are_pictures else tfrecord.left_out(name)

    def check_output(self, output: str) -> None:
        """Any output can hold what is kept of arrays and pictures."""

    @property
    def num_rows(self) -> int | None:
        """Number of examples, where the files tell before they are read."""
        if self._are_pictures:
            return len(self.files)
        if self._name.lower().endswith(".npy"):
            with contextlib.suppress(UserError):  # `blocks` says what is wrong
                return next(iter(arrays.read_header(self._name, self._name).shape), None)
        return None

    def blocks(self, size: int, first: int = 0) -> Iterator[Block]:
        """The examples from number `first` on, `size` at a time; the last block may have fewer.

        Raises:
          UserError: examples of another shape, or with values that the model knows nothing of; an
            infinite value, or one beyond the model's type, named by its row.
        """
        examples = self._skip(self._examples(), first)
        for values in rebatched(map(self._checked, examples), size):
            flat, what = values.reshape(len(values), -1), f"input {self._name}"
            _check_finite(flat, None, what, first)
            self._check_range(values)
            _check_holds(self._dtype, flat, None, what, first)
            yield Block(first, values, kept=self._names(first, len(values)))
            first += len(values)

    def _examples(self):
        """Arrays `[n, *event_shape]` in order, some megabytes each. What else is to be read is a
        line here.
        """
        if self._name.lower().endswith(".npy"):
            return chunks(_npy_rows(self._name))
        if self._name.lower().endswith(".npz"):
            return iter([_only_array(self._name)])
        if self._are_pictures:
            like = pictures.first(self.files, self._resize, skip_bad=False)
            return pictures.examples(self.files, self._resize, like)
        return tfrecord.examples(self.files)

    def _names(self, first, number):
        """Which pictures they are, if each is a file, by their paths in the folder."""
        if not self._are_pictures:
            return {}
        folder = self._name if os.path.isdir(self._name) else os.path.dirname(self._name)
        return {
            "file": pa.array(
                [os.path.relpath(file, folder) for file in self.files[first : first + number]]
            )
        }

    def _skip(self, examples, number):
        for values in examples:
            if len(values) > number:
                yield values[number:]
            number = max(0, number - len(values))

    def _checked(self, values):
        if list(values.shape[1:]) != self._event_shape:
            raise UserError(
                f"input {self._name} has examples of shape {list(values.shape[1:])}, the model is "
                f"of shape {self._event_shape}"
            )
        return values

    def _check_range(self, values):
        if not self._levels:
            return
        present = ~np.isnan(values)
        low, high = (
            np.min(values, where=present, initial=0),
            np.max(values, where=present, initial=0),
        )
        if low < -0.5 or high > self._levels - 0.5:
            raise UserError(
                f"input {self._name} has values from {low} to {high}: the model is of integers "
                f"0..{self._levels - 1}"
            )


def open_input(name: str, model: Model, keep: Sequence[str] | None = ()) -> TableInput | ArrayInput:
    """The input that a model takes.

    Args:
      name: as for `TableInput` or `ArrayInput`.
      model: trained.
      keep: as for `TableInput`.

    Raises:
      UserError: as there; columns to keep of what is no table.
    """
    if model.schema:
        return TableInput(name, model.schema, keep, model.dtype)
    if keep:
        raise UserError(
            f"keep is for tables, got {', '.join(keep)}: the model is of shape {model.event_shape}"
        )
    # No resize is in the description that an earlier version exported.
    resize = model.description.get("resize", ())
    return ArrayInput(name, model.event_shape, model.description["levels"], resize, model.dtype)


def _npy_rows(name):
    what = f"input {name}"
    header = arrays.read_header(name, what)
    _check_type(header.dtype, what)
    if not header.shape:
        raise UserError(f"{what} holds a single value: examples are needed")
    return Rows(name) if header.lies_in_rows else arrays.map_array(name, what)


def _only_array(name):
    content = arrays.read_archive(name, f"input {name}")
    if len(content) != 1:
        raise UserError(
            f"input {name} holds the arrays {', '.join(content) or '(none)'}: one array is needed"
        )
    (values,) = content.values()
    _check_type(values.dtype, f"input {name}")
    if not values.ndim:
        raise UserError(f"input {name} holds a single value: examples are needed")
    return values


def _check_type(dtype, what):
    if dtype.kind not in "uif":
        raise UserError(f"{what} cannot be read as a NumPy file of numbers: it is of type {dtype}")


def _resized(batches, size, skip):
    """The rows of record batches except the first `skip`, `size` at a time or, last, fewer."""
    gathered, count = [], 0
    for batch in batches:
        skipped = min(skip, len(batch))
        skip -= skipped
        batch = batch.slice(skipped)
        while count + len(batch) >= size:
            head, batch = batch.slice(0, size - count), batch.slice(size - count)
            yield _joined([*gathered, head])
            gathered, count = [], 0
        if len(batch):
            gathered.append(batch)
            count += len(batch)
    if count:
        yield _joined(gathered)


def _joined(batches):
    return (
        pa.Table.from_batches(batches).combine_chunks().to_batches()[0]
        if len(batches) > 1
        else batches[0]
    )


def _check_finite(values, names, what, first):
    """Refuses infinite values; NaN stands for a missing one."""
    if values.dtype.kind != "f":
        return
    infinite = np.argwhere(np.isinf(values))
    if len(infinite):
        where = _where(names, what, infinite[0])
        value, row = values[tuple(infinite[0])], first + infinite[0][0]
        raise UserError(f"{where} has {value} in row {row} (counted from 0): values must be finite")


def _check_holds(dtype, values, names, what, first):
    """Refuses finite values that are infinite in the type in which the model takes them."""
    if values.dtype.kind != "f":  # integers of 64 bits are far below
        return
    largest = np.finfo(dtype).max
    beyond = np.argwhere(np.abs(values) > largest)
    if len(beyond):
        where = _where(names, what, beyond[0])
        value, row = values[tuple(beyond[0])], first + beyond[0][0]
        raise UserError(
            f"{where} has {value:g} in row {row} (counted from 0): the model is of {dtype}, which "
            f"ends at {largest:.2g}. Leave the row out or mend it"
        )


def _where(names, what, place):
    """What has a value, the column too where columns have names."""
    return f"column {names[place[1]]} of {what}" if names else what


def rows_at_once(event_size: int, work: int = 1) -> int:
    """How many rows of so many values are held at a time, fewer where each takes more work than to
    be scored.
    """
    return max(1, min(2**16, 2**22 // event_size) // work)
