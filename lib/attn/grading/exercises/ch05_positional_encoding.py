"""Chapter 05: positional encoding."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor
from torch.func import functional_call

from attn.grading.exercise import Case, Exercise, Mistake, trials, values
from attn.positions import RelativePositions, sinusoidal


def _normal(generator: Generator, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)


def _integer(generator: Generator, low: int, high: int) -> int:
    """low .. high, both included."""
    return int(torch.randint(low, high + 1, (), generator=generator))


def _omega(d_model: int) -> Tensor:
    """The angle per step of each pair; an odd width has half a pair at its end."""
    return 10_000.0 ** (-torch.arange(0, d_model, 2, dtype=torch.float64) / d_model)


def _interleaved(sines: Tensor, cosines: Tensor) -> Tensor:
    return torch.stack([sines, cosines], dim=-1).flatten(-2)


def _codes(positions: Tensor, d_model: int) -> Tensor:
    """The sinusoidal codes of these positions, (positions, d_model), float64; one more for an odd width."""
    angles = positions[:, None] * _omega(d_model)
    return _interleaved(angles.sin(), angles.cos())


# --- predict: how many sentences can a bag hold apart? -----------------------------------------------------

_NO_POSITIONS, _CODES, _CAUSAL, _ALIBI, _LENGTHS = (
    "no positions",
    "sinusoidal codes",
    "causal mask",
    "ALiBi",
    "repetitions",
)

distinct_sentences = Exercise(
    id="05.distinct_sentences",
    kind="predict",
    concepts=("bag-of-words", "rotary-alibi"),
    reference={_NO_POSITIONS: 1, _CODES: 12, _CAUSAL: 12, _ALIBI: 6, _LENGTHS: 2},
    cases=values(
        _NO_POSITIONS,
        _CODES,
        _CAUSAL,
        _ALIBI,
        _LENGTHS,
        hints={
            _NO_POSITIONS: "shuffle the words: what happens to the rows of the output, and to their mean?",
            _CODES: "how many different orders have the four words?",
            _CAUSAL: "which words does the first row see, in each order?",
            _ALIBI: "which orders have the same distances between the same words?",
            _LENGTHS: "write down the weights of the word *good* in each of the four texts.",
        },
    ),
    mistakes=(
        Mistake(
            "self-attention is taken to see the order by itself",
            "in which step of attention does the row number of a word play a part?",
            {_NO_POSITIONS: 12},
        ),
        Mistake(
            "the rows are counted, not the sentences",
            "each different word has an output row of its own. What is left when their mean is taken?",
            {_NO_POSITIONS: 3},
        ),
        Mistake(
            "a sentence and its mirror image are taken to differ under ALiBi",
            "what becomes of the distance |i - j| of two words when the whole sentence is read backwards?",
            {_ALIBI: 12},
        ),
        Mistake(
            "the two equal words are counted as two different ones",
            "exchange the two *very*. Is that another order of the words?",
            {_CODES: 24, _CAUSAL: 24, _ALIBI: 12},
        ),
        Mistake(
            "sinusoidal codes are taken to leave the bag as it is",
            "x + PE(p): is the vector of *good* the same in row 1 and in row 2?",
            {_CODES: 1},
        ),
        Mistake(
            "a causal mask is taken to say nothing about places",
            "how many words does the first row see, and how many the second?",
            {_CAUSAL: 1},
        ),
        Mistake(
            "only the last row is looked at",
            "the last row sees all words. But the mean runs over the other rows too: what did the first see?",
            {_CAUSAL: 3},
        ),
        Mistake(
            "ALiBi is taken for something that leaves the bag as it is",
            "is the score of *very* and *good* the same when they are neighbours and when they are not?",
            {_ALIBI: 1},
        ),
        Mistake(
            "every text gets a vector of its own",
            "*very good* and *good very* are two orders of one bag. What did you say about those above?",
            {_LENGTHS: 4},
        ),
        Mistake(
            "attention is taken to count words: it knows their shares only",
            "if every word is there twice, numerator and denominator of each weight double. What is left?",
            {_LENGTHS: 3},
        ),
        Mistake(
            "attention is taken to see a set, without repetitions",
            "two equal keys have equal weights. How much weight have they together, beside one other key?",
            {_LENGTHS: 1},
        ),
    ),
    right=(
        {_NO_POSITIONS: 1.0, _CODES: 12.0, _CAUSAL: 12.0, _ALIBI: 6.0, _LENGTHS: 2.0},
        {
            _NO_POSITIONS: torch.tensor(1),
            _CODES: math.factorial(4) // 2,
            _CAUSAL: math.factorial(4) / 2,
            _ALIBI: 12 / 2,
            _LENGTHS: torch.tensor(2.0),
        },
        {_LENGTHS: np.int64(2), _ALIBI: np.float64(6), _CAUSAL: 12, _CODES: 12, _NO_POSITIONS: 1},
    ),
)

# --- implement: the sinusoidal table -----------------------------------------------------------------------


def _encoding_with(
    *,
    sine: Callable[[Tensor, int], Tensor] = lambda i, d: 10_000.0 ** (-2 * i / d),
    cosine: Callable[[Tensor, int], Tensor] | None = None,
    first: int = 0,
    arrange: Callable[[Tensor, Tensor], Tensor] = _interleaved,
) -> Callable[[int, int], Tensor]:
    """The table, any of its steps replaced. `sine` and `cosine`: angle per step, from pair and width."""

    def encoding(length: int, d_model: int) -> Tensor:
        p = torch.arange(first, first + length, dtype=torch.float64)[:, None]
        i = torch.arange((d_model + 1) // 2, dtype=torch.float64)
        sines = (p * sine(i, d_model)).sin()
        cosines = (p * (cosine or sine)(i, d_model)).cos()
        return arrange(sines, cosines)[:, :d_model].float()

    return encoding


_encoding = _encoding_with()


def _encoding_by_loop(length: int, d_model: int) -> Tensor:
    table = torch.zeros(length, d_model)
    for p in range(length):
        for feature in range(d_model):
            angle = p / 10_000 ** (2 * (feature // 2) / d_model)
            table[p, feature] = math.cos(angle) if feature % 2 else math.sin(angle)
    return table


def _encoding_by_slices(length: int, d_model: int) -> Tensor:
    """In float32 throughout, as it is mostly written."""
    position = torch.arange(length).unsqueeze(1)
    factor = torch.exp(torch.arange(0, d_model, 2) * (-math.log(10_000.0) / d_model))
    table = torch.zeros(length, d_model)
    table[:, 0::2] = torch.sin(position * factor)
    table[:, 1::2] = torch.cos(position * factor)[:, : d_model // 2]
    return table


def _encoding_in_numpy(length: int, d_model: int) -> Tensor:
    feature = np.arange(d_model)
    angles = np.arange(length)[:, None] / np.power(10_000, 2 * (feature // 2) / d_model)
    return torch.from_numpy(np.where(feature % 2 == 0, np.sin(angles), np.cos(angles)).astype(np.float32))


def _encoding_by_complex_numbers(length: int, d_model: int) -> Tensor:
    """Each row is the one before it, turned."""
    turn = torch.polar(torch.ones_like(_omega(d_model)), _omega(d_model))
    rows = [torch.ones_like(turn)]
    while len(rows) < length:
        rows.append(rows[-1] * turn)
    hands = torch.stack(rows)
    return _interleaved(hands.imag, hands.real)[:, :d_model].float()


def _sines_only(length: int, d_model: int) -> Tensor:
    frequencies = 10_000.0 ** (-torch.arange(d_model, dtype=torch.float64) / d_model)
    return (torch.arange(length)[:, None] * frequencies).sin().float()


def _last_feature_zero(length: int, d_model: int) -> Tensor:
    table = _encoding(length, d_model)
    if d_model % 2:
        table[:, -1] = 0
    return table


def _code_is_too_long(inputs: tuple[Any, ...], outputs: dict[str, Tensor]) -> str | None:
    largest = outputs["table"].abs().max()
    return (
        f"The largest number of the table is {largest:.3g}. How large can a sine be?" if largest > 1 else None
    )


def _columns_in_another_order(inputs: tuple[Any, ...], outputs: dict[str, Tensor]) -> str | None:
    """For a permutation of the features that does not hold in every case (it would have been named)."""
    table, right = outputs["table"], _encoding(*inputs)
    matches = ((table.T[:, None] - right.T).abs().amax(-1) < 1e-4).sum(0)
    if (matches == 0).any():
        return None
    return (
        "Its columns are those of the formula in another order, which alone would be equivalent. "
        "What becomes of them in the other cases, with an odd width say?"
    )


sinusoidal_encoding = Exercise(
    id="05.sinusoidal_encoding",
    kind="implement",
    concepts=("sinusoidal",),
    reference=_encoding,
    returns=("table",),
    cases=(
        Case("a few positions, width 4", lambda g: (_integer(g, 6, 9), 4)),
        Case("width 6", lambda g: (_integer(g, 12, 20), 6)),
        Case("width 32", lambda g: (_integer(g, 33, 40), 32)),
        Case("more than a hundred positions", lambda g: (_integer(g, 101, 120), 10)),
        Case(
            "an odd width",
            lambda g: (_integer(g, 9, 15), 7),
            hint="how many sines has an odd width, and how many cosines? The formula itself stays as it is.",
        ),
    ),
    measures=(_code_is_too_long, _columns_in_another_order),
    mistakes=(
        Mistake(
            "the exponent is 4i/d_model",
            "if your i counts 0, 2, 4, ..., it already is the 2i of the formula. What have you doubled?",
            _encoding_with(sine=lambda i, d: 10_000.0 ** (-4 * i / d)),
        ),
        Mistake(
            "the exponent is i/d_model, not 2i/d_model",
            "how fast is the slowest pair? With i up to d_model/2 - 1 it should come near 1/10000.",
            _encoding_with(sine=lambda i, d: 10_000.0 ** (-i / d)),
        ),
        Mistake(
            "the exponent is 2i/(d_model - 2): the last frequency is exactly 1/10000",
            "some well-known code does this, but the formula says 2i/d_model. Does that ever reach 1?",
            _encoding_with(sine=lambda i, d: 10_000.0 ** (-i / ((d + 1) // 2 - 1))),
        ),
        Mistake(
            "each cosine has the frequency of the next pair",
            "sin² + cos² = 1 holds for one angle. Do your sine and its cosine share theirs?",
            _encoding_with(cosine=lambda i, d: 10_000.0 ** (-2 * (i + 1) / d)),
        ),
        Mistake(
            "each feature has a frequency of its own",
            "features 2i and 2i+1 are one clock hand. How many frequencies are there for d_model features?",
            _encoding_with(cosine=lambda i, d: 10_000.0 ** (-(2 * i + 1) / d)),
        ),
        Mistake(
            "sines only, each with a frequency of its own",
            "what is cos(0), and which features of PE(0) should hold it?",
            _sines_only,
        ),
        Mistake(
            "every sine stands there twice, no cosine",
            "what is cos(0), and which features of PE(0) should hold it?",
            _encoding_with(arrange=lambda s, c: _interleaved(s, s)),
        ),
        Mistake(
            "multiplied where the formula divides",
            "should the later pairs turn faster than the first, or slower?",
            _encoding_with(sine=lambda i, d: 10_000.0 ** (2 * i / d)),
        ),
        Mistake(
            "the base is 1000",
            "how many positions does the slowest hand take for one turn? Count the zeros.",
            _encoding_with(sine=lambda i, d: 1000.0 ** (-2 * i / d)),
        ),
        Mistake(
            "the base is e: exp without the logarithm of 10000",
            "10000^x is exp(x · ...). What stands at the dots?",
            _encoding_with(sine=lambda i, d: (-2 * i / d).exp()),
        ),
        Mistake(
            "positions start at 1",
            "what is the code of the first position, number 0?",
            _encoding_with(first=1),
        ),
        Mistake(
            "the angles are counted in turns: multiplied by 2π",
            "after how many positions should the first hand be back at the top: 1, or about 6?",
            _encoding_with(sine=lambda i, d: 2 * math.pi * 10_000.0 ** (-2 * i / d)),
        ),
        Mistake(
            "positions are divided by the length",
            "should position 3 have another code in a longer sentence?",
            lambda length, d: _codes(torch.arange(length) / length, d)[:, :d].float(),
        ),
        Mistake(
            "the table is transposed",
            "one row for each position: which of the two axes is the length?",
            lambda length, d: _encoding(length, d).T,
        ),
        Mistake(
            "an odd width leaves the last feature at zero",
            "feature number 6 of 7 is even, so it is a sine. Of which frequency?",
            _last_feature_zero,
        ),
        Mistake(
            "an odd width is made even first, which changes its frequencies",
            "in the exponent stands the width that was asked for. Which one did you divide by?",
            lambda length, d: _encoding(length, d + d % 2)[:, :d],
        ),
        Mistake(
            "an odd width is rounded down in the exponent",
            "in the exponent stands the width that was asked for. Which one did you divide by?",
            _encoding_with(sine=lambda i, d: 10_000.0 ** (-i / (d // 2))),
        ),
        Mistake(
            "all cosines first, then all sines",
            "the same features in another order (in an odd width the last pair keeps its cosine, not its "
            "sine). A model trained with it is as good. It matters when you load weights that were trained "
            "with the table of the formula.",
            _encoding_with(arrange=lambda s, c: torch.cat([c, s], dim=-1)),
            equivalent=True,
        ),
        Mistake(
            "all sines first, then all cosines",
            "the same features in another order. The matrix that comes next learns its rows in that order, "
            "so a model trained with it is as good. It matters when you load weights that were trained with "
            "the interleaved table: then sines would meet the rows of cosines.",
            _encoding_with(arrange=lambda s, c: torch.cat([s, c], dim=-1)),
            equivalent=True,
        ),
        Mistake(
            "each cosine stands before its sine",
            "the same pairs, each the other way round (in an odd width the last hand keeps its cosine, not "
            "its sine). A model trained with it is as good. It matters when you load weights that were "
            "trained with the table of the formula.",
            _encoding_with(arrange=lambda s, c: _interleaved(c, s)),
            equivalent=True,
        ),
    ),
    right=(_encoding_by_loop, _encoding_by_slices, _encoding_in_numpy, _encoding_by_complex_numbers),
)


# --- design: the matrix that moves every position ----------------------------------------------------------


def _shift_with(
    block: Callable[[float, float], list[list[float]]] = lambda c, s: [[c, -s], [s, c]],
    angles: Callable[[int, int], Tensor] = lambda k, d: k * _omega(d),
) -> Callable[[int, int], Tensor]:
    """A matrix of 2 x 2 blocks along the diagonal, from the cosine and the sine of each pair's angle."""

    def shift(k: int, d_model: int) -> Tensor:
        blocks = [block(math.cos(a), math.sin(a)) for a in angles(k, d_model).tolist()]
        return torch.block_diag(*(torch.tensor(b, dtype=torch.float64) for b in blocks))

    return shift


_shift = _shift_with()


def _shift_by_index(k: int, d_model: int) -> Tensor:
    matrix = torch.zeros(d_model, d_model)
    for feature in range(0, d_model, 2):
        angle = k / 10_000 ** (feature / d_model)
        matrix[feature, feature] = matrix[feature + 1, feature + 1] = math.cos(angle)
        matrix[feature + 1, feature] = math.sin(angle)
        matrix[feature, feature + 1] = -math.sin(angle)
    return matrix


def _shift_by_generator(k: int, d_model: int) -> Tensor:
    """The exponential of k times the matrix that turns each pair a little."""
    turn = torch.tensor([[0.0, -1.0], [1.0, 0.0]], dtype=torch.float64)
    return torch.linalg.matrix_exp(k * torch.kron(_omega(d_model).diag(), turn))


def _shift_by_powers(k: int, d_model: int) -> Tensor:
    return torch.linalg.matrix_power(_shift(1, d_model), k)


def _shift_by_fit(k: int, d_model: int) -> Tensor:
    """The least-squares fit of a table to itself, k rows further."""
    p = torch.arange(2000, dtype=torch.float64)
    return torch.linalg.lstsq(_codes(p, d_model), _codes(p + k, d_model), driver="gelsd").solution


def _shift_of_halves(k: int, d_model: int) -> Tensor:
    angles = k * _omega(d_model)
    c, s = angles.cos().diag(), angles.sin().diag()
    return torch.cat([torch.cat([c, -s], dim=1), torch.cat([s, c], dim=1)])


def _shift_of_the_first_code(k: int, d_model: int) -> Tensor:
    p = torch.tensor([0.0, k], dtype=torch.float64)
    here, there = _codes(p, d_model)
    return here[:, None] * there / here.square().sum()


_SHIFTED = "PE(p) M"
_WHERE = torch.cat([torch.arange(12), torch.tensor([500, 999])]).double()  # near and far


def _moved_codes(k: int, d_model: int, matrix: Tensor) -> dict[str, Tensor]:
    if matrix.shape != (d_model, d_model) or not matrix.is_floating_point():
        raise ValueError(
            f"the matrix should be floating-point and ({d_model}, {d_model}); "
            f"it is {str(matrix.dtype).removeprefix('torch.')} and {tuple(matrix.shape)}"
        )
    return {_SHIFTED: _codes(_WHERE, d_model) @ matrix.double()}


def _lengths_stay(inputs: tuple[Any, ...], outputs: dict[str, Tensor]) -> str | None:
    squares, wanted = outputs[_SHIFTED].square().sum(-1), inputs[1] / 2
    worst = int((squares - wanted).abs().argmax())
    if (squares[worst] - wanted).abs() < 1e-3:
        return None
    return (
        f"The code of position {int(_WHERE[worst])} has the squared length {wanted:g}; moved, it has "
        f"{squares[worst]:.3g}. Every code should keep its length."
    )


def _one_hand_at_least(inputs: tuple[Any, ...], outputs: dict[str, Tensor]) -> str | None:
    k, d_model = inputs
    right = (outputs[_SHIFTED] - _codes(_WHERE + k, d_model)).abs().amax(0) < 1e-4
    pairs = [i for i in range(d_model // 2) if right[2 * i] and right[2 * i + 1]]
    wrong = [i for i in range(d_model // 2) if i not in pairs]
    return f"Pairs that are moved right: {pairs}; pairs that are not: {wrong}." if pairs and wrong else None


shift_matrix = Exercise(
    id="05.shift_matrix",
    kind="design",
    concepts=("linear-shift", "sinusoidal"),
    reference=_shift,
    returns=("matrix",),
    view=_moved_codes,
    cases=(
        Case("a few places on, width 4", lambda g: (_integer(g, 2, 5), 4)),
        Case("a few places on, width 8", lambda g: (_integer(g, 3, 7), 8)),
        Case(
            "a few places back, width 6",
            lambda g: (-_integer(g, 2, 7), 6),
            hint="is k allowed to be negative?",
        ),
        Case("hundreds of places on, width 10", lambda g: (_integer(g, 150, 300), 10)),
    ),
    measures=(_lengths_stay, _one_hand_at_least),
    mistakes=(
        Mistake(
            "it moves the other way: PE(p - k)",
            "codes are rows, and the matrix stands on their right. Which of its two sines has the minus?",
            _shift_with(lambda c, s: [[c, s], [-s, c]]),
        ),
        Mistake(
            "both sines have the same sign",
            "one of the two addition formulas has a minus. Which?",
            _shift_with(lambda c, s: [[c, s], [s, c]]),
        ),
        Mistake(
            "sine and cosine are exchanged in the blocks",
            "for k = 0 nothing moves. What is your block then?",
            _shift_with(lambda c, s: [[s, -c], [c, s]]),
        ),
        Mistake(
            "the second row of each block is a copy of the first, with its sign turned",
            "for k = 0 nothing moves. What is your block then?",
            _shift_with(lambda c, s: [[c, -s], [-c, s]]),
        ),
        Mistake(
            "the sign of k is lost",
            "what should happen for a negative k? Which of cosine and sine notices it?",
            _shift_with(angles=lambda k, d: abs(k) * _omega(d)),
        ),
        Mistake(
            "it moves by one place, whatever k",
            "by which angle does a hand turn in k steps?",
            _shift_with(angles=lambda k, d: _omega(d)),
        ),
        Mistake(
            "the matrix of one step, times k",
            "two steps are the matrix applied twice. Is that M + M, or M M?",
            lambda k, d: k * _shift(1, d),
        ),
        Mistake(
            "every pair is turned by the angle of the first",
            "do all hands turn equally fast?",
            _shift_with(angles=lambda k, d: torch.full((d // 2,), float(k), dtype=torch.float64)),
        ),
        Mistake(
            "only the first pair is turned",
            "the other hands are slower, but do they stand still?",
            _shift_with(angles=lambda k, d: k * _omega(d) * (torch.arange(d // 2) == 0)),
        ),
        Mistake(
            "the exponent is 4i/d_model",
            "if your i counts 0, 2, 4, ..., it already is the 2i of the formula. What have you doubled?",
            _shift_with(angles=lambda k, d: k * _omega(d) ** 2),
        ),
        Mistake(
            "angles are multiplied by 10000^(2i/d_model) where they should be divided",
            "should the later pairs turn faster than the first, or slower?",
            _shift_with(angles=lambda k, d: k / _omega(d)),
        ),
        Mistake(
            "the matrix for a table with all sines first",
            "in which order does this table hold its features? Where is the cosine of the first sine?",
            _shift_of_halves,
        ),
        Mistake(
            "the code of k on the diagonal",
            "a diagonal matrix scales each feature alone. How can sin a cos b + cos a sin b get its cos a?",
            lambda k, d: _codes(torch.tensor([float(k)], dtype=torch.float64), d)[0].diag(),
        ),
        Mistake(
            "right for position 0 only",
            "you found a matrix that carries PE(0) to PE(k). Does it carry PE(1) to PE(k + 1)?",
            _shift_of_the_first_code,
        ),
        Mistake(
            "the features are moved, not the position",
            "k counts positions, that is rows of the table. What does your matrix do within a row?",
            lambda k, d: torch.eye(d, dtype=torch.float64).roll(k, 1),
        ),
    ),
    right=(_shift_by_index, _shift_by_generator, _shift_by_powers, _shift_by_fit),
)

# --- spot the error: beyond the lengths of the training ----------------------------------------------------

_FIXED, _RANDOM = "from position 0", "from a random start"
_LETTER = {"wrong": 'answer with one capital letter, as in "A"'}

beyond_claim = Exercise(
    id="05.beyond_claim",
    kind="spot the error",
    concepts=("learned-vs-sinusoidal",),
    reference={"wrong": "C", _FIXED: 16 * 32, _RANDOM: 64 * 32},
    cases=values(
        "wrong",
        _FIXED,
        _RANDOM,
        hints={
            **_LETTER,
            _FIXED: "which rows of the table are ever added to a word? How many numbers has a row?",
            _RANDOM: "which is the first row that is ever used, and which the last?",
        },
    ),
    mistakes=(
        Mistake(
            "sentence A is right",
            "see table 3, row (E), of the paper, and section 9 of the lesson, up to the dotted line.",
            {"wrong": "A"},
        ),
        Mistake(
            "sentence B is right",
            "a row that is never added to a word: which gradient does it get?",
            {"wrong": "B"},
        ),
        Mistake(
            "sentence D is right",
            "sin² + cos² = 1 at every position. But have the matrices ever met these combinations of hands?",
            {"wrong": "D"},
        ),
        Mistake(
            "every row is counted as trained",
            "is row 40 ever added to a word, if every text has 16 words and starts at position 0?",
            {_FIXED: 64 * 32},
        ),
        Mistake(
            "rows are counted, not numbers",
            "each row is a vector. How many numbers has it?",
            {_FIXED: 16, _RANDOM: 64},
        ),
        Mistake(
            "the rows that are not trained are counted",
            "48 rows are left out. The question is for the others.",
            {_FIXED: 48 * 32},
        ),
        Mistake(
            "a learned table is taken for a fixed one",
            "the waves are fixed. Who writes the rows of a *learned* table?",
            {_FIXED: 0, _RANDOM: 0},
        ),
        Mistake(
            "one table for each text",
            "do two texts of a batch have two tables, or one?",
            {_FIXED: 16 * 16 * 32},
        ),
        Mistake(
            "the random start is taken to change nothing",
            "a text that starts at 48 uses which rows?",
            {_RANDOM: 16 * 32},
        ),
        Mistake(
            "only the rows are counted at which a text may start",
            "a text that starts at row 48 is 16 words long. Which is its last row?",
            {_RANDOM: 49 * 32},
        ),
        Mistake(
            "rows are counted once for each start that uses them",
            "row 20 is used by many starts. Is it there more than once?",
            {_RANDOM: 49 * 16 * 32},
        ),
        Mistake(
            "one row too few: the last start and the last word are both included",
            "start 48, then 15 more words: which row is the last, counted from 0?",
            {_RANDOM: 63 * 32},
        ),
    ),
    right=(
        {"wrong": "C", _FIXED: 512.0, _RANDOM: 2048.0},
        {"wrong": "C ", _FIXED: torch.tensor(512), _RANDOM: 2**11},
        {_RANDOM: np.prod([48 + 16, 32]), _FIXED: 2**9, "wrong": " C"},
    ),
)

# --- design: codes to add that do the work of concatenation ------------------------------------------------


def _cut(codes: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """The rows of the matrix that meet the word, and those that meet the position."""
    d_x = len(weight) - codes.shape[-1]
    return weight[:d_x], weight[d_x:]


def _absorbed(codes: Tensor, weight: Tensor) -> Tensor:
    w_x, w_p = _cut(codes, weight)
    return codes @ w_p @ torch.linalg.pinv(w_x)


def _absorbed_by_lstsq(codes: Tensor, weight: Tensor) -> Tensor:
    w_x, w_p = _cut(codes, weight)
    return torch.linalg.lstsq(w_x.T, (codes @ w_p).T, driver="gelsd").solution.T


def _absorbed_by_solving(codes: Tensor, weight: Tensor) -> Tensor:
    w_x, w_p = _cut(codes, weight)
    return torch.linalg.solve(w_x.T @ w_x, (codes @ w_p).T).T @ w_x.T


def _absorbed_in_numpy(codes: Tensor, weight: Tensor) -> Tensor:
    w_x, w_p = (w.numpy() for w in _cut(codes, weight))
    u, s, v = np.linalg.svd(w_x, full_matrices=False)
    return torch.from_numpy(codes.numpy() @ w_p @ v.T @ np.diag(1 / s) @ u.T)


def _absorbed_and_more(codes: Tensor, weight: Tensor) -> Tensor:
    """Whatever W_x maps to 0 may be added too."""
    w_x, _ = _cut(codes, weight)
    invisible = torch.eye(len(w_x), dtype=w_x.dtype) - w_x @ torch.linalg.pinv(w_x)
    return _absorbed(codes, weight) + 3 * torch.ones(len(codes), len(w_x), dtype=w_x.dtype) @ invisible


def _as_wide_as_the_word(codes: Tensor, weight: Tensor) -> Tensor:
    d_x = len(weight) - codes.shape[-1]
    return torch.cat([codes, codes.new_zeros(len(codes), d_x)], dim=-1)[:, :d_x]


def _what_codes_add(codes: Tensor, weight: Tensor, added: Tensor) -> dict[str, Tensor]:
    w_x, _ = _cut(codes, weight)
    wanted = (len(codes), len(w_x))
    if added.shape != wanted or added.dtype != codes.dtype:
        raise ValueError(
            f"the new codes should be {wanted} and float64 like the input; "
            f"they are {tuple(added.shape)} and {str(added.dtype).removeprefix('torch.')}"
        )
    return {"what the codes bring to the output, c W_x,": added @ w_x}


def _concatenated(
    d_x: int, d_p: int, d_out: int, *, waves: bool = False
) -> Callable[[Generator], tuple[Tensor, Tensor]]:
    def inputs(generator: Generator) -> tuple[Tensor, Tensor]:
        length = _integer(generator, 11, 13)
        codes = (
            sinusoidal(length, d_p).double()
            if waves
            else _normal(generator, length, d_p, dtype=torch.float64)
        )
        return codes, _normal(generator, d_x + d_p, d_out, dtype=torch.float64)

    return inputs


absorbed_codes = Exercise(
    id="05.absorbed_codes",
    kind="design",
    concepts=("add-vs-concat",),
    reference=_absorbed,
    returns=("added",),
    view=_what_codes_add,
    cases=(
        Case(
            "word and position equally wide",
            _concatenated(8, 8, 3, waves=True),
            hint="c W_x is to be p W_p. What undoes W_x, if it has more rows than columns?",
        ),
        Case("a narrow position", _concatenated(9, 4, 5, waves=True)),
        Case("a wide position, any codes", _concatenated(6, 10, 4)),
        Case("as many outputs as the word has features", _concatenated(5, 3, 5)),
    ),
    mistakes=(
        Mistake(
            "the codes are added as they are",
            "the position used to meet matrix rows of its own. Which rows does it meet now?",
            _as_wide_as_the_word,
        ),
        Mistake(
            "the matrix is cut with the position first",
            "in [x; p] the word comes first. Which rows of W meet it?",
            lambda codes, w: codes @ w[: codes.shape[-1]] @ torch.linalg.pinv(w[codes.shape[-1] :]),
        ),
        Mistake(
            "the matrix is cut after as many rows as the position is wide",
            "W has d_x + d_p rows, and codes is d_p wide. How many rows belong to the word?",
            lambda codes, w: codes @ w[codes.shape[-1] :] @ torch.linalg.pinv(w[: codes.shape[-1]]),
        ),
        Mistake(
            "the transpose of W_x in place of its inverse",
            "a transpose undoes a rotation. Is W_x one?",
            lambda codes, w: codes @ _cut(codes, w)[1] @ _cut(codes, w)[0].T,
        ),
        Mistake(
            "p W_p itself: it has been through the matrix already",
            "c is added before the matrix. What must c be, so that c W_x is p W_p?",
            lambda codes, w: codes @ _cut(codes, w)[1],
        ),
        Mistake(
            "back through W_p instead of W_x",
            "which matrix will the new codes meet? Through which one must they be led back?",
            lambda codes, w: codes @ _cut(codes, w)[1] @ torch.linalg.pinv(_cut(codes, w)[1]),
        ),
        Mistake(
            "the inverse of all of W, cut afterwards",
            "the new codes meet W_x alone. Whose inverse do you need?",
            lambda codes, w: codes @ _cut(codes, w)[1] @ torch.linalg.pinv(w)[:, : len(_cut(codes, w)[0])],
        ),
        Mistake(
            "nothing is added",
            "c = 0 leaves x W_x. Which term of [x; p] W is missing then?",
            lambda codes, w: codes.new_zeros(len(codes), len(w) - codes.shape[-1]),
        ),
        Mistake(
            "the sign is turned",
            "c W_x is to be p W_p. Which sign has yours?",
            lambda codes, w: -_absorbed(codes, w),
        ),
        Mistake(
            "every position gets the code of position 0",
            "does the word at position 5 get what it had, side by side with its own code?",
            lambda codes, w: _absorbed(codes, w)[:1].expand(len(codes), -1),
        ),
        Mistake(
            "the mean of all positions is taken off",
            "is a constant that all codes share of no use to the output?",
            lambda codes, w: _absorbed(codes - codes.mean(0), w),
        ),
    ),
    right=(_absorbed_by_lstsq, _absorbed_by_solving, _absorbed_in_numpy, _absorbed_and_more),
)

# --- implement: Shaw's relative scores ---------------------------------------------------------------------


def _offsets_of(query: Tensor, key: Tensor) -> Tensor:
    """Position of the key minus position of the query; the last of both line up."""
    queries, keys = query.shape[-2], key.shape[-2]
    return torch.arange(keys) - torch.arange(keys - queries, keys)[:, None]


def _clipped(o: Tensor, k: int) -> Tensor:
    return o.clamp(-k, k) + k


def _plain(query: Tensor, key: Tensor) -> Tensor:
    return query @ key.transpose(-2, -1)


def _shaw_with(
    *,
    offset: Callable[[Tensor, Tensor], Tensor] = _offsets_of,
    row: Callable[[Tensor, int], Tensor] = _clipped,
    score: Callable[[Tensor, Tensor, Tensor], Tensor] = lambda q, k, a: (
        (_plain(q, k) + (q[..., :, None, :] * a).sum(-1)) / math.sqrt(q.shape[-1])
    ),
) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """Shaw's scores, any step replaced. `row`: offset → row of the table. `score` gets the picked vectors,
    (queries, keys, d_k).
    """

    def scores(query: Tensor, key: Tensor, offsets: Tensor) -> Tensor:
        chosen = offsets[row(offset(query, key), len(offsets) // 2)]
        return score(query, key, chosen)

    return scores


_shaw = _shaw_with()


def _shaw_by_loop(query: Tensor, key: Tensor, offsets: Tensor) -> Tensor:
    k, gap = len(offsets) // 2, key.shape[-2] - query.shape[-2]
    rows = []
    for i in range(query.shape[-2]):
        cells = []
        for j in range(key.shape[-2]):
            a = offsets[max(-k, min(k, j - i - gap)) + k]
            cells.append((query[..., i, :] * (key[..., j, :] + a)).sum(-1))
        rows.append(torch.stack(cells, dim=-1))
    return torch.stack(rows, dim=-2) / query.shape[-1] ** 0.5


def _shaw_by_gather(query: Tensor, key: Tensor, offsets: Tensor) -> Tensor:
    index = _clipped(_offsets_of(query, key), len(offsets) // 2)
    by_offset = query @ offsets.T
    picked = by_offset.gather(-1, index.expand(*by_offset.shape[:-1], -1))
    return (_plain(query, key) + picked) * query.shape[-1] ** -0.5


def _shaw_by_einsum(query: Tensor, key: Tensor, offsets: Tensor) -> Tensor:
    index = _clipped(_offsets_of(query, key), len(offsets) // 2)
    which = torch.nn.functional.one_hot(index, len(offsets)).to(query.dtype)
    relative = torch.einsum("...qd,od,qko->...qk", query, offsets, which)
    return (torch.einsum("...qd,...kd->...qk", query, key) + relative) / math.sqrt(query.shape[-1])


def _shaw_by_the_library(query: Tensor, key: Tensor, offsets: Tensor) -> Tensor:
    module = RelativePositions(query.shape[-1], len(offsets) // 2)
    return functional_call(module, {"offsets": offsets}, (query, key))


def _shaw_in_double(query: Tensor, key: Tensor, offsets: Tensor) -> Tensor:
    return _shaw(query.double(), key.double(), offsets.double()).to(query.dtype)


def _right_offsets(inputs: tuple[Any, ...], outputs: dict[str, Tensor]) -> str | None:
    query, key, offsets = inputs
    ok = torch.isclose(outputs["scores"], _shaw(query, key, offsets), atol=1e-4)
    offset = _offsets_of(query, key)
    by_offset = {int(o): bool(ok[..., offset == o].all()) for o in offset.unique()}
    right, wrong = (
        [o for o, fine in by_offset.items() if fine],
        [o for o, fine in by_offset.items() if not fine],
    )
    if not right or not wrong:
        return None
    return f"Offsets (key - query) whose scores are right: {right}; not right: {wrong}."


def _relative(
    queries: int, keys: int, k: int, *leading: int, d_k: int = 5
) -> Callable[[Generator], tuple[Tensor, ...]]:
    """Inputs for Shaw's scores, with offsets up to k."""
    return lambda g: (
        _normal(g, *leading, queries, d_k),
        _normal(g, *leading, keys, d_k),
        _normal(g, 2 * k + 1, d_k),
    )


relative_scores = Exercise(
    id="05.relative_scores",
    kind="implement",
    concepts=("relative-shaw",),
    reference=_shaw,
    returns=("scores",),
    cases=(
        Case(
            "6 positions, offsets up to 2",
            _relative(6, 6, 2),
            hint="write down the offsets of query 5, from key 0 to 5. Which row of the table does each take?",
        ),
        Case(
            "4 positions, offsets up to 7",
            _relative(4, 4, 7),
            hint="which row of the table belongs to the offset 0, when the table is longer than the text?",
        ),
        Case("a batch of heads", _relative(6, 6, 3, 2, 3, d_k=8)),
        Case(
            "the newest 3 queries over 8 keys",
            _relative(3, 8, 3),
            points=2,
            hint="the last query stands where the last key stands. At which position stands the first query?",
        ),
        Case("gradients", _relative(4, 6, 2, 2), gradients=True),
    ),
    measures=(_right_offsets,),
    mistakes=(
        Mistake(
            "the offset is query minus key",
            "row 0 of the table belongs to the keys furthest *before* the query. Is j - i negative there?",
            _shaw_with(offset=lambda q, k: -_offsets_of(q, k)),
        ),
        Mistake(
            "negative offsets count from the end of the table",
            "what does Python do with the row number -2? In which row is the vector of the offset 0?",
            _shaw_with(row=lambda o, k: o.clamp(-k, k) % (2 * k + 1)),
        ),
        Mistake(
            "the distance is used, without its direction",
            "may one word before and one word after have different vectors?",
            _shaw_with(row=lambda o, k: _clipped(o.abs(), k)),
        ),
        Mistake(
            "clipped one place too early",
            "which vectors of the table does yours never use?",
            _shaw_with(row=lambda o, k: o.clamp(1 - k, k - 1) + k),
        ),
        Mistake(
            "the far offsets get no vector",
            "all that lies beyond the end of the table shares its last vector. Which one did yours get?",
            lambda q, k, a: (_plain(q, k) + _far_left_out(q, k, a)) / math.sqrt(q.shape[-1]),
        ),
        Mistake(
            "the first query stands at the first key, not the last at the last",
            "the queries are the newest positions. How many keys stand before the first of them?",
            _shaw_with(offset=lambda q, k: torch.arange(k.shape[-2]) - torch.arange(q.shape[-2])[:, None]),
        ),
        Mistake(
            "the vectors are picked by the key's position, not by the offset",
            "does a score stay the same when both words move on by one place?",
            _shaw_with(offset=lambda q, k: torch.arange(k.shape[-2]).expand(q.shape[-2], -1)),
        ),
        Mistake(
            "the relative part is not scaled",
            "a is added to the key, and then all is divided. Which part did your root reach?",
            _shaw_with(
                score=lambda q, k, a: _plain(q, k) / math.sqrt(q.shape[-1]) + (q[..., :, None, :] * a).sum(-1)
            ),
        ),
        Mistake(
            "the scores are not scaled",
            "what is the variance of a dot product of d_k terms?",
            _shaw_with(score=lambda q, k, a: _plain(q, k) + (q[..., :, None, :] * a).sum(-1)),
        ),
        Mistake(
            "divided by d_k instead of its square root",
            "dividing by c divides the variance by c². Which c brings d_k down to 1?",
            _shaw_with(score=lambda q, k, a: (_plain(q, k) + (q[..., :, None, :] * a).sum(-1)) / q.shape[-1]),
        ),
        Mistake(
            "the vector is added to the query, not to the key",
            "in the formula a stands beside the key. Whom does it then meet in the dot product?",
            _shaw_with(
                score=lambda q, k, a: (
                    (_plain(q, k) + (k[..., None, :, :] * a).sum(-1)) / math.sqrt(q.shape[-1])
                )
            ),
        ),
        Mistake(
            "the vector is added to the query and to the key",
            "how many terms has q · (k + a), and how many has yours?",
            _shaw_with(
                score=lambda q, k, a: (
                    ((q[..., :, None, :] + a) * (k[..., None, :, :] + a)).sum(-1) / math.sqrt(q.shape[-1])
                )
            ),
        ),
        Mistake(
            "the plain scores, without positions",
            "what would these scores say of two keys that are alike and stand at different places?",
            _shaw_with(score=lambda q, k, a: _plain(q, k) / math.sqrt(q.shape[-1])),
        ),
        Mistake(
            "the relative part alone",
            "where is the word that the key stands for?",
            _shaw_with(score=lambda q, k, a: (q[..., :, None, :] * a).sum(-1) / math.sqrt(q.shape[-1])),
        ),
        Mistake(
            "the same for all queries: the vector's own sum is added",
            "what does the query ask the vector? Where is their dot product?",
            _shaw_with(score=lambda q, k, a: (_plain(q, k) + a.sum(-1)) / math.sqrt(q.shape[-1])),
        ),
        Mistake(
            "the vectors are cut off from the gradient",
            "how is the table to be learned, if no gradient reaches it?",
            lambda q, k, a: _shaw(q, k, a.detach()) + 0 * a.sum(),
        ),
    ),
    right=(_shaw_by_loop, _shaw_by_gather, _shaw_by_einsum, _shaw_by_the_library, _shaw_in_double),
)


def _far_left_out(query: Tensor, key: Tensor, offsets: Tensor) -> Tensor:
    k, offset = len(offsets) // 2, _offsets_of(query, key)
    near = offsets[_clipped(offset, k)] * (offset.abs() <= k)[..., None]
    return (query[..., :, None, :] * near).sum(-1)


# --- find the bug: a test of rotations ---------------------------------------------------------------------

Rotate = Callable[[Tensor, Tensor], Tensor]


def _rotate_with(
    *,
    place: Callable[[Tensor, Tensor], Tensor] = lambda positions, x: positions,
    omega: Callable[[int], Tensor] = _omega,
    turn: Callable[[Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor]] = lambda a, b, c, s: (
        a * c - b * s,
        a * s + b * c,
    ),
    halves: bool = False,
) -> Rotate:
    """A rotation, any step replaced. `turn` gets both members of all pairs, the cosines and the sines."""

    def rotate(x: Tensor, positions: Tensor) -> Tensor:
        angles = place(torch.as_tensor(positions), x)[..., None] * omega(x.shape[-1])
        c, s = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
        if halves:
            first, second = x.chunk(2, dim=-1)
            return torch.cat(turn(first, second, c, s), dim=-1)
        return _interleaved(*turn(x[..., 0::2], x[..., 1::2], c, s))

    return rotate


_rotate = _rotate_with()


def _rotate_by_complex_numbers(x: Tensor, positions: Tensor) -> Tensor:
    angles = torch.as_tensor(positions)[..., None] * _omega(x.shape[-1])
    pairs = torch.view_as_complex(x.double().unflatten(-1, (-1, 2)).contiguous())
    turned = pairs * torch.polar(torch.ones_like(angles), angles)
    return torch.view_as_real(turned).flatten(-2).to(x.dtype)


def _adds_the_code(x: Tensor, positions: Tensor) -> Tensor:
    angles = torch.as_tensor(positions)[..., None] * _omega(x.shape[-1])
    return x + _interleaved(angles.sin(), angles.cos()).to(x.dtype)


def _rotate_by_features(omega: Callable[[int], Tensor]) -> Rotate:
    """Pairs lie side by side; `omega` gives an angle per step for each *feature*."""

    def rotate(x: Tensor, positions: Tensor) -> Tensor:
        angles = torch.as_tensor(positions)[..., None] * omega(x.shape[-1])
        partner = _interleaved(-x[..., 1::2], x[..., 0::2])
        return x * angles.cos().to(x.dtype) + partner * angles.sin().to(x.dtype)

    return rotate


def _unturned_half(x: Tensor, positions: Tensor) -> Tensor:
    half = x.shape[-1] // 4 * 2
    return torch.cat([_rotate(x, positions)[..., :half], x[..., half:]], dim=-1)


_ROTATIONS = (
    Mistake(
        "the right code, neighbouring features in pairs",
        "this one is right, to the letter of the formula. What does your test demand beyond it?",
        _rotate,
        equivalent=True,
    ),
    Mistake(
        "the right code, written with complex numbers",
        "this one is right. What does your test demand that the definition does not say? The last digit?",
        _rotate_by_complex_numbers,
        equivalent=True,
    ),
    Mistake(
        "equivalent: feature i is paired with feature i + d/2",
        "this one is right too: other features make the pairs, but q and k have the same ones. It matters "
        "only when you load weights trained with the other order. Does your test know the pairs?",
        _rotate_with(halves=True),
        equivalent=True,
    ),
    Mistake(
        "equivalent: everything turns the other way round",
        "this one is right too: if q and k both turn backwards, m - n still says by how much they differ. "
        "Does your test know the direction?",
        _rotate_with(turn=lambda a, b, c, s: (a * c + b * s, b * c - a * s)),
        equivalent=True,
    ),
    Mistake(
        "nothing is turned",
        "q·k that never changes at all does not depend on m + 5 and n + 5 either. Should it depend on m - n?",
        lambda x, positions: x * 1,
    ),
    Mistake(
        "the sinusoidal code is added",
        "does a sum keep lengths? Does it leave the dot product alone when both positions move on?",
        _adds_the_code,
    ),
    Mistake(
        "one sign is wrong: a shear, not a rotation",
        "is every vector as long after the turn as before?",
        _rotate_with(turn=lambda a, b, c, s: (a * c + b * s, a * s + b * c)),
    ),
    Mistake(
        "the positions are ignored: rows are counted from 0",
        "which of your asserts would fail, if rows 0, 1, 2, ... were turned by 0, 1, 2, ... in any case?",
        _rotate_with(place=lambda positions, x: torch.arange(x.shape[-2])),
    ),
    Mistake(
        "every row is turned by the position of the first",
        "do two rows of one call ever stand at different places in your test, and do you look at both?",
        _rotate_with(place=lambda positions, x: positions[..., :1].expand(positions.shape)),
    ),
    Mistake(
        "every pair turns equally fast",
        "with more than one pair: how far has each turned? What do you know of a vector of ones?",
        _rotate_with(omega=lambda d: torch.ones(d // 2, dtype=torch.float64)),
    ),
    Mistake(
        "the exponent is 4i/d",
        "it is a rotation, and depends on the offset only. How would you see that a pair is too slow?",
        _rotate_with(omega=lambda d: _omega(d) ** 2),
    ),
    Mistake(
        "the later pairs turn faster, not slower",
        "it is a rotation, and depends on the offset only. How would you see that a pair is too fast?",
        _rotate_with(omega=lambda d: 1 / _omega(d)),
    ),
    Mistake(
        "half of the features are left unturned",
        "how many pairs are there, and do you see all of them turn?",
        _unturned_half,
    ),
    Mistake(
        "the two members of a pair are turned by different angles",
        "is every vector as long after the turn as before?",
        _rotate_by_features(lambda d: 10_000.0 ** (-torch.arange(d, dtype=torch.float64) / d)),
    ),
    Mistake(
        "the angles are laid out for pairs (i, i + d/2), the pairs are neighbours",
        "is every vector as long after the turn as before?",
        _rotate_by_features(lambda d: _omega(d).repeat(2)),
    ),
    Mistake(
        "the table ends at position 63: all that comes later turns like 63",
        "which positions does your test try? A sequence may be long.",
        _rotate_with(place=lambda positions, x: positions.clamp(max=63)),
    ),
    Mistake(
        "positions are kept in bfloat16, which has no odd numbers above 256",
        "which positions does your test try? A sequence may be long.",
        _rotate_with(place=lambda positions, x: positions.to(torch.bfloat16).double()),
    ),
)


def _turning(d: int, rows: int = 6) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Random rows q and k, and positions m and n for them."""
    g = torch.Generator().manual_seed(3)
    q, k = _normal(g, rows, d, dtype=torch.float64), _normal(g, rows, d, dtype=torch.float64)
    m, n = torch.randint(0, 50, (2, rows), generator=g)
    return q, k, m, n


def _dots(rotate: Rotate, q: Tensor, k: Tensor, m: Tensor, n: Tensor) -> Tensor:
    return (rotate(q, m) * rotate(k, n)).sum(-1)


def _assert_shift(rotate: Rotate, *shifts: int, d: int = 8) -> None:
    q, k, m, n = _turning(d)
    for shift in shifts:
        moved = _dots(rotate, q, k, m + shift, n + shift)
        torch.testing.assert_close(moved, _dots(rotate, q, k, m, n))


def _assert_angles(rotate: Rotate, positions: Tensor, d: int = 8) -> None:
    """A vector of ones, turned, has the dot product 2 Σ cos(p ω_i) with itself, whichever the pairs are."""
    ones = torch.ones(len(positions), d, dtype=torch.float64)
    expected = 2 * (positions[:, None] * _omega(d)).cos().sum(-1)
    torch.testing.assert_close((ones * rotate(ones, positions)).sum(-1), expected)


def _test_by_properties(rotate: Rotate) -> None:
    _assert_shift(rotate, 3, 1001)
    _assert_angles(rotate, torch.tensor([0, 1, 7, 40, 700, 3]))


def _test_by_known_dot_products(rotate: Rotate) -> None:
    """q·k of a vector with itself is a sum of cosines of the offset, if all its pairs are equally long."""
    ones = torch.ones(4, 8)
    for m, n in (([0, 5, 300, 41], [0, 1, 309, 2]), ([9, 1001, 8, 77], [3, 1000, 60, 90])):
        offset = torch.tensor(m) - torch.tensor(n)
        expected = 2 * sum((offset * 10_000 ** (-2 * i / 8)).cos() for i in range(4))
        found = _dots(rotate, ones, ones, torch.tensor(m), torch.tensor(n))
        assert torch.allclose(found, torch.as_tensor(expected), atol=1e-3)
    q, _, m_, _ = _turning(8)
    assert torch.allclose(rotate(q, m_).norm(dim=-1), q.norm(dim=-1))
    _assert_shift(rotate, 257)


def _test_by_pairs_of_candidates(rotate: Rotate) -> None:
    """Equal to one of the four ways to write it: two kinds of pairs, two directions."""
    q, k, m, n = _turning(6)
    m = m + 511
    back = _rotate_with(turn=lambda a, b, c, s: (a * c + b * s, b * c - a * s))
    halves_back = _rotate_with(turn=lambda a, b, c, s: (a * c + b * s, b * c - a * s), halves=True)
    candidates = (_rotate, back, _rotate_with(halves=True), halves_back)
    found = torch.cat([rotate(q, m), rotate(k, n)])
    assert any(torch.allclose(found, torch.cat([c(q, m), c(k, n)]), atol=1e-6) for c in candidates)


def _test_of_shape(rotate: Rotate) -> None:
    q, _, m, _ = _turning(8)
    assert rotate(q, m).shape == q.shape


def _test_of_lengths(rotate: Rotate) -> None:
    q, _, m, _ = _turning(8)
    torch.testing.assert_close(rotate(q, m).norm(dim=-1), q.norm(dim=-1))


def _test_of_position_0(rotate: Rotate) -> None:
    q, _, m, _ = _turning(8)
    torch.testing.assert_close(rotate(q, m * 0), q)


def _test_of_shifts(rotate: Rotate) -> None:
    _assert_shift(rotate, 3, 1001)


def _test_of_offsets(rotate: Rotate) -> None:
    _assert_shift(rotate, 3, 1001)
    q, k, m, n = _turning(8)
    assert ((_dots(rotate, q, k, m + 1, n) - _dots(rotate, q, k, m, n)).abs() > 1e-6).all()


def _test_of_counted_rows(rotate: Rotate) -> None:
    _assert_angles(rotate, torch.arange(40))
    q, _, _, _ = _turning(8)
    torch.testing.assert_close(rotate(q, torch.arange(6)).norm(dim=-1), q.norm(dim=-1))


def _test_of_near_positions(rotate: Rotate) -> None:
    _assert_shift(rotate, 3, 9)
    _assert_angles(rotate, torch.tensor([4, 1, 7, 40]))


def _test_of_one_row(rotate: Rotate) -> None:
    for p in (0, 1, 7, 701):
        _assert_angles(rotate, torch.tensor([p]))
    q, k, m, n = (x[:1] for x in _turning(8))
    torch.testing.assert_close(_dots(rotate, q, k, m + 1001, n + 1001), _dots(rotate, q, k, m, n))


def _test_of_one_pair(rotate: Rotate) -> None:
    _assert_shift(rotate, 3, 1001, d=2)
    _assert_angles(rotate, torch.tensor([0, 1, 7, 40, 701, 3]), d=2)


def _test_of_one_layout(rotate: Rotate) -> None:
    q, k, m, n = _turning(8)
    torch.testing.assert_close(rotate(q, m + 701), _rotate(q, m + 701))
    torch.testing.assert_close(rotate(k, n), _rotate(k, n))


def _test_exactly(rotate: Rotate) -> None:
    q, k, m, n = _turning(8)
    assert torch.equal(_dots(rotate, q, k, m + 1001, n + 1001), _dots(rotate, q, k, m, n))


def _test_that_always_fails(rotate: Rotate) -> None:
    q, _, m, _ = _turning(8)
    rotate(q, m)
    raise AssertionError("wrong")


rotary_test = Exercise(
    id="05.rotary_test",
    kind="find the bug",
    concepts=("rotary-alibi", "linear-shift"),
    reference=_test_by_properties,
    cases=trials(*_ROTATIONS),
    mistakes=(
        Mistake(
            "it catches nothing: no number is asserted",
            "does it look at more than shapes? Does it `assert` what it finds, not print or return it?",
            _test_of_shape,
        ),
        Mistake(
            "a test of lengths, or of small shifts, only",
            "a function that turns nothing passes it. Where must a position *change* a number, by how much?",
            _test_of_lengths,
        ),
        Mistake(
            "a test at position 0 only",
            "at position 0 nothing turns, whatever the angles are. Where would a mistake show?",
            _test_of_position_0,
        ),
        Mistake(
            "it sees that a common shift changes nothing, not that the offset counts",
            "a function that turns nothing passes it. Where must a position *change* a number, by how much?",
            _test_of_shifts,
        ),
        Mistake(
            "it sees that the offset counts, but not how much",
            "which number should come out, when you know the angles? Try a vector of ones against itself.",
            _test_of_offsets,
        ),
        Mistake(
            "the positions are always 0, 1, 2, ...",
            "code that counts the rows itself agrees with you by chance. Which positions would give it away?",
            _test_of_counted_rows,
        ),
        Mistake(
            "only positions near the beginning are tried",
            "sequences are thousands of words long. What could go wrong far from the start?",
            _test_of_near_positions,
        ),
        Mistake(
            "one row at a time",
            "if there is one row only, can the rows be mixed up?",
            _test_of_one_row,
        ),
        Mistake(
            "vectors of two features: there is one pair only",
            "how many frequencies has d = 2? How many pairs do you need to see them differ?",
            _test_of_one_pair,
        ),
        Mistake(
            "one layout of pairs, one direction is demanded",
            "which features make a pair is free, the dot products are not. Which of the two do you compare?",
            _test_of_one_layout,
        ),
        Mistake(
            "floating-point numbers compared with ==",
            "another order of operations changes the last digit. How close is close enough?",
            _test_exactly,
        ),
        Mistake(
            "a test that fails on everything", "does it pass on the right code?", _test_that_always_fails
        ),
    ),
    right=(
        _test_by_known_dot_products,
        _test_by_pairs_of_candidates,
        lambda rotate: _test_by_properties(rotate),
    ),
)

EXERCISES = (
    distinct_sentences,
    sinusoidal_encoding,
    shift_matrix,
    beyond_claim,
    relative_scores,
    absorbed_codes,
    rotary_test,
)
