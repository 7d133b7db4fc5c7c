"""Chapter 06: attention and CNNs."""

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from attn.core import attend
from attn.grading.exercise import Case, Exercise, Mistake, trials, values


def _normal(generator: Generator, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)


def _integer(generator: Generator, low: int, high: int) -> int:
    """low .. high, both included."""
    return int(torch.randint(low, high + 1, (), generator=generator))


# --- implement: an image as a set of patches ---------------------------------------------------------------


def _patches_with(
    *,
    order: Sequence[int] = (0, 2, 4, 1, 3, 5),
    far_apart: bool = False,
    exchanged: bool = False,
) -> Callable[[Tensor, int], Tensor]:
    """The patches, any step replaced. `order` of the axes batch, channel, patch
    row, row, patch column, column.

    `far_apart`: a patch holds every n-th pixel. `exchanged`: the counts of patch rows and columns.
    """

    def patches(images: Tensor, size: int) -> Tensor:
        batch, channels, height, width = images.shape
        down, across = height // size, width // size
        if exchanged:
            down, across = across, down
        if far_apart:
            cut = images.reshape(batch, channels, size, down, size, across).permute(0, 1, 3, 2, 5, 4)
        else:
            cut = images.reshape(batch, channels, down, size, across, size)
        return cut.permute(*order).reshape(batch, down * across, -1)

    return patches


_patches = _patches_with()


def _patches_by_loop(images: Tensor, size: int) -> Tensor:
    rows, columns = range(0, images.shape[2], size), range(0, images.shape[3], size)
    return torch.stack(
        [images[:, :, y : y + size, x : x + size].flatten(1) for y in rows for x in columns], dim=1
    )


def _patches_by_unfold(images: Tensor, size: int) -> Tensor:
    return F.unfold(images, size, stride=size).mT


def _patches_by_windows(images: Tensor, size: int) -> Tensor:
    windows = images.unfold(2, size, size).unfold(3, size, size)  # batch, channel, down, across, row, column
    return windows.permute(0, 2, 3, 1, 4, 5).flatten(3).flatten(1, 2)


def _patches_by_einsum(images: Tensor, size: int) -> Tensor:
    batch, channels, height, width = images.shape
    cut = images.reshape(batch, channels, height // size, size, width // size, size)
    return torch.einsum("bcdyax->bdacyx", cut).flatten(3).flatten(1, 2)


def _patches_by_convolution(images: Tensor, size: int) -> Tensor:
    """A convolution with stride `size`, whose kernels each pick one number: the layer that embeds patches."""
    features = images.shape[1] * size * size
    picks = torch.eye(features, dtype=images.dtype).reshape(features, images.shape[1], size, size)
    return F.conv2d(images, picks, stride=size).flatten(2).mT


def _patches_that_count_by_height(images: Tensor, size: int) -> Tensor:
    """Written patch by patch; patch number y · (patch rows) + x."""
    right = _patches(images, size)
    down, across = images.shape[2] // size, images.shape[3] // size
    patches = torch.zeros_like(right)
    for y in range(down):
        for x in range(across):
            patches[:, y * down + x] = right[:, y * across + x]
    return patches


def _images(
    batch: int, channels: int, down: int, across: int, size: int, dtype: torch.dtype = torch.float32
) -> Callable[[Generator], tuple[Tensor, int]]:
    return lambda g: (_normal(g, batch, channels, down * size, across * size, dtype=dtype), size)


def _same_numbers_elsewhere(inputs: tuple[Any, ...], outputs: dict[str, Tensor]) -> str | None:
    images, size = inputs
    mine, right = outputs["patches"], _patches(images, size)
    if mine.shape != right.shape or not torch.equal(mine.flatten().sort()[0], right.flatten().sort()[0]):
        return None
    if torch.equal(mine.sort(-1)[0], right.sort(-1)[0]):
        return "Each patch holds the right numbers, in another order than channel, row, column."
    return "All numbers are there, but some stand in the patch of another place, or of another image."


image_patches = Exercise(
    id="06.image_patches",
    kind="implement",
    concepts=("image-as-set",),
    reference=_patches,
    returns=("patches",),
    cases=(
        Case("two images, three channels", _images(2, 3, 2, 4, 3)),
        Case("a tall image", _images(3, 2, 5, 2, 2)),
        Case(
            "patches of one pixel",
            _images(2, 4, 3, 5, 1),
            hint="each pixel is a patch then. Which axis has the pixels, and which the channels?",
        ),
        Case("one patch, the whole image", _images(2, 3, 1, 1, 4)),
        Case(
            "float64, and gradients",
            _images(2, 2, 3, 2, 2, torch.float64),
            gradients=True,
            hint="in which dtype do the images come? Can a gradient find its way back to each pixel?",
        ),
    ),
    measures=(_same_numbers_elsewhere,),
    mistakes=(
        Mistake(
            "a reshape alone: the numbers stay in the order of the image",
            "the second number of the image's second row: in which patch is it, and in which of yours?",
            lambda images, size: images.reshape(len(images), -1, images.shape[1] * size * size),
        ),
        Mistake(
            "inside a patch the channels come last",
            "the order was asked as channel, row, column. Which of the three moves fastest in yours?",
            _patches_with(order=(0, 2, 4, 3, 5, 1)),
        ),
        Mistake(
            "inside a patch it goes down the columns",
            "you read a page row by row. In which direction do you read a patch?",
            _patches_with(order=(0, 2, 4, 1, 5, 3)),
        ),
        Mistake(
            "the patches are numbered down the columns",
            "patch number 1 should be the right neighbour of number 0. Which neighbour is it in yours?",
            _patches_with(order=(0, 4, 2, 1, 3, 5)),
        ),
        Mistake(
            "a patch holds pixels that lie far apart",
            "an axis of height becomes (patch row, row inside). Which of the two is the slow one?",
            _patches_with(far_apart=True),
        ),
        Mistake(
            "the counts of patch rows and patch columns are exchanged",
            "how many patches lie side by side: height / size or width / size?",
            _patches_with(exchanged=True),
        ),
        Mistake(
            "a row of patches is taken to be as long as the image is high",
            "how many patches lie in the first row? That many come before the first patch of the next row.",
            _patches_that_count_by_height,
        ),
        Mistake(
            "features and patches are exchanged (unfold without its transpose)",
            "a token is a *row*. On which axis do you have the patches?",
            lambda images, size: _patches(images, size).mT,
        ),
        Mistake(
            "each channel makes patches of its own",
            "the red, the green and the blue of one place: are they three tokens, or one?",
            lambda images, size: torch.cat([_patches(c, size) for c in images.split(1, dim=1)], dim=1),
        ),
        Mistake(
            "the first channel only",
            "how many numbers has a pixel of these images?",
            lambda images, size: _patches(images[:, :1], size),
        ),
        Mistake(
            "each patch is averaged",
            "what of a digit is left, when each patch is one grey?",
            lambda images, size: _patches(images, size).unflatten(-1, (images.shape[1], -1)).mean(-1),
        ),
        Mistake(
            "the patches overlap: they begin at every pixel",
            "if each pixel is in one patch only, how far is it from one patch to the next?",
            lambda images, size: F.unfold(images, size).mT,
        ),
        Mistake(
            "all images make one long set",
            "two images: is the result one set of patches, or two?",
            lambda images, size: _patches(images, size).flatten(0, 1),
        ),
        Mistake(
            "the images lie on their side",
            "rows are the axis before the last. Which one did you take?",
            lambda images, size: _patches(images.mT, size),
        ),
        Mistake(
            "batch and channels are mixed up",
            "(batch, channels, ...): does your first patch hold numbers of two images?",
            lambda images, size: _patches(images.transpose(0, 1).reshape(images.shape), size),
        ),
        Mistake(
            "the result is always float32",
            "in which dtype did the images come?",
            lambda images, size: _patches(images, size).float(),
        ),
        Mistake(
            "cut off from the gradient",
            "an image may be the output of another layer. Which operations let its gradient through?",
            lambda images, size: _patches(images.detach(), size) + 0 * images.sum(),
        ),
    ),
    right=(
        _patches_by_loop,
        _patches_by_unfold,
        _patches_by_windows,
        _patches_by_einsum,
        _patches_by_convolution,
    ),
)

# --- implement: a convolution as masks ---------------------------------------------------------------------

ConvolutionMasks = Callable[[Tensor, int, int, int, int], Tensor]


def _masks_with(
    *,
    step: Callable[[Tensor, int, int], Tensor] = lambda cell, k, dilation: (cell - k // 2) * dilation,
    land: Callable[[Tensor, int], Tensor] = lambda at, size: at,
    finish: Callable[[Tensor], Tensor] = lambda masks: masks,
) -> ConvolutionMasks:
    """The masks, any step replaced. `step` from the query for a kernel cell, `land` on an axis of the image,
    `finish` sees the axes kernel row, kernel column, query, image row, image column."""

    def convolution_masks(queries: Tensor, height: int, width: int, k: int, dilation: int) -> Tensor:
        steps = step(torch.arange(k), k, dilation)[:, None]
        row, column = (land(queries[:, axis] + steps, size) for axis, size in enumerate((height, width)))
        in_row = row[..., None] == torch.arange(height)  # kernel row, query, image row
        in_column = column[..., None] == torch.arange(width)
        masks = finish(in_row[:, None, :, :, None] & in_column[None, :, :, None, :])
        return masks.flatten(3).flatten(0, 1)

    return convolution_masks


_masks = _masks_with()


def _masks_by_loop(queries: Tensor, height: int, width: int, k: int, dilation: int) -> Tensor:
    masks = torch.zeros(k * k, len(queries), height * width, dtype=torch.bool)
    for a in range(k):
        for b in range(k):
            for q, (y, x) in enumerate(queries.tolist()):
                row, column = y + (a - k // 2) * dilation, x + (b - k // 2) * dilation
                if 0 <= row < height and 0 <= column < width:
                    masks[a * k + b, q, row * width + column] = True
    return masks


def _masks_by_unfold(queries: Tensor, height: int, width: int, k: int, dilation: int) -> Tensor:
    """What torch's own convolution reads: numbered pixels are unfolded, 0 is the padding."""
    numbers = torch.arange(1.0, height * width + 1).reshape(1, 1, height, width)
    read = F.unfold(numbers, k, dilation=dilation, padding=dilation * (k // 2))[0]
    read = read[:, queries[:, 0] * width + queries[:, 1]]
    return read[..., None] == torch.arange(1.0, height * width + 1)


def _masks_by_distances(queries: Tensor, height: int, width: int, k: int, dilation: int) -> Tensor:
    pixels = torch.cartesian_prod(torch.arange(height), torch.arange(width))
    distance = pixels - queries[:, None]
    reach = dilation * (k // 2)
    steps = torch.arange(-reach, reach + 1, dilation)
    return torch.stack([(distance == torch.stack([dy, dx])).all(-1) for dy in steps for dx in steps])


def _masks_in_numpy(queries: Tensor, height: int, width: int, k: int, dilation: int) -> Tensor:
    masks = np.zeros((k, k, len(queries), height, width), dtype=bool)
    reach = dilation * (k // 2)
    padded = np.zeros((height + 2 * reach, width + 2 * reach), dtype=bool)
    for q, (y, x) in enumerate(queries.numpy()):
        for a, b in np.ndindex(k, k):
            padded[:] = False
            padded[y + a * dilation, x + b * dilation] = True
            masks[a, b, q] = padded[reach : reach + height, reach : reach + width]
    return torch.from_numpy(masks.reshape(k * k, len(queries), height * width))


def _masks_on_one_line(queries: Tensor, height: int, width: int, k: int, dilation: int) -> Tensor:
    """Pixels as numbers y · width + x: what leaves a row on the right comes back in the next one."""
    steps = (torch.arange(k) - k // 2) * dilation
    move = (steps[:, None] * width + steps).flatten()
    wanted = queries[:, 0] * width + queries[:, 1] + move[:, None]
    return wanted[..., None] == torch.arange(height * width)


def _or_itself(queries: Tensor, height: int, width: int, k: int, dilation: int) -> Tensor:
    masks = _masks(queries, height, width, k, dilation)
    own = queries[:, 0] * width + queries[:, 1]
    return masks | (~masks.any(-1, keepdim=True) & (own[:, None] == torch.arange(height * width)))


def _or_everything(queries: Tensor, height: int, width: int, k: int, dilation: int) -> Tensor:
    masks = _masks(queries, height, width, k, dilation)
    return masks | ~masks.any(-1, keepdim=True)


def _rows_as_long_as_high(queries: Tensor, height: int, width: int, k: int, dilation: int) -> Tensor:
    """Key number y · height + x."""
    masks = _masks(queries, height, width, k, dilation)
    number = torch.arange(height)[:, None] * height + torch.arange(width)
    return torch.zeros_like(masks, dtype=torch.int).index_add(-1, number.flatten(), masks.int()) > 0


def _reflected(at: Tensor, size: int) -> Tensor:
    return size - 1 - (size - 1 - at.abs()).abs()


def _asking(
    k: int | None,
    dilation: int | None,
    *,
    stride: int = 1,
    corners: bool = False,
    count: int = 9,
) -> Callable[[Generator], tuple[Any, ...]]:
    """Pixels that ask, in any order: some of all, of every `stride`-th, or with all four `corners`."""

    def inputs(generator: Generator) -> tuple[Any, ...]:
        height, width = _integer(generator, 5, 7), _integer(generator, 8, 10)
        rows, columns = torch.arange(0, height, stride), torch.arange(0, width, stride)
        pixels = torch.cartesian_prod(rows, columns)
        chosen = pixels[torch.randperm(len(pixels), generator=generator)]
        if corners:
            ends = torch.cartesian_prod(torch.tensor([0, height - 1]), torch.tensor([0, width - 1]))
            inner = chosen[((chosen > 0) & (chosen < torch.tensor([height - 1, width - 1]))).all(-1)]
            chosen = torch.cat([ends[torch.randperm(4, generator=generator)], inner[: count - 4]])
        if stride == 1:
            chosen = chosen[:count]
        return chosen, height, width, k or 1, dilation or 1

    return inputs


def _which_pixel(inputs: tuple[Any, ...], outputs: dict[str, Tensor]) -> str | None:
    queries, height, width, k, _ = inputs
    wanted, mine = _masks(*inputs), outputs["masks"]
    if mine.shape != wanted.shape or mine.dtype != torch.bool:
        return None
    head, q, key = (int(i) for i in (mine != wanted).nonzero()[0])
    y, x = queries[q].tolist()
    does = "lets" if mine[head, q, key] else "does not let"
    return (
        f"In the image of {height} x {width} the mask of kernel cell ({head // k}, {head % k}) {does} the "
        f"pixel ({y}, {x}) see the pixel ({key // width}, {key % width})."
    )


convolution_masks = Exercise(
    id="06.convolution_masks",
    kind="implement",
    concepts=("cnn-special-case", "image-as-set"),
    reference=_masks,
    returns=("masks",),
    cases=(
        Case("kernel 3 x 3, some pixels ask, all corners among them", _asking(3, 1, corners=True)),
        Case("kernel 5 x 5", _asking(5, 1, corners=True)),
        Case(
            "stride 2: every second pixel asks",
            _asking(3, 1, stride=2),
            hint="the pixels that ask are given to you. Does anything else change?",
        ),
        Case(
            "dilation 2",
            _asking(3, 2, corners=True),
            points=2,
            hint="with dilation 2 the kernel's cells lie two pixels apart. Which one lies in the middle?",
        ),
        Case("dilation 2 and stride 3, kernel 5 x 5", _asking(5, 2, stride=3)),
        Case("kernel 1 x 1", _asking(1, 1, count=7), hint="one cell only. Which pixel does it read?"),
    ),
    measures=(_which_pixel,),
    mistakes=(
        Mistake(
            "True and False are exchanged",
            "in this course True means *may attend*. How many True has a row of yours?",
            _masks_with(finish=torch.logical_not),
        ),
        Mistake(
            "what leaves a row on the right comes back in the next row",
            "y · width + x + 1 is the right neighbour's number, except where?",
            _masks_on_one_line,
        ),
        Mistake(
            "the image is a ring: its last column is the left neighbour of the first",
            "which pixel lies left of column 0? What should its head see?",
            _masks_with(land=lambda at, size: at % size),
        ),
        Mistake(
            "negative indices count from the end",
            "what does Python take mask[-1] for? And where does row -1 lie in an image?",
            _masks_with(land=lambda at, size: torch.where(at < 0, at + size, at)),
        ),
        Mistake(
            "the border is repeated outside",
            "`padding` in nn.Conv2d fills up with zeros, not with the border. Whom should such a head see?",
            _masks_with(land=lambda at, size: at.clamp(0, size - 1)),
        ),
        Mistake(
            "the image is mirrored outside",
            "`padding` in nn.Conv2d fills up with zeros. Whom should a head see that looks outside?",
            _masks_with(land=_reflected),
        ),
        Mistake(
            "the kernel is turned round, as mathematicians do",
            "nn.Conv2d multiplies cell (0, 0) with the neighbour *above* and on the left. And yours?",
            _masks_with(step=lambda cell, k, dilation: (k // 2 - cell) * dilation),
        ),
        Mistake(
            "the cells are numbered down the columns",
            "head 1 is for cell (0, 1): same row as cell (0, 0), next column. Where does yours look?",
            _masks_with(finish=lambda masks: masks.transpose(0, 1)),
        ),
        Mistake(
            "the pixels are numbered down the columns",
            "key number 1 is the pixel (0, 1). How many pixels lie before pixel (1, 0)?",
            _masks_with(finish=lambda masks: masks.transpose(3, 4)),
        ),
        Mistake(
            "a row of the image is taken to be as long as the image is high",
            "how many pixels lie in the first row? That many come before pixel (1, 0).",
            _rows_as_long_as_high,
        ),
        Mistake(
            "the kernel is always 3 x 3",
            "how many cells has a kernel of 5 x 5, and how many has one of 1 x 1?",
            lambda queries, height, width, k, dilation: _masks(queries, height, width, 3, dilation),
        ),
        Mistake(
            "the middle of the kernel is always cell number 1",
            "which cell lies in the middle of 5 x 5, and which in the middle of 1 x 1?",
            _masks_with(step=lambda cell, k, dilation: (cell - 1) * dilation),
        ),
        Mistake(
            "row and column of the asking pixels are exchanged",
            "which of the two numbers of a query counts downwards?",
            lambda queries, *rest: _masks(queries.flip(-1), *rest),
        ),
        Mistake(
            "the kernel begins at the query instead of lying around it",
            "which cell of a 3 x 3 kernel lies on the pixel itself?",
            _masks_with(step=lambda cell, k, dilation: cell * dilation),
        ),
        Mistake(
            "the kernel ends at the query instead of lying around it",
            "which cell of a 3 x 3 kernel lies on the pixel itself?",
            _masks_with(step=lambda cell, k, dilation: (cell - k + 1) * dilation),
        ),
        Mistake(
            "dilation is ignored",
            "how far from each other do two cells of the kernel lie?",
            _masks_with(step=lambda cell, k, dilation: cell - k // 2),
        ),
        Mistake(
            "the cells are spread, the middle is not moved with them",
            "with dilation 2 the first cell lies two pixels before the middle. How far before it is yours?",
            _masks_with(step=lambda cell, k, dilation: cell * dilation - k // 2),
        ),
        Mistake(
            "every head sees the whole neighbourhood",
            "how can head 0 multiply *one* neighbour with its matrix, if it takes the mean of all?",
            _masks_with(finish=lambda masks: masks.any(1).any(0).expand(masks.shape).clone()),
        ),
        Mistake(
            "queries and keys are exchanged",
            "rows are queries, columns are keys. How many pixels ask, and how many are there to be seen?",
            lambda *inputs: _masks(*inputs).mT,
        ),
        Mistake(
            "a head that looks outside sees its own pixel instead",
            "with zero padding, what does such a head bring to the sum? What does an empty row bring?",
            _or_itself,
        ),
        Mistake(
            "a head that looks outside sees everything",
            "with zero padding, what does such a head bring to the sum? What does an empty row bring?",
            _or_everything,
        ),
        Mistake(
            "the asking pixels are put in order first",
            "row i of the result is for the i-th pixel *as given*. Which one is row 0 of yours for?",
            lambda queries, height, width, *rest: _masks(
                queries[(queries[:, 0] * width + queries[:, 1]).argsort()], height, width, *rest
            ),
        ),
        Mistake(
            "the masks are numbers, not True and False",
            "which dtype has a mask in this course? What would `attend` do with numbers?",
            lambda *inputs: _masks(*inputs).float(),
        ),
    ),
    right=(_masks_by_loop, _masks_by_unfold, _masks_by_distances, _masks_in_numpy),
)

# --- predict: how many heads does a kernel need? -----------------------------------------------------------

_ONE, _THREE, _DILATED, _DEPTHWISE, _BLUR, _SOBEL, _SOBEL_PIXELS = (
    "1 x 1",
    "3 x 3",
    "dilated",
    "depthwise",
    "blur",
    "Sobel",
    "Sobel, one pixel a head",
)

heads_needed = Exercise(
    id="06.heads_needed",
    kind="predict",
    concepts=("cnn-special-case",),
    reference={_ONE: 1, _THREE: 9, _DILATED: 9, _DEPTHWISE: 9, _BLUR: 1, _SOBEL: 2, _SOBEL_PIXELS: 6},
    cases=values(
        _ONE,
        _THREE,
        _DILATED,
        _DEPTHWISE,
        _BLUR,
        _SOBEL,
        _SOBEL_PIXELS,
        hints={
            _ONE: "how many cells has this kernel? Which pixel does each of them read?",
            _THREE: "9 cells, 9 matrices. Could one of them be written as a sum of multiples of the others?",
            _DILATED: "how many cells of a dilated kernel hold a matrix that is not 0?",
            _DEPTHWISE: "each cell has a diagonal of 16 numbers. Is one a sum of multiples of the others?",
            _BLUR: "may one head give its nine neighbours the weights 1/16, 2/16, 4/16?",
            _SOBEL: "which numbers of the kernel can the *weights* of a head be, and which can W_v W_o be?",
            _SOBEL_PIXELS: "which cells of the kernel have to be read at all?",
        },
    ),
    mistakes=(
        Mistake(
            "one head for each channel",
            "W_v W_o is a whole matrix and may carry all channels. What is it that a head has one of?",
            {_ONE: 16, _THREE: 16, _DILATED: 16, _DEPTHWISE: 16},
        ),
        Mistake(
            "one head for each pair of channels",
            "how many pairs of channels does *one* matrix W_v W_o hold?",
            {_ONE: 256, _THREE: 256},
        ),
        Mistake(
            "one head is taken to be enough, because its weights may be anything",
            "a head gives each pixel it sees a number of its own. Does it give each a *matrix* of its own?",
            {_THREE: 1, _DILATED: 1},
        ),
        Mistake(
            "one head for each row of the kernel",
            "the head of a row takes one matrix for its three cells. Are the three matrices multiples?",
            {_THREE: 3, _DILATED: 3},
        ),
        Mistake(
            "the gaps of the dilated kernel are counted",
            "what does a head bring to the sum, if its matrix is 0?",
            {_DILATED: 25},
        ),
        Mistake(
            "one head for each cell and each channel",
            "one matrix W_v W_o may be diagonal. How many channels can it serve at once?",
            {_DEPTHWISE: 144},
        ),
        Mistake(
            "depthwise is taken for one number per cell",
            "each channel has a kernel of its own. Are the nine diagonals multiples of one of them?",
            {_DEPTHWISE: 1},
        ),
        Mistake(
            "one head for each cell of the blur",
            "the nine matrices are 1 x 1, all multiples of each other. Which part of a head can multiply?",
            {_BLUR: 9},
        ),
        Mistake(
            "one head for each row or column, though one may weigh them all",
            "here each cell has a single number. What keeps one head from weighing cells of several columns?",
            {_BLUR: 3, _SOBEL: 3},
        ),
        Mistake(
            "a blur down, then a blur across: two heads",
            "heads are added, not done one after the other. Can one head weigh nine pixels?",
            {_BLUR: 2},
        ),
        Mistake(
            "weights below zero",
            "the head's matrix may be negative, but is the same for all it sees. What does softmax give?",
            {_SOBEL: 1},
        ),
        Mistake(
            "the cells of the Sobel kernel are counted, though a head may weigh several pixels",
            "three cells are positive. Can one head weigh them 1 : 2 : 1?",
            {_SOBEL: 6},
        ),
        Mistake(
            "one head for each different number of the kernel",
            "1 and 2 have the same sign. Which part of a head can make the difference between them?",
            {_SOBEL: 4},
        ),
        Mistake(
            "cells that hold a 0 are given a head, too",
            "what does the middle column of the Sobel kernel add to the sum?",
            {_SOBEL: 9, _SOBEL_PIXELS: 9},
        ),
        Mistake(
            "two heads, though each may look at one pixel only",
            "how many pixels have to be read for one output? How many does a head read here?",
            {_SOBEL_PIXELS: 2},
        ),
    ),
    right=(
        {
            _ONE: 1.0,
            _THREE: 3**2,
            _DILATED: 9.0,
            _DEPTHWISE: min(9, 16),
            _BLUR: 1,
            _SOBEL: 2.0,
            _SOBEL_PIXELS: 3 + 3,
        },
        {
            _ONE: torch.tensor(1),
            _THREE: np.int64(9),
            _DILATED: torch.tensor(9.0),
            _DEPTHWISE: 9,
            _BLUR: 1,
            _SOBEL: 2,
            _SOBEL_PIXELS: 6,
        },
        {_SOBEL_PIXELS: 6, _SOBEL: 2, _BLUR: 1, _DEPTHWISE: 9, _DILATED: 9, _THREE: 9, _ONE: 1},
    ),
)

# --- design: heads that each look at one neighbour ---------------------------------------------------------

_SIDE = 9  # height and width of the image on which the heads are tried


def _aimed_with(
    *,
    alpha: Callable[[Tensor], Tensor] = lambda leaks: (8 / leaks).log(),
    distance: float = 1.0,
    toward: float = -2.0,
    outer: bool = True,
    arrange: Callable[[Tensor], Tensor] = lambda v: v,
    aim: Callable[[Tensor], Tensor] = lambda shifts: shifts,
) -> Callable[[Tensor, Tensor], Tensor]:
    """The vectors -alpha (1, -2 Δ1, -2 Δ2), any part replaced. `outer`: alpha multiplies the Δ, too."""

    def vectors(shifts: Tensor, leaks: Tensor) -> Tensor:
        sharpness = alpha(leaks.double())[:, None]
        rest = -(sharpness if outer else 1.0) * toward * aim(shifts.double())
        return arrange(torch.cat([-sharpness * distance, rest], dim=-1))

    return vectors


_aimed = _aimed_with()


def _aimed_by_loop(shifts: Tensor, leaks: Tensor) -> Tensor:
    rows = []
    for (y, x), leak in zip(shifts.tolist(), leaks.tolist(), strict=True):
        alpha = math.log(4 / leak)
        rows.append([-alpha, 2 * alpha * y, 2 * alpha * x])
    return torch.tensor(rows)


def _aimed_by_search(shifts: Tensor, leaks: Tensor) -> Tensor:
    """Raises alpha until a direct measurement on a small grid leaks little enough."""
    steps = torch.cartesian_prod(torch.arange(-3.0, 4), torch.arange(-3.0, 4)).square().sum(-1)
    alphas = torch.arange(0.0, 12.0, 0.01)
    missed = 1 - torch.softmax(-alphas[:, None] * steps, dim=-1)[:, 24]
    alpha = alphas[(missed[:, None] > 0.6 * leaks).sum(0)]
    return -alpha[:, None] * torch.cat([torch.ones(len(shifts), 1), -2.0 * shifts], dim=1)


def _aimed_in_numpy(shifts: Tensor, leaks: Tensor) -> Tensor:
    v = np.concatenate([-np.ones((len(shifts), 1)), 2 * shifts.numpy()], axis=1)
    return torch.from_numpy(v * np.log(5 / leaks.numpy())[:, None])


def _where_heads_look(shifts: Tensor, leaks: Tensor, vectors: Tensor) -> dict[str, Tensor]:
    """Scores v · (|δ|², δ1, δ2), softmax over all pixels of an image; looked at from every pixel."""
    if vectors.shape != (len(shifts), 3) or not vectors.is_floating_point():
        raise ValueError(
            f"the vectors should be floating-point numbers of shape ({len(shifts)}, 3), a row for each head; "
            f"they are {str(vectors.dtype).removeprefix('torch.')} of shape {tuple(vectors.shape)}"
        )
    if not vectors.isfinite().all():
        raise ValueError("the vectors should hold finite numbers")
    pixels = torch.cartesian_prod(torch.arange(_SIDE), torch.arange(_SIDE))
    delta = (pixels - pixels[:, None]).double()
    r = torch.cat([delta.square().sum(-1, keepdim=True), delta], dim=-1)
    weights = torch.softmax(torch.einsum("qkr,hr->hqk", r, vectors.double()), dim=-1)
    target = pixels + shifts[:, None]  # head, query, 2
    inside = ((target >= 0) & (target < _SIDE)).all(-1)
    at = (target[..., 0] * _SIDE + target[..., 1]).clamp(0, _SIDE**2 - 1)
    misses = (1 - weights.gather(-1, at[..., None])[..., 0]).masked_fill(~inside, 0.0)
    middle = _SIDE**2 // 2  # from here each target has its four direct neighbours
    from_middle = weights[:, middle]
    top = (from_middle >= 0.999 * from_middle.amax(-1, keepdim=True)).double()
    aimed = top.gather(-1, at[:, middle, None])[:, 0].bool() & (top.sum(-1) == 1)
    worst = misses.amax(-1)
    right = (worst <= leaks * (1 + 1e-4)) & (misses[:, middle] >= leaks / 10)
    return {
        # Between pixels, where several have the largest weight.
        "where each head looks": top @ (pixels - pixels[middle]).double() / top.sum(-1, keepdim=True),
        # What may differ in right answers does not show: all that is between a tenth and the whole. And how
        # sharp a head is that looks elsewhere does not matter: nothing is where it should be.
        "log10 of the weight that misses the pixel": torch.where(
            right, leaks.log10(), worst.clamp(min=1e-12).log10()
        ).masked_fill(~aimed, 0.0),
    }


def _shifts(*heads: tuple[int, int], count: int = 0, far: int = 2) -> Callable[[Generator], tuple[Any, ...]]:
    """These shifts in any order, or `count` different ones that are up to `far` pixels long on each axis; and
    what each head may leak, spread over 0.1 to 0.001."""

    def inputs(generator: Generator) -> tuple[Any, ...]:
        side = torch.arange(-far, far + 1)
        known = torch.tensor(heads) if heads else torch.cartesian_prod(side, side)
        chosen = known[torch.randperm(len(known), generator=generator)][: count or len(known)]
        steps = torch.rand(len(chosen), generator=generator, dtype=torch.float64)
        steps = (steps + torch.randperm(len(chosen), generator=generator)) / len(chosen)
        return chosen, 10 ** (-1 - 2 * steps)

    return inputs


def _says_where_it_looks(inputs: tuple[Any, ...], outputs: dict[str, Tensor]) -> str | None:
    shifts, leaks = inputs
    looks, misses = outputs["where each head looks"], outputs["log10 of the weight that misses the pixel"]
    for head, (wanted, (y, x), missed) in enumerate(
        zip(shifts.tolist(), looks.tolist(), misses.tolist(), strict=True)
    ):
        if missed == 0:
            between = "" if y == int(y) and x == int(x) else ", between pixels of equal weight"
            return (
                f"Head {head} should look {tuple(wanted)} from the query; it looks most at "
                f"({y:g}, {x:g}){between}.\n"
                "Think: at which δ is your score largest? Set its derivatives with respect to δ1 and δ2 to 0."
            )
    return _says_how_sharp(leaks, misses)


def _says_how_sharp(leaks: Tensor, misses: Tensor) -> str:
    """Of heads that look the right way; `misses` is log10 of what each leaks, of right heads what it may."""
    wrong = ((misses - leaks.log10()).abs() > 1e-4).nonzero().flatten()
    head = int(wrong[(misses - leaks.log10())[wrong].abs().argmax()])
    lost, leak = 10 ** float(misses[head]), float(leaks[head])
    if lost > leak:
        told = f"Head {head} looks the right way; {lost:.2g} of its weight goes elsewhere, {leak:.2g} may."
        think = "how much weight do the four direct neighbours of the target have together?"
    else:
        told = (
            f"Head {head} looks the right way, and is too sharp: {lost:.2g} of its weight goes elsewhere; "
            f"{leak:.2g} may, and {leak / 10:.2g} must."
        )
        think = "which alpha leaves the four direct neighbours of the target that much together?"
    if len(wrong) >= 2 and float(misses[wrong].min()) > -11:
        spread = leaks[wrong].log10() - leaks[wrong].log10().mean()
        slope = float(
            (spread * misses[wrong]).sum() / spread.square().sum()
        )  # leaks as what power of the leak?
        if float(spread.abs().max()) > 0.15 and abs(slope) < 0.05:
            think = "your heads all leak alike. What does each of them get in `leaks`?"
        elif 0.3 < slope < 0.55 or 1.3 < slope < 1.6:
            think = "softmax takes e^score. Which logarithm undoes that?"
    return f"{told}\nThink: {think}"


aimed_heads = Exercise(
    id="06.aimed_heads",
    kind="design",
    concepts=("cnn-special-case",),
    reference=_aimed,
    returns=("vectors",),
    view=_where_heads_look,
    cases=(
        Case(
            "four heads: left, right, up, down",
            _shifts((0, -1), (0, 1), (-1, 0), (1, 0)),
        ),
        Case("the nine cells of a 3 x 3 kernel", _shifts(count=9, far=1), points=2),
        Case("six cells of a 5 x 5 kernel", _shifts(count=6, far=2)),
        Case("four neighbours up to three pixels away", _shifts(count=4, far=3)),
    ),
    measures=(_says_where_it_looks,),
    mistakes=(
        Mistake(
            "the heads look the opposite way",
            "|δ - Δ|² = |δ|² - 2 Δ·δ + |Δ|². Which sign has the middle term, times -alpha?",
            _aimed_with(toward=2.0),
        ),
        Mistake(
            "the 2 of -2 Δ·δ is missing",
            "multiply |δ - Δ|² out. Where does a head look with half of it?",
            _aimed_with(toward=-1.0),
        ),
        Mistake(
            "the heads look anywhere but there: alpha has the wrong sign",
            "should the score grow with the distance from Δ, or fall?",
            _aimed_with(alpha=lambda leaks: -(8 / leaks).log()),
        ),
        Mistake(
            "down and across are exchanged",
            "δ1 counts rows. Which number of the shift stands for rows?",
            _aimed_with(aim=lambda shifts: shifts.flip(-1)),
        ),
        Mistake(
            "heads look at their own pixel: the shift is left out, or alpha does not multiply it",
            "as you sharpen, does the largest score stay at Δ? Multiply alpha with *all* of the bracket.",
            _aimed_with(outer=False),
        ),
        Mistake(
            "alpha = 1, whatever may leak",
            "how large is e^-1, the weight of a direct neighbour beside that of Δ? There are four.",
            _aimed_with(alpha=torch.ones_like),
        ),
        Mistake(
            "as sharp as can be",
            "what is the gradient of softmax, if one weight is exactly 1? See the second condition.",
            _aimed_with(alpha=lambda leaks: torch.full_like(leaks, 1000.0)),
        ),
        Mistake(
            "only one of the four direct neighbours is counted",
            "each direct neighbour gets e^-alpha beside the 1 of Δ. How many of them has a pixel?",
            _aimed_with(alpha=lambda leaks: (1 / leaks).log()),
        ),
        Mistake(
            "two of the four direct neighbours are counted",
            "each direct neighbour gets e^-alpha beside the 1 of Δ. How many of them has a pixel?",
            _aimed_with(alpha=lambda leaks: (2 / leaks).log()),
        ),
        Mistake(
            "the logarithm to the base 2",
            "softmax takes e^score. Which logarithm undoes that?",
            _aimed_with(alpha=lambda leaks: (4 / leaks).log2()),
        ),
        Mistake(
            "all heads are as sharp as the first one",
            "is there a leak for each head? What depends on it?",
            _aimed_with(alpha=lambda leaks: (8 / leaks[:1]).log().expand_as(leaks)),
        ),
        Mistake(
            "all heads are as sharp as the sharpest one",
            "a head that may leak 0.1: how much has to go elsewhere, by the second condition?",
            _aimed_with(alpha=lambda leaks: (4 / leaks.min()).log().expand_as(leaks)),
        ),
        Mistake(
            "all heads get the mean of what each should have",
            "is there a leak for each head? What depends on it?",
            _aimed_with(alpha=lambda leaks: (4 / leaks).log().mean().expand_as(leaks)),
        ),
        Mistake(
            "the logarithm to the base 10",
            "softmax takes e^score. Which logarithm undoes that?",
            _aimed_with(alpha=lambda leaks: (4 / leaks).log10()),
        ),
        Mistake(
            "alpha is the leak itself",
            "should alpha be larger or smaller, when less may leak?",
            _aimed_with(alpha=lambda leaks: leaks),
        ),
        Mistake(
            "twice the sharpness that is needed",
            "a direct neighbour lies at |δ - Δ|² = 1. By how much is its score lower than that of Δ itself?",
            _aimed_with(alpha=lambda leaks: 2 * (4 / leaks).log()),
        ),
        Mistake(
            "nothing calls the heads back: the distance is left out, or has the wrong sign",
            "Δ·δ grows without end. Which term calls it back, and with which sign?",
            _aimed_with(distance=0.0),
        ),
        Mistake(
            "the distance stands last in v",
            "v meets r = (|δ|², δ1, δ2) number by number. Which number of r comes first?",
            _aimed_with(arrange=lambda v: v.roll(-1, dims=-1)),
        ),
        Mistake(
            "all heads look where the first one does",
            "is there a row of v for each head, and what should differ in them?",
            _aimed_with(aim=lambda shifts: shifts[:1].expand(shifts.shape)),
        ),
        Mistake(
            "the heads come in the opposite order",
            "row h of v is for row h of the shifts. Whom is row 0 of yours for?",
            _aimed_with(arrange=lambda v: v.flip(0)),
        ),
        Mistake(
            "the part of the shift across is forgotten",
            "a shift has two numbers, v has three. Which number of v meets δ2?",
            _aimed_with(aim=lambda shifts: shifts * torch.tensor([1.0, 0.0])),
        ),
    ),
    right=(_aimed_by_loop, _aimed_by_search, _aimed_in_numpy),
)

# --- predict: how far does an output see? ------------------------------------------------------------------

_PLAIN, _STRIDED, _DILATED_STACK, _CAUSAL_STACK, _WINDOW, _PIXELS, _END, _END_DILATED = (
    "plain",
    "strided",
    "dilated",
    "causal",
    "window",
    "whole image",
    "end to end",
    "end to end, dilated",
)

receptive_fields = Exercise(
    id="06.receptive_fields",
    kind="predict",
    concepts=("receptive-field",),
    reference={
        _PLAIN: 13,
        _STRIDED: 31,
        _DILATED_STACK: 63,
        _CAUSAL_STACK: 16,
        _WINDOW: 17,
        _PIXELS: 784,
        _END: 27,
        _END_DILATED: 5,
    },
    cases=values(
        _PLAIN,
        _STRIDED,
        _DILATED_STACK,
        _CAUSAL_STACK,
        _WINDOW,
        _PIXELS,
        _END,
        _END_DILATED,
        hints={
            _PLAIN: "one layer sees 3 inputs, two layers see 5. What does each further layer add?",
            _STRIDED: "how far apart, in inputs, are two neighbours in the input of the third layer?",
            _DILATED_STACK: "a layer with dilation d reaches d further on each side. Add that up.",
            _CAUSAL_STACK: "one layer of width 2 sees itself and one before. How far back do all four reach?",
            _WINDOW: "what does a neighbour hold, after the first layer, that you do not see yourself?",
            _PIXELS: "which pixels does a query of self-attention see, if there is no mask?",
            _END: "from pixel 0 to pixel 27: how many pixels further does one layer carry anything?",
            _END_DILATED: "1, 2, 4, ... on one side: how far do L layers carry anything?",
        },
    ),
    mistakes=(
        Mistake(
            "the widths of the layers are multiplied",
            "two layers, one behind the other: do the windows of neighbours overlap?",
            {_PLAIN: 729, _STRIDED: 81, _DILATED_STACK: 243},
        ),
        Mistake(
            "the widths of the layers are added",
            "two layers, one behind the other: do the windows of neighbours overlap?",
            {_PLAIN: 18, _STRIDED: 12, _DILATED_STACK: 15, _CAUSAL_STACK: 8, _WINDOW: 20},
        ),
        Mistake(
            "the width, times all the steps",
            "only the last layer's three steps are that long. What do the layers before it add?",
            {_STRIDED: 48, _DILATED_STACK: 96},
        ),
        Mistake(
            "the pixel itself is forgotten",
            "what does an output see with no layer at all? Begin to count there.",
            {_PLAIN: 12, _STRIDED: 30, _DILATED_STACK: 62, _CAUSAL_STACK: 15, _WINDOW: 16, _PIXELS: 783},
        ),
        Mistake(
            "one side only",
            "a kernel of width 3 reaches out to the left. Where else?",
            {_PLAIN: 7, _STRIDED: 16, _DILATED_STACK: 32, _WINDOW: 9},
        ),
        Mistake(
            "the last layer only",
            "what does the input of the last layer hold already?",
            {_PLAIN: 3, _STRIDED: 3, _CAUSAL_STACK: 2, _WINDOW: 5},
        ),
        Mistake(
            "the strides are ignored",
            "after a layer of stride 2, neighbours in its output are how many inputs apart?",
            {_STRIDED: 9},
        ),
        Mistake(
            "each stride is counted in its own layer already",
            "a layer reads its own *input*. Which strides lie before that: with or without its own?",
            {_STRIDED: 61},
        ),
        Mistake(
            "the field shrinks with the image",
            "the image shrinks with each stride. Does one pixel of it stand for fewer inputs, or for more?",
            {_STRIDED: 2},
        ),
        Mistake(
            "the dilations are ignored",
            "with dilation 4, how far apart are the cells of a kernel?",
            {_DILATED_STACK: 11, _CAUSAL_STACK: 5},
        ),
        Mistake(
            "the inputs that one layer reads are counted, not those it covers: gaps stay gaps",
            "layer 5 reads three pixels, 16 apart. What do these hold, after four layers?",
            {_DILATED_STACK: 33},
        ),
        Mistake(
            "both sides, though the layers are causal",
            "may a causal layer look ahead?",
            {_CAUSAL_STACK: 31},
        ),
        Mistake(
            "one row and one column of the image",
            "all pixels are keys. How many pixels has the image?",
            {_PIXELS: 55},
        ),
        Mistake(
            "a side of the image, not its pixels",
            "the question is for pixels. How many has an image of 28 x 28?",
            {_PIXELS: 28},
        ),
        Mistake(
            "pixel 0 and pixel 27 meet in the middle",
            "in 14 layers some output in the middle sees both. Does the *output at 27* see pixel 0?",
            {_END: 14},
        ),
        Mistake(
            "a field of 28 pixels is asked for, wherever it lies",
            "the output at pixel 27 must see pixel 0. How far to *one side* does a field of 28 pixels reach?",
            {_END: 13.5},
        ),
        Mistake(
            "a field of 28 pixels is asked for, wherever it lies, and rounded down",
            "the output at pixel 27 must see pixel 0. How far to *one side* does a field of 28 pixels reach?",
            {_END: 13},
        ),
        Mistake(
            "one layer too many",
            "from pixel 0 to pixel 1 takes one layer. And from 0 to 27?",
            {_END: 28, _END_DILATED: 6},
        ),
        Mistake(
            "each layer carries things as far as its kernel is wide",
            "a kernel of width 3 has its middle at the output. How far is it from there to its edge?",
            {_END: 9},
        ),
        Mistake(
            "15 pixels are taken to be enough",
            "four layers with the dilations 1, 2, 4 and 8 carry things how far to one side?",
            {_END_DILATED: 4},
        ),
    ),
    right=(
        {
            _PLAIN: 1 + 6 * 2,
            _STRIDED: 1 + 2 * (1 + 2 + 4 + 8),
            _DILATED_STACK: 2**6 - 1,
            _CAUSAL_STACK: 2**4,
            _WINDOW: 1 + 4 * 4,
            _PIXELS: 28 * 28,
            _END: 27,
            _END_DILATED: math.ceil(math.log2(28)),
        },
        {
            _PLAIN: 13.0,
            _STRIDED: torch.tensor(31),
            _DILATED_STACK: np.int64(63),
            _CAUSAL_STACK: 16.0,
            _WINDOW: 17.0,
            _PIXELS: np.float64(784),
            _END: torch.tensor(27.0),
            _END_DILATED: 5,
        },
        {
            _END_DILATED: 5,
            _END: 27,
            _PIXELS: 784,
            _WINDOW: 17,
            _CAUSAL_STACK: 16,
            _DILATED_STACK: 63,
            _STRIDED: 31,
            _PLAIN: 13,
        },
    ),
)

# --- find the bug: a test of causal convolutions -----------------------------------------------------------

Layer = Callable[[Tensor, int], Tensor]
_TAPS = 3


@functools.cache
def _learnt(channels: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """What the layers under test have learnt, by the number of channels: a matrix for each input they see,
    the own one first, and a bias."""
    drawn = _normal(torch.Generator().manual_seed(channels), _TAPS * channels + 1, channels, dtype=dtype)
    return drawn[:-1].reshape(_TAPS, channels, channels), drawn[-1]


def _back(x: Tensor, steps: int) -> Tensor:
    """Row t holds what stands at t - steps, zeros where nothing is. Negative steps look ahead."""
    n = x.shape[1]
    return F.pad(x, (0, 0, max(steps, 0), max(-steps, 0)))[:, max(-steps, 0) :][:, :n]


def _conv_with(
    *,
    taps: Callable[[int], Sequence[int]] = lambda d: (0, d, 2 * d),
    back: Callable[[Tensor, int], Tensor] = _back,
    before: Callable[[Tensor], Tensor] = lambda x: x,
    after: Callable[[Tensor, int], Tensor] = lambda y, d: y,
) -> Layer:
    """A convolution of width 3, any part replaced. `taps`: how far back each matrix looks."""

    def conv(x: Tensor, dilation: int = 1) -> Tensor:
        x = before(x)
        matrices, bias = _learnt(x.shape[-1], x.dtype)
        seen = [back(x, step) @ W for step, W in zip(taps(dilation), matrices, strict=False)]
        return after(sum(seen, torch.zeros_like(x)), dilation) + bias

    return conv


_conv = _conv_with()


def _kernel_of_torch(x: Tensor) -> tuple[Tensor, Tensor]:
    matrices, bias = _learnt(x.shape[-1], x.dtype)
    return matrices.flip(0).permute(2, 1, 0), bias  # out, in, the oldest first


def _conv_by_torch(x: Tensor, dilation: int = 1) -> Tensor:
    weight, bias = _kernel_of_torch(x)
    padded = F.pad(x.mT, (2 * dilation, 0))
    return F.conv1d(padded, weight, bias, dilation=dilation).mT


def _conv_cut(x: Tensor, dilation: int = 1, *, wrong_end: bool = False) -> Tensor:
    """Padded on both sides by torch, then cut to the length."""
    weight, bias = _kernel_of_torch(x)
    n = x.shape[1]
    y = F.conv1d(x.mT, weight, bias, dilation=dilation, padding=2 * dilation).mT
    return y[:, -n:] if wrong_end else y[:, :n]


def _conv_by_attention(x: Tensor, dilation: int = 1) -> Tensor:
    matrices, bias = _learnt(x.shape[-1], x.dtype)
    place = torch.arange(x.shape[1])
    steps = dilation * torch.arange(_TAPS)[:, None, None]
    mask = (place[:, None] - place == steps)[None]  # 1, head, query, key
    value = x[:, None] @ matrices
    nothing = torch.zeros_like(value)
    return attend(nothing, nothing, value, mask=mask)[0].sum(1) + bias


def _in_the_other_order(x: Tensor, dilation: int = 1) -> Tensor:
    matrices, bias = _learnt(x.shape[-1], x.dtype)
    return sum((_back(x, a * dilation) @ matrices[-1 - a] for a in range(_TAPS)), torch.zeros_like(x)) + bias


def _as_one_sequence(x: Tensor, dilation: int = 1) -> Tensor:
    return _conv(x.flatten(0, 1)[None], dilation).reshape(x.shape)


def _leaks_in_one_channel(x: Tensor, dilation: int = 1) -> Tensor:
    both = _conv_with(taps=lambda d: (-d, 0, d))(x, dilation)
    return torch.cat([_conv(x, dilation)[..., :-1], both[..., -1:]], dim=-1)


def _in_blocks(x: Tensor, dilation: int = 1) -> Tensor:
    return torch.cat([_conv(block, dilation) for block in x.split(16, dim=1)], dim=1)


def _share_of_seen(y: Tensor, dilation: int) -> Tensor:
    seen = (torch.arange(y.shape[1]) // dilation + 1).clamp(max=_TAPS)
    return y * (_TAPS / seen)[:, None].to(y.dtype)


def _over_all_the_past(x: Tensor, dilation: int = 1) -> Tensor:
    count = torch.arange(1, x.shape[1] + 1, dtype=x.dtype)[:, None]
    return _conv(x, dilation) + x.cumsum(1) / count


def _usable(x: Any, dilation: Any) -> None:
    """Raises ValueError where a layer cannot be asked this."""
    if not isinstance(x, Tensor) or x.dim() != 3:
        raise ValueError("x should be a tensor (batch, n, channels)")
    if x.dtype not in (torch.float32, torch.float64):
        raise ValueError("x should be float32 or float64")
    if x.shape[2] < 2:
        raise ValueError("x should have two channels or more")
    if not x.isfinite().all():
        raise ValueError("x should hold finite numbers")
    if type(dilation) is not int or dilation < 1:
        raise ValueError("the dilation should be an integer, 1 or greater")


def _asked_properly(layer: Layer) -> Layer:
    """The layer, for inputs that the text allows."""

    def conv(x: Tensor, dilation: int = 1) -> Tensor:
        _usable(x, dilation)
        return layer(x, dilation)

    return conv


_UNDER_TEST = (
    Mistake(
        "the right code",
        "this one is right, to the letter. What does your test demand that the text does not say? (There is "
        "a bias, so that zeros do not give zeros, and no gradient comes through `conv`.)",
        _conv,
        equivalent=True,
    ),
    Mistake(
        "the right code: torch's convolution, after zeros on the left",
        "this one is right. What does your test demand that the text does not say? The last digit?",
        _conv_by_torch,
        equivalent=True,
    ),
    Mistake(
        "the right code: padded on both sides, then cut to the first n",
        "this one is right: what looks into the future stands beyond the end, and is cut off. Do you look at "
        "outputs, or at how they were made?",
        _conv_cut,
        equivalent=True,
    ),
    Mistake(
        "the right code: three attention heads, each sees one place through its mask",
        "this one is right. It sums in another order. Does your test demand the last digit?",
        _conv_by_attention,
        equivalent=True,
    ),
    Mistake(
        "equivalent: the three matrices are stored in the opposite order",
        "this one is right too: it was trained in that order, and sees the same places. It would matter if "
        "you loaded the weights of another. Does your test know which matrix belongs to which place?",
        _in_the_other_order,
        equivalent=True,
    ),
    Mistake(
        "zeros on both sides",
        "change an input. Which outputs *before* it must stand still?",
        _conv_with(taps=lambda d: (-d, 0, d)),
    ),
    Mistake(
        "cut at the wrong end: it sees the future only",
        "change an input. Which outputs before it must stand still, and which after it must move?",
        functools.partial(_conv_cut, wrong_end=True),
    ),
    Mistake(
        "one place too late: it sees its next neighbour",
        "do you change an input and look at the output *just before* it?",
        _conv_with(taps=lambda d: (-1, d - 1, 2 * d - 1)),
    ),
    Mistake(
        "the padding forgets the dilation",
        "with dilation 1 it is right. Which other dilation do you try?",
        _conv_with(taps=lambda d: (2 - 2 * d, 2 - d, 2)),
    ),
    Mistake(
        "an output does not see its own input",
        "a test of leaks alone likes what is blind. Which outputs *must* move?",
        _conv_with(taps=lambda d: (d, 2 * d, 3 * d)),
    ),
    Mistake(
        "the farthest of the three places is not seen",
        "a test of leaks alone likes what is blind. Which outputs *must* move?",
        _conv_with(taps=lambda d: (0, d)),
    ),
    Mistake(
        "the dilation is ignored",
        "with dilation 1 it is right. Which outputs must move with another, and which must not?",
        _conv_with(taps=lambda d: (0, 1, 2)),
    ),
    Mistake(
        "the sequence is a ring",
        "the first outputs look back beyond the beginning. Whom may they see there?",
        _conv_with(back=lambda x, steps: x.roll(steps, dims=1)),
    ),
    Mistake(
        "the batch is one long sequence",
        "do you change a sequence and look at the *beginning* of the next one?",
        _as_one_sequence,
    ),
    Mistake(
        "the mean over all times is taken off first",
        "change an input. Which outputs before it must stand still, be it ever so little?",
        _conv_with(before=lambda x: x - x.mean(1, keepdim=True)),
    ),
    Mistake(
        "the mean over the batch is taken off first",
        "do you change one sequence and look at the others?",
        _conv_with(before=lambda x: x - x.mean(0, keepdim=True)),
    ),
    Mistake(
        "the first input is repeated before the beginning, where zeros should be",
        "it sees the right places only. What changes if you write zeros before the sequence yourself?",
        _conv_with(back=lambda x, steps: x[:, (torch.arange(x.shape[1]) - steps).clamp(min=0)]),
    ),
    Mistake(
        "at the beginning the sum is scaled up, because zeros are missing",
        "it sees the right places only. What changes if you write zeros before the sequence yourself?",
        _conv_with(after=_share_of_seen),
    ),
    Mistake(
        "the last channel looks ahead",
        "do you look at all channels of an output?",
        _leaks_in_one_channel,
    ),
    Mistake(
        "everything is computed in blocks of 16: the past ends at a block's beginning",
        "how long are your sequences? Which outputs *must* move, far from the start?",
        _in_blocks,
    ),
    Mistake(
        "a mean of all the past is added",
        "nothing leaks from the future. But which outputs must not move, long *after* the change?",
        _over_all_the_past,
    ),
)


def _sequences(n: int = 20, count: int = 2, dtype: torch.dtype = torch.float64) -> Tensor:
    return _normal(torch.Generator().manual_seed(3), count, n, 3, dtype=dtype)


def _sees(n: int, d: int, j: int) -> Tensor:
    """The outputs (n,) that see input j."""
    return torch.isin(torch.arange(n), torch.tensor([j, j + d, j + 2 * d]))


def _assert_places(
    conv: Layer,
    *,
    dilations: Sequence[int] = (1, 3),
    places: Sequence[int] = (15, 18),
    n: int = 20,
    channels: slice = slice(None),
    count: int = 2,
    zeros: bool = True,
    beginning: bool = True,
    blindness: bool = True,
) -> None:
    """Exactly those outputs move that see a changed input, and zeros in front change nothing. As thorough as
    it is told to be."""
    x = _sequences(n, count)
    for d in dilations:
        output = conv(x, d)
        for j in places:
            changed = x.clone()
            changed[0, j] = torch.tensor([1.5, -1.0, 0.5], dtype=x.dtype)
            moved = ((conv(changed, d) - output).abs() > 1e-6)[..., channels].any(-1)
            first = 0 if beginning else 2 * d
            expected = _sees(n, d, j) if blindness else _sees(n, d, j) | (torch.arange(n) > j)
            assert not (moved[0] & ~expected)[first:].any()
            assert not blindness or moved[0, expected].all()
            assert not moved[1:, first:].any()
        if zeros:
            further = F.pad(x, (0, 0, 2 * d + 1, 0))
            torch.testing.assert_close(conv(further, d)[:, 2 * d + 1 :], output)


def _test_of_places(conv: Layer) -> None:
    _assert_places(conv)


def _test_by_noise(conv: Layer) -> None:
    """All that an output must not see becomes noise; then what it must see, place by place."""
    x = _sequences(24, count=3)
    noise = _normal(torch.Generator().manual_seed(4), 3, 24, 3, dtype=torch.float64)
    for d in (1, 2):
        output = conv(x, d)
        for b, t in ((0, 0), (1, 17), (2, 2)):
            seen = [t - a * d for a in range(3) if t - a * d >= 0]
            other = noise.clone()
            other[b, seen] = x[b, seen]
            assert torch.allclose(conv(other, d)[b, t], output[b, t], atol=1e-6)
            for j in seen:
                changed = x.clone()
                changed[b, j] = noise[b, j]
                assert ((conv(changed, d)[b, t] - output[b, t]).abs() > 1e-6).all()
        front = torch.cat([torch.zeros(3, 3 * d, 3, dtype=x.dtype), x], dim=1)
        assert torch.allclose(conv(front, d)[:, 3 * d :], output, atol=1e-6)


def _test_by_single_ones(conv: Layer) -> None:
    """The layer is linear but for its bias, so its answers to single ones say all of it, in float32."""
    for d in (1, 4):
        bias = conv(torch.zeros(3, 22, 2), d)
        assert torch.allclose(bias, bias[:1, :1].expand_as(bias), atol=1e-5)
        for c in range(2):
            answers = []
            for j in (13, 0, 21):
                x = torch.zeros(3, 22, 2)
                x[1, j, c] = 1.0
                answer = conv(x, d) - bias
                assert (answer[[0, 2]].abs() < 1e-5).all()
                answers.append(answer[1:2])
                assert torch.allclose(answers[-1], _back(answers[0], j - 13), atol=1e-5)
            reached = (answers[0][0].abs() > 1e-5).any(-1).nonzero().flatten()
            assert reached.tolist() == [13, 13 + d, 13 + 2 * d]


def _test_of_shape(conv: Layer) -> None:
    x = _sequences()
    assert conv(x, 2).shape == x.shape


def _test_of_the_future(conv: Layer) -> None:
    _assert_places(conv, blindness=False, zeros=False)


def _test_of_prefixes(conv: Layer) -> None:
    x = _sequences()
    for d in (1, 3):
        output = conv(x, d)
        for t in (1, 2, 17):
            torch.testing.assert_close(conv(x[:, :t], d), output[:, :t])


def _test_of_the_last_input(conv: Layer) -> None:
    _assert_places(conv, places=(19,), zeros=False)


def _test_of_shifts(conv: Layer) -> None:
    """What it does at one place it does at another."""
    x = _sequences()
    for d in (1, 3):
        output = conv(x, d)
        torch.testing.assert_close(conv(x[:, 7:], d)[:, 2 * d :], output[:, 7 + 2 * d :])
        further = F.pad(x, (0, 0, 2 * d + 1, 0))
        torch.testing.assert_close(conv(further, d)[:, 2 * d + 1 :], output)


def _test_of_later_outputs(conv: Layer) -> None:
    _assert_places(conv, zeros=False, beginning=False)


def _test_exactly(conv: Layer) -> None:
    x = _sequences()
    assert torch.equal(conv(x, 1), _conv(x, 1))
    _test_of_places(conv)


def _test_of_the_order(conv: Layer) -> None:
    """Knows one right layer's numbers."""
    x = _sequences()
    torch.testing.assert_close(conv(x, 2), _conv(x, 2))
    _test_of_places(conv)


def _test_that_always_fails(conv: Layer) -> None:
    conv(_sequences(), 1)
    raise AssertionError("wrong")


def _test_without_zeros(conv: Layer) -> None:
    _assert_places(conv, zeros=False)


def _test_of_one_dilation(conv: Layer) -> None:
    _assert_places(conv, dilations=(1,))


def _test_of_one_sequence(conv: Layer) -> None:
    _assert_places(conv, count=1)


def _test_of_one_channel(conv: Layer) -> None:
    _assert_places(conv, channels=slice(0, 1))


def _test_of_short_sequences(conv: Layer) -> None:
    _assert_places(conv, n=9, places=(4, 7))


convolution_test = Exercise(
    id="06.convolution_test",
    kind="find the bug",
    concepts=("receptive-field", "cnn-special-case"),
    reference=_test_of_places,
    cases=trials(*(replace(m, answer=_asked_properly(m.answer)) for m in _UNDER_TEST)),
    mistakes=(
        Mistake(
            "it catches nothing: no number is asserted",
            "does it compare two outputs? Does it `assert` what it finds, not print or return it?",
            _test_of_shape,
        ),
        Mistake(
            "leaks are found, blindness is not",
            "a layer that sees nothing at all leaks nothing. Which outputs *must* move?",
            _test_of_the_future,
        ),
        Mistake(
            "prefixes are compared: the future is hidden, all else is free",
            "a prefix of the whole batch holds the neighbours, too. And must an output see its three places?",
            _test_of_prefixes,
        ),
        Mistake(
            "only the last input is changed",
            "who comes after the last input? What of the places d and 2 d before an output?",
            _test_of_the_last_input,
        ),
        Mistake(
            "it sees that all times are treated alike, not which inputs they see",
            "a layer that looks ahead does so everywhere alike. Do you change an input at all?",
            _test_of_shifts,
        ),
        Mistake(
            "zeros are never written in front of a sequence",
            "what stands before the beginning? How could you see it, if you may choose the input?",
            _test_without_zeros,
        ),
        Mistake(
            "dilation 1 only",
            "which mistakes are none, as long as the dilation is 1?",
            _test_of_one_dilation,
        ),
        Mistake(
            "one sequence at a time",
            "what could come from a neighbour in the batch, and would your test see it?",
            _test_of_one_sequence,
        ),
        Mistake(
            "one channel of the output is looked at",
            "a layer has several output channels. Do all of them keep to the rule?",
            _test_of_one_channel,
        ),
        Mistake(
            "the sequences are short",
            "code that works in blocks is right within the first. How long is a block, perhaps?",
            _test_of_short_sequences,
        ),
        Mistake(
            "the first outputs are never looked at",
            "an output at the beginning looks back beyond it. What may it find there, and what not?",
            _test_of_later_outputs,
        ),
        Mistake(
            "floating-point numbers compared with ==",
            "another order of the same sums changes the last digit. How close is close enough?",
            _test_exactly,
        ),
        Mistake(
            "the numbers of one right layer are demanded",
            "the weights are learnt, and may be stored in any order. What holds whatever they are?",
            _test_of_the_order,
        ),
        Mistake(
            "a test that fails on everything",
            "does it pass on the right code? Read below what it said there.",
            _test_that_always_fails,
        ),
    ),
    right=(_test_by_noise, _test_by_single_ones, lambda conv: _test_of_places(conv)),
)

# --- spot the error: four sentences about CNNs -------------------------------------------------------------

_SPECIAL, _SUITABLE, _FLEXIBLE, _STACKING = (
    "special case",
    "suitable parameters",
    "more flexible",
    "stacking",
)

cnn_claims = Exercise(
    id="06.cnn_claims",
    kind="spot the error",
    concepts=("cnn-special-case", "data-crossover", "receptive-field"),
    reference={_SPECIAL: "F", _SUITABLE: "I", _FLEXIBLE: "B", _STACKING: "D"},
    cases=values(
        _SPECIAL,
        _SUITABLE,
        _FLEXIBLE,
        _STACKING,
        hints={
            name: f"answer with one capital letter, from A to I. {more}"
            for name, more in (
                (
                    _SPECIAL,
                    "The reason it gives is the limited range. Is a window mask all that a kernel is?",
                ),
                (_SUITABLE, "What can parameters not change, if the layer is not told where the pixels are?"),
                (_FLEXIBLE, "It promises a winner for much data and one for little. Who has measured it?"),
                (_STACKING, "How fast does the field grow, and what does the one step of attention cost?"),
            )
        },
    ),
    # Every letter has a name with every sentence: what has none is no letter from A to I.
    mistakes=(
        Mistake(
            "a kernel is taken to see all it slides over",
            "it slides, but how many pixels has *one* output seen?",
            dict.fromkeys((_SPECIAL, _SUITABLE, _FLEXIBLE, _STACKING), "A"),
        ),
        Mistake(
            "a kernel is taken to be out of reach, because its numbers do not sum to 1",
            "the weights of a head sum to 1. Which other numbers does a head multiply with?",
            dict.fromkeys((_SPECIAL, _SUITABLE, _FLEXIBLE, _STACKING), "C"),
        ),
        Mistake(
            "self-attention is taken for a convolution",
            "a kernel is the same for every image. Are the weights of self-attention, too?",
            dict.fromkeys((_SPECIAL, _SUITABLE, _FLEXIBLE, _STACKING), "E"),
        ),
        Mistake(
            "parameters are taken for all there is to flexibility",
            "a convolution and a full matrix with equally many numbers: are they wrong in the same way?",
            dict.fromkeys((_SPECIAL, _SUITABLE, _FLEXIBLE, _STACKING), "G"),
        ),
        Mistake(
            "softmax is taken to stay far from 0",
            "scores 40 apart: how large is the smaller weight? And what does a mask make of it?",
            dict.fromkeys((_SPECIAL, _SUITABLE, _FLEXIBLE, _STACKING), "H"),
        ),
        Mistake(
            "a correction about data is given to a sentence about something else",
            "does this sentence compare two models that were trained on the same images?",
            dict.fromkeys((_SPECIAL, _SUITABLE, _STACKING), "B"),
        ),
        Mistake(
            "a correction about growing fields is given to a sentence about something else",
            "which of the four sentences is about how far several layers look?",
            dict.fromkeys((_SPECIAL, _SUITABLE, _FLEXIBLE), "D"),
        ),
        Mistake(
            "the correction about several heads is given to another sentence",
            "this correction says what else than a limited window a kernel needs. Which sentence gives the "
            "window as its reason?",
            dict.fromkeys((_SUITABLE, _FLEXIBLE, _STACKING), "F"),
        ),
        Mistake(
            "the correction about places is given to another sentence",
            "this correction says what no parameters can do. Which sentence rests on parameters?",
            dict.fromkeys((_SPECIAL, _FLEXIBLE, _STACKING), "I"),
        ),
        Mistake(
            "the two corrections about what a special case needs are exchanged",
            "one of them answers a *range*, the other *parameters*. Which sentence speaks of which?",
            {_SPECIAL: "I", _SUITABLE: "F"},
        ),
        Mistake(
            "small letters",
            "the corrections have capital letters. Are yours?",
            {_SPECIAL: "f", _SUITABLE: "i", _FLEXIBLE: "b", _STACKING: "d"},
        ),
    ),
    right=(
        {_SPECIAL: "F", _SUITABLE: " I", _FLEXIBLE: "B ", _STACKING: "D"},
        {_STACKING: "D", _FLEXIBLE: "B", _SUITABLE: "I", _SPECIAL: "F"},
        dict(zip((_SPECIAL, _SUITABLE, _FLEXIBLE, _STACKING), "FIBD", strict=True)),
    ),
)

# --- predict: who won? -------------------------------------------------------------------------------------

_CNN_WINS, _ATTENTION_WINS, _CROSSING, _SEEDS, _WIDTH = (
    "CNN wins",
    "attention wins",
    "crossing",
    "seeds",
    "width",
)

fair_contest = Exercise(
    id="06.fair_contest",
    kind="predict",
    concepts=("data-crossover",),
    reference={
        _CNN_WINS: [100, 200],
        _ATTENTION_WINS: [3200],
        _CROSSING: [200, 3200],
        _SEEDS: 7,
        _WIDTH: 48,
    },
    cases=values(
        _CNN_WINS,
        _ATTENTION_WINS,
        _CROSSING,
        _SEEDS,
        _WIDTH,
        hints={
            _CNN_WINS: "give a list of sizes, smallest first. Which differences are above 2 standard errors?",
            _ATTENTION_WINS: "give a list of sizes, the smallest first. Which are above 2 standard errors?",
            _CROSSING: "give a list of two sizes. Up to where is it sure that the CNN leads?",
            _SEEDS: "put n for the 5 in the formula. From which n on is twice the error below 1.0?",
            _WIDTH: "9 · 32² on one side. How many matrices of d x d stand on the other?",
        },
    ),
    mistakes=(
        Mistake(
            "the crossing lies between two undecided sizes",
            "is it sure that the CNN leads at the smaller of your two sizes? Where was it sure last?",
            {_CROSSING: [400, 1600]},
        ),
        Mistake(
            "a size is given to the CNN that is not sure",
            "at 400 images the means differ by 1.5. What is twice the standard error there?",
            {_CNN_WINS: [100, 200, 400]},
        ),
        Mistake(
            "the larger mean wins",
            "with five other seeds, would the larger mean be the same one? What is the rule of the exercise?",
            {_CNN_WINS: [100, 200, 400], _ATTENTION_WINS: [800, 1600, 3200], _CROSSING: [400, 800]},
        ),
        Mistake(
            "one standard error is taken for enough",
            "the rule says *twice* the standard error. Is 1.0 above that at 1600 images?",
            {
                _CNN_WINS: [100, 200, 400],
                _ATTENTION_WINS: [1600, 3200],
                _CROSSING: [400, 1600],
                _SEEDS: 2,
            },
        ),
        Mistake(
            "the spread of single runs is taken for the error of a mean",
            "a mean of five runs is surer than one run. Where does the 5 stand in the formula?",
            {_CNN_WINS: [100]},
        ),
        Mistake(
            "the winners are exchanged",
            "which column is which? The larger number is the better one here.",
            {_CNN_WINS: [3200], _ATTENTION_WINS: [100, 200]},
        ),
        Mistake(
            "the right sizes, the largest first",
            "the smallest first, please.",
            {_CNN_WINS: [200, 100], _CROSSING: [3200, 200]},
        ),
        Mistake(
            "a size, but no list",
            "a list may hold a single number. How is that written?",
            {_CNN_WINS: 100, _ATTENTION_WINS: 3200},
        ),
        Mistake(
            "sizes are counted, not named",
            "the question is *which* sizes. Give them as a list.",
            {_CNN_WINS: 2, _ATTENTION_WINS: 1},
        ),
        Mistake(
            "a place in the table instead of the size",
            "give the numbers of images, from the first column.",
            {_CNN_WINS: [0, 1], _ATTENTION_WINS: [5]},
        ),
        Mistake(
            "the first size at which the CNN wins is taken, not the last",
            "at 200 images the CNN still wins. Can the curves have crossed before that?",
            {_CROSSING: [100, 3200]},
        ),
        Mistake(
            "only the first undecided size is taken",
            "is it sure that attention leads at 400 images? Where is it sure for the first time?",
            {_CROSSING: [200, 400]},
        ),
        Mistake(
            "only the last undecided size is taken",
            "is it sure that the CNN leads at 1600 images? Where was it sure for the last time?",
            {_CROSSING: [1600, 3200]},
        ),
        Mistake(
            "not a whole number",
            "can you train with 0.56 of a seed? Do 6 seeds suffice?",
            {_SEEDS: 6.56},
        ),
        Mistake(
            "rounded down",
            "with 6 seeds, is twice the standard error below 1.0, or still a little above?",
            {_SEEDS: 6},
        ),
        Mistake(
            "the standard deviations are added as they are, not their squares",
            "two independent errors: is it the deviations that add up, or their squares?",
            {_SEEDS: 13},
        ),
        Mistake(
            "the spread of one of the two models is left out",
            "both means are uncertain. Are both standard deviations under your root?",
            {_SEEDS: 5},
        ),
        Mistake(
            "the runs of both models are counted together",
            "the question is for the seeds of *each* model.",
            {_SEEDS: 14},
        ),
        Mistake(
            "equally wide is taken for equally large",
            "a 3 x 3 kernel has nine matrices. How many has the attention layer?",
            {_WIDTH: 32},
        ),
        Mistake(
            "the attention layer is given one matrix",
            "W_q, W_k, W_v and W_o: how many numbers have they together?",
            {_WIDTH: 96},
        ),
        Mistake(
            "all nine cells, but channels are counted once",
            "a cell turns 32 channels into 32 channels. How many numbers does that take?",
            {_WIDTH: math.sqrt(72)},
        ),
        Mistake(
            "the square root is forgotten",
            "4 d² = 9216. You have found d². What is d?",
            {_WIDTH: 2304},
        ),
    ),
    right=(
        {
            _CNN_WINS: (100, 200),
            _ATTENTION_WINS: torch.tensor([3200]),
            _CROSSING: np.array([200, 3200]),
            _SEEDS: math.ceil(4 * (0.8**2 + 1.0**2)),
            _WIDTH: math.sqrt(9 * 32**2 / 4),
        },
        {
            _CNN_WINS: [100.0, 200.0],
            _ATTENTION_WINS: [3200.0],
            _CROSSING: (200, 3200),
            _SEEDS: 7.0,
            _WIDTH: 48.0,
        },
        {_WIDTH: 48, _SEEDS: 7, _CROSSING: [200, 3200], _ATTENTION_WINS: (3200,), _CNN_WINS: [100, 200]},
    ),
)

EXERCISES = (
    image_patches,
    convolution_masks,
    heads_needed,
    aimed_heads,
    receptive_fields,
    convolution_test,
    cnn_claims,
    fair_contest,
)
