"""Writes docs/commands.md: every command with its flags and examples, from what `--help` prints.

python docs/commands_page.py
"""

import pathlib
import re
import subprocess
import sys
from collections.abc import Callable

from nice_tf.cli import front

_PAGE = pathlib.Path(__file__).with_name("commands.md")
_OPENING = """\
# Commands

<!-- Made by `python docs/commands_page.py` from what `--help` prints: change that, not this page. -->

All commands are behind `nice-tf`. Flags are written `--name=value`; a flag that is on or off is written `--name` or `--noname`. Every
command also takes `--flagfile=FILE`, a file with one flag per line, and `--verbosity=0` or more, which shows TensorFlow's own messages.

| command | what it does |
|---|---|
"""


def page(help_of: Callable[[str], str]) -> str:
    """The page.

    Args:
      help_of: what `--help` of a command prints, by its name.
    """
    text = _OPENING
    for name, line in front.COMMANDS.items():
        text += f"| [`nice-tf {name}`](#nice-tf-{name}) | {line} |\n"
    seen: dict[str, str] = {}
    for name in front.COMMANDS:
        text += f"\n## nice-tf {name}\n\n{_section(name, help_of(name), seen)}"
    return text


def _section(name, printed, seen):
    """Description and examples as paragraphs, each group of flags as a list.

    Groups that were listed before are named with the command that has them.
    """
    printed = printed[: printed.index("\nAlso --flagfile")]
    usage, *groups = re.split(r"\n(?=[a-z][\w ]*:\n  --)", printed)
    lines = []
    for paragraph in usage.strip().split("\n\n"):
        if paragraph.startswith(("nice-tf ", "python ")):
            paragraph = f"```sh\n{paragraph}\n```"
        lines.append(f"{paragraph}\n")
    shared: dict[str, list[str]] = {}
    for group in groups:
        title, _, flags = group.partition(":\n")
        if flags in seen:
            shared.setdefault(seen[flags], []).append(title)
            continue
        seen[flags] = name
        if title.replace(" ", "_") != name:
            lines.append(f"### {name}: {title}\n")
        lines.append(_list(flags))
    for other, titles in shared.items():
        link = f"[`nice-tf {other}`](#nice-tf-{other})"
        if titles == [name]:
            lines.append(f"Its flags are those of {link}.\n")
        else:
            lines.append(f"Also the flags of {link}: {', '.join(titles)}.\n")
    return "\n".join(lines)


def _list(flags):
    text = ""
    for flag in re.split(r"\n(?=  --)", flags.strip("\n")):
        text += f"- {_entry(flag)}\n"
    return text


def _entry(flag):
    """`--name: text (default: 'x') (an integer)` as one line of Markdown."""
    words = " ".join(flag.split())
    name, _, rest = words.partition(": ")
    choices = re.match(r"<(.*?)>: ", rest)
    if choices:
        name += f"={choices[1]}"
        rest = rest[choices.end() :]
    default = re.search(r" \(default: '(.*?)'\)", rest)
    said = ""
    if default:
        rest = rest.replace(default[0], "")
        if default[1] and not name.startswith("--[no]"):
            said = f" Default `{default[1]}`."
    rest = re.sub(r" \((an integer|a number|a comma separated list)\)$", "", rest)
    return f"`{name}`: {_escaped(rest)}.{said}"


def _escaped(text):
    """As Markdown shows it: no character of a help text is one of its marks."""
    return re.sub(r"([\\`*\[])", r"\\\1", text).replace("<", "&lt;")


def _help_of(name):
    command = [sys.executable, "-m", f"nice_tf.apps.{name}", "--help"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


if __name__ == "__main__":
    _PAGE.write_text(page(_help_of))
    print(_PAGE)
