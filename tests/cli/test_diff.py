"""What two revisions differ in."""

from typing import Any

import pytest

from modelyard_cli.diff import changes, choose_pair, unified
from modelyard_cli.errors import RevisionError
from modelyard_cli.history import Record, parse_records
from modelyard_cli.view import View
from testkit.cli_objects import (
    CANDIDATE,
    PREVIOUS,
    STABLE,
    controller_revision,
    model_deployment,
    rolling,
)

RECORDS = parse_records(
    [
        controller_revision(PREVIOUS, 1, "6"),
        controller_revision(STABLE, 2, "7"),
        controller_revision(CANDIDATE, 3, "8"),
    ]
)


def record(name: str, **serving: Any) -> Record:
    return Record(name, 1, "1", "", None, serving=serving)


@pytest.mark.parametrize(
    ("manifest", "words", "pair"),
    [
        (rolling("Analyzing"), [], (STABLE, CANDIDATE)),
        (model_deployment(), [], (PREVIOUS, STABLE)),
        (model_deployment(), ["3"], (STABLE, CANDIDATE)),
        (model_deployment(), ["1"], (PREVIOUS, STABLE)),
        (model_deployment(), ["3", "1"], (CANDIDATE, PREVIOUS)),
    ],
)
def test_which_two_are_compared(manifest: Any, words: list[str], pair: tuple[str, str]) -> None:
    first, second = choose_pair(RECORDS, View.of(manifest), words)
    assert (first.name, second.name) == pair


def test_one_revision_alone_does_not_differ() -> None:
    with pytest.raises(RevisionError, match="1 revision on record"):
        choose_pair(RECORDS[1:2], View.of(model_deployment()), [])


def test_the_diff_names_both_and_shows_fields() -> None:
    lines = unified(RECORDS[1], RECORDS[0])
    assert lines[:2] == [f"--- {STABLE} (version 7)", f"+++ {CANDIDATE} (version 8)"]
    assert "-  uri: s3://models/fraud/7" in lines
    assert "+  uri: s3://models/fraud/8" in lines
    assert unified(RECORDS[0], RECORDS[0]) == []


def test_the_template_is_compared_on_demand() -> None:
    assert "+  - image: r:8" in unified(RECORDS[1], RECORDS[0], template=True)


def test_files_are_compared_line_by_line() -> None:
    old = Record("a-1", 1, "1", "", None, files={"handler.py": "import os\nx = 1\n"})
    new = Record("a-2", 2, "1", "", None, files={"handler.py": "import os\nx = 2\n"})
    lines = unified(old, new)
    assert "-    x = 1" in lines
    assert "+    x = 2" in lines
    assert "     import os" in lines


def test_changes_are_leaves_with_their_paths() -> None:
    old = {"model": {"uri": "a", "name": "m"}, "env": [{"name": "A", "value": "1"}], "gone": 1}
    new = {"model": {"uri": "b", "name": "m"}, "env": [{"name": "A", "value": "2"}, {"name": "B"}]}
    found = [change.to_document() for change in changes(old, new)]
    assert found == [
        {"path": "model.uri", "old": "a", "new": "b"},
        {"path": "env[0].value", "old": "1", "new": "2"},
        {"path": "env[1]", "new": {"name": "B"}},
        {"path": "gone", "old": 1},
    ]
