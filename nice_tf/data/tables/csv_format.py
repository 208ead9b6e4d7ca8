"""How a CSV file may be written, and how that is said."""

import dataclasses

DELIMITERS = (",", ";", "\t", "|")
_NAMES = {"\t": "a tab", ",": "a comma", ";": "a semicolon", "|": "a pipe"}


@dataclasses.dataclass(frozen=True)
class CsvFormat:
    """How a CSV file is written.

    Attributes:
      delimiter: the character between columns.
      decimal: the mark before the decimals of a number, a dot or a comma.
    """

    delimiter: str = ","
    decimal: str = "."


PLAIN = CsvFormat()


@dataclasses.dataclass(frozen=True)
class Hints:
    """What the user can do where a file may be read in two ways.

    Attributes:
      delimiter: about what stands between columns, the end of a sentence.
      decimal: about decimal marks, a sentence.
    """

    delimiter: str = "the setting delimiter says which, or write it with another"
    decimal: str = "Give it as decimal, or write the file with more than three decimals"


HINTS = Hints()  # of training, which has settings for it


def delimiter_name(delimiter: str) -> str:
    """A delimiter in words."""
    return _NAMES.get(delimiter, repr(delimiter))
