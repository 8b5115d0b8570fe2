"""What each proxy profile can do; what it cannot is reported in ``FeaturesUnsupported``.

``native``: the proxy does it. ``runtime``: the model server does it, behind any proxy alike. ``no``:
nobody does, and status says so.

Sources: the annotation tables of ingress-nginx v1.15 and of Traefik's nginx provider v3.7, which is
the first that honours the canary annotations; the Gateway API v1.6; Envoy Gateway v1.9. Traefik's
provider for the Gateway API accepts time-outs and ignores them.
"""

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Final, Literal

from modelyard_operator.kinds import BACKEND_TLS_POLICY
from modelyard_operator.settings import Profile
from modelyard_operator.spec import (
    DEFAULT_STEPS,
    ExposureSpec,
    ModelDeploymentSpec,
    RolloutSpec,
)
from modelyard_operator.traffic.proxy import Proxy

Support = Literal["native", "runtime", "no"]

STEPS: Final = "rollout.steps"
MATCH: Final = "rollout.match[].header"
MATCH_COOKIE: Final = "rollout.match[].cookie"
STICKINESS: Final = "rollout.stickiness"
SHADOW: Final = "rollout.shadow"
VARIANTS: Final = "variants"
TIMEOUT: Final = "exposure.timeoutSeconds"
BODY: Final = "exposure.maxBodyBytes"
TLS: Final = "exposure.tls"
BACKEND_TLS: Final = "exposure.backendTLS"
CANARY_COOKIE_VALUE: Final = "always"
"""Value of a cookie that leads to the candidate of an Ingress."""
AUTH: Final = "exposure.auth"
RATE: Final = "exposure.rateLimit"

_LOSSES: Final = MappingProxyType(
    {
        STEPS: "a candidate takes over at once when it is ready",
        MATCH: "no header reaches a candidate",
        MATCH_COOKIE: "no cookie reaches a candidate",
        STICKINESS: "each request is divided anew",
        VARIANTS: "none of them runs",
        TIMEOUT: "the proxy's own limits apply",
        TLS: "the listeners of the Gateway hold the certificates",
        BACKEND_TLS: "requests go to the pods in plain text",
    }
)
"""What becomes of a field that a profile says ``no`` to."""

_PROFILES: Final[tuple[Profile, ...]] = (
    *("traefik-nginx", "ingress-nginx", "none"),
    *("envoy-gateway", "traefik", "generic"),
)
_TABLE: Final[Mapping[str, tuple[Support, ...]]] = MappingProxyType(
    {
        STEPS: ("native", "native", "no", "native", "native", "native"),
        MATCH: ("native", "native", "no", "native", "native", "native"),
        MATCH_COOKIE: ("native", "native", "no", "native", "native", "no"),
        STICKINESS: ("native", "native", "no", "native", "native", "no"),
        SHADOW: ("runtime", "runtime", "runtime", "runtime", "runtime", "runtime"),
        VARIANTS: ("no", "no", "no", "native", "native", "native"),
        TIMEOUT: ("native", "native", "no", "native", "no", "no"),
        BODY: ("native", "native", "runtime", "runtime", "runtime", "runtime"),
        BACKEND_TLS: ("native", "native", "no", "native", "native", "no"),
        TLS: ("native", "native", "native", "native", "no", "no"),
        AUTH: ("runtime", "runtime", "runtime", "runtime", "runtime", "runtime"),
        RATE: ("runtime", "runtime", "runtime", "runtime", "runtime", "runtime"),
    }
)
CAPABILITIES: Final[Mapping[Profile, Mapping[str, Support]]] = MappingProxyType(
    {
        profile: MappingProxyType({feature: row[place] for feature, row in _TABLE.items()})
        for place, profile in enumerate(_PROFILES)
    }
)


def splits(proxy: Proxy) -> bool:
    """Tell whether traffic can be divided."""
    return proxy.routed and has(proxy, STEPS)


def carries_variants(proxy: Proxy) -> bool:
    """Tell whether more than two revisions can get requests."""
    return proxy.routed and has(proxy, VARIANTS)


def has(proxy: Proxy, feature: str) -> bool:
    """Tell whether a proxy does something itself."""
    return CAPABILITIES[proxy.profile][feature] == "native"


def encrypts_to_pods(proxy: Proxy) -> bool:
    """Tell whether a proxy can speak TLS to the pods; behind a Gateway it takes a kind of its own."""
    knows = proxy.dialect != "Gateway" or BACKEND_TLS_POLICY.name not in proxy.found.absent
    return proxy.routed and has(proxy, BACKEND_TLS) and knows


def unsupported(spec: ModelDeploymentSpec, proxy: Proxy) -> tuple[str, ...]:
    """Return one sentence for each feature asked for that nobody provides."""
    lost = [name for name in _lost(proxy) if _asked(spec, name, proxy)]
    gaps = [_sentence(name, proxy) for name in lost]
    gaps += _canary_cookie_gaps(spec.rollout, proxy)
    exposure = spec.exposure
    if exposure.dialect == "Auto" and exposure.gateway_ref and proxy.dialect == "Ingress":
        gaps.append(
            "exposure.gatewayRef: Auto was resolved to Ingress before; "
            "it counts with exposure.dialect: Gateway"
        )
    return tuple(gaps)


def refused(spec: ModelDeploymentSpec, proxy: Proxy) -> tuple[str, ...]:
    """Return the sentences that hold a strict exposure back.

    What is left at its default is nobody's wish, and of a proxy that is not there nothing is known.
    Requests that are encrypted with the Gateway's certificate are no worse off than asked for.
    """
    if not (spec.exposure.strict and proxy.routed) or proxy.problem is not None:
        return ()
    met = {TLS} if proxy.found.encrypted else set()
    lost = [name for name in _lost(proxy) if _wished(spec, name) and name not in met]
    gaps = [_sentence(name, proxy) for name in lost]
    return (*gaps, *_canary_cookie_gaps(spec.rollout, proxy))


def _sentence(feature: str, proxy: Proxy) -> str:
    return f"{feature}: {_why(feature, proxy)}; {_LOSSES[feature]}"


def _canary_cookie_gaps(rollout: RolloutSpec, proxy: Proxy) -> Iterator[str]:
    """The annotations know one cookie, and of its values one that leads to the candidate."""
    if proxy.dialect != "Ingress" or not splits(proxy):
        return
    for cookie in (match.cookie for match in rollout.match if match.cookie):
        if cookie.value != CANARY_COOKIE_VALUE:
            yield (
                f"{MATCH_COOKIE}: an Ingress knows the value {CANARY_COOKIE_VALUE} only, "
                f"got {cookie.value!r}; {_LOSSES[MATCH_COOKIE]}"
            )
        elif rollout.stickiness:
            yield (
                f"{STICKINESS}: an Ingress knows one cookie, which is that of rollout.match; "
                f"{_LOSSES[STICKINESS]}"
            )


def _lost(proxy: Proxy) -> list[str]:
    """Features that nobody provides; a Gateway may take certificates, or not, whatever its profile."""
    if not proxy.routed:
        return [STEPS, MATCH, MATCH_COOKIE, STICKINESS, VARIANTS, BACKEND_TLS]
    row = CAPABILITIES[proxy.profile]
    lost = [name for name in row if row[name] == "no" and name != TLS]
    if has(proxy, BACKEND_TLS) and not encrypts_to_pods(proxy):
        lost.append(BACKEND_TLS)
    takes = proxy.found.takes_listeners if proxy.dialect == "Gateway" else has(proxy, TLS)
    return lost if takes else [*lost, TLS]


def _why(feature: str, proxy: Proxy) -> str:
    if not proxy.routed:
        return "there is no external route to divide"
    if proxy.profile == "none":
        return f"IngressClass {proxy.ingress_class or '(cluster default)'} has no profile"
    if feature == BACKEND_TLS and has(proxy, feature):
        return "the operator could not list any BackendTLSPolicy when it started"
    if has(proxy, feature):
        return "the Gateway lets nobody here add listeners (spec.allowedListeners)"
    return f"the profile {proxy.profile} does not have it"


def _asked(spec: ModelDeploymentSpec, feature: str, proxy: Proxy) -> bool:
    # The default steps are nobody's wish, so that a minimal object is not told of them.
    return (proxy.routed and feature in {STEPS, TIMEOUT}) or _wished(spec, feature)


def _wished(spec: ModelDeploymentSpec, feature: str) -> bool:
    """Tell whether a field has another value than it would have by itself."""
    rollout, exposure = spec.rollout, spec.exposure
    wishes = {
        STEPS: rollout.steps not in {DEFAULT_STEPS, DEFAULT_STEPS[-1:]},
        MATCH: any(match.header for match in rollout.match),
        MATCH_COOKIE: any(match.cookie for match in rollout.match),
        STICKINESS: rollout.stickiness is not None,
        VARIANTS: bool(spec.variants),
        TLS: exposure.tls is not None,
        BACKEND_TLS: exposure.backend_tls is not None,
        TIMEOUT: exposure.timeout_seconds != ExposureSpec().timeout_seconds,
    }
    return wishes.get(feature, True)
