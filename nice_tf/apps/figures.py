"""Draws the paper's figures of a finished run.

nice-tf figures --workdir=runs/digits
nice-tf figures --workdir=runs/digits --figures=spectrum,sphere --output_dir=pictures
"""

import pathlib

from absl import flags

from nice_tf.apps import asked
from nice_tf.choices import FIGURES
from nice_tf.cli import command
from nice_tf.errors import UserError

command.define_run_flags("figures")
flags.DEFINE_list(
    "figures", "", f"which, by commas, of {', '.join(FIGURES)}; empty: all", module_name="figures"
)
flags.DEFINE_string(
    "output_dir", "", "folder of the pictures; empty: figures in the workdir", module_name="figures"
)


def main() -> None:
    """Writes one PNG per figure."""
    values = flags.FLAGS
    unknown = sorted(set(values.figures) - set(FIGURES))
    if unknown:
        raise UserError(f"--figures must be of {', '.join(FIGURES)}, got {', '.join(unknown)}")
    (workdir,) = asked.workdir()
    with command.quiet_tensorflow():
        from nice_tf.reports import figures
        from nice_tf.runs import finished
    run = finished.load_finished_run(
        workdir, data_dir=values.data_dir, manual_dir=values.manual_dir
    )
    directory = pathlib.Path(values.output_dir or pathlib.Path(workdir) / "figures")
    possible = figures.available(run)
    impossible = sorted(set(values.figures) - set(possible))
    if impossible and run.data.labels:
        raise UserError(
            f"figures {', '.join(impossible)} are not of a run with condition_on "
            f"{run.data.labels.name} and of examples of shape {run.data.event_shape}, only "
            f"{', '.join(possible)}"
        )
    if impossible:
        raise UserError(
            f"--figures {', '.join(impossible)} are of pictures, examples have shape "
            f"{run.data.event_shape}"
        )
    for name in values.figures or possible:
        print(figures.write(run, name, directory), flush=True)


if __name__ == "__main__":
    command.run(main, usage=__doc__, groups=["figures"])
