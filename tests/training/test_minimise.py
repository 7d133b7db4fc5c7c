"""minimise: the losses of every step, the same run from the same seed, and no opinion about divergence."""

import itertools
import math

import pytest
import torch
from jaxtyping import config
from torch import nn

from attn import masks
from attn.training import minimise, warmup_cosine


def line(generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    x = torch.rand(32, 1, generator=generator)
    return x, 3 * x - 1


def run(*, steps: int = 200, **options) -> tuple[nn.Linear, list[float]]:
    torch.manual_seed(0)
    model = nn.Linear(1, 1)

    def loss(generator: torch.Generator) -> torch.Tensor:
        x, y = line(generator)
        return (model(x) - y).square().mean()

    return model, minimise(loss, model, steps=steps, learning_rate=0.1, **options)


def test_it_learns_and_gives_the_loss_of_every_step():
    model, losses = run()
    assert len(losses) == 200
    assert losses[-1] < 1e-3 < losses[0]
    assert model.weight.item() == pytest.approx(3, abs=0.1)


def test_a_run_depends_on_its_seed_and_on_nothing_else():
    first = run(steps=5, seed=1)[1]
    torch.rand(7)
    assert run(steps=5, seed=1)[1] == first
    assert run(steps=5, seed=2)[1] != first


def test_the_schedule_sets_the_learning_rate_from_step_1_on():
    assert len(set(run(steps=4, schedule=lambda step: 0.0 if step < 3 else 1.0, seed=3)[1])) == 4
    still, _ = run(steps=4, schedule=lambda step: 0.0)
    torch.manual_seed(0)
    assert torch.equal(still.weight, nn.Linear(1, 1).weight)
    assert run(schedule=lambda step: warmup_cosine(step, 200, 20))[1][-1] < 1e-3


def test_the_gradient_is_clipped_unless_told_otherwise():
    model = nn.Linear(4, 1)
    for clip in (0.5, None):
        minimise(lambda _: 1e4 * model(torch.ones(4)).square().sum(), model, steps=1, clip=clip)
        norm = torch.cat([p.grad.flatten() for p in model.parameters()]).norm()
        assert norm == pytest.approx(0.5, rel=1e-3) if clip else norm > 100


def test_a_loss_that_diverges_is_an_answer():
    model = nn.Linear(1, 1)
    losses = minimise(lambda _: model(torch.ones(1)).sum() * math.inf, model, steps=3)
    assert len(losses) == 3
    assert not any(map(math.isfinite, losses))


def test_no_steps_is_an_error():
    with pytest.raises(ValueError, match="at least 1, got 0"):
        run(steps=0)


def test_shapes_are_checked_in_the_first_step_only(monkeypatch):
    """tests/conftest.py switches the checks on, as notebooks do."""
    monkeypatch.setattr(config, "jaxtyping_disable", False)
    model = nn.Linear(2, 1)

    def wrong_from(first: int) -> list[float]:
        step = itertools.count(1)

        def loss(_: torch.Generator) -> torch.Tensor:
            mask = masks.causal(3)
            masks.to_torch_mha(mask.int() if next(step) >= first else mask)  # a mask of integers is wrong
            return model(torch.ones(2)).sum()

        return minimise(loss, model, steps=3)

    with pytest.raises(TypeError, match="Bool"):
        wrong_from(1)
    assert not config.jaxtyping_disable
    assert len(wrong_from(2)) == 3
    assert not config.jaxtyping_disable
