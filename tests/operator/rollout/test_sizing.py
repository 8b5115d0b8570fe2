"""How many pods each revision has, and what its autoscaler may do, in every state."""

from typing import Any

import pytest

from modelyard_operator.rollout.sizing import Bounds, bounds, full_size, size
from modelyard_operator.rollout.state import PlannedStep, Rollout, RolloutState, World
from testkit.operator_rollout import ask_for

A, B = "fraud-a", "fraud-b"
S = RolloutState
HALF = PlannedStep(weight=50, bake_seconds=0)
ASK = ask_for(B, replicas=4)
TWO_PLACED = World(replicas={A: 4, B: 2}, placed={B: 2})


def rolling(state: RolloutState, **changes: Any) -> Rollout:
    """A rollout from A to B that is at its step to 50 %."""
    base = Rollout(state=state, stable=A, candidate=B, plan=(HALF,), step=1, initial_replicas=4)
    return base.model_copy(update=changes)


def promoted(state: RolloutState, **changes: Any) -> Rollout:
    """B has become stable, and A was."""
    base = Rollout(state=state, stable=B, previous=A, initial_replicas=4)
    return base.model_copy(update=changes)


@pytest.mark.parametrize(
    ("asked", "stable", "initial", "pods"),
    [(4, 2, 3, 4), (2, 4, 3, 4), (2, 3, 4, 4), (0, 0, None, 1)],
)
def test_all_of_the_traffic_needs_as_many_pods_as_ever_carried_it(
    asked: int, stable: int, initial: int | None, pods: int
) -> None:
    rollout = rolling(S.WARMING, initial_replicas=initial)
    assert full_size(ask_for(B, replicas=asked), rollout, World(replicas={A: stable})) == pods
    assert full_size(ask_for(B, replicas=asked), rollout, World()) == max(asked, initial or 1)


@pytest.mark.parametrize(
    ("state", "changes", "world", "pods"),
    [
        (S.PREPARING, {}, TWO_PLACED, 1),
        (S.WARMING, {}, World(), 1),
        (S.WARMING, {}, TWO_PLACED, 2),
        (S.WARMING, {"weight": 10}, World(), 2),
        (S.WARMING, {"initial_replicas": 6}, World(placed={B: 1}), 3),
        (S.WAITING_CAPACITY, {"initial_replicas": 6}, World(placed={B: 1}), 2),
        (S.WAITING_CAPACITY, {"initial_replicas": 6}, World(placed={B: 3}), 3),
        (S.SHIFTING, {"initial_replicas": 6, "given_up": 1}, World(placed={B: 1}), 2),
        (S.SHIFTING, {"initial_replicas": 6, "given_up": 6}, World(placed={B: 1}), 3),
    ],
    ids=[
        *("its first pod", "still without a node", "it has a node", "or traffic already"),
        *("all that the step needs", "one more than has room", "and no more than the step needs"),
        *("one more than was made room for", "all of the room is there"),
    ],
)
def test_a_candidate_has_one_pod_before_the_others(
    state: RolloutState, changes: dict[str, Any], world: World, pods: int
) -> None:
    assert size(ASK, rolling(state, **changes), world, B) == pods


@pytest.mark.parametrize(
    ("replicas", "changes", "pods"),
    [
        (3, {}, 3),
        (3, {"given_up": 1}, 3),
        (3, {"given_up": 3}, 1),
        (3, {"given_up": 4}, 0),
        (3, {"given_up": 2, "state": S.IDLE}, 3),
        (0, {"given_up": 1}, 0),
    ],
)
def test_stable_lacks_what_has_made_room(replicas: int, changes: dict[str, Any], pods: int) -> None:
    ask = ask_for(B, replicas=replicas)
    assert size(ask, rolling(S.SHIFTING).model_copy(update=changes), World(), A) == pods


@pytest.mark.parametrize(
    ("weight", "ready", "has", "pods"),
    [
        (25, {A: 3}, {A: 3}, 3),  # the candidate's pods have died since the decision
        (25, {A: 3, B: 1}, {A: 3}, 2),
        (0, {A: 3}, {A: 3}, 2),
        (25, {A: 1}, {A: 1}, 2),
        (25, {}, {}, 2),  # somebody has deleted stable's workload
    ],
)
def test_no_pod_of_stable_goes_while_it_answers_for_the_candidate(
    weight: int, ready: dict[str, int], has: dict[str, int], pods: int
) -> None:
    rollout = rolling(S.WAITING_CAPACITY, weight=weight, given_up=2)
    assert size(ASK, rollout, World(replicas=has, ready=ready), A) == pods


@pytest.mark.parametrize(
    ("changes", "has", "pods"),
    [({}, {A: 3}, 3), ({}, {A: 0}, 1), ({}, {}, 1), ({"given_up": 4}, {A: 3}, 0)],
)
def test_what_was_stable_keeps_the_pods_that_it_has(
    changes: dict[str, Any], has: dict[str, int], pods: int
) -> None:
    probation = promoted(S.PROBATION, **changes)
    assert size(ASK, probation, World(replicas=has), A) == pods
    assert size(ASK, probation, World(replicas=has), B) == 4


@pytest.mark.parametrize(
    ("changes", "has", "home", "left"),
    [
        ({}, {A: 2, B: 3}, 4, 3),
        ({}, {A: 6, B: 3}, 6, 3),
        ({}, {A: 0, B: 0}, 4, 1),
        ({}, {}, 4, 1),
        ({"remaining": 2}, {A: 2, B: 3}, 4, 2),
        ({"remaining": 4}, {A: 2, B: 3}, 4, 3),
        ({"remaining": 0}, {A: 2, B: 3}, 4, 0),
        ({"given_up": 4}, {A: 0, B: 3}, 4, 0),
    ],
)
def test_in_a_rollback_home_grows_and_what_is_left_stays(
    changes: dict[str, Any], has: dict[str, int], home: int, left: int
) -> None:
    rollout, world = rolling(S.ROLLING_BACK, **changes), World(replicas=has)
    assert (size(ASK, rollout, world, A), size(ASK, rollout, world, B)) == (home, left)
    assert size(ask_for(B, replicas=0), rollout, world, A) == 0
    assert size(ASK, rollout, world, "fraud-c") == 4


@pytest.mark.parametrize("state", [S.PROMOTING, S.PROBATION])
def test_a_fresh_stable_keeps_the_pods_that_carried_the_traffic(state: RolloutState) -> None:
    assert bounds(promoted(state), B, 2) == Bounds(floor=4)
    assert bounds(promoted(state), B, 5) == Bounds(floor=5)
    assert bounds(promoted(state, initial_replicas=None), B, 1) == Bounds(floor=1)


@pytest.mark.parametrize(
    ("rollout", "stable", "other"),
    [
        (Rollout(state=S.IDLE, stable=A), Bounds(3), Bounds(3)),
        (rolling(S.WARMING), Bounds(3, hold=True), Bounds(3)),
        (rolling(S.WARMING, given_up=1), Bounds(3, ceiling=3, hold=True), Bounds(3)),
        (rolling(S.ROLLING_BACK), Bounds(3), Bounds(3)),
        (rolling(S.ROLLING_BACK, given_up=1), Bounds(3), Bounds(3)),
        (rolling(S.ROLLING_BACK, remaining=3), Bounds(3), Bounds(3, ceiling=3)),
    ],
)
def test_an_autoscaler_keeps_what_may_be_needed_and_takes_no_room(
    rollout: Rollout, stable: Bounds, other: Bounds
) -> None:
    assert bounds(rollout, A, 3) == stable
    assert bounds(rollout, B, 3) == other


def test_the_autoscaler_of_what_was_stable_does_not_shrink_it() -> None:
    assert bounds(promoted(S.PROBATION), A, 3) == Bounds(3, hold=True)
    assert bounds(promoted(S.ROLLING_BACK, remaining=3), A, 3) == Bounds(3, hold=True)
    assert bounds(promoted(S.ROLLING_BACK, remaining=3), B, 3) == Bounds(3, ceiling=3)
