"""Fills the missing cells of a table, given the others of their row; all else stays.

nice-tf impute --model=runs/rows --input=rows.csv --output=filled.csv            # the most likely values
nice-tf impute --model=runs/rows --input=rows.csv --output=drawn.csv --draws=20  # twenty draws of each row
"""

from absl import flags

from nice_tf.apps import asked
from nice_tf.cli import command

command.define_model_flags("impute")
command.define_input_flag("impute")
flags.DEFINE_integer(
    "draws",
    0,
    "0: the most likely values. Else so many draws of each row from what the missing values may be, "
    "given the others: one file of all, with columns row and draw; the model must be a run",
    module_name="impute",
)
flags.DEFINE_integer("seed", 0, "of the draws", module_name="impute")


def main() -> None:
    """Writes the filled table."""
    model, source, output = asked.model("input", "output")
    with command.quiet_tensorflow():
        from nice_tf.scoring import files
    values = flags.FLAGS
    said = files.fill_file(
        model,
        source,
        output,
        num_draws=values.draws,
        seed=values.seed,
        overwrite=values.overwrite,
    )
    print(said)


if __name__ == "__main__":
    command.run(main, usage=__doc__, groups=["impute"])
