from typing import Any, Final

import pytest
from rich.console import Console

from demo.checks import check_better, check_failures, check_steps
from demo.rollout import MARGIN_S, SETTLE_S, Rollout, Step
from demo.samples import Sample, Summary, summarize
from demo.view import BAR_CELLS, bar, describe, render

PLAN: Final = [{"weight": 10, "bakeSeconds": 15}, {"weight": 100, "bakeSeconds": 15}]


def _status(state: str, step: int, *, stable: str = "1") -> dict[str, Any]:
    plan = PLAN if step else []
    return {"stable": {"version": stable}, "rollout": {"state": state, "step": step, "plan": plan}}


def _at(started_s: float, version: str = "1") -> Sample:
    return Sample(started_s, 1.0, 200, version, f"digits-{version}", correct=True)


def _finished() -> Rollout:
    rollout = Rollout("2")
    for now_s, state, step in (
        (0.0, "Idle", 0),
        (1.0, "Warming", 1),
        (9.0, "Shifting", 1),
        (10.0, "Analyzing", 1),
        (25.0, "Warming", 2),
        (30.0, "Analyzing", 2),
    ):
        rollout.feed(now_s, _status(state, step))
    rollout.feed(45.0, _status("Promoting", 2, stable="2"))
    assert not rollout.done
    rollout.feed(60.0, _status("Idle", 0, stable="2"))
    return rollout


def test_the_steps_outlive_the_plan_in_status() -> None:
    rollout = _finished()
    assert rollout.done
    assert rollout.steps == [Step(1, 10, 10.0, 25.0), Step(2, 100, 30.0, 45.0)]


def test_requests_count_only_while_the_weight_was_surely_in_force() -> None:
    step = Step(1, 10, 10.0, 25.0)
    assert not step.counts(_at(10.0 + SETTLE_S - 0.01))
    assert step.counts(_at(10.0 + SETTLE_S))
    assert not step.counts(_at(25.0 - MARGIN_S))
    assert not Step(2, 25).counts(_at(11.0))


def test_a_weight_that_had_to_be_confirmed_again_is_counted_from_there() -> None:
    rollout = Rollout("2")
    rollout.feed(10.0, _status("Analyzing", 1))
    rollout.feed(12.0, _status("Shifting", 1))
    assert rollout.steps[0].ended_s == pytest.approx(12)
    rollout.feed(14.0, _status("Analyzing", 1))
    assert rollout.steps[0] == Step(1, 10, 14.0, None)


def test_an_edit_that_nobody_has_seen_yet_is_not_done() -> None:
    rollout = Rollout("2")
    rollout.feed(0.0, _status("Idle", 0))
    rollout.feed(1.0, {})
    assert not rollout.done


@pytest.mark.parametrize(
    ("seen", "requests", "held"), [(12.9, 1000, True), (13.1, 1000, False), (10.0, 999, False)]
)
def test_a_split_holds_within_three_points_over_a_thousand_requests(
    seen: float, requests: int, *, held: bool
) -> None:
    answers = {"2": round(seen * 100), "1": round((100 - seen) * 100)}
    summary = Summary(requests=requests, answers=answers)
    [check] = check_steps([(Step(1, 10), summary)], "2")
    assert check.held is held


def test_a_rollout_without_steps_breaks_the_promise() -> None:
    assert [check.held for check in check_steps([], "2")] == [False]


def test_a_single_failure_breaks_the_promise_and_says_which() -> None:
    good, bad = summarize([_at(1.0)]), summarize([_at(1.0)._replace(status=502, error="bad")])
    assert check_failures([good]).held
    check = check_failures([good, bad])
    assert not check.held
    assert "1 of 2 requests failed; 502: bad" in check.text
    assert not check_failures([]).held


def test_better_means_better() -> None:
    assert check_better(0.93, 0.98).held
    assert not check_better(0.93, 0.93).held


def test_the_table_shows_weight_and_observed_split_side_by_side() -> None:
    rollout = _finished()
    samples = [_at(16.0)] * 90 + [_at(16.0, "2")] * 10
    steps = rollout.summaries(samples)
    console = Console(width=76)
    with console.capture() as capture:
        console.print(render(rollout, steps, summarize(samples), 60.0))
    text = capture.get()
    assert "10 %" in text
    assert "10.0 %" in text
    assert "0 failed" in text
    assert "…" not in text, "a terminal of 80 columns shows it all"


def test_the_log_line_tells_the_running_step() -> None:
    rollout = Rollout("2")
    rollout.feed(10.0, _status("Analyzing", 1))
    samples = [_at(16.0)] * 3 + [_at(16.0, "2")]
    line = describe(rollout, rollout.summaries(samples), summarize(samples))
    assert line == (
        "Analyzing       step 1: weight 10 %, clients saw 25.0 % of 4; 4 requests, 0 failed"
    )


def test_the_bar_is_always_as_wide() -> None:
    for percent, weight in ((0.0, 10), (9.0, 10), (30.0, 25), (100.0, 100), (float("nan"), 50)):
        assert len(bar(percent, weight)) == BAR_CELLS
