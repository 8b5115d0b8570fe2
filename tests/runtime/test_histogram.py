"""Our histogram beside the client library's: the same text, whatever is observed."""

from __future__ import annotations

from typing import Any

import prometheus_client
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics

from modelyard_runtime.histogram import Histogram

BUCKETS = (0.0001, 0.001, 0.25, 1, 10, 256)
VALUES = st.floats(min_value=0, max_value=1000) | st.sampled_from([*map(float, BUCKETS)])


def text_of(registry: CollectorRegistry) -> list[str]:
    text = generate_latest(registry).decode()
    return [line for line in text.splitlines() if "_created" not in line]


def both() -> tuple[tuple[CollectorRegistry, Any], tuple[CollectorRegistry, Any]]:
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    words = ("modelyard_x", "What it says.", ("model", "stage"))
    return (
        (ours, Histogram(*words, buckets=BUCKETS, registry=ours)),
        (theirs, prometheus_client.Histogram(*words, buckets=BUCKETS, registry=theirs)),
    )


@given(st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from("cd"), VALUES)))
def test_it_says_what_the_client_library_says(seen: list[tuple[str, str, float]]) -> None:
    arms = both()
    for _, histogram in arms:
        for model, stage, value in seen:
            histogram.labels(model, stage).observe(value)
    (ours, mine), (theirs, other) = arms
    assert text_of(ours) == text_of(theirs)
    mine.remove_by_labels({"model": "a"})
    other.remove_by_labels({"model": "a"})
    assert text_of(ours) == text_of(theirs)


def test_an_example_is_shown_in_its_bucket() -> None:
    (registry, histogram), _ = both()
    histogram.labels("a", "c").observe(0.5, {"trace_id": "t"})
    text: str = generate_openmetrics(registry).decode()  # type: ignore[no-untyped-call]
    lines = [line for line in text.splitlines() if "#" in line]
    (line,) = [line for line in lines if "trace_id" in line]
    assert 'le="1.0"' in line
    assert '{trace_id="t"} 0.5' in line
