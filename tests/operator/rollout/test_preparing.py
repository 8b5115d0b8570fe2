"""What a candidate waits for before a step's weight, one pass at a time."""

from dataclasses import replace
from typing import Any

import pytest

from modelyard_operator.rollout.judgement import Judgement, Verdict
from modelyard_operator.rollout.machine import decide
from modelyard_operator.rollout.state import PlannedStep, Rollout, RolloutState, World
from testkit.operator_objects import NOW
from testkit.operator_rollout import ask_for, seconds

A, B = "fraud-a", "fraud-b"
S = RolloutState
PLAN = (
    PlannedStep(weight=50, bake_seconds=0, max_seconds=300),
    PlannedStep(weight=100, bake_seconds=0),
)
BEGUN = Rollout(
    state=S.PREPARING,
    stable=A,
    candidate=B,
    plan=PLAN,
    step=1,
    initial_replicas=4,
    deadline_time=NOW + seconds(60),
    step_deadline_time=NOW + seconds(50),
)
ROOM = World(primary=A, replicas={A: 4, B: 2}, placed={A: 4, B: 2}, ready={A: 4, B: 2})
NO_ROOM = replace(ROOM, placed={A: 4}, ready={A: 4}, unschedulable={B: "0/1 nodes"})
PATIENT = {"mode": "Surge", "waitSeconds": 90}


def having(state: RolloutState, **changes: Any) -> Rollout:
    return BEGUN.model_copy(update={"state": state, "state_since": NOW, **changes})


def asked(**rollout: Any) -> Any:
    return ask_for(
        B, replicas=4, **{"capacity": PATIENT, "progressDeadlineSeconds": 700, **rollout}
    )


def test_the_first_pod_s_node_is_waited_for() -> None:
    nothing_yet = replace(NO_ROOM, unschedulable={})
    assert decide(asked(), BEGUN, nothing_yet, NOW) == BEGUN
    assert decide(asked(), BEGUN, ROOM, NOW) == having(S.WARMING)
    starved = having(S.WAITING_CAPACITY, next_step_time=NOW + seconds(90))
    assert decide(asked(), BEGUN, NO_ROOM, NOW) == starved


def test_room_is_waited_for_as_long_as_asked() -> None:
    waiting = having(S.WAITING_CAPACITY, next_step_time=NOW + seconds(90))
    late = NOW + seconds(90)
    assert decide(asked(), waiting, NO_ROOM, late - seconds(1)) == waiting
    found = decide(asked(), waiting, NO_ROOM, late)
    assert found.state is S.ROLLING_BACK
    assert found.last_rollback is not None
    assert found.last_rollback.reason == "InsufficientCapacity"
    assert found.last_rollback.message == f"no room for a pod of {B}: 0/1 nodes"
    paused = decide(asked(capacity={**PATIENT, "onTimeout": "Pause"}), waiting, NO_ROOM, late)
    assert (paused.state, paused.paused_reason) == (S.PAUSED, "Capacity")
    timeless = having(S.WAITING_CAPACITY)
    assert decide(asked(), timeless, NO_ROOM, NOW).state is S.ROLLING_BACK


def test_with_room_the_time_for_getting_ready_begins_anew() -> None:
    waiting = having(S.WAITING_CAPACITY, next_step_time=NOW + seconds(90))
    found = decide(asked(), waiting, ROOM, NOW + seconds(30))
    assert (found.state, found.deadline_time) == (S.WARMING, NOW + seconds(730))


@pytest.mark.parametrize("state", [S.WAITING_CAPACITY, S.WARMING, S.SHADOWING])
@pytest.mark.parametrize(("reason", "held"), [("Spec", False), ("Command", True)])
def test_a_person_holds_a_rollout_before_its_step(
    state: RolloutState,
    reason: str,
    held: bool,  # noqa: FBT001
) -> None:
    ask = asked(paused=reason == "Spec", shadow={"percent": 10})
    world = NO_ROOM if state is S.WAITING_CAPACITY else ROOM
    found = decide(ask, having(state, held=held), world, NOW)
    assert (found.state, found.paused_reason, found.state_since) == (S.PAUSED, reason, NOW)


def test_a_pod_of_stable_makes_way_before_the_time_is_over() -> None:
    waiting = having(S.WAITING_CAPACITY, next_step_time=NOW + seconds(90))
    found = decide(asked(capacity={"mode": "Auto"}), waiting, NO_ROOM, NOW)
    assert (found.state, found.given_up) == (S.WAITING_CAPACITY, 1)


def test_all_the_pods_of_a_step_are_waited_for() -> None:
    warming = having(S.WARMING)
    one = replace(ROOM, ready={A: 4, B: 1})
    assert decide(asked(), warming, one, NOW) == warming
    assert decide(asked(), warming, replace(ROOM, ready={A: 4}), NOW) == warming
    starved = having(S.WAITING_CAPACITY, next_step_time=NOW + seconds(90))
    assert decide(asked(), warming, replace(one, unschedulable={B: ""}), NOW) == starved
    ready = having(S.SHIFTING, weight=50, step_deadline_time=None)
    assert decide(asked(), warming, ROOM, NOW) == ready


def test_the_only_pod_of_a_step_is_waited_for() -> None:
    alone, nobody = having(S.WARMING, initial_replicas=1), World(primary=A, ready={A: 1})
    ask = ask_for(B, replicas=1, progressDeadlineSeconds=700)
    assert decide(ask, alone, nobody, NOW) == alone
    assert decide(ask, alone, replace(nobody, ready={A: 1, B: 1}), NOW).state is S.SHIFTING


def test_what_it_takes_is_looked_at_before_any_request() -> None:
    warming, silent = having(S.WARMING), replace(ROOM, signature_unknown=True)
    assert decide(asked(), warming, silent, NOW) == warming
    assert decide(asked(signatureChange="Allow"), warming, silent, NOW).state is S.SHIFTING
    assert decide(asked(), having(S.WARMING, weight=10), silent, NOW).state is S.SHIFTING


COPIES = {"shadow": {"percent": 10}}


@pytest.mark.parametrize(
    ("spec", "changes", "stable", "state"),
    [
        (COPIES, {}, 4, S.SHADOWING),
        ({}, {}, 4, S.SHIFTING),
        (COPIES, {"forced": True}, 4, S.SHIFTING),
        (COPIES, {"weight": 10}, 4, S.SHIFTING),
        (COPIES, {"plan": (PLAN[0], PLAN[0]), "step": 2}, 4, S.SHIFTING),
        (COPIES, {"plan": PLAN[1:]}, 4, S.WARMING),
    ],
    ids=["asked for", "not asked for", "promote-full", "it serves", "a later step", "too few pods"],
)
def test_copies_come_before_the_first_request(
    spec: dict[str, Any], changes: dict[str, Any], stable: int, state: RolloutState
) -> None:
    world = replace(ROOM, ready={A: stable, B: 2})
    found = decide(asked(**spec), having(S.WARMING, **changes), world, NOW)
    assert found.state is state
    if state is S.SHADOWING:
        assert found.step_deadline_time == NOW + seconds(300)


def test_without_a_ready_pod_of_stable_there_is_nobody_to_copy_from() -> None:
    whole = having(S.WARMING, plan=PLAN[1:])
    down = replace(ROOM, ready={B: 4}, replicas={A: 4, B: 4})
    assert decide(asked(**COPIES), whole, down, NOW).state is S.SHIFTING


def test_who_has_stood_in_for_stable_gives_its_requests_back_before_it_gets_copies() -> None:
    standing_in = replace(ROOM, canary=B, canary_weight=100)
    assert decide(asked(**COPIES), having(S.WARMING), standing_in, NOW) == having(S.WARMING)
    assert decide(asked(), having(S.WARMING), standing_in, NOW).state is S.SHIFTING


SHADOWING = having(S.SHADOWING, step_deadline_time=NOW + seconds(300))
LATE = NOW + seconds(300)


@pytest.mark.parametrize(
    ("verdict", "early", "late"),
    [
        (None, S.SHADOWING, S.PAUSED),
        (Verdict.UNDECIDED, S.SHADOWING, S.PAUSED),
        (Verdict.PASS, S.SHIFTING, S.SHIFTING),
        (Verdict.FAIL, S.ROLLING_BACK, S.ROLLING_BACK),
        (Verdict.ERROR, S.SHADOWING, S.SHADOWING),
    ],
)
def test_answers_are_compared_until_there_are_enough(
    verdict: Verdict | None, early: RolloutState, late: RolloutState
) -> None:
    world = replace(ROOM, shadow=Judgement(verdict, "OutputsDiffer") if verdict else None)
    assert decide(asked(**COPIES), SHADOWING, world, LATE - seconds(1)).state is early
    assert decide(asked(**COPIES), SHADOWING, world, LATE).state is late
    timeless = SHADOWING.model_copy(update={"step_deadline_time": None})
    assert decide(asked(**COPIES), timeless, world, LATE).state is early


def test_the_first_step_has_all_of_its_time_after_a_comparison() -> None:
    passed = replace(ROOM, shadow=Judgement(Verdict.PASS))
    found = decide(asked(**COPIES), SHADOWING, passed, NOW)
    assert found == having(S.SHIFTING, weight=50, step_deadline_time=None)


@pytest.mark.parametrize(
    ("shadow", "grounds"),
    [
        (None, ("ShadowInconclusive", "too few answers to compare")),
        (Judgement(Verdict.FAIL, "OutputsDiffer", "20 of 500"), ("OutputsDiffer", "20 of 500")),
    ],
)
def test_a_comparison_that_rejects_says_why(
    shadow: Judgement | None, grounds: tuple[str, str]
) -> None:
    ask = asked(**COPIES, analysis={"onInconclusive": "Rollback"})
    found = decide(ask, SHADOWING, replace(ROOM, shadow=shadow), LATE).last_rollback
    assert found is not None
    assert (found.reason, found.message) == grounds


def test_a_pod_that_dies_interrupts_the_comparison() -> None:
    found = decide(asked(**COPIES), SHADOWING, replace(ROOM, ready={A: 4, B: 1}), NOW)
    assert (found.state, found.state_since) == (S.WARMING, NOW)
