"""A translation task: sentence pairs, two vocabularies, and the batches that a Transformer is trained on."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from jaxtyping import Int
from torch import Tensor

from attn.tasks.vocabulary import BOS, EOS, PAD, VocabularyLike

Pair = tuple[str, str]


@dataclass
class TranslationTask(ABC):
    """Sentences in two languages, and what belongs to them. Each data set has its own subclass.

    `train`, `validation`, `test`: lists of (source sentence, target sentence). `extra`: further test sets by
    name. `options`: what `load_task(name, **options)` was called with. A task restored from a checkpoint has
    no sentences.
    """

    name: ClassVar[str]

    source: VocabularyLike
    target: VocabularyLike
    train: list[Pair] = field(default_factory=list, repr=False)
    validation: list[Pair] = field(default_factory=list, repr=False)
    test: list[Pair] = field(default_factory=list, repr=False)
    extra: dict[str, list[Pair]] = field(default_factory=dict, repr=False)
    options: dict[str, Any] = field(default_factory=dict)
    _encoded: dict[Pair, tuple[list[int], list[int]]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    @abstractmethod
    def prepare(self, text: str) -> str:
        """What somebody typed, as a source sentence of this task. ValueError says what can be translated."""

    @abstractmethod
    def evaluate(self, hypotheses: list[str], pairs: list[Pair]) -> dict[str, float]:
        """Scores by name, each from 0 to 100, of one translation per pair."""

    def encode(self, pair: Pair) -> tuple[list[int], list[int]]:
        """The ids of a pair, as a batch holds them: those of the source; BOS, those of the target, EOS."""
        if pair not in self._encoded:  # remembered, since every epoch asks again
            source, target = pair
            self._encoded[pair] = self.source.encode(source), [BOS, *self.target.encode(target), EOS]
        return self._encoded[pair]

    def describe(self) -> str:
        """A few lines: how many sentences, which vocabularies, one example."""
        sizes = {"train": self.train, "validation": self.validation, "test": self.test, **self.extra}
        lines = [f"{self.name} ({', '.join(f'{key}={value}' for key, value in self.options.items())})"]
        lines.append(", ".join(f"{name} {len(pairs):,}" for name, pairs in sizes.items()))
        lines.append(f"source {self.source!r}, target {self.target!r}")
        if self.train:
            source, target = self.train[0]
            lines.append(f"{source!r} -> {target!r}")
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """The task without its sentences, as JSON, for checkpoints; `attn.tasks.restore_task` reads it."""
        shared = self.target is self.source
        return {
            "task": self.name,
            "options": self.options,
            "source": self.source.to_dict(),
            "target": None if shared else self.target.to_dict(),  # None: the same vocabulary on both sides
        }

    @classmethod
    def from_dict(cls, state: dict[str, Any]) -> "TranslationTask":
        """The task whose `to_dict` gave `state`, without sentences. ValueError if an entry is missing."""
        # Here, because it loads the tokenizers library, which most tasks never use.
        from attn.tasks.saved_vocabulary import vocabulary_from_dict

        try:
            source = vocabulary_from_dict(state["source"])
            target = source if state["target"] is None else vocabulary_from_dict(state["target"])
            return cls(source=source, target=target, options=state["options"])
        except KeyError as missing:
            raise ValueError(f"this is no saved task: the entry {missing} is missing") from None


@dataclass(frozen=True)
class Batch:
    """Sentence pairs as ids. Source rows are tokens, PAD ...; target rows are BOS, tokens, EOS, PAD ..."""

    source: Int[Tensor, "batch source_length"]
    target: Int[Tensor, "batch target_length"]

    @property
    def target_in(self) -> Int[Tensor, "batch shifted_length"]:
        """What the decoder reads: the target without its last column."""
        return self.target[:, :-1]

    @property
    def target_out(self) -> Int[Tensor, "batch shifted_length"]:
        """What the decoder must say: at every position the token that comes next."""
        return self.target[:, 1:]

    @property
    def n_tokens(self) -> int:
        """Number of target tokens to predict: EOS counted, BOS and padding not."""
        return int((self.target_out != PAD).sum())

    def to(self, device: torch.device | str) -> "Batch":
        """The same batch on another device."""
        return Batch(self.source.to(device), self.target.to(device))


def _padded(rows: Sequence[Sequence[int]]) -> Int[Tensor, "batch length"]:
    """Rows of ids, filled up with PAD to the longest one (to 1 at least)."""
    length = max([1, *map(len, rows)])
    return torch.tensor([[*row, *[PAD] * (length - len(row))] for row in rows]).reshape(-1, length)


def batches(
    task: TranslationTask,
    pairs: Sequence[Pair],
    batch_size: int,
    *,
    generator: torch.Generator | None = None,
    by_length: bool = True,
) -> list[Batch]:
    """Cut `pairs` into batches of `batch_size` (the last one may be smaller).

    `by_length` puts sentences of similar length together, which saves most of the padding; which equally long
    ones meet, and the order of the batches, come from `generator`. Without a generator nothing is random:
    shortest first, or the order of `pairs` when `by_length` is False. The same generator state gives the same
    batches. Raises ValueError when `batch_size` is below 1.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1; given {batch_size}")
    encoded = [task.encode(pair) for pair in pairs]
    order = list(range(len(pairs)))
    if generator is not None:
        order = torch.randperm(len(pairs), generator=generator).tolist()
    if by_length:
        # By target length, and within it by source length: up, then down, then up, so that neighbours stay
        # alike where the target length changes. The sort is stable: pairs of equal lengths stay shuffled.
        lengths = [(len(target), len(source)) for source, target in encoded]
        order.sort(key=lambda i: (lengths[i][0], lengths[i][1] * (-1) ** lengths[i][0]))
    groups = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    if generator is not None and by_length:
        groups = [groups[i] for i in torch.randperm(len(groups), generator=generator).tolist()]
    return [
        Batch(_padded([encoded[i][0] for i in group]), _padded([encoded[i][1] for i in group]))
        for group in groups
    ]


def check_counts(hypotheses: Sequence[str], pairs: Sequence[Pair]) -> None:
    """ValueError unless there is at least one pair and exactly one hypothesis for each."""
    if not pairs or len(hypotheses) != len(pairs):
        raise ValueError(
            f"evaluation needs pairs and one hypothesis for each; given {len(pairs)} and {len(hypotheses)}"
        )
