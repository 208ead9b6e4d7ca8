"""What the signatures' graphs share: checks that run in them, answers for strict readers, draws by
row.
"""

import numpy as np
import tensorflow as tf

_SEEDS_PER_TURN = 4


def require(value: tf.Tensor, condition: tf.Tensor, message: str) -> tf.Tensor:
    """`value`, once `condition` was seen to hold: what is computed from it waits for the check."""
    with tf.control_dependencies([tf.debugging.Assert(condition, [message])]):
        return tf.identity(value)


def checked(value: tf.Tensor, shape: list[int | None], name: str, max_batch: int = 0) -> tf.Tensor:
    """A batch of this shape, not empty and finite, or an InvalidArgument error.

    Args:
      value: the batch.
      shape: that it must have.
      name: of the input, for the message.
      max_batch: rows at most; 0 for any number.
    """
    value = tf.ensure_shape(value, shape, name=name)
    num_rows = tf.shape(value)[0]
    value = require(
        value, num_rows > 0, f"{name} must hold at least one example: the batch is empty"
    )
    if max_batch:
        rule = f"{name} must hold at most {max_batch} examples per request: send several"
        value = require(value, num_rows <= max_batch, rule)
    if not value.dtype.is_floating:
        return value
    is_finite = tf.reduce_all(tf.math.is_finite(value))
    return require(value, is_finite, f"{name} must be finite: it holds NaN or infinity")


def checked_rows(value: tf.Tensor, num_rows: tf.Tensor, message: str) -> tf.Tensor:
    """`value`, which must have so many rows, or an InvalidArgument error with this message."""
    return require(value, tf.equal(tf.shape(value)[0], num_rows), message)


def checked_temperature(temperature: tf.Tensor) -> tf.Tensor:
    """Temperatures, or an InvalidArgument error."""
    valid = tf.reduce_all((temperature > 0) & tf.math.is_finite(temperature))
    return require(temperature, valid, "temperature must be finite and above 0")


def finite(value: tf.Tensor, dtype: tf.DType = tf.float32) -> tf.Tensor:
    """For strict JSON readers: what overflows becomes the largest number, NaN the lowest."""
    value = tf.where(tf.math.is_nan(value), value.dtype.min, value)
    return tf.cast(tf.clip_by_value(value, dtype.min, dtype.max), dtype)


def in_blocks(ascending: np.ndarray) -> np.ndarray:
    """Ascending numbers `[N]` in about as many blocks as a block has numbers, for `num_below`."""
    size = int(np.ceil(np.sqrt(len(ascending) + 1)))
    blocks = np.full(size * size, np.inf)
    blocks[: len(ascending)] = ascending
    return np.reshape(blocks, [size, size])


def num_below(blocks: tf.Tensor, values: tf.Tensor) -> tf.Tensor:
    """How many of the numbers in blocks are below each value, `[B]` to int32 `[B]`.

    `tf.searchsorted` for finite values by operators that LiteRT has as well: blocks that lie below
    as a whole are counted, then the numbers of the next one.
    """

    def count(numbers):
        return tf.reduce_sum(tf.cast(numbers < values[:, tf.newaxis], tf.int32), axis=1)

    num_whole = count(blocks[tf.newaxis, :, -1])
    return num_whole * tf.shape(blocks)[1] + count(tf.gather(blocks, num_whole))


def uniform_rows(seeds: tf.Tensor, size: int) -> tf.Tensor:
    """Uniform numbers `[N, size]`, each row of its own seed."""

    def uniform(seed):
        # The two operations behind tf.random.stateless_uniform, without its arithmetic on each row:
        # the loop over rows is what a large batch pays for. A named algorithm: the automatic one
        # differs between devices.
        key, counter = tf.raw_ops.StatelessRandomGetKeyCounter(seed=seed)
        return tf.raw_ops.StatelessRandomUniformV2(
            shape=[size], key=key, counter=counter, alg=tf.random.Algorithm.PHILOX.value
        )

    def turn(seeds_of_turn):
        return tf.stack([uniform(seed) for seed in tf.unstack(seeds_of_turn)])

    # A few rows in each turn of the loop, and one turn at a time: what moves a loop on costs more
    # than a row.
    num_rows = tf.shape(seeds)[0]
    padded = tf.pad(seeds, [[0, -num_rows % _SEEDS_PER_TURN], [0, 0]])
    u = tf.map_fn(
        turn,
        tf.reshape(padded, [-1, _SEEDS_PER_TURN, 2]),
        fn_output_signature=tf.TensorSpec([_SEEDS_PER_TURN, size], tf.float32),
        parallel_iterations=1,
    )
    return tf.gather(tf.reshape(u, [-1, size]), tf.range(num_rows))
