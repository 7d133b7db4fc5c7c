"""Turns rows into reports: JSON, CSV, gradebooks, a page for each student, a page on the class, a table.

The same rows give the same bytes: nothing says when or where. All is made before anything is written, and
each file takes the old one's place in one step, so that a failed run leaves the reports that were there.
A status is not a mark: what was not graded has no points in any gradebook. Where a student handed in several
notebooks of a chapter, the best one counts; grades.json and grades.csv have them all.
"""

import csv
import functools
import hashlib
import io
import json
import math
import os
import re
import secrets
import statistics
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from jinja2 import Environment, PackageLoader, StrictUndefined
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from attn.grading.exercise import Exercise, chapters
from attn.grading.marks import Question, QuestionStatus, Row, RowStatus
from attn.grading.submissions import CANVAS

VERSION = 1  # of grades.json
LONGEST = 5_000  # characters of what is said about one answer, on a page
UNFENCED = (
    "These notebooks ran WITHOUT A FENCE: their code could read and change everything that this account can, "
    "the marks among it. Trust the marks no further than you trust every author."
)

_STATUSES: tuple[str, ...] = get_args(RowStatus)
_WHY = {
    "timeout": "It ran longer than a notebook may.",
    "crashed": "It broke down before anything could be graded.",
    "out of memory": "It needed more memory than a notebook may.",
    "unreadable": "The file cannot be read as a notebook.",
    "missing": "No notebook was handed in.",
}


def write(
    rows: Sequence[Row],
    folder: Path,
    *,
    fenced: bool,
    exercises: Mapping[str, Exercise],
    roster: Mapping[str, Mapping[str, str]] | None = None,
) -> list[Path]:
    """Write all reports to `folder` and return their paths.

    Args:
      exercises: by id; for the kinds of the questions, the hints of mistakes and the points of chapters.
      roster: student → what the gradebook calls them (`submissions.identifiers`).
    """
    rows = sorted(rows, key=lambda row: (row.student.casefold(), row.student, row.chapter, row.file))
    people = _people(rows)
    names = _file_names(people)
    pages = {
        f"feedback/{names[who]}": _page("feedback.html", **_feedback(who, own, exercises))
        for who, own in people.items()
    }
    reports = {
        "grades.json": _json({"version": VERSION, "fenced": fenced, "rows": [row.as_json() for row in rows]}),
        "grades.csv": _grades_csv(rows, fenced),
        "canvas.csv": _canvas_csv(rows, exercises, roster or {}),
        "class.html": _page("class.html", **_class(rows, people, names, exercises, fenced)),
        **pages,
    }
    if len(people) == 1:
        reports["results.json"] = _json(gradescope(*rows))
    paths = [folder / name for name in reports]
    with ThreadPoolExecutor(8) as pool:  # a disk confirms eight files in the time of one
        list(pool.map(save, paths, reports.values()))
    return paths


def read(folder: Path) -> list[Row]:
    """The rows of an earlier `write`. Raises FileNotFoundError or ValueError, with one line."""
    path = Path(folder) / "grades.json"
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FileNotFoundError(f"there is no report in {folder} (no grades.json)") from None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not a report: {' '.join(str(error).split())}") from None
    if not isinstance(data, dict) or "version" not in data or not isinstance(data.get("rows"), list):
        raise ValueError(f"{path} is not a report of this program")
    if data["version"] != VERSION:
        raise ValueError(f"{path} is of version {data['version']!r}; this program reads version {VERSION}")
    try:
        rows = [Row.from_json(row) for row in data["rows"]]
    except (TypeError, KeyError, ValueError, AttributeError) as error:
        raise ValueError(f"{path} holds a row that cannot be read ({_line(str(error))[:200]})") from None
    for row in rows:
        if not _sound(row):
            raise ValueError(f"{path} holds a row that no grading makes: {_line(row.file)!r}")
    return rows


def _sound(row: Row) -> bool:
    questions = all(
        q.status in get_args(QuestionStatus)
        and isinstance(q.cases, dict)
        and all(isinstance(text, str) for text in (q.id, q.text, *q.mistakes, *q.cases))
        and all(isinstance(passed, bool) for passed in q.cases.values())
        and all(type(points) is int for points in (q.points, q.out_of))
        for q in row.questions
    )
    texts = all(isinstance(text, str) for text in (row.student, row.file, row.chapter, row.note))
    return questions and texts and row.status in _STATUSES and type(row.points) is type(row.out_of) is int


def save(path: Path, text: str) -> None:
    """Write a file so that there is the old one or the new one at any time, never a half or none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name[:80]}.{secrets.token_hex(6)}.tmp")
    try:
        with open(temporary, "xb") as file:
            file.write(text.encode("utf-8"))
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _json(data: dict[str, Any]) -> str:
    # ASCII: what is no proper text, half of a surrogate pair in a file's name, comes back as it was.
    return json.dumps(data, ensure_ascii=True, indent=1) + "\n"


# Text from outside: names, files, messages of errors


_NOT_TEXT = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


def _clean(text: str) -> str:
    """Text that can be written anywhere: what is not to be seen, and half characters, become �."""
    return _NOT_TEXT.sub("\ufffd", text)


def _line(text: str) -> str:
    return " ".join(_clean(text).split())


def _short(text: str) -> str:
    text = _clean(text)
    return (
        text if len(text) <= LONGEST else f"{text[:LONGEST]} … (and {len(text) - LONGEST:,} characters more)"
    )


# Of a formula, in wide letters too; | and % start one in old programs.
_STARTS = "=+-@|%\uff1d\uff0b\uff0d\uff20"


def _cell(text: str) -> str:
    """Text for a cell. A spreadsheet would compute "=1+1"; with ' before it, it does not. Numbers stay."""
    text = _line(text)
    number = re.fullmatch(r"[+-]?\d+([.,]\d+)?", text, re.ASCII)
    return f"'{text}" if text[:1] in tuple(_STARTS) and not number else text


def _file_names(people: Iterable[str]) -> dict[str, str]:
    """A file name for each, safe on every system, and different where small and capital letters are one."""
    plain = {}
    for who in people:
        words = re.findall(r"[\w.]+", unicodedata.normalize("NFKC", _clean(who)).replace("\ufffd", " "))
        name = "-".join(words).strip(".-_") or "student"
        while len(name.encode()) > 100:
            name = name[:-1]
        reserved = re.fullmatch(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", name, re.IGNORECASE)
        plain[who] = f"student-{name}" if reserved else name
    same = Counter(unicodedata.normalize("NFKC", name.casefold()) for name in plain.values())

    def unique(who: str) -> str:
        name = plain[who]
        if same[unicodedata.normalize("NFKC", name.casefold())] > 1:
            name += "-" + hashlib.sha256(who.encode("utf-8", "surrogatepass")).hexdigest()[:12]
        return f"{name}.html"

    return {who: unique(who) for who in plain}


# Rows by person


_NAMELESS = "Your exercises"


def _people(rows: Iterable[Row]) -> dict[str, list[Row]]:
    """Rows by whose they are. Rows without a name are one person's, unless two are of one chapter."""
    people: dict[str, list[Row]] = {}
    nameless = [row for row in rows if not row.student]
    one = len({row.chapter for row in nameless}) == len(nameless)
    for row in rows:
        people.setdefault(row.student or (_NAMELESS if one else row.file), []).append(row)
    return people


def _counting(people: Mapping[str, Sequence[Row]]) -> Iterator[tuple[str, Row]]:
    """For each person and chapter the row that counts: the best that was graded, or else the first."""
    for who, rows in people.items():
        best: dict[str, Row] = {}
        for row in rows:
            held = best.get(row.chapter)
            if held is None or _rank(row) > _rank(held):
                best[row.chapter] = row
        for row in best.values():
            yield who, row


def _rank(row: Row) -> tuple[bool, int]:
    return row.status == "graded", row.points


@functools.cache
def _title(number: str) -> str:
    """The chapter as people call it: "01 Dot product attention"."""
    module = chapters().get(number)
    words = module.removeprefix(f"ch{number}_").replace("_", " ") if module else ""
    return f"{number} {words[:1].upper()}{words[1:]}".strip() if number else "Chapter not known"


# CSV


def _grades_csv(rows: Iterable[Row], fenced: bool) -> str:
    """A line for each question of each submission; one without questions where nothing was graded."""
    heading = (
        "student,file,chapter,status,points,out of,question,question status,question points,question out of"
    )
    table: list[Sequence[Any]] = [[*heading.split(","), "mistakes", "note", "fenced"]]
    for row in rows:
        graded = row.status == "graded"
        head = [_cell(row.student), _cell(row.file), _cell(row.chapter), row.status]
        head += [str(row.points), str(row.out_of)] if graded else ["", ""]
        tail = [_cell(row.note), "yes" if fenced else "no"]
        for q in row.questions:
            points = [q.points, q.out_of] if graded else ["", ""]
            table.append([*head, _cell(q.id), q.status, *points, _cell("; ".join(q.mistakes)), *tail])
        if not row.questions:
            table.append([*head, "", "", "", "", "", *tail])
    return _csv(table)


def _canvas_csv(
    rows: Sequence[Row], exercises: Mapping[str, Exercise], roster: Mapping[str, Mapping[str, str]]
) -> str:
    """The gradebook in the form that Canvas exports and imports.

    A heading that ends in a number in parentheses would mean to Canvas the assignment with that id, so the
    points stand in the second row only.
    """
    people = _people([row for row in rows if row.student])
    numbers = sorted({row.chapter for row in rows} - {""})
    out_of = dict.fromkeys(numbers, 0)
    for exercise in exercises.values():
        if exercise.id[:2] in out_of:
            out_of[exercise.id[:2]] += exercise.points
    marks: dict[tuple[str, str], int] = {}
    for who, row in _counting(people):
        if row.status == "graded":
            marks[who, row.chapter] = row.points
    for row in rows:
        if row.status == "graded" and not any(id.startswith(f"{row.chapter}.") for id in exercises):
            out_of[row.chapter] = max(out_of[row.chapter], row.out_of)
    table: list[Sequence[Any]] = [
        ["Student", *CANVAS, *map(_title, numbers)],
        ["    Points Possible", *[""] * len(CANVAS), *(out_of[number] for number in numbers)],
    ]
    for who in sorted({*people, *roster}, key=lambda who: (who.casefold(), who)):
        known = roster.get(who, {})
        ids = [_cell(known.get(column, "")) for column in CANVAS]
        own = [marks.get((who, number), "") for number in numbers]
        table.append([_cell(known.get("Student") or who), *ids, *own])
    return _csv(table)


def _csv(table: Iterable[Sequence[Any]]) -> str:
    buffer = io.StringIO(newline="")
    csv.writer(buffer, lineterminator="\n").writerows(table)
    return buffer.getvalue()


# Gradescope


def gradescope(*rows: Row) -> dict[str, Any]:
    """The rows of one student as Gradescope's results.json.

    Gradescope takes no result without a number: what could not be graded gets 0 there, and says that this is
    not a mark.
    """
    tests = []
    for _, row in _counting({"": rows}):
        if row.status != "graded":
            told = f"{row.status}: {_line(row.note) or _WHY[row.status]}\n"
            told += "This could not be graded. Gradescope needs a number, so it shows 0: that is not a mark."
            name = _line(row.file) or "the notebook"
            tests.append(_gradescope_test(name, 0, row.out_of, False, told))
        else:
            tests += [
                _gradescope_test(q.id, q.points, q.out_of, q.status == "right", _said(q))
                for q in row.questions
            ]
    return {
        "score": sum(test["score"] for test in tests),
        "output": "Marks are given on other inputs than those in the notebook.",
        "output_format": "text",
        "test_output_format": "text",
        "test_name_format": "text",
        "visibility": "visible",
        "stdout_visibility": "hidden",
        "tests": tests,
    }


def _gradescope_test(name: str, points: int, out_of: int, passed: bool, output: str) -> dict[str, Any]:
    return {
        "name": name,
        "score": points,
        "max_score": out_of,
        "status": "passed" if passed else "failed",
        "output": output,
        "output_format": "text",
        "visibility": "visible",
    }


def _said(question: Question) -> str:
    """All that is said of an answer; a mistake that the text does not name is added."""
    lines = [_short(question.text)]
    lines += [f"This looks like a known mistake: {m}." for m in question.mistakes if m not in question.text]
    return "\n".join(lines)


# The page of a student


@functools.cache
def _pages() -> Environment:
    return Environment(
        loader=PackageLoader("attn.grading", "pages"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def _page(template: str, **values: Any) -> str:
    return _clean(_pages().get_template(template).render(**values))


def _outcome(question: Question) -> str:
    """A question's status, with what is partly right apart."""
    return "partly right" if question.status == "wrong" and question.points else question.status


_LOOKS = {  # which of the styles an outcome has
    "right": "right",
    "partly right": "partly",
    "wrong": "wrong",
    "blank": "blank",
    "timeout": "stopped",
    "crashed": "stopped",
    "out of memory": "stopped",
}


def _kind(line: str) -> str:
    """What a line of the text about an answer is, for its looks."""
    for start, kind in {
        "  ✓ ": "passed",
        "  ✗ ": "failed",
        "  in the line: ": "code",
        "This looks like a known mistake": "mistake",
        "Think: ": "think",
    }.items():
        if line.startswith(start):
            return kind
    return "plain"


def _asked(question: Question, exercises: Mapping[str, Exercise]) -> dict[str, Any]:
    exercise = exercises.get(question.id)
    lines = [line for line in _said(question).split("\n") if line.strip()]
    return {
        "id": question.id,
        "name": question.id.partition(".")[2] or question.id,
        "kind": exercise.kind if exercise else "",
        "outcome": _outcome(question),
        "look": _LOOKS[_outcome(question)],
        "points": question.points,
        "out_of": question.out_of,
        "lines": [{"kind": _kind(line), "text": line.strip()} for line in lines],
    }


def _feedback(who: str, rows: Sequence[Row], exercises: Mapping[str, Exercise]) -> dict[str, Any]:
    counted = [row for _, row in _counting({who: rows})]
    graded = [row for row in counted if row.status == "graded"]
    done = {row.chapter for row in graded}
    open_questions = [
        q.id for row in sorted(graded, key=_place) for q in row.questions if q.status != "right"
    ]
    return {
        "who": _line(who),
        "points": sum(row.points for row in graded),
        "out_of": sum(row.out_of for row in graded),
        "graded": len(graded),
        "open": open_questions,
        "notebooks": [
            {
                "title": _title(row.chapter) if row.chapter else _line(row.file) or "Nothing handed in",
                "file": _line(row.file),
                "status": row.status,
                "why": _line(row.note) or _WHY.get(row.status, ""),
                "points": row.points,
                "out_of": row.out_of,
                "counts": row in counted or row.chapter not in done,
                "questions": [_asked(q, exercises) for q in row.questions] if row.status == "graded" else [],
            }
            for row in sorted(rows, key=_place)
        ],
    }


def _place(row: Row) -> tuple[str, str]:
    return row.chapter, row.file


# The page on the class


@dataclass(frozen=True)
class _Bar:
    """One bar of a distribution, in the units of its drawing."""

    label: str
    count: int
    x: float
    width: float
    height: float


def _distribution(marks: Sequence[int], out_of: int) -> list[_Bar]:
    """How many have which mark. More than 21 marks are put together, so that bars stay readable."""
    step = max(1, math.ceil((out_of + 1) / 21))
    counts = Counter(min(max(mark, 0), out_of) // step for mark in marks)
    bins = range(out_of // step + 1)
    most = max(counts.values(), default=1)
    width = 320 / len(bins)
    return [
        _Bar(
            label=_span(i * step, min((i + 1) * step - 1, out_of)),
            count=counts[i],
            x=round(i * width, 2),
            width=round(width, 2),
            height=round(60 * counts[i] / most, 2),
        )
        for i in bins
    ]


def _span(first: int, last: int) -> str:
    return str(first) if first == last else f"{first}\u2013{last}"


def _percent(part: int, whole: int) -> int:
    return round(100 * part / whole) if whole else 0


def _class(
    rows: Sequence[Row],
    people: Mapping[str, Sequence[Row]],
    names: Mapping[str, str],
    exercises: Mapping[str, Exercise],
    fenced: bool,
) -> dict[str, Any]:
    counted = list(_counting(people))
    numbers = sorted({row.chapter for row in rows} - {""})
    about = [
        _chapter(number, [row for _, row in counted if row.chapter == number], exercises)
        for number in numbers
    ]
    places = {(who, row.chapter): row for who, row in counted}
    statuses = [status for status in _STATUSES if any(row.status == status for row in rows)]
    return {
        "warning": "" if fenced else UNFENCED,
        "people": len(people),
        "rows": len(rows),
        "graded": sum(row.status == "graded" for row in rows),
        "several": any(
            n > 1 for n in Counter((row.student, row.chapter) for row in rows if row.student).values()
        ),
        "chapters": about,
        "topics": _topics(about),
        "statuses": statuses,
        "by_chapter": [
            {
                "title": _title(number),
                "counts": [
                    sum(row.chapter == number and row.status == status for row in rows) for status in statuses
                ],
            }
            for number in sorted({row.chapter for row in rows})
        ],
        "not_graded": [
            {
                "who": _line(row.student),
                "file": _line(row.file),
                "status": row.status,
                "why": _line(row.note) or _WHY[row.status],
            }
            for row in rows
            if row.status != "graded"
        ],
        "numbers": numbers,
        "students": [
            {
                "who": _line(who),
                "page": f"feedback/{names[who]}",
                "cells": [_in_table(places.get((who, number))) for number in numbers],
                "points": sum(places[who, n].points for n in numbers if _graded(places.get((who, n)))),
                "any": any(_graded(places.get((who, n))) for n in numbers),
            }
            for who in people
        ],
    }


def _graded(row: Row | None) -> bool:
    return row is not None and row.status == "graded"


def _in_table(row: Row | None) -> dict[str, Any]:
    if row is None:
        return {"text": "", "mark": False}
    return (
        {"text": f"{row.points} / {row.out_of}", "mark": True}
        if _graded(row)
        else {"text": row.status, "mark": False}
    )


def _chapter(number: str, rows: Sequence[Row], exercises: Mapping[str, Exercise]) -> dict[str, Any]:
    graded = [row for row in rows if row.status == "graded"]
    answers: defaultdict[str, list[Question]] = defaultdict(list)
    for row in graded:
        for question in row.questions:
            answers[question.id].append(question)
    order = [id for id in exercises if id in answers] + sorted(set(answers) - set(exercises))
    marks = [row.points for row in graded]
    out_of = max((row.out_of for row in graded), default=0)
    return {
        "number": number,
        "title": _title(number),
        "graded": len(graded),
        "out_of": out_of,
        "median": f"{statistics.median(marks):g}" if marks else "",
        "bars": _distribution(marks, out_of),
        "questions": [_question(id, answers[id], exercises.get(id)) for id in order],
    }


def _question(id: str, answers: Sequence[Question], exercise: Exercise | None) -> dict[str, Any]:
    outcomes = Counter(map(_outcome, answers))
    # What is right can bear the name of an equivalent way; that is no misconception.
    named = Counter(name for q in answers if q.status != "right" for name in set(q.mistakes))
    hints = {mistake.name: mistake.hint for mistake in exercise.mistakes} if exercise else {}
    out_of = max(q.out_of for q in answers)
    unexplained = sum(q.status == "wrong" and not q.mistakes for q in answers)
    return {
        "id": id,
        "name": id.partition(".")[2] or id,
        "kind": exercise.kind if exercise else "",
        "answers": len(answers),
        "out_of": out_of,
        "mean": f"{statistics.fmean(q.points for q in answers):.1f}",
        "bars": _distribution([q.points for q in answers], out_of),
        "outcomes": [
            {
                "name": name,
                "look": look,
                "count": outcomes[name],
                "percent": 100 * outcomes[name] / len(answers),
            }
            for name, look in _LOOKS.items()
            if outcomes[name]
        ],
        "mistakes": [
            {
                "name": name,
                "hint": hints.get(name, ""),
                "count": count,
                "percent": _percent(count, len(answers)),
            }
            for name, count in sorted(named.items(), key=lambda item: (-item[1], item[0]))
        ],
        "unexplained": unexplained,
        "blank": outcomes["blank"],
    }


def _topics(about: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """What to talk about next: the mistakes that most students share, then what many left blank."""
    shared, blank = [], []
    for chapter in about:
        for question in chapter["questions"]:
            told = {"question": question["id"], "answers": question["answers"]}
            shared += [told | mistake for mistake in question["mistakes"] if mistake["count"] > 1]
            if question["blank"] > 1 and 4 * question["blank"] >= question["answers"]:
                share = _percent(question["blank"], question["answers"])
                hint = "Is the question clear, and was there time for it?"
                blank.append(
                    told | {"name": "left blank", "count": question["blank"], "percent": share, "hint": hint}
                )

    def most(topic: dict[str, Any]) -> tuple[int, int, str, str]:
        return -topic["count"], -topic["percent"], topic["question"], topic["name"]

    return sorted(shared, key=most)[:5] + sorted(blank, key=most)[:2]


# The table in the terminal


def terminal(rows: Sequence[Row], *, fenced: bool) -> RenderableType:
    """The rows as a table: a line for each, all in words, then what the class has in common."""
    table = Table(box=None, header_style="bold", pad_edge=False, expand=True)
    one = len({row.student for row in rows}) == 1
    # The last column takes the width that is left, and is cut where that is too little.
    table.add_column("Notebook" if one else "Student", no_wrap=True, overflow="ellipsis", max_width=24)
    table.add_column("Ch.", no_wrap=True)
    table.add_column("Status", no_wrap=True)
    table.add_column("Points", no_wrap=True, justify="right")
    table.add_column("Not right yet", no_wrap=True, overflow="ellipsis", ratio=1)
    for row in rows:
        graded = row.status == "graded"
        name = row.file.rpartition("/")[2] if one or not row.student else row.student
        table.add_row(
            Text(_line(name) or _line(row.student)),
            Text(_line(row.chapter)),
            Text(row.status, style="" if graded else "yellow"),
            Text(f"{row.points} of {row.out_of}" if graded else ""),
            Text(_not_right(row) if graded else _line(row.note) or _WHY[row.status]),
        )
    statuses = Counter(row.status for row in rows)
    said = ", ".join(f"{statuses[status]} {status}" for status in get_args(RowStatus) if statuses[status])
    lines = [Text(f"{len(rows)} {'submission' if len(rows) == 1 else 'submissions'}: {said}")]
    counted = [row for _, row in _counting(_people(rows)) if row.status == "graded"]
    if counted:
        points, out_of = sum(row.points for row in counted), sum(row.out_of for row in counted)
        lines.append(Text(f"{points} of {out_of} points ({_percent(points, out_of)} %)"))
    named = Counter(
        (q.id, name)
        for row in counted
        for q in row.questions
        if q.status != "right"
        for name in set(q.mistakes)
    )
    if named:
        [((id, name), count), *_] = sorted(named.items(), key=lambda item: (-item[1], item[0]))
        lines.append(Text(f"most frequent mistake: {_line(name)} ({id}, {count} of {len(counted)})"))
    parts: list[RenderableType] = [table, Text(""), *lines]
    if not fenced:
        parts += [Text(""), Panel(Text(UNFENCED, style="bold"), title="NO FENCE", border_style="red")]
    return Group(*parts)


def _not_right(row: Row) -> str:
    """The questions that are not right, by what they are: "wrong: attention, masks; blank: weights"."""
    names: defaultdict[str, list[str]] = defaultdict(list)
    for question in row.questions:
        names[question.status].append(question.id.partition(".")[2] or question.id)
    names.pop("right", None)
    return _line("; ".join(f"{status}: {', '.join(ids)}" for status, ids in names.items())) or "all is right"
