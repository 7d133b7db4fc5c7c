"""The recall task: what is asked for is there, once, and as far away as it says."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from oracles import PROPERTY

from attn.tasks.recall import Recall, commonest_value, last_fact, recall_batch


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@PROPERTY
@given(st.integers(2, 30), st.integers(1, 6), st.integers(1, 5), st.integers(0, 99), st.data())
def test_the_answer_stands_where_it_should(
    length: int, n_keys: int, n_values: int, seed: int, data: st.DataObject
) -> None:
    distances = data.draw(st.lists(st.integers(1, length - 1), min_size=1, max_size=4))
    facts = data.draw(st.lists(st.integers(1, min(n_keys, length - 1)), min_size=1, max_size=3))
    sizes = {"length": length, "n_keys": n_keys, "n_values": n_values}
    batch = recall_batch(7, distances=distances, facts=facts, generator=seeded(seed), **sizes)
    rows = torch.arange(7)
    assert batch.key.shape == batch.value.shape == (7, length)
    place = length - 1 - batch.distance
    assert set(batch.distance.tolist()) <= set(distances)
    assert (batch.key[rows, place] == batch.key[:, -1]).all()  # the fact has the key that is asked for
    assert (batch.value[rows, place] == batch.answer).all()
    assert ((batch.key[:, :-1] == batch.key[:, -1:]).sum(1) == 1).all()  # and no other place has it
    assert (batch.value[:, -1] == n_values).all()
    assert ((batch.value[:, :-1] >= 0) & (batch.value[:, :-1] < n_values)).all()
    for row in batch.key[:, :-1].tolist():
        keys = [key for key in row if key]
        assert len(keys) == len(set(keys))
        assert len(keys) in facts


def test_the_same_generator_draws_the_same_questions() -> None:
    def draw(seed: int) -> Recall:
        return recall_batch(5, distances=range(1, 9), length=12, generator=seeded(seed))

    assert all(torch.equal(a, b) for a, b in zip(draw(3), draw(3), strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(draw(3), draw(4), strict=True))


def test_distances_keys_and_values_are_all_drawn_about_equally_often() -> None:
    batch = recall_batch(4000, distances=[2, 5, 9], length=12, generator=seeded(0))
    for what in (batch.distance, batch.key[:, -1], batch.answer):
        counts = what.unique(return_counts=True)[1]
        assert counts.max() < 1.2 * counts.min()


def test_the_last_fact_by_hand() -> None:
    key = torch.tensor([[0, 2, 0, 0, 1, 0, 0, 1], [1, 0, 2, 0, 0, 0, 0, 1]])
    value = torch.tensor([[3, 0, 2, 1, 2, 3, 0, 4], [3, 1, 0, 2, 2, 2, 2, 4]])
    batch = Recall(key, value, torch.tensor([2, 3]), torch.tensor([3, 7]))
    assert last_fact(batch).tolist() == [2, 0]  # right for the first, wrong for the second


def test_the_commonest_value_by_hand() -> None:
    key = torch.tensor([[0, 2, 3, 0, 1, 0, 0, 1], [1, 0, 2, 0, 0, 0, 0, 1]])
    value = torch.tensor([[1, 0, 2, 1, 2, 1, 1, 4], [3, 1, 0, 1, 1, 1, 1, 4]])  # filler does not count
    batch = Recall(key, value, torch.tensor([2, 3]), torch.tensor([3, 7]))
    assert commonest_value(batch).tolist() == [2, 0]


def test_what_cannot_be_drawn_is_named() -> None:
    def draw(**changes: object) -> None:
        settings = {"distances": 3, "length": 8, "generator": seeded(0), **changes}
        recall_batch(2, **settings)  # type: ignore[arg-type]

    with pytest.raises(ValueError, match=r"distances are 1 to 7, got \[8\]"):
        draw(distances=8)
    with pytest.raises(ValueError, match=r"got \[0, 3\]"):
        draw(distances=[0, 3])
    with pytest.raises(ValueError, match="distances"):
        draw(distances=[])
    with pytest.raises(ValueError, match=r"number of keys \(2\)"):
        draw(facts=3)
    with pytest.raises(ValueError, match="n_values=0"):
        draw(n_values=0)
