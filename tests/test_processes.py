"""A command in the test's own process ends as in a process of its own; `test_commands.py` has the
smoke run in both.
"""

import os
import signal
import sys

import pytest
from absl import flags
from processes import ROOT


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
        return os.getcwd(), list(sys.argv), list(sys.path), dict(os.environ), handlers, names

    before = state()
    for _ in range(2):  # a flag that is still there could not be defined again
        refused = run_here(ROOT / "train.py", "--epochs=0", cwd=tmp_path)
        assert refused.stderr == "error: epochs must be at least 1, got 0\n"
        refused = run_here("export.py", "--workdir=nowhere", "--export_dir=x", "--verbosity=1")
        assert "nowhere holds no run" in refused.stderr
    assert state() == before
    assert not flags.FLAGS["verbosity"].present
