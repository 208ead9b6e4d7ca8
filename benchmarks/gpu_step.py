"""Our training step on a GPU of a machine without TensorFlow, beside PyTorch and beside what the card can do.

    python benchmarks/gpu_step.py --export=DIR    # where TensorFlow and this package are, no GPU needed
    python benchmarks/gpu_step.py --run=DIR       # where JAX, PyTorch and a GPU are

`--export` writes the step that XLA compiles for `nice-tf train` (paper's MNIST architecture unless said) as HLO, some MB in
all. `--run` compiles it, as StableHLO, by JAX's PJRT client, checks the first steps against the log-likelihoods that
TensorFlow had, and times it in turn with the same network in PyTorch: eager, and by torch.compile with CUDA graphs and
the fused Adam. float32 products may use TF32, in all of them. Without a GPU it runs on the CPU, as a trial.

The floor of a step is the longer of two times: its matrix products at the measured rate of a large one, and reading and
writing weights and both moments once (24 bytes each) at the measured rate of a copy.
"""

import argparse
import collections
import itertools
import json
import pathlib
import re
import statistics
import sys
import tempfile
import time

import contest
import exported_step

BATCHES = (200, 1000)
# Steps in one call: a loop inside the compiled module pays for the call from Python once.
STEPS_PER_CALL = (1, 20)
# Of another TensorFlow and another machine's products, relative.
TOLERANCES = {"float32": 1e-3, "bfloat16": 1e-2}


def export(folder: pathlib.Path, shape: contest.Architecture) -> None:
    """Writes the steps into a new folder.

    Raises:
      FileExistsError: it is there already.
    """
    import tensorflow as tf

    from nice_tf.config import Config
    from nice_tf.data.dataset import Data
    from nice_tf.training.model import make_model

    folder.mkdir(parents=True)
    steps = []
    choices = itertools.product(BATCHES, contest.PRECISIONS, STEPS_PER_CALL)
    for batch, precision, steps_per_call in choices:
        values = exported_step.random_batch([batch, shape.event_size])
        config = Config(
            num_couplings=shape.couplings,
            hidden_units=(shape.hidden,) * shape.depth,
            precision=precision,
            batch_size=batch,
            jit_compile="true",
        )
        data = Data("random", train=values, validation=values, test=values, levels=256)
        model = make_model(config, data)
        name = f"{precision}_{batch}"
        call = model.train_step
        if steps_per_call > 1:
            name = f"{name}_loop"
            values = exported_step.random_batch([steps_per_call, batch, shape.event_size])
            call = _loop(model, steps_per_call)
        step = tf.function(call, jit_compile=True)
        kernels = [v for v in model.flow.trainable_variables if v.shape.rank == 2]
        about = {
            "precision": precision,
            "batch": batch,
            "steps_per_call": steps_per_call,
            "tensorflow": tf.__version__,
        }
        steps.append(exported_step.write(folder, name, step, tf.constant(values), kernels, about))
        print(f"{name}: log-likelihood {steps[-1]['expected']}", flush=True)
    content = {"version": exported_step.VERSION, "architecture": vars(shape), "steps": steps}
    (folder / exported_step.DESCRIPTION).write_text(json.dumps(content, indent=1))


def _loop(model, num_steps):
    """Several steps as one call, on batches `[num_steps, batch, D]`."""
    import tensorflow as tf

    def steps(batches):
        figures = model.train_step(batches[0])
        for i in tf.range(1, num_steps):
            figures = model.train_step(batches[i])
        return figures

    return steps


def _check(step, description):
    """Raises where the first steps differ from TensorFlow's."""
    for number, expected in enumerate(description["expected"], start=1):
        value = float(step())
        tolerance = TOLERANCES[description["precision"]] * abs(expected)
        if description["steps_per_call"] > 1:
            tolerance *= 5  # by then rounding has gone through dozens of steps
        print(f"{description['name']} step {number}: {value:.3f}, TensorFlow {expected:.3f}")
        if not abs(value - expected) <= tolerance:
            raise exported_step.FormatError(
                f"{description['name']}: step {number} came to {value}, TensorFlow had {expected}, "
                f"more than {tolerance:.3g} apart"
            )


def _torch_steps(shape, description, device):
    """The same network in PyTorch, by name; those that cannot run here are named and left out."""
    import peers_torch

    values = exported_step.random_batch([10 * description["batch"], shape.event_size])
    steps = {}
    for compiled in (False, True):
        contestant = contest.Contestant("torch", description["precision"], compiled)
        try:
            peer = peers_torch.Plain(contestant, shape, device=device)
            step = peer.training_step(values, description["batch"])
            float(step())
        except Exception as error:
            print(f"skipped {contestant}: {type(error).__name__}: {error}")
            continue
        steps["torch compiled" if compiled else "torch eager"] = step
    return steps


def _ceilings(device):
    """Measured FLOP/s of a large product by precision, and bytes per second of a large copy."""
    import torch

    size = 8192
    if device == "cpu":
        size = 1024
    rates = {}
    for precision in contest.PRECISIONS:
        a = torch.randn(size, size, device=device, dtype=getattr(torch, precision))
        seconds = _seconds(lambda a=a: a @ a, device)
        rates[precision] = 2 * size**3 / seconds
    source = torch.randn(size, size, device=device)
    target = torch.empty_like(source)
    seconds = _seconds(lambda: target.copy_(source), device)
    return rates, 2 * source.numel() * source.element_size() / seconds


def _seconds(call, device, repeats=20):
    """Median seconds of a PyTorch call."""
    import torch

    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        if device == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return statistics.median(times[repeats // 4 :])


def _block(step, steps_per_call, count):
    """Seconds per step over a block of steps; the number at its end waits for the device."""
    num_calls = max(1, count // steps_per_call)
    start = time.perf_counter()
    for _ in range(num_calls):
        result = step()
    float(result)
    return (time.perf_counter() - start) / (num_calls * steps_per_call)


def _measure(steps, rounds, count):
    """Seconds per step of each round, by name, measured in turn.

    Args:
      steps: by name, what makes a call and how many steps that is.
      rounds: how often each is measured.
      count: steps of one measurement.
    """
    for step, steps_per_call in steps.values():
        _block(step, steps_per_call, min(count, 20))
    times = {name: [] for name in steps}
    for _ in range(rounds):
        for name, (step, steps_per_call) in steps.items():
            times[name].append(_block(step, steps_per_call, count))
    return times


def _profile(step, steps_per_call, kernels):
    """What the device did in a few calls, from JAX's profiler.

    Args:
      step: what makes a call.
      steps_per_call: how many steps that is.
      kernels: how many of the longest to name.

    Returns:
      Per step: `busy`, seconds in which a kernel ran, `kernels`, how many ran, and `longest`, pairs
      of a kernel's name and its seconds.
    """
    import jax

    calls = 5
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            for _ in range(calls):
                result = step()
            float(result)
        (file,) = pathlib.Path(folder).rglob("*.xplane.pb")
        planes = jax.profiler.ProfileData.from_file(str(file)).planes
        seconds = collections.Counter()
        number = 0
        for plane in planes:
            if not plane.name.startswith("/device:GPU"):
                continue
            for line in plane.lines:
                if not line.name.startswith("Stream"):
                    continue
                for event in line.events:
                    seconds[event.name] += event.duration_ns / 1e9
                    number += 1
    num_steps = calls * steps_per_call
    longest = [(name, total / num_steps) for name, total in seconds.most_common(kernels)]
    return {
        "busy": sum(seconds.values()) / num_steps,
        "kernels": number / num_steps,
        "longest": longest,
    }


def run(
    folder: pathlib.Path, rounds: int, count: int, *, names: str = "", peers: bool = True
) -> dict:
    """Checks and times the steps of a folder; prints the table.

    Args:
      folder: of `export`.
      rounds: of the measurements in turn.
      count: steps of one measurement.
      names: a regular expression; only steps whose names have it. Empty for all.
      peers: whether PyTorch takes part.

    Raises:
      FormatError: as for `exported_step.read` and `JaxStep`, or the first steps differ.
    """
    content = exported_step.read(folder)
    import torch

    shape = contest.Architecture(**content["architecture"])
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.set_float32_matmul_precision("high")
    rates, bandwidth = _ceilings(device)
    name = "CPU"
    if device == "cuda":
        name = torch.cuda.get_device_name()
    text = ", ".join(f"{rate / 1e12:.1f} ({precision})" for precision, rate in rates.items())
    print(f"{name}: products {text} TFLOP/s, copy {bandwidth / 1e12:.2f} TB/s", flush=True)
    figures = {
        "device": name,
        "torch": torch.__version__,
        "rates": rates,
        "bandwidth": bandwidth,
        "steps": [],
    }
    chosen = [step for step in content["steps"] if re.search(names, step["name"])]
    for (precision, batch), descriptions in _by_setting(chosen).items():
        steps = {}
        profiles = {}
        for description in descriptions:
            ours = exported_step.JaxStep(folder, description)
            _check(ours, description)
            name = f"nice_tf, {description['steps_per_call']} per call"
            steps[name] = (ours, description["steps_per_call"])
        if peers:
            for name, step in _torch_steps(shape, descriptions[0], device).items():
                steps[name] = (step, 1)
        times = _measure(steps, rounds, count)
        for name, (step, steps_per_call) in steps.items():
            if isinstance(step, exported_step.JaxStep):
                profiles[name] = _profile(step, steps_per_call, kernels=12)
        floor = max(
            shape.training_flops(batch) / rates[precision], 24 * shape.num_parameters / bandwidth
        )
        figures["steps"].append(
            {"name": f"{precision}_{batch}", "floor": floor, "times": times, "profiles": profiles}
        )
        _print_step(figures["steps"][-1])
        del ours, steps
    return figures


def _by_setting(descriptions):
    """Descriptions of steps by precision and batch."""
    found = {}
    for description in descriptions:
        key = (description["precision"], description["batch"])
        found.setdefault(key, []).append(description)
    return found


def _print_step(step):
    print(f"{step['name']:>20} {'ms':>8} {'lowest':>8} {'highest':>8} {'share of the floor':>19}")
    print(f"{'floor':>20} {1e3 * step['floor']:8.3f}")
    for name, times in step["times"].items():
        median = statistics.median(times)
        print(
            f"{name:>20} {1e3 * median:8.3f} {1e3 * min(times):8.3f} {1e3 * max(times):8.3f} "
            f"{step['floor'] / median:19.0%}"
        )
    for name, profile in step["profiles"].items():
        print(
            f"{name:>20}: {profile['kernels']:.0f} kernels per step, {1e3 * profile['busy']:.3f} ms"
        )
        for kernel, seconds in profile["longest"]:
            print(f"{1e6 * seconds:29.1f} us {kernel[:90]}")
    sys.stdout.flush()


def main() -> None:
    """Exports or runs."""
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    task = options.add_mutually_exclusive_group(required=True)
    task.add_argument("--export", type=pathlib.Path, metavar="DIR", help="write the steps")
    task.add_argument("--run", type=pathlib.Path, metavar="DIR", help="check and time them")
    options.add_argument("--rounds", type=int, default=7)
    options.add_argument("--steps", type=int, default=100, help="of each measurement in a round")
    options.add_argument("--names", default="", help="regular expression: only these steps")
    options.add_argument(
        "--peers", action=argparse.BooleanOptionalAction, default=True, help="PyTorch beside it"
    )
    options.add_argument("--json", type=pathlib.Path, help="file for every figure of --run")
    contest.add_architecture(options)
    arguments = options.parse_args()
    if arguments.export:
        try:
            export(arguments.export, contest.architecture(arguments))
        except FileExistsError:
            sys.exit(f"error: {arguments.export} is there already: give a new folder")
        return
    try:
        figures = run(
            arguments.run,
            arguments.rounds,
            arguments.steps,
            names=arguments.names,
            peers=arguments.peers,
        )
    except (exported_step.FormatError, OSError) as error:
        sys.exit(f"error: {error}")
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
