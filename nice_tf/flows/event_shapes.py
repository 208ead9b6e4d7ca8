"""The shape of one example, as it is given to whoever builds a flow."""

import math
import operator
from collections.abc import Iterable, Sequence

from nice_tf.errors import UserError


def check_event_shape(event_shape: int | Sequence[int]) -> tuple[list[int], int]:
    """The shape as a list, and D, its product.

    Args:
      event_shape: whole numbers of any type, at least 1; a single one stands for a vector.

    Raises:
      UserError: a size that is no whole number or below 1, or fewer than 2 coordinates.
    """
    try:
        if isinstance(event_shape, bool):
            raise TypeError
        if isinstance(event_shape, Iterable):
            sizes = [operator.index(size) for size in event_shape]
        else:
            sizes = [operator.index(event_shape)]
    except (TypeError, ValueError) as error:
        raise UserError(
            f"event_shape must be whole numbers, as in [28, 28, 1], or one, got {event_shape}"
        ) from error
    if any(size < 1 for size in sizes):
        raise UserError(f"event_shape must be of sizes of at least 1, got {sizes}")
    event_size = math.prod(sizes)
    if event_size < 2:
        raise UserError(
            f"NICE needs at least 2 coordinates to split, event shape {sizes} has {event_size}"
        )
    return sizes, event_size
