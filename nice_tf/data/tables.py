"""CSV and Parquet files, read block by block by pyarrow."""

import copy
import dataclasses
import functools
import os
import re
from collections.abc import Iterator, Sequence
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet

from nice_tf.data import csv_files, paths
from nice_tf.data.csv_files import PLAIN, CsvFormat, Tally
from nice_tf.data.paths import files_named, is_pattern
from nice_tf.data.schema import Schema
from nice_tf.data.survey import Survey
from nice_tf.errors import UserError

_SUFFIXES = (".csv", ".csv.gz", ".parquet")  # in letters of any case
_BLOCK_ROWS, _BLOCK_VALUES = 65_536, 2**20
_ROW_NUMBER = re.compile(r"|__index_level_\d+__")
# What pandas and R's readr make of a column without a name; so may be called what is no index.
_PERHAPS_ROW_NUMBER = re.compile(r"Unnamed: \d+(\.\d+)*(_level_\d+)?|\.\.\.\d+")
_EXACT = 2**53  # from here on float64 has not all integers


def is_table(file: str) -> bool:
    """Whether a file's name is that of a CSV or Parquet file, in letters of any case."""
    return file.lower().endswith(_SUFFIXES)


def is_parquet(file: str) -> bool:
    """Whether a file's name is that of a Parquet file, in letters of any case."""
    return file.lower().endswith(".parquet")


def table_files(name: str) -> list[str]:
    """The CSV or Parquet files that a path, a folder or a pattern names, in order; none if it names
    no such files.

    A path of a table that is not there is given back as it is, for `Table` to refuse.
    """
    is_missing = not os.path.exists(name) and not is_pattern(name)
    return [name] if is_missing and is_table(name) else files_named(name, is_table)


def left_out(name: str) -> tuple[str, ...]:
    """What the user should know of the other files of a folder, as `paths.left_out` says."""
    return paths.left_out(
        name, table_files(name), files_named(name, os.path.isfile), "are no tables"
    )


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
      names: of all columns.
      types: of all columns, by name, of CSV files as far as the start of the first tells.
      numeric: names of those that hold numbers; true and false count as 1 and 0.
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
        self.names: list[str]
        self.types: dict[str, pa.DataType]
        self.files = [os.fspath(file) for file in files]
        self.what = _what(self.files)
        missing = [file for file in self.files if not os.path.isfile(file)]
        if missing:
            raise UserError(f"{missing[0]}: there is no such file")
        if len({is_parquet(file) for file in self.files}) > 1:
            raise UserError(f"{self.what} are CSV and Parquet files: give files of one kind")
        self.is_csv = not is_parquet(self.files[0])
        self._schema = schema
        self._is_told = bool(delimiter or decimal)
        self._formats: dict[str, CsvFormat] = {}
        self._stored: dict[str, set[pa.DataType]] = {}
        if self.is_csv:
            self._formats = self._guarded(lambda: _formats(self.files, delimiter, decimal, schema))
            self._read_csv_columns()
        else:
            self._read_parquet_columns()
        self.numeric = [name for name in self.names if _holds_numbers(self.types[name])]

    @property
    def format(self) -> CsvFormat:
        """How the first CSV file is written."""
        return self._formats.get(self.files[0], PLAIN)

    def part(self, files: Sequence[str]) -> "Table":
        """Some of the files as a table, whose columns are of the types of all."""
        result = copy.copy(self)
        result.__dict__.pop("num_rows", None)  # what was counted is of all
        result.files, result.what = list(files), _what(files)
        return result

    def _read_csv_columns(self):
        first = self.files[0]
        self.names = _header(first, self._formats[first])
        for file in self.files[1:]:
            self._check_same_columns(file, _header(file, self._formats[file]))
        found = self._guarded(lambda: csv_files.first_types(first, self._formats[first]))
        if list(found) != self.names:
            raise UserError(
                f"{first} cannot be read as CSV: its first line, {', '.join(self.names)}, is "
                "unclear"
            )
        self.types = found

    def _read_parquet_columns(self):
        """The columns with types that hold the numbers of all files."""
        schemas = [self._guarded(lambda file=file: _parquet_schema(file)) for file in self.files]
        self.names = schemas[0].names
        for file, schema in zip(self.files, schemas, strict=True):
            _check_unique(file, schema.names)
            self._check_same_columns(file, schema.names)
        self._stored = {
            name: {schema.field(name).type for schema in schemas} for name in self.names
        }
        plain = [schema.remove_metadata() for schema in schemas]
        together = self._guarded(lambda: pa.unify_schemas(plain, promote_options="permissive"))
        self.types = {name: together.field(name).type for name in self.names}

    def _check_same_columns(self, file, names):
        if set(names) != set(self.names):
            raise UserError(
                f"{file} has the columns {', '.join(names)}, {self.files[0]} has "
                f"{', '.join(self.names)}: they must be the same"
            )

    def _guarded(self, call):
        try:
            return call()
        except UserError:
            raise
        except (pa.ArrowException, OSError, ValueError) as error:
            raise _unreadable(self.what, error) from error

    def choose(self, columns: Sequence[str], *, label: str | None = None) -> list[str]:
        """The columns that are asked for, or all that hold numbers.

        Args:
          columns: names; none for all that hold numbers, but for row numbers: columns without a
            name, and the index that pandas writes.
          label: name of a column that is left to `labels`.

        Raises:
          UserError: one that the table lacks, that does not hold numbers or that is named twice;
            fewer than one in all; or none is asked for, and one has numbers in most of its rows and
            text in others.
        """
        repeated = sorted({name for name in columns if columns.count(name) > 1})
        if repeated:
            raise UserError(
                f"columns has {', '.join(repeated)} more than once, got {', '.join(columns)}"
            )
        absent = [name for name in columns if name not in self.names]
        if absent:
            raise UserError(
                f"{self.what} has no column {', '.join(absent)}, only {', '.join(self.names)}"
            )
        if label is not None and label not in self.names:
            raise UserError(
                f"condition_on {label}: {self.what} has no such column, only "
                f"{', '.join(self.names)}"
            )
        if label in columns:
            raise UserError(
                f"columns has {label}, which condition_on takes out of the density: give it once"
            )
        self._decide(
            [name for name in columns or self.names if name != label], is_wanted=bool(columns)
        )
        chosen = list(columns) or [
            name for name in self.numeric if name != label and not _ROW_NUMBER.fullmatch(name)
        ]
        if not chosen:
            is_one = self.is_csv and len(self.names) == 1
            hint = (
                "; CSV files separate their columns by commas, or as delimiter says"
                if is_one
                else ""
            )
            raise UserError(
                f"{self.what} has no column of numbers among {', '.join(self.names)}{hint}"
            )
        return chosen

    def _decide(self, names, *, is_wanted):
        """Finds the type of columns of text, and of those that are empty at the start of a file, by
        all their cells.
        """
        texts = [name for name in names if _is_text(self.types[name])]
        if self.is_csv:
            texts += [name for name in names if pa.types.is_null(self.types[name])]
        for name, tally in self._tallies(texts).items():
            if not tally.present:
                continue
            self._check_is_no_number(name, tally, is_wanted=is_wanted)
            if tally.num_wrong:
                self._set_type(name, pa.string())
            elif self.is_csv:
                self._set_type(name, pa.bool_() if tally.is_logical else pa.float64())
        others = [name for name in names if name not in self.numeric]
        if is_wanted and others:
            raise UserError(
                f"column {others[0]} of {self.what} is of type {self.types[others[0]]}: numbers "
                "are needed"
            )

    def _set_type(self, name, kind):
        """Of a column, once more of it is known; what other parts of the table know is left as it
        is.
        """
        self.types = {**self.types, name: kind}
        self.numeric = [name for name in self.names if _holds_numbers(self.types[name])]

    def _tallies(self, names):
        """What the cells of these columns spell, by all rows."""
        tallies = {name: Tally() for name in names}
        row = 0
        for file in self.files if names else ():
            decimal = self._formats.get(file, PLAIN).decimal
            for batch in self._guarded_batches(file, names):
                for name, tally in tallies.items():
                    tally.add(batch[name], row, decimal)
                row += len(batch)
        return tallies

    def _guarded_batches(self, file, names):
        """Columns of a file as text, whatever is in it."""
        types = dict.fromkeys(names, pa.string())
        try:
            if self.is_csv:
                yield from csv_files.batches(file, self._formats[file], types, check_utf8=False)
            else:
                yield from _parquet_batches(file, types, _BLOCK_ROWS)
        except (pa.ArrowException, OSError) as error:
            raise _unreadable(file, error) from error

    def _check_is_no_number(self, name, tally, *, is_wanted):
        """Refuses a column of numbers with texts among them."""
        # A model needs its columns; only training can do without one.
        hint = (
            "" if self._schema else ". Or leave the column out: columns names those that are wanted"
        )
        is_plain = all(form == PLAIN for form in self._formats.values())
        if tally.grouped and not is_plain and 2 * (tally.numbers + tally.grouped) > tally.present:
            row, text = tally.first_grouped
            raise UserError(
                f"column {name} of {self.what} has {text!r} in row {row} (counted from 0): numbers "
                "must have no marks between thousands, and a decimal "
                f"{'comma' if self.format.decimal == ',' else 'dot'}{hint}"
            )
        if tally.num_wrong and (is_wanted or 2 * tally.num_wrong < tally.present):
            raise UserError(no_number(name, self.what, *tally.wrong) + hint)

    def batches(
        self, names: Sequence[str], texts: Sequence[str] = (), spelled: Sequence[str] = ()
    ) -> Iterator[pa.RecordBatch]:
        """The rows in order, some ten thousand at a time or fewer of many columns, with these
        columns.

        Args:
          names: of columns of numbers.
          texts: of further columns, which come as they stand: of CSV files as text, an empty cell
            as an empty one; but with dots in numbers that have decimal commas.
          spelled: of those of `texts` that must be numbers.

        Raises:
          UserError: text where numbers are needed, named by its row; a damaged file.
        """
        is_logical = pa.types.is_boolean
        logical = [name for name in names if is_logical(self.types[name])]
        numeric = [name for name in names if name in self.numeric and name not in logical]
        types = {name: self.types[name] for name in names} | dict.fromkeys(numeric, pa.float64())
        types |= {name: pa.string() if self.is_csv else self.types[name] for name in texts}
        size = min(_BLOCK_ROWS, max(1, _BLOCK_VALUES // len(types)))
        row = 0
        for file in self.files:
            try:
                for batch in self._read(file, types, size, strings_can_be_null=not texts):
                    plain = self._with_dots(file, batch, texts, spelled, row)
                    row += len(batch)
                    yield from (plain.slice(start, size) for start in range(0, len(plain), size))
            except (pa.ArrowException, OSError) as error:
                if self.is_csv:
                    self._say_where_text_is([*numeric, *logical])
                raise _unreadable(file, error) from error

    def _read(self, file, types, size, *, strings_can_be_null):
        if self.is_csv:
            return csv_files.batches(
                file, self._formats[file], types, strings_can_be_null=strings_can_be_null
            )
        return _parquet_batches(file, types, size)

    def _with_dots(self, file, batch, texts, spelled, row):
        """A batch in which texts that are numbers are spelled as in plain CSV."""
        if self._formats.get(file, PLAIN).decimal == ".":
            return batch
        columns = dict(zip(batch.schema.names, batch.columns, strict=True))
        for name in texts:
            wrong = csv_files.first_with_dot(columns[name], row) if name in spelled else None
            if wrong:
                raise UserError(
                    f"{no_number(name, self.what, *wrong)}; this file has decimal commas"
                )
            if name in spelled or name in self.numeric:
                columns[name] = csv_files.with_dots(columns[name])
        return pa.RecordBatch.from_pydict(columns)

    def _say_where_text_is(self, names):
        """A second look, slower, for the row of what is no number; damage is for the caller to
        name.
        """
        try:
            tallies = self._tallies(names)
        except UserError:
            return
        wrong = {name: tally for name, tally in tallies.items() if tally.num_wrong}
        for name, tally in wrong.items():
            self._check_is_no_number(name, tally, is_wanted=False)
        if wrong:
            name, tally = next(iter(wrong.items()))
            raise MostlyText(no_number(name, self.what, *tally.wrong), list(wrong))

    def blocks(self, names: Sequence[str]) -> Iterator[np.ndarray]:
        """The numbers of these columns, `[n, columns]` in float64, NaN where one is missing; errors
        as `batches`.
        """
        return (numbers(batch, names) for batch in self.batches(names))

    @functools.cached_property
    def num_rows(self) -> int:
        """Number of rows; of CSV files it takes to read them."""
        return sum(map(self._count, self.files))

    def _count(self, file):
        if self.is_csv:
            return sum(map(len, self._guarded_batches(file, self.names[:1])))
        return self._guarded(lambda: _parquet_rows(file))

    def labels(self, name: str) -> np.ndarray:
        """A column of classes, text or whole numbers, as text, `[N]`; an empty text where one is
        missing.

        Raises:
          UserError: a column of another type, a damaged file.
        """
        kind = self.types[name]
        kind = kind.value_type if pa.types.is_dictionary(kind) else kind
        # A column that is empty at the start of a CSV file may hold any text further on.
        tests = (pa.types.is_integer, pa.types.is_boolean, _is_text, pa.types.is_null)
        if not any(test(kind) for test in tests):
            raise UserError(
                f"condition_on {name}: the column of {self.what} is of type {kind}, text or whole "
                "numbers are needed"
            )
        parts = [batch[name].cast(pa.string()) for batch in self.batches([], [name])]
        encoded = (
            pa.chunked_array(parts, pa.string()).combine_chunks().fill_null("").dictionary_encode()
        )
        missing = (
            pa.csv.ConvertOptions().null_values if pa.types.is_integer(kind) else ()
        )  # NA and the like
        texts = ["" if text in missing else text for text in encoded.dictionary.to_pylist()]
        return np.array(texts, np.str_)[encoded.indices.to_numpy()]

    def survey(self, columns: Sequence[str], *, label: str | None = None) -> tuple[Schema, Survey]:
        """Reads these columns, or all that hold numbers but the label, for the table's schema.

        Raises:
          UserError: as `choose`, `batches` and `Survey` say; fewer than two rows; integers that
            float64 cannot hold.
        """
        chosen = self.choose(columns, label=label)
        try:
            survey = self._surveyed(chosen)
        except MostlyText as error:
            if columns:
                raise
            for name in error.names:
                self._set_type(name, pa.string())
            return self.survey(columns, label=label)
        if survey.num_rows < 2:
            raise UserError(f"{self.what}: at least 2 rows are needed, got {survey.num_rows}")
        for name, largest in survey.largest().items():
            if name not in survey.empty:
                self._check_is_exact(name, largest)
        if columns:
            survey.check_has_values()
        else:
            survey.leave_out(survey.empty, "has no value at all and is left out")
            row_numbers = [
                name
                for name in chosen
                if _PERHAPS_ROW_NUMBER.fullmatch(name) and survey.counts_rows(name)
            ]
            survey.leave_out(
                row_numbers,
                "counts the rows, as pandas writes them, and is left out; columns keeps it",
            )
        ignored = [name for name in self.names if name not in (*survey.names, label)]
        # Plain CSV that shows it is read the same again: only what was told is to be kept.
        is_kept = self.is_csv and (self._is_told or self.format != PLAIN)
        kept = dataclasses.asdict(self.format) if is_kept else {}
        return survey.schema(ignored, **kept), survey

    def _surveyed(self, names):
        survey = Survey(names, [self.precision(name) for name in names])
        for block in self.blocks(names):
            survey.add(block)
        return survey

    def precision(self, name: str) -> float:
        """Relative distance of a column's neighbouring numbers, in the coarsest type that a file
        has.
        """
        return max(map(_precision, self._stored.get(name) or {self.types[name]}))

    def _check_is_exact(self, name, largest):
        """Refuses integers and decimals that become the same number in float64."""
        if largest < _EXACT:
            return
        kind = self.types[name]
        is_exact_type = pa.types.is_integer(kind) or pa.types.is_decimal(kind)
        found = self._first_inexact(name) if self.is_csv and not is_exact_type else None
        if not is_exact_type and not found:
            return
        where = f", as {found[1]} in row {found[0]} (counted from 0)" if found else ""
        raise UserError(
            f"column {name} of {self.what} has integers of size {largest:g}{where}, beyond 2^53, "
            "which cannot be told apart in any precision: leave the column out with columns"
        )

    def _first_inexact(self, name):
        """Row and text of the first cell of CSV that is such an integer, which Arrow reads as a
        float; or none.
        """
        row = 0
        for file in self.files:
            mark = self._formats[file].decimal
            for batch in self._guarded_batches(file, [name]):
                texts = csv_files.trimmed(batch[name]).to_pylist()
                for place, text in enumerate(texts):
                    if text is not None and _is_inexact(text.replace(mark, ".")):
                        return row + place, text
                row += len(batch)
        return None


def _is_inexact(text):
    """Whether digits without an exponent spell a whole number, or another, that float64 cannot tell
    from its next.
    """
    if not re.fullmatch(r"[+-]?\d{16,}(\.\d*)?", text) or abs(float(text)) < _EXACT:
        return False
    return "." not in text or Decimal(text) != Decimal(float(text))


def _what(files):
    return files[0] if len(files) == 1 else f"{files[0]} and {len(files) - 1} more"


def _formats(files, delimiter, decimal_mark, schema):
    """How each CSV file is written."""
    usual = CsvFormat(schema.delimiter, schema.decimal) if schema and schema.delimiter else None
    like = usual.delimiter if usual else ""
    needed = schema.names if schema else ()
    weighed = [*schema.names, *schema.constants] if schema else None
    hints = _scoring_hints(usual) if schema else csv_files.HINTS
    delimiters = {
        file: delimiter or csv_files.sniff_delimiter(file, like, needed, hints) for file in files
    }
    marks = {",": decimal_mark or (usual.decimal if like == "," else ".")}  # plain CSV has dots
    for found in set(delimiters.values()) - set(marks):
        alike = [file for file in files if delimiters[file] == found]
        known = usual.decimal if like == found else ""
        marks[found] = decimal_mark or csv_files.sniff_decimal(alike, found, known, weighed, hints)
    return {file: CsvFormat(found, marks[found]) for file, found in delimiters.items()}


def _scoring_hints(usual):
    """What helps where there is no setting: a model reads files as its training file was."""
    hint = "write it as the training file was"
    if usual:
        mark = "comma" if usual.decimal == "," else "dot"
        name = csv_files.delimiter_name(usual.delimiter)
        hint += f", with {name} between columns and a decimal {mark}"
    return csv_files.Hints(hint, hint[:1].upper() + hint[1:])


def _parquet_file(file):
    # Opened here: as a text, pyarrow may take a path for an address.
    return pa.parquet.ParquetFile(pa.OSFile(file), pre_buffer=False, buffer_size=2**20)


def _parquet_schema(file):
    with _parquet_file(file) as opened:
        return opened.schema_arrow


def _parquet_rows(file):
    with _parquet_file(file) as opened:
        return opened.metadata.num_rows


def _parquet_batches(file, types, size):
    """Reads no more than it is asked for, unlike a scan of Arrow's data sets, which would fill the
    memory.
    """
    with _parquet_file(file) as opened:
        for batch in opened.iter_batches(size, columns=list(types)):
            yield batch.select(list(types)).cast(pa.schema(types), safe=False)


def numbers(batch: pa.RecordBatch, names: Sequence[str]) -> np.ndarray:
    """Columns of a batch as numbers, `[n, columns]` in float64, NaN where one is missing."""
    columns = [pc.cast(batch[name], pa.float64(), safe=False) for name in names]
    return np.stack([column.to_numpy(zero_copy_only=False) for column in columns], axis=-1)


def fill_from_column(
    block: np.ndarray, generator: np.random.Generator, otherwise: Sequence[np.ndarray]
) -> np.ndarray:
    """Missing values replaced by others of the same column of the block, drawn at random.

    A constant in their place, a mean or a median, would be a spike of the density.

    Args:
      block: `[n, columns]`, NaN where a value is missing.
      generator: of the draws.
      otherwise: for each column some values, of which a block draws that has none.
    """
    block = block.copy()
    for column, others in zip(block.T, otherwise, strict=True):
        missing = np.isnan(column)
        if missing.any():
            column[missing] = generator.choice(
                others if missing.all() else column[~missing], missing.sum()
            )
    return block


def _unreadable(what, error):
    cause = (
        str(error).splitlines()[0].split(" file?: ")[-1]
    )  # what stands before is of any cause the same
    return UserError(f"{what} cannot be read: {cause}")


def _header(file, form):
    """The names of a CSV file's columns."""
    names = csv_files.header(file, form.delimiter)
    if not names:
        raise UserError(f"{file} is empty: its first line must be the names of the columns")
    are_counted = names == list(
        map(str, range(len(names)))
    )  # as pandas names the columns of an array
    mark = form.decimal
    spelled = [name.replace(mark, ".") for name in names]
    if (all(map(is_number, spelled)) and not are_counted) or any(
        "." in name and is_number(name) for name in spelled
    ):
        raise UserError(
            f"{file} starts with numbers, {', '.join(names)}: its first line must be the names of "
            "the columns"
        )
    _check_unique(file, names)
    return names


def _check_unique(file, names):
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise UserError(f"{file} has more than one column {', '.join(repeated)}: names must differ")


def _precision(kind):
    """Relative distance of neighbouring numbers of a type."""
    # Not by `to_pandas_dtype`, for which pyarrow before 26 asks for pandas.
    low = {pa.float16(): np.float16, pa.float32(): np.float32}
    return float(np.finfo(low.get(kind, np.float64)).eps)


def _holds_numbers(kind):
    types = pa.types
    tests = (types.is_integer, types.is_floating, types.is_boolean, types.is_decimal, types.is_null)
    return any(test(kind) for test in tests)


def is_text_like(kind: pa.DataType) -> bool:
    """Whether CSV can hold values of a type: not lists, fields or bytes."""
    types = pa.types
    if types.is_dictionary(kind):
        return is_text_like(kind.value_type)
    tests = (types.is_primitive, types.is_decimal, types.is_null, _is_text)
    return any(test(kind) for test in tests) and not types.is_interval(kind)


def _is_text(kind):
    types = pa.types
    return types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind)


def is_number(text: str) -> bool:
    """Whether a text spells a number; what Python alone takes for one, as 1_000, is none in a
    table.
    """
    try:
        float(text)
    except ValueError:
        return False
    return text.isascii() and "_" not in text


def no_number(column: str, what: str, row: int, text: str) -> str:
    """Says where a table has text in place of a number."""
    return (
        f"column {column} of {what} has {text!r} in row {row} (counted from 0): numbers are "
        "needed, a missing one is an empty cell"
    )
