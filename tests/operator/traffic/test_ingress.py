import json
from dataclasses import replace
from typing import Any

import pytest

from modelyard_operator.rollout.routing import Backends
from modelyard_operator.traffic.dialects import render_routes
from modelyard_operator.traffic.ingress import backend_of, canary_weight_of, read_ingresses
from modelyard_operator.traffic.legs import Leg
from modelyard_operator.traffic.plan import GRPC_SERVICES, LiveRoutes, TrafficPlan
from modelyard_operator.traffic.proxy import Proxy, resolve_proxy
from testkit.operator_objects import EXPOSED, by_kind, model_deployment, operator_settings

PREFIX = "nginx.ingress.kubernetes.io/"
PAIR = Backends("fraud-a", "fraud-b", 25)


def render(backends: Backends, **exposure: Any) -> list[dict[str, Any]]:
    owner = model_deployment(exposure=EXPOSED | exposure)
    proxy = resolve_proxy(owner.spec.exposure, operator_settings())
    return render_routes(owner, TrafficPlan(owner.spec.exposure, proxy, backends))


def test_the_pair_has_the_same_rules_to_the_letter() -> None:
    hosts = ["a.x", "b.x"]
    primary, canary = render(PAIR, hosts=hosts, path="/m", tls={"secretName": "s"})
    assert (backend_of(primary), backend_of(canary)) == ("fraud-a", "fraud-b")
    text = json.dumps(canary["spec"]).replace('"fraud-b"', '"fraud-a"')
    assert json.dumps(primary["spec"]) == text
    assert [rule["host"] for rule in primary["spec"]["rules"]] == hosts
    assert primary["spec"]["tls"] == [{"hosts": hosts, "secretName": "s"}]
    assert primary["spec"]["ingressClassName"] == "nginx"


def test_the_canary_carries_the_weight_and_nothing_else() -> None:
    primary, canary, *_ = render(PAIR, annotations={"example.com/team": "risk"})
    assert canary["metadata"]["annotations"] == {
        f"{PREFIX}canary": "true",
        f"{PREFIX}canary-weight": "25",
    }
    assert canary_weight_of(canary) == 25
    assert canary_weight_of(primary) == 0
    assert primary["metadata"]["annotations"] == {
        "example.com/team": "risk",
        f"{PREFIX}proxy-read-timeout": "300",
        f"{PREFIX}proxy-send-timeout": "300",
        f"{PREFIX}proxy-next-upstream": "error",
        f"{PREFIX}proxy-next-upstream-tries": "2",
        f"{PREFIX}proxy-body-size": "33554432",
        f"{PREFIX}proxy-request-buffering": "on",
        f"{PREFIX}proxy-buffering": "off",
    }


def test_testers_reach_the_canary_by_a_header() -> None:
    match = [{"header": {"name": "X-Canary", "value": "always"}}]
    owner = model_deployment(exposure=EXPOSED, rollout={"match": match})
    proxy = resolve_proxy(owner.spec.exposure, operator_settings())
    plan = TrafficPlan(owner.spec.exposure, proxy, PAIR, match=owner.spec.rollout.match)
    primary, canary, _, of_grpc = render_routes(owner, plan)
    annotations = canary["metadata"]["annotations"]
    assert of_grpc["metadata"]["annotations"] == annotations
    assert annotations[f"{PREFIX}canary-by-header"] == "X-Canary"
    assert annotations[f"{PREFIX}canary-by-header-value"] == "always"
    assert annotations[f"{PREFIX}canary-weight"] == "25"
    assert not any("canary" in key for key in primary["metadata"]["annotations"])


@pytest.mark.parametrize(
    ("rollout", "cookie"),
    [
        ({"stickiness": {}}, "modelyard-revision-b"),
        ({"match": [{"cookie": {"name": "tester", "value": "always"}}]}, "tester"),
        ({"match": [{"cookie": {"name": "tester", "value": "b"}}]}, None),
        (
            {"stickiness": {}, "match": [{"cookie": {"name": "tester", "value": "always"}}]},
            "tester",
        ),
    ],
)
def test_a_cookie_leads_to_the_canary(rollout: Any, cookie: str | None) -> None:
    owner = model_deployment(exposure=EXPOSED, rollout=rollout)
    proxy = resolve_proxy(owner.spec.exposure, operator_settings())
    asked = owner.spec.rollout
    plan = TrafficPlan(owner.spec.exposure, proxy, PAIR, asked.match, stickiness=asked.stickiness)
    _, canary, _, of_grpc = render_routes(owner, plan)
    for one in (canary, of_grpc):
        assert one["metadata"]["annotations"].get(f"{PREFIX}canary-by-cookie") == cookie


def test_a_request_that_was_sent_is_not_repeated() -> None:
    """Both proxies repeat a POST that was sent only where ``non_idempotent`` is listed."""
    primary, grpc = render(Backends("fraud-a"))
    for one in (primary, grpc):
        annotations = one["metadata"]["annotations"]
        assert annotations[f"{PREFIX}proxy-next-upstream"] == "error"
        assert annotations[f"{PREFIX}proxy-next-upstream-tries"] == "2"


def test_limits_reach_the_proxy() -> None:
    primary, grpc = render(Backends("fraud-a"), timeoutSeconds=7, maxBodyBytes=9)
    annotations = primary["metadata"]["annotations"]
    assert annotations[f"{PREFIX}proxy-read-timeout"] == "7"
    assert annotations[f"{PREFIX}proxy-send-timeout"] == "7"
    assert annotations[f"{PREFIX}proxy-body-size"] == "9"
    for name in ("proxy-read-timeout", "proxy-send-timeout"):
        assert grpc["metadata"]["annotations"][PREFIX + name] == "7"


def test_grpc_has_a_pair_of_its_own() -> None:
    annotations = {f"{PREFIX}limit-rps": "5", "cert-manager.io/issuer": "ca"}
    made = render(PAIR, annotations=annotations, tls={"secretName": "s"})
    http, http_canary, grpc, canary = made
    assert [one["metadata"]["name"] for one in made] == [
        *("fraud", "fraud-canary", "fraud.grpc", "fraud.grpc-canary")
    ]
    assert canary["metadata"]["annotations"] == http_canary["metadata"]["annotations"]
    text = json.dumps(canary["spec"]).replace('"fraud-b"', '"fraud-a"')
    assert json.dumps(grpc["spec"]) == text
    (rule,) = grpc["spec"]["rules"]
    assert [one["path"] for one in rule["http"]["paths"]] == [*GRPC_SERVICES]
    assert {one["backend"]["service"]["port"]["number"] for one in rule["http"]["paths"]} == {8081}
    assert grpc["spec"]["tls"] == http["spec"]["tls"]
    said = grpc["metadata"]["annotations"]
    assert said[f"{PREFIX}backend-protocol"] == "GRPC"
    # A stream is one body: whoever gathered it would never pass it on.
    assert said[f"{PREFIX}proxy-request-buffering"] == "off"
    assert said[f"{PREFIX}proxy-body-size"] == "0"
    assert said[f"{PREFIX}limit-rps"] == "5"
    assert "cert-manager.io/issuer" not in said


def test_a_pair_counts_once_the_other_follows() -> None:
    """A crash between two writes is seen, and no pods go on the word of one pair."""
    old, new = (by_kind(render(Backends("fraud-a", "fraud-b", weight))) for weight in (25, 50))
    assert read_ingresses("fraud", new) == LiveRoutes(
        Backends("fraud-a", "fraud-b", 50), written_for={"ingress_class_name": "nginx"}
    )
    for behind in new.keys() - {("Ingress", "fraud"), ("Ingress", "fraud.grpc")}:
        problem = read_ingresses("fraud", new | {behind: old[behind]}).problem
        assert problem is not None
        assert problem.reason == "RoutePending"
        assert read_ingresses("fraud", _without(new, behind)).problem is not None
    alone = {place: one for place, one in new.items() if ".grpc" not in place[1]}
    assert read_ingresses("fraud", alone).problem is None, "there is no gRPC to follow"


def _without(children: dict[tuple[str, str], Any], place: tuple[str, str]) -> dict[Any, Any]:
    return {key: one for key, one in children.items() if key != place}


@pytest.mark.parametrize(
    ("backends", "exposure", "number"),
    [
        (Backends(), {}, 0),
        (Backends("fraud-a"), {}, 2),
        (PAIR, {}, 4),
        (PAIR, {"path": "/m"}, 2),
        (PAIR, {"hosts": []}, 0),
        (PAIR, {"dialect": "None"}, 0),
        (PAIR, {"ingressClassName": "unmapped"}, 1),
        (PAIR, {"ingressClassName": None}, 1),
    ],
)
def test_how_many_there_are(backends: Backends, exposure: dict[str, Any], number: int) -> None:
    made = render(backends, **exposure)
    assert len(made) == number
    if exposure.get("ingressClassName", "x") is None:
        assert "ingressClassName" not in made[0]["spec"]


@pytest.mark.parametrize("spec", [{}, {"rules": []}, {"rules": [{"host": "a"}]}])
def test_a_route_of_another_shape_names_nobody(spec: dict[str, Any]) -> None:
    assert backend_of({"spec": spec}) is None


@pytest.mark.parametrize(
    ("annotations", "weight"),
    [
        (None, 0),
        ({f"{PREFIX}canary-weight": "5"}, 0),
        ({f"{PREFIX}canary": "false", f"{PREFIX}canary-weight": "5"}, 0),
        ({f"{PREFIX}canary": "true"}, 0),
        ({f"{PREFIX}canary": "true", f"{PREFIX}canary-weight": "many"}, 0),
        ({f"{PREFIX}canary": "true", f"{PREFIX}canary-weight": "5"}, 5),
    ],
)
def test_the_weight_is_what_the_proxy_would_read(annotations: Any, weight: int) -> None:
    assert canary_weight_of({"metadata": {"annotations": annotations}}) == weight


@pytest.mark.parametrize(
    ("backends", "weights"),
    [
        (Backends(), {}),
        (Backends("a"), {"a": 100}),
        (Backends("a", "b", 25), {"a": 75, "b": 25}),
        (Backends("a", "a", 100), {"a": 100}),
    ],
)
def test_weights_of_a_plan(backends: Backends, weights: dict[str, int]) -> None:
    exposure = model_deployment().spec.exposure
    assert TrafficPlan(exposure, Proxy(None, "none"), backends).weights == weights


def test_requests_go_to_the_pods_in_tls_when_both_revisions_can() -> None:
    asked = {"backendTLS": {"secretName": "pods", "caConfigMapName": "authority"}}
    owner = model_deployment(exposure=EXPOSED | asked)
    proxy = resolve_proxy(owner.spec.exposure, operator_settings())
    one = TrafficPlan(owner.spec.exposure, proxy, PAIR, encrypted=frozenset({"fraud-a"}))
    assert {port_of(ingress) for ingress in render_routes(owner, one)} == {80, 8081}
    both = replace(one, encrypted=frozenset({"fraud-a", "fraud-b"}))
    http, http_canary, grpc, grpc_canary = render_routes(owner, both)
    assert [port_of(one) for one in (http, http_canary, grpc, grpc_canary)] == [
        443,
        443,
        8444,
        8444,
    ]
    for ingress, protocol in ((http, "HTTPS"), (grpc, "GRPCS")):
        annotations = ingress["metadata"]["annotations"]
        assert annotations[f"{PREFIX}backend-protocol"] == protocol
        assert annotations[f"{PREFIX}proxy-ssl-secret"] == "ml/pods"
        assert annotations[f"{PREFIX}proxy-ssl-verify"] == "on"
        assert annotations[f"{PREFIX}proxy-ssl-name"] == "fraud.ml.svc"
        assert annotations[f"{PREFIX}proxy-ssl-server-name"] == "on"
    assert read_ingresses("fraud", by_kind(render_routes(owner, both))).leg is Leg.TLS
    assert read_ingresses("fraud", by_kind(render_routes(owner, one))).leg is Leg.PLAIN


def port_of(ingress: dict[str, Any]) -> int:
    path = ingress["spec"]["rules"][0]["http"]["paths"][0]
    number: int = path["backend"]["service"]["port"]["number"]
    return number
