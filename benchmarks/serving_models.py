"""What `serving` measures, written by a process of its own: exports, and a flow's numbers for PyTorch."""

import os
import pathlib
import pickle

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import numpy as np
import tensorflow as tf

import nice_tf
from nice_tf.flows.density import layers
from nice_tf.runs.architecture import make_flow
from nice_tf.serving import lite
from nice_tf.serving.saving import save
from nice_tf.serving.server import load_server
from nice_tf.serving.signatures import FlowServer

EVENT_SHAPE = [28, 28, 1]
LEVELS = 256


def write(folder, model, workdir, compile_single):
    """Writes all that the contestants read into a folder.

    Args:
      folder: to write to.
      model: "paper", the paper's MNIST architecture, or the name of a nested recipe, with random
        weights.
      workdir: of a finished run of that architecture, instead of random weights; or None.
      compile_single: as for `export.py`.
    """
    folder = pathlib.Path(folder)
    if workdir:
        server, _ = load_server(workdir, compile_single=compile_single)
        flow = nice_tf.load_flow(workdir)
    else:
        flow = random_flow(model)
        usual = np.linspace(-1000.0, 3000.0, 10_000)
        server = FlowServer(
            flow, levels=LEVELS, validation_log_probs=usual, compile_single=compile_single
        )
    for name, signature in (("all", None), ("one", "log_prob")):
        (folder / name).mkdir()
        save(server, {}, folder / name, signature=signature)
    difference = lite.write_lite(folder / "one", server, "log_prob")
    print(f"LiteRT differs from the flow by {difference:.1e} at most")
    if model != "paper":
        (folder / "arrays.pickle").write_bytes(pickle.dumps(arrays_of(flow)))
    x = pictures(8)
    np.save(folder / "x.npy", x)
    np.save(folder / "log_prob.npy", server.log_prob(tf.constant(x))["log_prob"])


def pictures(number):
    """Integers instead of pictures, `[number, 28, 28, 1]`: four of five values are 0."""
    generator = np.random.default_rng(0)
    values = generator.integers(0, LEVELS, [number, *EVENT_SHAPE])
    return (values * (generator.random(values.shape) < 0.2)).astype(np.float32)


def random_flow(model):
    """The flow of a recipe, with random weights."""
    if model == "paper":
        return nice_tf.build_flow(EVENT_SHAPE, zero_last_layer=False)
    flow = make_flow(
        nice_tf.read_flagfile(model, zero_last_layer=False), EVENT_SHAPE, levels=LEVELS
    )
    x = nice_tf.dequantize(pictures(2000), LEVELS, seed=[0, 1])
    nice_tf.initialize_from_data(flow, x)
    for variable in flow.trainable_variables:
        if "kernel" in variable.name and variable.shape.rank in (2, 4):
            variable.assign(0.1 * variable)  # of layers that nothing was trained to keep small
    return flow


def arrays_of(flow):
    """The numbers of a nested flow of pictures behind marginals."""
    parts = layers(flow)
    (marginals,) = [part for part in parts if isinstance(part, nice_tf.QuantileTransform)]
    (scaling,) = [part for part in parts if isinstance(part, nice_tf.DiagonalScaling)]
    couplings = []
    order = np.arange(np.prod(EVENT_SHAPE))
    for part in parts:
        if hasattr(part, "permutation"):
            order = order[np.asarray(part.permutation)]
        if isinstance(part, nice_tf.AdditiveCoupling):
            couplings.append(_coupling(part, order))
    assert np.array_equal(order, np.arange(len(order)))  # scales and prior are in x's own order
    fitted = marginals._fitted
    prior = flow.distribution.distribution
    components = prior.components_distribution
    return {
        "below": fitted["below"].numpy(),
        "above": fitted["above"].numpy(),
        "masses": fitted["masses"].numpy(),
        "mean": marginals.means.numpy(),
        "deviation": np.sqrt(np.mean(marginals.deviations.numpy() ** 2)),
        "log_scale": scaling.log_scale.numpy(),
        "logits": prior.mixture_distribution.logits.numpy(),
        "loc": components.loc.numpy(),
        "scale": tf.convert_to_tensor(components.scale).numpy(),
        "couplings": couplings,
    }


def _coupling(part, order):
    view = part.conditioner
    network = view.conditioner
    found = {
        "seen": np.asarray(view._coordinates),
        "shifted": order[part.num_passthrough :],
        "kernels": [kernel.numpy() for kernel in network._kernels],
        "biases": [bias.numpy() for bias in network._biases],
    }
    if isinstance(network, nice_tf.ConvNet):
        grid = network._grid
        found |= {
            "source": grid.source,
            "target": grid.target,
            "mask": network._mask,
            "places": network._places.numpy(),
        }
    return found
