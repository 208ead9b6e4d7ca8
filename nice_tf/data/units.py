"""From data values to the x of the density, and back.

Dequantization is random and stands outside the density; every deterministic step is a bijector inside it, so that its
log-det is counted and samples come back in data units.
"""

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from nice_tf.bijectors.coupling import check_event_size, check_last_axis, kept_or_new
from nice_tf.errors import UserError

tfb = tfp.bijectors

DEQUANTIZATIONS = ("uniform", "none")


def dequantize(values: tf.Tensor, levels: int, seed: tf.Tensor, *, dtype: tf.DType = tf.float32) -> tf.Tensor:
    """Spreads integers evenly over their bins (Dinh et al. 2014, section 5.1).

        x = (values + u) / levels,   u ~ U[0, 1), one fresh draw for each value

    Args:
      values: integers 0..levels-1, any shape.
      levels: number of integer levels.
      seed: stateless seed, int32 `[2]`.
      dtype: of the result.

    Returns:
      x on [0, 1], of the shape of `values`.
    """
    noise = tf.random.stateless_uniform(tf.shape(values), seed, dtype=dtype)
    return (tf.cast(values, dtype) + noise) / tf.cast(levels, dtype)


def bin_centres(values: tf.Tensor, levels: int, *, dtype: tf.DType = tf.float32) -> tf.Tensor:
    """Integers 0..levels-1 to the middle of their bins on [0, 1], without noise: (values + 1/2) / levels."""
    return (tf.cast(values, dtype) + 0.5) / tf.cast(levels, dtype)


def to_density_units(
    values: tf.Tensor,
    levels: int | None,
    dequantization: str,
    seed: tf.Tensor,
    *,
    steps: np.ndarray | None = None,
    dtype: tf.DType = tf.float32,
) -> tf.Tensor:
    """Data values to the x whose density is modelled.

    Values on steps of their own stay in their units, each spread over its bin: x = v + step (u - 1/2), u ~ U[0, 1).

    Args:
      values: a batch of data, any shape.
      levels: number of integer levels; `None` for other data, which are taken as they are but for `steps`.
      dequantization: one of `DEQUANTIZATIONS`; without effect on continuous data.
      seed: stateless seed of the noise, int32 `[2]`.
      steps: distance of the values of each coordinate, 0 where they are continuous, `[D]`; `None` for all continuous.
      dtype: of the result.

    Returns:
      x, of the shape of `values`.

    Raises:
      UserError: an unknown dequantization.
    """
    if dequantization not in DEQUANTIZATIONS:
        raise UserError(f"dequantization must be one of {', '.join(DEQUANTIZATIONS)}, got {dequantization!r}")
    if levels is None and steps is not None and dequantization == "uniform":
        noise = tf.random.stateless_uniform(tf.shape(values), seed, -0.5, 0.5, dtype=dtype)
        return tf.cast(values, dtype) + noise * tf.cast(steps, dtype)
    if levels is None:
        return tf.cast(values, dtype)
    if dequantization == "none":
        return bin_centres(values, levels, dtype=dtype)
    return dequantize(values, levels, seed, dtype=dtype)


def is_discrete(levels: int | None, steps: np.ndarray | None) -> bool:
    """Whether any value of the data is one to spread over a bin; arguments as for `to_density_units`."""
    return levels is not None or (steps is not None and bool(np.any(steps)))


def to_data_units(x: tf.Tensor, levels: int | None) -> tf.Tensor:
    """Takes x back to data values, unclipped: levels * x - 1/2, so that a bin's centre becomes its integer."""
    return x if levels is None else x * tf.cast(levels, x.dtype) - 0.5


def shift_images(values: tf.Tensor, max_shift: tf.Tensor | int, seed: tf.Tensor) -> tf.Tensor:
    """Moves each picture by a number of pixels of its own, rows and columns alike; what comes in has the value 0.

    Args:
      values: `[B, height, width, channels]`.
      max_shift: largest move in either direction; moves are uniform on -max_shift..max_shift.
      seed: stateless seed, int32 `[2]`.

    Returns:
      The moved pictures, of the shape and type of `values`.
    """
    size, height, width = tf.shape(values)[0], values.shape[1], values.shape[2]
    moves = tf.random.stateless_uniform([size, 2], seed, -max_shift, max_shift + 1, tf.int32)
    padded = tf.pad(values, [[0, 0], [max_shift] * 2, [max_shift] * 2, [0, 0]])
    rows = tf.range(height) + max_shift - moves[:, :1]
    columns = tf.range(width) + max_shift - moves[:, 1:]
    return tf.gather(tf.gather(padded, rows, axis=1, batch_dims=1), columns, axis=2, batch_dims=1)


class Center(tfb.Bijector):
    """Subtracts a fixed mean, set from the data and not trained.

        forward:           y = x - loc
        inverse:           x = y + loc
        forward log-det:   0
        inverse log-det:   0

    It is the identity until `loc` is assigned, as `initialize_from_data` does.
    """

    def __init__(
        self,
        event_size: int,
        *,
        loc: tf.Tensor | tf.Variable | None = None,
        dtype: tf.DType = tf.float32,
        validate_args: bool = False,
        name: str = "center",
    ):
        """Makes the layer.

        Args:
          event_size: D, length of the last axis.
          loc: the mean, `[D]`, kept by reference; a new untrained variable of zeros when not given.
          dtype: of the new variable; ignored when `loc` is given.
          validate_args: as for every TFP bijector.
          name: as for every TFP bijector.

        Raises:
          UserError: `event_size` below 1, or a `loc` of another shape.
        """
        parameters = dict(locals())
        check_event_size(event_size)
        with tf.name_scope(name) as name:
            zeros = tf.zeros([event_size], dtype)
            self.loc = parameters["loc"] = loc = kept_or_new(loc, zeros, name="loc", trainable=False)
            super().__init__(
                forward_min_event_ndims=1,
                is_constant_jacobian=True,
                dtype=loc.dtype,
                validate_args=validate_args,
                parameters=parameters,
                name=name,
            )

    @classmethod
    def _parameter_properties(cls, dtype):
        return {}

    def _forward(self, x):
        return check_last_axis(x, self.loc.shape[0]) - self.loc

    def _inverse(self, y):
        return check_last_axis(y, self.loc.shape[0]) + self.loc

    def _forward_log_det_jacobian(self, x):
        return tf.zeros([], x.dtype)


class Standardize(tfb.Bijector):
    """Takes off each coordinate's mean and divides by its deviation; fitted to data and not trained. For tables.

        forward:           y = (x - loc) / scale
        inverse:           x = scale * y + loc
        forward log-det:   -sum_d log scale_d
        inverse log-det:   sum_d log scale_d

    It is the identity until `fit`.
    """

    def __init__(
        self,
        event_size: int,
        *,
        loc: tf.Tensor | tf.Variable | None = None,
        scale: tf.Tensor | tf.Variable | None = None,
        dtype: tf.DType = tf.float32,
        validate_args: bool = False,
        name: str = "standardize",
    ):
        """Makes the layer.

        Args:
          event_size: D, length of the last axis.
          loc: the mean, `[D]`, kept by reference; a new untrained variable of zeros when not given.
          scale: the deviation, above 0, as `loc`; of ones when not given.
          dtype: of the new variables. The fit is made in float64 whatever it is.
          validate_args: check at every call that `scale` is above 0.
          name: as for every TFP bijector.

        Raises:
          UserError: `event_size` below 1, or a `loc` or `scale` of another shape.
        """
        parameters = dict(locals())
        check_event_size(event_size)
        with tf.name_scope(name) as name:
            zeros, ones = tf.zeros([event_size], dtype), tf.ones([event_size], dtype)
            self.loc = parameters["loc"] = kept_or_new(loc, zeros, name="loc", trainable=False)
            self.scale = parameters["scale"] = kept_or_new(scale, ones, name="scale", trainable=False)
            super().__init__(
                forward_min_event_ndims=1,
                is_constant_jacobian=True,
                dtype=self.loc.dtype,
                validate_args=validate_args,
                parameters=parameters,
                name=name,
            )

    @classmethod
    def _parameter_properties(cls, dtype):
        return {}

    def fit(self, x: np.ndarray) -> None:
        """Sets mean and deviation from training examples.

        Args:
          x: `[N, D]`.

        Raises:
          UserError: examples of another size, or a coordinate that does not vary.
        """
        x = check_examples(x, self.loc.shape[0])
        scale = np.std(x, axis=0, dtype=np.float64)
        constant = np.flatnonzero(scale == 0)
        if constant.size:
            raise UserError(
                f"{constant.size} of {len(scale)} coordinates have the same value in all {len(x)} examples (the first, "
                f"counted from 0, is {constant[0]}): leave them out of the data"
            )
        self.loc.assign(np.mean(x, axis=0, dtype=np.float64))
        self.scale.assign(scale)

    def _parameter_control_dependencies(self, is_init):
        if is_init or not self.validate_args:
            return ()
        return (tf.debugging.assert_positive(self.scale, message="scale must be above 0"),)

    def _forward(self, x):
        return (check_last_axis(x, self.loc.shape[0]) - self.loc) / self.scale

    def _inverse(self, y):
        return check_last_axis(y, self.loc.shape[0]) * self.scale + self.loc

    def _forward_log_det_jacobian(self, x):
        return -tf.reduce_sum(tf.math.log(self.scale))


def check_examples(x: np.ndarray, event_size: int) -> np.ndarray:
    """Examples to fit a layer to, as an array.

    Raises:
      UserError: a shape other than `[N, event_size]`, or a value that is not finite.
    """
    x = np.asarray(x)
    if x.ndim != 2 or x.shape[1] != event_size:
        raise UserError(f"examples of shape [N, {event_size}] are needed, got {list(x.shape)}")
    bad = np.flatnonzero(~np.isfinite(x).all(axis=1))
    if bad.size:
        raise UserError(
            f"{bad.size} of {len(x)} examples have values that are not finite, the first is {bad[0]} (counted from 0): "
            "leave them out of the data"
        )
    return x
