"""Data with a stated split, checked; and batches of them, the same whether they are in memory or on
disk.
"""

import dataclasses
import hashlib
import math

import numpy as np

from nice_tf.config import Config
from nice_tf.data import sources
from nice_tf.data.labels import Labels, check_labels, number_classes
from nice_tf.data.rows import Array, Rows, chunks, select
from nice_tf.data.schema import Schema
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
      warnings: what the user should know of the data, a line each.
    """

    name: str
    train: Array
    validation: Array
    test: Array
    levels: int | None
    schema: Schema | None = None
    labels: Labels | None = None
    warnings: tuple[str, ...] = ()

    @property
    def steps(self) -> np.ndarray | None:
        """Distance of the values of each column of a table, 0 for continuous ones, `[D]`; `None`
        for other data.
        """
        return self.schema.steps if self.schema else None

    @property
    def event_shape(self) -> list[int]:
        """Shape of one example."""
        return list(self.train.shape[1:])

    @property
    def event_size(self) -> int:
        """D, the number of values of one example."""
        return int(np.prod(self.event_shape))

    @property
    def num_classes(self) -> int:
        """C, the length of the flow's context; 0 for p(x)."""
        return len(self.labels.classes) if self.labels else 0

    def classes(self, split: str) -> np.ndarray | None:
        """The number of the class of each example of a split, `[N]` in int32; `None` for p(x)."""
        return self.labels.numbers[split] if self.labels else None

    def _fingerprint(self) -> str:
        digest = hashlib.sha256()
        numbers = (
            [self.labels.numbers[split] for split in ("train", "validation", "test")]
            if self.labels
            else []
        )
        for values in (self.train, self.validation, self.test, *numbers):
            for rows in chunks(values):
                digest.update(np.ascontiguousarray(rows).data)
        return digest.hexdigest()

    def check_unchanged(self) -> None:
        """Looks whether files that the data are read from still are what was opened.

        Raises:
          UserError: one was written to.
        """
        for values in (self.train, self.validation, self.test):
            if isinstance(values, Rows):
                values.check_unchanged()

    def description(self) -> dict:
        """What `config.json` keeps of the data."""
        return {
            "name": self.name,
            "event_shape": self.event_shape,
            "levels": self.levels,
            "num_train": len(self.train),
            "num_validation": len(self.validation),
            "num_test": len(self.test),
            "sha256": self._fingerprint(),
            **({"schema": self.schema.as_dict()} if self.schema else {}),
            **({"labels": self.labels.as_dict()} if self.labels else {}),
        }


def load(config: Config) -> Data:
    """Reads the data set that `config.dataset` names.

    Digits: 1797 examples shuffled with `split_seed`, 300 for test. A TFDS set: its own train and
    test. Arrays, files or folders of pictures named `train` and `test` (and perhaps `validation`):
    those. A single array, table or folder: shuffled with `split_seed`, one sixth for test.
    Validation, where not given, is the end of train: `num_validation` examples or one sixth.

    Raises:
      UserError: no such data, or data that breaks a rule; the message says which and what would
        help.
    """
    name, found = config.dataset, sources.find(config)
    arrays = found.arrays
    _check_names(arrays, name)
    for key, values in arrays.items():
        _check_values(values, f"{key} of {name}")
        if found.labels:
            check_labels(config.condition_on, found.labels[key], len(values), f"{key} of {name}")
    if found.schema and config.levels:
        raise UserError(
            f"levels is not for tables, got {config.levels}: each column of {name} has steps of "
            "its own"
        )
    levels = None if found.schema else _levels(arrays, config.levels or found.levels, name)
    arrays = _split(arrays, found.num_test, config, name)
    labels = None
    if found.labels:  # by the same rule, which looks at no values
        labels = number_classes(
            config.condition_on, _split(found.labels, found.num_test, config, name)
        )
    for split, values in arrays.items():
        if values.shape[1:] != arrays["train"].shape[1:]:
            raise UserError(
                f"{split} of {name} has examples of shape {list(values.shape[1:])}, train of shape "
                f"{list(arrays['train'].shape[1:])}: they must agree"
            )
    if found.schema:
        _check_columns_vary(arrays["train"], found.schema, config)
    data = Data(
        name=name,
        levels=levels,
        schema=found.schema,
        labels=labels,
        warnings=found.warnings,
        **arrays,
    )
    if len(data.train) < config.batch_size:
        raise UserError(
            f"batch_size {config.batch_size} is more than the {len(data.train)} training examples "
            f"of {name}: give a smaller one"
        )
    return data


def _check_names(arrays, name):
    """Before any values are looked at: what is no split need not keep the rules of examples."""
    if len(arrays) != 1 and not {"train", "test"} <= set(arrays) <= {"train", "validation", "test"}:
        raise UserError(
            f"dataset {name} holds the arrays {', '.join(sorted(arrays)) or '(none)'}; it must "
            "hold one array, or 'train' and 'test' and perhaps 'validation'"
        )


def _split(arrays, num_test, config, name):
    """Train, validation and test, by the number of examples and the settings alone."""
    if len(arrays) == 1:
        (values,) = arrays.values()
        arrays = _split_test(values, num_test, config.split_seed, name)
    if "validation" in arrays:
        return arrays
    train, validation = _split_validation(arrays["train"], config.num_validation, name)
    return {**arrays, "train": train, "validation": validation}


def _split_test(values, num_test, split_seed, name):
    if len(values) < 6:
        raise UserError(
            f"dataset {name} has {len(values)} examples: at least 6 are needed to split"
        )
    num_test = num_test or round(len(values) / 6)
    order = np.random.default_rng(split_seed).permutation(len(values))
    return {"train": select(values, order[num_test:]), "test": select(values, order[:num_test])}


def _split_validation(train, num_validation, name):
    num_validation = num_validation or round(len(train) / 6)
    if not 2 <= num_validation < len(train):
        raise UserError(
            f"{name} has {len(train)} training examples: {num_validation} of them for validation "
            "leaves too few; give at least 2 and fewer than all with num_validation"
        )
    return select(train, slice(-num_validation)), select(train, slice(-num_validation, None))


def _check_columns_vary(train, schema, config):
    """A column of few values that are no constant may still be one in the training rows."""
    varies = (schema.steps > 0) & (config.dequantization == "uniform")  # by their noise
    first = train[:1]
    for rows in chunks(train):
        varies = varies | np.any(rows != first, axis=0)
        if varies.all():  # most tables say so at their start
            return
    constant = ", ".join(np.array(schema.names)[~varies])
    raise UserError(
        f"column {constant} of {config.dataset} has the same value in all {len(train)} training "
        "rows: leave it out with columns, or split otherwise (split_seed)"
    )


def _check_values(values, what):
    if values.dtype.kind not in "uif" or values.dtype.itemsize > 8:
        raise UserError(
            f"{what} has type {values.dtype}: integers or floating-point numbers are needed"
        )
    if values.ndim < 2:
        raise UserError(f"{what} has shape {list(values.shape)}: [examples, values...] is needed")
    if len(values) < 2:
        raise UserError(f"{what} has {len(values)} examples: at least 2 are needed")
    size = math.prod(values.shape[1:])
    if size < 2:
        raise UserError(f"NICE needs examples of at least 2 values, those of {what} have {size}")
    if values.dtype.kind == "f":
        num_bad, num_seen = 0, 0
        for rows in chunks(values):
            bad = np.argwhere(~np.isfinite(rows))
            if len(bad) and not num_bad:
                example, value = num_seen + bad[0][0], rows[tuple(bad[0])]
            num_bad += len(bad)
            num_seen += len(rows)
        if num_bad:
            raise UserError(
                f"{what} has {num_bad} values that are not finite, the first in example {example} "
                f"(counted from 0): {value}"
            )


def _levels(arrays, levels, name):
    """The number of levels, or None for continuous data; checks that the values keep to it."""
    dtypes = {values.dtype for values in arrays.values()}
    if not levels:
        if all(dtype.kind == "f" for dtype in dtypes):
            return None
        if dtypes != {np.dtype(np.uint8)}:
            raise UserError(
                f"{name} has values of type {', '.join(sorted(map(str, dtypes)))}: give the number "
                "of integer levels with levels, or store continuous values as floating point"
            )
        levels = 256
    for split, values in arrays.items():
        ranges = [(rows.min(), rows.max()) for rows in chunks(values)]
        lowest, highest = min(low for low, _ in ranges), max(high for _, high in ranges)
        if lowest < 0 or highest > levels - 1:
            raise UserError(
                f"{split} of {name} has values from {lowest} to {highest}: with levels {levels} "
                f"they must lie in 0..{levels - 1}"
            )
        if values.dtype.kind == "f" and any(
            np.any(rows != np.floor(rows)) for rows in chunks(values)
        ):
            raise UserError(
                f"{split} of {name} has values that are no integers, although levels is {levels}"
            )
        arrays[split] = values.astype(np.uint8 if levels <= 256 else np.int32)
    return levels
