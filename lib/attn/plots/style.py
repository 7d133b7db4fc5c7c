"""What all figures share: colours, width, fonts, and how numbers and words come in."""

from collections.abc import Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from cycler import cycler
from matplotlib.axes import Axes
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


def as_array(x: Tensor | np.ndarray | Sequence[Any]) -> np.ndarray:
    """The numbers as NumPy holds them, off the graph and the device."""
    return x.detach().cpu().float().numpy() if isinstance(x, Tensor) else np.asarray(x)


def set_ticks(ax: Axes, queries: Sequence[str] | None, keys: Sequence[str] | None) -> None:
    """The words of queries and keys along the axes of a map; long ones are turned."""
    if keys is not None:
        ax.set_xticks(
            range(len(keys)), keys, rotation=45 if max(map(len, keys), default=0) > 2 else 0, ha="center"
        )
    if queries is not None:
        ax.set_yticks(range(len(queries)), queries)
