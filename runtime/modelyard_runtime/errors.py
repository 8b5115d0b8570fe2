"""Every error of the runtime, as one tree.

::

    ModelyardRuntimeError
    ├── RequestError             answered to one caller; ``code`` is the word in the answer
    │   ├── MalformedRequestError    malformed           not JSON, or not an inference request
    │   ├── InvalidInputError        invalid_input       a tensor that the model does not take
    │   ├── UnauthorizedError        unauthorized        no credentials, or a token that does not hold
    │   ├── ForbiddenError           forbidden           a wrong key, or what is closed to everybody
    │   ├── NotFoundError            model_not_found     no such model, version or path
    │   ├── TooLargeError            too_large           body over the limit
    │   ├── UnsupportedMediaError    unsupported_media   an encoding or extension that is not spoken
    │   ├── NotReadyError            not_ready           loading, warming or failed
    │   ├── LoadError                load_failed         the load API: the model cannot be served
    │   ├── OverloadedError          overloaded          no room or no time; says when to come back
    │   │   └── RateLimitedError         rate_limited        one caller asks too often or too much
    │   ├── DeadlineExceededError    timeout             the deadline passed, queued or running
    │   ├── InferenceError           model_error         the model raised
    │   ├── OutOfMemoryError         out_of_memory       a single row does not fit beside the model
    │   └── NonFiniteOutputError     non_finite          the model answered NaN or infinity
    ├── ClientGoneError          the caller hung up; there is nobody to answer
    └── StartupError             ends the process; ``reason`` is a word of the contract

None of them knows HTTP: ``api/problems.py`` maps them to status codes.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any, ClassVar


class ModelyardRuntimeError(Exception):
    """Root of all that the runtime raises on purpose."""


class RequestError(ModelyardRuntimeError):
    """One request cannot be answered; others are not concerned."""

    code: ClassVar[str]


class MalformedRequestError(RequestError):
    """The body is not JSON, or not shaped like an inference request."""

    code = "malformed"


class InvalidInputError(RequestError):
    """A tensor is missing, unknown, given twice, or not what the model takes."""

    code = "invalid_input"


class UnauthorizedError(RequestError):
    """The caller must say who it is, or its token does not hold (any more).

    Args:
        message: What is missing or wrong; never what was sent.
        challenge: How to authenticate, as ``WWW-Authenticate`` says it.
    """

    code = "unauthorized"

    def __init__(self, message: str, *, challenge: str = "Bearer") -> None:
        super().__init__(message)
        self.challenge = challenge


class ForbiddenError(RequestError):
    """The key is not one of those that may come in, or the way is closed to everybody."""

    code = "forbidden"


class NotFoundError(RequestError):
    """There is no such model, version or path."""

    code = "model_not_found"


class TooLargeError(RequestError):
    """The body is larger than the limit."""

    code = "too_large"


class UnsupportedMediaError(RequestError):
    """The body uses a content encoding or protocol extension that is not spoken here."""

    code = "unsupported_media"


class NotReadyError(RequestError):
    """The model is loading, warming or has failed."""

    code = "not_ready"


class LoadError(RequestError):
    """A model that the load API was asked for cannot be served."""

    code = "load_failed"


class OverloadedError(RequestError):
    """No more work is admitted.

    Args:
        message: What is full.
        retry_after_s: Seconds until the queue is expected to have drained.
        reason: What is short: ``queue_full``, ``predicted_late`` or ``in_flight``.
    """

    code = "overloaded"

    def __init__(self, message: str, *, retry_after_s: float, reason: str = "queue_full") -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s
        self.reason = reason


class RateLimitedError(OverloadedError):
    """One caller asks too often, or too much at a time; others are not concerned.

    Args:
        message: What the caller may ask.
        retry_after_s: Seconds until it may ask again.
    """

    code = "rate_limited"

    def __init__(self, message: str, *, retry_after_s: float) -> None:
        super().__init__(message, retry_after_s=retry_after_s, reason="rate_limited")


class DeadlineExceededError(RequestError):
    """The deadline passed, in the queue or while the model ran."""

    code = "timeout"


class InferenceError(RequestError):
    """The model raised; the cause is logged and never answered."""

    code = "model_error"


class OutOfMemoryError(RequestError):
    """The model ran out of memory, on this request alone."""

    code = "out_of_memory"


class NonFiniteOutputError(RequestError):
    """The model answered NaN or infinity, which JSON cannot say."""

    code = "non_finite"


class ClientGoneError(ModelyardRuntimeError):
    """The caller hung up; there is nobody to answer."""


class Reason(StrEnum):
    """Why a container ended, in the words of ``docs/reference/runtime-contract.md``."""

    UNSUPPORTED_URI_SCHEME = "UnsupportedURIScheme"
    ARTIFACT_NOT_FOUND = "ArtifactNotFound"
    ACCESS_DENIED = "AccessDenied"
    DIGEST_MISMATCH = "DigestMismatch"
    SOURCE_UNREACHABLE = "SourceUnreachable"
    SOURCE_NOT_RESOLVED = "SourceNotResolved"
    SOURCE_NOT_TRUSTED = "SourceNotTrusted"
    INSUFFICIENT_STORAGE = "InsufficientStorage"
    UNKNOWN_FORMAT = "UnknownFormat"
    FORMAT_UNAVAILABLE = "FormatUnavailable"
    INVALID_ARTIFACT = "InvalidArtifact"
    PICKLE_NOT_ALLOWED = "PickleNotAllowed"
    DEVICE_UNAVAILABLE = "DeviceUnavailable"
    OUT_OF_MEMORY = "OutOfMemory"
    WARMUP_FAILED = "WarmupFailed"
    VERIFICATION_FAILED = "VerificationFailed"
    SIGNATURE_MISMATCH = "SignatureMismatch"
    INVALID_HANDLER = "InvalidHandler"
    STARTUP_TIMEOUT = "StartupTimeout"
    INVALID_SETTINGS = "InvalidSettings"


class StartupError(ModelyardRuntimeError):
    """The container cannot do its work and ends.

    Args:
        reason: The word that the operator shows.
        message: What happened, naming the file, setting or address.
        hint: What a person can do about it.
        retryable: Whether the same container may succeed later.
    """

    def __init__(
        self, reason: Reason, message: str, *, hint: str = "", retryable: bool = False
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.hint = hint
        self.retryable = retryable

    def as_document(self) -> dict[str, Any]:
        """Return the termination message of the contract.

        Returns:
            ``reason``, ``message``, ``hint`` and ``retryable``.
        """
        return {
            "reason": str(self.reason),
            "message": self.message,
            "hint": self.hint,
            "retryable": self.retryable,
        }


def port_taken(variable: str, host: str, port: int, problem: str = "") -> StartupError:
    """Say that a port cannot be listened on.

    Args:
        variable: Environment variable that names the port.
        host: Address.
        port: The port.
        problem: What the system says.

    Returns:
        ``InvalidSettings``, to be raised.
    """
    return StartupError(
        Reason.INVALID_SETTINGS,
        f"{variable}: cannot listen on {host}:{port}{problem and f': {problem}'}",
        hint="Another process has the port: end it, or name another port.",
    )
