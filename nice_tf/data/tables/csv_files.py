"""CSV files: the names of their columns, and their rows block by block."""

import csv
import gzip
import zlib
from collections.abc import Iterator
from typing import IO

import pyarrow as pa
import pyarrow.csv

from nice_tf.data.tables.cells import is_number
from nice_tf.data.tables.csv_format import CsvFormat
from nice_tf.errors import UserError

_BLOCK_BYTES = 2**21
_MAX_BLOCK_BYTES = 2**27


def is_gzip(file: str) -> bool:
    """Whether a file's name says that it is compressed, in letters of any case."""
    return file.lower().endswith(".gz")


def open_text(file: str, errors: str = "strict") -> IO[str]:
    """A CSV file, compressed or not, as text; `errors` as for `open`."""
    if is_gzip(file):
        return gzip.open(file, "rt", encoding="utf-8-sig", newline="", errors=errors)
    return open(file, encoding="utf-8-sig", newline="", errors=errors)


def header(file: str, delimiter: str) -> list[str]:
    """The fields of the first line that is not empty; none of an empty file.

    Raises:
      UserError: the file cannot be read.
    """
    try:
        with open_text(file) as lines:
            for names in csv.reader(lines, delimiter=delimiter):
                if names:
                    return names
    except UnicodeDecodeError as error:
        raise UserError(
            f"{file} cannot be read as CSV in UTF-8: {error}. Save it as CSV UTF-8; or convert it, "
            "from what Excel writes by iconv -f cp1252 -t utf-8"
        ) from error
    except (OSError, EOFError, zlib.error, csv.Error) as error:
        raise UserError(f"{file} cannot be read as CSV in UTF-8: {error}") from error
    return []


def column_names(file: str, form: CsvFormat) -> list[str]:
    """The names of a file's columns, as its first line has them.

    Raises:
      UserError: the file cannot be read, is empty, or starts with numbers.
    """
    names = header(file, form.delimiter)
    if not names:
        raise UserError(f"{file} is empty: its first line must be the names of the columns")
    if _are_numbers(names, form.decimal):
        raise UserError(
            f"{file} starts with numbers, {', '.join(names)}: its first line must be the names of "
            "the columns"
        )
    return names


def _are_numbers(names, decimal):
    """Whether a first line is one of numbers: all of it, or a decimal among it."""
    spelled = [name.replace(decimal, ".") for name in names]
    for name in spelled:
        if "." in name and is_number(name):
            return True
    counted = list(map(str, range(len(names))))  # as pandas names the columns of an array
    return names != counted and all(map(is_number, spelled))


def batches(
    file: str,
    form: CsvFormat,
    types: dict[str, pa.DataType],
    *,
    strings_can_be_null: bool = True,
    check_utf8: bool = True,
) -> Iterator[pa.RecordBatch]:
    """The rows of a file in order, some megabytes at a time.

    It reads no more than it is asked for, unlike a scan of Arrow's data sets, which would fill the
    memory.

    Args:
      file: path.
      form: how it is written.
      types: of the columns that are wanted, by name, one at least.
      strings_can_be_null: whether an empty cell of text is a missing one.
      check_utf8: whether text must be UTF-8.

    Raises:
      pa.ArrowException, OSError: a damaged file, or a cell that is not of its type.
    """
    options = pa.csv.ConvertOptions(
        column_types=types,
        include_columns=list(types),
        strings_can_be_null=strings_can_be_null,
        check_utf8=check_utf8,
        decimal_point=form.decimal,
    )
    size = _BLOCK_BYTES
    num_given = 0
    while True:
        num_known = num_given  # rows that an attempt with smaller blocks gave already
        try:
            with _opened(file) as content:
                for batch in _reader(content, form, options, size):
                    new = batch.slice(min(num_known, len(batch)))
                    num_known -= len(batch) - len(new)
                    num_given += len(new)
                    yield new
            return
        except pa.ArrowInvalid as error:
            size = _larger(size, error)


def first_types(file: str, form: CsvFormat) -> dict[str, pa.DataType]:
    """The types of the columns, by name, as far as the first megabytes tell.

    Raises:
      pa.ArrowException, OSError: a damaged file.
    """
    options = pa.csv.ConvertOptions(strings_can_be_null=True, decimal_point=form.decimal)
    size = _BLOCK_BYTES
    while True:
        try:
            with _opened(file) as content:
                schema = _reader(content, form, options, size).schema
                return dict(zip(schema.names, schema.types, strict=True))
        except pa.ArrowInvalid as error:
            size = _larger(size, error)


def _opened(file):
    # What Arrow takes for compressed would depend on the case of the suffix.
    if is_gzip(file):
        return pa.input_stream(file, compression="gzip")
    return pa.input_stream(file, compression=None)


def _reader(content, form, options, size):
    return pa.csv.open_csv(
        content,
        read_options=pa.csv.ReadOptions(block_size=size, use_threads=False),
        # Without threads it costs nothing to follow quoted cells over the ends of lines.
        parse_options=pa.csv.ParseOptions(delimiter=form.delimiter, newlines_in_values=True),
        convert_options=options,
    )


def _larger(size, error):
    """Another size of a block, if a row or the line of names was longer; else the error."""
    text = str(error)
    is_long = "straddling object" in text or "Empty CSV file or block" in text
    if not is_long or size >= _MAX_BLOCK_BYTES:
        raise error
    return size * 8
