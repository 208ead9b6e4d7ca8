"""CSV and Parquet files of the same columns as one table, read block by block by pyarrow."""

import contextlib
import copy
import os
from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.csv

from nice_tf.data.schema import Encoding, Schema
from nice_tf.data.tables import cells, columns, csv_files, encodings, parquet_files
from nice_tf.data.tables.csv_format import PLAIN, CsvFormat
from nice_tf.data.tables.csv_sniffing import sniff_formats
from nice_tf.data.tables.paths import is_parquet
from nice_tf.errors import UserError

NULLS: Sequence[str] = pa.csv.ConvertOptions().null_values  # texts that stand for a missing number
_BLOCK_ROWS = 65_536
_BLOCK_VALUES = 2**20


class MostlyText(UserError):
    """Columns that looked like numbers at the start of a file, and are text in most rows.

    Attributes:
      names: of the columns.
    """

    def __init__(self, message: str, names: Sequence[str]):
        super().__init__(message)
        self.names = names


class Table:
    """Files of the same columns, one after the other.

    Attributes:
      files: paths.
      what: the files, for messages.
      is_csv: whether they are CSV files.
      is_told: whether the user said how CSV files are written.
      names: of all columns.
      types: of all columns, by name, of CSV files as far as the start of the first tells.
      numeric: names of those that hold numbers; true and false count as 1 and 0.
      encodings: by name, of columns that do not, how they become some, once that is known.
    """

    def __init__(
        self,
        files: Sequence[str],
        *,
        delimiter: str = "",
        decimal: str = "",
        schema: Schema | None = None,
    ):
        """Looks at the start of the files; of CSV files without commas between columns at all of
        them.

        Args:
          files: paths, all of CSV with a line of names at the top, or all of Parquet.
          delimiter: between the columns of CSV files; empty: what each file shows.
          decimal: the decimal mark of CSV files; empty: what they show, a dot where commas stand
            between columns.
          schema: of the model that is to read the files, if there is one yet. CSV files that may be
            written in several ways are then taken to be as those of training; what its columns do
            not say decides nothing.

        Raises:
          UserError: no such file, a damaged one, files of both kinds or of different columns, a
            column's name twice, a CSV file without names, one whose delimiter or decimal mark is
            unclear.
        """
        self.names: list[str] = []
        self.types: dict[str, pa.DataType] = {}
        self.encodings: dict[str, Encoding] = {}
        self.files = [os.fspath(file) for file in files]
        self.what = _what(self.files)
        _check_files(self.files, self.what)
        self.is_csv = not is_parquet(self.files[0])
        self.is_told = bool(delimiter or decimal)
        self._schema = schema
        self._formats: dict[str, CsvFormat] = {}
        self._stored: dict[str, set[pa.DataType]] = {}
        self._num_rows: int | None = None
        with _saying_what_is_unreadable(self.what):
            if self.is_csv:
                self._formats = sniff_formats(self.files, delimiter, decimal, schema)
                self._read_csv_columns()
            else:
                self._read_parquet_columns()
        self.numeric = self._find_numeric()

    @property
    def format(self) -> CsvFormat:
        """How the first CSV file is written."""
        return self._formats.get(self.files[0], PLAIN)

    def part(self, files: Sequence[str]) -> "Table":
        """Some of the files as a table, whose columns are of the types of all."""
        result = copy.copy(self)
        result._num_rows = None  # what was counted is of all
        result.files = list(files)
        result.what = _what(files)
        return result

    def set_type(self, name: str, kind: pa.DataType) -> None:
        """Of a column, once more of it is known; what other parts of the table know is left as it
        is.
        """
        self.types = {**self.types, name: kind}
        self.numeric = self._find_numeric()

    def _find_numeric(self):
        return [name for name in self.names if columns.holds_numbers(self.types[name])]

    def _read_csv_columns(self):
        first = self.files[0]
        for file in self.files:
            self._take_names(file, csv_files.column_names(file, self._formats[file]))
        self.types = csv_files.first_types(first, self._formats[first])
        if list(self.types) != self.names:
            raise UserError(
                f"{first} cannot be read as CSV: its first line, {', '.join(self.names)}, is "
                "unclear"
            )

    def _read_parquet_columns(self):
        """The columns with types that hold the numbers of all files."""
        schemas = list(map(parquet_files.read_schema, self.files))
        for file, schema in zip(self.files, schemas, strict=True):
            self._take_names(file, schema.names)
        plain = [schema.remove_metadata() for schema in schemas]
        together = pa.unify_schemas(plain, promote_options="permissive")
        for name in self.names:
            self._stored[name] = {schema.field(name).type for schema in schemas}
            self.types[name] = together.field(name).type

    def _take_names(self, file, names):
        """The names of the first file's columns; other files must have the same."""
        _check_unique(file, names)
        if file == self.files[0]:
            self.names = names
        if set(names) != set(self.names):
            raise UserError(
                f"{file} has the columns {', '.join(names)}, {self.files[0]} has "
                f"{', '.join(self.names)}: they must be the same"
            )

    def tallies(self, names: Sequence[str]) -> dict[str, cells.Tally]:
        """What the cells of these columns spell, by all rows."""
        tallies = {name: cells.Tally() for name in names}
        if not names:
            return tallies
        row = 0
        for file in self.files:
            decimal = self.format_of(file).decimal
            for batch in self.texts(file, names):
                for name, tally in tallies.items():
                    tally.add(batch[name], row, decimal)
                row += len(batch)
        return tallies

    def format_of(self, file: str) -> CsvFormat:
        """How a file is written; of Parquet, that of plain CSV."""
        return self._formats.get(file, PLAIN)

    def texts(self, file: str, names: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """Columns of a file as text, whatever is in it.

        Raises:
          UserError: a damaged file.
        """
        types = dict.fromkeys(names, pa.string())
        try:
            if self.is_csv:
                yield from csv_files.batches(file, self._formats[file], types, check_utf8=False)
            else:
                yield from parquet_files.batches(file, types, _BLOCK_ROWS)
        except (pa.ArrowException, OSError) as error:
            raise _unreadable(file, error) from error

    def check_is_no_number(self, name: str, tally: cells.Tally, *, is_wanted: bool) -> None:
        """Refuses a column of numbers with texts among them.

        Args:
          name: of the column.
          tally: what its cells spell.
          is_wanted: whether it was asked for, so that any text is one too many.

        Raises:
          UserError: the first text is named by its row.
        """
        hint = (
            ". Or leave the column out: columns names those that are wanted; or give it in "
            "categories"
        )
        if self._schema:  # a model needs its columns; only training can do without one
            hint = ""
        is_plain = all(form == PLAIN for form in self._formats.values())
        has_many_groups = 2 * (tally.numbers + tally.grouped) > tally.present
        if tally.first_grouped and not is_plain and has_many_groups:
            row, text = tally.first_grouped
            mark = "dot"
            if self.format.decimal == ",":
                mark = "comma"
            raise UserError(
                f"column {name} of {self.what} has {text!r} in row {row} (counted from 0): numbers "
                f"must have no marks between thousands, and a decimal {mark}{hint}"
            )
        if tally.wrong and (is_wanted or 2 * tally.num_wrong < tally.present):
            raise UserError(self._said_of_first(tally, name) + hint)

    def _said_of_first(self, tally, name):
        """Where the first text stands that is no number; or a number, among true and false."""
        row, text = tally.wrong
        if tally.wrong == tally.first_number:
            return (
                f"column {name} of {self.what} has {text!r} in row {row} (counted from 0), and "
                "true or false in most others: the one or the other is needed"
            )
        is_boolean = tally.is_logical
        if self._schema:
            is_boolean = self._schema.is_boolean(name)
        return cells.no_number(name, self.what, row, text, is_boolean=is_boolean)

    def batches(
        self, names: Sequence[str], texts: Sequence[str] = (), spelled: Sequence[str] = ()
    ) -> Iterator[pa.RecordBatch]:
        """The rows in order, some ten thousand at a time or fewer of many columns, with these
        columns.

        Args:
          names: of columns of numbers, or of `encodings`.
          texts: of further columns, which come as they stand: of CSV files as text, an empty cell
            as an empty one; but with dots in numbers that have decimal commas.
          spelled: of those of `texts` that must be numbers.

        Raises:
          UserError: text where numbers are needed, named by its row; a damaged file.
        """
        types = self._types_to_read(names, texts)
        size = min(_BLOCK_ROWS, max(1, _BLOCK_VALUES // len(types)))
        row = 0
        for file in self.files:
            try:
                for batch in self._read(file, types, size, strings_can_be_null=not texts):
                    plain = self._with_dots(file, batch, texts, spelled, row)
                    row += len(batch)
                    for start in range(0, len(plain), size):
                        yield plain.slice(start, size)
            except (pa.ArrowException, OSError) as error:
                if self.is_csv:
                    self._say_where_text_is(names)
                raise _unreadable(file, error) from error

    def _types_to_read(self, names, texts):
        """By name, the types that columns are read in."""
        types = {}
        for name in names:
            types[name] = self.types[name]
            if name in self.encodings:
                if self.is_csv:
                    types[name] = pa.string()
            elif name in self.numeric and not self._is_logical(name):
                types[name] = pa.float64()
        for name in texts:
            types[name] = self.types[name]
            if self.is_csv:
                types[name] = pa.string()
        return types

    def _is_logical(self, name):
        return pa.types.is_boolean(self.types[name])

    def _read(self, file, types, size, *, strings_can_be_null):
        if self.is_csv:
            return csv_files.batches(
                file, self._formats[file], types, strings_can_be_null=strings_can_be_null
            )
        return parquet_files.batches(file, types, size)

    def _with_dots(self, file, batch, texts, spelled, row):
        """A batch in which texts that are numbers are spelled as in plain CSV."""
        if self.format_of(file).decimal == ".":
            return batch
        found = dict(zip(batch.schema.names, batch.columns, strict=True))
        for name in texts:
            if name in spelled:
                self._check_has_commas(name, found[name], row)
            if name in spelled or name in self.numeric:
                found[name] = cells.with_dots(found[name])
        return pa.RecordBatch.from_pydict(found)

    def _check_has_commas(self, name, column, row):
        wrong = cells.first_with_dot(column, row)
        if wrong:
            text = cells.no_number(name, self.what, *wrong)
            raise UserError(f"{text}; this file has decimal commas")

    def _say_where_text_is(self, names):
        """A second look, slower, for the row of what is no number; damage is for the caller to
        name.
        """
        logical = [name for name in names if self._is_logical(name)]
        others = [name for name in names if name in self.numeric and name not in logical]
        try:
            tallies = self.tallies([*others, *logical])
        except UserError:
            return
        wrong = {name: tally for name, tally in tallies.items() if tally.wrong}
        for name, tally in wrong.items():
            self.check_is_no_number(name, tally, is_wanted=False)
        if wrong:
            names = list(wrong)
            text = self._said_of_first(wrong[names[0]], names[0])
            raise MostlyText(text, names)

    def blocks(self, names: Sequence[str]) -> Iterator[np.ndarray]:
        """The numbers of these columns, `[n, columns]` in float64, NaN where one is missing; errors
        as `batches`.
        """
        for batch in self.batches(names):
            yield encodings.numbers(batch, names, self.encodings)

    @property
    def num_rows(self) -> int:
        """Number of rows; of CSV files it takes to read them, once."""
        if self._num_rows is None:
            self._num_rows = sum(map(self._count, self.files))
        return self._num_rows

    def _count(self, file):
        if self.is_csv:
            return sum(map(len, self.texts(file, self.names[:1])))
        with _saying_what_is_unreadable(self.what):
            return parquet_files.count_rows(file)

    def precision(self, name: str) -> float:
        """Relative distance of a column's neighbouring numbers, in the coarsest type that a file
        has.
        """
        kinds = self._stored.get(name) or {self.types[name]}
        return max(map(columns.precision, kinds))


def _what(files):
    if len(files) == 1:
        return files[0]
    return f"{files[0]} and {len(files) - 1} more"


def _check_files(files, what):
    for file in files:
        if not os.path.isfile(file):
            raise UserError(f"{file}: there is no such file")
    if len(set(map(is_parquet, files))) > 1:
        raise UserError(f"{what} are CSV and Parquet files: give files of one kind")


def _check_unique(file, names):
    twice = columns.repeated(names)
    if twice:
        raise UserError(f"{file} has more than one column {', '.join(twice)}: names must differ")


@contextlib.contextmanager
def _saying_what_is_unreadable(what):
    try:
        yield
    except UserError:
        raise
    except (pa.ArrowException, OSError, ValueError) as error:
        raise _unreadable(what, error) from error


def _unreadable(what, error):
    line = str(error).splitlines()[0]
    cause = line.split(" file?: ")[-1]  # what stands before is of any cause the same
    return UserError(f"{what} cannot be read: {cause}")
