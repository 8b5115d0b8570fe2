import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelyard_operator.analysis.sequential import (
    NOTHING,
    RATIOS,
    add,
    e_value,
    log_ratios,
    restart,
)

shares = st.floats(0.0, 1.0)
counts = st.integers(0, 10_000)
logs = st.lists(st.floats(-2_000, 2_000), min_size=5, max_size=5)


@given(st.floats(0.01, 0.99), counts, counts)
def test_an_interval_adds_the_logarithm_of_the_likelihood_ratio(
    share: float, inside: int, outside: int
) -> None:
    for r, found in zip(RATIOS, log_ratios(share, inside, outside), strict=True):
        theta = r * share / (r * share + 1 - share)
        expected = inside * math.log(theta / share) + outside * math.log((1 - theta) / (1 - share))
        assert found == pytest.approx(expected, rel=1e-9, abs=1e-6)


@given(shares)
def test_one_event_multiplies_the_e_values_by_one_on_average_if_nothing_is_wrong(
    share: float,
) -> None:
    inside, outside = log_ratios(share, 1, 0), log_ratios(share, 0, 1)
    for a, b in zip(inside, outside, strict=True):
        mean = (share * math.exp(a) if share else 0.0) + (1 - share) * math.exp(b)
        assert mean == pytest.approx(1.0)


@given(st.floats(0.0, 1.0), st.floats(0.0, 1.0))
def test_below_the_limit_it_shrinks(limit: float, rate: float) -> None:
    rate = min(rate, limit)
    bad, good = log_ratios(limit, 1, 0), log_ratios(limit, 0, 1)
    for a, b in zip(bad, good, strict=True):
        assert (rate * math.exp(a) if rate else 0.0) + (1 - rate) * math.exp(b) <= 1 + 1e-9


def test_what_cannot_happen_is_proof() -> None:
    assert e_value(add((), log_ratios(0.0, 1, 1000))) == math.inf
    assert e_value(add((), log_ratios(0.0, 0, 1000))) == 1.0
    assert log_ratios(1.0, 7, 0) == pytest.approx(NOTHING)


@given(logs, st.floats(0.001, 1), shares, counts, counts)
def test_trusting_less_never_makes_the_case_stronger(
    before: list[float], trust: float, share: float, inside: int, outside: int
) -> None:
    ratios = log_ratios(share, inside, outside)
    for some, all_ in zip(add(before, ratios, trust=trust), add(before, ratios), strict=True):
        assert some <= all_


@given(logs)
def test_the_mean_neither_overflows_nor_leaves_its_bounds(log_e: list[float]) -> None:
    value = e_value(log_e)
    assert value >= 0
    if max(log_e) <= 700:
        assert math.exp(max(log_e)) / 5 <= value * (1 + 1e-9)
        assert value <= math.exp(max(log_e)) * (1 + 1e-9)
    else:
        assert value == math.inf


@given(logs)
def test_a_new_window_adds_a_fresh_e_value(log_e: list[float]) -> None:
    for before, after in zip(log_e, restart(log_e), strict=True):
        assert after >= max(0.0, before)
        if before < 300:
            assert math.exp(after) == pytest.approx(math.exp(before) + 1)


def test_the_first_window_begins_with_one() -> None:
    assert e_value(restart(())) == e_value(()) == 1.0


@pytest.mark.parametrize("share", [0.05, 0.5, 0.9])
def test_alike_arms_are_told_apart_no_more_often_than_alpha_however_often_one_looks(
    share: float,
) -> None:
    """1,000 runs of 200 looks: at most alpha, plus three standard errors."""
    rng, alpha, runs = random.Random(20260101), 0.05, 1_000  # noqa: S311 - a simulation
    alarms = 0
    for _ in range(runs):
        log_e: tuple[float, ...] = ()
        for _ in range(200):
            inside = rng.random() < share
            log_e = add(log_e, log_ratios(share, inside, not inside))
            if e_value(log_e) >= 1 / alpha:
                alarms += 1
                break
    assert alarms / runs <= alpha + 3 * math.sqrt(alpha * (1 - alpha) / runs)


def test_a_rate_ten_times_as_high_is_found() -> None:
    rng, found = random.Random(20260101), 0  # noqa: S311 - a simulation
    for _ in range(200):
        log_e: tuple[float, ...] = ()
        for _ in range(60):
            inside = rng.random() < 10 * 0.05 / (10 * 0.05 + 0.95)
            log_e = add(log_e, log_ratios(0.05, inside, not inside))
        found += e_value(log_e) >= 100
    assert found >= 198
