"""Draws samples of a trained model: a picture of many, an array, or rows of a table in its own units.

nice-tf sample --model=runs/digits --output=samples.png
nice-tf sample --model=runs/rows/export --output=new_rows.csv --num_samples=100000 --seed=1
nice-tf sample --model=runs/rows --output=west.csv --given=region=West,year=2019
"""

from absl import flags

from nice_tf.apps import asked
from nice_tf.cli import command

command.define_model_flags("sample")
flags.DEFINE_integer("num_samples", 100, "how many", module_name="sample")
flags.DEFINE_integer(
    "seed", 0, "sample n of a seed is the same however many are drawn", module_name="sample"
)
flags.DEFINE_float(
    "temperature", 1.0, "factor on the prior's draw; less than 1: more usual", module_name="sample"
)
flags.DEFINE_list(
    "given",
    [],
    "NAME=VALUE by commas: rows of a table that have these values; the model must be a run. A value "
    "with a comma stands in double quotes with its name: '\"city=Bern, BE\"'",
    module_name="sample",
)
flags.DEFINE_string(
    "label",
    None,
    "of a model with condition_on, the class of all samples; if not given, classes as frequent as "
    "in train",
    module_name="sample",
)


def main() -> None:
    """Writes the samples."""
    values = flags.FLAGS
    given = asked.parse_given(values.given)
    model, output = asked.model("output")
    with command.quiet_tensorflow():
        from nice_tf.scoring import files
    path = files.sample_file(
        model,
        output,
        num_samples=values.num_samples,
        seed=values.seed,
        temperature=values.temperature,
        given=given,
        label=values.label,
        overwrite=values.overwrite,
    )
    print(path)


if __name__ == "__main__":
    command.run(main, usage=__doc__, groups=["sample"])
