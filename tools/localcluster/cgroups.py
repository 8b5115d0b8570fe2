"""The cgroup that holds all processes of a cluster, in every hierarchy of the machine."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

from localcluster.processes import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator


def hierarchies() -> dict[Path, str]:
    """Return the mounted cgroup hierarchies with their type, ``cgroup`` or ``cgroup2``."""
    mounts = (line.split() for line in Path("/proc/self/mounts").read_text().splitlines())
    return {Path(where): kind for _, where, kind, *_ in mounts if kind in {"cgroup", "cgroup2"}}


def create(name: str) -> None:
    """Create the cluster's cgroup everywhere, ready for pods below it."""
    for root, kind in hierarchies().items():
        group = root / name
        fresh = not group.exists()
        group.mkdir(exist_ok=True)
        if kind == "cgroup2":
            controllers = (root / "cgroup.controllers").read_text().split()
            for folder in (root, group):
                _write(folder / "cgroup.subtree_control", " ".join(f"+{c}" for c in controllers))
        elif fresh and (group / "cpuset.cpus").exists():
            for file in ("cpuset.cpus", "cpuset.mems"):
                _write(group / file, (root / file).read_text())
            _write(group / "cgroup.clone_children", "1")


def adopt(name: str, pid: int) -> None:
    """Put a daemon, and all that it will start, into the cluster's cgroup.

    With cgroup v1 only the hierarchy of process counts is used: it is enough to find the
    processes again, and their memory and CPU stay accounted where they were.
    """
    for root, kind in hierarchies().items():
        if kind == "cgroup2" or root.name == "pids":
            group = root / name / "system"
            group.mkdir(exist_ok=True)
            _write(group / "cgroup.procs", str(pid))


def processes(name: str, part: str = "") -> set[int]:
    """Return the ids of all processes in the cluster's cgroup, or in one part of it."""
    found: set[int] = set()
    for group in _groups(name, part):
        try:
            found.update(int(pid) for pid in (group / "cgroup.procs").read_text().split())
        except OSError:
            continue  # removed meanwhile, or a threaded group
    return found


def kill(name: str, part: str = "", timeout_s: float = 10) -> bool:
    """Kill every process in the cgroup; False when some are left after ``timeout_s``."""

    def is_empty() -> bool:
        left = processes(name, part)
        for pid in left:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        return not left

    return wait_until(is_empty, timeout_s)


def remove(name: str) -> bool:
    """Remove the empty cgroup from every hierarchy; False when one could not be."""

    def is_removed() -> bool:
        for group in _groups(name):
            try:
                group.rmdir()
            except OSError:
                continue  # its last process is still being buried: asked again
        return not any((root / name).exists() for root in hierarchies())

    return wait_until(is_removed, 5)


def _groups(name: str, part: str = "") -> Iterator[Path]:
    """Yield the cgroup folders, the deepest first."""
    for root in hierarchies():
        for folder, _, _ in os.walk(root / name / part, topdown=False):
            yield Path(folder)


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text)
    except OSError:
        # Not every kernel hands out every controller; the kubelet names what it misses.
        return
