"""Maps: pictures of matrices, one row per query and one column per key. Weights, masks, numbers."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

from attn.plots.style import COLOURS, SIGNED, WEIGHTS, WIDTH, as_array, set_ticks


def attention_map(
    weights: Tensor | np.ndarray,
    queries: Sequence[str] | None = None,
    keys: Sequence[str] | None = None,
    *,
    ax: Axes | None = None,
    title: str | None = None,
    numbers: bool = False,
    mask: Tensor | np.ndarray | None = None,
) -> Figure:
    """Weights (queries, keys) as a picture: one row per query, bright where it attends. `mask` greys out
    what is forbidden.
    """
    image = as_array(weights)
    if ax is None:
        _, ax = plt.subplots(figsize=(1.5 + 0.55 * image.shape[1], 1.2 + 0.45 * image.shape[0]))
    if mask is not None:
        image = np.ma.masked_array(image, ~as_array(mask).astype(bool))
    ax.imshow(image, cmap=plt.get_cmap(WEIGHTS).with_extremes(bad="#dddddd"), vmin=0.0, vmax=1.0)
    set_ticks(ax, queries, keys)
    ax.set(xlabel="keys", ylabel="queries")
    ax.spines[:].set_visible(False)
    if title:
        ax.set_title(title)
    if numbers:
        for (i, j), weight in np.ma.ndenumerate(image):  # skips what is masked
            colour = "white" if weight < 0.5 else "black"
            ax.text(j, i, f"{weight:.2f}", ha="center", va="center", color=colour)
    return ax.get_figure()  # type: ignore[return-value]


def attention_maps(
    maps: Mapping[str, tuple[Tensor | np.ndarray, Sequence[str], Sequence[str]]],
    *,
    outline: str | None = None,
) -> Figure:
    """Attention maps side by side: title → (weights, queries, keys). The row of the query `outline` gets a
    frame in each.
    """
    figure, axes = plt.subplots(1, len(maps), figsize=(WIDTH, 3.9), squeeze=False)
    for ax, (title, (weights, queries, keys)) in zip(axes[0], maps.items(), strict=True):
        attention_map(weights, queries, keys, ax=ax, title=title)
        ax.tick_params(axis="x", rotation=90)
        if outline is not None:
            frame(ax, list(queries).index(outline), 0, columns=len(keys), linewidth=3, clip_on=False)
    return figure


def heads_grid(
    weights: Tensor,
    queries: Sequence[str] | None = None,
    keys: Sequence[str] | None = None,
    *,
    titles: Sequence[str] | None = None,
    columns: int = 4,
) -> Figure:
    """Weights (heads, queries, keys) as one picture per head."""
    heads = len(weights)
    columns = min(columns, heads)
    rows = -(-heads // columns)
    figure, axes = plt.subplots(
        rows, columns, figsize=(WIDTH, WIDTH / columns * rows * 1.15), squeeze=False, sharex=True, sharey=True
    )
    for i, ax in enumerate(axes.flat):
        if i >= heads:
            ax.set_visible(False)
            continue
        attention_map(weights[i], queries, keys, ax=ax, title=titles[i] if titles else f"head {i + 1}")
        ax.label_outer()
    return figure


def weights_table(
    rows: Mapping[str, Sequence[Tensor | np.ndarray]], columns: Sequence[str], *, brightest: float = 1.0
) -> Figure:
    """Attention maps in a table: one named row per setting, one column per name in `columns`.

    All share one colour scale, from 0 to `brightest`.
    """
    figure, axes = plt.subplots(
        len(rows),
        len(columns),
        figsize=(WIDTH, 0.3 + (WIDTH - 1.2) / len(columns) * len(rows)),
        squeeze=False,
        sharex=True,
        sharey=True,
    )
    for line, (name, maps) in zip(axes, rows.items(), strict=True):
        for ax, weights in zip(line, maps, strict=True):
            drawn = ax.imshow(as_array(weights), cmap=WEIGHTS, vmin=0, vmax=brightest)
            ax.set(xticks=[], yticks=[])
            ax.spines[:].set_visible(False)
        line[0].set_ylabel(f"{name}\n(queries)")
    for ax, name in zip(axes[0], columns, strict=True):
        ax.set_title(name)
    for ax in axes[-1]:
        ax.set_xlabel("keys")
    figure.colorbar(drawn, ax=axes, label="weight", extend="max", shrink=0.6)
    return figure


def weights_on_words(
    weights: Tensor | np.ndarray,
    queries: Sequence[str],
    keys: Sequence[str],
    *,
    title: str | None = None,
    ylabel: str = "queries",
) -> Figure:
    """Weights (queries, keys) drawn on the words: every query reads the line of keys, bright where it
    attends.
    """
    image = as_array(weights)
    figure, ax = plt.subplots(figsize=(WIDTH, 0.8 + 0.36 * len(queries)))
    ax.imshow(image, cmap=WEIGHTS, vmin=0, vmax=1, aspect="auto")
    for (i, j), weight in np.ndenumerate(image):
        ax.text(j, i, keys[j], ha="center", va="center", color="white" if weight < 0.5 else "black")
    ax.set_yticks(range(len(queries)), queries)
    ax.set_yticks(np.arange(len(queries) + 1) - 0.5, minor=True)
    ax.grid(axis="y", which="minor", color="white", linewidth=2)
    ax.tick_params(which="both", length=0)
    ax.set(xticks=[], xlabel="keys", ylabel=ylabel)
    ax.spines[:].set_visible(False)
    if title:
        ax.set_title(title)
    return figure


def alignments(
    maps: Mapping[str, Tensor | np.ndarray],
    written: Sequence[str],
    source: Sequence[str],
    *,
    frames: Mapping[int, int] | None = None,
) -> Figure:
    """What was written (queries, one row per token) against the source (keys), one map per title, each on its
    own colour scale. `frames`: row → column, cells to frame.
    """
    figure, axes = plt.subplots(
        1, len(maps), figsize=(WIDTH, 1.6 + 0.21 * len(written)), sharey=True, squeeze=False
    )
    for ax, (title, picture) in zip(axes[0], maps.items(), strict=True):
        drawn = ax.imshow(as_array(picture), cmap=WEIGHTS, vmin=0, aspect="auto")
        figure.colorbar(drawn, ax=ax, location="bottom", shrink=0.8, pad=0.02)
        ax.set_xticks(range(len(source)), source, rotation=45)
        ax.xaxis.tick_top()
        ax.set_yticks(range(len(written)), written)
        ax.tick_params(length=0)
        ax.set_title(title, fontsize=11)
        ax.spines[:].set_visible(False)
        for row, column in (frames or {}).items():
            frame(ax, row, column)
    axes[0, 0].set_ylabel("queries: the token being written")
    return figure


def mask_map(
    mask: Tensor,
    queries: Sequence[str] | None = None,
    keys: Sequence[str] | None = None,
    *,
    ax: Axes | None = None,
    title: str | None = None,
) -> Figure:
    """A boolean mask (queries, keys): coloured = may attend, grey = may not."""
    if ax is None:
        _, ax = plt.subplots(figsize=(1.5 + 0.45 * mask.shape[1], 1.2 + 0.4 * mask.shape[0]))
    ax.imshow(as_array(mask), cmap=ListedColormap(["#dddddd", COLOURS[0]]), vmin=0, vmax=1)
    ax.set_xticks(np.arange(mask.shape[1] + 1) - 0.5, minor=True)
    ax.set_yticks(np.arange(mask.shape[0] + 1) - 0.5, minor=True)
    ax.grid(which="minor", color="white", linewidth=1)
    ax.tick_params(which="minor", length=0)
    set_ticks(ax, queries, keys)
    ax.set(xlabel="keys", ylabel="queries")
    if title:
        ax.set_title(title)
    return ax.get_figure()  # type: ignore[return-value]


def mask_gallery(
    panels: Mapping[str, Tensor], *, columns: int = 4, xlabel: str = "keys", ylabel: str = "queries"
) -> Figure:
    """`mask_map`s in a grid, one per title; masks may differ in size."""
    rows = -(-len(panels) // columns)
    figure, axes = plt.subplots(
        rows, columns, figsize=(WIDTH, rows * (WIDTH / columns + 0.35)), squeeze=False
    )
    for ax in axes.flat[len(panels) :]:
        ax.set_visible(False)
    for ax, (title, mask) in zip(axes.flat, panels.items(), strict=False):
        small_mask(ax, mask, title)
        ax.set(xlabel=xlabel, ylabel=ylabel)
    return figure


def small_mask(ax: Axes, mask: Tensor, title: str) -> None:
    """A `mask_map` for a figure of many: without ticks, with a small title."""
    mask_map(mask, ax=ax)
    ax.set_title(title, fontsize=10)
    ax.set(xticks=[], yticks=[])
    ax.spines[:].set_visible(False)


def frame(
    ax: Axes, row: int, column: int, *, columns: int = 1, linewidth: float = 2.5, clip_on: bool = True
) -> None:
    """A frame around a cell of a map, or around `columns` cells of a row."""
    at = (column - 0.5, row - 0.5)
    style: dict[str, Any] = {"fill": False, "edgecolor": COLOURS[1], "linewidth": linewidth}
    ax.add_patch(Rectangle(at, columns, 1, clip_on=clip_on, **style))


def leak_maps(moved: Mapping[str, Tensor], may: Tensor, *, columns: int = 4) -> Figure:
    """Which outputs moved when an input was changed, (outputs, inputs), against what `may` allows.

    A leak (!) is a forbidden input that moves an output, a blind spot (?) an allowed one that does not.
    """
    rows = -(-len(moved) // columns)
    figure, axes = plt.subplots(
        rows, columns, figsize=(WIDTH, rows * (WIDTH / columns + 0.4) + 0.4), squeeze=False
    )
    kinds = {"forbidden, still": "#dddddd", "allowed, moved": COLOURS[0]}
    kinds |= {"! leak: forbidden, moved": COLOURS[1], "? blind: allowed, still": COLOURS[4]}
    allowed = as_array(may).astype(bool)
    for ax in axes.flat[len(moved) :]:
        ax.set_visible(False)
    for ax, (title, outcome) in zip(axes.flat, moved.items(), strict=False):
        stirred = as_array(outcome).astype(bool)
        kind = np.select([~allowed & ~stirred, allowed & stirred, ~allowed], [0, 1, 2], 3)
        ax.imshow(kind, cmap=ListedColormap(list(kinds.values())), vmin=0, vmax=3)
        for i, j in np.argwhere(kind >= 2):
            ax.text(j, i, " !?"[kind[i, j] - 1], ha="center", va="center", fontweight="bold")
        ax.set_title(title, fontsize=10)
        ax.set(xticks=[], yticks=[], xlabel="inputs", ylabel="outputs")
        ax.spines[:].set_visible(False)
    handles = [Rectangle((0, 0), 1, 1, color=colour) for colour in kinds.values()]
    figure.legend(handles, list(kinds), loc="outside lower center", ncols=2)
    return figure


def number_grids(panels: Mapping[str, Tensor], *, xlabel: str = "keys", ylabel: str = "queries") -> Figure:
    """Grids of signed whole numbers, each written in its cell: blue below zero, red above."""
    figure, axes = plt.subplots(1, len(panels), figsize=(WIDTH, 3.5), squeeze=False)
    grids = {title: as_array(panel).astype(int) for title, panel in panels.items()}
    reach = max(np.abs(grid).max() for grid in grids.values())
    for ax, (title, grid) in zip(axes[0], grids.items(), strict=True):
        ax.imshow(grid, cmap=SIGNED, vmin=-1.6 * reach, vmax=1.6 * reach)
        for (row, column), number in np.ndenumerate(grid):
            ax.text(column, row, f"{number:d}", ha="center", va="center")
        ax.set(title=title, xlabel=xlabel, ylabel=ylabel)
        ax.tick_params(length=0)
        ax.spines[:].set_visible(False)
    return figure
