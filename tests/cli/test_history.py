"""Revisions on record, what became of each, and which one a person means."""

import pytest

from modelyard_cli.errors import RevisionError
from modelyard_cli.history import fate, find_record, parse_records, to_documents
from modelyard_cli.view import View
from testkit.cli_objects import CANDIDATE, PREVIOUS, STABLE, controller_revision, rolling

RECORDS = parse_records(
    [
        controller_revision("fraud-5eed0000", 1, "5"),
        controller_revision(PREVIOUS, 2, "6"),
        controller_revision(STABLE, 3, "7"),
        controller_revision(CANDIDATE, 4, "8", name="fraud-model"),
        controller_revision("fraud-91bad000", 5, "9"),
        controller_revision("fraud-0bad0000", 6, "10"),
    ]
)


def view(state: str = "Analyzing") -> View:
    last = {"revision": "fraud-91bad000", "reason": "AnalysisFailed"}
    return View.of(
        rolling(
            state,
            previous=PREVIOUS,
            lastRollback=last,
            rejected=["fraud-0bad0000", "fraud-91bad000"],
        )
    )


def test_the_newest_comes_first() -> None:
    assert [record.number for record in RECORDS] == [6, 5, 4, 3, 2, 1]
    assert RECORDS[2].uri == "s3://models/fraud/8"
    assert RECORDS[2].model_name == "fraud-model"


def test_each_has_its_fate() -> None:
    assert [fate(record, view()) for record in RECORDS] == [
        "rejected",
        "rejected: AnalysisFailed",
        "candidate at 25 %",
        "stable",
        "previous, kept warm",
        "retired",
    ]
    assert fate(RECORDS[3], view("Probation")) == "stable, on probation"


def test_a_revision_that_was_promoted_is_told_from_one_that_never_was() -> None:
    seen = View.of(rolling("Analyzing", promoted=["fraud-5eed0000", STABLE]))
    assert fate(RECORDS[5], seen) == "promoted earlier"
    assert fate(RECORDS[4], seen) == "retired"


@pytest.mark.parametrize("word", [CANDIDATE, "91ab44d0", "91ab", "4"])
def test_name_hash_and_number_name_a_revision(word: str) -> None:
    assert find_record(RECORDS, word).name == CANDIDATE


def test_what_names_none_or_several_is_refused_with_what_there_is() -> None:
    with pytest.raises(
        RevisionError, match="9f names no revision on record; there are: 6 fraud-0bad"
    ):
        find_record(RECORDS, "9f")
    twins = parse_records(
        [
            controller_revision("fraud-91a00000", 1, "1"),
            controller_revision("fraud-91a11111", 2, "2"),
        ]
    )
    with pytest.raises(RevisionError, match="91a names several revisions"):
        find_record(twins, "91a")


def test_for_machines_it_is_a_list() -> None:
    document = to_documents(RECORDS, view())[3]
    assert document["revision"] == STABLE
    assert document["fate"] == "stable"
    assert document["created"] == "2026-05-03T12:00:03+00:00"
