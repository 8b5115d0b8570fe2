"""The images and containers of the node, through containerd's own command."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Final

from localcluster import golang
from localcluster.errors import LocalClusterError
from localcluster.processes import run, succeeds

if TYPE_CHECKING:
    from pathlib import Path

    from localcluster.paths import ClusterPaths


UNPACKED: Final = re.compile(r"^unpacking (\S+) \(sha256:", re.MULTILINE)


@dataclass(frozen=True)
class Containerd:
    """One cluster's containerd.

    Attributes:
        paths: The cluster.
    """

    INPUTS: ClassVar = "modelyard.dev/inputs"
    """Label of an image: the digest of what it was built from."""

    paths: ClusterPaths

    def images(self) -> set[str]:
        """Return the names of all images on the node."""
        return set(self._run("images", "list", "--quiet").split())

    def labels(self, image: str) -> dict[str, str]:
        """Return an image's labels; none when the node does not have the image."""
        listed = self._run("images", "list", f"name=={image}").splitlines()[1:]
        if not listed:
            return {}
        words = listed[0].split()[-1].split(",")
        return dict(word.split("=", 1) for word in words if "=" in word)

    def load(self, image: str, archive: Path, digest: str) -> None:
        """Import an archive under a name and note what it was built from.

        Raises:
            LocalClusterError: The archive holds no image.
        """
        told = self._run(
            *("images", "import", "--local", f"--label={self.INPUTS}={digest}"),
            # Pods run from the unpacked snapshots; the layers themselves would only fill the disk.
            "--discard-unpacked-layers",
            str(archive),
        )
        names = UNPACKED.findall(told)
        if not names:
            raise LocalClusterError(f"{archive} holds no image")
        if image not in names:
            self._run("images", "tag", "--force", names[0], image)
            self._run("images", "label", image, f"{self.INPUTS}={digest}")

    def forget_containers(self) -> None:
        """Remove the records of containers that no longer run, so that the next start is clean."""
        for kind in ("tasks", "containers"):
            names = self._run(kind, "list", "--quiet").split()
            if names:
                succeeds(
                    self._command(kind, "delete", *(["--force"] if kind == "tasks" else []), *names)
                )

    def _run(self, *arguments: str) -> str:
        return run(self._command(*arguments))

    def _command(self, *arguments: str) -> list[str]:
        program = golang.folder(self.paths.cache, golang.CONTAINERD) / "ctr"
        return [
            str(program),
            f"--address={self.paths.containerd_socket}",
            "--namespace=k8s.io",
            *arguments,
        ]
