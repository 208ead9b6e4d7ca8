"""Files on disk that are read as rows: a .npy file itself, or what was copied into one."""

import hashlib
import os
import pathlib
from collections.abc import Iterable, Sequence
from typing import IO

import numpy as np

from nice_tf.data import arrays
from nice_tf.data.rows import Array, Rows, chunks
from nice_tf.errors import UserError
from nice_tf.files import CannotWrite, replaced


def read_npy(path: str | os.PathLike, *, in_memory_mb: int, cache: pathlib.Path) -> Array:
    """The array of a file: in memory if the file has at most so many MB, else by rows.

    A larger file in Fortran order, as pandas' tables make it, is written to `cache` row by row
    first.

    Raises:
      UserError: it cannot be read, or is no `.npy` file of numbers.
    """
    what = f"dataset {path}"
    header = arrays.read_header(path, what)
    if header.num_bytes <= in_memory_mb * 2**20 or not header.shape:
        return arrays.read_array(path, what)
    if header.lies_in_rows:
        return Rows(path)
    return Rows(cached("rows", [path], chunks(arrays.map_array(path, what)), cache))


def cached(
    name: str,
    files: Sequence[str | os.PathLike],
    content: Iterable[np.ndarray],
    cache: pathlib.Path,
) -> str:
    """The path of a `.npy` file in `cache` with the content that these files gave; it is read only
    once.

    Args:
      name: what is read of the files; starts the name of the cached file.
      files: where the content comes from; the cached file counts as long as their paths, sizes and
        times stay.
      content: arrays `[n, *event_shape]` of one shape and type, at least one; not touched where the
        file is there.
      cache: folder, made if need be.

    Raises:
      UserError: the cache cannot be written.
    """
    path = cached_path(name, files, cache)
    if not path.exists():
        print(f"copying the data to {path}, once", flush=True)
        _write(path, content)
    return str(path)


def cached_path(name: str, files: Sequence[str | os.PathLike], cache: pathlib.Path) -> pathlib.Path:
    """Where `cached` puts what is read of these files; arguments as there."""
    state = hashlib.sha256(repr(file_states(files)).encode()).hexdigest()[:16]
    return cache / f"{name}-{state}.npy"


def file_states(files: Iterable[str | os.PathLike]) -> list[tuple[str, int, int]]:
    """What tells whether files are those that they were: path, size and time of each."""
    found = [(file, os.stat(file)) for file in files]
    return [(os.path.abspath(file), state.st_size, state.st_mtime_ns) for file, state in found]


def _write(path, content):
    try:
        with replaced(path) as file:
            number = 0
            for rows in content:
                if not number:
                    write_header(file, 0, rows)
                file.write(np.ascontiguousarray(rows))
                number += len(rows)
            file.seek(0)
            write_header(
                file, number, rows
            )  # now that it is known; NumPy leaves room for a growing first axis
    except CannotWrite as error:
        raise UserError(f"{error}: give a folder with more room as data_dir") from error


def write_header(file: IO[bytes], number: int, rows: np.ndarray) -> None:
    """Starts a `.npy` file of so many rows like these."""
    header = {"descr": np.lib.format.dtype_to_descr(rows.dtype), "fortran_order": False}
    np.lib.format.write_array_header_1_0(file, {**header, "shape": (number, *rows.shape[1:])})
