"""Exports a finished run.

python export.py --workdir=runs/digits --export_dir=runs/digits/export
"""

from nice_tf.cli import command

command.run_app("export")
