"""Judges an answer: which cases pass, and for one that fails the name of the mistake.

A mistake is named by running the bank of known mistakes on the same inputs: the answer is said to make the
one whose results it has. Where none agrees, what can be measured is reported: an error and its line, a wrong
shape or dtype, NaN, the first difference. What was expected is never shown where the answer is a value.
"""

import functools
import os
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from attn.grading.calling import call
from attn.grading.exercise import Case, Exercise, Mistake, load
from attn.grading.student.running import Outcome, Trouble
from attn.grading.student.values import Array, freeze_tensor, thaw

VISIBLE_SEED = 2017  # of the cases in notebooks; marks are given on other seeds


@dataclass(frozen=True)
class Result:
    """What `examine` found.

    Attributes:
      status: "right", "wrong" (some cases may pass all the same) or "blank".
      passed: case name → whether it counts as passed.
      mistakes: names of the known mistakes that explain the answer.
      text: all that is to be said to the learner.
      trouble: "timeout", "crashed" or "out of memory" where it came to that in some case.
    """

    exercise: str
    status: str
    points: int
    out_of: int
    passed: dict[str, bool] = field(repr=False)
    mistakes: tuple[str, ...]
    text: str = field(repr=False)
    trouble: Trouble = ""

    def _ipython_display_(self) -> None:
        """Nothing: `check` has printed the text. nbgrader reads the displayed number of points instead."""
        if _nbgrader():
            raise NotImplementedError  # IPython then falls back to __repr__

    def __repr__(self) -> str:
        return f"{self.points}"


def check(answer: Any, id: str) -> Result:
    """Print how `answer` to the exercise `id` does, and return the Result.

    Raises ValueError for an unknown id; under nbgrader, AssertionError where the answer earns nothing.
    """
    result = examine(load(id), answer)
    print(result.text + "\n", end="")  # one write: two could become two outputs of the cell
    if _nbgrader() and result.points == 0:
        raise AssertionError(f"{id}: 0 of {result.out_of} points")
    return result


def _nbgrader() -> bool:
    return "NBGRADER_EXECUTION" in os.environ


# Calls the answer on a case with inputs from a seed, here or in another process.
Caller = Callable[[Case, int], Outcome]


def examine(exercise: Exercise, answer: Any, seed: int = VISIBLE_SEED) -> Result:
    """Run `answer` on every case with inputs from `seed` and judge it. Never raises because of the answer."""
    return judge(exercise, lambda case, seed: call(exercise, answer, case, seed), seed)


def judge(
    exercise: Exercise,
    caller: Caller,
    seed: int = VISIBLE_SEED,
    hidden: Sequence[int] = (),
    shuffle: random.Random | None = None,
) -> Result:
    """Judge the answer that `caller` calls. A case passes when it does with `seed` and all `hidden` seeds.

    Nothing of the hidden inputs is told. `shuffle` draws the order in which a test, as an answer, meets the
    implementations.
    """
    order = list(exercise.cases)
    if shuffle is not None and exercise.kind == "find the bug":
        shuffle.shuffle(order)
    got = _outcomes(exercise, caller, seed, order)
    trouble = _trouble(got)
    if all(outcome.blank for outcome in got):
        text = f"{exercise.name}: not answered yet ({exercise.points} points wait for you)."
        return _result(exercise, "blank", [False] * len(got), (), text)

    seen = _viewed(exercise, got, seed)
    stand = _stand(exercise, seen, seed)
    again = order[::-1]
    if shuffle is not None:
        shuffle.shuffle(again)  # a test that draws its verdicts may have luck once
    worth_it = any(stand.credit) or exercise.kind != "find the bug"  # tests take long
    if worth_it and (case := _fickle(exercise, caller, seen, seed, again)):
        text = (
            f"{exercise.name}: 0 of {exercise.points} points.\n"
            f"Called twice with the same input ({case.name}), it gave two different answers.\n"
            "Think: what does it keep from one call to the next, or draw at random?"
        )
        return _result(exercise, "wrong", [False] * len(got), (), text)
    if any(stand.credit) and exercise.kind in ("implement", "design"):
        for other in hidden:
            if trouble in ("timeout", "crashed"):
                break
            got = _outcomes(exercise, caller, other, order)
            trouble = trouble or _trouble(got)
            there = _stand(exercise, _viewed(exercise, got, other), other)
            both = [here and ok for here, ok in zip(stand.credit, there.credit, strict=True)]
            if both != stand.credit:
                return _hidden(exercise, stand, both, there, trouble)

    if all(stand.credit):
        note = ""
        if stand.named:
            mistake = stand.named[0][0]
            note = f"\nIt is not the usual answer, but equivalent: {mistake.name}.\n{mistake.hint}"
        return _result(exercise, "right", stand.credit, stand.names, _praise(exercise) + note)
    lines = [_cases(exercise, stand.passed, stand.credit)]
    lines += [_told(mistake, cases, stand.passed.count(False)) for mistake, cases in stand.named]
    first = stand.passed.index(False)
    if exercise.holds_values:
        explained = {name for _, cases in stand.named for name in cases}
        wanted_values = _wanted(exercise, seed)
        for part, wanted, value, ok in zip(exercise.cases, wanted_values, seen, stand.passed, strict=True):
            if not ok and part.name not in explained:
                lines += _about_a_value(part, wanted, value)
    elif exercise.kind == "find the bug":
        lines += _about_a_test(exercise.cases[first], seen[first])
    elif not stand.named:
        lines += _measured(exercise, exercise.cases[first], _wanted(exercise, seed)[first], seen[first], seed)
    text = "\n".join(line for line in lines if line)
    return _result(exercise, "wrong", stand.credit, stand.names, text, trouble)


@dataclass(frozen=True)
class _Standing:
    """How an answer stands with the inputs of one seed."""

    passed: list[bool]  # by case: does what the reference does
    credit: list[bool]  # by case: counts as passed
    named: list[tuple[Mistake, list[str]]]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(mistake.name for mistake, _ in self.named)


def _stand(exercise: Exercise, seen: Sequence[Outcome], seed: int) -> _Standing:
    wanted = _wanted(exercise, seed)
    passed = [
        bool(w.arrays) and _alike(w, s, exercise.tolerance_of(case))
        for w, s, case in zip(wanted, seen, exercise.cases, strict=True)
    ]
    if all(passed):
        return _Standing(passed, passed, [])
    named = _named(exercise, seen, passed, seed)
    if named and named[0][0].equivalent:
        return _Standing(passed, [True] * len(passed), named)
    # A test that fails on right code finds nothing, however many broken ones it fails on.
    on_right_code = [ok for ok, case in zip(passed, exercise.cases, strict=True) if case.points == 0]
    finds_nothing = exercise.kind == "find the bug" and not all(on_right_code)
    return _Standing(passed, [False] * len(passed) if finds_nothing else passed, named)


def _hidden(
    exercise: Exercise, here: _Standing, both: list[bool], there: _Standing, trouble: Trouble
) -> Result:
    """The result of an answer that loses cases with hidden inputs, of which nothing is shown."""
    lost = [case.name for case, a, b in zip(exercise.cases, here.credit, both, strict=True) if a and not b]
    lines = [
        _cases(exercise, both, both),
        f"With the notebook's inputs more cases pass; with others of the same kind not: {', '.join(lost)}.",
    ]
    lines += [_told(mistake, cases, both.count(False)) for mistake, cases in there.named]
    if not there.named:
        lines.append("Think: what in it holds for some inputs and not for all?")
    return _result(exercise, "wrong", both, there.names, "\n".join(lines), trouble)


def _trouble(outcomes: Sequence[Outcome]) -> Trouble:
    return next((outcome.trouble for outcome in outcomes if outcome.trouble), "")


@functools.lru_cache(maxsize=1024)
def _wanted(exercise: Exercise, seed: int) -> tuple[Outcome, ...]:
    """What the reference does, as it is compared."""
    return _of_ours(exercise, exercise.reference, seed)


@functools.lru_cache(maxsize=8192)
def _of_mistake(exercise: Exercise, number: int, seed: int) -> tuple[Outcome, ...]:
    """What a known mistake does."""
    return _of_ours(exercise, exercise.mistakes[number].answer, seed)


def _of_ours(exercise: Exercise, answer: Any, seed: int) -> tuple[Outcome, ...]:
    outcomes = [call(exercise, answer, case, seed, ours=True) for case in exercise.cases]
    return tuple(_viewed(exercise, outcomes, seed))


def _fickle(
    exercise: Exercise, caller: Caller, seen: Sequence[Outcome], seed: int, order: Sequence[Case]
) -> Case | None:
    """A case in which the answer does not do the same when it is called again, or None.

    In reverse order, so that an answer that counts its calls gives itself away.
    """
    if exercise.holds_values or any(outcome.stopped for outcome in seen):
        return None
    again = _viewed(exercise, _outcomes(exercise, caller, seed, order), seed)
    for case, first, second in zip(exercise.cases, seen, again, strict=True):
        # Errors may differ in words, by an address in memory say.
        if (first.arrays or second.arrays) and not _alike(first, second, exercise.tolerance_of(case)):
            return case
    return None


def _result(
    exercise: Exercise,
    status: str,
    credit: Sequence[bool],
    names: tuple[str, ...],
    text: str,
    trouble: Trouble = "",
) -> Result:
    passed = {case.name: ok for case, ok in zip(exercise.cases, credit, strict=True)}
    points = sum(case.points for case in exercise.cases if passed[case.name])
    return Result(exercise.id, status, points, exercise.points, passed, names, text, trouble)


def _outcomes(exercise: Exercise, caller: Caller, seed: int, order: Sequence[Case]) -> list[Outcome]:
    """What the answer does on each case, called in this order, until it has to be stopped."""
    found: dict[str, Outcome] = {}
    for case in order:
        found[case.name] = outcome = caller(case, seed)
        if outcome.stopped:
            left_out = Outcome(
                problem="not run, because it had to be stopped before", trouble=outcome.trouble
            )
            return [found.get(case.name, left_out) for case in exercise.cases]
    return [found[case.name] for case in exercise.cases]


def _viewed(exercise: Exercise, outcomes: Sequence[Outcome], seed: int) -> list[Outcome]:
    """The outcomes of all cases as they are compared: through the exercise's view where it has one."""
    if exercise.view is None:
        return list(outcomes)
    return [
        _view(exercise.view, case.make(seed), outcome) if outcome.arrays else outcome
        for case, outcome in zip(exercise.cases, outcomes, strict=True)
    ]


def _view(view: Callable[..., dict[str, Tensor]], inputs: tuple[Any, ...], outcome: Outcome) -> Outcome:
    try:
        tensors = view(*inputs, *map(thaw, outcome.arrays.values()))
        arrays = {name: freeze_tensor(name, x) for name, x in tensors.items()}
    except Exception as error:  # a view sees plain numbers only: what fails is their shape or their type
        return Outcome(problem=str(error).partition("\n")[0], mutated=outcome.mutated)
    return Outcome(arrays, mutated=outcome.mutated)


def _alike(a: Outcome, b: Outcome, tolerance: float) -> bool:
    """Whether two outcomes are the same: results, changes to the inputs, and problems word for word."""
    return (
        a.arrays.keys() == b.arrays.keys()
        and a.mutated == b.mutated
        and (bool(a.arrays) or a.problem == b.problem)
        and all(same(a.arrays[name], b.arrays[name], tolerance) for name in a.arrays)
    )


def same(a: Array, b: Array, tolerance: float) -> bool:
    """Equal in shape, dtype and numbers, within `tolerance` (relative; absolute below 1). NaN equals NaN."""
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    if a.numbers == b.numbers:
        return True
    for x, y in zip(a.numbers, b.numbers, strict=True):
        if x == y:
            continue
        if type(x) is not float or type(y) is not float:
            return False
        if x - x != 0 or y - y != 0:  # NaN or infinite
            if x == x or y == y:
                return False
        elif abs(x - y) > tolerance * max(1.0, abs(x), abs(y)):
            return False
    return True


def _named(
    exercise: Exercise, seen: Sequence[Outcome], passed: Sequence[bool], seed: int
) -> list[tuple[Mistake, list[str]]]:
    """The known mistakes that explain the failing cases, each with the names of those it explains.

    A mistake with the answer's outcome in every case is the one. Otherwise each failing case may have one;
    where the first has none, nothing is named: what comes after may follow from it. Two are enough.
    Values stand for themselves: each wrong one that a known mistake explains gets its name.
    """
    failing = [i for i, ok in enumerate(passed) if not ok]
    explains: list[tuple[Mistake, list[int], int]] = []
    for number, mistake in enumerate(exercise.mistakes):
        outcomes = _of_mistake(exercise, number, seed)
        alike = [
            _alike(o, s, exercise.tolerance_of(case))
            for o, s, case in zip(outcomes, seen, exercise.cases, strict=True)
        ]
        # An error alone explains nothing: too many things raise the same one.
        if all(alike) and any(s.arrays for s in seen):
            return [(mistake, [exercise.cases[i].name for i in failing])]
        explains.append((mistake, [i for i in failing if alike[i] and seen[i].arrays], sum(alike)))
    if exercise.kind == "find the bug":
        return []  # a test that is partly like a bad one is not that one
    named: list[tuple[Mistake, list[str]]] = []
    left = set(failing)
    while left and (exercise.holds_values or len(named) < 2):
        mistake, cases, _ = max(explains, key=lambda e: (len(left.intersection(e[1])), e[2]))
        if not left.intersection(cases) or mistake.equivalent:
            break
        named.append((mistake, [exercise.cases[i].name for i in sorted(left.intersection(cases))]))
        left -= set(cases)
    first_has_one = any(exercise.cases[failing[0]].name in cases for _, cases in named)
    return named if first_has_one or exercise.holds_values else []


def _praise(exercise: Exercise) -> str:
    count = len(exercise.cases)
    return f"{exercise.name}: right, all {count} cases pass ({exercise.points} of {exercise.points} points)."


def _cases(exercise: Exercise, passed: Sequence[bool], credit: Sequence[bool]) -> str:
    points = sum(case.points for case, ok in zip(exercise.cases, credit, strict=True) if ok)
    score = f"({points} of {exercise.points} points)"
    lines = [f"{exercise.name}: {sum(passed)} of {len(passed)} cases pass {score}."]
    for case, ok in zip(exercise.cases, passed, strict=True):
        lines.append(f"  {'✓' if ok else '✗'} {_title(exercise, case, ok)}")
    return "\n".join(lines)


def _title(exercise: Exercise, case: Case, ok: bool) -> str:
    if exercise.kind != "find the bug":
        return case.name
    if case.points:
        return f"{'caught' if ok else 'slips through'}: {case.name}"
    return f"{'accepted' if ok else 'wrongly rejected'}: {case.name}"


def _told(mistake: Mistake, cases: list[str], failing: int) -> str:
    where = "" if len(cases) == failing else f" (in: {', '.join(cases)})"
    return f"This looks like a known mistake{where}: {mistake.name}.\nThink: {mistake.hint}"


def _about_a_value(case: Case, wanted: Outcome, got: Outcome) -> list[str]:
    if form := _other_form(wanted, got):
        return [f"{case.name}: {form}."]  # the value may be right, so that a hint would mislead
    told = got.problem or (
        "it is still missing" if got.blank else "this is not it, and no known mistake either"
    )
    return [_sentence(f"{case.name}: {told}"), f"Think: {case.hint}" if case.hint else ""]


def _other_form(wanted: Outcome, got: Outcome) -> str:
    """Says so where a value is not of the kind that is asked for: a text, a number, a list of numbers."""
    if not (wanted.arrays and got.arrays):
        return ""
    kinds = []
    for outcome in (wanted, got):
        (array,) = outcome.arrays.values()
        kinds.append(
            "a text" if array.dtype == "text" else "a list of numbers" if array.shape else "a number"
        )
    return "" if kinds[0] == kinds[1] else f"{kinds[0]} is wanted, this is {kinds[1]}"


def _about_a_test(case: Case, got: Outcome) -> list[str]:
    said = _sentence(f"What your test said: {got.problem}") if got.problem else ""
    right_code_crashed_it = case.points == 0 and got.problem and not got.problem.startswith("AssertionError")
    hint = (
        "no assertion has failed here: the test stopped by itself, on right code. What does this error say "
        "of its own lines, or of its inputs?"
        if right_code_crashed_it
        else case.hint
    )
    return [f"First: {case.name}.", said, _at(got.line), f"Think: {hint}"]


def _measured(exercise: Exercise, case: Case, expected: Outcome, got: Outcome, seed: int) -> list[str]:
    """What can be measured of a case that fails."""
    return [
        f"The first case that fails: {case.name}{_shapes(case.make(seed))}.",
        _difference(exercise, case, expected, got, seed),
        _at(got.line),
        f"Think: {case.hint}" if case.hint and not got.mutated else "",
    ]


def _sentence(text: str) -> str:
    """With one full stop, where it has none: errors of others may come with theirs."""
    return text if text.endswith((".", "?", "!")) else f"{text}."


def _at(line: str) -> str:
    return f"  in the line: {line}" if line else ""


def _shapes(inputs: tuple[Any, ...]) -> str:
    shapes = [str(tuple(x.shape)) if isinstance(x, Tensor) else str(x) for x in inputs]
    return f", input {', '.join(shapes)}" if shapes else ""


def _difference(exercise: Exercise, case: Case, expected: Outcome, got: Outcome, seed: int) -> str:
    if got.problem:
        return _sentence(f"It did not get that far: {got.problem}")
    if got.blank:
        return "It returned nothing (None): is a `return` missing?"
    if got.mutated:
        number = got.mutated[0] + 1
        return f"It changed its argument number {number}. The caller still needs that: make a new tensor."
    for name, right in expected.arrays.items():
        mine = got.arrays[name]
        if mine.shape != right.shape:
            return f"{name} has the shape {mine.shape}, expected {right.shape}."
        if mine.dtype != right.dtype:
            return f"{name} has the dtype {mine.dtype}, expected {right.dtype}."
        strange = sum(x != x for x in mine.numbers)
        if strange and not any(x != x for x in right.numbers):
            return f"{name} holds {strange} NaN among {len(mine.numbers)} numbers."
    for measure in exercise.measures:
        told = measure(case.make(seed), {name: thaw(array) for name, array in got.arrays.items()})
        if told:
            return told
    return next(
        _first_difference(name, right, got.arrays[name], exercise.tolerance_of(case))
        for name, right in expected.arrays.items()
        if not same(right, got.arrays[name], exercise.tolerance_of(case))
    )


def _first_difference(name: str, right: Array, mine: Array, tolerance: float) -> str:
    for position, (r, m) in enumerate(zip(right.numbers, mine.numbers, strict=True)):
        if not same(Array((), "", (r,)), Array((), "", (m,)), tolerance):
            index = (
                [int(i) for i in torch.unravel_index(torch.tensor(position), right.shape)]
                if right.shape
                else []
            )
            return f"{name}{index} is {_number(m)}, expected {_number(r)}."
    raise AssertionError("no difference")  # only called where there is one


def _number(x: Any) -> str:
    return f"{x:.4g}" if isinstance(x, float) else str(x)
