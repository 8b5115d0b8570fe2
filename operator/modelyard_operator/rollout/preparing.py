"""Before a step's weight: the candidate's pods get a node, get ready, and are looked at."""

from datetime import datetime, timedelta

from modelyard_operator.rollout.capacity import exchange
from modelyard_operator.rollout.judgement import Judgement, Verdict
from modelyard_operator.rollout.ruling import held_up, rule
from modelyard_operator.rollout.sizing import full_size, needed
from modelyard_operator.rollout.state import Ask, PauseReason, Rollout, RolloutState, World
from modelyard_operator.rollout.transitions import moved, progress_deadline, rolled_back


def preparing(ask: Ask, rollout: Rollout, world: World, now: datetime) -> Rollout:
    """Wait for the first pod's node."""
    if world.settled(rollout.candidate):
        return moved(rollout, RolloutState.WARMING, now)
    if rollout.candidate in world.unschedulable:
        return _wait_for_room(ask, rollout, now)
    return rollout


def waiting_capacity(ask: Ask, rollout: Rollout, world: World, now: datetime) -> Rollout:
    """Wait for room, make it where that is allowed, and give up when it takes too long."""
    candidate = rollout.candidate or ""
    if candidate not in world.unschedulable:
        deadline = progress_deadline(ask, now)
        return moved(rollout, RolloutState.WARMING, now, deadline_time=deadline)
    if reason := pause_reason(ask, rollout):
        return moved(rollout, RolloutState.PAUSED, now, paused_reason=reason)
    if (exchanged := exchange(ask, rollout, world, now)) is not None:
        return exchanged
    if rollout.next_step_time and now < rollout.next_step_time:
        return rollout
    if ask.spec.capacity.on_timeout == "Pause":
        return moved(rollout, RolloutState.PAUSED, now, paused_reason="Capacity")
    message = f"no room for a pod of {candidate}: {world.unschedulable[candidate]}"
    return rolled_back(rollout, "InsufficientCapacity", message, now)


def warming(ask: Ask, rollout: Rollout, world: World, now: datetime) -> Rollout:
    """Wait until all the pods that the step needs are ready."""
    if reason := pause_reason(ask, rollout):
        return moved(rollout, RolloutState.PAUSED, now, paused_reason=reason)
    if _lacks_pods(ask, rollout, world):
        no_room = rollout.candidate in world.unschedulable
        return _wait_for_room(ask, rollout, now) if no_room else rollout
    if world.signature_unknown and ask.spec.signature_change == "Reject" and not rollout.weight:
        return rollout  # it is about to be told, and is looked at before any request
    if _has_shadow(ask, rollout, world):
        if rollout.candidate in world.weights:
            return rollout  # it has stood in for stable, which comes first again
        limit = now + timedelta(seconds=rollout.current.max_seconds)
        return moved(rollout, RolloutState.SHADOWING, now, step_deadline_time=limit)
    weight = rollout.current.weight
    return moved(rollout, RolloutState.SHIFTING, now, weight=weight, step_deadline_time=None)


def shadowing(ask: Ask, rollout: Rollout, world: World, now: datetime) -> Rollout:
    """Compare answers to copied requests before the candidate gets requests of its own."""
    if reason := pause_reason(ask, rollout):
        return moved(rollout, RolloutState.PAUSED, now, paused_reason=reason)
    if _lacks_pods(ask, rollout, world):
        return moved(rollout, RolloutState.WARMING, now)
    seen = world.shadow or Judgement(Verdict.UNDECIDED)
    late = rollout.step_deadline_time is not None and now >= rollout.step_deadline_time
    if not late and seen.verdict not in {Verdict.PASS, Verdict.FAIL}:
        return rollout
    grounds = (seen.reason or "ShadowInconclusive", seen.message or "too few answers to compare")
    if (stopped := held_up(rollout, rule(ask, seen, late=late), grounds, now)) is not None:
        return stopped
    weight = rollout.current.weight
    return moved(rollout, RolloutState.SHIFTING, now, weight=weight, step_deadline_time=None)


def pause_reason(ask: Ask, rollout: Rollout) -> PauseReason | None:
    """Return why a person holds the rollout; None if nobody does."""
    if ask.spec.paused:
        return "Spec"
    return "Command" if rollout.held else None


def _lacks_pods(ask: Ask, rollout: Rollout, world: World) -> bool:
    replicas = needed(rollout.current.weight, full_size(ask, rollout, world))
    return world.ready.get(rollout.candidate or "", 0) < replicas


def _has_shadow(ask: Ask, rollout: Rollout, world: World) -> bool:
    """Copies come from stable's pods; a revision that takes over at once has nobody to copy from."""
    compares = ask.spec.shadow is not None and not rollout.forced and not rollout.weight
    return compares and rollout.step == 1 and bool(world.ready.get(rollout.stable or ""))


def _wait_for_room(ask: Ask, rollout: Rollout, now: datetime) -> Rollout:
    limit = now + timedelta(seconds=ask.spec.capacity.wait_seconds)
    return moved(rollout, RolloutState.WAITING_CAPACITY, now, next_step_time=limit)
