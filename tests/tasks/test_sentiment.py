"""The generated reviews: the label follows from rules, and from no count of words."""

import pytest
import torch
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression

from attn.tasks import load_task, restore_task
from attn.tasks.sentiment import NEGATIONS, SentimentTask, judge, load


@pytest.fixture(scope="module")
def task() -> SentimentTask:
    return load()


def test_sizes_balance_and_sets_without_common_sentences(task: SentimentTask) -> None:
    sets = task.train, task.validation, task.test
    assert [len(part) for part in sets] == [2_000, 250, 500]
    assert len({tuple(words) for part in sets for words, _ in part}) == 2_750
    for part in sets:
        assert sum(label for _, label in part) == len(part) // 2


def test_the_rules_give_every_label(task: SentimentTask) -> None:
    for words, label in task.train + task.validation + task.test:
        assert judge(words) == label, words


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("the script is not dull .", 1),
        ("the script is very dull .", 0),
        ("nobody would call this quiet film dull .", 1),
        ("everybody would call this quiet film dull .", 0),
        ("we did not see it in paris , but the film is dull .", 0),
        ("nobody asked for a new film . the film is moving .", 1),
        ("the plot is slow , but the film is not bad .", 1),
        ("although the film is charming , it is hardly a funny film .", 0),
        ("it is hardly a funny film , although the film is charming .", 0),
        ("the film is charming , although it is hardly a funny film .", 1),
    ],
)
def test_the_rules_by_example(text: str, label: int) -> None:
    assert judge(text.split()) == label


def test_the_rules_say_where_they_end() -> None:
    for text in ("we saw it in paris .", "although the film is good .", ""):
        with pytest.raises(ValueError, match="no word of sentiment"):
            judge(text.split())


@pytest.mark.parametrize("seed", [0, 1])
def test_no_count_of_words_gives_the_label(seed: int) -> None:
    task = load(seed=seed)
    for longest, at_most in ((1, 0.75), (2, 0.85)):
        counts = CountVectorizer(token_pattern=r"\S+", ngram_range=(1, longest))
        x = counts.fit_transform(" ".join(words) for words, _ in task.train)
        model = LogisticRegression(max_iter=1_000).fit(x, [label for _, label in task.train])
        x = counts.transform(" ".join(words) for words, _ in task.test)
        assert model.score(x, [label for _, label in task.test]) < at_most


def test_each_phenomenon_is_there(task: SentimentTask) -> None:
    for word in ("but", "although", *NEGATIONS):
        found = [label for words, label in task.train if word in words]
        assert len(found) >= 100
        assert 0.25 < sum(found) / len(found) < 0.75, word


def test_only_the_seed_draws() -> None:
    assert load(train=50, test=20).train == load(train=50, test=20).train
    assert load(train=50, test=20, seed=1).train != load(train=50, test=20).train


def test_a_batch(task: SentimentTask) -> None:
    batch = task.batch(task.train[:7])
    assert batch.labels.tolist() == [label for _, label in task.train[:7]]
    assert batch.mask.sum(dim=1).tolist() == [len(words) for words, _ in task.train[:7]]
    some = batch.rows(torch.tensor([2, 1]))
    assert torch.equal(some.labels, batch.labels[[2, 1]])
    with pytest.raises(ValueError, match=r"0 \(negative\) or 1 \(positive\); given 2"):
        task.batch([(["good"], 2)])


def test_by_name_and_errors() -> None:
    assert "sentiment (seed=0, train=30, test=10)" in load_task("sentiment", train=30, test=10).describe()
    with pytest.raises(ValueError, match=r"takes the options: seed, train, test; given: words"):
        load_task("sentiment", words=3)
    with pytest.raises(ValueError, match="train must be 1 to 10,000"):
        load(train=0)
    with pytest.raises(ValueError, match="the tasks are: numbers, multi30k, tagging, atis"):
        load_task("sentimant")
    with pytest.raises(ValueError, match=r"no task is called 'sentiment'; the tasks are: numbers, multi30k$"):
        restore_task({"task": "sentiment"})
