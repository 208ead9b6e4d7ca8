"""Densities without a network, to be ahead of: fitted to train, the rest chosen on validation."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from nice_tf.bijectors.marginals import QuantileTransform
from nice_tf.data.dataset import Data
from nice_tf.data.schema import Spikes

RIDGES = np.geomspace(1e-9, 1e-1, 25)  # on variances


@dataclasses.dataclass(frozen=True)
class Sample:
    """Dequantized rows in float64.

    Attributes:
      train: copies of the training rows with noise of their own, `[K, N, D]`.
      validation: `[M, D]`.
      levels: of integer data on [0, 1], one bin each; 0 for other data.
      steps: of a table, the distance of the values of each coordinate, 0 where it is continuous,
        `[D]`; `None` for all continuous.
      origin: an edge of the bins of width `steps`, `[D]`, or 0.
      spikes: of continuous coordinates; `None` for none.
    """

    train: np.ndarray
    validation: np.ndarray
    levels: int = 0
    steps: np.ndarray | None = None
    origin: np.ndarray | float = 0.0
    spikes: Spikes | None = None

    @property
    def rows(self) -> np.ndarray:
        """The rows of all copies, `[K N, D]`."""
        return self.train.reshape(-1, self.train.shape[-1])

    def mapped(self, function: Callable[[np.ndarray], np.ndarray]) -> "Sample":
        """The same rows after a map of `[n, D]`, as continuous values."""
        copies = np.stack([function(copy) for copy in self.train])
        return Sample(copies, function(self.validation))


def sample_of(data: Data, train: np.ndarray, validation: np.ndarray) -> Sample:
    """Rows of a `nice_tf` data set, with the bins of its coordinates."""
    if not data.schema:
        return Sample(train, validation, levels=data.levels or 0)
    low, _ = data.schema.bounds
    return Sample(train, validation, steps=data.schema.steps, origin=low, spikes=data.schema.spikes)


@dataclasses.dataclass(frozen=True)
class Fitted:
    """A density.

    Attributes:
      log_prob: nats of rows `[n, D]`, `[n]`.
      validation: mean nats of the validation rows.
      chosen: what was chosen on them, in words.
    """

    log_prob: Callable[[np.ndarray], np.ndarray]
    validation: float
    chosen: str


Method = Callable[[Sample], Fitted]


def gaussian(sample: Sample) -> Fitted:
    """A full-covariance Gaussian of maximum likelihood; the ridge on its variances is chosen."""
    train = sample.rows
    mean = train.mean(axis=0)
    values, vectors = np.linalg.eigh(np.cov(train, rowvar=False))
    found = []
    for ridge in RIDGES:
        variances = np.maximum(values, 0) + ridge

        def log_prob(x, variances=variances):
            turned = (x - mean) @ vectors
            logs = np.log(2 * np.pi * variances)
            return -0.5 * np.sum(turned**2 / variances + logs, axis=1)

        validation = float(np.mean(log_prob(sample.validation)))
        found.append(Fitted(log_prob, validation, f"ridge {ridge:.3g}"))
    return max(found, key=lambda fitted: fitted.validation)


def independent_marginals(sample: Sample) -> Fitted:
    """The product of the coordinates' own densities, as `QuantileTransform` fits them."""
    marginals = fit_marginals(sample, "logistic")

    def log_prob(x):
        z, log_det = marginals(x)
        softplus = np.logaddexp(0, z) + np.logaddexp(0, -z)
        return log_det - softplus.sum(axis=1)

    return Fitted(log_prob, float(log_prob(sample.validation).mean()), "bins by likelihood")


def on_copula(method: Method) -> Method:
    """A density of the normal scores of the marginals, z_d = Q(F_d(x_d)), as a density of x.

    With `gaussian` it is the Gaussian copula on these marginals.
    """

    def fit(sample: Sample) -> Fitted:
        marginals = fit_marginals(sample, "normal")
        fitted = method(sample.mapped(lambda x: marginals(x)[0]))

        def log_prob(x):
            z, log_det = marginals(x)
            return fitted.log_prob(z) + log_det

        validation = fitted.validation + marginals(sample.validation)[1].mean()
        return Fitted(log_prob, float(validation), fitted.chosen)

    return fit


def standardized(method: Method) -> Method:
    """A density of the coordinates in deviations of train, as a density of x."""

    def fit(sample: Sample) -> Fitted:
        mean = sample.rows.mean(axis=0)
        deviations = sample.rows.std(axis=0)
        fitted = method(sample.mapped(lambda x: (x - mean) / deviations))
        log_det = -np.log(deviations).sum()

        def log_prob(x):
            return fitted.log_prob((x - mean) / deviations) + log_det

        return Fitted(log_prob, fitted.validation + float(log_det), fitted.chosen)

    return fit


def fit_marginals(
    sample: Sample, family: str
) -> Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """The marginals of the training rows, each row once: a continuous value that came again in
    every copy would be taken for a spike.

    Args:
      sample: the rows.
      family: of whose quantile function z is.

    Returns:
      A function of x `[n, D]`, which gives z, `[n, D]`, and log |dz/dx|, `[n]`.
    """
    bins_of_spikes: dict[str, Any] = {}
    if sample.spikes:
        bins_of_spikes = {"spikes": sample.spikes.values, "spike_widths": sample.spikes.widths}
    layer = QuantileTransform(
        sample.train.shape[-1],
        levels=sample.levels,
        steps=sample.steps,
        origin=sample.origin,
        **bins_of_spikes,
        family=family,
        dtype=tf.float64,
    )
    layer.fit(sample.train[0])

    def marginals(x):
        x = tf.constant(x, tf.float64)
        return layer.forward(x).numpy(), layer.forward_log_det_jacobian(x).numpy()

    return marginals
