"""Digits: all images, in two sets that share none, the same on every machine."""

import pytest
import torch

from attn.tasks.digits import glyphs, load, pairs, scenes, shifted, subset


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


def test_smaller_training_sets_are_part_of_larger_ones() -> None:
    large = subset(1_000, 200, seed=3)
    assert torch.equal(subset(1_000, 50, seed=3), large[:50])
    assert len(large.unique()) == 200
    assert large.max() < 1_000
    assert not torch.equal(large, subset(1_000, 200, seed=4))
    for size in (0, 1_001):
        with pytest.raises(ValueError, match="1 to 1,000"):
            subset(1_000, size, seed=0)


def test_shifted_moves_an_image_by_every_step_and_lets_zeros_in() -> None:
    image = torch.zeros(5, 6)
    image[2, 3] = 1.0
    image[0, 0] = 2.0
    moved = shifted(image.expand(300, -1, -1), most=1, generator=torch.Generator().manual_seed(0))
    places = {tuple((one == 1).nonzero()[0].tolist()) for one in moved}
    assert places == {(row, column) for row in (1, 2, 3) for column in (2, 3, 4)}
    assert (moved.sum((1, 2)) == 3).float().mean() == pytest.approx(
        4 / 9, abs=0.1
    )  # the corner stays or leaves
    whole = shifted(image[None], most=0, generator=torch.Generator())
    assert torch.equal(whole, image[None])
    with pytest.raises(ValueError, match="number of pixels"):
        shifted(image[None], most=-1, generator=torch.Generator())


def test_glyphs_are_all_there_and_none_twice() -> None:
    found = glyphs(3)
    assert found.shape == (512, 3, 3)
    assert set(found.unique().tolist()) == {-1.0, 1.0}
    assert len(found.flatten(1).unique(dim=0)) == 512
    assert torch.equal(found, glyphs(3))
    assert not torch.equal(found, glyphs(3, seed=1))
    for side in (0, 5):
        with pytest.raises(ValueError, match="1 to 4"):
            glyphs(side)


def test_pairs_say_the_truth_and_stand_where_they_say() -> None:
    known = glyphs(2)
    canvases, same, cells = pairs(known, 400, cells=3, generator=torch.Generator().manual_seed(0))
    assert canvases.shape == (400, 6, 6)
    assert 0.4 < same.float().mean() < 0.6
    assert (cells[:, 0] != cells[:, 1]).all()
    assert set(cells.flatten().tolist()) == set(range(9))
    for canvas, label, places in zip(canvases, same.tolist(), cells.tolist(), strict=True):
        cut = [canvas[2 * (c // 3) : 2 * (c // 3) + 2, 2 * (c % 3) : 2 * (c % 3) + 2] for c in places]
        assert torch.equal(cut[0], cut[1]) == bool(label)
        assert canvas.abs().sum() == 8  # two glyphs of four pixels, grey elsewhere


def test_a_pair_is_of_the_glyphs_given_and_no_single_cell_tells_the_answer() -> None:
    some = glyphs(3)[:5]
    canvases, same, cells = pairs(some, 2_000, cells=2, generator=torch.Generator().manual_seed(1))
    tiles = (
        canvases.unflatten(1, (2, 3)).unflatten(3, (2, 3)).transpose(2, 3).flatten(1, 2)
    )  # (batch, 4, 3, 3)
    first = tiles[torch.arange(2_000), cells[:, 0]]
    which = (first[:, None] == some).flatten(2).all(-1).int().argmax(1)
    for glyph in range(5):
        assert same[which == glyph].float().mean() == pytest.approx(0.5, abs=0.12)
    for few in (
        lambda: pairs(some[:1], 3, generator=torch.Generator()),
        lambda: pairs(some, 3, cells=1, generator=torch.Generator()),
    ):
        with pytest.raises(ValueError, match="two glyphs"):
            few()
