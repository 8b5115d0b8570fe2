"""After the last step, and after a rejection: traffic moves first, then pods go."""

from datetime import datetime, timedelta

from modelyard_operator.rollout.freeze import frozen_until
from modelyard_operator.rollout.judgement import Judgement, Verdict
from modelyard_operator.rollout.routing import returns_to
from modelyard_operator.rollout.starting import begin
from modelyard_operator.rollout.state import Ask, Rollout, RolloutState, World
from modelyard_operator.rollout.transitions import (
    FULL,
    at_rest,
    moved,
    rejected,
    resting_state,
    settling,
    wanted,
)


def promoting(ask: Ask, rollout: Rollout, world: World, now: datetime) -> Rollout:
    """Move the primary route over, then drop the canary route; each time the proxies follow."""
    if rollout.weight:
        if world.primary != rollout.stable:
            return rollout
        gone = rollout.model_copy(update={"weight": 0, "next_step_time": None})
        return settling(rollout, now) or gone
    if world.canary is not None or not world.followed:
        return rollout
    if (waiting := settling(rollout, now)) is not None:
        return waiting
    probation = timedelta(seconds=ask.spec.probation_seconds if rollout.previous else 0)
    return moved(rollout, RolloutState.PROBATION, now, next_step_time=now + probation)


def probation(ask: Ask, rollout: Rollout, world: World, now: datetime) -> Rollout:
    """Keep the previous revision warm, and return to it on evidence; another edit ends that early."""
    if rollout.previous is not None and (found := _evidence(rollout, world)) is not None:
        return returned(rollout, found.reason or "SLOViolated", found.message, now)
    target = wanted(ask, rollout)
    if target == rollout.previous:  # the edit was taken back: nothing is wrong with the revision
        return moved(rollout, RolloutState.ROLLING_BACK, now)
    if target == rollout.stable and rollout.next_step_time and now < rollout.next_step_time:
        return rollout
    return _finished(ask, rollout, world, now)


def returned(rollout: Rollout, reason: str, message: str, now: datetime) -> Rollout:
    """Reject a revision that has been promoted, and bring its traffic to the previous one."""
    found = rejected(rollout, rollout.stable or "", reason, message, now)
    return moved(found, RolloutState.ROLLING_BACK, now, weight=0)


def rolling_back(ask: Ask, rollout: Rollout, world: World, now: datetime) -> Rollout:
    """Bring traffic home, and let the proxies follow before the pods that it leaves go."""
    home, left = returns_to(rollout)
    if world.canary is not None or world.primary not in {None, home} or not world.followed:
        return _made_room(ask, rollout, world)
    if rollout.previous is not None and world.weights == {home: FULL}:
        changes = {"stable": home, "candidate": left, "previous": None, "fallback": None}
        return rollout.model_copy(update=changes | {"remaining": None})
    return settling(rollout, now) or _finished(ask, rollout, world, now)


def abandoned(rollout: Rollout, now: datetime) -> Rollout:
    """Drop a candidate that is not wanted any more, traffic first.

    Even one that was given no weight may have answered for stable a moment ago, and some proxy may
    not know yet that it does not any more.
    """
    return moved(rollout, RolloutState.ROLLING_BACK, now, weight=0, held=False, forced=False)


def suspended(ask: Ask, rollout: Rollout, now: datetime) -> Rollout:
    """Forget where the rollout is, and remember what was found out about revisions."""
    if rollout.state is RolloutState.INITIALIZING and rollout.candidate is None:
        return rollout
    pinned = wanted(ask, rollout) if ask.target in rollout.rejected else None
    stopped = at_rest(rollout, RolloutState.INITIALIZING, now)
    return stopped.model_copy(update={"stable": None, "pinned": pinned})


def _evidence(rollout: Rollout, world: World) -> Judgement | None:
    if (broken := world.broken.get(rollout.stable or "")) is not None:
        return broken
    seen = world.judgement
    return seen if seen and seen.verdict is Verdict.FAIL else None


def _made_room(ask: Ask, rollout: Rollout, world: World) -> Rollout:
    """A rollback is never starved: while home finds no room, what is left gives up a pod at a time.

    Its last pod answers requests that nobody else can, so it goes only where a downtime was asked
    for.
    """
    home, left = returns_to(rollout)
    has = world.replicas.get(left, 0)
    done = rollout.remaining is None or has <= rollout.remaining
    starved = home in world.unschedulable and not world.ready.get(home)
    last = 0 if ask.spec.capacity.mode in {"Exchange", "Recreate"} else 1
    if not (starved and done and has > last and not world.leaving):
        return rollout
    return rollout.model_copy(update={"remaining": has - 1})


def _finished(ask: Ask, rollout: Rollout, world: World, now: datetime) -> Rollout:
    """Rest, or go on at once to what is wanted now."""
    rest = at_rest(rollout, resting_state(ask, rollout), now)
    if wanted(ask, rest) == rest.stable or ask.replicas == 0 or frozen_until(ask.spec.freeze, now):
        return rest
    return begin(ask, rest, world, now)
