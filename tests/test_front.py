"""`nice-tf`: the list of commands, and each behind it; what commands say of their flags."""

import re
import subprocess
import sys

import pytest
from conftest import ROOT

sys.path.insert(0, str(ROOT / "docs"))
import commands_page

import nice_tf
from nice_tf.cli import front
from nice_tf.cli.messages import with_dashes
from nice_tf.version import __version__

# What the console command does after Python's start.
FRONT = ("-c", "from nice_tf.cli import front; front.main()")


def apps():
    """The modules of nice_tf/apps that are commands, not what these share."""
    found = []
    for path in (ROOT / "nice_tf" / "apps").glob("*.py"):
        if "command.run(" in path.read_text():
            found.append(path.stem)
    return found


def test_every_app_is_a_command():
    assert sorted(front.COMMANDS) == sorted(apps())


@pytest.mark.parametrize("arguments", [(), ("--help",), ("-h",)])
def test_the_list_has_a_line_for_each_command(run_here, arguments):
    finished = run_here(*FRONT, *arguments)
    assert (finished.returncode, finished.stderr) == (0, "")
    for name, text in front.COMMANDS.items():
        (line,) = [line for line in finished.stdout.splitlines() if line.split()[:1] == [name]]
        assert line.endswith(f"  {text}") and len(line) <= 80


def test_the_list_needs_no_library():
    """TensorFlow alone takes seconds, and the list is to be there at once."""
    script = (
        "import sys; from nice_tf.cli import front; front.main(); "
        "print(sorted({'numpy', 'pyarrow', 'tensorflow'} & set(sys.modules)), file=sys.stderr)"
    )
    found = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert found.stderr == "[]\n"
    assert "trains" in found.stdout


@pytest.mark.parametrize("name", sorted(front.COMMANDS))
def test_a_command_is_its_app(run_here, name):
    behind = run_here(*FRONT, name, "--help")
    alone = run_here("-m", f"nice_tf.apps.{name}", "--help")
    assert (behind.returncode, behind.stderr) == (0, "")
    assert behind.stdout == alone.stdout
    assert f"nice-tf {name} --" in behind.stdout, "an example, as it is typed"


def test_the_page_of_commands_is_what_help_prints(run_here):
    def help_of(name):
        return run_here("-m", f"nice_tf.apps.{name}", "--help").stdout

    page = (ROOT / "docs" / "commands.md").read_text()
    assert page == commands_page.page(help_of), "python docs/commands_page.py writes it anew"
    for name in front.COMMANDS:
        assert f"\n## nice-tf {name}\n" in page and f"```sh\nnice-tf {name}" in page
    for name in nice_tf.Config.__dataclass_fields__:
        assert re.search(rf"^- `--(\[no\])?{name}[=`]", page, flags=re.MULTILINE), name


def test_flags_reach_the_command(run_here, tmp_path):
    written = run_here(*FRONT, "configs", f"--output_dir={tmp_path}/flags")
    assert written.returncode == 0
    assert (tmp_path / "flags" / "table.flags").exists()
    again = run_here(*FRONT, "configs", f"--output_dir={tmp_path}/flags")
    assert again.returncode == 1
    assert again.stderr == (
        f"error: --output_dir must name a folder that does not exist yet, got {tmp_path}/flags; a clone of "
        "the repository has the flag files in configs already\n"
    )


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("scroe", "there is no command 'scroe', perhaps score; see nice-tf --help"),
        ("noise-experiment", "perhaps noise_experiment;"),
        ("asked", "there is no command 'asked'; see nice-tf --help"),
        ("--epochs=3", "the command stands first, then its flags, got --epochs=3"),
    ],
)
def test_what_is_no_command_is_refused(run_here, argument, message):
    finished = run_here(*FRONT, argument)
    assert finished.returncode == 1 and finished.stdout == ""
    assert finished.stderr.startswith("error: ") and finished.stderr.count("\n") == 1
    assert message in finished.stderr


def test_version(run_here):
    assert run_here(*FRONT, "--version").stdout == f"nice_tf {__version__}\n"
    cited = (ROOT / "CITATION.cff").read_text()
    assert f"\nversion: {__version__}\n" in cited
    assert f"\n## {__version__}" in (ROOT / "CHANGELOG.md").read_text()


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("epochs must be at least 1, got 0", "--epochs must be at least 1, got 0"),
        ("a.flags: seed must be below 9", "a.flags: --seed must be below 9"),
        (
            "other settings (seed: 1, where the run has 0; epochs: 2, where the run has 3)",
            "other settings (--seed: 1, where the run has 0; --epochs: 2, where the run has 3)",
        ),
        (
            "batch_size 9 is more than 5: give a smaller batch_size.",
            "--batch_size 9 is more than 5: give a smaller --batch_size.",
        ),
        ("max_shift and batch_size=3 clash", "--max_shift and --batch_size=3 clash"),
        ("--batch_size is given twice", "--batch_size is given twice"),
        (
            "a.csv has missing values: impute fills them; columns keeps it (categories keeps it)",
            "a.csv has missing values: --impute fills them; --columns keeps it (--categories keeps it)",
        ),
        (
            "also has a: the model is of the columns b, c; impute fills them",
            "also has a: the model is of the columns b, c; --impute fills them",
        ),
        ("output rows.csv is there already", "--output rows.csv is there already"),
        ("the output is of another seed", "the output is of another seed"),
        ("a seed must not be too large", "a seed must not be too large"),
        ("column batch_size of /data/batch_size.csv", "column batch_size of /data/batch_size.csv"),
        (
            "input a.csv has no columns batch_size, max_shift: give batch_size",
            "input a.csv has no columns batch_size, max_shift: give --batch_size",
        ),
        (
            "a.csv has no column to go, batch_size to keep, only first name, max_shift",
            "a.csv has no column to go, batch_size to keep, only first name, max_shift",
        ),
        (
            "a.csv lacks batch_size and also has max_shift: the model is of the columns a, max_shift",
            "a.csv lacks batch_size and also has max_shift: the model is of the columns a, max_shift",
        ),
        ("keep cannot have batch_size: rename", "keep cannot have batch_size: rename"),
        ("labels have batch_size, which y has not", "labels have batch_size, which y has not"),
        ("bird 'a batch_size' is no class", "bird 'a batch_size' is no class"),
        ("the run's batch_size is the model's", "the run's --batch_size is the model's"),
        (
            "column a has 9 values (7 rows), above batch_size 5",
            "column a has 9 values (7 rows), above --batch_size 5",
        ),
        ("'batch_size=5' is no flag", "'batch_size=5' is no flag"),
        ("give config.batch_size or batch_size()", "give config.batch_size or batch_size()"),
        ("max_batch_size is no flag of this command", "max_batch_size is no flag of this command"),
    ],
)
def test_messages_write_flags_with_their_dashes(message, expected):
    names = ["batch_size", "epochs", "max_shift", "output", "seed"]
    names += ["categories", "columns", "impute"]
    assert with_dashes(message, names) == expected
