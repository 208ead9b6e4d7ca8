"""The requests that warm a server up, written and replayed."""

import os
import pathlib
from collections.abc import Collection

import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

from nice_tf.errors import UserError
from nice_tf.serving.saving import DEFAULT
from nice_tf.serving.signatures import FlowServer

MODEL_NAME = "nice"
WARMUP = pathlib.Path("assets.extra") / "tf_serving_warmup_requests"


def example_inputs(server: FlowServer, num_rows: int) -> dict[str, dict[str, np.ndarray]]:
    """Inputs of every batchable signature by name, made of the model's own samples.

    They have fewer rows where requests are capped at fewer.
    """
    if server.max_batch:
        num_rows = min(num_rows, server.max_batch)
    seeds = np.stack([np.zeros(num_rows), np.arange(num_rows)], axis=-1).astype(np.int32)
    ones = np.ones(num_rows, np.float32)
    given = {}
    if server.classes:
        # The classes in turn.
        given["label"] = np.resize(server.classes.values, num_rows)
    drawn = {"seed": seeds, "temperature": ones, **given}
    x = _tensors(server.sample, drawn)["x"].numpy()
    mask = np.ones_like(x, np.float32)
    mask.reshape(num_rows, -1)[:, ::2] = 0
    z = _tensors(server.encode, {"x": x, **given})["z"].numpy()
    inputs = {
        DEFAULT: {"x": x, **given},
        "log_prob": {"x": x, **given},
        "encode": {"x": x, **given},
        "decode": {"z": z, **given},
        "sample": drawn,
        "inpaint": {"x": x, "mask": mask, "seed": seeds, **given},
    }
    if "explain" in server.signatures():
        inputs["explain"] = {"x": x, **given}
    if "classify" in server.signatures():
        inputs["classify"] = {"x": x}
    return inputs


def warmup_requests(
    server: FlowServer, num_rows: int = 2, *, signature: str | None = None
) -> list[predict_pb2.PredictRequest]:
    """One small request to every batchable signature; to one of them alone, as `serving_default`,
    where it is the only one that is exported.

    Not to `sample_n`: a server with batching on refuses its scalars, and a refused warm-up request
    keeps it from starting.
    """
    inputs = example_inputs(server, num_rows)
    if signature:
        inputs = {DEFAULT: inputs[signature]}
    requests = []
    for asked, values in inputs.items():
        request = predict_pb2.PredictRequest()
        request.model_spec.name = MODEL_NAME
        request.model_spec.signature_name = asked
        for name, value in values.items():
            request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
        requests.append(request)
    return requests


def _tensors(signature, values):
    """The answer of a signature to arrays."""
    return signature(**{name: tf.constant(value) for name, value in values.items()})


def write_warmup(
    directory: pathlib.Path,
    server: FlowServer,
    *,
    compile_single: bool,
    signature: str | None = None,
) -> None:
    """Writes the requests where a server that loads this version looks for them.

    Args:
      directory: of the version.
      server: whose signatures they are for.
      compile_single: add those for one row, so that what is compiled for it is compiled before the
        first client asks.
      signature: the only one that is exported; `None` for all.
    """
    path = directory / WARMUP
    path.parent.mkdir(exist_ok=True)
    with tf.io.TFRecordWriter(str(path)) as writer:
        requests = warmup_requests(server, signature=signature)
        if compile_single:
            requests = warmup_requests(server, 1, signature=signature) + requests
        for request in requests:
            log = prediction_log_pb2.PredictLog(request=request)
            writer.write(prediction_log_pb2.PredictionLog(predict_log=log).SerializeToString())


def replay_warmup(
    directory: str | os.PathLike, only: Collection[str] | None = None
) -> dict[str, dict[str, np.ndarray]]:
    """Loads a version and runs each warm-up request, as the server will when it starts.

    Args:
      directory: the version's.
      only: names of the signatures to run; `None` for all.

    Returns:
      Signature name to its outputs.

    Raises:
      UserError: an answer that overflows float32.
    """
    signatures = tf.saved_model.load(str(directory)).signatures
    answers = {}
    overflowing = []
    for record in tf.data.TFRecordDataset(str(pathlib.Path(directory) / WARMUP)):
        request = prediction_log_pb2.PredictionLog.FromString(record.numpy()).predict_log.request
        name = request.model_spec.signature_name
        if only is not None and name not in only:
            continue
        answers[name] = _answer(signatures[name], request)
        if not _is_finite(answers[name]) and name not in overflowing:
            overflowing.append(name)
    if overflowing:
        fine = [name for name in answers if name not in overflowing]
        raise UserError(
            f"signature {', '.join(overflowing)} overflows float32 on the model's own samples: it "
            f"cannot be served; finite are the answers of {', '.join(fine) or 'none'}"
        )
    return answers


def _is_finite(answer):
    """Whether no number of an answer overflows."""
    for value in answer.values():
        if value.dtype.kind != "f":  # a label
            continue
        # The signatures cut what overflows at the largest number, see graph.finite.
        if not np.all(np.abs(value) < np.finfo(np.float32).max):
            return False
    return True


def _answer(signature, request):
    inputs = {}
    for name, value in request.inputs.items():
        inputs[name] = tf.constant(tf.make_ndarray(value))
    outputs = {}
    for name, value in signature(**inputs).items():
        outputs[name] = value.numpy()
    return outputs
