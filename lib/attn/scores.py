"""Scores: how well does each key answer each query?

A score is any function `score(query, key) -> (..., queries, keys)`. Those that learn are `nn.Module`s.
Positions can enter here too: see `Rotary`, `RelativePositions` and `Alibi` in `attn.positions`.
"""

import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn

Score = Callable[[Tensor, Tensor], Tensor]


def dot_product(
    query: Float[Tensor, "*#batch queries d_k"], key: Float[Tensor, "*#batch keys d_k"]
) -> Float[Tensor, "... queries keys"]:
    """Q Kᵀ (Luong et al. 2015, section 3.1, "dot"). Unbounded: ten times the query gives ten times the
    score.
    """
    return query @ key.transpose(-2, -1)


def scaled_dot_product(
    query: Float[Tensor, "*#batch queries d_k"], key: Float[Tensor, "*#batch keys d_k"]
) -> Float[Tensor, "... queries keys"]:
    """Q Kᵀ / √d_k (Vaswani et al. 2017, equation 1).

    For independent entries of variance 1 a dot product has variance d_k; the scale brings it back to 1. d_k
    is the width of one head, not of the model.
    """
    # Scaling the query costs queries x d_k multiplications, scaling the scores would cost queries x keys.
    return (query * (1.0 / math.sqrt(query.size(-1)))) @ key.transpose(-2, -1)


def cosine(
    query: Float[Tensor, "*#batch queries d_k"],
    key: Float[Tensor, "*#batch keys d_k"],
    temperature: float = 1.0,
) -> Float[Tensor, "... queries keys"]:
    """q·k / (|q| |k| temperature). The cosine lies in [-1, 1], so that without a low temperature softmax
    stays almost flat.

    Errors: ValueError for a temperature that is not positive.
    """
    if temperature <= 0:
        raise ValueError(f"temperature must be positive, got {temperature}")
    return (
        nn.functional.normalize(query, dim=-1)
        @ nn.functional.normalize(key, dim=-1).transpose(-2, -1)
        / temperature
    )


class Bilinear(nn.Module):
    """q W kᵀ (Luong et al. 2015, section 3.1, "general"): query and key may have different widths.

    Weights: `W` (d_q, d_k).
    """

    def __init__(self, d_q: int, d_k: int):
        super().__init__()
        self.W = nn.Parameter(torch.empty(d_q, d_k))
        nn.init.xavier_uniform_(self.W)

    def forward(
        self, query: Float[Tensor, "*#batch queries d_q"], key: Float[Tensor, "*#batch keys d_k"]
    ) -> Float[Tensor, "... queries keys"]:
        return query @ self.W @ key.transpose(-2, -1)


class Additive(nn.Module):
    """v · tanh(q W_q + k W_k): a one-layer perceptron scores each pair (Bahdanau et al. 2015, appendix
    A.1.2).

    Weights: `W_q` (d_q → d_hidden), `W_k` (d_k → d_hidden), `v` (d_hidden → 1), none with a bias. Holds
    queries x keys x d_hidden numbers at once, the price that the dot product does not pay.

    Where many queries come one after the other, `W_k(key)` is the same for all of them: compute it once, give
    it as the key, and score with `of_projected_keys`.
    """

    def __init__(self, d_q: int, d_k: int, d_hidden: int):
        super().__init__()
        self.W_q = nn.Linear(d_q, d_hidden, bias=False)
        self.W_k = nn.Linear(d_k, d_hidden, bias=False)
        self.v = nn.Linear(d_hidden, 1, bias=False)

    def forward(
        self, query: Float[Tensor, "*#batch queries d_q"], key: Float[Tensor, "*#batch keys d_k"]
    ) -> Float[Tensor, "... queries keys"]:
        return self.of_projected_keys(query, self.W_k(key))

    def of_projected_keys(
        self,
        query: Float[Tensor, "*#batch queries d_q"],
        projected_key: Float[Tensor, "*#batch keys d_hidden"],
    ) -> Float[Tensor, "... queries keys"]:
        """The same score, of keys that went through `W_k` before."""
        pairs = self.W_q(query).unsqueeze(-2) + projected_key.unsqueeze(-3)
        return self.v(torch.tanh(pairs)).squeeze(-1)
