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
import numpy.typing as npt
import tensorflow as tf

from nice_tf.choices import ANOMALY_SCORES
from nice_tf.data.descriptions import check_description
from nice_tf.data.schema import Schema
from nice_tf.errors import UserError, check_choice
from nice_tf.runs.workdir import Workdir
from nice_tf.scoring.spikes import nodes_of
from nice_tf.scoring.trying import with_best_values
from nice_tf.serving import server as server_lib
from nice_tf.serving.classes import Classes

# Log-likelihoods of validation that exports without `tail_step` have at most.
_KEPT_BY_EARLIER_VERSIONS = 10_000

_SAMPLES_FOR_NODES = 1000

# Of `log_prob`, in the order in which they are shown; not every model has all.
_SCORES = (
    "log_prob",
    "bits_per_dim",
    "tail_probability",
    "rank_log_prob",
    "rank_tail_probability",
)


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
            only = description.get("signature")
            if only is not None:
                raise UserError(
                    f"model {folder} has the signature {only} alone, for a server: export it again "
                    "without a signature"
                )
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

    @functools.cached_property
    def classes(self) -> Classes | None:
        """The classes, if the density is given one."""
        return Classes.from_description(self.description)

    @property
    def tail_step(self) -> float:
        """The least difference of two values of `tail_probability`."""
        if "tail_step" in self.description:
            return self.description["tail_step"]
        return 1 / min(self.description["num_validation"], _KEPT_BY_EARLIER_VERSIONS)

    @property
    def has_ranks(self) -> bool:
        """Whether rows are scored by their ranks, too."""
        # Absent without them, and in exports of earlier versions.
        return self.description.get("has_ranks", False)

    def check_scored_by(self, by: str) -> None:
        """Checks that a model has a score.

        Args:
          by: `"density"` or `"ranks"`.

        Raises:
          UserError: it has not.
        """
        check_choice("by", by, ANOMALY_SCORES)
        if by == "ranks" and not self.has_ranks:
            raise UserError(
                f"by must be density, got 'ranks': model {self.path} has no rank_log_prob, which a "
                "table has whose flow has marginals. Train with marginals quantile or trained, as "
                "configs/table.flags has it. Of an earlier version: run the training command "
                "again, which adds what is missing, and export again, or fit an estimator again"
            )

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

    @property
    def max_batch(self) -> int:
        """Rows of a request at most; 0 for any number."""
        # Absent without a cap, and in exports of earlier versions.
        return self.description.get("max_batch", 0)

    def __call__(self, signature: str, **inputs: np.ndarray) -> dict[str, np.ndarray]:
        """The answer of a signature, as arrays; that to many rows in parts, where the model caps
        the rows of a request.

        Raises:
          UserError: what the signature refuses, in its words.
        """
        if not self.max_batch or signature == "sample_n":  # which has no batch
            return self._answer(signature, inputs)
        # The longest: an input of another length is refused, as it is without a cap.
        num_rows = max(len(value) for value in inputs.values())
        parts = []
        for start in range(0, max(num_rows, 1), self.max_batch):
            parts.append(
                self._answer(signature, _of_rows(inputs, slice(start, start + self.max_batch)))
            )
        joined = {}
        for name in parts[0]:
            joined[name] = np.concatenate([part[name] for part in parts])
        return joined

    def _answer(self, signature, inputs):
        """The answer to one request."""
        tensors = {name: tf.constant(value) for name, value in inputs.items()}
        try:
            answers = self.signatures[signature](**tensors)
        except tf.errors.InvalidArgumentError as error:
            raise UserError(f"the model refuses its input: {_rule(error.message)}") from error
        return {name: value.numpy() for name, value in answers.items()}

    def _given(self, label, num_rows):
        """The input that says of which class each row is, where the density is given one."""
        if self.classes is None:
            if label is not None:
                raise UserError(f"model {self.path} takes no labels: it is of p(x)")
            return {}
        if label is None:
            raise UserError(
                f"model {self.path} is of p(x | {self.classes.label}): give the label of each "
                f"example, of {self.classes.shown}"
            )
        return {"label": self.classes.as_input(label, num_rows)}

    def classify(self, x: np.ndarray) -> dict[str, np.ndarray]:
        """What a conditional model says of the class of examples.

        Args:
          x: `[B, *event_shape]` in data units.

        Returns:
          `log_prob_given` and `probability`, log p(x | y) and p(y | x) of all classes y, `[B, C]`;
          `log_prob`, log p(x), and `label`, the most probable class by name, `[B]`.

        Raises:
          UserError: a model of p(x) alone.
        """
        if self.classes is None:
            raise UserError(f"model {self.path} has no classes: it is of p(x)")
        answers = self("classify", x=np.asarray(x, self.dtype))
        labels = [one.decode() if isinstance(one, bytes) else one for one in answers["label"]]
        return {**answers, "label": np.array(labels).astype(str)}

    def score(self, x: np.ndarray, *, label: npt.ArrayLike | None = None) -> dict[str, np.ndarray]:
        """How usual examples are.

        Args:
          x: `[B, *event_shape]` in data units.
          label: of a conditional model, the class of each example by name, `[B]`; log_prob is then
            log p(x | label).

        Returns:
          `[B]` each: `log_prob` in nats; `bits_per_dim` of integer data; `tail_probability`, the
          share of validation examples of lower log_prob; `typicality`, |log_prob - its mean over
          validation examples|, which is large for what is too usual as well (Nalisnick et al.
          2019). Of a model that `has_ranks` also `rank_log_prob`, the log-density of a row's ranks,
          and `rank_tail_probability`.
        """
        scores = self("log_prob", x=np.asarray(x, self.dtype), **self._given(label, len(x)))
        result: dict[str, np.ndarray] = {}
        for name in _SCORES:
            if name in scores:
                result[name] = scores[name]
        usual = np.float32(self.description["usual_log_prob"])
        result["typicality"] = np.abs(scores["log_prob"] - usual)
        return result

    def contributions(
        self, x: np.ndarray, *, label: npt.ArrayLike | None = None, by: str = "density"
    ) -> np.ndarray:
        """What makes a table's rows unusual: nats that log_prob would gain if a value were its
        column's median, or without marginals its mean; of categories the most frequent.

        Args:
          x: `[B, D]` in data units.
          label: as for `score`.
          by: `"ranks"` for nats that `rank_log_prob` would gain.

        Returns:
          `[B, D]`; it takes D times the work of `score`.

        Raises:
          UserError: ranks of a model that has none.
        """
        self.check_scored_by(by)
        given = self._given(label, len(x))
        answers = self("explain", x=np.asarray(x, self.dtype), **given)
        if by == "ranks":
            return answers["rank_contribution"]
        return answers["contribution"]

    def sample(
        self,
        num_samples: int,
        *,
        seed: int,
        first: int = 0,
        temperature: float = 1.0,
        label: npt.ArrayLike | None = None,
    ) -> np.ndarray:
        """Samples in data units, unclipped; sample n of a seed is the same, to rounding, however
        many are drawn.

        Args:
          num_samples: how many, at least 1.
          seed: at least 0, below 2^31.
          first: number of the first.
          temperature: above 0; less than 1 stays nearer to the mode.
          label: as for `score`, the class of each sample.

        Returns:
          `[num_samples, *event_shape]`.
        """
        temperatures = np.full(num_samples, temperature, np.float32)
        seeds = _seeds(seed, first, num_samples)
        given = self._given(label, num_samples)
        return self("sample", seed=seeds, temperature=temperatures, **given)["x"]

    def fill(
        self,
        x: np.ndarray,
        *,
        seed: int = 0,
        first: int = 0,
        label: npt.ArrayLike | None = None,
    ) -> np.ndarray:
        """Missing values filled by ascent on the log-density (Dinh et al. 2014, section 5.2); of a
        table's categories and other columns of few values all are tried. A continuous column is
        filled with one of its spikes, such as zero, where all of them together are more probable
        than the rest of its values, given the others of the row.

        Args:
          x: `[B, *event_shape]` in data units, NaN where a value is missing.
          seed: of the noise of the export, if it has any.
          first: number of the first example, which sets its noise apart.
          label: as for `score`.

        Returns:
          As `x`; what was there is there to the bit.
        """
        x = np.asarray(x, self.dtype)
        observed = ~np.isnan(x)
        seeds = _seeds(seed, first, len(x))
        given = self._given(label, len(x))

        def climb(rows, known, numbers):
            return self._climbed(rows, known, seeds[numbers], _of_rows(given, numbers))

        def log_prob(rows, numbers):
            return self("log_prob", x=rows, **_of_rows(given, numbers))["log_prob"]

        filled = self._climbed(np.where(observed, x, 0), observed, seeds, given)
        if self.schema:
            filled = with_best_values(
                filled,
                observed,
                self.schema,
                log_prob=log_prob,
                climb=climb,
                nodes=lambda: self._nodes,
            )
        return np.where(observed, x, filled)

    @functools.cached_property
    def _nodes(self):
        """By place, where the density of each column with spikes is looked at beside these."""
        label = None
        if self.classes:
            label = np.resize(self.classes.names, _SAMPLES_FOR_NODES)
        samples = self.sample(_SAMPLES_FOR_NODES, seed=0, label=label)
        found: dict[int, np.ndarray] = {}
        if self.schema is None:
            return found
        for place, column in enumerate(self.schema.columns):
            if column.spikes:
                found[place] = nodes_of(column, samples[:, place])
        return found

    def _climbed(self, x, observed, seeds, given):
        mask = observed.astype(np.float32)
        filled = self("inpaint", x=x, mask=mask, seed=seeds, **given)["x"]
        if self.schema:  # what lies on the edge of the last bin is rounded out of it
            filled = np.clip(self.schema.rounded(filled), *self.schema.ends).astype(self.dtype)
        return np.where(observed, x, filled)


def _of_rows(inputs, numbers):
    """The part of inputs that belongs to some rows."""
    return {name: value[numbers] for name, value in inputs.items()}


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
    # An export of a flow that no run trained knows of no other examples.
    check_description(values, counts=("num_validation",))
    if not math.isfinite(values["usual_log_prob"]):
        raise ValueError(
            f"{server_lib.DESCRIPTION} has the usual_log_prob {values['usual_log_prob']}"
        )
    dtype = values.get("dtype", "float32")  # absent in exports of earlier versions
    if dtype not in ("float32", "float64"):
        raise ValueError(f"{server_lib.DESCRIPTION} has the dtype {dtype}")
    max_batch = values.get("max_batch", 1)  # absent without a cap
    if not _is_length(max_batch):
        raise ValueError(f"{server_lib.DESCRIPTION} has the max_batch {max_batch}")
    has_ranks = values.get("has_ranks", False)  # absent without them
    if not isinstance(has_ranks, bool):
        raise ValueError(f"{server_lib.DESCRIPTION} has the has_ranks {has_ranks}")
    resize = values.get("resize", [])
    if resize and (len(resize) != 2 or not all(map(_is_length, resize))):
        raise ValueError(f"{server_lib.DESCRIPTION} has the resize {resize}")


def _is_length(value):
    return isinstance(value, int) and value > 0
