"""The two ConfigMaps that every pod of a revision mounts."""

import hashlib
import json
from typing import Any

from modelyard_operator.resources import labels, names
from modelyard_operator.resources.meta import build_metadata
from modelyard_operator.runtime_contract import DIRECTIVES_KEY
from modelyard_operator.spec import ModelDeployment

Manifest = dict[str, Any]


def build_directives(model_deployment: ModelDeployment, revision: str) -> Manifest:
    """Build the ConfigMap with what running pods must know and what needs no new revision."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": build_metadata(
            model_deployment,
            names.directives(revision),
            labels.for_revision(model_deployment.name, revision),
        ),
        "data": {DIRECTIVES_KEY: render_directives(model_deployment)},
    }


def render_directives(model_deployment: ModelDeployment) -> str:
    """Return the content of ``directives.json``."""
    exposure = model_deployment.spec.exposure
    directives = {"pathPrefix": exposure.path_prefix, "maxBodyBytes": exposure.max_body_bytes}
    return json.dumps(directives, sort_keys=True)


def directives_hash(model_deployment: ModelDeployment) -> str:
    """Return the hash that a pod reports once it has applied the directives."""
    return hashlib.sha256(render_directives(model_deployment).encode()).hexdigest()[:16]


def build_files(model_deployment: ModelDeployment, revision: str) -> Manifest:
    """Build the immutable ConfigMap with the files of a revision."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": build_metadata(
            model_deployment,
            names.files(revision),
            labels.for_revision(model_deployment.name, revision),
        ),
        "immutable": True,
    }
