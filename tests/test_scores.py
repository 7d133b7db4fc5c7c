"""Each score against a loop over pairs, and what its name promises."""

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from jaxtyping import TypeCheckError
from oracles import PROPERTY, close, normal, shaken
from torch import Tensor

from attn.core import attend
from attn.normalizers import softmax
from attn.scores import Additive, Bilinear, Score, cosine, dot_product, scaled_dot_product

D_Q, D_K, D_HIDDEN = 4, 6, 5
BILINEAR = shaken(Bilinear(D_Q, D_K), seed=1)
ADDITIVE = shaken(Additive(D_Q, D_K, D_HIDDEN), seed=2)

# name: (score, the width of its queries, the score of one pair)
PAIRS: dict[str, tuple[Score, int, Callable[[Tensor, Tensor], Tensor]]] = {
    "dot_product": (dot_product, D_K, lambda q, k: sum(a * b for a, b in zip(q, k, strict=True))),  # type: ignore[arg-type,return-value]
    "scaled_dot_product": (scaled_dot_product, D_K, lambda q, k: (q * k).sum() / math.sqrt(D_K)),
    "cosine": (
        lambda q, k: cosine(q, k, temperature=0.2),
        D_K,
        lambda q, k: (q * k).sum() / (q * q).sum().sqrt() / (k * k).sum().sqrt() / 0.2,
    ),
    "bilinear": (
        BILINEAR,
        D_Q,
        lambda q, k: sum(q[a] * BILINEAR.W[a, b] * k[b] for a in range(D_Q) for b in range(D_K)),  # type: ignore[return-value]
    ),
    "additive": (
        ADDITIVE,
        D_Q,
        lambda q, k: (
            ADDITIVE.v.weight[0] * torch.tanh(ADDITIVE.W_q.weight @ q + ADDITIVE.W_k.weight @ k)
        ).sum(),
    ),
}
each_score = pytest.mark.parametrize(("score", "d_q", "pair"), PAIRS.values(), ids=PAIRS)


@each_score
@pytest.mark.parametrize("leading", [(), (2,), (2, 3)])
def test_equals_a_loop_over_all_pairs(
    score: Score, d_q: int, pair: Callable, leading: tuple[int, ...]
) -> None:
    query, key = normal(*leading, 5, d_q), normal(*leading, 7, D_K, seed=1)
    with torch.no_grad():
        got = score(query, key)
        assert got.shape == (*leading, 5, 7)
        for index in torch.cartesian_prod(*(torch.arange(n) for n in got.shape)).tolist():
            *batch, i, j = index
            close(got[tuple(index)], pair(query[(*batch, i)], key[(*batch, j)]))


@each_score
def test_leading_axes_broadcast(score: Score, d_q: int, pair: Callable) -> None:
    query, key = normal(2, 1, 5, d_q), normal(3, 7, D_K, seed=1)
    close(score(query, key), score(query.expand(2, 3, 5, d_q), key.expand(2, 3, 7, D_K)))


@each_score
def test_serves_attend_and_passes_gradients(score: Score, d_q: int, pair: Callable) -> None:
    query, key = normal(5, d_q, grad=True), normal(7, D_K, seed=1, grad=True)
    output, weights = attend(query, key, normal(7, 3, seed=2), score=score)
    close(weights, softmax(score(query, key)))  # type: ignore[arg-type]
    output.square().sum().backward()
    for x in [query, key, *(score.parameters() if isinstance(score, torch.nn.Module) else [])]:
        assert x.grad is not None
        assert x.grad.abs().sum() > 0


def test_additive_scores_of_keys_projected_once_are_the_same() -> None:
    query, key = normal(3, 5, D_Q), normal(3, 7, D_K, seed=1)
    close(ADDITIVE.of_projected_keys(query, ADDITIVE.W_k(key)), ADDITIVE(query, key))


@each_score
def test_a_wrong_width_is_an_error(score: Score, d_q: int, pair: Callable) -> None:
    with pytest.raises((TypeCheckError, RuntimeError)):
        score(normal(5, d_q + 1), normal(7, D_K))


@pytest.mark.parametrize("score", [dot_product, scaled_dot_product, cosine])
def test_unlike_widths_are_reported_by_the_name_of_the_axis(score: Score) -> None:
    with pytest.raises(TypeCheckError, match="d_k"):
        score(normal(5, 4), normal(7, 3))


@pytest.mark.parametrize("d_k", [4, 64, 1024])
def test_scaling_keeps_the_variance_at_one_whatever_the_width(d_k: int) -> None:
    query, key = normal(400, d_k), normal(400, d_k, seed=1)
    assert 0.9 < scaled_dot_product(query, key).var() < 1.1
    assert 0.9 * d_k < dot_product(query, key).var() < 1.1 * d_k


def test_without_scaling_wide_heads_attend_to_almost_one_key() -> None:
    query, key = normal(50, 256), normal(50, 256, seed=1)

    def entropy(score: Score) -> float:
        weights = softmax(score(query, key))
        return float(-(weights * weights.clamp_min(1e-300).log()).sum(-1).mean())

    assert entropy(dot_product) < 0.5 < 3.0 < entropy(scaled_dot_product) < math.log(50)


def test_a_dot_product_grows_with_its_query_a_cosine_does_not() -> None:
    query, key = normal(5, D_K), normal(7, D_K, seed=1)
    close(dot_product(10 * query, key), 10 * dot_product(query, key))
    close(cosine(10 * query, key), cosine(query, key))
    assert (cosine(query, key).abs() <= 1).all()
    assert (dot_product(query, key).abs() > 1).any()


@pytest.mark.parametrize("temperature", [0.0, -1.0])
def test_cosine_refuses_a_temperature_that_is_not_positive(temperature: float) -> None:
    with pytest.raises(ValueError, match="temperature"):
        cosine(normal(5, D_K), normal(7, D_K), temperature=temperature)


def test_cosine_of_a_zero_vector_is_finite_and_so_is_its_gradient() -> None:
    query = torch.zeros(1, D_K, dtype=torch.float64, requires_grad=True)
    scores = cosine(query, normal(7, D_K))
    assert (scores == 0).all()
    scores.sum().backward()
    assert query.grad is not None
    assert query.grad.isfinite().all()


def test_bilinear_with_the_identity_is_the_dot_product() -> None:
    bilinear = shaken(Bilinear(D_K, D_K))
    query, key = normal(1, D_K), normal(1, D_K, seed=1)
    close(bilinear(query, key)[0, 0], query[0] @ (bilinear.W @ key[0]))
    with torch.no_grad():
        bilinear.W.copy_(torch.eye(D_K))
    query, key = normal(5, D_K), normal(7, D_K, seed=1)
    close(bilinear(query, key), dot_product(query, key))


@PROPERTY
@given(seed=st.integers(0, 10_000), dtype=st.sampled_from([torch.bfloat16, torch.float16]))
def test_property_half_precision_does_not_overflow_where_the_result_fits(
    seed: int, dtype: torch.dtype
) -> None:
    """The query is scaled before the product: 512 products of 15 · 15 would overflow, their mean does not."""
    query, key = (15 * torch.ones(2, 512, dtype=dtype), 15 * normal(3, 512, seed=seed).sign().to(dtype))
    assert scaled_dot_product(query, key).isfinite().all()
