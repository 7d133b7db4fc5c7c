"""Translations come back in order, scores weigh tokens, and the model is left as it was."""

from math import log

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from attn.decoding import Decoded
from attn.rivals import Seq2Seq
from attn.tasks import load_task
from attn.training import (
    Checkpoint,
    CheckpointError,
    evaluate,
    evaluation,
    fit,
    load_translator,
    mean_loss,
    translate,
)
from attn.training.checkpoint import save
from attn.transformer import Transformer


@pytest.fixture(scope="module")
def task():
    return load_task("numbers", limit=100)


@pytest.fixture(scope="module")
def model(task):
    torch.manual_seed(0)
    size = {"d_model": 16, "n_heads": 2, "d_ff": 32, "n_encoder_layers": 1, "n_decoder_layers": 1}
    return Transformer(len(task.source), len(task.target), **size)


def _parrot(task):
    """A decoder that says the source, and a task whose target language is its source language."""
    echo = load_task("numbers", limit=100)
    echo.target = echo.source

    def decode(model, source, *, max_length, width=1):
        end = source.new_full((len(source), 1), 2)
        return Decoded(torch.cat([source.where(source != 0, 2), end], dim=1), torch.zeros(len(source)))

    return echo, decode


@given(
    st.lists(st.sampled_from(["one", "twenty one", "ninety", "", "forty two", "six"]), max_size=9),
    st.integers(1, 4),
)
def test_translations_keep_the_order(task, model, sentences, batch_size):
    echo, decode = _parrot(task)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluation, "greedy_decode", decode)
        assert translate(model, echo, sentences, batch_size=batch_size) == sentences


def test_neighbours_do_not_change_a_translation(task, model):
    sentences = [source for source, _ in task.train[:12]]
    together = translate(model, task, sentences, batch_size=5, max_length=9)
    assert together == [translate(model, task, [sentence], max_length=9)[0] for sentence in sentences]


def test_beam_is_passed_on(task, model, monkeypatch):
    echo, decode = _parrot(task)
    widths = []
    monkeypatch.setattr(
        evaluation, "beam_search", lambda *args, width, **more: widths.append(width) or decode(*args, **more)
    )
    assert translate(model, echo, ["six"], beam=3) == ["six"]
    assert widths == [3]


def test_evaluate_uses_the_tasks_own_measure(task, model, monkeypatch):
    echo, decode = _parrot(task)
    monkeypatch.setattr(evaluation, "greedy_decode", decode)
    pairs = [("six", "six"), ("forty two", "wrong"), ("ninety", "ninety"), ("one", "one")]
    assert evaluate(model, echo, pairs) == {"exact_match": 75.0}


@pytest.mark.parametrize("training", [True, False])
def test_the_model_keeps_its_mode(task, model, training):
    model.train(training)
    translate(model, task, ["six"], max_length=3)
    first = mean_loss(model, task, task.test)
    assert model.training == training
    assert mean_loss(model, task, task.test) == first, "dropout was on"


def test_equal_odds_cost_log_of_the_vocabulary(task):
    class EqualOdds(nn.Module):
        def __init__(self):
            super().__init__()
            self.zero = nn.Parameter(torch.zeros(len(task.target)))

        def forward(self, source, target):
            return self.zero.expand(*target.shape, -1)

    assert mean_loss(EqualOdds(), task, task.test) == pytest.approx(log(len(task.target)), rel=1e-6)


@pytest.mark.parametrize("batch_size", [1, 4, 100])
def test_the_loss_weighs_tokens_not_batches(task, model, batch_size):
    assert mean_loss(model, task, task.test, batch_size=batch_size) == pytest.approx(
        mean_loss(model, task, task.test, batch_size=7), rel=1e-5
    )


def test_bad_input(task, model):
    for name in ("beam", "max_length", "batch_size"):
        with pytest.raises(ValueError, match=f"{name} must be at least 1"):
            translate(model, task, ["six"], **{name: 0})
    with pytest.raises(ValueError, match="no sentence pairs"):
        evaluate(model, task, [])
    with pytest.raises(ValueError, match="no sentence pairs"):
        mean_loss(model, task, [])


def test_a_saved_translator_translates_alike_without_data(task, model, tmp_path):
    fit(model, task, steps=2, progress=False, checkpoint=tmp_path / "c")
    again, restored = load_translator(tmp_path / "c")
    sentences = [source for source, _ in task.test]
    assert not again.training
    assert restored.train == []
    wanted = translate(model, task, sentences, max_length=9)
    assert translate(again, restored, sentences, max_length=9) == wanted


@pytest.mark.parametrize("attention", [True, False])
def test_a_saved_recurrent_translator_too(task, attention, tmp_path):
    torch.manual_seed(0)
    sizes = {"d_embedding": 8, "d_hidden": 12, "attention": attention, "dropout": 0.1}
    model = Seq2Seq(len(task.source), len(task.target), **sizes)
    fit(model, task, steps=2, progress=False, checkpoint=tmp_path / "c")
    again, restored = load_translator(tmp_path / "c")
    assert isinstance(again, Seq2Seq)
    assert again.config == model.config
    sentences = [source for source, _ in task.test]
    for beam in (1, 3):
        wanted = translate(model, task, sentences, max_length=9, beam=beam)
        assert translate(again, restored, sentences, max_length=9, beam=beam) == wanted


def test_a_checkpoint_of_before_there_were_two_kinds_is_a_transformer(task, model, tmp_path):
    about = {"task": task.to_dict(), "model": model.config}
    save(tmp_path / "c", Checkpoint(dict(model.state_dict()), about=about))
    assert isinstance(load_translator(tmp_path / "c")[0], Transformer)


def test_a_model_of_a_kind_of_its_own_is_saved_and_cannot_be_rebuilt(task, tmp_path):
    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed = nn.Embedding(len(task.target), len(task.target))

        def forward(self, source, target):
            return self.embed(target)

    fit(Own(), task, steps=1, progress=False, checkpoint=tmp_path / "c")
    with pytest.raises(CheckpointError, match="none of Transformer, Seq2Seq"):
        load_translator(tmp_path / "c")


def test_a_checkpoint_of_something_else(tmp_path, task, model):
    about = {"task": task.to_dict(), "model": model.config}
    other = {**about, "architecture": "Seq2Seq"}
    for wrong in ({}, {**about, "model": None}, {**about, "task": {"task": "chess"}}, about, other):
        save(tmp_path / "c", Checkpoint({"a": torch.ones(1)}, about=wrong))
        with pytest.raises(CheckpointError, match="holds no translator"):
            load_translator(tmp_path / "c")
