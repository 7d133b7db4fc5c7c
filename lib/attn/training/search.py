"""A fair contest of small models: the same learning rates for each, several seeds, all side by side."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from attn.training.checks import unchecked
from attn.training.schedule import warmup_cosine
from attn.training.side_by_side import SideBySide


def train_at_rates(
    make: Callable[[], nn.Module],
    loss: Callable[[SideBySide, torch.Generator], Tensor],
    *,
    rates: Sequence[float],
    seeds: int,
    steps: int,
    warmup: int = 20,
    clip: float = 1.0,
    seed: int = 0,
) -> SideBySide:
    """Train `seeds` models at each learning rate, with Adam, all on the same batches; returns all of them.

    Run `rate · seeds + s` is the model of seed s at that rate, so a result of shape (runs,) becomes (rates,
    seeds) by `.view(len(rates), seeds)`. Which rate is the best is for validation data to say, which this
    function does not see.

    Arguments:
      make: builds one model; called right after torch.manual_seed(s), s = 0 ... seeds - 1, for each rate.
      loss: draws a batch with the generator it is given and returns the losses of all models, (runs,).
      warmup: steps of rising rate, before the rate falls along a cosine (`warmup_cosine`).
      clip: the largest norm that the gradient of one model may have.

    Leaves the global generator as it was. Errors: ValueError without rates, seeds or steps.
    """
    if not rates or seeds < 1 or steps < 1:
        raise ValueError(f"a contest needs rates, seeds and steps, got {list(rates)}, {seeds=}, {steps=}")
    models = []
    with torch.random.fork_rng(devices=[]):
        for run in range(len(rates) * seeds):
            torch.manual_seed(run % seeds)
            models.append(make())
    together = SideBySide(models)
    rate = torch.tensor(list(rates)).repeat_interleave(seeds)
    parameters = list(together.parameters())
    # Adam at rate 1; how far each model goes along its step is its own rate.
    optimizer = torch.optim.Adam(parameters, lr=1.0, fused=True)
    generator = torch.Generator().manual_seed(seed)
    together.train()
    for step in range(1, steps + 1):
        optimizer.zero_grad()
        if step == 1:
            losses = loss(together, generator)
        else:
            with unchecked():
                losses = loss(together, generator)
        losses.sum().backward()
        _clip_each(parameters, clip)
        before = [p.detach().clone() for p in parameters]
        optimizer.step()
        now = rate * warmup_cosine(step, steps, min(warmup, steps))
        with torch.no_grad():
            for p, old in zip(parameters, before, strict=True):
                p.copy_(torch.lerp(old, p, _per_run(now, p)))
    return together.eval()


def _clip_each(parameters: Sequence[nn.Parameter], clip: float) -> None:
    gradients = [p.grad for p in parameters if p.grad is not None]
    norms = torch.stack([g.flatten(1).norm(dim=1) for g in gradients]).norm(dim=0)
    factor = (clip / norms.clamp_min(1e-12)).clamp_max(1.0)
    for g in gradients:
        g.mul_(_per_run(factor, g))


def _per_run(values: Tensor, like: Tensor) -> Tensor:
    return values.to(like.dtype).view(-1, *[1] * (like.ndim - 1))
