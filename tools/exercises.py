"""Generates exercises/ from solutions/ with nbgrader's own preprocessors and validator (no database).

    python -m tools.exercises            write every exercises/NN_*.ipynb
    python -m tools.exercises --check    change nothing; fail where exercises/ is not what solutions/ gives

What is between `### BEGIN SOLUTION` and `### END SOLUTION` becomes `# YOUR CODE HERE`, outputs are cleared,
cells are locked, checksums are written into nbgrader's metadata (schema 3).
"""

import argparse
import sys
from pathlib import Path

import nbformat
from nbformat import NotebookNode
from nbgrader.nbgraderformat import ValidationError
from nbgrader.preprocessors import CheckCellMetadata, ClearOutput, ClearSolutions, ComputeChecksums, LockCells
from traitlets.config import Config

from tools.notebooks import ROOT, canonical, to_text, write

SOLUTIONS, EXERCISES = ROOT / "solutions", ROOT / "exercises"

# A comment: below a docstring it leaves a function that returns None, which `check` takes as unanswered.
STUB = Config({"ClearSolutions": {"code_stub": {"python": "# YOUR CODE HERE"}}})
# CheckCellMetadata validates what stands in solutions/ and, after the checksums, what goes to exercises/.
STEPS = (CheckCellMetadata, LockCells, ClearSolutions, ClearOutput, ComputeChecksums, CheckCellMetadata)


def blank(solved: NotebookNode, path: Path) -> NotebookNode:
    """The exercise notebook, to stand at `path`, of a solved one. Raises ValueError for wrong metadata."""
    notebook = nbformat.from_dict(dict(canonical(solved, path)))
    try:
        for step in STEPS:
            notebook, _ = step(config=STUB).preprocess(notebook, {})
    except (ValidationError, RuntimeError) as error:
        raise ValueError(f"{path.name}: {error}") from error
    return canonical(notebook, path)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.exercises", description=__doc__.partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="change nothing; fail where one is out of date")
    check = parser.parse_args(arguments).check

    made = {}
    for source in sorted(SOLUTIONS.glob("*.ipynb")):
        path = EXERCISES / source.name
        made[path] = to_text(blank(nbformat.read(source, as_version=4), path))
    stale = [path for path, text in made.items() if not path.exists() or path.read_text("utf-8") != text]
    orphans = sorted(set(EXERCISES.glob("*.ipynb")) - set(made))
    for path in orphans:
        print(
            f"exercises/{path.name} has no source in solutions/: delete it, or restore its source",
            file=sys.stderr,
        )
    if check:
        for path in stale:
            print(f"exercises/{path.name} is out of date; run `make exercises`", file=sys.stderr)
        return 1 if stale or orphans else 0
    EXERCISES.mkdir(exist_ok=True)
    for path in stale:
        write(path, made[path])
        print(f"exercises/{path.name}: written")
    return 1 if orphans else 0


if __name__ == "__main__":
    sys.exit(main())
