"""The batcher: whose mistake it is, and that nobody else pays for it."""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING

import pytest

from modelyard_runtime.batching.batcher import Batcher
from modelyard_runtime.batching.calls import BatchLimits
from modelyard_runtime.errors import (
    InferenceError,
    InvalidInputError,
    NotReadyError,
    OutOfMemoryError,
)
from testkit.runtime_batching import POISON, REFUSED, Doubling, Item, Told, build, held, soon

if TYPE_CHECKING:
    from collections.abc import Sequence


@pytest.mark.parametrize("at", range(8))
async def test_poison_fails_alone(at: int) -> None:
    calls = Doubling()
    batcher = build(calls)
    calls.gate.clear()
    first = asyncio.create_task(batcher.submit([0], key="k", rows=1, deadline=soon()))
    await held(calls)
    tasks = [
        asyncio.create_task(
            batcher.submit([POISON if n == at else n], key="k", rows=1, deadline=soon())
        )
        for n in range(8)
    ]
    await asyncio.sleep(0)
    calls.gate.set()
    await first
    results = await asyncio.gather(*tasks, return_exceptions=True)
    failure = results[at]
    assert isinstance(failure, InferenceError)
    assert isinstance(failure.__cause__, ValueError)
    assert [r for n, r in enumerate(results) if n != at] == [[2 * n] for n in range(8) if n != at]
    # The first try, and two halves at each of log2(8) levels.
    assert len(calls.batches) - 1 <= 1 + 2 * math.log2(8)
    batcher.close()


async def test_an_error_meant_for_the_caller_reaches_it_unwrapped() -> None:
    batcher = build(Doubling())
    with pytest.raises(InvalidInputError, match="refused"):
        await batcher.submit([REFUSED], key="k", rows=1, deadline=soon())
    batcher.close()


async def test_a_wrong_number_of_answers_is_an_error_for_all() -> None:
    class Short(Doubling):
        def run(self, items: Sequence[Item]) -> Sequence[Item]:
            return items[1:]

    batcher = build(Short())
    with pytest.raises(InferenceError, match="0 answers to 1"):
        await batcher.submit([1], key="k", rows=1, deadline=soon())
    batcher.close()


class Small(Doubling):
    """Has memory for a few rows."""

    fits = 3

    def run(self, items: Sequence[Item]) -> Sequence[Item]:
        if sum(map(len, items)) > self.fits:
            raise OutOfMemoryError("no memory left")
        return super().run(items)


@pytest.mark.parametrize("inline", [False, True])
async def test_too_little_memory_halves_the_batch_the_item_and_the_cap(*, inline: bool) -> None:
    calls = Small()
    batcher = build(calls, max_rows=8, max_delay_s=5.0, inline=inline)
    items = [[1, 2], [3], [4, 5, 6, 7, 8]]
    answers = await asyncio.gather(
        *(batcher.submit(item, key="k", rows=len(item), deadline=soon()) for item in items)
    )
    assert answers == [[2, 4], [6], [8, 10, 12, 14, 16]]
    assert batcher.cap == 4
    batcher.close()


async def test_a_row_that_does_not_fit_alone_is_told_so() -> None:
    calls = Small()
    calls.fits = 0
    batcher = build(calls)
    with pytest.raises(OutOfMemoryError):
        await batcher.submit([1, 2], key="k", rows=2, deadline=soon())
    assert batcher.cap == 1
    batcher.close()


async def test_a_dead_engine_fails_the_batch_without_another_try() -> None:
    class Dead(Doubling):
        def run(self, items: Sequence[Item]) -> Sequence[Item]:
            self.batches.append([*items])
            raise NotReadyError("the engine is being restarted")

    calls = Dead()
    batcher = build(calls, max_rows=4, max_delay_s=5.0)
    outcomes = await asyncio.gather(
        *(batcher.submit([n], key="k", rows=1, deadline=soon()) for n in range(4)),
        return_exceptions=True,
    )
    assert [type(outcome) for outcome in outcomes] == [NotReadyError] * 4
    assert len({id(outcome) for outcome in outcomes}) == 4
    assert len(calls.batches) == 1
    batcher.close()


@pytest.mark.parametrize(
    ("items", "bisections", "poisoned"),
    [
        ([[1], [2], [3], [4]], 0, 0),
        ([[1], [POISON], [3], [4]], 2, 1),
        ([[POISON], [POISON], [POISON], [POISON]], 3, 0),  # the model is broken, not a request
    ],
)
async def test_observers_are_told_who_was_guilty(
    items: list[Item], bisections: int, poisoned: int
) -> None:
    told = Told()
    limits = BatchLimits(max_rows=4, max_delay_s=5.0)
    batcher = Batcher(Doubling(), limits, observer=told)
    await asyncio.gather(
        *(batcher.submit(item, key="k", rows=1, deadline=soon()) for item in items),
        return_exceptions=True,
    )
    (report,) = told.reports
    assert (report.rows, report.requests, report.trigger, report.fill) == (4, 4, "full", 1.0)
    assert (report.bisections, report.poisoned) == (bisections, poisoned)
    assert report.run_s > 0
    batcher.close()
