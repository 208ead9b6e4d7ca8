"""A sample of `make crash-test`: kills at any moment, two processes on one folder, SIGTERM."""

import os
import pathlib
import signal
import subprocess
import sys
import time

import crash_states
import process_pairs
import pytest
from pace import slow_except
from processes import time_limit

import nice_tf
from nice_tf import files
from nice_tf.runs.workdir import Workdir
from nice_tf.scoring import files as files_lib
from nice_tf.serving import export


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("inputs")
    crash_states.make_inputs(folder)
    return folder


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    compiled = crash_states.compile_recorder(tmp_path_factory.mktemp("recorder"))
    return compiled or pytest.skip("the recorder needs a C compiler, cc or gcc")


@pytest.mark.parametrize(
    ("command", "number"),
    [
        ("train", 3),
        ("score", 3),
        ("sample", 2),
        pytest.param("train", 5, marks=pytest.mark.slow),
        pytest.param("score", 4, marks=pytest.mark.slow),
        pytest.param("sample", 3, marks=pytest.mark.slow),
        pytest.param("export", 2, marks=pytest.mark.slow),
    ],
)
def test_every_state_that_a_kill_leaves_can_be_gone_on_from(
    inputs, library, tmp_path, command, number
):
    counts, broken = crash_states.check(
        command, inputs=inputs, scratch=tmp_path, library=library, number=number, processes=1
    )
    assert not broken, broken
    assert counts["tried"] == number and counts["states"] > 15, (
        "the recorder saw the command at work"
    )


def test_a_state_that_is_broken_is_found(inputs, tmp_path):
    """An output that is not the whole one; parts with a hole, which without a check would be taken
    for all.
    """
    from nice_tf.scoring import output as output_lib

    folder = tmp_path / "state"
    folder.mkdir()
    crash_states.score(inputs, folder)
    expected = crash_states.written(folder)
    assert crash_states.resume("score", inputs, folder, expected) == ""
    (folder / "scores.csv").write_text("row\n0\n")
    assert "is not the whole one" in crash_states.resume("score", inputs, folder, expected)
    (folder / "scores.csv").unlink()
    with pytest.raises(KeyboardInterrupt), pytest.MonkeyPatch.context() as patch:
        patch.setattr(output_lib, "_write_csv", interrupt)
        crash_states.score(inputs, folder)
    (folder / ".scores.csv.parts" / output_lib._name(1)).unlink()
    assert crash_states.resume("score", inputs, folder, expected) == ""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(output_lib, "_drop_behind_a_hole", lambda folder: None)
        assert "scores.csv" in crash_states.resume("score", inputs, folder, expected)


def interrupt(*_):
    raise KeyboardInterrupt


@pytest.mark.parametrize("pair", slow_except(["train/train", "score/score"], "score/score"))
def test_of_two_processes_one_works(inputs, tmp_path, pair):
    command = process_pairs.PAIRS[pair][0]
    run, found = crash_states.COMMANDS[command]
    run(inputs, tmp_path)
    expected = {command: found(tmp_path)}
    num_worked, wrong = process_pairs.check(pair, inputs=inputs, expected=expected, delay=0.1)
    assert not wrong and num_worked


def terminated(arguments, is_at_work):
    """A command that gets SIGTERM once it is at work, and has ended."""
    process = subprocess.Popen(
        [sys.executable, *map(str, arguments)],
        cwd=crash_states.HERE.parent,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + time_limit()
    while not is_at_work() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=time_limit())
    assert process.returncode == 143, said
    assert (
        "terminated; the same command continues from what was saved last" in said
        and "Traceback" not in said
    )
    return said


def test_sigterm_ends_a_training_which_then_goes_on(tmp_path, run_here):
    command = ("train.py", "--flagfile=configs/smoke.flags", f"--workdir={tmp_path}", "--epochs=15")
    run = Workdir(tmp_path)
    terminated(command, lambda: list(run.last.glob("*.index")))
    assert crash_states.unfinished(tmp_path) == []
    finished = run_here(*command)
    assert finished.returncode == 0 and "continued after epoch" in finished.stdout, finished.stderr
    assert len(run.read_metrics()) == 15


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("where", ["import", "later", "lost"])
def test_an_interrupt_that_other_code_hides_is_still_one(tmp_path, number, where):
    """While TensorFlow is imported it waits; later, another exception may come instead of it, or
    none.
    """
    script = f"""
import os, sys, time
import signal
from nice_tf.cli import command
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
def hidden():
    try:
        os.kill(os.getpid(), {int(number)})
    except KeyboardInterrupt:
        pass
    {"time.sleep(100)" if where == "lost" else "raise RuntimeError('in __set_name__') from None"}
def main():
    with command.quiet_tensorflow():
        {"hidden(); import nice_tf.evaluation.metrics" if where == "import" else "pass"}
    {"pass" if where == "import" else "hidden()"}
    print("not reached")
command.run(main, usage="", groups=[])
"""
    finished = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True
    )
    assert finished.returncode == 128 + number, finished.stderr
    name = "terminated" if number == signal.SIGTERM else "interrupted"
    assert (
        finished.stderr.startswith(f"\n{name}; the same command continues")
        and finished.stdout == ""
    )


def test_sigterm_ends_an_export_and_leaves_nothing(inputs, tmp_path):
    command = ("export.py", f"--workdir={inputs}/run", f"--export_dir={tmp_path}/export")
    terminated(command, lambda: list(tmp_path.glob("export/.unfinished-*")))
    assert list((tmp_path / "export").iterdir()) == []


def test_sigterm_ends_scoring_which_then_goes_on(inputs, tmp_path):
    rows = (inputs / "table.csv").read_text().splitlines(keepends=True)
    source, output = tmp_path / "rows.csv", tmp_path / "scores.csv"
    source.write_text(rows[0] + "".join(rows[1:] * 800))
    command = (
        "-m",
        "nice_tf.apps.score",
        f"--model={inputs}/run",
        f"--input={source}",
        f"--output={output}",
    )
    terminated(command, lambda: list(tmp_path.glob(".scores.csv.parts/0*.parquet")))
    assert not output.exists() and not list(tmp_path.rglob("*.tmp"))
    made = len(list(tmp_path.glob(".scores.csv.parts/0*.parquet")))
    files_lib.score_file(str(inputs / "run"), str(source), str(output))
    assert made and len(output.read_text().splitlines()) == 1 + 800 * (len(rows) - 1)


def test_an_export_removes_what_a_killed_one_has_left(inputs, tmp_path):
    (tmp_path / f".unfinished-{16 * '0'}" / "assets").mkdir(parents=True)
    with files.temporary_folder(tmp_path, ".unfinished-") as other:
        assert not (tmp_path / f".unfinished-{16 * '0'}").exists()
        (tmp_path / f".unfinished-{16 * '0'}" / "assets").mkdir(parents=True)
        export.export_saved_model(inputs / "run", tmp_path, inpaint_steps=1)
        assert other.exists() and not (tmp_path / f".unfinished-{16 * '0'}").exists()
    assert (tmp_path / "1" / "saved_model.pb").exists() and not list(tmp_path.glob(".unfinished-*"))


def test_an_export_of_a_run_in_training_is_refused(inputs, tmp_path):
    with (
        Workdir(inputs / "run").writing(),
        pytest.raises(nice_tf.UserError, match="is in use by process"),
    ):
        export.export_saved_model(inputs / "run", tmp_path)


def test_all_that_gets_its_final_name_is_on_the_disk_before(inputs, tmp_path, monkeypatch):
    """A power cut may keep the name and lose the content, unless this was synced first."""
    synced, renamed = set(), []
    real = {name: getattr(os, name) for name in ("fsync", "replace", "rename")}

    def fsync(descriptor):
        synced.add(pathlib.Path(f"/proc/self/fd/{descriptor}").resolve())
        real["fsync"](descriptor)

    def rename(name):
        def call(source, target):
            source = pathlib.Path(source).resolve()
            content = (
                [path for path in source.rglob("*") if path.is_file()]
                if source.is_dir()
                else [source]
            )
            is_final = ".parts." not in str(target)  # a folder that is put aside to be removed
            renamed.append(
                (
                    pathlib.Path(target).name,
                    is_final and [path for path in content if path not in synced],
                )
            )
            real[name](source, target)

        return call

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "replace", rename("replace"))
    monkeypatch.setattr(os, "rename", rename("rename"))
    for command in (crash_states.train_table, crash_states.score, crash_states.export):
        command(inputs, tmp_path)
    assert {
        "config.json",
        "epoch-3.index",
        "metrics.csv",
        "evaluation.json",
        "scores.csv",
        "1",
    } <= dict(renamed).keys()
    assert [(name, missing) for name, missing in renamed if missing] == []
