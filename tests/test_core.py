"""attend(): the formula by hand, fused equal to written out, masks that hold, memory linear in the length."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from jaxtyping import TypeCheckError
from oracles import (
    PROPERTY,
    LargestTensor,
    attend_by_loops,
    close,
    different,
    gradients,
    normal,
    random_mask,
    run_without_shape_checks,
)
from torch import Tensor
from torch.nn import functional as F

from attn import masks, normalizers, scores
from attn.core import FEW_QUERIES, attend, attend_fused, attend_written_out
from attn.positions import Alibi, RelativePositions, Rotary

BATCH, HEADS, QUERIES, KEYS, D_K, D_V = 2, 3, 5, 7, 4, 6
LEADING = [(), (3,), (2, 3), (2, 3, 4), (2, 1, 3, 2)]
LONG = 160
assert LONG > FEW_QUERIES

MASK_SHAPES = [
    (QUERIES, KEYS),
    (1, KEYS),
    (QUERIES, 1),
    (1, 1),
    (HEADS, 1, KEYS),
    (HEADS, QUERIES, KEYS),
    (BATCH, 1, 1, KEYS),
    (BATCH, 1, QUERIES, KEYS),
    (1, HEADS, QUERIES, 1),
    (BATCH, HEADS, QUERIES, KEYS),
    (4, BATCH, 1, 1, KEYS),
]


def inputs(
    *leading: int,
    dtype: torch.dtype = torch.float64,
    queries: int = QUERIES,
    keys: int = KEYS,
    d_v: int = D_V,
    seed: int = 0,
) -> tuple[Tensor, Tensor, Tensor]:
    shapes = [(queries, D_K), (keys, D_K), (keys, d_v)]
    return tuple(  # type: ignore[return-value]
        normal(*leading, *shape, seed=10 * seed + i, dtype=dtype, grad=True) for i, shape in enumerate(shapes)
    )


def with_an_empty_row(mask: Tensor) -> Tensor:
    """The same mask, except that its first row allows nothing and its second something."""
    mask = mask.clone()
    rows = mask.view(-1, mask.size(-1))
    rows[0] = False
    if len(rows) > 1:
        rows[1, -1] = True
    return mask


@pytest.mark.parametrize("leading", LEADING)
def test_equals_the_formula_number_by_number(leading: tuple[int, ...]) -> None:
    query, key, value = inputs(*leading)
    output, weights = attend(query, key, value)
    assert weights is not None
    assert output.shape == (*leading, QUERIES, D_V)
    assert weights.shape == (*leading, QUERIES, KEYS)
    flat = [x.reshape(-1, *x.shape[-2:]) for x in (query, key, value, output, weights)]
    for q, k, v, got, got_weights in zip(*flat, strict=True):
        expected, expected_weights = attend_by_loops(q, k, v)
        close(got, expected)
        close(got_weights, expected_weights)


def test_equals_torchs_own_with_a_mask() -> None:
    query, key, value = inputs(BATCH, HEADS)
    mask = random_mask(BATCH, 1, QUERIES, KEYS) | torch.eye(QUERIES, KEYS, dtype=torch.bool)
    output, weights = attend(query, key, value, mask=mask)
    assert weights is not None
    close(output, F.scaled_dot_product_attention(query, key, value, attn_mask=mask))
    close(weights.sum(-1), torch.ones(BATCH, HEADS, QUERIES, dtype=torch.float64))


@pytest.mark.parametrize("shape", [None, *MASK_SHAPES], ids=str)
def test_leading_axes_broadcast(shape: tuple[int, ...] | None) -> None:
    """One set of keys for all heads, one set of queries for all sentences, one set of values for all."""
    mask = None if shape is None else with_an_empty_row(random_mask(*shape))
    query, key = normal(HEADS, QUERIES, D_K), normal(BATCH, 1, KEYS, D_K, seed=1)
    value = normal(KEYS, D_V, seed=2)
    full = (x.expand(BATCH, HEADS, -1, -1) for x in (query, key, value))
    expected, _ = attend_written_out(*full, mask=mask)
    close(attend_written_out(query, key, value, mask=mask)[0], expected)
    close(attend_fused(query, key, value, mask=mask), expected)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("causal", [False, True], ids=["full", "causal"])
@pytest.mark.parametrize("shape", [None, *MASK_SHAPES], ids=str)
def test_fused_equals_written_out_forward_and_backward(
    shape: tuple[int, ...] | None, causal: bool, dtype: torch.dtype
) -> None:
    mask = None if shape is None else with_an_empty_row(random_mask(*shape))
    query, key, value = inputs(BATCH, HEADS, dtype=dtype)
    leaves = {"query": query, "key": key, "value": value}
    written, _ = attend_written_out(query, key, value, mask=mask, causal=causal)
    fused = attend_fused(query, key, value, mask=mask, causal=causal)
    close(fused, written)
    expected = gradients(written, leaves)
    for name, gradient in gradients(fused, leaves).items():
        assert gradient.isfinite().all(), name
        close(gradient, expected[name])


@pytest.mark.parametrize("leading", LEADING)
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("d_v", [D_K, D_V])
def test_fused_takes_any_leading_axes(leading: tuple[int, ...], masked: bool, d_v: int) -> None:
    query, key, value = inputs(*leading, d_v=d_v)
    mask = with_an_empty_row(random_mask(*leading, QUERIES, KEYS)) if masked else None
    written, _ = attend_written_out(query, key, value, mask=mask)
    close(attend_fused(query, key, value, mask=mask), written)


@pytest.mark.parametrize("path", [attend_written_out, attend_fused])
@pytest.mark.parametrize("leading", [(0,), (0, HEADS), (BATCH, 0)])
def test_an_empty_batch_gives_an_empty_output(path: object, leading: tuple[int, ...]) -> None:
    result = path(*inputs(*leading))  # type: ignore[operator]
    output = result[0] if isinstance(result, tuple) else result
    assert output.shape == (*leading, QUERIES, D_V)


@pytest.mark.parametrize("need_weights", [False, True])
def test_no_keys_at_all_give_zeros(need_weights: bool) -> None:
    output, _ = attend(*inputs(BATCH, HEADS, keys=0), need_weights=need_weights)
    assert torch.equal(output, torch.zeros(BATCH, HEADS, QUERIES, D_V, dtype=torch.float64))


# Which path attend() takes must never show, except in speed and memory.
@pytest.mark.parametrize("length", [FEW_QUERIES, 24, LONG])
@pytest.mark.parametrize("causal", [False, True], ids=["full", "causal"])
@pytest.mark.parametrize(
    "score",
    [
        scores.scaled_dot_product,
        scores.dot_product,
        scores.cosine,
        Rotary(),
        RelativePositions(D_K, 3).double(),
        Alibi(HEADS),
    ],
    ids=lambda score: getattr(score, "__name__", type(score).__name__),
)
def test_asking_for_no_weights_changes_nothing(score: scores.Score, causal: bool, length: int) -> None:
    query, key, value = inputs(1, HEADS, queries=length, keys=length + 8)
    mask = masks.from_lengths(torch.tensor([length + 3]), length + 8)
    with torch.no_grad():
        expected, weights = attend(query, key, value, score=score, mask=mask, causal=causal)
        output, none = attend(query, key, value, score=score, mask=mask, causal=causal, need_weights=False)
    assert none is None
    assert weights is not None
    close(output, expected)
    close(weights @ value, expected)


@pytest.mark.parametrize(
    "normalize", [normalizers.relu, normalizers.sparsemax, normalizers.hard], ids=lambda f: f.__name__
)
def test_another_normalizer_is_never_replaced_by_the_fused_softmax(normalize: normalizers.Normalizer) -> None:
    query, key, value = inputs(1, HEADS, queries=LONG, keys=LONG)
    expected, _ = attend(query, key, value, normalize=normalize)
    close(attend(query, key, value, normalize=normalize, need_weights=False)[0], expected)
    assert different(expected, attend(query, key, value)[0])


@pytest.mark.parametrize("need_weights", [False, True])
@pytest.mark.parametrize(("queries", "keys"), [(5, 5), (3, 7), (1, 7), (7, 3), (LONG, LONG + 9)])
def test_causal_lines_the_last_query_up_with_the_last_key(
    queries: int, keys: int, need_weights: bool
) -> None:
    query, key, value = inputs(2, queries=queries, keys=keys)
    output, weights = attend(query, key, value, causal=True, need_weights=need_weights)
    allowed = torch.tensor([[j - (keys - queries) <= i for j in range(keys)] for i in range(queries)])
    close(output, attend(query, key, value, mask=allowed)[0])
    if weights is not None:
        assert (weights[:, ~allowed] == 0).all()
        assert (weights[:, allowed] > 0).all()


@pytest.mark.parametrize("path", [attend_written_out, attend_fused])
def test_a_single_allowed_key_gives_its_value(path: object) -> None:
    """The polarity of the mask: True = may attend."""
    query, key, value = inputs(BATCH, HEADS)
    mask = torch.zeros(QUERIES, KEYS, dtype=torch.bool)
    chosen = torch.tensor([3, 0, 6, 1, 3])
    mask[torch.arange(QUERIES), chosen] = True
    result = path(query, key, value, mask=mask)  # type: ignore[operator]
    close(result[0] if isinstance(result, tuple) else result, value[..., chosen, :])


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_forbidden_weights_are_exactly_zero_and_the_rest_sums_to_one(dtype: torch.dtype) -> None:
    query, key, value = inputs(BATCH, HEADS, dtype=dtype)
    mask = random_mask(BATCH, 1, QUERIES, KEYS) | torch.eye(QUERIES, KEYS, dtype=torch.bool)
    _, weights = attend(query, key, value, mask=mask)
    assert weights is not None
    assert weights.dtype == dtype
    mask = mask.expand_as(weights)
    assert (weights[~mask] == 0).all()
    assert (weights[mask] > 0).all()
    close(
        weights.double().sum(-1),
        torch.ones(weights.shape[:-1]).double(),
        2e-2 if dtype.itemsize == 2 else 1e-6,
    )


@pytest.mark.parametrize(
    "normalize",
    [normalizers.softmax, normalizers.relu, normalizers.sparsemax, normalizers.hard],
    ids=lambda f: f.__name__,
)
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_a_query_that_may_attend_to_nothing_gets_zeros_forward_and_backward(
    normalize: normalizers.Normalizer, dtype: torch.dtype
) -> None:
    query, key, value = inputs(BATCH, HEADS, dtype=dtype)
    mask = torch.ones(BATCH, HEADS, QUERIES, KEYS, dtype=torch.bool)
    mask[0, 1, 2] = False  # one query of one head
    mask[1, 0] = False  # and everything of another head
    output, weights = attend(query, key, value, mask=mask, normalize=normalize)
    assert weights is not None
    for x in (output, weights):
        assert x.isfinite().all()
        assert (x[0, 1, 2] == 0).all()
        assert (x[1, 0] == 0).all()
    (output * normal(*output.shape, seed=9, dtype=dtype)).sum().backward()
    assert value.grad is not None
    assert (value.grad[1, 0] == 0).all()
    assert value.grad.isfinite().all()
    if normalize is not normalizers.hard:  # a step function has no gradient
        assert query.grad is not None
        assert key.grad is not None
        assert query.grad.isfinite().all()
        assert key.grad.isfinite().all()
        assert (query.grad[0, 1, 2] == 0).all()
        assert (key.grad[1, 0] == 0).all()


@pytest.mark.parametrize("path", [attend_written_out, attend_fused])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_with_masks_is_finite_and_close_to_float64(path: object, dtype: torch.dtype) -> None:
    query, key, value = inputs(BATCH, HEADS, dtype=dtype)
    mask = with_an_empty_row(random_mask(BATCH, 1, QUERIES, KEYS))
    result = path(query, key, value, mask=mask, causal=True)  # type: ignore[operator]
    output = result[0] if isinstance(result, tuple) else result
    exact, _ = attend_written_out(query.double(), key.double(), value.double(), mask=mask, causal=True)
    assert output.dtype == dtype
    close(output.double(), exact, 3e-2)
    output.sum().backward()
    for x in (query, key, value):
        assert x.grad is not None
        assert x.grad.isfinite().all()


@pytest.mark.parametrize("need_weights", [False, True])
@pytest.mark.parametrize("size", [1e5, -1e5])
def test_logits_of_a_hundred_thousand_neither_overflow_nor_leak(size: float, need_weights: bool) -> None:
    """A mask that adds -1e4 or -1e9 would lose against such scores, or leave no digits of them."""
    query, key, value = inputs(queries=LONG, keys=LONG, dtype=torch.float32)
    query, key = query.detach().clone(), key.detach().clone()
    query[:, 0], key[:, 0] = 1.0, size * D_K**0.5
    mask = random_mask(LONG, LONG) | torch.eye(LONG, dtype=torch.bool)
    output, weights = attend(query, key, value, mask=mask, need_weights=need_weights)
    assert output.isfinite().all()
    if weights is not None:
        assert (weights[~mask] == 0).all()
    moved = torch.where(
        torch.arange(LONG)[:, None] == 3, 1e3, value
    )  # as seen by those who may not see key 3
    blind = ~mask[:, 3]
    again, _ = attend(query, key, moved, mask=mask, need_weights=need_weights)
    assert torch.equal(again[blind], output[blind])


def test_masked_keys_may_hold_nan() -> None:
    """Written out, a forbidden score is replaced, whatever it was. Values must be finite: 0 · NaN is NaN."""
    query, key, value = inputs(BATCH, HEADS)
    mask = masks.from_lengths(torch.tensor([4, 6]), KEYS)
    expected, _ = attend(query, key, value, mask=mask)
    hidden = ~mask.transpose(-2, -1)
    spoiled = key.masked_fill(hidden, torch.nan)
    output, _ = attend(query, spoiled, value.masked_fill(hidden, 1e30), mask=mask)
    assert torch.equal(output, expected)


def test_gradients_are_those_of_finite_differences() -> None:
    query, key, value = inputs(2, queries=3, keys=4)
    mask = with_an_empty_row(random_mask(2, 3, 4, seed=5))
    for path in (attend_fused, lambda *x, **options: attend_written_out(*x, **options)[0]):
        assert torch.autograd.gradcheck(
            lambda q, k, v, path=path: path(q, k, v, mask=mask), (query, key, value)
        )


def test_dropout_drops_weights_and_keeps_the_mean() -> None:
    torch.manual_seed(0)
    query, key, value = (x.detach() for x in inputs(queries=LONG, keys=LONG))
    plain, weights = attend(query, key, value)
    dropped, reported = attend(query, key, value, dropout=0.5)
    assert different(dropped, plain)
    assert torch.equal(reported, weights)  # type: ignore[arg-type]
    mean = torch.stack([attend(query, key, value, dropout=0.5)[0] for _ in range(300)]).mean(0)
    close(mean, plain, 0.12)
    for path in (
        attend(query, key, value, dropout=0.5, need_weights=False)[0],
        attend_fused(query, key, value, dropout=0.5),
    ):
        assert different(path, plain)


def test_without_dropout_two_calls_are_equal_to_the_last_bit() -> None:
    query, key, value = inputs(BATCH, HEADS)
    for need_weights in (False, True):
        first, _ = attend(query, key, value, need_weights=need_weights)
        assert torch.equal(first, attend(query, key, value, need_weights=need_weights)[0])


PADDING = (torch.arange(512) < 400).expand(2, 1, 1, 512)


@pytest.mark.parametrize(
    ("leading", "options"),
    [
        ((2, 3), {}),
        ((2, 3), {"causal": True}),
        ((2, 3), {"mask": PADDING}),
        ((2, 3), {"mask": PADDING[0]}),
        ((2, 3), {"mask": PADDING[0, 0]}),
        ((2, 3), {"score": scores.dot_product}),
        ((2, 3), {"score": Rotary(), "causal": True}),
        ((), {"causal": True}),
        ((2,), {"mask": PADDING[:, 0]}),
        ((2, 1, 3), {"mask": PADDING}),
    ],
    ids=[
        "plain",
        "causal",
        "4-axis",
        "3-axis",
        "2-axis",
        "unscaled",
        "rotary",
        "no axes",
        "one axis",
        "three axes",
    ],
)
def test_without_weights_no_tensor_of_queries_times_keys_is_ever_made(
    leading: tuple[int, ...], options: dict
) -> None:
    """Memory linear in the length, forward and backward: the scores of one head would be 262,144 numbers."""
    length = 512
    query, key, value = (normal(*leading, length, 4, seed=i, grad=True) for i in range(3))
    with LargestTensor() as largest:
        attend(query, key, value, need_weights=False, **options)[0].sum().backward()
    assert largest.elements < length * length / 4
    with LargestTensor() as largest:
        attend(query, key, value, **options)
    assert largest.elements >= length * length  # asked for the weights, it holds them


@PROPERTY
@given(
    leading=st.lists(st.integers(1, 3), max_size=3),
    queries=st.integers(1, 6),
    keys=st.integers(1, 6),
    d_k=st.integers(1, 5),
    d_v=st.integers(1, 5),
    seed=st.integers(0, 10_000),
    causal=st.booleans(),
)
def test_property_order_of_keys_does_not_matter_order_of_queries_carries_over(
    leading: list[int], queries: int, keys: int, d_k: int, d_v: int, seed: int, causal: bool
) -> None:
    query, key = normal(*leading, queries, d_k, seed=seed), normal(*leading, keys, d_k, seed=seed + 1)
    value, mask = normal(*leading, keys, d_v, seed=seed + 2), random_mask(queries, keys, seed=seed)
    if causal:
        mask &= masks.causal(queries, keys)
    output, weights = attend(query, key, value, mask=mask)
    assert weights is not None
    generator = torch.Generator().manual_seed(seed)
    q_order, k_order = torch.randperm(queries, generator=generator), torch.randperm(keys, generator=generator)
    permuted, permuted_weights = attend(
        query[..., q_order, :],
        key[..., k_order, :],
        value[..., k_order, :],
        mask=mask[q_order][:, k_order],
    )
    assert permuted_weights is not None
    close(permuted, output[..., q_order, :])
    close(permuted_weights, weights[..., q_order, :][..., k_order])


@PROPERTY
@given(
    queries=st.integers(1, 6),
    keys=st.integers(1, 6),
    seed=st.integers(0, 10_000),
    need_weights=st.booleans(),
    size=st.sampled_from([1e-3, 1.0, 1e6]),
)
def test_property_what_may_not_be_seen_moves_nothing(
    queries: int, keys: int, seed: int, need_weights: bool, size: float
) -> None:
    query, key, value = (
        normal(2, n, d, seed=seed + i) for i, (n, d) in enumerate([(queries, 4), (keys, 4), (keys, 3)])
    )
    mask = random_mask(2, queries, keys, seed=seed)
    output = attend(query, key, value, mask=mask, need_weights=need_weights)[0]
    hidden = int(torch.randint(keys, (), generator=torch.Generator().manual_seed(seed)))
    key, value = key.clone(), value.clone()
    key[:, hidden] += size
    value[:, hidden] -= size
    moved = attend(query, key, value, mask=mask, need_weights=need_weights)[0]
    assert torch.equal(moved[~mask[..., hidden]], output[~mask[..., hidden]])
    if mask[..., hidden].any():
        assert not torch.equal(moved[mask[..., hidden]], output[mask[..., hidden]])


@PROPERTY
@given(seed=st.integers(0, 10_000), normalize=st.sampled_from([normalizers.softmax, normalizers.sparsemax]))
def test_property_outputs_lie_between_the_values(seed: int, normalize: normalizers.Normalizer) -> None:
    """A weighted mean never leaves the range of what it averages."""
    query, key, value = inputs(BATCH, seed=seed)
    output, _ = attend(query, key, value, normalize=normalize)
    assert (output <= value.amax(-2, keepdim=True) + 1e-12).all()
    assert (output >= value.amin(-2, keepdim=True) - 1e-12).all()


@PROPERTY
@given(seed=st.integers(0, 10_000), need_weights=st.booleans())
def test_property_each_sequence_is_on_its_own(seed: int, need_weights: bool) -> None:
    query, key, value = (x.detach() for x in inputs(3, 2, seed=seed))
    mask = random_mask(3, 1, QUERIES, KEYS, seed=seed)
    together = attend(query, key, value, mask=mask, need_weights=need_weights)[0]
    for i in range(3):
        alone = attend(query[i], key[i], value[i], mask=mask[i], need_weights=need_weights)[0]
        close(together[i], alone)


@pytest.mark.parametrize(
    ("shapes", "axis"),
    [
        (((5, 4), (7, 3), (7, 6)), "d_k"),
        (((5, 4), (7, 4), (8, 6)), "keys"),
        (((2, 5, 4), (3, 7, 4), (2, 7, 6)), "batch"),
    ],
)
@pytest.mark.parametrize("need_weights", [False, True])
def test_a_wrong_shape_is_an_error_that_names_the_axis(shapes: tuple, axis: str, need_weights: bool) -> None:
    with pytest.raises(TypeCheckError, match=axis):
        attend(*(normal(*shape) for shape in shapes), need_weights=need_weights)


@pytest.mark.parametrize(
    "mask", [torch.ones(7, 5) > 0, torch.ones(7) > 0, torch.ones(5, 7), torch.ones(5, 7, dtype=torch.long)]
)
def test_a_mask_of_wrong_shape_or_type_is_an_error_that_names_it(mask: Tensor) -> None:
    with pytest.raises(TypeCheckError, match="mask"):
        attend(normal(5, 4), normal(7, 4), normal(7, 6), mask=mask)


def test_without_shape_checks_wrong_shapes_are_still_errors_and_right_ones_still_work() -> None:
    """A user's script runs without the checks; then torch objects, and nothing wrong passes in silence."""
    run_without_shape_checks("""
import torch
from attn import MultiHeadAttention, Transformer, attend, greedy_decode
assert attend(torch.rand(2, 5, 4), torch.rand(2, 7, 4), torch.rand(2, 7, 6))[0].shape == (2, 5, 6)
def fails(run):
    try:
        run()
    except (RuntimeError, TypeError, ValueError, IndexError) as error:
        assert type(error).__module__ != "jaxtyping", "the checks are on"
        return
    raise AssertionError("accepted in silence")
rand, heads = torch.rand, MultiHeadAttention(8, 2)
for weights in (False, True):
    for n in (5, 200):  # both paths
        fails(lambda: attend(rand(n, 4), rand(n, 3), rand(n, 6), need_weights=weights))
        fails(lambda: attend(rand(n, 4), rand(n, 4), rand(n + 1, 6), need_weights=weights))
        fails(lambda: attend(rand(2, n, 4), rand(3, n, 4), rand(3, n, 6), need_weights=weights))
        fails(lambda: attend(rand(n, 4), rand(n, 4), rand(n, 4), mask=rand(n, n), need_weights=weights))
        wide = rand(n, n + 1) > 0
        fails(lambda: attend(rand(n, 4), rand(n, 4), rand(n, 4), mask=wide, need_weights=weights))
        fails(lambda: heads(rand(2, n, 8), mask=rand(2, n, n) > 0, need_weights=weights))
        fails(lambda: heads(rand(2, n, 8), rand(3, n, 8), need_weights=weights))
        fails(lambda: heads(rand(2, n, 6), need_weights=weights))
model = Transformer(9, 9, d_model=8, n_heads=2, n_encoder_layers=1, n_decoder_layers=1, d_ff=8)
fails(lambda: model(torch.ones(2, 5, dtype=torch.long), torch.ones(3, 4, dtype=torch.long)))
fails(lambda: model(torch.ones(5, dtype=torch.long), torch.ones(4, dtype=torch.long)))
fails(lambda: greedy_decode(model, torch.ones(5, dtype=torch.long), max_length=3))
fails(lambda: greedy_decode(model, torch.rand(2, 5), max_length=3))
""")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device, whose kernels differ")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_fused_equals_written_out_on_a_gpu(dtype: torch.dtype) -> None:
    for shape in [None, *MASK_SHAPES]:
        mask = None if shape is None else with_an_empty_row(random_mask(*shape)).cuda()
        query, key, value = (x.detach().cuda().requires_grad_() for x in inputs(BATCH, HEADS, dtype=dtype))
        fused = attend_fused(query, key, value, mask=mask, causal=True)
        exact, _ = attend_written_out(query.double(), key.double(), value.double(), mask=mask, causal=True)
        close(fused.double(), exact, 1e-4 if dtype == torch.float32 else 3e-2)
        leaves = {"query": query, "key": key, "value": value}
        for name, gradient in gradients(fused, leaves).items():
            assert gradient.isfinite().all(), (shape, name)
