import pytest
import tensorflow as tf

import nice_tf
from nice_tf import data as data_lib
from nice_tf import devices, models

GPU = tf.config.PhysicalDevice("/physical_device:GPU:0", "GPU")


@pytest.fixture
def gpu(monkeypatch):
    """A machine with a GPU of the compute capability that is appended to the list."""
    capability = []
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: [GPU])
    details = lambda device: {"device_name": "Some GPU", "compute_capability": capability[-1]}  # noqa: E731
    monkeypatch.setattr(tf.config.experimental, "get_device_details", details)
    return capability


@pytest.mark.parametrize(("features", "expected"), [({"avx2"}, "float32"), ({"avx512_bf16", "sse"}, "bfloat16")])
def test_auto_on_cpus(monkeypatch, features, expected):
    monkeypatch.setattr(devices, "_cpu_features", lambda: features)
    assert devices.choose_precision("auto") == expected
    assert devices.choose_precision("float64") == "float64"
    assert not devices.choose_jit_compile("auto") and devices.choose_jit_compile("true")
    config = nice_tf.Config(hidden_units=(8,), num_couplings=3)
    flow = models.make_model(config, data_lib.load(config)).flow
    conditioner = next(layer.conditioner for layer in nice_tf.layers(flow) if hasattr(layer, "conditioner"))
    assert conditioner.compute_dtype.name == expected


@pytest.mark.parametrize(("capability", "expected"), [((7, 5), "float32"), ((9, 0), "bfloat16")])
def test_auto_on_gpus(gpu, capability, expected):
    gpu.append(capability)
    assert devices.choose_precision("auto") == expected
    assert devices.choose_jit_compile("auto") and not devices.choose_jit_compile("false")
    assert devices.describe() == "Some GPU"


def test_memory_grows_unless_the_program_has_decided(gpu, monkeypatch):
    grown = []
    monkeypatch.setattr(
        tf.config.experimental, "set_memory_growth", lambda device, value: grown.append((device, value))
    )
    devices.let_memory_grow()
    assert grown == [(GPU, True)]

    def refuse(device, value):
        raise RuntimeError("Physical devices cannot be modified after being initialized")

    monkeypatch.setattr(tf.config.experimental, "set_memory_growth", refuse)
    devices.let_memory_grow()
