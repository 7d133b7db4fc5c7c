"""Where the written-out and the fused path of `attend` cross on this CPU: the table behind `attn.core`."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from attn.core import attend_fused, attend_written_out
from attn.masks import from_lengths
from benchmarks.pairs import Ratio, compare, must_equal

# (queries, keys): whole sequences, then few queries over a cache.
SHAPES: dict[str, list[tuple[int, int]]] = {
    "full": [(n, n) for n in (8, 16, 24, 32, 48, 64, 128, 256, 512)]
    + [(queries, keys) for queries in (1, 4, 8) for keys in (16, 32, 64, 128, 256)],
    "small": [(8, 8), (1, 8)],
}


def run(size: str = "full") -> list[Ratio]:
    """Written out over fused, forward and, for whole sequences, forward + backward."""
    results = []
    for queries, keys in SHAPES[size]:
        batch = max(1, 64 * 64 // keys)
        lengths = keys - torch.arange(batch) % max(1, keys // 4)
        results += _compare(size, batch, queries, keys, "no mask", {})
        results += _compare(size, batch, queries, keys, "padding", {"mask": from_lengths(lengths, keys)})
        if queries == keys:
            results += _compare(size, batch, queries, keys, "causal", {"causal": True})
    return results


def _compare(
    size: str,
    batch: int,
    queries: int,
    keys: int,
    kind: str,
    options: dict[str, Any],
    heads: int = 8,
    d_k: int = 32,
) -> list[Ratio]:
    settings: dict[str, Any] = {"pairs": 9, "seconds": 0.1} if size == "full" else {"pairs": 3, "seconds": 0}
    projected = torch.randn(batch, keys, 3 * heads * d_k, requires_grad=True)

    def parts() -> tuple[Tensor, ...]:
        """Views of one fused projection, as in a model; few queries stand at the end."""
        q, k, v = projected.unflatten(-1, (3, heads, d_k)).movedim(-3, 0).transpose(-3, -2).unbind(0)
        return q[..., -queries:, :], k, v

    cached = [part.detach().contiguous() for part in parts()]  # as a cache has them

    def forward(attention: Callable[..., Any]) -> Callable[[], Any]:
        inputs = parts() if queries == keys else cached
        return lambda: attention(*inputs, **options)

    def backward(attention: Callable[..., Any]) -> Callable[[], Any]:
        return lambda: attention(*parts(), **options).sum().backward()

    def written_out(*inputs: Tensor, **options: Any) -> Tensor:
        return attend_written_out(*inputs, **options)[0]

    must_equal(forward(written_out)(), forward(attend_fused)())
    name = f"written out / fused, {queries} x {keys}, {kind}"
    with torch.no_grad():
        results = [compare(f"{name}, forward", forward(written_out), forward(attend_fused), **settings)]
    if queries == keys:
        both = f"{name}, forward+backward"
        results.append(compare(both, backward(written_out), backward(attend_fused), **settings))
    return results
