"""How many compute threads this container may use."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Final

_CGROUP_ROOT: Final = Path("/sys/fs/cgroup")


def quota_cpus(root: Path = _CGROUP_ROOT) -> float | None:
    """Read the cgroup's CPU quota.

    Args:
        root: Mount point of the cgroup file system.

    Returns:
        CPUs (may be fractional), or None without a quota.

    References:
        Linux ``cgroup-v2.rst``, ``cpu.max``; ``sched-bwc.rst``, ``cpu.cfs_quota_us`` (v1).
    """
    try:
        quota, period = (root / "cpu.max").read_text().split()
        return None if quota == "max" else int(quota) / int(period)
    except (OSError, ValueError):
        pass
    try:
        quota_us = int((root / "cpu" / "cpu.cfs_quota_us").read_text())
        period_us = int((root / "cpu" / "cpu.cfs_period_us").read_text())
    except (OSError, ValueError):
        return None
    return quota_us / period_us if quota_us > 0 and period_us > 0 else None


def compute_threads(requested: int | None, *, root: Path = _CGROUP_ROOT) -> int:
    """Choose the number of compute threads.

    Without a request it is what the quota (or the CPU mask) allows, less one for the event loop:
    a compute library that spins on a CPU that the loop needs slows both down.

    Args:
        requested: The setting; None chooses.
        root: Mount point of the cgroup file system.

    Returns:
        At least 1.
    """
    if requested is not None:
        return requested
    mask = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = quota_cpus(root)
    available = mask if quota is None else min(mask, math.floor(quota))
    return max(1, available - 1)


def bound_thread_pools(threads: int) -> None:
    """Bound the pools of libraries that are imported from now on.

    They read these variables once, when they are loaded; scikit-learn's and torch's OpenMP would
    otherwise start a thread for every processor of the node.

    Args:
        threads: For one operation.
    """
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = str(threads)
