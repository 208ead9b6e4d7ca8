r"""Which setting is worth how many nats: variants of a run, each trained, compared on validation.

    python benchmarks/ablation.py --flagfile=benchmarks/ablations/base.flags --manual_dir=../shared/data/mnist \
        --variants=benchmarks/ablations/levers.txt --workdir=runs/ablation

A line of a file of variants is a name and the flags that it changes. All take the flags of this command for the rest.
A variant that was cut off is continued, a finished one is only read. With --jobs several run side by side, each on its
share of the cores and with its output in a file beside its folder. The test split is not looked at: the winner's figure
on test is that of `nice-tf train`, read once.
"""

import multiprocessing
import multiprocessing.connection
import os
import pathlib
import shlex
import sys
from collections.abc import Iterator

from absl import flags

from nice_tf import config
from nice_tf.cli import command, config_flags
from nice_tf.errors import UserError
from nice_tf.runs.workdir import Workdir

GROUPS = ["ablation", *config_flags.define_flags()]
flags.DEFINE_string("variants", "", "file of variants", module_name="ablation")
flags.DEFINE_list("only", [], "names of the variants to run; empty: all", module_name="ablation")
flags.DEFINE_list("seeds", ["0"], "seeds of each variant", module_name="ablation")
flags.DEFINE_integer(
    "jobs", 1, "variants that run side by side", lower_bound=1, module_name="ablation"
)
flags.DEFINE_string("workdir", "runs/ablation", "folder of the runs", module_name="ablation")


def read_variants(path: str) -> dict[str, list[str]]:
    """Name to flags, of a file of variants."""
    if not path:
        raise UserError("variants is needed: --variants=benchmarks/ablations/levers.txt")
    if not os.path.isfile(path):
        raise UserError(f"variants {path!r}: there is no such file")
    try:
        lines = [
            shlex.split(line, comments=True) for line in pathlib.Path(path).read_text().splitlines()
        ]
    except ValueError as error:
        raise UserError(f"variants {path!r}: {error}") from error
    names = [line[0] for line in lines if line]
    if not names or len(set(names)) < len(names):
        raise UserError(
            f"variants {path!r} must hold lines of different names, got "
            f"{', '.join(names) or 'none'}"
        )
    return {line[0]: line[1:] for line in lines if line}


def settings(name: str, variant: list[str], seed: str) -> config.Config:
    """The settings of this command with the flags of a variant over them."""
    own = flags.FlagValues()
    config_flags.define_flags(own)
    mine = flags.FLAGS.flags_by_module_dict()
    common = [f.serialize() for group in GROUPS[1:] for f in mine[group] if f.present]
    try:
        _, *strays = own(["ablation", *common, *variant, f"--seed={seed}"])
        if strays:
            raise UserError(f"{' '.join(strays)!r} is no flag; one starts with --")
        return config_flags.from_flags(own)
    except (flags.Error, UserError) as error:
        raise UserError(f"variant {name}: {error}") from error


def train_one(
    values: config.Config, workdir: pathlib.Path, cores: list[int], log: pathlib.Path | None
) -> None:
    """One run, in a process of its own: on these cores if there are any, its output in `log` if it
    is given.
    """
    if cores:
        os.sched_setaffinity(0, cores)  # before TensorFlow looks how many threads to make
    if log:
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("a") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
    with command.quiet_tensorflow():
        from nice_tf.apps import terminal
        from nice_tf.training.run import train
    try:
        train(values, workdir, on_start=terminal.print_start, verbose=terminal.verbosity())
    except UserError as error:
        sys.exit(f"error: {error}")


def shares_of_cores(jobs: int) -> list[list[int]]:
    """The cores of each job, no core of two; a single job has no list, it takes whatever there is.

    Raises:
      UserError: more jobs than cores, or a system that cannot share them out.
    """
    if jobs == 1:
        return [[]]
    if not hasattr(os, "sched_getaffinity"):
        raise UserError(
            f"jobs must be 1 on this system, which cannot keep a process to some cores, got {jobs}"
        )
    cores = sorted(os.sched_getaffinity(0))
    if jobs > len(cores):
        raise UserError(f"jobs must be at most {len(cores)}, the number of cores, got {jobs}")
    return [cores[job::jobs] for job in range(jobs)]


def train_all(
    runs: dict[pathlib.Path, config.Config], jobs: int
) -> Iterator[tuple[pathlib.Path, int]]:
    """Trains the runs, several at a time, and gives the folder and exit code of each as it ends."""
    waiting, running, free = list(runs), {}, shares_of_cores(jobs)
    while waiting or running:
        while waiting and free:
            workdir, cores = waiting.pop(0), free.pop(0)
            log = workdir.with_name(f"{workdir.name}.log") if jobs > 1 else None
            arguments = (runs[workdir], workdir, cores, log)
            process = multiprocessing.get_context("spawn").Process(target=train_one, args=arguments)
            process.start()
            running[process.sentinel] = process, workdir, cores
        for sentinel in multiprocessing.connection.wait(list(running)):
            process, workdir, cores = running.pop(sentinel)
            process.join()
            free.append(cores)
            yield workdir, process.exitcode


def report(workdir: pathlib.Path) -> str:
    """The row of a run, of its best epoch on validation; the likelihood on train is a mean over the
    epoch.

    Minutes are wall time, beside whatever else the machine did, other jobs included.
    """
    rows = Workdir(workdir).read_metrics()
    best = max(rows, key=lambda row: float(row["val_log_prob"]))
    minutes = sum(float(row["seconds"]) for row in rows) / 60
    return (
        f"| {workdir.name} | {float(best['val_log_prob']):.1f} | {float(best['log_prob']):.1f} | "
        f"{best['epoch']} of {len(rows)} | {minutes:.1f} |"
    )


def main() -> None:
    """Runs all variants, then prints the table."""
    values = flags.FLAGS
    variants = read_variants(values.variants)
    if values["seed"].present:
        raise UserError("seed is for a single run: give seeds, one or several by commas")
    unknown = set(values.only) - set(variants)
    if unknown:
        raise UserError(
            f"only names {', '.join(sorted(unknown))}, which {values.variants} does not hold"
        )
    runs = {
        pathlib.Path(values.workdir) / f"{name}-seed{seed}": settings(name, variants[name], seed)
        for name in values.only or variants
        for seed in values.seeds
    }
    rows, failed = {}, set()
    for workdir, exit_code in train_all(runs, values.jobs):
        if exit_code:
            failed.add(workdir)
        rows[workdir] = f"| {workdir.name} | failed | | | |" if exit_code else report(workdir)
        print(rows[workdir], flush=True)
    print("\n| variant | validation, nats | train, nats | epoch | minutes |\n|---|---|---|---|---|")
    print("\n".join(rows[workdir] for workdir in runs))
    if failed:
        names = ", ".join(workdir.name for workdir in runs if workdir in failed)
        where = f"{values.workdir}/NAME.log" if values.jobs > 1 else "above"
        raise UserError(f"{names} failed, see {where}")


if __name__ == "__main__":
    command.run(main, usage=__doc__, groups=GROUPS)
