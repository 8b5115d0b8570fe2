"""The two ConfigMaps that every pod of a revision mounts."""

from typing import Any

from modelyard_operator.resources import labels, names
from modelyard_operator.resources.directives import (
    Copies,
    Keepsake,
    Verification,
    render_directives,
)
from modelyard_operator.resources.meta import build_metadata
from modelyard_operator.revision import Revision
from modelyard_operator.runtime_contract import DIRECTIVES_KEY
from modelyard_operator.spec import ModelDeployment

Manifest = dict[str, Any]


def build_directives(
    model_deployment: ModelDeployment,
    revision: str,
    verification: Verification | None = None,
    copies: Copies | None = None,
    keepsake: Keepsake | None = None,
) -> Manifest:
    """Build the ConfigMap with what running pods must know and what needs no new revision."""
    text = render_directives(model_deployment, verification, copies, keepsake)
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": build_metadata(
            model_deployment,
            names.directives(revision),
            labels.for_revision(model_deployment.name, revision),
        ),
        "data": {DIRECTIVES_KEY: text},
    }


def build_files(model_deployment: ModelDeployment, revision: Revision) -> Manifest:
    """Build the immutable ConfigMap with the files of a revision."""
    made: Manifest = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": build_metadata(
            model_deployment,
            names.files(revision.name),
            labels.for_revision(model_deployment.name, revision.name),
        ),
        "immutable": True,
    }
    return made | {"data": dict(revision.files)} if revision.files else made
