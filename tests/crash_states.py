"""Every state of a folder that a kill can leave, and whether the same command goes on from each.

A command runs under `crash_recorder.c`, which stops it after each call that changes its folder;
each new state of the folder is copied. The command is then started again in every copy and must end
as the uninterrupted one did.

python tests/crash_states.py            all states of all commands, some minutes; `make crash-test`
python tests/crash_states.py --number=20 --seed=1 train      so many states, drawn at random
"""

import argparse
import collections
import contextlib
import hashlib
import json
import multiprocessing
import os
import pathlib
import random
import shutil
import subprocess
import sys
import tempfile
import traceback
from unittest import mock

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")  # as the commands

import numpy as np

HERE = pathlib.Path(__file__).parent
SETTINGS = {
    "num_couplings": 3,
    "hidden_units": (8,),
    "epochs": 3,
    "batch_size": 50,
    "num_draws": 2,
    "sample_every_epochs": 2,
    "precision": "float32",
    "deterministic": True,
    "learning_rate": 0.01,
}
ROWS = 250


# What the commands do, each with the inputs that `make_inputs` left and in a folder of its own.


def make_inputs(inputs):
    """A table with a missing cell, small pictures, and a finished run of the table."""
    generator = np.random.default_rng(0)
    table = np.round(generator.normal(size=[ROWS, 3]) @ [[1, 0.5, 0], [0, 1, 0.5], [0, 0, 1]], 2)
    lines = [",".join(map(str, row)) for row in table]
    (inputs / "table.csv").write_text("\n".join(["a,b,c", *lines]) + "\n")
    lines[7] = "," + lines[7].split(",", 1)[1]
    (inputs / "missing.csv").write_text("\n".join(["a,b,c", *lines]) + "\n")
    np.save(inputs / "pictures.npy", generator.integers(0, 17, [120, 4, 4, 1]).astype(np.uint8))
    train_table(inputs, inputs)


def train_table(inputs, folder):
    """Trains on the table; with marginals, which bring the calibration of ranks."""
    from nice_tf import Config, train_and_evaluate

    config = Config(dataset=str(inputs / "table.csv"), marginals="quantile", **SETTINGS)
    train_and_evaluate(config, folder / "run")


def train_pictures(inputs, folder):
    """Trains on the pictures, which are drawn on the way."""
    from nice_tf import Config, train_and_evaluate

    train_and_evaluate(
        Config(dataset=str(inputs / "pictures.npy"), levels=17, **SETTINGS), folder / "run"
    )


def score(inputs, folder, **options):
    """Scores the table in small parts."""
    from nice_tf.scoring import files as files_lib
    from nice_tf.scoring import scorer as answers

    with mock.patch.object(answers, "rows_at_once", return_value=60):
        files_lib.score_file(
            str(inputs / "run"), str(inputs / "table.csv"), str(folder / "scores.csv"), **options
        )


def impute(inputs, folder, **options):
    """Fills the missing cell, in small parts."""
    from nice_tf.scoring import files as files_lib

    with mock.patch.object(files_lib, "rows_at_once", return_value=60):
        files_lib.fill_file(
            str(inputs / "run"), str(inputs / "missing.csv"), str(folder / "filled.csv"), **options
        )


def sample(inputs, folder, **options):
    """Draws rows of a table in small parts."""
    from nice_tf.scoring import files as files_lib
    from nice_tf.scoring import scorer as answers

    with mock.patch.object(answers, "VALUES_A_CALL", 180):
        files_lib.sample_file(
            str(inputs / "run"), str(folder / "rows.parquet"), num_samples=200, **options
        )


def sample_array(inputs, folder, **options):
    """Draws an array."""
    from nice_tf.scoring import files as files_lib
    from nice_tf.scoring import scorer as answers

    with mock.patch.object(answers, "VALUES_A_CALL", 180):
        files_lib.sample_file(
            str(inputs / "run"), str(folder / "rows.npz"), num_samples=200, **options
        )


def export(inputs, folder):
    """Exports the run."""
    from nice_tf.serving import export as export_lib

    export_lib.export_saved_model(inputs / "run", folder / "export", inpaint_steps=2)


def export_run(inputs, folder):
    """Exports the run that is in the folder itself."""
    from nice_tf.serving import export as export_lib

    export_lib.export_saved_model(folder / "run", folder / "export", inpaint_steps=2)


# What must be the same in the end, by name; what may differ from run to run, as times, is left out.


def trained(folder):
    """Settings, results, samples and the values of the checkpoints of a run."""
    import tensorflow as tf

    from nice_tf.runs import checkpoints
    from nice_tf.runs.workdir import Workdir

    run = Workdir(folder / "run")
    found = {
        "config": run.read_config()[0],
        "evaluation": run.finished_evaluation(),
        "left": unfinished(folder),
    }
    found["metrics"] = [{**row, "seconds": None} for row in run.read_metrics()]
    for path in [run.calibration, *run.path.glob("samples*"), *run.samples.iterdir()]:
        if path.is_file():
            found[path.name] = path.read_bytes()
    for directory in (run.last, run.best):
        found[directory.name] = sorted(path.name for path in directory.iterdir())
        for path in checkpoints.complete(directory):
            reader = tf.train.load_checkpoint(path)
            names = [
                name
                for name in reader.get_variable_to_shape_map()
                if not name.startswith(("_", "history"))
            ]
            values = b"".join(
                np.ascontiguousarray(reader.get_tensor(name)).tobytes() for name in sorted(names)
            )
            found[f"{directory.name} {pathlib.Path(path).name}"] = hashlib.sha256(
                values
            ).hexdigest()
    return found


def written(folder):
    """The files that a command was to write."""
    content = {}
    for path in sorted(folder.iterdir()):
        if path.suffix == ".npz":
            content[path.name] = np.load(path)["x"].tobytes()
        elif not path.name.startswith("."):
            content[path.name] = path.read_bytes()
    return content | {"left": unfinished(folder)}


def exported(folder):
    """The answers of all versions, which must be alike, and the server's files."""
    from nice_tf.serving import warmup

    directory = folder / "export"
    versions = [path for path in directory.iterdir() if path.name.isdigit()]
    answers = {repr(_sorted(warmup.replay_warmup(version))) for version in versions}
    files = {path.name: path.read_bytes() for path in directory.iterdir() if path.is_file()}
    names = {str(path.relative_to(version)) for version in versions for path in version.rglob("*")}
    return {"answers": answers, "files": files, "names": names, "left": unfinished(directory)}


def _sorted(answers):
    return [(signature, sorted(outputs.items())) for signature, outputs in sorted(answers.items())]


def unfinished(folder):
    """What only a run that is going on may have."""
    patterns = ("*.tmp", ".*.parts*", ".unfinished-*", "unfinished", "*_temp*")
    return sorted(
        str(path.relative_to(folder)) for pattern in patterns for path in folder.rglob(pattern)
    )


COMMANDS = {
    "train": (train_table, trained),
    "train_pictures": (train_pictures, trained),
    "score": (score, written),
    "impute": (impute, written),
    "sample": (sample, written),
    "sample_array": (sample_array, written),
    "export": (export, exported),
    "export_run": (export_run, exported),
}
RECORDED = ("train", "train_pictures", "score", "impute", "sample", "sample_array", "export")


def compile_recorder(folder):
    """The library to preload; `None` where there is no C compiler."""
    library = folder / "crash_recorder.so"
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        return None
    source = HERE / "crash_recorder.c"
    subprocess.run(
        [compiler, "-shared", "-fPIC", "-O1", "-o", library, source, "-ldl", "-lpthread"],
        check=True,
    )
    return library


def record(name, inputs, folder, states, library):
    """Runs a command under the recorder.

    Args:
      name: of `COMMANDS`.
      inputs: of `make_inputs`.
      folder: where the command writes; empty.
      states: where the states are copied to, a folder each.
      library: of `compile_recorder`.

    Returns:
      Paths of the distinct states in order, and after how many changes there was a new one.
    """
    notified, notify = os.pipe()
    awaited, go = os.pipe()
    environment = os.environ | {
        "LD_PRELOAD": str(library),
        "CRASH_FOLDER": str(folder),
        "CRASH_NOTIFY": str(notify),
        "CRASH_GO": str(awaited),
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "TF_USE_LEGACY_KERAS": "1",
    }
    command = [sys.executable, __file__, "--inputs", inputs, "--folder", folder, "--run", name]
    with open(states / "log", "wb") as log:
        process = subprocess.Popen(
            command,
            env=environment,
            pass_fds=(notify, awaited),
            stdout=log,
            stderr=log,
            cwd=HERE.parent,
        )
        os.close(notify)
        os.close(awaited)
        seen, paths, number = set(), [], 0
        while os.read(notified, 1):
            number += 1
            digest = _digest(folder)
            if digest not in seen:
                seen.add(digest)
                paths.append(states / f"{len(paths):04d}")
                shutil.copytree(folder, paths[-1], symlinks=True)
            os.write(go, b"1")
        os.close(notified)
        os.close(go)
    if process.wait():
        raise RuntimeError(f"{name} failed under the recorder:\n{(states / 'log').read_text()}")
    return paths, number


def _digest(folder):
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        digest.update(str(path.relative_to(folder)).encode() + b"\0")
        if path.is_file():
            content = path.read_bytes()
            digest.update(len(content).to_bytes(8, "little") + content)
    return digest.digest()


def resume(name, inputs, state, expected):
    """Starts a command again in a copy of a state.

    Returns:
      What is wrong; empty if all ends as without an interruption.
    """
    from nice_tf.errors import UserError

    run, found = COMMANDS[name]
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary) / "folder"
        shutil.copytree(state, folder, symlinks=True)
        try:
            try:
                run(inputs, folder)
            except UserError as error:
                if "is there already" not in str(error):
                    raise
                if {**found(folder), "left": []} != {**expected, "left": []}:
                    return "an output that is there is not the whole one"
                # What is left of the parts must not be taken for all.
                run(inputs, folder, overwrite=True)
            ended = found(folder)
        except Exception:
            return traceback.format_exc()
        different = [key for key in {**expected, **ended} if expected.get(key) != ended.get(key)]
        return (
            f"other than without an interruption: {', '.join(map(str, different))}"
            if different
            else ""
        )


def quieten():
    """One thread per operation, so that all processes round alike, and nothing said but errors."""
    import tensorflow as tf

    tf.get_logger().setLevel("ERROR")
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(2)


def _resume(arguments):
    name, inputs, state, expected = arguments
    return state, resume(name, inputs, state, expected)


def check(name, *, inputs, scratch, library, number=None, seed=0, processes=2):
    """Records a command and starts it again from its states.

    Args:
      name: of `COMMANDS`.
      inputs: of `make_inputs`.
      scratch: an empty folder.
      library: of `compile_recorder`.
      number: of states to try, drawn at random with the first and the last; all if `None`.
      seed: of the draw.
      processes: that try them.

    Returns:
      Counts by name, and the states that are broken with what is wrong.
    """
    folder, states = scratch / "folder", scratch / "states"
    folder.mkdir()
    states.mkdir()
    found, num_changes = record(name, inputs, folder, states, library)
    expected = COMMANDS[name][1](folder)
    tried = found
    if number is not None and number < len(found):
        middle = random.Random(seed).sample(found[1:-1], max(0, number - 2))
        tried = [found[0], *sorted(middle), found[-1]]
    arguments = [(name, inputs, state, expected) for state in tried]
    if processes == 1:
        results = list(map(_resume, arguments))
    else:
        context = multiprocessing.get_context("spawn")
        # TensorFlow keeps what each run has compiled: a process that makes all of them would fill
        # the memory.
        with context.Pool(processes, quieten, maxtasksperchild=20) as pool:
            results = list(pool.imap_unordered(_resume, arguments))
    broken = {str(state): wrong for state, wrong in results if wrong}
    counts = {
        "changes": num_changes,
        "states": len(found),
        "tried": len(tried),
        "broken": len(broken),
    }
    return counts, broken


def main():
    """Runs the commands that are named, or all, and says what is broken."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "commands", nargs="*", help=f"of {', '.join(RECORDED)}; all if none is given"
    )
    parser.add_argument("--number", type=int, help="states to try of each; all if not given")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--keep", type=pathlib.Path, help="folder for the states, which are else deleted"
    )
    for internal in ("--inputs", "--folder", "--run"):
        parser.add_argument(internal, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    quieten()
    if arguments.run:  # under the recorder
        COMMANDS[arguments.run][0](pathlib.Path(arguments.inputs), pathlib.Path(arguments.folder))
        return
    totals = collections.Counter()
    with contextlib.ExitStack() as stack:
        scratch = arguments.keep or pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory()))
        scratch.mkdir(parents=True, exist_ok=True)
        library = compile_recorder(scratch)
        if library is None:
            sys.exit("a C compiler is needed: cc or gcc")
        inputs = scratch / "inputs"
        inputs.mkdir()
        make_inputs(inputs)
        for name in arguments.commands or RECORDED:
            (scratch / name).mkdir()
            counts, broken = check(
                name,
                inputs=inputs,
                scratch=scratch / name,
                library=library,
                number=arguments.number,
                seed=arguments.seed,
            )
            totals.update(counts)
            print(name, json.dumps(counts), flush=True)
            for state, wrong in broken.items():
                print(f"  {state}: {wrong}", flush=True)
    print("all", json.dumps(totals))
    sys.exit(1 if totals["broken"] else 0)


if __name__ == "__main__":
    main()
