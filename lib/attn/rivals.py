"""Rivals: what attention is compared with.

`WindowMLP`, `RNN` and `CNN` turn a sequence of vectors into one of the same length. They have
`forward(x, mask=None)`: x (batch, length, d_in) gives (batch, length, d_out). The mask (batch, length) is
True at real vectors, which come first in their row; the rest is padding. `Seq2Seq` is the rival of the whole
Transformer: tokens in, logits out.

Whatever stands in the padding, and however much of it there is, changes no output at a real place and gets
no gradient.
"""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from attn import masks
from attn.core import attend
from attn.recurrence import Cell
from attn.scores import Additive
from attn.watching import Watchable


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
        batch, length, _ = x.shape
        if batch == 0:  # torch packs no empty batch
            return self.rnn(x)[0]
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


@dataclass
class RecurrentCache:
    """What a `Seq2Seq` keeps between decoding steps.

    state: the decoder's state (batch, d_hidden), which every step replaces.
    keys: the memory's, projected once, (batch, source_length, d_hidden); None without attention.
    """

    state: Tensor
    keys: Tensor | None = None

    def reorder_beams(self, rows: Int[Tensor, " rows"]) -> None:
        """Keep these rows of the state, in this order. No row may leave its sentence: the keys stay."""
        self.state = self.state[rows]


class AttentiveGRU(Watchable):
    """A GRU that looks back before each of its steps, with the state it has (Bahdanau et al. 2015, section
    3.1).

        c_i = attend(s_(i-1), memory)        s_i = GRU(s_(i-1), [x_i; c_i])

    The score is additive (appendix A.1.2): `score` is an `Additive` and `cell` a `nn.GRUCell`.
    """

    def __init__(self, d_in: int, d_hidden: int, d_memory: int):
        super().__init__()
        self.score = Additive(d_hidden, d_memory, d_hidden)
        self.cell = nn.GRUCell(d_in + d_memory, d_hidden)

    def forward(
        self,
        x: Float[Tensor, "batch length d_in"],
        memory: Float[Tensor, "batch keys d_memory"],
        mask: Bool[Tensor, "#batch 1 keys"],
        state: Float[Tensor, "batch d_hidden"],
        keys: Float[Tensor, "batch keys d_hidden"] | None = None,
        *,
        need_weights: bool = False,
    ) -> tuple[Float[Tensor, "batch length d_out"], Float[Tensor, "batch 1 length keys"] | None]:
        """[s_i; c_i] for each x_i, d_out = d_hidden + d_memory, and the weights of all steps.

        `state` is s_0, the state before the first step. `mask` says which of the memory's vectors are real.
        `keys`: the memory through `score.W_k`, where the caller has them already.
        """
        cell, d_in = self.cell, x.size(-1)
        if keys is None:
            keys = self.score.W_k(memory)
        # The gates' inputs are sums over x_i, c_i and s_(i-1); the first is known for all steps at once.
        from_x, W_c = cell.weight_ih[:, :d_in], cell.weight_ih[:, d_in:]
        gates_of_x = F.linear(x, from_x, cell.bias_ih).unbind(dim=1)
        outputs, alignment = [], []
        for gates in gates_of_x:
            context, weights = attend(
                state[:, None],
                keys,
                memory,
                score=self.score.of_projected_keys,
                mask=mask,
                need_weights=need_weights,
            )
            context = context.squeeze(1)
            reset, update, new = (gates + F.linear(context, W_c)).chunk(3, dim=-1)
            reset_s, update_s, new_s = F.linear(state, cell.weight_hh, cell.bias_hh).chunk(3, dim=-1)
            reset, update = torch.sigmoid(reset + reset_s), torch.sigmoid(update + update_s)
            new = torch.tanh(new + reset * new_s)
            state = new + update * (state - new)
            outputs.append(torch.cat([state, context], dim=-1))
            if weights is not None:
                alignment.append(weights)
        return torch.stack(outputs, dim=1), torch.stack(alignment, dim=2) if need_weights else None


class Seq2Seq(nn.Module):
    """The recurrent encoder-decoder, token ids in and logits of the next target token out, with attention
    (Bahdanau et al. 2015, section 3 and appendix A) or with one fixed vector between its halves.

    A bidirectional GRU reads the source; its states, both directions side by side, are the annotations h_j.
    A second GRU writes the target: at each step it is given the token before and a context c_i.

    - With `attention` c_i is the sum of the annotations, weighed by how well each fits the state before the
      step (equations 5 and 6). The first state is tanh(W h), of the backward state h at the first word
      (appendix A.2.2).
    - Without it c_i is the same vector at every step, c = tanh(W [last forward state; last backward state]),
      `d_fixed` wide, and the first state is computed from c too, so that nothing else of the source reaches
      the decoder (Cho et al. 2014, section 2.2; Sutskever et al. 2014 hand it over once, as the first state).

    Arguments, with the paper's sizes as defaults:
      source_vocabulary, target_vocabulary: numbers of tokens.
      d_embedding: width of a token's vector.
      d_hidden: width of one direction of the encoder, of the decoder, of the score and of the output layer.
      d_fixed: width of the fixed vector, only without attention. None: 2 d_hidden, that of an annotation.
      dropout: of the embeddings and before the logits, never along the recurrence. The paper has none.
      pad, bos, eos: ids of padding, of the token that begins a target and of the one that ends it.

    Departures from the paper: the GRU is torch's, whose reset gate comes after the product with the state,
    and whose update gate says how much of the old state stays (the paper's: how much goes). The output layer
    has tanh units over [s_i; c_i; y_(i-1)], as equation 4 names them, where appendix A.2.2 has maxout units
    over the state before. Weights start as torch starts them.

    Errors: ValueError for a width below 1, a d_fixed beside attention, a dropout that is no probability.
    """

    def __init__(
        self,
        source_vocabulary: int,
        target_vocabulary: int,
        *,
        d_embedding: int = 620,
        d_hidden: int = 1000,
        attention: bool = True,
        d_fixed: int | None = None,
        dropout: float = 0.0,
        pad: int = 0,
        bos: int = 1,
        eos: int = 2,
    ):
        super().__init__()
        self.config: dict[str, Any] = {
            "source_vocabulary": source_vocabulary,
            "target_vocabulary": target_vocabulary,
            "d_embedding": d_embedding,
            "d_hidden": d_hidden,
            "attention": attention,
            "d_fixed": d_fixed,
            "dropout": dropout,
            "pad": pad,
            "bos": bos,
            "eos": eos,
        }
        for name in ("source_vocabulary", "target_vocabulary", "d_embedding", "d_hidden", "d_fixed"):
            if self.config[name] is not None and self.config[name] < 1:
                raise ValueError(f"{name} must be at least 1, got {self.config[name]}")
        if attention and d_fixed is not None:
            raise ValueError(
                f"d_fixed={d_fixed} is the width of the fixed vector: it needs attention=False, which has one"
            )
        self.pad, self.bos, self.eos = pad, bos, eos
        self.d_hidden, self.attention = d_hidden, attention
        self.dropout = nn.Dropout(dropout)
        self.embed_source = nn.Embedding(source_vocabulary, d_embedding)
        self.embed_target = nn.Embedding(target_vocabulary, d_embedding)
        self.encoder = RNN(d_embedding, 2 * d_hidden, cell="gru")
        d_context = 2 * d_hidden if d_fixed is None else d_fixed
        if attention:
            self.to_start = nn.Linear(d_hidden, d_hidden)
            self.decoder: AttentiveGRU | nn.GRU = AttentiveGRU(d_embedding, d_hidden, d_context)
        else:
            self.to_fixed = nn.Linear(2 * d_hidden, d_context)
            self.to_start = nn.Linear(d_context, d_hidden)
            self.decoder = nn.GRU(d_embedding + d_context, d_hidden, batch_first=True)
        self.to_hidden = nn.Linear(d_hidden + d_context + d_embedding, d_hidden)
        self.to_logits = nn.Linear(d_hidden, target_vocabulary, bias=False)

    def forward(
        self, source: Int[Tensor, "batch source_length"], target: Int[Tensor, "batch target_length"]
    ) -> Float[Tensor, "batch target_length vocabulary"]:
        """Logits of the token after each target token, given the true ones before it (teacher forcing). Both
        are padded with `pad` on the right.
        """
        return self.decode(target, self.encode(source), masks.padding(source, self.pad))

    def encode(
        self, source: Int[Tensor, "batch source_length"]
    ) -> Float[Tensor, "batch memory_length d_memory"]:
        """The memory: with attention the annotations, one for each source token and zeros at padding
        (d_memory = 2 d_hidden); without it the fixed vector, alone (memory_length = 1, d_memory = d_fixed).

        Errors: ValueError for padding before a token.
        """
        real = source != self.pad
        if (real[:, 1:] & ~real[:, :-1]).any():
            raise ValueError(
                f"a source has padding ({self.pad}) before a token, but a recurrent network reads in order: "
                f"put all padding on the right"
            )
        annotations = self.encoder(self.dropout(self.embed_source(source)), real)
        if self.attention:
            return annotations
        rows = torch.arange(len(source), device=source.device)
        last = real.sum(dim=1) - 1  # -1 in a row without tokens, whose annotations are zeros everywhere
        ends = annotations[rows, last, : self.d_hidden], annotations[:, 0, self.d_hidden :]
        return torch.tanh(self.to_fixed(torch.cat(ends, dim=-1)))[:, None]

    def decode(
        self,
        target: Int[Tensor, "batch target_length"],
        memory: Float[Tensor, "batch memory_length d_memory"],
        memory_mask: Bool[Tensor, "#batch 1 1 source_length"],
        *,
        caches: list[RecurrentCache] | None = None,
    ) -> Float[Tensor, "batch target_length vocabulary"]:
        """Logits after each target token. With `caches` (from `start_caches`), `target` holds only the
        newest tokens. A fixed vector needs no mask, and ignores it.
        """
        [cache] = self.start_caches(memory) if caches is None else caches
        x = self.dropout(self.embed_target(target))
        if self.attention:
            states_and_contexts, _ = self.decoder(x, memory, memory_mask[:, 0], cache.state, cache.keys)
        else:
            context = memory.expand(-1, x.size(1), -1)
            states, _ = self.decoder(torch.cat([x, context], dim=-1), cache.state[None])
            states_and_contexts = torch.cat([states, context], dim=-1)
        cache.state = states_and_contexts[:, -1, : self.d_hidden].contiguous()
        hidden = torch.tanh(self.to_hidden(torch.cat([states_and_contexts, x], dim=-1)))
        return self.to_logits(self.dropout(hidden))

    def start_caches(self, memory: Float[Tensor, "batch memory_length d_memory"]) -> list[RecurrentCache]:
        """The decoder's cache before its first step; a list of one, where a Transformer has one per layer."""
        if not isinstance(self.decoder, AttentiveGRU):
            return [RecurrentCache(torch.tanh(self.to_start(memory[:, 0])))]
        state = torch.tanh(self.to_start(memory[:, 0, self.d_hidden :]))
        return [RecurrentCache(state, self.decoder.score.W_k(memory))]

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return self.to_logits.weight.device


def _without_padding(x: Tensor, mask: Tensor | None) -> Tensor:
    # masked_fill rather than a product: padding may hold NaN.
    return x if mask is None else x.masked_fill(~mask[..., None], 0.0)
