"""Layers of one number for each coordinate: centre, standardization, the paper's scaling."""

import numpy as np
import tensorflow as tf

from nice_tf.bijectors.parameters import Layer, check_event_size, check_examples
from nice_tf.errors import UserError


class DiagonalScaling(Layer):
    """Diagonal scaling layer (Dinh et al. 2014, section 3.3).

        forward:           y = s * x,   s = exp(log_scale) > 0
        inverse:           x = y / s
        forward log-det:   sum_d log_scale_d
        inverse log-det:   -sum_d log_scale_d

    The factors are numbers, the same for every x.

    Examples:
      >>> import nice_tf
      >>> layer = nice_tf.DiagonalScaling(2, log_scale=[0.0, 1.0])
      >>> layer.forward([1.0, 1.0]).numpy().round(3)
      array([1.   , 2.718], dtype=float32)
      >>> float(layer.forward_log_det_jacobian([1.0, 1.0]))
      1.0
    """

    def __init__(
        self,
        event_size: int,
        *,
        log_scale: tf.Tensor | tf.Variable | None = None,
        max_log_scale: float | None = None,
        dtype: tf.DType = tf.float32,
        validate_args: bool = False,
        name: str = "diagonal_scaling",
    ):
        """Makes the layer.

        Args:
          event_size: D, at least 1.
          log_scale: log s, `[D]`, kept by reference; a new trainable variable of zeros when not
            given.
          max_log_scale: upper bound of log s. On data without noise the likelihood is unbounded and
            s would grow for ever; the bound keeps it finite. No bound when not given.
          dtype: of the new variable; ignored when `log_scale` is given.
          validate_args: as for every TFP bijector.
          name: as for every TFP bijector.

        Raises:
          UserError: `event_size` below 1, or a `log_scale` of another shape.
        """
        arguments = dict(locals())
        check_event_size(event_size)
        super().__init__(
            arguments, starts={"log_scale": tf.zeros([event_size], dtype)}, trainable=True
        )
        self._unbounded_log_scale = arguments["log_scale"]
        self._max_log_scale = max_log_scale

    @property
    def log_scale(self) -> tf.Tensor:
        """Log s, `[D]`, after the bound."""
        log_scale = tf.convert_to_tensor(self._unbounded_log_scale)
        if self._max_log_scale is None:
            return log_scale
        return tf.minimum(log_scale, self._max_log_scale)

    def assign_log_scale(self, log_scale: tf.Tensor) -> None:
        """Sets log s, `[D]`, cut at `max_log_scale`; for initialisation from data."""
        if self._max_log_scale is not None:
            log_scale = tf.minimum(log_scale, self._max_log_scale)
        self._unbounded_log_scale.assign(log_scale)

    def times_linear_part(self, matrix: tf.Tensor) -> tf.Tensor:
        """diag(s) times a matrix, `[D, D]`."""
        return matrix * tf.exp(self.log_scale)[:, tf.newaxis]

    def deviations_before(self, sigma: tf.Tensor) -> tf.Tensor:
        """Sigma divided by s, `[D]`."""
        return sigma * tf.exp(-self.log_scale)

    def _forward(self, x):
        return self._sized(x) * tf.exp(self.log_scale)

    def _inverse(self, y):
        return self._sized(y) * tf.exp(-self.log_scale)

    def _forward_log_det_jacobian(self, x):
        return tf.reduce_sum(self.log_scale)


class Center(Layer):
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
        arguments = dict(locals())
        check_event_size(event_size)
        super().__init__(arguments, starts={"loc": tf.zeros([event_size], dtype)})
        self.loc = arguments["loc"]

    def fit(self, x: tf.Tensor) -> None:
        """Sets `loc` to the mean of training examples, `[N, D]`.

        Raises:
          UserError: examples of another size, or values that are not finite.
        """
        check_examples(x, self.loc.shape[0])
        self.loc.assign(tf.reduce_mean(x, axis=0))

    def _forward(self, x):
        return self._sized(x) - self.loc

    def _inverse(self, y):
        return self._sized(y) + self.loc

    def _forward_log_det_jacobian(self, x):
        return tf.zeros([], x.dtype)


class Standardize(Layer):
    """Takes off each coordinate's mean and divides by its deviation; fitted to data and not
    trained. For tables.

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
        arguments = dict(locals())
        check_event_size(event_size)
        super().__init__(
            arguments,
            starts={"loc": tf.zeros([event_size], dtype), "scale": tf.ones([event_size], dtype)},
        )
        self.loc = arguments["loc"]
        self.scale = arguments["scale"]

    def times_linear_part(self, matrix: tf.Tensor) -> tf.Tensor:
        """diag(1 / scale) times a matrix, `[D, D]`."""
        return matrix / self.scale[:, tf.newaxis]

    def deviations_before(self, sigma: tf.Tensor) -> tf.Tensor:
        """Sigma times scale, `[D]`."""
        return sigma * self.scale

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
                f"{constant.size} of {len(scale)} coordinates have the same value in all {len(x)} "
                f"examples (the first, counted from 0, is {constant[0]}): leave them out of the "
                "data"
            )
        self.loc.assign(np.mean(x, axis=0, dtype=np.float64))
        self.scale.assign(scale)

    def _parameter_control_dependencies(self, is_init):
        if is_init or not self.validate_args:
            return ()
        return (tf.debugging.assert_positive(self.scale, message="scale must be above 0"),)

    def _forward(self, x):
        return (self._sized(x) - self.loc) / self.scale

    def _inverse(self, y):
        return self._sized(y) * self.scale + self.loc

    def _forward_log_det_jacobian(self, x):
        return -tf.reduce_sum(tf.math.log(self.scale))
