"""Greedy and beam search against torch's transformer step by step, and against every sentence there is; for
recurrent models as for Transformers.
"""

import itertools
import math
from functools import cache

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from jaxtyping import TypeCheckError
from oracles import PROPERTY, close, normal, random_tokens, shaken, small_transformer
from torch import Tensor, nn
from torch.nn import functional as F

from attn import Transformer, beam_search, greedy_decode, masks, watch
from attn.convert import to_torch
from attn.decoding import Decoded, Translator
from attn.positions import Rotary, sinusoidal
from attn.rivals import Seq2Seq

PAD, BOS, EOS = 0, 1, 2
VOCABULARY = 7
MAX_LENGTH = 7
FEW = settings(PROPERTY, max_examples=12)


def model_that_ends(seed: int = 0, **changes: object) -> Transformer:
    """Random weights and few words, so that sentences of all lengths are written."""
    return small_transformer(
        **{"seed": seed, "target_vocabulary": VOCABULARY, "n_encoder_layers": 1, **changes}
    )


KINDS = ("transformer", "attentive", "fixed vector")
every_kind = pytest.mark.parametrize("kind", KINDS)


def any_that_ends(kind: str, seed: int = 0, **changes: int) -> Transformer | Seq2Seq:
    if kind == "transformer":
        return model_that_ends(seed, **changes)
    sizes = {"source_vocabulary": 11, "target_vocabulary": VOCABULARY, "d_embedding": 8, "d_hidden": 7}
    model = Seq2Seq(**{**sizes, **changes}, attention=kind == "attentive")
    return shaken(model, seed=seed, size=0.8).eval()


def sources(seed: int = 0) -> Tensor:
    return random_tokens(3, 6, vocabulary=11, seed=seed, lengths=[4, 6, 1])


def log_probabilities_by_torch(model: Transformer, source: Tensor, prefix: list[int]) -> Tensor:
    """Of the token after a prefix, for one unpadded source, by `nn.Transformer` on the whole prefix."""
    stacks = to_torch(model.stacks).train()
    assert isinstance(stacks, nn.Transformer)

    def embed(tokens: Tensor, table: Tensor) -> Tensor:
        return (table[tokens] * table.size(1) ** 0.5 + sinusoidal(len(tokens), table.size(1)))[None]

    target = torch.tensor([BOS, *prefix])
    hidden = stacks(
        embed(source, model.embed_source.tokens.weight),
        embed(target, model.embed_target.tokens.weight),
        tgt_mask=~masks.causal(len(target)),
    )
    logits = model.to_logits(hidden[0, -1])
    logits[[PAD, BOS]] = -torch.inf
    return logits.log_softmax(-1)


def log_probabilities(model: Transformer | Seq2Seq, source: Tensor, candidates: list[list[int]]) -> Tensor:
    """Of whole sentences for one unpadded source, teacher-forced in one go."""
    length = max(map(len, candidates))
    target = torch.tensor([[BOS, *s] + [PAD] * (length - len(s)) for s in candidates])
    with torch.no_grad():
        logits = model(source.expand(len(candidates), -1), target)[:, :-1]
    logits[..., [PAD, BOS]] = -torch.inf
    log_p = logits.log_softmax(-1).gather(2, target[:, 1:, None]).squeeze(2)
    return log_p.where(target[:, 1:] != PAD, 0.0).sum(dim=1)


def penalty(length: int, strength: float) -> float:
    return ((5 + length) / 6) ** strength


def sentences(decoded: Decoded) -> list[list[int]]:
    """Without the padding, which must stand at the end only."""
    result = []
    for row in decoded.tokens.tolist():
        length = next((i for i, token in enumerate(row) if token == PAD), len(row))
        assert all(token == PAD for token in row[length:])
        result.append(row[:length])
    return result


def constant_model(probabilities: list[float]) -> Transformer:
    """Says the same at every step: these probabilities of the tokens from EOS on."""
    model = small_transformer(target_vocabulary=2 + len(probabilities), norm="pre")
    final_norm = model.stacks.decoder.final_norm
    with torch.no_grad():
        final_norm.weight.zero_()
        final_norm.bias.copy_(torch.eye(12)[0])
        model.to_logits.weight.zero_()
        model.to_logits.weight[2:, 0] = torch.tensor(probabilities, dtype=torch.float64).log()
    return model


SOURCE = torch.tensor([[3, 4, 5]])


# --- greedy -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("norm", ["post", "pre"])
@pytest.mark.parametrize("use_cache", [True, False])
def test_greedy_is_torchs_transformer_step_by_step(norm: str, use_cache: bool) -> None:
    model, source = model_that_ends(seed=1, norm=norm), sources()
    decoded = greedy_decode(model, source, max_length=MAX_LENGTH, use_cache=use_cache)
    for row, (sentence, score) in enumerate(zip(sentences(decoded), decoded.scores, strict=True)):
        prefix: list[int] = []
        total = 0.0
        with torch.no_grad():
            while len(prefix) < MAX_LENGTH and EOS not in prefix:
                best, token = log_probabilities_by_torch(model, source[row][source[row] != PAD], prefix).max(
                    -1
                )
                prefix.append(int(token))
                total += float(best)
        assert sentence == prefix
        assert float(score) == pytest.approx(total, abs=1e-10)


@FEW
@given(
    seed=st.integers(0, 10_000),
    norm=st.sampled_from(["post", "pre"]),
    positions=st.sampled_from(["sinusoidal", "learned", "none"]),
    width=st.integers(0, 3),
    rotary=st.booleans(),
)
def test_property_with_and_without_the_cache_token_for_token(
    seed: int, norm: str, positions: str, width: int, rotary: bool
) -> None:
    options = {"attention": {"score": Rotary()}} if rotary else {}
    model = model_that_ends(seed, norm=norm, positions=positions, **options)
    source = sources(seed)

    def decode(use_cache: bool) -> Decoded:
        if width == 0:
            return greedy_decode(model, source, max_length=MAX_LENGTH, use_cache=use_cache)
        return beam_search(model, source, max_length=MAX_LENGTH, width=width, use_cache=use_cache)

    cached, recomputed = decode(True), decode(False)
    assert torch.equal(cached.tokens, recomputed.tokens)
    close(cached.scores, recomputed.scores, 1e-10)


@pytest.mark.parametrize("kind", KINDS[1:])
@FEW
@given(seed=st.integers(0, 10_000), width=st.integers(0, 4))
def test_property_a_kept_state_is_the_prefix_run_again(kind: str, seed: int, width: int) -> None:
    model, source = any_that_ends(kind, seed), sources(seed)

    def decode(use_cache: bool) -> Decoded:
        if width == 0:
            return greedy_decode(model, source, max_length=MAX_LENGTH, use_cache=use_cache)
        return beam_search(model, source, max_length=MAX_LENGTH, width=width, use_cache=use_cache)

    cached, recomputed = decode(True), decode(False)
    assert torch.equal(cached.tokens, recomputed.tokens)
    close(cached.scores, recomputed.scores, 1e-10)


@every_kind
@FEW
@given(seed=st.integers(0, 10_000))
def test_property_a_beam_of_one_is_greedy(kind: str, seed: int) -> None:
    model, source = any_that_ends(kind, seed), sources(seed)
    greedy = greedy_decode(model, source, max_length=MAX_LENGTH)
    beam = beam_search(model, source, max_length=MAX_LENGTH, width=1, length_penalty=0.0)
    assert sentences(beam) == sentences(greedy)
    close(beam.scores, greedy.scores, 1e-10)


@every_kind
@FEW
@given(seed=st.integers(0, 10_000), width=st.integers(0, 4), n_extra=st.integers(0, 4))
def test_property_a_batch_is_its_sentences_one_at_a_time(
    kind: str, seed: int, width: int, n_extra: int
) -> None:
    """Of different lengths, however padded; a sentence that has ended waits for the others."""
    model, source = any_that_ends(kind, seed), F.pad(sources(seed), (0, n_extra))

    def decode(source: Tensor) -> Decoded:
        if width == 0:
            return greedy_decode(model, source, max_length=MAX_LENGTH)
        return beam_search(model, source, max_length=MAX_LENGTH, width=width)

    together = decode(source)
    for row, sentence in enumerate(sentences(together)):
        alone = decode(source[row][source[row] != PAD][None])
        assert sentences(alone) == [sentence]
        close(alone.scores[0], together.scores[row], 1e-10)


@every_kind
@pytest.mark.parametrize("width", [0, 1, 3])
def test_sentences_end_at_their_own_end_token(kind: str, width: int) -> None:
    endings = set()
    for seed in range(12):
        model, source = any_that_ends(kind, seed), sources(seed)
        decoded = (
            beam_search(model, source, max_length=MAX_LENGTH, width=width)
            if width
            else greedy_decode(model, source, max_length=MAX_LENGTH)
        )
        assert decoded.tokens.shape[1] == max(map(len, sentences(decoded)))
        for sentence in sentences(decoded):
            assert sentence
            assert BOS not in sentence
            assert EOS not in sentence[:-1]
            assert sentence[-1] == EOS or len(sentence) == MAX_LENGTH
            endings.add((len(sentence), sentence[-1] == EOS))
    assert len(endings) >= 3  # short, longer and unfinished ones: the test has seen them all
    assert (MAX_LENGTH, False) in endings


@pytest.mark.parametrize("width", [0, 3])
def test_padding_is_never_attended_to(width: int) -> None:
    model, source = model_that_ends(), sources()

    def decode() -> Decoded:
        if width:
            return beam_search(model, source, max_length=MAX_LENGTH, width=width)
        return greedy_decode(model, source, max_length=MAX_LENGTH)

    with watch(model) as seen:
        before = decode()
    rows = source.repeat_interleave(max(width, 1), dim=0)
    for i in range(2):
        weights = seen[f"stacks.decoder.layers.{i}.cross_attention"]
        assert (weights[(rows == PAD)[:, None, None, :].expand_as(weights)] == 0).all()
    with torch.no_grad():
        model.embed_source.tokens.weight[PAD] = 1e3 * normal(12)
        model.embed_target.tokens.weight[PAD] = 1e3 * normal(12, seed=1)
    after = decode()
    assert torch.equal(after.tokens, before.tokens)
    close(after.scores, before.scores)


def test_padding_and_a_second_beginning_are_never_written() -> None:
    model = model_that_ends()
    with torch.no_grad():  # the likeliest tokens by far, if they were allowed
        model.to_logits.weight[[PAD, BOS]] *= 100
    for decoded in (
        greedy_decode(model, sources(), max_length=MAX_LENGTH),
        beam_search(model, sources(), max_length=MAX_LENGTH),
    ):
        for sentence in sentences(decoded):
            assert sentence
            assert not {PAD, BOS} & set(sentence)


def test_special_tokens_may_have_other_ids() -> None:
    plain = model_that_ends(seed=1)
    other = model_that_ends(seed=1, pad=2, bos=0, eos=1)
    swap = torch.tensor([2, 0, 1, *range(3, VOCABULARY)])  # plain id -> other id
    with torch.no_grad():
        for ours, theirs in [
            (other.embed_target.tokens, plain.embed_target.tokens),
            (other.to_logits, plain.to_logits),
        ]:
            ours.weight[swap] = theirs.weight
    source = sources()
    expected = greedy_decode(plain, source, max_length=MAX_LENGTH)
    got = greedy_decode(other, torch.where(source == 0, 2, source), max_length=MAX_LENGTH)
    assert torch.equal(got.tokens, swap[expected.tokens])


# --- beam search --------------------------------------------------------------------------------------------


@cache
def every_sentence(n_words: int, max_length: int) -> list[list[int]]:
    """All that can be written: ended by EOS, or still without one at max_length."""
    words = range(3, 3 + n_words)
    ended = [[*s, EOS] for n in range(max_length) for s in itertools.product(words, repeat=n)]
    return ended + [list(s) for s in itertools.product(words, repeat=max_length)]


@every_kind
@pytest.mark.parametrize("seed", range(4))
def test_a_beam_wide_enough_finds_the_best_of_all_sentences(kind: str, seed: int) -> None:
    model, max_length = any_that_ends(kind, seed, target_vocabulary=6), 4
    source = sources(seed)
    candidates = every_sentence(3, max_length)
    log_p = torch.stack([log_probabilities(model, x[x != PAD], candidates) for x in source])
    for strength in (0.0, 0.6, 2.0):
        scores = log_p / torch.tensor([penalty(len(s), strength) for s in candidates], dtype=torch.float64)
        best_score, best = scores.max(dim=1)
        decoded = beam_search(
            model, source, max_length=max_length, width=len(candidates), length_penalty=strength
        )
        assert sentences(decoded) == [candidates[i] for i in best]
        close(decoded.scores, best_score, 1e-10)


def beam_search_by_lists(
    model: Transformer | Seq2Seq, source: Tensor, width: int, strength: float
) -> tuple[list[int], float]:
    """The search as it is told, for one sentence, scoring every beginning anew."""
    alive: list[tuple[float, list[int]]] = [(0.0, [])]
    ended: list[tuple[float, list[int]]] = []
    for length in range(1, MAX_LENGTH + 1):
        candidates = [[*s, token] for _, s in alive for token in range(2, VOCABULARY)]
        scores = log_probabilities(model, source, candidates).tolist()
        ranked = sorted(zip(scores, candidates, strict=True), reverse=True)
        ended += [(score / penalty(length, strength), s) for score, s in ranked[:width] if s[-1] == EOS]
        alive = [(score, s) for score, s in ranked if s[-1] != EOS][:width]
    ended += [(score / penalty(MAX_LENGTH, strength), s) for score, s in alive]
    return max(ended)[1], max(ended)[0]


# For a Transformer: here an ended sentence must not take the place of one that goes on.
@every_kind
@example(seed=8, width=2, strength=3.0)
@example(seed=24, width=4, strength=3.0)
@FEW
@given(seed=st.integers(0, 10_000), width=st.integers(1, 4), strength=st.sampled_from([0.0, 0.6, 3.0]))
def test_property_beams_are_those_of_the_search_by_lists(
    kind: str, seed: int, width: int, strength: float
) -> None:
    model, source = any_that_ends(kind, seed), sources(seed)
    decoded = beam_search(model, source, max_length=MAX_LENGTH, width=width, length_penalty=strength)
    for row, sentence in enumerate(sentences(decoded)):
        expected, score = beam_search_by_lists(model, source[row][source[row] != PAD], width, strength)
        assert sentence == expected
        assert decoded.scores[row].item() == pytest.approx(score, abs=1e-10)


@every_kind
@FEW
@given(seed=st.integers(0, 10_000), width=st.integers(1, 5), length_penalty=st.sampled_from([0.0, 0.6, 3.0]))
def test_property_a_score_is_that_of_its_own_sentence(
    kind: str, seed: int, width: int, length_penalty: float
) -> None:
    """The search's sums over a reordered cache against the model run once over the result."""
    model, source = any_that_ends(kind, seed), sources(seed)
    decoded = beam_search(model, source, max_length=MAX_LENGTH, width=width, length_penalty=length_penalty)
    for row, sentence in enumerate(sentences(decoded)):
        total = log_probabilities(model, source[row][source[row] != PAD], [sentence])[0]
        close(decoded.scores[row], total / penalty(len(sentence), length_penalty), 1e-10)


@FEW
@given(seed=st.integers(0, 10_000))
def test_property_width_one_is_greedy(seed: int) -> None:
    model, source = model_that_ends(seed), sources(seed)
    greedy = greedy_decode(model, source, max_length=MAX_LENGTH)
    beam = beam_search(model, source, max_length=MAX_LENGTH, width=1, length_penalty=0.0)
    assert torch.equal(beam.tokens, greedy.tokens)
    close(beam.scores, greedy.scores, 1e-10)


@pytest.mark.parametrize("width", [2, 3, 8])
def test_unlikely_ends_do_not_stop_the_search(width: int) -> None:
    """However many bad sentences have ended, a beginning that is better than all of them goes on."""
    decoded = beam_search(constant_model([0.1, 0.9]), SOURCE, max_length=12, width=width, length_penalty=0.0)
    assert sentences(decoded) == [[3] * 12]
    assert decoded.scores[0].item() == pytest.approx(12 * math.log(0.9), abs=1e-12)


def test_the_beam_finds_what_greedy_misses() -> None:
    found = 0
    for seed in range(12):
        model, source = model_that_ends(seed), sources(seed)
        greedy = greedy_decode(model, source, max_length=MAX_LENGTH)
        beam = beam_search(model, source, max_length=MAX_LENGTH, width=8, length_penalty=0.0)
        found += int((beam.scores > greedy.scores + 1e-9).sum())
    assert found >= 6


@pytest.mark.parametrize("p_end", [0.4, 0.6])
@pytest.mark.parametrize("strength", [0.0, 0.6, 1.0, 3.0, 6.0])
def test_length_penalty_by_hand(p_end: float, strength: float) -> None:
    """n words of log (1 - p) each and an end of log p, divided by ((5 + n + 1) / 6)^strength: the stronger
    the penalty, the longer the sentence that wins, if need be one that falls behind at first.
    """
    model, max_length = constant_model([p_end, 1 - p_end]), 4
    word, end = math.log(1 - p_end), math.log(p_end)
    options = {n: (n * word + end) / ((5 + n + 1) / 6) ** strength for n in range(max_length)}
    options[max_length] = max_length * word / ((5 + max_length) / 6) ** strength  # unfinished
    n = max(options, key=options.__getitem__)
    decoded = beam_search(model, SOURCE, max_length=max_length, width=6, length_penalty=strength)
    assert sentences(decoded) == [[3] * n + [EOS] * (n < max_length)]
    assert decoded.scores[0].item() == pytest.approx(options[n], abs=1e-12)


def test_a_long_search_neither_underflows_nor_loses_its_score() -> None:
    """0.4^200 is 0 in float32; the sum of 200 logarithms is not."""
    model = constant_model([1e-9, 0.4, 0.35, 0.25]).float()
    decoded = beam_search(model, SOURCE, max_length=200, width=3, length_penalty=0.0)
    assert sentences(decoded) == [[3] * 200]
    assert float(decoded.scores[0]) == pytest.approx(200 * math.log(0.4), rel=1e-4)


@pytest.mark.parametrize("width", [1, 2, 5, 50])
def test_a_beam_wider_than_the_vocabulary_is_allowed(width: int) -> None:
    decoded = beam_search(constant_model([0.9, 0.1]), SOURCE, max_length=3, width=width)
    assert sentences(decoded) == [[EOS]]
    assert float(decoded.scores[0]) == pytest.approx(math.log(0.9))


# --- modes, types, bad input --------------------------------------------------------------------------------


@every_kind
def test_every_kind_offers_what_decoding_asks_for(kind: str) -> None:
    assert isinstance(any_that_ends(kind), Translator)


def test_a_model_that_cannot_be_decoded_is_an_error_that_says_what_is_asked_for() -> None:
    with pytest.raises(TypeCheckError, match="Translator"):
        greedy_decode(nn.Linear(2, 2), SOURCE, max_length=3)


@pytest.mark.parametrize("search", [greedy_decode, beam_search])
def test_decoding_runs_without_dropout_and_leaves_every_mode_as_it_was(search: object) -> None:
    model = model_that_ends(dropout=0.5)
    expected = search(model.eval(), sources(), max_length=MAX_LENGTH)  # type: ignore[operator]
    assert not model.training
    model.train()
    model.embed_source.eval()  # a frozen part
    got = search(model, sources(), max_length=MAX_LENGTH)  # type: ignore[operator]
    assert torch.equal(got.tokens, expected.tokens)
    assert model.training
    assert model.stacks.decoder.layers[0].training
    assert not model.embed_source.training
    assert not got.scores.requires_grad


@pytest.mark.parametrize("search", [greedy_decode, beam_search])
@pytest.mark.parametrize("place", ["encode", "decode"])
def test_the_mode_is_restored_after_an_error_too(
    search: object, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = model_that_ends().train()

    def fail(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(model, place, fail)
    with pytest.raises(KeyboardInterrupt):
        search(model, sources(), max_length=MAX_LENGTH)  # type: ignore[operator]
    assert model.training


@every_kind
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("search", [greedy_decode, beam_search])
def test_models_of_lower_precision_decode(search: object, dtype: torch.dtype, kind: str) -> None:
    decoded = search(any_that_ends(kind).to(dtype), sources(), max_length=MAX_LENGTH)  # type: ignore[operator]
    assert decoded.scores.dtype == torch.float32
    assert decoded.scores.isfinite().all()
    assert all(sentences(decoded))


def test_scores_of_a_half_precision_model_are_summed_in_full_precision() -> None:
    model = constant_model([1e-9, 0.4, 0.35, 0.25]).bfloat16()
    logits = model.to_logits.weight[:, 0].detach().double()
    expected = 50 * logits[2:].log_softmax(-1).max().item()
    for decoded in (
        greedy_decode(model, SOURCE, max_length=50),
        beam_search(model, SOURCE, max_length=50, width=2, length_penalty=0.0),
    ):
        assert decoded.scores[0].item() == pytest.approx(expected, rel=1e-5)


@every_kind
@pytest.mark.parametrize("search", [greedy_decode, beam_search])
def test_no_sentences_give_no_sentences(search: object, kind: str) -> None:
    decoded = search(any_that_ends(kind), sources()[:0], max_length=MAX_LENGTH)  # type: ignore[operator]
    assert len(decoded.tokens) == len(decoded.scores) == 0


@every_kind
@pytest.mark.parametrize("search", [greedy_decode, beam_search])
def test_a_source_of_nothing_but_padding_is_answered(search: object, kind: str) -> None:
    decoded = search(any_that_ends(kind), torch.zeros(2, 3, dtype=torch.long), max_length=4)  # type: ignore[operator]
    assert decoded.scores.isfinite().all()


@pytest.mark.parametrize(
    ("run", "message"),
    [
        (lambda model: greedy_decode(model, SOURCE, max_length=0), "max_length"),
        (lambda model: beam_search(model, SOURCE, max_length=-1), "max_length"),
        (lambda model: beam_search(model, SOURCE, max_length=3, width=0), "width"),
        (lambda model: beam_search(model, SOURCE, max_length=3, length_penalty=-0.5), "length_penalty"),
    ],
)
def test_impossible_settings_are_errors_that_name_them(run: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        run(model_that_ends())  # type: ignore[operator]


def test_a_source_without_a_batch_axis_is_an_error_that_names_it() -> None:
    with pytest.raises(TypeCheckError, match="parameter 'source'"):
        greedy_decode(model_that_ends(), SOURCE[0], max_length=3)


def test_learned_positions_end_decoding_with_an_error_not_with_rubbish() -> None:
    model = constant_model([1e-9, 1.0])
    short = Transformer(**{**model.config, "positions": "learned", "max_length": 4}).double()
    short.load_state_dict(model.state_dict(), strict=False)
    assert sentences(greedy_decode(short, SOURCE, max_length=4)) == [[3] * 4]
    with pytest.raises(ValueError, match="reaches 5"):
        greedy_decode(short, SOURCE, max_length=5)


def test_each_step_over_the_cache_costs_the_same_number_of_calls() -> None:
    """The encoder once; then the decoder on one new token at a time."""
    model, lengths = constant_model([1e-9, 1.0]), []
    model.stacks.encoder.register_forward_hook(lambda module, args, output: lengths.append(-1))
    model.stacks.decoder.register_forward_hook(lambda module, args, output: lengths.append(args[0].size(1)))
    greedy_decode(model, SOURCE, max_length=6)
    assert lengths == [-1, 1, 1, 1, 1, 1, 1]
    lengths.clear()
    greedy_decode(model, SOURCE, max_length=3, use_cache=False)
    assert lengths == [-1, 1, 2, 3]
