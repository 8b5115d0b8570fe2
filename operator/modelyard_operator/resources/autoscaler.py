"""The HorizontalPodAutoscaler of a revision."""

from typing import Any

from modelyard_operator.resources import labels
from modelyard_operator.resources.meta import build_metadata
from modelyard_operator.rollout.sizing import Bounds
from modelyard_operator.spec import ModelDeployment, ScalingSpec

Manifest = dict[str, Any]


def build_autoscaler(
    model_deployment: ModelDeployment,
    scaling: ScalingSpec,
    revision: str,
    *,
    bounds: Bounds,
) -> Manifest:
    """Build the autoscaler of one revision; it is born and deleted with the revision.

    Args:
        model_deployment: The owner.
        scaling: Bounds, signals and behaviour that the user asked for.
        revision: The revision whose Deployment is scaled.
        bounds: What the rollout needs: the floor is raised above the user's own before a candidate
            gets more traffic, and what traffic may have to return to is never scaled down.
    """
    behavior = dict(scaling.behavior)
    if bounds.hold:
        behavior["scaleDown"] = {"selectPolicy": "Disabled"}
    spec: Manifest = {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": revision},
        "minReplicas": bounds.floor,
        "maxReplicas": bounds.ceiling or max(scaling.max_replicas, bounds.floor),
        "metrics": [
            {
                "type": "ContainerResource",
                "containerResource": {
                    "name": metric.resource,
                    "container": "runtime",
                    "target": {"type": "Utilization", "averageUtilization": metric.target},
                },
            }
            for metric in scaling.metrics
        ],
    }
    if behavior:
        spec["behavior"] = behavior
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": build_metadata(
            model_deployment, revision, labels.for_revision(model_deployment.name, revision)
        ),
        "spec": spec,
    }
