"""NumPy files, `.npy` and `.npz`: what a header claims is compared with the file before memory is
taken for it.

Whatever is wrong with a file ends in a `UserError`; all that reads such files does so here.
"""

import contextlib
import dataclasses
import math
import os
import warnings
import zipfile
from collections.abc import Callable, Iterator
from typing import IO, Literal

import numpy as np

from nice_tf import memory
from nice_tf.errors import UserError, cause_of

_KINDS = "biufcSUMm"  # of values that stand in the file itself: neither objects nor records
_MAX_AXES = 32
_MAX_ROWS_OF_NOTHING = 2**20
_HEADERS: dict[tuple[int, int], Callable[[IO[bytes]], tuple[tuple[int, ...], bool, np.dtype]]] = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


@dataclasses.dataclass(frozen=True)
class Header:
    """What a `.npy` file says of its values.

    Attributes:
      shape: of the array.
      dtype: of its values.
      is_fortran_order: whether the first axis is the one whose neighbours lie side by side.
      offset: place of the first value in the file.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    is_fortran_order: bool
    offset: int

    @property
    def num_bytes(self) -> int:
        """Size of all values."""
        return math.prod(self.shape) * self.dtype.itemsize

    @property
    def lies_in_rows(self) -> bool:
        """Whether each row lies in one piece, one after the other."""
        if not self.shape:
            return False
        return not self.is_fortran_order or len(self.shape) == 1 or 0 in self.shape


def read_header(path: str | os.PathLike, what: str) -> Header:
    """What a `.npy` file says of its values, which fill the file to its end.

    Args:
      path: of the file.
      what: the file, for messages.

    Raises:
      UserError: it cannot be opened, is no `.npy` file, or its size is another than its header
        claims.
    """
    with _open(path, what) as file:
        return _checked_header(file, os.fstat(file.fileno()).st_size, what)


def read_array(path: str | os.PathLike, what: str) -> np.ndarray:
    """The array of a `.npy` file, in memory.

    Args:
      path: of the file.
      what: the file, for messages.

    Raises:
      UserError: as `read_header` says; it is a `.npz` file; or it has more values than fit into
        memory.
    """
    with _open(path, what) as file:
        if zipfile.is_zipfile(file):
            raise UserError(f"{what} is an archive, a single array (.npy) is needed")
        file.seek(0)
        size = os.fstat(file.fileno()).st_size
        _checked_header(file, size, what)
        _check_memory(size, what)
        return _values(file, what)


def map_array(path: str | os.PathLike, what: str) -> np.ndarray:
    """The array of a `.npy` file, whose values stay on disk until they are asked for; errors as of
    `read_header`.
    """
    header = read_header(path, what)
    if not header.num_bytes:
        return np.empty(header.shape, header.dtype)
    order: Literal["F", "C"] = "C"
    if header.is_fortran_order:
        order = "F"
    return np.memmap(
        path, header.dtype, mode="r", offset=header.offset, shape=header.shape, order=order
    )


def read_archive(path: str | os.PathLike, what: str) -> dict[str, np.ndarray]:
    """The arrays of a `.npz` file by name, in memory.

    Args:
      path: of the file.
      what: the file, for messages.

    Raises:
      UserError: it cannot be opened, is no `.npz` file or a damaged one; an array's size is another
        than its header claims; or all together do not fit into memory.
    """
    arrays: dict[str, np.ndarray] = {}
    with _open(path, what) as file, _saying_what_is_wrong(what), zipfile.ZipFile(file) as archive:
        members = archive.infolist()
        _check_memory(sum(member.file_size for member in members), what)
        for member in members:
            name = member.filename.removesuffix(".npy")
            if name in arrays or name == member.filename:
                raise UserError(
                    f"{what} holds {member.filename}, which is no array (NAME.npy) or is there "
                    "twice"
                )
            with archive.open(member) as content:
                _checked_header(content, member.file_size, f"{name} of {what}")
                arrays[name] = _values(content, f"{name} of {what}")
                content.read(1)  # compares its checksum
    return arrays


@contextlib.contextmanager
def _saying_what_is_wrong(what: str) -> Iterator[None]:
    """Whatever a reader raises becomes a `UserError` of one line."""
    try:
        with warnings.catch_warnings():
            # Of headers that Python 2 wrote, or that Python's parser wonders about.
            warnings.simplefilter("ignore")
            yield
    except UserError:
        raise
    # NumPy and zipfile pass on whatever Python's parser and their decoders raise.
    except Exception as error:
        raise _unreadable(what, cause_of(error)) from error


def _unreadable(what, cause):
    return UserError(f"{what} cannot be read as a NumPy file of numbers: {cause}")


def _open(path, what):
    try:
        return open(path, "rb")
    except (OSError, ValueError) as error:
        raise UserError(f"{what} cannot be read ({cause_of(error)})") from error


def _checked_header(file, size, what):
    """Reads the header of a file of so many bytes; its place in the file is then that of the first
    value.
    """
    with _saying_what_is_wrong(what):
        version = np.lib.format.read_magic(file)
        if version not in _HEADERS:
            raise _unreadable(
                what, f"its format is {version[0]}.{version[1]}, known are 1.0 and 2.0"
            )
        shape, is_fortran_order, dtype = _HEADERS[version](file)
        header = Header(tuple(map(int, shape)), dtype, bool(is_fortran_order), file.tell())
    _check_claims(header, size - header.offset, what)
    return header


def _check_claims(header, size, what):
    dtype = header.dtype
    shape = header.shape
    if dtype.hasobject or dtype.kind not in _KINDS or not dtype.itemsize:
        raise _unreadable(what, f"it is of type {dtype}")
    if len(shape) > _MAX_AXES or min(shape, default=0) < 0:
        raise _unreadable(
            what,
            f"its header claims the shape {_few(shape)}: at most {_MAX_AXES} axes, none below 0",
        )
    if header.num_bytes != size:
        raise _unreadable(
            what,
            f"its header claims {header.num_bytes:,} bytes of values (shape {_few(shape)}, type "
            f"{dtype}), the file holds {size:,}",
        )
    if math.prod(length for length in shape if length) > max(size, _MAX_ROWS_OF_NOTHING):
        raise _unreadable(what, f"its header claims the shape {_few(shape)}, which holds nothing")


def _few(shape):
    if len(shape) <= 8:
        return list(shape)
    return f"{list(shape[:8])} and {len(shape) - 8} more axes"


def _check_memory(size, what):
    available = memory.available_memory()
    if size > available:
        raise UserError(
            f"{what} has {size:,} bytes of values, of memory {available:,} bytes are free: give "
            "fewer examples, or a .npy file, which may stay on disk (in_memory_mb)"
        )


def _values(file, what):
    with _saying_what_is_wrong(what):
        file.seek(0)
        return np.lib.format.read_array(file, allow_pickle=False)
