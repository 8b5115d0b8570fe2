"""Installs add-ons: their images, then their objects, then the wait until they serve."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from localcluster import golang
from localcluster.errors import LocalClusterError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from localcluster.golang import Artifact
    from localcluster.paths import Cache
    from localcluster.report import Report

ARTIFACTS: Final = {
    "dns": (golang.COREDNS,),
    "traefik": (),
    "s3": (golang.VERSITYGW,),
    "metrics-server": (golang.METRICS_SERVER,),
}
ORDER: Final = tuple(ARTIFACTS)


def merge(recorded: Iterable[str], wanted: Iterable[str]) -> list[str]:
    """Return all add-ons that the cluster should have, in the order of installation.

    Raises:
        LocalClusterError: One of them is unknown.
    """
    names = {*recorded, *wanted}
    unknown = names - set(ORDER)
    if unknown:
        raise LocalClusterError(f"unknown add-on {sorted(unknown)}: expected some of {', '.join(ORDER)}")
    return [name for name in ORDER if name in names]


def artifacts(wanted: Sequence[str]) -> list[Artifact]:
    """Return the programs that these add-ons are built from."""
    return [artifact for name in wanted for artifact in ARTIFACTS[name]]


def install(cluster: object, wanted: Sequence[str], cache: Cache, report: Report) -> None:
    """Install add-ons."""
