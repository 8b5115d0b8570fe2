"""Services: one for each live revision, and one for callers inside the cluster."""

from typing import Any, Final

from modelyard_operator.resources import labels, names
from modelyard_operator.resources.meta import build_metadata
from modelyard_operator.resources.pod_template import GRPCS, HTTPS
from modelyard_operator.spec import ModelDeployment

Manifest = dict[str, Any]

PORT: Final = 80
GRPC_PORT: Final = 8081
HTTPS_PORT: Final = 443
GRPCS_PORT: Final = 8444


def build_revision_service(
    model_deployment: ModelDeployment, revision: str, *, encrypted: bool
) -> Manifest:
    """Build the Service that routes name as the revision's backend.

    Proxies attach a canary to the primary's Service, so that a Service is never shared by two routes.

    Args:
        model_deployment: Whose it is.
        revision: Whose pods it selects.
        encrypted: They have ports for TLS.
    """
    service = _build(
        model_deployment,
        revision,
        child_labels=labels.for_revision(model_deployment.name, revision),
        revision=revision,
    )
    if encrypted:
        service["spec"]["ports"] += [
            {"name": HTTPS, "port": HTTPS_PORT, "targetPort": HTTPS, "protocol": "TCP"},
            {"name": GRPCS, "port": GRPCS_PORT, "targetPort": GRPCS, "protocol": "TCP"},
        ]
    return service


def build_cluster_service(model_deployment: ModelDeployment, revision: str) -> Manifest:
    """Build the Service for callers inside the cluster; it selects one revision, the stable one."""
    return _build(
        model_deployment,
        names.cluster_service(model_deployment.name),
        child_labels=labels.for_model_deployment(model_deployment.name),
        revision=revision,
    )


def selected_revision(service: Manifest) -> str | None:
    """Return the revision that a live Service selects."""
    selector = service.get("spec", {}).get("selector") or {}
    revision = selector.get(labels.REVISION)
    return revision if isinstance(revision, str) else None


def _build(
    model_deployment: ModelDeployment, name: str, *, child_labels: dict[str, str], revision: str
) -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": build_metadata(model_deployment, name, child_labels),
        "spec": {
            "selector": labels.revision_selector(model_deployment.name, revision),
            "ports": [
                {"name": "http", "port": PORT, "targetPort": "http", "protocol": "TCP"},
                {
                    "name": "grpc",
                    "port": GRPC_PORT,
                    "targetPort": "grpc",
                    "protocol": "TCP",
                    "appProtocol": "kubernetes.io/h2c",  # a mesh or proxy need not guess
                },
            ],
        },
    }
