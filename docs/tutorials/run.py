"""Runs a tutorial: its ```python blocks in order, in one process, with pictures into the current folder.

A ```text block right behind a ```python block is what that one prints. Words must be the same; a number may be off by
10 percent or, if it is no integer, by 2 in its last digit: processors and library versions round differently. In a
block that says ```text roughly it may be off by a factor of 5, for what is chaotic; there the page's `assert`s decide.

    cd docs/tutorials && python run.py two_moons.md          # makes the pictures anew
    cd docs/tutorials && python run.py --write two_moons.md  # and writes what was printed into the page
"""

import argparse
import contextlib
import io
import os
import pathlib
import re

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("MPLBACKEND", "Agg")

_BLOCK = re.compile(
    r"^```python\n(?P<code>.*?)^```\n(?:\n*```(?P<kind>text[ a-z]*)\n(?P<output>.*?)^```\n)?",
    re.DOTALL | re.MULTILINE,
)
_NUMBER = re.compile(r"[-+]?\d[\d,]*(?:\.\d+)?(?:e[-+]?\d+)?")


def same(stated: str, found: str, *, roughly: bool = False) -> bool:
    """Whether two texts have the same words and, as said above, the same numbers."""
    if _NUMBER.sub("#", stated).split() != _NUMBER.sub("#", found).split():
        return False
    pairs = zip(_NUMBER.findall(stated), _NUMBER.findall(found), strict=True)
    return all(_near(*pair, roughly) for pair in pairs)


def _near(stated, found, roughly):
    value, other = (float(text.replace(",", "")) for text in (stated, found))
    if roughly:
        return value == other or (value * other > 0 and 1 / 5 <= other / value <= 5)
    mantissa, _, exponent = stated.partition("e")
    decimals = mantissa.partition(".")[2]
    last_digit = 10.0 ** (int(exponent or 0) - len(decimals)) if decimals or exponent else 0
    return abs(other - value) <= max(0.1 * abs(value), 2 * last_digit) * (1 + 1e-9)


def run(page: pathlib.Path, *, write: bool = False) -> None:
    """Runs every block of a page.

    Args:
      page: the Markdown file.
      write: put what was printed into the page instead of comparing it.

    Raises:
      SystemExit: a block printed something else than the page says.
    """
    text = page.read_text()
    names = {"__name__": "__main__"}
    written, end = "", 0
    for block in _BLOCK.finditer(text):
        # As many empty lines before the code as there are lines before it in the page: an error
        # names the page's line.
        code = "\n" * text.count("\n", 0, block.start("code")) + block["code"]
        printed = io.StringIO()
        try:
            with contextlib.redirect_stdout(printed):
                exec(compile(code, str(page.resolve()), "exec"), names)
        finally:
            printed = printed.getvalue()
            print(printed, end="", flush=True)
        stated, kind = block["output"] or "", block["kind"] or "text"
        if not write and not same(stated, printed, roughly="roughly" in kind):
            raise SystemExit(f"{page.name} states\n{stated}but this was printed:\n{printed}")
        written += text[end : block.start()] + f"```python\n{block['code']}```\n"
        written += f"\n```{kind}\n{printed}```\n" if printed else ""
        end = block.end()
    if write:
        page.write_text(written + text[end:])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("page", type=pathlib.Path)
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    run(arguments.page, write=arguments.write)
