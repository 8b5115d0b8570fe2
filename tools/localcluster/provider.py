"""What the rest of the project may ask of a cluster, whoever provides it."""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from localcluster.errors import LocalClusterError
from localcluster.processes import succeeds

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from localcluster.image import ImageBuild
    from localcluster.paths import ClusterPaths
    from localcluster.report import Report

NAMES = ("existing", "kind", "local")


@dataclass(frozen=True)
class Invocation:
    """A command as it has to be run so that it reaches the cluster.

    Attributes:
        argv: Program and arguments.
        env: Its whole environment.
    """

    argv: list[str]
    env: dict[str, str]


@dataclass(frozen=True)
class Status:
    """What a provider tells about its cluster.

    Attributes:
        provider: The provider's name.
        running: Whether the API server answers.
        details: Components, paths and addresses; JSON values only.
    """

    provider: str
    running: bool
    details: dict[str, Any] = field(default_factory=dict)


def client_environment(provider: str, paths: ClusterPaths) -> dict[str, str]:
    """Return the environment in which kubectl and helm keep everything in the cache.

    Args:
        provider: The provider's name.
        paths: The cluster.
    """
    state = paths.root / "client"
    return {
        **os.environ,
        "KUBECONFIG": str(paths.kubeconfig),
        # This tool, called by the command: KUBECONFIG alone would look like a foreign cluster.
        "CLUSTER": provider,
        "MODELYARD_CLUSTER": paths.name,
        "KUBECACHEDIR": str(state / "kubectl"),
        "HELM_CACHE_HOME": str(state / "helm" / "cache"),
        "HELM_CONFIG_HOME": str(state / "helm" / "config"),
        "HELM_DATA_HOME": str(state / "helm" / "data"),
    }


class Provider(Protocol):
    """One way to have a cluster."""

    @property
    def name(self) -> str:
        """Its name on the command line."""

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig."""

    def up(self, addons: Sequence[str]) -> None:
        """Create the cluster or repair it, and install add-ons."""

    def down(self, *, purge: bool) -> None:
        """Remove the cluster, and with ``purge`` the images that it holds."""

    def status(self) -> Status:
        """Return what runs."""

    def load_archive(self, image: str, archive: Path) -> None:
        """Make an image from an archive available to pods."""

    def build_image(self, build: ImageBuild) -> bool:
        """Build an image and make it available to pods; False when it already was."""

    def invocation(self, argv: Sequence[str]) -> Invocation:
        """Return how to run a command that reaches the cluster's network."""


def choose(asked: str, environ: Mapping[str, str], kubeconfig: Path | None) -> str:
    """Return the name of the provider to use.

    Args:
        asked: ``existing``, ``kind``, ``local`` or ``auto``.
        environ: The environment: a KUBECONFIG in it means a cluster exists.
        kubeconfig: The kubeconfig given on the command line.

    Returns:
        ``existing``, ``kind`` or ``local``.

    Raises:
        LocalClusterError: The name is unknown, or this machine offers none of the three.
    """
    if asked in NAMES:
        return asked
    if asked != "auto":
        raise LocalClusterError(f"provider {asked!r}: expected one of auto, {', '.join(NAMES)}")
    if kubeconfig is not None or environ.get("KUBECONFIG"):
        return "existing"
    if shutil.which("kind") is not None and has_docker():
        return "kind"
    if sys.platform == "linux" and os.geteuid() == 0:
        return "local"
    raise LocalClusterError(
        "no cluster can be had here. Set KUBECONFIG to an existing one; or install Docker and "
        "kind; or, on Linux, run this command as root and it builds Kubernetes itself"
    )


def has_docker() -> bool:
    """Return whether a Docker engine answers."""
    return shutil.which("docker") is not None and succeeds(["docker", "version"])


def make(name: str, paths: ClusterPaths, report: Report, kubeconfig: Path | None) -> Provider:
    """Return the provider of this name."""
    if name == "local":
        from localcluster.local import LocalProvider  # noqa: PLC0415 - only what is used

        return LocalProvider(paths, report)
    if name == "kind":
        from localcluster.kind import KindProvider  # noqa: PLC0415

        return KindProvider(paths, report)
    from localcluster.existing import ExistingProvider  # noqa: PLC0415

    return ExistingProvider(kubeconfig, report)
