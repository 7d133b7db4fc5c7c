"""pytest and nbval: cells tagged `gpu` or `real-data` are skipped, with the reason, where they cannot run."""

import pytest

from tools import tags


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("attn", "cells that need more than a CPU")
    group.addoption("--gpu", choices=tags.CHOICES, default="auto", help="run cells tagged gpu")
    group.addoption("--real-data", choices=tags.CHOICES, default="auto", help="run cells tagged real-data")


# Every notebook in Colab's environment: what takes longest begins first, so that it does not end last.
LONGEST = "tests/test_colab.py"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: not item.nodeid.startswith(LONGEST))
    for item in items:
        cell = getattr(item, "cell", None)  # only nbval's items have one
        if cell is None:
            continue
        reason = tags.skip_reason(
            cell.metadata.get("tags", []),
            gpu=config.getoption("--gpu"),
            real_data=config.getoption("--real-data"),
        )
        if reason:
            item.add_marker(pytest.mark.skip(reason=reason))
