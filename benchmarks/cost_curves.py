"""What a training step costs as the data, the networks and the batch grow: images per second, arithmetic, memory.

    python benchmarks/cost_curves.py
    python benchmarks/cost_curves.py --output=curves.png --json=curves.json

One of the sizes changes, the others stay as in the paper's MNIST architecture with batch 200. Each point is a process
of its own, its rate the median of `--rounds`. Where GFLOP/s stay level, cost grows with the arithmetic and no faster.
"""

import argparse
import pathlib

import contest
import numpy as np
import training
from contest import Architecture, Contestant

from nice_tf import drawing
from nice_tf.training.devices import choose_precision

CURVES = {
    "event_size": (64, 256, 784, 3072, 12_288),
    "hidden": (100, 300, 1000, 2000),
    "depth": (1, 2, 5, 10),
    "batch": (10, 50, 200, 1000),
}
BATCH = 200


def measure(contestant, name, value, rounds, seconds):
    """One point: images per second, GFLOP/s and peak memory."""
    batch = value if name == "batch" else BATCH
    shape = Architecture() if name == "batch" else Architecture(**{name: value})
    found = contest.hold(
        [contestant], training.prepare, (shape, batch), ["step"], rounds=rounds, seconds=seconds
    )
    result = found[str(contestant)]
    if "skipped" in result:
        raise SystemExit(f"{name} {value}: {result['skipped']}")
    rate = float(np.median(result["rates"]["step"]))
    return {
        "value": value,
        "parameters": shape.num_parameters,
        "images_per_second": rate * batch,
        "gflop_per_second": rate * shape.training_flops(batch) / 1e9,
        "peak_rss_mb": result["peak_rss_mb"],
    }


def main() -> None:
    """Measures point by point and prints the table."""
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--seconds", type=float, default=1.0, help="of each measurement")
    options.add_argument("--output", help="picture of the curves")
    options.add_argument("--json", help="file for every figure")
    arguments = options.parse_args()
    contestant = Contestant("nice_tf", choose_precision("auto"))
    print(
        f"{contestant}\n{'':>18} {'parameters':>12} {'images/s':>9} {'GFLOP/s':>8} {'peak MB':>8}"
    )
    curves = {}
    for name, values in CURVES.items():
        curves[name] = []
        for value in values:
            point = measure(contestant, name, value, arguments.rounds, arguments.seconds)
            curves[name].append(point)
            print(
                f"{name:>11} {value:6d} {point['parameters']:12,d} "
                f"{point['images_per_second']:9.0f} {point['gflop_per_second']:8.0f} "
                f"{point['peak_rss_mb']:8.0f}",
                flush=True,
            )
    if arguments.output:
        lines = {
            name: (
                [p["value"] / points[0]["value"] for p in points],
                [p["gflop_per_second"] for p in points],
            )
            for name, points in curves.items()
        }
        chart = drawing.Chart(
            lines, "size, in units of the smallest of its curve", "GFLOP/s of a training step"
        )
        pathlib.Path(arguments.output).write_bytes(chart.png())
    contest.write_json(arguments.json, arguments, curves=curves)


if __name__ == "__main__":
    main()
