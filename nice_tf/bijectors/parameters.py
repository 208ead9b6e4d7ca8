"""What every layer shares: its base class, and the checks of its size and its examples."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from nice_tf.errors import UserError, check_count

tfb = tfp.bijectors


class Layer(tfb.Bijector):
    """A bijector of the last axis, whatever the batch shape; of most the log-det is the same for
    every x.

    A subclass hands its arguments on and states its mathematics: `_forward`, `_inverse`,
    `_forward_log_det_jacobian`. It may also say how it is fitted to data (`fit`), and what its
    linear part is.
    """

    def __init__(
        self,
        arguments: dict[str, Any],
        *,
        starts: Mapping[str, tf.Tensor] | None = None,
        trainable: bool = False,
        is_constant_jacobian: bool = True,
        dtype: tf.DType | None = None,
    ):
        """Makes the layer.

        Args:
          arguments: those of the subclass's constructor, `dict(locals())`, with `name` and
            `validate_args` among them. What is made new is put into it: a layer's copies share its
            variables, as those of TFP's own do.
          starts: by the name of an argument, what a new variable starts at where the argument is
            `None`.
          trainable: whether new variables are.
          is_constant_jacobian: whether the whole matrix is the same for every x, not only its
            determinant.
          dtype: of the layer; that of the first of `starts` when not given.

        Raises:
          UserError: an argument of another shape than its start.
        """
        with tf.name_scope(arguments["name"]) as name:
            for key, start in (starts or {}).items():
                arguments[key] = kept_or_new(arguments[key], start, name=key, trainable=trainable)
                dtype = dtype or arguments[key].dtype
            super().__init__(
                forward_min_event_ndims=1,
                is_constant_jacobian=is_constant_jacobian,
                dtype=dtype,
                validate_args=arguments["validate_args"],
                parameters=arguments,
                name=name,
            )

    @classmethod
    def _parameter_properties(cls, dtype):
        return {}

    @property
    def mixes_linearly(self) -> bool:
        """Whether the layer multiplies x by a matrix that is no diagonal."""
        return False

    def times_linear_part(self, matrix: tf.Tensor) -> tf.Tensor:
        """What an affine layer multiplies x by, times a matrix `[D, D]`; other layers leave it."""
        return matrix

    def deviations_before(self, sigma: tf.Tensor) -> tf.Tensor:
        """How much each input varies when all others are known, by that of the outputs, `[D]`."""
        return sigma

    def fit(self, x: tf.Tensor) -> None:
        """Sets what is taken from training examples, `[N, D]`, before training; most layers take
        nothing.
        """

    def forward_of_fitted(self, x: tf.Tensor) -> tf.Tensor:
        """The examples that `fit` saw as new ones would come out of the layer, `[N, D]`."""
        return self.forward(x)

    def _forward_event_shape(self, input_shape):
        return self._sized_shape(input_shape)

    def _inverse_event_shape(self, output_shape):
        return self._sized_shape(output_shape)

    def _sized(self, x):
        return check_last_axis(x, self.parameters["event_size"])

    def _sized_shape(self, shape):
        size = self.parameters.get("event_size")
        if size is not None and not shape[-1:].is_compatible_with([size]):
            raise UserError(f"{self.name} is of {size} values, got event shape {shape}")
        return shape


def kept_or_new(
    value: tf.Tensor | tf.Variable | None, initial: tf.Tensor, *, name: str, trainable: bool = True
) -> tf.Tensor | tf.Variable:
    """A layer's parameter: what is given, by reference, or a new variable that starts at `initial`.

    Raises:
      UserError: a given value of another shape.
    """
    if value is None:
        return tf.Variable(initial, trainable=trainable, name=name)
    if not isinstance(value, tf.Variable | tfp.util.DeferredTensor):
        value = tf.convert_to_tensor(value, dtype_hint=initial.dtype)
    if not value.shape.is_compatible_with(initial.shape):
        raise UserError(f"{name} must have shape {initial.shape}, got {value.shape}")
    return value


def check_event_size(event_size: int) -> None:
    """Checks that a layer or a prior may be of this size.

    Raises:
      UserError: it is below 1, or no whole number.
    """
    check_count("event_size", event_size, 1)


def check_last_axis(x: tf.Tensor, event_size: int) -> tf.Tensor:
    """x, unless its events are of another size, which would be broadcast silently.

    Raises:
      UserError: the last axis of x is known and not `event_size` long; where it is not known before
        the run, `InvalidArgumentError` in the run.
    """
    if not x.shape[-1:].is_compatible_with([event_size]):
        raise UserError(f"the last axis must have {event_size} values, got shape {x.shape}")
    if x.shape[-1:].is_fully_defined():
        return x
    return tf.reshape(x, tf.concat([tf.shape(x)[:-1], [event_size]], axis=0))


def check_examples(x: np.ndarray, event_size: int, *, first: int = 0) -> np.ndarray:
    """Examples to fit a layer to, as an array.

    Args:
      x: the examples.
      event_size: D.
      first: the number of the first one, where x is a part of all.

    Raises:
      UserError: a shape other than `[N, event_size]`, or a value that is not finite.
    """
    x = np.asarray(x)
    if x.ndim != 2 or x.shape[1] != event_size:
        raise UserError(f"examples of shape [N, {event_size}] are needed, got {list(x.shape)}")
    bad = np.flatnonzero(~np.isfinite(x).all(axis=1))
    if bad.size:
        raise UserError(
            f"{bad.size} of {len(x)} examples have values that are not finite, the first is "
            f"{first + bad[0]} (counted from 0): leave them out of the data"
        )
    return x
