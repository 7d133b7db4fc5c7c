"""A contest of learning rates: each run is what it would have been alone."""

import math

import pytest
import torch
from oracles import close, different
from torch import Tensor, nn
from torch.nn import functional as F

from attn.training.minimise import minimise
from attn.training.schedule import warmup_cosine
from attn.training.search import train_at_rates
from attn.training.side_by_side import SideBySide

RATES, STEPS, WARMUP = (1e-3, 1e-2, 1e-1), 12, 3
WANTED = torch.tensor([[1.0, -2.0], [0.5, 3.0], [2.0, 0.0]], dtype=torch.float64)


def make() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 2)).double()


def batch(generator: torch.Generator) -> Tensor:
    return torch.rand(8, 3, generator=generator, dtype=torch.float64)


def losses(models: SideBySide, generator: torch.Generator) -> Tensor:
    x = batch(generator)
    return (models(x.expand(models.runs, -1, -1)) - 50 * x @ WANTED).square().mean((1, 2))  # long gradients


def contest(**changes: object) -> SideBySide:
    settings = {"rates": RATES, "seeds": 2, "steps": STEPS, "warmup": WARMUP, "seed": 7, **changes}
    return train_at_rates(make, losses, **settings)  # type: ignore[arg-type]


@pytest.mark.parametrize("clip", [1.0, 1e9])
def test_each_run_is_as_if_it_were_alone(clip: float) -> None:
    """The oracle: `minimise`, one model at a time, with its own clipping, torch's Adam and the schedule."""
    together = contest(clip=clip)
    assert together.runs == 6
    for r, rate in enumerate(RATES):
        for seed in range(2):
            torch.manual_seed(seed)
            alone = make()

            def loss(generator: torch.Generator, alone: nn.Module = alone) -> Tensor:
                x = batch(generator)
                return F.mse_loss(alone(x), 50 * x @ WANTED)

            schedule = lambda step: warmup_cosine(step, STEPS, WARMUP)  # noqa: E731
            minimise(loss, alone, steps=STEPS, learning_rate=rate, seed=7, schedule=schedule, clip=clip)
            one_of_them = together.unstacked(r * 2 + seed, make())
            for a, b in zip(alone.parameters(), one_of_them.parameters(), strict=True):
                close(a, b, 1e-7)


def test_seeds_differ_rates_share_them_and_nothing_else_is_disturbed() -> None:
    before = torch.random.get_rng_state()
    first, again = contest(steps=1, rates=(1e-9,)), contest(steps=1, rates=(1e-9, 1e-9))
    assert torch.equal(torch.random.get_rng_state(), before)
    [w, w2] = [next(m.parameters()) for m in (first, again)]
    close(w[0], w2[0])
    close(w2[0], w2[2], 1e-6)
    assert different(w[0], w[1])
    assert not first.training


def test_it_learns_and_a_run_that_diverges_leaves_the_others_alone() -> None:
    together = contest(rates=(3e-2, 1e30), steps=200, clip=1.0)
    untrained = contest(rates=(1e-12,), steps=1)
    with torch.no_grad():
        end = losses(together, torch.Generator().manual_seed(1)).view(2, 2)
        start = losses(untrained, torch.Generator().manual_seed(1))
    assert (end[0] < start).all()
    assert not (end[1] < start).any() or math.isnan(end[1].sum())


def test_a_contest_of_nothing_is_refused() -> None:
    for changes in ({"rates": ()}, {"seeds": 0}, {"steps": 0}):
        with pytest.raises(ValueError, match="needs rates, seeds and steps"):
            contest(**changes)
