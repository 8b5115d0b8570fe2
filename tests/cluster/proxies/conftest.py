"""Notes which cells of the capability table a run has proven, where it is told to.

`make routes` runs the tests with `MODELYARD_ROUTES` set and writes the table in the docs from it.
"""

import os
from collections.abc import Generator
from pathlib import Path
from typing import Final

import pytest

from testkit.proofs import PARAMETER, Cell, cells_of, note

OUTCOMES: Final = pytest.StashKey[dict[Cell, bool]]()
RESULTS: Final = os.environ.get("MODELYARD_ROUTES", "")
AT_LENGTH: Final = bool({"MODELYARD_ROUTES", "MODELYARD_CHAOS"} & os.environ.keys())


def pytest_configure(config: pytest.Config) -> None:
    config.stash[OUTCOMES] = {}


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what takes its time, unless all of it is asked for."""
    late = [] if AT_LENGTH else [one for one in items if one.get_closest_marker("at_length")]
    items[:] = [one for one in items if one not in late]
    if late:
        config.hook.pytest_deselected(items=late)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    callspec = getattr(item, "callspec", None)
    if callspec and PARAMETER in callspec.params and not (report.passed and report.when != "call"):
        outcomes = item.config.stash[OUTCOMES]
        for cell in cells_of(item.iter_markers(), callspec.params[PARAMETER]):
            outcomes[cell] = outcomes.get(cell, True) and report.passed
    return report


def pytest_sessionfinish(session: pytest.Session) -> None:
    outcomes = session.config.stash[OUTCOMES]
    if RESULTS:
        note(Path(RESULTS), outcomes)
