"""Chapter 08: the Transformer encoder."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from attn.core import attend
from attn.grading.exercise import Case, Exercise, Mistake, trials, values


def _normal(generator: Generator, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)


# --- predict: what six sub-layers do to the size of x and of the gradient ----------------------------------

_QUANTITIES = (
    "variance, no norm",
    "variance, pre-norm",
    "variance, post-norm",
    "gradient, no residual",
    "gradient, residual",
)


def _through(*numbers: float) -> dict[str, float]:
    return dict(zip(_QUANTITIES, numbers, strict=False))


residual_stream = Exercise(
    id="08.residual_stream",
    kind="predict",
    concepts=("residual", "layer-norm"),
    reference=_through(64, 7, 1, 1 / 64, 1.5**6),
    cases=values(
        *_QUANTITIES,
        hints={
            "variance, no norm": "what is added at each step: always the same, or as much as is there?",
            "variance, pre-norm": "what is the variance of the vectors that go into a box?",
            "variance, post-norm": "what is the last thing that happens to x?",
            "gradient, no residual": "six functions, one inside the other. What does the chain rule do?",
            "gradient, residual": "what is the slope of x + f(x), if that of f is 1/2?",
        },
    ),
    tolerance=0.001,
    mistakes=(
        Mistake(
            "three steps instead of six",
            "how many sub-layers has one encoder layer?",
            _through(8, 4, 1, 1 / 8, 1.5**3),
        ),
        Mistake(
            "standard deviations instead of variances",
            "the question asks for variances. What is the square of yours?",
            {"variance, no norm": 8.0, "variance, pre-norm": math.sqrt(7)},
        ),
        Mistake(
            "without norm, a box is taken to add a variance of 1 each time",
            "without norm, how large is what goes into the second box, and so what comes out of it?",
            {"variance, no norm": 7.0},
        ),
        Mistake(
            "without norm, the variance is taken to grow by 2 each time, not to double",
            "after the first sub-layer x has the variance 2. What does the second box add to it?",
            {"variance, no norm": 12.0},
        ),
        Mistake(
            "pre-norm is taken to double x as if there were no norm",
            "in pre-norm the box sees a normalised x. What is the variance of its output, at every depth?",
            {"variance, pre-norm": 64.0},
        ),
        Mistake(
            "the first x is forgotten in the sum",
            "before any box there is x already. Does it count?",
            {"variance, no norm": 32.0, "variance, pre-norm": 6.0},
        ),
        Mistake(
            "pre-norm is taken to keep x itself at variance 1",
            "in pre-norm, is it x that is normalised, or only what the box gets to see?",
            {"variance, pre-norm": 1.0},
        ),
        Mistake(
            "the sum is not normalised in post-norm",
            "x + Box(x) has the variance 2 in post-norm. What comes after the sum?",
            {"variance, post-norm": 2.0},
        ),
        Mistake(
            "post-norm is taken to grow like pre-norm",
            "in post-norm, can anything that was added pass by the norm?",
            {"variance, post-norm": 7.0},
        ),
        Mistake(
            "standard deviations are added, not variances",
            "for independent numbers, which add up: variances or standard deviations?",
            {"variance, no norm": 4096.0, "variance, pre-norm": 49.0},
        ),
        Mistake(
            "slopes are added up instead of multiplied",
            "what does the chain rule do with the slopes of f(f(x))?",
            {"gradient, no residual": 3.0, "gradient, residual": 4.0},
        ),
        Mistake(
            "the residual is counted once, around the whole stack",
            "is there one way round all six, or one around each?",
            {"gradient, residual": 1 + 1 / 64},
        ),
        Mistake(
            "the residual alone, without what flows through the boxes",
            "the gradient has a way round each box and a way through it. Are both counted?",
            {"gradient, residual": 1.0},
        ),
        Mistake(
            "the two gradients are exchanged",
            "which of the two vanishes with depth?",
            {"gradient, no residual": 1.5**6, "gradient, residual": 1 / 64},
        ),
    ),
    right=(
        _through(64.0, 7.0, 1.0, 0.0156, 11.39),
        _through(2**6, 1 + 6, 1, 0.5**6, (1 + 0.5) ** 6),
        dict(zip(_QUANTITIES, torch.tensor([64, 7, 1, 1 / 64, 729 / 64]), strict=True)),
    ),
)

# --- implement: layer normalisation ------------------------------------------------------------------------


def _norm_of(
    *shape: int,
    spread: float = 1.0,
    centre: float = 0.0,
    eps: float = 1e-5,
    dtype: torch.dtype = torch.float32,
) -> Callable[[Generator], tuple[Any, ...]]:
    def inputs(generator: Generator) -> tuple[Any, ...]:
        x = spread * _normal(generator, *shape, dtype=torch.float64) + centre
        gain, bias = _normal(generator, shape[-1], dtype=dtype), _normal(generator, shape[-1], dtype=dtype)
        return x.to(dtype), gain, bias, eps

    return inputs


def _hardly_varying(generator: Generator) -> tuple[Any, ...]:
    """Ordinary vectors, one whose variance is about as large as eps, and one without any."""
    x, gain, bias, eps = _norm_of(2, 3, 6)(generator)
    x[0, 1] *= 0.004
    x[1, 2] = 3.0
    return x, gain, bias, eps


def _layer_norm(x: Tensor, gain: Tensor, bias: Tensor, eps: float) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], gain, bias, eps)


def _norm_with(
    *,
    axes: Callable[[Tensor], int | tuple[int, ...]] = lambda x: -1,
    centre: Callable[[Tensor, Any], Tensor] = lambda x, axes: x.mean(axes, keepdim=True),
    variance: Callable[[Tensor, Any], Tensor] = lambda x, axes: x.var(axes, keepdim=True, correction=0),
    divisor: Callable[[Tensor, float], Tensor] = lambda variance, eps: (variance + eps).sqrt(),
    finish: Callable[[Tensor, Tensor, Tensor], Tensor] = lambda z, gain, bias: gain * z + bias,
) -> Callable[[Tensor, Tensor, Tensor, float], Tensor]:
    """Layer normalisation, any of its steps replaced."""

    def layer_norm(x: Tensor, gain: Tensor, bias: Tensor, eps: float) -> Tensor:
        over = axes(x)
        return finish((x - centre(x, over)) / divisor(variance(x, over), eps), gain, bias)

    return layer_norm


def _norm_in_place(x: Tensor, gain: Tensor, bias: Tensor, eps: float) -> Tensor:
    with torch.no_grad():
        x -= x.mean(-1, keepdim=True)
    return gain * x / (x.square().mean(-1, keepdim=True) + eps).sqrt() + bias


def _norm_by_loop(x: Tensor, gain: Tensor, bias: Tensor, eps: float) -> Tensor:
    rows = []
    for row in x.reshape(-1, x.shape[-1]):
        mean = sum(row) / len(row)
        variance = sum((entry - mean) ** 2 for entry in row) / len(row)
        rows.append(torch.stack([(entry - mean) / (variance + eps) ** 0.5 for entry in row]) * gain + bias)
    return torch.stack(rows).reshape(x.shape)


def _norm_by_matrix(x: Tensor, gain: Tensor, bias: Tensor, eps: float) -> Tensor:
    """Centring is a matrix: the identity less a mean."""
    n = x.shape[-1]
    centred = x.double() @ (torch.eye(n, dtype=torch.float64) - 1 / n)
    squares = torch.einsum("...i,...i->...", centred, centred) / n
    z = centred * torch.rsqrt(squares + eps)[..., None]
    return (z * gain + bias).to(x.dtype)


def _norm_by_module(x: Tensor, gain: Tensor, bias: Tensor, eps: float) -> Tensor:
    module = nn.LayerNorm(x.shape[-1], eps=eps, dtype=x.dtype)
    result: Tensor = torch.func.functional_call(module, {"weight": gain, "bias": bias}, (x,))
    return result


def _means_are_zero(inputs: tuple[Any, ...], outputs: dict[str, Tensor]) -> str | None:
    """Undo gain and bias, and look at what each vector's mean is."""
    x, gain, bias, _ = inputs
    result = outputs["result"]
    if result.shape != x.shape:
        return None
    off = ((result - bias) / gain).mean(-1).abs().max()
    if off < 1e-3:
        return None
    if result.mean(-1).abs().max() < 1e-3:
        return "The mean of each result is 0. That is so before gain and bias; are they used?"
    return f"Before gain and bias, the mean of a vector should be 0; here one is {off:.3g}."


layer_norm = Exercise(
    id="08.layer_norm",
    kind="implement",
    concepts=("layer-norm",),
    reference=_layer_norm,
    cases=(
        Case("one vector", _norm_of(5)),
        Case("a batch of sentences", _norm_of(2, 3, 6, spread=3.0, centre=1.0)),
        Case("a batch of heads", _norm_of(2, 3, 4, 5)),
        Case(
            "vectors that hardly vary, or not at all",
            _hardly_varying,
            points=2,
            hint="where exactly does eps stand, when it is as large as the variance?",
        ),
        Case("a large eps", _norm_of(3, 4, eps=0.5), hint="is eps the one that was handed over?"),
        Case(
            "a mean of ten million",
            _norm_of(3, 7, centre=1e7, dtype=torch.float64),
            hint="what is left of the digits, when two huge numbers are subtracted that hardly differ?",
        ),
        Case(
            "gradients",
            _norm_of(2, 3, 4),
            gradients=True,
            points=2,
            hint="mean and variance depend on x as well. Does the gradient know?",
        ),
    ),
    measures=(_means_are_zero,),
    mistakes=(
        Mistake(
            "the variance is divided by d_model - 1",
            "which of the two does torch's var and std divide by, if not told otherwise?",
            _norm_with(variance=lambda x, axes: x.var(axes, keepdim=True)),
        ),
        Mistake(
            "eps stands outside the root",
            "when the variance is 0, what is to be divided by: eps, or its root?",
            _norm_with(divisor=lambda variance, eps: variance.sqrt() + eps),
        ),
        Mistake(
            "std() divides by d_model - 1, and eps stands outside the root",
            "two things at once: which mean does std take, and is eps added to a variance or to a deviation?",
            _norm_with(variance=lambda x, a: x.var(a, keepdim=True), divisor=lambda v, eps: v.sqrt() + eps),
        ),
        Mistake(
            "divided by the variance: the root is missing",
            "if x is doubled, the result should stay. By what does it change in yours?",
            _norm_with(divisor=lambda variance, eps: variance + eps),
        ),
        Mistake(
            "without eps",
            "what is 0 / 0, for a vector whose entries are all alike?",
            _norm_with(divisor=lambda variance, eps: variance.sqrt()),
        ),
        Mistake(
            "eps is fixed at 1e-5",
            "which eps does the caller want?",
            _norm_with(divisor=lambda variance, eps: (variance + 1e-5).sqrt()),
        ),
        Mistake(
            "eps is a floor for the variance instead of being added",
            "is eps added, or is it the smallest value allowed?",
            _norm_with(divisor=lambda variance, eps: variance.clamp_min(eps).sqrt()),
        ),
        Mistake(
            "normalised over the positions",
            "one position, one vector. Does a word's result change when its neighbour does?",
            _norm_with(axes=lambda x: -2 if x.dim() > 1 else -1),
        ),
        Mistake(
            "normalised over the batch",
            "does the second sentence of a batch give what it gives alone?",
            _norm_with(axes=lambda x: 0),
        ),
        Mistake(
            "one mean for everything",
            "how many vectors are there, and how many means should there be?",
            _norm_with(axes=lambda x: tuple(range(x.dim()))),
        ),
        Mistake(
            "normalised over positions and features together",
            "in images one does so. In a text, may a word's result depend on how many words follow?",
            _norm_with(axes=lambda x: (-2, -1) if x.dim() > 1 else -1),
        ),
        Mistake(
            "the mean is not taken off",
            "that is RMSNorm, used in many newer models. Which two numbers does LayerNorm fix, not one?",
            _norm_with(
                centre=lambda x, axes: torch.zeros_like(x),
                variance=lambda x, axes: x.square().mean(axes, keepdim=True),
            ),
        ),
        Mistake(
            "the mean is taken off above the line, not below",
            "the variance is the mean square of the distances from what?",
            _norm_with(variance=lambda x, axes: x.square().mean(axes, keepdim=True)),
        ),
        Mistake(
            "the variance is taken as mean of squares less square of the mean",
            "right on paper. How many digits are left, when the mean is ten million and the spread 1?",
            _norm_with(
                variance=lambda x, axes: (
                    x.square().mean(axes, keepdim=True) - x.mean(axes, keepdim=True).square()
                ).clamp_min(0)
            ),
        ),
        Mistake(
            "centred, but not scaled",
            "what should the variance of each vector be afterwards?",
            _norm_with(divisor=lambda variance, eps: torch.ones_like(variance)),
        ),
        Mistake(
            "divided by the length of the vector",
            "the length is the root of a sum of squares. Is the variance a sum, or a mean?",
            _norm_with(
                variance=lambda x, a: (x - x.mean(a, keepdim=True)).square().sum(a, keepdim=True),
            ),
        ),
        Mistake(
            "the axis is lost in the mean (keepdim)",
            "what shape has x.mean(-1), and against which axis of x is it then subtracted?",
            _norm_with(centre=lambda x, a: x.mean(a), variance=lambda x, a: x.var(a, correction=0)),
        ),
        Mistake(
            "the axis is lost in mean and var (keepdim), and var divides by d_model - 1",
            "what shape has x.mean(-1), and against which axis of x is it then subtracted? And var?",
            _norm_with(centre=lambda x, a: x.mean(a), variance=lambda x, a: x.var(a)),
        ),
        Mistake(
            "scaled by the mean absolute deviation",
            "distances are squared before their mean is taken. Were yours?",
            _norm_with(
                variance=lambda x, a: (x - x.mean(a, keepdim=True)).abs().mean(a, keepdim=True).square()
            ),
        ),
        Mistake(
            "gain and bias are not used",
            "which two arguments are left over?",
            _norm_with(finish=lambda z, gain, bias: z),
        ),
        Mistake(
            "the bias is not added", "which argument is left over?", _norm_with(finish=lambda z, g, b: g * z)
        ),
        Mistake(
            "the gain is not used", "which argument is left over?", _norm_with(finish=lambda z, g, b: z + b)
        ),
        Mistake(
            "gain and bias are exchanged",
            "which of the two multiplies, and which is added?",
            _norm_with(finish=lambda z, gain, bias: bias * z + gain),
        ),
        Mistake(
            "the gain multiplies the bias as well",
            "is the bias added before the gain, or after?",
            _norm_with(finish=lambda z, gain, bias: gain * (z + bias)),
        ),
        Mistake(
            "mean and variance are cut off from the gradient",
            "if x moves, its mean moves too. Does the gradient see that, behind detach() or no_grad()?",
            _norm_with(
                centre=lambda x, axes: x.detach().mean(axes, keepdim=True),
                variance=lambda x, axes: x.detach().var(axes, keepdim=True, correction=0),
            ),
        ),
        Mistake(
            "the variance alone is cut off from the gradient",
            "the divisor depends on x too. Does the gradient see that?",
            _norm_with(variance=lambda x, axes: x.detach().var(axes, keepdim=True, correction=0)),
        ),
        Mistake(
            "x is changed in place",
            "who else still needs the x that you were given? Think of the residual connection.",
            _norm_in_place,
        ),
    ),
    right=(_norm_with(), _norm_by_loop, _norm_by_matrix, _norm_by_module),
)

# --- implement: the score of a tagger ----------------------------------------------------------------------


def _tags_of(
    *lengths: int, longest: int, n_tags: int = 4, size: float = 1.0, junk: float | None = None
) -> Callable[[Generator], tuple[Tensor, Tensor, Tensor]]:
    """Logits, tags, mask of sentences with these lengths. Padding has the tag 0, as the first tag has."""

    def inputs(generator: Generator) -> tuple[Tensor, Tensor, Tensor]:
        shape = (len(lengths), longest)
        tags = torch.randint(n_tags, shape, generator=generator)
        tags[:, 0] = 0  # the tag that padding has stands at real words too
        # Right for most words, by a margin: a tagger that has learned something.
        knows = torch.rand(shape, generator=generator) < 0.7
        logits = _normal(generator, *shape, n_tags) + 2.0 * F.one_hot(tags, n_tags) * knows[..., None]
        mask = torch.arange(longest) < torch.tensor(lengths)[:, None]
        logits = size * logits
        if junk is not None:
            logits[~mask] = junk
        return logits, tags.where(mask, 0), mask

    return inputs


def _tag_scores(logits: Tensor, tags: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    logits, tags = logits[mask], tags[mask]
    return F.cross_entropy(logits, tags), (logits.argmax(-1) == tags).to(logits.dtype).mean()


def _negative_log(logits: Tensor, tags: Tensor) -> Tensor:
    """(batch, length): the loss of each word."""
    return -logits.log_softmax(-1).gather(-1, tags[..., None])[..., 0]


def _mean_of_real(x: Tensor, mask: Tensor) -> Tensor:
    return x[mask].mean()


def _product_with_mask(x: Tensor, mask: Tensor) -> Tensor:
    return (x * mask).sum() / mask.sum()


def _mean_of_sentences(x: Tensor, mask: Tensor) -> Tensor:
    return (x.where(mask, 0.0).sum(1) / mask.sum(1)).mean()


def _mean_of_all(x: Tensor, mask: Tensor) -> Tensor:
    return x.mean()


def _divided_by_all(x: Tensor, mask: Tensor) -> Tensor:
    return x.where(mask, 0.0).mean()


def _hits(logits: Tensor, tags: Tensor) -> Tensor:
    return (logits.argmax(-1) == tags).to(logits.dtype)


Reduction = Callable[[Tensor, Tensor], Tensor]


def _tags_with(
    *,
    per_word: Callable[[Tensor, Tensor], Tensor] = _negative_log,
    hits: Callable[[Tensor, Tensor], Tensor] = _hits,
    loss: Reduction = _mean_of_real,
    accuracy: Reduction = _mean_of_real,
    finish: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] = lambda loss, accuracy: (loss, accuracy),
) -> Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Loss and accuracy, any step replaced."""

    def scores(logits: Tensor, tags: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        return finish(loss(per_word(logits, tags), mask), accuracy(hits(logits, tags), mask))

    return scores


def _without_tag_0(logits: Tensor, tags: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    kept = tags != 0
    return F.cross_entropy(logits.flatten(0, 1), tags.flatten(), ignore_index=0), _hits(logits, tags)[
        kept
    ].mean()


def _loss_without_tag_0(logits: Tensor, tags: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    return _without_tag_0(logits, tags, mask)[0], _tag_scores(logits, tags, mask)[1]


def _reshaped(logits: Tensor, tags: Tensor) -> Tensor:
    """Tags read from the wrong places: reshape does not move an axis."""
    n, length, n_tags = logits.shape
    return F.cross_entropy(logits.reshape(n, n_tags, length), tags, reduction="none")


def _whole_sentences(logits: Tensor, tags: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    right = (_hits(logits, tags).bool() | ~mask).all(1)
    return _tag_scores(logits, tags, mask)[0], right.to(logits.dtype).mean()


def _tags_by_loop(logits: Tensor, tags: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    losses, hits = [], []
    for b in range(len(tags)):
        for i in range(tags.shape[1]):
            if mask[b, i]:
                row = logits[b, i]
                losses.append(row.max() + (row - row.max()).exp().sum().log() - row[tags[b, i]])
                hits.append(float(row.argmax() == tags[b, i]))
    return torch.stack(losses).mean(), torch.tensor(hits, dtype=logits.dtype).mean()


def _tags_by_ignore_index(logits: Tensor, tags: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    tags = tags.masked_fill(~mask, -100)
    loss = F.cross_entropy(logits.transpose(1, 2), tags)
    return loss, (logits.argmax(-1) == tags).sum() / mask.sum()


def _tags_by_one_hot(logits: Tensor, tags: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    wide = logits.masked_fill(~mask[..., None], 0.0).double()
    loss = (wide.logsumexp(-1) - (wide * F.one_hot(tags, wide.shape[-1])).sum(-1)) * mask
    hits = wide.argmax(-1).eq(tags) & mask
    return (loss.sum() / mask.sum()).to(logits.dtype), (hits.sum() / mask.sum()).to(logits.dtype)


def _accuracy_is_a_share(inputs: tuple[Any, ...], outputs: dict[str, Tensor]) -> str | None:
    accuracy = outputs["accuracy"]
    if accuracy.dim() or 0 <= accuracy <= 1:
        return None
    return f"The accuracy is {accuracy:.3g}; a share lies between 0 and 1."


tag_scores = Exercise(
    id="08.tag_scores",
    kind="implement",
    concepts=("tagging",),
    reference=_tag_scores,
    returns=("loss", "accuracy"),
    cases=(
        Case(
            "no padding",
            _tags_of(5, 5, 5, longest=5),
            hint="cross_entropy wants words x tags, and one tag per word. What do you hand over and return?",
        ),
        Case("sentences of unequal length", _tags_of(6, 2, 3, longest=6), points=2),
        Case(
            "a sentence that is padding from end to end",
            _tags_of(4, 0, 7, 5, longest=7),
            hint="is there a mean of this sentence's own? Should there be?",
        ),
        Case(
            "NaN at the padding",
            _tags_of(2, 5, 4, longest=5, junk=math.nan),
            hint="what is NaN times 0? Can the padding be left out rather than multiplied away?",
        ),
        Case(
            "logits of a thousand",
            _tags_of(5, 3, longest=5, n_tags=7, size=1000.0),
            hint="what is the logarithm of a probability that has become 0?",
        ),
        Case("gradients of the loss", _tags_of(5, 1, 4, longest=5), gradients=True),
    ),
    measures=(_accuracy_is_a_share,),
    mistakes=(
        Mistake(
            "padding is counted, in loss and accuracy",
            "whose tags are at the padding? Who is meant to guess them?",
            _tags_with(loss=_mean_of_all, accuracy=_mean_of_all),
        ),
        Mistake(
            "padding is counted in the loss",
            "the accuracy leaves it out. And the mean of the losses?",
            _tags_with(loss=_mean_of_all),
        ),
        Mistake(
            "padding is counted in the accuracy",
            "the loss leaves it out. And the share of hits?",
            _tags_with(accuracy=_mean_of_all),
        ),
        Mistake(
            "padding is set to 0 and then counted in the mean",
            "the sum is right. By how many words is it to be divided?",
            _tags_with(loss=_divided_by_all, accuracy=_divided_by_all),
        ),
        Mistake(
            "the loss is divided by the padding as well",
            "the sum of the losses is right. By how many words is it to be divided?",
            _tags_with(loss=_divided_by_all),
        ),
        Mistake(
            "real words with the tag 0 are left out, too",
            "padding has the tag 0. Who else has it? What does the mask know that the tag does not?",
            _without_tag_0,
        ),
        Mistake(
            "real words with the tag 0 are left out of the loss",
            "ignore_index=0 leaves out padding. Whom else?",
            _loss_without_tag_0,
        ),
        Mistake(
            "a mean of the sentences' means",
            "a word of a short sentence, does it count as much as one of a long sentence?",
            _tags_with(loss=_mean_of_sentences, accuracy=_mean_of_sentences),
        ),
        Mistake(
            "the padding is multiplied by 0",
            "what is NaN times 0? Can padding be left out before anything is computed?",
            _tags_with(loss=_product_with_mask, accuracy=_product_with_mask),
        ),
        Mistake(
            "the mask is read the wrong way round",
            "here True means a real word. Of which positions did you take the mean?",
            _tags_with(loss=lambda x, m: x[~m].mean(), accuracy=lambda x, m: x[~m].mean()),
        ),
        Mistake(
            "sums instead of means",
            "if the batch has twice as many words, should the loss be twice as large?",
            _tags_with(loss=lambda x, m: x[m].sum(), accuracy=lambda x, m: x[m].sum()),
        ),
        Mistake(
            "the loss is a sum",
            "if the batch has twice as many words, should the loss be twice as large?",
            _tags_with(loss=lambda x, m: x[m].sum()),
        ),
        Mistake(
            "reshape in place of transpose",
            "cross_entropy wants the tags on axis 1. Does reshape move an axis, or cut the numbers anew?",
            _tags_with(per_word=_reshaped),
        ),
        Mistake(
            "softmax before cross_entropy",
            "cross_entropy takes logits. What does it do with them first?",
            _tags_with(per_word=lambda logits, tags: _negative_log(logits.softmax(-1), tags)),
        ),
        Mistake(
            "the logarithm of softmax overflows",
            "a probability of e^-1000 is 0 on a computer. What is its logarithm? Is there a log_softmax?",
            _tags_with(per_word=lambda x, t: -x.softmax(-1).log().gather(-1, t[..., None])[..., 0]),
        ),
        Mistake(
            "the logits are taken for logarithms of probabilities",
            "nll_loss wants log_softmax of the logits. May such a loss be negative?",
            _tags_with(per_word=lambda x, t: -x.gather(-1, t[..., None])[..., 0]),
        ),
        Mistake(
            "one minus the probability, without a logarithm",
            "how large may this loss become, for a word that is tagged quite wrongly?",
            _tags_with(per_word=lambda x, t: 1 - x.softmax(-1).gather(-1, t[..., None])[..., 0]),
        ),
        Mistake(
            "the sign is missing",
            "the logarithm of a probability is negative. Should a loss fall or rise with it?",
            _tags_with(per_word=lambda x, t: -_negative_log(x, t)),
        ),
        Mistake(
            "softmax runs over the words",
            "for one word, which numbers compete: its tags, or the other words?",
            _tags_with(per_word=lambda x, t: -x.log_softmax(1).gather(-1, t[..., None])[..., 0]),
        ),
        Mistake(
            "the loss is in bits",
            "which base has the logarithm in cross_entropy: 2 or e?",
            _tags_with(finish=lambda loss, accuracy: (loss / math.log(2), accuracy)),
        ),
        Mistake(
            "the accuracy is in percent",
            "between which two numbers does a share lie?",
            _tags_with(finish=lambda loss, accuracy: (loss, 100 * accuracy)),
        ),
        Mistake(
            "the share of mistakes",
            "is a perfect tagger at 0 or at 1?",
            _tags_with(hits=lambda x, t: 1 - _hits(x, t)),
        ),
        Mistake(
            "the share of whole sentences that are right",
            "is it one hit per sentence, or one per word?",
            _whole_sentences,
        ),
        Mistake(
            "the probability of the right tag in place of hits",
            "a word is right or not. Is 0.6 of the probability 0.6 of a hit?",
            _tags_with(hits=lambda x, t: (-_negative_log(x, t)).exp()),
        ),
    ),
    right=(_tags_by_loop, _tags_by_ignore_index, _tags_by_one_hot),
)

# --- implement: an encoder layer ---------------------------------------------------------------------------

_D_MODEL, _N_HEADS, _D_FF = 6, 2, 9


def _layer_inputs(
    norm: str, *lengths: int, longest: int = 5, dtype: torch.dtype = torch.float32
) -> Callable[[Generator], tuple[Any, ...]]:
    """Sentences of these lengths, and weights that hide nothing: no bias is 0, no gain is 1."""

    def inputs(generator: Generator) -> tuple[Any, ...]:
        x = 0.5 + _normal(generator, len(lengths), longest, _D_MODEL, dtype=dtype)
        mask = torch.arange(longest) < torch.tensor(lengths)[:, None]
        shapes = (
            (_D_MODEL, 3 * _D_MODEL),
            (_D_MODEL, _D_MODEL),
            (_D_MODEL, _D_FF),
            (_D_FF,),
            (_D_FF, _D_MODEL),
        )
        W_qkv, W_o, W_1, b_1, W_2 = (_normal(generator, *s, dtype=dtype) / s[0] ** 0.5 for s in shapes)
        b_2 = _normal(generator, _D_MODEL, dtype=dtype)
        gains = 0.5 + torch.rand(2, _D_MODEL, generator=generator).to(dtype)
        biases = _normal(generator, 2, _D_MODEL, dtype=dtype)
        return x, mask, W_qkv, W_o, W_1, b_1, W_2, b_2, gains, biases, _N_HEADS, norm

    return inputs


Box = Callable[[Tensor], Tensor]


def _frame(x: Tensor, box: Box, norm: Box, where: str) -> Tensor:
    """The residual connection and the norm around one box."""
    return x + box(norm(x)) if where == "pre" else norm(x + box(x))


def _key_mask(mask: Tensor) -> Tensor | None:
    return mask[:, None, None, :]


def _heads(x: Tensor, n_heads: int) -> Tensor:
    return x.unflatten(-1, (n_heads, -1)).transpose(1, 2)


def _merged(x: Tensor) -> Tensor:
    return x.transpose(1, 2).flatten(2)


def _two_sublayers(
    x: Tensor, boxes: tuple[Box, Box], norms: tuple[Box, Box], where: str, frames: tuple[Any, Any]
) -> Tensor:
    for box, norm, frame in zip(boxes, norms, frames, strict=True):
        x = frame(x, box, norm, where)
    return x


def _layer_with(
    *,
    frames: tuple[Any, Any] = (_frame, _frame),
    layers: Callable[..., Tensor] = _two_sublayers,
    norm_rows: tuple[int, int] = (0, 1),
    norm_axis: int = -1,
    affine: bool = True,
    thirds: tuple[int, int, int] = (0, 1, 2),
    key_mask: Callable[[Tensor], Tensor | None] = _key_mask,
    without_words: Box | None = None,
    sharpen: Callable[[int], float] = lambda d_k: 1.0,
    split: Callable[[Tensor, int], Tensor] = _heads,
    merge: Box = _merged,
    project: Callable[[Tensor, Tensor], Tensor] = lambda x, W_o: x @ W_o,
    activation: Box = torch.relu,
    feed: Callable[..., Tensor] | None = None,
    norm_name: Callable[[str], str] = lambda norm: norm,
    before: Callable[[Tensor, Tensor], Tensor] = lambda x, mask: x,
) -> Callable[..., Tensor]:
    """An encoder layer, any of its parts replaced."""

    def layer(
        x: Tensor,
        mask: Tensor,
        W_qkv: Tensor,
        W_o: Tensor,
        W_1: Tensor,
        b_1: Tensor,
        W_2: Tensor,
        b_2: Tensor,
        gains: Tensor,
        biases: Tensor,
        n_heads: int,
        norm: str,
    ) -> Tensor:
        def attention(x: Tensor) -> Tensor:
            parts = (x @ W_qkv).chunk(3, -1)
            q, k, v = (split(parts[third], n_heads) for third in thirds)
            mixed = attend(q * sharpen(q.shape[-1]), k, v, mask=key_mask(mask))[0]
            if without_words is not None:
                mixed = mixed.where(mask.any(1)[:, None, None, None], without_words(v))
            return project(merge(mixed), W_o)

        def feed_forward(x: Tensor) -> Tensor:
            if feed is not None:
                return feed(x, W_1, b_1, W_2, b_2)
            return activation(x @ W_1 + b_1) @ W_2 + b_2

        def row(i: int) -> Box:
            def normalise(x: Tensor) -> Tensor:
                x = x.transpose(norm_axis, -1)
                z = F.layer_norm(x, x.shape[-1:]).transpose(norm_axis, -1)
                return gains[i] * z + biases[i] if affine else z

            return normalise

        norms = (row(norm_rows[0]), row(norm_rows[1]))
        return layers(before(x, mask), (attention, feed_forward), norms, norm_name(norm), frames)

    return layer


def _encoder_layer(
    x: Tensor,
    mask: Tensor,
    W_qkv: Tensor,
    W_o: Tensor,
    W_1: Tensor,
    b_1: Tensor,
    W_2: Tensor,
    b_2: Tensor,
    gains: Tensor,
    biases: Tensor,
    n_heads: int,
    norm: str,
) -> Tensor:
    return _layer_with()(x, mask, W_qkv, W_o, W_1, b_1, W_2, b_2, gains, biases, n_heads, norm)


def _without_residual(x: Tensor, box: Box, norm: Box, where: str) -> Tensor:
    return box(norm(x)) if where == "pre" else norm(box(x))


def _residual_of_the_normed(x: Tensor, box: Box, norm: Box, where: str) -> Tensor:
    return norm(x) + box(norm(x)) if where == "pre" else norm(x + box(x))


def _norm_of_the_branch(x: Tensor, box: Box, norm: Box, where: str) -> Tensor:
    return x + box(norm(x)) if where == "pre" else x + norm(box(x))


def _norm_twice(x: Tensor, box: Box, norm: Box, where: str) -> Tensor:
    return norm(x + box(norm(x))) if where == "pre" else norm(x + box(x))


def _first_x_again(x: Tensor, boxes: Any, norms: Any, where: str, frames: Any) -> Tensor:
    middle = _frame(x, boxes[0], norms[0], where)
    if where == "pre":
        return x + boxes[1](norms[1](middle))
    return norms[1](x + boxes[1](middle))


def _side_by_side(x: Tensor, boxes: Any, norms: Any, where: str, frames: Any) -> Tensor:
    attention, feed_forward = boxes
    if where == "pre":
        return x + attention(norms[0](x)) + feed_forward(norms[1](x))
    return norms[1](norms[0](x + attention(x)) + feed_forward(x))


def _feed_forward_first(x: Tensor, boxes: Any, norms: Any, where: str, frames: Any) -> Tensor:
    return _two_sublayers(x, boxes[::-1], norms[::-1], where, frames)


def _final_norm(x: Tensor, boxes: Any, norms: Any, where: str, frames: Any) -> Tensor:
    x = _two_sublayers(x, boxes, norms, where, frames)
    return norms[1](x) if where == "pre" else x


def _layer_by_sentence(
    x: Tensor,
    mask: Tensor,
    W_qkv: Tensor,
    W_o: Tensor,
    W_1: Tensor,
    b_1: Tensor,
    W_2: Tensor,
    b_2: Tensor,
    gains: Tensor,
    biases: Tensor,
    n_heads: int,
    norm: str,
) -> Tensor:
    """One sentence, one head, one query at a time, over the real words only."""
    d_model = x.shape[-1]
    d_k = d_model // n_heads

    def normalise(x: Tensor, i: int) -> Tensor:
        return F.layer_norm(x, (d_model,), gains[i], biases[i])

    def attention(x: Tensor, real: Tensor) -> Tensor:
        q, k, v = x @ W_qkv[:, :d_model], x @ W_qkv[:, d_model:-d_model], x @ W_qkv[:, -d_model:]
        rows = []
        for query in q:
            parts = []
            for start in range(0, d_model, d_k):
                mine = slice(start, start + d_k)
                weights = torch.softmax(k[real][:, mine] @ query[mine] / d_k**0.5, 0)
                parts.append(weights @ v[real][:, mine])
            rows.append(torch.cat(parts) @ W_o)
        return torch.stack(rows)

    def feed_forward(x: Tensor) -> Tensor:
        return (x @ W_1 + b_1).clamp_min(0) @ W_2 + b_2

    out = []
    for sentence, real in zip(x, mask, strict=True):
        if norm == "pre":
            middle = sentence + attention(normalise(sentence, 0), real)
            out.append(middle + feed_forward(normalise(middle, 1)))
        else:
            middle = normalise(sentence + attention(sentence, real), 0)
            out.append(normalise(middle + feed_forward(middle), 1))
    return torch.stack(out)


def _layer_of_torch(
    x: Tensor,
    mask: Tensor,
    W_qkv: Tensor,
    W_o: Tensor,
    W_1: Tensor,
    b_1: Tensor,
    W_2: Tensor,
    b_2: Tensor,
    gains: Tensor,
    biases: Tensor,
    n_heads: int,
    norm: str,
) -> Tensor:
    """nn.TransformerEncoderLayer itself. It gives NaN for a sentence without words: there the values are
    made 0 instead, and nothing is masked.
    """
    d_model = x.shape[-1]
    layer = nn.TransformerEncoderLayer(
        d_model, n_heads, len(b_1), 0.0, batch_first=True, norm_first=norm == "pre", dtype=x.dtype
    )

    def run(x: Tensor, W_qkv: Tensor, ignore: Tensor | None) -> Tensor:
        weights = {
            "self_attn.in_proj_weight": W_qkv.T,
            "self_attn.in_proj_bias": x.new_zeros(3 * d_model),
            "self_attn.out_proj.weight": W_o.T,
            "self_attn.out_proj.bias": x.new_zeros(d_model),
            "linear1.weight": W_1.T,
            "linear1.bias": b_1,
            "linear2.weight": W_2.T,
            "linear2.bias": b_2,
            "norm1.weight": gains[0],
            "norm1.bias": biases[0],
            "norm2.weight": gains[1],
            "norm2.bias": biases[1],
        }
        result: Tensor = torch.func.functional_call(layer, weights, (x,), {"src_key_padding_mask": ignore})
        return result

    wordless = ~mask.any(1)
    out = run(x, W_qkv, ~(mask | wordless[:, None]))
    if not wordless.any():
        return out
    no_values = torch.cat([W_qkv[:, : 2 * d_model], 0 * W_qkv[:, 2 * d_model :]], 1)
    return torch.where(wordless[:, None, None], run(x, no_values, None), out)


def _layer_by_library(
    x: Tensor,
    mask: Tensor,
    W_qkv: Tensor,
    W_o: Tensor,
    W_1: Tensor,
    b_1: Tensor,
    W_2: Tensor,
    b_2: Tensor,
    gains: Tensor,
    biases: Tensor,
    n_heads: int,
    norm: str,
) -> Tensor:
    """torch's fused kernel, which knows empty rows, and einsum for the heads, in double precision."""
    wide = [w.double() for w in (x, W_qkv, W_o, W_1, b_1, W_2, b_2, gains, biases)]
    y, W_qkv, W_o, W_1, b_1, W_2, b_2, gains, biases = wide
    W_heads = W_qkv.reshape(len(W_qkv), 3, n_heads, -1)
    W_back = W_o.reshape(n_heads, -1, len(W_o))
    for i in range(2):
        inside = F.layer_norm(y, y.shape[-1:], gains[i], biases[i]) if norm == "pre" else y
        if i == 0:
            q, k, v = torch.einsum("bld,dphk->pbhlk", inside, W_heads)
            mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask[:, None, None, :])
            branch = torch.einsum("bhlk,hkd->bld", mixed, W_back)
        else:
            branch = F.linear(F.relu(F.linear(inside, W_1.T, b_1)), W_2.T, b_2)
        y = y + branch
        if norm == "post":
            y = F.layer_norm(y, y.shape[-1:], gains[i], biases[i])
    return y.to(x.dtype)


def _bare_heads(x: Tensor, n_heads: int) -> Tensor:
    """Heads cut without moving an axis: they share out the words instead of the features."""
    return x.reshape(len(x), n_heads, x.shape[1], -1)


def _thirds_per_head(*weights: Any) -> Tensor:
    """W_qkv read as (head, q k v, d_k), which is how some models keep it."""
    x, mask, W_qkv, *others = weights
    n_heads = others[-2]
    W_heads = W_qkv.unflatten(1, (n_heads, 3, -1)).transpose(1, 2).flatten(1)
    return _encoder_layer(x, mask, W_heads, *others)


def _zeros_at_padding(*weights: Any) -> Tensor:
    return _encoder_layer(*weights) * weights[1][..., None]


encoder_layer = Exercise(
    id="08.encoder_layer",
    kind="implement",
    concepts=("residual", "layer-norm", "attention-plus-ffn", "encoder-equals-torch"),
    reference=_encoder_layer,
    cases=(
        Case("post-norm, no padding", _layer_inputs("post", 5, 5)),
        Case("pre-norm, no padding", _layer_inputs("pre", 5, 5)),
        Case("post-norm, unequal lengths", _layer_inputs("post", 3, 5, 1), points=2),
        Case("pre-norm, unequal lengths", _layer_inputs("pre", 2, 7, 4, longest=7), points=2),
        Case(
            "post-norm, a sentence without words",
            _layer_inputs("post", 4, 0, longest=4),
            hint="what does attention give a query that may attend to nothing? And the residual?",
        ),
        Case("gradients, pre-norm", _layer_inputs("pre", 4, 2, longest=4), gradients=True, points=2),
    ),
    mistakes=(
        Mistake(
            'always post-norm, whatever "norm" says',
            'with "pre", where does the norm stand: around the sum, or before the box?',
            _layer_with(norm_name=lambda norm: "post"),
        ),
        Mistake(
            'always pre-norm, whatever "norm" says',
            'with "post", where does the norm stand: around the sum, or before the box?',
            _layer_with(norm_name=lambda norm: "pre"),
        ),
        Mistake(
            "pre-norm and post-norm are exchanged",
            "in which of the two does the residual path pass through a norm?",
            _layer_with(norm_name=lambda norm: "pre" if norm == "post" else "post"),
        ),
        Mistake(
            "in pre-norm, the normed x is handed on instead of x",
            "x = norm(x) overwrites what the residual needs. Does the residual pass a norm in pre-norm?",
            _layer_with(frames=(_residual_of_the_normed, _residual_of_the_normed)),
        ),
        Mistake(
            "in pre-norm, the first sub-layer hands on the normed x instead of x",
            "the second sub-layer is right. What is added to the output of attention?",
            _layer_with(frames=(_residual_of_the_normed, _frame)),
        ),
        Mistake(
            "the second residual takes the very first x",
            "which x goes into the second sub-layer? Is it that one that must be added?",
            _layer_with(layers=_first_x_again),
        ),
        Mistake(
            "in post-norm, only the box's output is normalised",
            "LayerNorm(x + Box(x)) or x + LayerNorm(Box(x)): which one is post-norm?",
            _layer_with(frames=(_norm_of_the_branch, _norm_of_the_branch)),
        ),
        Mistake(
            "in pre-norm, the sum is normalised as well",
            "how many norms has a sub-layer?",
            _layer_with(frames=(_norm_twice, _norm_twice)),
        ),
        Mistake(
            "in pre-norm, the layer ends with a norm",
            "the norm at the very end belongs to the encoder. How many layers come before it?",
            _layer_with(layers=_final_norm),
        ),
        Mistake(
            "gains and biases are not used",
            "which two arguments are left over?",
            _layer_with(affine=False),
        ),
        Mistake(
            "the residual around attention is missing",
            "if W_o were 0, what should the first sub-layer hand on?",
            _layer_with(frames=(_without_residual, _frame)),
        ),
        Mistake(
            "the residual around the feed-forward layer is missing",
            "if W_2 and b_2 were 0, what should the second sub-layer hand on?",
            _layer_with(frames=(_frame, _without_residual)),
        ),
        Mistake(
            "both norms use the first gain and bias",
            "there are two norms. Which rows of gains and biases are theirs?",
            _layer_with(norm_rows=(0, 0)),
        ),
        Mistake(
            "the two norms are exchanged",
            "which row belongs to the norm around self-attention?",
            _layer_with(norm_rows=(1, 0)),
        ),
        Mistake(
            "the norm runs over the positions",
            "does a word's result change when its neighbour does? Which axis is d_model?",
            _layer_with(norm_axis=1),
        ),
        Mistake(
            "the feed-forward layer has no ReLU",
            "what do two matrices make, with nothing between them?",
            _layer_with(activation=lambda x: x),
        ),
        Mistake(
            "GELU in place of ReLU",
            "many later models have it. Which function does max(0, x) name?",
            _layer_with(activation=F.gelu),
        ),
        Mistake(
            "the biases of the feed-forward layer are not added",
            "which arguments are left over?",
            _layer_with(feed=lambda x, W_1, b_1, W_2, b_2: torch.relu(x @ W_1) @ W_2),
        ),
        Mistake(
            "attention and feed-forward stand side by side",
            "some models do that. Does the feed-forward layer here get x, or what the first sub-layer gives?",
            _layer_with(layers=_side_by_side),
        ),
        Mistake(
            "the feed-forward layer comes first",
            "which of the two sub-layers is the lower one in the figure?",
            _layer_with(layers=_feed_forward_first),
        ),
        Mistake(
            "the mask is not used",
            "does the padding of a short sentence change what its words get?",
            _layer_with(key_mask=lambda mask: None),
        ),
        Mistake(
            "the mask is read the wrong way round",
            "torch's src_key_padding_mask is True where a position is ignored. What does True mean here?",
            _layer_with(key_mask=lambda mask: ~mask[:, None, None, :]),
        ),
        Mistake(
            "the mask hides queries instead of keys",
            "rows are queries, columns are keys. Which of them must not be looked at?",
            _layer_with(key_mask=lambda mask: mask[:, None, :, None]),
        ),
        Mistake(
            "padding is set to 0 instead of being masked",
            "a key of zeros has the score 0. What weight does softmax give it?",
            _layer_with(key_mask=lambda mask: None, before=lambda x, mask: x * mask[..., None]),
        ),
        Mistake(
            "a sentence without words gives NaN",
            "softmax of a row of -inf is 0/0. What should attention hand to the sum?",
            _layer_with(without_words=lambda value: math.nan * value),
        ),
        Mistake(
            "a sentence without words attends to its padding",
            "where all scores of a row are the same low number, softmax shares alike. What should it be?",
            _layer_with(without_words=lambda value: value.mean(-2, keepdim=True)),
        ),
        Mistake(
            "the scores are not scaled",
            "what is each dot product to be divided by?",
            _layer_with(sharpen=math.sqrt),
        ),
        Mistake(
            "the scores are scaled by the square root of d_model",
            "over how many numbers does the dot product of one head run?",
            _layer_with(sharpen=lambda d_k: math.sqrt(d_k / _D_MODEL)),
        ),
        Mistake(
            "one head of the full width",
            "which argument is left over?",
            _layer_with(split=lambda x, n_heads: x[:, None], merge=lambda x: x[:, 0]),
        ),
        Mistake(
            "the heads are cut across the words",
            "reshape does not move an axis. In which order must view and transpose come?",
            _layer_with(split=_bare_heads, merge=lambda x: x.reshape(len(x), x.shape[2], -1)),
        ),
        Mistake(
            "the heads are put together in the wrong order",
            "which two axes must be exchanged back, before the heads are laid side by side?",
            _layer_with(merge=lambda x: x.reshape(len(x), x.shape[2], -1)),
        ),
        Mistake(
            "W_qkv is cut head by head",
            "the first d_model columns are W_q. Which columns does the first head find there?",
            _thirds_per_head,
        ),
        Mistake(
            "keys and values are exchanged",
            "in which order do W_q, W_k and W_v stand in W_qkv?",
            _layer_with(thirds=(0, 2, 1)),
        ),
        Mistake(
            "queries and keys are exchanged",
            "in which order do W_q, W_k and W_v stand in W_qkv?",
            _layer_with(thirds=(1, 0, 2)),
        ),
        Mistake(
            "W_o is not used",
            "what comes after the heads have been laid side by side?",
            _layer_with(project=lambda x, W_o: x),
        ),
        Mistake(
            "queries at the padding attend to nothing either",
            "Only the outputs at the padding differ, and nobody reads those: every later layer masks them as "
            "keys, and loss and pooling leave them out. It would matter to someone who forgets to.",
            _layer_with(key_mask=lambda mask: mask[:, None, :, None] & mask[:, None, None, :]),
            equivalent=True,
        ),
        Mistake(
            "the outputs at the padding are set to 0",
            "Nobody reads them: every later layer masks them as keys, and loss and pooling leave them out. "
            "It would matter to someone who forgets to, and 0 would not help them: a mean counts it.",
            _zeros_at_padding,
            equivalent=True,
        ),
    ),
    right=(_layer_of_torch, _layer_by_library, _layer_by_sentence),
)

# --- find the bug: a test for encoder layers ---------------------------------------------------------------

_WIDTH, _TEST_HEADS, _HIDDEN = 8, 2, 16


def _hidden_weights() -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(8)
    shapes = ((_WIDTH, 3 * _WIDTH), (_WIDTH, _WIDTH), (_WIDTH, _HIDDEN), (_HIDDEN, _WIDTH))
    return tuple(1.5 * _normal(generator, *shape) / shape[0] ** 0.5 for shape in shapes)


_W_QKV, _W_O, _W_1, _W_2 = _hidden_weights()

Layer = Callable[..., Tensor]


def _plain_norm(x: Tensor) -> Tensor:
    return F.layer_norm(x, x.shape[-1:])


def _norm_over(axis: int) -> Box:
    def norm(x: Tensor) -> Tensor:
        centred = x - x.mean(axis, keepdim=True)
        return centred / (centred.square().mean(axis, keepdim=True) + 1e-5).sqrt()

    return norm


Allowed = Callable[[Tensor, Tensor | None], Tensor | None]


def _allowed(x: Tensor, mask: Tensor | None) -> Tensor | None:
    """Broadcasts to (batch, heads, length, length): who may look at whom. None: all at all."""
    return None if mask is None else mask[:, None, None, :]


def _tested_with(
    *,
    allowed: Allowed = _allowed,
    mix: Callable[..., Tensor] = F.scaled_dot_product_attention,
    residual: float = 1.0,
    norms: tuple[Box, Box] = (_plain_norm, _plain_norm),
    activation: Box = torch.relu,
    before: Box = lambda x: x,
    feed_from: Box = lambda x: x,
) -> Layer:
    """The layer under test: post-norm, weights of its own, no biases, any part replaced."""

    def layer(x: Tensor, mask: Tensor | None = None) -> Tensor:
        x = before(x)
        q, k, v = _heads(x @ _W_QKV, 3 * _TEST_HEADS).chunk(3, 1)
        mixed = mix(q, k, v, allowed(x, mask))
        x = norms[0](residual * x + _merged(mixed) @ _W_O)
        return norms[1](x + activation(feed_from(x) @ _W_1) @ _W_2)

    return layer


def _zeros_for_padding(x: Tensor, mask: Tensor | None = None) -> Tensor:
    out = _tested_with()(x, mask)
    return out if mask is None else out * mask[..., None]


def _odd_looking(x: Tensor, mask: Tensor | None = None) -> Tensor:
    """Right: a constant on every score, the mean taken off before each norm, which takes it off anyway."""

    def twice_centred(x: Tensor) -> Tensor:
        return _plain_norm(3.0 + x - x.mean(-1, keepdim=True))

    wide = _W_QKV.unflatten(1, (3, _TEST_HEADS, -1))
    q, k, v = torch.einsum("bld,dphk->pbhlk", x, wide)
    scores = torch.einsum("bhqk,bhsk->bhqs", q, k) / q.shape[-1] ** 0.5 - 5.0
    if mask is not None:
        scores = scores.where(mask[:, None, None, :], -1e30)
    weights = torch.softmax(scores, -1)
    mixed = torch.einsum("bhqs,bhsk,hkd->bqd", weights, v, _W_O.unflatten(0, (_TEST_HEADS, -1)))
    middle = twice_centred(mixed + x)
    return twice_centred(middle + (middle @ _W_1).clamp_min(0) @ _W_2)


def _the_first_sentence(q: Tensor, k: Tensor, v: Tensor, who: Tensor | None) -> Tensor:
    return F.scaled_dot_product_attention(q, k[:1].expand_as(k), v[:1].expand_as(v), who)


def _softmax_over_queries(q: Tensor, k: Tensor, v: Tensor, who: Tensor | None) -> Tensor:
    weights = torch.softmax(q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5, -2)
    return (weights if who is None else weights * who) @ v


def _only_itself(x: Tensor, mask: Tensor | None) -> Tensor:
    return torch.eye(x.shape[1], dtype=torch.bool)[None, None]


def _the_past(x: Tensor, mask: Tensor | None) -> Tensor:
    past = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).tril()
    return past if mask is None else past & mask[:, None, None, :]


def _numbered(x: Tensor) -> Tensor:
    return x + 0.1 * torch.sin(torch.arange(x.shape[1])[:, None] + torch.arange(_WIDTH))


_UNDER_TEST = (
    Mistake(
        "the right code",
        "this one is right, to the letter. What does your test demand that a right layer does not promise?",
        _tested_with(),
        equivalent=True,
    ),
    Mistake(
        "the right code, with zeros at the padding",
        "this one is right at every real word. Must anything be said about the output at the padding?",
        _zeros_for_padding,
        equivalent=True,
    ),
    Mistake(
        "equivalent: 5 is taken off every score, 3 is added before every norm",
        "this one looks odd and is right: softmax does not see a constant on a row, nor LayerNorm one on a "
        "vector. Does your test compare the last digits? It would matter only for huge numbers.",
        _odd_looking,
        equivalent=True,
    ),
    Mistake(
        "the mask is not used",
        "if the vectors at the padding are changed, what may change at the real words?",
        _tested_with(allowed=lambda x, mask: None),
    ),
    Mistake(
        "the mask is read the wrong way round",
        "if the vectors at the padding are changed, what may change at the real words?",
        _tested_with(allowed=lambda x, mask: _allowed(x, None if mask is None else ~mask)),
    ),
    Mistake(
        "the norms run over the positions",
        "does a sentence give the same with padding as without? And what do you know of each output vector?",
        _tested_with(norms=(_norm_over(1), _norm_over(1))),
    ),
    Mistake(
        "the first norm runs over the batch",
        "does the second sentence of a batch give what it gives alone?",
        _tested_with(norms=(_norm_over(0), _plain_norm)),
    ),
    Mistake(
        "every sentence attends to the words of the first one",
        "does the second sentence of a batch give what it gives alone?",
        _tested_with(mix=_the_first_sentence),
    ),
    Mistake(
        "no later word is seen",
        "change the last word. Which outputs of an encoder should move?",
        _tested_with(allowed=_the_past),
    ),
    Mistake(
        "each word attends to itself only",
        "change one word. Which outputs should move?",
        _tested_with(allowed=_only_itself),
    ),
    Mistake(
        "a number of the position is added",
        "put the words in another order. What should happen to the outputs, without positional encoding?",
        _tested_with(before=_numbered),
    ),
    Mistake(
        "the feed-forward layer reads the next position",
        "put the words in another order. What should happen to the outputs?",
        _tested_with(feed_from=lambda x: x.roll(-1, 1)),
    ),
    Mistake(
        "softmax over the queries",
        "may it matter to a word how many *others* look, padding among them?",
        _tested_with(mix=_softmax_over_queries),
    ),
    Mistake(
        "the feed-forward layer has no ReLU",
        "without ReLU and biases, what is layer(-x)? What would prevent that?",
        _tested_with(activation=lambda x: x),
    ),
    Mistake(
        "the residual around attention is missing",
        "tiny inputs have tiny scores: each word attends to all alike. How different are the outputs then?",
        _tested_with(residual=0.0),
    ),
    Mistake(
        "the last norm is missing",
        "what do you know of the numbers of each output vector?",
        _tested_with(norms=(_plain_norm, lambda x: x)),
    ),
)


def _sentences() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    x = _normal(generator, 3, 6, _WIDTH)
    return x, torch.arange(6) < torch.tensor([6, 4, 3])[:, None]


def _near(a: Tensor, b: Tensor, tolerance: float = 1e-4) -> bool:
    return torch.allclose(a, b, rtol=0, atol=tolerance)


# Each looks at one property, given the layer, an input and its output.


def _order(layer: Layer, x: Tensor, out: Tensor) -> bool:
    order = [4, 2, 0, 5, 1, 3]
    return _near(layer(x[:, order]), out[:, order])


def _words_matter(layer: Layer, x: Tensor, out: Tensor) -> bool:
    changed = torch.cat([x[:, :5], x[:, 5:] + x[:, :1]], 1)
    return bool(((layer(changed) - out).abs().amax(-1) > 1e-5).all())


def _batch(layer: Layer, x: Tensor, out: Tensor) -> bool:
    return _near(layer(x[1:2]), out[1:2])


def _padding(layer: Layer, x: Tensor, out: Tensor) -> bool:
    return _near(layer(x[1:2], torch.arange(6)[None] < 4)[:, :4], layer(x[1:2, :4]))


def _norm(layer: Layer, x: Tensor, out: Tensor) -> bool:
    return _near(out.mean(-1), torch.zeros(3, 6)) and _near(out.square().mean(-1), torch.ones(3, 6), 1e-2)


def _relu(layer: Layer, x: Tensor, out: Tensor) -> bool:
    return not _near(layer(-x), -out, 0.1)


def _residual(layer: Layer, x: Tensor, out: Tensor) -> bool:
    alike = layer(0.05 * x)
    return bool((alike - alike.mean(1, keepdim=True)).norm() > 0.2 * alike.norm())


_PROPERTIES = (_norm, _padding, _batch, _words_matter, _order, _relu, _residual)


def _only(*properties: Callable[[Layer, Tensor, Tensor], bool]) -> Callable[[Layer], None]:
    def test(layer: Layer) -> None:
        x, _ = _sentences()
        out = layer(x)
        for holds in properties:
            assert holds(layer, x, out), holds.__name__

    return test


def _all_but(left_out: Callable[[Layer, Tensor, Tensor], bool]) -> Callable[[Layer], None]:
    return _only(*(holds for holds in _PROPERTIES if holds is not left_out))


def _test_of_shapes(layer: Layer) -> None:
    x, mask = _sentences()
    out = layer(x, mask)
    assert out.shape == x.shape
    assert out.isfinite().all()


def _test_of_all_positions(layer: Layer) -> None:
    """A complete test that asks for the norm at the padding, too."""
    _only(*_PROPERTIES)(layer)
    assert _near(layer(*_sentences()).square().mean(-1), torch.ones(3, 6), 1e-2)


def _test_of_changed_padding(layer: Layer) -> None:
    """Junk in the padding's place must change nothing, it says; it compares the padding as well."""
    x, mask = _sentences()
    assert _near(layer(x, mask), layer(x.where(mask[..., None], 2.0 * x.flip(-1)), mask))
    _only(*_PROPERTIES)(layer)


def _test_with_junk(layer: Layer) -> None:
    """By changing one thing at a time in one padded batch."""
    x, mask = _sentences()
    out = layer(x, mask)
    for b, i in ((0, 5), (1, 2), (1, 5), (2, 0), (2, 4)):
        changed = x.clone()
        changed[b, i] = 2 * changed[b, i].flip(0) + 1
        moved = ((layer(changed, mask) - out).abs().amax(-1) > 1e-5) & mask
        expected = torch.zeros_like(mask)
        expected[b] = mask[b] & mask[b, i]
        assert torch.equal(moved, expected)
    swapped = layer(x[:, [1, 0, 2, 3, 4, 5]], mask)
    assert _near(swapped[:, 2], out[:, 2])
    assert _near(swapped[:, 0], out[:, 1])
    assert _near(out[mask].square().mean(-1), torch.ones(13), 1e-2)
    assert not _near(layer(-x, mask)[mask], -out[mask], 0.1)
    tiny = layer(0.01 * x[:1])[0]
    assert (tiny[0] - tiny[1]).abs().max() > 0.2


def _test_with_twins(layer: Layer) -> None:
    """A sentence of two equal words gives what one word alone gives: the mean of two alike is the same."""
    x, mask = _sentences()
    one = layer(x[:, :1])
    assert _near(layer(x[:1, :1]), one[:1])
    assert _near(layer(x[:, :1].expand(-1, 3, -1))[:, 2:], one)
    assert _near(one.norm(dim=-1), torch.tensor(_WIDTH**0.5), 0.05)
    assert (layer(-x[:, :1]) + one).norm() > 0.1 * one.norm()
    out = layer(x)
    assert _near(layer(x.flip(1)).flip(1), out)
    assert _near(layer(x.flip(0)).flip(0), out)
    for b, length in ((1, 4), (2, 3)):
        torch.testing.assert_close(layer(x, mask)[b, :length], layer(x[b : b + 1, :length])[0])
    assert not _near(layer(x[:, :2])[:, :1], one, 1e-3)
    assert torch.pdist(layer(1e-2 * x)[0]).min() > 0.5


encoder_test = Exercise(
    id="08.encoder_test",
    kind="find the bug",
    concepts=("attention-plus-ffn", "residual", "layer-norm", "encoder-equals-torch"),
    reference=_only(*_PROPERTIES),
    cases=trials(*_UNDER_TEST),
    mistakes=(
        Mistake(
            "it catches nothing: no number is asserted",
            "does it look at more than shapes? Does it `assert` what it finds, not print or return it?",
            _test_of_shapes,
        ),
        Mistake(
            "only the norm is looked at",
            "mean 0 and variance 1 say nothing of who was read. What happens when a word changes?",
            _only(_norm),
        ),
        Mistake(
            "only the order of the words is looked at",
            "that is one property. Where do words come from that must not matter at all?",
            _only(_order),
        ),
        Mistake(
            "only the batch is looked at",
            "that is one property. And within one sentence?",
            _only(_batch),
        ),
        Mistake(
            "only the padding is looked at",
            "that is one property. What of a batch without any padding?",
            _only(_padding),
        ),
        Mistake(
            "a test that never hands over a mask",
            "which argument of the layer is never tried?",
            _all_but(_padding),
        ),
        Mistake(
            "a test with one sentence in the batch",
            "what could leak from one sentence of a batch into another?",
            _only(
                _words_matter,
                _norm,
                _relu,
                _residual,
                _order,
            ),
        ),
        Mistake(
            "nothing looks for the residual",
            "without it, attention's mean is all that is handed on. When are all those means alike?",
            _all_but(_residual),
        ),
        Mistake(
            "nothing looks for the ReLU",
            "without it the layer has a symmetry: what does it make of -x? In q·k two signs meet.",
            _all_but(_relu),
        ),
        Mistake(
            "nothing looks at the size of the outputs",
            "what does the last step of a post-norm layer promise of each vector?",
            _all_but(_norm),
        ),
        Mistake(
            "nothing asks whether words are read at all",
            "you ask what must not change. Is there something that must?",
            _all_but(_words_matter),
        ),
        Mistake(
            "nothing puts the words in another order",
            "without positional encoding, does the layer know which word comes first?",
            _all_but(_order),
        ),
        Mistake(
            "the outputs at the padding are compared, and all else follows",
            "what stands at the padding changes its own output. Which positions may be compared?",
            _test_of_changed_padding,
        ),
        Mistake(
            "the output at the padding is tested too",
            "nobody reads that output. What has been promised of it?",
            _test_of_all_positions,
        ),
        Mistake(
            "a test that fails on everything",
            "does it pass on the right code? With eps no variance is exactly 1. By what does var() divide?",
            lambda layer: _fail(layer(_sentences()[0])),
        ),
    ),
    right=(_test_with_junk, _test_with_twins, _only(*_PROPERTIES[::-1])),
)


def _fail(out: Tensor) -> None:
    assert (out.var(-1, correction=0) == 1).all()


# --- design: a judge of reviews, without training ----------------------------------------------------------

Judge = tuple[Tensor, Tensor, Tensor, Tensor]
Judges = Callable[[float, int], Judge]


def _judge_with(
    *,
    opinion: float = 1.0,
    negation: float = 1.0,
    sharpness: Callable[[float, int], float] = lambda strongest, longest: 100.0,
    # Per hidden unit: weight of the pooled opinion, of the pooled "not", bias (both in units of the strongest
    # opinion), and what it adds to the score.
    units: tuple[tuple[float, float, float, float], ...] = (
        (1, -2, 0, 1),
        (-1, -2, 0, -1),
        (1, 2, -1, -2),
        (-1, 2, -1, 2),
    ),
    gate: Callable[[float], float] = lambda strongest: strongest,
) -> Judges:
    """A judge with a query (0, opinion, negation) x sharpness, and these hidden units."""

    def judge(strongest: float, longest: int) -> Judge:
        query = sharpness(strongest, longest) * torch.tensor([0.0, opinion, negation])
        up, no, shift, out = torch.tensor(units).T
        W_1 = torch.stack([up, torch.zeros(len(units)), gate(strongest) * no])
        return query, W_1, gate(strongest) * shift, out[:, None]

    return judge


_TURN = (
    (1.0, 2.0, -1.0, -2.0),
    (-1.0, 2.0, -1.0, 2.0),
)  # the opinion's sign is turned where there is a "not"
_PLAIN = ((1.0, -2.0, 0.0, 1.0), (-1.0, -2.0, 0.0, -1.0))  # the opinion as it is, where there is none


def _signed(units: tuple[tuple[float, float, float, float], ...], by: float) -> Any:
    return tuple((*unit[:3], by * unit[3]) for unit in units)


def _review_judge_by_hand(strongest: float, longest: int) -> Judge:
    L = float(strongest)
    query = torch.tensor([0.0, 1.0, 1.0]) * 20 * math.log(longest + 1)
    W_1 = torch.tensor([[1, -1, 1, -1], [0, 0, 0, 0], [-2 * L, -2 * L, 2 * L, 2 * L]])
    return query, W_1, torch.tensor([0, 0, -L, -L]), torch.tensor([[1.0], [-1], [-2], [2]])


def _review_judge_heavy_not(strongest: float, longest: int) -> Judge:
    """Two thirds of the weight for "not": the opinion arrives as a third. In double precision, with two
    hidden units more that do nothing."""
    query = torch.tensor([0.0, 200.0, 200.0 + math.sqrt(3) * math.log(2)], dtype=torch.float64)
    L = strongest
    rows = [[1, -1, 1, -1, 0, 5], [0, 0, 0, 0, -1, 0], [-9 * L, -9 * L, 3 * L, 3 * L, 0, 0]]
    b_1 = torch.tensor([0, 0, -2 * L, -2 * L, 0, 1], dtype=torch.float64)
    # With "not": 1/3 of the opinion comes in, and 3 * 2/3 - 2 = 0 lets it through.
    W_2 = torch.tensor([1, -1, -3, 3, 7, 0], dtype=torch.float64)
    return query, torch.tensor(rows, dtype=torch.float64), b_1, W_2[:, None]


def _review_judge_in_two_units_and_a_line(strongest: float, longest: int) -> Judge:
    """relu(z + c) - c is a line where z + c stays positive: the plain score, less twice what "not" turns."""
    c = 10.0 * strongest
    L = strongest
    W_1 = torch.tensor([[1, 1, -1, 0], [0, 0, 0, 0], [0, 4 * L, 4 * L, 0]])
    b_1 = torch.tensor([c, -2 * L, -2 * L, 1.0])
    # Plain: p. With "not", p is half the opinion: p - 3 p = -2 p.
    W_2 = torch.tensor([[1.0], [-3.0], [3.0], [-c]])
    return torch.tensor([0.0, 150.0, 150.0]), W_1, b_1, W_2


def _reviews(strongest: float, longest: int) -> tuple[Tensor, ...]:
    """All opinions in nine strengths, without and with a "not", short and long; mask; is there a "not"?"""
    rows = []
    for negated in (False, True):
        for length in sorted({1 + negated, max(2, longest // 2), longest}):
            for i, strength in enumerate(torch.linspace(-1, 1, 9).tolist()):
                words = torch.zeros(longest, 3)
                words[length:] = torch.tensor([strongest, 1.0, 1.0])  # junk, for the mask to hide
                place = i % length
                words[place] = torch.tensor([strength * strongest, 1.0, 0.0])
                if negated:
                    words[(place + 1) % length] = torch.tensor([0.0, 0.0, 1.0])
                rows.append((words, torch.arange(longest) < length, torch.tensor(negated)))
    return tuple(torch.stack(column) for column in zip(*rows, strict=True))


def _what_it_says(
    strongest: float, longest: int, query: Tensor, W_1: Tensor, b_1: Tensor, W_2: Tensor
) -> dict[str, Tensor]:
    parts = {"query": query, "W_1": W_1, "b_1": b_1, "W_2": W_2}
    hidden = b_1.numel()
    wanted = {"query": (3,), "W_1": (3, hidden), "b_1": (hidden,), "W_2": (hidden, 1)}
    for name, shape in wanted.items():
        if tuple(parts[name].shape) != shape:
            raise ValueError(f"{name} should have the shape {shape}, it has {tuple(parts[name].shape)}")
    if not 1 <= hidden <= 64:
        raise ValueError(f"there should be 1 to 64 hidden units, there are {hidden}")
    words, mask, negated = _reviews(strongest, longest)
    words = words.double()
    pooled = attend(query.double().expand(len(words), 1, 3), words, words, mask=mask[:, None, :])[0][:, 0]
    score = (torch.relu(pooled @ W_1.double() + b_1.double()) @ W_2.double())[:, 0]
    if not score.isfinite().all():
        raise ValueError("some scores are not finite: are there NaN or infinite numbers in the weights?")
    return {'score of reviews without "not"': score[~negated], 'score of reviews with "not"': score[negated]}


review_judge = Exercise(
    id="08.review_judge",
    kind="design",
    concepts=("sentiment", "attention-plus-ffn"),
    reference=_judge_with(),
    returns=("query", "W_1", "b_1", "W_2"),
    view=_what_it_says,
    tolerance=0.02,
    cases=(
        Case("opinions up to 1, two words", lambda _: (1.0, 2)),
        Case(
            "opinions up to 3, up to six words",
            lambda _: (3.0, 6),
            hint="do words without opinion still get some weight? Is each unit shut when it should be?",
        ),
        Case(
            "opinions up to 10, up to forty words",
            lambda _: (10.0, 40),
            points=2,
            hint="39 other words share what the query leaves them. How much may that be?",
        ),
    ),
    mistakes=(
        Mistake(
            "the pooling takes the plain mean",
            "a query of zeros gives every word the same weight. Which words should have none?",
            _judge_with(sharpness=lambda strongest, longest: 0.0),
        ),
        Mistake(
            '"not" changes nothing',
            'what weight does the query give to "not"? And what does the second step make of it?',
            _judge_with(negation=0.0),
        ),
        Mistake(
            "the query does not see the opinion",
            'next to a "not", which weight does the opinion get?',
            _judge_with(opinion=0.0),
        ),
        Mistake(
            "the query points the wrong way",
            "a negative score makes a weight small. Whose should be large?",
            _judge_with(opinion=-1.0, negation=-1.0),
        ),
        Mistake(
            "the right words, but too softly",
            "scores are divided by √3 and shared out by softmax. What do the other words get?",
            _judge_with(sharpness=lambda strongest, longest: 2.0),
        ),
        Mistake(
            "sharp enough for short reviews only",
            "one word without opinion has little weight. And 39 of them?",
            _judge_with(sharpness=lambda strongest, longest: 12.0),
        ),
        Mistake(
            'with "not", half the opinion is left and is not turned',
            "these units are straight lines together. Which input tells that there is a negation?",
            _judge_with(units=((1, 0, 0, 1), (-1, 0, 0, -1))),
        ),
        Mistake(
            'with "not", the score is turned but half as large',
            'the opinion shares its weight with "not". How much of it arrives?',
            _judge_with(units=(*_PLAIN, *_signed(_TURN, 0.5))),
        ),
        Mistake(
            "the gate holds for opinions up to 1 only",
            "a unit is shut while its input is negative. How strong may the opinion be that pushes it open?",
            _judge_with(gate=lambda strongest: 1.0),
        ),
        Mistake(
            "everything is turned round",
            'what is the score of a good film without any "not"?',
            _judge_with(units=(*_signed(_PLAIN, -1), *_signed(_TURN, -1))),
        ),
        Mistake(
            "negative opinions get the score 0",
            "ReLU lets nothing negative through. Which unit is open for a bad film?",
            _judge_with(units=(_PLAIN[0], _TURN[0])),
        ),
        Mistake(
            "good and bad get the same sign",
            "two units, one for good and one for bad. With which signs do they enter the score?",
            _judge_with(
                units=(_PLAIN[0], (*_PLAIN[1][:3], 1.0), _TURN[0], (*_TURN[1][:3], -2.0)),
            ),
        ),
        Mistake(
            'with "not", the score is 0',
            "the units that are open without a negation shut with it. Which ones open then?",
            _judge_with(units=_PLAIN),
        ),
        Mistake(
            'without "not", the score is 0',
            "which units are open when there is no negation?",
            _judge_with(units=_TURN),
        ),
        Mistake(
            "the units for negation are open without one, too",
            "what shuts them while there is no negation? Is the bias missing?",
            _judge_with(units=(*_PLAIN, (1, 2, 0, -2), (-1, 2, 0, 2))),
        ),
        Mistake(
            '"not" counts as a bad word of its own',
            '"not bad" should be good. What is a bad word, and one more bad word?',
            _judge_with(units=((1, 0, 0, 1), (-1, 0, 0, -1), (0, 2, 0, -1))),
        ),
    ),
    right=(_review_judge_by_hand, _review_judge_heavy_not, _review_judge_in_two_units_and_a_line),
)

EXERCISES = (residual_stream, layer_norm, tag_scores, encoder_layer, encoder_test, review_judge)
