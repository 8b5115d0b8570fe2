"""The batcher under random traffic, on a clock that jumps.

``HYPOTHESIS_PROFILE=chaos`` asks for many more runs.
"""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from modelyard_runtime.batching.batcher import Batcher
from modelyard_runtime.batching.calls import BatchLimits
from modelyard_runtime.errors import (
    DeadlineExceededError,
    InferenceError,
    OutOfMemoryError,
    OverloadedError,
)
from testkit.virtual_time import VirtualTime, run_virtually

if TYPE_CHECKING:
    from collections.abc import Sequence

    from modelyard_runtime.batching.calls import BatchReport

CHAOS = os.environ.get("HYPOTHESIS_PROFILE") == "chaos"

Item = tuple[tuple[int, int], ...]
"""Rows; each is a request's number and the row's."""


class Asked(NamedTuple):
    after_ms: int
    key: str
    rows: int
    priority: int
    timeout_ms: int
    leaves_ms: int | None
    poison: bool


class Ran(NamedTuple):
    start: float
    end: float
    items: list[Item]


@dataclass
class Simulated:
    """Answers each row with itself, negated, after ``fixed_s`` and ``row_s`` for each row."""

    loop: VirtualTime
    asked: list[Asked]
    fixed_s: float
    row_s: float
    fits: int
    ran: list[Ran] = field(default_factory=list)
    reports: list[BatchReport] = field(default_factory=list)

    def run(self, items: Sequence[Item]) -> Sequence[Item]:
        start = self.loop.time()
        rows = sum(map(len, items))
        self.loop.spend(self.fixed_s + self.row_s * rows)
        self.ran.append(Ran(start, self.loop.time(), list(items)))
        if rows > self.fits:
            raise OutOfMemoryError("too many")
        if any(self.asked[number].poison for item in items for number, _ in item):
            raise ValueError("poison")
        return [tuple((-number, -row) for number, row in item) for item in items]

    @staticmethod
    def cut(item: Item, start: int, stop: int) -> Item:
        return item[start:stop]

    @staticmethod
    def join(answers: Sequence[Item]) -> Item:
        return tuple(row for answer in answers for row in answer)

    def batch_done(self, report: BatchReport) -> None:
        self.reports.append(report)


ASKED = st.builds(
    Asked,
    after_ms=st.sampled_from([0, 0, 0, 1, 5, 40]),
    key=st.sampled_from("aab"),
    rows=st.sampled_from([1, 1, 1, 2, 5, 11]),
    priority=st.sampled_from([0, 0, 0, 1, 20]),
    timeout_ms=st.sampled_from([10_000, 10_000, 300, 30]),
    leaves_ms=st.sampled_from([None, None, None, 0, 3, 60]),
    poison=st.sampled_from([False] * 8 + [True]),
)
LIMITS = st.builds(
    BatchLimits,
    max_rows=st.integers(1, 6),
    max_delay_s=st.sampled_from([0.0, 0.0, 0.004, 0.05]),
    target_s=st.sampled_from([None, None, 0.02, 0.2]),
    max_queue=st.sampled_from([3, 512]),
    max_bytes=st.sampled_from([20, 10**6]),
    inline=st.just(True),
)


async def traffic(
    loop: VirtualTime, asked: list[Asked], limits: BatchLimits, simulated: Simulated
) -> tuple[list[object], list[float]]:
    """Send all requests; returns their outcomes, and when the batcher got them."""
    batcher: Batcher[Item, Item] = Batcher(simulated, limits, observer=simulated, clock=loop.time)
    arrivals = [0.0] * len(asked)

    async def ask(number: int) -> Item:
        each, now = asked[number], loop.time()
        arrivals[number] = now
        return await batcher.submit(
            tuple((number, row) for row in range(each.rows)),
            key=each.key,
            rows=each.rows,
            deadline=now + each.timeout_ms / 1000,
            priority=each.priority,
            nbytes=4 * each.rows,
        )

    tasks = []
    for number, each in enumerate(asked):
        if each.after_ms:
            await asyncio.sleep(each.after_ms / 1000)
        tasks.append(asyncio.ensure_future(ask(number)))
        if each.leaves_ms is not None:
            loop.call_later(each.leaves_ms / 1000, tasks[-1].cancel)
    outcomes: list[object] = [*await asyncio.gather(*tasks, return_exceptions=True)]
    assert batcher.queued == batcher.queued_bytes == batcher.pending == 0
    await asyncio.sleep(1)
    assert batcher.drain_s == batcher.run_s == 0
    assert 1 <= batcher.cap <= limits.max_rows
    batcher.close()
    return outcomes, arrivals


def check_outcomes(asked: list[Asked], outcomes: list[object], simulated: Simulated) -> None:
    for number, (each, outcome) in enumerate(zip(asked, outcomes, strict=True)):
        match outcome:
            case tuple():
                assert not each.poison
                assert outcome == tuple((-number, -row) for row in range(each.rows))
            case asyncio.CancelledError():
                assert each.leaves_ms is not None
            case InferenceError():
                assert each.poison
            case DeadlineExceededError():
                assert each.timeout_ms < 10_000
            case OverloadedError(reason="predicted_late"):
                assert each.timeout_ms < 10_000
            case OverloadedError():
                assert outcome.reason == "queue_full"
                assert 0.05 <= outcome.retry_after_s <= 60
            case OutOfMemoryError():
                assert simulated.fits == 0
            case _:
                raise AssertionError(outcome)


@pytest.mark.timeout(0 if CHAOS else 60)
@settings(
    max_examples=3000 if CHAOS else 120,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
@given(
    asked=st.lists(ASKED, min_size=1, max_size=40),
    limits=LIMITS,
    cost=st.sampled_from([(0.0, 0.0), (0.001, 0.0005), (0.02, 0.01)]),
    fits=st.sampled_from([100, 100, 3, 1, 0]),
)
def test_one_outcome_for_everybody_whatever_happens(
    asked: list[Asked], limits: BatchLimits, cost: tuple[float, float], fits: int
) -> None:
    async def scenario(loop: VirtualTime) -> None:
        simulated = Simulated(loop, asked, *cost, fits)
        outcomes, _ = await traffic(loop, asked, limits, simulated)
        check_outcomes(asked, outcomes, simulated)
        for ran in simulated.ran:
            assert sum(map(len, ran.items)) <= limits.max_rows
            assert len({asked[item[0][0]].key for item in ran.items}) == 1
        if fits >= limits.max_rows and not any(each.poison for each in asked):
            rows = [row for ran in simulated.ran for item in ran.items for row in item]
            assert len(rows) == len(set(rows))
            assert len(simulated.reports) == len(simulated.ran)

    run_virtually(scenario)


@pytest.mark.timeout(0 if CHAOS else 60)
@settings(max_examples=2000 if CHAOS else 80, deadline=None)
@given(
    asked=st.lists(
        ASKED.map(lambda each: each._replace(timeout_ms=10_000, leaves_ms=None, poison=False)),
        min_size=1,
        max_size=40,
    ),
    max_rows=st.integers(1, 6),
    max_delay_s=st.sampled_from([0.0, 0.004, 0.05]),
)
def test_the_device_never_idles_longer_than_the_delay_while_somebody_waits(
    asked: list[Asked], max_rows: int, max_delay_s: float
) -> None:
    async def scenario(loop: VirtualTime) -> None:
        simulated = Simulated(loop, asked, 0.001, 0.0005, 100)
        limits = BatchLimits(max_rows=max_rows, max_delay_s=max_delay_s, inline=True)
        outcomes, arrivals = await traffic(loop, asked, limits, simulated)
        assert all(isinstance(outcome, tuple) for outcome in outcomes)
        ended = 0.0
        for ran in simulated.ran:
            oldest = min(arrivals[item[0][0]] for item in ran.items)
            assert ran.start <= max(ended, oldest + max_delay_s) + 1e-9
            ended = ran.end
        assert max(arrivals) <= ended

    run_virtually(scenario)


def test_a_storm_of_cancellations_leaves_nothing_behind() -> None:
    async def scenario(loop: VirtualTime) -> None:
        asked = [
            Asked(0, "ab"[at % 2], 1 + at % 7, at % 3, 10_000, (at % 5) or None, poison=False)
            for at in range(500)
        ]
        simulated = Simulated(loop, asked, 0.001, 0.0001, 100)
        outcomes, _ = await traffic(loop, asked, BatchLimits(max_rows=8, inline=True), simulated)
        check_outcomes(asked, outcomes, simulated)
        answered = [outcome for outcome in outcomes if isinstance(outcome, tuple)]
        assert len(answered) >= 100

    run_virtually(scenario)


def test_a_deadline_ends_the_wait_for_more_in_time_to_run() -> None:
    async def scenario(loop: VirtualTime) -> None:
        asked = [Asked(0, "k", 1, 0, 10_000, None, poison=False)] * 8
        asked += [Asked(450, "k", 1, 0, 500, None, poison=False)]
        simulated = Simulated(loop, asked, 0.1, 0.0, 100)
        limits = BatchLimits(max_rows=2, max_delay_s=30.0, inline=True)
        outcomes, arrivals = await traffic(loop, asked, limits, simulated)
        check_outcomes(asked, outcomes, simulated)
        assert isinstance(outcomes[-1], tuple)
        assert [report.trigger for report in simulated.reports] == [*["full"] * 4, "deadline"]
        last = simulated.ran[-1]
        assert arrivals[-1] + 0.3 < last.start
        assert last.end < arrivals[-1] + 0.5

    run_virtually(scenario)


def test_a_batch_that_becomes_full_leaves_at_once() -> None:
    async def scenario(loop: VirtualTime) -> None:
        asked = [Asked(after, "k", 1, 0, 60_000, None, poison=False) for after in (0, 7, 9)]
        simulated = Simulated(loop, asked, 0.1, 0.0, 100)
        limits = BatchLimits(max_rows=3, max_delay_s=30.0, inline=True)
        outcomes, arrivals = await traffic(loop, asked, limits, simulated)
        check_outcomes(asked, outcomes, simulated)
        (ran,) = simulated.ran
        assert ran.start == arrivals[-1]

    run_virtually(scenario)


def test_a_target_is_met_under_saturation_and_the_queue_drains() -> None:
    """Callers that ask again at once keep the device busy; twice a batch's time is their latency."""

    async def scenario(loop: VirtualTime) -> None:
        simulated = Simulated(
            loop, [Asked(0, "k", 1, 0, 60_000, None, poison=False)], 0.002, 0.001, 99
        )
        limits = BatchLimits(max_rows=64, target_s=0.04, inline=True)
        batcher: Batcher[Item, Item] = Batcher(
            simulated, limits, observer=simulated, clock=loop.time
        )
        latencies: list[float] = []

        async def caller() -> None:
            for _ in range(200):
                asked = loop.time()
                await batcher.submit(((0, 0),), key="k", rows=1, deadline=asked + 60)
                latencies.append(loop.time() - asked)

        await asyncio.gather(*(caller() for _ in range(30)))
        steady = sorted(latencies[len(latencies) // 4 :])
        assert 12 <= batcher.cap <= 19  # 0.002 + 0.001·18 is half of the target
        assert steady[int(0.95 * len(steady))] <= 0.04 * 1.01
        batcher.close()

    run_virtually(scenario)
