"""Until a rollout begins: the first revision, rest, and what a new target leads to."""

from collections.abc import Mapping
from datetime import datetime

from modelyard_operator.rollout.freeze import frozen_until
from modelyard_operator.rollout.judgement import Verdict
from modelyard_operator.rollout.state import Ask, PlannedStep, Rollout, RolloutState, World
from modelyard_operator.rollout.transitions import (
    FULL,
    moved,
    progress_deadline,
    rejected,
    resting_state,
    seconds,
    wanted,
    with_promoted,
)
from modelyard_operator.spec import RolloutSpec


def recover(ask: Ask, world: World, now: datetime) -> Rollout:
    """Rebuild the state from the routes alone: stable is what the primary route names."""
    stable = world.primary or world.selected
    if stable is None or ask.suspended:
        return Rollout(state_since=seconds(now))
    idle = Rollout(state=RolloutState.IDLE, stable=stable, state_since=seconds(now))
    if world.canary is None:
        return idle
    if world.canary == stable:
        others = sorted(world.replicas.keys() - {stable})
        previous = others[0] if others else None
        return moved(idle, RolloutState.PROMOTING, now, previous=previous, weight=FULL)
    plan = plan_steps(ask.spec, splits=world.splits)
    share = world.canary_weight if world.splits else 0  # what the candidate has, it keeps
    step = next(number for number, step in enumerate(plan, 1) if step.weight >= share)
    return moved(
        idle,
        RolloutState.SHIFTING if plan[step - 1].weight == share else RolloutState.WARMING,
        now,
        **{**_beginning(ask, idle, world, now), "plan": plan},
        candidate=world.canary,
        step=step,
        weight=share,
    )


def plan_steps(spec: RolloutSpec, *, splits: bool, skips: bool = False) -> tuple[PlannedStep, ...]:
    """Freeze the steps for one rollout.

    The step to 100 is followed by promotion, so it bakes only where it says so itself.

    Args:
        spec: What the user asks for.
        splits: There is a proxy that divides traffic; without one there is only the last step.
        skips: The steps before the last have nothing to show.
    """
    steps = spec.steps
    if not splits or skips or spec.strategy != "Canary":
        steps = spec.steps[-1:]
    return tuple(
        PlannedStep(
            weight=step.weight,
            pause=step.pause,
            bake_seconds=(0 if step.weight == FULL else spec.bake_seconds)
            if step.bake_seconds is None
            else step.bake_seconds,
            max_seconds=step.max_seconds or spec.max_step_seconds,
        )
        for step in steps
    )


def begin(ask: Ask, rollout: Rollout, world: World, now: datetime) -> Rollout:
    """Write down a rollout to the revision that is wanted.

    A revision that has been stable before has passed its steps, and while stable is down a step
    protects nobody: then the candidate takes over as soon as it is ready.
    """
    target = wanted(ask, rollout)
    return moved(
        rollout,
        RolloutState.PREPARING,
        now,
        **_beginning(ask, rollout, world, now),
        id=f"{target}-{now.timestamp():.0f}",
        candidate=target,
        step=1,
        pinned=None if target == ask.target else target,
    )


def _beginning(ask: Ask, rollout: Rollout, world: World, now: datetime) -> Mapping[str, object]:
    stable = rollout.stable or ""
    replicas = max(ask.replicas, world.replicas.get(stable, 1))
    down = not world.ready.get(stable)
    known = wanted(ask, rollout) in rollout.promoted
    divided = 0 < world.canary_weight < FULL  # stable serves the rest, and cannot go
    return {
        "plan": plan_steps(ask.spec, splits=world.splits, skips=down or known),
        "started_at": now,
        "deadline_time": progress_deadline(ask, now),
        "initial_replicas": replicas,
        "given_up": replicas if ask.spec.strategy == "Recreate" and not divided else 0,
    }


def initializing(ask: Ask, rollout: Rollout, world: World, now: datetime) -> Rollout:
    """Wait for a ready pod of the first revision; late, it is Unavailable until it is there.

    If an edit comes when another revision answers already, it is an edit of that one.
    """
    target = wanted(ask, rollout)
    served = world.primary or world.selected or target
    if served != target and ask.replicas and world.ready.get(served):
        return _serving(rollout, served, now)
    if rollout.candidate != target:
        deadline = progress_deadline(ask, now)
        return moved(
            rollout, RolloutState.INITIALIZING, now, candidate=target, deadline_time=deadline
        )
    if world.ready.get(target, 0) >= min(1, ask.replicas):
        return _serving(rollout, target, now)
    late = rollout.deadline_time and now >= rollout.deadline_time
    if late and rollout.state is RolloutState.INITIALIZING:
        return moved(rollout, RolloutState.UNAVAILABLE, now, deadline_time=None)
    return rollout


def resting(ask: Ask, rollout: Rollout, world: World, now: datetime) -> Rollout:
    """Keep stable as it is while it is what is wanted; else begin, unless that is frozen."""
    target = wanted(ask, rollout)
    if rollout.stable == target:
        broken = _broken_slo(ask, rollout, world, now)
        return _at_ease(ask, rollout, now) if broken is None else begin(ask, broken, world, now)
    if ask.replicas == 0:  # nothing serves, so there is nothing to guard
        return _serving(rollout, target, now)
    if (until := frozen_until(ask.spec.freeze, now)) is None:
        return begin(ask, rollout, world, now)
    if rollout.paused_reason == "Freeze" and rollout.next_step_time == until:
        return rollout
    state = resting_state(ask, rollout)
    return moved(rollout, state, now, paused_reason="Freeze", next_step_time=until)


def _at_ease(ask: Ask, rollout: Rollout, now: datetime) -> Rollout:
    state = resting_state(ask, rollout)
    if rollout.state is state and rollout.paused_reason is None:
        return rollout
    return moved(rollout, state, now)


def _serving(rollout: Rollout, revision: str, now: datetime) -> Rollout:
    return moved(
        rollout,
        RolloutState.IDLE,
        now,
        stable=revision,
        candidate=None,
        deadline_time=None,
        promoted=with_promoted(rollout, revision),
    )


def _broken_slo(ask: Ask, rollout: Rollout, world: World, now: datetime) -> Rollout | None:
    """Leave a stable revision that breaks what it promises, if that was asked for."""
    fallback, judgement = rollout.fallback, world.judgement
    if ask.spec.on_slo_violation != "Rollback" or judgement is None or not rollout.stable:
        return None
    if judgement.verdict is not Verdict.FAIL or fallback in {None, *rollout.rejected}:
        return None
    if fallback not in world.history:
        return None
    reason = judgement.reason or "SLOViolated"
    found = rejected(rollout, rollout.stable, reason, judgement.message, now)
    return found.model_copy(update={"pinned": fallback})
