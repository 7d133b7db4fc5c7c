"""ATIS: spoken questions about flights, with part-of-speech tags (Hemphill et al. 1990; Nivre et al. 2020).

4,274 questions to train on, 572 to validate, 586 to test: "what flights leave atlanta on monday", in lower
case and without punctuation. The tags are the universal ones (UPOS) of Universal Dependencies.
"""

from attn.tasks.download import fetch
from attn.tasks.labelling import word_list
from attn.tasks.sources import SOURCES
from attn.tasks.tagging import TaggedSentence, TaggingTask


def load() -> TaggingTask:
    """The sentences as they were published, in their own three sets; the vocabulary of the training set.

    Raises `DataUnavailable` when the files are not here and cannot be downloaded.
    """
    source = SOURCES["atis"]
    train, validation, test = (
        read_conllu(fetch(file, source.folder).read_text(encoding="utf-8")) for file in source.files
    )
    return TaggingTask(
        name="atis",
        words=word_list(words for words, _ in train),
        train=train,
        validation=validation,
        test=test,
        tags=sorted({tag for _, tags in train + validation + test for tag in tags}),
    )


def read_conllu(text: str) -> list[TaggedSentence]:
    """The words and universal tags of a text in the CoNLL-U format.

    One word per line, ten columns with tabs between them, an empty line after each sentence. A line that
    begins with "#" is a comment (the line of the word "#" begins with its number). The range of a multiword
    token ("1-2 don't") stands before the words that it is made of ("1 do", "2 n't"): these count, it does
    not. Nor does an empty node ("8.1"), a word that nobody said.

    Raises ValueError for a line that is none of these, with its number.
    """
    sentences: list[TaggedSentence] = []
    words: list[str] = []
    tags: list[str] = []
    # Only a line feed ends a line: other separators of Unicode may be part of a word.
    for number, line in enumerate([*text.split("\n"), ""], start=1):
        line = line.removesuffix("\r")
        if not line:
            if words:
                sentences.append((words, tags))
            words, tags = [], []
            continue
        if line.startswith("#"):
            continue
        columns = line.split("\t")
        if len(columns) != 10:
            raise ValueError(f"line {number} has {len(columns)} columns, a word has 10: {line!r}")
        if columns[0].isdecimal():
            words.append(columns[1])
            tags.append(columns[3])
        elif not columns[0].replace("-", ".", 1).replace(".", "", 1).isdecimal():
            raise ValueError(f"line {number} begins with {columns[0]!r}, which numbers no word")
    return sentences
