"""What the tests on a real cluster share: the chart installed, clients inside its network.

`make test` brings the cluster up; `make up` does it by hand. From the first fixture on, the session runs
inside the cluster's network.

A test with the marker `together` takes `lab` and `figures` alone, and runs in a thread beside the
others, from the session's start on: most of such a test is waiting. Its place in the list is where it
is reported.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import Future
from subprocess import CompletedProcess
from typing import Any, Final

import pytest

from testkit.cluster_lab import Bench, Lab, open_lab

TIMEOUT_S: Final = 600
LAST: Final = frozenset({"fleet", "example"})
"""Tests with such a fixture switch the chart's operator off, so that they come last."""
NETWORK: Final = "lab"
"""From this fixture on the session is inside the cluster's network."""
TOGETHER: Final = "together"
RUNNING: Final = pytest.StashKey[Future[None]]()
FIGURES: Final = pytest.StashKey[dict[str, object]]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[FIGURES] = {}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("cluster") and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(TIMEOUT_S))
    items.sort(key=_turn)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Report a test that runs in a thread: its result is that of the thread."""
    running = pyfuncitem.stash.get(RUNNING, None)
    if running is None:
        return None
    running.result()
    return True


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    for name, value in config.stash[FIGURES].items():
        terminalreporter.write_line(f"{name}: {value}")


@pytest.fixture(scope="session")
def figures(pytestconfig: pytest.Config) -> dict[str, object]:
    """Measured values that are shown at the end."""
    return pytestconfig.stash[FIGURES]


@pytest.fixture(scope="session")
def lab(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with open_lab(tmp_path_factory.mktemp("artifacts")) as opened:
        for item in request.session.items:
            if item.get_closest_marker(TOGETHER):
                item.stash[RUNNING] = opened.executor.submit(_call, item, opened)
        yield opened


@pytest.fixture(scope="session")
def kubectl(lab: Lab) -> Callable[..., CompletedProcess[str]]:
    return lab.kubectl


@pytest.fixture(scope="module")
def bench(request: pytest.FixtureRequest, lab: Lab) -> Iterator[Bench]:
    """A namespace for the tests of one module."""
    hint = request.module.__name__.rpartition(".")[2].removeprefix("test_").replace("_", "-")
    with lab.bench(hint) as lent:
        yield lent


def _turn(item: pytest.Item) -> int:
    """Tests that need the machine's own network come first, those that need quiet last.

    Those that run in threads are reported when the ones beside them are through.
    """
    names = getattr(item, "fixturenames", ())
    if LAST.intersection(names):
        return 3
    if item.get_closest_marker(TOGETHER):
        return 2
    return 1 if NETWORK in names else 0


def _call(item: Any, lab: Lab) -> None:
    callspec = getattr(item, "callspec", None)
    more = {"figures": item.config.stash[FIGURES]} if "figures" in item.fixturenames else {}
    item.obj(lab=lab, **more, **(callspec.params if callspec else {}))
