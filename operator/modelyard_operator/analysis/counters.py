"""From one pod's text of counters to requests and bad ones, metric by metric.

A counter only ever grows, until its process starts anew. What happened between two scrapes is the
difference; after a restart it is what the new process has counted. The labels that nobody asks
about, such as the protocol, are summed away.

References:
    https://prometheus.io/docs/instrumenting/exposition_formats/
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

from prometheus_client.parser import text_string_to_metric_families

from modelyard_operator.spec import MetricSpec

REQUESTS: Final = "modelyard_requests_total"
DURATIONS: Final = "modelyard_request_duration_seconds_bucket"
DURATIONS_COUNT: Final = "modelyard_request_duration_seconds_count"
INVALID_OUTPUT: Final = "modelyard_invalid_output_total"
BUILTIN_SERIES: Final = (REQUESTS, DURATIONS, DURATIONS_COUNT, INVALID_OUTPUT)

REJECTED_CODES: Final = frozenset({"400", "413", "415", "422"})
"""The caller's input is at fault, or a version that no longer takes what the one before took."""
UNCOUNTED_CODES: Final = frozenset({"401", "403", "404", "429", "499"})
"""What the model has no part in: rights, addresses, limits, and callers that leave."""
_OWN: Final = "modelyard_"
"""Handlers' counters cannot begin like that."""


class Series(NamedTuple):
    """A counter as analysis tells them apart."""

    name: str
    label: str = ""
    """Value of ``code``, or of ``le`` as a number in full, for counters that have one."""


Counters = Mapping[Series, float]
"""What the counters of one pod say, or by how much they grew."""


class Tally(NamedTuple):
    """What one metric makes of an interval."""

    n: float
    bad: float


class InvalidExpositionError(ValueError):
    """The text is not what a pod of the runtime answers."""


def parse_counters(text: str, names: Iterable[str]) -> dict[Series, float]:
    """Read counters from Prometheus text.

    Args:
        text: What ``/metrics`` answered.
        names: Samples to read, as they stand in the text; all others are skipped unparsed.

    Raises:
        InvalidExpositionError: A line of one of them is not Prometheus text, or a counter of the
            runtime's own is no number.
    """
    wanted = tuple(names)
    lines = [line for line in text.splitlines() if line.startswith(wanted)]
    found: defaultdict[Series, float] = defaultdict(float)
    try:
        for family in text_string_to_metric_families("\n".join([*lines, ""])):
            for sample in family.samples:
                if sample.name in wanted:
                    found[series_of(sample.name, sample.labels)] += _value(
                        sample.name, sample.value
                    )
    except ValueError as error:
        raise InvalidExpositionError(f"/metrics: expected Prometheus text: {error}") from error
    return dict(found)


def series_of(name: str, labels: Mapping[str, str]) -> Series:
    """Return the counter that a sample belongs to.

    Args:
        name: The sample's name.
        labels: Its labels.

    Raises:
        ValueError: ``le`` is no number.
    """
    if "le" in labels:
        return Series(name, _edge(float(labels["le"])))
    return Series(name, labels.get("code", ""))


def growth(before: Counters, now: Counters) -> dict[Series, float]:
    """Return what was counted between two scrapes of one pod.

    Args:
        before: The earlier scrape.
        now: The later one. If any counter is lower in it the process has started anew, and all that
            it has counted is new.
    """
    restarted = any(now.get(series, 0.0) < value for series, value in before.items())
    return {
        series: value if restarted else value - before.get(series, 0.0)
        for series, value in now.items()
    }


def tally(metric: MetricSpec, counted: Counters) -> Tally:
    """Return what a metric makes of counters: the requests that it looks at, and the bad ones.

    Args:
        metric: Any but a query.
        counted: Growth of one pod's counters.
    """
    if metric.builtin == "Slow":
        return _slow(metric, counted)
    codes = {series.label: value for series, value in counted.items() if series.name == REQUESTS}
    n = sum(value for code, value in codes.items() if code not in UNCOUNTED_CODES)
    if metric.builtin == "Errors":
        return Tally(n, sum(value for code, value in codes.items() if code.startswith("5")))
    if metric.builtin == "Rejected":
        return Tally(n, sum(codes.get(code, 0.0) for code in REJECTED_CODES))
    name = INVALID_OUTPUT if metric.builtin else sample_name(metric.counter or "")
    return Tally(n, counted.get(Series(name), 0.0))


def sample_name(counter: str) -> str:
    """Return how a handler's counter stands in the text, whether or not the user wrote the suffix."""
    return f"{counter.removesuffix('_total')}_total"


def series_names(metrics: Iterable[MetricSpec]) -> tuple[str, ...]:
    """Return the samples that metrics are computed from."""
    own = [sample_name(metric.counter) for metric in metrics if metric.counter]
    return (*BUILTIN_SERIES, *own)


def _slow(metric: MetricSpec, counted: Counters) -> Tally:
    total = counted.get(Series(DURATIONS_COUNT), 0.0)
    fast = counted.get(Series(DURATIONS, _edge((metric.threshold_milliseconds or 0) / 1000)), 0.0)
    return Tally(total, max(0.0, total - fast))


def _edge(seconds: float) -> str:
    """Return one text for an edge of a histogram, however it was written."""
    return repr(float(seconds))


def _value(name: str, value: float) -> float:
    if name.startswith(_OWN) and not math.isfinite(value):
        raise ValueError(f"{name}: expected a finite number, got {value}")
    return value
