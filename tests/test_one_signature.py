"""An export of one signature as serving_default, for servers that take one for a model."""

import json

import numpy as np
import pytest
import tensorflow as tf
from cpp_loader import LoadedModel
from flows import random_flow
from pace import slow_except
from tensorflow_serving.apis import prediction_log_pb2

import nice_tf
from nice_tf.serving import warmup

VALIDATION = np.random.default_rng(0).normal(size=[40, 3])
COLUMNS = ("a", "b", "c")
INPUTS = {
    "log_prob": {"x"},
    "decode": {"z"},
    "sample": {"seed", "temperature"},
    "explain": {"x"},
}


@pytest.fixture(scope="module")
def flow():
    return random_flow([3], dtype=tf.float32)


@pytest.fixture(scope="module")
def everything(flow, tmp_path_factory):
    return nice_tf.export_flow(
        flow, tmp_path_factory.mktemp("all"), validation=VALIDATION, schema=COLUMNS
    )


@pytest.mark.parametrize("signature", slow_except(INPUTS, "log_prob", "sample"))
def test_it_answers_as_it_does_among_all(flow, everything, tmp_path, signature):
    version = nice_tf.export_flow(
        flow, tmp_path, validation=VALIDATION, schema=COLUMNS, signature=signature
    )
    one = LoadedModel(version)
    assert set(one.signatures) - {"__saved_model_init_op"} == {"serving_default"}
    assert set(one.signatures["serving_default"].inputs) == INPUTS[signature]
    (record,) = tf.data.TFRecordDataset(str(version / warmup.WARMUP))
    request = prediction_log_pb2.PredictionLog.FromString(record.numpy()).predict_log.request
    assert request.model_spec.signature_name == "serving_default"
    inputs = {name: tf.make_ndarray(value) for name, value in request.inputs.items()}
    expected = LoadedModel(everything)(signature, **inputs)
    for name, value in one("serving_default", **inputs).items():
        np.testing.assert_array_equal(value, expected[name])
    # No other function is in the file.
    assert len(one.signatures["serving_default"].outputs) == len(expected)
    sizes = [(path / "saved_model.pb").stat().st_size for path in (version, everything)]
    assert sizes[0] < 0.7 * sizes[1]
    card = (version / "MODEL_CARD.md").read_text()
    assert f"`serving_default`, the only one, is `{signature}`" in card
    assert ("tail_probability" in card) == (signature == "log_prob")
    assert json.loads((version / "assets" / "data.json").read_text())["signature"] == signature


def test_classify_alone(tmp_path):
    flow = random_flow([3], context_size=2, dtype=tf.float32)
    version = nice_tf.export_flow(
        flow,
        tmp_path,
        validation=VALIDATION,
        classes={"red": 1, "blue": 3},
        labels=np.tile(["red", "blue"], 20),
        signature="classify",
    )
    found = LoadedModel(version)("serving_default", x=VALIDATION[:4].astype(np.float32))
    given = found["log_prob_given"] + np.log([0.25, 0.75])
    np.testing.assert_array_equal(found["label"], np.array(["red", "blue"])[given.argmax(axis=1)])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"signature": "density"},
            "signature must be one of log_prob, encode, decode, sample, inp",
        ),
        ({"signature": "serving_default"}, "explain, got 'serving_default'"),
        ({"signature": "sample_n"}, "signature must be one of .* got 'sample_n'"),
        ({"signature": "classify"}, "signature must be one of .* got 'classify'"),
        ({"signature": ""}, "signature must be one of .* got ''"),
        ({"signature": "encode", "compile_single": True}, "compile_single is about log_prob and s"),
        ({"signature": "sample", "inpaint_steps": 5}, "are about inpaint, but signature is 'samp"),
    ],
)
def test_what_makes_no_sense_is_refused(flow, tmp_path, change, message):
    with pytest.raises(nice_tf.UserError, match=message):
        nice_tf.export_flow(flow, tmp_path / "a", validation=VALIDATION, schema=COLUMNS, **change)
    assert not (tmp_path / "a").exists()


def test_the_commands_say_that_they_need_all(flow, tmp_path):
    nice_tf.export_flow(flow, tmp_path, validation=VALIDATION, signature="log_prob")
    with pytest.raises(nice_tf.UserError, match="has the signature log_prob alone, for a server"):
        nice_tf.Model.load(tmp_path)
