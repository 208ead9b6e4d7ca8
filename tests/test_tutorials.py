"""Every tutorial runs as its reader would run it, prints what it states and draws what it shows."""

import importlib.util
import pathlib
import re

import pytest
from pace import slow_except

FOLDER = pathlib.Path(__file__).parents[1] / "docs" / "tutorials"
PAGES = sorted(page.name for page in FOLDER.glob("*.md"))
RUN = FOLDER / "run.py"


@pytest.fixture(scope="module")
def runner():
    spec = importlib.util.spec_from_file_location("run_tutorial", FOLDER / "run.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("page", slow_except(PAGES, "csv_to_serving.md"))
def test_page_holds(run_here, tmp_path, page):
    finished = run_here(RUN, FOLDER / page, cwd=tmp_path)
    assert finished.returncode == 0, finished.stderr
    pictures = re.findall(r"!\[[^]]+\]\((.*?)\)", (FOLDER / page).read_text())
    assert {path.name for path in tmp_path.iterdir()} == set(pictures)
    for picture in pictures:
        assert 1_000 < (FOLDER / picture).stat().st_size < 150_000


def test_readme_lists_every_page():
    linked = re.findall(
        r"\(docs/tutorials/(\w+\.md)\)", (FOLDER.parents[1] / "README.md").read_text()
    )
    assert sorted(linked) == PAGES


def test_links_between_pages_lead_somewhere():
    for page in PAGES:
        for target in re.findall(r"\]\(([^):#]+)\)", (FOLDER / page).read_text()):
            assert (FOLDER / target).exists(), (page, target)


@pytest.mark.parametrize(
    ("stated", "found", "is_same"),
    [
        ("loss 1.00", "loss 1.09", True),
        ("loss 1.00", "loss 1.11", False),
        ("gap 0.04", "gap  0.06", True),
        ("gap 0.04", "gap 0.07", False),
        ("1,000 draws", "1,080 draws", True),
        ("1,000 draws", "1,180 draws", False),
        ("3 left", "4 left", False),
        ("error 3e-07", "error 5e-07", True),
        ("error 3e-07", "error 3e-06", False),
        ("log p -3.0", "log p 3.0", False),
        ("3 of 4", "3 of", False),
        ("3 of 4", "3 in 4", False),
        ("", "3", False),
    ],
)
def test_a_number_may_be_off_by_rounding_only(runner, stated, found, is_same):
    assert runner.same(stated, found) == is_same


def test_roughly_is_a_factor_of_5(runner):
    assert runner.same("100 draws", "490 draws", roughly=True) and runner.same(
        "100 draws", "21 draws", roughly=True
    )
    assert not runner.same("100 draws", "510 draws", roughly=True)
    assert runner.same("-1.5 to 0", "-1.0 to 0", roughly=True)
    assert not runner.same("-1.5 to 0", "1.5 to 0", roughly=True)


def test_page_that_does_not_hold_fails(run_here, tmp_path):
    page = tmp_path / "page.md"
    block = "# A page\n\n```python\nvalue = 2\n```\n\nText.\n\n```python\nprint('twice', 2 * value)\n```\n"
    page.write_text(f"{block}\n```text\ntwice 4\n```\n")
    assert run_here(RUN, page, cwd=tmp_path).returncode == 0
    for broken, message in (
        (
            f"{block}\n```text\ntwice 7\n```\n",
            "page.md states\ntwice 7\nbut this was printed:\ntwice 4",
        ),
        (block, "but this was printed:\ntwice 4"),
        (block.replace("value = 2", "assert 1 > 2"), 'page.md", line 4'),
    ):
        page.write_text(broken)
        failed = run_here(RUN, page, cwd=tmp_path)
        assert failed.returncode == 1 and message in failed.stderr, failed.stderr
    page.write_text(block)
    assert run_here(RUN, "--write", page, cwd=tmp_path).returncode == 0
    assert page.read_text() == f"{block}\n```text\ntwice 4\n```\n"
