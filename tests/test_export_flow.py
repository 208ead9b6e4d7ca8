"""A flow that no run trained behind a server: its bundle, and what is refused before there is one."""

import json
import re

import numpy as np
import pyarrow.parquet as pq
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
from bijector_laws import fresh
from conftest import ROOT
from cpp_loader import LoadedModel, ServingError
from flows import random_flow, random_points, randomize
from pace import slow_except
from table_files import write_csv
from test_layout import CONTRACT, files_of

import nice_tf
from nice_tf.flows import contributions as contributions_lib
from nice_tf.serving import warmup
from nice_tf.serving.classes import Classes

tfb, tfd = tfp.bijectors, tfp.distributions

SIZE = 3
COLUMNS = ("a", "b", "c")


def own_flow(dtype=tf.float32):
    mlp = nice_tf.MLP(1, 2, hidden_units=(6,), activation="tanh", dtype=dtype)
    found = [
        tfb.Shift(tf.constant([1.0, -2.0, 0.5], dtype)),
        nice_tf.AdditiveCoupling(randomize(mlp), num_passthrough=1),
        randomize(nice_tf.DiagonalScaling(SIZE, dtype=dtype)),
    ]
    zeros = tf.zeros(SIZE, dtype)
    heavy = tfd.Independent(tfd.StudentT(zeros + 5, zeros, zeros + 1), 1)
    return nice_tf.flow_from_layers(found, heavy, SIZE)


def seeds(number):
    return np.stack([np.zeros(number), np.arange(number)], axis=1).astype(np.int32)


@pytest.fixture(scope="module")
def flow():
    return own_flow()


@pytest.fixture(scope="module")
def validation(flow):
    return flow.sample(200, seed=[0, 1]).numpy()


@pytest.fixture(scope="module")
def version(flow, validation, tmp_path_factory):
    folder = tmp_path_factory.mktemp("export")
    return nice_tf.export_flow(
        flow, folder, validation=validation, schema=COLUMNS, name="three", inpaint_steps=5
    )


def test_the_bundle_is_that_of_a_run(version, flow, validation):
    assert files_of(version.parent) == CONTRACT["runs"]["table"]["export"]
    card = (version / "MODEL_CARD.md").read_text()
    log_prob = flow.log_prob(validation).numpy()
    for expected in (
        "# Model card: NICE on three",
        "of 4 layers and the prior IndependentStudentT",
        "200 validation",
        "the columns a, b, c",
        f"{log_prob.mean():.2f} +- ",
        "5 steps",
        "passes the first 1 and shifts the rest",
        "Samples are not clipped",
        "`nice-tf sample` rounds and keeps to the ranges",
    ):
        assert expected in card
    low, high = validation[:, 1].min(), validation[:, 1].max()
    assert f"| b | number | {low:g} to {high:g}, continuous |" in card
    assert "Pictures" not in card and "Missing values" not in card
    assert set(warmup.replay_warmup(version)) >= {"log_prob", "explain", "sample", "inpaint"}


def test_answers_in_cpp_and_through_model_are_those_of_the_flow(version, flow, validation):
    served = LoadedModel(version)
    x = validation[:20]
    scores = served("log_prob", x=x)
    expected = flow.log_prob(x).numpy()
    np.testing.assert_allclose(scores["log_prob"], expected, rtol=1e-5)
    usual = flow.log_prob(validation).numpy()
    share = (usual[:, np.newaxis] < expected - 1e-4).mean(axis=0)
    np.testing.assert_allclose(scores["tail_probability"], share, atol=0.011)
    assert 0.2 < scores["tail_probability"].mean() < 0.8
    drawn = served("sample", seed=seeds(5), temperature=np.ones(5, np.float32))
    np.testing.assert_allclose(flow.log_prob(fresh(drawn["x"])), drawn["log_prob"], rtol=1e-4)
    model = nice_tf.Model.load(version.parent)
    np.testing.assert_allclose(model.score(x)["log_prob"], expected, rtol=1e-5)
    np.testing.assert_allclose(model.sample(5, seed=0), drawn["x"], rtol=1e-5)
    assert model.schema.names == list(COLUMNS)
    gaps = np.where([True, False, True], x, np.nan)
    np.testing.assert_array_equal(model.fill(gaps)[:, ::2], x[:, ::2])


def test_score_file_takes_it(version, flow, validation, tmp_path):
    write_csv(tmp_path / "rows.csv", **dict(zip(COLUMNS, validation[:7].T, strict=True)))
    nice_tf.score_file(version.parent, tmp_path / "rows.csv", tmp_path / "scores.csv")
    found = np.genfromtxt(tmp_path / "scores.csv", delimiter=",", names=True)
    np.testing.assert_allclose(found["log_prob"], flow.log_prob(validation[:7]), rtol=1e-4)


def test_the_block_of_the_page(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = (ROOT / "docs" / "serving.md").read_text()
    (block,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    found = {}
    exec(block, found)
    model = nice_tf.Model.load(found["version"])
    assert model.schema.names == ["height", "weight", "age"]


def test_integers_are_taken_at_the_centre_of_their_bins(tmp_path):
    integers = np.random.default_rng(0).integers(0, 256, [50, 2, 2]).astype(np.uint8)
    flow = random_flow([2, 2], dtype=tf.float32)
    version = nice_tf.export_flow(flow, tmp_path, validation=integers, inpaint_steps=1)
    scores = LoadedModel(version)("log_prob", x=integers.astype(np.float32))
    expected = flow.log_prob((integers + 0.5) / 256).numpy()
    np.testing.assert_allclose(scores["log_prob"], expected, rtol=1e-5)
    np.testing.assert_allclose(
        scores["bits_per_dim"], nice_tf.bits_per_dim(expected, 4, 256), rtol=1e-5
    )
    assert json.loads((version / "assets" / "data.json").read_text())["levels"] == 256
    assert nice_tf.Model.load(version).event_shape == [2, 2]


def test_steps_of_columns_give_bits(tmp_path, flow, validation):
    steps = {"a": 1, "b": 0.5, "c": 2}
    version = nice_tf.export_flow(
        flow, tmp_path, validation=validation, schema=steps, inpaint_steps=1
    )
    scores = LoadedModel(version)("log_prob", x=validation[:3])
    bits = -scores["log_prob"] / 3 / np.log(2)  # the steps' product is 1
    np.testing.assert_allclose(scores["bits_per_dim"], bits, rtol=1e-4)


def make_server(flow, validation_log_probs=(-3.0, -2.0), levels=None, **kwargs):
    return nice_tf.FlowServer(
        flow, levels=levels, validation_log_probs=validation_log_probs, **kwargs
    )


def test_order_of_validation_log_probs_does_not_matter(flow, validation):
    usual = flow.log_prob(validation).numpy()
    x = tf.constant(validation[:50])
    found = make_server(flow, np.random.default_rng(0).permutation(usual)).log_prob(x)
    expected = make_server(flow, np.sort(usual)).log_prob(x)
    np.testing.assert_array_equal(found["tail_probability"], expected["tail_probability"])
    assert np.ptp(found["tail_probability"]) > 0.5


def test_a_cap_on_the_rows_of_a_request(flow, validation):
    server = make_server(flow, max_batch=4)
    x = tf.constant(validation[:5])
    assert server.log_prob(x[:4])["log_prob"].shape == [4]
    z = server.encode(x[:4])["z"]
    for call in (
        lambda: server.log_prob(x),
        lambda: server.encode(x),
        lambda: server.decode(tf.concat([z, z], axis=0)),
        lambda: server.inpaint(x, tf.ones_like(x), tf.constant(seeds(5))),
        lambda: server.sample(tf.constant(seeds(5)), tf.ones([5])),
    ):
        with pytest.raises(
            tf.errors.InvalidArgumentError, match="must hold at most 4 examples per request"
        ):
            call()


@pytest.fixture(scope="module")
def capped(flow, validation, tmp_path_factory):
    folder = tmp_path_factory.mktemp("capped")
    return nice_tf.export_flow(
        flow, folder, validation=validation, schema=COLUMNS, inpaint_steps=5, max_batch=4
    )


def test_a_cap_is_refused_in_cpp_too(capped, validation):
    served = LoadedModel(capped)
    for signature in ("serving_default", "log_prob", "encode", "explain"):
        assert served(signature, x=validation[:4])["log_prob"].shape == (4,)
        with pytest.raises(ServingError, match="x must hold at most 4 examples per request"):
            served(signature, x=validation[:5])


def test_commands_cut_their_rows_to_the_cap(version, capped, validation, tmp_path):
    x = validation[:50].copy()
    gaps = x.copy()
    gaps[::3, 1] = np.nan
    write_csv(tmp_path / "rows.csv", **dict(zip(COLUMNS, gaps.T, strict=True)))
    for name, path in (("free", version), ("capped", capped)):
        folder = tmp_path / name
        folder.mkdir()
        rows = tmp_path / "rows.csv"
        nice_tf.score_file(path, rows, folder / "scores.parquet", impute=True, top=1)
        nice_tf.fill_file(path, rows, folder / "filled.csv")
        nice_tf.sample_file(path, folder / "samples.csv", num_samples=50)
    for name in ("filled.csv", "samples.csv"):
        found = np.loadtxt(tmp_path / "capped" / name, delimiter=",", skiprows=1)
        expected = np.loadtxt(tmp_path / "free" / name, delimiter=",", skiprows=1)
        assert found.shape == (50, SIZE)
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3)
    found = pq.read_table(tmp_path / "capped" / "scores.parquet")
    expected = pq.read_table(tmp_path / "free" / "scores.parquet")
    for name in ("log_prob", "top_1_nats"):
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-3, atol=1e-3)
    data = json.loads((capped / "assets" / "data.json").read_text())
    assert data["max_batch"] == 4
    assert "max_batch" not in json.loads((version / "assets" / "data.json").read_text())
    batching = (capped.parent / "batching_parameters.txt").read_text()
    assert "max_batch_size { value: 4 }" in batching
    model = nice_tf.Model.load(capped)
    with pytest.raises(nice_tf.UserError, match="the batch is empty"):
        model.score(x[:0])
    with pytest.raises(nice_tf.UserError, match="at least one example"):
        model("inpaint", x=x[:4], mask=np.ones_like(x[:4]), seed=seeds(5))


def test_a_cap_of_one_row(tmp_path):
    flow = random_flow([SIZE], num_couplings=3, context_size=2, dtype=tf.float32)
    x = np.random.default_rng(0).normal(size=[20, SIZE]).astype(np.float32)
    label = np.array(["auk", "emu"])[np.arange(20) % 2]
    version = nice_tf.export_flow(
        flow,
        tmp_path,
        validation=x,
        classes={"auk": 1, "emu": 2},
        labels=label,
        inpaint_steps=1,
        max_batch=1,
    )
    model = nice_tf.Model.load(version)
    given = model.classify(x)["log_prob_given"]
    assert given.shape == (20, 2)
    found = model.score(x, label=label)["log_prob"]
    np.testing.assert_allclose(found, given[np.arange(20), np.arange(20) % 2], rtol=1e-4)
    assert model.sample(3, seed=0, label=label[:3]).shape == (3, SIZE)


@pytest.mark.parametrize("at_once", [1, 7, 10**6])
def test_explanations_do_not_depend_on_how_rows_are_dealt_out(monkeypatch, at_once):
    flow = random_flow([SIZE])
    x, usual = random_points(5, SIZE), tf.constant([0.1, -0.2, 0.3], tf.float64)
    monkeypatch.setattr(contributions_lib, "_EXAMPLES_AT_ONCE", at_once)
    found, log_prob = tf.function(contributions_lib.contributions)(flow, x, usual)
    np.testing.assert_allclose(log_prob, flow.log_prob(x), rtol=1e-10)
    for place in range(SIZE):
        replaced = np.array(x)
        replaced[:, place] = usual[place]
        gained = flow.log_prob(replaced) - flow.log_prob(x)
        np.testing.assert_allclose(found[:, place], gained, rtol=1e-9, atol=1e-9)


class OneWay(tfb.Bijector):
    """A layer that gives densities and no samples."""

    def __init__(self):
        super().__init__(forward_min_event_ndims=0, name="one_way")

    def _forward(self, x):
        return 2 * x

    def _forward_log_det_jacobian(self, x):
        return tf.constant(np.log(2), x.dtype)


def cauchy():
    return tfd.Independent(tfd.Cauchy(tf.zeros(SIZE), 1.0), 1)


def without_quantile():
    return tfd.MixtureSameFamily(
        tfd.Categorical(logits=[0.0, 0.0]), tfd.MultivariateNormalDiag(tf.zeros([2, SIZE]))
    )


def built(**kwargs):
    return nice_tf.build_flow(SIZE, hidden_units=(4,), **kwargs)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: make_server(built(), None), "validation_log_probs are needed"),
        (lambda: make_server(built(), []), r"at least one, got \[0\]"),
        (lambda: make_server(built(), [[1.0]]), r"shape \[N\].*got \[1, 1\]"),
        (lambda: make_server(built(), ["a"]), "validation_log_probs must be numbers"),
        (lambda: make_server(built(), [1.0, np.nan]), "1 of 2 validation_log_probs are not fin"),
        (lambda: make_server(built(), [np.inf]), "1 of 1 validation_log_probs are not finite"),
        (
            lambda: make_server(built(compute_dtype=tf.bfloat16)),
            "computes in bfloat16, the flow is of float32: what is served is in full precision",
        ),
        (lambda: make_server(built(dtype=tf.float16)), "float32 or float64 is served, got float16"),
        (lambda: make_server(built(prior=cauchy())), "no finite standard deviation"),
        (lambda: make_server(built(prior=without_quantile())), "has no quantile, of which samples"),
        (
            lambda: make_server(built(context_size=2)),
            "classes must be as many .* got none: .* context_size 2 and got no context$",
        ),
        (
            lambda: make_server(
                built(context_size=3), classes=Classes(("a", "b"), np.array([0.5, 0.5]))
            ),
            r"classes must be as many .*, got 2 \(a, b\): .* must have 3 values",
        ),
        (
            lambda: make_server(nice_tf.condition(built(context_size=2), tf.ones(2))),
            r"holds a context of shape \(2,\), given by condition: what is served is the flow",
        ),
        (
            lambda: make_server(built(), classes=Classes(("a", "b"), np.array([0.5, 0.5]))),
            r"left out for a flow without one, got 2 \(a, b\): ",
        ),
        (
            lambda: make_server(built(context_size=1), classes=Classes(("a",), np.ones(1))),
            r"at least 2 different names, got \['a'\]",
        ),
        (
            lambda: make_server(built(context_size=2), classes=Classes(("a", "b"), np.ones(3))),
            "frequencies must be above 0, one for each of 2 classes",
        ),
        (
            lambda: make_server(nice_tf.flow_from_layers([OneWay()], "logistic", SIZE)),
            "cannot be served: .*inverse not implemented",
        ),
        (lambda: make_server(built(), levels=1), "levels must be at least 2, got 1"),
        (lambda: make_server(built(), levels=2.5), "levels must be a whole number, got 2.5"),
        (lambda: make_server(built(), max_batch=-1), "max_batch must be at least 0, got -1"),
        (lambda: make_server(built(), max_batch=0.5), "max_batch must be a whole number, got 0.5"),
        (lambda: nice_tf.FlowServer(built(), levels=None), "validation_log_probs are needed"),
        (lambda: make_server(tfb.Shift(1.0)), "a flow as build_flow makes it is needed"),
        (
            lambda: make_server(
                tfd.TransformedDistribution(
                    tfd.MultivariateNormalDiag(tf.zeros([2, SIZE])), tfb.Shift(1.0)
                )
            ),
            r"batch shape \[\]: this one has \(2,\)",
        ),
    ],
)
def test_what_cannot_be_served_is_refused_at_construction(call, message):
    with pytest.raises(nice_tf.UserError, match=message):
        call()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"validation": np.ones([5, 4], np.float32)},
            r"examples of shape \[4\], the flow .* \[3\]",
        ),
        ({"validation": np.full([5, 3], np.nan)}, "validation has 15 values that are not finite"),
        ({"validation": np.ones([1, 3])}, "validation has 1 examples: at least 2"),
        ({"validation": np.ones([5, 3], np.int64)}, "give the number of integer levels"),
        ({"levels": 1}, "levels must be at least 2|must lie in 0"),
        ({"levels": 4, "schema": COLUMNS}, "levels must be None with a schema"),
        ({"schema": ("a", "b")}, "a different name for each of the 3 columns"),
        ({"schema": ("a", "b", "b")}, "a different name for each of the 3 columns"),
        ({"schema": "abc"}, "must be names of columns, got the text 'abc'"),
        ({"schema": {"a": -1, "b": 0, "c": 0}}, "steps of at least 0 by name, got 'a': -1"),
        ({"schema": {"a": "1", "b": 0, "c": 0}}, "steps of at least 0 by name, got 'a': '1'"),
        ({"classes": {"a": "x", "b": 1}, "labels": ["a"]}, "a number, must be above 0, got 'x'"),
        ({"classes": ["x", "y"], "labels": ["x"] * 200}, r"by its name, as .*, got \['x', 'y'\]"),
        (
            {"classes": {"x": 1, "y": 1}, "labels": ["y"] * 200},
            r"^classes must be as many as the context .* got 2 \(x, y\): [^\n]*$",
        ),
        ({"classes": {"x": 1, "y": 1}}, "classes and labels go together"),
        ({"labels": ["x"] * 200}, "classes and labels go together"),
        ({"classes": {"x": 0, "y": 1}, "labels": ["y"] * 200}, "must be above 0, got 0"),
        (
            {"classes": {"x": 1, "y": 1}, "labels": ["y"] * 3},
            r"labels have shape \[3\]: one for each of the 200",
        ),
        ({"classes": {"x": 1, "y": 1}, "labels": ["z"] * 200}, "labels have z, which classes"),
        ({"inpaint_steps": 0}, "inpaint_steps must be at least 1"),
        ({"inpaint_noise": np.nan}, "inpaint_noise must be finite"),
    ],
)
def test_what_does_not_fit_is_not_exported(flow, validation, tmp_path, change, message):
    with pytest.raises(nice_tf.UserError, match=message):
        nice_tf.export_flow(flow, tmp_path / "export", **{"validation": validation, **change})
    assert not (tmp_path / "export").exists()


def test_a_diverged_flow_is_not_exported(validation, tmp_path):
    spoilt = own_flow()
    spoilt.trainable_variables[0].assign(spoilt.trainable_variables[0] * np.nan)
    with pytest.raises(nice_tf.UserError, match="variables of the flow are not finite"):
        nice_tf.export_flow(spoilt, tmp_path / "export", validation=validation)


@pytest.mark.parametrize("names", slow_except([("cat", "dog"), ("7", "-3")], ("7", "-3")))
def test_a_conditional_flow_of_ones_own(names, tmp_path):
    """Labels are text, or whole numbers where all classes are."""
    flow = random_flow([SIZE], num_couplings=3, context_size=2, dtype=tf.float32)
    randomize(flow, deviation=1.0)
    contexts = np.eye(2, dtype=np.float32)
    y = np.arange(60) % 2
    x = flow.sample(60, seed=[0, 1], context=contexts[y]).numpy()
    version = nice_tf.export_flow(
        flow,
        tmp_path,
        validation=x,
        classes={names[0]: 1, names[1]: 3},
        labels=np.array(names)[y],
        inpaint_steps=2,
    )
    served = LoadedModel(version)
    label = np.array(names)[y].astype(np.int64) if names[0] == "7" else np.array(names, object)[y]
    given = np.stack([flow.log_prob(x, context=one) for one in contexts], axis=1)
    assert np.max(np.abs(given[:, 0] - given[:, 1])) > 1
    scores = served("log_prob", x=x, label=label)
    np.testing.assert_allclose(scores["log_prob"], given[np.arange(60), y], rtol=1e-4)
    joint = given + np.log([0.25, 0.75])
    found = served("classify", x=x)
    np.testing.assert_allclose(found["log_prob_given"], given, rtol=1e-4)
    np.testing.assert_allclose(found["log_prob"], np.logaddexp(*joint.T), rtol=1e-4)
    np.testing.assert_allclose(
        found["probability"], np.exp(joint - np.logaddexp(*joint.T)[:, None]), atol=1e-4
    )
    expected = np.array(names)[joint.argmax(axis=1)]
    assert found["label"].astype(str).tolist() == expected.tolist()
    model = nice_tf.Model.load(version)
    assert model.classify(x)["label"].tolist() == expected.tolist()
    drawn = served("sample", seed=seeds(60), temperature=np.ones(60, np.float32), label=label)
    expected = flow.log_prob(fresh(drawn["x"]), context=contexts[y])
    np.testing.assert_allclose(drawn["log_prob"], expected, rtol=1e-3, atol=1e-3)
    z = served("encode", x=x, label=label)["z"]
    np.testing.assert_allclose(served("decode", z=z, label=label)["x"], x, atol=1e-4)
    one = {"num_samples": np.int32(4), "seed": seeds(1)[0], "temperature": np.float32(1)}
    several = served("sample_n", **one, label=label[0])
    expected = flow.log_prob(fresh(several["x"]), context=contexts[0])
    np.testing.assert_allclose(several["log_prob"], expected, rtol=1e-3, atol=1e-3)
    mask = np.tile(np.float32([1, 0, 1]), [60, 1])
    filled = served("inpaint", x=x, mask=mask, seed=seeds(60), label=label)
    expected = flow.log_prob(fresh(filled["x"]), context=contexts[y])
    np.testing.assert_allclose(filled["log_prob"], expected, rtol=1e-3, atol=1e-3)
    unknown = np.array([5] * 60) if names[0] == "7" else np.array(["cow"] * 60, object)
    with pytest.raises(ServingError, match="label must be one of"):
        served("log_prob", x=x, label=unknown)
    with pytest.raises(ServingError, match="label must have as many rows"):
        served("log_prob", x=x, label=label[:3])


def test_an_overflow_of_one_signature_names_what_is_finite(version, monkeypatch):
    answer = warmup._answer

    def of_nan(signature, request):
        found = answer(signature, request)
        if request.model_spec.signature_name == "inpaint":
            found["x"] = np.full_like(found["x"], np.nan)
        return found

    monkeypatch.setattr(warmup, "_answer", of_nan)
    message = "signature inpaint overflows float32 .*finite are the answers of .*log_prob.*sample"
    with pytest.raises(nice_tf.UserError, match=message):
        warmup.replay_warmup(version)
