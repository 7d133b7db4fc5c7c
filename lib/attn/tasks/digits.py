"""Handwritten digits: scikit-learn's copy of the test part of the UCI set, 1,797 images of 8 x 8 pixels.

They come with scikit-learn, so there is nothing to download. `scenes` hides them on larger canvases.
Source: Alpaydin and Kaynak 1998, Optical Recognition of Handwritten Digits, UCI Machine Learning Repository.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from sklearn.datasets import load_digits
from torch import Tensor


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
