"""Multi-head attention: `attend`, several times side by side, each head in its own projection of the
inputs.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from attn.core import attend
from attn.normalizers import Normalizer, softmax
from attn.scores import Score, scaled_dot_product
from attn.watching import Watchable


class KeyValueCache:
    """The keys and values of one attention, kept between decoding steps. For use without gradients.

    Empty at first; `append` adds those of the newest positions. `closed` with given keys and values (a
    memory's, projected once), it only serves them. Shapes: (batch, heads, keys, d_k).
    """

    def __init__(self, key: Tensor | None = None, value: Tensor | None = None):
        self.closed = key is not None
        self._key, self._value = key, value
        self.length = 0 if key is None else key.size(-2)

    def append(
        self, key: Float[Tensor, "batch heads new d_k"], value: Float[Tensor, "batch heads new d_k"]
    ) -> tuple[Float[Tensor, "batch heads keys d_k"], Float[Tensor, "batch heads keys d_k"]]:
        """Add new positions at the end; return all keys and all values so far."""
        end = self.length + key.size(-2)
        if self._key is None or self._value is None or end > self._key.size(-2):
            # Room for twice what is needed: n steps copy O(n) rows in all, not O(n²).
            self._key, self._value = (
                self._with_room(self._key, key, 2 * end),
                self._with_room(self._value, value, 2 * end),
            )
        self._key[..., self.length : end, :] = key
        self._value[..., self.length : end, :] = value
        self.length = end
        return self.keys_and_values()

    def keys_and_values(self) -> tuple[Tensor, Tensor]:
        """All keys and all values so far."""
        if self._key is None or self._value is None:
            raise ValueError("the cache is empty: nothing has been appended yet")
        return self._key[..., : self.length, :], self._value[..., : self.length, :]

    def reorder(self, rows: Int[Tensor, " rows"]) -> None:
        """Keep these rows of the batch, in this order, repeats allowed: what beam search does when it drops
        and splits beams.
        """
        if self._key is not None and self._value is not None:
            self._key, self._value = self._key[rows], self._value[rows]

    def _with_room(self, old: Tensor | None, new: Tensor, room: int) -> Tensor:
        buffer = new.new_empty(*new.shape[:-2], room, new.size(-1))
        if old is not None:
            buffer[..., : self.length, :] = old[..., : self.length, :]
        return buffer


class MultiHeadAttention(Watchable):
    """Concat(head_1 .. head_h) W_o with head_i = attend(Q W_q^i, K W_k^i, V W_v^i) (Vaswani et al. 2017,
    section 3.2.2).

    Weights, as `nn.Linear` keeps them (outputs x inputs): `W_qkv` holds W_q, W_k and W_v, one on top of the
    other, (3 d_model, d_model), so that self-attention projects once; `W_o` (d_model, d_model). Within
    each, head i owns rows i d_k to (i+1) d_k; d_k = d_v = d_model / n_heads.

    Arguments:
      dropout: of the attention weights, in training only. The paper has none here
        (`nn.MultiheadAttention` has); on a CPU it also rules out the fused kernel.
      score, normalize: as in `attend`, the same for all heads (a module may tell heads apart by the heads
        axis).

    Errors: ValueError if n_heads does not divide d_model.
    """

    def __init__(
        self,
        d_model: int,
        n_heads: int,
        *,
        dropout: float = 0.0,
        bias: bool = True,
        score: Score = scaled_dot_product,
        normalize: Normalizer = softmax,
    ):
        super().__init__()
        if d_model < 1 or n_heads < 1 or d_model % n_heads:
            raise ValueError(f"n_heads must divide d_model, but d_model = {d_model} and n_heads = {n_heads}")
        if not 0.0 <= dropout < 1.0:
            raise ValueError(f"dropout is a probability in [0, 1), got {dropout}")
        self.d_model, self.n_heads, self.d_k = d_model, n_heads, d_model // n_heads
        self.dropout, self.score, self.normalize = dropout, score, normalize
        self.W_qkv = nn.Linear(d_model, 3 * d_model, bias=bias)
        self.W_o = nn.Linear(d_model, d_model, bias=bias)
        for weight in [*self.W_qkv.weight.split(d_model), self.W_o.weight]:
            nn.init.xavier_uniform_(weight)
        for linear in (self.W_qkv, self.W_o):
            if linear.bias is not None:
                nn.init.zeros_(linear.bias)

    def set_weights(
        self,
        W_q: Float[Tensor, "d_model d_model"],
        W_k: Float[Tensor, "d_model d_model"],
        W_v: Float[Tensor, "d_model d_model"],
        W_o: Float[Tensor, "d_model d_model"],
    ) -> None:
        """Copy plain tensors in, each (outputs, inputs) as `nn.Linear.weight`; biases become 0.

        The formula Q = X W_q has (inputs, outputs): pass `W_q.T`.
        """
        with torch.no_grad():
            self.W_qkv.weight.copy_(torch.cat([W_q, W_k, W_v]))
            self.W_o.weight.copy_(W_o)
            for linear in (self.W_qkv, self.W_o):
                if linear.bias is not None:
                    linear.bias.zero_()

    def forward(
        self,
        query: Float[Tensor, "*batch queries {self.d_model}"],
        key: Float[Tensor, "*batch keys {self.d_model}"] | None = None,
        value: Float[Tensor, "*batch keys {self.d_model}"] | None = None,
        *,
        mask: Bool[Tensor, "*axes"] | None = None,
        causal: bool = False,
        need_weights: bool = True,
        cache: KeyValueCache | None = None,
    ) -> tuple[
        Float[Tensor, "*batch queries {self.d_model}"], Float[Tensor, "*batch heads queries keys_seen"] | None
    ]:
        """Output (batch, queries, d_model) and weights (batch, heads, queries, keys), None unless
        `need_weights`.

        Without `key` the input attends to itself; without `value` the values are the keys' inputs. A mask
        is True where a query may attend, and has either two axes (queries, keys) or a heads axis too:
        (batch, 1 or heads, queries, keys). With a `cache`, the new keys and values are added to it and the
        queries attend to all it holds; a closed cache stands in for key and value.

        Errors: ValueError for a mask without a heads axis; wrong shapes as in `attend`.
        """
        if mask is not None and 2 < mask.ndim <= query.ndim:
            raise ValueError(
                f"a mask of shape {tuple(mask.shape)} leaves no axis for the heads: give (queries, keys) or "
                f"(batch, 1, queries, keys), for instance mask[:, None]"
            )
        if cache is not None and cache.closed:
            q = self._project(query, 0, 1)[0]
            k, v = cache.keys_and_values()
        else:
            q, k, v = self._queries_keys_values(query, key, value)
            if cache is not None:
                k, v = cache.append(k, v)
        output, weights = attend(
            q,
            k,
            v,
            score=self.score,
            mask=mask,
            causal=causal,
            normalize=self.normalize,
            dropout=self.dropout if self.training else 0.0,
            need_weights=need_weights,
        )
        return self.W_o(output.transpose(-3, -2).flatten(-2)), weights

    def keys_and_values(self, x: Float[Tensor, "*batch keys {self.d_model}"]) -> KeyValueCache:
        """The keys and values of x, projected once, as a closed cache for many queries to come."""
        # Laid out head by head once, not again at every query.
        return KeyValueCache(*(part.contiguous() for part in self._project(x, 1, 3)))

    def _queries_keys_values(
        self, query: Tensor, key: Tensor | None, value: Tensor | None
    ) -> tuple[Tensor, ...]:
        one_source = key is None or key is query
        key = query if key is None else key
        if value is not None and value is not key:
            return *self._project(query, 0, 1), *self._project(key, 1, 2), *self._project(value, 2, 3)
        if one_source:
            return self._project(query, 0, 3)
        return *self._project(query, 0, 1), *self._project(key, 1, 3)

    def _project(self, x: Tensor, first: int, last: int) -> tuple[Tensor, ...]:
        """x through W_q, W_k, W_v number `first` to `last` - 1, each split into heads: (batch, heads,
        length, d_k).
        """
        rows = slice(first * self.d_model, last * self.d_model)
        bias = self.W_qkv.bias
        projected = F.linear(x, self.W_qkv.weight[rows], None if bias is None else bias[rows])
        heads = projected.unflatten(-1, (last - first, self.n_heads, self.d_k))
        return heads.movedim(-3, 0).transpose(-3, -2).unbind(0)

    def extra_repr(self) -> str:
        return f"d_model={self.d_model}, n_heads={self.n_heads}"
