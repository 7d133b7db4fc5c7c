"""Which device to compute on, and in which precision."""

from contextlib import AbstractContextManager, nullcontext
from typing import Literal

import torch

Precision = Literal["fp32", "bf16"]


def pick_device(name: str | None = None) -> torch.device:
    """The device called `name`; without a name (or "auto") CUDA where it is, else MPS (Apple), else the CPU.

    Raises ValueError where that device is unknown or not on this machine, and says which ones are.
    """
    there = available()
    if name is None or name == "auto":
        return torch.device(there[0])
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in there:
        raise ValueError(f"device {name!r} is not here; this machine has: {', '.join(there)} (or auto)")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        count = torch.cuda.device_count()
        raise ValueError(f"device {name!r} is not here; this machine has {count} CUDA device(s)")
    return device


def available() -> list[str]:
    """The kinds of device of this machine, the fastest first; the CPU is always the last."""
    there = []
    if torch.cuda.is_available():
        there.append("cuda")
    if torch.backends.mps.is_available():
        there.append("mps")
    return [*there, "cpu"]


def autocast(device: torch.device, precision: Precision = "fp32") -> AbstractContextManager[object]:
    """Everything inside computes in `precision`: "fp32" changes nothing, "bf16" multiplies in bfloat16.

    Weights, their gradients and the optimiser stay in float32. bfloat16 has float32's range, so unlike
    float16 it needs no loss scaling.

    Raises ValueError where the precision is unknown or the device cannot do it.
    """
    if precision == "fp32":
        return nullcontext()
    if precision != "bf16":
        raise ValueError(f"precision must be 'fp32' or 'bf16', not {precision!r}")
    if device.type == "cuda" and not torch.cuda.is_bf16_supported():
        raise ValueError(f"{torch.cuda.get_device_name(device)} cannot compute in bf16: use precision='fp32'")
    try:
        return torch.autocast(device.type, dtype=torch.bfloat16)
    except RuntimeError as error:
        raise ValueError(f"{device.type} cannot compute in bf16 ({error}): use precision='fp32'") from error
