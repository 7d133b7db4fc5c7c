"""The exercises under test: what `attn grade --self-test` measures and prints.

Known mistakes must be caught and named, right answers written differently must pass, and an answer that is
blank, constant or right in shape alone must earn nothing.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from attn.grading.calling import call
from attn.grading.checking import VISIBLE_SEED, examine, judge
from attn.grading.exercise import Exercise
from attn.grading.judge import hidden_seeds
from attn.grading.student.values import Array, thaw

MISTAKES, CAUGHT, CAUGHT_BY_VISIBLE, NAMED, RIGHT = 8, 1.0, 0.9, 0.9, 3
SECONDS = 0.2  # for one check


@dataclass(frozen=True)
class Findings:
    """What holds of one exercise.

    Attributes:
      mistakes: in its bank; of them `caught` lose points with visible or hidden inputs (an equivalent one
        must be recognised), `visible` with the visible ones alone, `named` are named as what they are.
      right: answers written differently; `passed` of them get full marks.
      nothing: whether blank, constant and shape-only answers all earn nothing.
      seconds: the slowest check.
    """

    exercise: Exercise
    mistakes: int
    caught: int
    visible: int
    named: int
    right: int
    passed: int
    nothing: bool
    seconds: float


def examine_exercise(exercise: Exercise, seed: int) -> Findings:
    """Run the whole bank of an exercise through its own check. `seed` draws the hidden inputs."""
    caught = visible = named = 0
    slowest = 0.0
    for mistake in exercise.mistakes:
        start = time.process_time()
        shown = examine(exercise, mistake.answer)
        slowest = max(slowest, time.process_time() - start)
        hidden = judge(
            exercise,
            lambda case, seed, answer=mistake.answer: call(exercise, answer, case, seed),  # type: ignore[misc]
            hidden=hidden_seeds(seed),
        )
        named += shown.mistakes == (mistake.name,)
        if mistake.equivalent:  # caught when it is recognised; it is right all the same
            visible += shown.status == "right" and shown.mistakes == (mistake.name,)
            caught += hidden.status == "right" and hidden.mistakes == (mistake.name,)
        else:
            visible += shown.points < shown.out_of
            caught += hidden.points < hidden.out_of
    passed = 0
    for answer in exercise.right:
        start = time.process_time()
        passed += examine(exercise, answer).points == exercise.points
        slowest = max(slowest, time.process_time() - start)
    nothing = all(examine(exercise, answer).points == 0 for answer in worthless(exercise))
    return Findings(
        exercise,
        len(exercise.mistakes),
        caught,
        visible,
        named,
        len(exercise.right),
        passed,
        nothing,
        slowest,
    )


def worthless(exercise: Exercise) -> list[Any]:
    """Answers that must earn nothing: blank ones, a constant, and the right shapes around a constant."""

    def nothing(*inputs: Any) -> None: ...

    def raising(*inputs: Any) -> None:
        raise NotImplementedError

    def always_raising(*inputs: Any) -> None:
        raise AssertionError

    if exercise.holds_values:
        return [None, ..., {case.name: ... for case in exercise.cases}, {}]
    answers: list[Any] = [None, ..., nothing, raising]
    if exercise.kind == "find the bug":
        return [*answers, always_raising]

    def constant(*inputs: Any) -> Any:
        made = torch.full((2, 3), 0.5)
        return made if len(exercise.returns) == 1 else (made,) * len(exercise.returns)

    def shapes(*inputs: Any) -> Any:
        for case in exercise.cases:
            if _shapes(case.make(VISIBLE_SEED)) == _shapes(inputs):
                arrays = call(exercise, exercise.reference, case, VISIBLE_SEED, ours=True).arrays
                outputs = tuple(_constant_like(arrays[name]) for name in exercise.returns)
                return outputs if len(outputs) > 1 else outputs[0]
        raise AssertionError("an input that no case has")

    return [*answers, constant, shapes]


def _shapes(inputs: Sequence[Any]) -> list[Any]:
    return [tuple(x.shape) if isinstance(x, torch.Tensor) else x for x in inputs]


def _constant_like(array: Array) -> torch.Tensor:
    x = thaw(array)
    return torch.zeros_like(x) if x.dtype == torch.bool else torch.full_like(x, 0.5)


def report(findings: Sequence[Findings]) -> tuple[RenderableType, bool]:
    """The table, and whether every bar is met."""
    table = Table(box=box.SIMPLE, title="The exercises under test", title_justify="left")
    table.add_column("exercise", no_wrap=True)
    for name in ("mistakes", "caught", "visible", "named", "right", "ms"):
        table.add_column(name, justify="right")
    for f in findings:
        numbers = (
            f.mistakes,
            f.caught,
            f.visible,
            f.named,
            f"{f.passed}/{f.right}",
            f"{1000 * f.seconds:.0f}",
        )
        table.add_row(f.exercise.id, *map(str, numbers))
    count = sum(f.mistakes for f in findings)
    bars = {
        f"{len(findings)} exercises, {count / len(findings):.1f} known mistakes each": count
        >= MISTAKES * len(findings),
        f"{sum(f.caught for f in findings)} of {count} mistakes caught": all(
            f.caught == f.mistakes for f in findings
        ),
        f"{sum(f.visible for f in findings)} of {count} by the visible inputs alone": sum(
            f.visible for f in findings
        )
        >= CAUGHT_BY_VISIBLE * count,
        f"{sum(f.named for f in findings)} of {count} named as what they are": sum(f.named for f in findings)
        >= NAMED * count,
        "right answers, written differently, pass": all(f.passed == f.right >= RIGHT for f in findings),
        "blank, constant and shape-only answers earn nothing": all(f.nothing for f in findings),
    }
    lines = [Text(f"{'ok    ' if met else 'MISSED'}  {what}") for what, met in bars.items()]
    # A figure of this machine, at this moment: it is told, and no reason to fail.
    slowest = max(f.seconds for f in findings)
    lines.append(
        Text(f"{'ok    ' if slowest < SECONDS else 'slow  '}  slowest check {1000 * slowest:.0f} ms")
    )
    return Group(table, *lines), all(bars.values())
