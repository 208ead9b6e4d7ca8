"""Two processes on one folder at the same time: one of them works, or both do one after the other;
never a mixture.

python tests/process_pairs.py --number=20      so many pairs of each kind; part of `make crash-test`
"""

import argparse
import json
import os
import pathlib
import random
import subprocess
import sys
import tempfile
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")  # as the commands

import crash_states

# Commands of `crash_states`: the first and the second process, and whether the folder starts with a
# finished run.
PAIRS = {
    "train/train": ("train", "train", False),
    "train/export": ("train", "export_run", True),
    "score/score": ("score", "score", False),
    "sample/sample": ("sample", "sample", False),
}


def start(command, inputs, folder):
    """Starts a command as a process of its own."""
    arguments = [crash_states.__file__, "--inputs", inputs, "--folder", folder, "--run", command]
    return subprocess.Popen(
        [sys.executable, *map(str, arguments)],
        cwd=crash_states.HERE.parent,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def check(pair, *, inputs, expected, delay):
    """Runs a pair.

    Args:
      pair: of `PAIRS`.
      inputs: of `crash_states.make_inputs`.
      expected: what a lone process leaves, by command.
      delay: seconds by which the second process starts later.

    Returns:
      How many of the two worked, and what is wrong; empty if nothing is.
    """
    first, second, is_finished = PAIRS[pair]
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary)
        if is_finished:
            crash_states.shutil.copytree(inputs / "run", folder / "run")
        processes = [start(first, inputs, folder)]
        time.sleep(delay)
        processes.append(start(second, inputs, folder))
        said = [process.communicate()[0] for process in processes]
        worked = [process.returncode == 0 for process in processes]
        wrong = []
        for text, is_done in zip(said, worked, strict=True):
            if not is_done and not any(
                rule in text for rule in ("is in use by", "is there already")
            ):
                wrong.append(f"refused for another reason: {text[-2000:]}")
        if not any(worked):
            wrong.append("neither worked")
        for command, is_done in zip((first, second), worked, strict=True):
            if is_done and crash_states.COMMANDS[command][1](folder) != expected[command]:
                wrong.append(f"{command} left something else than alone")
        return sum(worked), wrong


def expect(inputs, scratch):
    """What each command leaves if it is alone."""
    expected = {}
    for command in {name for first, second, _ in PAIRS.values() for name in (first, second)}:
        folder = scratch / f"alone-{command}"
        folder.mkdir()
        run, found = crash_states.COMMANDS[command]
        if command == "export_run":
            crash_states.shutil.copytree(inputs / "run", folder / "run")
        run(inputs, folder)
        expected[command] = found(folder)
    return expected


def main():
    """Runs so many pairs of each kind and says what is wrong."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--number", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    crash_states.quieten()
    generator, num_wrong = random.Random(arguments.seed), 0
    with tempfile.TemporaryDirectory() as temporary:
        inputs = pathlib.Path(temporary) / "inputs"
        inputs.mkdir()
        crash_states.make_inputs(inputs)
        expected = expect(inputs, pathlib.Path(temporary))
        for pair in PAIRS:
            counts = {"pairs": arguments.number, "one worked": 0, "both worked": 0, "wrong": 0}
            for _ in range(arguments.number):
                num_worked, wrong = check(
                    pair, inputs=inputs, expected=expected, delay=generator.uniform(0, 0.5)
                )
                counts["both worked" if num_worked == 2 else "one worked"] += 1
                counts["wrong"] += bool(wrong)
                for line in wrong:
                    print(f"  {pair}: {line}", flush=True)
            print(pair, json.dumps(counts), flush=True)
            num_wrong += counts["wrong"]
    sys.exit(1 if num_wrong else 0)


if __name__ == "__main__":
    main()
