"""What the runtime counts; children are bound once, so that a request costs a few additions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

from modelyard_runtime import __version__

if TYPE_CHECKING:
    from collections.abc import Callable

    from modelyard_runtime.lifecycle import State
    from modelyard_runtime.settings import RuntimeSettings

DURATION_BUCKETS_S: Final = (
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
    10.0,
    30.0,
    60.0,
)
"""The ladder of the contract; the operator's analysis reads it."""
_STAGE_BUCKETS_S: Final = (0.0001, 0.001, 0.01, 0.1, 1.0, 10.0)
_ROWS_BUCKETS: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256)
_LABELS: Final = ("model", "version", "revision")


class RuntimeMetrics:
    """All series of one process.

    Args:
        settings: Where the labels come from.
    """

    def __init__(self, settings: RuntimeSettings) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        self._names = (settings.model_name, settings.model_version, settings.revision)
        registry = self.registry
        Gauge(
            "modelyard_build_info", "1, labelled with the version.", ("runtime",), registry=registry
        ).labels(__version__).set(1)
        self._requests = Counter(
            "modelyard_requests",
            "Inference requests answered, by protocol and HTTP status.",
            (*_LABELS, "protocol", "code"),
            registry=registry,
        )
        self._codes: dict[int, Counter] = {}
        self._duration = Histogram(
            "modelyard_request_duration_seconds",
            "Time from a request's head to its answer.",
            _LABELS,
            buckets=DURATION_BUCKETS_S,
            registry=registry,
        ).labels(*self._names)
        self._rejected = Counter(
            "modelyard_rejected",
            "Requests not served for want of room or time.",
            (*_LABELS, "reason"),
            registry=registry,
        )
        self._invalid_output = Counter(
            "modelyard_invalid_output",
            "Answers that held NaN or infinity.",
            _LABELS,
            registry=registry,
        ).labels(*self._names)
        self._inflight = self._gauge("modelyard_inflight_requests", "Inference requests inside.")
        self._queue = self._gauge("modelyard_queue_requests", "Inference requests that wait.")
        self._load = self._gauge("modelyard_model_load_seconds", "Time to load and warm the model.")
        self._state = Gauge(
            "modelyard_model_state",
            "1 for the state the process is in.",
            (*_LABELS, "state"),
            registry=registry,
        )
        self._reloads = Counter(
            "modelyard_directives_reloads",
            "Directives read after a change, by result.",
            (*_LABELS, "result"),
            registry=registry,
        )
        for result in ("applied", "rejected"):
            self._reloads.labels(*self._names, result)
        self.model = ModelMetrics(registry, self._names)

    def request_done(self, code: int, duration_s: float) -> None:
        """Count one inference request.

        Args:
            code: HTTP status; 499 when the caller left.
            duration_s: Since its head arrived, in seconds.
        """
        child = self._codes.get(code)
        if child is None:
            child = self._codes[code] = self._requests.labels(*self._names, "rest", str(code))
        child.inc()
        self._duration.observe(duration_s)

    def rejected(self, reason: str) -> None:
        """Count a request that was turned away.

        Args:
            reason: ``overloaded``, ``too_large``, ``expired`` or ``cancelled``.
        """
        self._rejected.labels(*self._names, reason).inc()

    def invalid_output(self) -> None:
        """Count an answer that JSON cannot say."""
        self._invalid_output.inc()

    def directives_read(self, *, applied: bool) -> None:
        """Count a change of the directives file.

        Args:
            applied: Whether it was valid.
        """
        self._reloads.labels(*self._names, "applied" if applied else "rejected").inc()

    def follow(self, *, inflight: Callable[[], float], queued: Callable[[], float]) -> None:
        """Read the two gauges when they are scraped, not at every request.

        Args:
            inflight: Inference requests inside the process.
            queued: Inference requests that wait.
        """
        self._inflight.set_function(inflight)
        self._queue.set_function(queued)

    def loaded(self, seconds: float) -> None:
        """Note how long the model took to load and warm.

        Args:
            seconds: In seconds.
        """
        self._load.set(seconds)

    def entered(self, state: State, previous: State | None) -> None:
        """Note a change of state.

        Args:
            state: The state entered.
            previous: The state left.
        """
        if previous is not None:
            self._state.labels(*self._names, str(previous)).set(0)
        self._state.labels(*self._names, str(state)).set(1)

    def _gauge(self, name: str, text: str) -> Gauge:
        return Gauge(name, text, _LABELS, registry=self.registry).labels(*self._names)


class ModelMetrics:
    """The series that belong to one model's queue.

    Args:
        registry: Where they are registered.
        names: Values of the labels ``model``, ``version`` and ``revision``.
    """

    def __init__(self, registry: CollectorRegistry, names: tuple[str, str, str]) -> None:
        stages = Histogram(
            "modelyard_stage_duration_seconds",
            "Time in a stage: decode, wait (queue and forward) and encode per request, "
            "forward per batch.",
            (*_LABELS, "stage"),
            buckets=_STAGE_BUCKETS_S,
            registry=registry,
        )
        self._decode = stages.labels(*names, "decode")
        self._wait = stages.labels(*names, "wait")
        self._encode = stages.labels(*names, "encode")
        self._forward = stages.labels(*names, "forward")
        self._rows = Histogram(
            "modelyard_batch_size",
            "Rows in a batch.",
            _LABELS,
            buckets=_ROWS_BUCKETS,
            registry=registry,
        ).labels(*names)
        self._bisections = Counter(
            "modelyard_batch_bisections",
            "Batches halved to find the request that fails.",
            _LABELS,
            registry=registry,
        ).labels(*names)

    def stages(self, *, decode_s: float, wait_s: float, encode_s: float) -> None:
        """Note where one request's time went.

        Args:
            decode_s: JSON to arrays, in seconds.
            wait_s: In the queue and in the model, in seconds.
            encode_s: Arrays to JSON, in seconds.
        """
        self._decode.observe(decode_s)
        self._wait.observe(wait_s)
        self._encode.observe(encode_s)

    def batch_done(self, *, rows: int, requests: int, run_s: float, bisections: int) -> None:  # noqa: ARG002 - the observer's protocol
        """Note one batch.

        Args:
            rows: Rows in it.
            requests: Requests in it.
            run_s: Time in the model, in seconds.
            bisections: How often it was halved.
        """
        self._rows.observe(rows)
        self._forward.observe(run_s)
        if bisections:
            self._bisections.inc(bisections)
