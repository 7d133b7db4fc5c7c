"""The measurements still run, and both sides still compute the same. No test here fails on a time."""

import pytest
import torch

from benchmarks import attention, crossing, whole_model
from benchmarks.pairs import compare, must_equal


@pytest.mark.parametrize(
    "measure",
    [attention.run, whole_model.training_step, whole_model.decoding, crossing.run],
    ids=lambda f: f.__qualname__,
)
def test_small_version_runs_and_compares_equals(measure):
    results = measure("small")
    assert results
    assert all(result.cpu > 0 and result.wall > 0 for result in results)
    assert all(result.name in str(result) for result in results)


def test_a_comparison_of_different_things_is_refused():
    with pytest.raises(AssertionError, match="nothing to compare"):
        must_equal(torch.zeros(3), torch.ones(3))


def test_ratio_tells_more_work_from_less():
    def work(n):
        return lambda: sum(range(n))

    assert compare("more / less", work(30_000), work(300), pairs=5, seconds=0.002, bar=1.0).met is False
    assert compare("less / more", work(300), work(30_000), pairs=5, seconds=0.002, bar=1.0).met is True


def test_no_weights_no_square_of_memory():
    with_weights = attention.memory_growth((4096,), need_weights=True)[4096]
    assert with_weights > 400  # MB: the weights of 8 heads of 4096 x 4096 alone are 512
    assert attention.memory_growth((4096,))[4096] < 0.2 * with_weights
