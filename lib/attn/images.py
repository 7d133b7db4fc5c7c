"""Images: cut into patches, and classified by attention or by convolutions.

All images are grey, (batch, rows, columns); a patch is a small square of one, as a vector of its pixels. Both
classifiers are `model(images)` → logits (batch, labels).
"""

from collections.abc import Sequence
from typing import Any, Literal

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from attn.layers import AttentionPooling
from attn.positions import LearnedPositions
from attn.transformer import Encoder

Pooling = Literal["flat", "mean", "attention"]


def patches(
    images: Float[Tensor, "*batch rows columns"], size: int
) -> Float[Tensor, "*batch patches pixels"]:
    """Each image as the set of its patches of size x size pixels, which do not overlap (Dosovitskiy et al.
    2021, section 3.1). Size 1 gives the set of its pixels.

    Patches are in reading order, line by line, and so are the pixels in each. Errors: ValueError for a size
    that does not divide both sides.
    """
    rows, columns = images.shape[-2:]
    if size < 1 or rows % size or columns % size:
        raise ValueError(f"patches of {size} x {size} do not fill an image of {rows} x {columns}")
    cut = images.unflatten(-1, (columns // size, size)).unflatten(-3, (rows // size, size))
    return cut.transpose(-3, -2).flatten(-2).flatten(-3, -2)


class ImageTransformer(nn.Module):
    """Labels an image by attention between its patches: a vision Transformer (Dosovitskiy et al. 2021,
    section 3.1), with pre-norm as there.

    Arguments:
      side: of the images, which are square. size: of a patch; 1 makes every pixel a vector.
      positions: whether each place has a learned vector, as in the paper; without, the patches are a set.
      pooling: how the patches become one vector. "flat": side by side, so that the last layer knows which is
        which; "mean"; "attention": `AttentionPooling`. (The paper has a further vector, the class token.)
      options: further arguments of `Encoder`.

    Errors: ValueError for patches that do not fill the image, or another pooling.
    """

    def __init__(
        self,
        side: int,
        size: int,
        n_labels: int,
        *,
        d_model: int = 16,
        n_heads: int = 2,
        n_layers: int = 2,
        d_ff: int = 32,
        positions: bool = True,
        pooling: Pooling = "flat",
        **options: Any,
    ):
        super().__init__()
        if size < 1 or side % size:
            raise ValueError(f"patches of {size} x {size} do not fill an image of {side} x {side}")
        if pooling not in ("flat", "mean", "attention"):
            raise ValueError(f'pooling must be "flat", "mean" or "attention", got {pooling!r}')
        n_patches = (side // size) ** 2
        self.size = size
        self.embedding = nn.Linear(size * size, d_model)
        self.positions = LearnedPositions(d_model, n_patches) if positions else nn.Identity()
        self.encoder = Encoder(n_layers, d_model, n_heads, d_ff, 0.0, "pre", **options)
        self.pooling = pooling
        self.pool = AttentionPooling(d_model) if pooling == "attention" else None
        self.output = nn.Linear(d_model * n_patches if pooling == "flat" else d_model, n_labels)

    def forward(self, images: Float[Tensor, "batch side side"]) -> Float[Tensor, "batch labels"]:
        x = self.encoder(self.positions(self.embedding(patches(images, self.size))))
        if self.pool is not None:
            return self.output(self.pool(x)[0])
        return self.output(x.flatten(-2) if self.pooling == "flat" else x.mean(dim=-2))

    def looked_at(self, images: Float[Tensor, "batch side side"]) -> Float[Tensor, "batch patches"]:
        """With pooling "attention": how much each patch's vector weighs in the pooled one.

        Errors: ValueError for another pooling, which has no such weights.
        """
        if self.pool is None:
            raise ValueError(f'only pooling "attention" has weights, this model has "{self.pooling}"')
        return self.pool(self.encoder(self.positions(self.embedding(patches(images, self.size)))))[1]


class ImageCNN(nn.Module):
    """Labels an image by convolutions with ReLU after each (LeCun et al. 1998), then one linear layer.

    With `residual`, each convolution stands as the sublayers of a pre-norm Transformer do (skip connections:
    He et al. 2016): x + ReLU(convolution(LayerNorm(x))), and a last LayerNorm after all of them. It trains
    much more easily, and a comparison with attention gives both the same help.

    Arguments:
      side: of the images, which are square.
      channels: of each layer's output; as many layers as entries. Zeros stand beyond the edges.
      size: of the patches that a further, first layer cuts, with as many channels as the next has; 1: none.
      width: of the kernels, in pixels; odd, so that there is a middle.
      strides, dilations: one per layer, all 1 by default. A stride of 2 keeps every second row and column, a
        dilation of 2 reads every second pixel.
      pooling: as in `ImageTransformer`: "flat", or "mean" over all places; or "max", the largest over all
        places.
      residual: needs patches (size > 1), equal channels and strides of 1, so that x and the sum fit.

    Errors: ValueError for another pooling, an even width, lists of other lengths, or a residual network whose
    layers change the shape.
    """

    def __init__(
        self,
        side: int,
        channels: Sequence[int],
        n_labels: int,
        *,
        size: int = 1,
        width: int = 3,
        strides: Sequence[int] | None = None,
        dilations: Sequence[int] | None = None,
        pooling: Literal["flat", "mean", "max"] = "flat",
        residual: bool = False,
    ):
        super().__init__()
        if pooling not in ("flat", "mean", "max"):
            raise ValueError(f'pooling must be "flat", "mean" or "max", got {pooling!r}')
        strides = [1] * len(channels) if strides is None else strides
        dilations = [1] * len(channels) if dilations is None else dilations
        if not channels or not len(channels) == len(strides) == len(dilations):
            raise ValueError(
                f"one stride and one dilation for each of one or more layers: got {len(channels)} channels, "
                f"{len(strides)} strides, {len(dilations)} dilations"
            )
        if width < 1 or width % 2 == 0:
            raise ValueError(f"width must be odd, so that a window has a middle, got {width}")
        if size < 1 or side % size:
            raise ValueError(f"patches of {size} x {size} do not fill an image of {side} x {side}")
        if residual and (size == 1 or len(set(channels)) > 1 or set(strides) != {1}):
            raise ValueError(
                f"a residual network keeps its shape: patches, equal channels and strides of 1; got {size=}, "
                f"channels {list(channels)}, strides {list(strides)}"
            )
        d_in = 1
        self.convolutions = nn.ModuleList()
        if size > 1:
            self.convolutions.append(nn.Conv2d(d_in, channels[0], size, stride=size))
            d_in, side = channels[0], side // size
        for d_out, stride, dilation in zip(channels, strides, dilations, strict=True):
            padding = dilation * (width // 2)
            self.convolutions.append(nn.Conv2d(d_in, d_out, width, stride, padding, dilation))
            d_in = d_out
        for stride in strides:
            side = -(-side // stride)
        self.residual = residual
        self.norms = nn.ModuleList(nn.LayerNorm(d_in) for _ in range(len(channels) + 1) if residual)
        self.pooling = pooling
        self.output = nn.Linear(channels[-1] * (side * side if pooling == "flat" else 1), n_labels)

    def forward(self, images: Float[Tensor, "batch side side"]) -> Float[Tensor, "batch labels"]:
        x = self._residual(images) if self.residual else self._plain(images)
        if self.pooling == "max":
            return self.output(x.amax(dim=(-2, -1)))
        return self.output(x.flatten(-3) if self.pooling == "flat" else x.mean(dim=(-2, -1)))

    def _plain(self, images: Tensor) -> Tensor:
        x = images.unsqueeze(-3)
        for convolution in self.convolutions:
            x = F.relu(convolution(x))
        return x

    def _residual(self, images: Tensor) -> Tensor:
        cut, *convolutions = self.convolutions
        *norms, last = self.norms
        x = cut(images.unsqueeze(-3))
        for norm, convolution in zip(norms, convolutions, strict=True):
            x = x + F.relu(convolution(_over_channels(norm, x)))
        return _over_channels(last, x)


def _over_channels(norm: nn.Module, x: Tensor) -> Tensor:
    normed: Tensor = norm(x.movedim(-3, -1))
    return normed.movedim(-1, -3)
