"""Every figure that the notebooks draw.

Colours are cividis (even steps look even, also in grey and to colour-blind eyes), or a diverging map where
zero matters. Axes carry the words of the notation; `show` stores the alt text that says what to see.
"""

import base64
import html
import io
import json
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Circle, Rectangle
from PIL import Image
from torch import Tensor

WEIGHTS = "cividis"  # for what is never negative
SIGNED = "RdBu_r"  # for what has a zero in the middle
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")  # Okabe and Ito's palette
WIDTH = 7.0  # inches: 700 pixels at 100 dots per inch

plt.rcParams.update(
    {
        "figure.dpi": 100,
        "font.size": 11,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.prop_cycle": cycler(color=COLOURS),
        "figure.constrained_layout.use": True,
        "legend.frameon": False,
    }
)


def show(figure: Figure, alt: str) -> None:
    """Display a figure in a notebook, with the alt text that says what to see, and close it.

    Errors: ValueError for an empty alt text.
    """
    if not alt.strip():
        raise ValueError("a figure needs alt text: one or two sentences that say what to see in it")
    from IPython.display import display

    display(figure, metadata={"image/png": {"alt": " ".join(alt.split())}})
    plt.close(figure)


# No script element: JupyterLab runs those before the page holds what they look for. The picture's onload
# makes the handle, so that there is none where scripts are stripped. data-lm-suppress-shortcuts, onkeydown:
# in JupyterLab the arrow keys move the slider, not the notebook.
_SLIDER = """\
<figure style="margin: 0; max-width: {width}px" data-frames="{frames}" data-handle="{handle}">
<img src="data:image/png;base64,{first}" alt="{alt}" style="width: 100%"
  onload="const figure = this.closest('figure'), caption = figure.querySelector('figcaption');
    caption.innerHTML ||= figure.dataset.handle">
<figcaption></figcaption>
</figure>
"""
_HANDLE = """\
<div style="display: flex; gap: 1em; align-items: center" data-lm-suppress-shortcuts="true">
<input type="range" min="0" max="{last}" value="{start}" aria-label="{label}" style="flex: 1"
  onkeydown="event.stopPropagation()"
  oninput="const figure = this.closest('figure'), image = figure.querySelector('img'),
    frame = JSON.parse(figure.dataset.frames)[this.value];
    image.src = 'data:image/png;base64,' + frame.png;
    image.alt = frame.alt;
    figure.querySelector('output').textContent = frame.name">
<output style="min-width: 9em">{name}</output>
</div>
"""


def slider(frames: Mapping[str, Figure], alt: str, *, label: str, start: int = 0) -> None:
    """Display figures behind a slider, in a notebook or on a page, and close them. No server is needed.

    Arguments:
      frames: the figures, each under the words that stand beside the slider when it shows ("width 3").
        They should have one size, and axes that do not move.
      alt: what to see; the name of the frame is put before it.
      label: what the slider moves ("softmax temperature"), for readers who hear the page.
      start: the frame that shows first, and alone where scripts are stripped (an untrusted notebook).

    Errors: ValueError for fewer than two frames, an empty alt text, or a start that is no frame.
    """
    if len(frames) < 2 or not 0 <= start < len(frames):
        raise ValueError(f"a slider needs two frames or more, and one to start with: {len(frames)}, {start}")
    if not alt.strip():
        raise ValueError("a slider needs alt text: one or two sentences that say what to see in it")
    from IPython.display import display

    alt = " ".join(alt.split())
    width = max(figure.get_size_inches()[0] * figure.dpi for figure in frames.values())
    shown = [{"name": name, "alt": f"{name}: {alt}", "png": _png(f)} for name, f in frames.items()]
    first = shown[start]
    handle = _HANDLE.format(
        last=len(shown) - 1, start=start, label=html.escape(label), name=html.escape(first["name"])
    )
    page = _SLIDER.format(
        width=round(width),
        frames=html.escape(json.dumps(shown)),
        handle=html.escape(handle),
        first=first["png"],
        alt=html.escape(first["alt"]),
    )
    data = {"text/html": page, "image/png": first["png"], "text/plain": first["alt"]}
    display(data, raw=True, metadata={"image/png": {"alt": first["alt"]}})


def _png(figure: Figure) -> str:
    """The figure in base64, with few colours: a slider holds many of them. Closes the figure."""
    drawn, small = io.BytesIO(), io.BytesIO()
    figure.savefig(drawn, format="png")
    plt.close(figure)
    Image.open(drawn).convert("RGB").quantize(64).save(small, format="png", optimize=True)
    return base64.b64encode(small.getvalue()).decode()


def _array(x: Tensor | np.ndarray | Sequence[Any]) -> np.ndarray:
    return x.detach().cpu().float().numpy() if isinstance(x, Tensor) else np.asarray(x)


def _ticks(ax: Axes, queries: Sequence[str] | None, keys: Sequence[str] | None) -> None:
    if keys is not None:
        ax.set_xticks(
            range(len(keys)), keys, rotation=45 if max(map(len, keys), default=0) > 2 else 0, ha="center"
        )
    if queries is not None:
        ax.set_yticks(range(len(queries)), queries)


def attention_map(
    weights: Tensor | np.ndarray,
    queries: Sequence[str] | None = None,
    keys: Sequence[str] | None = None,
    *,
    ax: Axes | None = None,
    title: str | None = None,
    numbers: bool = False,
    mask: Tensor | np.ndarray | None = None,
) -> Figure:
    """Weights (queries, keys) as a picture: one row per query, bright where it attends. `mask` greys out
    what is forbidden.
    """
    image = _array(weights)
    if ax is None:
        _, ax = plt.subplots(figsize=(1.5 + 0.55 * image.shape[1], 1.2 + 0.45 * image.shape[0]))
    if mask is not None:
        image = np.ma.masked_array(image, ~_array(mask).astype(bool))
    ax.imshow(image, cmap=plt.get_cmap(WEIGHTS).with_extremes(bad="#dddddd"), vmin=0.0, vmax=1.0)
    _ticks(ax, queries, keys)
    ax.set(xlabel="keys", ylabel="queries")
    ax.spines[:].set_visible(False)
    if title:
        ax.set_title(title)
    if numbers:
        for (i, j), weight in np.ma.ndenumerate(image):  # skips what is masked
            colour = "white" if weight < 0.5 else "black"
            ax.text(j, i, f"{weight:.2f}", ha="center", va="center", color=colour)
    return ax.get_figure()  # type: ignore[return-value]


def heads_grid(
    weights: Tensor,
    queries: Sequence[str] | None = None,
    keys: Sequence[str] | None = None,
    *,
    titles: Sequence[str] | None = None,
    columns: int = 4,
) -> Figure:
    """Weights (heads, queries, keys) as one picture per head."""
    heads = len(weights)
    columns = min(columns, heads)
    rows = -(-heads // columns)
    figure, axes = plt.subplots(
        rows, columns, figsize=(WIDTH, WIDTH / columns * rows * 1.15), squeeze=False, sharex=True, sharey=True
    )
    for i, ax in enumerate(axes.flat):
        if i >= heads:
            ax.set_visible(False)
            continue
        attention_map(weights[i], queries, keys, ax=ax, title=titles[i] if titles else f"head {i + 1}")
        ax.label_outer()
    return figure


def mask_map(
    mask: Tensor,
    queries: Sequence[str] | None = None,
    keys: Sequence[str] | None = None,
    *,
    ax: Axes | None = None,
    title: str | None = None,
) -> Figure:
    """A boolean mask (queries, keys): coloured = may attend, grey = may not."""
    if ax is None:
        _, ax = plt.subplots(figsize=(1.5 + 0.45 * mask.shape[1], 1.2 + 0.4 * mask.shape[0]))
    ax.imshow(_array(mask), cmap=ListedColormap(["#dddddd", COLOURS[0]]), vmin=0, vmax=1)
    ax.set_xticks(np.arange(mask.shape[1] + 1) - 0.5, minor=True)
    ax.set_yticks(np.arange(mask.shape[0] + 1) - 0.5, minor=True)
    ax.grid(which="minor", color="white", linewidth=1)
    ax.tick_params(which="minor", length=0)
    _ticks(ax, queries, keys)
    ax.set(xlabel="keys", ylabel="queries")
    if title:
        ax.set_title(title)
    return ax.get_figure()  # type: ignore[return-value]


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
        y = np.atleast_2d(_array(values))
        at = np.arange(y.shape[1]) if x is None else _array(x)
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


def _triangle(ax: Axes, values: np.ndarray, names: Sequence[str]) -> None:
    # Values (keys, 2) as the corners of the region that a weighted mean cannot leave.
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
        drawn = ax.bar(names, _array(numbers), color=COLOURS[: len(names)])
        ax.bar_label(drawn, [form.format(x) for x in _array(numbers)], padding=2)
        ax.tick_params(axis="x", rotation=45)
        ax.set(title=title, xlabel="keys", ylabel=title.split()[1].replace("normalize", "weight"))
        ax.margins(y=0.15)
    middle.set_ylim(0, 1.15)
    corners, point = _array(values), _array(output)
    _triangle(right, corners, names)
    for i, (at, weight) in enumerate(zip(corners, _array(weights), strict=True)):
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
    at, shares, corners = _array(temperatures), _array(weights), _array(values)
    for i, name in enumerate(names):
        left.plot(at, shares[:, i], color=COLOURS[i], label=name)
    left.axhline(1 / len(names), color="grey", linestyle=":", label="all alike")
    left.set(xscale="log", xlabel="temperature", ylabel="weight", title="weights")
    left.legend()
    _triangle(right, corners, names)
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
        "Kᵀ": (_array(key).T, "d_k", "keys"),
        "Q Kᵀ": (_array(query) @ _array(key).T, "queries", "keys"),
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
            image = _array(matrix)
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


def weights_table(
    rows: Mapping[str, Sequence[Tensor | np.ndarray]], columns: Sequence[str], *, brightest: float = 1.0
) -> Figure:
    """Attention maps in a table: one named row per setting, one column per name in `columns`.

    All share one colour scale, from 0 to `brightest`.
    """
    figure, axes = plt.subplots(
        len(rows),
        len(columns),
        figsize=(WIDTH, 0.3 + (WIDTH - 1.2) / len(columns) * len(rows)),
        squeeze=False,
        sharex=True,
        sharey=True,
    )
    for line, (name, maps) in zip(axes, rows.items(), strict=True):
        for ax, weights in zip(line, maps, strict=True):
            drawn = ax.imshow(_array(weights), cmap=WEIGHTS, vmin=0, vmax=brightest)
            ax.set(xticks=[], yticks=[])
            ax.spines[:].set_visible(False)
        line[0].set_ylabel(f"{name}\n(queries)")
    for ax, name in zip(axes[0], columns, strict=True):
        ax.set_title(name)
    for ax in axes[-1]:
        ax.set_xlabel("keys")
    figure.colorbar(drawn, ax=axes, label="weight", extend="max", shrink=0.6)
    return figure


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
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(labels))
    return figure


def attention_maps(
    maps: Mapping[str, tuple[Tensor | np.ndarray, Sequence[str], Sequence[str]]],
    *,
    outline: str | None = None,
) -> Figure:
    """Attention maps side by side: title → (weights, queries, keys). The row of the query `outline` gets a
    frame in each.
    """
    figure, axes = plt.subplots(1, len(maps), figsize=(WIDTH, 3.9), squeeze=False)
    for ax, (title, (weights, queries, keys)) in zip(axes[0], maps.items(), strict=True):
        attention_map(weights, queries, keys, ax=ax, title=title)
        ax.tick_params(axis="x", rotation=90)
        if outline is not None:
            at = (-0.5, list(queries).index(outline) - 0.5)
            box = Rectangle(at, len(keys), 1, fill=False, edgecolor=COLOURS[1], linewidth=3)
            box.set_clip_on(False)
            ax.add_patch(box)
    return figure


def weights_on_words(
    weights: Tensor | np.ndarray,
    queries: Sequence[str],
    keys: Sequence[str],
    *,
    title: str | None = None,
    ylabel: str = "queries",
) -> Figure:
    """Weights (queries, keys) drawn on the words: every query reads the line of keys, bright where it
    attends.
    """
    image = _array(weights)
    figure, ax = plt.subplots(figsize=(WIDTH, 0.8 + 0.36 * len(queries)))
    ax.imshow(image, cmap=WEIGHTS, vmin=0, vmax=1, aspect="auto")
    for (i, j), weight in np.ndenumerate(image):
        ax.text(j, i, keys[j], ha="center", va="center", color="white" if weight < 0.5 else "black")
    ax.set_yticks(range(len(queries)), queries)
    ax.set_yticks(np.arange(len(queries) + 1) - 0.5, minor=True)
    ax.grid(axis="y", which="minor", color="white", linewidth=2)
    ax.tick_params(which="both", length=0)
    ax.set(xticks=[], xlabel="keys", ylabel=ylabel)
    ax.spines[:].set_visible(False)
    if title:
        ax.set_title(title)
    return figure


def plane(values: Tensor, outputs: Tensor, wanted: Tensor | None = None) -> Figure:
    """The region that outputs (points, 2) cannot leave, with the values (keys, 2) as its corners, and
    crosses (points, 2) on what is wanted.
    """
    figure, ax = plt.subplots(figsize=(5.2, 3.6))
    _triangle(ax, _array(values), [f"value {i + 1}" for i in range(len(values))])
    x, y = _array(outputs).T
    ax.scatter(x, y, s=8, color="grey", alpha=0.6, label="possible outputs")
    if wanted is not None:
        x, y = _array(wanted).T
        ax.scatter(x, y, s=160, marker="x", color="black", zorder=4, label="wanted, both")
    figure.legend(loc="outside right center")
    return figure


def entries(panels: Mapping[str, Tensor]) -> Figure:
    """Where each number of a (positions, features) matrix went: panels of whole numbers 10 position +
    feature, written "position.feature" and coloured by position.
    """
    grids = {title: _array(panel).astype(int) for title, panel in panels.items()}
    shapes = [grid.shape for grid in grids.values()]
    figure, axes = plt.subplots(
        1,
        len(grids),
        squeeze=False,
        figsize=(WIDTH, 1.0 + 0.36 * max(rows for rows, _ in shapes)),
        width_ratios=[columns for _, columns in shapes],
    )
    for ax, (title, grid) in zip(axes.flat, grids.items(), strict=True):
        position = grid // 10
        ax.imshow(position, cmap=ListedColormap(COLOURS), vmin=0.5, vmax=len(COLOURS) + 0.5, alpha=0.55)
        for (row, column), entry in np.ndenumerate(grid):
            ax.text(column, row, f"{entry // 10}.{entry % 10}", ha="center", va="center", fontsize=9)
        ax.set_title(title, fontsize=10)
        ax.set(xticks=[], yticks=[])
        ax.spines[:].set_visible(False)
    return figure


def two_errors(
    errors: Mapping[str, Tensor],
    *,
    xlabel: str,
    ylabel: str,
    bound: float,
    ax: Axes | None = None,
    title: str | None = None,
) -> Figure:
    """One dot per trained model, errors (models, 2), and the line x + y = bound."""
    if ax is None:
        _, ax = plt.subplots(figsize=(4.0, 3.6))
    ax.plot([0, bound], [bound, 0], color="grey", linestyle="--", label=f"sum = {bound:g}")
    for (name, dots), marker in zip(errors.items(), "os^D", strict=False):
        x, y = _array(dots).T
        ax.scatter(x, y, s=45, marker=marker, label=name, clip_on=False, zorder=3)
    ax.set(xlabel=xlabel, ylabel=ylabel, xlim=(0, bound), ylim=(0, bound), aspect="equal")
    ax.legend()
    if title:
        ax.set_title(title)
    return ax.get_figure()  # type: ignore[return-value]


def heads_with_marks(weights: Tensor, marks: Mapping[str, Tensor]) -> Figure:
    """`heads_grid` of weights (heads, queries, keys), with one marker per query on a key: where each
    relation points.
    """
    figure = heads_grid(weights, columns=2)
    at = np.arange(weights.shape[-2])
    for ax in figure.axes[: len(weights)]:
        for (name, keys), marker, colour in zip(marks.items(), "os", COLOURS[1::2], strict=False):
            ax.scatter(_array(keys), at, s=70, marker=marker, facecolor="none", edgecolor=colour, label=name)
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=len(marks))
    return figure


def ablation(errors: Mapping[str, Tensor], rows: Sequence[str], columns: Sequence[str]) -> Figure:
    """Errors (what was removed, relation) as tables with their numbers, one per model: bright is lost."""
    figure, axes = plt.subplots(
        1, len(errors), figsize=(WIDTH, 1.3 + 0.38 * len(rows)), squeeze=False, sharey=True
    )
    for ax, (title, table) in zip(axes.flat, errors.items(), strict=True):
        numbers = _array(table)
        ax.imshow(numbers, cmap=WEIGHTS, vmin=0.0, vmax=1.0, aspect="auto")
        for (i, j), error in np.ndenumerate(numbers):
            colour = "white" if error < 0.5 else "black"
            ax.text(j, i, f"{error:.2f}", ha="center", va="center", color=colour)
        ax.set_title(title)
        _ticks(ax, rows, None)
        ax.set_xticks(range(len(columns)), columns)
        ax.spines[:].set_visible(False)
    figure.supxlabel("mean squared error of each relation", fontsize=11)
    return figure


def number_of_heads(
    cost_heads: Sequence[int], cost: Mapping[str, Tensor], error_heads: Sequence[int], error: Tensor
) -> Figure:
    """What heads cost, in multiples of one head, beside the error (seeds, numbers of heads) they reach."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(WIDTH, 3.2))
    curves(cost, cost_heads, ax=left, xlabel="heads", ylabel="times one head", title="cost", log="xy")
    for line, width in zip(left.lines, (2, 6, 2), strict=False):
        line.set(linewidth=width, alpha=0.4 if width > 2 else 1.0)  # lines that coincide stay visible
    left.legend()
    curves({"error": error}, error_heads, ax=right, xlabel="heads", ylabel="error", title="quality", log="x")
    left.set_yticks(cost_heads, [str(heads) for heads in cost_heads])
    for ax, ticks in ((left, cost_heads), (right, error_heads)):
        ax.minorticks_off()
        ax.set_xticks(ticks, [str(heads) for heads in ticks])
    return figure


def mask_gallery(
    panels: Mapping[str, Tensor], *, columns: int = 4, xlabel: str = "keys", ylabel: str = "queries"
) -> Figure:
    """`mask_map`s in a grid, one per title; masks may differ in size."""
    rows = -(-len(panels) // columns)
    figure, axes = plt.subplots(
        rows, columns, figsize=(WIDTH, rows * (WIDTH / columns + 0.35)), squeeze=False
    )
    for ax in axes.flat[len(panels) :]:
        ax.set_visible(False)
    for ax, (title, mask) in zip(axes.flat, panels.items(), strict=False):
        _small_mask(ax, mask, title)
        ax.set(xlabel=xlabel, ylabel=ylabel)
    return figure


def mask_equations(lines: Sequence[tuple[Mapping[str, Tensor], str]]) -> Figure:
    """A line per (three masks by title, sign): first, sign, second = third."""
    figure, axes = plt.subplots(
        len(lines), 5, figsize=(WIDTH, 2.5 * len(lines)), squeeze=False, width_ratios=(8, 1, 8, 1, 8)
    )
    for line, (panels, sign) in zip(axes, lines, strict=True):
        for ax, (title, mask) in zip(line[::2], panels.items(), strict=True):
            _small_mask(ax, mask, title)
        for ax, text in zip(line[1::2], (sign, "="), strict=True):
            ax.text(0.5, 0.5, text, ha="center", va="center", fontsize=20)
            ax.set_axis_off()
    return figure


def _small_mask(ax: Axes, mask: Tensor, title: str) -> None:
    mask_map(mask, ax=ax)
    ax.set_title(title, fontsize=10)
    ax.set(xticks=[], yticks=[])
    ax.spines[:].set_visible(False)


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
    ax.imshow(_array(layers), cmap=colours, vmin=0.5, vmax=deepest + 0.5)
    for (i, j), count in np.ndenumerate(_array(layers).astype(int)):
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


def leak_maps(moved: Mapping[str, Tensor], may: Tensor, *, columns: int = 4) -> Figure:
    """Which outputs moved when an input was changed, (outputs, inputs), against what `may` allows.

    A leak (!) is a forbidden input that moves an output, a blind spot (?) an allowed one that does not.
    """
    rows = -(-len(moved) // columns)
    figure, axes = plt.subplots(
        rows, columns, figsize=(WIDTH, rows * (WIDTH / columns + 0.4) + 0.4), squeeze=False
    )
    kinds = {"forbidden, still": "#dddddd", "allowed, moved": COLOURS[0]}
    kinds |= {"! leak: forbidden, moved": COLOURS[1], "? blind: allowed, still": COLOURS[4]}
    allowed = _array(may).astype(bool)
    for ax in axes.flat[len(moved) :]:
        ax.set_visible(False)
    for ax, (title, outcome) in zip(axes.flat, moved.items(), strict=False):
        stirred = _array(outcome).astype(bool)
        kind = np.select([~allowed & ~stirred, allowed & stirred, ~allowed], [0, 1, 2], 3)
        ax.imshow(kind, cmap=ListedColormap(list(kinds.values())), vmin=0, vmax=3)
        for i, j in np.argwhere(kind >= 2):
            ax.text(j, i, " !?"[kind[i, j] - 1], ha="center", va="center", fontweight="bold")
        ax.set_title(title, fontsize=10)
        ax.set(xticks=[], yticks=[], xlabel="inputs", ylabel="outputs")
        ax.spines[:].set_visible(False)
    handles = [Rectangle((0, 0), 1, 1, color=colour) for colour in kinds.values()]
    figure.legend(handles, list(kinds), loc="outside lower center", ncols=2)
    return figure


def transformer_anatomy() -> Figure:
    """The encoder-decoder (Vaswani et al. 2017, figure 1): its three attentions in colour, each with the
    arrows of its queries, keys and values.
    """
    figure, ax = plt.subplots(figsize=(WIDTH, 7.6))
    left, right, half = 2.4, 7.6, 1.45
    blue, orange, green = COLOURS[0], COLOURS[1], COLOURS[2]

    def box(x: float, y: float, text: str, colour: str = "#eeeeee", ink: str = "black") -> None:
        height = 0.62
        ax.add_patch(
            Rectangle((x - half, y), 2 * half, height, facecolor=colour, edgecolor="black", linewidth=0.8)
        )
        ax.text(x, y + height / 2, text, ha="center", va="center", color=ink, fontsize=10)

    def arrow(*points: tuple[float, float], colour: str = "black", label: str = "") -> None:
        ax.plot(*zip(*points[:-1], strict=True), color=colour, linewidth=1.3)
        style = {"arrowstyle": "-|>", "color": colour, "linewidth": 1.3, "shrinkA": 0, "shrinkB": 0}
        ax.annotate("", points[-1], points[-2], arrowprops=style)
        if label:
            x, y = points[-1]
            ax.text(x + 0.16, y - 0.19, label, ha="center", va="center", color=colour, fontweight="bold")

    def around(x: float, low: float, high: float) -> None:  # the residual connection
        edge = x + (half + 0.3) * (1 if x == right else -1)
        arrow(
            (x, low), (edge, low), (edge, high), (x + half * (1 if x == right else -1), high), colour="grey"
        )

    def from_below(x: float, y: float, colour: str) -> None:
        for offset, letter in ((-0.8, "q"), (0.0, "k"), (0.8, "v")):
            arrow((x, y - 0.5), (x + offset, y - 0.5), (x + offset, y), colour=colour, label=letter)

    for x, word in ((left, "source tokens"), (right, "target tokens so far")):
        ax.text(x, -0.05, word, ha="center", va="top")
        arrow((x, 0.0), (x, 0.35))
        box(x, 0.35, "embedding · √d_model\n+ positions")
        arrow((x, 0.97), (x, 2.0))
    from_below(left, 2.0, blue)
    from_below(right, 2.0, orange)
    box(left, 2.0, "self-attention", blue, "white")
    box(right, 2.0, "masked self-attention", orange, "white")
    for x in (left, right):
        arrow((x, 2.62), (x, 2.85))
        box(x, 2.85, "add & norm")
        around(x, 1.25, 3.16)

    arrow((right, 3.47), (right, 3.8), (right + 0.8, 3.8), (right + 0.8, 4.35), colour=green, label="q")
    for offset, letter in ((-0.8, "k"), (0.0, "v")):
        path = ((left, 6.5), (5.0, 6.5), (5.0, 4.03), (right + offset, 4.03), (right + offset, 4.35))
        arrow(*path, colour=green, label=letter)
    box(right, 4.35, "cross-attention", green, "white")
    arrow((right, 4.97), (right, 5.2))
    box(right, 5.2, "add & norm")
    around(right, 3.6, 5.51)

    for x, low in ((left, 3.47), (right, 5.82)):
        arrow((x, low), (x, low + 0.38))
        box(x, low + 0.38, "feed-forward")
        arrow((x, low + 1.0), (x, low + 1.23))
        box(x, low + 1.23, "add & norm")
        around(x, low + 0.12, low + 1.54)
    arrow((left, 5.32), (left, 6.5))
    ax.text(left, 6.6, "memory: one vector\nper source token", ha="center", va="bottom")
    arrow((right, 7.67), (right, 8.1))
    box(right, 8.1, "linear, softmax")
    arrow((right, 8.72), (right, 9.1))
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


def alignments(
    maps: Mapping[str, Tensor | np.ndarray],
    written: Sequence[str],
    source: Sequence[str],
    *,
    frames: Mapping[int, int] | None = None,
) -> Figure:
    """What was written (queries, one row per token) against the source (keys), one map per title, each on its
    own colour scale. `frames`: row → column, cells to frame.
    """
    figure, axes = plt.subplots(
        1, len(maps), figsize=(WIDTH, 1.6 + 0.21 * len(written)), sharey=True, squeeze=False
    )
    for ax, (title, picture) in zip(axes[0], maps.items(), strict=True):
        drawn = ax.imshow(_array(picture), cmap=WEIGHTS, vmin=0, aspect="auto")
        figure.colorbar(drawn, ax=ax, location="bottom", shrink=0.8, pad=0.02)
        ax.set_xticks(range(len(source)), source, rotation=45)
        ax.xaxis.tick_top()
        ax.set_yticks(range(len(written)), written)
        ax.tick_params(length=0)
        ax.set_title(title, fontsize=11)
        ax.spines[:].set_visible(False)
        for row, column in (frames or {}).items():
            cell = Rectangle((column - 0.5, row - 0.5), 1, 1, fill=False, edgecolor=COLOURS[1], linewidth=2.5)
            ax.add_patch(cell)
    axes[0, 0].set_ylabel("queries: the token being written")
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
        right.barh(i, _array(values).mean(), color=colour, alpha=0.55)
        right.plot(
            _array(values), np.full(len(values), i), "o", color=colour, markersize=5, markeredgecolor="black"
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
            right.scatter([at] * len(values), _array(values), color=colour, s=14, zorder=3, clip_on=False)
    right.set_xticks(range(len(shares)), list(shares))
    right.set(ylim=(0, 1), title="share of right answers")
    for ax in (left, middle, right):
        ax.title.set_fontsize(11)
    handles, labels = left.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(labels))
    return figure


def sentence_vectors(panels: Mapping[str, tuple[Sequence[str], Tensor]]) -> Figure:
    """Title → (words, their vectors (words, features)), side by side on one colour scale: red is positive."""
    figure, axes = plt.subplots(
        1, len(panels), figsize=(WIDTH, 1.5 + 0.33 * max(len(words) for words, _ in panels.values()))
    )
    reach = max(np.abs(_array(vectors)).max() for _, vectors in panels.values())
    for ax, (title, (words, vectors)) in zip(np.atleast_1d(axes), panels.items(), strict=True):
        ax.imshow(_array(vectors), cmap=SIGNED, vmin=-reach, vmax=reach, aspect="auto")
        ax.set_yticks(range(len(words)), words)
        ax.set(xticks=[], xlabel="features")
        ax.set_title(title, fontsize=10)
        ax.tick_params(length=0)
        ax.spines[:].set_visible(False)
    return figure


def position_codes(codes: Tensor, features: Sequence[int]) -> Figure:
    """Left: the table of codes (positions, d_model). Right: some of its columns as curves over the positions;
    the columns are marked above the table.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(WIDTH, 3.8), width_ratios=(1, 1.1))
    table = _array(codes)
    drawn = left.imshow(table, cmap=SIGNED, vmin=-1, vmax=1, aspect="auto", interpolation="nearest")
    figure.colorbar(drawn, ax=left, location="bottom", shrink=0.7, ticks=[-1, 0, 1])
    left.set(xlabel="feature", ylabel="position p")
    for line, feature in enumerate(features):
        colour = COLOURS[line % len(COLOURS)]
        left.annotate("▼", (feature, -0.5), color=colour, ha="center", va="bottom", annotation_clip=False)
        middle = -2.6 * line
        right.plot(table[:, feature] + middle, color=colour)
        right.axhline(middle, color="grey", linewidth=0.5)
        kind = "cos" if feature % 2 else "sin"
        right.text(
            len(table) + 1, middle, f"feature {feature}\n({kind})", color=colour, va="center", fontsize=10
        )
    right.set(xlabel="position p", yticks=[], xlim=(0, len(table) - 1))
    right.spines["left"].set_visible(False)
    return figure


def clocks(position: int, codes: Tensor, titles: Sequence[str]) -> Figure:
    """One clock per pair of features of `codes` (positions, 2 · pairs): the hand's tip is (sine, cosine), so
    it starts at the top and turns clockwise. The hand of `position` is black, those before it are dots.
    """
    figure, axes = plt.subplots(1, len(titles), figsize=(WIDTH, 2.5), squeeze=False)
    table = _array(codes)
    for i, (ax, title) in enumerate(zip(axes[0], titles, strict=True)):
        ax.add_patch(Circle((0, 0), 1, facecolor="none", edgecolor="grey"))
        x, y = table[:, 2 * i], table[:, 2 * i + 1]
        ax.scatter(x[:position], y[:position], s=18, color=COLOURS[5], zorder=2)
        ax.plot([0, x[position]], [0, y[position]], color="black", linewidth=2.5, zorder=3)
        ax.plot(x[position], y[position], "o", color=COLOURS[1], markersize=8, zorder=4)
        ax.set(xlim=(-1.15, 1.15), ylim=(-1.15, 1.15), aspect="equal", xticks=[], yticks=[])
        ax.spines[:].set_visible(False)
        ax.set_title(title, fontsize=10)
        ax.set_xlabel(f"({x[position]:.2f}, {y[position]:.2f})", fontsize=10)
    figure.suptitle(f"position {position}", fontsize=12)
    return figure


def code_products(products: Tensor, by_distance: Mapping[str, Tensor]) -> Figure:
    """Left: dot products (positions, positions) of all codes. Right: dot product against distance, one curve
    per name.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(WIDTH, 3.3), width_ratios=(1, 1.3))
    image = _array(products)
    drawn = left.imshow(image, cmap=WEIGHTS)
    figure.colorbar(drawn, ax=left, location="bottom", shrink=0.8, label="dot product")
    left.set(xlabel="position q", ylabel="position p")
    curves(by_distance, ax=right, xlabel="distance |p - q|", ylabel="dot product")
    right.axhline(0, color="grey", linewidth=0.5)
    return figure


def turned_positions(
    before: Tensor, after: Tensor, titles: Sequence[str], names: Sequence[tuple[str, str]]
) -> Figure:
    """Codes (positions, 2 · pairs) before and after a shift, one circle per pair: every arrow of a circle
    turns by the same angle. `names`: of each position, before and after.
    """
    figure, axes = plt.subplots(1, len(titles), figsize=(WIDTH, 2.9), squeeze=False)
    start, end = _array(before), _array(after)
    for i, (ax, title) in enumerate(zip(axes[0], titles, strict=True)):
        ax.add_patch(Circle((0, 0), 1, facecolor="none", edgecolor="lightgrey"))
        for p, (old, new) in enumerate(names):
            colour, radius = COLOURS[p], 1 - 0.17 * p
            angles = [np.arctan2(*table[p, 2 * i : 2 * i + 2]) for table in (start, end)]
            turn = (angles[1] - angles[0]) % (2 * np.pi)
            way = np.linspace(angles[0], angles[0] + turn, 40)
            ax.plot(radius * np.sin(way), radius * np.cos(way), color=colour, linewidth=2)
            for name, at in ((old, way[0]), (new, way[-1])):
                ax.plot([0, radius * np.sin(at)], [0, radius * np.cos(at)], color=colour, linewidth=0.6)
                ax.plot(radius * np.sin(at), radius * np.cos(at), "o", color=colour, markersize=7)
                ax.text(1.24 * np.sin(at), 1.24 * np.cos(at), name, color=colour, ha="center", va="center")
        ax.set(xlim=(-1.4, 1.4), ylim=(-1.4, 1.4), aspect="equal", xticks=[], yticks=[])
        ax.spines[:].set_visible(False)
        ax.set_title(title, fontsize=10)
        ax.set(xlabel="sine", ylabel="cosine" if i == 0 else "")
    return figure


def number_grids(panels: Mapping[str, Tensor], *, xlabel: str = "keys", ylabel: str = "queries") -> Figure:
    """Grids of signed whole numbers, each written in its cell: blue below zero, red above."""
    figure, axes = plt.subplots(1, len(panels), figsize=(WIDTH, 3.5), squeeze=False)
    grids = {title: _array(panel).astype(int) for title, panel in panels.items()}
    reach = max(np.abs(grid).max() for grid in grids.values())
    for ax, (title, grid) in zip(axes[0], grids.items(), strict=True):
        ax.imshow(grid, cmap=SIGNED, vmin=-1.6 * reach, vmax=1.6 * reach)
        for (row, column), number in np.ndenumerate(grid):
            ax.text(column, row, f"{number:d}", ha="center", va="center")
        ax.set(title=title, xlabel=xlabel, ylabel=ylabel)
        ax.tick_params(length=0)
        ax.spines[:].set_visible(False)
    return figure


def linear_biases(slopes: Tensor, distances: int) -> Figure:
    """What ALiBi makes of equal scores. Left: the penalty of each head. Right: the weights of one query, the
    last, on the keys before it.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(WIDTH, 3.2))
    distance = np.arange(distances)
    for i, slope in enumerate(_array(slopes)):
        weights = np.exp(-slope * distance)
        name = f"1/{round(1 / slope)}"
        left.plot(distance, -slope * distance, color=COLOURS[i % len(COLOURS)], label=name)
        right.plot(distance, weights / weights.sum(), color=COLOURS[i % len(COLOURS)], label=name)
    left.set(xlabel="distance to the key", ylabel="added to the score", title="penalty")
    right.set(xlabel="distance to the key", ylabel="weight", title="weights, if all scores are equal")
    for ax in (left, right):
        ax.title.set_fontsize(11)
    right.legend(title="slope of the head")
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
            y = _array(values)
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
            dots = np.atleast_1d(_array(values))
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
        ax.contourf(at, at, _array(scores), levels=24, cmap=WEIGHTS)
        ax.contour(at, at, _array(scores), levels=8, colors="white", linewidths=0.5, linestyles="-")
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
    left.bar(entries, _array(exact), width=0.8, color="#dddddd", label="exact")
    for i, (name, (mean, error)) in enumerate(estimates.items()):
        left.errorbar(
            entries + 0.22 * (i - (len(estimates) - 1) / 2),
            _array(mean),
            yerr=2 * _array(error),
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
        ax.imshow(_array(canvas), cmap="gray_r", vmin=0, vmax=1.4)
        centres = _array(looks) + (size - 1) / 2
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
        lines, at = _array(centres), np.arange(len(places))
        ax.fill_between(
            at, lines[0] - reach, lines[0] + reach, color=COLOURS[0], alpha=0.2, linewidth=0, label="window"
        )
        for i, line in enumerate(lines):
            ax.plot(at, line, color=COLOURS[0], linewidth=1, label="learned centre" if i == 0 else None)
        ax.plot(at, _array(places), "o", color=COLOURS[1], markersize=3, label="relevant place")
        ax.plot(at, at, color="black", linestyle="--", linewidth=1, label="diagonal")
        ax.set(xlabel="queries", ylim=(-2, len(places) + 1))
        ax.set_title(title, fontsize=11)
    axes[0, 0].set_ylabel("keys")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(labels))
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
        ax.bar(keys, _array(heights), color="grey" if title.startswith("window") else colours)
        ax.set_title(title, fontsize=11)
        ax.set(ylim=(0, 1.05), xlim=(-0.7, len(keys) - 0.3), ylabel="weight")
    axes[1].set_ylabel("factor")
    axes[2].set_xlabel("keys")
    return figure


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
        arrow = {"arrowstyle": "-|>", "color": "grey", "shrinkA": 0, "shrinkB": 0}
        ax.annotate("", (x2 - 0.62, y2), (x1 + 0.62, y1), arrowprops=arrow, zorder=1)
    for number, name in names.items():
        left, middle = place[number][0] - 0.62, place[number][1]
        box = Rectangle((left, middle - 0.34), 1.24, 0.68, facecolor="white", edgecolor=COLOURS[0], zorder=2)
        ax.add_patch(box)
        centred: dict[str, Any] = {"ha": "center", "va": "center"}
        ax.text(left + 0.62, middle + 0.17, f"{number:02}", fontweight="bold", fontsize=9, **centred)
        ax.text(left + 0.62, middle - 0.12, name, fontsize=8, linespacing=1, **centred)
    ax.set(xlim=(-0.7, 1.62 * max(column.values()) + 0.7))
    ax.margins(y=0.1)
    ax.set_axis_off()
    return figure


def suspects(correct: Tensor, others: Mapping[str, Tensor], *, smooth: int = 10) -> Figure:
    """Losses of the correct model (seeds, steps) as a grey band, lowest to highest, and of others (steps,).

    All are means over the last `smooth` steps.
    """

    def smoothed(losses: Tensor) -> np.ndarray:
        return _array(losses.unfold(-1, smooth, 1).mean(-1))

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
    table = _array(seen).astype(bool)
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


def distance_maps(panels: Mapping[str, Tensor], names: Sequence[str]) -> Figure:
    """Distances between all pairs of vectors, (names, names): dark is near. One panel per title."""
    figure, axes = plt.subplots(1, len(panels), figsize=(WIDTH, 4.0), squeeze=False, sharey=True)
    for ax, (title, distances) in zip(axes[0], panels.items(), strict=True):
        drawn = ax.imshow(_array(distances), cmap=WEIGHTS, vmin=0)
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
        perm = {name: _array(p).astype(int) for name, p in order.items()}
        by_word, by_frame, by_pixel, _ = perm.values()
        said = [words[i] for i in by_word] if shuffled else words
        lines = [" ".join(said[i : i + 2]) for i in range(0, len(said), 2)]
        text.text(0.5, 0.5, "\n".join(lines), ha="center", va="center", fontsize=12, linespacing=1.6)
        wave = _array(samples)
        if shuffled:  # the sound is cut into as many pieces as there are frames
            wave = np.concatenate([np.array_split(wave, len(by_frame))[i] for i in by_frame])
        sound.plot(wave, linewidth=0.4)
        pixels = _array(image)
        if shuffled:
            pixels = pixels.ravel()[by_pixel].reshape(pixels.shape)
        digit.imshow(pixels, cmap="gray_r")
        if not shuffled:
            for i, j in _array(edges).astype(int):
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
        shown = _array(vectors / vectors.amax(0) if i == 3 else vectors)
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
    top.imshow(_array(inputs), cmap=SIGNED, aspect="auto", vmin=-3, vmax=3)
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
        ax.imshow(_array(picture), cmap=WEIGHTS, vmin=0, vmax=1, aspect="equal")
        for row, best in enumerate(_array(picture).argmax(-1)):
            frame = Rectangle((best - 0.5, row - 0.5), 1, 1, fill=False, edgecolor=COLOURS[1], linewidth=2)
            ax.add_patch(frame)
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
        box = Rectangle((i - 0.47, -0.3), 0.94, 0.6, facecolor=COLOURS[5] if seen else "#eeeeee")
        box.set_edgecolor("black" if i == place else "none")
        box.set_linewidth(2)
        upper.add_patch(box)
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


def encoder_layer() -> Figure:
    """One encoder layer, post-norm, for three positions (Vaswani et al. 2017, figure 1, left): what each box
    does to the vectors, and their shapes.
    """
    figure, ax = plt.subplots(figsize=(WIDTH, 6.6))
    places, half, blue, orange = (2.0, 3.5, 5.0), 2.2, COLOURS[0], COLOURS[1]

    def box(y: float, height: float, text: str, colour: str) -> None:
        frame = Rectangle((3.5 - half, y), 2 * half, height, facecolor=colour, edgecolor="black", alpha=0.25)
        ax.add_patch(frame)
        ax.text(3.5 + half + 0.75, y + height / 2, text, ha="left", va="center", fontsize=11)

    def arrow(x: float, low: float, to: float, high: float, colour: str = "black") -> None:
        style = {"arrowstyle": "-|>", "color": colour, "linewidth": 1.2, "shrinkA": 0, "shrinkB": 0}
        ax.annotate("", (to, high), (x, low), arrowprops=style)

    def vectors(y: float, shape: str) -> None:
        for x in places:
            ax.add_patch(Rectangle((x - 0.35, y), 0.7, 0.26, facecolor="white", edgecolor="black", zorder=3))
        ax.text(3.5 + half + 0.75, y + 0.13, shape, ha="left", va="center", color="dimgrey", fontsize=10)

    def around(low: float, high: float) -> None:
        edge = 3.5 - half - 0.5
        ax.plot([places[0] - 0.35, edge, edge], [low, low, high], color="grey", linewidth=1.6)
        arrow(edge, high, 3.5 - half, high, "grey")

    vectors(0.0, "x: length x d_model")
    for x in places:
        for to in places:
            arrow(x, 0.26, to, 1.75, blue)
    box(0.55, 1.2, "self-attention\nmixes positions", blue)
    box(2.05, 0.6, "add & norm: LayerNorm(x + ...)", "grey")
    vectors(2.95, "length x d_model")
    box(3.5, 1.5, "feed-forward\neach position alone", orange)
    for x in places:
        arrow(x, 1.75, x, 2.05)
        arrow(x, 2.65, x, 2.95)
        arrow(x, 3.21, x, 3.95, orange)
        wide = Rectangle((x - 0.62, 3.95), 1.24, 0.26, facecolor=orange, edgecolor="black", alpha=0.6)
        wide.set_zorder(3)
        ax.add_patch(wide)
        arrow(x, 4.21, x, 5.3, orange)
        arrow(x, 5.9, x, 6.2)
    ax.text(3.5 + half + 0.75, 3.82, "hidden: length x d_ff", va="center", color="dimgrey", fontsize=10)
    box(5.3, 0.6, "add & norm", "grey")
    vectors(6.2, "length x d_model")
    around(0.13, 2.35)
    around(3.08, 5.6)
    ax.text(0.55, 1.25, "residual", rotation=90, ha="center", va="center", color="grey")
    ax.text(0.55, 4.3, "residual", rotation=90, ha="center", va="center", color="grey")
    ax.text(3.5, -0.12, "three positions", ha="center", va="top")
    ax.set(xlim=(0.3, 10.4), ylim=(-0.5, 6.6))
    ax.set_axis_off()
    return figure


def through_depth(panels: Mapping[str, Mapping[str, Tensor]], *, xlabel: str) -> Figure:
    """What was measured (runs, sub-layers) on the way through a deep stack, one logarithmic panel per
    measure, one line with its band per kind of stack.
    """
    figure, axes = plt.subplots(1, len(panels), figsize=(WIDTH, 3.4), squeeze=False)
    for ax, (title, series) in zip(axes[0], panels.items(), strict=True):
        depth = next(iter(series.values())).shape[-1]
        curves(series, range(1, depth + 1), ax=ax, xlabel=xlabel, ylabel="", title=title, log="y")
        ax.title.set_fontsize(11)
        ax.get_legend().remove()
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(labels))
    return figure


def depth_dots(
    panels: Mapping[str, tuple[Sequence[int], Mapping[str, Tensor]]], *, xlabel: str, guessing: float
) -> Figure:
    """Final losses (depths, runs) of stacks, a dot per run, and the line of `guessing`.

    Each panel: title → (the depths, name → losses); a name may have only the first of the depths.
    """
    figure, axes = plt.subplots(1, len(panels), figsize=(WIDTH, 3.4), squeeze=False, sharey=True)
    highest = 1.25 * guessing  # what diverged is drawn at the upper edge
    for ax, (title, (depths, series)) in zip(axes[0], panels.items(), strict=True):
        for k, (name, losses) in enumerate(series.items()):
            at = np.arange(len(losses)) + 0.22 * (k - (len(series) - 1) / 2)
            y = np.minimum(np.nan_to_num(_array(losses), nan=highest), highest)
            ax.plot(at, y.mean(axis=1), color=COLOURS[k], linewidth=1, alpha=0.6)
            for run in y.T:
                label = name if run is y.T[0] else None
                ax.plot(at, run, "os^D"[k], color=COLOURS[k], markersize=5, alpha=0.8, label=label)
            ax.plot([], [], "os^D"[k], color=COLOURS[k], markersize=5, label=name)
        ax.axhline(guessing, color="black", linestyle="--", linewidth=1)
        ax.set_xticks(range(len(depths)), [str(depth) for depth in depths])
        ax.set(xlabel=xlabel, title=title, ylim=(0, highest * 1.04))
        ax.title.set_fontsize(11)
    axes[0, 0].set_ylabel("final loss")
    axes[0, 0].text(0, guessing + 0.01, "guessing", ha="left", va="bottom", fontsize=9)
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(labels))
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
            ax.scatter([at] * len(values), _array(values), color=COLOURS[k], s=16, zorder=3, clip_on=False)
    if guessing is not None:
        ax.axhline(guessing, color="black", linestyle="--", linewidth=1)
    ax.set_xticks(range(len(scores)), list(scores))
    ax.set(ylabel=ylabel, ylim=(0, 1))
    figure.legend(loc="outside upper center", ncols=4)
    return figure


def pooled_words(lines: Sequence[tuple[str, Sequence[str], Tensor]], *, title: str) -> Figure:
    """Sentences, one a line: (what stands before it, words, weights (words,)); bright words weigh more."""
    longest = max(len(words) for _, words, _ in lines)
    figure, ax = plt.subplots(figsize=(WIDTH, 0.7 + 0.42 * len(lines)))
    for row, (_, words, weights) in enumerate(lines):
        shares = _array(weights)
        place = (0, len(words), row + 0.42, row - 0.42)
        ax.imshow(shares[None, :], cmap=WEIGHTS, vmin=0, vmax=1, aspect="auto", extent=place)
        size = 10 if longest <= 11 else 8
        for i, (word, share) in enumerate(zip(words, shares, strict=False)):
            colour = "white" if share < 0.5 else "black"
            ax.text(i + 0.5, row, word, ha="center", va="center", fontsize=size, color=colour)
    ax.set_yticks(range(len(lines)), [name for name, _, _ in lines])
    ax.set(xlim=(0, longest), ylim=(len(lines) - 0.5, -0.5), xticks=[], title=title)
    ax.title.set_fontsize(11)
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    return figure
