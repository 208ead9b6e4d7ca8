"""What the estimators share: from X to a trained run, scores and samples, and files."""

import contextlib
import dataclasses
import json
import logging
import os
import pathlib
import tempfile
import warnings
from collections.abc import Iterator
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import tensorflow as tf
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from nice_tf.cli.config_flags import read_flagfile, shipped_flagfile
from nice_tf.config import Config
from nice_tf.data.schema import Schema
from nice_tf.data.tables.encodings import decoded
from nice_tf.data.weights import check_weights
from nice_tf.errors import UserError, check_at_least
from nice_tf.estimators.frames import Kind, as_table, is_frame, is_pandas, table_of_array
from nice_tf.estimators.kept_run import KeptRun
from nice_tf.files import sync_tree, temporary_folder
from nice_tf.scoring.blocks import Block
from nice_tf.scoring.scorer import VALUES_A_CALL, Scorer
from nice_tf.scoring.table_input import TableInput
from nice_tf.serving.export import export_saved_model
from nice_tf.training.run import RunStart, train_and_evaluate
from nice_tf.version import __version__

T = TypeVar("T", bound="Estimator")

_MIN_ROWS = 6  # to split
_EPOCHS = 100  # at most, where nothing else is said: some 2,000 rows are fitted in a minute
_MAX_SEED = 2**31
_DESCRIPTION = "estimator.json"  # beside the files of a run
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
_BY_NAME = ("num_couplings", "hidden_units", "epochs", "early_stopping_epochs")


class Estimator(BaseEstimator):
    """A density of the rows of X, trained as `train.py --flagfile=configs/table.flags` trains.

    Attributes after `fit`, beside scikit-learn's own:
      history_: log-likelihoods and more for each epoch, lists by name.
      best_epoch_: whose weights are used, counted from 1.
      seed_: that stood for `random_state`: the run's `seed` and `split_seed`.
      kind_: what X was.
      run_: the trained run.
    """

    num_couplings: int | None
    hidden_units: Any
    epochs: int | None
    early_stopping_epochs: int | None
    validation_fraction: float | None
    impute: bool
    settings: dict[str, Any] | None
    random_state: Any
    verbose: int

    def fit(self: T, X: Any, y: Any = None, sample_weight: Any = None) -> T:
        """Trains on the rows of X, all of which are for training or validation.

        X lies in a temporary folder meanwhile, in which the training writes; it is removed at the
        end. A second `fit` starts anew.

        Args:
          X: `[N, D]`, N at least 6, D at least 2: numbers as an array, or a data frame of pandas,
            of Arrow or with their protocols, with columns of numbers, text, booleans, dates and
            times. Columns of one value and identifiers are no coordinates; a warning names them.
          y: not used.
          sample_weight: `[N]`, at least 0 each: how much a row counts in the loss and in the
            validation that chooses the epoch. Rows of weight 0 are not in the fitted marginals
            either, the others count once there. `None`: all count alike.

        Returns:
          The estimator.

        Raises:
          UserError: a `ValueError`; X or a parameter breaks a rule, or the training diverged.
        """
        table, kind = self._read(X, reset=True)
        if sample_weight is not None:
            sample_weight = np.asarray(sample_weight)
            sample_weight = check_weights(sample_weight, len(table), "sample_weight")
        seed = _seed_of(self.random_state)
        started: list[RunStart] = []
        with _folder_for(table) as path, self._quiet():
            config = self._config(path, len(table), seed)
            if sample_weight is not None:
                weights = path.parent / "sample_weight.npy"
                np.save(weights, sample_weight)
                config = dataclasses.replace(config, weights=str(weights))
            workdir = path.parent / "run"
            train_and_evaluate(config, workdir, on_start=started.append, verbose=int(self.verbose))
            self.run_ = KeptRun.read(workdir)
            said = [_about_x(warning, path) for warning in started[0].warnings]
        for warning in said:
            warnings.warn(warning, stacklevel=2)
        self.kind_ = kind
        self.seed_ = seed
        self._read_run()
        return self

    def score_samples(self, X: Any) -> np.ndarray:
        """The log-density of each row, in nats and the units of X.

        Values of columns with steps (integers, rounded decimals) stand at the centre of their bins:
        the probability of such a value is about the density times the step.

        Args:
          X: `[N, D]`, with the columns of `fit` in their order.

        Returns:
          `[N]` in float64. Where a column that was constant in `fit` has another value, it is that
          of the other columns, and a warning names the column.

        Raises:
          UserError: other columns or types than in `fit`, or missing values without `impute`.
        """
        log_probs, is_off, is_unseen = self._log_probs(X)
        if is_unseen.any():
            warnings.warn(
                f"{is_unseen.sum()} rows of X have categories that fit had not: their log-density "
                "is that of what lies beyond all categories",
                stacklevel=2,
            )
        if is_off.any():
            warnings.warn(
                f"{is_off.sum()} rows of X differ from fit in columns that were constant there, "
                f"where their density is 0 ({', '.join(self._schema.constants)}): the scores "
                "are of the other columns alone",
                stacklevel=2,
            )
        return log_probs

    def sample(
        self, n_samples: int = 1, random_state: Any = None, *, temperature: float = 1.0
    ) -> Any:
        """Draws rows.

        Args:
          n_samples: how many, at least 1.
          random_state: of this draw; `None` for that of the estimator.
          temperature: above 0; less than 1 stays nearer to the mode.

        Returns:
          `[n_samples, D]`, as X was in `fit`: an array, or a frame of pandas or Arrow with its
          types. Values of columns with steps lie on them.
        """
        model = self._model
        check_at_least("n_samples", n_samples, 1)
        if random_state is None:
            random_state = self.random_state
        seed = _seed_of(random_state)
        size = self._rows_at_once
        parts = []
        with self._quiet():
            for first in range(0, n_samples, size):
                count = min(size, n_samples - first)
                parts.append(model.sample(count, seed=seed, first=first, temperature=temperature))
        return self._as_x(np.concatenate(parts))

    def save(self, path: str | os.PathLike) -> None:
        """Writes a folder from which `load` makes the estimator again.

        It is also the folder of a run: `nice-score`, `nice-sample`, `nice-impute` and `nice-export`
        take it.

        Args:
          path: of the folder, which must not be there yet.

        Raises:
          UserError: it is there, or cannot be written.
        """
        check_is_fitted(self)
        path = pathlib.Path(path)
        if path.exists():
            raise UserError(f"path {path} is there already: give another one")
        try:
            with temporary_folder(path.absolute().parent, f".{path.name}.unfinished-") as folder:
                self.run_.write(folder)
                text = json.dumps(self._description(), indent=2)
                (folder / _DESCRIPTION).write_text(text + "\n")
                sync_tree(folder)
                os.rename(folder, path)
        except OSError as error:
            raise UserError(f"path {path} cannot be written ({error.strerror})") from error

    @classmethod
    def load(cls: type[T], path: str | os.PathLike) -> T:
        """Reads what `save` wrote; the files are looked at as those of a run are.

        Raises:
          UserError: there is none, one of another class, or a damaged one.
        """
        file = pathlib.Path(path) / _DESCRIPTION
        damage = (AttributeError, LookupError, TypeError, ValueError, pa.ArrowException)
        try:
            values = json.loads(file.read_text())
            name = values["class"]
        except OSError as error:
            raise UserError(
                f"path {path} holds no estimator that was saved ({error.strerror})"
            ) from error
        except damage as error:
            raise UserError(f"{file} is damaged or not of nice_tf ({error!r})") from error
        if name != cls.__name__:
            raise UserError(f"path {path} holds a {name}, not a {cls.__name__}: load it as such")
        try:
            result = cls(**values["params"])
            result._restore(values)
            result.run_ = KeptRun.read(path)
        except OSError as error:
            raise UserError(f"path {path} lacks a file of its run ({error})") from error
        except damage as error:
            raise UserError(f"{file} is damaged or not of nice_tf ({error!r})") from error
        result._read_run()
        return result

    def export(self, path: str | os.PathLike) -> pathlib.Path:
        """Writes the next version of a SavedModel for TensorFlow Serving, as
        `nice_tf.export_saved_model` does.

        Args:
          path: folder of the model; its versions are its integer subfolders.

        Returns:
          The folder of the version.
        """
        check_is_fitted(self)
        with tempfile.TemporaryDirectory(prefix="nice_tf-") as folder, self._quiet():
            self.run_.write(folder)
            return export_saved_model(folder, path)

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "run_")

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = self.impute
        return tags

    def _config(self, path, num_rows, seed):
        """The settings of the run: those of table.flags, where nothing else is said."""
        wrong = sorted(set(self.settings or {}) & set(_OWN))
        if wrong:
            raise UserError(f"settings cannot have {', '.join(wrong)}: fit sets them itself")
        changes: dict[str, Any] = {"epochs": _EPOCHS}
        for name in _BY_NAME:
            value = getattr(self, name)
            if value is not None:
                changes[name] = value
        fraction = self.validation_fraction
        if fraction is not None:
            if not 0 < fraction < 1:
                raise UserError(f"validation_fraction must be above 0 and below 1, got {fraction}")
            changes["num_validation"] = max(2, round(fraction * num_rows))
        changes |= {
            **(self.settings or {}),
            "dataset": str(path),
            "data_dir": str(path.parent / "cache"),  # of large tables, to be removed as well
            "impute": bool(self.impute),
            "seed": seed,
            "split_seed": seed,
            "test_rows": "validation",
        }
        unknown = sorted(set(changes) - {*Config.__dataclass_fields__})
        if unknown:
            raise UserError(f"settings has {', '.join(unknown)}, which is no setting of a run")
        return read_flagfile(shipped_flagfile("table"), **changes)

    def _read(self, X, *, reset):
        """X as a table, checked as scikit-learn does, and what it was."""
        minimum = 1
        num_columns = 1
        if reset:
            minimum = _MIN_ROWS
            num_columns = 2
        if is_frame(X):
            table = as_table(X)
            named = table
            if is_pandas(X):  # where numbers are no names
                named = X
            validate_data(self, named, reset=reset, skip_check_array=True)
            if len(table) < minimum:
                raise UserError(f"X has {len(table)} rows (samples): at least {minimum} are needed")
        else:
            finite: bool | str = True
            if self.impute:
                finite = "allow-nan"
            X = validate_data(
                self,
                X,
                reset=reset,
                ensure_all_finite=finite,
                ensure_min_samples=minimum,
                ensure_min_features=num_columns,
            )
            table = table_of_array(X)
        if not reset:
            table = table.rename_columns(self.kind_.names)
        return table, Kind.of(X, table)

    def _blocks(self, X: Any) -> Iterator[Block]:
        """The rows of X as the model takes them."""
        model = self._model
        table, _ = self._read(X, reset=False)
        with _folder_for(table) as path, self._quiet():
            source = TableInput(str(path), self._schema, dtype=model.dtype)
            yield from source.blocks(self._rows_at_once)

    def _log_probs(self, X):
        """Of each row, whether it differs in a column that was constant, and whether it has a
        category that is new, `[N]` each.
        """
        scorer = Scorer(self._model, top=0, impute=self.impute)
        log_probs = []
        is_off = []
        is_unseen = []
        for block in self._blocks(X):
            answer = scorer(block)
            log_probs.append(answer["log_prob"].to_numpy().astype(np.float64))
            is_off.append(_is_named(answer, "off_constant"))
            is_unseen.append(_is_named(answer, "unseen"))
        return np.concatenate(log_probs), np.concatenate(is_off), np.concatenate(is_unseen)

    def _as_x(self, values):
        """Rows of the density as what X was."""
        return self.kind_.restored(decoded(self._schema, values), len(values))

    @property
    def _model(self):
        check_is_fitted(self)
        return self.run_.model

    @property
    def _schema(self):
        return Schema.from_dict(self._model.description["schema"])

    @property
    def _rows_at_once(self):
        return max(1, VALUES_A_CALL // self._model.event_size)

    def _read_run(self):
        self.history_ = self.run_.history()
        self.best_epoch_ = self.run_.best_epoch

    def _description(self):
        """What `load` needs beside the run, ready for JSON."""
        names = getattr(self, "feature_names_in_", None)
        if names is not None:
            names = list(names)
        return {
            "nice_tf": __version__,
            "class": type(self).__name__,
            "params": {**self.get_params(), "random_state": self.seed_},
            "n_features_in": self.n_features_in_,
            "feature_names_in": names,
            "kind": self.kind_.as_dict(),
        }

    def _restore(self, values):
        """The inverse of `_description`, after the parameters."""
        if isinstance(self.hidden_units, list):
            self.hidden_units = tuple(self.hidden_units)
        self.n_features_in_ = values["n_features_in"]
        if values["feature_names_in"] is not None:
            self.feature_names_in_ = np.asarray(values["feature_names_in"], object)
        self.kind_ = Kind.from_dict(values["kind"])
        self.seed_ = values["params"]["random_state"]

    @contextlib.contextmanager
    def _quiet(self):
        """Keeps TensorFlow from telling that each fit makes functions of its own."""
        logger = tf.get_logger()
        level = logger.level
        if not self.verbose:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            logger.setLevel(level)


def _is_named(answer, column):
    """Where a column of names, if there is one, names something, `[n]`."""
    if column not in answer.column_names:
        return np.zeros(len(answer), bool)
    return answer[column].to_numpy() != ""


@contextlib.contextmanager
def _folder_for(table):
    """A table as the only file of a new folder, for the block; what is wrong is said of X."""
    with tempfile.TemporaryDirectory(prefix="nice_tf-") as folder:
        path = pathlib.Path(folder) / "X.parquet"
        try:
            pq.write_table(table, path)
        except pa.ArrowException as error:
            raise UserError(f"X cannot be written as Parquet ({error})") from error
        try:
            yield path
        except UserError as error:
            raise UserError(_about_x(str(error), path)) from error


def _about_x(message, path):
    """A message in which the temporary file is X."""
    message = message.replace(f"weights {path.parent / 'sample_weight.npy'}", "sample_weight")
    for kind in ("dataset ", "input ", ""):
        message = message.replace(f"{kind}{path}", "X")
    return message.replace(str(path.parent / "run"), "the fit")


def _seed_of(random_state):
    """A whole number below 2^31: the number that is given, else one drawn."""
    if isinstance(random_state, (int, np.integer)):
        check_random_state(random_state)
        return int(random_state) % _MAX_SEED
    return int(check_random_state(random_state).randint(_MAX_SEED - 1))
