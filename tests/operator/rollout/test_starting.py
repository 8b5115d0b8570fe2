"""The first revision, rest, and how a rollout begins."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from modelyard_operator.rollout.judgement import Judgement, Verdict
from modelyard_operator.rollout.machine import decide
from modelyard_operator.rollout.starting import plan_steps, recover
from modelyard_operator.rollout.state import PlannedStep, Rollout, RolloutState, World
from modelyard_operator.spec import RolloutSpec
from testkit.operator_objects import NOW
from testkit.operator_rollout import ask_for, seconds

A, B, C = "fraud-a", "fraud-b", "fraud-c"
S = RolloutState
FRACTION = timedelta(microseconds=5)
FROZEN: dict[str, Any] = {"freeze": [{"cron": "0 12 1 1 *", "durationMinutes": 60}]}
IDLE = Rollout(state=S.IDLE, stable=A, state_since=NOW, promoted=(A,))
SERVES = World(primary=A, replicas={A: 3}, ready={A: 3})


def at_rest(**changes: Any) -> Rollout:
    return IDLE.model_copy(update=changes)


def test_the_first_revision_serves_once_a_pod_is_ready() -> None:
    ask = ask_for(A, progressDeadlineSeconds=700)
    first = decide(ask, Rollout(), World(), NOW)
    assert first == Rollout(candidate=A, state_since=NOW, deadline_time=NOW + seconds(700))
    assert decide(ask, first, World(ready={A: 0}), NOW) == first
    serving = decide(ask, first, World(ready={A: 1}), NOW + seconds(9))
    assert serving == at_rest(state_since=NOW + seconds(9))


def test_without_replicas_nothing_is_waited_for() -> None:
    first = Rollout(candidate=A, state_since=NOW)
    assert decide(ask_for(A, replicas=0), first, World(), NOW) == IDLE


def test_a_first_revision_that_is_late_is_unavailable_until_it_is_there() -> None:
    ask = ask_for(A, progressDeadlineSeconds=700)
    first = Rollout(candidate=A, state_since=NOW, deadline_time=NOW + seconds(700))
    late = NOW + seconds(700)
    assert decide(ask, first, World(), late - seconds(1)) == first
    unavailable = decide(ask, first, World(), late)
    assert unavailable == Rollout(state=S.UNAVAILABLE, candidate=A, state_since=late)
    assert decide(ask, unavailable, World(), late + seconds(9)) == unavailable
    assert decide(ask, unavailable, World(ready={A: 1}), late) == at_rest(state_since=late)
    again = decide(ask_for(B), unavailable, World(), late)
    assert (again.state, again.candidate) == (S.INITIALIZING, B)
    never = unavailable.model_copy(update={"deadline_time": NOW})
    assert decide(ask, never, World(), late) == never


@pytest.mark.parametrize("candidate", [A, B])
def test_an_edit_of_a_first_revision_that_answers_already_is_an_edit_of_it(candidate: str) -> None:
    """An operator may have died between the two; its callers inside the cluster know no better."""
    first = Rollout(candidate=candidate, state_since=NOW)
    answers = World(selected=A, ready={A: 1, B: 1})
    serving = decide(ask_for(B), first, answers, NOW)
    assert (serving.state, serving.stable, serving.candidate) == (S.IDLE, A, None)
    assert decide(ask_for(B, replicas=0), first, answers, NOW).stable != A
    waits = decide(ask_for(B), first, World(selected=A, ready={A: 0}), NOW)
    assert (waits.state, waits.stable) == (S.INITIALIZING, None)


def test_an_edit_begins_a_rollout_that_is_written_down_whole() -> None:
    ask = ask_for(B, replicas=2, progressDeadlineSeconds=700)
    found = decide(ask, IDLE, SERVES, NOW + FRACTION)
    assert found == Rollout(
        state=S.PREPARING,
        id=f"{B}-{NOW.timestamp():.0f}",
        stable=A,
        candidate=B,
        step=1,
        plan=tuple(
            PlannedStep(weight=w, bake_seconds=b) for w, b in ((10, 20), (50, 20), (100, 0))
        ),
        state_since=NOW,
        started_at=NOW,
        deadline_time=NOW + seconds(700),
        initial_replicas=3,
        promoted=(A,),
    )


@pytest.mark.parametrize(
    ("replicas", "world", "initial"),
    [(4, SERVES, 4), (2, SERVES, 3), (0, replace(SERVES, replicas={}), None), (1, World(), 1)],
)
def test_the_candidate_must_replace_as_many_pods_as_there_are(
    replicas: int, world: World, initial: int | None
) -> None:
    assert decide(ask_for(B, replicas=replicas), IDLE, world, NOW).initial_replicas == initial


@pytest.mark.parametrize(("strategy", "given_up"), [("Recreate", 3), ("BlueGreen", 0)])
def test_only_recreate_gives_up_all_pods_at_once(strategy: str, given_up: int) -> None:
    found = decide(ask_for(B, strategy=strategy), IDLE, SERVES, NOW)
    assert (found.given_up, [step.weight for step in found.plan]) == (given_up, [100])


@pytest.mark.parametrize(
    ("rollout", "world", "steps"),
    [
        (IDLE, SERVES, 3),
        (IDLE, replace(SERVES, splits=False), 1),
        (IDLE, replace(SERVES, ready={}), 1),
        (IDLE, replace(SERVES, ready={B: 1}), 1),
        (at_rest(promoted=(A, B)), SERVES, 1),
    ],
    ids=["steps", "no proxy divides", "stable is down", "B is not stable", "it passed them before"],
)
def test_steps_are_for_what_is_new_while_something_serves(
    rollout: Rollout, world: World, steps: int
) -> None:
    assert len(decide(ask_for(B), rollout, world, NOW).plan) == steps


def test_a_step_waits_for_evidence_as_long_as_it_says() -> None:
    steps = [{"weight": 5, "maxSeconds": 9, "pause": "Manual"}, {"weight": 100}]
    spec = RolloutSpec.model_validate({"steps": steps, "maxStepSeconds": 77, "bakeSeconds": 8})
    assert plan_steps(spec, splits=True) == (
        PlannedStep(weight=5, bake_seconds=8, max_seconds=9, pause="Manual"),
        PlannedStep(weight=100, bake_seconds=0, max_seconds=77),
    )
    assert len(plan_steps(spec, splits=True, skips=True)) == 1


def test_what_is_wanted_stays_as_it_is() -> None:
    assert decide(ask_for(A), IDLE, SERVES, NOW + seconds(9)) is IDLE
    assert decide(ask_for(A), at_rest(paused_reason="Freeze"), SERVES, NOW) == IDLE
    rejecting = at_rest(state=S.ROLLED_BACK, rejected=(B,))
    assert decide(ask_for(B), rejecting, SERVES, NOW) is rejecting
    later = NOW + seconds(9)
    assert decide(ask_for(A), rejecting, SERVES, later) == at_rest(rejected=(B,), state_since=later)


def test_a_freeze_holds_a_rollout_before_it_begins() -> None:
    held = at_rest(paused_reason="Freeze", next_step_time=NOW + seconds(3600))
    frozen = ask_for(B, **FROZEN)
    assert decide(frozen, IDLE, SERVES, NOW) == held
    assert decide(frozen, held, SERVES, NOW + seconds(9)) is held
    other = held.model_copy(update={"next_step_time": NOW + seconds(60)})
    assert decide(frozen, other, SERVES, NOW) == held
    unsaid = held.model_copy(update={"paused_reason": None})
    assert decide(frozen, unsaid, SERVES, NOW) == held
    assert decide(frozen, held, SERVES, NOW + seconds(3600)).state is S.PREPARING
    pinned = at_rest(state=S.ROLLED_BACK, rejected=(B,), pinned=C)
    assert decide(frozen, pinned, SERVES, NOW).state is S.ROLLED_BACK


def test_at_zero_replicas_an_edit_takes_effect_at_once() -> None:
    found = decide(ask_for(B, replicas=0, **FROZEN), IDLE, World(), NOW)
    assert found == at_rest(stable=B, promoted=(A, B))


def test_a_revision_that_serves_instead_of_a_rejected_one_stays_pinned() -> None:
    rejecting = at_rest(state=S.ROLLED_BACK, rejected=(B,), pinned=C)
    found = decide(ask_for(B), rejecting, SERVES, NOW)
    assert (found.candidate, found.pinned) == (C, C)
    edited = decide(ask_for("fraud-d"), rejecting, SERVES, NOW)
    assert (edited.candidate, edited.pinned) == ("fraud-d", None)


BREAKS = Judgement(Verdict.FAIL, "ErrorsRose", "40 of 200")
FELL = at_rest(stable=B, fallback=A, promoted=(A, B))
ON_RECORD = World(primary=B, replicas={B: 2}, ready={B: 2}, history=(B, A), judgement=BREAKS)


def test_a_stable_revision_that_breaks_its_slo_is_left_for_the_one_before() -> None:
    found = decide(ask_for(B, onSLOViolation="Rollback"), FELL, ON_RECORD, NOW)
    assert (found.state, found.candidate, found.pinned) == (S.PREPARING, A, A)
    assert (found.rejected, found.promoted) == ((B,), (A,))
    assert [step.weight for step in found.plan] == [100], "it has passed its steps before"
    why = found.last_rollback
    assert why is not None
    assert (why.revision, why.reason, why.message, why.time) == (B, "ErrorsRose", "40 of 200", NOW)
    unsaid = replace(ON_RECORD, judgement=Judgement(Verdict.FAIL))
    why = decide(ask_for(B, onSLOViolation="Rollback"), FELL, unsaid, NOW).last_rollback
    assert why is not None
    assert why.reason == "SLOViolated"


@pytest.mark.parametrize(
    ("policy", "rollout", "world"),
    [
        ("Ignore", FELL, ON_RECORD),
        ("Rollback", FELL, replace(ON_RECORD, judgement=None)),
        ("Rollback", FELL, replace(ON_RECORD, judgement=Judgement(Verdict.INCONCLUSIVE))),
        ("Rollback", FELL, replace(ON_RECORD, history=(B,))),
        ("Rollback", FELL.model_copy(update={"fallback": None}), ON_RECORD),
        ("Rollback", FELL.model_copy(update={"rejected": (A,)}), ON_RECORD),
    ],
    ids=["not asked for", "not judged", "not broken", "not on record", "none", "rejected"],
)
def test_it_stays_without_evidence_or_without_a_way_back(
    policy: str, rollout: Rollout, world: World
) -> None:
    assert decide(ask_for(B, onSLOViolation=policy), rollout, world, NOW) is rollout


def test_what_is_rebuilt_from_the_routes_is_written_down_whole() -> None:
    half = World(primary=A, canary=B, canary_weight=50, replicas={A: 4, B: 2}, ready={A: 4, B: 2})
    ask = ask_for(B, replicas=2, progressDeadlineSeconds=700)
    assert recover(ask, half, NOW + FRACTION) == Rollout(
        state=S.SHIFTING,
        stable=A,
        candidate=B,
        step=2,
        weight=50,
        plan=plan_steps(ask.spec, splits=True),
        state_since=NOW,
        started_at=NOW,
        deadline_time=NOW + seconds(700),
        initial_replicas=4,
    )
    down = replace(half, ready={B: 2})
    assert len(recover(ask, down, NOW).plan) == 3, "the share that it has is a step of the plan"
    assert recover(ask, replace(half, canary_weight=100), NOW).step == 3


@pytest.mark.parametrize(("weight", "given_up"), [(0, 4), (1, 0), (99, 0), (100, 4)])
def test_rebuilt_it_keeps_a_stable_that_serves_a_share(weight: int, given_up: int) -> None:
    both = {A: 4, B: 2}
    world = World(primary=A, canary=B, canary_weight=weight, replicas=both, ready=both)
    ask = ask_for(B, replicas=2, strategy="Recreate")
    assert recover(ask, world, NOW).given_up == given_up


def test_a_promotion_is_rebuilt_with_the_revision_that_was_stable() -> None:
    both = World(primary=B, canary=B, canary_weight=100, replicas={C: 1, A: 2, B: 2})
    expected = Rollout(state=S.PROMOTING, stable=B, previous=A, weight=100, state_since=NOW)
    assert recover(ask_for(B), both, NOW) == expected
    assert recover(ask_for(B), World(primary=A), NOW + FRACTION) == Rollout(
        state=S.IDLE, stable=A, state_since=NOW
    )
    assert recover(ask_for(B), World(), NOW + FRACTION) == Rollout(state_since=NOW)
