"""The commands as a user types them: in a process of their own."""

import json
import multiprocessing
import os
import pathlib
import random
import re
import shlex
import signal
import subprocess
import sys
import time
import types

import numpy as np
import pytest
import tensorflow as tf
from pace import slow_except
from table_files import write_csv
from test_layout import CONTRACT

import nice_tf
from nice_tf.data import dataset
from nice_tf.runs import checkpoints
from nice_tf.runs.workdir import Workdir
from nice_tf.training import devices

ROOT = pathlib.Path(__file__).parents[1]
CORES = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
SMOKE = ("train.py", "--flagfile=configs/smoke.flags")


def checkpoint_values(directory):
    """Name -> array of everything in the newest checkpoint of a directory."""
    reader = tf.train.load_checkpoint(checkpoints.newest(directory))
    names = [
        name
        for name in reader.get_variable_to_shape_map()
        if not name.startswith(("_CHECKPOINTABLE", "history"))
    ]
    return {name: reader.get_tensor(name) for name in names}


def without_times(text):
    """The lines that state no time."""
    return [line for line in text.splitlines() if not line.startswith("Epoch ")]


def test_smoke_run_says_what_a_newcomer_needs(run_command, run_here, tmp_path, monkeypatch):
    monkeypatch.setenv("TF_NUM_INTRAOP_THREADS", "1")  # as in this process: all rounds alike
    monkeypatch.setenv("TF_NUM_INTEROP_THREADS", "2")
    finished = run_command(*SMOKE, f"--workdir={tmp_path}/run")
    assert finished.returncode == 0, finished.stderr
    assert finished.stderr == "", "TensorFlow's start-up noise is silenced"
    first, last = finished.stdout.split("Epoch 1/2")
    for expected in (
        "digits: 1247 train, 250 validation, 300 test examples of shape [8, 8, 1], 17 levels",
        "parameters",
        "CPU",
        f"precision  {devices.choose_precision('auto')}",
        f"{tmp_path}/run",
    ):
        assert expected in first
    assert re.search(
        r"log_prob: \d+\.\d+ - bits_per_dim: \d\.\d+ - val_log_prob: \d+\.\d+ - val_bits_per_dim: \d",
        last,
    )
    assert (
        re.search(r"log-likelihood +\d+\.\d\d \+- \d\.\d\d +nats", last)
        and "logarithm positive" in last
    )
    for name in ("evaluation.json", "metrics.csv", "samples.png", "samples_denoised.png"):
        assert name in last and (tmp_path / "run" / name).exists()

    results = (tmp_path / "run" / "evaluation.json").read_bytes()
    (tmp_path / "run").rename(tmp_path / "apart")
    here = run_here(*SMOKE, f"--workdir={tmp_path}/run")
    assert (here.returncode, here.stderr) == (0, ""), "what the other tests rely on"
    assert without_times(here.stdout) == without_times(finished.stdout)
    assert (tmp_path / "run" / "evaluation.json").read_bytes() == results


def test_help_lists_every_setting_by_group(run_command):
    finished = run_command("train.py", "--help")
    assert finished.returncode == 0 and finished.stderr == ""
    groups = ["\nrun:", "\ndata:", "\nmodel:", "\ntraining:", "\nresults:"]
    positions = [finished.stdout.index(group) for group in groups]
    assert positions == sorted(positions)
    for field in [*nice_tf.Config.__dataclass_fields__, "workdir"]:
        assert re.search(rf"--(\[no\])?{field}: ", finished.stdout), field


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--flagfile=configs/nowhere.flags"], "configs/nowhere.flags"),
        (
            ["--prior=cauchy"],
            "--prior=cauchy: value should be one of <logistic|gaussian|logistic_mixture>",
        ),
        (["--mixing=stir"], "--mixing=stir"),
        (["--partition=thirds"], "--partition=thirds"),
        (["--hidden_units=10,x"], "got '10,x'"),
        (["--hidden_units=10,0"], "hidden_units must all be at least 1, got [10, 0]"),
        (["--num_couplings=0"], "num_couplings must be at least 1, got 0"),
        (
            ["--num_couplings=2"],
            "2 couplings with mixing 'swap', partition 'interleaved' and D = 64 leave",
        ),
        (["--batch_size=5000"], "batch_size 5000 is more than the 1247 training examples"),
        (["--prio=gaussian"], "Unknown command line flag 'prio'"),
        (["gaussian"], "unexpected argument 'gaussian'"),
        (["--seed=3000000000"], "seed must be below 2147483648, got 3000000000"),
        (["--dataset=nowhere.npy"], "nowhere.npy: there is no such file"),
        (["--workdir=/proc/nice_tf"], "workdir /proc/nice_tf cannot be written"),
        (["--learning_rate=1e30", "--workdir={tmp}/run"], "learning rate 1e+30"),
    ],
)
def test_mistakes_get_one_message_and_no_traceback(run_here, tmp_path, arguments, message):
    arguments = [argument.format(tmp=tmp_path) for argument in arguments]
    if not any(argument.startswith("--workdir") for argument in arguments):
        arguments.append(f"--workdir={tmp_path}/run")
    finished = run_here(*SMOKE, *arguments)
    assert finished.returncode == 1
    assert finished.stderr.startswith("error: ") and finished.stderr.count("\n") == 1, (
        finished.stderr
    )
    assert message in finished.stderr
    assert "Traceback" not in finished.stdout + finished.stderr
    if "1e30" not in arguments[0]:
        assert not (tmp_path / "run").exists(), "nothing half-written stays"


def test_workdir_of_another_config(run_here, tmp_path):
    assert run_here(*SMOKE, f"--workdir={tmp_path}").returncode == 0
    finished = run_here(*SMOKE, f"--workdir={tmp_path}", "--seed=1")
    assert (
        finished.returncode == 1
        and "other settings (--seed: 1, where the run has 0)" in finished.stderr
    )


def test_killed_run_continues_to_the_same_bits(run_here, tmp_path):
    """kill -9 at random moments, many times; the end is that of a run which nothing interrupted."""
    arguments = [
        *SMOKE,
        "--epochs=30",
        "--deterministic",
        "--ema_decay=0.9",
        "--schedule=cosine",
        "--warmup_steps=20",
        "--hidden_units=64,64",
        "--num_couplings=4",
        "--dropout=0.1",
        "--max_shift=1",
        "--shift_share=0.5",
    ]
    whole = run_here(*arguments, f"--workdir={tmp_path}/whole")
    assert whole.returncode == 0, whole.stderr

    moments = time.time_ns()
    print("moments drawn from", moments)
    run, generator = Workdir(tmp_path / "killed"), random.Random(moments)
    threads = {"TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "2"}  # as in this process
    for _ in range(3):
        process = subprocess.Popen(
            [sys.executable, "-u", *arguments, f"--workdir={run.path}"],
            cwd=ROOT,
            env=os.environ | threads,
            stdout=subprocess.PIPE,
            text=True,
        )
        epochs = (line for line in process.stdout if line.startswith("Epoch "))
        for _ in range(generator.randint(2, 8)):
            next(epochs)
        time.sleep(generator.uniform(0.0, 0.1))  # within an epoch, a validation or a checkpoint
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        process.stdout.close()
    finished = run_here(*arguments, f"--workdir={run.path}")
    assert finished.returncode == 0, finished.stderr
    assert "continued after epoch" in finished.stdout

    reference = Workdir(tmp_path / "whole")
    for directory in ("last", "best"):
        expected, found = (
            checkpoint_values(getattr(which, directory)) for which in (reference, run)
        )
        assert expected.keys() == found.keys() and len(expected) > 25
        for name, value in expected.items():
            np.testing.assert_array_equal(found[name], value, err_msg=name)
    assert run.evaluation.read_bytes() == reference.evaluation.read_bytes()
    rows = [
        [{**row, "seconds": ""} for row in which.read_metrics(up_to_epoch=99)]
        for which in (reference, run)
    ]
    assert rows[0] == rows[1] and len(rows[0]) == 30
    assert not list(run.path.rglob("*.tmp"))


def page_commands(name):
    """Every shell command and every Python block of a page."""
    text = (ROOT / name).read_text()
    blocks = re.findall(r"```(\w+)\n(.*?)```", text, flags=re.DOTALL)
    lines = [
        line.split("  #")[0].strip()
        for kind, block in blocks
        if kind == "sh"
        for line in block.replace("\\\n", " ").splitlines()  # a long one goes on in the next line
    ]
    return [line for line in lines if line], [block for kind, block in blocks if kind == "python"]


# Pages whose commands and blocks a newcomer types as they stand.
PAGES = (
    "README.md",
    "docs/data.md",
    "docs/runs.md",
    "docs/conditional.md",
    "docs/experiments.md",
    "docs/pieces.md",
)


def test_readme_names_the_two_commands_and_what_is_behind_them():
    commands, _ = page_commands("README.md")
    assert commands[:2] == ["make demo", "make test"]
    assert {"pip install -e .", "nice-tf train --flagfile=configs/digits.flags"} <= set(commands)
    assert "`python train.py` and `python export.py`" in (ROOT / "README.md").read_text()
    makefile = (ROOT / "Makefile").read_text()
    for command in commands:
        if command.startswith("make "):
            assert f"\n{command.split()[1]}:" in makefile


def run_page(page, run_here, folder):
    """Runs the commands of a page as written and in their order, and says how many they are.

    Only the runs are cut short.
    """
    commands = [line for line in page_commands(page)[0] if line.startswith(("python ", "nice-tf "))]
    for command in commands:
        program, *arguments = shlex.split(command)
        if program == "nice-tf":
            arguments = ["-c", "from nice_tf.cli import front; front.main()", *arguments]
        if "--flagfile" in command:
            arguments += ["--epochs=1", "--num_draws=1", "--hidden_units=64,64"]
        finished = run_here(*arguments, cwd=folder)
        if "FOLDER_WITH_THE_FOUR_FILES" in command:
            # `test_commands_about_mnist_run` has them.
            assert finished.returncode == 1, command
            assert "FOLDER_WITH_THE_FOUR_FILES" in finished.stderr, (command, finished.stderr)
        else:
            assert finished.returncode == 0, (command, finished.stderr)
    return len(commands)


@pytest.fixture
def tree(tmp_path):
    """What a clone has, and a table."""
    for name in ("configs", "train.py", "export.py"):
        (tmp_path / name).symlink_to(ROOT / name)
    x, y = np.random.default_rng(0).normal(size=[2, 100])
    write_csv(tmp_path / "rows.csv", x=x, y=x**2 + y)
    return tmp_path


@pytest.mark.usefixtures("without_denoising")
def test_readme_commands_run_one_after_the_other(run_here, tree):
    assert run_page("README.md", run_here, tree) >= 7
    assert (tree / "runs" / "digits" / "export" / "1" / "saved_model.pb").exists()


@pytest.mark.slow
@pytest.mark.usefixtures("without_denoising")
def test_commands_of_all_pages_run_one_after_the_other(run_here, tree):
    assert sum(run_page(page, run_here, tree) for page in PAGES) >= 12


@pytest.mark.parametrize("page", [*PAGES, "docs/commands.md"])
def test_commands_of_pages_are_there_and_so_are_their_flags(page):
    commands = [shlex.split(line) for line in page_commands(page)[0] if line.startswith("nice-tf ")]
    assert commands or page in ("docs/runs.md", "docs/pieces.md")  # those two have Python alone
    for _, name, *arguments in commands:
        if name == "score_beam":
            continue  # takes the options of Beam, too
        known = {*CONTRACT["flags"][name], "flagfile"}
        for argument in arguments:
            if argument.startswith("--"):
                flag = argument[2:].split("=")[0]
                assert flag in known or flag.removeprefix("no") in known, (name, argument)


@pytest.mark.slow
@pytest.mark.usefixtures("without_denoising")
def test_commands_about_mnist_run(run_here, tmp_path, mnist_files, mnist_prepared):
    """As written, with its files in the place of the folder's name; only the runs are cut short."""
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    commands = [line for page in PAGES for line in page_commands(page)[0] if "mnist" in line]
    commands = [line for line in commands if line.startswith("nice-tf ")]
    assert commands
    for command in commands:
        finished = run_here(
            "-c",
            "from nice_tf.cli import front; front.main()",
            *shlex.split(command)[1:],
            "--epochs=1",
            "--num_draws=1",
            "--hidden_units=8",
            "--channels=4",
            "--residual_blocks=1",
            "--batch_size=5000",
            f"--manual_dir={mnist_files}",
            f"--data_dir={mnist_prepared}",
            cwd=tmp_path,
        )
        assert finished.returncode == 0, (command, finished.stderr)


@pytest.mark.parametrize("page", slow_except(PAGES, "README.md", "docs/runs.md", "docs/pieces.md"))
def test_python_of_pages_runs(run_here, tmp_path, page):
    for block in page_commands(page)[1]:
        finished = run_here("-c", block, cwd=tmp_path)
        assert finished.returncode == 0, finished.stderr


class _ProcessHere:
    """In place of a process of `multiprocessing`, as far as `ablation.py` uses one: it runs at once,
    here. `test_ablation_runs_side_by_side_each_on_its_cores` has real ones.
    """

    def __init__(self, target, args):
        self.target = target
        self.args = args
        self.exitcode = None
        self.sentinel, self._other_end = multiprocessing.Pipe()

    def start(self):
        try:
            self.target(*self.args)
            self.exitcode = 0
        except SystemExit as error:
            print(error.code, file=sys.stderr)
            self.exitcode = 1
        self._other_end.close()  # now the sentinel is ready

    def join(self):
        self.sentinel.close()


@pytest.fixture
def processes_here(monkeypatch):
    """Processes that `ablation.py` starts are none: TensorFlow is imported here already."""
    context = types.SimpleNamespace(Process=_ProcessHere)
    monkeypatch.setattr(multiprocessing, "get_context", lambda method: context)


@pytest.mark.usefixtures("processes_here")
def test_ablation_compares_on_validation_and_leaves_test_alone(run_here, tmp_path):
    (tmp_path / "variants.txt").write_text(
        "# three ways\nplain\nslow --learning_rate=1e-9 --epochs=2\nleft_out\n"
    )
    command = (
        "benchmarks/ablation.py",
        "--flagfile=configs/smoke.flags",
        "--epochs=1",
        f"--workdir={tmp_path}/runs",
        f"--variants={tmp_path}/variants.txt",
        "--only=plain,slow",
        "--seeds=0,1",
    )
    finished = run_here(*command)
    assert finished.returncode == 0, finished.stderr
    table = [line for line in finished.stdout.split("\n\n")[-1].splitlines() if "seed" in line]
    assert [row.split(" | ")[0][2:] for row in table] == [
        "plain-seed0",
        "plain-seed1",
        "slow-seed0",
        "slow-seed1",
    ]
    for row in table:
        run = Workdir(tmp_path / "runs" / row.split(" | ")[0][2:])
        best = max(run.read_metrics(up_to_epoch=9), key=lambda found: float(found["val_log_prob"]))
        assert (
            f"| {float(best['val_log_prob']):.1f} | {float(best['log_prob']):.1f} | "
            f"{best['epoch']} of" in row
        )
        assert not run.evaluation.exists() and not run.calibration.exists()
        config, _ = run.read_config()
        is_slow = run.path.name.startswith("slow")
        assert (config.learning_rate == 1e-9) == is_slow and config.epochs == (2 if is_slow else 1)
        assert config.seed == int(run.path.name[-1]) and config.hidden_units == (32,)
    assert not (tmp_path / "runs" / "left_out-seed0").exists()


@pytest.mark.parametrize(
    ("line", "argument", "message"),
    [
        ("plain", "--only=other", "only names other, which"),
        ("plain dropout=0.3", "--epochs=1", "variant plain: 'dropout=0.3' is no flag"),
        ("plain --droput=0.3", "--epochs=1", "variant plain: Unknown command line flag 'droput'"),
        ("plain --epochs=0", "--only=plain", "variant plain: --epochs must be at least 1, got 0"),
        ("plain '", "--epochs=1", "No closing quotation"),
        ("plain\nplain", "--epochs=1", "lines of different names, got plain, plain"),
        ("plain", "--seed=3", "give seeds"),
        ("plain", "--variants=nowhere.txt", "'nowhere.txt': there is no such file"),
        ("plain", "--jobs=9999", "jobs must be at most"),
    ],
)
def test_ablation_refuses_what_it_would_have_to_guess(run_here, tmp_path, line, argument, message):
    (tmp_path / "variants.txt").write_text(line)
    command = (
        "benchmarks/ablation.py",
        f"--variants={tmp_path}/variants.txt",
        f"--workdir={tmp_path}/runs",
        argument,
    )
    failed = run_here(*command)
    assert failed.returncode == 1 and message in failed.stderr and "Traceback" not in failed.stderr
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow
def test_ablation_goes_on_after_a_variant_that_fails(run_command, tmp_path):
    (tmp_path / "variants.txt").write_text("too_many --batch_size=5000\nplain\n")
    finished = run_command(
        "benchmarks/ablation.py",
        "--flagfile=configs/smoke.flags",
        "--epochs=1",
        f"--workdir={tmp_path}/runs",
        f"--variants={tmp_path}/variants.txt",
    )
    assert finished.returncode == 1 and "batch_size 5000 is more than the 1247" in finished.stderr
    assert "| too_many-seed0 | failed |" in finished.stdout and "Traceback" not in finished.stderr
    assert "| plain-seed0 | " in finished.stdout.split("\n\n")[-1]


@pytest.mark.slow
@pytest.mark.skipif(len(CORES) < 2, reason="two jobs need two cores")
@pytest.mark.skipif(
    bool(tf.config.list_physical_devices("GPU")), reason="the cores are named where there is no GPU"
)
def test_ablation_runs_side_by_side_each_on_its_cores(run_command, tmp_path):
    (tmp_path / "variants.txt").write_text(
        "too_many --batch_size=5000\nplain\nslow --learning_rate=1e-9\n"
    )
    command = (
        "benchmarks/ablation.py",
        "--flagfile=configs/smoke.flags",
        "--epochs=1",
        f"--workdir={tmp_path}/runs",
        f"--variants={tmp_path}/variants.txt",
        "--jobs=2",
    )
    os.sched_setaffinity(0, CORES[:2])
    try:
        finished = run_command(*command)
    finally:
        os.sched_setaffinity(0, CORES)
    assert (
        finished.returncode == 1
        and f"too_many-seed0 failed, see {tmp_path}/runs/NAME.log" in finished.stderr
    )
    logs = {
        name: (tmp_path / "runs" / f"{name}-seed0.log").read_text()
        for name in ("too_many", "plain", "slow")
    }
    assert "batch_size 5000 is more than the 1247" in logs["too_many"]
    assert all(
        "CPU, 1 core\n" in logs[name] and "val_log_prob: " in logs[name]
        for name in ("plain", "slow")
    )
    rows = finished.stdout.split("\n\n")[-1].splitlines()[2:]
    assert [row.split(" | ")[0] for row in rows] == [
        "| too_many-seed0",
        "| plain-seed0",
        "| slow-seed0",
    ]


@pytest.mark.skipif(not CORES, reason="needs a system that keeps processes to cores")
def test_ablation_gives_no_core_to_two_jobs(run_command):
    code = """if True:
        import os, sys
        sys.path.insert(0, "benchmarks")
        import ablation
        os.sched_getaffinity = lambda process: {1, 4, 5, 6, 9}
        print(ablation.shares_of_cores(2))
    """
    first, second = json.loads(run_command("-c", code).stdout)
    assert sorted(first + second) == [1, 4, 5, 6, 9] and {len(first), len(second)} == {2, 3}


def test_learning_curves_stand_beside_each_other_at_equal_epochs(run_here, tmp_path):
    for name, values in {
        "short": [1.25, 2.5],
        "long": [10.0, 20.0, 30.0, 40.0, 50.0, 60.0],
    }.items():
        (tmp_path / name).mkdir()
        rows = [
            {"epoch": epoch, "val_log_prob": value} for epoch, value in enumerate(values, start=1)
        ]
        Workdir(tmp_path / name).write_metrics(rows)
    arguments = (f"a={tmp_path}/short", f"b={tmp_path}/long")
    finished = run_here(
        "benchmarks/learning_curves.py", *arguments, f"--output={tmp_path}/curves.png"
    )
    assert finished.returncode == 0, finished.stderr
    rows = ["| 1 | 1.2 | 10.0 |", "| 2 | 2.5 | 20.0 |", "| 5 | - | 50.0 |", "| 6 | - | 60.0 |"]
    assert finished.stdout.splitlines() == ["| epoch | a | b |", "|---|---|---|", *rows]
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
    refused = run_here("benchmarks/learning_curves.py", f"a={tmp_path}/nowhere")
    assert (
        refused.returncode == 2
        and "nowhere' is no folder of a run: it has no metrics.csv" in refused.stderr
    )
    refused = run_here("benchmarks/learning_curves.py", f"{tmp_path}/short")
    assert refused.returncode == 2 and "short' is not of the form NAME=WORKDIR" in refused.stderr


def test_baselines_give_the_density_of_what_they_chose(run_here):
    methods = "--methods=full-covariance Gaussian,kernel density"
    finished = run_here("benchmarks/baselines.py", "--copies=2", "--num_draws=2", methods)
    assert finished.returncode == 0, finished.stderr
    pattern = r"\| {} \| \w+ (\S+) \| (-?\d+\.\d+) \| (-?\d+\.\d+) \+- "
    ridge, _, found = map(
        float, re.search(pattern.format("full-covariance Gaussian"), finished.stdout).groups()
    )
    data = dataset.load(nice_tf.Config())
    generator = np.random.default_rng(0)
    train, test = (
        ((values + generator.random(values.shape)) / 17).reshape(len(values), -1)
        for values in (np.repeat(data.train, 2, axis=0), data.test)
    )
    covariance = np.cov(train, rowvar=False) + ridge * np.eye(64)
    centred = test - train.mean(axis=0)
    squares = np.sum(centred @ np.linalg.inv(covariance) * centred, axis=1)
    expected = np.mean(-0.5 * (squares + np.linalg.slogdet(covariance)[1] + 64 * np.log(2 * np.pi)))
    np.testing.assert_allclose(found, expected, atol=1.0)
    bandwidth, chosen, found = map(
        float, re.search(pattern.format("kernel density"), finished.stdout).groups()
    )
    distances = np.sum((test[:, np.newaxis] - train) ** 2, axis=-1)
    kernels = -distances / (2 * bandwidth**2) - 32 * np.log(2 * np.pi * bandwidth**2)
    highest = kernels.max(axis=1)
    expected = np.mean(highest + np.log(np.mean(np.exp(kernels - highest[:, np.newaxis]), axis=1)))
    np.testing.assert_allclose(found, expected, atol=1.0)
    assert 0.03 < bandwidth < 0.5 and chosen > 20, "within the grid"
