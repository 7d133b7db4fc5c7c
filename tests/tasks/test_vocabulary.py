"""Vocabularies: what goes in comes out, also through JSON, and what is unknown is seen to be unknown."""

import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from attn.tasks.saved_vocabulary import vocabulary_from_dict
from attn.tasks.subwords import SubwordVocabulary
from attn.tasks.vocabulary import (
    BOS,
    EOS,
    PAD,
    UNK,
    UNKNOWN_TEXT,
    Vocabulary,
    VocabularyLike,
)

TEXTS = ["Zwei Männer, ein Hund.", "zwei Hunde", "ein Männer-Hund", "", "siebenhundertzweiundvierzig"]


def _all_kinds() -> list[VocabularyLike]:
    built = [Vocabulary.build(kind, TEXTS) for kind in ("characters", "words", "parts")]
    return [*built, SubwordVocabulary.train(TEXTS, 60)]


KINDS = pytest.mark.parametrize("vocabulary", _all_kinds(), ids=repr)


@KINDS
@pytest.mark.parametrize("text", TEXTS)
def test_text_survives_the_way_there_and_back(vocabulary: VocabularyLike, text: str) -> None:
    ids = vocabulary.encode(text)
    assert vocabulary.decode(ids) == text
    assert all(UNK < i < len(vocabulary) for i in ids)
    assert vocabulary.names(ids) == vocabulary.words(text)


@KINDS
def test_json_gives_the_same_vocabulary(vocabulary: VocabularyLike) -> None:
    again = vocabulary_from_dict(json.loads(json.dumps(vocabulary.to_dict())))
    assert isinstance(again, VocabularyLike)
    assert len(again) == len(vocabulary)
    assert again.to_dict() == vocabulary.to_dict()
    for text in [*TEXTS, "Drei Männer"]:
        assert again.encode(text) == vocabulary.encode(text)


@KINDS
def test_special_ids_are_the_same_everywhere(vocabulary: VocabularyLike) -> None:
    assert vocabulary.names([PAD, BOS, EOS, UNK]) == ["<pad>", "<bos>", "<eos>", "<unk>"]
    assert (PAD, BOS, EOS, UNK) == (0, 1, 2, 3)


@KINDS
def test_decode_stops_at_eos_and_drops_bos_and_pad(vocabulary: VocabularyLike) -> None:
    ids = vocabulary.encode("zwei Hunde")
    other = vocabulary.encode("ein")
    assert vocabulary.decode([BOS, *ids, EOS, *other, PAD, PAD]) == "zwei Hunde"
    assert vocabulary.decode(torch.tensor([BOS, *ids, EOS, PAD])) == "zwei Hunde"
    assert vocabulary.decode([]) == vocabulary.decode([EOS, *ids]) == vocabulary.decode([PAD]) == ""


@KINDS
def test_unknown_tokens_are_visible(vocabulary: VocabularyLike) -> None:
    ids = vocabulary.encode("☃")
    assert ids[-1] == UNK
    assert UNKNOWN_TEXT in vocabulary.decode(ids)


@KINDS
@pytest.mark.parametrize("wrong", [-1, 10_000])
def test_ids_outside_the_vocabulary(vocabulary: VocabularyLike, wrong: int) -> None:
    with pytest.raises(ValueError, match=f"ids must be 0 to {len(vocabulary) - 1}.*given {wrong}"):
        vocabulary.decode([wrong])
    with pytest.raises(ValueError, match="ids must be"):
        vocabulary.names([wrong])


@settings(deadline=None)
@given(st.lists(st.text(max_size=20), max_size=5))
def test_characters_and_parts_lose_nothing(texts: list[str]) -> None:
    for kind in ("characters", "parts"):
        vocabulary = Vocabulary.build(kind, texts)
        for text in texts:
            assert vocabulary.decode(vocabulary.encode(text)) == text
            assert "".join(vocabulary.words(text)) == text


@settings(deadline=None)
@given(st.text(max_size=30))
def test_words_never_hold_white_space(text: str) -> None:
    words = Vocabulary("words", []).words(text)
    assert all(word and not any(character.isspace() for character in word) for word in words)


def test_words_keep_indic_vowel_signs_in_the_word() -> None:
    text = "ಏಳು ನೂರ"  # Kannada; \w would cut at the vowel signs
    assert Vocabulary("words", []).words(text) == text.split()


def test_german_parts() -> None:
    words = Vocabulary("parts", []).words
    assert words("siebenhundertzweiundvierzig") == ["sieben", "hundert", "zwei", "und", "vierzig"]
    assert words("eintausendsechzehn") == ["ein", "tausend", "sechzehn"]
    assert words("hunderteins") == ["hundert", "eins"]
    assert words("zwei Millionen elf") == ["zwei", " ", "Millionen", " ", "elf"]
    assert words("hundxdrei") == ["h", "und", "x", "drei"]


def test_building_is_deterministic_and_frequent_tokens_come_first() -> None:
    vocabulary = Vocabulary.build("words", ["b a", "c a", "b a"])
    assert vocabulary.names(range(4, len(vocabulary))) == ["a", "b", "c"]
    assert Vocabulary.build("words", iter(["c a", "b a", "b a"])).to_dict() == vocabulary.to_dict()


def test_a_text_that_looks_special_is_only_text() -> None:
    vocabulary = Vocabulary.build("words", ["<eos> <pad> go"])
    assert min(vocabulary.encode("<eos> <pad>")) > UNK
    assert vocabulary.decode(vocabulary.encode("<eos> <pad> go")) == "<eos> <pad> go"


def test_wrong_kind_double_tokens_and_broken_states() -> None:
    with pytest.raises(ValueError, match=r"no vocabulary of kind 'sylables'.*characters, words, parts"):
        Vocabulary("sylables", [])
    with pytest.raises(ValueError, match=r"every token once; given more than once: \['a'\]"):
        Vocabulary("words", ["a", "b", "a"])
    with pytest.raises(ValueError, match="the entry 'kind' is missing"):
        vocabulary_from_dict({})
    with pytest.raises(ValueError, match="the entry 'tokens' is missing"):
        vocabulary_from_dict({"kind": "words"})
    with pytest.raises(ValueError, match="the entry 'tokenizer' is missing"):
        vocabulary_from_dict({"kind": "subwords"})
    with pytest.raises(ValueError, match="no saved subword vocabulary"):
        vocabulary_from_dict({"kind": "subwords", "tokenizer": '{"truncated', "lowercase": False})
