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
from modelyard_runtime.records.ending import Ending

if TYPE_CHECKING:
    from modelyard_runtime.call import Call
    from modelyard_runtime.metrics import RuntimeMetrics
    from modelyard_runtime.model_metrics import ModelMetrics
    from modelyard_runtime.records.access_log import AccessLog
    from modelyard_runtime.records.audit import Audit
    from modelyard_runtime.shadow.sender import ShadowSender

_log = structlog.stdlib.get_logger(__name__)


class Journal:
    """Turns finished calls into metrics and records.

    Args:
        metrics: Where they are counted.
        audit: Where predictions are recorded.
        access_log: Where requests are logged.
        shadow: Who copies answered requests.
    """

    def __init__(
        self, metrics: RuntimeMetrics, audit: Audit, access_log: AccessLog, shadow: ShadowSender
    ) -> None:
        self._metrics = metrics
        self._audit = audit
        self._access_log = access_log
        self._shadow = shadow

    def finish(self, call: Call, code: int, error: BaseException | None = None) -> None:
        """Note the end of a call.

        Args:
            call: The call.
            code: Its HTTP status, whatever the protocol; 499 when the caller left.
            error: What ended it, unless it was answered.
        """
        if isinstance(error, InferenceError):
            _log.error("model failed", request_id=call.request_id, exc_info=error)
        if call.span is not None:
            call.span.end(call, code, error)
        if call.shadow:
            return
        metrics = self._metrics.own if call.served is None else call.served.metrics
        if error is not None:
            _count(metrics, error)
        else:
            metrics.stages(decode_s=call.decode_s, wait_s=call.wait_s, encode_s=call.encode_s)
            self._shadow.offer(call)
        if call.served is not None:
            call.served.statistics.request_done(call, succeeded=error is None)
        duration_s = time.perf_counter() - call.started
        metrics.request_done(call.protocol, code, duration_s, call.trace_id)
        logged = self._access_log.wants(code)
        if not (logged or self._audit.on):
            return
        ending = Ending(call, code, error, time.time(), duration_s, _labels(call, metrics))
        if logged:
            self._access_log.note(ending)
        if self._audit.on:
            self._audit.note(ending)

    def close(self, timeout_s: float) -> None:
        """Take no more calls, and write down those that have ended.

        Args:
            timeout_s: Longest time for that, in seconds.
        """
        for records in (self._audit, self._access_log):
            records.close()
        for records in (self._audit, self._access_log):
            records.flush(timeout_s)


def _labels(call: Call, metrics: ModelMetrics) -> dict[str, str]:
    """Name the model as the metrics do; a request for none that is known names none."""
    return metrics.labels if call.served is not None else {**metrics.labels, "model": ""}


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
