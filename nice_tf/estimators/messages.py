"""What an estimator says while it works."""

import contextlib
import inspect
import logging
import warnings
from collections.abc import Iterator

import tensorflow as tf

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
