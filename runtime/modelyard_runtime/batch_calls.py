"""What the batcher is told: about its items, its limits, and whom to tell about batches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Sequence

In = TypeVar("In")
Out = TypeVar("Out")


class BatchCalls(Protocol[In, Out]):
    """What the batcher must be told about its items."""

    def run(self, items: Sequence[In]) -> Sequence[Out]:
        """Compute one answer per item, in order.

        Args:
            items: Items of equal key, at most ``max_rows`` rows in all.

        Returns:
            As many answers as items.

        Raises:
            Exception: Any; the batch is then halved until the guilty item is alone.
        """
        ...  # pragma: no cover

    def cut(self, item: In, start: int, stop: int) -> In:
        """Return the rows ``start`` to ``stop`` of an item.

        Args:
            item: An item of more than ``max_rows`` rows.
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
        max_queue: Requests that may wait.
        inline: Run batches on the event loop instead of in a thread.
    """

    max_rows: int
    max_delay_s: float = 0.0
    max_queue: int = 512
    inline: bool = False


class BatchObserver(Protocol):
    """Told of every batch, on the event loop."""

    def batch_done(self, *, rows: int, requests: int, run_s: float, bisections: int) -> None:
        """Note one batch.

        Args:
            rows: Rows in it.
            requests: Requests, or cuts of requests, in it.
            run_s: Time in the model, in seconds, all re-runs included.
            bisections: How often it had to be halved.
        """
        ...  # pragma: no cover
