"""The rollout machine: ``decide`` looks at status and world and takes at most one step.

What it returns is written to status before the world is touched; the world is then made to look
like the status (see ``world_of`` and ``backends``). So a crash between the two is repaired by the
next pass, and a weight counts only once it has been read back from the route.

    Initializing ──ready──▶ Idle ──new target──▶ Warming ──ready──▶ Shifting ──confirmed──▶ Analyzing
                             ▲                      ▲                                         │
                             │                      └───────────── next step ◀────────────────┤
                             │                                                    last step   ▼
                             ├──◀── Probation ◀─primary confirmed── Promoting ◀───────────────┘
                             └──◀── RollingBack ◀ another target, from any state on the way
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Final

from modelyard_operator.rollout.state import (
    ACTIVE,
    Ask,
    PlannedStep,
    Rollout,
    RolloutState,
    World,
)
from modelyard_operator.spec import RolloutSpec

SETTLE: Final = timedelta(seconds=5)
"""From a route's change in the API server until every proxy has it: twice Traefik's throttle."""
FULL: Final = 100

Transition = Callable[[Ask, Rollout, World, datetime], Rollout]


@dataclass(frozen=True)
class Backends:
    """Which revisions the routes should name, and how much the second one gets."""

    primary: str | None = None
    canary: str | None = None
    weight: int = 0


def decide(ask: Ask, rollout: Rollout | None, world: World, now: datetime) -> Rollout:
    """Return the next state of the rollout; the same one when there is nothing to do.

    Args:
        ask: What the user wants.
        rollout: State as status has it; None when status is empty.
        world: What the cluster shows.
        now: Current time, in UTC.
    """
    if rollout is None:
        return recover(ask, world, now)
    if ask.suspended:
        return _suspend(rollout, now)
    return _TRANSITIONS[rollout.state](ask, rollout, world, now)


def recover(ask: Ask, world: World, now: datetime) -> Rollout:
    """Rebuild the state from the routes alone: stable is what the primary route names."""
    stable = world.primary or world.selected
    if stable is None or ask.suspended:
        return Rollout(state_since=_seconds(now))
    idle = Rollout(state=RolloutState.IDLE, stable=stable, state_since=_seconds(now))
    if world.canary is None:
        return idle
    if world.canary == stable:
        others = sorted(world.replicas.keys() - {stable})
        return _moved(idle, RolloutState.PROMOTING, now, previous=others[0] if others else None)
    plan = plan_steps(ask.spec, splits=world.splits)
    share = world.canary_weight if world.splits else 0  # what the candidate has, it keeps
    step = next(number for number, step in enumerate(plan, 1) if step.weight >= share)
    return _moved(
        idle,
        RolloutState.SHIFTING if plan[step - 1].weight == share else RolloutState.WARMING,
        now,
        candidate=world.canary,
        plan=plan,
        step=step,
        weight=share,
        started_at=now,
        deadline_time=now + timedelta(seconds=ask.spec.progress_deadline_seconds),
        initial_replicas=max(1, world.replicas.get(stable, 1)),
    )


def plan_steps(spec: RolloutSpec, *, splits: bool) -> tuple[PlannedStep, ...]:
    """Freeze the steps for one rollout; without a proxy that divides traffic there is only one.

    The step to 100 is followed by promotion, so it bakes only where it says so itself.
    """
    steps = spec.steps if splits else spec.steps[-1:]
    return tuple(
        PlannedStep(
            weight=step.weight,
            pause=step.pause,
            bake_seconds=(0 if step.weight == FULL else spec.bake_seconds)
            if step.bake_seconds is None
            else step.bake_seconds,
        )
        for step in steps
    )


def needed(weight: int, replicas: int) -> int:
    """Return how many ready pods a revision needs before it may get ``weight`` percent."""
    return max(1, math.ceil(weight * replicas / 100)) if replicas else 0


def size(ask: Ask, rollout: Rollout, world: World, revision: str) -> int:
    """Return the pods that a revision should have, or its autoscaler's floor."""
    if revision == rollout.candidate and rollout.state in ACTIVE | {RolloutState.ROLLING_BACK}:
        return needed(rollout.current.weight, _full_size(ask, rollout, world))
    if revision == rollout.previous:
        return max(1, world.replicas.get(revision, 1))
    return ask.replicas


def backends(rollout: Rollout, world: World) -> Backends:
    """Return what the routes should look like in a state.

    A candidate without a ready pod gets nothing, whatever status says: the share it would get is
    answered by stable.
    """
    stable, candidate = rollout.stable, rollout.candidate
    if stable is None:
        return Backends()
    if rollout.state is RolloutState.PROMOTING and world.canary is not None:
        # The canary route stays until every proxy has the primary's new backend.
        return Backends(primary=stable, canary=stable, weight=FULL)
    if rollout.state is RolloutState.ROLLING_BACK and _only_candidate_serves(rollout, world):
        # Traffic comes home when somebody is there; until then the routes stay as they are.
        split = Backends(primary=stable, canary=candidate, weight=world.canary_weight)
        return Backends(primary=candidate) if world.primary == candidate else split
    serves = rollout.state in ACTIVE and world.ready.get(candidate or "", 0) > 0
    weight = rollout.weight if serves else 0
    moved = weight == FULL and world.primary == candidate  # by a proxy that could not split then
    if weight and world.splits and not moved:
        return Backends(primary=stable, canary=candidate, weight=weight)
    return Backends(primary=candidate if weight == FULL else stable)


def wake_time(rollout: Rollout, now: datetime) -> datetime | None:
    """Return when time alone will move the rollout on; None when only an event can."""
    times = (rollout.next_step_time, rollout.deadline_time)
    return min((moment for moment in times if moment and moment > now), default=None)


def overdue(rollout: Rollout, now: datetime) -> bool:
    """Tell whether a rollout under way has passed its deadline."""
    deadline = rollout.deadline_time
    waits = rollout.state is RolloutState.PAUSED
    return rollout.state in ACTIVE and not waits and deadline is not None and now >= deadline


def advance(rollout: Rollout, now: datetime) -> Rollout:
    """Leave the current step: to the next one, or into promotion after the last."""
    if rollout.step < len(rollout.plan):
        return _moved(rollout, RolloutState.WARMING, now, step=rollout.step + 1)
    return _moved(
        rollout,
        RolloutState.PROMOTING,
        now,
        stable=rollout.candidate,
        previous=rollout.stable,
        candidate=None,
        weight=0,
        deadline_time=None,
        held=False,
    )


def _initializing(ask: Ask, rollout: Rollout, world: World, now: datetime) -> Rollout:
    if rollout.candidate != ask.target:
        return _moved(rollout, RolloutState.INITIALIZING, now, candidate=ask.target)
    if world.ready.get(ask.target, 0) < min(1, ask.replicas):
        return rollout
    return _moved(rollout, RolloutState.IDLE, now, stable=ask.target, candidate=None)


def _idle(ask: Ask, rollout: Rollout, world: World, now: datetime) -> Rollout:
    if rollout.stable == ask.target:
        return rollout
    if ask.replicas == 0:  # nothing serves, so there is nothing to guard
        return _moved(rollout, RolloutState.IDLE, now, stable=ask.target)
    return _moved(
        rollout,
        RolloutState.WARMING,
        now,
        candidate=ask.target,
        plan=plan_steps(ask.spec, splits=world.splits),
        step=1,
        weight=0,
        started_at=now,
        deadline_time=now + timedelta(seconds=ask.spec.progress_deadline_seconds),
        initial_replicas=max(ask.replicas, world.replicas.get(rollout.stable or "", 1)),
    )


def _warming(ask: Ask, rollout: Rollout, world: World, now: datetime) -> Rollout:
    if rollout.candidate != ask.target:
        return _abandon(rollout, world, now)
    if reason := _pause_reason(ask, rollout):
        return _moved(rollout, RolloutState.PAUSED, now, paused_reason=reason)
    weight = rollout.current.weight
    ready = world.ready.get(ask.target, 0)
    if ready < needed(weight, _full_size(ask, rollout, world)):
        return rollout
    return _moved(rollout, RolloutState.SHIFTING, now, weight=weight)


def _shifting(ask: Ask, rollout: Rollout, world: World, now: datetime) -> Rollout:
    if rollout.candidate != ask.target:
        return _abandon(rollout, world, now)
    if not world.splits and rollout.weight < FULL:
        # The proxy could divide traffic when the rollout was planned, and cannot any more.
        return _moved(rollout, RolloutState.WARMING, now, step=len(rollout.plan))
    if not confirmed(rollout, world):
        return rollout
    bake = max(SETTLE, timedelta(seconds=rollout.current.bake_seconds))
    return _moved(rollout, RolloutState.ANALYZING, now, next_step_time=now + bake)


def _analyzing(ask: Ask, rollout: Rollout, world: World, now: datetime) -> Rollout:
    if rollout.candidate != ask.target:
        return _abandon(rollout, world, now)
    if not confirmed(rollout, world):
        return _moved(rollout, RolloutState.SHIFTING, now)
    if reason := _pause_reason(ask, rollout):
        return _moved(
            rollout,
            RolloutState.PAUSED,
            now,
            paused_reason=reason,
            next_step_time=rollout.next_step_time,
        )
    if rollout.next_step_time and now < rollout.next_step_time:
        return rollout
    if rollout.current.pause == "Manual":
        return _moved(rollout, RolloutState.PAUSED, now, paused_reason="Step")
    return advance(rollout, now)


def _paused(ask: Ask, rollout: Rollout, world: World, now: datetime) -> Rollout:
    if rollout.candidate != ask.target:
        return _abandon(rollout, world, now)
    if rollout.paused_reason == "Step" or _pause_reason(ask, rollout):
        return rollout
    if rollout.weight != rollout.current.weight:
        return _moved(rollout, RolloutState.WARMING, now)
    return _moved(
        rollout, RolloutState.ANALYZING, now, next_step_time=rollout.next_step_time or now
    )


def _promoting(ask: Ask, rollout: Rollout, world: World, now: datetime) -> Rollout:
    del ask  # a promotion that has begun is finished; another target starts from Idle
    if world.primary != rollout.stable:
        return rollout
    return _after_settling(rollout, RolloutState.PROBATION, now)


def _probation(ask: Ask, rollout: Rollout, world: World, now: datetime) -> Rollout:
    del ask
    if world.canary is not None:
        return rollout
    return _after_settling(rollout, RolloutState.IDLE, now)


def _rolling_back(ask: Ask, rollout: Rollout, world: World, now: datetime) -> Rollout:
    del ask  # stable or another target: traffic is brought home first
    if world.canary is not None or world.primary not in {None, rollout.stable}:
        return rollout
    return _after_settling(rollout, RolloutState.IDLE, now)


def _after_settling(rollout: Rollout, state: RolloutState, now: datetime) -> Rollout:
    """Give the proxies time to follow a confirmed route, then move on."""
    if rollout.next_step_time is None:
        return rollout.model_copy(update={"next_step_time": _seconds(now + SETTLE)})
    if now < rollout.next_step_time:
        return rollout
    if state is not RolloutState.IDLE:
        return _moved(rollout, state, now)
    return Rollout(
        state=RolloutState.IDLE,
        stable=rollout.stable,
        state_since=_seconds(now),
        last_command=rollout.last_command,
    )


def _suspend(rollout: Rollout, now: datetime) -> Rollout:
    if rollout.state is RolloutState.INITIALIZING and rollout.candidate is None:
        return rollout
    return Rollout(state_since=_seconds(now), last_command=rollout.last_command)


def _abandon(rollout: Rollout, world: World, now: datetime) -> Rollout:
    """Drop a candidate that is not wanted any more, traffic first."""
    if rollout.weight or world.canary is not None or world.primary != rollout.stable:
        return _moved(rollout, RolloutState.ROLLING_BACK, now, weight=0, held=False)
    return _after_settling(
        rollout.model_copy(update={"next_step_time": now}), RolloutState.IDLE, now
    )


def _only_candidate_serves(rollout: Rollout, world: World) -> bool:
    """Tell whether bringing traffic home would take it from ready pods to none."""
    stable, candidate = rollout.stable or "", rollout.candidate or ""
    down = world.replicas.get(stable, 0) > 0 and not world.ready.get(stable)
    return down and bool(world.ready.get(candidate)) and candidate in world.weights


def confirmed(rollout: Rollout, world: World) -> bool:
    """Tell whether the routes give the candidate the weight that was written down."""
    weights = {rollout.stable: FULL - rollout.weight, rollout.candidate: rollout.weight}
    return world.weights == {name: weight for name, weight in weights.items() if weight}


def _pause_reason(ask: Ask, rollout: Rollout) -> str | None:
    if ask.spec.paused:
        return "Spec"
    return "Command" if rollout.held else None


def _full_size(ask: Ask, rollout: Rollout, world: World) -> int:
    """Pods that carry all of the traffic: what stable has, now or when the rollout began."""
    stable = world.replicas.get(rollout.stable or "", 0)
    return max(ask.replicas, stable, rollout.initial_replicas or 1)


def _moved(rollout: Rollout, state: RolloutState, now: datetime, **changes: object) -> Rollout:
    """Enter a state; what belongs to the state that is left is cleared unless given anew."""
    deadline = rollout.deadline_time
    if rollout.state is RolloutState.PAUSED and deadline and rollout.state_since:
        deadline += now - rollout.state_since  # waiting for a person is not lack of progress
    fresh: dict[str, object] = {
        "deadline_time": _seconds(deadline) if deadline else None,
        "state": state,
        "state_since": _seconds(now),
        "next_step_time": None,
        "paused_reason": None,
    }
    times = {
        name: _seconds(value) if isinstance(value, datetime) else value
        for name, value in changes.items()
    }
    return rollout.model_copy(update=fresh | times)


def _seconds(moment: datetime) -> datetime:
    """Drop what metav1.Time cannot hold, so that a state reads back as it was written."""
    return moment.replace(microsecond=0)


_TRANSITIONS: Final[Mapping[RolloutState, Transition]] = MappingProxyType(
    {
        RolloutState.INITIALIZING: _initializing,
        RolloutState.IDLE: _idle,
        RolloutState.WARMING: _warming,
        RolloutState.SHIFTING: _shifting,
        RolloutState.ANALYZING: _analyzing,
        RolloutState.PAUSED: _paused,
        RolloutState.PROMOTING: _promoting,
        RolloutState.PROBATION: _probation,
        RolloutState.ROLLING_BACK: _rolling_back,
    }
)
