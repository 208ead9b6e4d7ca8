"""What the hardware at hand does best, for the settings left to `auto`."""

import os
import pathlib

import tensorflow as tf


def choose_precision(requested: str) -> str:
    """The precision of a run: as requested, or for `auto` bfloat16 where the hardware multiplies it, else float32."""
    if requested != "auto":
        return requested
    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        # Tensor cores take bfloat16 from compute capability 8.0 on.
        details = [tf.config.experimental.get_device_details(gpu) for gpu in gpus]
        fast = all(detail.get("compute_capability", (0, 0)) >= (8, 0) for detail in details)
    else:
        fast = bool(_cpu_features() & {"avx512_bf16", "amx_bf16"})
    return "bfloat16" if fast else "float32"


def _cpu_features():
    cpuinfo = pathlib.Path("/proc/cpuinfo")
    return set(cpuinfo.read_text().split()) if cpuinfo.exists() else set()


def choose_jit_compile(requested: str) -> bool:
    """Whether XLA compiles the training step: as requested, or for `auto` on GPUs only, where it saves launches."""
    return bool(tf.config.list_physical_devices("GPU")) if requested == "auto" else requested == "true"


def describe() -> str:
    """The devices that will be used, in words."""
    gpus = tf.config.list_physical_devices("GPU")
    names = [tf.config.experimental.get_device_details(gpu).get("device_name", "GPU") for gpu in gpus]
    return ", ".join(names) or f"CPU, {os.cpu_count()} cores"


def let_memory_grow() -> None:
    """Takes GPU memory as it is needed, so that others can use the device, too; must come before its first use."""
    for gpu in tf.config.list_physical_devices("GPU"):
        try:
            tf.config.experimental.set_memory_growth(gpu, True)
        except RuntimeError:  # the program that called us has used it before: it has decided
            return
