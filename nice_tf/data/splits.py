"""Train, validation and test of data that are not split yet, by a stated rule."""

from typing import Any

import numpy as np

from nice_tf.config import Config
from nice_tf.data.rows import select
from nice_tf.errors import UserError


def split(
    arrays: dict[str, Any], num_test: int | None, config: Config, name: str
) -> dict[str, Any]:
    """Train, validation and test, by the number of examples and the settings alone.

    With `test_rows` validation, test is validation, and nothing else is held out.

    Args:
      arrays: splits by name, or one array of any name.
      num_test: examples to split off for test; one sixth if not given.
      config: the settings.
      name: of the data, for messages.

    Raises:
      UserError: too few examples; a test split, where test is to be validation.
    """
    if config.test_rows == "validation":
        return _without_test(arrays, config, name)
    if len(arrays) == 1:
        (values,) = arrays.values()
        arrays = _split_test(values, num_test, config.split_seed, name)
    return _with_validation(arrays, config, name)


def _without_test(arrays, config, name):
    """The same with no examples held out: test is validation."""
    if len(arrays) > 1:
        raise UserError(
            f"test_rows validation is for one array or table that is yet to be split: {name} holds "
            f"{', '.join(sorted(arrays))}"
        )
    (values,) = arrays.values()
    _check_can_split(values, name)
    order = np.random.default_rng(config.split_seed).permutation(len(values))
    arrays = _with_validation({"train": select(values, order)}, config, name)
    return {**arrays, "test": arrays["validation"]}


def _with_validation(arrays, config, name):
    if "validation" in arrays:
        return arrays
    train, validation = _split_validation(arrays["train"], config.num_validation, name)
    return {**arrays, "train": train, "validation": validation}


def _check_can_split(values, name):
    if len(values) < 6:
        raise UserError(
            f"dataset {name} has {len(values)} examples: at least 6 are needed to split"
        )


def _split_test(values, num_test, split_seed, name):
    _check_can_split(values, name)
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
