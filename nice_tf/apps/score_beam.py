r"""Scores as `nice-tf score` does, by Apache Beam: on many machines, or for files that lie in a cloud.

nice-tf score_beam --model=runs/rows/export --input='rows/*.parquet' --output=scores/all.parquet
nice-tf score_beam --model=/shared/export --input='gs://in/*.csv' --output=gs://out/scores.tfrecord \
    --runner=FlinkRunner --flink_master=host:8081

Flags that are none of ours go to Beam. The output comes in several files, scores/all-00000-of-00004.parquet and so on,
their rows in any order: row tells it. Needs the extra beam.
"""

from absl import flags

from nice_tf.cli import command
from nice_tf.errors import UserError

command.define_model_flags("score_beam")
command.define_input_flag("score_beam")
command.define_score_flags("score_beam")


def main(beam_flags: list[str]) -> None:
    """Writes the scores."""
    values = flags.FLAGS
    model, source, output = command.required("model", "input", "output")
    with command.quiet_tensorflow():
        try:
            from nice_tf.scoring import beam

            # The first rows are scored here: TensorFlow starts quietly.
            from nice_tf.scoring.model import Model  # noqa: F401
        except ModuleNotFoundError as error:
            raise UserError(
                f"{error}: the extra beam brings it, pip install -e '.[beam]'"
            ) from error
    paths = beam.score(
        model,
        source,
        output,
        beam_flags=beam_flags,
        top=values.top,
        threshold=values.threshold,
        keep=values.keep,
        impute=values.impute,
        by=values.by,
        overwrite=values.overwrite,
    )
    for path in paths:
        print(path)


if __name__ == "__main__":
    command.run(main, usage=__doc__, groups=["score_beam"], passes_on=True)
