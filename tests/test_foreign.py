"""Foreign test suites fit: courses call functions of their own, with plain weights; each is a line of attn.

The adapters below have the signatures that such suites use. Each is checked against NumPy and einsum, written
without anything of attn or torch.nn.
"""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from oracles import close, normal, random_mask
from torch import Tensor
from torch.nn import functional as F

from attn import EncoderLayer, FeedForward, MultiHeadAttention, attend, masks
from attn.positions import Rotary, rotate, sinusoidal
from attn.scores import scaled_dot_product

Weights = dict[str, Tensor]
BATCH, LENGTH, D_MODEL, HEADS, D_FF = 2, 6, 12, 3, 20
D_K = D_MODEL // HEADS


# --- the adapters -------------------------------------------------------------------------------------------


def run_scaled_dot_product_attention(Q: Tensor, K: Tensor, V: Tensor, mask: Tensor | None = None) -> Tensor:
    return attend(Q, K, V, mask=mask)[0]


def run_softmax_weights(Q: Tensor, K: Tensor) -> Tensor | None:
    return attend(Q, K, K)[1]


def run_multihead_self_attention(
    d_model: int,
    num_heads: int,
    q_proj_weight: Tensor,
    k_proj_weight: Tensor,
    v_proj_weight: Tensor,
    o_proj_weight: Tensor,
    in_features: Tensor,
) -> Tensor:
    attention = MultiHeadAttention(d_model, num_heads, bias=False).to(in_features)
    attention.set_weights(q_proj_weight, k_proj_weight, v_proj_weight, o_proj_weight)
    return attention(in_features, causal=True)[0]


def run_multihead_self_attention_with_rope(
    d_model: int,
    num_heads: int,
    max_seq_len: int,
    theta: float,
    q_proj_weight: Tensor,
    k_proj_weight: Tensor,
    v_proj_weight: Tensor,
    o_proj_weight: Tensor,
    in_features: Tensor,
    token_positions: Tensor | None = None,
) -> Tensor:
    def at_positions(query: Tensor, key: Tensor) -> Tensor:
        positions = token_positions[..., None, :] if token_positions.ndim > 1 else token_positions
        return scaled_dot_product(*(rotate(x, positions, base=theta) for x in (query, key)))

    score = Rotary(theta) if token_positions is None else at_positions
    attention = MultiHeadAttention(d_model, num_heads, bias=False, score=score).to(in_features)
    attention.set_weights(q_proj_weight, k_proj_weight, v_proj_weight, o_proj_weight)
    return attention(in_features, causal=True)[0]


def run_rope(
    d_k: int, theta: float, max_seq_len: int, in_query_or_key: Tensor, token_positions: Tensor
) -> Tensor:
    return rotate(in_query_or_key, token_positions, base=theta)


def run_positional_encoding(max_len: int, d_model: int) -> Tensor:
    return sinusoidal(max_len, d_model)


def run_feed_forward(d_model: int, d_ff: int, weights: Weights, in_features: Tensor) -> Tensor:
    return torch.func.functional_call(FeedForward(d_model, d_ff), weights, in_features)


def run_transformer_block(
    d_model: int, num_heads: int, d_ff: int, weights: Weights, in_features: Tensor, norm: str
) -> Tensor:
    block = EncoderLayer(d_model, num_heads, d_ff, 0.0, norm).to(in_features)  # type: ignore[arg-type]
    return torch.func.functional_call(block, weights, in_features, {"causal": True})


# --- the same in NumPy --------------------------------------------------------------------------------------


def attention_in_numpy(q: np.ndarray, k: np.ndarray, v: np.ndarray, mask: np.ndarray | None) -> np.ndarray:
    scores = np.einsum("...qd,...kd->...qk", q, k) / np.sqrt(q.shape[-1])
    if mask is not None:
        scores = np.where(mask, scores, -np.inf)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    return np.einsum("...qk,...kd->...qd", weights / weights.sum(-1, keepdims=True), v)


def rope_in_numpy(x: np.ndarray, positions: np.ndarray, theta: float) -> np.ndarray:
    out = np.empty_like(x)
    for i in range(x.shape[-1] // 2):
        angle = positions / theta ** (2 * i / x.shape[-1])
        a, b = x[..., 2 * i], x[..., 2 * i + 1]
        out[..., 2 * i] = a * np.cos(angle) - b * np.sin(angle)
        out[..., 2 * i + 1] = a * np.sin(angle) + b * np.cos(angle)
    return out


def multihead_in_numpy(
    x: np.ndarray,
    W_q: np.ndarray,
    W_k: np.ndarray,
    W_v: np.ndarray,
    W_o: np.ndarray,
    n_heads: int,
    turn: Callable[[np.ndarray], np.ndarray] = lambda heads: heads,
) -> np.ndarray:
    """Causal; weights (outputs, inputs); `turn` is applied to queries and keys (..., heads, length, d_k)."""
    q, k, v = (
        np.einsum("...tm,hdm->...htd", x, W.reshape(n_heads, -1, x.shape[-1])) for W in (W_q, W_k, W_v)
    )
    causal = np.tril(np.ones((x.shape[-2], x.shape[-2]), dtype=bool))
    heads = attention_in_numpy(turn(q), turn(k), v, causal)
    return np.einsum("...htd,mhd->...tm", heads, W_o.reshape(x.shape[-1], n_heads, -1))


def layer_norm_in_numpy(x: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5) * weight + bias


# --- and the checks -----------------------------------------------------------------------------------------


def equal(ours: Tensor, theirs: np.ndarray) -> None:
    close(
        ours.detach(), torch.from_numpy(theirs).to(ours.dtype), 1e-12 if ours.dtype == torch.float64 else 1e-5
    )


def square_weights() -> list[Tensor]:
    return [normal(D_MODEL, D_MODEL, seed=10 + i) / D_MODEL**0.5 for i in range(4)]


@pytest.mark.parametrize("leading", [(), (2,), (2, 3), (2, 3, 2)])
@pytest.mark.parametrize("masked", [False, True])
def test_scaled_dot_product_attention(leading: tuple[int, ...], masked: bool) -> None:
    Q, K, V = (normal(*leading, *shape, seed=i) for i, shape in enumerate([(5, 4), (7, 4), (7, 3)]))
    mask = random_mask(*leading, 5, 7) | torch.eye(5, 7, dtype=torch.bool) if masked else None
    expected = attention_in_numpy(Q.numpy(), K.numpy(), V.numpy(), None if mask is None else mask.numpy())
    equal(run_scaled_dot_product_attention(Q, K, V, mask), expected)


def test_attention_weights() -> None:
    Q, K = normal(2, 5, 4), normal(2, 7, 4, seed=1)
    close(run_softmax_weights(Q, K), F.softmax(torch.einsum("bqd,bkd->bqk", Q, K) / 2, dim=-1))  # type: ignore[arg-type]


@pytest.mark.parametrize("leading", [(), (2,), (2, 3)])
def test_multihead_self_attention(leading: tuple[int, ...]) -> None:
    weights, x = square_weights(), normal(*leading, LENGTH, D_MODEL)
    got = run_multihead_self_attention(D_MODEL, HEADS, *weights, x)
    equal(got, multihead_in_numpy(x.numpy(), *(w.numpy() for w in weights), HEADS))


@pytest.mark.parametrize("own_positions", [None, "one for all", "each its own"])
def test_multihead_self_attention_with_rope(own_positions: str | None) -> None:
    weights, x = square_weights(), normal(BATCH, LENGTH, D_MODEL)
    positions = {
        None: None,
        "one for all": torch.tensor([3, 4, 5, 9, 10, 30]),
        "each its own": torch.tensor([[0, 1, 2, 3, 4, 5], [7, 8, 1, 2, 3, 3]]),
    }[own_positions]
    got = run_multihead_self_attention_with_rope(D_MODEL, HEADS, 40, 500.0, *weights, x, positions)
    at = np.arange(LENGTH) if positions is None else positions.numpy()
    if at.ndim > 1:
        at = at[:, None, :]
    expected = multihead_in_numpy(
        x.numpy(), *(w.numpy() for w in weights), HEADS, lambda heads: rope_in_numpy(heads, at, 500.0)
    )
    equal(got, expected)


@pytest.mark.parametrize("leading", [(), (2,), (2, 3)])
def test_rope(leading: tuple[int, ...]) -> None:
    x = normal(*leading, LENGTH, D_K)
    positions = torch.randint(0, 100, (*leading, LENGTH), generator=torch.Generator().manual_seed(0))
    equal(run_rope(D_K, 10_000.0, 100, x, positions), rope_in_numpy(x.numpy(), positions.numpy(), 10_000.0))
    equal(
        run_rope(D_K, 10_000.0, 100, x, torch.arange(LENGTH)),
        rope_in_numpy(x.numpy(), np.arange(LENGTH), 10_000.0),
    )


def test_positional_encoding() -> None:
    position, pair = np.arange(50)[:, None], np.arange(0, D_MODEL, 2)
    expected = np.empty((50, D_MODEL))
    expected[:, 0::2] = np.sin(position / 10_000 ** (pair / D_MODEL))
    expected[:, 1::2] = np.cos(position / 10_000 ** (pair / D_MODEL))
    equal(run_positional_encoding(50, D_MODEL), expected)


def block_weights() -> Weights:
    shapes = {name: p.shape for name, p in EncoderLayer(D_MODEL, HEADS, D_FF).named_parameters()}
    return {name: 0.4 * normal(*shape, seed=i) for i, (name, shape) in enumerate(shapes.items())}


def test_feed_forward() -> None:
    weights = {
        name.removeprefix("feed_forward."): w
        for name, w in block_weights().items()
        if "feed_forward.W" in name
    }
    x, w = normal(BATCH, LENGTH, D_MODEL), {name: w.numpy() for name, w in weights.items()}
    hidden = np.maximum(x.numpy() @ w["W_1.weight"].T + w["W_1.bias"], 0)
    equal(run_feed_forward(D_MODEL, D_FF, weights, x), hidden @ w["W_2.weight"].T + w["W_2.bias"])


@pytest.mark.parametrize("norm", ["pre", "post"])
def test_transformer_block(norm: str) -> None:
    weights = block_weights()
    weights["self_attention.W_qkv.bias"].zero_()  # foreign blocks have no biases in their attention
    weights["self_attention.W_o.bias"].zero_()
    x, w = normal(BATCH, LENGTH, D_MODEL), {name: w.numpy() for name, w in weights.items()}

    def attention(x: np.ndarray) -> np.ndarray:
        W_q, W_k, W_v = np.split(w["self_attention.W_qkv.weight"], 3)
        return multihead_in_numpy(x, W_q, W_k, W_v, w["self_attention.W_o.weight"], HEADS)

    def feed_forward(x: np.ndarray) -> np.ndarray:
        hidden = np.maximum(x @ w["feed_forward.W_1.weight"].T + w["feed_forward.W_1.bias"], 0)
        return hidden @ w["feed_forward.W_2.weight"].T + w["feed_forward.W_2.bias"]

    h = x.numpy()
    for place, sublayer in [("around_self_attention", attention), ("around_feed_forward", feed_forward)]:
        scale = w[f"{place}.layer_norm.weight"], w[f"{place}.layer_norm.bias"]
        if norm == "pre":
            h = h + sublayer(layer_norm_in_numpy(h, *scale))
        else:
            h = layer_norm_in_numpy(h + sublayer(h), *scale)
    equal(run_transformer_block(D_MODEL, HEADS, D_FF, weights, x, norm), h)


def test_a_graph_attention_layer_is_a_mask() -> None:
    """Neighbours by their edges, against a loop over the nodes."""
    edges = torch.tensor([[0, 1], [1, 2], [3, 4]])
    x = normal(5, 4)
    got = attend(x, x, x, mask=masks.graph(edges, 5))[0]
    neighbours = [[0, 1], [0, 1, 2], [1, 2], [3, 4], [3, 4]]
    for node, among in enumerate(neighbours):
        close(got[node], F.softmax(x[among] @ x[node] / 2, dim=0) @ x[among])
