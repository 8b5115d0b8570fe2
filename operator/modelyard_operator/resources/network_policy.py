"""The NetworkPolicy of a ModelDeployment: who may reach its pods, on which port.

Requests may come from the proxies, from the pods of the own namespace (those of the other revision
send copies of requests), and from the namespaces that the user lists; metrics are for the operator and
for Prometheus. What pods reach is not restricted: they fetch models and keys, and send spans and audit
records, to wherever the user says.

The kubelet's probes come from the node of a pod, and a network plugin must let those through whatever
a policy says; so there is no rule for them.

References:
    https://kubernetes.io/docs/concepts/services-networking/network-policies/
"""

from collections.abc import Sequence
from typing import Any, Final

from modelyard_operator.resources import labels, names
from modelyard_operator.resources.meta import build_metadata
from modelyard_operator.runtime_contract import (
    GRPC_PORT,
    GRPCS_PORT,
    HTTP_PORT,
    HTTPS_PORT,
    METRICS_PORT,
)
from modelyard_operator.settings import OperatorSettings
from modelyard_operator.spec import ModelDeployment, ModelDeploymentSpec

Manifest = dict[str, Any]

NAMESPACE: Final = "kubernetes.io/metadata.name"
"""Label that the API server sets on each namespace, and that nobody can change."""
OPERATOR: Final = {"app.kubernetes.io/component": "operator"}
"""Labels of the operator's pod, as the chart sets them."""
OWN_NAMESPACE: Final[Manifest] = {"podSelector": {}}


def build_network_policies(
    model_deployment: ModelDeployment, settings: OperatorSettings, *, encrypted: bool
) -> list[Manifest]:
    """Build the policy of all pods of a ModelDeployment; none if the user wants none.

    An operator that was not told where the proxies run lets every source ask the model: an upgrade
    must not cut off the users of a proxy that nobody has named.

    Args:
        model_deployment: The owner.
        settings: The operator's own settings.
        encrypted: Some of the pods have ports for TLS.
    """
    exposure = model_deployment.spec.exposure
    if exposure.network_policy == "None":
        return []
    callers = sorted({*settings.proxy_namespaces, *exposure.allow_from})
    tls = (HTTPS_PORT, GRPCS_PORT) if encrypted else ()
    requests = _rule((HTTP_PORT, GRPC_PORT, *tls))
    if settings.proxy_namespaces:
        requests["from"] = [OWN_NAMESPACE, _namespaces(callers)]
    # The operator looks at the certificate before it sends anybody there.
    metrics = _rule((METRICS_PORT, *tls[:1]))
    metrics["from"] = [_namespaces([settings.pod_namespace]) | _pods(OPERATOR)]
    if settings.prometheus_namespaces:
        metrics["from"].append(_namespaces(sorted(settings.prometheus_namespaces)))
    name = model_deployment.name
    return [
        {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "NetworkPolicy",
            "metadata": build_metadata(
                model_deployment, names.network_policy(name), labels.for_model_deployment(name)
            ),
            "spec": {
                **_pods({labels.MODEL_DEPLOYMENT: name}),
                "policyTypes": ["Ingress"],
                "ingress": [requests, metrics],
            },
        }
    ]


def unenforced(spec: ModelDeploymentSpec, settings: OperatorSettings) -> tuple[str, ...]:
    """Return what the user asks of the policy, and what it does not restrict."""
    exposure = spec.exposure
    if not exposure.allow_from:
        return ()
    if exposure.network_policy == "None":
        return ("exposure.allowFrom: exposure.networkPolicy is None; nobody is kept out",)
    if not settings.proxy_namespaces:
        text = "the operator does not know where the proxies run (set proxyNamespaces in its chart)"
        return (f"exposure.allowFrom: {text}; every namespace may ask",)
    return ()


def _rule(ports: Sequence[int]) -> Manifest:
    return {"ports": [{"protocol": "TCP", "port": port} for port in ports]}


def _namespaces(names: Sequence[str]) -> Manifest:
    expression = {"key": NAMESPACE, "operator": "In", "values": list(names)}
    return {"namespaceSelector": {"matchExpressions": [expression]}}


def _pods(labels: dict[str, str]) -> Manifest:
    return {"podSelector": {"matchLabels": labels}}
