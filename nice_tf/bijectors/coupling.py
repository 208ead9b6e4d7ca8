"""The layers of NICE as TFP bijectors, `forward` being the paper's direction: data to latent.

All act on the last axis, whatever the batch shape. Coordinates are split by fixed permutations
(`coupling_splits`, applied with `tfb.Permute`), so that a coupling always cuts one contiguous axis in two.
"""

from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from nice_tf.errors import UserError

tfb = tfp.bijectors

PARTITIONS = ("interleaved", "halves", "checkerboard")
MIXINGS = ("swap", "reverse", "shuffle")


class AdditiveCoupling(tfb.Bijector):
    """Additive coupling layer (Dinh et al. 2014, section 3.2).

    One part of the coordinates is passed on unchanged, the other part is shifted by a function m of the first:

        forward:           y_passed = x_passed,   y_shifted = x_shifted + m(x_passed)
        inverse:           x_passed = y_passed,   x_shifted = y_shifted - m(y_passed)
        forward log-det:   0
        inverse log-det:   0

    Both directions evaluate the same m on the same bits, so the inverse is exact to the rounding of one addition,
    whatever m is and however coarsely it is computed.
    """

    def __init__(
        self,
        conditioner: Callable[[tf.Tensor], tf.Tensor],
        *,
        num_passthrough: int,
        passthrough: str = "first",
        validate_args: bool = False,
        name: str = "additive_coupling",
    ):
        """Makes the layer.

        Args:
          conditioner: m, maps `[..., num_passthrough]` to `[..., D - num_passthrough]`. Its variables are tracked
            when it is a `tf.Module`, such as `nice_tf.MLP` or a layer of `tf_keras`, once they are built. It gets the
            keywords that `forward` and `inverse` are called with, or that TFP passes on to a bijector of this name. Its
            `dtype`, if it has one, is that of the layer.
          num_passthrough: how many coordinates are passed on unchanged, at least 1 and at most D - 1.
          passthrough: `"first"` passes the first `num_passthrough` coordinates and shifts the rest, `"second"`
            passes the last `num_passthrough` and shifts those before them.
          validate_args: check also in the run, where the size of the event is not known before, that m returns one
            value a shifted coordinate.
          name: as for every TFP bijector.

        Raises:
          UserError: a value out of these bounds, or a conditioner whose variables would not be tracked.
        """
        parameters = dict(locals())
        _check_variables_can_be_seen(conditioner)
        if num_passthrough < 1:
            raise UserError(f"num_passthrough must be at least 1, got {num_passthrough}")
        if passthrough not in ("first", "second"):
            raise UserError(f"passthrough must be 'first' or 'second', got {passthrough!r}")
        with tf.name_scope(name) as name:
            self._conditioner = conditioner
            self._num_passthrough = num_passthrough
            self._passthrough = passthrough
            super().__init__(
                forward_min_event_ndims=1,
                # Its determinant is constant, the matrix is not: TFP would take the layer for an affine one.
                is_constant_jacobian=False,
                dtype=getattr(conditioner, "dtype", None),
                validate_args=validate_args,
                parameters=parameters,
                name=name,
            )

    @classmethod
    def _parameter_properties(cls, dtype):
        return {}

    @property
    def conditioner(self) -> Callable[[tf.Tensor], tf.Tensor]:
        """The function m."""
        return self._conditioner

    @property
    def num_passthrough(self) -> int:
        """How many coordinates are passed on unchanged."""
        return self._num_passthrough

    @property
    def passthrough(self) -> str:
        """Which side is passed on: `"first"` or `"second"`."""
        return self._passthrough

    def split(self, h: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """`[..., D]` to its two parts, (passed, shifted).

        Raises:
          UserError: an event without any coordinate to shift.
        """
        size = 0 if h.shape.rank == 0 else h.shape[-1]
        if size is not None and size <= self._num_passthrough:
            raise UserError(
                f"a coupling that passes {self._num_passthrough} coordinates needs more than that many on the last "
                f"axis, got shape {h.shape}"
            )
        if self._passthrough == "first":
            return h[..., : self._num_passthrough], h[..., self._num_passthrough :]
        return h[..., -self._num_passthrough :], h[..., : -self._num_passthrough]

    def _join(self, passed, shifted):
        return tf.concat([passed, shifted] if self._passthrough == "first" else [shifted, passed], axis=-1)

    def _shift(self, passed, shifted, kwargs):
        shift = tf.cast(self._conditioner(passed, **kwargs), shifted.dtype)
        if not shift.shape[-1:].is_compatible_with(shifted.shape[-1:]):
            raise UserError(
                f"the conditioner must return {shifted.shape[-1]} values an example, one for each shifted "
                f"coordinate, got shape {shift.shape}"
            )
        if not self.validate_args:
            return shift
        sizes = tf.shape(shift)[-1], tf.shape(shifted)[-1]
        check = tf.debugging.assert_equal(*sizes, message="the conditioner must return one value a shifted coordinate")
        with tf.control_dependencies([check]):
            return tf.identity(shift)

    def _forward(self, x, **kwargs):
        passed, shifted = self.split(x)
        return self._join(passed, shifted + self._shift(passed, shifted, kwargs))

    def _inverse(self, y, **kwargs):
        passed, shifted = self.split(y)
        return self._join(passed, shifted - self._shift(passed, shifted, kwargs))

    def _forward_log_det_jacobian(self, x, **kwargs):
        return tf.zeros([], x.dtype)


class DiagonalScaling(tfb.Bijector):
    """Diagonal scaling layer (Dinh et al. 2014, section 3.3).

        forward:           y = s * x,   s = exp(log_scale) > 0
        inverse:           x = y / s
        forward log-det:   sum_d log_scale_d
        inverse log-det:   -sum_d log_scale_d

    The factors are numbers, the same for every x.
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
          log_scale: log s, `[D]`, kept by reference; a new trainable variable of zeros when not given.
          max_log_scale: upper bound of log s. On data without noise the likelihood is unbounded and s would
            grow for ever; the bound keeps it finite. No bound when not given.
          dtype: of the new variable; ignored when `log_scale` is given.
          validate_args: as for every TFP bijector.
          name: as for every TFP bijector.

        Raises:
          UserError: `event_size` below 1, or a `log_scale` of another shape.
        """
        parameters = dict(locals())
        check_event_size(event_size)
        with tf.name_scope(name) as name:
            log_scale = parameters["log_scale"] = kept_or_new(
                log_scale, tf.zeros([event_size], dtype), name="log_scale"
            )
            self._unbounded_log_scale = log_scale
            self._max_log_scale = max_log_scale
            super().__init__(
                forward_min_event_ndims=1,
                is_constant_jacobian=True,
                dtype=log_scale.dtype,
                validate_args=validate_args,
                parameters=parameters,
                name=name,
            )

    @classmethod
    def _parameter_properties(cls, dtype):
        return {}

    @property
    def log_scale(self) -> tf.Tensor:
        """Log s, `[D]`, after the bound."""
        log_scale = tf.convert_to_tensor(self._unbounded_log_scale)
        return log_scale if self._max_log_scale is None else tf.minimum(log_scale, self._max_log_scale)

    def assign_log_scale(self, log_scale: tf.Tensor) -> None:
        """Sets log s, `[D]`, cut at `max_log_scale`; for initialisation from data."""
        bound = np.inf if self._max_log_scale is None else self._max_log_scale
        self._unbounded_log_scale.assign(tf.minimum(log_scale, bound))

    def _forward(self, x):
        return check_last_axis(x, self._unbounded_log_scale.shape[0]) * tf.exp(self.log_scale)

    def _inverse(self, y):
        return check_last_axis(y, self._unbounded_log_scale.shape[0]) * tf.exp(-self.log_scale)

    def _forward_log_det_jacobian(self, x):
        return tf.reduce_sum(self.log_scale)


def kept_or_new(
    value: tf.Tensor | tf.Variable | None, initial: tf.Tensor, *, name: str, trainable: bool = True
) -> tf.Tensor | tf.Variable:
    """A layer's parameter: what is given, by reference, or a new variable that starts at `initial`.

    A layer keeps the result in its `parameters`, so that its copies share the variable as those of TFP's own do.

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
    """Looks whether a layer or a prior may be of this size.

    Raises:
      UserError: it is below 1.
    """
    if event_size < 1:
        raise UserError(f"event_size must be at least 1, got {event_size}")


def check_last_axis(x: tf.Tensor, event_size: int) -> tf.Tensor:
    """x, unless its events are of another size, which would be broadcast in silence.

    Raises:
      UserError: the last axis of x is known and not `event_size` long; where it is not known before the run,
        `InvalidArgumentError` in the run.
    """
    if not x.shape[-1:].is_compatible_with([event_size]):
        raise UserError(f"the last axis must have {event_size} values, got shape {x.shape}")
    if x.shape[-1:].is_fully_defined():
        return x
    return tf.reshape(x, tf.concat([tf.shape(x)[:-1], [event_size]], axis=0))


def _check_variables_can_be_seen(conditioner):
    # By what it lacks, not by its class: this file knows no Keras.
    if hasattr(type(conditioner), "trainable_variables") and not isinstance(conditioner, tf.Module):
        raise UserError(
            f"the conditioner is a {type(conditioner).__module__}.{type(conditioner).__name__}, which has variables "
            "and is no tf.Module: TensorFlow Probability would neither train nor save them. Use a layer or model of "
            "tf_keras (Keras 2) in place of one of Keras 3, nice_tf.MLP, or a tf.Module that holds tf.Variables"
        )


def coupling_splits(
    event_shape: Sequence[int], num_couplings: int, *, partition: str, mixing: str, seed: int = 0
) -> list[tuple[np.ndarray, str]]:
    """In which order each coupling reads the coordinates, and which side it passes on.

    `interleaved` puts the coordinates of even position (0, 2, 4...) first and those of odd position second; `halves`
    leaves them as they stand; `checkerboard` puts those first whose row and column add up to an even number, with all
    their channels (but for the last of them where rows and columns are both odd in number: the halves stay equal).
    Position means the place in data order for the first coupling. Then, from coupling to coupling,

      `swap`     keeps the order, and the two sides change roles;
      `reverse`  turns the positions round, and always passes the first side;
      `shuffle`  lets the sides change roles, and draws new positions for every second coupling, so that each pair of
                 couplings shifts every coordinate once.

    Args:
      event_shape: of one example; D is its product.
      num_couplings: K.
      partition: one of `PARTITIONS`.
      mixing: one of `MIXINGS`.
      seed: of the permutations of `shuffle`.

    Returns:
      K pairs (order, passthrough): the i-th coordinate coupling k reads is coordinate `order[i]` of x.

    Raises:
      UserError: an unknown partition or mixing, or a checkerboard of what has no rows and columns.
    """
    if partition not in PARTITIONS:
        raise UserError(f"partition must be one of {', '.join(PARTITIONS)}, got {partition!r}")
    if mixing not in MIXINGS:
        raise UserError(f"mixing must be one of {', '.join(MIXINGS)}, got {mixing!r}")
    if partition == "checkerboard" and len(event_shape) < 2:
        raise UserError(f"partition 'checkerboard' needs rows and columns, got event shape {list(event_shape)}")
    event_size = int(np.prod(event_shape))
    positions = np.arange(event_size)
    if partition == "checkerboard":
        row, column, *_ = np.indices(event_shape)
        split = np.argsort((row + column).ravel() % 2, kind="stable")
    else:
        split = np.argsort(positions % 2, kind="stable") if partition == "interleaved" else positions
    generator = np.random.default_rng(seed)
    splits = []
    for k in range(num_couplings):
        if mixing == "shuffle" and k > 0 and k % 2 == 0:
            positions = generator.permutation(event_size)
        passthrough = "first" if mixing == "reverse" or k % 2 == 0 else "second"
        splits.append((positions[split], passthrough))
        if mixing == "reverse":
            positions = positions[::-1]
    return splits


def reorder(current: Sequence[int] | np.ndarray, wanted: Sequence[int] | np.ndarray) -> list[tfb.Bijector]:
    """The step from one order of coordinates to another: one `tfb.Permute`, or nothing when they agree."""
    permutation = np.argsort(current)[wanted]
    if np.array_equal(permutation, np.arange(len(permutation))):
        return []
    return [tfb.Permute(permutation.astype(np.int32), axis=-1)]
