"""The layers of NICE as TFP bijectors, `forward` being the paper's direction: data to latent.

All act on the last axis, whatever the batch shape. Coordinates are split by fixed permutations
(`coupling_splits`, applied with `tfb.Permute`), so that a coupling always cuts one contiguous axis
in two.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from nice_tf.bijectors.parameters import Layer
from nice_tf.bijectors.unseen import warn_of_unseen
from nice_tf.choices import MIXINGS, PARTITIONS
from nice_tf.errors import UserError, check_choice, check_count

tfb = tfp.bijectors

# What a coupling does with a coordinate; 0 for neither.
_SEEN = 1
_SHIFTED = 2


class AdditiveCoupling(Layer):
    """Additive coupling layer (Dinh et al. 2014, section 3.2).

    One part of the coordinates is passed on unchanged, the other part is shifted by a function m of
    the first:

        forward:           y_passed = x_passed,   y_shifted = x_shifted + m(x_passed)
        inverse:           x_passed = y_passed,   x_shifted = y_shifted - m(y_passed)
        forward log-det:   0
        inverse log-det:   0

    Both directions evaluate the same m on the same bits, so the inverse is exact to the rounding of
    one addition, whatever m is and however coarsely it is computed.

    Examples:
      >>> import nice_tf
      >>> layer = nice_tf.AdditiveCoupling(lambda passed: 10.0 * passed, num_passthrough=1)
      >>> layer.forward([1.0, 2.0]).numpy()
      array([ 1., 12.], dtype=float32)
      >>> layer.inverse([1.0, 12.0]).numpy()
      array([1., 2.], dtype=float32)
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
          conditioner: m, maps `[..., num_passthrough]` to `[..., D - num_passthrough]`. Its
            variables are tracked when it is a `tf.Module`, such as `nice_tf.MLP` or a layer of
            `tf_keras`, once they are built. It gets the keywords that `forward` and `inverse` are
            called with, or that TFP passes on to a bijector of this name. Its `dtype`, if it has
            one, is that of the layer.
          num_passthrough: how many coordinates are passed on unchanged, at least 1 and at most D -
            1.
          passthrough: `"first"` passes the first `num_passthrough` coordinates and shifts the rest,
            `"second"` passes the last `num_passthrough` and shifts those before them.
          validate_args: check also in the run, where the size of the event is not known before,
            that m returns one value per shifted coordinate.
          name: as for every TFP bijector.

        Raises:
          UserError: a value out of these bounds, or a conditioner whose variables would not be
            tracked.
        """
        arguments = dict(locals())
        _check_variables_can_be_seen(conditioner)
        check_count("num_passthrough", num_passthrough, 1)
        if passthrough not in ("first", "second"):
            raise UserError(f"passthrough must be 'first' or 'second', got {passthrough!r}")
        # Its determinant is constant, the matrix is not: TFP would take the layer for an affine
        # one.
        super().__init__(
            arguments, is_constant_jacobian=False, dtype=getattr(conditioner, "dtype", None)
        )
        self._conditioner = conditioner
        self._num_passthrough = num_passthrough
        self._passthrough = passthrough

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

    def fit(self, x: tf.Tensor) -> None:
        """Sets the output scale of an m that has one to the deviations of what it shifts in
        examples, `[N, D]`.
        """
        conditioner: Any = self._conditioner
        if not getattr(conditioner, "has_output_scale", False):
            return
        deviation = tf.math.reduce_std(self.split(x)[1], axis=0)
        is_scale = (deviation > 0) & tf.math.is_finite(deviation)  # not of a constant coordinate
        conditioner.assign_output_scale(tf.where(is_scale, deviation, 1))

    def split(self, h: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """`[..., D]` to its two parts, (passed, shifted).

        Raises:
          UserError: an event without any coordinate to shift.
        """
        size = 0
        if h.shape.rank != 0:
            size = h.shape[-1]
        if size is not None and size <= self._num_passthrough:
            raise UserError(
                f"a coupling that passes {self._num_passthrough} coordinates needs more than that "
                f"many on the last axis, got shape {h.shape}"
            )
        if self._passthrough == "first":
            return h[..., : self._num_passthrough], h[..., self._num_passthrough :]
        return h[..., -self._num_passthrough :], h[..., : -self._num_passthrough]

    def _join(self, passed, shifted):
        if self._passthrough == "first":
            return tf.concat([passed, shifted], axis=-1)
        return tf.concat([shifted, passed], axis=-1)

    def _shift(self, passed, shifted, kwargs):
        # A chain hands on what is under a layer's name; alone, the layer gets the name as well.
        kwargs = kwargs.get(self.name, kwargs)
        warn_of_unseen(self.trainable_variables)
        shift = tf.cast(self._conditioner(passed, **kwargs), shifted.dtype)
        if not shift.shape[-1:].is_compatible_with(shifted.shape[-1:]):
            raise UserError(
                f"the conditioner must return {shifted.shape[-1]} values per example, one for each "
                f"shifted coordinate, got shape {shift.shape}"
            )
        if not self.validate_args:
            return shift
        sizes = tf.shape(shift)[-1], tf.shape(shifted)[-1]
        check = tf.debugging.assert_equal(
            *sizes, message="the conditioner must return one value per shifted coordinate"
        )
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


def _check_variables_can_be_seen(conditioner):
    # By what it lacks, not by its class: this file knows no Keras.
    if hasattr(type(conditioner), "trainable_variables") and not isinstance(conditioner, tf.Module):
        raise UserError(
            f"the conditioner is a {type(conditioner).__module__}.{type(conditioner).__name__}, "
            "which has variables and is no tf.Module: TensorFlow Probability would neither train "
            "nor save them. Use a layer or model of tf_keras (Keras 2) instead of one of Keras 3, "
            "nice_tf.MLP, or a tf.Module that holds tf.Variables"
        )


@dataclasses.dataclass(frozen=True)
class Split:
    """What one coupling does with the coordinates.

    Attributes:
      order: the i-th coordinate that it reads is coordinate `order[i]` of x, `[D]`.
      passthrough: which side it passes on, `"first"` or `"second"`.
      num_passthrough: how many coordinates that side has.
      num_seen: m sees the first so many of them.
    """

    order: np.ndarray
    passthrough: str
    num_passthrough: int
    num_seen: int

    @property
    def passed(self) -> np.ndarray:
        """The coordinates of x that are passed on, as m gets them."""
        if self.passthrough == "first":
            return self.order[: self.num_passthrough]
        return self.order[-self.num_passthrough :]

    @property
    def shifted(self) -> np.ndarray:
        """The coordinates of x that are shifted."""
        if self.passthrough == "first":
            return self.order[self.num_passthrough :]
        return self.order[: -self.num_passthrough]

    @property
    def seen(self) -> np.ndarray:
        """The coordinates of x that the shift depends on."""
        return self.passed[: self.num_seen]


def coupling_splits(
    event_shape: Sequence[int], num_couplings: int, *, partition: str, mixing: str, seed: int = 0
) -> list[Split]:
    """In which order each coupling reads the coordinates, and which side it passes on.

    `interleaved` puts the coordinates of even position (0, 2, 4...) first and those of odd position
    second; `halves` leaves them as they stand; `checkerboard` puts those first whose row and column
    add up to an even number, with all their channels (except the last of them where rows and
    columns are both odd in number: the halves stay equal); `checkerboard_channels` turns the board
    round from one channel to the next, so that each value is shifted by what the other channels of
    its pixel say, too. Position means the place in data order for the first coupling. Then, from
    coupling to coupling,

      `swap`     keeps the order, and the two sides change roles;
      `reverse`  turns the positions round, and always passes the first side;
      `shuffle`  lets the sides change roles, and draws new positions for every second coupling, so
                 that each pair of couplings shifts every coordinate once.

    `nested` has no mixing: each coupling shifts about half of what none has shifted yet, given all
    the rest of it. Of vectors every second coordinate; of pictures the odd fields of a
    checkerboard, then every second row of the even ones, then the same on the grid of every second
    row and column that is left: 392, 196, 98, 49... of 28 x 28. Of pictures in colour these fields
    are shifted by one channel after another, the last channel first, because the channels of a
    pixel say more of each other than its neighbours do: 512, 512, 512, 256... of 32 x 32 x 3. What
    the last coupling leaves is not shifted.

    Args:
      event_shape: of one example; D is its product.
      num_couplings: K.
      partition: one of `PARTITIONS`.
      mixing: one of `MIXINGS`; with `nested` the default, `swap`.
      seed: of the permutations of `shuffle`.

    Returns:
      K splits.

    Raises:
      UserError: an unknown partition or mixing, a checkerboard of what has no rows and columns, or
        more nested couplings than there are halves.
    """
    check_choice("partition", partition, PARTITIONS)
    check_choice("mixing", mixing, MIXINGS)
    if partition.startswith("checkerboard") and len(event_shape) < 2:
        raise UserError(
            f"partition {partition!r} needs rows and columns, got event shape {list(event_shape)}"
        )
    if partition == "nested":
        return _nested_splits(event_shape, num_couplings, mixing)
    event_size = int(np.prod(event_shape))
    positions = np.arange(event_size)
    split = positions
    if partition.startswith("checkerboard"):
        row, column, *channel = np.indices(event_shape)
        place = row + column
        if partition == "checkerboard_channels":
            place = place + sum(channel)
        split = np.argsort(place.ravel() % 2, kind="stable")
    elif partition == "interleaved":
        split = np.argsort(positions % 2, kind="stable")
    generator = np.random.default_rng(seed)
    splits = []
    for k in range(num_couplings):
        if mixing == "shuffle" and k > 0 and k % 2 == 0:
            positions = generator.permutation(event_size)
        passthrough = "first"
        if mixing != "reverse" and k % 2 == 1:
            passthrough = "second"
        size = size_of_half(event_size, passthrough)
        splits.append(Split(positions[split], passthrough, size, size))
        if mixing == "reverse":
            positions = positions[::-1]
    return splits


def _nested_splits(event_shape, num_couplings, mixing):
    if mixing != "swap":
        raise UserError(f"partition 'nested' has no mixing: leave it at 'swap', got {mixing!r}")
    parts = _nested_parts(event_shape)
    if num_couplings > len(parts):
        raise UserError(
            f"partition 'nested' of event shape {list(event_shape)} has at most {len(parts)} "
            f"couplings, as each shifts half of the rest, got num_couplings {num_couplings}"
        )
    rest = np.arange(int(np.prod(event_shape)))
    done = np.zeros(0, int)
    splits = []
    for shifted in parts[:num_couplings]:
        rest = np.setdiff1d(rest, shifted)
        order = np.concatenate([rest, done, shifted])
        splits.append(Split(order, "first", len(rest) + len(done), len(rest)))
        done = np.concatenate([done, shifted])
    return splits


def _nested_parts(event_shape):
    """The coordinates that each coupling shifts, until one is left."""
    rest = np.arange(int(np.prod(event_shape)))
    parts = []
    if len(event_shape) >= 2:
        row, column, *channels = (index.ravel() for index in np.indices(event_shape))
        grid = 1
        while grid < max(event_shape[:2]):
            for place in (row // grid + column // grid, row // grid):
                is_odd = place[rest] % 2 == 1
                if is_odd.any() and not is_odd.all():
                    parts.extend(_by_channel(rest[is_odd], channels))
                    rest = rest[~is_odd]
            grid *= 2
    while len(rest) > 1:
        parts.append(rest[1::2])
        rest = rest[::2]
    return parts


def _by_channel(fields, channels):
    """The coordinates of some fields of a picture in parts of one channel each, the last first."""
    if not channels:
        return [fields]
    channel = channels[-1][fields]
    parts = []
    for number in reversed(np.unique(channel)):
        parts.append(fields[channel == number])
    return parts


def reorder(
    current: Sequence[int] | np.ndarray, wanted: Sequence[int] | np.ndarray
) -> list[tfb.Bijector]:
    """The step from one order of coordinates to another: one `tfb.Permute`, or nothing when they
    agree.
    """
    permutation = np.argsort(current)[wanted]
    if np.array_equal(permutation, np.arange(len(permutation))):
        return []
    return [tfb.Permute(permutation.astype(np.int32), axis=-1)]


def size_of_half(event_size: int, passthrough: str) -> int:
    """How many coordinates a coupling of equal halves passes on: of an odd number the first half
    has one more.
    """
    size_first = (event_size + 1) // 2
    if passthrough == "first":
        return size_first
    return event_size - size_first


def num_cut_off(splits: Sequence[Split]) -> int:
    """How many pairs (z_i, x_j) there are in which z_i can never depend on x_j, whatever the
    networks are.

    Args:
      splits: of `coupling_splits`.
    """
    roles = np.zeros([len(splits), len(splits[0].order)], int)  # by coupling and coordinate
    for k, split in enumerate(splits):
        roles[k, split.seen] = _SEEN
        roles[k, split.shifted] = _SHIFTED
    # Coordinates that are always seen and shifted together depend on the same others: followed as
    # one class.
    classes, sizes = np.unique(roles, axis=1, return_counts=True)
    depends = np.zeros(
        [len(sizes)] * 2, bool
    )  # a coordinate of the row's class on every other of the column's
    for role in classes:
        is_seen = role == _SEEN
        depends[role == _SHIFTED] |= depends[is_seen].any(axis=0) | is_seen
    pairs = np.outer(sizes, sizes) - np.diag(sizes)  # itself is a coordinate's own, always
    return int(np.sum(pairs[~depends]))


def check_mixing(splits: Sequence[Split], partition: str, mixing: str) -> None:
    """Checks that every coordinate of z can depend on every one of x.

    `nested`, which factorises the density from coarse to fine, only has to tie each pair, directly
    or by a chain. Its first coupling sees to that: it ties each coordinate that it shifts to all
    others. What the last one leaves is independent of each other.

    Args:
      splits: of `coupling_splits`.
      partition: they were made with, for the message.
      mixing: as `partition`.

    Raises:
      UserError: some pair is cut off.
    """
    if partition == "nested":
        return
    cut_off = num_cut_off(splits)
    if cut_off:
        event_size = len(splits[0].order)
        raise UserError(
            f"{len(splits)} couplings with mixing {mixing!r}, partition {partition!r} and D = "
            f"{event_size} leave {cut_off} of {event_size**2} pairs (z_i, x_j) cut off: some z can "
            "never depend on some x. Use at least 3 couplings (4 with 'shuffle'), and not "
            "'reverse' on odd D; allow_incomplete_mixing builds it all the same"
        )
