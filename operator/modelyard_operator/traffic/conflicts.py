"""Hosts that an older ModelDeployment has: what is left of an exposure, and what status says."""

from collections.abc import Iterable
from typing import NamedTuple

from modelyard_operator.spec import ExposureSpec
from modelyard_operator.traffic.proxy import Problem


class Conflict(NamedTuple):
    """A host and a path that somebody else has.

    Attributes:
        host: The host.
        path: The path, without a slash at its end.
        namespace: Namespace of the ModelDeployment that has them.
        name: Its name.
    """

    host: str
    path: str
    namespace: str
    name: str


def conflicts_of(exposure: ExposureSpec, conflicts: Iterable[Conflict]) -> tuple[Conflict, ...]:
    """Return the conflicts that an exposure has part in."""
    return tuple(
        one for one in conflicts if one.host in exposure.hosts and one.path == exposure.path_prefix
    )


def without_lost(exposure: ExposureSpec, conflicts: Iterable[Conflict]) -> ExposureSpec:
    """Return the exposure with the hosts that are left to it."""
    lost = {one.host for one in conflicts_of(exposure, conflicts)}
    kept = tuple(host for host in exposure.hosts if host not in lost)
    return exposure.model_copy(update={"hosts": kept})


def conflict_problem(exposure: ExposureSpec, conflicts: Iterable[Conflict]) -> Problem | None:
    """Say whose the hosts of an exposure are; None when they are its own."""
    found = conflicts_of(exposure, conflicts)
    if not found:
        return None
    whose = "; ".join(
        f"host {one.host} with path {exposure.path} belongs to {one.namespace}/{one.name}, "
        "which is older"
        for one in found
    )
    hint = "use another host or path; the route follows by itself when the other lets go of it"
    return Problem("HostConflict", f"{whose} ({hint})")
