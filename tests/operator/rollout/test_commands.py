from datetime import timedelta

import pytest

from modelyard_operator.rollout.commands import apply_command
from modelyard_operator.rollout.state import (
    LastCommand,
    PlannedStep,
    Rollout,
    RolloutState,
    World,
)
from testkit.operator_objects import NOW
from testkit.operator_rollout import ask_for

PLAN = (
    PlannedStep(weight=20, bake_seconds=60),
    PlannedStep(weight=100, bake_seconds=0, pause="Manual"),
)
ANALYZING = Rollout(
    state=RolloutState.ANALYZING,
    stable="fraud-a",
    candidate="fraud-b",
    plan=PLAN,
    step=1,
    weight=20,
    next_step_time=NOW + timedelta(seconds=60),
)
ASK = ask_for("fraud-b")
WORLD = World(primary="fraud-a", canary="fraud-b", canary_weight=20)
FULL = World(primary="fraud-a", canary="fraud-b", canary_weight=100)


def having(**changes: object) -> Rollout:
    return ANALYZING.model_copy(update=changes)


def after(rollout: Rollout, command: str, world: World = WORLD) -> tuple[Rollout, str]:
    changed = apply_command(rollout, command, ask=ASK, world=world, now=NOW)
    assert changed.last_command is not None
    return changed, changed.last_command.result


LAST = having(
    state=RolloutState.PAUSED, step=2, weight=100, paused_reason="Step", next_step_time=None
)


@pytest.mark.parametrize("annotation", [None, ""])
def test_without_a_command_nothing_happens(annotation: str | None) -> None:
    assert apply_command(ANALYZING, annotation, ask=ASK, world=WORLD, now=NOW) is ANALYZING


def test_promote_leaves_the_step_at_once() -> None:
    changed, result = after(ANALYZING, " promote@fraud-b#1 ")
    assert (changed.state, changed.step, result) == (RolloutState.WARMING, 2, "Accepted")


def test_promote_lifts_a_hold() -> None:
    held = having(state=RolloutState.PAUSED, paused_reason="Command", held=True)
    changed, result = after(held, "promote@fraud-b#1")
    assert (changed.state, changed.held, result) == (RolloutState.WARMING, False, "Accepted")


@pytest.mark.parametrize("verb", ["promote", "resume"])
def test_the_last_step_is_left_into_promotion(verb: str) -> None:
    changed, result = after(LAST, f"{verb}@fraud-b#1", FULL)
    assert (changed.state, changed.stable, changed.previous) == (
        RolloutState.PROMOTING,
        "fraud-b",
        "fraud-a",
    )
    assert result == "Accepted"


@pytest.mark.parametrize("verb", ["promote", "resume"])
def test_a_candidate_that_lost_its_traffic_is_not_promoted(verb: str) -> None:
    changed, result = after(LAST, f"{verb}@fraud-b#1", World(primary="fraud-a"))
    assert (changed.state, changed.stable) == (RolloutState.PAUSED, "fraud-a")
    assert result == "Ignored: the routes do not give 100 % to the candidate now"


@pytest.mark.parametrize(
    ("state", "weight"),
    [(RolloutState.WARMING, 20), (RolloutState.SHIFTING, 20), (RolloutState.PAUSED, 0)],
)
def test_promote_skips_no_readiness(state: RolloutState, weight: int) -> None:
    changed, result = after(having(state=state, weight=weight), "promote@fraud-b#1")
    assert changed.state is state
    assert result == f"Ignored: nothing to skip while {state}"


@pytest.mark.parametrize("verb", ["promote", "resume"])
def test_a_pause_in_the_spec_is_stronger(verb: str) -> None:
    paused = having(state=RolloutState.PAUSED, paused_reason="Spec")
    changed, result = after(paused, f"{verb}@fraud-b#1")
    assert changed.state is RolloutState.PAUSED
    assert result == "Refused: spec.rollout.paused is true"


def test_pause_holds_and_resume_releases() -> None:
    held, result = after(ANALYZING, "pause@fraud-b#1")
    assert (held.held, held.state, result) == (True, RolloutState.ANALYZING, "Accepted")
    released, result = after(held, "resume@fraud-b#2")
    assert (released.held, result) == (False, "Accepted")
    _, result = after(released, "resume@fraud-b#3")
    assert result == "Ignored: the rollout is not paused"


@pytest.mark.parametrize(
    ("rollout", "command", "result"),
    [
        (ANALYZING, "promote@fraud-c#1", "Ignored: fraud-b is under way"),
        (having(state=RolloutState.IDLE), "promote@fraud-b#1", "Ignored: no rollout is under way"),
        (having(state=RolloutState.ROLLING_BACK), "pause@fraud-b#1", "Ignored: no rollout is"),
        (
            ANALYZING,
            "explode@fraud-b#1",
            "Refused: expected one of promote, promote-full, pause, resume, abort",
        ),
        (ANALYZING, "promote", "Refused: expected verb@revision#id"),
        (ANALYZING, "promote@fraud-b#", "Refused: expected verb@revision#id"),
        (ANALYZING, "promote@Fraud#1", "Refused: expected verb@revision#id"),
        (ANALYZING, "x" * 500, "Refused: expected verb@revision#id"),
    ],
)
def test_what_is_meant_for_another_rollout_is_recorded_and_not_done(
    rollout: Rollout, command: str, result: str
) -> None:
    changed, said = after(rollout, command)
    assert said.startswith(result)
    assert changed.model_copy(update={"last_command": None}) == rollout
    assert (
        apply_command(changed, command, ask=ASK, world=WORLD, now=NOW + timedelta(hours=1))
        == changed
    )
    assert len(changed.to_status()["lastCommand"]["id"]) <= 64


def test_a_replayed_id_has_no_effect() -> None:
    changed, _ = after(ANALYZING, "promote@fraud-b#1")
    baking_again = changed.model_copy(update={"state": RolloutState.ANALYZING, "weight": 100})
    assert (
        apply_command(baking_again, "promote@fraud-b#1", ask=ASK, world=FULL, now=NOW)
        is baking_again
    )
    assert (
        apply_command(baking_again, "pause@fraud-b#1", ask=ASK, world=FULL, now=NOW) is baking_again
    )


def test_what_became_of_a_command_is_recorded_whole() -> None:
    later = NOW + timedelta(microseconds=5)
    changed = apply_command(ANALYZING, "pause@fraud-b#1", ask=ASK, world=WORLD, now=later)
    expected = LastCommand(id="1", verb="pause", revision="fraud-b", result="Accepted", time=NOW)
    assert changed == having(held=True, last_command=expected)
    unread = apply_command(ANALYZING, "y" * 65, ask=ASK, world=WORLD, now=later).last_command
    said = "Refused: expected verb@revision#id"
    assert unread == LastCommand(id="y" * 64, verb="", revision="", result=said, time=NOW)


def test_promote_ends_a_comparison_of_copies() -> None:
    for compared in (
        having(state=RolloutState.SHADOWING, weight=0),
        having(state=RolloutState.PAUSED, paused_reason="Inconclusive", weight=0),
        having(state=RolloutState.PAUSED, paused_reason="NoTraffic", weight=0),
    ):
        timed = compared.model_copy(update={"held": True, "step_deadline_time": NOW})
        changed, result = after(timed, "promote@fraud-b#1")
        assert (changed.state, changed.weight, changed.state_since) == (
            RolloutState.SHIFTING,
            20,
            NOW,
        )
        assert (changed.held, changed.step_deadline_time, result) == (False, None, "Accepted")


@pytest.mark.parametrize(
    ("changes", "state", "next_step"),
    [
        ({"step": 1, "state": RolloutState.ANALYZING}, RolloutState.WARMING, None),
        ({"step": 1, "state": RolloutState.PREPARING}, RolloutState.PREPARING, 60),
        ({"step": 1, "state": RolloutState.WAITING_CAPACITY}, RolloutState.WAITING_CAPACITY, 60),
        ({"step": 2, "state": RolloutState.WARMING}, RolloutState.WARMING, 60),
        ({"step": 2, "state": RolloutState.ANALYZING, "weight": 100}, RolloutState.ANALYZING, 5),
        ({"step": 2, "state": RolloutState.PAUSED, "weight": 100}, RolloutState.ANALYZING, 5),
    ],
)
def test_promote_full_takes_the_last_step_next(
    changes: dict[str, object], state: RolloutState, next_step: int | None
) -> None:
    changed, result = after(having(**changes, held=True), "promote-full@fraud-b#1")
    assert (changed.state, changed.step, result) == (state, 2, "Accepted")
    assert (changed.forced, changed.held) == (True, False)
    expected = NOW + timedelta(seconds=next_step) if next_step else None
    assert changed.next_step_time == expected


@pytest.mark.parametrize("reason", ["Inconclusive", "NoTraffic", "AnalysisError", "Capacity"])
def test_resume_gives_a_step_all_of_its_time_again(reason: str) -> None:
    deadline = NOW + timedelta(seconds=ASK.spec.progress_deadline_seconds)
    stopped = having(
        state=RolloutState.PAUSED, paused_reason=reason, held=True, step_deadline_time=NOW
    )
    changed, result = after(stopped, "resume@fraud-b#1")
    cleared = {"paused_reason": None, "next_step_time": None, "step_deadline_time": None}
    goes_on = having(
        state=RolloutState.SHIFTING, state_since=NOW, deadline_time=deadline, **cleared
    )
    assert changed.model_copy(update={"last_command": None}) == goes_on
    assert result == "Accepted"
    before, _ = after(stopped.model_copy(update={"weight": 0}), "resume@fraud-b#1")
    assert (before.state, before.deadline_time, before.held) == (
        RolloutState.WARMING,
        deadline,
        False,
    )


FRESH = Rollout(state=RolloutState.PROBATION, stable="fraud-b", previous="fraud-a")


@pytest.mark.parametrize("rollout", [ANALYZING, FRESH], ids=lambda one: one.state)
def test_abort_rejects_the_candidate_or_what_was_just_promoted(rollout: Rollout) -> None:
    changed, result = after(rollout, "abort@fraud-b#1")
    assert (changed.state, changed.rejected, result) == (
        RolloutState.ROLLING_BACK,
        ("fraud-b",),
        "Accepted",
    )
    why = changed.last_rollback
    assert why is not None
    assert (why.reason, why.message) == ("Aborted", f"aborted by command while {rollout.state}")
    assert (why.time, changed.state_since) == (NOW, NOW)


def test_abort_without_a_way_back_or_a_rollout_is_ignored() -> None:
    first = FRESH.model_copy(update={"previous": None})
    _, result = after(first, "abort@fraud-b#1")
    assert result == "Ignored: there is no previous revision to return to"
    _, result = after(FRESH, "abort@fraud-a#1")
    assert result == "Ignored: no rollout is under way"
    _, result = after(FRESH.model_copy(update={"state": RolloutState.IDLE}), "abort@fraud-b#1")
    assert result == "Ignored: no rollout is under way"


REJECTING = Rollout(
    state=RolloutState.ROLLED_BACK, stable="fraud-a", rejected=("fraud-c", "fraud-b")
)


def test_retry_forgets_a_rejection() -> None:
    changed, result = after(REJECTING, "retry@fraud-b#1")
    assert (changed.rejected, changed.state, result) == (
        ("fraud-c",),
        RolloutState.ROLLED_BACK,
        "Accepted",
    )
    _, result = after(REJECTING, "retry@fraud-d#1")
    assert result == "Ignored: fraud-d was not rejected"
    back = REJECTING.model_copy(update={"state": RolloutState.ROLLING_BACK})
    unchanged, result = after(back, "retry@fraud-b#1")
    assert (unchanged.rejected, result) == (
        back.rejected,
        "Ignored: the rollback is still under way",
    )


def test_retry_gives_a_first_revision_its_time_again() -> None:
    late = Rollout(state=RolloutState.UNAVAILABLE, candidate="fraud-b")
    changed, result = after(late, "retry@fraud-b#1")
    assert changed.model_copy(update={"last_command": None}) == Rollout(state_since=NOW)
    assert result == "Accepted"
    _, result = after(late, "retry@fraud-a#1")
    assert result == "Ignored: fraud-a was not rejected"
    waiting = late.model_copy(update={"state": RolloutState.INITIALIZING})
    _, result = after(waiting, "retry@fraud-b#1")
    assert result == "Ignored: fraud-b was not rejected"


KNOWN = World(primary="fraud-b", history=("fraud-b", "fraud-a"))


def test_rollback_to_rejects_what_the_spec_asks_for() -> None:
    served = Rollout(
        state=RolloutState.IDLE, stable="fraud-b", rejected=("fraud-a", "fraud-c"), pinned="fraud-c"
    )
    changed, result = after(served, "rollback-to@fraud-a#1", KNOWN)
    assert (changed.rejected, changed.pinned, result) == (
        ("fraud-c", "fraud-b"),
        "fraud-a",
        "Accepted",
    )
    why = changed.last_rollback
    assert why is not None
    assert (why.revision, why.reason, why.time) == ("fraud-b", "RolledBackTo", NOW)
    assert why.message == "a command asked for fraud-a"


@pytest.mark.parametrize(
    ("revision", "stable", "result"),
    [
        ("fraud-x", "fraud-b", "Refused: there is no record of fraud-x"),
        ("fraud-b", "fraud-b", "Ignored: fraud-b is what the spec asks for"),
        ("fraud-a", None, "Ignored: nothing has served yet"),
    ],
)
def test_rollback_to_needs_a_revision_to_return_to(
    revision: str, stable: str | None, result: str
) -> None:
    served = Rollout(state=RolloutState.IDLE, stable=stable)
    changed, said = after(served, f"rollback-to@{revision}#1", KNOWN)
    assert said == result
    assert changed.model_copy(update={"last_command": None}) == served


@pytest.mark.parametrize("verb", ["promote", "promote-full", "pause", "resume", "abort"])
def test_no_command_is_for_a_rollout_that_is_not_under_way(verb: str) -> None:
    changed, result = after(ANALYZING, f"{verb}@fraud-c#1")
    assert result == "Ignored: fraud-b is under way"
    assert changed.model_copy(update={"last_command": None}) == ANALYZING


def test_a_pause_in_the_spec_is_stronger_than_promote_full() -> None:
    paused = having(state=RolloutState.PAUSED, paused_reason="Spec")
    changed, result = after(paused, "promote-full@fraud-b#1")
    assert (changed.forced, result) == (False, "Refused: spec.rollout.paused is true")
