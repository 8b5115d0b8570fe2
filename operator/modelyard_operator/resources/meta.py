"""Metadata that every child carries: labels, owner and namespace."""

from collections.abc import Mapping
from typing import Any

from modelyard_operator.resources.labels import for_variant
from modelyard_operator.spec import ModelDeployment

Manifest = dict[str, Any]


def build_metadata(
    model_deployment: ModelDeployment, name: str, labels: Mapping[str, str]
) -> Manifest:
    """Return a child's metadata, owned by the ModelDeployment so that deletion collects it."""
    return {
        "name": name,
        "namespace": model_deployment.namespace,
        "labels": {**labels, **for_variant(model_deployment.variant)},
        "ownerReferences": [
            {
                "apiVersion": "modelyard.dev/v1alpha1",
                "kind": "ModelDeployment",
                "name": model_deployment.name,
                "uid": model_deployment.uid,
                "controller": True,
                "blockOwnerDeletion": True,
            }
        ],
    }
