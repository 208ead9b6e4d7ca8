"""Rows of a file by number: what batches, checks and fingerprints need of an array, without its
memory.
"""

import contextlib
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
        self._file, self._offset, self._stored_dtype = _OpenFile(path), header.offset, header.dtype
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
        size, content = (
            math.prod(self.shape[1:]) * result.itemsize,
            memoryview(result.reshape(-1).view(np.uint8)),
        )
        starts = np.flatnonzero(
            np.diff(numbers, prepend=numbers[:1] - 2) != 1
        )  # of rows that lie side by side
        for start, end in zip(starts.tolist(), [*starts[1:].tolist(), len(numbers)], strict=False):
            part, position = (
                content[start * size : end * size],
                self._offset + int(numbers[start]) * size,
            )
            while part:
                num_read = os.preadv(self._file.number, [part], position)
                if not num_read:
                    raise UserError(f"{self.path} was cut while it was read")
                part, position = part[num_read:], position + num_read
        return result

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self[:], dtype)

    def select(self, index: np.ndarray | slice) -> "Rows":
        """The rows of these numbers, in their order."""
        return self._like(self._numbers[index], self.dtype)

    def astype(self, dtype: np.dtype) -> "Rows":
        """The same rows, cast as they are read."""
        return self._like(self._numbers, np.dtype(dtype))

    def _like(self, numbers, dtype):
        result = object.__new__(Rows)
        result.__dict__.update(self.__dict__)
        result._numbers, result.dtype = numbers, dtype
        result.shape = (len(numbers), *self.shape[1:])
        return result

    def check_unchanged(self) -> None:
        """Looks whether the file still is what was opened; one that is gone or replaced stays
        readable as it was.

        Raises:
          UserError: it was written to.
        """
        with contextlib.suppress(FileNotFoundError):
            now, then = os.stat(self.path), self._file.opened
            if now.st_ino == then.st_ino and (now.st_size, now.st_mtime_ns) != (
                then.st_size,
                then.st_mtime_ns,
            ):
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


Array = np.ndarray | Rows


def chunks(values: Array) -> Iterator[np.ndarray]:
    """All rows in order, some megabytes at a time."""
    step = max(1, _CHUNK_BYTES // max(1, math.prod(values.shape[1:]) * values.dtype.itemsize))
    return (values[start : start + step] for start in range(0, len(values), step))


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


def select(values: Array, index: np.ndarray | slice) -> Array:
    """Some of the rows, in memory if `values` are."""
    return values.select(index) if isinstance(values, Rows) else values[index]
