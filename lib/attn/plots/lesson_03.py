"""The figures of lesson 03, Masks."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from attn.plots.charts import curves, legend_above
from attn.plots.maps import mask_map, small_mask
from attn.plots.style import COLOURS, WEIGHTS, WIDTH, as_array


def mask_equations(lines: Sequence[tuple[Mapping[str, Tensor], str]]) -> Figure:
    """A line per (three masks by title, sign): first, sign, second = third."""
    figure, axes = plt.subplots(
        len(lines), 5, figsize=(WIDTH, 2.5 * len(lines)), squeeze=False, width_ratios=(8, 1, 8, 1, 8)
    )
    for line, (panels, sign) in zip(axes, lines, strict=True):
        for ax, (title, mask) in zip(line[::2], panels.items(), strict=True):
            small_mask(ax, mask, title)
        for ax, text in zip(line[1::2], (sign, "="), strict=True):
            ax.text(0.5, 0.5, text, ha="center", va="center", fontsize=20)
            ax.set_axis_off()
    return figure


def layers_needed(panels: Mapping[str, Tensor]) -> Figure:
    """Number of layers (outputs, inputs) until an input reaches an output; 0 = never, drawn grey."""
    deepest = max(int(layers.max()) for layers in panels.values())
    figure, axes = plt.subplots(1, len(panels), figsize=(WIDTH, WIDTH / len(panels) + 0.7), squeeze=False)
    for ax, (title, layers) in zip(axes[0], panels.items(), strict=True):
        _numbered_layers(ax, layers, deepest)
        ax.set_title(title, fontsize=10)
    return figure


def _numbered_layers(ax: Axes, layers: Tensor, deepest: int) -> None:
    colours = plt.get_cmap(WEIGHTS).reversed().with_extremes(under="#dddddd")
    ax.imshow(as_array(layers), cmap=colours, vmin=0.5, vmax=deepest + 0.5)
    for (i, j), count in np.ndenumerate(as_array(layers).astype(int)):
        if count:
            colour = "white" if count > deepest / 2 else "black"
            ax.text(j, i, str(count), ha="center", va="center", color=colour, fontsize=8)
    ax.set(xlabel="inputs", ylabel="outputs", xticks=[], yticks=[])
    ax.spines[:].set_visible(False)


def window_and_layers(mask: Tensor, layers: Tensor) -> Figure:
    """A window (queries, keys) beside the number of its layers that an input needs to reach an output."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(WIDTH, 3.9))
    mask_map(mask, ax=left, title=f"one layer: {int(mask.sum(-1).max())} keys per query at most")
    left.set(xticks=[], yticks=[])
    deepest = int(layers.max())
    _numbered_layers(right, layers, max(deepest, 2))
    everywhere = bool((layers > 0).all())
    title = f"all reach all after {deepest} layer{'s' * (deepest > 1)}" if everywhere else "never reaches all"
    right.set_title(title, fontsize=12)
    return figure


def loss_and_truth(
    learnable: Mapping[str, Tensor],
    random: Mapping[str, Tensor],
    floor: float,
    shares: Mapping[str, Mapping[str, Tensor]],
) -> Figure:
    """Losses (seeds, steps) by model, on what can be learned and on what cannot go below `floor`, beside
    shares (seeds,) of right answers: measure → model → shares.
    """
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(WIDTH, 3.4), width_ratios=(1, 1, 1.1))
    curves(learnable, ax=left, xlabel="step", ylabel="loss", title="what can be learned")
    curves(random, ax=middle, xlabel="step", ylabel="", title="what is random")
    middle.axhline(floor, color="black", linestyle="--", linewidth=1)
    middle.text(middle.get_xlim()[1], floor - 0.05, "best possible", ha="right", va="top", fontsize=9)
    for ax in (left, middle):
        ax.set_ylim(bottom=0)
        ax.get_legend().remove()
    for i, by_model in enumerate(shares.values()):
        for k, (values, colour) in enumerate(zip(by_model.values(), COLOURS, strict=False)):
            at = i + 0.27 * (k - (len(by_model) - 1) / 2)
            right.bar(at, float(values.mean()), width=0.25, color=colour, alpha=0.4)
            right.scatter([at] * len(values), as_array(values), color=colour, s=14, zorder=3, clip_on=False)
    right.set_xticks(range(len(shares)), list(shares))
    right.set(ylim=(0, 1), title="share of right answers")
    for ax in (left, middle, right):
        ax.title.set_fontsize(11)
    legend_above(figure, left)
    return figure
