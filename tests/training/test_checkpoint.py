"""Checkpoints: everything comes back, nothing else is believed, and no crash loses the old file."""

import json
import os
import pickle
import signal
import subprocess
import sys
import time

import pytest
import torch
from safetensors.torch import save_file

from attn.training import Checkpoint, CheckpointError
from attn.training.checkpoint import load, save


def _tensors(seed=0):
    generator = torch.Generator().manual_seed(seed)
    return {
        "a.weight": torch.rand(3, 5, generator=generator),
        "b": torch.arange(4),
        "step": torch.tensor(7.0),
    }


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "new" / "folder" / "checkpoint.safetensors"
    save(
        path, Checkpoint(_tensors(), {"a.weight/exp_avg": torch.ones(3, 5)}, {"words": ["ü", None, 0.1, {}]})
    )
    return path


def _same(ours, theirs):
    assert ours.keys() == theirs.keys()
    for name in ours:
        assert ours[name].dtype == theirs[name].dtype
        assert torch.equal(ours[name], theirs[name])


def test_everything_comes_back(path):
    back = load(str(path))
    _same(back.weights, _tensors())
    _same(back.optimizer, {"a.weight/exp_avg": torch.ones(3, 5)})
    assert back.about == {"words": ["ü", None, 0.1, {}]}
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_shared_weights_are_written_once_and_come_back_under_each_name(tmp_path):
    table = torch.rand(100, 50)
    weights = {"embed": table, "logits": table, "a view": table[:50], "transposed": table.T}
    save(tmp_path / "c", Checkpoint(weights))
    _same(load(tmp_path / "c").weights, weights)
    assert (tmp_path / "c").stat().st_size < 4 * (5000 * 2 + 2500) + 2000


def test_empty_tensors(tmp_path):
    save(tmp_path / "c", Checkpoint({"a": torch.empty(0, 3), "b": torch.empty(0, 3)}))
    _same(load(tmp_path / "c").weights, {"a": torch.empty(0, 3), "b": torch.empty(0, 3)})


def test_missing(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no checkpoint"):
        load(tmp_path / "nothing")


@pytest.mark.parametrize("share", [0.0, 0.001, 0.1, 0.5, 0.9, 0.999])
def test_cut_short(path, share):
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(CheckpointError, match="not a whole safetensors file"):
        load(path)


@pytest.mark.parametrize(
    "content",
    [b"garbage" * 100, pickle.dumps({"model": 1}), b"\xff" * 64, (2**40).to_bytes(8, "little") + b"{}"],
)
def test_another_kind_of_file(tmp_path, content):
    (tmp_path / "c").write_bytes(content)
    with pytest.raises(CheckpointError, match="not a whole safetensors file"):
        load(tmp_path / "c")


def test_a_folder(tmp_path):
    with pytest.raises(CheckpointError):
        load(tmp_path)


@pytest.mark.parametrize(
    "metadata", [None, {"attn": "{"}, {"attn": "[]"}, {"attn": '{"format": 1}'}, {"format": "pt"}]
)
def test_somebody_elses_safetensors(tmp_path, metadata):
    save_file({"weight": torch.ones(2)}, tmp_path / "c", metadata=metadata)
    with pytest.raises(CheckpointError, match="not one of this course"):
        load(tmp_path / "c")


def test_a_newer_format(tmp_path):
    description = {"format": 99, "same_as": {}, "about": {}}
    save_file({}, tmp_path / "c", metadata={"attn": json.dumps(description)})
    with pytest.raises(CheckpointError, match="has format 99"):
        load(tmp_path / "c")


def test_loading_runs_no_code(tmp_path):
    """A pickle could; the file below would make a folder if anything unpickled it."""

    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "hacked"),)

    torch.save(Evil(), tmp_path / "c")
    with pytest.raises(CheckpointError):
        load(tmp_path / "c")
    assert not (tmp_path / "hacked").exists()


def test_a_full_disk_loses_nothing(path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    before = path.read_bytes()
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(CheckpointError, match=r"No space left on device.*untouched"):
        save(path, Checkpoint(_tensors(1)))
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_a_folder_that_cannot_be(path):
    with pytest.raises(CheckpointError, match="cannot write"):
        save(path / "below a file", Checkpoint(_tensors()))


def test_killed_in_the_middle_of_writing(tmp_path):
    """A process that writes 200 MB is killed when the first bytes are there: the old file must be whole."""
    path = tmp_path / "checkpoint.safetensors"
    save(path, Checkpoint(_tensors()))
    code = (
        "import sys, torch; from attn.training.checkpoint import Checkpoint, save\n"
        "save(sys.argv[1], Checkpoint({'big': torch.ones(50_000_000)}))"
    )
    writer = subprocess.Popen([sys.executable, "-c", code, str(path)])
    while writer.poll() is None and not any(file.stat().st_size for file in tmp_path.glob(".*.tmp")):
        time.sleep(0.0005)
    writer.send_signal(signal.SIGKILL)
    assert writer.wait() == -signal.SIGKILL, "the process was too fast to be killed while it wrote"
    _same(load(path).weights, _tensors())
    save(path, Checkpoint(_tensors(1)))
    _same(load(path).weights, _tensors(1))
