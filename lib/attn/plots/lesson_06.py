"""The figures of lesson 06, Attention and CNNs."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle, Rectangle
from torch import Tensor

from attn.plots.charts import curves
from attn.plots.style import COLOURS, SIGNED, WEIGHTS, WIDTH, as_array

_INK = "Greys"  # images: paper white, ink black


def _bare(ax: Axes, title: str = "") -> None:
    ax.set(xticks=[], yticks=[])
    ax.spines[:].set_visible(False)
    ax.set_title(title, fontsize=10)


def _around(ax: Axes, row: float, column: float, size: float, colour: str = COLOURS[1]) -> None:
    box = Rectangle((column - 0.5, row - 0.5), size, size, fill=False, edgecolor=colour, linewidth=2.5)
    ax.add_patch(box)


def two_ways_to_look(image: Tensor, at: tuple[int, int], kernel: Tensor, weights: Tensor) -> Figure:
    """One pixel's new value twice: by a convolution, from the window around it and with fixed numbers
    `kernel` (width, width); by attention, from all pixels and with `weights` (rows, columns) computed from
    the image.
    """
    figure, axes = plt.subplots(1, 4, figsize=(WIDTH, 2.3), width_ratios=(8, 7, 8, 8))
    half = kernel.shape[0] // 2
    titles = "a convolution looks\nat a window", "attention looks\nat everything"
    for ax, title in zip(axes[::2], titles, strict=True):
        ax.imshow(as_array(image), cmap=_INK)
        _bare(ax, title)
        ax.add_patch(Circle(at[::-1], 0.25, color=COLOURS[1]))
    _around(axes[0], at[0] - half, at[1] - half, kernel.shape[0])
    _around(axes[2], 0, 0, image.shape[0])
    largest = float(kernel.abs().max())
    axes[1].imshow(as_array(kernel), cmap=SIGNED, vmin=-2 * largest, vmax=2 * largest)
    for (row, column), value in np.ndenumerate(as_array(kernel)):
        axes[1].text(column, row, f"{value:g}", ha="center", va="center")
    _bare(axes[1], "with fixed numbers,\nits kernel")
    axes[3].imshow(as_array(weights), cmap=WEIGHTS, vmin=0)
    axes[3].add_patch(Circle(at[::-1], 0.25, color=COLOURS[1]))
    _bare(axes[3], "with weights computed\nfrom the image")
    return figure


def image_as_sets(image: Tensor, sets: Mapping[str, Tensor], columns: int = 16) -> Figure:
    """An image, and beside it its vectors as one picture per title: (vectors, pixels), a vector's pixels one
    under the other, `columns` vectors in a line.
    """
    figure, axes = plt.subplots(1, 1 + len(sets), figsize=(WIDTH, 2.6), width_ratios=[2.4, *[4] * len(sets)])
    axes[0].imshow(as_array(image), cmap=_INK)
    _bare(axes[0], f"{image.shape[0]} x {image.shape[1]} pixels")
    for ax, (title, vectors) in zip(axes[1:], sets.items(), strict=True):
        lines = as_array(vectors).reshape(-1, columns, vectors.shape[1])
        height, gap = lines.shape[2], 1
        picture = np.full((len(lines) * (height + gap) - gap, columns), np.nan)
        for i, line in enumerate(lines):
            picture[i * (height + gap) : i * (height + gap) + height] = line.T
        ax.imshow(picture, cmap=_INK, aspect="equal")
        for i in range(len(lines)):
            for k in range(columns):
                corner = (k - 0.5, i * (height + gap) - 0.5)
                box = Rectangle(corner, 1, height, fill=False, edgecolor=COLOURS[0], linewidth=0.8)
                box.set_clip_on(False)
                ax.add_patch(box)
        _bare(ax, title)
    return figure


def image_rows(
    rows: Mapping[str, Tensor], titles: Sequence[str] | None = None, *, grey: bool = False
) -> Figure:
    """Rows of small images, (images, rows, columns) per name. `grey`: from -1, black, to 1, white."""
    across = len(next(iter(rows.values())))
    figure, axes = plt.subplots(
        len(rows), across, figsize=(WIDTH, 0.25 + len(rows) * WIDTH / (across + 1)), squeeze=False
    )
    for line, (name, images) in zip(axes, rows.items(), strict=True):
        for ax, image in zip(line, as_array(images), strict=True):
            ax.imshow(image, cmap="gray" if grey else _INK, vmin=-1 if grey else 0, vmax=1)
            _bare(ax)
            ax.spines[:].set_visible(grey)
        line[0].set_ylabel(name)
    for ax, title in zip(axes[0], titles or [""] * across, strict=True):
        ax.set_title(title, fontsize=10)
    return figure


def looked_at(images: Tensor, weights: Mapping[str, Tensor], size: int) -> Figure:
    """A row per name: the images, with the weights (images, patches) of their patches of size x size pixels
    laid over them; the three patches with the largest weights are framed.
    """
    figure, axes = plt.subplots(
        len(weights),
        len(images),
        figsize=(WIDTH, 0.2 + len(weights) * WIDTH / (len(images) + 0.5)),
        squeeze=False,
    )
    side = images.shape[-1] // size
    for line, (name, of_all) in zip(axes, weights.items(), strict=True):
        for ax, image, over in zip(line, as_array(images), as_array(of_all), strict=True):
            ax.imshow(image, cmap=_INK)
            spread = np.kron(over.reshape(side, side), np.ones((size, size)))
            ax.imshow(spread, cmap="Oranges", alpha=0.55, vmin=0, vmax=0.4)
            _bare(ax)
            for k in np.argsort(over)[-3:].tolist():
                _around(ax, size * (k // side), size * (k % side), size, COLOURS[0])
        line[0].set_ylabel(name)
    return figure


def kernel_masks(image: Tensor, masks: Tensor, at: tuple[int, int]) -> Figure:
    """For one pixel, where each head of a convolution by attention looks: masks (cells, queries, keys)."""
    cells, columns = len(masks), image.shape[1]
    figure, axes = plt.subplots(1, cells, figsize=(WIDTH, 1.35))
    query = at[0] * columns + at[1]
    for i, (ax, mask) in enumerate(zip(axes, masks, strict=True)):
        ax.imshow(as_array(image), cmap=_INK, alpha=0.6)
        ax.add_patch(Circle(at[::-1], 0.35, color=COLOURS[1]))
        for key in mask[query].nonzero().flatten().tolist():
            ax.add_patch(
                Rectangle((key % columns - 0.5, key // columns - 0.5), 1, 1, color=COLOURS[0], alpha=0.75)
            )
        _bare(ax, f"head {i + 1}")
    return figure


def heads_needed(series: Mapping[str, Tensor], heads: Sequence[int]) -> Figure:
    """Share of a kernel that is left out, against the number of heads, one marked line per name."""
    figure, ax = plt.subplots(figsize=(WIDTH, 3.6))
    curves(series, heads, ax=ax, xlabel="heads", ylabel="squared error, share of the kernel")
    for line, marker in zip(ax.lines, "so^", strict=False):
        line.set_marker(marker)
    ax.set(ylim=(0, 1), xticks=list(heads))
    return figure


def learnt_centres(runs: Mapping[str, tuple[Tensor, Tensor]]) -> Figure:
    """Where heads look from the pixel in the middle: per title their centres (heads, 2) before training, as
    crosses, and after it, as dots, over the cells of a 3 x 3 kernel.
    """
    figure, axes = plt.subplots(1, len(runs), figsize=(WIDTH, WIDTH / len(runs) + 0.4), sharey=True)
    for ax, (title, (before, after)) in zip(axes, runs.items(), strict=True):
        for row in (-1, 0, 1):
            for column in (-1, 0, 1):
                ax.add_patch(
                    Rectangle((column - 0.5, row - 0.5), 1, 1, facecolor="#eeeeee", edgecolor="white")
                )
        for head, (start, end) in enumerate(zip(as_array(before), as_array(after), strict=True)):
            colour = COLOURS[head % len(COLOURS)]
            ax.plot([start[1], end[1]], [start[0], end[0]], color=colour, linewidth=1, alpha=0.6)
            ax.plot(start[1], start[0], "x", color=colour)
            ax.plot(end[1], end[0], "o", color=colour, markersize=7)
        ax.set(xlim=(-2.2, 2.2), ylim=(2.2, -2.2), aspect="equal", xlabel="columns to the right")
        ax.set_title(title, fontsize=10)
    axes[0].set_ylabel("rows down")
    return figure


def receptive_fields(models: Mapping[str, Sequence[Tensor]]) -> Figure:
    """One row of maps per model, one column per layer: True where the input moves the middle of that layer's
    output; its width in pixels above.
    """
    across = max(map(len, models.values()))
    figure, axes = plt.subplots(
        len(models), across, figsize=(WIDTH, len(models) * WIDTH / (across + 0.6)), squeeze=False
    )
    for line, (name, fields) in zip(axes, models.items(), strict=True):
        for ax in line[len(fields) :]:
            ax.set_visible(False)
        for i, (ax, field) in enumerate(zip(line, fields, strict=False)):
            seen = as_array(field)
            ax.imshow(seen, cmap="Blues", vmin=0, vmax=1.4)
            wide = int(seen.any(axis=0).sum())
            _bare(ax, f"layer {i + 1}: {wide} wide")
            ax.spines[:].set_visible(True)
        line[0].set_ylabel(name)
    return figure


def effective_field(field: Tensor, widths: Mapping[str, Sequence[float]], depths: Sequence[int]) -> Figure:
    """Left: how much each pixel moves the middle (1 = the most), with the theoretical field as a frame.
    Right: widths against the number of layers, on logarithmic axes.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(WIDTH, 3.2), width_ratios=(1, 1.25))
    picture = left.imshow(as_array(field), cmap=WEIGHTS, vmin=0, vmax=1)
    side, theory = field.shape[0], 1 + 2 * depths[-1]
    _around(left, (side - theory) / 2, (side - theory) / 2, theory)
    _bare(left, f"{depths[-1]} layers: frame = theory")
    figure.colorbar(picture, ax=left, shrink=0.75, label="gradient, largest = 1")
    curves(widths, depths, ax=right, xlabel="layers", ylabel="width in pixels", log="xy")
    right.set_xticks(depths, [str(d) for d in depths])
    ticks = [5, 10, 20, 40, 60]
    right.set_yticks(ticks, [str(t) for t in ticks])
    right.minorticks_off()
    for line, marker in zip(right.lines, "so", strict=False):
        line.set_marker(marker)
    return figure


def data_curves(
    panels: Mapping[str, tuple[Sequence[int], Mapping[str, Tensor]]],
    controls: Mapping[str, Mapping[str, Tensor]],
    chance: Mapping[str, float],
) -> Figure:
    """Accuracy against the number of training images, one panel per title: sizes and, per model, accuracies
    (seeds, sizes). A model "x, shifted" has the colour of "x", and is dashed, without a band. Controls are
    grey, guessing is dotted.
    """
    figure, axes = plt.subplots(1, len(panels), figsize=(WIDTH, 4.4), sharey=True)
    for ax, (title, (sizes, models)) in zip(axes, panels.items(), strict=True):
        plain = {name: values for name, values in models.items() if "," not in name}
        curves(plain, sizes, ax=ax, xlabel="training images", ylabel="", title=title, log="x")
        for name, values in models.items():
            if name not in plain:
                colour = COLOURS[list(plain).index(name.split(",")[0])]
                ax.plot(sizes, as_array(values).mean(axis=0), "--", color=colour, label=name)
        for line in ax.lines:
            line.set_marker("o")
            line.set_markersize(4)
        for (name, values), style in zip(controls[title].items(), ("-", "-."), strict=False):
            ax.plot(sizes, as_array(values), style, color="grey", linewidth=1, label=name)
        ax.axhline(chance[title], color="black", linestyle=":", linewidth=1, label="guessing")
        ax.set_xticks(sizes, [f"{size:,}" for size in sizes], rotation=45)
        ax.minorticks_off()
        ax.set_ylim(0.4, 1.01)
        if legend := ax.get_legend():
            legend.remove()
    axes[0].set_ylabel("share of right answers")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=4, fontsize=10)
    return figure
