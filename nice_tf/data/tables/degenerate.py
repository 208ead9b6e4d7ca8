"""What makes a density of a table's columns degenerate: values that come back, and columns that
follow from others.
"""

import re
from collections.abc import Sequence

import numpy as np

from nice_tf.data.tables.columns import said_of

_MAX_TIES = 0.01  # share of rows
_SPIKE = 0.1  # share of rows from which on a value that comes back is no rounding
_REPEATED = 0.02  # share of a column's values from which on samples have such a value itself
_FEWEST_REPEATED = 10
# How columns are left out of a run, as a message says it.
OTHERS = "--columns=NAME,..., the names of all others"
_FEWEST_DISTINCT = 20
_ALIKE_BY_CHANCE = 3
_NAME_OF_ONE = re.compile(r"(?i:(^|[^a-z])(id|key|no|nr|number|code))$|[a-z](Id|ID)$")
# What a line says of spikes: in new runs, and in those of earlier versions.
SPREAD = (
    "it is kept as a spike about a thousandth of the column's deviation wide, by which log p of "
    "these rows goes"
)
NOT_SPREAD = (
    "a spike, which this run of an earlier version does not spread: its density has no upper bound "
    "there, unless marginals quantile bounds it"
)
_MIN_REST = 1e-6  # of a column's deviation, once what other columns say is taken off


def warnings(
    rows: np.ndarray,
    names: Sequence[str],
    continuous: Sequence[str],
    *,
    has_marginals: bool = False,
    has_noise: bool = True,
) -> list[str]:
    """What the user should know, one line each.

    Args:
      rows: of the table, `[n, columns]`, NaN where a value is missing.
      names: of the columns.
      continuous: names of those without steps.
      has_marginals: whether the flow has marginals, which hold spikes and bound their density.
      has_noise: whether values of `spikes` are spread over a width.
    """
    if not continuous:
        return []
    places = [names.index(name) for name in continuous]
    found = _of_ties(_ties(rows[:, places], continuous), has_marginals, has_noise)
    found += _repeats(rows)
    dependent = [continuous[k] for k in _dependent(rows[:, places])]
    if dependent:
        what = (
            "follows from columns before it as a sum of multiples: the density has no upper bound; "
            "leave it out with columns"
        )
        found.append(said_of(dependent, what))
    return found


def spikes(values: np.ndarray) -> tuple[float, ...]:
    """The values of a continuous column that come again and again, ascending.

    Args:
      values: `[n]`, none missing.
    """
    found, counts = np.unique(values, return_counts=True)
    is_spike = counts >= max(_REPEATED * len(values), _FEWEST_REPEATED)
    return tuple(found[is_spike].tolist())


def identifiers(names: Sequence[str]) -> list[str]:
    """A line on columns of numbers that look like identifiers, if there are any."""
    if not names:
        return []
    what = (
        "has another whole number in every row, as identifiers have, and is taken for a number "
        f"like others. If it numbers or names the rows, leave it out with {OTHERS}"
    )
    return [said_of(names, what)]


def is_identifier(name: str, values: np.ndarray) -> bool:
    """Whether a column of whole numbers looks like an identifier: no two values are alike, and that
    is no chance, as it is of a measurement with many digits; or they ascend or descend; or it has
    the name of one.

    Args:
      name: of the column.
      values: `[n]`, none missing.
    """
    number = len(values)
    if number < _FEWEST_DISTINCT or len(np.unique(values)) < number:
        return False
    # Pairs that would be alike if they were drawn evenly from the range.
    expected = number**2 / (2 * (np.ptp(values) + 1))
    differences = np.diff(values)
    is_sorted = bool(np.all(differences > 0) or np.all(differences < 0))
    return expected >= _ALIKE_BY_CHANCE or is_sorted or bool(_NAME_OF_ONE.search(name))


def _ties(rows, names):
    """Values that come back again and again: (name, value, share, whether it is one of `spikes`)
    of each column that has one.
    """
    found = []
    for name, column in zip(names, rows.T, strict=True):
        present = column[~np.isnan(column)]
        values, counts = np.unique(present, return_counts=True)
        share = int(np.max(counts, initial=0)) / len(column)
        if share > max(_MAX_TIES, 2 / len(column)):
            usual = values[counts.argmax()]
            found.append((name, usual, share, usual in spikes(present)))
    return found


def _of_ties(ties, has_marginals, has_noise):
    """One line for the spikes that are spread, one for others, one for what looks like rounding."""
    spread: list[str] = []
    spikes: list[str] = []
    rounded: list[str] = []
    for name, value, share, is_repeated in ties:
        kind = rounded
        if share >= _SPIKE:
            kind = spikes
        if is_repeated and has_noise:
            kind = spread
        if kind is not spread or share >= _SPIKE:
            kind.append(f"{name} is {value:g} in {share:.1%}")
    lines = []
    if spread:
        ranks = "; for anomaly scores compare those by ranks" if has_marginals else ""
        lines.append(
            f"column {', '.join(spread)} of rows and continuous elsewhere: {SPREAD}{ranks}"
        )
    if spikes and has_marginals:
        lines.append(
            f"column {', '.join(spikes)} of rows and continuous elsewhere: a spike, which the "
            "marginals hold; log p of these rows goes by its width there"
        )
    elif spikes:
        lines.append(
            f"column {', '.join(spikes)} of rows and continuous elsewhere: its density has no "
            "upper bound there; marginals quantile bounds it"
        )
    if rounded and not has_marginals:
        lines.append(
            f"column {', '.join(rounded)} of rows, as rounded numbers do: with many epochs the "
            "density can grow there; marginals quantile bounds it"
        )
    return lines


def _repeats(rows):
    """A line if many rows are the same."""
    share = 1 - len(np.unique(rows, axis=0)) / len(rows)
    if share <= _MAX_TIES:
        return []
    return [
        f"{share:.1%} of the rows repeat others: where they lie the density has no "
        "upper bound, and rows of train may come back among those held out"
    ]


def _dependent(x):
    """Numbers of the columns of `[n, columns]` that are linear in those before them, to rounding,
    by the full rows.
    """
    x = x[~np.isnan(x).any(axis=1)]
    if len(x) <= x.shape[1] + 1:  # too few to tell
        return []
    centred = x - x.mean(axis=0)
    sizes = np.sqrt(np.sum(centred**2, axis=0))
    scaled = centred / np.maximum(sizes, np.finfo(np.float64).tiny)
    rests = np.abs(np.diagonal(np.linalg.qr(scaled, mode="r")))
    return np.flatnonzero(rests < _MIN_REST).tolist()
