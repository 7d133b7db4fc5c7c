"""Calls an answer in this process: a learner's in a notebook, and the references and known mistakes anywhere.

The grader calls a student's answer in another process (`judge`), through the same `student.running`.
"""

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from attn.grading.exercise import Case, Exercise
from attn.grading.student.running import Outcome, Question, given, run
from attn.grading.student.values import Array, Unusable, from_wire, to_wire

SECONDS = 5.0  # for one call

# What a learner's test may hand to an implementation: no more than a good test needs, so that none can keep
# the judge busy or fill its memory.
_SIZE, _NUMBERS, _WORK = 64, 4096, 4_000_000
_ASKS = 500  # calls in one run of a test


def question_of(exercise: Exercise) -> Question:
    """What the student's process is told of an exercise."""
    if exercise.holds_values:
        return Question(exercise.name, exercise.kind, tuple(case.name for case in exercise.cases), ())
    parameters = tuple(inspect.signature(exercise.reference).parameters)
    return Question(exercise.name, exercise.kind, exercise.returns, parameters)


def call(exercise: Exercise, answer: Any, case: Case, seed: int, *, ours: bool = False) -> Outcome:
    """Run `answer` on `case` with inputs made from `seed`. `ours`: it is no learner's and needs no guard."""
    inputs = case.make(seed)
    if exercise.kind == "find the bug":
        inputs = (_at_arms_length(inputs[0]),)
    return run(
        question_of(exercise),
        answer,
        case.name,
        inputs,
        gradients=case.gradients,
        seconds=None if ours else SECONDS,
    )


def _at_arms_length(implementation: Callable[..., Any]) -> Callable[..., Any]:
    """The implementation as a learner's test meets it in the grader, where it runs in another process."""
    asked = Asked(implementation)

    def remote(*arguments: Any, **named: Any) -> Any:
        reply = asked.reply(to_wire(arguments), {name: to_wire(x) for name, x in named.items()})
        return given(reply)

    return remote


class Asked:
    """Answers a learner's test for an implementation, with plain data for plain data."""

    def __init__(self, implementation: Callable[..., Any]):
        self.implementation, self.times = implementation, 0
        self._signature = inspect.signature(implementation)

    def reply(self, arguments: Sequence[Any], named: Mapping[str, Any]) -> tuple[Any, ...]:
        """(True, result), or (False, the error's type, its message)."""
        self.times += 1
        try:
            if self.times > _ASKS:
                raise Unusable(f"the test calls it more than {_ASKS} times")
            _small([*arguments, *named.values()])
            # Python's own error would name the function, and with that what is wrong with it.
            self._signature.bind(*arguments, **named)
            result = self.implementation(
                *map(from_wire, arguments), **{name: from_wire(x) for name, x in named.items()}
            )
            return True, to_wire(result, "its result")
        except Exception as error:
            return False, type(error).__name__, str(error)[:500]


def _small(values: Sequence[Any]) -> None:
    """Raises Unusable where arguments are larger than a test needs."""
    arrays, numbers = [], []
    for value in values:
        if type(value) in (list, tuple):
            _small(value)
            arrays += [x for x in value if type(x) is Array]
        elif type(value) is Array:
            arrays.append(value)
        elif type(value) is int:
            numbers.append(abs(value))
    shapes = [x.shape for x in arrays]
    sizes = [size for shape in shapes for size in shape]
    if max(sizes, default=0) > _SIZE or sum(len(x.numbers) for x in arrays) > _NUMBERS:
        raise Unusable(
            f"the inputs of a test may have no size above {_SIZE}, and at most {_NUMBERS} numbers in all"
        )
    # Sizes at the same place from the right meet by broadcasting; those at the last two places, in a product.
    meet = [
        max(shape[-place] for shape in shapes if len(shape) >= place) for place in range(1, _axes(shapes) + 1)
    ]
    if math.prod(meet) * max(meet[1:2], default=1) > _WORK or math.prod(n or 1 for n in numbers) > _WORK // 8:
        raise Unusable("the inputs of a test would make too much work together")


def _axes(shapes: Sequence[tuple[int, ...]]) -> int:
    return max(map(len, shapes), default=0)
