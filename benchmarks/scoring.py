"""Scoring a large table from the command line: rows per second, processor time and peak memory.

    python benchmarks/scoring.py                       # 1,000,000 rows of 30 columns, Parquet and CSV, --top=0 and 3
    python benchmarks/scoring.py --rows=3000000 --tops=0 --kinds=parquet

The model is that of configs/table.flags, trained for few epochs on 20,000 rows of the same generator. Each line is a
process of its own, with the start of Python and TensorFlow in its time; its rate is that of the rows alone.
"""

import argparse
import os
import pathlib
import subprocess
import sys
import tempfile
import time

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

ROOT = pathlib.Path(__file__).parents[1]
_BLOCK = 100_000


def rows(number: int, seed: int) -> pa.Table:
    """30 columns from 8 hidden factors: 22 continuous, a third of them curved, and 8 of whole
    numbers.
    """
    mixing = np.random.default_rng(0).normal(size=[8, 30])
    generator = np.random.default_rng([1, seed])
    x = generator.normal(size=[number, 8]) @ mixing + 0.3 * generator.normal(size=[number, 30])
    x[:, ::3] += 0.3 * x[:, ::3] ** 2
    columns = {
        f"x{k}": np.rint(5 * x[:, k]).astype(np.int64) if k >= 22 else x[:, k] for k in range(30)
    }
    return pa.table(columns)


def write(path: pathlib.Path, number: int, first_seed: int) -> None:
    """Writes so many rows block by block, as CSV or Parquet."""
    blocks = [min(_BLOCK, number - start) for start in range(0, number, _BLOCK)]
    make = pa.csv.CSVWriter if path.suffix == ".csv" else pq.ParquetWriter
    with make(path, rows(1, 0).schema) as writer:
        for place, size in enumerate(blocks):
            writer.write_table(rows(size, first_seed + place))


def measured(command: list[str]) -> tuple[str, float, float, float]:
    """Runs a command: what it prints, its wall and processor seconds, and its peak resident MB."""
    start = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, *command], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    said = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(command)} failed")
    return (
        said,
        time.perf_counter() - start,
        usage.ru_utime + usage.ru_stime,
        usage.ru_maxrss / 1024,
    )


def main() -> None:
    """Measures and prints a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--tops", default="0,3")
    parser.add_argument("--kinds", default="parquet,csv")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument(
        "--folder", help="where the data, the model and the scores stay; else they are removed"
    )
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(arguments.folder or temporary)
        folder.mkdir(parents=True, exist_ok=True)
        write(folder / "train.parquet", 20_000, 10_000)
        measured(
            [
                "train.py",
                "--flagfile=configs/table.flags",
                f"--dataset={folder}/train.parquet",
                "--num_draws=1",
                f"--epochs={arguments.epochs}",
                f"--workdir={folder}/run",
            ]
        )
        print("kind     top  rows/s   wall s  processor s  peak MB")
        for kind in arguments.kinds.split(","):
            source = folder / f"rows.{kind}"
            write(source, arguments.rows, 0)
            for top in arguments.tops.split(","):
                said, wall, processor, peak = measured(
                    [
                        "-m",
                        "nice_tf.apps.score",
                        f"--model={folder}/run",
                        f"--input={source}",
                        f"--top={top}",
                        f"--output={folder}/scores_{kind}_{top}.parquet",
                        "--overwrite",
                    ]
                )
                rate = said.split(": ")[-1].split(" rows/s")[0]
                print(
                    f"{kind:8s} {top:>3s} {rate:>9s} {wall:8.1f} {processor:12.1f} {peak:8.0f}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
