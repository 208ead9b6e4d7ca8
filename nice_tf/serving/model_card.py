"""The page that goes with an exported model."""

import os
from typing import Any

import numpy as np
import tensorflow_probability as tfp

from nice_tf.data.schema import Schema
from nice_tf.drawing import is_image
from nice_tf.evaluation.ledger import as_text
from nice_tf.flows.density import layers
from nice_tf.flows.marginals import has_marginals
from nice_tf.flows.summary import summary
from nice_tf.runs.workdir import Workdir
from nice_tf.serving.classes import Classes
from nice_tf.serving.signatures import MAX_NUM_SAMPLES

tfd = tfp.distributions


def model_card(
    workdir: str | os.PathLike,
    inpaint_steps: int,
    inpaint_noise: float,
    signature: str | None = None,
    *,
    has_ranks: bool = False,
) -> str:
    """The page in Markdown: data and unit, likelihood, signatures, known limits, settings.

    Args:
      workdir: of a finished run.
      inpaint_steps: of the `inpaint` signature.
      inpaint_noise: of the `inpaint` signature.
      signature: the only one that is exported; `None` for all.
      has_ranks: whether rows are scored by ranks, too.
    """
    run = Workdir(workdir)
    trained, data = run.read_config()
    config = trained.as_dict()
    evaluation = run.finished_evaluation()
    noise = ""
    if evaluation["num_draws"] > 1:
        noise = (
            "The figure averages over dequantization noise. The `log_prob` signature adds "
            "none. To reproduce the figure, add\nu - 1/2 to integer values, u from U[0, 1), times "
            "the column's step in a table.\n\n"
        )
    num_test = data["num_test"]
    if trained.test_rows == "validation":
        num_test = "no"
    settings = "\n".join(f"| {name} | {value} |" for name, value in config.items())
    parts = f"{data['num_train']} training, {data['num_validation']} validation and {num_test} test"
    return _page(
        data,
        made=f"with {config['num_couplings']} coupling\nlayers and a {trained.prior_text}, exported",
        examples=parts,
        likelihood=f"```\n{as_text(evaluation)}\n```\n\n{noise}",
        signature=signature,
        signatures=_signatures(inpaint_steps, inpaint_noise, signature, has_ranks),
        has_marginals=trained.marginals != "none",
        is_imputed=trained.impute,
        rest=f"## Settings\n\n| setting | value |\n|---|---|\n{settings}\n",
    )


def card_of_flow(
    flow: tfd.TransformedDistribution,
    data: dict[str, Any],
    *,
    usual_log_prob: float,
    error: float,
    inpaint_steps: int,
    inpaint_noise: float,
    signature: str | None,
    has_ranks: bool,
) -> str:
    """The page of a flow that no run trained.

    Args:
      flow: as it is served.
      data: its description.
      usual_log_prob: the mean of validation examples, in nats.
      error: its standard error.
      inpaint_steps: of the `inpaint` signature.
      inpaint_noise: of the `inpaint` signature.
      signature: the only one that is exported; `None` for all.
      has_ranks: whether rows are scored by ranks, too.
    """
    given = ""
    if "labels" in data:
        given = ", each given its class"
    likelihood = (
        f"The mean `log_prob` of the {data['num_validation']} validation examples is "
        f"{usual_log_prob:.2f} +- {error:.2f} nats{given}, without noise.\n\n"
    )
    return _page(
        data,
        made=f"of {len(layers(flow))} layers and the prior {flow.distribution.name}, exported",
        examples=f"{data['num_validation']} validation",
        likelihood=likelihood,
        signature=signature,
        signatures=_signatures(inpaint_steps, inpaint_noise, signature, has_ranks),
        has_marginals=has_marginals(flow),
        is_imputed=False,
        rest=f"## Layers\n\n```\n{summary(flow)}\n```\n",
    )


def _page(
    data, *, made, examples, likelihood, signature, signatures, has_marginals, is_imputed, rest
):
    limits = "\n".join(f"- {limit}" for limit in _limits(data, has_marginals, is_imputed))
    return f"""\
# Model card: NICE on {data["name"]}

An additive normalizing flow (Dinh, Krueger & Bengio 2014, arXiv 1410.8516) {made} by nice_tf.

## Data

{data["name"]}: {examples} examples
of shape {data["event_shape"]}. Values: {_unit(data)}.
{_classes(data, signature)}{_columns(data)}
## Likelihood

{likelihood}## Signatures

Every input is checked in the graph.
{signatures}

## Known limits

{limits}

{rest}"""


def _limits(data, has_marginals, is_imputed):
    """What a user of the model must not expect, a sentence or two each."""
    limits = ["A low likelihood is not the same as an anomaly."]
    if is_image(data["event_shape"]) and "schema" not in data:
        limits[0] += " Pictures of another kind can score higher than the data."
    limits.append(
        "`log_prob` is a density, comparable between models of the same data and unit only."
    )
    limits.append("Values far outside the data's range give very low but finite likelihoods.")
    if not has_marginals:
        limits.append("Samples are not clipped to the range of the data.")
    elif "schema" not in data:
        limits.append("A rare sample lies outside the range of the data.")
    if "schema" in data:
        limits.append(
            "Samples of a signature are not rounded to the steps of their columns, and a rare one "
            "lies outside their\n  ranges. `nice-tf sample` rounds and keeps to the ranges of columns "
            "with steps."
        )
        limits.append("Signatures refuse missing values; `inpaint` fills what its mask hides.")
    if is_imputed:
        limits.append(
            "Missing values of the training rows were filled with others of their column, drawn at "
            "random: how columns\n  with many of them depend on others is understated."
        )
    return limits


def _signatures(inpaint_steps, inpaint_noise, signature, has_ranks):
    """What is to be known of the signatures that are exported."""
    lines = []
    if signature:
        lines.append(f"`serving_default`, the only one, is `{signature}`.")
    if signature in (None, "log_prob"):
        lines.append("`tail_probability` is the share of validation examples of lower `log_prob`.")
    if signature in (None, "log_prob") and has_ranks:
        lines.append(
            "`rank_log_prob` is the log-density of a row's quantile scores, in nats;\n"
            "`rank_tail_probability` is its share as `tail_probability` is that of `log_prob`."
        )
    if signature in (None, "explain") and has_ranks:
        lines.append(
            "`rank_contribution` is to `rank_log_prob` what `contribution` is to `log_prob`."
        )
    if signature in (None, "inpaint"):
        lines.append(f"`inpaint` makes {inpaint_steps} steps with noise {inpaint_noise}.")
    if signature is None:
        lines.append(f"`sample_n` gives at most {MAX_NUM_SAMPLES} samples per request.")
    return "\n".join(lines)


def _classes(data, signature):
    """The classes of a conditional model, if it is one."""
    found = Classes.from_description(data)
    if found is None:
        return ""
    kind = "text"
    if found.are_integers:
        kind = "int64"
    shares = []
    for name, share in zip(found.names, found.frequencies, strict=True):
        shares.append(f"{_cell(name)} ({100 * share:.2g} %)")
    asked = f"the input `label` ({kind}) of every signature but `classify`"
    if signature == "classify":
        asked = "which is found"
    return f"\nThe density is given {found.label}, {asked}: {', '.join(shares)}.\n"


def _columns(data):
    """What a table's columns are, and what the numbers of some stand for."""
    if "schema" not in data:
        return ""
    rows = []
    for column in Schema.from_dict(data["schema"]).columns:
        rows.append(f"| {_cell(column.name)} | {column.encoding.kind} | {_meaning(column)} |")
    lines = ["", "| column | kind | its numbers |", "|---|---|---|", *rows, ""]
    return "\n".join(lines)


def _meaning(column):
    encoding = column.encoding
    if encoding.kind == "boolean":
        return "0: false, 1: true"
    if encoding.categories:
        named = [f"{code}: {_cell(text)}" for code, text in enumerate(encoding.categories)]
        return f"{', '.join(named)}; {len(named)}: any other"
    steps = "continuous"
    if column.step:
        steps = f"in steps of {column.step:g}"
    if column.spikes:
        steps += f", often exactly {', '.join(f'{spike:g}' for spike in column.spikes)}"
    if encoding.kind == "number":
        return f"{column.low:g} to {column.high:g}, {steps}"
    # pyarrow is imported for a table alone: other exports need not wait for it.
    from nice_tf.data.tables.encodings import decoded_values, ticks_a_day
    from nice_tf.data.tables.types import type_of

    (origin,) = decoded_values(np.zeros(1), encoding).cast("string").to_pylist()
    unit = "second"
    if encoding.ticks == ticks_a_day(type_of(encoding.type)):
        unit = "day"
    return f"0: {origin}, 1 is a {unit}; {steps}"


def _cell(text):
    return text.replace("|", "\\|").replace("\n", " ")


def _unit(data):
    if "schema" in data:
        names = ", ".join(Schema.from_dict(data["schema"]).names)
        return (
            f"the columns {names},\nin this order and in the table's own units, as the density is"
        )
    if data["levels"]:
        return (
            f"integers 0..{data['levels'] - 1}, taken at the centre of their bins,\n(x + 1/2) / "
            f"{data['levels']}; the density is that of the result on [0, 1]^D"
        )
    return "floating-point numbers as they are; the density is in their own units"
