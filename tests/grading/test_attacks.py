"""The grader under attack: submissions through the real fence and judge, hostile frames at the judge alone.

No attack earns more than its notebook deserves, costs the honest answers beside it a mark, leaves anything
behind for the next submission, or makes the judge fail.
"""

import ctypes
import math
import os
import random
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from attn.grading import examine, load
from attn.grading.calling import call, question_of
from attn.grading.checking import VISIBLE_SEED, judge
from attn.grading.exercise import Case, Exercise, chapter, chapters
from attn.grading.fence import PACKAGE, Fence, Limits, available
from attn.grading.judge import _Asked, _Process, grade_notebook, hidden_seeds
from attn.grading.marks import Row
from attn.grading.self_test import worthless
from attn.grading.student.running import Outcome, run
from attn.grading.student.values import Array, to_wire, word
from attn.grading.student.wire import HEADER, Kind, Line, pack, unpack_header
from tests.grading.attacks import (
    ANY,
    FULL,
    HUNTERS,
    SECRET,
    Submission,
    _function,
    attacks,
    hunting,
    oddities,
    solved,
)

ROOT = Path(__file__).resolve().parents[2]
fenced = pytest.mark.skipif(bool(available()), reason=available() or "there is a fence")
ATTACKS, ODDITIES = attacks(), oddities()


@pytest.fixture(scope="module")
def patient() -> Iterator[Fence]:
    """Limits that nothing honest meets on a busy machine."""
    with Fence(limits=Limits(call=30)) as fence:
        yield fence


@pytest.fixture(scope="module")
def quick() -> Iterator[Fence]:
    """For what takes as long as it may."""
    with Fence(limits=Limits(call=1)) as fence:
        yield fence


def graded(fence: Fence, submission: Submission) -> Row:
    number = submission.chapter
    return grade_notebook(
        fence, submission.notebook(), student="", file="", chapter_number=number, secret=SECRET
    )


def complaints(submission: Submission, row: Row) -> list[str]:
    """Where the row is not what the submission deserves."""
    if row.status != "graded":
        return [f"{row.status}: {row.note}"]
    found = []
    for question in row.questions:
        name = question.id.partition(".")[2]
        deserved = submission.deserves.get(name, 0)
        deserved = question.out_of if deserved == FULL else deserved
        if deserved not in (ANY, question.points):
            found.append(f"{name}: {question.points} points instead of {deserved}: {question.text}")
        if submission.says.get(name, "") not in question.text:
            found.append(f"{name} does not say {submission.says[name]!r}: {question.text}")
        if submission.status.get(name, question.status) != question.status:
            found.append(f"{name}: {question.status} instead of {submission.status[name]}")
    return found


def test_there_are_enough_of_them():
    assert len(ATTACKS) >= 100
    assert len(ODDITIES) >= 50
    names = [submission.name for submission in (*ATTACKS, *ODDITIES)]
    assert len(set(names)) == len(names)


@fenced
@pytest.mark.parametrize("submission", ATTACKS, ids=str)
def test_an_attack_earns_nothing_and_costs_its_neighbours_nothing(submission, patient, quick):
    assert not complaints(submission, graded(quick if submission.hangs else patient, submission))


@fenced
@pytest.mark.parametrize("submission", ODDITIES, ids=str)
def test_what_is_odd_and_right_keeps_its_marks(submission, patient):
    assert not complaints(submission, graded(patient, submission))


@pytest.mark.parametrize("name", ["objects", "frames", "imports", "disk", "memory", "environment"])
def test_the_hunters_do_find_what_they_look_for_where_it_is(name, monkeypatch):
    """Here, where the judge is: so what they do not find in the fence is not there."""
    for attribute in ("done", "found"):
        monkeypatch.delattr(sys, attribute, raising=False)
    space: dict[str, Any] = {}
    exec(hunting(name).replace('top = "/"', f"top = {str(ROOT / 'lib')!r}"), space)
    secret = SECRET  # a name that must not be found in the fence
    assert "found: " in examine(load("01.stable_softmax"), space["stable_softmax"]).text, secret
    assert name in HUNTERS


@fenced
def test_no_attack_ended_more_than_its_own_session(patient, quick):
    """The warm processes of all the tests above are still the first ones."""
    assert (patient._started, quick._started) == (1, 1)
    assert patient._process.poll() is None
    assert quick._process.poll() is None


# One submission after another, and beside another

LEAVES = """
import os, socket, sys, ctypes
libc = ctypes.CDLL(None, use_errno=True)
done = 0
for folder, folders, files in os.walk("/"):
    if folder in ("/proc", "/usr", sys.prefix, sys.base_prefix):
        folders.clear()
        continue
    try:
        with open(os.path.join(folder, "left behind"), "w") as file:
            file.write("x")
        done += 1
    except OSError:
        pass
add_key, key = {"x86_64": (248, 250), "aarch64": (217, 219)}[os.uname().machine]
for ring in (-3, -4, -5):
    libc.syscall(add_key, b"user", b"left behind", b"x", 1, ring)
libc.shmget(1706, 4096, 0o1666)
if os.fork() == 0:
    try:
        os.setsid()
        with socket.socket(socket.AF_UNIX) as s:
            s.bind("\\0left behind")
            s.listen()
            while True:
                __import__("time").sleep(1)
    finally:
        os._exit(0)
assert done, "it can write into its /tmp"
found = []
"""
FINDS = """
import os, socket, sys, ctypes
libc = ctypes.CDLL(None, use_errno=True)
found = []
for folder, folders, files in os.walk("/"):
    if folder in ("/proc", "/usr", sys.prefix, sys.base_prefix):
        folders.clear()
        continue
    if "left behind" in files:
        found.append(folder)
_, key = {"x86_64": (248, 250), "aarch64": (217, 219)}[os.uname().machine]
for ring in (-3, -4, -5):
    if libc.syscall(key, 10, ring, b"user", b"left behind", 0) >= 0:
        found.append("a key")
if libc.shmget(1706, 4096, 0) >= 0:
    found.append("shared memory")
try:
    with socket.socket(socket.AF_UNIX) as s:
        s.connect("\\0left behind")
    found.append("a socket")
except OSError:
    pass
found += [f"process {p}" for p in os.listdir("/proc") if p.isdigit() and int(p) not in (1, os.getpid())]
"""


def _telling(body: str) -> Submission:
    tell = "told = 'found: ' + '; '.join(found) if found else 'nothing found'\nraise RuntimeError(told)"
    once = "if not hasattr(sys, 'found'):\n" + "".join(f"    {line}\n" for line in body.strip().split("\n"))
    cell = _function(f"import sys\n{once}    sys.found = found\nfound = sys.found\n{tell}")
    return Submission("", {"stable_softmax": cell}, {}, says={"stable_softmax": "nothing found"})


@fenced
def test_nothing_is_left_behind_for_the_next_submission():
    """Among other things in the session keyring, which a login has and every process of it inherits."""

    def grade() -> list[str]:
        join = {"x86_64": 250, "aarch64": 219}.get(os.uname().machine)
        if join is not None:
            ctypes.CDLL(None).syscall(join, 1, None)  # a session keyring, of this thread and what it starts
        with Fence(limits=Limits(call=30)) as fence:
            return [
                c
                for body in (LEAVES, FINDS)
                for c in complaints(_telling(body), graded(fence, _telling(body)))
            ]

    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(grade).result() == []


@fenced
def test_nothing_is_seen_of_a_submission_that_is_graded_at_the_same_time(patient):
    """One waits, with everything it began, until the other has looked."""
    wait = "\nimport time\nopen('/tmp/here', 'w').close()\ntime.sleep(2)\n"
    rows: list[Row] = []
    leaving = _telling(LEAVES + wait)
    thread = threading.Thread(target=lambda: rows.append(graded(patient, leaving)))
    thread.start()
    for _ in range(3):
        assert not complaints(_telling(FINDS), graded(patient, _telling(FINDS)))
    thread.join()
    assert not complaints(leaving, rows[0])


@fenced
def test_an_attack_beside_it_costs_an_honest_submission_nothing(quick, patient):
    names = (
        "a fork bomb",
        "all signals to everybody",
        "SIGKILL to all",
        "a thread bomb",
        "3 GB at once",
    )
    hostile = [submission for submission in ATTACKS if submission.name in names]
    honest = Submission("honest", solved(), {exercise.name: FULL for exercise in chapter("01")})
    rows: list[Row] = []
    thread = threading.Thread(target=lambda: rows.extend(graded(patient, honest) for _ in range(10)))
    thread.start()
    for submission in hostile:
        assert not complaints(submission, graded(quick if submission.hangs else patient, submission))
    thread.join()
    assert len(hostile) == len(names)
    assert [complaints(honest, row) for row in rows] == [[]] * 10


# As an ordinary user, and with the package where pip puts it


def _as_an_ordinary_user() -> list[str]:
    """What to put before a command so that it has no privilege. Skips where that cannot be had."""
    # In a user namespace root's id is that of an ordinary user, who may do nothing that the kernel asks
    # privileges for; files stay readable, so Python may lie in root's folder.
    prefix = ["unshare", "--user", "--map-user=1000", "--map-group=1000"] if os.getuid() == 0 else []
    probe = [*prefix, "bwrap", "--unshare-all", "--ro-bind", "/", "/", "true"]
    if prefix and shutil.which("unshare") is None:
        pytest.skip("this test runs as root, and there is no `unshare` to stop being that")
    if (said := subprocess.run(probe, capture_output=True, text=True)).returncode != 0:
        pytest.skip(f"the system lets ordinary users make no namespaces: {said.stderr.strip()[:200]}")
    return prefix


ORDINARY = """
import os
from pathlib import Path
assert os.getuid() != 0
capabilities = [l for l in Path("/proc/self/status").read_text().splitlines() if l.startswith("CapEff")]
assert int(capabilities[0].split()[1], 16) == 0
from tests.grading import test_attacks as t
with t.Fence(limits=t.Limits(call=1)) as quick, t.Fence(limits=t.Limits(call=30)) as patient:
    for submission in (*t.ATTACKS, *t.ODDITIES):
        if submission.name in t.FOR_ORDINARY_USERS or submission.name.startswith("hunts: "):
            row = t.graded(quick if submission.hangs else patient, submission)
            print(submission, t.complaints(submission, row))
    for body in (t.LEAVES, t.FINDS):
        print("left behind", t.complaints(t._telling(body), t.graded(patient, t._telling(body))))
    print("warm processes", [f._started for f in (quick, patient) if f._started > 1])
"""
# No fork bomb: to the kernel root is root in a user namespace too, and may have any number of processes.
FOR_ORDINARY_USERS = (
    "as it is",
    "no metadata",
    "patched builtins",
    "SIGKILL to all",
    "all signals to everybody",
    "os._exit(0)",
    "frames from a process that outlives the question",
    "every descriptor closed",
    "one frame that is due, at the right time",
    "the visible results by heart",
)


@fenced
def test_an_ordinary_user_has_the_same_fence():
    command = [*_as_an_ordinary_user(), sys.executable, "-c", ORDINARY]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert said.returncode == 0, said.stderr
    lines = said.stdout.splitlines()
    assert len(lines) == len(FOR_ORDINARY_USERS) + len(HUNTERS) + 2 + 1
    assert [line for line in lines if not line.endswith(" []")] == []


INSTALLED = """
import sys
from pathlib import Path
import attn
assert Path(attn.__file__).parts[-3] == "site-packages", attn.__file__
from attn.grading import fence, judge
assert any(fence.PACKAGE.is_relative_to(folder) and folder != fence.PACKAGE for folder in fence._packages())
with fence.Fence() as there:
    notebook = Path(sys.argv[1]).read_bytes()
    row = judge.grade_notebook(there, notebook, student="", file="", chapter_number="01", secret=1)
print({q.id: q.text for q in row.questions}["01.stable_softmax"])
"""


@fenced
def test_references_are_out_of_reach_where_the_package_lies_among_python_s():
    """Installed there, the package is seen a second time, with the folder that all packages are in."""
    disk = next(submission for submission in ATTACKS if submission.name == "hunts: disk")
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:  # /tmp is another one in the fence
        site, notebook = Path(folder) / "site-packages", Path(folder) / "notebook.ipynb"
        shutil.copytree(PACKAGE, site / "attn", ignore=shutil.ignore_patterns("__pycache__"))
        notebook.write_bytes(disk.notebook())
        said = subprocess.run(
            [sys.executable, "-P", "-c", INSTALLED, str(notebook)],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(site)},
            capture_output=True,
            text=True,
            timeout=300,
        )
    assert said.returncode == 0, said.stderr
    assert "RuntimeError: nothing found" in said.stdout, said.stdout


# The judge alone, and frames that no honest process would send


class Liar:
    """In place of a socket: answers each CALL with bytes that it is told, all the rest with nothing."""

    def __init__(self) -> None:
        self.replies: list[Any] = []  # functions of the request id
        self.waiting = b""

    def settimeout(self, seconds: float | None) -> None:
        pass

    def sendall(self, data: bytes) -> None:
        kind, request, _ = unpack_header(data[: HEADER.size])
        if kind == Kind.CALL:
            self.waiting = self.replies.pop()(request)

    def recv(self, count: int) -> bytes:
        part, self.waiting = self.waiting[:count], self.waiting[count:]
        return part

    def close(self) -> None:
        pass


def lied_to(exercise: Exercise) -> tuple[_Asked, Liar]:
    """The judge's end of a line to a process that lies."""
    liar = Liar()
    session = SimpleNamespace(process=lambda: Line(liar), ended=lambda: None, close=lambda: None)  # type: ignore[arg-type]
    submission = SimpleNamespace(seconds=5.0, seconds_left=100.0)
    return _Asked(_Process(submission, session), exercise), liar  # type: ignore[arg-type]


def body_of(outcome: Outcome) -> tuple[Any, ...]:
    o = outcome
    return tuple(o.arrays), tuple(o.arrays.values()), o.problem, o.line, o.mutated, o.blank, o.trouble


def wrong_bodies(exercise: Exercise) -> list[tuple[Any, ...]]:
    """For each case an outcome of the right layout that earns nothing."""
    if exercise.kind == "find the bug":
        return [body_of(Outcome({"verdict": word("passes")})) for _ in exercise.cases]
    if exercise.holds_values:
        return [body_of(Outcome({case.name: Array((), "number", (1234.5,))})) for case in exercise.cases]
    shapes = worthless(exercise)[-1]
    question = question_of(exercise)
    return [
        body_of(run(question, shapes, case.name, case.make(VISIBLE_SEED), seconds=None))
        for case in exercise.cases
    ]


def says_the_answer(exercise: Exercise, case: Case, outcome: Outcome) -> bool:
    """Whether a frame holds by chance the number that is asked for: torn bytes often come to about 0."""
    right = exercise.reference[case.name] if exercise.holds_values else None
    numbers = outcome.arrays[case.name].numbers if case.name in outcome.arrays else ()
    if not isinstance(right, int | float) or len(numbers) != 1 or not isinstance(numbers[0], float):
        return False
    return math.isclose(numbers[0], right, rel_tol=1e-2, abs_tol=1e-2)


def mutated(frame: bytes, draw: random.Random) -> bytes:
    made = bytearray(frame)
    for _ in range(draw.choice((1, 1, 1, 2, 3, 8))):
        how, place = draw.random(), draw.randrange(len(made)) if made else 0
        if how < 0.6 and made:
            made[place] = draw.choice((0, 1, 2, 5, 6, 7, 8, 9, 127, 255, draw.randrange(256)))
        elif how < 0.75:
            made[place:place] = draw.randbytes(draw.choice((1, 4, 8)))
        elif how < 0.9:
            del made[place : place + draw.choice((1, 4, 30))]
        else:
            made[place:] = made[draw.randrange(len(made) + 1) :]
    return bytes(made)


def mended(frame: bytes) -> bytes:
    """With the length that it has, so that more of it is read."""
    if len(frame) < HEADER.size:
        return frame
    magic, kind, request, _ = HEADER.unpack_from(frame)
    return HEADER.pack(magic, kind, request, len(frame) - HEADER.size) + frame[HEADER.size :]


def test_a_hundred_thousand_hostile_frames_neither_earn_a_point_nor_stop_the_judge():
    draw = random.Random(1706)
    exercises = [exercise for number in chapters() for exercise in chapter(number)]
    frames = accepted = judged = 0
    each = -(-100_000 // len(exercises))
    for exercise in exercises:
        bodies = wrong_bodies(exercise)
        kept: list[dict[str, Outcome]] = [{} for _ in range(20)]
        for i in range(each):
            index = i % len(bodies)
            case = exercise.cases[index]
            asked, liar = lied_to(exercise)

            ask = exercise.kind == "find the bug" and draw.random() < 0.3

            def lie(request: int, body: Any = bodies[index], ask: bool = ask) -> bytes:
                if ask:
                    x = to_wire(torch.ones(2, 3))
                    body = ((x, x, x), ("mask",) * draw.randrange(2), (None,) * draw.randrange(2))
                made = mutated(pack(Kind.ASK if ask else Kind.OUTCOME, request, body), draw)
                return mended(made) if draw.random() < 0.7 else made

            liar.replies.append(lie)
            outcome = asked.call(case, VISIBLE_SEED)
            frames += 1
            if outcome.trouble != "crashed" and not says_the_answer(exercise, case, outcome):
                accepted += 1
                kept[accepted % len(kept)][case.name] = outcome
        for chosen in kept:
            # Cases that no mutated frame got through for: the wrong outcome as it was.
            for case, body in zip(exercise.cases, bodies, strict=True):
                asked, liar = lied_to(exercise)
                liar.replies.append(lambda request, body=body: pack(Kind.OUTCOME, request, body))
                chosen.setdefault(case.name, asked.call(case, VISIBLE_SEED))
            result = judge(exercise, lambda case, seed, chosen=chosen: chosen[case.name])
            judged += 1
            assert result.points == 0, (exercise.id, result.text)
    assert frames >= 100_000
    assert accepted > 10_000, "mutations of numbers and texts leave a frame a frame"
    assert judged == 20 * len(exercises)


NUMBERS = (0.0, -0.0, 1.0, -1.0, float("nan"), float("inf"), -float("inf"), 1e38, -1e38, 1e-38)


@pytest.mark.parametrize("number", list(chapters()))
def test_right_shapes_around_hostile_numbers_do_not_stop_the_judge(number):
    """NaN, infinities, huge numbers: in the right layout, which comes past the check of frames."""
    for exercise in chapter(number):
        if exercise.holds_values or exercise.kind == "find the bug":
            continue
        right = {
            case.name: call(exercise, exercise.reference, case, VISIBLE_SEED, ours=True)
            for case in exercise.cases
        }
        for x in NUMBERS:
            outcomes = {name: _filled_with(x, outcome) for name, outcome in right.items()}
            result = judge(exercise, lambda case, seed, outcomes=outcomes: outcomes[case.name])
            assert result.points < exercise.points, (exercise.id, x)
            if x != x or x - x != 0 or abs(x) > 1e30:
                assert result.points == 0, (exercise.id, x, result.text)


def _filled_with(x: float, outcome: Outcome) -> Outcome:
    def fill(array: Array) -> Array:
        if array.dtype.startswith(("float", "bfloat")):
            return Array(array.shape, array.dtype, (x,) * len(array.numbers))
        whole = int(x) if x - x == 0 and abs(x) < 100 else 100
        value = (
            x
            if array.dtype.startswith(("float", "bfloat"))
            else bool(whole)
            if array.dtype == "bool"
            else whole
        )
        return Array(array.shape, array.dtype, (value,) * len(array.numbers))

    return Outcome({name: fill(array) for name, array in outcome.arrays.items()})


EMPTY = ((), (), "", "", (), False, "")
ONE = Array((), "float32", (1.0,))


@pytest.mark.parametrize(
    "body",
    [
        EMPTY,
        None,
        7,
        "outcome",
        EMPTY[:-1],
        (*EMPTY, ""),
        (("weights",), (), "", "", (), False, ""),
        ((), (ONE,), "", "", (), False, ""),
        (("weights",), (1.0,), "", "", (), False, ""),
        (("weights", "weights"), (ONE, ONE), "", "", (), False, ""),
        (("output",), (ONE,), "", "", (), False, ""),
        (("verdict",), (word("passes"),), "", "", (), False, ""),
        ((5,), (ONE,), "", "", (), False, ""),
        (None, None, None, None, None, None, None),
        ((), (), 5, "", (), False, ""),
        ((), (), "x", None, (), False, ""),
        ((), (), "x", "", (-1,), False, ""),
        ((), (), "x", "", (2**40,), False, ""),
        ((), (), "x", "", ("0",), False, ""),
        ((), (), "x", "", 5, False, ""),
        ((), (), "x", "", (), 1, ""),
        ((), (), "x", "", (), False, "right"),
        ((), (), "x", "", (), False, None),
        ((), (), "x", "", (), False, ONE),
    ],
    ids=str,
)
def test_what_is_no_outcome_is_refused(body):
    asked, liar = lied_to(load("01.stable_softmax"))
    liar.replies.append(lambda request: pack(Kind.OUTCOME, request, body))
    outcome = asked.call(load("01.stable_softmax").cases[0], VISIBLE_SEED)
    assert (outcome.trouble, outcome.arrays) == ("crashed", {})
    assert not asked.process.alive


def test_what_a_test_is_told_of_an_implementation_does_not_name_it():
    """Neither with the call, nor by an error: the names of implementations say what is wrong with them."""
    for number in chapters():
        for exercise in chapter(number):
            if exercise.kind == "find the bug":
                told = set()
                for case in exercise.cases:
                    asked, liar = lied_to(exercise)
                    replies: list[bytes] = []
                    liar.sendall = lambda data, replies=replies: replies.append(data)  # type: ignore[method-assign]
                    liar.waiting = pack(Kind.ASK, 2, ((), (), ()))
                    asked.call(case, hidden_seeds(SECRET)[0])
                    told.add(tuple(data for data in replies))
                assert len(told) == 1, (exercise.id, told)
