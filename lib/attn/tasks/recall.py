"""Recall: facts somewhere in a long sequence, a question at its end, and the distance between the two known.

    position   0     1     2     3     4     5     6     7
    key        0     2     0     0     1     0     0     1
    value      3     0     2     1     2     3     0     4       answer: 2, from a distance of 3

Each position holds a key and a value. A fact has a key of its own (1 or more) and a value. Filler has the key
0 and a value that means nothing. The last position asks for one of the keys; its value is n_values, which
stands for "unknown" (here 4).
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Int
from torch import Tensor
from torch.nn import functional as F


class Recall(NamedTuple):
    """A batch of questions.

    key: 1 ... n_keys, and 0 for filler.   value: 0 ... n_values - 1, and n_values at the question.
    answer: the value of the fact that is asked for.   distance: steps from that fact to the question.
    """

    key: Int[Tensor, "batch length"]
    value: Int[Tensor, "batch length"]
    answer: Int[Tensor, " batch"]
    distance: Int[Tensor, " batch"]


def recall_batch(
    batch: int,
    *,
    distances: int | Sequence[int],
    length: int,
    facts: int | Sequence[int] = 2,
    n_keys: int = 2,
    n_values: int = 4,
    generator: torch.Generator,
) -> Recall:
    """Draw `batch` sequences of `length` positions; each draws its distance and its number of facts anew.

    The fact that is asked for stands `distance` steps before the question, the others anywhere else.

    Errors: ValueError for a distance that is not in the sequence, for more facts than keys or places, for
    sizes below 1.
    """
    far = torch.tensor([distances] if isinstance(distances, int) else list(distances))
    many = torch.tensor([facts] if isinstance(facts, int) else list(facts))
    if batch < 1 or n_keys < 1 or n_values < 1:
        raise ValueError(f"sizes must be at least 1, got {batch=}, {n_keys=}, {n_values=}")
    if not far.numel() or far.min() < 1 or far.max() > length - 1:
        raise ValueError(f"in a sequence of {length} distances are 1 to {length - 1}, got {far.tolist()}")
    if not many.numel() or many.min() < 1 or many.max() > min(n_keys, length - 1):
        raise ValueError(
            f"facts must be 1 to the number of keys ({n_keys}) and of places ({length - 1}), "
            f"got {many.tolist()}"
        )
    rows = torch.arange(batch)
    distance = far[torch.randint(len(far), (batch,), generator=generator)]
    number = many[torch.randint(len(many), (batch,), generator=generator)]
    asked_at = length - 1 - distance
    # A random order of the places, in which the one that is asked for comes first and the question last.
    order = torch.rand(batch, length, generator=generator)
    order[rows, asked_at], order[:, -1] = -1.0, 2.0
    places = order.argsort(dim=1)[:, : min(n_keys, length - 1)]
    names = 1 + torch.rand(batch, n_keys, generator=generator).argsort(dim=1)[:, : places.size(1)]
    key = torch.zeros(batch, length, dtype=torch.long)
    key.scatter_(1, places, names.masked_fill(torch.arange(places.size(1)) >= number[:, None], 0))
    value = torch.randint(n_values, (batch, length), generator=generator)
    answer = value[rows, asked_at]
    key[:, -1], value[:, -1] = names[:, 0], n_values
    return Recall(key, value, answer, distance)


def last_fact(batch: Recall) -> Int[Tensor, " batch"]:
    """The cheap control: answers with the value of the newest fact, whatever the question is."""
    facts = batch.key[:, :-1] > 0
    newest = facts.size(1) - 1 - facts.flip(1).int().argmax(dim=1)
    return batch.value.gather(1, newest[:, None])[:, 0]


def commonest_value(batch: Recall) -> Int[Tensor, " batch"]:
    """Another control that does not read the question: the value that most facts have."""
    values = F.one_hot(batch.value[:, :-1], int(batch.value.max()) + 1)
    return (values * (batch.key[:, :-1, None] > 0)).sum(dim=1).argmax(dim=-1)
