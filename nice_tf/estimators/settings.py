"""The settings of the run that an estimator makes."""

import csv
import io
import os
import pathlib
from typing import Any

import numpy as np
from sklearn.utils import check_random_state

from nice_tf.cli.config_flags import read_flagfile, shipped_flagfile
from nice_tf.config import Config
from nice_tf.errors import UserError

_EPOCHS = 100  # at most, where nothing else is said: some 2,000 rows are fitted in a minute
_MAX_SEED = 2**31
# Settings that fit makes itself, or that are not for tables of features.
_OWN = (
    "condition_on",
    "data_dir",
    "dataset",
    "impute",
    "num_validation",
    "seed",
    "split_seed",
    "test_rows",
    "weights",
)
_OF_NAMES = ("categories", "columns", "numbers")
_BY_NAME = ("num_couplings", "hidden_units", "epochs", "early_stopping_epochs")


def settings_of(
    params: dict[str, Any],
    path: pathlib.Path,
    *,
    num_rows: int,
    seed: int,
    weights: str | os.PathLike,
) -> Config:
    """Those of configs/table.flags, where nothing else is said.

    Args:
      params: of the estimator, by name.
      path: of the file with the rows of X; a folder beside it may be written.
      num_rows: of X.
      seed: of the run.
      weights: file of the weights of the rows; empty for none.

    Raises:
      UserError: a parameter breaks a rule.
    """
    settings = params["settings"] or {}
    wrong = sorted(set(settings) & set(_OWN))
    if wrong:
        raise UserError(f"settings cannot have {', '.join(wrong)}: fit sets them itself")
    changes: dict[str, Any] = {"epochs": _EPOCHS}
    for name in _BY_NAME:
        if params[name] is not None:
            changes[name] = params[name]
    fraction = params["validation_fraction"]
    if fraction is not None:
        if not 0 < fraction < 1:
            raise UserError(f"validation_fraction must be above 0 and below 1, got {fraction}")
        changes["num_validation"] = max(2, round(fraction * num_rows))
    changes |= {
        **settings,
        **{name: _by_commas(settings[name]) for name in _OF_NAMES if name in settings},
        "dataset": str(path),
        "data_dir": str(path.parent / "cache"),  # of large tables, to be removed as well
        "impute": bool(params["impute"]),
        "seed": seed,
        "split_seed": seed,
        "test_rows": "validation",
        "weights": str(weights),
    }
    unknown = sorted(set(changes) - {*Config.__dataclass_fields__})
    if unknown:
        raise UserError(f"settings has {', '.join(unknown)}, which is no setting of a run")
    return read_flagfile(shipped_flagfile("table"), **changes)


def category_names(settings: dict[str, Any] | None) -> list[str]:
    """The names of columns that `settings` says are categories."""
    value = (settings or {}).get("categories", Config.categories)
    return Config(categories=_by_commas(value)).category_names


def _by_commas(names):
    """Names as a setting has them, which may have been given as a list."""
    if not isinstance(names, (list, tuple)):
        return names
    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow(names)
    return text.getvalue()


def seed_of(random_state: Any) -> int:
    """A whole number below 2^31: the number that is given, else one drawn."""
    if isinstance(random_state, (int, np.integer)):
        check_random_state(random_state)
        return int(random_state) % _MAX_SEED
    return int(check_random_state(random_state).randint(_MAX_SEED - 1))
