"""Whether a missing value of a continuous column is one of those that come again and again."""

from collections.abc import Callable

import numpy as np

from nice_tf.data.schema import Column

_NUM_NODES = 64
_PLACES = (-0.375, -0.125, 0.125, 0.375)  # in the bin of a spike, in its widths
_BESIDE = 0.55  # of its width: out of the bin, whatever the rounding


def nodes_of(column: Column, samples: np.ndarray) -> np.ndarray:
    """Where the density of a column is looked at beside its spikes, ascending.

    Args:
      column: with spikes.
      samples: values of it that are about as frequent as in the data, `[n]`.
    """
    ends = [column.low, column.high]
    for spike, width in zip(column.spikes, column.spike_widths.tolist(), strict=True):
        ends += [spike - _BESIDE * width, spike + _BESIDE * width]
    values = samples[~_is_on(samples, column)].astype(np.float64)
    values = np.quantile(np.concatenate([values, ends]), np.linspace(0, 1, _NUM_NODES))
    values = np.unique(np.concatenate([values, ends]))
    values = values[(values >= column.low) & (values <= column.high)]
    return values[~_is_on(values, column)]


def is_written_as_spike(values: np.ndarray, column: Column) -> np.ndarray:
    """Which values of a column are so near to a spike that `Column.on_spikes` moves them to it,
    `[n]` in bool.
    """
    apart = np.abs(values[:, np.newaxis] - np.array(column.spikes))
    # Rounding to float32 may move what lies on the end.
    return np.any(apart <= 1.01 * column.spike_width, axis=1)


def _is_on(values, column):
    """Which values lie in the bin of a spike, `[n]` in bool."""
    apart = np.abs(values[:, np.newaxis] - np.array(column.spikes))
    return np.any(apart < 0.999 * _BESIDE * column.spike_widths, axis=1)


def most_probable(
    rows: np.ndarray,
    place: int,
    column: Column,
    nodes: np.ndarray,
    log_prob: Callable[[np.ndarray], np.ndarray],
) -> tuple[np.ndarray, np.ndarray]:
    """The most probable spike where the column is more probably on one of its spikes than beside
    them, given all other values of the row; and the likeliest value beside them.

    Both probabilities are integrals of the density along the column: over the bins of the spikes by
    four points each, over the rest by the trapezoidal rule between the nodes.

    Args:
      rows: `[n, D]`.
      place: of the column.
      column: with spikes.
      nodes: of `nodes_of`.
      log_prob: of rows, `[n, D]` to `[n]`.

    Returns:
      (spikes, beside): `[n]` in float64 each; NaN for a spike where the rest is more probable, and
      the node of the highest density of those that are not written as a spike.
    """

    def density_at(value):
        changed = rows.copy()
        changed[:, place] = value
        return log_prob(changed).astype(np.float64)

    beside = np.stack([density_at(node) for node in nodes])  # [K, n]
    of_spikes = []
    for spike, width in zip(column.spikes, column.spike_widths.tolist(), strict=True):
        places = spike + width * np.array(_PLACES)
        of_spikes.append([density_at(value) for value in places])
    on = np.array(of_spikes)  # [S, 4, n]
    highest = np.maximum(beside.max(axis=0), on.max(axis=(0, 1)))
    on = column.spike_widths[:, np.newaxis] * np.exp(on - highest).mean(axis=1)
    heights = np.exp(beside - highest)
    widths = np.diff(nodes)
    # The bin of a spike is no part of the rest.
    widths[_is_on((nodes[1:] + nodes[:-1]) / 2, column)] = 0
    rest = (widths[:, np.newaxis] * (heights[1:] + heights[:-1]) / 2).sum(axis=0)
    best = np.array(column.spikes)[on.argmax(axis=0)]
    spikes = np.where(on.sum(axis=0) > rest, best, np.nan)
    is_far = ~is_written_as_spike(nodes, column)
    beside = np.where(is_far[:, np.newaxis], beside, -np.inf)
    return spikes, nodes[beside.argmax(axis=0)]
