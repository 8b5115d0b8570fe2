"""A cluster that somebody else runs: used as it is."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from localcluster import addons, versions
from localcluster.errors import LocalClusterError
from localcluster.processes import run, succeeds
from localcluster.provider import Invocation, Status

if TYPE_CHECKING:
    from collections.abc import Sequence

    from localcluster.image import ImageBuild
    from localcluster.report import Report

UNSUPPORTED = ("dns",)
"""Every real cluster has its own; a second one would take its address."""


class ExistingProvider:
    """The cluster of a kubeconfig.

    Attributes:
        name: ``existing``.
        kubeconfig: The kubeconfig in use.
    """

    name = "existing"

    def __init__(self, kubeconfig: Path | None, report: Report) -> None:
        given = kubeconfig or os.environ.get("KUBECONFIG") or Path.home() / ".kube" / "config"
        self.kubeconfig = Path(str(given).split(os.pathsep, maxsplit=1)[0])
        self._report = report

    def up(self, addons_wanted: Sequence[str]) -> None:
        """Check that the cluster answers, and install only what is asked for."""
        if not self._is_reachable():
            raise LocalClusterError(f"no cluster answers to {self.kubeconfig}")
        asked = addons.merge((), addons_wanted, possible=addons.PUBLISHED)
        wanted = [name for name in asked if name not in UNSUPPORTED]
        addons.refuse_from_source(wanted)
        # Empty addresses: the cluster knows which are free.
        values = {**versions.PUBLIC_IMAGES, **addons.of_gateways(wanted)}
        values |= {"traefik_ip": '""', "s3_ip": '""'}
        values["kubelet_tls"] = "--kubelet-insecure-tls"
        addons.install(self.kubectl, wanted, values, self._report)

    def down(self, *, purge: bool) -> None:
        """Refuse: the cluster was here before."""
        del purge
        raise LocalClusterError("this cluster was not made by this tool, and is not removed by it")

    def status(self) -> Status:
        """Return whether the cluster answers."""
        return Status(self.name, self._is_reachable(), {"kubeconfig": str(self.kubeconfig)})

    def load_archive(self, image: str, archive: Path) -> None:
        """Refuse: only the cluster's owner can put an image on its nodes."""
        raise LocalClusterError(
            f"{image} ({archive}) cannot be loaded into a cluster that this tool did not make: push "
            "it to a registry that the nodes can reach, and give that name to the chart "
            "(image.repository, image.tag)"
        )

    def build_image(self, build: ImageBuild) -> bool:
        """Refuse, as for an archive."""
        self.load_archive(build.name, build.context)
        return False

    def invocation(self, argv: Sequence[str]) -> Invocation:
        """Return the command with the kubeconfig set."""
        return Invocation(list(argv), {**os.environ, "KUBECONFIG": str(self.kubeconfig)})

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        """Run kubectl and return what it prints."""
        command = self.invocation(["kubectl", *arguments])
        return run(command.argv, env=command.env, stdin=stdin)

    def _is_reachable(self) -> bool:
        command = self.invocation(["kubectl", "get", "--raw=/readyz", "--request-timeout=5s"])
        return succeeds(command.argv, env=command.env)
