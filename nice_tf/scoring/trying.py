"""Missing values of columns that can take few, and of those that often have one value: each is
tried.

Ascent on the density stays near the value that it starts at: between the numbers of two categories
there may be one that is unlikely.
"""

from collections.abc import Callable

import numpy as np

from nice_tf.data.schema import Column, Schema
from nice_tf.scoring.spikes import most_probable

_MOST = 100  # values of a column that are tried
_ROUNDS = 3


def with_best_values(
    x: np.ndarray,
    observed: np.ndarray,
    schema: Schema,
    *,
    log_prob: Callable[[np.ndarray, np.ndarray], np.ndarray],
    climb: Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray],
    nodes: Callable[[], dict[int, np.ndarray]],
) -> np.ndarray:
    """Rows whose missing values were filled by ascent, with more likely ones.

    In turn each missing value of a column of few is the best of all given the rest of its row. A
    missing value of a continuous column with spikes, such as the zeros of one that often is zero,
    is on one where that is more probable than beside all of them, given the rest of its row. Then
    the others climb again given these, as long as one of the first changes, three times at most.
    Where that ends less likely than what stood before, this stays: each step makes a row more
    likely. Numbers with more than
    100 steps are left to the ascent; of more than 100 categories the first are tried, which are the
    most frequent where they have no order.

    Args:
      x: `[B, D]`, on the steps of the columns.
      observed: what was there, `[B, D]` in bool.
      schema: of the table.
      log_prob: of rows, `[n, D]`, and their numbers in x.
      climb: rows whose values where a mask is false are found given the others; of rows and mask,
        `[n, D]` each, and the numbers of the rows in x.
      nodes: by place, those of each column with spikes, as `spikes.nodes_of` gives them; asked for
        where one is missing.

    Returns:
      As `x`.
    """
    tried = list(map(_values_to_try, schema.columns))
    is_of_few = np.array([len(values) > 0 for values in tried])
    has_spikes = np.array([len(column.spikes) > 0 for column in schema.columns])
    # What stays where it is while the others climb.
    known = observed | is_of_few
    found = x.copy()
    active = np.flatnonzero((~observed & (is_of_few | has_spikes)).any(axis=1))
    for _ in range(_ROUNDS):
        if not len(active):
            break
        before = found[active]
        known_before = known[active]
        found[active] = _in_turn(before, observed[active], tried, log_prob, active)
        if (~observed[active] & has_spikes).any():
            places = nodes()
            _set_on_spikes(found, known, observed, active, schema, places, log_prob)
        is_other = (found[active] != before).any(axis=1)
        is_other |= (known[active] != known_before).any(axis=1)
        active = active[is_other]
        climbing = active[~known[active].all(axis=1)]
        if len(climbing):
            stood = found[climbing]
            climbed = climb(stood, known[climbing], climbing)
            # The ascent starts anew and may end at a lower top than it did before.
            is_better = log_prob(climbed, climbing) > log_prob(stood, climbing)
            found[climbing[is_better]] = climbed[is_better]
    return found


def _set_on_spikes(found, known, observed, active, schema, nodes, log_prob):
    """Sets missing values that are more probably on a spike, in place, and says in `known` which
    these are.
    """
    for place, of_column in nodes.items():
        missing = active[~observed[active, place]]
        if not len(missing):
            continue

        def log_prob_of_missing(rows, missing=missing):
            return log_prob(rows, missing)

        spikes = most_probable(
            found[missing], place, schema.columns[place], of_column, log_prob_of_missing
        )
        is_on = ~np.isnan(spikes)
        known[missing, place] = is_on
        found[missing[is_on], place] = spikes[is_on]


def _values_to_try(column: Column) -> np.ndarray:
    """Those that a column can take, if they are few; else none."""
    if not column.step:
        return np.empty(0)
    number = round((column.high - column.low) / column.step) + 1
    if number > _MOST and not column.categories:
        return np.empty(0)
    return column.low + column.step * np.arange(min(number, _MOST))


def _in_turn(rows, observed, tried, log_prob, numbers):
    """Rows in which each missing value of a column of few is the best given all others."""
    rows = rows.copy()
    scores = log_prob(rows, numbers)
    for place, values in enumerate(tried):
        missing = np.flatnonzero(~observed[:, place])
        if not len(values) or not len(missing):
            continue
        for value in values:
            changed = rows[missing]
            changed[:, place] = value
            found = log_prob(changed, numbers[missing])
            is_better = found > scores[missing]
            rows[missing[is_better], place] = value
            scores[missing[is_better]] = found[is_better]
    return rows
