"""What a trained model says of many rows, from a file to a file: scores, filled gaps, samples."""

import functools
import hashlib
import json
import os
import pathlib
import zipfile
from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from nice_tf import drawing
from nice_tf.data.cache import file_states, write_header
from nice_tf.data.table_paths import is_parquet
from nice_tf.errors import UserError, check_at_least
from nice_tf.files import replaced
from nice_tf.scoring import imputation
from nice_tf.scoring import output as output_lib
from nice_tf.scoring import scorer as scorer_lib
from nice_tf.scoring.blocks import rows_at_once
from nice_tf.scoring.inputs import open_input
from nice_tf.scoring.model import Model

SAMPLE_SUFFIXES = (".png", ".npz", *output_lib.SUFFIXES)
_MAX_PICTURES = 10_000  # in a grid


def score_file(
    model: str,
    input: str,
    output: str,
    *,
    top: int | None = None,
    threshold: float = 0.01,
    keep: Sequence[str] = (),
    impute: bool = False,
    overwrite: bool = False,
) -> str:
    """Scores all rows of a table or examples of an array into a Parquet or CSV file.

    Args:
      model: workdir of a finished run, or an export.
      input: as for `blocks.open_input`.
      output: path; a run that was interrupted is continued, as `parts.write` says.
      top: as for `answers.Scorer`.
      threshold: as for `answers.Scorer`.
      keep: names of columns of a table to pass on.
      impute: as for `answers.Scorer`.
      overwrite: as for `parts.write`.

    Returns:
      What there is to say of the scores, some lines.

    Raises:
      UserError: whatever the user can put right.
    """
    output_lib.check_output(output, overwrite=overwrite)
    loaded = Model.load(model)
    scorer = scorer_lib.Scorer(loaded, top, threshold, impute)
    source = open_input(input, loaded, keep)
    summary = scorer_lib.Summary()
    source.check_output(output)
    settings = {
        "command": "score",
        "top": scorer.top,
        "threshold": threshold,
        "keep": list(keep),
        "impute": impute,
    }
    rate = _write_file(
        output, source, scorer, scorer.rows_at_once, loaded, settings, overwrite, summary.add
    )
    return "\n".join(
        [*_warnings(source), summary.describe(threshold, loaded.tail_step), f"{output}: {rate}"]
    )


def fill_file(model: str, input: str, output: str, *, overwrite: bool = False) -> str:
    """Fills the missing values of a table into a file of the same kind; arguments and errors as for
    `score_file`.

    Returns:
      What there is to say, a line.
    """
    output_lib.check_output(output, overwrite=overwrite)
    loaded = Model.load(model)
    imputation.table_schema(loaded)
    source, num_filled = open_input(input, loaded, keep=None), []
    if is_parquet(source.files[0]) != str(output).endswith(".parquet"):
        raise UserError(f"output {output} must be of the kind of the input, {source.files[0]}")
    rate = _write_file(
        output,
        source,
        functools.partial(imputation.filled_table, loaded),
        rows_at_once(loaded.event_size, scorer_lib.HARD_WORK),
        loaded,
        {"command": "impute"},
        overwrite,
        lambda table: num_filled.append(int(table.schema.metadata[imputation.NUM_FILLED])),
    )
    return "\n".join(
        [*_warnings(source), f"{output}: missing values filled: {sum(num_filled):,}, {rate}"]
    )


def _warnings(source):
    return [f"warning: {warning}" for warning in source.warnings]


def _write_file(output, source, answer, size, model, settings, overwrite, observe):
    if os.path.abspath(output) in map(os.path.abspath, source.files):
        raise UserError(f"output {output} is one of the input's files: give another name")

    def tables(first):
        yield from map(answer, source.blocks(size, first))
        if file_states(source.files) != files:
            raise UserError(
                f"{source.files[0]} or another file of the input was changed while it was read"
            )

    files = file_states(source.files)
    settings = {**settings, "model": _identity(model), "input": files}
    count = lambda: source.num_rows  # noqa: E731
    computed, seconds = output_lib.write(
        output, tables, settings=settings, overwrite=overwrite, num_rows=count, observe=observe
    )
    return f"{computed / max(seconds, 1e-9):,.0f} rows/s"


def _identity(model):
    """What tells a model from others: where it is, its data, and what it says of them."""
    description = json.dumps(model.description, sort_keys=True)
    return [os.path.abspath(model.path), hashlib.sha256(description.encode()).hexdigest()]


def sample_file(
    model: str,
    output: str,
    *,
    num_samples: int,
    seed: int = 0,
    temperature: float = 1.0,
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
      overwrite: replace the file.

    Returns:
      What there is to say, a line.

    Raises:
      UserError: a value out of its bounds, or a file that this model has no samples for.
    """
    output_lib.check_output(output, SAMPLE_SUFFIXES, overwrite=overwrite)
    check_at_least("num_samples", num_samples, 1)
    if not 0 <= seed < 2**31:
        raise UserError(f"seed must be at least 0 and below {2**31}, got {seed}")
    if not 0 < temperature < float("inf"):
        raise UserError(f"temperature must be finite and above 0, got {temperature}")
    path, loaded = pathlib.Path(output), Model.load(model)
    is_table, schema = path.suffix in output_lib.SUFFIXES, loaded.schema
    if is_table and not schema:
        raise UserError(
            f"output {output} is a table, samples of the model have shape {loaded.event_shape}"
        )
    if path.suffix == ".png" and not drawing.is_image(loaded.event_shape):
        raise UserError(
            f"output {output} is a picture, samples of the model have shape {loaded.event_shape}"
        )
    if path.suffix == ".png" and num_samples > _MAX_PICTURES:
        raise UserError(
            f"num_samples must be at most {_MAX_PICTURES} in one picture, got {num_samples}"
        )

    def drawn(first=0):
        for number in range(first, num_samples, size):
            count = min(size, num_samples - number)
            yield loaded.sample(count, seed=seed, first=number, temperature=temperature)

    size = max(1, scorer_lib.VALUES_A_CALL // loaded.event_size)
    if is_table and schema:
        settings = {
            "command": "sample",
            "model": _identity(loaded),
            "seed": seed,
            "temperature": temperature,
            "num_samples": num_samples,
        }
        tables = lambda first: (pa.table(schema.as_columns(x)) for x in drawn(first))  # noqa: E731
        output_lib.write(
            path, tables, settings=settings, overwrite=overwrite, num_rows=lambda: num_samples
        )
    elif path.suffix == ".png":
        grid = drawing.image_grid(
            np.concatenate(list(drawn())), levels=loaded.description["levels"]
        )
        drawing.write_png(path, grid)
    else:
        _write_npz(path, num_samples, (_in_data_units(loaded, x) for x in drawn()))
    return f"{output}: {num_samples:,} sample{'s' * (num_samples > 1)}"


def _in_data_units(model, x):
    """Samples as the data are stored: integers in their range, values of a table on their steps."""
    levels = model.description["levels"]
    if levels:
        return np.clip(np.rint(x), 0, levels - 1).astype(np.uint8 if levels <= 256 else np.int32)
    return model.schema.rounded(x) if model.schema else x


def _write_npz(path, num_rows, blocks):
    """An archive of one array `x` that is never in memory as a whole."""
    with replaced(path) as output, zipfile.ZipFile(output, "w", zipfile.ZIP_DEFLATED) as archive:
        with archive.open("x.npy", "w", force_zip64=True) as file:
            for number, block in enumerate(blocks):
                if not number:
                    write_header(file, num_rows, block)
                file.write(np.ascontiguousarray(block))
