"""Training from a file beside training from memory, in turn in one process; and the memory that a large file takes.

    python benchmarks/on_disk.py                          # speed: MNIST's shape, the paper's architecture
    python benchmarks/on_disk.py --hidden=64 --depth=1    # a step so short that reading might be seen
    python benchmarks/on_disk.py --memory                 # 1,000,000 x 784 as TFRecord, copied, checked and trained on

Both train the same model on the same batches. Read the ratio, the median over rounds of two rates of the same round;
on a machine that does other things, too, that of the processor time.
"""

import argparse
import pathlib
import tempfile
import time

import numpy as np
import tensorflow as tf

import nice_tf
from nice_tf.data import batches as batches_lib
from nice_tf.data import dataset
from nice_tf.training import model as model_lib


def memory_mb(name: str) -> float:
    """A line of the kernel's account of this process: `VmRSS`, what is resident, or `VmHWM`, its
    peak.
    """
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) / 1000 for line in file if line.startswith(name))


def speed(config: nice_tf.Config, folder: pathlib.Path, *, rounds: int, steps: int) -> None:
    """Prints images per second and processor time of training and of batches alone, from memory and
    from disk.
    """
    path = folder / "data.npy"
    np.save(path, np.random.default_rng(0).integers(0, 256, [60_000, 28, 28, 1], np.uint8))
    model, rates = None, {}
    batches = {}
    for place, in_memory_mb in (("memory", 512), ("disk", 0)):
        settings = {**config.as_dict(), "dataset": str(path), "in_memory_mb": in_memory_mb}
        found = dataset.load(nice_tf.Config(**settings))
        model = model or model_lib.make_model(config, found)
        batches[place] = iter(
            batches_lib.training_batches(
                found.train,
                config.batch_size,
                seed=0,
                first_step=0,
                last_step=steps * (rounds + 1) * 60,
            )
        )

    @tf.function
    def train(values):
        return model.train_step(values)["log_prob"]

    def measure(count, use):
        start, start_cpu = time.perf_counter(), time.process_time()
        for _ in range(count):
            result = use()
        np.asarray(result)
        cpu_ms = 1e3 * (time.process_time() - start_cpu) / count
        return count * config.batch_size / (time.perf_counter() - start), cpu_ms

    for number in range(rounds + 1):
        for place, values in batches.items():
            trained = measure(steps, lambda values=values: train(next(values)))
            alone = measure(50 * steps, lambda values=values: next(values))
            if number:  # the first round is for starting up
                rates.setdefault(place, []).append((trained, alone))
    for i, what in enumerate(("training", "batches alone")):
        for j, unit in enumerate(("images/s", "ms of processor time per batch")):
            memory, disk = (np.array(rates[place])[:, i, j] for place in ("memory", "disk"))
            print(
                f"{what}: {np.median(memory):,.2f} {unit} from memory, {np.median(disk):,.2f} from "
                f"disk, ratio {np.median(disk / memory):.3f} ({np.min(disk / memory):.3f} to "
                f"{np.max(disk / memory):.3f})"
            )


def memory(config: nice_tf.Config, folder: pathlib.Path, *, rows: int) -> None:
    """Prints the resident memory before and after each stage for a TFRecord file of so many rows."""
    path, generator = folder / "data.tfrecord", np.random.default_rng(0)
    with tf.io.TFRecordWriter(str(path)) as writer:
        for _ in range(rows):
            content = tf.train.Feature(bytes_list=tf.train.BytesList(value=[generator.bytes(784)]))
            writer.write(
                tf.train.Example(
                    features=tf.train.Features(feature={"image": content})
                ).SerializeToString()
            )

    def show(stage, start=None):
        took = f" {time.perf_counter() - start:6.0f} s" if start else ""
        print(
            f"{stage:>36}: {memory_mb('VmRSS'):6.0f} MB, peak {memory_mb('VmHWM'):6.0f} MB{took}",
            flush=True,
        )

    show("before")
    start = time.perf_counter()
    found = dataset.load(
        nice_tf.Config(**{**config.as_dict(), "dataset": str(path), "data_dir": str(folder)})
    )
    show("copied and checked", start)
    start = time.perf_counter()
    found.description()
    show("fingerprint", start)
    model = model_lib.make_model(config, found)
    show("model made and initialised")
    start = time.perf_counter()
    batches = batches_lib.training_batches(
        found.train, config.batch_size, seed=0, first_step=0, last_step=100
    )
    model.fit(batches, verbose=0)
    show("100 steps", start)


def main() -> None:
    """Prints one of the two."""
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--memory", action="store_true")
    for name, default in (
        ("rounds", 7),
        ("steps", 20),
        ("rows", 1_000_000),
        ("hidden", 1000),
        ("depth", 5),
    ):
        options.add_argument(f"--{name}", type=int, default=default)
    options.add_argument(
        "--folder", help="for the files, which are removed afterwards; the system's if not given"
    )
    chosen = options.parse_args()
    config = nice_tf.Config(hidden_units=(chosen.hidden,) * chosen.depth, batch_size=200)
    with tempfile.TemporaryDirectory(dir=chosen.folder) as folder:
        if chosen.memory:
            memory(config, pathlib.Path(folder), rows=chosen.rows)
        else:
            speed(config, pathlib.Path(folder), rounds=chosen.rounds, steps=chosen.steps)


if __name__ == "__main__":
    main()
