"""What is known of the Gateways that routes are attached to; asked for when a pass needs it.

They belong to somebody else and change seldom, so that they are not watched: an answer is kept for a
minute, and for a few seconds while something is missing.
"""

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any, Final

import structlog

from modelyard_operator.cluster import Cluster
from modelyard_operator.errors import ClusterForbiddenError
from modelyard_operator.kinds import (
    BACKEND_TRAFFIC_POLICY,
    GATEWAY,
    GATEWAY_CLASS,
    HTTP_ROUTE,
    LISTENER_SET,
)
from modelyard_operator.observed import Observed
from modelyard_operator.settings import GatewayProfile, OperatorSettings
from modelyard_operator.spec import GatewayRef
from modelyard_operator.store import Store
from modelyard_operator.traffic.proxy import Address, GatewayView, Problem

Manifest = dict[str, Any]

KEPT: Final = timedelta(seconds=60)
"""How long an answer counts."""
RETRY: Final = timedelta(seconds=5)
"""Between questions while there is no such Gateway."""

CONTROLLERS: Final[MappingProxyType[str, GatewayProfile]] = MappingProxyType(
    {
        "gateway.envoyproxy.io/gatewayclass-controller": "envoy-gateway",
        "traefik.io/gateway-controller": "traefik",
    }
)
"""Profiles by ``controllerName``; any other is trusted with the core of the Gateway API alone."""

log: Final = structlog.get_logger(__name__)


@dataclass(frozen=True)
class _Answer:
    asked: datetime
    gateway: Manifest | None = None
    gateway_class: Manifest | None = None
    forbidden: bool = False


@dataclass
class Gateways:
    """Completes what was observed by the Gateway that the routes are attached to.

    Attributes:
        cluster: Whom to ask.
        settings: The operator's own settings.
        store: Tells which kinds the API server does not have.
    """

    cluster: Cluster
    settings: OperatorSettings
    store: Store
    _answers: dict[tuple[str, str], _Answer] = field(default_factory=dict)

    async def complete(self, observed: Observed, now: datetime) -> Observed:
        """Return the observation with what is known of its Gateway.

        Args:
            observed: What the watches have told.
            now: Current time, in UTC.

        Raises:
            ClusterError: The API server did not answer.
        """
        proxy = observed.proxy(self.settings, now)
        ref = proxy.gateway or (proxy.leaving.gateway if proxy.leaving else None)
        if ref is None:
            return observed
        if HTTP_ROUTE.name in self.store.absent:
            absent = GatewayView(absent=self.store.absent, problem=_missing(HTTP_ROUTE.name))
            return replace(observed, gateway=absent)
        own = observed.model_deployment.namespace
        answer = await self._ask(ref.namespace or own, ref.name, now)
        return replace(observed, gateway=self._view(answer, ref, own))

    async def _ask(self, namespace: str, name: str, now: datetime) -> _Answer:
        known = self._answers.get((namespace, name))
        if known and now - known.asked < (KEPT if known.gateway else RETRY):
            return known
        try:
            gateway = await self.cluster.read(GATEWAY, name, namespace)
            class_name = gateway["spec"]["gatewayClassName"] if gateway else ""
            gateway_class = await self._class(class_name) if gateway else None
            answer = _Answer(now, gateway, gateway_class)
        except ClusterForbiddenError as error:
            # An operator of single namespaces may not see it; the route's own status still tells.
            log.debug("the Gateway is not looked at", error=str(error))
            answer = _Answer(now, forbidden=True)
        self._answers[namespace, name] = answer
        return answer

    async def _class(self, name: str) -> Manifest | None:
        try:
            return await self.cluster.read(GATEWAY_CLASS, name)
        except ClusterForbiddenError as error:
            log.debug("the GatewayClass is not looked at", error=str(error))
            return None

    def _view(self, answer: _Answer, ref: GatewayRef, own: str) -> GatewayView:
        if answer.forbidden:
            return GatewayView()
        namespace = ref.namespace or own
        if answer.gateway is None:
            text = f"there is no Gateway {namespace}/{ref.name} (create it, or correct gatewayRef)"
            return GatewayView(problem=Problem("GatewayNotFound", text))
        profile = self._profile(answer.gateway, answer.gateway_class)
        lacks = profile == "envoy-gateway" and BACKEND_TRAFFIC_POLICY.name in self.store.absent
        status = (answer.gateway_class or {}).get("status", {})
        features = frozenset(one["name"] for one in status.get("supportedFeatures") or ())
        sets = profile == "envoy-gateway" or LISTENER_SET.name in features
        sets = sets and LISTENER_SET.name not in self.store.absent
        return GatewayView(
            profile=profile,
            features=features,
            encrypted=_encrypted(answer.gateway, ref),
            takes_listeners=sets and _lets_in(answer.gateway, at_home=namespace == own),
            problem=_missing(BACKEND_TRAFFIC_POLICY.name) if lacks else None,
            absent=self.store.absent,
            address=_address(answer.gateway, ref),
        )

    def _profile(self, gateway: Manifest, gateway_class: Manifest | None) -> GatewayProfile:
        given = self.settings.gateway_class_profiles.get(gateway["spec"]["gatewayClassName"])
        controller = (gateway_class or {}).get("spec", {}).get("controllerName", "")
        return given or CONTROLLERS.get(controller, "generic")


def asks_for_gateway(observed: Observed, now: datetime) -> datetime | None:
    """Return when to look again for a Gateway that is missing; None while nothing is."""
    view = observed.gateway
    missing = view is not None and view.problem is not None and not view.absent
    return now + RETRY if missing else None


def _address(gateway: Manifest, ref: GatewayRef) -> Address | None:
    """Where requests of a route can come in: without TLS where that is possible."""
    listeners = [one for one in _listeners(gateway, ref) if one["protocol"] in {"HTTP", "HTTPS"}]
    addresses = gateway.get("status", {}).get("addresses") or ()
    if not (listeners and addresses):
        return None
    first = min(listeners, key=lambda one: str(one["protocol"]))
    return Address(addresses[0]["value"], first["port"], tls=first["protocol"] == "HTTPS")


def _encrypted(gateway: Manifest, ref: GatewayRef) -> bool:
    return any(one["protocol"] == "HTTPS" for one in _listeners(gateway, ref))


def _listeners(gateway: Manifest, ref: GatewayRef) -> list[Manifest]:
    """Those that a route attaches to: all of them, or the one that it names."""
    listeners = gateway["spec"].get("listeners") or ()
    return [one for one in listeners if (ref.section_name or one["name"]) == one["name"]]


def _lets_in(gateway: Manifest, *, at_home: bool) -> bool:
    """Whether listeners may be added; where labels decide, their ListenerSet tells if they may not."""
    allowed = gateway["spec"].get("allowedListeners", {}).get("namespaces", {}).get("from", "None")
    return allowed in {"All", "Selector"} or (allowed == "Same" and at_home)


def _missing(kind: str) -> Problem:
    return Problem(
        "GatewayAPIMissing",
        f"the operator could not list any {kind} when it started (install the CRDs of the "
        "Gateway API and of the proxy, and the chart's roles, then restart the operator)",
    )
