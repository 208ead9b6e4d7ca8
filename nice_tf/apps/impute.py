"""Fills the missing cells of a table with the most likely values, given the others of their row; all else stays.

python -m nice_tf.apps.impute --model=runs/table --input=rows.csv --output=filled.csv
"""

from absl import flags

from nice_tf import cli

cli.define_model_flags("impute")
cli.define_input_flag("impute")


def main() -> None:
    """Writes the filled table."""
    model, source, output = map(cli.required, ("model", "input", "output"))
    with cli.quiet_tensorflow():
        from nice_tf import batch
    print(batch.fill_file(model, source, output, overwrite=flags.FLAGS.overwrite))


if __name__ == "__main__":
    cli.run(main, usage=__doc__, groups=["impute"])
