"""The figures of lesson 00, Start here."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from torch import Tensor

from attn.plots.charts import bars, curves
from attn.plots.diagrams import box
from attn.plots.maps import frame
from attn.plots.style import COLOURS, SIGNED, WEIGHTS, WIDTH, as_array


def distance_maps(panels: Mapping[str, Tensor], names: Sequence[str]) -> Figure:
    """Distances between all pairs of vectors, (names, names): dark is near. One panel per title."""
    figure, axes = plt.subplots(1, len(panels), figsize=(WIDTH, 4.0), squeeze=False, sharey=True)
    for ax, (title, distances) in zip(axes[0], panels.items(), strict=True):
        drawn = ax.imshow(as_array(distances), cmap=WEIGHTS, vmin=0)
        ax.set_xticks(range(len(names)), names, rotation=90)
        ax.set_yticks(range(len(names)), names)
        ax.spines[:].set_visible(False)
        ax.set_title(title, fontsize=11)
        figure.colorbar(drawn, ax=ax, label="distance", location="bottom", shrink=0.7)
    return figure


def four_inputs(
    words: Sequence[str],
    samples: Tensor,
    image: Tensor,
    edges: Tensor,
    places: Mapping[int, Sequence[float] | np.ndarray],
    sets: Mapping[str, Tensor],
    order: Mapping[str, Tensor],
) -> Figure:
    """Four inputs as we know them (a sentence, a sound, an image, a graph), as sets of vectors, and shuffled.

    Arguments:
      edges (edges, 2) and `places`, node → (x, y): how the graph is drawn.
      sets: what each is called → its vectors (set size, vector size), in the same order.
      order: the same names → a permutation of each set.
    """
    figure, axes = plt.subplots(3, 4, figsize=(WIDTH, 6.6), height_ratios=(1, 1.15, 1))
    nodes = np.array([places[i] for i in sorted(places)])

    def draw(row: int, shuffled: bool) -> None:
        text, sound, digit, graph = axes[row]
        perm = {name: as_array(p).astype(int) for name, p in order.items()}
        by_word, by_frame, by_pixel, _ = perm.values()
        said = [words[i] for i in by_word] if shuffled else words
        lines = [" ".join(said[i : i + 2]) for i in range(0, len(said), 2)]
        text.text(0.5, 0.5, "\n".join(lines), ha="center", va="center", fontsize=12, linespacing=1.6)
        wave = as_array(samples)
        if shuffled:  # the sound is cut into as many pieces as there are frames
            wave = np.concatenate([np.array_split(wave, len(by_frame))[i] for i in by_frame])
        sound.plot(wave, linewidth=0.4)
        pixels = as_array(image)
        if shuffled:
            pixels = pixels.ravel()[by_pixel].reshape(pixels.shape)
        digit.imshow(pixels, cmap="gray_r")
        if not shuffled:
            for i, j in as_array(edges).astype(int):
                graph.plot(*nodes[[i, j]].T, color="grey", linewidth=0.5, zorder=1)
        graph.scatter(*nodes.T, s=18, color=COLOURS[0], zorder=2)
        for ax in axes[row]:
            ax.set_xticks([])
            ax.set_yticks([])
            ax.spines[:].set_visible(False)
            ax.set_anchor("N")

    draw(0, shuffled=False)
    draw(2, shuffled=True)
    for i, (name, vectors) in enumerate(sets.items()):
        size, width = vectors.shape
        # The attributes of a graph's nodes differ in unit, so each has a colour scale of its own.
        shown = as_array(vectors / vectors.amax(0) if i == 3 else vectors)
        axes[0, i].set_title(name, fontsize=12)
        ax = axes[1, i]
        ax.imshow(shown, cmap=WEIGHTS, aspect="auto", interpolation="nearest")
        ax.set_xticks(sorted({0, width - 1}))
        ax.set_title(f"{size} vectors of {width}", fontsize=10)
        ax.tick_params(labelsize=8)
        ax.spines[:].set_visible(False)
        ax.set_xlabel("entry", fontsize=9)
    for row, label in enumerate(("as we know it", "as a set: one row a vector", "the same set, shuffled")):
        axes[row, 0].set_ylabel(label, fontsize=10)
    return figure


def three_heads(
    inputs: Tensor,
    names: Sequence[str],
    per_vector: tuple[Tensor, Sequence[str]],
    per_set: tuple[Tensor, Sequence[str]],
    sequence: tuple[Tensor, Sequence[str]],
) -> Figure:
    """One input (vectors, d) above, and three outputs of it: probabilities (vectors, labels), (labels,) and
    (steps, tokens), each with the names of its labels.
    """
    figure = plt.figure(figsize=(WIDTH, 5.6))
    grid = figure.add_gridspec(2, 3, height_ratios=(1, 1.5))
    top = figure.add_subplot(grid[0, :])
    top.imshow(as_array(inputs), cmap=SIGNED, aspect="auto", vmin=-3, vmax=3)
    top.set_yticks(range(len(names)), names)
    top.set(title="the input: one row a vector", xlabel="entry", xticks=[])
    rows = [str(i + 1) for i in range(len(sequence[0]))]
    panels = (
        ("one per vector", per_vector[0], names, per_vector[1], "vector"),
        ("one for the set", per_set[0][None], [""], per_set[1], ""),
        ("a sequence of its own", sequence[0], rows, sequence[1], "step"),
    )
    for i, (title, picture, left, below, label) in enumerate(panels):
        ax = figure.add_subplot(grid[1, i])
        ax.imshow(as_array(picture), cmap=WEIGHTS, vmin=0, vmax=1, aspect="equal")
        for row, best in enumerate(as_array(picture).argmax(-1).tolist()):
            frame(ax, row, best, linewidth=2)
        ax.set_yticks(range(len(left)), left)
        ax.set_xticks(range(len(below)), below, rotation=90)
        ax.tick_params(length=0, labelsize=9)
        ax.spines[:].set_visible(False)
        ax.set_title(f"{title}\n{tuple(picture.squeeze(0).shape)}", fontsize=11)
        ax.set_ylabel(label, fontsize=9)
    return figure


def window_growth(
    radii: Sequence[int], parameters: Sequence[int], training: Tensor, validation: Tensor
) -> Figure:
    """Left: parameters by radius. Right: accuracy (seeds, radii) on training and on validation sentences."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(WIDTH, 3.4), width_ratios=(1, 1.3))
    left.plot(radii, parameters, "o-")
    left.set(xlabel="radius of the window", ylabel="parameters", ylim=(0, None))
    named = {"training sentences": training, "new sentences": validation}
    curves(named, radii, ax=right, xlabel="radius of the window", ylabel="share of right tags")
    for line in right.lines:
        line.set_marker("o")
    right.annotate(
        "overfitting",
        (radii[-1] - 0.1, float(training[:, -1].mean() + validation[:, -1].mean()) / 2),
        ha="right",
        va="center",
    )
    return figure


def window_on_words(
    words: Sequence[str], place: int, radius: int, clues: Sequence[int], shares: Mapping[str, float]
) -> Figure:
    """A sentence, the word to label framed, what a window around it sees in colour, and the shares of right
    labels at this radius as bars. `clues`: the places of the words that decide.
    """
    figure, (upper, lower) = plt.subplots(2, 1, figsize=(WIDTH, 2.9), height_ratios=(1, 1))
    for i, word in enumerate(words):
        seen = abs(i - place) <= radius
        filled, edge = COLOURS[5] if seen else "#eeeeee", "black" if i == place else "none"
        box(upper, i - 0.47, -0.3, 0.94, 0.6, facecolor=filled, edgecolor=edge, linewidth=2)
        bold = "bold" if i == place or i in clues else "normal"
        upper.text(
            i, 0, word, ha="center", va="center", fontweight=bold, color="black" if seen else "#888888"
        )
        if i == place or i in clues:
            upper.text(i, 0.5, "which tag?" if i == place else "decides", ha="center", fontsize=9)
    upper.set(xlim=(-0.6, len(words) - 0.4), ylim=(-0.4, 0.8))
    upper.set_axis_off()
    bars(shares, ax=lower, xlabel="share of right tags, new sentences")
    lower.set_xlim(0, 1.1)
    return figure


def suspects(correct: Tensor, others: Mapping[str, Tensor], *, smooth: int = 10) -> Figure:
    """Losses of the correct model (seeds, steps) as a grey band, lowest to highest, and of others (steps,).

    All are means over the last `smooth` steps.
    """

    def smoothed(losses: Tensor) -> np.ndarray:
        return as_array(losses.unfold(-1, smooth, 1).mean(-1))

    figure, ax = plt.subplots(figsize=(WIDTH, 3.8))
    band = smoothed(correct)
    at = np.arange(smooth, smooth + band.shape[1])
    ax.fill_between(
        at, band.min(0), band.max(0), color="black", alpha=0.25, linewidth=0, label="nothing planted"
    )
    for i, (name, losses) in enumerate(others.items()):
        ax.plot(at, smoothed(losses), color=COLOURS[i % len(COLOURS)], linewidth=1.3, label=name)
    ax.set(xlabel="step", ylabel="loss (nats per letter)", ylim=(0, None))
    ax.legend()
    return figure


def check_table(seen: Tensor | np.ndarray, rows: Sequence[str], columns: Sequence[str]) -> Figure:
    """Which check (columns) sees which bug (rows): a boolean table, a cross where a check fails."""
    table = as_array(seen).astype(bool)
    figure, ax = plt.subplots(figsize=(WIDTH, 1.5 + 0.36 * len(rows)))
    ax.imshow(table, cmap=ListedColormap(["#eeeeee", COLOURS[1]]), vmin=0, vmax=1, aspect="auto")
    for i, j in np.ndindex(*table.shape):
        colour = "white" if table[i, j] else "#777777"
        ax.text(j, i, "sees it" if table[i, j] else "-", ha="center", va="center", color=colour)
    ax.set_xticks(np.arange(len(columns) + 1) - 0.5, minor=True)
    ax.set_yticks(np.arange(len(rows) + 1) - 0.5, minor=True)
    ax.grid(which="minor", color="white", linewidth=2)
    ax.tick_params(which="both", length=0)
    ax.set_xticks(range(len(columns)), columns)
    ax.xaxis.tick_top()
    ax.set_yticks(range(len(rows)), rows)
    ax.spines[:].set_visible(False)
    return figure
