"""Who asks: the request of one connection, whatever stands between it and the data plane."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

from modelyard_runtime.api.content_encoding import compressed, decompressed
from modelyard_runtime.api.events import send_events
from modelyard_runtime.api.headers import header_of, number_of
from modelyard_runtime.api.problems import send_bytes, send_problem
from modelyard_runtime.errors import ClientGoneError, DeadlineExceededError, TooLargeError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.types import Receive, Scope, Send

    from modelyard_runtime.api.events import EventStream
    from modelyard_runtime.api.problems import Headers
    from modelyard_runtime.call import Call
    from modelyard_runtime.errors import RequestError

_WATCH_AFTER_S: Final = 0.1
"""A request this old is worth watching for a caller who hangs up; most are answered before."""
_GONE: Final = "the caller hung up"
_LATE: Final = "the deadline passed while the body arrived"


class Reply(NamedTuple):
    """What is answered with status 200.

    Attributes:
        body: Its bytes.
        headers: ``content-type`` and others; never ``content-length``.
    """

    body: bytes
    headers: Headers


class Caller(Protocol):
    """One request, and the way back to whoever sent it.

    Attributes:
        headers: As the server gives them: lower-case names.
        request_id: Echoed or made.
        started: ``time.perf_counter`` when its head arrived.
        source: The caller's address.
        path: What the braces of the route hold.
    """

    headers: list[tuple[bytes, bytes]]
    request_id: str
    started: float
    source: str
    path: Mapping[str, str]

    def watch(self, deadline: float) -> None:
        """From now on, cancel the task that answers when the caller leaves or is too slow.

        Args:
            deadline: Until when the body must be there, on the event loop's clock, in seconds.
        """
        ...  # pragma: no cover

    def release(self) -> None:
        """Stop watching."""
        ...  # pragma: no cover

    def explain(self, cancelled: asyncio.CancelledError) -> None:
        """Turn a cancellation that came from watching into what it stands for.

        Args:
            cancelled: What the task was ended with.

        Raises:
            ClientGoneError: The caller hung up.
            DeadlineExceededError: The body did not arrive in time.
        """
        ...  # pragma: no cover

    async def body(self, limit: int) -> bytes:
        """Read the body.

        Args:
            limit: Most bytes, packed and unpacked.

        Returns:
            The body without its content encoding.

        Raises:
            TooLargeError: It is larger.
            UnsupportedMediaError: Its content encoding is not spoken.
            MalformedRequestError: It does not unpack.
            ClientGoneError: The caller hung up.
        """
        ...  # pragma: no cover

    async def reply(self, reply: Reply) -> None:
        """Answer, packed as the caller likes it.

        Args:
            reply: The answer.
        """
        ...  # pragma: no cover

    async def refuse(self, error: RequestError) -> int:
        """Answer an error.

        Args:
            error: What went wrong.

        Returns:
            The status that was sent.
        """
        ...  # pragma: no cover

    async def stream(self, stream: EventStream, call: Call) -> None:
        """Answer in parts; raises as ``send_events``.

        Args:
            stream: The answer.
            call: Its journey.
        """
        ...  # pragma: no cover


class AsgiCaller:
    """A request that an ASGI server hands over.

    Args:
        scope: The connection, with ``path_params`` of the route.
        receive: Its body.
        send: Where the answer goes.
    """

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        client = scope.get("client")
        self.headers: list[tuple[bytes, bytes]] = scope["headers"]
        self.request_id: str = scope["modelyard.request_id"]
        self.started: float = scope["modelyard.started"]
        self.source: str = client[0] if client else ""
        self.path: Mapping[str, str] = scope["path_params"]
        self.send = send
        self._receive = receive
        self._watch: _Watch | None = None

    def watch(self, deadline: float) -> None:
        """See ``Caller``."""
        self._watch = _Watch(self._receive, deadline)

    def body_read(self) -> None:
        """Note that the body is there: from now on the caller is watched."""
        if self._watch is not None:
            self._watch.body_read()

    def release(self) -> None:
        """See ``Caller``."""
        if self._watch is not None:
            self._watch.end()

    def explain(self, cancelled: asyncio.CancelledError) -> None:
        """See ``Caller``."""
        if self._watch is not None:
            self._watch.explain(cancelled)

    async def body(self, limit: int) -> bytes:
        """See ``Caller``."""
        body = await read_body(self.headers, self._receive, limit)
        self.body_read()
        return body

    async def reply(self, reply: Reply) -> None:
        """See ``Caller``."""
        body, headers = await packed(self.headers, reply)
        await send_bytes(self.send, 200, body, headers)

    async def refuse(self, error: RequestError) -> int:
        """See ``Caller``."""
        return await send_problem(self.send, error, self.request_id)

    async def stream(self, stream: EventStream, call: Call) -> None:
        """See ``Caller``."""
        await send_events(self.send, stream, call)


async def packed(asked: list[tuple[bytes, bytes]], reply: Reply) -> Reply:
    """Encode an answer as its caller likes it.

    Args:
        asked: Headers of the request.
        reply: The answer.

    Returns:
        The answer to send.
    """
    accepted = header_of(asked, b"accept-encoding")
    if accepted is None:
        return reply
    body, encoding = await compressed(reply.body, accepted)
    if encoding is None:
        return reply
    return Reply(body, [*reply.headers, (b"content-encoding", encoding)])


async def unpacked(headers: list[tuple[bytes, bytes]], body: bytes, limit: int) -> bytes:
    """Undo a body's content encoding.

    Args:
        headers: Of the request.
        body: As it arrived, at most ``limit`` bytes.
        limit: Most bytes that may come out.

    Returns:
        The body.

    Raises:
        TooLargeError: More comes out.
        UnsupportedMediaError: The encoding is not spoken.
        MalformedRequestError: It does not unpack.
    """
    encoding = header_of(headers, b"content-encoding")
    return body if encoding is None else await decompressed(body, encoding, limit)


async def read_body(headers: list[tuple[bytes, bytes]], receive: Receive, limit: int) -> bytes:
    """Read a body from an ASGI server, and unpack it; never more of either than the limit.

    Args:
        headers: Of the request.
        receive: The ASGI callable.
        limit: Most bytes.

    Returns:
        The body without its content encoding.

    Raises:
        TooLargeError: It is larger.
        UnsupportedMediaError: Its content encoding is not spoken.
        MalformedRequestError: It does not unpack.
        ClientGoneError: The caller hung up.
    """
    for name, value in headers:
        if name == b"content-length" and (number_of(value) or 0) > limit:
            raise too_large(limit)
    message = await receive()
    chunks: list[bytes] = [message.get("body", b"")]
    size = len(chunks[0])
    while message.get("more_body") and size <= limit:
        message = await receive()
        chunks.append(message.get("body", b""))
        size += len(chunks[-1])
    if message["type"] == "http.disconnect":
        raise ClientGoneError
    if size > limit:
        raise too_large(limit)
    return await unpacked(headers, chunks[0] if len(chunks) == 1 else b"".join(chunks), limit)


def too_large(limit: int) -> TooLargeError:
    """Say that a body is larger than allowed.

    Args:
        limit: Most bytes.

    Returns:
        The error, to be raised.
    """
    return TooLargeError(f"the body is larger than {limit} bytes")


class _Watch:
    """Ends a request whose body does not arrive in time, or whose caller hangs up.

    Most requests are answered before it has to look: they pay for one timer.
    """

    def __init__(self, receive: Receive, deadline: float) -> None:
        self._receive = receive
        self._deadline = deadline
        self._loop = asyncio.get_running_loop()
        self._task = asyncio.current_task()
        self._reading = True
        self._looking = False
        self._watcher: asyncio.Task[None] | None = None
        self._timer = self._loop.call_later(_WATCH_AFTER_S, self._look)

    def body_read(self) -> None:
        self._reading = False
        if self._looking:
            self._look()

    def end(self) -> None:
        self._timer.cancel()
        if self._watcher is not None:
            self._watcher.cancel()

    def explain(self, cancelled: asyncio.CancelledError) -> None:
        if cancelled.args not in {(_GONE,), (_LATE,)}:
            return
        if self._task is not None:
            self._task.uncancel()
        if cancelled.args == (_GONE,):
            raise ClientGoneError from None
        raise DeadlineExceededError(_LATE) from None

    def _look(self) -> None:
        self._looking = True
        self._timer.cancel()
        if self._task is None:  # every ASGI server runs a request in a task
            return
        if self._reading:
            self._timer = self._loop.call_at(self._deadline, self._task.cancel, _LATE)
        else:
            self._watcher = self._loop.create_task(self._watch(self._task))

    async def _watch(self, task: asyncio.Task[Any]) -> None:
        # The body has been read, so the only message left is the disconnect.
        while (await self._receive())["type"] != "http.disconnect":
            pass
        task.cancel(_GONE)
