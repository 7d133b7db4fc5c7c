"""Sentiment: one label per sentence, 0 (negative) or 1 (positive), for short reviews of a small grammar.

The label follows from rules (`judge`), and single words do not give it away:

    the script is not dull .                                   a negation turns the words in its scope
    nobody would call this quiet little film dull .            also from afar
    we did not see it in paris , but the film is dull .        but not those of another clause
    the plot is slow , but the film is not bad .               after "but" comes what counts
    although the film is charming , it is hardly funny .       and what "although" introduces does not count
"""

import random
from dataclasses import dataclass

from attn.tasks.labelling import LabelledBatch as LabelledBatch
from attn.tasks.labelling import LabellingTask, word_list

Review = tuple[list[str], int]

LABELS = ("negative", "positive")


@dataclass
class SentimentTask(LabellingTask[int]):
    """Sentences with one label each: 0 is negative, 1 is positive."""

    @property
    def n_labels(self) -> int:
        """Two: negative and positive."""
        return len(LABELS)

    def label_ids(self, label: int) -> int:
        """The label itself. ValueError unless it is 0 or 1."""
        if label not in (0, 1):
            raise ValueError(f"a label is 0 (negative) or 1 (positive); given {label!r}")
        return label

    def label_of(self, ids: int | list[int]) -> int:
        """The label itself."""
        return ids if isinstance(ids, int) else ids[0]


POSITIVE = ("good", "great", "funny", "charming", "clever", "moving")
NEGATIVE = ("bad", "terrible", "dull", "slow", "boring", "silly")
# Each turns the word of sentiment in its clause.
NEGATIONS = ("not", "never", "hardly", "nobody")

_THING = ("film", "story", "plot", "song", "script")
_PLAIN = ("quiet", "little", "new", "french")
_HOW = ("", "", "very")
# In each, W is the place of the word of sentiment, T that of a noun, P of a plain adjective, H of an adverb.
_SAID = ("the T is H W", "the T was H W", "it is a W T", "everybody would call this P T W")
_DENIED = ("the T is not H W", "the T was never W", "it is hardly a W T", "nobody would call this P T W")
_FORMS = (*["one"] * 6, *["and"] * 2, "but", "but", "although first", "although last")
_DENIED_SHARE = 0.3
# Neither good nor bad: here "not" and "nobody" have something else in their scope.
_ASIDE = ("we saw it in paris", "we did not see it in paris", "the T is P", "nobody asked for a P T")


def judge(words: list[str]) -> int:
    """The label of a generated review, by rule: 1 for positive, 0 for negative.

    A clause with a word of sentiment has its sign, turned by a negation in the same clause. Where signs
    differ, the clause after "but" counts, and the one after "although" does not. Raises ValueError for a
    sentence that the rules give no label.
    """
    clauses: list[list[str]] = [[]]
    for word in words:
        if word in (",", "."):
            clauses.append([])
        clauses[-1].append(word)
    signs = {}  # the last one of each kind stays
    for clause in clauses:
        for word in clause:
            if word in POSITIVE or word in NEGATIVE:
                turned = any(negation in clause for negation in NEGATIONS)
                signs["although" if "although" in clause else "said"] = (word in POSITIVE) != turned
    if "said" not in signs:
        raise ValueError(f"there is no word of sentiment outside an although-clause in {' '.join(words)!r}")
    return int(signs["said"])


def load(*, seed: int = 0, train: int = 2_000, test: int = 500) -> SentimentTask:
    """Different sentences for training and test, and half as many as for the test for validation.

    Each set has as many positive as negative sentences (one more at most). `seed` draws them all. Raises
    ValueError for counts that are too large or too small.
    """
    if not 1 <= train <= 10_000 or not 2 <= test <= 10_000:
        raise ValueError(f"train must be 1 to 10,000 and test 2 to 10,000; given {train:,} and {test:,}")
    draw = random.Random(seed)
    seen: dict[tuple[str, ...], int] = {}
    n = train + test + test // 2
    while len(seen) < n:
        label = len(seen) % 2
        seen.setdefault(tuple(review(draw, label)), label)
    made = [(list(words), label) for words, label in seen.items()]
    sets = made[:test], made[test : test + test // 2], made[test + test // 2 :]
    for part in sets:
        draw.shuffle(part)
    return SentimentTask(
        name="sentiment",
        words=word_list(words for words, _ in sets[2]),
        train=sets[2],
        validation=sets[1],
        test=sets[0],
        options={"seed": seed, "train": train, "test": test},
    )


def review(draw: random.Random, label: int) -> list[str]:
    """The words of one review with this label: one opinion or two, with an aside now and then."""
    form = draw.choice(_FORMS)
    other = _clause(draw, label if form == "and" else 1 - label)
    counts = _clause(draw, label)
    if form == "one":
        text = counts
        if draw.random() < 0.5:
            aside = _fill(draw, draw.choice(_ASIDE))
            text = draw.choice([f"{aside} , but {text}", f"{aside} . {text}", f"{text} . {aside}"])
    else:
        text = {
            "and": f"{other} , and {counts}",
            "but": f"{other} , but {counts}",
            "although first": f"although {other} , {counts}",
            "although last": f"{counts} , although {other}",
        }[form]
    return [*text.split(), "."]


def _clause(draw: random.Random, label: int) -> str:
    denied = draw.random() < _DENIED_SHARE
    words = POSITIVE if bool(label) != denied else NEGATIVE
    return _fill(draw, draw.choice(_DENIED if denied else _SAID)).replace("W", draw.choice(words))


def _fill(draw: random.Random, form: str) -> str:
    places = {"T": _THING, "P": _PLAIN, "H": _HOW}
    return " ".join(draw.choice(places[part]) if part in places else part for part in form.split())
