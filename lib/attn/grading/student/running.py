"""Runs an answer on given inputs and keeps only plain data of it. Whatever it does, `run` returns an Outcome.

In a notebook the answer shares this process: accidents and simple tricks are caught here, attacks are not. In
the grader this is the student's process, and the judge trusts nothing of it but that some numbers came.
"""

import builtins
import contextlib
import io
import linecache
import signal
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from types import FunctionType
from typing import Any, Literal

import torch
from torch import Tensor

from attn.grading.student.values import (
    Array,
    Unusable,
    a,
    freeze_tensor,
    freeze_value,
    from_wire,
    to_wire,
    word,
)

Trouble = Literal["", "timeout", "crashed", "out of memory"]

_gradients = torch.autograd.grad  # kept: see values.py


@dataclass(frozen=True)
class Question:
    """How an answer is called, and nothing of what is right.

    Attributes:
      name: under which the notebook holds the answer.
      kind: of the exercise.
      returns: the names of what it returns.
      parameters: the names of its arguments, by which gradients are called.
    """

    name: str
    kind: str
    returns: tuple[str, ...]
    parameters: tuple[str, ...]

    @property
    def holds_values(self) -> bool:
        return self.kind in ("predict", "spot the error")


@dataclass(frozen=True)
class Outcome:
    """What an answer did on one case: arrays by name, or a problem in words."""

    arrays: dict[str, Array] = field(default_factory=dict)
    problem: str = ""
    line: str = ""  # the line of the answer that raised
    mutated: tuple[int, ...] = ()  # positions of the inputs that it changed
    blank: bool = False
    trouble: Trouble = ""  # for "timeout" and "crashed": do not call it again

    @property
    def stopped(self) -> bool:
        return self.trouble in ("timeout", "crashed")


class _TooSlow(BaseException):
    pass


class _Nowhere(io.TextIOBase):
    def write(self, text: str) -> int:
        return len(text)


def too_slow(seconds: float) -> Outcome:
    """The outcome of an answer that was stopped after `seconds`."""
    problem = f"it was stopped after {seconds:.0f} seconds; is there a loop that never ends?"
    return Outcome(problem=problem, trouble="timeout")


@contextlib.contextmanager
def silence() -> Iterator[None]:
    """Nothing that Python code prints is seen."""
    with contextlib.redirect_stdout(_Nowhere()), contextlib.redirect_stderr(_Nowhere()):
        yield


def run(
    question: Question,
    answer: Any,
    case: str,
    inputs: tuple[Any, ...],
    *,
    gradients: bool = False,
    seconds: float | None,
) -> Outcome:
    """Call `answer` with `inputs` (an answer that is a dict: look `case` up) and say what it did.

    In *find the bug* the one input is the implementation that the learner's test tests. `seconds` is None for
    answers of our own: no limit, and their prints (there are none) are not caught.
    """
    called: list[bool] = []
    before = [to_wire(x) if isinstance(x, Tensor) else None for x in inputs]
    handed = (_anonymous(inputs[0], called),) if question.kind == "find the bug" else inputs
    if gradients:
        for x in handed:
            if isinstance(x, Tensor) and x.is_floating_point():
                x.requires_grad_()
    try:
        with contextlib.nullcontext() if seconds is None else _guarded(seconds), torch.enable_grad():
            arrays = _results(question, answer, case, handed, gradients)
        mutated = () if question.holds_values else _changed(inputs, before)
    except Unusable as error:
        return Outcome(problem=str(error))
    except _TooSlow:
        return too_slow(seconds or 0.0)
    except KeyboardInterrupt:
        return Outcome(problem="it was interrupted (KeyboardInterrupt)", trouble="crashed")
    except BaseException as error:
        outcome = raised(error, answer)
        if question.kind == "find the bug" and isinstance(error, Exception) and not outcome.blank:
            return Outcome({"verdict": word("fails")}, problem=outcome.problem, line=outcome.line)
        return outcome
    if question.kind == "find the bug":
        return Outcome({"verdict": word("passes")}, blank=not called)
    return Outcome(arrays, mutated=mutated, blank=not arrays)


def _results(
    question: Question, answer: Any, case: str, inputs: tuple[Any, ...], gradients: bool
) -> dict[str, Array]:
    """The answer's results; an empty dict where it gives nothing (None, or ... in place of a value)."""
    if question.holds_values:
        if answer is None or answer is ...:
            return {}
        if not isinstance(answer, dict):
            raise Unusable("expected a dict with the keys " + ", ".join(question.returns))
        value = dict.get(answer, case)
        return {} if value is None or value is ... else {case: freeze_value(value)}
    if not callable(answer):
        if answer is None or answer is ...:
            return {}
        raise Unusable(f"expected a function, got {a(answer)}")
    returned = answer(*inputs)
    if question.kind == "find the bug" or returned is None or returned is ...:
        return {}
    results = _unpack(returned, question.returns)
    arrays = {name: freeze_tensor(name, result) for name, result in results.items()}
    if gradients:
        named = dict(zip(question.parameters, inputs, strict=False))
        arrays |= _gradients_of(next(iter(results.values())), named)
    return arrays


def _anonymous(implementation: Callable[..., Any], called: list[bool]) -> Callable[..., Any]:
    """The implementation under one name for all, noting that it was called."""

    def attention(*arguments: Any, **named: Any) -> Any:
        called.append(True)
        return implementation(*arguments, **named)

    return attention


def given(reply: Sequence[Any]) -> Any:
    """What an implementation's reply means to the test: the result, or the error raised again."""
    if reply[0]:
        return from_wire(reply[1])
    kind = getattr(builtins, reply[1], None)
    if isinstance(kind, type) and issubclass(kind, Exception) and kind is not NotImplementedError:
        raise kind(reply[2])
    raise RuntimeError(reply[2])


def _unpack(returned: Any, names: tuple[str, ...]) -> dict[str, Any]:
    if len(names) == 1:
        return {names[0]: returned}
    wanted = f"expected to get ({', '.join(names)})"
    if type(returned) not in (tuple, list):
        raise Unusable(f"{wanted}, got {a(returned)}")
    if len(returned) != len(names):
        raise Unusable(f"{wanted}, got {len(returned)} things")
    return dict(zip(names, returned, strict=True))


def gradient_name(parameter: str) -> str:
    """What the gradient with respect to an argument is called."""
    return f"the gradient of {parameter}"


def _gradients_of(output: Tensor, inputs: dict[str, Any]) -> dict[str, Array]:
    """The gradient of a fixed weighted sum of `output` with respect to each floating-point input."""
    wanted = {name: x for name, x in inputs.items() if isinstance(x, Tensor) and x.is_floating_point()}
    if not output.requires_grad:
        raise Unusable(
            "no gradient can flow through it: NumPy, .detach(), .item() or no_grad() cut the output off"
        )
    direction = torch.linspace(-1, 1, output.numel(), dtype=output.dtype).reshape(output.shape)
    found = _gradients((output * direction).sum(), list(wanted.values()), allow_unused=True)
    gradients = [torch.zeros_like(x) if g is None else g for x, g in zip(wanted.values(), found, strict=True)]
    return {gradient_name(name): freeze_tensor(name, g) for name, g in zip(wanted, gradients, strict=True)}


def _changed(inputs: tuple[Any, ...], before: list[Any]) -> tuple[int, ...]:
    return tuple(
        i
        for i, (x, y) in enumerate(zip(inputs, before, strict=True))
        if y is not None and not _identical(freeze_tensor("input", x), y)
    )


def _identical(x: Array, y: Array) -> bool:
    """The same numbers, NaN being the same as NaN."""
    if x.shape != y.shape:
        return False
    return x.numbers == y.numbers or all(
        i == j or (i != i and j != j) for i, j in zip(x.numbers, y.numbers, strict=True)
    )


def raised(error: BaseException, answer: Any = None) -> Outcome:
    """The outcome of an answer that raised `error`."""
    try:
        message = str.strip(str(error))  # str(error) may be of a subclass of str
    except BaseException:
        message = "(its message cannot be read)"
    if isinstance(error, NotImplementedError) and not message:
        return Outcome(blank=True)
    first = ": " + message.splitlines()[0][:200] if message else ""
    full = isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and "can't allocate memory" in message
    )
    return Outcome(
        problem=type(error).__name__ + first,
        line=_line_of(error, answer),
        trouble="out of memory" if full else "",
    )


def _line_of(error: BaseException, answer: Any) -> str:
    """The deepest line of the answer's own file (its notebook cell) through which the error went."""
    home = answer.__code__.co_filename if isinstance(answer, FunctionType) else None
    try:
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == home]
        return linecache.getline(frames[-1].filename, frames[-1].lineno or 0).strip() if frames else ""
    except BaseException:  # memory may be exhausted, linecache patched
        return ""


def _stop(signal_number: int, frame: Any) -> None:
    raise _TooSlow


@contextlib.contextmanager
def _guarded(seconds: float) -> Iterator[None]:
    with time_limit(seconds), silence():
        yield


@contextlib.contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise _TooSlow in the answer after `seconds`, again and again in case it catches everything.

    Works where Unix signals do, in the main thread, where notebooks run cells; elsewhere there is no limit.
    """
    if not hasattr(signal, "setitimer") or threading.current_thread() is not threading.main_thread():
        yield
        return

    before = signal.signal(signal.SIGALRM, _stop)
    signal.setitimer(signal.ITIMER_REAL, seconds, 0.1)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
