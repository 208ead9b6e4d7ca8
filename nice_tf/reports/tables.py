"""What a report says of a table: its columns, its samples, its scores."""

import dataclasses
import functools

import numpy as np

from nice_tf import drawing
from nice_tf.data.schema import Column, Schema
from nice_tf.data.tables.encodings import decoded_values
from nice_tf.data.units import to_density_units
from nice_tf.evaluation import likelihood, simple_densities
from nice_tf.evaluation.metrics import standard_error
from nice_tf.flows.flow import data_mean, sample
from nice_tf.reports import table_drawings
from nice_tf.runs.finished import FinishedRun
from nice_tf.seeds import stateless_seed

MAX_COLUMNS = 60  # that are drawn
_MAX_ROWS = 5_000  # of data and of samples
_MAX_POINTS = 1_000  # of a pair
_MAX_FITTED = 100_000  # rows that the simpler densities are fitted to
_MAX_VALUES = 10**8  # of the test rows with all their noise
_MAX_BARS = 40  # a column of fewer values has a bar for each
_NUM_BINS = 40
_NUM_PAIRS = 4
_SHOWN = (0.02, 0.98)  # quantiles of a column between which it is drawn
_NUDGE = 0.15  # of a step, by which points of the same value are moved apart
_NUM_UNUSUAL = 10
_NUM_REASONS = 3


@dataclasses.dataclass(frozen=True)
class TableReport:
    """What is drawn of a finished run on a table.

    Attributes:
      run: the run.
    """

    run: FinishedRun

    @property
    def schema(self) -> Schema:
        """The columns."""
        assert self.run.data.schema is not None, "a report of a table is of a table"
        return self.run.data.schema

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
        return self.schema.rounded(x)

    def columns(self) -> list[list[str]]:
        """Name, kind, step, lowest and highest value, most frequent value, and its shares in data
        and samples, of each column.
        """
        found = []
        for place, column in enumerate(self.schema.columns):
            values, counts = np.unique(self.rows[:, place], return_counts=True)
            usual = values[np.argmax(counts)]
            of_data = counts.max() / len(self.rows)
            of_samples = np.mean(np.isclose(self.samples[:, place], usual, rtol=1e-6, atol=1e-9))
            step = "continuous"
            ends = [text_of(column, column.low), text_of(column, column.high)]
            if column.encoding.kind in ("category", "boolean"):
                step = f"{round(column.high - column.low) + 1} values"
                ends = ["", ""]
            elif column.step:
                step = f"{column.step:g}"
            line = [column.name, column.encoding.kind, step, *ends]
            line += [text_of(column, usual), f"{of_data:.1%}", f"{of_samples:.1%}"]
            found.append(line)
        return found

    def histograms(self) -> table_drawings.Histograms:
        """Data and samples of each column."""
        panels = []
        for place, column in enumerate(self.schema.columns[:MAX_COLUMNS]):
            panels.append(_panel(column, self.rows[:, place], self.samples[:, place]))
        return table_drawings.Histograms(panels)

    @functools.cached_property
    def correlations(self) -> tuple[np.ndarray, np.ndarray]:
        """Rank correlations (Spearman) of data and of samples, `[D, D]` each; 0 where a column has
        one value.
        """
        return _rank_correlations(self.rows), _rank_correlations(self.samples)

    def matrices(self) -> table_drawings.Matrices:
        """The correlations as pictures."""
        return table_drawings.Matrices(self.schema.names, *self.correlations)

    def pairs(self) -> table_drawings.Pairs:
        """The pairs of columns of the strongest rank correlation, each column in one pair."""
        strength = np.triu(np.abs(self.correlations[0]), 1)
        pairs: list[table_drawings.Pair] = []
        while len(pairs) < _NUM_PAIRS and strength.max() > 0:
            places = list(np.unravel_index(np.argmax(strength), strength.shape))
            strength[places] = 0
            strength[:, places] = 0
            x, y = map(self._axis, places)
            rows = self._points(self.rows, places)
            samples = self._points(self.samples, places)
            pairs.append(table_drawings.Pair(x, y, rows, samples))
        return table_drawings.Pairs(pairs)

    def _axis(self, place):
        """Name, range and labels of a column in a picture of pairs."""
        column = self.schema.columns[place]
        if column.encoding.kind in ("category", "boolean"):
            labels = _labels(column)
            ends = (column.low - 0.5, column.low + len(labels) - 0.5)
            return table_drawings.Axis(column.name, ends, labels)
        low, high = _shown(self.rows[:, place])
        margin = 0.05 * (high - low) + column.step / 2
        return table_drawings.Axis(column.name, (low - margin, high + margin))

    def _points(self, rows, places):
        """Some rows of two columns, equal values a little apart, `[n, 2]`."""
        chosen = rows[:_MAX_POINTS, places]
        steps = self.schema.steps[places]
        noise = np.random.default_rng(0).uniform(-_NUDGE, _NUDGE, chosen.shape)
        return chosen + steps * noise

    def likelihoods(self) -> list[list[str]]:
        """Mean test log-likelihood of simpler densities at the noise of the evaluation, in nats,
        with the standard error over rows.
        """
        run = self.run
        steps = run.data.steps
        seed = stateless_seed(run.config.seed, "train_noise", 0)
        every = -(-len(run.data.train) // _MAX_FITTED)
        noisy = to_density_units(run.data.train[::every], None, "uniform", seed, steps=steps)
        validation = self._noisy(run.data.validation, "validation", 1)[0]
        most = max(1, _MAX_VALUES // (len(run.data.test) * run.data.event_size))
        test = self._noisy(run.data.test, "test", min(run.config.num_draws, most))
        train = np.asarray(noisy, np.float64)[np.newaxis]
        given = simple_densities.sample_of(run.data, train, validation)
        found = []
        for name, method in (
            ("Gaussian", simple_densities.standardized(simple_densities.gaussian)),
            ("independent columns", simple_densities.independent_marginals),
            (
                "Gaussian copula on these columns",
                simple_densities.on_copula(simple_densities.gaussian),
            ),
        ):
            log_prob = method(given).log_prob
            per_row = np.mean([log_prob(draw) for draw in test], axis=0)
            error = standard_error(per_row)
            found.append([name, f"{per_row.mean():.2f}", f"± {error:.2f}"])
        return found

    def _noisy(self, values, split, num_draws):
        """Rows with the noise that the evaluation gives them, `[num_draws, N, D]` in float64."""
        config = dataclasses.replace(self.run.config, num_draws=num_draws)
        itself = _Itself(self.run.flow.dtype)
        return likelihood.log_probs(
            itself, values, levels=None, config=config, split=split, steps=self.run.data.steps
        )

    @functools.cached_property
    def scores(self) -> np.ndarray:
        """Log-likelihood of the test rows at the middle of their steps, `[N]`."""
        return self._at_the_middle(self.run.data.test, "test")

    def _at_the_middle(self, values, split):
        (found,) = likelihood.log_probs(
            self.run.flow,
            values,
            levels=None,
            config=self.run.config,
            split=split,
            steps=self.run.data.steps,
            dequantization="none",
        )
        return found

    @functools.cached_property
    def tail_probabilities(self) -> np.ndarray:
        """Share of the validation rows that are less likely than each test row, `[N]`."""
        usual = np.sort(self._at_the_middle(self.run.data.validation, "validation"))
        return np.searchsorted(usual, self.scores) / len(usual)

    def calibration(self) -> drawing.Chart:
        """How often test rows have a tail probability at most so low: as often as it says."""
        shares = np.linspace(0, 1, 101)
        found = [np.mean(self.tail_probabilities <= share) for share in shares]
        return drawing.Chart(
            {"test": (shares, found), "exact": (shares, shares)},
            "tail_probability",
            "share of the rows at or below it",
        )

    def unusual(self) -> list[list[str]]:
        """The least likely test rows: log-likelihood, and the columns that cost them most."""
        order = np.argsort(self.scores)[:_NUM_UNUSUAL]
        rows = np.asarray(self.run.data.test[:][order], np.float64)
        contributions = self._contributions(rows, self.scores[order])
        found = []
        for row, score, costs in zip(rows, self.scores[order], contributions, strict=True):
            reasons = []
            for place in np.argsort(-costs)[:_NUM_REASONS]:
                column = self.schema.columns[place]
                value = text_of(column, row[place])
                reasons.append(f"{column.name} = {value} ({costs[place]:.1f} nats)")
            found.append([f"{score:.2f}", "; ".join(reasons)])
        return found

    def _contributions(self, rows, scores):
        """Nats that a row would gain if a value were the usual one of its column, `[n, D]`."""
        middle = self.schema.usual(data_mean(self.run.flow).numpy())
        found = []
        for place in range(rows.shape[1]):
            changed = rows.copy()
            changed[:, place] = middle[place]
            log_prob = self.run.flow.log_prob(changed.astype(self.run.flow.dtype.as_numpy_dtype))
            found.append(log_prob.numpy() - scores)
        return np.stack(found, axis=1)


class _Itself:
    """A density that gives x back: so the evaluation's own loop gives its noisy rows."""

    def __init__(self, dtype):
        self.dtype = dtype

    def log_prob(self, x):
        return x


def text_of(column: Column, value: float) -> str:
    """A value of a column as a table has it."""
    kind = column.encoding.kind
    if kind == "boolean":
        return str(value > 0.5).lower()
    if column.encoding.is_read_apart:
        inside = np.clip(np.array([value]), column.low, column.high)
        return str(decoded_values(inside, column.encoding)[0])
    return f"{value:.6g}"


def _labels(column):
    """The categories of a column, in order; false and true of booleans."""
    number = round(column.high - column.low) + 1
    return [text_of(column, column.low + place) for place in range(number)]


def _panel(column, rows, samples):
    """The shares of a column's values in data and samples."""
    kind = column.encoding.kind
    labels = None
    if kind in ("category", "boolean"):
        labels = _labels(column)
        edges = column.low + np.arange(len(labels) + 1) - 0.5
    else:
        values = np.unique(rows)
        if len(values) <= _MAX_BARS and column.step:
            edges = _edges_between(values)
        else:
            # The few values at the ends would leave all others a sliver.
            low, high = _shown(rows)
            edges = np.linspace(low, high, _NUM_BINS + 1)
    shares = []
    for values in (rows, samples):
        inside = np.clip(values, edges[0], edges[-1])
        counts, _ = np.histogram(inside, edges)
        shares.append(counts / len(values))
    return table_drawings.Panel(column.name, edges, shares[0], shares[1], labels)


def _shown(values):
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


def _rank_correlations(rows):
    from scipy import stats

    ranks = stats.rankdata(rows, axis=0)
    centred = ranks - ranks.mean(axis=0)
    deviations = np.sqrt(np.mean(centred**2, axis=0))
    scaled = centred / np.where(deviations > 0, deviations, 1)
    return scaled.T @ scaled / len(rows)
