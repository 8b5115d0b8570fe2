"""How much one caller may ask: a token bucket and a bound on what is inside, for each."""

from __future__ import annotations

import math
import time
from collections import Counter
from typing import TYPE_CHECKING, Final

from cachetools import LRUCache

from modelyard_runtime.errors import RateLimitedError

if TYPE_CHECKING:
    from collections.abc import Callable

    from modelyard_runtime.directives import Directives, RateLimit

_CALLERS: Final = 65_536
"""Callers that are remembered; the one that has been silent longest is forgotten first."""
_BUSY_RETRY_S: Final = 0.1
"""When to come back, where that depends on the caller's own requests."""
_ROUNDING_S: Final = 1e-9


class RateLimits:
    """Turns callers away who ask too often, or too much at a time.

    A bucket is kept as one number, the time at which it will be full again: a token costs
    ``1 / rate`` seconds, and a bucket that lacks more than ``burst`` tokens has none to give.

    Args:
        clock: Gives the time in seconds.

    References:
        ITU-T I.371, "Generic cell rate algorithm", which is the same bucket.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._limit: RateLimit | None = None
        self._full_at: LRUCache[str, float] = LRUCache(_CALLERS)
        self._inside: Counter[str] = Counter()

    def apply(self, directives: Directives) -> None:
        """Limit as the directives say from now on.

        Args:
            directives: The current ones.
        """
        if directives.rate_limit != self._limit:
            self._limit = directives.rate_limit
            self._full_at.clear()

    def enter(self, caller: str) -> None:
        """Let one request of a caller in; it must ``leave``.

        Args:
            caller: A name that no other caller has.

        Raises:
            RateLimitedError: It asks too often or too much; nothing has been counted.
        """
        limit = self._limit
        if limit is not None:
            if limit.concurrency is not None and self._inside[caller] >= limit.concurrency:
                raise RateLimitedError(
                    f"{limit.concurrency} requests of one caller are inside, which is the limit",
                    retry_after_s=_BUSY_RETRY_S,
                )
            self._take(caller, limit)
        self._inside[caller] += 1

    def leave(self, caller: str) -> None:
        """Count a request out.

        Args:
            caller: As given to ``enter``.
        """
        if self._inside[caller] > 1:
            self._inside[caller] -= 1
        else:
            del self._inside[caller]

    def _take(self, caller: str, limit: RateLimit) -> None:
        now = self._clock()
        rate = limit.requests_per_second
        room_s = (limit.burst or max(1, math.floor(rate))) / rate
        full_at = max(self._full_at.get(caller, now), now) + 1 / rate
        late_s = full_at - now - room_s
        if late_s > _ROUNDING_S:
            raise RateLimitedError(
                f"more than {rate:g} requests a second from one caller", retry_after_s=late_s
            )
        self._full_at[caller] = full_at
