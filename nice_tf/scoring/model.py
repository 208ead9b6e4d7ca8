"""A trained model, from a run or an export, behind one face: scores, samples, filled missing
values, all in data units.
"""

import dataclasses
import functools
import json
import math
import os
import pathlib
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from nice_tf.data.descriptions import check_description
from nice_tf.data.schema import Schema
from nice_tf.errors import UserError
from nice_tf.runs.workdir import Workdir
from nice_tf.serving import server as server_lib

# Log-likelihoods of validation that exports without `tail_step` have at most.
_KEPT_BY_EARLIER_VERSIONS = 10_000


@dataclasses.dataclass(frozen=True)
class Model:
    """What the serving signatures of a model answer, the same from a run and from its export.

    Attributes:
      path: where it was loaded from.
      description: of its data, as `server.load_server` gives it.
      signatures: by name; tensors in by keyword, a dict of tensors out.
      owner: of the variables, which signatures alone do not keep alive.
    """

    path: str
    description: dict[str, Any]
    signatures: dict[str, Callable]
    owner: Any = None

    @classmethod
    def load(cls, path: str | os.PathLike) -> "Model":
        """Loads a model.

        Args:
          path: the workdir of a finished run; or the folder of an export, of which the newest
            version is taken, or of one version.

        Raises:
          UserError: nothing of these is there.
        """
        folder = pathlib.Path(path)
        run = Workdir(folder)
        if run.config.exists() or run.last.exists():
            server, description = server_lib.load_server(folder)
            return cls(str(folder), description, server.signatures())
        if not (folder / "saved_model.pb").exists():
            folder = _newest_version(folder)
        return cls._load_export(folder)

    @classmethod
    def _load_export(cls, folder):
        """Loads one version of an export."""
        try:
            description = json.loads((folder / "assets" / server_lib.DESCRIPTION).read_text())
            _check_export(description)
            loaded = tf.saved_model.load(str(folder))
            signatures = dict(loaded.signatures)
        except Exception as error:  # TensorFlow passes on whatever a damaged file leads it to
            cause = (str(error) or type(error).__name__).splitlines()[0]
            raise UserError(
                f"model {folder} cannot be loaded ({type(error).__name__}: {cause}): export it "
                "again"
            ) from error
        missing = {"log_prob", "sample", "inpaint"} - set(signatures)
        if missing:
            raise UserError(
                f"model {folder} has no signature {', '.join(sorted(missing))}: export it again"
            )
        return cls(str(folder), description, signatures, owner=loaded)

    @functools.cached_property
    def schema(self) -> Schema | None:
        """The columns, if the data are a table."""
        if "schema" not in self.description:
            return None
        return Schema.from_dict(self.description["schema"])

    @property
    def tail_step(self) -> float:
        """The least difference of two values of `tail_probability`."""
        if "tail_step" in self.description:
            return self.description["tail_step"]
        return 1 / min(self.description["num_validation"], _KEPT_BY_EARLIER_VERSIONS)

    @property
    def event_shape(self) -> list[int]:
        """Shape of one example."""
        return self.description["event_shape"]

    @property
    def event_size(self) -> int:
        """D, the number of values of one example."""
        return int(np.prod(self.event_shape))

    @property
    def dtype(self) -> np.dtype:
        """Of the examples that the signatures take and give."""
        # Absent in exports of earlier versions.
        return np.dtype(self.description.get("dtype", "float32"))

    def __call__(self, signature: str, **inputs: np.ndarray) -> dict[str, np.ndarray]:
        """The answer of a signature, as arrays.

        Raises:
          UserError: what the signature refuses, in its words.
        """
        tensors = {name: tf.constant(value) for name, value in inputs.items()}
        try:
            answers = self.signatures[signature](**tensors)
        except tf.errors.InvalidArgumentError as error:
            raise UserError(f"the model refuses its input: {_rule(error.message)}") from error
        return {name: value.numpy() for name, value in answers.items()}

    def score(self, x: np.ndarray) -> dict[str, np.ndarray]:
        """How usual examples are.

        Args:
          x: `[B, *event_shape]` in data units.

        Returns:
          `[B]` each: `log_prob` in nats; `bits_per_dim` of integer data; `tail_probability`, the
          share of validation examples of lower log_prob; `typicality`, |log_prob - its mean over
          validation examples|, which is large for what is too usual as well (Nalisnick et al.
          2019).
        """
        scores = self("log_prob", x=np.asarray(x, self.dtype))
        result: dict[str, np.ndarray] = {}
        for name in ("log_prob", "bits_per_dim", "tail_probability"):
            if name in scores:
                result[name] = scores[name]
        usual = np.float32(self.description["usual_log_prob"])
        result["typicality"] = np.abs(scores["log_prob"] - usual)
        return result

    def contributions(self, x: np.ndarray) -> np.ndarray:
        """What makes a table's rows unusual: nats that log_prob would gain if a value were its
        column's median, or without marginals its mean; of categories the most frequent.

        Args:
          x: `[B, D]` in data units.

        Returns:
          `[B, D]`; it takes D times the work of `score`.
        """
        return self("explain", x=np.asarray(x, self.dtype))["contribution"]

    def sample(
        self, num_samples: int, *, seed: int, first: int = 0, temperature: float = 1.0
    ) -> np.ndarray:
        """Samples in data units, unclipped; sample n of a seed is the same, to rounding, however
        many are drawn.

        Args:
          num_samples: how many, at least 1.
          seed: at least 0, below 2^31.
          first: number of the first.
          temperature: above 0; less than 1 stays nearer to the mode.

        Returns:
          `[num_samples, *event_shape]`.
        """
        temperatures = np.full(num_samples, temperature, np.float32)
        return self("sample", seed=_seeds(seed, first, num_samples), temperature=temperatures)["x"]

    def fill(self, x: np.ndarray, *, seed: int = 0, first: int = 0) -> np.ndarray:
        """Missing values filled by ascent on the log-density (Dinh et al. 2014, section 5.2).

        Args:
          x: `[B, *event_shape]` in data units, NaN where a value is missing.
          seed: of the noise of the export, if it has any.
          first: number of the first example, which sets its noise apart.

        Returns:
          As `x`; what was there is there to the bit.
        """
        x = np.asarray(x, self.dtype)
        observed = ~np.isnan(x)
        known = np.where(observed, x, 0)
        mask = observed.astype(np.float32)
        filled = self("inpaint", x=known, mask=mask, seed=_seeds(seed, first, len(x)))["x"]
        if self.schema:  # what lies on the edge of the last bin is rounded out of it
            filled = np.clip(self.schema.rounded(filled), *self.schema.ends).astype(self.dtype)
        return np.where(observed, x, filled)


def _seeds(seed, first, count):
    """A seed for each example, `[count, 2]`: the seed of all, and the example's number."""
    numbers = np.arange(first, first + count)
    return np.stack([np.full(count, seed), numbers], axis=-1).astype(np.int32)


def _rule(message):
    """What a signature says, without what TensorFlow writes around it."""
    for pattern in (r"assertion failed: \[(.*?)\]", r"(Shape of tensor .*)"):
        rule = re.search(pattern, message)
        if rule:
            return rule[1]
    return " ".join(message.split())


def _newest_version(folder):
    versions: dict[int, pathlib.Path] = {}
    for part in sorted(folder.glob("*/")):
        number = server_lib.version_number(part.name)
        if number is not None:
            versions.setdefault(number, part)
    if not versions:
        raise UserError(f"model {folder}: a finished run or an export is needed, there is neither")
    return versions[max(versions)]


def _check_export(values):
    """Looks at what an export says of its model beside its data."""
    check_description(values)
    if not math.isfinite(values["usual_log_prob"]):
        raise ValueError(
            f"{server_lib.DESCRIPTION} has the usual_log_prob {values['usual_log_prob']}"
        )
    dtype = values.get("dtype", "float32")  # absent in exports of earlier versions
    if dtype not in ("float32", "float64"):
        raise ValueError(f"{server_lib.DESCRIPTION} has the dtype {dtype}")
    resize = values.get("resize", [])
    if resize and (len(resize) != 2 or not all(map(_is_length, resize))):
        raise ValueError(f"{server_lib.DESCRIPTION} has the resize {resize}")


def _is_length(value):
    return isinstance(value, int) and value > 0
