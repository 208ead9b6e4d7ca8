"""Flags from the settings of a run and back: for commands, and for files of flags."""

import dataclasses
import os
import pathlib
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
    """Integers by commas, `1000,1000`, empty for none; or lists by slashes, `1000,1000/500`."""

    syntactic_help = "integers by commas, lists by slashes"

    def parse(self, argument):
        lists = []
        for text in argument.split("/"):
            lists.append(super().parse(text))
        if len(lists) == 1:
            return lists[0]
        return tuple(lists)


class _UnitsSerializer(flags.ArgumentSerializer):
    def serialize(self, value):
        return flag_text(value)


def define_flags(flag_values: flags.FlagValues = flags.FLAGS) -> list[str]:
    """Defines one flag for each field of `Config`, and returns the groups to show in the help."""
    groups = []
    for field in dataclasses.fields(Config):
        name = field.name
        text = field.metadata["text"]
        group = field.metadata["group"]
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
            parser = _WholeNumbersParser()
            if name == "hidden_units":
                parser = _UnitsParser()
            serializer = _UnitsSerializer()
            flags.DEFINE(parser, name, flag_text(default), text, serializer=serializer, **common)
        else:
            flags.DEFINE_string(name, default, text, **common)
        if group not in groups:
            groups.append(group)
    return groups


def from_flags(flag_values: flags.FlagValues = flags.FLAGS) -> Config:
    """The configuration that the parsed flags spell."""
    settings = {}
    for field in dataclasses.fields(Config):
        settings[field.name] = flag_values[field.name].value
    return Config.from_dict(settings)


def given(flag_values: flags.FlagValues = flags.FLAGS) -> dict[str, Any]:
    """The settings that were given as flags, also in a file of flags, by name."""
    config = from_flags(flag_values)
    found = {}
    for field in dataclasses.fields(Config):
        if flag_values[field.name].present:
            found[field.name] = getattr(config, field.name)
    return found


def shipped_configs() -> pathlib.Path:
    """The folder of the flag files that come with the package: in a wheel beside the modules, in
    the repository beside the package.
    """
    package = pathlib.Path(__file__).parents[1]
    folder = package / "configs"
    if folder.is_dir():
        return folder
    return package.parent / "configs"


def shipped_flagfile(name: str) -> pathlib.Path:
    """One of them: `table` for configs/table.flags, `paper/mnist` for configs/paper/mnist.flags."""
    return shipped_configs() / f"{name}.flags"


def read_flagfile(path: str | os.PathLike, **changes: Any) -> Config:
    """The settings that a file of flags spells.

    Args:
      path: of the file; `--flagfile` lines in it count, `--workdir` does not. Or, where there is no
        such file, the name of one that comes with the package: `table`, `paper/mnist`.
      **changes: settings that stand instead of the file's.

    Raises:
      UserError: no such file, an unknown flag, or a value out of its bounds.

    Examples:
      >>> import nice_tf
      >>> config = nice_tf.read_flagfile("digits", epochs=5)
      >>> config.dataset, config.epochs
      ('digits', 5)
    """
    path = _file_of(path)
    values = flags.FlagValues()
    define_flags(values)
    flags.DEFINE_string("workdir", "", "not a setting", flag_values=values)
    try:
        _, *strays = values(["read_flagfile", f"--flagfile={os.fspath(path)}"])
    except flags.Error as error:
        raise UserError(f"{path}: {error}") from error
    if strays:
        raise UserError(
            f"{path}: {strays[0]!r} is no flag; settings are written --name=value, one per line"
        )
    return dataclasses.replace(from_flags(values), **changes)


def _file_of(path):
    """The file itself, or the shipped one of this name."""
    shipped = shipped_flagfile(os.fspath(path))
    if shipped.is_file() and not os.path.isfile(path):
        return shipped
    return path
