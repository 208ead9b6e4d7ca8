"""Validation log-likelihood of several runs at equal epochs: a table, and a picture with --output.

    python benchmarks/learning_curves.py ours=runs/mnist paper=runs/paper_mnist --output=curves.png

A run may still be under way. Only `metrics.csv` is read.
"""

import argparse
import pathlib

from nice_tf import drawing
from nice_tf.files import write_atomically
from nice_tf.runs.workdir import Workdir

EPOCHS = (1, 2, 5, 10, 20, 30, 40, 50, 60, 70, 80, 90, 100, 200, 500, 1000, 1500)


def named_run(text: str) -> tuple[str, Workdir]:
    """NAME=WORKDIR of the command line."""
    name, _, path = text.partition("=")
    run = Workdir(path)
    if not name or not path:
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form NAME=WORKDIR")
    if not run.metrics.is_file():
        raise argparse.ArgumentTypeError(f"{path!r} is no folder of a run: it has no metrics.csv")
    return name, run


def main() -> None:
    """Reads the runs and prints the table."""
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("runs", nargs="+", type=named_run, metavar="NAME=WORKDIR")
    options.add_argument("--output", help="picture of the curves")
    arguments = options.parse_args()
    if len(dict(arguments.runs)) < len(arguments.runs):
        options.error("each run needs a name of its own")
    curves = {
        name: {int(row["epoch"]): float(row["val_log_prob"]) for row in run.read_metrics()}
        for name, run in arguments.runs
    }
    print(f"| epoch | {' | '.join(curves)} |\n|{'---|' * (len(curves) + 1)}")
    everywhere, ends = set().union(*curves.values()), {max(curve) for curve in curves.values()}
    for epoch in sorted(everywhere & (ends | set(EPOCHS))):
        cells = [f"{curve[epoch]:.1f}" if epoch in curve else "-" for curve in curves.values()]
        print(f"| {epoch} | {' | '.join(cells)} |")
    if arguments.output:
        lines = {name: (list(curve), list(curve.values())) for name, curve in curves.items()}
        chart = drawing.Chart(lines, "epoch", "nats per validation example")
        write_atomically(pathlib.Path(arguments.output), chart.png())


if __name__ == "__main__":
    main()
