"""Tables with their missing values filled."""

import dataclasses

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from nice_tf.data.schema import Schema
from nice_tf.data.tables.decimals import with_decimals
from nice_tf.data.tables.encodings import as_dates, as_type, decoded_values
from nice_tf.errors import UserError
from nice_tf.scoring.blocks import Block
from nice_tf.scoring.model import Model
from nice_tf.scoring.scorer import fill_gaps, find_missing

NUM_FILLED = b"num_filled"  # key of the metadata of `filled_table`


@dataclasses.dataclass
class FilledCount:
    """Counts what was filled in tables as they go by."""

    number: int = 0

    def add(self, table: pa.Table) -> None:
        """Counts those of one, which `filled_table` made."""
        self.number += int(table.schema.metadata[NUM_FILLED])


def filled_table(model: Model, block: Block) -> pa.Table:
    """The columns that a block keeps, with the missing values of the model's own in place and all
    else as it stands.

    Values lie on the columns' steps and are written in the type of their column; a constant column
    has its constant. The table's metadata tell how many were filled.

    Raises:
      UserError: a model of other data than tables.
    """
    schema = table_schema(model)
    filled = block.values
    if find_missing(block.values).any():
        filled = fill_gaps(model, block.values, first=block.first, labels=block.labels)
    table = with_gaps_from(filled.astype(model.dtype), block, schema)
    number = int(find_missing(block.values).sum())
    for values in block.constants.values():
        number += int(np.isnan(values).sum())
    return table.replace_schema_metadata({NUM_FILLED: str(number)})


def with_gaps_from(filled: np.ndarray, block: Block, schema: Schema) -> pa.Table:
    """The columns that a block keeps, with what is missing taken from other rows.

    Args:
      filled: `[n, D]`, as the block's values, without missing values.
      block: with all columns of the schema among those that it keeps.
      schema: of the table.

    Raises:
      UserError: a value that the type of its column cannot hold.
    """
    missing = find_missing(block.values)
    columns = dict(block.kept)
    by_name = schema.as_columns(filled)
    for place, column in enumerate(schema.columns):
        name = column.name
        values = by_name[name]
        if not missing[:, place].any():
            continue
        if column.encoding.is_read_apart:
            values = _decoded(values, missing[:, place], column)
        if name in block.words:
            values = _as_words(values, block.words[name])
        elif name in block.decimals:
            values = pa.array(with_decimals(values, *block.decimals[name]), pa.string())
        columns[name] = _with_gaps_filled(name, columns[name], missing[:, place], values)
    for name, values in block.constants.items():
        gaps = np.isnan(values)
        constant = np.full(len(values), schema.constants[name])
        if name in schema.constant_encodings:
            constant = decoded_values(constant, schema.constant_encodings[name])
        if name in block.words:
            constant = _as_words(constant, block.words[name])
        elif name in block.decimals:
            constant = pa.array(with_decimals(constant, *block.decimals[name]), pa.string())
        columns[name] = _with_gaps_filled(name, columns[name], gaps, constant)
    return pa.table(columns)


def table_schema(model: Model) -> Schema:
    """The columns of a model of tables.

    Raises:
      UserError: a model of other data.
    """
    if not model.schema:
        raise UserError(
            f"model {model.path} is of examples of shape {model.event_shape}: missing cells are of "
            "tables"
        )
    return model.schema


def _decoded(values, missing, column):
    """What fills the missing values of a column of categories, dates or times; other rows may have
    new ones, which stay as they are.
    """
    filled = np.where(missing, values, column.low)
    return decoded_values(np.clip(filled, column.low, column.high), column.encoding)


def _with_gaps_filled(name, column, missing, values):
    if not missing.any():
        return column
    kind = column.type
    if pa.types.is_dictionary(kind):
        plain = pc.cast(column, kind.value_type)
        return as_type(_with_gaps_filled(name, plain, missing, values), kind, column.dictionary)
    if pa.types.is_temporal(kind):
        return pc.if_else(pa.array(missing), as_dates(values, kind), column)
    if pa.types.is_integer(kind) and isinstance(values, np.ndarray):
        values = np.rint(values).astype(np.int64)
    # By way of text: the shortest decimals that tell a value from others, in whatever type the
    # column has.
    texts = pc.cast(pa.array(values), pa.string())
    if pa.types.is_decimal(kind):
        places = column.type.scale
        texts = pa.array([f"{value:.{places}f}" for value in np.asarray(values).tolist()])
    texts = pc.if_else(pa.array(missing), texts, pa.scalar(None, pa.string()))
    try:
        filled = pc.cast(texts, column.type)
    except pa.ArrowInvalid as error:
        raise UserError(
            f"column {name} is of type {column.type}, which cannot hold the values that its "
            f"missing ones are filled with ({error}): give it a wider type"
        ) from error
    return pc.if_else(pa.array(missing), filled, column)


def _as_words(values, words):
    """Numbers as text, 0 and 1 as a column's own words for false and true."""
    by_number = dict(enumerate(words))
    texts = [by_number.get(value, f"{value}") for value in np.asarray(values).tolist()]
    return pa.array(texts, pa.string())
