"""A finished run to a folder that TensorFlow Serving picks up as it is."""

import os
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import tensorflow as tf
import tensorflow_probability as tfp
from google.protobuf import text_format
from tensorflow_serving.config import model_server_config_pb2

from nice_tf import interrupts
from nice_tf.data.schema import Schema
from nice_tf.errors import UserError, cause_of, check_choice, check_count
from nice_tf.files import sync_folder, sync_tree, temporary_folder, write_atomically
from nice_tf.runs.workdir import Workdir
from nice_tf.serving import lite
from nice_tf.serving.model_card import model_card
from nice_tf.serving.own_flow import server_of_flow
from nice_tf.serving.saving import check_signature, save
from nice_tf.serving.server import load_server, version_number
from nice_tf.serving.warmup import MODEL_NAME, replay_warmup, write_warmup

tfd = tfp.distributions

FORMATS = ("saved_model", "tflite")
INPAINT_STEPS = 100
_UNFINISHED = ".unfinished-"
_COMPILED = ("log_prob", "sample")  # what `compile_single` is about

BATCHING = """\
# Used only with --enable_batching. Requests are merged until a batch is full or the time is up.
max_batch_size {{ value: {max_batch_size} }}
batch_timeout_micros {{ value: 2000 }}
max_enqueued_batches {{ value: 1000 }}
num_batch_threads {{ value: 2 }}
"""
_MAX_BATCH_SIZE = 256

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
      # The default, four per core, lets a few waiting clients block all others on a small machine.
      - --grpc_max_threads=128
      # A model exported with --compile_single needs it.
      {{comment}}- --xla_cpu_compilation_enabled
      # On two cores, for requests of many rows: one core per operation, the branches fill both.
      # - --tensorflow_intra_op_parallelism=1
      # For many small requests; the scalar signature sample_n is then out of reach.
      # - --enable_batching
      # - --batching_parameters_file=/models/{MODEL_NAME}/batching_parameters.txt
"""


def export_saved_model(
    workdir: str | os.PathLike,
    export_dir: str | os.PathLike,
    *,
    inpaint_steps: int = INPAINT_STEPS,
    inpaint_noise: float = 0.0,
    compile_single: bool = False,
    max_batch: int = 0,
    signature: str | None = None,
    format: str = "saved_model",
) -> pathlib.Path:
    """Writes the next version of a run's model, and the server's configuration beside it.

    The version is written under a temporary name, loaded again, tried with every warm-up request,
    and only then renamed to the next free integer: a server that watches the folder sees nothing or
    all of it.

    Args:
      workdir: a finished run of `train_and_evaluate`.
      export_dir: folder of the model; its versions are its integer subfolders.
      inpaint_steps: steps of the `inpaint` signature, at least 1.
      inpaint_noise: deviation of its noise, at least 0.
      compile_single: answer single examples through XLA, as `FlowServer` says.
      max_batch: rows of a request at most, as `FlowServer` says.
      signature: the one that is exported, as `serving_default`, for servers that take one for a
        model: `log_prob`, `encode`, `decode`, `sample`, `inpaint`, of a table `explain`, of a
        conditional model `classify`. `None` for all. `Model` and what is made of it need all.
      format: `tflite` writes `model.tflite` into the version, too: the one signature `log_prob`,
        `encode` or `decode` for LiteRT, of LiteRT's own operators, without the checks of its
        inputs. It is compared with the flow.

    Returns:
      The folder of the version.

    Raises:
      UserError: an unfinished or diverged run, a folder that cannot be written, a value out of
        bounds, or what LiteRT cannot do.
    """
    signature = _one_signature(signature, format)
    _check_settings(inpaint_steps, inpaint_noise, compile_single, signature)
    _check_format(format, signature, compile_single, max_batch)
    with Workdir(workdir).reading():
        server, description = load_server(
            workdir,
            inpaint_steps=inpaint_steps,
            inpaint_noise=inpaint_noise,
            compile_single=compile_single,
            max_batch=max_batch,
        )
        has_ranks = server.rank_tail_probability is not None
        card = model_card(workdir, inpaint_steps, inpaint_noise, signature, has_ranks=has_ranks)
    return _write_version(
        server,
        description,
        card,
        export_dir,
        compile_single=compile_single,
        signature=signature,
        format=format,
    )


def export_flow(
    flow: tfd.TransformedDistribution,
    export_dir: str | os.PathLike,
    *,
    validation: npt.ArrayLike,
    levels: int | None = None,
    schema: Schema | Mapping[str, float] | Sequence[str] | None = None,
    classes: Mapping[str, float] | None = None,
    labels: npt.ArrayLike | None = None,
    name: str = "a flow of one's own",
    inpaint_steps: int = INPAINT_STEPS,
    inpaint_noise: float = 0.0,
    compile_single: bool = False,
    max_batch: int = 0,
    signature: str | None = None,
    format: str = "saved_model",
) -> pathlib.Path:
    """Writes the next version of a flow that you built and trained yourself, as
    `export_saved_model` does for a run.

    `score_file`, `sample_file` and `Model` take what it writes, as they take the export of a run.

    Args:
      flow: trained; of `build_flow`, of `flow_from_layers`, or another that `layers` takes.
      export_dir: folder of the model; its versions are its integer subfolders.
      validation: examples that the flow was not trained on, `[N, *event_shape]` in data units: how
        usual an example is, `tail_probability`, is told by them.
      levels: number of integer levels, where the flow is of x on [0, 1]; 256 for uint8. `None` for
        continuous data.
      schema: of a table, by which it has `explain` and named columns: the names of its columns; or
        by name the distance of the values that a column can take, 1 for most integers, 0 for
        continuous ones; or a `nice_tf.data.schema.Schema`. Except with the last the lowest and the
        highest value of each column are those of `validation`: what `inpaint` fills in stays
        between them, and so do the rows of `sample_file` in columns with a step.
      classes: of a flow with a context, the classes that it stands for, one-hot: by name, in the
        order of the context, how frequent each is, in any unit.
      labels: of the validation examples, their classes by name, `[N]`, where there are classes.
      name: of the data, for the model card.
      inpaint_steps: steps of the `inpaint` signature, at least 1.
      inpaint_noise: deviation of its noise, at least 0.
      compile_single: answer single examples through XLA, as `FlowServer` says.
      max_batch: rows of a request at most, as `FlowServer` says.
      signature: the one that is exported, as `serving_default`, for servers that take one for a
        model: `log_prob`, `encode`, `decode`, `sample`, `inpaint`, of a table `explain`, of a
        conditional model `classify`. `None` for all. `Model` and what is made of it need all.
      format: `tflite` writes `model.tflite` into the version, too: the one signature `log_prob`,
        `encode` or `decode` for LiteRT, of LiteRT's own operators, without the checks of its
        inputs. It is compared with the flow.

    Returns:
      The folder of the version.

    Raises:
      UserError: a flow that cannot be served, examples that are not of its shape or units, a folder
        that cannot be written, a value out of bounds, or what LiteRT cannot do.
    """
    signature = _one_signature(signature, format)
    _check_settings(inpaint_steps, inpaint_noise, compile_single, signature)
    _check_format(format, signature, compile_single, max_batch)
    server, description, card = server_of_flow(
        flow,
        np.asarray(validation),
        levels=levels,
        schema=schema,
        classes=classes,
        labels=labels,
        name=name,
        inpaint_steps=inpaint_steps,
        inpaint_noise=inpaint_noise,
        compile_single=compile_single,
        max_batch=max_batch,
        signature=signature,
    )
    return _write_version(
        server,
        description,
        card,
        export_dir,
        compile_single=compile_single,
        signature=signature,
        format=format,
    )


def _one_signature(signature, format):
    """The only signature of the version; `None` where it has all."""
    if signature is None and format == "tflite":
        return lite.SIGNATURES[0]
    return signature


def _check_format(format, signature, compile_single, max_batch):
    check_choice("format", format, FORMATS)
    if format != "tflite":
        return
    if signature not in lite.SIGNATURES:
        raise UserError(
            f"format tflite is for the signatures {', '.join(lite.SIGNATURES)}, got {signature!r}"
        )
    if compile_single:
        raise UserError("compile_single is about XLA, which LiteRT does without: leave it out")
    if max_batch:
        raise UserError(
            f"max_batch is checked in the graph, LiteRT leaves checks out: it must be 0 with format "
            f"tflite, got {max_batch}"
        )


def _check_settings(inpaint_steps, inpaint_noise, compile_single, signature):
    check_count("inpaint_steps", inpaint_steps, 1)
    if not 0 <= inpaint_noise < float("inf"):
        raise UserError(f"inpaint_noise must be finite and at least 0, got {inpaint_noise}")
    if signature is None:
        return
    if compile_single and signature not in _COMPILED:
        raise UserError(
            f"compile_single is about {' and '.join(_COMPILED)}, but signature is {signature!r}"
        )
    is_default = inpaint_steps == INPAINT_STEPS and not inpaint_noise
    if signature != "inpaint" and not is_default:
        raise UserError(
            f"inpaint_steps and inpaint_noise are about inpaint, but signature is {signature!r}"
        )


def _write_version(server, description, card, export_dir, *, compile_single, signature, format):
    export_dir = pathlib.Path(export_dir)
    if signature is not None:
        check_signature(server, signature)
    try:
        # A server looks at no folder whose name is not an integer; in the same one, renaming is a
        # single step.
        with temporary_folder(export_dir, _UNFINISHED) as temporary:
            with interrupts.held_back():
                save(server, description, temporary, signature=signature)
            if format == "tflite":
                difference = lite.write_lite(temporary, server, signature)
                card += lite.section(difference, has_labels=bool(server.classes))
            (temporary / "MODEL_CARD.md").write_text(card)
            write_warmup(temporary, server, compile_single=compile_single, signature=signature)
            replay_warmup(temporary)
            _write_server_files(export_dir, compile_single, server.max_batch)
            sync_tree(temporary)
            version = _publish(temporary, export_dir)
            sync_folder(export_dir)
            return version
    except (OSError, tf.errors.OpError) as error:
        raise UserError(
            f"export to {export_dir} failed ({cause_of(error)}): nothing was exported"
        ) from error


def _publish(temporary, export_dir):
    """Renames to the next free integer; another export may take it first, then the next but one."""
    version = 1
    for path in export_dir.iterdir():
        taken = version_number(path.name)
        if taken is not None and taken >= version:
            version = taken + 1
    while True:
        target = export_dir / str(version)
        try:
            os.rename(temporary, target)
            return target
        except OSError:
            if not target.exists():
                raise
            version += 1


def _write_server_files(export_dir, compile_single, max_batch):
    for name, content in _server_files(compile_single, max_batch).items():
        # What an operator has changed stays changed.
        if not (export_dir / name).exists():
            write_atomically(export_dir / name, content.encode())


def _server_files(compile_single: bool, max_batch: int) -> dict[str, str]:
    comment = "# "
    if compile_single:
        comment = ""
    max_batch_size = _MAX_BATCH_SIZE
    if max_batch:
        # Requests that are each allowed must not be merged to one that is refused.
        max_batch_size = min(max_batch_size, max_batch)
    models = model_server_config_pb2.ModelServerConfig()
    models.model_config_list.config.add(
        name=MODEL_NAME, base_path=f"/models/{MODEL_NAME}", model_platform="tensorflow"
    )
    return {
        "models.config": text_format.MessageToString(models),
        "batching_parameters.txt": BATCHING.format(max_batch_size=max_batch_size),
        "monitoring.config": MONITORING,
        "docker-compose.yml": COMPOSE_TEMPLATE.format(comment=comment),
    }
