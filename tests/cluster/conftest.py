"""What the tests on a real cluster share: the chart installed, clients inside its network.

`make test` brings the cluster up; `python -m localcluster up --addons dns,traefik,s3,metrics-server`
does it by hand. From the first fixture on, the session runs inside the cluster's network.
"""

import os
from collections.abc import Callable, Iterator
from subprocess import CompletedProcess
from typing import Final

import pytest

from testkit.cluster_lab import Bench, Lab, open_lab

TIMEOUT_S: Final = 600
LAST: Final = "fleet"
"""Tests with this fixture switch the chart's operator off, so that they come last."""
EARLY: Final = ("autoscaled", "failing", "fleet_models")
"""Fixtures that begin something long; started before the first test, if any test wants them."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("cluster") and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(TIMEOUT_S))
    items.sort(key=lambda item: LAST in getattr(item, "fixturenames", ()))


@pytest.fixture(scope="session")
def chaos() -> bool:
    """Whether there is time for the long runs."""
    return os.environ.get("MODELYARD_CHAOS") == "1"


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with open_lab(tmp_path_factory.mktemp("artifacts")) as opened:
        yield opened


@pytest.fixture(scope="session")
def kubectl(lab: Lab) -> Callable[..., CompletedProcess[str]]:
    return lab.kubectl


@pytest.fixture(scope="session", autouse=True)
def _early(request: pytest.FixtureRequest) -> None:
    wanted = {name for item in request.session.items for name in getattr(item, "fixturenames", ())}
    for name in EARLY:
        if name in wanted:
            request.getfixturevalue(name)


@pytest.fixture
def bench(request: pytest.FixtureRequest, lab: Lab) -> Bench:
    """A namespace for one test."""
    return lab.bench(request.node.name.removeprefix("test_").replace("_", "-")[:20].strip("-"))
