"""What a report of a table says of its scores: beside simpler densities, whether they are
calibrated, the least likely rows.
"""

import dataclasses
import functools

import numpy as np
import tensorflow as tf

from nice_tf import drawing
from nice_tf.data.dataset import rows_of_test
from nice_tf.data.tables.source import missing_cells
from nice_tf.data.units import to_density_units
from nice_tf.evaluation import likelihood, simple_densities
from nice_tf.evaluation.metrics import standard_error
from nice_tf.flows.contributions import contributions
from nice_tf.flows.marginals import data_mean
from nice_tf.reports.table_columns import text_of
from nice_tf.runs.finished import FinishedRun
from nice_tf.seeds import stateless_seed

_MAX_FITTED = 100_000  # rows that the simpler densities are fitted to
_MAX_VALUES = 10**8  # of the test rows with all their noise
_NUM_UNUSUAL = 10
_NUM_REASONS = 3
_LEAST_REASON = 0.1  # nats of those after the first


@dataclasses.dataclass(frozen=True)
class TableScores:
    """How likely a finished run on a table finds rows.

    Attributes:
      run: the run.
    """

    run: FinishedRun

    def likelihoods(self) -> list[list[str]]:
        """Mean test log-likelihood of simpler densities at the noise of the evaluation, in nats,
        with the standard error over rows.
        """
        run = self.run
        seed = stateless_seed(run.config.seed, "train_noise", 0)
        every = -(-len(run.data.train) // _MAX_FITTED)
        noisy = to_density_units(
            run.data.train[::every],
            None,
            "uniform",
            seed,
            steps=run.data.steps,
            spikes=run.data.spikes,
        )
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
        return likelihood.noisy_rows(
            values,
            levels=None,
            config=dataclasses.replace(self.run.config, num_draws=num_draws),
            split=split,
            steps=self.run.data.steps,
            spikes=self.run.data.spikes,
            dtype=self.run.flow.dtype,
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
        """The least likely test rows: number in the file, log-likelihood, and the columns that cost
        them most, those among them that were missing and filled marked.
        """
        order = np.argsort(self.scores)[:_NUM_UNUSUAL]
        rows = np.asarray(self.run.data.test[:][order], np.float64)
        numbers = rows_of_test(self.run.config, self.run.data)[order]
        is_filled = np.zeros(rows.shape, bool)
        if self.run.data.missing:
            is_filled = missing_cells(self.run.config, "test", numbers)
        found = []
        for k, costs in enumerate(self._costs(rows)):
            reasons: list[str] = []
            for place in np.argsort(-costs)[:_NUM_REASONS]:
                if reasons and costs[place] < _LEAST_REASON:
                    break
                column = self.run.schema.columns[place]
                value = text_of(column, rows[k, place])
                if is_filled[k, place]:
                    value += ", filled"
                reasons.append(f"{column.name} = {value} ({costs[place]:.1f} nats)")
            found.append([str(numbers[k]), f"{self.scores[order[k]]:.2f}", "; ".join(reasons)])
        return found

    def _costs(self, rows):
        """Nats that a row would gain if a value were the usual one of its column, `[n, D]`."""
        usual = self.run.schema.usual(data_mean(self.run.flow).numpy())
        found = []
        for row in rows:  # each takes D rows of its own
            x = tf.constant(row[np.newaxis], self.run.flow.dtype)
            contribution, _ = contributions(self.run.flow, x, usual)
            found.append(contribution[0].numpy())
        return np.stack(found)
