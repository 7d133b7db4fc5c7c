"""The exports work where they are meant for: laid out as Gradescope and Otter do it, and run."""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from otter.test_files.exception_test import ExceptionTestFile

from attn.grading import exports
from attn.grading.exercise import chapter, chapters, load
from benchmarks import grading_tools
from tests.grading._honest import Honest, submissions


@pytest.fixture(scope="module")
def mixed() -> Honest:
    """A submission with right, partly right and wrong answers."""
    return list(submissions("01", 4))[-1]


# Writing


@pytest.mark.parametrize("export", [exports.gradescope, exports.otter])
def test_equal_exports_are_equal_byte_for_byte_and_may_be_repeated(export, tmp_path, monkeypatch):
    first = {path.relative_to(tmp_path / "a"): path.read_bytes() for path in export(tmp_path / "a", "01")}
    monkeypatch.setattr("time.time", lambda: 2e9)
    again = {path.relative_to(tmp_path / "b"): path.read_bytes() for path in export(tmp_path / "b", "01")}
    assert first == again
    assert export(str(tmp_path / "a"), "01")


def test_without_a_chapter_there_is_one_for_each(tmp_path):
    assert [p.name for p in exports.gradescope(tmp_path)] == [f"gradescope_{n}.zip" for n in chapters()]


@pytest.mark.parametrize("export", [exports.gradescope, exports.otter])
def test_nothing_is_replaced_that_no_export_wrote(export, tmp_path):
    last = export(tmp_path, "01")[-1]
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file() and path != last}
    last.write_text("my own notes")
    with pytest.raises(FileExistsError, match="is not as an export left it") as error:
        export(tmp_path, "01")
    assert "\n" not in str(error.value)
    assert last.read_text() == "my own notes"
    assert before == {path: path.read_bytes() for path in before}
    last.unlink()
    last.mkdir()
    with pytest.raises(FileExistsError, match="in the way"):
        export(tmp_path, "01")


def test_an_older_export_is_replaced(tmp_path, monkeypatch):
    [path] = exports.gradescope(tmp_path, "01")
    old = path.read_bytes()
    monkeypatch.setattr(exports, "SECONDS", 100)
    exports.gradescope(tmp_path, "01")
    assert path.read_bytes() != old
    assert not list(tmp_path.glob(".export-*"))


def test_a_note_of_someone_else_is_not_taken_for_ours(tmp_path):
    for text in ("{}", "[]", "no json", '{"made by": "me", "files": {}}'):
        (tmp_path / exports.LEDGER).write_text(text)
        with pytest.raises(FileExistsError, match="is not from an export"):
            exports.gradescope(tmp_path, "01")


def test_bad_input_is_said_in_one_line(tmp_path):
    with pytest.raises(ValueError, match="no exercises for chapter '99'; there are some for 01"):
        exports.otter(tmp_path, "99")
    (tmp_path / "file").write_text("")
    with pytest.raises(NotADirectoryError, match="is a file"):
        exports.gradescope(tmp_path / "file", "01")
    assert {path.name for path in tmp_path.iterdir()} == {"file"}


# Gradescope


@pytest.fixture(scope="module")
def archive(tmp_path_factory) -> Path:
    [path] = exports.gradescope(tmp_path_factory.mktemp("gradescope"), "01")
    return path


def container(root: Path, archive: Path, texts: dict[str, str]) -> Path:
    """Folders as a container of Gradescope has them; its Python is ours, which has what setup.sh installs."""
    with zipfile.ZipFile(archive) as packed:
        packed.extractall(root / "source")
    (root / "submission").mkdir()
    for name, text in texts.items():
        (root / "submission" / name).write_text(text, encoding="utf-8")
    python = root / "venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    return root


def autograde(root: Path, **environment: str) -> tuple[dict[str, Any], str]:
    """What run_autograder leaves in results.json, and what it prints."""
    settings = {k: v for k, v in os.environ.items() if k != "ATTN_CHECK_SHAPES"}
    settings |= {"ATTN_AUTOGRADER": str(root), **environment}
    command = ["bash", str(root / "source" / "run_autograder")]
    done = subprocess.run(command, cwd=root, env=settings, capture_output=True, text=True)
    results = json.loads((root / "results" / "results.json").read_text(encoding="utf-8"))
    assert isinstance(results["score"], int | float)
    assert results.get("stdout_visibility", "hidden") == "hidden"
    assert isinstance(results["tests"], list)
    return results, done.stdout + done.stderr


def test_archive_has_what_gradescope_wants_at_its_root_and_the_package(archive):
    with zipfile.ZipFile(archive) as packed:
        names = set(packed.namelist())
        for name in ("setup.sh", "run_autograder"):
            assert packed.getinfo(name).external_attr >> 16 == 0o100755
            assert packed.read(name).startswith(b"#!/usr/bin/env bash\n")
    assert {"requirements.txt", "drive.py", "settings.json", "lib/attn/grading/grader.py"} <= names
    assert not [name for name in names if "__pycache__" in name or name.endswith(".ipynb")]


def test_a_submission_is_graded(archive, mixed, tmp_path):
    results, said = autograde(container(tmp_path, archive, {mixed.name: mixed.notebook}))
    assert results["score"] == sum(mixed.marks.values()), said
    points = {test["name"].partition(".")[2]: test["score"] for test in results["tests"]}
    assert points == mixed.marks
    out_of = {exercise.name: exercise.points for exercise in chapter("01")}
    assert {test["name"].partition(".")[2]: test["max_score"] for test in results["tests"]} == out_of


def test_where_namespaces_are_forbidden_it_grades_unfenced_and_tells_instructors(archive, mixed, tmp_path):
    root = container(tmp_path / "root", archive, {mixed.name: mixed.notebook})
    bwrap = tmp_path / "bin" / "bwrap"
    bwrap.parent.mkdir()
    bwrap.write_text("#!/bin/sh\necho 'bwrap: No permissions to create a new namespace' >&2\nexit 1\n")
    bwrap.chmod(0o755)
    results, said = autograde(root, PATH=f"{bwrap.parent}:{os.environ['PATH']}")
    assert results["score"] == sum(mixed.marks.values()), said
    assert "NOTE FOR INSTRUCTORS" in said
    assert results["extra_data"]["fenced"] is False


@pytest.mark.parametrize(
    "texts",
    [{}, {"notes.txt": "hello"}, {"01_dot_product_attention.ipynb": "not a notebook"}],
    ids=["nothing", "no notebook", "unreadable"],
)
def test_what_cannot_be_graded_gets_valid_results_that_say_so(archive, tmp_path, texts):
    results, _ = autograde(container(tmp_path, archive, texts))
    assert results["score"] == 0
    said = " ".join([results.get("output", ""), *(test.get("output", "") for test in results["tests"])])
    assert "could not be graded" in said or "cannot be read" in said


@pytest.mark.parametrize("broken", ["settings.json", "drive.py", "lib", "venv"])
def test_a_broken_container_still_leaves_valid_results(archive, mixed, tmp_path, broken):
    root = container(tmp_path, archive, {mixed.name: mixed.notebook})
    target = root / broken if broken == "venv" else root / "source" / broken
    target.rename(root / "gone")
    if broken == "lib":  # another attn must not jump in
        (target / "attn").mkdir(parents=True)
        (target / "attn" / "__init__.py").write_text("raise ImportError('broken')")
    results, _ = autograde(root)
    assert results["score"] == 0
    assert "tell your instructor" in results["output"]


def test_setup_installs_the_fence_and_the_cpu_build(archive, tmp_path):
    root = container(tmp_path / "root", archive, {})
    log, bin_ = tmp_path / "log", tmp_path / "bin"
    bin_.mkdir()
    # Stand-ins that note how they are called; "python3 -m venv DIR" makes more of them.
    uv = f'echo "uv $*" >> {log}; case "$*" in *torch-backend*) [ -z "$NO_BACKEND" ];; esac'
    commands = {
        "apt-get": f'echo "apt-get $*" >> {log}; case "$*" in *bubblewrap*) exit 1;; esac',
        "python3": f'mkdir -p "$3/bin"; cp {bin_}/uv {bin_}/pip "$3/bin"',
        "pip": f'echo "pip $*" >> {log}',
        "uv": uv,
    }
    for name, text in commands.items():
        (bin_ / name).write_text(f"#!/bin/sh\n{text}\n")
        (bin_ / name).chmod(0o755)
    for backend in ("", "1"):
        log.write_text("")
        settings = os.environ | {
            "ATTN_AUTOGRADER": str(root),
            "PATH": f"{bin_}:{os.environ['PATH']}",
            "NO_BACKEND": backend,
        }
        command = ["bash", str(root / "source" / "setup.sh")]
        done = subprocess.run(command, env=settings, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert "not installed: bubblewrap" in done.stderr
        lines = log.read_text().splitlines()
        installed = [line for line in lines if line.startswith("uv pip install")]
        assert all(f"-r {root}/source/requirements.txt" in line for line in installed)
        assert [("--torch-backend cpu" in line) for line in installed] == [True, False][: 2 if backend else 1]
        assert done.stdout.startswith("torch ")


# Otter


def test_otters_tests_have_our_cases_and_points(tmp_path):
    exports.otter(tmp_path)
    for number in chapters():
        for exercise in chapter(number):
            [path] = tmp_path.glob(f"{number}_*/tests/{exercise.name}.py")
            test = ExceptionTestFile.from_file(str(path))
            cases = [(case.name, case.points) for case in test.test_cases]
            assert (test.name, cases) == (exercise.name, [(c.name, c.points) for c in exercise.cases])


def test_otters_notebook_is_the_learners_with_a_test_below_each_answer(tmp_path):
    [path] = [path for path in exports.otter(tmp_path, "01") if path.suffix == ".ipynb"]
    theirs = json.loads(path.read_text(encoding="utf-8"))
    ours = json.loads((grading_tools.ROOT / "exercises" / path.name).read_text(encoding="utf-8"))
    assert [cell["source"] for cell in theirs["cells"]] == [cell["source"] for cell in ours["cells"]]
    tested = [cell["metadata"]["otter"]["tests"] for cell in theirs["cells"] if "otter" in cell["metadata"]]
    assert tested == [[exercise.name] for exercise in chapter("01")]


def test_otter_run_gives_our_marks(mixed, tmp_path):
    graded = grading_tools.otter("01", {mixed.student: mixed.notebook}, tmp_path)
    assert graded.marks == {mixed.student: mixed.marks}
    assert graded.seconds > 0
    results = json.loads((tmp_path / mixed.student / "results.json").read_text(encoding="utf-8"))
    assert "This looks like a known mistake" in json.dumps(results)


def test_otters_container_grades_too(mixed, tmp_path):
    [archive] = [path for path in exports.otter(tmp_path / "export", "01") if path.suffix == ".zip"]
    root = container(tmp_path / "root", archive, {mixed.name: mixed.notebook})
    (root / "results").mkdir()
    (root / "submission_metadata.json").write_text("{}")
    done = subprocess.run(
        ["bash", str(root / "source" / "run_autograder")],
        env=os.environ | {"ATTN_AUTOGRADER": str(root)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    results = json.loads((root / "results" / "results.json").read_text(encoding="utf-8"))
    given = {test["name"]: test["score"] for test in results["tests"] if "score" in test}
    assert given == mixed.marks


def test_a_case_counts_on_all_seeds_and_only_the_first_is_spoken_of():
    seeds = (exports.VISIBLE_SEED, 1, 2)
    softmax = load("01.stable_softmax")
    seen = [case.make(exports.VISIBLE_SEED)[0] for case in softmax.cases]

    def memorised(scores):
        return scores.softmax(-1) if any(torch.equal(scores, known) for known in seen) else scores

    told = exports.verdicts("01.stable_softmax", memorised, seeds)
    assert "right on the inputs of the notebook, wrong on others" in told.values()
    assert set(exports.verdicts("01.stable_softmax", memorised, seeds[:1]).values()) == {""}
    assert set(exports.verdicts("01.stable_softmax", softmax.right[0], seeds).values()) == {""}

    first, *others = exports.verdicts("01.stable_softmax", lambda scores: scores, seeds).values()
    assert "0 of 8 points" in first
    assert set(others) == {"see the case above"}


def test_the_bench_times_nbgrader(mixed, tmp_path):
    graded = grading_tools.nbgrader("01", {mixed.student: mixed.notebook}, tmp_path)
    assert graded.marks == {mixed.student: mixed.marks}
    assert "s per submission, over 1" in str(graded)
