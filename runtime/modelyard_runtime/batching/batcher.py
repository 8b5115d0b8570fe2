"""One queue in front of one model on one device.

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
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Final, Generic

from modelyard_runtime.batching.backlog import DEFAULT_LEVEL, Backlog, Batch, Entry, Stake
from modelyard_runtime.batching.calls import PASSAGE, BatchReport, In, Out
from modelyard_runtime.batching.controller import Controller
from modelyard_runtime.batching.execution import execute
from modelyard_runtime.errors import DeadlineExceededError, OverloadedError

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from modelyard_runtime.batching.backlog import Rank
    from modelyard_runtime.batching.calls import BatchCalls, BatchLimits, BatchObserver
    from modelyard_runtime.batching.execution import Outcome

_RETRY_BOUNDS_S: Final = (0.05, 60.0)


class Batcher(Generic[In, Out]):
    """Requests in, batches through the model, one answer per caller.

    Args:
        calls: How items are run, cut and joined.
        limits: Sizes and waits.
        observer: Told of every batch; None tells nobody.
        clock: The event loop's clock, in seconds, but not rounded to its turn.
    """

    def __init__(
        self,
        calls: BatchCalls[In, Out],
        limits: BatchLimits,
        *,
        observer: BatchObserver | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._calls = calls
        self._limits = limits
        self._observer = observer
        self._clock = clock
        self._controller = Controller(limits)
        self._loop = asyncio.get_running_loop()
        self._lock = threading.Lock()
        self._backlog: Backlog[In, Out] = Backlog()
        self._pending: dict[Entry[In, Out], None] = {}
        self._running: tuple[float, int] | None = None  # since when, and how many rows
        self._ended = 0.0  # when a batch last did
        self._idle = True
        self._closed = False
        self._wake: SimpleQueue[None] = SimpleQueue()
        self._sweep: asyncio.TimerHandle | None = None
        self._filling: asyncio.TimerHandle | None = None  # inline only: a batch may still fill
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
        return self._backlog.requests

    @property
    def queued_bytes(self) -> int:
        """Bytes of the requests that wait."""
        return self._backlog.nbytes

    @property
    def pending(self) -> int:
        """Requests, or cuts of requests, that wait or run."""
        return len(self._pending)

    @property
    def cap(self) -> int:
        """Rows that a batch may hold at present."""
        return self._controller.cap

    @property
    def wait_s(self) -> float:
        """Time that a batch may wait to fill at present, in seconds."""
        return self._controller.wait_s(self._controller.cap)

    @property
    def run_s(self) -> float:
        """Time for which the batch in flight has been running, in seconds; 0 when there is none."""
        running = self._running
        return 0.0 if running is None else self._clock() - running[0]

    @property
    def silent_s(self) -> float:
        """Time since the engine, having work, last began or ended a batch; in seconds, else 0."""
        if self._running is not None:
            return self.run_s
        oldest = next(iter(self._pending), None)
        if oldest is None:
            return 0.0
        idle_s = self._clock() - max(self._ended, oldest.since)
        return max(0.0, idle_s - self._limits.max_delay_s)  # a batch may wait to fill

    @property
    def drain_s(self) -> float:
        """Predicted time until all that waits and runs now is answered, in seconds."""
        backlog = self._backlog
        return self._predict_s(backlog.rows, backlog.groups)

    async def submit(
        self,
        item: In,
        *,
        key: Hashable,
        rows: int,
        deadline: float,
        priority: int = 0,
        nbytes: int = 0,
    ) -> Out:
        """Wait for the answer to one item.

        Args:
            item: What the model is asked.
            key: Items of equal key may share a batch.
            rows: Rows in the item, at least 1; more than a batch may hold are cut and joined.
            deadline: On the event loop's clock, in seconds.
            priority: 0 is the default; else the level, 1 being the most urgent.
            nbytes: Bytes that the item occupies while it waits.

        Returns:
            The model's answer to this item.

        Raises:
            OverloadedError: The queue is full, or the deadline cannot be met.
            DeadlineExceededError: The deadline passed first.
            RequestError: What ``BatchCalls.run`` raised for this item alone.
            InferenceError: Anything else that it raised, as the cause.
        """
        order = (priority or DEFAULT_LEVEL, 0, deadline)
        most = self._controller.cap
        if rows <= most:
            entry = self._admit([(item, rows)], key, order, nbytes)[0]
            try:
                return await entry.answer
            finally:
                self._leave(entry)
        bounds = [(start, min(start + most, rows)) for start in range(0, rows, most)]
        items = [(self._calls.cut(item, start, stop), stop - start) for start, stop in bounds]
        cuts = self._admit(items, key, order, nbytes)
        try:
            return self._calls.join(await asyncio.gather(*(cut.answer for cut in cuts)))
        finally:
            for cut in cuts:
                self._leave(cut)

    def retry_after_s(self) -> float:
        """Estimate when the queue will have drained, from the times measured so far.

        Returns:
            Seconds, between 0.05 and 60; 1 while nothing has been measured.
        """
        if not self._controller.times.batches:
            return 1.0
        low, high = _RETRY_BOUNDS_S
        return min(max(self.drain_s, low), high)

    def close(self) -> None:
        """Stop the thread once its batch is done; what still waits is cancelled."""
        with self._lock:
            self._closed = True
        self._wake.put(None)
        for timer in (self._sweep, self._filling):
            if timer is not None:
                timer.cancel()
        for entry in list(self._pending):
            entry.answer.cancel()

    # --- the event loop's side ---------------------------------------------------------------

    def _admit(
        self, items: list[tuple[In, int]], key: Hashable, order: Rank, nbytes: int
    ) -> list[Entry[In, Out]]:
        now = self._clock()
        self._refuse(items, order, nbytes, now)
        stake = Stake(len(items), nbytes)
        passage = PASSAGE.get()
        (level, _, deadline), answer = order, self._loop.create_future
        entries: list[Entry[In, Out]] = [
            Entry(item, key, rows, (level, turn, deadline), now, stake, answer(), passage=passage)
            for turn, (item, rows) in enumerate(items)
        ]
        with self._lock:
            self._backlog.add(entries)
            start, self._idle = self._idle, False
        for entry in entries:
            self._pending[entry] = None
        if self._sweep is None or order[2] < self._sweep.when():
            self._sweep_at(order[2])
        if start or self._limits.max_delay_s:  # the batch that is being filled may be full now
            self._start(start=start)
        return entries

    def _refuse(self, items: list[tuple[In, int]], order: Rank, nbytes: int, now: float) -> None:
        """Turn away what would find no room, or be late."""
        backlog, limits = self._backlog, self._limits
        if order[2] <= now:
            raise DeadlineExceededError("the deadline passed before the request was queued")
        # While nothing runs and nothing waits, the queue is empty whatever its bounds.
        if backlog.requests >= limits.max_queue:
            raise OverloadedError(
                f"{backlog.requests} requests are waiting, which is the limit",
                retry_after_s=self.retry_after_s(),
            )
        if backlog.nbytes + nbytes > limits.max_bytes and backlog.requests:
            raise OverloadedError(
                f"{backlog.nbytes} bytes are waiting, {nbytes} more exceed the limit of "
                f"{limits.max_bytes}",
                retry_after_s=self.retry_after_s(),
            )
        if self._idle:  # it tries what it can: what was measured may no longer be true
            return
        controller, left = self._controller, order[2] - now
        rows = items[0][1] if len(items) == 1 else sum(size for _, size in items)
        # The worst case first, for it is cheap: every row alone, and as slow as a batch.
        worst_s = controller.times.mean_s * (backlog.rows + rows + controller.cap)
        if worst_s <= left or not controller.times.trusted:
            return
        with self._lock:
            ahead, keys = backlog.ahead_of(order)
        needed = self._predict_s(ahead + rows, keys)
        if needed > left:
            raise OverloadedError(
                f"the answer would take {needed:.3f} s, the deadline leaves {left:.3f} s",
                retry_after_s=self.retry_after_s(),
                reason="predicted_late",
            )

    def _predict_s(self, rows: int, keys: int) -> float:
        running, left_s = self._running, 0.0
        if running is not None:
            since, size = running
            left_s = max(0.0, self._controller.drain_s(size, 1) - (self._clock() - since))
        return left_s + self._controller.drain_s(rows, keys)

    def _start(self, *, start: bool) -> None:
        if not self._limits.inline:
            self._wake.put(None)
        elif start or self._filling is not None:
            if self._filling is not None:
                self._filling.cancel()
                self._filling = None
            # Not here but on the loop's next turn: whatever this turn still decodes joins.
            self._loop.call_soon(self._run_inline)

    def _run_inline(self) -> None:
        taken = self._take()
        if taken is None:
            return
        if isinstance(taken, float):
            self._filling = self._loop.call_later(taken, self._filled)
            return
        if taken.entries:
            self._settle(self._execute(taken))
        # Not before these answers are written (a turn to encode them, one to send), and sockets read.
        self._loop.call_soon(self._loop.call_soon, self._run_inline)

    def _filled(self) -> None:
        self._filling = None
        self._run_inline()

    def _leave(self, entry: Entry[In, Out]) -> None:
        """Forget a caller that is done, answered or gone."""
        self._pending.pop(entry, None)
        if entry.queued:  # gone before the model took it
            with self._lock:
                if entry.queued:
                    self._backlog.remove(entry)
        entry.answer.cancel()

    def _settle(self, outcome: Outcome[In, Out]) -> None:
        """Give each caller its own outcome; a caller that has left is skipped."""
        batch = outcome.batch
        for entry, answer in zip(batch.entries, outcome.answers, strict=True):
            self._pending.pop(entry, None)
            if entry.passage is not None:
                entry.passage.note(entry.since, outcome.began, outcome.began + outcome.run_s)
            if entry.answer.done():
                continue
            if isinstance(answer, BaseException):
                entry.answer.set_exception(answer)
            else:
                entry.answer.set_result(answer)
        if self._observer is not None:
            self._observer.batch_done(
                BatchReport(
                    rows=batch.rows,
                    requests=len(batch.entries),
                    run_s=outcome.run_s,
                    trigger=batch.trigger,
                    fill=min(1.0, batch.rows / batch.cap),
                    bisections=outcome.bisections,
                    poisoned=outcome.poisoned,
                )
            )

    def _sweep_at(self, deadline: float) -> None:
        if self._sweep is not None:
            self._sweep.cancel()
        self._sweep = self._loop.call_at(deadline, self._expire)

    def _expire(self) -> None:
        """Answer those whose deadline has passed; one timer serves all callers."""
        self._sweep = None
        now = self._loop.time()
        late = [entry for entry in self._pending if entry.rank[2] <= now]
        for entry in late:
            if not entry.answer.done():
                where = "while the model ran" if entry.ran else "in the queue"
                entry.answer.set_exception(
                    DeadlineExceededError(
                        f"the deadline passed {where}, {now - entry.since:.3f} s after arrival"
                    )
                )
            del self._pending[entry]
        if self._pending:
            self._sweep_at(min(entry.rank[2] for entry in self._pending))

    # --- either side -------------------------------------------------------------------------

    def _take(self) -> Batch[In, Out] | float | None:
        """Take the next batch; or the seconds until one is due; or None until something arrives."""
        with self._lock:
            if not self._backlog or self._closed:
                self._idle = True
                return None
            cap, now = self._controller.cap, self._clock()
            if self._limits.max_delay_s:
                return self._backlog.take_due(cap, now, self._controller.leave_by)
            return self._backlog.take(cap, now)

    def _execute(self, batch: Batch[In, Out]) -> Outcome[In, Out]:
        self._running = (self._clock(), batch.rows)
        outcome = execute(self._calls, batch, self._clock)
        self._ended = self._clock()
        self._running = None
        if outcome.out_of_memory and batch.rows > 1:
            self._controller.out_of_memory(batch.rows)
        elif outcome.whole:
            self._controller.observe(batch.rows, outcome.run_s)
        return outcome

    # --- the thread's side -------------------------------------------------------------------

    def _work(self) -> None:
        while not self._closed:
            taken = self._take()
            if taken is None:
                self._wake.get()
            elif isinstance(taken, float):
                with contextlib.suppress(Empty):
                    self._wake.get(timeout=taken)
            elif taken.entries:
                outcome = self._execute(taken)
                try:
                    self._loop.call_soon_threadsafe(self._settle, outcome)
                except RuntimeError:  # the loop is closed: nobody waits any more
                    return
                del taken, outcome  # the thread may idle for long; it must not keep tensors alive
