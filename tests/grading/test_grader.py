"""Grading as an instructor does it: every submission has its row, and its mark depends on nothing else."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pytest
from nbgrader.utils import is_solution

from attn.cli import main
from attn.grading import examine, fence, grader, load, reports
from attn.grading.calling import Asked
from attn.grading.checking import VISIBLE_SEED, judge
from attn.grading.exercise import chapter, chapters
from attn.grading.fence import Fence, Limits, NoFence, available
from attn.grading.grader import Settings, grade
from attn.grading.judge import _Asked, _Process, grade_notebook, hidden_seeds
from attn.grading.marks import Row
from attn.grading.student import questions, running, wire
from attn.grading.student.values import from_wire, to_wire
from attn.grading.submissions import find

ROOT = Path(__file__).resolve().parents[2]
fenced = pytest.mark.skipif(bool(available()), reason=available() or "there is a fence")
NAME = "01_dot_product_attention.ipynb"
OUT_OF = sum(exercise.points for exercise in chapter("01"))

NAIVE = "def stable_softmax(s):\n    return s.exp() / s.exp().sum(-1, keepdim=True)"  # 4 of 8 points


def solved(name: str = NAME) -> dict[str, str]:
    """The answers of solutions/, by their names."""
    cells = nbformat.read(ROOT / "solutions" / name, as_version=4).cells
    return {cell.metadata.nbgrader.grade_id: cell.source for cell in cells if is_solution(cell)}


def notebook(answers: dict[str, str] | None = None, name: str = NAME, **more: str) -> bytes:
    """The learner's notebook with these answers in it."""
    made = nbformat.read(ROOT / "exercises" / name, as_version=4)
    answers = {**(answers or {}), **more}
    for cell in made.cells:
        if is_solution(cell) and cell.metadata.nbgrader.grade_id in answers:
            cell.source = answers[cell.metadata.nbgrader.grade_id]
    return nbformat.writes(made).encode()


@pytest.fixture(scope="module")
def klass(tmp_path_factory) -> Path:
    """A folder of a class, one folder per student."""
    folder = tmp_path_factory.mktemp("class")
    handed_in = {
        "ada": notebook(solved()),
        "blaise": notebook(solved(), stable_softmax=NAIVE),
        "carl": notebook(),
        "dorothy": notebook(solved(), attention="def attention(q, k, v, mask=None):\n    while True: pass"),
        "emmy": b"not a notebook",
        "felix": notebook(solved(), passage_mask="import os\ndef passage_mask(p, q):\n    os._exit(0)"),
        "grace": notebook(solved(), scale_claim="import torch\nx = torch.ones(10**10)\nscale_claim = x"),
        "henri": notebook({"stable_softmax": solved()["stable_softmax"]}),
    }
    for student, content in handed_in.items():
        (folder / student).mkdir()
        (folder / student / NAME).write_bytes(content)
    (folder / "ida").mkdir()
    return folder


MARKS = {
    "ada": ("graded", OUT_OF),
    "blaise": ("graded", OUT_OF - 4),
    "carl": ("graded", 0),
    "dorothy": ("graded", OUT_OF - 10),
    "emmy": ("unreadable", 0),
    "felix": ("graded", OUT_OF - 3),
    "grace": ("graded", OUT_OF - 2),
    "henri": ("graded", 8),
    "ida": ("missing", 0),
}
QUICK = Limits(call=1.0)


def marks(rows: list[Row]) -> dict[str, tuple[str, int]]:
    return {row.student: (row.status, row.points) for row in rows}


@pytest.fixture(scope="module")
def rows(klass) -> list[Row]:
    if available():
        pytest.skip(available())
    return grade(find(klass), Settings(limits=QUICK))


@fenced
def test_every_submission_has_its_row_and_its_own_mark(rows):
    assert marks(rows) == MARKS
    by = {row.student: {q.id: q for q in row.questions} for row in rows}
    assert by["dorothy"]["01.attention"].status == "timeout"
    assert by["felix"]["01.passage_mask"].status == "crashed"
    assert by["grace"]["01.scale_claim"].status == "out of memory"
    assert by["blaise"]["01.stable_softmax"].mistakes == ("the scores go into exp as they are",)
    assert {q.status for q in by["carl"].values()} == {"blank"}
    assert {row.out_of for row in rows if row.status != "missing"} == {OUT_OF}


@fenced
@pytest.mark.parametrize("workers", [2, 3])
def test_marks_are_the_same_bytes_for_any_number_of_workers_and_any_order(klass, rows, workers, tmp_path):
    backwards = grade(find(klass)[::-1], Settings(limits=QUICK), workers=workers)
    assert sorted(backwards, key=lambda row: row.file + row.student) == sorted(
        rows, key=lambda row: row.file + row.student
    )
    exercises = {e.id: e for e in chapter("01")}
    for name, made in (("one", rows), ("many", backwards)):
        reports.write(made, tmp_path / name, fenced=True, exercises=exercises)
    for report in ("grades.json", "grades.csv", "canvas.csv", "class.html"):
        assert (tmp_path / "one" / report).read_bytes() == (tmp_path / "many" / report).read_bytes()


@fenced
def test_a_dask_cluster_gives_the_same_rows(klass, rows):
    distributed = pytest.importorskip("distributed")
    options = {"n_workers": 2, "threads_per_worker": 1, "processes": True, "dashboard_address": None}
    with distributed.LocalCluster(**options) as cluster:
        assert grade(find(klass), Settings(limits=QUICK), scheduler=cluster.scheduler_address) == rows


def test_without_a_fence_honest_marks_are_the_same(klass):
    found = [s for s in find(klass) if s.student in ("ada", "blaise", "carl", "dorothy", "felix", "henri")]
    expected = {student: mark for student, mark in MARKS.items() if student in {s.student for s in found}}
    assert marks(grade(found, Settings(fenced=False, limits=QUICK))) == expected


def test_where_nothing_can_be_forked_honest_marks_are_the_same(klass, monkeypatch):
    """As on Windows: each process starts anew and speaks over a port."""
    monkeypatch.setattr(fence, "_can_fork", lambda: False)
    found = [s for s in find(klass) if s.student in ("emmy", "felix", "henri")]
    expected = {student: MARKS[student] for student in ("emmy", "felix", "henri")}
    assert marks(grade(found, Settings(fenced=False))) == expected


@fenced
def test_a_run_that_was_killed_goes_on_where_it_stopped(klass, tmp_path):
    out = tmp_path / "grades"
    command = [sys.executable, "-m", "attn.cli", "grade", str(klass), "--out", str(out), "--seconds", "1"]
    journal = out / ".grading.jsonl"
    running = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 200
    while time.monotonic() < deadline and (not journal.exists() or journal.read_text().count('"key"') < 2):
        time.sleep(0.02)
    running.send_signal(signal.SIGKILL)
    running.wait()
    kept = journal.read_text()
    assert 2 <= kept.count('"key"') < len(MARKS), "it was killed in the middle"
    assert not (out / "grades.json").exists()
    journal.write_text(kept + '{"key": "half a li')
    made = []
    resumed = grade(find(klass), Settings(limits=QUICK), journal=journal, progress=lambda *x: made.append(x))
    assert marks(resumed) == MARKS
    assert journal.read_text().count('"key"') == len([s for s in MARKS.values() if s[0] == "graded"]) + 1 + 1
    subprocess.run(command, check=True, capture_output=True, timeout=200)
    assert not journal.exists()
    assert marks(reports.read(out)) == MARKS


def test_the_journal_forgets_what_would_be_graded_otherwise(klass, tmp_path, monkeypatch):
    graded = []

    def count(fence, notebook, **about):
        graded.append(notebook)
        return Row("", "", about["chapter_number"], "graded", len(graded), OUT_OF)

    monkeypatch.setattr(grader, "grade_notebook", count)
    monkeypatch.setattr(grader, "Fence", lambda **settings: nullcontext(SimpleNamespace(stop=int)))
    found, journal = [s for s in find(klass) if s.student == "ada"], tmp_path / "journal"
    for settings, runs in (
        (Settings(fenced=False), 1),
        (Settings(fenced=False), 1),
        (Settings(fenced=False, seed=7), 2),
        (Settings(fenced=False, limits=QUICK), 3),
    ):
        grade(found, settings, journal=journal)
        assert len(graded) == runs
    monkeypatch.setattr(grader, "_version", lambda: "another")
    grade(found, Settings(fenced=False), journal=journal)
    assert len(graded) == 4


@fenced
@pytest.mark.parametrize("name", sorted(path.name for path in (ROOT / "solutions").glob("*.ipynb")))
def test_solved_and_blank_notebooks_of_every_chapter(name, tmp_path):
    blank, full = tmp_path / "blank" / name, tmp_path / "full" / name
    for path, content in ((blank, notebook(name=name)), (full, notebook(solved(name), name=name))):
        path.parent.mkdir()
        path.write_bytes(content)
    points = sum(exercise.points for exercise in chapter(name[:2]))
    result = {row.file.partition("/")[0]: row for row in grade(find(tmp_path))}
    assert {q.status for q in result["full"].questions} == {"right"}, result["full"]
    assert (result["full"].points, result["full"].out_of) == (points, points)
    assert {q.status for q in result["blank"].questions} == {"blank"}
    assert result["blank"].points == 0


@fenced
def test_a_chapter_is_told_by_the_answers_where_the_name_says_nothing():
    about = {"student": "", "file": "my homework.ipynb", "chapter_number": "", "secret": 1}
    with Fence() as there:
        for number, module in chapters().items():
            name = f"{module.removeprefix('ch')}.ipynb"
            row = grade_notebook(there, notebook(solved(name), name=name), **about)
            assert (row.chapter, row.points) == (number, row.out_of)
        nothing = nbformat.writes(nbformat.v4.new_notebook()).encode()
        row = grade_notebook(there, nothing, **about)
    assert (row.status, row.note) == ("unreadable", "no answer of any chapter is in it")


def test_hidden_seeds_come_from_the_graders_own():
    assert hidden_seeds(1) == hidden_seeds(1)
    assert not {*hidden_seeds(1), VISIBLE_SEED} & {*hidden_seeds(2)}


@fenced
def test_an_answer_made_for_the_visible_inputs_loses_and_learns_nothing_of_the_hidden_ones():
    exercise = load("01.stable_softmax")
    visible = [
        (case.make(2017)[0].tolist(), exercise.reference(*case.make(2017)).tolist())
        for case in exercise.cases
    ]
    code = (
        "import torch\nseen = " + repr(visible).replace("inf", "float('inf')") + "\n"
        "def stable_softmax(s):\n"
        "    for x, y in seen:\n"
        "        x = torch.tensor(x, dtype=s.dtype)\n"
        "        if x.shape == s.shape and torch.allclose(x, s):\n"
        "            return torch.tensor(y, dtype=s.dtype)\n"
        "    return torch.sigmoid(s)"
    )
    space: dict = {}
    exec(code, space)
    assert examine(exercise, space["stable_softmax"]).status == "right", "the notebook cannot know"
    with Fence() as there:
        row = grade_notebook(
            there, notebook(stable_softmax=code), student="", file="", chapter_number="01", secret=9
        )
    question = next(q for q in row.questions if q.id == exercise.id)
    assert (question.status, question.points) == ("wrong", 0)
    assert "a sigmoid of each score" in question.mistakes
    assert "with others of the same kind not" in question.text
    assert "[" not in question.text.replace("[...]", ""), "no number of a hidden input is shown"


class Beside:
    """A line to an answer that is called in this process, with the real frames in between."""

    def __init__(self, answer):
        self.answer, self.waiting = answer, []
        self.case = None  # that is asked for: what a test tests is not told to its process

    def send(self, kind, request, body, seconds=None):
        body = over(kind, body)
        if kind is wire.Kind.QUESTION:
            self.question, self.seconds = running.Question(*body[:4]), body[4]
        elif kind is wire.Kind.CALL:
            self.waiting.append(body)

    def receive(self, kinds, request, seconds=None):
        case, inputs, gradients = self.waiting.pop()
        handed = from_wire(inputs)
        if self.question.kind == "find the bug":
            handed = (self.implementation(),)
        outcome = running.run(
            self.question, self.answer, case, handed, gradients=gradients, seconds=self.seconds
        )
        return wire.Kind.OUTCOME, request, over(wire.Kind.OUTCOME, questions._body(outcome))

    def implementation(self):
        asked = Asked(self.case.make(1)[0])

        def call(*arguments, **named):
            body = (to_wire(arguments), tuple(named), tuple(to_wire(x) for x in named.values()))
            positional, names, values = over(wire.Kind.ASK, body)
            return running.given(
                over(wire.Kind.GIVE, asked.reply(positional, dict(zip(names, values, strict=True))))
            )

        return call


def over(kind, body):
    """What arrives at the other end of the wire."""
    return wire.unpack(wire.pack(kind, 1, body), kind, 1)


@pytest.mark.parametrize("chapter_number", list(chapters()))
def test_the_grader_says_of_every_bank_entry_what_the_notebook_says(chapter_number):
    for exercise in chapter(chapter_number):
        for answer in (*(m.answer for m in exercise.mistakes), *exercise.right):
            here, there = examine(exercise, answer), over_the_wire(exercise, answer)
            assert (there.points, there.mistakes, there.text) == (here.points, here.mistakes, here.text)


def over_the_wire(exercise, answer):
    line = Beside(answer)
    session = SimpleNamespace(process=lambda: line)
    submission = SimpleNamespace(seconds=5.0, seconds_left=100.0)
    asked = _Asked(_Process(submission, session), exercise)

    def call(case, seed):
        line.case = case
        return asked.call(case, seed)

    return judge(exercise, call)


# The command


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def complaint(capsys) -> str:
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("attn")
    assert err.count("\n") == 1, err
    return err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "what is to be graded"),
        (["nowhere"], "no file or folder nowhere"),
        (["empty"], "the folder empty is empty"),
        (["texts"], "no notebook"),
        (["texts/a.txt"], "a.txt"),
        (["class", "--chapter", "77"], "no exercises for chapter '77'"),
        (["class", "--workers", "0"], "--workers"),
        (["class", "--seconds", "nan"], "--seconds"),
        (["class", "--roster", "nowhere.csv"], "nowhere.csv"),
        (["class", "--out", "texts/a.txt"], "cannot write reports"),
        (["--export", "moodle", "there"], "gradescope and otter"),
        (["class", "--scheduler", "tcp://127.0.0.1:9"], "no Dask scheduler answers at tcp://127.0.0.1:9"),
    ],
)
def test_bad_input_is_one_clear_line_and_nothing_is_written(
    arguments, words, folder, klass, capsys, monkeypatch
):
    monkeypatch.setattr(grader, "_CONNECTING", 1)
    for name in ("empty", "texts"):
        (folder / name).mkdir()
    (folder / "texts" / "a.txt").write_text("no notebook")
    (folder / "class").symlink_to(klass)
    before = sorted(folder.rglob("*"))
    if "--scheduler" in arguments:
        pytest.importorskip("distributed")
    assert main(["grade", *arguments]) == 2
    assert words in complaint(capsys)
    assert sorted(folder.rglob("*")) == before


@fenced
def test_a_failed_run_leaves_earlier_reports_as_they_were(folder, klass, capsys):
    shutil.copytree(klass / "ada", folder / "ada")
    assert main(["grade", "ada"]) == 0
    before = {path: path.read_bytes() for path in sorted((folder / "grades").rglob("*")) if path.is_file()}
    capsys.readouterr()
    for arguments in (["nowhere"], ["ada", "--chapter", "77"], ["ada", "--scheduler", "tcp://127.0.0.1:9"]):
        assert main(["grade", *arguments]) == 2
    assert before == {p: p.read_bytes() for p in sorted((folder / "grades").rglob("*")) if p.is_file()}


def test_no_fence_is_said_and_asks_for_unfenced(folder, klass, capsys, monkeypatch):
    monkeypatch.setattr(fence.shutil, "which", lambda name: None)
    assert main(["grade", str(klass)]) == 2
    assert "bubblewrap is not installed" in (said := complaint(capsys))
    assert "--unfenced" in said
    shutil.copytree(klass / "ada", folder / "ada")
    assert main(["grade", "ada", "--unfenced"]) == 0
    out = capsys.readouterr().out
    assert "WITHOUT A FENCE" in out
    assert "false" in (folder / "grades" / "grades.json").read_text()


@fenced
def test_a_fence_that_does_not_work_is_no_fence(monkeypatch, tmp_path):
    broken = tmp_path / "bwrap"
    broken.write_text("#!/bin/sh\necho 'bwrap: no permissions to create a new namespace' >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(NoFence, match="no permissions to create a new namespace"), Fence():
        pass


def test_grading_is_told_to_the_learner_as_progress(folder, capsys):
    for name in ("notebooks", "docs", "exercises"):
        (folder / name).mkdir()
    (folder / "docs" / "concepts.md").write_text("")
    (folder / "exercises" / NAME).write_bytes(notebook(solved(), stable_softmax=NAIVE))
    assert main(["progress"]) == 0
    out = capsys.readouterr().out
    assert f"{OUT_OF - 4} of {OUT_OF}" in out
    assert f"Next: stable_softmax in exercises/{NAME} (8 points)." in " ".join(out.split())


def test_the_self_test_meets_its_bars(capsys):
    assert main(["grade", "--self-test", "--chapter", "01"]) == 0
    out = capsys.readouterr().out
    assert "117 of 117 mistakes caught" in out
    assert "MISSED" not in out


@fenced
def test_a_warm_process_that_dies_is_started_anew():
    with Fence() as there:
        first = there._process
        first.kill()
        first.wait()
        row = grade_notebook(there, notebook(solved()), student="", file="", chapter_number="01", secret=1)
        assert (row.status, row.points) == ("graded", OUT_OF)
        assert there._process is not first


def test_rows_survive_json():
    row = Row("a", "b", "01", "graded", 1, 2, (), "c")
    assert Row.from_json(json.loads(json.dumps(row.as_json()))) == row
