"""From a Gateway to the pods in TLS: who can, how Envoy is led there, and who objects."""

from collections import Counter
from typing import Any

from modelyard_operator.rollout.routing import Backends
from modelyard_operator.traffic.dialects import render_routes
from modelyard_operator.traffic.gateway import read_http_route
from modelyard_operator.traffic.legs import Leg
from modelyard_operator.traffic.plan import LiveRoutes, TrafficPlan
from modelyard_operator.traffic.proxy import GatewayView, resolve_proxy
from testkit.operator_objects import (
    accepted,
    attached,
    by_kind,
    live,
    model_deployment,
    operator_settings,
)

Manifest = dict[str, Any]

EXPOSURE = {
    "hosts": ["a.x"],
    "dialect": "Gateway",
    "gatewayRef": {"namespace": "infra", "name": "public"},
    "backendTLS": {"secretName": "pods", "caConfigMapName": "authority"},
}
PAIR = Backends("fraud-a", "fraud-b", 25)
ABLE = {"fraud-a", "fraud-b"}


def render(
    encrypted: set[str],
    *,
    backends: Backends = PAIR,
    view: GatewayView | None = None,
    leg: Leg | None = None,
    settled: bool = True,
) -> list[Manifest]:
    owner = model_deployment(exposure=EXPOSURE)
    view = view or GatewayView(profile="envoy-gateway")
    plan = TrafficPlan(
        owner.spec.exposure,
        resolve_proxy(owner.spec.exposure, operator_settings(), gateway=view),
        backends,
        certified=frozenset(encrypted),
        encrypted=frozenset(encrypted),
        legs={} if leg is None else {"Gateway": leg},
        settled=settled,
    )
    return render_routes(owner, plan)


def test_requests_go_to_the_pods_in_tls_when_both_revisions_can() -> None:
    *_, plain = render({"fraud-a"})
    assert ports(plain) == {80, 8081}
    assert read(plain).leg is Leg.PLAIN
    _, *policies, route = render(ABLE)
    assert ports(route) == {443, 8444}
    assert read(route).leg is Leg.TLS
    assert {one["kind"] for one in policies} == {"BackendTLSPolicy"}
    assert [one["metadata"]["name"] for one in policies] == [
        f"{revision}-{port}" for revision in ("fraud-a", "fraud-b") for port in ("https", "grpcs")
    ]
    assert policies[0]["spec"] == {
        "targetRefs": [{"group": "", "kind": "Service", "name": "fraud-a", "sectionName": "https"}],
        "validation": {
            "caCertificateRefs": [{"group": "", "kind": "ConfigMap", "name": "authority"}],
            "hostname": "fraud.ml.svc",
        },
    }
    absent = GatewayView(profile="envoy-gateway", absent=frozenset({"BackendTLSPolicy"}))
    _, without = render(ABLE, view=absent)
    assert ports(without) == {80, 8081}


def test_envoy_is_led_to_tls_and_back_step_by_step() -> None:
    """It hears of addresses and of what is spoken there one after the other."""
    steps = [
        ({80: 1000}, set(), Leg.PLAIN),
        ({443: 2, 80: 1_000_000}, ABLE, Leg.PLAIN_ABOVE_TLS),
        ({443: 1_000_000, 80: 2}, ABLE, Leg.TLS_ABOVE_PLAIN),
        ({443: 1000}, ABLE, Leg.TLS),
        ({443: 1000}, ABLE, Leg.TLS),
        ({443: 750_000, 80: 2}, {"fraud-a"}, Leg.TLS_ABOVE_PLAIN),
        ({443: 1, 80: 1_000_000}, {"fraud-a"}, Leg.PLAIN_ABOVE_TLS),
        ({80: 1000}, {"fraud-a"}, Leg.PLAIN),
    ]
    leg = None
    for number, (weights, encrypted, written) in enumerate(steps):
        *_, route = render(encrypted, leg=leg)
        found = read(accepted(route))
        assert (weights_by_port(route), found.leg) == (weights, written)
        joins = written is Leg.TLS_ABOVE_PLAIN and encrypted != ABLE
        assert found.backends == (Backends("fraud-a", "fraud-b", 0) if joins else PAIR)
        leg = found.leg
        *_, again = render(encrypted, leg=leg, settled=False)
        assert read(accepted(again)).leg is leg, number


def test_who_cannot_speak_tls_is_never_asked_to() -> None:
    *_, route = render({"fraud-a"}, leg=Leg.TLS, settled=False)
    refs = route["spec"]["rules"][0]["backendRefs"]
    assert [(ref["port"], ref["weight"]) for ref in refs if ref["name"] == "fraud-b"] == [(80, 1)]


def test_other_proxies_take_to_tls_at_once() -> None:
    traefik = GatewayView(profile="traefik")
    *_, route = render(ABLE, view=traefik, leg=Leg.PLAIN)
    assert weights_by_port(route) == {443: 1000}


def test_an_objection_to_the_encryption_is_the_routes_problem() -> None:
    _, policy, _, route = render({"fraud-a"}, backends=Backends("fraud-a"))
    said = attached(policy, type="ResolvedRefs", status="False", reason="InvalidCACertificateRef")
    assert read(accepted(route), live(policy)).problem is None
    problem = read(accepted(route), said).problem
    assert problem is not None
    assert problem.reason == "PolicyNotAccepted"
    assert problem.message.startswith("BackendTLSPolicy fraud-a-https: InvalidCACertificateRef")


def read(*objects: Manifest) -> LiveRoutes:
    return read_http_route("fraud", by_kind(objects))


def ports(route: Manifest) -> set[int]:
    return {ref["port"] for rule in route["spec"]["rules"] for ref in rule["backendRefs"]}


def weights_by_port(route: Manifest) -> dict[int, int]:
    found: Counter[int] = Counter()
    for ref in route["spec"]["rules"][0]["backendRefs"]:
        found[ref["port"]] += ref["weight"]
    return dict(found)
