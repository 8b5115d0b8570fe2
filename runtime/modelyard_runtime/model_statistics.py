"""What one model has done since it was loaded, in the words of the statistics extension.

References:
    Triton, "Statistics Extension".
"""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from modelyard_runtime.batching.calls import BatchObserver, BatchReport
    from modelyard_runtime.call import Call

_RECENT: Final = 256
"""Batches whose times are remembered one by one."""


@dataclass(slots=True)
class _Duration:
    """How often, and how long in all."""

    count: int = 0
    seconds: float = 0.0

    def add(self, seconds: float, count: int = 1) -> None:
        self.count += count
        self.seconds += seconds

    def document(self) -> dict[str, int]:
        return {"count": self.count, "ns": max(0, round(self.seconds * 1e9))}


class Statistics:
    """Counts what passes between a model's callers and its queue.

    Args:
        observer: Told of every batch as well.
    """

    def __init__(self, observer: BatchObserver) -> None:
        self._observer = observer
        self._last_ms = 0
        self._rows = 0
        self._success = _Duration()
        self._fail = _Duration()
        self._decode = _Duration()
        self._wait = _Duration()
        self._encode = _Duration()
        self._forward = _Duration()
        self._recent_s: deque[float] = deque(maxlen=_RECENT)
        self._hit = _Duration()
        self._miss = _Duration()
        self._forward_of_requests_s = 0.0
        self._batches: dict[int, _Duration] = {}

    def batch_done(self, report: BatchReport) -> None:
        """Note one batch.

        Args:
            report: What became of it.
        """
        self._forward.add(report.run_s)
        self._forward_of_requests_s += report.run_s * report.requests
        batch = self._batches.get(report.rows)
        if batch is None:
            batch = self._batches[report.rows] = _Duration()
        batch.add(report.run_s)
        self._recent_s.append(report.run_s)
        self._observer.batch_done(report)

    @property
    def slow_batch_s(self) -> float | None:
        """Time that all but one in a hundred of the last batches stayed below; None before any."""
        if not self._recent_s:
            return None
        return sorted(self._recent_s)[int(0.99 * len(self._recent_s))]

    def request_done(self, call: Call, *, succeeded: bool) -> None:
        """Note one request.

        Args:
            call: The finished call.
            succeeded: Whether it was answered with a result.
        """
        seconds = time.perf_counter() - call.started
        if not succeeded:
            self._fail.add(seconds)
            return
        self._last_ms = int(time.time() * 1000)
        self._rows += call.rows
        self._success.add(seconds)
        self._decode.add(call.decode_s)
        self._wait.add(call.wait_s)
        self._encode.add(call.encode_s)

    def cached(self, *, hit: bool, seconds: float) -> None:
        """Note one question to the response cache.

        Args:
            hit: Whether it knew the answer.
            seconds: Until the answer was there, in seconds.
        """
        (self._hit if hit else self._miss).add(seconds)

    def document(self, name: str, version: str) -> dict[str, Any]:
        """Describe the counts.

        Args:
            name: The served name.
            version: Its version.

        Returns:
            An element of ``model_stats``.
        """
        nothing = {"count": 0, "ns": 0}
        queue = _Duration(self._wait.count, self._wait.seconds - self._forward_of_requests_s)
        infer = _Duration(self._wait.count, self._forward_of_requests_s)
        return {
            "name": name,
            "version": version,
            "last_inference": self._last_ms,
            "inference_count": self._rows,
            "execution_count": self._forward.count,
            "inference_stats": {
                "success": self._success.document(),
                "fail": self._fail.document(),
                "queue": queue.document(),
                "compute_input": self._decode.document(),
                "compute_infer": infer.document(),
                "compute_output": self._encode.document(),
                "cache_hit": self._hit.document(),
                "cache_miss": self._miss.document(),
            },
            "batch_stats": [
                {
                    "batch_size": rows,
                    "compute_input": nothing,
                    "compute_infer": batch.document(),
                    "compute_output": nothing,
                }
                for rows, batch in sorted(self._batches.items())
            ],
            "memory_usage": [],
        }
