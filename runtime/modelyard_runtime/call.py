"""One request's journey through the process, whatever protocol it came by."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from modelyard_runtime.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from modelyard_runtime.inference import ServedModel
    from modelyard_runtime.tracing.spans import RequestSpan


@dataclass(slots=True)
class Call:
    """What is known of a request; filled in on its way, read by the journal at its end.

    Attributes:
        request_id: Echoed or made.
        protocol: ``rest``, ``grpc``, ``v1``, ``predict`` or ``generate``.
        started: ``time.perf_counter`` when its head arrived.
        deadline: On the event loop's clock, in seconds; the caller's own until the model is found,
            which then shortens it to its own.
        priority: Lower is served first; 0 is the default.
        principal: Who asks, where callers are authenticated.
        source: The caller's address.
        caller: Whose limits it counts against, while it is inside.
        shadow: A copy of another request, which counts nowhere.
        header: Looks a request header (gRPC: metadata) up by its lower-case name.
        span: What records it, where it is traced.
        traceparent: The W3C trace context to hand on, where tracing is on.
        trace_id: Of the trace that records it, in hexadecimal; empty when none does.
        served: The model, once it is found.
        rows: Rows in the request, once it is decoded.
        question: The decoded request, for those who record payloads.
        outputs: The answer, likewise.
        cached: Whether another request's answer was taken.
        asked: ``time.perf_counter`` when it was decoded and the model was asked; 0: not yet.
        decode_s: Wire to arrays, in seconds.
        wait_s: In the queue and in the model, in seconds.
        encode_s: Arrays to wire, in seconds.
    """

    request_id: str
    protocol: str
    started: float
    deadline: float
    priority: int = 0
    principal: str = ""
    source: str = ""
    caller: str = ""
    shadow: bool = False
    header: Callable[[str], str | None] | None = None
    span: RequestSpan | None = None
    traceparent: str = ""
    trace_id: str = ""
    served: ServedModel | None = None
    rows: int = 0
    question: Any = None
    outputs: Any = None
    cached: bool = False
    asked: float = 0.0
    decode_s: float = 0.0
    wait_s: float = 0.0
    encode_s: float = 0.0


def shorten(call: Call, most_s: float) -> None:
    """Move a call's deadline forward, never back.

    Args:
        call: The request's journey.
        most_s: Time that it may take since its head arrived, in seconds.
    """
    elapsed = time.perf_counter() - call.started
    call.deadline = min(call.deadline, time.monotonic() - elapsed + most_s)


def apply_parameters(parameters: Mapping[str, Any], call: Call) -> None:
    """Note the request parameters that the protocol reserves.

    Args:
        parameters: ``timeout`` in microseconds, which only shortens the server's; ``priority``.
        call: The request's journey.

    Raises:
        InvalidInputError: One of them is not a number of at least 0.

    References:
        Triton, "Schedule Policy Extension".
    """
    for word in ("timeout", "priority"):
        value = parameters.get(word, 0)
        if type(value) is not int or value < 0:
            raise InvalidInputError(
                f"parameter {word!r} must be an integer of at least 0, got {str(value)[:40]}"
            )
    if timeout := parameters.get("timeout"):
        shorten(call, timeout / 1e6)
    call.priority = parameters.get("priority", 0)
