"""What waits, and who goes next.

Items of equal key form a group and may share a batch. The next batch is led by the item of the most
urgent priority level and, within a level, of the earliest deadline; equal deadlines keep the order of
arrival. The cuts of a large request take turns with other requests: its second cut goes after everybody's
first, so that a small request waits for a batch or two and not for all of the large one. A batch is filled from the leader's group in the same order, so that a batch with room left takes
less urgent items along.

Nobody starves: every ``FAIR_TURN``-th batch is led by the item that has waited longest, whatever its
level and deadline. So an item is passed over by at most ``FAIR_TURN`` batches for each item that had
arrived before it.

References:
    Liu and Layland, "Scheduling Algorithms for Multiprogramming in a Hard-Real-Time Environment"
    (1973), earliest deadline first; Triton, "Schedule Policy Extension", priorities.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from dataclasses import dataclass
from itertools import chain
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final, Generic, NamedTuple, TypeAlias

from modelyard_runtime.batching.calls import In, Out, Passage, Trigger

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Hashable, Iterable, Sequence

DEFAULT_LEVEL: Final = 10
"""The level of requests that state priority 0, the default: levels 1 to 9 go before them."""
FAIR_TURN: Final = 9
"""Each batch of this number is led by the item that has waited longest."""

Rank: TypeAlias = tuple[int, int, float]
"""Priority level, turn (how many cuts of the same request go before) and deadline; the lowest is first."""

_rank_of: Final = attrgetter("rank")
_since_of: Final = attrgetter("since")


@dataclass(eq=False, slots=True)
class Stake:
    """What one request occupies in the backlog, shared by the cuts of its item.

    Attributes:
        queued: Cuts that wait.
        nbytes: Bytes of the whole item; a cut's memory is free when its last sibling has gone.
    """

    queued: int
    nbytes: int


@dataclass(eq=False, slots=True)
class Entry(Generic[In, Out]):
    """One item that waits or runs.

    Attributes:
        item: What the model is asked.
        key: Items of equal key may share a batch.
        rows: Rows in the item.
        rank: Who goes first.
        since: When it arrived, on the batcher's clock.
        stake: What its request occupies.
        answer: Given to the caller.
        queued: Whether it is in the backlog.
        ran: Whether the model was given it.
        passage: Told when it has been in the model, if the caller wants to know.
    """

    item: In
    key: Hashable
    rows: int
    rank: Rank
    since: float
    stake: Stake
    answer: asyncio.Future[Out]
    queued: bool = True
    ran: bool = False
    passage: Passage | None = None


class Batch(NamedTuple, Generic[In, Out]):
    """What goes through the model together; empty when all that was taken had expired.

    Attributes:
        entries: Its items.
        rows: Their rows.
        cap: Rows that it might have held.
        trigger: Why it leaves now.
    """

    entries: list[Entry[In, Out]]
    rows: int
    cap: int
    trigger: Trigger


LeaveBy: TypeAlias = "Callable[[float, float, int], tuple[float, Trigger]]"
"""(arrival of the oldest, earliest deadline, rows) → until when a batch may fill, and why then."""


class Backlog(Generic[In, Out]):
    """Items that wait. Pure and not thread-safe: whoever owns it holds a lock."""

    def __init__(self) -> None:
        self._groups: dict[Hashable, deque[Entry[In, Out]]] = {}
        self._disordered = False  # whether some item stands before another that came earlier
        self._turn = 0
        self.requests = 0
        self.rows = 0
        self.nbytes = 0

    def __bool__(self) -> bool:
        return bool(self._groups)

    @property
    def groups(self) -> int:
        """Keys that wait: at least as many batches must run."""
        return len(self._groups)

    def add(self, entries: Sequence[Entry[In, Out]]) -> None:
        """Let one request wait.

        Args:
            entries: Its cuts, all of one key, in the order of their turns.
        """
        first = entries[0]
        group = self._groups.get(first.key)
        if group is None:
            group = self._groups[first.key] = deque()
        if not group or group[-1].rank <= first.rank:
            group.extend(entries)
        else:
            self._disordered = True
            for entry in entries:
                group.insert(bisect_right(group, entry.rank, key=_rank_of), entry)
        self.requests += 1
        self.nbytes += first.stake.nbytes
        for entry in entries:
            self.rows += entry.rows

    def remove(self, entry: Entry[In, Out]) -> None:
        """Let an item go that nobody waits for any more.

        Args:
            entry: An item that waits.
        """
        group = self._groups[entry.key]
        group.remove(entry)
        self._gone(entry)
        if not group:
            self._drop(entry.key)

    def take(self, cap: int, now: float) -> Batch[In, Out]:
        """Take the next batch, of what is there.

        Args:
            cap: Rows that it may hold; a single item may exceed it.
            now: On the batcher's clock, in seconds.

        Returns:
            The batch; ``full`` or ``idle``.
        """
        if len(self._groups) == 1:
            group = next(iter(self._groups.values()))
        else:
            group = min(self._groups.values(), key=_order)
        return self._fill(group, cap, now, "idle")

    def take_due(self, cap: int, now: float, leave_by: LeaveBy) -> Batch[In, Out] | float:
        """Take the next batch that is full or has waited enough.

        Args:
            cap: Rows that it may hold; a single item may exceed it.
            now: On the batcher's clock, in seconds.
            leave_by: Until when a batch may fill.

        Returns:
            The batch; or the seconds until the next one is due.
        """
        due: list[tuple[deque[Entry[In, Out]], Trigger]] = []
        soonest = float("inf")
        for group in self._groups.values():
            rows = _rows_up_to(cap, group)
            if rows >= cap:
                due.append((group, "full"))
                continue
            oldest = min(entry.since for entry in group)
            at, trigger = leave_by(oldest, min(entry.rank[2] for entry in group), rows)
            if at <= now:
                due.append((group, trigger))
            soonest = min(soonest, at)
        if not due:
            return soonest - now
        group, trigger = min(due, key=lambda candidate: _order(candidate[0]))
        return self._fill(group, cap, now, trigger)

    def ahead_of(self, rank: Rank) -> tuple[int, int]:
        """Count what goes before a new item.

        Args:
            rank: The item's.

        Returns:
            Rows, and keys among them.
        """
        rows = keys = 0
        for group in self._groups.values():
            before = sum(entry.rows for entry in group if entry.rank <= rank)
            rows += before
            keys += before > 0
        return rows, keys

    def _fill(
        self, group: deque[Entry[In, Out]], cap: int, now: float, trigger: Trigger
    ) -> Batch[In, Out]:
        self._turn += 1
        if self._turn >= FAIR_TURN:
            self._turn = 0
            group = self._led_by_oldest(group)
        key = group[0].key
        entries: list[Entry[In, Out]] = []
        rows = 0
        while group and rows < cap:
            entry = group[0]
            if rows and rows + entry.rows > cap:
                break
            group.popleft()
            self._gone(entry)
            # One that has expired is never computed; the batcher's timer answers it.
            if entry.rank[2] > now and not entry.answer.done():
                rows += entry.rows
                entry.ran = True
                entries.append(entry)
        if rows >= cap or group:
            trigger = "full"
        if not group:
            self._drop(key)
        return Batch(entries, rows, cap, trigger)

    def _led_by_oldest(self, chosen: deque[Entry[In, Out]]) -> deque[Entry[In, Out]]:
        groups = self._groups.values()
        if not self._disordered and len(self._groups) == 1:
            return chosen
        candidates: Iterable[Entry[In, Out]] = chain.from_iterable(groups)
        if not self._disordered:
            candidates = (group[0] for group in groups)
        oldest: Entry[In, Out] = min(candidates, key=_since_of)
        group = self._groups[oldest.key]
        if group[0] is not oldest:
            group.remove(oldest)
            group.appendleft(oldest)
        return group

    def _gone(self, entry: Entry[In, Out]) -> None:
        entry.queued = False
        self.rows -= entry.rows
        stake = entry.stake
        stake.queued -= 1
        if not stake.queued:
            self.requests -= 1
            self.nbytes -= stake.nbytes

    def _drop(self, key: Hashable) -> None:
        del self._groups[key]
        if not self._groups:
            self._disordered = False


def _order(group: deque[Entry[In, Out]]) -> tuple[Rank, float]:
    return group[0].rank, group[0].since


def _rows_up_to(cap: int, group: Iterable[Entry[Any, Any]]) -> int:
    rows = 0
    for entry in group:
        rows += entry.rows
        if rows >= cap:
            break
    return rows
