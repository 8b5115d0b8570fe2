import asyncio
import heapq

import pytest

from modelyard_operator.workqueue import WorkQueue


class Timers:
    """The part of an event loop that a queue uses, with a clock that a test moves."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.loop = asyncio.get_running_loop()
        self.now = self.loop.time()
        self.offset = 0.0
        real = self.loop.time
        monkeypatch.setattr(self.loop, "time", lambda: real() + self.offset)

    async def forward(self, seconds: float) -> None:
        self.offset += seconds
        for _ in range(3):
            await asyncio.sleep(0)


@pytest.fixture
async def timers(monkeypatch: pytest.MonkeyPatch) -> Timers:
    return Timers(monkeypatch)


def drain(queue: WorkQueue[str]) -> list[str]:
    return [queue._ready.get_nowait() for _ in range(len(queue))]


async def test_a_waiting_key_is_one_piece_of_work() -> None:
    queue = WorkQueue[str]()
    for key in ("a", "b", "a"):
        queue.add(key)
    assert (await queue.get(), await queue.get(), len(queue)) == ("a", "b", 0)


async def test_a_key_is_never_worked_on_twice_at_once() -> None:
    queue = WorkQueue[str]()
    queue.add("a")
    key = await queue.get()
    queue.add("a")
    queue.add("a")
    assert len(queue) == 0
    queue.done(key)
    assert len(queue) == 1
    queue.done(await queue.get())
    assert len(queue) == 0


async def test_the_earliest_delay_counts(timers: Timers) -> None:
    queue = WorkQueue[str]()
    queue.add("a", 100)
    queue.add("a", 10)
    queue.add("a", 50)
    await timers.forward(9)
    assert len(queue) == 0
    await timers.forward(2)
    assert drain(queue) == ["a"]
    await timers.forward(200)
    assert len(queue) == 0


async def test_adding_now_replaces_a_later_time(timers: Timers) -> None:
    queue = WorkQueue[str]()
    queue.add("a", 10)
    queue.add("a")
    queue.done(await queue.get())
    await timers.forward(20)
    assert len(queue) == 0


async def test_a_timer_during_work_runs_it_once_more(timers: Timers) -> None:
    queue = WorkQueue[str]()
    queue.add("a")
    await queue.get()
    queue.add("a", 1)
    await timers.forward(2)
    assert len(queue) == 0
    queue.done("a")
    assert drain(queue) == ["a"]


async def test_failures_back_off_each_key_by_itself(timers: Timers) -> None:
    queue = WorkQueue[str](base_delay_s=1, max_delay_s=30)
    delays = [queue.retry("a") for _ in range(8)]
    for delay, limit in zip(delays, (1, 2, 4, 8, 16, 30, 30, 30), strict=True):
        assert limit * 0.75 <= delay <= limit
    assert queue.retry("b") <= 1
    queue.forget("a")
    queue.forget("never failed")
    assert queue.retry("a") <= 1
    await timers.forward(31)
    assert heapq.nsmallest(2, drain(queue)) == ["a", "b"]


async def test_thousands_of_failures_are_no_overflow() -> None:
    queue = WorkQueue[str]()
    queue._failures["a"] = 10_000
    assert queue.retry("a") <= queue.max_delay_s
    queue._cancel_timer("a")
