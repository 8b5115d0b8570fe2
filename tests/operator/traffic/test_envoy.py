"""What Envoy Gateway does beside routing: strangers turned away, pods that are gone left out."""

import json
from typing import Any

import pytest

from modelyard_operator.rollout.routing import Backends
from modelyard_operator.traffic.dialects import render_routes
from modelyard_operator.traffic.gateway import read_http_route
from modelyard_operator.traffic.plan import TrafficPlan
from modelyard_operator.traffic.proxy import GatewayView, Problem, resolve_proxy
from testkit.operator_objects import (
    accepted,
    attached,
    by_kind,
    live,
    model_deployment,
    operator_settings,
)

Manifest = dict[str, Any]

ENVOY = GatewayView(profile="envoy-gateway")
EXPOSURE = {
    "hosts": ["a.x"],
    "path": "/m",
    "dialect": "Gateway",
    "gatewayRef": {"name": "public", "namespace": "infra"},
}
MATCH = [{"header": {"name": "X-Canary", "value": "always"}}]
PREFIX = {"type": "PathPrefix", "value": "/m"}


def render(view: GatewayView = ENVOY, *, match: Any = (), **exposure: Any) -> list[Manifest]:
    owner = model_deployment(exposure=EXPOSURE | exposure, rollout={"match": match})
    proxy = resolve_proxy(owner.spec.exposure, operator_settings(), gateway=view)
    backends = Backends("fraud-a", "fraud-b", 25)
    plan = TrafficPlan(owner.spec.exposure, proxy, backends, owner.spec.rollout.match)
    return render_routes(owner, plan)


def kinds(objects: list[Manifest]) -> list[str]:
    return [one["kind"] for one in objects]


def shown(rule: Manifest) -> list[list[str]]:
    """Names of the headers that each match of a rule asks for."""
    return [[header["name"] for header in one.get("headers", ())] for one in rule["matches"]]


@pytest.mark.parametrize(
    ("auth", "headers"),
    [
        ({"type": "APIKey"}, ["authorization", "x-api-key"]),
        ({"type": "JWT", "issuer": "https://i.x"}, ["authorization"]),
    ],
)
def test_who_shows_no_credentials_reaches_no_pod(auth: Any, headers: list[str]) -> None:
    answer, _, route = render(auth=auth, match=MATCH)
    main, open_to_all, strangers, pinned = route["spec"]["rules"]
    assert shown(main) == [[name] for name in headers]
    assert shown(pinned) == [["X-Canary", name] for name in headers]
    assert {one["path"]["value"] for one in (*main["matches"], *pinned["matches"])} == {"/m"}
    assert [one["path"] for one in open_to_all["matches"]] == [
        {"type": "Exact", "value": f"/m{path}"}
        for path in ("/v2/health/live", "/v2/health/ready", "/docs", "/openapi.json")
    ]
    assert open_to_all["backendRefs"] == main["backendRefs"]
    assert strangers == {
        "name": "strangers",
        "matches": [{"path": PREFIX}],
        "filters": [
            {
                "type": "ExtensionRef",
                "extensionRef": {
                    "group": "gateway.envoyproxy.io",
                    "kind": "HTTPRouteFilter",
                    "name": answer["metadata"]["name"],
                },
            }
        ],
    }
    said = answer["spec"]["directResponse"]
    assert said["statusCode"] == 401
    assert json.loads(said["body"]["inline"])["code"] == "unauthorized"


def test_a_route_comes_after_the_answer_that_it_names_and_the_policy_that_is_about_it() -> None:
    """Envoy would wait for the endpoints of a cluster that changes just after it was made."""
    assert kinds(render(auth={"type": "APIKey"})) == [
        "HTTPRouteFilter",
        "BackendTrafficPolicy",
        "HTTPRoute",
    ]


def test_the_weights_of_a_guarded_route_are_read_back() -> None:
    _, _, route = render(auth={"type": "APIKey"}, match=MATCH)
    assert read_http_route("fraud", by_kind([accepted(route)])).backends == Backends(
        "fraud-a", "fraud-b", 25
    )


@pytest.mark.parametrize(
    "view",
    [
        GatewayView(profile="traefik"),
        GatewayView(profile="generic"),
        GatewayView(profile="envoy-gateway", absent=frozenset({"HTTPRouteFilter"})),
    ],
)
def test_other_proxies_leave_strangers_to_the_pods(view: GatewayView) -> None:
    objects = render(view, auth={"type": "APIKey"})
    assert "HTTPRouteFilter" not in kinds(objects)
    (rule,) = objects[-1]["spec"]["rules"]
    assert rule["matches"] == [{"path": PREFIX}]


def test_a_policy_says_nothing_that_the_listener_keeps() -> None:
    """That would end the streams of every other model behind the Gateway."""
    policy, _ = render(rateLimit={"requestsPerSecond": 5})
    assert policy["spec"].keys() == {
        *("targetRefs", "mergeType", "timeout", "loadBalancer", "healthCheck", "circuitBreaker"),
        "retry",
    }
    assert policy["spec"]["loadBalancer"] == {"type": "LeastRequest"}


def test_no_status_of_a_pod_takes_it_out_of_a_rollout() -> None:
    policy, _ = render()
    passive = policy["spec"]["healthCheck"]["passive"]
    assert passive["consecutive5XxErrors"] == 0
    assert passive["splitExternalLocalOriginErrors"] is True
    assert "consecutiveGatewayErrors" not in passive
    assert passive["maxEjectionPercent"] <= 50


def test_nothing_is_tried_again_that_a_pod_may_have_begun() -> None:
    policy, _ = render()
    retry = policy["spec"]["retry"]
    assert retry["numRetries"] == 1
    harmless = {"connect-failure", "refused-stream", "reset-before-request"}
    assert set(retry["retryOn"]["triggers"]) <= harmless
    assert "httpStatusCodes" not in retry["retryOn"]


def problem(policy: Manifest) -> Problem | None:
    _, route = render()
    return read_http_route("fraud", by_kind([accepted(route), policy])).problem


def test_a_route_counts_once_its_policy_is_in_force() -> None:
    policy, _ = render()
    assert problem(attached(policy)) is None
    for silent in (live(policy), attached(policy, observedGeneration=0)):
        found = problem(silent)
        assert found is not None
        assert found.reason == "RoutePending"
    refused = attached(policy, status="False", reason="Conflicted", message="another one")
    assert problem(refused) == Problem(
        "PolicyNotAccepted", "BackendTrafficPolicy fraud: Conflicted: another one"
    )
