"""Answers in parts: server-sent events.

References:
    WHATWG HTML, "Server-sent events"; Triton, "Generate Extension".
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, NamedTuple

from modelyard_runtime.api.problems import internal_problem, problem_body
from modelyard_runtime.errors import ClientGoneError, RequestError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from starlette.types import Send

    from modelyard_runtime.call import Call

_HEADERS: Final = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),  # a proxy that gathers the parts would undo the stream
]
_HEAD_AFTER_S: Final = 0.005
"""From a request that has been read to the head of its answer, at least.

A proxy in Go closes the request when the answer begins. If it is not quite done with sending it by then,
it takes that for an error and cuts the answer off (https://go.dev/issue/40747). Behind a busy Traefik
that were 29 of 641 streams answered at once, 4 of 4,625 after 2 ms, and none of 4,625 after 5, 10 or 20 ms.
"""
_HEAD_AFTER_TRAEFIK_S: Final = 0.025
"""The same behind Traefik, whose threads the kernel may hold up: 5 ms were too few once in 300."""
_TRAEFIK_WAS_HERE: Final = "x-forwarded-server"


class EventStream(NamedTuple):
    """An answer in parts.

    Attributes:
        parts: The JSON text of each event. Errors before the first are answered with their status.
        idle_s: Longest wait for the caller to take a part, in seconds.
    """

    parts: AsyncGenerator[bytes]
    idle_s: float


class BrokenStreamError(Exception):
    """A stream that had begun ended with an error, which its caller has been told.

    Args:
        cause: The error.
    """

    def __init__(self, cause: RequestError) -> None:
        super().__init__(str(cause))
        self.cause = cause


async def send_events(send: Send, stream: EventStream, call: Call) -> None:
    """Send an answer in parts.

    Args:
        send: The ASGI callable.
        stream: The answer.
        call: Its journey.

    Raises:
        RequestError: There is no first part; nothing has been sent.
        BrokenStreamError: There was a first part, and then an error.
        ClientGoneError: The caller takes no more.
        Exception: A bug; the caller has been told that there was one.
    """
    parts, idle_s = stream
    begun = False
    clock = asyncio.get_running_loop().time
    earliest = clock() + _head_after_s(call)
    try:
        part = await anext(parts, None)
        if (early_s := earliest - clock()) > 0:
            await asyncio.sleep(early_s)
        begun = True
        await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
        while part is not None:
            await _push(send, part, idle_s)
            part = await anext(parts, None)
        await send({"type": "http.response.body", "body": b""})
    except RequestError as error:
        if not begun:
            raise
        await _close(send, problem_body(str(error), error.code, call.request_id), idle_s)
        raise BrokenStreamError(error) from error
    except ClientGoneError:
        raise
    except Exception:
        if begun:
            await _close(send, internal_problem(call.request_id), idle_s)
        raise
    finally:
        await parts.aclose()


def _head_after_s(call: Call) -> float:
    behind_traefik = call.header is not None and call.header(_TRAEFIK_WAS_HERE)
    return _HEAD_AFTER_TRAEFIK_S if behind_traefik else _HEAD_AFTER_S


async def _push(send: Send, part: bytes, idle_s: float, *, more: bool = True) -> None:
    """Send one event; who does not read for long is taken to be gone."""
    try:
        async with asyncio.timeout(idle_s):
            await send(
                {
                    "type": "http.response.body",
                    "body": b"data: " + part + b"\n\n",
                    "more_body": more,
                }
            )
    except TimeoutError:
        raise ClientGoneError from None


async def _close(send: Send, problem: bytes, idle_s: float) -> None:
    await _push(send, problem, idle_s, more=False)
