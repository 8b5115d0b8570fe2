"""A work-queue as controllers know it: one key is never worked on twice at once.

A key added while it waits is one piece of work; added while it is worked on, it runs once more.
Failures back off, each key by itself.

References:
    https://pkg.go.dev/k8s.io/client-go/util/workqueue
"""

import asyncio
import random
from collections.abc import Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)


class WorkQueue(Generic[K]):
    """Keys to be worked on, with delays and per-key exponential back-off.

    Attributes:
        base_delay_s: Delay after the first failure, in seconds.
        max_delay_s: Longest delay after repeated failures, in seconds.
    """

    def __init__(self, *, base_delay_s: float = 0.5, max_delay_s: float = 300.0) -> None:
        self.base_delay_s = base_delay_s
        self.max_delay_s = max_delay_s
        self._ready: asyncio.Queue[K] = asyncio.Queue()
        self._dirty: set[K] = set()
        self._processing: set[K] = set()
        self._timers: dict[K, asyncio.TimerHandle] = {}
        self._failures: dict[K, int] = {}

    def __len__(self) -> int:
        return self._ready.qsize()

    def add(self, key: K, delay_s: float = 0.0) -> None:
        """Ask for work on a key, now or later; the earliest time asked for counts."""
        if delay_s <= 0:
            self._cancel_timer(key)
            self._add_now(key)
            return
        loop = asyncio.get_running_loop()
        when = loop.time() + delay_s
        timer = self._timers.get(key)
        if timer is not None and timer.when() <= when:
            return
        self._cancel_timer(key)
        self._timers[key] = loop.call_at(when, self._fire, key)

    def retry(self, key: K) -> float:
        """Ask for work on a key that failed; returns the delay, in seconds."""
        failures = self._failures.get(key, 0)
        self._failures[key] = failures + 1
        limit = min(self.max_delay_s, self.base_delay_s * 2.0 ** min(failures, 32))
        delay_s = limit * random.uniform(0.75, 1.0)  # noqa: S311 - spreads retries, keeps no secret
        self.add(key, delay_s)
        return delay_s

    def forget(self, key: K) -> None:
        """Note that the work on a key succeeded: its next failure starts from the base delay."""
        self._failures.pop(key, None)

    async def get(self) -> K:
        """Wait for a key; the caller must call ``done`` with it."""
        key = await self._ready.get()
        self._dirty.discard(key)
        self._processing.add(key)
        return key

    def done(self, key: K) -> None:
        """Finish with a key; if it was added meanwhile it is due again."""
        self._processing.discard(key)
        if key in self._dirty:
            self._ready.put_nowait(key)

    def _add_now(self, key: K) -> None:
        if key in self._dirty:
            return
        self._dirty.add(key)
        if key not in self._processing:
            self._ready.put_nowait(key)

    def _fire(self, key: K) -> None:
        self._timers.pop(key, None)
        self._add_now(key)

    def _cancel_timer(self, key: K) -> None:
        if timer := self._timers.pop(key, None):
            timer.cancel()
