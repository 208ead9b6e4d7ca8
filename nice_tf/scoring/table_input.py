"""The rows of tables that a model is asked about, block by block in order."""

import contextlib
import functools
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from nice_tf.data.schema import Schema
from nice_tf.data.tables.booleans import words_of
from nice_tf.data.tables.cells import is_number, no_number, shown
from nice_tf.data.tables.choice import check_holds_numbers
from nice_tf.data.tables.columns import is_text_like
from nice_tf.data.tables.decimals import decimals_of
from nice_tf.data.tables.encodings import encoded, numbers, wanted
from nice_tf.data.tables.labels import as_classes
from nice_tf.data.tables.paths import left_out, table_files
from nice_tf.data.tables.table import NULLS, Table
from nice_tf.errors import UserError
from nice_tf.scoring.blocks import Block, check_finite, check_holds

_FEWER_DIGITS = {
    float(np.finfo(np.float16).eps): "float16",
    float(np.finfo(np.float32).eps): "float32",
}


class TableInput:
    """The rows of CSV or Parquet files.

    Attributes:
      files: paths, in order.
      names: of all columns, in the order of the file.
      warnings: what the user should know of the files, one line each.
    """

    def __init__(
        self,
        name: str,
        schema: Schema,
        keep: Sequence[str] | None = (),
        dtype: npt.DTypeLike = np.float64,
        *,
        label: str = "",
    ):
        """Looks at the columns.

        Args:
          name: a file, a folder or a pattern.
          schema: the columns that are needed, in any order; CSV files that may be written in
            several ways are taken to be as those of training.
          keep: names of columns to pass on; `None` for all, of which then some may be unknown to
            the schema.
          dtype: the type in which the model takes values, which bounds them.
          label: for a conditional model, the column that has the class of each row.

        Raises:
          UserError: no such column; as `Table` and `Schema.check_names` say; a column to keep that
            is not there.
        """
        self.files = table_files(name)
        if not self.files:
            raise UserError(
                f"input {name}: there is no such table (.csv, .parquet; a file, a folder or a "
                "pattern)"
            )
        self._what = f"input {name}"
        self._schema = schema
        self._table = Table(self.files, schema=schema)
        self._dtype = np.dtype(dtype)
        self.names = self._table.names
        self.warnings = list(left_out(name))
        self._may_be_filled = keep is None  # and written again: else nobody asks for decimals
        if keep is None:
            keep = self.names
        self._keep = list(keep)
        self._label = label
        self.warnings += self._checked_names()
        self._constants = [name for name in schema.constants if name in self.names]
        self._wanted = [*schema.names, *self._constants]
        self._encodings = {}
        for name, encoding in schema.encodings.items():
            if encoding.is_read_apart and name in self._wanted:
                self._encodings[name] = encoding
        if not self._table.is_csv:
            others = [name for name in self._wanted if name not in self._encodings]
            check_holds_numbers(self._table, others)

    def _checked_names(self):
        """What there is to say of the columns, once they are those that are needed."""
        absent = [name for name in self._keep if name not in self.names]
        if absent:
            raise UserError(
                f"{self._what} has no column {', '.join(absent)} to keep, only "
                f"{', '.join(self.names)}"
            )
        if self._label and self._label not in self.names:
            raise UserError(
                f"{self._what} has no column {self._label}, the class that the model is given, "
                f"only {', '.join(self.names)}"
            )
        unknown = set(self._keep) - set(self._schema.names)
        if self._label:
            unknown.add(self._label)
        others = [name for name in self.names if name not in unknown]
        return self._schema.check_names(others, self._what)

    def check_output(self, output: str) -> None:
        """Checks that a file can hold the columns to keep.

        Raises:
          UserError: a column with lists, fields or bytes in it, which text cannot hold, named with
            its type.
        """
        if output.lower().endswith(".parquet") or self._table.is_csv:
            return
        for name in self._keep:
            kind = self._table.types[name]
            if not is_text_like(kind):
                raise UserError(
                    f"keep: column {name} of {self._what} is of type {kind}, which {output} "
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
        columns = []
        texts = list(self._keep)
        if self._label and self._label not in texts:
            texts.append(self._label)
        for name in self._wanted:
            if name in self._keep:
                continue
            if name in self._table.numeric and name not in self._encodings:
                columns.append(name)
            else:
                texts.append(name)  # read as it stands, to name what it is
        spelled = []
        for name in self._wanted:
            if name in texts and name not in self._encodings:
                spelled.append(name)
        batches = self._table.batches(columns, texts, spelled)
        for batch in _resized(batches, size, first):
            yield self._block(batch, first)
            first += len(batch)

    def _block(self, batch, first):
        parsed = {}
        for name in self._wanted:
            if name in self._encodings:
                parsed[name] = self._encoded(batch[name], name, first)
            else:
                parsed[name] = self._as_numbers(batch[name], name, first)
        values = numbers(parsed, self._wanted, {})
        check_finite(values, self._wanted, self._what, first)
        num_columns = len(self._schema.columns)
        of_density = values[:, :num_columns]
        check_holds(self._dtype, of_density, self._wanted, self._what, first)
        constants = dict(zip(self._constants, values[:, num_columns:].T, strict=True))
        kept = {name: batch[name] for name in self._keep}
        unseen = {}
        for place, column in enumerate(self._schema.columns):
            if column.categories:
                unseen[column.name] = of_density[:, place] == len(column.categories)
        labels = None
        if self._label:
            labels = as_classes(batch[self._label]).to_numpy(zero_copy_only=False).astype(str)
        return Block(
            first,
            of_density,
            constants,
            kept,
            self._stored_as,
            unseen,
            self._words,
            labels,
            self._decimals,
        )

    @functools.cached_property
    def _words(self):
        """By name, how the columns to keep that may hold true and false spell them, the same in all
        blocks.
        """
        if not self._table.is_csv:
            return {}
        found = {}
        may_be = []
        for name in self._wanted:
            if name not in self._keep:
                continue
            kind = self._table.types[name]
            if name in self._schema.encodings and name not in self._encodings:
                found[name] = ("false", "true")
                may_be.append(name)
            elif pa.types.is_boolean(kind) or pa.types.is_null(kind):
                may_be.append(name)
        return found | words_of(self._table, may_be)

    @functools.cached_property
    def _decimals(self):
        """By name, how many decimals the numbers of the columns to keep are written with, at least
        and at most; of those of CSV that all have some.
        """
        if not self._table.is_csv or not self._may_be_filled:
            return {}
        names = []
        for name in self._wanted:
            if name in self._keep and name not in self._encodings:
                names.append(name)
        return decimals_of(self._table, names)

    @functools.cached_property
    def _stored_as(self):
        """By name, the types of the constant columns that have fewer digits than float64."""
        found = {}
        for name in self._constants:
            precision = self._table.precision(name)
            if precision in _FEWER_DIGITS:
                found[name] = _FEWER_DIGITS[precision]
        return found

    def _as_numbers(self, column, name, first):
        """A column that was read as text because it is to be kept as it stands; others are returned
        as they are.
        """
        if not pa.types.is_string(column.type):
            return column
        column = _without_nulls(pc.utf8_trim_whitespace(column))
        for kind in (pa.float64(), pa.bool_()):  # true and false count as 1 and 0
            with contextlib.suppress(pa.ArrowInvalid):
                return pc.cast(column, kind)
        row, text = _first_wrong(column.to_pylist())
        is_boolean = self._schema.is_boolean(name)
        raise UserError(no_number(name, self._what, first + row, text, is_boolean=is_boolean))

    def _encoded(self, column, name, first):
        """A column of categories, dates or times as numbers."""
        encoding = self._encodings[name]
        if self._table.is_csv:
            column = _without_nulls(column)
        try:
            return pa.array(encoded(column, encoding))
        except pa.ArrowException as error:
            where = ""
            for row, value in enumerate(column):
                if not _is_taken(column.slice(row, 1), encoding):
                    where = f" has {shown(value)} in row {first + row} (counted from 0), and"
                    break
            raise UserError(
                f"column {name} of {self._what}{where} must be {wanted(encoding)}: {error}"
            ) from error


def _without_nulls(texts):
    """Texts of CSV, those that stand for a missing value as null."""
    is_null = pc.is_in(texts, value_set=pa.array(NULLS))
    return pc.if_else(is_null, pa.scalar(None, texts.type), texts)


def _is_taken(column, encoding):
    try:
        encoded(column, encoding)
    except pa.ArrowException:
        return False
    return True


def _first_wrong(texts):
    """Place and text of the first that is no number; true and false only if all are such."""
    wrong = []
    for row, text in enumerate(texts):
        if text is not None and not is_number(text):
            wrong.append((row, text))
    for row, text in wrong:
        if text.lower() not in ("true", "false"):
            return row, text
    return wrong[0]


def _resized(batches, size, skip):
    """The rows of record batches except the first `skip`, `size` at a time or, last, fewer."""
    gathered: list[pa.RecordBatch] = []
    count = 0
    for batch in batches:
        skipped = min(skip, len(batch))
        skip -= skipped
        batch = batch.slice(skipped)
        while count + len(batch) >= size:
            rest = size - count
            yield _joined([*gathered, batch.slice(0, rest)])
            batch = batch.slice(rest)
            gathered = []
            count = 0
        if len(batch):
            gathered.append(batch)
            count += len(batch)
    if count:
        yield _joined(gathered)


def _joined(batches):
    if len(batches) == 1:
        return batches[0]
    return pa.Table.from_batches(batches).combine_chunks().to_batches()[0]
