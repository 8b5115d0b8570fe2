"""Certificates behind a Gateway: a ListenerSet adds listeners to the Gateway that somebody else owns.

It lies beside the ModelDeployment and may name Secrets of its own namespace alone; the Gateway says
from which namespaces it takes such sets. An HTTPRoute that is attached to the set answers over TLS
only.

References:
    https://gateway-api.sigs.k8s.io/api-types/listenerset/
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from modelyard_operator.kinds import GATEWAY, LISTENER_SET
from modelyard_operator.spec import GatewayRef
from modelyard_operator.traffic.plan import TrafficPlan
from modelyard_operator.traffic.proxy import Problem

Manifest = dict[str, Any]

PORT: Final = 443
_REQUIRED: Final = ("Accepted", "Programmed")


def render_listener_set(plan: TrafficPlan, gateway: GatewayRef, metadata: Manifest) -> Manifest:
    """Render one listener a host, with the certificate of the exposure.

    Args:
        plan: What the route is for; its exposure names a certificate.
        gateway: Whose listeners they become.
        metadata: Name, labels and owner, which are the route's own.
    """
    tls = plan.exposure.tls
    secret = tls.secret_name if tls else ""
    terminate = {"mode": "Terminate", "certificateRefs": [{"name": secret}]}
    parent = {"group": GATEWAY.group, "kind": GATEWAY.name, "name": gateway.name}
    if gateway.namespace:
        parent["namespace"] = gateway.namespace
    return {
        "apiVersion": LISTENER_SET.api_version,
        "kind": LISTENER_SET.name,
        # An issuer of certificates is asked by an annotation of what names the Secret.
        "metadata": {**metadata, "annotations": dict(plan.exposure.annotations)},
        "spec": {
            "parentRef": parent,
            "listeners": [
                {
                    "name": f"https-{place}",
                    "hostname": host,
                    "port": PORT,
                    "protocol": "HTTPS",
                    "tls": terminate,
                }
                for place, host in enumerate(plan.exposure.hosts)
            ],
        },
    }


def listener_set_problem(listener_set: Mapping[str, Any]) -> Problem | None:
    """Return why a Gateway does not listen as a ListenerSet asks it to; None when it does."""
    name = listener_set["metadata"]["name"]
    status = listener_set.get("status", {})
    for where, condition in _objections(status):
        reason, message = condition.get("reason", ""), condition.get("message", "")
        return Problem("RouteNotAccepted", f"ListenerSet {name}{where}: {reason}: {message}")
    generation = listener_set["metadata"]["generation"]
    said = {one["type"]: one for one in status.get("conditions") or ()}
    if any(said.get(one, {}).get("observedGeneration", 0) < generation for one in _REQUIRED):
        return Problem(
            "RoutePending", f"the Gateway has not looked at ListenerSet {name} as it is now"
        )
    return None


def _objections(status: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The conditions that are not as they should be, those of a listener first: they say more."""
    for listener in status.get("listeners") or ():
        for one in listener.get("conditions") or ():
            if one["type"] in {"ResolvedRefs", *_REQUIRED} and one["status"] == "False":
                yield f", listener {listener['name']}", one
    for one in status.get("conditions") or ():
        if one["type"] in _REQUIRED and one["status"] == "False":
            yield "", one
