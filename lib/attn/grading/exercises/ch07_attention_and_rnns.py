"""Chapter 07: attention beside recurrent networks."""

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


def _normal(generator: Generator, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)


def _integer(generator: Generator, low: int, high: int) -> int:
    """low .. high, both included."""
    return int(torch.randint(low, high + 1, (), generator=generator))


# --- predict: how many steps, one after the other? ----------------------------------------------------------

_RNN, _BOTH, _STACK, _CONV = "RNN", "two directions", "three layers", "convolutions"
_DILATED, _ATTENTION, _SCAN, _WRITING = "dilated convolutions", "attention", "scan", "writing"

steps_in_a_row = Exercise(
    id="07.steps_in_a_row",
    kind="predict",
    concepts=("sequential-steps", "path-length"),
    reference={
        _RNN: 100,
        _BOTH: 100,
        _STACK: 102,
        _CONV: 50,
        _DILATED: 7,
        _ATTENTION: 1,
        _SCAN: 7,
        _WRITING: 40,
    },
    tolerance=1e-3,
    cases=values(
        _RNN,
        _BOTH,
        _STACK,
        _CONV,
        _DILATED,
        _ATTENTION,
        _SCAN,
        _WRITING,
        hints={
            _RNN: "which cell must be ready before the cell at position 99 can begin? And before that one?",
            _BOTH: "does the direction from right to left have to wait for the other one?",
            _STACK: "when the first layer is ready with position 0, who can begin at once?",
            _CONV: "how many places further does one such layer carry what position 0 holds?",
            _DILATED: "layer after layer, how far has it come: 1, 1 + 2, 1 + 2 + 4, ...?",
            _ATTENTION: "for which of its 100 outputs does attention need another of its outputs?",
            _SCAN: "how many positions does the state at one place take in after 1, 2, 3 rounds?",
            _WRITING: "what must be there before the last word can be computed? And before the first?",
        },
    ),
    mistakes=(
        Mistake(
            "the layer is counted, not the cell calls",
            "a recurrent layer is one function. How often is its cell called, each time "
            "with the last result?",
            {_RNN: 1},
        ),
        Mistake(
            "one call too few: the last vector must be read, too",
            "99 states lie before the last position. Which call makes the state *at* the last position?",
            {_RNN: 99, _BOTH: 99},
        ),
        Mistake(
            "the two directions are run one after the other",
            "does the right-to-left run need any result of the left-to-right run?",
            {_BOTH: 200},
        ),
        Mistake(
            "the two directions are taken to share the way",
            "both runs read all 100 vectors. Do they meet in the middle, or does each go to its own end?",
            {_BOTH: 50},
        ),
        Mistake(
            "each layer is made to wait for the whole of the one before",
            "at position 0 the second layer needs the first layer's state at position 0. What else?",
            {_STACK: 300},
        ),
        Mistake(
            "each layer is made to wait for the whole of the one before, and a call is left out in each",
            "at position 0 the second layer needs the first layer's state at position 0. What else?",
            {_STACK: 297},
        ),
        Mistake(
            "each layer is made to wait for all of the one before but its last state",
            "at position 0 the second layer needs the first layer's state at position 0. What else?",
            {_STACK: 298},
        ),
        Mistake(
            "the layers above the first are forgotten",
            "when the first layer has its last state, are the others ready as well?",
            {_STACK: 100},
        ),
        Mistake(
            "one layer is forgotten",
            "when the first layer has its last state, how many layers still have their last call to do?",
            {_STACK: 101},
        ),
        Mistake(
            "a step is added for each layer, the first one, too",
            "the first layer alone takes 100 steps. What does each *further* one add?",
            {_STACK: 103},
        ),
        Mistake(
            "each convolution is taken to carry one place only",
            "width 5 has its centre and how many neighbours on each side?",
            {_CONV: 99},
        ),
        Mistake(
            "each convolution is taken to carry over its whole width",
            "width 5 has its centre and how many neighbours on each side?",
            {_CONV: 20},
        ),
        Mistake(
            "each convolution is taken to carry four places",
            "the window grows by four a layer, on both sides together. How many of these "
            "are on the one side?",
            {_CONV: 25},
        ),
        Mistake(
            "the last, half-used convolution is left out",
            "after 49 layers, how far has vector 0 come? Is that position 99?",
            {_CONV: 49},
        ),
        Mistake(
            "half a layer",
            "there is no half layer. Are 49 enough?",
            {_CONV: 49.5},
        ),
        Mistake(
            "a part of a round, or of a layer",
            "log2(100) is no whole number. Are 6 rounds enough?",
            {_DILATED: math.log2(100), _SCAN: math.log2(100)},
        ),
        Mistake(
            "the reach is taken to be multiplied by the width, not doubled",
            "dilations 1, 2, 4, ... each double. With which dilations would the reach grow threefold?",
            {_DILATED: 5},
        ),
        Mistake(
            "the logarithm is rounded down",
            "six doublings make 64. Is that enough for 100?",
            {_DILATED: 6, _SCAN: 6},
        ),
        Mistake(
            "the dilations are taken not to help",
            "how far does the layer of dilation 16 carry a vector in one step?",
            {_DILATED: 99},
        ),
        Mistake(
            "the work is counted, not what must wait",
            "100 queries meet 100 keys: much to compute. Which of these products needs another's result?",
            {_ATTENTION: 10_000},
        ),
        Mistake(
            "attention is taken to read the keys one after the other",
            "which of the scores needs another score before it can be computed?",
            {_ATTENTION: 100},
        ),
        Mistake(
            "the scan is taken for the loop that it replaces",
            "in round 3 a state takes in what stands 4 places before. How many positions has it seen then?",
            {_SCAN: 100},
        ),
        Mistake(
            "rounds up and rounds down are both counted",
            "some scans need fewer operations and run twice through a tree. What does the scan here do?",
            {_SCAN: 14},
        ),
        Mistake(
            "writing is taken to be as parallel as reading",
            "the 60 words are there. Where does word 65 come from, when the model itself writes?",
            {_WRITING: 1},
        ),
        Mistake(
            "the words that are given are read one after the other, too",
            "attention reads 60 words that are there in how many steps?",
            {_WRITING: 100},
        ),
        Mistake(
            "reading the given words is counted as a call that writes nothing",
            "when the decoder has read the 60 words, what does its last output predict?",
            {_WRITING: 41},
        ),
        Mistake(
            "the last new word is left out",
            "the last word, too, is an output of the decoder. Of which call?",
            {_WRITING: 39},
        ),
        Mistake(
            "all words that are read are counted, not what must wait",
            "a new word attends to all words before it, in one step. How many such steps follow each other?",
            {_WRITING: sum(range(60, 100))},
        ),
    ),
    right=(
        {
            _RNN: 100.0,
            _BOTH: 100,
            _STACK: 100 + 3 - 1,
            _CONV: math.ceil(99 / 2),
            _DILATED: math.ceil(math.log2(100)),
            _ATTENTION: True + 0,
            _SCAN: (100 - 1).bit_length(),
            _WRITING: torch.tensor(40),
        },
        {
            _WRITING: np.int64(40),
            _SCAN: np.ceil(np.log2(100)),
            _ATTENTION: 1.0,
            _DILATED: torch.tensor(7),
            _CONV: 50,
            _STACK: 102,
            _BOTH: 1e2,
            _RNN: 100,
        },
        {
            _RNN: sum(1 for _ in range(100)),
            _BOTH: max(100, 100),
            _STACK: 102.0,
            _CONV: -(-99 // 2),
            _DILATED: 7.0,
            _ATTENTION: 1,
            _SCAN: 7,
            _WRITING: 40.0,
        },
    ),
)

# --- predict: what is left after a hundred steps ------------------------------------------------------------

_PLAIN, _EXPLODES, _GATE, _HALF, _BIAS, _WORDS = "plain", "explodes", "gate", "half", "bias", "words"

after_100_steps = Exercise(
    id="07.after_100_steps",
    kind="predict",
    concepts=("path-length", "long-range-recall", "bahdanau"),
    reference={
        _PLAIN: 0.9**-100,
        _EXPLODES: 1.1**100,
        _GATE: 0.99**100,
        _HALF: 3,
        _BIAS: math.log(0.5**0.01 / (1 - 0.5**0.01)),
        _WORDS: 274,
    },
    tolerance=0.003,  # three digits
    cases=values(
        _PLAIN,
        _EXPLODES,
        _GATE,
        _HALF,
        _BIAS,
        _WORDS,
        hints={
            _PLAIN: "from one state to the next the gradient is multiplied by which number? How often?",
            _EXPLODES: "from one state to the next the gradient is multiplied by which number? How often?",
            _GATE: "by which number is the memory cell's gradient multiplied in each of the 100 steps?",
            _HALF: "a whole number: compute the gate first, sigmoid(1). What is its square, its cube?",
            _BIAS: "which gate f has f¹⁰⁰ = 1/2? Then: for which b is sigmoid(b) equal to this f?",
            _WORDS: "a whole number: how many bits has the whole vector, and how many has one word?",
        },
        # 99 factors of the gate leave nearly as much as 100 do; and 273.7 steps or words are not 274.
        tolerances={_GATE: 1e-4, _HALF: 2e-4, _WORDS: 9e-4},
    ),
    mistakes=(
        Mistake(
            "what is left is given, where its inverse was asked for",
            "one part in how many is left? Should this number be above 1 or below?",
            {_PLAIN: 0.9**100},
        ),
        Mistake(
            "the factors are added up",
            "two steps in a row: is it 0.9 + 0.9 or 0.9 · 0.9? And with 1.1, and with the gate?",
            {_PLAIN: 90, _EXPLODES: 110, _GATE: 99},
        ),
        Mistake(
            "the losses of all steps are added up",
            "10 % of what is lost in each step: of the first gradient, or of what is still there?",
            {_PLAIN: 10, _EXPLODES: 11},
        ),
        Mistake(
            "one step too few: from state 0 to state 100 there are 100 steps",
            "how many steps lead from state 0 to state 1? And to state 100?",
            {_PLAIN: 0.9**-99, _EXPLODES: 1.1**99, _GATE: 0.99**99},
        ),
        Mistake(
            "one step only",
            "the chain rule goes through every state on the way. How many factors has it?",
            {_PLAIN: 1 / 0.9, _EXPLODES: 1.1, _GATE: 0.99},
        ),
        Mistake(
            "two digits only",
            "three digits, please. What is the third?",
            {_PLAIN: 38_000, _EXPLODES: 14_000, _GATE: 0.37, _BIAS: 5.0},
        ),
        Mistake(
            "the inverse is given",
            "a factor of 1.1 at each step: does the gradient grow or shrink? And with 0.99?",
            {_EXPLODES: 1.1**-100, _GATE: 0.99**-100},
        ),
        Mistake(
            "growing and shrinking are taken to mirror each other",
            "is 1.1 · 0.9 equal to 1?",
            {_EXPLODES: 0.9**-100},
        ),
        Mistake(
            "an LSTM is taken to lose nothing",
            "a forget gate of 0.99 is near 1. Is it 1?",
            {_GATE: 1},
        ),
        Mistake(
            "what is lost is given, not what is left",
            "the question is for the part that arrives.",
            {_GATE: 1 - 0.99**100},
        ),
        Mistake(
            "the gate is taken to be its bias",
            "the bias goes through the sigmoid first. What is sigmoid(1)? A gate of 1 would never forget.",
            {_HALF: math.inf},
        ),
        Mistake(
            "half a step cannot be done: the first whole number of steps is asked for",
            "after how many *whole* steps is less than half left for the first time?",
            {_HALF: math.log(0.5) / math.log(1 / (1 + math.exp(-1)))},
        ),
        Mistake(
            "rounded down: after two steps more than half is left",
            "sigmoid(1) is 0.73. What is its square, more than one half or less?",
            {_HALF: 2},
        ),
        Mistake(
            "the gate is given, not the bias behind it",
            "this f is what comes out of the sigmoid. What must go in?",
            {_BIAS: 0.5**0.01},
        ),
        Mistake(
            "each step is made to lose a hundredth of the half",
            "1 - 0.5/100 is near the f you need, and not it: after 100 steps it leaves "
            "0.606. Which f leaves half?",
            {_BIAS: math.log(0.995 / 0.005)},
        ),
        Mistake(
            "the sign of the bias is turned",
            "a gate above one half: does the sigmoid get there with a negative number?",
            {_BIAS: -math.log(0.5**0.01 / (1 - 0.5**0.01))},
        ),
        Mistake(
            "half is asked of each step, not of all 100 together",
            "sigmoid(0) = 1/2. How much is left of a gradient after 100 such steps?",
            {_BIAS: 0},
        ),
        Mistake(
            "one word is counted as one number of 16 bits",
            "2^15 is 32768: are 16 bits needed to name one of 32,000 words?",
            {_WORDS: 257},
        ),
        Mistake(
            "one word is counted as one number, and the last sentence that fits is given",
            "2^15 is 32768: are 16 bits needed to name one of 32,000 words? And which length does *not* fit?",
            {_WORDS: 256},
        ),
        Mistake(
            "no whole number of words",
            "can a sentence have a part of a word? Which whole number is the first that does *not* fit?",
            {_WORDS: 4096 / math.log2(32_000)},
        ),
        Mistake(
            "the last sentence that still fits, not the first that does not",
            "273 words may just fit. The question is for the first length that surely does not.",
            {_WORDS: 273},
        ),
        Mistake(
            "numbers are counted, not bits: the vocabulary is divided by the width",
            "32,000 / 256 is how many words share one number. What can the 16 bits of a number tell apart?",
            {_WORDS: 125},
        ),
        Mistake(
            "the natural logarithm instead of the one to base 2",
            "how many yes-no questions name one of 32,000 words? log2 counts them. Which "
            "logarithm did you use?",
            {_WORDS: math.floor(4096 / math.log(32_000)) + 1},
        ),
    ),
    right=(
        {
            _PLAIN: 1 / 0.9**100,
            _EXPLODES: math.exp(100 * math.log(1.1)),
            _GATE: 0.366,
            _HALF: 3.0,
            _BIAS: 4.97,
            _WORDS: math.ceil(256 * 16 / math.log2(32_000)),
        },
        {
            _PLAIN: 37_600,
            _EXPLODES: 13_800,
            _GATE: torch.tensor(0.99) ** 100,
            _HALF: torch.tensor(3),
            _BIAS: torch.logit(torch.tensor(0.5, dtype=torch.float64) ** (1 / 100)),
            _WORDS: torch.tensor(274),
        },
        {
            _WORDS: np.int64(274),
            _BIAS: -np.log(2**0.01 - 1),
            _HALF: np.ceil(np.log(0.5) / np.log(1 / (1 + np.exp(-1)))),
            _GATE: np.float64(0.99) ** 100,
            _EXPLODES: 13780.6,
            _PLAIN: 37649.0,
        },
    ),
)

# --- implement: a linear recurrence as a scan ---------------------------------------------------------------

Pair = tuple[Tensor, Tensor]


def _doublings(length: int) -> int:
    """How often 1 must be doubled to reach the length."""
    return (length - 1).bit_length()


def _earlier(x: Tensor, places: int, beyond: float) -> Tensor:
    """What stands so many places before each position of x (batch, length, d); `beyond` at the start."""
    length = x.shape[1]
    start = torch.full_like(x[:, : min(places, length)], beyond)
    return torch.cat([start, x[:, : max(length - places, 0)]], dim=1)


def _scan_with(
    *,
    combine: Callable[[Tensor, Tensor, Tensor, Tensor], Pair] = lambda a, b, a0, b0: (a0 * a, b + a * b0),
    places: Callable[[int], int] = lambda r: 2**r,
    count: Callable[[int], int] = _doublings,
    earlier: Callable[[Tensor, int, float], Tensor] = _earlier,
    first: Callable[[Tensor, Tensor], Pair] = lambda a, b: (a, b),
) -> Callable[[Tensor, Tensor], Tensor]:
    """The scan, any of its steps replaced. `combine` gets the later pair and the earlier one, a0 and b0."""

    def scan(a: Tensor, b: Tensor) -> Tensor:
        a, b = first(a, b)
        rounds = [b]
        for r in range(count(a.shape[1])):
            a, b = combine(a, b, earlier(a, places(r), 1.0), earlier(b, places(r), 0.0))
            rounds.append(b)
        return torch.stack(rounds)

    return scan


_scan = _scan_with()


def _loop(a: Tensor, b: Tensor, state: Tensor | None = None) -> Tensor:
    """All states of the recurrence, (batch, length, d)."""
    state, states = torch.zeros_like(b[:, 0]) if state is None else state, []
    for t in range(a.shape[1]):
        state = a[:, t] * state + b[:, t]
        states.append(state)
    return torch.stack(states, dim=1)


def _scan_by_definition(a: Tensor, b: Tensor) -> Tensor:
    """Each state by a loop that begins so many positions before."""
    length = a.shape[1]
    rounds = [b]
    for r in range(_doublings(length)):
        starts = [max(0, t + 1 - 2 ** (r + 1)) for t in range(length)]
        rounds.append(
            torch.stack([_loop(a[:, s : t + 1], b[:, s : t + 1])[:, -1] for t, s in enumerate(starts)], dim=1)
        )
    return torch.stack(rounds)


def _scan_by_slices(a: Tensor, b: Tensor) -> Tensor:
    factor, state, reach, rounds = a.clone(), b.clone(), 1, [b.clone()]
    while reach < a.shape[1]:
        state = torch.cat([state[:, :reach], state[:, reach:] + factor[:, reach:] * state[:, :-reach]], 1)
        factor = torch.cat([factor[:, :reach], factor[:, reach:] * factor[:, :-reach]], 1)
        rounds.append(state)
        reach *= 2
    return torch.stack(rounds)


def _scan_by_products(a: Tensor, b: Tensor) -> Tensor:
    """With the product of the factors between any two positions, of which each round sees a band."""
    length = a.shape[1]
    t = torch.arange(length)
    between = (t[:, None, None] >= t[None, None, :]) & (t[None, None, :] > t[None, :, None])  # (t, s, u)
    factors = torch.where(between[None, ..., None], a[:, None, None], torch.ones((), dtype=a.dtype)).prod(3)
    gap = t[:, None] - t
    bands = torch.stack([(gap >= 0) & (gap < 2**r) for r in range(_doublings(length) + 1)])
    return torch.einsum("rts,btsd,bsd->rbtd", bands.to(a.dtype), factors, b)


def _scan_in_double(a: Tensor, b: Tensor) -> Tensor:
    return torch.stack(list(_scan(a.double(), b.double()))).to(b.dtype)


def _scan_in_place(a: Tensor, b: Tensor) -> Tensor:
    """One position after the other, in the same tensors: later ones meet what is already combined."""
    a, b, rounds = a.clone(), b.clone(), [b]
    for r in range(_doublings(a.shape[1])):
        places = 2**r
        for t in range(places, a.shape[1]):
            b = torch.cat([b[:, :t], (b[:, t] + a[:, t] * b[:, t - places])[:, None], b[:, t + 1 :]], 1)
            a = torch.cat([a[:, :t], (a[:, t] * a[:, t - places])[:, None], a[:, t + 1 :]], 1)
        rounds.append(b)
    return torch.stack(rounds)


def _from_the_first_pair(a: Tensor, b: Tensor) -> Tensor:
    rounds = [b]
    for r in range(_doublings(a.shape[1])):
        rounds.append(b + a * _earlier(rounds[-1], 2**r, 0.0))
    return torch.stack(rounds)


def _windows_by_division(a: Tensor, b: Tensor) -> Tensor:
    product = a.cumprod(1)
    total = (b / product).cumsum(1)
    return torch.stack(
        [b] + [product * (total - _earlier(total, 2 ** (r + 1), 0.0)) for r in range(_doublings(a.shape[1]))]
    )


def _starts_anew(a: Tensor, b: Tensor) -> Tensor:
    """The recurrence in blocks of 2, 4, 8, ... positions."""
    rounds = [b]
    for r in range(_doublings(a.shape[1])):
        blocks = zip(a.split(2 ** (r + 1), 1), b.split(2 ** (r + 1), 1), strict=True)
        rounds.append(torch.cat([_loop(x, y) for x, y in blocks], 1))
    return torch.stack(rounds)


def _coefficients(
    batch: int,
    length: int,
    d: int,
    low: float,
    high: float,
    dtype: torch.dtype = torch.float32,
    zeros: bool = False,
) -> Callable[[Generator], Pair]:
    def make(generator: Generator) -> Pair:
        a = low + (high - low) * torch.rand(batch, length, d, generator=generator, dtype=torch.float64)
        if zeros:
            a = a * (torch.rand(batch, length, d, generator=generator) > 0.3)
            a[:, 1] = 0.0
        return a.to(dtype), _normal(generator, batch, length, d, dtype=dtype)

    return make


def _first_wrong_round(inputs: tuple[Any, ...], outputs: dict[str, Tensor]) -> str | None:
    mine, right = outputs["rounds"], _scan(*inputs)
    ok = torch.isclose(mine, right, rtol=1e-4, atol=1e-4).flatten(1).all(1).tolist()
    if all(ok):
        return None
    wrong = ok.index(False)
    where = (~torch.isclose(mine[wrong], right[wrong], rtol=1e-4, atol=1e-4)).any(2).any(0).nonzero()
    return (
        f"rounds[{wrong}] is the first that is not right; there, these positions: {where.flatten().tolist()}."
    )


linear_scan = Exercise(
    id="07.linear_scan",
    kind="implement",
    concepts=("sequential-steps",),
    reference=_scan,
    returns=("rounds",),
    measures=(_first_wrong_round,),
    cases=(
        Case("7 positions", _coefficients(2, 7, 3, 0.4, 1.0)),
        Case(
            "8 positions: a power of two",
            _coefficients(2, 8, 3, 0.4, 1.0),
            hint="how many doublings lead from 1 to 8?",
        ),
        Case("negative factors, 13 positions", _coefficients(3, 13, 2, -1.2, 1.0)),
        Case(
            "factors that are 0",
            _coefficients(2, 11, 3, -1.0, 1.0, zeros=True),
            points=2,
            hint="a gate may close. What does it do to all that comes before, and can you divide by it?",
        ),
        Case(
            "one position",
            _coefficients(2, 1, 3, 0.4, 1.0),
            hint="how many rounds are needed where nothing stands before?",
        ),
        Case("float64", _coefficients(2, 5, 3, -1.0, 1.0, torch.float64), hint="which dtype have a and b?"),
        Case(
            "gradients",
            _coefficients(2, 6, 3, -1.0, 1.0),
            gradients=True,
            hint="does a gradient reach a and b through every round?",
        ),
    ),
    mistakes=(
        Mistake(
            "the factor of the earlier pair weighs the later b",
            "h = a (a0 h' + b0) + b: which of the two b is multiplied by a?",
            _scan_with(combine=lambda a, b, a0, b0: (a0 * a, b0 + a0 * b)),
        ),
        Mistake(
            "the earlier b is weighed by the earlier factor",
            "b0 was there before. Through which of the two factors does it still have to go?",
            _scan_with(combine=lambda a, b, a0, b0: (a0 * a, b + a0 * b0)),
        ),
        Mistake(
            "the factors stay as they are, from round to round",
            "after round 1 a pair stands for two positions. By what do these two together multiply a state?",
            _scan_with(combine=lambda a, b, a0, b0: (a, b + a * b0)),
        ),
        Mistake(
            "the pairs are not combined: each round begins again from the first a and b",
            "after round 1, what does position 5 know? Does round 2 still have it, or does it begin again?",
            _from_the_first_pair,
        ),
        Mistake(
            "each factor is squared",
            "two positions, two factors. Are they the same number?",
            _scan_with(combine=lambda a, b, a0, b0: (a * a, b + a * b0)),
        ),
        Mistake(
            "the factors are added",
            "a (a0 h) is which multiple of h?",
            _scan_with(combine=lambda a, b, a0, b0: (a + a0, b + a * b0)),
        ),
        Mistake(
            "the new factor is used where the old one belongs",
            "in which order do you compute the new a and the new b? Which a does the new b need?",
            _scan_with(combine=lambda a, b, a0, b0: (a0 * a, b + a0 * a * b0)),
        ),
        Mistake(
            "the later b is multiplied, too",
            "b enters at its own position. Has it been through the factor of that position?",
            _scan_with(combine=lambda a, b, a0, b0: (a0 * a, a * (b + b0))),
        ),
        Mistake(
            "the factors are left out: a sum over the last positions",
            "by what is the state multiplied at each position?",
            _scan_with(combine=lambda a, b, a0, b0: (a, b + b0)),
        ),
        Mistake(
            "the distance grows by one, it is not doubled",
            "after round 2 each pair stands for 4 positions. How far away is the nearest "
            "one it has not seen?",
            _scan_with(places=lambda r: r + 1),
        ),
        Mistake(
            "every round looks one place back",
            "after round 1 each pair stands for 2 positions. Is what stands one place before new to it?",
            _scan_with(places=lambda r: 1),
        ),
        Mistake(
            "the distances are 2, 4, 8, ...",
            "in the first round, who is the nearest one before you?",
            _scan_with(places=lambda r: 2 ** (r + 1)),
        ),
        Mistake(
            "what stands before the beginning is taken from the end",
            "which pair stands before position 0? What does `torch.roll` put there?",
            _scan_with(earlier=lambda x, places, beyond: x.roll(places, 1)),
        ),
        Mistake(
            "what stands before the beginning has b = 1",
            "before the beginning the state is 0. Which pair (a, b) leaves a state as it "
            "is, and adds nothing?",
            _scan_with(earlier=lambda x, places, beyond: _earlier(x, places, 1.0)),
        ),
        Mistake(
            "the future is looked at, not the past",
            "the state at position 0: does it know anything of position 1?",
            _scan_with(earlier=lambda x, places, beyond: _earlier(x.flip(1), places, beyond).flip(1)),
        ),
        Mistake(
            "it runs over the batch",
            "which of the three axes is the length?",
            lambda a, b: _scan(a.transpose(0, 1), b.transpose(0, 1)).transpose(1, 2),
        ),
        Mistake(
            "it runs over the features",
            "which of the three axes is the length?",
            lambda a, b: _scan(a.transpose(1, 2), b.transpose(1, 2)).transpose(2, 3),
        ),
        Mistake(
            "round 0, b itself, is left out",
            "which states are there before anything was combined? They are the first of the rounds.",
            lambda a, b: _scan(a, b)[1:],
        ),
        Mistake(
            "only the last round is returned",
            "the states are right at the end. And after 1, 2, 4 positions? What should axis 0 hold?",
            lambda a, b: _scan(a, b)[-1],
        ),
        Mistake(
            "one round too few where the length is no power of two",
            "for 7 positions: after two rounds, how many does the last one know?",
            _scan_with(count=lambda n: n.bit_length() - 1),
        ),
        Mistake(
            "one round too many where the length is a power of two",
            "after R rounds a position knows 2^R. How many rounds does a sequence of 8 need, and one of 1?",
            _scan_with(count=lambda n: n.bit_length()),
        ),
        Mistake(
            "one position after the other, in the same tensor",
            "all positions of a round read what the round *before* left. What does position 2 read in yours?",
            _scan_in_place,
        ),
        Mistake(
            "division by the product of all factors so far",
            "what becomes of b / (a_0 · a_1 · ...) when a gate closes, or when the product gets very small?",
            _windows_by_division,
        ),
        Mistake(
            "the sequence is cut into blocks, which start anew",
            "position 4 in round 1: may it use position 3? Look at the last 2 positions, wherever it stands.",
            _starts_anew,
        ),
        Mistake(
            "the state before the beginning is 1",
            "what is h before the first position?",
            _scan_with(first=lambda a, b: (a, torch.cat([b[:, :1] + a[:, :1], b[:, 1:]], 1))),
        ),
        Mistake(
            "float32, whatever came in",
            "which dtype have a and b, and which has your result?",
            lambda a, b: _scan(a.float(), b.float()),
        ),
        Mistake(
            "the factors are cut off from the gradient",
            "how is a gate to learn when it should close, if no gradient reaches it?",
            lambda a, b: _scan(a.detach(), b),
        ),
    ),
    right=(_scan_by_definition, _scan_by_slices, _scan_by_products, _scan_in_double),
)

# --- implement: one step of Bahdanau's decoder --------------------------------------------------------------

_Score = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], Tensor]


def _additive(state: Tensor, annotations: Tensor, W_q: Tensor, W_k: Tensor, v: Tensor) -> Tensor:
    return torch.tanh((state @ W_q)[:, None] + annotations @ W_k) @ v


def _over_real(scores: Tensor, mask: Tensor) -> Tensor:
    weights = torch.softmax(scores.masked_fill(~mask, torch.finfo(scores.dtype).min), -1)
    return weights.masked_fill(~mask, 0.0)


def _sum_of(weights: Tensor, annotations: Tensor) -> Tensor:
    return (weights[:, None] @ annotations).squeeze(1)


def _zero_padding(annotations: Tensor, mask: Tensor) -> Tensor:
    return annotations.masked_fill(~mask[..., None], 0.0)


def _bahdanau_with(
    *,
    score: _Score = _additive,
    weigh: Callable[[Tensor, Tensor], Tensor] = _over_real,
    read: Callable[[Tensor, Tensor], Tensor] = _sum_of,
    clean: Callable[[Tensor, Tensor], Tensor] = _zero_padding,
) -> Callable[..., Pair]:
    """One step, any part of it replaced. `clean`: what is made of the padding first."""

    def step(state: Tensor, annotations: Tensor, mask: Tensor, W_q: Tensor, W_k: Tensor, v: Tensor) -> Pair:
        annotations = clean(annotations, mask)
        weights = weigh(score(state, annotations, W_q, W_k, v), mask)
        return read(weights, annotations), weights

    return step


_bahdanau = _bahdanau_with()


def _masked_by(value: float) -> Callable[[Tensor, Tensor], Tensor]:
    return lambda scores, mask: torch.softmax(scores.masked_fill(~mask, value), -1)


def _bahdanau_by_loop(
    state: Tensor, annotations: Tensor, mask: Tensor, W_q: Tensor, W_k: Tensor, v: Tensor
) -> Pair:
    contexts, rows = [], []
    for s, annotation, real in zip(state, annotations, mask, strict=True):
        h = annotation[real]
        weights = annotation.new_zeros(len(real))
        if len(h):
            e = torch.stack([(v * (s @ W_q + h_j @ W_k).tanh()).sum() for h_j in h])
            alpha = torch.softmax(e, 0)
            weights = weights.index_put((real.nonzero().squeeze(1),), alpha)
            contexts.append((alpha[:, None] * h).sum(0))
        else:
            contexts.append(annotation.new_zeros(annotation.shape[1]) + 0 * s.sum())
        rows.append(weights)
    return torch.stack(contexts), torch.stack(rows)


def _bahdanau_by_attend(
    state: Tensor, annotations: Tensor, mask: Tensor, W_q: Tensor, W_k: Tensor, v: Tensor
) -> Pair:
    h = torch.where(mask[..., None], annotations, torch.zeros((), dtype=annotations.dtype))
    context, weights = attend(
        state[:, None],
        h,
        h,
        score=lambda q, k: torch.tanh((q @ W_q)[:, :, None] + (k @ W_k)[:, None]) @ v,
        mask=mask[:, None],
    )
    assert weights is not None
    return context[:, 0], weights[:, 0]


def _bahdanau_by_einsum(
    state: Tensor, annotations: Tensor, mask: Tensor, W_q: Tensor, W_k: Tensor, v: Tensor
) -> Pair:
    h = annotations.where(mask[..., None], torch.zeros_like(annotations))
    hidden = torch.einsum("bs,sd->bd", state, W_q).unsqueeze(1) + torch.einsum("blh,hd->bld", h, W_k)
    e = torch.einsum("bld,d->bl", hidden.tanh(), v)
    low = torch.full_like(e, -torch.inf)
    top = e.where(mask, low).amax(-1, keepdim=True).clamp_min(torch.finfo(e.dtype).min).detach()
    exponentials = (e - top).where(mask, torch.zeros_like(e)).exp() * mask
    weights = exponentials / exponentials.sum(-1, keepdim=True).clamp_min(1e-30)
    return torch.einsum("bl,blh->bh", weights, h), weights


def _bahdanau_in_double(
    state: Tensor, annotations: Tensor, mask: Tensor, W_q: Tensor, W_k: Tensor, v: Tensor
) -> Pair:
    clean = _zero_padding(annotations, mask).double()
    e = F.linear((state.double() @ W_q.double())[:, None] + clean @ W_k.double(), torch.eye(len(v)).double())
    e = F.linear(e.tanh(), v.double()[None])[..., 0].masked_fill(~mask, -torch.inf)
    weights = torch.softmax(e.masked_fill(~mask.any(1, keepdim=True), 0.0), 1) * mask
    return (weights[..., None] * clean).sum(1).to(annotations.dtype), weights.to(annotations.dtype)


def _weights_with_reals_only_in_the_sum(scores: Tensor, mask: Tensor) -> Tensor:
    """The largest score is looked for among the padding, too."""
    exponentials = (scores - scores.amax(-1, keepdim=True)).exp() * mask
    return exponentials / exponentials.sum(-1, keepdim=True).clamp_min(1e-30)


def _unshifted(scores: Tensor, mask: Tensor) -> Tensor:
    exponentials = scores.exp().masked_fill(~mask, 0.0)
    return exponentials / exponentials.sum(-1, keepdim=True).clamp_min(1e-30)


def _tanh_of_each(state: Tensor, annotations: Tensor, W_q: Tensor, W_k: Tensor, v: Tensor) -> Tensor:
    return (torch.tanh(state @ W_q)[:, None] + torch.tanh(annotations @ W_k)) @ v


def _with_activation(f: Callable[[Tensor], Tensor]) -> _Score:
    return lambda s, h, W_q, W_k, v: f((s @ W_q)[:, None] + h @ W_k) @ v


def _hard(scores: Tensor, mask: Tensor) -> Tensor:
    best = _over_real(scores, mask).argmax(-1)
    return F.one_hot(best, scores.shape[-1]).to(scores.dtype) * mask + 0 * scores


def _empty_in_place(annotations: Tensor, mask: Tensor) -> Tensor:
    with torch.no_grad():
        annotations[~mask] = 0.0
    return annotations


def _cleaned_for_the_sum_only(
    state: Tensor, annotations: Tensor, mask: Tensor, W_q: Tensor, W_k: Tensor, v: Tensor
) -> Pair:
    weights = _over_real(_additive(state, annotations, W_q, W_k, v), mask)
    return _sum_of(weights, _zero_padding(annotations, mask)), weights


def _context_of_one_row_for_all(
    state: Tensor, annotations: Tensor, mask: Tensor, W_q: Tensor, W_k: Tensor, v: Tensor
) -> Pair:
    return _bahdanau(state[:1].expand(state.shape), annotations, mask, W_q, W_k, v)


def _sentences(
    *real: int,
    length: int = 6,
    scale: float = 1.0,
    dtype: torch.dtype = torch.float32,
    padding: Callable[[Tensor], Tensor] | None = None,
    gain: float = 1.0,
) -> Callable[[Generator], tuple[Tensor, ...]]:
    """A sentence for each number in `real`, with so many real annotations, and the weights. `gain`: how much
    larger W_k is, and smaller the annotations."""

    def make(generator: Generator) -> tuple[Tensor, ...]:
        d_s, d_h, d = 5, 7, 4
        state = _normal(generator, len(real), d_s, dtype=dtype)
        annotations = _normal(generator, len(real), length, d_h, dtype=dtype) / gain
        mask = torch.arange(length) < torch.tensor(real)[:, None]
        if padding is not None:
            annotations = torch.where(mask[..., None], annotations, padding(annotations))
        W_q = _normal(generator, d_s, d, dtype=dtype) * d_s**-0.5
        W_k = _normal(generator, d_h, d, dtype=dtype) * d_h**-0.5 * gain
        return state, annotations, mask, W_q, W_k, scale * _normal(generator, d, dtype=dtype)

    return make


def _nothing_that_one_could_use(x: Tensor) -> Tensor:
    """NaN, infinity, and finite numbers that W_k, with a gain, makes infinite, of either sign."""
    huge = torch.full_like(x, 3e38)
    huge[:, ::2] = torch.nan
    huge[:, 3] = torch.inf
    return huge


def _large_scores(generator: Generator) -> tuple[Tensor, ...]:
    """Scores of thousands. In the first sentence the state makes every one of them as low as tanh can."""
    state, annotations, mask, W_q, W_k, v = _sentences(5, 3, 6, scale=900.0, dtype=torch.float64)(generator)
    state[0] = -60 * v.sign() @ torch.linalg.pinv(W_q)
    return state, annotations, mask, W_q, W_k, v


def _very_low(generator: Generator) -> tuple[Tensor, ...]:
    """The first sentence's real scores are as low as tanh can make them; those of padding are not. In the
    second all real scores are equal, as high as tanh can make them, so that another function would show.

    v is ± 2^100, so sums of it are exact in any order.
    """
    state, annotations, mask, W_q, W_k, v = _sentences(4, 3, 5)(generator)
    v = torch.where(v < 0, -1.0, 1.0) * 2.0**100
    low = -100 * v.sign() @ torch.linalg.pinv(W_k)
    annotations[0] = torch.tensor([1.0, 1.5, 2.0, 3.0, -1.0, -2.0])[:, None] * low
    annotations[1] = torch.tensor([-1.0, -3.0, -2.0, -1.0, -1.0, -2.0])[:, None] * low
    return state, annotations, mask, W_q, W_k, v


def _rows_sum_to_one(inputs: tuple[Any, ...], outputs: dict[str, Tensor]) -> str | None:
    mask, sums = inputs[2], outputs["weights"].sum(-1)
    for b, (real, total) in enumerate(zip(mask, sums, strict=True)):
        wanted = 1.0 if real.any() else 0.0
        if abs(total - wanted) > 1e-3:
            return f"The weights of sentence {b} sum to {total:.3g}; they should sum to {wanted:g}."
        on_padding = outputs["weights"][b][~real].abs().sum()
        if on_padding > 1e-4:
            return f"In sentence {b}, padding has the weight {on_padding:.3g} in all."
    return None


bahdanau_step = Exercise(
    id="07.bahdanau_step",
    kind="implement",
    concepts=("bahdanau",),
    reference=_bahdanau,
    returns=("context", "weights"),
    measures=(_rows_sum_to_one,),
    cases=(
        Case("sentences without padding", _sentences(6, 6, 6, scale=2.0)),
        Case(
            "sentences of unequal length",
            _sentences(6, 2, 4, scale=2.0),
            points=2,
            hint="over which positions do the weights of a sentence sum to 1?",
        ),
        Case(
            "float64 and large scores",
            _large_scores,
            hint="scores of thousands: what does exp make of the largest, and of one far below? "
            "Is your result float64?",
        ),
        Case(
            "real scores far below those of padding",
            _very_low,
            hint="which score is surely lower than any real one? Is the number that you chose?",
        ),
        Case(
            "padding that holds NaN and huge numbers",
            _sentences(6, 2, 3, padding=_nothing_that_one_could_use, gain=10.0),
            hint="what is 0 · NaN? At which place is padding best taken out?",
        ),
        Case(
            "a sentence of padding only",
            _sentences(4, 0, 6),
            hint="what is there to read where nothing is real?",
        ),
        Case(
            "gradients",
            _sentences(5, 0, 3),
            gradients=True,
            hint="does a gradient reach the state, the real annotations and the weights, and "
            "none the padding?",
        ),
        Case(
            "gradients past padding that holds NaN and huge numbers",
            _sentences(6, 2, 3, padding=_nothing_that_one_could_use, gain=10.0),
            gradients=True,
            hint="W_k and the weights have met annotations. Which, and what are those times a gradient of 0?",
        ),
    ),
    mistakes=(
        Mistake(
            "there is no tanh",
            "without it, what does the state change in the score of one annotation against another?",
            _bahdanau_with(score=_with_activation(lambda x: x)),
        ),
        Mistake(
            "the state changes no weight: tanh is taken of each part, or W_q is not used",
            "softmax does not see what all scores share. Where do state and annotation "
            "meet before anything bends?",
            _bahdanau_with(score=_tanh_of_each),
        ),
        Mistake(
            "tanh comes after v",
            "how large can a score become if tanh is the last step? Where does it stand in the formula?",
            _bahdanau_with(score=lambda s, h, W_q, W_k, v: torch.tanh(((s @ W_q)[:, None] + h @ W_k) @ v)),
        ),
        Mistake(
            "ReLU in place of tanh",
            "which of the two does the formula name? One of them has no negative values.",
            _bahdanau_with(score=_with_activation(torch.relu)),
        ),
        Mistake(
            "a sigmoid in place of tanh",
            "both are S-shaped. Which values does tanh take at 0 and far to the left?",
            _bahdanau_with(score=_with_activation(torch.sigmoid)),
        ),
        Mistake(
            "a dot product in place of the small network",
            "in which part of the formula do state and annotation meet: in a sum or in a product?",
            _bahdanau_with(
                score=lambda s, h, W_q, W_k, v: ((s @ W_q)[:, None] * (h @ W_k)).sum(-1) + 0 * v.sum()
            ),
        ),
        Mistake(
            "the scaled dot product of 2017 in place of the small network",
            "this is what `attend` does if it is given no other score. In which argument "
            "can you give it one?",
            _bahdanau_with(
                score=lambda s, h, W_q, W_k, v: (
                    ((s @ W_q)[:, None] * (h @ W_k)).sum(-1) / math.sqrt(len(v)) + 0 * v.sum()
                )
            ),
        ),
        Mistake(
            "state and annotation are multiplied before tanh",
            "this score is called *additive*. What is added?",
            _bahdanau_with(score=lambda s, h, W_q, W_k, v: torch.tanh((s @ W_q)[:, None] * (h @ W_k)) @ v),
        ),
        Mistake(
            "v is left out: the hidden features are summed",
            "what makes one number of the d features behind tanh?",
            _bahdanau_with(
                score=lambda s, h, W_q, W_k, v: _additive(s, h, W_q, W_k, torch.ones_like(v)) + 0 * v.sum()
            ),
        ),
        Mistake(
            "the scores are divided by √d",
            "scaling belongs to the dot product of 2017. Is there a root in this formula?",
            _bahdanau_with(score=lambda *x: _additive(*x) / math.sqrt(x[-1].shape[0])),
        ),
        Mistake(
            "softmax over the sentences of the batch",
            "which numbers sum to 1: one sentence's weights, or one position's?",
            _bahdanau_with(
                weigh=lambda e, m: torch.softmax(e.masked_fill(~m, torch.finfo(e.dtype).min), 0) * m
            ),
        ),
        Mistake(
            "every sentence is asked with the first sentence's state",
            "whose decoder asks? Do the weights of sentence 1 move when its own state moves?",
            _context_of_one_row_for_all,
        ),
        Mistake(
            "padding is read",
            "does the context of a short sentence change when its batch is padded further?",
            _bahdanau_with(weigh=lambda e, m: torch.softmax(e, -1)),
        ),
        Mistake(
            "the mask is read the wrong way round",
            "here True means a *real* position. Which ones did you hide?",
            _bahdanau_with(weigh=lambda e, m: _over_real(e, ~m), clean=lambda h, m: h),
        ),
        Mistake(
            "the mask is read the wrong way round, before softmax",
            "masked_fill writes where its mask is True. Here True means a *real* position.",
            _bahdanau_with(
                weigh=lambda e, m: torch.softmax(e.masked_fill(m, -1e9), -1), clean=lambda h, m: h
            ),
        ),
        Mistake(
            "the mask is read the wrong way round, before softmax, with -inf",
            "masked_fill writes where its mask is True. Here True means a *real* position.",
            _bahdanau_with(
                weigh=lambda e, m: torch.softmax(e.masked_fill(m, -torch.inf), -1), clean=lambda h, m: h
            ),
        ),
        Mistake(
            "padding gets the score 0",
            "what is exp(0)? Is that no weight?",
            _bahdanau_with(weigh=_masked_by(0.0)),
        ),
        Mistake(
            "padding gets a score of -12",
            "exp(-12) is small. Is it still small when the real scores are -20?",
            _bahdanau_with(weigh=_masked_by(-12.0)),
        ),
        Mistake(
            "padding gets a large negative number, such as -10000 or -1e9",
            "is it lower than *every* real score, however large v is? And what if no score is real?",
            _bahdanau_with(weigh=_masked_by(-1e9)),
        ),
        Mistake(
            "the mask is applied after softmax",
            "what do the weights of a short sentence sum to now?",
            _bahdanau_with(weigh=lambda e, m: torch.softmax(e, -1) * m),
        ),
        Mistake(
            "padding may have the largest score of all, and beside it the real ones vanish in exp",
            "softmax takes the largest score off first. Is the one that padding has lower "
            "than every real one?",
            _bahdanau_with(weigh=_weights_with_reals_only_in_the_sum),
        ),
        Mistake(
            "the scores go into exp as they are",
            "what is exp(900)? What may be taken off all scores of a sentence without changing a weight?",
            _bahdanau_with(weigh=_unshifted),
        ),
        Mistake(
            "a sentence of padding only gives NaN",
            "what is softmax of nothing but -inf?",
            _bahdanau_with(weigh=_masked_by(-math.inf)),
        ),
        Mistake(
            "a sentence of padding only still spreads its weight",
            "if all scores of a row are the same low number, what does softmax give?",
            _bahdanau_with(weigh=lambda e, m: torch.softmax(e.masked_fill(~m, torch.finfo(e.dtype).min), -1)),
        ),
        Mistake(
            "NaN in the padding reaches the context",
            "its weight is 0. What is 0 · NaN?",
            _bahdanau_with(clean=lambda h, m: h),
        ),
        Mistake(
            "NaN in the padding reaches the gradient",
            "forwards all is well. W_k has met the padding, though: what is its gradient summed over?",
            _cleaned_for_the_sum_only,
        ),
        Mistake(
            "NaN is taken out, infinity becomes a huge number",
            "what does nan_to_num make of infinity? What tells padding, if not its numbers?",
            _bahdanau_with(clean=lambda h, m: torch.nan_to_num(h)),
        ),
        Mistake(
            "NaN and infinity are taken out, huge numbers of the padding stay",
            "3 · 10³⁸ is finite, a sum of a few of them is not. What tells padding, if not its numbers?",
            _bahdanau_with(clean=lambda h, m: torch.nan_to_num(h, posinf=0.0, neginf=0.0)),
        ),
        Mistake(
            "NaN and infinity are taken out, huge numbers of the padding stay, and meet the weight 0",
            "3 · 10³⁸ is finite, a sum of a few of them is not. What tells padding, if not its numbers?",
            _bahdanau_with(
                clean=lambda h, m: torch.nan_to_num(h, posinf=0.0, neginf=0.0),
                weigh=lambda e, m: torch.softmax(e.masked_fill(~m, torch.finfo(e.dtype).min), -1) * m,
            ),
        ),
        Mistake(
            "the padding is emptied in the caller's own annotations",
            "what may the caller still need? Which function makes a new tensor?",
            _bahdanau_with(clean=_empty_in_place),
        ),
        Mistake(
            "the plain mean of the real annotations",
            "the weights are there. Are they used?",
            _bahdanau_with(
                read=lambda w, h: _sum_of(
                    (w > 0).to(w) / (w > 0).sum(-1, keepdim=True).clamp_min(1) + 0 * w, h
                )
            ),
        ),
        Mistake(
            "the weighted sum is divided by the length once more",
            "the weights already sum to 1. What else is there to divide by?",
            _bahdanau_with(read=lambda w, h: _sum_of(w, h) / w.shape[-1]),
        ),
        Mistake(
            "one annotation is chosen, not a mixture",
            "is the best one all that is read? How would a gradient tell it that another one was better?",
            _bahdanau_with(weigh=_hard),
        ),
        Mistake(
            "the weights are cut off from the gradient",
            "how are W_q, W_k and v to learn where to look?",
            _bahdanau_with(read=lambda w, h: _sum_of(w.detach(), h)),
        ),
        Mistake(
            "float32, whatever came in",
            "which dtype have the annotations, and which has your result?",
            lambda s, h, m, *W: _bahdanau(s.float(), h.float(), m, *(w.float() for w in W)),
        ),
    ),
    right=(_bahdanau_by_loop, _bahdanau_by_attend, _bahdanau_by_einsum, _bahdanau_in_double),
)

# --- design: a head that recalls ----------------------------------------------------------------------------

Head = tuple[Tensor, Tensor, Tensor, Tensor]


def _blocks(keys: int, values_: int) -> tuple[Tensor, Tensor, Tensor]:
    """(tokens, keys) and (tokens, values) matrices that pick one half of a token each, and a column that
    finds out whether the token holds a value."""
    token = torch.eye(keys + values_, dtype=torch.float64)
    return token[:, :keys], token[:, keys:], token[:, keys:].sum(1, keepdim=True)


def _recall_with(
    *,
    sharp: Callable[[int], float] = lambda d_k: 30.0 * math.sqrt(d_k),
    ask: Callable[[Tensor], Tensor] = lambda key: key,
    stored: float = 1.0,
    carry: Callable[[Tensor, Tensor], Tensor] = lambda key, value: value,
    write: Callable[[Tensor], Tensor] = lambda output: output,
) -> Callable[[int, int], Head]:
    """A head that compares keys, and prefers tokens that hold a value, `stored` times as much as one key."""

    def head(n_keys: int, n_values: int) -> Head:
        key, value, holds = _blocks(n_keys, n_values)
        c = sharp(n_keys + 1)
        # A question has exactly one key, so the sum of its key features is 1.
        W_q = c * torch.cat([ask(key), key.sum(1, keepdim=True)], 1)
        return (
            W_q,
            torch.cat([key, stored * holds], 1),
            carry(key, value),
            write(torch.eye(n_values).double()),
        )

    return head


_recall = _recall_with()


def _recall_by_doubling(n_keys: int, n_values: int) -> Head:
    """The question finds itself, too, with the weight 1/2 and no value; what is read is doubled."""
    key, value, _ = _blocks(n_keys, n_values)
    return 40.0 * math.sqrt(n_keys) * key, key, value, 2 * torch.eye(n_values).double()


def _recall_in_loops(n_keys: int, n_values: int) -> Head:
    """What holds a value is wanted, and W_o picks the value out of a copy of the token."""
    d = n_keys + n_values
    W_q, W_k, W_o = torch.zeros(d, d), torch.zeros(d, d), torch.zeros(d, n_values)
    for i in range(n_keys):
        W_q[i, i] = 200.0
        W_q[i, n_keys:] = 300.0
        W_k[i, i] = 1.0
    for i in range(n_values):
        W_k[n_keys + i, n_keys + i] = 1.0
        W_o[n_keys + i, i] = 1.0
    return W_q, W_k, torch.eye(d), W_o


def _recall_past_itself(n_keys: int, n_values: int) -> Head:
    """Every key is refused; a value makes up for it."""
    key, _, holds = _blocks(n_keys, n_values)
    W_k = 1000 * torch.cat([key, holds - key.sum(1, keepdim=True)], 1).float()
    W_q = torch.cat([key, key.sum(1, keepdim=True)], 1).float()
    return W_q, W_k, torch.eye(n_keys + n_values)[:, n_keys:], torch.eye(n_values)


def _half(key: Tensor) -> Tensor:
    return key * (torch.arange(key.shape[1]) < key.shape[1] // 2)


def _with_sharpness(n_keys: int, n_values: int, factor: float) -> Head:
    """Keys are compared, and what the weights of both tokens with this key bring is written as it is."""
    key, value, _ = _blocks(n_keys, n_values)
    return factor * key, key, value, torch.eye(n_values).double()


def _finds_itself(n_keys: int, n_values: int) -> Head:
    W_q, W_k, W_v, W_o = _recall_by_doubling(n_keys, n_values)
    return W_q, W_k, W_v, W_o / 2


def _tokens(
    stored: Sequence[tuple[int, int]], question: int, between: int, n_keys: int, n_values: int
) -> Tensor:
    """The pairs, then so many empty tokens, then the question: (tokens, n_keys + n_values)."""
    text = torch.zeros(len(stored) + between + 1, n_keys + n_values, dtype=torch.float64)
    for row, (key, value) in zip(text, stored, strict=False):
        row[key] = row[n_keys + value] = 1.0
    text[-1, question] = 1.0
    return text


_NEAR, _FAR, _SAME, _MANY = "close by", "700 tokens away", "one value under all keys", "every key in the text"


def _recalled(n_keys: int, n_values: int, *weights: Tensor) -> dict[str, Tensor]:
    """What the head reads in some texts, one row for each question; what is near enough counts as exact."""
    W_q, W_k, W_v, W_o = (w.double() for w in weights)
    d = n_keys + n_values
    for name, w in (("W_q", W_q), ("W_k", W_k), ("W_v", W_v), ("W_o", W_o)):
        if w.dim() != 2:
            raise ValueError(f"{name} should be a matrix; its shape is {tuple(w.shape)}")
    shapes = ", ".join(str(tuple(w.shape)) for w in (W_q, W_k, W_v))
    if {W_q.shape[0], W_k.shape[0], W_v.shape[0]} != {d} or W_q.shape[1] != W_k.shape[1]:
        raise ValueError(f"W_q and W_k should be ({d}, d_k), W_v ({d}, d_v); they are {shapes}")
    if W_o.shape != (W_v.shape[1], n_values):
        raise ValueError(
            f"W_o should be (d_v, {n_values}), here ({W_v.shape[1]}, {n_values}); it is {tuple(W_o.shape)}"
        )
    generator = torch.Generator().manual_seed(1000 * n_keys + n_values)
    found: dict[str, Tensor] = {}
    for name, pairs, between in (
        (_NEAR, min(4, n_keys), 0),
        (_FAR, min(6, n_keys), 700),
        (_SAME, min(5, n_keys), 20),
        (_MANY, n_keys, 3),
    ):
        keys = torch.randperm(n_keys, generator=generator)[:pairs].tolist()
        held = torch.randint(0, n_values, (pairs,), generator=generator).tolist()
        stored = list(zip(keys, held[:1] * pairs if name == _SAME else held, strict=True))
        rows = []
        for asked in sorted({0, pairs // 2, pairs - 1}):
            text = _tokens(stored, stored[asked][0], between, n_keys, n_values)
            scores = (text[-1:] @ W_q) @ (text @ W_k).T / math.sqrt(W_q.shape[1])
            read = (torch.softmax(scores, -1) @ (text @ W_v) @ W_o)[0]
            wanted = torch.eye(n_values, dtype=torch.float64)[stored[asked][1]]
            rows.append(torch.where((read - wanted).abs() <= 0.02, wanted, read))
        found[name] = torch.stack(rows)
    return found


def _of_each_text(inputs: tuple[Any, ...], outputs: dict[str, Tensor]) -> str:
    n_keys, n_values = inputs
    told = []
    for name, right in _recalled(n_keys, n_values, *_recall(n_keys, n_values)).items():
        read = outputs[name]
        worst = int((read - right).abs().amax(-1).argmax())
        place = int(right[worst].argmax())
        others = torch.cat([read[worst, :place], read[worst, place + 1 :]])
        other = float(others[others.abs().argmax()])
        told.append(f"{name} {float(read[worst, place]):.2f} and {other:.2f}")
    return (
        f"{n_keys} keys, {n_values} values. The output should be 1.00 at the value asked for, 0.00 at "
        f"others. Yours, there and at the worst of the others, in four texts: {'; '.join(told)}."
    )


def _numbers(low_keys: int, high_keys: int, low: int, high: int) -> Callable[[Generator], tuple[int, int]]:
    return lambda g: (_integer(g, low_keys, high_keys), _integer(g, low, high))


_SHARP = (
    "with more keys, does your division by √d_k take more off the scores? And is the score of the right "
    "token still far above that of hundreds of others?"
)

recall_head = Exercise(
    id="07.recall_head",
    kind="design",
    concepts=("long-range-recall",),
    reference=_recall,
    returns=("W_q", "W_k", "W_v", "W_o"),
    view=_recalled,
    cases=(
        Case("few keys", _numbers(5, 12, 15, 60)),
        Case("as many keys as values (about)", _numbers(15, 30, 15, 30), hint=_SHARP),
        Case("more keys than values", _numbers(40, 70, 4, 12), hint=_SHARP),
        Case("very many keys", _numbers(80, 120, 15, 30), hint=_SHARP),
    ),
    measures=(_of_each_text,),
    mistakes=(
        Mistake(
            "the weights are not sharp: matching scores are 1, others 0",
            "e^1 against e^0, hundreds of times: who gets the weight? What would make the match win?",
            _recall_with(sharp=lambda d_k: 1.0),
        ),
        Mistake(
            "keys are copied, and that is all",
            "e^1 against e^0, hundreds of times: who gets the weight? And which *two* tokens hold the key?",
            lambda n_keys, n_values: _with_sharpness(n_keys, n_values, 1.0),
        ),
        Mistake(
            "the question finds itself, and the division by √d_k eats the sharpness",
            "which *two* tokens hold the key that is asked for? And does your factor grow with d_k?",
            lambda n_keys, n_values: _with_sharpness(n_keys, n_values, 20.0),
        ),
        Mistake(
            "sharp enough for a few tokens, not for hundreds",
            "700 tokens with the weight e^-5 each: how much is that together, beside 1?",
            _recall_with(sharp=lambda d_k: 5.0 * math.sqrt(d_k)),
        ),
        Mistake(
            "the division by √d_k eats the sharpness",
            "with 100 keys every score is divided by 10. Does your factor grow with it?",
            _recall_with(sharp=lambda d_k: 20.0),
        ),
        Mistake(
            "multiplied by √d_k, and by nothing else",
            "that makes up for the division: the scores are 1 and 0 again. How much larger "
            "must the match be?",
            _recall_with(sharp=lambda d_k: math.sqrt(d_k)),
        ),
        Mistake(
            "the question finds itself",
            "the question is a token of the text, and holds the key that it asks for. How "
            "much weight does it get?",
            _finds_itself,
        ),
        Mistake(
            "nothing comes out: the question reads itself, or nothing is written",
            "which of the two tokens with this key wins, and what value does it hold? What "
            "do W_v and W_o make of it?",
            _recall_with(stored=-1.0),
        ),
        Mistake(
            "all tokens that hold a value match alike",
            "the value says *that* a token is stored. What says that it is the one asked for?",
            _recall_with(ask=lambda key: 0 * key),
        ),
        Mistake(
            "asked for the next key",
            "in which column does W_q put the question's key, and in which does W_k put a stored one?",
            _recall_with(ask=lambda key: key.roll(1, 1)),
        ),
        Mistake(
            "asked for the keys in the opposite order",
            "in which column does W_q put the question's key, and in which does W_k put a stored one?",
            _recall_with(ask=lambda key: key.flip(1)),
        ),
        Mistake(
            "the sign is turned: every key but the right one",
            "should the score of a matching key be high or low?",
            _recall_with(ask=lambda key: -key),
        ),
        Mistake(
            "only half of the keys are known",
            "which rows of W_q hold zeros only?",
            _recall_with(ask=_half),
        ),
        Mistake(
            "the key is carried over, not the value",
            "which rows of W_v meet the value part of a token?",
            _recall_with(
                carry=lambda key, value: torch.cat([key, torch.zeros_like(value)], 1)[:, : value.shape[1]]
            ),
        ),
        Mistake(
            "the value is written one place further",
            "value 0 is stored. In which place of the output does it arrive?",
            _recall_with(write=lambda output: output.roll(1, 1)),
        ),
        Mistake(
            "the output is twice what was stored",
            "the matching token now has all the weight. What is still to be doubled?",
            _recall_with(write=lambda output: 2 * output),
        ),
        Mistake(
            "all values are written",
            "W_v W_o: what becomes of value 0 alone?",
            _recall_with(write=lambda output: torch.ones_like(output)),
        ),
        Mistake(
            "the question sees the empty tokens only",
            "an empty token has no key and no value, so its score is 0. Are your other scores below that?",
            _recall_with(sharp=lambda d_k: -30.0 * math.sqrt(d_k)),
        ),
    ),
    right=(_recall_by_doubling, _recall_in_loops, _recall_past_itself),
)

# --- find the bug: a recurrent decoder with a beam ----------------------------------------------------------

Decode = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
_D, _V = 8, 12
_Weights = dict[str, np.ndarray]

# In NumPy, whose small steps are the quicker ones: a test may run hundreds of decoders.


def _tanh_cell(x: np.ndarray, state: np.ndarray, W: _Weights) -> np.ndarray:
    return np.tanh(x @ W["x"] + state @ W["turn"])


def _gated_cell(x: np.ndarray, state: np.ndarray, W: _Weights) -> np.ndarray:
    keep = 1 / (1 + np.exp(-1 - 0.5 * (x @ W["gate"])))
    return keep * state + (1 - keep) * np.tanh(x @ W["x"] + state @ W["turn"])


def _softmax(scores: np.ndarray, axis: int) -> np.ndarray:
    exponentials = np.exp(scores - scores.max(axis, keepdims=True))
    return exponentials / exponentials.sum(axis, keepdims=True)


def _asked_softly(state: np.ndarray, keys: np.ndarray, real: np.ndarray, W: _Weights) -> np.ndarray:
    """The weights of additive attention: (rows, length)."""
    scores = np.tanh((state @ W["q"])[:, None] + keys) @ W["v"]
    return _softmax(np.where(real, scores, -1e9), -1)


def _asked_by_products(state: np.ndarray, keys: np.ndarray, real: np.ndarray, W: _Weights) -> np.ndarray:
    scores = (state @ W["q"]) @ keys.T / math.sqrt(_D)
    return _softmax(np.where(real, scores, -1e9), -1)


def _over_rows(state: np.ndarray, keys: np.ndarray, real: np.ndarray, W: _Weights) -> np.ndarray:
    return _softmax(np.tanh((state @ W["q"])[:, None] + keys) @ W["v"], 0) * real


def _moved_to(state: np.ndarray, parents: np.ndarray) -> np.ndarray:
    """The wrong way round: row i gives its state to row parents[i]."""
    moved = state.copy()
    for i, parent in enumerate(parents):
        moved[parent] = state[i]
    return moved


def _decoder_with(
    seed: int = 1,
    *,
    cell: Callable[[np.ndarray, np.ndarray, _Weights], np.ndarray] = _tanh_cell,
    weigh: Callable[[np.ndarray, np.ndarray, np.ndarray, _Weights], np.ndarray] = _asked_softly,
    real: Callable[[np.ndarray], np.ndarray] = lambda mask: mask,
    follow: Callable[[np.ndarray, np.ndarray, int], np.ndarray] = lambda state, parents, t: state[parents[t]],
    asks: Callable[[np.ndarray, np.ndarray], np.ndarray] = lambda followed, before: followed,
    word: Callable[[np.ndarray, np.ndarray, int], np.ndarray] = lambda tokens, parents, t: tokens[t],
    carried: Callable[[np.ndarray, int], np.ndarray] = lambda state, t: state,
    late: bool = False,
) -> Decode:
    """A decoder with fixed weights. `follow`: the state that each row continues; `asks`: the one that the
    attention is asked with; `late`: the attention is asked with the new state, as Luong et al. (2015) do."""
    generator = torch.Generator().manual_seed(seed)
    shapes = {"x": (2 * _D, _D), "gate": (2 * _D, _D), "q": (_D, _D), "k": (_D, _D), "out": (2 * _D, _V)}
    drawn = {name: _normal(generator, *s, dtype=torch.float64) * s[0] ** -0.5 for name, s in shapes.items()}
    drawn["turn"] = torch.linalg.qr(_normal(generator, _D, _D, dtype=torch.float64))[0]
    drawn["v"] = 0.5 * _normal(generator, _D, dtype=torch.float64)
    drawn["words"] = _normal(generator, _V, _D, dtype=torch.float64)
    weights = {name: w.numpy() for name, w in drawn.items()}

    def decode(annotations: Tensor, mask: Tensor, tokens: Tensor, parents: Tensor) -> Tensor:
        _usable(annotations, mask, tokens, parents)
        h, allowed, ids, rows = annotations.numpy(), real(mask.numpy()), tokens.numpy(), parents.numpy()
        W = {name: w.astype(h.dtype, copy=False) for name, w in weights.items()}
        state = np.zeros((ids.shape[1], _D), h.dtype)
        words, keys, seen = 0.7 * W["words"], h @ W["k"], []
        for t in range(len(ids)):
            before, state = state, carried(follow(state, rows, t), t)
            x = words[word(ids, rows, t)]
            if late:
                state = cell(np.concatenate([x, 0 * x], -1), state, W)
            context = weigh(asks(state, before), keys, allowed, W) @ h
            if not late:
                state = cell(np.concatenate([x, context], -1), state, W)
            seen.append(np.concatenate([state, context], -1))
        return torch.from_numpy(np.stack(seen) @ W["out"])

    return decode


def _usable(annotations: Tensor, mask: Tensor, tokens: Tensor, parents: Tensor) -> None:
    """Raises ValueError where a decoder cannot be asked this."""
    if not all(isinstance(x, Tensor) for x in (annotations, mask, tokens, parents)):
        raise ValueError("all four arguments should be tensors")
    if annotations.shape != (len(mask), _D) or mask.dtype != torch.bool:
        raise ValueError("annotations should be (length, 8) and the mask (length,), boolean")
    if not annotations.isfinite().all():
        raise ValueError("annotations should be finite, those of padding as well")
    if tokens.dim() != 2 or tokens.shape != parents.shape:
        raise ValueError("tokens and parents should both be (steps, rows)")
    if tokens.is_floating_point() or parents.is_floating_point():
        raise ValueError("tokens and parents should be integers")
    ids, rows = tokens.numpy(), parents.numpy()
    if ids.size and not 0 <= ids.min() <= ids.max() < _V:
        raise ValueError("tokens should be from 0 to 11")
    if rows.size and not 0 <= rows.min() <= rows.max() < rows.shape[1]:
        raise ValueError(f"parents should be numbers of rows, here from 0 to {parents.shape[1] - 1}")


def _word_before(tokens: np.ndarray, parents: np.ndarray, t: int) -> np.ndarray:
    """The last word but one of each row's history; before the first stands BOS, 1."""
    return tokens[t - 1][parents[t]] if t else np.ones_like(tokens[0])


def _only(place: Callable[[np.ndarray], int]) -> Callable[[np.ndarray], np.ndarray]:
    """A mask that leaves one annotation."""
    return lambda mask: np.arange(len(mask)) == place(mask)


_DECODERS = (
    Mistake(
        "a right decoder with additive attention",
        "this one is right. Does your test demand more than the table says, the last digit "
        "perhaps? Or does it "
        "stop by itself?",
        _decoder_with(1),
        equivalent=True,
    ),
    Mistake(
        "a right decoder with gates and a dot product",
        "this one is right, with gates. Does your test demand more than the table says, "
        "for instance that a change "
        "moves the logits by much? Or does it stop by itself?",
        _decoder_with(2, cell=_gated_cell, weigh=_asked_by_products),
        equivalent=True,
    ),
    Mistake(
        "equivalent: the attention is asked with the new state",
        "this one is right, too (Luong et al. 2015). Does your test demand more than the "
        "table says, for instance "
        "when the attention is asked? Or does it stop by itself?",
        _decoder_with(3, late=True),
        equivalent=True,
    ),
    Mistake(
        "padding is attended to",
        "what may move when an annotation changes that the mask hides?",
        _decoder_with(4, real=np.ones_like),
    ),
    Mistake(
        "the mask is read the wrong way round",
        "what may move when a hidden annotation changes, and what must when a real one does?",
        _decoder_with(5, real=lambda mask: ~mask),
    ),
    Mistake(
        "the first annotation alone is read",
        "which annotations must move the logits? Do you change more than one of them?",
        _decoder_with(6, real=_only(lambda mask: 0)),
    ),
    Mistake(
        "the last real annotation alone is read: a fixed vector",
        "which annotations must move the logits? Do you change more than one of them?",
        _decoder_with(7, real=_only(lambda mask: int(mask.nonzero()[0].max()))),
    ),
    Mistake(
        "states are not reordered: every row goes on with its own",
        "if row 2 continues row 0, whose words has it read? What would a run over just these words give?",
        _decoder_with(8, follow=lambda state, parents, t: state),
    ),
    Mistake(
        "states are reordered the wrong way round",
        "which parents tell *from* and *to* apart? Two rows that change places do not.",
        _decoder_with(9, follow=lambda state, parents, t: _moved_to(state, parents[t])),
    ),
    Mistake(
        "states are reordered one step late",
        "are the parents of two steps in a row different in your test?",
        _decoder_with(10, follow=lambda state, parents, t: state[parents[t - 1]] if t else state),
    ),
    Mistake(
        "all rows continue the parent of row 0",
        "do two rows of one step have different parents in your test?",
        _decoder_with(
            11, follow=lambda state, parents, t: np.broadcast_to(state[parents[t][:1]], state.shape)
        ),
    ),
    Mistake(
        "the state is reordered, but the attention is asked with the old one",
        "the context hangs on the state, too. What would a run over this row's own words give?",
        _decoder_with(12, asks=lambda followed, before: before),
    ),
    Mistake(
        "the new words are reordered as well",
        "tokens[t, i] is row i's own new word. Do rows with the same parent have different "
        "words in your test?",
        _decoder_with(13, word=lambda tokens, parents, t: tokens[t][parents[t]]),
    ),
    Mistake(
        "teacher forcing is off by one: it reads the word before",
        "which is the first step that must move when token 0 changes, or token 5?",
        _decoder_with(14, word=_word_before),
    ),
    Mistake(
        "teacher forcing is off by one: it reads the word that it should predict",
        "which steps may not move when token 5 changes?",
        _decoder_with(15, word=lambda tokens, parents, t: tokens[min(t + 1, len(tokens) - 1)]),
    ),
    Mistake(
        "the state is not carried over",
        "how far must a change of token 0 be felt?",
        _decoder_with(16, carried=lambda state, t: 0 * state),
    ),
    Mistake(
        "the state is emptied after every eight steps",
        "how many steps has your run?",
        _decoder_with(17, carried=lambda state, t: 0 * state if t % 8 == 0 else state),
    ),
    Mistake(
        "softmax runs over the rows, not over the annotations",
        "may row 1 change what row 0 reads? What would row 0 give if it ran alone?",
        _decoder_with(18, weigh=_over_rows),
    ),
    Mistake(
        "every row reads the word of row 0",
        "do the rows of one step have different words in your test?",
        _decoder_with(19, word=lambda tokens, parents, t: np.broadcast_to(tokens[t][:1], tokens[t].shape)),
    ),
)

_Inputs = tuple[Tensor, Tensor, Tensor, Tensor]


@functools.cache
def _beam(steps: int = 9, rows: int = 3, length: int = 6, real: int = 4, parents: str = "any") -> _Inputs:
    """Annotations, mask, words and parents of a beam."""
    generator = torch.Generator().manual_seed(5)
    annotations = _normal(generator, length, _D, dtype=torch.float64)
    tokens = torch.randint(3, _V, (steps, rows), generator=generator)
    drawn = torch.randint(0, rows, (steps, rows), generator=generator)
    if parents == "own":
        drawn = torch.arange(rows).expand(steps, rows).clone()
    if parents == "swap":
        drawn = torch.arange(rows).flip(0).expand(steps, rows).clone()
    return annotations, torch.arange(length) < real, tokens, drawn


def _history(tokens: Tensor, parents: Tensor, row: int) -> tuple[Tensor, list[int]]:
    """The words that the row has read at the end, and the rows in which they stand."""
    path = [row]
    for t in range(len(tokens) - 1, 0, -1):
        path.insert(0, int(parents[t, path[0]]))
    return tokens[torch.arange(len(tokens)), path], path


def _check_histories(decode: Decode, inputs: _Inputs, *, last_only: bool = False, atol: float = 1e-6) -> None:
    """Each row gives what a run over its own words alone gives."""
    annotations, mask, tokens, parents = inputs
    together = decode(*inputs)
    for row in range(tokens.shape[1]):
        words, path = _history(tokens, parents, row)
        alone = decode(annotations, mask, words[:, None], torch.zeros_like(words)[:, None])[:, 0]
        same = together[torch.arange(len(words)), path]
        start = -1 if last_only else 0
        assert torch.allclose(alone[start:], same[start:], rtol=0, atol=atol)


def _moved(a: Tensor, b: Tensor) -> Tensor:
    """Which steps have moved in which rows, by more than rounding."""
    return (a - b).abs().amax(-1) > 1e-7


def _one_row(inputs: _Inputs) -> _Inputs:
    annotations, mask, tokens, parents = inputs
    return annotations, mask, tokens[:, :1], torch.zeros_like(parents[:, :1])


def _check_words(
    decode: Decode, inputs: _Inputs, places: Sequence[int], *, must: bool = True, may_not: bool = True
) -> None:
    """A word moves its own step and all later ones, and none before."""
    annotations, mask, tokens, parents = _one_row(inputs)
    before = decode(annotations, mask, tokens, parents)
    for t in places:
        other = tokens.clone()
        other[t] = (other[t] + 1) % _V
        moved = _moved(before, decode(annotations, mask, other, parents))[:, 0]
        assert not must or moved[t:].all()
        assert not may_not or not moved[:t].any()


def _check_annotations(
    decode: Decode, inputs: _Inputs, places: Sequence[int], *, must: bool = True, may_not: bool = True
) -> None:
    annotations, mask, tokens, parents = _one_row(inputs)
    before = decode(annotations, mask, tokens, parents)
    for j in places:
        other = annotations.clone()
        other[j] += 1 + torch.arange(_D) / _D
        moved = _moved(before, decode(other, mask, tokens, parents))
        if mask[j]:
            assert not must or moved.all()
        else:
            assert not may_not or not moved.any()


def _test_of_all(decode: Decode) -> None:
    inputs = _beam()
    _check_histories(decode, inputs)
    _check_words(decode, inputs, (0, 5))
    _check_annotations(decode, inputs, (0, 3, 5))


def _test_by_shuffled_rows(decode: Decode) -> None:
    """The same sentences in two beams: as rows of their own, and with rows changing at every step."""
    generator = torch.Generator().manual_seed(8)
    steps, rows = 12, 4
    annotations, mask = _normal(generator, 5, _D), torch.tensor([True, True, True, False, False])
    texts = torch.randint(3, _V, (steps, rows), generator=generator)
    places = torch.stack([torch.randperm(rows, generator=generator) for _ in range(steps)])  # of each text
    tokens, parents = torch.empty_like(texts), torch.zeros_like(texts)
    for t in range(steps):
        tokens[t, places[t]] = texts[t]
        parents[t, places[t]] = places[t - 1] if t else places[t]
    shuffled = decode(annotations, mask, tokens, parents)
    for text in range(rows):
        words = texts[:, text : text + 1]
        zeros = torch.zeros_like(words)
        alone = decode(annotations, mask, words, zeros)[:, 0]
        assert (shuffled[torch.arange(steps), places[:, text]] - alone).abs().max() < 1e-3
        if text == 0:
            other = words.clone()
            other[0] = 3 + (other[0] - 2) % 9
            other[7] = 3 + (other[7] - 2) % 9
            first = decode(annotations, mask, torch.cat([other[:7], words[7:]]), zeros)[:, 0]
            assert ((first - alone).abs().amax(-1) > 1e-6).all()
            later = decode(annotations, mask, torch.cat([words[:7], other[7:]]), zeros)[:, 0]
            assert torch.equal((later - alone).abs().amax(-1) > 1e-6, torch.arange(steps) >= 7)
            for j in (0, 2):
                changed = annotations.clone()
                changed[j] = _normal(generator, _D)
                assert ((decode(changed, mask, words, zeros)[:, 0] - alone).abs().amax(-1) > 1e-6).all()
            changed = torch.cat([annotations[:3], 9 * annotations[3:]])
            assert (decode(changed, mask, words, zeros)[:, 0] - alone).abs().max() < 1e-4


def _test_by_shorter_runs(decode: Decode) -> None:
    """Padding and later words are cut away; what must count is changed."""
    inputs = annotations, mask, tokens, parents = _beam(9, 2, 5, 3)
    whole = decode(*inputs)
    cut = decode(annotations[mask], mask[mask], tokens, parents)
    assert torch.allclose(whole, cut, atol=1e-6)
    assert torch.allclose(decode(annotations, mask, tokens[:6], parents[:6]), whole[:6], atol=1e-6)
    _check_histories(decode, inputs)
    _check_words(decode, inputs, (0, 8), may_not=False)
    _check_annotations(decode, inputs, (0, 2))


def _test_of_shape(decode: Decode) -> None:
    _, _, tokens, _ = inputs = _beam()
    logits = decode(*inputs)
    assert logits.shape == (*tokens.shape, _V)
    assert logits.isfinite().all()


def _test_without_padding(decode: Decode) -> None:
    inputs = _beam(length=4)
    _check_histories(decode, inputs)
    _check_words(decode, inputs, (0, 5))
    _check_annotations(decode, inputs, (0, 3))


def _test_where_rows_go_on_alone(decode: Decode) -> None:
    inputs = _beam(parents="own")
    _check_histories(decode, inputs)
    _check_words(decode, inputs, (0, 5))
    _check_annotations(decode, inputs, (0, 3, 5))


def _test_where_rows_change_places(decode: Decode) -> None:
    inputs = _beam(rows=2, parents="swap")
    _check_histories(decode, inputs)
    _check_words(decode, inputs, (0, 5))
    _check_annotations(decode, inputs, (0, 3, 5))


def _test_of_one_row(decode: Decode) -> None:
    inputs = _beam(rows=1)
    _check_words(decode, inputs, (0, 5))
    _check_annotations(decode, inputs, (0, 3, 5))


def _test_of_a_few_steps(decode: Decode) -> None:
    inputs = _beam(6)
    _check_histories(decode, inputs)
    _check_words(decode, inputs, (0, 5))
    _check_annotations(decode, inputs, (0, 3, 5))


def _test_of_histories_only(decode: Decode) -> None:
    _check_histories(decode, _beam())


def _test_of_the_last_step_only(decode: Decode) -> None:
    inputs = _beam()
    _check_histories(decode, inputs, last_only=True)
    annotations, mask, tokens, parents = _one_row(inputs)
    other = tokens.clone()
    other[0] = (other[0] + 1) % _V
    assert _moved(decode(annotations, mask, tokens, parents), decode(annotations, mask, other, parents))[
        -1
    ].all()
    _check_annotations(decode, inputs, (0, 3, 5))


def _test_of_what_may_not_move(decode: Decode) -> None:
    inputs = _beam()
    _check_histories(decode, inputs)
    _check_words(decode, inputs, (0, 5), must=False)
    _check_annotations(decode, inputs, (0, 3, 5), must=False)


def _test_of_what_must_move(decode: Decode) -> None:
    inputs = _beam()
    _check_histories(decode, inputs)
    _check_words(decode, inputs, (0, 5), may_not=False)
    _check_annotations(decode, inputs, (0, 3, 5), may_not=False)


def _test_of_the_last_annotation(decode: Decode) -> None:
    inputs = _beam()
    _check_histories(decode, inputs)
    _check_words(decode, inputs, (0, 5))
    _check_annotations(decode, inputs, (3, 5))


def _test_of_the_first_annotation(decode: Decode) -> None:
    inputs = _beam()
    _check_histories(decode, inputs)
    _check_words(decode, inputs, (0, 5))
    _check_annotations(decode, inputs, (0, 5))


def _test_of_one_text_in_all_rows(decode: Decode) -> None:
    annotations, mask, tokens, parents = inputs = _beam()
    _check_histories(decode, (annotations, mask, tokens[:, :1].expand(tokens.shape).clone(), parents))
    _check_words(decode, inputs, (0, 5))
    _check_annotations(decode, inputs, (0, 3, 5))


def _test_without_words(decode: Decode) -> None:
    inputs = _beam()
    _check_histories(decode, inputs)
    _check_annotations(decode, inputs, (0, 3, 5))


def _test_that_forgets_the_parents(decode: Decode) -> None:
    """It compares each row with the words that stand below each other in it."""
    annotations, mask, tokens, _ = inputs = _beam()
    together = decode(*inputs)
    for row in range(tokens.shape[1]):
        words = tokens[:, row : row + 1]
        alone = decode(annotations, mask, words, torch.zeros_like(words))[:, 0]
        assert torch.allclose(alone, together[:, row], rtol=0, atol=1e-6)
    _check_words(decode, inputs, (0, 5))


def _test_of_parents_one_step_early(decode: Decode) -> None:
    annotations, mask, tokens, parents = _beam()
    inputs = annotations, mask, tokens, parents
    together = decode(*inputs)
    early = torch.cat([parents[:1], parents[:-1]])
    for row in range(tokens.shape[1]):
        words, path = _history(tokens, early, row)
        alone = decode(annotations, mask, words[:, None], torch.zeros_like(words)[:, None])[:, 0]
        same = together[torch.arange(len(words)), path]
        assert torch.allclose(alone, same, rtol=0, atol=1e-6)


def _test_that_wants_the_future(decode: Decode) -> None:
    inputs = annotations, mask, tokens, parents = _one_row(_beam())
    other = tokens.clone()
    other[5] = (other[5] + 1) % _V
    assert _moved(decode(*inputs), decode(annotations, mask, other, parents))[4].all()


def _test_that_always_fails(decode: Decode) -> None:
    decode(*_beam(2))
    raise AssertionError("wrong")


rnn_decoder_test = Exercise(
    id="07.rnn_decoder_test",
    kind="find the bug",
    concepts=("bahdanau", "sequential-steps"),
    reference=_test_of_all,
    cases=trials(*_DECODERS),
    mistakes=(
        Mistake(
            "it catches nothing",
            "broken decoders, too, return the right shape, and the same for the same "
            "input. What moves in them "
            "that must not move, and what stays that must?",
            _test_of_shape,
        ),
        Mistake(
            "no annotation is padding",
            "which argument says True everywhere in your test?",
            _test_without_padding,
        ),
        Mistake(
            "every row is its own parent",
            "what is `parents` for? Which rows should change places, or end, or go on twice?",
            _test_where_rows_go_on_alone,
        ),
        Mistake(
            "two rows that change places, always",
            "from here to there, or from there to here: can two rows that swap tell the difference?",
            _test_where_rows_change_places,
        ),
        Mistake(
            "one row only",
            "with one row, which parent could be the wrong one? Whose word could be mixed up?",
            _test_of_one_row,
        ),
        Mistake(
            "a few steps only",
            "how long are the texts that such a decoder writes? What could it lose on the way?",
            _test_of_a_few_steps,
        ),
        Mistake(
            "rows are compared with runs of their own, and nothing is changed",
            "a decoder that reads no source, or the wrong word, agrees with itself. What *must* move?",
            _test_of_histories_only,
        ),
        Mistake(
            "only the last step is looked at",
            "when token t changes, at which step should the first change be seen?",
            _test_of_the_last_step_only,
        ),
        Mistake(
            "a test of what may not move only",
            "a decoder that forgets, or reads nothing, would pass. What *must* move?",
            _test_of_what_may_not_move,
        ),
        Mistake(
            "a test of what must move only",
            "a decoder that sees everything would pass. What may *not* move?",
            _test_of_what_must_move,
        ),
        Mistake(
            "of the real annotations only the last one is changed",
            "an RNN without attention reads one vector. Which change tells it from one that reads them all?",
            _test_of_the_last_annotation,
        ),
        Mistake(
            "of the real annotations only the first one is changed",
            "which change tells a decoder that reads one vector from one that reads them all?",
            _test_of_the_first_annotation,
        ),
        Mistake(
            "all rows have the same words",
            "if every row reads the same words, how would a mixture of rows show?",
            _test_of_one_text_in_all_rows,
        ),
        Mistake(
            "no word is ever changed",
            "a decoder that reads each word too late agrees with itself. Which steps must "
            "a changed word move?",
            _test_without_words,
        ),
        Mistake(
            "it demands that a row goes on with its own state, whatever its parent is",
            "row i at step t continues row parents[t, i] of the step before. Whose words has it read?",
            _test_that_forgets_the_parents,
        ),
        Mistake(
            "the histories are read off with the parents of the step before",
            "row i of step 9 continues a row of step 8. In which row of `parents` does "
            "that one's number stand?",
            _test_of_parents_one_step_early,
        ),
        Mistake(
            "it demands that a word moves the step before it",
            "the logits of step 4 are there to predict word 5. May they know it?",
            _test_that_wants_the_future,
        ),
        Mistake(
            "a test that fails on everything", "does it pass on the right code?", _test_that_always_fails
        ),
    ),
    right=(_test_by_shuffled_rows, _test_by_shorter_runs, lambda decode: _test_of_all(decode)),
)

# --- spot the error: what the two articles say of RNNs ------------------------------------------------------

_COMPUTE, _DISTANCE, _OVER, _VISION, _FIRST = "compute", "distance", "over", "vision", "first"
_EQUAL, _TWICE = "equal at", "twice as long"
_LETTER = "answer with one capital letter, from A to D."

rnn_claims = Exercise(
    id="07.rnn_claims",
    kind="spot the error",
    concepts=("sequential-steps", "long-range-recall", "bahdanau"),
    reference={
        _COMPUTE: "B",
        _DISTANCE: "D",
        _OVER: "A",
        _VISION: "C",
        _FIRST: "B",
        _EQUAL: 512,
        _TWICE: 4,
    },
    tolerance=0.001,
    cases=values(
        _COMPUTE,
        _DISTANCE,
        _OVER,
        _VISION,
        _FIRST,
        _EQUAL,
        _TWICE,
        hints={
            **dict.fromkeys((_COMPUTE, _DISTANCE, _OVER, _VISION, _FIRST), _LETTER),
            _EQUAL: "set n d² and n² d equal. What is left of it?",
            _TWICE: "put 2n in place of n in n² d.",
        },
    ),
    mistakes=(
        Mistake(
            "the computation is taken to be larger at every length",
            "n d² against n² d: which is larger for n = 50 and d = 512, and which for n = 5,000?",
            {_COMPUTE: "A"},
        ),
        Mistake(
            "two directions are taken for parallel steps",
            "two runs at the same time: how many steps has each of them?",
            {_COMPUTE: "C"},
        ),
        Mistake(
            "side by side in the batch is taken for side by side in time",
            "64 sentences run side by side. How many steps follow each other when each is twice as long?",
            {_COMPUTE: "D"},
        ),
        Mistake(
            "hard is taken for impossible",
            "how much is left after 100 factors of 0.5, and after 100 factors of 0.99? Who "
            "chooses the factor in an LSTM?",
            {_DISTANCE: "A"},
        ),
        Mistake(
            "the backward direction is taken for a short cut",
            "the run from right to left also calls its cell once at every position. How many lie between?",
            {_DISTANCE: "B"},
        ),
        Mistake(
            "a forget gate is taken to be at most one half",
            "which values can a sigmoid take? What is sigmoid(5)?",
            {_DISTANCE: "C"},
        ),
        Mistake(
            "one attention layer is taken to do all that a recurrence does",
            "keep a running parity of the bits so far: is that a weighted mean of them?",
            {_OVER: "B"},
        ),
        Mistake(
            "recurrent networks are taken to be untrainable on a GPU",
            "on which machines were the translators of 2014 to 2016 trained? What did they have to wait for?",
            {_OVER: "C"},
        ),
        Mistake(
            "a Transformer's cache is taken for a state of fixed size",
            "how many keys and values are kept after 10 words, and after 1,000?",
            {_OVER: "D"},
        ),
        Mistake(
            "a glimpse is taken for a weighted mean",
            "which pixels does such a network read at one step? Does a gradient say where to look instead?",
            {_VISION: "A"},
        ),
        Mistake(
            "the network of glimpses is taken to have no state",
            "look at the title of the paper. How would it remember its earlier glimpses?",
            {_VISION: "B"},
        ),
        Mistake(
            "the order in time is turned round",
            "the numbers of the two preprints begin with year and month. Which came first?",
            {_VISION: "D"},
        ),
        Mistake(
            "alignment is taken for something else than attention",
            "scores, softmax, weighted sum: which of the three is missing in Bahdanau's decoder?",
            {_FIRST: "A"},
        ),
        Mistake(
            "the later paper is taken for the source",
            "Luong et al. name the paper that they simplify. From which year is each?",
            {_FIRST: "C"},
        ),
        Mistake(
            "the recurrence is forgotten",
            "who asks in Bahdanau's model, and what are the annotations the states of?",
            {_FIRST: "D"},
        ),
        Mistake(
            "small letters",
            "the comments have capital letters. Are yours?",
            {_COMPUTE: "b", _DISTANCE: "d", _OVER: "a", _VISION: "c", _FIRST: "b"},
        ),
        Mistake(
            "the square of the width",
            "n d² = n² d. Divide both sides by n and by d. What is left?",
            {_EQUAL: 512**2},
        ),
        Mistake(
            "the root of the width",
            "n d² = n² d. Divide both sides by n and by d. What is left?",
            {_EQUAL: 512**0.5},
        ),
        Mistake(
            "half the width",
            "n d² = n² d. Divide both sides by n and by d. What is left?",
            {_EQUAL: 256},
        ),
        Mistake(
            "that is the RNN's factor",
            "twice as many queries. And each of them meets how many keys?",
            {_TWICE: 2},
        ),
        Mistake(
            "the width is doubled, too",
            "the text is twice as long. Do its vectors get longer?",
            {_TWICE: 8},
        ),
        Mistake(
            "steps are counted, not work",
            "the steps stay 1. How many scores are there to compute?",
            {_TWICE: 1},
        ),
    ),
    right=(
        {
            _COMPUTE: "B ",
            _DISTANCE: "D",
            _OVER: " A",
            _VISION: "C",
            _FIRST: "B",
            _EQUAL: 512.0,
            _TWICE: 2**2,
        },
        {
            _TWICE: torch.tensor(4),
            _EQUAL: np.int64(512),
            _FIRST: "B\n",
            _VISION: "C",
            _OVER: "A",
            _DISTANCE: "D",
            _COMPUTE: "B",
        },
        {
            _COMPUTE: "B",
            _DISTANCE: " D ",
            _OVER: "A",
            _VISION: "C ",
            _FIRST: "B",
            _EQUAL: torch.tensor(512.0),
            _TWICE: 4.0,
        },
    ),
)

EXERCISES = (
    steps_in_a_row,
    linear_scan,
    after_100_steps,
    recall_head,
    bahdanau_step,
    rnn_decoder_test,
    rnn_claims,
)
