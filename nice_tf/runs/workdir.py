"""The folder of a run: what lies in it, and how it is written so that a crash loses nothing."""

import contextlib
import csv
import hashlib
import io
import json
import os
import pathlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from nice_tf.config import Config
from nice_tf.data.descriptions import check_description
from nice_tf.data.schema import FOUND_IN_VALUES, SPREAD, Schema
from nice_tf.errors import UserError
from nice_tf.files import Lock, remove_temporaries, write_atomically
from nice_tf.version import __version__

# Of what every version wrote.
_EVALUATION_KEYS = {
    "dataset",
    "split",
    "num_examples",
    "num_draws",
    "event_size",
    "levels",
    "log_prob",
    "log_prob_std_error",
    "bits_per_dim",
    "epoch",
}


def _compared(data):
    """A description of data without what follows from the values, whose checksum it has, and is not
    in the runs of earlier versions.
    """
    if "schema" not in data:
        return data
    columns = []
    for column in data["schema"]["columns"]:
        columns.append({key: value for key, value in column.items() if key not in FOUND_IN_VALUES})
    return {**data, "schema": {**data["schema"], "columns": columns}}


def _spread_or_not(data):
    """`_compared`, and without what says whether spikes are spread: a run of an earlier version is
    on the same data.
    """
    compared = _compared(data)
    if "schema" in compared:
        schema = {key: value for key, value in compared["schema"].items() if key != SPREAD}
        return {**compared, "schema": schema}
    return compared


def _differing(data, theirs):
    differing = []
    theirs = _spread_or_not(theirs)
    for key, value in _spread_or_not(data).items():
        if value != theirs.get(key):
            differing.append(f"data {key}: {value}, where the run has {theirs.get(key)}")
    return differing


def _as_json(values):
    return (json.dumps(values, indent=2) + "\n").encode()


def _as_npy(values):
    content = io.BytesIO()
    np.save(content, values)
    return content.getvalue()


def _sha256(content):
    return hashlib.sha256(content).hexdigest()


def _sha256_of(path):
    """Of a file's content; of what cannot be read as a file, that of no file."""
    try:
        return _sha256(path.read_bytes())
    except OSError:
        return ""


def _fingerprint(config, data):
    """What tells a run from others: the settings that change a result, and the data."""
    described = json.dumps(_compared(data), sort_keys=True)
    return _sha256((config.result_text() + described).encode())


class Workdir:
    """Paths and files of a run.

    config.json        settings and description of the data, enough to rebuild the flow
    metrics.csv        one row per epoch
    checkpoints/last   everything needed to continue
    checkpoints/best   the weights of the best epoch by validation log-likelihood
    tensorboard/       scalars and sample pictures
    samples/           sample pictures by epoch, and samples.png, samples_denoised.png at the end
    evaluation.json    the test log-likelihood
    calibration.npy    validation log-likelihoods, for tail probabilities
    rank_calibration.npy  the same by rank_log_prob, of a table with marginals; earlier versions
                       wrote none
    checksums.json     of config.json, evaluation.json and both of these: changed bytes are found
    estimator.json     of a folder that an estimator saved: what it knows beside the run
    .lock              held by the process that trains, evaluates or exports
    """

    def __init__(self, path: str | os.PathLike):
        self.path = pathlib.Path(path)
        self.config = self.path / "config.json"
        self.metrics = self.path / "metrics.csv"
        self.last = self.path / "checkpoints" / "last"
        self.best = self.path / "checkpoints" / "best"
        self.tensorboard = self.path / "tensorboard"
        self.samples = self.path / "samples"
        self.evaluation = self.path / "evaluation.json"
        self.calibration = self.path / "calibration.npy"
        self.rank_calibration = self.path / "rank_calibration.npy"
        self.checksums = self.path / "checksums.json"
        self.estimator = self.path / "estimator.json"
        self._lock = Lock(self.path / ".lock")

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Holds the folder, made if need be: in the block no other process writes or exports it.

        Raises:
          UserError: another process holds it, which the message names; or the folder cannot be
            written.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock.acquire(f"workdir {self.path}")
        except OSError as error:
            raise UserError(
                f"workdir {self.path} cannot be written ({error.strerror}): give another one"
            ) from error
        try:
            yield
        finally:
            self._lock.release()

    @contextlib.contextmanager
    def reading(self) -> Iterator[None]:
        """Keeps others from writing the run in the block; any number of processes may read.

        Raises:
          UserError: a process is writing it, or there is no run here.
        """
        if not self.config.exists():
            self.read_config()  # says so, and makes no lock in a folder that is none of a run
        self._lock.acquire(f"workdir {self.path}", shared=True)
        try:
            self.read_config()
            yield
        finally:
            self._lock.release()

    def check_is_held(self) -> None:
        """Checks that the folder is still the one that `writing` holds.

        Raises:
          UserError: it was deleted or replaced. Writing on would make a folder that lacks half of
            the run.
        """
        if not self._lock.is_held():
            raise UserError(
                f"workdir {self.path} was deleted or moved while the run was going on: it ends "
                "here, nothing more of it is saved"
            )

    def claim(
        self,
        config: Config,
        data: dict[str, Any],
        chosen: dict[str, Any],
        *,
        is_begun: bool,
        is_continued: bool,
    ) -> None:
        """Makes the folder that of this run, or checks that it is; called in `writing`.

        Args:
          config: the run's settings.
          data: `Data.description()`.
          chosen: what the settings left to `auto` came to here, by name; kept for the reader, and
            not compared.
          is_begun: there is a checkpoint, whole or not: then the settings and data must be those of
            the run.
          is_continued: there is a checkpoint to continue from. If not, what an earlier run left is
            removed: it must not be taken for results of this one.

        Raises:
          UserError: the folder holds a run of other settings or data, or files that are none of
            ours.
        """
        if self.config.exists():
            theirs = self.read_config()  # also refuses a config.json that is not ours
            if is_begun:
                self._check_same_run(config, data, *theirs)
        elif is_begun:
            self._check_fingerprint(config, data)
        self._clear_up(is_continued)
        try:
            self.samples.mkdir(exist_ok=True)
        except OSError as error:
            raise UserError(
                f"{self.samples} cannot be made ({error.strerror}): give another workdir"
            ) from error
        self._write_config(config, chosen, data)

    def _write_config(self, config, chosen, data):
        values = {
            "nice_tf": __version__,
            "config": config.as_dict(),
            "chosen": chosen,
            "data": data,
        }
        self._write_checked(self.config, _as_json(values), run=_fingerprint(config, data))

    def schema_of_begun(self, config: Config, data: dict[str, Any], found: Schema) -> Schema:
        """The columns of a table as the run here knows them; `found` where it is on other data.

        Without its config.json the checksum of the settings and data tells whether spikes are
        spread.

        Args:
          config: settings that may be those of the run.
          data: `Data.description()`.
          found: the columns that are in `data`.

        Raises:
          UserError: a `config.json` that is damaged or was changed.
        """
        if self.config.exists():
            _, theirs = self.read_config()
            if _differing(data, theirs):
                return found
            return Schema.from_dict(theirs["schema"])
        plain = found.without_spikes()
        known = self._read_checksums().get("run")
        if known == _fingerprint(config, {**data, "schema": plain.as_dict()}):
            return plain
        return found

    def change_settings(self, config: Config) -> None:
        """Gives a run settings that change no result, such as where its data lie now; called in
        `writing`.
        """
        _, data = self.read_config()
        self._write_config(config, self.read_chosen(), data)

    def check_keeps_data(self) -> None:
        """Refuses the folder of an estimator where the data of a run are to be read again.

        Raises:
          UserError: it is one.
        """
        if self.estimator.exists():
            raise UserError(
                f"workdir {self.path} was saved by an estimator: it is finished, and its data are "
                "in no file. score, sample, impute and export take it; for all else write the data "
                "to a table and train on that"
            )

    def name_data(self, config: Config, name: str) -> None:
        """Gives the data of a finished run another name, where the file that had them is gone.

        Args:
          config: the run's settings with this name instead of the file.
          name: of the data in the description and in the evaluation.
        """
        _, data = self.read_config()
        evaluation = self.finished_evaluation()
        self._write_config(config, self.read_chosen(), {**data, "name": name})
        self._write_checked(self.evaluation, _as_json({**evaluation, "dataset": name}))

    def _clear_up(self, is_continued):
        for folder in (self.path, self.samples):
            remove_temporaries(folder)
        if not is_continued:
            for leftover in (*self._results, self.metrics):
                leftover.unlink(missing_ok=True)

    def read_chosen(self) -> dict[str, Any]:
        """What the settings left to `auto` came to in training; earlier versions kept none."""
        return json.loads(self.config.read_text()).get("chosen", {})

    def check_same_data(self, data: dict[str, Any], theirs: dict[str, Any]) -> None:
        """Refuses data other than those the run was trained on; both as `Data.description()`.

        Raises:
          UserError: naming what differs.
        """
        differing = _differing(data, theirs)
        if differing:
            raise UserError(
                f"workdir {self.path} was trained on other data ({'; '.join(differing)})"
            )

    def _check_same_run(self, config, data, theirs, their_data):
        differing = config.differences(theirs) + _differing(data, their_data)
        if differing:
            raise UserError(
                f"workdir {self.path} belongs to a run with other settings "
                f"({'; '.join(differing)}): give the same settings to continue it, or another "
                "workdir"
            )

    def _check_fingerprint(self, config, data):
        """Without config.json the checksums alone tell whose checkpoints these are."""
        known = self._read_checksums().get("run")
        if known is None:
            raise UserError(
                f"workdir {self.path} holds checkpoints, but neither config.json nor "
                "checksums.json, which tell of which settings and data they are: restore "
                "config.json, or give another workdir"
            )
        if known != _fingerprint(config, data):
            raise UserError(
                f"workdir {self.path} has lost its config.json, and belongs to a run with other "
                "settings or other data (their checksum differs): give the same to continue it, "
                "restore config.json, or give another workdir"
            )

    def read_config(self) -> tuple[Config, dict[str, Any]]:
        """The settings and the description of the data of the run.

        Raises:
          UserError: no run here, or a `config.json` that is damaged or was changed.
        """
        try:
            content = json.loads(self.config.read_text())
            check_description(content["data"])
            result = Config.from_dict(content["config"]), content["data"]
        except OSError as error:
            if self.last.exists():
                raise UserError(
                    f"workdir {self.path} has lost its config.json: restore it, or run the "
                    "training command again, which writes it anew"
                ) from error
            raise UserError(
                f"workdir {self.path} holds no run: config.json cannot be read ({error.strerror})"
            ) from error
        except UserError:  # it already says what is wrong with a setting
            raise
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            raise UserError(
                f"{self.config} is damaged or not of nice_tf ({error!r}): restore it or give "
                "another workdir"
            ) from error
        self._check_unchanged(self.config)
        return result

    def read_evaluation(
        self, *, epoch: int | None = None, num_draws: int | None = None
    ) -> dict[str, Any] | None:
        """The content of `evaluation.json`, if it is there with its calibration, and both whole.

        Args:
          epoch: whose weights it must be of, if given.
          num_draws: of how many draws of the noise it must be, if given.
        """
        if not self.calibration.exists() or self._has_lost_ranks():
            return None
        if self.changed(*self._results):
            return None
        try:
            result = json.loads(self.evaluation.read_text())
        except (OSError, ValueError):
            return None
        if not isinstance(result, dict) or not set(result) >= _EVALUATION_KEYS:
            return None
        if epoch is not None and result["epoch"] != epoch:
            return None
        if num_draws is not None and result["num_draws"] != num_draws:
            return None
        return result

    def finished_evaluation(self) -> dict[str, Any]:
        """The content of `evaluation.json`.

        Raises:
          UserError: there is none, or it or its calibration are damaged.
        """
        self._check_unchanged(*self._results)
        evaluation = self.read_evaluation()
        if evaluation is None:
            raise UserError(
                f"workdir {self.path} is not finished, it has no evaluation that is whole: run the "
                "training command again to its end, or with --finish to close the run at its best "
                "epoch so far"
            )
        return evaluation

    def _has_lost_ranks(self):
        """Whether the calibration of ranks was written and is gone; runs of earlier versions have
        none.
        """
        name = self.rank_calibration.name
        return name in self._read_checksums() and not self.rank_calibration.exists()

    def drop_evaluation(self) -> None:
        """Removes what was evaluated at weights that are no longer the best: the run is open."""
        for path in self._results:
            path.unlink(missing_ok=True)

    @property
    def _results(self):
        """What says of a run that it is finished, first, and what belongs to that."""
        return (self.evaluation, self.calibration, self.rank_calibration)

    def write_evaluation(
        self,
        result: dict[str, Any],
        calibration: np.ndarray,
        rank_calibration: np.ndarray | None = None,
    ) -> None:
        """Writes the calibrations, then `evaluation.json`, which says that the run is finished."""
        self._write_checked(self.calibration, _as_npy(calibration))
        if rank_calibration is not None:
            self._write_checked(self.rank_calibration, _as_npy(rank_calibration))
        self._write_checked(self.evaluation, _as_json(result))

    def write_json(self, path: pathlib.Path, values: dict[str, Any] | list[dict[str, Any]]) -> None:
        """Writes a JSON file of this folder, atomically."""
        write_atomically(path, _as_json(values))

    def write_array(self, path: pathlib.Path, values: np.ndarray) -> None:
        """Writes a `.npy` file of this folder, atomically."""
        write_atomically(path, _as_npy(values))

    def changed(self, *paths: pathlib.Path) -> list[pathlib.Path]:
        """Those of these files whose bytes are not those that were written, where it is known."""
        known = self._read_checksums()
        there = [path for path in paths if path.name in known and path.exists()]
        return [path for path in there if _sha256_of(path) not in known[path.name]]

    def _check_unchanged(self, *paths):
        for path in self.changed(*paths):
            way_out = "run"
            if path == self.config:
                way_out = "delete it and run"
            raise UserError(
                f"{path} was changed after it was written, its checksum differs: restore it; or "
                f"{way_out} the training command again, which writes it anew"
            )

    def _read_checksums(self):
        try:
            known = json.loads(self.checksums.read_text())
            for name, value in known.items():
                if name != "run":
                    known[name] = list(value)
            return known
        except FileNotFoundError:
            return {}
        except (AttributeError, OSError, TypeError, ValueError) as error:
            raise UserError(
                f"{self.checksums} is damaged ({error}): restore it, or delete it to do without"
            ) from error

    def _write_checked(self, path, content, **values):
        """Writes a file and its checksum.

        Meanwhile that of the old content counts, too: a kill leaves one of them.
        """
        known = self._read_checksums() | values
        now = _sha256(content)
        valid = [now]
        if path.exists() and not self.changed(path):
            valid.append(_sha256_of(path))
        self.write_json(self.checksums, {**known, path.name: valid})
        write_atomically(path, content)
        self.write_json(self.checksums, {**known, path.name: [now]})

    def read_metrics(self, up_to_epoch: int | None = None) -> list[dict[str, Any]]:
        """The rows of `metrics.csv`, all or of the first epochs.

        Later ones can be of a run that was cut off before it saved.

        Raises:
          UserError: a file that is damaged: a row that is cut, or not in the order of the epochs.
        """
        if not self.metrics.exists():
            return []
        try:
            with self.metrics.open(newline="") as file:
                rows = list(csv.DictReader(file, strict=True))
            _check_rows(rows)
        except (csv.Error, KeyError, OSError, TypeError, ValueError) as error:
            raise UserError(
                f"{self.metrics} is damaged ({error}): restore it, or run the training command "
                "again, which writes it anew"
            ) from error
        if up_to_epoch is None:
            return rows
        return [row for row in rows if int(row["epoch"]) <= up_to_epoch]

    def write_metrics(self, rows: list[dict[str, Any]]) -> None:
        """Writes `metrics.csv`, atomically."""
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
        write_atomically(self.metrics, text.getvalue().encode())


def _check_rows(rows):
    """Raises a ValueError, KeyError or TypeError where a row of metrics is cut or misplaced."""
    before = 0
    for row in rows:
        epoch = int(row["epoch"])
        if epoch <= before:
            raise ValueError(f"epoch {epoch} stands behind epoch {before}")
        if None in row or None in row.values():
            raise ValueError(f"epoch {epoch} has another number of values than the header")
        for text in row.values():
            float(text)
        before = epoch
