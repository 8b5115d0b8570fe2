"""Which cells of the proxies' capability table a test proves, and what a run of them has shown."""

import importlib.util
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest

PROVES: Final = "proves"
FOLDER: Final = Path(__file__).resolve().parents[1] / "cluster" / "proxies"
PARAMETER: Final = "profile"
"""Tests of this parameter run once behind each proxy."""


class Cell(NamedTuple):
    """A place in the capability table.

    Attributes:
        profile: The operator's name of what it takes the proxy to be.
        feature: A field of the custom resource.
    """

    profile: str
    feature: str


def proves(*features: str) -> pytest.MarkDecorator:
    """Say that a test sees, behind each proxy it runs with, what the table claims of features."""
    decorator: pytest.MarkDecorator = getattr(pytest.mark, PROVES)(*features)
    return decorator


def cells_of(marks: Iterable[pytest.Mark], profile: Any) -> Iterator[Cell]:
    """Yield the cells that a test proves behind one proxy."""
    for mark in marks:
        if mark.name == PROVES:
            yield from (Cell(profile.known_as, feature) for feature in mark.args)


def declared() -> Mapping[Cell, list[str]]:
    """Return the names of the tests that prove each cell, as they are written down."""
    found = defaultdict(list)
    for path in sorted(FOLDER.glob("test_*.py")):
        for name, marks in _tests(path):
            for profile, more in _cases(marks):
                for cell in cells_of([*marks, *more], profile):
                    found[cell].append(f"{path.name}::{name}")
    return found


def note(path: Path, outcomes: Mapping[Cell, bool]) -> None:
    """Write what a run has shown: per profile each feature, and whether all of its tests passed.

    What the run has not looked at stays as it is noted already.
    """
    known = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    for cell, passed in outcomes.items():
        known.setdefault(cell.profile, {})[cell.feature] = "passed" if passed else "failed"
    path.write_text(json.dumps(known, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def _tests(path: Path) -> Iterator[tuple[str, list[pytest.Mark]]]:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for name, function in vars(module).items():
        if name.startswith("test_"):
            yield name, getattr(function, "pytestmark", [])


def _cases(marks: Iterable[pytest.Mark]) -> Iterator[tuple[Any, Iterable[pytest.Mark]]]:
    """Yield the proxy of each case of a test, and the marks of that case alone."""
    for mark in marks:
        if mark.name == "parametrize" and PARAMETER in {mark.args[0], mark.args[0][0]}:
            for case in mark.args[1]:
                given = getattr(case, "marks", ())
                own = [getattr(one, "mark", one) for one in given]
                yield (case.values[0] if own else case), own
