"""What the layers are as matrices, as far as they are linear."""

import tensorflow as tf
import tensorflow_probability as tfp

from nice_tf.bijectors.parameters import Layer

tfb = tfp.bijectors


def deviations_before(layer: tfb.Bijector, sigma: tf.Tensor) -> tf.Tensor:
    """How much each input of a layer varies when all others are known, by that of the outputs,
    `[D]`: through its matrix where it has one.
    """
    if isinstance(layer, Layer):
        return layer.deviations_before(sigma)
    if isinstance(layer, tfb.Permute):
        return layer.inverse(sigma)
    if isinstance(layer, tfb.Scale):
        return tf.abs(sigma / layer.scale)
    matrix = _matrix(layer, sigma)
    if matrix is None:
        return sigma
    return tf.math.rsqrt(tf.reduce_sum((matrix / sigma[:, tf.newaxis]) ** 2, axis=0))


def times_linear_part(layer: tfb.Bijector, matrix: tf.Tensor) -> tf.Tensor:
    """What a layer multiplies x by, times a matrix `[D, D]`; what is not linear leaves it."""
    if isinstance(layer, Layer):
        return layer.times_linear_part(matrix)
    if isinstance(layer, tfb.Permute):
        return tf.linalg.matrix_transpose(layer.forward(tf.linalg.matrix_transpose(matrix)))
    if isinstance(layer, tfb.Scale):
        return matrix * layer.scale
    own = _matrix(layer, matrix[0])
    if own is None:
        return matrix
    return tf.matmul(own, matrix)


def mixes(layer: tfb.Bijector) -> bool:
    """Whether a layer makes one value of several by a matrix."""
    if isinstance(layer, Layer):
        return layer.mixes_linearly
    return _is_matrix(layer) and not isinstance(layer, tfb.Permute | tfb.Scale | tfb.Shift)


def _matrix(layer, like):
    """The matrix of a layer that is not of this package, `[D, D]`; `None` where it has none."""
    if not _is_matrix(layer):
        return None
    size = like.shape[0]
    zero = tf.zeros([1, size], like.dtype)
    rows = layer.forward(tf.eye(size, dtype=like.dtype)) - layer.forward(zero)
    return tf.linalg.matrix_transpose(rows)


def _is_matrix(layer):
    # TFP calls affine maps so. A reshape is one, too, and leaves the coordinates in their order.
    return layer.is_constant_jacobian and not isinstance(layer, tfb.Reshape)
