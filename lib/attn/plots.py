"""Every figure that the notebooks draw.

Colours are cividis (even steps look even, also in grey and to colour-blind eyes), or a diverging map where
zero matters. Axes carry the words of the notation; `show` stores the alt text that says what to see.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
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
    weights: Tensor | np.ndarray, queries: Sequence[str], keys: Sequence[str], *, title: str | None = None
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
    ax.set(xticks=[], xlabel="keys", ylabel="queries")
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
