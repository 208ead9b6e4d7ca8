"""The exported model: its values, its refusals, its files; in Python, without our packages, and in
C++.
"""

import json
import pathlib
import re

import numpy as np
import pytest
import tensorflow as tf
from bijector_laws import fresh
from cpp_loader import LoadedModel, ServingError
from flows import randomize
from google.protobuf import (
    descriptor_pb2,
    descriptor_pool,
    message_factory,
    text_format,
    wrappers_pb2,
)
from serving_doubles import over_grpc, rest
from tensorflow_serving.apis import prediction_log_pb2
from tensorflow_serving.config import model_server_config_pb2

import nice_tf
from nice_tf.data import dataset
from nice_tf.flows.inpainting import inpaint
from nice_tf.runs.workdir import Workdir
from nice_tf.serving import export, server, warmup
from nice_tf.serving import signatures as signatures_lib

ROOT = pathlib.Path(__file__).parents[1]
BATCHABLE = ("serving_default", "log_prob", "encode", "decode", "sample", "inpaint")
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
)


@pytest.fixture(scope="module")
def run(tmp_path_factory, trained):
    path = tmp_path_factory.mktemp("run")
    trained(CONFIG, path)
    return Workdir(path)


@pytest.fixture(scope="module")
def flow(run):
    return nice_tf.load_flow(run.path)


@pytest.fixture(scope="module")
def version(run, tmp_path_factory):
    return export.export_saved_model(run.path, tmp_path_factory.mktemp("export"), inpaint_steps=20)


@pytest.fixture(scope="module")
def model(version):
    return LoadedModel(version)


@pytest.fixture(scope="module")
def digits():
    return dataset.load(CONFIG)


def seeds(*numbers):
    return np.array([[0, number] for number in numbers], np.int32)


def ones(number):
    return np.ones(number, np.float32)


def test_scores_are_those_of_the_flow_at_bin_centres(model, flow, run, digits):
    x = digits.test[:20].astype(np.float32)
    scores = model("log_prob", x=x)
    expected = flow.log_prob((x + 0.5) / 17).numpy()
    np.testing.assert_allclose(scores["log_prob"], expected, rtol=1e-5)
    np.testing.assert_allclose(
        scores["bits_per_dim"], nice_tf.bits_per_dim(expected, 64, 17), rtol=1e-5
    )
    usual = flow.log_prob((digits.validation.astype(np.float32) + 0.5) / 17).numpy()
    share = (usual[:, np.newaxis] < expected - 1e-3).mean(axis=0)
    np.testing.assert_allclose(scores["tail_probability"], share, atol=1.5 / len(usual))
    assert 0 < scores["tail_probability"].mean() < 1
    for name, value in model("serving_default", x=x).items():
        np.testing.assert_array_equal(value, scores[name])


def test_noise_added_by_the_caller_reproduces_the_evaluation(model, run, digits):
    result = run.read_evaluation()
    generator = np.random.default_rng(0)
    noisy = [digits.test + generator.random(digits.test.shape) - 0.5 for _ in range(20)]
    means = [model("log_prob", x=x.astype(np.float32))["log_prob"].mean() for x in noisy]
    spread = np.std(means, ddof=1)
    np.testing.assert_allclose(np.mean(means), result["log_prob"], atol=6 * spread)
    assert 0 < spread < 0.5


def test_codes_there_and_back(model, flow, digits):
    x = digits.test[:5].astype(np.float32)
    encoded = model("encode", x=x)
    np.testing.assert_allclose(
        encoded["z"], nice_tf.encoder(flow).forward((x + 0.5) / 17), atol=1e-4
    )
    np.testing.assert_allclose(encoded["log_prob"], model("log_prob", x=x)["log_prob"], rtol=1e-6)
    np.testing.assert_allclose(model("decode", z=encoded["z"])["x"], x, atol=1e-3)


def test_samples_follow_their_own_seed_alone(model):
    batch = model("sample", seed=seeds(1, 2, 3, 4, 5), temperature=ones(5))
    for rows in ([2], [4, 2], [2, 2, 0, 1]):
        part = model("sample", seed=seeds(*(row + 1 for row in rows)), temperature=ones(len(rows)))
        np.testing.assert_allclose(part["x"], batch["x"][rows], rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(part["log_prob"], batch["log_prob"][rows], rtol=1e-5)
    again = model("sample", seed=seeds(1, 2, 3, 4, 5), temperature=ones(5))
    np.testing.assert_array_equal(again["x"], batch["x"])
    assert len(np.unique(batch["x"].reshape(5, -1), axis=0)) == 5
    np.testing.assert_allclose(
        model("log_prob", x=batch["x"])["log_prob"], batch["log_prob"], atol=0.01
    )


def test_samples_follow_the_prior(model):
    """Codes of 2000 samples: logistic, independent; temperature scales them."""
    x = model("sample", seed=seeds(*range(2000)), temperature=ones(2000))["x"]
    z = model("encode", x=x)["z"]
    np.testing.assert_allclose(z.mean(), 0, atol=5 * 1.8 / np.sqrt(z.size))
    np.testing.assert_allclose(z.std(), np.pi / np.sqrt(3), rtol=0.02)
    assert np.abs(np.corrcoef(z, rowvar=False) - np.eye(64)).max() < 0.15
    cool = model("sample", seed=seeds(*range(9)), temperature=np.full(9, 0.5, np.float32))["x"]
    np.testing.assert_allclose(model("encode", x=cool)["z"], 0.5 * z[:9], atol=1e-3)


def test_sample_n(model):
    inputs = {
        "num_samples": np.int32(3),
        "seed": np.array([4, 5], np.int32),
        "temperature": np.float32(1),
    }
    drawn = model("sample_n", **inputs)
    assert drawn["x"].shape == (3, 8, 8, 1) and drawn["log_prob"].shape == (3,)
    more = model("sample_n", **{**inputs, "num_samples": np.int32(6)})
    np.testing.assert_allclose(more["x"][:3], drawn["x"], rtol=1e-4, atol=1e-4)
    assert model("sample_n", **{**inputs, "num_samples": np.int32(0)})["x"].shape == (0, 8, 8, 1)
    assert not np.allclose(
        model("sample_n", **{**inputs, "seed": np.array([4, 6], np.int32)})["x"], drawn["x"]
    )
    defaults = model.signatures["sample_n"].defaults
    assert tf.make_ndarray(defaults["temperature"]) == 1.0
    np.testing.assert_array_equal(tf.make_ndarray(defaults["seed"]), [0, 0])


def test_inpainting_climbs_and_leaves_what_is_known(model, flow, digits):
    x = digits.test[:6].astype(np.float32) + np.float32(0.123)
    mask = np.ones_like(x)
    mask[:, :4] = 0
    filled = model("inpaint", x=x, mask=mask, seed=seeds(*range(6)))
    np.testing.assert_array_equal(filled["x"][mask == 1], x[mask == 1])
    assert filled["x"].min() >= -0.5 and filled["x"].max() <= 16.5
    from_mean = np.where(mask == 1, x, digits.train.mean(axis=0))
    gain = filled["log_prob"] - model("log_prob", x=from_mean.astype(np.float32))["log_prob"]
    assert np.all(gain > 1)
    np.testing.assert_allclose(
        model("log_prob", x=filled["x"])["log_prob"], filled["log_prob"], atol=0.01
    )
    hidden_changed = np.where(mask == 1, x, 7)
    np.testing.assert_array_equal(
        model("inpaint", x=hidden_changed, mask=mask, seed=seeds(*range(6)))["x"], filled["x"]
    )


@pytest.mark.slow
def test_inpainting_noise_is_seeded_by_row(flow, digits):
    x = tf.constant((digits.test[:3] + 0.5) / 17, tf.float32)
    observed = tf.constant(np.arange(64).reshape(8, 8, 1) % 2 == 0) & tf.ones_like(x, tf.bool)

    def fill(noise, *rows):
        return inpaint(
            flow, x[: len(rows)], observed[: len(rows)], seed=seeds(*rows), num_steps=5, noise=noise
        )[0]

    np.testing.assert_array_equal(fill(1.0, 1, 2), fill(1.0, 1, 2))
    np.testing.assert_array_equal(fill(0.0, 1, 2), fill(0.0, 3, 4))
    assert not np.allclose(fill(1.0, 1, 2)[0], fill(1.0, 3, 2)[0])
    np.testing.assert_allclose(fill(1.0, 1, 2)[1], fill(1.0, 3, 2)[1], atol=1e-5)
    assert not np.allclose(fill(1.0, 1, 1)[0], fill(0.0, 1, 1)[0])


@pytest.fixture(scope="module")
def gaussian():
    """A flow with m = 0 that is a correlated Gaussian, with its mean and covariance."""
    generator = np.random.default_rng(0)
    data = generator.normal(size=[4000, 3]) @ [
        [1.0, 0.8, 0.3],
        [0.0, 0.5, 0.4],
        [0.0, 0.0, 2.0],
    ] + [1.0, 2.0, 3.0]
    flow = nice_tf.build_flow(
        [3], prior="gaussian", hidden_units=(4,), whitening="zca", dtype=tf.float64
    )
    nice_tf.initialize_from_data(flow, tf.constant(data))
    return flow, data.mean(axis=0), np.cov(data.T, bias=True)


def test_inpainting_of_a_gaussian_finds_the_conditional_mode(gaussian):
    """It is mean_h + C_ho C_oo^-1 (x_o - mean_o), well away from the mean, where the search starts."""
    flow, mean, covariance = gaussian
    x = tf.constant([[0.0, 4.0, 0.0]], tf.float64)
    hidden = [0, 2]
    mode = mean[hidden] + covariance[hidden, 1] / covariance[1, 1] * (4.0 - mean[1])
    assert np.all(np.abs(mode - mean[hidden]) > 0.3)
    search = tf.function(inpaint)  # as it is exported; step by step it takes 20 times as long
    filled, log_prob = search(
        flow, x, tf.constant([[False, True, False]]), seed=seeds(0), num_steps=400
    )
    np.testing.assert_allclose(filled, [[mode[0], 4.0, mode[1]]], rtol=1e-5)
    np.testing.assert_allclose(log_prob, flow.log_prob(filled), rtol=1e-12)


def test_inpainting_noise_is_in_units_of_each_conditional_scale(gaussian):
    """One step from the mean, where the gradient is 0: what is left is a_0 * noise * sigma * e."""
    flow, mean, covariance = gaussian
    number = 4000
    x = tf.zeros([number, 3], tf.float64)
    search = tf.function(inpaint)
    filled, _ = search(
        flow, x, tf.zeros_like(x, tf.bool), seed=seeds(*range(number)), num_steps=1, noise=0.5
    )
    sigma = 1 / np.sqrt(np.diag(np.linalg.inv(covariance)))
    np.testing.assert_allclose(np.std(filled - mean, axis=0), 0.1 * 0.5 * sigma, rtol=0.05)


def test_every_batchable_input_and_output_has_a_leading_batch_dimension(model):
    for name in BATCHABLE:
        definition = model.signatures[name]
        for tensor in [*definition.inputs.values(), *definition.outputs.values()]:
            assert not tensor.tensor_shape.unknown_rank and tensor.tensor_shape.dim[0].size == -1, (
                name,
                tensor.name,
            )
    assert set(model.signatures) - {"__saved_model_init_op"} == {*BATCHABLE, "sample_n"}


def test_python_and_cpp_give_the_same_bits(version, model):
    signatures = tf.saved_model.load(str(version)).signatures
    for record in tf.data.TFRecordDataset(str(version / warmup.WARMUP)):
        request = prediction_log_pb2.PredictionLog.FromString(record.numpy()).predict_log.request
        inputs = {name: tf.make_ndarray(value) for name, value in request.inputs.items()}
        name = request.model_spec.signature_name
        python = signatures[name](**{key: tf.constant(value) for key, value in inputs.items()})
        for key, value in model(name, **inputs).items():
            np.testing.assert_array_equal(value, python[key], err_msg=f"{name} {key}")


def test_runs_where_our_packages_cannot_be_imported(run_command, version, model, tmp_path):
    x = np.full([2, 8, 8, 1], 3, np.float32)
    np.save(tmp_path / "x.npy", x)
    script = """
import sys
sys.modules["nice_tf"] = sys.modules["tensorflow_probability"] = sys.modules["tf_keras"] = None
import numpy as np, tensorflow as tf
try:
    import nice_tf
    raise SystemExit("imported")
except ImportError:
    signatures = tf.saved_model.load(sys.argv[1]).signatures
np.save(sys.argv[3], signatures["log_prob"](x=tf.constant(np.load(sys.argv[2])))["log_prob"])
signatures["inpaint"](x=tf.ones([1, 8, 8, 1]), mask=tf.ones([1, 8, 8, 1]), seed=tf.zeros([1, 2], tf.int32))
"""
    finished = run_command(
        "-c", script, version, tmp_path / "x.npy", tmp_path / "out.npy", cwd=tmp_path
    )
    assert finished.returncode == 0, finished.stderr
    np.testing.assert_allclose(
        np.load(tmp_path / "out.npy"), model("log_prob", x=x)["log_prob"], rtol=1e-5
    )


X, Z = np.zeros([2, 8, 8, 1], np.float32), np.zeros([2, 64], np.float32)
SAMPLE_N = {"num_samples": np.int32(1), "seed": np.zeros(2, np.int32), "temperature": np.float32(1)}
INPAINT = {"x": X, "mask": X, "seed": seeds(0, 1)}


def with_nan(values):
    return np.where(np.arange(values.size).reshape(values.shape) == 1, np.float32(np.nan), values)


@pytest.mark.parametrize(
    ("signature", "inputs", "message"),
    [
        *(
            (name, {"x": bad}, message)
            for name in ("serving_default", "log_prob", "encode")
            for bad, message in (
                (X[:, :7], r"_x_.*\[2,7,8,1\] is not compatible with expected shape \[\?,8,8,1\]"),
                (X.reshape(2, 64), r"_x_.*\[2,64\] is not compatible"),
                (X.reshape(1, 16, 8, 1), r"_x_.*\[1,16,8,1\] is not compatible"),
                (X[:0], "x must hold at least one example"),
                (with_nan(X), "x must be finite"),
                (X + np.float32(np.inf), "x must be finite"),
            )
        ),
        (
            "decode",
            {"z": Z[:, :63]},
            r"_z_.*\[2,63\] is not compatible with expected shape \[\?,64\]",
        ),
        ("decode", {"z": Z[:0]}, "z must hold at least one"),
        ("decode", {"z": with_nan(Z)}, "z must be finite"),
        (
            "sample",
            {"seed": seeds(0, 1), "temperature": ones(3)},
            "seed and temperature must have the same number",
        ),
        (
            "sample",
            {"seed": seeds(0), "temperature": ones(1) * 0},
            "temperature must be finite and above 0",
        ),
        (
            "sample",
            {"seed": seeds(0), "temperature": -ones(1)},
            "temperature must be finite and above 0",
        ),
        (
            "sample",
            {"seed": seeds(0), "temperature": ones(1) * np.float32(np.nan)},
            "temperature must be finite",
        ),
        (
            "sample",
            {"seed": seeds(0)[:, :1], "temperature": ones(1)},
            r"_seed_.*\[1,1\] is not compatible",
        ),
        (
            "sample",
            {"seed": seeds(0), "temperature": ones(1)[None]},
            r"_temperature_.*\[1,1\] is not compatible",
        ),
        ("sample", {"seed": seeds(0)[:0], "temperature": ones(0)}, "seed must hold at least one"),
        ("sample_n", {**SAMPLE_N, "num_samples": np.int32(-1)}, "num_samples must be at least 0"),
        (
            "sample_n",
            {**SAMPLE_N, "num_samples": np.int32(10_001)},
            "num_samples must be at most 10000",
        ),
        (
            "sample_n",
            {**SAMPLE_N, "num_samples": np.ones(2, np.int32)},
            r"num_samples.*\[2\] is not compatible",
        ),
        (
            "sample_n",
            {**SAMPLE_N, "temperature": np.float32(0)},
            "temperature must be finite and above 0",
        ),
        (
            "sample_n",
            {**SAMPLE_N, "seed": np.zeros(3, np.int32)},
            r"_seed_.*\[3\] is not compatible",
        ),
        ("inpaint", {**INPAINT, "mask": X + np.float32(0.5)}, "mask must be 1 .observed. or 0"),
        ("inpaint", {**INPAINT, "mask": X[:, :, :7]}, r"_mask_.*\[2,8,7,1\] is not compatible"),
        ("inpaint", {**INPAINT, "mask": X[:1]}, "mask must have the shape of x"),
        ("inpaint", {**INPAINT, "mask": with_nan(X)}, "mask must be finite"),
        ("inpaint", {**INPAINT, "x": X[:, :7]}, r"_x_.*\[2,7,8,1\] is not compatible"),
        ("inpaint", {**INPAINT, "seed": seeds(0, 1)[:, :1]}, r"_seed_.*\[2,1\] is not compatible"),
        ("log_prob", {"x": X.astype(np.float64)}, "float but double is provided"),
        (
            "sample_n",
            {**SAMPLE_N, "temperature": np.float32(np.nan)},
            "temperature must be finite and above 0",
        ),
        ("inpaint", {**INPAINT, "seed": seeds(0)}, "seed must have as many rows as x"),
        ("inpaint", {**INPAINT, "x": with_nan(X)}, "x must be finite"),
        ("inpaint", {key: value[:0] for key, value in INPAINT.items()}, "x must hold at least one"),
    ],
)
def test_bad_input_is_refused_by_name_and_the_session_goes_on(model, signature, inputs, message):
    with pytest.raises(ServingError, match=message) as refused:
        model(signature, **inputs)
    assert refused.value.code == tf.errors.INVALID_ARGUMENT
    assert np.all(np.isfinite(model("log_prob", x=X)["log_prob"]))


@pytest.mark.parametrize("value", [0, 3e38, -3e38, 1e20, -1e5])
def test_finite_in_finite_out(model, value):
    x, z = X + np.float32(value), Z + np.float32(value)
    for outputs in (
        model("log_prob", x=x),
        model("encode", x=x),
        model("decode", z=z),
        model("inpaint", **{**INPAINT, "x": x}),
    ):
        for name, found in outputs.items():
            assert np.all(np.isfinite(found)), name
    hot = model("sample", seed=seeds(0), temperature=ones(1) * np.float32(1e38))
    assert all(np.all(np.isfinite(found)) for found in hot.values())


def test_large_networks_answer_in_branches(tmp_path):
    """What each row of a sample and each score is does not depend on how the layers are dealt out."""
    flow = nice_tf.build_flow([8], hidden_units=(512,) * 3, zero_last_layer=False)
    server = signatures_lib.FlowServer(
        flow, levels=None, validation_log_probs=np.arange(-20.0, 0.0)
    )
    tf.saved_model.save(server, str(tmp_path), signatures=server.signatures())
    assert {
        v.shape.as_list()[1] for v in server.variables if v.shape.rank == 2 and v.shape[0] == 4
    } == {256}
    model = LoadedModel(tmp_path)
    x = np.random.default_rng(0).normal(size=[5, 8]).astype(np.float32)
    assert np.std(nice_tf.encoder(flow).forward(x) - x) > 0.3
    np.testing.assert_allclose(
        model("log_prob", x=x)["log_prob"], flow.log_prob(fresh(x)), rtol=1e-5
    )
    drawn = model("sample", seed=seeds(*range(9)), temperature=ones(9))
    for row in (0, 3, 4, 8):
        alone = model("sample", seed=seeds(row), temperature=ones(1))
        np.testing.assert_allclose(alone["x"][0], drawn["x"][row], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(flow.log_prob(fresh(drawn["x"])), drawn["log_prob"], rtol=1e-4)


def test_continuous_data_have_no_bits_per_dim(tmp_path):
    flow = randomize(nice_tf.build_flow([5], hidden_units=(8,)), deviation=0.3)
    server = signatures_lib.FlowServer(
        flow, levels=None, validation_log_probs=np.arange(-20.0, 0.0)
    )
    tf.saved_model.save(server, str(tmp_path), signatures=server.signatures())
    model = LoadedModel(tmp_path)
    x = np.random.default_rng(0).normal(size=[4, 5]).astype(np.float32)
    scores = model("log_prob", x=x)
    assert set(scores) == {"log_prob", "tail_probability"}
    np.testing.assert_allclose(scores["log_prob"], flow.log_prob(fresh(x)), rtol=1e-5)
    np.testing.assert_allclose(
        scores["tail_probability"], np.clip(np.ceil(scores["log_prob"] + 20), 0, 20) / 20, atol=1e-6
    )


def test_configurations_are_what_the_server_parses(version):
    folder = version.parent
    models = text_format.Parse(
        (folder / "models.config").read_text(), model_server_config_pb2.ModelServerConfig()
    )
    (entry,) = models.model_config_list.config
    assert (entry.name, entry.base_path, entry.model_platform) == (
        "nice",
        "/models/nice",
        "tensorflow",
    )

    # tensorflow-serving-api ships neither of these two messages: here are their fields, as
    # TensorFlow Serving has them.
    file = descriptor_pb2.FileDescriptorProto(name="server.proto", package="t", syntax="proto3")
    file.dependency.append("google/protobuf/wrappers.proto")
    batching = file.message_type.add(name="BatchingParameters")
    for number, field in enumerate(
        ("max_batch_size", "batch_timeout_micros", "max_enqueued_batches", "num_batch_threads"),
        start=1,
    ):
        batching.field.add(
            name=field, number=number, type=11, label=1, type_name=".google.protobuf.Int64Value"
        )
    prometheus = file.message_type.add(name="PrometheusConfig")
    prometheus.field.add(name="enable", number=1, type=8, label=1)
    prometheus.field.add(name="path", number=2, type=9, label=1)
    monitoring = file.message_type.add(name="MonitoringConfig")
    monitoring.field.add(
        name="prometheus_config", number=1, type=11, label=1, type_name=".t.PrometheusConfig"
    )
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(wrappers_pb2.DESCRIPTOR.serialized_pb)
    pool.Add(file)
    parsed = {}
    for name, message in (
        ("batching_parameters.txt", "BatchingParameters"),
        ("monitoring.config", "MonitoringConfig"),
    ):
        kind = message_factory.GetMessageClass(pool.FindMessageTypeByName(f"t.{message}"))
        parsed[message] = text_format.Parse((folder / name).read_text(), kind())
    assert parsed["BatchingParameters"].max_batch_size.value == 256
    assert parsed["MonitoringConfig"].prometheus_config.enable


def test_compose_file_mounts_what_the_configurations_name(version):
    text = (version.parent / "docker-compose.yml").read_text()
    assert ".:/models/nice:ro" in text and "      # - --xla_cpu_compilation_enabled\n" in text
    for path in re.findall(r"=/models/nice/(\S+)", text):
        assert (version.parent / path).exists()


def test_a_single_example_through_xla(run, model, digits, tmp_path):
    """The same answers and the same refusals: XLA leaves assertions out, so none may lie in what it
    compiles.
    """
    version = export.export_saved_model(run.path, tmp_path, inpaint_steps=20, compile_single=True)
    compiled = LoadedModel(version)
    assert b"_XlaMustCompile" in (version / "saved_model.pb").read_bytes()
    for rows in (1, 3):
        x = digits.test[:rows].astype(np.float32)
        for name, value in compiled("log_prob", x=x).items():
            np.testing.assert_allclose(value, model("log_prob", x=x)[name], rtol=1e-5)
        for name, value in compiled(
            "sample", seed=seeds(*range(rows)), temperature=ones(rows)
        ).items():
            np.testing.assert_allclose(
                value,
                model("sample", seed=seeds(*range(rows)), temperature=ones(rows))[name],
                rtol=1e-4,
                atol=1e-4,
            )
    with pytest.raises(ServingError, match="x must be finite"):
        compiled("log_prob", x=np.full([1, 8, 8, 1], np.nan, np.float32))
    with pytest.raises(ServingError, match="temperature must be finite and above 0"):
        compiled("sample", seed=seeds(1), temperature=np.zeros(1, np.float32))
    sizes = [
        len(
            tf.make_ndarray(
                next(
                    iter(
                        prediction_log_pb2.PredictionLog.FromString(
                            record.numpy()
                        ).predict_log.request.inputs.values()
                    )
                )
            )
        )
        for record in tf.data.TFRecordDataset(str(version / warmup.WARMUP))
    ]
    assert set(sizes) == {1, 2}
    assert (
        "\n      - --xla_cpu_compilation_enabled\n" in (tmp_path / "docker-compose.yml").read_text()
    )


def test_warmup_covers_every_signature_that_batching_serves(version):
    """A scalar input is refused under --enable_batching, and one refused request keeps the server
    from starting.
    """
    assert set(warmup.replay_warmup(version)) == set(BATCHABLE)
    for record in tf.data.TFRecordDataset(str(version / warmup.WARMUP)):
        request = prediction_log_pb2.PredictionLog.FromString(record.numpy()).predict_log.request
        rows = {value.tensor_shape.dim[0].size for value in request.inputs.values()}
        assert rows == {2}, request.model_spec.signature_name


def test_a_model_that_overflows_on_its_own_samples_is_not_exported(run, tmp_path, monkeypatch):
    def huge(*args):
        flow = nice_tf.load_flow(run.path)
        for variable in flow.trainable_variables:
            variable.assign(tf.ones_like(variable) * 1e30)
        return flow, 1

    monkeypatch.setattr(server, "restore_best", huge)
    with pytest.raises(nice_tf.UserError, match="overflows float32 on the model's own samples"):
        export.export_saved_model(run.path, tmp_path / "export", inpaint_steps=1)
    assert list((tmp_path / "export").iterdir()) == []


def test_model_card_says_what_a_reader_must_know(version, run):
    card = (version / "MODEL_CARD.md").read_text()
    result = run.read_evaluation()
    for expected in (
        "digits",
        f"{result['log_prob']:.2f} +- ",
        "integers 0..16",
        "20 steps",
        "| num_couplings | 3 |",
        "Pictures of another kind can score higher",
    ):
        assert expected in card


def test_versions_count_up_and_nothing_else_stays(run, tmp_path):
    (tmp_path / "7").mkdir()
    (tmp_path / "notes").mkdir()
    assert export.export_saved_model(run.path, tmp_path, inpaint_steps=1).name == "8"
    before = (tmp_path / "8" / "saved_model.pb").stat().st_mtime_ns
    (tmp_path / "docker-compose.yml").write_text("an operator's own")
    assert export.export_saved_model(run.path, tmp_path, inpaint_steps=1).name == "9"
    assert (tmp_path / "8" / "saved_model.pb").stat().st_mtime_ns == before
    assert (tmp_path / "docker-compose.yml").read_text() == "an operator's own"
    files = {"models.config", "batching_parameters.txt", "monitoring.config", "docker-compose.yml"}
    assert {path.name for path in tmp_path.iterdir()} == {"7", "8", "9", "notes", *files}


def test_two_exports_at_once_take_two_numbers(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "saved_model.pb").write_text(name)
    original = pathlib.Path.iterdir
    try:  # the second does not see the first's version when it looks for a free number
        pathlib.Path.iterdir = lambda self: iter(())
        assert [export._publish(tmp_path / name, tmp_path).name for name in ("a", "b")] == [
            "1",
            "2",
        ]
    finally:
        pathlib.Path.iterdir = original
    assert (tmp_path / "1" / "saved_model.pb").read_text() == "a"


def test_failed_exports_leave_nothing(run, tmp_path, monkeypatch):
    with pytest.raises(nice_tf.UserError, match="holds no run"):
        export.export_saved_model(tmp_path / "nowhere", tmp_path / "export")
    with pytest.raises(nice_tf.UserError, match="inpaint_steps must be at least 1, got 0"):
        export.export_saved_model(run.path, tmp_path / "export", inpaint_steps=0)
    with pytest.raises(nice_tf.UserError, match="export to /proc/export failed"):
        export.export_saved_model(run.path, "/proc/export")
    (tmp_path / "file").write_text("")
    with pytest.raises(nice_tf.UserError, match=r"file failed \(.*nothing was exported"):
        export.export_saved_model(run.path, tmp_path / "file")

    def disk_full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(export, "replay_warmup", disk_full)
    with pytest.raises(nice_tf.UserError, match=r"No space left on device\): nothing was exported"):
        export.export_saved_model(run.path, tmp_path / "export")
    assert list((tmp_path / "export").iterdir()) == []


def test_full_disk(run, run_command, tmp_path):
    """A real one: a limit of 50 kB on what the process may write to a file."""
    script = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "from nice_tf import export_saved_model, UserError;"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000));\n"
        "try: export_saved_model(sys.argv[1], sys.argv[2])\n"
        "except UserError as error: print('refused:', error)"
    )
    finished = run_command("-c", script, run.path, tmp_path / "export")
    assert "refused: export to" in finished.stdout and "nothing was exported" in finished.stdout, (
        finished.stderr
    )
    assert list((tmp_path / "export").iterdir()) == []


def test_unfinished_and_diverged_runs_are_not_exported(trained, tmp_path):
    trained(CONFIG, tmp_path)
    run = Workdir(tmp_path)
    evaluation = run.evaluation.read_bytes()
    run.evaluation.unlink()
    with pytest.raises(nice_tf.UserError, match="is not finished, it has no evaluation"):
        export.export_saved_model(tmp_path, tmp_path / "export")
    run.evaluation.write_bytes(evaluation)
    usual = run.calibration.read_bytes()
    run.calibration.write_bytes(usual[:50])
    with pytest.raises(
        nice_tf.UserError, match=r"calibration\.npy was changed after it was written"
    ):
        export.export_saved_model(tmp_path, tmp_path / "export")
    run.checksums.unlink()  # as of an earlier version
    with pytest.raises(nice_tf.UserError, match=r"calibration\.npy is damaged"):
        export.export_saved_model(tmp_path, tmp_path / "export")
    run.calibration.write_bytes(usual)
    flow = nice_tf.load_flow(tmp_path)
    flow.trainable_variables[0].assign(flow.trainable_variables[0] * np.nan)
    best = run.finished_evaluation()["epoch"]
    spoilt = tf.train.Checkpoint(
        flow=flow, epoch=tf.Variable(best, dtype=tf.int64, trainable=False)
    )
    spoilt.write(str(run.best / f"epoch-{best}"))
    with pytest.raises(
        nice_tf.UserError, match=f"weights of epoch {best} are not finite, the run diverged"
    ):
        export.export_saved_model(tmp_path, tmp_path / "export")
    assert not (tmp_path / "export").exists()


def test_export_command(run_here, run, tmp_path):
    finished = run_here("export.py", f"--workdir={run.path}", f"--export_dir={tmp_path}/export")
    assert finished.returncode == 0 and finished.stderr == "", finished.stderr
    assert f"exported {tmp_path}/export/1" in finished.stdout
    assert (
        "sampled  log_prob [" in finished.stdout
        and "scored   tail_probability [" in finished.stdout
    )
    one = run_here(
        "export.py", f"--workdir={run.path}", f"--export_dir={tmp_path}/lite", "--format=tflite"
    )
    assert one.returncode == 0 and one.stderr == "", one.stderr
    assert "answered tail_probability [" in one.stdout
    assert "lite/1/model.tflite differs from the flow by" in one.stdout
    refused = run_here(
        "export.py", f"--workdir={run.path}", f"--export_dir={tmp_path}/lite", "--signature=explain"
    )
    assert refused.returncode == 1
    assert refused.stderr.startswith("error: --signature must be one of log_prob, encode, decode")
    missing = run_here("export.py", f"--export_dir={tmp_path}/export")
    assert missing.returncode == 1 and missing.stderr.startswith("error: --workdir is needed")
    nothing = run_here("export.py", f"--workdir={tmp_path}/none", f"--export_dir={tmp_path}/export")
    assert (
        nothing.returncode == 1
        and nothing.stderr.count("\n") == 1
        and "holds no run" in nothing.stderr
    )


def test_rest_client(run_command, model, tmp_path):
    (tmp_path / "rows.json").write_text(json.dumps(X.tolist()))
    with rest(model) as server:
        finished = run_command(
            "examples/rest_client.py", f"--server={server}", f"--input={tmp_path}/rows.json"
        )
        assert finished.returncode == 0, finished.stderr
        assert "sample" not in finished.stdout and finished.stdout.count("tail_probability") == 2
        drawn = run_command("examples/rest_client.py", f"--server={server}", "--num_samples=3")
        assert drawn.stdout.count("sample of seed") == 3, drawn.stderr
        assert drawn.stdout.count("tail_probability") == 3
        expected = model("log_prob", x=X)["log_prob"]
        assert (
            "row 1: bits_per_dim" in finished.stdout
            and f"log_prob {expected[1]:.3f}" in finished.stdout
        )
        (tmp_path / "rows.json").write_text("[[1, 2, 3]]")
        refused = run_command(
            "examples/rest_client.py", f"--server={server}", f"--input={tmp_path}/rows.json"
        )
        assert refused.returncode == 1 and "status 400: Shape of tensor" in refused.stderr
    absent = run_command("examples/rest_client.py", f"--server={server}")
    assert absent.returncode == 1 and f"no server at {server}" in absent.stderr


def test_grpc_client(run_here, model, tmp_path):
    np.save(tmp_path / "rows.npy", X)
    with over_grpc(model) as server:
        finished = run_here(
            "examples/grpc_client.py", f"--server={server}", f"--input={tmp_path}/rows.npy"
        )
        assert finished.returncode == 0, finished.stderr
        assert "samples" not in finished.stdout and "tail_probability [" in finished.stdout
        drawn = run_here("examples/grpc_client.py", f"--server={server}", "--num_samples=3")
        assert "samples of shape (3, 8, 8, 1)" in drawn.stdout, drawn.stderr
        assert "tail_probability [" in drawn.stdout
        refused = run_here("examples/grpc_client.py", f"--server={server}", "--num_samples=-1")
        assert refused.returncode == 1 and "INVALID_ARGUMENT: assertion failed" in refused.stderr
