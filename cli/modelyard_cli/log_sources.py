"""Which containers a log command reads, and how their lines are told apart; pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from modelyard_cli.view import Manifest

REVISION_LABEL: Final = "modelyard.dev/revision"
RUNTIME: Final = "runtime"


@dataclass(frozen=True)
class Source:
    """One run of a container, whose log is read.

    Attributes:
        pod: Name of the pod.
        container: Name of the container.
        revision: The revision that the pod belongs to.
        run: How often it had been restarted, so that each run is told apart.
        previous: The run before that one is read.
    """

    pod: str
    container: str
    revision: str
    run: int = 0
    previous: bool = False

    @property
    def prefix(self) -> str:
        """What each line begins with: the revision and the last part of the pod's name."""
        fetch = f"/{self.container}" if self.container != RUNTIME else ""
        return f"{self.revision}/{self.pod.rpartition('-')[2]}{fetch}"


def choose_sources(
    pods: Iterable[Manifest], *, revision: str = "", container: str = "", previous: bool = False
) -> list[Source]:
    """Return the containers to read, in the order of revisions and pods.

    Without a container named, a pod's runtime is read once it has run, before that the init
    container that works or has failed.

    Args:
        pods: Pods of the ModelDeployment.
        revision: Only this one; empty for all.
        container: This container of each pod; empty chooses.
        previous: The last run that ended is read; a container that has had none is left out.
    """
    sources = []
    for pod in pods:
        metadata = pod["metadata"]
        owner = (metadata.get("labels") or {}).get(REVISION_LABEL, "")
        if revision and owner != revision:
            continue
        chosen = _chosen(pod, container)
        if chosen is None or (previous and not _has_ended(chosen)):
            continue
        restarts = chosen.get("restartCount", 0)
        sources.append(
            Source(
                pod=metadata["name"],
                container=chosen["name"],
                revision=owner,
                run=restarts,
                previous=previous and restarts > 0,
            )
        )
    return sorted(sources, key=lambda source: (source.revision, source.pod))


def _chosen(pod: Manifest, container: str) -> Mapping[str, Any] | None:
    """Return the status of the container that is read; None while it has never run.

    The runtime speaks for its pod as soon as it runs; until then the init container that came last.
    """
    status = pod.get("status") or {}
    groups = (status.get("containerStatuses"), (status.get("initContainerStatuses") or [])[::-1])
    found = (one for group in groups for one in group or () if _has_run(one))
    return next((one for one in found if container in {"", one["name"]}), None)


def _has_run(status: Mapping[str, Any]) -> bool:
    state = status.get("state") or {}
    return bool({"running", "terminated"} & state.keys() or status.get("restartCount"))


def _has_ended(status: Mapping[str, Any]) -> bool:
    return bool("terminated" in (status.get("state") or {}) or status.get("restartCount"))
