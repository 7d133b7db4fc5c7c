"""Attention is one function with four arguments you may change.

    weights = normalize(mask(score(query, key)))        output = weights @ value

They are the score, the mask, the normalizer, and where query, key and value come from.

Two paths compute it. The written-out path is the formula, line by line, and can return the weights. The
fused path hands the same arguments to torch's `scaled_dot_product_attention`, which never holds the matrix
of queries x keys. `attend` takes the fused one where nobody asks for the weights, the arguments allow it,
and it is the faster.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from attn import masks
from attn.normalizers import Normalizer, softmax
from attn.scores import Score, dot_product, scaled_dot_product

# Scores that the fused kernel can compute, with its `scale` (None: 1/√d_k).
_FUSED_SCALE: dict[Score, float | None] = {scaled_dot_product: None, dot_product: 1.0}

# On a CPU the written-out path is the faster one for few queries over few keys, as in a decoding step, and
# the fused one for all else. Measured by `python -m benchmarks crossing` (torch 2.13).
FEW_QUERIES, FEW_SCORES = 4, 256


def attend(
    query: Float[Tensor, "*#batch queries d_q"],
    key: Float[Tensor, "*#batch keys d_k"],
    value: Float[Tensor, "*#batch keys d_v"],
    *,
    score: Score = scaled_dot_product,
    mask: Bool[Tensor, "*#batch #queries #keys"] | None = None,
    causal: bool = False,
    normalize: Normalizer = softmax,
    dropout: float = 0.0,
    need_weights: bool = True,
) -> tuple[Float[Tensor, "... queries d_v"], Float[Tensor, "... queries keys"] | None]:
    """For each query a weighted sum of the values: the better a key fits the query, the more its value
    weighs.

    Source: Vaswani et al. 2017, equation 1, with its parts left open.

    Shapes: leading axes are free and broadcast; usually (batch, heads). Returns output (..., queries, d_v)
    and weights (..., queries, keys), or None for the weights if `need_weights` is False. A row of weights
    sums to 1, or is all 0 where nothing is allowed (or where `relu` finds no positive score).

    Arguments:
      score: `score(query, key)` → (..., queries, keys); see `attn.scores` and `attn.positions`.
      mask: boolean, True = may attend; broadcasts to the scores. A query that may attend to nothing gets
        an output, weights and gradients of zeros, never NaN.
      causal: also forbid every key after the query; the last query lines up with the last key. Said by
        name rather than as a mask, so that the kernel can skip the forbidden half.
      normalize: `normalize(scores)` → weights over the last axis; see `attn.normalizers`.
      dropout: probability of dropping a weight. Applied whenever it is not 0: callers pass 0 in
        evaluation. The weights returned are those before dropout.
      need_weights: ask for no weights and the fused kernel may be used.

    Errors: wrong shapes are reported by axis name where shape checks are on (tests, notebooks), by torch
    elsewhere.
    """
    # A score that only turns query and key before the scaled dot product (rotary positions) still fits the
    # fused kernel.
    turn = getattr(score, "turn", None)
    if turn is not None:
        query, key = turn(query, key)
        score = scaled_dot_product
    if (
        not need_weights
        and normalize is softmax
        and score in _FUSED_SCALE
        and _fused_pays(query, key, dropout)
    ):
        output = attend_fused(
            query, key, value, scale=_FUSED_SCALE[score], mask=mask, causal=causal, dropout=dropout
        )
        return output, None
    output, weights = attend_written_out(
        query, key, value, score=score, mask=mask, causal=causal, normalize=normalize, dropout=dropout
    )
    return output, weights if need_weights else None


def attend_written_out(
    query: Float[Tensor, "*#batch queries d_q"],
    key: Float[Tensor, "*#batch keys d_k"],
    value: Float[Tensor, "*#batch keys d_v"],
    *,
    score: Score = scaled_dot_product,
    mask: Bool[Tensor, "*#batch #queries #keys"] | None = None,
    causal: bool = False,
    normalize: Normalizer = softmax,
    dropout: float = 0.0,
) -> tuple[Float[Tensor, "... queries d_v"], Float[Tensor, "... queries keys"]]:
    """`attend` as the formula has it: holds the whole queries x keys matrix, and returns it."""
    mask = _with_causal(mask, causal, query.size(-2), key.size(-2), query.device)
    scores = score(query, key)
    if mask is None:
        weights = normalize(scores)
    else:
        # The lowest finite number, not -inf: a row of -inf alone would normalize to NaN, here it is finite
        # and then zeroed.
        scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
        weights = normalize(scores).masked_fill(~mask.any(dim=-1, keepdim=True), 0.0)
    return F.dropout(weights, dropout) @ value, weights


def attend_fused(
    query: Float[Tensor, "*#batch queries d_k"],
    key: Float[Tensor, "*#batch keys d_k"],
    value: Float[Tensor, "*#batch keys d_v"],
    *,
    scale: float | None = None,
    mask: Bool[Tensor, "*#batch #queries #keys"] | None = None,
    causal: bool = False,
    dropout: float = 0.0,
) -> Float[Tensor, "... queries d_v"]:
    """`attend` with (scaled) dot products and softmax through torch's fused kernel: memory linear in the
    length, beside what the mask itself holds.

    Source: Dao et al. 2022 (the kernel's algorithm). `scale` multiplies the dot products; None is 1/√d_k.
    The values are as wide as the keys wherever memory matters: for d_v ≠ d_k torch writes the formula out.
    """
    queries, keys = query.size(-2), key.size(-2)
    if mask is not None or queries != keys:
        mask, causal = _with_causal(mask, causal, queries, keys, query.device), False
    batch = torch.broadcast_shapes(query.shape[:-2], key.shape[:-2], value.shape[:-2])
    if mask is not None:
        batch = torch.broadcast_shapes(batch, mask.shape[:-2])
        # Kernels disagree on rows in which nothing is allowed (some give NaN), so open such rows and zero
        # what comes out.
        empty = ~mask.any(dim=-1, keepdim=True)
        mask = mask | empty
    if len(batch) != 2 or not batch == query.shape[:-2] == key.shape[:-2] == value.shape[:-2]:
        query, key, value = (_as_batch_and_heads(x, batch) for x in (query, key, value))
    if mask is not None and mask.ndim > 2 and len(batch) != 2:
        mask = _as_batch_and_heads(mask, batch)
    elif mask is not None and mask.ndim == 3:
        mask = mask[None]  # with three axes torch would write the formula out
    output = F.scaled_dot_product_attention(
        query, key, value, attn_mask=mask, dropout_p=dropout, is_causal=causal, scale=scale
    )
    output = output.reshape(*batch, queries, value.size(-1))
    return output if mask is None else output.masked_fill(empty, 0.0)


def _with_causal(
    mask: Tensor | None, causal: bool, queries: int, keys: int, device: torch.device
) -> Tensor | None:
    # A single newest query sees every key: nothing to forbid.
    if not causal or (queries == 1 and keys >= 1):
        return mask
    future_hidden = masks.causal(queries, keys, device=device)
    return future_hidden if mask is None else mask & future_hidden


def _as_batch_and_heads(x: Tensor, batch: torch.Size) -> Tensor:
    # The fused kernels want exactly two leading axes, alike in query, key and value.
    x = x.expand(*batch, *x.shape[-2:])
    return x.reshape(batch[:-1].numel(), batch[-1] if batch else 1, *x.shape[-2:])


def _fused_pays(query: Tensor, key: Tensor, dropout: float) -> bool:
    if query.device.type != "cpu":
        return True
    queries, keys = query.size(-2), key.size(-2)
    few = queries <= FEW_QUERIES and queries * keys <= FEW_SCORES
    # On a CPU dropout switches torch's fused kernel off.
    return dropout == 0.0 and not few
