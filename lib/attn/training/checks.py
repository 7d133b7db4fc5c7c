"""Shape checks in a training loop: the first step is checked; the rest is alike and need not pay for it."""

from collections.abc import Iterator
from contextlib import contextmanager

from jaxtyping import config


@contextmanager
def unchecked() -> Iterator[None]:
    """Inside, annotations are not checked: where checks are on (notebooks), they are a third of the time."""
    before = config.jaxtyping_disable
    config.update("jaxtyping_disable", True)
    try:
        yield
    finally:
        config.update("jaxtyping_disable", before)
