import numpy as np
import pytest
import tensorflow as tf

import nice_tf
from nice_tf import memory
from nice_tf.data import dataset
from nice_tf.training import devices, model

GPU = tf.config.PhysicalDevice("/physical_device:GPU:0", "GPU")


@pytest.fixture
def gpu(monkeypatch):
    """A machine with a GPU of the compute capability that is appended to the list."""
    capability = []
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: [GPU])
    details = lambda device: {"device_name": "Some GPU", "compute_capability": capability[-1]}  # noqa: E731
    monkeypatch.setattr(tf.config.experimental, "get_device_details", details)
    return capability


@pytest.mark.parametrize(
    ("features", "expected"), [({"avx2"}, "float32"), ({"avx512_bf16", "sse"}, "bfloat16")]
)
def test_auto_on_cpus(monkeypatch, features, expected):
    monkeypatch.setattr(devices, "_cpu_features", lambda: features)
    assert devices.choose_precision("auto") == expected
    assert devices.choose_precision("float64") == "float64"
    assert not devices.choose_jit_compile("auto") and devices.choose_jit_compile("true")
    config = nice_tf.Config(hidden_units=(8,), num_couplings=3)
    flow = model.make_model(config, dataset.load(config)).flow
    conditioner = next(
        layer.conditioner for layer in nice_tf.layers(flow) if hasattr(layer, "conditioner")
    )
    assert conditioner.compute_dtype.name == expected


@pytest.mark.parametrize(("capability", "expected"), [((7, 5), "float32"), ((9, 0), "bfloat16")])
def test_auto_on_gpus(gpu, capability, expected):
    gpu.append(capability)
    assert devices.choose_precision("auto") == expected
    assert devices.choose_jit_compile("auto") and not devices.choose_jit_compile("false")
    assert devices.describe(tf.distribute.get_strategy()) == "Some GPU"


def test_memory_grows_unless_the_program_has_decided(gpu, monkeypatch):
    grown = []
    monkeypatch.setattr(
        tf.config.experimental,
        "set_memory_growth",
        lambda device, value: grown.append((device, value)),
    )
    devices.let_memory_grow()
    assert grown == [(GPU, True)]

    def refuse(device, value):
        raise RuntimeError("Physical devices cannot be modified after being initialized")

    monkeypatch.setattr(tf.config.experimental, "set_memory_growth", refuse)
    devices.let_memory_grow()


def test_steps_per_execution(gpu):
    gpu.append((9, 0))
    assert devices.choose_steps_per_execution(0, 250) == 250
    assert devices.choose_steps_per_execution(1000, 250) == 250


def test_steps_per_execution_changes_no_step(tmp_path):
    config = {
        "hidden_units": (8,),
        "num_couplings": 3,
        "precision": "float32",
        "epochs": 2,
        "num_draws": 1,
    }
    results = [
        nice_tf.train_and_evaluate(
            nice_tf.Config(**config, steps_per_execution=number), tmp_path / str(number)
        )
        for number in (1, 4)
    ]
    assert devices.choose_steps_per_execution(0, 250) == 1
    np.testing.assert_allclose(results[0]["log_prob"], results[1]["log_prob"], rtol=1e-4)


@pytest.mark.parametrize(
    ("tf_config", "message"),
    [
        ("", "multi_worker needs the environment variable TF_CONFIG"),
        ("{", "not a cluster specification in JSON .*, got '{'"),
        ("[1]", "not a cluster specification in JSON"),
        (
            '{"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": 2}}',
            "index 2, but lists 2 workers",
        ),
        (
            '{"cluster": {"chief": ["c:1"], "worker": ["a:1"]}, "task": {"type": "chief", "index": 0}}',
            "type worker only",
        ),
    ],
)
def test_tf_config_that_names_no_workers(tf_config, message, monkeypatch):
    monkeypatch.setenv("TF_CONFIG", tf_config)
    with pytest.raises(nice_tf.UserError, match=message):
        devices.make_strategy("multi_worker")


def test_one_device_where_there_is_nothing_to_share(monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    for requested in ("auto", "none"):
        strategy = devices.make_strategy(requested)
        assert strategy.num_replicas_in_sync == 1 and devices.is_chief(strategy)


def test_several_replicas(monkeypatch, tmp_path):
    class Three:
        num_replicas_in_sync = 3
        cluster_resolver = None

    assert not devices.choose_jit_compile("auto", Three())
    with pytest.raises(nice_tf.UserError, match="jit_compile needs a single replica, got 3"):
        devices.choose_jit_compile("true", Three())
    assert devices.describe(Three()).endswith("3 replicas share each batch")
    monkeypatch.setattr(devices, "make_strategy", lambda requested: Three())
    with pytest.raises(
        nice_tf.UserError, match="batch_size 200 cannot be shared equally by 3 replicas"
    ):
        nice_tf.train_and_evaluate(nice_tf.Config(), tmp_path)


def test_what_exceeds_memory_ends_in_one_line():
    assert 2**20 < memory.available_memory() < 2**50
    errors = (
        MemoryError(),
        tf.errors.ResourceExhaustedError(None, None, "OOM when allocating\nand more"),
    )
    for error, cause in zip(errors, ("MemoryError", "OOM when allocating"), strict=True):
        with pytest.raises(
            nice_tf.UserError, match="training needs more memory than there is"
        ) as refused:
            with devices.saying_out_of_memory("training"):
                raise error
        assert f"({cause})" in str(refused.value) and "\n" not in str(refused.value)
    with pytest.raises(ZeroDivisionError), devices.saying_out_of_memory("training"):
        _ = 1 / 0


def test_memory_of_a_container_is_what_its_limit_leaves_beside_pages_of_files(tmp_path):
    def write(folder, content):
        for name, text in content.items():
            (tmp_path / folder / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / folder / name).write_text(text)
        return memory._free_of_group(tmp_path / folder)

    statistics = "anon 100\nactive_file 30\ninactive_file 50\n"
    used = {"memory.current": "190\n", "memory.stat": statistics}
    assert write("second", {**used, "memory.max": "1000\n"}) == [890]
    assert write("unlimited", {**used, "memory.max": "max\n"}) == []
    first = {
        "limit_in_bytes": "1000\n",
        "usage_in_bytes": "190\n",
        "stat": "total_inactive_file 40\n",
    }
    assert write("first", {f"memory/memory.{name}": text for name, text in first.items()}) == [850]
    assert write("none", {}) == []
