"""A labelling task: sentences with one label per word or one per sentence, their vocabulary and batches."""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from attn.tasks.vocabulary import PAD, UNK, Vocabulary

IGNORE = -100  # the label of padding: what `torch.nn.functional.cross_entropy` leaves out

Label = TypeVar("Label")


@dataclass(frozen=True)
class LabelledBatch:
    """Sentences as ids, padded on the right. `labels` are (batch, length), -100 at padding, or (batch,)."""

    ids: Int[Tensor, "batch length"]
    mask: Bool[Tensor, "batch length"]  # True = a real word
    labels: Int[Tensor, "batch *per_word"]

    def to(self, device: torch.device | str) -> "LabelledBatch":
        """The same batch on another device."""
        return LabelledBatch(self.ids.to(device), self.mask.to(device), self.labels.to(device))

    def rows(self, index: Int[Tensor, " rows"]) -> "LabelledBatch":
        """These sentences alone, in this order, without the columns that are padding in all of them."""
        mask = self.mask[index]
        length = max(1, int(mask.sum(dim=1).max()))
        labels = self.labels[index]
        return LabelledBatch(
            self.ids[index, :length], mask[:, :length], labels[:, :length] if labels.ndim == 2 else labels
        )


@dataclass
class LabellingTask(ABC, Generic[Label]):
    """Labelled sentences, and what belongs to them.

    `train`, `validation`, `test`: lists of (words, label). `words`: the vocabulary of the training sentences,
    with the four special ids. `options`: what `load_task(name, **options)` was called with.
    """

    name: str
    words: Vocabulary
    train: list[tuple[list[str], Label]] = field(default_factory=list, repr=False)
    validation: list[tuple[list[str], Label]] = field(default_factory=list, repr=False)
    test: list[tuple[list[str], Label]] = field(default_factory=list, repr=False)
    options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Make the table of ids, word for word: no word is cut here."""
        strings = self.words.names(range(len(self.words)))
        self._ids = {string: i for i, string in enumerate(strings) if i > UNK}

    @property
    @abstractmethod
    def n_labels(self) -> int:
        """How many different labels there are."""

    @abstractmethod
    def label_ids(self, label: Label) -> int | list[int]:
        """The label of one sentence as a number, or as one number for each word."""

    @abstractmethod
    def label_of(self, ids: int | list[int]) -> Label:
        """The way back from `label_ids`."""

    def encode(self, words: Sequence[str]) -> list[int]:
        """One id per word; UNK for a word that no training sentence has."""
        return [self._ids.get(word, UNK) for word in words]

    def inputs(
        self, sentences: Sequence[Sequence[str]]
    ) -> tuple[Int[Tensor, "batch length"], Bool[Tensor, "batch length"]]:
        """Ids and mask (True = a real word) of sentences without labels, given as lists of words.

        Raises ValueError where there is no sentence, or where one is a string and not a list of words.
        """
        if not sentences:
            raise ValueError("a batch needs at least one sentence")
        if wrong := [words for words in sentences if isinstance(words, str)]:
            raise ValueError(f"a sentence is a list of words here; given the string {wrong[0]!r}: split it")
        ids = _padded([self.encode(words) for words in sentences], PAD)
        lengths = torch.tensor([len(words) for words in sentences])
        return ids, torch.arange(ids.size(1)) < lengths[:, None]

    def batch(self, sentences: Sequence[tuple[list[str], Label]]) -> LabelledBatch:
        """The sentences, as pairs (words, label), in one padded batch.

        Raises ValueError where there is none, where words and labels do not match, or for an unknown label.
        """
        ids, mask = self.inputs([words for words, _ in sentences])
        numbers = [self.label_ids(label) for _, label in sentences]
        for (words, _), each in zip(sentences, numbers, strict=True):
            if isinstance(each, list) and len(each) != len(words):
                raise ValueError(f"one label per word: {len(words)} words and {len(each)} labels in {words}")
        rows = [each for each in numbers if isinstance(each, list)]
        return LabelledBatch(ids, mask, _padded(rows, IGNORE) if rows else torch.tensor(numbers))

    def describe(self) -> str:
        """A few lines: how many sentences, which vocabulary, one example."""
        lines = [f"{self.name} ({', '.join(f'{key}={value}' for key, value in self.options.items())})"]
        sizes = {"train": self.train, "validation": self.validation, "test": self.test}
        lines.append(", ".join(f"{name} {len(sentences):,}" for name, sentences in sizes.items()))
        lines.append(f"{self.words!r}, {self.n_labels} labels")
        if self.train:
            words, label = self.train[0]
            lines.append(f"{' '.join(words)!r} -> {label!r}")
        return "\n".join(lines)


def _padded(rows: Sequence[Sequence[int]], filler: int) -> Int[Tensor, "batch length"]:
    """Rows of numbers, filled up to the longest one (to 1 at least)."""
    length = max([1, *map(len, rows)])
    return torch.tensor([[*row, *[filler] * (length - len(row))] for row in rows])


def word_list(sentences: Iterable[Sequence[str]], *, min_count: int = 1) -> Vocabulary:
    """The vocabulary of these sentences: most frequent words first, equal counts in code-point order.

    Words seen less than `min_count` times are left out, and so become UNK. Raises ValueError below 1.
    """
    if min_count < 1:
        raise ValueError(f"min_count must be at least 1; given {min_count}")
    counts = Counter(word for words in sentences for word in words)
    often = [word for word, count in counts.items() if count >= min_count]
    return Vocabulary("words", sorted(often, key=lambda word: (-counts[word], word)))
