"""Handwritten digits: scikit-learn's copy of the test part of the UCI set, 1,797 images of 8 x 8 pixels.

They come with scikit-learn, so there is nothing to download. `scenes` hides them on larger canvases. For
experiments with the amount of data: `subset` and `shifted`; and a second task, generated: `pairs` of
`glyphs`, whose label is a relation between two places.

Source: Alpaydin and Kaynak 1998, Optical Recognition of Handwritten Digits, UCI Machine Learning Repository.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from sklearn.datasets import load_digits
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class Digits:
    """Images of single digits and what they show, in two sets that share no image."""

    train_images: Float[Tensor, "train 8 8"]
    train_labels: Int[Tensor, " train"]
    test_images: Float[Tensor, "test 8 8"]
    test_labels: Int[Tensor, " test"]


def load(*, test: int = 500, seed: int = 0) -> Digits:
    """The images, (images, rows, columns) from 0, no ink, to 1, with their labels 0 to 9.

    `test` of the 1,797 images, drawn with `seed`, are for testing only; the others train. Raises ValueError
    if that leaves no image for one of the two.
    """
    source = load_digits()
    images = torch.tensor(source.images, dtype=torch.float32) / 16  # pixels are counted from 0 to 16
    labels = torch.tensor(source.target, dtype=torch.int64)
    if not 0 < test < len(images):
        raise ValueError(f"test must be 1 to {len(images) - 1:,}; given {test:,}")
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))
    held_out, rest = order[:test], order[test:]
    return Digits(images[rest], labels[rest], images[held_out], labels[held_out])


class Scenes(NamedTuple):
    """Canvases with one whole digit on each: what it is, and the row and column of its upper left corner."""

    canvases: Float[Tensor, "batch side side"]
    labels: Int[Tensor, " batch"]
    corners: Int[Tensor, "batch 2"]


def scenes(
    images: Float[Tensor, "images 8 8"],
    labels: Int[Tensor, " images"],
    batch: int,
    *,
    side: int = 20,
    scraps: int = 0,
    scrap: int = 3,
    generator: torch.Generator,
) -> Scenes:
    """Digits drawn from `images`, each anywhere on a canvas of `side` x `side`, among `scraps` cut from the
    middle of other digits, of `scrap` x `scrap` pixels (after Mnih et al. 2014, section 4.1: translated and
    cluttered digits).

    Raises ValueError if a digit does not fit on the canvas, or a scrap in a digit.
    """
    size = images.shape[-1]
    if side < size or not 1 <= scrap <= size:
        raise ValueError(f"side must be at least {size} and scrap 1 to {size}; given {side} and {scrap}")

    def whole_numbers(below: int, *shape: int) -> Tensor:
        return torch.randint(below, shape, generator=generator)

    canvases = torch.zeros(batch, side, side)
    row = torch.arange(batch)[:, None, None]

    def paste(picture: Tensor, corner: Tensor) -> None:
        pixel = torch.arange(picture.shape[-1])
        down, right = corner[:, :1, None] + pixel[:, None], corner[:, 1:, None] + pixel
        canvases[row, down, right] = torch.maximum(canvases[row, down, right], picture)

    middle = slice((size - scrap) // 2, (size - scrap) // 2 + scrap)
    for _ in range(scraps):
        others = images[whole_numbers(len(images), batch)]
        paste(others[:, middle, middle], whole_numbers(side - scrap + 1, batch, 2))
    drawn, corners = whole_numbers(len(images), batch), whole_numbers(side - size + 1, batch, 2)
    paste(images[drawn], corners)
    return Scenes(canvases, labels[drawn], corners)


def subset(total: int, size: int, *, seed: int) -> Int[Tensor, "{size}"]:
    """The rows of a training set of `size` out of `total`, drawn without repetition; with the same seed every
    smaller set is part of each larger one.

    Raises ValueError for a size that is not 1 to `total`.
    """
    if not 1 <= size <= total:
        raise ValueError(f"size must be 1 to {total:,}, given {size:,}")
    return torch.randperm(total, generator=torch.Generator().manual_seed(seed))[:size]


def shifted(
    images: Float[Tensor, "batch rows columns"], *, most: int = 1, generator: torch.Generator
) -> Float[Tensor, "batch rows columns"]:
    """Each image moved by up to `most` pixels up or down and left or right, at random; what leaves is lost,
    zeros come in. The simplest augmentation: a digit stays the same digit.

    Raises ValueError for a negative `most`.
    """
    if most < 0:
        raise ValueError(f"most is a number of pixels, given {most}")
    batch, rows, columns = images.shape
    start = torch.randint(2 * most + 1, (batch, 2), generator=generator)
    down, right = (start[:, axis, None] + torch.arange(length) for axis, length in enumerate((rows, columns)))
    padded = F.pad(images, (most, most, most, most))
    return padded[torch.arange(batch)[:, None, None], down[:, :, None], right[:, None, :]]


def glyphs(side: int = 3, *, seed: int = 0) -> Float[Tensor, "glyphs {side} {side}"]:
    """All 2^(side²) glyphs of side x side pixels, each white (1) or black (-1), in an order that the seed
    draws. Cut the list in parts that share none: for training and for testing.

    Raises ValueError for a side that is not 1 to 4.
    """
    if not 1 <= side <= 4:
        raise ValueError(f"side must be 1 to 4, given {side}")
    pixels = side * side
    code = torch.randperm(2**pixels, generator=torch.Generator().manual_seed(seed))
    white = (code[:, None] >> torch.arange(pixels)) & 1
    return (2.0 * white - 1.0).unflatten(1, (side, side))


class Pairs(NamedTuple):
    """Grey canvases with two glyphs on each: whether they are the same one, and the cells they stand in,
    counted in reading order.
    """

    canvases: Float[Tensor, "batch side side"]
    same: Int[Tensor, " batch"]
    cells: Int[Tensor, "batch 2"]


def pairs(
    glyphs: Float[Tensor, "glyphs size size"], batch: int, *, cells: int = 4, generator: torch.Generator
) -> Pairs:
    """Two glyphs drawn from `glyphs`, in two different cells of a grey (0) canvas of cells x cells cells:
    the same glyph in half of the canvases (label 1), two different ones in the others (0).

    The answer is a relation: no single place of the canvas tells anything about it. Raises ValueError for
    less than two glyphs, or a grid without two cells.
    """
    if len(glyphs) < 2 or cells < 2:
        raise ValueError(f"two glyphs and 2 x 2 cells at least, given {len(glyphs)} glyphs, cells = {cells}")
    size = glyphs.shape[-1]
    place = torch.rand(batch, cells * cells, generator=generator).argsort(dim=-1)[:, :2]
    first = torch.randint(len(glyphs), (batch,), generator=generator)
    other = (first + torch.randint(1, len(glyphs), (batch,), generator=generator)) % len(glyphs)
    same = torch.randint(2, (batch,), generator=generator)
    canvases = torch.zeros(batch, cells * cells, size, size)
    rows = torch.arange(batch)
    canvases[rows, place[:, 0]] = glyphs[first]
    canvases[rows, place[:, 1]] = glyphs[torch.where(same == 1, first, other)]
    tiled = canvases.unflatten(1, (cells, cells)).transpose(2, 3)
    return Pairs(tiled.reshape(batch, cells * size, cells * size), same, place)
