"""How much memory a process occupies."""

from __future__ import annotations

import resource
from pathlib import Path


def resident_bytes(pid: int) -> float:
    """Read a process's resident memory.

    Args:
        pid: Its id.

    Returns:
        Bytes; NaN where the system does not say, or the process has ended.

    References:
        proc_pid_statm(5).
    """
    try:
        pages = Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]
    except OSError:
        return float("nan")
    return int(pages) * resource.getpagesize()
