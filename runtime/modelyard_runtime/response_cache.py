"""Answers that are kept, and questions that are asked once however many ask them."""

from __future__ import annotations

import asyncio
import hashlib
import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import orjson
from cachetools import TTLCache

from modelyard_runtime.errors import DeadlineExceededError, OverloadedError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from modelyard_runtime.engine.protocol import Array, Arrays
    from modelyard_runtime.inference import Question

    Compute = Callable[[], Coroutine[Any, Any, Arrays]]

_OWN: Final = (DeadlineExceededError, OverloadedError)
"""Errors of one caller's haste; whoever waited for that caller's answer asks for itself."""
_MEANINGLESS: Final = frozenset({"timeout", "priority", "binary_data_output"})
"""Parameters that change when or how an answer comes, and not what it is."""
_ENTRY_BYTES: Final = 512
"""What an answer costs beside its tensors."""


def question_key(question: Question) -> bytes:
    """Name a question by all that its answer depends on.

    Args:
        question: The question.

    Returns:
        A digest; equal questions have equal ones, by whatever protocol they came.
    """
    digest = hashlib.sha256()
    for array in question.arrays:
        digest.update(f"{array.dtype.name} {array.shape} ".encode())
        if array.dtype.kind == "O":
            for value in array.flat:
                digest.update(b"%d:" % len(value))
                digest.update(value if isinstance(value, bytes) else value.encode())
        else:
            digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    kept = {k: v for k, v in question.parameters.items() if k not in _MEANINGLESS}
    digest.update(orjson.dumps(kept, default=repr, option=orjson.OPT_SORT_KEYS))
    return digest.digest()


@dataclass(eq=False, slots=True)
class _Flight:
    """An answer on its way, and how many wait for it."""

    task: asyncio.Task[Arrays]
    waiting: int = 0


class ResponseCache:
    """The answers of one loaded model; a model that replaces it begins with none.

    Args:
        ttl_s: How long an answer is kept, in seconds.
        max_bytes: Bytes of all that are kept; what has not been asked for the longest goes first.
        clock: Gives the time in seconds.
    """

    def __init__(
        self, ttl_s: float, max_bytes: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._kept: TTLCache[bytes, Arrays] = TTLCache(
            max_bytes, ttl_s, timer=clock, getsizeof=_nbytes
        )
        self._flights: dict[bytes, _Flight] = {}

    @property
    def nbytes(self) -> int:
        """Bytes of the answers that are kept."""
        return int(self._kept.currsize)

    async def answer(self, key: bytes, compute: Compute) -> tuple[Arrays, bool]:
        """Answer a question, computing it only if nobody else has or does.

        Args:
            key: Of the question.
            compute: Computes the answer. It goes on as long as anybody waits for it, be it not the
                one who asked first.

        Returns:
            The answer, which must not be written to, and whether somebody else's was taken.

        Raises:
            Exception: What ``compute`` raised; it is not kept.
        """
        while True:
            kept: Arrays | None = self._kept.get(key)
            if kept is not None:
                return kept, True
            flight = self._flights.get(key)
            follows = flight is not None
            if flight is None:
                flight = self._take_off(key, compute)
            try:
                return await self._wait(key, flight), follows
            except _OWN:
                if not follows:
                    raise

    def _take_off(self, key: bytes, compute: Compute) -> _Flight:
        flight = _Flight(asyncio.get_running_loop().create_task(compute()))
        self._flights[key] = flight
        flight.task.add_done_callback(partial(self._land, key, flight))
        return flight

    async def _wait(self, key: bytes, flight: _Flight) -> Arrays:
        flight.waiting += 1
        try:
            return await asyncio.shield(flight.task)
        finally:
            flight.waiting -= 1
            if not flight.waiting and not flight.task.done():
                self._forget(key, flight)
                flight.task.cancel()  # nobody waits any more: its rows leave the queue

    def _land(self, key: bytes, flight: _Flight, task: asyncio.Task[Arrays]) -> None:
        self._forget(key, flight)
        if task.cancelled() or task.exception() is not None:
            return
        answer = task.result()
        if _nbytes(answer) <= self._kept.maxsize:
            self._kept[key] = tuple(map(_frozen, answer))

    def _forget(self, key: bytes, flight: _Flight) -> None:
        if self._flights.get(key) is flight:
            del self._flights[key]


def _frozen(array: Array) -> Array:
    """Copy an array: what is kept may be a view of a whole batch's."""
    copy = array.copy()
    copy.setflags(write=False)
    return copy


def _nbytes(arrays: Arrays) -> int:
    size = _ENTRY_BYTES
    for array in arrays:
        size += array.nbytes
        if array.dtype.kind == "O":
            size += sum(map(len, array.flat))
    return size
