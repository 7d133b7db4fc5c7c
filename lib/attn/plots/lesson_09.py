"""The figures of lesson 09, The full Transformer."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

from attn.plots.charts import curves
from attn.plots.diagrams import arrow, box
from attn.plots.maps import attention_map, mask_map
from attn.plots.style import COLOURS, WIDTH, as_array


def transformer_anatomy() -> Figure:
    """The encoder-decoder (Vaswani et al. 2017, figure 1): its three attentions in colour, each with the
    arrows of its queries, keys and values.
    """
    figure, ax = plt.subplots(figsize=(WIDTH, 7.6))
    left, right, half = 2.4, 7.6, 1.45
    blue, orange, green = COLOURS[0], COLOURS[1], COLOURS[2]

    def part(x: float, y: float, text: str, colour: str = "#eeeeee", ink: str = "black") -> None:
        box(ax, x - half, y, 2 * half, 0.62, text, ink=ink, facecolor=colour, linewidth=0.8)

    def way(*points: tuple[float, float], colour: str = "black", label: str = "") -> None:
        arrow(ax, *points, colour=colour, width=1.3)
        if label:
            x, y = points[-1]
            ax.text(x + 0.16, y - 0.19, label, ha="center", va="center", color=colour, fontweight="bold")

    def around(x: float, low: float, high: float) -> None:  # the residual connection
        edge = x + (half + 0.3) * (1 if x == right else -1)
        way((x, low), (edge, low), (edge, high), (x + half * (1 if x == right else -1), high), colour="grey")

    def from_below(x: float, y: float, colour: str) -> None:
        for offset, letter in ((-0.8, "q"), (0.0, "k"), (0.8, "v")):
            way((x, y - 0.5), (x + offset, y - 0.5), (x + offset, y), colour=colour, label=letter)

    for x, word in ((left, "source tokens"), (right, "target tokens so far")):
        ax.text(x, -0.05, word, ha="center", va="top")
        way((x, 0.0), (x, 0.35))
        part(x, 0.35, "embedding · √d_model\n+ positions")
        way((x, 0.97), (x, 2.0))
    from_below(left, 2.0, blue)
    from_below(right, 2.0, orange)
    part(left, 2.0, "self-attention", blue, "white")
    part(right, 2.0, "masked self-attention", orange, "white")
    for x in (left, right):
        way((x, 2.62), (x, 2.85))
        part(x, 2.85, "add & norm")
        around(x, 1.25, 3.16)

    way((right, 3.47), (right, 3.8), (right + 0.8, 3.8), (right + 0.8, 4.35), colour=green, label="q")
    for offset, letter in ((-0.8, "k"), (0.0, "v")):
        path = ((left, 6.5), (5.0, 6.5), (5.0, 4.03), (right + offset, 4.03), (right + offset, 4.35))
        way(*path, colour=green, label=letter)
    part(right, 4.35, "cross-attention", green, "white")
    way((right, 4.97), (right, 5.2))
    part(right, 5.2, "add & norm")
    around(right, 3.6, 5.51)

    for x, low in ((left, 3.47), (right, 5.82)):
        way((x, low), (x, low + 0.38))
        part(x, low + 0.38, "feed-forward")
        way((x, low + 1.0), (x, low + 1.23))
        part(x, low + 1.23, "add & norm")
        around(x, low + 0.12, low + 1.54)
    way((left, 5.32), (left, 6.5))
    ax.text(left, 6.6, "memory: one vector\nper source token", ha="center", va="bottom")
    way((right, 7.67), (right, 8.1))
    part(right, 8.1, "linear, softmax")
    way((right, 8.72), (right, 9.1))
    ax.text(right, 9.15, "probabilities of the next token", ha="center", va="bottom")
    for x, top, name in ((left, 5.5, "encoder layer, N times"), (right, 7.85, "decoder layer, N times")):
        low, width = 1.1, 2 * half + 0.9
        edge = x - half - (0.6 if x == left else 0.3)
        frame = Rectangle((edge, low), width, top - low, fill=False, edgecolor="grey", linestyle="--")
        ax.add_patch(frame)
        beside = edge - 0.2 if x == left else edge + width + 0.2
        ax.text(beside, (low + top) / 2, name, color="grey", ha="center", va="center", rotation=90)
    ax.set(xlim=(-0.1, 10.1), ylim=(-0.5, 9.6))
    ax.set_axis_off()
    return figure


def map_grid(rows: Sequence[Mapping[str, tuple[Tensor, Sequence[str], Sequence[str]]]]) -> Figure:
    """Rows of pictures: title → (what to draw, names of its rows, names of its columns).

    A boolean tensor is drawn as a mask, another as how far each input moved each output, from 0 to 1.
    """
    columns = max(map(len, rows))
    figure, axes = plt.subplots(len(rows), columns, figsize=(WIDTH, 2.75 * len(rows)), squeeze=False)
    for line, row in zip(axes, rows, strict=True):
        for ax, (title, (picture, queries, keys)) in zip(line, row.items(), strict=True):
            draw = attention_map if picture.is_floating_point() else mask_map
            draw(picture, queries, keys, ax=ax, title=title)
            if draw is attention_map:
                ax.set(xlabel="inputs", ylabel="outputs")
            ax.set_aspect("auto")
            ax.title.set_fontsize(11)
            ax.tick_params(labelsize=9)
            ax.tick_params(axis="x", rotation=60)
    return figure


def training_run(
    losses: Sequence[float], learning_rates: Sequence[float], *, floor: float, validation: float
) -> Figure:
    """The loss of every step over the learning rate that it was taken with.

    `floor`: the lowest loss that the labels allow; `validation`: the loss after training, without smoothing.
    """
    figure, (upper, lower) = plt.subplots(2, 1, figsize=(WIDTH, 4.8), height_ratios=(3, 1), sharex=True)
    steps = np.arange(1, len(losses) + 1)
    upper.plot(steps, losses, linewidth=1, label="training, smoothed labels")
    upper.axhline(floor, color="black", linestyle=":", label="lowest possible with smoothed labels")
    upper.plot(steps[-1], validation, "o", color=COLOURS[1], label="validation, true labels, at the end")
    upper.set(ylabel="loss (nats per token)", ylim=(0, None))
    upper.legend()
    lower.plot(steps, learning_rates, color=COLOURS[2])
    lower.set(xlabel="step", ylabel="learning rate", ylim=(0, None))
    return figure


def decoding_cost(
    lengths: Sequence[int], work: Mapping[str, Sequence[int]], slower: Sequence[float]
) -> Figure:
    """Left: positions that the decoder computed, by method. Right: how many times slower the first method is
    than the second.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(WIDTH, 3.2))
    curves(
        work, lengths, ax=left, xlabel="tokens written", ylabel="positions", log="xy", title="counted work"
    )
    curves(
        {"": slower},
        lengths,
        ax=right,
        xlabel="tokens written",
        ylabel=f"time: {' / '.join(work)}",
        log="x",
        title="measured",
    )
    right.set_ylim(0, None)
    for ax in (left, right):
        ax.set_xticks(lengths, [str(n) for n in lengths])
        ax.title.set_fontsize(11)
        for line in ax.lines:
            line.set_marker("o")
    right.axhline(1, color="black", linestyle=":")
    return figure


def recipes(
    losses: Mapping[str, Tensor], x: Sequence[int], scores: Mapping[str, Tensor], *, score: str
) -> Figure:
    """Recipes compared: validation loss (seeds, points) as mean and band, and the final score (seeds,) as a
    bar with a dot for every seed.
    """
    figure, (left, right) = plt.subplots(
        1, 2, figsize=(WIDTH, 3.9), width_ratios=(1.25, 1), layout="constrained"
    )
    curves(losses, x, ax=left, xlabel="step", ylabel="validation loss (nats per token)")
    if legend := left.get_legend():
        legend.remove()
    names = list(scores)
    for i, (name, values) in enumerate(scores.items()):
        colour = COLOURS[i % len(COLOURS)]
        right.barh(i, as_array(values).mean(), color=colour, alpha=0.55)
        right.plot(
            as_array(values),
            np.full(len(values), i),
            "o",
            color=colour,
            markersize=5,
            markeredgecolor="black",
        )
        left.lines[list(losses).index(name)].set_color(colour)
    right.set_yticks(range(len(names)), names)
    right.invert_yaxis()
    right.set(xlabel=score, xlim=(0, 100))
    return figure


def choice_tree(table: Mapping[str, Mapping[str, float]], paths: Mapping[str, Sequence[str]]) -> Figure:
    """Sentences as paths through a tree. table: beginning → probability of each next token; a beginning that
    is not in it is a whole sentence. `paths`: sentences to colour, by the name of their path.
    """
    figure, ax = plt.subplots(figsize=(WIDTH, 3.2), layout="none")
    leaves: list[str] = []

    def place(beginning: str, depth: int, probability: float) -> float:
        if beginning not in table:
            leaves.append(beginning)
            at = float(1 - len(leaves))
            ax.text(depth + 0.12, at, f"{probability:.2f}", va="center")
            return at
        children = []
        for token, p in table[beginning].items():
            children.append((token, p, place(beginning + token, depth + 1, probability * p)))
        at = sum(y for _, _, y in children) / len(children)
        for token, p, y in children:
            coloured = [
                i for i, path in enumerate(paths.values()) if "".join(path).startswith(beginning + token)
            ]
            style = {"color": COLOURS[coloured[0]], "linewidth": 3} if coloured else {"color": "grey"}
            ax.plot([depth, depth + 1], [at, y], zorder=1, **style)
            ax.text(depth + 0.5, (at + y) / 2 + 0.1, f"{p:.2f}", ha="center", va="bottom", fontsize=10)
            ax.text(
                depth + 1,
                y,
                token,
                ha="center",
                va="center",
                zorder=2,
                bbox={"boxstyle": "circle", "facecolor": "white", "edgecolor": "black"},
            )
        return at

    top = place("", 0, 1.0)
    ax.text(0, top, "BOS", ha="center", va="center", bbox={"boxstyle": "round", "facecolor": "white"})
    for i, name in enumerate(paths):
        ax.plot([], [], color=COLOURS[i], linewidth=3, label=name)
    ax.legend(loc="upper left")
    ax.margins(0.15)
    ax.set_axis_off()
    return figure
