"""The apps/v1 Deployment of a revision."""

from typing import Any, Final

from modelyard_operator.resources import labels
from modelyard_operator.resources.meta import build_metadata
from modelyard_operator.revision import Revision
from modelyard_operator.spec import ModelDeployment

Manifest = dict[str, Any]

STARTUP_MARGIN_S: Final = 60
"""The runtime enforces its own start-up limit and says why; this one only backs it up."""


def build_workload(model_deployment: ModelDeployment, revision: Revision) -> Manifest:
    """Build the Deployment of a revision.

    ``replicas`` is never part of it: the number belongs to the autoscaler, or is set through
    ``/scale``, so that no apply of ours ever takes it back.
    """
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": build_metadata(
            model_deployment,
            revision.name,
            labels.for_revision(model_deployment.name, revision.name),
        ),
        "spec": {
            "selector": {
                "matchLabels": labels.revision_selector(model_deployment.name, revision.name)
            },
            "template": revision.template,
            "strategy": {
                "type": "RollingUpdate",
                "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0},
            },
            "revisionHistoryLimit": 1,
            "progressDeadlineSeconds": revision.startup_seconds + STARTUP_MARGIN_S,
        },
    }
