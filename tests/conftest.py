"""What holds for every test."""

import pytest

PATIENCE_S = 300
"""On a busy machine even the start of a server takes a minute."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give slow tests more time than the others, where they do not say themselves how much."""
    for item in items:
        if item.get_closest_marker("slow") and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(PATIENCE_S))
