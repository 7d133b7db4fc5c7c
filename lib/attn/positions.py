"""Positions: attention alone sees a set; these say where each vector stands.

Added to the inputs: `SinusoidalPositions`, `LearnedPositions`. As scores, so that they plug into `attend` and
`MultiHeadAttention(score=...)`: `Rotary`, `RelativePositions`, `Alibi`, which line the last query up with the
last key; and for the pixels of an image `QuadraticPositions`.
"""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from attn.masks import relative_positions
from attn.scores import scaled_dot_product


def _frequencies(d: int, base: float, device: torch.device | None = None) -> Float[Tensor, " pairs"]:
    """One angle per step for each pair of coordinates: base^(-2i/d), i = 0 .. d/2 - 1."""
    if d < 2 or d % 2:
        raise ValueError(
            f"each frequency takes two coordinates, so the width must be even and positive, got {d}"
        )
    # In float64 (MPS has none): at position 10,000 a float32 angle would be off by 0.001.
    dtype = torch.float32 if device is not None and device.type == "mps" else torch.float64
    return torch.exp(torch.arange(0, d, 2, device=device, dtype=dtype) * (-math.log(base) / d))


def sinusoidal(length: int, d_model: int, *, base: float = 10_000.0) -> Float[Tensor, "{length} {d_model}"]:
    """PE(p, 2i) = sin(p / base^(2i/d_model)), PE(p, 2i+1) = cos(the same) (Vaswani et al. 2017, section
    3.5). float32.

    Errors: ValueError for an odd d_model or a negative length.
    """
    if length < 0:
        raise ValueError(f"length cannot be negative, got {length}")
    angles = torch.arange(length, dtype=torch.float64)[:, None] * _frequencies(d_model, base)
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(-2).float()


class SinusoidalPositions(nn.Module):
    """x + PE (Vaswani et al. 2017, section 3.5). No parameters; the table is a buffer, so it moves with the
    model.

    `start` is the position of the first row of x (used by step-by-step decoding). Longer inputs than
    `length` make the table grow.

    Errors: ValueError for an odd d_model.
    """

    table: Tensor

    def __init__(self, d_model: int, length: int = 512):
        super().__init__()
        self.register_buffer("table", sinusoidal(length, d_model), persistent=False)

    def forward(
        self, x: Float[Tensor, "*batch length d_model"], start: int = 0
    ) -> Float[Tensor, "*batch length d_model"]:
        end = start + x.size(-2)
        if end > len(self.table):
            self.table = sinusoidal(2 * end, self.table.size(-1)).to(self.table)
        return x + self.table[start:end].to(x.dtype)


class LearnedPositions(nn.Module):
    """x + a learned vector for each position (Gehring et al. 2017, section 3.1): none exists beyond `length`.

    Errors: ValueError for an input that reaches beyond `length`.
    """

    def __init__(self, d_model: int, length: int = 512):
        super().__init__()
        self.table = nn.Parameter(torch.empty(length, d_model))
        nn.init.normal_(self.table, std=d_model**-0.5)

    def forward(
        self, x: Float[Tensor, "*batch length d_model"], start: int = 0
    ) -> Float[Tensor, "*batch length d_model"]:
        end = start + x.size(-2)
        if end > len(self.table):
            raise ValueError(
                f"learned positions end at {len(self.table)}, the input reaches {end}: "
                f"build with length >= {end} (max_length of a Transformer)"
            )
        return x + self.table[start:end]


def rotate(
    x: Float[Tensor, "*batch length d_k"], positions: Int[Tensor, "*#batch length"], *, base: float = 10_000.0
) -> Float[Tensor, "*batch length d_k"]:
    """Turn each pair (x[2i], x[2i+1]) by position times base^(-2i/d_k) (Su et al. 2021, equation 34).

    Turned by their positions, a query's and a key's dot product depends on the positions' difference only.

    Shapes: positions (..., length), integers, broadcast over x's leading axes. Errors: ValueError for an
    odd d_k.
    """
    angles = positions[..., None] * _frequencies(x.size(-1), base, x.device)
    cos, sin = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
    even, odd = x[..., 0::2], x[..., 1::2]
    return torch.stack([even * cos - odd * sin, even * sin + odd * cos], dim=-1).flatten(-2)


class Rotary(nn.Module):
    """The scaled dot product of query and key turned by their positions: RoPE (Su et al. 2021). No
    parameters.

    Errors: ValueError for an odd width.
    """

    def __init__(self, base: float = 10_000.0):
        super().__init__()
        self.base = base

    def turn(
        self, query: Float[Tensor, "*#batch queries d_k"], key: Float[Tensor, "*#batch keys d_k"]
    ) -> tuple[Float[Tensor, "... queries d_k"], Float[Tensor, "... keys d_k"]]:
        """Query and key, turned; their scaled dot product is the score. `attend` uses this to stay on the
        fused kernel.
        """
        queries, keys = query.size(-2), key.size(-2)
        at_key = torch.arange(keys, device=key.device)
        at_query = torch.arange(keys - queries, keys, device=key.device)
        return rotate(query, at_query, base=self.base), rotate(key, at_key, base=self.base)

    def forward(
        self, query: Float[Tensor, "*#batch queries d_k"], key: Float[Tensor, "*#batch keys d_k"]
    ) -> Float[Tensor, "... queries keys"]:
        return scaled_dot_product(*self.turn(query, key))


class RelativePositions(nn.Module):
    """q·(k + a) / √d_k with a learned vector a for each clipped offset (Shaw et al. 2018, equation 4).

    Offsets beyond `max_distance` share a vector. Shaw's second set of vectors, added to the values
    (equation 3), is left out: by their table 3 it adds nothing to translation.
    """

    def __init__(self, d_k: int, max_distance: int):
        super().__init__()
        if max_distance < 1:
            raise ValueError(f"max_distance must be at least 1, got {max_distance}")
        self.max_distance = max_distance
        self.offsets = nn.Parameter(torch.empty(2 * max_distance + 1, d_k))
        nn.init.xavier_uniform_(self.offsets)

    def forward(
        self, query: Float[Tensor, "*#batch queries d_k"], key: Float[Tensor, "*#batch keys d_k"]
    ) -> Float[Tensor, "... queries keys"]:
        offset = relative_positions(query.size(-2), key.size(-2), device=query.device)
        index = offset.clamp(-self.max_distance, self.max_distance) + self.max_distance
        # q·a for each of the few vectors, then pick by offset: no queries x keys x d_k tensor (Shaw et al.
        # 2018, section 3.3).
        by_offset = query @ self.offsets.T
        relative = by_offset.gather(-1, index.expand(*by_offset.shape[:-1], index.size(-1)))
        return scaled_dot_product(query, key) + relative / math.sqrt(query.size(-1))


class Alibi(nn.Module):
    """The scaled dot product minus slope times distance, one slope per head (Press et al. 2022, section 3).
    No parameters.

    Slopes are 2^(-8i/n_heads), i = 1 .. n_heads. The paper is causal; here distance counts both ways. The
    input needs a heads axis.
    """

    slopes: Tensor

    def __init__(self, n_heads: int):
        super().__init__()
        if n_heads < 1:
            raise ValueError(f"n_heads must be at least 1, got {n_heads}")
        self.register_buffer(
            "slopes", 2.0 ** (-8.0 * torch.arange(1, n_heads + 1) / n_heads), persistent=False
        )

    def forward(
        self, query: Float[Tensor, "*#batch heads queries d_k"], key: Float[Tensor, "*#batch heads keys d_k"]
    ) -> Float[Tensor, "... heads queries keys"]:
        distance = relative_positions(query.size(-2), key.size(-2), device=query.device).abs()
        return scaled_dot_product(query, key) - (self.slopes[:, None, None] * distance).to(query.dtype)


class QuadraticPositions(nn.Module):
    """-alpha |offset - centre|², for each head its own centre and alpha: the quadratic encoding of
    Cordonnier et al. 2020 (section 3, equation 9), by which attention can be a convolution.

    Queries and keys are the pixels of one image, rows x columns, in reading order; offset = place of the key
    - place of the query, in rows and columns. What the pixels hold does not count. The head looks at the
    pixel `centre` away, the more sharply the larger alpha is; with softmax the weights are a Gaussian of
    variance 1 / (2 alpha) around it. (The paper leaves out the constant -alpha |centre|², which softmax does
    not see.) Centres (heads, 2) and alpha (heads,) are parameters, so that both can be learned.

    Errors: ValueError for centres that are not (heads, 2), or inputs that are not such an image with such
    heads.
    """

    offsets: Tensor

    def __init__(self, rows: int, columns: int, centres: Tensor, alpha: float = 1.0):
        super().__init__()
        if centres.ndim != 2 or centres.size(-1) != 2:
            raise ValueError(f"centres are (heads, 2): rows and columns, got {tuple(centres.shape)}")
        self.rows, self.columns = rows, columns
        self.centres = nn.Parameter(centres.detach().clone())
        self.alpha = nn.Parameter(torch.full((len(centres),), float(alpha), dtype=centres.dtype))
        place = torch.cartesian_prod(torch.arange(rows), torch.arange(columns)).to(centres.dtype)
        self.register_buffer("offsets", place - place[:, None], persistent=False)

    def forward(
        self, query: Float[Tensor, "*#batch heads queries d_k"], key: Float[Tensor, "*#batch heads keys d_k"]
    ) -> Float[Tensor, "... heads queries keys"]:
        n_heads, pixels = len(self.centres), self.rows * self.columns
        if query.shape[-3:-1] != (n_heads, pixels) or key.shape[-3:-1] != (n_heads, pixels):
            raise ValueError(
                f"positions for {n_heads} heads and {pixels} pixels do not fit queries of shape "
                f"{tuple(query.shape)} and keys of shape {tuple(key.shape)}"
            )
        distance = (self.offsets - self.centres[:, None, None]).square().sum(dim=-1)
        scores = -self.alpha[:, None, None] * distance
        batch = torch.broadcast_shapes(query.shape[:-3], key.shape[:-3])
        return scores.to(query.dtype).expand(*batch, *scores.shape)
