"""The ``Ingress`` dialect: a primary and a canary Ingress with nginx annotations.

A canary is attached to the primary's Service and port, not to its host and path, by ingress-nginx
and Traefik alike; so each revision has a Service of its own, which no other route names. Host, path
and path type of the two must be the same to the letter, or the canary is silently ignored.

References:
    https://kubernetes.github.io/ingress-nginx/user-guide/nginx-configuration/annotations/#canary
"""

from collections.abc import Mapping
from typing import Any, Final

from modelyard_operator.resources import labels, names
from modelyard_operator.resources.meta import build_metadata
from modelyard_operator.resources.service import PORT
from modelyard_operator.rollout.routing import Backends
from modelyard_operator.spec import ModelDeployment
from modelyard_operator.traffic.capabilities import splits
from modelyard_operator.traffic.plan import LiveRoutes, TrafficPlan

Manifest = dict[str, Any]

PREFIX: Final = "nginx.ingress.kubernetes.io/"
CANARY: Final = f"{PREFIX}canary"
CANARY_WEIGHT: Final = f"{PREFIX}canary-weight"
CANARY_HEADER: Final = f"{PREFIX}canary-by-header"
CANARY_HEADER_VALUE: Final = f"{PREFIX}canary-by-header-value"


def render_ingresses(model_deployment: ModelDeployment, plan: TrafficPlan) -> list[Manifest]:
    """Render the primary and, if any, the canary; nothing without a backend."""
    backends = plan.backends
    if backends.primary is None:
        return []
    primary = _build(
        model_deployment,
        plan,
        name=names.ingress(model_deployment.name),
        service=backends.primary,
        annotations=_primary_annotations(plan),
    )
    if backends.canary is None or not splits(plan.proxy):
        return [primary]
    canary = _build(
        model_deployment,
        plan,
        name=names.canary_ingress(model_deployment.name),
        service=backends.canary,
        annotations=_canary_annotations(plan),
    )
    return [primary, canary]


def read_ingresses(name: str, children: Mapping[tuple[str, str], Manifest]) -> LiveRoutes:
    """Return which revisions the live pair names; an Ingress does not say who has taken it over."""
    primary = children.get(("Ingress", names.ingress(name)))
    canary = children.get(("Ingress", names.canary_ingress(name)))
    return LiveRoutes(
        Backends(
            primary=backend_of(primary) if primary else None,
            canary=backend_of(canary) if canary else None,
            weight=canary_weight_of(canary) if canary else 0,
        ),
        written_for={"ingress_class_name": (primary or {}).get("spec", {}).get("ingressClassName")},
    )


def backend_of(ingress: Mapping[str, Any]) -> str | None:
    """Return the Service that a live Ingress of ours names; None if somebody changed its shape."""
    try:
        path = ingress["spec"]["rules"][0]["http"]["paths"][0]
        return str(path["backend"]["service"]["name"])
    except (KeyError, IndexError):
        return None


def canary_weight_of(ingress: Mapping[str, Any]) -> int:
    """Return the percent that a live canary Ingress gives; 0 when it gives none."""
    annotations = ingress["metadata"].get("annotations") or {}
    weight = annotations.get(CANARY_WEIGHT, "")
    return int(weight) if annotations.get(CANARY) == "true" and weight.isdecimal() else 0


def _canary_annotations(plan: TrafficPlan) -> dict[str, str]:
    """The share, and a header that beats it; the annotations know one header, and so the CRD."""
    annotations = {CANARY: "true", CANARY_WEIGHT: str(plan.backends.weight)}
    for match in plan.match:
        annotations[CANARY_HEADER] = match.header.name
        annotations[CANARY_HEADER_VALUE] = match.header.value
    return annotations


def _primary_annotations(plan: TrafficPlan) -> dict[str, str]:
    exposure = plan.exposure
    return {
        **exposure.annotations,
        f"{PREFIX}proxy-read-timeout": str(exposure.timeout_seconds),
        f"{PREFIX}proxy-send-timeout": str(exposure.timeout_seconds),
        f"{PREFIX}proxy-body-size": str(exposure.max_body_bytes),
        # Traefik checks the body size only while it buffers the request.
        f"{PREFIX}proxy-request-buffering": "on",
        f"{PREFIX}proxy-buffering": "off",
    }


def _build(
    model_deployment: ModelDeployment,
    plan: TrafficPlan,
    *,
    name: str,
    service: str,
    annotations: Mapping[str, str],
) -> Manifest:
    exposure = plan.exposure
    metadata = build_metadata(
        model_deployment, name, labels.for_model_deployment(model_deployment.name)
    )
    path = {
        "path": exposure.path,
        "pathType": "Prefix",
        "backend": {"service": {"name": service, "port": {"number": PORT}}},
    }
    spec: Manifest = {
        "rules": [{"host": host, "http": {"paths": [path]}} for host in exposure.hosts]
    }
    if plan.proxy.ingress_class:
        spec["ingressClassName"] = plan.proxy.ingress_class
    if exposure.tls:
        spec["tls"] = [{"hosts": list(exposure.hosts), "secretName": exposure.tls.secret_name}]
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "metadata": {**metadata, "annotations": dict(annotations)},
        "spec": spec,
    }
