"""An operator may die at any moment: what comes after it ends where it would have ended."""

import os
from collections.abc import Iterator
from typing import Final

import pytest

from testkit.cluster_api import revision_of
from testkit.cluster_fleet import Fleet, Ship, run_fleet
from testkit.cluster_lab import Lab

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1200)]

BATCH: Final = 10
CHAOS: Final = os.environ.get("MODELYARD_CHAOS") == "1"
FIRSTS: Final = (1, 11, 21, 31) if CHAOS else (1,)
"""First write of each batch: 10 rollouts run at once."""
WATCH_S: Final = {1: 300.0 if CHAOS else 30.0}
"""How long the idle one is watched, in seconds, by first write."""
SHORT_S: Final = 30.0


@pytest.fixture(scope="module", params=FIRSTS)
def fleet(
    request: pytest.FixtureRequest,
    lab: Lab,
    tmp_path_factory: pytest.TempPathFactory,
    figures: dict[str, object],
) -> Iterator[Fleet]:
    first: int = request.param
    watch_s = WATCH_S.get(first, SHORT_S)
    kills = range(first, first + BATCH)
    figures["RSS of the chart's operator in MiB"] = round(lab.operator_rss() / 2**20, 1)
    with run_fleet(lab, tmp_path_factory.mktemp("fleet"), kills, watch_s) as run:
        yield run


def _check_end(ship: Ship, reference: Ship) -> None:
    assert ship.load is not None
    assert ship.load.failed == []
    code, said, seen = ship.waited
    assert code == 0, said
    assert seen["status"]["stable"]["version"] == "2", "kubectl wait returned on the old revision"
    assert ship.end() == reference.end()
    assert ship.end()["restarts"] == 0
    assert ship.served.route.version() == 2


def test_undisturbed_it_ends_with_two_revisions_on_record(
    fleet: Fleet, figures: dict[str, object]
) -> None:
    ship = fleet.reference
    _check_end(ship, ship)
    end = ship.end()
    new = revision_of(ship.waited[2], "stable")
    assert end["pods"] == [new]
    records = {name for name in end["children"] if name.startswith("ControllerRevision")}
    assert records == {f"ControllerRevision/{name}" for name in (ship.stable, new)}
    assert f"Deployment/{ship.stable}" not in end["children"]
    figures["API writes of one rollout in two steps"] = len(ship.writes)
    requests = [one.load.samples for one in (*fleet.killed.values(), ship, fleet.wiped) if one.load]
    figures["requests during killed and wiped rollouts"] = sum(map(len, requests))


@pytest.mark.parametrize("offset", range(BATCH))
def test_killed_after_a_write_it_ends_the_same(fleet: Fleet, offset: int) -> None:
    number = min(fleet.killed) + offset
    ship = fleet.killed[number]
    if not ship.was_killed and number > len(fleet.reference.writes):
        pytest.skip(f"a rollout has no write {number}")
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
    assert fleet.watched_s >= WATCH_S.get(min(fleet.killed), SHORT_S)
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
