"""The examples of arrays that a model is asked about, block by block in order."""

import contextlib
import os
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from nice_tf.data import arrays, pictures, tfrecord
from nice_tf.data.labels import check_labels
from nice_tf.data.rows import Rows, chunks, rebatched
from nice_tf.errors import UserError
from nice_tf.scoring.blocks import Block, check_finite, check_holds


class ArrayInput:
    """The examples of an array in files.

    Attributes:
      files: paths, in order.
      warnings: what the user should know of the files, one line each.
    """

    warnings: Sequence[str] = ()

    def __init__(
        self,
        name: str,
        event_shape: Sequence[int],
        levels: int | None,
        resize: Sequence[int] = (),
        dtype: npt.DTypeLike = np.float64,
        *,
        label: str = "",
    ):
        """Looks for the files.

        Args:
          name: a `.npy` file; a `.npz` file with one array; TFRecord files, as file, folder or
            pattern; a folder of PNG or JPEG pictures of the model's size, or of any where those of
            training were resized.
          event_shape: shape of an example.
          levels: number of integer levels of the data; `None` for continuous data.
          resize: height and width that pictures are brought to, if any, as in training.
          dtype: the type in which the model takes values, which bounds them.
          label: for a conditional model, the name of the array of a `.npz` file that has the class
            of each example, beside the examples.

        Raises:
          UserError: no such file; a file that has no labels, where they are needed.
        """
        below: list[str] = []  # files of a folder of pictures
        self.files = [name]
        if not os.path.isfile(name):
            self.files = tfrecord.tfrecord_files(name)
        if not self.files:
            below = pictures.files_below(name)
            self.files = list(filter(pictures.is_picture, below))
        if not self.files:
            raise UserError(
                f"input {name}: there is no such file, and no TFRecord file or picture of that "
                "folder or pattern"
            )
        self._name = name
        self._what = f"input {name}"
        self._event_shape = list(event_shape)
        self._levels = levels
        self._resize = resize
        self._dtype = np.dtype(dtype)
        self._labels = None
        if label:
            self._labels = _labels(name, label)
        self._label = label
        self._are_pictures = all(map(pictures.is_picture, self.files))
        if self._are_pictures:
            self.warnings = pictures.left_out(name, below)
        else:
            self.warnings = tfrecord.left_out(name)

    def check_output(self, output: str) -> None:
        """Any output can hold what is kept of arrays and pictures."""

    @property
    def num_rows(self) -> int | None:
        """Number of examples, where the files tell before they are read."""
        if self._are_pictures:
            return len(self.files)
        if not self._name.lower().endswith(".npy"):
            return None
        with contextlib.suppress(UserError):  # `blocks` says what is wrong
            shape = arrays.read_header(self._name, self._name).shape
            if shape:
                return shape[0]
        return None

    def blocks(self, size: int, first: int = 0) -> Iterator[Block]:
        """The examples from number `first` on, `size` at a time; the last block may have fewer.

        Raises:
          UserError: examples of another shape, or with values that the model knows nothing of; an
            infinite value, or one beyond the model's type, named by its row.
        """
        examples = _without(self._examples(), first)
        for values in rebatched(map(self._checked, examples), size):
            flat = values.reshape(len(values), -1)
            check_finite(flat, None, self._what, first)
            self._check_range(values)
            check_holds(self._dtype, flat, None, self._what, first)
            labels = None
            if self._labels is not None:
                labels = self._labels[first : first + len(values)]
            kept = self._names(first, len(values))
            yield Block(first, values, kept=kept, labels=labels)
            first += len(values)

    def _examples(self):
        """Arrays `[n, *event_shape]` in order, some megabytes each. What else is to be read is a
        line here.
        """
        if self._name.lower().endswith(".npy"):
            return chunks(_npy_rows(self._name))
        if self._name.lower().endswith(".npz"):
            return iter([_only_array(self._name, self._label)])
        if self._are_pictures:
            like = pictures.first(self.files, self._resize, skip_bad=False)
            return pictures.examples(self.files, self._resize, like)
        return tfrecord.examples(self.files)

    def _names(self, first, number):
        """Which pictures they are, if each is a file, by their paths in the folder."""
        if not self._are_pictures:
            return {}
        folder = self._name
        if not os.path.isdir(folder):
            folder = os.path.dirname(folder)
        files = self.files[first : first + number]
        return {"file": pa.array([os.path.relpath(file, folder) for file in files])}

    def _checked(self, values):
        if list(values.shape[1:]) != self._event_shape:
            raise UserError(
                f"{self._what} has examples of shape {list(values.shape[1:])}, the model is "
                f"of shape {self._event_shape}"
            )
        return values

    def _check_range(self, values):
        if not self._levels:
            return
        present = ~np.isnan(values)
        low = np.min(values, where=present, initial=0)
        high = np.max(values, where=present, initial=0)
        if low < -0.5 or high > self._levels - 0.5:
            raise UserError(
                f"{self._what} has values from {low} to {high}: the model is of integers "
                f"0..{self._levels - 1}"
            )


def _without(examples, number):
    """Arrays of examples except the first ones."""
    for values in examples:
        if len(values) > number:
            yield values[number:]
        number = max(0, number - len(values))


def _npy_rows(name):
    what = f"input {name}"
    header = arrays.read_header(name, what)
    _check_type(header.dtype, what)
    _check_has_examples(header.shape, what)
    if header.lies_in_rows:
        return Rows(name)
    return arrays.map_array(name, what)


def _labels(name, label):
    """The classes of all examples, as text."""
    what = f"input {name}"
    content = {}
    if name.lower().endswith(".npz"):
        content = arrays.read_archive(name, what)
    if label not in content:
        raise UserError(
            f"{what} has no labels, and the model is of p(x | {label}): give a .npz file with the "
            f"examples and an array {label} of their classes"
        )
    values = content.pop(label)
    for examples in content.values():
        check_labels(label, values, len(examples), "the examples")
    return values.astype(str)


def _only_array(name, label):
    what = f"input {name}"
    content = arrays.read_archive(name, what)
    content.pop(label, None)
    if len(content) != 1:
        raise UserError(
            f"{what} holds the arrays {', '.join(content) or '(none)'}: one array is needed"
        )
    (values,) = content.values()
    _check_type(values.dtype, what)
    _check_has_examples(values.shape, what)
    return values


def _check_type(dtype, what):
    if dtype.kind not in "uif":
        raise UserError(f"{what} cannot be read as a NumPy file of numbers: it is of type {dtype}")


def _check_has_examples(shape, what):
    if not shape:
        raise UserError(f"{what} holds a single value: examples are needed")
