"""What the tests of the subject share: awkward inputs, slow and obvious references, and comparisons.

Inputs are awkward on purpose: every axis another size and none of them 1, weights and biases that are not at
their initial values, and float64, so that a difference of 1e-12 is already a mistake.
"""

import math
import os
import subprocess
import sys
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import torch
from hypothesis import settings
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from attn import Transformer

# Every run draws the same examples, in any order of tests.
PROPERTY = settings(derandomize=True, database=None, deadline=None, max_examples=25)

M = TypeVar("M", bound=nn.Module)
EXACT = {torch.float64: 1e-12, torch.float32: 1e-5}


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64, grad: bool = False) -> Tensor:
    """Standard normal numbers, the same ones for the same seed."""
    x = torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return x.to(dtype).requires_grad_(grad)


def random_mask(*shape: int, seed: int = 0, allowed: float = 0.6) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) < allowed


def random_tokens(
    *shape: int, vocabulary: int, seed: int = 0, lengths: Iterable[int] | None = None
) -> Tensor:
    """Tokens other than the special ones 0, 1 and 2; beyond the given lengths padding (0)."""
    tokens = torch.randint(3, vocabulary, shape, generator=torch.Generator().manual_seed(seed))
    if lengths is not None:
        for row, length in enumerate(lengths):
            tokens[row, length:] = 0
    return tokens


def close(actual: Tensor, expected: Tensor, tolerance: float | None = None) -> None:
    """Equal up to rounding: 1e-12 in float64, 1e-5 in float32, of 1 or of the largest number if above 1."""
    tolerance = EXACT[actual.dtype] if tolerance is None else tolerance
    largest = max(1.0, expected.detach().abs().max().item()) if expected.numel() else 1.0
    torch.testing.assert_close(actual, expected, rtol=0.0, atol=tolerance * largest)


def different(actual: Tensor, expected: Tensor) -> bool:
    """Different by far more than rounding."""
    return actual.shape != expected.shape or bool((actual - expected).abs().max() > 1e-4)


def shaken(module: M, *, seed: int = 0, size: float = 0.3, dtype: torch.dtype = torch.float64) -> M:
    """The module with noise for parameters, so that no bias is 0 and no LayerNorm the identity.

    The same numbers for the same seed, whatever the parameters were.
    """
    module.to(dtype)
    with torch.no_grad():
        for i, parameter in enumerate(module.parameters()):
            around = 1.0 if (parameter == 1).all() else 0.0  # a LayerNorm's scale
            noise = normal(*parameter.shape, seed=1000 * seed + i)
            # Biases stay small: behind a LayerNorm they would drown what depends on the input.
            parameter.copy_(around + (size if parameter.ndim > 1 else size / 3) * noise)
    return module


def gradients(output: Tensor, wanted: dict[str, Tensor]) -> dict[str, Tensor]:
    """Of a fixed random projection of the output: a plain sum is constant behind a LayerNorm or a softmax."""
    direction = normal(*output.shape, seed=99, dtype=output.dtype)
    found = torch.autograd.grad((output * direction).sum(), list(wanted.values()))
    return dict(zip(wanted, found, strict=True))


def small_transformer(*, seed: int = 0, size: float = 0.3, **changes: Any) -> Transformer:
    """A model of 2 + 2 small layers in float64 without dropout, in evaluation mode."""
    settings = {
        "source_vocabulary": 11,
        "target_vocabulary": 13,
        "d_model": 12,
        "n_heads": 3,
        "n_encoder_layers": 2,
        "n_decoder_layers": 2,
        "d_ff": 20,
        "dropout": 0.0,
    }
    return shaken(Transformer(**{**settings, **changes}), seed=seed, size=size).eval()


def attend_by_loops(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    score: Callable[[Tensor, Tensor, int, int], float] | None = None,
    allowed: Callable[[int, int], bool] = lambda i, j: True,
) -> tuple[Tensor, Tensor]:
    """Equation 1 for one sequence, number by number. `score(q, k, i, j)`: the default is q·k / √d_k."""
    if score is None:

        def score(q: Tensor, k: Tensor, i: int, j: int) -> float:
            return sum(a * b for a, b in zip(q.tolist(), k.tolist(), strict=True)) / math.sqrt(len(q))

    weights = torch.zeros(len(query), len(key), dtype=query.dtype)
    for i, q in enumerate(query):
        scores = {j: score(q, k, i, j) for j, k in enumerate(key) if allowed(i, j)}
        highest = max(scores.values(), default=0.0)
        total = sum(math.exp(s - highest) for s in scores.values())
        for j, s in scores.items():
            weights[i, j] = math.exp(s - highest) / total
    output = torch.zeros(len(query), value.size(-1), dtype=query.dtype)
    for i in range(len(query)):
        for j in range(len(key)):
            output[i] += weights[i, j] * value[j]
    return output, weights


class LargestTensor(TorchDispatchMode):
    """Sees every tensor that torch makes, forward and backward, and remembers the size of the largest."""

    def __init__(self) -> None:
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        for x in tree_leaves(result):
            if isinstance(x, Tensor):
                self.elements = max(self.elements, x.untyped_storage().nbytes() // x.element_size())
        return result


def run_without_shape_checks(code: str) -> str:
    """Run Python in a process of its own with the run-time checks off, as a user's script has them."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "ATTN_CHECK_SHAPES": "0"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
