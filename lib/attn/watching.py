"""Watching: attention weights are recorded where they arise, never passed up through the layers."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import Tensor, nn


class Watchable(nn.Module):
    """A module that attends, and that `watch` can therefore ask.

    Its `forward` takes `need_weights` and returns (output, weights), None for the weights where nobody needs
    them. Weights are (batch, heads, queries, keys).
    """


@contextmanager
def watch(model: nn.Module) -> Iterator[dict[str, Tensor]]:
    """Record the attention weights of every `MultiHeadAttention` in a model, and of whatever else is
    `Watchable`.

        with watch(model) as seen:
            model(source, target)
        seen["stacks.decoder.layers.0.cross_attention"]   # (batch, heads, queries, keys)

    Each name (as `model.named_modules()` has it, "" for the model itself) holds the weights of its latest
    call, detached. While watched, a module computes its weights even if its caller asks for none.
    """
    seen: dict[str, Tensor] = {}

    def ask(
        module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        return args, {**kwargs, "need_weights": True}

    with ExitStack() as hooks:
        for name, module in model.named_modules():
            if isinstance(module, Watchable):

                def keep(
                    module: nn.Module, args: tuple[Any, ...], output: tuple[Tensor, Tensor], name: str = name
                ) -> None:
                    seen[name] = output[1].detach()

                hooks.callback(module.register_forward_pre_hook(ask, with_kwargs=True).remove)
                hooks.callback(module.register_forward_hook(keep).remove)
        yield seen
