"""What the commands print of a run: before its first step, and when it is evaluated."""

import dataclasses
import shlex
import sys

from nice_tf.cli.messages import with_dashes
from nice_tf.config import Config
from nice_tf.evaluation import ledger
from nice_tf.training.run import RunResult, RunStart


def verbosity() -> int:
    """How epochs are shown: a line each, and on a terminal a moving bar beside."""
    if sys.stdout.isatty():
        return 1
    return 2


def print_start(start: RunStart) -> None:
    """Data, model, device, precision and folder of a run, and what is to be known of them."""
    data = start.data
    config = start.config
    lines = [
        f"data       {data.name}: {len(data.train)} train, {len(data.validation)} validation, "
        f"{data.num_held_out} test examples of shape {data.event_shape}, {_scale(data)}",
        f"model      {config.num_couplings} additive couplings, {config.prior_text}, "
        f"{start.num_parameters:,} parameters",
        f"device     {start.device}",
        f"precision  {start.precision}",
    ]
    workdir = f"workdir    {start.workdir}"
    if start.epochs_done:
        workdir += f", continued after epoch {start.epochs_done}"
    lines.append(workdir)
    if data.schema:
        lines.append(f"columns    {data.schema.describe()}")
    if data.labels:
        lines.append(f"classes    {data.labels.describe()}")
    if config.max_shift:
        lines.append(
            f"pictures   moved by up to {config.max_shift} pixels in the first "
            f"{config.num_shifted_epochs} epochs"
        )
    if config.mirror:
        lines.append("pictures   mirrored left to right with probability 1/2")
    flags = [field.name for field in dataclasses.fields(Config)]
    for warning in start.warnings:
        lines.append(f"warning    {with_dashes(warning, flags)}")
    print("\n".join(lines), end="\n\n", flush=True)


def print_trained() -> None:
    """What comes now: on a slow machine it takes a minute."""
    print("\nevaluating the best epoch on test, and drawing samples ...", flush=True)


def print_result(result: RunResult) -> None:
    """The evaluation with its units, and what the folder of the run holds."""
    print(f"\n{ledger.as_text(result.evaluation)}\n\nwritten to {result.workdir}:")
    for path in result.written:
        print(f"  {path.relative_to(result.workdir)}")
    for folder in ("samples", "checkpoints/last", "checkpoints/best", "tensorboard"):
        print(f"  {folder}/")
    print("\nwhat to try next:")
    for line in _next_commands(result):
        print(f"  {line}")


def _next_commands(result):
    """Of this package, with the folder of the run."""
    run = shlex.quote(str(result.workdir))
    export = shlex.quote(str(result.workdir / "export"))
    return [
        f"nice-tf report --workdir={run}",
        f"nice-tf score --model={run} --input=FILE --output=scores.csv",
        f"nice-tf export --workdir={run} --export_dir={export}",
    ]


def _scale(data):
    if data.levels:
        return f"{data.levels} levels"
    if data.schema:
        return "a table"
    return "continuous values"
