"""Trains NICE and evaluates it.

python train.py --flagfile=configs/digits.flags     in the repository
nice-train --flagfile=configs/digits.flags          where the package is installed; nice-configs writes configs/
"""

from absl import flags

from nice_tf.cli import command, config_flags

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
    with command.quiet_tensorflow():
        from nice_tf.training import run
    run.train_and_evaluate(settings, flags.FLAGS.workdir or run.default_workdir(settings))


if __name__ == "__main__":
    command.run(main, usage=__doc__, groups=GROUPS)
