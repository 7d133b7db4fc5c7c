"""The loop for the small experiments of the lessons: any model, any loss, batches drawn as it goes."""

from collections.abc import Callable
from contextlib import nullcontext

import torch
from torch import Tensor, nn

from attn.training.checks import unchecked


def minimise(
    loss: Callable[[torch.Generator], Tensor],
    model: nn.Module,
    *,
    steps: int,
    learning_rate: float = 3e-3,
    seed: int = 0,
    schedule: Callable[[int], float] | None = None,
    clip: float | None = 1.0,
) -> list[float]:
    """Train `model` with Adam (Kingma and Ba 2015); returns the loss of every step.

    Arguments:
      loss: draws a batch with the generator it is given, and returns the batch's loss, a scalar. A run is
        then the same whatever else draws random numbers (dropout excepted, which has no generator).
      schedule: the factor of the learning rate at each step, counted from 1 (`attn.training.schedule`);
        constant without it.
      clip: the largest norm that the gradient may have; None leaves it as it is.

    A loss that is not finite stops nothing: whether a recipe diverges is what some experiments ask. Leaves
    the model in training mode. Errors: ValueError for less than one step.
    """
    if steps < 1:
        raise ValueError(f"steps must be at least 1, got {steps}")
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(model.parameters(), lr=learning_rate, fused=True)
    model.train()
    losses = []
    for step in range(1, steps + 1):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate * (schedule(step) if schedule else 1.0)
        optimizer.zero_grad()
        with nullcontext() if step == 1 else unchecked():
            value = loss(generator)
        value.backward()
        if clip is not None:
            nn.utils.clip_grad_norm_(model.parameters(), clip)
        optimizer.step()
        losses.append(value.item())
    return losses
