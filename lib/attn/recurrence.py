"""Recurrent networks written out, one step after the other, so that each step is there to be seen.

torch's own (`nn.RNN`, `nn.LSTM`, `nn.GRU`) run the whole sequence in one call, which hides the chain of steps
from autograd's graph and from `torch.func.vmap`. These give the same numbers; use torch's where speed counts.
"""

import math
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

Cell = Literal["rnn", "lstm", "gru"]
_GATES = {"rnn": 1, "lstm": 4, "gru": 3}


class Recurrence(nn.Module):
    """One recurrent layer in one direction: each state is computed from the state before it and one input.

        rnn    h_t = tanh(x_t W + h_(t-1) U + b)
        lstm   c_t = f_t c_(t-1) + i_t g_t,   h_t = o_t tanh(c_t)
        gru    h_t = z_t h_(t-1) + (1 - z_t) n_t

    Sources: Elman 1990; Hochreiter and Schmidhuber 1997, with the forget gate of Gers et al. 2000; Cho et al.
    2014, section 2.3.

    The gates i, f, o, r, z are sigmoids, g and n are tanh, of products with x_t and h_(t-1); the details are
    those of torch's modules, whose parameters it has, without the suffix "_l0": weight_ih (gates d_hidden,
    d_in), weight_hh (gates d_hidden, d_hidden), bias_ih and bias_hh.

    Weights start as torch starts them, but for the bias of the LSTM's forget gate, which starts at
    `forget_bias` (1: Gers et al. 2000; Jozefowicz et al. 2015), so that at first most of the memory is kept.

    Errors: ValueError for another cell or a width below 1.
    """

    def __init__(self, d_in: int, d_hidden: int, cell: Cell = "rnn", *, forget_bias: float = 1.0):
        super().__init__()
        if cell not in _GATES:
            raise ValueError(f"cell must be one of {', '.join(_GATES)}, got {cell!r}")
        if d_in < 1 or d_hidden < 1:
            raise ValueError(f"widths must be at least 1, got d_in={d_in}, d_hidden={d_hidden}")
        self.cell, self.d_hidden = cell, d_hidden
        rows = _GATES[cell] * d_hidden
        self.weight_ih = nn.Parameter(torch.empty(rows, d_in))
        self.weight_hh = nn.Parameter(torch.empty(rows, d_hidden))
        self.bias_ih = nn.Parameter(torch.empty(rows))
        self.bias_hh = nn.Parameter(torch.empty(rows))
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -1 / math.sqrt(d_hidden), 1 / math.sqrt(d_hidden))
        if cell == "lstm":
            with torch.no_grad():
                self.bias_ih[d_hidden : 2 * d_hidden] = forget_bias
                self.bias_hh[d_hidden : 2 * d_hidden] = 0.0

    def forward(self, x: Float[Tensor, "batch length d_in"]) -> Float[Tensor, "batch length d_hidden"]:
        """The states h_1 ... h_length, in the order of the input; h_0 is a state of zeros."""
        from_input = F.linear(x, self.weight_ih, self.bias_ih).unbind(dim=1)  # no step waits for this
        h = c = x.new_zeros(x.size(0), self.d_hidden)
        states = []
        for now in from_input:
            before = F.linear(h, self.weight_hh, self.bias_hh)  # this waits for the step before
            if self.cell == "rnn":
                h = torch.tanh(now + before)
            elif self.cell == "lstm":
                i_and_f, g, o = (now + before).split(
                    (2 * self.d_hidden, self.d_hidden, self.d_hidden), dim=-1
                )
                i, f = torch.sigmoid(i_and_f).chunk(2, dim=-1)
                c = f * c + i * torch.tanh(g)
                h = torch.sigmoid(o) * torch.tanh(c)
            else:
                r_now, z_now, n_now = now.chunk(3, dim=-1)
                r_before, z_before, n_before = before.chunk(3, dim=-1)
                z = torch.sigmoid(z_now + z_before)
                n = torch.tanh(n_now + torch.sigmoid(r_now + r_before) * n_before)
                h = z * h + (1 - z) * n
            states.append(h)
        return torch.stack(states, dim=1)


def linear_loop(
    decay: Float[Tensor, "*batch length d"], x: Float[Tensor, "*batch length d"]
) -> Float[Tensor, "*batch length d"]:
    """h_t = decay_t h_(t-1) + x_t from h_0 = 0, entry by entry, one step after the other: all the states."""
    h = torch.zeros_like(x[..., 0, :])
    states = []
    for a, b in zip(decay.unbind(dim=-2), x.unbind(dim=-2), strict=True):
        h = a * h + b
        states.append(h)
    return torch.stack(states, dim=-2)


def linear_scan(
    decay: Float[Tensor, "*batch length d"], x: Float[Tensor, "*batch length d"]
) -> Float[Tensor, "*batch length d"]:
    """The same states as `linear_loop` in about log2(length) steps (Hillis and Steele 1986; Blelloch 1990).

    "Multiply by a, add b" twice is once more of that form: (a, b) and then (a', b') is (a' a, a' b + b'). So
    every place can first take in its neighbour, then the pair two places before, then four, ... The work
    grows to length · log2(length), which is what the short chain costs.
    """
    step, length = 1, x.size(-2)
    while step < length:
        earlier_x = F.pad(x[..., :-step, :], (0, 0, step, 0))
        earlier_decay = F.pad(decay[..., :-step, :], (0, 0, step, 0))
        x = decay * earlier_x + x
        decay = decay * earlier_decay
        step *= 2
    return x
