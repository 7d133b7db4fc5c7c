"""Reports: marks arrive in every file, nothing from outside breaks one, and a failed run destroys none."""

import csv
import io
import json
import os
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.console import Console

from attn.grading import reports
from attn.grading.exercise import Exercise, Mistake, chapter, values
from attn.grading.marks import Question, Row

SCALE = "the scores are not scaled"
EXERCISES = {
    "01.attention": Exercise(
        "01.attention",
        "implement",
        (),
        None,
        values("matrices", "a mask"),
        (Mistake(SCALE, "what is d_k?", None),),
    ),
    "01.weights": Exercise("01.weights", "predict", (), None, values("weights"), ()),
    "03.mask": Exercise("03.mask", "design", (), None, values("a", "b", "c"), ()),
}


def question(id: str = "01.attention", status: str = "right", points: int = 2, **changes) -> Question:
    exercise = EXERCISES[id]
    cases = {case.name: i < points for i, case in enumerate(exercise.cases)}
    lines = [f"{exercise.name}: {points} of {len(cases)} cases pass."]
    lines += [f"  {'✓' if ok else '✗'} {name}" for name, ok in cases.items()]
    mistakes = changes.get("mistakes", ())
    lines += [f"This looks like a known mistake: {name}.\nThink: what is d_k?" for name in mistakes]
    default = Question(id, status, points, exercise.points, cases, (), "\n".join(lines))
    return replace(default, **changes)


def row(student: str, *questions: Question, chapter: str = "01", **changes) -> Row:
    default = Row(
        student,
        f"{student}/{chapter}_x.ipynb",
        chapter,
        "graded",
        sum(q.points for q in questions),
        sum(q.out_of for q in questions),
        questions,
    )
    return replace(default, **changes)


def not_graded(student: str, status: str, **changes) -> Row:
    return replace(Row(student, f"{student}/x.ipynb", "01", status, 0, 3), **changes)


WRONG = question(status="wrong", points=1, mistakes=(SCALE,))
CLASS = [
    row("Ann", question(), question("01.weights", points=1)),
    row("Ben", WRONG, question("01.weights", "blank", 0)),
    row("Ben", question("03.mask", points=3), chapter="03"),
    row("Cem", WRONG, question("01.weights", "blank", 0)),
    row("Dee", replace(WRONG, points=0), question("01.weights", "timeout", 0)),
    not_graded("Eve", "timeout"),
    not_graded("Fay", "unreadable", note="not JSON"),
    Row("Gil", "Gil", "", "missing", 0, 0, note="no notebook (.ipynb) there"),
]


def write(rows, folder: Path, fenced: bool = True, **others) -> list[Path]:
    return reports.write(rows, folder, fenced=fenced, exercises=EXERCISES, **others)


def table(path: Path) -> list[list[str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


class Page(HTMLParser):
    """What a page shows, and what it is made of. Fails where a tag is not closed."""

    def __init__(self, path: Path):
        super().__init__()
        self.shown, self.tags, self.attributes, self.open = [], [], [], []
        self.feed(path.read_text(encoding="utf-8"))
        self.close()
        assert self.open == []
        self.text = " ".join(" ".join(self.shown).split())

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.shown.append(data)


# Marks arrive


def test_all_reports_are_written(tmp_path):
    paths = write(CLASS, tmp_path)
    there = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file())
    pages = [f"feedback/{name}.html" for name in ("Ann", "Ben", "Cem", "Dee", "Eve", "Fay", "Gil")]
    assert there == sorted(["grades.json", "grades.csv", "canvas.csv", "class.html", *pages])
    assert sorted(paths) == sorted(tmp_path / name for name in there)


def test_json_comes_back(tmp_path):
    write(CLASS, tmp_path)
    assert reports.read(tmp_path) == CLASS
    data = json.loads((tmp_path / "grades.json").read_text())
    assert (data["version"], data["fenced"]) == (1, True)


def test_csv_has_a_line_for_each_question(tmp_path):
    write(CLASS, tmp_path, fenced=False)
    heading, *lines = table(tmp_path / "grades.csv")
    lines = [dict(zip(heading, line, strict=True)) for line in lines]
    assert len(lines) == 9 + 3
    ben = next(line for line in lines if line["student"] == "Ben" and line["question"] == "01.attention")
    assert (ben["points"], ben["out of"], ben["question points"], ben["question out of"]) == (
        "1",
        "3",
        "1",
        "2",
    )
    assert (ben["status"], ben["question status"], ben["mistakes"]) == ("graded", "wrong", SCALE)
    fay = next(line for line in lines if line["student"] == "Fay")
    assert (fay["status"], fay["points"], fay["question points"], fay["note"]) == (
        "unreadable",
        "",
        "",
        "not JSON",
    )
    assert {line["fenced"] for line in lines} == {"no"}


def test_canvas(tmp_path):
    roster = {
        "Ann": {
            "Student": "Ash, Ann",
            "ID": "12",
            "SIS User ID": "S1",
            "SIS Login ID": "aash",
            "Section": "A",
        },
        "Hal": {"Student": "Hill, Hal", "ID": "13"},
    }
    write(CLASS, tmp_path, roster=roster)
    heading, possible, *lines = table(tmp_path / "canvas.csv")
    assert heading[:5] == ["Student", "ID", "SIS User ID", "SIS Login ID", "Section"]
    assert heading[5] == "01 Dot product attention"
    assert heading[6].startswith("03")
    assert not any(re.search(r"\(\d+\)$", name) for name in heading)  # Canvas would take that as an id
    assert possible == ["    Points Possible", "", "", "", "", "3", "3"]
    marks = {line[0]: line[5:] for line in lines}
    assert lines[0] == ["Ash, Ann", "12", "S1", "aash", "A", "3", ""]
    assert marks["Ben"] == ["1", "3"]
    assert marks["Dee"] == ["0", ""]  # graded, and nothing right: that is a mark
    assert marks["Eve"] == marks["Fay"] == marks["Gil"] == marks["Hill, Hal"] == ["", ""]


def test_of_two_notebooks_of_a_chapter_the_better_counts(tmp_path):
    rows = [
        row("Ann", replace(WRONG, points=0), file="Ann/a.ipynb"),
        row("Ann", question(), file="Ann/b.ipynb"),
        not_graded("Ann", "crashed", file="Ann/c.ipynb"),
    ]
    write(rows, tmp_path)
    assert table(tmp_path / "canvas.csv")[2][5:] == ["2"]
    assert len(reports.read(tmp_path)) == 3
    page = Page(tmp_path / "feedback" / "Ann.html").text
    assert "2 of 2 points" in page
    assert page.count("That one counts.") == 2
    assert SCALE not in Page(tmp_path / "class.html").text.partition("What became of")[0]
    assert reports.gradescope(*rows)["score"] == 2


def test_two_notebooks_that_were_not_graded_hide_nothing(tmp_path):
    write([not_graded("Ann", "crashed", file=f"Ann/{i}.ipynb") for i in range(2)], tmp_path)
    page = Page(tmp_path / "feedback" / "Ann.html").text
    assert page.count("It was not graded") == 2
    assert "That one counts." not in page


def test_gradescope():
    results = reports.gradescope(CLASS[1])
    assert results["score"] == 1 == sum(test["score"] for test in results["tests"])
    assert [test["name"] for test in results["tests"]] == ["01.attention", "01.weights"]
    assert {"name", "score", "max_score", "status", "output", "output_format", "visibility"} <= set(
        results["tests"][0]
    )
    assert SCALE in results["tests"][0]["output"]
    assert {test["status"] for test in reports.gradescope(CLASS[0])["tests"]} == {"passed"}
    json.dumps(results, allow_nan=False)


@pytest.mark.parametrize("status", ["timeout", "crashed", "out of memory", "unreadable", "missing"])
def test_gradescope_says_that_a_status_is_not_a_mark(status):
    [test] = reports.gradescope(not_graded("Ann", status))["tests"]
    assert (test["score"], test["status"]) == (0, "failed")
    assert test["output"].startswith(status)
    assert "not a mark" in test["output"]


def test_gradescope_file_is_written_for_one_student_only(tmp_path):
    write(CLASS[1:3], tmp_path / "one")
    assert json.loads((tmp_path / "one" / "results.json").read_text())["score"] == 4
    write(CLASS, tmp_path / "class")
    assert not (tmp_path / "class" / "results.json").exists()


# The pages


def test_feedback_names_the_mistake_and_says_all_of_the_text(tmp_path):
    write(CLASS, tmp_path)
    page = Page(tmp_path / "feedback" / "Ben.html").text
    for words in (
        "4 of 6 points",
        "✗ a mask",
        "✓ matrices",
        SCALE,
        "Think: what is d_k?",
        "partly right",
        "blank",
    ):
        assert words in page
    assert "Ann" not in page.replace("Attention and", "")
    everything_right = Page(tmp_path / "feedback" / "Ann.html").text
    assert "Everything is right." in everything_right
    assert "It was not graded" in Page(tmp_path / "feedback" / "Eve.html").text


def test_a_mistake_that_the_text_does_not_name_is_named(tmp_path):
    write([row("Ann", replace(WRONG, text="no words"))], tmp_path)
    assert SCALE in Page(tmp_path / "feedback" / "Ann.html").text
    assert SCALE in reports.gradescope(row("Ann", replace(WRONG, text="no words")))["tests"][0]["output"]


def test_what_exercises_keep_hidden_is_on_no_page(tmp_path):
    """References, right answers and mistakes that nobody made do not come out with the rows."""
    bank = {exercise.id: exercise for exercise in chapter("01")}
    rows = []
    for student in ("Ann", "Ben"):
        blank = [
            Question(e.id, "wrong", 0, e.points, {case.name: False for case in e.cases}, (), "wrong")
            for e in bank.values()
        ]
        rows.append(row(student, *blank))
    reports.write(rows, tmp_path, fenced=True, exercises=bank)
    pages = [Page(path).text for path in tmp_path.rglob("*.html")]
    files = [path.read_text(encoding="utf-8") for path in tmp_path.rglob("*") if path.is_file()]
    for exercise in bank.values():
        for mistake in exercise.mistakes:
            if mistake.name not in [case.name for case in exercise.cases]:
                assert not any(mistake.hint in page for page in pages)
                assert not any(mistake.name in page for page in pages if len(mistake.name) > 25)
        if exercise.holds_values:
            assert not any(repr(exercise.reference) in text for text in files)


def test_class_page_ranks_the_misconceptions(tmp_path):
    write(CLASS, tmp_path)
    page = Page(tmp_path / "class.html")
    assert "7 students, 8 submissions, 5 of them graded." in page.text
    assert f"{SCALE} in 01.attention : 3 of 4 students (75 %)" in page.text
    assert "Ask: what is d_k?" in page.text
    assert "left blank in 01.weights : 2 of 4 students (50 %)" in page.text
    assert f"{SCALE} 3 students, 75 %" in page.text
    assert "1 right" in page.text
    assert "2 partly right" in page.text
    labels = [value for name, value in page.attributes if name == "aria-label"]
    assert "Students by points: 1 with 0, 2 with 1, 1 with 2." in labels  # of 01.attention
    assert "WITHOUT A FENCE" not in page.text
    for student in ("Eve", "Fay", "Gil"):
        assert re.search(rf": {student}\b", page.text)
    links = [value for name, value in page.attributes if name == "href"]
    assert all((tmp_path / link).is_file() for link in links)


def test_an_equivalent_answer_is_no_misconception(tmp_path):
    write([row("Ann", question(mistakes=(SCALE,))), row("Ben", question(mistakes=(SCALE,)))], tmp_path)
    assert SCALE not in Page(tmp_path / "class.html").text
    assert "No mistake is shared" in Page(tmp_path / "class.html").text


def test_without_a_fence_every_report_for_teachers_says_so(tmp_path):
    write(CLASS, tmp_path, fenced=False)
    assert "WITHOUT A FENCE" in Page(tmp_path / "class.html").text
    assert json.loads((tmp_path / "grades.json").read_text())["fenced"] is False
    assert "WITHOUT A FENCE" in printed(CLASS, fenced=False)
    assert "FENCE" not in printed(CLASS, fenced=True)


def test_pages_need_neither_network_nor_script(tmp_path):
    write(CLASS, tmp_path)
    for path in tmp_path.rglob("*.html"):
        page = Page(path)
        assert not {"script", "link", "img", "iframe", "form"} & set(page.tags)
        assert not any(name in ("src", "onclick") or "//" in (value or "") for name, value in page.attributes)
        text = path.read_text(encoding="utf-8")
        assert 'name="viewport"' in text
        assert "prefers-color-scheme: dark" in text
        assert 'lang="en"' in text


def test_many_marks_are_put_together_and_none_is_lost():
    bars = reports._distribution([0, 1, 1, 48, 47, 20], 48)
    assert len(bars) <= 21
    assert sum(bar.count for bar in bars) == 6
    assert [bars[0].label, bars[0].count, bars[-1].label] == ["0\u20132", 3, "48"]
    assert [bar.label for bar in reports._distribution([2], 2)] == ["0", "1", "2"]


# One learner


def test_a_learners_own_notebooks_are_one_page(tmp_path):
    rows = [
        row("", question(), file="01_x.ipynb"),
        row("", question("03.mask", "blank", 0), chapter="03", file="03_x"),
    ]
    write(rows, tmp_path)
    assert [path.name for path in (tmp_path / "feedback").iterdir()] == ["Your-exercises.html"]
    assert (tmp_path / "results.json").exists()


def test_nameless_notebooks_of_one_chapter_are_a_page_each(tmp_path):
    write([row("", question(), file=f"01_x ({i}).ipynb") for i in range(3)], tmp_path)
    assert len(list((tmp_path / "feedback").iterdir())) == 3


# What comes from outside


EVIL = [
    '=HYPERLINK("http://x","y")',
    "+1+cmd|' /C calc'!A0",
    "-2+3",
    "@SUM(A1)",
    "\t=1+1",
    "\uff1d1+1",
    "<script>alert(1)</script>",
    "\"'><img src=x onerror=alert(1)>",
    "{{ 7*7 }}{% raw %}",
    "a\x00b\x1b[31m\x07",
    "half \ud800 of a pair",
    "\u202egnirts",
    'two\nlines\r\nor, "three"',
    "../../etc/passwd",
    "CON",
    "",
    "x" * 400,
    "[red]markup[/red]",
]


@pytest.mark.parametrize("evil", EVIL)
def test_no_text_from_outside_breaks_a_report(tmp_path, evil):
    rows = [
        row(evil, replace(WRONG, text=evil + " " + evil, mistakes=(evil,)), file=evil + "/01.ipynb"),
        not_graded(evil + " 2", "unreadable", note=evil),
        row("Ann", question()),
    ]
    roster = {evil: {"Student": evil, "ID": "12", "SIS Login ID": evil}}
    paths = write(rows, tmp_path / "reports", roster=roster)
    assert sorted(reports.read(tmp_path / "reports"), key=repr) == sorted(rows, key=repr)
    assert all(path.resolve().is_relative_to((tmp_path / "reports").resolve()) for path in paths)
    for name in ("grades.csv", "canvas.csv"):
        for line in table(tmp_path / "reports" / name):
            for cell in line:
                assert not cell or cell[0] not in "=+-@\t\r\uff1d"
                assert "\n" not in cell
        assert len({len(line) for line in table(tmp_path / "reports" / name)}) == 1
    for path in (tmp_path / "reports").rglob("*.html"):
        page = Page(path)
        assert not {"script", "img"} & set(page.tags)
        assert "\x00" not in page.text
        assert "49" not in page.text
    shown = Page(tmp_path / "reports" / "class.html").text
    assert evil in shown or not evil.isprintable() or "  " in evil
    assert "\x1b" not in printed(rows, fenced=True)
    json.dumps(reports.gradescope(rows[0])).encode()


def test_numbers_stay_numbers(tmp_path):
    write([row("-12", question()), row("+3.5", question())], tmp_path, roster={"-12": {"ID": "0042"}})
    lines = table(tmp_path / "canvas.csv")[2:]
    assert lines == [["+3.5", "", "", "", "", "2"], ["-12", "0042", "", "", "", "2"]]


def test_very_long_text_is_cut_on_pages_only(tmp_path):
    write([row("Ann", replace(WRONG, text="spam " * 1_000_000))], tmp_path)
    assert (tmp_path / "feedback" / "Ann.html").stat().st_size < 50_000
    assert "characters more" in Page(tmp_path / "feedback" / "Ann.html").text
    assert len(reports.gradescope(reports.read(tmp_path)[0])["tests"][0]["output"]) < 6_000


@settings(deadline=None)
@given(names=st.lists(st.text(st.characters(codec=None), max_size=120), min_size=1, max_size=8, unique=True))
def test_file_names_are_safe_and_different(names):
    files = reports._file_names(names)
    assert files == reports._file_names(names[::-1])
    assert len({file.casefold() for file in files.values()}) == len(names)
    for file in files.values():
        assert re.fullmatch(r"[\w.-]+\.html", file)
        assert not file.startswith((".", "-"))
        assert len(file.encode()) <= 150
        assert not re.fullmatch(r"(con|nul|com1)\..*", file, re.IGNORECASE)


def test_names_that_would_share_a_file(tmp_path):
    names = [
        "Ann Lee",
        "ann-lee",
        "Ann/Lee",
        "ANN LEE",
        "Zo\u00eb",
        "Zoe\u0308",
        "?",
        "!",
        "x" * 200,
        "x" * 201,
        "Bo",
    ]
    write([row(name, question()) for name in names], tmp_path)
    files = [path.name.casefold() for path in (tmp_path / "feedback").iterdir()]
    assert len(set(files)) == len(names)
    assert "bo.html" in files


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25, deadline=None)
@given(names=st.lists(st.text(st.characters(codec=None), max_size=20), min_size=1, max_size=3, unique=True))
def test_any_names_give_whole_reports(tmp_path_factory, names):
    folder = tmp_path_factory.mktemp("any")
    rows = [row(name, WRONG) for name in names]
    write(rows, folder)
    assert sorted(reports.read(folder), key=repr) == sorted(rows, key=repr)
    assert len(list((folder / "feedback").iterdir())) == len(names)
    for path in folder.rglob("*.html"):
        Page(path)
    assert len(table(folder / "canvas.csv")) == 2 + sum(name != "" for name in names)


# Nothing is lost


def files_in(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_the_same_rows_give_the_same_bytes_in_any_order(tmp_path):
    write(CLASS, tmp_path / "one")
    write(CLASS[::-1], tmp_path / "two")
    assert files_in(tmp_path / "one") == files_in(tmp_path / "two")


def test_a_page_that_cannot_be_made_leaves_every_old_report(tmp_path, monkeypatch):
    write(CLASS, tmp_path)
    before = files_in(tmp_path)

    def fails(*arguments):
        raise RuntimeError("no page today")

    monkeypatch.setattr(reports, "_class", fails)
    with pytest.raises(RuntimeError, match="no page today"):
        write(CLASS[:2], tmp_path)
    assert files_in(tmp_path) == before


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_disk_that_fails_leaves_the_old_file_whole_and_nothing_beside_it(tmp_path, monkeypatch, step):
    write(CLASS, tmp_path)
    before = files_in(tmp_path)

    def fails(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, step, fails)
    with pytest.raises(OSError, match="No space"):
        write(CLASS[:2], tmp_path)
    assert files_in(tmp_path) == before


def test_what_is_no_report_is_not_read(tmp_path):
    said = set()
    write(CLASS, tmp_path / "good")
    good = json.loads((tmp_path / "good" / "grades.json").read_text())
    broken = [
        "",
        "[1]",
        json.dumps(good | {"version": 2}),
        json.dumps(good | {"rows": [{"student": "Ann"}]}),
        json.dumps(good | {"rows": [good["rows"][0] | {"status": "excellent"}]}),
        json.dumps(good | {"rows": [good["rows"][0] | {"points": "3"}]}),
        json.dumps(good | {"rows": [good["rows"][0] | {"points": True}]}),
        json.dumps(good | {"rows": [None]}),
    ]
    for text in broken:
        (tmp_path / "grades.json").write_text(text)
        with pytest.raises(ValueError, match=r"grades\.json") as error:
            reports.read(tmp_path)
        assert "\n" not in str(error.value)
        said.add(str(error.value))
    assert len(said) >= 5
    with pytest.raises(FileNotFoundError, match="no report"):
        reports.read(tmp_path / "nowhere")


# The table in the terminal


def printed(rows, *, fenced: bool, width: int = 80) -> str:
    console = Console(width=width, file=io.StringIO(), record=True, no_color=True)
    console.print(reports.terminal(rows, fenced=fenced))
    return console.export_text(styles=False)


@pytest.mark.parametrize("width", [80, 200])
def test_terminal(width):
    lines = printed(CLASS, fenced=True, width=width).splitlines()
    assert max(map(len, lines)) <= width
    table = {line.split()[0]: line for line in lines if line.split()}
    assert "graded" in table["Ann"]
    assert "3 of 3" in table["Ann"]
    assert "all is right" in table["Ann"]
    assert "unreadable" in table["Fay"]
    assert "not JSON" in table["Fay"]
    assert "8 submissions: 5 graded, 1 timeout, 1 unreadable, 1 missing" in "\n".join(lines)
    assert sum("Cem" in line for line in lines) == 1
    assert f"most frequent mistake: {SCALE} (01.attention, 3 of 5)" in "\n".join(lines)


def test_terminal_of_one_learner_lists_notebooks():
    text = printed([row("", WRONG, file="exercises/01_x.ipynb")], fenced=True)
    assert "01_x.ipynb" in text
    assert "wrong: attention" in text
    assert "1 submission: 1 graded" in text


def test_no_rows_at_all(tmp_path):
    write([], tmp_path)
    assert reports.read(tmp_path) == []
    assert "0 students" in Page(tmp_path / "class.html").text
    assert "0 submissions" in printed([], fenced=True)
