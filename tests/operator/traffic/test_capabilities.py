from dataclasses import replace
from typing import Any

import pytest

from modelyard_operator.settings import Profile
from modelyard_operator.traffic.capabilities import CAPABILITIES, TLS, refused, splits, unsupported
from modelyard_operator.traffic.proxy import NO_GATEWAY, GatewayView, Proxy, Routed, resolve_proxy
from testkit.operator_objects import EXPOSED, model_deployment, operator_settings

ROUTED: dict[str, Any] = {"hosts": ["a.x"]}
GATEWAY: dict[str, Any] = ROUTED | {"dialect": "Gateway", "gatewayRef": {"name": "public"}}
MATCH = [{"header": {"name": "X-Canary", "value": "always"}}]
COOKIE = [{"cookie": {"name": "tester", "value": "always"}}]
EVERY = {"match": MATCH + COOKIE, "stickiness": {}}


def gaps(rollout: Any = None, *, before: Routed | None = None, **exposure: Any) -> tuple[str, ...]:
    spec = model_deployment(exposure=exposure, rollout=rollout or {}).spec
    proxy = resolve_proxy(spec.exposure, operator_settings(), before or Routed())
    return unsupported(spec, proxy)


def test_what_a_proxy_cannot_do_is_said() -> None:
    assert gaps({"match": MATCH}, **EXPOSED) == ()
    steps, limits = gaps(hosts=["a.x"], ingressClassName="other")
    assert steps.startswith("rollout.steps: IngressClass other has no profile; a candidate takes")
    assert limits.startswith(
        "exposure.timeoutSeconds: IngressClass other has no profile; the proxy"
    )
    assert "(cluster default)" in gaps(**ROUTED)[0]


def test_pins_are_missed_where_somebody_wrote_some() -> None:
    names = ("rollout.match[].header: ", "rollout.match[].cookie: ", "rollout.stickiness: ")
    for exposure in (ROUTED, {}):
        for name in names:
            assert not any(gap.startswith(name) for gap in gaps(**exposure))
            assert any(gap.startswith(name) for gap in gaps(EVERY, **exposure))


def test_an_ingress_knows_one_cookie_and_one_value() -> None:
    assert gaps({"match": COOKIE}, **EXPOSED) == gaps({"stickiness": {}}, **EXPOSED) == ()
    (gap,) = gaps(EVERY, **EXPOSED)
    assert gap.startswith("rollout.stickiness: an Ingress knows one cookie, which is that of")
    other = [{"cookie": {"name": "tester", "value": "b"}}]
    (gap,) = gaps({"match": other, "stickiness": {}}, **EXPOSED)
    assert gap.startswith("rollout.match[].cookie: an Ingress knows the value always only, got 'b'")


def test_without_a_route_only_steps_that_somebody_wrote_are_missed() -> None:
    assert gaps() == ()
    assert gaps({"steps": [{"weight": 100}]}) == ()
    (gap,) = gaps({"steps": [{"weight": 10}, {"weight": 100}]})
    assert gap.startswith("rollout.steps: there is no external route to divide; a candidate")


@pytest.mark.parametrize(
    ("profile", "why"),
    [
        ("traefik", "the profile traefik does not have it"),
        ("envoy-gateway", "the Gateway lets nobody here add listeners (spec.allowedListeners)"),
    ],
)
def test_a_gateway_that_takes_no_certificate_has_its_own(profile: Profile, why: str) -> None:
    spec = model_deployment(exposure=GATEWAY | {"tls": {"secretName": "s"}}).spec
    proxy = Proxy("Gateway", profile)
    expected = f"exposure.tls: {why}; the listeners of the Gateway hold the certificates"
    assert expected in unsupported(spec, proxy)
    takes = replace(proxy, found=GatewayView(takes_listeners=True))
    assert not any(gap.startswith("exposure.tls") for gap in unsupported(spec, takes))
    assert not any(gap.startswith("exposure.tls") for gap in gaps(**GATEWAY))
    assert any(gap.startswith("exposure.tls") for gap in refused(spec, proxy))
    own = replace(proxy, found=GatewayView(encrypted=True))
    assert not any(gap.startswith("exposure.tls") for gap in refused(spec, own))


def test_a_cluster_without_the_policy_encrypts_nothing_behind_a_gateway() -> None:
    asked = {"backendTLS": {"secretName": "s", "caConfigMapName": "c"}}
    spec = model_deployment(exposure=GATEWAY | asked).spec
    without = Proxy(
        "Gateway", "envoy-gateway", found=GatewayView(absent=frozenset({"BackendTLSPolicy"}))
    )
    expected = (
        "exposure.backendTLS: the operator could not list any BackendTLSPolicy when it started; "
        "requests go to the pods in plain text"
    )
    assert expected in unsupported(spec, without)
    assert expected in refused(spec, without)
    known = replace(without, found=GatewayView())
    assert not any(gap.startswith("exposure.backendTLS") for gap in unsupported(spec, known))


def test_a_gateway_that_auto_has_passed_over_is_said() -> None:
    named = ROUTED | {"gatewayRef": {"name": "public"}}
    found = gaps(before=Routed(resolved="Ingress"), **named)
    assert any(gap.startswith("exposure.gatewayRef: Auto was resolved to Ingress") for gap in found)
    assert not any(gap.startswith("exposure.gatewayRef") for gap in gaps(**named))


@pytest.mark.parametrize("profile", CAPABILITIES)
def test_each_no_of_the_table_is_one_sentence(profile: Profile) -> None:
    """Every feature is asked for, so that each cell that says no must be heard of."""
    spec = model_deployment(
        exposure=GATEWAY
        | {"tls": {"secretName": "s"}, "auth": {"type": "APIKey"}, "timeoutSeconds": 7}
        | {"backendTLS": {"secretName": "s", "caConfigMapName": "c"}},
        rollout=EVERY | {"shadow": {}, "steps": [{"weight": 30}, {"weight": 100}]},
        variants=[{"name": "b", "weight": 10, "model": {"uri": "s3://b"}}],
    ).spec
    dialect: Any = "Ingress" if profile in {"traefik-nginx", "ingress-nginx", "none"} else "Gateway"
    view = GatewayView(takes_listeners=CAPABILITIES[profile][TLS] == "native")
    proxy = Proxy(dialect, profile, found=view)
    gaps = unsupported(spec, proxy)
    assert refused(spec, proxy) == gaps
    found = [gap.partition(":")[0] for gap in gaps]
    if dialect == "Ingress" and profile != "none":
        assert found.pop() == "rollout.stickiness", "the pin's cookie is the one that it knows"
    assert found == [feature for feature, cell in CAPABILITIES[profile].items() if cell == "no"]


def test_nothing_is_held_back_without_a_wish_or_without_a_proxy() -> None:
    wish = GATEWAY | {"timeoutSeconds": 7}
    lost = Proxy("Gateway", "generic", problem=NO_GATEWAY)
    for exposure, proxy, number in (
        (wish, Proxy("Gateway", "generic"), 1),
        (GATEWAY, Proxy("Gateway", "generic"), 0),
        (wish | {"strict": False}, Proxy("Gateway", "generic"), 0),
        (wish, Proxy(None, "none"), 0),
        (wish, lost, 0),
    ):
        found = refused(model_deployment(exposure=exposure).spec, proxy)
        assert len(found) == number, (exposure, proxy)


@pytest.mark.parametrize(
    ("proxy", "divides"),
    [
        (Proxy("Ingress", "traefik-nginx"), True),
        (Proxy("Ingress", "none"), False),
        (Proxy("Gateway", "generic"), True),
        (Proxy(None, "traefik-nginx"), False),
    ],
)
def test_who_divides_traffic(proxy: Proxy, divides: bool) -> None:  # noqa: FBT001
    assert splits(proxy) is divides
