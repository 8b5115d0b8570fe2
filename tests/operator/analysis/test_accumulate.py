import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from modelyard_operator.analysis.accumulate import BURST, accumulate, evaluate
from modelyard_operator.analysis.counters import Tally
from modelyard_operator.analysis.sequential import e_value
from modelyard_operator.rollout.evidence import Counts, MetricEvidence
from modelyard_operator.spec import MetricSpec

ERRORS = MetricSpec(name="errors", builtin="Errors")
LIMITED = MetricSpec(name="errors", builtin="Errors", max="0.01")
DRIFT = MetricSpec(name="drift", query="drift", max="0.2")


def test_counts_are_what_happened_and_the_e_value_is_what_they_say() -> None:
    once = accumulate(None, LIMITED, stable=[Tally(40, 0), Tally(41, 0)], candidate=[Tally(9, 3)])
    assert (once.stable, once.candidate) == (Counts(n=81, bad=0), Counts(n=9, bad=3))
    assert float(once.e_value) == pytest.approx(e_value(once.log_e), rel=0.01)
    twice = accumulate(once, LIMITED, stable=[Tally(81, 1)], candidate=[Tally(9, 3)])
    assert (twice.stable, twice.candidate) == (Counts(n=162, bad=1), Counts(n=18, bad=6))
    assert e_value(twice.log_e) > e_value(once.log_e) > 40
    assert e_value(twice.limit_log_e) > e_value(once.limit_log_e) > 100


def test_an_outage_of_both_says_nothing() -> None:
    seen = None
    for _ in range(20):
        seen = accumulate(seen, ERRORS, stable=[Tally(90, 27)], candidate=[Tally(10, 3)])
    assert seen is not None
    assert e_value(seen.log_e) < 1


def test_a_burst_of_one_pod_counts_in_part_and_is_shown_in_full() -> None:
    burst = accumulate(None, ERRORS, stable=[Tally(100, 0)], candidate=[Tally(100, 100)])
    few = accumulate(None, ERRORS, stable=[Tally(100, 0)], candidate=[Tally(100, BURST)])
    spread = accumulate(None, ERRORS, stable=[Tally(100, 0)], candidate=[Tally(10, 10)] * 10)
    assert burst.candidate == spread.candidate == Counts(n=100, bad=100)
    assert burst.log_e == pytest.approx(few.log_e)
    assert e_value(spread.log_e) > e_value(burst.log_e)


def test_more_requests_do_not_make_alike_arms_look_different() -> None:
    """Where each scrape brings more than a burst, a cap on the events alone would blame the canary."""
    seen = None
    for _ in range(100):
        seen = accumulate(seen, ERRORS, stable=[Tally(4750, 47)], candidate=[Tally(250, 3)])
    assert seen is not None
    assert e_value(seen.log_e) < 20


@given(
    st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=3),
    st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=3),
)
@example([(10, 0)], [(0, 1)])
@example([(0, 1)], [(10, 0)])
def test_no_counts_are_ever_taken_for_certainty(
    stable: list[tuple[int, int]], candidate: list[tuple[int, int]]
) -> None:
    """A handler may count before its request has ended: bad events without a request."""
    seen = accumulate(
        None,
        LIMITED,
        stable=[Tally(*one) for one in stable],
        candidate=[Tally(*one) for one in candidate],
    )
    assert all(math.isfinite(one) for one in (*seen.log_e, *seen.limit_log_e))


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_no_number_changes_nothing(value: float) -> None:
    before = accumulate(None, ERRORS, stable=[Tally(10, 1)], candidate=[Tally(10, 2)])
    assert accumulate(before, ERRORS, stable=[Tally(1, value)], candidate=[]) == before
    assert accumulate(before, ERRORS, stable=[], candidate=[Tally(1, value)]) == before


def test_evidence_survives_status() -> None:
    seen = accumulate(None, LIMITED, stable=[Tally(95, 1)], candidate=[Tally(5, 1)])
    again = MetricEvidence.model_validate(seen.model_dump(mode="json", by_alias=True))
    assert again.log_e == pytest.approx(seen.log_e, rel=1e-8)
    assert again.model_copy(update={"log_e": (), "limit_log_e": ()}) == seen.model_copy(
        update={"log_e": (), "limit_log_e": ()}
    )


def test_a_query_breaches_only_in_a_row_and_only_alone() -> None:
    seen: MetricEvidence | None = None
    for stable, candidate, breaches in (
        (0.1, 0.3, 1),
        (0.1, 0.3, 2),
        (0.1, None, 0),
        (None, 0.3, 1),
        (0.3, 0.3, 0),
        (0.1, 0.2, 0),
    ):
        seen = evaluate(seen, DRIFT, stable=stable, candidate=candidate)
        assert seen.breaches == breaches
    assert seen is not None
    assert (seen.candidate_value, seen.stable_value) == ("0.2", "0.1")
    unlimited = MetricSpec(name="drift", query="drift")
    assert evaluate(None, unlimited, stable=0.0, candidate=9e9).breaches == 0


def test_what_was_good_for_long_is_found_soon_where_evidence_is_renewed() -> None:
    def scrapes_until_found(*, renew: bool) -> int:
        seen: MetricEvidence | None = None
        for number in range(1_000):
            bad = 2 if number < 200 else 30
            seen = accumulate(seen, LIMITED, stable=[], candidate=[Tally(300, bad)], renew=renew)
            if e_value(seen.limit_log_e) >= 180 / 0.01:
                return number - 199
        return 1_000

    assert scrapes_until_found(renew=True) <= 5
    assert scrapes_until_found(renew=False) > 100
