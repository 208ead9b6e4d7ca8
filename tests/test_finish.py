"""A run that was stopped, closed with --finish."""

import json
import sys

import pytest

import nice_tf
from nice_tf.cli import command
from nice_tf.runs.workdir import Workdir
from nice_tf.training import callbacks, run
from nice_tf.training.run import finish_stopped, train_and_evaluate

SETTINGS = nice_tf.Config(
    dataset="digits",
    num_couplings=2,
    allow_incomplete_mixing=True,
    hidden_units=(8,),
    epochs=3,
    num_draws=2,
    precision="float32",
)


@pytest.fixture
def stopped(tmp_path, monkeypatch, without_denoising):
    """A run that was stopped after its second epoch."""
    save = callbacks.Recorder.on_epoch_end

    def stop_after_two(self, epoch, logs=None):
        save(self, epoch, logs)
        if epoch == 1:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(callbacks.Recorder, "on_epoch_end", stop_after_two)
        with pytest.raises(KeyboardInterrupt):
            train_and_evaluate(SETTINGS, tmp_path / "run")
    return Workdir(tmp_path / "run")


def test_a_stopped_run_is_finished_used_and_continued(run_here, stopped, tmp_path):
    sample = (
        "-m",
        "nice_tf.apps.sample",
        f"--model={stopped.path}",
        f"--output={tmp_path}/samples.npz",
    )
    refused = run_here(*sample)
    assert refused.returncode == 1
    assert "is not finished" in refused.stderr and "with --finish" in refused.stderr

    finished = run_here("train.py", "--finish", f"--workdir={stopped.path}")
    assert finished.returncode == 0, finished.stderr
    found = json.loads(stopped.evaluation.read_text())
    rows = stopped.read_metrics(up_to_epoch=9)
    best = max(rows, key=lambda row: float(row["val_log_prob"]))
    assert len(rows) == 2 and found["epoch"] == int(best["epoch"])
    assert f"{found['log_prob']:.2f}" in finished.stdout
    assert run_here(*sample).returncode == 0

    # As a run that was never stopped.
    continued = train_and_evaluate(SETTINGS, stopped.path)
    whole = train_and_evaluate(SETTINGS, tmp_path / "whole")
    assert len(stopped.read_metrics(up_to_epoch=9)) == 3
    assert continued.evaluation == whole.evaluation


def test_other_flags_are_those_of_the_run_or_change_no_result(run_here, stopped, tmp_path):
    finish = ("train.py", "--finish", f"--workdir={stopped.path}")
    refused = run_here(*finish, "--epochs=9", "--hidden_units=8", "--prior=gaussian")
    assert refused.returncode == 1 and not stopped.evaluation.exists()
    assert (
        "--prior: 'gaussian', where the run has 'logistic'; --epochs: 9, where the run has 3"
        in refused.stderr
    )
    assert "leave them out" in refused.stderr and "hidden_units" not in refused.stderr
    finished = run_here(*finish, "--epochs=3", "--batch_size=0", f"--data_dir={tmp_path}/moved")
    assert finished.returncode == 0, finished.stderr
    assert stopped.evaluation.exists()


def test_a_finished_run_reads_data_where_they_are_now(stopped, tmp_path, monkeypatch):
    seen = []
    load = run.dataset.load

    def spied(config):
        seen.append((config.data_dir, config.manual_dir, config.num_draws))
        return load(config)

    monkeypatch.setattr(run.dataset, "load", spied)
    before, described = stopped.read_config()
    finish_stopped(stopped.path, {"data_dir": "a", "manual_dir": "b"})
    assert seen == [("a", "b", 2)]
    # What comes next reads them there, too.
    after, same = stopped.read_config()
    assert (after.data_dir, after.manual_dir) == ("a", "b") and same == described
    assert not after.differences(before)
    finish_stopped(stopped.path)
    assert seen[1:] == [("a", "b", 2)]


def test_a_finished_run_that_is_continued_and_stopped_is_open_again(stopped, monkeypatch):
    """Its evaluation was of weights that are gone."""
    finish_stopped(stopped.path)
    save = callbacks.Recorder.on_epoch_end

    def stop(self, epoch, logs=None):
        save(self, epoch, logs)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(callbacks.Recorder, "on_epoch_end", stop)
        with pytest.raises(KeyboardInterrupt):
            train_and_evaluate(SETTINGS, stopped.path)
    rows = stopped.read_metrics(up_to_epoch=9)
    assert max(rows, key=lambda row: float(row["val_log_prob"]))["epoch"] == "3"
    with pytest.raises(nice_tf.UserError, match="is not finished"):
        stopped.finished_evaluation()
    assert finish_stopped(stopped.path).epoch == 3


def test_there_must_be_an_epoch_to_finish_at(run_here, tmp_path):
    refused = run_here("train.py", "--finish", f"--workdir={tmp_path}/none")
    assert refused.returncode == 1 and str(tmp_path / "none") in refused.stderr
    assert not (tmp_path / "none").exists()


def test_a_command_about_an_unfinished_run_says_so_before_tensorflow_is_imported(
    run_command, stopped
):
    """In a process of its own, in which importing TensorFlow is an error."""
    code = (
        "import sys; sys.modules['tensorflow'] = None\n"
        f"sys.argv = ['score', '--model={stopped.path}', '--input=a.csv', '--output=b.csv']\n"
        "import runpy; runpy.run_module('nice_tf.apps.score', run_name='__main__')"
    )
    refused = run_command("-c", code)
    assert refused.returncode == 1
    assert "is not finished" in refused.stderr


@pytest.mark.parametrize("is_terminal", [True, False])
def test_what_takes_a_while_is_said_on_a_terminal_alone(is_terminal, capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: is_terminal)
    command.tell("loading ...")
    assert capsys.readouterr() == ("", "loading ...\n" if is_terminal else "")


def test_ctrl_c_names_the_way_to_finish(run_here, tmp_path, monkeypatch):
    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr("nice_tf.training.run.fit", interrupted)
    stopped = run_here("train.py", "--epochs=1", "--hidden_units=8", f"--workdir={tmp_path}/run")
    assert stopped.returncode == 130
    assert "the same command continues" in stopped.stderr
    assert "--finish" in stopped.stderr
