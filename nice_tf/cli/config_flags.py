"""Flags from the settings of a run and back: for commands, and for the files that `--flagfile`
reads.
"""

import dataclasses
import os
from typing import Any

from absl import flags

from nice_tf.config import Config, flag_text
from nice_tf.errors import UserError


class _WholeNumbersParser(flags.ArgumentParser):
    """Whole numbers by commas, `28,28`, empty for none."""

    syntactic_help = "whole numbers by commas"

    def parse(self, argument):
        try:
            return tuple(int(part) for part in argument.split(",") if part.strip())
        except ValueError as error:
            raise ValueError(
                f"expected integers by commas, e.g. 1000,1000, got {argument!r}"
            ) from error


class _UnitsParser(_WholeNumbersParser):
    """Integers by commas, `1000,1000`, empty for none; or several such lists by slashes,
    `1000,1000/500`.
    """

    syntactic_help = "integers by commas, lists by slashes"

    def parse(self, argument):
        lists = tuple(super(_UnitsParser, self).parse(text) for text in argument.split("/"))
        return lists if len(lists) > 1 else lists[0]


class _UnitsSerializer(flags.ArgumentSerializer):
    def serialize(self, value):
        return flag_text(value)


def define_flags(flag_values: flags.FlagValues = flags.FLAGS) -> list[str]:
    """Defines one flag for each field of `Config`, and returns the groups to show in the help."""
    groups = []
    for field in dataclasses.fields(Config):
        name, text, group = field.name, field.metadata["text"], field.metadata["group"]
        default = getattr(Config, name)
        common = {"module_name": group, "flag_values": flag_values}
        if field.metadata["choices"]:
            flags.DEFINE_enum(name, default, list(field.metadata["choices"]), text, **common)
        elif isinstance(default, bool):
            flags.DEFINE_bool(name, default, text, **common)
        elif isinstance(default, int):
            flags.DEFINE_integer(name, default, text, **common)
        elif isinstance(default, float):
            flags.DEFINE_float(name, default, text, **common)
        elif isinstance(default, tuple):
            serializer = _UnitsSerializer()
            parser = _UnitsParser() if name == "hidden_units" else _WholeNumbersParser()
            flags.DEFINE(
                parser, name, serializer.serialize(default), text, serializer=serializer, **common
            )
        else:
            flags.DEFINE_string(name, default, text, **common)
        if group not in groups:
            groups.append(group)
    return groups


def from_flags(flag_values: flags.FlagValues = flags.FLAGS) -> Config:
    """The configuration that the parsed flags spell."""
    return Config.from_dict(
        {field.name: flag_values[field.name].value for field in dataclasses.fields(Config)}
    )


def read_flagfile(path: str | os.PathLike, **changes: Any) -> Config:
    """The settings that a file of flags spells, such as configs/table.flags.

    Args:
      path: of the file; `--flagfile` lines in it count, `--workdir` does not.
      **changes: settings that stand in place of the file's.

    Raises:
      UserError: no such file, an unknown flag, or a value out of its bounds.
    """
    values = flags.FlagValues()
    define_flags(values)
    flags.DEFINE_string("workdir", "", "not a setting", flag_values=values)
    try:
        _, *strays = values(["read_flagfile", f"--flagfile={os.fspath(path)}"])
    except flags.Error as error:
        raise UserError(f"{path}: {error}") from error
    if strays:
        raise UserError(
            f"{path}: {strays[0]!r} is no flag; settings are written --name=value, one a line"
        )
    return dataclasses.replace(from_flags(values), **changes)
