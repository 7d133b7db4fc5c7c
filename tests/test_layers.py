"""Feed-forward, residual frame, encoder and decoder layer: the paper's order of things, torch's numbers."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from jaxtyping import TypeCheckError
from oracles import PROPERTY, close, different, gradients, normal, shaken
from torch import Tensor, nn
from torch.nn import functional as F

from attn import DecoderLayer, EncoderLayer, FeedForward, masks
from attn.convert import from_torch
from attn.layers import AttentionPooling, DecoderCache, Residual
from attn.positions import Alibi, Rotary

BATCH, SOURCE, TARGET, D_MODEL, HEADS, D_FF = 2, 7, 5, 12, 3, 20
SOURCE_MASK = masks.from_lengths(torch.tensor([4, 7]))
TARGET_MASK = masks.from_lengths(torch.tensor([5, 3]))
NORMS = ["post", "pre"]


# --- feed-forward -------------------------------------------------------------------------------------------


def test_feed_forward_in_plain_matrices() -> None:
    layer, x = shaken(FeedForward(D_MODEL, D_FF)), normal(BATCH, TARGET, D_MODEL)
    hidden = (x @ layer.W_1.weight.T + layer.W_1.bias).clamp_min(0)
    close(layer(x), hidden @ layer.W_2.weight.T + layer.W_2.bias)


def test_feed_forward_is_not_linear() -> None:
    f = shaken(FeedForward(D_MODEL, D_FF))
    a, c = normal(BATCH, D_MODEL), normal(BATCH, D_MODEL, seed=1)
    assert different(f(a + c) - f(a) - f(c) + f(torch.zeros_like(a)), torch.zeros_like(a))


def test_feed_forward_works_on_each_position_alone() -> None:
    f, x = shaken(FeedForward(D_MODEL, D_FF)), normal(BATCH, TARGET, D_MODEL)
    for i in range(TARGET):
        close(f(x)[:, i], f(x[:, i]))


def test_another_activation_is_used() -> None:
    x = normal(BATCH, D_MODEL)
    layer = shaken(FeedForward(D_MODEL, D_FF, activation=F.gelu))
    close(layer(x), layer.W_2(F.gelu(layer.W_1(x))))


# --- residual -----------------------------------------------------------------------------------------------


def layer_norm_by_hand(x: Tensor, module: nn.LayerNorm) -> Tensor:
    """Over the last axis; the variance divides by d, and eps is added to it under the root."""
    mean = x.mean(-1, keepdim=True)
    variance = (x - mean).square().mean(-1, keepdim=True)
    return (x - mean) / (variance + 1e-5).sqrt() * module.weight + module.bias


@pytest.mark.parametrize("spread", [1.0, 1e-3], ids=["usual", "tiny variance"])
def test_the_residual_frame_is_the_papers_or_the_pre_norm_one(spread: float) -> None:
    x, shift = spread * normal(BATCH, TARGET, D_MODEL), normal(D_MODEL, seed=1)

    def sublayer(x: Tensor) -> Tensor:
        return 2 * x + shift

    post, pre = (shaken(Residual(D_MODEL, 0.0, norm)) for norm in NORMS)  # type: ignore[arg-type]
    close(post(x, sublayer), layer_norm_by_hand(x + 2 * x + shift, post.layer_norm))
    close(pre(x, sublayer), x + 2 * layer_norm_by_hand(x, pre.layer_norm) + shift)


def test_dropout_stands_before_the_sum_so_that_the_input_always_gets_through() -> None:
    x = normal(BATCH, TARGET, D_MODEL)
    post, pre = (shaken(Residual(D_MODEL, 1.0, norm)).train() for norm in NORMS)  # type: ignore[arg-type]
    close(post(x, torch.exp), layer_norm_by_hand(x, post.layer_norm))
    close(pre(x, torch.exp), x)


def test_an_unknown_norm_is_an_error_that_lists_the_known_ones() -> None:
    with pytest.raises((ValueError, TypeCheckError), match="post"):
        Residual(D_MODEL, 0.0, "middle")  # type: ignore[arg-type]
    with pytest.raises((ValueError, TypeCheckError), match="post"):
        EncoderLayer(D_MODEL, HEADS, D_FF, norm="Pre")  # type: ignore[arg-type]


@pytest.mark.parametrize("dropout", [-0.5, 1.5])
def test_a_dropout_that_is_no_probability_is_an_error(dropout: float) -> None:
    with pytest.raises(ValueError, match="dropout"):
        EncoderLayer(D_MODEL, HEADS, D_FF, dropout)


# --- equal to torch, in outputs and gradients ---------------------------------------------------------------

OPTIONS = pytest.mark.parametrize(
    ("dtype", "norm", "activation"),
    [
        (torch.float64, "post", "relu"),
        (torch.float64, "pre", "relu"),
        (torch.float64, "pre", "gelu"),
        (torch.float32, "post", "gelu"),
    ],
)


def torchs(kind: type[nn.Module], dtype: torch.dtype, norm: str, activation: str) -> nn.Module:
    layer = kind(
        D_MODEL, HEADS, D_FF, dropout=0.0, batch_first=True, norm_first=norm == "pre", activation=activation
    )
    return shaken(layer, dtype=dtype).train()  # torch's fast path of eval() has no gradients


def assert_same_gradients(
    output: Tensor, their_output: Tensor, inputs: dict[str, Tensor], ours: nn.Module, theirs: nn.Module
) -> None:
    """Of inputs and parameters alike; both modules list their parameters in their own order."""
    got, expected = (
        gradients(out, inputs | dict(module.named_parameters()))
        for out, module in [(output, ours), (their_output, theirs)]
    )
    assert len(got) == len(expected)
    for name in inputs:
        close(got[name], expected[name])
    by_numbers = sorted((float(g.double().norm()) for n, g in got.items() if n not in inputs))
    their_numbers = sorted((float(g.double().norm()) for n, g in expected.items() if n not in inputs))
    assert by_numbers == pytest.approx(their_numbers, rel=1e-11 if output.dtype == torch.float64 else 1e-4)


@OPTIONS
@pytest.mark.parametrize("mask", [None, SOURCE_MASK], ids=["full", "padding"])
@pytest.mark.parametrize("causal", [False, True])
def test_the_encoder_layer_is_torchs(
    dtype: torch.dtype, norm: str, activation: str, mask: Tensor | None, causal: bool
) -> None:
    theirs = torchs(nn.TransformerEncoderLayer, dtype, norm, activation)
    ours = from_torch(theirs)
    x = normal(BATCH, SOURCE, D_MODEL, dtype=dtype, grad=True)
    their_output = theirs(
        x,
        src_mask=~masks.causal(SOURCE) if causal else None,
        src_key_padding_mask=None if mask is None else ~mask[:, 0, 0],
    )
    output = ours(x, mask, causal=causal)
    close(output, their_output)
    assert_same_gradients(output, their_output, {"x": x}, ours, theirs)


@OPTIONS
@pytest.mark.parametrize("padded", [False, True], ids=["full", "padding"])
def test_the_decoder_layer_is_torchs(dtype: torch.dtype, norm: str, activation: str, padded: bool) -> None:
    theirs = torchs(nn.TransformerDecoderLayer, dtype, norm, activation)
    ours = from_torch(theirs)
    x = normal(BATCH, TARGET, D_MODEL, dtype=dtype, grad=True)
    memory = normal(BATCH, SOURCE, D_MODEL, seed=1, dtype=dtype, grad=True)
    their_output = theirs(
        x,
        memory,
        tgt_mask=~masks.causal(TARGET),
        tgt_key_padding_mask=~TARGET_MASK[:, 0, 0] if padded else None,
        memory_key_padding_mask=~SOURCE_MASK[:, 0, 0] if padded else None,
    )
    output = ours(x, memory, TARGET_MASK if padded else None, SOURCE_MASK if padded else None)
    close(output, their_output)
    assert_same_gradients(output, their_output, {"x": x, "memory": memory}, ours, theirs)


# --- what a layer may see -----------------------------------------------------------------------------------


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_the_decoder_layer_never_sees_the_future_in_training_or_evaluation(norm: str, training: bool) -> None:
    layer = shaken(DecoderLayer(D_MODEL, HEADS, D_FF, 0.0, norm)).train(training)  # type: ignore[arg-type]
    x, memory = normal(BATCH, TARGET, D_MODEL), normal(BATCH, SOURCE, D_MODEL, seed=1)
    output = layer(x, memory)
    for i in range(TARGET):
        changed = x.clone()
        changed[:, i] += normal(D_MODEL, seed=2)  # a constant would vanish in a LayerNorm
        after = layer(changed, memory)
        assert torch.equal(after[:, :i], output[:, :i])
        for j in range(i, TARGET):
            assert different(after[:, j], output[:, j])


@pytest.mark.parametrize("norm", NORMS)
def test_the_decoder_layer_reads_every_vector_of_the_memory_that_it_may(norm: str) -> None:
    layer = shaken(DecoderLayer(D_MODEL, HEADS, D_FF, 0.0, norm))  # type: ignore[arg-type]
    x, memory = normal(BATCH, TARGET, D_MODEL), normal(BATCH, SOURCE, D_MODEL, seed=1)
    output = layer(x, memory, None, SOURCE_MASK)
    for i in range(SOURCE):
        changed = memory.clone()
        changed[:, i] += 1.0
        after = layer(x, changed, None, SOURCE_MASK)
        for sentence in range(BATCH):
            if SOURCE_MASK[sentence, 0, 0, i]:
                assert different(after[sentence], output[sentence])
            else:
                assert torch.equal(after[sentence], output[sentence])


@PROPERTY
@given(seed=st.integers(0, 10_000), norm=st.sampled_from(NORMS), causal=st.booleans())
def test_property_each_sentence_is_on_its_own_and_padding_changes_nothing(
    seed: int, norm: str, causal: bool
) -> None:
    layer = shaken(EncoderLayer(D_MODEL, HEADS, D_FF, 0.0, norm))  # type: ignore[arg-type]
    x = normal(BATCH, SOURCE, D_MODEL, seed=seed)
    together = layer(x, SOURCE_MASK, causal=causal)
    close(together[0, :4], layer(x[:1, :4], causal=causal)[0])
    close(together[1], layer(x[1:], causal=causal)[0])


@PROPERTY
@given(seed=st.integers(0, 10_000), norm=st.sampled_from(NORMS))
def test_property_the_encoder_layer_alone_does_not_know_the_order(seed: int, norm: str) -> None:
    layer = shaken(EncoderLayer(D_MODEL, HEADS, D_FF, 0.0, norm))  # type: ignore[arg-type]
    x = normal(BATCH, SOURCE, D_MODEL, seed=seed)
    order = torch.randperm(SOURCE, generator=torch.Generator().manual_seed(seed))
    close(layer(x[:, order]), layer(x)[:, order], 1e-11)


@pytest.mark.parametrize("score", [Rotary(), Alibi(HEADS)], ids=lambda s: type(s).__name__)
@pytest.mark.parametrize("kind", [EncoderLayer, DecoderLayer])
def test_the_self_attention_takes_another_score(kind: type, score: nn.Module) -> None:
    plain, other = (
        shaken(kind(D_MODEL, HEADS, D_FF, 0.0, **options))
        for options in ({}, {"attention": {"score": score}})
    )
    x, memory = normal(BATCH, TARGET, D_MODEL), normal(BATCH, SOURCE, D_MODEL, seed=1)
    inputs = (x, memory) if kind is DecoderLayer else (x,)
    assert different(plain(*inputs), other(*inputs))


# --- the cache ----------------------------------------------------------------------------------------------


@PROPERTY
@given(
    chunks=st.lists(st.integers(1, 3), min_size=1, max_size=4),
    norm=st.sampled_from(NORMS),
    score=st.sampled_from([None, Rotary(), Alibi(HEADS)]),
)
def test_property_cached_in_pieces_equals_all_at_once(
    chunks: list[int], norm: str, score: nn.Module | None
) -> None:
    attention = {} if score is None else {"score": score}
    layer = shaken(DecoderLayer(D_MODEL, HEADS, D_FF, 0.0, norm, attention=attention)).eval()  # type: ignore[arg-type]
    x, memory = normal(BATCH, sum(chunks), D_MODEL), normal(BATCH, SOURCE, D_MODEL, seed=1)
    with torch.no_grad():
        expected = layer(x, memory, None, SOURCE_MASK)
        cache = layer.start_cache(memory)
        pieces = [layer(piece, memory, None, SOURCE_MASK, cache=cache) for piece in x.split(chunks, dim=1)]
    close(torch.cat(pieces, dim=1), expected)


def test_a_layers_cache_is_reordered_as_a_whole() -> None:
    layer = shaken(DecoderLayer(D_MODEL, HEADS, D_FF, 0.0)).eval()
    x, memory = normal(3, 4, D_MODEL), normal(3, SOURCE, D_MODEL, seed=1)
    rows = torch.tensor([2, 0, 0])
    with torch.no_grad():
        cache = layer.start_cache(memory)
        assert isinstance(cache, DecoderCache)
        layer(x[:, :3], memory, cache=cache)
        cache.reorder(rows)
        got = layer(x[rows, 3:], memory[rows], cache=cache)
        close(got, layer(x[rows], memory[rows])[:, 3:])


# --- dropout ------------------------------------------------------------------------------------------------

PLACES = ["dropout", "attention_dropout", "activation_dropout"]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("kind", [EncoderLayer, DecoderLayer])
@pytest.mark.parametrize("norm", NORMS)
def test_each_declared_dropout_acts_in_training_and_none_in_evaluation(
    kind: type, norm: str, place: str
) -> None:
    torch.manual_seed(0)
    none = dict.fromkeys(PLACES, 0.0)
    plain, dropping = (
        shaken(kind(D_MODEL, HEADS, D_FF, norm=norm, **p)) for p in (none, {**none, place: 0.5})
    )
    x, memory = normal(BATCH, TARGET, D_MODEL), normal(BATCH, SOURCE, D_MODEL, seed=1)
    inputs = (x, memory) if kind is DecoderLayer else (x,)
    assert torch.equal(plain.train()(*inputs), plain(*inputs))
    assert different(dropping.train()(*inputs), plain(*inputs))
    assert torch.equal(dropping.eval()(*inputs), plain.eval()(*inputs))


@pytest.mark.parametrize("kind", [EncoderLayer, DecoderLayer])
def test_every_sublayer_of_a_layer_drops(kind: type) -> None:
    """One place at a time: the residual of each sub-layer, the weights of each attention."""
    torch.manual_seed(0)
    layer = shaken(kind(D_MODEL, HEADS, D_FF, 0.0))
    x, memory = normal(BATCH, TARGET, D_MODEL), normal(BATCH, SOURCE, D_MODEL, seed=1)
    inputs = (x, memory) if kind is DecoderLayer else (x,)
    plain = layer(*inputs)
    places = 0
    for module in layer.modules():
        attribute = {nn.Dropout: "p"}.get(type(module), "dropout" if hasattr(module, "d_k") else None)
        if attribute is not None:
            setattr(module, attribute, 0.5)
            assert different(layer(*inputs), plain)
            setattr(module, attribute, 0.0)
            places += 1
    assert places == (6 if kind is DecoderLayer else 4)


@pytest.mark.parametrize("kind", [EncoderLayer, DecoderLayer])
@pytest.mark.parametrize("norm", NORMS)
def test_every_parameter_gets_a_gradient(kind: type, norm: str) -> None:
    layer = shaken(kind(D_MODEL, HEADS, D_FF, 0.0, norm))
    x, memory = normal(BATCH, TARGET, D_MODEL), normal(BATCH, SOURCE, D_MODEL, seed=1)
    output = layer(*((x, memory) if kind is DecoderLayer else (x,)))
    for name, gradient in gradients(output, dict(layer.named_parameters())).items():
        if name.endswith("W_qkv.bias"):  # the keys' part is zero: softmax ignores a constant
            gradient = torch.cat([gradient[:D_MODEL], gradient[2 * D_MODEL :]])
        assert gradient.abs().max() > 1e-6, name


def test_number_of_parameters() -> None:
    """4 d² + 4 d for each attention, 2 d d_ff + d + d_ff for the feed-forward, 2 d for each LayerNorm."""
    d, attention, feed_forward = D_MODEL, 4 * D_MODEL**2 + 4 * D_MODEL, 2 * D_MODEL * D_FF + D_MODEL + D_FF
    count = {
        kind: sum(p.numel() for p in kind(d, HEADS, D_FF).parameters())
        for kind in (EncoderLayer, DecoderLayer)
    }
    assert count == {
        EncoderLayer: attention + feed_forward + 4 * d,
        DecoderLayer: 2 * attention + feed_forward + 6 * d,
    }


@pytest.mark.parametrize(
    ("x", "memory", "name"),
    [((2, 5, 11), (2, 7, 12), "x"), ((2, 5, 12), (2, 7, 11), "memory"), ((2, 5, 12), (3, 7, 12), "memory")],
)
def test_a_wrong_shape_is_an_error_that_names_the_input(x: tuple, memory: tuple, name: str) -> None:
    with pytest.raises((TypeCheckError, RuntimeError), match=name if name == "memory" else "12"):
        DecoderLayer(D_MODEL, HEADS, D_FF).double()(normal(*x), normal(*memory))


# --- attention pooling --------------------------------------------------------------------------------------

POOLED = torch.tensor([[True] * 3 + [False] * 4, [True] * 7, [False] * 7])


def test_pooling_is_a_weighted_mean_of_the_real_vectors() -> None:
    pool, x = shaken(AttentionPooling(D_MODEL)), normal(3, 7, D_MODEL)
    pooled, weights = pool(x, POOLED)
    assert pooled.shape == (3, D_MODEL)
    assert weights.shape == (3, 7)
    close(weights.sum(dim=-1), torch.tensor([1.0, 1.0, 0.0], dtype=x.dtype))
    assert (weights[~POOLED] == 0).all()
    close(pooled, torch.einsum("bl,bld->bd", weights, x))
    assert (pooled[2] == 0).all()
    scores = (x[1] @ pool.W_k.weight.T) @ pool.query / D_MODEL**0.5
    close(weights[1], scores.softmax(dim=-1))


def test_pooling_does_not_mind_the_order() -> None:
    pool, x = shaken(AttentionPooling(D_MODEL)), normal(3, 7, D_MODEL)
    order = torch.tensor([4, 0, 6, 1, 5, 3, 2])
    pooled, weights = pool(x, POOLED)
    mixed, mixed_weights = pool(x[:, order], POOLED[:, order])
    close(mixed, pooled)
    close(mixed_weights, weights[:, order])


@pytest.mark.parametrize("garbage", [1e6, float("nan"), float("inf")])
def test_pooling_never_looks_at_padding(garbage: float) -> None:
    pool = shaken(AttentionPooling(D_MODEL))
    found = []
    for filler in (0.0, garbage):
        x = normal(3, 7, D_MODEL).masked_fill(~POOLED[..., None], filler).requires_grad_()
        pooled, _ = pool(x, POOLED)
        found.append({"pooled": pooled, **gradients(pooled, {"x": x, **dict(pool.named_parameters())})})
    for name, value in found[0].items():
        close(found[1][name], value)
    assert (found[0]["x"][~POOLED] == 0).all()
    assert different(found[0]["query"], torch.zeros(D_MODEL, dtype=torch.float64))


def test_pooling_without_a_mask_takes_all() -> None:
    pool, x = shaken(AttentionPooling(D_MODEL)), normal(3, 7, D_MODEL)
    for ours, theirs in zip(pool(x), pool(x, torch.ones(3, 7, dtype=torch.bool)), strict=True):
        close(ours, theirs)
