"""Where the written-out and the fused path of `attend` cross on this CPU: the table behind `attn.core`."""

from typing import Any

import torch
from torch import Tensor

from attn.core import attend_fused, attend_written_out
from attn.masks import from_lengths
from benchmarks.pairs import Ratio, compare, must_equal

LENGTHS = {"full": (8, 16, 24, 32, 48, 64, 96, 128, 256, 512), "small": (8,)}


def run(size: str = "full") -> list[Ratio]:
    """Written out over fused, forward and forward + backward, for each length and kind of mask."""
    results = []
    for length in LENGTHS[size]:
        batch = max(1, 64 * 64 // length)
        lengths = length - torch.arange(batch) % max(1, length // 4)
        results += _compare(size, batch, length, "no mask", {})
        results += _compare(size, batch, length, "causal", {"causal": True})
        results += _compare(size, batch, length, "padding", {"mask": from_lengths(lengths, length)})
    return results


def _compare(
    size: str, batch: int, length: int, kind: str, options: dict[str, Any], heads: int = 8, d_k: int = 32
) -> list[Ratio]:
    # Views of one fused projection, as in a model.
    projected = torch.randn(batch, length, 3 * heads * d_k, requires_grad=True)

    def parts() -> tuple[Tensor, ...]:
        return projected.unflatten(-1, (3, heads, d_k)).movedim(-3, 0).transpose(-3, -2).unbind(0)

    def written_out() -> Tensor:
        return attend_written_out(*parts(), **options)[0]

    def fused() -> Tensor:
        return attend_fused(*parts(), **options)

    must_equal(written_out(), fused())
    settings: dict[str, Any] = {"pairs": 9, "seconds": 0.1} if size == "full" else {"pairs": 3, "seconds": 0}
    name = f"written out / fused, length {length}, {kind}"
    with torch.no_grad():
        forward = compare(f"{name}, forward", written_out, fused, **settings)
    both = compare(
        f"{name}, forward+backward",
        lambda: written_out().sum().backward(),
        lambda: fused().sum().backward(),
        **settings,
    )
    return [forward, both]
