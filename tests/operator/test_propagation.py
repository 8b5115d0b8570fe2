"""Proxies that are asked whether they have the routes."""

from datetime import datetime
from typing import Any

import pytest

from modelyard_operator.conditions import Pass, build_conditions
from modelyard_operator.desired import desired_state
from modelyard_operator.observed import Observed
from modelyard_operator.propagation import INTERVAL, PATIENCE, Propagation, asks_proxy
from modelyard_operator.rollout.routing import Backends
from modelyard_operator.rollout.transitions import SETTLE
from modelyard_operator.traffic.dialects import render_routes
from modelyard_operator.traffic.entrance import entrance
from modelyard_operator.traffic.plan import TrafficPlan
from modelyard_operator.traffic.proxy import Address, GatewayView
from testkit.operator_objects import (
    EXPOSED,
    NOW,
    live,
    model_deployment,
    observe,
    operator_settings,
)
from testkit.operator_pods import AnsweringPods

SHIFTED = NOW.isoformat().replace("+00:00", "Z")
HALVES = Backends("fraud-a", "fraud-b", 50)
BALANCER = {"loadBalancer": {"ingress": [{"ip": "10.0.0.9"}]}}


class AnsweringProxy(AnsweringPods):
    """A proxy whose requests are answered by one revision after another, or by nobody."""

    def __init__(self, *revisions: str | None) -> None:
        super().__init__()
        self.revisions: tuple[str | None, ...] = revisions
        self.questions: list[tuple[str, str]] = []

    async def answered_by(self, url: str, host: str) -> str | None:
        self.questions.append((url, host))
        return self.revisions[len(self.questions) % len(self.revisions)]


def routed(backends: Backends, *, balancer: Any = BALANCER, **exposure: Any) -> Observed:
    """A model whose routes were changed a moment ago."""
    status = {"traffic": {"lastShiftTime": SHIFTED, "dialect": "Ingress"}}
    owner = model_deployment(exposure=EXPOSED | exposure, status=status)
    proxy = observe(owner).proxy(operator_settings(), NOW)
    routes = render_routes(owner, TrafficPlan(owner.spec.exposure, proxy, backends))
    return observe(owner, *(live(route) | {"status": balancer} for route in routes))


def propagation(proxy: AnsweringProxy) -> Propagation:
    return Propagation(proxy, operator_settings())


def followed(observed: Observed) -> bool:
    return observed.world(observed.proxy(operator_settings(), NOW)).followed


async def test_routes_count_when_nobody_else_answers() -> None:
    proxy = AnsweringProxy("fraud-b", "fraud-a")
    asking = propagation(proxy)
    seen = await asking.complete(routed(Backends("fraud-a")), NOW)
    assert not followed(seen)
    assert seen.lag
    assert seen.lag.message == "the proxy still sends requests to fraud-b"
    assert asks_proxy(seen, NOW) == NOW + INTERVAL
    assert set(proxy.questions) == {("http://10.0.0.9:80/v2/health/live", "fraud.example.com")}

    late = NOW + 2 * SETTLE
    assert not followed(await asking.complete(routed(Backends("fraud-a")), late))
    proxy.revisions = ("fraud-a",)
    seen = await asking.complete(routed(Backends("fraud-a")), late)
    assert followed(seen)
    assert asks_proxy(seen, late) is None
    asked = len(proxy.questions)
    await asking.complete(routed(Backends("fraud-a")), late)
    assert len(proxy.questions) == asked, "it is known"
    await asking.complete(routed(HALVES), late)
    assert len(proxy.questions) > asked, "the routes have changed since"


async def test_each_share_is_seen_or_given_time() -> None:
    proxy = AnsweringProxy("fraud-a")
    asking = propagation(proxy)
    seen = await asking.complete(routed(HALVES), NOW)
    assert seen.lag
    assert seen.lag.message == "the proxy has sent no request to fraud-b yet"
    proxy.revisions = ("fraud-b",)
    assert followed(await asking.complete(routed(HALVES), NOW)), "both have been seen by now"

    rare = propagation(AnsweringProxy("fraud-a"))
    assert not followed(await rare.complete(routed(HALVES), NOW))
    assert followed(await rare.complete(routed(HALVES), NOW + SETTLE))


@pytest.mark.parametrize("answer", [None, ""])
async def test_who_does_not_tell_is_given_time(answer: str | None) -> None:
    proxy = AnsweringProxy(answer)
    asking = propagation(proxy)
    for moment in (NOW, NOW + SETTLE, NOW + SETTLE):
        assert followed(await asking.complete(routed(HALVES), moment))
    rounds = len(proxy.questions) / 5
    assert rounds == (1 if answer is None else 2), "one that is not reached is not asked again"


async def test_a_proxy_with_other_routes_does_not_hold_a_rollout_for_ever() -> None:
    asking = propagation(AnsweringProxy("fraud-z"))
    assert not followed(await asking.complete(routed(HALVES), NOW))
    assert followed(await asking.complete(routed(HALVES), NOW + PATIENCE))


async def test_nobody_is_asked_without_an_address() -> None:
    proxy = AnsweringProxy("fraud-z")
    assert followed(await propagation(proxy).complete(routed(HALVES, balancer={}), NOW))
    assert proxy.questions == []


async def test_a_wildcard_is_asked_for_one_of_its_hosts() -> None:
    proxy = AnsweringProxy("fraud-a")
    seen = routed(Backends("fraud-a"), hosts=["*.example.com"])
    assert followed(await propagation(proxy).complete(seen, NOW))
    assert {host for _, host in proxy.questions} == {"modelyard.example.com"}


@pytest.mark.parametrize(("moment", "ready"), [(NOW, True), (NOW + SETTLE, False)])
async def test_status_names_who_still_answers(moment: datetime, ready: bool) -> None:  # noqa: FBT001
    """After the time that is enough otherwise; no status is written for a moment."""
    asking = propagation(AnsweringProxy("fraud-b"))
    seen = await asking.complete(routed(Backends("fraud-a")), moment)
    view = Pass.of(seen, desired_state(seen, operator_settings(), moment), NOW, moment)
    said = next(one for one in build_conditions(view) if one.type == "RoutesReady")
    assert said.status is ready
    assert ready or said.message == "the proxy still sends requests to fraud-b"


GATEWAY = {"dialect": "Gateway", "gatewayRef": {"name": "public", "namespace": "gateways"}}
TLS = {"tls": {"secretName": "cert"}}
PLAIN = Address("10.0.0.7", 8000)


@pytest.mark.parametrize(
    ("exposure", "view", "url"),
    [
        ({}, None, "http://10.0.0.9:80"),
        (TLS, None, "https://10.0.0.9:443"),
        (GATEWAY, GatewayView("traefik", address=PLAIN), "http://10.0.0.7:8000"),
        (GATEWAY, GatewayView("traefik"), None),
        (GATEWAY | TLS, GatewayView("traefik", address=PLAIN), "http://10.0.0.7:8000"),
        (
            GATEWAY | TLS,
            GatewayView("envoy-gateway", takes_listeners=True, address=PLAIN),
            "https://10.0.0.7:443",
        ),
        (
            GATEWAY,
            GatewayView("generic", address=Address("fd00::7", 443, tls=True)),
            "https://[fd00::7]:443",
        ),
    ],
)
def test_where_requests_come_in(exposure: Any, view: GatewayView | None, url: str | None) -> None:
    owner = model_deployment(exposure=EXPOSED | exposure)
    seen = observe(owner, gateway=view)
    proxy = seen.proxy(operator_settings(), NOW)
    children = {("Ingress", "fraud"): {"status": BALANCER}}
    found = entrance(proxy, owner.spec.exposure, children, "fraud")
    assert (found.url if found else None) == url
