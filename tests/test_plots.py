"""Figures: each draws what it is given, names its axes, and is shown with an alt text."""

import matplotlib as mpl

mpl.use("agg")

import ast
import importlib
import json
import re
from collections.abc import Iterator
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from IPython.core.displaypub import DisplayPublisher
from IPython.core.interactiveshell import InteractiveShell
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from oracles import normal

from attn import masks, plots

WEIGHTS = normal(3, 4, 5).softmax(-1)
QUERIES, KEYS = list("abcd"), ["one", "two", "three", "four", "five"]


@pytest.fixture(autouse=True)
def _close_all() -> Iterator[None]:
    yield
    plt.close("all")


def labels(figure: Figure) -> list[tuple[str, str]]:
    return [(ax.get_xlabel(), ax.get_ylabel()) for ax in figure.axes if ax.get_visible()]


def drawn(figure: Figure) -> Figure:
    figure.canvas.draw()
    return figure


def test_an_attention_map_has_a_row_for_each_query_and_a_column_for_each_key() -> None:
    figure = drawn(plots.attention_map(WEIGHTS[0], QUERIES, KEYS, title="head 1", numbers=True))
    (ax,) = figure.axes
    assert ax.images[0].get_array().shape == (4, 5)
    assert ax.images[0].get_clim() == (0.0, 1.0)
    assert labels(figure) == [("keys", "queries")]
    assert [t.get_text() for t in ax.get_xticklabels()] == KEYS
    assert [t.get_text() for t in ax.get_yticklabels()] == QUERIES
    assert ax.get_title() == "head 1"
    written = [t.get_text() for t in ax.texts]
    assert written == [f"{w:.2f}" for w in WEIGHTS[0].flatten().tolist()]


def test_what_is_forbidden_is_greyed_out_and_has_no_number() -> None:
    mask = masks.causal(4, 5)
    figure = drawn(plots.attention_map(WEIGHTS[0], mask=mask, numbers=True))
    image = figure.axes[0].images[0].get_array()
    assert np.array_equal(np.ma.getmaskarray(image), ~mask.numpy())
    assert len(figure.axes[0].texts) == int(mask.sum())


def test_a_map_is_drawn_on_the_axes_that_it_is_given() -> None:
    figure, (left, right) = plt.subplots(1, 2)
    assert plots.attention_map(WEIGHTS[0].numpy(), ax=right) is figure
    assert plots.mask_map(masks.causal(3), ax=left) is figure
    assert len(left.images) == len(right.images) == 1


@pytest.mark.parametrize("heads", [1, 3, 5, 8])
def test_a_grid_has_a_map_for_each_head_and_no_empty_ones(heads: int) -> None:
    figure = drawn(plots.heads_grid(normal(heads, 4, 5).softmax(-1), QUERIES, KEYS))
    visible = [ax for ax in figure.axes if ax.get_visible()]
    assert [ax.get_title() for ax in visible] == [f"head {i + 1}" for i in range(heads)]
    assert all(len(ax.images) == 1 for ax in visible)
    assert figure.get_figwidth() <= plots.WIDTH


def test_a_mask_map_has_two_colours_one_for_each_answer() -> None:
    figure = drawn(plots.mask_map(masks.causal(3, 4), list("abc"), list("abcd"), title="causal"))
    image = figure.axes[0].images[0]
    assert np.array_equal(np.asarray(image.get_array()), masks.causal(3, 4).numpy())
    forbidden, allowed = (to_hex(image.cmap(image.norm(x))) for x in (0, 1))
    assert forbidden == "#dddddd"
    assert allowed != forbidden
    assert labels(figure) == [("keys", "queries")]


def test_curves_draw_means_and_the_range_of_the_seeds() -> None:
    seeds = np.array([[1.0, 2.0, 4.0], [3.0, 2.0, 1.0]])
    figure = drawn(
        plots.curves(
            {"several": seeds, "one": torch.tensor([1.0, 2.0, 3.0])},
            x=[1, 10, 100],
            xlabel="steps",
            ylabel="loss",
            title="training",
            log="xy",
        )
    )
    (ax,) = figure.axes
    assert [line.get_label() for line in ax.lines] == ["several", "one"]
    assert ax.lines[0].get_ydata().tolist() == [2.0, 2.0, 2.5]
    assert ax.lines[0].get_xdata().tolist() == [1, 10, 100]
    assert len(ax.collections) == 1  # one band, for the series that has several seeds
    assert labels(figure) == [("steps", "loss")]
    assert (ax.get_xscale(), ax.get_yscale()) == ("log", "log")
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["several", "one"]


def test_a_single_curve_needs_no_legend() -> None:
    (ax,) = plots.curves({"loss": [3.0, 2.0]}, xlabel="steps", ylabel="loss").axes
    assert ax.get_legend() is None
    assert (ax.get_xscale(), ax.get_yscale()) == ("linear", "linear")


def test_bars_are_labelled_with_their_values_in_the_order_given() -> None:
    figure = drawn(plots.bars({"ours": 0.5, "theirs": 1.25}, xlabel="seconds", form="{:.1f} s"))
    (ax,) = figure.axes
    assert [patch.get_width() for patch in ax.patches] == [0.5, 1.25]
    assert [t.get_text() for t in ax.texts] == ["0.5 s", "1.2 s"]
    assert [t.get_text() for t in ax.get_yticklabels()] == ["ours", "theirs"]
    assert ax.yaxis_inverted()
    assert ax.get_xlabel() == "seconds"


def test_tensors_of_any_type_and_with_gradients_can_be_drawn() -> None:
    for weights in (WEIGHTS[0].bfloat16(), WEIGHTS[0].float().requires_grad_()):
        plots.attention_map(weights)
        plots.curves({"row": weights[0]}, xlabel="keys", ylabel="weight")


# --- show ---------------------------------------------------------------------------------------------------


@pytest.fixture
def published(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[dict]]:
    """What a notebook would store as the cell's outputs."""
    outputs: list[dict] = []

    class Publisher(DisplayPublisher):
        def publish(self, data: dict, metadata: dict | None = None, **_: object) -> None:
            outputs.append({"data": data, "metadata": metadata or {}})

    shell = InteractiveShell.instance()
    monkeypatch.setattr(shell, "display_pub", Publisher())
    from IPython.core.pylabtools import select_figure_formats

    select_figure_formats(shell, ["png"])
    yield outputs
    InteractiveShell.clear_instance()


def test_show_stores_the_alt_text_beside_the_picture_and_closes_the_figure(published: list[dict]) -> None:
    figure = plots.attention_map(WEIGHTS[0])
    plots.show(figure, alt="Each query attends\n        to its own key.")
    (output,) = published
    assert output["data"]["image/png"]
    assert output["metadata"]["image/png"]["alt"] == "Each query attends to its own key."
    assert not plt.fignum_exists(figure.number)


@pytest.mark.parametrize("alt", ["", "  \n "])
def test_a_figure_without_alt_text_is_refused(alt: str) -> None:
    with pytest.raises(ValueError, match="alt text"):
        plots.show(plots.attention_map(WEIGHTS[0]), alt=alt)


# --- the order of the package -------------------------------------------------------------------------------

ROOT = Path(__file__).resolve().parent.parent
OWN = {path.stem.removeprefix("lesson_"): path for path in ROOT.glob("lib/attn/plots/lesson_*.py")}
SHARED = [path for path in ROOT.glob("lib/attn/plots/*.py") if path not in OWN.values()]
NOTEBOOKS = {path.name[:2]: path for path in ROOT.glob("notebooks/*.ipynb")}

# Drawn by one lesson so far, or by none, and so plain that the next lesson may want it.
GENERAL = {
    "alignments",
    "answers_by_position",
    "attention_map",
    "attention_maps",
    "bar_panels",
    "bars",
    "course_map",
    "heads_grid",
    "mask_map",
    "model_scores",
    "number_grids",
    "seed_bars",
    "show",
    "slider",
}


def code(path: Path) -> ast.Module:
    """The Python of a file, or of a notebook's code cells."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".ipynb":
        cells = [cell for cell in json.loads(text)["cells"] if cell["cell_type"] == "code"]
        text = "\n".join("".join(cell["source"]) for cell in cells)
    return ast.parse(text)


def attributes(path: Path, of: str) -> set[str]:
    """The names that are read as `of.name`."""
    nodes = [node for node in ast.walk(code(path)) if isinstance(node, ast.Attribute)]
    return {node.attr for node in nodes if isinstance(node.value, ast.Name) and node.value.id == of}


def imports(path: Path) -> set[tuple[str, str]]:
    """(module, name) of each name that is imported from the figures' package."""
    nodes = [node for node in ast.walk(code(path)) if isinstance(node, ast.ImportFrom)]
    names = {(node.module or "", alias.name) for node in nodes for alias in node.names}
    return {(module, name) for module, name in names if module.startswith("attn.plots")}


def functions(path: Path) -> set[str]:
    return {node.name for node in code(path).body if isinstance(node, ast.FunctionDef)}


def test_the_table_of_contents_lists_exactly_what_the_package_exports() -> None:
    listed: dict[str, str] = {}
    for group in (plots.__doc__ or "").split("\n\n"):
        if file := re.search(r"`(\w+)\.py`", group):
            listed |= dict.fromkeys(re.findall(r"^  (\w+): \w", group, re.MULTILINE), file[1])
    assert sorted(listed) == plots.__all__
    for name, file in listed.items():
        home = importlib.import_module(f"attn.plots.{file}")
        assert getattr(home, name) is getattr(plots, name), name
        assert file == "style" or name in functions(Path(home.__file__ or "")), f"{name}: not in {file}.py"


def test_what_is_shared_serves_two_lessons_or_any() -> None:
    drawn_by: dict[str, set[str]] = {name: set() for name in plots.__all__}
    for lesson, path in NOTEBOOKS.items():
        names = attributes(path, "plots")
        if lesson in OWN:
            names |= {name for _, name in imports(OWN[lesson])} | attributes(OWN[lesson], "plots")
        for name in names & drawn_by.keys():
            drawn_by[name].add(lesson)
    alone = {name for name, lessons in drawn_by.items() if len(lessons) < 2 and name.islower()}
    assert alone <= GENERAL, f"drawn by one lesson: move to its own file {sorted(alone - GENERAL)}"
    assert set(plots.__all__) >= GENERAL


@pytest.mark.parametrize("lesson", sorted(OWN))
def test_a_lesson_draws_all_of_its_own_figures_and_nobody_else_s(lesson: str) -> None:
    assert lesson in NOTEBOOKS, f"there is no lesson {lesson}"
    public = {name for name in functions(OWN[lesson]) if not name.startswith("_")}
    assert public == attributes(NOTEBOOKS[lesson], "figures")
    homes = {("attn.plots", f"lesson_{lesson}")}
    assert {(m, n) for m, n in imports(NOTEBOOKS[lesson]) if "lesson_" in f"{m}.{n}"} == homes
    assert not public & set(plots.__all__), "one name, two figures"


def test_lessons_without_figures_of_their_own_borrow_none() -> None:
    for path in [*ROOT.glob("notebooks/*.ipynb"), *ROOT.glob("solutions/*.ipynb")]:
        if path.parent.name == "solutions" or path.name[:2] not in OWN:
            assert not [name for name in imports(path) if "lesson_" in ".".join(name)], path.name


def test_a_lesson_s_figures_lean_on_shared_ones_only() -> None:
    for path in [*SHARED, *OWN.values()]:
        assert not [name for name in imports(path) if "lesson_" in ".".join(name)], path.name


def test_lessons_call_only_figures_that_are_there() -> None:
    for path in NOTEBOOKS.values():
        assert attributes(path, "plots") <= set(plots.__all__), path.name
