"""What makes a density of a table's columns degenerate: values that come back, and columns that
follow from others.
"""

from collections.abc import Sequence

import numpy as np

_MAX_TIES = 0.01  # share of rows
_MIN_REST = 1e-6  # of a column's deviation, once what other columns say is taken off


def warnings(rows: np.ndarray, names: Sequence[str], continuous: Sequence[str]) -> list[str]:
    """What the user should know, a line each.

    Args:
      rows: of the table, `[n, columns]`, NaN where a value is missing.
      names: of the columns.
      continuous: names of those without steps.
    """
    if not continuous:
        return []
    places = [names.index(name) for name in continuous]
    found = []
    for name, place in zip(continuous, places, strict=True):
        found += _ties(name, rows[:, place])
    found += _repeats(rows)
    dependent = [continuous[k] for k in _dependent(rows[:, places])]
    if dependent:
        found.append(
            f"column {', '.join(dependent)} follows from columns before it as a sum of "
            "multiples: the density has no upper bound; leave it out with columns"
        )
    return found


def _ties(name, column):
    """A line if a column has one value again and again."""
    values, counts = np.unique(column[~np.isnan(column)], return_counts=True)
    share = int(np.max(counts, initial=0)) / len(column)
    if share <= max(_MAX_TIES, 2 / len(column)):
        return []
    return [
        f"column {name} is {values[counts.argmax()]:g} in {share:.1%} of rows and "
        "continuous elsewhere: its density has no upper bound there"
    ]


def _repeats(rows):
    """A line if many rows are the same."""
    share = 1 - len(np.unique(rows, axis=0)) / len(rows)
    if share <= _MAX_TIES:
        return []
    return [
        f"{share:.1%} of the rows repeat others: where they lie the density has no "
        "upper bound, and rows of train may come back in test"
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
