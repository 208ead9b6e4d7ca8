"""Shared fixtures. TensorFlow's import-time messages are kept out of the test report."""

import os
import pathlib

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import processes
import pytest
import tensorflow as tf

# The tests run in two processes on two cores. It must be said before TensorFlow starts.
tf.config.threading.set_intra_op_parallelism_threads(1)
tf.config.threading.set_inter_op_parallelism_threads(2)

ROOT = processes.ROOT


@pytest.fixture
def run_command():
    """Runs a command of the repository as a user would and returns the finished process."""
    return processes.run_command


@pytest.fixture
def run_here():
    """As `run_command`, in the process of the test, which saves the import of TensorFlow."""
    return processes.run_here


@pytest.fixture(scope="session")
def mnist_files():
    """Folder with the four original MNIST files."""
    for folder in (os.environ.get("NICE_TF_MNIST"), ROOT.parent / "shared" / "data" / "mnist"):
        if folder and (pathlib.Path(folder) / "train-images-idx3-ubyte.gz").exists():
            return pathlib.Path(folder).resolve()
    pytest.skip(
        "the four original MNIST files are in neither NICE_TF_MNIST nor ../shared/data/mnist"
    )
