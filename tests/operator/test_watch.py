"""A rollout whose pods count: from what they say on /metrics to what status shows."""

from datetime import timedelta
from typing import Any

import pytest

from modelyard_operator.rollout.evidence import Evidence, MetricEvidence
from modelyard_operator.rollout.judgement import Judgement, Verdict
from testkit.operator_cluster import Bench, Clock
from testkit.operator_objects import EXPOSED, operator_settings, raw_model_deployment

ERRORS: dict[str, Any] = {"name": "errors", "builtin": "Errors"}
ROLLOUT: dict[str, Any] = {
    "steps": [{"weight": 50}, {"weight": 100}],
    "bakeSeconds": 600,
    "analysis": {"metrics": [ERRORS], "minSamples": 100},
}


class Traffic(Bench):
    """A bench whose pods get requests while time passes."""

    bad = 0
    """Of ten requests to a pod of the candidate."""

    async def pass_time(self, scrapes: int) -> None:
        for _ in range(scrapes):
            delay = await self.once()
            while delay == 0:
                delay = await self.once()
            assert delay is not None
            candidate = self.status.get("candidate", {}).get("revision")
            for pod in self.pods.pods.values():
                bad = self.bad if pod.revision == candidate else 0
                pod.count(10 - bad, bad)
            Clock.at += timedelta(seconds=delay)

    @property
    def evidence(self) -> Evidence:
        return Evidence.model_validate(self.status["rollout"]["analysis"])

    @property
    def errors(self) -> MetricEvidence:
        return self.evidence.metrics[0]

    async def judgement(self) -> Judgement:
        observed = self.store.observe(self.key)
        assert observed is not None
        world = observed.world(observed.proxy(self.settings, Clock.at))
        before = Clock.at - timedelta(milliseconds=1)  # else it would be a scrape
        findings = await self.reconciler.watch.look(self.key, observed, world, before)
        assert findings.judgement is not None
        return findings.judgement


@pytest.fixture
async def bench(monkeypatch: pytest.MonkeyPatch) -> Traffic:
    made = Traffic(raw_model_deployment(replicas=2, exposure=EXPOSED, rollout=ROLLOUT), monkeypatch)
    await made.rest()
    made.edit(model={"uri": "s3://models/fraud/9"})
    await made.until("Analyzing", 50)
    return made


async def test_nothing_is_read_before_the_routes_have_settled(bench: Traffic) -> None:
    assert (await bench.judgement()).reason == "Settling"
    assert bench.pods.scraped() == []
    assert "analysis" not in bench.status["rollout"]


async def test_what_was_counted_before_the_window_is_not_evidence(bench: Traffic) -> None:
    for pod in bench.pods.pods.values():
        pod.count(1000, 1000)
    await bench.pass_time(2)
    assert len(bench.pods.scraped()) == 3
    assert (bench.errors.stable.n, bench.errors.candidate.n) == (0, 0)
    await bench.pass_time(1)
    assert (bench.errors.stable.n, bench.errors.candidate.n) == (20, 10)


async def test_every_scrape_is_one_write_and_no_news_is_none(bench: Traffic) -> None:
    await bench.pass_time(3)
    bench.cluster.writes.clear()
    await bench.pass_time(4)
    assert [verb for verb, *_ in bench.cluster.writes] == ["status"] * 4
    for pod in bench.pods.pods.values():
        pod.answers = True
    await bench.once()
    bench.cluster.writes.clear()
    Clock.at += timedelta(seconds=5)
    await bench.once()
    assert bench.cluster.writes == []
    assert bench.evidence.last_scrape == Clock.at - timedelta(seconds=5)


async def test_a_bad_candidate_is_found_with_its_figures(bench: Traffic) -> None:
    bench.bad = 4
    await bench.pass_time(4)
    await bench.once()
    rollout = bench.status["rollout"]
    assert rollout["state"] == "RollingBack"
    found = rollout["lastRollback"]
    assert found["reason"] == "ErrorsWorse"
    said = "errors: candidate 12 of 30, stable 0 of 60; worse than stable"
    assert found["message"].startswith(said)


async def test_a_restarted_operator_loses_one_interval_and_invents_none(bench: Traffic) -> None:
    await bench.pass_time(4)
    before = bench.errors.candidate.n
    bench.restart()
    await bench.pass_time(1)
    assert bench.errors.candidate.n == before
    await bench.pass_time(1)
    assert bench.errors.candidate.n == before + 10


async def test_a_restarted_pod_counts_from_nothing(bench: Traffic) -> None:
    await bench.pass_time(4)
    before = bench.errors.candidate.n
    candidate = bench.status["candidate"]["revision"]
    for pod in bench.pods.of(candidate):
        pod.restart()
        pod.count(3, 1)
    await bench.pass_time(1)
    assert (bench.errors.candidate.n, bench.errors.candidate.bad) == (before + 4, 1)


async def test_pods_that_do_not_answer_are_an_error_and_are_asked_less_often(
    bench: Traffic,
) -> None:
    await bench.pass_time(4)
    before = bench.evidence
    for pod in bench.pods.pods.values():
        pod.answers = False
    started = Clock.at
    await bench.pass_time(1)
    assert bench.evidence == before.model_copy(update={"errors": 1})
    assert (await bench.judgement()).verdict is Verdict.UNDECIDED
    await bench.pass_time(4)
    assert bench.evidence.errors == 5
    assert bench.status["rollout"]["pausedReason"] == "AnalysisError"
    assert Clock.at - started >= timedelta(seconds=10 + 20 + 40 + 60)
    for pod in bench.pods.pods.values():
        pod.answers = True
    await bench.pass_time(3)
    assert bench.evidence.errors == 0
    assert bench.state == "Analyzing"
    assert bench.errors.candidate.n > before.metrics[0].candidate.n


async def test_one_silent_pod_of_two_is_no_error(bench: Traffic) -> None:
    bench.pods.of(bench.status["stable"]["revision"])[0].answers = False
    await bench.pass_time(4)
    assert bench.evidence.errors == 0
    assert bench.errors.stable.n == bench.errors.candidate.n > 0


async def test_a_weight_that_is_not_confirmed_ends_the_counting(bench: Traffic) -> None:
    await bench.pass_time(4)
    before = bench.errors.candidate.n
    route = bench.cluster.objects["Ingress", "fraud-canary"]
    weight = "nginx.ingress.kubernetes.io/canary-weight"
    other = {**route["metadata"]["annotations"], weight: "30"}
    bench.put({**route, "metadata": {**route["metadata"], "annotations": other}})
    asked = bench.pods.scraped()
    await bench.once()
    assert bench.pods.scraped() == asked
    await bench.until("Analyzing", 50)
    for pod in bench.pods.pods.values():
        pod.count(500, 500)
    await bench.pass_time(2)
    kept = bench.status["rollout"].get("analysis")
    assert kept is None or bench.errors.candidate.n <= before


LIMITED: dict[str, Any] = {"metrics": [{**ERRORS, "max": "0.05"}], "minSamples": 100}


@pytest.fixture
async def promised(monkeypatch: pytest.MonkeyPatch) -> Traffic:
    """A stable revision that has promised at most 5 % errors."""
    rollout = {**ROLLOUT, "analysis": LIMITED}
    made = Traffic(raw_model_deployment(replicas=2, exposure=EXPOSED, rollout=rollout), monkeypatch)
    await made.until("Idle")
    return made


async def serve(bench: Traffic, scrapes: int, *, bad: int) -> dict[str, Any]:
    """Let each pod answer a hundred requests between two scrapes."""
    for _ in range(scrapes):
        delay = await bench.once()
        while delay == 0:
            delay = await bench.once()
        assert delay is not None
        for pod in bench.pods.pods.values():
            pod.count(100 - bad, bad)
        Clock.at += timedelta(seconds=delay)
    return next(c for c in bench.status["conditions"] if c["type"] == "ObjectivesMet")


async def test_stable_is_held_to_its_limits_and_status_is_left_alone(promised: Traffic) -> None:
    kept = await serve(promised, 5, bad=2)
    assert (kept["status"], kept["reason"]) == ("True", "Kept")
    promised.cluster.writes.clear()
    started = Clock.at
    await serve(promised, 10, bad=2)
    assert promised.cluster.writes == []
    assert Clock.at - started == timedelta(seconds=300)


async def test_a_broken_limit_is_told_once_survives_a_restart_and_is_mended(
    promised: Traffic,
) -> None:
    await serve(promised, 3, bad=2)
    broken = await serve(promised, 10, bad=40)
    assert (broken["status"], broken["reason"]) == ("False", "ErrorsAboveMax")
    assert broken["message"].startswith("errors: 172 of 1000; above max 0.05: e-value ")
    told = [event for event in promised.cluster.events if event[1] == "ErrorsAboveMax"]
    assert len(told) == 1
    promised.restart()
    assert (await serve(promised, 1, bad=2))["status"] == "False"
    mended = await serve(promised, 4, bad=2)
    assert (mended["status"], mended["reason"]) == ("True", "Kept")


async def test_without_a_limit_nobody_is_asked_at_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(raw_model_deployment(replicas=2, exposure=EXPOSED, rollout=ROLLOUT), monkeypatch)
    await bench.rest()
    assert bench.pods.asked == []


async def test_a_query_is_asked_for_both_revisions_every_half_minute(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    drift = {"name": "drift", "query": "drift{{revision}}", "max": "0.2"}
    rollout = {**ROLLOUT, "analysis": {"metrics": [ERRORS, drift]}}
    raw = raw_model_deployment(replicas=2, exposure=EXPOSED, rollout=rollout)
    settings = operator_settings(prometheus_url="http://prometheus:9090")
    bench = Traffic(raw, monkeypatch, settings)
    await bench.until("Idle")
    bench.edit(model={"uri": "s3://models/fraud/9"})
    await bench.until("Analyzing", 50)
    stable = bench.status["stable"]["revision"]
    candidate = bench.status["candidate"]["revision"]
    bench.pods.values = {f"drift{stable}": 0.1, f"drift{candidate}": 0.3}
    bench.pods.queries.clear()
    await bench.pass_time(2)
    assert sorted(bench.pods.queries) == sorted([f"drift{candidate}", f"drift{stable}"])
    assert bench.evidence.metrics[1].breaches == 1
    await bench.pass_time(11)
    assert bench.evidence.metrics[1].breaches == 2
    assert (await bench.judgement()).verdict is Verdict.UNDECIDED
    await bench.pass_time(2)
    found = bench.status["rollout"]["lastRollback"]
    assert found["reason"] == "DriftAboveMax"
    assert "drift 0.3, above max 0.2 3 times in a row; stable 0.1" in found["message"]


async def test_prometheus_as_the_source_is_asked_instead_of_the_pods(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rollout = {**ROLLOUT, "analysis": {"metrics": [ERRORS], "source": "Prometheus"}}
    raw = raw_model_deployment(replicas=2, exposure=EXPOSED, rollout=rollout)
    bench = Traffic(raw, monkeypatch, operator_settings())
    await bench.rest()
    bench.edit(model={"uri": "s3://models/fraud/9"})
    await bench.until("Analyzing", 50)
    await bench.pass_time(2)
    assert bench.pods.scraped() == []
    assert bench.evidence.errors == 1, "no address of Prometheus is set"


async def test_a_query_that_cannot_be_asked_loses_no_requests(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    drift = {"name": "drift", "query": "drift{{revision}}", "max": "0.2"}
    rollout = {**ROLLOUT, "analysis": {"metrics": [ERRORS, drift]}}
    raw = raw_model_deployment(replicas=2, exposure=EXPOSED, rollout=rollout)
    settings = operator_settings(prometheus_url="http://prometheus:9090")
    bench = Traffic(raw, monkeypatch, settings)
    await bench.until("Idle")
    bench.edit(model={"uri": "s3://models/fraud/9"})
    await bench.until("Analyzing", 50)
    await bench.pass_time(7)
    before = bench.errors.candidate.n
    bench.pods.mute_prometheus = True
    await bench.pass_time(1)
    assert (bench.evidence.errors, bench.errors.candidate.n) == (1, before)
    bench.pods.mute_prometheus = False
    await bench.pass_time(1)
    assert bench.errors.candidate.n == before + 20


async def test_a_pause_at_a_confirmed_weight_loses_no_interval(bench: Traffic) -> None:
    await bench.pass_time(4)
    before = bench.errors.candidate.n
    bench.edit(rollout={**ROLLOUT, "paused": True})
    await bench.pass_time(2)
    assert bench.state == "Paused"
    assert bench.errors.candidate.n == before + 20
    bench.edit(rollout=ROLLOUT)
    await bench.pass_time(2)
    assert bench.state == "Analyzing"
    assert bench.errors.candidate.n == before + 40
