"""Keeps the processes of a cluster as they should be: starts what is dead, stops by identity."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from localcluster import cgroups
from localcluster.errors import LocalClusterError
from localcluster.namespaces import enter
from localcluster.packages import ADMIN_PATH
from localcluster.processes import ProcessIdentity, resident_bytes, start, wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from localcluster.components import Component
    from localcluster.paths import ClusterPaths

READY_TIMEOUT_S: Final = 120.0
LOG_LINES: Final = 15


@dataclass(frozen=True)
class ComponentStatus:
    """What ``status`` tells about one process."""

    name: str
    pid: int
    alive: bool
    rss_bytes: int


@dataclass(frozen=True)
class Supervisor:
    """The processes of one cluster."""

    paths: ClusterPaths

    def ensure(self, component: Component, *, path: str = "") -> bool:
        """Start a component unless it runs with these very arguments.

        Args:
            component: What should run.
            path: Folders that come first on its PATH.

        Returns:
            Whether it was started; it may not be ready yet.
        """
        record = self._record(component.name)
        fingerprint = component.fingerprint()
        known = ProcessIdentity.read(record)
        if known is not None and known.is_alive():
            if known.fingerprint == fingerprint:
                return False
            known.stop(grace_s=10)
        program_path = ":".join(part for part in (path, "/usr/sbin", os.environ["PATH"]) if part)
        environment = {
            "PATH": f"{program_path}:{ADMIN_PATH}",
            "HOME": str(self.paths.root),
            "LANG": "C.UTF-8",
        }
        argv = enter(self.paths, component.argv, node=True)
        identity = start(argv, self._log(component.name), environment, fingerprint)
        identity.write(record)
        cgroups.adopt(self.paths.machine_name, identity.pid)
        return True

    def wait_ready(self, component: Component) -> None:
        """Wait until a component says that it is ready.

        Raises:
            LocalClusterError: It has ended, or takes too long; the message ends with its log.
        """
        known = ProcessIdentity.read(self._record(component.name))

        def settled() -> bool:
            has_ended = known is None or not known.is_alive()
            return has_ended or component.is_ready(self.paths.network_namespace)

        in_time = wait_until(settled, READY_TIMEOUT_S, 0.1)
        if known is not None and known.is_alive() and in_time:
            return
        problem = f"was not ready after {READY_TIMEOUT_S:.0f} s" if not in_time else "has ended"
        log = self._log(component.name)
        lines = log.read_text(errors="replace").splitlines()[-LOG_LINES:] if log.exists() else []
        raise LocalClusterError("\n  ".join([f"{component.name} {problem}; {log} ends:", *lines]))

    def stop(self, name: str, grace_s: float) -> None:
        """Stop one component by its recorded identity."""
        record = self._record(name)
        known = ProcessIdentity.read(record)
        if known is not None:
            known.stop(grace_s)
        record.unlink(missing_ok=True)

    def alive(self) -> dict[str, ProcessIdentity]:
        """Return the components that run."""
        return {name: known for name, known in self._records().items() if known.is_alive()}

    def status(self) -> list[ComponentStatus]:
        """Return every component that was started, running or not."""
        return [
            ComponentStatus(name, known.pid, alive, resident_bytes(known.pid) if alive else 0)
            for name, known in self._records().items()
            for alive in [known.is_alive()]
        ]

    def _records(self) -> dict[str, ProcessIdentity]:
        found: dict[str, ProcessIdentity] = {}
        for record in sorted(self.paths.processes.glob("*.json")):
            known = ProcessIdentity.read(record)
            if known is not None:
                found[record.stem] = known
        return found

    def _record(self, name: str) -> Path:
        return self.paths.processes / f"{name}.json"

    def _log(self, name: str) -> Path:
        return self.paths.logs / f"{name}.log"
