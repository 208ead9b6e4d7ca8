"""Parquet files: their columns, and their rows block by block."""

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.parquet


def read_schema(file: str) -> pa.Schema:
    """Names and types of the columns; errors are those of pyarrow."""
    with _opened(file) as opened:
        return opened.schema_arrow


def count_rows(file: str) -> int:
    """Number of rows, which the end of the file tells."""
    with _opened(file) as opened:
        return opened.metadata.num_rows


def batches(file: str, types: dict[str, pa.DataType], size: int) -> Iterator[pa.RecordBatch]:
    """The rows of a file in order, at most `size` at a time, with the columns and types that are
    wanted.

    It reads no more than it is asked for, unlike a scan of Arrow's data sets, which would fill the
    memory.

    Raises:
      pa.ArrowException, OSError: a damaged file, or a value that is not of its type.
    """
    names = list(types)
    with _opened(file) as opened:
        for batch in opened.iter_batches(size, columns=names):
            yield batch.select(names).cast(pa.schema(types), safe=False)


def _opened(file):
    # Opened here: as a text, pyarrow may take a path for an address.
    return pa.parquet.ParquetFile(pa.OSFile(file), pre_buffer=False, buffer_size=2**20)
