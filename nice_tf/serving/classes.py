"""The classes of a conditional model as requests name them."""

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from nice_tf.errors import UserError
from nice_tf.serving.graph import require

_SHOWN = 20  # classes, in a refusal
_DRAWS = 7  # sets draws of classes apart from others of the same seed


@dataclasses.dataclass(frozen=True)
class Classes:
    """The classes that a flow's context stands for, one-hot.

    Attributes:
      names: in the order of the context, as text.
      frequencies: p(y) of each, `[C]`, above 0 and of sum 1.
      label: what they are classes of.
      counts: how many training examples each has, or how frequent it is in another unit.
    """

    names: tuple[str, ...]
    frequencies: np.ndarray
    label: str = "label"
    counts: tuple[float, ...] = ()

    @classmethod
    def from_description(cls, data: dict[str, Any]) -> "Classes | None":
        """Those that a description of data names, if it names any."""
        if "labels" not in data:
            return None
        labels = data["labels"]
        counts = np.asarray(labels["counts"], np.float64)
        shares = counts / counts.sum()
        return cls(tuple(labels["classes"]), shares, labels["name"], tuple(labels["counts"]))

    def as_dict(self) -> dict[str, Any]:
        """As a description of data keeps them, ready for JSON."""
        return {"name": self.label, "classes": list(self.names), "counts": list(self.counts)}

    def check(self) -> None:
        """Looks at names and frequencies.

        Raises:
          UserError: fewer than two classes, one twice, or frequencies that are none.
        """
        if len(set(self.names)) < max(2, len(self.names)):
            raise UserError(f"classes must be at least 2 different names, got {list(self.names)}")
        shares = np.asarray(self.frequencies)
        if shares.shape != (len(self.names),) or not np.all(shares > 0):
            raise UserError(
                f"frequencies must be above 0, one for each of {len(self.names)} classes, got "
                f"{shares.tolist()}"
            )

    @property
    def are_integers(self) -> bool:
        """Whether a request names them by whole numbers instead of text."""
        return all(_is_integer(name) for name in self.names)

    @property
    def spec(self) -> tf.TensorSpec:
        """Of the input `label`, `[B]`."""
        if self.are_integers:
            return tf.TensorSpec([None], tf.int64, "label")
        return tf.TensorSpec([None], tf.string, "label")

    @property
    def values(self) -> np.ndarray:
        """All classes in the dtype of the input, `[C]`."""
        if self.are_integers:
            return np.array([int(name) for name in self.names], np.int64)
        return np.array(self.names, object)

    def as_input(
        self, labels: npt.ArrayLike, num_rows: int, *, numbers: np.ndarray | None = None
    ) -> np.ndarray:
        """Labels as the signatures take them, `[num_rows]`.

        Args:
          labels: text or whole numbers, one for each row.
          num_rows: how many there must be.
          numbers: of the rows in the file that they are of, `[num_rows]`, for the message; `None`
            where there is none, to count from 0.

        Raises:
          UserError: another number of labels, or an unknown one.
        """
        texts = np.asarray(labels).astype(str)
        if texts.shape != (num_rows,):
            raise UserError(
                f"labels of {self.label} must be one for each of {num_rows} rows, got shape "
                f"{list(texts.shape)}"
            )
        known = np.isin(texts, self.names)
        if not known.all():
            place = int(np.argmin(known))
            row = place
            if numbers is not None:
                row = numbers[place]
            raise UserError(
                f"{self.label} {str(texts[place])!r} in row {row} (counted from 0) is no class of "
                f"the model, which has {self.shown}"
            )
        return texts.astype(self.values.dtype)

    @property
    def shown(self) -> str:
        """The classes in a line, not too many of them."""
        text = ", ".join(self.names[:_SHOWN])
        if len(self.names) > _SHOWN:
            text += f" and {len(self.names) - _SHOWN} more"
        return text

    def draw(self, number: int, *, seed: int) -> np.ndarray:
        """Classes as frequent as in train, `[number]`; draw n of a seed is always the same."""
        # A generator whose first numbers are the same however many are asked for.
        uniform = np.random.default_rng([seed, _DRAWS]).random(number)
        edges = np.cumsum(self.frequencies)[:-1]
        return self.values[np.searchsorted(edges, uniform, side="right")]

    def contexts(self, label: tf.Tensor, dtype: tf.DType) -> tf.Tensor:
        """Labels as one-hot contexts, `[B]` to `[B, C]`, or an InvalidArgument error."""
        is_class = tf.equal(label[:, tf.newaxis], tf.constant(self.values)[tf.newaxis])
        is_known = tf.reduce_all(tf.reduce_any(is_class, axis=1))
        rule = f"label must be one of {self.shown}"
        return require(tf.cast(is_class, dtype), is_known, rule)


def _is_integer(name):
    try:
        return str(int(name)) == name and abs(int(name)) < 2**63
    except ValueError:
        return False
