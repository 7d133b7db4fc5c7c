"""Runs an answer on one case and keeps only plain data of it. Whatever it does, `call` returns an Outcome.

The answer shares this process: accidents and simple tricks are caught here, attacks are not. Marks that count
need a process of its own.
"""

import contextlib
import inspect
import io
import linecache
import signal
import threading
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import FunctionType
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from attn.grading.exercise import Case, Exercise

SECONDS = 5.0  # for one call
LARGEST = 1_000_000  # numbers in one array

# Kept from here on, so that an answer that patches them does not change how it is judged.
_detach, _to_list, _gradients = Tensor.detach, Tensor.tolist, torch.autograd.grad


class Array(NamedTuple):
    """A result as plain data: what is compared, and what could cross from one process to another."""

    shape: tuple[int, ...]
    dtype: str
    numbers: tuple[Any, ...]


@dataclass(frozen=True)
class Outcome:
    """What an answer did on one case: arrays by name, or a problem in words."""

    arrays: dict[str, Array] = field(default_factory=dict)
    problem: str = ""
    line: str = ""  # the line of the answer that raised
    mutated: tuple[int, ...] = ()  # positions of the inputs that it changed
    blank: bool = False
    stopped: bool = False  # ran too long or was interrupted: do not call it again


class Unusable(Exception):
    """What an answer gave back cannot be compared; the message says why."""


class _TooSlow(BaseException):
    pass


class _Nowhere(io.TextIOBase):
    def write(self, text: str) -> int:
        return len(text)


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    with contextlib.redirect_stdout(_Nowhere()), contextlib.redirect_stderr(_Nowhere()):
        yield


def call(exercise: Exercise, answer: Any, case: Case, seed: int) -> Outcome:
    """Run `answer` on `case` with inputs made from `seed`."""
    inputs = case.make(seed)
    called: list[bool] = []
    if exercise.kind == "find the bug":
        handed: tuple[Any, ...] = (_anonymous(inputs[0], called),)
    else:
        handed = inputs
    if case.gradients:
        for x in handed:
            if isinstance(x, Tensor) and x.is_floating_point():
                x.requires_grad_()
    try:
        with _time_limit(SECONDS), _silence(), torch.enable_grad():
            arrays = _run(exercise, answer, case, handed)
        mutated = () if exercise.holds_values else _changed(inputs, case.make(seed))
    except Unusable as error:
        return Outcome(problem=str(error))
    except _TooSlow:
        return Outcome(
            problem=f"it was stopped after {SECONDS:.0f} seconds; is there a loop that never ends?",
            stopped=True,
        )
    except KeyboardInterrupt:
        return Outcome(problem="it was interrupted (KeyboardInterrupt)", stopped=True)
    except BaseException as error:
        outcome = _raised(error, answer)
        if exercise.kind == "find the bug" and isinstance(error, Exception) and not outcome.blank:
            return Outcome({"verdict": _word("fails")}, problem=outcome.problem, line=outcome.line)
        return outcome
    if exercise.kind == "find the bug":
        return Outcome({"verdict": _word("passes")}, blank=not called)
    return Outcome(arrays, mutated=mutated, blank=not arrays)


def _run(exercise: Exercise, answer: Any, case: Case, inputs: tuple[Any, ...]) -> dict[str, Array]:
    """The answer's results; an empty dict where it gives nothing (None, or ... in place of a value)."""
    if exercise.holds_values:
        if answer is None or answer is ...:
            return {}
        if not isinstance(answer, dict):
            raise Unusable(f"expected a dict with the keys {', '.join(c.name for c in exercise.cases)}")
        value = dict.get(answer, case.name)
        return {} if value is None or value is ... else {case.name: freeze_value(value)}
    if not callable(answer):
        if answer is None or answer is ...:
            return {}
        raise Unusable(f"expected a function, got {_a(answer)}")
    returned = answer(*inputs)
    if exercise.kind == "find the bug" or returned is None or returned is ...:
        return {}
    results = _unpack(returned, exercise.returns)
    arrays = {name: freeze_tensor(name, result) for name, result in results.items()}
    if case.gradients:
        names = inspect.signature(exercise.reference).parameters
        arrays |= _gradients_of(next(iter(results.values())), dict(zip(names, inputs, strict=False)))
    return arrays


def _anonymous(implementation: Callable[..., Any], called: list[bool]) -> Callable[..., Any]:
    """The implementation under one name for all, noting that it was called."""

    def attention(*arguments: Any, **named: Any) -> Any:
        called.append(True)
        return implementation(*arguments, **named)

    return attention


def _unpack(returned: Any, names: tuple[str, ...]) -> dict[str, Any]:
    if len(names) == 1:
        return {names[0]: returned}
    wanted = f"expected to get ({', '.join(names)})"
    if type(returned) not in (tuple, list):
        raise Unusable(f"{wanted}, got {_a(returned)}")
    if len(returned) != len(names):
        raise Unusable(f"{wanted}, got {len(returned)} things")
    return dict(zip(names, returned, strict=True))


def freeze_tensor(name: str, x: Any) -> Array:
    """A tensor as plain data. Exact types only: a subclass may redefine what equality means."""
    if type(x) not in (Tensor, torch.nn.Parameter):
        raise Unusable(f"{name} should be a torch tensor, got {_a(x)}")
    if x.numel() > LARGEST:
        raise Unusable(f"{name} holds {x.numel()} numbers, far more than expected")
    flat = _to_list(_detach(x).reshape(-1))
    return Array(tuple(x.shape), str(x.dtype).removeprefix("torch."), tuple(flat))


def freeze_value(value: Any) -> Array:
    """A number, a text, or lists, arrays or tensors of numbers, as plain data. Dtypes do not matter here."""
    if type(value) is str:
        return _word(value.strip())
    if type(value) is Tensor:
        value = _to_list(_detach(value))
    elif type(value) is np.ndarray or isinstance(value, np.generic):
        value = value.tolist()
    _only_numbers(value)
    try:
        array = np.array(value, dtype=np.float64)
    except ValueError:
        raise Unusable("expected a number or a list of numbers, got rows of different lengths") from None
    return Array(array.shape, "number", tuple(array.reshape(-1).tolist()))


def _only_numbers(value: Any, depth: int = 0) -> None:
    if type(value) in (list, tuple) and depth < 4:
        for item in value:
            _only_numbers(item, depth + 1)
    elif type(value) not in (int, float):
        raise Unusable(f"expected a number or a list of numbers, got {_a(value)}")


def thaw(array: Array) -> Tensor:
    """A new tensor that holds the array's numbers."""
    return torch.tensor(array.numbers, dtype=getattr(torch, array.dtype)).reshape(array.shape)


def _word(text: str) -> Array:
    return Array((), "text", (text,))


def _a(value: Any) -> str:
    """What a value is, without asking the value."""
    if value is None:
        return "None"
    if type(value) is np.ndarray:
        return "a NumPy array"
    return f"an object of type {type(value).__name__}"


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
    return {
        f"the gradient of {name}": freeze_tensor(name, g) for name, g in zip(wanted, gradients, strict=True)
    }


def _changed(inputs: tuple[Any, ...], fresh: tuple[Any, ...]) -> tuple[int, ...]:
    return tuple(
        i
        for i, (x, y) in enumerate(zip(inputs, fresh, strict=True))
        if isinstance(y, Tensor)
        and not same(freeze_tensor("input", x), freeze_tensor("input", y), tolerance=0.0)
    )


def same(a: Array, b: Array, tolerance: float) -> bool:
    """Equal in shape, dtype and numbers, within `tolerance` (relative; absolute below 1). NaN equals NaN."""
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
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


def _raised(error: BaseException, answer: Any) -> Outcome:
    try:
        message = str.strip(str(error))  # str(error) may be of a subclass of str
    except BaseException:
        message = "(its message cannot be read)"
    if isinstance(error, NotImplementedError) and not message:
        return Outcome(blank=True)
    first = ": " + message.splitlines()[0][:200] if message else ""
    return Outcome(problem=type(error).__name__ + first, line=_line_of(error, answer))


def _line_of(error: BaseException, answer: Any) -> str:
    """The deepest line of the answer's own file (its notebook cell) through which the error went."""
    home = answer.__code__.co_filename if isinstance(answer, FunctionType) else None
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == home]
    return linecache.getline(frames[-1].filename, frames[-1].lineno or 0).strip() if frames else ""


def _stop(signal_number: int, frame: Any) -> None:
    raise _TooSlow


@contextlib.contextmanager
def _time_limit(seconds: float) -> Iterator[None]:
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
