"""Number words, from English to another language: "forty two" -> "zweiundvierzig".

Generated with num2words, so there is nothing to download and the exact answer is known for every number.
German is the interesting target: it says the ones before the tens (zwei-und-vierzig).
"""

import random
import re
import unicodedata
from dataclasses import dataclass
from functools import cache

from num2words import CONVERTER_CLASSES, num2words

from attn.tasks.translation import Pair, TranslationTask, check_counts
from attn.tasks.vocabulary import UNK, Vocabulary

_SMALL = {"zero": 0, "one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8}
_SMALL |= {"nine": 9, "ten": 10, "eleven": 11, "twelve": 12, "thirteen": 13, "fourteen": 14, "fifteen": 15}
_SMALL |= {"sixteen": 16, "seventeen": 17, "eighteen": 18, "nineteen": 19, "twenty": 20, "thirty": 30}
_SMALL |= {"forty": 40, "fifty": 50, "sixty": 60, "seventy": 70, "eighty": 80, "ninety": 90}
_SCALES = {"thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
_LARGE = {"hundred", *_SCALES}
_TOO_LARGE = 10**15  # where the English words above end
_NUMERAL = re.compile(r"[0-9]{1,3}(?:[, ][0-9]{3})+|[0-9]+")


@dataclass
class NumbersTask(TranslationTask):
    """English number words to another language."""

    name = "numbers"

    def prepare(self, text: str) -> str:
        """What somebody typed ("Seven hundred and forty-two", "742") as "seven hundred and forty two".

        ValueError if it is no number, or if it needs a word that no training number has.
        """
        sentence = english(read(text))
        if UNK in self.source.encode(sentence):
            limit = self.options["limit"]
            raise ValueError(
                f"{text!r} needs a word that no number below {limit:,} has, so none was trained on"
            )
        return sentence

    def evaluate(self, hypotheses: list[str], pairs: list[Pair]) -> dict[str, float]:
        """{"exact_match": percentage of translations that are right to the last character}."""
        check_counts(hypotheses, pairs)
        right = sum(hypothesis == target for hypothesis, (_, target) in zip(hypotheses, pairs, strict=True))
        return {"exact_match": 100 * right / len(pairs)}


def load(
    language: str = "de",
    *,
    limit: int = 10_000,
    source_tokens: str = "words",
    target_tokens: str = "characters",
    train: int = 8_500,
    seed: int = 0,
) -> NumbersTask:
    """English number words to `language`: disjoint training, validation and test numbers below `limit`.

    language: any that num2words knows. source_tokens, target_tokens: "characters", "words", or "parts"
    (German only). train: at most so many training numbers. A tenth of the numbers (at most 1,000) are the
    test, half as many the validation. `extra["longer"]`: 500 numbers with one digit more than any below
    `limit`. `seed` draws them all. Raises ValueError for a language, kind of token or limit that cannot be.
    """
    answer(0, language)
    if not 20 <= limit <= _TOO_LARGE // 10:
        raise ValueError(f"limit must be 20 to {_TOO_LARGE // 10:,}; given {limit:,}")
    if train < 1:
        raise ValueError(f"train must be at least 1; given {train}")
    if source_tokens == "parts" or (target_tokens == "parts" and language != "de"):
        raise ValueError(
            'tokens "parts" are those of German number words: for target_tokens, with language "de"'
        )

    draw = random.Random(seed)
    n_test = min(1_000, limit // 10)
    n_validation = n_test // 2
    n = min(limit, train + n_validation + n_test)
    longer = 10 ** len(str(limit - 1))
    drawn = draw.sample(range(limit), n), draw.sample(range(longer, 10 * longer), 500)
    texts: set[str] = set()
    near, far = ([pair for i in numbers if (pair := _pair(i, language, texts))] for numbers in drawn)
    rest = near[n_test + n_validation :]
    return NumbersTask(
        source=Vocabulary.build(source_tokens, (source for source, _ in rest)),
        target=Vocabulary.build(target_tokens, (target for _, target in rest)),
        train=rest,
        validation=near[n_test : n_test + n_validation],
        test=near[:n_test],
        extra={"longer": far},
        options={
            "language": language,
            "limit": limit,
            "source_tokens": source_tokens,
            "target_tokens": target_tokens,
            "train": train,
            "seed": seed,
        },
    )


def _pair(number: int, language: str, texts: set[str]) -> Pair | None:
    """The sentence pair of `number`, unless another number reads the same, which would leak between sets."""
    target = answer(number, language)
    if target in texts:
        return None
    texts.add(target)
    return english(number), target


@cache
def answer(number: int, language: str = "de") -> str:
    """`number` in words of `language`: the exact translation. ValueError if num2words cannot write it."""
    if language not in CONVERTER_CLASSES:
        known = ", ".join(CONVERTER_CLASSES)
        raise ValueError(f"num2words knows no language {language!r}; it knows: {known}")
    try:
        words = num2words(number, lang=language)
    except (TypeError, NotImplementedError, OverflowError, LookupError):
        raise ValueError(f"num2words cannot write {number} in {language!r}") from None
    return " ".join(unicodedata.normalize("NFC", words).split())


def english(number: int) -> str:
    """The source sentence: English words without hyphens and commas, "one thousand and forty two"."""
    return answer(number, "en").replace("-", " ").replace(",", "")


def read(text: str) -> int:
    """The number that somebody typed, as a numeral or in English words (hyphens, commas, "and" at will).

    Raises ValueError, with an example, for anything else.
    """
    text = text.strip()
    digits = re.sub("[, ]", "", text)
    if not _NUMERAL.fullmatch(text):
        number = _read_words(text)
    else:
        number = int(digits) if len(digits) < 20 else _TOO_LARGE
    if number >= _TOO_LARGE:
        raise ValueError(f"{text!r} is too large: numbers go up to {_TOO_LARGE - 1:,}")
    return number


def _read_words(text: str) -> int:
    words = re.sub("[-,]", " ", text.lower()).split()
    if words[:1] == ["a"] and words[1:2] and words[1] in _LARGE:
        words[0] = "one"
    elif words and words[0] in _LARGE:
        words.insert(0, "one")
    total = group = 0  # what "thousand", "million", ... have closed; the number before the next of them
    scale_below, small_below = _TOO_LARGE, 1000  # how large the next word may be
    for place, word in enumerate(words):
        if word == "and" and 0 < place < len(words) - 1:
            continue
        if word in _SCALES and group and _SCALES[word] < scale_below:
            total += group * _SCALES[word]
            group, scale_below, small_below = 0, _SCALES[word], 1000
        elif word == "hundred" and 0 < group < 100:
            group, small_below = 100 * group, 100
        elif word in _SMALL and _SMALL[word] < small_below and (_SMALL[word] or len(words) == 1):
            group += _SMALL[word]
            small_below = 10 if _SMALL[word] >= 20 else 1
        else:
            break
    else:
        if words:
            return total + group
    raise ValueError(f'{text!r} is no number: write "seven hundred and forty-two", or 742')
