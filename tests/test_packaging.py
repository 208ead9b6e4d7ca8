"""What a user of the installed package meets: names, commands, flag files, and pages that tell the
truth.
"""

import ast
import configparser
import contextlib
import inspect
import io
import os
import pathlib
import re
import shutil
import subprocess
import sys

import pytest
import setuptools
from processes import time_limit

import nice_tf

ROOT = pathlib.Path(__file__).parents[1]
PUBLIC = [name for name in nice_tf.__all__ if name != "__version__"]
BLOCKS = [
    block
    for page in ("faq", "keras")
    for block in re.findall(
        r"```python\n(.*?)```", (ROOT / "docs" / f"{page}.md").read_text(), flags=re.DOTALL
    )
]


def setup_cfg():
    """The packages and the commands that are installed."""
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg")
    commands = dict(
        line.split(" = ")
        for line in parser["options.entry_points"]["console_scripts"].split("\n")
        if line
    )
    return parser["options"]["packages"].split(), commands


def test_type_checkers_see_the_public_names():
    tree = ast.parse((ROOT / "nice_tf" / "__init__.py").read_text())
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    imports = [node for node in imports if node.module not in ("typing", "nice_tf.version")]
    seen = {alias.asname: node.module for node in imports for alias in node.names}
    assert seen == {name: f"nice_tf.{module}" for name, module in nice_tf._PUBLIC.items()}


def test_type_checkers_see_a_users_mistake(run_command):
    lines = (
        "import nice_tf",
        "nice_tf.build_flow([2], num_couplings=4, hidden_units=[[5, 5]] * 4)",
        "bits: float = nice_tf.bits_per_dim(-3.0, event_size=2, levels=17)",
        'nice_tf.build_flow([2], num_couplings="four")',
        "text: str = nice_tf.bits_per_dim(-3.0, event_size=2, levels=17)",
    )
    options = (
        "--config-file=",
        "--cache-dir=/dev/null",
        "--ignore-missing-imports",
        "--follow-imports=silent",
    )
    printed = run_command("-m", "mypy", *options, "-c", "\n".join(lines)).stdout
    found = re.findall(r"^<string>:(\d+): error: .*\[(.*)\]$", printed, flags=re.MULTILINE)
    assert found == [("4", "arg-type"), ("5", "assignment")], printed


def test_api_reference_has_each_public_name_once():
    pages = "".join(path.read_text() for path in (ROOT / "docs" / "api").glob("*.md"))
    assert sorted(re.findall(r"^::: nice_tf\.(\w+)$", pages, flags=re.MULTILINE)) == sorted(PUBLIC)


@pytest.mark.parametrize("name", PUBLIC)
def test_public_names_are_documented_and_annotated(name):
    functions = {name: getattr(nice_tf, name)}
    if inspect.isclass(functions[name]):
        assert functions[name].__doc__
        own = {
            key: getattr(value, "fget", value) for key, value in vars(functions.pop(name)).items()
        }
        functions = {
            key: getattr(value, "__func__", value)
            for key, value in own.items()
            if not key.startswith("_")
            or (key in ("__init__", "__call__") and inspect.isfunction(value))
        }
    for key, function in functions.items():
        if not inspect.isfunction(function):
            continue
        signature = inspect.signature(function)
        bare = [
            parameter.name
            for parameter in list(signature.parameters.values())
            if parameter.annotation is parameter.empty and parameter.name not in ("self", "cls")
        ]
        assert not bare, (key, bare)
        assert key == "__init__" or signature.return_annotation is not signature.empty, key
        assert function.__doc__ or "__dataclass_fields__" in dir(getattr(nice_tf, name)), key


def test_all_packages_are_installed():
    packages, _ = setup_cfg()
    found = setuptools.find_namespace_packages(
        str(ROOT), include=["nice_tf*"], exclude=["*__pycache__*"]
    )
    assert sorted(packages) == sorted([*found, "nice_tf.configs"])


def test_every_command_is_named_after_an_app():
    _, commands = setup_cfg()
    wanted = ("train", "export", "report", "score", "impute", "sample", "configs")
    assert commands.pop("nice-tf") == "nice_tf.cli.front:main"
    assert {f"nice-{name}" for name in wanted} <= set(commands), "their names in version 0.1"
    for command, target in commands.items():
        assert target == "nice_tf.cli.command:run_named"
        assert (ROOT / "nice_tf" / "apps" / f"{command.removeprefix('nice-')}.py").exists()


def test_installed_commands_and_flag_files(tmp_path):
    """From a wheel, made of a source distribution, in a folder with nothing in it but what the
    package writes there.
    """
    source, installed, elsewhere = (
        tmp_path / name for name in ("source", "installed", "elsewhere")
    )
    for name in ("nice_tf", "configs"):
        shutil.copytree(ROOT / name, source / name)
    for name in ("setup.cfg", "pyproject.toml", "README.md", "MANIFEST.in", "LICENSE"):
        shutil.copy(ROOT / name, source)
    elsewhere.mkdir()
    environment = {**os.environ, "PYTHONPATH": str(installed)}

    def run(*command, cwd=elsewhere):
        return subprocess.run(
            command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=time_limit()
        )

    build = "import sys; from setuptools import build_meta; build_meta.build_sdist(sys.argv[1])"
    finished = run(sys.executable, "-c", build, tmp_path, cwd=source)
    assert finished.returncode == 0, finished.stderr
    (archive,) = tmp_path.glob("nice_tf-*.tar.gz")

    pip = (
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--no-index",
        "--no-build-isolation",
    )
    finished = run(*pip, f"--target={installed}", archive)
    assert finished.returncode == 0, finished.stderr
    assert (installed / "nice_tf" / "py.typed").exists()

    finished = run(installed / "bin" / "nice-configs")
    assert finished.returncode == 0, finished.stderr
    expected = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "configs").rglob("*.flags"))
    assert finished.stdout.splitlines() == expected
    for path in expected:
        assert (elsewhere / path).read_bytes() == (ROOT / path).read_bytes()
    again = run(installed / "bin" / "nice-configs")
    assert again.returncode == 1
    assert "must name a folder that does not exist yet, got configs; a clone of" in again.stderr

    listed = run(installed / "bin" / "nice-tf")
    assert listed.returncode == 0 and "score" in listed.stdout, listed.stderr
    (licence,) = installed.glob("nice_tf-*.dist-info/**/LICENSE")
    assert licence.read_bytes() == (ROOT / "LICENSE").read_bytes()
    show = "import nice_tf; print(nice_tf.read_flagfile('table', epochs=7))"
    finished = run(sys.executable, "-c", show)
    assert finished.stdout == f"{nice_tf.read_flagfile(ROOT / 'configs/table.flags', epochs=7)}\n"

    smoke = ("--flagfile=configs/smoke.flags", "--epochs=1", "--num_draws=1")
    finished = run(installed / "bin" / "nice-train", *smoke)
    assert finished.returncode == 0, finished.stderr
    assert (elsewhere / "runs" / "smoke" / "evaluation.json").exists()
    nested = run(
        installed / "bin" / "nice-train", "--flagfile=configs/mnist_fast.flags", "--epochs=0"
    )
    assert nested.stderr == "error: --epochs must be at least 1, got 0\n"
    needs = {
        "report": "--workdir is",
        "export": "--workdir and --export_dir are",
        "sample": "--model and --output are",
        "score": "--model, --input and --output are",
        "impute": "--model, --input and --output are",
    }
    for command, flags in needs.items():
        finished = run(installed / "bin" / f"nice-{command}")
        assert finished.stderr == f"error: {flags} needed, see --help\n", finished.stderr


@pytest.mark.parametrize("block", BLOCKS)
def test_pages_print_what_they_say(block):
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(block, {})
    assert printed.getvalue().splitlines() == re.findall(r"print\(.*\)  # (.*)", block)
