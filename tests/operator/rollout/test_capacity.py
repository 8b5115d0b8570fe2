"""When a pod of stable may make way for one of the candidate."""

from dataclasses import replace
from typing import Any

import pytest

from modelyard_operator.rollout.capacity import exchange
from modelyard_operator.rollout.machine import decide
from modelyard_operator.rollout.state import PlannedStep, Rollout, RolloutState, World
from testkit.operator_objects import NOW
from testkit.operator_rollout import ask_for

A, B = "fraud-a", "fraud-b"
STEPS = (PlannedStep(weight=50, bake_seconds=0), PlannedStep(weight=100, bake_seconds=0))
WAITING = Rollout(
    state=RolloutState.WAITING_CAPACITY,
    stable=A,
    candidate=B,
    plan=STEPS,
    step=2,
    initial_replicas=4,
)
FULL_HOUSE = World(
    primary=A,
    replicas={A: 4, B: 1},
    placed={A: 4},
    ready={A: 4},
    unschedulable={B: "0/1 nodes"},
)
ONE_MOVED: dict[str, Any] = {"given_up": 1, "room_for": 1, "weight": 25}
ONE_THERE = World(
    primary=A,
    canary=B,
    canary_weight=25,
    replicas={A: 3, B: 2},
    placed={A: 3, B: 1},
    ready={A: 3, B: 1},
    unschedulable={B: "0/1 nodes"},
)


def asked(mode: str = "Auto") -> Any:
    return ask_for(B, replicas=4, capacity={"mode": mode})


def given_up(world: World, mode: str = "Auto", **changes: Any) -> int | None:
    """Pods that stable has given up afterwards; None where nothing can be done."""
    found = exchange(asked(mode), WAITING.model_copy(update=changes), world, NOW)
    return None if found is None else found.given_up


@pytest.mark.parametrize(
    ("mode", "expected"), [("Auto", 1), ("Exchange", 1), ("Surge", None), ("Recreate", 4)]
)
def test_the_first_pod_of_the_candidate_is_made_room_for(mode: str, expected: int | None) -> None:
    assert given_up(FULL_HOUSE, mode) == expected


@pytest.mark.parametrize(("mode", "expected"), [("Auto", None), ("Exchange", 1), ("Recreate", 1)])
def test_the_only_pod_goes_only_where_that_is_asked_for(mode: str, expected: int | None) -> None:
    alone = replace(FULL_HOUSE, replicas={A: 1, B: 1}, placed={A: 1}, ready={A: 1})
    assert given_up(alone, mode, initial_replicas=1) == expected
    assert given_up(alone, mode, initial_replicas=None) == expected


def test_of_two_pods_one_can_be_spared() -> None:
    two = replace(FULL_HOUSE, replicas={A: 2, B: 1}, placed={A: 2}, ready={A: 2})
    assert given_up(two, initial_replicas=2) == 1


def test_one_ready_pod_takes_no_traffic_from_a_revision_that_has_no_pod_to_spare() -> None:
    more = replace(ONE_THERE, replicas={A: 1, B: 4}, placed={A: 1, B: 1}, ready={A: 1, B: 1})
    assert exchange(asked(), WAITING.model_copy(update={"initial_replicas": 1}), more, NOW) is None


def test_without_any_pod_of_stable_there_are_no_steps_left_to_take() -> None:
    found = exchange(asked("Recreate"), WAITING.model_copy(update={"step": 1}), FULL_HOUSE, NOW)
    assert found is not None
    assert (found.gave_all, found.current.weight) == (True, 100)
    assert exchange(asked("Recreate"), found, FULL_HOUSE, NOW) is None


def test_traffic_follows_the_pods_before_the_next_one_goes() -> None:
    behind = {**ONE_MOVED, "weight": 0}
    found = exchange(asked(), WAITING.model_copy(update=behind), ONE_THERE, NOW)
    assert found is not None
    assert (found.state, found.weight, found.given_up) == (RolloutState.SHIFTING, 25, 1)


def test_the_next_pod_goes_when_the_traffic_has_followed() -> None:
    assert given_up(ONE_THERE, **ONE_MOVED) == 2


@pytest.mark.parametrize(
    "change",
    [
        {"leaving": 1},
        {"canary_weight": 10},
        {"placed": {A: 3, B: 0}, "ready": {A: 3}},
        {"replicas": {A: 4, B: 2}},
        {"ready": {A: 1, B: 1}},
        {"ready": {B: 1}},
        {"replicas": {B: 2}, "ready": {B: 1}},
    ],
    ids=[
        *("a pod still holds its device", "the weight is not confirmed"),
        *("the room is not taken", "stable has not shrunk", "one ready pod", "no ready pod"),
        "no pod at all",
    ],
)
def test_no_second_pod_is_missing_at_any_time(change: dict[str, Any]) -> None:
    assert given_up(replace(ONE_THERE, **change), **ONE_MOVED) is None


def test_room_that_was_made_has_to_be_taken_before_more_is() -> None:
    spare = {**ONE_MOVED, "given_up": 0, "room_for": 0}  # the first one had found a place
    before = replace(ONE_THERE, replicas={A: 4, B: 2}, placed={A: 4, B: 1}, ready={A: 4, B: 1})
    found = exchange(asked(), WAITING.model_copy(update=spare), before, NOW)
    assert found is not None
    assert (found.given_up, found.room_for) == (1, 2)
    assert exchange(asked(), found, ONE_THERE, NOW) is None


RETURNING = WAITING.model_copy(update={"state": RolloutState.ROLLING_BACK, "step": 2})
STARVED = World(
    primary=A,
    canary=B,
    canary_weight=100,
    replicas={A: 1, B: 3},
    placed={B: 3},
    ready={B: 3},
    unschedulable={A: "0/1 nodes"},
)


def left_after(world: World, mode: str = "Auto", **changes: Any) -> int | None:
    ask = ask_for(A, replicas=4, capacity={"mode": mode})
    return decide(ask, RETURNING.model_copy(update=changes), world, NOW).remaining


def test_what_is_left_gives_way_to_home_one_pod_at_a_time() -> None:
    assert left_after(STARVED) == 2
    assert left_after(STARVED, remaining=2) == 2, "the last one has not gone yet"
    assert left_after(replace(STARVED, replicas={A: 1, B: 2}), remaining=2) == 1
    assert left_after(replace(STARVED, leaving=1)) is None
    assert left_after(replace(STARVED, unschedulable={})) is None
    assert left_after(replace(STARVED, ready={A: 1, B: 3})) is None
    assert left_after(replace(STARVED, replicas={A: 1}, ready={}), "Exchange") is None


@pytest.mark.parametrize(
    ("mode", "expected"), [("Auto", 1), ("Surge", 1), ("Exchange", 0), ("Recreate", 0)]
)
def test_its_last_pod_goes_only_where_a_downtime_is_asked_for(mode: str, expected: int) -> None:
    last = replace(STARVED, replicas={A: 1, B: 1}, placed={B: 1}, ready={B: 1})
    assert left_after(last, mode, remaining=1) == expected


def test_the_last_pod_of_stable_leaves_with_its_traffic() -> None:
    last = replace(
        ONE_THERE, canary_weight=50, replicas={A: 1, B: 3}, placed={A: 1, B: 3}, ready={A: 1, B: 3}
    )
    state = WAITING.model_copy(update={"given_up": 3, "room_for": 3, "weight": 50})
    found = exchange(asked(), state, last, NOW)
    assert found is not None
    assert (found.state, found.weight, found.given_up) == (RolloutState.SHIFTING, 100, 3)
    assert given_up(replace(last, ready={A: 1}), given_up=3, room_for=3, weight=50) is None
    moved = replace(last, canary_weight=100, ready={A: 2, B: 3})
    assert given_up(moved, given_up=3, room_for=3, weight=100) is None


def test_a_share_is_never_more_than_the_step_s() -> None:
    early = WAITING.model_copy(update={**ONE_MOVED, "step": 1, "weight": 25})
    three = replace(ONE_THERE, placed={A: 3, B: 3}, ready={A: 3, B: 3})
    found = exchange(asked(), early, three, NOW)
    assert found is not None
    assert found.weight == 50
