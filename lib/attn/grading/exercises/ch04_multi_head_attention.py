"""Chapter 04: multi-head attention."""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from attn.core import attend
from attn.grading.exercise import Case, Exercise, Mistake, trials, values

Results = tuple[Tensor, Tensor]  # output, weights
MultiHead = Callable[..., Results]


def _normal(generator: Generator, *shape: int) -> Tensor:
    return torch.randn(shape, generator=generator)


# --- predict: what heads cost ------------------------------------------------------------------------------

_WIDTH, _QUERIES, _KEYS = 64, 5, 20
_MATRIX = _WIDTH**2
_PROJECTIONS = 2 * (_QUERIES + _KEYS) * _MATRIX  # W_q and W_o meet the queries, W_k and W_v the keys
_SCORES = _QUERIES * _KEYS * _WIDTH  # and as many for the sums of values

head_costs = Exercise(
    id="04.head_costs",
    kind="predict",
    concepts=("heads-cost",),
    reference={
        "d_k": [64, 8],
        "parameters": [4 * _MATRIX] * 2,
        "multiplications": [_PROJECTIONS + 2 * _SCORES] * 2,
        "weights": [100, 800],
    },
    cases=values(
        "d_k",
        "parameters",
        "multiplications",
        "weights",
        hints={
            "d_k": "give two numbers, for 1 head and for 8 heads.",
            "parameters": "give two numbers. Which four matrices does the layer own, and how large is each?",
            "multiplications": "give two numbers. Six matrix products: which of them meet 5 rows, which 20?",
            "weights": "give two numbers. How many rows and columns has one map? How many maps?",
        },
    ),
    tolerance=0.0001,
    mistakes=(
        Mistake(
            "8 heads cost 8 times as much",
            "8 heads, but how wide is each of them?",
            {"parameters": [4 * _MATRIX, 32 * _MATRIX], "multiplications": [217_600, 8 * 217_600]},
        ),
        Mistake(
            "one head of the eight is counted, not the layer",
            "that is the share of one head. How many are there?",
            {"parameters": [4 * _MATRIX, _MATRIX // 2], "multiplications": [217_600, 217_600 // 8]},
        ),
        Mistake(
            "every head is as wide as the model",
            "the heads share the width of the model. What is left for each?",
            {"d_k": [64, 64], "multiplications": [217_600, _PROJECTIONS + 16 * _SCORES]},
        ),
        Mistake(
            "the width is multiplied by the number of heads",
            "do more heads make a head wider or narrower?",
            {"d_k": [64, 512]},
        ),
        Mistake(
            "W_o is left out",
            "the heads are laid side by side. Which matrix comes after that?",
            {"parameters": [3 * _MATRIX] * 2, "multiplications": [217_600 - _QUERIES * _MATRIX] * 2},
        ),
        Mistake(
            "biases are counted, and there are none",
            "in the formula of this exercise, is anything added to x W_q?",
            {"parameters": [4 * _MATRIX + 4 * _WIDTH] * 2},
        ),
        Mistake(
            "FLOPs: multiplications and additions together",
            "the question is about multiplications only. What share of the FLOPs are they?",
            {"multiplications": [2 * 217_600] * 2},
        ),
        Mistake(
            "the scores are counted, the sums of values are not",
            "once the weights are there, how many multiplications does weights @ value take?",
            {"multiplications": [_PROJECTIONS + _SCORES] * 2},
        ),
        Mistake(
            "the projections are left out",
            "where do queries, keys and values come from, and what happens after the heads?",
            {"multiplications": [2 * _SCORES] * 2},
        ),
        Mistake(
            "the projections alone",
            "and the work of attention itself, the scores and the weighted sums?",
            {"multiplications": [_PROJECTIONS] * 2},
        ),
        Mistake(
            "the scores of one head only",
            "one of 8 heads multiplies vectors of length 8. How many heads do that?",
            {"multiplications": [217_600, _PROJECTIONS + 2 * _SCORES // 8]},
        ),
        Mistake(
            "as if there were 20 queries too",
            "how many rows go through W_q and through W_o?",
            {"multiplications": [4 * _KEYS * _MATRIX + 2 * _KEYS**2 * _WIDTH] * 2, "weights": [400, 3200]},
        ),
        Mistake(
            "as if there were 5 keys only",
            "how many rows go through W_k and through W_v?",
            {
                "multiplications": [4 * _QUERIES * _MATRIX + 2 * _QUERIES**2 * _WIDTH] * 2,
                "weights": [25, 200],
            },
        ),
        Mistake(
            "one map for all heads",
            "each head has a softmax of its own. How many maps are that?",
            {"weights": [100, 100]},
        ),
        Mistake(
            "the maps shrink with the heads",
            "a head has narrower vectors. Has it fewer queries or fewer keys?",
            {"weights": [100, 12.5]},
        ),
    ),
    right=(
        {
            "d_k": (64, 64 / 8),
            "parameters": torch.tensor([16384, 16384]),
            "multiplications": np.array([217600, 217600]),
            "weights": (5 * 20, 8 * 5 * 20),
        },
        {
            "d_k": [64.0, 8.0],
            "parameters": [4 * 64**2, 4 * 64 * 8 * 8],
            "multiplications": [50 * 4096 + 2 * 100 * 64, 50 * 4096 + 8 * 2 * 100 * 8],
            "weights": [1e2, 8e2],
        },
        {
            "weights": torch.tensor([100.0, 800.0]),
            "multiplications": (217_600, 217_600.0),
            "parameters": (2**14, 2**14),
            "d_k": np.array([64, 8]),
        },
    ),
)

# --- spot the error: concatenation, and then? --------------------------------------------------------------

heads_claim = Exercise(
    id="04.heads_claim",
    kind="spot the error",
    concepts=("output-projection", "heads-specialise"),
    reference={"wrong": "B", "columns": [6, 7, 8], "shape": [12, 16]},
    cases=values(
        "wrong",
        "columns",
        "shape",
        hints={
            "wrong": 'answer with one capital letter, as in "A".',
            "columns": "12 columns, numbered 0 to 11. Which of them does each of the four heads fill?",
            "shape": "two numbers: rows, then columns. Rows meet what comes in, columns are what goes out.",
        },
    ),
    mistakes=(
        Mistake(
            "sentence A is right",
            "the output is a sum with one term per head. Does a sum depend on the order of its terms?",
            {"wrong": "A"},
        ),
        Mistake(
            "sentence C is right",
            "which rows of W_o meet the columns of head i, and does any other row?",
            {"wrong": "C"},
        ),
        Mistake(
            "sentence D is right",
            "with a single head, the output is A X W_v W_o. What is W_v W_o?",
            {"wrong": "D"},
        ),
        Mistake(
            "the heads are counted from 1",
            "head 0 is the first. How many heads stand before head 2?",
            {"columns": [3, 4, 5]},
        ),
        Mistake(
            "the columns are counted from 1",
            "column 0 is the first one. Which is the first of head 2?",
            {"columns": [7, 8, 9]},
        ),
        Mistake(
            "as many columns per head as there are heads",
            "how wide is one head's output here: is it 4 or 3?",
            {"columns": [8, 9, 10, 11]},
        ),
        Mistake(
            "every fourth column",
            "concatenation lays one head's columns after another's. Do they alternate?",
            {"columns": [2, 6, 10]},
        ),
        Mistake(
            "all columns",
            "which operation would let head 2 into the columns of head 0? Is it there before W_o?",
            {"columns": list(range(12))},
        ),
        Mistake(
            "no column at all",
            "head 2 returns other numbers, and they stand somewhere. Where?",
            {"columns": []},
        ),
        Mistake(
            "rows and columns of W_o are exchanged",
            "vectors are rows here: concatenation @ W_o. Which of the two sizes must fit 4 · 3?",
            {"shape": [16, 12]},
        ),
        Mistake(
            "W_o taken for square, as wide as the model",
            "how wide is the concatenation that W_o is multiplied with?",
            {"shape": [16, 16]},
        ),
        Mistake(
            "W_o taken for square, as wide as the concatenation",
            "which width does the next layer expect?",
            {"shape": [12, 12]},
        ),
        Mistake(
            "the rows of one head only",
            "that is one head's block. How many blocks stand below each other?",
            {"shape": [3, 16]},
        ),
    ),
    right=(
        {"wrong": "B", "columns": (6, 7, 8), "shape": (12, 16)},
        {"wrong": " B ", "columns": torch.arange(6, 9), "shape": torch.tensor([4 * 3, 16])},
        {"shape": [12.0, 16.0], "columns": np.arange(12).reshape(4, 3)[2], "wrong": "B"},
    ),
)

# --- implement: multi-head attention -----------------------------------------------------------------------


def _split(x: Tensor, n_heads: int) -> Tensor:
    """(..., length, h d_k) → (..., heads, length, d_k)"""
    return x.unflatten(-1, (n_heads, -1)).transpose(-3, -2)


def _merge(x: Tensor) -> Tensor:
    """(..., heads, length, d_v) → (..., length, h d_v)"""
    return x.transpose(-3, -2).flatten(-2)


def _multi_head(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    W_q: Tensor,
    W_k: Tensor,
    W_v: Tensor,
    W_o: Tensor,
    n_heads: int,
    mask: Tensor | None = None,
) -> Results:
    q, k, v = (_split(x @ W, n_heads) for x, W in ((query, W_q), (key, W_k), (value, W_v)))
    output, weights = attend(q, k, v, mask=mask)
    assert weights is not None
    return _merge(output) @ W_o, weights


def _lowest(scores: Tensor, mask: Tensor) -> Tensor:
    return scores.masked_fill(~mask, torch.finfo(scores.dtype).min)


def _minus_infinity(scores: Tensor, mask: Tensor) -> Tensor:
    return scores.masked_fill(~mask, -torch.inf)


def _zero_empty_rows(weights: Tensor, mask: Tensor) -> Tensor:
    return weights.where(mask.any(-1, keepdim=True), 0.0)


def _nothing(x: Tensor, mask: Tensor) -> Tensor:
    return x


def _multi_head_with(
    *,
    project: Callable[..., tuple[Tensor, Tensor, Tensor]] = lambda query, key, value, W_q, W_k, W_v: (
        query @ W_q,
        key @ W_k,
        value @ W_v,
    ),
    split: Callable[[Tensor, int], Tensor] = _split,
    divisor: Callable[[Tensor, Tensor, Tensor], float] = lambda query, q, v: math.sqrt(q.shape[-1]),
    remask: Callable[[Tensor], Tensor] = lambda mask: mask,
    hide: Callable[[Tensor, Tensor], Tensor] = _lowest,
    normalize: Callable[[Tensor], Tensor] = lambda scores: torch.softmax(scores, -1),
    after: Callable[[Tensor, Tensor], Tensor] = _zero_empty_rows,
    combine: Callable[[Tensor, Tensor], Tensor] = lambda weights, v: weights @ v,
    merge: Callable[[Tensor], Tensor] = _merge,
    finish: Callable[[Tensor, Tensor], Tensor] = lambda merged, W_o: merged @ W_o,
    show: Callable[[Tensor], Tensor] = lambda weights: weights,
) -> MultiHead:
    """Multi-head attention, any of its steps replaced.

    `divisor` sees the query before projection, and one head's q and v. `remask` gets the mask in full size
    (batch, heads, queries, keys).
    """

    def attention(
        query: Tensor,
        key: Tensor,
        value: Tensor,
        W_q: Tensor,
        W_k: Tensor,
        W_v: Tensor,
        W_o: Tensor,
        n_heads: int,
        mask: Tensor | None = None,
    ) -> Results:
        q, k, v = (split(x, n_heads) for x in project(query, key, value, W_q, W_k, W_v))
        scores = q @ k.transpose(-2, -1) / divisor(query, q, v)
        if mask is not None:
            mask = remask(mask.expand(scores.shape))
            scores = hide(scores, mask)
        weights = normalize(scores)
        if mask is not None:
            weights = after(weights, mask)
        return finish(merge(combine(weights, v)), W_o), show(weights)

    return attention


def _split_by_view(x: Tensor, n_heads: int) -> Tensor:
    return x.reshape(x.shape[0], n_heads, x.shape[1], -1)


def _merge_by_view(x: Tensor) -> Tensor:
    return x.reshape(x.shape[0], x.shape[2], -1)


def _split_alternating(x: Tensor, n_heads: int) -> Tensor:
    return x.unflatten(-1, (-1, n_heads)).movedim(-1, -3)


def _split_same(x: Tensor, n_heads: int) -> Tensor:
    return _split(x, n_heads)[:, :1].expand(-1, n_heads, -1, -1)


def _split_wide(x: Tensor, n_heads: int) -> Tensor:
    return x[:, None]


def _split_off(x: Tensor, n_heads: int) -> Tensor:
    return x.unflatten(-1, (n_heads, -1))


def _over_heads(scores: Tensor) -> Tensor:
    return torch.softmax(scores, 1).nan_to_num()


def _first_head_only(mask: Tensor) -> Tensor:
    first = torch.arange(mask.shape[1])[:, None, None] == 0
    return mask | ~first


_SPLIT_BY_VIEW = _multi_head_with(split=_split_by_view)
_MERGED_BY_VIEW = _multi_head_with(merge=_merge_by_view)
_ROOT_OF_D_MODEL = _multi_head_with(divisor=lambda query, q, v: math.sqrt(query.shape[-1]))
_NO_W_O = _multi_head_with(finish=lambda merged, W_o: merged)
_SAME_SLICE = _multi_head_with(split=_split_same)
_SOFTMAX_OVER_HEADS = _multi_head_with(normalize=_over_heads)
_KEY_FOR_VALUE = _multi_head_with(
    project=lambda query, key, value, W_q, W_k, W_v: (query @ W_q, key @ W_k, key @ W_v)
)
_MASK_FOR_FIRST_HEAD = _multi_head_with(remask=_first_head_only)
_MASK_OF_FIRST_HEAD = _multi_head_with(remask=lambda mask: mask[:, :1].expand(mask.shape))


def _heads_in_a_loop(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    W_q: Tensor,
    W_k: Tensor,
    W_v: Tensor,
    W_o: Tensor,
    n_heads: int,
    mask: Tensor | None = None,
    *,
    width: int | None = None,
) -> Results:
    """The definition: a loop over heads, each with its columns; `width` of them, if given."""
    d_k, d_v = width or W_q.shape[1] // n_heads, width or W_v.shape[1] // n_heads
    heads, maps = [], []
    for i in range(n_heads):
        q = query @ W_q[:, i * d_k : (i + 1) * d_k]
        k = key @ W_k[:, i * d_k : (i + 1) * d_k]
        v = value @ W_v[:, i * d_v : (i + 1) * d_v]
        weights = q @ k.mT / d_k**0.5
        if mask is None:
            weights = weights.softmax(-1)
        else:
            own = mask.expand(len(query), n_heads, q.shape[-2], k.shape[-2])[:, i]
            weights = _zero_empty_rows(_lowest(weights, own).softmax(-1), own)
        heads.append(weights @ v)
        maps.append(weights)
    return torch.cat(heads, dim=-1) @ W_o, torch.stack(maps, dim=1)


def _heads_by_einsum(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    W_q: Tensor,
    W_k: Tensor,
    W_v: Tensor,
    W_o: Tensor,
    n_heads: int,
    mask: Tensor | None = None,
) -> Results:
    """No vector is ever split: the matrices are."""
    W_q, W_k, W_v = (W.unflatten(1, (n_heads, -1)) for W in (W_q, W_k, W_v))
    q = torch.einsum("bqm,mhd->bqhd", query, W_q)
    k = torch.einsum("bkm,mhd->bkhd", key, W_k)
    scores = torch.einsum("bqhd,bkhd->bhqk", q, k) * W_q.shape[-1] ** -0.5
    if mask is not None:
        scores = torch.where(mask, scores, -1e30)
    weights = F.softmax(scores, dim=-1)
    if mask is not None:
        weights = weights * mask.any(-1, keepdim=True)
    v = torch.einsum("bkm,mhd->bkhd", value, W_v)
    heads = torch.einsum("bhqk,bkhd->bqhd", weights, v)
    return torch.einsum("bqhd,hdm->bqm", heads, W_o.unflatten(0, (n_heads, -1))), weights


def _heads_added_up(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    W_q: Tensor,
    W_k: Tensor,
    W_v: Tensor,
    W_o: Tensor,
    n_heads: int,
    mask: Tensor | None = None,
) -> Results:
    """No concatenation: each head goes through its own rows of W_o, from the last to the first; a constant
    is added to the scores.
    """
    q, k, v = (_split(x @ W, n_heads) for x, W in ((query, W_q), (key, W_k), (value, W_v)))
    scores = q @ (k / k.shape[-1] ** 0.5).mT + 3.0
    weights = torch.softmax(scores if mask is None else _lowest(scores, mask), -1)
    if mask is not None:
        weights = _zero_empty_rows(weights, mask)
    blocks = W_o.chunk(n_heads)
    total = torch.zeros(()).to(W_o.dtype)
    for i in reversed(range(n_heads)):
        total = weights[:, i] @ (v[:, i] @ blocks[i]) + total
    return total, weights


def _heads_in_double(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    W_q: Tensor,
    W_k: Tensor,
    W_v: Tensor,
    W_o: Tensor,
    n_heads: int,
    mask: Tensor | None = None,
) -> Results:
    """Heads folded into the batch, torch's kernel for the output, an identity matrix for the weights."""
    tensors = (x.double() for x in (query, key, value, W_q, W_k, W_v, W_o))
    query, key, value, W_q, W_k, W_v, W_o = tensors
    q, k, v = (_split(x @ W, n_heads) for x, W in ((query, W_q), (key, W_k), (value, W_v)))
    identity = torch.eye(k.shape[-2], dtype=k.dtype).expand(*k.shape[:-1], -1)
    if mask is None:
        some = torch.ones((), dtype=torch.bool)
    else:
        some = mask.any(-1, keepdim=True)
        mask = (mask | ~some).expand(*q.shape[:-1], k.shape[-2])
    weights = F.scaled_dot_product_attention(q, k, identity, attn_mask=mask) * some
    output = F.scaled_dot_product_attention(q, k, v, attn_mask=mask) * some
    return (_merge(output) @ W_o).float(), weights.float()


def _through_the_first_rows(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    W_q: Tensor,
    W_k: Tensor,
    W_v: Tensor,
    W_o: Tensor,
    n_heads: int,
    mask: Tensor | None = None,
) -> Results:
    same = W_o[: len(W_o) // n_heads].repeat(n_heads, 1)
    return _heads_in_a_loop(query, key, value, W_q, W_k, W_v, same, n_heads, mask)


def _narrow_slices(*inputs: Any) -> Results:
    query, n_heads = inputs[0], inputs[7]
    loop: Callable[..., Results] = _heads_in_a_loop
    return loop(*inputs, width=query.shape[-1] // n_heads)


def _layer(generator: Generator, n_heads: int, *, d_model: int, d_k: int, d_v: int) -> tuple[Any, ...]:
    """W_q, W_k, W_v, W_o and the number of heads."""
    widths = ((d_model, n_heads * d_k), (d_model, n_heads * d_k), (d_model, n_heads * d_v))
    matrices = [_normal(generator, *shape) / d_model**0.5 for shape in (*widths, (n_heads * d_v, d_model))]
    return *matrices, n_heads


def _some_mask(generator: Generator, *shape: int, empty_row: bool = False) -> Tensor:
    """A random mask in which every query may attend to some keys, not to all, and rows differ."""
    mask = torch.rand(shape, generator=generator) < 0.5
    keys = torch.arange(shape[-1])
    rows = torch.arange(shape[-2])[:, None]
    mask = (mask | (keys == rows % shape[-1])) & (keys != (rows + 1) % shape[-1])
    if empty_row:
        mask[..., 1, :] = False
    return mask


def _self(n_heads: int, d_k: int) -> Callable[[Generator], tuple[Any, ...]]:
    def inputs(generator: Generator) -> tuple[Any, ...]:
        x = _normal(generator, 2, 5, 12)
        return x, x, x, *_layer(generator, n_heads, d_model=12, d_k=d_k, d_v=d_k)

    return inputs


def _cross(
    *, d_k: int = 4, d_v: int = 4, mask: tuple[int, ...] = (), empty_row: bool = False
) -> Callable[[Generator], tuple[Any, ...]]:
    def inputs(generator: Generator) -> tuple[Any, ...]:
        texts = _normal(generator, 2, 5, 12), _normal(generator, 2, 7, 12), _normal(generator, 2, 7, 12)
        layer = _layer(generator, 3, d_model=12, d_k=d_k, d_v=d_v)
        masks = (_some_mask(generator, *mask, empty_row=empty_row),) if mask else ()
        return *texts, *layer, *masks

    return inputs


def _where_it_goes_wrong(inputs: tuple[Any, ...], outputs: dict[str, Tensor]) -> str | None:
    output, weights = _heads_in_a_loop(*inputs)
    mine, my_weights = outputs["output"], outputs["weights"]
    if my_weights.shape != weights.shape or mine.shape != output.shape:
        return None
    right = torch.isclose(my_weights, weights, atol=1e-3).all(-1).all(-1).all(0)  # head by head
    if right.all():
        if torch.isclose(mine, output, atol=1e-3).all():
            return None
        return (
            "The weights of every head are right, the output is not. So look at what the values go through: "
            "their projection, the way back from heads to columns, W_o."
        )
    if right.any():
        good, bad = ([i for i, ok in enumerate(right.tolist()) if ok is wanted] for wanted in (True, False))
        return (
            f"The weights are right in these heads: {good}; and wrong in these: {bad} (head 0 is the first)."
        )
    return None


multi_head_attention = Exercise(
    id="04.multi_head_attention",
    kind="implement",
    concepts=("loop-equals-batched", "output-projection"),
    reference=_multi_head,
    returns=("output", "weights"),
    cases=(
        Case("one head", _self(1, 12)),
        Case("three heads", _self(3, 4), points=2, hint="does each head see all positions, and its columns?"),
        Case("keys and values from other texts", _cross()),
        Case(
            "d_v ≠ d_k",
            _cross(d_k=5, d_v=2),
            points=2,
            hint="which widths can be read from W_q, which from W_v, and which root belongs to a score?",
        ),
        Case(
            "a padding mask (batch, 1, queries, keys)",
            _cross(mask=(2, 1, 5, 7)),
            hint="on which axis of your scores does the 1 of the mask lie?",
        ),
        Case(
            "a mask of its own for each head, one row empty",
            _cross(mask=(2, 3, 5, 7), empty_row=True),
            hint="a query that may attend to nothing gets zeros. Does `attend` know that?",
        ),
        Case(
            "gradients, with such a mask",
            _cross(d_k=5, d_v=2, mask=(2, 3, 5, 7), empty_row=True),
            points=2,
            gradients=True,
            hint="is every step a torch operation, and is nothing divided by 0?",
        ),
    ),
    measures=(_where_it_goes_wrong,),
    mistakes=(
        Mistake(
            "split by view or reshape, without a transpose",
            "one head passes, three do not. In memory, whose numbers stand beside each other: one "
            "position's or one head's? Then what does a plain view cut?",
            _SPLIT_BY_VIEW,
        ),
        Mistake(
            "merged by view or reshape, without a transpose",
            "the weights are right. Before the heads are flattened away, which axis must stand beside d_v?",
            _MERGED_BY_VIEW,
        ),
        Mistake(
            "split and merged by view, without a transpose",
            "the shapes fit both times. Do two wrong turns undo each other when attention lies in between?",
            _multi_head_with(split=_split_by_view, merge=_merge_by_view),
        ),
        Mistake(
            "attention runs over the heads of one position, not over the positions",
            "attention works on the last two axes. Which axis is the last but one of yours?",
            _multi_head_with(split=_split_off, merge=lambda x: x.flatten(-2)),
        ),
        Mistake(
            "every head takes every h-th column",
            "does head 0 own the first d_k columns in yours, side by side?",
            _multi_head_with(split=_split_alternating),
        ),
        Mistake(
            "all heads read the same columns",
            "which columns belong to head 1, and where does its number enter?",
            _SAME_SLICE,
        ),
        Mistake(
            "the heads are taken to be d_model / h wide",
            "these matrices may be wider or narrower. From which shape can d_k be read, and from which d_v?",
            _narrow_slices,
        ),
        Mistake(
            "one wide head, whatever n_heads",
            "one softmax for everything gives one mean per query. Where does n_heads change anything?",
            _multi_head_with(
                split=_split_wide,
                merge=lambda x: x[:, 0],
                remask=lambda mask: mask[:, :1],
            ),
        ),
        Mistake(
            "divided by the root of d_model",
            "how many products are summed in one score of one head? One head alone would hide this.",
            _ROOT_OF_D_MODEL,
        ),
        Mistake(
            "the scores are not scaled",
            "the heads are narrower. Has the need for a scale gone away?",
            _multi_head_with(divisor=lambda query, q, v: 1.0),
        ),
        Mistake(
            "divided by the root of d_v",
            "which vectors does the dot product run over: keys or values?",
            _multi_head_with(divisor=lambda query, q, v: math.sqrt(v.shape[-1])),
        ),
        Mistake(
            "W_o is forgotten",
            "each column of yours belongs to one head for ever. Which argument was to mix them?",
            _NO_W_O,
        ),
        Mistake(
            "W_o is transposed",
            "nn.Linear keeps (outputs, inputs). Which way round does `concatenation @ W_o` need it?",
            _multi_head_with(finish=lambda merged, W_o: merged @ W_o.mT),
        ),
        Mistake(
            "W_q, W_k and W_v are transposed",
            "the rows of X are vectors, and Q = X W_q. Where does nn.Linear's transpose come in?",
            _multi_head_with(
                project=lambda query, key, value, W_q, W_k, W_v: (
                    query @ W_q.mT,
                    key @ W_k.mT,
                    value @ W_v.mT,
                )
            ),
        ),
        Mistake(
            "every head goes through the first head's rows of W_o",
            "W_o has h blocks of rows. Which of them reads head 1?",
            _through_the_first_rows,
        ),
        Mistake(
            "softmax over the heads",
            "heads do not compete with each other, keys do. On which axis do the keys lie?",
            _SOFTMAX_OVER_HEADS,
        ),
        Mistake(
            "the keys go through W_q",
            "with one matrix for both, can x ask for something else than what x offers?",
            _multi_head_with(
                project=lambda query, key, value, W_q, W_k, W_v: (query @ W_q, key @ W_q, value @ W_v)
            ),
        ),
        Mistake(
            "the values are not projected",
            "W_v says what a head passes on. Where is it used?",
            _multi_head_with(
                project=lambda query, key, value, W_q, W_k, W_v: (query @ W_q, key @ W_k, value)
            ),
        ),
        Mistake(
            "the values are made of the keys' input",
            "self-attention hides this. Which of the three inputs is never read?",
            _KEY_FOR_VALUE,
        ),
        Mistake(
            "self-attention only: key and value are not read",
            "three inputs, three matrices. Which input does each matrix meet?",
            _multi_head_with(
                project=lambda query, key, value, W_q, W_k, W_v: (query @ W_q, query @ W_k, query @ W_v)
            ),
        ),
        Mistake(
            "the weights are averaged over the heads",
            "torch's layer does that unless told otherwise. Can the mean show what two heads do apart?",
            _multi_head_with(show=lambda weights: weights.mean(1)),
        ),
        Mistake("the mask is not used", "is it handed on?", _multi_head_with(hide=_nothing, after=_nothing)),
        Mistake(
            "the mask is read the wrong way round",
            "nn.MultiheadAttention's mask is True where a query may *not* attend. And here?",
            _multi_head_with(remask=lambda mask: ~mask),
        ),
        Mistake(
            "the mask reaches the first head only",
            "a mask without an axis for the heads is meant for how many of them?",
            _MASK_FOR_FIRST_HEAD,
        ),
        Mistake(
            "all heads use the first head's mask",
            "the mask may have h layers. Which of them does head 2 get?",
            _MASK_OF_FIRST_HEAD,
        ),
        Mistake(
            "a query that may attend to nothing gives NaN",
            "what does softmax make of a row of minus infinity? `attend` has an answer to that.",
            _multi_head_with(hide=_minus_infinity, after=_nothing),
        ),
        Mistake(
            "the weights are cut off from the gradient (detach)",
            "how are W_q and W_k to learn where to look?",
            _multi_head_with(combine=lambda weights, v: weights.detach() @ v),
        ),
    ),
    right=(_heads_in_a_loop, _heads_by_einsum, _heads_added_up, _heads_in_double),
)

# --- implement: weights in torch's layout ------------------------------------------------------------------


def _torch_weights(W_q: Tensor, W_k: Tensor, W_v: Tensor, W_o: Tensor) -> tuple[Tensor, Tensor]:
    in_proj = torch.cat([W.transpose(1, 2).flatten(0, 1) for W in (W_q, W_k, W_v)])
    return in_proj, W_o.flatten(0, 1).T


def _torch_weights_by_loop(W_q: Tensor, W_k: Tensor, W_v: Tensor, W_o: Tensor) -> tuple[Tensor, Tensor]:
    n_heads, d_model, d_k = W_q.shape
    in_proj, out_proj = W_q.new_zeros(3 * d_model, d_model), W_q.new_zeros(d_model, d_model)
    for i in range(n_heads):
        for j in range(d_k):
            for part, W in enumerate((W_q, W_k, W_v)):
                in_proj[part * d_model + i * d_k + j] = W[i, :, j]
            out_proj[:, i * d_k + j] = W_o[i, j]
    return in_proj, out_proj


def _torch_weights_by_cat(W_q: Tensor, W_k: Tensor, W_v: Tensor, W_o: Tensor) -> tuple[Tensor, Tensor]:
    beside = torch.cat([torch.cat(list(W), dim=1) for W in (W_q, W_k, W_v)], dim=1)
    return beside.T, torch.cat([block.T for block in W_o], dim=1)


def _torch_weights_other_heads(W_q: Tensor, W_k: Tensor, W_v: Tensor, W_o: Tensor) -> tuple[Tensor, Tensor]:
    """The heads in reverse order, in all four: the same function."""
    return _torch_weights(*(W.flip(0) for W in (W_q, W_k, W_v, W_o)))


def _stacked(
    part: Callable[[Tensor], Tensor], order: Sequence[int] = (0, 1, 2)
) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """in_proj_weight of three parts one on top of the other."""
    return lambda *matrices: torch.cat([part(matrices[i]) for i in order])


def _rows_of_heads(W: Tensor) -> Tensor:
    return W.transpose(1, 2).flatten(0, 1)


def _head_by_head(W_q: Tensor, W_k: Tensor, W_v: Tensor) -> Tensor:
    return torch.stack([W.transpose(1, 2) for W in (W_q, W_k, W_v)], dim=1).flatten(0, 2)


_Q_K_V = _stacked(_rows_of_heads)


def _torch_weights_with(
    in_proj: Callable[[Tensor, Tensor, Tensor], Tensor] = _Q_K_V,
    out_proj: Callable[[Tensor], Tensor] = lambda W_o: W_o.flatten(0, 1).T,
) -> Callable[..., tuple[Tensor, Tensor]]:
    return lambda W_q, W_k, W_v, W_o: (in_proj(W_q, W_k, W_v), out_proj(W_o))


def _in_torch_s_layer(
    W_q: Tensor, W_k: Tensor, W_v: Tensor, W_o: Tensor, in_proj_weight: Tensor, out_proj_weight: Tensor
) -> dict[str, Tensor]:
    """What torch's layer computes with these weights, for a fixed query, key and value. The mean over the
    heads leaves open how they are numbered.
    """
    n_heads, d_model, _ = W_q.shape
    for name, given, shape in (
        ("in_proj_weight", in_proj_weight, (3 * d_model, d_model)),
        ("out_proj_weight", out_proj_weight, (d_model, d_model)),
    ):
        if given.shape != shape or given.dtype != W_q.dtype:
            raise ValueError(
                f"{name} should have the shape {shape} and the dtype {W_q.dtype}, "
                f"it has {tuple(given.shape)} and {given.dtype}"
            )
    generator = torch.Generator().manual_seed(4)
    query, key, value = (
        torch.randn(length, 2, d_model, generator=generator).to(W_q.dtype) for length in (3, 4, 4)
    )
    output, weights = F.multi_head_attention_forward(
        query,
        key,
        value,
        d_model,
        n_heads,
        in_proj_weight,
        in_proj_bias=None,
        bias_k=None,
        bias_v=None,
        add_zero_attn=False,
        dropout_p=0.0,
        out_proj_weight=out_proj_weight,
        out_proj_bias=None,
        training=False,
        average_attn_weights=True,
    )
    assert weights is not None
    return {"the weights of torch's layer, averaged": weights, "the output of torch's layer": output}


def _which_part(inputs: tuple[Any, ...], outputs: dict[str, Tensor]) -> str | None:
    layer: Callable[..., dict[str, Tensor]] = _in_torch_s_layer
    (name, right), _ = layer(*inputs, *_torch_weights(*inputs)).items()
    if outputs[name].shape != right.shape:
        return None
    if torch.isclose(outputs[name], right, atol=1e-4).all():
        return (
            "With it, torch's layer has the right attention weights and another output. So the query's and "
            "the key's part are right, the value's part or out_proj_weight is not."
        )
    return "With it, torch's layer has other attention weights: begin with the query's and the key's part."


def _heads_of(n_heads: int, d_k: int) -> Callable[[Generator], tuple[Any, ...]]:
    def inputs(generator: Generator) -> tuple[Any, ...]:
        d_model = n_heads * d_k
        matrices = [_normal(generator, n_heads, d_model, d_k) / d_k**0.5 for _ in range(3)]
        return *matrices, _normal(generator, n_heads, d_k, d_model) / d_k**0.5

    return inputs


torch_weights = Exercise(
    id="04.torch_weights",
    kind="implement",
    concepts=("equals-torch-mha", "loop-equals-batched"),
    reference=_torch_weights,
    returns=("in_proj_weight", "out_proj_weight"),
    view=_in_torch_s_layer,
    measures=(_which_part,),
    cases=(
        Case(
            "one head of width 6",
            _heads_of(1, 6),
            hint="with one head there are no blocks to order. What is left: the transposes, and q, k, v?",
        ),
        Case(
            "3 heads of width 4",
            _heads_of(3, 4),
            points=2,
            hint="number the entries of a small W_q (heads, d_model, d_k). In which row should each one be?",
        ),
        Case("4 heads of width 3", _heads_of(4, 3)),
        # All axes alike: nothing but the numbers can tell.
        Case("2 heads of width 2", _heads_of(2, 2)),
    ),
    mistakes=(
        Mistake(
            "in_proj_weight is not transposed",
            "torch computes x @ weight.T. One row of its weight makes one output. And one row of W_q?",
            _torch_weights_with(_stacked(lambda W: _rows_of_heads(W).T)),
        ),
        Mistake(
            "out_proj_weight is not transposed",
            "torch computes x @ weight.T here too. Which of your two results still has rows for inputs?",
            _torch_weights_with(out_proj=lambda W_o: W_o.flatten(0, 1)),
        ),
        Mistake(
            "nothing is transposed",
            "nn.Linear keeps (outputs, inputs). What do the formula's matrices have as rows?",
            _torch_weights_with(_stacked(lambda W: _rows_of_heads(W).T), lambda W_o: W_o.flatten(0, 1)),
        ),
        Mistake(
            "reshaped to a square while the heads are still the first axis",
            "a reshape moves no number. Which axis must stand beside d_k before the heads are flattened?",
            _torch_weights_with(_stacked(lambda W: W.reshape(W.shape[1], -1).T)),
        ),
        Mistake(
            "reshaped to a square and not transposed",
            "a reshape moves no number, and torch keeps (outputs, inputs). What makes one of torch's rows?",
            _torch_weights_with(_stacked(lambda W: W.reshape(W.shape[1], -1))),
        ),
        Mistake(
            "the heads alternate in the rows of in_proj_weight",
            "head i owns d_k rows that stand together. In which order do yours run: heads or features first?",
            _torch_weights_with(_stacked(lambda W: W.permute(2, 0, 1).flatten(0, 1))),
        ),
        Mistake(
            "the heads alternate in the columns of out_proj_weight",
            "the concatenation has all of head 0 first. Which columns of out_proj_weight meet it?",
            _torch_weights_with(out_proj=lambda W_o: W_o.permute(1, 0, 2).flatten(0, 1).T),
        ),
        Mistake(
            "the heads alternate in both",
            "the output is a sum over heads, but which columns go through one softmax together?",
            _torch_weights_with(
                _stacked(lambda W: W.permute(2, 0, 1).flatten(0, 1)),
                lambda W_o: W_o.permute(1, 0, 2).flatten(0, 1).T,
            ),
        ),
        Mistake(
            "each block of W_o is transposed, and then they are stacked",
            "in torch's layout the heads lie side by side in out_proj_weight. As rows or as columns?",
            _torch_weights_with(out_proj=lambda W_o: W_o.transpose(1, 2).reshape(W_o.shape[2], -1)),
        ),
        Mistake(
            "query, key and value head by head",
            "some models store q, k, v of head 0, then of head 1. How does torch order its rows?",
            _torch_weights_with(_head_by_head),
        ),
        Mistake(
            "key and value are exchanged",
            "torch's three parts are in the order of its arguments. What is that order?",
            _torch_weights_with(_stacked(_rows_of_heads, (0, 2, 1))),
        ),
        Mistake(
            "key before query",
            "torch's three parts are in the order of its arguments. What is that order?",
            _torch_weights_with(_stacked(_rows_of_heads, (1, 0, 2))),
        ),
        Mistake(
            "the scale is put into W_q",
            "torch's layer divides by the root of d_k as well. How often is the score scaled now?",
            lambda W_q, W_k, W_v, W_o: _torch_weights(W_q / W_q.shape[-1] ** 0.5, W_k, W_v, W_o),
        ),
        Mistake(
            "the heads of W_o stand in another order",
            "heads may be numbered as you like. In how many of the four matrices must the order be the same?",
            lambda W_q, W_k, W_v, W_o: _torch_weights(W_q, W_k, W_v, W_o.flip(0)),
        ),
    ),
    right=(_torch_weights_by_loop, _torch_weights_by_cat, _torch_weights_other_heads),
)

# --- design: a job for two heads ---------------------------------------------------------------------------

Target = Callable[[int], Tensor]
Design = Callable[[int, int], tuple[Tensor, Tensor, Tensor, Tensor]]


def _previous(n: int) -> Tensor:
    return (torch.arange(n) - 1).clamp_min(0)


def _next(n: int) -> Tensor:
    return (torch.arange(n) + 1).clamp_max(n - 1)


def _strong(n: int) -> float:
    return 30.0 * math.sqrt(n)


def _below_payload(block: Tensor, width: int) -> Tensor:
    """A matrix that reads the position, the last part of x, through `block`, and no payload."""
    return torch.cat([block.new_zeros(width, block.shape[1]), block])


def _two_heads(
    first: Target = _previous,
    second: Target = _next,
    *,
    strength: Callable[[int], float] = _strong,
    signs: tuple[float, float] = (-1.0, 1.0),
) -> Design:
    """Weights with which the two heads copy the payloads at these targets; `signs` add them up."""

    def design(n: int, width: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        position = torch.eye(n)
        asks = [strength(n) * position[target(n)] for target in (first, second)]
        copy = torch.cat([torch.eye(width), torch.zeros(n, width)])
        return (
            _below_payload(torch.cat(asks, dim=1), width),
            _below_payload(torch.cat([position, position], dim=1), width),
            torch.cat([copy, copy], dim=1),
            torch.cat([sign * torch.eye(width) for sign in signs]),
        )

    return design


def _heads_exchange_query_and_key(n: int, width: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    W_q, W_k, W_v, W_o = _two_heads()(n, width)
    return W_k, W_q, W_v, W_o


def _columns_alternate(n: int, width: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    W_q, W_k, W_v, W_o = _two_heads()(n, width)
    W_q, W_k, W_v = (W.unflatten(1, (2, -1)).transpose(1, 2).flatten(1) for W in (W_q, W_k, W_v))
    return W_q, W_k, W_v, W_o


def _payload_in_the_scores(n: int, width: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Payloads are compared as well as positions."""
    _, _, W_v, W_o = _two_heads()(n, width)
    asks = [torch.block_diag(torch.eye(width), torch.eye(n)[target(n)]) for target in (_previous, _next)]
    return _strong(n) * torch.cat(asks, dim=1), torch.eye(width + n).repeat(1, 2), W_v, W_o


def _nobody_at_the_ends(n: int, width: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Shifted diagonals: the row of the first position, and of the last, is empty."""
    _, W_k, W_v, W_o = _two_heads()(n, width)
    asks = torch.cat([torch.diag(torch.ones(n - 1), offset) for offset in (-1, 1)], dim=1)
    return _below_payload(_strong(n) * asks, width), W_k, W_v, W_o


def _slope_by_loop(n: int, width: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Wider than needed, entry by entry, the minus sign in W_v."""
    d_k, d_v = n + 2, width + 1
    W_q, W_k = torch.zeros(width + n, 2 * d_k), torch.zeros(width + n, 2 * d_k)
    W_v, W_o = torch.zeros(width + n, 2 * d_v), torch.zeros(2 * d_v, width)
    for i in range(n):
        W_q[width + i, max(i - 1, 0)] = W_q[width + i, d_k + min(i + 1, n - 1)] = 40.0
        W_k[width + i, i] = W_k[width + i, d_k + i] = 10.0
    for j in range(width):
        W_v[j, j], W_v[j, d_v + j] = -1.0, 1.0
        W_o[j, j] = W_o[d_v + j, j] = 1.0
    return W_q, W_k, W_v, W_o


def _slope_on_a_circle(n: int, width: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """d_k = 2: positions on a circle, queries that point at them; the heads in the other order."""
    angle = 2 * math.pi * torch.arange(n, dtype=torch.float64) / n
    circle = torch.stack([angle.cos(), angle.sin()], dim=-1)
    asks = torch.cat([circle[_next(n)], circle[_previous(n)]], dim=1)
    copy = torch.cat([torch.eye(width), torch.zeros(n, width)]).double()
    identity = torch.eye(width, dtype=torch.float64)
    return (
        _below_payload(1e5 * asks, width),
        _below_payload(torch.cat([circle, circle], dim=1), width),
        torch.cat([copy, copy], dim=1),
        torch.cat([identity, -identity]),
    )


def _slope_by_means(n: int, width: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Twice the mean of self and next, less twice the mean of self and previous."""
    position = torch.eye(n)
    asks = [_strong(n) * (position + position[target(n)]) for target in (_previous, _next)]
    for ask, edge in zip(asks, (0, n - 1), strict=True):
        ask[edge] /= 2  # there self is its own neighbour
    W_v = torch.cat([2 * torch.eye(width), torch.zeros(n, width)]).repeat(1, 2)
    return (
        _below_payload(torch.cat(asks, dim=1), width),
        _below_payload(position.repeat(1, 2), width),
        W_v,
        torch.cat([-torch.eye(width), torch.eye(width)]),
    )


def _slope_of_a_payload(
    n: int, width: int, W_q: Tensor, W_k: Tensor, W_v: Tensor, W_o: Tensor
) -> dict[str, Tensor]:
    """What two heads with these weights make of n random payloads and their positions."""
    matrices = {"W_q": W_q, "W_k": W_k, "W_v": W_v, "W_o": W_o}
    for name, W in matrices.items():
        if W.dim() != 2 or not W.is_floating_point():
            raise ValueError(
                f"{name} should be a floating-point matrix, it is {W.dtype} of shape {tuple(W.shape)}"
            )
        if name != "W_o" and (len(W) != width + n or W.shape[1] % 2 or not W.shape[1]):
            raise ValueError(
                f"{name} should have {width} + {n} rows and an even number of columns, half for each head; "
                f"its shape is {tuple(W.shape)}"
            )
    if W_q.shape != W_k.shape:
        raise ValueError(
            f"W_q and W_k should have the same shape, they have {tuple(W_q.shape)} and {tuple(W_k.shape)}"
        )
    if W_o.shape != (W_v.shape[1], width):
        raise ValueError(
            f"W_o should have a row for each column of W_v and {width} columns, that is "
            f"({W_v.shape[1]}, {width}); its shape is {tuple(W_o.shape)}"
        )
    payload = torch.randn(n, width, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    x = torch.cat([payload, torch.eye(n, dtype=torch.float64)], dim=-1)[None]
    output, _ = _heads_in_a_loop(x, x, x, W_q.double(), W_k.double(), W_v.double(), W_o.double(), 2)
    return {"the output": output[0]}


def _which_rows(inputs: tuple[Any, ...], outputs: dict[str, Tensor]) -> str | None:
    n, width = inputs
    mine = outputs["the output"]
    expected = _slope_of_a_payload(n, width, *_two_heads()(n, width))["the output"]
    if mine.shape != expected.shape:
        return None
    right = torch.isclose(mine, expected, atol=0.02, rtol=0.02).all(-1)
    if right[1:-1].all():
        return "Only the ends are wrong: the first position has no one before it, the last no one after it."
    factor = float((mine * expected).sum() / expected.square().sum())
    if abs(factor - 1) > 0.05 and torch.isclose(mine, factor * expected, atol=0.05, rtol=0.05).all():
        return (
            f"The output is {factor:.2g} times what it should be. Does each head put almost all of its "
            "weight in the right place?"
        )
    return f"{int(right.sum())} of {n} rows of the output are right."


slope_heads = Exercise(
    id="04.slope_heads",
    kind="design",
    concepts=("heads-specialise", "output-projection"),
    reference=_two_heads(),
    returns=("W_q", "W_k", "W_v", "W_o"),
    view=_slope_of_a_payload,
    tolerance=0.02,
    cases=(
        Case("3 positions, payloads of 2 numbers", lambda _: (3, 2)),
        Case("8 positions, payloads of 5 numbers", lambda _: (8, 5), points=2),
        Case(
            "50 positions, payloads of 4 numbers",
            lambda _: (50, 4),
            points=2,
            hint="what happens to the scaled score when d_k grows with n? And the sum over keys?",
        ),
    ),
    measures=(_which_rows,),
    mistakes=(
        Mistake(
            "previous minus next: the sign is turned round",
            "if the payload grows from left to right, should the slope be positive?",
            _two_heads(signs=(1.0, -1.0)),
        ),
        Mistake(
            "the neighbours are added",
            "one head could do that: half of each, times two. What can W_o do that weights cannot?",
            _two_heads(signs=(1.0, 1.0)),
        ),
        Mistake(
            "only the head that looks ahead is heard",
            "which rows of W_o read the other head?",
            _two_heads(signs=(0.0, 1.0)),
        ),
        Mistake(
            "only the head that looks back is heard",
            "which rows of W_o read the other head?",
            _two_heads(signs=(-1.0, 0.0)),
        ),
        Mistake(
            "half of the slope",
            "next minus previous, not divided by the two steps between them. Where does the half come from?",
            _two_heads(signs=(-0.5, 0.5)),
        ),
        Mistake(
            "next minus itself",
            "one head should look ahead. Where should the other one look?",
            _two_heads(torch.arange),
        ),
        Mistake(
            "itself minus previous",
            "one head should look back. Where should the other one look?",
            _two_heads(second=torch.arange),
        ),
        Mistake(
            "both heads do the same: nothing is left",
            "what do two equal heads with opposite signs add up to? What must differ between them?",
            _two_heads(_next, _next),
        ),
        Mistake(
            "the ends are joined to a ring",
            "what does roll do at the edge? There a position stands in for the missing neighbour itself.",
            _two_heads(lambda n: torch.arange(n).roll(1), lambda n: torch.arange(n).roll(-1)),
        ),
        Mistake(
            "at the ends both heads look at the only neighbour",
            "the slope at position 0 is x1 - x0. Where must the head that looks back look there?",
            _two_heads(
                lambda n: (torch.arange(n) - 1).abs(), lambda n: n - 1 - (n - 2 - torch.arange(n)).abs()
            ),
        ),
        Mistake(
            "at the ends a head without a neighbour looks at everyone alike",
            "what are the weights of a query that is all zeros? Position 0 stands in for who is missing.",
            _nobody_at_the_ends,
        ),
        Mistake(
            "query and key are exchanged",
            "which matrix makes the one that asks? Exchanged, each neighbour is asked from the other side.",
            _heads_exchange_query_and_key,
        ),
        Mistake(
            "the columns of the two heads alternate",
            "head 0 owns the first half of the columns. In which order did you lay them?",
            _columns_alternate,
        ),
        Mistake(
            "the right places, but too softly",
            "the score is divided by the root of d_k and shared out by softmax. How large must it be?",
            _two_heads(strength=lambda n: 1.0),
        ),
        Mistake(
            "strong enough for short sequences only",
            "what happens to the score when d_k grows with n, and to the sum when there are more keys?",
            _two_heads(strength=lambda n: 30.0),
        ),
        Mistake(
            "the payload takes part in the scores",
            "where to look depends on the position alone. Which rows of W_q and W_k must be 0?",
            _payload_in_the_scores,
        ),
    ),
    right=(_slope_by_loop, _slope_on_a_circle, _slope_by_means),
)

# --- find the bug: a test for multi-head attention ---------------------------------------------------------


def _folded(*, mask_by_head: bool = True, unfold_by_head: bool = True) -> MultiHead:
    """Heads folded into the batch, head by head. The mask must be repeated, and the result unfolded, in that
    order too.
    """

    def attention(
        query: Tensor,
        key: Tensor,
        value: Tensor,
        W_q: Tensor,
        W_k: Tensor,
        W_v: Tensor,
        W_o: Tensor,
        n_heads: int,
        mask: Tensor | None = None,
    ) -> Results:
        batch, queries, keys = len(query), query.shape[1], key.shape[1]
        q, k, v = (
            torch.cat((x @ W).chunk(n_heads, dim=-1)) for x, W in ((query, W_q), (key, W_k), (value, W_v))
        )
        scores = q @ k.mT / q.shape[-1] ** 0.5
        if mask is not None:
            full = mask.expand(batch, n_heads, queries, keys)
            full = full.transpose(0, 1).flatten(0, 1) if mask_by_head else full.flatten(0, 1)
            scores = _lowest(scores, full)
        weights = scores.softmax(-1)
        output = torch.cat((weights @ v).chunk(n_heads), dim=-1) @ W_o
        if unfold_by_head:
            return output, weights.unflatten(0, (n_heads, batch)).transpose(0, 1)
        return output, weights.unflatten(0, (batch, n_heads))

    return attention


_UNDER_TEST = (
    Mistake(
        "the right code",
        "this one is right, to the letter. What does your test demand that the formula does not say?",
        _multi_head_with(),
        equivalent=True,
    ),
    Mistake(
        "the right code, written with einsum",
        "this one is right. What does your test demand that the formula does not say? The last digit?",
        _heads_by_einsum,
        equivalent=True,
    ),
    Mistake(
        "equivalent: nothing is concatenated, each head goes through its own rows of W_o and is added",
        "this one looks odd and is right: a concatenation times W_o is a sum over heads, and softmax does "
        "not notice the 3 that is added to every score.",
        _heads_added_up,
        equivalent=True,
    ),
    Mistake(
        "split by view, without a transpose",
        "one head hides it, and so does the shape. Which number of heads do you try?",
        _SPLIT_BY_VIEW,
    ),
    Mistake(
        "merged by view, without a transpose",
        "the weights are right. Do you compare the output as well, for more than one head?",
        _MERGED_BY_VIEW,
    ),
    Mistake(
        "divided by the root of d_model",
        "with one head d_k is d_model. With more, the ratio of two weights shows the scale.",
        _ROOT_OF_D_MODEL,
    ),
    Mistake(
        "divided by the root of d_v",
        "is there a call in which d_v differs from d_k?",
        _multi_head_with(divisor=lambda query, q, v: math.sqrt(v.shape[-1])),
    ),
    Mistake("W_o is forgotten", "which W_o makes it visible? Not the identity matrix.", _NO_W_O),
    Mistake(
        "all heads read the same columns",
        "do the heads return different weights? With one head they cannot.",
        _SAME_SLICE,
    ),
    Mistake(
        "softmax over the heads",
        "what does a row of the weights sum to?",
        _SOFTMAX_OVER_HEADS,
    ),
    Mistake(
        "the values are made of the keys' input",
        "is there a call in which key and value are different tensors?",
        _KEY_FOR_VALUE,
    ),
    Mistake(
        "every sentence of a batch reads the first sentence's keys",
        "does the second sentence of a batch give what it gives alone?",
        _multi_head_with(
            project=lambda query, key, value, W_q, W_k, W_v: (
                query @ W_q,
                (key[:1] @ W_k).expand(len(key), -1, -1),
                value @ W_v,
            )
        ),
    ),
    Mistake(
        "the mask reaches the first head only",
        "under a mask, do you look at the weights of the second head?",
        _MASK_FOR_FIRST_HEAD,
    ),
    Mistake(
        "all heads use the first head's mask",
        "a mask may differ from head to head. Does one of yours?",
        _MASK_OF_FIRST_HEAD,
    ),
    Mistake(
        "heads folded into the batch, and the masks repeated in another order",
        "which sentence's mask does each head of each sentence get? Do yours differ between sentences?",
        _folded(mask_by_head=False),
    ),
    Mistake(
        "heads folded into the batch, and the weights unfolded in another order",
        "the output is right. Whose weights are weights[0, 1]: do they belong to sentence 0?",
        _folded(unfold_by_head=False),
    ),
)


_right = _multi_head_with()  # what the tests below compare with


@functools.cache
def _trial(
    *mask: int,
    n_heads: int = 3,
    batch: int = 2,
    d_v: int = 4,
    self_attention: bool = False,
    identity: bool = False,
) -> tuple[tuple[Any, ...], Results]:
    """Arguments for a call, and what is right for them. `mask` is a mask's shape before (queries, keys)."""
    generator = torch.Generator().manual_seed(1)
    texts = [_normal(generator, batch, length, 6) for length in (4, 5, 5)]
    *layer, _ = _layer(generator, n_heads, d_model=6, d_k=6 // n_heads, d_v=d_v)
    if self_attention:
        texts = texts[:1] * 3
    if identity:
        layer[-1] = torch.eye(len(layer[-1]))
    inputs = (*texts, *layer, n_heads)
    if mask:
        inputs = (*inputs, _some_mask(generator, *mask, texts[0].shape[1], texts[1].shape[1]))
    return inputs, _right(*inputs)


def _compare(
    attention: MultiHead, trial: tuple[tuple[Any, ...], Results], look_at: Sequence[int] = (0, 1)
) -> None:
    inputs, expected = trial
    mine = attention(*inputs)
    for i in look_at:
        assert mine[i].shape == expected[i].shape
        assert torch.allclose(mine[i], expected[i], atol=1e-4)


def _test_by_a_loop(attention: MultiHead) -> None:
    for trial in (_trial(), _trial(2, 3)):
        inputs, _ = trial
        loop: MultiHead = _heads_in_a_loop
        _compare(attention, (inputs, loop(*inputs)))


def _test_by_torch(attention: MultiHead) -> None:
    """Against torch's layer where its widths allow, and a call with d_v ≠ d_k for the scale."""
    query, key, value, W_q, W_k, W_v, W_o, n_heads, mask = _trial(2, 3, d_v=2)[0]
    layer = torch.nn.MultiheadAttention(6, n_heads, bias=False, batch_first=True)
    with torch.no_grad():
        layer.in_proj_weight.copy_(torch.cat([W_q, W_k, W_v], dim=1).T)
        layer.out_proj.weight.copy_(W_o.T)
    expected = layer(query, key, value, attn_mask=(~mask).flatten(0, 1), average_attn_weights=False)
    mine = attention(query, key, value, W_q, W_k, W_v, W_o, n_heads, mask)
    assert torch.allclose(mine[0], expected[0], atol=1e-4)
    assert torch.allclose(mine[1], expected[1], atol=1e-4)
    wide = attention(query, key, value, W_q, W_k, W_v.repeat(1, 2), W_o.repeat(2, 1), n_heads, mask=mask)
    assert torch.allclose(wide[1], expected[1], atol=1e-4)


def _test_by_properties(attention: MultiHead) -> None:
    """No second implementation: what must hold."""
    inputs, _ = _trial(2, 3)
    query, key, value, W_q, W_k, W_v, W_o, n_heads, mask = inputs
    output, weights = attention(query, key, value, W_q, W_k, W_v, W_o, n_heads)
    assert torch.allclose(weights.sum(-1), torch.ones(2, 3, 4), atol=1e-4)
    # The ratio of two weights of head 1 knows its columns and its scale.
    scores = (query @ W_q[:, 2:4]) @ (key @ W_k[:, 2:4]).mT / 2**0.5
    ratio = weights[:, 1].log() - weights[:, 1, :, :1].log()
    assert torch.allclose(ratio, scores - scores[..., :1], atol=1e-3)
    # The output is the sum over the heads of A X W_v W_o.
    blocks = [slice(4 * i, 4 * i + 4) for i in range(3)]
    heads = [weights[:, i] @ value @ W_v[:, own] @ W_o[own] for i, own in enumerate(blocks)]
    assert torch.allclose(output, torch.stack(heads).sum(0), atol=1e-4)
    masked = attention(*inputs)[1]
    assert masked.where(~mask, 0.0).abs().max() == 0
    assert torch.allclose(masked.sum(-1), torch.ones(2, 3, 4), atol=1e-4)


def _test_by_two_calls(attention: MultiHead) -> None:
    """Against einsum, arguments by name, each sentence of the batch alone."""
    query, key, value, W_q, W_k, W_v, W_o, n_heads, mask = _trial(2, 2, n_heads=2, d_v=7)[0]
    layer = {"W_q": W_q, "W_k": W_k, "W_v": W_v, "W_o": W_o, "n_heads": n_heads}
    output, weights = attention(query=query, key=key, value=value, **layer, mask=mask)
    for i in (0, 1):
        one = slice(i, i + 1)
        alone, its_weights = _heads_by_einsum(query[one], key[one], value[one], **layer, mask=mask[one])
        assert (output[one] - alone).abs().max() < 1e-4
        assert (weights[one] - its_weights).abs().max() < 1e-4


def _test_of_shapes(attention: MultiHead) -> None:
    output, weights = attention(*_trial(d_v=2)[0])
    assert output.shape == (2, 4, 6)
    assert weights.shape == (2, 3, 4, 5)


def _test_of_row_sums(attention: MultiHead) -> None:
    weights = attention(*_trial(d_v=2)[0])[1]
    assert torch.allclose(weights.sum(-1), torch.ones(2, 3, 4), atol=1e-4)


def _test_of_one_head(attention: MultiHead) -> None:
    _compare(attention, _trial(2, 1, n_heads=1))


def _test_without_mask(attention: MultiHead) -> None:
    _compare(attention, _trial())


def _test_with_one_mask_for_all(attention: MultiHead) -> None:
    _compare(attention, _trial(1, 1))


def _test_with_padding_only(attention: MultiHead) -> None:
    _compare(attention, _trial(2, 1))


def _test_of_one_sentence(attention: MultiHead) -> None:
    _compare(attention, _trial(1, 3, batch=1))


def _test_with_identity(attention: MultiHead) -> None:
    _compare(attention, _trial(2, 3, identity=True))


def _test_of_self_attention(attention: MultiHead) -> None:
    _compare(attention, _trial(2, 3, self_attention=True))


def _test_of_equal_widths(attention: MultiHead) -> None:
    _compare(attention, _trial(2, 3, d_v=2))


def _test_of_outputs_only(attention: MultiHead) -> None:
    _compare(attention, _trial(2, 3), look_at=[0])


def _test_of_weights_only(attention: MultiHead) -> None:
    _compare(attention, _trial(2, 3), look_at=[1])


def _test_of_ones(attention: MultiHead) -> None:
    """Every key and every value alike: each weight is 1/7, each output 4."""
    x, y = torch.ones(2, 5, 4), torch.ones(2, 7, 4)
    output, weights = attention(x, y, y, *[torch.ones(4, 4) / 4] * 3, torch.ones(4, 4), 2)
    assert torch.allclose(weights, torch.full((2, 2, 5, 7), 1 / 7))
    assert torch.allclose(output, torch.full((2, 5, 4), 4.0))


def _test_exactly(attention: MultiHead) -> None:
    inputs, expected = _trial()
    for mine, right in zip(attention(*inputs), expected, strict=True):
        assert torch.equal(mine, right)


def _test_that_always_fails(attention: MultiHead) -> None:
    attention(*_trial()[0])
    raise AssertionError("wrong")


multi_head_test = Exercise(
    id="04.multi_head_test",
    kind="find the bug",
    concepts=("loop-equals-batched", "equals-torch-mha", "output-projection"),
    reference=_test_by_a_loop,
    cases=trials(*_UNDER_TEST),
    mistakes=(
        Mistake(
            "it catches nothing: no number is asserted",
            "does it look at more than shapes? Does it `assert` what it finds, not print or return it?",
            _test_of_shapes,
        ),
        Mistake(
            "a test that only finds out whether the rows sum to 1",
            "which broken ones still give rows that sum to 1?",
            _test_of_row_sums,
        ),
        Mistake(
            "a test with one head",
            "with one head, what is the difference between d_k and d_model, or between view and transpose?",
            _test_of_one_head,
        ),
        Mistake(
            "a test that never hands over a mask",
            "which argument of the function is never tried?",
            _test_without_mask,
        ),
        Mistake(
            "the same mask for all sentences and heads",
            "if all sentences share one mask, can it be given to the wrong one?",
            _test_with_one_mask_for_all,
        ),
        Mistake(
            "the same mask for all heads",
            "a mask may also be (batch, heads, queries, keys). What if a head uses another head's?",
            _test_with_padding_only,
        ),
        Mistake(
            "a test with one sentence in the batch",
            "what could leak from one sentence of a batch into another?",
            _test_of_one_sentence,
        ),
        Mistake(
            "W_o is the identity matrix",
            "what does a layer that forgets W_o return, if W_o changes nothing?",
            _test_with_identity,
        ),
        Mistake(
            "self-attention only",
            "if query, key and value are one tensor, can they be mixed up?",
            _test_of_self_attention,
        ),
        Mistake(
            "values as wide as keys",
            "the number of columns of W_v need not be that of W_k. Which root could then be the wrong one?",
            _test_of_equal_widths,
        ),
        Mistake(
            "the weights are never looked at",
            "right outputs, and then? Two things are returned.",
            _test_of_outputs_only,
        ),
        Mistake(
            "the output is never looked at",
            "right weights, and then? What is made of them: values, a merge, W_o?",
            _test_of_weights_only,
        ),
        Mistake(
            "inputs of ones hide the mistakes",
            "if all vectors and all columns are alike, can anything be put in the wrong place?",
            _test_of_ones,
        ),
        Mistake(
            "floating-point numbers compared with ==",
            "another order of summation changes the last digit. How close is close enough?",
            _test_exactly,
        ),
        Mistake(
            "a test that fails on everything", "does it pass on the right code?", _test_that_always_fails
        ),
    ),
    right=(_test_by_torch, _test_by_properties, _test_by_two_calls),
)


EXERCISES = (
    head_costs,
    heads_claim,
    multi_head_attention,
    torch_weights,
    slope_heads,
    multi_head_test,
)
