"""The figures of lesson 06, Attention and CNNs."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle, Rectangle
from torch import Tensor

from attn.plots.charts import curves, legend_above
from attn.plots.style import COLOURS, SIGNED, WEIGHTS, WIDTH, as_array

_INK = "Greys"  # images: paper white, ink black


def _bare(ax: Axes, title: str = "") -> None:
    ax.set(xticks=[], yticks=[])
    ax.spines[:].set_visible(False)
    ax.set_title(title, fontsize=10)


def _around(ax: Axes, row: float, column: float, size: float, colour: str = COLOURS[1]) -> None:
    box = Rectangle((column - 0.5, row - 0.5), size, size, fill=False, edgecolor=colour, linewidth=2.5)
    ax.add_patch(box)


def two_ways_to_look(
    image: Tensor, at: tuple[int, int], kernel: Tensor, weights: Tensor, results: tuple[Tensor, Tensor]
) -> Figure:
    """One pixel's new value twice, a row each: by a convolution, from the window around it and with fixed
    numbers `kernel` (width, width); by attention, from all pixels and with `weights` (rows, columns) computed
    from the image. Last in each row: the new values of all pixels, `results` (rows, columns) of each.
    """
    figure, axes = plt.subplots(2, 3, figsize=(WIDTH, 5))
    half = kernel.shape[0] // 2
    titles = ("a convolution looks\nat a window", "attention looks\nat everything")
    for line, title, result in zip(axes, titles, results, strict=True):
        line[0].imshow(as_array(image), cmap=_INK)
        _bare(line[0], title)
        most = float(result.abs().max())
        picture = line[2].imshow(as_array(result), cmap=SIGNED, vmin=-most, vmax=most)
        _bare(line[2], "the new values")
        figure.colorbar(picture, ax=line[2], shrink=0.8)
        for ax in (line[0], line[2]):
            ax.spines[:].set_visible(True)
            ax.add_patch(Circle(at[::-1], 0.25, color=COLOURS[1]))
    _around(axes[0, 0], at[0] - half, at[1] - half, kernel.shape[0])
    _around(axes[1, 0], 0, 0, image.shape[0])
    largest = float(kernel.abs().max())
    axes[0, 1].imshow(as_array(kernel), cmap=SIGNED, vmin=-2 * largest, vmax=2 * largest)
    for (row, column), value in np.ndenumerate(as_array(kernel)):
        axes[0, 1].text(column, row, f"{value:g}", ha="center", va="center")
    _bare(axes[0, 1], "with fixed numbers,\nits kernel")
    picture = axes[1, 1].imshow(as_array(weights), cmap=WEIGHTS, vmin=0)
    figure.colorbar(picture, ax=axes[1, 1], shrink=0.8)
    axes[1, 1].add_patch(Circle(at[::-1], 0.25, color=COLOURS[1]))
    _bare(axes[1, 1], "with weights computed\nfrom the image")
    return figure


def image_as_sets(image: Tensor, sets: Mapping[str, Tensor], columns: int = 16) -> Figure:
    """An image, and beside it its vectors as one picture per title: (vectors, pixels), a vector's pixels one
    under the other, `columns` vectors in a line. Of the last set one vector is framed, here and there.
    """
    figure, axes = plt.subplots(1, 1 + len(sets), figsize=(WIDTH, 2.6), width_ratios=[2.4, *[4] * len(sets)])
    axes[0].imshow(as_array(image), cmap=_INK)
    _bare(axes[0], f"{image.shape[0]} x {image.shape[1]} pixels")
    *_, last = sets.values()
    size, framed = round(last.shape[1] ** 0.5), min(10, len(last) - 1)
    for edge in range(0, image.shape[0] + 1, size):
        axes[0].axhline(edge - 0.5, color=COLOURS[0], linewidth=0.5, clip_on=False)
        axes[0].axvline(edge - 0.5, color=COLOURS[0], linewidth=0.5, clip_on=False)
    row, column = divmod(framed, image.shape[1] // size)
    _around(axes[0], size * row, size * column, size)
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
        if vectors is last:
            down, k = divmod(framed, columns)
            corner = (k - 0.5, down * (height + gap) - 0.5)
            ax.add_patch(Rectangle(corner, 1, height, fill=False, edgecolor=COLOURS[1], linewidth=2.5))
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


def painted_over(series: Mapping[str, Tensor], numbers: Sequence[int]) -> Figure:
    """Share of right answers against the number of patches that are painted over: one panel per order, a thin
    line for each model (models, numbers) and a thick one for their mean.
    """
    figure, axes = plt.subplots(1, len(series), figsize=(WIDTH, 2.8), sharey=True, squeeze=False)
    for i, (ax, (name, values)) in enumerate(zip(axes[0], series.items(), strict=True)):
        for line in as_array(values):
            ax.plot(numbers, line, color=COLOURS[i], linewidth=0.8, alpha=0.6)
        ax.plot(numbers, as_array(values).mean(axis=0), color=COLOURS[i], linewidth=3)
        ax.set(title=name, xticks=list(numbers), ylim=(0, 1))
        ax.title.set_fontsize(10)
    axes[0, 0].set_ylabel("share of right answers")
    figure.supxlabel("patches painted over, of 16", fontsize=11)
    return figure


def kernel_masks(image: Tensor, masks: Tensor, places: Mapping[str, tuple[int, int]]) -> Figure:
    """Where each head of a convolution by attention looks, for one pixel per title: masks (cells, queries,
    keys), the heads arranged as the cells of their square kernel.
    """
    width, columns = round(len(masks) ** 0.5), image.shape[1]
    figure = plt.figure(figsize=(WIDTH, 0.55 * WIDTH))
    for part, (title, at) in zip(
        figure.subfigures(1, len(places), squeeze=False)[0], places.items(), strict=True
    ):
        part.suptitle(title, fontsize=11)
        query = at[0] * columns + at[1]
        for i, (ax, mask) in enumerate(zip(part.subplots(width, width).flat, masks, strict=True)):
            ax.imshow(as_array(image), cmap=_INK, alpha=0.5)
            for key in mask[query].nonzero().flatten().tolist():
                corner = (key % columns - 0.5, key // columns - 0.5)
                ax.add_patch(Rectangle(corner, 1, 1, color=COLOURS[0], alpha=0.8))
            ax.add_patch(Circle(at[::-1], 0.28, color=COLOURS[1]))
            _bare(ax, f"head {i + 1}" if mask[query].any() else f"{i + 1}: nothing")
            ax.spines[:].set_visible(True)
    return figure


def heads_needed(series: Mapping[str, Tensor], heads: Sequence[int]) -> Figure:
    """Share of a kernel that is left out, against the number of heads, one marked line per name."""
    figure, ax = plt.subplots(figsize=(WIDTH, 3.6))
    curves(series, heads, ax=ax, xlabel="heads", ylabel="squared error, share of the kernel")
    ax.set_title("What h heads leave out of a random 3 x 3 kernel")
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
        starts, ends = as_array(before), as_array(after)
        for start, end in zip(starts, ends, strict=True):
            ax.plot([start[1], end[1]], [start[0], end[0]], color="grey", linewidth=0.8)
        ax.plot(starts[:, 1], starts[:, 0], "x", color="grey", label="start")
        ax.plot(ends[:, 1], ends[:, 0], "o", color=COLOURS[0], markersize=7, label="after training")
        ax.set(xlim=(-2.2, 2.2), ylim=(2.2, -2.2), aspect="equal", xlabel="columns to the right")
        ax.set_title(title, fontsize=10)
    axes[0].set_ylabel("rows down")
    legend_above(figure, axes[0])
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
    _bare(left, f"{depths[-1]} layers (frame: theory, {theory} wide)")
    figure.colorbar(picture, ax=left, shrink=0.75, label="gradient, largest = 1")
    curves(widths, depths, ax=right, xlabel="layers", ylabel="width in pixels", log="xy")
    right.set_xticks(depths, [str(d) for d in depths])
    ticks = [5, 10, 20, 40, theory]
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
    grey, guessing is dotted (where it is above the axis, which begins at 0.4).
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
        if chance[title] > 0.4:
            ax.axhline(chance[title], color="black", linestyle=":", linewidth=1, label="guessing")
        ax.set_xticks(sizes, [f"{size:,}" for size in sizes], rotation=45)
        ax.minorticks_off()
        ax.set_ylim(0.4, 1.01)
        if legend := ax.get_legend():
            legend.remove()
    axes[0].set_ylabel("share of right answers")
    named: dict[str, Artist] = {}
    for ax in axes:
        named |= {name: handle for handle, name in zip(*ax.get_legend_handles_labels(), strict=True)}
    figure.legend(list(named.values()), list(named), loc="outside upper center", ncols=4, fontsize=10)
    return figure
