"""The batch cap and the wait follow what is measured."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelyard_runtime.batching.calls import BatchLimits
from modelyard_runtime.batching.controller import Controller
from modelyard_runtime.batching.run_times import RunTimes

FIXED = st.floats(1e-5, 0.02)
PER_ROW = st.floats(1e-6, 0.005)


@given(fixed_s=FIXED, row_s=PER_ROW, sizes=st.lists(st.integers(1, 32), min_size=40, max_size=60))
def test_a_line_is_found_from_batches_of_different_sizes(
    fixed_s: float, row_s: float, sizes: list[int]
) -> None:
    times = RunTimes()
    for rows in [*sizes, *range(1, 33)]:
        times.add(rows, fixed_s + row_s * rows)
    near = 0.15 * (fixed_s + row_s * 16)
    for rows in (4, 16, 32):
        assert times.predict_s(rows) == pytest.approx(fixed_s + row_s * rows, abs=near)


def test_batches_of_one_size_predict_the_worse_for_every_other() -> None:
    times = RunTimes()
    assert times.predict_s(8) == 0
    for _ in range(30):
        times.add(8, 0.008)
    assert [times.predict_s(rows) for rows in (1, 8, 16)] == pytest.approx([0.008, 0.008, 0.016])
    assert times.line == pytest.approx((0.0, 0.001))


def test_one_pause_hardly_moves_a_prediction_and_a_slower_model_does() -> None:
    times = RunTimes()
    for _ in range(30):
        times.add(8, 0.01)
    times.add(8, 5.0)
    assert times.predict_s(8) < 0.0115
    for _ in range(100):
        times.add(8, 0.05)
    assert times.predict_s(8) == pytest.approx(0.05, rel=0.1)


NOISE = [1 + 0.05 * math.sin(7 * at * at) for at in range(101)]
"""A model's times scatter by up to five per cent."""


def saturated(controller: Controller, fixed_s: float, row_s: float, batches: int) -> list[float]:
    """Run full batches one after another; returns their times."""
    spent = []
    for at in range(batches):
        rows = controller.cap
        run_s = (fixed_s + row_s * controller.padded(rows)) * NOISE[at % len(NOISE)]
        controller.observe(rows, run_s)
        spent.append(run_s)
    return spent


@settings(max_examples=200)
@given(
    fixed_s=FIXED,
    row_s=PER_ROW,
    target_s=st.floats(0.002, 0.5),
    max_rows=st.integers(1, 64),
)
def test_the_cap_converges_to_what_the_target_allows(
    fixed_s: float, row_s: float, target_s: float, max_rows: int
) -> None:
    controller = Controller(BatchLimits(max_rows=max_rows, target_s=target_s))
    saturated(controller, fixed_s, row_s, 100)
    caps = []
    late = 0
    for noise in NOISE * 4:
        (run_s,) = saturated(controller, fixed_s * noise, row_s * noise, 1)
        caps.append(controller.cap)
        late += 2 * run_s > target_s  # a request waits for one batch and runs in the next
    middle = sorted(caps)[len(caps) // 2]
    best = max(1, min(max_rows, int((target_s / 2 - fixed_s) / row_s)))
    assert min(caps) >= 1
    assert max(caps) <= max_rows
    if fixed_s + row_s <= target_s / 2.2:  # else not even a single row can meet it
        assert late <= len(caps) * 0.15
        cautious = max(1, min(max_rows, int((0.85 * target_s / 2 - fixed_s) / row_s)))
        assert middle >= 0.7 * cautious
        assert middle <= 1.1 * best + 1
    elif fixed_s + row_s > target_s / 2:
        assert middle == 1


def test_the_cap_returns_when_the_model_is_fast_again() -> None:
    controller = Controller(BatchLimits(max_rows=32, target_s=0.1))
    saturated(controller, 0.001, 0.01, 100)
    assert controller.cap <= 5
    saturated(controller, 0.001, 0.0001, 400)
    assert controller.cap == 32


def test_a_batch_that_was_not_full_says_nothing_about_larger_ones() -> None:
    controller = Controller(BatchLimits(max_rows=32, target_s=0.1))
    saturated(controller, 0.001, 0.01, 100)
    cap = controller.cap
    for _ in range(200):
        controller.observe(1, 0.0001)
    assert controller.cap == cap


def test_the_cap_is_always_a_bucket() -> None:
    buckets = (1, 2, 4, 8, 16)
    controller = Controller(BatchLimits(max_rows=16, target_s=0.1, buckets=buckets))
    for _ in range(100):
        saturated(controller, 0.001, 0.01, 1)
        assert controller.cap in buckets
    assert controller.cap == 4
    assert [controller.padded(rows) for rows in (1, 3, 9, 16)] == [1, 4, 16, 16]


def test_too_little_memory_halves_the_cap_which_recovers_step_by_step() -> None:
    controller = Controller(BatchLimits(max_rows=32))
    controller.out_of_memory(32)
    assert controller.cap == 16
    saturated(controller, 0.001, 0.0001, 63)
    assert controller.cap == 16
    saturated(controller, 0.001, 0.0001, 1)
    assert controller.cap == 17
    controller.out_of_memory(17)
    assert controller.cap == 8
    for _ in range(5):
        controller.out_of_memory(controller.cap)
    assert controller.cap == 1
    saturated(controller, 0.001, 0.0001, 64 * 31)
    assert controller.cap == 32


def test_without_a_target_the_cap_and_the_wait_stay_as_they_are_set() -> None:
    controller = Controller(BatchLimits(max_rows=32, max_delay_s=0.01))
    saturated(controller, 5.0, 1.0, 50)
    assert controller.cap == 32
    assert controller.wait_s(32) == 0.01


def test_the_wait_leaves_time_to_run_before_the_target_and_every_deadline() -> None:
    controller = Controller(BatchLimits(max_rows=8, max_delay_s=1.0, target_s=0.1))
    saturated(controller, 0.02, 0.0, 50)
    assert controller.wait_s(8) == pytest.approx(0.08, rel=0.05)
    at, trigger = controller.leave_by(100.0, 200.0, 1)
    assert at == pytest.approx(100.08, abs=0.02)
    assert trigger == "delay"
    at, trigger = controller.leave_by(100.0, 100.05, 8)
    assert at == pytest.approx(100.015, abs=0.002)
    assert trigger == "deadline"


def test_a_drain_counts_batches_and_rows() -> None:
    controller = Controller(BatchLimits(max_rows=8))
    for _ in range(20):
        for rows in (1, 4, 8):
            controller.observe(rows, 0.01 + 0.001 * rows)
    assert controller.drain_s(0, 0) == 0
    assert controller.drain_s(16, 1) == pytest.approx(0.036, rel=0.1)
    assert controller.drain_s(16, 5) == pytest.approx(0.066, rel=0.1)
