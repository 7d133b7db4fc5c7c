"""What a check says, whatever the answer does: measured diagnoses, equivalent answers, hostile answers."""

import math
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from attn.grading import calling, check, examine, load
from attn.grading.exercise import Case, Exercise, Mistake, values

SOFTMAX, ATTENTION, TEST = (load(f"01.{name}") for name in ("stable_softmax", "attention", "attention_test"))


def right(scores: Tensor) -> Tensor:
    return torch.softmax(scores, -1)


# What is measured where no known mistake explains the answer


def five(generator: torch.Generator) -> tuple[Tensor]:
    return (torch.rand(5, generator=generator),)


def wrong_dtype(scores):
    return right(scores).double()


def wrong_shape(scores):
    return right(scores)[..., None]


def an_error(scores):
    return scores[99]  # the guilty line


def numpy_array(scores):
    return right(scores).numpy()


def half_blank(scores):
    return right(scores) if scores.dim() == 1 else None


def needs_two(scores, other):
    return scores


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (wrong_dtype, "dtype float64, expected float32"),
        (wrong_shape, "shape (5, 1), expected (5,)"),
        (an_error, "in the line: return scores[99]  # the guilty line"),
        (numpy_array, "should be a torch tensor, got a NumPy array"),
        (half_blank, "is a `return` missing?"),
        (needs_two, "missing 1 required positional argument"),
        (lambda s: torch.softmax(s * s, -1) * math.pi, "weights[0] is"),
        (lambda s: torch.full_like(s, torch.nan), "NaN among 5"),
        (3.5, "expected a function, got an object of type float"),
    ],
)
def test_what_can_be_measured_is_said(answer, words):
    result = examine(SOFTMAX, answer)
    assert result.status == "wrong"
    assert words in result.text, result.text
    assert not result.mistakes


def test_measures_of_attention():
    def rows(query, key, value, mask=None):
        weights = torch.sigmoid(query @ key.transpose(-2, -1))
        return weights @ value, weights

    assert "do not sum to 1" in examine(ATTENTION, rows).text

    assert (
        "expected to get (output, weights), got 3 things"
        in examine(ATTENTION, lambda q, k, v, m=0: (q, k, v)).text
    )


def test_gradients_that_cannot_flow():
    def by_numpy(query, key, value, mask=None):
        output, weights = ATTENTION.right[1](query.detach(), key.detach(), value.detach(), mask)
        return torch.from_numpy(output.numpy()), weights

    result = examine(ATTENTION, by_numpy)
    assert result.points == 8
    assert "no gradient can flow" in result.text


def test_nothing_is_named_for_a_later_case_while_the_first_has_no_name():
    def leaky(query, key, value, mask=None):
        scores = query @ key.transpose(-2, -1) / query.size(-1) ** 0.5
        weights = torch.softmax(scores if mask is None else scores.masked_fill(~mask, -2.0), -1)
        return weights @ value, weights

    result = examine(ATTENTION, leaky)
    assert not result.mistakes
    assert "that the mask forbids has the weight" in result.text


def test_a_design_may_be_drawn_at_random():
    def anywhere(n):
        key = torch.linalg.qr(torch.randn(n, n, dtype=torch.float64))[0]
        return key[(torch.arange(n) - 1).clamp(min=0)] * 1000, key

    assert examine(load("01.previous_token"), anywhere).status == "right"


def test_two_mistakes_at_once_are_both_named_where_they_show():
    def both(query, key, value, mask=None):
        if mask is not None:
            return ATTENTION.right[1](query, key, value, ~mask)
        return ATTENTION.right[1](query * query.size(-1) ** 0.5, key, value)

    result = examine(ATTENTION, both)
    assert result.mistakes == ("the mask is read the wrong way round", "the scores are not scaled"), (
        result.text
    )


def test_an_equivalent_answer_is_right_and_is_told_so():
    halves = Mistake(
        "the halves stand side by side", "it is a permutation.", lambda n: code(n, side_by_side=True), True
    )

    def code(n: int, side_by_side: bool = False) -> Tensor:
        angle = torch.arange(1.0, n + 1)
        pair = torch.stack([angle.sin(), angle.cos()])
        return pair.flatten() if side_by_side else pair.T.flatten()

    exercise = Exercise("00.code", "implement", (), code, (Case("seven", lambda _: (7,)),), (halves,))
    result = examine(
        exercise, lambda n: torch.cat([torch.arange(1.0, n + 1).sin(), torch.arange(1.0, n + 1).cos()])
    )
    assert (result.status, result.points) == ("right", 1)
    assert result.text.endswith("equivalent: the halves stand side by side.\nit is a permutation.")


# Values


def test_an_answer_that_is_a_value_may_be_written_in_many_ways():
    exercise = load("01.paper_weights")
    for weights in ([0.25, 0.75], (0.25, 0.75), np.array([0.25, 0.75]), torch.tensor([0.25, 0.75])):
        assert examine(exercise, {"weights": weights, "output": [1, 6]}).status == "right"


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ([0.25, 0.75], "expected a dict with the keys weights, output"),
        ({"weights": [0.25, 0.75]}, "output: it is still missing"),
        ({"weights": "a quarter", "output": [1, 6]}, "weights: a list of numbers is wanted, this is a text."),
        ({"weights": [0.25, 0.75], "output": 1}, "output: a list of numbers is wanted, this is a number."),
        ({"weights": "[0.25, 0.75]", "output": [1, 6]}, "1 of 2 cases pass (1 of 2 points)"),
        ({"weights": [[1], [2, 3]], "output": [1, 6]}, "rows of different lengths"),
        ({"weights": [0.25, None], "output": [1, 6]}, "got None"),
        (
            {"weights": [0.25, 0.74], "output": [1, 9]},
            "output: this is not it, and no known mistake either.",
        ),
    ],
)
def test_values_that_cannot_be_right(answer, words):
    result = examine(load("01.paper_weights"), answer)
    assert result.status == "wrong"
    assert words in result.text, result.text


def test_each_wrong_part_gets_its_own_name():
    result = examine(load("01.scale_claim"), {"wrong": "D", "divisor": 64})
    assert result.mistakes == ("sentence D is right", "the dimension itself")
    assert "8" not in result.text.partition("\n")[2], "the solution is not given away"


PREDICTED = Exercise(
    "00.predicted",
    "predict",
    (),
    {"a": 1, "b": 2, "c": 3, "d": 4, "letter": "A"},
    values("a", "b", "c", "d", "letter", hints=dict.fromkeys("abcd", "count again."), tolerances={"d": 0.01}),
    (
        Mistake("ten times too much", "which power of ten?", {"a": 10, "b": 20}),
        Mistake("one too many", "where does it begin?", {"a": 2, "c": 4}),
        Mistake("squared", "is it an area?", {"b": 4, "c": 9}),
        Mistake("the sign is lost", "below zero?", {"c": -3, "d": -4}),
        Mistake("the other letter", "and A?", {"letter": "B"}),
    ),
    tolerance=0.1,
)


def test_every_wrong_value_that_has_a_name_gets_it():
    result = examine(PREDICTED, {"a": 10, "b": 4, "c": 4, "d": -4, "letter": "B"})
    assert set(result.mistakes) == {
        "ten times too much",
        "squared",
        "one too many",
        "the sign is lost",
        "the other letter",
    }
    assert "no known mistake" not in result.text


def test_a_mistake_that_explains_more_values_is_preferred():
    result = examine(PREDICTED, {"a": 2, "b": 4, "c": 9, "d": 7, "letter": "B"})
    assert set(result.mistakes) == {"squared", "one too many", "the other letter"}
    assert result.text.count("no known mistake") == 1
    assert "d: this is not it, and no known mistake either.\nThink: count again." in result.text


@pytest.mark.parametrize(
    ("name", "answer", "words"),
    [
        ("a", "1", "a: a number is wanted, this is a text."),
        ("a", [1], "a: a number is wanted, this is a list of numbers."),
        ("letter", 1, "letter: a text is wanted, this is a number."),
    ],
)
def test_a_value_of_another_kind_is_told_so_and_not_that_it_is_wrong(name, answer, words):
    result = examine(PREDICTED, {**PREDICTED.reference, name: answer})
    assert result.points == 4
    assert result.text.endswith(words)  # no hint: the value may be the right one


def test_a_case_may_have_a_tolerance_of_its_own():
    assert examine(PREDICTED, {**PREDICTED.reference, "c": 3.2, "d": 4.03}).status == "right"
    assert not examine(PREDICTED, {**PREDICTED.reference, "d": 4.2}).passed["d"]


# Tests as answers


def test_a_test_that_rejects_right_code_earns_nothing():
    def picky(attention):
        q = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0))
        expected = torch.softmax(q @ q.transpose(-2, -1) / 2, -1) @ q
        assert torch.equal(attention(q, q, q)[0], expected + 1e-3)

    result = examine(TEST, picky)
    assert result.points == 0
    assert "wrongly rejected: the right code" in result.text


def test_a_test_that_stops_by_itself_on_right_code_is_told_so():
    def crashing(attention):
        attention(*[torch.ones(2, 3, 3)] * 3)
        torch.ones(2) @ torch.ones(3)

    def too_large(attention):
        attention(*[torch.ones(2, 65, 3)] * 3)

    def false(attention):
        assert attention(*[torch.ones(2, 3, 3)] * 3)[0].sum() == 0

    for stops in (crashing, too_large):
        text = examine(TEST, stops).text
        assert "the test stopped by itself, on right code" in text
        assert TEST.cases[0].hint not in text
    assert TEST.cases[0].hint in examine(TEST, false).text


def test_an_error_that_ends_with_a_full_stop_gets_no_second_one():
    def answer(scores):
        raise ValueError("Too short.")

    assert "ValueError: Too short.\n" in examine(SOFTMAX, answer).text


def test_where_an_argument_was_changed_the_hint_of_the_case_is_not_told():
    doubled = Mistake("doubled", "twice?", lambda scores: 2 * right(scores))

    def in_place(scores):
        scores += 1
        return right(scores)

    text = examine(
        Exercise("00.x", "implement", (), right, (Case("x", five, hint="think."),), (doubled,)), in_place
    ).text
    assert "It changed its argument number 1." in text
    assert "Think" not in text


def test_a_test_that_returns_its_verdict_catches_nothing():
    result = examine(TEST, lambda attention: bool(attention(*[torch.ones(2, 3, 3)] * 3)[0].isfinite().all()))
    assert result.points == 0
    assert result.mistakes == ("it catches nothing: no number is asserted",)


def test_a_test_that_counts_implementations_is_found_out():
    calls = []

    def counting(attention):
        calls.append(attention)
        assert len(calls) <= 3

    result = examine(TEST, counting)
    assert result.points == 0
    assert "two different answers" in result.text


# Answers that misbehave


class Equal:
    def __eq__(self, other):
        return True

    def __getattr__(self, name):
        return Equal()


class EqualTensor(Tensor):
    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        return torch.ones((), dtype=torch.bool)


class Rude(Exception):
    def __str__(self):
        raise SystemExit


def forever() -> Iterator[float]:
    while True:
        yield 1.0


def raises(error: BaseException) -> Callable[[Tensor], Tensor]:
    def answer(scores):
        raise error

    return answer


def stubborn(scores):
    while True:
        try:
            while True:
                pass
        except Exception:
            pass


def resizes(scores):
    weights = right(scores)
    scores.resize_(0)
    return weights


def recurses(scores):
    return recurses(scores)


HOSTILE: dict[str, Any] = {
    "an always-equal object": lambda s: Equal(),
    "an always-equal tensor": lambda s: s.as_subclass(EqualTensor),
    "the input": lambda s: s,
    "an infinite generator": lambda s: forever(),
    "an infinite loop": stubborn,
    "SystemExit": raises(SystemExit(0)),
    "KeyboardInterrupt": raises(KeyboardInterrupt()),
    "GeneratorExit": raises(GeneratorExit()),
    "an error that cannot be read": raises(Rude()),
    "endless recursion": recurses,
    "a resized input": resizes,
    "a tensor without numbers": lambda s: torch.empty(s.shape, device="meta"),
    "a sparse tensor": lambda s: s.to_sparse(),
    "a complex tensor": lambda s: s.to(torch.complex64),
    "a huge tensor": lambda s: s.reshape(-1)[:1].expand(10**9),
    "a class": Equal,
    "an object that claims everything": Equal(),
    "noise": lambda s: torch.rand(s.shape),
}


@pytest.mark.parametrize("answer", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_answer_neither_passes_nor_crashes(answer, monkeypatch):
    monkeypatch.setattr(calling, "SECONDS", 0.2)
    for exercise in (SOFTMAX, ATTENTION, TEST, load("01.scale_claim"), load("01.previous_token")):
        result = examine(exercise, answer)
        assert result.status != "right"
        assert result.points == 0


@pytest.mark.parametrize(
    ("owner", "name"),
    [
        (torch, "allclose"),
        (torch, "equal"),
        (torch, "isclose"),
        (np, "allclose"),
        (torch.testing, "assert_close"),
        (torch.Tensor, "__eq__"),
        (torch.Tensor, "tolist"),
    ],
)
def test_patched_comparisons_do_not_help(owner, name, monkeypatch):
    monkeypatch.setattr(owner, name, lambda *arguments, **named: True)
    assert examine(SOFTMAX, torch.sigmoid).points == 0
    assert examine(SOFTMAX, right).points == SOFTMAX.points


def test_an_answer_that_learns_from_call_to_call_is_found_out():
    calls = []

    def counting(scores):
        calls.append(scores)
        return right(scores) if len(calls) <= len(SOFTMAX.cases) else scores

    assert "two different answers" in examine(SOFTMAX, counting).text


def test_prints_and_warnings_of_an_answer_are_not_shown(capsys):
    def chatty(scores):
        print("x" * 1_000_000)
        print("error", file=sys.stderr)
        return right(scores)

    assert check(chatty, "01.stable_softmax").status == "right"
    shown = capsys.readouterr()
    assert shown.out == "stable_softmax: right, all 5 cases pass (8 of 8 points).\n"
    assert shown.err == ""


def test_what_is_said_is_the_same_each_time(capsys):
    for _ in range(2):
        check(wrong_shape, "01.stable_softmax")
    said = capsys.readouterr().out
    assert said[: len(said) // 2] == said[len(said) // 2 :]


def test_result_is_quiet_in_a_notebook_and_a_number_for_nbgrader(monkeypatch, capsys):
    result = check(HOSTILE["the input"], "01.stable_softmax")
    result._ipython_display_()  # shows nothing, and no repr after it
    monkeypatch.setitem(os.environ, "NBGRADER_EXECUTION", "autograde")
    naive = check(lambda s: s.exp() / s.exp().sum(-1, keepdim=True), "01.stable_softmax")
    with pytest.raises(NotImplementedError):
        naive._ipython_display_()
    assert repr(naive) == "4"
    with pytest.raises(AssertionError, match="0 of 8 points"):
        check(..., "01.stable_softmax")
    capsys.readouterr()
