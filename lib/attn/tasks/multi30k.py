"""Multi30k: captions of images in English, German and French (Elliott et al. 2016).

29,000 sentences to train on, 1,014 to validate, 1,000 to test (the set test_2016_flickr): small enough for a
laptop, real enough for BLEU (Papineni et al. 2002).
"""

import contextlib
import gzip
import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from sacrebleu.metrics.bleu import BLEU

from attn.tasks.download import cache_folder, fetch
from attn.tasks.sources import SOURCES, RemoteFile
from attn.tasks.subwords import SubwordVocabulary
from attn.tasks.translation import Pair, TranslationTask, check_counts

_SOURCES = {"de": "multi30k", "fr": "multi30k-fr"}


@dataclass
class Multi30kTask(TranslationTask):
    """English image captions to German or French."""

    name = "multi30k"

    def prepare(self, text: str) -> str:
        """Any English sentence will do; captions are what the model has seen."""
        if not text.strip():
            raise ValueError("an empty sentence has no translation: give an English sentence")
        return text.strip()

    def evaluate(self, hypotheses: list[str], pairs: list[Pair]) -> dict[str, float]:
        """Corpus BLEU of raw translations, 0 to 100; `bleu_signatures` says exactly how each is computed.

        "bleu": sacreBLEU's standard, case counts. "bleu_lowercase": the same on lower-cased tokens, which is
        the nearest to the tokenised lower-case BLEU that papers on small models report for Multi30k.
        """
        check_counts(hypotheses, pairs)
        references = [[target for _, target in pairs]]
        return {name: bleu.corpus_score(hypotheses, references).score for name, bleu in _metrics().items()}


def bleu_signatures() -> dict[str, str]:
    """The sacreBLEU signature of each score of `Multi30kTask.evaluate`, to be quoted with it (Post 2018)."""
    signatures = {}
    for name, bleu in _metrics().items():
        bleu.corpus_score([""], [["a"]])  # a signature knows the number of references only after a score
        signatures[name] = bleu.get_signature().format()
    return signatures


def _metrics() -> dict[str, BLEU]:
    return {"bleu": BLEU(), "bleu_lowercase": BLEU(lowercase=True)}


def load(language: str = "de", *, vocabulary_size: int = 8_000, lowercase: bool = False) -> Multi30kTask:
    """English to `language` ("de" or "fr"), with one joint vocabulary of `vocabulary_size` subwords for both.

    `lowercase` folds case in the vocabulary: the model reads and writes lower case only. The sentences stay
    raw, so "bleu" then says little: perfect German in lower case has 23. Raises ValueError for another
    language, `DataUnavailable` when the files are not here and cannot be downloaded.
    """
    if language not in _SOURCES:
        raise ValueError(f"Multi30k is here in: {', '.join(_SOURCES)}; given {language!r}")
    source = SOURCES[_SOURCES[language]]
    sides = [_read(fetch(file, source.folder)) for file in source.files]
    train, validation, test = (list(zip(*sides[i : i + 2], strict=True)) for i in (0, 2, 4))
    vocabulary = _vocabulary(train, source.files[:2], vocabulary_size, lowercase)
    return Multi30kTask(
        source=vocabulary,
        target=vocabulary,
        train=train,
        validation=validation,
        test=test,
        options={"language": language, "vocabulary_size": vocabulary_size, "lowercase": lowercase},
    )


def _read(path: Path) -> list[str]:
    with gzip.open(path, "rt", encoding="utf-8", newline="\n") as file:
        return [line.strip() for line in file]


def _vocabulary(
    train: list[Pair], files: tuple[RemoteFile, ...], size: int, lowercase: bool
) -> SubwordVocabulary:
    """The joint vocabulary of the training sentences, trained once and then kept beside the downloads."""
    recipe = hashlib.sha256(" ".join([*(file.sha256 for file in files), "recipe 1"]).encode()).hexdigest()
    case = "-lowercase" if lowercase else ""
    path = cache_folder() / "multi30k" / f"subwords-{recipe[:12]}-{size}{case}.json"
    try:
        return SubwordVocabulary(path.read_text(encoding="utf-8"), lowercase=lowercase)
    except (OSError, ValueError):  # not there, or damaged: make it anew
        vocabulary = SubwordVocabulary.train(
            (text for pair in train for text in pair), size, lowercase=lowercase
        )
        _keep(path, vocabulary.to_dict()["tokenizer"])
        return vocabulary


def _keep(path: Path, text: str) -> None:
    """Write `text` to `path` whole or not at all; a cache that cannot be written is done without."""
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            part.write_text(text, encoding="utf-8")
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
