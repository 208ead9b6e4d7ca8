"""Every conversion of a likelihood from one unit to another."""

import math
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import tensorflow as tf

# Of the types that fit an argument mypy takes the last; without types of TensorFlow, `tf.Tensor` is
# any.
Nats = TypeVar("Nats", tf.Tensor, np.ndarray, float)


def bits_per_dim(log_prob: Nats, event_size: int, levels: float) -> Nats:
    """Bits per dimension of discrete data, from the log-likelihood of its dequantized version.

        bits_per_dim = (-log_prob / D + log(levels)) / log(2)

    It bounds from above the bits per dimension of the model as a model of the integers (Theis et
    al. 2016, section 3.1).

    Args:
      log_prob: nats of x on [0, 1]^D, any shape, array or tensor.
      event_size: D.
      levels: number of integer levels of the data, 256 for 8-bit images; of a table,
        `Schema.bins_per_unit`.

    Returns:
      Bits per dimension, of `log_prob`'s shape.

    Examples:
      >>> import nice_tf
      >>> print(round(nice_tf.bits_per_dim(1980.50, 784, 256), 3))  # the paper's MNIST
      4.356
    """
    return (log_prob / -event_size + math.log(levels)) / math.log(2.0)


def on_range(log_prob: Nats, event_size: int, low: float, high: float) -> Nats:
    """The same density in other units: nats on [low, high]^D from nats on [0, 1]^D.

        log p(low + (high - low) x) = log p(x) - D log(high - low)

    Args:
      log_prob: nats of x on [0, 1]^D, any shape, array or tensor.
      event_size: D.
      low: lowest value in the other units.
      high: highest value in the other units.

    Returns:
      Nats, of `log_prob`'s shape.
    """
    return log_prob - event_size * math.log(high - low)


def importance_weighted(log_probs: npt.ArrayLike) -> np.ndarray:
    """Bound on the log-probability of integers from K noise draws, tighter with each draw (Burda et
    al. 2016).

        log P(v) + D log(levels) = log E_u p((v + u) / levels)
                                 >= E [log 1/K sum_k p((v + u_k) / levels)]

    With K = 1 it is the plain mean of log p. Like that mean it is given in nats of x on [0, 1]^D,
    so that `bits_per_dim` and `on_range` take it.

    Args:
      log_probs: nats of each example for each draw, `[K, N]`.

    Returns:
      Nats by example, `[N]`.
    """
    draws = np.asarray(log_probs, np.float64)
    return np.logaddexp.reduce(draws, axis=0) - math.log(len(draws))


def standard_error(per_example: npt.ArrayLike) -> float:
    """Standard error of the mean of independent values, `[N]` with N at least 2."""
    per_example = np.asarray(per_example, np.float64)
    return float(per_example.std(ddof=1) / math.sqrt(per_example.size))
