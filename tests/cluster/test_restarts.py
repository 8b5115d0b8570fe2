"""An operator may die at any moment: what comes after it ends where it would have ended.

Each goes through two rollouts, of a good version that is promoted and of a bad one that is rolled back
on evidence, and is killed at one of their writes, before or after it is done.
"""

import os
from collections.abc import Iterable, Iterator
from typing import Final

import pytest

from testkit.cluster_api import revision_of
from testkit.cluster_fleet import BAD, Fleet, Ship, run_fleet
from testkit.cluster_gate import Kill
from testkit.cluster_lab import Lab

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1200)]

CHAOS: Final = os.environ.get("MODELYARD_CHAOS") == "1"
BATCH: Final = 10 if CHAOS else 4
"""Rollouts that are disturbed at once."""
WRITES: Final = 80
"""More than the two rollouts have: about 70, as the evidence is written down after each scrape."""
EVERY: Final = [
    Kill(number, committed) for number in range(1, WRITES + 1) for committed in (True, False)
]
SAMPLE: Final = [
    *(Kill(number, committed=True) for number in (1, 50)),
    *(Kill(number, committed=False) for number in (19, 62)),
]
KILLS: Final = EVERY if CHAOS else SAMPLE
BATCHES: Final = [KILLS[first : first + BATCH] for first in range(0, len(KILLS), BATCH)]
WATCH_S: Final = 300.0 if CHAOS else 30.0
"""How long the idle one of the first batch is watched, in seconds."""
SHORT_S: Final = 30.0


@pytest.fixture(scope="module", params=BATCHES, ids=lambda kills: f"from-{kills[0]}")
def fleet(
    request: pytest.FixtureRequest,
    lab: Lab,
    tmp_path_factory: pytest.TempPathFactory,
    figures: dict[str, object],
) -> Iterator[Fleet]:
    kills: list[Kill] = request.param
    figures["RSS of the chart's operator in MiB"] = round(lab.operator_rss() / 2**20, 1)
    with run_fleet(lab, tmp_path_factory.mktemp("fleet"), kills, _watch_s(kills)) as run:
        yield run


def _watch_s(kills: Iterable[Kill]) -> float:
    return WATCH_S if BATCHES[0][0] in kills else SHORT_S


def _check_end(ship: Ship, reference: Ship) -> None:
    assert ship.load is not None
    assert ship.load.failed == []
    code, said, seen = ship.waited
    assert code == 0, said
    assert seen["status"]["stable"]["version"] == "2", "kubectl wait returned on the old revision"
    assert ship.end() == reference.end()
    assert ship.end()["restarts"] == 0
    assert ship.served.route.version() == 2
    rollout = ship.ended["status"]["rollout"]
    assert rollout["lastRollback"]["reason"] == BAD.reason
    assert rollout["rejected"] == [rollout["lastRollback"]["revision"]]


def test_undisturbed_it_ends_with_three_revisions_on_record(
    fleet: Fleet, figures: dict[str, object]
) -> None:
    ship = fleet.reference
    _check_end(ship, ship)
    end = ship.end()
    new = revision_of(ship.waited[2], "stable")
    assert end["pods"] == [new]
    records = {name for name in end["children"] if name.startswith("ControllerRevision")}
    (bad,) = ship.ended["status"]["rollout"]["rejected"]
    assert records == {f"ControllerRevision/{name}" for name in (ship.stable, new, bad)}
    assert f"Deployment/{bad}" not in end["children"]
    assert f"Deployment/{ship.stable}" not in end["children"]
    figures["API writes of a rollout and a rollback"] = len(ship.writes)
    requests = [one.load.samples for one in (*fleet.killed.values(), ship, fleet.wiped) if one.load]
    figures["requests during killed and wiped rollouts"] = sum(map(len, requests))


@pytest.mark.parametrize("offset", range(BATCH))
def test_killed_at_a_write_it_ends_the_same(fleet: Fleet, offset: int) -> None:
    kill, ship = list(fleet.killed.items())[offset]
    if not ship.was_killed and kill.number > len(ship.writes):
        pytest.skip(f"there was no write {kill.number}")
    assert ship.was_killed
    _check_end(ship, fleet.reference)


def test_a_lost_status_is_told_by_the_routes(fleet: Fleet) -> None:
    ship = fleet.wiped
    _check_end(ship, fleet.reference)
    first = ship.statuses[0]
    assert first["stable"]["revision"] == ship.stable
    assert first["candidate"]["revision"] == revision_of(ship.waited[2], "stable")
    steps = [(one["rollout"].get("step", 0), one["rollout"]["state"]) for one in ship.statuses]
    assert steps[0][0] == 1


def test_a_restart_with_nothing_to_do_writes_nothing(
    fleet: Fleet, figures: dict[str, object]
) -> None:
    ships = (*fleet.killed.values(), fleet.reference, fleet.wiped, fleet.idle)
    written = [write for ship in ships for write in ship.restart_writes]
    figures[f"API writes of {len(ships)} restarts with nothing to do"] = len(written)
    assert written == []


def test_idle_it_writes_nothing(fleet: Fleet, figures: dict[str, object]) -> None:
    assert fleet.watched_s >= _watch_s(fleet.killed)
    figures[f"API writes in {fleet.watched_s:.0f} s of idling"] = len(fleet.idle.writes)
    assert fleet.idle.writes == []


def test_drift_made_while_it_was_down_is_repaired(fleet: Fleet) -> None:
    ship, model = fleet.drifted, fleet.drifted.served
    repaired = {write.path.partition("?")[0].rpartition("/")[2] for write in ship.restart_writes}
    revision = ship.stable
    assert {revision, f"{revision}-directives", model.name} <= repaired
    undisturbed = fleet.idle.end()
    end = ship.end()
    # The idle one was never disturbed, and differs in nothing else.
    assert end["children"] == undisturbed["children"]
    assert model.route.version() == 1
