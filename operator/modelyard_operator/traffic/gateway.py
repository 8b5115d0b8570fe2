"""The ``Gateway`` dialect: one HTTPRoute of the Gateway API, and the policies of its proxy.

The two backends of a rollout are the first ``backendRefs`` of one rule, the primary before the other,
and the variants follow; so a change of weights is one write of one object, and there is no state
between two of them. Where both would name one revision there is one backend. An annotation tells which
are the variants, so that the pair is known from the route alone.

References:
    https://gateway-api.sigs.k8s.io/reference/spec/#httproute
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from modelyard_operator.kinds import HTTP_ROUTE, LISTENER_SET
from modelyard_operator.resources import labels, names
from modelyard_operator.resources.meta import build_metadata
from modelyard_operator.rollout.routing import Backends
from modelyard_operator.spec import GatewayRef, ModelDeployment
from modelyard_operator.traffic.backend_tls import (
    backend_policy_problem,
    render_backend_policies,
)
from modelyard_operator.traffic.envoy_policies import policy_problem, render_policies
from modelyard_operator.traffic.gateway_rules import HTTP_PORTS, MAIN_RULE, build_rules
from modelyard_operator.traffic.legs import Leg, read_leg
from modelyard_operator.traffic.listeners import listener_set_problem, render_listener_set
from modelyard_operator.traffic.plan import NO_ROUTES, LiveRoutes, TrafficPlan
from modelyard_operator.traffic.proxy import Problem
from modelyard_operator.traffic.shares import percent
from modelyard_operator.traffic.strangers import guard, render_answer, turns_away

Manifest = dict[str, Any]

_LISTENERS: Final = {"group": LISTENER_SET.group, "kind": LISTENER_SET.name}
_REQUIRED: Final = ("Accepted", "ResolvedRefs")


def render_http_route(model_deployment: ModelDeployment, plan: TrafficPlan) -> list[Manifest]:
    """Render the HTTPRoute, and the policies of its proxy; nothing without a Gateway."""
    gateway = plan.proxy.gateway
    if gateway is None or HTTP_ROUTE.name in plan.proxy.found.absent:
        return []
    metadata = _metadata(model_deployment)
    encrypts = plan.exposure.tls is not None and plan.proxy.found.takes_listeners
    listeners = [render_listener_set(plan, gateway, metadata)] if encrypts else []
    guarded = turns_away(plan)
    rules = build_rules(plan)
    if guarded:
        rules = guard(rules, plan, metadata["name"])
    route = {
        "apiVersion": HTTP_ROUTE.api_version,
        "kind": HTTP_ROUTE.name,
        "metadata": {
            **metadata,
            "annotations": {**plan.exposure.annotations, **_variants_mark(plan)},
        },
        "spec": {
            "parentRefs": [
                _LISTENERS | {"name": metadata["name"]} if encrypts else _parent(gateway)
            ],
            "hostnames": list(plan.exposure.hosts),
            "rules": rules,
        },
    }
    # A route must not name an answer that is not there yet. A policy that comes after its route changes
    # the clusters that Envoy has just been given; Envoy then waits 15 s for endpoints that nobody sends
    # again, and the new routes of every other model with it (envoyproxy/envoy#26749).
    answers = [render_answer(plan, metadata)] if guarded else []
    policies = [*render_policies(plan, metadata), *render_backend_policies(model_deployment, plan)]
    return [*listeners, *answers, *policies, route]


def read_http_route(name: str, children: Mapping[tuple[str, str], Manifest]) -> LiveRoutes:
    """Return which revisions the live HTTPRoute names, and what its Gateway says of it."""
    route = children.get((HTTP_ROUTE.name, names.http_route(name)))
    if route is None:
        return NO_ROUTES
    parents = route["spec"].get("parentRefs")
    backends, variants = _read_shares(route)
    if not parents:
        text = f"HTTPRoute {name} is not attached to a Gateway: somebody has changed it"
        return LiveRoutes(backends, Problem("RouteNotAccepted", text), variants=variants)
    gateway, problem = _attached(name, parents[0], children)
    found = problem or _objection(route, parents[0])
    found = found or policy_problem(children, names.http_route(name))
    leg = read_leg(_main_refs(route), HTTP_PORTS)
    if leg is not Leg.PLAIN:
        found = found or backend_policy_problem(children)
    written_for = {"gateway_ref": gateway} if gateway else {}
    return LiveRoutes(backends, found, written_for, variants, leg)


def _attached(
    name: str, parent: Manifest, children: Mapping[tuple[str, str], Manifest]
) -> tuple[GatewayRef | None, Problem | None]:
    """Return which Gateway a parent leads to, and why it does not listen."""
    if parent.get("kind") != LISTENER_SET.name:
        return GatewayRef.model_validate(parent), None
    listener_set = children.get((LISTENER_SET.name, names.http_route(name)))
    if listener_set is None:
        text = f"ListenerSet {name} is missing: somebody has deleted it"
        return None, Problem("RoutePending", text)
    gateway = GatewayRef.model_validate(listener_set["spec"]["parentRef"])
    return gateway, listener_set_problem(listener_set)


def _parent(gateway: GatewayRef) -> Manifest:
    parent = {"name": gateway.name}
    if gateway.namespace:
        parent["namespace"] = gateway.namespace
    if gateway.section_name:
        parent["sectionName"] = gateway.section_name
    return parent


def _metadata(model_deployment: ModelDeployment) -> Manifest:
    name = names.http_route(model_deployment.name)
    return build_metadata(
        model_deployment, name, labels.for_model_deployment(model_deployment.name)
    )


def _variants_mark(plan: TrafficPlan) -> dict[str, str]:
    return {labels.VARIANTS: ",".join(plan.variants)} if plan.variants else {}


def _read_shares(route: Manifest) -> tuple[Backends, dict[str, int]]:
    """Read the weights back; a rule that somebody changed to another shape names nobody."""
    shares: dict[str, int] = {}
    for ref in _main_refs(route):
        shares[ref["name"]] = shares.get(ref["name"], 0) + ref.get("weight", 1)
    mark = (route["metadata"].get("annotations") or {}).get(labels.VARIANTS, "")
    variants = {name: shares.pop(name) for name in mark.split(",") if name in shares}
    rest = sum(shares.values())
    match list(shares.items()):
        case [(primary, _)] if rest > 0:
            backends = Backends(primary)
        case [(primary, _), (canary, weight)] if rest > 0:
            backends = Backends(primary, canary, percent(weight, rest))
        case _:
            return Backends(), {}
    whole = rest + sum(variants.values())
    return backends, {name: percent(weight, whole) for name, weight in variants.items()}


def _main_refs(route: Manifest) -> list[Manifest]:
    rules = [one for one in route["spec"].get("rules") or () if one.get("name") == MAIN_RULE]
    return [ref for rule in rules for ref in rule.get("backendRefs", ())]


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
