"""Requests of one stream: side by side, in turn where they answer once, and no faster than read."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import TYPE_CHECKING

from modelyard_runtime.grpc_api.streaming import side_by_side

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator

Request = tuple[str, int]
"""Its name, and how many answers it gets; those that get one are in turn."""


async def given(*requests: Request) -> AsyncIterator[Request]:
    for request in requests:
        yield request


def once(request: Request) -> bool:
    return request[1] == 1


async def answered(request: Request) -> AsyncGenerator[str]:
    name, count = request
    for number in range(count):
        yield f"{name}{number}"


async def test_single_answers_keep_the_order_of_their_requests() -> None:
    gate = asyncio.Event()

    async def first_is_slow(request: Request) -> AsyncGenerator[str]:
        if request[0] == "a":
            await gate.wait()
        elif request[0] == "c":
            gate.set()
        yield request[0]

    requests = given(("a", 1), ("b", 1), ("c", 1))
    assert [a async for a in side_by_side(requests, first_is_slow, once)] == ["a", "b", "c"]


async def test_parts_hold_nobody_up_and_keep_their_own_order() -> None:
    gate = asyncio.Event()

    async def parts_wait(request: Request) -> AsyncGenerator[str]:
        async for answer in answered(request):
            yield answer
            if request[0] == "p":
                await gate.wait()

    seen = []
    async with aclosing(side_by_side(given(("p", 3), ("a", 1)), parts_wait, once)) as answers:
        async for answer in answers:
            seen.append(answer)
            if answer == "a0":
                gate.set()
    assert sorted(seen) == ["a0", "p0", "p1", "p2"]
    assert seen.index("a0") < seen.index("p1"), "though it was asked later"
    assert [a for a in seen if a[0] == "p"] == ["p0", "p1", "p2"]


async def test_who_does_not_read_is_not_answered_ahead() -> None:
    made = []

    async def counted(request: Request) -> AsyncGenerator[str]:
        async for answer in answered(request):
            made.append(answer)
            yield answer

    async with aclosing(side_by_side(given(("p", 1000)), counted, once)) as answers:
        for _ in range(3):
            await anext(answers)
            for _ in range(20):
                await asyncio.sleep(0)
        assert made == ["p0", "p1", "p2"]


async def test_no_more_than_a_number_of_requests_are_inside() -> None:
    gate, inside = asyncio.Event(), 0

    async def waiting(request: Request) -> AsyncGenerator[str]:
        nonlocal inside
        inside += 1
        await gate.wait()
        yield request[0]

    many = [(str(n), 1) for n in range(200)]
    reading = asyncio.create_task(collected(side_by_side(given(*many), waiting, once)))
    for _ in range(500):
        await asyncio.sleep(0)
    assert inside == 64
    gate.set()
    assert await reading == [name for name, _ in many]


async def test_who_hangs_up_ends_the_work() -> None:
    before = asyncio.all_tasks()
    ended = asyncio.Event()

    async def endless(request: Request) -> AsyncGenerator[str]:
        try:
            while True:
                yield request[0]
        finally:
            ended.set()

    async with aclosing(side_by_side(given(("p", 2)), endless, once)) as answers:
        assert await anext(answers) == "p"
    await ended.wait()
    while asyncio.all_tasks() != before:  # noqa: ASYNC110 - tasks that were cancelled just now
        await asyncio.sleep(0)


async def collected(answers: AsyncGenerator[str]) -> list[str]:
    return [answer async for answer in answers]
