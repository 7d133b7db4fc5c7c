"""Positions: the paper's formulas in closed form, and what follows from them."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from jaxtyping import TypeCheckError
from oracles import PROPERTY, attend_by_loops, close, different, normal, shaken
from torch import nn

from attn import masks
from attn.core import attend
from attn.positions import (
    Alibi,
    LearnedPositions,
    QuadraticPositions,
    RelativePositions,
    Rotary,
    SinusoidalPositions,
    rotate,
    sinusoidal,
)
from attn.scores import dot_product, scaled_dot_product

HEADS, QUERIES, KEYS, D_K = 3, 5, 7, 6


# --- sinusoidal ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("d_model", "base"), [(2, 10_000.0), (8, 10_000.0), (10, 500.0)])
def test_sinusoidal_in_closed_form(d_model: int, base: float) -> None:
    table = sinusoidal(5001, d_model, base=base)
    assert table.shape == (5001, d_model)
    for position in (0, 1, 2, 19, 100, 5000):
        for pair in range(d_model // 2):
            angle = position / base ** (2 * pair / d_model)
            assert table[position, 2 * pair].item() == pytest.approx(math.sin(angle), abs=1e-6)
            assert table[position, 2 * pair + 1].item() == pytest.approx(math.cos(angle), abs=1e-6)


def test_a_shift_of_positions_is_the_same_rotation_everywhere() -> None:
    """What the paper hopes for: PE(p + k) is a linear function of PE(p) that does not depend on p."""
    d_model, shift = 8, 7
    table = sinusoidal(60, d_model).double()
    turn = torch.zeros(d_model, d_model, dtype=torch.float64)
    for i in range(0, d_model, 2):
        angle = shift / 10_000 ** (i / d_model)
        turn[i : i + 2, i : i + 2] = torch.tensor(
            [[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]]
        )
    close(table[:-shift] @ turn.T, table[shift:], 1e-6)


def test_sinusoidal_dot_products_depend_on_the_distance_only() -> None:
    table = sinusoidal(40, 16).double()
    products = table @ table.T
    for offset in range(10):
        diagonal = products.diagonal(offset)
        close(diagonal, diagonal[0].expand_as(diagonal), 1e-5)


def test_sinusoidal_positions_are_added_and_never_trained() -> None:
    module = SinusoidalPositions(8, length=20)
    x = normal(2, 5, 8, dtype=torch.float32)
    close(module(x), x + sinusoidal(5, 8))
    close(module(x, start=3), x + sinusoidal(8, 8)[3:])
    assert list(module.parameters()) == []
    assert [name for name, _ in module.named_buffers()] == ["table"]
    assert not module.table.requires_grad


def test_the_table_moves_with_the_model() -> None:
    model = nn.Sequential(SinusoidalPositions(8), nn.Linear(8, 8))
    assert model.to("meta")[0].table.device.type == "meta"  # type: ignore[union-attr]
    assert SinusoidalPositions(8).double().table.dtype == torch.float64


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_positions_keep_the_type_of_their_input(dtype: torch.dtype) -> None:
    x = normal(2, 5, 8, dtype=dtype)
    assert SinusoidalPositions(8)(x).dtype == dtype
    assert LearnedPositions(8).to(dtype)(x).dtype == dtype
    assert rotate(x, torch.arange(5)).dtype == dtype


def test_the_sinusoidal_table_grows_with_its_input() -> None:
    module = SinusoidalPositions(8, length=4)
    x = torch.zeros(1, 11, 8)
    close(module(x, start=2)[0], sinusoidal(13, 8)[2:])
    close(module(x)[0], sinusoidal(11, 8))


@pytest.mark.parametrize("d_model", [7, 1, 0, -2])
def test_a_width_that_is_not_even_is_an_error_that_says_so(d_model: int) -> None:
    with pytest.raises(ValueError, match="even"):
        sinusoidal(10, d_model)
    with pytest.raises(ValueError, match="even"):
        SinusoidalPositions(d_model)


def test_an_odd_head_cannot_be_rotated() -> None:
    with pytest.raises(ValueError, match="even"):
        rotate(normal(5, 7), torch.arange(5))
    with pytest.raises(ValueError, match="even"):
        attend(normal(5, 3), normal(5, 3), normal(5, 3), score=Rotary())


def test_a_negative_length_is_an_error() -> None:
    with pytest.raises(ValueError, match="negative"):
        sinusoidal(-1, 8)


# --- learned ------------------------------------------------------------------------------------------------


def test_learned_positions_are_added_and_trained() -> None:
    module = LearnedPositions(8, length=6)
    x = normal(2, 5, 8, dtype=torch.float32)
    close(module(x), x + module.table[:5])
    close(module(x, start=1), x + module.table[1:6])
    module(x).sum().backward()
    assert module.table.grad is not None
    assert (module.table.grad[:5] == 2).all()


def test_learned_positions_end_where_their_table_does() -> None:
    module = LearnedPositions(8, length=6)
    module(torch.zeros(1, 6, 8))
    with pytest.raises(ValueError, match=r"end at 6.*reaches 7.*length >= 7"):
        module(torch.zeros(1, 7, 8))
    with pytest.raises(ValueError, match="reaches 8"):
        module(torch.zeros(1, 3, 8), start=5)


# --- rotary -------------------------------------------------------------------------------------------------


def test_rotate_is_a_complex_product() -> None:
    """Each pair is a complex number, turned by e^(i · position · base^(-2i/d))."""
    x, positions = normal(2, HEADS, QUERIES, D_K), torch.tensor([0, 1, 5, 19, 1000])
    frequencies = torch.tensor([500.0 ** (-2 * i / D_K) for i in range(D_K // 2)], dtype=torch.float64)
    turns = torch.polar(torch.ones(QUERIES, D_K // 2).double(), positions[:, None] * frequencies)
    expected = torch.view_as_real(torch.view_as_complex(x.unflatten(-1, (-1, 2))) * turns).flatten(-2)
    close(rotate(x, positions, base=500.0), expected)


def test_rotate_takes_other_positions_for_each_sentence() -> None:
    x = normal(2, HEADS, QUERIES, D_K)
    positions = torch.tensor([[0, 1, 2, 3, 4], [7, 3, 3, 0, 12]])
    got = rotate(x, positions[:, None, :])
    for i in range(2):
        close(got[i], rotate(x[i], positions[i]))


def test_rotation_keeps_lengths_and_leaves_position_zero_alone() -> None:
    x = normal(QUERIES, D_K)
    close(rotate(x, torch.arange(QUERIES)).norm(dim=-1), x.norm(dim=-1))
    close(rotate(x, torch.zeros(QUERIES, dtype=torch.long)), x)


@PROPERTY
@given(m=st.integers(0, 500), n=st.integers(0, 500), shift=st.integers(0, 2000), seed=st.integers(0, 10_000))
def test_property_rotary_products_depend_on_the_offset_only(m: int, n: int, shift: int, seed: int) -> None:
    q, k = normal(1, D_K, seed=seed), normal(1, D_K, seed=seed + 1)

    def product(at_query: int, at_key: int) -> torch.Tensor:
        return dot_product(rotate(q, torch.tensor([at_query])), rotate(k, torch.tensor([at_key])))

    close(product(m, n), product(m + shift, n + shift), 1e-10)
    if m != n:
        assert different(product(m, n), product(m, m)) or abs(m - n) > 6


@pytest.mark.parametrize(("queries", "keys"), [(5, 5), (3, 7), (1, 7)])
def test_rotary_scores_line_the_last_query_up_with_the_last_key(queries: int, keys: int) -> None:
    whole, key = normal(2, keys, D_K), normal(2, keys, D_K, seed=1)
    positions = torch.arange(keys)
    all_scores = scaled_dot_product(rotate(whole, positions), rotate(key, positions))
    close(Rotary()(whole[:, -queries:], key), all_scores[:, -queries:])


def test_rotary_stays_on_the_fused_path_and_is_the_same_there() -> None:
    query, key, value = (
        normal(HEADS, 160, D_K),
        normal(HEADS, 160, D_K, seed=1),
        normal(HEADS, 160, D_K, seed=2),
    )
    expected, _ = attend(query, key, value, score=Rotary(100.0), causal=True)
    close(attend(query, key, value, score=Rotary(100.0), causal=True, need_weights=False)[0], expected)
    assert different(expected, attend(query, key, value, score=Rotary(), causal=True)[0])
    assert list(Rotary().parameters()) == []


# --- relative -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("queries", "keys"), [(5, 5), (3, 7), (7, 3)])
def test_relative_positions_by_loops(queries: int, keys: int) -> None:
    score = shaken(RelativePositions(D_K, 2))
    query, key, value = normal(queries, D_K), normal(keys, D_K, seed=1), normal(keys, 4, seed=2)

    def shaw(q: torch.Tensor, k: torch.Tensor, i: int, j: int) -> float:
        offset = max(-2, min(2, j - (i + keys - queries)))
        return float(q @ (k + score.offsets[offset + 2]) / D_K**0.5)

    with torch.no_grad():
        output, weights = attend(query, key, value, score=score)
        expected, expected_weights = attend_by_loops(query, key, value, score=shaw)
    close(output, expected)
    close(weights, expected_weights)  # type: ignore[arg-type]


def test_relative_positions_with_leading_axes_and_gradients() -> None:
    score = shaken(RelativePositions(D_K, 2))
    query, key = normal(2, HEADS, QUERIES, D_K), normal(2, HEADS, KEYS, D_K, seed=1)
    scores = score(query, key)
    close(scores[1, 2], score(query[1, 2], key[1, 2]))
    scores.square().sum().backward()
    assert score.offsets.grad is not None
    assert (score.offsets.grad.abs().sum(-1) > 0).all()


def test_relative_positions_need_a_distance() -> None:
    with pytest.raises(ValueError, match="max_distance"):
        RelativePositions(8, 0)


# --- ALiBi --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("queries", "keys"), [(5, 5), (3, 7)])
def test_alibi_by_loops(queries: int, keys: int) -> None:
    query, key, value = normal(4, queries, D_K), normal(4, keys, D_K, seed=1), normal(4, keys, 3, seed=2)
    output, _ = attend(query, key, value, score=Alibi(4), causal=True)
    for head in range(4):
        slope = 2.0 ** (-8 * (head + 1) / 4)

        def biased(q: torch.Tensor, k: torch.Tensor, i: int, j: int, slope: float = slope) -> float:
            return float(q @ k / D_K**0.5) - slope * (i + keys - queries - j)

        expected, _ = attend_by_loops(
            query[head],
            key[head],
            value[head],
            score=biased,
            allowed=lambda i, j: j <= i + keys - queries,
        )
        close(output[head], expected)


def test_alibi_slopes_of_the_paper() -> None:
    """Section 3: 1/2, 1/4 .. 1/256 for 8 heads."""
    close(Alibi(8).slopes, torch.tensor([2.0**-i for i in range(1, 9)]))
    assert list(Alibi(8).parameters()) == []
    assert Alibi(8).to("meta").slopes.device.type == "meta"


def test_alibi_for_another_number_of_heads_is_an_error() -> None:
    with pytest.raises((TypeCheckError, RuntimeError)):
        Alibi(4)(normal(2, QUERIES, D_K), normal(2, KEYS, D_K))
    with pytest.raises(ValueError, match="n_heads"):
        Alibi(0)


# --- what they are for --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "score",
    [Rotary(), shaken(RelativePositions(D_K, 3)), Alibi(HEADS)],
    ids=lambda score: type(score).__name__,
)
def test_with_positions_in_the_score_the_order_of_the_keys_matters(score: nn.Module) -> None:
    query, key, value = (normal(HEADS, n, D_K, seed=i) for i, n in enumerate([QUERIES, KEYS, KEYS]))
    order = torch.arange(KEYS - 1, -1, -1)
    with torch.no_grad():
        output, _ = attend(query, key, value, score=score)
        assert different(output, attend(query, key[:, order], value[:, order], score=score)[0])


@pytest.mark.parametrize(
    "score",
    [Rotary(), shaken(RelativePositions(D_K, 3)), Alibi(HEADS)],
    ids=lambda score: type(score).__name__,
)
def test_relative_scores_see_the_same_window_wherever_it_stands(score: nn.Module) -> None:
    """A window of three over a sequence that repeats itself gives outputs that repeat themselves."""
    x = normal(HEADS, 4, D_K).repeat(1, 3, 1)
    with torch.no_grad():
        output, _ = attend(x, x, x, score=score, mask=masks.window(12, before=2, after=0))
    close(output[:, 4:8], output[:, 8:12])
    assert different(output[:, 0:2], output[:, 4:6])


# --- quadratic, for images ----------------------------------------------------------------------------------

CELLS = torch.cartesian_prod(torch.arange(-1, 2), torch.arange(-1, 2)).double()


def test_quadratic_scores_by_hand() -> None:
    centres = torch.tensor([[0.0, 1.0], [-2.0, 0.5]], dtype=torch.float64)
    score = QuadraticPositions(3, 4, centres, 0.7)
    found = score(normal(2, 12, D_K), normal(2, 12, D_K, seed=1))
    assert found.shape == (2, 12, 12)
    for head, (down, right) in enumerate(centres.tolist()):
        for q in range(12):
            for k in range(12):
                offset = (k // 4 - q // 4 - down, k % 4 - q % 4 - right)
                assert found[head, q, k].item() == pytest.approx(-0.7 * (offset[0] ** 2 + offset[1] ** 2))


def test_quadratic_scores_are_the_paper_s_product_of_three_numbers_up_to_what_softmax_drops() -> None:
    """v · r, v = -alpha (1, -2 centre) and r = (|offset|², offset): Cordonnier et al. 2020, equation 9."""
    alpha, centre = 1.3, torch.tensor([[1.0, -1.0]], dtype=torch.float64)
    score = QuadraticPositions(4, 3, centre, alpha)
    place = torch.cartesian_prod(torch.arange(4), torch.arange(3)).double()
    offset = place - place[:, None]
    r = torch.cat([offset.square().sum(-1, keepdim=True), offset], dim=-1)
    v = -alpha * torch.cat([torch.ones(1, dtype=torch.float64), -2 * centre[0]])
    ours = score(normal(1, 12, D_K), normal(1, 12, D_K))
    close(ours.softmax(-1), (r @ v).softmax(-1)[None])


def test_sharp_quadratic_positions_are_a_convolution_of_a_padded_image() -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(2, 3, 3, padding=1).double()
    x = normal(2, 2, 5, 4)
    padded = nn.functional.pad(x, (1, 1, 1, 1))
    value = padded.flatten(2).mT[:, None] @ conv.weight.flatten(2).permute(2, 1, 0)
    nothing = torch.zeros(9, 42, 1, dtype=x.dtype)
    errors = []
    for alpha in (5.0, 10.0, 40.0):
        heads, _ = attend(nothing, nothing, value, score=QuadraticPositions(7, 6, CELLS, alpha))
        found = (heads.sum(1) + conv.bias).mT.unflatten(-1, (7, 6))[..., 1:-1, 1:-1]
        errors.append((found - conv(x)).abs().max().item())
    assert errors[0] > 50 * errors[1] > 1e3 * errors[2]
    assert errors[2] < 1e-12


def test_quadratic_positions_learn_their_centres_and_ignore_content() -> None:
    score = shaken(QuadraticPositions(3, 3, CELLS[:2]))
    assert {name for name, _ in score.named_parameters()} == {"centres", "alpha"}
    q, k = normal(4, 2, 9, D_K), normal(4, 2, 9, D_K, seed=1)
    close(score(q, k), score(2 * q, -k))
    assert score(q, k).shape == (4, 2, 9, 9)
    assert all(
        g.abs().min() > 0
        for g in torch.autograd.grad(score(q, k).softmax(-1)[..., 0].sum(), score.parameters())
    )


def test_quadratic_positions_fit_their_image_and_heads_only() -> None:
    score = QuadraticPositions(3, 3, CELLS[:2])
    for shape in ((2, 8, 5), (3, 9, 5)):
        with pytest.raises(ValueError, match="2 heads and 9 pixels"):
            score(normal(*shape), normal(*shape))
    with pytest.raises(ValueError, match=r"centres are \(heads, 2\)"):
        QuadraticPositions(3, 3, torch.zeros(2, 3))
