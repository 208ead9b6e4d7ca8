"""Exports a finished run: python export.py --workdir=runs/digits --export_dir=runs/digits/export."""

from nice_tf import cli

cli.run_app("export")
