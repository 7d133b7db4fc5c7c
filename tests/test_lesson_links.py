"""Where a lesson sends its reader to a section of another lesson, that section is there, under that name."""

import re
from functools import cache
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parent.parent
LESSONS = sorted(ROOT.glob("notebooks/*.ipynb"))
# [lesson 02, section 7](02_kinds_of_attention.ipynb), "A few looks at a picture"
SECTION = re.compile(r"\[lesson (\d\d), section (\d+)\]\((\w+\.ipynb)\)(?:, \"([^\"]+)\")?")
LINK = re.compile(r"\]\(([\w./]+\.ipynb)\)")


@cache
def prose(path: Path) -> str:
    cells = nbformat.read(path, as_version=4).cells
    return "\n\n".join(cell.source for cell in cells if cell.cell_type == "markdown")


def headings(path: Path) -> dict[str, str]:
    return dict(re.findall(r"^## (\d+)\. (.+)$", prose(path), flags=re.MULTILINE))


@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
def test_links_lead_to_the_sections_that_they_name(path: Path) -> None:
    for target in LINK.findall(prose(path)):
        assert (path.parent / target).exists(), f"{path.stem} links to {target}"
    for lesson, section, file, title in SECTION.findall(prose(path)):
        assert file.startswith(lesson), f"lesson {lesson} is not {file}"
        found = headings(path.parent / file)
        assert section in found, f"{file} has no section {section}"
        assert not title or found[section] == title, (
            f"section {section} of {file} is called {found[section]!r}"
        )


def test_the_history_of_attention_links_to_lessons() -> None:
    (seven,) = ROOT.glob("notebooks/07_*.ipynb")
    assert len(SECTION.findall(prose(seven))) >= 6
