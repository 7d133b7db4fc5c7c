"""Decoding: from a trained model to sentences, one token at a time over a cache.

One search serves every model that is a `Translator`: `attn.Transformer`, `attn.rivals.Seq2Seq`, your own.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, Protocol, TypeVar, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from attn import masks


@runtime_checkable
class Cache(Protocol):
    """What a part of a model keeps of the tokens written so far: keys and values, or a recurrent state."""

    def reorder_beams(self, rows: Int[Tensor, " rows"]) -> None:
        """Row i goes on from what row `rows[i]` has written; rows may repeat. Both are of the same sentence,
        so what comes from the source alone may stay in place.
        """


C = TypeVar("C", bound=Cache)


@runtime_checkable
class Translator(Protocol[C]):
    """What a model (`nn.Module`) must offer so that it can be decoded.

    pad, bos, eos: ids of padding, of the token that begins a target and of the one that ends it.
    """

    pad: int
    bos: int
    eos: int

    def encode(
        self, source: Int[Tensor, "batch source_length"]
    ) -> Float[Tensor, "batch memory_length d_memory"]:
        """What the decoder gets to know of each source: one vector a token, or fewer."""

    def decode(
        self,
        target: Int[Tensor, "batch target_length"],
        memory: Float[Tensor, "batch memory_length d_memory"],
        memory_mask: Bool[Tensor, "#batch 1 1 source_length"],
        *,
        caches: list[C] | None = None,
    ) -> Float[Tensor, "batch target_length vocabulary"]:
        """Logits of the token after each target token. `memory_mask` is `masks.padding(source, pad)`.

        Without `caches`, `target` begins with `bos`. With them it holds only the tokens that came since the
        last call, and the caches take note of them.
        """

    def start_caches(self, memory: Float[Tensor, "batch memory_length d_memory"]) -> list[C]:
        """The caches before the first token. A row of the batch keeps to its row of the memory."""

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""

    def modules(self) -> Iterator[nn.Module]:
        """As `nn.Module` has it."""

    def eval(self) -> Any:
        """As `nn.Module` has it."""


class Decoded(NamedTuple):
    """Sentences that a model has written.

    tokens: (batch, length) without the beginning token, with the end token where one was reached, then
    padding.
    scores: (batch,) natural log-probability of each sentence; from `beam_search` divided by its length
    penalty.
    """

    tokens: Int[Tensor, "batch length"]
    scores: Float[Tensor, " batch"]


@torch.no_grad()
def greedy_decode(
    model: Translator[Any],
    source: Int[Tensor, "batch source_length"],
    *,
    max_length: int,
    use_cache: bool = True,
) -> Decoded:
    """Take the likeliest token at each step, for each sentence until its end token or `max_length` tokens.

    Shapes: source (batch, source_length), padded with model.pad. Without `use_cache` every step runs the
    whole prefix again: the same tokens, for more work. The model is run as in evaluation, without dropout,
    and left in the mode it was in.

    Errors: ValueError for a max_length below 1.
    """
    with _steps(model, source, max_length, use_cache) as steps:
        batch = source.size(0)
        tokens = source.new_full((batch, max_length), model.pad)
        scores = torch.zeros(batch, device=source.device)
        done = torch.zeros(batch, dtype=torch.bool, device=source.device)
        newest = source.new_full((batch,), model.bos)
        for step in range(max_length):
            log_p, newest = steps.log_probabilities(newest).max(dim=-1)
            newest = newest.masked_fill(done, model.pad)
            scores = log_p.masked_fill(done, 0.0) + scores
            tokens[:, step] = newest
            done = done | (newest == model.eos)
            if done.all():
                return Decoded(tokens[:, : step + 1], scores)
        return Decoded(tokens, scores)


@torch.no_grad()
def beam_search(
    model: Translator[Any],
    source: Int[Tensor, "batch source_length"],
    *,
    max_length: int,
    width: int = 4,
    length_penalty: float = 0.6,
    use_cache: bool = True,
) -> Decoded:
    """Keep the `width` likeliest beginnings of each sentence; return the best finished sentence.

    Finished sentences compete by log-probability / ((5 + length) / 6)^length_penalty, their length counting
    the end token (Wu et al. 2016, equation 14, without the coverage term); 0 compares plain
    log-probabilities and favours short sentences. A search ends when no beginning can still win. A sentence
    that has not ended after `max_length` tokens competes as it stands. Width 1 without a length penalty is
    greedy decoding.

    Shapes and modes as in `greedy_decode`. Errors: ValueError for a width or max_length below 1 or a
    negative penalty.
    """
    if width < 1:
        raise ValueError(f"width must be at least 1, got {width}")
    if length_penalty < 0:
        raise ValueError(f"length_penalty cannot be negative, got {length_penalty}")

    def penalty(length: int) -> float:
        return ((5 + length) / 6) ** length_penalty

    with _steps(model, source, max_length, use_cache, copies=width) as steps:
        batch, device = source.size(0), source.device
        first_row = torch.arange(batch, device=device)[:, None] * width
        # All beams begin alike, so all but the first start as impossible: they would only repeat it.
        alive = torch.tensor([0.0] + [-torch.inf] * (width - 1), device=device).expand(batch, width)
        tokens = source.new_full((batch, width, max_length), model.pad)
        best = source.new_full((batch, max_length), model.pad)
        best_score = alive.new_full((batch,), -torch.inf)
        newest = source.new_full((batch * width,), model.bos)
        for step in range(max_length):
            log_p = steps.log_probabilities(newest).unflatten(0, (batch, width))
            vocabulary = log_p.size(-1)
            # Twice the width: even if every beam ends here, `width` beginnings go on.
            n_candidates = min(2 * width, width * vocabulary)
            candidate, index = (alive[..., None] + log_p).flatten(1).topk(n_candidates, dim=-1)
            beam, token = index // vocabulary, index % vocabulary
            sentences = tokens.gather(1, beam[..., None].expand(-1, -1, max_length))
            sentences[..., step] = token

            ends = token == model.eos
            # An end counts only among the best `width`, as any token does.
            finished = candidate.masked_fill(~ends, -torch.inf)[:, :width] / penalty(step + 1)
            best, best_score = _keep_better(best, best_score, finished, sentences)

            alive, order = candidate.masked_fill(ends, -torch.inf).topk(min(width, n_candidates), dim=-1)
            tokens = sentences.gather(1, order[..., None].expand(-1, -1, max_length))
            newest = token.gather(1, order).flatten()
            # What a beginning could reach at most: no further loss, the longest length.
            if (best_score >= alive[:, 0] / penalty(max_length)).all():
                break
            steps.reorder((first_row + beam.gather(1, order)).flatten())
        else:
            best, best_score = _keep_better(best, best_score, alive / penalty(max_length), tokens)
        longest = int((best != model.pad).sum(dim=-1).max()) if batch else 0
        return Decoded(best[:, :longest], best_score)


def _keep_better(
    best: Tensor, best_score: Tensor, scores: Tensor, sentences: Tensor
) -> tuple[Int[Tensor, "batch length"], Float[Tensor, " batch"]]:
    top, which = scores.max(dim=-1)
    better = top > best_score
    winner = sentences[torch.arange(len(which), device=which.device), which]
    return torch.where(better[:, None], winner, best), torch.where(better, top, best_score)


@contextmanager
def evaluating(model: nn.Module | Translator[Any]) -> Iterator[None]:
    """The model in evaluation mode; then every module is back in its own mode, come what may."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


@contextmanager
def _steps(
    model: Translator[Any], source: Tensor, max_length: int, use_cache: bool, copies: int = 1
) -> Iterator["_Steps"]:
    """The model's steps, in evaluation mode.

    Each sentence is encoded once, and stands in `copies` rows from then on.
    """
    if max_length < 1:
        raise ValueError(f"max_length must be at least 1, got {max_length}")
    with evaluating(model):
        yield _Steps(model, source, use_cache, copies)


class _Steps:
    """Log-probabilities of the next token, step by step, over a cache or over the whole prefix."""

    def __init__(self, model: Translator[Any], source: Tensor, use_cache: bool, copies: int):
        self.model, self.use_cache = model, use_cache
        self.memory = model.encode(source).repeat_interleave(copies, dim=0)
        self.memory_mask = masks.padding(source, model.pad).repeat_interleave(copies, dim=0)
        self.caches = model.start_caches(self.memory) if use_cache else None
        self.prefix = source.new_empty((source.size(0) * copies, 0))

    def log_probabilities(self, newest: Tensor) -> Float[Tensor, "batch vocabulary"]:
        tokens = newest[:, None]
        if not self.use_cache:
            self.prefix = tokens = torch.cat([self.prefix, tokens], dim=1)
        logits = self.model.decode(tokens, self.memory, self.memory_mask, caches=self.caches)[:, -1]
        # Sums of half-precision logarithms lose digits.
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        # Padding and a second beginning are never what a sentence goes on with.
        logits[:, [self.model.pad, self.model.bos]] = -torch.inf
        return torch.log_softmax(logits, dim=-1)

    def reorder(self, rows: Tensor) -> None:
        for cache in self.caches or []:
            cache.reorder_beams(rows)
        self.prefix = self.prefix[rows]
