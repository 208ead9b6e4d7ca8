"""Where a flow starts: mean, whitening and scales from training data."""

from collections.abc import Iterable

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from nice_tf.bijectors.coupling import AdditiveCoupling
from nice_tf.bijectors.diagonal import DiagonalScaling
from nice_tf.bijectors.marginals import QuantileTransform
from nice_tf.bijectors.parameters import Layer
from nice_tf.errors import UserError
from nice_tf.flows.density import check_holds_no_context, layers
from nice_tf.flows.priors import deviation, starts_at, trained_scale, unit_deviation

tfd = tfp.distributions

_NUM_EXAMPLES_FOR_SCALES = 10_000


def initialize_from_data(
    flow: tfd.TransformedDistribution,
    x: tf.Tensor,
    *,
    context: tf.Tensor | None = None,
    scales: bool = True,
    parts: Iterable[np.ndarray] | None = None,
) -> None:
    """Sets mean, whitening, output scales of m and scales of a flow of `build_flow` from data,
    before training.

    Layer by layer, the `Center` gets the mean of what reaches it, the whitening is fitted to it,
    each m gets the standard deviations of what it shifts as its output scale (unless the flow was
    built with `"one"`), and the scaling (or the prior's trainable scale) becomes 1 / s_d = std_d /
    std(prior): with `zero_last_layer` every z then starts with the prior's mean and variance; after
    a whitening with shrinkage those of examples that it was not fitted to. Marginals are fitted
    first; where nothing but couplings is behind them their z has the prior's density already, and
    the scales stay 1.

    Args:
      flow: as `build_flow` made it.
      x: training examples in density units, `[N, *event_shape]`, N at least 2. The scales look at
        10,000 of them.
      context: those of the examples, `[N, context_size]`, for a conditional flow.
      scales: set the output scales and the scales, too.
      parts: all training examples in density units, each `[n, *event_shape]`, for the marginals,
        where x is only some of them.

    Raises:
      UserError: a value that is not finite; a coordinate that does not vary, where no
        `min_inverse_scale` keeps its density finite; a covariance that cannot be whitened; a flow
        of `condition`, which holds its context.
    """
    check_holds_no_context(flow, "initialize the flow itself, with context=")
    before, couplings_on = _before_and_from_couplings(flow)
    kinds = [type(layer) for layer in before if isinstance(layer, Layer)]
    starts_as_prior = kinds == [QuantileTransform] and starts_at(
        flow.distribution, _marginals_of(before).family
    )
    h = tf.cast(x, flow.dtype)
    for layer in before:
        if parts is not None and isinstance(layer, QuantileTransform):
            layer.fit_parts(map(_flat, parts))
            h = layer.forward_of_fitted(h)
        else:
            h = _fitted(layer, h)
    if not scales:
        return
    every = -(-len(h) // _NUM_EXAMPLES_FOR_SCALES)  # n-th, because a user's own file may be sorted
    h = h[::every]
    if context is not None:
        context = context[::every]
    for layer in couplings_on:
        if isinstance(layer, DiagonalScaling) and not starts_as_prior:
            layer.assign_log_scale(
                tf.math.log(deviation(flow.distribution) / tf.math.reduce_std(h, axis=0))
            )
            _check_scale(-layer.log_scale, len(h))
        h = _fitted(layer, h, context)
    if not starts_as_prior:
        _start_scale_of_prior(flow, h)


def _marginals_of(layers):
    (found,) = [layer for layer in layers if isinstance(layer, QuantileTransform)]
    return found


def _flat(x):
    return np.reshape(x, [len(x), -1])


def _before_and_from_couplings(flow):
    """The layers of a flow in two parts, the second from its first coupling or scaling on."""
    found = layers(flow)
    for place, layer in enumerate(found):
        if isinstance(layer, AdditiveCoupling | DiagonalScaling):
            return found[:place], found[place:]
    return found, ()


def _fitted(layer, h, context=None):
    """Fits a layer to what reaches it, `[N, D]`, and gives what leaves it. TFP's own layers have
    nothing to fit.
    """
    if not isinstance(layer, Layer):
        return layer.forward(h)
    layer.fit(h)
    if isinstance(layer, AdditiveCoupling) and context is not None:
        return layer.forward(h, context=context)
    return layer.forward_of_fitted(h)


def _start_scale_of_prior(flow, z):
    """Sets the prior's scale to the deviations of codes, `[N, D]`, where it is trainable."""
    scale = trained_scale(flow.distribution)
    if scale is None:
        return
    scale.pretransformed_input.assign(
        tf.math.log(tf.math.reduce_std(z, axis=0) / unit_deviation(flow.distribution))
    )
    bounded = tf.math.log(scale)
    _check_scale(bounded, len(z))
    scale.pretransformed_input.assign(bounded)


def _check_scale(log_inverse_scale, num_examples):
    constant = np.flatnonzero(np.isneginf(log_inverse_scale))
    if constant.size:
        raise UserError(
            f"{constant.size} of {log_inverse_scale.shape[0]} coordinates have the same value in "
            f"all {num_examples} training examples looked at (the first, counted from 0, is "
            f"{constant[0]}): their density would be infinite. Leave them out of the data"
        )
    wide = np.flatnonzero(~np.isfinite(log_inverse_scale))
    if wide.size:
        raise UserError(
            f"{wide.size} of {log_inverse_scale.shape[0]} coordinates spread too far for "
            f"{log_inverse_scale.dtype.name} (the first, counted from 0, is {wide[0]}): give the "
            "data in larger units"
        )
