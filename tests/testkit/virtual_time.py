"""An event loop whose clock jumps to the next timer instead of waiting for it."""

from __future__ import annotations

import asyncio
import selectors
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine


class _Jumping(selectors.DefaultSelector):
    """Turns every wait into a jump of the clock."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> Any:
        ready = super().select(0)
        if not ready:
            if timeout is None:
                raise RuntimeError("everybody waits, and no timer is set: a wake-up was lost")
            self.now += timeout
        return ready


class VirtualTime(asyncio.SelectorEventLoop):
    """A loop on which a day passes in no time; a test that would hang fails at once."""

    def __init__(self) -> None:
        self._jumping = _Jumping()
        super().__init__(self._jumping)
        # A timer at t fires when t is reached, not up to a clock's resolution before.
        self._clock_resolution = 1e-12

    def time(self) -> float:
        return self._jumping.now

    def spend(self, seconds: float) -> None:
        """Let time pass without giving anybody else a turn, as a computation does."""
        self._jumping.now += seconds


def run_virtually(scenario: Callable[[VirtualTime], Coroutine[Any, Any, None]]) -> None:
    """Run a scenario on a loop of its own."""
    loop = VirtualTime()
    try:
        loop.run_until_complete(scenario(loop))
    finally:
        loop.close()
