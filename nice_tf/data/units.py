"""From data values to the x of the density, and back.

Dequantization is random and stands outside the density; every deterministic step is a bijector
inside it, so that its log-det is counted and samples come back in data units.
"""

import numpy as np
import tensorflow as tf

from nice_tf.choices import DEQUANTIZATIONS
from nice_tf.data.schema import Spikes
from nice_tf.errors import check_choice


def dequantize(
    values: tf.Tensor, levels: int, seed: tf.Tensor, *, dtype: tf.DType = tf.float32
) -> tf.Tensor:
    """Spreads integers evenly over their bins (Dinh et al. 2014, section 5.1).

        x = (values + u) / levels,   u ~ U[0, 1), one fresh draw for each value

    Args:
      values: integers 0..levels-1, any shape.
      levels: number of integer levels.
      seed: stateless seed, int32 `[2]`.
      dtype: of the result.

    Returns:
      x on [0, 1], of the shape of `values`.

    Examples:
      >>> import nice_tf
      >>> x = nice_tf.dequantize([0, 3], 4, seed=[0, 0]).numpy()
      >>> bool(0 <= x[0] < 0.25 and 0.75 <= x[1] < 1)
      True
    """
    noise = tf.random.stateless_uniform(tf.shape(values), seed, dtype=dtype)
    return (tf.cast(values, dtype) + noise) / tf.cast(levels, dtype)


def bin_centres(values: tf.Tensor, levels: int, *, dtype: tf.DType = tf.float32) -> tf.Tensor:
    """Integers 0..levels-1 to the middle of their bins on [0, 1], without noise: (values + 1/2) /
    levels.
    """
    return (tf.cast(values, dtype) + 0.5) / tf.cast(levels, dtype)


def to_density_units(
    values: tf.Tensor,
    levels: int | None,
    dequantization: str,
    seed: tf.Tensor,
    *,
    steps: np.ndarray | None = None,
    spikes: Spikes | None = None,
    dtype: tf.DType = tf.float32,
) -> tf.Tensor:
    """Data values to the x whose density is modelled.

    Values on steps of their own stay in their units, each spread over its bin: x = v + step (u -
    1/2), u ~ U[0, 1). So does a value that comes again and again in a continuous column, over the
    width of its spike: on points a density has no upper bound.

    Args:
      values: a batch of data, any shape.
      levels: number of integer levels; `None` for other data, which are taken as they are except
        `steps`.
      dequantization: one of `DEQUANTIZATIONS`; without effect on continuous data.
      seed: stateless seed of the noise, int32 `[2]`.
      steps: distance of the values of each coordinate, 0 where they are continuous, `[D]`; `None`
        for all continuous.
      spikes: of continuous coordinates; `None` for none.
      dtype: of the result.

    Returns:
      x, of the shape of `values`.

    Raises:
      UserError: an unknown dequantization.
    """
    check_choice("dequantization", dequantization, DEQUANTIZATIONS)
    if levels is None and steps is not None and dequantization == "uniform":
        noise = tf.random.stateless_uniform(tf.shape(values), seed, -0.5, 0.5, dtype=dtype)
        widths = tf.cast(steps, dtype)
        if spikes:
            widths += widths_of_spikes(values, spikes, dtype=dtype)
        return tf.cast(values, dtype) + noise * widths
    if levels is None:
        return tf.cast(values, dtype)
    if dequantization == "none":
        return bin_centres(values, levels, dtype=dtype)
    return dequantize(values, levels, seed, dtype=dtype)


def widths_of_spikes(
    values: tf.Tensor, spikes: Spikes, *, dtype: tf.DType = tf.float32
) -> tf.Tensor:
    """The width over which each value is spread, 0 for those that are no spike.

    Args:
      values: rows `[..., D]`, NaN where one is missing.
      spikes: of the columns.
      dtype: of the result.

    Returns:
      Widths, of the shape of `values`.
    """
    values = tf.convert_to_tensor(values)
    of_type = spikes.values.astype(values.dtype.as_numpy_dtype)
    is_spike = values[..., tf.newaxis] == of_type
    widths = tf.where(is_spike, tf.cast(spikes.widths, dtype), 0)
    return tf.reduce_max(widths, axis=-1)


def is_discrete(levels: int | None, steps: np.ndarray | None, spikes: Spikes | None = None) -> bool:
    """Whether any value of the data is one to spread over a bin; arguments as for
    `to_density_units`.
    """
    return levels is not None or spikes is not None or (steps is not None and bool(np.any(steps)))


def to_data_units(x: tf.Tensor, levels: int | None) -> tf.Tensor:
    """Takes x back to data values, unclipped: levels * x - 1/2, so that a bin's centre becomes its
    integer.
    """
    if levels is None:
        return x
    return x * tf.cast(levels, x.dtype) - 0.5
