"""Sentence polarity: single sentences of film reviews, 0 (negative) or 1 (positive) (Pang and Lee 2005).

10,662 snippets, half of each. There is no official split: a seed draws one here. Some sentences stand in the
files more than once; all copies are in the same set, so that nothing of the test was seen in training.
"""

import random

from attn.tasks.download import fetch
from attn.tasks.labelling import word_list
from attn.tasks.sentiment import Review, SentimentTask
from attn.tasks.sources import SOURCES


def load(*, seed: int = 0, min_count: int = 2) -> SentimentTask:
    """A tenth of the sentences to test, a tenth to validate, the others to train on; `seed` draws the split.

    The vocabulary has the words that stand at least `min_count` times in training sentences; the others
    become UNK. Raises ValueError for a count below 1, `DataUnavailable` when the files are not here and
    cannot be downloaded.
    """
    source = SOURCES["rt-polarity"]
    reviews: list[Review] = []
    for file, label in zip(source.files, (1, 0), strict=True):
        reviews += [(words, label) for words in _read(fetch(file, source.folder).read_bytes())]
    train, validation, test = split(reviews, seed)
    return SentimentTask(
        name="reviews",
        words=word_list((words for words, _ in train), min_count=min_count),
        train=train,
        validation=validation,
        test=test,
        options={"seed": seed, "min_count": min_count},
    )


def _read(content: bytes) -> list[list[str]]:
    """Lines of words, which are separated by spaces.

    The original files are Latin-1; these copies were written anew as UTF-8, and would read "clichÃ©s" for
    "clichés" as Latin-1. Only a line feed ends a line: `str.splitlines` knows other ends too.
    """
    lines = content.decode("utf-8").split("\n")
    return [words for line in lines if (words := line.split())]


def split(reviews: list[Review], seed: int) -> tuple[list[Review], list[Review], list[Review]]:
    """Training, validation and test: 80, 10 and 10 of 100 sentences, copies of one sentence counted once.

    Of copies with the same label one is kept; a sentence that has both labels is dropped: nobody could know.
    """
    labels: dict[tuple[str, ...], set[int]] = {}
    for words, label in reviews:
        labels.setdefault(tuple(words), set()).add(label)
    unique = [(list(words), min(found)) for words, found in labels.items() if len(found) == 1]
    random.Random(seed).shuffle(unique)
    tenth = len(unique) // 10
    return unique[2 * tenth :], unique[tenth : 2 * tenth], unique[:tenth]
