"""One request's journey through the process, whatever protocol it came by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from modelyard_runtime.inference import ServedModel


@dataclass(slots=True)
class Call:
    """What is known of a request; filled in on its way, read by the journal at its end.

    Attributes:
        request_id: Echoed or made.
        protocol: ``rest``, ``grpc``, ``v1``, ``predict`` or ``generate``.
        started: ``time.perf_counter`` when its head arrived.
        deadline: On the event loop's clock, in seconds.
        priority: Lower is served first; 0 is the default.
        principal: Who asks, where callers are authenticated.
        source: The caller's address.
        shadow: A copy of another request, which counts nowhere.
        traceparent: The caller's W3C trace context.
        served: The model, once it is found.
        rows: Rows in the request, once it is decoded.
        question: The decoded request, for those who record payloads.
        outputs: The answer, likewise.
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
    shadow: bool = False
    traceparent: str = ""
    served: ServedModel | None = None
    rows: int = 0
    question: Any = None
    outputs: Any = None
    decode_s: float = 0.0
    wait_s: float = 0.0
    encode_s: float = 0.0
