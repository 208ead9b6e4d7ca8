"""Functions m for the coupling layers: any callable will do; here is the paper's."""

import itertools
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from nice_tf.bijectors.parameters import check_last_axis
from nice_tf.choices import ACTIVATIONS
from nice_tf.errors import UserError, check_at_least, check_choice
from nice_tf.seeds import stateless_seed

# A layer of so many weights takes longer to read than a second core takes to start.
_WORTH_A_SECOND_CORE = 2**18


class MLP(tf.Module):
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
        super().__init__(name=name)
        sizes = (input_size, *hidden_units, output_size)
        if any(size < 1 for size in sizes):
            raise UserError(
                f"every layer needs at least 1 unit, got sizes {sizes} (input, hidden..., output)"
            )
        check_at_least("context_size", context_size, 0)
        if not 0 <= dropout < 1:
            raise UserError(f"dropout must be at least 0 and below 1, got {dropout}")
        self.dtype = tf.as_dtype(dtype)
        self.compute_dtype = tf.as_dtype(compute_dtype or dtype)
        self._activation = _activation(activation)
        self.residual = residual
        self._dropout = dropout
        self._context_size = context_size
        self._seed = seed
        kernels = []
        for layer, (fan_in, fan_out) in enumerate(
            itertools.pairwise((input_size + context_size, *sizes[1:]))
        ):
            if layer == len(sizes) - 2 and zero_last_layer:
                kernels.append(tf.zeros([fan_in, fan_out], dtype))
            else:
                # Drawn in float32 whatever the dtype, so that a float64 run starts from the same
                # weights.
                layer_seed = stateless_seed(seed, "kernel", layer)
                shape = [fan_in, fan_out]
                if init_range is None:
                    kernel = tf.random.stateless_normal(
                        shape, layer_seed, stddev=(2 / fan_in) ** 0.5
                    )
                else:
                    kernel = tf.random.stateless_uniform(
                        shape, layer_seed, minval=-init_range, maxval=init_range
                    )
                kernels.append(tf.cast(kernel, dtype))
        with self.name_scope:
            self._kernels = tuple(
                tf.Variable(kernel, name=f"kernel_{i}") for i, kernel in enumerate(kernels)
            )
            self._biases = tuple(
                tf.Variable(tf.zeros([n], dtype), name=f"bias_{i}") for i, n in enumerate(sizes[1:])
            )
            self._output_scale = None
            if has_output_scale:
                self._output_scale = tf.Variable(
                    tf.ones([output_size], dtype), trainable=False, name="output_scale"
                )

    @property
    def has_output_scale(self) -> bool:
        """Whether each output has a factor of its own."""
        return self._output_scale is not None

    def assign_output_scale(self, output_scale: tf.Tensor) -> None:
        """Sets the factor of each output, `[output_size]`, finite and above 0; for initialisation
        from data.

        Raises:
          UserError: a network without such factors; a value that is not finite and above 0; another
            shape.
        """
        if self._output_scale is None:
            raise UserError(
                "the network has no output_scale to assign: make it with has_output_scale=True"
            )
        output_scale = tf.convert_to_tensor(output_scale, self.dtype)
        if output_scale.shape != self._output_scale.shape:
            raise UserError(
                f"output_scale must have shape {self._output_scale.shape}, got {output_scale.shape}"
            )
        bad = output_scale[~((output_scale > 0) & tf.math.is_finite(output_scale))]
        if len(bad):
            raise UserError(f"output_scale must be finite and above 0, got {bad[0]}")
        self._output_scale.assign(output_scale)

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
        x = _with_context(x, context, self._context_size)
        h = tf.cast(_to_rows(x, self._kernels[0].shape[0]), self.compute_dtype)
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
        return _from_rows(_scaled(h, self._output_scale, self.dtype), x, self._kernels[-1].shape[1])

    def _dropped(self, h, layer, dropout_seed):
        if not self._dropout or dropout_seed is None:
            return h
        seed = dropout_seed
        for number in (self._seed, layer):
            seed = tf.random.experimental.stateless_fold_in(seed, number)
        # In full precision: uniform numbers in bfloat16 are multiples of 1/128, which drops other
        # shares than asked.
        kept = tf.nn.experimental.stateless_dropout(
            tf.cast(h, self.dtype), self._dropout, seed, rng_alg="philox"
        )
        return tf.cast(kept, self.compute_dtype)


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
        check_at_least("num_branches", num_branches, 1)
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
        x = _with_context(x, context, self._context_size)
        h = tf.cast(_to_rows(x, self._sizes[0]), self.compute_dtype)
        for stage, branches in enumerate(self._stages):
            if stage > 0:
                h = self._activation(h)
            # Not `+`, which TensorFlow would fuse with one branch's product: that branch then
            # waited for the others.
            h = tf.add_n([_forward(h, layers, self._activation) for layers in branches])
        return _from_rows(_scaled(h, self._output_scale, self.dtype), x, self._sizes[1])


def _activation(named):
    """A function of a tensor: what is given, or the one of this name."""
    if not isinstance(named, str):
        return named
    check_choice("activation", named, ACTIVATIONS)
    return getattr(tf.nn, named)


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


def _scaled(h, output_scale, dtype):
    m = tf.cast(h, dtype)
    if output_scale is None:
        return m
    return output_scale * m


def _with_context(x, context, size):
    """(x, context) on the last axis, `[..., D]` and `[..., size]`; x itself where there is to be
    none.
    """
    if context is None:
        if size:
            raise UserError(
                f"the networks were built with context_size {size} and got no context: give one to "
                "every call, as in flow.log_prob(x, **nice_tf.context_kwargs(context))"
            )
        return x
    context = tf.cast(context, x.dtype)
    if not size or context.shape.rank == 0 or not context.shape[-1:].is_compatible_with([size]):
        raise UserError(
            f"the last axis of the context must have {size} values, the context_size that the "
            f"networks were built with, got shape {context.shape}"
        )
    batch_shape = x.shape[:-1]
    try:
        fits = tf.broadcast_static_shape(context.shape[:-1], batch_shape).is_compatible_with(
            batch_shape
        )
    except ValueError:
        fits = False
    if not fits:
        raise UserError(
            f"a context of shape {context.shape} cannot be broadcast to examples of batch shape "
            f"{batch_shape}"
        )
    context = tf.broadcast_to(
        check_last_axis(context, size), tf.concat([tf.shape(x)[:-1], [size]], 0)
    )
    return tf.concat([x, context], axis=-1)


def _to_rows(x, size):
    if x.shape.rank == 2:
        return x
    return tf.reshape(x, [-1, size])


def _from_rows(h, x, size):
    """The inverse of `_to_rows`, for rows of another size."""
    if x.shape.rank == 2:
        return h
    return tf.reshape(h, tf.concat([tf.shape(x)[:-1], [size]], 0))
