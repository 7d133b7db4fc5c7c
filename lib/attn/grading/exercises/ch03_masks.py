"""Chapter 03: masks."""

import functools
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from attn import masks
from attn.core import attend
from attn.grading.exercise import Case, Exercise, Mistake, trials, values
from attn.scores import dot_product


def _normal(generator: Generator, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)


def _whole(low: int, high: int, generator: Generator) -> int:
    """A whole number in low..high."""
    return int(torch.randint(low, high + 1, (), generator=generator))


# --- predict: one mask, two functions ----------------------------------------------------------------------

# Equal scores make equal weights, so each set of visible keys has its own mean of the values 1, 2, 4, 8.
_FLOAT_MASK = (1 * math.e + 2 + 4 * math.e + 8) / (2 * math.e + 2)

true_means = Exercise(
    id="03.true_means",
    kind="predict",
    concepts=("mask-polarity", "mask-algebra"),
    reference={"sdpa": 2.5, "mha": 5, "mha_padding": 2, "sdpa_float": _FLOAT_MASK},
    cases=values(
        "sdpa",
        "mha",
        "mha_padding",
        "sdpa_float",
        hints={
            "sdpa": "which keys are left, and what is the mean of their values?",
            "mha": "which keys are left, and what is the mean of their values?",
            "mha_padding": "a key must pass both masks. Which one does?",
            "sdpa_float": "the numbers are added to the scores. Which weights come out of softmax?",
        },
    ),
    tolerance=0.005,
    mistakes=(
        Mistake(
            "True is read as *may attend* by both functions",
            "do the two functions mean the same by True? Section 8 of the lesson has a table.",
            {"sdpa": 2.5, "mha": 2.5, "mha_padding": math.nan, "sdpa_float": _FLOAT_MASK},
        ),
        Mistake(
            "True is read as *may not attend* by both functions",
            "one of the two functions agrees with this course. Which one?",
            {"sdpa": 5, "mha": 5, "mha_padding": 2, "sdpa_float": _FLOAT_MASK},
        ),
        Mistake(
            "the two functions are exchanged",
            "which of the two means by True what this course means?",
            {"sdpa": 5, "mha": 2.5},
        ),
        Mistake(
            "the visible values are added up",
            "the weights of a query sum to 1. Is a sum of values a weighted mean?",
            {"sdpa": 5, "mha": 10, "mha_padding": 2, "sdpa_float": 15},
        ),
        Mistake(
            "divided by all four keys, hidden ones too",
            "a masked key is a deleted key. Among how many is the weight shared?",
            {"sdpa": 1.25, "mha": 2.5, "mha_padding": 0.5, "sdpa_float": 1.25},
        ),
        Mistake(
            "masks that forbid, combined with `&`: hidden where both say so",
            "each of the two masks takes keys away. Must both forbid a key, or is one enough?",
            {"mha_padding": 3.75},
        ),
        Mistake(
            "the padding mask replaces the other one",
            "both masks are in force. What is left of the keys that the first one leaves?",
            {"mha_padding": 7 / 3},
        ),
        Mistake(
            "only the padding mask is turned over",
            "both arguments of nn.MultiheadAttention mean the same by True. What do they mean?",
            {"mha_padding": 8},
        ),
        Mistake(
            "a mask of numbers is taken for a mask of True and False",
            "1.0 and 0.0 are numbers. What does the function do with numbers: select, or add?",
            {"sdpa_float": 2.5},
        ),
        Mistake(
            "a mask of numbers is taken to change nothing",
            "two scores become 1, two stay 0. Do all four keys still weigh the same?",
            {"sdpa_float": 3.75},
        ),
        Mistake(
            "the added numbers are used as weights, without exp",
            "they are added before softmax. What does softmax do with a score of 1?",
            {"sdpa_float": 5},
        ),
        Mistake(
            "the numbers are taken to lower the scores, not to raise them",
            "are they added, or taken off?",
            {"sdpa_float": (1 + 2 * math.e + 4 + 8 * math.e) / (2 * math.e + 2)},
        ),
    ),
    right=(
        {"sdpa": 5 / 2, "mha": 10 / 2, "mha_padding": 2.0, "sdpa_float": 3.17},
        {"sdpa": torch.tensor(2.5), "mha": 5, "mha_padding": 2, "sdpa_float": torch.tensor(_FLOAT_MASK)},
        {"sdpa": 2.5, "mha": 5.0, "mha_padding": 2, "sdpa_float": 5 - 2.5 * math.e / (1 + math.e)},
    ),
)

# --- spot the error: four sentences ------------------------------------------------------------------------

mask_claim = Exercise(
    id="03.mask_claim",
    kind="spot the error",
    concepts=("no-leak", "empty-row", "mask-algebra", "mask-polarity"),
    reference={"wrong": "C", "query": 0, "weight": 1 / 6},
    cases=values(
        "wrong",
        "query",
        "weight",
        hints={
            "wrong": 'answer with one capital letter, as in "A"',
            "query": "which row of that mask holds no True?",
            "weight": "what does softmax make of six scores that are all alike?",
        },
    ),
    tolerance=0.005,
    mistakes=(
        Mistake(
            "sentence A is right",
            "write *not (a and b)* with *or*. What do prohibitions do where permissions meet with `&`?",
            {"wrong": "A"},
        ),
        Mistake(
            "sentence B is right",
            "where do the pads stand, seen from a real word? Which mask hides that place already?",
            {"wrong": "B"},
        ),
        Mistake(
            "sentence D is right",
            "which keys lie after the newest token?",
            {"wrong": "D"},
        ),
        Mistake(
            "the last query",
            "the last query may look at five others. Which query has no other one before it?",
            {"query": 5},
        ),
        Mistake(
            "numbered from 1",
            "positions are numbered from 0 here, as in the question.",
            {"query": 1},
        ),
        Mistake(
            "the weight is taken to be 0: it is forbidden, after all",
            "softmax must spend a sum of 1. Where, if every score of the row is the same?",
            {"weight": 0},
        ),
        Mistake(
            "the row is shared among its future only",
            "in this row every key is forbidden, its own too. How many equal scores are there?",
            {"weight": 1 / 5},
        ),
        Mistake(
            "all the weight on the last position",
            "are the six scores of this row still different from each other?",
            {"weight": 1},
        ),
        Mistake(
            "nan",
            "nan comes from a row of minus infinity alone. Which number stands there instead?",
            {"weight": math.nan},
        ),
    ),
    right=(
        {"wrong": "C", "query": 0, "weight": 0.167},
        {"wrong": " C", "query": 0.0, "weight": torch.softmax(torch.full((6,), -1e9), 0)[5]},
        {"weight": 0.1667, "query": torch.tensor(0), "wrong": "C"},
    ),
)

# --- implement: the mask of a batch that is being generated ------------------------------------------------


def _generation_mask(lengths: Tensor, queries: int, keys: int, before: int) -> Tensor:
    real = torch.arange(keys) >= keys - lengths[:, None]
    return masks.window(queries, keys, before=before, after=0) & real[:, None, None, :]


def _generation_mask_by_loop(lengths: Tensor, queries: int, keys: int, before: int) -> Tensor:
    mask = torch.zeros(len(lengths), 1, queries, keys, dtype=torch.bool)
    for b, length in enumerate(lengths.tolist()):
        for i in range(queries):
            own = keys - queries + i
            for j in range(max(keys - length, own - before), own + 1):
                mask[b, 0, i, j] = True
    return mask


def _generation_mask_by_triangles(lengths: Tensor, queries: int, keys: int, before: int) -> Tensor:
    shift = keys - queries
    band = torch.ones(queries, keys, dtype=torch.bool).tril(shift).triu(shift - before)
    real = masks.from_lengths(lengths, keys).flip(-1)
    return torch.logical_and(band, real)


def _generation_mask_by_prohibitions(lengths: Tensor, queries: int, keys: int, before: int) -> Tensor:
    """All positions first, True = may not attend; then cut to the newest, and turned over."""
    i, j = torch.arange(keys)[:, None], torch.arange(keys)
    forbidden = (j > i) | (i - j > before)
    pads = (j < keys - lengths[:, None])[:, None, None]
    return ~(forbidden | pads)[:, :, keys - queries :]


Offsets = Callable[[Tensor, int], Tensor]


def _generation_mask_with(
    *,
    rule: Offsets = lambda offset, before: (offset <= 0) & (offset >= -before),
    first_query: Callable[[int, int], int] = lambda queries, keys: keys - queries,
    real: Callable[[Tensor, int], Tensor] = lambda lengths, keys: (
        torch.arange(keys) >= keys - lengths[:, None]
    ),
    combine: Callable[[Tensor, Tensor], Tensor] = torch.logical_and,
    on_queries: bool = False,
    finish: Callable[[Tensor], Tensor] = lambda mask: mask,
) -> Callable[[Tensor, int, int, int], Tensor]:
    """The mask, any of its parts replaced. `rule` sees position of key minus position of query."""

    def mask(lengths: Tensor, queries: int, keys: int, before: int) -> Tensor:
        own = first_query(queries, keys) + torch.arange(queries)
        allowed = rule(torch.arange(keys) - own[:, None], before)
        known = real(lengths, keys)
        known = known[:, None, keys - queries :, None] if on_queries else known[:, None, None, :]
        return finish(combine(allowed, known))

    return mask


def _batch(
    queries: int, keys: int, before: int, shortest: int = 1, sentences: int = 3
) -> Callable[[Generator], tuple[Any, ...]]:
    """Unequal lengths in any order; one sentence fills the row, one has `shortest` tokens."""

    def inputs(generator: Generator) -> tuple[Any, ...]:
        between = shortest + 1 + torch.randperm(keys - shortest - 1, generator=generator)[: sentences - 2]
        lengths = torch.cat([between, torch.tensor([shortest, keys])])
        return lengths[torch.randperm(sentences, generator=generator)], queries, keys, before

    return inputs


def _says_where(inputs: tuple[Any, ...], outputs: dict[str, Tensor]) -> str | None:
    wanted, got = _generation_mask(*inputs), outputs["mask"]
    if got.shape != wanted.shape or got.dtype != torch.bool:
        return None
    b, _, i, j = (int(k) for k in (got != wanted).nonzero()[0])
    length, keys = int(inputs[0][b]), inputs[2]
    does = "lets" if got[b, 0, i, j] else "does not let"
    position = keys - inputs[1] + i
    what = f"the key at position {j}" + (" (padding)" if j < keys - length else "")
    return (
        f"In the sentence of {length} real tokens of {keys} it {does} query {i}, which stands at position "
        f"{position}, see {what}."
    )


generation_mask = Exercise(
    id="03.generation_mask",
    kind="implement",
    concepts=("mask-algebra", "no-leak"),
    reference=_generation_mask,
    returns=("mask",),
    cases=(
        Case("two sentences, all positions, a wide window", _batch(6, 6, 9, shortest=3, sentences=2)),
        Case("three sentences, 2 positions back", _batch(7, 7, 2, shortest=2)),
        Case(
            "the last 3 positions over 8 keys",
            _batch(3, 8, 4, shortest=2),
            points=2,
            hint="at which position does the first query stand, if the last one stands at the last key?",
        ),
        Case("one newest token over 9 keys", _batch(1, 9, 3, shortest=2)),
        Case("a window of the own position only", _batch(4, 6, 0, shortest=3)),
        Case("a sentence of no tokens", _batch(4, 7, 2, shortest=0)),
    ),
    measures=(_says_where,),
    mistakes=(
        Mistake(
            "True and False are exchanged",
            "in this course True means *may attend*. What does True mean in yours?",
            _generation_mask_with(finish=torch.logical_not),
        ),
        Mistake(
            "the next token is visible",
            "one place too far: where would the answer stand in training?",
            _generation_mask_with(rule=lambda o, b: (o <= 1) & (o >= -b)),
        ),
        Mistake(
            "a token does not see itself",
            "with before = 0, what is left for a query to look at?",
            _generation_mask_with(rule=lambda o, b: (o < 0) & (o >= -b)),
        ),
        Mistake(
            "the future is visible instead of the past (triu for tril)",
            "row i is what query i may see. Is it left or right of the diagonal?",
            _generation_mask_with(rule=lambda o, b: (o >= 0) & (o <= b)),
        ),
        Mistake(
            "the first query is lined up with the first key",
            "the queries are the *newest* positions. With 3 queries over 8 keys, where does query 0 stand?",
            _generation_mask_with(first_query=lambda queries, keys: 0),
        ),
        Mistake(
            "the padding is taken to stand on the right",
            "all these sentences end together. At which end are they filled up?",
            _generation_mask_with(real=lambda lengths, keys: torch.arange(keys) < lengths[:, None]),
        ),
        Mistake(
            "the padding is masked on the query axis",
            "who must be silent: the pad that asks, or the pad that answers?",
            _generation_mask_with(on_queries=True),
        ),
        Mistake(
            "the padding is not masked",
            "what are `lengths` for?",
            _generation_mask_with(combine=lambda allowed, known: allowed & torch.ones_like(known)),
        ),
        Mistake(
            "the future is not masked",
            "the window has two ends. How far may a query look ahead?",
            _generation_mask_with(rule=lambda o, b: o >= -b),
        ),
        Mistake(
            "a window on both sides",
            "how far may a query look ahead?",
            _generation_mask_with(rule=lambda o, b: o.abs() <= b),
        ),
        Mistake(
            "there is no window",
            "what is `before` for?",
            _generation_mask_with(rule=lambda o, b: o <= 0),
        ),
        Mistake(
            "the window is one too wide",
            "with before = 0 a query sees itself and nobody else. How many keys does yours leave it?",
            _generation_mask_with(rule=lambda o, b: (o <= 0) & (o >= -b - 1)),
        ),
        Mistake(
            "the window is one too narrow: it counts the own position",
            "with before = 2 a query sees *itself and* two others. How many keys does yours leave it?",
            _generation_mask_with(rule=lambda o, b: (o <= 0) & (o > -b)),
        ),
        Mistake(
            "the rules meet with `|`",
            "must a key pass one of the rules, or every one of them?",
            _generation_mask_with(combine=torch.logical_or),
        ),
        Mistake(
            "the far edge of the window is lined up with the first key",
            "the window has two edges, tril and triu say. Have you moved both to where the queries stand?",
            lambda lengths, queries, keys, before: (
                torch.ones(queries, keys, dtype=torch.bool).tril(keys - queries).triu(-before)
                & masks.from_lengths(lengths, keys).flip(-1)
            ),
        ),
        Mistake(
            "each position sees itself, padding too",
            "a permission that comes last undoes a prohibition. Who is let in again?",
            _generation_mask_with(
                rule=lambda o, b: (o == 0) * 2 + ((o < 0) & (o >= -b)),
                combine=lambda allowed, known: (allowed == 2) | ((allowed == 1) & known),
            ),
        ),
        Mistake(
            "one window for all queries, that of the last",
            "each query has a place of its own. Where does the window of query 0 begin?",
            lambda lengths, queries, keys, before: (
                masks.causal(queries, keys)
                & (torch.arange(keys) >= keys - 1 - before)
                & _generation_mask(lengths, 1, keys, keys)
            ),
        ),
        Mistake(
            "one real token too few",
            "which is the first real position of a sentence that fills the whole row?",
            _generation_mask_with(real=lambda lengths, keys: torch.arange(keys) > keys - lengths[:, None]),
        ),
        Mistake(
            "there is no axis for the heads",
            "scores are (batch, heads, queries, keys). Against which axis would your first one line up?",
            _generation_mask_with(finish=lambda mask: mask[:, 0]),
        ),
        Mistake(
            "a row for every key, not for the newest queries alone",
            "how many rows have the scores of the newest queries?",
            lambda lengths, queries, keys, before: _generation_mask(lengths, keys, keys, before),
        ),
        Mistake(
            "numbers instead of True and False",
            "what does an attention do with a mask of floats: select, or add?",
            _generation_mask_with(finish=lambda mask: mask.float()),
        ),
    ),
    right=(
        _generation_mask_by_loop,
        _generation_mask_by_triangles,
        _generation_mask_by_prohibitions,
        _generation_mask_with(),
    ),
)

# --- implement: softmax under a mask, in any precision -----------------------------------------------------


def _masked_softmax(scores: Tensor, mask: Tensor) -> Tensor:
    scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
    return torch.softmax(scores, -1).masked_fill(~mask.any(-1, keepdim=True), 0.0)


def _masked_softmax_by_loop(scores: Tensor, mask: Tensor) -> Tensor:
    """Softmax over each query's visible keys alone, put back in their places."""
    flat, visible = (
        scores.reshape(-1, scores.shape[-1]),
        mask.expand(scores.shape).reshape(scores[..., 0].numel(), -1),
    )
    rows = []
    for row, may in zip(flat, visible, strict=True):
        there = may.nonzero()[:, 0]
        rows.append(torch.zeros_like(row).scatter(0, there, torch.softmax(row[there], 0)))
    return torch.stack(rows).reshape(scores.shape)


def _masked_softmax_opened(scores: Tensor, mask: Tensor) -> Tensor:
    """Empty rows are opened before softmax and closed after it."""
    empty = ~mask.any(-1, keepdim=True)
    weights = F.softmax(torch.where(mask | empty, scores, -torch.inf), -1)
    return weights * ~empty


def _masked_softmax_in_double(scores: Tensor, mask: Tensor) -> Tensor:
    wide = scores.double().masked_fill(~mask, -torch.inf)
    top = wide.amax(-1, keepdim=True).clamp_min(torch.finfo(torch.float64).min)
    exponentials = (wide - top).exp()
    total = exponentials.sum(-1, keepdim=True)
    return (exponentials / total.where(total > 0, 1.0)).to(scores.dtype)


def _masked_softmax_mended(scores: Tensor, mask: Tensor) -> Tensor:
    """masked_fill stops the NaN on the way back: the gradient of what it fills is 0."""
    return torch.softmax(scores.masked_fill(~mask, -torch.inf), -1).nan_to_num(0.0)


def _masked_with(
    hide: Callable[[Tensor, Tensor], Tensor],
    after: Callable[[Tensor, Tensor], Tensor] = lambda weights, mask: weights.where(
        mask.any(-1, keepdim=True), 0.0
    ),
) -> Callable[[Tensor, Tensor], Tensor]:
    return lambda scores, mask: after(torch.softmax(hide(scores, mask), -1), mask)


def _as_it_is(x: Tensor, mask: Tensor) -> Tensor:
    return x


def _infinitely_low(scores: Tensor, mask: Tensor) -> Tensor:
    return scores.masked_fill(~mask, -torch.inf)


def _in_place(scores: Tensor, mask: Tensor) -> Tensor:
    with torch.no_grad():
        scores.masked_fill_(~mask, torch.finfo(scores.dtype).min)
    return _masked_softmax(scores, mask)


def _visible(generator: Generator, *shape: int, empty_row: bool = False) -> Tensor:
    """A random mask: each query may attend to some keys and not to some others; or row 1 to none."""
    mask = torch.rand(shape, generator=generator) < 0.5
    keys, rows = torch.arange(shape[-1]), torch.arange(shape[-2])[:, None]
    mask = (mask | (keys == rows % shape[-1])) & (keys != (rows + 1) % shape[-1])
    if empty_row:
        mask[..., 1, :] = False
    return mask


def _a_mask(generator: Generator) -> tuple[Tensor, ...]:
    return _normal(generator, 3, 5), _visible(generator, 3, 5)


def _padded_batch(generator: Generator) -> tuple[Tensor, ...]:
    lengths = torch.tensor([[4], [_whole(1, 3, generator)]])
    return _normal(generator, 2, 3, 4, 5), (torch.arange(5) < lengths)[:, None, None]


def _loud_and_quiet(generator: Generator) -> tuple[Tensor, ...]:
    """What is forbidden lies hundreds of thousands above what is allowed."""
    mask = _visible(generator, 4, 6)
    return torch.where(mask, -200_000.0, 12_000.0) + _normal(generator, 4, 6), mask


def _empty_row(generator: Generator) -> tuple[Tensor, ...]:
    return _normal(generator, 2, 4, 5), _visible(generator, 4, 5, empty_row=True)


def _half(generator: Generator) -> tuple[Tensor, ...]:
    """float16, what is forbidden near the largest number that it holds, and an empty row."""
    mask = _visible(generator, 4, 7, empty_row=True)
    scores = torch.where(mask, 0.0, 60_000.0) + _normal(generator, 4, 7)
    return scores.to(torch.float16), mask


def _forbidden_weights(inputs: tuple[Any, ...], outputs: dict[str, Tensor]) -> str | None:
    weights, mask = outputs["weights"], inputs[1]
    largest = weights.where(~mask, 0.0).abs().max()
    if largest > 0:
        return f"A key that the mask forbids has the weight {largest:.3g}; it must be exactly 0."
    sums, wanted = weights.sum(-1), mask.any(-1).to(weights.dtype)
    if (sums - wanted).abs().max() > 0.01:
        return f"The sums of the rows lie between {sums.min():.3g} and {sums.max():.3g}; they must be 1."
    return None


masked_softmax = Exercise(
    id="03.masked_softmax",
    kind="implement",
    concepts=("empty-row", "no-leak"),
    reference=_masked_softmax,
    returns=("weights",),
    cases=(
        Case("a mask", _a_mask),
        Case("a batch of heads under a padding mask", _padded_batch),
        Case(
            "forbidden scores near 12,000, allowed ones near -200,000",
            _loud_and_quiet,
            points=2,
            hint="which number lies below every score that can occur?",
        ),
        Case(
            "a query that may attend to nothing",
            _empty_row,
            hint="what does softmax make of a row in which all scores are alike?",
        ),
        Case(
            "gradients, with such a query",
            _empty_row,
            points=2,
            gradients=True,
            hint="is a NaN on the way forward wiped off on the way back, too?",
        ),
        Case(
            "float16, with such a query",
            _half,
            points=2,
            hint="which is the lowest number that float16 holds? Ask torch.finfo.",
        ),
    ),
    measures=(_forbidden_weights,),
    tolerance=3e-3,  # float16 keeps three digits
    mistakes=(
        Mistake(
            "the mask does nothing",
            "masked_fill returns a new tensor. Who keeps it?",
            lambda s, m: torch.softmax(s, -1),
        ),
        Mistake(
            "the mask is applied after softmax",
            "do the rows still sum to 1, and who else stands in the denominator?",
            lambda s, m: torch.softmax(s, -1) * m,
        ),
        Mistake(
            "the mask is applied after softmax, and the rows are divided by their sum",
            "right on paper. What is left for the allowed keys, if a forbidden one takes all of the 1?",
            lambda s, m: (torch.softmax(s, -1) * m) / (torch.softmax(s, -1) * m).sum(-1, keepdim=True),
        ),
        Mistake(
            "after softmax, divided by the sum plus a little",
            "the little number keeps NaN away. Does it bring back what the forbidden key has taken?",
            lambda s, m: (
                (torch.softmax(s, -1) * m) / ((torch.softmax(s, -1) * m).sum(-1, keepdim=True) + 1e-6)
            ),
        ),
        Mistake(
            "masked scores are set to 0",
            "what is exp(0)? Which score has the exponential 0?",
            _masked_with(lambda s, m: s * m),
        ),
        Mistake(
            "the mask is added to the scores as 0 and 1",
            "what does adding 1 to the allowed scores forbid?",
            _masked_with(lambda s, m: s + m),
        ),
        Mistake(
            "the mask is read the wrong way round",
            "here True means *may attend*. Which keys did you hide?",
            lambda s, m: _masked_softmax(s, ~m.expand(s.shape)),
        ),
        Mistake(
            "an empty row gives NaN",
            "what is 0/0, and what is 0 times NaN? Can you see to it that softmax never meets such a row?",
            _masked_with(_infinitely_low, _as_it_is),
        ),
        Mistake(
            "an empty row attends to everything alike",
            "if every score of a row is the same low number, what does softmax give, and what should it be?",
            _masked_with(lambda s, m: s.masked_fill(~m, torch.finfo(s.dtype).min), _as_it_is),
        ),
        Mistake(
            "an empty row attends as if there were no mask",
            "the same number was added to every score of that row. Does softmax notice?",
            _masked_with(lambda s, m: torch.where(m, s, s - 1e4), _as_it_is),
        ),
        Mistake(
            "-1e9, and an empty row attends to everything alike",
            "what do equal scores give? And is -1e9 a number in float16?",
            _masked_with(lambda s, m: s.masked_fill(~m, -1e9), _as_it_is),
        ),
        Mistake(
            "-1e9, which float16 does not hold",
            "where do the numbers of float16 end? Ask torch.finfo.",
            _masked_with(lambda s, m: s.masked_fill(~m, -1e9)),
        ),
        Mistake(
            "-1e9 by torch.where, which is minus infinity in float16",
            "what becomes of -1e9 in float16, and then of a row that holds nothing else?",
            _masked_with(
                lambda s, m: torch.where(m, s, -1e9),
                lambda w, m: w * m.any(-1, keepdim=True),
            ),
        ),
        Mistake(
            "-10,000 is not low enough",
            "what if an allowed score is lower still?",
            _masked_with(lambda s, m: s.masked_fill(~m, -1e4)),
        ),
        Mistake(
            "-10,000 is added: a loud forbidden key is still heard",
            "what is 12,000 - 10,000, beside an allowed score of -200,000? Replace, or add?",
            _masked_with(lambda s, m: s + torch.where(m, 0.0, -1e4).to(s.dtype)),
        ),
        Mistake(
            "NaN in the gradients, though the weights are right",
            "an infinite number is *added*. Does the way back know that those scores were thrown away?",
            lambda s, m: torch.softmax(s + torch.where(m, 0.0, -torch.inf).to(s.dtype), -1).nan_to_num(0.0),
        ),
        Mistake(
            "the scores are changed in place",
            "who else still needs the scores that you were given?",
            _in_place,
        ),
        Mistake(
            "the weights come back in another precision",
            "computing in float32 is a good idea. In which dtype does the caller want the weights?",
            lambda s, m: _masked_softmax(s.float(), m),
        ),
    ),
    right=(
        _masked_softmax_by_loop,
        _masked_softmax_opened,
        _masked_softmax_in_double,
        _masked_softmax_mended,
        lambda s, m: _masked_softmax(s.float(), m).to(s.dtype),
    ),
)

# --- find the bug: the test that finds a leak --------------------------------------------------------------


@functools.cache
def _projections(d: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """What the layers under test have learnt, by the width of the input: W_q W_k^T / sqrt(d), and W_v."""
    w_q, w_k, w_v = _normal(torch.Generator().manual_seed(d), 3, d, d, dtype=torch.float64) / math.sqrt(d)
    return (w_q @ w_k.T / math.sqrt(d)).to(dtype), w_v.to(dtype)


def _scores_and_values(x: Tensor) -> tuple[Tensor, Tensor]:
    between, w_v = _projections(x.shape[-1], x.dtype)
    return x @ between @ x.mT, x @ w_v


def _real(x: Tensor, lengths: Tensor) -> Tensor:
    return torch.arange(x.shape[1]) < lengths[:, None]


def _may(x: Tensor, lengths: Tensor, causal: bool, diagonal: int = 0) -> Tensor:
    """(batch, queries, keys)"""
    may = _real(x, lengths)[:, None, :].expand(-1, x.shape[1], -1)
    return may.tril(diagonal) if causal else may


def _layer(
    *,
    may: Callable[[Tensor, Tensor, bool], Tensor] = _may,
    to_weights: Callable[[Tensor, Tensor], Tensor] = _masked_softmax,
    before: Callable[[Tensor, Tensor], Tensor] = lambda x, lengths: x,
) -> Callable[..., Tensor]:
    """Self-attention of padded sentences, any of its parts replaced. `before` acts on the input."""

    def layer(x: Tensor, lengths: Tensor, causal: bool = False) -> Tensor:
        scores, value = _scores_and_values(before(x, lengths))
        return to_weights(scores, may(x, lengths, causal)) @ value

    return layer


def _layer_by_sentence(x: Tensor, lengths: Tensor, causal: bool = False) -> Tensor:
    output = torch.zeros_like(x)
    for b, length in enumerate(lengths.tolist()):
        between, w_v = _projections(x.shape[-1], x.dtype)
        sentence = x[b, :length]
        output[b, :length] = attend(
            sentence @ between, sentence, sentence @ w_v, score=dot_product, causal=causal
        )[0]
    return output


def _weights_with_a_shift(scores: Tensor, may: Tensor) -> Tensor:
    # Bounded, so that it stays a matter of rounding whatever the input.
    return _masked_softmax(scores + scores.mean().nan_to_num(0.0).tanh(), may)


def _unmasked_if_causal(x: Tensor, lengths: Tensor, causal: bool) -> Tensor:
    return _may(x, torch.full_like(lengths, x.shape[1]) if causal else lengths, causal)


def _late_causal(x: Tensor, lengths: Tensor, causal: bool = False) -> Tensor:
    """Only the future's weights are wiped out after softmax; padding is masked before it."""
    scores, value = _scores_and_values(x)
    weights = _masked_softmax(scores, _may(x, lengths, False))
    return (weights.tril() if causal else weights) @ value


def _across_the_batch(x: Tensor, lengths: Tensor, causal: bool = False) -> Tensor:
    """Each position attends to the same position of the sentences before it and after it."""
    scores, value = _scores_and_values(x.transpose(0, 1))
    may = _real(x, lengths).T[:, None, :].expand(-1, len(x), -1)
    return (_masked_softmax(scores, may.tril() if causal else may) @ value).transpose(0, 1)


def _normalised_over_the_batch(x: Tensor, lengths: Tensor) -> Tensor:
    centred = x - x.mean((0, 1))
    return centred / (centred.square().mean((0, 1)).sqrt() + 1e-3)


_UNDER_TEST = (
    Mistake(
        "the right code",
        "this one is right, to the letter. What does your test demand that the text does not say? (NaN "
        "passes any mask, and gradients do not come through `attention`.)",
        _layer(),
        equivalent=True,
    ),
    Mistake(
        "the right code, one sentence at a time",
        "this one is right. It gives zeros where padding stands, others do not. Who reads those places?",
        _layer_by_sentence,
        equivalent=True,
    ),
    Mistake(
        "equivalent: with causal=True the padding is not masked",
        "this one is right: for every real word the pads on the right lie in the future, which is hidden "
        "already. Do you look at the outputs *of* the pads? It would matter with padding on the left.",
        _layer(may=_unmasked_if_causal),
        equivalent=True,
    ),
    Mistake(
        "equivalent: one number, made of the whole batch, is added to all scores",
        "this one looks like a leak and is none: softmax does not notice a constant. Only the last digit "
        "moves. How small a move do you call none?",
        _layer(to_weights=_weights_with_a_shift),
        equivalent=True,
    ),
    Mistake(
        "the future is not masked",
        "with causal=True, change a word. Which outputs must stand still?",
        _layer(may=lambda x, lengths, causal: _may(x, lengths, False)),
    ),
    Mistake(
        "the next word is visible, tril(+1)",
        "do you change a word and look at the output *just before* it?",
        _layer(may=lambda x, lengths, causal: _may(x, lengths, causal, diagonal=1)),
    ),
    Mistake(
        "the future is masked after softmax",
        "the weights look perfect. Do you change a future word, in an input of ordinary random numbers?",
        _late_causal,
    ),
    Mistake(
        "causal and padding meet with |",
        "do you try both masks at once: causal=True and unequal lengths?",
        _layer(
            may=lambda x, lengths, causal: (
                _may(x, lengths, False) | _may(x, torch.full_like(lengths, x.shape[1]), True)
                if causal
                else _may(x, lengths, False)
            )
        ),
    ),
    Mistake(
        "a word does not see itself, tril(-1)",
        "a test of leaks alone likes what is blind. Which inputs *must* move the first output?",
        _layer(may=lambda x, lengths, causal: _may(x, lengths, causal, diagonal=-1)),
    ),
    Mistake(
        "the padding is not masked",
        "with unequal lengths, change a pad. Which outputs must stand still?",
        _layer(may=lambda x, lengths, causal: _may(x, torch.full_like(lengths, x.shape[1]), causal)),
    ),
    Mistake(
        "the padding is masked on the query axis",
        "change a pad. Do the real words move?",
        _layer(
            may=lambda x, lengths, causal: (
                _may(x, torch.full_like(lengths, x.shape[1]), causal) & _real(x, lengths)[:, :, None]
            )
        ),
    ),
    Mistake(
        "the pads are set to zero, not masked",
        "changing a pad moves nothing here. Does a sentence give the same when it is filled up further?",
        _layer(
            before=lambda x, lengths: x * _real(x, lengths)[..., None],
            may=lambda x, lengths, causal: _may(x, torch.full_like(lengths, x.shape[1]), causal),
        ),
    ),
    Mistake(
        "all sentences get the length of the longest",
        "does your batch hold a sentence that is shorter than another one?",
        _layer(may=lambda x, lengths, causal: _may(x, lengths.amax().expand_as(lengths), causal)),
    ),
    Mistake(
        "the last real word of each sentence is hidden",
        "a test of leaks alone likes what is blind. Does the last real word move the others?",
        _layer(may=lambda x, lengths, causal: _may(x, lengths - 1, causal)),
    ),
    Mistake(
        "attention runs across the batch (batch_first forgotten)",
        "change one sentence. Which other sentence may move? And which words of its own must?",
        _across_the_batch,
    ),
    Mistake(
        "the input is normalised over the whole batch",
        "change one sentence. Which other sentence may move?",
        _layer(before=_normalised_over_the_batch),
    ),
)

Layer = Callable[..., Tensor]


def _sentences(*, equal: bool = False, count: int = 2) -> tuple[Tensor, Tensor]:
    x = _normal(torch.Generator().manual_seed(3), 2, 5, 4, dtype=torch.float64)
    return x[:count], torch.tensor([5, 5] if equal else [3, 5])[:count]


def _probe(
    layer: Layer, x: Tensor, lengths: Tensor, causal: bool
) -> tuple[Tensor, Callable[[int, int], Tensor]]:
    """The output, and which of it (batch, n) moves when position j of sentence b holds another vector."""
    output = layer(x, lengths, causal)

    def moved(b: int, j: int) -> Tensor:
        changed = x.clone()
        changed[b, j] = torch.linspace(-1.0, 1.5, x.shape[-1], dtype=x.dtype)
        return (layer(changed, lengths, causal) - output).abs().amax(-1) > 1e-6

    return output, moved


def _test_of_maps(layer: Layer) -> None:
    """Exactly what may move, moves; and a sentence is the same without its padding."""
    x, lengths = _sentences()
    places, real = torch.arange(5), _real(x, lengths)
    for causal in (True, False):
        output, moved = _probe(layer, x, lengths, causal)
        for j in (0, 2, 4):  # the first word, the last one, a pad
            expected = torch.zeros(2, 5, dtype=torch.bool)
            if j < 3:
                expected[0, :3] = (places[:3] >= j) if causal else True
            assert torch.equal(moved(0, j)[real], expected[real])
        assert torch.allclose(layer(x[:1, :3], lengths[:1], causal), output[:1, :3], atol=1e-6)


def _test_all_at_once(layer: Layer) -> None:
    """For each output: all that it must not see becomes noise, and it stands still; all that it may see
    becomes noise one by one, and it moves."""
    x, lengths = _sentences()
    noise = _normal(torch.Generator().manual_seed(4), 2, 5, 4, dtype=torch.float64)
    for causal in (True, False):
        output, moved = _probe(layer, x, lengths, causal)
        for b, i in ((0, 0), (0, 1), (0, 2), (1, 3)):
            sees = torch.zeros(2, 5, dtype=torch.bool)
            sees[b, : i + 1 if causal else int(lengths[b])] = True
            still = layer(torch.where(sees[..., None], x, noise), lengths, causal)
            assert torch.allclose(still[b, i], output[b, i], atol=1e-6)
            for j in sees[b].nonzero()[:, 0].tolist():
                assert moved(b, j)[b, i]
        further = F.pad(x[:1], (0, 0, 0, 2), value=0.5)
        assert torch.allclose(layer(further, lengths[:1], causal)[0, :3], output[0, :3], atol=1e-6)


def _test_by_prefixes(layer: Layer) -> None:
    """Without perturbing anything: a causal output is that of the prefix alone, a padded one of the sentence
    alone; and every real word of the sentence counts."""
    x, lengths = _sentences()
    for causal in (True, False):
        output = layer(x, lengths, causal)
        for b, length in enumerate(lengths.tolist()):
            for end in range(1, length + 1) if causal else (length,):
                alone = layer(x[b : b + 1, :end], torch.tensor([end]), causal)
                assert (alone[0, -1] - output[b, end - 1]).abs().max() < 1e-5
                if not causal:
                    assert (alone[0] - output[b, :end]).abs().max() < 1e-5
    for end in (1, 3):  # its last word is seen, by others too
        assert _probe(layer, x[:1, :end], torch.tensor([end]), False)[1](0, end - 1).all()
    assert _probe(layer, x[:1, :3], torch.tensor([3]), True)[1](0, 0).all()


def _test_by_a_table(layer: Layer) -> None:
    """Who depends on whom, for all pairs of real words of three sentences, in float32."""
    x = _normal(torch.Generator().manual_seed(5), 3, 4, 6)
    lengths = torch.tensor([1, 4, 2])
    sentence, place = (i.reshape(-1) for i in torch.meshgrid(torch.arange(3), torch.arange(4), indexing="ij"))
    real = place < lengths[sentence]
    for causal in (False, True):
        sees = (sentence[:, None] == sentence) & real
        if causal:
            sees = sees & (place <= place[:, None])
        output, columns = layer(x, lengths, causal), []
        for b, j in zip(sentence.tolist(), place.tolist(), strict=True):
            changed = x.clone()
            changed[b, j] *= -0.5
            difference = (layer(changed, lengths, causal) - output).reshape(12, 6)
            columns.append(difference.abs().amax(-1) > 1e-5)
        assert torch.equal(torch.stack(columns, -1)[real], sees[real])
        one_word = layer(x[:1, :1], lengths[:1], causal)
        assert torch.allclose(one_word, layer(x[:1], lengths[:1], causal)[:, :1], atol=1e-5)


def _test_of_shapes(layer: Layer) -> None:
    x, lengths = _sentences()
    for causal in (True, False):
        output = layer(x, lengths, causal)
        assert output.shape == x.shape
        assert output.isfinite().all()


def _no_leak(
    layer: Layer,
    x: Tensor,
    lengths: Tensor,
    *,
    modes: tuple[bool, ...] = (True, False),
    padding: bool = True,
    neighbour: bool = True,
) -> None:
    """A test of leaks alone, as thorough as it is told to be."""
    length = int(lengths[0])
    for causal in modes:
        _, moved = _probe(layer, x, lengths, causal)
        if causal:
            assert not moved(0, length - 1)[0, : length - 1].any()
        if padding:
            assert not moved(0, -1)[0, :length].any()
        if neighbour:
            assert not moved(1, 0)[0, :length].any()


def _same_alone(layer: Layer, x: Tensor, lengths: Tensor) -> None:
    for causal in (True, False):
        alone = layer(x[:1, : int(lengths[0])], lengths[:1], causal)
        assert torch.allclose(alone, layer(x, lengths, causal)[:1, : int(lengths[0])], atol=1e-6)


def _test_of_the_future(layer: Layer) -> None:
    _no_leak(layer, *_sentences(equal=True), modes=(True,), padding=False, neighbour=False)


def _test_without_neighbours(layer: Layer) -> None:
    _no_leak(layer, *_sentences(), neighbour=False)


def _test_of_equal_lengths(layer: Layer) -> None:
    _no_leak(layer, *_sentences(equal=True), padding=False)


def _test_without_causal(layer: Layer) -> None:
    _no_leak(layer, *_sentences(), modes=(False,))


def _test_of_changed_values_only(layer: Layer) -> None:
    _no_leak(layer, *_sentences())


def _test_of_leaks_alone(layer: Layer) -> None:
    _no_leak(layer, *_sentences())
    _same_alone(layer, *_sentences())


def _test_of_zeros(layer: Layer) -> None:
    x, lengths = _sentences()
    _no_leak(layer, torch.zeros_like(x), lengths)


def _test_of_one_sentence(layer: Layer) -> None:
    x, _ = _sentences(count=1)
    lengths = torch.tensor([5])
    for causal in (True, False):
        expected = torch.arange(5) >= 1 if causal else torch.ones(5, dtype=torch.bool)
        assert torch.equal(_probe(layer, x, lengths, causal)[1](0, 1)[0], expected)


def _test_of_pads_too(layer: Layer) -> None:
    x, lengths = _sentences()
    for causal in (True, False):
        assert not _probe(layer, x, lengths, causal)[1](0, 4)[0].any()
    _test_of_maps(layer)


def _test_to_the_last_digit(layer: Layer) -> None:
    x, lengths = _sentences()
    changed = x.clone()
    changed[0, 1:] = 1.0
    assert torch.equal(layer(changed, lengths, True)[0, 0], layer(x, lengths, True)[0, 0])
    assert torch.equal(layer(changed, lengths, False)[1], layer(x, lengths, False)[1])
    _test_of_maps(layer)


def _test_that_always_fails(layer: Layer) -> None:
    layer(*_sentences())
    raise AssertionError("wrong")


leak_test = Exercise(
    id="03.leak_test",
    kind="find the bug",
    concepts=("no-leak", "mask-algebra"),
    reference=_test_of_maps,
    cases=trials(*_UNDER_TEST),
    mistakes=(
        Mistake(
            "it catches nothing: no number is asserted",
            "does it compare two outputs? Does it `assert` what it finds, not print or return it?",
            _test_of_shapes,
        ),
        Mistake(
            "only the future is changed",
            "what else must an output not depend on? There are two more.",
            _test_of_the_future,
        ),
        Mistake(
            "no other sentence of the batch is ever changed",
            "what could come from a neighbour in the batch, and would your test see it?",
            _test_without_neighbours,
        ),
        Mistake(
            "no padding is tried that the causal mask does not hide already",
            "are there unequal lengths in your batch, and do you try them with causal=False?",
            _test_of_equal_lengths,
        ),
        Mistake(
            "causal=True is never tried",
            "which of the three leaks exists with causal=True only?",
            _test_without_causal,
        ),
        Mistake(
            "the amount of padding never changes, and blindness is not looked for",
            "does a sentence give the same alone and filled up? And do the inputs that must count, count?",
            _test_of_changed_values_only,
        ),
        Mistake(
            "leaks are found, blindness is not",
            "a layer that sees nothing at all leaks nothing. Which outputs *must* move?",
            _test_of_leaks_alone,
        ),
        Mistake(
            "inputs of zeros hide leaks",
            "if a query is zero, what are all its scores, whatever the keys?",
            _test_of_zeros,
        ),
        Mistake(
            "one sentence, without padding",
            "what can go wrong only where a second, longer sentence stands in the batch?",
            _test_of_one_sentence,
        ),
        Mistake(
            "the outputs at the padding are looked at",
            "who reads what stands at a pad's place? It may be anything.",
            _test_of_pads_too,
        ),
        Mistake(
            "floating-point numbers compared with ==",
            "another order of the same sums changes the last digit. How small a move is none?",
            _test_to_the_last_digit,
        ),
        Mistake(
            "a test that fails on everything", "does it pass on the right code?", _test_that_always_fails
        ),
    ),
    right=(_test_all_at_once, _test_by_prefixes, _test_by_a_table),
)

# --- design: two keys a layer ------------------------------------------------------------------------------


def _looking_back(
    distances: Callable[[int, int, int], tuple[int, ...]],
) -> Callable[[int, int], Tensor]:
    """Masks in which, in layer l, each query sees the keys at distances(n, layers, l) before it."""

    def design(n: int, layers: int) -> Tensor:
        offset = torch.arange(n)[:, None] - torch.arange(n)
        return torch.stack(
            [
                torch.stack([offset == distance for distance in distances(n, layers, layer)]).any(0)
                for layer in range(layers)
            ]
        )

    return design


_doubling = _looking_back(lambda n, layers, layer: (0, 2**layer))


def _doubling_by_loop(n: int, layers: int) -> Tensor:
    result = torch.zeros(layers, n, n, dtype=torch.bool)
    for layer in range(layers):
        for i in range(n):
            result[layer, i, i] = True
            result[layer, i, max(0, i - 2**layer)] = True
    return result


def _doubling_by_eye(n: int, layers: int) -> Tensor:
    eye = torch.eye(n)
    return (
        torch.stack([eye + torch.diag(torch.ones(max(n - 2**k, 0)), -(2**k))[:n, :n] for k in range(layers)])
        > 0
    )


def _what_reaches(n: int, layers: int, result: Tensor) -> dict[str, Tensor]:
    if result.dtype != torch.bool:
        raise ValueError(f"the masks should be boolean (True = may attend), their dtype is {result.dtype}")
    if result.shape != (layers, n, n):
        raise ValueError(f"the masks should have the shape ({layers}, {n}, {n}), not {tuple(result.shape)}")
    reached = torch.eye(n, dtype=torch.float64)
    for mask in result:
        reached = (mask.double() @ reached > 0).double()
    return {
        "keys of the busiest query": result.sum(-1).amax().clamp(min=2),
        "reaches[output, input]": reached > 0,
    }


def _says_what_reaches(inputs: tuple[Any, ...], seen: dict[str, Tensor]) -> str | None:
    n, _ = inputs
    busiest = int(seen["keys of the busiest query"])
    if busiest > 2:
        return f"One of the queries may look at {busiest} keys; two are allowed."
    reaches, wanted = seen["reaches[output, input]"], masks.causal(n)
    i, j = (int(k) for k in (reaches != wanted).nonzero()[0])
    holds = "nothing of the input" if wanted[i, j] else "something of the input"
    return f"After the last layer the output at position {i} holds {holds} at position {j}."


few_keys = Exercise(
    id="03.few_keys",
    kind="design",
    concepts=("mask-algebra", "no-leak"),
    reference=_doubling,
    returns=("masks",),
    view=_what_reaches,
    measures=(_says_what_reaches,),
    cases=(
        Case("8 positions, 3 layers", lambda _: (8, 3)),
        Case("13 positions, 4 layers", lambda _: (13, 4)),
        Case("32 positions, 5 layers", lambda _: (32, 5), points=2),
    ),
    mistakes=(
        Mistake(
            "the same narrow window in every layer",
            "each layer adds one step. How far do three layers get, and how far is it to position 0?",
            _looking_back(lambda n, layers, layer: (0, 1)),
        ),
        Mistake(
            "the distances grow too slowly (1, 2, 3, ...)",
            "which is the farthest input that is reached, if every layer takes its longer step?",
            _looking_back(lambda n, layers, layer: (0, layer + 1)),
        ),
        Mistake(
            "the distances begin with 2",
            "which distances are sums of 2, 4 and 8? Which ones are missing?",
            _looking_back(lambda n, layers, layer: (0, 2 ** (layer + 1))),
        ),
        Mistake(
            "the distances grow too fast (1, 3, 9, ...)",
            "write down all sums of some of your distances. Which number is missing first?",
            _looking_back(lambda n, layers, layer: (0, 3**layer)),
        ),
        Mistake(
            "the own position is not seen",
            "nothing but attention hands a vector on here. How does an input stay where it is?",
            _looking_back(lambda n, layers, layer: (2**layer,)),
        ),
        Mistake(
            "the triangle is upside down: the future is seen",
            "row i is what query i may see. Is i - 1 left or right of the diagonal?",
            lambda n, layers: _doubling(n, layers).mT,
        ),
        Mistake(
            "steps to both sides",
            "may anything of position 5 arrive at position 4?",
            _looking_back(lambda n, layers, layer: (2**layer, -(2**layer))),
        ),
        Mistake(
            "a ring: the first positions see the last ones",
            "what does roll do at the edge? Or an index of i - 4, where i is 1?",
            lambda n, layers: torch.stack(
                [
                    torch.eye(n, dtype=torch.bool) | torch.eye(n, dtype=torch.bool).roll(-(2**k), 1)
                    for k in range(layers)
                ]
            ),
        ),
        Mistake(
            "all of the past in every layer",
            "how many keys may one query have?",
            lambda n, layers: masks.causal(n).repeat(layers, 1, 1),
        ),
        Mistake(
            "three keys in every layer",
            "how many keys may one query have, its own included?",
            _looking_back(lambda n, layers, layer: (0, 2**layer, 2 ** (layer + 1))),
        ),
        Mistake(
            "all distances in every layer",
            "how many keys may one query have? Which distance does *each* layer need?",
            _looking_back(lambda n, layers, layer: (0, *(2**k for k in range(layers)))),
        ),
        Mistake(
            "the masks are the wrong way round",
            "here True means *may attend*. How many keys does yours allow?",
            lambda n, layers: ~_doubling(n, layers),
        ),
        Mistake(
            "a helper: everybody sees position 0 and itself",
            "what has position 0 to hand out, if it may see nobody but itself?",
            lambda n, layers: (torch.eye(n, dtype=torch.bool) | (torch.arange(n) == 0)).repeat(layers, 1, 1),
        ),
        Mistake(
            "the same long step in every layer",
            "which distances are sums of one and the same number?",
            _looking_back(lambda n, layers, layer: (0, 2 ** (layers - 1))),
        ),
    ),
    right=(
        _doubling_by_loop,
        _doubling_by_eye,
        lambda n, layers: _doubling(n, layers).flip(0),
        _looking_back(lambda n, layers, layer: (0, 2 ** ((layer + 1) % layers))),
    ),
)

EXERCISES = (true_means, mask_claim, masked_softmax, generation_mask, leak_test, few_keys)
