"""The Transformer: stacks of layers, vectors in and vectors out, and the model around them, tokens in and
logits out.
"""

from typing import Any, Literal, cast

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from attn import masks
from attn.layers import DecoderCache, DecoderLayer, EncoderLayer, Norm
from attn.positions import LearnedPositions, SinusoidalPositions

Positions = Literal["sinusoidal", "learned", "none"]
Sharing = Literal["none", "target", "all"]


def _final_norm(d_model: int, norm: Norm, wanted: bool | None) -> nn.Module:
    """Pre-norm layers leave their sum unnormalized, so a last LayerNorm follows them; after post-norm
    layers the paper has none.
    """
    wanted = norm == "pre" if wanted is None else wanted
    return nn.LayerNorm(d_model) if wanted else nn.Identity()


class Encoder(nn.Module):
    """N encoder layers (Vaswani et al. 2017, section 3.1). `nn.TransformerEncoder` is the same.

    `final_norm` None: a last LayerNorm after pre-norm layers, none after post-norm ones. `options`: further
    arguments of `EncoderLayer`.
    """

    def __init__(
        self,
        n_layers: int,
        d_model: int,
        n_heads: int,
        d_ff: int,
        dropout: float = 0.1,
        norm: Norm = "post",
        *,
        final_norm: bool | None = None,
        **options: Any,
    ):
        super().__init__()
        self.layers = nn.ModuleList(
            EncoderLayer(d_model, n_heads, d_ff, dropout, norm, **options) for _ in range(n_layers)
        )
        self.final_norm = _final_norm(d_model, norm, final_norm)

    def forward(
        self,
        x: Float[Tensor, "*batch length d_model"],
        mask: Bool[Tensor, "*axes"] | None = None,
        *,
        causal: bool = False,
    ) -> Float[Tensor, "*batch length d_model"]:
        """Shapes and masks as in `EncoderLayer`."""
        for layer in self.layers:
            x = layer(x, mask, causal=causal)
        return self.final_norm(x)


class Decoder(nn.Module):
    """N decoder layers (Vaswani et al. 2017, section 3.1). `nn.TransformerDecoder` with a causal mask is
    the same.

    Arguments as in `Encoder`.
    """

    def __init__(
        self,
        n_layers: int,
        d_model: int,
        n_heads: int,
        d_ff: int,
        dropout: float = 0.1,
        norm: Norm = "post",
        *,
        final_norm: bool | None = None,
        **options: Any,
    ):
        super().__init__()
        self.layers = nn.ModuleList(
            DecoderLayer(d_model, n_heads, d_ff, dropout, norm, **options) for _ in range(n_layers)
        )
        self.final_norm = _final_norm(d_model, norm, final_norm)

    def forward(
        self,
        x: Float[Tensor, "*batch length d_model"],
        memory: Float[Tensor, "*batch memory_length d_model"],
        mask: Bool[Tensor, "*axes"] | None = None,
        memory_mask: Bool[Tensor, "*axes2"] | None = None,
        *,
        caches: list[DecoderCache] | None = None,
    ) -> Float[Tensor, "*batch length d_model"]:
        """Shapes and masks as in `DecoderLayer`; `caches` from `start_caches`, one per layer."""
        for i, layer in enumerate(self.layers):
            x = layer(x, memory, mask, memory_mask, cache=None if caches is None else caches[i])
        return self.final_norm(x)

    def start_caches(self, memory: Float[Tensor, "*batch memory_length d_model"]) -> list[DecoderCache]:
        """The caches of all layers before the first decoding step."""
        return [cast(DecoderLayer, layer).start_cache(memory) for layer in self.layers]


class EncoderDecoder(nn.Module):
    """Both stacks, vectors in and vectors out: what torch calls `nn.Transformer`.

    `options`: further arguments of both stacks, as in `Encoder`.
    """

    def __init__(
        self,
        d_model: int,
        n_heads: int,
        n_encoder_layers: int,
        n_decoder_layers: int,
        d_ff: int,
        dropout: float = 0.1,
        norm: Norm = "post",
        **options: Any,
    ):
        super().__init__()
        self.encoder = Encoder(n_encoder_layers, d_model, n_heads, d_ff, dropout, norm, **options)
        self.decoder = Decoder(n_decoder_layers, d_model, n_heads, d_ff, dropout, norm, **options)

    def forward(
        self,
        source: Float[Tensor, "*batch source_length d_model"],
        target: Float[Tensor, "*batch target_length d_model"],
        source_mask: Bool[Tensor, "*axes"] | None = None,
        target_mask: Bool[Tensor, "*axes2"] | None = None,
    ) -> Float[Tensor, "*batch target_length d_model"]:
        """`source_mask` says which source vectors may be seen, by encoder and decoder alike; `target_mask`
        which earlier targets.
        """
        return self.decoder(target, self.encoder(source, source_mask), target_mask, source_mask)


class Embedding(nn.Module):
    """Token vectors times √d_model, plus positions, then dropout (Vaswani et al. 2017, sections 3.4, 3.5
    and 5.4).

    Vectors start with standard deviation 1/√d_model, so that after the scale they are of the positions'
    size, and so that a projection to logits that shares them starts near equal odds for all tokens.
    """

    def __init__(self, vocabulary: int, d_model: int, dropout: float, positions: Positions, max_length: int):
        super().__init__()
        self.tokens = nn.Embedding(vocabulary, d_model)
        nn.init.normal_(self.tokens.weight, std=d_model**-0.5)
        self.scale = d_model**0.5
        self.positions: SinusoidalPositions | LearnedPositions | None
        if positions == "sinusoidal":
            self.positions = SinusoidalPositions(d_model, max_length)
        elif positions == "learned":
            self.positions = LearnedPositions(d_model, max_length)
        elif positions == "none":
            self.positions = None
        else:
            raise ValueError(f'positions must be "sinusoidal", "learned" or "none", got {positions!r}')
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, tokens: Int[Tensor, "batch length"], start: int = 0
    ) -> Float[Tensor, "batch length d_model"]:
        """`start`: the position of the first token."""
        x = self.tokens(tokens) * self.scale
        return self.dropout(x if self.positions is None else self.positions(x, start))


class Transformer(nn.Module):
    """Token ids in, logits of the next target token out (Vaswani et al. 2017, figure 1).

    Arguments, with the paper's base model as defaults:
      source_vocabulary, target_vocabulary: numbers of tokens.
      norm: "post" (the paper) or "pre" (trains without warm-up, and ends with one more LayerNorm).
      positions: "sinusoidal" (the paper), "learned" (up to max_length) or "none".
      share_embeddings: "all" (the paper: source, target and the projection to logits are one matrix),
        "target" (the latter two) or "none".
      pad, bos, eos: ids of padding, of the token that begins a target and of the one that ends it.
      options: further arguments of the layers, such as attention_dropout.

    Errors: ValueError for sharing between vocabularies of different size, and whatever the parts object to.
    """

    def __init__(
        self,
        source_vocabulary: int,
        target_vocabulary: int,
        *,
        d_model: int = 512,
        n_heads: int = 8,
        n_encoder_layers: int = 6,
        n_decoder_layers: int = 6,
        d_ff: int = 2048,
        dropout: float = 0.1,
        norm: Norm = "post",
        positions: Positions = "sinusoidal",
        share_embeddings: Sharing = "none",
        max_length: int = 512,
        pad: int = 0,
        bos: int = 1,
        eos: int = 2,
        **options: Any,
    ):
        super().__init__()
        self.config: dict[str, Any] = {
            "source_vocabulary": source_vocabulary,
            "target_vocabulary": target_vocabulary,
            "d_model": d_model,
            "n_heads": n_heads,
            "n_encoder_layers": n_encoder_layers,
            "n_decoder_layers": n_decoder_layers,
            "d_ff": d_ff,
            "dropout": dropout,
            "norm": norm,
            "positions": positions,
            "share_embeddings": share_embeddings,
            "max_length": max_length,
            "pad": pad,
            "bos": bos,
            "eos": eos,
            **options,
        }
        self.pad, self.bos, self.eos = pad, bos, eos
        self.stacks = EncoderDecoder(
            d_model, n_heads, n_encoder_layers, n_decoder_layers, d_ff, dropout, norm, **options
        )
        self.embed_source = Embedding(source_vocabulary, d_model, dropout, positions, max_length)
        self.embed_target = Embedding(target_vocabulary, d_model, dropout, positions, max_length)
        self.to_logits = nn.Linear(d_model, target_vocabulary, bias=False)
        nn.init.normal_(self.to_logits.weight, std=d_model**-0.5)
        if share_embeddings not in ("none", "target", "all"):
            raise ValueError(f'share_embeddings must be "none", "target" or "all", got {share_embeddings!r}')
        if share_embeddings != "none":
            self.to_logits.weight = self.embed_target.tokens.weight
        if share_embeddings == "all":
            if source_vocabulary != target_vocabulary:
                raise ValueError(
                    f'share_embeddings="all" needs one joint vocabulary, got {source_vocabulary} source and '
                    f"{target_vocabulary} target tokens"
                )
            self.embed_source.tokens.weight = self.embed_target.tokens.weight

    def forward(
        self, source: Int[Tensor, "batch source_length"], target: Int[Tensor, "batch target_length"]
    ) -> Float[Tensor, "batch target_length vocabulary"]:
        """Logits of the token after each target token, all positions at once (teacher forcing). Both are
        padded with `pad`.
        """
        return self.decode(target, self.encode(source), masks.padding(source, self.pad))

    def encode(
        self, source: Int[Tensor, "batch source_length"]
    ) -> Float[Tensor, "batch source_length d_model"]:
        """The memory: one vector for each source token. Padding is never attended to; its own vectors mean
        nothing.
        """
        return self.stacks.encoder(self.embed_source(source), masks.padding(source, self.pad))

    def decode(
        self,
        target: Int[Tensor, "batch target_length"],
        memory: Float[Tensor, "batch source_length d_model"],
        memory_mask: Bool[Tensor, "#batch 1 1 source_length"],
        *,
        caches: list[DecoderCache] | None = None,
    ) -> Float[Tensor, "batch target_length vocabulary"]:
        """Logits after each target token. With `caches` (from `start_caches`), `target` holds only the
        newest tokens.

        Targets are padded on the right, where causality already hides the padding from every real token.
        """
        start = caches[0].self_attention.length if caches else 0
        x = self.embed_target(target, start)
        return self.to_logits(self.stacks.decoder(x, memory, memory_mask=memory_mask, caches=caches))

    def start_caches(self, memory: Float[Tensor, "batch source_length d_model"]) -> list[DecoderCache]:
        """One cache per decoder layer, before the first decoding step."""
        return self.stacks.decoder.start_caches(memory)

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return self.to_logits.weight.device
