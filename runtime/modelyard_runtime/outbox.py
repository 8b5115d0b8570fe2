"""Answers that leave together.

The model answers a batch at a time, and a caller who waits has to be woken by the kernel: on a virtual
machine that costs several times what the write itself does. Written one after the other, without the
encoding of the next answer in between, most find their reader awake.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class Outbox:
    """Keeps what is to be written until the event loop's next turn."""

    def __init__(self) -> None:
        self._waiting: list[tuple[Callable[[bytes], None], bytes]] = []

    def put(self, write: Callable[[bytes], None], data: bytes) -> None:
        """Write soon, behind everything that was put before.

        Args:
            write: Called with ``data``.
            data: What to write.
        """
        if not self._waiting:
            asyncio.get_running_loop().call_soon(self._flush)
        self._waiting.append((write, data))

    def _flush(self) -> None:
        waiting, self._waiting = self._waiting, []
        for write, data in waiting:
            write(data)
