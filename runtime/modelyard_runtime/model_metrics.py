"""The series of one model; children are bound once, so that a request costs a few additions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, get_args

from prometheus_client import Counter, Gauge

from modelyard_runtime.batching.calls import Trigger
from modelyard_runtime.histogram import Histogram

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from prometheus_client import CollectorRegistry

    from modelyard_runtime.batching.calls import BatchReport
    from modelyard_runtime.lifecycle import State

    Reading = Callable[[], float]
    Labels = tuple[str, str, str]

DURATION_BUCKETS_S: Final = (
    *(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5),
    *(1.0, 2.5, 5.0, 10.0, 30.0, 60.0),
)
"""The ladder of the contract; the operator's analysis reads it."""
_STAGE_BUCKETS_S: Final = (0.0001, 0.001, 0.01, 0.1, 1.0, 10.0)
_ROWS_BUCKETS: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256)
_RATIO_BUCKETS: Final = (0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0)
_LABELS: Final = ("model", "version", "revision")

_READINGS: Final[Mapping[str, str]] = {
    "queue_requests": "Inference requests that wait.",
    "queue_bytes": "Bytes of the tensors that wait.",
    "controller_max_batch": "Rows that a batch may hold at present.",
    "controller_wait_seconds": "Time that a batch may wait to fill at present.",
    "controller_predicted_drain_seconds": "Time until all that waits will have been answered.",
    "cache_bytes": "Bytes of the answers that are kept.",
}
"""Gauges that are read when they are scraped, and their help."""
_HELP: Final[Mapping[str, str]] = {
    **_READINGS,
    "requests": "Inference requests answered.",
    "rejected": "Requests not served for want of room, time or rights.",
    "invalid_output": "Answers that held NaN or infinity.",
    "batches": "Batches run, by what made them leave.",
    "batch_bisections": "Batches halved to find the request that fails.",
    "poison_requests": "Requests found guilty of their batch's failure.",
    "cache_hits": "Requests answered from the cache.",
    "cache_misses": "Requests not in the cache.",
    "model_state": "1 for the state it is in.",
    "model_load_seconds": "Time to load and warm the model.",
    "model_memory_bytes": "Memory of the model.",
    "request_duration_seconds": "Time from a request's head to its answer.",
    "stage_duration_seconds": "Time in a stage: decode, wait (queue and forward) and encode per "
    "request, forward per batch.",
    "time_to_first_output_seconds": "Time from a stream's request to its first part.",
    "batch_size": "Rows in a batch.",
    "batch_fill_ratio": "Rows in a batch, of those that it may hold.",
    "padding_ratio": "Rows of a batch that are padding.",
}
_SUMMED: Final = frozenset({"queue_requests", "queue_bytes", "cache_bytes"})
"""While a model is replaced both have a queue; of the other readings the newest model's counts."""


class Families:
    """Every family that has a model's labels, and who is using which labels.

    Args:
        registry: Where they are registered.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry
        self.requests = self._add(Counter, "requests", "protocol", "code")
        self.rejected = self._add(Counter, "rejected", "reason")
        self.invalid_output = self._add(Counter, "invalid_output")
        self.batches = self._add(Counter, "batches", "trigger")
        self.bisections = self._add(Counter, "batch_bisections")
        self.poison = self._add(Counter, "poison_requests")
        self.cache_hits = self._add(Counter, "cache_hits")
        self.cache_misses = self._add(Counter, "cache_misses")
        self.state = self._add(Gauge, "model_state", "state")
        self.load = self._add(Gauge, "model_load_seconds")
        self.memory = self._add(Gauge, "model_memory_bytes", "kind")
        self.readings = {name: self._add(Gauge, name) for name in _READINGS}
        self.duration = self._histogram("request_duration_seconds", DURATION_BUCKETS_S)
        self.stages = self._histogram("stage_duration_seconds", _STAGE_BUCKETS_S, "stage")
        self.first_output = self._histogram("time_to_first_output_seconds", DURATION_BUCKETS_S)
        self.rows = self._histogram("batch_size", _ROWS_BUCKETS)
        self.fill = self._histogram("batch_fill_ratio", _RATIO_BUCKETS)
        self.padding = self._histogram("padding_ratio", (0.0, *_RATIO_BUCKETS))
        self._users: dict[Labels, list[ModelMetrics]] = {}

    def use(self, labels: Labels) -> ModelMetrics:
        """Begin to write the series of a model.

        Args:
            labels: ``model``, ``version`` and ``revision``.

        Returns:
            The series; ``close`` them when the model is gone.
        """
        metrics = ModelMetrics(self, labels)
        self._users.setdefault(labels, []).append(metrics)
        return metrics

    def release(self, metrics: ModelMetrics, labels: Labels) -> None:
        """Stop writing; a model's last user takes its series away.

        Args:
            metrics: What ``use`` gave.
            labels: As given to ``use``.
        """
        users = self._users.get(labels, [])
        if metrics not in users:
            return
        users.remove(metrics)
        if users:
            return
        del self._users[labels]
        gone = dict(zip(_LABELS, labels, strict=True))
        for family in self._all():
            family.remove_by_labels(gone)

    def bind(self, name: str, labels: Labels) -> None:
        """Show a reading of all users of these labels.

        Args:
            name: A key of the readings.
            labels: Whose.
        """

        def read() -> float:
            found = [
                user.readings[name] for user in self._users.get(labels, ()) if name in user.readings
            ]
            if name in _SUMMED:
                return sum(reading() for reading in found)
            return found[-1]() if found else 0.0

        self.readings[name].labels(*labels).set_function(read)

    def _all(self) -> Iterable[Counter | Gauge | Histogram]:
        yield from (v for v in vars(self).values() if isinstance(v, (Counter, Gauge, Histogram)))
        yield from self.readings.values()

    def _add(self, kind: type[Any], name: str, *labels: str) -> Any:
        return kind(f"modelyard_{name}", _HELP[name], (*_LABELS, *labels), registry=self._registry)

    def _histogram(self, name: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
        return Histogram(
            f"modelyard_{name}",
            _HELP[name],
            (*_LABELS, *labels),
            buckets=buckets,
            registry=self._registry,
        )


class ModelMetrics:
    """What one loaded model counts.

    Two of the same name and version (one replaces the other) write the same series.

    Args:
        families: What it writes to.
        labels: ``model``, ``version`` and ``revision``.
    """

    def __init__(self, families: Families, labels: Labels) -> None:
        self._families = families
        self._labels = labels
        self.readings: dict[str, Reading] = {}
        self._codes: dict[tuple[str, int], Counter] = {}
        self._observe = families.duration.labels(*labels).observe
        self._decode = families.stages.labels(*labels, "decode").observe
        self._wait = families.stages.labels(*labels, "wait").observe
        self._encode = families.stages.labels(*labels, "encode").observe
        self._forward = families.stages.labels(*labels, "forward").observe
        self._rows = families.rows.labels(*labels).observe
        self._fill = families.fill.labels(*labels).observe
        self._batches = {word: families.batches.labels(*labels, word) for word in get_args(Trigger)}
        self._bisections = families.bisections.labels(*labels)
        self._poison = families.poison.labels(*labels)
        self._invalid_output = families.invalid_output.labels(*labels)

    @property
    def labels(self) -> dict[str, str]:
        """What tells its series from other models'."""
        return dict(zip(_LABELS, self._labels, strict=True))

    def request_done(self, protocol: str, code: int, duration_s: float, trace_id: str = "") -> None:
        """Count one inference request.

        Args:
            protocol: As in ``Call``.
            code: HTTP status; 499 when the caller left.
            duration_s: Since its head arrived, in seconds.
            trace_id: The recorded trace, shown as the exemplar; empty without one.
        """
        child = self._codes.get((protocol, code))
        if child is None:
            child = self._families.requests.labels(*self._labels, protocol, str(code))
            self._codes[protocol, code] = child
        child.inc()
        if trace_id:
            self._observe(duration_s, {"trace_id": trace_id})
        else:
            self._observe(duration_s)

    def rejected(self, reason: str) -> None:
        """Count a request that was turned away.

        Args:
            reason: ``queue_full``, ``predicted_late``, ``in_flight``, ``too_large``, ``expired``,
                ``cancelled``, ``rate_limited``, ``unauthorized`` or another word of a few.
        """
        self._families.rejected.labels(*self._labels, reason).inc()

    def invalid_output(self) -> None:
        """Count an answer that JSON cannot say."""
        self._invalid_output.inc()

    def stages(self, *, decode_s: float, wait_s: float, encode_s: float) -> None:
        """Note where one request's time went.

        Args:
            decode_s: Wire to arrays, in seconds.
            wait_s: In the queue and in the model, in seconds.
            encode_s: Arrays to wire, in seconds.
        """
        self._decode(decode_s)
        self._wait(wait_s)
        self._encode(encode_s)

    def first_output(self, seconds: float) -> None:
        """Note how long a stream took to begin.

        Args:
            seconds: Since its request's head, in seconds.
        """
        self._families.first_output.labels(*self._labels).observe(seconds)

    def batch_done(self, report: BatchReport) -> None:
        """Note one batch.

        Args:
            report: What became of it.
        """
        self._rows(report.rows)
        self._forward(report.run_s)
        self._fill(report.fill)
        self._batches[report.trigger].inc()
        if report.bisections:
            self._bisections.inc(report.bisections)
        if report.poisoned:
            self._poison.inc(report.poisoned)

    def padded(self, ratio: float) -> None:
        """Note how much of a batch was padding.

        Args:
            ratio: Padding, of all rows that the model saw.
        """
        self._families.padding.labels(*self._labels).observe(ratio)

    def cached(self, *, hit: bool) -> None:
        """Count a question to the cache.

        Args:
            hit: Whether it knew the answer.
        """
        family = self._families.cache_hits if hit else self._families.cache_misses
        family.labels(*self._labels).inc()

    def loaded(self, seconds: float) -> None:
        """Note how long the model took to load and warm.

        Args:
            seconds: In seconds.
        """
        self._families.load.labels(*self._labels).set(seconds)

    def memory(self, kind: str, reading: Reading) -> None:
        """Read what the model occupies when it is scraped.

        Args:
            kind: ``engine``: the process that holds it.
            reading: Gives bytes; called from the thread that answers the scrape.
        """
        self._families.memory.labels(*self._labels, kind).set_function(reading)

    def entered(self, state: State, previous: State | None) -> None:
        """Note a change of state.

        Args:
            state: The state entered.
            previous: The state left.
        """
        if previous is not None:
            self._families.state.labels(*self._labels, str(previous)).set(0)
        self._families.state.labels(*self._labels, str(state)).set(1)

    def follow(self, name: str, reading: Reading) -> None:
        """Read a gauge when it is scraped, not at every request.

        Args:
            name: ``queue_requests``, ``queue_bytes``, ``controller_max_batch``,
                ``controller_wait_seconds``, ``controller_predicted_drain_seconds`` or
                ``cache_bytes``.
            reading: Gives its value; called from the thread that answers the scrape.
        """
        self.readings[name] = reading
        self._families.bind(name, self._labels)

    def close(self) -> None:
        """Take the series away, unless another load of the same model writes them."""
        self._families.release(self, self._labels)
        self.readings.clear()  # they hold the model's queue, which holds this
