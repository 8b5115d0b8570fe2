"""Whole rollouts whose pods count: what they say is scraped, judged, and acted on."""

from datetime import timedelta
from typing import Any

import pytest

from testkit.operator_cluster import Bench, Clock
from testkit.operator_objects import EXPOSED, raw_model_deployment

ERRORS: dict[str, Any] = {"name": "errors", "builtin": "Errors"}
STEPS: list[dict[str, Any]] = [{"weight": 50}, {"weight": 100}]
OTHER: dict[str, Any] = {"uri": "s3://models/fraud/9"}


class Story(Bench):
    """A rollout while each pod answers ten requests between two passes."""

    rates: dict[str, int]
    """Of ten requests, how many fail at a pod of this revision."""
    quiet = False

    def request(self) -> None:
        for pod in self.pods.pods.values():
            bad = self.rates.get(pod.revision, 0)
            if not self.quiet:
                pod.count(10 - bad, bad)

    @property
    def rollout(self) -> dict[str, Any]:
        rollout: dict[str, Any] = self.status["rollout"]
        return rollout

    async def go_on(self, *states: str, limit: int = 400) -> float:
        """Until the rollout is in one of some states; returns the seconds that took."""
        started = Clock.at
        for _ in range(limit):
            delay = await self.once()
            self.start_pods()
            if self.state in states:
                return (Clock.at - started).total_seconds()
            if delay:
                self.request()
            Clock.at += timedelta(seconds=delay or 0)
        raise AssertionError(f"never {states}: {self.rollout}")


async def begun(monkeypatch: pytest.MonkeyPatch, **rollout: Any) -> Story:
    spec = {"steps": STEPS, "bakeSeconds": 60, "probationSeconds": 60, **rollout}
    story = Story(raw_model_deployment(replicas=2, exposure=EXPOSED, rollout=spec), monkeypatch)
    story.rates = {}
    await story.go_on("Idle")
    story.edit(model=OTHER)
    return story


async def test_a_bad_candidate_goes_back_with_its_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    story = await begun(monkeypatch)
    await story.go_on("Analyzing")
    stable, candidate = (story.status[role]["revision"] for role in ("stable", "candidate"))
    story.rates = {candidate: 5}
    assert await story.go_on("RollingBack") < 60
    await story.go_on("RolledBack")
    last = story.rollout["lastRollback"]
    assert (last["revision"], last["reason"]) == (candidate, "ErrorsWorse")
    assert last["message"].startswith("errors: candidate 15 of 30, stable 0 of 60; worse than")
    assert story.rollout["rejected"] == [candidate]
    assert story.status["stable"]["revision"] == stable
    told = [text for _, reason, text in story.cluster.events if reason == "ErrorsWorse"]
    assert any(last["message"] in text for text in told)


async def test_a_good_candidate_passes_on_its_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    story = await begun(monkeypatch)
    await story.go_on("Analyzing")
    candidate = story.status["candidate"]["revision"]
    await story.go_on("Probation")
    await story.go_on("Idle")
    assert story.status["stable"]["revision"] == candidate
    passed = [text for _, reason, text in story.cluster.events if reason == "StepPassed"]
    assert len(passed) == 1, "at 100 % nothing is analysed without a limit"
    assert "errors: candidate 0 of 110, stable 0 of 220" in passed[0]


async def test_an_outage_of_both_is_nobodys_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    story = await begun(monkeypatch)
    await story.go_on("Analyzing")
    story.rates = {story.status[role]["revision"]: 4 for role in ("stable", "candidate")}
    await story.go_on("Idle")
    assert "lastRollback" not in story.rollout


async def test_too_few_requests_wait_for_a_person(monkeypatch: pytest.MonkeyPatch) -> None:
    story = await begun(monkeypatch, maxStepSeconds=90, analysis={"minSamples": 5000})
    await story.go_on("Analyzing")
    assert await story.go_on("Paused") >= 90
    assert story.rollout["pausedReason"] == "Inconclusive"


async def test_no_request_at_all_promotes_unless_told_otherwise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    story = await begun(monkeypatch)
    story.quiet = True
    await story.go_on("Idle", "RolledBack")
    await story.go_on("Idle")
    assert "lastRollback" not in story.rollout
    story = await begun(monkeypatch, analysis={"onNoTraffic": "Pause"})
    story.quiet = True
    await story.go_on("Paused")
    assert story.rollout["pausedReason"] == "NoTraffic"


async def test_a_silent_source_holds_the_weight_and_speech_lets_it_go_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    story = await begun(monkeypatch)
    await story.go_on("Analyzing")
    for pod in story.pods.pods.values():
        pod.answers = False
    await story.go_on("Paused")
    assert (story.rollout["pausedReason"], story.rollout["weight"]) == ("AnalysisError", 50)
    since = story.rollout["stateSince"]
    for _ in range(20):
        delay = await story.once()
        Clock.at += timedelta(seconds=delay or 0)
    assert (story.state, story.rollout["stateSince"]) == ("Paused", since), "it must not flap"
    for pod in story.pods.pods.values():
        pod.answers = True
    await story.go_on("Analyzing")
    await story.go_on("Idle")


async def test_another_signature_never_meets_a_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    story = await begun(monkeypatch)
    weights: list[int] = []
    for _ in range(60):
        delay = await story.once()
        story.start_pods()
        for pod in story.pods.of(story.status.get("candidate", {}).get("revision", "")):
            pod.inputs = {"x": ("FP32", [-1, 31])}
        weights.append(story.rollout.get("weight", 0))
        if story.state == "RolledBack":
            break
        Clock.at += timedelta(seconds=delay or 0)
    last = story.rollout["lastRollback"]
    assert last["reason"] == "SignatureChanged"
    assert last["message"] == "input x was FP32 [-1, 30] and is FP32 [-1, 31]"
    assert set(weights) == {0}


async def test_a_pod_that_does_not_say_what_it_takes_is_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    story = await begun(monkeypatch)
    story.pods.mute = True
    await story.go_on("Warming")
    for _ in range(10):
        delay = await story.once()
        story.start_pods()
        Clock.at += timedelta(seconds=delay or 0)
    assert story.state == "Warming"
    story.pods.mute = False
    await story.go_on("Analyzing")


@pytest.mark.parametrize(("agreeing", "ends"), [(10, "Idle"), (5, "RolledBack")])
async def test_copies_are_judged_before_the_first_request(
    monkeypatch: pytest.MonkeyPatch, agreeing: int, ends: str
) -> None:
    shadow = {"percent": 10, "minSamples": 100, "minAgreement": "0.98"}
    story = await begun(monkeypatch, shadow=shadow)
    await story.go_on("Shadowing")
    stable = story.status["stable"]["revision"]
    for _ in range(60):
        delay = await story.once()
        if story.state != "Shadowing":
            break
        for pod in story.pods.of(stable):
            pod.shadow["agreements"] += agreeing
            pod.shadow["disagreements"] += 10 - agreeing
        Clock.at += timedelta(seconds=delay or 0)
    if ends == "RolledBack":
        await story.go_on(ends)
        assert story.rollout["lastRollback"]["reason"] == "ShadowDisagrees"
    else:
        assert story.rollout["shadow"] == {"samples": 120, "agreement": "1"}
        await story.go_on(ends)
        assert "lastRollback" not in story.rollout


async def test_probation_returns_to_the_revision_before_on_evidence(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    limited = {"metrics": [{**ERRORS, "max": "0.05"}]}
    story = await begun(monkeypatch, probationSeconds=900, analysis=limited)
    stable = story.status["stable"]["revision"]
    await story.go_on("Probation")
    promoted = story.status["stable"]["revision"]
    assert promoted != stable
    for _ in range(20):
        Clock.at += timedelta(seconds=await story.once() or 0)
        story.request()
    assert story.state == "Probation"
    story.rates = {promoted: 6}
    assert await story.go_on("RollingBack") < 60
    await story.go_on("RolledBack")
    assert story.status["stable"]["revision"] == stable
    assert story.rollout["lastRollback"]["reason"] == "ErrorsAboveMax"


async def test_a_broken_limit_at_rest_returns_where_that_is_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    limited = {"metrics": [{**ERRORS, "max": "0.05"}]}
    story = await begun(monkeypatch, analysis=limited, onSLOViolation="Rollback")
    stable = story.status["stable"]["revision"]
    await story.go_on("Probation")
    await story.go_on("Idle")
    promoted = story.status["stable"]["revision"]
    assert promoted != stable
    story.rates = {promoted: 6}
    await story.go_on("Preparing")
    await story.go_on("RolledBack")
    assert story.status["stable"]["revision"] == stable
    assert story.rollout["rejected"] == [promoted]
