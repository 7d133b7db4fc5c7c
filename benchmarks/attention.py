"""MultiHeadAttention beside a bare fused projection + `scaled_dot_product_attention`, and beside `nn.MultiheadAttention`."""

import resource
import subprocess
import sys

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from attn.convert import to_torch
from attn.masks import causal, to_torch_mha
from attn.multihead import MultiHeadAttention
from benchmarks.pairs import Ratio, compare, must_equal

SHAPES = {"full": [(32, 256), (8, 1024)], "small": [(4, 32)]}  # (batch, length)


class Bare(nn.Module):
    """The least that computes the same: project, `scaled_dot_product_attention`, project."""

    def __init__(self, model: MultiHeadAttention):
        super().__init__()
        self.W_qkv, self.W_o, self.n_heads = model.W_qkv, model.W_o, model.n_heads

    def forward(self, x: Tensor, is_causal: bool) -> Tensor:
        batch, length, d_model = x.shape
        qkv = self.W_qkv(x).view(batch, length, 3, self.n_heads, d_model // self.n_heads).permute(2, 0, 3, 1, 4)
        output = F.scaled_dot_product_attention(*qkv.unbind(0), is_causal=is_causal)
        return self.W_o(output.transpose(1, 2).reshape(batch, length, d_model))


def run(size: str = "full", d_model: int = 512, n_heads: int = 8) -> list[Ratio]:
    """All comparisons at the present number of threads."""
    results = []
    torch.manual_seed(0)
    ours = MultiHeadAttention(d_model, n_heads).eval()
    bare, theirs = Bare(ours), to_torch(ours)
    pairs, seconds = (9, 0.4) if size == "full" else (3, 0.0)
    for batch, length in SHAPES[size]:
        x = torch.randn(batch, length, d_model)
        forbidden = to_torch_mha(causal(length))

        for is_causal in (False, True):
            kind = "causal" if is_causal else "full"
            of_torch = {"attn_mask": forbidden, "is_causal": True} if is_causal else {}

            def forward_ours() -> Tensor:
                return ours(x, causal=is_causal, need_weights=False)[0]

            def forward_bare() -> Tensor:
                return bare(x, is_causal)

            def forward_theirs() -> Tensor:
                return theirs(x, x, x, need_weights=False, **of_torch)[0]

            must_equal(forward_ours(), forward_bare())
            must_equal(forward_ours(), forward_theirs())
            where = f"({batch}, {length}) {kind}"
            bar = None
            if (batch, length, is_causal) in {(32, 256, False): 1, (8, 1024, False): 1}:
                bar = 0.85 if length == 256 else 0.75
            with torch.no_grad():
                results.append(
                    compare(f"attention forward {where} / bare", forward_ours, forward_bare, pairs=pairs, seconds=seconds, bar=1.03)
                )
                results.append(
                    compare(
                        f"attention forward {where} / nn.MHA", forward_ours, forward_theirs, pairs=pairs, seconds=seconds, bar=bar
                    )
                )
            results.append(
                compare(
                    f"attention forward+backward {where} / bare",
                    lambda: forward_ours().sum().backward(),
                    lambda: forward_bare().sum().backward(),
                    pairs=pairs,
                    seconds=seconds,
                    bar=1.03,
                )
            )
    return results


def memory_growth(lengths: tuple[int, ...] = (2048, 4096, 8192), *, need_weights: bool = False) -> list[float]:
    """Peak memory (MB) that one forward pass adds to the process at each length, batch 1, 8 heads of width 16."""
    return [float(_peak_of(length, need_weights)) for length in lengths]


def _peak_of(length: int, need_weights: bool) -> str:
    command = [sys.executable, "-m", "benchmarks.attention", str(length), str(int(need_weights))]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def _main(length: int, need_weights: bool) -> None:
    """In a process of its own: peak memory never goes down again."""
    torch.set_num_threads(1)
    model = MultiHeadAttention(128, 8).eval()
    with torch.no_grad():
        model(torch.randn(1, 64, 128))
        x = torch.randn(1, length, 128)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        model(x, need_weights=need_weights)
    print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)


if __name__ == "__main__":
    _main(int(sys.argv[1]), sys.argv[2] == "1")
