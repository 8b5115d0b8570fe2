"""The same requests to a real tritonserver and to ours: equal answers, but for a written list."""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

import grpc
import httpx
import pytest

from testkit import triton_cases as cases
from testkit.runtime_serving import running
from testkit.triton_differences import DIFFERENCES, explain
from testkit.triton_models import ROWS, write_for_ours, write_for_triton
from testkit.triton_replies import GrpcCase, RestCase, ask_grpc, ask_rest, ask_stream
from testkit.triton_server import Addresses, tritonserver

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from testkit.triton_replies import Case

pytestmark = [pytest.mark.slow, pytest.mark.triton, pytest.mark.timeout(300)]

PAGE: Final = Path(__file__).parents[2] / "docs" / "reference" / "differences-from-triton.md"
GROUPS: Final[dict[str, Callable[[], Iterable[Case]]]] = {
    "good over REST": lambda: cases.good_rest(300),
    "good over gRPC": lambda: cases.good_grpc(200),
    # Before the bad ones, of which some are answered by one server alone, and counted by it.
    "everything else": cases.documents,
    "streams": cases.streams,
    "bad over REST": cases.bad_rest,
    "bad over gRPC": cases.bad_grpc,
}


@dataclass
class Outcome:
    """What came of all requests.

    Attributes:
        asked: Group → how many requests.
        unexplained: Group → answers that differ, in words.
        shown: Differences that were seen.
    """

    asked: dict[str, int] = field(default_factory=dict)
    unexplained: dict[str, list[str]] = field(default_factory=dict)
    shown: set[str] = field(default_factory=set)


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Addresses, Addresses]]:
    folder = tmp_path_factory.mktemp("both")
    write_for_triton(folder / "theirs")
    write_for_ours(folder / "ours")
    arguments = ("serve", "--models", str(folder / "ours"), "--control", "explicit")
    with (
        tritonserver(folder, folder / "theirs") as theirs,
        running(folder, *arguments, max_batch_size=str(ROWS), allow_pickle="true") as process,
    ):
        process.wait_for("Ready")
        yield theirs, Addresses(process.http, process.grpc)


@pytest.fixture(scope="module")
def outcome(servers: tuple[Addresses, Addresses]) -> Outcome:
    theirs, ours = servers
    told = Outcome()
    with (
        httpx.Client(timeout=20) as client,
        grpc.insecure_channel(theirs.grpc) as their_channel,
        grpc.insecure_channel(ours.grpc) as our_channel,
    ):

        def compare(case: Case) -> str:
            if isinstance(case, RestCase):
                left = ask_rest(client, theirs.http, case)
                right = ask_rest(client, ours.http, case)
            elif isinstance(case, GrpcCase):
                left, right = ask_grpc(their_channel, case), ask_grpc(our_channel, case)
            else:
                left, right = ask_stream(their_channel, case), ask_stream(our_channel, case)
            shown, rest = explain(case, left, right)
            told.shown |= shown
            return rest

        for group, make in GROUPS.items():
            words = [compare(case) for case in make()]
            told.asked[group] = len(words)
            told.unexplained[group] = [word for word in words if word]
    return told


@pytest.mark.parametrize("group", GROUPS)
def test_answers_are_equal_but_for_what_is_written_down(outcome: Outcome, group: str) -> None:
    assert not outcome.unexplained[group], "\n".join(outcome.unexplained[group])


def test_every_difference_that_is_written_down_shows(outcome: Outcome) -> None:
    assert sum(outcome.asked.values()) >= 500
    assert outcome.shown == set(DIFFERENCES)


def test_the_page_lists_what_the_comparison_knows() -> None:
    written = re.findall(r"^\| `([a-z-]+)` \|", PAGE.read_text(), re.MULTILINE)
    assert sorted(written) == sorted(DIFFERENCES)
    assert all(len(row.split("|")) == 6 for row in _rows()), "name, theirs, ours, why"


def _rows() -> list[str]:
    lines = PAGE.read_text().splitlines()
    return list(itertools.filterfalse(lambda line: not line.startswith("| `"), lines))
