"""Fills the missing cells of a table with the most likely values, given the others of their row; all else stays.

python -m nice_tf.apps.impute --model=runs/table --input=rows.csv --output=filled.csv
"""

from absl import flags

from nice_tf.apps import asked
from nice_tf.cli import command

command.define_model_flags("impute")
command.define_input_flag("impute")


def main() -> None:
    """Writes the filled table."""
    model = asked.model()
    source = command.required("input")
    output = command.required("output")
    with command.quiet_tensorflow():
        from nice_tf.scoring import files
    print(files.fill_file(model, source, output, overwrite=flags.FLAGS.overwrite))


if __name__ == "__main__":
    command.run(main, usage=__doc__, groups=["impute"])
