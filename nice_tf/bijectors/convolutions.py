"""A convolutional m for the couplings of pictures."""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from nice_tf.bijectors.networks import Network, from_rows, scaled, to_rows, with_context
from nice_tf.errors import UserError, check_count

# Pixels on a side of a block: the period of a checkerboard and of every second row.
BLOCK_SIZE = 2


@dataclasses.dataclass(frozen=True)
class Grid:
    """Where the coordinates of one coupling lie on its picture.

    Only rows and columns count that hold a coordinate which is seen or shifted: the coarse
    couplings of a nested partition have a small picture of their own. It is cut into blocks of
    2 x 2 pixels, and each value of a block is a channel (space to depth), so that a checkerboard
    is the same in every block.

    Attributes:
      source: which of the seen coordinates each channel of each block holds, `[rows, columns,
        num_in]`; `num_seen`, one past the last, where it holds none.
      target: the place of each shifted coordinate among all channels of all blocks, flattened from
        `[rows, columns, num_out]`, `[num_shifted]`.
      num_seen: how many coordinates are seen.
      num_out: how many channels hold a shifted coordinate in some block.
    """

    source: np.ndarray
    target: np.ndarray
    num_seen: int
    num_out: int

    @property
    def size(self) -> tuple[int, int]:
        """Rows and columns of blocks."""
        rows, columns, _ = self.source.shape
        return rows, columns

    @property
    def num_in(self) -> int:
        """How many channels hold a seen coordinate in some block."""
        return self.source.shape[-1]


def make_grid(event_shape: Sequence[int], seen: np.ndarray, shifted: np.ndarray) -> Grid:
    """The grid of a coupling.

    Args:
      event_shape: rows, columns and perhaps channels of a picture.
      seen: the coordinates of the flattened picture that m sees, `[num_seen]`.
      shifted: those that m shifts, `[num_shifted]`.

    Raises:
      UserError: the data are no pictures.
    """
    if len(event_shape) not in (2, 3):
        raise UserError(
            "a convolution needs pictures of rows, columns and perhaps channels, got event shape "
            f"{list(event_shape)}"
        )
    row, column, *rest = np.unravel_index(np.concatenate([seen, shifted]), event_shape)
    _, row = np.unique(row, return_inverse=True)
    _, column = np.unique(column, return_inverse=True)
    num_rows = row.max() // BLOCK_SIZE + 1
    num_columns = column.max() // BLOCK_SIZE + 1
    block = (row // BLOCK_SIZE) * num_columns + column // BLOCK_SIZE
    place = (row % BLOCK_SIZE) * BLOCK_SIZE + column % BLOCK_SIZE
    if rest:
        place = place * event_shape[2] + rest[0]
    num_seen = len(seen)
    # Only places of a block that hold a coordinate somewhere become channels.
    used_in, channel_in = np.unique(place[:num_seen], return_inverse=True)
    used_out, channel_out = np.unique(place[num_seen:], return_inverse=True)
    source = np.full([num_rows * num_columns, len(used_in)], num_seen, np.int32)
    source[block[:num_seen], channel_in] = np.arange(num_seen)
    target = block[num_seen:] * len(used_out) + channel_out
    return Grid(
        source.reshape(num_rows, num_columns, -1),
        target.astype(np.int32),
        num_seen,
        len(used_out),
    )


def count_convolution(
    grid: Grid, channels: int, num_blocks: int, kernel_size: int, context_size: int
) -> int:
    """How many numbers a `ConvNet` of these arguments trains."""
    number = np.prod(grid.size) * channels + context_size * channels
    for num_in, num_out in _layer_sizes(grid, channels, num_blocks):
        number += (kernel_size**2 * num_in + 1) * num_out
    return int(number)


def _layer_sizes(grid, channels, num_blocks):
    """Channels before and after each convolution."""
    inner = [(channels, channels)] * (2 * num_blocks)
    return [(2 * grid.num_in, channels), *inner, (channels, grid.num_out)]


class ConvNet(Network):
    """Residual convolutional network on the grid of a coupling, with a linear output.

        h_0 = conv(seen, mask) + places
        h_k = h_{k-1} + conv(activation(conv(activation(h_{k-1}))))        k = 1..num_blocks
        m   = conv(activation(h_num_blocks))

    The seen coordinates stand at their blocks of the picture, zero where one is hidden or outside,
    with a mask of 1 where one is seen. All convolutions have stride 1, zeros around the picture
    and a bias; their weights are the same at every block. `places`, one trained value per block and
    channel, starts at zero: behind marginals the shift of a pixel depends on where it lies, since
    each pixel has a distribution function of its own. Without it m is equivariant: what moves by a
    block moves the shifts by a block, as far as the border is not seen.

    Dinh et al. 2014 use fully connected networks alone; masks of a checkerboard with convolutions
    are those of Dinh et al. 2017 (Real NVP), section 3.4.
    """

    def __init__(
        self,
        event_shape: Sequence[int],
        seen: np.ndarray,
        shifted: np.ndarray,
        *,
        channels: int = 48,
        num_blocks: int = 2,
        kernel_size: int = 3,
        has_places: bool = True,
        activation: str | Callable[[tf.Tensor], tf.Tensor] = "relu",
        dropout: float = 0.0,
        context_size: int = 0,
        init_range: float | None = None,
        zero_last_layer: bool = True,
        has_output_scale: bool = False,
        dtype: tf.DType = tf.float32,
        compute_dtype: tf.DType | None = None,
        seed: int = 0,
        name: str = "conv_net",
    ):
        """Makes the network and its variables.

        Args:
          event_shape: of one picture: rows, columns and perhaps channels.
          seen: the coordinates of the flattened picture that m sees, in their order in its input,
            `[num_seen]`.
          shifted: those that it shifts, in the order of its output, `[num_shifted]`.
          channels: of each hidden layer.
          num_blocks: residual blocks of two convolutions each.
          kernel_size: blocks on a side of each convolution, odd.
          has_places: whether each block of the picture has trained values of its own.
          activation: as for `MLP`.
          dropout: as for `MLP`, of the first convolution of each residual block.
          context_size: as for `MLP`; the context is mapped to `channels` values that are added at
            every block.
          init_range: as for `MLP`.
          zero_last_layer: start with m = 0.
          has_output_scale: as for `MLP`.
          dtype: of variables, input and output.
          compute_dtype: of the convolutions, e.g. `tf.bfloat16`; `dtype` when not given.
          seed: as for `MLP`.
          name: of the module.

        Raises:
          UserError: data that are no pictures, an even kernel size or one larger than the grid of
            the coupling, a number below 1, and as for `MLP`.
        """
        super().__init__(
            activation=activation,
            dropout=dropout,
            context_size=context_size,
            dtype=dtype,
            compute_dtype=compute_dtype,
            seed=seed,
            name=name,
        )
        check_count("channels", channels, 1)
        check_count("num_blocks", num_blocks, 1)
        check_count("kernel_size", kernel_size, 0)
        grid = make_grid(event_shape, seen, shifted)
        if kernel_size % 2 == 0:
            raise UserError(f"kernel_size must be odd and at least 1, got {kernel_size}")
        if kernel_size > min(grid.size):
            raise UserError(
                f"kernel_size {kernel_size} is larger than the picture, which has {grid.size[0]} x "
                f"{grid.size[1]} blocks of {BLOCK_SIZE} x {BLOCK_SIZE} pixels here"
            )
        self._grid = grid
        mask = grid.source < grid.num_seen
        self._mask = mask.astype(np.float32)
        sizes = _layer_sizes(grid, channels, num_blocks)
        kernels = []
        for layer, (num_in, num_out) in enumerate(sizes):
            shape = [kernel_size, kernel_size, num_in, num_out]
            if layer == len(sizes) - 1 and zero_last_layer:
                kernels.append(tf.zeros(shape, dtype))
                continue
            gain = 1.0
            if 0 < layer < len(sizes) - 1 and layer % 2 == 0:
                gain = num_blocks**-0.5  # the sum of all blocks has the variance of one
            kernels.append(self._drawn(shape, layer, init_range, gain))
        context_kernel = None
        if context_size:
            shape = [context_size, channels]
            context_kernel = self._drawn(shape, len(sizes), init_range)
        with self.name_scope:
            self._kernels = tuple(
                tf.Variable(kernel, name=f"kernel_{i}") for i, kernel in enumerate(kernels)
            )
            self._biases = tuple(
                tf.Variable(tf.zeros([num_out], dtype), name=f"bias_{i}")
                for i, (_, num_out) in enumerate(sizes)
            )
            self._places = None
            if has_places:
                start = tf.zeros([*grid.size, channels], dtype)
                self._places = tf.Variable(start, name="places")
            self._context_kernel = None
            if context_kernel is not None:
                self._context_kernel = tf.Variable(context_kernel, name="context_kernel")
            if has_output_scale:
                self._make_output_scale(len(grid.target))

    def __call__(
        self,
        x: tf.Tensor,
        *,
        context: tf.Tensor | None = None,
        dropout_seed: tf.Tensor | None = None,
    ) -> tf.Tensor:
        """Maps `[..., num_seen]` to `[..., num_shifted]`; arguments and errors as for `MLP`."""
        num_seen = self._grid.num_seen
        rows = to_rows(with_context(x, context, self._context_size), num_seen + self._context_size)
        h = self._convolved(self._on_grid(rows[:, :num_seen]), 0)
        if self._places is not None:
            h += tf.cast(self._places, self.compute_dtype)
        if self._context_kernel is not None:
            of_context = tf.matmul(rows[:, num_seen:], self._context_kernel)
            h += tf.cast(of_context, self.compute_dtype)[:, tf.newaxis, tf.newaxis, :]
        for layer in range(1, len(self._kernels) - 1, 2):
            inner = self._convolved(self._activation(h), layer)
            inner = self._dropped(self._activation(inner), layer, dropout_seed)
            h += self._convolved(inner, layer + 1)
        last = self._convolved(self._activation(h), len(self._kernels) - 1)
        flat = tf.reshape(last, [-1, np.prod(self._grid.size) * self._grid.num_out])
        shifts = tf.gather(flat, self._grid.target, axis=-1)
        return from_rows(scaled(shifts, self._output_scale, self.dtype), x, len(self._grid.target))

    def _on_grid(self, seen):
        """Seen coordinates `[N, num_seen]` as `[N, rows, columns, 2 * num_in]`, with the mask."""
        padded = tf.pad(tf.cast(seen, self.compute_dtype), [[0, 0], [0, 1]])
        values = tf.gather(padded, self._grid.source.ravel(), axis=-1)
        values = tf.reshape(values, [-1, *self._grid.source.shape])
        mask = tf.cast(self._mask, self.compute_dtype)
        return tf.concat([values, tf.broadcast_to(mask, tf.shape(values))], axis=-1)

    def _convolved(self, h, layer):
        kernel = tf.cast(self._kernels[layer], self.compute_dtype)
        bias = tf.cast(self._biases[layer], self.compute_dtype)
        return tf.nn.bias_add(tf.nn.conv2d(h, kernel, strides=1, padding="SAME"), bias)
