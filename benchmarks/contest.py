"""What the benchmarks share: who takes part, each in a process of its own, measured in turn.

A contestant sleeps while another is measured, and rounds go over all of them, so that a change of the machine's speed
meets everybody. Read the ratios: each is the median over rounds of two rates of the same round.
"""

import argparse
import contextlib
import dataclasses
import importlib
import json
import math
import multiprocessing
import os
import platform
import resource
import sys
import time

import numpy as np

# The module and the class of each library; a module is imported in the contestant's own process
# only.
LIBRARIES = {
    "nice_tf": ("peers_tensorflow", "NiceTf"),
    "tfp": ("peers_tensorflow", "Tfp"),
    "torch": ("peers_torch", "Plain"),
    "normflows": ("peers_torch", "NormFlows"),
    "zuko": ("peers_torch", "Zuko"),
    "nflows": ("peers_torch", "NFlows"),
    "matmul_tf": ("peers_tensorflow", "Matmul"),
    "matmul_torch": ("peers_torch", "Matmul"),
}
PRECISIONS = ("float32", "bfloat16")
START_SECONDS = 900
LOAD = os.getloadavg()[0]  # of other programs, before this one starts


@dataclasses.dataclass(frozen=True)
class Architecture:
    """NICE: additive couplings, each with a ReLU network of `depth` hidden layers, then one scale
    for each value.
    """

    event_size: int = 784
    couplings: int = 4
    hidden: int = 1000
    depth: int = 5

    @property
    def half(self) -> int:
        """How many values a coupling passes on, and how many it shifts."""
        return self.event_size // 2

    @property
    def widths(self) -> list[int]:
        """Of the layers of each network m, input and output with them."""
        return [self.half, *[self.hidden] * self.depth, self.half]

    @property
    def num_parameters(self) -> int:
        """All that is trained."""
        network = sum(
            (fan_in + 1) * fan_out
            for fan_in, fan_out in zip(self.widths, self.widths[1:], strict=False)
        )
        return self.couplings * network + self.event_size

    def training_flops(self, batch: int) -> int:
        """Of the matrix products of one step: forward, and for the gradients of weights and of
        inputs but the data.
        """
        network = sum(
            fan_in * fan_out for fan_in, fan_out in zip(self.widths, self.widths[1:], strict=False)
        )
        return 2 * batch * (3 * self.couplings * network - self.widths[0] * self.widths[1])


@dataclasses.dataclass(frozen=True)
class Contestant:
    """Who is measured.

    Attributes:
      library: a key of `LIBRARIES`.
      precision: of the matrix products of m.
      compiled: by XLA, or by torch.compile and then with the fused Adam.
    """

    library: str
    precision: str = "float32"
    compiled: bool = False

    def __str__(self):
        return f"{self.library}-{self.precision}" + ("-compiled" if self.compiled else "")

    @classmethod
    def parse(cls, name: str) -> "Contestant":
        """The inverse of `str`, e.g. `torch-bfloat16-compiled`."""
        library, precision, *rest = name.split("-")
        if (
            library not in LIBRARIES
            or precision not in PRECISIONS
            or rest not in ([], ["compiled"])
        ):
            raise ValueError(
                f"a contestant is LIBRARY-PRECISION or LIBRARY-PRECISION-compiled, got {name!r}"
            )
        return cls(library, precision, bool(rest))


FLOWS = (
    *(
        Contestant("nice_tf", precision, compiled)
        for precision in PRECISIONS
        for compiled in (False, True)
    ),
    *(Contestant("tfp", precision) for precision in PRECISIONS),
    *(
        Contestant("torch", precision, compiled)
        for precision in PRECISIONS
        for compiled in (False, True)
    ),
    *(
        Contestant(library, precision)
        for library in ("normflows", "zuko", "nflows")
        for precision in PRECISIONS
    ),
)
OURS = tuple(flow for flow in FLOWS if flow.library == "nice_tf")
PEERS = tuple(flow for flow in FLOWS if flow.library != "nice_tf")
ROOFS = tuple(
    Contestant(library, precision)
    for library in ("matmul_tf", "matmul_torch")
    for precision in PRECISIONS
)


def parser(description: str) -> argparse.ArgumentParser:
    """The options that the benchmarks share."""
    options = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--rounds", type=int, default=7)
    options.add_argument(
        "--seconds", type=float, default=2.0, help="of each measurement in a round"
    )
    options.add_argument(
        "--only", help="contestants by commas, e.g. nice_tf-bfloat16,torch-float32-compiled"
    )
    options.add_argument("--json", help="file for every figure")
    add_architecture(options)
    return options


def add_architecture(options: argparse.ArgumentParser) -> None:
    """Adds the options that `architecture` reads."""
    for field in dataclasses.fields(Architecture):
        options.add_argument(f"--{field.name}", type=int, default=field.default)


def chosen(
    arguments: argparse.Namespace, contestants: tuple[Contestant, ...]
) -> tuple[Contestant, ...]:
    """Those of `--only`, or all."""
    return (
        tuple(map(Contestant.parse, arguments.only.split(","))) if arguments.only else contestants
    )


def architecture(arguments: argparse.Namespace) -> Architecture:
    """What the options describe."""
    if arguments.event_size % 2:
        sys.exit(
            "--event_size must be even, because some of the peers need equal halves, got "
            f"{arguments.event_size}"
        )
    return Architecture(
        **{field.name: getattr(arguments, field.name) for field in dataclasses.fields(Architecture)}
    )


def make(contestant: Contestant, shape: Architecture):
    """The contestant's model; called in its own process."""
    module, name = LIBRARIES[contestant.library]
    return getattr(importlib.import_module(module), name)(contestant, shape)


@contextlib.contextmanager
def _silence():
    """Drops what C++ libraries write to standard error while they start."""
    original = os.dup(2)
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(original, 2)
        os.close(original)


def _work(connection, contestant, prepare, args):
    """Answers (key, seconds) with calls per second, and `None` with the peak of the resident memory
    in MB.
    """
    try:
        with _silence():
            calls = prepare(contestant, *args)
            for call in calls.values():
                call()
    except Exception as error:  # A peer that cannot run here is left out; its reason is shown.
        connection.send(f"{type(error).__name__}: {error}".splitlines()[0])
        return
    connection.send(None)
    for key, seconds in iter(connection.recv, None):
        call, count, result = calls[key], 0, calls[key]()
        start = time.perf_counter()
        while (elapsed := time.perf_counter() - start) < seconds or count < 3:
            result, count = call(), count + 1
        if not math.isfinite(float(result)):  # also waits for a device that runs behind
            raise FloatingPointError(f"{contestant} {key}: {float(result)}")
        connection.send(count / elapsed)
    unit = 1 if sys.platform == "darwin" else 1024
    connection.send(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6)


def hold(contestants, prepare, args, keys, *, rounds: int, seconds: float) -> dict[str, dict]:
    """Measures all contestants in turn.

    Args:
      contestants: who takes part.
      prepare: a function of a module, `(contestant, *args)` to one call for each key; a call
        returns a number.
      args: of `prepare`.
      keys: what is measured.
      rounds: how often.
      seconds: of one measurement.

    Returns:
      By the contestant's name: `skipped`, the reason; or `start_s` (from no process to the end of
      the first call of each key), `peak_rss_mb`, and `rates`, by key the calls per second of each
      round.
    """
    load = os.getloadavg()[0]
    if load > 0.5:
        print(
            f"warning: other programs keep {load:.1f} cores busy; this slows PyTorch, whose "
            "threads wait for each other"
        )
    context = multiprocessing.get_context("spawn")
    results, connections = {}, {}
    for contestant in contestants:
        start = time.perf_counter()
        connection, theirs = context.Pipe()
        process = context.Process(
            target=_work, args=(theirs, contestant, prepare, args), daemon=True
        )
        process.start()
        theirs.close()
        try:
            skipped = (
                connection.recv()
                if connection.poll(START_SECONDS)
                else f"not ready after {START_SECONDS} s"
            )
        except EOFError:
            skipped = "its process ended"
        if skipped:
            process.kill()
            print(f"skipped {contestant}: {skipped}", flush=True)
            results[str(contestant)] = {"skipped": skipped}
            continue
        connections[str(contestant)] = connection
        results[str(contestant)] = {
            "start_s": time.perf_counter() - start,
            "rates": {key: [] for key in keys},
        }
    for _ in range(rounds):
        for key in keys:
            for name, connection in connections.items():
                connection.send((key, seconds))
                results[name]["rates"][key].append(connection.recv())
    for name, connection in connections.items():
        connection.send(None)
        results[name]["peak_rss_mb"] = connection.recv()
    return results


def fastest(results: dict, contestants, key: str) -> str | None:
    """The name of the one with the most calls per second; `None` where none was measured."""
    names = [
        str(contestant) for contestant in contestants if "rates" in results.get(str(contestant), {})
    ]
    return max(names, key=lambda name: np.median(results[name]["rates"][key]), default=None)


def ratio(results: dict, ours, others, key: str) -> tuple[float | None, str | None, str | None]:
    """How many times the fastest of the others the fastest of ours is, and which they are."""
    one, other = fastest(results, ours, key), fastest(results, others, key)
    if not one or not other:
        return None, one, other
    return (
        float(np.median(np.divide(results[one]["rates"][key], results[other]["rates"][key]))),
        one,
        other,
    )


def write_json(path: str | None, arguments: argparse.Namespace, **figures) -> None:
    """Writes all figures with the machine and the options that made them."""
    machine = {"platform": platform.platform(), "cores": os.cpu_count(), "load_before": LOAD}
    if path:
        with open(path, "w") as file:
            json.dump({"machine": machine, "options": vars(arguments), **figures}, file, indent=2)
            file.write("\n")
