"""How a request ended, as every record of it says it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from modelyard_runtime.errors import ClientGoneError, RequestError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from modelyard_runtime.call import Call


@dataclass(frozen=True, slots=True)
class Ending:
    """The end of a call.

    Attributes:
        call: The call.
        code: HTTP status, whatever the protocol; 499 when the caller left.
        error: What ended it, unless it was answered.
        at: When, in seconds since the epoch.
        duration_s: Since its head arrived, in seconds.
        labels: ``model``, ``version`` and ``revision``, as the metrics have them.
    """

    call: Call
    code: int
    error: BaseException | None
    at: float
    duration_s: float
    labels: Mapping[str, str]

    @property
    def outcome(self) -> str:
        """One word: ``ok``, the error's code, ``cancelled`` or ``internal``."""
        if self.error is None:
            return "ok" if self.code < 400 else "internal"  # noqa: PLR2004 - an HTTP status
        if isinstance(self.error, RequestError):
            return self.error.code
        return "cancelled" if isinstance(self.error, ClientGoneError) else "internal"

    def document(self) -> dict[str, Any]:
        """Describe it.

        Returns:
            Plain values; the payload is none of them.
        """
        call = self.call
        return {
            "time": datetime.fromtimestamp(self.at, UTC).isoformat(timespec="milliseconds"),
            "request_id": call.request_id,
            "trace_id": call.trace_id,
            "protocol": call.protocol,
            **self.labels,
            "principal": call.principal,
            "source": call.source,
            "code": self.code,
            "outcome": self.outcome,
            "rows": call.rows,
            "cached": call.cached,
            "duration_ms": round(self.duration_s * 1000, 3),
        }
