"""The way back from a saved vocabulary: the one place that knows all kinds."""

from typing import Any

from attn.tasks.subwords import SubwordVocabulary
from attn.tasks.vocabulary import Vocabulary, VocabularyLike


def vocabulary_from_dict(state: dict[str, Any]) -> VocabularyLike:
    """The vocabulary whose `to_dict` gave `state`, of whichever kind. ValueError if `state` is none."""
    try:
        if state["kind"] == "subwords":
            return SubwordVocabulary(state["tokenizer"], lowercase=state["lowercase"])
        return Vocabulary(state["kind"], state["tokens"])
    except KeyError as missing:
        raise ValueError(f"this is no saved vocabulary: the entry {missing} is missing") from None
