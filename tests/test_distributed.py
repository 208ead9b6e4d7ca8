"""Several devices and several processes that share a run, over gRPC on the loopback interface."""

import csv
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest
from processes import time_limit

import nice_tf

ROOT = pathlib.Path(__file__).parents[1]
SETTINGS = {
    "hidden_units": (16, 16),
    "batch_size": 50,
    "epochs": 12,
    "precision": "float32",
    "epsilon": 1e-8,
    "ema_decay": 0.9,
    "weight_decay": 0.1,
    "gradient_clip_norm": 5.0,
}


@pytest.fixture
def table(tmp_path):
    """Continuous data, in which no noise can hide a difference."""
    generator = np.random.default_rng(0)
    path = tmp_path / "table.npy"
    np.save(
        path, (generator.normal(size=[600, 6]) @ generator.normal(size=[6, 6])).astype(np.float32)
    )
    return path


@pytest.fixture
def start_workers():
    """Starts two workers of a cluster with a command, and ends what is left of them."""
    started = []

    def start(*arguments, different=((), ())):
        sockets = [socket.socket() for _ in range(2)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        addresses = [f"127.0.0.1:{one.getsockname()[1]}" for one in sockets]
        for one in sockets:
            one.close()
        workers = []
        for index in range(2):
            task = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}
            workers.append(
                subprocess.Popen(
                    [sys.executable, "train.py", *arguments, *different[index]],
                    cwd=ROOT,
                    env={**os.environ, "TF_CONFIG": json.dumps(task)},
                    text=True,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                )
            )
        started.extend(workers)
        return workers

    yield start
    for worker in started:
        worker.kill()
        worker.communicate()


def arguments(table, workdir):
    settings = {**SETTINGS, "hidden_units": "16,16"}
    return [
        f"--dataset={table}",
        f"--workdir={workdir}",
        *(f"--{name}={value}" for name, value in settings.items()),
    ]


def metrics(workdir):
    with (workdir / "metrics.csv").open() as file:
        return list(csv.DictReader(file))


def test_two_workers_are_one_device_even_if_one_is_killed(table, tmp_path, start_workers):
    one, two = tmp_path / "one", tmp_path / "two"
    result = nice_tf.train_and_evaluate(nice_tf.Config(dataset=str(table), **SETTINGS), one)

    # The first time they read from disk, the second time from memory: where the data lie changes
    # nothing.
    chief, other = start_workers(*arguments(table, two), "--in_memory_mb=0")
    deadline = time.monotonic() + time_limit()
    while not list(two.glob("checkpoints/last/epoch-2.index")):
        assert time.monotonic() < deadline and chief.poll() is None, chief.communicate()
        time.sleep(0.05)
    other.send_signal(signal.SIGKILL)
    _, errors = chief.communicate(timeout=time_limit())
    assert chief.returncode != 0 and "Error" in errors, "a chief does not go on alone"
    done = len(metrics(two))
    assert done < SETTINGS["epochs"]

    chief, other = start_workers(*arguments(table, two))
    output, errors = chief.communicate(timeout=time_limit())
    assert chief.returncode == 0, errors
    assert "2 replicas share each batch" in output and "continued after epoch " in output
    silent, errors = other.communicate(timeout=time_limit())
    assert other.returncode == 0, errors
    assert silent == "", "only the chief speaks and writes"
    ours, theirs = metrics(one), metrics(two)
    assert [row["step"] for row in ours] == [row["step"] for row in theirs]
    for name in ("log_prob", "val_log_prob"):
        np.testing.assert_allclose(
            [float(row[name]) for row in ours],
            [float(row[name]) for row in theirs],
            rtol=1e-4,
            err_msg=name,
        )
    evaluation = json.loads((two / "evaluation.json").read_text())
    np.testing.assert_allclose(evaluation["log_prob"], result["log_prob"], rtol=1e-4)


def test_workers_that_differ_refuse_to_train(table, tmp_path, start_workers):
    workers = start_workers(
        *arguments(table, tmp_path / "run"), different=(["--seed=1"], ["--seed=2"])
    )
    for worker in workers:
        _, errors = worker.communicate(timeout=time_limit())
        assert worker.returncode == 1 and "the workers differ in settings: " in errors, errors
    assert not list((tmp_path / "run").glob("checkpoints/last/*"))


def test_replicas_draw_noise_of_their_own(run_command):
    """Two replicas with the same picture: only the noise can set their likelihoods apart."""
    finished = run_command(
        "-c",
        """
import numpy as np, tensorflow as tf, nice_tf
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
)
from nice_tf.data import dataset
from nice_tf.training.model import make_model
config = nice_tf.Config(hidden_units=(8,), precision="float32", learning_rate=1e-30)
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
with strategy.scope():
    model = make_model(config, dataset.load(config))
picture = np.zeros([1, 8, 8, 1], np.uint8)
total = model._means["log_prob"].total
for step in (model.train_step, lambda values: model.test_step((tf.zeros([1], tf.int64), values))):
    model.reset_metrics()
    strategy.run(step, args=(tf.constant(picture),))
    first, second = (float(value) for value in strategy.experimental_local_results(total))
    assert first != second, (first, second)
    assert abs(first - second) < 40, (first, second)
print("seen")
""",
    )
    assert finished.returncode == 0 and finished.stdout == "seen\n", finished.stderr
