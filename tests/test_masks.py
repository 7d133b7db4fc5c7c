"""Masks: who may attend to whom, cell by cell."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from oracles import PROPERTY, close, normal

from attn import masks
from attn.core import attend


def picture(mask: torch.Tensor) -> list[str]:
    return ["".join(".#"[int(x)] for x in row) for row in mask]


def test_causal_sees_itself_and_the_past() -> None:
    assert picture(masks.causal(4)) == ["#...", "##..", "###.", "####"]


def test_causal_over_more_keys_than_queries_lines_up_at_the_end() -> None:
    assert picture(masks.causal(2, 5)) == ["####.", "#####"]
    assert picture(masks.causal(4, 2)) == ["..", "..", "#.", "##"]


def test_window_counts_to_the_left_and_to_the_right() -> None:
    assert picture(masks.window(5, before=2, after=1)) == ["##...", "###..", "####.", ".####", "..###"]
    assert picture(masks.window(2, 5, before=1, after=0)) == ["..##.", "...##"]


@PROPERTY
@given(queries=st.integers(0, 6), keys=st.integers(0, 6), before=st.integers(0, 7), after=st.integers(0, 7))
def test_property_window_and_causal_cell_by_cell(queries: int, keys: int, before: int, after: int) -> None:
    window, causal = masks.window(queries, keys, before=before, after=after), masks.causal(queries, keys)
    assert window.shape == causal.shape == (queries, keys)
    assert window.dtype == causal.dtype == torch.bool
    for i in range(queries):
        here = i + keys - queries
        for j in range(keys):
            assert bool(window[i, j]) == (here - before <= j <= here + after)
            assert bool(causal[i, j]) == (j <= here)
            assert masks.relative_positions(queries, keys)[i, j] == j - here
    assert torch.equal(masks.window(queries, keys, before=10, after=0), causal)


def test_padding_hides_the_keys_that_are_padding_for_every_head_and_query() -> None:
    tokens = torch.tensor([[5, 6, 7, 8], [5, 0, 0, 0]])
    mask = masks.padding(tokens)
    assert mask.shape == (2, 1, 1, 4)
    assert mask[:, 0, 0].tolist() == [[True] * 4, [True, False, False, False]]
    assert masks.padding(tokens, pad=8)[:, 0, 0].tolist() == [[True, True, True, False], [True] * 4]


def test_lengths_and_padded_tokens_give_the_same_mask() -> None:
    tokens = torch.tensor([[5, 6, 7, 8], [5, 0, 0, 0], [0, 0, 0, 0]])
    assert torch.equal(masks.from_lengths(torch.tensor([4, 1, 0])), masks.padding(tokens))
    assert masks.from_lengths(torch.tensor([2, 1]), 5).shape == (2, 1, 1, 5)


def test_graph_follows_the_edges_both_ways() -> None:
    edges = torch.tensor([[0, 1], [1, 3]])
    assert picture(masks.graph(edges, 4)) == ["##..", "##.#", "..#.", ".#.#"]
    assert picture(masks.graph(edges, 4, directed=True)) == ["##..", ".#.#", "..#.", "...#"]
    assert picture(masks.graph(edges, 4, directed=True, loops=False)) == [".#..", "...#", "....", "...."]
    assert picture(masks.graph(torch.empty(0, 2, dtype=torch.long), 2)) == ["#.", ".#"]


def test_a_kernel_s_cells_each_see_one_neighbour() -> None:
    cells = masks.kernel(2, 3, width=3)
    assert cells.shape == (9, 6, 6)
    assert picture(cells[4]) == picture(torch.eye(6))  # the middle: itself
    assert picture(cells[3]) == ["......", "#.....", ".#....", "......", "...#..", "....#."]  # on its left
    assert picture(cells[2]) == ["......", "......", "......", ".#....", "..#...", "......"]  # upper right
    assert picture(cells.any(0)) == ["##.##.", "######", ".##.##", "##.##.", "######", ".##.##"]


@PROPERTY
@given(
    rows=st.integers(1, 6),
    columns=st.integers(1, 6),
    half=st.integers(0, 2),
    stride=st.integers(1, 3),
    dilation=st.integers(1, 3),
)
def test_property_attention_through_a_kernel_s_masks_is_torch_s_convolution(
    rows: int, columns: int, half: int, stride: int, dilation: int
) -> None:
    torch.manual_seed(0)
    width = 2 * half + 1
    conv = torch.nn.Conv2d(2, 3, width, stride, dilation * half, dilation).double()
    x = normal(4, 2, rows, columns)
    cells = masks.kernel(rows, columns, width=width, stride=stride, dilation=dilation)
    value = x.flatten(2).mT[:, None] @ conv.weight.flatten(2).permute(2, 1, 0)
    anything = normal(width**2, cells.size(1), 5, seed=1), normal(width**2, cells.size(2), 5, seed=2)
    heads, _ = attend(*anything, value, mask=cells)
    close(heads.sum(1) + conv.bias, conv(x).flatten(2).mT)


def test_a_kernel_s_neighbourhood_is_torch_s_average_pooling() -> None:
    x = normal(2, 1, 4, 5)
    near = masks.kernel(4, 5, width=3).any(0)
    even = torch.zeros(20, 1, dtype=x.dtype)
    pooled, _ = attend(even, even, x.flatten(2).mT, mask=near)
    expected = torch.nn.functional.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)
    close(pooled.mT.unflatten(-1, (4, 5)), expected)


def test_masks_combine_with_and() -> None:
    tokens = torch.tensor([[5, 6, 0], [5, 6, 7]])
    mask = masks.causal(3) & masks.padding(tokens)
    assert mask.shape == (2, 1, 3, 3)
    assert picture(mask[0, 0]) == ["#..", "##.", "##."]
    assert picture(mask[1, 0]) == ["#..", "##.", "###"]


def test_torch_means_the_opposite() -> None:
    """The same attention out of `nn.MultiheadAttention`'s machinery, which takes True for "may not"."""
    mask = masks.causal(5) & masks.window(5, before=2, after=0)
    torch.manual_seed(0)
    theirs = torch.nn.MultiheadAttention(4, 1, bias=False, batch_first=True).double()
    with torch.no_grad():
        theirs.in_proj_weight.copy_(torch.eye(4).repeat(3, 1))
        theirs.out_proj.weight.copy_(torch.eye(4))
    x = normal(2, 5, 4)
    close(attend(x, x, x, mask=mask)[0], theirs(x, x, x, attn_mask=masks.to_torch_mha(mask))[0])


@pytest.mark.parametrize(
    "build",
    [
        masks.causal,
        lambda n, **o: masks.window(n, before=1, after=1, **o),
        lambda n, **o: masks.kernel(n, n, **o),
    ],
)
def test_masks_are_made_where_they_are_wanted(build: object) -> None:
    assert build(3, device="meta").device.type == "meta"  # type: ignore[operator]


def test_masks_of_tokens_and_lengths_stay_on_their_device() -> None:
    tokens = torch.zeros(2, 3, dtype=torch.long, device="meta")
    assert masks.padding(tokens).device.type == "meta"


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: masks.causal(-1), "negative"),
        (lambda: masks.causal(3, -2), "negative"),
        (lambda: masks.window(4, before=-1, after=0), "before"),
        (lambda: masks.window(4, before=0, after=-1), "after"),
        (lambda: masks.from_lengths(torch.tensor([4, 9]), 5), r"0\.\.5.*\[4, 9\]"),
        (lambda: masks.from_lengths(torch.tensor([-1, 2])), "lengths"),
        (lambda: masks.kernel(3, 3, width=2), "width odd.*width 2"),
        (lambda: masks.kernel(3, 0), "at least 1"),
        (lambda: masks.kernel(3, 3, stride=0), "at least 1"),
        (lambda: masks.kernel(3, 3, dilation=-1), "at least 1"),
        (lambda: masks.graph(torch.tensor([[0, 4]]), 4), r"0\.\.3"),
        (lambda: masks.graph(torch.tensor([[-1, 2]]), 4), r"0\.\.3"),
    ],
)
def test_impossible_masks_are_errors_that_say_what_was_wrong(build: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build()  # type: ignore[operator]
