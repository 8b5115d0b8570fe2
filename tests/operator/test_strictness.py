"""An exposure that nobody can provide: what is held back, and what goes on as before."""

import copy
from typing import Any

import pytest

from testkit.operator_cluster import Bench
from testkit.operator_objects import EXPOSED, QUICK, raw_model_deployment

UNMAPPED: dict[str, Any] = EXPOSED | {"ingressClassName": "other"}
STEPS = {"steps": [{"weight": 30, "bakeSeconds": 10}, {"weight": 100}], "probationSeconds": 0}
OTHER = {"uri": "s3://models/fraud/9"}


def bench_of(monkeypatch: pytest.MonkeyPatch, exposure: Any, rollout: Any = STEPS) -> Bench:
    return Bench(raw_model_deployment(exposure=exposure, rollout=rollout), monkeypatch)


def condition(bench: Bench, type_: str) -> tuple[str, str]:
    (found,) = [one for one in bench.status["conditions"] if one["type"] == type_]
    return found["status"], found["reason"]


def of_kind(bench: Bench, kind: str) -> list[Any]:
    return [raw for (one, _), raw in sorted(bench.cluster.objects.items()) if one == kind]


def refused(bench: Bench) -> bool:
    assert condition(bench, "FeaturesUnsupported") == ("True", "ProfileLimit")
    found = {condition(bench, type_) for type_ in ("RoutesReady", "Ready")}
    return found == {("False", "FeaturesUnsupported")}


async def test_a_new_object_gets_no_route_and_no_pods(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = bench_of(monkeypatch, UNMAPPED)
    await bench.rest()
    assert refused(bench)
    assert of_kind(bench, "Ingress") == of_kind(bench, "Deployment") == []
    assert bench.status["addresses"][0]["type"] == "Cluster"

    bench.edit(exposure=UNMAPPED | {"strict": False})
    await bench.rest()
    assert condition(bench, "Ready") == ("True", "Serving")
    assert condition(bench, "FeaturesUnsupported") == ("True", "ProfileLimit")
    (ingress,) = of_kind(bench, "Ingress")
    assert ingress["spec"]["ingressClassName"] == "other"


async def test_a_default_is_nobody_s_wish(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(raw_model_deployment(exposure=UNMAPPED), monkeypatch)
    await bench.rest()
    assert condition(bench, "Ready") == ("True", "Serving")
    assert condition(bench, "FeaturesUnsupported") == ("True", "ProfileLimit")


async def test_the_last_good_routes_stay_and_no_rollout_starts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bench = bench_of(monkeypatch, EXPOSED)
    await bench.rest()
    before = copy.deepcopy(of_kind(bench, "Ingress"))
    url, workloads = bench.status["url"], len(of_kind(bench, "Deployment"))
    bench.edit(exposure=UNMAPPED | {"hosts": ["elsewhere.example.com"]}, model=OTHER)
    await bench.rest()
    assert refused(bench)
    assert condition(bench, "Available")[0] == "True"
    assert of_kind(bench, "Ingress") == before
    assert len(of_kind(bench, "Deployment")) == workloads
    assert bench.status["url"] == url
    bench.restart()
    await bench.rest()
    assert of_kind(bench, "Ingress") == before

    bench.edit(exposure=EXPOSED)
    await bench.until("Analyzing", 30)
    await bench.rest()
    assert condition(bench, "Ready") == ("True", "Serving")


async def test_a_rollback_is_not_kept_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = bench_of(monkeypatch, EXPOSED)
    await bench.rest()
    stable = bench.status["stable"]["revision"]
    bench.edit(model=OTHER)
    await bench.until("Analyzing", 30)
    bench.edit(exposure=UNMAPPED)
    await bench.once()
    assert bench.state == "Analyzing"
    bench.annotate(f"abort@{bench.status['candidate']['revision']}#1")
    await bench.rest()
    assert bench.state == "RolledBack"
    ingress, _ = of_kind(bench, "Ingress")  # of HTTP, then of gRPC
    assert ingress["spec"]["ingressClassName"] == "nginx"
    (path,) = ingress["spec"]["rules"][0]["http"]["paths"]
    assert path["backend"]["service"]["name"] == stable


async def test_what_the_model_server_provides_does_not_wait(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bench = bench_of(monkeypatch, EXPOSED)
    await bench.rest()
    bench.edit(exposure=UNMAPPED | {"auth": {"type": "APIKey"}, "path": "/elsewhere"})
    await bench.rest()
    (directives,) = [
        raw
        for raw in of_kind(bench, "ConfigMap")
        if raw["metadata"]["name"].endswith("-directives")
    ]
    text = "".join(directives["data"].values())
    assert "APIKey" in text
    assert "elsewhere" not in text, "the route has not moved, so the pods must not either"


async def test_routes_from_before_anybody_took_note_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    """An operator that has never heard of `strict` has served what this one holds back."""
    bench = bench_of(monkeypatch, UNMAPPED | {"strict": False}, QUICK)
    await bench.rest()
    before = copy.deepcopy(of_kind(bench, "Ingress"))
    raw = copy.deepcopy(bench.cluster.objects["ModelDeployment", "fraud"])
    del raw["status"]["traffic"]["exposure"]
    del raw["spec"]["exposure"]["strict"]
    raw["metadata"]["generation"] += 1
    bench.put(raw)
    await bench.rest()
    assert refused(bench)
    assert of_kind(bench, "Ingress") == before
    assert condition(bench, "Available")[0] == "True"
