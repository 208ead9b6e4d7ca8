"""The rooms of the package: imports run down the list of CONTRIBUTING.md, and what users rely on stays."""

import ast
import graphlib
import json
import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from conftest import ROOT
from table_files import write_csv

import nice_tf

PACKAGE = ROOT / "nice_tf"
CONTRACT = json.loads((pathlib.Path(__file__).parent / "contract.json").read_text())

# The one room, or file, that knows each of these.
OWNERS = {
    "tf_keras": "training/",
    "keras": "training/",
    "tensorflow.keras": "training/",
    "google.protobuf": "serving/",
    "tensorflow_serving": "serving/",
    "matplotlib": "drawing.py",
    "apache_beam": "scoring/beam.py",
    "sklearn.base": "estimators/",
}


def floors():
    """The room of each file, `data/` or `config.py`, and its floor, from the table that people read."""
    table = (ROOT / "CONTRIBUTING.md").read_text()
    rows = re.findall(r"^\| (\d+) \| ([^|]+) \|", table, flags=re.MULTILINE)
    return {name: int(floor) for floor, names in rows for name in re.findall(r"`([\w./]+)`", names)}


def room_of(path):
    first = path.relative_to(PACKAGE).parts[0]
    return first if first.endswith(".py") else f"{first}/"


def imports(source):
    """The modules that a file imports, wherever in it, each with its line: `nice_tf.data.rows`."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom) and node.level:
            yield node.lineno, "." * node.level + (node.module or "")
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                yield node.lineno, f"{node.module}.{alias.name}"
        elif isinstance(node, ast.Call) and called(node) in ("import_module", "__import__"):
            if isinstance(node.args[0], ast.Constant):  # else the front door, which may
                yield node.lineno, node.args[0].value


def called(node):
    """The last name of what is called: `import_module` of `importlib.import_module(...)`."""
    return getattr(node.func, "attr", getattr(node.func, "id", ""))


def room_of_module(name):
    """The room of `nice_tf.data.rows.Rows`: `data/`; none of a public name, as `nice_tf.sample`."""
    first = name.split(".")[1]
    if (PACKAGE / first).is_dir():
        return f"{first}/"
    if (PACKAGE / f"{first}.py").exists():
        return f"{first}.py"
    return None


def why_wrong(path, name):
    """What is wrong with importing this module there, if anything."""
    room = room_of(path)
    if name.startswith("."):
        return "name the module in full"
    for library, owner in OWNERS.items():
        is_own = str(path.relative_to(PACKAGE)).startswith(owner)
        if (name == library or name.startswith(f"{library}.")) and not is_own:
            return f"only {owner} knows {library}"
    if name == "nice_tf" and room != "apps/":
        return "the front door is above every room"
    if not name.startswith("nice_tf."):
        return None
    other = room_of_module(name)
    if other is None or other == "batch.py":
        return "the front door is above every room"
    if other != room and floors()[other] >= floors()[room]:
        return f"{other} is not below {room}"
    return None


def wrong_imports(path, source):
    """A line for each import that runs up or sideways, or that belongs to another room."""
    found = []
    for line, name in imports(source):
        why = why_wrong(path, name)
        if why:
            found.append(f"{path.relative_to(ROOT)}:{line} imports {name}: {why}")
    return found


def test_no_imports_go_in_a_circle():
    """Inside a room either: of two files that import each other neither can be read first."""
    modules = {}
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(ROOT).with_suffix("").parts
        modules[".".join(parts).removesuffix(".__init__")] = path
    graph = {}
    for module, path in modules.items():
        names = {name for _, name in imports(path.read_text())}
        names |= {name.rpartition(".")[0] for name in names}
        graph[module] = {name for name in names if name in modules} - {module, "nice_tf"}
    del graph["nice_tf"]  # hands on names of all rooms
    order = list(graphlib.TopologicalSorter(graph).static_order())
    assert order.index("nice_tf.errors") < order.index("nice_tf.scoring.files")


def test_imports_run_down():
    # The front door hands on names of every room, and batch.py is an old name of one of them.
    doors = {PACKAGE / "__init__.py", PACKAGE / "batch.py"}
    files = set(PACKAGE.rglob("*.py")) - doors
    wrong = [line for path in sorted(files) for line in wrong_imports(path, path.read_text())]
    assert not wrong, "\n".join(wrong)


def test_every_room_has_its_floor():
    rooms = {room_of(path) for path in PACKAGE.rglob("*.py")} - {"__init__.py", "batch.py"}
    assert set(floors()) == rooms


@pytest.mark.parametrize(
    "file, line, said",
    [
        (
            "bijectors/coupling.py",
            "from nice_tf.scoring import model",
            "scoring/ is not below bijectors/",
        ),
        (
            "bijectors/coupling.py",
            "from nice_tf import drawing",
            "drawing.py is not below bijectors/",
        ),
        ("data/rows.py", "import nice_tf.flows.flow", "flows/ is not below data/"),
        ("runs/workdir.py", "import tf_keras", "only training/ knows tf_keras"),
        (
            "runs/workdir.py",
            "from tensorflow import keras",
            "only training/ knows tensorflow.keras",
        ),
        ("flows/flow.py", "from ..scoring import model", "name the module in full"),
        ("flows/flow.py", "from .. import scoring", "name the module in full"),
        ("flows/flow.py", "import nice_tf as x", "the front door is above every room"),
        ("flows/flow.py", "from nice_tf import score_file", "the front door is above every room"),
        ("flows/flow.py", "from nice_tf import batch", "the front door is above every room"),
        ("flows/flow.py", 'importlib.import_module("nice_tf.scoring")', "scoring/ is not below"),
        ("data/tfrecord.py", "from google.protobuf import message", "only serving/ knows"),
        ("reports/page.py", "from matplotlib import image", "only drawing.py knows matplotlib"),
        (
            "scoring/files.py",
            "import apache_beam as beam",
            "only scoring/beam.py knows apache_beam",
        ),
    ],
)
def test_a_wrong_import_is_named(file, line, said):
    path = PACKAGE / file
    assert wrong_imports(path, path.read_text()) == []
    (found,) = wrong_imports(path, f"{path.read_text()}\n\ndef f():\n    {line}\n")
    number = len(path.read_text().splitlines()) + 4
    assert found.startswith(f"nice_tf/{file}:{number} imports") and said in found


def test_the_package_starts_without_tensorflow():
    script = """
import sys
import nice_tf
import nice_tf.apps.train
assert "train_and_evaluate" in dir(nice_tf)
print([name for name in ("tensorflow", "tf_keras", "pyarrow", "matplotlib") if name in sys.modules])
"""
    found = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert found.stdout == "[]\n", found.stderr


def test_public_names_stay():
    assert sorted(nice_tf.__all__) == CONTRACT["public"]
    assert all(hasattr(nice_tf, name) for name in nice_tf.__all__)


def test_no_room_hides_a_public_name():
    """Importing a submodule binds it on the package, where it would hide a function of its name."""
    rooms = {path.stem for path in PACKAGE.iterdir()}
    assert not rooms & set(nice_tf.__all__)


def test_the_old_door_still_opens():
    from nice_tf import batch

    assert batch.score_file is nice_tf.score_file
    assert batch.fill_file is nice_tf.fill_file
    assert batch.sample_file is nice_tf.sample_file


@pytest.mark.parametrize("app", sorted(CONTRACT["flags"]))
def test_flags_stay(app):
    script = """
import importlib, json, sys
from absl import flags
importlib.import_module(sys.argv[1])
found = flags.FLAGS.flags_by_module_dict()
own = [flag.name for module, group in found.items() if "absl." not in module for flag in group]
print(json.dumps(sorted(own)))
"""
    command = [sys.executable, "-c", script, f"nice_tf.apps.{app}"]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert json.loads(found.stdout) == CONTRACT["flags"][app], found.stderr


def files_of(folder):
    """The files of a folder, without what TensorFlow adds to the names of its logs."""
    paths = [path.relative_to(folder) for path in folder.rglob("*") if path.is_file()]
    return sorted(re.sub(r"events\.out\S*|\.v2$", "", str(path)) for path in paths)


def signatures_of(version):
    def of(specs):
        return {name: [list(spec.shape), spec.dtype.name] for name, spec in specs.items()}

    found = {}
    for name, signature in tf.saved_model.load(str(version)).signatures.items():
        inputs = signature.structured_input_signature[1]
        found[name] = {"inputs": of(inputs), "outputs": of(signature.structured_outputs)}
    return found


@pytest.mark.parametrize("kind", ["pictures", "table"])
def test_files_and_signatures_stay(kind, tmp_path):
    settings = {"num_couplings": 3, "hidden_units": (8,), "epochs": 1, "precision": "float32"}
    if kind == "table":
        values = np.random.default_rng(0).normal(size=[200, 3])
        write_csv(tmp_path / "table.csv", **dict(zip("abc", values.T, strict=True)))
        settings |= {"dataset": str(tmp_path / "table.csv"), "batch_size": 20}
        settings |= {"marginals": "quantile"}  # by which rows are scored by ranks, too
    run = tmp_path / "run"
    nice_tf.train_and_evaluate(nice_tf.Config(num_draws=2, **settings), run)
    version = nice_tf.export_saved_model(run, tmp_path / "export")
    wanted = CONTRACT["runs"][kind]
    assert files_of(run) == wanted["workdir"]
    assert files_of(tmp_path / "export") == wanted["export"]
    assert signatures_of(version) == wanted["signatures"]
