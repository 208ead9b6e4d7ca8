"""What the hardware at hand does best, for the settings left to `auto`, and how several devices
share a run.
"""

import contextlib
import json
import os
import pathlib
from collections.abc import Iterator

import tensorflow as tf

from nice_tf.errors import UserError, cause_of


def choose_precision(requested: str) -> str:
    """As requested, or for `auto` bfloat16 where the hardware multiplies it, else float32."""
    if requested != "auto":
        return requested
    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        # Tensor cores take bfloat16 from compute capability 8.0 on.
        details = [tf.config.experimental.get_device_details(gpu) for gpu in gpus]
        fast = all(detail.get("compute_capability", (0, 0)) >= (8, 0) for detail in details)
    else:
        fast = bool(_cpu_features() & {"avx512_bf16", "amx_bf16"})
    if fast:
        return "bfloat16"
    return "float32"


def _cpu_features():
    cpuinfo = pathlib.Path("/proc/cpuinfo")
    if not cpuinfo.exists():
        return set()
    return set(cpuinfo.read_text().split())


def choose_jit_compile(requested: str, strategy: tf.distribute.Strategy | None = None) -> bool:
    """Whether XLA compiles the training step: as requested, or for `auto` on a lone GPU.

    Raises:
      UserError: asked for with several replicas, whose gradients meet outside XLA.
    """
    num_replicas = 1
    if strategy is not None:
        num_replicas = strategy.num_replicas_in_sync
    if requested == "auto":
        return num_replicas == 1 and bool(tf.config.list_physical_devices("GPU"))
    if requested == "true" and num_replicas > 1:
        raise UserError(f"jit_compile needs a single replica, got {num_replicas}")
    return requested == "true"


def choose_steps_per_execution(requested: int, steps_per_epoch: int) -> int:
    """Training steps per call from Python: as requested; for 0 an epoch's on a GPU, else one."""
    if requested == 0 and not tf.config.list_physical_devices("GPU"):
        return 1
    if requested == 0:
        return steps_per_epoch
    return min(requested, steps_per_epoch)


def make_strategy(requested: str) -> tf.distribute.Strategy:
    """How devices share a run; must come before TensorFlow starts, because a worker joins the
    others then.

    Args:
      requested: `"none"` for one device, `"mirrored"` for all GPUs of this machine,
        `"multi_worker"` for the machines that the environment variable TF_CONFIG lists, `"auto"`
        for what fits.

    Raises:
      UserError: `"multi_worker"` without a TF_CONFIG that lists the workers and says which one this
        is.
    """
    workers, index = _read_tf_config()
    if requested == "auto":
        requested = _usual_strategy(len(workers))
    if requested == "none":
        return tf.distribute.get_strategy()
    if requested == "mirrored":
        return tf.distribute.MirroredStrategy()
    if not workers:
        raise UserError(
            "strategy multi_worker needs the environment variable TF_CONFIG, e.g. "
            '{"cluster": {"worker": ["host-0:2222", "host-1:2222"]}, '
            '"task": {"type": "worker", "index": 0}}'
        )
    if not 0 <= index < len(workers):
        raise UserError(
            f"TF_CONFIG has task index {index}, but lists {len(workers)} workers, counted from 0"
        )
    return tf.distribute.MultiWorkerMirroredStrategy()


def _usual_strategy(num_workers):
    """What `auto` comes to."""
    if num_workers > 1:
        return "multi_worker"
    if len(tf.config.list_physical_devices("GPU")) > 1:
        return "mirrored"
    return "none"


def _read_tf_config():
    """Addresses of the workers, and which of them this process is."""
    text = os.environ.get("TF_CONFIG", "")
    if not text.strip():
        return [], 0
    try:
        content = json.loads(text)
        cluster = content.get("cluster", {})
        others = set(cluster) - {"worker"}
        workers = list(cluster.get("worker", []))
        task = content.get("task", {})
        index = int(task.get("index", 0))
        kind = task.get("type", "worker")
    except (AttributeError, TypeError, ValueError) as error:
        raise UserError(
            f"TF_CONFIG is not a cluster specification in JSON ({error}), got {text!r}"
        ) from error
    if others or kind != "worker":
        raise UserError(
            "TF_CONFIG may list jobs of type worker only, of which the first is the chief, got "
            f"{text!r}"
        )
    return workers, index


def is_chief(strategy: tf.distribute.Strategy) -> bool:
    """Whether this process is the one that writes."""
    resolver = strategy.cluster_resolver
    return resolver is None or not resolver.task_id


def check_agreement(strategy: tf.distribute.Strategy, what: dict[str, int]) -> None:
    """Refuses to train where the workers do not start from the same state.

    Args:
      strategy: of `make_strategy`.
      what: integers below 2^32 by name; each must be the same for all workers.

    Raises:
      UserError: on every worker, naming what differs.
    """
    if strategy.num_replicas_in_sync == 1:
        return
    own = tf.constant(list(what.values()), tf.float64)
    copies = strategy.run(tf.identity, args=(own,))
    mean = strategy.reduce(tf.distribute.ReduceOp.MEAN, copies, axis=None)
    spread = strategy.run(_differences, args=(own, mean))
    differing = strategy.reduce(tf.distribute.ReduceOp.SUM, spread, axis=None).numpy()
    names = [name for name, number in zip(what, differing, strict=True) if number]
    if names:
        raise UserError(
            f"the workers differ in {', '.join(names)}: all need the same command, the same data, "
            "and the same workdir in a folder that they share"
        )


def _differences(own, mean):
    return tf.cast(own != mean, tf.float64)


def num_cores() -> int:
    """The cores that this process may use; TensorFlow makes as many threads."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def cores_in_words() -> str:
    """`num_cores` for the user."""
    number = num_cores()
    if number == 1:
        return "1 core"
    return f"{number} cores"


def describe(strategy: tf.distribute.Strategy) -> str:
    """The devices that will be used, in words."""
    names = []
    for gpu in tf.config.list_physical_devices("GPU"):
        details = tf.config.experimental.get_device_details(gpu)
        names.append(details.get("device_name", "GPU"))
    text = ", ".join(names)
    if not names:
        text = f"CPU, {cores_in_words()}"
    replicas = strategy.num_replicas_in_sync
    if replicas > 1:
        text += f"; {replicas} replicas share each batch"
    return text


def let_memory_grow() -> None:
    """Takes GPU memory as it is needed, so that others can use the device; before its first use."""
    for gpu in tf.config.list_physical_devices("GPU"):
        try:
            tf.config.experimental.set_memory_growth(gpu, True)
        except RuntimeError:  # the program that called us has used it before: it has decided
            return


@contextlib.contextmanager
def saying_out_of_memory(what: str) -> Iterator[None]:
    """Ends what needs more memory than there is in one line.

    Args:
      what: the work, for the message.

    Raises:
      UserError: instead of what Python or TensorFlow raises.
    """
    try:
        yield
    except (MemoryError, tf.errors.ResourceExhaustedError) as error:
        raise UserError(
            f"{what} needs more memory than there is ({cause_of(error)}): "
            "give a smaller batch_size, or fewer or narrower hidden_units"
        ) from error
