"""What a report says of a table's columns: their data beside samples."""

import dataclasses
import functools

import numpy as np

from nice_tf.flows.flow import sample
from nice_tf.reports import table_drawings
from nice_tf.reports.dependence import information, rank_correlations
from nice_tf.reports.table_columns import (
    date_ticks,
    is_listed,
    labels_of,
    panel,
    shown_range,
    text_of,
)
from nice_tf.runs.finished import FinishedRun
from nice_tf.seeds import stateless_seed

MAX_COLUMNS = 60  # that are drawn
_MAX_ROWS = 5_000  # of data and of samples
_MAX_POINTS = 1_000  # of a pair
_NUM_PAIRS = 4
_NUDGE = 0.15  # of a step, by which points of the same value are moved apart


@dataclasses.dataclass(frozen=True)
class TableReport:
    """What is drawn of a finished run on a table.

    Attributes:
      run: the run.
    """

    run: FinishedRun

    @functools.cached_property
    def rows(self) -> np.ndarray:
        """At most 5,000 rows of train, at equal distances, `[n, D]` in float64."""
        train = self.run.data.train
        every = -(-len(train) // _MAX_ROWS)
        return np.asarray(train[::every], np.float64)

    @functools.cached_property
    def samples(self) -> np.ndarray:
        """As many samples, on the steps of their columns, `[n, D]` in float64."""
        seed = stateless_seed(self.run.config.seed, "report")
        x = sample(self.run.flow, len(self.rows), seed=seed).numpy().astype(np.float64)
        return self.run.schema.as_rows(x)

    def columns(self) -> list[list[str]]:
        """Name, kind, step, lowest and highest value, share of missing values in all rows, most
        frequent value, and its shares in data and samples, of each column; these last three are
        empty where no value of a continuous column comes again and again.
        """
        found = []
        for place, column in enumerate(self.run.schema.columns):
            values, counts = np.unique(self.rows[:, place], return_counts=True)
            usual = values[np.argmax(counts)]
            of_data = counts.max() / len(self.rows)
            of_samples = np.mean(np.isclose(self.samples[:, place], usual, rtol=1e-6, atol=1e-9))
            step = "continuous"
            ends = [text_of(column, column.low), text_of(column, column.high)]
            if is_listed(column):
                step = f"{round(column.high - column.low) + 1} values"
                ends = ["", ""]
            elif column.step:
                step = f"{column.step:g}"
            missing = "none"
            if column.name in self.run.data.missing:
                missing = f"{self.run.data.missing[column.name]:.1%}"
            line = [column.name, column.encoding.kind, step, *ends, missing]
            if column.step or np.isclose(column.spikes, usual, rtol=1e-6).any():
                line += [text_of(column, usual), f"{of_data:.1%}", f"{of_samples:.1%}"]
            else:  # any value comes once or twice
                line += ["", "", ""]
            found.append(line)
        return found

    def histograms(self) -> table_drawings.Histograms:
        """Data and samples of each column."""
        panels = []
        for place, column in enumerate(self.run.schema.columns[:MAX_COLUMNS]):
            panels.append(panel(column, self.rows[:, place], self.samples[:, place]))
        return table_drawings.Histograms(panels)

    @functools.cached_property
    def correlations(self) -> tuple[np.ndarray, np.ndarray]:
        """Rank correlations (Spearman) of data and of samples, `[D, D]` each; 0 where a column has
        one value.
        """
        return rank_correlations(self.rows), rank_correlations(self.samples)

    def matrices(self) -> table_drawings.Matrices:
        """The correlations as pictures."""
        return table_drawings.Matrices(self.run.schema.names, *self.correlations)

    def pairs(self) -> table_drawings.Pairs:
        """The pairs of columns that tell most of each other, each column in one pair; fewer where
        the others tell no more than chance gives.
        """
        strength = information(self.rows, list(map(is_listed, self.run.schema.columns)))
        pairs: list[table_drawings.Pair] = []
        while len(pairs) < _NUM_PAIRS and strength.max() > 0:
            places = sorted(np.unravel_index(np.argmax(strength), strength.shape))
            strength[places] = 0
            strength[:, places] = 0
            x, y = map(self._axis, places)
            rows = self._points(self.rows, places)
            samples = self._points(self.samples, places)
            pairs.append(table_drawings.Pair(x, y, rows, samples))
        return table_drawings.Pairs(pairs)

    def _axis(self, place):
        """Name, range and labels of a column in a picture of pairs."""
        column = self.run.schema.columns[place]
        if is_listed(column):
            labels = labels_of(column)
            ends = (column.low - 0.5, column.low + len(labels) - 0.5)
            return table_drawings.Axis(column.name, ends, labels)
        low, high = shown_range(self.rows[:, place])
        margin = 0.05 * (high - low) + column.step / 2
        ticks = date_ticks(column, low, high)
        return table_drawings.Axis(column.name, (low - margin, high + margin), ticks=ticks)

    def _points(self, rows, places):
        """Some rows of two columns, equal values a little apart, `[n, 2]`."""
        chosen = rows[:_MAX_POINTS, places]
        steps = self.run.schema.steps[places]
        noise = np.random.default_rng(0).uniform(-_NUDGE, _NUDGE, chosen.shape)
        return chosen + steps * noise
