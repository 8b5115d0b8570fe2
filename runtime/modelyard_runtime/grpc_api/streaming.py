"""Many requests and their answers on one connection, worked on side by side."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import TYPE_CHECKING, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable

    Request = TypeVar("Request")
    Answer = TypeVar("Answer")

_AHEAD: Final = 64
"""Requests of one stream that may be inside at once; they share batches."""


async def side_by_side(
    requests: AsyncIterator[Request],
    answers_of: Callable[[Request], AsyncGenerator[Answer]],
    in_turn: Callable[[Request], bool],
) -> AsyncGenerator[Answer]:
    """Answer requests while further ones are read.

    A request has one answer under way at a time: who reads slowly slows down who answers.

    Args:
        requests: As they arrive.
        answers_of: Answers one of them, and raises nothing.
        in_turn: Whether its answers wait for those of all earlier requests that are in turn. The
            others go out as they come, so that an answer in many parts holds nobody up.

    Yields:
        The answers.
    """
    given: asyncio.Queue[tuple[Answer, asyncio.Event] | None] = asyncio.Queue()
    places = asyncio.Semaphore(_AHEAD)

    async def work(request: Request, before: asyncio.Event | None, done: asyncio.Event) -> None:
        try:
            await _hand_over(answers_of(request), given, before)
        finally:
            done.set()
            places.release()

    async def read() -> None:
        last: asyncio.Event | None = None
        async with asyncio.TaskGroup() as working:
            async for request in requests:
                await places.acquire()
                done, waits = asyncio.Event(), in_turn(request)
                working.create_task(work(request, last if waits else None, done))
                last = done if waits else last

    reading = asyncio.create_task(read())
    reading.add_done_callback(lambda _: given.put_nowait(None))
    try:
        while (item := await given.get()) is not None:
            answer, taken = item
            yield answer
            taken.set()
        await reading
    finally:
        reading.cancel()


async def _hand_over(
    answers: AsyncGenerator[Answer],
    given: asyncio.Queue[tuple[Answer, asyncio.Event] | None],
    before: asyncio.Event | None,
) -> None:
    """Give the answers to one request away, one after the other, not before ``before``."""
    async with aclosing(answers):
        async for answer in answers:
            if before is not None:
                await before.wait()
            taken = asyncio.Event()
            given.put_nowait((answer, taken))
            await taken.wait()
    if before is not None:
        await before.wait()
