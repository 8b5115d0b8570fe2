"""The ``Ingress`` dialect: for each port a primary and a canary Ingress with nginx annotations.

A canary is attached to the primary's Service and port, not to its host and path, by ingress-nginx
and Traefik alike; so each revision has a Service of its own, which no other route names. Host, path
and path type of the two must be the same to the letter, or the canary is silently ignored.

An Ingress speaks one protocol with its Services, so that gRPC has a pair of its own. The pair of HTTP is
the one that is read back, and it counts only while the other says the same: a crash between two writes
stops a rollout until the next pass has repaired it.

References:
    https://kubernetes.github.io/ingress-nginx/user-guide/nginx-configuration/annotations/#canary
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from modelyard_operator.resources import labels, names
from modelyard_operator.resources.meta import build_metadata
from modelyard_operator.resources.service import GRPC_PORT, GRPCS_PORT, HTTPS_PORT, PORT
from modelyard_operator.rollout.routing import Backends
from modelyard_operator.spec import ModelDeployment
from modelyard_operator.traffic.capabilities import CANARY_COOKIE_VALUE, splits
from modelyard_operator.traffic.legs import Leg
from modelyard_operator.traffic.plan import LiveRoutes, TrafficPlan
from modelyard_operator.traffic.proxy import Problem

Manifest = dict[str, Any]

PREFIX: Final = "nginx.ingress.kubernetes.io/"
CANARY: Final = f"{PREFIX}canary"
PROTOCOL: Final = f"{PREFIX}backend-protocol"
CANARY_WEIGHT: Final = f"{PREFIX}canary-weight"
CANARY_COOKIE: Final = f"{PREFIX}canary-by-cookie"
CANARY_HEADER: Final = f"{PREFIX}canary-by-header"
CANARY_HEADER_VALUE: Final = f"{PREFIX}canary-by-header-value"
RETRIES: Final = MappingProxyType(
    {f"{PREFIX}proxy-next-upstream": "error", f"{PREFIX}proxy-next-upstream-tries": "2"}
)
"""Once more, and a POST only while nothing of it was sent: without ``non_idempotent`` neither proxy
repeats one that was. A pod that says nothing in time is no reason to ask another for the same."""


_ENCRYPTED: Final = ((HTTPS_PORT, "HTTPS"), (GRPCS_PORT, "GRPCS"))
"""Port and protocol of the two pairs where requests go to the pods in TLS."""


class _Pair(NamedTuple):
    """The two Ingresses of one port.

    Attributes:
        primary: Name of the first.
        canary: Name of the second.
        port: Port of the revisions' Services.
        paths: Prefixes of the paths.
    """

    primary: str
    canary: str
    port: int
    paths: tuple[str, ...] = ()


def render_ingresses(owner: ModelDeployment, plan: TrafficPlan) -> list[Manifest]:
    """Render a primary and, if any, a canary for each port; nothing without a backend."""
    primary, canary = plan.backends.primary, plan.backends.canary
    if primary is None:
        return []
    http, grpc = _pairs(owner.name)
    made = [(http._replace(paths=(plan.exposure.path,)), _http_annotations(plan))]
    if plan.grpc_services:
        made.append((grpc._replace(paths=plan.grpc_services), _grpc_annotations(plan)))
    if plan.leg is Leg.TLS:
        encrypted = _encryption(owner, plan)
        made = [
            (pair._replace(port=port), {**annotations, **encrypted, PROTOCOL: protocol})
            for (pair, annotations), (port, protocol) in zip(made, _ENCRYPTED, strict=False)
        ]
    ingresses = []
    for pair, annotations in made:
        ingresses.append(
            _build(owner, plan, pair, name=pair.primary, service=primary, annotations=annotations)
        )
        if canary is not None and splits(plan.proxy):
            share = _canary_annotations(plan)
            ingresses.append(
                _build(owner, plan, pair, name=pair.canary, service=canary, annotations=share)
            )
    return ingresses


def read_ingresses(name: str, children: Mapping[tuple[str, str], Manifest]) -> LiveRoutes:
    """Return which revisions the live pairs name; an Ingress does not say who has taken it over."""
    http, grpc = _pairs(name)
    backends, of_grpc = _backends(http, children), _backends(grpc, children)
    problem = None
    if of_grpc != Backends() and of_grpc != backends:
        text = f"Ingress {grpc.primary} does not divide requests yet as {http.primary} does"
        problem = Problem("RoutePending", text)
    ingress = children.get(("Ingress", http.primary)) or {}
    ingress_class = ingress.get("spec", {}).get("ingressClassName")
    written_for = {"ingress_class_name": ingress_class}
    leg = (
        Leg.TLS
        if _backend_service(ingress).get("port", {}).get("number") == HTTPS_PORT
        else Leg.PLAIN
    )
    return LiveRoutes(backends, problem, written_for, leg=leg)


def backend_of(ingress: Mapping[str, Any]) -> str | None:
    """Return the Service that a live Ingress of ours names; None if somebody changed its shape."""
    name = _backend_service(ingress).get("name")
    return None if name is None else str(name)


def _backend_service(ingress: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return name and port of the Service; nothing if somebody changed the Ingress's shape."""
    try:
        path = ingress["spec"]["rules"][0]["http"]["paths"][0]
        service: Mapping[str, Any] = path["backend"]["service"]
    except (KeyError, IndexError):
        return {}
    return service


def canary_weight_of(ingress: Mapping[str, Any]) -> int:
    """Return the percent that a live canary Ingress gives; 0 when it gives none."""
    annotations = ingress["metadata"].get("annotations") or {}
    weight = annotations.get(CANARY_WEIGHT, "")
    return int(weight) if annotations.get(CANARY) == "true" and weight.isdecimal() else 0


def _canary_annotations(plan: TrafficPlan) -> dict[str, str]:
    """The share, and what beats it; the annotations know one header and one cookie.

    The cookie's value is theirs: ``always`` leads here, ``never`` to the primary.
    """
    annotations = {CANARY: "true", CANARY_WEIGHT: str(plan.backends.weight)}
    if plan.cookie:
        annotations[CANARY_COOKIE] = plan.cookie
    for match in plan.match:
        if match.header:
            annotations[CANARY_HEADER] = match.header.name
            annotations[CANARY_HEADER_VALUE] = match.header.value
        elif match.cookie and match.cookie.value == CANARY_COOKIE_VALUE:
            annotations[CANARY_COOKIE] = match.cookie.name
    return annotations


def _http_annotations(plan: TrafficPlan) -> dict[str, str]:
    exposure = plan.exposure
    return {
        **exposure.annotations,
        **_silence(plan),
        **RETRIES,
        f"{PREFIX}proxy-body-size": str(exposure.max_body_bytes),
        # Traefik checks the body size only while it buffers the request.
        f"{PREFIX}proxy-request-buffering": "on",
        f"{PREFIX}proxy-buffering": "off",
    }


def _grpc_annotations(plan: TrafficPlan) -> dict[str, str]:
    """What the proxy is told; whoever else reads annotations has read those of the other primary.

    The body is a whole stream here, so that nobody gathers or counts it: the runtime looks at each
    message.
    """
    annotations = plan.exposure.annotations
    return {
        **{key: value for key, value in annotations.items() if key.startswith(PREFIX)},
        **_silence(plan),
        **RETRIES,
        PROTOCOL: "GRPC",
        f"{PREFIX}proxy-body-size": "0",
        f"{PREFIX}proxy-request-buffering": "off",
    }


def _encryption(owner: ModelDeployment, plan: TrafficPlan) -> dict[str, str]:
    """Whom the proxy trusts: the authority in the Secret of the pods, and the name of the Service."""
    tls = plan.exposure.backend_tls
    secret = tls.secret_name if tls else ""
    return {
        f"{PREFIX}proxy-ssl-secret": f"{owner.namespace}/{secret}",
        f"{PREFIX}proxy-ssl-verify": "on",
        f"{PREFIX}proxy-ssl-name": names.certified_host(owner.name, owner.namespace),
        f"{PREFIX}proxy-ssl-server-name": "on",
    }


def _silence(plan: TrafficPlan) -> dict[str, str]:
    seconds = str(plan.exposure.timeout_seconds)
    return {f"{PREFIX}proxy-read-timeout": seconds, f"{PREFIX}proxy-send-timeout": seconds}


def _pairs(name: str) -> tuple[_Pair, _Pair]:
    """Name the pair of HTTP and the pair of gRPC of a ModelDeployment."""
    http = _Pair(names.ingress(name), names.canary_ingress(name), PORT)
    grpc = _Pair(names.grpc_ingress(name), names.grpc_canary_ingress(name), GRPC_PORT)
    return http, grpc


def _backends(pair: _Pair, children: Mapping[tuple[str, str], Manifest]) -> Backends:
    primary = children.get(("Ingress", pair.primary))
    canary = children.get(("Ingress", pair.canary))
    return Backends(
        primary=backend_of(primary) if primary else None,
        canary=backend_of(canary) if canary else None,
        weight=canary_weight_of(canary) if canary else 0,
    )


def _build(
    owner: ModelDeployment,
    plan: TrafficPlan,
    pair: _Pair,
    *,
    name: str,
    service: str,
    annotations: Mapping[str, str],
) -> Manifest:
    exposure = plan.exposure
    backend = {"service": {"name": service, "port": {"number": pair.port}}}
    paths = [{"path": path, "pathType": "Prefix", "backend": backend} for path in pair.paths]
    spec: Manifest = {
        "rules": [{"host": host, "http": {"paths": paths}} for host in exposure.hosts]
    }
    if plan.proxy.ingress_class:
        spec["ingressClassName"] = plan.proxy.ingress_class
    if exposure.tls:
        spec["tls"] = [{"hosts": list(exposure.hosts), "secretName": exposure.tls.secret_name}]
    metadata = build_metadata(owner, name, labels.for_model_deployment(owner.name))
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "metadata": {**metadata, "annotations": dict(annotations)},
        "spec": spec,
    }
