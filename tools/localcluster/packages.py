"""Debian packages that the local cluster stands on."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Final

from localcluster.errors import LocalClusterError
from localcluster.processes import run

if TYPE_CHECKING:
    from localcluster.report import Report

NEEDED: Final = {
    "iproute2": "ip",
    "util-linux": "nsenter",
    "runc": "/usr/sbin/runc",
    "containernetworking-plugins": "/usr/lib/cni/bridge",
    "nftables": "nft",
    "iptables": "iptables",
    "conntrack": "conntrack",
    "ethtool": "ethtool",
    "buildah": "buildah",
    "debootstrap": "debootstrap",
    "gcc": "gcc",
    "libc6-dev": "/usr/include/stdlib.h",
    "ca-certificates": "/etc/ssl/certs/ca-certificates.crt",
}
"""Each package with a file or program that shows that it is there."""
ADMIN_PATH: Final = "/usr/local/sbin:/usr/sbin:/sbin"


def is_present(proof: str) -> bool:
    """Return whether a program is on the PATH, or a file exists."""
    if proof.startswith("/"):
        return Path(proof).exists()
    return shutil.which(proof, path=f"{os.environ.get('PATH', '')}:{ADMIN_PATH}") is not None


def ensure(report: Report) -> None:
    """Install what is missing with apt-get, and say so.

    Raises:
        LocalClusterError: Something is missing and this is no Debian.
    """
    missing = [package for package, proof in NEEDED.items() if not is_present(proof)]
    if not missing:
        return
    names = " ".join(missing)
    if shutil.which("apt-get") is None:
        raise LocalClusterError(
            f"the local cluster needs these Debian packages: {names}. Without apt-get, install "
            "their equivalents, or start a Docker engine and use CLUSTER=kind"
        )
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    with report.step(f"apt-get install {names}", "first time only"):
        run(["apt-get", "update", "-q"], env=environment)
        run(
            ["apt-get", "install", "-q", "-y", "--no-install-recommends", *missing],
            env=environment,
        )
