"""Diagrams: boxes and arrows, and what several drawings share."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from attn.plots.style import COLOURS, WIDTH


def box(
    ax: Axes,
    left: float,
    bottom: float,
    width: float,
    height: float,
    text: str = "",
    *,
    ink: str = "black",
    **style: Any,
) -> None:
    """A box with a text in its middle. `style` goes to matplotlib's Rectangle: facecolor, linewidth, ..."""
    style = {"facecolor": "white", "edgecolor": "black"} | style
    ax.add_patch(Rectangle((left, bottom), width, height, **style))
    if text:
        x, y = left + width / 2, bottom + height / 2
        ax.text(x, y, text, ha="center", va="center", color=ink, fontsize=10)


def arrow(
    ax: Axes, *points: tuple[float, float], colour: str = "black", width: float = 1.2, zorder: float = 3
) -> None:
    """An arrow through two points or more, with its head on the last one."""
    if len(points) > 2:
        ax.plot(*zip(*points[:-1], strict=True), color=colour, linewidth=width)
    style = {"arrowstyle": "-|>", "color": colour, "linewidth": width, "shrinkA": 0, "shrinkB": 0}
    ax.annotate("", points[-1], points[-2], arrowprops=style, zorder=zorder)


def value_region(ax: Axes, values: np.ndarray, names: Sequence[str]) -> None:
    """Values (keys, 2) as the corners of the region that a weighted mean cannot leave."""
    ax.fill(*values.T, facecolor=COLOURS[5], alpha=0.15, edgecolor=COLOURS[5])
    middle = values.mean(axis=0)
    for i, (name, at) in enumerate(zip(names, values, strict=True)):
        ax.scatter(at[0], at[1], s=70, color=COLOURS[i], zorder=3)
        away = "center", "bottom" if at[1] > middle[1] else "top"
        ax.annotate(
            name, at, (0, 8 if at[1] > middle[1] else -8), textcoords="offset points", ha=away[0], va=away[1]
        )
    ax.set(xlabel="value, 1st number", ylabel="value, 2nd number", aspect="equal")
    ax.margins(0.22)


def course_map(names: Mapping[int, str], needs: Mapping[int, Sequence[int]]) -> Figure:
    """The lessons as boxes, lesson number → name, with an arrow from each lesson to those that need it.

    A lesson stands one column right of the last one that it needs.
    """
    column: dict[int, int] = {}
    for lesson in sorted(names):
        column[lesson] = 1 + max((column[before] for before in needs.get(lesson, ())), default=-1)
    place: dict[int, tuple[float, float]] = {}
    for x in range(max(column.values()) + 1):
        height = {  # as high as what leads to it, so that few arrows cross
            lesson: np.mean([place[before][1] for before in needs.get(lesson, ())] or [0.0])
            for lesson in sorted(names)
            if column[lesson] == x
        }
        for i, lesson in enumerate(sorted(height, key=lambda lesson: -height[lesson])):
            place[lesson] = (1.62 * x, (len(height) - 1) / 2 - i)
    figure, ax = plt.subplots(figsize=(WIDTH, 2.7), layout="none")
    figure.subplots_adjust(0, 0, 1, 1)
    for before, after in ((b, a) for a in names for b in needs.get(a, ())):
        (x1, y1), (x2, y2) = place[before], place[after]
        arrow(ax, (x1 + 0.62, y1), (x2 - 0.62, y2), colour="grey", width=1, zorder=1)
    for number, name in names.items():
        left, middle = place[number][0] - 0.62, place[number][1]
        box(ax, left, middle - 0.34, 1.24, 0.68, edgecolor=COLOURS[0], zorder=2)
        centred: dict[str, Any] = {"ha": "center", "va": "center"}
        ax.text(left + 0.62, middle + 0.17, f"{number:02}", fontweight="bold", fontsize=9, **centred)
        ax.text(left + 0.62, middle - 0.12, name, fontsize=8, linespacing=1, **centred)
    ax.set(xlim=(-0.7, 1.62 * max(column.values()) + 0.7))
    ax.margins(y=0.1)
    ax.set_axis_off()
    return figure
