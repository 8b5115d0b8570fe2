"""Processes that a test looks at from outside: whether they live, and whom they have started."""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

WAIT_S: Final = 100.0
"""Longer than anything takes on a busy machine."""


def until(true: Callable[[], object]) -> None:
    """Wait for what another process or thread does, and tells nobody of."""
    end = time.monotonic() + WAIT_S
    while not true():
        assert time.monotonic() < end
        time.sleep(0.005)


def alive(pid: int) -> bool:
    """Whether a process is there; a zombie is."""
    return Path(f"/proc/{pid}").exists()


def children(pid: int) -> list[int]:
    """List the processes that a process has started, by number."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        with suppress(FileNotFoundError, ProcessLookupError):  # a thread that ended just now
            found += map(int, (task / "children").read_text().split())
    return found


def command(pid: int) -> bytes:
    """Return a process' command line; empty where it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""
