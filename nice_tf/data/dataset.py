"""Data with a stated split, checked, the same whether they are in memory or on disk."""

import dataclasses
import hashlib
from typing import Any

import numpy as np

from nice_tf.config import Config
from nice_tf.data import checks, sources
from nice_tf.data.found import by_split
from nice_tf.data.labels import Labels, check_labels, number_classes
from nice_tf.data.rows import Array, Rows, chunks
from nice_tf.data.schema import Schema, Spikes
from nice_tf.data.splits import split
from nice_tf.data.tables import degenerate
from nice_tf.data.tables.paths import table_files
from nice_tf.data.weights import by_mean_of_train, read_weights
from nice_tf.errors import UserError


@dataclasses.dataclass(frozen=True)
class Data:
    """A data set in its own units, split.

    Attributes:
      name: of the source.
      train: `[N, *event_shape]`, unsigned integers 0..levels-1 or floating point; an array, or
        `Rows` of a file.
      validation: as `train`.
      test: as `train`.
      levels: number of integer levels; `None` for continuous data and for tables.
      schema: of a table, its columns; `None` for other data.
      labels: what the density is conditioned on; `None` for p(x).
      weights: how much each example counts, by split, `[N]` in float32 each, of mean 1 in train;
        `None` where all count alike.
      missing: of a table, the share of missing values by column, in all splits together; of those
        columns that have some.
      warnings: what the user should know of the data, one line each.
    """

    name: str
    train: Array
    validation: Array
    test: Array
    levels: int | None
    schema: Schema | None = None
    labels: Labels | None = None
    weights: dict[str, np.ndarray] | None = None
    missing: dict[str, float] = dataclasses.field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    @property
    def steps(self) -> np.ndarray | None:
        """Distance of the values of each column of a table, 0 for continuous ones, `[D]`; `None`
        for other data.
        """
        if self.schema:
            return self.schema.steps
        return None

    @property
    def spikes(self) -> Spikes | None:
        """The values that come again and again in continuous columns of a table; `None` where there
        are none.
        """
        if self.schema:
            return self.schema.spikes
        return None

    @property
    def event_shape(self) -> list[int]:
        """Shape of one example."""
        return list(self.train.shape[1:])

    @property
    def event_size(self) -> int:
        """D, the number of values of one example."""
        return int(np.prod(self.event_shape))

    @property
    def num_held_out(self) -> int:
        """Number of test examples; 0 where test is validation."""
        if self.test is self.validation:
            return 0
        return len(self.test)

    @property
    def num_classes(self) -> int:
        """C, the length of the flow's context; 0 for p(x)."""
        if self.labels:
            return len(self.labels.classes)
        return 0

    def classes(self, split: str) -> np.ndarray | None:
        """The number of the class of each example of a split, `[N]` in int32; `None` for p(x)."""
        if self.labels:
            return self.labels.numbers[split]
        return None

    def weights_of(self, split: str) -> np.ndarray | None:
        """The weight of each example of a split, `[N]`; `None` where all count alike."""
        if self.weights:
            return self.weights[split]
        return None

    def _fingerprint(self) -> str:
        digest = hashlib.sha256()
        arrays = [self.train, self.validation, self.test]
        if self.labels:
            numbers = self.labels.numbers
            arrays += [numbers["train"], numbers["validation"], numbers["test"]]
        if self.weights:
            arrays += [self.weights["train"], self.weights["validation"]]
        for values in arrays:
            for rows in chunks(values):
                digest.update(np.ascontiguousarray(rows).data)
        return digest.hexdigest()

    def check_unchanged(self) -> None:
        """Checks that files that the data are read from still are what was opened.

        Raises:
          UserError: one was written to.
        """
        for values in (self.train, self.validation, self.test):
            if isinstance(values, Rows):
                values.check_unchanged()

    def of_run(self, schema: Schema) -> "Data":
        """The same data with the columns as a run knows them, which may be of an earlier version:
        the spikes that it found, spread or not.

        Args:
          schema: of the run; its columns are those of the data.
        """
        warnings = self.warnings
        if not schema.spread:
            warnings = tuple(
                line.replace(degenerate.SPREAD, degenerate.NOT_SPREAD) for line in warnings
            )
        return dataclasses.replace(self, schema=schema, warnings=warnings)

    def description(self) -> dict:
        """What `config.json` keeps of the data."""
        values: dict[str, Any] = {
            "name": self.name,
            "event_shape": self.event_shape,
            "levels": self.levels,
            "num_train": len(self.train),
            "num_validation": len(self.validation),
            "num_test": len(self.test),
            "sha256": self._fingerprint(),
        }
        if self.schema:
            values["schema"] = self.schema.as_dict()
        if self.labels:
            values["labels"] = self.labels.as_dict()
        return values


def load(config: Config) -> Data:
    """Reads the data set that `config.dataset` names.

    Digits: 1797 examples shuffled with `split_seed`, 300 for test. A TFDS set: its own train and
    test. Arrays, files or folders of pictures named `train` and `test` (and perhaps `validation`):
    those. A single array, table or folder: shuffled with `split_seed`, one sixth for test.
    Validation, where not given, is the end of train: `num_validation` examples or one sixth.
    With `test_rows` validation, all of a single one are train and validation, and test is
    validation.

    Raises:
      UserError: no such data, or data that breaks a rule; the message says which and what would
        help.
    """
    name = config.dataset
    found = sources.find(config)
    _check_found(found, config)
    arrays = found.arrays
    levels = None
    if not found.schema:
        levels = checks.find_levels(arrays, config.levels or found.levels, name)
    if levels:
        arrays = checks.as_integers(arrays, levels)
    arrays = split(arrays, found.num_test, config, name)
    labels = None
    if found.labels:  # by the same rule, which looks at no values
        split_labels = split(found.labels, found.num_test, config, name)
        labels = number_classes(config.condition_on, split_labels)
    weights = _weights(found, config)
    checks.check_shapes(arrays, name)
    if found.schema:
        checks.check_columns_vary(arrays["train"], found.schema, config)
    num_train = len(arrays["train"])
    if num_train < config.batch_size:
        raise UserError(
            f"batch_size {config.batch_size} is more than the {num_train} training examples "
            f"of {name}: give a smaller one"
        )
    return Data(
        name=name,
        levels=levels,
        schema=found.schema,
        labels=labels,
        weights=weights,
        missing=found.missing,
        warnings=found.warnings,
        **arrays,
    )


def rows_of_test(config: Config, data: Data) -> np.ndarray:
    """The number of each test row in the files that it is from, counted from 0, `[N]`: in those of
    test, where the files tell of a split; else in all. Where test is validation, those of
    validation.

    Args:
      config: of the run.
      data: that `load` made of it.
    """
    files = table_files(config.dataset)
    if len(by_split(files, "all")) > 1:
        return np.arange(len(data.test))
    number = len(data.train) + len(data.validation) + data.num_held_out
    return split({"all": np.arange(number)}, None, config, config.dataset)["test"]


def _weights(found, config):
    """The weights of the settings by split; `None` without them."""
    if not config.weights:
        return None
    if len(found.arrays) > 1:
        raise UserError(
            f"weights are for one array or table that is yet to be split: {config.dataset} holds "
            f"{', '.join(sorted(found.arrays))}"
        )
    (values,) = found.arrays.values()
    weights = {"all": read_weights(config.weights, len(values))}
    weights = split(weights, found.num_test, config, config.dataset)
    return by_mean_of_train(weights, f"weights {config.weights}")


def _check_found(found, config):
    """Looks at examples and labels as their source has them."""
    name = config.dataset
    checks.check_names(found.arrays, name)
    for key, values in found.arrays.items():
        what = f"{key} of {name}"
        checks.check_values(values, what)
        if found.labels:
            check_labels(config.condition_on, found.labels[key], len(values), what)
    if found.schema and config.levels:
        raise UserError(
            f"levels is not for tables, got {config.levels}: each column of {name} has steps of "
            "its own"
        )
