"""Training models that label: one label per word (tagging) or one per sentence (sentiment)."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from attn.decoding import evaluating
from attn.tasks.labelling import IGNORE, LabelledBatch, LabellingTask
from attn.training.minimise import minimise
from attn.training.schedule import warmup_cosine

_EVALUATION_BATCH = 256


def fit_labels(
    model: nn.Module,
    task: LabellingTask[Any],
    *,
    steps: int,
    batch_size: int = 32,
    learning_rate: float = 3e-3,
    seed: int = 0,
    warmup: int | None = None,
) -> list[float]:
    """Train `model` on the task's training sentences with Adam; returns the loss of every step, in nats.

    `model(ids, mask)` gives logits: (batch, length, n_labels), or (batch, n_labels) for one label per
    sentence. Each epoch is shuffled anew, by `seed` alone. With `warmup` the learning rate rises for so many
    steps and then falls to the end (`attn.training.warmup_cosine`); without, it is constant. Leaves the model
    in training mode. Errors: ValueError for less than one step or a batch without sentences.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1; given {batch_size}")
    whole = task.batch(task.train)
    device = _device(model)
    order: Iterator[Tensor] = iter(())

    def loss(generator: torch.Generator) -> Tensor:
        nonlocal order
        rows = next(order, None)
        if rows is None:
            order = iter(torch.randperm(len(task.train), generator=generator).split(batch_size))
            rows = next(order)
        batch = whole.rows(rows).to(device)
        return label_loss(model(batch.ids, batch.mask), batch)

    schedule = None if warmup is None else lambda step: warmup_cosine(step, steps, warmup)
    return minimise(loss, model, steps=steps, learning_rate=learning_rate, seed=seed, schedule=schedule)


def label_loss(logits: Tensor, batch: LabelledBatch) -> Tensor:
    """Mean cross entropy of the right labels, in nats; padding does not count.

    Raises ValueError where logits and labels do not fit each other.
    """
    if logits.shape[:-1] != batch.labels.shape:
        raise ValueError(
            f"logits of shape {tuple(logits.shape)} do not fit labels of shape {tuple(batch.labels.shape)}: "
            "the last axis is for the labels, the others must be alike"
        )
    return F.cross_entropy(logits.flatten(0, -2), batch.labels.flatten(), ignore_index=IGNORE)


def label_accuracy(
    model: nn.Module, task: LabellingTask[Any], sentences: Sequence[tuple[list[str], Any]]
) -> float:
    """Share of right labels, 0 to 1: of words where each has its own, else of sentences.

    The model is run as in evaluation, and left in the mode it was in. Raises ValueError without sentences.
    """
    if not sentences:
        raise ValueError("there are no sentences to compute an accuracy of")
    right = total = 0
    for (_, label), predicted in zip(sentences, predict_labels(model, task, sentences), strict=True):
        truth, guess = (x if isinstance(x, list) else [x] for x in (label, predicted))
        right += sum(a == b for a, b in zip(truth, guess, strict=True))
        total += len(truth)
    return right / total


def predict_labels(
    model: nn.Module, task: LabellingTask[Any], sentences: Sequence[tuple[list[str], Any] | list[str]]
) -> list[Any]:
    """The likeliest label of each sentence, in the order given: a list of tags, or 0 or 1.

    `sentences`: lists of words, or pairs (words, label) as a task has them, whose label is not looked at. The
    model is run as in evaluation, and left in the mode it was in.
    """
    words = [sentence[0] if isinstance(sentence, tuple) else sentence for sentence in sentences]
    predicted = []
    with evaluating(model), torch.no_grad():
        for start in range(0, len(words), _EVALUATION_BATCH):
            some = words[start : start + _EVALUATION_BATCH]
            ids, mask = task.inputs(some)
            best = model(ids.to(_device(model)), mask.to(_device(model))).argmax(dim=-1).tolist()
            for each, row in zip(some, best, strict=True):
                predicted.append(task.label_of(row[: len(each)] if isinstance(row, list) else row))
    return predicted


def _device(model: nn.Module) -> torch.device:
    return next(model.parameters()).device
