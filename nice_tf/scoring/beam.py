"""Scoring as an Apache Beam pipeline, for more rows than one machine takes: the same columns as
`files.score_file`.

Beam reads, spreads, retries and writes; `RunInference` loads the model once for each worker
process. TensorFlow is imported where the model is.
"""

import contextlib
import dataclasses
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import apache_beam as beam
import pyarrow as pa
from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems
from apache_beam.ml.inference.base import ModelHandler, RunInference
from apache_beam.options.pipeline_options import PipelineOptions

from nice_tf.errors import UserError

OUTPUT_SUFFIXES = (".parquet", ".tfrecord")


def score(
    model: str,
    input: str,
    output: str,
    *,
    beam_flags: Sequence[str] = (),
    top: int | None = None,
    threshold: float = 0.01,
    keep: Sequence[str] = (),
    impute: bool = False,
    by: str = "density",
    overwrite: bool = False,
) -> list[str]:
    """Runs the pipeline to its end.

    Args:
      model: as for `files.score_file`; a path that every worker can read.
      input: a file or a pattern, of CSV, Parquet, TFRecord or NumPy files in any file system that
        Beam knows.
      output: `scores.parquet` or `scores.tfrecord`, which come as `scores-00000-of-00004.parquet`
        and so on, their rows in any order; `row` tells the order.
      beam_flags: Beam's own, `--runner=...` and what that runner wants.
      top: as for `files.score_file`.
      threshold: as there.
      keep: as there.
      impute: as there.
      by: as there.
      overwrite: replace files of this name, once all is scored.

    Returns:
      Paths of the files.

    Raises:
      UserError: what the user can put right, as far as the first rows tell; what is wrong further
        on fails the pipeline, with the same words.
    """
    stem, suffix = os.path.splitext(output)
    if suffix not in OUTPUT_SUFFIXES:
        raise UserError(f"output must end in {' or '.join(OUTPUT_SUFFIXES)}, got {output}")
    written = _matching(f"{stem}-*-of-*{suffix}")
    if written and not overwrite:
        raise UserError(
            f"output {written[0]} is there already: overwrite replaces it, or give another name"
        )
    options = _options(beam_flags)
    files = _files(input)
    handler = ScorerHandler(model, top=top, threshold=threshold, impute=impute, by=by)
    scorer = handler.load_model()
    without_signatures = dataclasses.replace(scorer.model, signatures={}, owner=None)
    reader = Reader(without_signatures, list(keep), scorer.rows_at_once)
    reader.check_output(files[0], output)
    # Also says what is wrong before any worker starts.
    schema = scorer(reader.first_block(files)).schema
    with beam.Pipeline(options=options) as pipeline:
        tables = _blocks(pipeline, reader, files) | "Score" >> RunInference(handler)
        names = _written(tables, schema, stem, suffix)
        all_names = names | "All written" >> beam.combiners.ToList()
        all_names | "Drop others" >> beam.Map(_drop_others, written)
    return _matching(f"{stem}-*-of-*{suffix}")


def _blocks(pipeline, reader, files):
    """The blocks of all files, numbered through."""
    # Where the rows of a file start is known once those of the files before it are counted.
    earlier = pipeline | "Earlier files" >> beam.Create(files[:-1])
    counts = earlier | "Count" >> beam.Map(reader.count)
    return (
        pipeline
        | "Files" >> beam.Create(files)
        | "Spread files" >> beam.Reshuffle()
        | "Read" >> beam.FlatMap(reader.blocks, files, beam.pvalue.AsDict(counts))
        | "Spread blocks" >> beam.Reshuffle()
    )


def _written(tables, schema, stem, suffix):
    """The names of the files that tables are written to."""
    if suffix == ".parquet":
        write = beam.io.WriteToParquetBatched(stem, schema, file_name_suffix=suffix)
        return tables | "Write" >> write
    examples = tables | "Examples" >> beam.FlatMap(_examples)
    return examples | "Write" >> beam.io.WriteToTFRecord(stem, file_name_suffix=suffix)


class ScorerHandler(ModelHandler):
    """Loads a `scorer.Scorer`, once for each worker process, and lets it score blocks. Holds its
    settings alone.
    """

    def __init__(self, model: str, *, top: int | None, threshold: float, impute: bool, by: str):
        """Takes what `score` does."""
        super().__init__(max_batch_size=1)  # a block is a batch already
        self._model = model
        self._top = top
        self._threshold = threshold
        self._impute = impute
        self._by = by

    def load_model(self) -> Any:
        """The scorer."""
        from nice_tf.scoring.model import Model
        from nice_tf.scoring.scorer import Scorer

        return Scorer(Model.load(self._model), self._top, self._threshold, self._impute, self._by)

    def run_inference(
        self, batch: Sequence[Any], model: Any, inference_args: Any = None
    ) -> Iterable[pa.Table]:
        """The scores of blocks, a table each."""
        return map(model, batch)


@dataclasses.dataclass(frozen=True)
class Reader:
    """Reads files as `files.score_file` does.

    Attributes:
      model: what it is of, without its signatures and their owner.
      keep: names of columns to pass on.
      size: rows of a block.
    """

    model: Any
    keep: list[str]
    size: int

    def first_block(self, files: list[str]) -> Any:
        """The first rows.

        Raises:
          UserError: there are none, or they break a rule.
        """
        for file in files:
            for block in self._read(file):
                return block
        raise UserError(f"input {files[0]} has no rows")

    def check_output(self, file: str, output: str) -> None:
        """Checks that an output can hold the columns to keep, as `TableInput.check_output`."""
        from nice_tf.data.tables.paths import is_parquet
        from nice_tf.scoring.inputs import open_input

        # Only Parquet has columns that an output cannot hold: no other file need be copied here for
        # that.
        if output.endswith(".parquet") or not self.keep or not is_parquet(file):
            return

        with _local(file) as path:
            open_input(path, self.model, self.keep).check_output(output)

    def count(self, file: str) -> tuple[str, int]:
        """A file and how many rows it has."""
        return file, sum(len(block.values) for block in self._read(file))

    def blocks(self, file: str, files: list[str], counts: dict[str, int]) -> Iterator[Any]:
        """The blocks of a file, numbered through all files."""
        first = sum(counts[earlier] for earlier in files[: files.index(file)])
        for block in self._read(file):
            yield dataclasses.replace(block, first=first + block.first)

    def _read(self, file):
        from nice_tf.scoring.inputs import open_input

        with _local(file) as path:
            yield from open_input(path, self.model, self.keep).blocks(self.size)


@contextlib.contextmanager
def _local(file):
    """A path of this machine; a file of another file system is copied for as long as it is read."""
    if os.path.exists(file):
        yield file
        return
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, os.path.basename(file))
        # As it lies there: the reader decompresses it, by its name.
        with (
            FileSystems.open(file, compression_type=CompressionTypes.UNCOMPRESSED) as source,
            open(path, "wb") as target,
        ):
            shutil.copyfileobj(source, target)
        yield path


def _options(beam_flags):
    """Beam's options; Beam itself passes over those that it does not know."""
    options = PipelineOptions(list(beam_flags))
    known = options.get_all_options(retain_unknown_options=False)
    given = options.get_all_options(retain_unknown_options=True)
    unknown = sorted(set(given) - set(known))
    if unknown:
        raise UserError(f"there is no flag {', '.join(unknown)}, neither of ours nor of Beam's")
    return options


def _files(name):
    """The file of a path that exists, or the files of a pattern, in order."""
    if FileSystems.exists(name) and not os.path.isdir(name):
        return [name]
    files = _matching(name)
    if not files:
        raise UserError(
            f"input {name}: there is no such file; a folder is given as a pattern, {name}/*.parquet"
        )
    return files


def _matching(pattern):
    return sorted(metadata.path for metadata in FileSystems.match([pattern])[0].metadata_list)


def _drop_others(names, earlier):
    """Deletes the files of an earlier run that this one, which may have another number of them, has
    not replaced.
    """
    kept = set(map(os.path.basename, names))
    stale = []
    for file in earlier:
        if os.path.basename(file) not in kept and FileSystems.exists(file):
            stale.append(file)
    if stale:
        FileSystems.delete(stale)


def _examples(table):
    """Each row as a serialized `tf.train.Example`: integers and flags as int64, numbers as floats,
    else text.
    """
    import tensorflow as tf

    def feature(value, kind):
        values = []
        if value is not None:
            values.append(value)
        if pa.types.is_integer(kind) or pa.types.is_boolean(kind):
            return tf.train.Feature(int64_list=tf.train.Int64List(value=map(int, values)))
        if pa.types.is_floating(kind):
            return tf.train.Feature(float_list=tf.train.FloatList(value=values))
        texts = [str(value).encode() for value in values]
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=texts))

    kinds = dict(zip(table.schema.names, table.schema.types, strict=True))
    for row in table.to_pylist():
        features = {name: feature(value, kinds[name]) for name, value in row.items()}
        example = tf.train.Example(features=tf.train.Features(feature=features))
        yield example.SerializeToString()
