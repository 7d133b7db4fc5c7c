"""attn progress --concepts: it counts what is there, and says what is missing."""

import json
from pathlib import Path

import pytest

from attn import cli, progress

ROOT = Path(__file__).resolve().parent.parent
LIST = """# What the course must prove

## 00 First
- `told` seed: told and proved
- `hollow` seed ✗: told, but its cell asserts nothing
- `forgotten` +: never mentioned

## 07 Later
- `planned` +: not written yet
"""


def code(source: str, *tags: str) -> dict:
    return {"cell_type": "code", "source": source.splitlines(keepends=True), "metadata": {"tags": [*tags]}}


@pytest.fixture
def course(tmp_path) -> Path:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "concepts.md").write_text(LIST, encoding="utf-8")
    (tmp_path / "notebooks").mkdir()
    words = "## Exercises\n\n**1. A** (practises `told`, `hollow`).\n\n**2. B** (practises `told`)."
    cells = [
        code("assert 1 + 1 == 2", "claim:told"),
        code("import numpy as np\nnp.testing.assert_allclose(1, 1)", "claim:told"),
        code("print('convincing')", "claim:hollow"),
        {"cell_type": "markdown", "source": words.splitlines(keepends=True), "metadata": {}},
    ]
    lesson = tmp_path / "notebooks" / "00_first.ipynb"
    lesson.write_text(json.dumps({"cells": cells}), encoding="utf-8")
    return tmp_path


def test_each_concept_is_counted(course):
    rows = {row.concept.id: row for row in progress.standings(course)}
    assert [*rows] == ["told", "hollow", "forgotten", "planned"]
    assert [(row.claims, row.asserting, row.exercises) for row in rows.values()] == [
        (2, 2, 2),
        (1, 0, 1),
        (0, 0, 0),
        (0, 0, 0),
    ]
    assert [row.done for row in rows.values()] == [True, False, False, False]
    assert rows["planned"].lesson is None
    assert rows["hollow"].concept.text == "told, but its cell asserts nothing"


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("assert x == 1", True),
        ("def f():\n    assert g()", True),
        ("torch.testing.assert_close(a, b)", True),
        ("%matplotlib inline\nassert a < b, 'no'", True),
        ("assert True", False),
        ("assert True\nassert x == 1", True),
        ("assert 'a sentence'", False),
        ("print('assert x')", False),
        ("# assert x", False),
    ],
)
def test_what_counts_as_an_assertion(source, says):
    assert progress.asserts(source) is says


def test_the_command_prints_the_table_and_fails_where_a_lesson_leaves_something_out(course, capsys):
    assert cli.main(["progress", "--concepts", "--course", str(course / "notebooks")]) == 1
    told = capsys.readouterr().out
    assert "00 First (1 of 3)" in told
    assert "07 Later (not written yet)" in told
    assert "1 of 4 concepts are proved and practised." in told


def test_outside_of_a_course_it_says_so_in_one_line(tmp_path, capsys):
    assert cli.main(["progress", "--concepts", "--course", str(tmp_path)]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert "is not in a clone of the course" in said.err
    assert said.err.count("\n") == 1


def test_the_table_of_this_course_names_every_chapter_and_concept():
    table = progress.table(ROOT, progress.standings(ROOT))
    for number, title in progress.chapters(ROOT).items():
        assert f"{number} {title}" in table
    for concept in progress.concepts(ROOT):
        assert f" {concept.id} " in table
