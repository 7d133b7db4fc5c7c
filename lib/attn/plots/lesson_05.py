"""The figures of lesson 05, Positional encoding."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Circle
from torch import Tensor

from attn.plots.charts import curves
from attn.plots.style import COLOURS, SIGNED, WEIGHTS, WIDTH, as_array


def sentence_vectors(panels: Mapping[str, tuple[Sequence[str], Tensor]]) -> Figure:
    """Title → (words, their vectors (words, features)), side by side on one colour scale: red is positive."""
    figure, axes = plt.subplots(
        1, len(panels), figsize=(WIDTH, 1.5 + 0.33 * max(len(words) for words, _ in panels.values()))
    )
    reach = max(np.abs(as_array(vectors)).max() for _, vectors in panels.values())
    for ax, (title, (words, vectors)) in zip(np.atleast_1d(axes), panels.items(), strict=True):
        ax.imshow(as_array(vectors), cmap=SIGNED, vmin=-reach, vmax=reach, aspect="auto")
        ax.set_yticks(range(len(words)), words)
        ax.set(xticks=[], xlabel="features")
        ax.set_title(title, fontsize=10)
        ax.tick_params(length=0)
        ax.spines[:].set_visible(False)
    return figure


def position_codes(codes: Tensor, features: Sequence[int]) -> Figure:
    """Left: the table of codes (positions, d_model). Right: some of its columns as curves over the positions;
    the columns are marked above the table.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(WIDTH, 3.8), width_ratios=(1, 1.1))
    table = as_array(codes)
    drawn = left.imshow(table, cmap=SIGNED, vmin=-1, vmax=1, aspect="auto", interpolation="nearest")
    figure.colorbar(drawn, ax=left, location="bottom", shrink=0.7, ticks=[-1, 0, 1])
    left.set(xlabel="feature", ylabel="position p")
    for line, feature in enumerate(features):
        colour = COLOURS[line % len(COLOURS)]
        left.annotate("▼", (feature, -0.5), color=colour, ha="center", va="bottom", annotation_clip=False)
        middle = -2.6 * line
        right.plot(table[:, feature] + middle, color=colour)
        right.axhline(middle, color="grey", linewidth=0.5)
        kind = "cos" if feature % 2 else "sin"
        right.text(
            len(table) + 1, middle, f"feature {feature}\n({kind})", color=colour, va="center", fontsize=10
        )
    right.set(xlabel="position p", yticks=[], xlim=(0, len(table) - 1))
    right.spines["left"].set_visible(False)
    return figure


def clocks(position: int, codes: Tensor, titles: Sequence[str]) -> Figure:
    """One clock per pair of features of `codes` (positions, 2 · pairs): the hand's tip is (sine, cosine), so
    it starts at the top and turns clockwise. The hand of `position` is black, those before it are dots.
    """
    figure, axes = plt.subplots(1, len(titles), figsize=(WIDTH, 2.5), squeeze=False)
    table = as_array(codes)
    for i, (ax, title) in enumerate(zip(axes[0], titles, strict=True)):
        ax.add_patch(Circle((0, 0), 1, facecolor="none", edgecolor="grey"))
        x, y = table[:, 2 * i], table[:, 2 * i + 1]
        ax.scatter(x[:position], y[:position], s=18, color=COLOURS[5], zorder=2)
        ax.plot([0, x[position]], [0, y[position]], color="black", linewidth=2.5, zorder=3)
        ax.plot(x[position], y[position], "o", color=COLOURS[1], markersize=8, zorder=4)
        ax.set(xlim=(-1.15, 1.15), ylim=(-1.15, 1.15), aspect="equal", xticks=[], yticks=[])
        ax.spines[:].set_visible(False)
        ax.set_title(title, fontsize=10)
        ax.set_xlabel(f"({x[position]:.2f}, {y[position]:.2f})", fontsize=10)
    figure.suptitle(f"position {position}", fontsize=12)
    return figure


def code_products(products: Tensor, by_distance: Mapping[str, Tensor]) -> Figure:
    """Left: dot products (positions, positions) of all codes. Right: dot product against distance, one curve
    per name.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(WIDTH, 3.3), width_ratios=(1, 1.3))
    image = as_array(products)
    drawn = left.imshow(image, cmap=WEIGHTS)
    figure.colorbar(drawn, ax=left, location="bottom", shrink=0.8, label="dot product")
    left.set(xlabel="position q", ylabel="position p")
    curves(by_distance, ax=right, xlabel="distance |p - q|", ylabel="dot product")
    right.axhline(0, color="grey", linewidth=0.5)
    return figure


def turned_positions(
    before: Tensor, after: Tensor, titles: Sequence[str], names: Sequence[tuple[str, str]]
) -> Figure:
    """Codes (positions, 2 · pairs) before and after a shift, one circle per pair: every arrow of a circle
    turns by the same angle. `names`: of each position, before and after.
    """
    figure, axes = plt.subplots(1, len(titles), figsize=(WIDTH, 2.9), squeeze=False)
    start, end = as_array(before), as_array(after)
    for i, (ax, title) in enumerate(zip(axes[0], titles, strict=True)):
        ax.add_patch(Circle((0, 0), 1, facecolor="none", edgecolor="lightgrey"))
        for p, (old, new) in enumerate(names):
            colour, radius = COLOURS[p], 1 - 0.17 * p
            angles = [np.arctan2(*table[p, 2 * i : 2 * i + 2]) for table in (start, end)]
            turn = (angles[1] - angles[0]) % (2 * np.pi)
            way = np.linspace(angles[0], angles[0] + turn, 40)
            ax.plot(radius * np.sin(way), radius * np.cos(way), color=colour, linewidth=2)
            for name, at in ((old, way[0]), (new, way[-1])):
                ax.plot([0, radius * np.sin(at)], [0, radius * np.cos(at)], color=colour, linewidth=0.6)
                ax.plot(radius * np.sin(at), radius * np.cos(at), "o", color=colour, markersize=7)
                ax.text(1.24 * np.sin(at), 1.24 * np.cos(at), name, color=colour, ha="center", va="center")
        ax.set(xlim=(-1.4, 1.4), ylim=(-1.4, 1.4), aspect="equal", xticks=[], yticks=[])
        ax.spines[:].set_visible(False)
        ax.set_title(title, fontsize=10)
        ax.set(xlabel="sine", ylabel="cosine" if i == 0 else "")
    return figure


def linear_biases(slopes: Tensor, distances: int) -> Figure:
    """What ALiBi makes of equal scores. Left: the penalty of each head. Right: the weights of one query, the
    last, on the keys before it.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(WIDTH, 3.2))
    distance = np.arange(distances)
    for i, slope in enumerate(as_array(slopes)):
        weights = np.exp(-slope * distance)
        name = f"1/{round(1 / slope)}"
        left.plot(distance, -slope * distance, color=COLOURS[i % len(COLOURS)], label=name)
        right.plot(distance, weights / weights.sum(), color=COLOURS[i % len(COLOURS)], label=name)
    left.set(xlabel="distance to the key", ylabel="added to the score", title="penalty")
    right.set(xlabel="distance to the key", ylabel="weight", title="weights, if all scores are equal")
    for ax in (left, right):
        ax.title.set_fontsize(11)
    right.legend(title="slope of the head")
    return figure
