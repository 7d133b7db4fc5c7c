"""MultiHeadAttention is nn.MultiheadAttention, forward and backward, with any score, and with a cache."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from jaxtyping import TypeCheckError
from oracles import PROPERTY, close, different, gradients, normal, random_mask, shaken
from torch import Tensor, nn

from attn import EncoderDecoder, MultiHeadAttention, masks, watch
from attn.convert import from_torch, to_torch
from attn.core import attend
from attn.multihead import KeyValueCache
from attn.normalizers import relu, sparsemax
from attn.positions import Alibi, RelativePositions, Rotary

BATCH, HEADS, QUERIES, KEYS, D_MODEL = 2, 4, 5, 7, 12
D_K = D_MODEL // HEADS


def module(
    n_heads: int = HEADS, *, dtype: torch.dtype = torch.float64, **options: object
) -> MultiHeadAttention:
    return shaken(MultiHeadAttention(D_MODEL, n_heads, **options), dtype=dtype)  # type: ignore[arg-type]


def parameters_in_torchs_names(ours: MultiHeadAttention) -> dict[str, Tensor]:
    names = {
        "in_proj_weight": ours.W_qkv.weight,
        "in_proj_bias": ours.W_qkv.bias,
        "out_proj.weight": ours.W_o.weight,
        "out_proj.bias": ours.W_o.bias,
    }
    return {name: parameter for name, parameter in names.items() if parameter is not None}


# name: (other inputs than the query's, our options, torch's options)
PADDED = masks.from_lengths(torch.tensor([4, 7]), KEYS)
PATTERN = random_mask(QUERIES, KEYS) | torch.eye(QUERIES, KEYS, dtype=torch.bool)
CASES: dict[str, tuple[int, dict, dict]] = {
    "self": (0, {}, {}),
    "self, causal": (0, {"causal": True}, {"attn_mask": ~masks.causal(QUERIES)}),
    "self, padding": (
        0,
        {"mask": masks.from_lengths(torch.tensor([3, 5]))},
        {"key_padding_mask": ~masks.from_lengths(torch.tensor([3, 5]))[:, 0, 0]},
    ),
    "self, causal and padding": (
        0,
        {"mask": masks.from_lengths(torch.tensor([3, 5])), "causal": True},
        {
            "key_padding_mask": ~masks.from_lengths(torch.tensor([3, 5]))[:, 0, 0],
            "attn_mask": ~masks.causal(QUERIES),
        },
    ),
    "cross": (1, {}, {}),
    "cross, padding": (1, {"mask": PADDED}, {"key_padding_mask": ~PADDED[:, 0, 0]}),
    "cross, any mask": (1, {"mask": PATTERN}, {"attn_mask": ~PATTERN}),
    "key and value apart": (2, {"mask": PADDED}, {"key_padding_mask": ~PADDED[:, 0, 0]}),
}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
@pytest.mark.parametrize("n_heads", [1, HEADS])
@pytest.mark.parametrize(("others", "options", "their_options"), CASES.values(), ids=CASES)
def test_equals_torch_in_output_weights_and_every_gradient(
    others: int, options: dict, their_options: dict, n_heads: int, bias: bool, dtype: torch.dtype
) -> None:
    ours = module(n_heads, bias=bias, dtype=dtype)
    theirs = nn.MultiheadAttention(D_MODEL, n_heads, bias=bias, batch_first=True, dtype=dtype)
    theirs.load_state_dict(parameters_in_torchs_names(ours))
    query = normal(BATCH, QUERIES, D_MODEL, dtype=dtype, grad=True)
    rest = [normal(BATCH, KEYS, D_MODEL, seed=i, dtype=dtype, grad=True) for i in range(1, others + 1)]

    output, weights = ours(query, *rest, **options)
    x = [query, *rest]
    their_output, their_weights = theirs(
        x[0], x[min(1, others)], x[-1], average_attn_weights=False, **their_options
    )
    close(output, their_output)
    close(weights, their_weights)

    inputs = dict(zip(["query", "key", "value"], x, strict=False))
    got = gradients(output, inputs | parameters_in_torchs_names(ours))
    expected = gradients(their_output, inputs | dict(theirs.named_parameters()))
    for name, gradient in expected.items():
        close(got[name], gradient)


@pytest.mark.parametrize("length", [QUERIES, 160], ids=["short", "long"])
@pytest.mark.parametrize("causal", [False, True])
def test_asking_for_no_weights_changes_nothing(causal: bool, length: int) -> None:
    ours, x = module(), normal(BATCH, length, D_MODEL, grad=True)
    mask = masks.from_lengths(
        torch.tensor([length - 2, 0]), length
    )  # the second sentence is nothing but padding
    output, weights = ours(x, mask=mask, causal=causal)
    plain, none = ours(x, mask=mask, causal=causal, need_weights=False)
    assert none is None
    assert weights.shape == (BATCH, HEADS, length, length)
    close(plain, output)
    expected = gradients(output, {"x": x, **dict(ours.named_parameters())})
    for name, gradient in gradients(plain, {"x": x, **dict(ours.named_parameters())}).items():
        assert gradient.isfinite().all()
        close(gradient, expected[name])


@pytest.mark.parametrize("leading", [(), (2,), (2, 3), (2, 1, 3)])
def test_leading_axes_are_free(leading: tuple[int, ...]) -> None:
    ours, x, memory = module(), normal(*leading, QUERIES, D_MODEL), normal(*leading, KEYS, D_MODEL, seed=1)
    output, weights = ours(x, memory, causal=True)
    assert output.shape == (*leading, QUERIES, D_MODEL)
    assert weights.shape == (*leading, HEADS, QUERIES, KEYS)
    alone, _ = ours(x.reshape(-1, QUERIES, D_MODEL)[-1], memory.reshape(-1, KEYS, D_MODEL)[-1], causal=True)
    close(output.reshape(-1, QUERIES, D_MODEL)[-1], alone)


def test_without_a_key_the_values_may_still_come_from_elsewhere() -> None:
    ours, x, value = module(), normal(BATCH, QUERIES, D_MODEL), normal(BATCH, QUERIES, D_MODEL, seed=1)
    close(ours(x, value=value)[0], ours(x, x.clone(), value)[0])
    close(ours(x)[0], ours(x, x.clone(), x.clone())[0])


def test_each_head_has_projections_of_its_own() -> None:
    """Concat(head_1 .. head_h) W_o with plain matrices, head by head, as the paper prints it."""
    ours = module(bias=False)
    x, memory = normal(BATCH, QUERIES, D_MODEL), normal(BATCH, KEYS, D_MODEL, seed=1)
    W_q, W_k, W_v = ours.W_qkv.weight.split(D_MODEL)
    heads = []
    for i in range(HEADS):
        rows = slice(i * D_K, (i + 1) * D_K)
        heads.append(attend(x @ W_q[rows].T, memory @ W_k[rows].T, memory @ W_v[rows].T)[0])
    close(ours(x, memory)[0], torch.cat(heads, dim=-1) @ ours.W_o.weight.T)
    assert all(different(heads[0], head) for head in heads[1:])


def test_weights_can_be_set_from_plain_tensors() -> None:
    ours = module()
    W_q, W_k, W_v, W_o = (normal(D_MODEL, D_MODEL, seed=i) for i in range(4))
    ours.set_weights(W_q, W_k, W_v, W_o)
    expected = module(bias=False)
    expected.load_state_dict({"W_qkv.weight": torch.cat([W_q, W_k, W_v]), "W_o.weight": W_o})
    x = normal(BATCH, QUERIES, D_MODEL, seed=7)
    close(ours(x)[0], expected(x)[0])
    assert all(p.requires_grad for p in ours.parameters())


@pytest.mark.parametrize("n_heads", [1, 2, 4, 12])
def test_more_heads_cost_no_more_parameters(n_heads: int) -> None:
    count = sum(p.numel() for p in MultiHeadAttention(D_MODEL, n_heads).parameters())
    assert count == 4 * D_MODEL**2 + 4 * D_MODEL
    assert (
        sum(p.numel() for p in MultiHeadAttention(D_MODEL, n_heads, bias=False).parameters())
        == 4 * D_MODEL**2
    )


def test_initial_weights_are_those_of_the_literature() -> None:
    """Xavier for each of W_q, W_k, W_v and W_o by itself; biases 0."""
    ours = MultiHeadAttention(64, 4)
    bound = (6 / (64 + 64)) ** 0.5
    for weight in [*ours.W_qkv.weight.split(64), ours.W_o.weight]:
        assert weight.abs().max() <= bound
        assert weight.abs().max() > 0.95 * bound
    assert (ours.W_qkv.bias == 0).all()
    assert (ours.W_o.bias == 0).all()


def test_every_parameter_gets_a_gradient_but_the_key_bias_a_constant_that_softmax_ignores() -> None:
    ours = module()
    output, _ = ours(normal(BATCH, QUERIES, D_MODEL), normal(BATCH, KEYS, D_MODEL, seed=1))
    found = gradients(output, dict(ours.named_parameters()))
    query_bias, key_bias, value_bias = found.pop("W_qkv.bias").split(D_MODEL)
    assert key_bias.abs().max() < 1e-12
    for gradient in [query_bias, value_bias, *found.values()]:
        assert (gradient.abs() > 1e-9).all()


def test_the_attentions_dropout_acts_in_training_only() -> None:
    torch.manual_seed(0)
    x, ours = normal(BATCH, QUERIES, D_MODEL), module(dropout=0.5)
    plain, _ = module()(x)
    for need_weights in (False, True):
        assert different(ours.train()(x, need_weights=need_weights)[0], plain)
        close(ours.eval()(x, need_weights=need_weights)[0], plain)
    assert torch.equal(module().train()(x)[0], plain)  # none declared, none applied


@pytest.mark.parametrize(
    "score",
    [Rotary(), Alibi(HEADS), shaken(RelativePositions(D_K + 1, 2))],
    ids=lambda score: type(score).__name__,
)
def test_a_score_with_positions_breaks_the_symmetry_of_self_attention(score: nn.Module) -> None:
    ours = shaken(MultiHeadAttention(16, HEADS, score=score))
    x, order = normal(BATCH, QUERIES, 16), torch.tensor([2, 0, 4, 1, 3])
    assert different(ours(x[:, order])[0], ours(x)[0][:, order])
    assert "W_qkv.weight" in dict(ours.named_parameters())


@pytest.mark.parametrize("normalize", [relu, sparsemax], ids=lambda f: f.__name__)
def test_another_normalizer_reaches_the_heads(normalize: object) -> None:
    ours = module(normalize=normalize)
    _, weights = ours(normal(BATCH, QUERIES, D_MODEL))
    assert (weights == 0).any()


@PROPERTY
@given(seed=st.integers(0, 10_000), n_heads=st.sampled_from([1, 2, 3, 4, 6]), need_weights=st.booleans())
def test_property_self_attention_carries_the_order_over(seed: int, n_heads: int, need_weights: bool) -> None:
    ours, x = module(n_heads), normal(BATCH, QUERIES, D_MODEL, seed=seed)
    order = torch.randperm(QUERIES, generator=torch.Generator().manual_seed(seed))
    close(ours(x[:, order], need_weights=need_weights)[0], ours(x, need_weights=need_weights)[0][:, order])


@PROPERTY
@given(seed=st.integers(0, 10_000), position=st.integers(0, QUERIES - 1), need_weights=st.booleans())
def test_property_causal_means_no_later_position_is_seen_and_every_earlier_one_is(
    seed: int, position: int, need_weights: bool
) -> None:
    ours, x = module(), normal(BATCH, QUERIES, D_MODEL, seed=seed)
    changed = x.clone()
    changed[:, position] += 1.0
    before = ours(x, causal=True, need_weights=need_weights)[0]
    after = ours(changed, causal=True, need_weights=need_weights)[0]
    close(after[:, :position], before[:, :position])
    for later in range(position, QUERIES):
        assert different(after[:, later], before[:, later])


@PROPERTY
@given(seed=st.integers(0, 10_000), n_extra=st.integers(1, 5))
def test_property_padding_keys_changes_nothing_and_no_sentence_sees_another(seed: int, n_extra: int) -> None:
    ours = module()
    x, memory = normal(BATCH, QUERIES, D_MODEL, seed=seed), normal(BATCH, KEYS, D_MODEL, seed=seed + 1)
    mask = masks.from_lengths(torch.tensor([3, KEYS]), KEYS)
    output, _ = ours(x, memory, mask=mask)
    garbage = 1e3 * normal(BATCH, n_extra, D_MODEL, seed=seed + 2)
    longer = torch.cat([memory, garbage], dim=1)
    wider = masks.from_lengths(torch.tensor([3, KEYS]), KEYS + n_extra)
    close(ours(x, longer, mask=wider)[0], output, 1e-11)
    close(ours(x[:1], memory[:1, :3])[0], output[:1])


# --- the cache ----------------------------------------------------------------------------------------------


@PROPERTY
@given(
    chunks=st.lists(st.integers(1, 4), min_size=1, max_size=6),
    seed=st.integers(0, 10_000),
    rotary=st.booleans(),
    need_weights=st.booleans(),
)
def test_property_cached_in_pieces_equals_all_at_once(
    chunks: list[int], seed: int, rotary: bool, need_weights: bool
) -> None:
    ours = module(2, **({"score": Rotary()} if rotary else {})).eval()
    x = normal(BATCH, sum(chunks), D_MODEL, seed=seed)
    expected = ours(x, causal=True)[0]
    cache = KeyValueCache()
    pieces = [
        ours(piece, causal=True, cache=cache, need_weights=need_weights)[0]
        for piece in x.split(chunks, dim=1)
    ]
    close(torch.cat(pieces, dim=1), expected)
    assert cache.length == sum(chunks)


def test_a_cache_never_reads_the_room_it_has_not_filled() -> None:
    """The room is uninitialized memory; here it is filled with NaN."""
    ours, x = module().eval(), normal(BATCH, 9, D_MODEL)
    expected, cache = ours(x, causal=True)[0], KeyValueCache()
    torch.use_deterministic_algorithms(True)
    try:
        with torch.no_grad():
            pieces = [ours(x[:, i : i + 1], causal=True, cache=cache)[0] for i in range(9)]
    finally:
        torch.use_deterministic_algorithms(False)
    close(torch.cat(pieces, dim=1), expected)


def test_a_closed_cache_stands_in_for_key_and_value() -> None:
    ours, x, memory = module(), normal(BATCH, QUERIES, D_MODEL), normal(BATCH, KEYS, D_MODEL, seed=1)
    cache = ours.keys_and_values(memory)
    for _ in range(2):
        close(ours(x, cache=cache, mask=PADDED)[0], ours(x, memory, mask=PADDED)[0])
    assert cache.length == KEYS


def test_reordering_a_cache_reorders_sentences() -> None:
    ours, x = module().eval(), normal(3, 4, D_MODEL)
    rows, newest = torch.tensor([2, 0, 2]), normal(3, 1, D_MODEL, seed=5)
    cache = KeyValueCache()
    with torch.no_grad():
        ours(x, causal=True, cache=cache)
        cache.reorder(rows)
        got, _ = ours(newest, causal=True, cache=cache)
        expected, _ = ours(torch.cat([x[rows], newest], dim=1), causal=True)
    close(got, expected[:, -1:])


def test_an_empty_cache_holds_nothing_to_serve() -> None:
    with pytest.raises(ValueError, match="empty"):
        KeyValueCache().keys_and_values()
    KeyValueCache().reorder(torch.tensor([0]))  # nothing to reorder is no error: beam search may do it


# --- watching -----------------------------------------------------------------------------------------------


def test_watch_sees_the_weights_of_every_attention_by_name_and_leaves_nothing_behind() -> None:
    model = shaken(EncoderDecoder(D_MODEL, 2, 1, 2, 16, 0.0))
    source, target = normal(BATCH, KEYS, D_MODEL), normal(BATCH, QUERIES, D_MODEL, seed=1)
    expected = model(source, target)
    with watch(model) as seen:
        close(model(source, target), expected)
    assert {name: tuple(weights.shape) for name, weights in seen.items()} == {
        "encoder.layers.0.self_attention": (BATCH, 2, KEYS, KEYS),
        "decoder.layers.0.self_attention": (BATCH, 2, QUERIES, QUERIES),
        "decoder.layers.0.cross_attention": (BATCH, 2, QUERIES, KEYS),
        "decoder.layers.1.self_attention": (BATCH, 2, QUERIES, QUERIES),
        "decoder.layers.1.cross_attention": (BATCH, 2, QUERIES, KEYS),
    }
    for name, weights in seen.items():
        assert not weights.requires_grad
        close(weights.sum(-1), torch.ones_like(weights[..., 0]))
        if "decoder" in name and "self" in name:
            assert (weights[..., ~masks.causal(QUERIES)] == 0).all()
    count = len(seen)
    seen.clear()
    model(source, target)
    assert count == 5
    assert seen == {}


def test_watch_lets_go_after_an_error_too() -> None:
    ours = module()
    with pytest.raises(TypeCheckError), watch(ours):
        ours(normal(BATCH, QUERIES, D_MODEL + 1))
    assert ours(normal(BATCH, QUERIES, D_MODEL), need_weights=False)[1] is None


# --- bad input ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("d_model", "n_heads"), [(12, 5), (12, 0), (0, 1), (12, -3), (4, 8)])
def test_heads_that_do_not_divide_the_width_are_an_error(d_model: int, n_heads: int) -> None:
    with pytest.raises(ValueError, match=f"d_model = {d_model} and n_heads = {n_heads}"):
        MultiHeadAttention(d_model, n_heads)


@pytest.mark.parametrize("dropout", [-0.1, 1.0, 3.0])
def test_a_dropout_that_is_no_probability_is_an_error(dropout: float) -> None:
    with pytest.raises(ValueError, match="dropout"):
        MultiHeadAttention(D_MODEL, HEADS, dropout=dropout)


def test_a_mask_without_an_axis_for_the_heads_is_an_error_that_says_what_to_do() -> None:
    """(batch, queries, keys) would pass for (heads, queries, keys) in silence where batch = heads."""
    with pytest.raises(ValueError, match=r"mask\[:, None\]"):
        module()(normal(HEADS, QUERIES, D_MODEL), mask=torch.ones(HEADS, QUERIES, QUERIES) > 0)


@pytest.mark.parametrize(
    ("shapes", "name"),
    [
        ([(2, 5, 11)], "query"),
        ([(2, 5, 12), (2, 7, 11)], "key"),
        ([(2, 5, 12), (3, 7, 12)], "key"),
        ([(2, 5, 12), (2, 7, 12), (2, 6, 12)], "value"),
        ([(12,)], "query"),
    ],
)
def test_a_wrong_shape_is_an_error_that_names_the_input(shapes: list[tuple[int, ...]], name: str) -> None:
    with pytest.raises(TypeCheckError, match=f"parameter '{name}'"):
        module()(*(normal(*shape) for shape in shapes))


def test_a_mask_of_wrong_length_is_an_error_that_names_it() -> None:
    with pytest.raises(TypeCheckError, match="parameter 'mask'"):
        module()(normal(2, 5, D_MODEL), mask=torch.ones(2, 1, 1, 6) > 0)


def test_conversion_round_trip() -> None:
    ours = module(dropout=0.25).eval()
    again = from_torch(to_torch(ours))
    assert isinstance(again, MultiHeadAttention)
    assert (again.n_heads, again.dropout, again.training) == (HEADS, 0.25, False)
    x = normal(BATCH, QUERIES, D_MODEL)
    assert torch.equal(again(x)[0], ours(x)[0])
