"""What the batcher is told: about its items, its limits, and whom to tell about batches."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Sequence

In = TypeVar("In")
Out = TypeVar("Out")

Trigger = Literal["full", "idle", "delay", "deadline"]
"""Why a batch left: no more fits, the device was idle, it had waited, or somebody could not wait."""


@dataclass(slots=True)
class Passage:
    """When a request was in the queue and in the model, on the batcher's clock.

    Attributes:
        queued: When it arrived.
        began: When the first of it went into the model; None when nothing did.
        ended: When the last of it came out.
    """

    queued: float = 0.0
    began: float | None = None
    ended: float = 0.0

    def note(self, queued: float, began: float, ended: float) -> None:
        """Add a part of the request.

        Args:
            queued: As above.
            began: As above.
            ended: As above.
        """
        self.queued = queued
        self.began = began if self.began is None else min(self.began, began)
        self.ended = max(self.ended, ended)


PASSAGE: ContextVar[Passage | None] = ContextVar("passage", default=None)
"""Where a caller who wants to know is told."""


class BatchCalls(Protocol[In, Out]):
    """What the batcher must be told about its items."""

    def run(self, items: Sequence[In]) -> Sequence[Out]:
        """Compute one answer per item, in order.

        Args:
            items: Items of equal key, at most ``max_rows`` rows in all.

        Returns:
            As many answers as items.

        Raises:
            NotReadyError: Nothing can be computed at present; given to every item.
            OutOfMemoryError: The items are too many; they are run again in halves.
            Exception: Any other; the batch is halved until the guilty item is alone.
        """
        ...  # pragma: no cover

    def cut(self, item: In, start: int, stop: int) -> In:
        """Return the rows ``start`` to ``stop`` of an item.

        Args:
            item: An item of several rows.
            start: First row.
            stop: Row after the last one.

        Returns:
            An item of ``stop - start`` rows.
        """
        ...  # pragma: no cover

    def join(self, answers: Sequence[Out]) -> Out:
        """Put the answers to the cuts of one item together.

        Args:
            answers: One per cut, in order.

        Returns:
            The answer to the whole item.
        """
        ...  # pragma: no cover


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """How much is taken together, and how much may wait.

    Attributes:
        max_rows: Rows in one batch.
        max_delay_s: Longest wait for a batch to fill, in seconds; 0 never waits.
        target_s: Latency that the cap and the wait follow, in seconds; None: no target.
        buckets: Sizes, ascending, to which the model's calls pad a batch; empty: they do not.
        max_queue: Requests that may wait.
        max_bytes: Bytes of requests that may wait.
        inline: Run batches on the event loop instead of in a thread.
    """

    max_rows: int
    max_delay_s: float = 0.0
    target_s: float | None = None
    buckets: tuple[int, ...] = ()
    max_queue: int = 512
    max_bytes: int = 256 * 1024 * 1024
    inline: bool = False


class BatchReport(NamedTuple):
    """What became of one batch.

    Attributes:
        rows: Rows in it.
        requests: Requests, or cuts of requests, in it.
        run_s: Time in the model, in seconds, all re-runs included.
        trigger: Why it left the queue.
        fill: Its rows, of those that it might have held.
        bisections: How often it had to be halved to find who fails.
        poisoned: Requests that failed alone while others of the batch did not.
    """

    rows: int
    requests: int
    run_s: float
    trigger: Trigger = "idle"
    fill: float = 1.0
    bisections: int = 0
    poisoned: int = 0


class BatchObserver(Protocol):
    """Told of every batch, on the event loop."""

    def batch_done(self, report: BatchReport) -> None:
        """Note one batch.

        Args:
            report: What became of it.
        """
        ...  # pragma: no cover
