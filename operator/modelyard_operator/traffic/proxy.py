"""Which proxy a ModelDeployment's routes are written for, and in which dialect."""

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from typing import Any, Final, NamedTuple

from modelyard_operator.settings import Dialect, GatewayProfile, OperatorSettings, Profile
from modelyard_operator.spec import ExposureSpec, GatewayRef


class Problem(NamedTuple):
    """Why routes do not work: the reason of a condition, and its message with a hint."""

    reason: str
    message: str


NO_GATEWAY: Final = Problem(
    "GatewayNotNamed",
    "spec.exposure.gatewayRef: expected the name of a Gateway, because the operator has no default "
    "(name one, or set defaultGateway in the operator's chart)",
)


class Address(NamedTuple):
    """Where a proxy listens.

    Attributes:
        host: IP address or name.
        port: Port of the listener.
        tls: The listener speaks TLS.
    """

    host: str
    port: int
    tls: bool = False

    @property
    def url(self) -> str:
        """Where a request goes, without a path."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self.tls else 'http'}://{host}:{self.port}"


@dataclass(frozen=True)
class GatewayView:
    """What was found out about the Gateway that an exposure leads to.

    Attributes:
        profile: What is known of the proxy behind it; None while nothing is.
        features: ``supportedFeatures`` of its class.
        encrypted: The listener that routes attach to holds a certificate.
        takes_listeners: It lets others add listeners, and with them certificates of their own.
        problem: Why no route can work with it.
        absent: Kinds that routes to it are made of, and that the operator could not list.
        address: Where it listens; None while it does not say.
    """

    profile: GatewayProfile | None = None
    features: frozenset[str] = frozenset()
    encrypted: bool = False
    takes_listeners: bool = False
    problem: Problem | None = None
    absent: frozenset[str] = frozenset()
    address: Address | None = None


@dataclass(frozen=True)
class Proxy:
    """The proxy that a ModelDeployment's routes are written for.

    Attributes:
        dialect: Kind of the routes; None: there are none.
        profile: What is known of the proxy.
        ingress_class: Name of the IngressClass; empty leaves it to the cluster's default.
        gateway: The Gateway that an HTTPRoute is attached to.
        found: What is known of that Gateway.
        problem: Why the routes cannot be as asked.
        leaving: The proxy that serves until this one is seen to.
        withheld: Every host is another ModelDeployment's.
    """

    dialect: Dialect | None
    profile: Profile
    ingress_class: str = ""
    gateway: GatewayRef | None = None
    found: GatewayView = GatewayView()
    problem: Problem | None = None
    leaving: "Proxy | None" = None
    withheld: bool = False

    @property
    def routed(self) -> bool:
        """Whether there is a route at all."""
        return self.dialect is not None and not self.withheld

    def encrypts(self, exposure: ExposureSpec) -> bool:
        """Tell whether requests come over TLS, with the exposure's certificate or the Gateway's."""
        own = exposure.tls is not None
        if self.dialect == "Gateway":
            return self.found.encrypted or (own and self.found.takes_listeners)
        return own

    @property
    def serving(self) -> "Proxy":
        """The proxy that requests come through now."""
        return self.leaving or self


@dataclass(frozen=True)
class Routed:
    """How a ModelDeployment has been routed so far.

    Attributes:
        resolved: Dialect that status names.
        profile: Profile that status names; counts while a Gateway cannot be looked at.
        live: Dialects that there are objects of, each with the fields of the exposure that name the
            proxy they were written for.
        confirmed: Of those, the ones whose proxies have taken them over and were given time to.
    """

    resolved: str | None = None
    profile: str | None = None
    live: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    confirmed: AbstractSet[str] = frozenset()


NEVER_ROUTED: Final = Routed()


def resolve_proxy(
    exposure: ExposureSpec,
    settings: OperatorSettings,
    before: Routed = NEVER_ROUTED,
    gateway: GatewayView | None = None,
) -> Proxy:
    """Tell which proxy serves an exposure.

    A change of dialect is not a change of proxy yet: the routes that serve stay, and follow every
    change of weights, until the new ones are confirmed.

    Args:
        exposure: What the user asks for.
        settings: The operator's own settings.
        before: How it has been routed so far.
        gateway: What was found out about the Gateway, if anybody has looked.
    """
    if not exposure.hosts or exposure.dialect == "None":
        return replace(_ingress(exposure, settings), dialect=None)
    wanted = _dialect(exposure, settings, before)
    found = gateway or GatewayView()
    proxy = _proxy(wanted, exposure, settings, before, found)
    if wanted in before.confirmed:
        return proxy
    for other, names in before.live.items():
        if other != wanted:
            # An edit may have taken away the names that these routes go by.
            kept = exposure.model_copy(update=dict(names))
            return replace(proxy, leaving=_proxy(other, kept, settings, before, found))
    return proxy


def _dialect(exposure: ExposureSpec, settings: OperatorSettings, before: Routed) -> Dialect:
    """Resolve Auto once: what a ModelDeployment was resolved to, it keeps."""
    if exposure.dialect in {"Ingress", "Gateway"}:
        return "Gateway" if exposure.dialect == "Gateway" else "Ingress"
    for known in (before.resolved, *sorted(before.live)):
        if known in {"Ingress", "Gateway"}:
            return "Gateway" if known == "Gateway" else "Ingress"
    if settings.default_dialect != "Auto":
        return settings.default_dialect
    if exposure.gateway_ref or (settings.default_gateway and not exposure.ingress_class_name):
        return "Gateway"
    return "Ingress"


def _proxy(
    dialect: str,
    exposure: ExposureSpec,
    settings: OperatorSettings,
    before: Routed,
    found: GatewayView,
) -> Proxy:
    if dialect == "Gateway":
        return _gateway(exposure, settings, before, found)
    return _ingress(exposure, settings)


def _ingress(exposure: ExposureSpec, settings: OperatorSettings) -> Proxy:
    ingress_class = exposure.ingress_class_name or settings.default_ingress_class
    return Proxy("Ingress", settings.profile(ingress_class), ingress_class)


def _gateway(
    exposure: ExposureSpec, settings: OperatorSettings, before: Routed, found: GatewayView
) -> Proxy:
    named = exposure.gateway_ref or settings.default_gateway
    live = before.live.get("Gateway", {}).get("gateway_ref")
    # A route that serves is not moved to a Gateway that is not there.
    ref = live or named if found.problem else named or live
    kept: dict[str | None, GatewayProfile] = {
        "envoy-gateway": "envoy-gateway",
        "traefik": "traefik",
    }
    profile = found.profile or kept.get(before.profile, "generic")
    problem = found.problem if named else NO_GATEWAY
    return Proxy("Gateway", profile, gateway=ref, found=found, problem=problem)
