"""What prepares a run on a borrowed GPU: the exported training step, and the kit with TensorFlow."""

import json
import os
import pathlib
import shutil
import struct
import subprocess

import numpy as np
import pytest

ROOT = pathlib.Path(__file__).parents[1]
KIT = ROOT / "benchmarks" / "gpu_kit.sh"


@pytest.fixture
def benchmarks(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")


@pytest.fixture
def exported(benchmarks, monkeypatch, tmp_path):
    import contest
    import gpu_step

    monkeypatch.setattr(gpu_step, "BATCHES", (8,))
    monkeypatch.setattr(contest, "PRECISIONS", ("float32",))
    shape = contest.Architecture(event_size=6, couplings=4, hidden=100, depth=1)
    gpu_step.export(tmp_path / "steps", shape)
    with pytest.raises(FileExistsError):
        gpu_step.export(tmp_path / "steps", shape)
    return tmp_path / "steps"


def test_exported_step_has_its_state_and_nothing_large(exported):
    import exported_step

    steps = exported_step.read(exported)["steps"]
    assert [one["steps_per_call"] for one in steps] == [1, 20]
    assert steps[1]["inputs"][0]["shape"] == [20, 8, 6]
    assert steps[1]["expected"][0] < steps[1]["expected"][1] < steps[1]["expected"][2]
    step = steps[0]
    drawn = [one for one in step["inputs"] if one["from"] == "kernel"]
    # Each coupling has a matrix before and one behind its hidden layer.
    assert [one["shape"] for one in drawn] == [[3, 100], [100, 3]] * 4
    state = [step["inputs"][position] for _, position in step["aliases"]]
    for one in drawn:
        # Four kernels of this shape, each with its two moments in Adam.
        assert [other["shape"] for other in state].count(one["shape"]) == 12
    assert step["inputs"][0] == {"from": "batch", "shape": [8, 6], "dtype": "uint8"}
    assert 0 not in [position for _, position in step["aliases"]]
    assert len({output for output, _ in step["aliases"]}) == len(step["aliases"])
    # Training on one batch again and again makes it likelier.
    assert step["expected"][0] < step["expected"][1] < step["expected"][2]


def test_exported_step_runs_in_jax(exported):
    pytest.importorskip("jax")
    import exported_step

    for description in exported_step.read(exported)["steps"]:
        step = exported_step.JaxStep(exported, description)
        values = [float(step()) for _ in description["expected"]]
        np.testing.assert_allclose(values, description["expected"], rtol=1e-3)


def test_steps_of_another_version_are_refused(benchmarks, tmp_path):
    import exported_step

    with pytest.raises(exported_step.FormatError, match=r"no steps\.json in .*write it by"):
        exported_step.read(tmp_path)
    (tmp_path / "steps.json").write_text("{")
    with pytest.raises(exported_step.FormatError, match="is damaged"):
        exported_step.read(tmp_path)
    (tmp_path / "steps.json").write_text(json.dumps({"version": 0, "steps": []}))
    with pytest.raises(exported_step.FormatError, match=r"version 0 .* reads version 2"):
        exported_step.read(tmp_path)


def entry(kind, card, content):
    """An entry of a fatbin as CUDA's compiler writes it."""
    head = struct.pack("<HHIQIIHHI", kind, 0x101, 64, len(content), 0, 0, 0, 0, card)
    return head.ljust(64, b"\0") + content


def test_kernels_of_other_cards_are_found(benchmarks):
    import other_cards

    entries = entry(2, 80, b"a" * 16) + entry(2, 90, b"b" * 24) + entry(1, 90, b"c" * 8)
    fatbin = struct.pack("<IHHQ", other_cards.MAGIC, 1, 16, len(entries)) + entries
    kernels = b"\0" * 8 + fatbin + b"\0" * 16 + fatbin
    found = [
        (kind, card, kernels[start:end]) for kind, card, start, end in other_cards._entries(kernels)
    ]
    once = [(2, 80, b"a" * 16), (2, 90, b"b" * 24), (1, 90, b"c" * 8)]
    assert found == once * 2


@pytest.fixture
def parts(tmp_path):
    """A kit of one file, in two parts."""
    kit = tmp_path / "kit"
    (kit / "site").mkdir(parents=True)
    (kit / "site" / "module.py").write_text("known = 1\n")
    folder = tmp_path / "parts"
    folder.mkdir()
    packed = "tar -C ../kit -cf - . | xz > kit.tar.xz && sha256sum kit.tar.xz > kit.sha256"
    split = "split -d -n 2 kit.tar.xz part_ && rm kit.tar.xz"
    subprocess.run(["bash", "-c", f"{packed} && {split}"], cwd=folder, check=True)
    return folder


def join(parts, target, libraries):
    return subprocess.run(
        ["bash", KIT, "join", parts, target],
        env={**os.environ, "LIBRARIES": str(libraries)},
        capture_output=True,
        text=True,
    )


needs_xz = pytest.mark.skipif(not shutil.which("xz"), reason="no xz here")


@needs_xz
def test_parts_of_a_kit_are_joined_and_old_names_linked(parts, tmp_path):
    cuda = tmp_path / "cuda"
    cuda.mkdir()
    (cuda / "libcublas.so.13").write_text("")
    done = join(parts, tmp_path / "joined", cuda)
    assert done.returncode == 0, done.stderr
    joined = tmp_path / "joined"
    assert (joined / "site" / "module.py").read_text() == "known = 1\n"
    assert (joined / "cuda12" / "libcublas.so.12").resolve() == cuda / "libcublas.so.13"
    assert str(cuda) in (joined / "env").read_text()
    assert f"no libcudnn.so.9 in {cuda}" in done.stderr


@needs_xz
def test_a_damaged_part_is_told(parts, tmp_path):
    content = bytearray((parts / "part_01").read_bytes())
    content[3] ^= 1
    (parts / "part_01").write_bytes(content)
    done = join(parts, tmp_path / "joined", tmp_path)
    assert done.returncode != 0
    assert "FAILED" in done.stdout
    assert not (tmp_path / "joined" / "env").exists()


def test_kit_without_a_task_says_what_it_does():
    done = subprocess.run(["bash", KIT], capture_output=True, text=True)
    assert done.returncode == 2
    assert "gpu_kit.sh make FOLDER" in done.stderr
