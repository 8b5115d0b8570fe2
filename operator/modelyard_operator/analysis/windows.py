"""When is what analysed: a window is a time in which one revision is judged at one weight."""

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from modelyard_operator.analysis.sequential import restart
from modelyard_operator.analysis.verdicts import Question
from modelyard_operator.rollout.evidence import Evidence, MetricEvidence
from modelyard_operator.rollout.routing import confirmed
from modelyard_operator.rollout.state import Rollout, RolloutState, World
from modelyard_operator.rollout.transitions import FULL, SETTLE
from modelyard_operator.spec import RolloutSpec

SCRAPE_S: Final = 5
AFTER_THE_STEPS: Final = 0
"""Number of the windows that are no step: a probation, and rest."""


@dataclass(frozen=True)
class Window:
    """What is judged now.

    Attributes:
        revision: Who is judged.
        step: The step that it is at.
        stable: Whom it is compared with; None where that one gets no requests.
        question: What is asked.
        opens: Requests count from here on: the routes have settled.
    """

    revision: str
    step: int
    stable: str | None
    question: Question
    opens: datetime


def window_of(spec: RolloutSpec, rollout: Rollout, world: World, now: datetime) -> Window | None:
    """Return the window that runs; None while no weight is confirmed.

    Args:
        spec: ``spec.rollout``.
        rollout: As status has it.
        world: What the routes show: a sample of a weight that they do not give is none.
        now: Current time, in UTC.
    """
    since = rollout.state_since
    if since is None or not spec.analysis.metrics:
        return None
    question = _question(spec, rollout, now)
    if rollout.state is RolloutState.PROBATION and world.primary == rollout.stable:
        window = Window(rollout.stable or "", AFTER_THE_STEPS, None, question, since + SETTLE)
    elif _has_share(rollout, world):
        stable = rollout.stable if rollout.weight < FULL else None
        window = Window(rollout.candidate or "", rollout.step, stable, question, since + SETTLE)
    else:
        return None
    if window.stable is None:
        if all(metric.max is None for metric in spec.analysis.metrics):
            return None  # there is nobody to compare with, and no limit to hold
        return replace(window, question=replace(question, compares=False))
    return window


def _has_share(rollout: Rollout, world: World) -> bool:
    """Tell whether the candidate has the weight that was written down, and for some time."""
    waits = rollout.state in {RolloutState.ANALYZING, RolloutState.PAUSED}
    return waits and rollout.weight > 0 and confirmed(rollout, world)


def open_window(
    before: Evidence | None, window: Window, rollout: Rollout, now: datetime
) -> Evidence:
    """Return the evidence to go on with: of the same window, or of a new one.

    Args:
        before: As status has it; it may be of another step, revision or rollout.
        window: The window that runs.
        rollout: Tells since when the evidence can be of this rollout.
        now: Current time, in UTC.
    """
    fresh = Evidence(
        revision=window.revision, step=window.step, window_start=now.replace(microsecond=0)
    )
    if before is None or before.revision != window.revision or before.window_start is None:
        return fresh
    if rollout.started_at and before.window_start < rollout.started_at:
        return fresh
    if before.step == window.step:
        return before
    return fresh.model_copy(update={"metrics": tuple(_carried(one) for one in before.metrics)})


def _carried(seen: MetricEvidence) -> MetricEvidence:
    return MetricEvidence(
        metric=seen.metric,
        log_e=restart(seen.log_e),
        limit_log_e=restart(seen.limit_log_e),
    )


def _looks(spec: RolloutSpec, rollout: Rollout) -> int:
    """Return how often evidence for a broken limit begins: half of alpha is for the steps' limits.

    In a probation it begins with every scrape, since what has been good for long may turn bad.
    """
    if rollout.state is RolloutState.PROBATION:
        return max(1, spec.probation_seconds // SCRAPE_S)
    return len(rollout.plan)


def _question(spec: RolloutSpec, rollout: Rollout, now: datetime) -> Question:
    ends, limit = rollout.next_step_time, rollout.step_deadline_time
    return Question(
        spec.analysis,
        comparisons=max(1, sum(step.weight < FULL for step in rollout.plan)),
        windows=2 * _looks(spec, rollout),
        baked=ends is None or now >= ends,
        overdue=limit is not None and now >= limit,
    )
