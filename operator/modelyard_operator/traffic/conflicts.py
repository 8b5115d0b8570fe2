"""Hosts that an older ModelDeployment has: what is left of an exposure, and what status says."""

from typing import NamedTuple

from modelyard_operator.spec import ExposureSpec
from modelyard_operator.traffic.proxy import Problem


class Conflict(NamedTuple):
    """A host and a path that somebody else has.

    Attributes:
        host: The host.
        path: The path, as this object writes it.
        namespace: Namespace of the ModelDeployment that has them.
        name: Its name.
    """

    host: str
    path: str
    namespace: str
    name: str


def without_lost(exposure: ExposureSpec, conflicts: tuple[Conflict, ...]) -> ExposureSpec:
    """Return the exposure with the hosts that are left to it."""
    lost = {one.host for one in conflicts}
    kept = tuple(host for host in exposure.hosts if host not in lost)
    return exposure.model_copy(update={"hosts": kept})


def conflict_problem(conflicts: tuple[Conflict, ...]) -> Problem | None:
    """Say whose the hosts are; None when there is no conflict."""
    if not conflicts:
        return None
    whose = "; ".join(
        f"host {one.host} with path {one.path} belongs to {one.namespace}/{one.name}, which is older"
        for one in conflicts
    )
    hint = "use another host or path; the route follows by itself when the other lets go of it"
    return Problem("HostConflict", f"{whose} ({hint})")
