"""Chapter 09: the full Transformer."""

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from attn.core import attend
from attn.grading.exercise import Case, Exercise, Mistake, trials, values

PAD, BOS, EOS = 0, 1, 2


def _normal(generator: Generator, *shape: int, scale: float = 1.0) -> Tensor:
    return scale * torch.randn(shape, generator=generator, dtype=torch.float64).float()


# --- implement: the shift, and the loss ---------------------------------------------------------------------

Shift = Callable[[Tensor], Tensor]
Loss = Callable[[Tensor, Tensor, float], Tensor]


def _shown(target: Tensor) -> Tensor:
    return target[:, :-1]


def _asked(target: Tensor) -> Tensor:
    return target[:, 1:]


def _smoothed(log_p: Tensor, labels: Tensor, smoothing: float) -> Tensor:
    """What each position costs, padding included: (batch, length)."""
    true = log_p.gather(-1, labels[..., None]).squeeze(-1)
    return -(1 - smoothing) * true - smoothing * log_p.mean(-1)


def _mean_over_tokens(costs: Tensor, labels: Tensor) -> Tensor:
    real = labels != PAD
    return (costs * real).sum() / real.sum()


def _loss_by_torch(logits: Tensor, labels: Tensor, smoothing: float) -> Tensor:
    return F.cross_entropy(logits.transpose(1, 2), labels, ignore_index=PAD, label_smoothing=smoothing)


def _loss_with(
    *,
    log_p: Callable[[Tensor], Tensor] = lambda logits: torch.log_softmax(logits, -1),
    cost: Callable[[Tensor, Tensor, float], Tensor] = _smoothed,
    reduce: Callable[[Tensor, Tensor], Tensor] = _mean_over_tokens,
) -> Loss:
    def loss(logits: Tensor, labels: Tensor, smoothing: float) -> Tensor:
        return reduce(cost(log_p(logits), labels, smoothing), labels)

    return loss


def _decoder_loss_with(
    shown: Shift = _shown, asked: Shift = _asked, loss: Loss = _loss_by_torch
) -> Callable[[Tensor, Tensor, float], tuple[Tensor, Tensor, Tensor]]:
    def decoder_loss(target: Tensor, logits: Tensor, smoothing: float) -> tuple[Tensor, Tensor, Tensor]:
        labels = asked(target)
        return loss(logits, labels, smoothing), shown(target), labels

    return decoder_loss


def _loss_by_loop(target: Tensor, logits: Tensor, smoothing: float) -> tuple[Tensor, Tensor, Tensor]:
    costs = []
    for sentence, rows in zip(target, logits, strict=True):
        for label, row in zip(sentence[1:], rows, strict=True):
            if label != PAD:
                log_p = row - torch.logsumexp(row, 0)
                wanted = torch.full_like(row, smoothing / len(row))
                wanted[label] += 1 - smoothing
                costs.append(-(wanted * log_p).sum())
    return torch.stack(costs).mean(), target[:, :-1].clone(), target[:, 1:].clone()


def _loss_in_double(target: Tensor, logits: Tensor, smoothing: float) -> tuple[Tensor, Tensor, Tensor]:
    labels = target[:, 1:]
    real = labels != PAD
    log_p = torch.log_softmax(logits.double()[real], -1)
    wanted = (1 - smoothing) * F.one_hot(labels[real], logits.shape[-1]) + smoothing / logits.shape[-1]
    return -(wanted * log_p).sum(-1).mean().to(logits.dtype), target[:, :-1], labels


def _spread_over_the_others(log_p: Tensor, labels: Tensor, smoothing: float) -> Tensor:
    true = log_p.gather(-1, labels[..., None]).squeeze(-1)
    return -(1 - smoothing) * true - smoothing * (log_p.sum(-1) - true) / (log_p.shape[-1] - 1)


def _spread_over_real_others(log_p: Tensor, labels: Tensor, smoothing: float) -> Tensor:
    true = log_p.gather(-1, labels[..., None]).squeeze(-1)
    others = log_p.sum(-1) - true - log_p[..., PAD]
    return -(1 - smoothing) * true - smoothing * others / (log_p.shape[-1] - 2)


def _uniform_half_not_masked(logits: Tensor, labels: Tensor, smoothing: float) -> Tensor:
    log_p, real = torch.log_softmax(logits, -1), labels != PAD
    true = log_p.gather(-1, labels[..., None]).squeeze(-1)
    return -((1 - smoothing) * (true * real).sum() + smoothing * log_p.mean(-1).sum()) / real.sum()


def _mean_of_means(costs: Tensor, labels: Tensor) -> Tensor:
    real = labels != PAD
    return ((costs * real).sum(-1) / real.sum(-1)).mean()


def _reshaped(logits: Tensor, labels: Tensor, smoothing: float) -> Tensor:
    batch, length, vocabulary = logits.shape
    scrambled = logits.reshape(batch, vocabulary, length)
    return F.cross_entropy(scrambled, labels, ignore_index=PAD, label_smoothing=smoothing)


def _without_eos(target: Tensor) -> Tensor:
    return _shown(target).masked_fill(_shown(target) == EOS, PAD)


def _batch_of(
    *lengths: int, smoothing: float, spread: float = 1.0
) -> Callable[[Generator], tuple[Tensor, Tensor, float]]:
    """Sentences of so many real tokens, BOS and EOS included, and logits for 11 tokens."""

    def make(generator: Generator) -> tuple[Tensor, Tensor, float]:
        longest, vocabulary = max(lengths), 11
        target = torch.randint(3, vocabulary, (len(lengths), longest), generator=generator)
        target[:, 0] = BOS
        for row, length in zip(target, lengths, strict=True):
            row[length - 1] = EOS
            row[length:] = PAD
        logits = _normal(generator, len(lengths), longest - 1, vocabulary, scale=spread)
        return target, logits, smoothing

    return make


_PADDED = (7, 5, 3)


decoder_loss = Exercise(
    id="09.decoder_loss",
    kind="implement",
    concepts=("masked-decoder", "training-recipe"),
    reference=_decoder_loss_with(),
    returns=("loss", "target_in", "target_out"),
    cases=(
        Case("one sentence", _batch_of(6, smoothing=0.0)),
        Case(
            "a padded batch",
            _batch_of(*_PADDED, smoothing=0.0),
            points=2,
            hint="which positions count, and by how many do you divide?",
        ),
        Case("a padded batch, smoothed by 0.1", _batch_of(*_PADDED, smoothing=0.1), points=2),
        Case(
            "logits of hundreds",
            _batch_of(4, 6, smoothing=0.2, spread=200.0),
            hint="what is the logarithm of a probability that has become 0?",
        ),
        Case("gradients", _batch_of(*_PADDED, smoothing=0.1), gradients=True),
    ),
    mistakes=(
        Mistake(
            "no shift: the decoder is shown the labels themselves",
            "if input and label are the same token, what is the easiest thing to learn?",
            _decoder_loss_with(shown=_asked),
        ),
        Mistake(
            "no shift: the labels are what the decoder is shown",
            "having read BOS, is BOS what the model should say next?",
            _decoder_loss_with(asked=_shown),
        ),
        Mistake(
            "shifted the wrong way",
            "the decoder is to say what comes after what it has read. Which of yours comes after?",
            _decoder_loss_with(shown=_asked, asked=_shown),
        ),
        Mistake(
            "shifted twice",
            "having read BOS, which token must be said: the first one or the second?",
            _decoder_loss_with(asked=lambda t: F.pad(t[:, 2:], (0, 1), value=PAD)),
        ),
        Mistake(
            "EOS is never a label",
            "how is the model to learn when to stop?",
            _decoder_loss_with(asked=lambda t: _asked(t).masked_fill(_asked(t) == EOS, PAD)),
        ),
        Mistake(
            "EOS is ignored instead of the padding",
            "which id has the padding, and which token must the model learn to say at the end?",
            _decoder_loss_with(
                loss=lambda x, y, e: F.cross_entropy(
                    x.transpose(1, 2), y, ignore_index=EOS, label_smoothing=e
                )
            ),
        ),
        Mistake(
            "padding is counted like a token",
            "what happens to this mean when somebody adds ten columns of padding?",
            _decoder_loss_with(loss=_loss_with(reduce=lambda c, y: c.mean())),
        ),
        Mistake(
            "padding costs nothing, but the mean is over all positions",
            "what is the sum to be divided by: by all positions, or by those that count?",
            _decoder_loss_with(loss=_loss_with(reduce=lambda c, y: (c * (y != PAD)).mean())),
        ),
        Mistake(
            "a mean of sentence means",
            "does a token of a short sentence count as much as one of a long sentence?",
            _decoder_loss_with(loss=_loss_with(reduce=_mean_of_means)),
        ),
        Mistake(
            "the sum, not the mean",
            "how does your loss change when the batch is twice as large?",
            _decoder_loss_with(loss=_loss_with(reduce=lambda c, y: (c * (y != PAD)).sum())),
        ),
        Mistake(
            "divided by the number of sentences",
            "the loss is to be per token. How many real tokens are there?",
            _decoder_loss_with(loss=_loss_with(reduce=lambda c, y: (c * (y != PAD)).sum() / len(y))),
        ),
        Mistake(
            "reshape where the axes should be exchanged",
            "both give (batch, vocabulary, length). Which of them keeps the logits of one position together?",
            _decoder_loss_with(loss=_reshaped),
        ),
        Mistake(
            "softmax before cross_entropy",
            "cross_entropy takes logits. What does it do with them first?",
            _decoder_loss_with(loss=lambda x, y, e: _loss_by_torch(torch.softmax(x, -1), y, e)),
        ),
        Mistake(
            "softmax along the positions",
            "which numbers must sum to 1: those of one token over the positions, or those of one position?",
            _decoder_loss_with(loss=_loss_with(log_p=lambda x: torch.log_softmax(x, 1))),
        ),
        Mistake(
            "log of softmax, where softmax has become 0",
            "what is the logarithm of a probability too small for float32? Which function does both at once?",
            _decoder_loss_with(loss=_loss_with(log_p=lambda x: torch.softmax(x, -1).log())),
        ),
        Mistake(
            "no label smoothing",
            "what is the argument `smoothing` for?",
            _decoder_loss_with(loss=lambda x, y, e: _loss_by_torch(x, y, 0.0)),
        ),
        Mistake(
            "smoothing is spread over the other tokens only",
            "in the formula, over how many tokens is it spread? Is the true one among them?",
            _decoder_loss_with(loss=_loss_with(cost=_spread_over_the_others)),
        ),
        Mistake(
            "smoothing is spread over all tokens but the true one and padding",
            "some do it so. In the formula here, over how many tokens is it spread?",
            _decoder_loss_with(loss=_loss_with(cost=_spread_over_real_others)),
        ),
        Mistake(
            "the true token loses weight, and nobody gets it",
            "what must the smoothed label sum to?",
            _decoder_loss_with(loss=lambda x, y, e: (1 - e) * _loss_by_torch(x, y, 0.0)),
        ),
        Mistake(
            "smoothing by ε for every token instead of ε / V",
            "what must the smoothed label sum to, over a vocabulary of V tokens?",
            _decoder_loss_with(
                loss=_loss_with(cost=lambda p, y, e: _smoothed(p, y, e) - e * (p.sum(-1) - p.mean(-1)))
            ),
        ),
        Mistake(
            "the smoothed half of the loss still counts the padding",
            "two sums make up this loss. Which positions does each run over?",
            _decoder_loss_with(loss=_uniform_half_not_masked),
        ),
        Mistake(
            "the sign is wrong",
            "a probability is at most 1. What sign has its logarithm, and what sign should a loss have?",
            _decoder_loss_with(loss=lambda x, y, e: -_loss_by_torch(x, y, e)),
        ),
        Mistake(
            "the loss is cut off from the gradient",
            "what is the optimizer to follow, if no gradient comes back to the logits?",
            _decoder_loss_with(loss=lambda x, y, e: _loss_by_torch(x, y, e).detach()),
        ),
        Mistake(
            "the decoder is not shown EOS, but padding in its place",
            "EOS is an input only where the label is padding: the loss ignores that position, and the causal "
            "mask keeps it from all earlier ones. Without a causal mask it would matter.",
            _decoder_loss_with(shown=_without_eos),
            equivalent=True,
        ),
    ),
    right=(_decoder_loss_with(loss=_loss_with()), _loss_by_loop, _loss_in_double),
)

# --- spot the error: five sentences with numbers ------------------------------------------------------------

transformer_claim = Exercise(
    id="09.transformer_claim",
    kind="spot the error",
    concepts=("equals-torch-transformer", "training-recipe", "kv-cache", "encoder-decoder"),
    reference={"wrong": "C", "norms": 32, "extra numbers": 2048},
    cases=values(
        "wrong",
        "norms",
        "extra numbers",
        hints={
            "wrong": 'answer with one capital letter, as in "A"',
            "norms": "sum over the modules of a model that you build?",
            "extra numbers": "what does one such module learn for each of the 512 features?",
        },
    ),
    tolerance=0.001,
    mistakes=(
        Mistake(
            "sentence A is right",
            "up to the peak the rate grows like the step, then it falls like 1 / √step. Which is the peak?",
            {"wrong": "A"},
        ),
        Mistake(
            "sentence B is right",
            "what does a step need before it can begin? And what is 1 + 2 + ... + 20?",
            {"wrong": "B"},
        ),
        Mistake(
            "sentence D is right",
            "twenty letters in a row, each right with probability 0.95: multiply. Letters are not words.",
            {"wrong": "D"},
        ),
        Mistake(
            "sentence E is right",
            "512 components of variance 1/512: what is the sum of their squares? And sin² + cos²?",
            {"wrong": "E"},
        ),
        Mistake(
            "the paper's number, not torch's",
            "12 + 18 is what the sentence says. What follows after the last layer of each stack in torch?",
            {"norms": 30},
        ),
        Mistake(
            "one stack only",
            "the encoder has something after its last layer. And the decoder?",
            {"norms": 31, "extra numbers": 1024},
        ),
        Mistake(
            "three in every layer",
            "how many sub-layers has an encoder layer?",
            {"norms": 36},
        ),
        Mistake(
            "three in every layer, and two more",
            "how many sub-layers has an encoder layer?",
            {"norms": 38},
        ),
        Mistake(
            "two in every layer, and two more",
            "how many sub-layers has a decoder layer?",
            {"norms": 26},
        ),
        Mistake(
            "every layer has one more",
            "is it each layer that ends with another norm, or each stack?",
            {"norms": 42, "extra numbers": 12288},
        ),
        Mistake(
            "modules counted, not numbers",
            "a LayerNorm learns a scale and an offset for each feature. How many numbers is that?",
            {"extra numbers": 2},
        ),
        Mistake(
            "one number for each feature instead of two",
            "it learns a scale for each feature. What else?",
            {"extra numbers": 1024},
        ),
        Mistake(
            "a LayerNorm without parameters",
            "what do `weight` and `bias` of nn.LayerNorm hold?",
            {"extra numbers": 0},
        ),
        Mistake(
            "all norms counted, not the additional ones",
            "how many has torch that the paper has not?",
            {"extra numbers": 32 * 1024},
        ),
    ),
    right=(
        {"wrong": "C", "norms": 13 + 19, "extra numbers": 2 * 2 * 512},
        {"wrong": "C ", "norms": 32.0, "extra numbers": torch.tensor(2048)},
        {"wrong": "C", "norms": torch.tensor(32), "extra numbers": 2048.0},
    ),
)

# --- implement: a decoder layer -----------------------------------------------------------------------------


def _norm(x: Tensor) -> Tensor:
    return F.layer_norm(x, x.shape[-1:])


def _softmax_where(scores: Tensor, allowed: Tensor | None) -> Tensor:
    if allowed is None:
        return torch.softmax(scores, -1)
    weights = torch.softmax(scores.masked_fill(~allowed, torch.finfo(scores.dtype).min), -1)
    return weights.masked_fill(~allowed.any(-1, keepdim=True), 0.0)


def _by_matrices(q_from: Tensor, kv_from: Tensor, W: Tensor, allowed: Tensor | None) -> Tensor:
    query, key, value = q_from @ W[0], kv_from @ W[1], kv_from @ W[2]
    weights = _softmax_where(query @ key.transpose(-2, -1) / math.sqrt(query.shape[-1]), allowed)
    return weights @ value @ W[3]


def _future_hidden(length: int) -> Tensor:
    return torch.ones(length, length, dtype=torch.bool).tril()


def _self_attention(x: Tensor, W: Tensor) -> Tensor:
    return _by_matrices(x, x, W, _future_hidden(x.shape[1]))


def _self_attention_where(allowed: Callable[[int], Tensor | None]) -> Callable[[Tensor, Tensor], Tensor]:
    return lambda x, W: _by_matrices(x, x, W, allowed(x.shape[1]))


def _cross_attention(x: Tensor, memory: Tensor, real: Tensor, W: Tensor) -> Tensor:
    return _by_matrices(x, memory, W, real[:, None, :])


def _feed_forward(x: Tensor, W_1: Tensor, W_2: Tensor) -> Tensor:
    return torch.relu(x @ W_1) @ W_2


def _after(x: Tensor, f: Callable[[Tensor], Tensor]) -> Tensor:
    return _norm(x + f(x))


Frame = Callable[[Tensor, Callable[[Tensor], Tensor]], Tensor]


def _layer_with(
    *,
    own: Callable[[Tensor, Tensor], Tensor] = _self_attention,
    cross: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor] = _cross_attention,
    feed: Callable[[Tensor, Tensor, Tensor], Tensor] = _feed_forward,
    frame: Frame = _after,
    cross_frame: Frame | None = None,
    order: str = "self, cross",
) -> Callable[..., Tensor]:
    def decoder_layer(
        x: Tensor,
        memory: Tensor,
        memory_mask: Tensor,
        W_self: Tensor,
        W_cross: Tensor,
        W_1: Tensor,
        W_2: Tensor,
    ) -> Tensor:
        for name in order.split(", "):
            if name == "self":
                x = frame(x, lambda x: own(x, W_self))
            else:
                x = (cross_frame or frame)(x, lambda x: cross(x, memory, memory_mask, W_cross))
        return frame(x, lambda x: feed(x, W_1, W_2))

    return decoder_layer


def _layer_by_attend(
    x: Tensor, memory: Tensor, memory_mask: Tensor, W_self: Tensor, W_cross: Tensor, W_1: Tensor, W_2: Tensor
) -> Tensor:
    own = attend(x @ W_self[0], x @ W_self[1], x @ W_self[2], causal=True, need_weights=False)[0]
    x = _norm(x + own @ W_self[3])
    key, value = memory @ W_cross[1], memory @ W_cross[2]
    read = attend(x @ W_cross[0], key, value, mask=memory_mask[:, None, :], need_weights=False)[0]
    x = _norm(x + read @ W_cross[3])
    return _norm(x + _feed_forward(x, W_1, W_2))


def _layer_by_einsum(
    x: Tensor, memory: Tensor, memory_mask: Tensor, W_self: Tensor, W_cross: Tensor, W_1: Tensor, W_2: Tensor
) -> Tensor:
    def step(x: Tensor, y: Tensor, W: Tensor, allowed: Tensor) -> Tensor:
        query, (key, value) = (
            torch.einsum("btd,de->bte", x, W[0]),
            torch.einsum("bsd,nde->nbse", y, W[1:3]),
        )
        scores = torch.einsum("bte,bse->bts", query, key) / x.shape[-1] ** 0.5
        scores = scores.where(allowed, -1e9)
        exponentials = (scores - scores.amax(-1, keepdim=True)).exp() * allowed
        weights = exponentials / exponentials.sum(-1, keepdim=True).clamp_min(1e-30)
        z = x + torch.einsum("bts,bse,ef->btf", weights, value, W[3])
        mean = z.mean(-1, keepdim=True)
        return (z - mean) / (z.var(-1, keepdim=True, unbiased=False) + 1e-5).sqrt()

    t = torch.arange(x.shape[1])
    x = step(x, x, W_self, (t[None, :] <= t[:, None])[None])
    x = step(x, memory, W_cross, memory_mask[:, None])
    return F.layer_norm(x + torch.einsum("btf,fd->btd", (x @ W_1).clamp_min(0), W_2), x.shape[-1:])


def _layer_by_position(
    x: Tensor, memory: Tensor, memory_mask: Tensor, W_self: Tensor, W_cross: Tensor, W_1: Tensor, W_2: Tensor
) -> Tensor:
    """One sentence and one position at a time: what is not there cannot be seen."""
    sentences = []
    for own, source, real in zip(x, memory, memory_mask, strict=True):
        rows = []
        for t in range(len(own)):
            row = _norm(own[t : t + 1] + _by_matrices(own[t : t + 1], own[: t + 1], W_self, None))
            if real.any():
                row = row + _by_matrices(row, source[real], W_cross, None)
            row = _norm(row)
            rows.append(_norm(row + _feed_forward(row, W_1, W_2)))
        sentences.append(torch.cat(rows))
    return torch.stack(sentences)


def _sentences(
    targets: int, sources: int, *real: int, d_model: int = 6, d_ff: int = 9
) -> Callable[[Generator], tuple[Tensor, ...]]:
    """Targets and memories, a memory for each number in `real` with so many real vectors, and weights."""

    def make(generator: Generator) -> tuple[Tensor, ...]:
        scale = d_model**-0.5
        return (
            _normal(generator, len(real), targets, d_model),
            _normal(generator, len(real), sources, d_model),
            torch.arange(sources) < torch.tensor(real)[:, None],
            _normal(generator, 4, d_model, d_model, scale=2 * scale),
            _normal(generator, 4, d_model, d_model, scale=2 * scale),
            _normal(generator, d_model, d_ff, scale=scale),
            _normal(generator, d_ff, d_model, scale=scale),
        )

    return make


def _transposed(W: Tensor) -> Tensor:
    return W.transpose(-2, -1)


def _over_time(x: Tensor, f: Callable[[Tensor], Tensor]) -> Tensor:
    z = x + f(x)
    return (z - z.mean(1, keepdim=True)) / (z.var(1, keepdim=True, unbiased=False) + 1e-5).sqrt()


def _cross_scores(
    weigh: Callable[[Tensor, Tensor], Tensor],
    value: Callable[[Tensor, Tensor, Tensor], Tensor] = lambda x, memory, W: memory @ W[2],
) -> Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]:
    """Cross-attention whose weights are made of scores and mask by `weigh`."""

    def cross(x: Tensor, memory: Tensor, real: Tensor, W: Tensor) -> Tensor:
        scores = (x @ W[0]) @ (memory @ W[1]).transpose(-2, -1) / math.sqrt(x.shape[-1])
        return weigh(scores, real[:, None, :]) @ value(x, memory, W) @ W[3]

    return cross


def _unscaled(q_from: Tensor, kv_from: Tensor, W: Tensor, allowed: Tensor | None) -> Tensor:
    return _by_matrices(
        q_from, kv_from, torch.stack([W[0] * math.sqrt(W.shape[-1]), W[1], W[2], W[3]]), allowed
    )


def _no_output_matrix(W: Tensor) -> Tensor:
    return torch.stack([W[0], W[1], W[2], torch.eye(W.shape[-1])])


def _rows_are_normalised(inputs: tuple[Any, ...], outputs: dict[str, Tensor]) -> str | None:
    mean, variance = outputs["output"].mean(-1), outputs["output"].var(-1, unbiased=False)
    if mean.abs().max() < 1e-3 and (variance - 1).abs().max() < 1e-2:
        return None
    return (
        f"The rows of the output are not normalised: means up to {mean.abs().max():.2g}, "
        f"variances from {variance.min():.2g} to {variance.max():.2g}. What stands last in the layer?"
    )


decoder_layer = Exercise(
    id="09.decoder_layer",
    kind="implement",
    concepts=("three-attentions", "masked-decoder"),
    reference=_layer_with(),
    returns=("output",),
    measures=(_rows_are_normalised,),
    cases=(
        # The first case hides an exchange of the two sequences, so that it runs, and can be named.
        Case(
            "as many target as source tokens",
            _sentences(5, 5, 5, 5),
            hint="which shape has each result on the way, from x to the sum? Go through the three steps.",
        ),
        Case(
            "sources of unequal length",
            _sentences(4, 6, 6, 3, 5),
            points=2,
            hint="which axis does `memory_mask` speak of, and in which of the two attentions is it used?",
        ),
        Case("one target token", _sentences(1, 4, 4, 2), hint="how much of its own text may it see?"),
        Case(
            "a source that is padding only",
            _sentences(3, 5, 4, 0),
            hint="what is there to add where nothing may be read?",
        ),
        Case(
            "gradients",
            _sentences(4, 5, 5, 2),
            gradients=True,
            hint="does a gradient reach x, the memory, and each of the matrices?",
        ),
    ),
    mistakes=(
        Mistake(
            "the cross-attention takes keys and values from the decoder",
            "if you change the source, does anything change? Who is asked, and who answers?",
            _layer_with(cross=lambda x, m, r, W: _by_matrices(x, x, W, None)),
        ),
        Mistake(
            "the cross-attention takes its queries from the memory",
            "who asks: the text that is being written, or the one that is read? How many rows come out?",
            _layer_with(cross=lambda x, m, r, W: _by_matrices(m, x, W, None)),
        ),
        Mistake(
            "the cross-attention takes its values from the decoder",
            "the weights point at source tokens. What do they carry over?",
            _layer_with(cross=_cross_scores(_softmax_where, value=lambda x, m, W: x @ W[2])),
        ),
        Mistake(
            "the values are the memory itself, not projected",
            "k and v come from one place. Are they the same vectors?",
            _layer_with(cross=_cross_scores(_softmax_where, value=lambda x, m, W: m)),
        ),
        Mistake(
            "there is no cross-attention",
            "how would the source reach the output?",
            _layer_with(order="self"),
        ),
        Mistake(
            "the cross-attention comes first",
            "which of the two attentions follows directly on the layer's input?",
            _layer_with(order="cross, self"),
        ),
        Mistake(
            "the cross-attention has no residual connection",
            "what becomes of the text written so far, if it is not added?",
            _layer_with(cross_frame=lambda x, f: _norm(f(x))),
        ),
        Mistake(
            "the self-attention sees the future",
            "which token is asked for at position t, and where does it stand in the input?",
            _layer_with(own=_self_attention_where(lambda n: None)),
        ),
        Mistake(
            "the self-attention sees one token too far",
            "at position t, may position t + 1 be seen? Its token is the label.",
            _layer_with(own=_self_attention_where(lambda n: torch.ones(n, n, dtype=torch.bool).tril(1))),
        ),
        Mistake(
            "the past is hidden instead of the future",
            "rows are queries, columns are keys. In row 0, which column may be seen?",
            _layer_with(own=_self_attention_where(lambda n: torch.ones(n, n, dtype=torch.bool).triu())),
        ),
        Mistake(
            "the source's future is hidden too",
            "the source is there as a whole before the first token is written. What may be read of it?",
            _layer_with(
                cross=lambda x, m, r, W: _by_matrices(
                    x, m, W, r[:, None, :] & torch.ones(x.shape[1], m.shape[1], dtype=torch.bool).tril()
                )
            ),
        ),
        Mistake(
            "the padding of the source is read",
            "does the output of a sentence change when its batch is padded further?",
            _layer_with(cross=lambda x, m, r, W: _by_matrices(x, m, W, None)),
        ),
        Mistake(
            "the memory's mask is read the wrong way round",
            "here True means *may attend*. Which source tokens did you hide?",
            _layer_with(cross=lambda x, m, r, W: _by_matrices(x, m, W, ~r[:, None, :])),
        ),
        Mistake(
            "the memory's mask is applied after softmax",
            "what do the weights of one target token sum to now?",
            _layer_with(cross=_cross_scores(lambda s, allowed: torch.softmax(s, -1) * allowed)),
        ),
        Mistake(
            "a source of padding only gives NaN",
            "what is 0/0? What should be added where there is nothing to read?",
            _layer_with(
                cross=_cross_scores(lambda s, allowed: torch.softmax(s.masked_fill(~allowed, -torch.inf), -1))
            ),
        ),
        Mistake(
            "a source of padding only is read all the same",
            "if all scores of a row are the same low number, what does softmax give?",
            _layer_with(cross=_cross_scores(lambda s, allowed: torch.softmax(s.where(allowed, -1e9), -1))),
        ),
        Mistake(
            "the scores are not scaled",
            "by what are scores divided before softmax?",
            _layer_with(
                own=lambda x, W: _unscaled(x, x, W, _future_hidden(x.shape[1])),
                cross=lambda x, m, r, W: _unscaled(x, m, W, r[:, None, :]),
            ),
        ),
        Mistake(
            "W_o is left out",
            "four matrices belong to each attention. What is the fourth for?",
            _layer_with(
                own=lambda x, W: _self_attention(x, _no_output_matrix(W)),
                cross=lambda x, m, r, W: _cross_attention(x, m, r, _no_output_matrix(W)),
            ),
        ),
        Mistake(
            "the matrices are transposed",
            "rows are vectors here, Q = X W_q. Which convention has nn.Linear?",
            _layer_with(
                own=lambda x, W: _self_attention(x, _transposed(W)),
                cross=lambda x, m, r, W: _cross_attention(x, m, r, _transposed(W)),
            ),
        ),
        Mistake(
            "both attentions use the same weights",
            "which of the two has W_self, and which W_cross?",
            lambda x, m, r, W_s, W_c, W_1, W_2: _layer_with()(x, m, r, W_s, W_s, W_1, W_2),
        ),
        Mistake(
            "pre-norm instead of post-norm",
            "is it the input of a sub-layer that is normalised here, or the sum after it?",
            _layer_with(frame=lambda x, f: x + f(_norm(x))),
        ),
        Mistake(
            "no LayerNorm at all",
            "what follows each addition?",
            _layer_with(frame=lambda x, f: x + f(x)),
        ),
        Mistake(
            "LayerNorm over the positions",
            "which numbers is the mean taken of: the features of one token, or one feature of all tokens?",
            _layer_with(frame=_over_time),
        ),
        Mistake(
            "GELU in place of ReLU",
            "max(0, z): what does it make of a negative z?",
            _layer_with(feed=lambda x, W_1, W_2: F.gelu(x @ W_1) @ W_2),
        ),
        Mistake(
            "the feed-forward network has no ReLU",
            "what are two matrices in a row, if nothing stands between them?",
            _layer_with(feed=lambda x, W_1, W_2: x @ W_1 @ W_2),
        ),
    ),
    right=(_layer_by_attend, _layer_by_einsum, _layer_by_position),
)

# --- find the bug: a decoder that leaks, or does not read ---------------------------------------------------

Decoder = Callable[[Tensor, Tensor, Tensor], Tensor]


def _decoder_with(
    seed: int = 1,
    *,
    before: Callable[[Tensor], Tensor] = lambda x: x,
    own: Callable[[int], Tensor] = _future_hidden,
    cross: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor] = _cross_attention,
    feed: Callable[[Tensor, Tensor, Tensor], Tensor] = _feed_forward,
    frame: Frame = _after,
    order: str = "self, cross",
) -> Decoder:
    """A decoder layer of width 8 with fixed weights. `own`: the mask of the self-attention for a length."""
    generator = torch.Generator().manual_seed(seed)
    weights = [_normal(generator, *shape, scale=0.5) for shape in ((4, 8, 8), (4, 8, 8), (8, 12), (12, 8))]
    layer = _layer_with(own=_self_attention_where(own), cross=cross, feed=feed, frame=frame, order=order)
    return lambda x, memory, memory_mask: layer(before(x), memory, memory_mask, *weights)


def _mask_for_six(length: int) -> Tensor:
    """A mask made for 6 positions: what lies beyond is not masked."""
    mask = torch.ones(length, length, dtype=torch.bool)
    mask[:6, :6] = mask[:6, :6].tril()
    return mask


def _source_up_to_t(x: Tensor, memory: Tensor, real: Tensor, W: Tensor) -> Tensor:
    past = torch.ones(x.shape[1], memory.shape[1], dtype=torch.bool).tril()
    return _by_matrices(x, memory, W, real[:, None, :] & past)


_LEAKS = (
    Mistake(
        "a right decoder",
        "this one is right. What does your test demand that a decoder need not do?",
        _decoder_with(),
        equivalent=True,
    ),
    Mistake(
        "a right decoder, pre-norm",
        "this one is right. Does your change survive a LayerNorm? Do you compare floats with ==?",
        _decoder_with(2, frame=lambda x, f: x + f(_norm(x))),
        equivalent=True,
    ),
    Mistake(
        "equivalent: cross-attention before self-attention, and a sine in place of ReLU",
        "odd, and right: all that it reads it may read. It is another decoder than the paper's, that is all.",
        _decoder_with(3, order="cross, self", feed=lambda x, W_1, W_2: torch.sin(x @ W_1) @ W_2),
        equivalent=True,
    ),
    Mistake(
        "the future is not hidden",
        "if you change the last target vector, which rows of the output may move?",
        _decoder_with(own=lambda n: torch.ones(n, n, dtype=torch.bool)),
    ),
    Mistake(
        "one position too far is seen",
        "if you change target vector j, may row j - 1 move?",
        _decoder_with(own=lambda n: torch.ones(n, n, dtype=torch.bool).tril(1)),
    ),
    Mistake(
        "the mask was made for 6 positions: later ones see everything",
        "how long are the targets that you try?",
        _decoder_with(own=_mask_for_six),
    ),
    Mistake(
        "a little of the mean over the whole target is added to the input",
        "how far must a row move before your test notices? A little of the future leaks here.",
        _decoder_with(before=lambda x: x + 0.05 * x.mean(1, keepdim=True)),
    ),
    Mistake(
        "the past is not seen",
        "if you change target vector 0, which rows *must* move?",
        _decoder_with(own=lambda n: torch.eye(n, dtype=torch.bool)),
    ),
    Mistake(
        "the source is not read: keys and values come from the decoder",
        "if you change the memory, what *must* move?",
        _decoder_with(cross=lambda x, m, r, W: _self_attention(x, W)),
    ),
    Mistake(
        "row t reads the source up to token t only",
        "which source tokens must move row 0? Do you ask for the last one?",
        _decoder_with(cross=_source_up_to_t),
    ),
    Mistake(
        "the mask of the memory is not used",
        "what may move when a padded memory vector changes?",
        _decoder_with(cross=lambda x, m, r, W: _by_matrices(x, m, W, None)),
    ),
    Mistake(
        "the mask of the memory is read the wrong way round",
        "what may move when a padded memory vector changes, and what must when a real one does?",
        _decoder_with(cross=lambda x, m, r, W: _by_matrices(x, m, W, ~r[:, None, :])),
    ),
    Mistake(
        "the mask of the first sentence's memory serves the whole batch",
        "are the sources of your batch of unequal length? Which of them is the longest?",
        _decoder_with(cross=lambda x, m, r, W: _by_matrices(x, m, W, r[:1, None, :])),
    ),
    Mistake(
        "every sentence reads the first sentence's memory",
        "whose output may move when the first sentence's memory changes?",
        _decoder_with(cross=lambda x, m, r, W: _by_matrices(x, m[:1].expand_as(m), W, r[:, None, :])),
    ),
)


def _decoder_inputs(
    targets: int = 9, real: tuple[int, ...] = (5, 3), sources: int = 5
) -> tuple[Tensor, Tensor, Tensor]:
    x, memory, mask, *_ = _sentences(targets, sources, *real, d_model=8)(torch.Generator().manual_seed(1))
    return x, memory, mask


def _shaken(x: Tensor, sentence: int, position: int) -> Tensor:
    """A copy in which one vector is another one."""
    y = x.clone()
    y[sentence, position] += _normal(torch.Generator().manual_seed(position), x.shape[-1])
    return y


def _moved(a: Tensor, b: Tensor) -> Tensor:
    """(batch, positions): whether the row has moved by more than rounding."""
    return (a - b).abs().amax(-1) > 1e-5


def _check_future(decoder: Decoder, inputs: tuple[Tensor, Tensor, Tensor], positions: Iterable[int]) -> None:
    x, memory, mask = inputs
    before = decoder(x, memory, mask)
    for j in positions:
        assert not _moved(before, decoder(_shaken(x, 0, j), memory, mask))[0, :j].any()


def _check_past(decoder: Decoder, inputs: tuple[Tensor, Tensor, Tensor]) -> None:
    x, memory, mask = inputs
    assert _moved(decoder(x, memory, mask), decoder(_shaken(x, 0, 0), memory, mask))[0].all()


def _check_source(
    decoder: Decoder, inputs: tuple[Tensor, Tensor, Tensor], *, must: bool = True, may_not: bool = True
) -> None:
    """First and last memory vector of each sentence: a real one moves all its rows, padding none."""
    x, memory, mask = inputs
    before = decoder(x, memory, mask)
    for b, j in [(b, j) for b in range(len(x)) for j in (0, memory.shape[1] - 1)]:
        moved = _moved(before, decoder(x, _shaken(memory, b, j), mask))
        if must:
            assert moved[b].all() or not mask[b, j]
        if may_not:
            assert not moved[b].any() or mask[b, j]
            assert not moved[torch.arange(len(x)) != b].any()


def _test_by_shaking(decoder: Decoder) -> None:
    inputs = _decoder_inputs()
    _check_future(decoder, inputs, (1, 4, 8))
    _check_past(decoder, inputs)
    _check_source(decoder, inputs)


def _test_by_replacing(decoder: Decoder) -> None:
    """All that must not be seen is replaced at once; then all that must be seen, piece by piece."""
    x, memory, mask = _decoder_inputs(8, (2, 5), 5)
    before, generator = decoder(x, memory, mask), torch.Generator().manual_seed(2)
    padding = ~mask[..., None]
    other = decoder(x, torch.where(padding, _normal(generator, *memory.shape), memory), mask)
    torch.testing.assert_close(other, before, rtol=0, atol=1e-5)
    for t in (1, 5, 7):
        future = torch.cat([x[:, :t], _normal(generator, 2, 8 - t, 8)], dim=1)
        torch.testing.assert_close(decoder(future, memory, mask)[:, :t], before[:, :t], rtol=0, atol=1e-5)
    for b in range(2):
        for j in range(int(mask[b].sum())):
            moved = _moved(before, decoder(x, _shaken(memory, b, j), mask))
            assert torch.equal(moved, (torch.arange(2) == b)[:, None].expand(2, 8))
    assert _moved(before, decoder(_shaken(x, 1, 0), memory, mask))[1].all()


def _test_by_shorter_runs(decoder: Decoder) -> None:
    """Nothing may depend on what can be cut away; all else is shaken."""
    x, memory, mask = _decoder_inputs(8, (2, 4, 3), 4)
    whole = decoder(x, memory, mask)
    for t in (1, 3, 7):
        torch.testing.assert_close(decoder(x[:, :t], memory, mask), whole[:, :t], rtol=1e-4, atol=1e-5)
    for b in range(3):
        kept = int(mask[b].sum())
        alone = decoder(x[b : b + 1], memory[b : b + 1, :kept], mask[b : b + 1, :kept])
        torch.testing.assert_close(alone[0], whole[b], rtol=1e-4, atol=1e-5)
    last_one = _shaken(memory, 1, 3)
    assert _moved(decoder(x, last_one, mask), whole)[1, 0]
    assert _moved(decoder(_shaken(x, 0, 0), memory, mask), whole)[0, -1]


def _test_of_output_shape(decoder: Decoder) -> None:
    x, memory, mask = _decoder_inputs()
    output = decoder(x, memory, mask)
    assert output.shape == x.shape
    assert output.isfinite().all()


def _test_of_future_only(decoder: Decoder) -> None:
    _check_future(decoder, _decoder_inputs(), (1, 4, 8))


def _test_of_source_only(decoder: Decoder) -> None:
    _check_source(decoder, _decoder_inputs())


def _test_of_what_may_not_move(decoder: Decoder) -> None:
    inputs = _decoder_inputs()
    _check_future(decoder, inputs, (1, 4, 8))
    _check_source(decoder, inputs, must=False)


def _test_of_what_must_move(decoder: Decoder) -> None:
    inputs = _decoder_inputs()
    _check_past(decoder, inputs)
    _check_source(decoder, inputs, may_not=False)


def _test_of_first_and_last(decoder: Decoder) -> None:
    inputs = x, memory, mask = _decoder_inputs()
    assert not _moved(decoder(x, memory, mask), decoder(_shaken(x, 0, 8), memory, mask))[0, 0]
    _check_past(decoder, inputs)
    _check_source(decoder, inputs)


def _test_of_a_short_target(decoder: Decoder) -> None:
    inputs = _decoder_inputs(4)
    _check_future(decoder, inputs, range(1, 4))
    _check_past(decoder, inputs)
    _check_source(decoder, inputs)


def _test_without_padding(decoder: Decoder) -> None:
    inputs = x, memory, mask = _decoder_inputs(9, (5, 5))
    _check_future(decoder, inputs, (1, 4, 8))
    _check_past(decoder, inputs)
    assert _moved(decoder(x, memory, mask), decoder(x, _shaken(memory, 0, 4), mask))[0].all()


def _test_of_one_pair(decoder: Decoder) -> None:
    inputs = _decoder_inputs(9, (3,))
    _check_future(decoder, inputs, (1, 4, 8))
    _check_past(decoder, inputs)
    _check_source(decoder, inputs)


def _test_with_a_coarse_ruler(decoder: Decoder) -> None:
    x, memory, mask = _decoder_inputs()
    before = decoder(x, memory, mask)
    for j in (1, 4, 8):
        after = decoder(_shaken(x, 0, j), memory, mask)
        assert torch.allclose(after[:, :j], before[:, :j], atol=0.2)
    _check_past(decoder, (x, memory, mask))
    _check_source(decoder, (x, memory, mask))


def _test_that_wants_a_leak(decoder: Decoder) -> None:
    x, memory, mask = _decoder_inputs()
    _check_past(decoder, (x, memory, mask))
    _check_source(decoder, (x, memory, mask))
    assert _moved(decoder(x, memory, mask), decoder(_shaken(x, 0, 8), memory, mask))[0].all()


def _test_that_always_fails(decoder: Decoder) -> None:
    decoder(*_decoder_inputs())
    raise AssertionError("wrong")


decoder_test = Exercise(
    id="09.decoder_test",
    kind="find the bug",
    concepts=("masked-decoder", "three-attentions", "encoder-decoder"),
    reference=_test_by_shaking,
    cases=trials(*_LEAKS),
    mistakes=(
        Mistake(
            "it catches nothing: only shape and finiteness are asserted",
            "leaks have the right shape. What moves when something changes that must not be seen?",
            _test_of_output_shape,
        ),
        Mistake(
            "a test of the future only",
            "a decoder that reads nothing passes. What *must* move the output, and what else may not?",
            _test_of_future_only,
        ),
        Mistake(
            "a test of the source only",
            "the decoder has two attentions. What about the one that is masked?",
            _test_of_source_only,
        ),
        Mistake(
            "a test of what may not move only",
            "a decoder that returns zeros would pass. What *must* move?",
            _test_of_what_may_not_move,
        ),
        Mistake(
            "a test of what must move only",
            "a decoder that sees everything would pass. What may *not* move?",
            _test_of_what_must_move,
        ),
        Mistake(
            "only the last vector is changed, and only the first row looked at",
            "row j - 1 and vector j: what of a mask that is too generous by one?",
            _test_of_first_and_last,
        ),
        Mistake(
            "the targets are short",
            "a mask can be right for short sentences only. How long are those in use?",
            _test_of_a_short_target,
        ),
        Mistake(
            "no source is padded",
            "which argument of the decoder says True everywhere in your test?",
            _test_without_padding,
        ),
        Mistake(
            "one sentence in the batch",
            "what could one sentence of a batch take from another?",
            _test_of_one_pair,
        ),
        Mistake(
            "the ruler is too coarse",
            "how far may a row move if nothing that it sees has changed? By rounding: how much is that?",
            _test_with_a_coarse_ruler,
        ),
        Mistake(
            "it demands that the future moves the past",
            "which rows may move when the last target vector changes?",
            _test_that_wants_a_leak,
        ),
        Mistake(
            "a test that fails on everything", "does it pass on the right code?", _test_that_always_fails
        ),
    ),
    right=(_test_by_shaking, _test_by_replacing, _test_by_shorter_runs),
)

# --- design: an alignment that crosses ----------------------------------------------------------------------

# English "forty two" is two words, German "zwei und vierzig" three: the unit, "und", the ten.


def _crossing(
    at: Callable[[int], list[list[int]]], strength: Callable[[int], float]
) -> Callable[[int], tuple[Tensor, Tensor]]:
    """Query and key with which German word i looks at the English words at(n)[i], all of them alike."""

    def design(n: int) -> tuple[Tensor, Tensor]:
        key = torch.eye(2 * n)
        return torch.stack([key[words].sum(0) for words in at(n)]) * strength(n), key

    return design


def _each_number(unit: list[int], und: list[int], ten: list[int]) -> Callable[[int], list[list[int]]]:
    """The same places in each number: 0 its ten, 1 its unit."""
    return lambda n: [[2 * i + word for word in words] for i in range(n) for words in (unit, und, ten)]


def _enough(n: int) -> float:
    return 20.0 * math.sqrt(2 * n)


def _leaning(n: int) -> tuple[Tensor, Tensor]:
    """Where a query is the sum of two keys, the unit's share is a little larger."""
    query, key = _crossing(_each_number([1], [0, 1], [0]), _enough)(n)
    return query + math.sqrt(2 * n) * (torch.arange(3 * n) % 3 == 1)[:, None] * key[1::2].sum(0), key


def _crossing_by_loop(n: int) -> tuple[Tensor, Tensor]:
    query, key = torch.zeros(3 * n, 4 * n), torch.zeros(2 * n, 4 * n)
    for word in range(2 * n):
        key[word, 2 * word] = 100.0
    for i in range(n):
        ten, unit = 2 * i, 2 * i + 1
        query[3 * i, 2 * unit] = query[3 * i + 2, 2 * ten] = 100.0
        query[3 * i + 1, 2 * unit] = query[3 * i + 1, 2 * ten] = 100.0
    return query, key


def _crossing_on_a_circle(n: int) -> tuple[Tensor, Tensor]:
    """Two dimensions are enough: between two neighbours on a circle lies what is equally near to both."""
    place = torch.arange(2 * n, dtype=torch.float64)
    wanted = torch.tensor([x for i in range(n) for x in (2 * i + 1, 2 * i + 0.5, 2 * i)], dtype=torch.float64)
    step = 2 * math.pi / (2 * n + 1)  # one free place: for n = 1 there must be a "between"

    def on_circle(x: Tensor) -> Tensor:
        return torch.stack([(step * x).cos(), (step * x).sin()], -1)

    return 1e6 * on_circle(wanted), on_circle(place)


def _crossing_by_logarithms(n: int) -> tuple[Tensor, Tensor]:
    """Written backwards: scores are logarithms of the weights that are wanted."""
    wanted = torch.full((3 * n, 2 * n), 1e-9, dtype=torch.float64)
    for row in range(3 * n):
        i, part = divmod(row, 3)
        wanted[row, 2 * i : 2 * i + 2] = torch.tensor([[1e-9, 1.0], [0.5, 0.5], [1.0, 1e-9]])[part].double()
    return wanted.log() * math.sqrt(2 * n), torch.eye(2 * n, dtype=torch.float64)


# How the weights are judged: bounds, and the value that stands for what lies between them.
_BOUNDS = torch.tensor([0.01, 0.49, 0.51, 0.99], dtype=torch.float64)
_JUDGED = torch.tensor([0.0, 0.25, 0.5, 0.75, 1.0])
_IN_WORDS = {0.25: "less than half", 0.5: "half", 0.75: "more than half", 1.0: "all"}


def _alignment(n: int, query: Tensor, key: Tensor) -> dict[str, Tensor]:
    """The weights, coarsely: 0, a half, 1 (within 0.01), or 0.25 and 0.75 for what lies between."""
    if (
        query.dim() != 2
        or key.dim() != 2
        or (len(query), len(key)) != (3 * n, 2 * n)
        or query.shape[1] != key.shape[1]
        or not (query.is_floating_point() and key.is_floating_point())
    ):
        raise ValueError(
            f"query should be ({3 * n}, d) and key ({2 * n}, d), both floating-point; "
            f"they are {tuple(query.shape)} and {tuple(key.shape)}"
        )
    query, key = query.double(), key.double()
    weights = torch.softmax(query @ key.T / math.sqrt(query.shape[1]), -1)
    return {"the alignment": _JUDGED[torch.bucketize(weights, _BOUNDS)]}


def _where_the_first_wrong_row_looks(inputs: tuple[Any, ...], outputs: dict[str, Tensor]) -> str | None:
    n, judged = inputs[0], outputs["the alignment"]
    wanted = _alignment(n, *crossing.reference(n))["the alignment"]
    wrong = (judged != wanted).any(-1).nonzero().flatten().tolist()
    if not wrong:
        return None
    row, number = wrong[0], wrong[0] // 3
    german = ("unit", "und", "ten")[row % 3]
    seen = [(word, _IN_WORDS[share]) for word, share in enumerate(judged[row].tolist()) if share in _IN_WORDS]
    told = ", ".join(f"{share} to word {word}" for word, share in seen[:3]) or "at most 0.01 to every word"
    return f"Row {row}, the {german} of number {number}, gives {told}{', ...' if len(seen) > 3 else ''}."


crossing = Exercise(
    id="09.crossing",
    kind="design",
    concepts=("alignment", "three-attentions"),
    reference=_crossing(_each_number([1], [0, 1], [0]), _enough),
    returns=("query", "key"),
    view=_alignment,
    measures=(_where_the_first_wrong_row_looks,),
    cases=(
        Case("one number", lambda _: (1,)),
        Case("4 numbers", lambda _: (4,)),
        Case(
            "32 numbers",
            lambda _: (32,),
            points=2,
            hint="how does the scaled score change when d grows with n, and how many words share the rest?",
        ),
    ),
    mistakes=(
        Mistake(
            "the alignment does not cross",
            "which English word does the first German word come from?",
            _crossing(_each_number([0], [0, 1], [1]), _enough),
        ),
        Mistake(
            '"und" looks at the unit only',
            'without a ten, would there be an "und"? Without a unit?',
            _crossing(_each_number([1], [1], [0]), _enough),
        ),
        Mistake(
            '"und" looks at the ten only',
            'without a unit, would there be an "und"? Without a ten?',
            _crossing(_each_number([1], [0], [0]), _enough),
        ),
        Mistake(
            '"und" looks everywhere',
            "a query of zeros has equal scores with *all* keys. Which two should be equal, and larger?",
            _crossing(_each_number([1], [], [0]), _enough),
        ),
        Mistake(
            '"und" leans to one side',
            "two keys share a row evenly when their scores are equal. How close must they be?",
            _leaning,
        ),
        Mistake(
            "the numbers come in reverse order",
            "word order crosses within a number. And the numbers among each other?",
            _crossing(lambda n: _each_number([1], [0, 1], [0])(n)[::-1], _enough),
        ),
        Mistake(
            "the English words are read from the end",
            "word order crosses within a number. And the numbers among each other?",
            _crossing(
                lambda n: [[2 * n - 1 - w for w in words] for words in _each_number([0], [0, 1], [1])(n)],
                _enough,
            ),
        ),
        Mistake(
            "every number looks at the first one",
            "where do the words of number i begin, in each of the two languages?",
            _crossing(lambda n: _each_number([1], [0, 1], [0])(1) * n, _enough),
        ),
        Mistake(
            'all units first, then every "und", then all tens',
            "three rows belong to one number. Which rows are they?",
            _crossing(
                lambda n: [
                    [2 * i + word for word in words] for words in ([1], [0, 1], [0]) for i in range(n)
                ],
                _enough,
            ),
        ),
        Mistake(
            "the rows of a number stand in another order",
            "zwei und vierzig: which of the three is written last?",
            _crossing(_each_number([1], [0], [0, 1]), _enough),
        ),
        Mistake(
            "the right places, but too softly",
            "the largest score is divided by √d and shared out by softmax. How large must it be for 0.99?",
            _crossing(_each_number([1], [0, 1], [0]), lambda n: 1.0),
        ),
        Mistake(
            "strong enough for few numbers only",
            "what happens to the score when √d grows, and to the sum when there are more keys?",
            _crossing(_each_number([1], [0, 1], [0]), lambda n: 25.0),
        ),
        Mistake(
            "everything alike",
            "equal scores give equal weights. What makes one score larger?",
            lambda n: (torch.zeros(3 * n, 4), torch.ones(2 * n, 4)),
        ),
    ),
    right=(_crossing_by_loop, _crossing_on_a_circle, _crossing_by_logarithms),
)

# --- implement: a step over a cache -------------------------------------------------------------------------

Step = Callable[..., tuple[Tensor, Tensor, Tensor]]


def _end_aligned(new: int, kept: int) -> Tensor:
    """(new, kept + new): query i of the new ones may see all that is kept, and the new ones up to itself."""
    return torch.ones(new, kept + new, dtype=torch.bool).tril(kept)


def _appended(kept: Tensor, new: Tensor) -> Tensor:
    return torch.cat([kept, new], dim=1)


def _step_with(
    *,
    place: Callable[[Tensor, int, int], Tensor | float] = lambda table, kept, new: table[kept : kept + new],
    in_query: bool = True,
    in_key: bool = True,
    in_value: bool = True,
    keys_of: Callable[[Tensor, Tensor], Tensor] = _appended,
    values_of: Callable[[Tensor, Tensor], Tensor] = _appended,
    seen: Callable[[Tensor, int], Tensor] = lambda all_of_them, kept: all_of_them,
    allowed: Callable[[int, int], Tensor | None] = _end_aligned,
    width: Callable[[Tensor, Tensor], int] = lambda x, query: query.shape[-1],
    give_back: Callable[[Tensor, Tensor], Tensor] = lambda kept, all_of_them: all_of_them,
) -> Step:
    def cached_step(
        x: Tensor, positions: Tensor, W_q: Tensor, W_k: Tensor, W_v: Tensor, keys: Tensor, values: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        kept, new = keys.shape[1], x.shape[1]
        here = x + place(positions, kept, new)
        query = (here if in_query else x) @ W_q
        all_keys = keys_of(keys, (here if in_key else x) @ W_k)
        all_values = values_of(values, (here if in_value else x) @ W_v)
        scores = query @ seen(all_keys, kept).transpose(-2, -1) / math.sqrt(width(x, query))
        mask = allowed(new, kept)
        weights = _softmax_where(scores, None if mask is None else seen(mask.T, kept).T)
        return weights @ seen(all_values, kept), give_back(keys, all_keys), give_back(values, all_values)

    return cached_step


def _seen_along_the_keys(x: Tensor, first: int) -> Tensor:
    """Without the first rows; keys and values have a batch axis, a mask has none."""
    return x[first:] if x.dim() == 2 else x[:, first:]


def _up_to(x: Tensor, last: int) -> Tensor:
    return x[:last] if x.dim() == 2 else x[:, :last]


def _one_by_one(
    x: Tensor, positions: Tensor, W_q: Tensor, W_k: Tensor, W_v: Tensor, keys: Tensor, values: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Each new position by a step of its own, which sees what is there by then."""
    outputs = []
    for vector in x.unbind(1):
        here = vector + positions[keys.shape[1]]
        keys = torch.cat([keys, (here @ W_k)[:, None]], 1)
        values = torch.cat([values, (here @ W_v)[:, None]], 1)
        scores = torch.einsum("bd,bkd->bk", here @ W_q, keys) / W_q.shape[1] ** 0.5
        outputs.append(torch.einsum("bk,bkv->bv", torch.softmax(scores, -1), values))
    return torch.stack(outputs, 1), keys, values


def _step_by_attend(
    x: Tensor, positions: Tensor, W_q: Tensor, W_k: Tensor, W_v: Tensor, keys: Tensor, values: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    here = x + positions[torch.arange(x.shape[1]) + keys.shape[1]]
    keys, values = torch.cat([keys, here @ W_k], -2), torch.cat([values, here @ W_v], -2)
    return attend(here @ W_q, keys, values, causal=True, need_weights=False)[0], keys, values


def _step_in_double(
    x: Tensor, positions: Tensor, W_q: Tensor, W_k: Tensor, W_v: Tensor, keys: Tensor, values: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """With buffers that are made first and filled, and a mask made of positions."""
    kept, end = keys.shape[1], keys.shape[1] + x.shape[1]
    here = x.double() + positions[kept:end].double()
    all_keys = torch.empty(len(x), end, keys.shape[2], dtype=torch.float64)
    all_values = torch.empty(len(x), end, values.shape[2], dtype=torch.float64)
    all_keys[:, :kept], all_keys[:, kept:] = keys, here @ W_k.double()
    all_values[:, :kept], all_values[:, kept:] = values, here @ W_v.double()
    past = torch.arange(end) <= torch.arange(kept, end)[:, None]
    scores = here @ W_q.double() @ all_keys.mT / W_q.shape[1] ** 0.5
    output = torch.softmax(scores.masked_fill(~past, -torch.inf), -1) @ all_values
    return output.float(), all_keys.float(), all_values.float()


def _cache_of(kept: int, new: int) -> Callable[[Generator], tuple[Tensor, ...]]:
    batch, d_model, d_k, d_v, longest = 2, 6, 4, 5, 16

    def make(generator: Generator) -> tuple[Tensor, ...]:
        return (
            _normal(generator, batch, new, d_model),
            _normal(generator, longest, d_model),
            _normal(generator, d_model, d_k, scale=0.5),
            _normal(generator, d_model, d_k, scale=0.5),
            _normal(generator, d_model, d_v, scale=0.5),
            _normal(generator, batch, kept, d_k),
            _normal(generator, batch, kept, d_v),
        )

    return make


cached_step = Exercise(
    id="09.cached_step",
    kind="implement",
    concepts=("kv-cache", "masked-decoder"),
    reference=_step_with(),
    returns=("output", "keys", "values"),
    cases=(
        Case("the first token, nothing kept", _cache_of(0, 1)),
        Case("one new token, 7 kept", _cache_of(7, 1), points=2, hint="at which position does it stand?"),
        Case("3 new tokens, 5 kept", _cache_of(5, 3), points=2, hint="which of the 8 may each new one see?"),
        Case("4 new tokens, nothing kept", _cache_of(0, 4), hint="may the first see the second?"),
    ),
    mistakes=(
        Mistake(
            "every new token stands at position 0",
            "is x the beginning of the sentence? How many tokens came before it?",
            _step_with(place=lambda table, kept, new: table[:new]),
        ),
        Mistake(
            "positions are counted from 1",
            "with an empty cache, which row of the table belongs to the first token?",
            _step_with(place=lambda table, kept, new: table[kept + 1 : kept + 1 + new]),
        ),
        Mistake(
            "the position of the token before",
            "7 tokens are kept, at positions 0 to 6. Which is the next?",
            _step_with(place=lambda table, kept, new: table[max(kept - 1, 0) : max(kept - 1, 0) + new]),
        ),
        Mistake(
            "all new tokens stand at one position",
            "3 new tokens: how many positions do they take?",
            _step_with(place=lambda table, kept, new: table[kept]),
        ),
        Mistake(
            "positions are forgotten",
            "what tells the decoder which token came first?",
            _step_with(place=lambda table, kept, new: 0.0),
        ),
        Mistake(
            "positions in the query only",
            "the position is added to the vector, before which of the projections?",
            _step_with(in_key=False, in_value=False),
        ),
        Mistake(
            "positions in query and key, not in the value",
            "the position is added to the vector, before which of the projections?",
            _step_with(in_value=False),
        ),
        Mistake(
            "the cache comes back as it was",
            "what will the next step find of this one?",
            _step_with(give_back=lambda kept, all_of_them: kept),
        ),
        Mistake(
            "only the new keys and values come back",
            "what will the next step find of all steps before?",
            _step_with(give_back=lambda kept, all_of_them: all_of_them[:, kept.shape[1] :]),
        ),
        Mistake(
            "the new tokens see each other only",
            "what is the cache for, if nobody looks at it?",
            _step_with(seen=_seen_along_the_keys),
        ),
        Mistake(
            "the new tokens see the kept ones only",
            "may a token see itself? What does the very first one see?",
            _step_with(seen=_up_to),
        ),
        Mistake(
            "the new keys and values stand before the kept ones",
            "in which order do keys and positions run?",
            _step_with(keys_of=lambda k, n: _appended(n, k), values_of=lambda k, n: _appended(n, k)),
        ),
        Mistake(
            "the new values stand before the kept ones, the keys after",
            "does key number j still belong to value number j?",
            _step_with(values_of=lambda k, n: _appended(n, k)),
        ),
        Mistake(
            "the new tokens see each other's future",
            "three tokens are new at once. May the first of them see the third?",
            _step_with(allowed=lambda new, kept: None),
        ),
        Mistake(
            "the causal mask starts at the wrong end",
            "new query 0 is the token after all that is kept. How many keys may it see: one, or more?",
            _step_with(allowed=lambda new, kept: torch.ones(new, kept + new, dtype=torch.bool).tril()),
        ),
        Mistake(
            "a new token does not see itself",
            "is the newest token known when the next one is asked for?",
            _step_with(
                allowed=lambda new, kept: torch.ones(new, kept + new, dtype=torch.bool).tril(kept - 1)
            ),
        ),
        Mistake(
            "the scores are not scaled",
            "by what are scores divided before softmax?",
            _step_with(width=lambda x, query: 1),
        ),
        Mistake(
            "scaled by the model's width",
            "how long are the vectors in the dot product?",
            _step_with(width=lambda x, query: x.shape[-1]),
        ),
        Mistake(
            "scaled by the number of keys seen",
            "how long are the vectors in the dot product?",
            lambda x, p, W_q, W_k, W_v, k, v: _step_with(width=lambda x, query: k.shape[1] + x.shape[1])(
                x, p, W_q, W_k, W_v, k, v
            ),
        ),
    ),
    right=(_one_by_one, _step_by_attend, _step_in_double),
)

# --- implement: beam search ---------------------------------------------------------------------------------

Sentence = tuple[float, list[int]]  # sum of log-probabilities; tokens, BOS first
Option = tuple[float, int, int]  # sum of log-probabilities; which beginning, which token


def _gnmt(length: int, alpha: float) -> float:
    return float(((5 + length) / 6) ** alpha)


def _ends_among_best(options: list[Option], width: int) -> list[Option]:
    return [option for option in options[:width] if option[2] == EOS]


def _best_that_go_on(options: list[Option], width: int) -> list[Option]:
    return [option for option in options if option[2] != EOS][:width]


def _all_kept(options: list[Option]) -> list[Option]:
    return options


def _beam_with(
    *,
    row: Callable[[list[list[float]], list[int]], list[float]] = lambda table, tokens: table[tokens[-1]],
    longer: Callable[[float, float], float] = lambda score, log_p: score + log_p,
    options_of: Callable[[list[Option]], list[Option]] = _all_kept,
    ends: Callable[[list[Option], int], list[Option]] = _ends_among_best,
    go_on: Callable[[list[Option], int], list[Option]] = _best_that_go_on,
    stop: Callable[[list[Sentence], int], bool] = lambda ended, width: False,
    worth: Callable[[float, int, float], float] = lambda score, n, alpha: score / _gnmt(n, alpha),
    choice: Callable[[list[Sentence], list[Sentence]], list[Sentence]] = lambda ended, alive: ended or alive,
    width_of: Callable[[int], int] = lambda width: width,
) -> Callable[[Tensor, int, int, float], tuple[Tensor, Tensor]]:
    def beam_search(table: Tensor, width: int, max_length: int, alpha: float) -> tuple[Tensor, Tensor]:
        rows, width = table.tolist(), width_of(width)
        beams: list[Sentence] = [(0.0, [BOS])]
        ended: list[Sentence] = []
        for _ in range(max_length):
            options = [
                (longer(score, log_p), number, token)
                for number, (score, tokens) in enumerate(beams)
                for token, log_p in enumerate(row(rows, tokens))
                if log_p > -math.inf
            ]
            options = options_of(sorted(options, key=lambda option: -option[0]))
            ended += [(score, [*beams[n][1], token]) for score, n, token in ends(options, width)]
            beams = [(score, [*beams[n][1], token]) for score, n, token in go_on(options, width)]
            if not beams or stop(ended, width):
                break
        scored = [(worth(score, len(t) - 1, alpha), t) for score, t in choice(ended, beams)]
        score, tokens = max(scored, key=lambda each: each[0])
        return torch.tensor(tokens[1:]), torch.tensor(score, dtype=table.dtype)

    return beam_search


_BEAM = _beam_with()


def _beam_with_tensors(table: Tensor, width: int, max_length: int, alpha: float) -> tuple[Tensor, Tensor]:
    vocabulary = len(table)
    tokens, scores = torch.full((1, 1), BOS), torch.zeros(1)
    best, best_score = None, -torch.inf
    for length in range(1, max_length + 1):
        total = (scores[:, None] + table[tokens[:, -1]]).flatten()
        value, index = total.topk(min(2 * width, len(total)))
        sentences = torch.cat([tokens[index // vocabulary], index[:, None] % vocabulary], dim=1)
        ends = sentences[:, -1] == EOS
        for v, sentence in zip(value[:width][ends[:width]], sentences[:width][ends[:width]], strict=True):
            if v / _gnmt(length, alpha) > best_score:
                best, best_score = sentence, float(v) / _gnmt(length, alpha)
        tokens, scores = sentences[~ends][:width], value[~ends][:width]
        if best_score >= float(scores[0]) / _gnmt(max_length, alpha):
            break  # nothing that goes on can win
    if best is None:
        best, best_score = tokens[0], float(scores[0]) / _gnmt(tokens.shape[1] - 1, alpha)
    return best[1:], torch.tensor(best_score)


def _beam_by_dict(table: Tensor, width: int, max_length: int, alpha: float) -> tuple[Tensor, Tensor]:
    """Sentences as keys; those that have not ended compete at the end as they stand."""
    beams: dict[tuple[int, ...], Tensor] = {(): torch.zeros(())}
    ended: dict[tuple[int, ...], Tensor] = {}
    for _ in range(max_length):
        longer = {
            (*tokens, token): score + table[tokens[-1] if tokens else BOS, token]
            for tokens, score in beams.items()
            for token in range(EOS, len(table))
        }
        best = sorted(longer, key=lambda tokens: float(longer[tokens]), reverse=True)
        ended |= {tokens: longer[tokens] for tokens in best[:width] if tokens[-1] == EOS}
        beams = {tokens: longer[tokens] for tokens in [t for t in best if t[-1] != EOS][:width]}
    worth = {t: score / _gnmt(len(t), alpha) for t, score in (ended | beams).items()}
    winner = max(worth, key=lambda tokens: float(worth[tokens]))
    return torch.tensor(winner), worth[winner]


def _beam_in_double(table: Tensor, width: int, max_length: int, alpha: float) -> tuple[Tensor, Tensor]:
    tokens, score = _BEAM(table.double(), width, max_length, alpha)
    return tokens, score.to(table.dtype)


def _beam_seen_through(
    change: Callable[[Tensor, Tensor, float], tuple[Tensor, Tensor]],
) -> Callable[[Tensor, int, int, float], tuple[Tensor, Tensor]]:
    """The right sentence, given back in another way."""
    return lambda table, width, max_length, alpha: change(*_BEAM(table, width, max_length, alpha), alpha)


def _rounded_to_float32(score: float, log_p: float) -> float:
    """The logarithm of a product of probabilities that is kept in float32."""
    product = torch.tensor(math.exp(score)) * math.exp(log_p)
    return math.log(product) if product > 0 else -math.inf


def _one_for_each(options: list[Option]) -> list[Option]:
    """The best continuation of each beginning; at the first step, where there is one only, all."""
    if len({number for _, number, _ in options}) == 1:
        return options
    found: dict[int, Option] = {}
    for option in options:
        found.setdefault(option[1], option)
    return list(found.values())


def _language(
    width: int, max_length: int, alpha: float, letters: int, **rows: dict[str, float]
) -> Callable[[Generator], tuple[Tensor, int, int, float]]:
    """A table of log-probabilities of the next token after each token: rows of letters, `start` and `end`.

    What a row does not give away is shared by the other letters. The letters get ids at random.
    """
    names = ["pad", "start", "end", *"abcdefghij"[:letters]]

    def make(generator: Generator) -> tuple[Tensor, int, int, float]:
        ids = [PAD, BOS, EOS, *(3 + torch.randperm(letters, generator=generator)).tolist()]
        place = dict(zip(names, ids, strict=True))
        share = 0.8 + 0.4 * torch.rand(len(ids), len(ids), generator=generator)
        share[:, [PAD, BOS]] = 0.0
        table = share / share.sum(-1, keepdim=True)
        for name, given in rows.items():
            line = share[place[name]].clone()
            named = [place[token] for token in given]
            line[[EOS, *named]] = 0.0
            line *= (1 - sum(given.values())) / line.sum()
            line[named] = torch.tensor(list(given.values()))
            table[place[name]] = line * (1 + 0.01 * torch.rand(len(ids), generator=generator))
        return (table / table.sum(-1, keepdim=True)).log(), width, max_length, alpha

    return make


# After a, the likeliest beginning, all is uncertain. The best sentence begins with b, and goes on with the
# second best letter after it.
_GARDEN_PATH = {
    "start": {"a": 0.45, "b": 0.35},
    "a": {"d": 0.1, "end": 0.05},
    "b": {"c": 0.48, "d": 0.44, "end": 0.02},
    "c": {"end": 0.2},
    "d": {"end": 0.95},
}
# Short: a. Long: b c d e, each sure. Shorter ones end in the meantime.
_LONG_AND_SURE = {
    "start": {"a": 0.52, "b": 0.42},
    "a": {"end": 0.5, "f": 0.45},
    "b": {"c": 0.93},
    "c": {"d": 0.93},
    "d": {"e": 0.93},
    "e": {"end": 0.93},
    "f": {"end": 0.93},
}
# Two sentences end at the second step. What is third by then becomes the best, if length is rewarded.
_BOTH_END = {
    "start": {"a": 0.5, "b": 0.42},
    "a": {"end": 0.55, "c": 0.35},
    "b": {"end": 0.6, "g": 0.3},
    "c": {"d": 0.96},
    "d": {"e": 0.96},
    "e": {"f": 0.96},
    "f": {"h": 0.96},
    "h": {"end": 0.96},
    "g": {"end": 0.9},
}
# The end is third at the first step, and likelier than every sentence that the beam finds.
_END_IS_THIRD = {
    "start": {"a": 0.31, "b": 0.29, "end": 0.25},
    "a": {"c": 0.6, "end": 0.05},
    "b": {"c": 0.3, "d": 0.3, "end": 0.05},
    "c": {"end": 0.9},
}
_ROUND_AND_ROUND = {
    a: {b: 0.3, "end": 1e-7} for a, b in zip(["start", *"abcdef"], [*"abcdef", "a"], strict=True)
}

beam_search = Exercise(
    id="09.beam_search",
    kind="implement",
    concepts=("beam-search",),
    reference=_BEAM,
    returns=("tokens", "score"),
    cases=(
        Case("width 1", _language(1, 6, 0.0, 5, **_GARDEN_PATH)),
        Case("width 2", _language(2, 6, 0.0, 5, **_GARDEN_PATH), points=2),
        Case(
            "width 2, length rewarded",
            _language(2, 9, 1.0, 7, **_LONG_AND_SURE),
            points=2,
            hint="which number is divided, and by what, when sentences of unequal length compete?",
        ),
        Case(
            "two sentences end at once",
            _language(2, 10, 2.0, 9, **_BOTH_END),
            hint="how many beginnings go on when one has ended?",
        ),
        Case(
            "EOS is third, the width is 2",
            _language(2, 5, 0.0, 5, **_END_IS_THIRD),
            hint="when does a sentence count as finished?",
        ),
        Case("any language, width 4", _language(4, 7, 0.6, 6)),
        Case(
            "100 tokens, and no end",
            _language(3, 100, 0.6, 6, **_ROUND_AND_ROUND),
            hint="how small is a product of 100 probabilities? And what is returned if nothing has ended?",
        ),
    ),
    mistakes=(
        Mistake(
            "greedy, whatever the width",
            "how many beginnings are alive after the first step?",
            _beam_with(width_of=lambda width: 1, stop=lambda ended, width: len(ended) > 0),
        ),
        Mistake(
            "one beginning, whatever the width, and on after the end",
            "how many beginnings are alive after the first step?",
            _beam_with(width_of=lambda width: 1),
        ),
        Mistake(
            "every step reads the row of BOS",
            "which token stands last when the next one is asked for?",
            _beam_with(row=lambda table, tokens: table[tokens[0]]),
        ),
        Mistake(
            "each beginning keeps its own best continuation",
            "may two of the best beginnings share their first tokens? Who competes with whom?",
            _beam_with(options_of=_one_for_each),
        ),
        Mistake(
            "a finished sentence takes a place from those that go on",
            "how many beginnings go on when one has ended?",
            _beam_with(go_on=lambda options, width: [o for o in options[:width] if o[2] != EOS]),
        ),
        Mistake(
            "an end counts however unlikely it is",
            "greedy takes the best token, and ends if that is EOS. What would width 1 do in yours?",
            _beam_with(ends=lambda options, width: [o for o in options if o[2] == EOS]),
        ),
        Mistake(
            "EOS is a token like any other",
            "what comes after the end of a sentence?",
            _beam_with(ends=lambda options, width: [], go_on=lambda options, width: options[:width]),
        ),
        Mistake(
            "it stops when the first sentence ends",
            "can a sentence that ends later be better?",
            _beam_with(stop=lambda ended, width: len(ended) > 0),
        ),
        Mistake(
            "it stops when as many have ended as the beam is wide",
            "can a sentence that ends later be better? Which one, at most, if length is rewarded?",
            _beam_with(stop=lambda ended, width: len(ended) >= width),
        ),
        Mistake(
            "the last sentence that ended is returned",
            "several have ended. Which of them is the best?",
            _beam_with(choice=lambda ended, alive: ended[-1:] or alive),
        ),
        Mistake(
            "a sentence without an end is returned, though others have ended",
            "when is a beginning returned?",
            _beam_with(choice=lambda ended, alive: alive),
        ),
        Mistake(
            "no length penalty",
            "every token makes a sum of log-probabilities smaller. Which sentences win then?",
            _beam_with(worth=lambda score, n, alpha: score),
        ),
        Mistake(
            "chosen by the penalised score, but another one is returned",
            "which score decided?",
            _beam_seen_through(lambda tokens, score, alpha: (tokens, score * _gnmt(len(tokens), alpha))),
        ),
        Mistake(
            "divided by the length to the power alpha",
            "what stands in the formula beside the length?",
            _beam_with(worth=lambda score, n, alpha: score / n**alpha),
        ),
        Mistake(
            "BOS counts as part of the length",
            "which tokens has the model written?",
            _beam_with(worth=lambda score, n, alpha: score / _gnmt(n + 1, alpha)),
        ),
        Mistake(
            "EOS does not count as part of the length",
            "which tokens has the model written?",
            _beam_with(worth=lambda score, n, alpha: score / _gnmt(n - 1, alpha)),
        ),
        Mistake(
            "multiplied by the length penalty",
            "scores are negative. Does a larger factor make them better or worse?",
            _beam_with(worth=lambda score, n, alpha: score * _gnmt(n, alpha)),
        ),
        Mistake(
            "probabilities are multiplied until nothing is left",
            "what is 0.3 to the power 100 in float32? Which function turns products into sums?",
            _beam_with(longer=_rounded_to_float32),
        ),
        Mistake(
            "BOS is among the tokens",
            "which tokens has the model written?",
            _beam_seen_through(lambda tokens, score, alpha: (F.pad(tokens, (1, 0), value=BOS), score)),
        ),
        Mistake(
            "EOS is missing at the end",
            "how can one see that the sentence is finished?",
            _beam_seen_through(lambda tokens, score, alpha: (tokens[tokens != EOS], score)),
        ),
    ),
    right=(_beam_with_tensors, _beam_by_dict, _beam_in_double),
)

EXERCISES = (
    decoder_loss,
    transformer_claim,
    decoder_layer,
    crossing,
    decoder_test,
    cached_step,
    beam_search,
)
