"""One request on the data plane, from its head to its end: the same for every body format.

An ASGI class, not a FastAPI endpoint, which would cost more than most models.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

from modelyard_runtime.api.problems import problem_body, send_bytes, send_json, send_problem
from modelyard_runtime.call import Call
from modelyard_runtime.errors import (
    ClientGoneError,
    DeadlineExceededError,
    RequestError,
    TooLargeError,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.types import Receive, Scope, Send

    from modelyard_runtime.api.problems import Headers
    from modelyard_runtime.inference import ServedModel
    from modelyard_runtime.service import Service

_WATCH_AFTER_S: Final = 0.1
"""A request this old is worth watching for a caller who hangs up; most are answered before."""
_CLIENT_CLOSED: Final = 499
_GONE: Final = "the caller hung up"


@dataclass(frozen=True, slots=True)
class Incoming:
    """A request that has arrived in full.

    Attributes:
        headers: As the server gives them: lower-case names.
        body: Its bytes, still encoded.
        path: What the braces of the route hold.
    """

    headers: list[tuple[bytes, bytes]]
    body: bytes
    path: dict[str, str]

    def header(self, name: bytes) -> bytes | None:
        """Look a header up.

        Args:
            name: In lower case.

        Returns:
            Its value; None when it is not there.
        """
        return next((value for key, value in self.headers if key == name), None)


@dataclass(frozen=True, slots=True)
class Reply:
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

    async def respond(self, served: ServedModel, incoming: Incoming, call: Call) -> Reply:
        """Decode, ask the model, encode.

        Args:
            served: The model.
            incoming: The request.
            call: Its journey; stage times are noted.

        Returns:
            The answer.

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
        self._timeout_s = service.settings.request_timeout_s

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
            reply = await self._reply(scope, receive, call)
            await send_bytes(send, 200, reply.body, reply.headers)
            code = 200
        except RequestError as error:
            ended = error
            code = await send_problem(send, error, request_id)
        except ClientGoneError as error:
            ended = error
        except Exception:
            code = 500  # the outermost layer answers and logs it
            raise
        finally:
            self._service.admission.leave()
            self._service.journal.finish(call, code, ended)

    def _call(self, scope: Scope, request_id: str) -> Call:
        client = scope.get("client")
        return Call(
            request_id=request_id,
            protocol=self._form.protocol,
            started=scope["modelyard.started"],
            deadline=time.monotonic() + self._timeout_s,
            source=client[0] if client else "",
        )

    async def _reply(self, scope: Scope, receive: Receive, call: Call) -> Reply:
        service = self._service
        headers: list[tuple[bytes, bytes]] = scope["headers"]
        await service.admission.enter(call, _lookup(headers))
        path: dict[str, str] = scope["path_params"]
        with service.model(path["model"], path.get("version")) as served:
            call.served = served
            limit = service.directives.current.max_body_bytes
            body = await _read(headers, receive, limit=limit, deadline=call.deadline)
            task = asyncio.current_task()
            watch = _HangupWatch(task, receive) if task is not None else None
            try:
                return await self._form.respond(served, Incoming(headers, body, path), call)
            except asyncio.CancelledError as cancelled:
                if task is not None and cancelled.args == (_GONE,):
                    task.uncancel()
                    raise ClientGoneError from None
                raise
            finally:
                if watch is not None:
                    watch.cancel()


def _lookup(headers: list[tuple[bytes, bytes]]) -> Callable[[str], str | None]:
    def find(name: str) -> str | None:
        wanted = name.encode("ascii")
        for key, value in headers:
            if key == wanted:
                return value.decode("latin-1")
        return None

    return find


async def _read(
    headers: list[tuple[bytes, bytes]], receive: Receive, *, limit: int, deadline: float
) -> bytes:
    """Read the body, never more of it than the limit."""
    for name, value in headers:
        if name == b"content-length" and value.isdigit() and int(value) > limit:
            raise _too_large(limit)
    message = await _next(receive, deadline)
    body: bytes = message.get("body", b"")
    if not message.get("more_body"):
        if len(body) > limit:
            raise _too_large(limit)
        return body
    chunks = [body]
    size = len(body)
    while message.get("more_body"):
        if size > limit:
            raise _too_large(limit)
        message = await _next(receive, deadline)
        chunks.append(message.get("body", b""))
        size += len(chunks[-1])
    if size > limit:
        raise _too_large(limit)
    return b"".join(chunks)


async def _next(receive: Receive, deadline: float) -> Any:
    try:
        async with asyncio.timeout_at(deadline):
            message = await receive()
    except TimeoutError:
        raise DeadlineExceededError("the deadline passed while the body arrived") from None
    if message["type"] == "http.disconnect":
        raise ClientGoneError
    return message


def _too_large(limit: int) -> TooLargeError:
    return TooLargeError(f"the body is larger than {limit} bytes")


class _HangupWatch:
    """Cancels a request whose caller hangs up, once the request is old enough to bother."""

    def __init__(self, task: asyncio.Task[Any], receive: Receive) -> None:
        self._task = task
        self._receive = receive
        self._watcher: asyncio.Task[None] | None = None
        self._timer = asyncio.get_running_loop().call_later(_WATCH_AFTER_S, self._begin)

    def cancel(self) -> None:
        """Stop watching."""
        self._timer.cancel()
        if self._watcher is not None:
            self._watcher.cancel()

    def _begin(self) -> None:
        self._watcher = asyncio.get_running_loop().create_task(self._watch())

    async def _watch(self) -> None:
        # The body has been read, so the only message left is the disconnect.
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._task.cancel(_GONE)
