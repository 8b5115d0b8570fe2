"""The spans of a request: one for all of it, and one for each of its stages.

References:
    W3C, "Trace Context"; OpenTelemetry, "Tracing SDK" and "Semantic conventions for HTTP spans".
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

from opentelemetry.context import Context, attach
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace import SpanKind, StatusCode, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from modelyard_runtime import __version__
from modelyard_runtime.batching.calls import PASSAGE, Passage

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from opentelemetry.trace import Span, Tracer

    from modelyard_runtime.auth.authenticator import Header
    from modelyard_runtime.call import Call
    from modelyard_runtime.directives import TracingDirective

_TIMEOUT_S: Final = 5
_SERVER_ERROR: Final = 500
_SHIFT_S: Final = (
    0.0
    if time.get_clock_info("monotonic").implementation
    == time.get_clock_info("perf_counter").implementation
    else time.perf_counter() - time.monotonic()
)
"""From the batcher's clock to that of calls; on Linux they are the same."""
_PROPAGATOR: Final = TraceContextTextMapPropagator()


class Spans:
    """Begins spans, and sends those that have ended.

    Args:
        directive: Where they go, and how many begin here; a caller's own decision is followed.
        resource: What every span says of the process.
    """

    def __init__(self, directive: TracingDirective, resource: Mapping[str, str]) -> None:
        endpoint = f"{directive.otlp_endpoint.rstrip('/')}/v1/traces"
        exporter = OTLPSpanExporter(endpoint=endpoint, timeout=_TIMEOUT_S)
        self._provider = TracerProvider(
            sampler=ParentBased(TraceIdRatioBased(directive.sampling_ratio)),
            resource=Resource.create({**resource, "service.version": __version__}),
            shutdown_on_exit=False,
        )
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("modelyard_runtime", __version__)

    def begin(self, call: Call, header: Header) -> None:
        """Begin the span of a request, as the child of its caller's.

        Args:
            call: The request; it has the span, and the trace context to hand on, from now on.
            header: Looks a request header (gRPC: metadata) up by its lower-case name.
        """
        found = {name: header(name) for name in ("traceparent", "tracestate")}
        carrier = {name: value for name, value in found.items() if value is not None}
        parent = _PROPAGATOR.extract(carrier, Context())
        offset_s = time.time() - time.perf_counter()
        span = self._tracer.start_span(
            "inference", parent, SpanKind.SERVER, start_time=_ns(call.started + offset_s)
        )
        context = set_span_in_context(span, parent)
        # The request's task ends with the request, and with it what is attached here. Until then the
        # hooks' own clients, where they are instrumented, find whose children they are.
        attach(context)
        _PROPAGATOR.inject(carrier, context)
        call.traceparent = carrier["traceparent"]
        if span.is_recording():
            call.trace_id = f"{span.get_span_context().trace_id:032x}"
            passage = Passage()
            PASSAGE.set(passage)
            call.span = RequestSpan(self._tracer, span, context, passage, offset_s)

    def close(self) -> None:
        """Send what has ended; takes as long as the endpoint does."""
        self._provider.shutdown()


class RequestSpan:
    """The recorded span of one request.

    Args:
        tracer: Begins its children.
        span: The span.
        context: In which it is the current one.
        passage: Told when the request is in the model.
        offset_s: From ``time.perf_counter`` to the epoch; one for all, so that they stay in order.
    """

    def __init__(
        self, tracer: Tracer, span: Span, context: Context, passage: Passage, offset_s: float
    ) -> None:
        self._tracer = tracer
        self._span = span
        self._context = context
        self._passage = passage
        self._offset_s = offset_s

    def end(self, call: Call, code: int, error: BaseException | None) -> None:
        """End it, and tell where the time went.

        Args:
            call: The request.
            code: Its HTTP status.
            error: What ended it, unless it was answered.
        """
        offset_s = self._offset_s
        for name, begin_s, end_s in _stages(call, self._passage):
            child = self._tracer.start_span(name, self._context, start_time=_ns(begin_s + offset_s))
            child.end(_ns(end_s + offset_s))
        self._span.set_attributes(_attributes(call, code))
        if call.served is not None:
            self._span.update_name(f"inference {call.served.name}")
        if error is not None:
            self._span.set_attribute("error.type", getattr(error, "code", type(error).__name__))
        if code >= _SERVER_ERROR:
            self._span.set_status(StatusCode.ERROR)
        self._span.end(_ns(time.perf_counter() + offset_s))


def _stages(call: Call, passage: Passage) -> Iterator[tuple[str, float, float]]:
    """Yield the name, begin and end of each stage that the request has come to."""
    asked = call.asked
    if not asked:
        return
    answered = asked + call.wait_s
    yield "decode", asked - call.decode_s, asked
    if passage.began is None:
        yield "queue", asked, answered  # it left the queue without having been computed
    else:
        yield "queue", passage.queued + _SHIFT_S, passage.began + _SHIFT_S
        yield "forward", passage.began + _SHIFT_S, passage.ended + _SHIFT_S
    if call.encode_s:
        yield "encode", answered, answered + call.encode_s


def _attributes(call: Call, code: int) -> dict[str, Any]:
    attributes: dict[str, Any] = {
        "modelyard.request_id": call.request_id,
        "modelyard.protocol": call.protocol,
        "modelyard.rows": call.rows,
        "modelyard.cached": call.cached,
        "http.response.status_code": code,
        "client.address": call.source,
    }
    if call.served is not None:
        labels = call.served.metrics.labels
        attributes |= {f"modelyard.{name}": value for name, value in labels.items()}
    return attributes


def _ns(seconds: float) -> int:
    return round(seconds * 1e9)
