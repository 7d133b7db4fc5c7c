"""The figures of the course. Shared ones are here; those that one lesson draws are in `attn.plots.lesson_NN`.

In a notebook: `plots.show(plots.curves(...), "alt text")`. A lesson's own figures come by
`from attn.plots import lesson_05 as figures`. Colours are cividis (even steps look even, also in grey and to
colour-blind eyes), or a diverging map where zero matters. Axes carry the words of the notation.

Show (`display.py`):
  show: a figure in a notebook, with the alt text that says what to see
  slider: several figures behind a handle, on any page and without a server

Maps, a row per query and a column per key (`maps.py`):
  attention_map: weights as a picture, bright where a query attends
  attention_maps: several of them side by side, one query framed in each
  heads_grid: one of them per head
  weights_table: many small ones, a row per setting and a column per name
  weights_on_words: weights on the words that are read
  alignments: what was written against what was read, one map per title
  mask_map: a mask, coloured where a query may attend
  mask_gallery: many masks in a grid
  leak_maps: which input moved which output, against what a mask allows
  number_grids: signed whole numbers, each written in its cell

Charts of what was counted or measured (`charts.py`):
  curves: lines, with a band from the lowest seed to the highest
  curve_panels: curves side by side, with one legend
  answers_by_position: shares of right answers over positions, a panel per method
  bars: horizontal bars with their values
  bar_panels: bars under one another on one axis
  seed_bars: horizontal bars of means, a dot per seed, in panels side by side
  model_scores: upright bars of means, a dot per seed, grouped by measure

Diagrams (`diagrams.py`):
  course_map: the lessons as boxes, with an arrow to each lesson that needs them

Style (`style.py`):
  COLOURS: six colours that all eyes tell apart, in the order of use
  WEIGHTS: the colour map of what is never negative
  SIGNED: the colour map of what has a zero in the middle
  WIDTH: the width of a figure in inches

Parts for a new figure, imported from their files: `as_array` and `set_ticks` (style), `frame` around a cell
and `small_mask` (maps), `legend_above` (charts), `box`, `arrow` and `value_region` (diagrams).
"""

from attn.plots.charts import (
    answers_by_position,
    bar_panels,
    bars,
    curve_panels,
    curves,
    model_scores,
    seed_bars,
)
from attn.plots.diagrams import course_map
from attn.plots.display import show, slider
from attn.plots.maps import (
    alignments,
    attention_map,
    attention_maps,
    heads_grid,
    leak_maps,
    mask_gallery,
    mask_map,
    number_grids,
    weights_on_words,
    weights_table,
)
from attn.plots.style import COLOURS, SIGNED, WEIGHTS, WIDTH

__all__ = [
    "COLOURS",
    "SIGNED",
    "WEIGHTS",
    "WIDTH",
    "alignments",
    "answers_by_position",
    "attention_map",
    "attention_maps",
    "bar_panels",
    "bars",
    "course_map",
    "curve_panels",
    "curves",
    "heads_grid",
    "leak_maps",
    "mask_gallery",
    "mask_map",
    "model_scores",
    "number_grids",
    "seed_bars",
    "show",
    "slider",
    "weights_on_words",
    "weights_table",
]
