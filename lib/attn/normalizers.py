"""Normalizers: from scores to weights over the keys, the last axis.

A normalizer is any function `normalize(scores) -> weights` of the same shape. `attend` has already replaced
forbidden scores by the lowest finite number, which each of these maps to a weight of exactly 0, and it
zeroes the rows in which nothing is allowed.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

Normalizer = Callable[[Tensor], Tensor]


def softmax(scores: Float[Tensor, "*axes keys"]) -> Float[Tensor, "*axes keys"]:
    """exp(s) / Σ exp(s). torch subtracts each row's maximum first, so scores of any size are safe."""
    return torch.softmax(scores, dim=-1)


def relu(scores: Float[Tensor, "*axes keys"]) -> Float[Tensor, "*axes keys"]:
    """max(s, 0) / Σ max(s, 0): weights that can be exactly 0. A row without a positive score gives zeros."""
    positive = scores.clamp_min(0)
    # A row of zeros divides by 1: its weights are 0 and its gradient is finite.
    total = positive.sum(dim=-1, keepdim=True)
    return positive / total.where(total > 0, 1.0)


def sparsemax(scores: Float[Tensor, "*axes keys"]) -> Float[Tensor, "*axes keys"]:
    """The point of the simplex nearest to the scores (Martins and Astudillo 2016, algorithm 1): exact
    zeros, differentiable.
    """
    shifted = scores - scores.amax(dim=-1, keepdim=True)  # only differences matter
    ordered = shifted.sort(dim=-1, descending=True).values
    count = torch.arange(1, scores.size(-1) + 1, device=scores.device, dtype=scores.dtype)
    above = ordered.cumsum(dim=-1) - 1
    support = (ordered * count > above).sum(dim=-1, keepdim=True)
    threshold = above.gather(-1, support - 1) / support
    return (shifted - threshold).clamp_min(0)


def hard(scores: Float[Tensor, "*axes keys"]) -> Float[Tensor, "*axes keys"]:
    """All weight on the best key (the first, if several). A step function: the gradient of the scores is
    exactly 0.
    """
    return torch.zeros_like(scores).scatter(-1, scores.argmax(dim=-1, keepdim=True), 1.0)
