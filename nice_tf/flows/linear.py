"""What the layers are as matrices, as far as they are linear."""

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from nice_tf.bijectors.parameters import Layer
from nice_tf.errors import UserError
from nice_tf.flows import kinds
from nice_tf.flows.density import layers

tfb = tfp.bijectors
tfd = tfp.distributions

# Pairs of points by which a layer of TFP shows that it is a matrix.
_NUM_PROBES = 8


class Placed:
    """A layer of a flow where it stands: its matrix is of the values in the order of its input."""

    def __init__(self, layer: tfb.Bijector, shape: tf.TensorShape, dtype: tf.DType):
        """Takes a layer, the event shape before it, and the dtype of the flow."""
        self._layer = layer
        self._shape = shape
        self._dtype = dtype
        self._is_vector = shape.rank == 1
        self._is_matrix = not isinstance(layer, Layer) and self._acts_as_matrix()

    @property
    def mixes(self) -> bool:
        """Whether the layer makes one value of several by a matrix."""
        if isinstance(self._layer, Layer):
            return self._layer.mixes_linearly
        return self._is_matrix and not isinstance(self._layer, tfb.Permute | tfb.Scale | tfb.Shift)

    def deviations_before(self, sigma: tf.Tensor) -> tf.Tensor:
        """How much each input varies when all others are known, by that of the outputs, `[D]`:
        through the matrix where there is one.
        """
        layer = self._layer
        if isinstance(layer, Layer):
            return layer.deviations_before(sigma)
        if isinstance(layer, tfb.Permute) and self._is_vector:
            return layer.inverse(sigma)
        if isinstance(layer, tfb.Scale) and self._is_vector:
            return tf.abs(sigma / layer.scale)
        if not self._is_matrix:
            return sigma
        scaled = self._matrix() / sigma[:, tf.newaxis]
        return tf.math.rsqrt(tf.reduce_sum(scaled**2, axis=0))

    def times_linear_part(self, matrix: tf.Tensor) -> tf.Tensor:
        """What the layer multiplies x by, times a matrix `[D, D]`; what is not linear leaves it."""
        layer = self._layer
        if isinstance(layer, Layer):
            return layer.times_linear_part(matrix)
        if isinstance(layer, tfb.Permute) and self._is_vector:
            return tf.linalg.matrix_transpose(layer.forward(tf.linalg.matrix_transpose(matrix)))
        if isinstance(layer, tfb.Scale) and self._is_vector:
            return matrix * tf.reshape(layer.scale, [-1, 1])
        if not self._is_matrix:
            return matrix
        return tf.matmul(self._matrix(), matrix)

    def _acts_as_matrix(self):
        layer = self._layer
        # A reshape is linear, too, and leaves the values in their order.
        if not layer.is_constant_jacobian or isinstance(layer, tfb.Reshape):
            return False
        if isinstance(layer, kinds.Invert) and isinstance(layer.bijector, tfb.Reshape):
            return False
        if isinstance(layer, tfb.Permute | tfb.Scale | tfb.Shift):
            return True
        # TFP says so of additive couplings, too, of which only the determinant is constant.
        with tf.init_scope():
            return self._is_linear_on_probes()

    def _is_linear_on_probes(self):
        size = self._shape.num_elements()
        random = np.random.default_rng(0)
        first = tf.constant(random.normal(size=[_NUM_PROBES, size]), self._dtype)
        second = tf.constant(random.normal(size=[_NUM_PROBES, size]), self._dtype)
        at_zero = self._of_rows(tf.zeros_like(first))
        of_first = self._of_rows(first) - at_zero
        of_second = self._of_rows(second) - at_zero
        of_both = self._of_rows(first + second) - at_zero
        largest = tf.reduce_max(tf.abs(of_first) + tf.abs(of_second) + tf.abs(at_zero))
        gap = tf.reduce_max(tf.abs(of_both - of_first - of_second))
        return bool(gap <= np.sqrt(np.finfo(self._dtype.as_numpy_dtype).eps) * largest)

    def _matrix(self):
        """The matrix of a layer that is not of this package, `[D, D]`."""
        size = self._shape.num_elements()
        at_zero = self._of_rows(tf.zeros([1, size], self._dtype))
        rows = self._of_rows(tf.eye(size, dtype=self._dtype)) - at_zero
        return tf.linalg.matrix_transpose(rows)

    def _of_rows(self, rows):
        """What the layer makes of flat examples, flat: `[N, D]` to `[N, D]`."""
        made = self._layer.forward(tf.reshape(rows, [-1, *self._shape]))
        return tf.reshape(made, tf.shape(rows))


def placed_layers(flow: tfd.TransformedDistribution) -> list[Placed]:
    """The layers of a flow, data to latent, each where it stands.

    Raises:
      UserError: what is given is no flow, or a layer changes the number of values.
    """
    parts = layers(flow)
    shape = flow.event_shape
    found = []
    for layer in parts:
        after = layer.forward_event_shape(shape)
        if after.num_elements() != shape.num_elements():
            raise UserError(
                f"layer {layer.name} makes {after} of {shape}: layers that keep the number of "
                "values are needed here"
            )
        found.append(Placed(layer, shape, flow.dtype))
        shape = after
    return found
