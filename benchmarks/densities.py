"""Densities without a network that take more than a Gaussian: kernels and mixtures.

The others are those of `nice_tf.evaluation.simple_densities`, whose names stand here, too. `baselines.py` prints all
for one data set, `tables.py` beside flows for many tables.
"""

import warnings
from collections.abc import Sequence

import numpy as np

from nice_tf.evaluation.simple_densities import Fitted as Fitted
from nice_tf.evaluation.simple_densities import Method as Method
from nice_tf.evaluation.simple_densities import Sample as Sample
from nice_tf.evaluation.simple_densities import gaussian as gaussian
from nice_tf.evaluation.simple_densities import independent_marginals as independent_marginals
from nice_tf.evaluation.simple_densities import on_copula as on_copula
from nice_tf.evaluation.simple_densities import sample_of as sample_of
from nice_tf.evaluation.simple_densities import standardized as standardized

BANDWIDTHS = np.geomspace(0.03, 0.5, 24)
COMPONENTS = (1, 2, 4, 8, 16, 32, 64, 128)
# On the variances of a mixture's components.
FLOORS = (1e-6, 1e-4, 1e-2, 1e-1)
_PATIENCE = 2  # sizes of a mixture that are worse before the search in a direction ends


def kernel_density(sample: Sample, bandwidths: np.ndarray = BANDWIDTHS) -> Fitted:
    """A Gaussian kernel on every training row; its bandwidth is chosen."""
    from sklearn.neighbors import KernelDensity

    train = sample.rows
    best = None
    for bandwidth in bandwidths:
        # One leaf, a plain sum: the bounds of its tree cancel, and points of low density come out
        # up to 366 nats too high.
        kernels = KernelDensity(bandwidth=bandwidth, leaf_size=len(train)).fit(train)
        best = _better(best, kernels.score_samples, sample, f"bandwidth {bandwidth:.3g}")
    return best


def gaussian_mixture(
    sample: Sample,
    sizes: Sequence[int] = COMPONENTS,
    floors: Sequence[float] = FLOORS,
) -> Fitted:
    """scikit-learn's mixture of full-covariance Gaussians, from its k-means start of seed 0; the
    number of components and the floor on their variances are chosen in turn, twice.
    """
    tried: dict[tuple[int, float], Fitted] = {}

    def validation(size, floor):
        if (size, floor) not in tried:
            tried[size, floor] = _mixture(sample, size, floor)
        return tried[size, floor].validation

    size = sizes[len(sizes) // 2]
    for _ in range(2):
        floor = max(floors, key=lambda floor: validation(size, floor))
        size = _climb(sizes, size, lambda size, floor=floor: validation(size, floor))
    return max(tried.values(), key=lambda fitted: fitted.validation)


def _mixture(sample, size, floor):
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture

    mixture = GaussianMixture(size, reg_covar=floor, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # 100 iterations are enough
        mixture.fit(sample.rows)
    chosen = f"components {size} floor {floor:.3g}"
    return _better(None, mixture.score_samples, sample, chosen)


def _climb(sizes, start, validation):
    """The best of the sizes, from one on in both directions until it only gets worse."""
    best = start
    place = sizes.index(start)
    for onward in (sizes[place + 1 :], sizes[:place][::-1]):
        num_worse = 0
        for size in onward:
            if validation(size) > validation(best):
                best = size
                num_worse = 0
            else:
                num_worse += 1
            if num_worse == _PATIENCE:
                break
    return best


def _better(best, log_prob, sample, chosen):
    """The better of two densities on validation."""
    validation = float(np.mean(log_prob(sample.validation)))
    if best is None or validation > best.validation:
        return Fitted(log_prob, validation, chosen)
    return best
