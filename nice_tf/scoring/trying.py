"""Missing values of columns that can take few, and of those that often have one value: each is
tried.

Ascent on the density stays near the value that it starts at: between the numbers of two categories
there may be one that is unlikely.
"""

from collections.abc import Callable

import numpy as np

from nice_tf.data.schema import Column, Schema
from nice_tf.scoring.spikes import is_written_as_spike, most_probable

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
    is on one where that is more probable than beside all of them, given the rest of its row; where
    it is not and the ascent ended on one, it is on the likeliest value beside them. Then the others
    climb again given these, as long as one of the first changes, three times at most. Where that
    ends on a spike, or less likely than what stood before, this stays. Numbers with more than 100
    steps are left to the ascent; of more than 100 categories the first are tried, which are the
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
            # A spike is narrow and its density high, whether it is probable or not.
            is_better &= ~_ends_on_spike(climbed, known[climbing], schema)
            found[climbing[is_better]] = climbed[is_better]
    return found


def _set_on_spikes(found, known, observed, active, schema, nodes, log_prob):
    """Sets missing values that are more probably on a spike, and those beside the spikes that are
    on one without being so probable, in place; says in `known` which these are.
    """
    for place, of_column in nodes.items():
        missing = active[~observed[active, place]]
        if not len(missing):
            continue

        def log_prob_of_missing(rows, missing=missing):
            return log_prob(rows, missing)

        column = schema.columns[place]
        values = found[missing, place]
        spikes, beside = most_probable(
            found[missing], place, column, of_column, log_prob_of_missing
        )
        is_spike = ~np.isnan(spikes)
        # What was set once stays out of the climb, which starts anew and would go back to it.
        is_beside = ~is_spike & (is_written_as_spike(values, column) | known[missing, place])
        known[missing, place] = is_spike | is_beside
        values = np.where(is_beside, beside, values)
        found[missing, place] = np.where(is_spike, spikes, values)


def _ends_on_spike(rows, known, schema):
    """Which rows have a value on a spike among those that are not known, `[n]` in bool."""
    found = np.zeros(len(rows), bool)
    for place, column in enumerate(schema.columns):
        if column.spikes:
            found |= ~known[:, place] & is_written_as_spike(rows[:, place], column)
    return found


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
