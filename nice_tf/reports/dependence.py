"""How much the columns of a table tell of each other."""

from collections.abc import Sequence

import numpy as np

_NUM_BINS = 10  # of a column of numbers
_ROWS_A_CELL = 5  # on average, of a table of two columns of categories
_DEVIATIONS = 3  # by which information must be ahead of what chance gives


def rank_correlations(rows: np.ndarray) -> np.ndarray:
    """Spearman's correlations of the columns of `[n, D]`, `[D, D]`; 0 where a column has one
    value.
    """
    from scipy import stats

    ranks = stats.rankdata(rows, axis=0)
    centred = ranks - ranks.mean(axis=0)
    deviations = np.sqrt(np.mean(centred**2, axis=0))
    scaled = centred / np.where(deviations > 0, deviations, 1)
    return scaled.T @ scaled / len(rows)


def information(rows: np.ndarray, are_categories: Sequence[bool]) -> np.ndarray:
    """Mutual information of each two columns beyond what chance gives: right for categories, which
    have no order, as well as for numbers.

    Of n rows of independent columns with K and L values, 2 n times the information is about
    chi-squared with (K - 1)(L - 1) degrees of freedom. Its mean and three deviations are taken off.

    Args:
      rows: `[n, D]`.
      are_categories: whether the values of a column have no order, `[D]`: then the sqrt(n / 5) most
        frequent count each by itself and the others together, because of rare ones chance is more
        than chi-squared says. Other columns are cut into ten bins of about as many rows each.

    Returns:
      Nats, `[D, D]`, symmetric and at least 0; 0 on the diagonal.
    """
    columns = []
    for values, is_category in zip(rows.T, are_categories, strict=True):
        columns.append(_codes(values, is_category))
    found = np.zeros([len(columns), len(columns)])
    for first, column in enumerate(columns):
        for second in range(first):
            found[first, second] = _beyond_chance(column, columns[second])
    return found + found.T


def _codes(values, is_category):
    """The number of each row's value or bin, from 0 on without holes, `[n]`."""
    distinct, codes = np.unique(values, return_inverse=True)
    if is_category:
        return _frequent(codes, int(np.sqrt(len(values) / _ROWS_A_CELL)))
    if len(distinct) <= _NUM_BINS:
        return codes
    edges = np.quantile(values, np.linspace(0, 1, _NUM_BINS + 1)[1:-1])
    bins = np.searchsorted(edges, values, side="right")
    return np.unique(bins, return_inverse=True)[1]


def _frequent(codes, number):
    """Codes of the most frequent values, and one code more for all others."""
    by_frequency = np.argsort(-np.bincount(codes), kind="stable")
    place = np.empty(len(by_frequency), int)
    place[by_frequency] = np.arange(len(by_frequency))
    return np.minimum(place[codes], number)


def _beyond_chance(first, second):
    """Mutual information of two columns of codes, less what chance gives, at least 0."""
    number = len(first)
    width = second.max() + 1
    counts = np.bincount(first * width + second, minlength=(first.max() + 1) * width)
    together = counts.reshape(-1, width) / number
    apart = together.sum(axis=1, keepdims=True) * together.sum(axis=0)
    ratios = np.divide(together, apart, out=np.ones_like(together), where=together > 0)
    nats = np.sum(together * np.log(ratios))
    freedom = first.max() * second.max()
    chance = (freedom + _DEVIATIONS * np.sqrt(2 * freedom)) / (2 * number)
    return max(0.0, nats - chance)
