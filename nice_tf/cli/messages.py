"""What the library says, in the words of the command line."""

import re
from collections.abc import Iterable

# A name stands for itself within a path, a quotation or a longer name, and after its dashes.
_NOT_AFTER = r"(?<![\w./='\"-])(?<!column )"
_NOT_BEFORE = r"(?!\w|\(|[./]\w)"


def with_dashes(message: str, names: Iterable[str]) -> str:
    """Writes the flags that a message names as they are typed: `--batch_size` for `batch_size`.

    The library names its arguments and settings without dashes. A name that is also a word, such as
    `seed`, is taken for a flag only where a message speaks of one: `seed must be`, `workdir PATH`,
    `seed: 1, not 0`.

    Args:
      message: of a `UserError` or a warning.
      names: of the flags of the command.
    """
    for name in sorted(names):
        if "_" in name:
            pattern = rf"{_NOT_AFTER}{name}{_NOT_BEFORE}"
            message = re.sub(pattern, f"--{name}", message)
            continue
        is_given = " must |: [^;]*, not "
        if name in ("input", "model", "output", "workdir"):
            is_given += "| "
        message = re.sub(rf"(^|: |\(|; ){name}(?={is_given})", rf"\1--{name}", message)
    return message
