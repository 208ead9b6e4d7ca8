"""What the networks inside the couplings share: rows, context, dropout, a factor on each output."""

import math
from collections.abc import Callable

import tensorflow as tf

from nice_tf.bijectors.parameters import check_last_axis
from nice_tf.choices import ACTIVATIONS
from nice_tf.errors import UserError, check_choice, check_count
from nice_tf.seeds import stateless_seed


class Network(tf.Module):
    """A function m with hidden units, of examples `[..., input_size]`."""

    def __init__(
        self,
        *,
        activation: str | Callable[[tf.Tensor], tf.Tensor],
        dropout: float,
        context_size: int,
        dtype: tf.DType,
        compute_dtype: tf.DType | None,
        seed: int,
        name: str,
    ):
        """Keeps what all have; arguments and errors as for `MLP`."""
        super().__init__(name=name)
        check_count("context_size", context_size, 0)
        if not 0 <= dropout < 1:
            raise UserError(f"dropout must be at least 0 and below 1, got {dropout}")
        self.dtype = tf.as_dtype(dtype)
        self.compute_dtype = tf.as_dtype(compute_dtype or dtype)
        self._activation = activation_of(activation)
        self._dropout = dropout
        self._context_size = context_size
        self._seed = seed
        self._output_scale: tf.Variable | None = None

    def _drawn(self, shape, layer, init_range, gain=1.0):
        """A kernel of a layer, `[..., num_in, num_out]`: He et al. 2015, or uniform."""
        # Drawn in float32 whatever the dtype, so that a float64 run starts from the same weights.
        layer_seed = stateless_seed(self._seed, "kernel", layer)
        if init_range is None:
            fan_in = math.prod(shape[:-1])
            stddev = gain * (2 / fan_in) ** 0.5
            kernel = tf.random.stateless_normal(shape, layer_seed, stddev=stddev)
        else:
            kernel = tf.random.stateless_uniform(
                shape, layer_seed, minval=-init_range, maxval=init_range
            )
        return tf.cast(kernel, self.dtype)

    def _make_output_scale(self, output_size):
        self._output_scale = tf.Variable(
            tf.ones([output_size], self.dtype), trainable=False, name="output_scale"
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


def activation_of(
    named: str | Callable[[tf.Tensor], tf.Tensor],
) -> Callable[[tf.Tensor], tf.Tensor]:
    """A function of a tensor: what is given, or the one of this name."""
    if not isinstance(named, str):
        return named
    check_choice("activation", named, ACTIVATIONS)
    return getattr(tf.nn, named)


def scaled(h: tf.Tensor, output_scale: tf.Variable | None, dtype: tf.DType) -> tf.Tensor:
    """What comes out of the last layer in the dtype of m, times the factors if there are any."""
    m = tf.cast(h, dtype)
    if output_scale is None:
        return m
    return output_scale * m


def with_context(x: tf.Tensor, context: tf.Tensor | None, size: int) -> tf.Tensor:
    """(x, context) on the last axis, `[..., D]` and `[..., size]`; x itself where there is to be
    none.
    """
    if context is None:
        if size:
            raise UserError(
                f"the networks were built with context_size {size} and got no context: give one to "
                "every call, as in flow.log_prob(x, **nice_tf.context_kwargs(context)). TFP hands "
                "keywords on by the name of each bijector, and these are for additive_coupling: a "
                "coupling of another name, and one inside a further Chain or JointMap, is reached "
                "as bijector_kwargs={name: {'context': context}}, one level for each that stands "
                "around it"
            )
        return x
    context = tf.convert_to_tensor(context)
    if context.dtype == tf.string:
        raise UserError(
            "the context must be numbers, got text: classes are given one-hot, as "
            "tf.one_hot([0, 2], 3)"
        )
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


def to_rows(x: tf.Tensor, size: int) -> tf.Tensor:
    """`[..., size]` as `[N, size]`.

    Raises:
      UserError: the last axis is known and has another size.
    """
    if not x.shape[-1:].is_compatible_with([size]):
        raise UserError(
            f"a network of {size} inputs got values of shape {x.shape}: in a coupling the inputs "
            "are num_passthrough, and those of the context"
        )
    if x.shape.rank == 2:
        return x
    return tf.reshape(x, [-1, size])


def from_rows(h: tf.Tensor, x: tf.Tensor, size: int) -> tf.Tensor:
    """The inverse of `to_rows`, for rows of another size."""
    if x.shape.rank == 2:
        return h
    return tf.reshape(h, tf.concat([tf.shape(x)[:-1], [size]], 0))
