"""The loss: right by hand, blind to padding, a sum that can be added up."""

from math import exp, log

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from attn.training import token_loss

# Two sentences of 3 and 1 real tokens over a vocabulary of 4; 0 is padding.
TARGET = torch.tensor([[3, 1, 2], [2, 0, 0]])


def _logits(seed: int = 0) -> torch.Tensor:
    return torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_by_hand():
    logits = torch.tensor([[[0.0, 1.0, 2.0, 3.0], [9.0, 9.0, 9.0, 9.0]]])  # the second position is padding
    loss, tokens = token_loss(logits, torch.tensor([[2, 0]]))
    assert tokens == 1
    assert loss.item() == pytest.approx(log(1 + exp(1) + exp(2) + exp(3)) - 2, abs=1e-6)


def test_label_smoothing_by_hand():
    logits, target = _logits(), TARGET
    log_p = logits - logits.exp().sum(-1, keepdim=True).log()
    wanted = 0.0
    for b, t in [(0, 0), (0, 1), (0, 2), (1, 0)]:
        wanted -= 0.9 * log_p[b, t, target[b, t]] + 0.1 * log_p[b, t].mean()
    loss, tokens = token_loss(logits, target, label_smoothing=0.1)
    assert tokens == 4
    torch.testing.assert_close(loss, wanted, rtol=1e-12, atol=1e-12)


def test_equal_odds_cost_log_of_the_vocabulary():
    loss, tokens = token_loss(torch.zeros(2, 3, 4), TARGET)
    assert (loss / tokens).item() == pytest.approx(log(4))


@given(st.integers(0, 100), st.sampled_from([0.0, 0.1]))
def test_padding_neither_counts_nor_learns(seed, smoothing):
    logits = _logits(seed).requires_grad_()
    elsewhere = torch.where((TARGET == 0)[..., None], torch.full_like(logits, 50.0), logits)
    loss, _ = token_loss(logits, TARGET, label_smoothing=smoothing)
    same, _ = token_loss(elsewhere, TARGET, label_smoothing=smoothing)
    assert loss.item() == same.item()
    [gradient] = torch.autograd.grad(loss, logits)
    assert (gradient[TARGET == 0] == 0).all()
    assert (gradient[TARGET != 0] != 0).any(-1).all()


def test_parts_add_up_to_the_whole():
    logits = _logits()
    whole = torch.stack(token_loss(logits, TARGET))
    parts = torch.stack(token_loss(logits[:1], TARGET[:1])) + torch.stack(token_loss(logits[1:], TARGET[1:]))
    torch.testing.assert_close(whole, parts)


def test_another_padding_id():
    logits = _logits()
    ours = token_loss(logits, TARGET)
    theirs = token_loss(logits, TARGET.where(TARGET != 0, -1), pad=-1)
    assert [x.item() for x in ours] == [x.item() for x in theirs]


def test_nothing_but_padding_is_zero_not_nan():
    loss, tokens = token_loss(_logits(), torch.zeros_like(TARGET))
    assert loss == 0
    assert tokens == 0


def test_sixteen_bits_are_added_up_in_thirty_two():
    logits, target = torch.zeros(64, 50, 100, dtype=torch.bfloat16), torch.ones(64, 50, dtype=torch.long)
    loss, tokens = token_loss(logits, target)
    assert (loss / tokens).item() == pytest.approx(log(100), rel=1e-5)


@pytest.mark.parametrize("smoothing", [-0.1, 1, 1.5])
def test_impossible_smoothing(smoothing):
    with pytest.raises(ValueError, match="label_smoothing must be"):
        token_loss(_logits(), TARGET, label_smoothing=smoothing)


def test_forgotten_shift_is_an_error():
    with pytest.raises(ValueError, match=r"feed the model target\[:, :-1\]"):
        token_loss(_logits()[:, :2], TARGET)
