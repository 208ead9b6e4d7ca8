"""Trains NICE and evaluates it.

nice-tf train --flagfile=configs/digits.flags    # nice-tf configs writes the folder configs
python train.py --flagfile=configs/digits.flags  # the same, in the repository
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
flags.DEFINE_bool(
    "finish",
    False,
    "no more epochs: evaluate and close the run in --workdir, as it was stopped, at its best epoch so "
    "far. Other flags must be those that it was begun with, except for --data_dir and the like, which "
    "change no result",
    module_name="run",
)


def main() -> None:
    """Reads the flags and runs."""
    settings = config_flags.from_flags()
    if flags.FLAGS.finish:
        with command.quiet_tensorflow():
            from nice_tf.apps import terminal
            from nice_tf.training.run import default_workdir, finish_stopped
        workdir = flags.FLAGS.workdir or default_workdir(settings)
        terminal.print_result(finish_stopped(workdir, config_flags.given()))
        return
    with command.quiet_tensorflow():
        from nice_tf.apps import terminal
        from nice_tf.training.run import default_workdir, train_and_evaluate
    result = train_and_evaluate(
        settings,
        flags.FLAGS.workdir or default_workdir(settings),
        on_start=terminal.print_start,
        on_trained=terminal.print_trained,
        verbose=terminal.verbosity(),
    )
    if result:  # the chief of several workers alone has one
        terminal.print_result(result)


def _when_interrupted():
    return "with --finish it evaluates and closes the run at its best epoch so far"


if __name__ == "__main__":
    command.run(main, usage=__doc__, groups=GROUPS, when_interrupted=_when_interrupted)
