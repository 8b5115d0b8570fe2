"""The batcher: who shares a batch, who waits, who leaves."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from modelyard_runtime.batching.batcher import Batcher
from modelyard_runtime.batching.calls import BatchLimits
from modelyard_runtime.errors import DeadlineExceededError, InferenceError, OverloadedError
from testkit.runtime_batching import POISON, Doubling, Item, Told, build, held, soon

if TYPE_CHECKING:
    from collections.abc import Sequence


@pytest.mark.parametrize("inline", [False, True])
async def test_an_idle_device_takes_a_lone_request_at_once(*, inline: bool) -> None:
    calls = Doubling()
    batcher = build(calls, inline=inline)
    assert await batcher.submit([1, 2], key="k", rows=2, deadline=soon()) == [2, 4]
    assert calls.batches == [[[1, 2]]]
    batcher.close()


async def test_what_arrives_while_the_device_is_busy_becomes_one_batch() -> None:
    calls = Doubling()
    batcher = build(calls)
    calls.gate.clear()
    first = asyncio.create_task(batcher.submit([0], key="k", rows=1, deadline=soon()))
    await held(calls)
    rest = [
        asyncio.create_task(batcher.submit([n], key="k", rows=1, deadline=soon()))
        for n in range(1, 6)
    ]
    await asyncio.sleep(0)
    assert batcher.queued == 5
    calls.gate.set()
    assert await asyncio.gather(first, *rest) == [[2 * n] for n in range(6)]
    assert calls.batches == [[[0]], [[n] for n in range(1, 6)]]
    assert batcher.queued == batcher.pending == 0
    batcher.close()


async def test_a_batch_counts_rows_and_never_mixes_keys() -> None:
    calls = Doubling()
    batcher = build(calls, max_rows=4)
    calls.gate.clear()
    tasks = [asyncio.create_task(batcher.submit([0], key="a", rows=1, deadline=soon()))]
    await held(calls)
    for key, item in (("a", [1, 2]), ("b", [3]), ("a", [4, 5]), ("a", [6]), ("b", [7])):
        tasks.append(
            asyncio.create_task(batcher.submit(item, key=key, rows=len(item), deadline=soon()))
        )
        await asyncio.sleep(0)
    calls.gate.set()
    await asyncio.gather(*tasks)
    assert calls.batches[1:] == [[[1, 2], [4, 5]], [[3], [7]], [[6]]]
    batcher.close()


@pytest.mark.parametrize("inline", [False, True])
async def test_a_large_request_is_cut_and_joined(*, inline: bool) -> None:
    calls = Doubling()
    batcher = build(calls, max_rows=4, inline=inline)
    item = list(range(11))
    answer = await batcher.submit(item, key="k", rows=11, deadline=soon())
    assert answer == [2 * n for n in item]
    assert max(sum(map(len, batch)) for batch in calls.batches) <= 4
    batcher.close()


async def test_one_cut_request_counts_once_against_the_queue() -> None:
    calls = Doubling()
    batcher = build(calls, max_rows=1, max_queue=2)
    calls.gate.clear()
    first = asyncio.create_task(batcher.submit([0], key="k", rows=1, deadline=soon()))
    await held(calls)
    large = asyncio.create_task(batcher.submit([1] * 9, key="k", rows=9, deadline=soon()))
    small = asyncio.create_task(batcher.submit([2], key="k", rows=1, deadline=soon()))
    await asyncio.sleep(0)
    assert batcher.queued == 2
    with pytest.raises(OverloadedError):
        await batcher.submit([3], key="k", rows=1, deadline=soon())
    calls.gate.set()
    assert await large == [2] * 9
    assert list(await asyncio.gather(first, small)) == [[0], [4]]
    assert batcher.queued == 0
    batcher.close()


async def test_a_full_queue_refuses_and_says_when_to_come_back() -> None:
    calls = Doubling()
    batcher = build(calls, max_rows=1, max_queue=1)
    await batcher.submit([0], key="k", rows=1, deadline=soon())  # something to measure
    calls.entered.clear()
    calls.gate.clear()
    running = asyncio.create_task(batcher.submit([0], key="k", rows=1, deadline=soon()))
    await held(calls)
    waiting = asyncio.create_task(batcher.submit([1], key="k", rows=1, deadline=soon()))
    await asyncio.sleep(0)
    with pytest.raises(OverloadedError) as caught:
        await batcher.submit([2], key="k", rows=1, deadline=soon())
    assert 0.05 <= caught.value.retry_after_s <= 60
    calls.gate.set()
    assert list(await asyncio.gather(running, waiting)) == [[0], [2]]
    batcher.close()


async def test_a_deadline_in_the_queue_is_answered_in_time_and_never_computed() -> None:
    calls = Doubling()
    batcher = build(calls)
    calls.gate.clear()
    running = asyncio.create_task(batcher.submit([0], key="k", rows=1, deadline=soon()))
    await held(calls)
    with pytest.raises(DeadlineExceededError, match="in the queue"):
        await batcher.submit([1], key="k", rows=1, deadline=time.monotonic() + 0.05)
    assert not running.done()
    assert batcher.queued == 0
    calls.gate.set()
    assert await running == [0]
    assert calls.batches == [[[0]]]
    batcher.close()


async def test_a_deadline_while_the_model_runs_frees_only_its_caller() -> None:
    calls = Doubling()
    batcher = build(calls)
    calls.gate.clear()
    with pytest.raises(DeadlineExceededError, match="while the model ran"):
        await batcher.submit([1], key="k", rows=1, deadline=time.monotonic() + 0.05)
    calls.gate.set()
    assert await batcher.submit([2], key="k", rows=1, deadline=soon()) == [4]
    batcher.close()


async def test_a_deadline_in_the_past_is_not_even_queued() -> None:
    calls = Doubling()
    batcher = build(calls)
    with pytest.raises(DeadlineExceededError):
        await batcher.submit([1], key="k", rows=1, deadline=time.monotonic() - 1)
    assert calls.batches == []
    batcher.close()


async def test_a_caller_that_leaves_takes_its_item_along_and_hurts_nobody() -> None:
    calls = Doubling()
    batcher = build(calls)
    calls.gate.clear()
    tasks = [asyncio.create_task(batcher.submit([0], key="k", rows=1, deadline=soon()))]
    await held(calls)
    tasks += [
        asyncio.create_task(batcher.submit([n], key="k", rows=1, deadline=soon()))
        for n in range(1, 4)
    ]
    await asyncio.sleep(0)
    tasks[0].cancel()  # runs
    tasks[2].cancel()  # waits
    await asyncio.wait({tasks[0], tasks[2]})
    assert batcher.queued == 2
    calls.gate.set()
    assert list(await asyncio.gather(tasks[1], tasks[3])) == [[2], [6]]
    assert calls.batches[1] == [[1], [3]]
    batcher.close()


async def test_a_delay_lets_a_batch_fill_and_a_full_one_leaves_early() -> None:
    calls = Doubling()
    told = Told()
    batcher = Batcher(calls, BatchLimits(max_rows=3, max_delay_s=5.0), observer=told)
    answers = await asyncio.gather(
        *(batcher.submit([n], key="k", rows=1, deadline=soon()) for n in range(3))
    )
    assert answers == [[0], [2], [4]]
    assert calls.batches == [[[0], [1], [2]]]
    assert [report.trigger for report in told.reports] == ["full"]
    batcher.close()


async def test_the_thread_is_told_of_the_request_that_fills_its_batch() -> None:
    calls = Doubling()
    batcher = build(calls, max_rows=2, max_delay_s=30.0)
    first = asyncio.create_task(batcher.submit([1], key="k", rows=1, deadline=soon() + 60))
    await asyncio.sleep(0)
    while not batcher._wake.empty():  # noqa: ASYNC110 - until the thread waits for more
        await asyncio.sleep(0)
    async with asyncio.timeout(15):
        assert await batcher.submit([2], key="k", rows=1, deadline=soon() + 60) == [4]
        assert await first == [2]
    assert calls.batches == [[[1], [2]]]
    batcher.close()


async def test_a_delay_ends() -> None:
    batcher = build(Doubling(), max_delay_s=0.05)
    started = time.monotonic()
    assert await batcher.submit([1], key="k", rows=1, deadline=soon()) == [2]
    assert time.monotonic() - started >= 0.045
    batcher.close()


async def test_the_urgent_and_the_hasty_go_first() -> None:
    calls = Doubling()
    batcher = build(calls, max_rows=1)
    calls.gate.clear()
    now = time.monotonic()
    tasks = [asyncio.create_task(batcher.submit([0], key="k", rows=1, deadline=soon()))]
    await held(calls)
    for item, priority, left_s in ((4, 20, 10), (3, 0, 30), (2, 0, 15), (1, 1, 40)):
        tasks.append(
            asyncio.create_task(
                batcher.submit([item], key="k", rows=1, deadline=now + left_s, priority=priority)
            )
        )
        await asyncio.sleep(0)
    calls.gate.set()
    await asyncio.gather(*tasks)
    assert calls.batches == [[[0]], [[1]], [[2]], [[3]], [[4]]]
    batcher.close()


async def test_a_queue_is_bounded_by_bytes_but_takes_a_single_large_item() -> None:
    calls = Doubling()
    batcher = build(calls, max_bytes=100)
    calls.gate.clear()
    first = asyncio.create_task(batcher.submit([0], key="k", rows=1, deadline=soon()))
    await held(calls)
    large = asyncio.create_task(batcher.submit([1], key="k", rows=1, deadline=soon(), nbytes=500))
    await asyncio.sleep(0)
    assert batcher.queued_bytes == 500
    with pytest.raises(OverloadedError, match="500 bytes are waiting, 1 more") as caught:
        await batcher.submit([2], key="k", rows=1, deadline=soon(), nbytes=1)
    assert caught.value.reason == "queue_full"
    calls.gate.set()
    assert list(await asyncio.gather(first, large)) == [[0], [2]]
    assert batcher.queued_bytes == 0
    batcher.close()


@dataclass
class Slow(Doubling):
    """Takes 20 s for each batch, on a clock that only it moves."""

    now: float = field(default_factory=time.monotonic)

    def run(self, items: Sequence[Item]) -> Sequence[Item]:
        answers = super().run(items)
        self.now += 20
        return answers


async def test_a_deadline_that_what_waits_cannot_meet_is_refused_at_once() -> None:
    calls = Slow()
    batcher = Batcher(calls, BatchLimits(max_rows=1), clock=lambda: calls.now)

    def ask(left_s: float, priority: int = 0) -> asyncio.Task[Item]:
        deadline = calls.now + left_s
        return asyncio.create_task(
            batcher.submit([1], key="k", rows=1, deadline=deadline, priority=priority)
        )

    for _ in range(8):  # evidence
        await ask(1000)
    while not batcher._idle:  # noqa: ASYNC110 - the thread answers before it looks for more
        await asyncio.sleep(0)
    # An idle device tries even what it has never managed in time.
    assert await ask(5) == [2]
    calls.gate.clear()
    calls.entered.clear()
    tasks = [ask(1000)]
    await held(calls)
    tasks += [ask(1000) for _ in range(5)]
    await asyncio.sleep(0)
    assert batcher.drain_s == pytest.approx(120)
    with pytest.raises(
        OverloadedError, match=r"would take 140\.000 s, .* leaves 60\.000"
    ) as caught:
        await ask(60, priority=20)
    assert caught.value.reason == "predicted_late"
    assert caught.value.retry_after_s == 60
    tasks.append(ask(60))  # the earliest deadline goes first, and will be met
    await asyncio.sleep(0)
    calls.gate.set()
    assert await asyncio.gather(*tasks) == [[2]] * 7
    batcher.close()


async def test_closing_cancels_what_waits() -> None:
    calls = Doubling()
    batcher = build(calls)
    calls.gate.clear()
    running = asyncio.create_task(batcher.submit([0], key="k", rows=1, deadline=soon()))
    await held(calls)
    waiting = asyncio.create_task(batcher.submit([1], key="k", rows=1, deadline=soon()))
    await asyncio.sleep(0)
    batcher.close()
    calls.gate.set()
    results = await asyncio.gather(running, waiting, return_exceptions=True)
    assert all(isinstance(result, asyncio.CancelledError) for result in results)


REQUESTS = st.lists(
    st.tuples(
        st.sampled_from("ab"),
        st.lists(st.integers(0, 99) | st.just(POISON), min_size=1, max_size=7),
        st.sampled_from(["stay", "stay", "stay", "leave"]),
    ),
    min_size=1,
    max_size=30,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(requests=REQUESTS, max_rows=st.integers(1, 6), inline=st.booleans())
def test_every_caller_gets_its_own_answer_whatever_the_others_do(
    requests: list[tuple[str, Item, str]], max_rows: int, *, inline: bool
) -> None:
    async def scenario() -> None:
        calls = Doubling()
        batcher = build(calls, max_rows=max_rows, inline=inline)
        tasks = []
        for at, (key, item, _) in enumerate(requests):
            tasks.append(
                asyncio.create_task(batcher.submit(item, key=key, rows=len(item), deadline=soon()))
            )
            if at % 3 == 0:
                await asyncio.sleep(0)
        for task, (_, _, fate) in zip(tasks, requests, strict=True):
            if fate == "leave":
                task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        for (_, item, fate), result in zip(requests, results, strict=True):
            if isinstance(result, asyncio.CancelledError):
                assert fate == "leave"
            elif POISON in item:
                assert isinstance(result, InferenceError)
            else:
                assert result == [2 * n for n in item]
        assert all(sum(map(len, batch)) <= max_rows for batch in calls.batches)
        assert batcher.queued == batcher.pending == 0
        batcher.close()

    asyncio.run(scenario())
