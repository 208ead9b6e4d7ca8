"""Where the time of a training step goes: the whole step, and its parts alone, in turn in one process.

    python benchmarks/step_parts.py
    python benchmarks/step_parts.py --precision=float32 --batch=1000

The paper's MNIST architecture. `products` are the matrix products of `gradient` alone. What `products` and `optimizer`
leave of the whole is noise, prior, activations, casts and overhead.
"""

import argparse
import os
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import contest
import numpy as np
import peers_tensorflow
import tensorflow as tf

import nice_tf
from nice_tf.data.dataset import Data
from nice_tf.training.devices import choose_precision
from nice_tf.training.model import make_model


def parts(precision, batch):
    """A call for each part."""
    shape = contest.Architecture()
    values = np.random.default_rng(0).integers(0, 256, [batch, shape.event_size], np.uint8)
    config = nice_tf.Config(precision=precision, batch_size=batch)
    model = make_model(
        config, Data("random", train=values, validation=values, test=values, levels=256)
    )
    variables, batch_values = model.flow.trainable_variables, tf.constant(values)
    gradients = [tf.random.normal(variable.shape) for variable in variables]

    @tf.function
    def whole():
        return model.train_step(batch_values)["log_prob"]

    @tf.function
    def gradient():
        with tf.GradientTape() as tape:
            loss = -tf.reduce_mean(
                model.flow.log_prob(model.density_units(batch_values, "train_noise", 0))
            )
        return tf.add_n([tf.reshape(g, [-1])[0] for g in tape.gradient(loss, variables)])

    @tf.function
    def optimizer():
        return model.optimizer.apply_gradients(zip(gradients, variables, strict=True))

    products = peers_tensorflow.Matmul(
        contest.Contestant("matmul_tf", precision), shape
    ).training_step(values, batch)
    return {"whole step": whole, "gradient": gradient, "products": products, "optimizer": optimizer}


def main() -> None:
    """Measures in turn and prints medians."""
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument(
        "--precision", default=choose_precision("auto"), choices=contest.PRECISIONS
    )
    options.add_argument("--batch", type=int, default=200)
    options.add_argument("--rounds", type=int, default=15)
    arguments = options.parse_args()
    calls = parts(arguments.precision, arguments.batch)
    times = {name: [] for name in calls}
    for round_ in range(arguments.rounds + 1):
        for name, call in calls.items():
            start = time.perf_counter()
            for _ in range(3):
                float(call())
            if round_:  # the first compiles
                times[name].append((time.perf_counter() - start) / 3 * 1e3)
    print(f"{arguments.precision}, batch {arguments.batch}: median ms of {arguments.rounds} rounds")
    for name, found in times.items():
        print(f"{name:>16} {np.median(found):7.1f}")
    share = np.median(np.add(times["products"], times["optimizer"]) / times["whole step"])
    print(f"products and optimizer together are {share:.0%} of the whole step")


if __name__ == "__main__":
    main()
