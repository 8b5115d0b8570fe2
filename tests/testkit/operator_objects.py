"""ModelDeployments, pods and children as the API server would show them to the operator."""

import copy
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from modelyard_operator.observed import Observed
from modelyard_operator.resources import labels
from modelyard_operator.revision import Revision, target_revision
from modelyard_operator.settings import OperatorSettings
from modelyard_operator.spec import ModelDeployment
from modelyard_operator.store import controller_uid

Manifest = dict[str, Any]

NOW: Final = datetime(2026, 1, 1, 12, 0, 0, tzinfo=UTC)
EARLIER: Final = "2026-01-01T11:00:00Z"
URI: Final = "s3://models/fraud/8"
EXPOSED: Final[Manifest] = {"hosts": ["fraud.example.com"], "ingressClassName": "nginx"}
QUICK: Final[dict[str, Any]] = {"steps": [{"weight": 50}, {"weight": 100}], "bakeSeconds": 0}
"""A rollout that waits for nothing."""


def operator_settings(**changes: Any) -> OperatorSettings:
    return OperatorSettings(ingress_class_profiles={"nginx": "traefik-nginx"}, **changes)


def raw_model_deployment(
    name: str = "fraud",
    *,
    generation: int = 1,
    annotations: Mapping[str, str] | None = None,
    status: Manifest | None = None,
    **spec: Any,
) -> Manifest:
    """Keyword arguments are the fields of ``spec``, in camelCase."""
    return {
        "apiVersion": "modelyard.dev/v1alpha1",
        "kind": "ModelDeployment",
        "metadata": {
            "name": name,
            "namespace": "ml",
            "uid": f"uid-{name}",
            "generation": generation,
            "resourceVersion": "1",
            "creationTimestamp": EARLIER,
            "annotations": dict(annotations or {}),
        },
        "spec": {"model": {"uri": URI}, **spec},
        "status": status or {},
    }


def model_deployment(name: str = "fraud", **given: Any) -> ModelDeployment:
    return ModelDeployment.parse(raw_model_deployment(name, **given))


def revision_of(owner: ModelDeployment, files: Mapping[str, str] | None = None) -> Revision:
    catalogue = operator_settings().catalogue
    return target_revision(owner, (), catalogue=catalogue, files=dict(files or {}))


def config_map(name: str, version: int = 1, **data: str) -> Manifest:
    """A user's ConfigMap; an underscore in a key stands for the dot of a file's name."""
    metadata = {"name": name, "namespace": "ml", "uid": f"uid-{name}"}
    content = {key.replace("_", "."): value for key, value in data.items()}
    metadata["resourceVersion"] = str(version)
    return {"kind": "ConfigMap", "metadata": metadata, "data": content}


def live(manifest: Manifest, *, version: int = 1, replicas: int | None = None) -> Manifest:
    """A child after it was applied: the API server adds what it adds."""
    made = copy.deepcopy(manifest)
    made["metadata"] |= {
        "uid": f"uid-{made['kind']}-{made['metadata']['name']}",
        "resourceVersion": str(version),
        "creationTimestamp": EARLIER,
        "generation": 1,
        "managedFields": [{"manager": labels.MANAGER, "time": EARLIER}],
    }
    if made["kind"] == "Deployment":
        made["spec"]["replicas"] = 1 if replicas is None else replicas
    return made


def accepted(route: Manifest, **changes: Any) -> Manifest:
    """An HTTPRoute once its Gateway has taken it over; ``changes`` are those of its conditions."""
    made = live(route, version=int(route["metadata"].get("resourceVersion", 1)))
    said = {"status": "True", "reason": "Accepted", "observedGeneration": 1, **changes}
    conditions = [said | {"type": type_} for type_ in ("Accepted", "ResolvedRefs")]
    parents = [{"parentRef": made["spec"]["parentRefs"][0], "conditions": conditions}]
    return made | {"status": {"parents": parents}}


def attached(policy: Manifest, **changes: Any) -> Manifest:
    """A policy of Envoy Gateway that is in force; ``changes`` are those of its condition."""
    made = live(policy, version=int(policy["metadata"].get("resourceVersion", 1)))
    said = {"type": "Accepted", "status": "True", "reason": "Accepted", "observedGeneration": 1}
    return made | {"status": {"ancestors": [{"conditions": [said | changes]}]}}


def pod(
    revision: str,
    name: str | None = None,
    *,
    ready: bool = False,
    annotations: Mapping[str, str] | None = None,
    created: str = EARLIER,
    owner: str = "fraud",
    **status: Any,
) -> Manifest:
    """A pod of a revision; ``status`` fields as the kubelet writes them."""
    name = name or f"{revision}-abc12"
    conditions = list(status.pop("conditions", ()))
    conditions.append({"type": "Ready", "status": "True" if ready else "False"})
    return {
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": "ml",
            "uid": f"uid-pod-{name}",
            "resourceVersion": "1",
            "creationTimestamp": created,
            "labels": labels.for_revision(owner, revision),
            "annotations": dict(annotations or {}),
        },
        "status": {"conditions": conditions, **status},
    }


def observe(owner: ModelDeployment, *objects: Manifest, **given: Any) -> Observed:
    """Children and pods in any order; children of strangers are left out as in the store."""
    children = {
        (raw["kind"], raw["metadata"]["name"]): raw
        for raw in objects
        if raw["kind"] != "Pod" and controller_uid(raw) == owner.uid
    }
    pods = tuple(raw for raw in objects if raw["kind"] == "Pod")
    return Observed(owner, children, pods, **given)


def by_kind(objects: Any) -> dict[tuple[str, str], Manifest]:
    return {(raw["kind"], raw["metadata"]["name"]): raw for raw in objects}


def seconds(number: float) -> timedelta:
    return timedelta(seconds=number)
