"""Functions m for the coupling layers: any callable will do; here is the paper's."""

import itertools
import numbers
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from nice_tf.bijectors.networks import Network, from_rows, scaled, to_rows, with_context
from nice_tf.errors import UserError, check_count

# A layer of so many weights takes longer to read than a second core takes to start.
_WORTH_A_SECOND_CORE = 2**18


class MLP(Network):
    """Multilayer perceptron with a linear output (Dinh et al. 2014, section 5.1).

        h_0 = x,   h_k = activation(h_{k-1} W_k + b_k),   m(x) = h_{K-1} W_K + b_K

    Kernels are drawn from N(0, 2 / fan_in) (He et al. 2015) or from U(-init_range, init_range),
    biases start at zero. With `zero_last_layer` the last kernel is zero too: m starts as 0 and a
    coupling as the identity, so that an initialisation from data statistics
    (`nice_tf.initialize_from_data`) is exact at the first step.

    With `has_output_scale` each output has a factor that is not trained:

        m(x) = output_scale * (h_{K-1} W_K + b_K)

    The functions that m can be are the same, how fast one is learned is not. Adam moves all weights
    at one pace, whatever the size of their gradients: without the factor, an output that is to vary
    little (a pixel that is nearly always black) is moved by many times what it should be, and its
    gradients, the largest, outweigh all others in the hidden layers.

    With `residual`, every layer between two hidden ones of equal width adds to what it gets:

        h_1 = x W_1 + b_1
        h_k = h_{k-1} + activation(h_{k-1}) W_k + b_k
        m(x) = activation(h_{K-1}) W_K + b_K
    """

    def __init__(
        self,
        input_size: int,
        output_size: int,
        *,
        hidden_units: Sequence[int] = (1000,) * 5,
        activation: str | Callable[[tf.Tensor], tf.Tensor] = "relu",
        residual: bool = False,
        dropout: float = 0.0,
        context_size: int = 0,
        init_range: float | None = None,
        zero_last_layer: bool = True,
        has_output_scale: bool = False,
        dtype: tf.DType = tf.float32,
        compute_dtype: tf.DType | None = None,
        seed: int = 0,
        name: str = "mlp",
    ):
        """Makes the network and its variables.

        Args:
          input_size: length of the last axis of the input.
          output_size: length of the last axis of the output.
          hidden_units: width of each hidden layer; empty for a linear m.
          activation: a name in `choices.ACTIVATIONS` or a function of a tensor.
          residual: add the input of each layer between hidden ones of equal width to its output.
          dropout: share of the hidden units that a call with a `dropout_seed` sets to 0 (Srivastava
            et al. 2014).
          context_size: C, length of the context that every call must then give: the first layer
            sees (x, context).
          init_range: draw the kernels from U(-init_range, init_range); `None` for He's normal
            distribution.
          zero_last_layer: start with m = 0.
          has_output_scale: give each output a factor, 1 until `assign_output_scale` sets it.
          dtype: of variables, input and output.
          compute_dtype: of the matrix products inside, e.g. `tf.bfloat16`; `dtype` when not given.
          seed: of the kernels; networks of the same sizes and seed start the same.
          name: of the module.

        Raises:
          UserError: a size below 1, an unknown activation, a dropout outside of [0, 1), or a
            negative context size.
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
        try:
            sizes = (input_size, *hidden_units, output_size)
        except TypeError as error:
            raise UserError(
                f"hidden_units must be widths, as (1000, 1000), got {hidden_units!r}"
            ) from error
        check_count("input_size", input_size, 1)
        check_count("output_size", output_size, 1)
        if not all(isinstance(size, numbers.Integral) and size >= 1 for size in sizes):
            raise UserError(
                "every layer needs a whole number of at least 1 unit, got sizes "
                f"{sizes} (input, hidden..., output)"
            )
        self.residual = residual
        kernels = []
        for layer, (fan_in, fan_out) in enumerate(
            itertools.pairwise((input_size + context_size, *sizes[1:]))
        ):
            if layer == len(sizes) - 2 and zero_last_layer:
                kernels.append(tf.zeros([fan_in, fan_out], dtype))
            else:
                kernels.append(self._drawn([fan_in, fan_out], layer, init_range))
        with self.name_scope:
            self._kernels = tuple(
                tf.Variable(kernel, name=f"kernel_{i}") for i, kernel in enumerate(kernels)
            )
            self._biases = tuple(
                tf.Variable(tf.zeros([n], dtype), name=f"bias_{i}") for i, n in enumerate(sizes[1:])
            )
            if has_output_scale:
                self._make_output_scale(output_size)

    def __call__(
        self,
        x: tf.Tensor,
        *,
        context: tf.Tensor | None = None,
        dropout_seed: tf.Tensor | None = None,
    ) -> tf.Tensor:
        """Maps `[..., input_size]` to `[..., output_size]`.

        Args:
          x: the input.
          context: `[..., context_size]`, one for each example or fewer, which are broadcast; none
            without a `context_size`.
          dropout_seed: stateless seed, int32 `[2]`, of the units that are dropped; with none,
            nothing is dropped. Networks made with different seeds drop different units. The inverse
            of a coupling needs the same one.

        Raises:
          UserError: a missing context, or one of another size or shape.
        """
        x = with_context(x, context, self._context_size)
        h = tf.cast(to_rows(x, self._kernels[0].shape[0]), self.compute_dtype)
        for layer, (kernel, bias) in enumerate(zip(self._kernels, self._biases, strict=True)):
            before = h
            if layer > 0:
                h = self._dropped(self._activation(h), layer, dropout_seed)
            h = _affine(h, tf.cast(kernel, self.compute_dtype), tf.cast(bias, self.compute_dtype))
            if (
                self.residual
                and 0 < layer < len(self._kernels) - 1
                and kernel.shape[0] == kernel.shape[1]
            ):
                h += before
        return from_rows(scaled(h, self._output_scale, self.dtype), x, self._kernels[-1].shape[1])


class FrozenMLP(tf.Module):
    """An `MLP` as it is now, for answers only: its weights are copied once, in the dtype of the
    products.

    TensorFlow multiplies few rows on one core, which waits for the weights. So where a layer is
    large, the units of every second one are dealt out to branches that run side by side, and each
    takes its share of the next layer, too, before they join:

        h_{k+2} = sum_j activation(h_k W_{k+1}[:, j] + b_{k+1}[j]) W_{k+2}[j, :] + b_{k+2}
    """

    def __init__(self, mlp: MLP, *, num_branches: int | None = None, name: str = "frozen_mlp"):
        """Copies the weights.

        Args:
          mlp: the network, without residual layers.
          num_branches: at least 1; when not given, 2 where layers are large enough to gain by it,
            else 1.
          name: of the module.

        Raises:
          UserError: a network with residual layers, which would join after each; or `num_branches`
            below 1.
        """
        super().__init__(name=name)
        if mlp.residual:
            raise UserError("a network with residual layers cannot be frozen")
        self.dtype = mlp.dtype
        self.compute_dtype = mlp.compute_dtype
        self._activation = mlp._activation
        self._sizes = (mlp._kernels[0].shape[0], mlp._kernels[-1].shape[1])
        self._context_size = mlp._context_size
        layers = []
        for kernel, bias in zip(mlp._kernels, mlp._biases, strict=True):
            layers.append((kernel.numpy(), bias.numpy()))
        if num_branches is None:
            largest = max(kernel.size for kernel, _ in layers)
            num_branches = 1
            if largest >= _WORTH_A_SECOND_CORE:
                num_branches = 2
        check_count("num_branches", num_branches, 1)
        stages = _stages(tuple(layers), num_branches)
        with self.name_scope:
            self._stages = tf.nest.map_structure(self._frozen, stages)
            self._output_scale = None
            if mlp._output_scale is not None:
                self._output_scale = tf.Variable(
                    mlp._output_scale, trainable=False, name="output_scale"
                )

    def _frozen(self, value):
        return tf.Variable(tf.cast(value, self.compute_dtype), trainable=False)

    def __call__(self, x: tf.Tensor, *, context: tf.Tensor | None = None) -> tf.Tensor:
        """Maps `[..., input_size]` to `[..., output_size]`; context and errors as for the `MLP`."""
        x = with_context(x, context, self._context_size)
        h = tf.cast(to_rows(x, self._sizes[0]), self.compute_dtype)
        for stage, branches in enumerate(self._stages):
            if stage > 0:
                h = self._activation(h)
            # Not `+`, which TensorFlow would fuse with one branch's product: that branch then
            # waited for the others.
            h = tf.add_n([_forward(h, layers, self._activation) for layers in branches])
        return from_rows(scaled(h, self._output_scale, self.dtype), x, self._sizes[1])


def _stages(layers, num_branches):
    """Layers as stages, each a sum of branches, which are networks themselves."""
    if num_branches == 1:
        return ((layers,),)
    stages = []
    first = len(layers) % 2  # an odd number leaves the first layer whole
    if first:
        stages.append((layers[:first],))
    for pair in zip(layers[first::2], layers[first + 1 :: 2], strict=True):
        stages.append(_branches(*pair, num_branches))
    return tuple(stages)


def _branches(layer, next_layer, num_branches):
    """Two layers as networks of fewer hidden units whose sum they are."""
    parts = zip(
        np.array_split(layer[0], num_branches, axis=1),
        np.array_split(layer[1], num_branches),
        np.array_split(next_layer[0], num_branches, axis=0),
        [next_layer[1], *[np.zeros_like(next_layer[1])] * (num_branches - 1)],
        strict=True,
    )
    return tuple(
        ((kernel, bias), (next_kernel, next_bias)) for kernel, bias, next_kernel, next_bias in parts
    )


def _forward(h, layers, activation):
    for layer, (kernel, bias) in enumerate(layers):
        if layer > 0:
            h = activation(h)
        h = _affine(h, kernel, bias)
    return h


def _affine(h, kernel, bias):
    # One matrix product of rank 2 and one bias_add: TensorFlow fuses these two with the activation.
    return tf.nn.bias_add(tf.matmul(h, kernel), bias)
