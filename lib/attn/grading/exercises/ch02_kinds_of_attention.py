"""Chapter 02: kinds of attention."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from attn.core import attend
from attn.grading.exercise import Case, Exercise, Mistake, trials, values
from attn.normalizers import softmax
from attn.scores import Additive


def _normal(generator: Generator, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)


# --- predict: three normalizers by hand --------------------------------------------------------------------

# Scores 3, 2 and -1 times ln 2, so that the exponentials are 8, 4 and 1/2.
_LN2 = math.log(2)
_SOFT = [16 / 25, 8 / 25, 1 / 25]
# Two keys are left; they differ by ln 2 and sum to 1.
_SPARSE = [(1 + _LN2) / 2, (1 - _LN2) / 2, 0.0]

paper_normalizers = Exercise(
    id="02.paper_normalizers",
    kind="predict",
    concepts=("normalizer-contest",),
    reference={
        "softmax": _SOFT,
        "sparsemax": _SPARSE,
        "ReLU / sum": [0.6, 0.4, 0.0],
        "softmax, lowered": _SOFT,
        "ReLU / sum, lowered": [0.0, 0.0, 0.0],
    },
    cases=values(
        "softmax",
        "sparsemax",
        "ReLU / sum",
        "softmax, lowered",
        "ReLU / sum, lowered",
        hints={
            "softmax": "what is e to the power 3 ln 2? And what must the three weights add up to?",
            "sparsemax": "suppose that two keys are left: what is their difference, and what is their sum?",
            "ReLU / sum": "which scores are above 0, and what is the share of each?",
            "softmax, lowered": "what do all three exponentials have in common, once 4 ln 2 is taken off?",
            "ReLU / sum, lowered": "which scores are still above 0?",
        },
    ),
    tolerance=0.01,
    mistakes=(
        Mistake(
            "divided by the sum of the scores, without exp",
            "softmax takes exponentials first. Can a weight of softmax be negative?",
            {"softmax": [0.75, 0.5, -0.25]},
        ),
        Mistake(
            "exponentials that are not divided by their sum",
            "what must the weights of one query add up to?",
            {"softmax": [8.0, 4.0, 0.5], "softmax, lowered": [1 / 2, 1 / 4, 1 / 32]},
        ),
        Mistake(
            "a negative score is taken to have the softmax weight 0",
            "is e to the power of a negative number ever 0?",
            {"softmax": [2 / 3, 1 / 3, 0.0], "softmax, lowered": [0.0, 0.0, 0.0]},
        ),
        Mistake(
            "the factor ln 2 of the scores is lost",
            "the scores are not 3, 2 and -1 but so many times ln 2. Which powers of 2 do they give?",
            {
                "softmax": [
                    w / (math.exp(3) + math.exp(2) + math.exp(-1)) for w in map(math.exp, (3, 2, -1))
                ],
                "sparsemax": [1.0, 0.0, 0.0],
            },
        ),
        Mistake(
            "nothing is cut off at 0",
            "ReLU is max(s, 0). What does it make of a negative score?",
            {"ReLU / sum": [0.75, 0.5, -0.25]},
        ),
        Mistake(
            "ReLU is not divided by its sum",
            "these are scores that were cut off at 0. Do they add up to 1?",
            {"ReLU / sum": [3 * _LN2, 2 * _LN2, 0.0]},
        ),
        Mistake(
            "negative scores lose their sign under ReLU",
            "ReLU is max(s, 0). What does it make of -1?",
            {"ReLU / sum": [1 / 2, 1 / 3, 1 / 6], "ReLU / sum, lowered": [1 / 8, 2 / 8, 5 / 8]},
        ),
        Mistake(
            "exponentials are taken under ReLU as well",
            "ReLU takes the scores themselves. What is the share of 3 in 3 + 2?",
            {"ReLU / sum": [2 / 3, 1 / 3, 0.0]},
        ),
        Mistake(
            "sparsemax is taken for softmax, cut and scaled up again",
            "sparsemax takes the same amount off all *scores*. By how much do the two weights differ then?",
            {"sparsemax": [2 / 3, 1 / 3, 0.0]},
        ),
        Mistake(
            "sparsemax is taken for ReLU divided by its sum",
            "sparsemax subtracts, it does not divide. By how much do the two weights differ then?",
            {"sparsemax": [0.6, 0.4, 0.0]},
        ),
        Mistake(
            "ReLU does not notice that all scores were lowered",
            "ReLU has a threshold at 0. On which side of it are the scores now?",
            {"ReLU / sum, lowered": [0.6, 0.4, 0.0]},
        ),
        Mistake(
            "a row without a positive score is shared evenly",
            "softmax has to spend its 1. Does ReLU have to?",
            {"ReLU / sum, lowered": [1 / 3, 1 / 3, 1 / 3]},
        ),
        Mistake(
            "percentages instead of fractions",
            "what must the weights of one query add up to?",
            {
                "softmax": [64.0, 32.0, 4.0],
                "ReLU / sum": [60.0, 40.0, 0.0],
                "softmax, lowered": [64.0, 32, 4],
            },
        ),
    ),
    right=(
        {
            "softmax": (0.64, 0.32, 0.04),
            "sparsemax": (0.847, 0.153, 0),
            "ReLU / sum": (3 / 5, 2 / 5, 0),
            "softmax, lowered": (0.64, 0.32, 0.04),
            "ReLU / sum, lowered": (0, 0, 0),
        },
        {
            "softmax": torch.softmax(torch.tensor([3.0, 2.0, -1.0]) * _LN2, -1),
            "sparsemax": torch.tensor([0.8466, 0.1534, 0.0]),
            "ReLU / sum": torch.tensor([0.6, 0.4, 0.0]),
            "softmax, lowered": torch.softmax(torch.tensor([-1.0, -2.0, -5.0]) * _LN2, -1),
            "ReLU / sum, lowered": torch.zeros(3),
        },
        {
            "softmax": [8 / 12.5, 4 / 12.5, 0.5 / 12.5],
            "sparsemax": [0.85, 0.15, 0.0],
            "ReLU / sum": [0.6, 0.4, 0],
            "softmax, lowered": [0.5 / 0.78125, 0.25 / 0.78125, 0.03125 / 0.78125],
            "ReLU / sum, lowered": [0.0, 0.0, 0.0],
        },
    ),
)

# --- spot the error: the cosine without a temperature ------------------------------------------------------

# One cosine of 1 against seven of -1: e^(1/T) / (e^(1/T) + 7 e^(-1/T)).
_MOST = 1 / (1 + 7 * math.exp(-2))
_TEMPERATURE = 2 / math.log(7 * 99)

cosine_claim = Exercise(
    id="02.cosine_claim",
    kind="spot the error",
    concepts=("score-contest",),
    reference={"wrong": "C", "most": _MOST, "temperature": _TEMPERATURE},
    cases=values(
        "wrong",
        "most",
        "temperature",
        hints={
            "wrong": 'answer with one capital letter, as in "A"',
            "most": "which is the largest score that a cosine can be, and which is the smallest?",
            "temperature": "with temperature T the scores are 1/T and -1/T. What is the ratio of weights?",
        },
    ),
    tolerance=0.005,
    mistakes=(
        Mistake(
            "sentence A is right",
            "put a length of 1 into the printed formula. Which factor drops out?",
            {"wrong": "A"},
        ),
        Mistake(
            "sentence B is right",
            "what is the dot product of two vectors at a right angle, and what is left of a product with it?",
            {"wrong": "B"},
        ),
        Mistake(
            "sentence D is right",
            "a temperature divides every score of the row. What does that do to their order?",
            {"wrong": "D"},
        ),
        Mistake(
            "the other keys are put at a right angle to the query",
            "a cosine of 0 is not the lowest. How badly can a key fit?",
            {"most": math.e / (math.e + 7), "temperature": 1 / math.log(7 * 99)},
        ),
        Mistake(
            "only one other key is counted",
            "eight keys share the weight. How many are beside the best one?",
            {"most": 1 / (1 + math.exp(-2)), "temperature": 2 / math.log(99)},
        ),
        Mistake(
            "eight others, beside the best one",
            "eight keys share the weight. How many are beside the best one?",
            {"most": 1 / (1 + 8 * math.exp(-2)), "temperature": 2 / math.log(8 * 99)},
        ),
        Mistake(
            "every key gets the same",
            "the scores differ: 1 against -1. Can the weights be alike?",
            {"most": 1 / 8},
        ),
        Mistake(
            "all of the weight",
            "is any exponential 0, with scores between -1 and 1?",
            {"most": 1},
        ),
        Mistake(
            "a percentage instead of a fraction",
            "what must the weights of one query add up to?",
            {"most": 100 * _MOST},
        ),
        Mistake(
            "the temperature multiplies the scores instead of dividing them",
            "should the scores get larger or smaller? What does a temperature above 1 do?",
            {"temperature": 1 / _TEMPERATURE},
        ),
        Mistake(
            "a logarithm to the base 10",
            "softmax takes powers of e. Which logarithm undoes them?",
            {"temperature": 2 / math.log10(7 * 99)},
        ),
    ),
    right=(
        {"wrong": "C", "most": 0.5135, "temperature": 0.306},
        {"wrong": " C", "most": math.e / (math.e + 7 / math.e), "temperature": torch.tensor(_TEMPERATURE)},
        {"wrong": "C", "most": 0.514, "temperature": 0.31},
    ),
)

# --- implement: the additive score -------------------------------------------------------------------------


def _pairs(query: Tensor, key: Tensor, W_q: Tensor, W_k: Tensor) -> Tensor:
    """What every query and every key bring to their hidden layer: (..., queries, keys, d_hidden)."""
    return (query @ W_q).unsqueeze(-2) + (key @ W_k).unsqueeze(-3)


def _additive(query: Tensor, key: Tensor, W_q: Tensor, W_k: Tensor, b: Tensor, v: Tensor) -> Tensor:
    return torch.tanh(_pairs(query, key, W_q, W_k) + b) @ v


def _additive_by_einsum(query: Tensor, key: Tensor, W_q: Tensor, W_k: Tensor, b: Tensor, v: Tensor) -> Tensor:
    asked = torch.einsum("...qi,ih->...qh", query, W_q) + b
    offered = torch.einsum("...ki,ih->...kh", key, W_k)
    return torch.einsum("...qkh,h->...qk", (asked[..., None, :] + offered[..., None, :, :]).tanh(), v)


def _additive_by_loop(query: Tensor, key: Tensor, W_q: Tensor, W_k: Tensor, b: Tensor, v: Tensor) -> Tensor:
    """One pair at a time, as Bahdanau et al. write it."""
    batch = query.shape[:-2]
    maps = []
    for queries, keys in zip(
        query.reshape(-1, *query.shape[-2:]), key.reshape(-1, *key.shape[-2:]), strict=True
    ):
        rows = [torch.stack([torch.dot(v, torch.tanh(q @ W_q + k @ W_k + b)) for k in keys]) for q in queries]
        maps.append(torch.stack(rows))
    return torch.stack(maps).reshape(*batch, query.shape[-2], key.shape[-2])


def _additive_by_concat(query: Tensor, key: Tensor, W_q: Tensor, W_k: Tensor, b: Tensor, v: Tensor) -> Tensor:
    """Luong's "concat": one matrix for query and key side by side. In double precision."""
    shape = (*query.shape[:-2], query.shape[-2], key.shape[-2])
    pairs = torch.cat(
        [
            query.unsqueeze(-2).expand(*shape, query.shape[-1]),
            key.unsqueeze(-3).expand(*shape, key.shape[-1]),
        ],
        dim=-1,
    ).double()
    hidden = torch.tanh(F.linear(pairs, torch.cat([W_q, W_k]).T.double(), b.double()))
    return F.linear(hidden, v.double()[None])[..., 0].to(query.dtype)


def _additive_by_library(
    query: Tensor, key: Tensor, W_q: Tensor, W_k: Tensor, b: Tensor, v: Tensor
) -> Tensor:
    """The course's module, the bias as one more entry of the query."""
    score = Additive(W_q.shape[0] + 1, W_k.shape[0], len(v)).to(query.dtype)
    weights = {"W_q.weight": torch.cat([W_q, b[None]]).T, "W_k.weight": W_k.T, "v.weight": v[None]}
    scores: Tensor = torch.func.functional_call(score, weights, (F.pad(query, (0, 1), value=1.0), key))
    return scores


def _pair_network(combine: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]) -> Callable[..., Tensor]:
    """A score from `combine(hidden numbers of the query, of the key, b, v)`, axes lined up."""

    def score(query: Tensor, key: Tensor, W_q: Tensor, W_k: Tensor, b: Tensor, v: Tensor) -> Tensor:
        return combine((query @ W_q).unsqueeze(-2), (key @ W_k).unsqueeze(-3), b, v)

    return score


def _additive_inputs(
    *batch: int, queries: int, keys: int, d_q: int, d_k: int, d_hidden: int
) -> Callable[[Generator], tuple[Tensor, ...]]:
    def inputs(generator: Generator) -> tuple[Tensor, ...]:
        return (
            _normal(generator, *batch, queries, d_q),
            _normal(generator, *batch, keys, d_k),
            _normal(generator, d_q, d_hidden) / math.sqrt(d_q),
            _normal(generator, d_k, d_hidden) / math.sqrt(d_k),
            _normal(generator, d_hidden),
            _normal(generator, d_hidden),
        )

    return inputs


additive_score = Exercise(
    id="02.additive_score",
    kind="implement",
    concepts=("score-contest",),
    reference=_additive,
    returns=("scores",),
    cases=(
        # The misprinted product and a transposed matrix run only here, and so can be named.
        Case(
            "all widths equal",
            _additive_inputs(queries=3, keys=5, d_q=4, d_k=4, d_hidden=4),
            hint="every query meets every key. Which new axes do the two need, so that their sum has one "
            "hidden layer for each pair?",
        ),
        Case(
            "three different widths",
            _additive_inputs(queries=3, keys=5, d_q=6, d_k=2, d_hidden=7),
            points=2,
            hint="which of the shapes must agree, and which need not?",
        ),
        Case(
            "a batch of heads",
            _additive_inputs(2, 3, queries=4, keys=6, d_q=5, d_k=3, d_hidden=2),
            points=2,
            hint="counted from the end, at which place does each of the two need a new axis?",
        ),
        Case(
            "gradients",
            _additive_inputs(queries=4, keys=3, d_q=2, d_k=5, d_hidden=6),
            gradients=True,
            points=2,
        ),
    ),
    mistakes=(
        Mistake(
            "the misprint: the dot product times the network",
            "what is left of the network's score where query and key stand at a right angle?",
            lambda q, k, W_q, W_k, b, v: (q @ k.transpose(-2, -1)) * _additive(q, k, W_q, W_k, b, v),
        ),
        Mistake(
            "the dot product is added to the network",
            "how would you take the dot product of a query and a key of different widths?",
            lambda q, k, W_q, W_k, b, v: q @ k.transpose(-2, -1) + _additive(q, k, W_q, W_k, b, v),
        ),
        Mistake(
            "the bias is missing",
            "what does your score say when all signs of query and key are turned around?",
            _pair_network(lambda q, k, b, v: torch.tanh(q + k) @ v),
        ),
        Mistake(
            "the bias is added after tanh",
            "is b a threshold inside the hidden layer, or a constant that all scores get?",
            _pair_network(lambda q, k, b, v: (torch.tanh(q + k) + b) @ v),
        ),
        Mistake(
            "the bias is added twice",
            "query and key share one hidden layer. How many biases has a layer?",
            _pair_network(lambda q, k, b, v: torch.tanh(q + b + k + b) @ v),
        ),
        Mistake(
            "tanh is missing",
            "without it the score is one number of the query plus one of the key. "
            "What does softmax do with the first of them?",
            _pair_network(lambda q, k, b, v: (q + k + b) @ v),
        ),
        Mistake(
            "tanh of query and key apart, then their sum",
            "such a score is one number of the query plus one of the key. Can two queries then prefer "
            "different keys?",
            _pair_network(lambda q, k, b, v: (torch.tanh(q + b) + torch.tanh(k)) @ v),
        ),
        Mistake(
            "query and key are multiplied in the hidden layer",
            "what gave the additive score its name?",
            _pair_network(lambda q, k, b, v: torch.tanh(q * k + b) @ v),
        ),
        Mistake(
            "tanh of the score instead of tanh of the hidden layer",
            "which comes first: tanh, or the product with v?",
            _pair_network(lambda q, k, b, v: torch.tanh((q + k + b) @ v)),
        ),
        Mistake(
            "v is not used: the hidden numbers are summed",
            "which of the weights decides what each hidden number counts?",
            _pair_network(lambda q, k, b, v: torch.tanh(q + k + b).sum(-1)),
        ),
        Mistake(
            "scaled by the square root of the hidden width",
            "is this a dot product of two random vectors? The formula has no scale, and v can learn one.",
            _pair_network(lambda q, k, b, v: torch.tanh(q + k + b) @ v / math.sqrt(len(v))),
        ),
        Mistake(
            "ReLU instead of tanh",
            "which numbers can leave the hidden layer: any from 0 up, or those between -1 and 1?",
            _pair_network(lambda q, k, b, v: torch.relu(q + k + b) @ v),
        ),
        Mistake(
            "sigmoid instead of tanh",
            "which numbers can leave the hidden layer: from 0 to 1, or from -1 to 1?",
            _pair_network(lambda q, k, b, v: torch.sigmoid(q + k + b) @ v),
        ),
        Mistake(
            "the weights of query and key are exchanged",
            "which matrix has as many rows as the query has entries?",
            lambda q, k, W_q, W_k, b, v: _additive(q, k, W_k, W_q, b, v),
        ),
        Mistake(
            "the weight matrices are transposed",
            "here vectors are rows, and W_q is (d_q, d_hidden). On which side of it does the query stand?",
            lambda q, k, W_q, W_k, b, v: _additive(q, k, W_q.T, W_k.T, b, v),
        ),
        Mistake(
            "rows are keys and columns are queries",
            "which of the two got its new axis in front of the other's?",
            lambda q, k, W_q, W_k, b, v: _additive(q, k, W_q, W_k, b, v).transpose(-2, -1),
        ),
        Mistake(
            "softmax is already taken",
            "a score may be negative. Who makes weights of it?",
            lambda q, k, W_q, W_k, b, v: torch.softmax(_additive(q, k, W_q, W_k, b, v), -1),
        ),
    ),
    right=(_additive_by_einsum, _additive_by_loop, _additive_by_concat, _additive_by_library),
)

# --- implement: local attention with a predicted centre ----------------------------------------------------


def _sigmoid_centre(query: Tensor, key: Tensor, W_p: Tensor, v_p: Tensor) -> Tensor:
    """A place from 0 to S - 1 for each query: (..., queries)."""
    return (key.shape[-2] - 1) * torch.sigmoid(torch.tanh(query @ W_p) @ v_p)


def _bell(off: Tensor, D: int) -> Tensor:
    return torch.exp(-(off**2) / (2 * (D / 2) ** 2))


def _only_inside(scores: Tensor, inside: Tensor) -> Tensor:
    return torch.softmax(scores.masked_fill(~inside, -torch.inf), -1)


def _local_with(
    *,
    centre: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor] = _sigmoid_centre,
    scale: Callable[[Tensor], float] = lambda query: math.sqrt(query.shape[-1]),
    inside: Callable[[Tensor, int], Tensor] = lambda off, D: off.abs() <= D,
    bell: Callable[[Tensor, int], Tensor] = _bell,
    combine: Callable[[Tensor, Tensor, Tensor], Tensor] = lambda scores, inside, bell: (
        _only_inside(scores, inside) * bell
    ),
) -> Callable[..., tuple[Tensor, Tensor]]:
    """Local-p, any of its steps replaced."""

    def attention(
        query: Tensor, key: Tensor, value: Tensor, W_p: Tensor, v_p: Tensor, D: int
    ) -> tuple[Tensor, Tensor]:
        places = torch.arange(key.shape[-2], dtype=query.dtype)
        off = places - centre(query, key, W_p, v_p)[..., None]
        scores = query @ key.transpose(-2, -1) / scale(query)
        weights = combine(scores, inside(off, D), bell(off, D))
        return weights @ value, weights

    return attention


def _local_by_attend(
    query: Tensor, key: Tensor, value: Tensor, W_p: Tensor, v_p: Tensor, D: int
) -> tuple[Tensor, Tensor]:
    """The window is a mask, the bell a part of the normalizer."""
    off = torch.arange(key.shape[-2]) - _sigmoid_centre(query, key, W_p, v_p).unsqueeze(-1)
    bell = torch.exp(-2 * (off / D).square())
    output, weights = attend(query, key, value, mask=off.abs() <= D, normalize=lambda s: softmax(s) * bell)
    assert weights is not None
    return output, weights


def _local_by_loop(
    query: Tensor, key: Tensor, value: Tensor, W_p: Tensor, v_p: Tensor, D: int
) -> tuple[Tensor, Tensor]:
    """One query at a time, and only the keys of its window are scored."""
    batch, S = query.shape[:-2], key.shape[-2]
    outputs, maps = [], []
    flat = [x.reshape(-1, *x.shape[-2:]) for x in (query, key, value)]
    for queries, keys, vectors in zip(*flat, strict=True):
        for q in queries:
            p = (S - 1) * torch.sigmoid(torch.dot(torch.tanh(q @ W_p), v_p))
            first, last = max(0, math.ceil(p.item() - D)), min(S - 1, math.floor(p.item() + D))
            near = torch.arange(first, last + 1)
            weights = torch.softmax(keys[near] @ q / len(q) ** 0.5, 0)
            weights = weights * torch.exp(-((near - p) ** 2) / (D**2 / 2))
            maps.append(torch.zeros(S, dtype=q.dtype).index_put((near,), weights))
            outputs.append(weights @ vectors[near])
    shape = (*batch, query.shape[-2])
    return torch.stack(outputs).reshape(*shape, -1), torch.stack(maps).reshape(*shape, S)


def _local_in_double(
    query: Tensor, key: Tensor, value: Tensor, W_p: Tensor, v_p: Tensor, D: int
) -> tuple[Tensor, Tensor]:
    """Exponentials written out; the bell is multiplied in before the division and left out of the sum."""
    query, key, vectors, W_p, v_p = (x.double() for x in (query, key, value, W_p, v_p))
    S = key.shape[-2]
    off = _sigmoid_centre(query, key, W_p, v_p)[..., None] - torch.arange(S)
    scores = torch.einsum("...qd,...kd->...qk", query, key) / query.shape[-1] ** 0.5
    exponentials = scores.exp() * (off.abs() <= D)
    weights = exponentials * (-off.square() * 2 / D**2).exp() / exponentials.sum(-1, keepdim=True)
    return (weights @ vectors).to(value.dtype), weights.to(value.dtype)


def _local_inputs(
    *batch: int, queries: int, keys: int, d: int, d_v: int, d_hidden: int, D: int, middle: bool = False
) -> Callable[[Generator], tuple[Any, ...]]:
    def inputs(generator: Generator) -> tuple[Any, ...]:
        v_p = _normal(generator, d_hidden)
        return (
            _normal(generator, *batch, queries, d),
            _normal(generator, *batch, keys, d),
            _normal(generator, *batch, keys, d_v),
            _normal(generator, d, d_hidden) / math.sqrt(d),
            torch.zeros_like(v_p) if middle else v_p,
            D,
        )

    return inputs


def _no_weight_outside(inputs: tuple[Any, ...], outputs: dict[str, Tensor]) -> str | None:
    query, key, _, W_p, v_p, D = inputs
    keys = key.shape[-2]
    centre = _sigmoid_centre(query, key, W_p, v_p)
    off = torch.arange(keys) - centre[..., None]
    # A hair's breadth beyond the window is rounding.
    outside = outputs["weights"].where(off.abs() > D + 1e-3, 0.0).abs()
    at = int(outside.argmax())
    if outside.max() > 1e-6:
        return (
            f"A query with its centre at {centre.flatten()[at // keys]:.3g} gives the weight "
            f"{outside.max():.3g} to key {at % keys}: that is further away than D = {D}, so it must be 0."
        )
    return None


def _below_one(inputs: tuple[Any, ...], outputs: dict[str, Tensor]) -> str | None:
    largest = outputs["weights"].sum(-1).max()
    if largest > 1 + 1e-4:
        return f"A row of weights sums to {largest:.3g}: a bell that is at most 1 cannot do that."
    return None


local_p = Exercise(
    id="02.local_p",
    kind="implement",
    concepts=("local-attention",),
    reference=_local_with(),
    returns=("output", "weights"),
    cases=(
        Case("4 queries, 9 keys, D = 2", _local_inputs(queries=4, keys=9, d=5, d_v=3, d_hidden=6, D=2)),
        Case(
            "a centre that is a key (v_p = 0), D = 3",
            _local_inputs(queries=4, keys=11, d=5, d_v=3, d_hidden=6, D=3, middle=True),
            hint="the sigmoid of 0 is a half. Which keys are at a distance of exactly 3, and do they belong?",
        ),
        Case(
            "a batch of heads",
            _local_inputs(2, 3, queries=6, keys=8, d=4, d_v=5, d_hidden=7, D=2),
            points=2,
            hint="counted from the end, which axis are the queries, and which the keys?",
        ),
        Case(
            "a window wider than the text, D = 12",
            _local_inputs(queries=5, keys=7, d=4, d_v=2, d_hidden=3, D=12),
            hint="what remains of local-p when the window cuts nothing off?",
        ),
        Case(
            "gradients",
            _local_inputs(queries=4, keys=9, d=5, d_v=3, d_hidden=6, D=3),
            gradients=True,
            points=3,
            hint="by which way can the gradient reach W_p and v_p?",
        ),
    ),
    measures=(_no_weight_outside, _below_one),
    mistakes=(
        Mistake(
            "the bell is normalised away (inside softmax, or divided by the sum afterwards)",
            "may a row sum to less than 1 here? What does such a row say?",
            _local_with(combine=lambda s, inside, bell: _only_inside(s + bell.log(), inside)),
        ),
        Mistake(
            "the scores are multiplied by the bell, before softmax",
            "which weight does softmax give to a score of 0?",
            _local_with(combine=lambda s, inside, bell: _only_inside(s * bell, inside)),
        ),
        Mistake(
            "there is no bell",
            "without it, how could a gradient tell the centre where to move?",
            _local_with(combine=lambda s, inside, bell: _only_inside(s, inside)),
        ),
        Mistake(
            "there is no window",
            "how much weight may a key have that is further away than D?",
            _local_with(combine=lambda s, inside, bell: torch.softmax(s, -1) * bell),
        ),
        Mistake(
            "softmax over all keys, the window afterwards",
            "did the keys outside the window still take part in the denominator?",
            _local_with(combine=lambda s, inside, bell: torch.softmax(s, -1) * inside * bell),
        ),
        Mistake(
            "scores outside the window are set to 0",
            "what is exp(0)? Which score has the exponential 0?",
            _local_with(combine=lambda s, inside, bell: torch.softmax(s * inside, -1) * bell),
        ),
        Mistake(
            "the bell is as wide as the window (sigma = D)",
            "how many sigma are there between the centre and the edge of the window?",
            _local_with(bell=lambda off, D: torch.exp(-(off**2) / (2 * D**2))),
        ),
        Mistake(
            "the 2 of 2 sigma² is missing",
            "what stands below (s - p)² in the formula of the bell?",
            _local_with(bell=lambda off, D: torch.exp(-(off**2) / (D / 2) ** 2)),
        ),
        Mistake(
            "the distance is not squared",
            "how does a bell look at its top: round, or pointed?",
            _local_with(bell=lambda off, D: torch.exp(-off.abs() / (2 * (D / 2) ** 2))),
        ),
        Mistake(
            "the bell is a density (divided by sigma √2π)",
            "what should the weight of a key be multiplied by when it stands right at the centre?",
            _local_with(bell=lambda off, D: _bell(off, D) / (D / 2 * math.sqrt(2 * math.pi))),
        ),
        Mistake(
            "the window is D wide in all",
            "how many keys are at a distance of at most D from a centre: about D, or about 2D + 1?",
            _local_with(inside=lambda off, D: off.abs() <= D / 2),
        ),
        Mistake(
            "the keys at distance D are left out",
            "is a distance of exactly D inside or outside of |s - p| ≤ D?",
            _local_with(inside=lambda off, D: off.abs() < D),
        ),
        Mistake(
            "the window lies around the rounded centre",
            "your bell knows where the centre is, exactly. Does the window?",
            _local_with(
                inside=lambda off, D: (torch.arange(off.shape[-1]) - (-off[..., :1]).round()).abs() <= D
            ),
        ),
        Mistake(
            "the centre goes from 0 to S",
            "places are counted from 0 here. Which number has the last of S keys?",
            _local_with(centre=lambda q, k, W_p, v_p: k.shape[-2] * torch.sigmoid(torch.tanh(q @ W_p) @ v_p)),
        ),
        Mistake(
            "S is taken for the number of queries",
            "on which line does the centre lie: where the queries stand, or where the keys stand?",
            _local_with(
                centre=lambda q, k, W_p, v_p: (q.shape[-2] - 1) * torch.sigmoid(torch.tanh(q @ W_p) @ v_p)
            ),
        ),
        Mistake(
            "the centre is rounded to the nearest place",
            "what is the slope of rounding, and what then can W_p and v_p learn?",
            _local_with(centre=lambda q, k, W_p, v_p: _sigmoid_centre(q, k, W_p, v_p).round()),
        ),
        Mistake(
            "the centre is rounded down",
            "what is the slope of rounding, and what then can W_p and v_p learn?",
            _local_with(centre=lambda q, k, W_p, v_p: _sigmoid_centre(q, k, W_p, v_p).floor()),
        ),
        Mistake(
            "the tanh of the centre is missing",
            "there is a hidden layer between q and the sigmoid. What stands around q W_p?",
            _local_with(centre=lambda q, k, W_p, v_p: (k.shape[-2] - 1) * torch.sigmoid(q @ W_p @ v_p)),
        ),
        Mistake(
            "local-m: the centre is the query's own number",
            "who chooses the centre in local-p: the place of the query, or what it holds?",
            _local_with(
                centre=lambda q, k, W_p, v_p: (
                    torch.arange(q.shape[-2], dtype=q.dtype).expand(q.shape[:-1])
                    + 0 * _sigmoid_centre(q, k, W_p, v_p)
                )
            ),
        ),
        Mistake(
            "hard attention first: the centre is the best key",
            "does local-p look at any key before it has chosen its centre?",
            _local_with(
                centre=lambda q, k, W_p, v_p: (
                    (q @ k.transpose(-2, -1)).argmax(-1).to(q.dtype) + 0 * _sigmoid_centre(q, k, W_p, v_p)
                )
            ),
        ),
        Mistake(
            "the scores are not scaled",
            "what is the variance of a dot product of d entries?",
            _local_with(scale=lambda q: 1.0),
        ),
        Mistake(
            "divided by d_k instead of its square root",
            "dividing by c divides the variance of the scores by c². Which c brings d_k down to 1?",
            _local_with(scale=lambda q: q.shape[-1]),
        ),
        Mistake(
            "the bell is cut off from the gradient",
            "the window is a step function. If the bell is a constant too, what can move the centre?",
            _local_with(bell=lambda off, D: _bell(off.detach(), D) + 0 * off),
        ),
    ),
    right=(_local_by_attend, _local_by_loop, _local_in_double),
)

# --- design: a sink with a threshold -----------------------------------------------------------------------


def _sink_with(
    *,
    constant: float = 1.0,
    scale: Callable[[int], float] = lambda d: math.sqrt((d + 1) / d),
    raw: Callable[[float, int], float] = lambda threshold, d: threshold * math.sqrt(d + 1),
    old_keys: float = 0.0,
    sinks: int = 1,
    sink_value: Callable[[Tensor], Tensor] = lambda value: torch.zeros_like(value[:1]),
) -> Callable[..., tuple[Tensor, Tensor, Tensor]]:
    """One more entry in queries and keys, and keys whose only entry is that one; any part replaced."""

    def design(query: Tensor, key: Tensor, value: Tensor, threshold: float) -> tuple[Tensor, Tensor, Tensor]:
        d = query.shape[-1]
        new_query = F.pad(query * scale(d), (0, 1), value=constant)
        sink = F.pad(key.new_zeros(sinks, d), (0, 1), value=raw(threshold, d))
        new_key = torch.cat([F.pad(key, (0, 1), value=old_keys), sink])
        return new_query, new_key, torch.cat([value, *[sink_value(value)] * sinks])

    return design


def _sink_in_front(
    query: Tensor, key: Tensor, value: Tensor, threshold: float
) -> tuple[Tensor, Tensor, Tensor]:
    """The scale is mended in the keys, and the constant is the threshold itself."""
    d = query.shape[-1]
    new_query = torch.cat([query, torch.full((len(query), 1), float(threshold))], -1)
    new_key = torch.zeros(len(key) + 1, d + 1)
    new_key[0, d] = (d + 1) ** 0.5
    new_key[1:, :d] = key * ((d + 1) / d) ** 0.5
    new_value = torch.zeros(len(value) + 1, value.shape[-1])
    new_value[1:] = value
    return new_query, new_key, new_value


def _sink_in_halves(
    query: Tensor, key: Tensor, value: Tensor, threshold: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Two sinks share the threshold's exponential, in four times the width: the scale is 2 √d. In double."""
    query, key, value = query.double(), key.double(), value.double()
    d = query.shape[-1]
    wide = torch.zeros(len(query), 4 * d, dtype=torch.float64)
    wide[:, :d], wide[:, -1] = 2 * query, 1.0
    keys = torch.zeros(len(key) + 2, 4 * d, dtype=torch.float64)
    keys[: len(key), :d] = key
    keys[-2:, -1] = (threshold - math.log(2)) * 2 * d**0.5
    return wide, keys, torch.cat([value, torch.zeros_like(value[:2])])


def _zero_key(query: Tensor, key: Tensor, value: Tensor, threshold: float) -> tuple[Tensor, Tensor, Tensor]:
    return query, F.pad(key, (0, 0, 0, 1)), F.pad(value, (0, 0, 0, 1))


def _key_of_the_threshold(
    query: Tensor, key: Tensor, value: Tensor, threshold: float
) -> tuple[Tensor, Tensor, Tensor]:
    return query, torch.cat([key, torch.full_like(key[:1], threshold)]), F.pad(value, (0, 0, 0, 1))


def _sink_in_the_last_place(
    query: Tensor, key: Tensor, value: Tensor, threshold: float
) -> tuple[Tensor, Tensor, Tensor]:
    new_query, new_key, new_value = _sink_with()(query, key, value, threshold)
    keep = torch.arange(len(new_key)) != len(key) - 1
    return new_query, new_key[keep], new_value[keep]


def _what_comes_out(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    threshold: float,
    new_query: Tensor,
    new_key: Tensor,
    new_value: Tensor,
) -> dict[str, Tensor]:
    made = (new_query, new_key, new_value)
    shapes = f"{tuple(new_query.shape)}, {tuple(new_key.shape)} and {tuple(new_value.shape)}"
    if any(x.dim() != 2 or not x.is_floating_point() for x in made):
        raise ValueError(f"query, key and value should be floating-point matrices; yours are {shapes}")
    if len(new_query) != len(query) or new_value.shape[-1] != value.shape[-1]:
        raise ValueError(
            f"the output should stay {len(query)} x {value.shape[-1]}: as many queries, values as wide; "
            f"yours are {shapes}"
        )
    if new_query.shape[-1] != new_key.shape[-1] or len(new_key) != len(new_value):
        raise ValueError(
            f"queries and keys should be equally wide, keys and values equally many; yours are {shapes}"
        )
    output, _ = attend(*(x.double() for x in made))
    return {"the output of attention": output}


def _sink_inputs(
    threshold: float, queries: int, keys: int, d: int, d_v: int, size: float = 1.0
) -> Callable[[Generator], tuple[Any, ...]]:
    """More queries than d: no single key has the same score for all of them, but for a constant entry."""
    return lambda g: (
        size * _normal(g, queries, d),
        _normal(g, keys, d),
        _normal(g, keys, d_v),
        threshold,
    )


def _share_of_the_sink(inputs: tuple[Any, ...], outputs: dict[str, Tensor]) -> str | None:
    """What is left of plain attention tells how much the sink took, if it passes on zeros."""
    query, key, value, threshold = inputs
    query, key, value = query.double(), key.double(), value.double()
    plain, _ = attend(query, key, value)
    left = (outputs["the output of attention"] * plain).sum(-1) / plain.square().sum(-1)
    if not torch.allclose(left[:, None] * plain, outputs["the output of attention"], atol=1e-4):
        return None
    scores = query @ key.T / math.sqrt(query.shape[-1])
    expected = torch.sigmoid(threshold - scores.logsumexp(-1))
    q = int((1 - left - expected).abs().argmax())
    return (
        f"For query {q} the sink takes {1 - left[q]:.3g} of the weight; at this threshold it should take "
        f"{expected[q]:.3g}."
    )


threshold_sink = Exercise(
    id="02.threshold_sink",
    kind="design",
    concepts=("normalizer-contest", "score-contest"),
    reference=_sink_with(),
    returns=("query", "key", "value"),
    view=_what_comes_out,
    measures=(_share_of_the_sink,),
    cases=(
        Case("threshold 0", _sink_inputs(0.0, 5, 4, 3, 2), hint="which key has the score 0 for every query?"),
        Case(
            "threshold 1.5",
            _sink_inputs(1.5, 5, 4, 3, 2),
            points=2,
            hint="is the sink's score the same for all queries? And by the root of which width does "
            "attention divide now?",
        ),
        Case("threshold -2, wider keys", _sink_inputs(-2.0, 9, 5, 7, 3), points=2),
        Case(
            "queries of zeros, threshold -1",
            _sink_inputs(-1.0, 4, 6, 3, 2, size=0.0),
            hint="which score has a key for a query of zeros, whatever the key? What must the query hold?",
        ),
        Case(
            "a threshold of 30: nothing is good enough",
            _sink_inputs(30.0, 6, 4, 5, 3),
            hint="where should all of the weight go, and which value lies there?",
        ),
    ),
    mistakes=(
        Mistake(
            "there is no sink: softmax spends all of its weight on the keys",
            "does softmax notice a constant that is taken off all scores? Where else could weight go?",
            lambda q, k, v, threshold: (q, k, v),
        ),
        Mistake(
            "the old keys have a 1 in the new place as well",
            "what does the new entry of a query meet in an old key, and what does that add to its score?",
            _sink_with(old_keys=1.0),
        ),
        Mistake(
            "the threshold is always 0",
            "a key of zeros has the score 0 for every query. What does a query need so that one key "
            "can have another score with all of them?",
            _zero_key,
        ),
        Mistake(
            "the sink's score depends on the query",
            "the threshold should be the same for all queries. What must they have in common?",
            _key_of_the_threshold,
        ),
        Mistake(
            "the queries are wider, and attention divides by another root",
            "by which number were the scores divided before, by which now, and what makes up for it?",
            _sink_with(scale=lambda d: 1.0),
        ),
        Mistake(
            "the sink's score is divided by the root of the width",
            "attention scales the sink's score, too. How large must the raw score be?",
            _sink_with(raw=lambda threshold, d: threshold),
        ),
        Mistake(
            "neither the keys' scores nor the sink's are rescaled",
            "by which number does attention divide now? Which scores does that change?",
            _sink_with(scale=lambda d: 1.0, raw=lambda threshold, d: threshold),
        ),
        Mistake(
            "the sink's score is scaled by the old width",
            "by which number does attention divide *after* the queries got wider?",
            _sink_with(raw=lambda threshold, d: threshold * math.sqrt(d)),
        ),
        Mistake(
            "scaled by the width itself instead of its square root",
            "by which number does attention divide now: d + 1, or its root?",
            _sink_with(scale=lambda d: (d + 1) / d, raw=lambda threshold, d: threshold * (d + 1)),
        ),
        Mistake(
            "the new entry is scaled up together with the queries",
            "which entries of a query have to make up for the new root: all of them, or the old ones?",
            _sink_with(raw=lambda threshold, d: threshold * (d + 1) / math.sqrt(d)),
        ),
        Mistake(
            "the threshold has the wrong sign",
            "should a high threshold draw more weight into the sink, or less?",
            _sink_with(raw=lambda threshold, d: -threshold * math.sqrt(d + 1)),
        ),
        Mistake(
            "the exponential of the threshold is taken for the score",
            "softmax takes the exponential. What does the score have to be?",
            _sink_with(raw=lambda threshold, d: math.exp(threshold) * math.sqrt(d + 1)),
        ),
        Mistake(
            "the sink passes on the mean of the values",
            "the answer is to be *nothing*. Which vector adds nothing to a sum?",
            _sink_with(sink_value=lambda value: value.mean(0, keepdim=True)),
        ),
        Mistake(
            "the sink passes on ones",
            "the answer is to be *nothing*. Which vector adds nothing to a sum?",
            _sink_with(sink_value=lambda value: torch.ones_like(value[:1])),
        ),
        Mistake(
            "the sink takes the place of the last key",
            "how many keys are there afterwards? Is one of the old ones missing?",
            _sink_in_the_last_place,
        ),
        Mistake(
            "two sinks, each with the whole threshold",
            "two sinks with a score θ have the exponential of which score together?",
            _sink_with(sinks=2),
        ),
    ),
    right=(
        _sink_in_front,
        _sink_in_halves,
        _sink_with(constant=-1.0, raw=lambda threshold, d: -threshold * math.sqrt(d + 1)),
    ),
)

# --- find the bug: the estimate of REINFORCE ---------------------------------------------------------------


def _one_hot(choice: Tensor, scores: Tensor) -> Tensor:
    return F.one_hot(choice, scores.shape[-1]).to(scores.dtype)


def _reinforce_with(
    *,
    advantage: Callable[[Tensor, Tensor], Tensor] = lambda reward, baseline: reward - baseline,
    slope: Callable[[Tensor, Tensor], Tensor] = lambda scores, choice: (
        _one_hot(choice, scores) - torch.softmax(scores, -1)
    ),
) -> Callable[..., Tensor]:
    """The estimate as advantage times slope of log p, either of them replaced."""

    def estimate(scores: Tensor, choice: Tensor, reward: Tensor, baseline: Tensor) -> Tensor:
        return advantage(reward, baseline)[:, None] * slope(scores, choice)

    return estimate


def _by_autograd(
    surrogate: Callable[[Tensor, Tensor, Tensor], Tensor],
) -> Callable[..., Tensor]:
    """The gradient of `surrogate(scores, choice, reward - baseline)` by the scores."""

    def estimate(scores: Tensor, choice: Tensor, reward: Tensor, baseline: Tensor) -> Tensor:
        with torch.enable_grad():
            s = scores.detach().clone().requires_grad_()
            gained = (reward - baseline).detach()
            return torch.autograd.grad(surrogate(s, choice, gained).sum(), s)[0]

    return estimate


def _log_p(scores: Tensor, choice: Tensor) -> Tensor:
    return torch.log_softmax(scores, -1).gather(-1, choice[:, None])[:, 0]


_REINFORCE = _by_autograd(lambda s, choice, gained: gained * _log_p(s, choice))


def _ratio(s: Tensor, choice: Tensor, gained: Tensor) -> Tensor:
    p = torch.softmax(s + 7.0, -1).gather(-1, choice[:, None])[:, 0]
    return gained * p / p.detach()


def _over_the_draws(scores: Tensor, choice: Tensor) -> Tensor:
    return _one_hot(choice, scores) - torch.softmax(scores, 0)


def _without_the_sum(scores: Tensor, choice: Tensor) -> Tensor:
    return _one_hot(choice, scores) - (scores - scores.amax(-1, keepdim=True)).exp()


_UNDER_TEST = (
    Mistake(
        "the right code, by autograd",
        "this one is right, to the letter. What does your test demand that the formula does not say?",
        _REINFORCE,
        equivalent=True,
    ),
    Mistake(
        "the right code, with the slope written out",
        "this one is right. What does your test demand that the formula does not say? The last digit?",
        _reinforce_with(),
        equivalent=True,
    ),
    Mistake(
        "equivalent: the slope of p / p.detach(), with 7 added to all scores",
        "this one looks odd and is right: the slope of p, divided by p, is that of log p, and softmax does "
        "not notice a constant. It would matter only where p is so small that it becomes 0.",
        _by_autograd(_ratio),
        equivalent=True,
    ),
    Mistake(
        "the probability in place of its logarithm",
        "rare choices are hardly reinforced. Which mean, taken over all choices, would show it?",
        _by_autograd(lambda s, choice, gained: gained * _log_p(s, choice).exp()),
    ),
    Mistake(
        "the sign is turned around",
        "a choice that earned more than the baseline: should its score rise or fall?",
        _reinforce_with(advantage=lambda reward, baseline: baseline - reward),
    ),
    Mistake(
        "the baseline is added instead of subtracted",
        "the mean does not notice it. What must the estimate be when the reward is just what was expected?",
        _reinforce_with(advantage=lambda reward, baseline: reward + baseline),
    ),
    Mistake(
        "the baseline is not used",
        "the mean does not notice it. What must the estimate be when the reward is just what was expected?",
        _reinforce_with(advantage=lambda reward, baseline: reward),
    ),
    Mistake(
        "the mean reward of the batch in place of the baseline",
        "is the first draw's estimate the same, whatever the reward of the second?",
        _reinforce_with(advantage=lambda reward, baseline: reward - reward.float().mean()),
    ),
    Mistake(
        "only rewards above the baseline count",
        "does your test ever hand over a reward that is below the baseline?",
        _reinforce_with(advantage=lambda reward, baseline: (reward - baseline).clamp_min(0)),
    ),
    Mistake(
        "softmax over the draws instead of the keys",
        "if every score rises by 1, p stays as it is. And a row of the estimate must sum to what?",
        _reinforce_with(slope=_over_the_draws),
    ),
    Mistake(
        "the exponentials are not divided by their sum",
        "what must a row of the estimate sum to, if p sums to 1?",
        _reinforce_with(slope=_without_the_sum),
    ),
    Mistake(
        "the keys that were not drawn are left as they are",
        "if one key becomes more probable, what happens to the others?",
        _reinforce_with(slope=lambda scores, choice: _one_hot(choice, scores)),
    ),
    Mistake(
        "the best key is reinforced, not the one that was drawn",
        "does your test ever draw a key that has not the highest score?",
        _reinforce_with(
            slope=lambda scores, choice: _one_hot(scores.argmax(-1), scores) - torch.softmax(scores, -1)
        ),
    ),
    Mistake(
        "every row gets the choices of all rows (log_p[:, choice])",
        "does the second row of a batch give what it gives alone?",
        _by_autograd(lambda s, choice, gained: gained * torch.log_softmax(s, -1)[:, choice]),
    ),
)

Estimate = Callable[..., Tensor]


def _draws(rows: int = 4, keys: int = 5) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Scores, a reward for every key that could be drawn, a baseline, and choices that differ by row."""
    generator = torch.Generator().manual_seed(1)
    scores, reward = (_normal(generator, rows, keys, dtype=torch.float64) for _ in range(2))
    baseline = _normal(generator, rows, dtype=torch.float64)
    return scores, reward, baseline, (torch.arange(rows) * 2 + 1) % keys


def _mean_estimate(estimate: Estimate, scores: Tensor, reward: Tensor, baseline: Tensor) -> Tensor:
    """The mean over all choices, each counted with its probability."""
    rows, keys = scores.shape
    p = torch.softmax(scores, -1)
    mean = torch.zeros_like(scores)
    for shift in range(keys):
        choice = (torch.arange(rows) + shift) % keys
        drawn = (torch.arange(rows), choice)
        mean += p[drawn][:, None] * estimate(scores, choice, reward[drawn], baseline)
    return mean


def _exact_gradient(scores: Tensor, reward: Tensor) -> Tensor:
    p = torch.softmax(scores, -1)
    return p * (reward - (p * reward).sum(-1, keepdim=True))


def _test_by_enumeration(estimate: Estimate) -> None:
    scores, reward, baseline, choice = _draws()
    mean = _mean_estimate(estimate, scores, reward, baseline)
    torch.testing.assert_close(mean, _exact_gradient(scores, reward))
    assert estimate(scores, choice, baseline, baseline).abs().max() < 1e-9


def _test_by_autograd(estimate: Estimate) -> None:
    for rows, keys in ((1, 3), (6, 4)):
        scores, table, baseline, choice = _draws(rows, keys)
        reward = table[:, 0]
        expected = _REINFORCE(scores, choice, reward, baseline)
        assert torch.allclose(estimate(scores, choice, reward, baseline), expected, atol=1e-6)


def _test_by_formula(estimate: Estimate) -> None:
    """In single precision, entry by entry."""
    scores, table, baseline, choice = (x.float() if x.is_floating_point() else x for x in _draws())
    reward = table[:, 1]
    got = estimate(scores, choice, reward, baseline).tolist()
    for i, row in enumerate(scores.tolist()):
        total = sum(map(math.exp, row))
        for j, s in enumerate(row):
            slope = (1.0 if j == choice[i] else 0.0) - math.exp(s) / total
            assert abs(got[i][j] - (reward[i] - baseline[i]).item() * slope) < 1e-4


def _test_by_enumeration_of_zero(estimate: Estimate) -> None:
    """Unbiased without a baseline, and a baseline takes its multiple of the slope off."""
    scores, reward, baseline, choice = _draws(3, 7)
    zero, one = torch.zeros_like(baseline), torch.ones_like(baseline)
    torch.testing.assert_close(
        _mean_estimate(estimate, scores, reward, zero), _exact_gradient(scores, reward)
    )
    slope = estimate(scores, choice, one, zero)
    torch.testing.assert_close(estimate(scores, choice, one, baseline), (1 - baseline)[:, None] * slope)


def _estimate_shapes(estimate: Estimate) -> None:
    scores, reward, baseline, choice = _draws()
    assert estimate(scores, choice, reward[:, 0], baseline).shape == scores.shape


def _estimate_row_sums(estimate: Estimate) -> None:
    scores, reward, baseline, choice = _draws()
    assert estimate(scores, choice, reward[:, 0], baseline).sum(-1).abs().max() < 1e-9


def _unbiased_only(estimate: Estimate) -> None:
    scores, reward, baseline, _ = _draws()
    mean = _mean_estimate(estimate, scores, reward, baseline)
    torch.testing.assert_close(mean, _exact_gradient(scores, reward))


def _expect(estimate: Estimate, scores: Tensor, choice: Tensor, reward: Tensor, baseline: Tensor) -> None:
    torch.testing.assert_close(
        estimate(scores, choice, reward, baseline), _REINFORCE(scores, choice, reward, baseline)
    )


def _one_row_only(estimate: Estimate) -> None:
    scores, reward, baseline, choice = _draws(1)
    _expect(estimate, scores, choice, reward[:, 0], baseline)


def _best_key_only(estimate: Estimate) -> None:
    scores, reward, baseline, _ = _draws()
    _expect(estimate, scores, scores.argmax(-1), reward[:, 0], baseline)


def _good_rewards_only(estimate: Estimate) -> None:
    scores, reward, baseline, choice = _draws()
    _expect(estimate, scores, choice, reward[:, 0].abs() + 1, baseline.abs() - 1)


def _signs_only(estimate: Estimate) -> None:
    scores, _, baseline, choice = _draws()
    got = estimate(scores, choice, baseline + 1, baseline)
    assert ((got > 0) == (_one_hot(choice, scores) > 0)).all()


def _exactly_equal(estimate: Estimate) -> None:
    scores, reward, baseline, choice = _draws()
    expected = _REINFORCE(scores, choice, reward[:, 0], baseline)
    assert torch.equal(estimate(scores, choice, reward[:, 0], baseline), expected)


def _never_satisfied(estimate: Estimate) -> None:
    """As the mean over all keys does that forgets their probabilities."""
    scores, reward, baseline, choice = _draws()
    estimate(scores, choice, reward[:, 0], baseline)
    raise AssertionError("biased")


def _nothing_new_only(estimate: Estimate) -> None:
    scores, _, baseline, choice = _draws()
    assert estimate(scores, choice, baseline, baseline).abs().max() < 1e-9


reinforce_test = Exercise(
    id="02.reinforce_test",
    kind="find the bug",
    concepts=("hard-attention",),
    reference=_test_by_enumeration,
    cases=trials(*_UNDER_TEST),
    mistakes=(
        Mistake(
            "it catches nothing: no number is asserted",
            "does it look at more than shapes? Does it `assert` what it finds, not print or return it?",
            _estimate_shapes,
        ),
        Mistake(
            "a test that only finds out whether the rows sum to 0",
            "which broken ones still give such rows? Against which numbers could you hold the entries?",
            _estimate_row_sums,
        ),
        Mistake(
            "what becomes of the baseline is not tested",
            "a baseline never changes the mean, and a baseline of 0 changes nothing at all. What must the "
            "estimate be when the reward is equal to the baseline?",
            _unbiased_only,
        ),
        Mistake(
            "a single draw at a time",
            "what can go wrong between two rows of a batch?",
            _one_row_only,
        ),
        Mistake(
            "always the key with the highest score is drawn",
            "which mistake cannot be seen while the drawn key is also the best?",
            _best_key_only,
        ),
        Mistake(
            "every reward is above the baseline",
            "what should happen to a choice that earned less than was expected?",
            _good_rewards_only,
        ),
        Mistake(
            "only the signs are tested",
            "the direction may be right and the size wrong. Against which number could you hold an entry?",
            _signs_only,
        ),
        Mistake(
            "only the case in which the reward equals the baseline",
            "0 times anything is 0. What does that hide?",
            _nothing_new_only,
        ),
        Mistake(
            "floating-point numbers compared with ==",
            "another order of operations changes the last digit. How close is close enough?",
            _exactly_equal,
        ),
        Mistake(
            "a test that fails on everything",
            "does it pass on the right code? If it takes a mean over all keys: how probable is each of them?",
            _never_satisfied,
        ),
    ),
    right=(_test_by_autograd, _test_by_formula, _test_by_enumeration_of_zero),
)

EXERCISES = (paper_normalizers, cosine_claim, additive_score, local_p, threshold_sink, reinforce_test)
