"""Variants beside a rollout, from edit to rest: who gets requests, and who still has pods."""

import json
from collections.abc import Collection
from datetime import timedelta
from typing import Any

import pytest

from modelyard_operator.resources import labels
from modelyard_operator.rollout.transitions import SETTLE
from testkit.operator_cluster import Bench, Clock
from testkit.operator_objects import (
    EXPOSED,
    accepted,
    model_deployment,
    pod,
    raw_model_deployment,
)

Manifest = dict[str, Any]

ENVOY = "gateway.envoyproxy.io/gatewayclass-controller"
REF = {"name": "public", "namespace": "infra"}
BEHIND = {"hosts": ["fraud.example.com"], "gatewayRef": REF, "dialect": "Gateway"}
STEPS = [{"weight": 25, "bakeSeconds": 10}, {"weight": 100}]
ROLLOUT = {"steps": STEPS, "probationSeconds": 0}
OTHER = {"uri": "s3://models/fraud/9"}
ROUTE = ("HTTPRoute", "fraud")


def variant(
    name: str = "b", weight: int = 10, uri: str = "s3://models/fraud/b", **more: Any
) -> Any:
    return {"name": name, "weight": weight, "model": {"uri": uri}, **more}


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Bench:
    raw = raw_model_deployment(
        exposure=BEHIND, rollout=ROLLOUT, replicas=2, variants=[variant(replicas=1)]
    )
    made = Bench(raw, monkeypatch)
    gateway = {"gatewayClassName": "eg", "listeners": [{"name": "http", "protocol": "HTTP"}]}
    for kind, name, spec in (
        ("Gateway", "public", gateway),
        ("GatewayClass", "eg", {"controllerName": ENVOY}),
    ):
        one = {"kind": kind, "metadata": {"name": name}, "spec": spec}
        made.cluster.objects[kind, name] = one
    return made


async def run(bench: Bench, seconds: float = 20, unready: Collection[str] = ()) -> None:
    """Let time pass; pods come up, but for those of some revisions."""
    end = Clock.at + timedelta(seconds=seconds)
    keep(bench, unready)
    for _ in range(200):
        delay = await bench.once()
        keep(bench, unready)
        if delay is None or Clock.at + timedelta(seconds=delay) > end:
            Clock.at = end
            return
        Clock.at += timedelta(seconds=delay)
    raise AssertionError("too many passes")


def keep(bench: Bench, unready: Collection[str]) -> None:
    bench.start_pods()
    for kind, name in list(bench.cluster.objects):
        revision = name.rpartition("-")[0]
        if kind == "Pod" and revision in unready:
            bench.put(pod(revision, name, ready=False, podIP=f"10.0.0.{name}"))


def shares(bench: Bench) -> dict[str, int]:
    rule, _ = bench.cluster.objects[ROUTE]["spec"]["rules"]
    return {ref["name"]: ref["weight"] for ref in rule["backendRefs"]}


def of(bench: Bench, name: str = "b") -> Manifest:
    (found,) = [one for one in bench.status["variants"] if one["name"] == name]
    return dict(found)


def condition(bench: Bench, type_: str) -> tuple[str, str, str]:
    (found,) = [one for one in bench.status["conditions"] if one["type"] == type_]
    return found["status"], found["reason"], found["message"]


def live(bench: Bench, kind: str = "Deployment") -> set[str]:
    return {name for known, name in bench.cluster.objects if known == kind}


def test_a_view_has_a_model_of_its_own_and_all_else_of_the_whole() -> None:
    golden = {"requests": [{"configMapName": "golden", "key": "a.json"}]}
    owner = model_deployment(
        replicas=3,
        model={
            "uri": "s3://a",
            "version": "8",
            "digest": f"sha256:{'0' * 64}",
            "format": "ONNX",
            "endpointURL": "https://minio:9000",
            "name": "score",
        },
        runtime={"device": "CPU"},
        rollout={"verification": golden},
        variants=[variant(uri="s3://b"), variant("c", 10, "https://b", replicas=2)],
    )
    b, c = (owner.view_of(one) for one in owner.spec.variants)
    assert b.variant == "b"
    assert (b.spec.model.uri, b.spec.model.version, b.spec.model.digest) == ("s3://b", None, None)
    assert (b.spec.model.format, b.served_name) == ("ONNX", "score")
    assert b.spec.model.endpoint_url == "https://minio:9000"
    assert c.spec.model.endpoint_url is None, "only S3 has one"
    assert b.spec.runtime == owner.spec.runtime
    assert b.spec.rollout.verification is None
    assert (b.spec.floor, c.spec.floor) == (3, 2)


async def test_a_variant_takes_its_share_and_the_rollout_divides_the_rest(bench: Bench) -> None:
    await run(bench)
    stable, b = bench.status["stable"]["revision"], of(bench)["revision"]
    assert shares(bench) == {stable: 900, b: 100}
    assert condition(bench, "Ready")[:2] == ("True", "Serving")
    for kind in ("Service", "PodDisruptionBudget", "ControllerRevision"):
        assert b in live(bench, kind)
    seen = of(bench)
    assert (seen["weight"], seen["replicas"], seen["readyReplicas"]) == (10, 1, 1)
    assert bench.status["traffic"]["observedWeights"] == [{"revision": stable, "weight": 100}]

    bench.edit(model=OTHER)
    await bench.until("Analyzing", 25)
    candidate = bench.status["candidate"]["revision"]
    assert shares(bench) == {stable: 675, candidate: 225, b: 100}
    assert list(shares(bench)) == [stable, candidate, b]
    assert bench.status["candidate"]["weight"] == 25
    assert of(bench)["weight"] == 10
    await run(bench, 60)
    assert bench.status["stable"]["revision"] == candidate
    assert shares(bench) == {candidate: 900, b: 100}
    assert live(bench) == {candidate, b}


async def test_a_variant_of_the_same_model_is_a_revision_of_its_own(bench: Bench) -> None:
    same = "s3://models/fraud/8"
    bench.edit(model={"uri": same}, variants=[variant("b", 10, same), variant("c", 20, same)])
    await run(bench)
    names = [bench.status["stable"]["revision"], *(of(bench, one)["revision"] for one in "bc")]
    assert len(set(names)) == 3
    assert shares(bench) == dict(zip(names, (700, 100, 200), strict=True))
    for name, expected in zip(names, (None, "b", "c"), strict=True):
        template = bench.cluster.objects["Deployment", name]["spec"]["template"]
        assert template["metadata"]["labels"].get(labels.VARIANT) == expected


async def test_a_variant_without_a_ready_pod_gets_nothing(bench: Bench) -> None:
    await bench.once()
    b = of(bench)["revision"]
    await run(bench, unready=[b])
    stable = bench.status["stable"]["revision"]
    assert shares(bench) == {stable: 1000}
    assert condition(bench, "Ready") == (
        "False",
        "VariantNotReady",
        f"variant b: {b}: 0 of 1 pods are ready; its share goes to the others",
    )
    assert condition(bench, "Available")[0] == "True"
    assert of(bench)["message"] == f"{b}: 0 of 1 pods are ready; its share goes to the others"
    await run(bench)
    assert shares(bench) == {stable: 900, b: 100}
    assert "message" not in of(bench)
    keep(bench, [b])
    await bench.once()
    assert shares(bench) == {stable: 1000}, "at once"
    assert (of(bench)["weight"], of(bench)["readyReplicas"]) == (10, 0), "as the route was seen"


async def test_an_edited_variant_serves_until_its_successor_is_complete(bench: Bench) -> None:
    bench.edit(variants=[variant(replicas=2)])
    await run(bench)
    stable, before = bench.status["stable"]["revision"], of(bench)["revision"]
    bench.edit(variants=[variant(uri="s3://models/fraud/b2", replicas=2)])
    await bench.once()
    (after,) = live(bench) - {stable, before}
    for name in (f"{after}-0", f"{after}-1"):
        bench.put(pod(after, name, ready=name.endswith("0"), podIP=f"10.0.0.{name}"))
        await bench.once()
    assert shares(bench) == {stable: 900, before: 100}
    assert of(bench)["message"] == f"{after}: 1 of 2 pods are ready; {before} serves"
    bench.start_pods()
    await bench.once()
    assert shares(bench) == {stable: 900, after: 100}
    moved = Clock.at
    while before in live(bench):
        assert bench.cluster.objects["Deployment", before]["spec"]["replicas"] == 2
        delay = await bench.once()
        Clock.at += timedelta(seconds=delay or 0)
    assert moved + SETTLE <= Clock.at < moved + 2 * SETTLE
    assert before not in live(bench, "Service") | live(bench, "ControllerRevision")
    assert of(bench)["revision"] == after


async def test_a_removed_variant_leaves_the_route_before_its_pods_go(bench: Bench) -> None:
    await run(bench)
    stable, b = bench.status["stable"]["revision"], of(bench)["revision"]
    bench.cluster.writes.clear()
    bench.edit(variants=[])
    await run(bench)
    assert live(bench) == {stable}
    assert shares(bench) == {stable: 1000}
    written = [(verb, kind) for verb, kind, _ in bench.cluster.writes if verb != "status"]
    assert written[0] == ("apply", "HTTPRoute")
    assert {verb for verb, _ in written[1:]} == {"delete"}
    assert "variants" not in bench.status
    assert b not in live(bench, "Service")


async def test_no_pod_goes_before_the_gateway_has_let_go(bench: Bench) -> None:
    await run(bench)
    b = of(bench)["revision"]
    bench.cluster.accepts = None
    bench.edit(variants=[])
    await run(bench, 60)
    assert b not in shares(bench)
    assert b in live(bench)
    bench.put(accepted(bench.cluster.objects[ROUTE]))
    await run(bench)
    assert b not in live(bench)


async def test_the_rollout_is_recovered_from_a_route_with_variants(bench: Bench) -> None:
    await run(bench)
    stable, b = bench.status["stable"]["revision"], of(bench)["revision"]
    raw = bench.cluster.objects["ModelDeployment", "fraud"]
    raw["status"] = {}
    bench.put(raw)
    bench.cluster.writes.clear()
    await run(bench)
    assert bench.status["stable"]["revision"] == stable
    assert bench.state == "Idle"
    assert shares(bench) == {stable: 900, b: 100}
    assert {kind for verb, kind, _ in bench.cluster.writes if verb != "status"} == set()


async def test_a_lost_record_is_no_reason_to_touch_pods(bench: Bench) -> None:
    await run(bench)
    b = of(bench)["revision"]
    bench.store.remove(bench.cluster.objects.pop(("ControllerRevision", b)))
    broken = variant(uri="ftp://b")
    bench.edit(variants=[broken])
    await run(bench, 60)
    assert {b} < shares(bench).keys()
    assert b in live(bench)
    assert of(bench)["message"].startswith(
        "spec.variants[b].model.uri: expected one of the schemes"
    )
    assert condition(bench, "Ready")[1] == "VariantNotReady"


async def test_suspension_is_for_variants_too(bench: Bench) -> None:
    await run(bench)
    bench.edit(suspend=True)
    await run(bench)
    assert live(bench) == set()
    assert "variants" not in bench.status
    bench.edit(suspend=False, replicas=0)
    await run(bench)
    assert condition(bench, "Ready")[1] == "ScaledToZero"
    b = of(bench)["revision"]
    assert bench.cluster.objects["Deployment", b]["spec"]["replicas"] == 0
    assert b not in shares(bench)


async def test_behind_an_ingress_none_runs_and_status_says_so(bench: Bench) -> None:
    bench.edit(exposure={**EXPOSED, "strict": False})
    await run(bench)
    assert live(bench) == {bench.status["stable"]["revision"]}
    assert condition(bench, "Ready")[:2] == ("True", "Serving")
    status, _, message = condition(bench, "FeaturesUnsupported")
    assert status == "True"
    assert "variants: the profile traefik-nginx does not have it; none of them runs" in message
    assert "variants" not in bench.status


async def test_what_is_strict_is_held_back_and_production_goes_on(bench: Bench) -> None:
    await run(bench)
    stable, b = bench.status["stable"]["revision"], of(bench)["revision"]
    bench.cluster.writes.clear()
    bench.edit(exposure={**EXPOSED, "dialect": "Ingress"})
    await run(bench)
    assert shares(bench) == {stable: 900, b: 100}
    assert condition(bench, "Ready")[:2] == ("False", "FeaturesUnsupported")
    assert {kind for verb, kind, _ in bench.cluster.writes if verb != "status"} == set()


async def test_a_change_to_ingress_takes_the_variant_off_the_route_first(bench: Bench) -> None:
    await run(bench)
    stable, b = bench.status["stable"]["revision"], of(bench)["revision"]
    bench.edit(exposure={**EXPOSED, "dialect": "Ingress", "strict": False})
    await bench.once()
    assert shares(bench) == {stable: 1000}
    assert b in live(bench)
    await run(bench, 60)
    assert live(bench) == {stable}
    assert live(bench, "HTTPRoute") == set()


async def test_an_autoscaled_variant_keeps_the_size_it_has_grown_to(bench: Bench) -> None:
    scaling = {"maxReplicas": 8, "metrics": [{"type": "Resource", "resource": "cpu", "target": 70}]}
    raw = bench.cluster.objects["ModelDeployment", "fraud"]
    del raw["spec"]["replicas"]
    bench.edit(scaling=scaling, variants=[variant()])
    await run(bench)
    before = of(bench)["revision"]
    grown = bench.cluster.objects["Deployment", before]
    grown["spec"]["replicas"] = 4
    bench.put(grown)
    bench.start_pods()
    bench.edit(variants=[variant(uri="s3://models/fraud/b2")])
    await bench.once()
    (after,) = live(bench) - {before, bench.status["stable"]["revision"]}
    autoscalers = {
        name: bench.cluster.objects["HorizontalPodAutoscaler", name]["spec"]
        for name in (before, after)
    }
    assert autoscalers[after]["minReplicas"] == 4
    assert autoscalers[before]["minReplicas"] == 4
    assert autoscalers[before]["behavior"]["scaleDown"]["selectPolicy"] == "Disabled"
    grown = bench.cluster.objects["Deployment", after]
    grown["spec"]["replicas"] = 4
    bench.put(grown)
    await run(bench)
    assert live(bench) == {after, bench.status["stable"]["revision"]}
    assert bench.cluster.objects["HorizontalPodAutoscaler", after]["spec"]["minReplicas"] == 1


async def test_a_variant_is_compared_with_stable(bench: Bench) -> None:
    bench.edit(replicas=1, variants=[variant(), variant("c", 20)])
    await run(bench, 40)
    stable, b = bench.status["stable"]["revision"], of(bench)["revision"]
    (ours,), (theirs,) = bench.pods.of(stable), bench.pods.of(b)
    ours.count(good=900, bad=1)
    theirs.count(good=80, bad=20)
    await run(bench, 40)
    seen = of(bench)["comparison"]
    assert seen["stable"] == stable
    by_name = {one["metric"]: one for one in seen["metrics"]}
    assert by_name["errors"]["stable"] == {"n": 901, "bad": 1}
    assert by_name["errors"]["variant"] == {"n": 100, "bad": 20}
    assert float(by_name["errors"]["eValue"]) > 20
    assert float(by_name["rejected"]["eValue"]) == 1
    assert of(bench, "c")["comparison"]["metrics"][0]["variant"] == {"n": 0, "bad": 0}
    assert condition(bench, "Ready")[0] == "True", "figures decide nothing"
    assert bench.state == "Idle"
    assert len(json.dumps(bench.status)) < 16 * 1024

    bench.restart()
    theirs.count(good=50)
    await run(bench, 10)
    theirs.count(good=50)
    await run(bench, 40)
    again = {one["metric"]: one for one in of(bench)["comparison"]["metrics"]}
    assert again["errors"]["variant"] == {"n": 150, "bad": 20}, (
        "one interval is lost, none invented"
    )

    bench.edit(model=OTHER)
    await run(bench, 90)
    after = bench.status["stable"]["revision"]
    assert after != stable
    assert of(bench)["comparison"]["stable"] == after
    assert of(bench)["comparison"]["since"] > seen["since"]


async def test_pods_that_do_not_answer_leave_the_figures_as_they_are(bench: Bench) -> None:
    await run(bench, 40)
    bench.pods.mute = True
    before = of(bench)["comparison"]
    await run(bench, 40)
    assert of(bench)["comparison"] == before
