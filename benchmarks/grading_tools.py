"""nbgrader's and Otter's own runs over submissions of one chapter: the marks they give, and the time."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from attn.grading import exports

ROOT = Path(__file__).resolve().parent.parent
CONFIG = """\
c = get_config()
c.CourseDirectory.course_id = "attention"
c.ClearSolutions.code_stub = {"python": "# YOUR CODE HERE"}
c.ExecutePreprocessor.timeout = 120
"""
# Prints what is in the database.
GRADEBOOK = """\
import json, sys
from nbgrader.api import Gradebook
with Gradebook("sqlite:///gradebook.db") as book:
    marks = {
        submission.student.id: {
            grade.name.removeprefix("check_"): grade.auto_score
            for notebook in submission.notebooks
            for grade in notebook.grades
        }
        for submission in book.assignment_submissions(sys.argv[1])
    }
print(json.dumps(marks))
"""
# Grades one notebook after the other with the function that `otter run` calls, in one process.
OTTER_LOOP = """\
import json, sys
from otter.run import main
_, archive, found, *notebooks = sys.argv
marks = []
for notebook in notebooks:
    results = main(notebook, autograder=archive, output_dir=None, no_logo=True)
    marks.append({name: test.score for name, test in results.results.items()})
with open(found, "w") as file:
    json.dump(marks, file)
"""

Marks = dict[str, dict[str, float]]  # student → exercise → points


@dataclass(frozen=True)
class Graded:
    """What a tool gave."""

    marks: Marks
    seconds: float  # a submission

    def __str__(self) -> str:
        return f"{self.seconds:.2f} s per submission, over {len(self.marks)}"


def nbgrader(
    number: str, notebooks: Mapping[str, str], folder: Path, environment: Mapping[str, str] = os.environ
) -> Graded:
    """`nbgrader autograde` over a course made in `folder`. `notebooks`: student → the notebook's text.

    Raises RuntimeError, with what nbgrader said, where it fails.
    """
    [source] = (ROOT / "solutions").glob(f"{number}_*.ipynb")
    _put(folder / "nbgrader_config.py", CONFIG)
    _put(folder / "source" / number / source.name, source.read_text(encoding="utf-8"))
    for student, text in notebooks.items():
        _put(folder / "submitted" / student / number / source.name, text)
    _run([sys.executable, "-m", "nbgrader", "generate_assignment", number], folder, environment)
    start = time.perf_counter()
    _run([sys.executable, "-m", "nbgrader", "autograde", number], folder, environment)
    seconds = (time.perf_counter() - start) / len(notebooks)
    return Graded(json.loads(_run([sys.executable, "-c", GRADEBOOK, number], folder, environment)), seconds)


def otter(number: str, notebooks: Mapping[str, str], folder: Path) -> Graded:
    """`otter run`, once per submission, on our export of the chapter. Raises RuntimeError where it fails."""
    archive, files = _for_otter(number, notebooks, folder)
    marks: Marks = {}
    start = time.perf_counter()
    for student, file in files.items():
        out = file.parent
        command = ["-m", "otter", "run", "-a", str(archive), "-o", str(out), "--no-logo", str(file)]
        _run([sys.executable, *command], folder, os.environ)
        tests = json.loads((out / "results.json").read_text(encoding="utf-8"))["tests"]
        marks[student] = {test["name"]: test["score"] for test in tests if "score" in test}
    return Graded(marks, (time.perf_counter() - start) / len(notebooks))


def otter_in_one_process(
    number: str, notebooks: Mapping[str, str], folder: Path, environment: Mapping[str, str] = os.environ
) -> Graded:
    """As `otter`, without a new process and its imports for each submission."""
    archive, files = _for_otter(number, notebooks, folder)
    found = folder / "marks.json"
    start = time.perf_counter()
    command = [sys.executable, "-c", OTTER_LOOP, str(archive), str(found), *map(str, files.values())]
    _run(command, folder, environment)
    seconds = (time.perf_counter() - start) / len(notebooks)
    return Graded(dict(zip(files, json.loads(found.read_text()), strict=True)), seconds)


def _for_otter(number: str, notebooks: Mapping[str, str], folder: Path) -> tuple[Path, dict[str, Path]]:
    [archive] = [path for path in exports.otter(folder / "export", number) if path.suffix == ".zip"]
    files = {}
    for student, text in notebooks.items():
        files[student] = folder / student / "submission.ipynb"
        _put(files[student], text)
    return archive, files


def _put(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def _run(command: Sequence[str], folder: Path, environment: Mapping[str, str]) -> str:
    """What the command prints. Programs beside this Python are found: nbgrader calls `alembic` by name."""
    path = os.pathsep.join([str(Path(sys.executable).parent), environment.get("PATH", os.defpath)])
    settings = {**environment, "PATH": path}
    done = subprocess.run(command, cwd=folder, env=settings, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command[:5])} failed:\n{(done.stdout + done.stderr)[-3000:]}")
    return done.stdout
