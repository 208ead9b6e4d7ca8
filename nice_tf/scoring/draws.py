"""Draws of what is missing in the rows of a table, given what is there."""

import dataclasses
import os
import pathlib

import numpy as np
import pyarrow as pa
import tensorflow_probability as tfp

from nice_tf.data.schema import Schema
from nice_tf.errors import UserError
from nice_tf.flows.conditional import THINNING, draw_between
from nice_tf.runs.finished import load_flow
from nice_tf.runs.workdir import Workdir
from nice_tf.scoring.blocks import Block
from nice_tf.scoring.imputation import table_schema, with_gaps_from
from nice_tf.scoring.model import Model
from nice_tf.scoring.scorer import fill_gaps, find_missing
from nice_tf.seeds import stateless_seed

tfd = tfp.distributions

_VALUES_AT_ONCE = 2**24  # of all steps of all chains
_NUM_CHAINS = 4
_MANY = 64  # chains where one row alone is drawn


@dataclasses.dataclass
class Trust:
    """How far draws can be trusted, over all rows that had gaps.

    Attributes:
      acceptances: of each row, as `conditional.Draws` has it.
      sizes: effective sample size of each row.
    """

    acceptances: list[float] = dataclasses.field(default_factory=list)
    sizes: list[float] = dataclasses.field(default_factory=list)

    def describe(self, num_draws: int) -> str:
        """A line."""
        if not self.sizes:
            return "no missing value was drawn by this command"
        sizes = np.array(self.sizes)
        worth = f"{sizes.min():.0f}"
        if len(sizes) > 1:
            worth = f"{np.median(sizes):.0f} (median over {len(sizes):,} rows; least {worth})"
        said = (
            f"acceptance {np.mean(self.acceptances):.2f}; {num_draws} draws are worth {worth} "
            "independent ones"
        )
        if sizes.min() < min(10, num_draws / 2):
            said += ": too few for some rows, give more draws"
        return said


@dataclasses.dataclass(frozen=True)
class Drawer:
    """Draws for the gaps of rows, by Hamiltonian Monte Carlo from the flow of a run.

    Attributes:
      model: of the run.
      flow: its density.
      num_draws: of each row.
      seed: of all draws.
      trust: of the draws so far.
    """

    model: Model
    flow: tfd.TransformedDistribution
    num_draws: int
    seed: int
    trust: Trust = dataclasses.field(default_factory=Trust)

    @classmethod
    def load(cls, path: str | os.PathLike, num_draws: int, seed: int) -> "Drawer":
        """That of the run in a folder.

        Raises:
          UserError: an export, which has no gradients; a run on other data than tables, or of a
            conditional density.
        """
        if not Workdir(pathlib.Path(path)).config.exists():
            raise UserError(
                f"draws need the folder of a run, got the model {path}: an export answers with the "
                "most likely values alone"
            )
        model = Model.load(path)
        table_schema(model)
        return cls(model, load_flow(path), num_draws, seed)

    @property
    def schema(self) -> Schema:
        """The columns of the table."""
        return table_schema(self.model)

    @property
    def rows_at_once(self) -> int:
        """How many rows a block should have."""
        size = self.model.event_size
        steps = max(self.num_draws, _NUM_CHAINS) * THINNING * size
        # Each chain has a matrix of size x size.
        return max(1, min(256, _VALUES_AT_ONCE // max(steps, _NUM_CHAINS * size**2)))

    def __call__(self, block: Block) -> pa.Table:
        """The rows of a block, each `num_draws` times, with `row` and `draw` before its columns."""
        taken = sorted({"row", "draw"} & set(block.kept))
        if taken:
            raise UserError(
                f"the input has columns {', '.join(taken)}, names that the output needs for its "
                "own: rename them"
            )
        drawn = self._drawn(block)
        tables = []
        for draw, filled in enumerate(drawn):
            table = with_gaps_from(filled, block, self.schema)
            rows = pa.array(np.arange(block.first, block.first + len(filled)))
            table = table.add_column(0, "row", rows)
            tables.append(table.add_column(1, "draw", pa.array(np.full(len(filled), draw))))
        joined = pa.concat_tables(tables)
        order = np.arange(len(joined)).reshape(self.num_draws, -1).T.ravel()
        return joined.take(pa.array(order))

    def _drawn(self, block):
        """Rows without gaps, `[num_draws, n, D]`."""
        values = block.values.astype(self.model.dtype)
        drawn = np.repeat(values[np.newaxis], self.num_draws, axis=0)
        has_gaps = find_missing(values).any(axis=1)
        if has_gaps.any():
            start = fill_gaps(self.model, values[has_gaps], first=block.first)
            found = self.draws_of(values[has_gaps], start, first=block.first)
            drawn[:, has_gaps] = found
        return drawn

    def draws_of(
        self, values: np.ndarray, start: np.ndarray, *, first: int, num_chains: int = _NUM_CHAINS
    ) -> np.ndarray:
        """Draws of rows with gaps, on the steps of their columns and within their ranges.

        Args:
          values: `[n, D]` in data units, NaN where one is missing.
          start: the same without gaps, where the chains begin.
          first: number of the first row, which sets its draws apart.
          num_chains: per row.

        Returns:
          `[num_draws, n, D]`; what was there is there to the bit.
        """
        missing = np.isnan(values)
        half = self.schema.steps / 2
        low = np.where(missing, -np.inf, values - half)
        high = np.where(missing, np.inf, values + half)
        found = draw_between(
            self.flow,
            low,
            high,
            start=start,
            num_draws=self.num_draws,
            num_chains=num_chains,
            seed=stateless_seed(self.seed, "draws", first),
        )
        self.trust.acceptances += found.acceptance.tolist()
        self.trust.sizes += found.effective_sample_size.tolist()
        rounded = np.clip(self.schema.rounded(found.x), *self.schema.ends)
        return np.where(missing, rounded, values).astype(values.dtype)

    def given(self, known: np.ndarray) -> np.ndarray:
        """Draws of one row of which some values are known, `[D]` with NaN for the rest.

        Returns:
          `[num_draws, D]`.
        """
        values = known[np.newaxis].astype(self.model.dtype)
        start = fill_gaps(self.model, values, first=0)
        num_chains = min(_MANY, self.num_draws)
        return self.draws_of(values, start, first=0, num_chains=num_chains)[:, 0]
