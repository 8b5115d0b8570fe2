"""The neutral description of a ModelDeployment's routes, as they should be and as they are."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from modelyard_operator.resources.names import sticky_cookie
from modelyard_operator.rollout.routing import Backends
from modelyard_operator.rollout.transitions import FULL
from modelyard_operator.spec import BackendTLSSpec, ExposureSpec, MatchSpec, StickinessSpec
from modelyard_operator.traffic.capabilities import encrypts_to_pods
from modelyard_operator.traffic.legs import Leg
from modelyard_operator.traffic.proxy import Problem, Proxy
from modelyard_operator.traffic.shares import divide

GRPC_SERVICES: Final = ("/inference.GRPCInferenceService", "/grpc.health.v1.Health")
"""Paths of the services of the gRPC port that the world may ask; reflection stays inside."""
_SPEAKS_GRPC: Final = frozenset({"traefik-nginx", "ingress-nginx", "envoy-gateway", "traefik"})
_H2C: Final = "HTTPRouteBackendProtocolH2C"
"""Name of the feature in ``GatewayClass.status.supportedFeatures``."""


@dataclass(frozen=True)
class TrafficPlan:
    """Who gets which share of the requests for which hosts and path.

    Attributes:
        exposure: Hosts, path, limits and certificate, as the user wrote them.
        proxy: The proxy that the routes are written for.
        backends: Revisions and the share of the second; a revision's Service has its name.
        match: Requests that go to the second whatever its share.
        variants: Percent of all requests that revisions outside the rollout get; the backends share
            the rest.
        stickiness: Clients keep the backend that has answered them.
        certified: Revisions whose pods have ports for TLS.
        encrypted: Those that have shown a certificate that is trusted.
        legs: How the live routes of each dialect lead to the pods.
        settled: The proxy has had time to follow the last change of a route.
    """

    exposure: ExposureSpec
    proxy: Proxy
    backends: Backends
    match: tuple[MatchSpec, ...] = ()
    variants: Mapping[str, int] = field(default_factory=dict)
    stickiness: StickinessSpec | None = None
    certified: frozenset[str] = frozenset()
    encrypted: frozenset[str] = frozenset()
    legs: Mapping[str, Leg] = field(default_factory=dict)
    settled: bool = True

    @property
    def leg(self) -> Leg:
        """How requests get to the pods; Envoy is led from one end to the other step by step."""
        end = Leg.TLS if self.encrypts else Leg.PLAIN
        live = self.legs.get(self.proxy.dialect or "")
        if live is None or self.proxy.profile != "envoy-gateway":
            return end
        # Who cannot speak TLS waits no longer than for next to no weight.
        return live.towards(end) if self.settled or live is Leg.TLS else live

    @property
    def leaves_tls(self) -> bool:
        """Whether the routes still lead to ports for TLS, and nobody asks for that any more."""
        return self.exposure.backend_tls is None and self.leg is not Leg.PLAIN

    @property
    def backend_tls(self) -> BackendTLSSpec | None:
        """What the pods are reached in TLS with, where somebody asks for that and the proxy can."""
        return self.exposure.backend_tls if encrypts_to_pods(self.proxy) else None

    @property
    def encrypts(self) -> bool:
        """Whether requests are to go to the pods in TLS: to all that the routes name, or to none.

        An Ingress of ingress-nginx knows one protocol for both revisions of a rollout.
        """
        return self.backend_tls is not None and bool(self.weights) and not self.unencrypted

    @property
    def unencrypted(self) -> frozenset[str]:
        """Revisions that the routes name and that do not speak TLS."""
        return frozenset((*self.weights, *self.variants)) - self.encrypted

    @property
    def shares(self) -> dict[str, int]:
        """Per mille of all requests that each revision should get, the primary first."""
        return divide(self.weights, self.variants)

    @property
    def weights(self) -> dict[str, int]:
        """Percent that each backend should get of what the variants leave; empty without any."""
        primary, canary = self.backends.primary, self.backends.canary
        if primary is None:
            return {}
        if canary is None or canary == primary:
            return {primary: 100}
        return {primary: 100 - self.backends.weight, canary: self.backends.weight}

    @property
    def cookie(self) -> str | None:
        """Cookie that clients keep a backend by; None while requests are not divided.

        The last step is everybody's: stable may have given up its pods by then.
        """
        backends = self.backends
        divided = len(self.weights) > 1 and 0 < backends.weight < FULL
        if self.stickiness is None or backends.canary is None or not divided:
            return None
        return sticky_cookie(self.stickiness.cookie, backends.canary)

    @property
    def grpc_services(self) -> tuple[str, ...]:
        """Paths that lead to the gRPC port; none where the proxy cannot, or the model has a prefix.

        A client of gRPC has no place to write a prefix to.
        """
        proxy = self.proxy
        able = proxy.profile in _SPEAKS_GRPC or _H2C in proxy.found.features
        return GRPC_SERVICES if able and self.exposure.path == "/" else ()


@dataclass(frozen=True)
class LiveRoutes:
    """What the routes in the API server say.

    Attributes:
        backends: Revisions that they name, and the share of the second.
        problem: Why the proxy has not taken them over as they are; None also where it cannot tell.
        written_for: Fields of the exposure that name the proxy they were written for.
        variants: Percent of all requests that they give to revisions outside the rollout.
        leg: How they lead to the pods.
    """

    backends: Backends
    problem: Problem | None = None
    written_for: Mapping[str, Any] = field(default_factory=dict)
    variants: Mapping[str, int] = field(default_factory=dict)
    leg: Leg = Leg.PLAIN

    @property
    def revisions(self) -> frozenset[str]:
        """Those that get a share of the requests."""
        pair = self.backends
        shares = [(pair.primary, FULL - pair.weight), (pair.canary, pair.weight)]
        return frozenset(
            name for name, share in (*shares, *self.variants.items()) if name and share
        )


NO_ROUTES: Final = LiveRoutes(Backends())
