"""Revisions that have pods: their children, how many pods they get, and what these must read anew."""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from modelyard_operator.observed import Observed
from modelyard_operator.resources import labels, names
from modelyard_operator.resources.autoscaler import build_autoscaler
from modelyard_operator.resources.config_maps import build_directives, build_files
from modelyard_operator.resources.directives import directives_hash
from modelyard_operator.resources.disruption_budget import build_disruption_budget
from modelyard_operator.resources.pod_template import speaks_tls
from modelyard_operator.resources.service import build_revision_service
from modelyard_operator.resources.workload import build_workload
from modelyard_operator.revision import Revision, build_controller_revision
from modelyard_operator.roles import Role
from modelyard_operator.rollout.sizing import Bounds
from modelyard_operator.spec import ModelDeployment

Manifest = dict[str, Any]


class Running(NamedTuple):
    """A revision that has pods, and what is wanted of it.

    Attributes:
        owner: The ModelDeployment, or the view of it that the revision is of.
        revision: Its record.
        replicas: Its pods, or its autoscaler's floor.
        bounds: What its autoscaler may do.
        role: What its pods are told of the rollout.
    """

    owner: ModelDeployment
    revision: Revision
    replicas: int
    bounds: Bounds
    role: Role = Role()

    @property
    def encrypted(self) -> bool:
        """Whether its pods have ports for TLS."""
        return speaks_tls(self.revision.template)


def build_children(running: Running) -> list[Manifest]:
    """Build everything of one revision; an autoscaler only while it has pods."""
    owner, revision = running.owner, running.revision
    objects = [
        build_controller_revision(owner, revision),
        build_files(owner, revision),
        build_directives(owner, revision.name, *running.role),
        build_workload(owner, revision),
        build_revision_service(owner, revision.name, encrypted=running.encrypted),
        build_disruption_budget(owner, revision.name),
    ]
    scaling = owner.spec.scaling
    if scaling is None or not running.replicas:
        return objects
    return [*objects, build_autoscaler(owner, scaling, revision.name, bounds=running.bounds)]


def scales(observed: Observed, running: Iterable[Running]) -> dict[str, int]:
    """Return the pods of the revisions that no autoscaler rules."""
    return {one.revision.name: one.replicas for one in running if not _autoscaled(observed, one)}


def stale_pods(observed: Observed, running: Iterable[Running]) -> Mapping[str, Mapping[str, str]]:
    """Return annotations, by pod, for those whose mounted directives may be old.

    An annotation makes the kubelet look again.
    """
    stale: dict[str, Mapping[str, str]] = {}
    for one in running:
        wanted = directives_hash(one.owner, *one.role)
        changed = _changed_at(observed, names.directives(one.revision.name))
        for pod in observed.pods_of(one.revision.name):
            metadata = pod["metadata"]
            said = (metadata.get("annotations") or {}).get(labels.DIRECTIVES_HASH)
            fresh = said is None and (changed is None or metadata["creationTimestamp"] >= changed)
            if said != wanted and not fresh:
                stale[metadata["name"]] = {labels.DIRECTIVES_HASH: wanted}
    return stale


def _autoscaled(observed: Observed, running: Running) -> bool:
    """Tell whether an autoscaler rules the number of pods; it does not move one that is at zero."""
    name = running.revision.name
    if ("HorizontalPodAutoscaler", name) in observed.children:
        return observed.replicas(name) != 0
    wanted = running.owner.spec.scaling is not None and running.replicas > 0
    return wanted and observed.replicas(name) != 0


def _changed_at(observed: Observed, name: str) -> str | None:
    """When a ConfigMap was last changed; None if it is still what it was created with."""
    live = observed.children.get(("ConfigMap", name))
    if live is None:
        return None
    metadata = live["metadata"]
    times = [entry.get("time", "") for entry in metadata.get("managedFields") or ()]
    last = max(times, default="")
    return last if last > metadata["creationTimestamp"] else None
