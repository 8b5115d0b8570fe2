"""Promotion, probation, the way back and suspension, one pass at a time."""

from dataclasses import replace
from typing import Any

import pytest

from modelyard_operator.rollout.judgement import Judgement, Verdict
from modelyard_operator.rollout.machine import decide
from modelyard_operator.rollout.state import PlannedStep, Rollout, RolloutState, World
from testkit.operator_objects import NOW
from testkit.operator_rollout import ask_for, seconds

A, B, C = "fraud-a", "fraud-b", "fraud-c"
S = RolloutState
FROZEN: dict[str, Any] = {"freeze": [{"cron": "0 12 1 1 *", "durationMinutes": 60}]}
PROMOTING = Rollout(
    state=S.PROMOTING,
    stable=B,
    previous=A,
    fallback=A,
    weight=100,
    state_since=NOW,
    promoted=(A, B),
)
BOTH = World(primary=B, canary=B, canary_weight=100, replicas={A: 2, B: 2}, ready={A: 2, B: 2})
ALONE = replace(BOTH, canary=None, canary_weight=0)
ASK = ask_for(B, probationSeconds=600)
LATER = NOW + seconds(5)
PROBATION = PROMOTING.model_copy(
    update={"state": S.PROBATION, "weight": 0, "next_step_time": NOW + seconds(600)}
)
RETURNING = Rollout(state=S.ROLLING_BACK, stable=A, candidate=B, rejected=(B,), state_since=NOW)
HOME = World(primary=A, replicas={A: 2, B: 2}, ready={A: 2, B: 2})


def test_a_promotion_goes_on_when_the_proxies_have_followed() -> None:
    assert decide(ASK, PROMOTING, replace(BOTH, primary=A), NOW) == PROMOTING
    settling = decide(ASK, PROMOTING, BOTH, NOW)
    assert settling == PROMOTING.model_copy(update={"next_step_time": LATER})
    moved = decide(ASK, settling, BOTH, LATER)
    assert moved == PROMOTING.model_copy(update={"weight": 0})
    assert decide(ASK, moved, BOTH, LATER) == moved, "the canary route is still there"
    assert decide(ASK, moved, replace(ALONE, followed=False), LATER) == moved
    settling = decide(ASK, moved, ALONE, LATER)
    assert settling == moved.model_copy(update={"next_step_time": LATER + seconds(5)})
    done = decide(ASK, settling, ALONE, LATER + seconds(5))
    assert (done.state, done.next_step_time) == (S.PROBATION, LATER + seconds(605))


def test_without_a_previous_revision_there_is_no_probation() -> None:
    settled = PROMOTING.model_copy(update={"weight": 0, "next_step_time": NOW, "previous": None})
    done = decide(ASK, settled, ALONE, NOW)
    assert (done.state, done.next_step_time) == (S.PROBATION, NOW)
    failing = replace(ALONE, judgement=Judgement(Verdict.FAIL))
    assert decide(ASK, done, failing, NOW).state is S.IDLE


def test_a_probation_ends_with_its_time() -> None:
    end = NOW + seconds(600)
    assert decide(ASK, PROBATION, ALONE, end - seconds(1)) == PROBATION
    rest = Rollout(state=S.IDLE, stable=B, fallback=A, promoted=(A, B), state_since=end)
    assert decide(ASK, PROBATION, ALONE, end) == rest
    timeless = PROBATION.model_copy(update={"next_step_time": None})
    assert decide(ASK, timeless, ALONE, end) == rest


@pytest.mark.parametrize(
    ("seen", "grounds"),
    [
        ({"judgement": Judgement(Verdict.FAIL, "ErrorsRose", "4 of 9")}, ("ErrorsRose", "4 of 9")),
        ({"judgement": Judgement(Verdict.FAIL)}, ("SLOViolated", "")),
        ({"broken": {B: Judgement(Verdict.FAIL, "OOMKilled", "137")}}, ("OOMKilled", "137")),
    ],
)
def test_evidence_in_probation_leads_back(seen: dict[str, Any], grounds: tuple[str, str]) -> None:
    found = decide(ASK, PROBATION, replace(ALONE, **seen), NOW)
    assert (found.state, found.stable, found.previous, found.weight) == (S.ROLLING_BACK, B, A, 0)
    assert found.rejected == (B,)
    why = found.last_rollback
    assert why is not None
    assert (why.revision, why.reason, why.message, why.time) == (B, *grounds, NOW)


@pytest.mark.parametrize(
    "seen",
    [
        {"judgement": Judgement(Verdict.UNDECIDED)},
        {"judgement": Judgement(Verdict.INCONCLUSIVE)},
        {"broken": {A: Judgement(Verdict.FAIL)}},
    ],
)
def test_no_evidence_against_stable_is_none(seen: dict[str, Any]) -> None:
    assert decide(ASK, PROBATION, replace(ALONE, **seen), NOW) == PROBATION


def test_another_edit_ends_a_probation() -> None:
    back = decide(replace(ASK, target=A), PROBATION, ALONE, NOW)
    expected = {"state": S.ROLLING_BACK, "next_step_time": None}
    assert back == PROBATION.model_copy(update=expected)
    on = decide(replace(ASK, target=C), PROBATION, ALONE, NOW)
    assert (on.state, on.stable, on.candidate, on.previous) == (S.PREPARING, B, C, None)


def test_a_rollback_brings_traffic_home_and_lets_the_proxies_follow() -> None:
    changes: list[dict[str, Any]] = [{"canary": B}, {"primary": B}, {"followed": False}]
    for away in (replace(HOME, **change) for change in changes):
        assert decide(ask_for(B), RETURNING, away, NOW) == RETURNING
    settling = decide(ask_for(B), RETURNING, HOME, NOW)
    assert settling == RETURNING.model_copy(update={"next_step_time": LATER})
    assert decide(ask_for(B), settling, HOME, NOW + seconds(4)) == settling
    rest = decide(ask_for(B), settling, HOME, LATER)
    assert rest == Rollout(state=S.ROLLED_BACK, stable=A, rejected=(B,), state_since=LATER)
    unrouted = decide(ask_for(B), RETURNING, replace(HOME, primary=None), NOW)
    assert unrouted.next_step_time == LATER


def test_a_way_back_past_a_promotion_makes_the_previous_revision_stable() -> None:
    past = PROBATION.model_copy(
        update={"state": S.ROLLING_BACK, "rejected": (B,), "next_step_time": None, "remaining": 1}
    )
    found = decide(ask_for(B), past, HOME, NOW)
    roles = {"stable": A, "candidate": B, "previous": None, "fallback": None, "remaining": None}
    assert found == past.model_copy(update=roles)
    still = decide(ask_for(B), past, ALONE, NOW)
    assert (still.stable, still.previous) == (B, A)


@pytest.mark.parametrize(
    ("change", "remaining"),
    [
        ({}, 1),
        ({"unschedulable": {}}, None),
        ({"ready": {A: 1, B: 2}}, None),
        ({"leaving": 1}, None),
        ({"replicas": {A: 1, B: 1}}, None),
        ({"replicas": {A: 1}}, None),
    ],
    ids=["starved", "there is room", "it serves", "pods go", "the last pod", "no pod"],
)
def test_a_rollback_is_not_starved(change: dict[str, Any], remaining: int | None) -> None:
    starved = World(
        primary=B,
        replicas={A: 1, B: 2},
        ready={B: 2},
        unschedulable={A: "0/1 nodes"},
    )
    found = decide(ask_for(A), RETURNING, replace(starved, **change), NOW)
    assert found == RETURNING.model_copy(update={"remaining": remaining})


@pytest.mark.parametrize("weight", [0, 10])
@pytest.mark.parametrize("world", [HOME, replace(HOME, canary=B), replace(HOME, primary=B)])
def test_a_candidate_that_is_not_wanted_goes_after_its_traffic(weight: int, world: World) -> None:
    plan = (PlannedStep(weight=10, bake_seconds=0),)
    warming = Rollout(
        state=S.WARMING, stable=A, candidate=B, plan=plan, step=1, weight=weight, held=True
    )
    forced = warming.model_copy(update={"forced": True})
    found = decide(ask_for(C), forced, world, NOW)
    assert (found.state, found.state_since, found.candidate) == (S.ROLLING_BACK, NOW, B)
    assert (found.weight, found.held, found.forced) == (0, False, False)


@pytest.mark.parametrize(
    ("ask", "state"),
    [
        (ask_for(C), S.PREPARING),
        (ask_for(C, **FROZEN), S.IDLE),
        (ask_for(C, replicas=0), S.IDLE),
        (ask_for(A), S.IDLE),
    ],
)
def test_after_a_rollback_it_goes_on_with_what_is_wanted_now(ask: Any, state: RolloutState) -> None:
    settled = RETURNING.model_copy(update={"next_step_time": NOW})
    found = decide(ask, settled, HOME, NOW)
    assert (found.state, found.stable, found.state_since) == (state, A, NOW)
    assert found.candidate == (C if state is S.PREPARING else None)


def test_a_suspension_ends_the_rollout_and_keeps_what_is_known() -> None:
    suspended = replace(ask_for(B), suspended=True)
    rejecting = RETURNING.model_copy(update={"promoted": (A,)})
    found = decide(suspended, rejecting, HOME, NOW)
    assert found == Rollout(pinned=A, promoted=(A,), rejected=(B,), state_since=NOW)
    assert decide(suspended, found, World(), LATER) is found
    assert decide(replace(suspended, target=C), rejecting, HOME, NOW).pinned is None
    waiting = Rollout(candidate=B, deadline_time=NOW)
    assert decide(suspended, waiting, HOME, NOW) == Rollout(state_since=NOW)
    assert decide(suspended, Rollout(state=S.IDLE), HOME, NOW) == Rollout(state_since=NOW)
