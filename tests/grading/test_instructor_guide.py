"""docs/instructor_guide.md: its commands run, or it says why not; its links lead somewhere."""

import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import get_args

import pytest

from attn.grading.exercise import chapter
from attn.grading.fence import available
from attn.grading.marks import RowStatus
from tests.grading._honest import submissions

ROOT = Path(__file__).resolve().parents[2]
GUIDE = (ROOT / "docs" / "instructor_guide.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"^(?:<!-- not run: ([^\n]+) -->\n)?```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PARTS = re.split(r"^## (.+)$", GUIDE, flags=re.MULTILINE)
SECTIONS = dict(zip(["Before", *PARTS[1::2]], PARTS[::2], strict=True))
COMMANDS = {
    title: "".join(block for reason, block in BLOCK.findall(text) if not reason)
    for title, text in SECTIONS.items()
}
CLASS = ["ann", "tom"]


@pytest.fixture
def clone(tmp_path) -> Path:
    """What a clone has, in a folder where commands may write; and what a class of two has handed in."""
    for path in ROOT.iterdir():
        if path.name not in ("grades", "export", "hub", ".git"):
            (tmp_path / path.name).symlink_to(path)
    with zipfile.ZipFile(tmp_path / "handed_in.zip", "w") as archive:
        for student, work in zip(CLASS, list(submissions("01", 4))[2:], strict=True):
            for place in (f"handed_in/{student}", f"hub/submitted/{student}/01"):
                (tmp_path / place).mkdir(parents=True)
                (tmp_path / place / work.name).write_text(work.notebook, encoding="utf-8")
            archive.writestr(f"{student}/{work.name}", work.notebook)
    (tmp_path / "gradebook.csv").write_text(
        "Student,ID,SIS User ID,SIS Login ID,Section\n"
        + "".join(f"{name},{number},,{name},1\n" for number, name in enumerate([*CLASS, "eve"], 1))
    )
    return tmp_path


MADE = {
    "Files: a folder, or a zip": [
        "grades/class.html",
        "grades/canvas.csv",
        "grades_with_names/feedback/eve.html",
    ],
    "JupyterHub and nbgrader": ["hub/marks.csv", "hub/feedback/ann/01", "grades_of_the_hub/grades.json"],
    "Gradescope": ["export/gradescope_01.zip"],
    "Otter": ["export/01_dot_product_attention/results.json"],
}


@pytest.mark.parametrize("title", MADE)
def test_commands_run_and_make_what_they_are_for(title, clone):
    if "attn grade" in COMMANDS[title].replace("attn grade --export", "") and (why := available()):
        pytest.skip(why)
    settings = {k: v for k, v in os.environ.items() if k != "ATTN_CHECK_SHAPES"}
    settings["PATH"] = f"{Path(sys.executable).parent}:{settings['PATH']}"
    done = subprocess.run(
        ["bash", "-eu", "-c", COMMANDS[title]], cwd=clone, env=settings, capture_output=True, text=True
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    for name in MADE[title]:
        assert (clone / name).exists(), f"{name} is missing"


def test_every_command_is_run_or_says_why_not():
    assert {title for title, commands in COMMANDS.items() if commands} == MADE.keys()
    assert GUIDE.count("```sh\n") == len(BLOCK.findall(GUIDE))
    assert all(len(reason) > 10 for reason, _ in BLOCK.findall(GUIDE) if reason)


def test_links_lead_to_sections_and_files():
    def anchor(title: str) -> str:
        return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")

    anchors = {anchor(title) for title in SECTIONS}
    for target in re.findall(r"\]\(([^)]+)\)", GUIDE):
        assert target[1:] in anchors if target.startswith("#") else (ROOT / "docs" / target).exists(), target


def test_points_and_statuses_are_those_that_there_are():
    assert f"(chapter 01: {sum(exercise.points for exercise in chapter('01'))})" in GUIDE
    statuses = re.search(r"Each submission has a status: ([^.]+)\.", GUIDE)[1]
    assert tuple(re.split(r",\s+", statuses)) == get_args(RowStatus)
