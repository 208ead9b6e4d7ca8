"""Files are written and folders held so that no kill and no other process spoils what is there."""

import contextlib
import fcntl
import logging
import os
import pathlib
import re
import secrets
import shutil
import socket
import stat
from collections.abc import Iterator
from typing import IO

from nice_tf.errors import UserError

_LOG = logging.getLogger(__name__)


class CannotWrite(UserError):
    """A file that the machine does not let us write."""


_TEMPORARY = ".tmp"  # how the names of unfinished files end
_DRAW = "[0-9a-f]{16}"  # what such a name is drawn from
_MAX_NAME = 40  # characters of a file's name that its temporary name repeats: names have a limit


@contextlib.contextmanager
def replaced(path: str | os.PathLike) -> Iterator[IO[bytes]]:
    """A file that replaces `path` once the block has ended well: readers see the old or the new.

    It is written under a name of its own in the same folder, which is made if need be, brought to
    the disk, and renamed. The mode of a file that is replaced stays. A link is written through to
    its target. A block that fails leaves the old file. What a killed process has left is removed
    when the same file is written again.

    Args:
      path: of a file, or of one that is yet to be.

    Yields:
      The file, open for bytes.

    Raises:
      CannotWrite: the disk is full, the folder cannot be written, or `path` is there and no file.
    """
    try:
        target = _target(pathlib.Path(path))
        target.parent.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(
            target.parent, re.escape(f".{_short(target.name)}.") + _DRAW + re.escape(_TEMPORARY)
        )
        with _temporary(target) as (temporary, file):
            yield file
            file.flush()
            os.fsync(file.fileno())
            os.replace(temporary, target)
        sync_folder(target.parent)
    except OSError as error:
        raise CannotWrite(f"{path} cannot be written ({error.strerror or error})") from error


def write_atomically(path: str | os.PathLike, content: bytes) -> None:
    """Writes a file as `replaced` does; errors as there."""
    with replaced(path) as file:
        file.write(content)


def _target(path):
    """Where a file is to lie: what a link points to, else the path itself."""
    target = pathlib.Path(os.path.realpath(path))
    with contextlib.suppress(FileNotFoundError):
        mode = os.lstat(target).st_mode
        if not stat.S_ISREG(mode):
            raise CannotWrite(f"{path} cannot be written: it is there and is no file")
    return target


def _short(name):
    return name[:_MAX_NAME]


@contextlib.contextmanager
def _temporary(target):
    """A new file beside the target, removed at the end if it still has its temporary name."""
    temporary, descriptor = _create(target)
    try:
        with os.fdopen(descriptor, "wb") as file:
            with contextlib.suppress(FileNotFoundError):
                os.fchmod(descriptor, stat.S_IMODE(os.stat(target).st_mode))
            yield temporary, file
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def _create(target):
    """A file of a name that nobody can foresee, marked as in use: see `_remove_abandoned`."""
    while True:
        temporary = target.with_name(f".{_short(target.name)}.{secrets.token_hex(8)}{_TEMPORARY}")
        # O_EXCL follows no link, and refuses a name that is taken.
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        if _mark_in_use(descriptor):
            return temporary, descriptor
        os.close(descriptor)


@contextlib.contextmanager
def temporary_folder(parent: pathlib.Path, start: str) -> Iterator[pathlib.Path]:
    """A new folder, to be renamed in the block; if it is not, it is removed at the end.

    Args:
      parent: where it lies; made if need be. Folders that killed processes have left there are
        removed.
      start: of its name and of theirs.
    """
    parent.mkdir(parents=True, exist_ok=True)
    _remove_abandoned(parent, re.escape(start) + _DRAW)
    temporary, descriptor = _create_folder(parent, start)
    try:
        yield temporary
    finally:
        os.close(descriptor)
        shutil.rmtree(temporary, ignore_errors=True)


def _create_folder(parent, start):
    while True:
        temporary = parent / f"{start}{secrets.token_hex(8)}"
        temporary.mkdir()
        # Another process can take it for an abandoned one.
        with contextlib.suppress(FileNotFoundError):
            descriptor = os.open(temporary, os.O_RDONLY | os.O_CLOEXEC)
            if _mark_in_use(descriptor) and temporary.exists():
                return temporary, descriptor
            os.close(descriptor)


def remove_temporaries(folder: pathlib.Path) -> None:
    """Removes the files that processes which were killed in `replaced` have left in a folder."""
    _remove_abandoned(folder, r"\..*\." + _DRAW + re.escape(_TEMPORARY))


def remove_at_once(folder: pathlib.Path) -> None:
    """Removes a folder under another name, so that nobody takes what is left of it for the whole.

    What a kill leaves of it is removed when a folder of this name is removed again.
    """
    _remove_abandoned(folder.parent, re.escape(f"{folder.name}.") + _DRAW)
    aside = folder.with_name(f"{folder.name}.{secrets.token_hex(8)}")
    os.rename(folder, aside)
    shutil.rmtree(aside, ignore_errors=True)


def _mark_in_use(descriptor):
    """Locks what is open against `_remove_abandoned`, until this process ends or closes it.

    Returns whether it is still there: another process may have removed it before it was marked.
    """
    # A file system without locks has no abandoned files that could be told.
    with contextlib.suppress(OSError):
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    return os.fstat(descriptor).st_nlink > 0


def _remove_abandoned(folder, pattern):
    """Removes what has a name of ours, all of it `pattern`, and no living process has marked."""
    if not folder.is_dir():
        return
    for name in os.listdir(folder):
        if re.fullmatch(pattern, name):
            _remove_if_abandoned(folder / name)


def _remove_if_abandoned(path):
    with contextlib.suppress(OSError):  # gone, in use, or not ours to remove
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            remove(path)
        finally:
            os.close(descriptor)


def remove(path: pathlib.Path) -> None:
    """Removes a file, or a folder with all that is in it; one that is not there is as good."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def sync_folder(folder: pathlib.Path) -> None:
    """Brings the names in a folder to the disk: a rename counts after a power cut, too."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        with contextlib.suppress(OSError):  # some file systems sync no folders
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_tree(folder: pathlib.Path) -> None:
    """Brings all that lies in a folder and below it to the disk."""
    for parent, _, names in os.walk(folder):
        for name in names:
            with open(os.path.join(parent, name), "rb") as file:
                os.fsync(file.fileno())
        sync_folder(pathlib.Path(parent))


class Lock:
    """A lock that a process holds through an open file: it ends when the process does.

    Attributes:
      path: of the file, which stays.
    """

    def __init__(self, path: pathlib.Path):
        self.path = path
        self._descriptor: int | None = None

    def acquire(self, what: str, *, shared: bool = False) -> None:
        """Takes the lock.

        Args:
          what: is locked, for the message.
          shared: let others that share it hold it at the same time. A folder that cannot be written
            needs no such lock.

        Raises:
          UserError: another process holds it, or this one does in another place.
          OSError: the file cannot be made.
        """
        self._descriptor = self._acquired(what, shared)

    def release(self) -> None:
        """Gives the lock back."""
        descriptor = self._descriptor
        self._descriptor = None
        if descriptor is not None:
            os.close(descriptor)

    def is_held(self) -> bool:
        """Whether the lock is held here, by a file that is still there."""
        return self._descriptor is not None and self._is(self._descriptor)

    def _acquired(self, what, shared):
        while True:
            descriptor = self._open(shared)
            if descriptor is None:
                return None
            _lock(descriptor, what, shared)
            if self._is(descriptor):
                if not shared:
                    _sign(descriptor)
                return descriptor
            # The process that held it has removed it, between opening and locking.
            os.close(descriptor)

    def _open(self, shared):
        try:
            return os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
        except OSError:
            if not shared:
                raise
        with contextlib.suppress(OSError):
            return os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        return None

    def _is(self, descriptor):
        """Whether the file of the lock's name is the one that is open."""
        with contextlib.suppress(OSError):
            return os.path.samestat(os.stat(self.path), os.fstat(descriptor))
        return False


def _lock(descriptor, what, shared):
    kind = fcntl.LOCK_EX
    if shared:
        kind = fcntl.LOCK_SH
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError as error:
        holder = _holder(descriptor)
        os.close(descriptor)
        raise UserError(
            f"{what} is in use by {holder}: wait until it ends, or give another one"
        ) from error
    except OSError as error:  # a file system without locks
        _LOG.warning("%s is not locked (%s): let no other process use it", what, error.strerror)


def _sign(descriptor):
    """Writes who holds a lock alone; of those that share one, a file cannot hold all names."""
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"process {os.getpid()} on {socket.gethostname()}".encode(), 0)


def _holder(descriptor):
    with contextlib.suppress(OSError):
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return "a process that reads it"
    return os.pread(descriptor, 200, 0).decode(errors="replace") or "another process"
