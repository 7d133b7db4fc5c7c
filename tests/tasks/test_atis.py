"""ATIS and CoNLL-U: the traps of the format, then the real files (where they are) for the facts."""

import hashlib
import os
from pathlib import Path

import pytest

from attn.tasks import available, download, load_task
from attn.tasks.atis import load, read_conllu
from attn.tasks.download import DataUnavailable
from attn.tasks.sources import SOURCES, RemoteFile
from attn.tasks.tagging import TaggingTask, ambiguous
from attn.tasks.vocabulary import UNK

REAL = os.environ.get("ATTN_DATA")


def line(number: str, form: str, tag: str) -> str:
    return "\t".join([number, form, form.lower(), tag, "_", "_", "0", "_", "_", "_"])


TRAPS = "\n".join(
    [
        "# sent_id = 1",
        "# text = Don't go",
        line("1-2", "Don't", "_"),
        line("1", "Do", "AUX"),
        line("2", "n't", "PART"),
        line("3", "go", "VERB"),
        line("3.1", "away", "ADV"),
        "",
        "",
        "# a comment between sentences",
        line("1", "#", "SYM"),
        line("2", "New York", "PROPN"),
        line("3", "a\N{NEXT LINE}b", "X"),
        "# a comment within",
        line("4", "naïve", "ADJ"),
        line("10-11", "cannot", "_"),
        line("10.2", "nobody", "PRON"),
    ]
)


def test_the_traps_of_the_format() -> None:
    expected = [
        (["Do", "n't", "go"], ["AUX", "PART", "VERB"]),
        (["#", "New York", "a\N{NEXT LINE}b", "naïve"], ["SYM", "PROPN", "X", "ADJ"]),
    ]
    assert read_conllu(TRAPS) == expected  # no empty line, and no line feed, at the end
    assert read_conllu(TRAPS + "\n\n") == expected
    assert read_conllu(TRAPS.replace("\n", "\r\n")) == expected


def test_nothing_in_it() -> None:
    assert read_conllu("") == read_conllu("# only a comment\n\n") == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1 the the DET", "line 1 has 1 columns, a word has 10"),
        ("# c\n" + line("1", "a", "DET") + "\tmore", "line 2 has 11 columns"),
        (line("one", "a", "DET"), "line 1 begins with 'one', which numbers no word"),
    ],
)
def test_what_is_no_conllu(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_conllu(text)


@pytest.fixture
def forged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the three files and two sentences in each, its hashes in the table; an empty cache."""
    folder = tmp_path / "data"
    (folder / "atis").mkdir(parents=True)
    files = []
    for old in SOURCES["atis"].files:
        content = (TRAPS + "\n" + line("5", old.name, "NOUN")).encode()
        (folder / "atis" / old.name).write_bytes(content)
        files.append(RemoteFile(old.name, "http://127.0.0.1:9/", hashlib.sha256(content).hexdigest()))
    monkeypatch.setitem(SOURCES, "atis", SOURCES["atis"]._replace(files=tuple(files)))
    monkeypatch.setattr(download, "cache_folder", lambda: tmp_path / "cache")
    monkeypatch.setenv("ATTN_DATA", str(folder))
    monkeypatch.setenv("NO_PROXY", "*")
    return folder


def test_sets_and_a_vocabulary_of_training_words_alone(forged: Path) -> None:
    task = load()
    assert isinstance(task, TaggingTask)
    assert [len(part) for part in (task.train, task.validation, task.test)] == [2, 2, 2]
    assert task.train[1][0][-1] == "en_atis-ud-train.conllu"
    assert task.test[1][0][-1] == "en_atis-ud-test.conllu"
    assert task.encode(["en_atis-ud-test.conllu"]) == [UNK]
    assert UNK not in task.encode(task.train[1][0])  # "New York" is one word, whatever stands in it


def test_damaged_or_missing(forged: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (forged / "atis" / "en_atis-ud-dev.conllu").write_text("")
    with pytest.raises(DataUnavailable, match=r"en_atis-ud-dev\.conllu is damaged"):
        load()
    monkeypatch.delenv("ATTN_DATA")
    assert not available("atis")
    with pytest.raises(DataUnavailable, match=r"set ATTN_DATA .*atis/en_atis-ud-train"):
        load_task("atis")


@pytest.mark.skipif(not REAL, reason="needs the real ATIS: set ATTN_DATA")
class TestReal:
    def test_facts(self) -> None:
        assert available("atis")
        task = load_task("atis")
        assert [len(part) for part in (task.train, task.validation, task.test)] == [4_274, 572, 586]
        assert len(task.tags) == 14
        assert {"NOUN", "VERB", "PROPN", "NUM"} < set(task.tags)
        for words, tags in task.train + task.validation + task.test:
            assert len(words) == len(tags) > 0
            assert all(words)
            assert "_" not in tags
        unknown = [i == UNK for words, _ in task.test for i in task.encode(words)]
        assert 0 < sum(unknown) / len(unknown) < 0.02
        assert {"to", "may", "like"} < ambiguous(task)
