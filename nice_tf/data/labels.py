"""What a density is conditioned on: the class of each example, checked, numbered, and as the
context of the flow.
"""

import dataclasses
import re
from typing import Any

import numpy as np
import tensorflow as tf

from nice_tf.errors import UserError
from nice_tf.seeds import stateless_seed

MAX_CLASSES = 1000  # each costs a pass through the flow for every example that is evaluated
_SHOWN = 20  # classes, in what is said of them


@dataclasses.dataclass(frozen=True)
class Labels:
    """The classes of all examples.

    Attributes:
      name: of the label.
      classes: in order; the number of a class is its place here.
      numbers: by split, the number of each example's class, `[N]` in int32.
    """

    name: str
    classes: tuple[str, ...]
    numbers: dict[str, np.ndarray]

    @property
    def counts(self) -> np.ndarray:
        """Number of examples of each class in train, `[C]`; none is 0."""
        return np.bincount(self.numbers["train"], minlength=len(self.classes))

    @property
    def frequencies(self) -> np.ndarray:
        """Share of each class in train, `[C]` in float64."""
        return self.counts / self.counts.sum()

    def as_dict(self) -> dict[str, Any]:
        """What `config.json` keeps, ready for JSON."""
        return {"name": self.name, "classes": list(self.classes), "counts": self.counts.tolist()}

    def one_hot(self, numbers: np.ndarray) -> np.ndarray:
        """Numbers of classes as contexts of the flow, `[n, C]` in float32."""
        return np.eye(len(self.classes), dtype=np.float32)[numbers]

    def draw(self, num_samples: int, *, seed: int) -> np.ndarray:
        """Numbers of classes as frequent as in train, `[num_samples]`."""
        logits = tf.math.log(self.frequencies)[tf.newaxis]
        of_draws = stateless_seed(seed, "sample_classes")
        drawn = tf.random.stateless_categorical(logits, num_samples, of_draws)
        return drawn[0].numpy()

    def names(self, numbers: np.ndarray) -> np.ndarray:
        """The classes of these numbers, by name."""
        return np.array(self.classes)[numbers]

    def describe(self) -> str:
        """One line on the classes, for the user."""
        each = [f"{name} ({n})" for name, n in zip(self.classes, self.counts, strict=True)]
        text = f"{len(each)} of {self.name}, with examples of train: {', '.join(each[:_SHOWN])}"
        if len(each) > _SHOWN:
            text += f" and {len(each) - _SHOWN} more"
        return text


def num_classes(description: dict[str, Any]) -> int:
    """C, the length of a flow's context, from what `config.json` keeps of the data; 0 for p(x)."""
    if "labels" in description:
        return len(description["labels"]["classes"])
    return 0


def check_labels(name: str, labels: np.ndarray, num_examples: int, what: str) -> None:
    """Looks at the labels of a source as they are, before they are split.

    Args:
      name: of the label.
      labels: one for each example.
      num_examples: how many there are.
      what: the examples, for the message.

    Raises:
      UserError: another number than one for each example, labels that are neither text nor whole
        numbers, or an empty one.
    """
    if labels.dtype.kind not in "biuU":
        raise UserError(
            f"condition_on {name}: labels of {what} have type {labels.dtype}: text or whole "
            "numbers are needed"
        )
    if labels.shape != (num_examples,):
        raise UserError(
            f"condition_on {name}: labels of {what} have shape {list(labels.shape)}: one for each "
            f"of the {num_examples} examples is needed"
        )
    if labels.dtype.kind != "U":
        return
    empty = np.flatnonzero(labels == "")
    if len(empty):
        raise UserError(
            f"condition_on {name}: {len(empty)} labels of {what} are missing, the first in example "
            f"{empty[0]} (counted from 0): give them, or leave these examples out"
        )


def number_classes(name: str, labels: dict[str, np.ndarray]) -> Labels:
    """Numbers the classes: in the order of numbers if all names are whole numbers, else of text.

    Args:
      name: of the label.
      labels: by split, of examples, checked by `check_labels`.

    Raises:
      UserError: one class only, too many, or one in another split that train lacks.
    """
    found = {}
    for split, values in labels.items():
        found[split] = np.unique(values.astype(str), return_inverse=True)
    classes = found["train"][0].tolist()
    _check_number(name, classes, len(labels["train"]))
    for split, (others, _) in found.items():
        unseen = sorted(set(others.tolist()) - set(classes))
        if unseen:
            raise UserError(
                f"condition_on {name}: {split} has examples of {', '.join(unseen[:8])}, of which "
                "train has none: leave them out, or split otherwise (split_seed, or examples in "
                "another order)"
            )
    if all(re.fullmatch(r"-?\d+", text) for text in classes):
        classes.sort(key=int)
    place = {text: number for number, text in enumerate(classes)}
    numbers = {}
    for split, (names, inverse) in found.items():
        places = np.array([place[text] for text in names.tolist()], np.int32)
        numbers[split] = places[inverse]
    return Labels(name, tuple(classes), numbers)


def _check_number(name, classes, num_train):
    """Refuses one class alone, or so many that they are no classes."""
    if len(classes) < 2:
        raise UserError(
            f"condition_on {name}: all {num_train} training examples are of the class "
            f"{classes[0]}: at least 2 classes are needed"
        )
    if len(classes) > min(MAX_CLASSES, num_train / 2):
        raise UserError(
            f"condition_on {name}: {len(classes)} classes in {num_train} training examples: at "
            f"most {MAX_CLASSES} are taken, and at most half as many as there are examples; values "
            "that are different almost everywhere are no classes"
        )
