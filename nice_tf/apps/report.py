"""Writes one page about a finished run: likelihoods, curves, samples, spectrum, in-painting, settings.

python -m nice_tf.apps.report --workdir=runs/digits
"""

import pathlib

from absl import flags

from nice_tf import cli

cli.define_run_flags("report")
flags.DEFINE_string("output", "", "the page; empty: report.html in the workdir", module_name="report")


def main() -> None:
    """Writes the page."""
    values = flags.FLAGS
    with cli.quiet_tensorflow():
        from nice_tf import figures, report
    workdir = cli.required("workdir")
    run = figures.load_finished_run(workdir, data_dir=values.data_dir, manual_dir=values.manual_dir)
    print(report.write_report(run, workdir, values.output or pathlib.Path(workdir) / "report.html"))


if __name__ == "__main__":
    cli.run(main, usage=__doc__, groups=["report"])
