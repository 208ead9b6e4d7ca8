"""Training pictures, moved a little or mirrored."""

import numpy as np
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


def mirror_images(values: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Mirrors each picture left to right with probability 1/2.

    Args:
      values: `[B, height, width, channels]`.
      seed: stateless seed, int32 `[2]`.

    Returns:
      The pictures, of the shape and type of `values`.
    """
    draws = tf.random.stateless_uniform([tf.shape(values)[0], 1, 1, 1], seed)
    return tf.where(draws < 0.5, mirrored(values), values)


def mirrored(values: tf.Tensor | np.ndarray) -> tf.Tensor | np.ndarray:
    """Pictures `[B, height, width, channels]`, left to right."""
    return values[:, :, ::-1]
