"""A revision: the serving part of a spec, frozen together with the pod template it was given.

The name carries a hash over the template, rendered with placeholders for what is not the user's
choice (the catalogue's image, the revision's own name). So two specs share a revision exactly when
they lead to the same pods. The rendered template is kept in a ControllerRevision: an upgrade of the
operator may render differently or bring another default image, and must not move a model that
nobody edited.
"""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final, Self

from pydantic import ValidationError

from modelyard_operator.files import Contents
from modelyard_operator.resources import labels, names
from modelyard_operator.resources.meta import build_metadata
from modelyard_operator.resources.pod_template import build_pod_template
from modelyard_operator.settings import RuntimeCatalogue
from modelyard_operator.spec import ModelDeployment, ModelDeploymentSpec

Manifest = dict[str, Any]

PLACEHOLDER: Final = "-"


@dataclass(frozen=True)
class Revision:
    """One version of what a ModelDeployment serves.

    Attributes:
        name: ``<model deployment>-<hash8>``; also the name of its Deployment and Service.
        number: Counts the revisions of a ModelDeployment, oldest first.
        version: The model version that responses and metrics carry.
        serving: The serving fields of the spec, as JSON with camelCase keys.
        template: The pod template, exactly as applied.
        files: Contents of the files that its pods mount, by name.
    """

    name: str
    number: int
    version: str
    serving: Manifest
    template: Manifest
    files: Contents = field(default_factory=dict)

    @property
    def startup_seconds(self) -> int:
        """The runtime's own limit for loading and warming, in seconds."""
        return self.spec.runtime.timeouts.startup_seconds

    @property
    def spec(self) -> ModelDeploymentSpec:
        """The serving fields as types, the rest at its defaults."""
        return ModelDeploymentSpec.model_validate(self.serving)

    @classmethod
    def from_manifest(cls, manifest: Manifest) -> Self:
        """Read a revision back from its ControllerRevision."""
        data = manifest["data"]
        return cls(
            name=manifest["metadata"]["name"],
            number=manifest["revision"],
            version=data["version"],
            serving=data["serving"],
            template=data["template"],
            files=data.get("files") or {},
        )


def target_revision(
    model_deployment: ModelDeployment,
    history: Iterable[Revision],
    *,
    catalogue: RuntimeCatalogue,
    files: Contents,
) -> Revision:
    """Return the revision that a spec asks for: one of the history, or a new one.

    Args:
        model_deployment: The custom resource.
        history: Revisions on record.
        catalogue: Images of the runtime.
        files: Contents of the files that the spec names.

    Raises:
        InvalidSpecError: The pod template cannot be built; the message names the field.
    """
    known = sorted(history, key=lambda revision: revision.number, reverse=True)
    serving = serving_fields(model_deployment.spec)
    for revision in known:
        if revision.files == files and _same_serving(revision, model_deployment.spec):
            return revision
    hash8 = template_hash(model_deployment, files)
    name = names.revision(model_deployment.name, hash8)
    for revision in known:
        if revision.name == name:
            return revision
    version = model_deployment.spec.model.version or hash8
    return Revision(
        name=name,
        number=1 + max((revision.number for revision in known), default=0),
        version=version,
        serving=serving,
        template=build_pod_template(
            model_deployment,
            files,
            image=catalogue.image(model_deployment.spec),
            pull_policy=catalogue.pull_policy,
            revision=name,
            version=version,
        ),
        files=files,
    )


def template_hash(model_deployment: ModelDeployment, files: Contents) -> str:
    """Return the first 8 hex digits of the SHA-256 over the template that spec and files lead to.

    Raises:
        InvalidSpecError: The pod template cannot be built; the message names the field.
    """
    spec = model_deployment.spec
    template = build_pod_template(
        model_deployment,
        files,
        image=spec.runtime.image or PLACEHOLDER,
        pull_policy=PLACEHOLDER,
        revision=PLACEHOLDER,
        version=spec.model.version or PLACEHOLDER,
    )
    canonical = json.dumps([template, spec.runtime.name], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:8]


def serving_fields(spec: ModelDeploymentSpec) -> Manifest:
    """Return the serving fields of a spec as JSON, without those at their defaults."""
    dumped: Manifest = spec.serving.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    return dumped


def build_controller_revision(model_deployment: ModelDeployment, revision: Revision) -> Manifest:
    """Build the record of a revision, which outlives its pods."""
    files = {"files": dict(revision.files)} if revision.files else {}
    return {
        "apiVersion": "apps/v1",
        "kind": "ControllerRevision",
        "metadata": build_metadata(
            model_deployment,
            revision.name,
            labels.for_revision(model_deployment.name, revision.name),
        ),
        "revision": revision.number,
        "data": {
            "version": revision.version,
            "serving": revision.serving,
            "template": revision.template,
            **files,
        },
    }


def _same_serving(revision: Revision, spec: ModelDeploymentSpec) -> bool:
    try:
        kept = revision.spec
    except ValidationError:  # written by a newer operator; its hash decides then
        return False
    return serving_fields(kept) == serving_fields(spec)
