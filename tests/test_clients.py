"""Both example clients with rows of a file, on each kind of model: pictures, tables in float32 and in
float64, conditional models.
"""

import json

import numpy as np
import pytest
import tensorflow as tf
from cpp_loader import LoadedModel
from flows import random_flow
from serving_doubles import over_grpc, rest

import nice_tf

PICTURES = np.random.default_rng(0).integers(0, 17, [40, 2, 2, 1])
TABLE = np.random.default_rng(1).normal(size=[40, 3])


def pictures(folder):
    flow = random_flow([2, 2, 1], dtype=tf.float32)
    return nice_tf.export_flow(flow, folder, validation=PICTURES, levels=17, inpaint_steps=1)


def table(folder, dtype=tf.float32):
    flow = random_flow([3], dtype=dtype)
    return nice_tf.export_flow(
        flow, folder, validation=TABLE, schema=["a", "b", "c"], inpaint_steps=1
    )


def conditional(folder, other="-8"):
    flow = random_flow([3], context_size=2, dtype=tf.float32)
    return nice_tf.export_flow(
        flow,
        folder,
        validation=TABLE,
        classes={"7": 1, other: 3},
        labels=np.tile(["7", other], 20),
        inpaint_steps=1,
    )


KINDS = {
    "pictures": (pictures, PICTURES[:3], ()),
    "table": (table, TABLE[:3], ()),
    "float64 table": (lambda folder: table(folder, tf.float64), TABLE[:3], ()),
    "conditional": (conditional, TABLE[:3], ("--label=-8",)),
    "words": (lambda folder: conditional(folder, "red"), TABLE[:3], ("--label=7",)),
}


@pytest.fixture(scope="module", params=KINDS)
def served(request, tmp_path_factory):
    make, rows, flags = KINDS[request.param]
    folder = tmp_path_factory.mktemp("model")
    model = LoadedModel(make(folder / "export"))
    np.save(folder / "rows.npy", rows)
    (folder / "rows.json").write_text(json.dumps(rows.tolist()))
    dtype = tf.as_dtype(model.signatures["log_prob"].inputs["x"].dtype).as_numpy_dtype
    assert (dtype == np.float64) == (request.param == "float64 table")
    inputs = {"x": rows.astype(dtype)}
    if flags:
        label = flags[0].removeprefix("--label=")
        inputs["label"] = np.full(len(rows), label, object)
        if request.param == "conditional":
            inputs["label"] = inputs["label"].astype(np.int64)
    return model, folder, flags, model("log_prob", **inputs)["log_prob"]


def test_grpc_client(run_here, served):
    model, folder, flags, expected = served
    with over_grpc(model) as server:
        finished = run_here(
            "examples/grpc_client.py",
            f"--server={server}",
            f"--input={folder / 'rows.npy'}",
            *flags,
        )
        drawn = run_here("examples/grpc_client.py", f"--server={server}", "--num_samples=5", *flags)
    assert finished.returncode == 0, finished.stderr
    assert f"log_prob {expected}" in finished.stdout and "samples" not in finished.stdout
    assert "samples of shape (5," in drawn.stdout, drawn.stderr


def test_rest_client(run_here, served):
    model, folder, flags, expected = served
    with rest(model) as server:
        finished = run_here(
            "examples/rest_client.py",
            f"--server={server}",
            f"--input={folder / 'rows.json'}",
            *flags,
        )
    assert finished.returncode == 0, finished.stderr
    for row, log_prob in enumerate(expected):
        assert f"row {row}:" in finished.stdout and f"log_prob {log_prob:.3f}" in finished.stdout


@pytest.mark.parametrize("served", ["conditional"], indirect=True)
def test_a_label_is_asked_for(run_here, served):
    model, *_ = served
    with rest(model) as server:
        missing = run_here("examples/rest_client.py", f"--server={server}")
        assert missing.returncode == 1 and "Missing named input: label" in missing.stderr
        unknown = run_here("examples/rest_client.py", f"--server={server}", "--label=5")
        assert unknown.returncode == 1 and "label must be one of 7, -8" in unknown.stderr
        text = run_here("examples/rest_client.py", f"--server={server}", "--label=red")
        assert text.returncode == 1 and "--label must be a whole number" in text.stderr


@pytest.mark.parametrize("signature", ["log_prob", "decode"])
def test_a_model_with_one_signature(run_here, tmp_path, signature):
    """It is asked as serving_default, with rows of a file: it draws none."""
    version = nice_tf.export_flow(
        random_flow([3], dtype=tf.float32), tmp_path / "a", validation=TABLE, signature=signature
    )
    model = LoadedModel(version)
    np.save(tmp_path / "rows.npy", TABLE[:2])
    (tmp_path / "rows.json").write_text(json.dumps(TABLE[:2].tolist()))
    (name,) = model.signatures["serving_default"].inputs
    answer = model("serving_default", **{name: TABLE[:2].astype(np.float32)})
    first, values = min(answer.items())
    with over_grpc(model) as server:
        found = run_here(
            "examples/grpc_client.py", f"--server={server}", f"--input={tmp_path}/rows.npy"
        )
        nothing = run_here("examples/grpc_client.py", f"--server={server}")
    assert found.stdout.startswith(f"{first} {values}"), found.stderr
    assert nothing.returncode == 1 and "--input is needed" in nothing.stderr
    with rest(model) as server:
        found = run_here(
            "examples/rest_client.py", f"--server={server}", f"--input={tmp_path}/rows.json"
        )
        nothing = run_here("examples/rest_client.py", f"--server={server}")
    if signature == "log_prob":
        assert f"row 1: {first} {values[1]:.3f}" in found.stdout, found.stderr
    assert found.stdout.startswith(f"row 0: {first} "), found.stderr
    assert nothing.returncode == 1 and "--input is needed" in nothing.stderr
