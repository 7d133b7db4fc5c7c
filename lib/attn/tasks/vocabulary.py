"""Vocabularies: text to ids and back, by characters, by words, or by the parts of German number words.

Every vocabulary of the course, the subword one in `attn.tasks.subwords` too, has the interface
`VocabularyLike` and the same four special ids, so that a model and a checkpoint need not know which one they
were given.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol, TypeAlias, runtime_checkable

from jaxtyping import Int
from torch import Tensor

PAD, BOS, EOS, UNK = range(4)
SPECIALS = ("<pad>", "<bos>", "<eos>", "<unk>")
UNKNOWN_TEXT = "\N{REPLACEMENT CHARACTER}"  # how an unknown token reads in decoded text

Ids: TypeAlias = Iterable[int] | Int[Tensor, "length"]


@runtime_checkable
class VocabularyLike(Protocol):
    """What a task, a training loop and a plot ask of a vocabulary."""

    def __len__(self) -> int:
        """Number of ids, the four special ones counted."""

    def words(self, text: str) -> list[str]:
        """The tokens of `text`, as strings."""

    def encode(self, text: str) -> list[int]:
        """The ids of `text`, without BOS and EOS; tokens never seen become UNK."""

    def decode(self, ids: Ids) -> str:
        """The text of `ids` up to the first EOS; PAD and BOS vanish, UNK as U+FFFD."""

    def names(self, ids: Ids) -> list[str]:
        """One string per id, the special ones as <pad>, <bos>, <eos>, <unk>: labels for a figure's axis."""

    def to_dict(self) -> dict[str, Any]:
        """Everything needed to rebuild the vocabulary, as JSON; `attn.tasks.saved_vocabulary` reads it."""


# The morphemes that German number words are put together from. Teens and tens stay whole, as in English: one
# part for "fourteen", one for "forty". Whatever else there is falls into characters.
_PARTS = re.compile(
    "(?:drei|vier|fünf|sech|sieb|acht|neun)zehn|zwanzig|dreißig|(?:vier|fünf|sech|sieb|acht|neun)zig|"
    "null|eins|eine|ein|zwei|drei|vier|fünf|sechs|sieben|acht|neun|zehn|elf|zwölf|"
    "und|hundert|tausend|(?:Milli|Billi)(?:onen|on|arden|arde)|.",
    re.DOTALL,
)
_WORDS = re.compile(r"[-,]|[^\s,-]+")  # not \w+: that would cut Indic words at their vowel signs


def _join_words(tokens: Sequence[str]) -> str:
    return " ".join(tokens).replace(" - ", "-").replace(" ,", ",")


# kind -> (split, join); join(split(text)) == text, for "words" up to the amount of white space.
_KINDS: dict[str, tuple[Callable[[str], list[str]], Callable[[Sequence[str]], str]]] = {
    "characters": (list, "".join),
    "words": (_WORDS.findall, _join_words),
    "parts": (_PARTS.findall, "".join),
}


class Vocabulary:
    """The tokens seen in some texts, the most frequent first.

    kind "characters": every character is a token. "words": words, and hyphens and commas as tokens of their
    own. "parts": German number words cut in their morphemes (sieben|hundert|zwei|und|vierzig); what is no
    such morpheme falls into characters.
    """

    def __init__(self, kind: str, tokens: Sequence[str]) -> None:
        """`tokens`: the strings of ids 4, 5, ... ValueError for an unknown kind or a token given twice."""
        if kind not in _KINDS:
            raise ValueError(f"no vocabulary of kind {kind!r}; there are: {', '.join(_KINDS)}")
        self.kind = kind
        self._strings = [*SPECIALS, *tokens]
        self._ids = {token: i for i, token in enumerate(self._strings) if i > UNK}
        if len(self._ids) != len(tokens):
            twice = sorted(token for token, times in Counter(tokens).items() if times > 1)
            raise ValueError(f"a vocabulary holds every token once; given more than once: {twice[:5]}")

    @classmethod
    def build(cls, kind: str, texts: Iterable[str]) -> "Vocabulary":
        """The vocabulary of `texts`: most frequent tokens first, equal frequencies in code-point order."""
        empty = cls(kind, [])
        counts = Counter(token for text in texts for token in empty.words(text))
        return cls(kind, sorted(counts, key=lambda token: (-counts[token], token)))

    def __len__(self) -> int:
        return len(self._strings)

    def __repr__(self) -> str:
        return f"Vocabulary({self.kind!r}, {len(self)} ids)"

    def words(self, text: str) -> list[str]:
        split, _ = _KINDS[self.kind]
        return split(text)

    def encode(self, text: str) -> list[int]:
        return [self._ids.get(token, UNK) for token in self.words(text)]

    def decode(self, ids: Ids) -> str:
        _, join = _KINDS[self.kind]
        return join([UNKNOWN_TEXT if i == UNK else self._strings[i] for i in text_ids(ids, len(self))])

    def names(self, ids: Ids) -> list[str]:
        return [self._strings[i] for i in checked_ids(ids, len(self))]

    def to_dict(self) -> dict[str, Any]:
        return {"kind": self.kind, "tokens": self._strings[len(SPECIALS) :]}


def checked_ids(ids: Ids, size: int) -> list[int]:
    """`ids` as a list of Python integers; ValueError if one is outside 0 ... size - 1."""
    numbers = [int(i) for i in ids]
    if wrong := [i for i in numbers if not 0 <= i < size]:
        raise ValueError(f"ids must be 0 to {size - 1} in this vocabulary; given {wrong[0]}")
    return numbers


def text_ids(ids: Ids, size: int) -> list[int]:
    """`ids` up to the first EOS, without PAD and BOS: those that stand for text."""
    numbers = checked_ids(ids, size)
    end = numbers.index(EOS) if EOS in numbers else len(numbers)
    return [i for i in numbers[:end] if i not in (PAD, BOS)]
