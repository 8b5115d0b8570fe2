import json
from typing import Any

import pytest

from modelyard_operator.desired import desired_state
from modelyard_operator.events import build_events
from modelyard_operator.rollout.routing import Backends
from modelyard_operator.status import build_addresses, build_status
from modelyard_operator.traffic.plan import TrafficPlan
from modelyard_operator.traffic.proxy import resolve_proxy
from testkit.operator_cluster import Bench
from testkit.operator_objects import (
    EXPOSED,
    NOW,
    model_deployment,
    observe,
    operator_settings,
    pod,
    raw_model_deployment,
    revision_of,
)

STEPS = {"steps": [{"weight": 20, "pause": "Manual"}, {"weight": 100}], "bakeSeconds": 0}
OTHER = {"uri": "s3://models/fraud/9"}


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Bench:
    return Bench(raw_model_deployment(exposure=EXPOSED, rollout=STEPS), monkeypatch)


def status_of(*objects: Any, before: dict[str, Any] | None = None, **spec: Any) -> dict[str, Any]:
    seen = observe(model_deployment(status=before, **spec), *objects)
    return build_status(seen, desired_state(seen, operator_settings(), NOW), NOW)


@pytest.mark.parametrize(
    ("exposure", "urls"),
    [
        ({}, []),
        ({"hosts": ["a.x"]}, ["http://a.x/"]),
        ({"hosts": ["a.x"], "dialect": "None"}, []),
        (
            {"hosts": ["a.x", "b.x"], "path": "/m", "tls": {"secretName": "s"}},
            ["https://a.x/m", "https://b.x/m"],
        ),
    ],
)
def test_addresses(exposure: dict[str, Any], urls: list[str]) -> None:
    owner = model_deployment(exposure=exposure)
    proxy = resolve_proxy(owner.spec.exposure, operator_settings())
    found = build_addresses(owner, TrafficPlan(owner.spec.exposure, proxy, Backends()))
    assert [one["url"] for one in found] == [*urls, "http://fraud.ml.svc/"]
    assert [one["type"] for one in found] == ["External"] * len(urls) + ["Cluster"]
    assert status_of(exposure=exposure)["url"] == found[0]["url"]


async def test_a_rollout_under_way_in_full(bench: Bench) -> None:
    await bench.rest()
    stable = bench.status["stable"]["revision"]
    bench.edit(model={**OTHER, "version": "9"}, replicas=2)
    await bench.until("Paused", 20)
    status = bench.status
    candidate = status["candidate"]["revision"]
    assert status["candidate"] == {
        "revision": candidate,
        "version": "9",
        "replicas": 1,
        "readyReplicas": 1,
        "weight": 20,
    }
    assert status["stable"]["weight"] == 80
    assert status["stable"]["version"] == stable.removeprefix("fraud-")
    assert status["selector"] == "modelyard.dev/model-deployment=fraud"
    weights = [{"revision": candidate, "weight": 20}, {"revision": stable, "weight": 80}]
    ordered = sorted(weights, key=lambda one: str(one["revision"]))
    assert status["traffic"]["desiredWeights"] == ordered
    assert status["traffic"]["observedWeights"] == ordered
    assert status["traffic"]["profile"] == "traefik-nginx"
    assert status["observedGeneration"] == 2
    assert len(json.dumps(status)) < 16 * 1024


def fetched(message: dict[str, Any], code: int = 0, name: str = "model-fetch") -> dict[str, Any]:
    ended = {"exitCode": code, "message": json.dumps(message)}
    init = {"name": name, "image": "x", "state": {"terminated": ended}}
    return pod(revision_of(model_deployment()).name, initContainerStatuses=[init])


def test_what_was_fetched_is_remembered_without_a_pod() -> None:
    said = {"resolvedURI": "s3://models/fraud/8", "digest": "sha256:0", "bytes": 1}
    revision = revision_of(model_deployment()).name
    bare = {"rollout": {"state": "Initializing"}, "candidate": {"revision": revision}}
    first = status_of(fetched(said), before=bare)
    kept = {key: first["candidate"][key] for key in ("resolvedURI", "digest")}
    assert kept == {"resolvedURI": "s3://models/fraud/8", "digest": "sha256:0"}
    assert status_of(before=first)["candidate"].items() >= kept.items()
    assert "digest" not in status_of(before=first, model=OTHER)["candidate"]
    for other in (fetched({"digest": ""}), fetched(said, code=1), fetched(said, name="other")):
        assert "digest" not in status_of(other, before=bare)["candidate"]


@pytest.mark.parametrize(
    ("status", "phase"),
    [
        ({}, "Pending"),
        ({"initContainerStatuses": [{"name": "f", "state": {"running": {}}}]}, "Downloading"),
        ({"containerStatuses": [{"name": "r", "state": {"running": {}}}]}, "Loading"),
        ({"containerStatuses": [{"name": "r", "state": {"waiting": {}}}]}, "Pending"),
        ({"ready": True}, "Ready"),
        (
            {"containerStatuses": [{"name": "r", "state": {"terminated": {"exitCode": 1}}}]},
            "Failed",
        ),
    ],
)
def test_the_model_s_phase(status: dict[str, Any], phase: str) -> None:
    revision = revision_of(model_deployment()).name
    assert status_of(pod(revision, **status))["model"] == {"phase": phase}


def test_a_refused_spec_fails_the_model_and_says_why() -> None:
    status = status_of(model={"uri": "ftp://x"})
    assert status["model"] == {"phase": "Failed"}
    assert status["failure"]["reason"] == "UnsupportedURIScheme"
    assert status["failure"]["hint"]


def reasons(events: list[tuple[str, str, str]]) -> list[str]:
    return [reason for _, reason, _ in events]


async def test_each_transition_makes_one_event(bench: Bench) -> None:
    await bench.rest()
    assert reasons(bench.cluster.events) == ["Ready"]
    bench.cluster.events.clear()
    bench.edit(model=OTHER)
    await bench.until("Paused", 20)
    assert reasons(bench.cluster.events) == ["RolloutStarted", "Shifting", "RolloutPaused"]
    bench.cluster.events.clear()
    bench.edit(model={"uri": "s3://models/fraud/10"})
    await bench.until("Warming")
    assert reasons(bench.cluster.events) == ["RolloutDropped", "RolloutStarted"]
    for _, _, message in bench.cluster.events:
        assert "fraud-" in message


async def test_repeats_make_no_event(bench: Bench) -> None:
    await bench.rest()
    assert build_events(bench.status, bench.status) == []


def test_a_failure_makes_one_event_for_a_revision() -> None:
    revision = revision_of(model_deployment()).name
    crashed = {"name": "runtime", "restartCount": 1, "state": {"terminated": {"exitCode": 1}}}
    once = status_of(pod(revision, containerStatuses=[crashed]))
    (event,) = build_events({}, once)
    assert event[:2] == ("Warning", "ContainerCrashed")
    assert event[2].startswith(f"{revision}: container runtime ended")
    again = status_of(pod(revision, containerStatuses=[crashed | {"restartCount": 2}]))
    assert again["failure"] != once["failure"]
    assert build_events(once, again) == []


def test_a_spec_refused_in_other_words_is_another_event() -> None:
    once, again = status_of(model={"uri": "ftp://x"}), status_of(model={"uri": "nfs://x"})
    (event,) = build_events({}, once)
    assert event[1] == "UnsupportedURIScheme"
    assert event[2].startswith("spec.model.uri")
    assert reasons(build_events(once, again)) == ["UnsupportedURIScheme"]
    assert build_events(again, again) == []


def test_being_stuck_without_a_failure_is_an_event_too() -> None:
    status = status_of()
    late = [
        one | ({"status": "True", "reason": "ProgressDeadlineExceeded", "message": "late"}
               if one["type"] == "Stalled" else {})
        for one in status["conditions"]
    ]  # fmt: skip
    stuck = status | {"conditions": late}
    assert reasons(build_events(status, stuck)) == ["ProgressDeadlineExceeded"]
    assert build_events(stuck, stuck) == []
