"""Batches: every pair once, similar lengths together, repeatable; tasks through JSON."""

import json
from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from attn.tasks import TASKS, load_task, restore_task
from attn.tasks.numbers import NumbersTask
from attn.tasks.translation import Batch, Pair, batches
from attn.tasks.vocabulary import BOS, EOS, PAD, Vocabulary


def _task(pairs: list[Pair]) -> NumbersTask:
    source = Vocabulary.build("characters", (source for source, _ in pairs))
    target = Vocabulary.build("characters", (target for _, target in pairs))
    return NumbersTask(source=source, target=target, train=pairs)


def _texts(task: NumbersTask, batch: Batch) -> list[Pair]:
    rows = zip(batch.source.tolist(), batch.target.tolist(), strict=True)
    return [(task.source.decode(source), task.target.decode(target)) for source, target in rows]


def _padding(made: list[Batch]) -> float:
    sides = [side for batch in made for side in (batch.source, batch.target)]
    return sum(int((side == PAD).sum()) for side in sides) / sum(side.numel() for side in sides)


WORDS = st.text("abc", max_size=7)


@settings(deadline=None)
@given(
    pairs=st.lists(st.tuples(WORDS, WORDS), max_size=30),
    size=st.integers(1, 9),
    seed=st.none() | st.integers(0, 5),
    by_length=st.booleans(),
)
def test_every_pair_comes_once_whole_and_framed(
    pairs: list[Pair], size: int, seed: int | None, by_length: bool
) -> None:
    task = _task(pairs)
    generator = None if seed is None else torch.Generator().manual_seed(seed)
    made = batches(task, pairs, size, generator=generator, by_length=by_length)
    assert Counter(text for batch in made for text in _texts(task, batch)) == Counter(pairs)
    assert sorted(len(batch.source) for batch in made)[1:] == [size] * (len(made) - 1)
    for batch in made:
        assert batch.source.dtype == batch.target.dtype == torch.int64
        assert batch.source.shape[1] >= 1
        assert (batch.target[:, 0] == BOS).all()
        assert ((batch.target == EOS).sum(1) == 1).all()
        assert not ((batch.source == BOS) | (batch.source == EOS)).any()
        for row in [*batch.source.tolist(), *batch.target.tolist()]:  # padding only at the end
            assert row == [i for i in row if i != PAD] + [PAD] * row.count(PAD)
        for side, least in ((batch.source, 1), (batch.target, 2)):  # and never in every row
            assert side.shape[1] == max(least, int((side != PAD).sum(1).max()))


def test_in_order_without_generator_and_length() -> None:
    pairs = [("a" * (7 * i % 5), "b" * i) for i in range(10)]
    task = _task(pairs)
    made = batches(task, pairs, 4, by_length=False)
    assert [text for batch in made for text in _texts(task, batch)] == pairs
    by_length = batches(task, pairs, 4)
    assert [batch.target.shape[1] for batch in by_length] == [5, 9, 11]


def test_targets_are_shifted_by_one() -> None:
    task = _task([("ab", "xyz"), ("a", "x")])
    (batch,) = batches(task, task.train, 2, by_length=False)
    x, y, z = task.target.encode("xyz")
    assert batch.target_in.tolist() == [[BOS, x, y, z], [BOS, x, EOS, PAD]]
    assert batch.target_out.tolist() == [[x, y, z, EOS], [x, EOS, PAD, PAD]]
    assert batch.n_tokens == 6
    assert batch.to("cpu").target.tolist() == batch.target.tolist()


def test_shuffling_repeats_with_the_seed_and_changes_with_it() -> None:
    task = load_task("numbers", limit=500)

    def first_rows(seed: int, by_length: bool) -> list[list[int]]:
        generator = torch.Generator().manual_seed(seed)
        made = batches(task, task.train, 32, generator=generator, by_length=by_length)
        return [batch.target[0].tolist() for batch in made]

    for by_length in (True, False):
        assert first_rows(1, by_length) == first_rows(1, by_length)
        assert first_rows(1, by_length) != first_rows(2, by_length)


def test_two_epochs_of_one_generator_differ_in_order_and_in_company() -> None:
    task = load_task("numbers")
    generator = torch.Generator().manual_seed(0)
    epochs = [batches(task, task.train, 64, generator=generator) for _ in range(2)]
    order = [[batch.target.shape[1] for batch in epoch] for epoch in epochs]
    assert order[0] != order[1]
    company = [{frozenset(map(tuple, batch.target.tolist())) for batch in epoch} for epoch in epochs]
    assert len(company[0] & company[1]) <= 2


def test_similar_lengths_together_leave_little_padding() -> None:
    task = load_task("numbers")
    generator = torch.Generator().manual_seed(0)
    together = _padding(batches(task, task.train, 64, generator=generator))
    anyhow = _padding(batches(task, task.train, 64, generator=generator, by_length=False))
    assert together < 0.01 < 0.15 < anyhow


@pytest.mark.parametrize("size", [0, -3])
def test_batches_of_nothing(size: int) -> None:
    with pytest.raises(ValueError, match=f"batch_size must be at least 1; given {size}"):
        batches(_task([]), [], size)


def test_no_pairs_no_batches_and_an_empty_sentence_is_one_pad() -> None:
    task = _task([("", "")])
    assert batches(task, [], 4) == []
    (batch,) = batches(task, [("", "")], 4)
    assert batch.source.tolist() == [[PAD]]
    assert batch.target.tolist() == [[BOS, EOS]]


def test_a_task_comes_back_from_json_without_data(monkeypatch: pytest.MonkeyPatch) -> None:
    task = load_task("numbers", language="fr", limit=300, source_tokens="characters", target_tokens="words")
    state = json.loads(json.dumps(task.to_dict()))
    monkeypatch.setattr("attn.tasks.numbers.load", None)  # restoring must not load
    again = restore_task(state)
    assert isinstance(again, NumbersTask)
    assert again.to_dict() == task.to_dict()
    assert again.encode(task.test[0]) == task.encode(task.test[0])
    assert again.prepare("42") == "forty two"
    assert [again.train, again.validation, again.test, again.extra] == [[], [], [], {}]
    assert "train 0" in again.describe()


def test_describe_says_what_there_is() -> None:
    text = load_task("numbers", limit=300).describe()
    for part in (
        "language=de",
        "train 255",
        "validation 15",
        "test 30",
        "longer 500",
        "words",
        "characters",
        "->",
    ):
        assert part in text


def test_unknown_tasks_options_and_states() -> None:
    assert set(TASKS) == {"numbers", "multi30k"}
    with pytest.raises(ValueError, match="no task is called 'nubmers'; the tasks are: numbers, multi30k"):
        load_task("nubmers")
    with pytest.raises(
        ValueError, match=r"the task numbers takes the options: language, limit, .*given: lang"
    ):
        load_task("numbers", lang="de")
    with pytest.raises(ValueError, match="the entry 'task' is missing"):
        restore_task({})
    with pytest.raises(ValueError, match="no task is called 'chess'"):
        restore_task({"task": "chess"})
    with pytest.raises(ValueError, match="the entry 'source' is missing"):
        restore_task({"task": "numbers"})
