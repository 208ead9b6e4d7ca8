r"""Seconds of training until MNIST's validation split passes a likelihood: ours beside plain PyTorch.

    python benchmarks/time_to_likelihood.py --manual_dir=../shared/data/mnist --workdir=runs/time \
        --runs=mnist_fast,mnist_plain,torch,torch_ours --minutes=30 --output=time.png

A run is a file of configs/, trained by `train.py`, or the paper's network in PyTorch, compiled where there is a compiler:
`torch` with Adam at a constant rate, as the libraries' examples have it, `torch_ours` with the optimizer's settings of
configs/mnist_plain.flags. They run one after another, each in a process of its own. Seconds are those of the epochs,
compilation and validation with them, up to the end of the first epoch whose validation passes the figure; reading the
data and starting the program are not in them. A run is stopped after `--minutes`; its schedule stays that of all its
epochs. The test split is not looked at.
"""

import argparse
import csv
import gzip
import json
import pathlib
import subprocess
import sys
import time

import contest
import numpy as np

# The paper's figure, independent pixels, and the goal of configs/mnist_fast.flags, in nats on [0, 1]^784.
FIGURES = (1980.5, 3430.0, 3600.0)
NUM_VALIDATION = 10_000
BATCH = 200
REPOSITORY = pathlib.Path(__file__).resolve().parent.parent
TORCH_RUNS = ("torch", "torch_ours")


def seconds_until(curve: list[tuple[float, float]], figure: float) -> float | None:
    """When a curve of (seconds, nats) first passes a figure; `None` if it never does."""
    for seconds, nats in curve:
        if nats >= figure:
            return seconds
    return None


def curve_of_metrics(file: pathlib.Path) -> list[tuple[float, float]]:
    """(Seconds since the start, nats on validation) at the end of each epoch of `metrics.csv`."""
    curve = []
    total = 0.0
    with file.open() as lines:
        for row in csv.DictReader(lines):
            total += float(row["seconds"])
            curve.append((total, float(row["val_log_prob"])))
    return curve


def train_ours(
    name: str, workdir: pathlib.Path, minutes: float, more: list[str]
) -> list[tuple[float, float]]:
    """Trains a configuration; continues it if it was cut off before its minutes were over."""
    run = workdir / name
    metrics = run / "metrics.csv"
    trained = curve_of_metrics(metrics)[-1][0] if metrics.exists() else 0.0
    left = 60 * minutes - trained
    if left <= 0:
        return curve_of_metrics(metrics)
    command = [
        sys.executable,
        str(REPOSITORY / "train.py"),
        f"--flagfile={REPOSITORY / 'configs' / name}.flags",
        f"--workdir={run}",
        "--sample_every_epochs=0",
        *more,
    ]
    process = subprocess.Popen(command, cwd=REPOSITORY)
    try:
        failed = process.wait(timeout=left)
    except subprocess.TimeoutExpired:
        process.terminate()  # writes a checkpoint first
        process.wait()
        failed = not metrics.exists()
    if failed:
        sys.exit(f"{name} failed, or did not end an epoch in {minutes:g} minutes")
    return curve_of_metrics(metrics)


def pictures(folder: pathlib.Path) -> np.ndarray:
    """The original training pictures of MNIST, `[60000, 784]`."""
    content = gzip.decompress((folder / "train-images-idx3-ubyte.gz").read_bytes())
    return np.frombuffer(content, np.uint8, offset=16).reshape(-1, 784)


def train_torch(
    name: str, folder: pathlib.Path, epochs: int, minutes: float, precision: str, seed: int = 0
) -> list[tuple[float, float]]:
    """Trains the paper's network in PyTorch."""
    import peers_torch
    import torch

    torch.manual_seed(seed)
    torch.set_float32_matmul_precision("high")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    contestant = contest.Contestant("torch", precision, True)
    peer = peers_torch.Plain(contestant, contest.Architecture(), device=device)
    values = pictures(folder)
    train = values[:-NUM_VALIDATION]
    validation = torch.from_numpy(values[-NUM_VALIDATION:].copy()).to(device)
    steps_per_epoch = len(train) // BATCH
    settings = {}
    if name == "torch_ours":
        settings = {"rate": 2e-3, "warmup": 200, "decay": 0.3, "beta_2": 0.99, "epsilon": 1e-8}
        settings["num_steps"] = epochs * steps_per_epoch
    start = time.perf_counter()
    step = peer.training_step(train, BATCH, **settings)
    curve = []
    for epoch in range(epochs):
        for _ in range(steps_per_epoch):
            step()
        nats = peer.mean_log_prob(validation, BATCH)
        curve.append((time.perf_counter() - start, nats))
        print(f"{name} epoch {epoch + 1}: {nats:.1f} after {curve[-1][0]:.1f} s", flush=True)
        if curve[-1][0] >= 60 * minutes:
            break
    return curve


def print_table(curves: dict[str, list[tuple[float, float]]]) -> None:
    """Seconds by run and figure, and how far each run came."""
    heads = [f"{figure:,.1f} nats" for figure in FIGURES]
    print(f"| | {' | '.join(heads)} | best | in |")
    print("|" + "---|" * (len(FIGURES) + 3))
    for name, curve in curves.items():
        cells = []
        for figure in FIGURES:
            seconds = seconds_until(curve, figure)
            cells.append("-" if seconds is None else f"{seconds:.0f} s")
        best = max(nats for _, nats in curve)
        print(f"| {name} | {' | '.join(cells)} | {best:,.1f} | {curve[-1][0]:.0f} s |")


def draw(curves: dict[str, list[tuple[float, float]]], output: pathlib.Path) -> None:
    """A picture of the curves."""
    from nice_tf import drawing
    from nice_tf.files import write_atomically

    lines = {}
    for name, curve in curves.items():
        seconds, nats = zip(*curve, strict=True)
        lines[name] = (list(seconds), list(nats))
    chart = drawing.Chart(lines, "seconds of training", "nats per validation example")
    write_atomically(output, chart.png())


def main() -> None:
    """Trains the runs that have no result yet; prints the table."""
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--runs", default="mnist_fast,mnist_plain,torch,torch_ours")
    options.add_argument("--workdir", type=pathlib.Path, default=pathlib.Path("runs/time"))
    options.add_argument("--manual_dir", type=pathlib.Path, required=True)
    options.add_argument("--torch_epochs", type=int, default=20)
    options.add_argument("--minutes", type=float, default=60, help="of each run, at most")
    options.add_argument("--precision", choices=contest.PRECISIONS, default="float32")
    options.add_argument("--output", type=pathlib.Path, help="picture of the curves")
    options.add_argument("--one", help=argparse.SUPPRESS)  # a run of PyTorch in its own process
    arguments, more = options.parse_known_args()
    arguments.workdir.mkdir(parents=True, exist_ok=True)
    if arguments.one:
        curve = train_torch(
            arguments.one,
            arguments.manual_dir,
            arguments.torch_epochs,
            arguments.minutes,
            arguments.precision,
        )
        (arguments.workdir / f"{arguments.one}.json").write_text(json.dumps(curve))
        return
    curves = {}
    for name in arguments.runs.split(","):
        if name not in TORCH_RUNS:
            manual_dir = f"--manual_dir={arguments.manual_dir.resolve()}"
            curves[name] = train_ours(
                name, arguments.workdir.resolve(), arguments.minutes, [manual_dir, *more]
            )
            continue
        result = arguments.workdir / f"{name}.json"
        if not result.exists():
            subprocess.run([sys.executable, *sys.argv, f"--one={name}"], check=True)
        curves[name] = json.loads(result.read_text())
    print_table(curves)
    if arguments.output:
        draw(curves, arguments.output)


if __name__ == "__main__":
    main()
