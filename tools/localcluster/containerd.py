"""The images and containers of the node, through containerd's own command."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Final

from localcluster import golang
from localcluster.errors import LocalClusterError
from localcluster.processes import pipe, run, succeeds

if TYPE_CHECKING:
    from localcluster.paths import ClusterPaths
    from localcluster.provider import Invocation


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

    def load(self, image: str, source: Invocation, digest: str) -> None:
        """Import an image under a name and note what it was built from.

        Args:
            image: Full name of the image.
            source: The command that writes an OCI or Docker archive to its standard output: an
                image with torch is too large for a file in between.
            digest: What it was built from; empty when nobody knows.

        Raises:
            LocalClusterError: The archive holds no image.
        """
        sink = self._command(
            *("images", "import", "--local", f"--label={self.INPUTS}={digest}"),
            # Pods run from the unpacked snapshots; the layers themselves would only fill the disk.
            "--discard-unpacked-layers",
            "-",
        )
        before = self._digests()
        names = UNPACKED.findall(pipe(source.argv, sink, source.env))
        if not names:
            raise LocalClusterError(f"the archive for {image} holds no image")
        if image not in names:
            self._run("images", "tag", "--force", names[0], image)
            self._run("images", "label", image, f"{self.INPUTS}={digest}")

        self._forget_older(image, before)

    def _digests(self) -> dict[str, str]:
        """Return the digest that each image name stands for."""
        rows = (line.split() for line in self._run("images", "list").splitlines()[1:])
        return {row[0]: row[2] for row in rows}

    def _forget_older(self, image: str, before: dict[str, str]) -> None:
        """Remove what this name stood for, so that its disk space is free once no pod uses it.

        The kubelet's own collector is told to leave images alone, and besides the name each image
        has an entry under its id.
        """
        older = before.get(image)
        now = self._digests()
        if older is not None and older != now[image]:
            names = [name for name, digest in now.items() if digest == older]
            if all(name.startswith("sha256:") for name in names) and names:
                self._run("images", "remove", *names)

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
