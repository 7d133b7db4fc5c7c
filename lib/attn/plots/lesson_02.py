"""The figures of lesson 02, Kinds of attention."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

from attn.plots.charts import legend_above
from attn.plots.style import COLOURS, WEIGHTS, WIDTH, as_array


def score_surfaces(
    surfaces: Mapping[str, Tensor], query: Sequence[float], *, reach: float, columns: int = 3
) -> Figure:
    """The score of every key in the plane for one query: title → scores (rows, columns), the rows from the
    lowest second coordinate up. Both coordinates go from -reach to reach. Each panel has its own colours.
    """
    rows = -(-len(surfaces) // columns)
    figure, axes = plt.subplots(
        rows, columns, figsize=(WIDTH, 0.3 + 2.25 * rows), sharex=True, sharey=True, squeeze=False
    )
    for ax in axes.flat[len(surfaces) :]:
        ax.set_visible(False)
    for ax, (title, scores) in zip(axes.flat, surfaces.items(), strict=False):
        at = np.linspace(-reach, reach, scores.shape[-1])
        ax.contourf(at, at, as_array(scores), levels=24, cmap=WEIGHTS)
        ax.contour(at, at, as_array(scores), levels=8, colors="white", linewidths=0.5, linestyles="-")
        ax.plot([0, query[0]], [0, query[1]], color=COLOURS[1], linewidth=2)
        ax.plot(*query, "o", color=COLOURS[1], markersize=7, markeredgecolor="white")
        ax.set_title(title, fontsize=11)
        ax.set_aspect("equal")
    figure.supxlabel("key, first coordinate", fontsize=11)
    figure.supylabel("key, second coordinate", fontsize=11)
    return figure


def gradient_estimates(
    exact: Tensor,
    estimates: Mapping[str, tuple[Tensor, Tensor]],
    draws: Sequence[int],
    errors: Mapping[str, Sequence[float]],
) -> Figure:
    """Left: a gradient (entries,) beside its estimates, name → (mean, standard error), with bars of two
    standard errors. Right: the error of the mean, by the number of draws.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(WIDTH, 3.4), width_ratios=(1.3, 1))
    entries = np.arange(len(exact))
    left.bar(entries, as_array(exact), width=0.8, color="#dddddd", label="exact")
    for i, (name, (mean, error)) in enumerate(estimates.items()):
        left.errorbar(
            entries + 0.22 * (i - (len(estimates) - 1) / 2),
            as_array(mean),
            yerr=2 * as_array(error),
            fmt="o",
            markersize=4,
            capsize=3,
            color=COLOURS[i],
            label=name,
        )
    left.axhline(0, color="black", linewidth=0.8)
    left.set_xticks(entries, [str(i + 1) for i in entries])
    left.set(xlabel="keys", ylabel="gradient of the score")
    left.legend(fontsize=9)
    for i, name in enumerate(errors):
        right.plot(draws, errors[name], "o-", color=COLOURS[i + 1], label=name)
    right.set(xlabel="draws", ylabel="error of the mean", xscale="log", yscale="log")
    right.yaxis.set_minor_formatter("")
    return figure


def glimpse_paths(
    canvases: Tensor, corners: Tensor, titles: Sequence[str], *, size: int, columns: int = 4
) -> Figure:
    """Looks over images (images, rows, columns): a square for each look, in order, at corners (images, looks,
    2), row and column of the upper left pixel. Later looks have thicker lines.
    """
    rows = -(-len(canvases) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(WIDTH, 0.3 + 1.95 * rows), squeeze=False)
    for ax in axes.flat[len(canvases) :]:
        ax.set_visible(False)
    for ax, canvas, looks, title in zip(axes.flat, canvases, corners, titles, strict=False):
        ax.imshow(as_array(canvas), cmap="gray_r", vmin=0, vmax=1.4)
        centres = as_array(looks) + (size - 1) / 2
        ax.plot(centres[:, 1], centres[:, 0], color="grey", linewidth=1)
        for i, (row, column) in enumerate(looks.tolist()):
            inset = 0.35 * i  # looks at one place stay visible
            ax.add_patch(
                Rectangle(
                    (column - 0.5 + inset, row - 0.5 + inset),
                    size - 2 * inset,
                    size - 2 * inset,
                    fill=False,
                    edgecolor=COLOURS[i],
                    linewidth=1.5 + 0.7 * i,
                )
            )
            ax.plot(centres[i, 1], centres[i, 0], "o", color=COLOURS[i], markersize=4 + i)
        ax.set(xticks=[], yticks=[])
        ax.set_title(title, fontsize=10)
    handles = [Rectangle((0, 0), 1, 1, fill=False, edgecolor=COLOURS[i]) for i in range(corners.shape[1])]
    names = [f"look {i + 1}" for i in range(corners.shape[1])]
    figure.legend(handles, names, loc="outside lower center", ncols=len(names))
    return figure


def learned_centres(worlds: Mapping[str, tuple[Tensor, Tensor]], *, reach: float) -> Figure:
    """Where each query looks: title → (centres (seeds, queries), relevant places (queries,)). The band goes
    `reach` to both sides of the first seed's centres; the dashed line is local-m's centre, the diagonal.
    """
    figure, axes = plt.subplots(1, len(worlds), figsize=(WIDTH, 2.9), sharey=True, squeeze=False)
    for ax, (title, (centres, places)) in zip(axes[0], worlds.items(), strict=True):
        lines, at = as_array(centres), np.arange(len(places))
        ax.fill_between(
            at, lines[0] - reach, lines[0] + reach, color=COLOURS[0], alpha=0.2, linewidth=0, label="window"
        )
        for i, line in enumerate(lines):
            ax.plot(at, line, color=COLOURS[0], linewidth=1, label="learned centre" if i == 0 else None)
        ax.plot(at, as_array(places), "o", color=COLOURS[1], markersize=3, label="relevant place")
        ax.plot(at, at, color="black", linestyle="--", linewidth=1, label="diagonal")
        ax.set(xlabel="queries", ylim=(-2, len(places) + 1))
        ax.set_title(title, fontsize=11)
    axes[0, 0].set_ylabel("keys")
    legend_above(figure, axes[0, 0])
    return figure


def window_on_a_line(
    content: Tensor, bell: Tensor, weights: Tensor, *, centre: float, reach: float, wanted: int
) -> Figure:
    """Local attention over one line of keys, (keys,) each: softmax of all the scores; the window with its
    bell; the weights that result. `wanted` is the key that the query is after.
    """
    figure, axes = plt.subplots(3, 1, figsize=(WIDTH, 4.2), sharex=True)
    keys = np.arange(len(content))
    panels = {"softmax over all keys": content, "window and bell": bell, "local weights": weights}
    for ax, (title, heights) in zip(axes, panels.items(), strict=True):
        ax.axvspan(centre - reach, centre + reach, color=COLOURS[4], alpha=0.2, linewidth=0)
        colours = [COLOURS[1] if key == wanted else COLOURS[0] for key in keys]
        ax.bar(keys, as_array(heights), color="grey" if title.startswith("window") else colours)
        ax.set_title(title, fontsize=11)
        ax.set(ylim=(0, 1.05), xlim=(-0.7, len(keys) - 0.3), ylabel="weight")
    axes[1].set_ylabel("factor")
    axes[2].set_xlabel("keys")
    return figure
