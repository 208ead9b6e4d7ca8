"""CSV and Parquet files, read block by block by pyarrow."""

import functools
import glob
import os
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute
import pyarrow.csv
import pyarrow.dataset

from nice_tf.errors import UserError
from nice_tf.schema import Schema, Survey

_SUFFIXES = (".csv", ".csv.gz", ".parquet")
_BLOCK_ROWS = 65_536


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
          UserError: no such file, none of tables, files of both kinds or of different columns, a column's name twice,
            a CSV file without names.
        """
        self.files = [os.fspath(file) for file in files]
        self.what = self.files[0] if len(self.files) == 1 else f"{self.files[0]} and {len(self.files) - 1} more"
        missing = [file for file in self.files if not os.path.isfile(file)]
        if missing:
            raise UserError(f"{missing[0]}: there is no such file")
        if len({file.endswith(".parquet") for file in self.files}) > 1:
            raise UserError(f"{self.what} are CSV and Parquet files: give files of one kind")
        self._is_csv = not self.files[0].endswith(".parquet")
        schema = self._open({}).schema
        self.names = list(schema.names)
        repeated = sorted({name for name in self.names if self.names.count(name) > 1})
        if repeated:
            raise UserError(f"{self.what} has more than one column {', '.join(repeated)}: names must differ")
        if self._is_csv and all(map(_is_number, self.names)):
            raise UserError(f"{self.what} starts with numbers: its first line must be the names of the columns")
        self._types = {name: schema.field(name).type for name in self.names}
        self.numeric = [name for name in self.names if _holds_numbers(self._types[name])]
        for file in self.files[1:]:
            self._check_same_columns(file)

    def _check_same_columns(self, file):
        other = Table([file])
        if set(other.names) != set(self.names):
            raise UserError(
                f"{file} has the columns {', '.join(other.names)}, {self.files[0]} has {', '.join(self.names)}: they "
                "must be the same"
            )

    def _open(self, types):
        if not self._is_csv:
            return self._guarded(lambda: pa.dataset.dataset(self.files, format="parquet"))
        options = pa.csv.ConvertOptions(column_types=types, strings_can_be_null=True)
        file_format = pa.dataset.CsvFileFormat(convert_options=options)
        return self._guarded(lambda: pa.dataset.dataset(self.files, format=file_format))

    def _guarded(self, call):
        try:
            return call()
        except (pa.ArrowException, OSError, ValueError) as error:
            raise UserError(f"{self.what} cannot be read: {str(error).splitlines()[0]}") from error

    def choose(self, columns: Sequence[str]) -> list[str]:
        """The columns that are asked for, or all that hold numbers.

        Args:
          columns: names; none for all that hold numbers.

        Raises:
          UserError: one that the table lacks or that does not hold numbers; fewer than one in all; or none is asked
            for, and one has numbers in most of its rows and text in others.
        """
        absent = [name for name in columns if name not in self.names]
        if absent:
            raise UserError(f"{self.what} has no column {', '.join(absent)}, only {', '.join(self.names)}")
        for name in columns or self.names:
            if name not in self.numeric:
                self._check_is_no_number(name, is_wanted=bool(columns))
        chosen = list(columns) or self.numeric
        if not chosen:
            raise UserError(f"{self.what} has no column of numbers among {', '.join(self.names)}")
        return chosen

    def _check_is_no_number(self, name, *, is_wanted):
        kind = self._types[name]
        if pa.types.is_string(kind) or pa.types.is_large_string(kind):
            start = self._guarded(lambda: self._open({}).head(1000, columns=[name]))
            texts = start[name].to_pylist()
            wrong = [(row, text) for row, text in enumerate(texts, 1) if text is not None and not _is_number(text)]
            if wrong and (is_wanted or len(wrong) < len(texts) / 2):
                row, text = wrong[0]
                raise UserError(
                    f"column {name} of {self.what} has {text!r} in row {row}: numbers are needed, a missing one is an "
                    "empty cell. Or leave the column out: columns names those that are wanted"
                )
        if is_wanted:
            raise UserError(f"column {name} of {self.what} is of type {kind}: numbers are needed")

    def batches(self, names: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """The rows in order, some ten thousand at a time, with these columns.

        Raises:
          UserError: text where numbers are needed, named by its row; a damaged file.
        """
        is_number = pa.types.is_boolean
        types = {name: pa.float64() for name in names if name in self.numeric and not is_number(self._types[name])}
        opened = self._open(types)
        scanner = opened.scanner(
            columns=list(names), batch_size=_BLOCK_ROWS, batch_readahead=2, fragment_readahead=1, use_threads=True
        )
        found = scanner.to_batches()
        while True:
            try:
                batch = next(found, None)
            except (pa.ArrowException, OSError) as error:
                self._say_where_text_is(list(types))
                raise UserError(f"{self.what} cannot be read: {str(error).splitlines()[0]}") from error
            if batch is None:
                return
            if len(batch):
                yield batch

    def _say_where_text_is(self, names):
        """A second look, slower, for the row of what is no number."""
        if not self._is_csv:
            return
        row = 0
        for batch in self._guarded(lambda: self._open(dict.fromkeys(names, pa.string())).to_batches(columns=names)):
            for name in names:
                for place, text in enumerate(batch[name].to_pylist()):
                    if text is not None and not _is_number(text):
                        raise UserError(
                            f"column {name} of {self.what} has {text!r} in row {row + place + 1}: numbers are needed, "
                            "a missing one is an empty cell"
                        )
            row += len(batch)

    def blocks(self, names: Sequence[str]) -> Iterator[np.ndarray]:
        """The numbers of these columns, `[n, columns]` in float64, NaN where one is missing; errors as `batches`."""
        return (numbers(batch, names) for batch in self.batches(names))

    @functools.cached_property
    def num_rows(self) -> int:
        """Number of rows; of CSV files it takes to read them."""
        return self._guarded(self._open({}).count_rows)

    def survey(self, columns: Sequence[str]) -> tuple[Schema, Survey]:
        """Reads these columns, or all that hold numbers, for the table's schema.

        Raises:
          UserError: as `choose`, `batches` and `Survey` say; no rows.
        """
        chosen = self.choose(columns)
        survey = Survey(chosen)
        for block in self.blocks(chosen):
            survey.add(block)
        if not survey.num_rows:
            raise UserError(f"{self.what} has no rows")
        return survey.schema([name for name in self.names if name not in chosen]), survey


def numbers(batch: pa.RecordBatch, names: Sequence[str]) -> np.ndarray:
    """Columns of a batch as numbers, `[n, columns]` in float64, NaN where one is missing."""
    columns = [pa.compute.cast(batch[name], pa.float64()) for name in names]
    return np.stack([column.to_numpy(zero_copy_only=False) for column in columns], axis=-1)


def fill_from_column(block: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Missing values replaced by others of the same column of the block, drawn at random.

    A constant in their place, a mean or a median, would be a spike of the density.
    """
    block = block.copy()
    for column in block.T:
        missing = np.isnan(column)
        if missing.any() and not missing.all():
            column[missing] = generator.choice(column[~missing], missing.sum())
    return block


def _holds_numbers(kind):
    types = pa.types
    tests = (types.is_integer, types.is_floating, types.is_boolean, types.is_decimal, types.is_null)
    return any(test(kind) for test in tests)


def _is_number(text):
    try:
        float(text)
    except ValueError:
        return False
    return True


def rebatched(batches: Iterable[np.ndarray], size: int) -> Iterator[np.ndarray]:
    """The same rows in order, `size` at a time; the last may be fewer."""
    kept, count = [], 0
    for batch in batches:
        kept.append(batch)
        count += len(batch)
        if count >= size:
            rows = np.concatenate(kept)
            whole = count // size * size
            yield from np.split(rows[:whole], whole // size)
            kept, count = [rows[whole:]], count - whole
    if count:
        yield np.concatenate(kept)
