"""Commands of the repository, in a process of their own or in the test's, and how long they may take."""

import contextlib
import io
import logging
import os
import pathlib
import runpy
import signal
import subprocess
import sys
import traceback
import warnings

from absl import flags
from absl.testing import flagsaver
from tensorflow.python.framework import config as tensorflow_config

from nice_tf.cli import command

ROOT = pathlib.Path(__file__).parents[1]


def time_limit(seconds=600):
    """What ends a test that hangs, far above what it needs. On a slow or busy machine
    NICE_TF_TIMEOUT_SCALE=3 makes all of them three times as long.
    """
    return seconds * float(os.environ.get("NICE_TF_TIMEOUT_SCALE", "1"))


def run_command(*arguments, cwd=ROOT):
    """Runs Python with these arguments as a user would and returns the finished process."""
    environment = {key: value for key, value in os.environ.items() if key != "TF_CPP_MIN_LOG_LEVEL"}
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=time_limit(),
        stdin=subprocess.DEVNULL,
    )


def run_here(*arguments, cwd=ROOT):
    """As `run_command`, but in this process, in which TensorFlow is imported already: 4 s less.

    What the command says through `sys.stdout` and `sys.stderr` is caught, what C++ writes is not.
    """
    arguments = [str(argument) for argument in arguments]
    stdout = io.StringIO()
    stderr = io.StringIO()
    with (
        contextlib.redirect_stdout(stdout),
        contextlib.redirect_stderr(stderr),
        _working_in(cwd),
        _as_before(),
        _flags_of_its_own(),
    ):
        status = _status(arguments)
    return subprocess.CompletedProcess(arguments, status, stdout.getvalue(), stderr.getvalue())


def _status(arguments):
    """Runs the program and says with which status Python would end."""
    try:
        _run(arguments)
    except SystemExit as error:
        if error.code is None or isinstance(error.code, int):
            return error.code or 0
        print(error.code, file=sys.stderr)
        return 1
    except Exception:
        traceback.print_exc()
        return 1
    return 0


def _run(arguments):
    """What `python ARGUMENTS` does, after its start."""
    if arguments[0] == "-m":
        sys.argv = arguments[1:]
        runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
    elif arguments[0] == "-c":
        sys.argv = ["-c", *arguments[2:]]
        exec(compile(arguments[1], "<string>", "exec"), {"__name__": "__main__"})
    else:
        sys.argv = arguments
        sys.path.insert(0, str(pathlib.Path(arguments[0]).resolve().parent))
        runpy.run_path(arguments[0], run_name="__main__")


@contextlib.contextmanager
def _working_in(folder):
    """`contextlib.chdir`, which Python 3.10 lacks."""
    before = os.getcwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


@contextlib.contextmanager
def _as_before():
    """Puts back what a program may change for good, as its process ends with it."""
    argv = sys.argv
    path = list(sys.path)
    environment = dict(os.environ)
    is_deterministic = tensorflow_config.is_op_determinism_enabled()
    log_handlers = list(logging.getLogger().handlers)
    handlers = {
        number: signal.getsignal(number)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)
    }
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)  # as Python does by itself
            yield
    finally:
        sys.argv = argv
        sys.path[:] = path
        os.environ.clear()
        os.environ.update(environment)
        logging.getLogger().handlers[:] = log_handlers
        if not is_deterministic:
            tensorflow_config.disable_op_determinism()
        for number, handler in handlers.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _flags_of_its_own():
    """Takes the flags that a program defines away from absl again; those of libraries, which are
    imported once, stay.
    """
    before = set(flags.FLAGS)
    saved = flagsaver.save_flag_values(flags.FLAGS)
    defined = []
    run = command.run

    def noted(*arguments, **options):
        defined.append(set(flags.FLAGS) - before)
        run(*arguments, **options)

    command.run = noted
    try:
        yield
    finally:
        command.run = run
        own = defined[0] if defined else set(flags.FLAGS) - before
        for name in own:
            delattr(flags.FLAGS, name)
        later = {name: flags.FLAGS[name].__dict__.copy() for name in set(flags.FLAGS) - before}
        flagsaver.restore_flag_values({**saved, **later}, flags.FLAGS)
