"""What the estimators share: training, scores and samples of X."""

import contextlib
import dataclasses
import os
import pathlib
import tempfile
from collections.abc import Iterator
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted, validate_data

from nice_tf.data.schema import Schema, extra_names, said_of_extra
from nice_tf.data.tables.encodings import decoded
from nice_tf.data.weights import check_weights
from nice_tf.errors import UserError, check_count
from nice_tf.estimators.folders import RUN, WEIGHTS, about_x, folder_for, naming_parameters
from nice_tf.estimators.frames import (
    Kind,
    as_table,
    is_frame,
    is_pandas,
    names_of,
    table_of_array,
    without_columns,
)
from nice_tf.estimators.kept_run import KeptRun
from nice_tf.estimators.messages import quiet, said_of_rows, warn
from nice_tf.estimators.saved import DAMAGE, damaged, read_description, write_estimator
from nice_tf.estimators.settings import category_names, seed_of, settings_of
from nice_tf.scoring.blocks import Block
from nice_tf.scoring.scorer import LOG_PROBS, VALUES_A_CALL, Scorer
from nice_tf.scoring.table_input import TableInput
from nice_tf.serving.export import export_saved_model
from nice_tf.training.run import RunStart, train_once
from nice_tf.version import __version__

T = TypeVar("T", bound="Estimator")

_MIN_ROWS = 6  # to split


class Estimator(BaseEstimator):
    """A density of the rows of X, trained as `nice-tf train --flagfile=configs/table.flags` trains.

    Attributes after `fit`, beside scikit-learn's own:
      history_: log-likelihoods and more for each epoch, lists by name.
      best_epoch_: whose weights are used, counted from 1.
      seed_: that stood for `random_state`: the run's `seed` and `split_seed`.
      kind_: what X was.
      run_: the trained run.
    """

    hidden_units: Any
    impute: bool
    random_state: Any
    verbose: int

    def fit(self: T, X: Any, y: Any = None, sample_weight: Any = None) -> T:
        """Trains on the rows of X, all of which are for training or validation.

        X lies in a temporary folder meanwhile, in which the training writes; it is removed at the
        end. A second `fit` starts anew; one that fails leaves the estimator as it was.

        Args:
          X: `[N, D]`, N at least 6, D at least 2: numbers as an array, or a data frame of pandas,
            of Arrow or with their protocols, with columns of numbers, text, booleans, dates and
            times. Identifiers are no coordinates, a warning names them; columns of one value
            neither, `score_samples` names them where a row has another value there.
          y: not used.
          sample_weight: `[N]`, at least 0 each: how much a row counts in the loss and in the
            validation that chooses the epoch. Rows of weight 0 are not in the fitted marginals
            either, the others count once there. `None`: all count alike.

        Returns:
          The estimator.

        Raises:
          UserError: a `ValueError`; X or a parameter breaks a rule, or the training diverged.
        """
        with self._unchanged_on_error():
            self._fit(X, sample_weight)
        return self

    def _fit(self, X, sample_weight):
        table, kind = self._read(X, reset=True)
        if sample_weight is not None:
            sample_weight = np.asarray(sample_weight)
            sample_weight = check_weights(sample_weight, len(table), "sample_weight")
        seed = seed_of(self.random_state)
        started: list[RunStart] = []
        with folder_for(table) as path, quiet(self.verbose):
            weights = ""
            if sample_weight is not None:
                weights = str(path.parent / WEIGHTS)
                np.save(weights, sample_weight)
            config = settings_of(
                self.get_params(deep=False), path, num_rows=len(table), seed=seed, weights=weights
            )
            workdir = path.parent / RUN
            train_once(config, workdir, on_start=started.append, verbose=int(self.verbose))
            self.run_ = KeptRun.of_x(workdir)
            said = [about_x(warning, path) for warning in started[0].warnings]
        for warning in said:
            warn(warning)
        self.kind_ = kind
        self.seed_ = seed
        self._read_run()

    @contextlib.contextmanager
    def _unchanged_on_error(self):
        """All attributes as they were before the block, if it raises."""
        before = dict(vars(self))
        try:
            yield
        except BaseException:
            self.__dict__ = before
            raise

    def score_samples(self, X: Any) -> np.ndarray:
        """The log-density of each row, in nats and the units of X.

        Values of columns with steps (integers, rounded decimals) stand at the centre of their bins:
        the probability of such a value is about the density times the step.

        Args:
          X: `[N, D]`, with the columns of `fit` in their order. Other columns of a frame are
            ignored, and a warning names them.

        Returns:
          `[N]` in float64. Where a column that was constant in `fit` has another value, it is that
          of the other columns, and a warning names the column.

        Raises:
          UserError: other columns or types than in `fit`, or missing values without `impute`.
        """
        scores = self._scores(X)
        if scores.unseen:
            warn(
                f"X has categories that fit had not: {scores.unseen}. The log-density there is "
                "that of what lies beyond all categories"
            )
        if scores.off_constant:
            warn(
                f"X differs from fit in columns that were constant there: {scores.off_constant}. "
                "The density there is 0, the scores are of the other columns alone"
            )
        return scores.log_probs

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
          types. Values of columns with steps lie on them and within the range of `fit`, and what
          comes again and again in a continuous column, as its zeros, comes as itself.
        """
        model = self._model
        check_count("n_samples", n_samples, 1)
        if random_state is None:
            random_state = self.random_state
        seed = seed_of(random_state)
        size = self._rows_at_once
        parts = []
        with quiet(self.verbose):
            for first in range(0, n_samples, size):
                count = min(size, n_samples - first)
                parts.append(model.sample(count, seed=seed, first=first, temperature=temperature))
        return self._as_x(np.concatenate(parts))

    def save(self, path: str | os.PathLike) -> None:
        """Writes a folder from which `load` makes the estimator again.

        It is also the folder of a run: `nice-tf score`, `sample`, `impute` and `export` take it.

        Args:
          path: of the folder, which must not be there yet.

        Raises:
          UserError: it is there, or cannot be written.
        """
        check_is_fitted(self)
        write_estimator(path, self.run_, self._description())

    @classmethod
    def load(cls: type[T], path: str | os.PathLike) -> T:
        """Reads what `save` wrote; the files are looked at as those of a run are.

        Raises:
          UserError: there is none, one of another class, or a damaged one.
        """
        values = read_description(path, cls.__name__)
        try:
            result = cls(**values["params"])
            result._restore(values)
            result.run_ = KeptRun.read(path)
        except OSError as error:
            raise UserError(f"path {path} lacks a file of its run ({error})") from error
        except DAMAGE as error:
            raise damaged(path, error) from error
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
        with tempfile.TemporaryDirectory(prefix="nice_tf-") as folder, quiet(self.verbose):
            self.run_.write(folder)
            return export_saved_model(folder, path)

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "run_")

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = self.impute
        return tags

    def _read(self, X, *, reset):
        """X as a table, checked as scikit-learn does, and what it was."""
        minimum = 1
        num_columns = 1
        if reset:
            minimum = _MIN_ROWS
            num_columns = 2
        if is_frame(X):
            if not reset:
                X = self._without_extra(X)
            table = as_table(X, category_names(self.settings))
            named = table
            if is_pandas(X):  # where numbers are no names
                named = X
            validate_data(self, named, reset=reset, skip_check_array=True)
            if not table.column_names:
                raise UserError(f"X has 0 columns (features): at least {num_columns} are needed")
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

    def _without_extra(self, X):
        """A frame without the columns that `fit` had not, which a warning names. One that lacks
        columns is left for scikit-learn's own message.
        """
        names = names_of(X)
        known = getattr(self, "feature_names_in_", None)
        if known is None or not set(known) <= set(names):
            return X
        extra = extra_names(names, known)
        for line in said_of_extra(extra, "X"):
            warn(line)
        return without_columns(X, extra)

    def _blocks(self, table: pa.Table) -> Iterator[Block]:
        """The rows of X as the model takes them."""
        model = self._model
        with folder_for(table) as path, quiet(self.verbose):
            source = TableInput(str(path), self._schema, dtype=model.dtype)
            yield from source.blocks(self._rows_at_once)

    def _scores(self, X, by="density"):
        """Of the rows of X, or of their ranks."""
        scorer = Scorer(self._model, top=0, impute=self.impute, by=by)
        table, _ = self._read(X, reset=False)
        log_probs = []
        off_constant = []
        unseen = []
        for block in self._blocks(table):
            with naming_parameters():
                answer = scorer(block)
            log_probs.append(answer[LOG_PROBS[by]].to_numpy().astype(np.float64))
            off_constant.append(scorer.off_constant(block))
            unseen.append(block.unseen)
        masks = [*_joined(off_constant).values(), *_joined(unseen).values()]
        return Scores(
            log_probs=np.concatenate(log_probs),
            is_new=np.any([np.zeros(len(table), bool), *masks], axis=0),
            off_constant=said_of_rows(table, _joined(off_constant)),
            unseen=said_of_rows(table, _joined(unseen)),
        )

    def _as_x(self, values):
        """Rows of the density as what X was."""
        rows = self._schema.as_rows(values)
        return self.kind_.restored(decoded(self._schema, rows), len(rows))

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


@dataclasses.dataclass
class Scores:
    """What the model says of rows.

    Attributes:
      log_probs: `[N]` in float64.
      is_new: where a row has what `fit` had not, `[N]`.
      off_constant: the columns with another value than the only one in `fit`, and the first such
        value of each, for messages; empty if there are none.
      unseen: the same of categories.
    """

    log_probs: np.ndarray
    is_new: np.ndarray
    off_constant: str
    unseen: str


def _joined(blocks):
    """Masks by name, of the blocks one after the other, as masks of all rows."""
    return {name: np.concatenate([masks[name] for masks in blocks]) for name in blocks[0]}
