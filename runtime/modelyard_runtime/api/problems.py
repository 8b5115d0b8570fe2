"""Errors → HTTP answers of one shape: ``{"error", "code", "request_id"}``."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import orjson

from modelyard_runtime.errors import (
    DeadlineExceededError,
    ForbiddenError,
    InferenceError,
    InvalidInputError,
    LoadError,
    MalformedRequestError,
    NonFiniteOutputError,
    NotFoundError,
    NotReadyError,
    OutOfMemoryError,
    OverloadedError,
    RateLimitedError,
    RequestError,
    TooLargeError,
    UnauthorizedError,
    UnsupportedMediaError,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.types import Send

Headers = list[tuple[bytes, bytes]]

STATUS: Final[Mapping[type[RequestError], int]] = {
    MalformedRequestError: 400,
    InvalidInputError: 400,
    LoadError: 400,
    UnauthorizedError: 401,
    ForbiddenError: 403,
    NotFoundError: 404,
    TooLargeError: 413,
    UnsupportedMediaError: 415,
    OverloadedError: 429,
    RateLimitedError: 429,
    InferenceError: 500,
    NonFiniteOutputError: 500,
    NotReadyError: 503,
    OutOfMemoryError: 503,
    DeadlineExceededError: 504,
}
"""Every kind of request error and its status."""

_NOT_READY_RETRY_S: Final = 1.0
_JSON: Final = (b"content-type", b"application/json")


async def send_bytes(send: Send, status: int, body: bytes, headers: Headers) -> None:
    """Send one answer.

    Args:
        send: The ASGI callable.
        status: HTTP status.
        body: Its bytes.
        headers: All but ``content-length``.
    """
    await send(
        {
            "type": "http.response.start",
            "status": status,
            "headers": [*headers, (b"content-length", b"%d" % len(body))],
        }
    )
    await send({"type": "http.response.body", "body": body})


async def send_json(send: Send, status: int, body: bytes, headers: Headers | None = None) -> None:
    """Send one JSON answer.

    Args:
        send: The ASGI callable.
        status: HTTP status.
        body: The JSON text.
        headers: Further headers.
    """
    await send_bytes(send, status, body, [_JSON, *(headers or ())])


async def send_problem(send: Send, error: RequestError, request_id: str) -> int:
    """Answer a request error.

    Args:
        send: The ASGI callable.
        error: What went wrong.
        request_id: Of this request.

    Returns:
        The status that was sent.
    """
    status, body, headers = problem_of(error, request_id)
    await send_bytes(send, status, body, headers)
    return status


def problem_of(error: RequestError, request_id: str) -> tuple[int, bytes, Headers]:
    """Write the answer to a request error.

    Args:
        error: What went wrong.
        request_id: Of this request.

    Returns:
        HTTP status, body, and all headers but ``content-length``.
    """
    headers = [_JSON]
    if isinstance(error, OverloadedError):
        headers += _retry_after(error.retry_after_s)
    elif isinstance(error, UnauthorizedError):
        headers.append((b"www-authenticate", error.challenge.encode("ascii")))
    elif isinstance(error, NotReadyError):
        headers += _retry_after(_NOT_READY_RETRY_S)
    return STATUS[type(error)], problem_body(str(error), error.code, request_id), headers


def problem_body(message: str, code: str, request_id: str) -> bytes:
    """Write the body that every error has.

    Args:
        message: A sentence for people.
        code: A word for programs.
        request_id: Of this request.

    Returns:
        JSON text.
    """
    return orjson.dumps({"error": message, "code": code, "request_id": request_id})


def internal_problem(request_id: str) -> bytes:
    """Write the body that answers a bug, which is told to the log alone.

    Args:
        request_id: Of this request.

    Returns:
        JSON text.
    """
    return problem_body("an internal error occurred", "internal", request_id)


def _retry_after(seconds: float) -> Headers:
    return [
        (b"retry-after", b"%d" % max(1, math.ceil(seconds))),
        (b"retry-after-ms", b"%d" % max(1, math.ceil(seconds * 1000))),
    ]
