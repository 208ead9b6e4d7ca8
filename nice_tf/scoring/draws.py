"""Draws of what is missing in the rows of a table, given what is there."""

import dataclasses
import os
import pathlib
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import tensorflow as tf

from nice_tf.data.schema import Schema
from nice_tf.data.tables.encodings import decoded, for_csv
from nice_tf.data.units import widths_of_spikes
from nice_tf.errors import UserError
from nice_tf.flows.conditional import THINNING, ConditionalSampler, Draws, needs_matrices
from nice_tf.runs.finished import load_flow
from nice_tf.runs.workdir import Workdir
from nice_tf.scoring.blocks import Block
from nice_tf.scoring.imputation import table_schema, with_gaps_from
from nice_tf.scoring.model import Model
from nice_tf.scoring.scorer import fill_gaps, find_missing
from nice_tf.scoring.trust import with_trust
from nice_tf.seeds import stateless_seed

_VALUES_AT_ONCE = 2**24  # of all steps of all chains
_MATRICES = 8  # of D x D, in float64 some of them, that a row takes where there are any
_NUM_CHAINS = 4
_MANY = 64  # chains where one row alone is drawn


@dataclasses.dataclass(frozen=True)
class Drawer:
    """Draws for the missing values of rows, by Hamiltonian Monte Carlo from the flow of a run.

    Attributes:
      model: of the run.
      sampler: of its density.
      num_draws: of each row.
      seed: of all draws.
    """

    model: Model
    sampler: ConditionalSampler
    num_draws: int
    seed: int

    @classmethod
    def load(cls, path: str | os.PathLike, num_draws: int, seed: int) -> "Drawer":
        """That of the run in a folder.

        Raises:
          UserError: an export, which has no gradients; a run on other data than tables, or of a
            conditional density.
        """
        if not Workdir(pathlib.Path(path)).config.exists():
            raise UserError(
                "draws of missing values, and samples that have given values, need the folder of a "
                f"run, got the model {path}: an export fills in the most likely values alone"
            )
        model = Model.load(path)
        table_schema(model)
        if model.classes:
            raise UserError(
                f"draws are of p(x), the model {path} is of p(x | {model.classes.label}): in "
                "Python draw_between of nice_tf.flows.conditional takes its context"
            )
        return cls(model, ConditionalSampler(load_flow(path)), num_draws, seed)

    @property
    def schema(self) -> Schema:
        """The columns of the table."""
        return table_schema(self.model)

    @property
    def rows_at_once(self) -> int:
        """How many rows a block should have."""
        size = self.model.event_size
        values = max(self.num_draws, _NUM_CHAINS) * THINNING * size
        if needs_matrices(self.sampler.flow):
            values = max(values, _MATRICES * size**2)
        return max(1, min(256, _VALUES_AT_ONCE // values))

    def __call__(self, block: Block) -> pa.Table:
        """The rows of a block, each `num_draws` times, with `row` and `draw` before its columns,
        and with what `Trust` adds up.
        """
        taken = sorted({"row", "draw"} & set(block.kept))
        if taken:
            raise UserError(
                f"the input has columns {', '.join(taken)}, names that the output needs for its "
                "own: rename them"
            )
        drawn, found = self._drawn(block)
        tables = []
        for draw, filled in enumerate(drawn):
            table = with_gaps_from(filled, block, self.schema)
            rows = pa.array(np.arange(block.first, block.first + len(filled)))
            table = table.add_column(0, "row", rows)
            tables.append(table.add_column(1, "draw", pa.array(np.full(len(filled), draw))))
        joined = pa.concat_tables(tables)
        order = np.arange(len(joined)).reshape(self.num_draws, -1).T.ravel()
        joined = joined.take(pa.array(order))
        if found is None:
            return with_trust(joined, [], [])
        acceptances = found.acceptance.tolist()
        return with_trust(joined, acceptances, found.effective_sample_size.tolist())

    def _drawn(self, block):
        """Rows without missing values, `[num_draws, n, D]`, and what is known of their draws, if
        there are any.
        """
        values = block.values.astype(self.model.dtype)
        drawn = np.repeat(values[np.newaxis], self.num_draws, axis=0)
        has_gaps = find_missing(values).any(axis=1)
        if not has_gaps.any():
            return drawn, None
        start = fill_gaps(self.model, values[has_gaps], first=block.first)
        found = self.draws_of(values[has_gaps], start, first=block.first)
        drawn[:, has_gaps] = found.x
        return drawn, found

    def draws_of(
        self,
        values: np.ndarray,
        start: np.ndarray,
        *,
        first: int,
        num_draws: int | None = None,
        num_chains: int = _NUM_CHAINS,
    ) -> Draws:
        """Draws of rows with missing values, on the steps of their columns and within their ranges.

        Args:
          values: `[n, D]` in data units, NaN where one is missing.
          start: the same without missing values, where the chains begin.
          first: number of the first row, or of the first draw of a single one, which sets these
            draws apart.
          num_draws: of each row; `None` for all.
          num_chains: per row.

        Returns:
          Their x is `[num_draws, n, D]`; what was there is there to the bit.
        """
        missing = np.isnan(values)
        widths = self.schema.steps + np.zeros(values.shape)
        if self.schema.spikes:
            of_spikes = widths_of_spikes(values, self.schema.spikes, dtype=tf.float64)
            widths += of_spikes.numpy()
        half = widths / 2
        low = np.where(missing, -np.inf, values - half)
        high = np.where(missing, np.inf, values + half)
        found = self.sampler(
            low,
            high,
            start=start,
            num_draws=num_draws or self.num_draws,
            num_chains=num_chains,
            seed=stateless_seed(self.seed, "draws", first),
        )
        rounded = np.clip(self.schema.rounded(found.x), *self.schema.ends)
        x = np.where(missing, rounded, values).astype(values.dtype)
        return dataclasses.replace(found, x=x)

    def given(
        self, known: np.ndarray, first: int = 0, *, as_text: bool = False
    ) -> Iterator[pa.Table]:
        """Draws of one row of which some values are known, `[D]` with NaN for the rest.

        Args:
          known: the row.
          first: number of the first draw; one at which a table began.
          as_text: give values as text for CSV.

        Yields:
          Tables with what `Trust` adds up, of some draws each, `num_draws` in all.
        """
        values = known[np.newaxis].astype(self.model.dtype)
        start = fill_gaps(self.model, values, first=0)
        size = max(_MANY, _VALUES_AT_ONCE // (THINNING * self.model.event_size))
        for number in range(first, self.num_draws, size):
            count = min(size, self.num_draws - number)
            chains = min(_MANY, count)
            found = self.draws_of(values, start, first=number, num_draws=count, num_chains=chains)
            columns = decoded(self.schema, found.x[:, 0])
            if as_text:
                columns = for_csv(self.schema, columns)
            table = pa.table(columns)
            acceptances = found.acceptance.tolist()
            yield with_trust(table, acceptances, found.effective_sample_size.tolist())
