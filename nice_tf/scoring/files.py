"""What a trained model says of many rows, from file to file: scores, missing values, samples."""

import dataclasses
import functools
import hashlib
import json
import os
import pathlib
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from nice_tf import drawing
from nice_tf.data.cache import file_states, write_header, write_rows
from nice_tf.data.tables.encodings import decoded, for_csv
from nice_tf.data.tables.paths import is_parquet
from nice_tf.errors import UserError, check_count
from nice_tf.files import replaced
from nice_tf.scoring import imputation
from nice_tf.scoring import output as output_lib
from nice_tf.scoring import scorer as scorer_lib
from nice_tf.scoring.array_input import ArrayInput
from nice_tf.scoring.blocks import Block, rows_at_once
from nice_tf.scoring.draws import Drawer
from nice_tf.scoring.given import known_values
from nice_tf.scoring.inputs import open_input
from nice_tf.scoring.model import Model
from nice_tf.scoring.table_input import TableInput
from nice_tf.scoring.trust import Trust

__all__ = ["fill_file", "sample_file", "score_file"]

SAMPLE_SUFFIXES = (".png", ".npz", *output_lib.SUFFIXES)
_MAX_PICTURES = 10_000  # in a grid
_MANY_ROWS = 10_000  # fewer take less time than the start


def score_file(
    model: str | os.PathLike,
    input: str | os.PathLike,
    output: str | os.PathLike,
    *,
    top: int | None = None,
    threshold: float = 0.01,
    keep: Sequence[str] = (),
    impute: bool = False,
    by: str = "density",
    overwrite: bool = False,
) -> str:
    """Scores all rows of a table or examples of an array into a Parquet or CSV file.

    Args:
      model: workdir of a finished run, or an export.
      input: as for `inputs.open_input`.
      output: path; a run that was interrupted is continued, as `output.write` says.
      top: as for `scorer.Scorer`.
      threshold: as for `scorer.Scorer`.
      keep: names of columns of a table to pass on.
      impute: as for `scorer.Scorer`.
      by: as for `scorer.Scorer`.
      overwrite: as for `output.write`.

    Returns:
      What there is to say of the scores, some lines.

    Raises:
      UserError: whatever the user can put right.
    """
    output = os.fspath(output)
    output_lib.check_output(output, overwrite=overwrite)
    loaded = Model.load(model)
    scorer = scorer_lib.Scorer(loaded, top, threshold, impute, by)
    source = open_input(os.fspath(input), loaded, keep)
    source.check_output(output)
    settings = {
        "command": "score",
        "top": scorer.top,
        "threshold": threshold,
        "keep": list(keep),
        "impute": impute,
    }
    if by != "density":  # earlier versions had no other: what they left unfinished is continued
        settings["by"] = by
    work = _Work(loaded, source, scorer, scorer.rows_at_once, settings)
    summary = scorer_lib.Summary(threshold, by)
    rate = work.write(output, overwrite=overwrite, observe=summary.add)
    said = summary.describe(loaded.tail_step)
    return "\n".join([*_warnings(source), said, f"written to {output}{rate}"])


def fill_file(
    model: str | os.PathLike,
    input: str | os.PathLike,
    output: str | os.PathLike,
    *,
    num_draws: int = 0,
    seed: int = 0,
    overwrite: bool = False,
) -> str:
    """Fills the missing values of a table into a file of the same kind.

    Args:
      model: as for `score_file`; a run for draws.
      input: as for `score_file`.
      output: as for `score_file`.
      num_draws: 0 for the most likely values. Else so many draws from what the values may be given
        the others: each row comes so many times, with its number in `row` and that of the draw in
        `draw`.
      seed: of the draws.
      overwrite: as for `score_file`.

    Returns:
      What there is to say, some lines.

    Raises:
      UserError: as for `score_file`; draws of an export.
    """
    check_count("draws", num_draws, 0)
    _check_seed(seed)
    output = os.fspath(output)
    output_lib.check_output(output, overwrite=overwrite)
    drawer = None
    if num_draws:
        drawer = Drawer.load(model, num_draws, seed)
        loaded = drawer.model
    else:
        loaded = Model.load(model)
    imputation.table_schema(loaded)
    source = open_input(os.fspath(input), loaded, keep=None)
    if is_parquet(source.files[0]) != output.endswith(".parquet"):
        raise UserError(f"output {output} must be of the kind of the input, {source.files[0]}")
    if drawer:
        settings = {"command": "impute", "draws": num_draws, "seed": seed}
        size = drawer.rows_at_once
        work = _Work(loaded, source, drawer, size, settings, rows_each=num_draws)
        trust = Trust()
        rate = work.write(output, overwrite=overwrite, observe=trust.add)
        said = f"{output}: {trust.describe(num_draws)}{rate}"
        return "\n".join([*_warnings(source), said])
    answer = functools.partial(imputation.filled_table, loaded)
    size = rows_at_once(loaded.event_size, scorer_lib.HARD_WORK)
    work = _Work(loaded, source, answer, size, {"command": "impute"})
    filled = imputation.FilledCount()
    rate = work.write(output, overwrite=overwrite, observe=filled.add)
    said = f"{output}: missing values filled: {filled.number:,}{rate}"
    return "\n".join([*_warnings(source), said])


def _warnings(source):
    return [f"warning: {warning}" for warning in source.warnings]


@dataclasses.dataclass(frozen=True)
class _Work:
    """What makes tables of the rows of an input.

    Attributes:
      model: trained.
      source: the input.
      answer: a table for a block of the input.
      size: rows of a block.
      settings: all that the answers depend on beside model and input.
      rows_each: rows of an answer per row of the block.
    """

    model: Model
    source: TableInput | ArrayInput
    answer: Callable[[Block], pa.Table]
    size: int
    settings: dict[str, Any]
    rows_each: int = 1

    def write(
        self,
        output: str,
        *,
        overwrite: bool,
        observe: Callable[[pa.Table], None] | None = None,
    ) -> str:
        """Writes the answers to a file, and says of many rows how fast; arguments and errors as
        for `output.write`.
        """
        files = self.source.files
        if os.path.abspath(output) in map(os.path.abspath, files):
            raise UserError(f"output {output} is one of the input's files: give another name")
        states = file_states(files)

        def tables(first):
            # A part has whole blocks, so a run is continued behind a whole row of the input.
            for block in self.source.blocks(self.size, first // self.rows_each):
                yield self.answer(block)
            if file_states(files) != states:
                raise UserError(
                    f"{files[0]} or another file of the input was changed while it was read"
                )

        def num_rows():
            number = self.source.num_rows
            if number is None:
                return None
            return number * self.rows_each

        computed, seconds = output_lib.write(
            output,
            tables,
            settings={**self.settings, "model": _identity(self.model), "input": states},
            overwrite=overwrite,
            num_rows=num_rows,
            observe=observe,
        )
        if computed < _MANY_ROWS:
            return ""
        return f", {computed / max(seconds, 1e-9):,.0f} rows/s"


def _identity(model):
    """What tells a model from others: where it is, its data, and what it says of them."""
    description = json.dumps(model.description, sort_keys=True)
    return [os.path.abspath(model.path), hashlib.sha256(description.encode()).hexdigest()]


def sample_file(
    model: str | os.PathLike,
    output: str | os.PathLike,
    *,
    num_samples: int,
    seed: int = 0,
    temperature: float = 1.0,
    given: Mapping[str, str] | None = None,
    label: str | None = None,
    overwrite: bool = False,
) -> str:
    """Draws samples into a file, in the data's own units: integers as integers, values of a table
    on their steps.

    Args:
      model: as for `score_file`.
      output: path: `.png`, a grid, of pictures only; `.npz`, an array `x`; `.csv` or `.parquet`, of
        tables only.
      num_samples: how many, at least 1.
      seed: as for `Model.sample`.
      temperature: as there.
      given: of tables, the values that some columns are to have, as text by name. The model must
        be a run; its samples are drawn by Hamiltonian Monte Carlo, as `fill_file` draws.
      label: of a conditional model, the class of all samples; `None` for classes as frequent as in
        train. A table, or an array, has the class of each sample beside it.
      overwrite: replace the file.

    Returns:
      What there is to say, in one line.

    Raises:
      UserError: a value out of its bounds, or a file that this model has no samples for.
    """
    output = os.fspath(output)
    output_lib.check_output(output, SAMPLE_SUFFIXES, overwrite=overwrite)
    _check_wanted(num_samples, seed, temperature)
    if given and label is not None:
        raise UserError("given and label do not go together: draws of given values are of p(x)")
    if given:
        return _sample_given(model, output, num_samples, seed, temperature, given, overwrite)
    loaded = Model.load(model)
    _check_has_samples_for(output, loaded, num_samples)
    draws = _Draws(loaded, num_samples, seed, temperature, label)
    draws.check_label()
    suffix = pathlib.Path(output).suffix
    if suffix in output_lib.SUFFIXES:
        _write_table(output, draws, overwrite=overwrite)
    elif suffix == ".png":
        _write_grid(output, draws)
    else:
        _write_npz(output, draws)
    return f"{output}: {scorer_lib.counted(num_samples, 'sample')}"


def _sample_given(model, output, num_samples, seed, temperature, given, overwrite):
    """Rows of a table some of whose values are given."""
    if temperature != 1:
        raise UserError(f"temperature is not for samples of given values, got {temperature}")
    drawer = Drawer.load(model, num_samples, seed)
    if not output.endswith(output_lib.SUFFIXES):
        raise UserError(f"output {output} must end in {' or '.join(output_lib.SUFFIXES)}: rows")
    known = known_values(drawer.schema, given)
    settings = {
        "command": "sample",
        "model": _identity(drawer.model),
        "seed": seed,
        "num_samples": num_samples,
        "given": dict(given),
    }

    trust = Trust()
    tables = functools.partial(drawer.given, known, as_text=output.endswith(".csv"))
    output_lib.write(output, tables, settings=settings, overwrite=overwrite, observe=trust.add)
    return f"{output}: {num_samples:,} rows; {trust.of_one_row().describe(num_samples)}"


def _check_wanted(num_samples, seed, temperature):
    check_count("num_samples", num_samples, 1)
    _check_seed(seed)
    if not 0 < temperature < float("inf"):
        raise UserError(f"temperature must be finite and above 0, got {temperature}")


def _check_seed(seed):
    if not 0 <= seed < 2**31:
        raise UserError(f"seed must be at least 0 and below {2**31}, got {seed}")


def _check_has_samples_for(output, model, num_samples):
    suffix = pathlib.Path(output).suffix
    if suffix in output_lib.SUFFIXES and not model.schema:
        raise UserError(
            f"output {output} is a table, samples of the model have shape {model.event_shape}"
        )
    if suffix == ".png" and not drawing.is_image(model.event_shape):
        raise UserError(
            f"output {output} is a picture, samples of the model have shape {model.event_shape}"
        )
    if suffix == ".png" and num_samples > _MAX_PICTURES:
        raise UserError(
            f"num_samples must be at most {_MAX_PICTURES} in one picture, got {num_samples}"
        )


@dataclasses.dataclass(frozen=True)
class _Draws:
    """Samples of a model; arguments of `sample_file`."""

    model: Model
    num_samples: int
    seed: int
    temperature: float
    label: str | None = None

    def check_label(self) -> None:
        """Looks at the class before there is a file.

        Raises:
          UserError: it is none of the model's, or the model has no classes.
        """
        if self.label is None:
            return
        classes = self.model.classes
        if classes is None:
            raise UserError(
                f"label {self.label}: model {self.model.path} has no classes, it is of p(x)"
            )
        classes.as_input([self.label], 1)

    @functools.cached_property
    def labels(self) -> np.ndarray | None:
        """The class of each sample, `[num_samples]`; `None` where the model has none."""
        classes = self.model.classes
        if classes is None:
            return None
        if self.label is not None:
            return np.repeat(classes.as_input([self.label], 1), self.num_samples)
        return classes.draw(self.num_samples, seed=self.seed)

    def blocks(self, first: int = 0) -> Iterator[np.ndarray]:
        """The samples from a number on, some at a time."""
        size = max(1, scorer_lib.VALUES_A_CALL // self.model.event_size)
        for number in range(first, self.num_samples, size):
            count = min(size, self.num_samples - number)
            label = None
            if self.labels is not None:
                label = self.labels[number : number + count]
            yield self.model.sample(
                count, seed=self.seed, first=number, temperature=self.temperature, label=label
            )


def _write_table(output, draws, *, overwrite):
    """A table of samples, part by part."""
    schema = draws.model.schema

    def tables(first):
        for x in draws.blocks(first):
            columns = decoded(schema, schema.as_rows(x))
            if output.endswith(".csv"):
                columns = for_csv(schema, columns)
            if draws.labels is not None:
                name = draws.model.classes.label
                columns[name] = pa.array(draws.labels[first : first + len(x)])
                first += len(x)
            yield pa.table(columns)

    def num_rows():
        return draws.num_samples

    settings = {
        "command": "sample",
        "model": _identity(draws.model),
        "seed": draws.seed,
        "temperature": draws.temperature,
        "num_samples": draws.num_samples,
    }
    if draws.label is not None:
        settings["label"] = draws.label
    output_lib.write(output, tables, settings=settings, overwrite=overwrite, num_rows=num_rows)


def _write_grid(output, draws):
    """A picture of all samples."""
    x = np.concatenate(list(draws.blocks()))
    grid = drawing.image_grid(x, levels=draws.model.description["levels"])
    drawing.write_png(pathlib.Path(output), grid)


def _write_npz(output, draws):
    """An archive of one array `x` that is never in memory as a whole."""
    path = pathlib.Path(output)
    with replaced(path) as target, zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        with archive.open("x.npy", "w", force_zip64=True) as file:
            for number, x in enumerate(draws.blocks()):
                rows = _in_data_units(draws.model, x)
                if not number:
                    write_header(file, draws.num_samples, rows)
                write_rows(file, rows)
        if draws.labels is None:
            return
        labels = draws.labels
        if labels.dtype == object:
            labels = labels.astype(str)
        with archive.open(f"{draws.model.classes.label}.npy", "w") as file:
            np.lib.format.write_array(file, labels, allow_pickle=False)


def _in_data_units(model, x):
    """Samples as the data are stored: integers in their range, values of a table on their steps."""
    levels = model.description["levels"]
    if model.schema:
        return model.schema.as_rows(x)
    if not levels:
        return x
    integers = np.clip(np.rint(x), 0, levels - 1)
    if levels <= 256:
        return integers.astype(np.uint8)
    return integers.astype(np.int32)
