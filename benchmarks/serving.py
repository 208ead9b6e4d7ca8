"""Speed of an exported model beside the same architecture in eager PyTorch, on the same cores in turn.

    python benchmarks/serving.py --workdir=runs/mnist
    python benchmarks/serving.py                         # the paper's MNIST architecture with random weights

Each contestant lives in a process of its own that sleeps while the other is measured. Rounds alternate, so that a
change of the machine's speed meets both; read the ratios. Needs the extra `bench` (PyTorch).
"""

import argparse
import itertools
import json
import multiprocessing
import os
import tempfile
import time

import numpy as np

BATCHES = (1, 32, 256)
OPERATIONS = ("log_prob", "sample")


def saved_model(connection, export_dir, event_shape):
    """Runs the signatures of an exported version."""
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    import tensorflow as tf

    signatures = tf.saved_model.load(export_dir).signatures

    def log_prob(batch):
        x = tf.constant(
            np.random.default_rng(0).integers(0, 256, [batch, *event_shape]).astype(np.float32)
        )
        return lambda: signatures["log_prob"](x=x)["log_prob"].numpy()

    def sample(batch):
        seed, temperature = tf.constant([[0, i] for i in range(batch)]), tf.ones(batch)
        return lambda: signatures["sample"](seed=seed, temperature=temperature)["x"].numpy()

    _serve(connection, {"log_prob": log_prob, "sample": sample})


def pytorch(connection, event_size, hidden_units, num_couplings):
    """Plain NICE in eager PyTorch: even and odd coordinates, ReLU, logistic prior, one generator
    for the batch.
    """
    import torch

    half = event_size // 2
    sizes = [half, *hidden_units, half]

    def network():
        layers = []
        for fan_in, fan_out in itertools.pairwise(sizes):
            layers += [torch.nn.Linear(fan_in, fan_out), torch.nn.ReLU()]
        return torch.nn.Sequential(*layers[:-1])

    networks = [network() for _ in range(num_couplings)]
    log_scale = torch.zeros(event_size)
    softplus = torch.nn.functional.softplus

    def prior_log_prob(z):
        return (-softplus(z) - softplus(-z)).sum(dim=-1) + log_scale.sum()

    @torch.inference_mode()
    def score(x):
        x = (x + 0.5) / 256
        halves = [x[:, 0::2], x[:, 1::2]]
        for k, m in enumerate(networks):
            halves[1 - k % 2] = halves[1 - k % 2] + m(halves[k % 2])
        return prior_log_prob(torch.stack(halves, dim=-1).flatten(1) * log_scale.exp()).numpy()

    @torch.inference_mode()
    def draw(batch):
        u = torch.rand(batch, event_size).clamp_min(1e-38)
        z = torch.log(u) - torch.log1p(-u)
        log_prob = prior_log_prob(z)
        h = z * torch.exp(-log_scale)
        halves = [h[:, 0::2], h[:, 1::2]]
        for k, m in reversed(list(enumerate(networks))):
            halves[1 - k % 2] = halves[1 - k % 2] - m(halves[k % 2])
        return (torch.stack(halves, dim=-1).flatten(1) * 256 - 0.5).numpy(), log_prob.numpy()

    def log_prob(batch):
        x = torch.from_numpy(
            np.random.default_rng(0).integers(0, 256, [batch, event_size]).astype(np.float32)
        )
        return lambda: score(x)

    _serve(connection, {"log_prob": log_prob, "sample": lambda batch: lambda: draw(batch)})


def _serve(connection, operations):
    """Answers (operation, batch, seconds) with the seconds of each call made in that time."""
    prepared = {
        (name, batch): make(batch) for name, make in operations.items() for batch in BATCHES
    }
    for call in prepared.values():
        call()
        call()
    connection.send("ready")
    for name, batch, seconds in iter(connection.recv, None):
        calls, end = [], time.perf_counter() + seconds
        while time.perf_counter() < end or len(calls) < 5:
            start = time.perf_counter()
            prepared[name, batch]()
            calls.append(time.perf_counter() - start)
        connection.send(calls)


def export_paper_model(directory, compile_single):
    """The paper's MNIST architecture with random weights, as `nice-tf export` would save it."""
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    import tensorflow as tf

    import nice_tf
    from nice_tf.serving.signatures import FlowServer

    flow = nice_tf.build_flow([28, 28, 1], zero_last_layer=False)
    server = FlowServer(
        flow,
        levels=256,
        validation_log_probs=np.linspace(-1000.0, 3000.0, 10_000),
        compile_single=compile_single,
    )
    tf.saved_model.save(server, directory, signatures=server.signatures())


def main() -> None:
    """Measures in turn and prints the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--workdir", help="a finished run on 28x28 images with the paper's architecture"
    )
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=1.0, help="of each measurement in a round")
    parser.add_argument("--compile_single", action="store_true", help="as for nice-tf export")
    parser.add_argument("--json", help="file for every figure")
    arguments = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as directory:
        if arguments.workdir:
            from nice_tf.serving import export

            compile_single = arguments.compile_single
            export_dir = str(
                export.export_saved_model(
                    arguments.workdir, directory, compile_single=compile_single
                )
            )
        else:
            export_dir = os.path.join(directory, "1")
            exporter = context.Process(
                target=export_paper_model, args=(export_dir, arguments.compile_single)
            )
            exporter.start()
            exporter.join()
        contestants = {
            "nice_tf": (saved_model, (export_dir, (28, 28, 1))),
            "pytorch": (pytorch, (784, (1000,) * 5, 4)),
        }
        connections = {}
        for name, (target, args) in contestants.items():
            connections[name], theirs = context.Pipe()
            context.Process(target=target, args=(theirs, *args), daemon=True).start()
            assert connections[name].recv() == "ready"
        calls = {}
        for _ in range(arguments.rounds):
            for operation in OPERATIONS:
                for batch in BATCHES:
                    for name, connection in connections.items():
                        connection.send((operation, batch, arguments.seconds))
                        calls.setdefault((operation, batch, name), []).append(connection.recv())
        for connection in connections.values():
            connection.send(None)
    _report(calls, arguments.json)


def _report(calls, path):
    figures = {}
    print(f"{'':>18} {'examples/s':>21} {'p50 ms':>17} {'p99 ms':>17}   ratio of examples/s")
    print(
        f"{'':>18} {'nice_tf':>10} {'pytorch':>10} "
        + f"{'nice_tf':>8} {'pytorch':>8} " * 2
        + "  median (min to max) of rounds"
    )
    for operation in OPERATIONS:
        for batch in BATCHES:
            rounds = {name: calls[operation, batch, name] for name in ("nice_tf", "pytorch")}
            rates = {
                name: np.array([batch / np.mean(part) for part in parts])
                for name, parts in rounds.items()
            }
            ratio = rates["nice_tf"] / rates["pytorch"]
            p50, p99 = (
                {
                    name: 1e3 * np.quantile(np.concatenate(parts), q)
                    for name, parts in rounds.items()
                }
                for q in (0.5, 0.99)
            )
            medians = {name: float(np.median(rate)) for name, rate in rates.items()}
            print(
                f"{operation:>9} batch {batch:3d} {medians['nice_tf']:10.0f} "
                f"{medians['pytorch']:10.0f} {p50['nice_tf']:8.2f} {p50['pytorch']:8.2f} "
                f"{p99['nice_tf']:8.2f} {p99['pytorch']:8.2f}   {np.median(ratio):.2f} "
                f"({ratio.min():.2f} to {ratio.max():.2f})"
            )
            figures[f"{operation}_{batch}"] = {
                "examples_per_second": medians,
                "p50_ms": p50,
                "p99_ms": p99,
                "ratio": float(np.median(ratio)),
            }
    if path:
        with open(path, "w") as file:
            json.dump(figures, file, indent=2)


if __name__ == "__main__":
    main()
