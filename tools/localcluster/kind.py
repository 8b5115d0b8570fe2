"""Kubernetes in Docker, through the ``kind`` command."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Final

from localcluster import addons, versions
from localcluster.errors import LocalClusterError
from localcluster.processes import run, succeeds
from localcluster.provider import Invocation, Status, client_environment

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from localcluster.image import ImageBuild
    from localcluster.paths import ClusterPaths
    from localcluster.report import Report

LABEL: Final = "modelyard.dev/inputs"
ALLOWED: Final = ("dns",)
"""kind brings its own DNS: asking for it is fine, and there is nothing to install."""


class KindProvider:
    """A kind cluster of this tool's own.

    Attributes:
        name: ``kind``.
        paths: The cluster's files.
    """

    name = "kind"

    def __init__(self, paths: ClusterPaths, report: Report) -> None:
        self.paths = paths
        self._report = report

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig."""
        return self.paths.kubeconfig

    def up(self, addons_wanted: Sequence[str]) -> None:
        """Create the cluster unless it exists, start its node if that is stopped, add the rest."""
        asked = addons.merge((), addons_wanted, possible=addons.PUBLISHED)
        wanted = [name for name in asked if name not in ALLOWED]
        addons.refuse_from_source(wanted)
        self.paths.root.mkdir(parents=True, exist_ok=True)
        if self.paths.name not in run(["kind", "get", "clusters"]).split():
            with self._report.step("create a kind cluster", "about 1 min"):
                run(["kind", "create", "cluster", *self._named(), "--wait=120s"])
        else:
            run(["docker", "start", self._node()])
        run(["kind", "export", "kubeconfig", *self._named()])
        gpus = {"nvidia.com/gpu": "2"}
        patch = json.dumps({"status": {"capacity": gpus, "allocatable": gpus}})
        self.kubectl(
            *("patch", "node", self._node(), "--subresource=status", "--type=merge"),
            f"--patch={patch}",
        )
        label = "nvidia.com/gpu.product=NVIDIA-L4"
        self.kubectl("label", "node", self._node(), label, "--overwrite")
        values = {
            **versions.PUBLIC_IMAGES,
            **addons.of_gateways(wanted),
            "traefik_ip": addons.TRAEFIK_ADDRESS,
            "s3_ip": addons.S3_ADDRESS,
            "kubelet_tls": "--kubelet-insecure-tls",
        }
        addons.install(self.kubectl, wanted, values, self._report)

    def down(self, *, purge: bool) -> None:
        """Delete the cluster and its kubeconfig; its images are always gone with it."""
        del purge
        run(["kind", "delete", "cluster", *self._named()])
        shutil.rmtree(self.paths.root, ignore_errors=True)

    def status(self) -> Status:
        """Return whether the node runs."""
        running = succeeds(["docker", "exec", self._node(), "true"])
        return Status(self.name, running, {"kubeconfig": str(self.kubeconfig)})

    def load_archive(self, image: str, archive: Path) -> None:
        """Load an archive of ``docker save``."""
        run(["kind", "load", "image-archive", str(archive), f"--name={self.paths.name}"])
        tool = ["docker", "exec", self._node(), "crictl", "inspecti", image]
        if not succeeds(tool):
            raise LocalClusterError(f"{archive} does not hold the image {image}")

    def build_image(self, build: ImageBuild) -> bool:
        """Build with Docker and load, unless Docker has the image from these inputs."""
        digest = build.digest()
        wanted = f'{{{{index .Config.Labels "{LABEL}"}}}}'
        inspect = ["docker", "image", "inspect", f"--format={wanted}", build.name]
        if not (succeeds(inspect) and run(inspect).strip() == digest):
            options = [f"--build-arg={key}={value}" for key, value in build.build_args.items()]
            options += [f"--target={build.target}"] if build.target else []
            with self._report.step(f"build {build.name}"):
                run(
                    [
                        *(
                            "docker",
                            "build",
                            "--quiet",
                            f"--tag={build.name}",
                            f"--label={LABEL}={digest}",
                        ),
                        *(*options, f"--file={build.dockerfile}", str(build.context)),
                    ]
                )
        # Says at once that the image is present, if it is.
        with self._report.step(f"load {build.name}"):
            told = run(["kind", "load", "docker-image", build.name, f"--name={self.paths.name}"])
        return "already present" not in told

    def invocation(self, argv: Sequence[str]) -> Invocation:
        """Return the command with the kubeconfig set; kind publishes its API server on loopback."""
        return Invocation(list(argv), client_environment(self.name, self.paths))

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        """Run kubectl and return what it prints."""
        command = self.invocation(["kubectl", *arguments])
        return run(command.argv, env=command.env, stdin=stdin)

    def _node(self) -> str:
        return f"{self.paths.name}-control-plane"

    def _named(self) -> list[str]:
        return [f"--name={self.paths.name}", f"--kubeconfig={self.kubeconfig}"]
