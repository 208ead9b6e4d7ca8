"""The requests that warm a server up, written and replayed."""

import os
import pathlib

import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

from nice_tf.errors import UserError
from nice_tf.serving.signatures import FlowServer

MODEL_NAME = "nice"
WARMUP = pathlib.Path("assets.extra") / "tf_serving_warmup_requests"


def warmup_requests(server: FlowServer, num_rows: int = 2) -> list[predict_pb2.PredictRequest]:
    """One small request to every batchable signature, made of the model's own samples.

    Not to `sample_n`: a server with batching on refuses its scalars, and a refused warm-up request
    keeps it from starting.
    """
    seeds = np.stack([np.zeros(num_rows), np.arange(num_rows)], axis=-1).astype(np.int32)
    ones = np.ones(num_rows, np.float32)
    x = server.sample(tf.constant(seeds), tf.constant(ones))["x"].numpy()
    mask = np.ones_like(x, np.float32)
    mask.reshape(num_rows, -1)[:, ::2] = 0
    inputs = {
        "serving_default": {"x": x},
        "log_prob": {"x": x},
        "encode": {"x": x},
        "decode": {"z": server.encode(tf.constant(x))["z"].numpy()},
        "sample": {"seed": seeds, "temperature": ones},
        "inpaint": {"x": x, "mask": mask, "seed": seeds},
    }
    if "explain" in server.signatures():
        inputs["explain"] = {"x": x}
    requests = []
    for signature, values in inputs.items():
        request = predict_pb2.PredictRequest()
        request.model_spec.name = MODEL_NAME
        request.model_spec.signature_name = signature
        for name, value in values.items():
            request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
        requests.append(request)
    return requests


def write_warmup(directory: pathlib.Path, server: FlowServer, *, compile_single: bool) -> None:
    """Writes the requests where a server that loads this version looks for them.

    Args:
      directory: of the version.
      server: whose signatures they are for.
      compile_single: add those for one row, so that what is compiled for it is compiled before the
        first client asks.
    """
    path = directory / WARMUP
    path.parent.mkdir(exist_ok=True)
    with tf.io.TFRecordWriter(str(path)) as writer:
        requests = warmup_requests(server)
        if compile_single:
            requests = warmup_requests(server, 1) + requests
        for request in requests:
            log = prediction_log_pb2.PredictLog(request=request)
            writer.write(prediction_log_pb2.PredictionLog(predict_log=log).SerializeToString())


def replay_warmup(directory: str | os.PathLike) -> dict[str, dict[str, np.ndarray]]:
    """Loads a version and runs each warm-up request, as the server will when it starts.

    Returns:
      Signature name to its outputs.

    Raises:
      UserError: an answer that overflows float32.
    """
    signatures = tf.saved_model.load(str(directory)).signatures
    answers = {}
    for record in tf.data.TFRecordDataset(str(pathlib.Path(directory) / WARMUP)):
        request = prediction_log_pb2.PredictionLog.FromString(record.numpy()).predict_log.request
        name = request.model_spec.signature_name
        answers[name] = _answer(signatures[name], request)
        for value in answers[name].values():
            # The signatures cut what overflows at the largest number, see signatures._finite.
            if np.any(np.abs(value) >= np.finfo(np.float32).max):
                raise UserError(
                    f"signature {name} overflows float32 on the model's own samples: it cannot be "
                    "served"
                )
    return answers


def _answer(signature, request):
    inputs = {}
    for name, value in request.inputs.items():
        inputs[name] = tf.constant(tf.make_ndarray(value))
    outputs = {}
    for name, value in signature(**inputs).items():
        outputs[name] = value.numpy()
    return outputs
