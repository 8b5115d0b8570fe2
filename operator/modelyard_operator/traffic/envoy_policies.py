"""Envoy Gateway's policy of an HTTPRoute: what the Gateway API has no field for.

A policy may only say what Envoy keeps with a route or with its backends. What it keeps with the
listener, which are limits of bodies and of rates, tokens and authorization, is not to be found here:
each change of that ends every connection of every other model after the time to drain.

References:
    https://gateway.envoyproxy.io/docs/api/extension_types/#backendtrafficpolicy
    https://www.envoyproxy.io/docs/envoy/latest/intro/arch_overview/upstream/outlier
"""

from collections.abc import Mapping
from typing import Any, Final

from modelyard_operator.kinds import BACKEND_TRAFFIC_POLICY, HTTP_ROUTE
from modelyard_operator.traffic.plan import TrafficPlan
from modelyard_operator.traffic.proxy import Problem

Manifest = dict[str, Any]

NO_LIMIT: Final = "0s"
_ANY_NUMBER: Final = 4294967295
_UNREACHABLE: Final = {
    # Only what Envoy itself saw counts, a refused connection for instance: an answer, whatever its
    # status, is evidence that the rollout judges by, and none that may disappear from it.
    "splitExternalLocalOriginErrors": True,
    "consecutiveLocalOriginFailures": 3,
    "consecutive5XxErrors": 0,
    "interval": "1s",
    "baseEjectionTime": "10s",
    # Of both revisions together; so one pod that is alone is never left out.
    "maxEjectionPercent": 50,
}
"""When a pod gets no requests for a while: sooner than its node is known to be gone."""
_RETRY: Final = {
    "numRetries": 1,
    "retryOn": {"triggers": ["connect-failure", "refused-stream", "reset-before-request"]},
}
"""Once more, and only where nothing of the request has reached a pod: whether an inference may run
twice is the model's affair."""


def render_policies(plan: TrafficPlan, metadata: Manifest) -> list[Manifest]:
    """Render the policy of a route; none where its proxy is another or has no such kind.

    Args:
        plan: What the route is for.
        metadata: Name, labels and owner of the policy, which are the route's own.
    """
    absent = plan.proxy.found.absent
    if plan.proxy.profile != "envoy-gateway" or BACKEND_TRAFFIC_POLICY.name in absent:
        return []
    target = {"group": HTTP_ROUTE.group, "kind": HTTP_ROUTE.name, "name": metadata["name"]}
    spec = {
        "targetRefs": [target],
        # Alone it would replace the policy that the owner of the Gateway has given it.
        "mergeType": "StrategicMerge",
        "timeout": _timeout(plan),
        "loadBalancer": {"type": "LeastRequest"},
        "healthCheck": {"passive": _UNREACHABLE},
        "circuitBreaker": _no_breaker(),
        "retry": _RETRY,
    }
    policy = {
        "apiVersion": BACKEND_TRAFFIC_POLICY.api_version,
        "kind": BACKEND_TRAFFIC_POLICY.name,
        "metadata": metadata,
        "spec": spec,
    }
    return [policy]


def policy_problem(children: Mapping[tuple[str, str], Manifest], name: str) -> Problem | None:
    """Return why the proxy does not do what a policy says, in its own words; None when it does.

    Args:
        children: Live children of the ModelDeployment, by kind and name.
        name: Name of the policy.
    """
    policy = children.get((BACKEND_TRAFFIC_POLICY.name, name))
    if policy is None:
        return None
    where = f"{BACKEND_TRAFFIC_POLICY.name} {name}"
    conditions = [
        one
        for ancestor in policy.get("status", {}).get("ancestors") or ()
        for one in ancestor.get("conditions") or ()
        if one["type"] == "Accepted"
        and one.get("observedGeneration", 0) >= policy["metadata"]["generation"]
    ]
    if not conditions:
        return Problem("RoutePending", f"the Gateway has not looked at {where} as it is now")
    for one in conditions:
        if one["status"] != "True":
            reason, message = one.get("reason", ""), one.get("message", "")
            return Problem("PolicyNotAccepted", f"{where}: {reason}: {message}")
    return None


def _timeout(plan: TrafficPlan) -> Manifest:
    """How long an answer may be silent; how long it takes in all is its model's affair."""
    silence = f"{plan.exposure.timeout_seconds}s"
    return {"http": {"requestTimeout": NO_LIMIT, "streamIdleTimeout": silence}}


def _no_breaker() -> Manifest:
    """Unless told otherwise, Envoy answers 503 to all but 1,024 requests at a time; pods say 429."""
    limits = ("maxConnections", "maxPendingRequests", "maxParallelRequests")
    return dict.fromkeys(limits, _ANY_NUMBER)
