"""Which dialect and which proxy an exposure leads to."""

from typing import Any

import pytest

from modelyard_operator.spec import GatewayRef
from modelyard_operator.traffic.proxy import (
    NO_GATEWAY,
    GatewayView,
    Problem,
    Proxy,
    Routed,
    resolve_proxy,
)
from testkit.operator_objects import EXPOSED, model_deployment, operator_settings

ROUTED = {"hosts": ["a.x"]}
PUBLIC = {"gatewayRef": {"name": "public", "namespace": "infra"}}
DEFAULT: dict[str, Any] = {"default_gateway": {"name": "shared"}}


def proxy_of(
    exposure: dict[str, Any],
    before: Routed | None = None,
    gateway: GatewayView | None = None,
    **settings: Any,
) -> Proxy:
    spec = model_deployment(exposure=exposure).spec
    return resolve_proxy(spec.exposure, operator_settings(**settings), before or Routed(), gateway)


@pytest.mark.parametrize(
    ("exposure", "proxy"),
    [
        (EXPOSED, Proxy("Ingress", "traefik-nginx", "nginx")),
        (ROUTED, Proxy("Ingress", "none")),
        ({}, Proxy(None, "none")),
        ({"ingressClassName": "nginx"}, Proxy(None, "traefik-nginx", "nginx")),
        (EXPOSED | {"dialect": "None"}, Proxy(None, "traefik-nginx", "nginx")),
        (
            ROUTED | PUBLIC,
            Proxy("Gateway", "generic", gateway=GatewayRef(name="public", namespace="infra")),
        ),
    ],
)
def test_the_proxy_of_an_exposure(exposure: dict[str, Any], proxy: Proxy) -> None:
    assert proxy_of(exposure) == proxy


def test_the_operator_s_defaults_count_where_nothing_is_named() -> None:
    found = proxy_of(ROUTED, default_ingress_class="nginx")
    assert found == Proxy("Ingress", "traefik-nginx", "nginx")
    assert proxy_of(ROUTED, **DEFAULT).gateway == GatewayRef(name="shared")
    assert proxy_of(ROUTED | PUBLIC, **DEFAULT).gateway != GatewayRef(name="shared")


@pytest.mark.parametrize(
    ("exposure", "settings", "dialect"),
    [
        (ROUTED, {}, "Ingress"),
        (ROUTED, DEFAULT, "Gateway"),
        (EXPOSED, DEFAULT, "Ingress"),
        (EXPOSED | PUBLIC, {}, "Gateway"),
        (EXPOSED, DEFAULT | {"default_dialect": "Gateway"}, "Gateway"),
        (ROUTED | PUBLIC, {"default_dialect": "Ingress"}, "Ingress"),
        (ROUTED | PUBLIC | {"dialect": "Ingress"}, DEFAULT, "Ingress"),
        (EXPOSED | {"dialect": "Gateway"}, DEFAULT, "Gateway"),
    ],
)
def test_what_auto_means(exposure: dict[str, Any], settings: dict[str, Any], dialect: str) -> None:
    assert proxy_of(exposure, **settings).dialect == dialect


@pytest.mark.parametrize("kept", ["Ingress", "Gateway"])
def test_auto_is_resolved_once(kept: str) -> None:
    for exposure in (EXPOSED, ROUTED | PUBLIC):
        for before in (
            Routed(resolved=kept),
            Routed(live={kept: {}}),
            Routed("None", live={kept: {}}),
        ):
            assert proxy_of(exposure, before, **DEFAULT).dialect == kept


def test_a_gateway_has_to_be_named_by_somebody() -> None:
    found = proxy_of(ROUTED | {"dialect": "Gateway"})
    assert (found.gateway, found.problem) == (None, NO_GATEWAY)
    assert "defaultGateway" in NO_GATEWAY.message


def test_a_route_stays_where_it_is_when_nobody_names_its_gateway_any_more() -> None:
    there = Routed(live={"Gateway": {"gateway_ref": GatewayRef(name="public")}})
    found = proxy_of(ROUTED | {"dialect": "Gateway"}, there)
    assert (found.gateway, found.problem) == (GatewayRef(name="public"), NO_GATEWAY)


def test_what_is_known_of_a_gateway_outlives_it() -> None:
    view = GatewayView(profile="envoy-gateway")
    assert proxy_of(ROUTED | PUBLIC, gateway=view).profile == "envoy-gateway"
    missing = GatewayView(problem=Problem("GatewayNotFound", "there is none"))
    found = proxy_of(ROUTED | PUBLIC, Routed(profile="envoy-gateway"), missing)
    assert (found.profile, found.problem) == ("envoy-gateway", missing.problem)
    assert proxy_of(ROUTED | PUBLIC, Routed(profile="traefik-nginx"), missing).profile == "generic"


def test_the_routes_that_serve_stay_until_others_are_confirmed() -> None:
    exposure = ROUTED | PUBLIC | {"dialect": "Gateway"}
    ingress = {"Ingress": {"ingress_class_name": "nginx"}}
    both = ingress | {"Gateway": {}}
    for before in (
        Routed(live=ingress),
        Routed(live=both),
        Routed(live=both, confirmed={"Ingress"}),
    ):
        found = proxy_of(exposure, before)
        assert found.dialect == "Gateway"
        assert found.leaving == Proxy("Ingress", "traefik-nginx", "nginx"), (
            "whatever the exposure says"
        )
        assert found.serving is found.leaving
    for before in (
        Routed(live=both, confirmed=set(both)),
        Routed(live={"Gateway": {"gateway_ref": GatewayRef(name="old")}}),
        Routed(),
    ):
        found = proxy_of(exposure, before)
        assert found.leaving is None
        assert found.serving is found
    back = proxy_of(
        exposure | {"dialect": "Ingress"},
        Routed(live={"Gateway": {"gateway_ref": GatewayRef(name="old")}}),
    )
    assert back.serving.gateway == GatewayRef(name="old"), "whatever the exposure says now"
    assert proxy_of(exposure | {"dialect": "None"}, Routed(live=ingress)).serving.dialect is None
