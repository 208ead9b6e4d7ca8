"""CSV and Parquet files, read block by block by pyarrow."""

import contextlib
import csv
import functools
import glob
import gzip
import os
import re
import zlib
from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute
import pyarrow.csv
import pyarrow.dataset
import pyarrow.parquet

from nice_tf.errors import UserError
from nice_tf.schema import Schema, Survey

_SUFFIXES = (".csv", ".csv.gz", ".parquet")
_BLOCK_ROWS, _BLOCK_VALUES = 65_536, 2**20
_CSV_BLOCK_BYTES = 2**21
_ROW_NUMBER = re.compile(r"|__index_level_\d+__")


def table_files(name: str) -> list[str]:
    """The CSV or Parquet files that a path, a folder or a pattern names, in order; none if it names no such files."""
    if os.path.isdir(name):
        found = [path for suffix in _SUFFIXES for path in glob.glob(os.path.join(glob.escape(name), f"*{suffix}"))]
    else:
        found = glob.glob(name) if glob.has_magic(name) else [name]
    return sorted(path for path in found if path.endswith(_SUFFIXES))


class Table:
    """Files of the same columns, one after the other.

    Attributes:
      files: paths.
      what: the files, for messages.
      names: of all columns.
      numeric: names of those that hold numbers; true and false count as 1 and 0.
    """

    def __init__(self, files: Sequence[str]):
        """Looks at the start of the files.

        Args:
          files: paths, all of CSV with a line of names at the top, or all of Parquet.

        Raises:
          UserError: no such file, a damaged one, files of both kinds or of different columns, a column's name twice, a
            CSV file without names.
        """
        self.files = [os.fspath(file) for file in files]
        self.what = self.files[0] if len(self.files) == 1 else f"{self.files[0]} and {len(self.files) - 1} more"
        missing = [file for file in self.files if not os.path.isfile(file)]
        if missing:
            raise UserError(f"{missing[0]}: there is no such file")
        if len({file.endswith(".parquet") for file in self.files}) > 1:
            raise UserError(f"{self.what} are CSV and Parquet files: give files of one kind")
        self._is_csv = not self.files[0].endswith(".parquet")
        self._schema = None if self._is_csv else self._parquet_schema()
        self.names: list[str] = _header(self.files[0]) if self._schema is None else self._schema.names
        for file in self.files[1:] if self._is_csv else ():
            self._check_same_columns(file, _header(file))
        schema = self._open({}).schema
        self._types = {name: schema.field(name).type for name in self.names}
        self.numeric = [name for name in self.names if _holds_numbers(self._types[name])]

    def _check_same_columns(self, file, names):
        if set(names) != set(self.names):
            raise UserError(
                f"{file} has the columns {', '.join(names)}, {self.files[0]} has {', '.join(self.names)}: they must be "
                "the same"
            )

    def _parquet_schema(self):
        """The columns with types that hold the numbers of all files."""
        schemas = [self._guarded(lambda file=file: pa.parquet.read_schema(file)) for file in self.files]
        self.names = schemas[0].names
        for file, schema in zip(self.files, schemas, strict=True):
            _check_unique(file, schema.names)
            self._check_same_columns(file, schema.names)
        plain = [schema.remove_metadata() for schema in schemas]
        return self._guarded(lambda: pa.unify_schemas(plain, promote_options="permissive"))

    def _open(self, types):
        if not self._is_csv:
            return self._guarded(lambda: pa.dataset.dataset(self.files, schema=self._schema, format="parquet"))
        options = pa.csv.ConvertOptions(column_types=types, strings_can_be_null=True)
        file_format = pa.dataset.CsvFileFormat(convert_options=options)
        return self._guarded(lambda: pa.dataset.dataset(self.files, format=file_format))

    def _guarded(self, call):
        try:
            return call()
        except (pa.ArrowException, OSError, ValueError) as error:
            raise _unreadable(self.what, error) from error

    def choose(self, columns: Sequence[str], *, label: str | None = None) -> list[str]:
        """The columns that are asked for, or all that hold numbers.

        Args:
          columns: names; none for all that hold numbers, but for row numbers: columns without a name, and the index
            that pandas writes.
          label: name of a column that is left to `labels`.

        Raises:
          UserError: one that the table lacks, that does not hold numbers or that is named twice; fewer than one in all;
            or none is asked for, and one has numbers in most of its rows and text in others.
        """
        repeated = sorted({name for name in columns if columns.count(name) > 1})
        if repeated:
            raise UserError(f"columns has {', '.join(repeated)} more than once, got {', '.join(columns)}")
        absent = [name for name in columns if name not in self.names]
        if absent:
            raise UserError(f"{self.what} has no column {', '.join(absent)}, only {', '.join(self.names)}")
        if label is not None and label not in self.names:
            raise UserError(f"condition_on {label}: {self.what} has no such column, only {', '.join(self.names)}")
        if label in columns:
            raise UserError(f"columns has {label}, which condition_on takes out of the density: give it once")
        for name in columns or self.names:
            if name not in (*self.numeric, label):
                self._check_is_no_number(name, is_wanted=bool(columns))
        chosen = list(columns) or [name for name in self.numeric if name != label and not _ROW_NUMBER.fullmatch(name)]
        if not chosen:
            hint = "; CSV files separate their columns by commas" if self._is_csv and len(self.names) == 1 else ""
            raise UserError(f"{self.what} has no column of numbers among {', '.join(self.names)}{hint}")
        return chosen

    def _check_is_no_number(self, name, *, is_wanted):
        kind = self._types[name]
        if pa.types.is_string(kind) or pa.types.is_large_string(kind):
            start = self._guarded(lambda: self._open({}).head(1000, columns=[name]))
            texts = start[name].to_pylist()
            wrong = [(row, text) for row, text in enumerate(texts) if text is not None and not is_number(text)]
            if wrong and (is_wanted or len(wrong) < len(texts) / 2):
                hint = ". Or leave the column out: columns names those that are wanted"
                raise UserError(no_number(name, self.what, *wrong[0]) + hint)
        if is_wanted:
            raise UserError(f"column {name} of {self.what} is of type {kind}: numbers are needed")

    def batches(self, names: Sequence[str], texts: Sequence[str] = ()) -> Iterator[pa.RecordBatch]:
        """The rows in order, some ten thousand at a time or fewer of many columns, with these columns.

        Args:
          names: of columns of numbers.
          texts: of further columns, which come as they stand: of CSV files as text, an empty cell as an empty one.

        Raises:
          UserError: text where numbers are needed, named by its row; a damaged file.
        """
        is_logical = pa.types.is_boolean
        numeric = [name for name in names if name in self.numeric and not is_logical(self._types[name])]
        types = {name: self._types[name] for name in names} | dict.fromkeys(numeric, pa.float64())
        types |= {name: pa.string() if self._is_csv else self._types[name] for name in texts}
        size = min(_BLOCK_ROWS, max(1, _BLOCK_VALUES // len(types)))
        for file in self.files:
            try:
                for batch in self._read(file, types, size, strings_can_be_null=not texts):
                    yield from (batch.slice(start, size) for start in range(0, len(batch), size))
            except (pa.ArrowException, OSError) as error:
                if self._is_csv:
                    with contextlib.suppress(pa.ArrowException, OSError):
                        self._say_where_text_is(numeric)
                raise _unreadable(file, error) from error

    def _read(self, file, types, size, *, strings_can_be_null):
        """Reads no more than it is asked for, unlike a scan of Arrow's data sets, which would fill the memory."""
        if self._is_csv:
            yield from pa.csv.open_csv(
                file,
                read_options=pa.csv.ReadOptions(block_size=_CSV_BLOCK_BYTES, use_threads=False),
                convert_options=pa.csv.ConvertOptions(
                    column_types=types, include_columns=list(types), strings_can_be_null=strings_can_be_null
                ),
            )
            return
        with pa.parquet.ParquetFile(file, pre_buffer=False, buffer_size=2**20) as opened:
            for batch in opened.iter_batches(size, columns=list(types)):
                yield batch.select(list(types)).cast(pa.schema(types), safe=False)

    def _say_where_text_is(self, names):
        """A second look, slower, for the row of what is no number."""
        row = 0
        for batch in self._open(dict.fromkeys(names, pa.string())).to_batches(columns=names):
            for name in names:
                for place, text in enumerate(batch[name].to_pylist()):
                    if text is not None and not is_number(text):
                        raise UserError(no_number(name, self.what, row + place, text))
            row += len(batch)

    def blocks(self, names: Sequence[str]) -> Iterator[np.ndarray]:
        """The numbers of these columns, `[n, columns]` in float64, NaN where one is missing; errors as `batches`."""
        return (numbers(batch, names) for batch in self.batches(names))

    @functools.cached_property
    def num_rows(self) -> int:
        """Number of rows; of CSV files it takes to read them."""
        return self._guarded(self._open({}).count_rows)

    def labels(self, name: str) -> np.ndarray:
        """A column of classes, text or whole numbers, as text, `[N]`; an empty text where one is missing.

        Raises:
          UserError: a column of another type, a damaged file.
        """
        kind = self._types[name]
        kind = kind.value_type if pa.types.is_dictionary(kind) else kind
        tests = (pa.types.is_integer, pa.types.is_boolean, pa.types.is_string, pa.types.is_large_string)
        if not any(test(kind) for test in tests):
            raise UserError(
                f"condition_on {name}: the column of {self.what} is of type {kind}, text or whole numbers are needed"
            )
        parts = [batch[name].cast(pa.string()) for batch in self.batches([], [name])]
        encoded = pa.chunked_array(parts, pa.string()).combine_chunks().fill_null("").dictionary_encode()
        missing = pa.csv.ConvertOptions().null_values if pa.types.is_integer(kind) else ()  # NA and the like
        texts = ["" if text in missing else text for text in encoded.dictionary.to_pylist()]
        return np.array(texts, np.str_)[encoded.indices.to_numpy()]

    def survey(self, columns: Sequence[str], *, label: str | None = None) -> tuple[Schema, Survey]:
        """Reads these columns, or all that hold numbers but the label, for the table's schema.

        Raises:
          UserError: as `choose`, `batches` and `Survey` say; fewer than two rows; integers that float64 cannot hold.
        """
        chosen = self.choose(columns, label=label)
        survey = Survey(chosen, [_precision(self._types[name]) for name in chosen])
        for block in self.blocks(chosen):
            survey.add(block)
        if survey.num_rows < 2:
            raise UserError(f"{self.what}: at least 2 rows are needed, got {survey.num_rows}")
        for name, largest in survey.largest().items():
            if largest > 2**53 and pa.types.is_integer(self._types[name]):
                raise UserError(
                    f"column {name} of {self.what} has integers of size {largest:g}, beyond 2^53, which cannot be told "
                    "apart: leave the column out with columns"
                )
        return survey.schema([name for name in self.names if name not in (*chosen, label)]), survey


def numbers(batch: pa.RecordBatch, names: Sequence[str]) -> np.ndarray:
    """Columns of a batch as numbers, `[n, columns]` in float64, NaN where one is missing."""
    columns = [pa.compute.cast(batch[name], pa.float64(), safe=False) for name in names]
    return np.stack([column.to_numpy(zero_copy_only=False) for column in columns], axis=-1)


def fill_from_column(block: np.ndarray, generator: np.random.Generator, otherwise: Sequence[np.ndarray]) -> np.ndarray:
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
            column[missing] = generator.choice(others if missing.all() else column[~missing], missing.sum())
    return block


def _unreadable(what, error):
    cause = str(error).splitlines()[0].split(" file?: ")[-1]  # what stands before is of any cause the same
    return UserError(f"{what} cannot be read: {cause}")


def _header(file):
    """The names of a CSV file's columns."""
    try:
        with (gzip.open if file.endswith(".gz") else open)(file, "rt", encoding="utf-8-sig", newline="") as lines:
            names = next((names for names in csv.reader(lines) if names), [])
    except (OSError, EOFError, zlib.error, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{file} cannot be read as CSV in UTF-8: {error}") from error
    if not names:
        raise UserError(f"{file} is empty: its first line must be the names of the columns")
    are_counted = names == list(map(str, range(len(names))))  # as pandas names the columns of an array
    if (all(map(is_number, names)) and not are_counted) or any("." in name and is_number(name) for name in names):
        raise UserError(
            f"{file} starts with numbers, {', '.join(names)}: its first line must be the names of the columns"
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


def is_number(text: str) -> bool:
    """Whether a text spells a number; what Python alone takes for one, as 1_000, is none in a table."""
    try:
        float(text)
    except ValueError:
        return False
    return text.isascii() and "_" not in text


def no_number(column: str, what: str, row: int, text: str) -> str:
    """Says where a table has text in place of a number."""
    return (
        f"column {column} of {what} has {text!r} in row {row} (counted from 0): numbers are needed, a missing one is "
        "an empty cell"
    )
