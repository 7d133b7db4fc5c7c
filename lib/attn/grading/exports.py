"""Exports for the field's own graders: Gradescope's autograder zip, and an Otter assignment.

Both carry the package `attn` with them, so that nothing but its dependencies is installed where they run.
They are made from a clone of the course: exercises/, pyproject.toml and constraints.txt are read there.
"""

import hashlib
import io
import json
import os
import tempfile
import tomllib
import zipfile
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from attn.grading.checking import VISIBLE_SEED, examine
from attn.grading.exercise import Exercise, chapters, load
from attn.grading.exercise import chapter as exercises_of
from attn.grading.grader import SEED
from attn.grading.judge import hidden_seeds

SECONDS = 540  # Gradescope stops a container after 600
LEDGER = "export.json"  # what an export wrote, so that the next one replaces that and nothing else


def gradescope(folder: Path | str, chapter: str | None = None, *, seed: int = SEED) -> list[Path]:
    """Write `folder`/gradescope_NN.zip, to be uploaded as Gradescope's autograder, for one chapter or all.

    `seed` is handed to `attn grade`. Raises ValueError for an unknown chapter, FileNotFoundError outside a
    clone, FileExistsError where a file would be lost that no export wrote.
    """
    course, made = _course(), {}
    for number in _numbers(chapter):
        settings = {"chapter": number, "seed": seed, "seconds": SECONDS}
        files = {
            **_installer(course, system=["bubblewrap"]),
            "run_autograder": _template("gradescope_run_autograder"),
            "drive.py": _template("gradescope_drive.py"),
            "settings.json": _json(settings),
            **_package("lib"),
        }
        made[f"gradescope_{number}.zip"] = _zipped(files)
    return _publish(Path(folder), made)


def otter(folder: Path | str, chapter: str | None = None, *, seed: int = SEED) -> list[Path]:
    """Write `folder`/NN_name/, an Otter assignment, for one chapter or all.

    It holds the exercise notebook as learners get it, Otter's tests, one file per exercise with the points of
    each case, and autograder.zip for `otter run`. A case counts on the visible inputs and on the hidden ones
    that `attn grade --seed` has for this `seed`.
    Raises what `gradescope` raises.
    """
    course, made = _course(), {}
    for number in _numbers(chapter):
        notebook = _exercise_notebook(course, number)
        tests = {f"tests/{e.name}.py": _test_file(e, seed) for e in exercises_of(number)}
        files = {
            **_installer(course, system=[], extra=["otter-grader[grading]>=7.0"]),
            "run_autograder": _template("otter_run_autograder"),
            "run_otter.py": _template("otter_run_otter.py"),
            "environment.yml": _template("otter_environment.yml"),
            "otter_config.json": _json({"show_stdout": False, "show_hidden": False}),
            **tests,
            **_package("files"),  # Otter lays files/ beside the submission, where Python finds it
        }
        home = notebook.stem
        made[f"{home}/{notebook.name}"] = _with_otter_metadata(notebook, number)
        made |= {f"{home}/{name}": text for name, text in tests.items()}
        made[f"{home}/autograder.zip"] = _zipped(files)
    return _publish(Path(folder), made)


def verdicts(exercise: str, answer: Any, seeds: Sequence[int]) -> dict[str, str]:
    """Case → "" where `answer` passes on all `seeds`, otherwise what to say. For Otter's tests.

    What is said comes from the first seed alone; the inputs of the others stay unknown to learners.
    """
    found = load(exercise)
    if found.holds_values or found.kind == "find the bug":
        seeds = seeds[:1]  # nothing in these is random
    first, *others = (examine(found, answer, seed) for seed in seeds)
    told: dict[str, str] = {}
    said = False
    for case, passed in first.passed.items():
        if not passed:
            told[case] = "see the case above" if said else first.text
            said = True
        else:
            ok = all(other.passed[case] for other in others)
            told[case] = "" if ok else "right on the inputs of the notebook, wrong on others"
    return told


# What goes into the files


def _numbers(chapter: str | None) -> list[str]:
    known = chapters()
    if chapter is not None and chapter not in known:
        raise ValueError(f"no exercises for chapter {chapter!r}; there are some for {', '.join(known)}")
    return list(known) if chapter is None else [chapter]


def _course() -> Path:
    """The clone that we are in, or that this file is of."""
    for start in (Path.cwd(), Path(__file__).resolve()):
        for folder in (start, *start.parents):
            if (folder / "exercises").is_dir() and (folder / "pyproject.toml").is_file():
                return folder
    raise FileNotFoundError("exports are made from a clone of the course: go there and repeat the command")


def _exercise_notebook(course: Path, number: str) -> Path:
    found = sorted((course / "exercises").glob(f"{number}_*.ipynb"))
    if not found:
        raise FileNotFoundError(f"{course / 'exercises'} has no notebook of chapter {number}: make exercises")
    return found[0]


def _template(name: str) -> bytes:
    return (resources.files("attn.grading") / "export_files" / name).read_bytes()


def _json(data: Any) -> bytes:
    return (json.dumps(data, indent=1, ensure_ascii=False, sort_keys=True) + "\n").encode()


def _installer(course: Path, *, system: list[str], extra: Sequence[str] = ()) -> dict[str, bytes]:
    """setup.sh and what it reads: the requirements of attn, in the versions that were tested."""
    project = tomllib.loads((course / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    files = {
        "setup.sh": _template("setup.sh").replace(b"@SYSTEM@", " ".join(system).encode()),
        "requirements.txt": "".join(f"{line}\n" for line in [*project["dependencies"], *extra]).encode(),
    }
    constraints = course / "constraints.txt"
    # Named so that Otter's Dockerfile, which takes requirements.* along, takes it too.
    return files | {"requirements.pinned": constraints.read_bytes() if constraints.exists() else b""}


def _package(below: str) -> dict[str, bytes]:
    """The files of the package `attn`, by their place in an archive."""
    root = Path(__file__).resolve().parents[1]
    found = [path for path in root.rglob("*") if path.is_file() and path.suffix != ".pyc"]
    return {f"{below}/attn/{path.relative_to(root).as_posix()}": path.read_bytes() for path in found}


def _with_otter_metadata(path: Path, number: str) -> bytes:
    """The learner's notebook; Otter runs an exercise's tests below the cell with the answer."""
    notebook = json.loads(path.read_text(encoding="utf-8"))
    left = {exercise.name for exercise in exercises_of(number)}
    for cell in notebook["cells"]:
        grader = cell["metadata"].get("nbgrader", {})
        if grader.get("solution") and grader["grade_id"] in left:
            left.remove(grader["grade_id"])
            cell["metadata"]["otter"] = {"tests": [grader["grade_id"]]}
    if left:
        raise ValueError(f"{path} has no answer cell for {', '.join(sorted(left))}: make exercises")
    return _json(notebook)


def _test_file(exercise: Exercise, seed: int) -> bytes:
    """Otter's test of an exercise, one case each, in Otter's exception-based format."""
    head = f'''\
"""Otter's test of the exercise {exercise.id}, made by `attn grade --export otter`."""

from otter.test_files import test_case

from attn.grading.exports import verdicts

OK_FORMAT = False

name = {exercise.name!r}
points = None

told = {{}}


def must_pass(case, answer):
    if not told:
        told.update(verdicts({exercise.id!r}, answer, seeds={(VISIBLE_SEED, *hidden_seeds(seed))}))
    assert not told[case], told[case]
'''
    cases = [
        f"""

@test_case(name={case.name!r}, points={case.points})
def case_{number}({exercise.name}):
    must_pass({case.name!r}, {exercise.name})
"""
        for number, case in enumerate(exercise.cases, 1)
    ]
    return (head + "".join(cases)).encode()


# Writing


def _zipped(files: dict[str, bytes]) -> bytes:
    """A zip of the files. Equal files make equal bytes: sorted, and with one time for all."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in sorted(files):
            info = zipfile.ZipInfo(name)  # of 1 January 1980
            info.compress_type = zipfile.ZIP_DEFLATED
            info.create_system = 3  # Unix, so that the permissions count
            executable = name in ("setup.sh", "run_autograder")
            info.external_attr = (0o100755 if executable else 0o100644) << 16
            archive.writestr(info, files[name])
    return buffer.getvalue()


def _publish(folder: Path, files: dict[str, bytes]) -> list[Path]:
    """Write the files below `folder`, each as a whole. Nothing is replaced but what an export wrote.

    What was written is noted in `folder`/export.json. All is checked before the first file is written.
    """
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f"{folder} is a file: name a folder for the export")
    ledger = _ledger(folder / LEDGER)
    for name, content in files.items():
        path = folder / name
        if path.is_dir():
            raise FileExistsError(f"{path} is a folder, and in the way of the export: choose another folder")
        if path.exists() and _digest(path.read_bytes()) not in (ledger.get(name), _digest(content)):
            raise FileExistsError(
                f"{path} is not as an export left it: move it away, or choose another folder"
            )
    for name, content in files.items():
        _write(folder / name, content)
    ledger |= {name: _digest(content) for name, content in files.items()}
    _write(folder / LEDGER, _json({"made by": "attn grade --export", "files": ledger}))
    return [folder / name for name in files]


def _ledger(path: Path) -> dict[str, str]:
    if not path.exists():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if found["made by"] == "attn grade --export":
            return {str(name): str(digest) for name, digest in found["files"].items()}
    except (ValueError, KeyError, TypeError, AttributeError):
        pass
    raise FileExistsError(f"{path} is not from an export: move it away, or choose another folder")


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".export-")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        os.chmod(temporary, 0o644)  # mkstemp makes it for the owner alone
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
