"""In a student's process: loads the answers that the judge asks for, calls them, says what they did."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from attn.grading.student.answers import Broken, Notebook
from attn.grading.student.running import Outcome, Question, given, raised, run, silence, time_limit, too_slow
from attn.grading.student.values import from_wire, to_wire
from attn.grading.student.wire import BadFrame, Closed, Kind, Line


def answer_questions(line: Line, notebook: Notebook) -> None:
    """Load the answers that are asked for, one after the other, and call each as often as the judge says."""
    question, answer, failed, seconds = None, None, None, 0.0
    while True:
        try:
            kind, request, body = line.receive((Kind.QUESTION, Kind.CALL), None)
        except Closed:
            return
        if kind is Kind.QUESTION:
            name, what, returns, parameters, seconds = body
            question = Question(name, what, returns, parameters)
            answer, failed = _load(notebook, name, seconds)
            continue
        assert question is not None
        case, inputs, gradients = body
        if failed is not None:
            outcome = failed
        else:
            handed = (_wired(line, request),) if question.kind == "find the bug" else from_wire(inputs)
            outcome = run(question, answer, case, handed, gradients=gradients, seconds=seconds)
        _send(line, request, outcome)


def _load(notebook: Notebook, name: str, seconds: float) -> tuple[Any, Outcome | None]:
    """The answer, or the outcome that each call has because it cannot be had."""
    try:
        with time_limit(seconds), silence():
            return notebook.answer(name), None
    except Broken as error:
        return None, Outcome(problem=str(error))
    except Exception as error:
        outcome = raised(error)
        return None, replace(outcome, problem=f"{outcome.problem} (before it was called)")
    except KeyboardInterrupt:
        return None, Outcome(problem="it was interrupted (KeyboardInterrupt)")
    except SystemExit:
        return None, Outcome(problem="SystemExit, before it was called")
    except BaseException:
        return None, too_slow(seconds)


def _wired(line: Line, request: int) -> Any:
    """The implementation that the learner's test tests: it runs with the judge."""

    def implementation(*arguments: Any, **named: Any) -> Any:
        body = (to_wire(arguments), tuple(named), tuple(to_wire(x) for x in named.values()))
        line.send(Kind.ASK, request, body)
        return given(line.receive((Kind.GIVE,), request)[2])

    return implementation


def _send(line: Line, request: int, outcome: Outcome) -> None:
    try:
        line.send(Kind.OUTCOME, request, _body(outcome))
    except Closed:
        raise
    except BadFrame as error:
        line.send(Kind.OUTCOME, request, _body(Outcome(problem=f"its result cannot be used: {error}")))


def _body(outcome: Outcome) -> Sequence[Any]:
    return (
        tuple(outcome.arrays),
        tuple(outcome.arrays.values()),
        outcome.problem,
        outcome.line,
        outcome.mutated,
        outcome.blank,
        outcome.trouble,
    )
