"""The exported model of a table: its units, what it says of each column, how it fills gaps."""

import json

import numpy as np
import pytest
import tensorflow as tf
from cpp_loader import LoadedModel, ServingError

import nice_tf
from nice_tf.data import dataset
from nice_tf.scoring.model import Model
from nice_tf.serving import export, warmup

ROWS = 600


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    """A table in which `c` is twice `a` but for a little noise, `b` an integer in fives, `k`
    constant.
    """
    generator = np.random.default_rng(0)
    a, b = generator.normal(3.0, 2.0, ROWS), generator.integers(0, 9, ROWS) * 5 - 10
    c = 2 * a + generator.normal(0, 0.1, ROWS)
    path = tmp_path_factory.mktemp("data") / "table.csv"
    lines = [
        f"{x!r},{y},7,{z!r},word"
        for x, y, z in zip(a.tolist(), b.tolist(), c.tolist(), strict=True)
    ]
    path.write_text("\n".join(["a,b,k,c,text", *lines]) + "\n")
    return nice_tf.Config(
        dataset=str(path),
        hidden_units=(8,),
        whitening="standardize_triangular",
        epochs=3,
        batch_size=0,
        num_draws=2,
        learning_rate=1e-3,
        epsilon=1e-8,
        zero_last_layer=False,
        precision="float32",
    )


@pytest.fixture(scope="module")
def run(config, tmp_path_factory):
    path = tmp_path_factory.mktemp("run")
    nice_tf.train_and_evaluate(config, path)
    return path


@pytest.fixture(scope="module")
def version(run, tmp_path_factory):
    return export.export_saved_model(run, tmp_path_factory.mktemp("export"))


@pytest.fixture(scope="module")
def rows(config):
    return dataset.load(config).test


def test_the_served_density_is_that_of_the_flow_in_the_tables_units(run, version, rows):
    flow, scores = nice_tf.load_flow(run), LoadedModel(version)("log_prob", x=rows)
    np.testing.assert_allclose(scores["log_prob"], flow.log_prob(rows), rtol=1e-5)
    assert "bits_per_dim" not in scores, "not all columns are integers"


def test_description_is_among_the_assets(version, config):
    description = json.loads((version / "assets" / "data.json").read_text())
    schema = description["schema"]
    assert [(column["name"], column["step"]) for column in schema["columns"]] == [
        ("a", 0),
        ("b", 5),
        ("c", 0),
    ]
    assert schema["constants"] == {"k": 7.0, "text": 0.0} and schema["ignored"] == []
    assert "columns a, b, c" in (version / "MODEL_CARD.md").read_text()


def test_a_run_and_its_exports_answer_alike(run, version, rows):
    models = [Model.load(path) for path in (run, version, version.parent)]
    answers = [
        {
            **model.score(rows),
            "contribution": model.contributions(rows),
            "sample": model.sample(5, seed=3),
        }
        for model in models
    ]
    for name, value in answers[0].items():
        for other in answers[1:]:
            np.testing.assert_array_equal(other[name], value, err_msg=name)
    usual = models[1].description["usual_log_prob"]
    np.testing.assert_allclose(
        answers[0]["typicality"], np.abs(answers[0]["log_prob"] - usual), rtol=1e-4
    )
    assert 0.2 < answers[0]["tail_probability"].mean() < 0.8


def test_a_newer_version_is_the_one_that_counts(run, version):
    newer = export.export_saved_model(run, version.parent)
    assert Model.load(version.parent).path == str(newer) != str(version)


def test_contribution_is_what_the_columns_mean_would_gain(run, version, rows):
    flow, found = nice_tf.load_flow(run), LoadedModel(version)("explain", x=rows)
    train_mean = nice_tf.layers(flow)[1].loc.numpy()
    means = np.array([train_mean[0], np.rint(train_mean[1] / 5) * 5, train_mean[2]], np.float32)
    for column in range(3):
        usual = rows.copy()
        usual[:, column] = means[column]
        gain = flow.log_prob(usual) - flow.log_prob(rows)
        np.testing.assert_allclose(found["contribution"][:, column], gain, rtol=1e-3, atol=1e-3)
    spoilt = rows.copy()
    spoilt[:, 2] += 30
    assert np.mean(Model.load(run).contributions(spoilt).argmax(axis=1) == 2) > 0.8


def test_gaps_are_filled_on_the_steps_and_better_than_by_the_mean(run, rows):
    gaps = rows.copy()
    gaps[:, 2], gaps[::2, 1] = np.nan, np.nan
    filled = Model.load(run).fill(gaps)
    np.testing.assert_array_equal(filled[:, 0], rows[:, 0])
    np.testing.assert_array_equal(filled[1::2, 1], rows[1::2, 1])
    assert (
        np.all((filled[:, 1] + 10) % 5 == 0)
        and filled[:, 1].min() >= -10
        and filled[:, 1].max() <= 30
    )
    assert (
        np.abs(filled[:, 2] - rows[:, 2]).mean()
        < 0.3 * np.abs(rows[:, 2] - rows[:, 2].mean()).mean()
    )


def test_bits_per_dim_of_integer_columns(tmp_path, config):
    generator = np.random.default_rng(1)
    values = generator.integers(0, 4, [400, 2]) * [1, 10]
    path = tmp_path / "integers.csv"
    path.write_text("p,q\n" + "\n".join(f"{p},{q}" for p, q in values) + "\n")
    settings = {"dataset": str(path), "zero_last_layer": True, "num_couplings": 3}
    result = nice_tf.train_and_evaluate(
        nice_tf.Config(**{**config.as_dict(), **settings}), tmp_path / "run"
    )
    # Two independent columns of four equal values are 2 bits each; a logistic of two bins' width
    # cannot do it as well.
    assert 2 < result["bits_per_dim"] < 2.6
    np.testing.assert_allclose(
        result["bits_per_dim"], -(result["log_prob"] + np.log(10)) / 2 / np.log(2), rtol=1e-6
    )
    scores = Model.load(tmp_path / "run").score(values[:5])
    np.testing.assert_allclose(
        scores["bits_per_dim"], -(scores["log_prob"] + np.log(10)) / 2 / np.log(2), rtol=1e-4
    )


def test_a_table_that_needs_float64_is_answered_in_it(tmp_path, config):
    """Beside an offset of 1e9, float32 has no other value within 64."""
    generator = np.random.default_rng(2)
    a, b = generator.normal(size=400), generator.integers(0, 9, 400)
    path = tmp_path / "offset.csv"
    path.write_text(
        "a,b\n"
        + "\n".join(f"{1e9 + x!r},{10**9 + y}" for x, y in zip(a.tolist(), b, strict=True))
        + "\n"
    )
    settings = {"dataset": str(path), "precision": "float64", "num_couplings": 3}
    settings = nice_tf.Config(**{**config.as_dict(), **settings})
    nice_tf.train_and_evaluate(settings, tmp_path / "run")
    x = dataset.load(settings).test
    expected = nice_tf.load_flow(tmp_path / "run").log_prob(x).numpy()
    assert expected.std() > 0.3
    version = export.export_saved_model(tmp_path / "run", tmp_path / "export")
    for model in (Model.load(tmp_path / "run"), Model.load(version)):
        np.testing.assert_allclose(model.score(x)["log_prob"], expected, rtol=1e-5)
        drawn = model.sample(200, seed=1)
        assert (
            drawn.dtype == np.float64
            and 0.5 < drawn[:, 0].std() < 2
            and len(np.unique(drawn[:, 0])) == 200
        )
        filled = model.fill(np.where([True, False], x, np.nan))
        np.testing.assert_array_equal(filled[:, 0], x[:, 0])
        assert (
            np.all(filled[:, 1] % 1 == 0)
            and 0 <= (filled[:, 1] - 1e9).min() <= (filled[:, 1] - 1e9).max() <= 8
        )
        assert np.abs(model.contributions(x)).max() < 100


def test_bad_input_and_models(run, version, rows, tmp_path):
    model = LoadedModel(version)
    with pytest.raises(ServingError, match="x must be finite"):
        model("explain", x=np.full([1, 3], np.nan, np.float32))
    with pytest.raises(ServingError, match=r"x.*\[1,4\]|\[1,4\].*x|shape"):
        model("explain", x=np.ones([1, 4], np.float32))
    with pytest.raises(nice_tf.UserError, match="the model refuses its input: x must be finite"):
        Model.load(run).score(np.full([2, 3], np.inf))
    with pytest.raises(nice_tf.UserError, match="a finished run or an export is needed"):
        Model.load(tmp_path)
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "saved_model.pb").touch()
    with pytest.raises(nice_tf.UserError, match="cannot be loaded"):
        Model.load(tmp_path)


def test_warm_up_has_every_signature_of_a_table(version):
    assert "explain" in warmup.replay_warmup(version)
    assert all(
        np.all(np.isfinite(value)) for value in warmup.replay_warmup(version)["explain"].values()
    )
    assert tf.io.gfile.exists(str(version / "assets" / "data.json"))
