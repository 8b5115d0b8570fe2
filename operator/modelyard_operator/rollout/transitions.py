"""How one state follows another: what is cleared, what is kept, and what outlives a rollout."""

from datetime import datetime, timedelta
from typing import Final

from modelyard_operator.rollout.state import Ask, LastRollback, Rollout, RolloutState

SETTLE: Final = timedelta(seconds=5)
"""From a route's change in the API server until every proxy has it: twice Traefik's throttle."""
FULL: Final = 100
REMEMBERED: Final = 10
"""Revisions of which is remembered that they were promoted, or rejected."""

_STOPS_THE_CLOCK: Final = frozenset({RolloutState.PAUSED, RolloutState.WAITING_CAPACITY})


def moved(rollout: Rollout, state: RolloutState, now: datetime, **changes: object) -> Rollout:
    """Enter a state; what belongs to the state that is left is cleared unless given anew.

    Waiting for a person or for room is not lack of progress: the deadlines move with it.
    """
    fresh: dict[str, object] = {
        "state": state,
        "state_since": seconds(now),
        "next_step_time": None,
        "paused_reason": None,
    }
    if rollout.state in _STOPS_THE_CLOCK and rollout.state_since:
        waited = now - rollout.state_since
        for name in ("deadline_time", "step_deadline_time"):
            deadline: datetime | None = getattr(rollout, name)
            fresh[name] = seconds(deadline + waited) if deadline else None
    times = {
        name: seconds(value) if isinstance(value, datetime) else value
        for name, value in changes.items()
    }
    return rollout.model_copy(update=fresh | times)


def at_rest(rollout: Rollout, state: RolloutState, now: datetime) -> Rollout:
    """End a rollout: keep stable, and what is remembered from one rollout to the next."""
    return Rollout(
        state=state,
        stable=rollout.stable,
        state_since=seconds(now),
        pinned=rollout.pinned,
        fallback=rollout.fallback,
        promoted=rollout.promoted,
        rejected=rollout.rejected,
        last_rollback=rollout.last_rollback,
        last_command=rollout.last_command,
    )


def rejected(rollout: Rollout, revision: str, reason: str, message: str, now: datetime) -> Rollout:
    """Remember that a revision is not to be tried again unasked, and why."""
    others = [name for name in rollout.rejected if name != revision]
    return rollout.model_copy(
        update={
            "rejected": (*others, revision)[-REMEMBERED:],
            "promoted": tuple(name for name in rollout.promoted if name != revision),
            "pinned": None if rollout.pinned == revision else rollout.pinned,
            "last_rollback": LastRollback(
                revision=revision, reason=reason, message=message, time=seconds(now)
            ),
        }
    )


def rolled_back(rollout: Rollout, reason: str, message: str, now: datetime) -> Rollout:
    """Reject the candidate and bring its traffic home."""
    found = rejected(rollout, rollout.candidate or "", reason, message, now)
    return moved(found, RolloutState.ROLLING_BACK, now, weight=0, held=False, forced=False)


def with_promoted(rollout: Rollout, revision: str) -> tuple[str, ...]:
    """Return the revisions that have passed every step, with one more."""
    others = [name for name in rollout.promoted if name != revision]
    return (*others, revision)[-REMEMBERED:]


def wanted(ask: Ask, rollout: Rollout) -> str:
    """Return the revision that should be stable: the spec's, unless that one was rejected."""
    if ask.target not in rollout.rejected:
        return ask.target
    return rollout.pinned or rollout.stable or ask.target


def resting_state(ask: Ask, rollout: Rollout) -> RolloutState:
    """Return in which of the two ways a rollout rests: RolledBack serves what is not asked for."""
    rejects = rollout.stable != ask.target and ask.target in rollout.rejected
    return RolloutState.ROLLED_BACK if rejects else RolloutState.IDLE


def settling(rollout: Rollout, now: datetime) -> Rollout | None:
    """Return the rollout while the proxies follow a confirmed route; None once they have."""
    if rollout.next_step_time is None:
        return rollout.model_copy(update={"next_step_time": seconds(now + SETTLE)})
    return rollout if now < rollout.next_step_time else None


def progress_deadline(ask: Ask, now: datetime) -> datetime:
    """Return when a state that lasts is a lack of progress."""
    return now + timedelta(seconds=ask.spec.progress_deadline_seconds)


def seconds(moment: datetime) -> datetime:
    """Drop what metav1.Time cannot hold, so that a state reads back as it was written."""
    return moment.replace(microsecond=0)
