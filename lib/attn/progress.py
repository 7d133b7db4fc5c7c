"""How far the course is: which of the things that it must prove are taught, asserted and practised.

Reads docs/concepts.md (the list), notebooks/ (cells tagged `claim:<id>`, exercises in words that name what
they practise) and the graded exercises. Needs a clone of the course.
"""

import ast
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_LIST = Path("docs/concepts.md")


@dataclass(frozen=True)
class Concept:
    """One row of docs/concepts.md."""

    chapter: str
    id: str
    text: str


@dataclass(frozen=True)
class Standing:
    """What the course has of a concept.

    Attributes:
      lesson: the notebook of its chapter, or None where it is not written yet.
      claims: the number of that notebook's cells that prove it, `asserting` of which assert something.
      exercises: those that practise it, graded ones and ones in words.
    """

    concept: Concept
    lesson: Path | None
    claims: int
    asserting: int
    exercises: int

    @property
    def done(self) -> bool:
        """Whether it is proved, by cells that all assert, and practised."""
        return 0 < self.claims == self.asserting and self.exercises > 0


def find_course(start: Path) -> Path:
    """The folder of the course that holds `start`. Errors: FileNotFoundError where there is none."""
    start = start.resolve()
    for folder in (start, *start.parents):
        if (folder / _LIST).is_file() and (folder / "notebooks").is_dir():
            return folder
    raise FileNotFoundError(
        f"{start} is not in a clone of the course ({_LIST} and notebooks/ are missing): go there, "
        "or name its folder with --course"
    )


def chapters(course: Path) -> dict[str, str]:
    """The titles of docs/concepts.md by number: {"00": "Start here", ...}."""
    return dict(re.findall(r"^## (\d\d) (.+)$", (course / _LIST).read_text(encoding="utf-8"), re.MULTILINE))


def concepts(course: Path) -> list[Concept]:
    """All that the course must prove, in the order of docs/concepts.md."""
    found, chapter = [], ""
    for line in (course / _LIST).read_text(encoding="utf-8").splitlines():
        if title := re.match(r"## (\d\d) ", line):
            chapter = title[1]
        elif row := re.match(r"- `([a-z0-9-]+)`[^:]*: (.+)", line):
            found.append(Concept(chapter, row[1], row[2]))
    return found


def standings(course: Path) -> list[Standing]:
    """How each concept stands, in the order of docs/concepts.md."""
    lessons = {path.name[:2]: path for path in sorted((course / "notebooks").glob("[0-9][0-9]_*.ipynb"))}
    cells = {
        number: json.loads(path.read_text(encoding="utf-8"))["cells"] for number, path in lessons.items()
    }
    graded = [id for exercise in _graded() for id in exercise.concepts]
    in_words = {number: _in_words(of_lesson) for number, of_lesson in cells.items()}
    rows = []
    for concept in concepts(course):
        of_lesson = cells.get(concept.chapter, [])
        claims = [cell for cell in of_lesson if f"claim:{concept.id}" in cell["metadata"].get("tags", [])]
        rows.append(
            Standing(
                concept,
                lessons.get(concept.chapter),
                len(claims),
                sum(asserts("".join(cell["source"])) for cell in claims),
                graded.count(concept.id) + in_words.get(concept.chapter, []).count(concept.id),
            )
        )
    return rows


def parse(source: str) -> ast.Module:
    """A cell as Python; lines that are IPython's (%magic, !shell) are left out."""
    return ast.parse(
        "\n".join("pass" if re.match(r"\s*[%!]", line) else line for line in source.splitlines())
    )


def asserts(source: str) -> bool:
    """Whether code asserts something: a statement `assert`, or a call like `np.testing.assert_allclose`."""
    for node in ast.walk(parse(source)):
        if isinstance(node, ast.Assert) and not isinstance(node.test, ast.Constant):  # `assert True` is none
            return True
        if isinstance(node, ast.Call):
            name = getattr(node.func, "attr", getattr(node.func, "id", ""))
            if name.startswith("assert"):
                return True
    return False


def _in_words(cells: list[dict[str, Any]]) -> list[str]:
    """The concepts that the lesson's own exercises say they practise: "(5 minutes, practises `scale`)"."""
    words = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    named = re.findall(r"practises ((?:`[a-z0-9-]+`(?:, | and )?)+)", words)
    return re.findall(r"`([a-z0-9-]+)`", " ".join(named))


def _graded() -> Iterator[Any]:
    from attn.grading import exercise

    for number in exercise.chapters():
        yield from exercise.chapter(number)


def table(course: Path, rows: list[Standing]) -> str:
    """The course's standings as text, one chapter after the other."""
    titles = chapters(course)
    width = max(len(row.concept.id) for row in rows)
    lines = []
    for number, title in titles.items():
        own = [row for row in rows if row.concept.chapter == number]
        done = sum(row.done for row in own)
        state = f"{done} of {len(own)}" if any(row.lesson for row in own) else "not written yet"
        lines += ["", f"{number} {title} ({state})"]
        for row in own:
            mark = "done" if row.done else "    "
            counts = f"{row.claims:2} claim cells, {row.asserting:2} assert, {row.exercises:2} exercises"
            lines.append(f"  {mark}  {row.concept.id:{width}}  {counts}")
    lines += ["", f"{sum(row.done for row in rows)} of {len(rows)} concepts are proved and practised."]
    return "\n".join(lines[1:])
