"""What an exercise is: data. A reference, cases that make inputs, and a bank of known mistakes.

Nothing here runs an answer or judges one: `calling` runs, `checking` judges. An exercise is found by its id
alone, its inputs are made from a seed, and all that goes in and comes back is plain data (`student.values`),
so that an answer can run in one process and be judged in another.
"""

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch

Kind = Literal["implement", "predict", "find the bug", "spot the error", "design"]


@dataclass(frozen=True, eq=False)
class Case:
    """One thing to try. `inputs` makes the positional arguments of the answer from a seeded generator."""

    name: str
    inputs: Callable[[torch.Generator], tuple[Any, ...]]
    points: int = 1
    gradients: bool = (
        False  # also compare the gradients of the first output with respect to every floating input
    )
    hint: str = ""  # said when this case fails and no known mistake explains it
    tolerance: float | None = None  # where this case needs another one than its exercise

    def make(self, seed: int) -> tuple[Any, ...]:
        """The arguments for this seed, new objects at each call."""
        return self.inputs(torch.Generator().manual_seed(seed))


@dataclass(frozen=True)
class Mistake:
    """A small wrong answer with its name, and a hint that asks rather than tells.

    `equivalent`: not like the reference, and right all the same; the hint says why, and where it matters.
    """

    name: str
    hint: str
    answer: Any
    equivalent: bool = False


@dataclass(frozen=True, eq=False)  # equal when the same object: what is known of one can be kept by it
class Exercise:
    """An exercise. Its id is "NN.name": chapter, and the name under which a notebook holds the answer.

    An answer is a function, called with the inputs of each case, or for *predict* and *spot the error* a
    dict of named values, one per case. In *find the bug* the answer is a test: each case hands it an
    implementation, and what counts is whether the test raises (the outcome is the word "passes" or "fails").

    Attributes:
      returns: the names of what the answer returns.
      view: for answers that may differ and still be right (*design*): maps inputs and outputs to the tensors
        that are compared, by name. Raises ValueError with a plain sentence where the outputs cannot be used.
      measures: look at (inputs, outputs by name) of a wrong answer that no known mistake explains, and say
        what they see, or None.
      right: correct answers written differently; each must get full marks.
      concepts: ids of the concepts that it practises.
    """

    id: str
    kind: Kind
    concepts: tuple[str, ...]
    reference: Any
    cases: tuple[Case, ...]
    mistakes: tuple[Mistake, ...]
    right: tuple[Any, ...] = ()
    returns: tuple[str, ...] = ("result",)
    view: Callable[..., dict[str, torch.Tensor]] | None = None
    measures: tuple[Callable[..., str | None], ...] = ()
    tolerance: float = 1e-4

    @property
    def name(self) -> str:
        return self.id.partition(".")[2]

    @property
    def points(self) -> int:
        return sum(case.points for case in self.cases)

    def tolerance_of(self, case: Case) -> float:
        """How far a number of this case may be off: relative, and absolute below 1."""
        return self.tolerance if case.tolerance is None else case.tolerance

    @property
    def holds_values(self) -> bool:
        """Whether the answer is a dict of values rather than a function."""
        return self.kind in ("predict", "spot the error")


def values(
    *names: str, hints: dict[str, str] | None = None, tolerances: dict[str, float] | None = None
) -> tuple[Case, ...]:
    """The cases of an answer that is a dict: one per name, some with a tolerance of their own."""
    hints, tolerances = hints or {}, tolerances or {}
    return tuple(
        Case(name, _always(name), hint=hints.get(name, ""), tolerance=tolerances.get(name)) for name in names
    )


def trials(*implementations: Mistake) -> tuple[Case, ...]:
    """The cases of an answer that is a test, one per implementation. The equivalent ones bring no points."""
    return tuple(
        Case(
            implementation.name,
            _always(implementation.answer),
            points=0 if implementation.equivalent else 1,
            hint=implementation.hint,
        )
        for implementation in implementations
    )


def _always(argument: Any) -> Callable[[torch.Generator], tuple[Any, ...]]:
    return lambda generator: (argument,)


def chapters() -> dict[str, str]:
    """The chapters that have graded exercises, each with its module: {"01": "ch01_...", ...}."""
    from attn.grading import exercises

    found = sorted(name for _, name, _ in pkgutil.iter_modules(exercises.__path__) if name.startswith("ch"))
    return {name[2:4]: name for name in found}


def chapter(number: str) -> tuple[Exercise, ...]:
    """All exercises of a chapter ("01"). Raises ValueError where there is none."""
    modules = chapters()
    if number not in modules:
        raise ValueError(f"no exercises for chapter {number!r}; there are some for {', '.join(modules)}")
    module = importlib.import_module(f"attn.grading.exercises.{modules[number]}")
    found: tuple[Exercise, ...] = module.EXERCISES
    return found


def load(id: str) -> Exercise:
    """The exercise with this id. Raises ValueError, naming the known ones, where there is none."""
    known = {exercise.id: exercise for exercise in chapter(id.partition(".")[0])}
    if id not in known:
        raise ValueError(f"no exercise {id!r}; this chapter has {', '.join(known)}")
    return known[id]
