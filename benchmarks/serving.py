"""Speed and memory of an exported model beside LiteRT and the same network in PyTorch, on the same cores in turn.

    python benchmarks/serving.py                         # the paper's MNIST architecture with random weights
    python benchmarks/serving.py --model=mnist_nested      # or mnist_nested_convolution
    python benchmarks/serving.py --workdir=runs/mnist    # a run of that architecture

Each contestant lives in a process of its own that sleeps while the others are measured. Rounds alternate, so that a
change of the machine's speed meets all; read the ratios. Needs the extra `bench` (PyTorch). LiteRT is measured by
the package `ai-edge-litert` where that is installed, which needs no TensorFlow in its process, else by TensorFlow's own
interpreter. Memory is what the process holds resident at the end.
"""

import argparse
import functools
import json
import multiprocessing
import os
import pathlib
import pickle
import tempfile
import time

import numpy as np

BATCHES = (1, 32, 256)
LEVELS = 256
EVENT_SHAPE = (28, 28, 1)
EVENT_SIZE = 784


def pictures(number):
    """Integers instead of pictures, `[number, 28, 28, 1]`."""
    values = np.random.default_rng(0).integers(0, LEVELS, [number, *EVENT_SHAPE])
    return values.astype(np.float32)


def saved_model(connection, folder, signature_name):
    """Runs the signatures of an exported version, or its only one."""
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    import tensorflow as tf

    signatures = tf.saved_model.load(str(folder)).signatures

    def log_prob(batch):
        x = tf.constant(pictures(batch))
        return lambda: signatures[signature_name](x=x)["log_prob"].numpy()

    def sample(batch):
        seed, temperature = tf.constant([[0, i] for i in range(batch)]), tf.ones(batch)
        return lambda: signatures["sample"](seed=seed, temperature=temperature)["x"].numpy()

    operations = {"log_prob": log_prob}
    if "sample" in signatures:
        operations["sample"] = sample
    _serve(connection, operations)


def lite(connection, folder):
    """Runs the LiteRT model of a version, as many threads as cores."""
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError:
        import tensorflow as tf

        Interpreter = tf.lite.Interpreter
    path = str(folder / "model.tflite")
    interpreter = Interpreter(model_path=path, num_threads=os.cpu_count())
    (source,) = interpreter.get_input_details()
    outputs = {one["name"]: one["index"] for one in interpreter.get_output_details()}
    sizes = []

    def log_prob(batch):
        x = pictures(batch)

        def call():
            # As a server does: one interpreter, which lays out its memory for another size of batch.
            if sizes != [batch]:
                interpreter.resize_tensor_input(source["index"], x.shape)
                interpreter.allocate_tensors()
                sizes[:] = [batch]
            interpreter.set_tensor(source["index"], x)
            interpreter.invoke()
            return interpreter.get_tensor(outputs["log_prob"])

        return call

    _serve(connection, {"log_prob": log_prob})


def pytorch(connection, folder, model, compiled):
    """Runs the same network in PyTorch, float32."""
    import serving_torch
    import torch

    draw = None
    if model == "paper":
        score, draw = serving_torch.paper(EVENT_SIZE, (1000,) * 5, 4)
    else:
        score = serving_torch.recipe(pickle.loads((folder / "arrays.pickle").read_bytes()))
    if compiled:
        # Its convolutions cannot be compiled in inference mode.
        score = torch.compile(torch.no_grad()(score))
    else:
        score = torch.inference_mode()(score)
    if model != "paper":
        _check_same(folder, score)

    def log_prob(batch):
        x = torch.from_numpy(pictures(batch).reshape(batch, EVENT_SIZE))
        return lambda: score(x).numpy()

    operations = {"log_prob": log_prob}
    if draw and not compiled:
        draw = torch.inference_mode()(draw)
        operations["sample"] = lambda batch: lambda: draw(batch)[0].numpy()
    _serve(connection, operations)


def _check_same(folder, score):
    """PyTorch's density is the flow's."""
    import torch

    x = np.load(folder / "x.npy")
    found = score(torch.from_numpy(x.reshape(len(x), EVENT_SIZE))).numpy()
    np.testing.assert_allclose(found, np.load(folder / "log_prob.npy"), rtol=1e-3, atol=0.1)


def _serve(connection, operations):
    """Answers (operation, batch, seconds) with the seconds of each call made in that time; None with its memory."""
    prepared = {
        (name, batch): make(batch) for name, make in operations.items() for batch in BATCHES
    }
    for call in prepared.values():
        call()
        call()
    connection.send(list(operations))
    for name, batch, seconds in iter(connection.recv, None):
        call = prepared[name, batch]
        call()
        calls, end = [], time.perf_counter() + seconds
        while time.perf_counter() < end or len(calls) < 5:
            start = time.perf_counter()
            call()
            calls.append(time.perf_counter() - start)
        connection.send(calls)
    connection.send(_resident_mb())


def _resident_mb():
    for line in pathlib.Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    return float("nan")


def _write(folder, model, workdir, compile_single):
    import serving_models

    serving_models.write(folder, model, workdir, compile_single)


def main() -> None:
    """Measures in turn and prints the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--model", default="paper", choices=("paper", "mnist_nested", "mnist_nested_convolution")
    )
    parser.add_argument("--workdir", help="a finished run on 28x28 images with that architecture")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=1.0, help="of each measurement in a round")
    parser.add_argument("--compile_single", action="store_true", help="as for nice-tf export")
    parser.add_argument("--json", help="file for every figure")
    arguments = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as directory:
        folder = pathlib.Path(directory)
        model = arguments.model
        settings = (folder, model, arguments.workdir, arguments.compile_single)
        writer = context.Process(target=_write, args=settings)
        writer.start()
        writer.join()
        contestants = {
            "nice_tf": functools.partial(
                saved_model, folder=folder / "all", signature_name="log_prob"
            ),
            "one signature": functools.partial(
                saved_model, folder=folder / "one", signature_name="serving_default"
            ),
            "LiteRT": functools.partial(lite, folder=folder / "one"),
            "PyTorch": functools.partial(pytorch, folder=folder, model=model, compiled=False),
            "PyTorch compiled": functools.partial(
                pytorch, folder=folder, model=model, compiled=True
            ),
        }
        connections, operations = {}, {}
        for name, target in contestants.items():
            connections[name], theirs = context.Pipe()
            context.Process(target=target, args=(theirs,), daemon=True).start()
            theirs.close()  # so that the end of a contestant ends the wait for it
            operations[name] = connections[name].recv()
        calls = {}
        for _ in range(arguments.rounds):
            for operation in operations["PyTorch"]:
                for batch in BATCHES:
                    for name, connection in connections.items():
                        if operation in operations[name]:
                            connection.send((operation, batch, arguments.seconds))
                            found = calls.setdefault((operation, batch), {})
                            found.setdefault(name, []).append(connection.recv())
        memory = {}
        for name, connection in connections.items():
            connection.send(None)
            memory[name] = connection.recv()
    _report(calls, memory, arguments.json)


def _report(calls, memory, path):
    figures = {"memory_mb": memory}
    print(
        f"{'':36} {'examples/s':>10} {'p50 ms':>8} {'p99 ms':>8}   "
        "rate by eager PyTorch's, median (min to max) of rounds"
    )
    for (operation, batch), rounds in calls.items():
        rates = {}
        for name, parts in rounds.items():
            rates[name] = np.array([batch / np.mean(part) for part in parts])
        for name, parts in rounds.items():
            p50, p99 = 1e3 * np.quantile(np.concatenate(parts), [0.5, 0.99])
            ratio = rates[name] / rates["PyTorch"]
            rate = float(np.median(rates[name]))
            print(
                f"{operation:>9} batch {batch:3d} {name:>16} {rate:10.0f} {p50:8.2f} {p99:8.2f}   "
                f"{np.median(ratio):.2f} ({ratio.min():.2f} to {ratio.max():.2f})"
            )
            figures[f"{operation}_{batch}_{name}"] = {
                "examples_per_second": rate,
                "p50_ms": p50,
                "p99_ms": p99,
                "ratio": float(np.median(ratio)),
            }
    for name, value in memory.items():
        print(f"{name:>36} {value:6.0f} MB resident")
    if path:
        pathlib.Path(path).write_text(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
