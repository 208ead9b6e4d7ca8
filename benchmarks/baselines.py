"""What a density without a network gives on the same split: a Gaussian, and scikit-learn's kernel density estimate.

    python benchmarks/baselines.py
    python benchmarks/baselines.py --dataset=mnist --manual_dir=../shared/data/mnist --num_train=10000

Both are fitted to dequantized training examples, with fresh noise for each of `--copies` copies of them. What is left
to choose (the ridge on the Gaussian's covariance, the bandwidth) is chosen on validation; test is scored once, with
fresh noise for each of `--num_draws` draws.
"""

import numpy as np
from absl import flags

from nice_tf.cli import command, config_flags
from nice_tf.errors import UserError

GROUPS = ["baselines", *config_flags.define_flags()]
flags.DEFINE_integer(
    "copies", 5, "dequantized copies of the training examples to fit to", module_name="baselines"
)
flags.DEFINE_integer("num_train", 0, "training examples to fit to; 0: all", module_name="baselines")


def gaussian(train, ridge):
    """Log-density of a full-covariance Gaussian of maximum likelihood, `ridge` added to its
    variances.
    """
    from scipy.stats import multivariate_normal

    covariance = np.cov(train, rowvar=False) + ridge * np.eye(train.shape[1])
    return multivariate_normal(train.mean(axis=0), covariance).logpdf


def kernel_density(train, bandwidth):
    """Log-density of a Gaussian kernel on every training example."""
    from sklearn.neighbors import KernelDensity

    # One leaf, a plain sum: the bounds of its tree cancel, and points of low density come out up to
    # 366 nats too high.
    return KernelDensity(bandwidth=bandwidth, leaf_size=len(train)).fit(train).score_samples


METHODS = {
    "full-covariance Gaussian": (gaussian, "ridge", np.geomspace(1e-6, 1e-1, 16)),
    "kernel density": (kernel_density, "bandwidth", np.geomspace(0.03, 0.5, 24)),
}


def main() -> None:
    """Fits, chooses, and prints the table."""
    with command.quiet_tensorflow():
        from nice_tf import seeds
        from nice_tf.data import dataset, units
        from nice_tf.evaluation import metrics
    values = flags.FLAGS
    if values.copies < 1 or values.num_train < 0:
        raise UserError(
            f"copies must be at least 1 and num_train at least 0, got {values.copies} and "
            f"{values.num_train}"
        )
    settings = config_flags.from_flags()
    sets = dataset.load(settings)
    sets_train = sets.train[: values.num_train or None]

    def dequantized(examples, purpose, draw):
        seed = seeds.stateless_seed(settings.seed, purpose, draw)
        x = units.to_density_units(examples, sets.levels, settings.dequantization, seed)
        return x.numpy().reshape(len(examples), -1).astype(np.float64)

    train = np.concatenate(
        [dequantized(sets_train, "train_noise", draw) for draw in range(values.copies)]
    )
    validation = dequantized(sets.validation, "validation_noise", 0)
    print(
        f"{sets.name}: {len(sets_train)} train (times {values.copies}), {len(sets.validation)} validation, "
        f"{len(sets.test)} test, noise of seed {settings.seed}"
    )
    print("| method | chosen on validation | validation, nats | test, nats |\n|---|---|---|---|")
    for name, (make, what, grid) in METHODS.items():
        scores = [make(train, value)(validation).mean() for value in grid]
        best = int(np.argmax(scores))
        score = make(train, grid[best])
        draws = [
            score(dequantized(sets.test, "test_noise", draw)) for draw in range(settings.num_draws)
        ]
        per_example = np.mean(draws, axis=0)
        print(
            f"| {name} | {what} {grid[best]:.3g} | {scores[best]:.2f} | {per_example.mean():.2f} "
            f"+- {metrics.standard_error(per_example):.2f} |",
            flush=True,
        )


if __name__ == "__main__":
    command.run(main, usage=__doc__, groups=GROUPS)
