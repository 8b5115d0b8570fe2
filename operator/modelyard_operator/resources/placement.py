"""Where a pod may run: selectors, tolerations and the accelerator's node affinity."""

from collections.abc import Mapping
from typing import Any, Final

from modelyard_operator.spec import AcceleratorSpec, ModelDeploymentSpec

Manifest = dict[str, Any]

PRODUCT_LABELS: Final = {
    "amd.com/gpu": "amd.com/gpu.product-name",
    "google.com/tpu": "cloud.google.com/gke-tpu-accelerator",
}
"""Node label that names the product of a resource; the others follow NVIDIA's feature discovery."""


def product_label(resource_name: str) -> str:
    """Return the node label under which the vendor's discovery publishes the product."""
    if resource_name in PRODUCT_LABELS:
        return PRODUCT_LABELS[resource_name]
    vendor = resource_name.partition("/")[0]
    # A MIG slice (nvidia.com/mig-1g.5gb) is labelled like the whole device.
    return f"{vendor}/gpu.product"


def build_placement(spec: ModelDeploymentSpec, selector: Mapping[str, str]) -> Manifest:
    """Return the pod fields that steer the scheduler; absent ones are left out.

    Args:
        spec: The user's wishes.
        selector: Selects the revision's pods; a spread constraint that selects none counts these.
    """
    scheduling = spec.scheduling
    tolerations = list(scheduling.tolerations)
    affinity = dict(scheduling.affinity)
    if spec.accelerator:
        tolerations.append(
            {
                "key": spec.accelerator.resource_name,
                "operator": "Exists",
                "effect": "NoSchedule",
            }
        )
        if spec.accelerator.products:
            affinity["nodeAffinity"] = _with_products(
                affinity.get("nodeAffinity", {}), spec.accelerator
            )
    fields: Manifest = {
        "nodeSelector": dict(scheduling.node_selector),
        "tolerations": tolerations,
        "affinity": affinity,
        "topologySpreadConstraints": [
            {"labelSelector": {"matchLabels": dict(selector)}, **constraint}
            for constraint in scheduling.topology_spread_constraints
        ],
        "priorityClassName": scheduling.priority_class_name,
        "runtimeClassName": scheduling.runtime_class_name,
        "schedulerName": scheduling.scheduler_name,
    }
    return {name: value for name, value in fields.items() if value}


def _with_products(node_affinity: Manifest, accelerator: AcceleratorSpec) -> Manifest:
    """Demand one of the products, and prefer them in the order given.

    Terms of a node selector are alternatives, so the demand joins each of the user's terms.
    """
    key = product_label(accelerator.resource_name)
    demand = {"key": key, "operator": "In", "values": list(accelerator.products)}
    required = node_affinity.get("requiredDuringSchedulingIgnoredDuringExecution", {})
    terms = required.get("nodeSelectorTerms") or [{}]
    joined = [
        term | {"matchExpressions": [*term.get("matchExpressions", []), demand]} for term in terms
    ]
    ranked = [
        {
            "weight": max(1, 100 - 10 * rank),
            "preference": {
                "matchExpressions": [{"key": key, "operator": "In", "values": [product]}]
            },
        }
        for rank, product in enumerate(accelerator.products)
    ]
    preferred = node_affinity.get("preferredDuringSchedulingIgnoredDuringExecution", [])
    return {
        "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": joined},
        "preferredDuringSchedulingIgnoredDuringExecution": [*preferred, *ranked],
    }
