"""The folder of a run: what lies in it, and how it is written so that a crash at any moment loses nothing."""

import contextlib
import csv
import io
import json
import os
import pathlib
from typing import Any

import numpy as np

from nice_tf.config import Config
from nice_tf.descriptions import check_description
from nice_tf.errors import UserError


def write_atomically(path: pathlib.Path, content: bytes) -> None:
    """Writes a file under a temporary name and renames it: readers see the old or the new one, never half of it.

    Its folder is made if need be.

    Raises:
      UserError: the disk is full, or the folder cannot be written; the old file stays.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(content)
        os.replace(temporary, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise UserError(f"{path} cannot be written ({error.strerror})") from error


def _differing(data, theirs):
    return [f"data {key}: {data[key]}, not {theirs.get(key)}" for key in data if data[key] != theirs.get(key)]


class Workdir:
    """Paths and files of a run.

    config.json        settings and description of the data, enough to rebuild the flow
    metrics.csv        one row an epoch
    checkpoints/last   everything needed to continue
    checkpoints/best   the weights of the best epoch by validation log-likelihood
    tensorboard/       scalars and sample pictures
    samples/           sample pictures by epoch, and samples.png, samples_denoised.png at the end
    evaluation.json    the test log-likelihood
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

    def claim(self, config: Config, data: dict[str, Any], chosen: dict[str, Any]) -> None:
        """Makes the folder for this run, or checks that it belongs to it.

        Args:
          config: the run's settings.
          data: `Data.description()`.
          chosen: what the settings left to `auto` came to here, by name; kept for the reader, and not compared.

        Raises:
          UserError: the folder cannot be written, or holds a run of other settings or data.
        """
        from nice_tf import __version__

        try:
            self.samples.mkdir(parents=True, exist_ok=True)
            probe = self.path / ".writable"
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise UserError(f"workdir {self.path} cannot be written ({error.strerror}): give another one") from error
        theirs = self.read_config() if self.config.exists() else None  # also refuses a config.json that is not ours
        if any(self.last.glob("*.index")):
            self._check_same_run(config, data, *(theirs or self.read_config()))
        else:
            # Nothing to continue: what an earlier run left must not be taken for results of this one.
            for leftover in (self.evaluation, self.calibration, self.metrics, *self.best.glob("*")):
                leftover.unlink(missing_ok=True)
        values = {"nice_tf": __version__, "config": config.as_dict(), "chosen": chosen, "data": data}
        self.write_json(self.config, values)

    def read_chosen(self) -> dict[str, Any]:
        """What the settings left to `auto` came to where the run was trained; empty for a run of an earlier version."""
        return json.loads(self.config.read_text()).get("chosen", {})

    def check_same_data(self, data: dict[str, Any], theirs: dict[str, Any]) -> None:
        """Refuses data other than those the run was trained on; both as `Data.description()`.

        Raises:
          UserError: naming what differs.
        """
        differing = _differing(data, theirs)
        if differing:
            raise UserError(f"workdir {self.path} was trained on other data ({'; '.join(differing)})")

    def _check_same_run(self, config, data, theirs, their_data):
        differing = config.differences(theirs) + _differing(data, their_data)
        if differing:
            raise UserError(
                f"workdir {self.path} belongs to a run with other settings ({'; '.join(differing)}): give the same "
                "settings to continue it, or another workdir"
            )

    def read_config(self) -> tuple[Config, dict[str, Any]]:
        """The settings and the description of the data of the run.

        Raises:
          UserError: no run here, or a damaged `config.json`.
        """
        try:
            content = json.loads(self.config.read_text())
            check_description(content["data"])
            return Config.from_dict(content["config"]), content["data"]
        except OSError as error:
            raise UserError(
                f"workdir {self.path} holds no run: config.json cannot be read ({error.strerror})"
            ) from error
        except UserError:  # it already says what is wrong with a setting
            raise
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            raise UserError(
                f"{self.config} is damaged or not of nice_tf ({error!r}): restore it or give another workdir"
            ) from error

    def read_evaluation(self) -> dict[str, Any] | None:
        """The content of `evaluation.json`, if it is there with its calibration and whole."""
        try:
            return json.loads(self.evaluation.read_text()) if self.calibration.exists() else None
        except (OSError, ValueError):
            return None

    def finished_evaluation(self) -> dict[str, Any]:
        """The content of `evaluation.json`.

        Raises:
          UserError: there is none.
        """
        evaluation = self.read_evaluation()
        if evaluation is None:
            raise UserError(
                f"workdir {self.path} is not finished, it has no evaluation: run the training command again to its end"
            )
        return evaluation

    def write_json(self, path: pathlib.Path, values: dict[str, Any] | list[dict[str, Any]]) -> None:
        """Writes a JSON file of this folder, atomically."""
        write_atomically(path, (json.dumps(values, indent=2) + "\n").encode())

    def write_array(self, path: pathlib.Path, values: np.ndarray) -> None:
        """Writes a `.npy` file of this folder, atomically."""
        content = io.BytesIO()
        np.save(content, values)
        write_atomically(path, content.getvalue())

    def read_metrics(self, up_to_epoch: int | None = None) -> list[dict[str, Any]]:
        """The rows of `metrics.csv`, all or of the first epochs; later ones can be of a run cut off before saving."""
        if not self.metrics.exists():
            return []
        with self.metrics.open(newline="") as file:
            return [row for row in csv.DictReader(file) if up_to_epoch is None or int(row["epoch"]) <= up_to_epoch]

    def write_metrics(self, rows: list[dict[str, Any]]) -> None:
        """Writes `metrics.csv`, atomically."""
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
        write_atomically(self.metrics, text.getvalue().encode())
