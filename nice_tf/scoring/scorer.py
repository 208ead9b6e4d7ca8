"""What a trained model says of a block of rows, as a table: scores and filled gaps, and their
summary.
"""

import dataclasses

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from nice_tf.errors import UserError
from nice_tf.scoring.blocks import Block, rows_at_once
from nice_tf.scoring.model import Model

VALUES_A_CALL = 2**19  # of the examples that the model sees at once
HARD_WORK = 16  # how many times less rows lie in a part where each takes many passes


@dataclasses.dataclass(frozen=True)
class Scorer:
    """Scores of blocks as tables.

    Attributes:
      model: trained.
      top: how many columns of a table to name that make a row unusual; 0 for none; `None` for 3 of
        a table.
      threshold: largest tail probability of a row that is flagged.
      impute: fill missing values first; else they are refused.
    """

    model: Model
    top: int | None = None
    threshold: float = 0.01
    impute: bool = False

    def __post_init__(self):
        if self.top is None:
            object.__setattr__(self, "top", 3 if self.model.schema else 0)
        if self.top < 0:
            raise UserError(f"top must be at least 0, got {self.top}")
        if not 0 <= self.threshold <= 1:
            raise UserError(f"threshold must be from 0 to 1, got {self.threshold}")
        if self.top and not self.model.schema:
            raise UserError(
                f"top is for tables, got {self.top}: the model is of shape {self.model.event_shape}"
            )

    @property
    def rows_at_once(self) -> int:
        """How many rows a block should have."""
        work = HARD_WORK if self.top or self.impute else 1
        return rows_at_once(self.model.event_size, work)

    def __call__(self, block: Block) -> pa.Table:
        """The scores of a block.

        Returns:
          Columns `row`; those that are kept; what `Model.score` gives; `is_anomaly`; if missing
          values are filled `num_imputed`; if the rows have constant columns `off_constant`, the
          names of those whose value is not the one of training, of whom the density is 0, which
          flags them; `top_1`, `top_1_nats` and so on.

        Raises:
          UserError: a missing value, if they are not to be filled; names of columns to keep that
            are taken.
        """
        values, missing = block.values, _missing(block.values)
        if missing.any():
            if not self.impute:
                raise UserError(self._where_missing(block, missing))
            values = _fill(self.model, values, first=block.first)
        scores = _by_calls(self.model.score, values, values[0].size)
        columns = {**scores, "is_anomaly": scores["tail_probability"] <= self.threshold}
        if self.impute:
            columns["num_imputed"] = missing.sum(axis=1)
        if block.constants:
            columns["off_constant"] = self._off_constant(block)
            columns["is_anomaly"] |= columns["off_constant"] != ""
        columns |= self._top(values)
        columns = {"row": np.arange(block.first, block.first + len(values)), **columns}
        taken = sorted(set(columns) & set(block.kept))
        if taken:
            raise UserError(
                f"keep cannot have {', '.join(taken)}: the scores have columns of these names"
            )
        row = columns.pop("row")
        return pa.table({"row": row, **block.kept, **columns})

    def _where_missing(self, block, missing):
        row, column = np.argwhere(missing)[0]
        schema = self.model.schema
        where = (
            f"column {schema.names[column]} has a missing value"
            if schema
            else "there is a missing value (NaN)"
        )
        place = f"row {block.first + row} (counted from 0)"
        return f"{where} in {place}: impute fills them, or leave these rows out"

    def _off_constant(self, block):
        """Names of the constant columns with another value; a missing one is no other."""
        schema = self.model.schema
        differs = {
            name: schema.differs(name, values, np.dtype(block.stored_as.get(name, "float64")).type)
            for name, values in block.constants.items()
        }
        found = np.full(len(block.values), "", object)
        for row in np.flatnonzero(np.any(list(differs.values()), axis=0)):
            found[row] = ", ".join(name for name in differs if differs[name][row])
        return found

    def _top(self, values):
        if not self.top:
            return {}
        names = np.array(self.model.schema.names, object)
        nats = _by_calls(self.model.contributions, values, values.shape[1] ** 2)
        order = np.argsort(-nats, axis=1, kind="stable")[:, : self.top]
        found = np.take_along_axis(nats, order, axis=1)
        result = {}
        for place in range(order.shape[1]):
            result[f"top_{place + 1}"] = names[order[:, place]]
            result[f"top_{place + 1}_nats"] = found[:, place]
        return result


def _missing(values):
    """Which are, `[n, D]`."""
    flat = values.reshape(len(values), -1)
    return np.isnan(flat) if flat.dtype.kind == "f" else np.zeros(flat.shape, bool)


def _fill(model, values, *, first):
    """As `Model.fill`, but for rows without a gap."""
    values = values.copy()
    rows = np.flatnonzero(_missing(values).any(axis=1))
    number = max(1, VALUES_A_CALL // 4 // values[0].size)
    for start in range(0, len(rows), number):
        some = rows[start : start + number]
        filled = model.fill(values[some], first=first + start)
        values[some] = np.where(np.isnan(values[some]), filled, values[some])
    return values


def _by_calls(function, values, work):
    """The function of a few rows at a time, so that the memory it takes is bounded; joined."""
    number = max(1, VALUES_A_CALL // work)
    answers = [function(values[start : start + number]) for start in range(0, len(values), number)]
    if isinstance(answers[0], dict):
        return {name: np.concatenate([answer[name] for answer in answers]) for name in answers[0]}
    return np.concatenate(answers)


@dataclasses.dataclass
class Summary:
    """Counts tables of scores as they go by."""

    num_rows: int = 0
    num_flagged: int = 0
    num_off_constant: int = 0
    sum_log_prob: float = 0.0

    def add(self, table: pa.Table) -> None:
        """Counts one."""
        self.num_rows += len(table)
        self.num_flagged += pc.sum(table["is_anomaly"]).as_py()
        self.sum_log_prob += float(np.sum(table["log_prob"].to_numpy(), dtype=np.float64))
        if "off_constant" in table.column_names:
            self.num_off_constant += pc.sum(pc.not_equal(table["off_constant"], "")).as_py()

    def describe(self, threshold: float, tail_step: float) -> str:
        """For the user, a line each; `tail_step` is that of tail_probability."""
        coarse = (
            f", which moves in steps of {tail_step:.2g}: of 0 alone"
            if tail_step > threshold
            else ""
        )
        lines = [
            f"{self.num_rows:,} row{'s' * (self.num_rows > 1)}, "
            f"mean log_prob {self.sum_log_prob / self.num_rows:.3f} nats; "
            f"{self.num_flagged:,} flagged ({self.num_flagged / self.num_rows:.2%}), "
            f"of tail_probability at most {threshold:g}{coarse}"
        ]
        if self.num_off_constant:
            lines.append(
                f"warning: {self.num_off_constant:,} of the rows differ from training in columns "
                "that were constant there, where their density is 0: off_constant names these "
                "columns, log_prob is of the others alone"
            )
        return "\n".join(lines)
