"""Trains NICE and evaluates it.

python train.py --flagfile=configs/digits.flags     in the repository
nice-train --flagfile=configs/digits.flags          where the package is installed; nice-configs writes configs/
"""

from absl import flags

from nice_tf import cli, config_flags

GROUPS = ["run", *config_flags.define_flags()]
flags.DEFINE_string(
    "workdir",
    "",
    "folder of this run: settings, checkpoints, metrics, samples, evaluation; empty: runs/DATASET. "
    "The same command on the same folder continues the run",
    module_name="run",
)


def main() -> None:
    """Reads the flags and runs."""
    settings = config_flags.from_flags()
    with cli.quiet_tensorflow():
        from nice_tf import training
    training.train_and_evaluate(settings, flags.FLAGS.workdir or training.default_workdir(settings))


if __name__ == "__main__":
    cli.run(main, usage=__doc__, groups=GROUPS)
