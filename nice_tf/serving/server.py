"""A finished run as what is served, and how an export is recognised."""

import os
from typing import Any

import numpy as np

from nice_tf.data import arrays
from nice_tf.data.schema import Schema
from nice_tf.errors import UserError
from nice_tf.runs.architecture import flow_of_description
from nice_tf.runs.checkpoints import restore_best
from nice_tf.runs.workdir import Workdir
from nice_tf.serving.checks import check_weights
from nice_tf.serving.classes import Classes
from nice_tf.serving.signatures import FlowServer

DESCRIPTION = "data.json"  # among the assets of the SavedModel


def load_server(
    workdir: str | os.PathLike,
    *,
    inpaint_steps: int = 100,
    inpaint_noise: float = 0.0,
    compile_single: bool = False,
    max_batch: int = 0,
) -> tuple[FlowServer, dict[str, Any]]:
    """The signatures of a finished run, and what they are of.

    Args:
      workdir: as for `export_saved_model`.
      inpaint_steps: as there.
      inpaint_noise: as there.
      compile_single: as there.
      max_batch: as there.

    Returns:
      The server; and the description of the data as in `config.json`, with `usual_log_prob`, the
      mean log-likelihood of validation examples as the server gives them, `tail_step`, the least
      difference of two `tail_probability`, the `dtype` of its x, `max_batch` where requests are
      capped, `has_ranks` where rows are scored by ranks, too, and the run's `resize` of pictures.

    Raises:
      UserError: an unfinished or diverged run.
    """
    run = Workdir(workdir)
    with run.reading():
        config, data = run.read_config()
        flow = _read_flow(run, config, data)
        validation_log_probs = _read_calibration(run.calibration)
        validation_rank_log_probs = None  # as of other data, and of runs of earlier versions
        if run.rank_calibration.exists():
            validation_rank_log_probs = _read_calibration(run.rank_calibration)
    schema = None
    if "schema" in data:
        schema = Schema.from_dict(data["schema"])
    server = FlowServer(
        flow,
        levels=data["levels"],
        validation_log_probs=validation_log_probs,
        validation_rank_log_probs=validation_rank_log_probs,
        schema=schema,
        classes=Classes.from_description(data),
        inpaint_steps=inpaint_steps,
        inpaint_noise=inpaint_noise,
        compile_single=compile_single,
        max_batch=max_batch,
    )
    known = known_of_server(server, validation_log_probs)
    return server, {**data, **known, "resize": list(config.resize)}


def known_of_server(server: FlowServer, validation_log_probs: np.ndarray) -> dict[str, Any]:
    """What a description says beside the data."""
    known: dict[str, Any] = {
        "usual_log_prob": float(np.mean(validation_log_probs)),
        "tail_step": 1 / len(validation_log_probs),
        "dtype": server.value_dtype.name,
    }
    if server.max_batch:
        known["max_batch"] = server.max_batch
    if server.rank_tail_probability is not None:
        known["has_ranks"] = True
    return known


def _read_flow(run, config, data):
    evaluation = run.finished_evaluation()
    flow = flow_of_description(config, data)
    flow, epoch = restore_best(run, flow, evaluation["epoch"])
    check_weights(flow, f"workdir {run.path}: the weights of epoch {epoch}")
    return flow


def _read_calibration(path):
    try:
        values = arrays.read_array(path, str(path))
    except UserError as error:
        raise UserError(
            f"{path} is damaged: delete it and run the training command again ({error})"
        ) from error
    is_row = values.ndim == 1 and len(values) and values.dtype.kind == "f"
    if not is_row or not np.all(np.isfinite(values)) or np.any(np.diff(values) < 0):
        raise UserError(
            f"{path} is damaged: delete it and run the training command again (it holds shape "
            f"{list(values.shape)} of {values.dtype}; finite numbers in ascending order are needed)"
        )
    return values


def version_number(name: str) -> int | None:
    """The number of an export's version, from the name of its folder; `None` if it is none.

    As TensorFlow Serving reads it: decimal digits of ASCII, leading zeros allowed, that fit into 64
    bits.
    """
    if not (name.isascii() and name.isdigit()):
        return None
    number = int(name)
    if number >= 2**63:
        return None
    return number
