"""Two processes under torchrun train as one does."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import distributed

from attn.training.checkpoint import load
from attn.training.distributed import Group, launched

pytestmark = pytest.mark.skipif(not distributed.is_available(), reason="this torch has no torch.distributed")

SCRIPT = str(Path(__file__).with_name("_train_together.py"))
TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]


def _run(*arguments, cwd=None):
    # Shape checks off: they cost seconds of start-up in each process, and other tests have them on.
    environment = os.environ | {"ATTN_CHECK_SHAPES": "0", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, *arguments], env=environment, cwd=cwd, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done


def test_two_processes_have_the_loss_curve_of_one(tmp_path):
    results = []
    for name, launcher in (("one", []), ("two", TORCHRUN)):
        (tmp_path / name).mkdir()
        _run(*launcher, SCRIPT, str(tmp_path / name))
        results.append(json.loads((tmp_path / name / "history.json").read_text()))
    one, two = results
    assert (one["size"], two["size"]) == (1, 2)
    assert one["steps"] == two["steps"]
    for quantity in ("losses", "validation", "weights"):
        np.testing.assert_allclose(two[quantity], one[quantity], rtol=1e-4, atol=1e-5)
    assert len(load(tmp_path / "two" / "c").about["history"]["steps"]) == 9


def test_attn_train_under_torchrun(tmp_path):
    tiny = ["--steps", "2", "--d-model", "16", "--layers", "1", "--heads", "2", "--device", "cpu"]
    done = _run(*TORCHRUN, "-m", "attn.cli", "train", "numbers", *tiny, cwd=tmp_path)
    assert "2 process(es)" in done.stdout
    assert done.stdout.count("next: attn translate") == 1, "every process spoke"
    assert (tmp_path / "runs" / "numbers" / "checkpoint.safetensors").exists()


@pytest.mark.parametrize("size", [1, 2, 3])
@pytest.mark.parametrize("rows", [1, 2, 7])
def test_every_row_is_somebodys_and_nobody_is_without_work(size, rows):
    batch = list(range(rows))
    taken = []
    for rank in range(size):
        mine, weight = Group(torch.device("cpu"), rank, size).rows(rows)
        assert batch[mine], "a process without rows would leave the others waiting"
        taken += batch[mine] * weight
    assert sorted(taken) == batch


def test_alone_without_torchrun(monkeypatch):
    monkeypatch.delenv("RANK", raising=False)
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert launched() == (0, 1)
    alone = Group(torch.device("cpu"))
    assert alone.is_first
    assert alone.sum(1.5, torch.tensor(2)).tolist() == [1.5, 2.0]
