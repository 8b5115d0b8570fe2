"""One request on the data plane, from its head to its end: the same for every body format.

An ASGI class, not a FastAPI endpoint, which would cost more than most models.
"""

from __future__ import annotations

import asyncio
import math
import time
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

from modelyard_runtime.api.content_encoding import compressed, decompressed
from modelyard_runtime.api.events import BrokenStreamError, EventStream, send_events
from modelyard_runtime.api.headers import header_of, lookup, number_of
from modelyard_runtime.api.problems import (
    STATUS,
    problem_body,
    send_bytes,
    send_json,
    send_problem,
)
from modelyard_runtime.call import Call, shorten
from modelyard_runtime.errors import (
    ClientGoneError,
    DeadlineExceededError,
    RequestError,
    TooLargeError,
)

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

    from modelyard_runtime.api.problems import Headers
    from modelyard_runtime.inference import ServedModel
    from modelyard_runtime.service import Service

_WATCH_AFTER_S: Final = 0.1
"""A request this old is worth watching for a caller who hangs up; most are answered before."""
_CLIENT_CLOSED: Final = 499
_DEADLINE: Final = b"x-request-deadline-ms"
"""Milliseconds that the caller will wait."""
JSON_HEADERS: Final[Headers] = [(b"content-type", b"application/json")]
CACHE_HIT: Final = (b"x-modelyard-cache", b"hit")
_GONE: Final = "the caller hung up"
_LATE: Final = "the deadline passed while the body arrived"


class Incoming(NamedTuple):
    """A request that has arrived in full.

    Attributes:
        headers: As the server gives them: lower-case names.
        body: Its bytes, still encoded.
        path: What the braces of the route hold.
        limit: Most bytes that what is packed in the body may unpack to.
    """

    headers: list[tuple[bytes, bytes]]
    body: bytes
    path: dict[str, str]
    limit: int

    def header(self, name: bytes) -> bytes | None:
        """Look a header up.

        Args:
            name: In lower case.

        Returns:
            Its value; None when it is not there.
        """
        return header_of(self.headers, name)


class Reply(NamedTuple):
    """What is answered with status 200.

    Attributes:
        body: Its bytes.
        headers: ``content-type`` and others; never ``content-length``.
    """

    body: bytes
    headers: Headers


class Format(Protocol):
    """One way to write requests and answers."""

    protocol: str
    """The value of the metrics' label ``protocol``."""

    async def respond(
        self, served: ServedModel, incoming: Incoming, call: Call
    ) -> Reply | EventStream:
        """Decode, ask the model, encode.

        Args:
            served: The model.
            incoming: The request.
            call: Its journey; stage times are noted.

        Returns:
            The answer, whole or in parts.

        Raises:
            RequestError: See the tree in ``errors.py``.
        """
        ...  # pragma: no cover


class DataEndpoint:
    """A route of the data plane.

    Args:
        service: Whose models answer.
        form: How requests and answers are written.
    """

    def __init__(self, service: Service, form: Format) -> None:
        self._service = service
        self._form = form

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request.

        Args:
            scope: The connection, with ``path_params`` of the route.
            receive: Its body.
            send: Where the answer goes.
        """
        request_id: str = scope["modelyard.request_id"]
        if scope["method"] != "POST":
            body = problem_body("inference is a POST", "method_not_allowed", request_id)
            await send_json(send, 405, body, [(b"allow", b"POST")])
            return
        call = self._call(scope, request_id)
        code = _CLIENT_CLOSED
        ended: BaseException | None = None
        try:
            reply = await self._reply(scope, receive, send, call)
            if reply is not None:
                await send_reply(scope["headers"], send, reply)
            code = 200
        except RequestError as error:
            ended = error
            code = await send_problem(send, error, request_id)
        except BrokenStreamError as broken:
            ended = broken.cause
            code = STATUS[type(broken.cause)]
        except ClientGoneError as error:
            ended = error
        except Exception:
            code = 500  # the outermost layer answers and logs it
            raise
        finally:
            self._service.admission.leave(call)
            self._service.journal.finish(call, code, ended)

    def _call(self, scope: Scope, request_id: str) -> Call:
        client = scope.get("client")
        return Call(
            request_id=request_id,
            protocol=self._form.protocol,
            started=scope["modelyard.started"],
            deadline=time.monotonic() + _asked_s(scope["headers"]),
            source=client[0] if client else "",
        )

    async def _reply(self, scope: Scope, receive: Receive, send: Send, call: Call) -> Reply | None:
        """Ask the model, which is held until its answer is there; a stream has then been sent."""
        service = self._service
        headers: list[tuple[bytes, bytes]] = scope["headers"]
        await service.admission.enter(call, lookup(headers))
        path: dict[str, str] = scope["path_params"]
        with service.model(path["model"], path.get("version")) as served:
            call.served = served
            shorten(call, served.timeout_s)
            limit = service.directives.current.max_body_bytes
            watch = _Watch(receive, call.deadline)
            try:
                incoming = await self._incoming(scope, receive, limit, served)
                watch.body_read()
                return await self._respond(incoming, send, call, served)
            except asyncio.CancelledError as cancelled:
                watch.explain(cancelled)
                raise
            finally:
                watch.end()

    async def _incoming(
        self, scope: Scope, receive: Receive, limit: int, served: ServedModel
    ) -> Incoming:
        del served  # who decodes elsewhere needs it
        headers = scope["headers"]
        body = await read_body(headers, receive, limit)
        return Incoming(headers, body, scope["path_params"], limit)

    async def _respond(
        self, incoming: Incoming, send: Send, call: Call, served: ServedModel
    ) -> Reply | None:
        answer = await self._form.respond(served, incoming, call)
        if isinstance(answer, Reply):
            return answer._replace(headers=[*answer.headers, CACHE_HIT]) if call.cached else answer
        await send_events(send, answer, call)
        return None


async def send_reply(asked: list[tuple[bytes, bytes]], send: Send, reply: Reply) -> None:
    """Send an answer, packed as the caller likes it.

    Args:
        asked: Headers of the request.
        send: The ASGI callable.
        reply: The answer.
    """
    body, headers = reply
    if (accepted := header_of(asked, b"accept-encoding")) is not None:
        body, encoding = await compressed(body, accepted)
        if encoding is not None:
            headers = [*headers, (b"content-encoding", encoding)]
    await send_bytes(send, 200, body, headers)


def _asked_s(headers: list[tuple[bytes, bytes]]) -> float:
    """Read how long the caller will wait; the model shortens it to its own time-out."""
    asked = header_of(headers, _DEADLINE)
    asked_ms = None if asked is None else number_of(asked)
    return math.inf if asked_ms is None else asked_ms / 1000  # what says nothing changes nothing


async def read_body(headers: list[tuple[bytes, bytes]], receive: Receive, limit: int) -> bytes:
    """Read a body, and unpack it; never more of either than the limit.

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
            raise _too_large(limit)
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
        raise _too_large(limit)
    body = chunks[0] if len(chunks) == 1 else b"".join(chunks)
    encoding = header_of(headers, b"content-encoding")
    return body if encoding is None else await decompressed(body, encoding, limit)


def _too_large(limit: int) -> TooLargeError:
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
        """Note that the body is there: from now on the caller is watched."""
        self._reading = False
        if self._looking:
            self._look()

    def end(self) -> None:
        """Stop watching."""
        self._timer.cancel()
        if self._watcher is not None:
            self._watcher.cancel()

    def explain(self, cancelled: asyncio.CancelledError) -> None:
        """Turn a cancellation that came from here into what it stands for.

        Args:
            cancelled: What the request was ended with.

        Raises:
            ClientGoneError: The caller hung up.
            DeadlineExceededError: The body did not arrive in time.
        """
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
