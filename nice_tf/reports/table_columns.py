"""The values of one column in a report: as text, in bins, and the range that is drawn."""

import numpy as np

from nice_tf.data.schema import Column
from nice_tf.data.tables.encodings import decoded_values
from nice_tf.reports import table_drawings

_MAX_BARS = 40  # a column of fewer values has a bar for each
_NUM_BINS = 40
_TICKS = (0.1, 0.5, 0.9)  # of an axis of dates, as shares of its length
_SHOWN = (0.02, 0.98)  # quantiles of a column between which it is drawn


def is_listed(column: Column) -> bool:
    """Whether the values of a column have names: categories, true and false."""
    return column.encoding.kind in ("category", "boolean")


def text_of(column: Column, value: float) -> str:
    """A value of a column as a table has it."""
    kind = column.encoding.kind
    if kind == "boolean":
        return str(value > 0.5).lower()
    if column.encoding.is_read_apart:
        inside = np.clip(np.array([value]), column.low, column.high)
        return str(decoded_values(inside, column.encoding)[0])
    return f"{value:.6g}"


def labels_of(column: Column) -> list[str]:
    """The categories of a column, in order; false and true of booleans."""
    number = round(column.high - column.low) + 1
    return [text_of(column, column.low + place) for place in range(number)]


def date_ticks(column: Column, low: float, high: float) -> table_drawings.Ticks | None:
    """Where an axis of dates or times has which, between two values of the column; none for other
    columns.
    """
    if column.encoding.kind != "date":
        return None
    places = np.clip(low + (high - low) * np.array(_TICKS), column.low, column.high)
    texts = [text_of(column, place) for place in places]
    parts = [text.partition(" ") for text in texts]
    days = {day for day, _, _ in parts}
    if all(time for _, _, time in parts) and len(days) == 1:
        texts = [time for _, _, time in parts]
    elif len(days) == len(parts):
        texts = [day for day, _, _ in parts]
    return table_drawings.Ticks(places.tolist(), texts)


def panel(column: Column, rows: np.ndarray, samples: np.ndarray) -> table_drawings.Panel:
    """The shares of a column's values in data `[n]` and samples `[m]`."""
    labels = None
    if is_listed(column):
        labels = labels_of(column)
        edges = column.low + np.arange(len(labels) + 1) - 0.5
    else:
        values = np.unique(rows)
        if len(values) <= _MAX_BARS and column.step:
            edges = _edges_between(values)
        else:
            # The few values at the ends would leave all others a sliver.
            edges = _even_edges(column, *shown_range(rows))
    shares = []
    for values in (rows, samples):
        inside = np.clip(values, edges[0], edges[-1])
        counts, _ = np.histogram(inside, edges)
        shares.append(counts / len(values))
    ticks = date_ticks(column, edges[0], edges[-1])
    return table_drawings.Panel(column.name, edges, shares[0], shares[1], labels, ticks)


def _even_edges(column, low, high):
    """Edges of at most 40 bins of one width; of a column with steps as many steps wide each: half a
    step more in some would make a comb of any column.
    """
    if not column.step:
        return np.linspace(low, high, _NUM_BINS + 1)
    first = round((low - column.low) / column.step)
    number = round((high - column.low) / column.step) - first + 1
    steps_each = -(-number // _NUM_BINS)
    places = first + steps_each * np.arange(-(-number // steps_each) + 1)
    return column.low + column.step * (places - 0.5)


def shown_range(values: np.ndarray) -> tuple[float, float]:
    """The range of a column that is drawn: without its ends, unless nearly all values are one."""
    low, high = np.quantile(values, _SHOWN)
    if low < high:
        return float(low), float(high)
    return float(values.min()), float(values.max())


def _edges_between(values):
    """Edges of one bin per value, half way to its neighbours."""
    if len(values) == 1:
        return np.array([values[0] - 0.5, values[0] + 0.5])
    middles = (values[1:] + values[:-1]) / 2
    first = 2 * values[0] - middles[0]
    last = 2 * values[-1] - middles[-1]
    return np.concatenate([[first], middles, [last]])
