"""The judge: makes the inputs, has a student's answer called in the fence, and compares what comes back.

It trusts nothing that comes back but its layout, and that was checked. What is right is known here only.
"""

import functools
import random
import time
from collections.abc import Collection
from typing import Any

from attn.grading.calling import Asked, question_of
from attn.grading.checking import Result, judge
from attn.grading.exercise import Case, Exercise, chapter, chapters
from attn.grading.fence import Fence, LoneSession, Lost, Session
from attn.grading.marks import Question, QuestionStatus, Row
from attn.grading.student.running import Outcome, Trouble, gradient_name, too_slow
from attn.grading.student.values import Array, to_wire
from attn.grading.student.wire import BadFrame, Closed, Encoded, Kind, encode

HIDDEN = 1  # hidden seeds an answer must hold for, beside the visible one
_GRACE = 2.0  # seconds that a process has beyond the time that it should stop by itself
_TROUBLES: tuple[Trouble, ...] = ("", "timeout", "crashed", "out of memory")


def hidden_seeds(secret: int) -> tuple[int, ...]:
    """The seeds of the hidden inputs, drawn from the grader's own seed."""
    drawn = random.Random(secret)
    return tuple(drawn.randrange(1 << 32) for _ in range(HIDDEN))


def grade_notebook(
    fence: Fence, notebook: bytes, *, student: str, file: str, chapter_number: str, secret: int
) -> Row:
    """The row of one submission. Whatever it holds, this returns.

    `chapter_number` may be "": then it is the chapter most of whose answers the notebook has a name for.
    """
    try:
        submission = _Submission(fence, notebook)
    except Lost as lost:
        return _no_mark(lost, student, file, chapter_number)
    try:
        number = chapter_number or _chapter_by_names(submission.names)
        if not number:
            return _no_mark(Lost("unreadable", "no answer of any chapter is in it"), student, file, "")
        questions = tuple(_grade(submission, exercise, secret) for exercise in chapter(number))
    except Lost as lost:
        return _no_mark(lost, student, file, chapter_number)
    except Exception as error:  # a fault of ours: said aloud, and no reason to lose the other submissions
        fault = f"the judge failed, which is a fault of the grader ({type(error).__name__}: {error})"
        return _no_mark(Lost("crashed", fault), student, file, chapter_number)
    finally:
        submission.close()
    return Row(
        student,
        file,
        number,
        "graded",
        sum(question.points for question in questions),
        sum(question.out_of for question in questions),
        questions,
    )


def _no_mark(lost: Lost, student: str, file: str, number: str) -> Row:
    out_of = sum(exercise.points for exercise in chapter(number)) if number in chapters() else 0
    return Row(student, file, number, lost.status, 0, out_of, note=str(lost))  # type: ignore[arg-type]


def _chapter_by_names(names: Collection[str]) -> str:
    found = {number: sum(e.name in names for e in chapter(number)) for number in chapters()}
    best = max(found, key=lambda number: found[number], default="")
    return best if best and found[best] else ""


class _Submission:
    """A notebook in the fence, brought there again after a question that took the session with it."""

    def __init__(self, fence: Fence, notebook: bytes):
        self._fence, self._notebook = fence, notebook
        self._deadline = time.monotonic() + fence.limits.submission
        self._session = fence.session(notebook)
        self._process: _Process | None = None
        self.names = self._session.names

    def process(self, *, fresh: bool = False) -> "_Process":
        """The process to ask; `fresh`: one that was asked nothing yet. Raises Lost where the time is over."""
        if self.seconds_left <= 0:
            raise Lost("timeout", f"it took more than {self._fence.limits.submission:.0f} seconds in all")
        if self._process is not None and (fresh or not self._process.alive):
            self._process.end()
            self._process = None
        if self._process is None:
            if not self._session.open:
                self._session = self._fence.session(self._notebook)
            self._process = _Process(self, self._session)
        return self._process

    @property
    def seconds_left(self) -> float:
        return self._deadline - time.monotonic()

    @property
    def seconds(self) -> float:
        """For one call."""
        return self._fence.limits.call

    def close(self) -> None:
        if self._process is not None:
            self._process.forget()
        self._session.close()


def _grade(submission: _Submission, exercise: Exercise, secret: int) -> Question:
    if exercise.name not in submission.names:
        cases = {case.name: False for case in exercise.cases}
        text = f"{exercise.name}: not in the notebook ({exercise.points} points)."
        return Question(exercise.id, "blank", 0, exercise.points, cases, (), text)

    def ask(asked: _Asked) -> Result:
        order = random.Random(f"{secret} {exercise.id}")
        return judge(exercise, asked.call, hidden=hidden_seeds(secret), shuffle=order)

    process = submission.process()
    first = not process.questions
    asked = _Asked(process, exercise)
    result = ask(asked)
    wrong = result.status == "wrong" and (not first or result.trouble == "crashed")
    if wrong or (result.status == "blank" and process.changed):
        # Perhaps an answer before it did something to Python that this one suffers from, or something else
        # ended its process. Alone, does it do anything else?
        alone = _Asked(submission.process(fresh=True), exercise)
        if any(alone.call(case, seed) != outcome for case, seed, outcome in asked.first):
            result = ask(alone)
        process = alone.process
    process.changed |= result.status != "blank"
    return Question(
        exercise.id,
        _status(result),
        result.points,
        result.out_of,
        result.passed,
        result.mistakes,
        result.text,
    )


def _status(result: Result) -> QuestionStatus:
    if result.status == "wrong" and result.trouble:
        return result.trouble
    return "right" if result.status == "right" else "blank" if result.status == "blank" else "wrong"


@functools.lru_cache(maxsize=4096)
def _call_body(exercise: Exercise, case: Case, seed: int) -> Encoded:
    """What an answer is told of a case: its inputs, and whether gradients are wanted.

    Its name only where that is the key of a value: that of an implementation says what is wrong with it.
    """
    nothing = exercise.holds_values or exercise.kind == "find the bug"
    name = case.name if exercise.holds_values else ""
    return encode((name, () if nothing else to_wire(case.make(seed)), case.gradients))


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else " " for c in text)[:400]


class _Process:
    """A process with a student's code in it, and the line to it."""

    def __init__(self, submission: _Submission, session: Session | LoneSession):
        self.submission, self._session = submission, session
        self.line = session.process()
        self.alive = True
        self.questions = 0
        self.changed = False  # whether an answer in it did anything
        self._request = 0

    def next_request(self) -> int:
        self._request += 1
        return self._request

    def end(self) -> int | None:
        """Let it go; its exit code, if it has one."""
        if not self.alive:
            return None
        self.forget()
        return self._session.ended()

    def kill(self) -> None:
        """End it, and with it the session."""
        self.forget()
        self._session.close()

    def forget(self) -> None:
        self.line.close()
        self.alive = False


class _Asked:
    """One question, put to a process. Its `call` is what `checking.judge` calls an answer by."""

    def __init__(self, process: _Process, exercise: Exercise):
        self.process, self._exercise = process, exercise
        self._question = question = question_of(exercise)
        self._seconds = process.submission.seconds
        # Loading the answer's cells may take as long as a call, and comes before the first one.
        self._allowed = 2 * self._seconds + _GRACE
        process.questions += 1
        self.first: list[tuple[Case, int, Outcome]] = []  # the first call of each case
        body = (question.name, question.kind, question.returns, question.parameters, self._seconds)
        try:
            process.line.send(Kind.QUESTION, process.next_request(), body, self._seconds)
        except (BadFrame, TimeoutError):
            process.kill()

    def call(self, case: Case, seed: int) -> Outcome:
        """What the answer does on `case`. Whatever comes back, or does not, this is an Outcome."""
        outcome = self._call(case, seed)
        if len(self.first) < len(self._exercise.cases):
            self.first.append((case, seed, outcome))
        return outcome

    def _call(self, case: Case, seed: int) -> Outcome:
        process = self.process
        if not process.alive:
            return Outcome(problem="its process had ended before", trouble="crashed")
        deadline = time.monotonic() + max(0.1, min(self._allowed, process.submission.seconds_left))
        self._allowed = self._seconds + _GRACE
        request = process.next_request()
        try:
            process.line.send(Kind.CALL, request, _call_body(self._exercise, case, seed), self._seconds)
            test = self._exercise.kind == "find the bug"
            implementation = Asked(case.make(seed)[0]) if test else None
            while True:
                due = (Kind.OUTCOME, Kind.ASK) if implementation else (Kind.OUTCOME,)
                kind, _, found = process.line.receive(due, request, deadline - time.monotonic())
                if kind is Kind.OUTCOME or implementation is None:
                    return self._outcome(found, case)
                arguments, names, values = found
                reply = implementation.reply(arguments, dict(zip(names, values, strict=True)))
                process.line.send(Kind.GIVE, request, reply, self._seconds)
        except TimeoutError:
            process.kill()
            return too_slow(self._seconds)
        except Closed:
            code = process.end()
            how = "" if code is None else f" ({f'signal {-code}' if code < 0 else f'exit code {code}'})"
            return Outcome(problem=f"its process ended before it returned{how}", trouble="crashed")
        except (BadFrame, TypeError, ValueError):
            process.kill()
            return Outcome(problem="its process said what cannot be understood", trouble="crashed")

    def _outcome(self, found: Any, case: Case) -> Outcome:
        """An OUTCOME frame as an Outcome. Raises ValueError or TypeError where it is none."""
        names, arrays, problem, line, mutated, blank, trouble = found
        if not (isinstance(problem, str) and isinstance(line, str) and isinstance(blank, bool)):
            raise ValueError("texts")
        if not all(type(i) is int and 0 <= i < 64 for i in mutated):
            raise ValueError("positions")
        if names and tuple(names) not in (self._expected(case), ("verdict",)):
            raise ValueError("names")
        if not (names or problem or blank):
            raise ValueError("neither results nor a reason why there are none")
        if len(names) != len(arrays) or not all(type(x) is Array for x in arrays):
            raise ValueError("arrays")
        named = dict(zip(names, arrays, strict=True))
        if "verdict" in named and (
            self._exercise.kind != "find the bug" or named["verdict"].numbers not in (("passes",), ("fails",))
        ):
            raise ValueError("verdict")
        known = _TROUBLES[_TROUBLES.index(trouble)]
        return Outcome(named, _printable(problem), _printable(line), tuple(mutated), blank, known)

    def _expected(self, case: Case) -> tuple[str, ...]:
        if self._exercise.holds_values:
            return (case.name,)
        names = self._question.returns
        if not case.gradients:
            return names
        inputs = dict(zip(self._question.parameters, case.make(0), strict=False))
        floating = [n for n, x in inputs.items() if hasattr(x, "is_floating_point") and x.is_floating_point()]
        return (*names, *map(gradient_name, floating))
