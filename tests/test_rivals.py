"""What attention is compared with: shapes, blindness where it is promised, padding that changes nothing."""

import itertools
import math
from collections.abc import Callable
from functools import partial

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from oracles import PROPERTY, close, different, gradients, normal, random_tokens, shaken
from torch import Tensor, nn
from torch.nn import functional as F

from attn import masks, watch
from attn.rivals import CNN, RNN, AttentiveGRU, Seq2Seq, WindowMLP

BATCH, LENGTH, D_IN, D_OUT = 4, 7, 5, 6
LENGTHS = torch.tensor([3, 7, 1, 5])
MASK = torch.arange(LENGTH) < LENGTHS[:, None]

MAKERS: dict[str, Callable[[], nn.Module]] = {
    "window": lambda: WindowMLP(D_IN, D_OUT, 2, 11),
    "window of one": lambda: WindowMLP(D_IN, D_OUT, 0, 11),
    "lstm": lambda: RNN(D_IN, D_OUT),
    "gru, two layers": lambda: RNN(D_IN, D_OUT, cell="gru", layers=2),
    "rnn, one direction": lambda: RNN(D_IN, D_OUT, cell="rnn", bidirectional=False),
    "cnn": lambda: CNN(D_IN, D_OUT),
    "cnn, three wide layers": lambda: CNN(D_IN, D_OUT, width=5, layers=3),
}
every_rival = pytest.mark.parametrize("name", MAKERS)


def made(name: str) -> nn.Module:
    return shaken(MAKERS[name]())


@every_rival
def test_shapes_alike_and_zeros_at_padding(name: str) -> None:
    out = made(name)(normal(BATCH, LENGTH, D_IN), MASK)
    assert out.shape == (BATCH, LENGTH, D_OUT)
    assert (out[~MASK] == 0).all()
    assert different(out[MASK], torch.zeros_like(out[MASK]))


@every_rival
def test_no_mask_is_a_mask_that_allows_all(name: str) -> None:
    model, x = made(name), normal(BATCH, LENGTH, D_IN)
    close(model(x), model(x, torch.ones(BATCH, LENGTH, dtype=torch.bool)))


@every_rival
@pytest.mark.parametrize("garbage", [1e6, float("nan"), float("inf")])
def test_what_stands_in_the_padding_changes_nothing(name: str, garbage: float) -> None:
    model, x = made(name), normal(BATCH, LENGTH, D_IN)
    found = []
    for filler in (0.0, garbage):
        inputs = x.masked_fill(~MASK[..., None], filler).requires_grad_()
        out = model(inputs, MASK)
        found.append((out, gradients(out, {"x": inputs} | dict(model.named_parameters()))))
    close(found[1][0], found[0][0])
    for key, gradient in found[0][1].items():
        close(found[1][1][key], gradient)
    assert (found[0][1]["x"][~MASK] == 0).all()


@every_rival
@PROPERTY
@given(n_extra=st.integers(1, 6))
def test_more_padding_changes_nothing(name: str, n_extra: int) -> None:
    model, x = made(name), normal(BATCH, LENGTH, D_IN)
    longer = model(F.pad(x, (0, 0, 0, n_extra), value=9.0), F.pad(MASK, (0, n_extra)))
    close(longer[:, :LENGTH], model(x, MASK))
    assert (longer[:, LENGTH:] == 0).all()


@every_rival
def test_each_row_is_as_it_would_be_alone(name: str) -> None:
    model, x = made(name), normal(BATCH, LENGTH, D_IN)
    out = model(x, MASK)
    for row, length in enumerate(LENGTHS):
        close(out[row, :length], model(x[row : row + 1, :length])[0])


@every_rival
def test_a_row_without_vectors_gives_zeros_and_no_gradient(name: str) -> None:
    model, x = made(name), normal(BATCH, LENGTH, D_IN, grad=True)
    mask = MASK.clone()
    mask[1] = False
    out = model(x, mask)
    assert (out[1] == 0).all()
    found = gradients(out, {"x": x} | dict(model.named_parameters()))
    assert (found["x"][1] == 0).all()
    assert all(gradient.isfinite().all() for gradient in found.values())


@PROPERTY
@given(
    batch=st.integers(1, 4),
    length=st.integers(1, 6),
    radius=st.integers(0, 7),
    layers=st.integers(1, 3),
    half_width=st.integers(0, 4),
    cell=st.sampled_from(["lstm", "gru", "rnn"]),
    bidirectional=st.booleans(),
)
def test_any_shape(
    batch: int, length: int, radius: int, layers: int, half_width: int, cell: str, bidirectional: bool
) -> None:
    lengths = torch.arange(batch) % (length + 1)
    mask = torch.arange(length) < lengths[:, None]
    for model in (
        WindowMLP(3, 4, radius, 5),
        CNN(3, 4, width=2 * half_width + 1, layers=layers),
        RNN(3, 4, cell=cell, layers=layers, bidirectional=bidirectional),
    ):
        x = normal(batch, length, 3, dtype=torch.float32)
        assert model(x).shape == model(x, mask).shape == (batch, length, 4)


def reach(model: nn.Module, length: int, place: int) -> list[int]:
    """The places of the input that the output at `place` depends on."""
    x = normal(1, length, D_IN, grad=True)
    (gradient,) = torch.autograd.grad(model(x)[0, place].square().sum(), x)
    return gradient[0].abs().sum(dim=-1).nonzero().flatten().tolist()


@pytest.mark.parametrize("radius", [0, 1, 3])
def test_a_window_sees_its_neighbours_and_nothing_else(radius: int) -> None:
    model = shaken(WindowMLP(D_IN, D_OUT, radius, 50))
    for place in range(9):
        assert reach(model, 9, place) == [i for i in range(9) if abs(i - place) <= radius]


def test_a_window_by_hand() -> None:
    model, x = shaken(WindowMLP(D_IN, D_OUT, 1, 11)), normal(1, 4, D_IN)
    zero = torch.zeros(D_IN, dtype=x.dtype)
    for i in range(4):
        before, after = (x[0, i - 1] if i else zero), (x[0, i + 1] if i < 3 else zero)
        window = torch.cat([before, x[0, i], after])
        close(model(x)[0, i], model.output(model.hidden(window).clamp_min(0)))


@pytest.mark.parametrize("radius", [0, 1, 4])
def test_a_window_s_weights_grow_with_it(radius: int) -> None:
    count = sum(p.numel() for p in WindowMLP(D_IN, D_OUT, radius, 11).parameters())
    assert count == (2 * radius + 1) * D_IN * 11 + 11 + 11 * D_OUT + D_OUT


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
@pytest.mark.parametrize("bidirectional", [True, False])
def test_rnn_is_torch_s(cell: str, bidirectional: bool) -> None:
    ours = shaken(RNN(D_IN, D_OUT, cell=cell, bidirectional=bidirectional, layers=2))
    kind = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.RNN}[cell]
    d_state = D_OUT // 2 if bidirectional else D_OUT
    torchs = kind(D_IN, d_state, 2, batch_first=True, bidirectional=bidirectional).double()
    torchs.load_state_dict(ours.rnn.state_dict())
    x = normal(BATCH, LENGTH, D_IN)
    close(ours(x), torchs(x)[0])
    out = ours(x, MASK)
    for row, length in enumerate(LENGTHS):
        close(out[row, :length], torchs(x[row, :length])[0])


def test_one_direction_never_sees_the_future_and_two_see_all() -> None:
    assert reach(shaken(RNN(D_IN, D_OUT, bidirectional=False)), 6, 3) == [0, 1, 2, 3]
    assert reach(shaken(RNN(D_IN, D_OUT)), 6, 3) == list(range(6))


def test_a_cnn_sees_as_far_as_its_layers_say() -> None:
    for layers, width in ((1, 3), (2, 3), (2, 5)):
        radius = layers * (width // 2)
        seen = reach(shaken(CNN(D_IN, 40, width=width, layers=layers)), 11, 5)
        assert seen == [i for i in range(11) if abs(i - 5) <= radius]


def test_a_cnn_is_a_window_with_the_same_weights_everywhere() -> None:
    model, x = shaken(CNN(D_IN, D_OUT)), normal(1, 4, D_IN)
    kernel, bias = model.convolutions[0].weight, model.convolutions[0].bias
    edged = F.pad(x[0], (0, 0, 1, 1))

    def at(i: int) -> Tensor:
        return (torch.einsum("oiw,wi->o", kernel, edged[i : i + 3]) + bias).clamp_min(0)

    close(model(x)[0], torch.stack([at(i) for i in range(4)]))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: WindowMLP(3, 4, -1, 5), "radius is a number of neighbours, got -1"),
        (lambda: RNN(3, 5), "must be even, got 5"),
        (lambda: RNN(3, 4, layers=0), "layers must be at least 1, got 0"),
        (lambda: CNN(3, 4, width=2), "width must be odd"),
        (lambda: CNN(3, 4, layers=0), "layers must be at least 1, got 0"),
        (lambda: Seq2Seq(0, 4), "source_vocabulary must be at least 1, got 0"),
        (lambda: Seq2Seq(3, -4), "target_vocabulary must be at least 1, got -4"),
        (lambda: Seq2Seq(3, 4, d_embedding=0), "d_embedding must be at least 1, got 0"),
        (lambda: Seq2Seq(3, 4, d_hidden=0), "d_hidden must be at least 1, got 0"),
        (lambda: Seq2Seq(3, 4, d_hidden=5, attention=False, d_fixed=0), "d_fixed must be at least 1, got 0"),
        (lambda: Seq2Seq(3, 4, d_hidden=5, d_fixed=6), "d_fixed=6 .* needs attention=False"),
        (lambda: Seq2Seq(3, 4, d_embedding=5, d_hidden=6, dropout=1.5), "dropout"),
    ],
)
def test_errors(make: Callable[[], nn.Module], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


# --- the recurrent encoder-decoder --------------------------------------------------------------------------

D_EMBEDDING, D_HIDDEN, D_FIXED, WORDS, TARGETS = 5, 6, 7, 11, 13
both = pytest.mark.parametrize("attention", [True, False], ids=["attentive", "fixed vector"])


def seq2seq(attention: bool = True, seed: int = 0, **changes: object) -> Seq2Seq:
    settings = {
        "d_embedding": D_EMBEDDING,
        "d_hidden": D_HIDDEN,
        "attention": attention,
        "d_fixed": None if attention else D_FIXED,
    }
    return shaken(Seq2Seq(WORDS, TARGETS, **{**settings, **changes}), seed=seed, size=0.6).eval()


def tokens() -> tuple[Tensor, Tensor]:
    """Sources (4, 7) of lengths 3, 7, 1, 5 and targets (4, 8) of lengths 6, 4, 8, 2."""
    source = random_tokens(BATCH, LENGTH, vocabulary=WORDS, lengths=LENGTHS.tolist())
    target = random_tokens(BATCH, 8, vocabulary=TARGETS, seed=1, lengths=[6, 4, 8, 2])
    target[:, 0] = 1
    return source, target


@both
def test_seq2seq_gives_logits_and_the_same_ones_again(attention: bool) -> None:
    source, target = tokens()
    logits = seq2seq(attention)(source, target)
    assert logits.shape == (BATCH, 8, TARGETS)
    assert torch.equal(seq2seq(attention)(source, target), logits)
    assert different(seq2seq(attention, seed=1)(source, target), logits)
    assert different(seq2seq(attention)(source.roll(1, 0), target), logits)


@both
def test_seq2seq_is_rebuilt_from_its_configuration(attention: bool) -> None:
    model = seq2seq(attention, dropout=0.25, pad=1, bos=2, eos=0)
    again = Seq2Seq(**model.config).double().eval()
    again.load_state_dict(model.state_dict())
    assert (again.pad, again.bos, again.eos, again.dropout.p) == (1, 2, 0, 0.25)
    source, target = (x.where(x != 0, 1) for x in tokens())
    assert torch.equal(again(source, target), model(source, target))
    assert again.device == torch.device("cpu")


def test_widths_by_default() -> None:
    assert Seq2Seq(3, 4, d_hidden=5, attention=False).to_fixed.out_features == 10
    paper = Seq2Seq(3, 4)
    assert (paper.embed_source.embedding_dim, paper.encoder.rnn.hidden_size) == (620, 1000)


def bidirectional_by_torch(model: Seq2Seq, source: Tensor) -> tuple[Tensor, Tensor]:
    """`nn.GRU` over one source without padding: states (length, 2 d_hidden), the last of each direction."""
    gru = nn.GRU(D_EMBEDDING, D_HIDDEN, bidirectional=True, batch_first=True).double()
    gru.load_state_dict(model.encoder.rnn.state_dict())
    states, last = gru(model.embed_source(source)[None])
    return states[0], last[:, 0]


def test_annotations_are_those_of_torch_s_gru_and_zeros_at_padding() -> None:
    model, (source, _) = seq2seq(), tokens()
    memory = model.encode(source)
    assert memory.shape == (BATCH, LENGTH, 2 * D_HIDDEN)
    for row, length in enumerate(LENGTHS):
        close(memory[row, :length], bidirectional_by_torch(model, source[row, :length])[0])
        assert (memory[row, length:] == 0).all()


def test_the_fixed_vector_by_hand_of_torch_s_cells() -> None:
    """c from the last states of both directions; c beside every token, and in the first state."""
    model, (source, target) = seq2seq(attention=False), tokens()
    cell = nn.GRUCell(D_EMBEDDING + D_FIXED, D_HIDDEN).double()
    cell.load_state_dict(
        {name.removesuffix("_l0"): value for name, value in model.decoder.state_dict().items()}
    )
    logits, memory = model(source, target), model.encode(source)
    assert memory.shape == (BATCH, 1, D_FIXED)
    for row, length in enumerate(LENGTHS):
        _, (forwards, backwards) = bidirectional_by_torch(model, source[row, :length])
        W, b = model.to_fixed.weight, model.to_fixed.bias
        c = torch.tanh(W[:, :D_HIDDEN] @ forwards + W[:, D_HIDDEN:] @ backwards + b)
        close(memory[row, 0], c)
        state = torch.tanh(model.to_start.weight @ c + model.to_start.bias)
        for i, y in enumerate(model.embed_target(target[row])):
            state = cell(torch.cat([y, c])[None], state[None])[0]
            hidden = torch.tanh(model.to_hidden.weight @ torch.cat([state, c, y]) + model.to_hidden.bias)
            close(logits[row, i], model.to_logits.weight @ hidden)


def test_attention_as_the_paper_writes_it() -> None:
    """Bahdanau et al. 2015, section 3.1 and appendix A, one sentence, one step, one word at a time."""
    model, (source, target) = seq2seq(), tokens()
    cell = nn.GRUCell(D_EMBEDDING + 2 * D_HIDDEN, D_HIDDEN).double()
    cell.load_state_dict(model.decoder.cell.state_dict())
    W_a, U_a = model.decoder.score.W_q.weight, model.decoder.score.W_k.weight
    v_a = model.decoder.score.v.weight[0]
    with watch(model) as seen:
        logits = model(source, target)
    for row, length in enumerate(LENGTHS):
        h, (_, backward_at_first_word) = bidirectional_by_torch(model, source[row, :length])
        s = torch.tanh(model.to_start.weight @ backward_at_first_word + model.to_start.bias)
        for i, y in enumerate(model.embed_target(target[row])):
            e = [(v_a @ torch.tanh(W_a @ s + U_a @ h_j)).item() for h_j in h]
            alpha = [math.exp(e_ij) / sum(map(math.exp, e)) for e_ij in e]
            c = sum(alpha_ij * h_j for alpha_ij, h_j in zip(alpha, h, strict=True))
            s = cell(torch.cat([y, c])[None], s[None])[0]
            hidden = torch.tanh(model.to_hidden.weight @ torch.cat([s, c, y]) + model.to_hidden.bias)
            close(logits[row, i], model.to_logits.weight @ hidden)
            close(seen["decoder"][row, 0, i, :length], torch.tensor(alpha, dtype=torch.float64))
            assert (seen["decoder"][row, 0, i, length:] == 0).all()


def test_two_steps_of_the_attentive_gru_worked_out_by_hand() -> None:
    """Scores 0 and log 3: weights 1/4 and 3/4, so c = 1/4 · 0 + 3/4 · 1. All gates are 1/2."""
    gru = AttentiveGRU(1, 1, 1).double()
    with torch.no_grad():
        for parameter in gru.parameters():
            parameter.zero_()
        gru.score.W_k.weight.fill_(1.0)
        gru.score.v.weight.fill_(math.log(3) / math.tanh(1))
        gru.cell.weight_ih[2, 1] = 1.0  # of the new state: the context's weight
    float64 = partial(torch.tensor, dtype=torch.float64)
    memory, mask = float64([[[0.0], [1.0], [5.0]]]), torch.tensor([[[True, True, False]]])
    state = float64([[0.8]])
    output, weights = gru(normal(1, 2, 1), memory, mask, state, need_weights=True)
    first = 0.5 * math.tanh(0.75) + 0.4
    second = 0.5 * math.tanh(0.75) + 0.5 * first
    close(output, float64([[[first, 0.75], [second, 0.75]]]))
    close(weights, float64([[[[0.25, 0.75, 0.0], [0.25, 0.75, 0.0]]]]))


def test_with_one_word_to_look_at_it_is_torch_s_gru() -> None:
    """The context is that word's annotation at every step."""
    gru = shaken(AttentiveGRU(3, 4, 5))
    torchs = nn.GRU(3 + 5, 4, batch_first=True).double()
    torchs.load_state_dict({f"{name}_l0": value for name, value in gru.cell.state_dict().items()})
    x, memory, state = normal(BATCH, 7, 3), normal(BATCH, 1, 5, seed=1), normal(BATCH, 4, seed=2)
    output, none = gru(x, memory, torch.ones(1, 1, 1, dtype=torch.bool), state)
    assert none is None
    close(output[..., :4], torchs(torch.cat([x, memory.expand(-1, 7, -1)], -1), state[None])[0])
    close(output[..., 4:], memory.expand(-1, 7, -1))


@both
@PROPERTY
@given(seed=st.integers(0, 10_000), cuts=st.sets(st.integers(1, 7)))
def test_property_step_by_step_is_teacher_forcing(attention: bool, seed: int, cuts: set[int]) -> None:
    """In pieces of any lengths, over a cache that goes on."""
    model, (source, target) = seq2seq(attention, seed), tokens()
    memory, mask = model.encode(source), masks.padding(source)
    caches = model.start_caches(memory)
    edges = [0, *sorted(cuts), 8]
    pieces = [model.decode(target[:, a:b], memory, mask, caches=caches) for a, b in itertools.pairwise(edges)]
    close(torch.cat(pieces, dim=1), model(source, target))


@both
def test_a_cache_of_reordered_beams_goes_on_from_the_row_it_took_over(attention: bool) -> None:
    model, target = seq2seq(attention), tokens()[1]
    source, rows = tokens()[0][:1].expand(BATCH, -1), torch.tensor([2, 0, 0, 3])
    memory, mask = model.encode(source), masks.padding(source)
    caches = model.start_caches(memory)
    model.decode(target[:, :5], memory, mask, caches=caches)
    caches[0].reorder_beams(rows)
    got = model.decode(target[:, 5:], memory, mask, caches=caches)
    wanted = model(source, torch.cat([target[rows, :5], target[:, 5:]], dim=1))
    close(got, wanted[:, 5:])


@both
@PROPERTY
@given(row=st.integers(0, 3), n_extra=st.integers(0, 5), seed=st.integers(0, 10_000))
def test_property_neither_padding_nor_neighbours_matter(
    attention: bool, row: int, n_extra: int, seed: int
) -> None:
    model, (source, target) = seq2seq(attention, seed), tokens()
    logits = model(F.pad(source, (0, n_extra)), F.pad(target, (0, n_extra)))
    length, target_length = LENGTHS[row], [6, 4, 8, 2][row]
    alone = model(source[row : row + 1, :length], target[row : row + 1, :target_length])
    close(logits[row, :target_length], alone[0])
    found = gradients(
        torch.cat([logits[i, :n] for i, n in enumerate([6, 4, 8, 2])]),
        {"source": model.embed_source.weight, "target": model.embed_target.weight},
    )
    assert (found["source"][0] == 0).all()
    assert (found["target"][0] == 0).all()
    assert (found["source"][source[row, 0]] != 0).any()


@both
@pytest.mark.parametrize("garbage", [1e6, float("nan"), float("inf")])
def test_what_stands_in_a_source_s_padding_changes_nothing(attention: bool, garbage: float) -> None:
    model, (source, target) = seq2seq(attention), tokens()
    before = model(source, target)
    with torch.no_grad():
        model.embed_source.weight[0] = garbage
    after = model(source, target)
    close(after, before)
    assert all(
        gradient.isfinite().all() for gradient in gradients(after, dict(model.named_parameters())).values()
    )


@both
def test_no_target_sees_the_future(attention: bool) -> None:
    model, (source, target) = seq2seq(attention), tokens()
    before = model(source, target)
    for place in range(1, 8):
        changed = target.clone()
        changed[:, place] = (changed[:, place] + 1) % TARGETS
        after = model(source, changed)
        close(after[:, :place], before[:, :place])
        assert different(after[:, place], before[:, place])


@both
def test_a_source_of_padding_alone_gives_finite_logits_and_gradients(attention: bool) -> None:
    model, (source, target) = seq2seq(attention), tokens()
    source[1] = 0
    with watch(model) as seen:
        logits = model(source, target)
    assert logits.isfinite().all()
    found = gradients(logits, dict(model.named_parameters()))
    assert all(gradient.isfinite().all() for gradient in found.values())
    if attention:
        assert (seen["decoder"][1] == 0).all()
    kept = [0, 2, 3]
    close(logits[kept], model(source[kept], target[kept]))


@both
def test_every_weight_gets_a_gradient(attention: bool) -> None:
    model, (source, target) = seq2seq(attention), tokens()
    found = gradients(model(source, target), dict(model.named_parameters()))
    assert all((gradient != 0).any() for gradient in found.values())


def test_watch_records_the_alignment_of_all_steps() -> None:
    model, (source, target) = seq2seq(), tokens()
    expected = model(source, target)
    with watch(model) as seen:
        assert torch.equal(model(source, target), expected)
    assert list(seen) == ["decoder"]
    weights = seen["decoder"]
    assert weights.shape == (BATCH, 1, 8, LENGTH)
    assert not weights.requires_grad
    close(weights.sum(-1), torch.ones(BATCH, 1, 8).double())
    assert (weights[(source == 0)[:, None, None].expand_as(weights)] == 0).all()
    with watch(seq2seq(attention=False)) as nothing:
        seq2seq(attention=False)(source, target)
    assert nothing == {}


@pytest.mark.parametrize("d_fixed", [1, 2, 4])
def test_nothing_but_the_fixed_vector_reaches_the_decoder(d_fixed: int) -> None:
    """However many logits there are, they move with the source in d_fixed directions only."""
    source, target = tokens()[0][1:2], tokens()[1][1:2]

    def directions(model: Seq2Seq) -> int:
        def logits(embedded: Tensor) -> Tensor:
            weights = {"embed_source.weight": embedded}
            return torch.func.functional_call(model, weights, (source, target)).flatten()

        jacobian = torch.autograd.functional.jacobian(logits, model.embed_source.weight.detach())
        return int(torch.linalg.matrix_rank(jacobian.flatten(1), rtol=1e-9))

    assert directions(seq2seq(attention=False, d_fixed=d_fixed)) == d_fixed
    assert directions(seq2seq()) > 2 * D_HIDDEN


@both
def test_dropout_is_for_training_only(attention: bool) -> None:
    source, target = tokens()
    model = seq2seq(attention, dropout=0.4)
    close(model(source, target), seq2seq(attention)(source, target))
    model.train()
    assert different(model(source, target), model(source, target))


@both
def test_padding_before_a_token_is_an_error_that_says_where_it_belongs(attention: bool) -> None:
    with pytest.raises(ValueError, match="on the right"):
        seq2seq(attention).encode(torch.tensor([[3, 4, 5], [0, 4, 5]]))
