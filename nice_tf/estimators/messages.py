"""What an estimator says while it works."""

import contextlib
import inspect
import logging
import warnings
from collections.abc import Iterator, Mapping

import numpy as np
import pyarrow as pa
import tensorflow as tf

from nice_tf.data.tables.cells import shown

_OURS = ("nice_tf", "sklearn")


def warn(message: str) -> None:
    """A warning of the line of the user's own code that led here, through whichever methods of this
    package and of scikit-learn.
    """
    level = 1
    frame = inspect.currentframe()
    while frame is not None and frame.f_globals.get("__name__", "").split(".")[0] in _OURS:
        frame = frame.f_back
        level += 1
    warnings.warn(message, stacklevel=level)


def said_of_rows(table: pa.Table, masks: Mapping[str, np.ndarray]) -> str:
    """The value of each column in the first of some rows, and how many rows these are: "region
    ('Mars' in row 3, the first of 2 rows), rows counted from 0". Nothing of no rows.

    Args:
      table: with the values.
      masks: which rows, by the column's name, `[N]` each.
    """
    parts = []
    for name, mask in masks.items():
        if not mask.any():
            continue
        row = int(mask.argmax())
        more = ""
        if mask.sum() > 1:
            more = f", the first of {mask.sum()} rows"
        parts.append(f"{name} ({shown(table[name][row])} in row {row}{more})")
    if not parts:
        return ""
    return f"{', '.join(parts)}, rows counted from 0"


@contextlib.contextmanager
def quiet(verbose: int) -> Iterator[None]:
    """Unless `verbose`, keeps TensorFlow from telling that each fit makes functions of its own."""
    logger = tf.get_logger()
    level = logger.level
    if not verbose:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
