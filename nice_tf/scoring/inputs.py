"""What a trained model is to answer for: the rows of a table, or the examples of an array."""

from collections.abc import Sequence

from nice_tf.errors import UserError
from nice_tf.scoring.array_input import ArrayInput
from nice_tf.scoring.model import Model
from nice_tf.scoring.table_input import TableInput


def open_input(name: str, model: Model, keep: Sequence[str] | None = ()) -> TableInput | ArrayInput:
    """The input that a model takes.

    Args:
      name: as for `TableInput` or `ArrayInput`.
      model: trained.
      keep: as for `TableInput`.

    Raises:
      UserError: as there; columns to keep of what is no table.
    """
    label = ""
    if model.classes:
        label = model.classes.label
    if model.schema:
        return TableInput(name, model.schema, keep, model.dtype, label=label)
    if keep:
        raise UserError(
            f"keep is for tables, got {', '.join(keep)}: the model is of shape {model.event_shape}"
        )
    # No resize is in the description that an earlier version exported.
    resize = model.description.get("resize", ())
    levels = model.description["levels"]
    return ArrayInput(name, model.event_shape, levels, resize, model.dtype, label=label)
