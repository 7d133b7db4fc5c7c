"""Subwords: byte-pair encoding (Sennrich et al. 2016, section 3.2).

Frequent words are one token, rare ones fall into pieces. Trained jointly on both languages, as in Vaswani et
al. 2017, section 5.1, so that source and target can share one embedding.
"""

import os
from collections.abc import Iterable
from typing import Any

from attn.tasks.vocabulary import SPECIALS, UNK, UNKNOWN_TEXT, Ids, checked_ids, text_ids

# Sentences are encoded one by one; the library's threads would only make it warn at every later fork.
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers

_SPACE = "\N{LOWER ONE EIGHTH BLOCK}"  # marks where a space was, so that pieces can be joined to the text


class SubwordVocabulary:
    """Byte-pair encoding of raw text. With `lowercase` it folds case, and so does a model's output."""

    kind = "subwords"

    def __init__(self, tokenizer: str, *, lowercase: bool = False) -> None:
        """`tokenizer`: the JSON that `to_dict` has under that name. ValueError if it is none of ours."""
        try:
            self._tokenizer = Tokenizer.from_str(tokenizer)
        except Exception as error:  # the library raises bare Exception
            raise ValueError(f"this is no saved subword vocabulary: {error}") from None
        self._tokenizer.encode_special_tokens = True  # "<eos>" in a text is text, not the end
        by_id = sorted(self._tokenizer.get_vocab().items(), key=lambda item: item[1])
        self._strings = [token for token, _ in by_id]
        if tuple(self._strings[: len(SPECIALS)]) != SPECIALS:
            raise ValueError(f"a subword vocabulary must begin with {', '.join(SPECIALS)}")
        self.lowercase = lowercase

    @classmethod
    def train(cls, texts: Iterable[str], size: int, *, lowercase: bool = False) -> "SubwordVocabulary":
        """Merge pairs of pieces of `texts`, the most frequent first, until there are `size` ids.

        Fewer ids if no pair is left that occurs twice; more if the single characters are more than `size`.
        """
        tokenizer = Tokenizer(models.BPE(unk_token=SPECIALS[UNK]))
        fold = [normalizers.Lowercase()] if lowercase else []
        tokenizer.normalizer = normalizers.Sequence(
            [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Strip(), *fold]
        )
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Metaspace(replacement=_SPACE), pre_tokenizers.Punctuation()]
        )
        trainer = trainers.BpeTrainer(
            vocab_size=size, min_frequency=2, special_tokens=list(SPECIALS), show_progress=False
        )
        tokenizer.train_from_iterator(texts, trainer)
        return cls(tokenizer.to_str(), lowercase=lowercase)

    def __len__(self) -> int:
        return len(self._strings)

    def __repr__(self) -> str:
        return f"SubwordVocabulary({len(self)} ids)"

    def words(self, text: str) -> list[str]:
        return self._tokenizer.encode(text, add_special_tokens=False).tokens

    def encode(self, text: str) -> list[int]:
        return self._tokenizer.encode(text, add_special_tokens=False).ids

    def decode(self, ids: Ids) -> str:
        pieces = [UNKNOWN_TEXT if i == UNK else self._strings[i] for i in text_ids(ids, len(self))]
        return "".join(pieces).replace(_SPACE, " ").strip()

    def names(self, ids: Ids) -> list[str]:
        return [self._strings[i] for i in checked_ids(ids, len(self))]

    def to_dict(self) -> dict[str, Any]:
        return {"kind": self.kind, "tokenizer": self._tokenizer.to_str(), "lowercase": self.lowercase}
