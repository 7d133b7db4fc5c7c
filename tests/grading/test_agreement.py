"""nbgrader, Otter and our grader give honest submissions the same marks, question by question.

nbgrader looks at the visible inputs alone. A wrong answer that passes a case there by luck, and not on the
hidden inputs, would make a difference: where a new exercise brings one, it needs better inputs.
"""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from attn.grading.exercise import chapter, chapters
from attn.grading.fence import available
from attn.grading.grader import Settings, grade
from attn.grading.submissions import find
from benchmarks import grading_tools
from tests.grading._honest import Honest, submissions
from tests.grading._warm_kernel import warm_kernels

AT_LEAST = 50
PER_CHAPTER = 4  # the rest is of chapter 01

Key = tuple[str, str, str]  # chapter, student, exercise


@pytest.fixture(scope="module")
def honest() -> dict[str, list[Honest]]:
    """The submissions, by chapter."""
    counts = dict.fromkeys(chapters(), PER_CHAPTER)
    counts["01"] += max(0, AT_LEAST - sum(counts.values()))
    return {number: list(submissions(number, count)) for number, count in counts.items()}


@pytest.fixture(scope="module")
def given(honest, tmp_path_factory) -> Iterator[dict[str, dict[Key, float]]]:
    """tool → what it gives for each exercise of each submission."""
    home = tmp_path_factory.mktemp("agreement")
    with warm_kernels(home) as settings:
        # Outside the tests attn does not check its shapes, which takes a lot of time.
        environment = {k: v for k, v in os.environ.items() if k != "ATTN_CHECK_SHAPES"} | settings
        tools = {"nbgrader": grading_tools.nbgrader, "Otter": grading_tools.otter_in_one_process}
        with ThreadPoolExecutor(2) as pool:
            jobs = {
                (name, number): pool.submit(
                    tool, number, {s.student: s.notebook for s in class_}, home / name / number, environment
                )
                for number, class_ in honest.items()
                for name, tool in tools.items()
            }
            found = {name: {} for name in (*tools, "ours")}
            for (name, number), job in jobs.items():
                for student, marks in job.result().marks.items():
                    found[name] |= {(number, student, exercise): points for exercise, points in marks.items()}
    for number, class_ in honest.items():
        found["ours"] |= _ours(number, class_, home / "ours" / number)
    return found


def _ours(number: str, class_: list[Honest], folder: Path) -> dict[Key, float]:
    for submission in class_:
        path = folder / submission.student / submission.name
        path.parent.mkdir(parents=True)
        path.write_text(submission.notebook, encoding="utf-8")
    rows = grade(find(folder), Settings(fenced=not available()))
    return {
        (number, row.student, question.id.partition(".")[2]): question.points
        for row in rows
        for question in row.questions
    }


def test_nbgrader_otter_and_our_grader_agree(honest, given):
    nbgrader, otter, ours = (given[name] for name in ("nbgrader", "Otter", "ours"))
    questions = {
        (number, submission.student, exercise.name)
        for number, class_ in honest.items()
        for submission in class_
        for exercise in chapter(number)
    }
    assert nbgrader.keys() == otter.keys() == ours.keys() == questions
    different = {
        key: (nbgrader[key], otter[key], ours[key])
        for key in questions
        if not nbgrader[key] == otter[key] == ours[key]
    }
    assert not different, f"nbgrader, Otter, ours: {different}"


def test_the_class_is_large_and_mixed(honest, given):
    """Agreement on a class where everyone has full marks, or none, would prove little."""
    everyone = [submission for class_ in honest.values() for submission in class_]
    assert len({s.notebook for s in everyone}) == len(everyone) >= AT_LEAST
    out_of = {(number, e.name): e.points for number in honest for e in chapter(number)}
    for number, class_ in honest.items():
        totals = [sum(given["ours"][number, s.student, e.name] for e in chapter(number)) for s in class_]
        full = sum(points for (of, _), points in out_of.items() if of == number)
        assert totals[:2] == [full, 0]
        assert all(0 < total < full for total in totals[2:])
    partly = [points for (n, _, e), points in given["ours"].items() if 0 < points < out_of[n, e]]
    assert len(partly) >= 25
