"""Errors → gRPC statuses, with the same words and times as over HTTP."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import grpc

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

STATUS: Final[Mapping[type[RequestError], grpc.StatusCode]] = {
    MalformedRequestError: grpc.StatusCode.INVALID_ARGUMENT,
    InvalidInputError: grpc.StatusCode.INVALID_ARGUMENT,
    LoadError: grpc.StatusCode.FAILED_PRECONDITION,
    UnauthorizedError: grpc.StatusCode.UNAUTHENTICATED,
    ForbiddenError: grpc.StatusCode.PERMISSION_DENIED,
    NotFoundError: grpc.StatusCode.NOT_FOUND,
    TooLargeError: grpc.StatusCode.RESOURCE_EXHAUSTED,
    UnsupportedMediaError: grpc.StatusCode.UNIMPLEMENTED,
    OverloadedError: grpc.StatusCode.RESOURCE_EXHAUSTED,
    OutOfMemoryError: grpc.StatusCode.RESOURCE_EXHAUSTED,
    RateLimitedError: grpc.StatusCode.RESOURCE_EXHAUSTED,
    InferenceError: grpc.StatusCode.INTERNAL,
    NonFiniteOutputError: grpc.StatusCode.INTERNAL,
    NotReadyError: grpc.StatusCode.UNAVAILABLE,
    DeadlineExceededError: grpc.StatusCode.DEADLINE_EXCEEDED,
}
"""Every kind of request error and its status."""


def trailers(error: RequestError) -> tuple[tuple[str, str], ...]:
    """Say in trailing metadata what HTTP says in the body and in headers.

    Args:
        error: What went wrong.

    Returns:
        ``code``, and when to come back where that is known.
    """
    words = [("code", error.code)]
    if isinstance(error, OverloadedError):
        seconds = error.retry_after_s
        words.append(("retry-after", str(max(1, math.ceil(seconds)))))
        words.append(("retry-after-ms", str(max(1, math.ceil(seconds * 1000)))))
    elif isinstance(error, UnauthorizedError):
        words.append(("www-authenticate", error.challenge))
    return tuple(words)
