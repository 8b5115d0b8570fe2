"""What a pod's state tells, whoever asks."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

Manifest = Mapping[str, Any]

FETCH: Final = "model-fetch"
RUNTIME: Final = "runtime"


def is_ready(pod: Manifest) -> bool:
    """Tell whether a pod answers requests."""
    conditions = pod.get("status", {}).get("conditions") or ()
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


def is_placed(pod: Manifest) -> bool:
    """Tell whether the scheduler has given a pod a node."""
    conditions = pod.get("status", {}).get("conditions") or ()
    return any(c["type"] == "PodScheduled" and c["status"] == "True" for c in conditions)


def container_statuses(pod: Manifest) -> Iterator[Manifest]:
    """Yield the states of a pod's containers, those that run first before the others."""
    status = pod.get("status", {})
    groups: Iterable[Any] = (status.get("initContainerStatuses"), status.get("containerStatuses"))
    for group in groups:
        yield from group or ()


def container_of(workload: Manifest, name: str) -> Manifest:
    """Return a container of a Deployment's template; empty when it has none of the name."""
    spec = workload.get("spec", {}).get("template", {}).get("spec", {})
    containers = (*spec.get("initContainers", ()), *spec.get("containers", ()))
    return next((one for one in containers if one["name"] == name), {})
