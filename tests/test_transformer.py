"""The whole model: torch's numbers, what may see what, what is trained, and how it starts."""

import json
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from jaxtyping import TypeCheckError
from oracles import (
    PROPERTY,
    close,
    different,
    gradients,
    normal,
    random_tokens,
    shaken,
    small_transformer,
)
from torch import Tensor, nn
from torch.nn import functional as F

from attn import Decoder, Encoder, EncoderDecoder, Transformer, masks, watch
from attn.convert import from_torch, to_torch
from attn.positions import Rotary, sinusoidal

BATCH, SOURCE, TARGET = 3, 7, 5
NORMS = ["post", "pre"]
SHARING = ["none", "target", "all"]


def source_tokens(seed: int = 0) -> Tensor:
    return random_tokens(BATCH, SOURCE, vocabulary=11, seed=seed, lengths=[SOURCE, 4, 2])


def target_tokens(seed: int = 0) -> Tensor:
    tokens = random_tokens(BATCH, TARGET, vocabulary=13, seed=seed + 1, lengths=[3, TARGET, 4])
    tokens[:, 0] = 1
    return tokens


# --- equal to torch -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("final_norm", [False, True])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_the_stacks_are_torchs_in_outputs_and_every_gradient(
    norm: str, final_norm: bool, dtype: torch.dtype
) -> None:
    d_model = 12
    encoder_layer = nn.TransformerEncoderLayer(
        d_model, 3, 20, dropout=0.0, batch_first=True, norm_first=norm == "pre"
    )
    decoder_layer = nn.TransformerDecoderLayer(
        d_model, 3, 20, dropout=0.0, batch_first=True, norm_first=norm == "pre"
    )
    theirs = nn.Transformer(
        d_model,
        3,
        custom_encoder=nn.TransformerEncoder(
            encoder_layer, 2, nn.LayerNorm(d_model) if final_norm else None, enable_nested_tensor=False
        ),
        custom_decoder=nn.TransformerDecoder(decoder_layer, 3, nn.LayerNorm(d_model) if final_norm else None),
        batch_first=True,
    )
    shaken(theirs, dtype=dtype).train()
    ours = from_torch(theirs)
    assert isinstance(ours, EncoderDecoder)
    source = normal(BATCH, SOURCE, d_model, dtype=dtype, grad=True)
    target = normal(BATCH, TARGET, d_model, seed=1, dtype=dtype, grad=True)
    source_mask = masks.from_lengths(torch.tensor([7, 4, 2]))
    target_mask = masks.from_lengths(torch.tensor([3, 5, 4]))
    output = ours(source, target, source_mask, target_mask)
    their_output = theirs(
        source,
        target,
        tgt_mask=~masks.causal(TARGET),
        src_key_padding_mask=~source_mask[:, 0, 0],
        tgt_key_padding_mask=~target_mask[:, 0, 0],
        memory_key_padding_mask=~source_mask[:, 0, 0],
    )
    close(output, their_output)
    inputs = {"source": source, "target": target}
    got = gradients(output, inputs | dict(ours.named_parameters()))
    expected = gradients(their_output, inputs | dict(theirs.named_parameters()))
    for name in inputs:
        close(got.pop(name), expected.pop(name))
    # The gradients of ours, carried over by to_torch under torch's names.
    with torch.no_grad():
        for name, parameter in ours.named_parameters():
            parameter.copy_(got[name])
    renamed = dict(to_torch(ours).named_parameters())
    assert renamed.keys() == expected.keys()
    for name, gradient in expected.items():
        close(renamed[name], gradient)


def test_torchs_own_transformer_as_it_comes() -> None:
    """With its defaults: post-norm, and yet a LayerNorm behind each stack."""
    theirs = shaken(nn.Transformer(12, 2, 2, 1, 20, batch_first=True)).eval()
    ours = from_torch(theirs)
    source, target = normal(BATCH, SOURCE, 12), normal(BATCH, TARGET, 12, seed=1)
    close(ours(source, target), theirs(source, target, tgt_mask=~masks.causal(TARGET)))


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("share", SHARING)
def test_logits_are_those_of_torchs_stacks_between_embedding_and_projection(norm: str, share: str) -> None:
    model = small_transformer(norm=norm, share_embeddings=share, source_vocabulary=13)
    stacks, source, target = to_torch(model.stacks).train(), source_tokens(), target_tokens()

    def embed(tokens: Tensor, table: Tensor) -> Tensor:
        return table[tokens] * 12**0.5 + sinusoidal(tokens.size(1), 12)

    hidden = stacks(
        embed(source, model.embed_source.tokens.weight),
        embed(target, model.embed_target.tokens.weight),
        tgt_mask=~masks.causal(TARGET),
        src_key_padding_mask=source == 0,
        memory_key_padding_mask=source == 0,
    )
    logits = model(source, target)
    assert logits.shape == (BATCH, TARGET, 13)
    close(logits, hidden @ model.to_logits.weight.T)


# --- what may see what --------------------------------------------------------------------------------------


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("score", [None, Rotary()], ids=["plain", "rotary"])
def test_no_later_target_token_is_seen_and_every_earlier_one_is(
    norm: str, training: bool, score: nn.Module | None
) -> None:
    """In training and in evaluation alike; the token itself is seen too."""
    options = {} if score is None else {"attention": {"score": score}, "d_model": 12, "n_heads": 3}
    model = small_transformer(norm=norm, **options).train(training)
    source, target = source_tokens(), random_tokens(BATCH, TARGET, vocabulary=13)
    logits = model(source, target)
    for i in range(TARGET):
        changed = target.clone()
        changed[:, i] = 3 + (target[:, i] - 2) % 10
        after = model(source, changed)
        assert torch.equal(after[:, :i], logits[:, :i])
        for j in range(i, TARGET):
            for sentence in range(BATCH):
                assert different(after[sentence, j], logits[sentence, j])


@pytest.mark.parametrize("norm", NORMS)
def test_every_source_token_matters_to_every_output(norm: str) -> None:
    model = small_transformer(norm=norm)
    source, target = source_tokens(), target_tokens()
    logits = model(source, target)
    for i in range(SOURCE):
        changed = source.clone()
        changed[:, i] = torch.where(source[:, i] == 0, 0, 3 + (source[:, i] - 2) % 8)
        after = model(changed, target)
        for sentence in range(BATCH):
            if source[sentence, i] == 0:
                close(after[sentence], logits[sentence])
            else:
                assert all(different(after[sentence, j], logits[sentence, j]) for j in range(TARGET))


@pytest.mark.parametrize("positions", ["sinusoidal", "learned"])
def test_the_order_of_source_and_target_matters(positions: str) -> None:
    model, source = small_transformer(positions=positions), source_tokens()[:1]
    target = torch.tensor([[1, 5, 9, 7, 4]])
    logits = model(source, target)
    assert different(model(source.flip(1), target), logits)
    swapped = target[:, [0, 2, 1, 3, 4]]
    assert different(model(source, swapped)[:, 3:], logits[:, 3:])


def test_without_positions_the_source_is_a_bag_of_words() -> None:
    model, source, target = small_transformer(positions="none"), source_tokens()[:1], target_tokens()[1:2]
    close(model(source.flip(1), target), model(source, target), 1e-11)


@PROPERTY
@given(seed=st.integers(0, 10_000), n_extra=st.integers(1, 6), norm=st.sampled_from(NORMS))
def test_property_more_padding_changes_no_logits(seed: int, n_extra: int, norm: str) -> None:
    model, source, target = small_transformer(norm=norm), source_tokens(seed), target_tokens(seed)
    logits = model(source, target)
    wider = F.pad(source, (0, n_extra))
    close(model(wider, F.pad(target, (0, n_extra)))[:, :TARGET], logits)


@PROPERTY
@given(seed=st.integers(0, 10_000), norm=st.sampled_from(NORMS))
def test_property_each_pair_is_on_its_own(seed: int, norm: str) -> None:
    model, source, target = small_transformer(norm=norm), source_tokens(seed), target_tokens(seed)
    logits = model(source, target)
    order = torch.tensor([2, 0, 1])
    close(model(source[order], target[order]), logits[order])
    for i in range(BATCH):
        n_source, n_target = int((source[i] != 0).sum()), int((target[i] != 0).sum())
        alone = model(source[i : i + 1, :n_source], target[i : i + 1, :n_target])
        close(alone[0], logits[i, :n_target])


@pytest.mark.parametrize("place", ["embed_source", "embed_target"])
def test_the_vector_of_padding_reaches_no_real_token(place: str) -> None:
    model, source, target = small_transformer(), source_tokens(), target_tokens()
    logits = model(source, target)
    with torch.no_grad():
        getattr(model, place).tokens.weight[0] = 1e3 * normal(12)
    after = model(source, target)
    close(after[target != 0], logits[target != 0])


def test_another_id_may_be_padding() -> None:
    model = small_transformer(pad=5)
    source = torch.tensor([[3, 4, 6, 5, 5]])
    close(model(source, target_tokens()[:1]), model(source[:, :3], target_tokens()[:1]))
    assert different(
        model(torch.tensor([[3, 4, 6, 0, 0]]), target_tokens()[:1]), model(source, target_tokens()[:1])
    )


def test_a_source_of_nothing_but_padding_is_finite_forward_and_backward() -> None:
    model, source, target = small_transformer(), source_tokens(), target_tokens()
    source[1] = 0
    logits = model(source, target)
    assert logits.isfinite().all()
    for gradient in gradients(logits, dict(model.named_parameters())).values():
        assert gradient.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_padding_and_masks_hold_in_half_precision(dtype: torch.dtype) -> None:
    model, source, target = small_transformer(), source_tokens(), target_tokens()
    exact = model(source, target)
    logits = model.to(dtype)(source, target)
    assert logits.dtype == dtype
    close(logits.double(), exact, 1e-4 if dtype == torch.float32 else 0.5)


def test_mixed_precision_runs_and_stays_close() -> None:
    model, source, target = small_transformer(), source_tokens(), target_tokens()
    exact = model(source, target)
    with torch.autocast("cpu", torch.bfloat16):
        close(model.float()(source, target).double(), exact, 0.5)


def test_encode_then_decode_is_the_model() -> None:
    model, source, target = small_transformer(), source_tokens(), target_tokens()
    memory = model.encode(source)
    assert memory.shape == (BATCH, SOURCE, 12)
    close(model.decode(target, memory, masks.padding(source)), model(source, target))


@PROPERTY
@given(
    chunks=st.lists(st.integers(1, 3), min_size=1, max_size=4),
    seed=st.integers(0, 10_000),
    positions=st.sampled_from(["sinusoidal", "learned", "none"]),
    norm=st.sampled_from(NORMS),
)
def test_property_decoding_over_a_cache_gives_the_same_logits(
    chunks: list[int], seed: int, positions: str, norm: str
) -> None:
    model = small_transformer(seed=seed, positions=positions, norm=norm)
    source, target = source_tokens(seed), random_tokens(BATCH, sum(chunks), vocabulary=13, seed=seed)
    with torch.no_grad():
        expected, memory, mask = model(source, target), model.encode(source), masks.padding(source)
        caches = model.start_caches(memory)
        pieces = [model.decode(piece, memory, mask, caches=caches) for piece in target.split(chunks, dim=1)]
    close(torch.cat(pieces, dim=1), expected)


def test_watch_shows_where_the_model_looks() -> None:
    model, source, target = small_transformer(), source_tokens(), target_tokens()
    expected = model(source, target)
    with watch(model) as seen:
        close(model(source, target), expected)
    assert len(seen) == 2 + 2 * 2
    cross = seen["stacks.decoder.layers.1.cross_attention"]
    assert cross.shape == (BATCH, 3, TARGET, SOURCE)
    padded = (source == 0)[:, None, None, :].expand_as(cross)
    assert (cross[padded] == 0).all()


# --- embeddings ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("d_model", [16, 256])
def test_tokens_and_positions_start_at_the_same_size(d_model: int) -> None:
    """Which is what the factor √d_model is for: neither drowns the other."""
    torch.manual_seed(0)
    model = Transformer(500, 500, d_model=d_model, n_heads=2, n_encoder_layers=1, n_decoder_layers=1, d_ff=8)
    for embedding in (model.embed_source, model.embed_target):
        tokens = embedding.tokens.weight * embedding.scale
        assert 0.8 < tokens.std() < 1.2
        assert sinusoidal(50, d_model).square().mean().sqrt() == pytest.approx(0.5**0.5, abs=1e-3)


def test_positions_are_added_once_and_to_the_scaled_tokens() -> None:
    model, source = small_transformer(), source_tokens()
    close(
        model.embed_source(source),
        model.embed_source.tokens.weight[source] * 12**0.5 + sinusoidal(SOURCE, 12),
    )
    close(
        model.embed_target(source, start=4),
        model.embed_target.tokens.weight[source] * 12**0.5 + sinusoidal(SOURCE + 4, 12)[4:],
    )


def test_positions_are_no_parameters_and_move_with_the_model() -> None:
    model = small_transformer()
    assert not any("positions" in name for name, _ in model.named_parameters())
    moved = model.to("meta")
    assert all(x.device.type == "meta" for x in [*moved.parameters(), *moved.buffers()])
    assert moved.device.type == "meta"
    learned = small_transformer(positions="learned", max_length=9)
    assert learned.embed_target.positions.table.shape == (9, 12)  # type: ignore[union-attr]
    assert learned.embed_target.positions.table.requires_grad  # type: ignore[union-attr]


def test_a_model_reads_on_beyond_its_table_where_positions_are_a_formula() -> None:
    short, long = small_transformer(max_length=4), small_transformer(max_length=512)
    close(short(source_tokens(), target_tokens()), long(source_tokens(), target_tokens()))
    with pytest.raises(ValueError, match=r"end at 4.*reaches 7"):
        small_transformer(positions="learned", max_length=4)(source_tokens(), target_tokens())


@pytest.mark.parametrize("share", SHARING)
def test_sharing_makes_one_matrix_of_several(share: str) -> None:
    model = small_transformer(share_embeddings=share, source_vocabulary=13)
    source, target, logits = (
        model.embed_source.tokens.weight,
        model.embed_target.tokens.weight,
        model.to_logits.weight,
    )
    assert (target is logits) == (share in ("target", "all"))
    assert (source is target) == (share == "all")
    matrices = {"none": 3, "target": 2, "all": 1}[share]
    assert (
        sum(p.numel() for p in model.parameters())
        == sum(p.numel() for p in model.stacks.parameters()) + 13 * 12 * matrices
    )
    # Still one matrix after a copy of the weights, as a checkpoint makes it.
    again = Transformer(**model.config)
    again.load_state_dict(model.state_dict())
    again.double().eval()
    assert (again.embed_target.tokens.weight is again.to_logits.weight) == (share != "none")
    close(again(source_tokens(), target_tokens()), model(source_tokens(), target_tokens()), 1e-6)


# --- training -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("share", SHARING)
@pytest.mark.parametrize("d_model", [32, 128])
def test_the_first_loss_is_near_that_of_guessing(norm: str, share: str, d_model: int) -> None:
    torch.manual_seed(0)
    vocabulary = 1000
    model = Transformer(
        vocabulary,
        vocabulary,
        d_model=d_model,
        n_heads=4,
        n_encoder_layers=2,
        n_decoder_layers=2,
        d_ff=2 * d_model,
        norm=norm,
        share_embeddings=share,
    )
    tokens = random_tokens(8, 12, vocabulary=vocabulary)
    loss = F.cross_entropy(model(tokens, tokens[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten())
    assert abs(loss.item() - math.log(vocabulary)) < 1.0


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("positions", ["sinusoidal", "learned"])
@pytest.mark.parametrize("share", SHARING)
def test_every_parameter_gets_a_gradient(norm: str, positions: str, share: str) -> None:
    model = small_transformer(
        norm=norm, positions=positions, share_embeddings=share, source_vocabulary=13, max_length=7
    )
    source, target = source_tokens(), target_tokens()
    for name, gradient in gradients(model(source, target), dict(model.named_parameters())).items():
        if name.endswith("W_qkv.bias"):  # the keys' part is zero: softmax ignores a constant
            assert gradient[12:24].abs().max() < 1e-10
            gradient = torch.cat([gradient[:12], gradient[24:]])
        assert gradient.abs().max() > 1e-6, name


def test_number_of_parameters_of_the_papers_base_model() -> None:
    """Section 5.3 and table 3: 65 million, with a joint vocabulary of about 37,000."""
    with torch.device("meta"):
        model = Transformer(37_000, 37_000, share_embeddings="all")
    stacks = 6 * (4 * 512**2 + 4 * 512 + 2 * 512 * 2048 + 2048 + 512 + 4 * 512)
    stacks += 6 * (8 * 512**2 + 8 * 512 + 2 * 512 * 2048 + 2048 + 512 + 6 * 512)
    assert sum(p.numel() for p in model.parameters()) == stacks + 37_000 * 512
    assert 60e6 < stacks + 37_000 * 512 < 66e6


def test_dropout_of_zero_is_none_in_training() -> None:
    model, source, target = small_transformer(), source_tokens(), target_tokens()
    expected = model.eval()(source, target)
    assert torch.equal(model.train()(source, target), expected)


@pytest.mark.parametrize("place", ["dropout", "attention_dropout", "activation_dropout"])
def test_each_declared_dropout_acts_in_training_and_none_in_evaluation(place: str) -> None:
    torch.manual_seed(0)
    model, source, target = small_transformer(**{place: 0.5}), source_tokens(), target_tokens()
    expected = small_transformer()(source, target)
    assert torch.equal(model.eval()(source, target), expected)
    assert torch.equal(model(source, target), expected)
    assert different(model.train()(source, target), expected)


def test_the_papers_dropout_stands_at_every_sublayer_and_both_embeddings_and_nowhere_else() -> None:
    torch.manual_seed(0)
    model, source, target = small_transformer(dropout=0.25), source_tokens(), target_tokens()
    expected = model.eval()(source, target)
    model.train()
    places = {name: m for name, m in model.named_modules() if isinstance(m, nn.Dropout) and m.p == 0.25}
    assert len(places) == 2 * 2 + 2 * 3 + 2
    for module in places.values():
        module.p = 0.0
    assert torch.equal(model(source, target), expected)
    for name, module in places.items():
        module.p = 0.25
        assert different(model(source, target), expected), name
        module.p = 0.0


def test_each_dropout_is_applied_once() -> None:
    model, calls = small_transformer(dropout=0.25, activation_dropout=0.25).train(), []
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.register_forward_hook(lambda module, args, output: calls.append(module))
    model(source_tokens(), target_tokens())
    assert len(calls) == len(set(calls)) == sum(isinstance(m, nn.Dropout) for m in model.modules())


# --- settings and bad input ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes", [{}, {"norm": "pre", "positions": "learned", "attention_dropout": 0.1, "pad": 3}]
)
def test_the_config_survives_json_and_rebuilds_the_model(changes: dict) -> None:
    model = small_transformer(**changes)
    again = Transformer(**json.loads(json.dumps(model.config))).double().eval()
    again.load_state_dict(model.state_dict())
    close(again(source_tokens(), target_tokens()), model(source_tokens(), target_tokens()), 1e-6)
    assert again.config == model.config
    assert (again.pad, again.bos, again.eos) == (model.pad, model.bos, model.eos)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"norm": "middle"}, "post"),
        ({"positions": "rotary"}, "sinusoidal"),
        ({"share_embeddings": "both"}, "target"),
        ({"share_embeddings": "all", "target_vocabulary": 12}, "11 source and 12"),
        ({"n_heads": 5}, "divide"),
        ({"d_model": 7, "n_heads": 7}, "even"),
        ({"dropout": 1.5}, "dropout"),
    ],
)
def test_impossible_settings_are_errors_that_say_what_is_possible(changes: dict, message: str) -> None:
    with pytest.raises((ValueError, TypeCheckError), match=message):
        small_transformer(**changes)


def test_an_unknown_setting_is_an_error_that_names_it() -> None:
    with pytest.raises(TypeError, match="n_layer"):
        small_transformer(n_layer=3)


@pytest.mark.parametrize(
    ("source", "target", "name"),
    [
        (torch.ones(2, 5), torch.ones(2, 4, dtype=torch.long), "source"),
        (torch.ones(5, dtype=torch.long), torch.ones(2, 4, dtype=torch.long), "source"),
        (torch.ones(2, 5, dtype=torch.long), torch.ones(3, 4, dtype=torch.long), "target"),
    ],
)
def test_a_wrong_shape_or_type_is_an_error_that_names_the_input(
    source: Tensor, target: Tensor, name: str
) -> None:
    with pytest.raises(TypeCheckError, match=f"parameter '{name}'"):
        small_transformer()(source, target)


@pytest.mark.parametrize("kind", [Encoder, Decoder])
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("final_norm", [None, False, True])
def test_a_last_layer_norm_stands_behind_pre_norm_stacks_unless_told_otherwise(
    kind: type, norm: str, final_norm: bool | None
) -> None:
    stack = shaken(kind(2, 12, 3, 20, 0.0, norm, final_norm=final_norm))
    wanted = norm == "pre" if final_norm is None else final_norm
    assert isinstance(stack.final_norm, nn.LayerNorm) == wanted
    x, memory = normal(BATCH, TARGET, 12), normal(BATCH, SOURCE, 12, seed=1)
    inputs = (x, memory) if kind is Decoder else (x,)
    layer_by_layer = x
    for layer in stack.layers:
        layer_by_layer = layer(layer_by_layer, *inputs[1:])
    close(stack(*inputs), stack.final_norm(layer_by_layer))


def test_layers_do_not_share_their_weights() -> None:
    model = Transformer(11, 13, d_model=12, n_heads=3, n_encoder_layers=2, n_decoder_layers=2, d_ff=20)
    for stack in (model.stacks.encoder, model.stacks.decoder):
        first, second = stack.layers
        assert different(first.self_attention.W_qkv.weight, second.self_attention.W_qkv.weight)


def test_a_causal_encoder_is_a_decoder_only_model() -> None:
    stack, x = shaken(Encoder(2, 12, 3, 20, 0.0)), normal(BATCH, TARGET, 12)
    output = stack(x, causal=True)
    for length in range(1, TARGET):
        close(stack(x[:, :length], causal=True), output[:, :length])
    assert different(stack(x)[:, 0], output[:, 0])
