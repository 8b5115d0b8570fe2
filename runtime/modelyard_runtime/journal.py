"""What is told of a request when it ends: one place for every protocol."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import structlog

from modelyard_runtime.errors import (
    ClientGoneError,
    DeadlineExceededError,
    ForbiddenError,
    InferenceError,
    NonFiniteOutputError,
    OverloadedError,
    TooLargeError,
    UnauthorizedError,
)

if TYPE_CHECKING:
    from modelyard_runtime.call import Call
    from modelyard_runtime.metrics import RuntimeMetrics
    from modelyard_runtime.model_metrics import ModelMetrics

_log = structlog.stdlib.get_logger(__name__)


class Journal:
    """Turns finished calls into metrics and log lines.

    Args:
        metrics: Where they are counted.
    """

    def __init__(self, metrics: RuntimeMetrics) -> None:
        self._metrics = metrics

    def finish(self, call: Call, code: int, error: BaseException | None = None) -> None:
        """Note the end of a call.

        Args:
            call: The call.
            code: Its HTTP status, whatever the protocol; 499 when the caller left.
            error: What ended it, unless it was answered.
        """
        if isinstance(error, InferenceError):
            _log.error("model failed", request_id=call.request_id, exc_info=error)
        if call.shadow:
            return
        metrics = self._metrics.own if call.served is None else call.served.metrics
        if error is not None:
            _count(metrics, error)
        else:
            metrics.stages(decode_s=call.decode_s, wait_s=call.wait_s, encode_s=call.encode_s)
        if call.served is not None:
            call.served.statistics.request_done(call, succeeded=error is None)
        metrics.request_done(call.protocol, code, time.perf_counter() - call.started)


def _count(metrics: ModelMetrics, error: BaseException) -> None:
    """Count what an answer alone would hide."""
    if isinstance(error, OverloadedError):
        metrics.rejected(error.reason)
    elif isinstance(error, TooLargeError):
        metrics.rejected("too_large")
    elif isinstance(error, DeadlineExceededError):
        metrics.rejected("expired")
    elif isinstance(error, NonFiniteOutputError):
        metrics.invalid_output()
    elif isinstance(error, (UnauthorizedError, ForbiddenError)):
        metrics.rejected("unauthorized")
    elif isinstance(error, ClientGoneError):
        metrics.rejected("cancelled")
