"""The pages are read once: no sentence is too long for that."""

import re

import pytest
from conftest import ROOT

MAX_WORDS = 45
PAGES = sorted(
    [ROOT / "README.md", *(ROOT / "docs").glob("*.md"), *(ROOT / "docs" / "api").glob("*.md")]
)

# One screen or two: what does not fit has a page of its own.
README_LINES = 120
README_WORDS = 900


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


def anchors(text):
    """What a link to a heading is called: small letters, words joined by dashes."""
    found = set()
    for heading in re.findall(r"^#+ (.*)", text, flags=re.MULTILINE):
        found.add(re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-"))
    return found


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_no_sentence_is_too_long(path):
    found = too_long(path.read_text())
    assert not found, "\n\n".join(found)


def test_readme_is_short():
    text = (ROOT / "README.md").read_text()
    assert len(text.splitlines()) <= README_LINES
    assert len(text.split()) <= README_WORDS


def test_readme_leads_to_every_page():
    text = (ROOT / "README.md").read_text()
    for page in PAGES[1:]:
        assert f"({page.relative_to(ROOT)})" in text, page


def test_links_between_pages_lead_somewhere():
    for page in PAGES:
        for target, part in re.findall(r"\]\(([^):#\s]*)#?([^)\s:]*)\)", page.read_text()):
            found = page
            if target:
                found = page.parent / target
            assert found.exists(), (page.name, target)
            if part and found.suffix == ".md":
                assert part in anchors(found.read_text()), (page.name, target, part)


def test_a_long_sentence_is_found():
    words = "word " * MAX_WORDS
    assert len(too_long(f"Short. {words}more.\n\nShort, too.")) == 1
    assert not too_long(f"Short. {words.strip()}.\n\nShort, too.")
    assert len(too_long(f"- item\n- {words}\n  more")) == 1
    assert not too_long(f"| a | b |\n| {words} | {words} |")
    assert not too_long(f"```sh\n{words}{words}\n```\n\n    {words}{words}")
    assert not too_long(f"A `{words}{words}` is one word, and so is [a link]({words}{words}).")
