from typing import Any, Final

import pytest
from rich.console import Console

from demo.checks import check_better, check_failures, check_rollback, check_shadow, check_steps
from demo.rollout import MARGIN_S, SETTLE_S, Rollout, Step
from demo.samples import Sample, Summary, summarize
from demo.view import BAR_CELLS, bar, describe, render

PLAN: Final = [{"weight": 10, "bakeSeconds": 15}, {"weight": 100, "bakeSeconds": 15}]


def _status(
    state: str, step: int, *, stable: str = "1", candidate: str | None = None
) -> dict[str, Any]:
    rollout = {"state": state, "step": step, "plan": PLAN if step else []}
    status: dict[str, Any] = {"stable": {"version": stable}, "rollout": rollout}
    return status | ({"candidate": {"version": candidate}} if candidate else {})


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


def _rolled_back(after_s: float = 15.0) -> Rollout:
    rollout = Rollout("3", before="2")
    before = _status("Probation", 0, stable="2")
    before["rollout"]["shadow"] = {"samples": 500, "agreement": "0.9"}  # of the rollout to 2
    rollout.feed(0.0, before)
    rollout.feed(10.0, _status("Analyzing", 1, stable="2", candidate="3"))
    assert rollout.shadow[0] == 0
    assert not rollout.done
    status = _status("RollingBack", 1, stable="2")
    grounds = {"reason": "ErrorsWorse", "message": "errors: candidate 5 of 30, stable 0 of 270"}
    status["rollout"]["lastRollback"] = grounds
    rollout.feed(10.0 + after_s, status)
    assert not rollout.done
    rollout.feed(40.0, _status("RolledBack", 0, stable="2"))
    return rollout


def test_a_rollback_ends_a_rollout_and_keeps_its_grounds() -> None:
    rollout = _rolled_back()
    assert rollout.done
    assert not rollout.promoted
    assert rollout.rejection == ("ErrorsWorse", "errors: candidate 5 of 30, stable 0 of 270")
    assert rollout.detected_s == pytest.approx(15)


@pytest.mark.parametrize(
    ("after_s", "failed", "held"),
    [(15.0, 10, [True, True, True]), (61.0, 10, [False, True, True]), (15.0, 11, [True, False, True])],
)  # fmt: skip
def test_a_bad_version_must_go_soon_and_harm_few(
    after_s: float, failed: int, held: list[bool]
) -> None:
    summary = Summary(requests=100, failed=failed)
    assert [one.held for one in check_rollback(_rolled_back(after_s), summary)] == held


def test_a_bad_version_that_stays_breaks_the_promise() -> None:
    assert not check_rollback(_finished(), Summary(requests=100))[0].held


def test_the_old_version_is_done_with_when_it_only_stays_warm() -> None:
    rollout = Rollout("2")
    rollout.feed(0.0, _status("Probation", 0, stable="2"))
    assert rollout.promoted
    assert rollout.done


@pytest.mark.parametrize(("agreement", "held"), [("0.90", True), ("0.89", False)])
def test_the_comparison_of_copies_is_held_to_its_share(agreement: str, *, held: bool) -> None:
    rollout = Rollout("2")
    assert not check_shadow(rollout).held
    status = _status("Shadowing", 1, candidate="2")
    status["rollout"]["shadow"] = {"samples": 500, "agreement": agreement}
    rollout.feed(1.0, status)
    rollout.feed(9.0, _status("Shifting", 1))
    assert check_shadow(rollout).held is held
    console = Console(width=76)
    with console.capture() as capture:
        console.print(render(rollout, [], Summary(), 9.0))
    assert f"500 copies of requests, {float(agreement):.1%} answered" in capture.get()


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
