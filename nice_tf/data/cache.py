"""Files on disk that are read as rows: a .npy file itself, or what was copied into one."""

import dataclasses
import hashlib
import logging
import os
import pathlib
from collections.abc import Iterable, Sequence
from typing import IO

import numpy as np

from nice_tf.data import arrays
from nice_tf.data.rows import Array, Rows, chunks
from nice_tf.errors import UserError
from nice_tf.files import CannotWrite, replaced

_LOG = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Storage:
    """Where data are kept that are read of files.

    Attributes:
      in_memory_mb: what has at most so many MB is in memory.
      folder: for copies of what has more, made if need be.
    """

    in_memory_mb: float
    folder: pathlib.Path

    def fits(self, num_bytes: int) -> bool:
        """Whether so much is kept in memory."""
        return num_bytes <= self.in_memory_mb * 2**20


def read_npy(path: str | os.PathLike, storage: Storage) -> Array:
    """The array of a file: in memory if it fits there, else by rows.

    A larger file in Fortran order, as pandas' tables make it, is copied row by row first.

    Raises:
      UserError: it cannot be read, or is no `.npy` file of numbers.
    """
    what = f"dataset {path}"
    header = arrays.read_header(path, what)
    if storage.fits(header.num_bytes) or not header.shape:
        return arrays.read_array(path, what)
    if header.lies_in_rows:
        return Rows(path)
    rows = chunks(arrays.map_array(path, what))
    return Rows(cached("rows", [path], rows, storage.folder))


def kept(
    name: str,
    files: Sequence[str | os.PathLike],
    content: Iterable[np.ndarray],
    num_bytes: int,
    storage: Storage,
) -> Array:
    """The content of files: in memory if it fits there, else as rows of a copy.

    Args:
      name: as for `cached`, as are `files` and `content`.
      files: where the content comes from.
      content: arrays `[n, *event_shape]`.
      num_bytes: size of all.
      storage: where it is kept.

    Raises:
      UserError: as `cached` says.
    """
    if storage.fits(num_bytes):
        return np.concatenate(list(content))
    return Rows(cached(name, files, content, storage.folder))


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
        _LOG.info("copying the data to %s, once", path)
        _write(path, content)
    return str(path)


def cached_path(name: str, files: Sequence[str | os.PathLike], cache: pathlib.Path) -> pathlib.Path:
    """Where `cached` puts what is read of these files; arguments as there."""
    state = hashlib.sha256(repr(file_states(files)).encode()).hexdigest()[:16]
    return cache / f"{name}-{state}.npy"


def file_states(files: Iterable[str | os.PathLike]) -> list[tuple[str, int, int]]:
    """What tells whether files are those that they were: path, size and time of each."""
    states = []
    for file in files:
        state = os.stat(file)
        states.append((os.path.abspath(file), state.st_size, state.st_mtime_ns))
    return states


def _write(path, content):
    try:
        with replaced(path) as file:
            number = 0
            for rows in content:
                if not number:
                    write_header(file, 0, rows)
                write_rows(file, rows)
                number += len(rows)
            # Now that it is known; NumPy leaves room for a growing first axis.
            file.seek(0)
            write_header(file, number, rows)
    except CannotWrite as error:
        raise UserError(f"{error}: give a folder with more room as data_dir") from error


def write_header(file: IO[bytes], number: int, rows: np.ndarray) -> None:
    """Starts a `.npy` file of so many rows like these."""
    header = {
        "descr": np.lib.format.dtype_to_descr(rows.dtype),
        "fortran_order": False,
        "shape": (number, *rows.shape[1:]),
    }
    np.lib.format.write_array_header_1_0(file, header)


def write_rows(file: IO[bytes], rows: np.ndarray) -> None:
    """Goes on with a `.npy` file whose header is written."""
    file.write(np.ascontiguousarray(rows).data)
