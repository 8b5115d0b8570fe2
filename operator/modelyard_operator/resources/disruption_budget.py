"""The PodDisruptionBudget of a revision."""

from typing import Any

from modelyard_operator.resources import labels
from modelyard_operator.resources.meta import build_metadata
from modelyard_operator.spec import ModelDeployment

Manifest = dict[str, Any]


def build_disruption_budget(model_deployment: ModelDeployment, revision: str) -> Manifest:
    """Build the budget that limits how many pods of a revision a node drain may take at once."""
    asked = model_deployment.spec.pod_disruption_budget
    spec: Manifest = {
        "selector": {"matchLabels": labels.revision_selector(model_deployment.name, revision)}
    }
    if asked.min_available is not None:
        spec["minAvailable"] = asked.min_available
    else:
        spec["maxUnavailable"] = 1 if asked.max_unavailable is None else asked.max_unavailable
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": build_metadata(
            model_deployment, revision, labels.for_revision(model_deployment.name, revision)
        ),
        "spec": spec,
    }
