"""Recurrences written out: equal to torch's, causal, and the linear one a scan."""

import pytest
import torch
from jaxtyping import TypeCheckError
from oracles import close, normal
from torch import nn

from attn.recurrence import Recurrence, linear_loop, linear_scan

STOCK = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}
every_cell = pytest.mark.parametrize("cell", STOCK)


def copied(cell: str) -> tuple[nn.Module, Recurrence]:
    torch.manual_seed(0)
    stock = STOCK[cell](3, 5, batch_first=True).double()
    ours = Recurrence(3, 5, cell).double()
    ours.load_state_dict({name.removesuffix("_l0"): weight for name, weight in stock.state_dict().items()})
    return stock, ours


@every_cell
def test_equals_torchs_with_copied_weights_and_so_do_the_gradients(cell: str) -> None:
    stock, ours = copied(cell)
    x = normal(4, 7, 3, seed=2)
    expected, got = stock(x)[0], ours(x)
    close(got, expected)
    into = normal(4, 7, 5)
    theirs = torch.autograd.grad((expected * into).sum(), list(stock.parameters()))
    mine = torch.autograd.grad((got * into).sum(), list(ours.parameters()))
    assert [name for name, _ in ours.named_parameters()] == [
        name.removesuffix("_l0") for name, _ in stock.named_parameters()
    ]
    for a, b in zip(theirs, mine, strict=True):
        close(a, b)


@every_cell
def test_a_state_knows_the_past_and_not_the_future(cell: str) -> None:
    _, ours = copied(cell)
    x = normal(2, 6, 3)
    other = x.clone()
    other[:, 3] += 1.0
    before, after = ours(x), ours(other)
    close(before[:, :3], after[:, :3])
    assert ((before[:, 3:] - after[:, 3:]).abs().amax(-1) > 1e-6).all()


def test_only_the_lstm_starts_with_a_forget_bias() -> None:
    forget = slice(5, 10)
    lstm = Recurrence(3, 5, "lstm")
    assert ((lstm.bias_ih + lstm.bias_hh)[forget] == 1.0).all()
    assert ((lstm.bias_ih + lstm.bias_hh)[:5] != 1.0).all()
    bold = Recurrence(3, 5, "lstm", forget_bias=-2.0)
    assert ((bold.bias_ih + bold.bias_hh)[forget] == -2.0).all()
    assert (Recurrence(3, 5, "gru").bias_ih.abs() < 5**-0.5).all()


def test_wrong_arguments_are_named() -> None:
    with pytest.raises((ValueError, TypeCheckError), match="elman"):
        Recurrence(3, 5, "elman")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="d_hidden=0"):
        Recurrence(3, 0)


def test_the_linear_recurrence_by_hand() -> None:
    decay, x = torch.tensor([[2.0], [3.0], [0.5]]), torch.tensor([[1.0], [10.0], [4.0]])
    assert linear_loop(decay, x).flatten().tolist() == [1.0, 13.0, 10.5]
    assert linear_scan(decay, x).flatten().tolist() == [1.0, 13.0, 10.5]


@pytest.mark.parametrize("length", [1, 2, 3, 8, 13, 100])
def test_the_scan_equals_the_loop(length: int) -> None:
    decay, x = normal(2, 3, length, 5).sigmoid(), normal(2, 3, length, 5, seed=1)
    close(linear_scan(decay, x), linear_loop(decay, x))


def test_the_scan_survives_a_forgotten_past() -> None:
    """A factor of 0 cuts the past off: no division may hide in the scan."""
    decay, x = normal(9, 2).sigmoid(), normal(9, 2, seed=1)
    decay[4] = 0.0
    close(linear_scan(decay, x), linear_loop(decay, x))
    close(linear_scan(decay, x)[4], x[4])
