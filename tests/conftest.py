"""Shared fixtures. TensorFlow's import-time messages are kept out of the test report."""

import os
import pathlib
import subprocess
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import pytest
import tensorflow as tf

# The tests run in two processes on two cores. It must be said before TensorFlow starts.
tf.config.threading.set_intra_op_parallelism_threads(1)
tf.config.threading.set_inter_op_parallelism_threads(2)

ROOT = pathlib.Path(__file__).parents[1]


@pytest.fixture
def run_command():
    """Runs a command of the repository as a user would and returns the finished process."""

    def run(*arguments, cwd=ROOT, timeout=240):
        environment = {
            key: value for key, value in os.environ.items() if key != "TF_CPP_MIN_LOG_LEVEL"
        }
        return subprocess.run(
            [sys.executable, *map(str, arguments)],
            cwd=cwd,
            env=environment,
            capture_output=True,
            text=True,
            timeout=timeout,
            stdin=subprocess.DEVNULL,
        )

    return run


@pytest.fixture(scope="session")
def mnist_files():
    """Folder with the four original MNIST files."""
    for folder in (os.environ.get("NICE_TF_MNIST"), ROOT.parent / "shared" / "data" / "mnist"):
        if folder and (pathlib.Path(folder) / "train-images-idx3-ubyte.gz").exists():
            return pathlib.Path(folder).resolve()
    pytest.skip(
        "the four original MNIST files are in neither NICE_TF_MNIST nor ../shared/data/mnist"
    )
