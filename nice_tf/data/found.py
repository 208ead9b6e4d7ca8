"""What a source of data holds, and what all sources share."""

import dataclasses
import os
import pathlib
import re
from collections.abc import Sequence

import numpy as np

from nice_tf.config import Config
from nice_tf.data.cache import Storage
from nice_tf.data.rows import Array
from nice_tf.data.schema import Schema


@dataclasses.dataclass(frozen=True)
class Found:
    """What a source holds, not yet checked.

    Attributes:
      arrays: `train` and `test`, and perhaps `validation`; or one array of any name, that is yet to
        be split.
      levels: number of integer levels, if the source knows it.
      num_test: examples to split off for test; one sixth if not given.
      labels: the label of each example, `[N]`, under the names of `arrays`; if they were asked for.
      schema: of a table, its columns.
      missing: of a table, the share of missing values by column, of those that have some.
      warnings: what the user should know of the data, one line each.
    """

    arrays: dict[str, Array]
    levels: int | None = None
    num_test: int | None = None
    labels: dict[str, np.ndarray] | None = None
    schema: Schema | None = None
    missing: dict[str, float] = dataclasses.field(default_factory=dict)
    warnings: tuple[str, ...] = ()


def storage_of(config: Config) -> Storage:
    """Where the settings let data be kept."""
    folder = config.data_dir
    if not folder:
        caches = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
        folder = os.path.join(caches, "nice_tf")
    return Storage(config.in_memory_mb, pathlib.Path(folder).expanduser())


def by_split(files: Sequence[str], rest: str) -> dict[str, list[str]]:
    """Files by the split that their names tell, as `train-00.tfrecord` does; those that tell none
    by the name of the rest.
    """
    found: dict[str, list[str]] = {}
    for file in files:
        name = os.path.basename(file).lower()
        told = re.search(r"(?<![a-z])(train|validation|test)(?![a-z])", name)
        split = rest
        if told:
            split = told[1]
        found.setdefault(split, []).append(file)
    return found
