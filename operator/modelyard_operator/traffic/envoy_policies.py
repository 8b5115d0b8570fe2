"""The policies of Envoy Gateway that go with an HTTPRoute: what the Gateway API has no field for.

References:
    https://gateway.envoyproxy.io/docs/api/extension_types/#backendtrafficpolicy
"""

from typing import Any, Final

from modelyard_operator.kinds import BACKEND_TRAFFIC_POLICY, HTTP_ROUTE, Kind
from modelyard_operator.traffic.plan import TrafficPlan

Manifest = dict[str, Any]

NO_LIMIT: Final = "0s"


def render_policies(plan: TrafficPlan, metadata: Manifest) -> list[Manifest]:
    """Render the policies of a route; none where its proxy is another or has no such kind.

    Args:
        plan: What the route is for.
        metadata: Name, labels and owner of the policies, which are the route's own.
    """
    absent = plan.proxy.found.absent
    if plan.proxy.profile != "envoy-gateway" or BACKEND_TRAFFIC_POLICY.name in absent:
        return []
    return [_policy(BACKEND_TRAFFIC_POLICY, metadata, {"timeout": _timeout(plan)})]


def _policy(kind: Kind, metadata: Manifest, spec: Manifest) -> Manifest:
    target = {"group": HTTP_ROUTE.group, "kind": HTTP_ROUTE.name, "name": metadata["name"]}
    return {
        "apiVersion": kind.api_version,
        "kind": kind.name,
        "metadata": metadata,
        "spec": {"targetRefs": [target], **spec},
    }


def _timeout(plan: TrafficPlan) -> Manifest:
    """How long an answer may be silent; how long it takes in all is its model's affair."""
    silence = f"{plan.exposure.timeout_seconds}s"
    return {"http": {"requestTimeout": NO_LIMIT, "streamIdleTimeout": silence}}
