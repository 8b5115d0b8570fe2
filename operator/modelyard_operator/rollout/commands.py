"""Commands by annotation: ``modelyard.dev/rollout: promote@fraud-91ab44d0#1``.

The revision guards against a command that was meant for another rollout, the id against a replay:
annotations survive re-applies by GitOps tools. Every command's outcome is recorded, refused ones
included, and a refused one changes nothing else.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Final

from modelyard_operator.rollout.finishing import returned
from modelyard_operator.rollout.routing import confirmed
from modelyard_operator.rollout.state import ACTIVE, Ask, LastCommand, Rollout, RolloutState, World
from modelyard_operator.rollout.stepping import advance, resumed
from modelyard_operator.rollout.transitions import (
    SETTLE,
    moved,
    progress_deadline,
    rejected,
    rolled_back,
    seconds,
)

COMMAND: Final = re.compile(
    r"(?P<verb>[a-z-]{1,32})@(?P<revision>[a-z0-9-]{1,63})#(?P<id>\S{1,64})"
)
ACCEPTED: Final = "Accepted"
RETURNABLE: Final = frozenset({RolloutState.PROMOTING, RolloutState.PROBATION})
"""States in which a revision is stable already, and the previous one is still warm."""


@dataclass(frozen=True)
class Order:
    """A command that can be read, and what it meets.

    Attributes:
        ask: What the spec wants.
        revision: Revision that the command names.
        world: What the cluster shows.
        now: Current time, in UTC.
    """

    ask: Ask
    revision: str
    world: World
    now: datetime


def apply_command(
    rollout: Rollout, annotation: str | None, *, ask: Ask, world: World, now: datetime
) -> Rollout:
    """Carry out a command, and record what became of it; an id already seen changes nothing.

    Args:
        rollout: The rollout as status has it.
        annotation: Value of the annotation; None without one.
        ask: What the user wants by the spec.
        world: What the cluster shows.
        now: Current time, in UTC.
    """
    if not annotation:
        return rollout
    match = COMMAND.fullmatch(annotation.strip())
    if match is None:
        expected = "Refused: expected verb@revision#id"
        return _record(rollout, ("", "", annotation[:64]), expected, now)
    verb, revision, command_id = match["verb"], match["revision"], match["id"]
    if rollout.last_command and rollout.last_command.id == command_id:
        return rollout
    parts = (verb, revision, command_id)
    if verb not in _VERBS:
        return _record(rollout, parts, f"Refused: expected one of {', '.join(_VERBS)}", now)
    changed, result = _VERBS[verb](rollout, Order(ask, revision, world, now))
    return _record(changed, parts, result, now)


def _promote(rollout: Rollout, order: Order) -> tuple[Rollout, str]:
    """Leave the current step at once, its bake time, its evidence and its pause included."""
    if (ignored := _not_under_way(rollout, order)) is not None:
        return rollout, ignored
    if rollout.paused_reason == "Spec":
        return rollout, "Refused: spec.rollout.paused is true"
    if _shadow_is_judged(rollout):
        waived = rollout.model_copy(update={"held": False, "step_deadline_time": None})
        weight = rollout.current.weight
        return moved(waived, RolloutState.SHIFTING, order.now, weight=weight), ACCEPTED
    waiting = rollout.state in {RolloutState.ANALYZING, RolloutState.PAUSED}
    if not waiting or rollout.weight != rollout.current.weight:
        return rollout, f"Ignored: nothing to skip while {rollout.state}"
    return _go_on(rollout, order)


def _promote_full(rollout: Rollout, order: Order) -> tuple[Rollout, str]:
    """Take the last step next, and leave it as soon as the candidate has all of the traffic."""
    if (ignored := _not_under_way(rollout, order)) is not None:
        return rollout, ignored
    if rollout.paused_reason == "Spec":
        return rollout, "Refused: spec.rollout.paused is true"
    at_last = rollout.step == len(rollout.plan)
    last: dict[str, object] = {"step": len(rollout.plan), "forced": True, "held": False}
    if at_last and rollout.state in {RolloutState.ANALYZING, RolloutState.PAUSED}:
        last["next_step_time"] = seconds(order.now + SETTLE)
    forced = rollout.model_copy(update=last)
    on_its_way = at_last and rollout.state is not RolloutState.PAUSED
    if on_its_way or rollout.state in {RolloutState.PREPARING, RolloutState.WAITING_CAPACITY}:
        return forced, ACCEPTED
    return resumed(order.ask, forced, order.now), ACCEPTED


def _pause(rollout: Rollout, order: Order) -> tuple[Rollout, str]:
    """Hold the rollout where it is; traffic stays as it is."""
    if (ignored := _not_under_way(rollout, order)) is not None:
        return rollout, ignored
    return rollout.model_copy(update={"held": True}), ACCEPTED


def _resume(rollout: Rollout, order: Order) -> tuple[Rollout, str]:
    """Undo ``pause``, go on after a step's manual pause, or give evidence or room more time."""
    if (ignored := _not_under_way(rollout, order)) is not None:
        return rollout, ignored
    if rollout.paused_reason == "Spec":
        return rollout, "Refused: spec.rollout.paused is true"
    if rollout.paused_reason == "Step":
        return _go_on(rollout, order)
    released = rollout.model_copy(update={"held": False})
    if rollout.paused_reason in {"Inconclusive", "NoTraffic", "AnalysisError", "Capacity"}:
        again = released.model_copy(update={"step_deadline_time": None})
        if rollout.weight == rollout.current.weight:
            deadline = progress_deadline(order.ask, order.now)
            return moved(again, RolloutState.SHIFTING, order.now, deadline_time=deadline), ACCEPTED
        return resumed(order.ask, again, order.now), ACCEPTED
    return released, ACCEPTED if rollout.held else "Ignored: the rollout is not paused"


def _abort(rollout: Rollout, order: Order) -> tuple[Rollout, str]:
    """Reject a revision, and bring its traffic back; stronger than any promotion."""
    message = f"aborted by command while {rollout.state}"
    if rollout.state in RETURNABLE and order.revision == rollout.stable:
        if rollout.previous is None:
            return rollout, "Ignored: there is no previous revision to return to"
        return returned(rollout, "Aborted", message, order.now), ACCEPTED
    if (ignored := _not_under_way(rollout, order)) is not None:
        return rollout, ignored
    return rolled_back(rollout, "Aborted", message, order.now), ACCEPTED


def _retry(rollout: Rollout, order: Order) -> tuple[Rollout, str]:
    """Let a rejected revision try again, or a first one that is late."""
    revision = order.revision
    if rollout.state is RolloutState.UNAVAILABLE and revision == rollout.candidate:
        return moved(rollout, RolloutState.INITIALIZING, order.now, candidate=None), ACCEPTED
    if revision not in rollout.rejected:
        return rollout, f"Ignored: {revision} was not rejected"
    if rollout.state is RolloutState.ROLLING_BACK:
        return rollout, "Ignored: the rollback is still under way"
    others = tuple(name for name in rollout.rejected if name != revision)
    return rollout.model_copy(update={"rejected": others}), ACCEPTED


def _rollback_to(rollout: Rollout, order: Order) -> tuple[Rollout, str]:
    """Make a revision on record stable again, instead of the spec's, until the next edit."""
    revision, target = order.revision, order.ask.target
    if revision not in order.world.history:
        return rollout, f"Refused: there is no record of {revision}"
    if revision == target:
        return rollout, f"Ignored: {revision} is what the spec asks for"
    if rollout.stable is None:
        return rollout, "Ignored: nothing has served yet"
    known = tuple(name for name in rollout.rejected if name != revision)
    message = f"a command asked for {revision}"
    cleared = rollout.model_copy(update={"rejected": known})
    found = rejected(cleared, target, "RolledBackTo", message, order.now)
    return found.model_copy(update={"pinned": revision}), ACCEPTED


def _not_under_way(rollout: Rollout, order: Order) -> str | None:
    if order.revision == rollout.candidate and rollout.state in ACTIVE:
        return None
    under_way = f"{rollout.candidate} is" if rollout.state in ACTIVE else "no rollout is"
    return f"Ignored: {under_way} under way"


def _shadow_is_judged(rollout: Rollout) -> bool:
    """The comparison of copied requests runs, or has ended without a verdict."""
    stopped = rollout.paused_reason in {"Inconclusive", "NoTraffic"} and not rollout.weight
    return rollout.state is RolloutState.SHADOWING or stopped


def _go_on(rollout: Rollout, order: Order) -> tuple[Rollout, str]:
    """Leave the step; out of the last one only while the candidate really has all the traffic."""
    last = rollout.step == len(rollout.plan)
    if last and not confirmed(rollout, order.world):
        return rollout, f"Ignored: the routes do not give {rollout.weight} % to the candidate now"
    return advance(order.ask, rollout.model_copy(update={"held": False}), order.now), ACCEPTED


def _record(rollout: Rollout, parts: tuple[str, str, str], result: str, now: datetime) -> Rollout:
    verb, revision, command_id = parts
    last = rollout.last_command
    if last and last.id == command_id:
        return rollout
    command = LastCommand(
        id=command_id,
        verb=verb,
        revision=revision,
        result=result,
        time=now.replace(microsecond=0),
    )
    return rollout.model_copy(update={"last_command": command})


Verb = Callable[[Rollout, Order], tuple[Rollout, str]]
_VERBS: Final[Mapping[str, Verb]] = MappingProxyType(
    {
        "promote": _promote,
        "promote-full": _promote_full,
        "pause": _pause,
        "resume": _resume,
        "abort": _abort,
        "retry": _retry,
        "rollback-to": _rollback_to,
    }
)
