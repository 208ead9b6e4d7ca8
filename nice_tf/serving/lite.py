"""One signature as a LiteRT model: converted from the SavedModel, checked against the flow."""

import contextlib
import json
import os
import pathlib
import re
import sys
import tempfile
import warnings
from collections.abc import Iterator

import numpy as np
import tensorflow as tf

from nice_tf.errors import UserError
from nice_tf.serving.saving import DEFAULT
from nice_tf.serving.server import DESCRIPTION
from nice_tf.serving.signatures import FlowServer
from nice_tf.serving.warmup import example_inputs

FILE = "model.tflite"  # where TensorFlow Serving looks with --prefer_tflite_model
SIGNATURES = ("log_prob", "encode", "decode")
_NOTE = "lite_difference"
_ROWS = 32  # of the model's own samples, for the check
_BOUND = 1e-4  # of a difference, by 1 + the largest value of the output
# Unusual rows are this many times as far from the mean: there an exponential may overflow.
_FAR = 100.0
_FAR_BOUND = 1e-3  # of a difference in an unusual row, by 1 + the value


def write_lite(directory: pathlib.Path, server: FlowServer, signature: str) -> float:
    """Writes the LiteRT model beside the SavedModel that it is made of.

    It has operators of LiteRT alone, inputs and outputs of the signature by name, and any number of
    rows. The checks of the signature are left out: LiteRT has no operator for them.

    Args:
      directory: of a SavedModel with this signature as `serving_default`.
      server: that was saved.
      signature: one of `SIGNATURES`.

    Returns:
      The largest difference of an output from that of the flow.

    Raises:
      UserError: an operator that LiteRT does not have, or answers that are not the flow's.
    """
    content = _with_names(_converted(directory, signature))
    inputs = example_inputs(server, _ROWS)[signature]
    largest = 0.0
    for name, (found, value) in _answers(content, server, signature, inputs).items():
        difference = float(np.max(np.abs(found - value)))
        bound = _BOUND * (1 + float(np.max(np.abs(value))))
        if not difference <= bound:  # nor NaN
            raise UserError(
                f"{name} in LiteRT differs from the flow's by {difference:.2g}, at most "
                f"{bound:.2g} is allowed: export {signature} without format='tflite'"
            )
        largest = max(largest, difference)
    _check_far(content, server, signature, inputs)
    (directory / FILE).write_bytes(content)
    _note(directory, largest)
    return largest


def _check_far(content, server, signature, inputs):
    """Compares rows far from all data, if the flow has an answer there."""
    far = {name: _far(value) for name, value in inputs.items()}
    try:
        answers = _answers(content, server, signature, far)
    except tf.errors.InvalidArgumentError:  # the flow overflows there
        return
    for name, (found, value) in answers.items():
        is_close = np.abs(found - value) <= _FAR_BOUND * (1 + np.abs(value))
        if np.all(is_close):
            continue
        worst = np.argmin(is_close)
        raise UserError(
            f"{name} in LiteRT is {found.flat[worst]:.6g} in an unusual row, the flow's is "
            f"{value.flat[worst]:.6g}: export {signature} without format='tflite'"
        )


def _far(value):
    """Rows of numbers away from their mean; labels as they are."""
    if value.dtype.kind != "f":
        return value
    mean = np.mean(value, axis=0)
    return (mean + _FAR * (value - mean)).astype(value.dtype)


def largest_difference(directory: pathlib.Path) -> float:
    """What `write_lite` found of a version."""
    return json.loads(_description(directory).read_text())[_NOTE]


def section(difference: float, *, has_labels: bool) -> str:
    """What the model card says of the LiteRT model.

    Args:
      difference: what `write_lite` found.
      has_labels: whether the signature takes a label.
    """
    unchecked = "of NaN"
    if has_labels:
        unchecked += " and of an unknown label"
    return (
        f"\n## LiteRT\n\n`{FILE}` is the same signature for LiteRT. On {_ROWS} of the model's own "
        f"samples it differs\nfrom the flow by {difference:.1e} at most. It checks no input: {unchecked} "
        "it makes the lowest number.\n"
    )


def _description(directory):
    return directory / "assets" / DESCRIPTION


def _note(directory, difference):
    path = _description(directory)
    values = json.loads(path.read_text())
    values[_NOTE] = difference
    path.write_text(json.dumps(values, indent=2) + "\n")


def _converted(directory, signature):
    converter = tf.lite.TFLiteConverter.from_saved_model(str(directory), signature_keys=[DEFAULT])
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    try:
        with _quiet():
            return converter.convert()
    except Exception as error:  # its class is not public
        lists = re.findall(r"^(?:TF Select|Flex|Custom) ops: (.+)$", str(error), re.MULTILINE)
        if not lists:
            raise
        names = sorted(set(", ".join(lists).split(", ")))
        raise UserError(
            f"{signature} cannot be converted to LiteRT, which has no operator "
            f"{', '.join(names)} of its types"
        ) from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Holds back what the converter's C++ library writes to standard error."""
    sys.stderr.flush()
    original = os.dup(2)
    try:
        with tempfile.TemporaryFile() as nowhere, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            os.dup2(nowhere.fileno(), 2)
            yield
    finally:
        os.dup2(original, 2)
        os.close(original)


def _with_names(content):
    """The model with the names of the signature for its tensors, by which TensorFlow Serving asks."""
    from tensorflow.lite.tools import flatbuffer_utils

    model = flatbuffer_utils.convert_bytearray_to_object(bytearray(content))
    (signature,) = model.signatureDefs
    tensors = model.subgraphs[signature.subgraphIndex].tensors
    for named in [*signature.inputs, *signature.outputs]:
        tensors[named.tensorIndex].name = named.name
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))


def _answers(content, server, signature, inputs):
    """By name what LiteRT and the flow answer."""
    expected = _answer(server.signatures()[signature], inputs)
    found = _lite_answer(content, inputs)
    # Step functions: compared at LiteRT's own log_prob.
    if "tail_probability" in expected:
        expected["tail_probability"] = server.tail_probability(found["log_prob"]).numpy()
    if "rank_tail_probability" in expected:
        of_ranks = server.rank_tail_probability(found["rank_log_prob"])
        expected["rank_tail_probability"] = of_ranks.numpy()
    return {name: (found[name], value) for name, value in expected.items()}


def _answer(signature, inputs):
    tensors = {name: tf.constant(value) for name, value in inputs.items()}
    return {name: value.numpy() for name, value in signature(**tensors).items()}


def _lite_answer(content, inputs):
    with _quiet():  # TensorFlow announces that its interpreter will be a package of its own
        interpreter = tf.lite.Interpreter(model_content=content)
        return interpreter.get_signature_runner(DEFAULT)(**inputs)
