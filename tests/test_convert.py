"""Weights to and from torch.nn: the same function on both sides, or an error that says why not."""

import pytest
import torch
from oracles import close, normal, shaken
from torch import nn
from torch.nn import functional as F

from attn import (
    Decoder,
    DecoderLayer,
    Encoder,
    EncoderDecoder,
    EncoderLayer,
    FeedForward,
    MultiHeadAttention,
    masks,
)
from attn.convert import from_torch, to_torch
from attn.normalizers import relu
from attn.positions import Rotary

D_MODEL, HEADS, D_FF, SOURCE, TARGET = 12, 2, 20, 7, 5
P = 0.25
ALIKE = {"dropout": P, "attention_dropout": P, "activation_dropout": P}

OURS = {
    "attention": lambda: MultiHeadAttention(D_MODEL, HEADS, dropout=P),
    "attention without bias": lambda: MultiHeadAttention(D_MODEL, HEADS, bias=False),
    "encoder layer": lambda: EncoderLayer(D_MODEL, HEADS, D_FF, norm="pre", activation=F.gelu, **ALIKE),
    "decoder layer": lambda: DecoderLayer(D_MODEL, HEADS, D_FF, **ALIKE),
    "encoder": lambda: Encoder(2, D_MODEL, HEADS, D_FF, norm="pre", **ALIKE),
    "decoder": lambda: Decoder(3, D_MODEL, HEADS, D_FF, final_norm=True, **ALIKE),
    "both": lambda: EncoderDecoder(D_MODEL, HEADS, 2, 3, D_FF, **ALIKE),
}
THEIRS = {
    "attention": lambda: nn.MultiheadAttention(D_MODEL, HEADS, dropout=P),
    "encoder layer": lambda: nn.TransformerEncoderLayer(D_MODEL, HEADS, D_FF, P, norm_first=True),
    "encoder layer, gelu": lambda: nn.TransformerEncoderLayer(D_MODEL, HEADS, D_FF, P, activation=nn.GELU()),
    "decoder layer": lambda: nn.TransformerDecoderLayer(D_MODEL, HEADS, D_FF, P, activation="gelu"),
    "encoder": lambda: nn.TransformerEncoder(nn.TransformerEncoderLayer(D_MODEL, HEADS, D_FF, P), 2),
    "decoder": lambda: nn.TransformerDecoder(
        nn.TransformerDecoderLayer(D_MODEL, HEADS, D_FF, P), 2, nn.LayerNorm(D_MODEL)
    ),
    "both": lambda: nn.Transformer(D_MODEL, HEADS, 1, 2, D_FF, P, batch_first=True),
}


def run_ours(module: nn.Module) -> torch.Tensor:
    x, memory = normal(2, TARGET, D_MODEL), normal(2, SOURCE, D_MODEL, seed=1)
    if isinstance(module, MultiHeadAttention):
        return module(x, memory)[0]
    if isinstance(module, EncoderDecoder):
        return module(memory, x)
    return module(x, memory) if isinstance(module, DecoderLayer | Decoder) else module(x)


def run_theirs(module: nn.Module) -> torch.Tensor:
    """With the causal mask that ours have by themselves, in the axis order that the module was built for."""
    x, memory = normal(2, TARGET, D_MODEL), normal(2, SOURCE, D_MODEL, seed=1)
    attentions = [m for m in module.modules() if isinstance(m, nn.MultiheadAttention)]
    batch_first = attentions[0].batch_first
    if not batch_first:
        x, memory = x.transpose(0, 1), memory.transpose(0, 1)
    future = ~masks.causal(TARGET)
    if isinstance(module, nn.MultiheadAttention):
        output = module(x, memory, memory)[0]
    elif isinstance(module, nn.Transformer):
        output = module(memory, x, tgt_mask=future)
    elif isinstance(module, nn.TransformerDecoderLayer | nn.TransformerDecoder):
        output = module(x, memory, tgt_mask=future)
    else:
        output = module(x)
    return output if batch_first else output.transpose(0, 1)


def dropouts(module: nn.Module) -> list[float]:
    """Of every dropout in a module, ours or torch's, in ascending order."""
    found = [m.p for m in module.modules() if isinstance(m, nn.Dropout)]
    attentions = (MultiHeadAttention, nn.MultiheadAttention)
    return sorted(found + [m.dropout for m in module.modules() if isinstance(m, attentions)])


@pytest.mark.parametrize("build", OURS.values(), ids=OURS)
def test_to_torch_and_back(build: object) -> None:
    ours = shaken(build())  # type: ignore[operator]
    theirs = to_torch(ours)
    assert dropouts(theirs) == dropouts(ours)
    assert theirs.training
    close(run_theirs(theirs.eval()), run_ours(ours.eval()))
    again = from_torch(theirs)
    assert type(again) is type(ours)
    assert not again.training
    assert dropouts(again) == dropouts(ours)
    assert torch.equal(run_ours(again), run_ours(ours))
    assert again.state_dict().keys() == ours.state_dict().keys()


@pytest.mark.parametrize("build", THEIRS.values(), ids=THEIRS)
@pytest.mark.filterwarnings("ignore:enable_nested_tensor")
def test_from_torch_and_back(build: object) -> None:
    theirs = shaken(build())  # type: ignore[operator]
    ours = from_torch(theirs)
    assert dropouts(ours) == dropouts(theirs)
    assert ours.training
    close(run_ours(ours.eval()), run_theirs(theirs.eval()))
    again = to_torch(ours)
    assert isinstance(again, type(theirs))
    assert again.state_dict().keys() == theirs.state_dict().keys()
    for name, parameter in theirs.state_dict().items():
        assert torch.equal(again.state_dict()[name], parameter)


def test_the_copy_shares_no_memory_with_the_original() -> None:
    ours = shaken(EncoderLayer(D_MODEL, HEADS, D_FF, 0.0))
    before, theirs = run_ours(ours), to_torch(ours)
    shaken(theirs, seed=5)
    assert torch.equal(run_ours(ours), before)
    mirrored = from_torch(theirs)
    shaken(mirrored, seed=6)
    assert not torch.equal(run_theirs(theirs), run_ours(mirrored))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_type_and_device_carry_over(dtype: torch.dtype) -> None:
    ours = EncoderLayer(D_MODEL, HEADS, D_FF, 0.0).to(dtype)
    assert {p.dtype for p in to_torch(ours).parameters()} == {dtype}
    assert {p.dtype for p in from_torch(to_torch(ours)).parameters()} == {dtype}


@pytest.mark.parametrize(
    ("module", "error", "message"),
    [
        (FeedForward(D_MODEL, D_FF), TypeError, "FeedForward"),
        (MultiHeadAttention(D_MODEL, HEADS, score=Rotary()), ValueError, "scaled dot product"),
        (MultiHeadAttention(D_MODEL, HEADS, normalize=relu), ValueError, "softmax"),
        (
            EncoderLayer(D_MODEL, HEADS, D_FF, 0.0, attention={"score": Rotary()}),
            ValueError,
            "scaled dot product",
        ),
        (DecoderLayer(D_MODEL, HEADS, D_FF, 0.0, attention={"normalize": relu}), ValueError, "softmax"),
        (
            Encoder(1, D_MODEL, HEADS, D_FF, 0.0, attention={"score": Rotary()}),
            ValueError,
            "scaled dot product",
        ),
        (EncoderLayer(D_MODEL, HEADS, D_FF, 0.0, attention={"bias": False}), ValueError, "bias"),
        (EncoderLayer(D_MODEL, HEADS, D_FF, dropout=0.1), ValueError, "attention_dropout"),
    ],
    ids=lambda x: type(x).__name__ if isinstance(x, nn.Module) else "",
)
def test_what_torch_has_not_is_an_error_that_says_so(module: nn.Module, error: type, message: str) -> None:
    with pytest.raises(error, match=message):
        to_torch(module)


@pytest.mark.parametrize(
    ("module", "error", "message"),
    [
        (nn.Linear(3, 3), TypeError, "Linear"),
        (nn.MultiheadAttention(D_MODEL, HEADS, kdim=8), ValueError, "one width"),
        (nn.MultiheadAttention(D_MODEL, HEADS, add_bias_kv=True), ValueError, "bias_k"),
        (nn.MultiheadAttention(D_MODEL, HEADS, add_zero_attn=True), ValueError, "zero attention"),
        (nn.TransformerEncoderLayer(D_MODEL, HEADS, D_FF, layer_norm_eps=1e-6), ValueError, "1e-06"),
        (nn.TransformerEncoderLayer(D_MODEL, HEADS, D_FF, bias=False), ValueError, "bias"),
        (
            nn.TransformerDecoder(
                nn.TransformerDecoderLayer(D_MODEL, HEADS, D_FF), 1, nn.LayerNorm(D_MODEL, eps=1e-6)
            ),
            ValueError,
            "1e-06",
        ),
    ],
    ids=lambda x: type(x).__name__ if isinstance(x, nn.Module) else "",
)
def test_what_ours_have_not_is_an_error_that_says_so(module: nn.Module, error: type, message: str) -> None:
    with pytest.raises(error, match=message):
        from_torch(module)
