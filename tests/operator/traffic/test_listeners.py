from typing import Any

import pytest

from modelyard_operator.rollout.routing import Backends
from modelyard_operator.spec import GatewayRef
from modelyard_operator.traffic.dialects import render_routes
from modelyard_operator.traffic.gateway import read_http_route
from modelyard_operator.traffic.plan import LiveRoutes, TrafficPlan
from modelyard_operator.traffic.proxy import GatewayView, resolve_proxy
from testkit.operator_objects import (
    accepted,
    by_kind,
    live,
    model_deployment,
    operator_settings,
)

Manifest = dict[str, Any]

REF = {"name": "public", "namespace": "infra"}
EXPOSURE = {
    "hosts": ["a.x", "b.x"],
    "dialect": "Gateway",
    "gatewayRef": REF,
    "tls": {"secretName": "fraud-tls"},
    "annotations": {"cert-manager.io/cluster-issuer": "corp"},
}
TAKES = GatewayView("envoy-gateway", takes_listeners=True)
GOOD = {"status": "True", "reason": "Good", "message": "", "observedGeneration": 1}
BAD = {"status": "False", "reason": "NotAllowed", "message": "not from here"}


def render(view: GatewayView = TAKES, **exposure: Any) -> dict[str, Manifest]:
    owner = model_deployment(exposure=EXPOSURE | exposure)
    proxy = resolve_proxy(owner.spec.exposure, operator_settings(), gateway=view)
    plan = TrafficPlan(owner.spec.exposure, proxy, Backends("fraud-a"))
    return {one["kind"]: one for one in render_routes(owner, plan)}


def programmed(listener_set: Manifest, **changes: Any) -> Manifest:
    """A ListenerSet that its Gateway has answered to; ``changes`` are those of its conditions."""
    conditions = [GOOD | {"type": one} | changes for one in ("Accepted", "Programmed")]
    return live(listener_set) | {"status": {"conditions": conditions}}


def read(listener_set: Manifest | None) -> LiveRoutes:
    route = accepted(render()["HTTPRoute"])
    return read_http_route("fraud", by_kind([route, *([listener_set] if listener_set else [])]))


def test_each_host_gets_a_listener_with_the_certificate() -> None:
    objects = render()
    assert list(objects) == ["ListenerSet", "BackendTrafficPolicy", "HTTPRoute"]
    made = objects["ListenerSet"]
    assert made["spec"]["parentRef"] == {
        "group": "gateway.networking.k8s.io",
        "kind": "Gateway",
        **REF,
    }
    assert [(one["hostname"], one["port"]) for one in made["spec"]["listeners"]] == [
        ("a.x", 443),
        ("b.x", 443),
    ]
    assert {one["protocol"] for one in made["spec"]["listeners"]} == {"HTTPS"}
    for one in made["spec"]["listeners"]:
        assert one["tls"]["certificateRefs"] == [{"name": "fraud-tls"}]
    assert made["metadata"]["annotations"] == EXPOSURE["annotations"]


def test_the_route_is_attached_to_the_certificate_alone() -> None:
    """Or what is asked for over TLS would be answered without it, too."""
    parents = render()["HTTPRoute"]["spec"]["parentRefs"]
    assert parents == [
        {"group": "gateway.networking.k8s.io", "kind": "ListenerSet", "name": "fraud"}
    ]


@pytest.mark.parametrize(
    ("view", "exposure"),
    [(GatewayView("envoy-gateway"), {}), (GatewayView("traefik"), {}), (TAKES, {"tls": None})],
)
def test_elsewhere_the_gateway_s_own_listeners_answer(view: GatewayView, exposure: Any) -> None:
    objects = render(view, **exposure)
    assert "ListenerSet" not in objects
    assert objects["HTTPRoute"]["spec"]["parentRefs"] == [REF]


def test_what_the_gateway_says_is_read_back() -> None:
    made = render()["ListenerSet"]
    found = read(programmed(made))
    assert (found.backends, found.problem) == (Backends("fraud-a"), None)
    assert found.written_for == {"gateway_ref": GatewayRef(**REF)}


@pytest.mark.parametrize(
    ("changes", "reason", "message"),
    [
        (BAD, "RouteNotAccepted", "ListenerSet fraud: NotAllowed: not from here"),
        (
            {"observedGeneration": 0},
            "RoutePending",
            "the Gateway has not looked at ListenerSet fraud as it is now",
        ),
    ],
)
def test_a_gateway_that_does_not_listen_is_a_problem(
    changes: Any, reason: str, message: str
) -> None:
    assert read(programmed(render()["ListenerSet"], **changes)).problem == (reason, message)


def test_a_certificate_that_is_missing_is_named() -> None:
    made = programmed(render()["ListenerSet"], **BAD)
    condition = BAD | {"type": "ResolvedRefs", "reason": "InvalidCertificateRef"}
    made["status"]["listeners"] = [{"name": "https-0", "conditions": [condition]}]
    problem = read(made).problem
    assert problem is not None
    assert problem.message.startswith("ListenerSet fraud, listener https-0: InvalidCertificateRef:")


def test_a_set_that_nobody_has_answered_to_or_that_is_gone_is_waited_for() -> None:
    for listener_set in (live(render()["ListenerSet"]), None):
        problem = read(listener_set).problem
        assert problem is not None
        assert problem.reason == "RoutePending"
