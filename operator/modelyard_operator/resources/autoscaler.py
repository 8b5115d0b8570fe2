"""The HorizontalPodAutoscaler of a revision."""

from typing import Any

from modelyard_operator.resources import labels
from modelyard_operator.resources.meta import build_metadata
from modelyard_operator.spec import ModelDeployment, ScalingSpec

Manifest = dict[str, Any]


def build_autoscaler(
    model_deployment: ModelDeployment,
    scaling: ScalingSpec,
    revision: str,
    *,
    min_replicas: int,
    hold: bool,
) -> Manifest:
    """Build the autoscaler of one revision; it is born and deleted with the revision.

    Args:
        model_deployment: The owner.
        scaling: Bounds, signals and behaviour that the user asked for.
        revision: The revision whose Deployment is scaled.
        min_replicas: The floor; raised above the user's own before a candidate gets more traffic.
        hold: Never scale down: while its traffic moves away, stable must stay large enough to take
            all of it back.
    """
    behavior = dict(scaling.behavior)
    if hold:
        behavior["scaleDown"] = {"selectPolicy": "Disabled"}
    spec: Manifest = {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": revision},
        "minReplicas": min_replicas,
        "maxReplicas": max(scaling.max_replicas, min_replicas),
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
