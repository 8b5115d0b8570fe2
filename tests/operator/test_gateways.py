"""A model behind a Gateway: what is asked of the API server, and a rollout from edit to rest."""

from typing import Any

import pytest

from modelyard_operator.errors import ClusterError, ClusterForbiddenError
from modelyard_operator.gateways import KEPT, RETRY
from testkit.operator_cluster import Bench, Clock
from testkit.operator_objects import EXPOSED, accepted, raw_model_deployment

Manifest = dict[str, Any]

ENVOY = "gateway.envoyproxy.io/gatewayclass-controller"
REF = {"name": "public", "namespace": "infra"}
BEHIND = {"hosts": ["fraud.example.com"], "gatewayRef": REF, "dialect": "Gateway"}
ROLLOUT = {"steps": [{"weight": 50, "bakeSeconds": 10}, {"weight": 100}], "probationSeconds": 0}
OTHER = {"uri": "s3://models/fraud/9"}
ROUTE = ("HTTPRoute", "fraud")
POLICY = ("BackendTrafficPolicy", "fraud")


def gateway(*protocols: str) -> Manifest:
    listeners = [{"name": one.lower(), "protocol": one} for one in protocols]
    spec = {"gatewayClassName": "eg", "listeners": listeners}
    return {"kind": "Gateway", "metadata": {"name": "public"}, "spec": spec}


def gateway_class(controller: str = ENVOY, *features: str) -> Manifest:
    status = {"supportedFeatures": [{"name": one} for one in features]}
    spec = {"controllerName": controller}
    return {"kind": "GatewayClass", "metadata": {"name": "eg"}, "spec": spec, "status": status}


def bench_of(monkeypatch: pytest.MonkeyPatch, *objects: Manifest, **exposure: Any) -> Bench:
    raw = raw_model_deployment(exposure=BEHIND | exposure, rollout=ROLLOUT)
    made = Bench(raw, monkeypatch)
    for one in objects:
        made.cluster.objects[one["kind"], one["metadata"]["name"]] = one
    return made


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Bench:
    return bench_of(monkeypatch, gateway("HTTP"), gateway_class())


def condition(bench: Bench, type_: str) -> tuple[str, str]:
    (found,) = [one for one in bench.status["conditions"] if one["type"] == type_]
    return found["status"], found["reason"]


def refs(bench: Bench) -> list[tuple[str, int]]:
    rule, grpc = bench.cluster.objects[ROUTE]["spec"]["rules"]
    assert (rule["name"], grpc["name"]) == ("main", "grpc-main")
    return [(ref["name"], ref["weight"]) for ref in rule["backendRefs"]]  # per mille


def routes_written(bench: Bench) -> list[tuple[str, str]]:
    kinds = {"HTTPRoute", "BackendTrafficPolicy", "Ingress"}
    return [(verb, kind) for verb, kind, _ in bench.cluster.writes if kind in kinds]


async def test_a_model_becomes_ready_behind_a_gateway(bench: Bench) -> None:
    await bench.rest()
    assert condition(bench, "Ready") == ("True", "Serving")
    assert condition(bench, "RoutesReady") == ("True", "Confirmed")
    assert condition(bench, "FeaturesUnsupported")[0] == "False"
    assert refs(bench) == [(bench.status["stable"]["revision"], 1000)]
    traffic = bench.status["traffic"]
    assert (traffic["dialect"], traffic["profile"]) == ("Gateway", "envoy-gateway")
    assert routes_written(bench) == [("apply", "BackendTrafficPolicy"), ("apply", "HTTPRoute")]
    bench.cluster.writes.clear()
    bench.restart()
    assert await bench.once() is None
    assert bench.cluster.writes == []


async def test_an_edit_moves_one_route_and_leaves_one_backend(bench: Bench) -> None:
    await bench.rest()
    first = bench.status["stable"]["revision"]
    bench.cluster.writes.clear()
    bench.edit(model=OTHER)
    await bench.until("Analyzing", 50)
    second = bench.status["candidate"]["revision"]
    assert refs(bench) == [(first, 500), (second, 500)]
    assert bench.status["stable"]["weight"] == bench.status["candidate"]["weight"] == 50
    await bench.until("Analyzing", 100)
    assert refs(bench) == [(first, 0), (second, 1000)]
    await bench.rest()
    assert bench.status["stable"]["revision"] == second
    assert refs(bench) == [(second, 1000)]
    assert routes_written(bench) == [("apply", "HTTPRoute")] * 3
    assert [name for kind, name in bench.cluster.objects if kind == "Deployment"] == [second]


async def test_a_rejected_edit_is_taken_back_in_one_write(bench: Bench) -> None:
    await bench.rest()
    first = bench.status["stable"]["revision"]
    bench.edit(model=OTHER)
    await bench.until("Analyzing", 50)
    bench.cluster.writes.clear()
    bench.annotate(f"abort@{bench.status['candidate']['revision']}#1")
    await bench.rest()
    assert refs(bench) == [(first, 1000)]
    assert routes_written(bench) == [("apply", "HTTPRoute")]
    assert bench.state == "RolledBack"


async def test_no_weight_counts_before_the_gateway_has_it(bench: Bench) -> None:
    """And a candidate that is left keeps its pods until the Gateway has let go of it."""
    await bench.rest()
    bench.edit(model=OTHER)
    bench.cluster.accepts = None
    await bench.until("Shifting", 50)
    for _ in range(5):
        Clock.at += RETRY
        await bench.once()
    assert bench.state == "Shifting"
    assert condition(bench, "RoutesReady") == ("False", "RouteNotAccepted")
    candidate = bench.status["candidate"]["revision"]
    bench.annotate(f"abort@{candidate}#1")
    for _ in range(5):
        Clock.at += RETRY
        await bench.once()
    assert bench.state == "RollingBack"
    assert ("Deployment", candidate) in bench.cluster.objects
    bench.put(accepted(bench.cluster.objects[ROUTE]))
    await bench.rest()
    assert bench.state == "RolledBack"
    assert (
        bench.cluster.objects["Deployment", candidate]["spec"]["replicas"] == 0
        if (("Deployment", candidate) in bench.cluster.objects)
        else True
    )


async def test_promotion_waits_for_the_gateway(bench: Bench) -> None:
    await bench.rest()
    first = bench.status["stable"]["revision"]
    bench.edit(model=OTHER)
    await bench.until("Analyzing", 100)
    bench.cluster.accepts = None
    await bench.until("Promoting")
    for _ in range(5):
        Clock.at += RETRY
        await bench.once()
    assert bench.state == "Promoting"
    assert bench.cluster.objects["Deployment", first]["spec"]["replicas"] == 1
    bench.put(accepted(bench.cluster.objects[ROUTE]))
    await bench.rest()
    assert bench.state == "Idle"


async def test_a_refused_route_is_not_ready(bench: Bench) -> None:
    bench.cluster.accepts = False
    await bench.until("Idle")
    await bench.once()
    assert condition(bench, "RoutesReady") == ("False", "RouteNotAccepted")
    assert condition(bench, "Ready") == ("False", "RouteNotAccepted")


async def test_without_the_gateway_api_nothing_is_written_and_it_is_said(bench: Bench) -> None:
    bench.store.absent = frozenset({"HTTPRoute", "BackendTrafficPolicy"})
    await bench.until("Idle")
    await bench.once()
    assert condition(bench, "RoutesReady") == ("False", "GatewayAPIMissing")
    assert condition(bench, "Ready") == ("False", "GatewayAPIMissing")
    assert routes_written(bench) == []
    assert bench.cluster.questions == []


async def test_a_proxy_without_its_own_kinds_is_said(bench: Bench) -> None:
    bench.store.absent = frozenset({"BackendTrafficPolicy"})
    await bench.until("Idle")
    await bench.once()
    assert condition(bench, "RoutesReady") == ("False", "GatewayAPIMissing")


async def test_what_cannot_be_listed_any_more_takes_no_route_along(bench: Bench) -> None:
    await bench.rest()
    bench.cluster.objects.pop(POLICY)
    bench.restart()
    bench.store.absent = frozenset({"BackendTrafficPolicy"})
    await bench.rest()
    assert condition(bench, "RoutesReady") == ("False", "GatewayAPIMissing")
    assert ROUTE in bench.cluster.objects


async def test_an_edit_that_drops_the_gateway_takes_no_route_along(bench: Bench) -> None:
    await bench.rest()
    bench.edit(exposure={"hosts": BEHIND["hosts"], "dialect": "Gateway"})
    await bench.rest()
    assert condition(bench, "RoutesReady") == ("False", "GatewayNotNamed")
    assert {ROUTE, POLICY} <= set(bench.cluster.objects)


async def test_a_route_does_not_move_to_a_gateway_that_is_not_there(bench: Bench) -> None:
    await bench.rest()
    bench.edit(exposure=BEHIND | {"gatewayRef": {"name": "nowhere"}})
    while await bench.once() == 0:
        pass
    assert condition(bench, "RoutesReady") == ("False", "GatewayNotFound")
    assert condition(bench, "Ready") == ("False", "GatewayNotFound")
    assert bench.cluster.objects[ROUTE]["spec"]["parentRefs"] == [REF]
    bench.cluster.objects["Gateway", "nowhere"] = gateway("HTTP")
    Clock.at += RETRY
    await bench.rest()
    assert bench.cluster.objects[ROUTE]["spec"]["parentRefs"] == [{"name": "nowhere"}]


async def test_a_gateway_that_comes_later_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = bench_of(monkeypatch, gateway_class())
    await bench.until("Idle")
    while (delay := await bench.once()) == 0:
        pass
    assert delay == pytest.approx(RETRY.total_seconds())
    assert condition(bench, "RoutesReady") == ("False", "GatewayNotFound")
    bench.cluster.objects["Gateway", "public"] = gateway("HTTP")
    await bench.rest()
    assert condition(bench, "Ready") == ("True", "Serving")
    assert POLICY in bench.cluster.objects


async def test_a_gateway_that_goes_takes_no_route_along(bench: Bench) -> None:
    await bench.rest()
    bench.cluster.objects.pop(("Gateway", "public"))
    Clock.at += KEPT
    await bench.once()
    assert condition(bench, "RoutesReady") == ("False", "GatewayNotFound")
    assert bench.status["traffic"]["profile"] == "envoy-gateway"
    assert {ROUTE, POLICY} <= set(bench.cluster.objects)


async def test_an_answer_counts_for_a_minute(bench: Bench) -> None:
    await bench.rest()
    assert bench.cluster.questions.count("Gateway infra/public") == 1
    Clock.at += KEPT
    await bench.once()
    assert bench.cluster.questions.count("Gateway infra/public") == 2


async def test_an_api_server_that_does_not_answer_changes_nothing(bench: Bench) -> None:
    await bench.rest()
    bench.cluster.writes.clear()
    Clock.at += KEPT
    bench.cluster.failing["read", "Gateway"] = ClusterError("no answer")
    with pytest.raises(ClusterError):
        await bench.once()
    assert bench.cluster.writes == []


@pytest.mark.parametrize("kind", ["Gateway", "GatewayClass"])
async def test_who_may_not_look_uses_the_core_alone(bench: Bench, kind: str) -> None:
    bench.cluster.failing["read", kind] = ClusterForbiddenError("not yours")
    await bench.rest()
    assert bench.status["traffic"]["profile"] == "generic"
    assert POLICY not in bench.cluster.objects
    assert condition(bench, "FeaturesUnsupported")[0] == "True"


@pytest.mark.parametrize(
    ("controller", "profile"),
    [(ENVOY, "envoy-gateway"), ("traefik.io/gateway-controller", "traefik"), ("x/y", "generic")],
)
async def test_the_class_tells_the_profile(
    monkeypatch: pytest.MonkeyPatch, controller: str, profile: str
) -> None:
    bench = bench_of(monkeypatch, gateway("HTTP"), gateway_class(controller))
    await bench.rest()
    assert bench.status["traffic"]["profile"] == profile
    assert (POLICY in bench.cluster.objects) is (profile == "envoy-gateway")


async def test_what_a_class_says_it_has_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    features = ("HTTPRouteRequestTimeout",)
    bench = bench_of(monkeypatch, gateway("HTTP"), gateway_class("x/y", *features))
    await bench.rest()
    (rule,) = bench.cluster.objects[ROUTE]["spec"]["rules"]
    assert rule["timeouts"] == {"request": "0s"}


@pytest.mark.parametrize(
    ("section", "scheme"), [(None, "https"), ("http", "http"), ("https", "https")]
)
async def test_the_address_is_that_of_the_listener(
    monkeypatch: pytest.MonkeyPatch, section: str | None, scheme: str
) -> None:
    ref = REF if section is None else {**REF, "sectionName": section}
    seen = bench_of(monkeypatch, gateway("HTTP", "HTTPS"), gateway_class(), gatewayRef=ref)
    await seen.rest()
    assert seen.status["url"] == f"{scheme}://fraud.example.com/"


@pytest.mark.parametrize(
    ("controller", "features", "allowed", "taken"),
    [
        (ENVOY, (), "All", True),
        (ENVOY, (), "Selector", True),
        (ENVOY, (), "Same", False),
        (ENVOY, (), None, False),
        ("x/y", ("ListenerSet",), "All", True),
        ("x/y", (), "All", False),
    ],
)
async def test_who_may_add_listeners_is_the_gateway_s_to_say(
    monkeypatch: pytest.MonkeyPatch,
    controller: str,
    features: tuple[str, ...],
    *,
    allowed: str | None,
    taken: bool,
) -> None:
    opens = gateway("HTTP")
    if allowed is not None:
        opens["spec"]["allowedListeners"] = {"namespaces": {"from": allowed}}
    classed = gateway_class(controller, *features)
    bench = bench_of(monkeypatch, opens, classed, tls={"secretName": "fraud-tls"})
    await bench.rest()
    assert (("ListenerSet", "fraud") in bench.cluster.objects) is taken
    (said,) = [one for one in bench.status["conditions"] if one["type"] == "FeaturesUnsupported"]
    assert ("exposure.tls" in said["message"]) is not taken
    assert bench.status["url"].startswith("https://" if taken else "http://")


@pytest.mark.parametrize("back", [False, True])
async def test_a_change_of_dialect_keeps_what_serves_until_the_new_is_confirmed(
    bench: Bench,
    back: bool,  # noqa: FBT001
) -> None:
    there, here = ({"Ingress"}, {"HTTPRoute", "BackendTrafficPolicy"})
    exposures = [EXPOSED | {"dialect": "Ingress"}, BEHIND]
    if back:
        there, here = here, there
        exposures.reverse()
    bench.edit(exposure=exposures[0])
    await bench.rest()
    assert kinds(bench) == there
    bench.edit(exposure=exposures[1])
    while await bench.once() == 0:
        assert kinds(bench) >= there
    assert kinds(bench) == there | here
    assert condition(bench, "RoutesReady") == ("False", "DialectChanging")
    assert condition(bench, "Ready")[0] == "False"
    await bench.rest()
    assert kinds(bench) == here
    assert condition(bench, "Ready") == ("True", "Serving")


async def test_a_gateway_that_refuses_leaves_the_ingress_in_place(bench: Bench) -> None:
    bench.edit(exposure=EXPOSED)
    await bench.rest()
    bench.cluster.accepts = False
    bench.edit(exposure=BEHIND, model=OTHER)
    await bench.until("Analyzing", 50)
    assert "Ingress" in kinds(bench)
    assert bench.status["traffic"]["dialect"] == "Ingress"
    assert condition(bench, "RoutesReady") == ("False", "RouteNotAccepted")
    assert refs(bench)[1][1] == 500, "both follow the rollout"


def kinds(bench: Bench) -> set[str]:
    routes = {"Ingress", "HTTPRoute", "BackendTrafficPolicy"}
    return {kind for kind, _ in bench.cluster.objects} & routes
