"""The ``Gateway`` dialect: one HTTPRoute of the Gateway API, and the policies of its proxy.

The two backends of a rollout are the two ``backendRefs`` of one rule, the primary first; so a change
of weights is one write of one object, and there is no state between two of them. Where both would
name one revision there is one backend.

References:
    https://gateway-api.sigs.k8s.io/reference/spec/#httproute
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from modelyard_operator.kinds import HTTP_ROUTE
from modelyard_operator.resources import labels, names
from modelyard_operator.resources.meta import build_metadata
from modelyard_operator.resources.service import PORT
from modelyard_operator.rollout.routing import Backends
from modelyard_operator.rollout.transitions import FULL
from modelyard_operator.spec import GatewayRef, ModelDeployment
from modelyard_operator.traffic.envoy_policies import NO_LIMIT, render_policies
from modelyard_operator.traffic.plan import NO_ROUTES, LiveRoutes, TrafficPlan
from modelyard_operator.traffic.proxy import Problem, Proxy

Manifest = dict[str, Any]

MAIN_RULE: Final = "main"
PIN_RULE: Final = "pinned"
REQUEST_TIMEOUT: Final = "HTTPRouteRequestTimeout"
"""Name of the feature in ``GatewayClass.status.supportedFeatures``."""
_REQUIRED: Final = ("Accepted", "ResolvedRefs")


def render_http_route(model_deployment: ModelDeployment, plan: TrafficPlan) -> list[Manifest]:
    """Render the HTTPRoute, and the policies of its proxy; nothing without a Gateway."""
    gateway = plan.proxy.gateway
    if gateway is None or HTTP_ROUTE.name in plan.proxy.found.absent:
        return []
    route = {
        "apiVersion": HTTP_ROUTE.api_version,
        "kind": HTTP_ROUTE.name,
        "metadata": {
            **_metadata(model_deployment),
            "annotations": dict(plan.exposure.annotations),
        },
        "spec": {
            "parentRefs": [_parent(gateway)],
            "hostnames": list(plan.exposure.hosts),
            "rules": _rules(plan),
        },
    }
    return [route, *render_policies(plan, _metadata(model_deployment))]


def read_http_route(name: str, children: Mapping[tuple[str, str], Manifest]) -> LiveRoutes:
    """Return which revisions the live HTTPRoute names, and what its Gateway says of it."""
    route = children.get((HTTP_ROUTE.name, names.http_route(name)))
    if route is None:
        return NO_ROUTES
    parents = route["spec"].get("parentRefs")
    if not parents:
        text = f"HTTPRoute {name} is not attached to a Gateway: somebody has changed it"
        return LiveRoutes(_backends(route), Problem("RouteNotAccepted", text))
    gateway = GatewayRef.model_validate(parents[0])
    problem = _objection(route, parents[0])
    return LiveRoutes(_backends(route), problem, written_for={"gateway_ref": gateway})


def _parent(gateway: GatewayRef) -> Manifest:
    parent = {"name": gateway.name}
    if gateway.namespace:
        parent["namespace"] = gateway.namespace
    if gateway.section_name:
        parent["sectionName"] = gateway.section_name
    return parent


def _rules(plan: TrafficPlan) -> list[Manifest]:
    backends = plan.backends
    weights = plan.weights
    path = {"path": {"type": "PathPrefix", "value": plan.exposure.path}}
    main = _rule(MAIN_RULE, [path], weights, plan.proxy)
    if len(weights) == 1 or not plan.match:
        return [main]
    pins = [
        {**path, "headers": [{"name": one.header.name, "value": one.header.value}]}
        for one in plan.match
    ]
    # A weight of 0 would drop the requests, so the only backend has all of them.
    return [_rule(PIN_RULE, pins, {str(backends.canary): FULL}, plan.proxy), main]


def _rule(name: str, matches: list[Manifest], weights: Mapping[str, int], proxy: Proxy) -> Manifest:
    rule: Manifest = {
        "name": name,
        "matches": matches,
        "backendRefs": [
            {"name": service, "port": PORT, "weight": weight} for service, weight in weights.items()
        ],
    }
    if proxy.profile == "envoy-gateway" or REQUEST_TIMEOUT in proxy.found.features:
        # Left out, Envoy would end every answer after 15 s, streams included.
        rule["timeouts"] = {"request": NO_LIMIT}
    return rule


def _metadata(model_deployment: ModelDeployment) -> Manifest:
    name = names.http_route(model_deployment.name)
    return build_metadata(
        model_deployment, name, labels.for_model_deployment(model_deployment.name)
    )


def _backends(route: Manifest) -> Backends:
    """Read the weights back; a rule that somebody changed to another shape names nobody."""
    rules = route["spec"].get("rules") or ()
    refs = [
        ref
        for rule in rules
        if rule.get("name") == MAIN_RULE
        for ref in rule.get("backendRefs", ())
    ]
    match [(ref["name"], ref.get("weight", 1)) for ref in refs]:
        case [(primary, weight)] if weight > 0:
            return Backends(primary)
        case [(primary, rest), (canary, weight)] if rest + weight == FULL:
            return Backends(primary, canary, weight)
    return Backends()


def _objection(route: Manifest, wanted: Mapping[str, Any]) -> Problem | None:
    """Why the Gateway has not taken over this generation of the route; None when it has."""
    verdicts = [_verdict(route, parent) for parent in _answers(route, wanted)]
    if None in verdicts:
        return None
    where = f"{wanted.get('namespace') or route['metadata']['namespace']}/{wanted['name']}"
    silent = Problem(
        "RouteNotAccepted",
        f"Gateway {where} has not answered to HTTPRoute {route['metadata']['name']} "
        "(does the Gateway exist, and does its controller run?)",
    )
    return verdicts[0] if verdicts else silent


def _answers(route: Manifest, wanted: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    own = route["metadata"]["namespace"]
    for parent in route.get("status", {}).get("parents") or ():
        ref = parent["parentRef"]
        same_place = (ref.get("namespace") or own) == (wanted.get("namespace") or own)
        same_section = ref.get("sectionName") == wanted.get("sectionName")
        if ref["name"] == wanted["name"] and same_place and same_section:
            yield parent


def _verdict(route: Manifest, parent: Mapping[str, Any]) -> Problem | None:
    said = {one["type"]: one for one in parent.get("conditions") or ()}
    where = f"HTTPRoute {route['metadata']['name']}"
    for type_ in _REQUIRED:
        condition = said.get(type_, {})
        if condition.get("observedGeneration", 0) < route["metadata"]["generation"]:
            return Problem("RoutePending", f"the Gateway has not looked at {where} as it is now")
        if condition.get("status") != "True":
            reason, message = condition.get("reason", type_), condition.get("message", "")
            return Problem("RouteNotAccepted", f"{where}: {reason}: {message}")
    return None
