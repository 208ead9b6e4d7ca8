"""Training pictures, moved a little."""

import tensorflow as tf


def shift_images(values: tf.Tensor, max_shift: tf.Tensor | int, seed: tf.Tensor) -> tf.Tensor:
    """Moves each picture by a number of pixels of its own, rows and columns alike; what comes in
    has the value 0.

    Args:
      values: `[B, height, width, channels]`.
      max_shift: largest move in either direction; moves are uniform on -max_shift..max_shift.
      seed: stateless seed, int32 `[2]`.

    Returns:
      The moved pictures, of the shape and type of `values`.
    """
    size = tf.shape(values)[0]
    height = values.shape[1]
    width = values.shape[2]
    moves = tf.random.stateless_uniform([size, 2], seed, -max_shift, max_shift + 1, tf.int32)
    padded = tf.pad(values, [[0, 0], [max_shift] * 2, [max_shift] * 2, [0, 0]])
    rows = tf.range(height) + max_shift - moves[:, :1]
    columns = tf.range(width) + max_shift - moves[:, 1:]
    return tf.gather(tf.gather(padded, rows, axis=1, batch_dims=1), columns, axis=2, batch_dims=1)
