"""Small tables as files, for the tests of what reads them."""

import pyarrow as pa
import pyarrow.parquet

from nice_tf.data.schema import csv_bytes


def write_csv(path, **columns):
    """Columns as a CSV file, in a folder that is made if need be; its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(csv_bytes(columns))
    return path


def write_parquet(path, **columns):
    """Columns as a Parquet file, in a folder that is made if need be; its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pa.parquet.write_table(pa.table(columns), path)
    return path
