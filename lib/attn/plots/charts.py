"""Charts: curves with bands, and bars, of what was counted or measured over seeds."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

from attn.plots.style import COLOURS, WIDTH, as_array


def curves(
    series: Mapping[str, Tensor | np.ndarray | Sequence[Any]],
    x: Sequence[float] | Tensor | None = None,
    *,
    ax: Axes | None = None,
    xlabel: str,
    ylabel: str,
    title: str | None = None,
    log: str = "",
) -> Figure:
    """One line per name. A series of shape (seeds, points) is drawn as its mean with a band from lowest to
    highest.

    `log` names the logarithmic axes: "", "x", "y" or "xy".
    """
    if ax is None:
        _, ax = plt.subplots(figsize=(WIDTH, 3.6))
    for name, values in series.items():
        y = np.atleast_2d(as_array(values))
        at = np.arange(y.shape[1]) if x is None else as_array(x)
        (line,) = ax.plot(at, y.mean(axis=0), label=name)
        if len(y) > 1:
            ax.fill_between(at, y.min(axis=0), y.max(axis=0), color=line.get_color(), alpha=0.2, linewidth=0)
    ax.set(xlabel=xlabel, ylabel=ylabel)
    if title:
        ax.set_title(title)
    if "x" in log:
        ax.set_xscale("log", base=2)
    if "y" in log:
        ax.set_yscale("log")
    if len(series) > 1:
        ax.legend()
    return ax.get_figure()  # type: ignore[return-value]


def legend_above(figure: Figure, ax: Axes) -> None:
    """One legend over the whole figure, of what is drawn on `ax`."""
    handles, labels = ax.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(labels))


def curve_panels(
    panels: Mapping[str, Mapping[str, Tensor | np.ndarray | Sequence[Any]]],
    x: Sequence[float],
    *,
    xlabel: str,
    log: Mapping[str, str] | None = None,
) -> Figure:
    """`curves` side by side, one panel per title, with one legend above. `log` names the logarithmic axes of
    a panel by its title.
    """
    figure, axes = plt.subplots(1, len(panels), figsize=(WIDTH, 3.1), squeeze=False)
    for ax, (title, series) in zip(axes[0], panels.items(), strict=True):
        curves(series, x, ax=ax, xlabel=xlabel, ylabel="", title=title, log=(log or {}).get(title, ""))
        ax.set_xticks(x, [f"{at:g}" for at in x], rotation=45)
        ax.minorticks_off()
        for line in ax.lines:
            line.set_marker("o")
        if legend := ax.get_legend():
            legend.remove()
        ax.title.set_fontsize(11)
    legend_above(figure, axes[0, 0])
    return figure


def answers_by_position(
    shares: Mapping[str, Mapping[str, Tensor]], trained: int, *, columns: int = 3
) -> Figure:
    """Method → question → share of right answers (seeds, positions), one panel per method, with a band from
    the worst seed to the best. A dotted line ends what training saw, positions 0 .. trained - 1.
    """
    rows = -(-len(shares) // columns)
    figure, axes = plt.subplots(
        rows, columns, figsize=(WIDTH, 2.2 * rows + 0.5), sharex=True, sharey=True, squeeze=False
    )
    for ax, (method, series) in zip(axes.flat, shares.items(), strict=True):
        for i, values in enumerate(series.values()):
            y = as_array(values)
            colour = COLOURS[i]
            at = np.arange(y.shape[1])
            ax.plot(at, y.mean(axis=0), color=colour)
            ax.fill_between(at, y.min(axis=0), y.max(axis=0), color=colour, alpha=0.2, linewidth=0)
        ax.axvline(trained - 0.5, color="black", linestyle=":", linewidth=1)
        ax.set(ylim=(0, 1.05))
        ax.set_title(method, fontsize=11)
        ax.label_outer()
    for ax in axes[-1]:
        ax.set_xlabel("position")
    for ax in axes[:, 0]:
        ax.set_ylabel("right answers")
    names = next(iter(shares.values()))
    handles = [Rectangle((0, 0), 1, 1, color=COLOURS[i]) for i in range(len(names))]
    figure.legend(handles, list(names), loc="outside upper center", ncols=len(names))
    return figure


def bars(
    values: Mapping[str, float],
    *,
    ax: Axes | None = None,
    xlabel: str,
    title: str | None = None,
    form: str = "{:.2f}",
) -> Figure:
    """Horizontal bars with their values written beside them."""
    if ax is None:
        _, ax = plt.subplots(figsize=(WIDTH, 0.8 + 0.4 * len(values)))
    drawn = ax.barh(list(values), list(values.values()), color=COLOURS[0])
    ax.bar_label(drawn, [form.format(v) for v in values.values()], padding=3)
    ax.invert_yaxis()
    ax.set(xlabel=xlabel)
    if title:
        ax.set_title(title)
    return ax.get_figure()  # type: ignore[return-value]


def bar_panels(panels: Mapping[str, Mapping[str, float]], *, xlabel: str, form: str = "{:.1f}") -> Figure:
    """`bars` under one another on one axis, one panel per title."""
    sizes = [len(values) for values in panels.values()]
    figure, axes = plt.subplots(
        len(panels),
        1,
        figsize=(WIDTH, 0.9 + 0.75 * sum(sizes)),
        height_ratios=sizes,
        sharex=True,
        squeeze=False,
    )
    for ax, (title, values) in zip(axes[:, 0], panels.items(), strict=True):
        bars(values, ax=ax, xlabel=xlabel, title=title, form=form)
        ax.label_outer()
        ax.margins(x=0.12)
    return figure


def seed_bars(
    panels: Mapping[str, Mapping[str, Tensor]],
    *,
    xlabel: str,
    limit: float | None = None,
    chance: Mapping[str, float] | None = None,
) -> Figure:
    """Results (seeds,) of several contestants, one panel per title side by side: the mean as a bar, every
    seed as a dot. `chance`: title → where to draw a dotted line.
    """
    rows = max(map(len, panels.values()))
    figure, axes = plt.subplots(
        1, len(panels), figsize=(WIDTH, 1.1 + 0.3 * rows), sharey=True, sharex=True, squeeze=False
    )
    for ax, (title, results) in zip(axes[0], panels.items(), strict=True):
        for i, (name, values) in enumerate(results.items()):
            dots = np.atleast_1d(as_array(values))
            colour = COLOURS[i % len(COLOURS)]
            ax.barh(name, dots.mean(), color=colour, alpha=0.5)
            ax.plot(dots, [name] * len(dots), "o", color=colour, markersize=3.5, clip_on=False)
        if chance and title in chance:
            ax.axvline(chance[title], color="black", linestyle=":")
        ax.set_title(title, fontsize=10)
    largest = max(float(values.max()) for results in panels.values() for values in results.values())
    axes[0, 0].set_xlim(0, 1.08 * largest if limit is None else limit)
    axes[0, 0].invert_yaxis()
    figure.supxlabel(xlabel, fontsize=11)
    return figure


def model_scores(
    scores: Mapping[str, Mapping[str, Tensor]], *, ylabel: str, guessing: float | None = None
) -> Figure:
    """Scores (seeds,) by measure and model: a bar for the mean and a dot for each seed."""
    figure, ax = plt.subplots(figsize=(WIDTH, 3.4))
    for i, by_model in enumerate(scores.values()):
        width = 0.8 / len(by_model)
        for k, (name, values) in enumerate(by_model.items()):
            at = i + width * (k - (len(by_model) - 1) / 2)
            label = name if i == 0 else None
            ax.bar(at, float(values.mean()), width=0.9 * width, color=COLOURS[k], alpha=0.4, label=label)
            ax.scatter([at] * len(values), as_array(values), color=COLOURS[k], s=16, zorder=3, clip_on=False)
    if guessing is not None:
        ax.axhline(guessing, color="black", linestyle="--", linewidth=1)
    ax.set_xticks(range(len(scores)), list(scores))
    ax.set(ylabel=ylabel, ylim=(0, 1))
    figure.legend(loc="outside upper center", ncols=4)
    return figure
