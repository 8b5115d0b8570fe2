"""How much one caller may ask."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelyard_runtime.directives import Directives
from modelyard_runtime.errors import RateLimitedError
from modelyard_runtime.rate_limits import RateLimits


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def directives(**limit: Any) -> Directives:
    return Directives.model_validate({"rateLimit": limit or None})


def limits(clock: Clock, **limit: Any) -> RateLimits:
    found = RateLimits(clock)
    found.apply(directives(**limit))
    return found


def refused(limits: RateLimits, caller: str = "a") -> RateLimitedError:
    with pytest.raises(RateLimitedError) as caught:
        limits.enter(caller)
    return caught.value


def test_without_a_limit_everybody_comes_in() -> None:
    found = RateLimits(Clock())
    for _ in range(1000):
        found.enter("a")


def test_a_burst_then_the_rate() -> None:
    clock = Clock()
    found = limits(clock, requestsPerSecond=10, burst=3)
    for _ in range(3):
        found.enter("a")
    assert refused(found).retry_after_s == pytest.approx(0.1)
    clock.now += 0.1
    found.enter("a")
    assert "10 requests a second" in str(refused(found))
    clock.now += 100  # a bucket is never fuller than full
    for _ in range(3):
        found.enter("a")
    refused(found)


def test_the_burst_is_one_seconds_requests_unless_it_is_given() -> None:
    for rate, burst in ((5, 5), (0.5, 1)):
        found = limits(Clock(), requestsPerSecond=rate)
        for _ in range(burst):
            found.enter("a")
        assert refused(found).retry_after_s == pytest.approx(1 / rate)


def test_callers_do_not_share_a_bucket() -> None:
    found = limits(Clock(), requestsPerSecond=1, burst=1)
    found.enter("a")
    refused(found, "a")
    found.enter("b")


def test_what_is_refused_costs_nothing() -> None:
    clock = Clock()
    found = limits(clock, requestsPerSecond=1, burst=1)
    found.enter("a")
    for _ in range(10):
        refused(found)
    clock.now += 1
    found.enter("a")


def test_concurrency_is_per_caller_and_given_back() -> None:
    found = limits(Clock(), requestsPerSecond=1000, concurrency=2)
    found.enter("a")
    found.enter("a")
    assert refused(found).retry_after_s > 0
    found.enter("b")
    found.leave("a")
    found.enter("a")
    refused(found)


def test_a_new_limit_counts_who_is_inside_already() -> None:
    found = RateLimits(Clock())
    found.enter("a")
    found.enter("a")
    found.apply(directives(requestsPerSecond=1000, concurrency=2))
    refused(found)
    found.leave("a")
    found.enter("a")
    found.apply(directives())
    for _ in range(10):
        found.enter("a")


def test_an_unchanged_directive_does_not_fill_the_buckets() -> None:
    found = limits(Clock(), requestsPerSecond=1, burst=1)
    found.enter("a")
    found.apply(directives(requestsPerSecond=1, burst=1))
    refused(found)
    found.apply(directives(requestsPerSecond=2, burst=1))
    found.enter("a")


def test_callers_that_are_gone_take_no_memory() -> None:
    found = limits(Clock(), requestsPerSecond=1000)
    for number in range(70_000):
        found.enter(str(number))
        found.leave(str(number))
    assert not found._inside
    assert len(found._full_at) == 65_536


@given(
    st.floats(0.5, 100),
    st.integers(1, 20),
    st.lists(st.floats(0, 0.5), min_size=1, max_size=200),
)
def test_never_more_than_the_burst_and_the_rate(rate: float, burst: int, gaps: list[float]) -> None:
    clock = Clock()
    found = limits(clock, requestsPerSecond=rate, burst=burst)
    begun = clock.now
    admitted = 0
    for gap in gaps:
        clock.now += gap
        with contextlib.suppress(RateLimitedError):
            found.enter("a")
            admitted += 1
        assert admitted <= burst + (clock.now - begun) * rate + 1e-6
