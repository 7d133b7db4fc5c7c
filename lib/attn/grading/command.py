"""What `attn grade` does, and `attn progress` for a learner's own exercises."""

import argparse
import contextlib
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from attn.grading import exports, reports, self_test
from attn.grading.exercise import Exercise, chapter, chapters
from attn.grading.fence import Limits, NoFence, available
from attn.grading.grader import SEED, Settings, grade
from attn.grading.marks import Row
from attn.grading.submissions import Submission, find, identifiers

JOURNAL = ".grading.jsonl"  # in the folder of the reports, while a run is under way


def run(options: argparse.Namespace) -> int:
    """`attn grade`: the exit code. Bad input raises ValueError or OSError with one line."""
    if options.self_test:
        return _self_test(options)
    if options.export:
        tool, folder = options.export
        if tool not in ("gradescope", "otter"):
            raise ValueError(f"there are exports for gradescope and otter, not for {tool!r}")
        export = exports.gradescope if tool == "gradescope" else exports.otter
        for path in export(Path(folder), options.chapter or None, seed=_seed(options)):
            print(path)
        return 0
    if not options.paths:
        raise ValueError("what is to be graded? Name a notebook, a folder or a zip (attn grade --help)")
    submissions = _found([Path(path) for path in options.paths], options.roster)
    settings = Settings(options.chapter or "", _seed(options), not options.unfenced, Limits(options.seconds))
    if settings.chapter:
        chapter(settings.chapter)
    if settings.fenced and (why := available()):
        raise ValueError(_no_fence(why))
    out = _folder(Path(options.out))
    rows = _grade(submissions, settings, options, out)
    written = reports.write(
        rows, out, fenced=settings.fenced, exercises=_exercises(), roster=identifiers(submissions)
    )
    (out / JOURNAL).unlink(missing_ok=True)
    console = Console()
    console.print(reports.terminal(rows, fenced=settings.fenced))
    console.print(
        f"{len(written)} reports in {out}; the class at a glance: {out / 'class.html'}", soft_wrap=True
    )
    return 0


def _seed(options: argparse.Namespace) -> int:
    return SEED if options.seed is None else options.seed


def _found(paths: Sequence[Path], roster: str | None) -> list[Submission]:
    """The submissions of all paths; where there are several, each file begins with its path."""
    people = Path(roster) if roster else None
    if len(paths) == 1:
        return find(paths[0], people)
    return [replace(s, file=f"{path}/{s.file}") for path in paths for s in find(path, people)]


def _grade(
    submissions: Sequence[Submission],
    settings: Settings,
    options: argparse.Namespace,
    out: Path,
) -> list[Row]:
    columns = (TextColumn("grading"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task("grading", total=len(submissions))
        try:
            return grade(
                submissions,
                settings,
                workers=options.workers,
                scheduler=options.scheduler or "",
                journal=out / JOURNAL,
                progress=lambda done, out_of: bar.update(task, completed=done),
            )
        except NoFence as error:
            _tidy(out)
            raise ValueError(_no_fence(str(error))) from None
        except (ConnectionError, ImportError):
            _tidy(out)
            raise
        except KeyboardInterrupt:
            raise KeyboardInterrupt("stopped; the same command goes on from here") from None


def _no_fence(why: str) -> str:
    return f"no fence for student code: {why}. If you trust every author: attn grade --unfenced"


def _folder(out: Path) -> Path:
    """The folder of the reports, found out to be one before the work rather than after it."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / JOURNAL).touch()
    except OSError as error:
        raise ValueError(f"cannot write reports to {out} ({error.strerror}): choose another --out") from None
    return out


def _tidy(out: Path) -> None:
    """Leave nothing behind of a run that graded nothing."""
    if (out / JOURNAL).stat().st_size <= 1:
        (out / JOURNAL).unlink()
        with contextlib.suppress(OSError):  # it holds earlier reports
            out.rmdir()


def _exercises() -> dict[str, Exercise]:
    return {exercise.id: exercise for number in chapters() for exercise in chapter(number)}


def _self_test(options: argparse.Namespace) -> int:
    numbers = [options.chapter] if options.chapter else list(chapters())
    findings = [
        self_test.examine_exercise(exercise, _seed(options))
        for number in numbers
        for exercise in chapter(number)
    ]
    table, good = self_test.report(findings)
    Console().print(table)
    return 0 if good else 1


def own(course: Path) -> int:
    """Grade the exercises/ of this clone and say how far they are, and what is next."""
    folder = course / "exercises"
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no folder exercises/ in {course}")
    # One's own code needs no fence on one's own machine.
    rows = grade(find(folder), Settings(fenced=False))
    table = Table(title="Your exercises", title_justify="left")
    for name in ("chapter", "right", "points", ""):
        table.add_column(name, justify="left" if name in ("chapter", "") else "right")
    following = ""
    for row in sorted(rows, key=lambda row: row.file):
        right = sum(question.status == "right" for question in row.questions)
        share = row.points / row.out_of if row.out_of else 0.0
        name = Path(row.file).stem if row.status == "graded" else f"{row.file}: {row.status}, {row.note}"
        table.add_row(
            name,
            f"{right} of {len(row.questions)}",
            f"{row.points} of {row.out_of}",
            "█" * round(20 * share) + "·" * (20 - round(20 * share)),
        )
        unfinished = [question for question in row.questions if question.status != "right"]
        if unfinished and not following:
            first = unfinished[0]
            following = f"Next: {first.id.partition('.')[2]} in exercises/{row.file} ({first.out_of} points)."
    console = Console()
    console.print(table)
    console.print(following or "All exercises are right. Well done.", soft_wrap=True)
    return 0
