"""A command in the test's own process ends as in a process of its own; `test_commands.py` has the
smoke run in both.
"""

import logging
import os
import signal
import sys

import pytest
from absl import flags
from processes import ROOT
from tensorflow.python.framework import config as tensorflow_config


@pytest.mark.parametrize(
    "arguments",
    [
        ("train.py", "--epochs=0"),
        ("train.py", "--no_such=1"),
        ("-m", "nice_tf.apps.score"),
        ("-c", "import sys; print(sys.argv[1:]); sys.exit(3)", "a", "--b"),
        ("-c", "raise ValueError('no')"),
    ],
)
def test_an_end_that_is_no_success_is_the_same(run_command, run_here, arguments):
    apart = run_command(*arguments)
    here = run_here(*arguments)
    assert (here.returncode, here.stdout) == (apart.returncode, apart.stdout)
    assert here.stderr.splitlines()[-1:] == apart.stderr.splitlines()[-1:]
    assert here.returncode != 0


def test_nothing_of_a_command_stays(run_here, tmp_path):
    def state():
        handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
        names = [
            name for name in flags.FLAGS if "." not in flags.FLAGS.find_module_defining_flag(name)
        ]
        log_handlers = list(logging.getLogger().handlers)
        is_deterministic = tensorflow_config.is_op_determinism_enabled()
        process = os.getcwd(), list(sys.argv), list(sys.path), dict(os.environ)
        return process, handlers, names, log_handlers, is_deterministic

    before = state()
    for _ in range(2):  # a flag that is still there could not be defined again
        refused = run_here(ROOT / "train.py", "--epochs=0", cwd=tmp_path)
        assert refused.stderr == "error: --epochs must be at least 1, got 0\n"
        refused = run_here("export.py", "--workdir=nowhere", "--export_dir=x", "--verbosity=1")
        assert "nowhere holds no run" in refused.stderr
        refused = run_here("train.py", "--deterministic", "--batch_size=5000")
        assert "batch_size 5000 is more than the 1247" in refused.stderr
    assert state() == before
    assert not flags.FLAGS["verbosity"].present


def test_every_module_can_be_the_first_that_is_imported(run_command):
    """In the process of the tests others are there already."""
    script = """
import os, pathlib, sys
import apache_beam, matplotlib, pyarrow.parquet, sklearn, tensorflow, tensorflow_datasets
import tensorflow_probability, tf_keras
for path in sorted(pathlib.Path("nice_tf").rglob("*.py")):
    name = ".".join(path.with_suffix("").parts).removesuffix(".__init__")
    child = os.fork()
    if not child:
        try:
            __import__(name)
        except BaseException as error:
            print(name, repr(error), flush=True)
        os._exit(0)
    os.waitpid(child, 0)
"""
    finished = run_command("-c", script)
    assert (finished.returncode, finished.stdout) == (0, ""), finished.stderr
