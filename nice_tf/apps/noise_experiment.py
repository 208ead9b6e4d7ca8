"""Trains with and without dequantization noise, side by side; every setting of nice-tf train applies to both.

nice-tf noise_experiment --flagfile=configs/digits_plain.flags --workdir=runs/noise --epochs=100
"""

from absl import flags

from nice_tf.cli import command, config_flags

GROUPS = ["noise experiment", *config_flags.define_flags()]
flags.DEFINE_string(
    "workdir", "runs/noise", "folder of both runs and of the result", module_name="noise experiment"
)

EXPLANATION = """\
Without noise the data are points, and the density of a point has no upper bound: where a value never varies, 1/s falls
to the floor that keeps it finite, and each factor ten of that floor is worth 2.3 nats for each such value. The figure
without noise states the floor; the one with noise states the model."""


def main() -> None:
    """Runs both and prints the comparison."""
    settings = config_flags.from_flags()
    with command.quiet_tensorflow():
        from nice_tf.apps import terminal
        from nice_tf.reports.noise_experiment import noise_experiment
    rows = noise_experiment(
        settings,
        flags.FLAGS.workdir,
        on_start=terminal.print_start,
        on_result=terminal.print_result,
        verbose=terminal.verbosity(),
    )
    print("\nvalidation log-likelihood, nats per example")
    print(
        f"{'trained with noise':20s} {'scored with':>14s} {'scored without':>14s} {'1/s at floor':>13s} "
        f"{'floor / 10 adds':>15s}"
    )
    for row in rows:
        print(
            f"{row['trained_with']:20s} {row['log_prob_with_noise']:14.4g} "
            f"{row['log_prob_without_noise']:14.4g} {row['num_at_floor']:13d} "
            f"{row['nats_of_a_floor_ten_times_lower']:15.1f}"
        )
    print(
        f"\n{EXPLANATION}\n\nwritten to {flags.FLAGS.workdir}: noise.json, and noise.png for "
        "pictures"
    )


if __name__ == "__main__":
    command.run(main, usage=__doc__, groups=GROUPS)
