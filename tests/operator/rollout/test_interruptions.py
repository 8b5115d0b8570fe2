"""What ends or holds a rollout in whatever state it is."""

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
PLAN = (PlannedStep(weight=10, bake_seconds=20), PlannedStep(weight=100, bake_seconds=0))
STEP = Rollout(
    state=S.SHIFTING,
    stable=A,
    candidate=B,
    plan=PLAN,
    step=1,
    weight=10,
    initial_replicas=2,
    deadline_time=NOW + seconds(700),
)
HOME = World(primary=A, replicas={A: 2, B: 1}, ready={A: 2, B: 1})
FAILS = Judgement(Verdict.FAIL, "ErrorsRose", "40 of 200")
ASK = ask_for(B, progressDeadlineSeconds=700)


def having(**changes: Any) -> Rollout:
    return STEP.model_copy(update=changes)


def test_without_a_reason_it_goes_on() -> None:
    assert decide(ASK, STEP, HOME, NOW) == STEP


@pytest.mark.parametrize(
    ("seen", "grounds"),
    [
        ({"judgement": FAILS}, ("ErrorsRose", "40 of 200")),
        ({"judgement": Judgement(Verdict.FAIL)}, ("AnalysisFailed", "")),
        ({"broken": {B: Judgement(Verdict.FAIL, "OOMKilled", "137")}}, ("OOMKilled", "137")),
        (
            {"broken": {B: Judgement(Verdict.FAIL, "OOMKilled", "137")}, "judgement": FAILS},
            ("OOMKilled", "137"),
        ),
    ],
)
def test_evidence_against_the_candidate_rejects_it(
    seen: dict[str, Any], grounds: tuple[str, str]
) -> None:
    found = decide(ASK, STEP, replace(HOME, **seen), NOW)
    assert (found.state, found.weight, found.rejected) == (S.ROLLING_BACK, 0, (B,))
    assert found.state_since == NOW
    why = found.last_rollback
    assert why is not None
    assert (why.revision, why.reason, why.message, why.time) == (B, *grounds, NOW)


@pytest.mark.parametrize(
    ("weight", "seen"),
    [
        (10, {"broken": {A: FAILS}}),
        (10, {"judgement": Judgement(Verdict.INCONCLUSIVE)}),
        (0, {"judgement": FAILS}),
        (10, {"signature_change": "x differs"}),
    ],
    ids=["stable is broken", "no evidence", "of another window", "it serves already"],
)
def test_what_is_no_evidence_does_not(weight: int, seen: dict[str, Any]) -> None:
    paused = having(weight=weight, state=S.PAUSED, paused_reason="Step")
    assert decide(ASK, paused, replace(HOME, **seen), NOW) == paused


@pytest.mark.parametrize(("policy", "rejects"), [("Reject", True), ("Allow", False)])
def test_another_signature_is_rejected_before_the_first_request(
    policy: str,
    rejects: bool,  # noqa: FBT001
) -> None:
    world = replace(HOME, signature_change="input x: expected FP32, got INT8")
    ask = ask_for(B, signatureChange=policy)
    found = decide(ask, having(state=S.WARMING, weight=0), world, NOW)
    assert found.rejected == ((B,) if rejects else ())
    if rejects:
        assert found.last_rollback is not None
        assert found.last_rollback.reason == "SignatureChanged"
        assert found.last_rollback.message == "input x: expected FP32, got INT8"


DOWN = replace(HOME, ready={B: 1})


@pytest.mark.parametrize(
    ("changes", "world", "stands_in"),
    [
        ({}, DOWN, True),
        ({"weight": 0, "state": S.WARMING}, DOWN, True),
        ({"plan": PLAN[1:], "state": S.SHADOWING, "weight": 0}, DOWN, True),
        ({"step": 2}, DOWN, False),
        ({}, replace(DOWN, ready={}), False),
        ({}, HOME, False),
        ({"state": S.PAUSED, "paused_reason": "Step"}, DOWN, False),
    ],
    ids=[
        *("a step", "before its weight", "copies are compared", "it takes over anyway"),
        *("it is down, too", "stable serves", "it is held already"),
    ],
)
def test_a_candidate_stands_in_for_a_stable_revision_that_is_down(
    changes: dict[str, Any],
    world: World,
    stands_in: bool,  # noqa: FBT001
) -> None:
    found = decide(ASK, having(**changes), world, NOW)
    assert ((found.state, found.paused_reason) == (S.PAUSED, "Failover")) is stands_in


@pytest.mark.parametrize(
    ("state", "ends"),
    [(S.PREPARING, True), (S.WARMING, True), (S.SHIFTING, True), (S.PAUSED, False)],
)
def test_what_makes_no_progress_is_given_up(state: RolloutState, ends: bool) -> None:  # noqa: FBT001
    late, lacks = NOW + seconds(700), replace(HOME, ready={A: 2})
    rollout = having(state=state, paused_reason="Step" if state is S.PAUSED else None)
    assert decide(ASK, rollout, lacks, late - seconds(1)).rejected == ()
    found = decide(ASK, rollout, lacks, late)
    assert found.rejected == ((B,) if ends else ())
    if ends:
        assert found.last_rollback is not None
        assert found.last_rollback.reason == "ProgressDeadlineExceeded"
        assert found.last_rollback.message == f"{B} made no progress in {state} for 700 s"
        assert found.last_rollback.time == late
    assert decide(ASK, having(state=state, deadline_time=None), lacks, late).rejected == ()


def test_another_edit_comes_before_any_verdict() -> None:
    found = decide(ask_for(C), STEP, replace(HOME, judgement=FAILS), NOW)
    assert (found.state, found.rejected, found.last_rollback) == (S.ROLLING_BACK, (), None)
