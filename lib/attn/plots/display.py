"""How a figure is shown in a notebook: with the words that say what to see, alone or behind a slider."""

import base64
import html
import io
import json
from collections.abc import Mapping

import matplotlib.pyplot as plt
from matplotlib.figure import Figure
from PIL import Image


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
