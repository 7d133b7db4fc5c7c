"""Digits: all images, in two sets that share none, the same on every machine."""

import pytest
import torch

from attn.tasks.digits import load, scenes


def test_shapes_range_and_labels() -> None:
    digits = load()
    assert digits.train_images.shape == (1_297, 8, 8)
    assert digits.test_images.shape == (500, 8, 8)
    for images, labels in (
        (digits.train_images, digits.train_labels),
        (digits.test_images, digits.test_labels),
    ):
        assert images.dtype == torch.float32
        assert (images.min(), images.max()) == (0, 1)
        assert len(labels) == len(images)
        assert set(labels.tolist()) == set(range(10))


def test_the_sets_share_no_image_and_lose_none() -> None:
    digits = load(test=300)
    images = torch.cat([digits.train_images, digits.test_images]).flatten(1)
    assert len(images) == 1_797
    assert len(images.unique(dim=0)) == len(images)


def test_a_seed_repeats_itself_and_another_one_differs() -> None:
    assert torch.equal(load(seed=3).test_images, load(seed=3).test_images)
    assert not torch.equal(load(seed=3).test_images, load(seed=4).test_images)
    assert load().test_labels[:8].tolist() == [6, 5, 5, 7, 9, 9, 8, 4]  # the same on every machine


def test_a_mean_image_looks_like_its_digit() -> None:
    digits = load()
    means = torch.stack([digits.train_images[digits.train_labels == digit].mean(0) for digit in range(10)])
    nearest = torch.cdist(digits.test_images.flatten(1), means.flatten(1)).argmin(1)
    assert (nearest == digits.test_labels).float().mean() > 0.85


@pytest.mark.parametrize("test", [0, 1_797, -1])
def test_a_set_without_images(test: int) -> None:
    with pytest.raises(ValueError, match=r"test must be 1 to 1,796; given"):
        load(test=test)


def test_a_scene_holds_its_digit_where_it_says() -> None:
    digits = load()
    made = scenes(
        digits.test_images, digits.test_labels, 50, side=17, generator=torch.Generator().manual_seed(0)
    )
    assert made.canvases.shape == (50, 17, 17)
    assert made.corners.min() == 0
    assert made.corners.max() == 17 - 8
    known = {
        image.numpy().tobytes(): label
        for image, label in zip(digits.test_images, digits.test_labels, strict=True)
    }
    for canvas, label, (row, column) in zip(made.canvases, made.labels, made.corners.tolist(), strict=True):
        digit = canvas[row : row + 8, column : column + 8]
        assert known[digit.contiguous().numpy().tobytes()] == label
        assert canvas.sum() == pytest.approx(digit.sum())  # nothing else is there


def test_scraps_add_ink_and_hide_none() -> None:
    digits = load()
    plain, cluttered = (
        scenes(
            digits.train_images, digits.train_labels, 40, scraps=n, generator=torch.Generator().manual_seed(1)
        )
        for n in (0, 6)
    )
    assert cluttered.canvases.sum() > 1.5 * plain.canvases.sum()
    assert cluttered.canvases.max() <= 1
    for canvas, (row, column) in zip(cluttered.canvases, cluttered.corners.tolist(), strict=True):
        digit = canvas[row : row + 8, column : column + 8]
        assert (digits.train_images <= digit + 1e-6).all(dim=(1, 2)).any()  # some whole digit is in there


def test_scenes_repeat_with_their_generator() -> None:
    digits = load()
    one, same, other = (
        scenes(
            digits.train_images, digits.train_labels, 5, scraps=2, generator=torch.Generator().manual_seed(s)
        )
        for s in (0, 0, 1)
    )
    assert torch.equal(one.canvases, same.canvases)
    assert not torch.equal(one.canvases, other.canvases)


@pytest.mark.parametrize("sizes", [{"side": 7}, {"scrap": 9}, {"scrap": 0}])
def test_what_does_not_fit(sizes: dict[str, int]) -> None:
    digits = load()
    with pytest.raises(ValueError, match="side must be at least 8 and scrap 1 to 8; given"):
        scenes(digits.train_images, digits.train_labels, 5, generator=torch.Generator(), **sizes)
