"""The rollout machine: ``decide`` looks at status and world and takes at most one step.

What it returns is written to status before the world is touched; the world is then made to look
like the status (see ``observed.py`` and ``routing.py``). So a crash between the two is repaired by
the next pass, and a weight counts only once it has been read back from the route.

    Initializing ──ready──▶ Idle ──new target──▶ Preparing ──node──▶ Warming ◀──▶ WaitingCapacity
                             ▲                                          │  ▲
                             │                      (Shadowing) ◀─ready─┘  └──── next step ────┐
                             │                           │                                     │
                             │                           └──▶ Shifting ──confirmed──▶ Analyzing┤
                             │                                                          last   ▼
                             ├──◀── Probation ◀──────────── both routes confirmed ── Promoting ┘
                             │          │
                             └──◀── RollingBack ◀── evidence, a command or another target
                                        └──▶ RolledBack: stable serves, the spec's revision does not

``Paused`` is entered from, and left to, any state between Warming and Analyzing.
"""

from collections.abc import Callable, Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Final

from modelyard_operator.rollout import finishing, preparing, starting, stepping
from modelyard_operator.rollout.judgement import Verdict
from modelyard_operator.rollout.routing import stable_down
from modelyard_operator.rollout.state import ACTIVE, Ask, Rollout, RolloutState, World
from modelyard_operator.rollout.transitions import FULL, moved, rolled_back, wanted

Transition = Callable[[Ask, Rollout, World, datetime], Rollout]

MUST_PROGRESS: Final = frozenset(
    {RolloutState.PREPARING, RolloutState.WARMING, RolloutState.SHIFTING}
)
"""States that end by themselves, or not at all: a deadline holds for them."""


def decide(ask: Ask, rollout: Rollout | None, world: World, now: datetime) -> Rollout:
    """Return the next state of the rollout; the same one when there is nothing to do.

    Args:
        ask: What the user wants.
        rollout: State as status has it; None when status is empty.
        world: What the cluster shows.
        now: Current time, in UTC.
    """
    if rollout is None:
        return starting.recover(ask, world, now)
    if ask.suspended:
        return finishing.suspended(ask, rollout, now)
    if rollout.state in ACTIVE and (changed := _interrupted(ask, rollout, world, now)) is not None:
        return changed
    return _TRANSITIONS[rollout.state](ask, rollout, world, now)


def wake_time(rollout: Rollout, now: datetime) -> datetime | None:
    """Return when time alone will move the rollout on; None when only an event can."""
    times = (rollout.next_step_time, rollout.deadline_time, rollout.step_deadline_time)
    return min((moment for moment in times if moment and moment > now), default=None)


def overdue(rollout: Rollout, now: datetime) -> bool:
    """Tell whether a rollout under way has passed its deadline."""
    deadline = rollout.deadline_time
    return rollout.state in MUST_PROGRESS and deadline is not None and now >= deadline


def _interrupted(ask: Ask, rollout: Rollout, world: World, now: datetime) -> Rollout | None:
    """What ends or holds a rollout in whatever state it is; the first that applies."""
    candidate = rollout.candidate or ""
    if candidate != wanted(ask, rollout):
        return finishing.abandoned(rollout, now)
    if (grounds := _grounds_for_rejection(ask, rollout, world)) is not None:
        return rolled_back(rollout, *grounds, now)
    takes_over = stable_down(rollout, world) and world.ready.get(candidate)
    # The step to 100 is where it goes anyway, unless it has not been compared yet.
    early = rollout.current.weight < FULL or rollout.state is RolloutState.SHADOWING
    if takes_over and early and rollout.state is not RolloutState.PAUSED:
        return moved(rollout, RolloutState.PAUSED, now, paused_reason="Failover")
    if overdue(rollout, now):
        limit = ask.spec.progress_deadline_seconds
        message = f"{candidate} made no progress in {rollout.state} for {limit} s"
        return rolled_back(rollout, "ProgressDeadlineExceeded", message, now)
    return None


def _grounds_for_rejection(ask: Ask, rollout: Rollout, world: World) -> tuple[str, str] | None:
    """What is enough by itself, however far the rollout has come: a reason and a message."""
    if (broken := world.broken.get(rollout.candidate or "")) is not None:
        return broken.reason, broken.message
    seen = world.judgement
    if seen and seen.verdict is Verdict.FAIL and rollout.weight:
        return seen.reason or "AnalysisFailed", seen.message
    if world.signature_change and not rollout.weight and ask.spec.signature_change == "Reject":
        return "SignatureChanged", world.signature_change
    return None


_TRANSITIONS: Final[Mapping[RolloutState, Transition]] = MappingProxyType(
    {
        RolloutState.INITIALIZING: starting.initializing,
        RolloutState.UNAVAILABLE: starting.initializing,
        RolloutState.IDLE: starting.resting,
        RolloutState.ROLLED_BACK: starting.resting,
        RolloutState.PREPARING: preparing.preparing,
        RolloutState.WAITING_CAPACITY: preparing.waiting_capacity,
        RolloutState.WARMING: preparing.warming,
        RolloutState.SHADOWING: preparing.shadowing,
        RolloutState.SHIFTING: stepping.shifting,
        RolloutState.ANALYZING: stepping.analyzing,
        RolloutState.PAUSED: stepping.paused,
        RolloutState.PROMOTING: finishing.promoting,
        RolloutState.PROBATION: finishing.probation,
        RolloutState.ROLLING_BACK: finishing.rolling_back,
    }
)
