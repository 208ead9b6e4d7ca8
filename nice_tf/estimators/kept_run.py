"""A finished run in memory: what an estimator holds instead of a folder."""

import dataclasses
import functools
import io
import json
import os
import pathlib
import tempfile

import numpy as np

from nice_tf.runs.workdir import Workdir
from nice_tf.scoring.model import Model


class KeptRun:
    """The files of a finished run that its answers need, and the model that they hold.

    A pickle carries the files alone: the model is loaded again where it is first asked.

    Attributes:
      files: content by path in the folder of the run.
    """

    def __init__(self, files: dict[str, bytes]):
        self.files = files

    @classmethod
    def read(cls, workdir: str | os.PathLike) -> "KeptRun":
        """Takes them from a folder: results, settings, and the weights of the best epoch."""
        run = Workdir(workdir)
        paths = [run.config, run.checksums, run.evaluation, run.calibration, run.metrics]
        if run.rank_calibration.exists():  # in runs of earlier versions it does not
            paths.append(run.rank_calibration)
        paths += sorted(run.best.glob("epoch-*"))
        files = {}
        for path in paths:
            files[str(path.relative_to(run.path))] = path.read_bytes()
        return cls(files)

    @classmethod
    def of_x(cls, workdir: str | os.PathLike) -> "KeptRun":
        """Takes them from a folder in a place that is soon gone, as are the data: they are then
        said to be of X.
        """
        run = Workdir(workdir)
        config, _ = run.read_config()
        weights = ""
        if config.weights:
            weights = "sample_weight"
        named = dataclasses.replace(config, dataset="X", data_dir="", weights=weights)
        run.name_data(named, "X")
        return cls.read(workdir)

    def write(self, folder: str | os.PathLike) -> None:
        """Writes them into a folder, which is then that of the run."""
        for name, content in self.files.items():
            path = pathlib.Path(folder) / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)

    @functools.cached_property
    def model(self) -> Model:
        """Loaded, with all it needs in memory."""
        with tempfile.TemporaryDirectory(prefix="nice_tf-") as folder:
            self.write(folder)
            return Model.load(folder)

    def history(self) -> dict[str, list[float]]:
        """The columns of metrics.csv: a list by name, with a value for each epoch."""
        result: dict[str, list[float]] = {}
        with tempfile.TemporaryDirectory(prefix="nice_tf-") as folder:
            self.write(folder)
            rows = Workdir(folder).read_metrics()
        for row in rows:
            for name, value in row.items():
                result.setdefault(name, []).append(float(value))
        return result

    @property
    def best_epoch(self) -> int:
        """Whose weights these are, counted from 1."""
        evaluation = json.loads(self.files["evaluation.json"])
        return evaluation["epoch"]

    def usual_log_probs(self, by: str = "density") -> np.ndarray:
        """Log-likelihoods of the validation rows, or those of their ranks, ascending."""
        name = "calibration.npy"
        if by == "ranks":
            name = "rank_calibration.npy"
        return np.load(io.BytesIO(self.files[name]))

    def __getstate__(self) -> dict[str, dict[str, bytes]]:
        return {"files": self.files}
