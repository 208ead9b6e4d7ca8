r"""Which setting is worth how many nats: variants of a run, each trained, compared on validation.

    python benchmarks/ablation.py --flagfile=benchmarks/ablations/base.flags --manual_dir=../shared/data/mnist \
        --variants=benchmarks/ablations/levers.txt --workdir=runs/ablation

A line of a file of variants is a name and the flags that it changes. All take the flags of this command for the rest.
A variant that was cut off is continued, a finished one is only read. With jobs several run side by side, each on its
share of the cores: two at a time on a core each finish sooner than one after another on both. The test split is not
looked at: the winner's figure on test is that of `train.py`, read once.
"""

import concurrent.futures
import multiprocessing
import os
import pathlib
import queue
import shlex
import sys

from absl import flags

from nice_tf import cli, config, config_flags
from nice_tf.errors import UserError
from nice_tf.workdir import Workdir

GROUPS = ["ablation", *config_flags.define_flags()]
flags.DEFINE_string("variants", "", "file of variants", module_name="ablation")
flags.DEFINE_list("only", [], "names of the variants to run; empty: all", module_name="ablation")
flags.DEFINE_list("seeds", ["0"], "seeds of each variant", module_name="ablation")
flags.DEFINE_integer("jobs", 1, "variants that run side by side", lower_bound=1, module_name="ablation")
flags.DEFINE_string("workdir", "runs/ablation", "folder of the runs", module_name="ablation")


def read_variants(path: str) -> dict[str, list[str]]:
    """Name to flags, of a file of variants."""
    if not path:
        raise UserError("variants is needed: --variants=benchmarks/ablations/levers.txt")
    if not os.path.isfile(path):
        raise UserError(f"variants {path!r}: there is no such file")
    try:
        lines = [shlex.split(line, comments=True) for line in pathlib.Path(path).read_text().splitlines()]
    except ValueError as error:
        raise UserError(f"variants {path!r}: {error}") from error
    names = [line[0] for line in lines if line]
    if not names or len(set(names)) < len(names):
        raise UserError(f"variants {path!r} must hold lines of different names, got {', '.join(names) or 'none'}")
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


def train(values: config.Config, workdir: pathlib.Path, cores: list[int]) -> None:
    """One run, in a process of its own that keeps to these cores; none: all."""
    if cores:
        os.sched_setaffinity(0, cores)  # before TensorFlow looks how many threads to make
    with cli.quiet_tensorflow():
        from nice_tf import training
    try:
        training.train(values, workdir)
    except UserError as error:
        sys.exit(f"error: {error}")


def shares_of_cores(jobs: int) -> list[list[int]]:
    """The cores of each job; a single job has no list, it takes whatever there is.

    Raises:
      UserError: more jobs than cores, or a system that cannot share them out.
    """
    if jobs == 1:
        return [[]]
    if not hasattr(os, "sched_getaffinity"):
        raise UserError(f"jobs must be 1 on this system, which cannot keep a process to some cores, got {jobs}")
    cores = sorted(os.sched_getaffinity(0))
    if jobs > len(cores):
        raise UserError(f"jobs must be at most {len(cores)}, the number of cores, got {jobs}")
    return [cores[job::jobs] for job in range(jobs)]


def report(workdir: pathlib.Path) -> str:
    """The row of a run, of its best epoch on validation; the likelihood on train is a mean over the epoch."""
    rows = Workdir(workdir).read_metrics()
    best = max(rows, key=lambda row: float(row["val_log_prob"]))
    minutes = sum(float(row["seconds"]) for row in rows) / 60
    return (
        f"| {workdir.name} | {float(best['val_log_prob']):.1f} | {float(best['log_prob']):.1f} | {best['epoch']} of "
        f"{len(rows)} | {minutes:.1f} |"
    )


def main() -> None:
    """Runs all variants, then prints the table."""
    values = flags.FLAGS
    variants = read_variants(values.variants)
    if values["seed"].present:
        raise UserError("seed is for a single run: give seeds, one or several by commas")
    unknown = set(values.only) - set(variants)
    if unknown:
        raise UserError(f"only names {', '.join(sorted(unknown))}, which {values.variants} does not hold")
    runs = {
        pathlib.Path(values.workdir) / f"{name}-seed{seed}": settings(name, variants[name], seed)
        for name in values.only or variants
        for seed in values.seeds
    }
    free_cores: queue.SimpleQueue[list[int]] = queue.SimpleQueue()
    for cores in shares_of_cores(values.jobs):
        free_cores.put(cores)
    failed = []

    def row(workdir):
        cores = free_cores.get()
        process = multiprocessing.get_context("spawn").Process(target=train, args=(runs[workdir], workdir, cores))
        process.start()
        process.join()
        free_cores.put(cores)
        if process.exitcode:
            failed.append(workdir.name)
        result = f"| {workdir.name} | failed | | | |" if process.exitcode else report(workdir)
        print(result, flush=True)
        return result

    with concurrent.futures.ThreadPoolExecutor(values.jobs) as pool:
        rows = list(pool.map(row, runs))
    head = ["| variant | validation, nats | train, nats | epoch | minutes |", "|---|---|---|---|---|"]
    print("\n" + "\n".join(head + rows))
    if failed:
        raise UserError(f"{', '.join(failed)} failed, see above")


if __name__ == "__main__":
    cli.run(main, usage=__doc__, groups=GROUPS)
