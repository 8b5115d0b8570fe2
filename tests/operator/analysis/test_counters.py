import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest

from modelyard_operator.analysis.counters import (
    InvalidExpositionError,
    Series,
    Tally,
    growth,
    parse_counters,
    series_names,
    tally,
)
from modelyard_operator.analysis.ledger import Ledger
from modelyard_operator.spec import MetricSpec
from modelyard_runtime.metrics import RuntimeMetrics
from modelyard_runtime.model_metrics import DURATION_BUCKETS_S
from modelyard_runtime.settings import RuntimeSettings

ERRORS = MetricSpec(name="errors", builtin="Errors")
REJECTED = MetricSpec(name="rejected", builtin="Rejected")
SLOW = MetricSpec(name="slow", builtin="Slow", threshold_milliseconds=500)
INVALID = MetricSpec(name="invalid", builtin="InvalidOutput")
FALLBACK = MetricSpec(name="fallback", counter="fraud_fallback_total")
ALL = (ERRORS, REJECTED, SLOW, INVALID, FALLBACK)


def runtime_metrics() -> RuntimeMetrics:
    return RuntimeMetrics(
        RuntimeSettings(model_name="fraud", model_version="8", revision="fraud-91ab44d0")
    )


def read(registry: CollectorRegistry) -> dict[Series, float]:
    return parse_counters(generate_latest(registry).decode(), series_names(ALL))


def test_every_metric_reads_what_the_runtime_itself_counts() -> None:
    metrics = runtime_metrics()
    count = metrics.counters("fraud", "8")
    for code, times in ((200, 10), (500, 2), (503, 1), (400, 3), (422, 1), (404, 5), (429, 7)):
        for _ in range(times):
            metrics.own.request_done("http", code, 0.01)
    metrics.own.request_done("grpc", 200, 0.6)
    metrics.own.request_done("grpc", 504, 0.5)
    metrics.own.invalid_output()
    count("fraud_fallback_total", 4)
    counters = read(metrics.registry)
    assert tally(ERRORS, counters) == Tally(19, 4)
    assert tally(REJECTED, counters) == Tally(19, 4)
    assert tally(SLOW, counters) == Tally(31, 1)
    assert tally(INVALID, counters) == Tally(19, 1)
    assert tally(FALLBACK, counters) == Tally(19, 4)


def test_every_threshold_that_the_schema_takes_is_an_edge_of_the_ladder() -> None:
    metrics = runtime_metrics()
    for edge in DURATION_BUCKETS_S:
        metrics.own.request_done("http", 200, edge)
    counters = read(metrics.registry)
    for edge in DURATION_BUCKETS_S:
        if edge == 0.0025:
            continue  # it has no whole number of milliseconds
        slow = MetricSpec(name="slow", builtin="Slow", threshold_milliseconds=int(edge * 1000))
        above = sum(other > edge for other in DURATION_BUCKETS_S)
        assert tally(slow, counters) == Tally(len(DURATION_BUCKETS_S), above)


def test_a_counter_is_found_with_and_without_its_suffix() -> None:
    counters = parse_counters("a_total 3\na_b_total 9\n", ("a_total",))
    assert counters == {Series("a_total"): 3.0}
    assert tally(MetricSpec(name="a", counter="a"), counters).bad == 3
    assert tally(MetricSpec(name="a", counter="a_total"), counters).bad == 3


def test_what_nobody_asks_for_is_not_even_parsed() -> None:
    assert parse_counters('broken{"\na_total 1\n', ("a_total",)) == {Series("a_total"): 1.0}


@pytest.mark.parametrize(
    "line", ["a_total{", "a_total x", 'a_total{code="5', 'a_total{le="wide"} 1']
)
def test_a_line_that_is_no_sample_is_refused(line: str) -> None:
    with pytest.raises(InvalidExpositionError, match="expected Prometheus text"):
        parse_counters(line, ("a_total",))


@pytest.mark.parametrize("value", ["NaN", "+Inf"])
def test_a_counter_of_the_runtime_is_a_number_and_a_handlers_may_not_be(value: str) -> None:
    with pytest.raises(InvalidExpositionError, match="expected a finite number"):
        parse_counters(f"modelyard_requests_total {value}", ("modelyard_requests_total",))
    assert parse_counters(f"a_total {value}", ("a_total",)).keys() == {Series("a_total")}


amounts = st.dictionaries(
    st.sampled_from([Series("a"), Series("b", "500"), Series("b", "200")]), st.integers(0, 50)
)


@given(amounts, amounts)
def test_what_grew_is_the_difference(before: dict[Series, int], more: dict[Series, int]) -> None:
    now = {key: before.get(key, 0) + more.get(key, 0) for key in before | more}
    grown = growth(before, now)
    assert {key: value for key, value in grown.items() if value} == {
        key: value for key, value in more.items() if value
    }


def test_after_a_restart_everything_counts_even_what_is_higher_than_before() -> None:
    before = {Series("a"): 10.0, Series("b"): 1.0}
    assert growth(before, {Series("a"): 2.0, Series("b"): 5.0}) == {
        Series("a"): 2.0,
        Series("b"): 5.0,
    }
    assert growth(before, {Series("b"): 5.0}) == {Series("b"): 5.0}


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 9)), max_size=30), st.integers(0, 99))
def test_a_ledger_never_counts_more_than_happened(
    scrapes: list[tuple[bool, int]], already: int
) -> None:
    """A pod restarts or not, answers some more requests, and is scraped."""
    ledger, value, happened, counted = Ledger(), already, 0, 0.0
    ledger.grown({"pod": {Series("a"): value}})
    for restarts, more in scrapes:
        value = more if restarts else value + more
        happened += more
        counted += sum(one[Series("a")] for one in ledger.grown({"pod": {Series("a"): value}}))
    assert counted <= happened
    if not any(restarts for restarts, _ in scrapes):
        assert counted == happened


def test_a_pod_begins_with_nothing_and_loses_nothing_by_not_answering() -> None:
    ledger = Ledger()
    assert ledger.grown({"p": {Series("a"): 7.0}}) == []
    assert ledger.grown({"q": {Series("a"): 1.0}}) == []
    assert ledger.grown({"p": {Series("a"): 9.0}, "q": {Series("a"): 1.0}}) == [
        {Series("a"): 2.0},
        {Series("a"): 0.0},
    ]
