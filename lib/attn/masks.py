"""Masks: who may attend to whom. Boolean, True = may attend; masks combine with `&`.

Every mask broadcasts to (..., queries, keys). Causal and window masks line the last query up with the last
key, so that they hold for a whole sequence (queries = keys) and for the newest positions over cached keys
(queries < keys) alike. `nn.MultiheadAttention` means the opposite, True = may not: `to_torch_mha` turns a
mask over.
"""

import torch
from jaxtyping import Bool, Int
from torch import Tensor


def relative_positions(
    queries: int, keys: int | None = None, *, device: torch.device | str | None = None
) -> Int[Tensor, "queries keys"]:
    """Position of each key minus position of each query: 0 for its own, negative for the past. The last of
    both line up.
    """
    keys = queries if keys is None else keys
    if queries < 0 or keys < 0:
        raise ValueError(f"numbers of queries and keys cannot be negative, got {queries} and {keys}")
    at_query = torch.arange(keys - queries, keys, device=device)
    return torch.arange(keys, device=device) - at_query[:, None]


def causal(
    queries: int, keys: int | None = None, *, device: torch.device | str | None = None
) -> Bool[Tensor, "queries keys"]:
    """Each position may attend to itself and to those before it (Vaswani et al. 2017, section 3.2.3)."""
    return relative_positions(queries, keys, device=device) <= 0


def window(
    queries: int,
    keys: int | None = None,
    *,
    before: int,
    after: int,
    device: torch.device | str | None = None,
) -> Bool[Tensor, "queries keys"]:
    """Each position may attend to itself, to `before` positions on its left and to `after` on its right.

    Errors: ValueError for a negative width.
    """
    if before < 0 or after < 0:
        raise ValueError(f"before and after are numbers of positions, got {before} and {after}")
    offset = relative_positions(queries, keys, device=device)
    return (offset >= -before) & (offset <= after)


def padding(tokens: Int[Tensor, "batch keys"], pad: int = 0) -> Bool[Tensor, "batch 1 1 keys"]:
    """Every query may attend to every key that is not padding; axes for heads and queries are left open."""
    return (tokens != pad)[:, None, None, :]


def from_lengths(lengths: Int[Tensor, " batch"], keys: int | None = None) -> Bool[Tensor, "batch 1 1 keys"]:
    """The padding mask of sequences of these lengths, filled up on the right to `keys` (default: the
    longest).

    Errors: ValueError for a length that is negative or more than `keys`.
    """
    longest = int(lengths.max()) if lengths.numel() else 0
    keys = longest if keys is None else keys
    if longest > keys or (lengths < 0).any():
        raise ValueError(f"lengths must lie in 0..{keys} (the number of keys), got {lengths.tolist()}")
    return (torch.arange(keys, device=lengths.device) < lengths[:, None])[:, None, None, :]


def kernel(
    rows: int,
    columns: int,
    *,
    width: int = 3,
    stride: int = 1,
    dilation: int = 1,
    device: torch.device | str | None = None,
) -> Bool[Tensor, "cells queries keys"]:
    """One mask per cell of a convolution's kernel: through it each pixel may attend to its one neighbour in
    that direction, and to nothing where that lies outside of the image.

    Keys are the rows x columns pixels in reading order, cells the width x width cells of the kernel in the
    order of `nn.Conv2d`'s weights. Queries are the pixels in every `stride`-th row and column; neighbours lie
    `dilation` pixels apart. As `nn.Conv2d` with padding dilation · (width - 1) / 2. `.any(0)` is the whole
    neighbourhood as one mask.

    Errors: ValueError for an even width, which has no middle, or a number below 1.
    """
    if min(rows, columns, width, stride, dilation) < 1 or width % 2 == 0:
        raise ValueError(
            f"rows, columns, stride and dilation must be at least 1 and width odd, got {rows}, {columns}, "
            f"{stride}, {dilation} and width {width}"
        )
    cell = torch.arange(-(width // 2), width // 2 + 1, device=device) * dilation

    def along(length: int) -> Tensor:  # (width, queries, keys) of one axis
        at_query = torch.arange(0, length, stride, device=device)
        return torch.arange(length, device=device) == (at_query + cell[:, None])[..., None]

    down, right = along(rows), along(columns)
    return (
        torch.einsum("iqk,jrl->ijqrkl", down.int(), right.int())
        .bool()
        .flatten(4, 5)
        .flatten(2, 3)
        .flatten(0, 1)
    )


def graph(
    edges: Int[Tensor, "edges 2"], nodes: int, *, directed: bool = False, loops: bool = True
) -> Bool[Tensor, "{nodes} {nodes}"]:
    """Each node may attend along its edges, and to itself if `loops`. An edge (i, j) lets i attend to j,
    both ways unless `directed`.

    Errors: ValueError for an edge that names a node outside 0..nodes-1.
    """
    if edges.numel() and not (int(edges.min()) >= 0 and int(edges.max()) < nodes):
        raise ValueError(f"edges must name nodes 0..{nodes - 1}, got {int(edges.min())}..{int(edges.max())}")
    mask = torch.zeros(nodes, nodes, dtype=torch.bool, device=edges.device)
    mask[edges[:, 0], edges[:, 1]] = True
    if not directed:
        mask = mask | mask.T
    return mask | torch.eye(nodes, dtype=torch.bool, device=edges.device) if loops else mask


def to_torch_mha(mask: Bool[Tensor, "*axes"]) -> Bool[Tensor, "*axes"]:
    """The same mask in the convention of `nn.MultiheadAttention` and `nn.Transformer`: True = may NOT
    attend.

    Axes stay as they are. nn.MultiheadAttention wants a padding mask as (batch, keys), and a mask per head as
    (batch · heads, queries, keys): `.flatten(0, 1)`.
    """
    return ~mask
