"""MultiHeadAttention beside a bare fused projection + `scaled_dot_product_attention`, and beside
`nn.MultiheadAttention`.
"""

import contextlib
import re
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from attn.convert import to_torch
from attn.masks import causal, to_torch_mha
from attn.multihead import MultiHeadAttention
from benchmarks.pairs import Ratio, compare, must_equal

# (batch, length), and the bar for the full forward pass beside nn.MultiheadAttention.
SHAPES: dict[str, dict[tuple[int, int], float | None]] = {
    "full": {(32, 256): 0.85, (8, 1024): 0.75},
    "small": {(4, 32): None},
}


class Bare(nn.Module):
    """The least that computes the same: project, `scaled_dot_product_attention`, project."""

    def __init__(self, model: MultiHeadAttention):
        super().__init__()
        self.W_qkv, self.W_o, self.n_heads = model.W_qkv, model.W_o, model.n_heads

    def forward(self, x: Tensor, is_causal: bool) -> Tensor:
        batch, length, d_model = x.shape
        qkv = self.W_qkv(x).view(batch, length, 3, self.n_heads, d_model // self.n_heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        output = F.scaled_dot_product_attention(q, k, v, is_causal=is_causal)
        return self.W_o(output.transpose(1, 2).reshape(batch, length, d_model))


def run(size: str = "full", d_model: int = 512, n_heads: int = 8) -> list[Ratio]:
    """All comparisons at the present number of threads."""
    torch.manual_seed(0)
    ours = MultiHeadAttention(d_model, n_heads).eval()
    results = []
    for (batch, length), bar in SHAPES[size].items():
        x = torch.randn(batch, length, d_model)
        results += _compare(size, ours, x, is_causal=False, bar=bar)
        results += _compare(size, ours, x, is_causal=True, bar=None)
    return results


def _compare(
    size: str, ours: MultiHeadAttention, x: Tensor, *, is_causal: bool, bar: float | None
) -> list[Ratio]:
    bare, theirs = Bare(ours), to_torch(ours)
    batch, length, _ = x.shape
    of_torch = {"attn_mask": to_torch_mha(causal(length)), "is_causal": True} if is_causal else {}

    def forward_ours() -> Tensor:
        return ours(x, causal=is_causal, need_weights=False)[0]

    def forward_bare() -> Tensor:
        return bare(x, is_causal)

    def forward_theirs() -> Tensor:
        return theirs(x, x, x, need_weights=False, **of_torch)[0]

    must_equal(forward_ours(), forward_bare())
    must_equal(forward_ours(), forward_theirs())
    settings: dict[str, Any] = {"pairs": 9, "seconds": 0.4} if size == "full" else {"pairs": 3, "seconds": 0}
    name = f"attention ({batch}, {length}) {'causal' if is_causal else 'full'}"
    with torch.no_grad():
        results = [
            compare(f"{name} forward / bare", forward_ours, forward_bare, bar=1.03, **settings),
            compare(f"{name} forward / nn.MHA", forward_ours, forward_theirs, bar=bar, **settings),
        ]
    both = compare(
        f"{name} forward+backward / bare",
        lambda: forward_ours().sum().backward(),
        lambda: forward_bare().sum().backward(),
        bar=1.03,
        **settings,
    )
    return [*results, both]


def memory_growth(lengths: tuple[int, ...], *, need_weights: bool = False) -> dict[int, float]:
    """Peak memory (MB) that one forward pass adds to the process, by length; batch 1, 8 heads of width 16."""
    return {length: _peak_of(length, need_weights) for length in lengths}


def _peak_of(length: int, need_weights: bool) -> float:
    command = [sys.executable, "-m", "benchmarks.attention", str(length), str(int(need_weights))]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def _main(length: int, need_weights: bool) -> None:
    """In a process of its own: peak memory never goes down again."""
    torch.set_num_threads(1)
    model = MultiHeadAttention(128, 8).eval()
    with torch.no_grad():
        model(torch.randn(1, 64, 128))
        x = torch.randn(1, length, 128)
        with contextlib.suppress(OSError):  # on Linux: forget the peak that importing left
            Path("/proc/self/clear_refs").write_text("5")
        before = _peak()
        model(x, need_weights=need_weights)
    print(_peak() - before)


def _peak() -> float:
    """Most memory held so far, in MB."""
    status = Path("/proc/self/status")
    if status.exists() and (held := re.search(r"VmHWM:\s+(\d+) kB", status.read_text())):
        return int(held[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    _main(int(sys.argv[1]), sys.argv[2] == "1")
