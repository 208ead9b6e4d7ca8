"""A run with `condition_on` behind a server: digits by their class."""

import numpy as np
import pytest
import tensorflow as tf
from cpp_loader import LoadedModel, ServingError

import nice_tf
from nice_tf.data import dataset
from nice_tf.evaluation.likelihood import noisy_rows
from nice_tf.reports import page
from nice_tf.runs import finished
from nice_tf.runs.workdir import Workdir
from nice_tf.serving import warmup

CONFIG = nice_tf.Config(
    dataset="digits",
    num_couplings=3,
    hidden_units=(16,),
    activation="tanh",
    zero_last_layer=False,
    learning_rate=0.01,
    epochs=4,
    batch_size=100,
    num_draws=2,
    epsilon=1e-8,
    precision="float32",
    condition_on="label",
)


X = np.zeros([2, 8, 8, 1], np.float32)
LABEL = np.array([3, 4])
ONES = np.ones(2, np.float32)


@pytest.fixture(scope="module")
def run(tmp_path_factory, trained):
    path = tmp_path_factory.mktemp("run")
    trained(CONFIG, path)
    return Workdir(path)


@pytest.fixture(scope="module")
def version(run, tmp_path_factory):
    return nice_tf.export_saved_model(run.path, tmp_path_factory.mktemp("export"), inpaint_steps=3)


@pytest.fixture(scope="module")
def model(version):
    return LoadedModel(version)


@pytest.fixture(scope="module")
def digits():
    return dataset.load(CONFIG)


def labels_of(digits, split="test"):
    return digits.labels.names(digits.classes(split)).astype(np.int64)


def seeds(number):
    return np.stack([np.zeros(number), np.arange(number)], axis=1).astype(np.int32)


def test_classify_has_the_accuracy_of_the_evaluation(run, model, digits):
    """At the same noise, and so has log p(x)."""
    expected = run.read_evaluation()
    draws = noisy_rows(digits.test, levels=17, config=CONFIG, split="test")
    assert draws.shape[0] == 2
    right, log_probs, given = [], [], []
    for x in draws:
        found = model("classify", x=(17 * x - 0.5).astype(np.float32))
        right.append(found["label"] == labels_of(digits))
        log_probs.append(found["log_prob"])
        given.append(found["log_prob_given"][np.arange(len(x)), labels_of(digits)])
        np.testing.assert_allclose(found["probability"].sum(axis=1), 1, rtol=1e-5)
        np.testing.assert_array_equal(found["probability"].argmax(axis=1), found["label"])
    conditional = expected["conditional"]
    assert conditional["accuracy"] > 0.5, "chance is 0.1"
    np.testing.assert_allclose(np.mean(right), conditional["accuracy"], atol=1e-9)
    np.testing.assert_allclose(np.mean(log_probs), conditional["log_prob"], rtol=1e-5)
    np.testing.assert_allclose(np.mean(given), expected["log_prob"], rtol=1e-5)


def test_scores_are_those_of_the_class_that_is_asked_for(run, model, digits):
    x, label = digits.test[:30].astype(np.float32), labels_of(digits)[:30]
    scores = model("log_prob", x=x, label=label)
    flow = nice_tf.load_flow(run.path)
    expected = flow.log_prob((x + 0.5) / 17, context=np.eye(10)[label])
    np.testing.assert_allclose(scores["log_prob"], expected, rtol=1e-4)
    others = model("log_prob", x=x, label=(label + 1) % 10)
    assert np.mean(scores["log_prob"] - others["log_prob"]) > 3
    assert np.mean(others["tail_probability"]) < np.mean(scores["tail_probability"])
    found = nice_tf.Model.load(run.path)
    np.testing.assert_allclose(
        found.score(x, label=label.astype(str))["log_prob"], expected, rtol=1e-4
    )
    assert np.mean(found.classify(x)["label"] == label.astype(str)) > 0.5


@pytest.mark.parametrize("value", [3e38, -3e38, 1e20])
def test_finite_in_finite_out(model, value):
    found = model("classify", x=X + np.float32(value))
    for name in ("log_prob_given", "probability", "log_prob"):
        assert np.all(np.isfinite(found[name])), name
    np.testing.assert_allclose(found["probability"].sum(axis=1), 1, rtol=1e-5)
    assert np.all(np.isfinite(model("log_prob", x=X + np.float32(value), label=LABEL)["log_prob"]))


def test_samples_are_of_the_class_that_is_asked_for(model):
    label = np.repeat(np.arange(10), 20)
    drawn = model("sample", seed=seeds(200), temperature=np.full(200, 0.7, np.float32), label=label)
    seen = model("classify", x=drawn["x"])["label"]
    assert np.mean(seen == label) > 0.7
    again = model("log_prob", x=drawn["x"], label=label)["log_prob"]
    np.testing.assert_allclose(again, drawn["log_prob"], rtol=1e-3, atol=0.01)


def test_every_input_and_output_has_a_batch_and_is_warmed_up(version, model):
    names = {"serving_default", "log_prob", "encode", "decode", "sample", "inpaint", "classify"}
    assert set(model.signatures) - {"__saved_model_init_op"} == {*names, "sample_n"}
    for name in names:
        definition = model.signatures[name]
        assert ("label" in definition.inputs) == (name != "classify")
        for tensor in [*definition.inputs.values(), *definition.outputs.values()]:
            assert tensor.tensor_shape.dim[0].size == -1, name
    assert set(warmup.replay_warmup(version)) == names
    card = (version / "MODEL_CARD.md").read_text()
    assert "The density is given label, the input `label` (int64)" in card and "7 (" in card


def test_runs_where_our_packages_cannot_be_imported(run_command, version, model, digits, tmp_path):
    np.save(tmp_path / "x.npy", digits.test[:5].astype(np.float32))
    script = """
import sys
sys.modules["nice_tf"] = sys.modules["tensorflow_probability"] = sys.modules["tf_keras"] = None
import numpy as np, tensorflow as tf
signatures = tf.saved_model.load(sys.argv[1]).signatures
np.save(sys.argv[3], signatures["classify"](x=tf.constant(np.load(sys.argv[2])))["label"])
"""
    finished = run_command(
        "-c", script, version, tmp_path / "x.npy", tmp_path / "out.npy", cwd=tmp_path
    )
    assert finished.returncode == 0, finished.stderr
    expected = model("classify", x=digits.test[:5].astype(np.float32))["label"]
    np.testing.assert_array_equal(np.load(tmp_path / "out.npy"), expected)


@pytest.mark.parametrize(
    ("signature", "inputs", "message"),
    [
        *(
            (name, {**inputs, "label": bad}, message)
            for name, inputs in (
                ("log_prob", {"x": X}),
                ("encode", {"x": X}),
                ("decode", {"z": np.zeros([2, 64], np.float32)}),
                ("sample", {"seed": seeds(2), "temperature": ONES}),
                ("inpaint", {"x": X, "mask": X, "seed": seeds(2)}),
            )
            for bad, message in (
                (LABEL + 7, "label must be one of 0, 1, 2, 3, 4, 5, 6, 7, 8, 9"),
                (LABEL[:1], "label must have as many rows as"),
                (LABEL[:0], "label must hold at least one example"),
                (LABEL[:, np.newaxis], r"_label_.*\[2,1\] is not compatible"),
                (LABEL.astype(np.float32), "int64 but float is provided"),
            )
        ),
        (
            "sample_n",
            {
                "num_samples": np.int32(1),
                "seed": np.zeros(2, np.int32),
                "temperature": np.float32(1),
                "label": np.int64(10),
            },
            "label must be one of",
        ),
        ("classify", {"x": X[:, :7]}, r"_x_.*is not compatible"),
        ("classify", {"x": X + np.float32(np.nan)}, "x must be finite"),
    ],
)
def test_bad_input_is_refused_by_name(model, signature, inputs, message):
    with pytest.raises(ServingError, match=message) as refused:
        model(signature, **inputs)
    assert refused.value.code == tf.errors.INVALID_ARGUMENT


def test_files_of_digits(run, model, digits, tmp_path):
    """Scores of an archive with labels, samples with theirs, the report."""
    x, label = digits.test[:9], labels_of(digits)[:9]
    np.savez(tmp_path / "rows.npz", x=x, label=label)
    nice_tf.score_file(run.path, tmp_path / "rows.npz", tmp_path / "out.csv")
    found = np.genfromtxt(tmp_path / "out.csv", delimiter=",", names=True)["log_prob"]
    expected = model("log_prob", x=x.astype(np.float32), label=label)["log_prob"]
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    for name, save, message in (
        ("plain.npz", lambda path: np.savez(path, x=x), "has no labels, and the model is of p"),
        ("plain.npy", lambda path: np.save(path, x), "has no labels, and the model is of p"),
        (
            "short.npz",
            lambda path: np.savez(path, x=x, label=label[:3]),
            "one for each of the 9 examples",
        ),
        (
            "other.npz",
            lambda path: np.savez(path, x=x, label=label + 9),
            "is no class of the model, which has 0, 1",
        ),
    ):
        save(tmp_path / name)
        with pytest.raises(nice_tf.UserError, match=message):
            nice_tf.score_file(run.path, tmp_path / name, tmp_path / "refused.csv")
    nice_tf.sample_file(run.path, tmp_path / "drawn.npz", num_samples=50)
    with np.load(tmp_path / "drawn.npz") as drawn:
        assert drawn["x"].shape == (50, 8, 8, 1) and drawn["label"].shape == (50,)
        assert len(np.unique(drawn["label"])) > 5
    few = tmp_path / "few.npz"
    nice_tf.sample_file(run.path, few, num_samples=5)
    with np.load(few) as drawn, np.load(tmp_path / "drawn.npz") as more:
        np.testing.assert_array_equal(drawn["label"], more["label"][:5])
    read = finished.load_finished_run(run.path)
    page.write_report(read, run.path, tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text()
    assert "The density is given label: 10 of label" in text and "In-painting" in text
    assert "Interpolation" not in text


def test_figures_of_p_of_x_alone_are_refused(run, run_here):
    wrong = run_here("-m", "nice_tf.apps.figures", f"--workdir={run.path}", "--figures=sphere")
    assert wrong.returncode == 1 and wrong.stderr.startswith(
        "error: figures sphere are not of a run with condition_on label"
    )
