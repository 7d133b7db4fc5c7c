"""Schedules: the first step learns, the peak is where it should be, the end is low."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attn.training import warmup_cosine, warmup_inverse_sqrt


@pytest.mark.parametrize(("step", "rate"), [(1, 1.7469e-7), (4000, 6.9877e-4), (16000, 3.4939e-4)])
def test_the_papers_own_numbers(step, rate):
    """Base model: d_model 512, 4000 warm-up steps; the factor halves when the step quadruples after it."""
    assert warmup_inverse_sqrt(step, d_model=512, warmup=4000) == pytest.approx(rate, rel=1e-4)


@given(st.integers(1, 300), st.integers(1, 300))
def test_up_to_the_warmup_then_down(total, warmup):
    warmup = min(warmup, total)
    for schedule in (
        lambda step: warmup_cosine(step, total, warmup),
        lambda step: warmup_inverse_sqrt(step, 64, warmup),
    ):
        rates = [schedule(step) for step in range(1, total + 1)]
        assert min(rates) > 0
        assert max(rates) == pytest.approx(rates[warmup - 1])
        assert rates[:warmup] == sorted(rates[:warmup])
        assert rates[warmup - 1 :] == sorted(rates[warmup - 1 :], reverse=True)


def test_cosine_by_hand():
    steps = [1, 2, 4, 6, 8, 9]
    wanted = [0.5, 1.0, 0.1 + 0.9 * 0.75, 0.1 + 0.9 * 0.25, 0.1, 0.1]  # cos(60°) = 0.5, cos(120°) = -0.5
    assert [warmup_cosine(step, total=8, warmup=2, floor=0.1) for step in steps] == pytest.approx(wanted)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: warmup_cosine(0, 10, 2), "steps count from 1"),
        (lambda: warmup_inverse_sqrt(0, 512, 4000), "steps count from 1"),
        (lambda: warmup_inverse_sqrt(1, 512, 0), "warmup must be at least 1"),
        (lambda: warmup_cosine(1, 10, 11), "must not be longer"),
    ],
)
def test_impossible_values(call, message):
    with pytest.raises(ValueError, match=message):
        call()
