"""The two namespaces that a local cluster lives in.

The network namespace holds every address of the cluster, so that none of it is reachable from
the machine's network or in its way. The mount namespace holds the mounts of kubelet and
containerd, with empty folders over the places where those programs insist on writing: when the
last process is gone, so is everything that they left there.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import socket
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from localcluster.errors import LocalClusterError
from localcluster.processes import run, succeeds

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from localcluster.paths import ClusterPaths

CLONE_NEWNET: Final = 0x40000000
BRIDGE: Final = "node0"
NODE_ADDRESS: Final = "10.77.0.1"
SHADOWED: Final = ("/run", "/var/lib", "/var/log", "/opt")
"""Folders of the machine that the node sees empty."""


def enter(paths: ClusterPaths, argv: Sequence[str], *, node: bool = False) -> list[str]:
    """Return the command that runs ``argv`` inside the cluster's network.

    Args:
        paths: The cluster.
        argv: Program and arguments.
        node: Also enter the node's mount namespace, as components do.

    Returns:
        Program and arguments; the process keeps its id through ``nsenter``.
    """
    # Not `ip netns exec`: that one mounts a new /sys, and the cgroups would be gone.
    prefix = ["nsenter", f"--net={paths.network_namespace}"]
    if node:
        prefix.append(f"--mount={paths.mount_namespace}")
    return [*prefix, "--", *argv]


def is_pinned(path: Path) -> bool:
    """Return whether a namespace is held at this path; a plain file is what a reboot leaves."""
    return path.exists() and path.stat().st_dev != path.parent.stat().st_dev


def _is_mounted(path: Path) -> bool:
    # os.path.ismount does not see a folder that is mounted on itself.
    mounts = Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines()
    return any(line.split()[4] == str(path) for line in mounts)


def ensure_network(paths: ClusterPaths) -> None:
    """Create the network namespace with its bridge, the node's address and forwarding."""
    pin = paths.network_namespace
    if not is_pinned(pin):
        pin.unlink(missing_ok=True)
        run(["ip", "netns", "add", pin.name])
    script = f"""
        ip link set lo up
        ip link show {BRIDGE} >/dev/null 2>&1 || ip link add {BRIDGE} type bridge
        ip addr replace {NODE_ADDRESS}/24 dev {BRIDGE}
        ip link set {BRIDGE} up
        ip route replace default via 10.77.0.254 dev {BRIDGE}
        echo 1 >/proc/sys/net/ipv4/ip_forward
    """
    run(enter(paths, ["sh", "-ec", script]))


def ensure_mounts(paths: ClusterPaths) -> None:
    """Create the node's mount namespace.

    Raises:
        LocalClusterError: The cache lies in a folder that the node must not see.
    """
    pin = paths.mount_namespace
    if is_pinned(pin):
        return
    for folder in SHADOWED:
        if paths.cache.root.is_relative_to(folder):
            raise LocalClusterError(
                f"the cache {paths.cache.root} lies in {folder}, which the node covers with an "
                "empty folder: set XDG_CACHE_HOME to another place"
            )
    pin.parent.mkdir(parents=True, exist_ok=True)
    if not _is_mounted(pin.parent):
        # A namespace can be pinned only where mounts do not propagate.
        run(["mount", "--bind", str(pin.parent), str(pin.parent)])
        run(["mount", "--make-private", str(pin.parent)])
    pin.touch()
    covers = "\n".join(f"[ ! -d {folder} ] || mount -t tmpfs tmpfs {folder}" for folder in SHADOWED)
    run(["unshare", f"--mount={pin}", "--propagation", "private", "sh", "-ec", covers])


def remove_mounts(paths: ClusterPaths) -> None:
    """Let go of the mount namespace; its mounts end with its last process."""
    pin = paths.mount_namespace
    while is_pinned(pin) and succeeds(["umount", str(pin)]):
        pass
    while _is_mounted(pin.parent) and succeeds(["umount", str(pin.parent)]):
        pass


def remove_network(paths: ClusterPaths) -> None:
    """Remove the network namespace, and iproute2's folder when it is empty."""
    pin = paths.network_namespace
    if pin.exists():
        succeeds(["ip", "netns", "delete", pin.name])
        pin.unlink(missing_ok=True)
    if pin.parent.is_dir() and not any(pin.parent.iterdir()):
        succeeds(["umount", str(pin.parent)])
        shutil.rmtree(pin.parent, ignore_errors=True)


@contextmanager
def inside(network_namespace: Path) -> Iterator[None]:
    """Move the calling thread into a network namespace, and back at the end."""
    libc = ctypes.CDLL(None, use_errno=True)
    own = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        target = os.open(network_namespace, os.O_RDONLY | os.O_CLOEXEC)
        try:
            if libc.setns(target, CLONE_NEWNET) != 0:
                raise OSError(ctypes.get_errno(), f"cannot enter {network_namespace}")
        finally:
            os.close(target)
        try:
            yield
        finally:
            if libc.setns(own, CLONE_NEWNET) != 0:
                raise OSError(ctypes.get_errno(), "cannot return to the machine's network")
    finally:
        os.close(own)


def connect(network_namespace: Path, address: tuple[str, int], timeout_s: float) -> socket.socket:
    """Return a connection that was opened inside a network namespace.

    Only opening needs the namespace: the socket works from anywhere afterwards.
    """
    with inside(network_namespace):
        return socket.create_connection(address, timeout=timeout_s)
