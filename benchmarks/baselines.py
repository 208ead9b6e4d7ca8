"""What densities without a network give on the same split: `densities.py` has them.

    python benchmarks/baselines.py
    python benchmarks/baselines.py --dataset=mnist --manual_dir=../shared/data/mnist --num_train=10000

All are fitted to dequantized training examples, with fresh noise for each of `--copies` copies of them. What is left
to choose (a ridge, a bandwidth, the number of components) is chosen on validation; test is scored once, with fresh
noise for each of `--num_draws` draws. On tables the columns are first brought to deviations of 1. Independent
marginals and the two densities on their scores (a copula each) are of the map that `--marginals=quantile` puts in front
of a flow.
"""

import dataclasses

import densities
import numpy as np
from absl import flags

from nice_tf.cli import command, config_flags
from nice_tf.errors import UserError, check_choice

METHODS = {
    "full-covariance Gaussian": densities.gaussian,
    "kernel density": densities.kernel_density,
    "Gaussian mixture": densities.gaussian_mixture,
    "independent marginals": densities.independent_marginals,
    "Gaussian copula": densities.on_copula(densities.gaussian),
    "Gaussian mixture on the copula's scores": densities.on_copula(densities.gaussian_mixture),
}
_IN_UNITS = ("full-covariance Gaussian", "kernel density", "Gaussian mixture")

GROUPS = ["baselines", *config_flags.define_flags()]
flags.DEFINE_integer(
    "copies", 5, "dequantized copies of the training examples to fit to", module_name="baselines"
)
flags.DEFINE_integer("num_train", 0, "training examples to fit to; 0: all", module_name="baselines")
flags.DEFINE_list(
    "methods", list(METHODS), "which of the densities, by commas", module_name="baselines"
)


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
    for name in values.methods:
        check_choice("methods", name, METHODS)
    settings = config_flags.from_flags()
    sets = dataset.load(settings)
    sets_train = sets.train[: values.num_train or None]

    def dequantized(examples, purpose, draw):
        seed = seeds.stateless_seed(settings.seed, purpose, draw)
        x = units.to_density_units(
            examples,
            sets.levels,
            settings.dequantization,
            seed,
            steps=sets.steps,
            spikes=sets.spikes,
        )
        return x.numpy().reshape(len(examples), -1).astype(np.float64)

    if not units.is_discrete(sets.levels, sets.steps, sets.spikes):
        values.copies = 1
        settings = dataclasses.replace(settings, num_draws=1)
    sample = densities.sample_of(
        sets,
        train=np.stack(
            [dequantized(sets_train, "train_noise", draw) for draw in range(values.copies)]
        ),
        validation=dequantized(sets.validation, "validation_noise", 0),
    )
    print(
        f"{sets.name}: {len(sets_train)} train (times {values.copies}), {len(sets.validation)} validation, "
        f"{len(sets.test)} test, noise of seed {settings.seed}"
    )
    print("| method | chosen on validation | validation, nats | test, nats |\n|---|---|---|---|")
    for name in values.methods:
        method = METHODS[name]
        if sets.schema and name in _IN_UNITS:
            method = densities.standardized(method)
        fitted = method(sample)
        draws = [
            fitted.log_prob(dequantized(sets.test, "test_noise", draw))
            for draw in range(settings.num_draws)
        ]
        per_example = np.mean(draws, axis=0)
        print(
            f"| {name} | {fitted.chosen} | {fitted.validation:.2f} | {per_example.mean():.2f} "
            f"+- {metrics.standard_error(per_example):.2f} |",
            flush=True,
        )


if __name__ == "__main__":
    command.run(main, usage=__doc__, groups=GROUPS)
