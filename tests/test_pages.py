"""The pages are read once: no sentence is too long for that."""

import re

import pytest
from conftest import ROOT

MAX_WORDS = 45
PAGES = sorted(
    [ROOT / "README.md", *(ROOT / "docs").glob("*.md"), *(ROOT / "docs" / "api").glob("*.md")]
)

# Pages that still have longer ones. The list only shrinks: a page that has none any more must leave it.
STILL_LONG = {"README.md", "columns.md"}


def sentences(text):
    """The sentences of a page: of paragraphs, items of lists, cells of tables; code and headings are none."""
    text = re.sub(r"^(```|~~~).*?^\1", "", text, flags=re.DOTALL | re.MULTILINE)
    text = re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL)
    text = re.sub(r"`[^`]+`", "code", text)
    text = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", text)
    for block in re.split(r"\n\s*\n|\n(?=\s*(?:[-*|>#]|\d+\.) ?)", text):
        if block.startswith(("#", "    ", ":::")):
            continue
        for part in block.split(" | "):
            yield from re.split(r"(?<=[.!?])[)\"*]*\s+", part.strip(" |*>-"))


def too_long(text):
    return [sentence for sentence in sentences(text) if len(sentence.split()) > MAX_WORDS]


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_no_sentence_is_too_long(path):
    found = too_long(path.read_text())
    if path.name in STILL_LONG:
        assert found, f"{path.name} has no long sentence any more: take it from STILL_LONG"
    else:
        assert not found, "\n\n".join(found)


def test_a_long_sentence_is_found():
    words = "word " * MAX_WORDS
    assert len(too_long(f"Short. {words}more.\n\nShort, too.")) == 1
    assert not too_long(f"Short. {words.strip()}.\n\nShort, too.")
    assert len(too_long(f"- item\n- {words}\n  more")) == 1
    assert not too_long(f"| a | b |\n| {words} | {words} |")
    assert not too_long(f"```sh\n{words}{words}\n```\n\n    {words}{words}")
    assert not too_long(f"A `{words}{words}` is one word, and so is [a link]({words}{words}).")
