"""Types of Arrow by name, as far as a schema keeps them."""

import re

import pyarrow as pa

_ZONED = re.compile(r"timestamp\[(s|ms|us|ns), tz=(.+)\]")
_DICTIONARY = re.compile(r"dictionary<values=(.+), indices=(u?int(?:8|16|32|64)), ordered=([01])>")
_ALIASES = {"date32[day]": "date32", "date64[ms]": "date64"}


def name_of(kind: pa.DataType) -> str:
    """What a type is called, as Arrow writes it."""
    return str(kind)


def type_of(name: str) -> pa.DataType:
    """The inverse of `name_of`.

    Raises:
      ValueError: no such type.
    """
    zoned = _ZONED.fullmatch(name)
    if zoned:
        return pa.timestamp(zoned[1], zoned[2])
    of_dictionary = _DICTIONARY.fullmatch(name)
    if of_dictionary:
        values = type_of(of_dictionary[1])
        return pa.dictionary(type_of(of_dictionary[2]), values, ordered=of_dictionary[3] == "1")
    return pa.type_for_alias(_ALIASES.get(name, name))
