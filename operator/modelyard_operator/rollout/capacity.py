"""Room for the candidate where there is none: one pod of stable makes way for one of the candidate.

With ``Exchange``, and with ``Auto`` when nothing is free, stable gives up one pod at a time. So that
no more than one pod is ever missing, the next one goes only when the candidate's share of the traffic
has followed its share of the pods, and when the room that was made is taken. The last ready pod of
stable never goes before its traffic has.

A model with a single replica has no pod to spare: to exchange it is to be down until the candidate is
ready. ``Auto`` does not do that; ``Exchange`` asked for by name does, like ``Recreate``, because on a
single device there is no other way to carry out the edit.
"""

from datetime import datetime

from modelyard_operator.rollout.routing import confirmed
from modelyard_operator.rollout.sizing import size
from modelyard_operator.rollout.state import Ask, Rollout, RolloutState, World
from modelyard_operator.rollout.transitions import FULL, moved


def exchange(ask: Ask, rollout: Rollout, world: World, now: datetime) -> Rollout | None:
    """Make room for the pod that waits, or let the traffic follow the pods; None if neither can be.

    Args:
        ask: What the user wants.
        rollout: A rollout whose candidate has a pod that finds no room.
        world: What the cluster shows.
        now: Current time, in UTC.
    """
    mode = ask.spec.capacity.mode
    full = rollout.initial_replicas or 1
    placed = world.settled(rollout.candidate)
    if mode == "Surge" or rollout.gave_all or world.leaving:
        return None
    if mode == "Recreate" or (mode == "Exchange" and full == 1):
        whole = _gives_up(rollout, full, placed)
        # Nobody is left to share the traffic with, so there are no steps to take.
        return whole.model_copy(update={"step": len(rollout.plan)})
    if full == 1:
        return None
    if (weight := _reachable(rollout, world, full)) > rollout.weight:
        return moved(rollout, RolloutState.SHIFTING, now, weight=weight)
    if _can_spare(ask, rollout, world, full) and placed >= rollout.room_for:
        return _gives_up(rollout, rollout.given_up + 1, placed)
    return None


def _reachable(rollout: Rollout, world: World, full: int) -> int:
    """Percent that the candidate's ready pods can carry; all of it when stable is at its last pod."""
    ready = world.ready.get(rollout.candidate or "", 0)
    if ready and full - rollout.given_up <= 1:
        return rollout.current.weight
    return min(FULL * ready // full, rollout.current.weight)


def _can_spare(ask: Ask, rollout: Rollout, world: World, full: int) -> bool:
    stable = rollout.stable or ""
    carried = rollout.weight >= FULL * rollout.given_up // full and confirmed(rollout, world)
    shrunk = world.replicas.get(stable, 0) <= size(ask, rollout, world, stable)
    return carried and shrunk and world.ready.get(stable, 0) > 1 and full - rollout.given_up > 1


def _gives_up(rollout: Rollout, given_up: int, placed: int) -> Rollout:
    return rollout.model_copy(update={"given_up": given_up, "room_for": placed + 1})
