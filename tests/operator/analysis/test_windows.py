from datetime import timedelta
from typing import Any

import pytest

from modelyard_operator.analysis.windows import AFTER_THE_STEPS, open_window, window_of
from modelyard_operator.rollout.evidence import Counts, Evidence, MetricEvidence
from modelyard_operator.rollout.state import PlannedStep, Rollout, RolloutState, World
from modelyard_operator.rollout.transitions import SETTLE
from modelyard_operator.spec import RolloutSpec
from testkit.operator_objects import NOW

S = RolloutState
PLAN = tuple(PlannedStep(weight=weight, bake_seconds=60) for weight in (5, 25, 100))
SPEC = RolloutSpec()
LIMITED = RolloutSpec.model_validate(
    {"analysis": {"metrics": [{"name": "errors", "builtin": "Errors", "max": "0.01"}]}}
)
SPLIT = World(primary="old", canary="new", canary_weight=25)
ANALYZING = Rollout(
    state=S.ANALYZING,
    stable="old",
    candidate="new",
    weight=25,
    step=2,
    plan=PLAN,
    started_at=NOW - timedelta(minutes=9),
    state_since=NOW,
    next_step_time=NOW + timedelta(seconds=60),
    step_deadline_time=NOW + timedelta(seconds=600),
)


def rollout(**changes: Any) -> Rollout:
    return ANALYZING.model_copy(update=changes)


def test_a_confirmed_weight_opens_a_window_when_the_routes_have_settled() -> None:
    window = window_of(SPEC, ANALYZING, SPLIT, NOW)
    assert window is not None
    assert (window.revision, window.stable, window.step) == ("new", "old", 2)
    assert window.opens == NOW + SETTLE
    assert window.question.compares
    assert (window.question.comparisons, window.question.windows) == (2, 6)


@pytest.mark.parametrize(
    ("seconds", "baked", "overdue"), [(0, False, False), (60, True, False), (600, True, True)]
)
def test_time_is_told_by_the_rollout(seconds: int, baked: bool, overdue: bool) -> None:  # noqa: FBT001
    window = window_of(SPEC, ANALYZING, SPLIT, NOW + timedelta(seconds=seconds))
    assert window is not None
    assert (window.question.baked, window.question.overdue) == (baked, overdue)


@pytest.mark.parametrize(
    ("changed", "world"),
    [
        (ANALYZING, World(primary="old", canary="new", canary_weight=5)),
        (ANALYZING, World(primary="old")),
        (rollout(state=S.SHIFTING), SPLIT),
        (rollout(state=S.WARMING), SPLIT),
        (rollout(state=S.ROLLING_BACK), SPLIT),
        (rollout(state=S.PAUSED, weight=0), World(primary="old")),
        (Rollout(state=S.IDLE, stable="old", state_since=NOW), World(primary="old")),
        (Rollout(state=S.PROBATION, stable="new", state_since=NOW), World(primary="old")),
    ],
)
def test_no_window_without_a_confirmed_weight(changed: Rollout, world: World) -> None:
    assert window_of(SPEC, changed, world, NOW) is None
    assert window_of(LIMITED, changed, world, NOW) is None


def test_a_pause_at_a_weight_is_watched() -> None:
    assert window_of(SPEC, rollout(state=S.PAUSED), SPLIT, NOW) is not None


def test_without_metrics_nothing_is_watched() -> None:
    bare = RolloutSpec.model_validate({"analysis": {"metrics": []}})
    assert window_of(bare, ANALYZING, SPLIT, NOW) is None


@pytest.mark.parametrize(
    ("alone", "world", "step"),
    [
        (rollout(weight=100, step=3), World(primary="old", canary="new", canary_weight=100), 3),
        (
            Rollout(state=S.PROBATION, stable="new", previous="old", state_since=NOW),
            World(primary="new"),
            AFTER_THE_STEPS,
        ),
    ],
)
def test_who_has_all_requests_is_held_to_limits_alone(
    alone: Rollout, world: World, step: int
) -> None:
    assert window_of(SPEC, alone, world, NOW) is None, "there is no limit"
    window = window_of(LIMITED, alone, world, NOW)
    assert window is not None
    assert (window.revision, window.stable, window.step) == ("new", None, step)
    assert not window.question.compares


def test_evidence_goes_on_in_its_step_and_is_carried_into_the_next() -> None:
    window = window_of(SPEC, ANALYZING, SPLIT, NOW)
    assert window is not None
    first = open_window(None, window, ANALYZING, NOW)
    assert first == Evidence(revision="new", step=2, window_start=NOW)
    errors = MetricEvidence(metric="errors", candidate=Counts(n=9, bad=1), log_e=(1.0,) * 5)
    seen = first.model_copy(update={"metrics": (errors,)})
    later = NOW + timedelta(seconds=30)
    assert open_window(seen, window, ANALYZING, later) == seen
    before = seen.model_copy(update={"step": 1})
    carried = open_window(before, window, ANALYZING, later)
    assert (carried.step, carried.window_start) == (2, later)
    assert carried.metrics[0].candidate == Counts()
    assert min(carried.metrics[0].log_e) > 1.0


@pytest.mark.parametrize(
    "before",
    [
        Evidence(revision="other", step=2, window_start=NOW),
        Evidence(revision="new", step=2, window_start=NOW - timedelta(hours=1)),
        Evidence(revision="new", step=2),
    ],
)
def test_evidence_of_another_rollout_does_not_count(before: Evidence) -> None:
    window = window_of(SPEC, ANALYZING, SPLIT, NOW)
    assert window is not None
    before = before.model_copy(update={"metrics": (MetricEvidence(metric="errors"),)})
    assert open_window(before, window, ANALYZING, NOW).metrics == ()
