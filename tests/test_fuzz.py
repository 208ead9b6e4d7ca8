"""A small sample of the fuzz; `make fuzz` runs more of it."""

import io
import json
import pathlib
import re
import shutil

import fuzz
import numpy as np
import pytest

import nice_tf
from nice_tf.data import arrays
from nice_tf.reports import page
from nice_tf.runs import finished
from nice_tf.scoring.model import Model
from nice_tf.serving import export, server


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return fuzz.Files(pathlib.Path(tmp_path_factory.mktemp("fuzz")))


@pytest.mark.parametrize(("kind", "number"), [("flags", 30), ("readers", 30), ("signatures", 60)])
def test_odd_input_is_answered_or_refused_in_one_line(files, kind, number):
    result = fuzz.run(kind, files, number=number, seed=12)
    assert not result.failures, "\n".join(result.failures)
    assert result.tried == number and 0 < result.refused < number


def test_whole_files_are_read(files):
    """Else a reader that refuses everything would pass."""
    for name, content in files.inputs.items():
        fuzz.read_input(files, name, content, label=fuzz.LABELS.get(name, ""), on_disk=False)
    for path in files.parts[:5]:
        fuzz.read_part(files, path, files.whole[path])


def test_a_traceback_is_counted_and_can_be_repeated(files, monkeypatch):
    def case(generator, files):
        value = generator.integers(1000)

        def run():
            if value % 2:
                raise RuntimeError(f"got {value}")

        return f"value {value}", run

    monkeypatch.setitem(fuzz.KINDS, "readers", case)
    result = fuzz.run("readers", files, number=20, seed=3)
    assert result.tried == 20 and 0 < len(result.failures) < 20 and result.refused == 0
    command, described, *trace = result.failures[0].splitlines()
    assert "Traceback" in trace[0] and described.startswith("value ")
    first = int(command.split("--first=")[1].split()[0])
    assert fuzz.run("readers", files, number=1, seed=3, first=first).failures == result.failures[:1]


# Single cases


def test_versions_are_the_folders_that_tensorflow_serving_takes(files, tmp_path):
    names = {
        "1": 1,
        "007": 7,
        "²": None,
        "٣": None,
        "1a": None,
        "-1": None,
        "+1": None,
        " 1": None,
        "": None,
    }
    names |= {str(2**63 - 1): 2**63 - 1, str(2**63): None, "9" * 200: None}
    assert {name: server.version_number(name) for name in names} == names
    for name in ("²", "٣", "1a", ".unfinished-1"):
        (tmp_path / name).mkdir()
    with pytest.raises(
        nice_tf.UserError, match="a finished run or an export is needed, there is neither"
    ):
        Model.load(tmp_path)
    assert export.export_saved_model(files.run, tmp_path, inpaint_steps=1).name == "1"
    shutil.copytree(tmp_path / "1", tmp_path / "007")
    assert Model.load(tmp_path).path == str(tmp_path / "007")
    assert export.export_saved_model(files.run, tmp_path, inpaint_steps=1).name == "8"


def damaged_parts(files):
    """Name of a file, its content and what is said of it."""
    data = json.loads(files.whole[files.export / "assets" / "data.json"])
    for name, value in (
        ("event_shape", None),
        ("event_shape", [2]),
        ("event_shape", []),
        ("levels", "many"),
        ("usual_log_prob", None),
        ("usual_log_prob", float("nan")),
        ("dtype", "float7"),
        ("resize", [1]),
        ("schema", {}),
        ("num_validation", 0),
        ("schema", data["schema"] | {"columns": data["schema"]["columns"][:2]}),
        ("name", 3),
    ):
        yield files.export / "assets" / "data.json", json.dumps(data | {name: value}).encode()
    for name in ("event_shape", "levels", "usual_log_prob", "num_validation"):
        kept = {key: value for key, value in data.items() if key != name}
        yield files.export / "assets" / "data.json", json.dumps(kept).encode()
    for content in (b"", b"[]", b"{", b"\xff\xfe"):
        yield files.export / "assets" / "data.json", content
    for path in files.parts[5:]:
        whole = files.whole[path]
        for content in (b"", whole[: len(whole) // 2]):
            yield path, content


def test_damaged_exports_end_in_one_line(files):
    for path, content in damaged_parts(files):
        with pytest.raises(
            nice_tf.UserError, match=r"model .* cannot be loaded \(.*\): export it again"
        ) as refused:
            fuzz.read_part(files, path, content)
        assert len(str(refused.value).splitlines()) == 1, path


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("metrics.csv", lambda text: text[:60], r"metrics\.csv"),
        (
            "metrics.csv",
            lambda text: text.replace("val_log_prob", "val_log_prop"),
            r"metrics\.csv is damaged",
        ),
        ("metrics.csv", lambda text: text.replace("\n1,", "\none,"), r"metrics\.csv"),
        ("metrics.csv", lambda text: "", "has no metrics.csv"),
        (
            "evaluation.json",
            lambda text: text.replace('"event_size"', '"event_sizd"'),
            "has no evaluation that is whole",
        ),
        (
            "evaluation.json",
            lambda text: text.replace('"log_prob":', '"log_prob": "a", "b":'),
            r"evaluation\.json",
        ),
        ("evaluation.json", lambda text: "[]", "has no evaluation that is whole"),
        (
            "config.json",
            lambda text: text.replace('"event_shape"', '"event_shap"'),
            r"config\.json is damaged",
        ),
        ("config.json", lambda text: text.replace('"step"', '"stem"'), r"config\.json is damaged"),
        (
            "config.json",
            lambda text: text.replace('"levels": null', '"levels": [2]'),
            r"config\.json is damaged",
        ),
    ],
)
def test_a_page_of_damaged_files_ends_in_one_line(files, tmp_path, name, change, message):
    run = tmp_path / "run"
    shutil.copytree(files.run, run)
    text = (run / name).read_text()
    (run / name).write_text(change(text))
    assert (run / name).read_text() != text
    with pytest.raises(nice_tf.UserError, match=message) as refused:
        page.write_report(finished.load_finished_run(run), run, tmp_path / "report.html")
    assert len(str(refused.value).splitlines()) == 1


@pytest.mark.parametrize(
    "values",
    [
        np.array([3.0, 2.0, 1.0]),
        np.array([1.0, np.nan]),
        np.zeros([2, 2]),
        np.array(["a"]),
        np.array([], float),
    ],
)
def test_a_calibration_that_is_none_is_refused(files, values):
    content = io.BytesIO()
    np.save(content, values)
    with pytest.raises(
        nice_tf.UserError,
        match=r"calibration\.npy is damaged: delete it and run the training command",
    ):
        fuzz.read_part(files, files.run / "calibration.npy", content.getvalue())


def test_masks_that_are_none_end_in_one_line(tmp_path):
    whole = io.BytesIO()
    np.savez(whole, np.ones([8, 8]))
    cut = io.BytesIO()
    np.save(cut, np.ones([8, 8]))
    for content, message in (
        (whole.getvalue(), "mask is an archive, a single array (.npy) is needed"),
        (
            cut.getvalue()[:-8],
            "mask cannot be read as a NumPy file of numbers: its header claims 512 bytes",
        ),
        (
            b"\x93NUMPY\x01\x00\x0c\x00{'descr': (\n",
            "mask cannot be read as a NumPy file of numbers",
        ),
    ):
        (tmp_path / "mask.npy").write_bytes(content)
        with pytest.raises(nice_tf.UserError, match=re.escape(message)):
            arrays.read_array(tmp_path / "mask.npy", "mask")
