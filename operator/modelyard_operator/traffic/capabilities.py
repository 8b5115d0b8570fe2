"""What each proxy profile can do; what it cannot is reported in ``FeaturesUnsupported``.

Sources: the annotation tables of ingress-nginx v1.15 and of Traefik's nginx provider v3.7, which is
the first that honours the canary annotations.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from modelyard_operator.settings import OperatorSettings, Profile
from modelyard_operator.spec import DEFAULT_STEPS, ExposureSpec, ModelDeploymentSpec


@dataclass(frozen=True)
class Capabilities:
    """Features of a profile.

    Attributes:
        canary: Divides the traffic of one route between two Services, in percent.
        annotations: Honours the time-out and body-size annotations of ingress-nginx.
    """

    canary: bool
    annotations: bool


CAPABILITIES: Final[Mapping[Profile, Capabilities]] = MappingProxyType(
    {
        "traefik-nginx": Capabilities(canary=True, annotations=True),
        "ingress-nginx": Capabilities(canary=True, annotations=True),
        "none": Capabilities(canary=False, annotations=False),
    }
)


@dataclass(frozen=True)
class Proxy:
    """The proxy that a ModelDeployment's routes are written for.

    Attributes:
        ingress_class: Name of the IngressClass; empty leaves it to the cluster's default.
        profile: What is known of the proxy behind it.
        routed: There is a route at all.
    """

    ingress_class: str
    profile: Profile
    routed: bool

    @property
    def splits(self) -> bool:
        """Whether traffic can be divided."""
        return self.routed and CAPABILITIES[self.profile].canary


def resolve_proxy(exposure: ExposureSpec, settings: OperatorSettings) -> Proxy:
    """Tell which proxy serves an exposure."""
    ingress_class = exposure.ingress_class_name or settings.default_ingress_class
    routed = bool(exposure.hosts) and exposure.dialect != "None"
    return Proxy(ingress_class, settings.profile(ingress_class), routed)


def unsupported(spec: ModelDeploymentSpec, proxy: Proxy) -> tuple[str, ...]:
    """Return one sentence for each feature asked for that the proxy does not have."""
    takes_over = "a candidate takes over at once when it is ready"
    pinned = "rollout.match: {}; no header reaches a candidate"
    if not proxy.routed:
        # The default steps are nobody's wish, so that a minimal object is not told of them.
        asked = spec.rollout.steps not in {DEFAULT_STEPS, DEFAULT_STEPS[-1:]}
        no_route = "there is no external route to divide"
        return (
            *(f"rollout.steps: {no_route}; {takes_over}",) * asked,
            *(pinned.format(no_route),) * bool(spec.rollout.match),
        )
    gaps: list[str] = []
    named = f"IngressClass {proxy.ingress_class or '(cluster default)'} has no profile"
    if not CAPABILITIES[proxy.profile].canary:
        gaps.append(f"rollout.steps: {named}; {takes_over}")
        gaps.extend([pinned.format(named)] if spec.rollout.match else [])
    if not CAPABILITIES[proxy.profile].annotations:
        gaps.append(f"exposure.timeoutSeconds: {named}; the proxy's own limits apply")
    return tuple(gaps)
