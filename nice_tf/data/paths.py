"""Which files a path, a folder or a pattern names."""

import glob
import itertools
import os
from collections.abc import Callable, Iterable, Iterator

from nice_tf.errors import UserError

# Entries that a tree may have beside what is looked for, and more only if it has more of that.
MAX_OTHERS = 100_000
_PATIENCE = 2  # how many times more others may turn up before what is looked for
_MAX_TURNS = 50  # folders in folders that are read in turns


def files_named(name: str, is_meant: Callable[[str], bool]) -> list[str]:
    """The files that a name stands for, in order.

    Args:
      name: a folder, for its files that are meant, hidden ones left out; a file that is there, for
        itself; else a pattern, for the files that fit it.
      is_meant: whether a file's name is that of the files which are looked for.

    Returns:
      Paths; none if the name stands for no such file.
    """
    if os.path.isdir(name):
        found = _visible(name, os.listdir(name))
    elif os.path.isfile(name):
        found = [name]
    elif "\0" in name:
        found = []
    else:
        found = glob.glob(name)
    return sorted(file for file in found if is_meant(file) and os.path.isfile(file))


def is_pattern(name: str) -> bool:
    """Whether a name is a pattern; one that is there is itself, whatever characters it has."""
    return glob.has_magic(name) and not os.path.exists(name)


def files_below(folder: str, is_meant: Callable[[str], bool]) -> list[str]:
    """All files of a folder and of those below it, sorted by path; hidden ones are passed over,
    links not followed.

    Args:
      folder: its path.
      is_meant: whether a file's name is that of the files which are looked for.

    Raises:
      UserError: the tree is more of other things than of these files, `MAX_OTHERS` at least: not
        the folder of them.
    """
    found = []
    num_meant = 0
    num_others = 0
    for file in _walk(folder):
        if file is not None:
            found.append(file)
        if file is not None and is_meant(file):
            num_meant += 1
        else:
            num_others += 1
        if num_others > _PATIENCE * max(MAX_OTHERS, num_meant):
            break
    if num_others > max(MAX_OTHERS, num_meant):
        raise UserError(
            f"{folder} and the folders below it hold more than {MAX_OTHERS:,} files and folders "
            f"beside {num_meant:,} of those that are looked for: give the very folder of the data"
        )
    return sorted(found)


def left_out(name: str, read: list[str], found: list[str], why: str) -> tuple[str, ...]:
    """What the user should know of files in a folder, or of a pattern, that are not read: a line or
    none.

    Args:
      name: the folder or the pattern.
      read: the files of it that are read.
      found: all that were found in it.
      why: what the others are, as in "are no pictures".
    """
    others = sorted(set(found) - set(read))
    if not others or not read:
        return ()
    folder = name
    if not os.path.isdir(name):
        folder = os.path.dirname(name) or "."
    names = few(os.path.relpath(other, folder) for other in others)
    return (f"{len(others)} of {len(found)} files {why} and are left out: {names}",)


def few(names: Iterable[str]) -> str:
    """The first eight of these names, and how many more there are."""
    names = list(names)
    text = ", ".join(names[:8])
    if len(names) > 8:
        text += f" and {len(names) - 8} more"
    return text


def _walk(folder: str, depth: int = 0) -> Iterator[str | None]:
    """Each file, and `None` for each folder below.

    The files of a folder and those of each folder in it come in turns: so the names do not decide
    what is seen first.
    """
    if depth == _MAX_TURNS:
        yield from _walk_straight(folder)
        return
    files: list[str] = []
    below = []
    for parent, folders, names in os.walk(folder):
        files = _visible(parent, names)
        for path in _visible(parent, folders):
            yield None
            if not os.path.islink(path):
                below.append(_walk(path, depth + 1))
        break  # what lies deeper is read in turns
    yield from _in_turns([iter(files), *below])


def _walk_straight(folder: str) -> Iterator[str | None]:
    """As `_walk`, a folder after the other, of any depth."""
    for parent, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for _ in folders:
            yield None
        yield from _visible(parent, names)


def _visible(folder: str, names: list[str]) -> list[str]:
    """The paths of what is not hidden in a folder."""
    return [os.path.join(folder, name) for name in names if not name.startswith(".")]


def _in_turns(iterators: list[Iterator[str | None]]) -> Iterator[str | None]:
    """One value of each, then the next of each that has more, and so on."""
    while iterators:
        going = []
        for iterator in iterators:
            for value in itertools.islice(iterator, 1):
                yield value
                going.append(iterator)
        iterators = going
