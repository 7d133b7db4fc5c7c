"""Sentence polarity: forged files for the ways, the real ones (where they are) for the facts."""

import hashlib
import os
from pathlib import Path

import pytest

from attn.tasks import available, download, load_task
from attn.tasks.download import DataUnavailable
from attn.tasks.reviews import load, split
from attn.tasks.sentiment import SentimentTask
from attn.tasks.sources import SOURCES, RemoteFile
from attn.tasks.vocabulary import UNK

REAL = os.environ.get("ATTN_DATA")

PRAISE = [
    f"a film no. {i} with clichés — \N{NEXT LINE}and\N{NO-BREAK SPACE}charm , twice-told " for i in range(30)
]
BLAME = [f"dull number {i} . " for i in range(30)]


@pytest.fixture
def forged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the two files and few sentences, its hashes in the table; an empty cache."""
    folder = tmp_path / "data"
    (folder / "rt-polarity").mkdir(parents=True)
    files = []
    for old, lines in zip(SOURCES["rt-polarity"].files, (PRAISE, BLAME), strict=True):
        content = "".join(f"{line}\n" for line in [*lines, lines[0], "on the fence", ""]).encode()
        (folder / "rt-polarity" / old.name).write_bytes(content)
        files.append(RemoteFile(old.name, "http://127.0.0.1:9/", hashlib.sha256(content).hexdigest()))
    monkeypatch.setitem(SOURCES, "rt-polarity", SOURCES["rt-polarity"]._replace(files=tuple(files)))
    monkeypatch.setattr(download, "cache_folder", lambda: tmp_path / "cache")
    monkeypatch.setenv("ATTN_DATA", str(folder))
    monkeypatch.setenv("NO_PROXY", "*")
    return folder


def everything(task: SentimentTask) -> list[tuple[list[str], int]]:
    return task.train + task.validation + task.test


def test_a_line_is_a_sentence_once_and_what_has_both_labels_is_none(forged: Path) -> None:
    task = load()
    texts = [" ".join(words) for words, _ in everything(task)]
    assert len(texts) == len(set(texts)) == 60
    assert "on the fence" not in texts
    assert [len(part) for part in (task.train, task.validation, task.test)] == [48, 6, 6]
    for words, label in everything(task):
        assert label == (words[0] == "a")


def test_the_files_are_utf_8(forged: Path) -> None:
    words = next(words for words, label in everything(load()) if label)
    assert {"clichés", "—", ",", "twice-told"} < set(words)


def test_the_vocabulary_is_of_training_words_seen_often_enough(forged: Path) -> None:
    task, all_words = load(), load(min_count=1)
    assert {"film", "dull"} < set(task.words.names(range(len(task.words))))
    assert len(all_words.words) > len(task.words)
    counts = [word for words, _ in task.train for word in words]
    for words, _ in everything(task):
        for word, i in zip(words, task.encode(words), strict=True):
            assert (i == UNK) == (counts.count(word) < 2), word
        for word, i in zip(words, all_words.encode(words), strict=True):
            assert (i == UNK) == (counts.count(word) < 1), word


def test_only_the_seed_splits(forged: Path) -> None:
    assert load().train == load().train
    assert load(seed=1).test != load().test
    assert sorted(everything(load(seed=1))) == sorted(everything(load()))


def test_copies_never_lie_on_both_sides() -> None:
    reviews = [([str(i % 40)], i % 40 % 2) for i in range(400)]
    train, validation, test = split(reviews, 0)
    found = [words[0] for words, _ in train + validation + test]
    assert sorted(found) == sorted({words[0] for words, _ in reviews})


def test_damaged_or_missing(forged: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (forged / "rt-polarity" / "rt-polarity.neg").write_text("")
    with pytest.raises(DataUnavailable, match=r"rt-polarity\.neg is damaged"):
        load()
    monkeypatch.delenv("ATTN_DATA")
    assert not available("rt-polarity")
    with pytest.raises(DataUnavailable, match=r"set ATTN_DATA .*rt-polarity/rt-polarity\.pos"):
        load_task("reviews")


@pytest.mark.skipif(not REAL, reason="needs the real reviews: set ATTN_DATA")
class TestReal:
    def test_facts(self) -> None:
        assert available("rt-polarity")
        task = load_task("reviews")
        sets = task.train, task.validation, task.test
        assert [len(part) for part in sets] == [8_530, 1_066, 1_066]
        assert len({tuple(words) for part in sets for words, _ in part}) == 10_662
        for part in sets:
            assert sum(label for _, label in part) / len(part) == pytest.approx(0.5, abs=0.04)
        words = {word for words, _ in everything(task) for word in words}
        assert {"clichés", "münch's"} < words
        assert not any("Ã" in word or "â€" in word for word in words)  # UTF-8 read as Latin-1
        unknown = [i == UNK for words, _ in task.test for i in task.encode(words)]
        assert 0.02 < sum(unknown) / len(unknown) < 0.1
