"""HTTP on one connection: uvicorn's, with a short way for requests that come in one piece."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, Final

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from modelyard_runtime.api.callers import packed, too_large, unpacked
from modelyard_runtime.api.headers import header_of
from modelyard_runtime.api.problems import internal_problem, problem_body, problem_of
from modelyard_runtime.errors import ClientGoneError
from modelyard_runtime.request_ids import accepted_request_id

if TYPE_CHECKING:
    from collections.abc import Mapping

    from modelyard_runtime.api.callers import Reply
    from modelyard_runtime.api.events import EventStream
    from modelyard_runtime.api.lane import Lane, Target
    from modelyard_runtime.api.problems import Headers
    from modelyard_runtime.call import Call
    from modelyard_runtime.errors import RequestError


class HttpProtocol(HttpToolsProtocol):
    """One connection.

    Three things are other than uvicorn's: a request that has arrived whole goes down the lane, without
    ASGI in between; one timer watches an idle connection, however many requests it has had; and even a
    request that cannot be parsed gets the common error.

    Args:
        lane: The short way; None: everything goes through ASGI.
        args: As uvicorn gives them.
        kwargs: Likewise.
    """

    def __init__(self, lane: Lane | None, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._lane = lane
        self._arriving: WholeRequest | None = None
        self._idle_since: float | None = None

    # --- what the transport calls -----------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """Take bytes of a request."""
        super().data_received(data)
        if self._arriving is not None:  # more of it is to come: not whole
            arrived = self._arriving.chunks
            self._arriving = None
            self._begin_asgi()
            for chunk in arrived:
                self.on_body(chunk)

    def connection_lost(self, exc: Exception | None) -> None:
        """End what is under way."""
        whole = self.cycle
        super().connection_lost(exc)
        if self.timeout_keep_alive_task is not None:
            self.timeout_keep_alive_task.cancel()
        if isinstance(whole, WholeRequest):
            whole.hang_up()

    # --- what the parser calls --------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """Begin to collect a request."""
        # Only what a whole request needs; ``_begin_asgi`` does the rest.
        self.url = b""
        self.expect_100_continue = False
        self.headers = []

    def on_headers_complete(self) -> None:
        """Choose the way of a request."""
        lane = self._lane
        target = lane.find(self.url) if lane is not None and self._is_plain() else None
        if lane is None or target is None:
            self._begin_asgi()
        else:
            self._arriving = WholeRequest(self, lane, target)

    def on_body(self, body: bytes) -> None:
        """Collect a piece of a body."""
        if self._arriving is None:
            super().on_body(body)
        else:
            self._arriving.chunks.append(body)

    def on_message_complete(self) -> None:
        """Begin to answer a request that is whole."""
        whole = self._arriving
        if whole is None:
            super().on_message_complete()
            return
        self._arriving = None
        self.cycle = whole  # type: ignore[assignment] # it has what uvicorn looks at
        whole.start(self.loop)

    def on_response_complete(self) -> None:
        """Go on with the next request, if it is there; called by whatever has answered the last."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
            return
        self._idle_since = self.loop.time()
        if self.timeout_keep_alive_task is None:
            self._watch_idle(self.timeout_keep_alive)

    def timeout_keep_alive_handler(self) -> None:
        """Close the connection if it has been idle for long enough."""
        self.timeout_keep_alive_task = None
        if self._idle_since is None:  # it is not idle: watched again after the answer
            return
        left_s = self._idle_since + self.timeout_keep_alive - self.loop.time()
        if left_s > 0:
            self._watch_idle(left_s)
        else:
            super().timeout_keep_alive_handler()

    def send_400_response(self, msg: str) -> None:
        """Answer what cannot be parsed."""
        body = problem_body(msg, "malformed", "unparsed")
        self.transport.write(
            b"HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\n"
            b"content-length: %d\r\nconnection: close\r\n\r\n%b" % (len(body), body)
        )
        self.transport.close()

    # --- own --------------------------------------------------------------------------------------

    def _is_plain(self) -> bool:
        """Whether a request is answered like any other POST, once nothing is before it."""
        parser, before = self.parser, self.cycle
        return (
            parser.get_method() == b"POST"
            and (before is None or before.response_complete)
            and not self.expect_100_continue
            and parser.get_http_version() == "1.1"
            and not parser.should_upgrade()
        )

    def _begin_asgi(self) -> None:
        """Give uvicorn the head of a request, as if it had collected it itself."""
        url, headers, expects = self.url, self.headers, self.expect_100_continue
        super().on_message_begin()
        self.url, self.expect_100_continue = url, expects
        self.headers.extend(headers)  # the scope holds this very list
        super().on_headers_complete()

    def _watch_idle(self, seconds: float) -> None:
        self.timeout_keep_alive_task = self.loop.call_later(
            seconds, self.timeout_keep_alive_handler
        )

    def _unset_keepalive_if_required(self) -> None:
        """Note that something has arrived; the timer looks at that when it fires."""
        self._idle_since = None


class WholeRequest:
    """A request that has come in one piece; it stands where uvicorn keeps its own cycle.

    Args:
        protocol: Its connection, which has read its head.
        lane: The way that it goes.
        target: What it asks for.
    """

    message_event: Final = asyncio.Event()
    """Set by uvicorn when the connection is lost; nobody waits for it here."""

    def __init__(self, protocol: HttpProtocol, lane: Lane, target: Target) -> None:
        given = header_of(protocol.headers, b"x-request-id")
        client = protocol.client
        self.headers = protocol.headers
        self.request_id = accepted_request_id(None if given is None else given.decode("latin-1"))
        self.started = time.perf_counter()
        self.source = client[0] if client else ""
        self.path: Mapping[str, str] = target.path
        self.chunks: list[bytes] = []
        self.response_complete = False
        self.disconnected = False
        self._answered = False
        self.keep_alive = protocol.parser.should_keep_alive()
        self._protocol = protocol
        self._lane = lane
        self._target = target
        self._task: asyncio.Task[None] | None = None

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin to answer.

        Args:
            loop: Where.
        """
        self._task = loop.create_task(self._lane.serve(self._target, self))

    def hang_up(self) -> None:
        """Note that the caller is gone."""
        if self._task is not None and not self.response_complete:
            self._task.cancel()

    def watch(self, deadline: float) -> None:
        """Do nothing: the body is there, and the connection tells when it is lost."""

    def release(self) -> None:
        """Do nothing, as for ``watch``."""

    def explain(self, cancelled: asyncio.CancelledError) -> None:
        """See ``Caller``."""
        del cancelled
        if self.disconnected and self._task is not None:
            self._task.uncancel()
            raise ClientGoneError from None

    async def body(self, limit: int) -> bytes:
        """See ``Caller``."""
        chunks = self.chunks
        body = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        if len(body) > limit:
            raise too_large(limit)
        return await unpacked(self.headers, body, limit)

    async def reply(self, reply: Reply) -> None:
        """See ``Caller``."""
        body, headers = await packed(self.headers, reply)
        await self._send(200, body, headers)

    async def refuse(self, error: RequestError) -> int:
        """See ``Caller``."""
        status, body, headers = problem_of(error, self.request_id)
        await self._send(status, body, headers)
        return status

    async def stream(self, stream: EventStream, call: Call) -> None:
        """Fail: what streams is not led down the lane."""
        raise NotImplementedError

    async def fail(self) -> None:
        """Answer a bug, unless something has been answered already."""
        if not self._answered:
            body = internal_problem(self.request_id)
            await self._send(500, body, [(b"content-type", b"application/json")])

    async def _send(self, status: int, body: bytes, headers: Headers) -> None:
        protocol = self._protocol
        if protocol.flow.write_paused and not self.disconnected:
            await protocol.flow.drain()
        if self.disconnected:
            return
        self._answered = True
        if self._lane.draining:
            self.keep_alive = False
        named = [*protocol.server_state.default_headers, *headers]
        if cookie := self._lane.cookie_to_set(self.headers, status):
            named.append((b"set-cookie", cookie))
        self._lane.outbox.put(
            self._transmit,
            b"%b%b%b%bx-request-id: %b\r\ncontent-length: %d\r\n\r\n%b"
            % (
                STATUS_LINE[status],
                b"".join([b"%b: %b\r\n" % header for header in named]),
                self._lane.headers,
                b"" if self.keep_alive else b"connection: close\r\n",
                self.request_id.encode("ascii"),
                len(body),
                body,
            ),
        )

    def _transmit(self, answer: bytes) -> None:
        if self.disconnected:
            return
        protocol = self._protocol
        protocol.transport.write(answer)
        self.response_complete = True
        if not self.keep_alive:
            protocol.transport.close()
        protocol.on_response_complete()
