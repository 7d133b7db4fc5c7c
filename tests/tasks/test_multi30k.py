"""Multi30k: a small forged copy for the ways, the real files (where they are) for the facts."""

import gzip
import hashlib
import json
import os
from pathlib import Path

import pytest
import torch

from attn.tasks import available, download, load_task, multi30k, restore_task
from attn.tasks.download import DataUnavailable
from attn.tasks.multi30k import Multi30kTask, bleu_signatures, load
from attn.tasks.sources import SOURCES, RemoteFile
from attn.tasks.translation import batches
from attn.tasks.vocabulary import PAD, UNK, Vocabulary

REAL = os.environ.get("ATTN_DATA")

ENGLISH = [f"A man-made boat no. {i}\N{NEXT LINE}is here.\n" for i in range(40)]
GERMAN = [f"Ein Boot Nr. {i} ist hier. \n" for i in range(40)]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, so that nothing is taken from this machine's own."""
    folder = tmp_path / "cache"
    monkeypatch.setattr(download, "cache_folder", lambda: folder)
    monkeypatch.setattr(multi30k, "cache_folder", lambda: folder)
    return folder


@pytest.fixture
def forged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with Multi30k's layout and few sentences, its hashes in the table, no network."""
    folder = tmp_path / "data"
    (folder / "multi30k").mkdir(parents=True)
    files = []
    for old in SOURCES["multi30k"].files:
        lines = ENGLISH if ".en." in old.name else GERMAN
        content = gzip.compress("".join(lines).encode(), mtime=0)
        (folder / "multi30k" / old.name).write_bytes(content)
        files.append(RemoteFile(old.name, "http://127.0.0.1:9/", hashlib.sha256(content).hexdigest()))
    monkeypatch.setitem(SOURCES, "multi30k", SOURCES["multi30k"]._replace(files=tuple(files)))
    monkeypatch.setenv("ATTN_DATA", str(folder))
    monkeypatch.setenv("NO_PROXY", "*")
    return folder


def test_a_line_is_a_sentence_and_only_a_line_feed_ends_it(forged: Path) -> None:
    task = load(vocabulary_size=80)
    assert len(task.train) == len(task.validation) == len(task.test) == 40
    assert task.train[3] == (ENGLISH[3].strip(), GERMAN[3].strip())


def test_the_vocabulary_is_joint_trained_once_and_cached_outside_the_data(
    forged: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = sorted(forged.rglob("*"))
    first = load(vocabulary_size=80)
    assert first.source is first.target
    monkeypatch.setattr("attn.tasks.subwords.SubwordVocabulary.train", None)  # a second training would fail
    assert load(vocabulary_size=80).to_dict() == first.to_dict()
    assert sorted(forged.rglob("*")) == before
    assert [path.suffix for path in (cache / "multi30k").iterdir()] == [".json"]


def test_another_size_case_or_language_is_another_vocabulary(forged: Path, cache: Path) -> None:
    cased, folded, larger = load(vocabulary_size=80), load(vocabulary_size=80, lowercase=True), load()
    assert len({json.dumps(task.source.to_dict()) for task in (cased, folded, larger)}) == 3
    assert len(list((cache / "multi30k").iterdir())) == 3
    assert folded.train == cased.train  # the sentences stay raw
    assert folded.target.decode(folded.target.encode("Ein Boot")) == "ein boot"


@pytest.mark.parametrize("damage", ["", "{", '{"version": "1.0"}', "\0\0"])
def test_a_damaged_cached_vocabulary_is_made_anew(forged: Path, cache: Path, damage: str) -> None:
    state = load(vocabulary_size=80).to_dict()
    (path,) = (cache / "multi30k").iterdir()
    path.write_text(damage)
    assert load(vocabulary_size=80).to_dict() == state
    assert path.read_text() == state["source"]["tokenizer"]


def test_a_cache_that_cannot_be_written_is_done_without(forged: Path, cache: Path) -> None:
    cache.write_text("a file where the folder should be")
    assert len(load(vocabulary_size=80).source) == 80


def test_damaged_data_is_refused(forged: Path) -> None:
    path = forged / "multi30k" / "train.de.gz"
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(DataUnavailable, match=r"train\.de\.gz is damaged"):
        load()


def test_neither_folder_nor_network_is_one_line(
    forged: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ATTN_DATA")
    assert not available("multi30k")
    with pytest.raises(
        DataUnavailable, match=r"connect to the network .*set ATTN_DATA .*multi30k/train"
    ) as caught:
        load_task("multi30k")
    assert "\n" not in str(caught.value)
    assert not [path for path in cache.rglob("*") if path.is_file()]


def test_unknown_language() -> None:
    with pytest.raises(ValueError, match="Multi30k is here in: de, fr; given 'cs'"):
        load("cs")


def test_the_task_comes_back_from_json_without_data(forged: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task = load(vocabulary_size=80)
    state = json.loads(json.dumps(task.to_dict()))
    monkeypatch.delenv("ATTN_DATA")
    again = restore_task(state)
    assert isinstance(again, Multi30kTask)
    assert again.source is again.target  # one vocabulary, so that embeddings can be shared
    assert again.encode(task.train[0]) == task.encode(task.train[0])
    assert again.to_dict() == task.to_dict()


def test_prepare(forged: Path) -> None:
    task = load(vocabulary_size=80)
    assert task.prepare("  A boat.\n") == "A boat."
    with pytest.raises(ValueError, match="an empty sentence has no translation"):
        task.prepare(" \n")


def test_bleu_with_and_without_case(forged: Path) -> None:
    task = load(vocabulary_size=80)
    right = [target for _, target in task.test]
    assert task.evaluate(right, task.test) == pytest.approx({"bleu": 100, "bleu_lowercase": 100})
    lower = task.evaluate([text.lower() for text in right], task.test)
    assert lower["bleu"] < 60
    assert lower["bleu_lowercase"] == pytest.approx(100)
    assert task.evaluate([""] * 40, task.test) == {"bleu": 0, "bleu_lowercase": 0}
    with pytest.raises(ValueError, match="given 40 and 39"):
        task.evaluate(right[1:], task.test)


def test_bleu_agrees_with_sacrebleu_itself_and_says_how() -> None:
    import sacrebleu

    hypotheses = ["Ein Mann faehrt Rad.", "zwei hunde spielen im Schnee ."]
    pairs = [("", "Ein Mann fährt Rad."), ("", "Zwei Hunde spielen im Schnee.")]
    references = [[target for _, target in pairs]]
    none = Vocabulary("words", [])
    task = Multi30kTask(source=none, target=none)
    assert task.evaluate(hypotheses, pairs) == {
        "bleu": sacrebleu.corpus_bleu(hypotheses, references).score,
        "bleu_lowercase": sacrebleu.corpus_bleu(hypotheses, references, lowercase=True).score,
    }
    assert bleu_signatures()["bleu"].startswith("nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp")
    assert bleu_signatures()["bleu_lowercase"].startswith("nrefs:1|case:lc|eff:no|tok:13a|smooth:exp")


@pytest.fixture(scope="module")
def german(tmp_path_factory: pytest.TempPathFactory) -> Multi30kTask:
    """The real one, loaded once for all tests below."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(multi30k, "cache_folder", lambda: tmp_path_factory.mktemp("cache"))
        return load("de")


@pytest.mark.skipif(not REAL, reason="needs the real Multi30k: set ATTN_DATA")
class TestReal:
    def test_sizes_and_vocabulary(self, german: Multi30kTask) -> None:
        for task in (german, load("fr")):
            assert [len(set_) for set_ in (task.train, task.validation, task.test)] == [29_000, 1_014, 1_000]
            assert all(source and target for source, target in task.train + task.validation + task.test)
            assert len(task.source) == 8_000
            for source, target in task.test:
                ids = task.target.encode(target)
                assert UNK not in task.source.encode(source) + ids
                assert task.target.decode(ids).split() == target.split()

    def test_available(self) -> None:
        assert available("multi30k")
        assert available("multi30k-fr")

    def test_training_the_vocabulary_again_gives_the_same(self, german: Multi30kTask) -> None:
        assert load("de").to_dict() == german.to_dict()  # from an empty cache

    def test_little_is_padding(self, german: Multi30kTask) -> None:
        made = batches(german, german.train, 64, generator=torch.Generator().manual_seed(0))
        waste = {}
        for side in ("source", "target"):
            ids = torch.cat([getattr(batch, side).flatten() for batch in made])
            waste[side] = (ids == PAD).double().mean().item()
        assert waste["source"] < 0.05  # 0.52 in random batches
        assert waste["target"] < 0.005

    def test_lower_case_hypotheses_lose_most_of_bleu(self, german: Multi30kTask) -> None:
        scores = german.evaluate([target.lower() for _, target in german.test], german.test)
        assert scores["bleu"] == pytest.approx(23.3, abs=0.1)
        assert scores["bleu_lowercase"] == pytest.approx(100)
