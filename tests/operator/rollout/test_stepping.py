"""A step from its weight to its end, one pass at a time."""

from dataclasses import replace
from typing import Any

import pytest

from modelyard_operator.rollout.evidence import Evidence
from modelyard_operator.rollout.judgement import Judgement, Verdict
from modelyard_operator.rollout.machine import decide
from modelyard_operator.rollout.state import PauseReason, PlannedStep, Rollout, RolloutState, World
from testkit.operator_objects import NOW
from testkit.operator_rollout import ask_for, seconds

A, B = "fraud-a", "fraud-b"
S = RolloutState
PLAN = (
    PlannedStep(weight=10, bake_seconds=20, max_seconds=300),
    PlannedStep(weight=50, bake_seconds=2, max_seconds=300),
    PlannedStep(weight=100, bake_seconds=0),
)
SHIFTING = Rollout(
    state=S.SHIFTING, stable=A, candidate=B, plan=PLAN, step=1, weight=10, initial_replicas=2
)
ANALYZING = SHIFTING.model_copy(
    update={
        "state": S.ANALYZING,
        "next_step_time": NOW + seconds(20),
        "step_deadline_time": NOW + seconds(300),
    }
)
ASK = ask_for(B, progressDeadlineSeconds=700)
THERE = World(primary=A, canary=B, canary_weight=10, replicas={A: 2, B: 2}, ready={A: 2, B: 2})
PASSED = NOW + seconds(20)
LIMIT = PASSED + seconds(700)


def shifting(**changes: Any) -> Rollout:
    return SHIFTING.model_copy(update=changes)


def analyzing(**changes: Any) -> Rollout:
    return ANALYZING.model_copy(update=changes)


def paused(reason: PauseReason, **changes: Any) -> Rollout:
    return analyzing(state=S.PAUSED, paused_reason=reason, state_since=NOW, **changes)


def test_a_weight_is_waited_for_and_then_its_step_begins() -> None:
    assert decide(ASK, SHIFTING, replace(THERE, canary_weight=9), NOW) == SHIFTING
    found = decide(ASK, SHIFTING, THERE, NOW)
    assert (found.state, found.state_since) == (S.ANALYZING, NOW)
    assert found.next_step_time == NOW + seconds(20)
    assert found.step_deadline_time == NOW + seconds(300)


def test_a_step_that_goes_on_keeps_the_end_of_its_time() -> None:
    again = shifting(step_deadline_time=NOW + seconds(7))
    assert decide(ASK, again, THERE, NOW).step_deadline_time == NOW + seconds(7)


@pytest.mark.parametrize(
    ("step", "forced", "bakes", "longest"),
    [
        (PlannedStep(weight=10, bake_seconds=2, max_seconds=300), False, 5, 300),
        (PlannedStep(weight=10, bake_seconds=60, max_seconds=30), False, 60, 60),
        (PlannedStep(weight=10, bake_seconds=60, max_seconds=30), True, 5, 30),
        (PlannedStep(weight=10, bake_seconds=0, max_seconds=3), False, 5, 5),
    ],
    ids=["proxies need 5 s", "never less than it bakes", "promote-full", "no time at all"],
)
def test_a_step_bakes_as_long_as_it_says_and_the_proxies_need(
    step: PlannedStep,
    forced: bool,  # noqa: FBT001
    bakes: int,
    longest: int,
) -> None:
    found = decide(ASK, shifting(plan=(step,), forced=forced), THERE, NOW)
    assert found.next_step_time == NOW + seconds(bakes)
    assert found.step_deadline_time == NOW + seconds(longest)


def test_a_proxy_that_cannot_split_any_more_gets_the_last_step() -> None:
    unsplit = World(primary=A, splits=False, ready={A: 2, B: 2}, replicas={A: 2, B: 2})
    found = decide(ASK, SHIFTING, unsplit, NOW)
    assert (found.state, found.step, found.state_since) == (S.WARMING, 3, NOW)
    last = shifting(step=3, weight=100)
    assert decide(ASK, last, unsplit, NOW) == last
    assert decide(ASK, last, replace(unsplit, primary=B), NOW).state is S.ANALYZING


def test_on_part_of_the_way_the_proxies_follow_before_the_next_pod_goes() -> None:
    part = shifting(step=2, step_deadline_time=NOW)
    settling = decide(ASK, part, THERE, NOW)
    assert settling == part.model_copy(update={"next_step_time": NOW + seconds(5)})
    assert decide(ASK, settling, THERE, NOW + seconds(4)) == settling
    found = decide(ASK, settling, THERE, NOW + seconds(5))
    assert (found.state, found.step_deadline_time) == (S.WARMING, None)
    assert found.deadline_time == NOW + seconds(705)


def test_a_weight_that_is_lost_while_it_is_judged_is_written_again() -> None:
    found = decide(ASK, ANALYZING, replace(THERE, canary_weight=9), NOW)
    assert (found.state, found.deadline_time) == (S.SHIFTING, NOW + seconds(700))
    assert found.step_deadline_time == ANALYZING.step_deadline_time


def test_a_step_lasts_until_its_time_is_over() -> None:
    assert decide(ASK, ANALYZING, THERE, PASSED - seconds(1)) == ANALYZING
    found = decide(ASK, ANALYZING, THERE, PASSED)
    assert (found.state, found.step, found.weight) == (S.WARMING, 2, 10)
    assert (found.deadline_time, found.step_deadline_time) == (LIMIT, None)
    assert decide(ASK, analyzing(next_step_time=None), THERE, NOW).step == 2


@pytest.mark.parametrize(
    ("change", "reason"),
    [({"paused": True}, "Spec"), ({}, "Command"), ({}, "AnalysisError")],
)
def test_a_pause_keeps_the_time_that_the_step_has_left(change: dict[str, Any], reason: str) -> None:
    ask = ask_for(B, **change)
    before = analyzing(held=reason == "Command", analysis=Evidence(errors=5))
    silent = Judgement(Verdict.ERROR) if reason == "AnalysisError" else None
    found = decide(ask, before, replace(THERE, judgement=silent), NOW)
    assert (found.state, found.paused_reason) == (S.PAUSED, reason)
    assert found.next_step_time == ANALYZING.next_step_time
    assert found.step_deadline_time == ANALYZING.step_deadline_time


def test_too_little_is_seen_only_once_the_longest_time_is_over() -> None:
    few = replace(THERE, judgement=Judgement(Verdict.UNDECIDED, message="3 of 100 requests"))
    ask = ask_for(B, analysis={"onInconclusive": "Rollback"})
    end = NOW + seconds(300)
    assert decide(ask, ANALYZING, few, end - seconds(1)) == ANALYZING
    found = decide(ask, ANALYZING, few, end)
    assert found.state is S.ROLLING_BACK
    assert found.last_rollback is not None
    assert found.last_rollback.reason == "Inconclusive"
    assert found.last_rollback.message == "too little was seen in 300 s: 3 of 100 requests"
    assert decide(ask, analyzing(step_deadline_time=None), few, end).state is S.ANALYZING


def test_promote_full_waits_for_no_evidence() -> None:
    few = replace(THERE, judgement=Judgement(Verdict.UNDECIDED))
    found = decide(ASK, analyzing(forced=True), few, PASSED)
    assert (found.state, found.step) == (S.WARMING, 3)


@pytest.mark.parametrize("forced", [False, True])
def test_a_manual_pause_ends_a_step_that_nobody_has_forced(forced: bool) -> None:  # noqa: FBT001
    manual = (PLAN[0].model_copy(update={"pause": "Manual"}), *PLAN[1:])
    found = decide(ASK, analyzing(plan=manual, forced=forced), THERE, PASSED)
    expected = (S.WARMING, None) if forced else (S.PAUSED, "Step")
    assert (found.state, found.paused_reason) == expected


def test_a_freeze_holds_the_next_step() -> None:
    ask = ask_for(B, freeze=[{"cron": "0 12 1 1 *", "durationMinutes": 60}])
    found = decide(ask, ANALYZING, THERE, PASSED)
    assert (found.state, found.paused_reason) == (S.PAUSED, "Freeze")
    assert found.next_step_time == NOW + seconds(3600)
    assert decide(ask, found, THERE, NOW + seconds(3599)) == found
    assert decide(ask, found, THERE, NOW + seconds(3600)).state is S.ANALYZING


def test_the_last_step_ends_in_promotion() -> None:
    last = analyzing(
        step=3, weight=100, held=True, deadline_time=LIMIT, promoted=(A,), next_step_time=NOW
    )
    whole = World(primary=A, canary=B, canary_weight=100, ready={A: 2, B: 2}, replicas={A: 2})
    assert decide(ASK, last, whole, PASSED).paused_reason == "Command"
    found = decide(ASK, last.model_copy(update={"held": False}), whole, PASSED)
    cleared = {"candidate": None, "next_step_time": None, "held": False, "promoted": (A, B)}
    assert found == last.model_copy(
        update={
            "state": S.PROMOTING,
            "state_since": PASSED,
            "stable": B,
            "previous": A,
            "fallback": A,
            "deadline_time": None,
            "step_deadline_time": None,
            **cleared,
        }
    )


FULL_HOUSE = replace(THERE, unschedulable={B: "0/1 nodes"})
DOWN = replace(THERE, ready={B: 2})


@pytest.mark.parametrize(
    ("rollout", "waits", "goes_on"),
    [
        (paused("Capacity"), FULL_HOUSE, THERE),
        (paused("Failover"), DOWN, THERE),
        (paused("AnalysisError", analysis=Evidence(errors=1)), THERE, None),
        (paused("AnalysisError", analysis=Evidence()), None, THERE),
        (paused("AnalysisError"), None, THERE),
        (paused("Spec"), None, THERE),
        (paused("Command"), None, THERE),
        (paused("Command", held=True), THERE, None),
        (paused("Step"), THERE, None),
        (paused("Inconclusive"), THERE, None),
        (paused("NoTraffic"), THERE, None),
    ],
)
def test_a_pause_ends_with_what_it_waits_for(
    rollout: Rollout, waits: World | None, goes_on: World | None
) -> None:
    if waits is not None:
        assert decide(ASK, rollout, waits, NOW) == rollout
    if goes_on is not None:
        assert decide(ASK, rollout, goes_on, NOW).state is S.ANALYZING


def test_a_pause_goes_on_with_what_the_step_still_needs() -> None:
    later = NOW + seconds(30)
    found = decide(ASK, paused("Spec"), THERE, later)
    assert found.next_step_time == ANALYZING.next_step_time
    assert found.step_deadline_time == NOW + seconds(330), "the clock stood still"
    timeless = decide(ASK, paused("Spec", next_step_time=None), THERE, later)
    assert timeless.next_step_time == later
    found = decide(ASK, paused("Spec", weight=0), THERE, later)
    assert (found.state, found.deadline_time) == (S.WARMING, later + seconds(700))
