"""Chapter 01: dot-product attention."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from attn.core import attend
from attn.grading.exercise import Case, Exercise, Mistake, trials, values

# --- predict: three steps by hand --------------------------------------------------------------------------

# Raw scores 0 and 2 ln 3 with d_k = 4: the weights are 1/4 and 3/4.
_STRONG = 2 * math.log(3)


def _two_keys(*scores: float) -> dict[str, list[float]]:
    """Weights and output of the exercise's two values, (4, 0) and (0, 8), for these scores."""
    exponentials = [math.exp(s) for s in scores]
    first, second = (e / sum(exponentials) for e in exponentials)
    return {"weights": [first, second], "output": [4 * first, 8 * second]}


paper_weights = Exercise(
    id="01.paper_weights",
    kind="predict",
    concepts=("score-normalize-sum",),
    reference={"weights": [0.25, 0.75], "output": [1.0, 6.0]},
    cases=values(
        "weights", "output", hints={"output": "how much of each value does each weight let through?"}
    ),
    tolerance=0.01,
    mistakes=(
        Mistake(
            "the scores are not scaled",
            "d_k is 4. What happens to a score before softmax?",
            _two_keys(0.0, _STRONG),
        ),
        Mistake(
            "divided by d_k instead of its square root",
            "is it d_k itself that stands below the dot product?",
            _two_keys(0.0, _STRONG / 4),
        ),
        Mistake(
            "divided by the sum of the scores, without exp",
            "softmax takes exponentials first. What is e to the power 0?",
            {"weights": [0.0, 1.0], "output": [0.0, 8.0]},
        ),
        Mistake(
            "the scaled scores themselves, not normalised",
            "what must the weights of one query add up to?",
            {"weights": [0.0, _STRONG / 2], "output": [0.0, 4 * _STRONG]},
        ),
        Mistake(
            "exponentials that are not divided by their sum",
            "what must the weights of one query add up to?",
            {"weights": [1.0, 3.0], "output": [4.0, 24.0]},
        ),
        Mistake(
            "the two keys are exchanged",
            "which key has the larger dot product with the query?",
            {"weights": [0.75, 0.25], "output": [3.0, 2.0]},
        ),
        Mistake(
            "the same weight for every key",
            "the keys score differently. Can they weigh the same?",
            {"weights": [0.5, 0.5], "output": [2.0, 4.0]},
        ),
        Mistake(
            "the sum of the values, without weights",
            "where do the weights come in?",
            {"output": [4.0, 8.0]},
        ),
        Mistake(
            "percentages instead of fractions",
            "what must the weights of one query add up to?",
            {"weights": [25.0, 75.0], "output": [100.0, 600.0]},
        ),
        Mistake(
            "the keys are summed instead of the values",
            "which of key and value is matched, and which is passed on?",
            {"output": [0.375 * _STRONG, 0.375 * _STRONG, 0.25, 0.0]},
        ),
    ),
    right=(
        {"weights": (1 / 4, 3 / 4), "output": (1, 6)},
        {"weights": torch.tensor([0.25, 0.75]), "output": torch.tensor([1.0, 6.0])},
        _two_keys(0.0, _STRONG / 2),
    ),
)

# --- implement: softmax that does not overflow -------------------------------------------------------------


def _normal(generator: Generator, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)


def _far_apart(generator: Generator) -> tuple[Tensor]:
    """Rows near 1000, near 0 and near -1000: each must be treated on its own."""
    return (
        _normal(generator, 3, 5, dtype=torch.float64) + torch.tensor([[1000.0], [0.0], [-1000.0]]).double(),
    )


def _with_minus_infinity(generator: Generator) -> tuple[Tensor]:
    scores = _normal(generator, 3, 5)
    scores[0, 1] = scores[1, 0] = scores[1, 4] = -torch.inf
    return (scores,)


def _softmax(scores: Tensor) -> Tensor:
    return torch.softmax(scores, dim=-1)


def _share(exponentials: Tensor, axis: int = -1) -> Tensor:
    return exponentials / exponentials.sum(axis, keepdim=True)


def _softmax_in_place(scores: Tensor) -> Tensor:
    scores -= scores.amax(-1, keepdim=True)
    return _share(scores.exp())


def _softmax_by_loop(scores: Tensor) -> Tensor:
    rows = []
    for row in scores.reshape(-1, scores.shape[-1]).tolist():
        exponentials = [math.exp(s - max(row)) for s in row]
        rows.append([e / sum(exponentials) for e in exponentials])
    return torch.tensor(rows, dtype=scores.dtype).reshape(scores.shape)


def _softmax_in_numpy(scores: Tensor) -> Tensor:
    array = scores.numpy()
    exponentials = np.exp(array - array.max(-1, keepdims=True))
    return torch.from_numpy(exponentials / exponentials.sum(-1, keepdims=True))


def _softmax_in_double(scores: Tensor) -> Tensor:
    wide = scores.double()
    return (wide - wide.logsumexp(-1, keepdim=True)).exp().to(scores.dtype)


stable_softmax = Exercise(
    id="01.stable_softmax",
    kind="implement",
    concepts=("stable-softmax", "score-normalize-sum"),
    reference=_softmax,
    returns=("weights",),
    cases=(
        Case("five scores", lambda g: (_normal(g, 5),)),
        Case("a matrix", lambda g: (_normal(g, 3, 5),)),
        Case("a batch of heads", lambda g: (_normal(g, 2, 3, 4, 5),)),
        Case(
            "rows near 1000, 0 and -1000",
            _far_apart,
            points=4,
            hint="which number may be taken off a whole row for free?",
        ),
        Case("scores of minus infinity", _with_minus_infinity, hint="what should a forbidden key weigh?"),
    ),
    mistakes=(
        Mistake(
            "the scores go into exp as they are",
            "what is exp(1000) on a computer? Which constant can be taken off a whole row for free?",
            lambda s: _share(s.exp()),
        ),
        Mistake(
            "one maximum for the whole tensor",
            "what is left of a row that lies 2000 below the largest score? Whose maximum does it need?",
            lambda s: _share((s - s.max()).exp()),
        ),
        Mistake(
            "the minimum is subtracted, not the maximum",
            "which of the two keeps the largest exponent at 0?",
            lambda s: _share((s - s.amin(-1, keepdim=True)).exp()),
        ),
        Mistake(
            "the maximum is taken along another axis than the sum",
            "the weights of one query lie along one axis. Which axis is the maximum to be taken along?",
            lambda s: _share((s - s.amax(0, keepdim=True)).exp()),
        ),
        Mistake(
            "the axis is lost in the maximum (keepdim)",
            "what shape has s.amax(-1), and against which axis of s is it then subtracted?",
            lambda s: _share((s - s.amax(-1)).exp()),
        ),
        Mistake(
            "large scores are clamped",
            "are two scores of 1000 and 1001 still different after the clamp?",
            lambda s: _share(s.clamp(-80, 80).exp()),
        ),
        Mistake(
            "normalised over the first axis",
            "the last axis holds the keys. Along which one do you sum?",
            lambda s: torch.softmax(s, 0),
        ),
        Mistake(
            "normalised over axis 1",
            "the last axis holds the keys, however many axes stand before it.",
            lambda s: torch.softmax(s, 1),
        ),
        Mistake(
            "normalised over the last axis but one",
            "the last axis holds the keys, the one before it the queries. Which of them must add up to 1?",
            lambda s: torch.softmax(s, -2),
        ),
        Mistake(
            "divided by the sum over everything",
            "how many rows are there, and what should *each* add up to?",
            lambda s: torch.softmax(s.reshape(-1), 0).reshape(s.shape),
        ),
        Mistake(
            "not divided by the sum",
            "what should a row add up to?",
            lambda s: (s - s.amax(-1, keepdim=True)).exp(),
        ),
        Mistake(
            "no exp: scores divided by their sum", "what happens to a negative score?", lambda s: _share(s)
        ),
        Mistake(
            "the logarithm of the weights", "can a weight be negative?", lambda s: torch.log_softmax(s, -1)
        ),
        Mistake("a sigmoid of each score", "do the keys compete with each other?", torch.sigmoid),
        Mistake(
            "powers of 2 instead of e",
            "which number does exp raise to the power of the score?",
            lambda s: torch.softmax(s * math.log(2), -1),
        ),
        Mistake(
            "scaled by the square root of the number of keys",
            "softmax itself knows no scale. Where does scaling belong, and by what?",
            lambda s: torch.softmax(s / math.sqrt(s.shape[-1]), -1),
        ),
        Mistake(
            "the scores are changed in place",
            "who else still needs the scores that you were given?",
            _softmax_in_place,
        ),
        Mistake(
            "minus infinity is treated as a score of 0",
            "exp(-inf) is a perfectly good number. Which one?",
            lambda s: torch.softmax(s.where(s > -torch.inf, 0.0), -1),
        ),
    ),
    right=(
        _softmax_by_loop,
        _softmax_in_numpy,
        _softmax_in_double,
        lambda s: _share((s - s.amax(-1, keepdim=True)).exp()),
        lambda s: F.softmax(s, dim=s.dim() - 1),
        lambda s: torch.log_softmax(s, -1).exp(),
    ),
)


# --- implement: attention ----------------------------------------------------------------------------------


def _attention(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    output, weights = attend(query, key, value, mask=mask)
    assert weights is not None
    return output, weights


def _some_mask(generator: Generator, *shape: int, empty_row: bool = False) -> Tensor:
    """A random mask in which every query may attend to some keys, and no two rows are alike by plan."""
    mask = torch.rand(shape, generator=generator) < 0.5
    keys = torch.arange(shape[-1])
    rows = torch.arange(shape[-2])[:, None]
    mask = (mask | (keys == rows % shape[-1])) & (keys != (rows + 1) % shape[-1])
    if empty_row:
        mask[..., 1, :] = False
    return mask


def _matrices(generator: Generator) -> tuple[Tensor, ...]:
    return _normal(generator, 3, 4), _normal(generator, 5, 4), _normal(generator, 5, 2)


def _batch_of_heads(generator: Generator) -> tuple[Tensor, ...]:
    return _normal(generator, 2, 3, 4, 6), _normal(generator, 2, 3, 5, 6), _normal(generator, 2, 3, 5, 7)


def _wide(generator: Generator) -> tuple[Tensor, ...]:
    return _normal(generator, 2, 4, 64), _normal(generator, 2, 5, 64), _normal(generator, 2, 5, 3)


def _masked(generator: Generator) -> tuple[Tensor, ...]:
    return *_batch_of_heads(generator), _some_mask(generator, 2, 1, 4, 5)


def _empty_row(generator: Generator) -> tuple[Tensor, ...]:
    return *_batch_of_heads(generator), _some_mask(generator, 4, 5, empty_row=True)


def _huge(generator: Generator) -> tuple[Tensor, ...]:
    """Scores of hundreds of thousands, the best keys forbidden; double precision keeps them exact enough."""
    query, key, value = (x.double() for x in _batch_of_heads(generator))
    query = query * 3e5
    best = (query @ key.transpose(-2, -1)).argmax(-1, keepdim=True)
    return query, key, value, torch.arange(5) != best


def _minus_infinity(scores: Tensor, mask: Tensor) -> Tensor:
    return scores.masked_fill(~mask, -torch.inf)


def _zero_empty_rows(weights: Tensor, mask: Tensor) -> Tensor:
    return weights.where(mask.any(-1, keepdim=True), 0.0)


def _attention_with(
    *,
    divisor: Callable[[Tensor, Tensor, Tensor], float] = lambda query, key, value: math.sqrt(query.shape[-1]),
    hide: Callable[[Tensor, Tensor], Tensor] = _minus_infinity,
    normalize: Callable[[Tensor], Tensor] = _softmax,
    after: Callable[[Tensor, Tensor], Tensor] = _zero_empty_rows,
    combine: Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]] = lambda weights, key, value: (
        weights @ value,
        weights,
    ),
) -> Callable[..., Any]:
    """Attention, any of its steps replaced. `hide` applies the mask before `normalize`, `after` after it."""

    def attention(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None) -> Any:
        scores = query @ key.transpose(-2, -1) / divisor(query, key, value)
        if mask is not None:
            scores = hide(scores, mask)
        weights = normalize(scores)
        if mask is not None:
            weights = after(weights, mask)
        return combine(weights, key, value)

    return attention


def _nothing(x: Tensor, mask: Tensor) -> Tensor:
    return x


def _key_t(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
    weights = _softmax(query @ key.permute(*range(key.dim())[::-1]) / math.sqrt(query.shape[-1]))
    return weights @ value, weights


def _additive_infinity(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Right values; the NaN of an empty row is wiped off the output and comes back in the gradients."""
    scores = query @ key.transpose(-2, -1) / math.sqrt(query.shape[-1])
    if mask is None:
        weights = torch.softmax(scores, -1)
    else:
        lowest = torch.where(mask, 0.0, -torch.inf).to(scores.dtype)
        scores = scores + lowest
        exponentials = (scores - scores.amax(-1, keepdim=True)).exp()
        weights = torch.nan_to_num(exponentials / exponentials.sum(-1, keepdim=True))
    return weights @ value, weights


def _mask_after_softmax(weights: Tensor, mask: Tensor) -> Tensor:
    return weights * mask


_MASK_IGNORED = _attention_with(hide=_nothing, after=_nothing)
_MASK_INVERTED = _attention_with(
    hide=lambda s, m: s.masked_fill(m, -torch.inf),
    after=lambda w, m: w.where((~m).any(-1, keepdim=True), 0.0),
)
_MASK_AFTER = _attention_with(hide=_nothing, after=_mask_after_softmax)
_NO_SCALE = _attention_with(divisor=lambda q, k, v: 1.0)
_BY_D_K = _attention_with(divisor=lambda q, k, v: q.shape[-1])
_OVER_QUERIES = _attention_with(normalize=lambda s: torch.softmax(s, -2).nan_to_num())


def _attention_by_loop(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """One query at a time, one key at a time."""
    batch = query.shape[:-2]
    if mask is not None:
        mask = mask.expand(*batch, query.shape[-2], key.shape[-2]).reshape(-1, query.shape[-2], key.shape[-2])
    flat = [x.reshape(-1, *x.shape[-2:]) for x in (query, key, value)]
    outputs, maps = [], []
    for b, (queries, keys, vectors) in enumerate(zip(*flat, strict=True)):
        for i, q in enumerate(queries):
            scores = torch.stack([torch.dot(q, k) for k in keys]) / q.numel() ** 0.5
            allowed = torch.ones(len(keys), dtype=torch.bool) if mask is None else mask[b, i]
            if allowed.any():
                exponentials = torch.where(allowed, (scores - scores[allowed].max()).clamp(max=0).exp(), 0.0)
                weights = exponentials / exponentials.sum()
            else:
                weights = scores * 0
            maps.append(weights)
            outputs.append(sum(w * v for w, v in zip(weights, vectors, strict=True)))
    shape = (*batch, query.shape[-2])
    return torch.stack(outputs).reshape(*shape, -1), torch.stack(maps).reshape(*shape, -1)


def _attention_by_einsum(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    scores = torch.einsum("...qd,...kd->...qk", query / query.shape[-1] ** 0.5, key)
    if mask is not None:
        scores = torch.where(mask, scores, torch.finfo(scores.dtype).min)
    weights = F.softmax(scores, dim=-1)
    if mask is not None:
        weights = weights * mask.any(-1, keepdim=True)
    return torch.einsum("...qk,...kd->...qd", weights, value), weights


def _attention_in_double(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    output, weights = _attention_by_einsum(query.double(), key.double(), value.double(), mask)
    return output.to(value.dtype), weights.to(value.dtype)


def _attention_by_torch(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """torch's function twice: an identity matrix in place of the value brings out the weights."""
    identity = torch.eye(key.shape[-2], dtype=key.dtype).expand(*key.shape[:-1], -1)
    weights = F.scaled_dot_product_attention(query, key, identity, attn_mask=mask)
    output = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    return output, weights


def _rows_sum_to_one(inputs: tuple[Any, ...], outputs: dict[str, Tensor]) -> str | None:
    weights = outputs["weights"]
    sums = weights.sum(-1)
    expected = (
        torch.ones_like(sums) if len(inputs) < 4 else inputs[3].any(-1).expand(sums.shape).to(sums.dtype)
    )
    if torch.isclose(sums, expected, atol=1e-3).all():
        return None
    return (
        f"The rows of weights do not sum to 1: their sums lie between {sums.min():.3g} and {sums.max():.3g}."
    )


def _forbidden_weights_are_zero(inputs: tuple[Any, ...], outputs: dict[str, Tensor]) -> str | None:
    if len(inputs) < 4:
        return None
    largest = outputs["weights"].where(~inputs[3], 0.0).abs().max()
    return (
        f"A key that the mask forbids has the weight {largest:.3g}; it must be 0." if largest > 1e-6 else None
    )


attention = Exercise(
    id="01.attention",
    kind="implement",
    concepts=("score-normalize-sum", "matrix-form", "scale", "self-vs-cross"),
    reference=_attention,
    returns=("output", "weights"),
    cases=(
        Case("matrices, no mask", _matrices),
        Case("a batch of heads", _batch_of_heads),
        Case("d_k = 64", _wide),
        Case("a mask", _masked, points=2),
        Case(
            "a query that may attend to nothing",
            _empty_row,
            points=2,
            hint="what does softmax make of a row of -inf?",
        ),
        Case("scores of 100,000 and a mask", _huge),
        Case(
            "gradients, with such a query",
            _empty_row,
            gradients=True,
            points=2,
            hint="is NaN times 0 a number?",
        ),
    ),
    measures=(_rows_sum_to_one, _forbidden_weights_are_zero),
    mistakes=(
        Mistake(
            "the scores are not scaled",
            "what is the variance of q·k when d_k is 64, and what does softmax do with such scores?",
            _NO_SCALE,
        ),
        Mistake(
            "divided by d_k instead of its square root",
            "dividing by c divides the variance by c². Which c brings d_k down to 1?",
            _BY_D_K,
        ),
        Mistake(
            "multiplied by the square root of d_k",
            "should longer vectors make softmax sharper or leave it as it is?",
            _attention_with(divisor=lambda q, k, v: q.shape[-1] ** -0.5),
        ),
        Mistake(
            "scaled by the width of the values",
            "which vectors does the dot product run over: keys or values?",
            _attention_with(divisor=lambda q, k, v: math.sqrt(v.shape[-1])),
        ),
        Mistake(
            "scaled by the number of keys",
            "how many products are summed in one score: as many as there are keys?",
            _attention_with(divisor=lambda q, k, v: math.sqrt(k.shape[-2])),
        ),
        Mistake(
            "scaled by the number of queries",
            "which axis of the query does a dot product run over?",
            _attention_with(divisor=lambda q, k, v: math.sqrt(q.shape[-2])),
        ),
        Mistake(
            "scaled after softmax",
            "what do the rows of the weights sum to now?",
            _attention_with(
                divisor=lambda q, k, v: 1.0,
                combine=lambda w, k, v: (w / math.sqrt(k.shape[-1]) @ v, w / math.sqrt(k.shape[-1])),
            ),
        ),
        Mistake(
            "softmax over the queries",
            "each query shares its attention among the keys. Along which axis must the weights sum to 1?",
            _OVER_QUERIES,
        ),
        Mistake(
            "softmax over axis 1",
            "which axis is number 1 once there are batch and heads? Which number always means the last?",
            _attention_with(normalize=lambda s: torch.softmax(s, 1).nan_to_num()),
        ),
        Mistake(
            "softmax over axis 0",
            "which axis is number 0? Should the sentences of a batch compete with each other?",
            _attention_with(normalize=lambda s: torch.softmax(s, 0).nan_to_num()),
        ),
        Mistake(
            "no softmax: the scores are used as weights",
            "can a weight be negative? What should a row sum to?",
            _attention_with(hide=lambda s, m: s.masked_fill(~m, 0.0), normalize=lambda s: s),
        ),
        Mistake(
            "the scores are returned in place of the weights",
            "which of the two sums to 1 in each row?",
            _attention_with(
                normalize=lambda s: s,
                after=_nothing,
                combine=lambda s, k, v: (_softmax(s).nan_to_num() @ v, s),
            ),
        ),
        Mistake(
            "all dimensions of the key are reversed (key.T)",
            "which two axes of a batch of keys are to be exchanged, and which must stay?",
            _key_t,
        ),
        Mistake(
            "the values are replaced by the keys",
            "which of the two is matched with the query, and which is passed on?",
            _attention_with(combine=lambda w, k, v: (w @ k, w)),
        ),
        Mistake(
            "the values are averaged, whatever the weights",
            "where do the weights come in?",
            _attention_with(combine=lambda w, k, v: (v.mean(-2, keepdim=True).expand(*w.shape[:-1], -1), w)),
        ),
        Mistake(
            "the weights are returned transposed",
            "rows are queries, columns are keys. Which way round is yours?",
            _attention_with(combine=lambda w, k, v: (w @ v, w.transpose(-2, -1))),
        ),
        Mistake("the mask is not used", "masked_fill returns a new tensor. Who keeps it?", _MASK_IGNORED),
        Mistake(
            "the mask is read the wrong way round",
            "here True means *may attend*. Which keys did you hide?",
            _MASK_INVERTED,
        ),
        Mistake(
            "the mask is applied after softmax",
            "what do the rows sum to, and did the forbidden keys still take part in the denominator?",
            _MASK_AFTER,
        ),
        Mistake(
            "masked scores are set to 0",
            "what is exp(0)? Which score has the exponential 0?",
            _attention_with(hide=lambda s, m: s * m),
        ),
        Mistake(
            "the mask is added to the scores",
            "what does adding 1 to the allowed scores forbid?",
            _attention_with(hide=lambda s, m: s + m),
        ),
        Mistake(
            "masked keys keep a small weight (-10,000 is not low enough)",
            "what if an allowed score is lower still? Which number is below all others?",
            _attention_with(hide=lambda s, m: s.masked_fill(~m, -1e4)),
        ),
        Mistake(
            "a query that may attend to nothing gives NaN",
            "what is 0/0? What should be added up where there is nothing to add up?",
            _attention_with(after=_nothing),
        ),
        Mistake(
            "a query that may attend to nothing attends to everything alike",
            "if all scores of a row are the same low number, what does softmax give, and what should it be?",
            _attention_with(hide=lambda s, m: s.masked_fill(~m, -1e9), after=_nothing),
        ),
        Mistake(
            "NaN in the gradients, though the values are right",
            "wiping NaN off the result does not wipe it off the way back. Can it be avoided before softmax?",
            _additive_infinity,
        ),
        Mistake(
            "the weights are cut off from the gradient (detach)",
            "how is a network to learn *where* to look if no gradient flows through the weights?",
            _attention_with(combine=lambda w, k, v: (w.detach() @ v, w)),
        ),
    ),
    right=(_attention_by_loop, _attention_by_einsum, _attention_in_double, _attention_by_torch),
)

# --- predict: why the square root --------------------------------------------------------------------------

score_variance = Exercise(
    id="01.score_variance",
    kind="predict",
    concepts=("scale",),
    reference={"q·k": 64, "q·k / d_k": 1 / 64, "q·k / √d_k": 1},
    cases=values("q·k", "q·k / d_k", "q·k / √d_k"),
    tolerance=0.001,
    mistakes=(
        Mistake(
            "standard deviations instead of variances",
            "what is the variance of something whose standard deviation is 8?",
            {"q·k": 8, "q·k / d_k": 1 / 8, "q·k / √d_k": 1},
        ),
        Mistake(
            "the variance is divided by the number, not by its square",
            "if every score is halved, is the variance halved too?",
            {"q·k": 64, "q·k / d_k": 1, "q·k / √d_k": 8},
        ),
        Mistake(
            "one product only",
            "each product has the variance 1. How many are summed?",
            {"q·k": 1, "q·k / d_k": 1 / 4096, "q·k / √d_k": 1 / 64},
        ),
        Mistake(
            "variances multiplied or squared where they add up",
            "64 independent terms: do their variances add, or multiply?",
            {"q·k": 4096, "q·k / d_k": 1, "q·k / √d_k": 64},
        ),
        Mistake(
            "the mean instead of the variance",
            "the mean of q·k is 0. How far from it does it scatter?",
            {"q·k": 0, "q·k / d_k": 0, "q·k / √d_k": 0},
        ),
        Mistake(
            "the variances of q and k are added",
            "the variance of a *product* of two independent numbers of mean 0: sum or product of theirs?",
            {"q·k": 128, "q·k / d_k": 1 / 32, "q·k / √d_k": 2},
        ),
        Mistake(
            "the two divisors are exchanged",
            "which of the two divides by 64, and which by 8?",
            {"q·k": 64, "q·k / d_k": 1, "q·k / √d_k": 1 / 64},
        ),
        Mistake(
            "the same variance whatever the divisor",
            "does dividing by 8 leave the scatter as it was?",
            {"q·k": 64, "q·k / d_k": 64, "q·k / √d_k": 64},
        ),
    ),
    right=(
        {"q·k": 64.0, "q·k / d_k": 0.015625, "q·k / √d_k": 1.0},
        {"q·k": torch.tensor(64), "q·k / d_k": 2**-6, "q·k / √d_k": 64 / 8**2},
        {"q·k": 8**2, "q·k / d_k": 64 / 64**2, "q·k / √d_k": torch.tensor(1.0)},
    ),
)

# --- spot the error: the scale, and the order --------------------------------------------------------------

scale_claim = Exercise(
    id="01.scale_claim",
    kind="spot the error",
    concepts=("scale",),
    reference={"wrong": "B", "divisor": 8},
    cases=values("wrong", "divisor", hints={"wrong": 'answer with one capital letter, as in "A"'}),
    tolerance=0.001,
    mistakes=(
        Mistake(
            "sentence A is right",
            "64 products of variance 1 are summed. What is their variance?",
            {"wrong": "A"},
        ),
        Mistake(
            "sentence C is right",
            "look at the slope of softmax where one weight is almost 1.",
            {"wrong": "C"},
        ),
        Mistake(
            "sentence D is right",
            "what happens to the order of numbers when all are divided by the same positive number?",
            {"wrong": "D"},
        ),
        Mistake(
            "the dimension itself",
            "dividing by c divides the variance by c². Which c brings 64 down to 1?",
            {"divisor": 64},
        ),
        Mistake(
            "the square root of the model's width",
            "512 is shared among 8 heads. How long are the vectors in one dot product?",
            {"divisor": math.sqrt(512)},
        ),
        Mistake(
            "the width of the model",
            "how long are the vectors in one dot product, and what of the square root?",
            {"divisor": 512},
        ),
        Mistake(
            "the square root of the number of heads",
            "is it heads that are summed in a score?",
            {"divisor": math.sqrt(8)},
        ),
        Mistake("a multiplier, not a divisor", "multiplying by 1/8 is dividing by what?", {"divisor": 1 / 8}),
    ),
    right=(
        {"wrong": "B", "divisor": 8.0},
        {"wrong": " B", "divisor": math.sqrt(64)},
        {"wrong": "B", "divisor": torch.tensor(8)},
    ),
)

permutation_claim = Exercise(
    id="01.permutation_claim",
    kind="spot the error",
    concepts=("kv-invariance", "self-equivariance", "self-vs-cross"),
    reference={"wrong": "C", "rows": [2, 0, 1]},
    cases=values("wrong", "rows", hints={"wrong": 'answer with one capital letter, as in "A"'}),
    mistakes=(
        Mistake(
            "sentence A is right",
            "a sum does not care about the order of its terms. Which sum runs over the keys?",
            {"wrong": "A"},
        ),
        Mistake(
            "sentence B is right", "does the row of one query depend on the other queries?", {"wrong": "B"}
        ),
        Mistake(
            "sentence D is right",
            "if key and value change places separately, does each value keep its weight?",
            {"wrong": "D"},
        ),
        Mistake(
            "the output is taken not to move at all",
            "in Attention(X, X, X) the queries move too. Which output row belongs to the first query now?",
            {"rows": [0, 1, 2]},
        ),
        Mistake(
            "the order is undone instead of applied",
            "the first row of the new input is x2. Which output row belongs to x2?",
            {"rows": [1, 2, 0]},
        ),
        Mistake(
            "the rows are reversed",
            "write down the new input's rows one below the other: x2, x0, x1.",
            {"rows": [2, 1, 0]},
        ),
        Mistake("numbered from 1", "rows are numbered from 0 here, as in the question.", {"rows": [3, 1, 2]}),
        Mistake("one row only", "how many rows has the output? Name one for each.", {"rows": 2}),
    ),
    right=(
        {"wrong": "C", "rows": (2, 0, 1)},
        {"wrong": "C ", "rows": torch.tensor([2, 0, 1])},
        {"rows": [2.0, 0, 1], "wrong": "C"},
    ),
)

# --- find the bug: write the test --------------------------------------------------------------------------


def _shifted_scores(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    scores = (query / query.shape[-1] ** 0.25) @ (key / key.shape[-1] ** 0.25).transpose(-2, -1) + 7.0
    weights = torch.softmax(scores if mask is None else _minus_infinity(scores, mask), -1)
    return weights @ value, weights


def _first_key_favoured(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    scores = query @ key.transpose(-2, -1) / query.shape[-1] ** 0.5
    scores = scores - 0.5 * torch.arange(key.shape[-2], dtype=scores.dtype)
    weights = torch.softmax(scores if mask is None else _minus_infinity(scores, mask), -1)
    return weights @ value, weights


def _keys_of_the_first_sentence(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    return _attention(query, key[:1].expand_as(key) if key.dim() > 2 else key, value, mask)


_UNDER_TEST = (
    Mistake(
        "the right code",
        "this one is right, to the letter. What does your test demand that the formula does not say?",
        _attention_with(),
        equivalent=True,
    ),
    Mistake(
        "the right code, written with einsum",
        "this one is right. What does your test demand that the formula does not say? The last digit?",
        _attention_by_einsum,
        equivalent=True,
    ),
    Mistake(
        "equivalent: 7 is added to every score, and query and key are divided by d_k^(1/4)",
        "this one looks odd and is right: softmax does not notice a constant added to a whole row, and two "
        "fourth roots make a square root. It would matter only for scores near overflow.",
        _shifted_scores,
        equivalent=True,
    ),
    Mistake(
        "the scores are not scaled", "which inputs make √d_k visible? Not zeros, and not d_k = 1.", _NO_SCALE
    ),
    Mistake(
        "divided by d_k instead of its square root",
        "rows still sum to 1. Against which number could you hold a weight?",
        _BY_D_K,
    ),
    Mistake(
        "softmax over the queries",
        "what do rows and columns of the weights sum to, when there are more keys than queries?",
        _OVER_QUERIES,
    ),
    Mistake(
        "the values are moved by one place against the keys",
        "with a single allowed key, which value must come out?",
        _attention_with(combine=lambda w, k, v: (w @ v.roll(1, -2), w)),
    ),
    Mistake(
        "keys further back weigh less (the place of a key counts)",
        "permute keys and values together. What may change?",
        _first_key_favoured,
    ),
    Mistake(
        "every sentence of a batch reads the first sentence's keys",
        "does the second sentence of a batch give what it gives alone?",
        _keys_of_the_first_sentence,
    ),
    Mistake("the mask is not used", "do you ever hand over a mask?", _MASK_IGNORED),
    Mistake("the mask is read the wrong way round", "which weights must be 0 under a mask?", _MASK_INVERTED),
    Mistake("the mask is applied after softmax", "under a mask, do the rows still sum to 1?", _MASK_AFTER),
    Mistake(
        "the output is not made of the returned weights",
        "is the output equal to weights @ value?",
        _attention_with(combine=lambda w, k, v: (w.square() / w.square().sum(-1, keepdim=True) @ v, w)),
    ),
)

Attention = Callable[..., tuple[Tensor, Tensor]]


def _test_inputs() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    query, key, value = _batch_of_heads(generator)
    return query, key, value, _some_mask(generator, 2, 1, 4, 5)


def _test_by_torch(attention: Attention) -> None:
    query, key, value, mask = _test_inputs()
    for m in (None, mask):
        output, weights = attention(query, key, value, m)
        expected, expected_weights = _attention_by_torch(query, key, value, m)
        assert torch.allclose(output, expected, atol=1e-5)
        assert torch.allclose(weights, expected_weights, atol=1e-5)


def _test_by_hand(attention: Attention) -> None:
    query, key, value, mask = _test_inputs()
    for m in (None, mask):
        expected, expected_weights = _attention_by_loop(query, key, value, m)
        output, weights = attention(query, key, value, m)
        torch.testing.assert_close(output, expected)
        torch.testing.assert_close(weights, expected_weights)


def _test_by_properties(attention: Attention) -> None:
    query, key, value, mask = _test_inputs()
    output, weights = attention(query, key, value)
    assert torch.allclose(weights.sum(-1), torch.ones(2, 3, 4))
    assert torch.allclose(output, weights @ value, atol=1e-5)
    ratio = (weights[..., 0] / weights[..., 1]).log()
    scores = query @ key.transpose(-2, -1)
    assert torch.allclose(ratio, (scores[..., 0] - scores[..., 1]) / 6**0.5, atol=1e-4)
    order = [3, 1, 4, 0, 2]
    assert torch.allclose(attention(query, key[..., order, :], value[..., order, :])[0], output, atol=1e-5)
    assert torch.allclose(attention(query[1:], key[1:], value[1:])[0], output[1:], atol=1e-5)
    masked = attention(query, key, value, mask)[1]
    assert masked.where(~mask, 0.0).abs().max() == 0
    assert torch.allclose(masked.sum(-1), torch.ones(2, 3, 4))


def _test_of_shapes(attention: Attention) -> None:
    query, key, value, mask = _test_inputs()
    output, weights = attention(query, key, value, mask)
    assert output.shape == (2, 3, 4, 7)
    assert weights.shape == (2, 3, 4, 5)


def _test_of_row_sums(attention: Attention) -> None:
    query, key, value, _ = _test_inputs()
    assert torch.allclose(attention(query, key, value)[1].sum(-1), torch.ones(2, 3, 4))


def _test_of_ones(attention: Attention) -> None:
    output, weights = attention(torch.ones(2, 4, 6), torch.ones(2, 4, 6), torch.ones(2, 4, 6))
    assert torch.allclose(output, torch.ones(2, 4, 6))
    assert torch.allclose(weights, torch.full((2, 4, 4), 0.25))


def _test_without_mask(attention: Attention) -> None:
    query, key, value, _ = _test_inputs()
    expected, expected_weights = _attention(query, key, value)
    output, weights = attention(query, key, value)
    torch.testing.assert_close(output, expected)
    torch.testing.assert_close(weights, expected_weights)


def _test_of_weights_only(attention: Attention) -> None:
    query, key, value, mask = _test_inputs()
    for m in (None, mask):
        torch.testing.assert_close(attention(query, key, value, m)[1], _attention(query, key, value, m)[1])


def _test_with_nothing_masked(attention: Attention) -> None:
    query, key, value, mask = _test_inputs()
    everything = torch.ones_like(mask)
    expected, _ = _attention(query, key, value)
    torch.testing.assert_close(attention(query, key, value, everything)[0], expected)


def _test_of_one_sentence(attention: Attention) -> None:
    query, key, value, mask = (x[0] for x in _test_inputs())
    for m in (None, mask):
        torch.testing.assert_close(
            attention(query[:1], key[:1], value[:1], m), _attention(query[:1], key[:1], value[:1], m)
        )


def _test_exactly(attention: Attention) -> None:
    query, key, value, mask = _test_inputs()
    for m in (None, mask):
        assert torch.equal(attention(query, key, value, m)[0], _attention_with()(query, key, value, m)[0])


def _test_that_always_fails(attention: Attention) -> None:
    attention(*_test_inputs())
    raise AssertionError("wrong")


attention_test = Exercise(
    id="01.attention_test",
    kind="find the bug",
    concepts=("kv-invariance", "scale", "matrix-form"),
    reference=_test_by_properties,
    cases=trials(*_UNDER_TEST),
    mistakes=(
        Mistake(
            "it catches nothing: no number is asserted",
            "does it look at more than shapes? Does it `assert` what it finds, not print or return it?",
            _test_of_shapes,
        ),
        Mistake(
            "a test that only finds out whether the rows sum to 1",
            "which broken ones still give rows that sum to 1? Values all alike show no more than that.",
            _test_of_row_sums,
        ),
        Mistake(
            "inputs of ones hide the mistakes",
            "if all keys are alike, can anything be put in the wrong place?",
            _test_of_ones,
        ),
        Mistake(
            "a test that never hands over a mask",
            "which argument of the function is never tried?",
            _test_without_mask,
        ),
        Mistake(
            "the output is never looked at",
            "right weights, and then? What is the output to be made of?",
            _test_of_weights_only,
        ),
        Mistake(
            "a mask that forbids nothing",
            "what does a mask of True alone change? Which mask would?",
            _test_with_nothing_masked,
        ),
        Mistake(
            "a test with one sentence in the batch",
            "what could leak from one sentence of a batch into another?",
            _test_of_one_sentence,
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
    right=(_test_by_torch, _test_by_hand, _test_by_properties),
)

# --- design: weights that do a job -------------------------------------------------------------------------


def _pointing(
    target: Callable[[int], Tensor], strength: Callable[[int], float]
) -> Callable[[int], tuple[Tensor, Tensor]]:
    """Query and key with which position i attends to target(n)[i]: this raw score there, 0 elsewhere."""

    def design(n: int) -> tuple[Tensor, Tensor]:
        key = torch.eye(n)
        return key[target(n)] * strength(n), key

    return design


def _previous(n: int) -> Tensor:
    return (torch.arange(n) - 1).clamp_min(0)


def _strong(n: int) -> float:
    return 30.0 * math.sqrt(n)


def _previous_by_loop(n: int) -> tuple[Tensor, Tensor]:
    query, key = torch.zeros(n, 2 * n), torch.zeros(n, 2 * n)
    for i in range(n):
        key[i, i] = 100.0
        query[i, max(i - 1, 0)] = 100.0
    return query, key


def _previous_on_a_circle(n: int) -> tuple[Tensor, Tensor]:
    """Two dimensions are enough: keys on a circle, queries pointing at them."""
    angle = 2 * math.pi * torch.arange(n, dtype=torch.float64) / n
    key = torch.stack([angle.cos(), angle.sin()], dim=-1)
    return key[_previous(n)] * 1e6, key


def _previous_by_lookup(n: int) -> tuple[Tensor, Tensor]:
    key = 50.0 * torch.eye(n, dtype=torch.float64)
    return torch.cat([key[:1], key[:-1]]), key


def _where_it_looks(n: int, query: Tensor, key: Tensor) -> dict[str, Tensor]:
    if query.dim() != 2 or query.shape != key.shape or len(query) != n or not query.is_floating_point():
        raise ValueError(
            f"query and key should both be floating-point and ({n}, d); "
            f"they are {tuple(query.shape)} and {tuple(key.shape)}"
        )
    weights = attend(query, key.to(query.dtype), torch.zeros(n, 1, dtype=query.dtype))[1]
    assert weights is not None
    best = weights.max(-1)
    return {"the position attended to": best.indices, "at least 0.99 of the weight": best.values >= 0.99}


previous_token = Exercise(
    id="01.previous_token",
    kind="design",
    concepts=("score-normalize-sum", "self-vs-cross", "scale"),
    reference=_pointing(_previous, _strong),
    returns=("query", "key"),
    view=_where_it_looks,
    cases=(
        Case("3 positions", lambda _: (3,)),
        Case("7 positions", lambda _: (7,)),
        Case(
            "100 positions",
            lambda _: (100,),
            points=2,
            hint="how does the scaled score change when d grows with n?",
        ),
    ),
    mistakes=(
        Mistake(
            "each position attends to the next one",
            "row i of the weights belongs to query i. Where is its 1?",
            _pointing(lambda n: (torch.arange(n) + 1).clamp_max(n - 1), _strong),
        ),
        Mistake(
            "query and key are exchanged",
            "which of the two asks, and which is asked? What does exchanging them do to the scores?",
            lambda n: _pointing(_previous, _strong)(n)[::-1],
        ),
        Mistake(
            "each position attends to itself",
            "equal query and key give the identity. What must the query of position i be equal to?",
            _pointing(torch.arange, _strong),
        ),
        Mistake(
            "position 0 attends to the last one",
            "what does roll do at the edge? Position 0 has no one before it and looks at itself.",
            _pointing(lambda n: torch.arange(n).roll(1), _strong),
        ),
        Mistake(
            "two positions back",
            "position 3 should look at 2. Where does yours look?",
            _pointing(lambda n: (torch.arange(n) - 2).clamp_min(0), _strong),
        ),
        Mistake(
            "the order is reversed",
            "position 1 should look at 0, in a long sequence too.",
            _pointing(lambda n: torch.arange(n).flip(0), _strong),
        ),
        Mistake(
            "every position attends to the first",
            "which position stands right before position 5?",
            _pointing(lambda n: torch.zeros(n, dtype=torch.long), _strong),
        ),
        Mistake(
            "the right place, but too softly",
            "the largest score is divided by √d and shared out by softmax. How large must it be for 0.99?",
            _pointing(_previous, lambda n: 1.0),
        ),
        Mistake(
            "strong enough for short sequences only",
            "what happens to the score when √d grows, and to the sum when there are more keys?",
            _pointing(_previous, lambda n: 30.0),
        ),
        Mistake(
            "everything alike",
            "equal scores give equal weights. What makes one score larger?",
            lambda n: (torch.zeros(n, n), torch.eye(n)),
        ),
    ),
    right=(_previous_by_loop, _previous_on_a_circle, _previous_by_lookup),
)

# --- design: self-attention that does the work of cross-attention ------------------------------------------


def _reading_mask(passage: int, question: int) -> Tensor:
    mask = torch.zeros(passage + question, passage + question, dtype=torch.bool)
    mask[:, passage:] = True
    return mask


def _reading_mask_by_loop(passage: int, question: int) -> Tensor:
    n = passage + question
    return torch.tensor([[column >= passage for column in range(n)] for _ in range(n)])


def _full_mask(passage: int, question: int, mask: Tensor) -> dict[str, Tensor]:
    n = passage + question
    if mask.dtype != torch.bool:
        raise ValueError(f"the mask should be boolean (True = may attend), its dtype is {mask.dtype}")
    try:
        return {"the mask": mask.broadcast_to(n, n)}
    except RuntimeError:
        raise ValueError(f"the mask should have the shape ({n}, {n}), it has {tuple(mask.shape)}") from None


def _blocks(corner: Callable[[Tensor, Tensor, int], Tensor]) -> Callable[[int, int], Tensor]:
    """A mask from a rule on (row belongs to the question, column belongs to the question)."""

    def design(passage: int, question: int) -> Tensor:
        belongs = torch.arange(passage + question) >= passage
        return corner(belongs[:, None], belongs[None, :], passage + question)

    return design


passage_mask = Exercise(
    id="01.passage_mask",
    kind="design",
    concepts=("self-vs-cross",),
    reference=_reading_mask,
    returns=("mask",),
    view=_full_mask,
    cases=(
        Case("3 words of passage, 2 of question", lambda _: (3, 2)),
        Case("4 words of passage, 7 of question", lambda _: (4, 7)),
        Case("9 words of passage, 5 of question", lambda _: (9, 5)),
    ),
    mistakes=(
        Mistake(
            "everything may attend to everything",
            "may a word of the passage see another word of the passage here?",
            _blocks(lambda r, c, n: torch.ones(n, n, dtype=torch.bool)),
        ),
        Mistake(
            "the mask is the wrong way round",
            "here True means *may attend*. What does yours allow?",
            _blocks(lambda r, c, n: (~c).expand(n, n)),
        ),
        Mistake(
            "rows and columns are exchanged",
            "rows are the queries, those who look. Is it rows or columns that you restricted?",
            _blocks(lambda r, c, n: r.expand(n, n)),
        ),
        Mistake(
            "each text sees itself only",
            "whose keys should a word of the passage look at?",
            _blocks(lambda r, c, n: r == c),
        ),
        Mistake(
            "each text sees the other only",
            "and the rows of the question: where are they to look?",
            _blocks(lambda r, c, n: r != c),
        ),
        Mistake(
            "the question may attend to nothing",
            "what is the output of the question's rows, if nothing is allowed?",
            _blocks(lambda r, c, n: ~r & c),
        ),
        Mistake(
            "the question sees the passage as well",
            "should the question's rows be self-attention within the question, or more?",
            _blocks(lambda r, c, n: r | c),
        ),
        Mistake(
            "the passage still sees itself",
            "in cross-attention, do the queries meet keys of their own text?",
            _blocks(lambda r, c, n: ~r | c),
        ),
        Mistake(
            "a triangle: the past only",
            "is anyone forbidden to look ahead here?",
            _blocks(lambda r, c, n: torch.ones(n, n, dtype=torch.bool).tril()),
        ),
        Mistake(
            "passage and question have changed places",
            "which of the two stands first in the sequence?",
            lambda passage, question: _reading_mask(question, passage),
        ),
    ),
    right=(
        _reading_mask_by_loop,
        lambda p, q: (torch.arange(p + q) >= p)[None, :],
        _blocks(lambda r, c, n: c.repeat(n, 1)),
    ),
)

# --- implement: the other convention -----------------------------------------------------------------------


def _column_attention(query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
    output, weights = _attention(query.T, key.T, value.T)
    return output.T, weights.T


def _columns_directly(query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
    weights = torch.softmax(key.T @ query / query.shape[0] ** 0.5, dim=0)
    return value @ weights, weights


def _columns_by_einsum(query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
    scores = torch.einsum("dq,dk->kq", query, key) / math.sqrt(len(query))
    weights = torch.exp(scores - scores.amax(0))
    weights = weights / weights.sum(0)
    return torch.einsum("vk,kq->vq", value, weights), weights


def _columns_by_loop(query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
    columns = [torch.softmax(key.T @ q / len(q) ** 0.5, dim=0) for q in query.T]
    return torch.stack([value @ w for w in columns], dim=1), torch.stack(columns, dim=1)


def _columns_with(
    *, scale: Callable[[Tensor, Tensor], float] = lambda q, k: math.sqrt(len(q)), axis: int = 0
) -> Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]:
    def attention(query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        weights = torch.softmax(key.T @ query / scale(query, key), dim=axis)
        return value @ weights, weights

    return attention


def _columns(d_k: int, d_v: int, queries: int, keys: int) -> Callable[[Generator], tuple[Tensor, ...]]:
    return lambda g: (_normal(g, d_k, queries), _normal(g, d_k, keys), _normal(g, d_v, keys))


column_attention = Exercise(
    id="01.column_attention",
    kind="implement",
    concepts=("row-column", "matrix-form"),
    reference=_column_attention,
    returns=("output", "weights"),
    cases=(
        Case("2 queries, 3 keys", _columns(4, 5, 2, 3)),
        Case("6 queries, 3 keys, d_k = 64", _columns(64, 5, 6, 3)),
        Case("gradients", _columns(4, 7, 5, 3), gradients=True),
        # Hides wrong shapes, and so lets the formula for rows speak for itself.
        Case("all sizes equal", _columns(4, 4, 4, 4)),
    ),
    mistakes=(
        Mistake(
            "the rows sum to 1 instead of the columns",
            "one query is one column now. Along which axis does it share its attention?",
            _columns_with(axis=1),
        ),
        Mistake(
            "the scores are not scaled",
            "the scale has not changed with the convention.",
            _columns_with(scale=lambda q, k: 1.0),
        ),
        Mistake(
            "scaled by the number of queries",
            "shape[-1] no longer is d_k. What is it now?",
            _columns_with(scale=lambda q, k: math.sqrt(q.shape[-1])),
        ),
        Mistake(
            "scaled by the number of keys",
            "shape[-1] no longer is d_k. What is it now?",
            _columns_with(scale=lambda q, k: math.sqrt(k.shape[-1])),
        ),
        Mistake(
            "divided by d_k instead of its square root",
            "dividing by c divides the variance by c².",
            _columns_with(scale=lambda q, k: len(q)),
        ),
        Mistake(
            "the output is in rows",
            "the numbers are right, the output is transposed. In which axis does a vector of the output lie?",
            lambda q, k, v: (_column_attention(q, k, v)[0].T, _column_attention(q, k, v)[1]),
        ),
        Mistake(
            "the weights are in rows",
            "the numbers are right, the weights are transposed. To which query does a column belong?",
            lambda q, k, v: (_column_attention(q, k, v)[0], _column_attention(q, k, v)[1].T),
        ),
        Mistake(
            "output and weights are both in rows",
            "transposing everything leads from one convention to the other. How often must it be done?",
            lambda q, k, v: _attention(q.T, k.T, v.T),
        ),
        Mistake(
            "softmax is taken twice",
            "what do weights become when they are taken for scores?",
            lambda q, k, v: (
                v @ _columns_directly(q, k, v)[1].softmax(0),
                _columns_directly(q, k, v)[1].softmax(0),
            ),
        ),
        Mistake(
            "the formula for rows, unchanged",
            "what does query @ key.T multiply when vectors are columns?",
            _attention_with(),
        ),
    ),
    right=(_columns_directly, _columns_by_einsum, _columns_by_loop),
)

EXERCISES = (
    paper_weights,
    stable_softmax,
    score_variance,
    scale_claim,
    attention,
    attention_test,
    permutation_claim,
    passage_mask,
    previous_token,
    column_attention,
)
