"""Requests in, batches through the model, one answer per caller.

The batcher is work-conserving: when the device is idle the next batch leaves at once, with whatever
has arrived; while it is busy, requests accumulate. No timer has to be tuned, and a lone caller pays
nothing. It knows neither HTTP nor tensors: ``BatchCalls`` says how items are run, cut and joined.

Two places can run a batch. A *thread*, which takes the next batch itself the moment it has finished
one (the event loop may be busy parsing, and the device must not wait for it), and hands each batch's
outcomes back with a single ``call_soon_threadsafe``. Or, for models whose forward pass is shorter
than a hand-off, the *event loop* itself (``inline``).
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Final, Generic

from modelyard_runtime.batch_calls import In, Out
from modelyard_runtime.errors import (
    DeadlineExceededError,
    InferenceError,
    OverloadedError,
    RequestError,
)

if TYPE_CHECKING:
    from collections.abc import Hashable

    from modelyard_runtime.batch_calls import BatchCalls, BatchLimits, BatchObserver

_RATE_WEIGHT: Final = 0.1
"""Share of the newest batch in the drain rate's moving average."""
_RETRY_BOUNDS_S: Final = (0.05, 60.0)


@dataclass(eq=False, slots=True)
class _Request:
    """One caller's stake in the queue, shared by the cuts of its item."""

    queued: int


@dataclass(eq=False, slots=True)
class _Waiting(Generic[In, Out]):
    item: In
    key: Hashable
    rows: int
    deadline: float
    since: float
    request: _Request
    answer: asyncio.Future[Out]
    queued: bool = True


@dataclass(slots=True)
class _Outcome(Generic[In, Out]):
    batch: list[_Waiting[In, Out]]
    answers: list[Out | BaseException] = field(default_factory=list)
    run_s: float = 0.0
    bisections: int = 0


class Batcher(Generic[In, Out]):
    """One queue in front of one model on one device.

    Args:
        calls: How items are run, cut and joined.
        limits: Sizes and waits.
        observer: Told of every batch; None tells nobody.
    """

    def __init__(
        self,
        calls: BatchCalls[In, Out],
        limits: BatchLimits,
        observer: BatchObserver | None = None,
    ) -> None:
        self._calls = calls
        self._limits = limits
        self._observer = observer
        self._loop = asyncio.get_running_loop()
        self._lock = threading.Lock()
        self._groups: dict[Hashable, deque[_Waiting[In, Out]]] = {}
        self._queued = 0
        self._pending: dict[_Waiting[In, Out], None] = {}
        self._idle = True
        self._closed = False
        self._wake: SimpleQueue[None] = SimpleQueue()
        self._sweep: asyncio.TimerHandle | None = None
        self._requests_per_s = 0.0
        self._thread: threading.Thread | None = None
        if not limits.inline:
            self._thread = threading.Thread(target=self._work, name="engine", daemon=True)
            self._thread.start()

    @property
    def limits(self) -> BatchLimits:
        """Sizes and waits."""
        return self._limits

    @property
    def queued(self) -> int:
        """Requests that wait: admitted, and not or not wholly taken by the model."""
        return self._queued

    @property
    def pending(self) -> int:
        """Requests, or cuts of requests, that wait or run."""
        return len(self._pending)

    async def submit(self, item: In, *, key: Hashable, rows: int, deadline: float) -> Out:
        """Wait for the answer to one item.

        Args:
            item: What the model is asked.
            key: Items of equal key may share a batch.
            rows: Rows in the item, at least 1; more than ``max_rows`` are cut and joined.
            deadline: On the event loop's clock, in seconds.

        Returns:
            The model's answer to this item.

        Raises:
            OverloadedError: The queue is full.
            DeadlineExceededError: The deadline passed first.
            RequestError: What ``BatchCalls.run`` raised for this item alone.
            InferenceError: Anything else that it raised, as the cause.
        """
        most = self._limits.max_rows
        if rows <= most:
            waiting = self._admit([item], [rows], key, deadline)[0]
            try:
                return await waiting.answer
            finally:
                self._leave(waiting)
        starts = range(0, rows, most)
        items = [self._calls.cut(item, start, min(start + most, rows)) for start in starts]
        sizes = [min(most, rows - start) for start in starts]
        cuts = self._admit(items, sizes, key, deadline)
        try:
            return self._calls.join(await asyncio.gather(*(cut.answer for cut in cuts)))
        finally:
            for cut in cuts:
                self._leave(cut)

    def retry_after_s(self) -> float:
        """Estimate when the queue will have drained, from the rate measured so far.

        Returns:
            Seconds, between 0.05 and 60; 1 while nothing has been measured.
        """
        if self._requests_per_s <= 0:
            return 1.0
        low, high = _RETRY_BOUNDS_S
        return min(max(len(self._pending) / self._requests_per_s, low), high)

    def close(self) -> None:
        """Stop the thread once its batch is done; what still waits is cancelled."""
        with self._lock:
            self._closed = True
        self._wake.put(None)
        if self._sweep is not None:
            self._sweep.cancel()
        for waiting in list(self._pending):
            waiting.answer.cancel()

    # --- the event loop's side ---------------------------------------------------------------

    def _admit(
        self, items: list[In], sizes: list[int], key: Hashable, deadline: float
    ) -> list[_Waiting[In, Out]]:
        now = time.monotonic()  # the event loop's clock, but not rounded to its turn
        if deadline <= now:
            raise DeadlineExceededError("the deadline passed before the request was queued")
        # While nothing runs and nothing waits, the queue is empty whatever its bound.
        if self._queued >= self._limits.max_queue:
            raise OverloadedError(
                f"{self._queued} requests are waiting, which is the limit",
                retry_after_s=self.retry_after_s(),
            )
        request = _Request(queued=len(items))
        admitted = [
            _Waiting(item, key, rows, deadline, now, request, self._loop.create_future())
            for item, rows in zip(items, sizes, strict=True)
        ]
        with self._lock:
            group = self._groups.get(key)
            if group is None:
                group = self._groups[key] = deque()
            group.extend(admitted)
            self._queued += 1
            start, self._idle = self._idle, False
        for waiting in admitted:
            self._pending[waiting] = None
        if self._sweep is None or deadline < self._sweep.when():
            self._sweep_at(deadline)
        if start:
            self._start()
        elif self._limits.max_delay_s:
            self._wake.put(None)  # the batch that is being filled may be full now
        return admitted

    def _start(self) -> None:
        if not self._limits.inline:
            self._wake.put(None)
        elif self._limits.max_delay_s:
            self._loop.call_later(self._limits.max_delay_s, self._run_inline)
        else:
            # Not here but on the loop's next turn: whatever this turn still decodes joins.
            self._loop.call_soon(self._run_inline)

    def _run_inline(self) -> None:
        batch, _ = self._take(may_wait=False)
        if batch:
            self._settle(self._execute(batch))
        elif self._idle:
            return
        # One batch a turn: sockets are served between two batches.
        self._loop.call_soon(self._run_inline)

    def _leave(self, waiting: _Waiting[In, Out]) -> None:
        """Forget a caller that is done, answered or gone."""
        self._pending.pop(waiting, None)
        if waiting.queued:  # gone before the model took it
            with self._lock:
                if waiting.queued:
                    self._groups[waiting.key].remove(waiting)
                    self._taken(waiting)
        waiting.answer.cancel()

    def _settle(self, outcome: _Outcome[In, Out]) -> None:
        """Give each caller its own outcome; a caller that has left is skipped."""
        done = 0
        for waiting, answer in zip(outcome.batch, outcome.answers, strict=True):
            self._pending.pop(waiting, None)
            if waiting.answer.done():
                continue
            done += 1
            if isinstance(answer, BaseException):
                waiting.answer.set_exception(answer)
            else:
                waiting.answer.set_result(answer)
        if outcome.run_s > 0 and done:
            rate = done / outcome.run_s
            before = self._requests_per_s or rate
            self._requests_per_s = before + _RATE_WEIGHT * (rate - before)
        if self._observer is not None:
            self._observer.batch_done(
                rows=sum(waiting.rows for waiting in outcome.batch),
                requests=len(outcome.batch),
                run_s=outcome.run_s,
                bisections=outcome.bisections,
            )

    def _sweep_at(self, deadline: float) -> None:
        if self._sweep is not None:
            self._sweep.cancel()
        self._sweep = self._loop.call_at(deadline, self._expire)

    def _expire(self) -> None:
        """Answer those whose deadline has passed; one timer serves all callers."""
        self._sweep = None
        now = self._loop.time()
        late = [waiting for waiting in self._pending if waiting.deadline <= now]
        for waiting in late:
            if not waiting.answer.done():
                where = "in the queue" if waiting.queued else "while the model ran"
                waiting.answer.set_exception(
                    DeadlineExceededError(
                        f"the deadline passed {where}, {now - waiting.since:.3f} s after arrival"
                    )
                )
            del self._pending[waiting]
        if self._pending:
            self._sweep_at(min(waiting.deadline for waiting in self._pending))

    # --- either side -------------------------------------------------------------------------

    def _taken(self, waiting: _Waiting[In, Out]) -> None:
        """Count one item out of the queue; the lock is held."""
        waiting.queued = False
        waiting.request.queued -= 1
        if not waiting.request.queued:
            self._queued -= 1
        if not self._groups[waiting.key]:
            del self._groups[waiting.key]

    def _take(self, *, may_wait: bool) -> tuple[list[_Waiting[In, Out]], float | None]:
        """Take the next batch, oldest request first.

        Args:
            may_wait: Whether a batch that is not full may be left to fill.

        Returns:
            The batch, and None; or nothing, and the seconds until it is to be taken (None: until
            something arrives).
        """
        limits = self._limits
        now = time.monotonic() if may_wait else 0.0
        with self._lock:
            if not self._groups or self._closed:
                self._idle = True
                return [], None
            group = min(self._groups.values(), key=lambda waiting: waiting[0].since)
            if may_wait and (left := limits.max_delay_s - (now - group[0].since)) > 0:
                rows = sum(waiting.rows for waiting in group)
                if rows < limits.max_rows:
                    return [], left
            batch: list[_Waiting[In, Out]] = []
            rows = 0
            while group and rows + group[0].rows <= limits.max_rows:
                waiting = group.popleft()
                self._taken(waiting)
                if not waiting.answer.done():  # expired while it waited: never computed
                    rows += waiting.rows
                    batch.append(waiting)
        return batch, None

    def _execute(self, batch: list[_Waiting[In, Out]]) -> _Outcome[In, Out]:
        outcome: _Outcome[In, Out] = _Outcome(batch)
        started = time.perf_counter()
        outcome.answers = self._run(batch, outcome)
        outcome.run_s = time.perf_counter() - started
        return outcome

    def _run(
        self, batch: list[_Waiting[In, Out]], outcome: _Outcome[In, Out]
    ) -> list[Out | BaseException]:
        """Run a batch, halving it on failure until each guilty item is alone.

        One poisonous item among n costs at most 2·log₂(n) further runs.
        """
        try:
            answers = list(self._calls.run([waiting.item for waiting in batch]))
        except Exception as error:  # noqa: BLE001 - the root of all model code; settled per caller
            if len(batch) == 1:
                return [_as_request_error(error)]
            outcome.bisections += 1
            middle = len(batch) // 2
            return self._run(batch[:middle], outcome) + self._run(batch[middle:], outcome)
        if len(answers) != len(batch):
            wrong = InferenceError(f"the model gave {len(answers)} answers to {len(batch)} items")
            return [wrong] * len(batch)
        return list(answers)

    # --- the thread's side -------------------------------------------------------------------

    def _work(self) -> None:
        while not self._closed:
            batch, wait_s = self._take(may_wait=self._limits.max_delay_s > 0)
            if batch:
                outcome = self._execute(batch)
                try:
                    self._loop.call_soon_threadsafe(self._settle, outcome)
                except RuntimeError:  # the loop is closed: nobody waits any more
                    return
                del batch, outcome  # the thread may idle for long; it must not keep tensors alive
            elif self._idle:
                self._wake.get()
            elif wait_s is not None:
                with contextlib.suppress(Empty):
                    self._wake.get(timeout=wait_s)


def _as_request_error(error: Exception) -> RequestError:
    """Keep what is meant for the caller; wrap everything else."""
    if isinstance(error, RequestError):
        return error
    wrapped = InferenceError("the model failed on this request")
    wrapped.__cause__ = error
    return wrapped
