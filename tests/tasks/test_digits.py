"""Digits: all images, in two sets that share none, the same on every machine."""

import pytest
import torch

from attn.tasks.digits import load


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
