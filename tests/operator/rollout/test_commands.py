from datetime import timedelta

import pytest

from modelyard_operator.rollout.commands import apply_command
from modelyard_operator.rollout.state import PlannedStep, Rollout, RolloutState, World
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
