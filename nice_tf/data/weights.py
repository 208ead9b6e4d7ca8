"""How much each example counts in training."""

import os

import numpy as np

from nice_tf.data import arrays
from nice_tf.errors import UserError


def read_weights(path: str | os.PathLike, num_examples: int) -> np.ndarray:
    """The weights in a `.npy` file, `[N]` in float64.

    Args:
      path: of the file.
      num_examples: N.

    Raises:
      UserError: no such file, or what `check_weights` says.
    """
    what = f"weights {path}"
    values = arrays.read_array(path, what)
    return check_weights(values, num_examples, what)


def check_weights(values: np.ndarray, num_examples: int, what: str) -> np.ndarray:
    """Weights in float64, once they were looked at.

    Args:
      values: a number for each example.
      num_examples: N.
      what: the weights, for messages.

    Raises:
      UserError: another number than N, one that is below 0 or not finite, or all are 0.
    """
    if values.dtype.kind not in "biuf":
        raise UserError(f"{what} must be numbers, got the type {values.dtype}")
    if values.shape != (num_examples,):
        raise UserError(
            f"{what} must be one for each of the {num_examples} examples, got shape "
            f"{list(values.shape)}"
        )
    values = values.astype(np.float64)
    wrong = np.flatnonzero(~np.isfinite(values) | (values < 0))
    if len(wrong):
        raise UserError(
            f"{what} must be finite and at least 0, got {values[wrong[0]]} for example {wrong[0]} "
            "(counted from 0)"
        )
    if not values.any():
        raise UserError(f"{what} must not all be zero")
    return values


def by_mean_of_train(weights: dict[str, np.ndarray], what: str) -> dict[str, np.ndarray]:
    """Weights by split, divided by the mean of those of train, in float32.

    Raises:
      UserError: all of train or of validation are 0.
    """
    for split in ("train", "validation"):
        if not weights[split].any():
            raise UserError(f"{what} are 0 for all {split} examples: split otherwise (split_seed)")
    mean = weights["train"].mean()
    return {split: (values / mean).astype(np.float32) for split, values in weights.items()}
