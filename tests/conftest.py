"""Shared fixtures. TensorFlow's import-time messages are kept out of the test report."""

import fcntl
import gc
import hashlib
import json
import os
import pathlib
import shutil

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import processes
import pytest
import tensorflow as tf

import nice_tf

# The tests run in two processes on two cores. It must be said before TensorFlow starts.
tf.config.threading.set_intra_op_parallelism_threads(1)
tf.config.threading.set_inter_op_parallelism_threads(2)

# TensorFlow decides at its first use which Keras this is: before a command here asks for tf_keras.
assert tf.keras.layers

ROOT = processes.ROOT


# The longest, first: one that begins last would leave the other worker idle.
LONGEST = (
    "test_readme_commands_run_one_after_the_other",
    "test_mnist_through_the_real_builder",
    "test_two_workers_are_one_device_even_if_one_is_killed",
    "test_killed_run_continues_to_the_same_bits",
    "test_page_holds",
)


def pytest_collection_finish():
    """Makes Python look for garbage less often: graphs are a million objects, of which hardly any
    are garbage, and that took an eighth of the time of all tests.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 20, 20)


def pytest_collection_modifyitems(items):
    """Puts the longest tests first."""

    def place(item):
        name = item.originalname
        return LONGEST.index(name) if name in LONGEST else len(LONGEST)

    items.sort(key=place)


@pytest.fixture
def run_command():
    """Runs a command of the repository as a user would and returns the finished process."""
    return processes.run_command


@pytest.fixture
def run_here():
    """As `run_command`, in the process of the test, which saves the import of TensorFlow."""
    return processes.run_here


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory):
    """A folder that the workers of this session share."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    folder = folder / "shared"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def make_once(shared_folder):
    """Gives a path that is made once for all workers: `make(path)` is called by the first that asks."""

    def find(name, make):
        path = shared_folder / name
        with open(shared_folder / f"{name}.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not (shared_folder / f"{name}.made").exists():
                make(path)
                (shared_folder / f"{name}.made").touch()
        return path

    return find


@pytest.fixture(scope="session")
def trained(make_once):
    """Puts a copy of a finished run with these settings, which tests share, into a folder.

    It returns what `train_and_evaluate` does, except the list of files.

    The settings must name data that are always the same, as the digits.
    """

    def copy(config, workdir):
        def train(path):
            from nice_tf.flows.analysis import denoise

            with pytest.MonkeyPatch.context() as patch:  # in spite of `without_denoising`
                patch.setattr("nice_tf.training.samples.denoise", denoise)
                nice_tf.train_and_evaluate(config, path)

        name = hashlib.sha256(json.dumps(config.as_dict()).encode()).hexdigest()[:16]
        shutil.copytree(make_once(f"run-{name}", train), workdir, dirs_exist_ok=True)
        from nice_tf.training.run import RunResult  # here, so that test_layout runs in any case

        evaluation = json.loads((pathlib.Path(workdir) / "evaluation.json").read_text())
        return RunResult(evaluation, pathlib.Path(workdir), ())

    return copy


@pytest.fixture
def without_denoising(monkeypatch):
    """Leaves the search for denoised samples out, which takes seconds where the density is steep."""
    monkeypatch.setattr("nice_tf.training.samples.denoise", lambda flow, x, context=None: x)


@pytest.fixture(scope="session")
def mnist_files():
    """Folder with the four original MNIST files."""
    for folder in (os.environ.get("NICE_TF_MNIST"), ROOT.parent / "shared" / "data" / "mnist"):
        if folder and (pathlib.Path(folder) / "train-images-idx3-ubyte.gz").exists():
            return pathlib.Path(folder).resolve()
    pytest.skip(
        "the four original MNIST files are in neither NICE_TF_MNIST nor ../shared/data/mnist"
    )


@pytest.fixture(scope="session")
def mnist_prepared(make_once, mnist_files):
    """Folder in which the real builder has prepared MNIST from its original files."""

    def prepare(path):
        config = nice_tf.Config(dataset="mnist", data_dir=str(path), manual_dir=str(mnist_files))
        from nice_tf.data import dataset

        dataset.load(config)

    return make_once("mnist", prepare)
