"""Byte-pair encoding: raw text comes back, case folds only when asked, training twice gives the same."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attn.tasks.subwords import SubwordVocabulary
from attn.tasks.vocabulary import SPECIALS, UNK

TEXTS = [f"A man-made boat no. {i}, it's {size}!" for i in range(30) for size in ("small", "Größer", "grand")]
VOCABULARY = SubwordVocabulary.train(TEXTS, 80)
LETTERS = sorted(set("".join(TEXTS)) - {" "})


@settings(deadline=None)
@given(st.lists(st.text(LETTERS, min_size=1, max_size=8), max_size=6).map(" ".join))
def test_any_text_of_known_characters_comes_back(text: str) -> None:
    ids = VOCABULARY.encode(text)
    assert UNK not in ids
    assert VOCABULARY.decode(ids) == text
    assert len(VOCABULARY.words(text)) == len(ids)


def test_size_and_white_space() -> None:
    assert len(VOCABULARY) == 80
    assert VOCABULARY.encode("  A  man \n") == VOCABULARY.encode("A man")


def test_frequent_words_are_one_piece_and_punctuation_stands_alone() -> None:
    assert VOCABULARY.words("A boat, small!") == ["▁A", "▁boat", ",", "▁small", "!"]


def test_lowercase_folds_only_when_asked() -> None:
    folded = SubwordVocabulary.train(TEXTS, 80, lowercase=True)
    assert folded.encode("GRÖSSER Boat") == folded.encode("grösser boat")
    assert folded.decode(folded.encode("Größer")) == "größer"
    assert VOCABULARY.encode("grand") != VOCABULARY.encode("Grand")


def test_training_is_deterministic() -> None:
    assert SubwordVocabulary.train(iter(TEXTS), 80).to_dict() == VOCABULARY.to_dict()


def test_a_special_name_in_the_text_is_text() -> None:
    assert min(VOCABULARY.encode("man <eos> man")) > 2


def test_a_tokenizer_with_other_special_ids_is_refused() -> None:
    state = json.loads(VOCABULARY.to_dict()["tokenizer"])
    vocab = state["model"]["vocab"]
    vocab[SPECIALS[0]], vocab[SPECIALS[1]] = 1, 0
    state["added_tokens"] = []
    with pytest.raises(ValueError, match="must begin with <pad>, <bos>, <eos>, <unk>"):
        SubwordVocabulary(json.dumps(state))
