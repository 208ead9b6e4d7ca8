"""What a trained model says of a block of rows, as a table: scores and filled missing values, and
their summary.
"""

import dataclasses
import functools

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from nice_tf.errors import UserError
from nice_tf.scoring.blocks import Block, rows_at_once
from nice_tf.scoring.model import Model

VALUES_A_CALL = 2**19  # of the examples that the model sees at once
# By what a row can be flagged: the columns of the score, and of its tail probability.
LOG_PROBS = {"density": "log_prob", "ranks": "rank_log_prob"}
TAILS = {"density": "tail_probability", "ranks": "rank_tail_probability"}
HARD_WORK = 16  # how many times less rows lie in a part where each takes many passes


class Scorer:
    """Scores of blocks as tables.

    Attributes:
      model: trained.
      top: how many columns of a table to name that make a row unusual; 0 for none.
      threshold: largest tail probability of a row that is flagged.
      impute: fill missing values first; else they are refused.
      by: `"density"` or `"ranks"`: whose tail probability flags a row, and whose nats the columns
        to name are chosen by.
    """

    def __init__(
        self,
        model: Model,
        top: int | None = None,
        threshold: float = 0.01,
        impute: bool = False,
        by: str = "density",
    ):
        """Takes the attributes; `top` may be `None` for 3 of a table.

        Raises:
          UserError: a value out of its bounds, columns to name of what is no table, or ranks of a
            model that has none.
        """
        model.check_scored_by(by)
        if top is None:
            top = 0
            if model.schema:
                top = 3
        if top < 0:
            raise UserError(f"top must be at least 0, got {top}")
        if not 0 <= threshold <= 1:
            raise UserError(f"threshold must be from 0 to 1, got {threshold}")
        if top and not model.schema:
            raise UserError(
                f"top is for tables, got {top}: the model is of shape {model.event_shape}"
            )
        self.model = model
        self.top = top
        self.threshold = threshold
        self.impute = impute
        self.by = by

    @property
    def rows_at_once(self) -> int:
        """How many rows a block should have."""
        if self.top or self.impute:
            return rows_at_once(self.model.event_size, HARD_WORK)
        return rows_at_once(self.model.event_size)

    def __call__(self, block: Block) -> pa.Table:
        """The scores of a block.

        Returns:
          Columns `row`; those that are kept; what `Model.score` gives; `is_anomaly`; if missing
          values are filled `num_imputed`; if the rows have constant columns `off_constant`, the
          names of those whose value is not the one of training, of whom the density is 0, which
          flags them; of a table with categories `unseen`, the names of the columns whose category
          the table of the run does not have, which flags the row, too; `top_1`, `top_1_nats` and so
          on.

        Raises:
          UserError: a missing value, if they are not to be filled; names of columns to keep that
            are taken.
        """
        missing = find_missing(block.values)
        numbers = np.arange(block.first, block.first + len(block.values))
        _check_labels(self.model, block.labels, numbers)
        values = self.filled(block)
        columns = _by_calls(self.model.score, values, values[0].size, block.labels)
        columns["is_anomaly"] = columns[TAILS[self.by]] <= self.threshold
        if self.impute:
            columns["num_imputed"] = missing.sum(axis=1)
        if block.constants:
            columns["off_constant"] = _names_of(self.off_constant(block))
            columns["is_anomaly"] |= columns["off_constant"] != ""
        if block.unseen:
            columns["unseen"] = _names_of(block.unseen)
            columns["is_anomaly"] |= columns["unseen"] != ""
        columns |= self._top(values, block.labels)
        taken = sorted({"row", *columns} & set(block.kept))
        if taken:
            raise UserError(
                f"keep cannot have {', '.join(taken)}: the scores have columns of these names"
            )
        return pa.table({"row": numbers, **block.kept, **columns})

    def filled(self, block: Block) -> np.ndarray:
        """The values of a block, its missing values filled.

        Raises:
          UserError: a missing value, if they are not to be filled.
        """
        missing = find_missing(block.values)
        if not missing.any():
            return block.values
        if not self.impute:
            raise UserError(self._where_missing(block, missing))
        return fill_gaps(self.model, block.values, first=block.first, labels=block.labels)

    def _where_missing(self, block, missing):
        row, column = np.argwhere(missing)[0]
        where = "there is a missing value (NaN)"
        if self.model.schema:
            where = f"column {self.model.schema.names[column]} has a missing value"
        place = f"row {block.first + row} (counted from 0)"
        return f"{where} in {place}: --impute fills missing values first, or leave these rows out"

    def off_constant(self, block: Block) -> dict[str, np.ndarray]:
        """By name, where the constant columns have another value, `[n]` in bool; a missing one is
        no other.
        """
        differs = {}
        for name, values in block.constants.items():
            kind = np.dtype(block.stored_as.get(name, "float64")).type
            differs[name] = self._schema.differs(name, values, kind)
        return differs

    @property
    def _schema(self):
        """That of a table, where the data are one."""
        return self.model.schema

    def _top(self, values, labels):
        """Names and nats of the columns that make rows unusual."""
        if not self.top:
            return {}
        names = np.array(self._schema.names, object)
        contributions = functools.partial(self.model.contributions, by=self.by)
        nats = _by_calls(contributions, values, values.shape[1] ** 2, labels)
        order = np.argsort(-nats, axis=1, kind="stable")[:, : self.top]
        found = np.take_along_axis(nats, order, axis=1)
        result = {}
        for place in range(order.shape[1]):
            result[f"top_{place + 1}"] = names[order[:, place]]
            result[f"top_{place + 1}_nats"] = found[:, place]
        return result


def _names_of(masks):
    """For each row the names of the masks that are true there, as one text, `[n]`."""
    any_is_true = np.any(list(masks.values()), axis=0)
    found = np.full(len(any_is_true), "", object)
    for row in np.flatnonzero(any_is_true):
        found[row] = ", ".join(name for name in masks if masks[name][row])
    return found


def find_missing(values: np.ndarray) -> np.ndarray:
    """Which values of examples are missing, `[n, D]` in bool."""
    flat = values.reshape(len(values), -1)
    if flat.dtype.kind == "f":
        return np.isnan(flat)
    return np.zeros(flat.shape, bool)


def fill_gaps(
    model: Model, values: np.ndarray, *, first: int, labels: np.ndarray | None = None
) -> np.ndarray:
    """As `Model.fill`, but rows without missing values are left as they are.

    Raises:
      UserError: an unknown label, by the number of its row.
    """
    values = values.copy()
    rows = np.flatnonzero(find_missing(values).any(axis=1))
    _check_labels(model, _some(labels, rows), first + rows)
    number = max(1, VALUES_A_CALL // 4 // values[0].size)
    for start in range(0, len(rows), number):
        some = rows[start : start + number]
        filled = model.fill(values[some], first=first + start, label=_some(labels, some))
        values[some] = np.where(np.isnan(values[some]), filled, values[some])
    return values


def _check_labels(model, labels, numbers):
    """Looks at the labels of rows while the numbers of the rows are known."""
    if model.classes and labels is not None:
        model.classes.as_input(labels, len(labels), numbers=numbers)


def _some(labels, rows):
    """The labels of some rows, where there are labels."""
    if labels is None:
        return None
    return labels[rows]


def _by_calls(function, values, work, labels):
    """The function of a few rows at a time, so that the memory it takes is bounded; joined."""
    number = max(1, VALUES_A_CALL // work)
    answers = []
    for start in range(0, len(values), number):
        rows = slice(start, start + number)
        answers.append(function(values[rows], label=_some(labels, rows)))
    if isinstance(answers[0], dict):
        joined = {}
        for name in answers[0]:
            joined[name] = np.concatenate([answer[name] for answer in answers])
        return joined
    return np.concatenate(answers)


@dataclasses.dataclass
class Summary:
    """Counts tables of scores as they go by; `threshold` and `by` are those of the scorer."""

    threshold: float
    by: str = "density"
    num_rows: int = 0
    num_flagged: int = 0
    num_flagged_by_other: int | None = None  # by the other score, where the model has two
    num_off_constant: int = 0
    num_unseen: int = 0
    sum_log_prob: float = 0.0

    @property
    def _other(self):
        """The score by which rows are not flagged."""
        (name,) = (name for name in TAILS if name != self.by)
        return name

    def add(self, table: pa.Table) -> None:
        """Counts one."""
        self.num_rows += len(table)
        self.num_flagged += pc.sum(table["is_anomaly"]).as_py()
        tail = TAILS[self._other]
        if tail in table.column_names:
            number = int(np.sum(table[tail].to_numpy() <= self.threshold))
            self.num_flagged_by_other = (self.num_flagged_by_other or 0) + number
        self.sum_log_prob += float(np.sum(table["log_prob"].to_numpy(), dtype=np.float64))
        if "off_constant" in table.column_names:
            self.num_off_constant += pc.sum(pc.not_equal(table["off_constant"], "")).as_py()
        if "unseen" in table.column_names:
            self.num_unseen += pc.sum(pc.not_equal(table["unseen"], "")).as_py()

    def describe(self, tail_step: float) -> str:
        """For the user, one line each; `tail_step` is that of tail_probability."""
        coarse = ""
        if tail_step > self.threshold:
            coarse = f" (it moves in steps of {tail_step:.2g}, so only 0 is)"
        mean = self.sum_log_prob / self.num_rows
        lines = [
            f"{counted(self.num_rows, 'row')}, mean log_prob {mean:.3f} nats; "
            f"{self.num_flagged:,} flagged ({self.num_flagged / self.num_rows:.2%}): "
            f"{TAILS[self.by]} is at most {self.threshold:g}{coarse}"
        ]
        if self.num_flagged_by_other is not None:
            lines[0] += f"; {self.num_flagged_by_other:,} would be flagged by {self._other}"
        if self.num_off_constant:
            lines.append(
                f"warning: {counted(self.num_off_constant, 'row')} off the values of training in "
                "columns that were constant there, where the density is 0: off_constant names "
                "these columns, log_prob is of the others alone"
            )
        if self.num_unseen:
            lines.append(
                f"warning: {counted(self.num_unseen, 'row')} with categories that the table of the "
                "run does not have: unseen names their columns"
            )
        return "\n".join(lines)


def counted(number: int, noun: str) -> str:
    """A number of things, in words: `1 row`, `2,000 rows`."""
    if number == 1:
        return f"1 {noun}"
    return f"{number:,} {noun}s"
