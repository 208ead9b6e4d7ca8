"""Data of folders of pictures."""

import contextlib
import json
import math
import os

import numpy as np

from nice_tf.config import Config
from nice_tf.data import pictures
from nice_tf.data.cache import cached, cached_path
from nice_tf.data.found import Found, storage_of
from nice_tf.data.paths import few
from nice_tf.data.rows import Rows
from nice_tf.errors import UserError
from nice_tf.files import write_atomically


def read(config: Config, below: list[str]) -> Found:
    """Splits are the folders `train`, `test`, `validation` right below; all pictures together where
    there is none.

    Args:
      config: the settings.
      below: all files of the folder and of those below it, sorted.

    Raises:
      UserError: a picture that breaks a rule.
    """
    folder = config.dataset
    files = list(filter(pictures.is_picture, below))
    arrays = {}
    bad: list[str] = []
    with _naming_settings():
        like = pictures.first(files, config.resize, skip_bad=config.skip_bad)
        for split, names in _by_split(folder, files).items():
            arrays[split], skipped = _rows(names, like, config)
            bad += skipped
    warnings = pictures.left_out(folder, below)
    if bad:
        names_of_bad = few(os.path.relpath(name, folder) for name in bad)
        warnings = (
            f"{len(bad)} of {len(files)} pictures cannot be decoded and are left out: "
            f"{names_of_bad}",
            *warnings,
        )
    return Found(arrays, levels=256, warnings=warnings)


@contextlib.contextmanager
def _naming_settings():
    """Adds the setting that helps to what is said of a picture; commands that score have none of
    them.
    """
    try:
        yield
    except pictures.BadPicture as error:
        raise UserError(f"{error}: skip_bad leaves it out") from error
    except pictures.OtherSize as error:
        raise UserError(f"{error}; resize brings them to one") from error


def _by_split(folder, files):
    """Files by the split that the folder right below tells."""
    found: dict[str, list[str]] = {}
    for file in files:
        split = os.path.relpath(file, folder).split(os.sep)[0]
        if split not in ("train", "test", "validation"):
            split = "the pictures"
        found.setdefault(split, []).append(file)
    return found


def _rows(files, like, config):
    """The pictures of one split, and the names of those that are left out."""
    bad: list[str] = []
    taker = None
    if config.skip_bad:
        taker = bad
    content = pictures.examples(files, config.resize, like, taker)
    storage = storage_of(config)
    if storage.fits(len(files) * math.prod(like[1])):
        return np.concatenate(list(content)), bad
    parts = ["pictures", *map(str, config.resize)]
    if config.skip_bad:
        parts.append("skipping")
    name = "-".join(parts)
    # For a later run, which finds the pictures copied.
    names = cached_path(name, files, storage.folder).with_suffix(".bad.json")
    path = cached(name, files, _and_names(content, names, bad), storage.folder)
    if names.exists():
        bad = json.loads(names.read_text())
    return Rows(path), bad


def _and_names(content, path, bad):
    """The content; once it is all read, the names of what is left out are written, before the copy
    counts: a kill must not part them.
    """
    yield from content
    write_atomically(path, json.dumps(bad).encode())
