"""The figures of lesson 08, The Transformer encoder."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from torch import Tensor

from attn.plots.charts import curves, legend_above
from attn.plots.diagrams import arrow, box
from attn.plots.style import COLOURS, WEIGHTS, WIDTH, as_array


def encoder_layer() -> Figure:
    """One encoder layer, post-norm, for three positions (Vaswani et al. 2017, figure 1, left): what each box
    does to the vectors, and their shapes.
    """
    figure, ax = plt.subplots(figsize=(WIDTH, 6.6))
    places, half, blue, orange = (2.0, 3.5, 5.0), 2.2, COLOURS[0], COLOURS[1]

    def part(y: float, height: float, text: str, colour: str) -> None:
        box(ax, 3.5 - half, y, 2 * half, height, facecolor=colour, alpha=0.25)
        ax.text(3.5 + half + 0.75, y + height / 2, text, ha="left", va="center", fontsize=11)

    def vectors(y: float, shape: str) -> None:
        for x in places:
            box(ax, x - 0.35, y, 0.7, 0.26, zorder=3)
        ax.text(3.5 + half + 0.75, y + 0.13, shape, ha="left", va="center", color="dimgrey", fontsize=10)

    def around(low: float, high: float) -> None:
        edge = 3.5 - half - 0.5
        ax.plot([places[0] - 0.35, edge, edge], [low, low, high], color="grey", linewidth=1.6)
        arrow(ax, (edge, high), (3.5 - half, high), colour="grey")

    vectors(0.0, "x: length x d_model")
    for x in places:
        for to in places:
            arrow(ax, (x, 0.26), (to, 1.75), colour=blue)
    part(0.55, 1.2, "self-attention\nmixes positions", blue)
    part(2.05, 0.6, "add & norm: LayerNorm(x + ...)", "grey")
    vectors(2.95, "length x d_model")
    part(3.5, 1.5, "feed-forward\neach position alone", orange)
    for x in places:
        arrow(ax, (x, 1.75), (x, 2.05))
        arrow(ax, (x, 2.65), (x, 2.95))
        arrow(ax, (x, 3.21), (x, 3.95), colour=orange)
        box(ax, x - 0.62, 3.95, 1.24, 0.26, facecolor=orange, alpha=0.6, zorder=3)
        arrow(ax, (x, 4.21), (x, 5.3), colour=orange)
        arrow(ax, (x, 5.9), (x, 6.2))
    ax.text(3.5 + half + 0.75, 3.82, "hidden: length x d_ff", va="center", color="dimgrey", fontsize=10)
    part(5.3, 0.6, "add & norm", "grey")
    vectors(6.2, "length x d_model")
    around(0.13, 2.35)
    around(3.08, 5.6)
    ax.text(0.55, 1.25, "residual", rotation=90, ha="center", va="center", color="grey")
    ax.text(0.55, 4.3, "residual", rotation=90, ha="center", va="center", color="grey")
    ax.text(3.5, -0.12, "three positions", ha="center", va="top")
    ax.set(xlim=(0.3, 10.4), ylim=(-0.5, 6.6))
    ax.set_axis_off()
    return figure


def through_depth(panels: Mapping[str, Mapping[str, Tensor]], *, xlabel: str) -> Figure:
    """What was measured (runs, sub-layers) on the way through a deep stack, one logarithmic panel per
    measure, one line with its band per kind of stack.
    """
    figure, axes = plt.subplots(1, len(panels), figsize=(WIDTH, 3.4), squeeze=False)
    for ax, (title, series) in zip(axes[0], panels.items(), strict=True):
        depth = next(iter(series.values())).shape[-1]
        curves(series, range(1, depth + 1), ax=ax, xlabel=xlabel, ylabel="", title=title, log="y")
        ax.title.set_fontsize(11)
        ax.get_legend().remove()
    legend_above(figure, axes[0, 0])
    return figure


def depth_dots(
    panels: Mapping[str, tuple[Sequence[int], Mapping[str, Tensor]]], *, xlabel: str, guessing: float
) -> Figure:
    """Final losses (depths, runs) of stacks, a dot per run, and the line of `guessing`.

    Each panel: title → (the depths, name → losses); a name may have only the first of the depths.
    """
    figure, axes = plt.subplots(1, len(panels), figsize=(WIDTH, 3.4), squeeze=False, sharey=True)
    highest = 1.25 * guessing  # what diverged is drawn at the upper edge
    for ax, (title, (depths, series)) in zip(axes[0], panels.items(), strict=True):
        for k, (name, losses) in enumerate(series.items()):
            at = np.arange(len(losses)) + 0.22 * (k - (len(series) - 1) / 2)
            y = np.minimum(np.nan_to_num(as_array(losses), nan=highest), highest)
            ax.plot(at, y.mean(axis=1), color=COLOURS[k], linewidth=1, alpha=0.6)
            for run in y.T:
                label = name if run is y.T[0] else None
                ax.plot(at, run, "os^D"[k], color=COLOURS[k], markersize=5, alpha=0.8, label=label)
            ax.plot([], [], "os^D"[k], color=COLOURS[k], markersize=5, label=name)
        ax.axhline(guessing, color="black", linestyle="--", linewidth=1)
        ax.set_xticks(range(len(depths)), [str(depth) for depth in depths])
        ax.set(xlabel=xlabel, title=title, ylim=(0, highest * 1.04))
        ax.title.set_fontsize(11)
    axes[0, 0].set_ylabel("final loss")
    axes[0, 0].text(0, guessing + 0.01, "guessing", ha="left", va="bottom", fontsize=9)
    legend_above(figure, axes[0, 0])
    return figure


def pooled_words(lines: Sequence[tuple[str, Sequence[str], Tensor]], *, title: str) -> Figure:
    """Sentences, one a line: (what stands before it, words, weights (words,)); bright words weigh more."""
    longest = max(len(words) for _, words, _ in lines)
    figure, ax = plt.subplots(figsize=(WIDTH, 0.7 + 0.42 * len(lines)))
    for row, (_, words, weights) in enumerate(lines):
        shares = as_array(weights)
        place = (0, len(words), row + 0.42, row - 0.42)
        ax.imshow(shares[None, :], cmap=WEIGHTS, vmin=0, vmax=1, aspect="auto", extent=place)
        size = 10 if longest <= 11 else 8
        for i, (word, share) in enumerate(zip(words, shares, strict=False)):
            colour = "white" if share < 0.5 else "black"
            ax.text(i + 0.5, row, word, ha="center", va="center", fontsize=size, color=colour)
    ax.set_yticks(range(len(lines)), [name for name, _, _ in lines])
    ax.set(xlim=(0, longest), ylim=(len(lines) - 0.5, -0.5), xticks=[], title=title)
    ax.title.set_fontsize(11)
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    return figure
