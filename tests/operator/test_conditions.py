from dataclasses import replace
from typing import Any

import pytest

from modelyard_operator.analysis.findings import Findings
from modelyard_operator.conditions import Condition, Pass, build_conditions, progress
from modelyard_operator.desired import desired_state
from modelyard_operator.failures import Failure
from modelyard_operator.observed import Observed
from modelyard_operator.plan import Plan
from modelyard_operator.resources import labels
from modelyard_operator.rollout.judgement import Judgement, Verdict
from modelyard_operator.rollout.state import LastRollback, PlannedStep, Rollout, RolloutState
from modelyard_operator.rollout.transitions import SETTLE
from modelyard_operator.spec import RolloutSpec
from testkit.operator_cluster import Bench
from testkit.operator_objects import (
    EXPOSED,
    NOW,
    live,
    model_deployment,
    observe,
    operator_settings,
    pod,
    raw_model_deployment,
)

S = RolloutState
PLAN = (PlannedStep(weight=20, bake_seconds=0), PlannedStep(weight=100, bake_seconds=0))


def look(
    *extra: Any,
    settings: Any = None,
    rollout: Rollout | None = None,
    ready: bool = True,
    last_shift: Any = None,
    **spec: Any,
) -> Pass:
    """One pass over a ModelDeployment that serves its target, unless told otherwise."""
    owner = model_deployment(**spec)
    settings = settings or operator_settings()
    first = desired_state(Observed(owner), settings, NOW)
    name = first.target.name if first.target else "fraud-none"
    idle = Rollout(state=S.IDLE, stable=name) if rollout is None else rollout
    owner = owner.model_copy(update={"status": _status(idle)})
    bare = desired_state(observe(owner), settings, NOW)
    children = [live(one) for one in bare.objects]
    seen = observe(owner, *children, *extra, *([pod(name, ready=True)] if ready else []))
    plan = replace(desired_state(seen, settings, NOW), rollout=idle)
    return Pass.of(seen, plan, last_shift, NOW)


def _status(rollout: Rollout) -> dict[str, Any]:
    roles = {"stable": rollout.stable, "candidate": rollout.candidate}
    return {
        "rollout": rollout.to_status(),
        **{role: {"revision": name} for role, name in roles.items() if name},
    }


def conditions(seen: Pass) -> dict[str, Condition]:
    return {condition.type: condition for condition in build_conditions(seen)}


def said(seen: Pass, type_: str) -> tuple[bool | None, str]:
    condition = conditions(seen)[type_]
    assert condition.message
    return condition.status, condition.reason


def during(state: RolloutState, **changes: Any) -> Rollout:
    base = Rollout(state=state, stable="fraud-old", candidate="fraud-new", plan=PLAN, step=1)
    return base.model_copy(update={"weight": 20, **changes})


def test_all_is_well() -> None:
    found = {type_: one.status for type_, one in conditions(look(exposure=EXPOSED)).items()}
    assert found == {
        "Ready": True,
        "Available": True,
        "Progressing": False,
        "ModelReady": True,
        "Verified": None,
        "CapacityAvailable": True,
        "RoutesReady": True,
        "ObjectivesMet": None,
        "ScalingActive": False,
        "FeaturesUnsupported": False,
        "Suspended": False,
        "Reconciling": False,
        "Stalled": False,
    }


@pytest.mark.parametrize(
    ("seen", "reason"),
    [
        (look(suspend=True), "Suspended"),
        (look(model={"uri": "ftp://x"}), "UnsupportedURIScheme"),
        (look(rollout=Rollout(), ready=False), "Initializing"),
        (look(rollout=during(S.WARMING)), "RolloutInProgress"),
        (look(ready=False, replicas=0), "ScaledToZero"),
        (look(ready=False), "NoReadyReplicas"),
        (look(last_shift=NOW), "RoutesSettling"),
        (look(last_shift=NOW - SETTLE), "Serving"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_ready_names_the_first_thing_that_is_wrong(seen: Pass, reason: str) -> None:
    assert said(seen, "Ready") == (reason == "Serving", reason)


def test_routes_that_are_not_as_wanted_are_pending() -> None:
    seen = look(exposure=EXPOSED)
    seen = replace(seen, plan=replace(seen.plan, routes_changed=True))
    assert said(seen, "Ready") == (False, "RoutesPending")
    assert said(seen, "RoutesReady") == (False, "RoutesPending")
    assert said(seen, "Available") == (True, "Serving")
    assert said(seen, "Reconciling") == (True, "RoutesPending")
    other = replace(seen.plan.world, primary="fraud-other")
    seen = replace(seen, plan=replace(seen.plan, routes_changed=False, world=other))
    assert said(seen, "RoutesReady") == (False, "RoutesPending")


def test_available_tells_that_something_serves() -> None:
    assert said(look(ready=False), "Available") == (False, "NoReadyReplicas")
    assert said(look(rollout=Rollout(), ready=False), "Available") == (False, "NoReadyReplicas")
    assert said(look(suspend=True), "Available") == (False, "Suspended")
    assert said(look(rollout=Rollout(), ready=False), "RoutesReady") == (False, "NothingToRoute")


def test_a_candidate_that_stands_in_for_stable_serves() -> None:
    seen = look(rollout=during(S.PAUSED, paused_reason="Failover"), exposure=EXPOSED)
    serving = seen.observed.model_deployment.status["stable"]["revision"]
    assert serving == "fraud-old"
    assert said(seen, "Available") == (False, "NoReadyReplicas")
    (ready,) = [pod["metadata"]["labels"][labels.REVISION] for pod in seen.observed.pods]
    world = replace(seen.plan.world, primary="fraud-old", canary=ready, canary_weight=100)
    seen = replace(seen, plan=replace(seen.plan, world=world))
    assert said(seen, "Available") == (True, "Serving")


def test_an_edit_in_a_freeze_window_says_until_when() -> None:
    frozen = Rollout(state=S.IDLE, stable="fraud-old", paused_reason="Freeze", next_step_time=NOW)
    ready = conditions(look(rollout=frozen))["Ready"]
    assert (ready.status, ready.reason) == (False, "Frozen")
    assert ready.message.endswith("nothing starts before 2026-01-01T12:00:00Z")


@pytest.mark.parametrize(
    ("rollout", "text"),
    [
        (during(S.WARMING), "step 1 of 2: fraud-new gets its pods ready"),
        (during(S.SHIFTING), "step 1 of 2: the routes move 20 % to fraud-new"),
        (during(S.ANALYZING), "step 1 of 2: 20 % of the requests go to fraud-new"),
        (during(S.PAUSED, paused_reason="Step"), "step 1 of 2: paused at 20 % (Step)"),
        (during(S.PROMOTING, stable="fraud-new", candidate=None), "fraud-new takes over"),
        (during(S.PROBATION, previous="fraud-old"), "fraud-old stays warm beside fraud-new"),
        (during(S.ROLLING_BACK), "traffic returns to fraud-old"),
        (Rollout(candidate="fraud-new"), "fraud-new: Initializing"),
    ],
)
def test_progress_is_a_sentence(rollout: Rollout, text: str) -> None:
    seen = look(rollout=rollout)
    assert progress(seen) == text
    assert said(seen, "Progressing") == (True, rollout.state.value)


def test_a_first_revision_past_its_deadline_is_stalled() -> None:
    late = Rollout(state=S.UNAVAILABLE, candidate="fraud-new")
    seen = look(rollout=late, ready=False)
    assert said(seen, "Ready") == (False, "Unavailable")
    assert said(seen, "Progressing") == (False, "ProgressDeadlineExceeded")
    assert said(seen, "Stalled") == (True, "ProgressDeadlineExceeded")
    assert said(seen, "Reconciling") == (False, "Done")


def test_a_failure_that_waiting_does_not_mend_is_stalled() -> None:
    bad = look(model={"uri": "ftp://x"})
    assert said(bad, "Stalled") == (True, "UnsupportedURIScheme")
    assert said(bad, "ModelReady") == (False, "UnsupportedURIScheme")
    assert bad.plan.failure is not None
    passing = replace(bad.plan.failure, retryable=True)
    waiting = replace(bad, plan=replace(bad.plan, failure=passing))
    assert said(waiting, "Stalled") == (False, "NotStalled")
    assert said(waiting, "Reconciling") == (True, "UnsupportedURIScheme")


def test_a_rejected_revision_ends_the_wait_of_who_applied_it() -> None:
    target = look().plan.rollout.stable
    assert target is not None
    last = LastRollback(
        revision=target, reason="Errors", message="30 of 40 requests failed", time=NOW
    )
    rejected = Rollout(
        state=S.ROLLED_BACK, stable="fraud-old", rejected=(target,), last_rollback=last
    )
    seen = look()
    seen = replace(seen, plan=replace(seen.plan, rollout=rejected))
    assert said(seen, "Ready") == (False, "Errors")
    assert said(seen, "Stalled") == (True, "Rejected")
    assert said(seen, "Reconciling") == (False, "Done")
    message = conditions(seen)["Stalled"].message
    assert "30 of 40 requests failed; fraud-old serves" in message
    assert "kubectl modelyard retry fraud" in message
    unproven = last.model_copy(update={"reason": "VerificationFailed"})
    proven = replace(
        seen,
        plan=replace(seen.plan, rollout=rejected.model_copy(update={"last_rollback": unproven})),
    )
    assert said(proven, "Verified") == (False, "VerificationFailed")
    again = rejected.model_copy(update={"candidate": target, "state": S.WARMING})
    retried = replace(seen, plan=replace(seen.plan, rollout=again))
    assert said(retried, "Stalled") == (False, "NotStalled")


def test_a_door_without_keys_is_not_ready() -> None:
    seen = look(exposure={"auth": {"type": "APIKey", "secretName": "callers"}})
    locked = replace(seen, observed=replace(seen.observed, locked_out=True))
    assert said(locked, "Ready") == (False, "AuthKeysMissing")
    assert said(locked, "Available") == (False, "AuthKeysMissing")
    assert "the Secret callers does not exist" in conditions(locked)["Ready"].message
    assert said(seen, "Ready") == (True, "Serving")


def test_a_pod_without_a_place_is_a_lack_of_capacity() -> None:
    scheduled = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}
    waiting = scheduled | {"message": "0/3 nodes are available: 3 Insufficient cpu."}
    target = look().plan.rollout.stable
    assert target is not None
    seen = look(pod(target, "waits", conditions=[waiting]))
    assert said(seen, "CapacityAvailable") == (False, "InsufficientCPU")
    assert conditions(seen)["CapacityAvailable"].message == f"{target}: {waiting['message']}"
    assert said(seen, "Ready") == (True, "Serving")


def test_a_suspended_object_is_not_busy() -> None:
    seen = look(suspend=True)
    assert said(seen, "Suspended") == (True, "Suspended")
    assert said(seen, "Reconciling") == (False, "Done")
    assert said(seen, "Progressing") == (False, "Idle")


def test_the_model_is_not_ready_before_an_inference() -> None:
    assert said(look(ready=False), "ModelReady") == (False, "NotLoaded")


def _verified(failure: Failure | None = None, **given: Any) -> tuple[bool | None, str]:
    golden = {"requests": [{"configMapName": "golden", "key": "a"}]}
    config_maps = {"golden": {"a": "[]"}}
    owner = model_deployment(rollout={"verification": golden})
    plan = desired_state(Observed(owner, config_maps=config_maps), operator_settings(), NOW)
    assert plan.target is not None
    name = plan.target.name
    if given.pop("promoted", False):
        plan = replace(plan, rollout=Rollout(state=S.IDLE, stable=name))
    seen = observe(owner, pod(name, **given), config_maps=config_maps)
    return said(Pass.of(seen, replace(plan, failure=failure), None, NOW), "Verified")


def test_a_pod_that_was_let_in_has_answered_its_golden_requests() -> None:
    failed = Failure("VerificationFailed", "outputs differ", "record them anew")
    assert _verified(ready=False) == (None, "Pending")
    assert _verified(ready=True) == (True, "Passed")
    assert _verified(ready=False, promoted=True) == (True, "Passed")
    assert _verified(failed, ready=False) == (False, "VerificationFailed")
    assert _verified(replace(failed, reason="OutOfMemory"), ready=False) == (None, "Pending")
    assert said(look(), "Verified") == (None, "NotRequested")


def test_gaps_of_the_proxy_are_said() -> None:
    seen = look(exposure=EXPOSED, settings=operator_settings().model_copy(
        update={"ingress_class_profiles": {}}
    ))  # fmt: skip
    assert said(seen, "FeaturesUnsupported") == (True, "ProfileLimit")
    assert "rollout.steps" in conditions(seen)["FeaturesUnsupported"].message


SCALING = {"maxReplicas": 3, "metrics": [{"type": "Resource", "resource": "cpu", "target": 70}]}


def autoscaler(status: str, reason: str, kind: str = "ScalingActive") -> dict[str, Any]:
    name = look(scaling=SCALING).plan.rollout.stable
    made = next(
        live(one) for one in look(scaling=SCALING).plan.objects
        if one["kind"] == "HorizontalPodAutoscaler" and one["metadata"]["name"] == name
    )  # fmt: skip
    found = {"type": kind, "status": status, "reason": reason, "message": "17 of 23"}
    return made | {"status": {"conditions": [found]}}


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        (look(), (False, "FixedReplicas")),
        (look(scaling=SCALING, suspend=True), (False, "Suspended")),
        (look(scaling=SCALING), (None, "Pending")),
        (look(autoscaler("True", "ValidMetricFound"), scaling=SCALING), (True, "ValidMetricFound")),
        (look(autoscaler("False", "FailedGet"), scaling=SCALING), (False, "FailedGet")),
        (look(autoscaler("True", "x", "AbleToScale"), scaling=SCALING), (None, "Pending")),
        (look(scaling=SCALING, rollout=Rollout()), (None, "Pending")),
    ],
)
def test_scaling_repeats_the_autoscaler(seen: Pass, expected: tuple[bool | None, str]) -> None:
    assert said(seen, "ScalingActive") == expected
    if expected[0]:
        assert "17" not in conditions(seen)["ScalingActive"].message


def test_a_condition_keeps_its_time_while_its_status_stays() -> None:
    before = [
        {"type": "Available", "status": "True", "lastTransitionTime": "never"},
        {"type": "Ready", "status": "True", "lastTransitionTime": "then"},
    ]
    same = Condition("Ready", True, "Other", "words").to_status(before, 7, NOW)
    assert (same["lastTransitionTime"], same["observedGeneration"]) == ("then", 7)
    other = Condition("Ready", None, "Other", "words").to_status(before, 7, NOW)
    assert (other["status"], other["lastTransitionTime"]) == ("Unknown", "2026-01-01T12:00:00Z")
    assert Condition("New", False, "x", "y").to_status((), 1, NOW)["status"] == "False"


async def test_ready_is_false_the_moment_an_edit_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(raw_model_deployment(exposure=EXPOSED), monkeypatch)
    await bench.rest()
    bench.edit(model={"uri": "s3://models/fraud/9"})
    await bench.once()
    ready = next(c for c in bench.status["conditions"] if c["type"] == "Ready")
    assert (ready["status"], ready["observedGeneration"]) == ("False", 2)
    assert isinstance(bench.status["rollout"], dict)


def test_a_plan_is_complete_without_extras() -> None:
    seen = look()
    plan = Plan(seen.plan.rollout, seen.plan.traffic, seen.plan.world, seen.plan.target)
    assert (plan.objects, plan.gaps, plan.wake) == ((), (), None)


def test_a_later_pod_that_disagrees_takes_the_verification_back() -> None:
    seen = look(exposure=EXPOSED)
    findings = Findings(unverified={"fraud-old": "y differs by 0.3"})
    seen = replace(seen, observed=replace(seen.observed, findings=findings))
    assert said(seen, "Verified") == (False, "VerificationFailed")


def test_a_broken_limit_is_told_only_where_there_is_one() -> None:
    metric = {"name": "errors", "builtin": "Errors", "max": "0.01"}
    owner = look(exposure=EXPOSED).observed.model_deployment
    spec = RolloutSpec.model_validate({"analysis": {"metrics": [metric]}})
    owner = owner.model_copy(update={"spec": owner.spec.model_copy(update={"rollout": spec})})
    seen = look(exposure=EXPOSED)
    seen = replace(seen, observed=replace(seen.observed, model_deployment=owner))
    assert said(seen, "ObjectivesMet") == (True, "Kept")
    broken = Judgement(Verdict.FAIL, "ErrorsAboveMax", "errors: 9 of 100")
    findings = Findings(objective=broken)
    seen = replace(seen, observed=replace(seen.observed, findings=findings))
    assert said(seen, "ObjectivesMet") == (False, "ErrorsAboveMax")
