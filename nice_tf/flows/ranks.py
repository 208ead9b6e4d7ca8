"""The log-density of quantile scores: log p(x) without the slopes of the marginals."""

import tensorflow as tf
import tensorflow_probability as tfp

from nice_tf.errors import UserError
from nice_tf.flows.density import context_kwargs
from nice_tf.flows.marginals import cut

tfb = tfp.bijectors
tfd = tfp.distributions


def rank_log_prob(
    flow: tfd.TransformedDistribution, x: tf.Tensor, *, context: tf.Tensor | None = None
) -> tf.Tensor:
    """The log-density of quantile scores: of where each value stands among those of its coordinate.

        rank_log_prob(x) = log p(x) - sum_d log |dz_d / dx_d|,   z_d = Q(F_d(x_d))

    with the marginals F_d of the flow, trained ones as they are, and the quantiles Q of their
    family. It is the density of z. It is not the copula density, which is this less the logarithm
    of the family's density at each z_d: how usual a value is by itself counts.

    log p(x) is a density in x: a coordinate that is given by its logarithm puts the examples in
    another order, and a heavy tail or a narrow spike can decide where they stand. Within the range
    of the training values z hardly changes under a monotone map of a coordinate, only by what the
    fit of F makes of the other values; beyond it z goes on along the fitted tail, in the scale of
    x. That no order by a density survives a change of coordinates: Le Lan & Dinh 2021, arXiv
    2012.03808.

    Args:
      flow: whose first layer is a `QuantileTransform`, as of `build_flow(marginals=...)`; frozen
        and conditional ones as well.
      x: `[..., *event_shape]` in density units.
      context: of a conditional flow, as for `context_kwargs`.

    Returns:
      Nats, `[...]`.

    Raises:
      UserError: a flow that has no marginals in front, or what is no flow.

    Examples:
      >>> import nice_tf
      >>> import numpy as np
      >>> x = np.random.default_rng(0).lognormal(size=[2000, 2]).astype("float32")
      >>> flow = nice_tf.build_flow([2], hidden_units=(16,), marginals="quantile")
      >>> nice_tf.initialize_from_data(flow, x)
      >>> scores = nice_tf.rank_log_prob(flow, x)
      >>> least_usual = x[scores.numpy().argmin()]
    """
    x = tf.convert_to_tensor(x, flow.dtype)
    log_det = log_det_of_marginals(flow, x)
    if log_det is None:
        raise UserError(
            f"flow {flow.name} has no marginals: rank_log_prob is for flows whose first layer is a "
            "QuantileTransform, as build_flow(marginals='quantile') makes them"
        )
    return flow.log_prob(x, **context_kwargs(context)) - log_det


def log_det_of_marginals(flow: tfd.TransformedDistribution, x: tf.Tensor) -> tf.Tensor | None:
    """What log p has less than it minus `rank_log_prob`: sum_d log |dz_d / dx_d|, `[...]`; `None`
    of a flow that has no marginals in front.

    Beside `flow.log_prob` of the same tensor it costs nothing: TFP has it from there.

    Args:
      flow: any.
      x: `[..., *event_shape]` in density units.
    """
    up_to_marginals, _ = cut(flow)
    if not up_to_marginals:
        return None
    front = tfb.Chain(tuple(reversed(up_to_marginals)))
    return front.forward_log_det_jacobian(x, event_ndims=flow.event_shape.rank)


def rank_contributions(
    flow: tfd.TransformedDistribution, contribution: tf.Tensor, x: tf.Tensor, usual: tf.Tensor
) -> tf.Tensor:
    """What `rank_log_prob` would gain if one value were the usual one of its coordinate.

    Args:
      flow: over examples of one axis, with marginals in front.
      contribution: of `contributions`, what log p would gain, `[B, D]`.
      x: `[B, D]` in density units.
      usual: the value of each coordinate that others are compared with, `[D]`.

    Returns:
      Nats, `[B, D]`.
    """
    up_to_marginals, _ = cut(flow)
    marginals = up_to_marginals[-1]
    usual = tf.cast(usual, x.dtype)[tf.newaxis]
    return contribution - marginals.log_slopes(usual) + marginals.log_slopes(x)
