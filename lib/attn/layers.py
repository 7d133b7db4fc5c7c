"""Layers: attention mixes the positions, the feed-forward network works on each alone, residuals carry both
through.
"""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from attn.core import attend
from attn.multihead import KeyValueCache, MultiHeadAttention

Norm = Literal["post", "pre"]
Activation = Callable[[Tensor], Tensor]


class FeedForward(nn.Module):
    """max(0, x W_1 + b_1) W_2 + b_2, on each position alone (Vaswani et al. 2017, equation 2).

    `dropout` is of the hidden activations: the paper has none here (`nn.TransformerEncoderLayer` has), so
    it is 0 by default.
    """

    def __init__(self, d_model: int, d_ff: int, *, activation: Activation = F.relu, dropout: float = 0.0):
        super().__init__()
        self.W_1 = nn.Linear(d_model, d_ff)
        self.W_2 = nn.Linear(d_ff, d_model)
        self.activation = activation
        self.dropout = nn.Dropout(dropout)
        for linear in (self.W_1, self.W_2):
            nn.init.xavier_uniform_(linear.weight)
            nn.init.zeros_(linear.bias)

    def forward(self, x: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_model"]:
        return self.W_2(self.dropout(self.activation(self.W_1(x))))


class Residual(nn.Module):
    """The frame around every sub-layer: residual connection, dropout of the sub-layer's output, LayerNorm.

    "post": LayerNorm(x + dropout(f(x))), as the paper prints it (Vaswani et al. 2017, sections 3.1 and 5.4).
    "pre": x + dropout(f(LayerNorm(x))), as its authors' later code and most models since have it (Xiong et
    al. 2020).

    Errors: ValueError for another `norm`.
    """

    def __init__(self, d_model: int, dropout: float, norm: Norm):
        super().__init__()
        if norm not in ("post", "pre"):
            raise ValueError(f'norm must be "post" or "pre", got {norm!r}')
        self.layer_norm = nn.LayerNorm(d_model)
        self.dropout = nn.Dropout(dropout)
        self.norm = norm

    def forward(
        self, x: Float[Tensor, "*batch d_model"], sublayer: Callable[[Tensor], Tensor]
    ) -> Float[Tensor, "*batch d_model"]:
        if self.norm == "pre":
            return x + self.dropout(sublayer(self.layer_norm(x)))
        return self.layer_norm(x + self.dropout(sublayer(x)))


class EncoderLayer(nn.Module):
    """Self-attention, then feed-forward, each in a residual frame (Vaswani et al. 2017, section 3.1).

    Arguments:
      dropout: of each sub-layer's output before it is added (the paper's P_drop).
      attention_dropout, activation_dropout: of the attention weights and of the feed-forward's hidden
        units. The paper has neither; torch.nn has both.
      attention: further arguments of the self-attention, such as {"score": Rotary()}.
    """

    def __init__(
        self,
        d_model: int,
        n_heads: int,
        d_ff: int,
        dropout: float = 0.1,
        norm: Norm = "post",
        *,
        activation: Activation = F.relu,
        attention_dropout: float = 0.0,
        activation_dropout: float = 0.0,
        attention: dict[str, Any] | None = None,
    ):
        super().__init__()
        self.self_attention = MultiHeadAttention(
            d_model, n_heads, dropout=attention_dropout, **(attention or {})
        )
        self.feed_forward = FeedForward(d_model, d_ff, activation=activation, dropout=activation_dropout)
        self.around_self_attention = Residual(d_model, dropout, norm)
        self.around_feed_forward = Residual(d_model, dropout, norm)

    def forward(
        self,
        x: Float[Tensor, "*batch length d_model"],
        mask: Bool[Tensor, "*axes"] | None = None,
        *,
        causal: bool = False,
    ) -> Float[Tensor, "*batch length d_model"]:
        """`mask` as in `MultiHeadAttention`. `causal` makes it the layer of a decoder-only model."""
        x = self.around_self_attention(
            x, lambda x: self.self_attention(x, mask=mask, causal=causal, need_weights=False)[0]
        )
        return self.around_feed_forward(x, self.feed_forward)


class DecoderCache(NamedTuple):
    """What one decoder layer keeps between decoding steps: its own keys and values, which grow, and the
    memory's, projected once.
    """

    self_attention: KeyValueCache
    cross_attention: KeyValueCache

    def reorder(self, rows: Int[Tensor, " rows"]) -> None:
        """Keep these rows of the batch, in this order."""
        self.self_attention.reorder(rows)
        self.cross_attention.reorder(rows)

    def reorder_beams(self, rows: Int[Tensor, " rows"]) -> None:
        """The same where no row leaves its sentence, as in beam search: the memory's keys and values are then
        alike, and stay in place.
        """
        self.self_attention.reorder(rows)


class DecoderLayer(nn.Module):
    """Masked self-attention, attention to the encoder's output, feed-forward (Vaswani et al. 2017, section
    3.1).

    The self-attention is causal in training and in evaluation alike. Arguments as in `EncoderLayer`.
    """

    def __init__(
        self,
        d_model: int,
        n_heads: int,
        d_ff: int,
        dropout: float = 0.1,
        norm: Norm = "post",
        *,
        activation: Activation = F.relu,
        attention_dropout: float = 0.0,
        activation_dropout: float = 0.0,
        attention: dict[str, Any] | None = None,
    ):
        super().__init__()
        self.self_attention = MultiHeadAttention(
            d_model, n_heads, dropout=attention_dropout, **(attention or {})
        )
        self.cross_attention = MultiHeadAttention(d_model, n_heads, dropout=attention_dropout)
        self.feed_forward = FeedForward(d_model, d_ff, activation=activation, dropout=activation_dropout)
        self.around_self_attention = Residual(d_model, dropout, norm)
        self.around_cross_attention = Residual(d_model, dropout, norm)
        self.around_feed_forward = Residual(d_model, dropout, norm)

    def forward(
        self,
        x: Float[Tensor, "*batch length d_model"],
        memory: Float[Tensor, "*batch memory_length d_model"],
        mask: Bool[Tensor, "*axes"] | None = None,
        memory_mask: Bool[Tensor, "*axes2"] | None = None,
        *,
        cache: DecoderCache | None = None,
    ) -> Float[Tensor, "*batch length d_model"]:
        """`mask` says which earlier targets may be seen (the future never is), `memory_mask` which memory
        vectors.

        With a `cache` from `start_cache`, x holds only the newest positions.
        """
        own, cross = (None, None) if cache is None else cache
        x = self.around_self_attention(
            x, lambda x: self.self_attention(x, mask=mask, causal=True, need_weights=False, cache=own)[0]
        )
        x = self.around_cross_attention(
            x, lambda x: self.cross_attention(x, memory, mask=memory_mask, need_weights=False, cache=cross)[0]
        )
        return self.around_feed_forward(x, self.feed_forward)

    def start_cache(self, memory: Float[Tensor, "*batch memory_length d_model"]) -> DecoderCache:
        """The cache before the first decoding step."""
        return DecoderCache(KeyValueCache(), self.cross_attention.keys_and_values(memory))


class AttentionPooling(nn.Module):
    """A set of vectors as one vector: a single learned query attends to them (Lee et al. 2019, section 3.2,
    has several).

    The keys are a projection of the vectors, the values are the vectors themselves, so that the result is
    their weighted mean. The order of the vectors does not matter.
    """

    def __init__(self, d_model: int):
        super().__init__()
        self.query = nn.Parameter(torch.empty(d_model))
        self.W_k = nn.Linear(d_model, d_model, bias=False)
        nn.init.normal_(self.query)
        nn.init.xavier_uniform_(self.W_k.weight)

    def forward(
        self, x: Float[Tensor, "batch length d_model"], mask: Bool[Tensor, "batch length"] | None = None
    ) -> tuple[Float[Tensor, "batch d_model"], Float[Tensor, "batch length"]]:
        """The pooled vector and the weights of each row.

        `mask`: True = a real vector. A row without any gives zeros for both.
        """
        if mask is not None:
            x = x.masked_fill(~mask[..., None], 0.0)  # a weight of 0 would not stop a NaN in the padding
            mask = mask[:, None, :]
        pooled, weights = attend(self.query.expand(x.size(0), 1, -1), self.W_k(x), x, mask=mask)
        assert weights is not None  # they were asked for
        return pooled.squeeze(1), weights.squeeze(1)
