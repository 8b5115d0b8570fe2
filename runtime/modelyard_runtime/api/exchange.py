"""One request on the data plane, from its head to its end: the same for every body format.

An ASGI class, not a FastAPI endpoint, which would cost more than most models.
"""

from __future__ import annotations

import asyncio
import math
import time
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from modelyard_runtime.api.callers import AsgiCaller, Reply
from modelyard_runtime.api.events import BrokenStreamError, EventStream
from modelyard_runtime.api.headers import header_of, lookup, number_of
from modelyard_runtime.api.problems import STATUS, problem_body, send_json
from modelyard_runtime.call import Call, shorten
from modelyard_runtime.errors import ClientGoneError, RequestError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.types import Receive, Scope, Send

    from modelyard_runtime.api.callers import Caller
    from modelyard_runtime.api.problems import Headers
    from modelyard_runtime.inference import ServedModel
    from modelyard_runtime.service import Service

_CLIENT_CLOSED: Final = 499
_DEADLINE: Final = b"x-request-deadline-ms"
"""Milliseconds that the caller will wait."""
JSON_HEADERS: Final[Headers] = [(b"content-type", b"application/json")]
CACHE_HIT: Final = (b"x-modelyard-cache", b"hit")


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
    path: Mapping[str, str]
    limit: int

    def header(self, name: bytes) -> bytes | None:
        """Look a header up.

        Args:
            name: In lower case.

        Returns:
            Its value; None when it is not there.
        """
        return header_of(self.headers, name)


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
        streams: Whether it answers in parts.
    """

    def __init__(self, service: Service, form: Format, *, streams: bool = False) -> None:
        self.streams = streams
        self._service = service
        self._form = form

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request of an ASGI server.

        Args:
            scope: The connection, with ``path_params`` of the route.
            receive: Its body.
            send: Where the answer goes.
        """
        if scope["method"] != "POST":
            request_id: str = scope["modelyard.request_id"]
            body = problem_body("inference is a POST", "method_not_allowed", request_id)
            await send_json(send, 405, body, [(b"allow", b"POST")])
            return
        await self.answer(self._caller(scope, receive, send))

    def _caller(self, scope: Scope, receive: Receive, send: Send) -> AsgiCaller:
        return AsgiCaller(scope, receive, send)

    async def answer(self, caller: Caller) -> None:
        """Answer one request.

        Args:
            caller: Who asks.

        Raises:
            Exception: A bug, which the outermost layer answers and logs.
        """
        call = Call(
            caller.request_id,
            self._form.protocol,
            caller.started,
            time.monotonic() + _asked_s(caller.headers),
            source=caller.source,
        )
        code = _CLIENT_CLOSED
        ended: BaseException | None = None
        try:
            reply = await self._reply(caller, call)
            if reply is not None:
                await caller.reply(reply)
            code = 200
        except RequestError as error:
            ended = error
            code = await caller.refuse(error)
        except BrokenStreamError as broken:
            ended = broken.cause
            code = STATUS[type(broken.cause)]
        except ClientGoneError as error:
            ended = error
        except Exception:
            code = 500
            raise
        finally:
            self._service.admission.leave(call)
            self._service.journal.finish(call, code, ended)

    async def _reply(self, caller: Caller, call: Call) -> Reply | None:
        """Ask the model, which is held until its answer is there; a stream has then been sent."""
        service = self._service
        await service.admission.enter(call, lookup(caller.headers))
        with service.model(caller.path["model"], caller.path.get("version")) as served:
            call.served = served
            shorten(call, served.timeout_s)
            caller.watch(call.deadline)
            try:
                return await self._respond(caller, call, served)
            except asyncio.CancelledError as cancelled:
                caller.explain(cancelled)
                raise
            finally:
                caller.release()

    async def _respond(self, caller: Caller, call: Call, served: ServedModel) -> Reply | None:
        limit = self._service.directives.current.max_body_bytes
        incoming = Incoming(caller.headers, await caller.body(limit), caller.path, limit)
        answer = await self._form.respond(served, incoming, call)
        if isinstance(answer, Reply):
            return answer._replace(headers=[*answer.headers, CACHE_HIT]) if call.cached else answer
        await caller.stream(answer, call)
        return None


def _asked_s(headers: list[tuple[bytes, bytes]]) -> float:
    """Read how long the caller will wait; the model shortens it to its own time-out."""
    asked = header_of(headers, _DEADLINE)
    asked_ms = None if asked is None else number_of(asked)
    return math.inf if asked_ms is None else asked_ms / 1000  # what says nothing changes nothing
