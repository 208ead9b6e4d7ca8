"""Rows of a file by number: what batches, checks and fingerprints need of an array, without its
memory.
"""

import contextlib
import copy
import math
import os
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import numpy.typing as npt

from nice_tf.data import arrays
from nice_tf.errors import UserError

_CHUNK_BYTES = 2**24


class Rows:
    """The rows of a `.npy` file, or some of them, read when they are asked for.

    Indexing reads: `rows[3]`, `rows[2:5]` and `rows[[7, 1]]` are arrays in memory, as those of an
    array would be. `select` and `astype` read nothing.

    Attributes:
      path: of the file.
      shape: `(N, *event_shape)`.
      dtype: of the arrays that are read.
    """

    def __init__(self, path: str | os.PathLike):
        """Opens the file, whose values must lie row after row.

        Args:
          path: of a `.npy` file in C order.

        Raises:
          UserError: the file is none.
        """
        header = arrays.read_header(path, str(path))
        if not header.lies_in_rows:
            raise UserError(f"{path} has no rows in C order")
        self._file = _OpenFile(path)
        self._offset = header.offset
        self._stored_dtype = header.dtype
        self._numbers = np.arange(header.shape[0])
        self.path = path
        self.shape = header.shape
        self.dtype = header.dtype

    @property
    def ndim(self) -> int:
        """Number of axes, the rows' own."""
        return len(self.shape)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: int | slice | Sequence[int] | np.ndarray) -> np.ndarray:
        self.check_unchanged()
        numbers = self._numbers[index]
        result = self._read(np.ravel(numbers)).astype(self.dtype, copy=False)
        return result.reshape([*np.shape(numbers), *self.shape[1:]])

    def _read(self, numbers):
        # Not through a memory map: each row would bring up to 2 MB around it into the memory of
        # this process, and a file that is cut meanwhile would kill it.
        result = np.empty([len(numbers), *self.shape[1:]], self._stored_dtype)
        size = math.prod(self.shape[1:]) * result.itemsize
        content = result.reshape(-1).view(np.uint8).data
        for start, end in _runs(numbers):
            position = self._offset + int(numbers[start]) * size
            self._fill(content[start * size : end * size], position)
        return result

    def _fill(self, part, position):
        """Reads bytes of the file from a position on, until the part of memory is full."""
        while part:
            num_read = os.preadv(self._file.number, [part], position)
            if not num_read:
                raise UserError(f"{self.path} was cut while it was read")
            part = part[num_read:]
            position += num_read

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self[:], dtype)

    def select(self, index: np.ndarray | slice) -> "Rows":
        """The rows of these numbers, in their order."""
        return self._like(self._numbers[index], self.dtype)

    def astype(self, dtype: np.dtype) -> "Rows":
        """The same rows, cast as they are read."""
        return self._like(self._numbers, np.dtype(dtype))

    def _like(self, numbers, dtype):
        result = copy.copy(self)  # of the same open file
        result._numbers = numbers
        result.dtype = dtype
        result.shape = (len(numbers), *self.shape[1:])
        return result

    def check_unchanged(self) -> None:
        """Checks that the file still is what was opened; one that is gone or replaced stays
        readable as it was.

        Raises:
          UserError: it was written to.
        """
        then = self._file.opened
        with contextlib.suppress(FileNotFoundError):
            now = os.stat(self.path)
            is_same = now.st_size == then.st_size and now.st_mtime_ns == then.st_mtime_ns
            if now.st_ino == then.st_ino and not is_same:
                raise UserError(
                    f"{self.path} was changed while it was read: write new data to another file"
                )


class _OpenFile:
    """A file that is open as long as any rows of it are in use."""

    def __init__(self, path):
        self.number = os.open(path, os.O_RDONLY)
        self.opened = os.stat(self.number)

    def __del__(self):
        os.close(self.number)


def _runs(numbers):
    """Where rows begin and end, by their places, that lie side by side in the file."""
    is_start = np.diff(numbers, prepend=numbers[:1] - 2) != 1
    starts = np.flatnonzero(is_start).tolist()
    ends = [*starts[1:], len(numbers)]
    return zip(starts, ends, strict=False)  # of no rows there is an end alone


Array = np.ndarray | Rows


def chunks(values: Array) -> Iterator[np.ndarray]:
    """All rows in order, some megabytes at a time."""
    row_bytes = math.prod(values.shape[1:]) * values.dtype.itemsize
    step = max(1, _CHUNK_BYTES // max(1, row_bytes))
    for start in range(0, len(values), step):
        yield values[start : start + step]


def rebatched(batches: Iterable[np.ndarray], size: int) -> Iterator[np.ndarray]:
    """The same rows in order, `size` at a time; the last may be fewer."""
    kept: list[np.ndarray] = []
    count = 0
    for batch in batches:
        kept.append(batch)
        count += len(batch)
        if count >= size:
            rows = np.concatenate(kept)
            whole = count // size * size
            yield from np.split(rows[:whole], whole // size)
            kept = [rows[whole:]]
            count -= whole
    if count:
        yield np.concatenate(kept)


def select(values: Array, index: np.ndarray | slice) -> Array:
    """Some of the rows, in memory if `values` are."""
    if isinstance(values, Rows):
        return values.select(index)
    return values[index]
