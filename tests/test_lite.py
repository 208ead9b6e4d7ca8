"""A LiteRT model beside the SavedModel: its answers, its names, and what cannot be one."""

import json

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
from flows import random_flow

import nice_tf
from nice_tf.serving import graph, lite

tfb, tfd = tfp.bijectors, tfp.distributions

PICTURES = np.random.default_rng(0).integers(0, 17, [60, 2, 2, 1])
TABLE = np.random.default_rng(1).normal(size=[60, 3])


def pictures():
    return random_flow([2, 2, 1], dtype=tf.float32), {"validation": PICTURES, "levels": 17}


def table():
    return random_flow([3], dtype=tf.float32), {"validation": TABLE, "schema": ["a", "b", "c"]}


def classes(names=("7", "-8")):
    flow = random_flow([3], context_size=2, dtype=tf.float32)
    given = {"classes": dict.fromkeys(names, 1), "labels": np.tile(names, 30)}
    return flow, {"validation": TABLE, **given}


def words():
    return classes(("red", "blue"))


def mixture():
    """Marginals and a mixture prior, as the recipes have them."""
    flow = nice_tf.build_flow(
        [3],
        hidden_units=(8,),
        zero_last_layer=False,
        marginals="quantile",
        prior="logistic_mixture",
        partition="nested",
        conditioner_input="values",
        num_couplings=2,
    )
    nice_tf.initialize_from_data(flow, tf.constant(TABLE, tf.float32))
    return flow, {"validation": TABLE}


def interpreter_of(version):
    with lite._quiet():
        return tf.lite.Interpreter(model_path=str(version / "model.tflite"))


@pytest.mark.parametrize(
    ("make", "signature"),
    [
        (pictures, "log_prob"),
        pytest.param(pictures, "decode", marks=pytest.mark.slow),
        (table, "encode"),
        pytest.param(classes, "encode", marks=pytest.mark.slow),
        (words, "log_prob"),
        pytest.param(mixture, "log_prob", marks=pytest.mark.slow),
        (mixture, "decode"),
    ],
)
def test_it_answers_as_the_savedmodel(make, signature, tmp_path):
    flow, given = make()
    version = nice_tf.export_flow(flow, tmp_path, signature=signature, format="tflite", **given)
    interpreter = interpreter_of(version)
    served = tf.saved_model.load(str(version)).signatures["serving_default"]
    # Of another number of rows than were compared; moved, so that tail probabilities meet no step.
    inputs = {"x": given["validation"][:7].astype(np.float32) + np.float32(0.2)}
    if signature == "decode":
        inputs = {"z": np.random.default_rng(2).normal(size=[7, 4 if make is pictures else 3])}
        inputs["z"] = inputs["z"].astype(np.float32)
    if "labels" in given:
        dtype = served.structured_input_signature[1]["label"].dtype.as_numpy_dtype
        inputs["label"] = given["labels"][:7].astype(dtype)
    found = interpreter.get_signature_runner("serving_default")(**inputs)
    expected = served(**{name: tf.constant(value) for name, value in inputs.items()})
    assert set(found) == set(expected)
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-4, atol=1e-4)
        assert np.std(value) > 0
    # TensorFlow Serving knows inputs and outputs by the names of their tensors.
    assert {one["name"] for one in interpreter.get_input_details()} == set(inputs)
    assert {one["name"] for one in interpreter.get_output_details()} == set(expected)
    noted = json.loads((version / "assets" / "data.json").read_text())["lite_difference"]
    assert 0 <= noted < 1e-3
    card = (version / "MODEL_CARD.md").read_text()
    assert f"by {noted:.1e} at most" in card
    assert ("unknown label" in card) == ("labels" in given)


@pytest.mark.parametrize("make", [table, classes, mixture])
def test_unusual_rows_have_the_likelihoods_of_the_savedmodel(make, tmp_path):
    """LiteRT has no softplus: log(1 + exp(z)) overflows where z is some 90 scales out."""
    flow, given = make()
    version = nice_tf.export_flow(flow, tmp_path, format="tflite", **given)
    inputs = {"x": np.array([[1e3] * 3, [-1e3] * 3, [-20.0, 0, 3000]], np.float32)}
    if "labels" in given:
        inputs["label"] = np.array([7, -8, 7])
    found = interpreter_of(version).get_signature_runner("serving_default")(**inputs)
    served = tf.saved_model.load(str(version)).signatures["serving_default"]
    expected = served(**{name: tf.constant(value) for name, value in inputs.items()})
    assert np.max(expected["log_prob"]) < -100 and np.min(expected["log_prob"]) > -1e7
    np.testing.assert_allclose(found["log_prob"], expected["log_prob"], rtol=1e-4)


def test_what_overflows_in_lite_alone_is_refused(tmp_path):
    flow = nice_tf.flow_from_layers(
        [nice_tf.DiagonalScaling(3)],
        tfd.Independent(tfd.Logistic(tf.zeros(3), tf.ones(3)), 1),
        3,
    )
    message = r"^log_prob in LiteRT is -3.40282e\+38 in an unusual row, the flow's is -\d"
    with pytest.raises(nice_tf.UserError, match=message):
        nice_tf.export_flow(flow, tmp_path, format="tflite", validation=TABLE)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("signature", "output"), [("log_prob", "log_prob"), ("decode", "x")])
def test_an_unknown_label_is_seen_in_the_answer(signature, output, tmp_path):
    flow, given = classes()
    version = nice_tf.export_flow(flow, tmp_path, signature=signature, format="tflite", **given)
    name = "z" if signature == "decode" else "x"
    inputs = {name: np.ones([2, 3], np.float32), "label": np.array([7, 77])}
    found = interpreter_of(version).get_signature_runner("serving_default")(**inputs)[output]
    assert np.all(np.abs(found[0]) < 1e6) and np.all(found[1] == np.finfo(np.float32).min)


def sinh():
    """A layer of an operator that LiteRT does not have."""
    prior = tfd.Independent(tfd.Normal(tf.zeros(3), tf.ones(3)), 1)
    flow = nice_tf.flow_from_layers([tfb.SinhArcsinh(), nice_tf.DiagonalScaling(3)], prior, [3])
    return flow, {"validation": TABLE}


def of_float64():
    return random_flow([3], dtype=tf.float64), {"validation": TABLE}


@pytest.mark.parametrize(
    ("make", "change", "message"),
    [
        (table, {"format": "onnx"}, "format must be one of saved_model, tflite, got 'onnx'"),
        (table, {"signature": "sample"}, "format tflite is for the signatures log_prob, encode, d"),
        (table, {"signature": "none"}, "format tflite is for the signatures .* got 'none'"),
        (table, {"max_batch": 8}, "max_batch is checked in the graph, .* tflite, got 8"),
        (table, {"compile_single": True}, "compile_single is about XLA, which LiteRT does without"),
        (table, {"inpaint_steps": 3}, "inpaint_steps and inpaint_noise are about inpaint"),
        (sinh, {}, "log_prob cannot be converted to LiteRT, which has no operator .*Asinh"),
        (
            of_float64,
            {"signature": "encode"},
            "encode cannot be converted .*AddV2, .* of its types",
        ),
    ],
)
def test_what_cannot_be_one_is_refused(make, change, message, tmp_path, capfd):
    flow, given = make()
    arguments = {"format": "tflite", **given, **change}
    with pytest.raises(nice_tf.UserError, match=message):
        nice_tf.export_flow(flow, tmp_path, **arguments)
    assert list(tmp_path.iterdir()) == []
    assert "error" not in capfd.readouterr().err


def test_other_answers_than_the_flows_are_not_exported(tmp_path, monkeypatch):
    flow, given = table()
    monkeypatch.setattr(lite, "_BOUND", 1e-12)
    with pytest.raises(nice_tf.UserError, match=r"^log_prob in LiteRT differs from the flow's"):
        nice_tf.export_flow(flow, tmp_path, format="tflite", **given)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [1, 2, 3, 8, 9, 100, 1000])
def test_numbers_below_are_counted(number):
    generator = np.random.default_rng(number)
    ascending = np.sort(generator.integers(0, 50, number)).astype(np.float32)  # some are equal
    values = np.concatenate([generator.uniform(-5, 55, 30), ascending[:5], [-3e38, 3e38]])
    values = values.astype(np.float32)
    blocks = tf.constant(graph.in_blocks(ascending), tf.float32)
    found = graph.num_below(blocks, tf.constant(values))
    np.testing.assert_array_equal(found, np.searchsorted(ascending, values))
