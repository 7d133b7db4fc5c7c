"""What a trained model is worth: its loss on other sentences, and its translations."""

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import nn

from attn.decoding import Translator, beam_search, evaluating, greedy_decode
from attn.tasks.translation import TranslationTask, batches
from attn.training.checks import unchecked
from attn.training.distributed import Group
from attn.training.loss import token_loss

Pairs = Sequence[tuple[str, str]]


def mean_loss(
    model: nn.Module, task: TranslationTask, pairs: Pairs, *, batch_size: int = 64, group: Group | None = None
) -> float:
    """Cross entropy per real target token, in nats, without label smoothing, given the true tokens before it.

    `exp` of it is the perplexity. It is not translation quality: a model that copies its input can have a low
    loss. Every process of `group` takes every size-th batch. Raises ValueError where `pairs` is empty.
    """
    if not pairs:
        raise ValueError("there are no sentence pairs to compute a loss of")
    group = group or Group(_device(model))
    total: float = 0.0
    count: float = 0.0
    with evaluating(model), torch.no_grad():
        for batch in batches(task, pairs, batch_size)[group.rank :: group.size]:
            batch = batch.to(group.device)
            loss, tokens = token_loss(model(batch.source, batch.target_in), batch.target_out)
            total, count = total + loss.item(), count + tokens.item()
        total, count = group.sum(total, count).tolist()
    return total / count


def translate(
    model: Translator[Any],
    task: TranslationTask,
    sentences: Sequence[str],
    *,
    beam: int = 1,
    max_length: int = 128,
    batch_size: int = 64,
) -> list[str]:
    """The model's translation of each sentence, in the order given.

    Sentences of similar length are translated together, which wastes little on padding. `beam` is the number
    of hypotheses kept (1 = greedy); `max_length` is in target tokens. A sentence without words becomes "".

    Raises ValueError where beam, max_length or batch_size is less than 1.
    """
    for name, number in (("beam", beam), ("max_length", max_length), ("batch_size", batch_size)):
        if number < 1:
            raise ValueError(f"{name} must be at least 1, not {number}")
    answers = [""] * len(sentences)
    lengths = [len(task.source.encode(sentence)) for sentence in sentences]
    order = sorted((i for i, length in enumerate(lengths) if length), key=lengths.__getitem__)
    device = model.device
    done = 0
    with evaluating(model), torch.no_grad():
        for batch in batches(task, [(sentences[i], "") for i in order], batch_size, by_length=False):
            source = batch.source.to(device)
            with unchecked() if done else nullcontext():  # shapes are checked in the first batch
                if beam == 1:
                    decoded = greedy_decode(model, source, max_length=max_length)
                else:
                    decoded = beam_search(model, source, max_length=max_length, width=beam)
            for ids in decoded.tokens.tolist():
                answers[order[done]] = task.target.decode(ids)
                done += 1
    return answers


def evaluate(
    model: Translator[Any],
    task: TranslationTask,
    pairs: Pairs,
    *,
    beam: int = 1,
    max_length: int = 128,
    batch_size: int = 64,
) -> dict[str, float]:
    """Translate the sources of `pairs` and score the result with the task's own measures, each from 0 to 100.

    {"exact_match": ...} for number words, {"bleu": ...} for Multi30k. Raises ValueError where `pairs` is
    empty.
    """
    if not pairs:
        raise ValueError("there are no sentence pairs to evaluate on")
    sources = [source for source, _ in pairs]
    hypotheses = translate(model, task, sources, beam=beam, max_length=max_length, batch_size=batch_size)
    return task.evaluate(hypotheses, list(pairs))


def _device(model: nn.Module) -> torch.device:
    return next(model.parameters()).device
