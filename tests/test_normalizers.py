"""Normalizers: weights over the keys, exact zeros where promised, gradients that are right."""

import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from oracles import PROPERTY, close, normal
from torch import Tensor

from attn.normalizers import Normalizer, hard, relu, softmax, sparsemax

ALL = [softmax, relu, sparsemax, hard]
each_normalizer = pytest.mark.parametrize("normalize", ALL, ids=lambda f: f.__name__)


def nearest_point_of_the_simplex(scores: Tensor) -> Tensor:
    """By trying every support: on the right one, all scores are lowered alike until the weights sum to 1."""
    best, smallest = torch.full_like(scores, torch.nan), math.inf
    for size in range(1, len(scores) + 1):
        for support in itertools.combinations(range(len(scores)), size):
            point = torch.zeros_like(scores)
            chosen = scores[list(support)]
            point[list(support)] = chosen - (chosen.sum() - 1) / size
            distance = float((point - scores).square().sum())
            if (point >= 0).all() and distance < smallest:
                best, smallest = point, distance
    return best


@each_normalizer
@pytest.mark.parametrize("shape", [(7,), (5, 7), (2, 3, 5, 7)])
def test_rows_are_weights(normalize: Normalizer, shape: tuple[int, ...]) -> None:
    scores = normal(*shape)
    scores[..., 0] = scores[..., 0].abs() + 0.1  # relu needs one positive score in each row
    weights = normalize(scores)
    assert weights.shape == shape
    assert weights.dtype == scores.dtype
    assert (weights >= 0).all()
    close(weights.sum(-1), torch.ones(shape[:-1], dtype=torch.float64))


@each_normalizer
def test_each_row_is_on_its_own(normalize: Normalizer) -> None:
    """Over the keys, never over queries, heads or batch."""
    scores = normal(2, 3, 5, 7)
    weights = normalize(scores)
    for index in itertools.product(range(2), range(3), range(5)):
        close(weights[index], normalize(scores[index]))


@each_normalizer
def test_the_order_of_the_keys_carries_over(normalize: Normalizer) -> None:
    order = torch.tensor([3, 0, 6, 1, 5, 2, 4])
    scores = normal(5, 7)
    close(normalize(scores[:, order]), normalize(scores)[:, order])


@each_normalizer
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("offset", [-50.0, 0.0, 50.0])
def test_the_lowest_number_becomes_a_weight_of_exactly_zero(
    normalize: Normalizer, dtype: torch.dtype, offset: float
) -> None:
    """What `attend` relies on: the rest is as if those scores were not there."""
    scores = normal(5, 7).to(dtype) + offset
    hidden = torch.tensor([False, True, False, False, True, True, False])
    weights = normalize(scores.masked_fill(hidden, torch.finfo(dtype).min))
    assert (weights[:, hidden] == 0).all()
    close(
        weights[:, ~hidden].double(),
        normalize(scores[:, ~hidden]).double(),
        1e-2 if dtype.itemsize == 2 else 1e-6,
    )


@each_normalizer
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_row_of_the_lowest_number_is_finite(normalize: Normalizer, dtype: torch.dtype) -> None:
    scores = torch.full((2, 5), torch.finfo(dtype).min, dtype=dtype, requires_grad=True)
    weights = normalize(scores)
    assert weights.isfinite().all()
    if weights.requires_grad:
        weights.square().sum().backward()
        assert scores.grad is not None
        assert scores.grad.isfinite().all()


@pytest.mark.parametrize("normalize", [softmax, sparsemax, hard], ids=lambda f: f.__name__)
@pytest.mark.parametrize("shift", [1000.0, -1000.0, 1e8])
def test_adding_the_same_to_all_scores_changes_nothing(normalize: Normalizer, shift: float) -> None:
    scores = normal(5, 7)
    close(normalize(scores + shift), normalize(scores), 1e-6)


def test_softmax_is_the_ratio_of_exponentials() -> None:
    for row in normal(5, 7):
        exponentials = [math.exp(s) for s in row.tolist()]
        expected = torch.tensor([e / sum(exponentials) for e in exponentials], dtype=torch.float64)
        close(softmax(row), expected)


def test_relu_is_the_share_of_the_positive_scores() -> None:
    scores = torch.tensor([[1.0, -2.0, 3.0], [-1.0, -2.0, 0.0]], dtype=torch.float64)
    close(relu(scores), torch.tensor([[0.25, 0.0, 0.75], [0.0, 0.0, 0.0]], dtype=torch.float64))


def test_relu_of_a_row_without_a_positive_score_has_a_finite_gradient() -> None:
    scores = torch.tensor([-1.0, -2.0, 0.0], requires_grad=True)
    relu(scores).square().sum().backward()
    assert scores.grad is not None
    assert scores.grad.isfinite().all()


@PROPERTY
@given(
    seed=st.integers(0, 10_000), keys=st.integers(1, 6), size=st.sampled_from([0.01, 0.5, 1.0, 3.0, 100.0])
)
def test_property_sparsemax_is_the_nearest_point_of_the_simplex(seed: int, keys: int, size: float) -> None:
    scores = size * normal(keys, seed=seed)
    close(sparsemax(scores), nearest_point_of_the_simplex(scores), 1e-10)


def test_sparsemax_has_exact_zeros_and_lets_ties_share() -> None:
    close(sparsemax(torch.tensor([0.1, 5.0, 0.2])), torch.tensor([0.0, 1.0, 0.0]))
    close(sparsemax(torch.tensor([2.0, 2.0, 0.0])), torch.tensor([0.5, 0.5, 0.0]))


@pytest.mark.parametrize("normalize", [softmax, relu, sparsemax], ids=lambda f: f.__name__)
def test_gradients_are_those_of_finite_differences(normalize: Normalizer) -> None:
    assert torch.autograd.gradcheck(normalize, (normal(4, 6, seed=3, grad=True),))


def test_hard_takes_the_best_and_the_first_of_several() -> None:
    scores = torch.tensor([[0.1, 0.9, 0.3], [2.0, 1.0, 2.0]])
    assert torch.equal(hard(scores), torch.tensor([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0]]))


def test_hard_passes_no_gradient_to_the_scores() -> None:
    scores = normal(4, 6, grad=True)
    values = normal(6, 3, seed=1, grad=True)
    by_scores, by_values = torch.autograd.grad(
        (hard(scores) @ values).sum(), (scores, values), allow_unused=True
    )
    assert by_scores is None or (by_scores == 0).all()
    assert (by_values != 0).any()
