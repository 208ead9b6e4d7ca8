"""Says how usual each row of a table or each example of an array is to a trained model.

nice-tf score --model=runs/rows --input=rows.csv --output=scores.parquet
nice-tf score --model=runs/rows/export --input='rows/*.parquet' --output=scores.csv --keep=id,name
nice-tf score --model=runs/digits --input=pictures.npy --output=pictures.csv

Of each row, in order: its number from 0, of a folder of pictures also its file, log_prob in nats, bits_per_dim of
integer data, tail_probability (the share of validation examples of lower log_prob), typicality (|log_prob - its mean
over validation examples|) and is_anomaly. Of tables with marginals, rank_log_prob and rank_tail_probability follow
tail_probability: the same of where its values stand in their columns. Then the columns that make it unusual, with the
nats that log_prob, or with --by=ranks rank_log_prob, would gain if the value were its column's median (without marginals its mean;
of categories the most frequent). Of tables with categories, unseen names the columns whose category the run's table does
not have; such a row is flagged.
"""

from absl import flags

from nice_tf.apps import asked
from nice_tf.cli import command

command.define_model_flags("score")
command.define_input_flag("score")
command.define_score_flags("score")


def main() -> None:
    """Writes the scores."""
    values = flags.FLAGS
    model, source, output = asked.model("input", "output")
    with command.quiet_tensorflow():
        from nice_tf.scoring import files
    path = files.score_file(
        model,
        source,
        output,
        top=values.top,
        threshold=values.threshold,
        keep=values.keep,
        impute=values.impute,
        by=values.by,
        overwrite=values.overwrite,
    )
    print(path)


if __name__ == "__main__":
    command.run(main, usage=__doc__, groups=["score"])
