"""Many small models of one kind as one: experiments over seeds and sizes in a fraction of the time."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel


class SideBySide(nn.Module):
    """Models that differ in their weights only, run at once: every argument and the result have one more axis
    in front, (runs, ...), and run i goes through model i.

    The parameters are the models', stacked; training moves these and leaves the models themselves as they
    were (`unstacked` gives the trained ones). Each run's loss depends on its own weights only, so the sum of
    the losses trains each run as it would be trained alone (Adam works on each number for itself). Clip no
    gradient while training, as a norm over all runs would tie them together: `minimise(..., clip=None)`.

    Errors: ValueError without models, or for models whose parameters differ in name or shape.
    """

    def __init__(self, models: Sequence[nn.Module]):
        super().__init__()
        if not models:
            raise ValueError("side by side run one model or more, got none")
        shapes = [
            {name: tuple(value.shape) for name, value in model.state_dict().items()} for model in models
        ]
        if any(other != shapes[0] for other in shapes):
            raise ValueError("models side by side have parameters of the same names and shapes")
        self.runs = len(models)
        self._form = [models[0]]  # in a list, so that its own parameters are not among this module's
        parameters, buffers = stack_module_state(list(models))
        self._names = list(parameters)
        # A parameter's name may hold dots, which those of a module's own may not.
        self.stacked = nn.ParameterList(nn.Parameter(value.detach()) for value in parameters.values())
        self._buffer_names = list(buffers)
        for i, value in enumerate(buffers.values()):
            self.register_buffer(f"buffer_{i}", value, persistent=False)  # so that it moves with the module

    def forward(self, *inputs: Tensor) -> Any:
        """Inputs (runs, ...) → what the models give, with (runs, ...) in front."""
        # Batched over weights, the fused attention kernel would run model by model.
        with sdpa_kernel(SDPBackend.MATH):
            return vmap(self._one, randomness="different")(self._weights(), self._fixed(), *inputs)

    def _weights(self) -> dict[str, Tensor]:
        return dict(zip(self._names, self.stacked, strict=True))

    def _fixed(self) -> dict[str, Tensor]:
        return {name: self.get_buffer(f"buffer_{i}") for i, name in enumerate(self._buffer_names)}

    def _one(self, parameters: dict[str, Tensor], buffers: dict[str, Tensor], *inputs: Tensor) -> Any:
        return functional_call(self._form[0], (parameters, buffers), inputs)

    def train(self, mode: bool = True) -> "SideBySide":
        """Training or evaluation mode, for all runs."""
        self._form[0].train(mode)
        return super().train(mode)

    @torch.no_grad()
    def unstacked(self, run: int, model: nn.Module) -> nn.Module:
        """`model`, which is one of this kind, with the weights of this run copied into it."""
        own = dict(model.named_parameters())
        for name, values in self._weights().items():
            own[name].copy_(values[run])
        return model
