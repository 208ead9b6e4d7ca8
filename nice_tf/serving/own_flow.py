"""A flow that no run trained, as what is served: its server, its description, its card."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow_probability as tfp

from nice_tf.config import Config
from nice_tf.data.checks import check_values, find_levels
from nice_tf.data.labels import Labels
from nice_tf.data.schema import Column, Schema
from nice_tf.errors import UserError
from nice_tf.evaluation.calibration import calibration
from nice_tf.evaluation.metrics import standard_error
from nice_tf.serving.checks import check_answers, check_flow, check_units, check_weights
from nice_tf.serving.classes import Classes
from nice_tf.serving.model_card import card_of_flow
from nice_tf.serving.server import known_of_server
from nice_tf.serving.signatures import FlowServer

tfd = tfp.distributions


def server_of_flow(
    flow: tfd.TransformedDistribution,
    validation: np.ndarray,
    *,
    levels: int | None,
    schema: Schema | Mapping[str, float] | Sequence[str] | None,
    classes: Mapping[str, float] | None,
    labels: npt.ArrayLike | None,
    name: str,
    inpaint_steps: int,
    inpaint_noise: float,
    compile_single: bool,
    max_batch: int,
    signature: str | None,
) -> tuple[FlowServer, dict[str, Any], str]:
    """The signatures of a flow, the description that goes among its assets, and its model card.

    Arguments and errors are those of `export_flow`.
    """
    check_flow(flow)
    check_weights(flow, "the variables of the flow")
    check_values(validation, "validation")
    if list(validation.shape[1:]) != list(flow.event_shape):
        raise UserError(
            f"validation has examples of shape {list(validation.shape[1:])}, the flow is of shape "
            f"{list(flow.event_shape)}"
        )
    columns = None
    if schema is None:
        levels = find_levels({"examples": validation}, levels, "validation")
    else:
        columns = _schema(schema, validation)
        check_units(flow, levels, columns)
    found = _classes(classes)
    of_validation = _labels(found, labels, len(validation))
    check_answers(flow, found)
    usual, usual_ranks = calibration(
        flow,
        validation,
        levels=levels,
        config=Config(),
        schema=columns,
        labels=of_validation,
    )
    server = FlowServer(
        flow,
        levels=levels,
        validation_log_probs=usual,
        validation_rank_log_probs=usual_ranks,
        schema=columns,
        classes=found,
        inpaint_steps=inpaint_steps,
        inpaint_noise=inpaint_noise,
        compile_single=compile_single,
        max_batch=max_batch,
    )
    data: dict[str, Any] = {
        "name": name,
        "event_shape": list(flow.event_shape),
        "levels": levels,
        "num_validation": len(validation),
    }
    if columns:
        data["schema"] = columns.as_dict()
    if found:
        data["labels"] = found.as_dict()
    card = card_of_flow(
        flow,
        data,
        usual_log_prob=float(np.mean(usual)),
        error=standard_error(usual),
        inpaint_steps=inpaint_steps,
        inpaint_noise=inpaint_noise,
        signature=signature,
        has_ranks=usual_ranks is not None,
    )
    return server, {**data, **known_of_server(server, usual)}, card


def _schema(given, validation):
    """What was given of columns as a schema, its ranges those of the validation examples."""
    if isinstance(given, Schema):
        return given
    if isinstance(given, str):
        raise UserError(f"schema must be names of columns, got the text {given!r}")
    steps = given
    if not isinstance(given, Mapping):
        steps = dict.fromkeys(given, 0.0)
    values = np.reshape(validation, [len(validation), -1])
    if len(steps) != values.shape[1]:
        raise UserError(
            f"schema must have a different name for each of the {values.shape[1]} columns, got "
            f"{list(given)}"
        )
    columns = []
    for place, (name, step) in enumerate(steps.items()):
        is_step = isinstance(step, int | float | np.number) and 0 <= step < np.inf
        if not (isinstance(name, str) and is_step):
            raise UserError(
                f"schema must have numbers as steps of at least 0 by name, got {name!r}: {step!r}"
            )
        low = float(values[:, place].min())
        high = float(values[:, place].max())
        columns.append(Column(name, float(step), low, high))
    return Schema(tuple(columns))


def _classes(given):
    if given is None:
        return None
    if not isinstance(given, Mapping):
        raise UserError(
            "classes must say how frequent each is by its name, as {'cat': 0.4, 'dog': 0.6}, got "
            f"{given!r}"
        )
    for count in given.values():
        if not (isinstance(count, int | float | np.number) and 0 < count < np.inf):
            raise UserError(
                f"how frequent each of classes is, a number, must be above 0, got {count!r}"
            )
    counts = np.array(list(given.values()), np.float64)
    names = tuple(str(name) for name in given)
    found = Classes(names, counts / counts.sum(), counts=tuple(counts.tolist()))
    found.check()
    return found


def _labels(classes, labels, num_examples):
    """The labels of the validation examples, as `calibration` takes them."""
    if (classes is None) != (labels is None):
        raise UserError(
            "classes and labels go together: a flow with a context needs both, another neither"
        )
    if classes is None:
        return None
    found = np.asarray(labels).astype(str)
    if found.shape != (num_examples,):
        raise UserError(
            f"labels have shape {list(found.shape)}: one for each of the {num_examples} validation "
            "examples is needed"
        )
    place = {name: number for number, name in enumerate(classes.names)}
    unknown = sorted(set(found.tolist()) - set(place))
    if unknown:
        raise UserError(f"labels have {', '.join(unknown[:8])}, which classes has not")
    places = np.array([place[name] for name in found.tolist()], np.int32)
    # Train, of which the frequencies are counted, is not here: one of each would do, as p(x | y)
    # does not ask for them.
    of_each = np.arange(len(place), dtype=np.int32)
    return Labels("label", classes.names, {"train": of_each, "validation": places})
