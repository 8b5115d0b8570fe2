"""The kinds of objects that the operator reads and writes."""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Kind:
    """One kind, with what is needed to build its address.

    Attributes:
        group: API group; empty for the core group.
        version: API version.
        plural: Name in the address.
        name: CamelCase name.
    """

    group: str
    version: str
    plural: str
    name: str

    @property
    def api_version(self) -> str:
        """``apiVersion`` as manifests carry it."""
        return f"{self.group}/{self.version}" if self.group else self.version


MODEL_DEPLOYMENT: Final = Kind("modelyard.dev", "v1alpha1", "modeldeployments", "ModelDeployment")
POD: Final = Kind("", "v1", "pods", "Pod")
CONFIG_MAP: Final = Kind("", "v1", "configmaps", "ConfigMap")
CHILD_KINDS: Final = (
    Kind("apps", "v1", "controllerrevisions", "ControllerRevision"),
    CONFIG_MAP,
    Kind("networking.k8s.io", "v1", "networkpolicies", "NetworkPolicy"),
    Kind("apps", "v1", "deployments", "Deployment"),
    Kind("", "v1", "services", "Service"),
    Kind("autoscaling", "v2", "horizontalpodautoscalers", "HorizontalPodAutoscaler"),
    Kind("policy", "v1", "poddisruptionbudgets", "PodDisruptionBudget"),
    Kind("networking.k8s.io", "v1", "ingresses", "Ingress"),
)
"""Kinds of the children, in the order in which they are applied."""
LISTENER_SET: Final = Kind("gateway.networking.k8s.io", "v1", "listenersets", "ListenerSet")
HTTP_ROUTE: Final = Kind("gateway.networking.k8s.io", "v1", "httproutes", "HTTPRoute")
BACKEND_TRAFFIC_POLICY: Final = Kind(
    "gateway.envoyproxy.io", "v1alpha1", "backendtrafficpolicies", "BackendTrafficPolicy"
)
BACKEND_TLS_POLICY: Final = Kind(
    "gateway.networking.k8s.io", "v1", "backendtlspolicies", "BackendTLSPolicy"
)
HTTP_ROUTE_FILTER: Final = Kind(
    "gateway.envoyproxy.io", "v1alpha1", "httproutefilters", "HTTPRouteFilter"
)
OPTIONAL_KINDS: Final = (
    *(LISTENER_SET, HTTP_ROUTE_FILTER, HTTP_ROUTE),
    *(BACKEND_TLS_POLICY, BACKEND_TRAFFIC_POLICY),
)
"""Kinds of children that not every cluster has; watched where they exist when the operator starts."""
ROUTE_KINDS: Final = frozenset({"Ingress", *(kind.name for kind in OPTIONAL_KINDS)})
"""Kinds that make up the routes: they go before what they name."""
OWNED_KINDS: Final = (*CHILD_KINDS, POD)
WATCHED_KINDS: Final = (MODEL_DEPLOYMENT, *OWNED_KINDS)
BY_NAME: Final = {kind.name: kind for kind in (*WATCHED_KINDS, *OPTIONAL_KINDS)}
EVENT: Final = Kind("", "v1", "events", "Event")
NODE: Final = Kind("", "v1", "nodes", "Node")
GATEWAY: Final = Kind("gateway.networking.k8s.io", "v1", "gateways", "Gateway")
GATEWAY_CLASS: Final = Kind("gateway.networking.k8s.io", "v1", "gatewayclasses", "GatewayClass")
