"""Whole rollouts that end by what is seen of the candidate, before its first request and after."""

from typing import Any

import pytest

from modelyard_operator.rollout.state import RolloutState
from testkit.operator_rollout import Quality, Simulation, Source, seconds
from testkit.operator_rollout_story import A, B, C, edited, end, in_state, served, told, until

S = RolloutState


@pytest.mark.parametrize(
    ("quality", "reason"),
    [
        ("bad", "ErrorsRose"),
        ("broken", "ContainerCrashed"),
        ("sleeps", "ProgressDeadlineExceeded"),
        ("other signature", "SignatureChanged"),
    ],
)
def test_a_bad_version_is_rejected_and_not_tried_again(quality: Quality, reason: str) -> None:
    sim = served()
    sim.source = "fine"
    rollout = end(edited(sim, quality=quality))
    assert (rollout.state, rollout.stable, rollout.rejected) == (S.ROLLED_BACK, A, (B,))
    assert rollout.last_rollback is not None
    assert (rollout.last_rollback.revision, rollout.last_rollback.reason) == (B, reason)
    assert sim.cluster.replicas == {A: 2}
    weighed = any(B in line for line in sim.log if line.startswith("route"))
    assert weighed == (quality == "bad"), "only evidence needs requests"


def test_another_signature_may_be_allowed() -> None:
    sim = edited(served(signatureChange="Allow"), quality="other signature")
    assert end(sim).stable == B


def test_a_rejected_revision_is_tried_again_when_asked() -> None:
    sim = served()
    sim.source = "fine"
    end(edited(sim, quality="bad"))
    sim.quality[B] = "good"
    assert told(sim, "retry", C) == f"Ignored: {C} was not rejected"
    assert told(sim, "retry", B, 2) == "Accepted"
    rollout = end(sim)
    assert (rollout.state, rollout.stable, rollout.rejected) == (S.IDLE, B, ())


@pytest.mark.parametrize(
    ("policy", "source", "state", "reason"),
    [
        ({"onInconclusive": "Pause"}, "few", S.PAUSED, "Inconclusive"),
        ({"onInconclusive": "Rollback"}, "few", S.ROLLED_BACK, None),
        ({"onInconclusive": "Promote"}, "few", S.IDLE, None),
        ({"onNoTraffic": "Pause"}, "silent", S.PAUSED, "NoTraffic"),
        ({"onNoTraffic": "Promote"}, "silent", S.IDLE, None),
        ({}, "down", S.PAUSED, "AnalysisError"),
    ],
)
def test_too_little_evidence_ends_as_the_user_says(
    policy: dict[str, str], source: Source, state: RolloutState, reason: str | None
) -> None:
    sim = edited(served(analysis=policy))
    sim.source = source
    for _ in range(8):  # scrapes that fail are counted
        until(sim, lambda _: True)
    rollout = end(sim)
    assert (rollout.state, rollout.paused_reason) == (state, reason)


def test_a_pause_for_a_silent_source_ends_with_the_first_figures() -> None:
    sim = edited(served())
    sim.source = "down"
    until(sim, lambda rollout: rollout.paused_reason == "AnalysisError")
    sim.source = "fine"
    assert end(sim).stable == B


def test_resume_gives_evidence_another_step_s_time() -> None:
    sim = edited(served())
    sim.source = "few"
    end(sim)
    assert told(sim, "resume", B) == "Accepted"
    rollout = until(sim, in_state(S.ANALYZING))
    assert rollout.step_deadline_time is not None
    assert rollout.step_deadline_time > sim.now


def test_in_probation_traffic_returns_on_evidence() -> None:
    sim = served(probationSeconds=600)
    sim.source = "fine"
    edited(sim, quality="fails later")
    rollout = until(sim, in_state(S.ROLLING_BACK))
    assert (rollout.stable, rollout.previous) == (B, A)
    assert sim.cluster.ready[A] == 2, "the previous revision was kept warm"
    rollout = end(sim)
    assert (rollout.state, rollout.stable, rollout.rejected) == (S.ROLLED_BACK, A, (B,))
    assert sim.cluster.world().weights == {A: 100}


def test_a_broken_slo_outside_rollouts_leads_back_if_asked() -> None:
    sim = edited(served(onSLOViolation="Rollback"))
    end(sim)
    sim.source = "fine"
    sim.quality[B] = "fails later"
    rollout = end(sim)
    assert (rollout.state, rollout.stable, rollout.rejected) == (S.ROLLED_BACK, A, (B,))
    assert sim.cluster.ready == {A: 2}


def compared(**changes: Any) -> Simulation:
    """A rollout whose candidate answers copies, of which there are too few."""
    sim = edited(served(shadow={"percent": 10}, maxStepSeconds=300, **changes))
    sim.source = "few"
    until(sim, in_state(S.SHADOWING))
    return sim


def test_a_candidate_whose_outputs_differ_gets_no_request() -> None:
    sim = compared()
    sim.quality[B] = "disagrees"
    rollout = end(sim)
    assert (rollout.state, rollout.rejected) == (S.ROLLED_BACK, (B,))
    assert rollout.last_rollback is not None
    assert rollout.last_rollback.reason == "OutputsDiffer"
    assert not any(B in line for line in sim.log if line.startswith("route"))


def test_outputs_that_agree_lead_to_the_first_step_with_all_of_its_time() -> None:
    sim = compared()
    sim.source = "fine"
    rollout = until(sim, in_state(S.ANALYZING, 10))
    assert rollout.step_deadline_time == rollout.state_since + seconds(300)  # type: ignore[operator]
    assert end(sim).stable == B


@pytest.mark.parametrize(
    ("policy", "state"),
    [("Pause", S.PAUSED), ("Promote", S.PAUSED), ("Rollback", S.ROLLED_BACK)],
)
def test_too_few_copies_end_as_the_user_says(policy: str, state: RolloutState) -> None:
    sim = compared(analysis={"onInconclusive": policy, "onNoTraffic": "Pause"})
    started = sim.now
    until(sim, lambda rollout: rollout.state is not S.SHADOWING)
    assert seconds(295) < sim.now - started < seconds(310)
    sim.source = "silent" if policy == "Promote" else "few"
    rollout = end(sim)
    assert rollout.state is state
    if policy == "Rollback":
        assert rollout.last_rollback is not None
        assert rollout.last_rollback.reason == "ShadowInconclusive"
        assert rollout.last_rollback.message == "too few answers to compare"
    reasons = {"Pause": ("Inconclusive", 0), "Promote": ("NoTraffic", 10), "Rollback": (None, 0)}
    assert (rollout.paused_reason, rollout.weight) == reasons[policy]


def test_without_stable_there_is_nobody_to_compare_with() -> None:
    sim = compared(strategy="BlueGreen")
    sim.quality[A] = "sleeps"
    sim.cluster.ready[A] = 0
    assert until(sim, in_state(S.PAUSED)).paused_reason == "Failover"
    assert sim.cluster.world().weights == {B: 100}
    sim.quality[A] = "good"
    until(sim, in_state(S.SHADOWING))
    sim.reconcile()
    assert sim.cluster.world().weights == {A: 100}


@pytest.mark.parametrize("paused", [False, True])
def test_promote_ends_the_comparison(paused: bool) -> None:  # noqa: FBT001
    sim = compared()
    if paused:
        assert end(sim).paused_reason == "Inconclusive"
    assert told(sim, "promote", B) == "Accepted"
    assert sim.rollout is not None
    assert (sim.rollout.state, sim.rollout.weight) == (S.SHIFTING, 10)
    rollout = until(sim, in_state(S.ANALYZING))
    assert rollout.step_deadline_time == rollout.state_since + seconds(300)  # type: ignore[operator]
    sim.source = "fine"
    assert end(sim).stable == B


def test_a_pause_interrupts_the_comparison_and_so_does_a_pod_that_dies() -> None:
    sim = compared()
    assert told(sim, "pause", B) == "Accepted"
    assert until(sim, in_state(S.PAUSED)).paused_reason == "Command"
    told(sim, "resume", B, 2)
    until(sim, in_state(S.SHADOWING))
    sim.cluster.ready[B] = 0
    sim.reconcile()
    assert sim.rollout is not None
    assert sim.rollout.state is S.WARMING
    until(sim, in_state(S.SHADOWING))
