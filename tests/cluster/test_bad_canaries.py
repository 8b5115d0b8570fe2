"""Bad versions of a good model: each is found out by its own grounds, and few or no users meet it."""

import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import pytest

from testkit.cluster_api import Manifest, condition
from testkit.cluster_canaries import (
    CRASHING,
    GONE_S,
    RATE,
    STEPS,
    UNLUCKY,
    WEIGHT,
    BadVersion,
    Outcome,
    golden,
    roll_out,
    serve_good,
    sleeping,
)
from testkit.cluster_lab import Lab

pytestmark = [pytest.mark.cluster, pytest.mark.together, pytest.mark.timeout(3600)]

CHAOS: Final = os.environ.get("MODELYARD_CHAOS") == "1"
RUNS: Final = 20 if CHAOS else 2
MISSES: Final = RUNS // 20
"""Runs that may take longer than the limit."""
AT_ONCE: Final = 4
ALPHA: Final = 0.01
FAST_S: Final = 0.03
SLOW_MS: Final = 100
"""Between the good version's time and five times that."""
GPU: Final = "example.com/absent"
SLOW: Final = {"name": "slow", "builtin": "Slow", "thresholdMilliseconds": SLOW_MS}
DEFAULT: Final = {"analysis": {"metrics": None}}
"""What is analysed unless somebody says otherwise."""

FAILING: Final = BadVersion("ErrorsWorse", ("errors: candidate",), handler=UNLUCKY, serves=True)
BAD: Final = {
    "NaN": BadVersion(
        "InvalidOutputWorse", ("invalid-output: candidate",), model="roots", serves=True
    ),
    "slow": BadVersion(
        "SlowWorse", ("slow: candidate",), serves=True,
        stable_handler=sleeping(FAST_S),
        handler=sleeping(5 * FAST_S),
        spec={"rollout": {"analysis": {"metrics": [SLOW]}}},
    ),
    "shape": BadVersion("SignatureChanged", ("output y", "[-1, 3]"), model="wide", answers=True),
    "shadow": BadVersion(
        "ShadowDisagrees", ("copies answered as by stable",), model="swayed", answers=True,
        spec={"rollout": {"shadow": {"percent": 100, "minSamples": 200, "minAgreement": "0.9"}}},
    ),
    "golden": BadVersion("VerificationFailed", ("recorded 10.0, got 20.0",)),
    "crash": BadVersion("ContainerCrashed", ("17",), handler=CRASHING),
    "device": BadVersion(
        "InsufficientCapacity", (GPU,),
        spec={
            "accelerator": {"resourceName": GPU},
            "rollout": {"capacity": {"waitSeconds": 10}},
        },
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_version_is_rejected_on_its_own_grounds(lab: Lab, kind: str) -> None:
    bad = BAD[kind]
    spec: dict[str, Any] = {"rollout": {**STEPS, **DEFAULT}}
    with lab.bench(f"bad-{kind}".lower()) as bench:
        if kind == "golden":
            _record_golden(lab, bench.namespace)
            files = [{"configMapName": "golden", "key": "verify.json"}]
            spec["rollout"]["verification"] = {"requests": files}
        served = serve_good(bench, "fraud", bad, **spec)
        outcome = roll_out(served, bad)
        _check(outcome, bad)
        event = served.until_event(bad.reason, f"traffic returns to {outcome.stable}")
        assert event["type"] == "Warning"
        for words in bad.says:
            assert words in event["message"], event
        assert [one["metadata"]["labels"]["modelyard.dev/revision"] for one in served.pods()] == [
            outcome.stable
        ]


def test_a_failing_version_is_gone_within_a_minute(lab: Lab, figures: dict[str, object]) -> None:
    with lab.bench("failing") as bench, ThreadPoolExecutor(AT_ONCE) as threads:

        def run(number: int) -> Outcome:
            rollout = {**STEPS, **DEFAULT}
            served = serve_good(bench, f"run-{number}", FAILING, rollout=rollout)
            outcome = roll_out(served, FAILING)
            lab.api.delete("ModelDeployment", served.namespace, served.name)
            return outcome

        outcomes = list(threads.map(run, range(RUNS)))
        for outcome in outcomes:
            _check(outcome, FAILING)
        seconds = sorted(round(outcome.gone_s, 1) for outcome in outcomes)
        rates = [round(outcome.rate, 1) for outcome in outcomes]
        figures["failing canaries"] = f"gone in {seconds} s at {rates} requests/s"
        late = [one for one in outcomes if one.until_gone > GONE_S * RATE]
        assert len(late) <= MISSES, figures


def test_without_an_analysis_nothing_goes_in_time(lab: Lab) -> None:
    """The check above can fail: a machine that never rolls back does not pass it."""
    with lab.bench("blind") as bench:
        served = serve_good(bench, "fraud", FAILING, rollout=STEPS)
        with pytest.raises(AssertionError, match=f"after {GONE_S:.0f} s"):
            roll_out(served, FAILING, limit_s=GONE_S)


def _check(outcome: Outcome, bad: BadVersion) -> None:
    status, rollback = outcome.end["status"], outcome.rollback
    assert (rollback["reason"], rollback["revision"]) == (bad.reason, outcome.candidate)
    for words in bad.says:
        assert words in rollback["message"], rollback
    assert outcome.candidate in status["rollout"]["rejected"]
    assert condition(outcome.end, "Ready")["status"] == "False"
    assert condition(outcome.end, "Ready")["reason"] == bad.reason
    assert condition(outcome.end, "Available")["status"] == "True"
    assert outcome.finally_reached == {outcome.stable}
    reached = {sample.revision for sample in outcome.samples}
    if bad.serves:
        assert outcome.candidate in reached
        share = len(outcome.failed) / len(outcome.samples)
        assert share <= 2 * WEIGHT / 100, share
        assert all(sample.revision == outcome.candidate for sample in outcome.failed)
        assert outcome.asked
        _check_evidence(outcome)
    else:
        assert outcome.failed == []
        assert reached == {outcome.stable}
        assert outcome.asked == 0 or not bad.answers


def _check_evidence(outcome: Outcome) -> None:
    """The figures are in status, and the grounds say the same in words."""
    seen = outcome.convicting
    assert float(seen["eValue"]) >= 1 / ALPHA
    candidate = f"candidate {seen['candidate']['bad']} of {seen['candidate']['n']}"
    stable = f"stable {seen['stable']['bad']} of {seen['stable']['n']}"
    assert f"{seen['metric']}: {candidate}, {stable};" in outcome.rollback["message"]
    assert f"e-value {seen['eValue']}" in outcome.rollback["message"]


def _record_golden(lab: Lab, namespace: str) -> None:
    body: Manifest = {"metadata": {"name": "golden"}, "data": {"verify.json": golden(10.0)}}
    lab.api.create("ConfigMap", namespace, body)
