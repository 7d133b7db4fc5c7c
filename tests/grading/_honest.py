"""Honest submissions: exercise notebooks with answers that are right, wrong and partly right, as in a class.

Answers come from solutions/ and, written out as source, from the banks: known mistakes and right answers
written differently. So a notebook needs nothing that a learner has not.
"""

import ast
import contextlib
import copy
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import nbformat

from attn.grading import examine
from attn.grading.exercise import Exercise, chapter, chapters

ROOT = Path(__file__).resolve().parents[2]

# In place of attn.grading.exercise, which the answers of a bank lean on only to be listed.
STAND_INS = """
class Mistake:
    def __init__(self, name="", hint="", answer=None, equivalent=False):
        self.answer = answer

class Exercise:
    def __init__(self, **fields):
        vars(self).update(fields)

def Case(*arguments, **named):
    return ()

values = trials = Case
"""
# What any exercise may get instead of an answer.
POOR = {
    "left as it was": None,
    "not parsable": "def {name}(:\n    return",
    "raises": "def {name}(*inputs):\n    raise ValueError('I give up')",
    "gives back its input": "def {name}(*inputs):\n    return inputs[0]",
    "a number": "{name} = 0.5",
}


@dataclass
class Honest:
    """One learner's notebook."""

    student: str
    chapter: str
    name: str  # of the notebook
    notebook: str

    @cached_property
    def marks(self) -> dict[str, int]:
        """The points that each exercise deserves, by the check of the notebook, called in this process."""
        space: dict[str, Any] = {}
        for cell in nbformat.reads(self.notebook, as_version=4).cells:
            if cell.cell_type == "code" and not cell.source.startswith("check("):
                with contextlib.suppress(SyntaxError):
                    exec(cell.source, space)
        return {e.name: examine(e, space.get(e.name)).points for e in chapter(self.chapter)}


def submissions(number: str, count: int) -> Iterator[Honest]:
    """`count` of them, of one chapter, with as many different answers as there is room for."""
    exercises = chapter(number)
    path = next((ROOT / "exercises").glob(f"{number}_*.ipynb"))
    blank = nbformat.read(path, as_version=4)
    for i in range(count):
        notebook = copy.deepcopy(blank)
        cells = _cells(notebook)
        for j, exercise in enumerate(exercises):
            answers = _answers(exercise)
            if i < 2:  # the first learner is right throughout, the second one has done nothing
                which = i * answers.index(None)
            else:  # a third of the answers of the others are right
                which = 0 if (i + j) % 3 == 0 else (i + 5 * j) % len(answers)
            if answers[which] is not None:
                cells[exercise.name].source = answers[which]
        yield Honest(f"student{i:03}", number, path.name, nbformat.writes(notebook))


def _cells(notebook: nbformat.NotebookNode) -> dict[str, nbformat.NotebookNode]:
    """The cells that nbgrader knows, by the names it has for them."""
    graded = (cell for cell in notebook.cells if "nbgrader" in cell.metadata)
    return {cell.metadata.nbgrader.grade_id: cell for cell in graded}


@cache
def _answers(exercise: Exercise) -> list[str | None]:
    """Sources for the answer cell: the solution first; None leaves the cell as it is."""
    path = next((ROOT / "solutions").glob(f"{exercise.id[:2]}_*.ipynb"))
    found: list[str | None] = [_cells(nbformat.read(path, as_version=4))[exercise.name].source]
    for field in ("mistakes", "right"):
        for index in range(len(getattr(exercise, field))):
            entry = f"{field}[{index}]" + (".answer" if field == "mistakes" else "")
            found.append(_written_out(exercise, entry))
    return found + [source and source.format(name=exercise.name) for source in POOR.values()]


def _written_out(exercise: Exercise, entry: str) -> str:
    """Source that binds the exercise's name to an entry of its bank, with what that needs of the module."""
    variable, needed = _needed(exercise)
    maker = f"_answer_of_{exercise.name}"
    inner = textwrap.indent(f"{STAND_INS}{needed}\nreturn {variable}.{entry}", "    ")
    return f"def {maker}():{inner}\n\n\n{exercise.name} = {maker}()"


@cache
def _needed(exercise: Exercise) -> tuple[str, str]:
    """The variable of the exercise in its module, and the statements on which that depends."""
    module = ROOT / "lib/attn/grading/exercises" / f"{chapters()[exercise.id[:2]]}.py"
    makes: dict[str, ast.stmt] = {}
    variable = ""
    for node in ast.parse(module.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ImportFrom) and node.module == "attn.grading.exercise":
            continue
        for name in _bound(node):
            makes[name] = node
            if isinstance(node, ast.Assign) and f"'{exercise.id}'" in ast.unparse(node.value):
                variable = name if name != "EXERCISES" else variable
    wanted, kept = [variable], set()
    while wanted:
        name = wanted.pop()
        if name in makes and makes[name] not in kept:
            kept.add(makes[name])
            wanted += [n.id for n in ast.walk(makes[name]) if isinstance(n, ast.Name)]
    return variable, "\n\n".join(
        ast.unparse(_plain(node)) for node in sorted(kept, key=lambda node: node.lineno)
    )


def _bound(node: ast.stmt) -> list[str]:
    if isinstance(node, ast.Import | ast.ImportFrom):
        return [alias.asname or alias.name.partition(".")[0] for alias in node.names]
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return [node.name]
    targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
    return [n.id for target in targets if target for n in ast.walk(target) if isinstance(n, ast.Name)]


def _plain(node: ast.stmt) -> ast.stmt:
    """Without docstrings: they would not survive being indented."""
    node = copy.deepcopy(node)
    for inner in ast.walk(node):
        if isinstance(inner, ast.FunctionDef | ast.ClassDef) and ast.get_docstring(inner) is not None:
            inner.body = inner.body[1:] or [ast.Pass()]
    return node
