"""The figures of lesson 01, Dot-product attention."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

from attn.plots.diagrams import value_region
from attn.plots.style import COLOURS, SIGNED, WEIGHTS, WIDTH, as_array


def one_query(
    names: Sequence[str],
    scores: Tensor | np.ndarray,
    weights: Tensor | np.ndarray,
    values: Tensor | np.ndarray,
    output: Tensor | np.ndarray,
) -> Figure:
    """Attention for one query: scores (keys,), weights (keys,), and the output (2,) amid the values
    (keys, 2).
    """
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(WIDTH, 3.2), width_ratios=(2, 2, 4))
    steps = ((left, "1. score", scores, "{:.0f}"), (middle, "2. normalize", weights, "{:.2f}"))
    for ax, title, numbers, form in steps:
        drawn = ax.bar(names, as_array(numbers), color=COLOURS[: len(names)])
        ax.bar_label(drawn, [form.format(x) for x in as_array(numbers)], padding=2)
        ax.tick_params(axis="x", rotation=45)
        ax.set(title=title, xlabel="keys", ylabel=title.split()[1].replace("normalize", "weight"))
        ax.margins(y=0.15)
    middle.set_ylim(0, 1.15)
    corners, point = as_array(values), as_array(output)
    value_region(right, corners, names)
    for i, (at, weight) in enumerate(zip(corners, as_array(weights), strict=True)):
        right.plot(*zip(at, point, strict=True), color=COLOURS[i], linewidth=1 + 7 * weight, alpha=0.5)
    right.scatter(point[0], point[1], marker="*", s=220, color="black", zorder=4)
    right.annotate(
        "output", point, (9, 5), textcoords="offset points", fontweight="bold", ha="left", va="bottom"
    )
    right.set_title("3. weighted sum")
    return figure


def temperature_path(
    temperatures: Tensor | np.ndarray,
    weights: Tensor | np.ndarray,
    values: Tensor | np.ndarray,
    names: Sequence[str],
) -> Figure:
    """Weights (temperatures, keys) of one query, and the way of its output amid the values (keys, 2)."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(WIDTH, 3.4), width_ratios=(1.2, 1))
    at, shares, corners = as_array(temperatures), as_array(weights), as_array(values)
    for i, name in enumerate(names):
        left.plot(at, shares[:, i], color=COLOURS[i], label=name)
    left.axhline(1 / len(names), color="grey", linestyle=":", label="all alike")
    left.set(xscale="log", xlabel="temperature", ylabel="weight", title="weights")
    left.legend()
    value_region(right, corners, names)
    path = shares @ corners
    right.plot(*path.T, color="black", linewidth=1)
    drawn = right.scatter(path[:, 0], path[:, 1], c=np.log10(at), cmap=WEIGHTS, s=25, zorder=4)
    figure.colorbar(drawn, ax=right, label="log₁₀ temperature", shrink=0.7)
    right.set_title("output")
    return figure


def matrix_form(
    query: Tensor | np.ndarray,
    key: Tensor | np.ndarray,
    value: Tensor | np.ndarray,
    weights: Tensor | np.ndarray,
    output: Tensor | np.ndarray,
    *,
    row: int,
) -> Figure:
    """softmax(Q Kᵀ / √d_k) V, every matrix drawn to its shape; one query's row is framed wherever it goes.

    Red is positive and blue negative; weights are bright where they are large.
    """
    upper = {
        "Q": (query, "queries", "d_k"),
        "Kᵀ": (as_array(key).T, "d_k", "keys"),
        "Q Kᵀ": (as_array(query) @ as_array(key).T, "queries", "keys"),
    }
    lower = {
        "weights": (weights, "queries", "keys"),
        "V": (value, "keys", "d_v"),
        "output": (output, "queries", "d_v"),
    }
    figure, ax = plt.subplots(figsize=(WIDTH, 5.6))
    gap, line_height = 3.0, max(len(query), len(value)) + 4.2
    for line, matrices in enumerate((upper, lower)):
        left, middle = 0.0, -line * line_height
        for name, (matrix, down, across) in matrices.items():
            image = as_array(matrix)
            height, width = image.shape
            top = middle + height / 2
            reach = np.abs(image).max()
            lowest, colours = (0, WEIGHTS) if name == "weights" else (-reach, SIGNED)
            extent = (left, left + width, top - height, top)
            ax.imshow(image, cmap=colours, vmin=lowest, vmax=reach, extent=extent)
            ax.text(left + width / 2, top + 0.3, name, ha="center", va="bottom", fontsize=13)
            ax.text(left + width / 2, top - height - 0.3, f"{across} = {width}", ha="center", va="top")
            ax.text(left - 0.3, middle, f"{down} = {height}", ha="right", va="center", rotation=90)
            if down == "queries":
                frame = Rectangle((left, top - row - 1), width, 1, fill=False, edgecolor=COLOURS[1])
                frame.set_linewidth(3)
                ax.add_patch(frame)
            left += width + gap
            if name in ("Q", "weights", "Kᵀ", "V"):
                sign = "@" if name in ("Q", "weights") else "="
                ax.text(left - gap / 2 - 0.45, middle, sign, ha="center", va="center", fontsize=15)
    ax.text(-0.3, -line_height / 2 - 0.1, "softmax along each row of Q Kᵀ / √d_k gives", va="center")
    ax.set(xlim=(-1.6, 2 * gap + query.shape[1] + 2 * len(key) + 0.2), aspect="equal")
    ax.set_ylim(-line_height - len(key) / 2 - 1.4, max(query.shape) / 2 + 1.4)
    ax.set_axis_off()
    return figure
