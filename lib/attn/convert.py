"""Weights to and from `torch.nn`: the proof that our modules are the ones that everybody uses.

| ours                 | torch.nn                  |
|----------------------|---------------------------|
| `MultiHeadAttention` | `MultiheadAttention`      |
| `EncoderLayer`       | `TransformerEncoderLayer` |
| `DecoderLayer`       | `TransformerDecoderLayer` |
| `Encoder`, `Decoder` | `TransformerEncoder`, `TransformerDecoder` |
| `EncoderDecoder`     | `Transformer`             |

torch.nn takes masks the other way round (`masks.to_torch_mha`), must be told that the decoder is causal,
and with `batch_first=True`, which these always set, has our axis order.
"""

from typing import Any, cast

from torch import nn

from attn.layers import DecoderLayer, EncoderLayer, Norm
from attn.multihead import MultiHeadAttention
from attn.normalizers import softmax
from attn.scores import scaled_dot_product
from attn.transformer import Decoder, Encoder, EncoderDecoder

# Our name of a part, torch's name of the same part.
_ENCODER_LAYER = {
    "feed_forward.W_1": "linear1",
    "feed_forward.W_2": "linear2",
    "around_self_attention.layer_norm": "norm1",
    "around_feed_forward.layer_norm": "norm2",
}
_DECODER_LAYER = {
    "feed_forward.W_1": "linear1",
    "feed_forward.W_2": "linear2",
    "around_self_attention.layer_norm": "norm1",
    "around_cross_attention.layer_norm": "norm2",
    "around_feed_forward.layer_norm": "norm3",
}


def to_torch(module: nn.Module) -> nn.Module:
    """A new `torch.nn` module with a copy of the weights, on the same device, of the same dtype, in the
    same mode.

    Errors: TypeError for a module that has no counterpart, ValueError for settings that torch.nn does not
    have.
    """
    theirs = _empty_torch(module)
    _copy(module, theirs, into_torch=True)
    return theirs


def from_torch(module: nn.Module) -> nn.Module:
    """A new module of ours with a copy of a `torch.nn` module's weights, on the same device, of the same
    dtype, in the same mode.

    Errors: TypeError for a module that has no counterpart, ValueError for settings that ours do not have.
    """
    ours = _empty_ours(module)
    _copy(ours, module, into_torch=False)
    return ours


def _empty_torch(module: nn.Module) -> nn.Module:
    if isinstance(module, MultiHeadAttention):
        _only_plain_attention(module)
        bias = module.W_o.bias is not None
        return nn.MultiheadAttention(
            module.d_model, module.n_heads, dropout=module.dropout, bias=bias, batch_first=True
        )
    if isinstance(module, EncoderLayer | DecoderLayer):
        settings = _settings_of_ours(module)
        kind = nn.TransformerEncoderLayer if isinstance(module, EncoderLayer) else nn.TransformerDecoderLayer
        return kind(**settings, batch_first=True)
    if isinstance(module, Encoder):
        layer = cast(nn.TransformerEncoderLayer, _empty_torch(module.layers[0]))
        return nn.TransformerEncoder(
            layer, len(module.layers), _new_norm(module.final_norm), enable_nested_tensor=False
        )
    if isinstance(module, Decoder):
        decoder_layer = cast(nn.TransformerDecoderLayer, _empty_torch(module.layers[0]))
        return nn.TransformerDecoder(decoder_layer, len(module.layers), _new_norm(module.final_norm))
    if isinstance(module, EncoderDecoder):
        settings = _settings_of_ours(cast(EncoderLayer, module.encoder.layers[0]))
        return nn.Transformer(
            settings["d_model"],
            settings["nhead"],
            custom_encoder=_empty_torch(module.encoder),
            custom_decoder=_empty_torch(module.decoder),
            batch_first=True,
        )
    raise TypeError(f"torch.nn has no counterpart of {type(module).__name__}; see the table in attn.convert")


def _empty_ours(module: nn.Module) -> nn.Module:
    if isinstance(module, nn.MultiheadAttention):
        if not module._qkv_same_embed_dim or module.bias_k is not None or module.add_zero_attn:
            raise ValueError(
                "MultiHeadAttention has one width for query, key and value, no bias_k and no zero attention"
            )
        bias = module.in_proj_bias is not None
        return MultiHeadAttention(module.embed_dim, module.num_heads, dropout=module.dropout, bias=bias)
    if isinstance(module, nn.TransformerEncoderLayer):
        return EncoderLayer(**_settings_of_torch(module))
    if isinstance(module, nn.TransformerDecoderLayer):
        return DecoderLayer(**_settings_of_torch(module))
    if isinstance(module, nn.TransformerEncoder | nn.TransformerDecoder):
        kind = Encoder if isinstance(module, nn.TransformerEncoder) else Decoder
        layers = cast(nn.ModuleList, module.layers)
        settings = _settings_of_torch(cast(nn.TransformerEncoderLayer, layers[0]))
        if module.norm is not None and (type(module.norm) is not nn.LayerNorm or module.norm.eps != 1e-5):
            raise ValueError(f"our last norm is a LayerNorm with eps = 1e-5, this stack's is {module.norm}")
        return kind(len(layers), **settings, final_norm=module.norm is not None)
    if isinstance(module, nn.Transformer):
        ours = EncoderDecoder(module.d_model, module.nhead, 0, 0, 1)
        ours.encoder = cast(Encoder, _empty_ours(module.encoder))
        ours.decoder = cast(Decoder, _empty_ours(module.decoder))
        return ours
    raise TypeError(f"attn has no counterpart of {type(module).__name__}; see the table in attn.convert")


def _only_plain_attention(attention: MultiHeadAttention) -> None:
    if attention.score is not scaled_dot_product or attention.normalize is not softmax:
        raise ValueError("nn.MultiheadAttention knows only the scaled dot product and softmax")


def _settings_of_ours(layer: EncoderLayer | DecoderLayer) -> dict[str, Any]:
    _only_plain_attention(layer.self_attention)
    if layer.self_attention.W_o.bias is None:
        raise ValueError("torch.nn layers have biases, this one's attention was built with bias=False")
    dropouts = (
        layer.around_self_attention.dropout.p,
        layer.self_attention.dropout,
        layer.feed_forward.dropout.p,
    )
    # torch.nn has one probability for all three places; without dropout, or with one alike everywhere,
    # nothing is lost.
    if len(set(dropouts)) > 1:
        raise ValueError(
            f"torch.nn layers have one dropout for sub-layers, attention and activations; this one has "
            f"{dropouts}: set attention_dropout and activation_dropout to the value of dropout"
        )
    return {
        "d_model": layer.self_attention.d_model,
        "nhead": layer.self_attention.n_heads,
        "dim_feedforward": layer.feed_forward.W_1.out_features,
        "dropout": dropouts[0],
        "activation": layer.feed_forward.activation,
        "layer_norm_eps": layer.around_self_attention.layer_norm.eps,
        "norm_first": layer.around_self_attention.norm == "pre",
    }


def _settings_of_torch(layer: nn.TransformerEncoderLayer | nn.TransformerDecoderLayer) -> dict[str, Any]:
    if layer.norm1.eps != 1e-5:
        raise ValueError(f"our LayerNorm has eps = 1e-5, this layer's is {layer.norm1.eps}")
    if layer.linear1.bias is None:
        raise ValueError("our layers have biases, this one was built with bias=False")
    norm: Norm = "pre" if layer.norm_first else "post"
    return {
        "d_model": layer.self_attn.embed_dim,
        "n_heads": layer.self_attn.num_heads,
        "d_ff": layer.linear1.out_features,
        "dropout": layer.dropout1.p,
        "norm": norm,
        "activation": layer.activation,
        "attention_dropout": layer.self_attn.dropout,
        "activation_dropout": layer.dropout.p,
    }


def _new_norm(final_norm: nn.Module) -> nn.LayerNorm | None:
    if not isinstance(final_norm, nn.LayerNorm):
        return None
    return nn.LayerNorm(final_norm.normalized_shape, eps=final_norm.eps)


def _names(ours: nn.Module, our: str = "", their: str = "") -> dict[str, str]:
    """For each parameter of ours, torch's name of it."""
    names: dict[str, str] = {}
    if isinstance(ours, MultiHeadAttention):
        parts = {"W_qkv.weight": "in_proj_weight", "W_o.weight": "out_proj.weight"}
        if ours.W_o.bias is not None:
            parts |= {"W_qkv.bias": "in_proj_bias", "W_o.bias": "out_proj.bias"}
        return {our + a: their + b for a, b in parts.items()}
    if isinstance(ours, EncoderLayer | DecoderLayer):
        table = _ENCODER_LAYER if isinstance(ours, EncoderLayer) else _DECODER_LAYER
        for a, b in table.items():
            for kind in ("weight", "bias"):
                names[f"{our}{a}.{kind}"] = f"{their}{b}.{kind}"
        names |= _names(ours.self_attention, f"{our}self_attention.", f"{their}self_attn.")
        if isinstance(ours, DecoderLayer):
            names |= _names(ours.cross_attention, f"{our}cross_attention.", f"{their}multihead_attn.")
    elif isinstance(ours, Encoder | Decoder):
        for i, layer in enumerate(ours.layers):
            names |= _names(layer, f"{our}layers.{i}.", f"{their}layers.{i}.")
        if isinstance(ours.final_norm, nn.LayerNorm):
            names |= {f"{our}final_norm.{kind}": f"{their}norm.{kind}" for kind in ("weight", "bias")}
    elif isinstance(ours, EncoderDecoder):
        names |= _names(ours.encoder, f"{our}encoder.", f"{their}encoder.")
        names |= _names(ours.decoder, f"{our}decoder.", f"{their}decoder.")
    return names


def _copy(ours: nn.Module, theirs: nn.Module, *, into_torch: bool) -> None:
    source, target = (ours, theirs) if into_torch else (theirs, ours)
    like = next(source.parameters())
    target.to(device=like.device, dtype=like.dtype)
    target.train(source.training)
    values = source.state_dict()
    names = _names(ours)
    renamed = (
        {their: values[our] for our, their in names.items()}
        if into_torch
        else {our: values[their] for our, their in names.items()}
    )
    target.load_state_dict(renamed)  # strict: a parameter forgotten on either side is an error
