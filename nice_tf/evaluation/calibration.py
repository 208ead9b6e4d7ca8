"""What log-likelihoods are usual: those of validation examples, for tail probabilities."""

from typing import Any

import numpy as np
import tensorflow_probability as tfp

from nice_tf.config import Config
from nice_tf.data.labels import Labels
from nice_tf.data.rows import Array
from nice_tf.data.schema import Schema
from nice_tf.evaluation.likelihood import log_probs
from nice_tf.flows.marginals import has_marginals
from nice_tf.flows.ranks import log_det_of_marginals

tfd = tfp.distributions
MAX_QUANTILES = 10_000


def calibration(
    flow: tfd.TransformedDistribution,
    values: Array,
    *,
    levels: int | None,
    config: Config,
    schema: Schema | None = None,
    labels: Labels | None = None,
) -> tuple[np.ndarray, np.ndarray | None]:
    """Log-likelihoods of validation examples, as the exported model will give them.

    Args:
      flow: the density.
      values: `[N, *event_shape]` in data units; integers are taken at the centre of their bins,
        without noise.
      levels: number of integer levels; `None` for continuous data.
      config: for `batch_size` and `seed`.
      schema: of a table.
      labels: of a conditional density, whose log p(x | y) they then are.

    Returns:
      Log-likelihoods, and the same by `rank_log_prob`, `None` where `has_ranks` says no. Nats,
      ascending, `[N]` each, or `MAX_QUANTILES` quantiles of them if N is more.
    """
    settings: dict[str, Any] = {
        "levels": levels,
        "config": config,
        "split": "validation",
        "dequantization": "none",
    }
    (found,) = log_probs(flow, values, labels=labels, **settings)
    if labels:
        found = found[:, 0]
    if not has_ranks(flow, schema):
        return _quantiles(found), None
    (log_dets,) = log_probs(_LogDet(flow), values, **settings)
    return _quantiles(found), _quantiles(found - log_dets)


def has_ranks(flow: tfd.TransformedDistribution, schema: Schema | None) -> bool:
    """Whether examples are scored by their ranks, too: of a table whose flow has marginals."""
    return schema is not None and has_marginals(flow)


class _LogDet:
    """A density that gives what the marginals of a flow add to its log p(x)."""

    def __init__(self, flow):
        self.dtype = flow.dtype
        self._flow = flow

    def log_prob(self, x):
        return log_det_of_marginals(self._flow, x)


def _quantiles(values):
    if len(values) > MAX_QUANTILES:
        return np.quantile(values, np.linspace(0, 1, MAX_QUANTILES))
    return np.sort(values)
