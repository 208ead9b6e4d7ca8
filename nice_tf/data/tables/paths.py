"""Which CSV and Parquet files a name stands for, told without opening any."""

import os

from nice_tf.data import paths

_SUFFIXES = (".csv", ".csv.gz", ".parquet")  # in letters of any case


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
    is_missing = not os.path.exists(name) and not paths.is_pattern(name)
    if is_missing and is_table(name):
        return [name]
    return paths.files_named(name, is_table)


def left_out(name: str) -> tuple[str, ...]:
    """What the user should know of the other files of a folder, as `paths.left_out` says."""
    found = paths.files_named(name, os.path.isfile)
    return paths.left_out(name, table_files(name), found, "are no tables")
