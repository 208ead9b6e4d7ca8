"""The one exception for what a user can put right, what it says of an error behind it, and checks
that many share.
"""

import numbers
import re
from collections.abc import Sequence


class UserError(ValueError):
    """Something that was given breaks a rule; the message names the value received and the rule.

    The commands print the message alone and exit with status 1; any other exception is a defect of
    ours and keeps its traceback.
    """

    # What AutoGraph asks of an exception that it is to raise again: so it is still this one in a
    # `tf.function`.
    __init__ = Exception.__init__


def cause_of(error: Exception) -> str:
    """What the system, TensorFlow or another library says of an error, in one line.

    Without what TensorFlow adds: the names of its operations, and the path of a temporary file.
    """
    text = getattr(error, "strerror", None) or str(error).strip() or type(error).__name__
    line = text.splitlines()[0]
    line = re.sub(r"\{\{.*?\}\} *", "", line)
    line = re.sub(r" \[Op:\w+\].*", "", line)
    return re.sub(r"^/\S+; ", "", line)


def check_choice(name: str, value: object, choices: Sequence[str]) -> None:
    """Checks that a value is one of those that a setting can have.

    Raises:
      UserError: it is none of them.
    """
    if value not in choices:
        raise UserError(f"{name} must be one of {', '.join(choices)}, got {value!r}")


def check_at_least(name: str, value: float, lowest: float) -> None:
    """Checks that a number keeps to its lower bound; NaN does not.

    Raises:
      UserError: it is below, or no number.
    """
    try:
        is_kept = bool(value >= lowest)
    except (TypeError, ValueError) as error:
        raise UserError(f"{name} must be a number, got {_shown(value)}") from error
    if not is_kept:
        raise UserError(f"{name} must be at least {lowest}, got {value}")


def check_count(name: str, value: object, lowest: int) -> None:
    """Checks that a value is a whole number, of Python or NumPy, that keeps to its lower bound.

    Raises:
      UserError: it is none, or below.
    """
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise UserError(f"{name} must be a whole number, got {_shown(value)}")
    check_at_least(name, int(value), lowest)


def _shown(value):
    """A value as messages show it: of arrays the shape alone."""
    shape = getattr(value, "shape", ())
    if len(shape):
        return f"an array of shape {list(shape)}"
    return repr(value)
