"""Writes one page about a finished run: likelihoods, curves, samples, spectrum, in-painting, settings.

nice-tf report --workdir=runs/digits
"""

import pathlib

from absl import flags

from nice_tf.apps import asked
from nice_tf.cli import command

command.define_run_flags("report")
flags.DEFINE_string(
    "output", "", "the page; empty: report.html in the workdir", module_name="report"
)


def main() -> None:
    """Writes the page."""
    values = flags.FLAGS
    (workdir,) = asked.workdir()
    with command.quiet_tensorflow():
        from nice_tf.reports import page
        from nice_tf.runs import finished
    run = finished.load_finished_run(
        workdir, data_dir=values.data_dir, manual_dir=values.manual_dir
    )
    print(page.write_report(run, workdir, values.output or pathlib.Path(workdir) / "report.html"))


if __name__ == "__main__":
    command.run(main, usage=__doc__, groups=["report"])
