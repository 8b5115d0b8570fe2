"""How large a batch may be and how long it may wait, from what has been measured.

The cap follows the target by additive increase and multiplicative decrease, as congestion windows do.
What is held against the target is the time of a batch, not of a request: a request of a busy device
waits for at most the batch before its own, so twice a batch's time is its latency. A longer queue means
that there is too much work, which smaller batches would only make worse; admission deals with that.

Pure: it knows durations, no clock. One thread writes; others may read.

References:
    Crankshaw et al., "Clipper: A Low-Latency Online Prediction Serving System" (NSDI 2017), §4.3;
    Chiu and Jain, "Analysis of the Increase and Decrease Algorithms for Congestion Avoidance" (1989).
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from typing import TYPE_CHECKING, Final

from modelyard_runtime.batching.run_times import RunTimes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from modelyard_runtime.batching.calls import BatchLimits, Trigger

_DECREASE: Final = 0.75
_ROOM: Final = 0.9
"""The cap grows only if a batch of the next size is predicted to need less than this of its budget."""
_PROBE: Final = 64
"""Full batches in a row without trouble after which the next size is tried whatever is predicted."""
_STEPS: Final = 32
"""Increases that lead from the lowest cap to the highest."""
_HASTE: Final = 1.5
"""A batch leaves when this multiple of its predicted time is left to a deadline, …"""
_MARGIN_S: Final = 0.005
"""… and this much for timers and threads to wake."""


class Controller:
    """Decides on the cap and the wait of one queue.

    Args:
        limits: What it must stay within.
    """

    def __init__(self, limits: BatchLimits) -> None:
        self._limits = limits
        self._sizes: Sequence[int] = limits.buckets or range(1, limits.max_rows + 1)
        self._step = max(1, len(self._sizes) // _STEPS)
        self._budget_s = math.inf if limits.target_s is None else limits.target_s / 2
        self._ceiling = limits.max_rows
        self._calm = 0
        self.times = RunTimes()
        self.cap = limits.max_rows
        """Rows that a batch may hold at present."""

    def padded(self, rows: int) -> int:
        """Say how many rows the model sees.

        Args:
            rows: Rows of a batch.

        Returns:
            The next bucket.
        """
        buckets = self._limits.buckets
        at = bisect_left(buckets, rows)
        return buckets[at] if at < len(buckets) else rows

    def observe(self, rows: int, run_s: float) -> None:
        """Learn from a batch that ran as a whole.

        Args:
            rows: Rows in it.
            run_s: In seconds.
        """
        self.times.add(self.padded(rows) if self._limits.buckets else rows, run_s)
        if run_s > self._budget_s and rows > 1:
            self._lower(int(_DECREASE * min(self.cap, rows)))
        elif rows >= self.cap < self._limits.max_rows:
            self._calm += 1
            self._raise()

    def out_of_memory(self, rows: int) -> None:
        """Learn from a batch that did not fit into the device's memory.

        Args:
            rows: Rows in it.
        """
        self._lower(min(self.cap, rows) // 2)
        self._ceiling = self.cap

    def wait_s(self, rows: int) -> float:
        """Say how long a batch may wait to fill.

        Args:
            rows: Rows in it.

        Returns:
            Seconds: the longest delay, or what the target leaves of it.
        """
        wait_s, target_s = self._limits.max_delay_s, self._limits.target_s
        if target_s is None:
            return wait_s
        return min(wait_s, max(0.0, target_s - self._predict_s(rows)))

    def leave_by(self, oldest: float, deadline: float, rows: int) -> tuple[float, Trigger]:
        """Say until when a batch may fill.

        Args:
            oldest: Arrival of its oldest item, in seconds.
            deadline: Its earliest, on the same clock.
            rows: Rows in it.

        Returns:
            The time, and what will be the reason for leaving then.
        """
        waited = oldest + self.wait_s(rows)
        latest = deadline - _HASTE * self._predict_s(rows) - _MARGIN_S
        return (waited, "delay") if waited <= latest else (latest, "deadline")

    def drain_s(self, rows: int, keys: int) -> float:
        """Predict how long what waits will run.

        Args:
            rows: Rows that wait.
            keys: Keys among them; at least as many batches.

        Returns:
            Seconds.
        """
        if not rows:
            return 0.0
        fixed_s, row_s = self.times.line
        return fixed_s * max(-(-rows // self.cap), keys) + row_s * rows

    def _predict_s(self, rows: int) -> float:
        return self.times.predict_s(self.padded(rows))

    def _lower(self, most: int) -> None:
        at = bisect_right(self._sizes, most) - 1
        self.cap = self._sizes[max(at, 0)]
        self._calm = 0

    def _raise(self) -> None:
        at = bisect_left(self._sizes, self.cap) + self._step
        following = self._sizes[min(at, len(self._sizes) - 1)]
        fits = self._predict_s(following) <= _ROOM * self._budget_s
        if self._calm >= _PROBE or (fits and following <= self._ceiling):
            self.cap = following
            self._ceiling = max(self._ceiling, following)
            self._calm = 0
