"""A compiled training step as files: written where TensorFlow is, run where JAX is.

A folder has `steps.json` and, for each step, its HLO module and its small inputs. The large inputs are not stored:
kernels are drawn by their number, moments start at zero. What XLA calls an alias, an output that takes the place of an
input, is the state of training: weights, moments, counters.
"""

import json
import pathlib
import re

import numpy as np

# Of the folder's format. A reader takes this one alone.
VERSION = 2
DESCRIPTION = "steps.json"

# Inputs of up to this many values are stored as they are.
MAX_STORED = 4096

CHECKED_STEPS = 3

_DTYPES = {"f32": "float32", "bf16": "bfloat16", "s32": "int32", "s64": "int64", "u8": "uint8"}


class FormatError(ValueError):
    """What a folder of steps has wrong, for the user."""


def random_kernel(number: int, shape: list[int]) -> np.ndarray:
    """A kernel [inputs, outputs], the same wherever it is drawn: uniform, of variance 1 / inputs."""
    uniform = np.random.default_rng(number).random(shape, np.float32)
    width = np.float32(np.sqrt(12 / shape[0]))
    return (uniform - np.float32(0.5)) * width


def random_batch(shape: list[int]) -> np.ndarray:
    """Pictures of independent 8-bit levels."""
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def _aliases(hlo):
    """Pairs (output, input) from the head of a module's text."""
    head = hlo.split("\n", 1)[0]
    pairs = re.findall(r"\{(\d+)\}: \((\d+), \{\}", head)
    return [[int(output), int(position)] for output, position in pairs]


def _parameters(hlo):
    """(dtype, shape) of a module's parameters, in their order."""
    entry = hlo[hlo.index("\nENTRY") :]
    found = re.findall(r"= (\w+)\[([\d,]*)\]\S* parameter\((\d+)\)", entry)
    parameters = []
    for dtype, sizes, _ in sorted(found, key=lambda one: int(one[2])):
        parameters.append((_DTYPES[dtype], [int(size) for size in sizes.split(",") if size]))
    return parameters


def _kept(tensors, parameters):
    """The tensors that are parameters. The others, such as the axis of a gather, XLA took as constants.

    Raises:
      ValueError: the parameters do not follow from the tensors.
    """
    rest = iter(tensors)
    kept = []
    for parameter in parameters:
        for tensor in rest:
            if _type(tensor) == parameter:
                kept.append(tensor)
                break
        else:
            raise ValueError(f"no input of the step is the module's parameter {parameter}")
    return kept


def _type(tensor):
    """(dtype, shape) of a tensor, or of a variable's value."""
    import tensorflow as tf

    if tensor.dtype != tf.resource:
        return tensor.dtype.name, tensor.shape.as_list()
    described = tensor._handle_data.shape_and_type[0]
    sizes = [dim.size for dim in described.shape.dim]
    return tf.as_dtype(described.dtype).name, sizes


def write(folder: pathlib.Path, name: str, step, batch, kernels, about: dict) -> dict:
    """Writes a step and returns its description.

    Args:
      folder: where to.
      name: of the step's files.
      step: a `tf.function(jit_compile=True)` of a batch, whose outputs are by name.
      batch: what it is called with; drawn by `random_batch`.
      kernels: the variables that the reader draws; they are set here.
      about: more for the description.
    """
    numbers = {}
    for number, kernel in enumerate(kernels):
        kernel.assign(random_kernel(number, kernel.shape.as_list()))
        numbers[id(kernel.handle)] = number
    concrete = step.get_concrete_function(batch)
    compiler_ir = step.experimental_get_compiler_ir(batch)
    (folder / f"{name}.hlo").write_bytes(compiler_ir(stage="hlo_serialized"))
    hlo = compiler_ir(stage="hlo")
    stored = {}
    inputs = []
    tensors = _kept([batch, *concrete.captured_inputs], _parameters(hlo))
    for position, tensor in enumerate(tensors):
        inputs.append(_describe_input(position, tensor, numbers, stored))
    np.savez(folder / f"{name}.npz", **stored)
    # After everything else is read: from here on the variables change.
    expected = [float(step(batch)["log_prob"]) for _ in range(CHECKED_STEPS)]
    outputs = sorted(concrete.structured_outputs)
    return {
        "name": name,
        "inputs": inputs,
        "aliases": _aliases(hlo),
        "log_prob": outputs.index("log_prob"),
        "expected": expected,
        **about,
    }


def _describe_input(position, tensor, numbers, stored):
    """How the reader gets this input; adds it to `stored` if it is small."""
    import tensorflow as tf

    value = tensor
    if tensor.dtype == tf.resource:
        value = tf.raw_ops.ReadVariableOp(resource=tensor, dtype=_type(tensor)[0])
    value = value.numpy()
    described = {"shape": list(value.shape), "dtype": str(value.dtype)}
    if position == 0:
        return {"from": "batch", **described}
    if id(tensor) in numbers:
        return {"from": "kernel", "number": numbers[id(tensor)], **described}
    if value.size <= MAX_STORED:
        stored[str(position)] = value
        return {"from": "file", **described}
    if value.any():
        raise ValueError(f"input {position} of {value.size} values is neither a kernel nor zero")
    return {"from": "zeros", **described}


def read(folder: pathlib.Path) -> dict:
    """What a folder holds: `architecture`, and `steps`, a description each.

    Raises:
      FormatError: no such folder, or one of another version.
    """
    file = folder / DESCRIPTION
    if not file.exists():
        raise FormatError(f"no {DESCRIPTION} in {folder}: write it by --export={folder}")
    try:
        content = json.loads(file.read_text())
    except ValueError as error:
        raise FormatError(f"{file} is damaged ({error}): export again") from error
    version = content.get("version")
    if version != VERSION:
        raise FormatError(
            f"{file} has version {version} of the format, this program reads version {VERSION}: "
            "export again with the same program"
        )
    return content


class JaxStep:
    """An exported step with its state, on the first device of JAX."""

    def __init__(self, folder: pathlib.Path, description: dict):
        """Compiles the step and makes its state.

        Raises:
          FormatError: this JAX cannot read or compile the module.
        """
        import jax

        jax.config.update("jax_enable_x64", True)  # the counter of steps stays an int64
        self.device = jax.devices()[0]
        self._executable = self._compile((folder / f"{description['name']}.hlo").read_bytes())
        stored = np.load(folder / f"{description['name']}.npz")
        self._inputs = []
        for position, described in enumerate(description["inputs"]):
            value = self._value(described, stored, position)
            self._inputs.append(jax.device_put(value, self.device))
        self._aliases = description["aliases"]
        self._log_prob = description["log_prob"]

    def _compile(self, module):
        import jax

        try:
            # JAX has no public way to run a module that it has not made.
            from jax._src import compiler
            from jax._src.interpreters import mlir
            from jax._src.lib.mlir import ir
            from jaxlib import _jax
        except ImportError as error:
            raise FormatError(
                f"JAX {jax.__version__} has its compiler elsewhere ({error}): tried are 0.10.2 and "
                "0.11.2"
            ) from error

        options = compiler.get_compile_options(num_replicas=1, num_partitions=1)
        devices = _jax.DeviceList((self.device,))
        try:
            # HLO's protocol buffer is read by later versions; StableHLO as TensorFlow writes it is not.
            stablehlo = _jax.mlir.hlo_to_stablehlo(module)
            with mlir.make_ir_context():
                text = str(ir.Module.parse(stablehlo))
                # GPU clients take StableHLO alone. A copy is a conversion to the same type.
                parsed = ir.Module.parse(text.replace("mhlo.copy", "stablehlo.convert"))
                return self.device.client.compile_and_load(parsed, devices, options)
        except Exception as error:
            raise FormatError(f"JAX {jax.__version__} cannot compile the step: {error}") from error

    def _value(self, described, stored, position):
        if described["from"] == "batch":
            return random_batch(described["shape"])
        if described["from"] == "kernel":
            return random_kernel(described["number"], described["shape"])
        if described["from"] == "zeros":
            return np.zeros(described["shape"], described["dtype"])
        return stored[str(position)]

    def __call__(self):
        """One step. Returns the running mean of the log-likelihood, perhaps not computed yet."""
        outputs = self._executable.execute(self._inputs)
        # The old state was given away: its memory holds the new one.
        for output, position in self._aliases:
            self._inputs[position] = outputs[output]
        return outputs[self._log_prob]
