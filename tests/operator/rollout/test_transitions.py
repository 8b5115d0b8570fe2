"""What is cleared, kept and remembered as one state follows another."""

from datetime import timedelta
from typing import Any

import pytest

from modelyard_operator.rollout.state import (
    LastCommand,
    LastRollback,
    PlannedStep,
    Rollout,
    RolloutState,
)
from modelyard_operator.rollout.transitions import (
    at_rest,
    moved,
    progress_deadline,
    rejected,
    resting_state,
    rolled_back,
    settling,
    wanted,
    with_promoted,
)
from testkit.operator_objects import NOW
from testkit.operator_rollout import ask_for, seconds

A, B, C = "fraud-a", "fraud-b", "fraud-c"
S = RolloutState
FRACTION = timedelta(microseconds=5)
LIMITS = {"deadline_time": NOW + seconds(100), "step_deadline_time": NOW + seconds(50)}
ROLLOUT = Rollout(
    state=S.ANALYZING,
    stable=A,
    candidate=B,
    state_since=NOW,
    next_step_time=NOW,
    paused_reason="Step",
    **LIMITS,
)


def having(**changes: Any) -> Rollout:
    return ROLLOUT.model_copy(update=changes)


def test_what_belongs_to_a_state_goes_with_it() -> None:
    found = moved(ROLLOUT, S.SHIFTING, NOW + seconds(9), weight=5)
    fresh = {"state": S.SHIFTING, "state_since": NOW + seconds(9), "weight": 5}
    assert found == having(**fresh, next_step_time=None, paused_reason=None)


def test_times_are_kept_to_the_second_as_status_holds_them() -> None:
    found = moved(ROLLOUT, S.SHIFTING, NOW + FRACTION, next_step_time=NOW + FRACTION)
    assert (found.state_since, found.next_step_time) == (NOW, NOW)


@pytest.mark.parametrize("state", [S.PAUSED, S.WAITING_CAPACITY])
def test_deadlines_do_not_run_while_somebody_else_is_waited_for(state: RolloutState) -> None:
    found = moved(having(state=state), S.WARMING, NOW + seconds(30) + FRACTION)
    assert found.deadline_time == NOW + seconds(130)
    assert found.step_deadline_time == NOW + seconds(80)
    given = moved(having(state=state), S.WARMING, NOW + seconds(30), step_deadline_time=None)
    assert (given.deadline_time, given.step_deadline_time) == (NOW + seconds(130), None)
    without = having(state=state, deadline_time=None)
    assert moved(without, S.WARMING, NOW + seconds(30)).deadline_time is None
    unknown = having(state=state, state_since=None)
    assert moved(unknown, S.WARMING, NOW + seconds(30)).deadline_time == NOW + seconds(100)


def test_a_rollout_at_rest_keeps_what_outlives_it() -> None:
    kept: dict[str, Any] = {
        "stable": A,
        "pinned": A,
        "fallback": C,
        "promoted": (A, C),
        "rejected": (B,),
        "last_rollback": LastRollback(revision=B, reason="X", message="", time=NOW),
        "last_command": LastCommand(id="1", verb="abort", revision=B, result="", time=NOW),
    }
    plan = (PlannedStep(weight=5, bake_seconds=0),)
    under_way = having(plan=plan, step=1, weight=5, held=True, given_up=1, previous=C, **kept)
    assert at_rest(under_way, S.IDLE, NOW + FRACTION) == Rollout(
        state=S.IDLE, state_since=NOW, **kept
    )


def test_a_rejected_revision_is_remembered_with_the_reason() -> None:
    before = having(rejected=(B, C), promoted=(A, B), pinned=B)
    found = rejected(before, B, "Aborted", "by command", NOW + FRACTION)
    why = LastRollback(revision=B, reason="Aborted", message="by command", time=NOW)
    assert found == having(rejected=(C, B), promoted=(A,), pinned=None, last_rollback=why)
    assert rejected(having(pinned=A), B, "Aborted", "", NOW).pinned == A


def test_ten_revisions_are_remembered() -> None:
    many = tuple(f"fraud-{number}" for number in range(10))
    assert rejected(having(rejected=many), B, "", "", NOW).rejected == (*many[1:], B)
    assert with_promoted(having(promoted=many), B) == (*many[1:], B)
    assert with_promoted(having(promoted=many), many[3]) == (*many[:3], *many[4:], many[3])


def test_a_rollback_takes_the_weight_and_what_commands_have_asked_for() -> None:
    found = rolled_back(having(weight=50, held=True, forced=True), "Aborted", "by command", NOW)
    assert (found.state, found.weight, found.held, found.forced) == (
        S.ROLLING_BACK,
        0,
        False,
        False,
    )
    assert found.rejected == (B,)
    assert found.last_rollback is not None
    assert (found.last_rollback.revision, found.last_rollback.message) == (B, "by command")


@pytest.mark.parametrize(
    ("rollout", "revision", "rests_in"),
    [
        (Rollout(stable=A), B, S.IDLE),
        (Rollout(stable=A, rejected=(B,)), A, S.ROLLED_BACK),
        (Rollout(stable=A, rejected=(B,), pinned=C), C, S.ROLLED_BACK),
        (Rollout(stable=B, rejected=(B,)), B, S.IDLE),
        (Rollout(rejected=(B,)), B, S.ROLLED_BACK),
        (Rollout(stable=A, rejected=(C,), pinned=C), B, S.IDLE),
    ],
)
def test_the_spec_s_revision_is_wanted_unless_it_was_rejected(
    rollout: Rollout, revision: str, rests_in: RolloutState
) -> None:
    assert wanted(ask_for(B), rollout) == revision
    assert resting_state(ask_for(B), rollout) is rests_in


def test_proxies_have_five_seconds_to_follow_a_route() -> None:
    begun = settling(having(next_step_time=None), NOW + FRACTION)
    assert begun == having(next_step_time=NOW + seconds(5))
    assert settling(begun, NOW + seconds(4)) == begun
    assert settling(begun, NOW + seconds(5)) is None


def test_a_state_that_lasts_longer_than_asked_for_makes_no_progress() -> None:
    ask = ask_for(B, progressDeadlineSeconds=700)
    assert progress_deadline(ask, NOW) == NOW + seconds(700)
