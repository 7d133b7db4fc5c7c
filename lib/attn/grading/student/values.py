"""Values as plain data: what an answer gives back, and all that crosses from one process to another."""

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

LARGEST = 1_000_000  # numbers in one array

# Kept from here on, so that an answer that patches them does not change how it is judged.
_detach, _to_list = Tensor.detach, Tensor.tolist


class Array(NamedTuple):
    """A result as plain data: shape, dtype, and the numbers row by row (or one text)."""

    shape: tuple[int, ...]
    dtype: str
    numbers: tuple[Any, ...]


class Unusable(Exception):
    """What an answer gave back cannot be compared; the message says why."""


def freeze_tensor(name: str, x: Any) -> Array:
    """A tensor as plain data. Exact types only: a subclass may redefine what equality means."""
    if type(x) not in (Tensor, torch.nn.Parameter):
        raise Unusable(f"{name} should be a torch tensor, got {a(x)}")
    if x.numel() > LARGEST:
        raise Unusable(f"{name} holds {x.numel()} numbers, far more than expected")
    if x.is_complex():
        raise Unusable(f"{name} holds complex numbers")
    flat = _to_list(_detach(x).reshape(-1))
    return Array(tuple(x.shape), str(x.dtype).removeprefix("torch."), tuple(flat))


def freeze_value(value: Any) -> Array:
    """A number, a text, or lists, arrays or tensors of numbers, as plain data. Dtypes do not matter here."""
    if type(value) is str:
        return word(value.strip())
    if type(value) is Tensor:
        value = _to_list(_detach(value))
    elif type(value) is np.ndarray or isinstance(value, np.generic):
        value = value.tolist()
    _only_numbers(value)
    try:
        array = np.array(value, dtype=np.float64)
    except ValueError:
        raise Unusable("expected a number or a list of numbers, got rows of different lengths") from None
    except OverflowError:
        raise Unusable("the number is far larger than expected") from None
    return Array(array.shape, "number", tuple(array.reshape(-1).tolist()))


def _only_numbers(value: Any, depth: int = 0) -> None:
    if type(value) in (list, tuple) and depth < 4:
        for item in value:
            _only_numbers(item, depth + 1)
    elif type(value) not in (int, float):
        raise Unusable(f"expected a number or a list of numbers, got {a(value)}")


def thaw(array: Array) -> Tensor:
    """A new tensor that holds the array's numbers."""
    return torch.tensor(array.numbers, dtype=getattr(torch, array.dtype)).reshape(array.shape)


def word(text: str) -> Array:
    """A text as plain data."""
    return Array((), "text", (text,))


def a(value: Any) -> str:
    """What a value is, without asking the value."""
    if value is None:
        return "None"
    if type(value) is np.ndarray:
        return "a NumPy array"
    return f"an object of type {type(value).__name__}"


def to_wire(value: Any, name: str = "the argument") -> Any:
    """A value as it can cross: tensors become arrays, lists and tuples stay. Raises Unusable for others."""
    if type(value) in (Tensor, torch.nn.Parameter):
        return freeze_tensor(name, value)
    if type(value) in (list, tuple):
        return type(value)(to_wire(item, name) for item in value)
    if value is None or type(value) in (bool, int, float, str):
        return value
    raise Unusable(f"{name} should be a tensor, a number or a list of these, got {a(value)}")


def from_wire(value: Any) -> Any:
    """The value again, all of it new."""
    if type(value) is Array:
        return value.numbers[0] if value.dtype == "text" else thaw(value)
    if type(value) in (list, tuple):
        return type(value)(from_wire(item) for item in value)
    return value
