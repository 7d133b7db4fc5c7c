"""The generated tagging task: no label noise, real ambiguity, and words that no small window can decide."""

import random
from collections import Counter, defaultdict
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from oracles import PROPERTY

from attn.tasks import load_task, tagging
from attn.tasks.labelling import IGNORE, word_list
from attn.tasks.tagging import FAR_DISTANCE, TaggingTask, ambiguous, far, load, sentence
from attn.tasks.vocabulary import PAD, UNK


@pytest.fixture(scope="module")
def task() -> TaggingTask:
    return load()


@pytest.fixture(scope="module")
def many() -> dict[tuple[str, ...], list[str]]:
    """Many sentences with their tags, of which none was ever drawn with other tags."""
    draw, found = random.Random(7), {}
    for kind in ("$NEAR", "$FAR"):
        for _ in range(3_000):
            words, tags = sentence(draw, kind)
            assert found.setdefault(tuple(words), tags) == tags, words
            assert bool(far(words)) == (kind == "$FAR"), words
    return found


Sentences = dict[tuple[str, ...], list[str]]


def windows_of(sentences: Sentences, radius: int) -> list[tuple[tuple[str, ...], str, bool]]:
    """Of every word its window, its tag, and whether it is decided far away."""
    found = []
    for words, tags in sentences.items():
        edged = [*[""] * radius, *words, *[""] * radius]
        places = far(list(words))
        found += [(tuple(edged[i : i + 2 * radius + 1]), tag, i in places) for i, tag in enumerate(tags)]
    return found


def share_right(fitted: Sentences, judged: Sentences, radius: int, *, far_words: bool) -> float:
    """Share of right tags of the best rule on windows, fitted to some sentences and judged on others."""
    table = defaultdict(Counter)
    for window, tag, _ in windows_of(fitted, radius):
        table[window][tag] += 1
    guess = {window: tags.most_common(1)[0][0] for window, tags in table.items()}
    right = [
        guess.get(window, "NOUN") == tag
        for window, tag, is_far in windows_of(judged, radius)
        if is_far == far_words
    ]
    return sum(right) / len(right)


def test_sizes_and_sets_without_common_sentences(task: TaggingTask) -> None:
    sets = task.train, task.validation, task.test
    assert [len(part) for part in sets] == [2_000, 250, 500]
    assert len({tuple(words) for part in sets for words, _ in part}) == 2_750
    assert all(len(words) == len(tags) > 1 for part in sets for words, tags in part)
    assert 8 <= len(task.tags) <= 12


def test_the_same_form_has_several_tags(task: TaggingTask) -> None:
    words = ambiguous(task)
    assert {"saw", "duck", "can", "fish", "light", "watch", "park", "back", "to", "that", "like"} <= words
    assert not {"the", ".", "he"} & words
    assert len(words) >= 30


def test_examples(many: dict[tuple[str, ...], list[str]]) -> None:
    """The tags of a word after another word."""
    found = defaultdict(set)
    for words, tags in many.items():
        for pair, tag in zip(pairwise(words), tags[1:], strict=True):
            found[pair].add(tag)
    assert found["I", "saw"] == {"VERB"}
    assert found["a", "saw"] == {"NOUN"}
    assert found["can", "duck"] == {"VERB"}
    assert found["they", "can"] == {"AUX", "VERB"}  # "they can fish .", "they can the fish ."
    assert found["the", "light"] == {"ADJ", "NOUN"}
    assert found["is", "light"] == {"ADJ"}
    assert found["want", "to"] == {"PART"}
    assert found["walk", "to"] == {"ADP"}


def test_a_window_decides_near_words_and_only_guesses_far_ones(many: Sentences) -> None:
    assert share_right(many, many, 0, far_words=False) < 0.95
    assert share_right(many, many, 2, far_words=False) > 0.998
    assert share_right(many, many, 3, far_words=False) == 1
    # On other sentences than it was fitted to, or rare windows would be known by heart.
    halves = dict(list(many.items())[::2]), dict(list(many.items())[1::2])
    for radius in (2, 3, 5):
        assert 0.4 < share_right(*halves, radius, far_words=True) < 0.6


def test_far_words_say_nothing_within_the_distance(many: dict[tuple[str, ...], list[str]]) -> None:
    """Both tags are as likely, and the words that stand near are as frequent before the one as the other."""
    for question in (True, False):
        windows: dict[str, Counter[str]] = {"NOUN": Counter(), "VERB": Counter()}
        for words, tags in many.items():
            for i in far(list(words)):
                if (words[-1] == "?") == question:
                    windows[tags[i]].update(words[i - 4 : i])
                    assert words[-2] == words[i]
        total = {tag: sum(counts.values()) for tag, counts in windows.items()}
        assert total["NOUN"] / total["VERB"] == pytest.approx(1, abs=0.1)
        for word in windows["NOUN"] | windows["VERB"]:
            shares = [windows[tag][word] / total[tag] for tag in windows]
            assert shares[0] == pytest.approx(shares[1], abs=0.02), word


def test_what_decides_a_far_word_stands_at_the_distance_or_beyond(
    many: dict[tuple[str, ...], list[str]],
) -> None:
    for words in many:
        for i in far(list(words)):
            decisive = (
                0
                if words[-1] == "?"
                else 1 + next(j for j, word in enumerate(words) if word in ("want", "need"))
            )
            if words[-1] != "?":
                decisive += 1  # "to" or "the", and the word after it, both say it: the nearer one counts
            assert i - decisive >= FAR_DISTANCE, words


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_the_share_of_far_sentences(share: float) -> None:
    made = load(train=400, test=100, far_share=share)
    sentences = made.train + made.validation + made.test
    found = sum(bool(far(words)) for words, _ in sentences) / len(sentences)
    assert found == pytest.approx(share, abs=0.01)


def test_only_the_seed_draws() -> None:
    random.seed(1)
    one = load(train=50, test=20)
    random.seed(2)
    again = load(train=50, test=20)
    assert (again.train, again.test, again.words.to_dict()) == (one.train, one.test, one.words.to_dict())
    assert load(train=50, test=20, seed=1).train != one.train


def test_a_batch(task: TaggingTask) -> None:
    short, long = (["they", "fly", "."], ["PRON", "VERB", "PUNCT"]), task.train[0]
    batch = task.batch([short, long])
    assert batch.ids.shape == batch.mask.shape == batch.labels.shape == (2, max(3, len(long[0])))
    assert batch.ids[0, :3].tolist() == task.encode(short[0])
    assert batch.ids[0, 1] == UNK
    assert batch.mask[0].tolist() == [True] * 3 + [False] * (batch.ids.size(1) - 3)
    assert (batch.ids[~batch.mask] == PAD).all()
    assert (batch.labels[~batch.mask] == IGNORE).all()
    assert (batch.labels[batch.mask] >= 0).all()
    assert task.label_of(batch.labels[0, :3].tolist()) == short[1]
    assert torch.equal(batch.to("cpu").ids, batch.ids)


def test_rows_of_a_batch_are_the_batch_of_rows(task: TaggingTask) -> None:
    rows = [3, 0, 17]
    some = task.batch(task.train[:20]).rows(torch.tensor(rows))
    same = task.batch([task.train[i] for i in rows])
    for name in ("ids", "mask", "labels"):
        assert torch.equal(getattr(some, name), getattr(same, name))


@PROPERTY
@given(
    st.lists(st.lists(st.sampled_from(["saw", "duck", "x-ray", "a,b", "New York"]), max_size=6), min_size=1)
)
def test_every_word_has_one_id_and_no_word_is_cut(sentences: list[list[str]]) -> None:
    made = TaggingTask(name="t", words=word_list(sentences), tags=["X"])
    batch = made.batch([(words, ["X"] * len(words)) for words in sentences])
    assert batch.mask.sum(dim=1).tolist() == [len(words) for words in sentences]
    for row, mask, words in zip(batch.ids, batch.mask, sentences, strict=True):
        assert made.words.names(row[mask]) == words


def test_errors(task: TaggingTask) -> None:
    with pytest.raises(ValueError, match="at least one sentence"):
        task.batch([])
    with pytest.raises(ValueError, match="no tag is called 'XX'; the tags are: ADJ, "):
        task.batch([(["a"], ["XX"])])
    with pytest.raises(ValueError, match="2 words and 1 labels"):
        task.batch([(["a", "b"], ["DET"])])
    with pytest.raises(ValueError, match="list of words"):
        task.inputs(["they can fish ."])
    for wrong in ({"train": 0}, {"test": 1}, {"train": 10**6}):
        with pytest.raises(ValueError, match="train must be 1 to 10,000 and test 2 to 10,000"):
            load(**wrong)
    with pytest.raises(ValueError, match="far_share is a share"):
        load(far_share=1.5)
    with pytest.raises(ValueError, match="min_count must be at least 1"):
        word_list([["a"]], min_count=0)


def test_the_largest_sets_can_be_had() -> None:
    assert len(load(train=10_000, test=2).train) == 10_000


def test_by_name_and_in_words() -> None:
    text = load_task("tagging", train=30, test=10).describe()
    assert "tagging (seed=0, train=30, test=10, far_share=0.3)" in text
    assert "train 30, validation 5, test 10" in text
    assert tagging.far([]) == []
