"""The hot route: an ASGI class, not a FastAPI endpoint, which would cost more than most models."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, Final

import structlog

from modelyard_runtime.api.problems import problem_body, send_json, send_problem
from modelyard_runtime.errors import (
    DeadlineExceededError,
    InferenceError,
    NonFiniteOutputError,
    OverloadedError,
    RequestError,
    TooLargeError,
    UnsupportedMediaError,
)

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

    from modelyard_runtime.service import Service

_log = structlog.stdlib.get_logger(__name__)

_WATCH_AFTER_S: Final = 0.1
"""A request this old is worth watching for a caller who hangs up; most are answered before."""
_CLIENT_CLOSED: Final = 499
_GONE: Final = "the caller hung up"


class ClientGoneError(Exception):
    """The caller hung up; there is nobody to answer."""


class InferEndpoint:
    """``POST /v2/models/{model}[/versions/{version}]/infer``.

    Args:
        service: Whose model answers.
    """

    def __init__(self, service: Service) -> None:
        self._service = service
        self._timeout_s = service.settings.request_timeout_s
        self._max_in_flight = service.settings.max_in_flight

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one inference request.

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
        service = self._service
        service.inflight += 1
        status = _CLIENT_CLOSED
        try:
            answer = await self._answer(scope, receive)
            await send_json(send, 200, answer)
            status = 200
        except RequestError as error:
            self._note(error, request_id)
            status = await send_problem(send, error, request_id)
        except ClientGoneError:
            service.metrics.rejected("cancelled")
        except Exception:
            status = 500  # the outermost layer answers and logs it
            raise
        finally:
            service.inflight -= 1
            service.metrics.request_done(status, time.perf_counter() - scope["modelyard.started"])

    async def _answer(self, scope: Scope, receive: Receive) -> bytes:
        service = self._service
        deadline = time.monotonic() + self._timeout_s
        parameters = scope["path_params"]
        model = service.model(parameters["model"], parameters.get("version"))
        if service.inflight > self._max_in_flight:
            raise OverloadedError(
                f"{self._max_in_flight} requests are inside, which is the limit",
                retry_after_s=model.batcher.retry_after_s(),
            )
        body = await self._read(scope, receive, deadline)
        task = asyncio.current_task()
        if task is None:  # every ASGI server runs a request in a task
            return await model.infer(body, deadline=deadline)
        watch = _HangupWatch(task, receive)
        try:
            return await model.infer(body, deadline=deadline)
        except asyncio.CancelledError as cancelled:
            if cancelled.args == (_GONE,):
                task.uncancel()
                raise ClientGoneError from None
            raise
        finally:
            watch.cancel()

    async def _read(self, scope: Scope, receive: Receive, deadline: float) -> bytes:
        """Read the body, never more of it than the limit."""
        limit = self._service.directives.current.max_body_bytes
        for name, value in scope["headers"]:
            if name == b"content-length" and value.isdigit() and int(value) > limit:
                raise _too_large(limit)
            if name == b"content-encoding" and value.lower() != b"identity":
                raise UnsupportedMediaError("content-encoding is not spoken here")
            if name == b"inference-header-content-length":
                raise UnsupportedMediaError(
                    "the binary tensor extension is not spoken here, send JSON tensors"
                )
        message = await self._next(receive, deadline)
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
            message = await self._next(receive, deadline)
            chunks.append(message.get("body", b""))
            size += len(chunks[-1])
        if size > limit:
            raise _too_large(limit)
        return b"".join(chunks)

    @staticmethod
    async def _next(receive: Receive, deadline: float) -> Any:
        try:
            async with asyncio.timeout_at(deadline):
                message = await receive()
        except TimeoutError:
            raise DeadlineExceededError("the deadline passed while the body arrived") from None
        if message["type"] == "http.disconnect":
            raise ClientGoneError
        return message

    def _note(self, error: RequestError, request_id: str) -> None:
        """Count and log what an answer alone would hide."""
        metrics = self._service.metrics
        if isinstance(error, OverloadedError):
            metrics.rejected("overloaded")
        elif isinstance(error, TooLargeError):
            metrics.rejected("too_large")
        elif isinstance(error, DeadlineExceededError):
            metrics.rejected("expired")
        elif isinstance(error, NonFiniteOutputError):
            metrics.invalid_output()
        elif isinstance(error, InferenceError):
            _log.error("model failed", request_id=request_id, exc_info=error)


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
