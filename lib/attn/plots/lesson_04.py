"""The figures of lesson 04, Multi-head attention."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from torch import Tensor

from attn.plots.charts import curves
from attn.plots.diagrams import value_region
from attn.plots.maps import heads_grid
from attn.plots.style import COLOURS, WEIGHTS, WIDTH, as_array, set_ticks


def plane(values: Tensor, outputs: Tensor, wanted: Tensor | None = None) -> Figure:
    """The region that outputs (points, 2) cannot leave, with the values (keys, 2) as its corners, and
    crosses (points, 2) on what is wanted.
    """
    figure, ax = plt.subplots(figsize=(5.2, 3.6))
    value_region(ax, as_array(values), [f"value {i + 1}" for i in range(len(values))])
    x, y = as_array(outputs).T
    ax.scatter(x, y, s=8, color="grey", alpha=0.6, label="possible outputs")
    if wanted is not None:
        x, y = as_array(wanted).T
        ax.scatter(x, y, s=160, marker="x", color="black", zorder=4, label="wanted, both")
    figure.legend(loc="outside right center")
    return figure


def entries(panels: Mapping[str, Tensor]) -> Figure:
    """Where each number of a (positions, features) matrix went: panels of whole numbers 10 position +
    feature, written "position.feature" and coloured by position.
    """
    grids = {title: as_array(panel).astype(int) for title, panel in panels.items()}
    shapes = [grid.shape for grid in grids.values()]
    figure, axes = plt.subplots(
        1,
        len(grids),
        squeeze=False,
        figsize=(WIDTH, 1.0 + 0.36 * max(rows for rows, _ in shapes)),
        width_ratios=[columns for _, columns in shapes],
    )
    for ax, (title, grid) in zip(axes.flat, grids.items(), strict=True):
        position = grid // 10
        ax.imshow(position, cmap=ListedColormap(COLOURS), vmin=0.5, vmax=len(COLOURS) + 0.5, alpha=0.55)
        for (row, column), entry in np.ndenumerate(grid):
            ax.text(column, row, f"{entry // 10}.{entry % 10}", ha="center", va="center", fontsize=9)
        ax.set_title(title, fontsize=10)
        ax.set(xticks=[], yticks=[])
        ax.spines[:].set_visible(False)
    return figure


def two_errors(
    errors: Mapping[str, Tensor],
    *,
    xlabel: str,
    ylabel: str,
    bound: float,
    ax: Axes | None = None,
    title: str | None = None,
) -> Figure:
    """One dot per trained model, errors (models, 2), and the line x + y = bound."""
    if ax is None:
        _, ax = plt.subplots(figsize=(4.0, 3.6))
    ax.plot([0, bound], [bound, 0], color="grey", linestyle="--", label=f"sum = {bound:g}")
    for (name, dots), marker in zip(errors.items(), "os^D", strict=False):
        x, y = as_array(dots).T
        ax.scatter(x, y, s=45, marker=marker, label=name, clip_on=False, zorder=3)
    ax.set(xlabel=xlabel, ylabel=ylabel, xlim=(0, bound), ylim=(0, bound), aspect="equal")
    ax.legend()
    if title:
        ax.set_title(title)
    return ax.get_figure()  # type: ignore[return-value]


def heads_with_marks(weights: Tensor, marks: Mapping[str, Tensor]) -> Figure:
    """`heads_grid` of weights (heads, queries, keys), with one marker per query on a key: where each
    relation points.
    """
    figure = heads_grid(weights, columns=2)
    at = np.arange(weights.shape[-2])
    for ax in figure.axes[: len(weights)]:
        for (name, keys), marker, colour in zip(marks.items(), "os", COLOURS[1::2], strict=False):
            ax.scatter(
                as_array(keys), at, s=70, marker=marker, facecolor="none", edgecolor=colour, label=name
            )
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=len(marks))
    return figure


def ablation(errors: Mapping[str, Tensor], rows: Sequence[str], columns: Sequence[str]) -> Figure:
    """Errors (what was removed, relation) as tables with their numbers, one per model: bright is lost."""
    figure, axes = plt.subplots(
        1, len(errors), figsize=(WIDTH, 1.3 + 0.38 * len(rows)), squeeze=False, sharey=True
    )
    for ax, (title, table) in zip(axes.flat, errors.items(), strict=True):
        numbers = as_array(table)
        ax.imshow(numbers, cmap=WEIGHTS, vmin=0.0, vmax=1.0, aspect="auto")
        for (i, j), error in np.ndenumerate(numbers):
            colour = "white" if error < 0.5 else "black"
            ax.text(j, i, f"{error:.2f}", ha="center", va="center", color=colour)
        ax.set_title(title)
        set_ticks(ax, rows, None)
        ax.set_xticks(range(len(columns)), columns)
        ax.spines[:].set_visible(False)
    figure.supxlabel("mean squared error of each relation", fontsize=11)
    return figure


def number_of_heads(
    cost_heads: Sequence[int], cost: Mapping[str, Tensor], error_heads: Sequence[int], error: Tensor
) -> Figure:
    """What heads cost, in multiples of one head, beside the error (seeds, numbers of heads) they reach."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(WIDTH, 3.2))
    curves(cost, cost_heads, ax=left, xlabel="heads", ylabel="times one head", title="cost", log="xy")
    for line, width in zip(left.lines, (2, 6, 2), strict=False):
        line.set(linewidth=width, alpha=0.4 if width > 2 else 1.0)  # lines that coincide stay visible
    left.legend()
    curves({"error": error}, error_heads, ax=right, xlabel="heads", ylabel="error", title="quality", log="x")
    left.set_yticks(cost_heads, [str(heads) for heads in cost_heads])
    for ax, ticks in ((left, cost_heads), (right, error_heads)):
        ax.minorticks_off()
        ax.set_xticks(ticks, [str(heads) for heads in ticks])
    return figure
