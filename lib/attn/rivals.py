"""Rivals: what attention is compared with. Each turns a sequence of vectors into one of the same length.

All have `forward(x, mask=None)`: x (batch, length, d_in) gives (batch, length, d_out). The mask (batch,
length) is True at real vectors, which come first in their row; the rest is padding. Whatever stands in the
padding, and however much of it there is, changes no output at a real vector and gets no gradient.
"""

from typing import Literal

from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

Cell = Literal["lstm", "gru", "rnn"]


class WindowMLP(nn.Module):
    """One hidden layer over each vector and its neighbours, `radius` of them on each side, concatenated.

    Zeros stand beyond the edges. The weights of its first layer grow with the window, (2 radius + 1) d_in
    d_hidden, and nothing outside of the window is seen. The output is 0 at padding.

    Errors: ValueError for a negative radius.
    """

    def __init__(self, d_in: int, d_out: int, radius: int, d_hidden: int):
        super().__init__()
        if radius < 0:
            raise ValueError(f"radius is a number of neighbours, got {radius}")
        self.radius = radius
        self.hidden = nn.Linear((2 * radius + 1) * d_in, d_hidden)
        self.output = nn.Linear(d_hidden, d_out)

    def forward(
        self, x: Float[Tensor, "batch length d_in"], mask: Bool[Tensor, "batch length"] | None = None
    ) -> Float[Tensor, "batch length d_out"]:
        length = x.size(1)
        padded = F.pad(_without_padding(x, mask), (0, 0, self.radius, self.radius))
        # (batch, length, d_in, width): at each place its window, which is then written as one long vector
        windows = padded.unfold(1, 2 * self.radius + 1, 1)[:, :length]
        side_by_side = windows.transpose(2, 3).flatten(2)
        return _without_padding(self.output(F.relu(self.hidden(side_by_side))), mask)


class RNN(nn.Module):
    """A recurrent network over the real vectors: torch's `LSTM` (Hochreiter and Schmidhuber 1997), `GRU` (Cho
    et al. 2014) or plain `RNN` (Elman 1990).

    `d_out` counts both directions together where it is bidirectional (Schuster and Paliwal 1997): each then
    has d_out / 2 of it. The output is 0 at padding.

    Errors: ValueError for another cell, less than one layer, or an odd d_out for two directions.
    """

    def __init__(
        self, d_in: int, d_out: int, *, cell: Cell = "lstm", bidirectional: bool = True, layers: int = 1
    ):
        super().__init__()
        cells = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.RNN}
        if cell not in cells:
            raise ValueError(f"cell must be one of {', '.join(cells)}, got {cell!r}")
        if layers < 1:
            raise ValueError(f"layers must be at least 1, got {layers}")
        if bidirectional and d_out % 2:
            raise ValueError(f"d_out is shared by two directions, so it must be even, got {d_out}")
        d_state = d_out // 2 if bidirectional else d_out
        self.rnn = cells[cell](d_in, d_state, layers, batch_first=True, bidirectional=bidirectional)

    def forward(
        self, x: Float[Tensor, "batch length d_in"], mask: Bool[Tensor, "batch length"] | None = None
    ) -> Float[Tensor, "batch length d_out"]:
        if mask is None:
            return self.rnn(x)[0]
        length = x.size(1)
        # A row without real vectors cannot be packed: it runs over one zero vector, and gives zeros below.
        lengths = mask.sum(dim=1).clamp_min(1).cpu()
        packed = pack_padded_sequence(
            _without_padding(x, mask), lengths, batch_first=True, enforce_sorted=False
        )
        out, _ = pad_packed_sequence(self.rnn(packed)[0], batch_first=True, total_length=length)
        return _without_padding(out, mask)


class CNN(nn.Module):
    """Convolutions along the sequence, ReLU after each; zeros beyond the edges keep the length.

    `width` is how many neighbouring vectors each output of one layer sees; `layers` of them see
    1 + layers (width - 1). The output is 0 at padding.

    Errors: ValueError for an even width, which has no middle, or less than one layer.
    """

    def __init__(self, d_in: int, d_out: int, *, width: int = 3, layers: int = 1):
        super().__init__()
        if width < 1 or width % 2 == 0:
            raise ValueError(f"width must be odd, so that a window has a middle, got {width}")
        if layers < 1:
            raise ValueError(f"layers must be at least 1, got {layers}")
        self.convolutions = nn.ModuleList(
            nn.Conv1d(d_in if i == 0 else d_out, d_out, width, padding=width // 2) for i in range(layers)
        )

    def forward(
        self, x: Float[Tensor, "batch length d_in"], mask: Bool[Tensor, "batch length"] | None = None
    ) -> Float[Tensor, "batch length d_out"]:
        x = _without_padding(x, mask)
        for convolution in self.convolutions:
            # Padding is emptied after each layer: its outputs are not 0, and would leak into the next one.
            x = _without_padding(F.relu(convolution(x.transpose(1, 2)).transpose(1, 2)), mask)
        return x


def _without_padding(x: Tensor, mask: Tensor | None) -> Tensor:
    # masked_fill rather than a product: padding may hold NaN.
    return x if mask is None else x.masked_fill(~mask[..., None], 0.0)
