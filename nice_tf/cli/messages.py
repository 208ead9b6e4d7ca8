"""What the library says, in the words of the command line."""

import re
from collections.abc import Iterable

# A name stands for itself within a path, a quotation or a longer name, and after its dashes.
_NOT_AFTER = r"(?<![\w./='\"-])"
_NOT_BEFORE = r"(?!\w|\(|[./]\w)"

# What is the user's own stays: names in quotation marks, and lists of names as far as the commas
# go.
_LISTS = (
    r"columns?(?! keeps )|labels?|classes|arrays?|features|lacks|also has|cannot have|both have|"
    r"only|among|for tables, got|(?:columns|categories|numbers) has"
)
# What a message says that a flag does for the user.
_DOES = " (?:brings|fills|keeps|passes|replaces) "
_KEPT = re.compile(
    rf"\b(?:{_LISTS}) (?:[^,:;]*, )*[^\s;]+(?: and (?:also has )?[^\s;]+)?"
    r"|(?<!\w)'[^']*'(?!\w)"
    r'|(?<!\w)"[^"]*"(?!\w)'
)


def with_dashes(message: str, names: Iterable[str]) -> str:
    """Writes the flags that a message names as they are typed: `--batch_size` for `batch_size`.

    The library names its arguments and settings without dashes. A name that is also a word, such as
    `seed`, is taken for a flag only where a message speaks of one: `seed must be`, `workdir PATH`,
    `seed: 1, where the run has 0`, `impute fills`. Names that a message lists as those of columns,
    labels or arrays, or that it quotes, stay.

    Args:
      message: of a `UserError` or a warning.
      names: of the flags of the command.
    """
    for name in sorted(names):
        if "_" in name:
            pattern = rf"{_NOT_AFTER}{name}{_NOT_BEFORE}"
            message = _replaced(pattern, f"--{name}", message)
            continue
        is_given = f"{_DOES}| must |: [^;]*, where the run has "
        if name in ("input", "model", "output", "workdir"):
            is_given += "| "
        message = _replaced(rf"(^|: |\(|; ){name}(?={is_given})", rf"\1--{name}", message)
    return message


def _replaced(pattern, replacement, message):
    """As `re.sub`, except in what is kept."""
    spans = [kept.span() for kept in _KEPT.finditer(message)]

    def written(match):
        for start, end in spans:
            if start <= match.start() < end:
                return match[0]
        return match.expand(replacement)

    return re.sub(pattern, written, message)
