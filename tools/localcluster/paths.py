"""Where the tool keeps things: one cache folder, and nothing outside it."""

from __future__ import annotations

import fcntl
import os
import re
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from localcluster.errors import LocalClusterError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

DEFAULT_NAME: Final = "modelyard"
NAME_PATTERN: Final = re.compile(r"[a-z]([a-z0-9-]{0,30}[a-z0-9])?")


@dataclass(frozen=True)
class Cache:
    """The folder that holds built programs, images and the state of clusters."""

    root: Path

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> Cache:
        """Return the cache below ``XDG_CACHE_HOME``, or below ``~/.cache``."""
        base = environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
        return cls(Path(base).resolve() / "modelyard")

    @property
    def programs(self) -> Path:
        """One folder for each built program and version."""
        return self.root / "bin"

    @property
    def go(self) -> Path:
        """Go's module and build caches, and a Go toolchain where the machine has none."""
        return self.root / "go"

    @property
    def images(self) -> Path:
        """The storage of image builds."""
        return self.root / "images"

    @contextmanager
    def lock(self, name: str) -> Iterator[None]:
        """Hold an exclusive lock; another process that wants it waits."""
        with self._open_lock(name) as descriptor:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield

    @contextmanager
    def lock_if_free(self, name: str) -> Iterator[bool]:
        """Hold an exclusive lock unless somebody else has it; yields whether it is held."""
        with self._open_lock(name) as descriptor:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
            else:
                yield True

    @contextmanager
    def _open_lock(self, name: str) -> Iterator[int]:
        folder = self.root / "locks"
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            yield descriptor
        finally:
            os.close(descriptor)


@dataclass(frozen=True)
class ClusterPaths:
    """The files of one cluster, and the names that it takes on the machine."""

    cache: Cache
    name: str

    def __post_init__(self) -> None:
        if not NAME_PATTERN.fullmatch(self.name):
            raise LocalClusterError(
                f"cluster name {self.name!r}: expected at most 32 of a-z, 0-9 and '-', "
                "starting with a letter"
            )

    @property
    def root(self) -> Path:
        """Run state, removed by ``down``."""
        return self.cache.root / "clusters" / self.name

    @property
    def containerd_root(self) -> Path:
        """Images and snapshots; outlives ``down``, so that images need no second import."""
        return self.cache.root / "containerd" / self.name

    @property
    def containerd_socket(self) -> Path:
        """The socket that kubelet and ``ctr`` speak to."""
        return self.root / "containerd.sock"

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig, with its certificates inside."""
        return self.root / "kubeconfig"

    @property
    def audit_log(self) -> Path:
        """One JSON line for each write that the API server accepted or refused."""
        return self.root / "audit" / "audit.log"

    @property
    def logs(self) -> Path:
        """One log file for each component."""
        return self.root / "log"

    @property
    def pki(self) -> Path:
        """Certificates and keys."""
        return self.root / "pki"

    @property
    def config(self) -> Path:
        """Rendered configuration files of the components."""
        return self.root / "config"

    @property
    def processes(self) -> Path:
        """One record for each started process."""
        return self.root / "processes"

    @property
    def machine_name(self) -> str:
        """The name of the network namespace and of the cgroup."""
        return self.name if self.name == DEFAULT_NAME else f"{DEFAULT_NAME}-{self.name}"

    @property
    def network_namespace(self) -> Path:
        """Where iproute2 pins the network namespace."""
        return Path("/run/netns") / self.machine_name

    @property
    def mount_namespace(self) -> Path:
        """Where the tool pins the mount namespace of the node."""
        return self.root / "namespaces" / "mnt"
