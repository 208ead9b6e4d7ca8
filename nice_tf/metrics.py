"""Every conversion of a likelihood from one unit to another."""

import math

import numpy as np


def bits_per_dim(log_prob, event_size: int, levels: int):
    """Bits per dimension of discrete data, from the log-likelihood of its dequantized version.

        bits_per_dim = (-log_prob / D + log(levels)) / log(2)

    It bounds from above the bits per dimension of the model as a model of the integers (Theis et al. 2016,
    section 3.1).

    Args:
      log_prob: nats of x on [0, 1]^D, any shape, array or tensor.
      event_size: D.
      levels: number of integer levels of the data, 256 for 8-bit images.

    Returns:
      Bits per dimension, of `log_prob`'s shape.
    """
    return (log_prob / -event_size + math.log(levels)) / math.log(2.0)


def standard_error(per_example) -> float:
    """Standard error of the mean of independent values, `[N]` with N at least 2."""
    per_example = np.asarray(per_example, np.float64)
    return float(per_example.std(ddof=1) / math.sqrt(per_example.size))
