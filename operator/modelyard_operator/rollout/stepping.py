"""A step: the weight is written, read back, and kept until the evidence says what to do next."""

from datetime import datetime, timedelta

from modelyard_operator.rollout.freeze import frozen_until
from modelyard_operator.rollout.preparing import pause_reason
from modelyard_operator.rollout.routing import confirmed, stable_down
from modelyard_operator.rollout.ruling import Ruling, held_up, rule, unreadable
from modelyard_operator.rollout.state import Ask, Rollout, RolloutState, World
from modelyard_operator.rollout.transitions import (
    FULL,
    SETTLE,
    moved,
    progress_deadline,
    settling,
    with_promoted,
)


def shifting(ask: Ask, rollout: Rollout, world: World, now: datetime) -> Rollout:
    """Wait until the routes show the weight."""
    if not world.splits and rollout.weight < FULL:
        # The proxy could divide traffic when the rollout was planned, and cannot any more.
        return moved(rollout, RolloutState.WARMING, now, step=len(rollout.plan))
    if not confirmed(rollout, world):
        return rollout
    if rollout.weight != rollout.current.weight:  # part of the way, while pods are exchanged
        return settling(rollout, now) or _warm(ask, rollout, now)
    step = rollout.current
    bake = SETTLE if rollout.forced else max(SETTLE, timedelta(seconds=step.bake_seconds))
    longest = now + max(bake, timedelta(seconds=step.max_seconds))
    return moved(
        rollout,
        RolloutState.ANALYZING,
        now,
        next_step_time=now + bake,
        step_deadline_time=rollout.step_deadline_time or longest,
    )


def analyzing(ask: Ask, rollout: Rollout, world: World, now: datetime) -> Rollout:
    """Keep the weight until the step's time is over and the evidence suffices."""
    if not confirmed(rollout, world):
        deadline = progress_deadline(ask, now)
        return moved(rollout, RolloutState.SHIFTING, now, deadline_time=deadline)
    until = rollout.next_step_time
    held = "AnalysisError" if unreadable(rollout, world.judgement) else None
    if reason := pause_reason(ask, rollout) or held:
        return moved(rollout, RolloutState.PAUSED, now, paused_reason=reason, next_step_time=until)
    if until and now < until:
        return rollout
    said = world.judgement.message if world.judgement else ""
    grounds = ("Inconclusive", f"too little was seen in {rollout.current.max_seconds} s: {said}")
    stopped = held_up(rollout, _ruling(ask, rollout, world, now), grounds, now)
    return stopped or _finish_step(ask, rollout, now)


def paused(ask: Ask, rollout: Rollout, world: World, now: datetime) -> Rollout:
    """Go on when what the rollout waits for has come; a person's word comes as a command."""
    if pause_reason(ask, rollout) or not _lifted(ask, rollout, world, now):
        return rollout
    return resumed(ask, rollout, now)


def resumed(ask: Ask, rollout: Rollout, now: datetime) -> Rollout:
    """Go on from a pause: with what the step still needs, or with its time and its evidence."""
    if rollout.weight != rollout.current.weight:
        return _warm(ask, rollout, now)
    return moved(rollout, RolloutState.ANALYZING, now, next_step_time=rollout.next_step_time or now)


def advance(ask: Ask, rollout: Rollout, now: datetime) -> Rollout:
    """Leave the current step: to the next one, or into promotion after the last."""
    if rollout.step < len(rollout.plan):
        step = len(rollout.plan) if rollout.forced else rollout.step + 1
        return _warm(ask, rollout.model_copy(update={"step": step}), now)
    promoted = rollout.candidate or ""
    return moved(
        rollout,
        RolloutState.PROMOTING,
        now,
        stable=promoted,
        previous=rollout.stable,
        fallback=rollout.stable,
        candidate=None,
        deadline_time=None,
        step_deadline_time=None,
        promoted=with_promoted(rollout, promoted),
    )


def _ruling(ask: Ask, rollout: Rollout, world: World, now: datetime) -> Ruling:
    seen = world.judgement
    if rollout.forced:
        return Ruling.GO_ON
    late = rollout.step_deadline_time is not None and now >= rollout.step_deadline_time
    return rule(ask, seen, late=late)


def _finish_step(ask: Ask, rollout: Rollout, now: datetime) -> Rollout:
    if rollout.forced:
        return advance(ask, rollout, now)
    if rollout.current.pause == "Manual":
        return moved(rollout, RolloutState.PAUSED, now, paused_reason="Step")
    if until := frozen_until(ask.spec.freeze, now):
        return moved(
            rollout, RolloutState.PAUSED, now, paused_reason="Freeze", next_step_time=until
        )
    return advance(ask, rollout, now)


def _lifted(ask: Ask, rollout: Rollout, world: World, now: datetime) -> bool:
    """Tell whether a pause ends by itself."""
    match rollout.paused_reason:
        case "Spec" | "Command":
            return True
        case "Freeze":
            return frozen_until(ask.spec.freeze, now) is None
        case "AnalysisError":
            return rollout.analysis is None or rollout.analysis.errors == 0
        case "Capacity":
            return rollout.candidate not in world.unschedulable
        case "Failover":
            return not stable_down(rollout, world)
    return False


def _warm(ask: Ask, rollout: Rollout, now: datetime) -> Rollout:
    deadline = progress_deadline(ask, now)
    return moved(
        rollout, RolloutState.WARMING, now, deadline_time=deadline, step_deadline_time=None
    )
