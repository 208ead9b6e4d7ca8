"""The one exception for what a user can put right, and what it says of the error behind it."""

import re


class UserError(ValueError):
    """Something that was given breaks a rule; the message names the value received and the rule.

    The commands print the message alone and exit with status 1; any other exception is a defect of ours and
    keeps its traceback.
    """

    # What AutoGraph asks of an exception that it is to raise again: so it is still this one in a `tf.function`.
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
