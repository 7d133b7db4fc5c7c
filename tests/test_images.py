"""Images: patches as torch cuts them, classifiers that see what they should, in any shape."""

from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from jaxtyping import TypeCheckError
from oracles import PROPERTY, close, different, normal, shaken
from torch import nn
from torch.nn import functional as F

from attn.images import ImageCNN, ImageTransformer, patches


@PROPERTY
@given(down=st.integers(1, 4), across=st.integers(1, 4), size=st.integers(1, 3), batch=st.integers(1, 3))
def test_patches_are_torch_s_unfold(down: int, across: int, size: int, batch: int) -> None:
    images = normal(batch, down * size, across * size)
    found = patches(images, size)
    assert found.shape == (batch, down * across, size * size)
    assert torch.equal(found, F.unfold(images[:, None], size, stride=size).mT)
    assert torch.equal(patches(images[0], size), found[0])
    assert torch.equal(patches(images[None], size), found[None])


def test_a_patch_by_hand() -> None:
    image = torch.arange(24.0).view(4, 6)
    assert patches(image, 2)[1].tolist() == [2, 3, 8, 9]
    assert patches(image, 2)[3].tolist() == [12, 13, 18, 19]


@PROPERTY
@given(
    side=st.sampled_from([4, 6, 8]),
    size=st.sampled_from([1, 2]),
    layers=st.integers(1, 2),
    stride=st.integers(1, 3),
    dilation=st.integers(1, 2),
    pooling=st.sampled_from(["flat", "mean"]),
    positions=st.booleans(),
)
def test_any_shape(
    side: int, size: int, layers: int, stride: int, dilation: int, pooling: str, positions: bool
) -> None:
    images = normal(3, side, side, dtype=torch.float32)
    for model in (
        ImageTransformer(side, size, 5, n_layers=layers, positions=positions, pooling=pooling),  # type: ignore[arg-type]
        ImageCNN(
            side, [8] * layers, 5, size=size, strides=[stride] * layers, dilations=[dilation] * layers,
            pooling=pooling,  # type: ignore[arg-type]
        ),
    ):  # fmt: skip
        shaken(model, dtype=torch.float32)  # the same weights each time, and no ReLU that is closed for all
        out = model(images)
        assert out.shape == (3, 5)
        assert different(out[0], out[1])
        alone = model(images[1:2])
        close(alone, out[1:2])


def shuffled(images: torch.Tensor, order: torch.Tensor) -> torch.Tensor:
    return images.flatten(1)[:, order].view_as(images)


@pytest.mark.parametrize("pooling", ["mean", "attention"])
def test_without_positions_the_patches_are_a_set_and_with_them_not(pooling: str) -> None:
    images, order = normal(2, 4, 4), torch.randperm(16, generator=torch.Generator().manual_seed(0))
    for positions in (False, True):
        model = shaken(ImageTransformer(4, 1, 3, positions=positions, pooling=pooling))  # type: ignore[arg-type]
        assert different(model(shuffled(images, order)), model(images)) == positions


def test_the_weights_of_the_pooling_are_those_it_pools_with() -> None:
    model = shaken(ImageTransformer(6, 2, 3, pooling="attention"))
    images = normal(4, 6, 6)
    weights = model.looked_at(images)
    assert weights.shape == (4, 9)
    vectors = model.encoder(model.positions(model.embedding(patches(images, 2))))
    close(model(images), model.output((weights[..., None] * vectors).sum(1)))
    with pytest.raises(ValueError, match='only pooling "attention"'):
        ImageTransformer(6, 2, 3).looked_at(images)


def test_the_cnn_is_torch_s_layers_in_a_row() -> None:
    model = shaken(ImageCNN(9, (4, 5), 3, size=3, strides=(1, 2), dilations=(2, 1)))
    stem, first, second = model.convolutions
    x = normal(2, 9, 9)
    y = F.relu(F.conv2d(x[:, None], stem.weight, stem.bias, stride=3))  # type: ignore[arg-type]
    y = F.relu(F.conv2d(y, first.weight, first.bias, padding=2, dilation=2))  # type: ignore[arg-type]
    y = F.relu(F.conv2d(y, second.weight, second.bias, stride=2, padding=1))  # type: ignore[arg-type]
    close(model(x), model.output(y.flatten(1)))
    model = shaken(ImageCNN(9, (4,), 3, width=5, pooling="mean"))
    (layer,) = model.convolutions
    y = F.relu(F.conv2d(x[:, None], layer.weight, layer.bias, padding=2))  # type: ignore[arg-type]
    close(model(x), model.output(y.mean((2, 3))))


def test_a_residual_cnn_is_norms_convolutions_and_skips_by_hand() -> None:
    options = {"size": 3, "dilations": (2, 1), "residual": True}
    model = shaken(ImageCNN(9, (4, 4), 3, pooling="max", **options))  # type: ignore[arg-type]
    cut, first, second = model.convolutions
    x = normal(2, 9, 9)
    y = F.conv2d(x[:, None], cut.weight, cut.bias, stride=3)  # type: ignore[arg-type]

    def normed(norm: nn.Module, y: torch.Tensor) -> torch.Tensor:
        mean, variance = y.mean(1, keepdim=True), y.var(1, keepdim=True, correction=0)
        weight, bias = (p.view(1, -1, 1, 1) for p in (norm.weight, norm.bias))  # type: ignore[operator]
        found: torch.Tensor = (y - mean) / (variance + 1e-5).sqrt() * weight + bias
        return found

    y = y + F.relu(F.conv2d(normed(model.norms[0], y), first.weight, first.bias, padding=2, dilation=2))  # type: ignore[arg-type]
    y = y + F.relu(F.conv2d(normed(model.norms[1], y), second.weight, second.bias, padding=1))  # type: ignore[arg-type]
    close(model(x), model.output(normed(model.norms[2], y).flatten(2).max(2).values))


def test_a_plain_cnn_has_no_norms() -> None:
    assert not [name for name, _ in ImageCNN(9, (4, 4), 3, size=3).named_parameters() if "norm" in name]


@pytest.mark.parametrize("pooling", ["mean", "max"])
def test_pooling_over_all_places_does_not_mind_where_something_is(pooling: str) -> None:
    model = shaken(ImageCNN(12, (4, 4), 3, pooling=pooling))  # type: ignore[arg-type]
    canvas = torch.zeros(1, 12, 12, dtype=torch.float64)
    canvas[0, 3:6, 3:6] = normal(3, 3)
    close(model(canvas), model(canvas.roll((2, 1), (1, 2))))
    flat = shaken(ImageCNN(12, (4, 4), 3))
    assert different(flat(canvas), flat(canvas.roll((2, 1), (1, 2))))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: patches(torch.zeros(4, 6), 4), "4 x 4 do not fill an image of 4 x 6"),
        (lambda: patches(torch.zeros(4, 6), 0), "do not fill"),
        (lambda: ImageTransformer(8, 3, 10), "3 x 3 do not fill an image of 8 x 8"),
        (lambda: ImageTransformer(8, 2, 10, pooling="max"), "pooling"),
        (lambda: ImageCNN(8, (), 10), "one or more layers: got 0 channels"),
        (lambda: ImageCNN(8, (4, 4), 10, strides=(1,)), "got 2 channels, 1 strides"),
        (lambda: ImageCNN(8, (4,), 10, dilations=(1, 2)), "2 dilations"),
        (lambda: ImageCNN(8, (4,), 10, width=4), "odd.*got 4"),
        (lambda: ImageCNN(8, (4,), 10, size=3), "3 x 3 do not fill"),
        (lambda: ImageCNN(8, (4,), 10, pooling="attention"), "pooling"),
        (lambda: ImageCNN(8, (4,), 10, residual=True), "keeps its shape.*size=1"),
        (lambda: ImageCNN(8, (4, 5), 10, size=2, residual=True), r"keeps its shape.*\[4, 5\]"),
        (lambda: ImageCNN(8, (4,), 10, size=2, strides=(2,), residual=True), r"keeps its shape.*\[2\]"),
    ],
)
def test_errors(make: Callable[[], nn.Module], message: str) -> None:
    with pytest.raises((ValueError, TypeCheckError), match=message):  # the second where checks are on
        make()
