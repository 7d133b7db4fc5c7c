"""What attention is compared with: shapes, blindness where it is promised, padding that changes nothing."""

from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from oracles import PROPERTY, close, different, gradients, normal, shaken
from torch import Tensor, nn
from torch.nn import functional as F

from attn.rivals import CNN, RNN, WindowMLP

BATCH, LENGTH, D_IN, D_OUT = 4, 7, 5, 6
LENGTHS = torch.tensor([3, 7, 1, 5])
MASK = torch.arange(LENGTH) < LENGTHS[:, None]

MAKERS: dict[str, Callable[[], nn.Module]] = {
    "window": lambda: WindowMLP(D_IN, D_OUT, 2, 11),
    "window of one": lambda: WindowMLP(D_IN, D_OUT, 0, 11),
    "lstm": lambda: RNN(D_IN, D_OUT),
    "gru, two layers": lambda: RNN(D_IN, D_OUT, cell="gru", layers=2),
    "rnn, one direction": lambda: RNN(D_IN, D_OUT, cell="rnn", bidirectional=False),
    "cnn": lambda: CNN(D_IN, D_OUT),
    "cnn, three wide layers": lambda: CNN(D_IN, D_OUT, width=5, layers=3),
}
every_rival = pytest.mark.parametrize("name", MAKERS)


def made(name: str) -> nn.Module:
    return shaken(MAKERS[name]())


@every_rival
def test_shapes_alike_and_zeros_at_padding(name: str) -> None:
    out = made(name)(normal(BATCH, LENGTH, D_IN), MASK)
    assert out.shape == (BATCH, LENGTH, D_OUT)
    assert (out[~MASK] == 0).all()
    assert different(out[MASK], torch.zeros_like(out[MASK]))


@every_rival
def test_no_mask_is_a_mask_that_allows_all(name: str) -> None:
    model, x = made(name), normal(BATCH, LENGTH, D_IN)
    close(model(x), model(x, torch.ones(BATCH, LENGTH, dtype=torch.bool)))


@every_rival
@pytest.mark.parametrize("garbage", [1e6, float("nan"), float("inf")])
def test_what_stands_in_the_padding_changes_nothing(name: str, garbage: float) -> None:
    model, x = made(name), normal(BATCH, LENGTH, D_IN)
    found = []
    for filler in (0.0, garbage):
        inputs = x.masked_fill(~MASK[..., None], filler).requires_grad_()
        out = model(inputs, MASK)
        found.append((out, gradients(out, {"x": inputs} | dict(model.named_parameters()))))
    close(found[1][0], found[0][0])
    for key, gradient in found[0][1].items():
        close(found[1][1][key], gradient)
    assert (found[0][1]["x"][~MASK] == 0).all()


@every_rival
@PROPERTY
@given(n_extra=st.integers(1, 6))
def test_more_padding_changes_nothing(name: str, n_extra: int) -> None:
    model, x = made(name), normal(BATCH, LENGTH, D_IN)
    longer = model(F.pad(x, (0, 0, 0, n_extra), value=9.0), F.pad(MASK, (0, n_extra)))
    close(longer[:, :LENGTH], model(x, MASK))
    assert (longer[:, LENGTH:] == 0).all()


@every_rival
def test_each_row_is_as_it_would_be_alone(name: str) -> None:
    model, x = made(name), normal(BATCH, LENGTH, D_IN)
    out = model(x, MASK)
    for row, length in enumerate(LENGTHS):
        close(out[row, :length], model(x[row : row + 1, :length])[0])


@every_rival
def test_a_row_without_vectors_gives_zeros_and_no_gradient(name: str) -> None:
    model, x = made(name), normal(BATCH, LENGTH, D_IN, grad=True)
    mask = MASK.clone()
    mask[1] = False
    out = model(x, mask)
    assert (out[1] == 0).all()
    found = gradients(out, {"x": x} | dict(model.named_parameters()))
    assert (found["x"][1] == 0).all()
    assert all(gradient.isfinite().all() for gradient in found.values())


@PROPERTY
@given(
    batch=st.integers(1, 4),
    length=st.integers(1, 6),
    radius=st.integers(0, 7),
    layers=st.integers(1, 3),
    half_width=st.integers(0, 4),
    cell=st.sampled_from(["lstm", "gru", "rnn"]),
    bidirectional=st.booleans(),
)
def test_any_shape(
    batch: int, length: int, radius: int, layers: int, half_width: int, cell: str, bidirectional: bool
) -> None:
    lengths = torch.arange(batch) % (length + 1)
    mask = torch.arange(length) < lengths[:, None]
    for model in (
        WindowMLP(3, 4, radius, 5),
        CNN(3, 4, width=2 * half_width + 1, layers=layers),
        RNN(3, 4, cell=cell, layers=layers, bidirectional=bidirectional),
    ):
        x = normal(batch, length, 3, dtype=torch.float32)
        assert model(x).shape == model(x, mask).shape == (batch, length, 4)


def reach(model: nn.Module, length: int, place: int) -> list[int]:
    """The places of the input that the output at `place` depends on."""
    x = normal(1, length, D_IN, grad=True)
    (gradient,) = torch.autograd.grad(model(x)[0, place].square().sum(), x)
    return gradient[0].abs().sum(dim=-1).nonzero().flatten().tolist()


@pytest.mark.parametrize("radius", [0, 1, 3])
def test_a_window_sees_its_neighbours_and_nothing_else(radius: int) -> None:
    model = shaken(WindowMLP(D_IN, D_OUT, radius, 50))
    for place in range(9):
        assert reach(model, 9, place) == [i for i in range(9) if abs(i - place) <= radius]


def test_a_window_by_hand() -> None:
    model, x = shaken(WindowMLP(D_IN, D_OUT, 1, 11)), normal(1, 4, D_IN)
    zero = torch.zeros(D_IN, dtype=x.dtype)
    for i in range(4):
        before, after = (x[0, i - 1] if i else zero), (x[0, i + 1] if i < 3 else zero)
        window = torch.cat([before, x[0, i], after])
        close(model(x)[0, i], model.output(model.hidden(window).clamp_min(0)))


@pytest.mark.parametrize("radius", [0, 1, 4])
def test_a_window_s_weights_grow_with_it(radius: int) -> None:
    count = sum(p.numel() for p in WindowMLP(D_IN, D_OUT, radius, 11).parameters())
    assert count == (2 * radius + 1) * D_IN * 11 + 11 + 11 * D_OUT + D_OUT


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
@pytest.mark.parametrize("bidirectional", [True, False])
def test_rnn_is_torch_s(cell: str, bidirectional: bool) -> None:
    ours = shaken(RNN(D_IN, D_OUT, cell=cell, bidirectional=bidirectional, layers=2))
    kind = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.RNN}[cell]
    d_state = D_OUT // 2 if bidirectional else D_OUT
    torchs = kind(D_IN, d_state, 2, batch_first=True, bidirectional=bidirectional).double()
    torchs.load_state_dict(ours.rnn.state_dict())
    x = normal(BATCH, LENGTH, D_IN)
    close(ours(x), torchs(x)[0])
    out = ours(x, MASK)
    for row, length in enumerate(LENGTHS):
        close(out[row, :length], torchs(x[row, :length])[0])


def test_one_direction_never_sees_the_future_and_two_see_all() -> None:
    assert reach(shaken(RNN(D_IN, D_OUT, bidirectional=False)), 6, 3) == [0, 1, 2, 3]
    assert reach(shaken(RNN(D_IN, D_OUT)), 6, 3) == list(range(6))


def test_a_cnn_sees_as_far_as_its_layers_say() -> None:
    for layers, width in ((1, 3), (2, 3), (2, 5)):
        radius = layers * (width // 2)
        seen = reach(shaken(CNN(D_IN, 40, width=width, layers=layers)), 11, 5)
        assert seen == [i for i in range(11) if abs(i - 5) <= radius]


def test_a_cnn_is_a_window_with_the_same_weights_everywhere() -> None:
    model, x = shaken(CNN(D_IN, D_OUT)), normal(1, 4, D_IN)
    kernel, bias = model.convolutions[0].weight, model.convolutions[0].bias
    edged = F.pad(x[0], (0, 0, 1, 1))

    def at(i: int) -> Tensor:
        return (torch.einsum("oiw,wi->o", kernel, edged[i : i + 3]) + bias).clamp_min(0)

    close(model(x)[0], torch.stack([at(i) for i in range(4)]))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: WindowMLP(3, 4, -1, 5), "radius is a number of neighbours, got -1"),
        (lambda: RNN(3, 5), "must be even, got 5"),
        (lambda: RNN(3, 4, layers=0), "layers must be at least 1, got 0"),
        (lambda: CNN(3, 4, width=2), "width must be odd"),
        (lambda: CNN(3, 4, layers=0), "layers must be at least 1, got 0"),
    ],
)
def test_errors(make: Callable[[], nn.Module], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
