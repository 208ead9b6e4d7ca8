"""A finished run to a folder that TensorFlow Serving picks up as it is."""

import json
import os
import pathlib
from typing import Any

import numpy as np
import tensorflow as tf
from google.protobuf import text_format
from tensorflow_serving.apis import predict_pb2, prediction_log_pb2
from tensorflow_serving.config import model_server_config_pb2

from nice_tf.data import arrays
from nice_tf.data.schema import Schema
from nice_tf.errors import UserError, cause_of
from nice_tf.evaluation.likelihood import as_text
from nice_tf.files import sync_folder, sync_tree, temporary_folder, write_atomically
from nice_tf.runs.checkpoints import restore_best
from nice_tf.runs.workdir import Workdir
from nice_tf.serving.signatures import MAX_NUM_SAMPLES, FlowServer
from nice_tf.training.model import make_flow

MODEL_NAME = "nice"
_UNFINISHED = ".unfinished-"
DESCRIPTION = "data.json"  # among the assets of the SavedModel
WARMUP = pathlib.Path("assets.extra") / "tf_serving_warmup_requests"

BATCHING = """\
# Used only with --enable_batching. Requests are merged until a batch is full or the time is up.
max_batch_size { value: 256 }
batch_timeout_micros { value: 2000 }
max_enqueued_batches { value: 1000 }
num_batch_threads { value: 2 }
"""

MONITORING = """\
prometheus_config {
  enable: true
  path: "/monitoring/prometheus/metrics"
}
"""

COMPOSE_TEMPLATE = f"""\
# docker compose up: gRPC on 8500, REST on 8501.
services:
  serving:
    image: tensorflow/serving:2.20.0
    ports: ["8500:8500", "8501:8501"]
    volumes: [".:/models/{MODEL_NAME}:ro"]
    command:
      - --model_config_file=/models/{MODEL_NAME}/models.config
      - --model_config_file_poll_wait_seconds=60
      - --monitoring_config_file=/models/{MODEL_NAME}/monitoring.config
      # The default, four a core, lets a few waiting clients block all others on a small machine.
      - --grpc_max_threads=128
      # A model exported with --compile_single needs it.
      {{comment}}- --xla_cpu_compilation_enabled
      # On two cores, for requests of many rows: one core an operation, the model's branches fill both.
      # - --tensorflow_intra_op_parallelism=1
      # For many small requests; the scalar signature sample_n is then out of reach.
      # - --enable_batching
      # - --batching_parameters_file=/models/{MODEL_NAME}/batching_parameters.txt
"""


def export_saved_model(
    workdir: str | os.PathLike,
    export_dir: str | os.PathLike,
    *,
    inpaint_steps: int = 100,
    inpaint_noise: float = 0.0,
    compile_single: bool = False,
) -> pathlib.Path:
    """Writes the next version of a run's model, and the server's configuration beside it.

    The version is written under a temporary name, loaded again, tried with every warm-up request, and only then
    renamed to the next free integer: a server that watches the folder sees nothing or all of it.

    Args:
      workdir: a finished run of `train_and_evaluate`.
      export_dir: folder of the model; its versions are its integer subfolders.
      inpaint_steps: steps of the `inpaint` signature, at least 1.
      inpaint_noise: deviation of its noise, at least 0.
      compile_single: answer single examples through XLA, as `FlowServer` says.

    Returns:
      The folder of the version.

    Raises:
      UserError: an unfinished or diverged run, a folder that cannot be written, or a value out of bounds.
    """
    if inpaint_steps < 1:
        raise UserError(f"inpaint_steps must be at least 1, got {inpaint_steps}")
    if not 0 <= inpaint_noise < float("inf"):
        raise UserError(f"inpaint_noise must be finite and at least 0, got {inpaint_noise}")
    with Workdir(workdir).reading():
        server, description = load_server(
            workdir, inpaint_steps=inpaint_steps, inpaint_noise=inpaint_noise, compile_single=compile_single
        )
        card = _model_card(workdir, inpaint_steps, inpaint_noise)
    export_dir = pathlib.Path(export_dir)
    try:
        # A server looks at no folder whose name is not an integer; in the same one, renaming is a single step.
        with temporary_folder(export_dir, _UNFINISHED) as temporary:
            _save(server, description, temporary)
            (temporary / "MODEL_CARD.md").write_text(card)
            _write_warmup(temporary, server, compile_single)
            replay_warmup(temporary)
            for name, content in _server_files(compile_single).items():
                if not (export_dir / name).exists():  # what an operator has changed stays changed
                    write_atomically(export_dir / name, content.encode())
            sync_tree(temporary)
            version = _publish(temporary, export_dir)
            sync_folder(export_dir)
            return version
    except (OSError, tf.errors.OpError) as error:
        raise UserError(f"export to {export_dir} failed ({cause_of(error)}): nothing was exported") from error


def _save(server, description, directory):
    path = directory / DESCRIPTION
    path.write_text(json.dumps(description, indent=2) + "\n")
    server.description = tf.saved_model.Asset(str(path))
    tf.saved_model.save(server, str(directory), signatures=server.signatures())  # copies it to the assets
    path.unlink()


def load_server(
    workdir: str | os.PathLike, *, inpaint_steps: int = 100, inpaint_noise: float = 0.0, compile_single: bool = False
) -> tuple[FlowServer, dict[str, Any]]:
    """The signatures of a finished run, and what they are of.

    Args:
      workdir: as for `export_saved_model`.
      inpaint_steps: as there.
      inpaint_noise: as there.
      compile_single: as there.

    Returns:
      The server; and the description of the data as in `config.json`, with `usual_log_prob`, the mean log-likelihood of
      validation examples as the server gives them, the `dtype` of its x, and the run's `resize` of pictures.

    Raises:
      UserError: an unfinished or diverged run.
    """
    run = Workdir(workdir)
    with run.reading():
        config, data = run.read_config()
        config.check_is_unconditional(f"workdir {run.path}")
        evaluation = run.finished_evaluation()
        flow, epoch = restore_best(run, make_flow(config, data["event_shape"]), evaluation["epoch"])
        if not all(np.all(np.isfinite(variable.numpy())) for variable in flow.variables):
            raise UserError(f"workdir {run.path}: the weights of epoch {epoch} are not finite, the run diverged")
        validation_log_probs = _read_calibration(run.calibration)
    server = FlowServer(
        flow,
        levels=data["levels"],
        validation_log_probs=validation_log_probs,
        schema=Schema.from_dict(data["schema"]) if "schema" in data else None,
        inpaint_steps=inpaint_steps,
        inpaint_noise=inpaint_noise,
        compile_single=compile_single,
    )
    usual = float(np.mean(validation_log_probs))
    known = {"usual_log_prob": usual, "dtype": server.value_dtype.name, "resize": list(config.resize)}
    return server, {**data, **known}


def _read_calibration(path):
    try:
        values = arrays.read_array(path, str(path))
    except UserError as error:
        raise UserError(f"{path} is damaged: delete it and run the training command again ({error})") from error
    is_row = values.ndim == 1 and len(values) and values.dtype.kind == "f"
    if not is_row or not np.all(np.isfinite(values)) or np.any(np.diff(values) < 0):
        raise UserError(
            f"{path} is damaged: delete it and run the training command again (it holds shape {list(values.shape)} of "
            f"{values.dtype}; finite numbers in ascending order are needed)"
        )
    return values


def version_number(name: str) -> int | None:
    """The number of an export's version, from the name of its folder; `None` if it is none.

    As TensorFlow Serving reads it: decimal digits of ASCII, leading zeros allowed, that fit into 64 bits.
    """
    number = int(name) if name.isascii() and name.isdigit() else None
    return number if number is not None and number < 2**63 else None


def _publish(temporary, export_dir):
    """Renames to the next free integer; another export may take it first, then the next but one."""
    taken = [version_number(path.name) for path in export_dir.iterdir()]
    version = max((number for number in taken if number is not None), default=0) + 1
    while True:
        try:
            target = export_dir / str(version)
            os.rename(temporary, target)
            return target
        except OSError:
            if not target.exists():
                raise
            version += 1


def warmup_requests(server: FlowServer, num_rows: int = 2) -> list[predict_pb2.PredictRequest]:
    """One small request to every batchable signature, made of the model's own samples.

    Not to `sample_n`: a server with batching on refuses its scalars, and a refused warm-up request keeps it from
    starting.
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
        request.model_spec.name, request.model_spec.signature_name = MODEL_NAME, signature
        for name, value in values.items():
            request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
        requests.append(request)
    return requests


def _write_warmup(directory, server, compile_single):
    path = directory / WARMUP
    path.parent.mkdir(exist_ok=True)
    with tf.io.TFRecordWriter(str(path)) as writer:
        # What is compiled for a batch of one is compiled before the first client asks.
        for request in (warmup_requests(server, 1) if compile_single else []) + warmup_requests(server):
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
        inputs = {name: tf.constant(tf.make_ndarray(value)) for name, value in request.inputs.items()}
        name = request.model_spec.signature_name
        answers[name] = {key: value.numpy() for key, value in signatures[name](**inputs).items()}
        # The signatures cut what overflows at the largest number, see serving._finite.
        if any(np.any(np.abs(value) >= np.finfo(np.float32).max) for value in answers[name].values()):
            raise UserError(f"signature {name} overflows float32 on the model's own samples: it cannot be served")
    return answers


def _server_files(compile_single: bool) -> dict[str, str]:
    models = model_server_config_pb2.ModelServerConfig()
    models.model_config_list.config.add(name=MODEL_NAME, base_path=f"/models/{MODEL_NAME}", model_platform="tensorflow")
    return {
        "models.config": text_format.MessageToString(models),
        "batching_parameters.txt": BATCHING,
        "monitoring.config": MONITORING,
        "docker-compose.yml": COMPOSE_TEMPLATE.format(comment="" if compile_single else "# "),
    }


def _model_card(workdir: str | os.PathLike, inpaint_steps: int, inpaint_noise: float) -> str:
    run = Workdir(workdir)
    trained, data = run.read_config()
    config, evaluation = trained.as_dict(), run.finished_evaluation()
    unit = "floating-point numbers as they are; the density is in their own units"
    if data["levels"]:
        unit = (
            f"integers 0..{data['levels'] - 1}, taken at the centre of their bins,\n(x + 1/2) / {data['levels']}; the "
            "density is that of the result on [0, 1]^D"
        )
    if "schema" in data:
        schema = Schema.from_dict(data["schema"])
        unit = f"the columns {', '.join(schema.names)},\nin this order and in the table's own units, as the density is"
    noise = ""
    if evaluation["num_draws"] > 1:
        noise = (
            "The test figure averages over dequantization noise. The `log_prob` signature adds none. To reproduce the "
            "figure, add\nu - 1/2 to integer values, u from U[0, 1), times the column's step in a table.\n\n"
        )
    settings = "\n".join(f"| {name} | {value} |" for name, value in config.items())
    return f"""\
# Model card: NICE on {data["name"]}

An additive normalizing flow (Dinh, Krueger & Bengio 2014, arXiv 1410.8516) with {config["num_couplings"]} coupling
layers and a {config["prior"]} prior, exported by nice_tf.

## Data

{data["name"]}: {data["num_train"]} training, {data["num_validation"]} validation and {data["num_test"]} test examples
of shape {data["event_shape"]}. Values: {unit}.

## Likelihood

```
{as_text(evaluation)}
```

{noise}## Signatures

Every input is checked in the graph. `tail_probability` is the share of validation examples of lower `log_prob`.
`inpaint` makes {inpaint_steps} steps with noise {inpaint_noise}. `sample_n` gives at most {MAX_NUM_SAMPLES} samples a
request.

## Known limits

- A low likelihood is not the same as an anomaly: for images, pictures of another kind can score higher than the data.
- `log_prob` is a density, comparable between models of the same data and unit only.
- Values far outside the data's range give very low but finite likelihoods.
- Samples are not clipped to the range of the data.

## Settings

| setting | value |
|---|---|
{settings}
"""
