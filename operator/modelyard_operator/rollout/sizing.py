"""How many pods each live revision should have, or its autoscaler's floor."""

import math
from dataclasses import dataclass

from modelyard_operator.rollout.routing import returns_to
from modelyard_operator.rollout.state import ACTIVE, Ask, Rollout, RolloutState, World
from modelyard_operator.rollout.transitions import FULL


@dataclass(frozen=True)
class Bounds:
    """Bounds of a revision's autoscaler.

    Attributes:
        floor: Pods that it must keep.
        ceiling: Pods that it may have while they make room for another revision; None is the user's.
        hold: It must not scale down: traffic may have to return.
    """

    floor: int
    ceiling: int | None = None
    hold: bool = False


def needed(weight: int, replicas: int) -> int:
    """Return how many ready pods a revision needs before it may get ``weight`` percent."""
    return max(1, math.ceil(weight * replicas / FULL)) if replicas else 0


def full_size(ask: Ask, rollout: Rollout, world: World) -> int:
    """Return the pods that carry all of the traffic: stable's, now or when the rollout began."""
    stable = world.replicas.get(rollout.stable or "", 0)
    return max(ask.replicas, stable, rollout.initial_replicas or 1)


def size(ask: Ask, rollout: Rollout, world: World, revision: str) -> int:
    """Return the pods that a revision should have; with an autoscaler, its floor."""
    if rollout.state is RolloutState.ROLLING_BACK:
        return _size_in_rollback(ask, rollout, world, revision)
    if revision == rollout.candidate and rollout.state in ACTIVE:
        return _candidate_size(ask, rollout, world)
    if revision == rollout.previous:
        return 0 if rollout.gave_all else max(1, world.replicas.get(revision, 1))
    if revision == rollout.stable and rollout.state in ACTIVE and rollout.given_up:
        return _stable_size(ask, rollout, world)
    return ask.replicas


def bounds(rollout: Rollout, revision: str, replicas: int) -> Bounds:
    """Return what a revision's autoscaler may do; it is never told how many pods to have.

    Args:
        rollout: The rollout as it stands.
        revision: A revision with pods.
        replicas: Its ``size``.
    """
    fresh = rollout.state in {RolloutState.PROMOTING, RolloutState.PROBATION}
    if fresh and revision == rollout.stable:
        # It carried the traffic with these; its autoscaler shrinks it when it has seen more.
        return Bounds(floor=max(replicas, rollout.initial_replicas or 1))
    is_home = rollout.state in ACTIVE and revision == rollout.stable
    return Bounds(
        floor=replicas,
        ceiling=replicas if _makes_room(rollout, revision) else None,
        hold=is_home or revision == rollout.previous,
    )


def _makes_room(rollout: Rollout, revision: str) -> bool:
    if rollout.state is RolloutState.ROLLING_BACK:
        return rollout.remaining is not None and revision == returns_to(rollout)[1]
    return rollout.given_up > 0 and rollout.state in ACTIVE and revision == rollout.stable


def _stable_size(ask: Ask, rollout: Rollout, world: World) -> int:
    """What is left of stable when some of its pods, or all, have made room.

    None goes while stable answers the candidate's share as well, whatever was decided before.
    """
    if rollout.gave_all or not ask.replicas:
        return 0
    left = max(1, (rollout.initial_replicas or 1) - rollout.given_up)
    alone = rollout.weight and not world.ready.get(rollout.candidate or "")
    return max(left, world.replicas.get(rollout.stable or "", 0)) if alone else left


def _candidate_size(ask: Ask, rollout: Rollout, world: World) -> int:
    """One pod before the others, so that a cluster's autoscaler sees it; then what the step needs."""
    placed = world.settled(rollout.candidate)
    if rollout.state is RolloutState.PREPARING or not (placed or rollout.weight):
        return 1
    wants = needed(rollout.current.weight, full_size(ask, rollout, world))
    waits = rollout.state is RolloutState.WAITING_CAPACITY or rollout.given_up > 0
    return min(wants, placed + 1) if waits and not rollout.gave_all else wants


def _size_in_rollback(ask: Ask, rollout: Rollout, world: World, revision: str) -> int:
    """Home grows back at once; what is left keeps its pods while requests may reach them."""
    home, left = returns_to(rollout)
    has = max(1, world.replicas.get(revision, 1))
    if revision == left:
        if rollout.gave_all:
            return 0
        return has if rollout.remaining is None else min(has, rollout.remaining)
    return max(has, ask.replicas) if revision == home and ask.replicas else ask.replicas
