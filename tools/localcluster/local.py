"""Kubernetes from its Go modules, on this machine, in namespaces of its own."""

from __future__ import annotations

import datetime as dt
import json
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from http import HTTPStatus
from http.client import HTTPException
from typing import TYPE_CHECKING, Any, Final

from localcluster import (
    addons,
    base_images,
    cgroups,
    components,
    golang,
    kernel,
    namespaces,
    packages,
    pki,
    versions,
    wheels,
)
from localcluster.buildah import Buildah
from localcluster.components import get_status
from localcluster.containerd import Containerd
from localcluster.errors import LocalClusterError
from localcluster.processes import run, wait_until
from localcluster.provider import Invocation, Status, client_environment
from localcluster.supervisor import Supervisor
from localcluster.wheels import Wheel

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from concurrent.futures import Future
    from pathlib import Path

    from localcluster.addons import AddonImage
    from localcluster.components import Component
    from localcluster.image import ImageBuild
    from localcluster.paths import ClusterPaths
    from localcluster.report import Report

GPUS: Final = 2
GPU_RESOURCE: Final = "nvidia.com/gpu"
NODE_TIMEOUT_S: Final = 60.0
LONG_AGO: Final = dt.datetime.min.replace(tzinfo=dt.UTC)
ADDON_PAGES: Final = {
    "traefik": f"http://{addons.TRAEFIK_ADDRESS}:8080/ping",
    "s3": f"http://{addons.S3_ADDRESS}:9000/healthz",
    # Envoy knows no such page, and that it says so shows that it has its configuration.
    "envoy-gateway": f"http://{addons.ENVOY_ADDRESS}:80/",
}
KUBELET_TLS: Final = (
    "--kubelet-certificate-authority=/var/run/secrets/kubernetes.io/serviceaccount/ca.crt"
)
"""Every pod has the cluster's authority, which has signed the kubelet's certificate as well."""


class LocalProvider:
    """The provider for a Linux machine with root and nothing else.

    Attributes:
        name: ``local``.
        paths: The cluster's files.
    """

    name = "local"

    def __init__(self, paths: ClusterPaths, report: Report) -> None:
        self.paths = paths
        self._cache = paths.cache
        self._report = report
        self._supervisor = Supervisor(paths)
        self._containerd = Containerd(paths)
        self._builder = ThreadPoolExecutor(1)

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig."""
        return self.paths.kubeconfig

    # --- up -------------------------------------------------------------------------------

    def up(self, addons_wanted: Sequence[str]) -> None:
        """Create the cluster or repair it: start what is dead, in order, and nothing else."""
        self._require_root()
        packages.ensure(self._report)
        with self._cache.lock(f"cluster-{self.paths.name}"), ThreadPoolExecutor(2) as pool:
            try:
                self._up(pool, addons.merge(self._recorded_addons(), addons_wanted))
            finally:
                # After a failure nobody waits for programs that are not being built yet.
                self._builder.shutdown(cancel_futures=True)

    def _up(self, pool: ThreadPoolExecutor, wanted: Sequence[str]) -> None:
        built = self._build(pool, wanted)
        pause = pool.submit(base_images.ensure_pause, self._cache)
        kubernetes = built["kubernetes"].result()
        self._prepare()
        # Recorded before it is true: an `up` that fails from here is taken up by the next one.
        self._addons_file.write_text(json.dumps(wanted))
        with self._report.step("control plane"):
            self._start_control_plane(kubernetes)
        with self._report.step("node"):
            self._start_node(kubernetes, built["containerd"].result(), pause)
        self._load_addon_images(wanted, built)
        built["helm"].result()
        values = self._addon_values(wanted, built)
        if "dns" in wanted:
            addons.install(self.kubectl, ["dns"], values, self._report)
            # After its role exists: refused once, it would wait long before it asks again. Before
            # the other add-ons, which ask it.
            self._ensure_all([components.dns(self.paths, built["coredns"].result())])
        addons.install(self.kubectl, wanted, values, self._report, self._addon_answers)

    def _build(self, pool: ThreadPoolExecutor, wanted: Sequence[str]) -> dict[str, Future[Path]]:
        """Build what is missing, one after the other: the compiler fills every core by itself."""
        artifacts = [golang.KUBERNETES, golang.CONTAINERD, golang.HELM, *addons.artifacts(wanted)]
        if not golang.folder(self._cache, golang.KUBERNETES).is_dir():
            # Downloading Debian packages leaves the processor to the compiler.
            pool.submit(base_images.ensure_python, self._cache, self._report)
        built = {
            artifact.name: self._builder.submit(golang.ensure, self._cache, artifact, self._report)
            for artifact in artifacts
        }
        self._builder.submit(golang.tidy, self._cache)
        return built

    def _prepare(self) -> None:
        paths = self.paths
        for folder in (paths.logs, paths.processes, paths.audit_log.parent, paths.containerd_root):
            folder.mkdir(parents=True, exist_ok=True)
        kernel.remember(self._cache)
        pki.ensure(paths.pki)
        shutil.copyfile(paths.pki / "admin.kubeconfig", paths.kubeconfig)
        paths.kubeconfig.chmod(0o600)
        components.render_config(paths)
        cgroups.create(paths.machine_name)
        if not self._supervisor.alive() and not cgroups.processes(paths.machine_name):
            # Nothing runs in them: what a crash or a reboot left is worth less than new ones.
            namespaces.remove_mounts(paths)
            namespaces.remove_network(paths)
        namespaces.ensure_network(paths)
        namespaces.ensure_mounts(paths)

    def _start_control_plane(self, kubernetes: Path) -> None:
        etcd, api_server, *clients = components.control_plane(self.paths, kubernetes)
        self._ensure_all([etcd])
        self._ensure_all([api_server])
        # Earlier they would end: the roles that they need are made by the API server.
        self._ensure_all(clients)

    def _start_node(self, kubernetes: Path, containerd: Path, pause: Future[None]) -> None:
        runtime, kubelet, proxy = components.node(self.paths, kubernetes, containerd)
        self._ensure_all([runtime], path=str(containerd))
        pause.result()
        if versions.PAUSE_IMAGE not in self._containerd.images():
            self._load_built(versions.PAUSE_IMAGE, versions.PAUSE)
        began = dt.datetime.now(dt.UTC)
        restarted = self._ensure_all([kubelet])
        # What a kubelet wrote before it died says nothing, and a new one may reset the GPUs.
        since = began if "kubelet" in restarted else LONG_AGO
        if not wait_until(lambda: self._is_node_ready(since), NODE_TIMEOUT_S, 0.3):
            raise LocalClusterError(
                f"the node was not ready after {NODE_TIMEOUT_S:.0f} s; see {self.paths.logs}/kubelet.log"
            )
        # Started before its node has an address, it would end as soon as that has one.
        self._ensure_all([proxy])

    def _ensure_all(self, wanted: Sequence[Component], path: str = "") -> list[str]:
        """Start what does not run, wait until it is ready, and return the names of the started."""
        started = [item for item in wanted if self._supervisor.ensure(item, path=path)]
        # The API server may be unready because etcd was: it is asked even when it kept running.
        for component in started or wanted[:1]:
            self._supervisor.wait_ready(component)
        return [component.name for component in started]

    def _is_node_ready(self, since: dt.datetime) -> bool:
        """Return whether the node is ready and has its simulated GPUs; gives it what is missing."""
        node: dict[str, Any] = json.loads(self.kubectl("get", "nodes", "-o=json"))
        for item in node["items"]:
            gpus = [
                item["status"].get(k, {}).get(GPU_RESOURCE) for k in ("capacity", "allocatable")
            ]
            if gpus == [str(GPUS)] * 2:
                return _is_ready(item, since)
            if _is_ready(item, since):
                self._patch_gpus()
        return False

    def _patch_gpus(self) -> None:
        """Give the node GPUs that the scheduler counts as real."""
        counted = {GPU_RESOURCE: str(GPUS)}
        patch = {"status": {"capacity": counted, "allocatable": counted}}
        self.kubectl(
            *("patch", "node", "node0", "--subresource=status", "--type=merge"),
            f"--patch={json.dumps(patch)}",
        )

    # --- down -----------------------------------------------------------------------------

    def down(self, *, purge: bool) -> None:
        """Stop every process by its identity and remove all but built programs.

        Args:
            purge: Also remove the images that were loaded; else the next cluster has them.
        """
        self._require_root()
        name = self.paths.machine_name
        with self._cache.lock(f"cluster-{self.paths.name}"), self._report.step("stop the cluster"):
            for component in (
                "kubelet",
                "kube-proxy",
                "coredns",
                "scheduler",
                "controller-manager",
            ):
                self._supervisor.stop(component, grace_s=3 if component == "kubelet" else 0)
            pods_ended = cgroups.kill(name, "kubepods")
            if "containerd" in self._supervisor.alive():
                self._containerd.forget_containers()
                self._supervisor.stop("containerd", grace_s=10)
            # The data goes as well: there is nothing left that these two could save.
            self._supervisor.stop("apiserver", grace_s=0)
            self._supervisor.stop("etcd", grace_s=0)
            if not (pods_ended and cgroups.kill(name)):
                left = sorted(cgroups.processes(name))
                raise LocalClusterError(f"processes that do not end even when killed: {left}")
            namespaces.remove_mounts(self.paths)
            namespaces.remove_network(self.paths)
            if not cgroups.remove(name):
                raise LocalClusterError(f"the cgroup {name} could not be removed")
            if self.paths.root.exists():
                shutil.rmtree(self.paths.root)
            if purge and self.paths.containerd_root.exists():
                shutil.rmtree(self.paths.containerd_root)
            kernel.restore(self._cache)

    # --- the rest -------------------------------------------------------------------------

    def status(self) -> Status:
        """Return every process, the node and the add-ons."""
        processes = self._supervisor.status()
        alive = {process.name for process in processes if process.alive}
        details: dict[str, Any] = {
            "components": [vars(process) for process in processes],
            "kubeconfig": str(self.paths.kubeconfig),
            "auditLog": str(self.paths.audit_log),
            "logs": str(self.paths.logs),
            "networkNamespace": str(self.paths.network_namespace),
            "addons": self._recorded_addons(),
        }
        running = "apiserver" in alive and "etcd" in alive
        if running:
            details["nodes"] = [
                {"name": node["metadata"]["name"], "ready": _is_ready(node)}
                for node in json.loads(self.kubectl("get", "nodes", "-o=json"))["items"]
            ]
        return Status(self.name, running, details)

    def load_archive(self, image: str, archive: Path) -> None:
        """Import an OCI or Docker archive into containerd."""
        self._require_running()
        if not archive.is_file():
            raise LocalClusterError(f"no archive at {archive}")
        self._containerd.load(image, Invocation(["cat", str(archive)], dict(os.environ)), "")

    def build_image(self, build: ImageBuild) -> bool:
        """Build an image with buildah and import it, unless the cluster has it from these inputs."""
        self._require_running()
        # Python's image may be made in a new way while no Dockerfile changes.
        digest = replace(build, base=base_images.PYTHON_REVISION).digest()
        if self._containerd.labels(build.name).get(Containerd.INPUTS) == digest:
            return False
        base_images.ensure_python(self._cache, self._report)
        with self._cache.lock("images"):
            with self._report.step(f"build {build.name}"):
                Buildah(self._cache).build(build)
            with self._report.step(f"load {build.name}"):
                self._load_built(build.name, digest)
        return True

    def _load_addon_images(self, wanted: Sequence[str], built: dict[str, Future[Path]]) -> None:
        """Make images of the add-ons' programs, and load what the node does not have."""
        present = self._containerd.images()
        for item in addons.IMAGES:
            if item.addon in wanted and item.name not in present:
                self._make_addon_image(item, built)
        if "s3" in wanted and versions.PYTHON_IMAGE not in present:
            base_images.ensure_python(self._cache, self._report)
            with self._report.step("load the Python base image"):
                self._load_built(versions.PYTHON_IMAGE, base_images.PYTHON_REVISION)

    def _make_addon_image(self, item: AddonImage, built: Mapping[str, Future[Path]]) -> None:
        program = item.program
        if isinstance(program, Wheel):
            file = wheels.ensure(self._cache, program, self._report)
        else:
            file = built[program.name].result() / program.name
        if item.needs_python:
            base_images.ensure_python(self._cache, self._report)
        base = versions.PYTHON_IMAGE if item.needs_python else base_images.NOTHING
        with self._cache.lock("images"):
            base_images.ensure_program(self._cache, item.name, file, base=base)
            self._load_built(item.name, item.name)

    def _addon_answers(self, name: str) -> bool:
        """Ask an add-on's Service, where it has a page that tells."""
        page = ADDON_PAGES.get(name)
        if page is None:
            return True
        try:
            status = get_status(self.paths.network_namespace, page)
        except (OSError, HTTPException):
            return False
        return status in {HTTPStatus.OK, HTTPStatus.NOT_FOUND}

    def _addon_values(
        self, wanted: Sequence[str], built: Mapping[str, Future[Path]]
    ) -> dict[str, str]:
        values = {
            **addons.of_gateways(wanted),
            "node_address": namespaces.NODE_ADDRESS,
            "traefik_ip": addons.TRAEFIK_ADDRESS,
            "s3_ip": addons.S3_ADDRESS,
            "envoy_ip": addons.ENVOY_ADDRESS,
            "traefik_image": versions.TRAEFIK_IMAGE,
            "s3_image": versions.S3_IMAGE,
            "python_image": versions.PYTHON_IMAGE,
            "metrics_server_image": versions.METRICS_SERVER_IMAGE,
            "envoy_image": versions.ENVOY_IMAGE,
            "kubelet_tls": KUBELET_TLS,
        }
        folders = {name: built[name].result() for name in wanted if name in addons.FROM_SOURCE}
        image = versions.ENVOY_GATEWAY_IMAGE
        return {**values, **addons.published(folders, self._helm, image)}

    def invocation(self, argv: Sequence[str]) -> Invocation:
        """Return how to run a command inside the cluster's network."""
        self._require_running()
        programs = [golang.folder(self._cache, item) for item in (golang.KUBERNETES, golang.HELM)]
        path = ":".join([*map(str, programs), os.environ.get("PATH", "")])
        environment = client_environment(self.name, self.paths)
        return Invocation(namespaces.enter(self.paths, argv), {**environment, "PATH": path})

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        """Run kubectl as the administrator and return what it prints."""
        command = self.invocation(["kubectl", *arguments])
        return run(command.argv, env=command.env, stdin=stdin)

    def _helm(self, *arguments: str, stdin: str | None = None) -> str:
        command = self.invocation(["helm", *arguments])
        return run(command.argv, env=command.env, stdin=stdin)

    def _load_built(self, image: str, digest: str) -> None:
        self._containerd.load(image, Buildah(self._cache).export(image), digest)

    @property
    def _addons_file(self) -> Path:
        return self.paths.root / "addons.json"

    def _recorded_addons(self) -> list[str]:
        if not self._addons_file.exists():
            return []
        names: list[str] = json.loads(self._addons_file.read_text())
        return names

    def _require_running(self) -> None:
        if not self.paths.kubeconfig.exists():
            raise LocalClusterError(f"cluster {self.paths.name} is not up: run `up` first")

    @staticmethod
    def _require_root() -> None:
        if os.geteuid() != 0:
            raise LocalClusterError(
                "the local provider creates namespaces and mounts: run it as root, or use "
                "CLUSTER=kind with a Docker engine"
            )


def _is_ready(node: Mapping[str, Any], since: dt.datetime = LONG_AGO) -> bool:
    """Return whether a node is ready, told by its kubelet after a given time."""
    return any(
        condition["type"] == "Ready"
        and condition["status"] == "True"
        and dt.datetime.fromisoformat(condition["lastHeartbeatTime"]) >= since
        for condition in node["status"].get("conditions", [])
    )
