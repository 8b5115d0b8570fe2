"""What the process counts: its own series, and the way to those of its models."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

from modelyard_runtime import __version__
from modelyard_runtime.counters import Counters
from modelyard_runtime.gpu_metrics import GpuCollector
from modelyard_runtime.model_metrics import Families

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from modelyard_runtime.lifecycle import State
    from modelyard_runtime.model_metrics import ModelMetrics
    from modelyard_runtime.settings import RuntimeSettings

_SHADOW: Final[Mapping[str, str]] = {
    "requests": "Copies of requests that another revision answered.",
    "agreements": "Copies that it answered alike.",
    "disagreements": "Copies that it answered otherwise.",
    "errors": "Copies that it did not answer.",
    "dropped": "Copies not sent: too many were waiting, too large, or nobody was reached.",
}
_LAG_BUCKETS_S = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0)


class RuntimeMetrics:
    """All series of one process.

    Args:
        settings: Where the labels come from.
    """

    def __init__(self, settings: RuntimeSettings) -> None:
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        GpuCollector(registry)
        self._revision = settings.revision
        Gauge(
            "modelyard_build_info", "1, labelled with the version.", ("runtime",), registry=registry
        ).labels(__version__).set(1)
        self._families = Families(registry)
        self._counters = Counters(registry)
        self.own: ModelMetrics = self.model(settings.model_name or "", settings.model_version)
        """Of the model that the process was started for; also of requests that name no known one."""
        labels = {
            "model": settings.model_name or "",
            "version": settings.model_version,
            "revision": settings.revision,
        }
        self._inflight = Gauge(
            "modelyard_inflight_requests", "Inference requests inside.", labels, registry=registry
        ).labels(**labels)
        self._reloads = Counter(
            "modelyard_directives_reloads",
            "Directives read after a change, by result.",
            (*labels, "result"),
            registry=registry,
        )
        self._applied = self._reloads.labels(**labels, result="applied")
        self._refused = self._reloads.labels(**labels, result="rejected")
        self._shadow = {
            name: Counter(f"modelyard_shadow_{name}", text, labels, registry=registry).labels(
                **labels
            )
            for name, text in _SHADOW.items()
        }
        self._audit_dropped = Counter(
            "modelyard_audit_dropped", "Audit lines lost to a slow sink.", registry=registry
        )
        self._tasks = Gauge(
            "modelyard_event_loop_tasks", "Tasks that the event loop has.", registry=registry
        )
        self._loop_lag = Histogram(
            "modelyard_event_loop_lag_seconds",
            "How late the event loop is for a timer.",
            buckets=_LAG_BUCKETS_S,
            registry=registry,
        )

    def model(self, name: str, version: str) -> ModelMetrics:
        """Begin to write the series of a model.

        Args:
            name: The served name.
            version: The version, as the label is to say it.

        Returns:
            The series; ``close`` them when the model is unloaded. The same name and version may be
            asked for again before that, for a model that replaces the other.
        """
        return self._families.use((name, version, self._revision))

    def counters(self, name: str, version: str) -> Callable[[str, float], None]:
        """Let a model's handler count.

        Args:
            name: The served name.
            version: The version, as the label is to say it.

        Returns:
            Takes a counter's name and an amount; may be called from any thread.
        """
        return self._counters.of(name, version, self._revision)

    def directives_read(self, *, applied: bool) -> None:
        """Count a change of the directives file.

        Args:
            applied: Whether it was valid.
        """
        (self._applied if applied else self._refused).inc()

    def follow_inflight(self, reading: Callable[[], float]) -> None:
        """Read the requests inside the process when they are scraped.

        Args:
            reading: Gives their number.
        """
        self._inflight.set_function(reading)

    def follow_tasks(self, reading: Callable[[], float]) -> None:
        """Count the event loop's tasks when they are scraped: what leaks shows here first.

        Args:
            reading: Gives their number; called from another thread.
        """
        self._tasks.set_function(reading)

    def entered(self, state: State, previous: State | None) -> None:
        """Note a change of the process's state.

        Args:
            state: The state entered.
            previous: The state left.
        """
        self.own.entered(state, previous)

    def shadow(self, outcome: str) -> None:
        """Count one copy of a request.

        Args:
            outcome: ``requests``, ``agreements``, ``disagreements``, ``errors`` or ``dropped``.
        """
        self._shadow[outcome].inc()

    def audit_dropped(self) -> None:
        """Count an audit line that could not be written."""
        self._audit_dropped.inc()

    def loop_lag(self, seconds: float) -> None:
        """Note how late the event loop was.

        Args:
            seconds: Since the timer was due, in seconds.
        """
        self._loop_lag.observe(seconds)
