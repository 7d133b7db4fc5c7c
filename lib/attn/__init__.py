"""Attention and the Transformer: the library of the course.

`attend` (in `attn.core`) is the one function that everything hangs on; the other modules are its arguments
and its uses. Names are imported when first used, so `attn doctor` can speak even where torch cannot be
imported.

Set ATTN_CHECK_SHAPES=1 to check every shape annotation at run time (tests do; notebooks do by themselves),
0 to never do.
"""

import importlib
import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from attn.core import attend as attend
    from attn.decoding import beam_search as beam_search
    from attn.decoding import greedy_decode as greedy_decode
    from attn.layers import DecoderLayer as DecoderLayer
    from attn.layers import EncoderLayer as EncoderLayer
    from attn.layers import FeedForward as FeedForward
    from attn.multihead import MultiHeadAttention as MultiHeadAttention
    from attn.transformer import Decoder as Decoder
    from attn.transformer import Encoder as Encoder
    from attn.transformer import EncoderDecoder as EncoderDecoder
    from attn.transformer import Transformer as Transformer
    from attn.watching import watch as watch

_HOME = {
    "attend": "core",
    "MultiHeadAttention": "multihead",
    "watch": "watching",
    "FeedForward": "layers",
    "EncoderLayer": "layers",
    "DecoderLayer": "layers",
    "Encoder": "transformer",
    "Decoder": "transformer",
    "EncoderDecoder": "transformer",
    "Transformer": "transformer",
    "greedy_decode": "decoding",
    "beam_search": "decoding",
}
__all__ = list(_HOME)


def _in_a_notebook() -> bool:
    return "ipykernel" in sys.modules


if os.environ.get("ATTN_CHECK_SHAPES", "1" if _in_a_notebook() else "0") == "1":
    import pkgutil

    from jaxtyping import install_import_hook

    # Not the exercises: they hold thousands of small functions, most of them wrong on purpose. Not the
    # command: `python -m attn.cli` would keep its checked form in Python's cache, for other runs as well.
    names = {module.name for module in pkgutil.iter_modules(__path__)} - {"grading", "cli"}
    checked = [f"attn.{name}" for name in sorted(names)]
    # The numeric tower lets an int stand where a float is asked for, as Python does.
    install_import_hook(checked, "beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))")


def __getattr__(name: str) -> object:
    if name in _HOME:
        return getattr(importlib.import_module(f"attn.{_HOME[name]}"), name)
    raise AttributeError(f"module 'attn' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])
