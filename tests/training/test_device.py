"""Devices: the fastest one by default, a clear word for one that is not here."""

import pytest
import torch

from attn.training import autocast, pick_device

CPU = torch.device("cpu")


@pytest.fixture
def _only_a_cpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)


@pytest.mark.usefixtures("_only_a_cpu")
@pytest.mark.parametrize("name", [None, "auto", "cpu"])
def test_a_machine_with_a_cpu(name):
    assert pick_device(name) == CPU


@pytest.mark.parametrize(("cuda", "mps", "best"), [(True, True, "cuda"), (False, True, "mps")])
def test_the_fastest_is_taken(monkeypatch, cuda, mps, best):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    assert pick_device().type == best
    assert pick_device("cpu") == CPU


def test_more_processes_than_cards(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert pick_device("cuda:1").index == 1
    with pytest.raises(ValueError, match="has 2 CUDA"):
        pick_device("cuda:2")


@pytest.mark.usefixtures("_only_a_cpu")
@pytest.mark.parametrize("name", ["cuda", "cuda:1", "mps", "gpu", "", "xla"])
def test_a_device_that_is_not_here(name):
    with pytest.raises(ValueError, match="this machine has: cpu"):
        pick_device(name)


def test_bf16_multiplies_in_bf16_and_leaves_the_weights_alone():
    layer = torch.nn.Linear(3, 4)
    with autocast(CPU, "bf16"):
        assert layer(torch.ones(2, 3)).dtype == torch.bfloat16
    assert layer.weight.dtype == torch.float32
    with autocast(CPU):
        assert layer(torch.ones(2, 3)).dtype == torch.float32


def test_unknown_precision():
    with pytest.raises((ValueError, TypeError), match="fp16"):
        autocast(CPU, "fp16")
