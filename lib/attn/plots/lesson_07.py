"""The figures of lesson 07, Attention and RNNs."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter
from torch import Tensor

from attn.plots.charts import legend_above
from attn.plots.diagrams import arrow, box
from attn.plots.style import COLOURS, WIDTH, as_array

# One colour for one model, in every figure of the lesson.
_HUES = {
    "attention": COLOURS[0],
    "LSTM": COLOURS[1],
    "GRU": COLOURS[2],
    "LSTM both ways": COLOURS[3],
    "plain RNN": COLOURS[4],
    "linear recurrence": COLOURS[5],
    "Transformer": COLOURS[5],
    "fixed vector": COLOURS[3],
}


def _hue(name: str) -> str:
    """The colour of the model whose name `name` begins with: the longest that fits; black for others."""
    fitting = [model for model in _HUES if name.startswith(model)]
    return _HUES[max(fitting, key=len)] if fitting else "black"


def unrolled(words: Sequence[str]) -> Figure:
    """A recurrent network twice: with its loop, and unrolled in time over `words`."""
    figure, (left, right) = plt.subplots(
        1, 2, figsize=(WIDTH, 2.5), width_ratios=(1, 1.2 * len(words)), layout="none"
    )
    figure.subplots_adjust(0, 0, 1, 1, wspace=0)
    box(left, -0.4, -0.25, 0.8, 0.5, "RNN", facecolor="#cfe3f2")
    arrow(left, (0, -0.9), (0, -0.25))
    arrow(left, (0, 0.25), (0, 0.9))
    arrow(left, (0.4, 0), (0.75, 0), (0.75, 0.55), (-0.7, 0.55), (-0.7, 0), (-0.4, 0), colour=COLOURS[1])
    for y, name in ((-1.1, "$x_t$"), (1.1, "$h_t$")):
        left.text(0, y, name, ha="center", va="center")
    left.text(-0.15, 0.62, "$h_{t-1}$", color=COLOURS[1], ha="right", va="bottom", fontsize=10)
    for t, word in enumerate(words):
        box(right, 1.6 * t - 0.4, -0.25, 0.8, 0.5, "RNN", facecolor="#cfe3f2")
        arrow(right, (1.6 * t, -0.9), (1.6 * t, -0.25))
        arrow(right, (1.6 * t, 0.25), (1.6 * t, 0.9))
        right.text(1.6 * t, -1.15, f"{word}\n$x_{t + 1}$", ha="center", va="center", linespacing=1.3)
        right.text(1.6 * t, 1.1, f"$h_{t + 1}$", ha="center", va="center")
        arrow(right, (1.6 * t - 1.2, 0), (1.6 * t - 0.4, 0), colour=COLOURS[1], width=2)
    right.text(-1.3, 0, "$h_0$", ha="right", va="center", color=COLOURS[1])
    left.set(xlim=(-1.1, 1.1), ylim=(-1.6, 1.4))
    right.set(xlim=(-1.8, 1.6 * len(words) - 0.9), ylim=(-1.6, 1.4))
    for ax in (left, right):
        ax.set_axis_off()
    return figure


def who_waits(length: int) -> Figure:
    """What the last output waits for: a chain through all states, one step of attention, a scan's tree."""
    figure, axes = plt.subplots(1, 3, figsize=(WIDTH, 3.0), sharey=True)
    at = list(range(length))
    rounds = int(np.ceil(np.log2(length)))
    chain, star, tree = axes
    for ax, title in (
        (chain, f"RNN: {length} steps"),
        (star, "attention: 1 step"),
        (tree, f"scan: {rounds} steps"),
    ):
        ax.scatter(at, [0] * length, s=45, color="grey", zorder=3)
        ax.set_title(title, fontsize=11)
        ax.set(xlim=(-0.7, length - 0.3), ylim=(-0.08 * length, 1.08 * length), xlabel="position")
        ax.set(xticks=at, xticklabels=[t + 1 for t in at], yticks=range(length + 1))
    orange, blue, green = (_hue(name) for name in ("plain RNN", "attention", "linear recurrence"))
    chain.set_ylabel("steps waited")
    for t in at:
        arrow(chain, (t, 0), (t, t + 1), colour="lightgrey", width=1, zorder=1)
        if t:
            arrow(chain, (t - 1, t), (t, t + 1), colour=orange, width=1.5, zorder=2)
        arrow(star, (t, 0), (length - 1, 1), colour=blue, width=1.2, zorder=2)
        star.scatter(t, 1, s=45, color=blue, zorder=3)
    chain.scatter(at, [t + 1 for t in at], s=45, color=orange, zorder=3)
    needed = {length - 1}
    for level in range(rounds, 0, -1):
        tree.scatter(at, [level] * length, s=45, color=green, zorder=3)
        below = set()
        for t in needed:
            for source in (t, t - 2 ** (level - 1)):
                if source >= 0:
                    arrow(tree, (source, level - 1), (t, level), colour=green, width=1.2, zorder=2)
                    below.add(source)
        needed = below
    return figure


def steps_and_times(
    steps: Mapping[str, tuple[Sequence[int], Sequence[float]]],
    *,
    xlabel: str = "length",
    ylabel: str = "longest chain of operations",
) -> Figure:
    """Name → (lengths, numbers), on two logarithmic axes, a dot per length."""
    figure, ax = plt.subplots(figsize=(WIDTH, 3.4))
    for k, (name, (lengths, numbers)) in enumerate(steps.items()):
        line = "o^sDv"[k % 5] + "-" if name.startswith(tuple(_HUES)) else ":"
        ax.plot(lengths, numbers, line, color=_hue(name), label=name, markersize=5)
    ax.set_xscale("log", base=2)
    ax.set_yscale("log", base=10)
    ax.yaxis.set_major_locator(LogLocator(10, subs=(1, 2, 5)))
    ax.yaxis.set_major_formatter("{x:g}")
    ax.yaxis.set_minor_formatter(NullFormatter())
    ax.set(xlabel=xlabel, ylabel=ylabel)
    ticks = sorted({n for lengths, _ in steps.values() for n in lengths})
    ax.set_xticks(ticks, [str(n) for n in ticks])
    legend_above(figure, ax)
    return figure


def recall_example(key: Tensor, value: Tensor, keys: Sequence[str], values: Sequence[str]) -> Figure:
    """Sequences of the recall task (rows, length): facts are coloured, the one asked for has a frame."""
    figure, ax = plt.subplots(figsize=(WIDTH, 0.7 + 0.5 * len(key)))
    for row, (ks, vs) in enumerate(zip(key.tolist(), value.tolist(), strict=True)):
        for t, (k, v) in enumerate(zip(ks, vs, strict=True)):
            asked = t < len(ks) - 1 and k == ks[-1]
            question = t == len(ks) - 1
            text = f"{keys[k]}?" if question else f"{keys[k]}\n{values[v]}" if k else values[v]
            colour = "#f7d9c4" if question else "#cfe3f2" if k else "#f4f4f4"
            edge = {"edgecolor": COLOURS[1], "linewidth": 2, "zorder": 3} if asked else {"edgecolor": "white"}
            box(ax, t, -row, 0.94, 0.86, facecolor=colour, **edge)
            ax.text(
                t + 0.47, 0.43 - row, text, ha="center", va="center", fontsize=8.5, linespacing=1.1, zorder=4,
                color="black" if k else "grey",
            )  # fmt: skip
    ax.set(xlim=(-0.05, key.size(1)), ylim=(0.93 - len(key), 0.93))
    ax.set_xticks(np.arange(key.size(1)) + 0.47, key.size(1) - 1 - np.arange(key.size(1)))
    ax.set(yticks=[], xlabel="steps to the question")
    ax.spines[:].set_visible(False)
    ax.tick_params(length=0)
    return figure


def recall_curves(
    series: Mapping[str, Tensor],
    x: Sequence[float],
    *,
    xlabel: str,
    guessing: float,
    trained_to: int | None = None,
    ylabel: str = "share of right answers",
) -> Figure:
    """Accuracies (seeds, x) by name: mean and band of the seeds. What lies beyond `trained_to` is shaded.

    A name that begins with "control" is drawn dotted. Lines drawn first are wider, to be seen under others.
    """
    figure, ax = plt.subplots(figsize=(WIDTH, 3.8))
    for k, (name, values) in enumerate(series.items()):
        y = np.atleast_2d(as_array(values))
        control = name.startswith("control")
        colour, line = _hue(name), (":" if name.endswith("alue") else "--") if control else "-"
        width = 1.5 if control else max(1.5, 3.5 - 0.5 * k)
        ax.plot(x, y.mean(axis=0), line, marker="o", markersize=4, linewidth=width, color=colour, label=name)
        ax.fill_between(x, y.min(axis=0), y.max(axis=0), alpha=0.2, linewidth=0, color=colour)
    ax.axhline(guessing, color="black", linestyle="--", linewidth=1)
    ax.text(x[0], guessing - 0.02, "guessing", fontsize=9, va="top")
    ax.set_xscale("log", base=2)
    ax.set_xticks(x, [f"{n:g}" for n in x])
    ax.set(xlabel=xlabel, ylabel=ylabel, ylim=(0, 1.04))
    if trained_to is not None:
        ax.axvspan(trained_to * 2**0.5, x[-1] * 1.3, color="grey", alpha=0.12)
        ax.text(trained_to * 1.6, 0.03, "farther than in training", fontsize=9)
    handles, labels = ax.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=3)
    return figure


def gradient_reach(
    panels: Mapping[str, Mapping[str, Tensor]], distances: Sequence[int], *, lowest: float = 1e-12
) -> Figure:
    """Title → name → gradient norms (seeds, distances), side by side on two logarithmic axes.

    Norms below `lowest` are drawn at the lower edge.
    """
    figure, axes = plt.subplots(1, len(panels), figsize=(WIDTH, 3.8), sharey=True, squeeze=False)
    for ax, (title, series) in zip(axes[0], panels.items(), strict=True):
        for name, values in series.items():
            y = as_array(values).clip(min=lowest)
            ax.plot(distances, y.mean(axis=0), color=_hue(name), label=name)
            ax.fill_between(distances, y.min(0), y.max(0), color=_hue(name), alpha=0.2, linewidth=0)
        ax.set_xscale("log", base=2)
        ax.set_yscale("log")
        ax.set(xlabel="distance to the question")
        ax.set_title(title, fontsize=11)
        ax.set_xticks(distances, [str(d) for d in distances])
    highest = max(as_array(values).max() for series in panels.values() for values in series.values())
    axes[0, 0].set_ylim(lowest, 3 * highest)
    axes[0, 0].set_ylabel("norm of the gradient at the fact")
    legend_above(figure, axes[0, 0])
    return figure


def bottleneck() -> Figure:
    """Two encoder-decoders: all of the source through one fixed vector, and attention over all states."""
    figure, axes = plt.subplots(2, 1, figsize=(WIDTH, 4.4), height_ratios=(1.7, 2.7), layout="none")
    figure.subplots_adjust(0, 0, 1, 0.95, hspace=0.12)
    source, target = ["forty", "two"], ["zwei", "und", "vierzig"]
    for ax, title in zip(axes, ("one fixed vector", "attention (Bahdanau et al. 2015)"), strict=True):
        attentive = "attention" in title
        for t, word in enumerate(source):
            box(ax, 1.5 * t, 0, 0.9, 0.5, f"$h_{t + 1}$", facecolor="#cfe3f2")
            ax.text(1.5 * t + 0.45, 0.95, word, ha="center", va="center")
            arrow(ax, (1.5 * t + 0.45, 0.78), (1.5 * t + 0.45, 0.5))
        arrow(ax, (0.9, 0.32), (1.5, 0.32))
        arrow(ax, (1.5, 0.18), (0.9, 0.18))
        for i, word in enumerate(target):
            left = 5.2 + 1.5 * i
            box(ax, left, 0, 0.9, 0.5, f"$s_{i + 1}$", facecolor="#f7d9c4")
            ax.text(left + 0.45, 0.95, word, ha="center", va="center")
            arrow(ax, (left + 0.45, 0.5), (left + 0.45, 0.78))
            if i:
                arrow(ax, (left - 0.6, 0.25), (left, 0.25))
        if attentive:
            weights = [[0.15, 1], [0.35, 0.3], [1, 0.15]]
            for i, row in enumerate(weights):
                for k, weight in enumerate(row):
                    style = {
                        "arrowstyle": "-|>",
                        "color": COLOURS[2],
                        "linewidth": 0.5 + 2.5 * weight,
                        "alpha": 0.35 + 0.65 * weight,
                        "connectionstyle": f"arc3,rad={0.12 + 0.05 * i}",
                    }
                    ax.annotate("", (5.65 + 1.5 * i, 0), (1.5 * k + 0.45, 0), arrowprops=style)
            below = "a weighted sum of all states, new at every step"
            ax.text(4.4, -1.15, below, color=COLOURS[2], ha="center")
        else:
            box(ax, 3.5, 0.05, 0.6, 0.4, "$c$", facecolor="#f4d35e", linewidth=2)
            arrow(ax, (2.4, 0.25), (3.5, 0.25), width=2.5)
            arrow(ax, (4.1, 0.25), (5.2, 0.25), width=2.5)
            arrow(ax, (0.45, 0), (0.45, -0.35), (3.8, -0.35), (3.8, 0.05), width=2.5)
            ax.text(3.8, 0.75, "all there is", ha="center", va="center", fontsize=9)
        ax.set_title(title, fontsize=11, loc="left")
        ax.set(xlim=(-0.3, 9.6), ylim=(-1.25 if attentive else -0.5, 1.2))
        ax.set_axis_off()
    return figure


def translators(
    shares: Mapping[str, Tensor], digits: Sequence[int], by_digits: Mapping[str, Tensor]
) -> Figure:
    """Left: right translations (seeds,) by model, a bar for the mean and a dot per seed. Right: the same
    (seeds, digits) against the digits of the number; names with "half" in them are dashed.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(WIDTH, 3.8), width_ratios=(1.25, 1))
    for k, (name, values) in enumerate(shares.items()):
        y = as_array(values)
        left.barh(k, y.mean(), color=_hue(name), alpha=0.4)
        left.scatter(y, [k] * len(y), color=_hue(name), s=16, zorder=3, clip_on=False)
    left.set_yticks(range(len(shares)), list(shares))
    left.invert_yaxis()
    left.set(xlim=(0, 1), xlabel="right as a whole")
    for name, values in by_digits.items():
        y = np.atleast_2d(as_array(values))
        line = "o--" if "half" in name else "o-"
        right.plot(digits, y.mean(axis=0), line, color=_hue(name), label=name)
        right.fill_between(digits, y.min(0), y.max(0), color=_hue(name), alpha=0.2, linewidth=0)
    right.set(xlabel="digits of the number", xticks=list(digits), ylim=(0, 1.04), ylabel="right as a whole")
    figure.legend(*right.get_legend_handles_labels(), loc="outside upper center", ncols=3, fontsize=10)
    return figure


def lstm_cell() -> Figure:
    """The memory of an LSTM as a line that runs through: multiplied by f, then i · g is added."""
    figure, ax = plt.subplots(figsize=(WIDTH, 2.3), layout="none")
    figure.subplots_adjust(0, 0, 1, 1)
    memory = COLOURS[1]
    arrow(ax, (0.6, 1), (2.25, 1), colour=memory, width=3)
    arrow(ax, (2.75, 1), (4.75, 1), colour=memory, width=3)
    arrow(ax, (5.25, 1), (8.4, 1), colour=memory, width=3)
    for x, sign in ((2.5, "\u00d7"), (5, "+"), (7.2, "\u00d7")):
        y = 1 if sign == "+" or x < 3 else 0.1
        ax.scatter(x, y, s=420, color="white", edgecolor="black", zorder=4)
        ax.text(x, y, sign, ha="center", va="center", fontsize=14, zorder=5)
    arrow(ax, (2.5, 0.1), (2.5, 0.72))
    arrow(ax, (5, 0.1), (5, 0.72))
    arrow(ax, (7.2, 1), (7.2, 0.4))
    arrow(ax, (6.2, 0.1), (6.9, 0.1))
    arrow(ax, (7.5, 0.1), (8.4, 0.1))
    for x, y, text in (
        (0.35, 1, "$c_{t-1}$"), (8.7, 1, "$c_t$"), (8.7, 0.1, "$h_t$"), (7.65, 0.62, "tanh"),
        (2.5, -0.2, "forget gate $f_t$:\nwhat to keep"),
        (5, -0.2, "$i_t \\odot g_t$: input gate\ntimes news"),
        (6.0, 0.1, "$o_t$"),
    ):  # fmt: skip
        ax.text(x, y, text, ha="center", va="center", color=memory if "c_" in text else "black")
    ax.text(6.0, 0.35, "output gate:\nwhat to show", ha="center", va="bottom", fontsize=9)
    ax.set(xlim=(0, 9.1), ylim=(-0.5, 1.4))
    ax.set_axis_off()
    return figure
