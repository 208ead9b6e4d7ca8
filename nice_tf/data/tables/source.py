"""Data of tables: columns found out, missing values filled, numbers checked for their type."""

import hashlib
from collections.abc import Sequence

import numpy as np

from nice_tf.config import Config
from nice_tf.data.cache import kept
from nice_tf.data.found import Found, by_split, storage_of
from nice_tf.data.tables import degenerate
from nice_tf.data.tables.kinds import Kinds
from nice_tf.data.tables.labels import read_labels
from nice_tf.data.tables.paths import left_out, table_files
from nice_tf.data.tables.resolution import check_resolution, with_dates_told_apart
from nice_tf.data.tables.survey_table import survey_table
from nice_tf.data.tables.table import Table
from nice_tf.errors import UserError


def read(config: Config) -> Found:
    """Splits are those in the files' names, as of TFRecord files; the columns are those of all
    splits together.

    Raises:
      UserError: no such table, or one that breaks a rule.
    """
    files = table_files(config.dataset)
    if not files:
        raise UserError(f"dataset {config.dataset}: there is no such table")
    label = config.condition_on or None
    table = Table(files, delimiter=config.delimiter, decimal=config.decimal)
    kinds = Kinds(config.category_names, config.number_names, config.max_categories)
    schema, survey = survey_table(table, config.column_names, label=label, kinds=kinds)
    dtype: np.dtype = np.dtype(np.float32)
    if config.precision == "float64":
        dtype = np.dtype(np.float64)
    schema, notes = with_dates_told_apart(schema, dtype)
    check_resolution(schema, dtype)
    of_columns = survey.warnings(
        schema,
        has_marginals=config.marginals != "none",
        has_noise=config.dequantization == "uniform",
    )
    asked_for = {*config.column_names, *config.number_names}
    unasked = [name for name in survey.identifiers(schema) if name not in asked_for]
    notes = [*degenerate.identifiers(unasked), *notes]
    warnings = [*left_out(config.dataset), *of_columns, *notes]
    missing = survey.missing(schema)
    warnings += _said_of_missing(missing, config)
    present = [survey.present[name] for name in schema.names]
    arrays = {}
    labels = {}
    for split, names in by_split(files, "the table").items():
        part = table.part(names)
        if label:
            labels[split] = read_labels(part, label)
        arrays[split] = _rows(part, schema, dtype, present, config)
    return Found(
        arrays,
        schema=schema,
        labels=labels or None,
        missing={name: number / survey.num_rows for name, (number, _) in missing.items()},
        warnings=tuple(warnings),
    )


def _said_of_missing(missing, config):
    """A line if values are missing and to be filled; they are refused if they are not to be."""
    if not missing:
        return []
    each = [f"{name} ({number}, the first in row {row})" for name, (number, row) in missing.items()]
    where = f"{', '.join(each)}, rows counted from 0"
    if not config.impute:
        raise UserError(
            f"dataset {config.dataset} has missing values in {where}: the same command with "
            "--impute fills each with another of its column; or leave these rows or columns out"
        )
    held_out = "test"
    if config.test_rows == "validation":
        held_out = "validation"
    return [f"missing values were filled with others of their column, {held_out} included: {where}"]


def _rows(table, schema, dtype, present, config):
    """The rows of one split; `present` are values of each column to fill missing values with."""
    encodings = [column.encoding for column in schema.columns if column.encoding.is_read_apart]
    key = repr((schema.names, dtype.str, config.split_seed, *encodings))
    name = f"table-{hashlib.sha256(key.encode()).hexdigest()[:8]}"
    content = _filled_blocks(table, schema.names, dtype, present, config.split_seed)
    num_bytes = table.num_rows * len(schema.columns) * dtype.itemsize
    return kept(name, table.files, content, num_bytes, storage_of(config))


def _filled_blocks(table, names, dtype, present, seed):
    generator = np.random.default_rng(seed)
    for block in table.blocks(names):
        yield fill_from_column(block, generator, present).astype(dtype)


def missing_cells(config: Config, split: str, numbers: np.ndarray) -> np.ndarray:
    """Which values of some rows of a table were missing before `read` filled them.

    Args:
      config: of the run.
      split: `train`, `validation` or `test` of a table whose files tell; else of all rows.
      numbers: of the rows in the files of the split, counted from 0, `[n]`.

    Returns:
      `[n, D]` in bool.
    """
    files = table_files(config.dataset)
    table = Table(files, delimiter=config.delimiter, decimal=config.decimal)
    kinds = Kinds(config.category_names, config.number_names, config.max_categories)
    label = config.condition_on or None
    schema, _ = survey_table(table, config.column_names, label=label, kinds=kinds)
    parts = by_split(files, "all")
    names = files
    if len(parts) > 1:  # else they tell of no split, whatever their name
        names = parts[split]
    found = np.zeros([len(numbers), len(schema.columns)], bool)
    first = 0
    for block in table.part(names).blocks(schema.names):
        is_inside = (numbers >= first) & (numbers < first + len(block))
        found[is_inside] = np.isnan(block[numbers[is_inside] - first])
        first += len(block)
    return found


def fill_from_column(
    block: np.ndarray, generator: np.random.Generator, otherwise: Sequence[np.ndarray]
) -> np.ndarray:
    """Missing values replaced by others of the same column of the block, drawn at random.

    A constant in their place, a mean or a median, would be a spike of the density.

    Args:
      block: `[n, columns]`, NaN where a value is missing.
      generator: of the draws.
      otherwise: for each column some values, of which a block draws that has none.
    """
    block = block.copy()
    for column, others in zip(block.T, otherwise, strict=True):
        missing = np.isnan(column)
        if not missing.any():
            continue
        values = column[~missing]
        if missing.all():
            values = others
        column[missing] = generator.choice(values, missing.sum())
    return block
